/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation. A socket pair that keeps messages apart: the parent sends a port, the child
 * answers with 0 and a descriptor, or with an error. One question at a time; an answer that
 * does not come ends the connector, since a late one would be taken for the next. The child ends
 * with its parent, at the end of file.
 */
#include "vmm/connector.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "base/unix_socket.h"
#include "base/util.h"
#include "vmm/helper.h"

/* Far more than a connect to a UNIX socket takes; a guest's I/O stands still meanwhile. */
#define ANSWER_WITHIN_S 2

union control {
	char buf[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

static void answer(int fd, int err, int connected)
{
	union control control = { 0 };
	struct iovec iov = { &err, sizeof(err) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (err == 0) {
		m.msg_control = control.buf;
		m.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &connected, sizeof(connected));
	}
	while (sendmsg(fd, &m, MSG_NOSIGNAL) < 0 && errno == EINTR) {
	}
}

static void serve(int fd, const char *prefix, uint32_t port)
{
	char path[UNIX_PATH_MAX + 1];
	AUTO_FD connected = -1;
	int n = snprintf(path, sizeof(path), "%s_%u", prefix, port);

	if (n < 0 || (size_t)n >= sizeof(path)) {
		answer(fd, -ENAMETOOLONG, -1);
		return;
	}
	n = unix_connect(path, &connected);
	answer(fd, n, connected);
}

static void __attribute__((noreturn)) child_main(int fd, const char *prefix)
{
	uint32_t port;
	ssize_t n;

	helper_become("lodge-connector", fd, -1);
	while ((n = recv(fd, &port, sizeof(port), 0)) > 0 || (n < 0 && errno == EINTR)) {
		if (n == sizeof(port)) {
			serve(fd, prefix, port);
		}
	}
	_exit(0);
}

int connector_start(struct connector *c, const char *prefix)
{
	const struct timeval within = { .tv_sec = ANSWER_WITHIN_S };
	int fds[2];

	*c = (struct connector){ .fd = -1 };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
		return -errno;
	}
	c->pid = fork();
	if (c->pid == 0) {
		child_main(fds[1], prefix);
	}
	close(fds[1]);
	if (c->pid < 0 ||
	    setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &within, sizeof(within)) < 0) {
		int err = -errno;

		close(fds[0]);
		return err;
	}
	c->fd = fds[0];
	return 0;
}

/* The answer: a descriptor or -errno; *ret_lost: none came. */
static int receive(int fd, bool *ret_lost)
{
	union control control;
	int err = 0, connected = -1;
	struct iovec iov = { &err, sizeof(err) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.buf,
			    .msg_controllen = sizeof(control.buf) };
	const struct cmsghdr *c;
	ssize_t n;

	do {
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n != sizeof(err)) {
		*ret_lost = true;
		return -EPIPE;
	}
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		memcpy(&connected, CMSG_DATA(c), sizeof(connected));
	}
	return err < 0 ? err : connected >= 0 ? connected : -EPIPE;
}

int connector_connect(struct connector *c, uint32_t port)
{
	bool lost = false;
	int r;

	if (c->fd < 0) {
		return -EPIPE;
	}
	if (send(c->fd, &port, sizeof(port), MSG_NOSIGNAL) != sizeof(port)) {
		return -EPIPE;
	}
	r = receive(c->fd, &lost);
	if (lost) {
		fd_closep(&c->fd);
	}
	return r;
}

void connector_stop(struct connector *c)
{
	fd_closep(&c->fd);
	while (c->pid > 0 && waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) {
	}
	c->pid = 0;
}
