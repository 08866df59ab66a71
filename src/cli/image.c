/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `lodge image`: its sub-commands, their options, and what all of them use. */
#include "cli/image.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cli/image_int.h"

/* --- messages ---------------------------------------------------------------------------- */

static void say(const char *fmt, va_list ap)
{
	fputs("lodge: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

int image_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return IMAGE_EXIT_FAILURE;
}

int image_usage(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return IMAGE_EXIT_USAGE;
}

void image_json_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\') {
			fprintf(f, "\\%c", *s);
		} else if ((unsigned char)*s < ' ') {
			fprintf(f, "\\u%04x", *s);
		} else {
			fputc(*s, f);
		}
	}
	fputc('"', f);
}

void image_progress(const struct image_args *a, double done)
{
	if (!a->quiet && (a->progress || isatty(STDERR_FILENO))) {
		fprintf(stderr, "\r    (%.2f/100%%)%s", done * 100, done >= 1 ? "\n" : "");
	}
}

bool image_parse_size(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGTPE";
	char *end;
	const char *unit;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || end == text || *text < '0' || *text > '9') {
		return false;
	}
	unit = *end && *end != 'b' && *end != 'B' ? strchr(units, *end & ~0x20) : NULL;
	if (*end && !unit && strcmp(end, "b") != 0 && strcmp(end, "B") != 0) {
		return false;
	}
	if (unit) {
		unsigned shift = 10 * (unsigned)(unit - units + 1);

		if (end[1] && strcmp(end + 1, "B") != 0 && strcmp(end + 1, "iB") != 0) {
			return false;
		}
		if (v > UINT64_MAX >> shift) {
			return false;
		}
		v <<= shift;
	}
	*ret = v;
	return true;
}

bool image_open_arg(const struct image_args *a, unsigned index, enum block_format format,
		    bool readonly, struct image **ret)
{
	struct image_options o = { .readonly = readonly,
				   .direct = a->direct,
				   .no_lock = a->force_share && readonly,
				   .backing = a->chain,
				   .backing_count = format == BLOCK_QCOW2 ? a->chain_count : 0,
				   .backing_from_header = a->chain_from_header,
				   .data_file = format == BLOCK_QCOW2 ? a->data_file : NULL };
	char error[512];

	if (image_open(a->files[index], format, &o, error, sizeof(error), ret) < 0) {
		image_fail("%s", error);
		return false;
	}
	return true;
}

/* --- outputs -------------------------------------------------------------------------------- */

static const char *volatile unfinished; /* removed if a signal ends us */

static void end_by_signal(int number)
{
	if (unfinished) {
		unlink(unfinished);
	}
	_exit(128 + number);
}

static void catch_signals(void)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };

	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct sigaction act = { .sa_handler = end_by_signal };

		sigaction(numbers[i], &act, NULL);
	}
}

bool image_output_begin(struct image_output *o, const char *name)
{
	struct stat st;
	int fd, r;

	*o = (struct image_output){ .name = name };
	if (stat(name, &st) == 0 && !S_ISREG(st.st_mode)) {
		image_fail("image %s: is there and no file; give the name of a file", name);
		return false;
	}
	if (snprintf(o->temporary, sizeof(o->temporary), "%s.part.%d", name, getpid()) >=
	    (int)sizeof(o->temporary)) {
		image_fail("image %.64s…: the name is too long", name);
		return false;
	}
	/* Before it is there, so that no signal finds it without somebody to remove it. */
	unfinished = o->temporary;
	catch_signals();
	fd = open(o->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0) {
		unfinished = NULL;
		image_fail("image %s: cannot be made: %s", name, strerror(errno));
		return false;
	}
	r = file_new_fd(fd, false, &o->file);
	if (r < 0) {
		close(fd);
		image_output_abandon(o);
		image_fail("image %s: cannot be made: %s", name, strerror(-r));
	}
	return r == 0;
}

