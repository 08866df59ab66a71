/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line. Each sub-command is a row of a table.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/image.h"
#include "cli/run_options.h"

#define EXIT_USAGE 2

static int run_main(int argc, char **argv)
{
	/* With all paths it is large; one guest a process. */
	static struct run_options options;
	enum run_action action;
	char error[512];

	if (!run_options_parse(&options, argc - 1, argv + 1, &action, error, sizeof(error))) {
		fprintf(stderr, "lodge: %s\n", error);
		return EXIT_USAGE;
	}
	switch (action) {
	case RUN_HELP:
		fputs(run_help, stdout);
		return 0;
	case RUN_VERSION:
		printf("lodge %s\n", LODGE_VERSION);
		return 0;
	default:
		return vmm_run(&options.config);
	}
}

static const struct {
	const char *name, *summary;
	int (*main)(int argc, char **argv); /* argv[0] is the sub-command */
} commands[] = {
	{ "run", "run one guest in this process", run_main },
	{ "image", "make and handle disk images", image_main },
};

static void help(FILE *f)
{
	fprintf(f, "usage: lodge COMMAND [OPTION]...\n\ncommands:\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].summary);
	}
	fprintf(f,
		"\n`lodge COMMAND --help` says more; `lodge --version` which version this is.\n");
}

/*
 * Whoever closed one of the three would find it to be a disk or the terminal of the guest: what
 * goes to standard error would go there.
 */
static bool have_standard_files(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0) {
		close(fd);
	}
	return fd >= 0;
}

static int dispatch(int argc, char **argv)
{
	if (argc < 2) {
		help(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
		help(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("lodge %s\n", LODGE_VERSION);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[1], commands[i].name) == 0) {
			return commands[i].main(argc - 1, argv + 1);
		}
	}
	fprintf(stderr, "lodge: %.64s: there is no such command; see: lodge --help\n", argv[1]);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	int status;

	if (!have_standard_files()) {
		return 1;
	}
	status = dispatch(argc, argv);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "lodge: standard output: cannot be written: %s\n", strerror(errno));
		return status ? status : 1;
	}
	return status;
}
