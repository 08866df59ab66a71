/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dev/char/chardev.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/test.h"

struct sink {
	char got[256];
	size_t len, room;
	unsigned writable;
};

static size_t can_receive(void *opaque)
{
	return ((struct sink *)opaque)->room;
}

static void receive(void *opaque, const uint8_t *buf, size_t len)
{
	struct sink *s = opaque;

	len = MIN(len, sizeof(s->got) - 1 - s->len);
	memcpy(s->got + s->len, buf, len);
	s->len += len;
	s->room -= len;
}

static void writable(void *opaque)
{
	((struct sink *)opaque)->writable++;
}

static const struct chardev_client client = { can_receive, receive, writable };

static void settle(struct loop *l)
{
	/* Longer than output is gathered. */
	while (loop_poll(l, 3 * NS_PER_MS)) {
	}
}

/* A serial port's burst: the first byte leaves at once, the others together, none is lost. */
static void test_burst(struct test *t)
{
	struct loop *l;
	struct chardev *c;
	char buf[64];
	int out[2];

	CHECK_EQ(t, loop_new(NULL, &l), 0);
	CHECK(t, pipe(out) == 0 && fcntl(out[0], F_SETFL, O_NONBLOCK) == 0);
	CHECK_EQ(t, chardev_fd_new(l, -1, out[1], &c), 0);
	CHECK_EQ(t, chardev_write(c, "a", 1), 1);
	loop_poll(l, 0);
	CHECK_EQ(t, read(out[0], buf, sizeof(buf)), 1);
	CHECK_EQ(t, chardev_write(c, "b", 1), 1);
	loop_poll(l, 0);
	CHECK_EQ(t, chardev_write(c, "c", 1), 1);
	settle(l);
	CHECK_EQ(t, read(out[0], buf, sizeof(buf)), 2);
	CHECK_EQ(t, chardev_write(c, "d", 1), 1);
	chardev_free(c);
	CHECK_EQ(t, read(out[0], buf, sizeof(buf)), 1);
	close(out[0]);
	loop_free(l);
}

/* Wait for what another end does: turns of the loop until `*len` reaches `want` (or 5 s). */
static void poll_until(struct loop *l, const size_t *len, size_t want)
{
	ns_t until = clock_now_ns() + 5 * NS_PER_S;

	while (*len < want && clock_now_ns() < until) {
		loop_poll(l, 20 * NS_PER_MS);
	}
}

static void test_pipe(struct test *t)
{
	struct loop *l;
	struct chardev *c;
	struct sink s = { .room = 3 };
	char buf[64] = "";
	int in[2], out[2];

	CHECK_EQ(t, loop_new(NULL, &l), 0);
	CHECK(t, pipe(in) == 0 && pipe(out) == 0);
	CHECK_EQ(t, chardev_fd_new(l, in[0], out[1], &c), 0);
	chardev_set_client(c, &client, &s);
	CHECK_EQ(t, chardev_write(c, "one", 3), 3);
	CHECK_EQ(t, chardev_write(c, "two", 3), 3);
	settle(l);
	CHECK_EQ(t, read(out[0], buf, sizeof(buf)), 6);
	CHECK(t, memcmp(buf, "onetwo", 6) == 0);
	CHECK_EQ(t, write(in[1], "abcdef", 6), 6);
	settle(l);
	CHECK_STR(t, s.got, "abc"); /* no more than the client can take */
	s.room = 10;
	chardev_accept(c);
	settle(l);
	CHECK_STR(t, s.got, "abcdef");
	close(in[1]);
	settle(l); /* the end of input is no storm */
	CHECK(t, !loop_poll(l, 0));
	chardev_free(c);
	close(out[0]);
	loop_free(l);
}

static void test_back_pressure(struct test *t)
{
	static char big[300000], buf[65536];
	struct loop *l;
	struct chardev *c;
	struct sink s = { 0 };
	size_t sent = 0, got = 0;
	int out[2];

	memset(big, 'x', sizeof(big));
	CHECK_EQ(t, loop_new(NULL, &l), 0);
	CHECK(t, pipe(out) == 0);
	CHECK_EQ(t, chardev_fd_new(l, -1, out[1], &c), 0);
	chardev_set_client(c, &client, &s);
	while (sent < sizeof(big)) {
		size_t n = chardev_write(c, big + sent, sizeof(big) - sent);

		sent += n;
		settle(l);
		if (!n) {
			ssize_t r = read(out[0], buf, sizeof(buf));

			CHECK(t, r > 0);
			got += (size_t)r;
			settle(l);
			CHECK(t, s.writable > 0);
			s.writable = 0;
		}
	}
	CHECK(t, got > 0);
	/* The reader goes away: output vanishes, the guest goes on. */
	close(out[0]);
	settle(l);
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EQ(t, chardev_write(c, big, 65536), 65536);
		settle(l);
	}
	chardev_free(c);
	loop_free(l);
}

static void test_tail(struct test *t)
{
	struct loop *l;
	struct chardev *c;
	char buf[CHARDEV_TAIL_BYTES];

	CHECK_EQ(t, loop_new(NULL, &l), 0);
	CHECK_EQ(t, chardev_memory_new(l, &c), 0);
	CHECK_EQ(t, chardev_tail(c, buf, sizeof(buf)), 0);
	for (unsigned i = 0; i < 10000; i++) {
		char digit = (char)('0' + i % 10);

		chardev_write(c, &digit, 1);
	}
	CHECK_EQ(t, chardev_tail(c, buf, 5), 5);
	CHECK(t, memcmp(buf, "56789", 5) == 0);
	CHECK_EQ(t, chardev_tail(c, buf, sizeof(buf)), sizeof(buf));
	CHECK_EQ(t, buf[0], '0' + (10000 - 4096) % 10);
	chardev_free(c);
	loop_free(l);
}

