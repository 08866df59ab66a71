/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation. The child reads fixed-size messages from a pipe whose
 * only writer is the parent: SOCKET says what to remove, FINISH that the
 * end is orderly. End of file without FINISH is a crash: then the terminal is
 * restored too.
 */
#include "vmm/janitor.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/util.h"
#include "vmm/helper.h"

enum { MESSAGE_SOCKET = 1, MESSAGE_FINISH };

struct message {
	int kind;
	dev_t dev;
	ino_t ino;
	char path[PATH_MAX];
};
static_assert(sizeof(struct message) <= 2 * PATH_MAX, "two pipe buffers at the most");

static bool read_message(int fd, struct message *m)
{
	size_t have = 0;

	while (have < sizeof(*m)) {
		ssize_t n = read(fd, (char *)m + have, sizeof(*m) - have);

		if (n == 0 || (n < 0 && errno != EINTR)) {
			return false;
		}
		have += n > 0 ? (size_t)n : 0;
	}
	return true;
}

static void remove_socket(const struct message *m)
{
	struct stat st;

	if (lstat(m->path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_dev == m->dev &&
	    st.st_ino == m->ino) {
		unlink(m->path);
	}
}

static void __attribute__((noreturn))
child_main(int pipe_fd, int tty_fd, const struct termios *saved)
{
	static struct message m, sockets[JANITOR_SOCKETS_MAX];
	unsigned count = 0;
	bool orderly = false;

	helper_become("lodge-janitor", pipe_fd, tty_fd);
	while (read_message(pipe_fd, &m)) {
		if (m.kind == MESSAGE_FINISH) {
			orderly = true;
		} else if (count < JANITOR_SOCKETS_MAX) {
			sockets[count++] = m;
		}
	}
	if (!orderly && tty_fd >= 0) {
		tcsetattr(tty_fd, TCSANOW, saved);
	}
	while (count) {
		remove_socket(&sockets[--count]);
	}
	_exit(0);
}

int janitor_start(struct janitor *j, int tty_fd, bool will_have_socket)
{
	struct termios saved;
	int fds[2];

	*j = (struct janitor){ .pipe_fd = -1 };
	if (tty_fd < 0 || tcgetattr(tty_fd, &saved) < 0) {
		tty_fd = -1;
	}
	if (tty_fd < 0 && !will_have_socket) {
		return 0;
	}
	if (pipe2(fds, O_CLOEXEC) < 0) {
		return -errno;
	}
	j->pid = fork();
	if (j->pid == 0) {
		close(fds[1]);
		child_main(fds[0], tty_fd, &saved);
	}
	close(fds[0]);
	if (j->pid < 0) {
		int err = -errno;

		close(fds[1]);
		return err;
	}
	j->pipe_fd = fds[1];
	return 0;
}

static int send_message(struct janitor *j, const struct message *m)
{
	const char *from = (const char *)m;
	size_t left = sizeof(*m);

	while (left) {
		ssize_t n = write(j->pipe_fd, from, left);

		if (n < 0 && errno != EINTR) {
			return -errno;
		}
		from += n > 0 ? n : 0;
		left -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int janitor_add_socket(struct janitor *j, const char *path)
{
	static struct message m;
	struct stat st;
	char *absolute;

	/* The parent may change its directory; the child stays where it was. */
	absolute = realpath(path, NULL);
	if (!absolute || lstat(absolute, &st) < 0) {
		int err = -errno;

		free(absolute);
		return err;
	}
	m = (struct message){ .kind = MESSAGE_SOCKET, .dev = st.st_dev, .ino = st.st_ino };
	snprintf(m.path, sizeof(m.path), "%s", absolute);
	free(absolute);
	return send_message(j, &m);
}

void janitor_finish(struct janitor *j)
{
	static struct message m = { .kind = MESSAGE_FINISH };

	if (j->pipe_fd < 0) {
		return;
	}
	send_message(j, &m);
	fd_closep(&j->pipe_fd);
	while (waitpid(j->pid, NULL, 0) < 0 && errno == EINTR) {
	}
}
