/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a command and measures it from its exec on: when the first byte comes out, when a
 * marker does, when it ends; its CPU time; its private memory at the marker.
 *
 * usage: measure [-k] MARKER COMMAND…     -k: end the command at the marker
 * prints: first_ms marker_ms exit_ms cpu_ms private_kib status
 * -1 stands for "did not happen". Times are wall, cpu_ms is user and system time
 * of the process and its children.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"

#define TAIL_BYTES 65536

struct result {
	double first_ms, marker_ms, exit_ms, cpu_ms;
	long private_kib;
};

static double since_ms(ns_t start)
{
	return (double)(clock_now_ns() - start) / (double)NS_PER_MS;
}

/*
 * What the process has written for itself: dirty private pages of every mapping but guest RAM,
 * which is a memfd here and there (pages of one count as private while only one process maps them).
 */
static long private_kib(pid_t pid)
{
	char path[64], line[512];
	bool counts = true;
	long sum = 0, value;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	if (!f) {
		return -1;
	}
	while (fgets(line, sizeof(line), f)) {
		if (strchr(line, '-') && strchr(line, '-') < strchr(line, ' ')) {
			counts = !strstr(line, "memfd:");
		} else if (counts && sscanf(line, "Private_Dirty: %ld", &value) == 1) {
			sum += value;
		}
	}
	fclose(f);
	return sum;
}

static pid_t start(char **argv, int *ret_out)
{
	int pipefd[2], null;
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC) < 0) {
		perror("measure: pipe");
		exit(2);
	}
	pid = fork();
	if (pid < 0) {
		perror("measure: fork");
		exit(2);
	}
	if (pid == 0) {
		null = open("/dev/null", O_RDONLY | O_CLOEXEC);
		dup2(null, STDIN_FILENO);
		dup2(pipefd[1], STDOUT_FILENO);
		execvp(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	close(pipefd[1]);
	*ret_out = pipefd[0];
	return pid;
}

/* Read all output; note when it begins and when the marker is complete. */
static void watch(int fd, pid_t pid, const char *marker, bool end, ns_t began, struct result *r)
{
	static char tail[TAIL_BYTES + 1];
	size_t len = 0, keep = strlen(marker);
	ssize_t n;

	while ((n = read(fd, tail + len, TAIL_BYTES - len)) > 0) {
		if (r->first_ms < 0) {
			r->first_ms = since_ms(began);
		}
		len += (size_t)n;
		if (r->marker_ms < 0 && memmem(tail, len, marker, keep)) {
			r->marker_ms = since_ms(began);
			r->private_kib = private_kib(pid);
			if (end) {
				kill(pid, SIGKILL);
			}
		}
		if (len > keep) {
			memmove(tail, tail + len - keep, keep);
			len = keep;
		}
	}
}

int main(int argc, char **argv)
{
	struct result r = { -1, -1, -1, -1, -1 };
	struct rusage usage;
	int out, status = 0;
	bool end = false;
	ns_t began;
	pid_t pid;

	if (argc > 1 && strcmp(argv[1], "-k") == 0) {
		end = true;
		argv++;
		argc--;
	}
	if (argc < 3) {
		fprintf(stderr, "usage: measure [-k] MARKER COMMAND…\n");
		return 2;
	}
	began = clock_now_ns();
	pid = start(argv + 2, &out);
	watch(out, pid, argv[1], end, began, &r);
	if (wait4(pid, &status, 0, &usage) == pid) {
		r.exit_ms = since_ms(began);
		r.cpu_ms =
			(double)usage.ru_utime.tv_sec * 1e3 + (double)usage.ru_utime.tv_usec / 1e3 +
			(double)usage.ru_stime.tv_sec * 1e3 + (double)usage.ru_stime.tv_usec / 1e3;
	}
	printf("%.2f %.2f %.2f %.2f %ld %d\n", r.first_ms, r.marker_ms, r.exit_ms, r.cpu_ms,
	       r.private_kib, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 0;
}
