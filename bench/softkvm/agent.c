/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of tools/bench-softkvm that runs the work: as /init's successor in a guest, over the
 * serial console, and natively, over pipes. Both see the same file system, by chroot.
 *
 * Theory of operation. When it is set up it writes "guestbench: ready". Each line that it reads
 * is a request, NAME PERCENT TIMES; it answers with two lines:
 *
 *   guestbench: begin
 *   guestbench: end NAME STATUS CHECKSUM CPU_US
 *
 * and does the work in a child between them. The first is on the wire before the child starts,
 * so that who reads it can measure from outside; CPU_US is the child's own time, which is worth
 * something natively only. A NAME that is no workload is a whole program: /suite/run knows it, and
 * the line that it prints is the checksum. Other lines (a kernel's) may stand between these.
 */
#include <err.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "guestbench.h"

#define STATUS_UNSUPPORTED 77
#define ANSWER_BYTES       128
#define LINE_BYTES         256

struct request {
	char name[64];
	unsigned int percent, times;
};

static void mount_at(const char *root, const char *what, const char *type, unsigned long flags)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", root, what);
	if (mount(type ? type : path + strlen(root), path, type, flags, NULL)) {
		err(2, "mount %s", path);
	}
}

/* Go into `root` with mounts of our own, and with an environment that is the same everywhere. */
static void enter(const char *root)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		err(2, "cannot have mounts of our own");
	}
	mount_at(root, "dev", NULL, MS_BIND);
	mount_at(root, "proc", "proc", 0);
	mount_at(root, "tmp", "tmpfs", 0);
	if (chroot(root) || chdir("/tmp")) {
		err(2, "%s", root);
	}
	clearenv();
	setenv("PATH", "/usr/bin:/bin", 1);
	setenv("HOME", "/tmp", 1);
	setenv("LC_ALL", "C", 1);
	setenv("PYTHONHASHSEED", "0", 1);
}

/* A console gives lines as they come: no echo, nothing added. */
static void make_raw(void)
{
	struct termios t;

	if (tcgetattr(STDIN_FILENO, &t) == 0) {
		cfmakeraw(&t);
		t.c_lflag |= ICANON;
		tcsetattr(STDIN_FILENO, TCSANOW, &t);
	}
}

/* Write what stdout holds, and wait until it is gone. */
static void push(void)
{
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
}

/* In the child: do the work, write the checksum to fd 1. */
_Noreturn static void work(const struct request *r)
{
	const struct workload *w = workload_find(r->name);
	char percent[16], answer[ANSWER_BYTES];
	uint64_t checksum;
	int len;

	if (!w) {
		snprintf(percent, sizeof(percent), "%u", r->percent);
		execl("/bin/busybox", "busybox", "sh", "/suite/run", r->name, percent, NULL);
		_exit(127);
	}
	if (w->supported && !w->supported()) {
		_exit(STATUS_UNSUPPORTED);
	}
	if (!workload_run(w, r->percent, r->times, &checksum)) {
		_exit(1);
	}
	len = snprintf(answer, sizeof(answer), "%016llx\n", (unsigned long long)checksum);
	_exit(write(STDOUT_FILENO, answer, (size_t)len) == len ? 0 : 1);
}

/* All that comes from fd, as one word: what does not fit or is no part of a word ends it. */
static void read_answer(int fd, char answer[ANSWER_BYTES])
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, answer + len, ANSWER_BYTES - 1 - len)) > 0) {
		len += (size_t)n;
	}
	answer[len] = '\0';
	answer[strcspn(answer, " \n")] = '\0';
}

static void serve(const struct request *r)
{
	char answer[ANSWER_BYTES];
	struct rusage usage;
	int fds[2], status;
	pid_t pid;

	printf("\nguestbench: begin\n");
	push();
	if (pipe(fds) || (pid = fork()) < 0) {
		err(2, "no child");
	}
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		work(r);
	}
	close(fds[1]);
	read_answer(fds[0], answer);
	close(fds[0]);
	if (wait4(pid, &status, 0, &usage) != pid) {
		err(2, "wait4");
	}
	printf("\nguestbench: end %s %d %s %llu\n", r->name,
	       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
	       *answer ? answer : "-",
	       (unsigned long long)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
		       (unsigned long long)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec));
	push();
}

int agent_main(const char *root)
{
	char line[LINE_BYTES];
	struct request r;

	enter(root);
	make_raw();
	printf("\nguestbench: ready\n");
	push();
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%63s %u %u", r.name, &r.percent, &r.times) == 3 &&
		    r.percent > 0 && r.times > 0) {
			serve(&r);
		}
	}
	return 0;
}
