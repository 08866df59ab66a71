/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's console on our standard input and output.
 *
 * A terminal is raw while the chardev lives. Its old settings are kept in one static
 * place, so that a signal handler or a crash path can restore them without
 * knowing the chardev.
 *
 * O_NONBLOCK belongs to the open file, which our parent shares; so output is
 * opened anew through /proc, and only where that fails is the given one used.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <termios.h>

#include "dev/char/chardev.h"
#include "dev/char/chardev_int.h"

#define ESCAPE 0x01 /* Ctrl-A */

struct chardev_stdio {
	struct chardev chardev;
	loop_fn *quit;
	void *quit_opaque;
	bool escaped; /* the last byte was Ctrl-A */
};

static struct termios saved_termios;
static _Atomic bool termios_changed; /* saved_termios is to be put back */

static const char help[] = "\r\nCtrl-A x: end the guest   Ctrl-A h: this help   "
			   "Ctrl-A Ctrl-A: send one Ctrl-A\r\n";

void chardev_stdio_restore(void)
{
	if (atomic_exchange(&termios_changed, false)) {
		tcsetattr(STDIN_FILENO, TCSANOW, &saved_termios);
	}
}

/* Keys reach the guest as they are, Ctrl-C too; output keeps the terminal's own rules. */
static int terminal_raw(void)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO)) {
		return 0;
	}
	if (tcgetattr(STDIN_FILENO, &saved_termios) < 0) {
		return -errno;
	}
	raw = saved_termios;
	raw.c_iflag &=
		~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	atomic_store(&termios_changed, true);
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0) {
		atomic_store(&termios_changed, false);
		return -errno;
	}
	return 0;
}

/* The byte after Ctrl-A. True if it is for the guest. */
static bool escape(struct chardev_stdio *s, uint8_t byte)
{
	switch (byte) {
	case 'x':
		s->quit(s->quit_opaque);
		return false;
	case 'h':
		chardev_write(&s->chardev, help, sizeof(help) - 1);
		return false;
	default:
		return true; /* Ctrl-A again is itself; another key means nothing special */
	}
}

static size_t stdio_filter(struct chardev *c, uint8_t *buf, size_t len)
{
	struct chardev_stdio *s = container_of(c, struct chardev_stdio, chardev);
	size_t kept = 0;

	for (size_t i = 0; i < len; i++) {
		if (s->escaped) {
			s->escaped = false;
			if (escape(s, buf[i])) {
				buf[kept++] = buf[i];
			}
		} else if (buf[i] == ESCAPE) {
			s->escaped = true;
		} else {
			buf[kept++] = buf[i];
		}
	}
	return kept;
}

static void stdio_done(struct chardev *c)
{
	chardev_stdio_restore();
}

static const struct chardev_impl stdio_impl = { .filter = stdio_filter, .done = stdio_done };

/* Standard output for ourselves, non-blocking without touching our parent's. */
static int output_open(void)
{
	struct stat st;
	int fd = -1;

	if (fstat(STDOUT_FILENO, &st) < 0) {
		return -errno;
	}
	if (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode)) {
		fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	}
	if (fd < 0) {
		fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	}
	return fd < 0 ? -errno : fd;
}

int chardev_stdio_new(struct loop *loop, loop_fn *quit, void *opaque, struct chardev **ret)
{
	struct chardev_stdio *s = calloc(1, sizeof(*s));
	AUTO_FD out = output_open();
	int r;

	if (!s) {
		return -ENOMEM;
	}
	r = out < 0 ? out : terminal_raw();
	if (r < 0) {
		free(s);
		return r;
	}
	s->quit = quit;
	s->quit_opaque = opaque;
	/* A closed standard input is no input. */
	chardev_init(&s->chardev, &stdio_impl, loop, fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3),
		     TAKE_FD(out));
	*ret = &s->chardev;
	return 0;
}