bool image_output_commit(struct image_output *o)
{
	if (rename(o->temporary, o->name) < 0) {
		int err = errno;

		image_output_abandon(o);
		image_fail("image %s: cannot get its name: %s", o->name, strerror(err));
		return false;
	}
	unfinished = NULL;
	return true;
}

void image_output_abandon(struct image_output *o)
{
	unlink(o->temporary);
	unfinished = NULL;
}

/* --- options ---------------------------------------------------------------------------------- */

struct option {
	const char *name; /* long; NULL: none */
	char letter;      /* 0: none */
	bool has_value;
	/* True, or false after saying what is wrong. */
	bool (*set)(struct image_args *a, const char *value);
};

static bool parse_format(const char *option, const char *value, enum block_format *ret)
{
	if (!block_format_parse(value, ret)) {
		image_usage("%s %s: there is no such format; give raw or qcow2", option, value);
		return false;
	}
	return true;
}

static bool set_f(struct image_args *a, const char *value)
{
	a->has_format = true;
	return parse_format("-f", value, &a->format);
}

static bool set_second(struct image_args *a, const char *value)
{
	a->has_format2 = true;
	return parse_format("-O/-F", value, &a->format2);
}

static bool set_chain(struct image_args *a, const char *value)
{
	if (strcmp(value, "header") == 0) {
		return a->chain_from_header = true;
	}
	if (a->chain_count == IMAGE_BACKING_MAX) {
		image_usage("--backing %s: the chain is too long; give --backing header", value);
		return false;
	}
	a->chain[a->chain_count++] = (struct block_source){ value, BLOCK_FORMAT_COUNT };
	return true;
}

static bool set_chain_format(struct image_args *a, const char *value)
{
	if (!a->chain_count) {
		image_usage("--backing-format %s: follows the --backing that it is of", value);
		return false;
	}
	return parse_format("--backing-format", value, &a->chain[a->chain_count - 1].format);
}

static bool set_output(struct image_args *a, const char *value)
{
	if (strcmp(value, "json") != 0 && strcmp(value, "human") != 0) {
		image_usage("--format %s: give human or json", value);
		return false;
	}
	a->json = value[0] == 'j';
	return true;
}

static bool set_preallocation(struct image_args *a, const char *value)
{
	static const char *const modes[] = { "off", "metadata", "falloc", "full" };

	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		if (strcmp(value, modes[i]) == 0) {
			a->preallocation = i;
			return true;
		}
	}
	image_usage("--preallocation %s: give off, metadata, falloc or full", value);
	return false;
}

static bool set_repair(struct image_args *a, const char *value)
{
	if (value && strcmp(value, "leaks") != 0 && strcmp(value, "all") != 0) {
		image_usage("--repair=%s: give leaks or all", value);
		return false;
	}
	a->repair_leaks = true;
	a->repair_all = !value || value[0] == 'a';
	return true;
}

static bool set_action(struct image_args *a, char action, const char *value)
{
	if (a->action) {
		image_usage("-%c: only one of -l, -c, -a, -d can be done at a time", action);
		return false;
	}
	a->action = action;
	a->snapshot = value;
	return true;
}

static bool set_l(struct image_args *a, const char *v)
{
	return set_action(a, 'l', NULL);
}

static bool set_c(struct image_args *a, const char *v)
{
	return set_action(a, 'c', v);
}

static bool set_a(struct image_args *a, const char *v)
{
	return set_action(a, 'a', v);
}

static bool set_d(struct image_args *a, const char *v)
{
	return set_action(a, 'd', v);
}

static bool number(const char *name, const char *value, uint64_t max, uint64_t *ret)
{
	if (!image_parse_size(value, ret) || !*ret || *ret > max) {
		image_usage("%s %s: give a number from 1 to %llu", name, value,
			    (unsigned long long)max);
		return false;
	}
	return true;
}

static bool set_count(struct image_args *a, const char *v)
{
	return number("--count", v, UINT32_MAX, &a->count);
}