static void test_file(struct test *t)
{
	char path[] = "/tmp/lodge-chardev-XXXXXX", buf[16] = "";
	struct loop *l;
	struct chardev *c;
	int fd = mkstemp(path);

	CHECK(t, fd >= 0);
	CHECK_EQ(t, loop_new(NULL, &l), 0);
	CHECK_EQ(t, chardev_fd_new(l, -1, open(path, O_WRONLY | O_CLOEXEC), &c), 0);
	CHECK_EQ(t, chardev_write(c, "line\n", 5), 5);
	chardev_free(c); /* writes what waits */
	CHECK_EQ(t, read(fd, buf, sizeof(buf)), 5);
	close(fd);
	unlink(path);
	loop_free(l);
}

static void test_pty(struct test *t)
{
	static char big[200000];
	struct loop *l;
	struct chardev *c;
	struct sink s = { .room = 100 };
	char buf[64];
	int fd;

	CHECK_EQ(t, loop_new(NULL, &l), 0);
	if (chardev_pty_new(l, &c) < 0) {
		loop_free(l);
		SKIP(t, "no pseudo terminals");
	}
	chardev_set_client(c, &client, &s);
	/* Nobody reads: output is lost, nothing blocks. */
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EQ(t, chardev_write(c, big, 65536), 65536);
		settle(l);
	}
	fd = open(chardev_path(c), O_RDWR | O_NOCTTY);
	CHECK(t, fd >= 0);
	CHECK(t, read(fd, buf, sizeof(buf)) > 0);
	CHECK_EQ(t, write(fd, "key\x03", 4), 4); /* raw: Ctrl-C is a byte */
	poll_until(l, &s.len, 4);
	CHECK_STR(t, s.got, "key\x03");
	close(fd); /* the line stays up */
	fd = open(chardev_path(c), O_RDWR | O_NOCTTY);
	CHECK_EQ(t, write(fd, "!", 1), 1);
	poll_until(l, &s.len, 5);
	CHECK_EQ(t, s.len, 5);
	close(fd);
	chardev_free(c);
	loop_free(l);
}

/* ---- stdio: in a child whose terminal is a pty ---- */

static void quit(void *opaque)
{
	*(bool *)opaque = true;
}

static _Noreturn void stdio_child(int slave)
{
	struct sink s = { .room = 200 };
	struct loop *l;
	struct chardev *c;
	bool ended = false;

	dup2(slave, 0);
	dup2(slave, 1);
	if (loop_new(NULL, &l) < 0 || chardev_stdio_new(l, quit, &ended, &c) < 0) {
		_exit(10);
	}
	chardev_set_client(c, &client, &s);
	chardev_write(c, "ready\n", 6);
	while (!ended) {
		loop_poll(l, -1);
	}
	chardev_free(c);
	loop_free(l);
	_exit(strcmp(s.got, "a\x03"
			    "b\x01"
			    "c") == 0
		      ? 0
		      : 11);
}

static bool read_until(int fd, const char *want)
{
	char buf[512];
	size_t len = 0;

	while (len + 1 < sizeof(buf)) {
		ssize_t r = read(fd, buf + len, sizeof(buf) - 1 - len);

		if (r <= 0) {
			return false;
		}
		len += (size_t)r;
		buf[len] = 0;
		if (strstr(buf, want)) {
			return true;
		}
	}
	return false;
}

static void test_stdio(struct test *t)
{
	struct termios before, during, after;
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave, status;
	pid_t pid;

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0) {
		SKIP(t, "no pseudo terminals");
	}
	slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	CHECK(t, slave >= 0 && tcgetattr(slave, &before) == 0);
	pid = fork();
	CHECK(t, pid >= 0);
	if (pid == 0) {
		stdio_child(slave);
	}
	CHECK(t, read_until(master, "ready"));
	CHECK_EQ(t, tcgetattr(slave, &during), 0);
	CHECK_EQ(t, during.c_lflag & (ICANON | ECHO | ISIG), 0);
	CHECK_EQ(t, write(master, "a\x03\x01h", 4), 4);
	CHECK(t, read_until(master, "Ctrl-A x"));
	CHECK_EQ(t, write(master, "b\x01\x01", 3), 3);
	CHECK_EQ(t, write(master, "c\x01x", 3), 3);
	CHECK_EQ(t, waitpid(pid, &status, 0), pid);
	CHECK_EQ(t, status, 0);
	CHECK_EQ(t, tcgetattr(slave, &after), 0);
	CHECK_EQ(t, after.c_lflag, before.c_lflag);
	CHECK_EQ(t, after.c_iflag, before.c_iflag);
	CHECK_EQ(t, fcntl(slave, F_GETFL) & O_NONBLOCK, 0); /* our parent's file is as it was */
	close(slave);
	close(master);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "pipe", test_pipe },
		{ "burst", test_burst },
		{ "back pressure", test_back_pressure },
		{ "tail", test_tail },
		{ "file", test_file },
		{ "pty", test_pty },
		{ "stdio", test_stdio },
		{ 0 },
	};

	signal(SIGPIPE, SIG_IGN);
	return test_main(argc, argv, cases);
}
