/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Chardevs on descriptors: given ones, files, pseudo terminals, and memory for tests. */
#include <fcntl.h>
#include <stdlib.h>
#include <termios.h>

#include "base/assert.h"
#include "dev/char/chardev.h"
#include "dev/char/chardev_int.h"

#define PTY_PATH_BYTES 32

static const struct chardev_impl fd_impl = { 0 };

int chardev_fd_new(struct loop *loop, int in_fd, int out_fd, struct chardev **ret)
{
	struct chardev *c = calloc(1, sizeof(*c));

	if (!c) {
		return -ENOMEM;
	}
	if (out_fd >= 0) {
		fcntl(out_fd, F_SETFL, fcntl(out_fd, F_GETFL) | O_NONBLOCK);
	}
	chardev_init(c, &fd_impl, loop, in_fd, out_fd);
	*ret = c;
	return 0;
}

/* ---- pseudo terminal ---- */

struct chardev_pty {
	struct chardev chardev;
	/* Held open: without it, each end of a reader would look like the end of the line. */
	int slave_fd;
	char path[PTY_PATH_BYTES];
};

static void pty_done(struct chardev *c)
{
	fd_closep(&container_of(c, struct chardev_pty, chardev)->slave_fd);
}

static const struct chardev_impl pty_impl = { .done = pty_done };

/* Open both ends; the slave raw, so that nothing is echoed back to the guest. */
static int pty_open(struct chardev_pty *p, int *ret_master)
{
	AUTO_FD master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	struct termios raw;

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
	    ptsname_r(master, p->path, sizeof(p->path)) != 0) {
		return -errno;
	}
	p->slave_fd = open(p->path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (p->slave_fd < 0 || tcgetattr(p->slave_fd, &raw) < 0) {
		return -errno;
	}
	cfmakeraw(&raw);
	if (tcsetattr(p->slave_fd, TCSANOW, &raw) < 0) {
		return -errno;
	}
	*ret_master = TAKE_FD(master);
	return 0;
}

int chardev_pty_new(struct loop *loop, struct chardev **ret)
{
	struct chardev_pty *p = calloc(1, sizeof(*p));
	int master = -1, r;

	if (!p) {
		return -ENOMEM;
	}
	p->slave_fd = -1;
	r = pty_open(p, &master);
	if (r < 0) {
		fd_closep(&p->slave_fd);
		free(p);
		return r;
	}
	chardev_init(&p->chardev, &pty_impl, loop, master, master);
	p->chardev.lossy = true;
	*ret = &p->chardev;
	return 0;
}

const char *chardev_path(const struct chardev *c)
{
	return c->impl == &pty_impl ? container_of(c, struct chardev_pty, chardev)->path : NULL;
}

/* ---- memory ---- */

/* Input comes through a pipe, so that it takes the same way as anybody's. */
struct chardev_memory {
	struct chardev chardev;
	int feed_fd;
};

static void memory_done(struct chardev *c)
{
	fd_closep(&container_of(c, struct chardev_memory, chardev)->feed_fd);
}

static const struct chardev_impl memory_impl = { .done = memory_done };

int chardev_memory_new(struct loop *loop, struct chardev **ret)
{
	struct chardev_memory *m = calloc(1, sizeof(*m));
	int fds[2];

	if (!m) {
		return -ENOMEM;
	}
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(m);
		return -errno;
	}
	m->feed_fd = fds[1];
	chardev_init(&m->chardev, &memory_impl, loop, fds[0], -1);
	*ret = &m->chardev;
	return 0;
}

void chardev_memory_feed(struct chardev *c, const void *buf, size_t len)
{
	ASSERT(c->impl == &memory_impl);
	ASSERT(write(container_of(c, struct chardev_memory, chardev)->feed_fd, buf, len) ==
	       (ssize_t)len);
}

void chardev_memory_block(struct chardev *c, bool blocked)
{
	pthread_mutex_lock(&c->lock);
	c->blocked = blocked;
	pthread_mutex_unlock(&c->lock);
	if (!blocked) {
		chardev_kick(c);
	}
}