static bool set_depth(struct image_args *a, const char *v)
{
	return number("--depth", v, 1024, &a->depth);
}

static bool set_size(struct image_args *a, const char *v)
{
	return number("--size", v, MIB(64), &a->size);
}

#define STRING(name, field)                                       \
	static bool name(struct image_args *a, const char *value) \
	{                                                         \
		a->field = value;                                 \
		return true;                                      \
	}
#define FLAG(name, field)                                         \
	static bool name(struct image_args *a, const char *value) \
	{                                                         \
		return a->field = true;                           \
	}
STRING(set_b, backing)
STRING(set_o, create_options)
STRING(set_snapshot, snapshot)
STRING(set_data_file, data_file)
FLAG(set_quiet, quiet)
FLAG(set_progress, progress)
FLAG(set_compress, compress)
FLAG(set_shrink, shrink)
FLAG(set_unsafe, unsafe)
FLAG(set_write, write)
FLAG(set_direct, direct)
FLAG(set_no_uring, no_uring)
FLAG(set_share, force_share)

#define OPT_FORMAT                     \
	{                              \
		NULL, 'f', true, set_f \
	}
#define OPT_CHAIN                                                                           \
	{ "backing", 0, true, set_chain }, { "backing-format", 0, true, set_chain_format }, \
	{                                                                                   \
		"data-file", 0, true, set_data_file                                         \
	}
#define OPT_QUIET                              \
	{                                      \
		"quiet", 'q', false, set_quiet \
	}
#define OPT_OUTPUT                            \
	{ "format", 0, true, set_output },    \
	{                                     \
		"output", 0, true, set_output \
	}
#define OPT_SHARE                                    \
	{                                            \
		"force-share", 'U', false, set_share \
	}

static const struct option create_options[] = { OPT_FORMAT,
						OPT_QUIET,
						{ "backing", 'b', true, set_b },
						{ "backing-format", 'F', true, set_second },
						{ "options", 'o', true, set_o },
						{ 0 } };
static const struct option info_options[] = { OPT_FORMAT, OPT_OUTPUT, OPT_SHARE, { 0 } };
static const struct option map_options[] = { OPT_FORMAT, OPT_CHAIN, OPT_OUTPUT, OPT_SHARE, { 0 } };
static const struct option check_options[] = { OPT_FORMAT,
					       OPT_OUTPUT,
					       OPT_QUIET,
					       OPT_SHARE,
					       { "data-file", 0, true, set_data_file },
					       { "repair", 'r', false, set_repair },
					       { 0 } };
static const struct option convert_options[] = { OPT_FORMAT,
						 OPT_CHAIN,
						 OPT_QUIET,
						 OPT_SHARE,
						 { NULL, 'O', true, set_second },
						 { "compress", 'c', false, set_compress },
						 { "options", 'o', true, set_o },
						 { "snapshot", 'l', true, set_snapshot },
						 { "progress", 'p', false, set_progress },
						 { 0 } };
static const struct option resize_options[] = { OPT_FORMAT,
						OPT_CHAIN,
						OPT_QUIET,
						{ "shrink", 0, false, set_shrink },
						{ "preallocation", 0, true, set_preallocation },
						{ 0 } };
static const struct option snapshot_options[] = { OPT_FORMAT,
						  OPT_QUIET,
						  OPT_OUTPUT,
						  { "list", 'l', false, set_l },
						  { "create", 'c', true, set_c },
						  { "apply", 'a', true, set_a },
						  { "delete", 'd', true, set_d },
						  { 0 } };
static const struct option commit_options[] = {
	OPT_FORMAT, OPT_CHAIN, OPT_QUIET, { "progress", 'p', false, set_progress }, { 0 }
};
static const struct option rebase_options[] = { OPT_FORMAT,
						OPT_QUIET,
						{ "chain", 0, true, set_chain },
						{ "chain-format", 0, true, set_chain_format },
						{ "progress", 'p', false, set_progress },
						{ "unsafe", 'u', false, set_unsafe },
						{ "backing", 'b', true, set_b },
						{ "backing-format", 'F', true, set_second },
						{ 0 } };
