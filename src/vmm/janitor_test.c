/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/janitor.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/test.h"
#include "base/util.h"

static char dir[48], path[64];

static bool make_dir(void)
{
	snprintf(dir, sizeof(dir), "/tmp/lodge-janitor-test.XXXXXX");
	if (!mkdtemp(dir)) {
		return false;
	}
	snprintf(path, sizeof(path), "%s/s", dir);
	return true;
}

static int bind_socket(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	return bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -1 : fd;
}

static void make_raw(int tty)
{
	struct termios t;

	tcgetattr(tty, &t);
	cfmakeraw(&t);
	tcsetattr(tty, TCSANOW, &t);
}

/* The life of a guest's process that ends badly. */
static void __attribute__((noreturn)) live_and_crash(int tty)
{
	struct janitor j;

	if (janitor_start(&j, tty, true) < 0 || bind_socket() < 0 ||
	    janitor_add_socket(&j, path) < 0) {
		_exit(1);
	}
	make_raw(tty);
	raise(SIGKILL);
	_exit(2);
}

static void test_crash(struct test *t)
{
	struct termios before, after;
	int master, tty, status;
	struct stat st;
	pid_t pid;

	CHECK(t, make_dir());
	CHECK_EQ(t, openpty(&master, &tty, NULL, NULL, NULL), 0);
	tcgetattr(tty, &before);
	/* The janitor becomes our child when its parent dies, so its end can be waited for. */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	pid = fork();
	if (pid == 0) {
		live_and_crash(tty);
	}
	CHECK_EQ(t, waitpid(pid, &status, 0), pid);
	CHECK(t, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK(t, wait(&status) > 0);
	CHECK(t, lstat(path, &st) < 0 && errno == ENOENT);
	tcgetattr(tty, &after);
	CHECK_EQ(t, before.c_lflag, after.c_lflag);
	CHECK_EQ(t, before.c_iflag, after.c_iflag);
	CHECK(t, after.c_lflag & ICANON);
	close(master);
	close(tty);
	rmdir(dir);
}

static void test_orderly_end(struct test *t)
{
	struct janitor j;
	struct stat st;
	int fd;

	CHECK(t, make_dir());
	CHECK_EQ(t, janitor_start(&j, -1, true), 0);
	fd = bind_socket();
	CHECK(t, fd >= 0);
	CHECK_EQ(t, janitor_add_socket(&j, path), 0);
	janitor_finish(&j);
	CHECK(t, lstat(path, &st) < 0 && errno == ENOENT);
	CHECK_EQ(t, j.pipe_fd, -1);
	close(fd);
	rmdir(dir);
}

/* Somebody put another file there in the meantime: not ours to remove. */
static void test_other_files_stay(struct test *t)
{
	struct janitor j;
	int fd;

	CHECK(t, make_dir());
	CHECK_EQ(t, janitor_start(&j, -1, true), 0);
	fd = bind_socket();
	CHECK_EQ(t, janitor_add_socket(&j, path), 0);
	unlink(path);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	janitor_finish(&j);
	CHECK_EQ(t, unlink(path), 0);
	close(fd);
	rmdir(dir);
}

static void test_nothing_to_do(struct test *t)
{
	struct janitor j;

	CHECK_EQ(t, janitor_start(&j, -1, false), 0);
	CHECK_EQ(t, j.pipe_fd, -1);
	janitor_finish(&j);
}

static const struct test_case cases[] = {
	{ "a crash", test_crash },
	{ "an orderly end", test_orderly_end },
	{ "other files stay", test_other_files_stay },
	{ "nothing to do", test_nothing_to_do },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