static const struct option compare_options[] = { OPT_FORMAT,
						 OPT_QUIET,
						 OPT_CHAIN,
						 OPT_SHARE,
						 { "progress", 'p', false, set_progress },
						 { NULL, 'F', true, set_second },
						 { 0 } };
static const struct option bench_options[] = { OPT_FORMAT,
					       OPT_CHAIN,
					       { "count", 'c', true, set_count },
					       { "depth", 'd', true, set_depth },
					       { "size", 's', true, set_size },
					       { "write", 'w', false, set_write },
					       { "direct", 'n', false, set_direct },
					       { "no-uring", 0, false, set_no_uring },
					       { 0 } };

static const struct command {
	const char *name, *usage;
	const struct option *options;
	unsigned files_min, files_max;
	bool needs_format;
	int (*run)(const struct image_args *a);
} commands[] = {
	{ "create", "[-f FMT] [-b FILE -F FMT] [-o NAME=VALUE,...] FILE [SIZE]", create_options, 1,
	  2, false, image_cmd_create },
	{ "info", "-f FMT [--format json] FILE", info_options, 1, 1, true, image_cmd_info },
	{ "map", "-f FMT [CHAIN] [--format json] FILE", map_options, 1, 1, true, image_cmd_map },
	{ "check", "-f FMT [--repair[=leaks|all]] [--format json] FILE", check_options, 1, 1, true,
	  image_cmd_check },
	{ "convert", "-f FMT -O FMT [CHAIN] [-c] [-o NAME=VALUE,...] [-l SNAPSHOT] [-p] IN OUT",
	  convert_options, 2, 2, true, image_cmd_convert },
	{ "resize", "-f FMT [CHAIN] [--shrink] [--preallocation MODE] FILE [+|-]SIZE",
	  resize_options, 2, 2, true, image_cmd_resize },
	{ "snapshot", "-f qcow2 -l | -c NAME | -a NAME | -d NAME FILE", snapshot_options, 1, 1,
	  true, image_cmd_snapshot },
	{ "commit", "-f qcow2 --backing FILE --backing-format FMT [CHAIN] [-p] FILE",
	  commit_options, 1, 1, true, image_cmd_commit },
	{ "rebase",
	  "-f qcow2 -b NEW -F FMT [-u | --chain FILE --chain-format FMT ... | --chain header] FILE",
	  rebase_options, 1, 1, true, image_cmd_rebase },
	{ "compare", "-f FMT [-F FMT] [CHAIN] [-p] FILE1 FILE2", compare_options, 2, 2, true,
	  image_cmd_compare },
	{ "bench", "-f FMT [-c COUNT] [-d DEPTH] [-s BYTES] [-w] [-n] FILE", bench_options, 1, 1,
	  true, image_cmd_bench },
};

static void help(FILE *f)
{
	fprintf(f,
		"usage: lodge image COMMAND [OPTION]... FILE...\n\n"
		"Make and handle disk images. Formats are raw and qcow2, and always stated.\n\n");
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		fprintf(f, "  %-9s %s\n", commands[i].name, commands[i].usage);
	}
	fprintf(f,
		"\n"
		"CHAIN states what lies behind a qcow2 image, next first:\n"
		"  --backing FILE --backing-format raw|qcow2 ...   or, to trust the image's own\n"
		"  words, --backing header; --data-file FILE is its external data file\n"
		"-o knows size, compat, cluster_size, refcount_bits, lazy_refcounts,\n"
		"  extended_l2, compression_type, preallocation, data_file, data_file_raw\n"
		"SIZE is in bytes, or with K, M, G, T\n"
		"\n"
		"Exit status: 0 done, 1 failure (check: damage; compare: differs), 2 wrong usage,\n"
		"3 check found only leaked clusters.\n");
}

static const struct option *find_long(const struct command *c, const char *arg, size_t len)
{
	for (const struct option *o = c->options; o->set; o++) {
		if (o->name && strlen(o->name) == len && memcmp(o->name, arg, len) == 0) {
			return o;
		}
	}
	return NULL;
}

static const struct option *find_short(const struct command *c, char letter)
{
	for (const struct option *o = c->options; o->set; o++) {
		if (o->letter && o->letter == letter) {
			return o;
		}
	}
	return NULL;
}

/* One option at argv[*at]; *at moves to the last word that it took. */
static bool parse_option(const struct command *c, struct image_args *a, int argc, char **argv,
			 int *at)
{
	const char *arg = argv[*at], *value = NULL;
	const struct option *o;

	if (arg[1] == '-') {
		size_t len = strcspn(arg + 2, "=");

		o = find_long(c, arg + 2, len);
		value = arg[2 + len] ? arg + 3 + len : NULL;
	} else {
		o = find_short(c, arg[1]);
		value = arg[2] ? arg + 2 : NULL;
	}
	if (!o) {
		image_usage("image %s: %s: there is no such option; see: lodge image --help",
			    c->name, arg);
		return false;
	}
	if (o->has_value && !value) {
		if (++*at == argc) {
			image_usage("image %s: %s: its value is missing", c->name, arg);
			return false;
		}
		value = argv[*at];
	}
	if (!o->has_value && value && o->set != set_repair) {
		image_usage("image %s: %s: takes no value", c->name, arg);
		return false;
	}
	return o->set(a, value);
}

static bool check_args(const struct command *c, const struct image_args *a)
{
	if (a->file_count < c->files_min) {
		image_usage("image %s: %s; usage: lodge image %s %s", c->name,
			    a->file_count ? "one more name is needed"
					  : "the file's name is missing",
			    c->name, c->usage);
		return false;
	}
	if (c->needs_format && !a->has_format) {
		image_usage("image %s: -f is missing; formats are stated, never guessed: "
			    "-f raw or -f qcow2",
			    c->name);
		return false;
	}
	for (unsigned i = 0; i < a->chain_count; i++) {
		if (a->chain[i].format == BLOCK_FORMAT_COUNT) {
			image_usage("image %s: the format of %s is not stated; give "
				    "--backing-format raw|qcow2 behind it",
				    c->name, a->chain[i].path);
			return false;
		}
	}
	return true;
}

static bool parse(const struct command *c, struct image_args *a, int argc, char **argv)
{
	bool only_files = false;

	for (int i = 1; i < argc; i++) {
		bool shrinks = c->run == image_cmd_resize && argv[i][0] == '-' &&
			       argv[i][1] >= '0' && argv[i][1] <= '9';

		if (!only_files && strcmp(argv[i], "--") == 0) {
			only_files = true;
			continue;
		}
		if (!only_files && argv[i][0] == '-' && argv[i][1] && !shrinks) {
			if (!parse_option(c, a, argc, argv, &i)) {
				return false;
			}
			continue;
		}
		if (a->file_count == c->files_max) {
			image_usage("image %s: %s: one name too many; usage: lodge image %s %s",
				    c->name, argv[i], c->name, c->usage);
			return false;
		}
		a->files[a->file_count++] = argv[i];
	}
	return check_args(c, a);
}

static int run(const struct command *c, int argc, char **argv)
{
	static struct image_args a;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0) {
			printf("usage: lodge image %s %s\n", c->name, c->usage);
			return 0;
		}
	}
	return parse(c, &a, argc, argv) ? c->run(&a) : IMAGE_EXIT_USAGE;
}

int image_main(int argc, char **argv)
{
	if (argc < 2) {
		help(stderr);
		return IMAGE_EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
		help(stdout);
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[1], commands[i].name) == 0) {
			return run(&commands[i], argc - 1, argv + 1);
		}
	}
	return image_usage("image %.64s: there is no such command; see: lodge image --help",
			   argv[1]);
}
