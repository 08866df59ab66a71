/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The common part of chardevs: buffered output, watched input, the tail.
 *
 * Theory of operation. chardev_write() puts bytes into a ring and arms the
 * `due` timer: for at once, or, if something was written just before, for GATHER_NS
 * after that. So the first byte of a burst is on its way at once, and the
 * others, which a serial port brings one by one, share few wake-ups and writes.
 * A ring that fills is written at once. When the descriptor takes no more, the loop watches it
 * for EPOLLOUT. Only the loop's thread touches descriptors and calls the client.
 * chardev_free() writes what still waits.
 *
 * Input is read only as far as the client can receive. When it cannot, the
 * watch goes away until chardev_accept(), which arms `work`.
 *
 * Files cannot be watched by epoll: they are written at once, and read from
 * `work` as long as the client takes something.
 */
#include "dev/char/chardev.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "dev/char/chardev_int.h"

#define INPUT_CHUNK   1024
#define FREE_LIMIT_NS NS_PER_S
/* Nobody sees it, and a serial port brings hundreds of bytes in it. */
#define GATHER_NS  NS_PER_MS
#define FULL_BYTES (CHARDEV_OUT_BYTES / 4)

static void in_ready(void *opaque, uint32_t events);
static void out_ready(void *opaque, uint32_t events);

void chardev_kick(struct chardev *c)
{
	timer_arm(&c->work, 0);
}

/* ---- output ---- */

static void tail_add(struct chardev *c, const uint8_t *buf, size_t len)
{
	for (size_t i = len > CHARDEV_TAIL_BYTES ? len - CHARDEV_TAIL_BYTES : 0; i < len; i++) {
		c->tail[(c->tail_total + i) % CHARDEV_TAIL_BYTES] = (char)buf[i];
	}
	c->tail_total += len;
}

static void ring_add(struct chardev *c, const uint8_t *buf, size_t len)
{
	size_t at = (c->out_start + c->out_len) % CHARDEV_OUT_BYTES;
	size_t first = MIN(len, CHARDEV_OUT_BYTES - at);

	memcpy(c->out + at, buf, first);
	memcpy(c->out, buf + first, len - first);
	c->out_len += len;
}

static void ring_drop(struct chardev *c, size_t len)
{
	c->out_start = (c->out_start + len) % CHARDEV_OUT_BYTES;
	c->out_len -= len;
}

/* Output has grown from `before` bytes: when is it to be written? */
static void out_grown(struct chardev *c, size_t before, size_t now, ns_t flushed_ns)
{
	if (before < FULL_BYTES && now >= FULL_BYTES) {
		timer_arm(&c->due, 0);
	} else if (!before && now) {
		timer_arm(&c->due, flushed_ns + GATHER_NS);
	}
}

size_t chardev_write(struct chardev *c, const void *buf, size_t len)
{
	size_t n, before, now;
	ns_t flushed_ns;

	pthread_mutex_lock(&c->lock);
	n = MIN(len, CHARDEV_OUT_BYTES - c->out_len);
	if (c->lossy && n < len) {
		n = MIN(len, (size_t)CHARDEV_OUT_BYTES);
		ring_drop(c, n - (CHARDEV_OUT_BYTES - c->out_len));
	}
	if (c->out_dead || c->out_fd < 0) {
		n = len;
	}
	if (c->blocked) {
		n = 0;
	}
	tail_add(c, buf, n);
	before = c->out_len;
	if (!c->out_dead && c->out_fd >= 0) {
		ring_add(c, buf, n);
	}
	c->want_space |= n < len;
	now = c->out_len;
	flushed_ns = c->flushed_ns;
	pthread_mutex_unlock(&c->lock);
	out_grown(c, before, now, flushed_ns);
	return n;
}

/* One write of the ring's first contiguous part. Bytes, or -errno. */
static ssize_t write_some_locked(struct chardev *c)
{
	size_t n = MIN(c->out_len, CHARDEV_OUT_BYTES - c->out_start);
	const void *from = c->out + c->out_start;
	ssize_t r = c->out_is_socket ? send(c->out_fd, from, n, MSG_DONTWAIT | MSG_NOSIGNAL)
				     : write(c->out_fd, from, n);

	return r < 0 ? -errno : r;
}

/* Write what goes. True if the descriptor takes no more now. */
static bool flush_locked(struct chardev *c)
{
	while (c->out_len && !c->out_dead) {
		ssize_t r = write_some_locked(c);

		if (r > 0) {
			ring_drop(c, (size_t)r);
			c->flushed_ns = loop_now_ns(c->loop);
		} else if (r == -EAGAIN) {
			return true;
		} else if (r != -EINTR) {
			c->out_dead = true;
			c->out_len = 0;
		}
	}
	return false;
}

static void watch_update(struct chardev *c, bool in, bool out)
{
	uint32_t in_events = in ? EPOLLIN : 0, out_events = out ? EPOLLOUT : 0;

	if (c->out_is_in) {
		in_events |= out_events;
		out_events = 0;
	}
	if (in == c->in_watched && out == c->out_watched) {
		return;
	}
	if (c->in_fd >= 0 && !c->in_plain) {
		if (in_events) {
			loop_watch_fd(c->loop, c->in_fd, in_events, in_ready, c);
		} else {
			loop_unwatch_fd(c->loop, c->in_fd);
		}
	}
	if (c->out_fd >= 0 && !c->out_plain && !c->out_is_in) {
		if (out_events) {
			loop_watch_fd(c->loop, c->out_fd, out_events, out_ready, c);
		} else {
			loop_unwatch_fd(c->loop, c->out_fd);
		}
	}
	c->in_watched = in;
	c->out_watched = out;
}

static void flush(struct chardev *c)
{
	bool full, tell;

	pthread_mutex_lock(&c->lock);
	full = flush_locked(c);
	tell = c->want_space && c->out_len < CHARDEV_OUT_BYTES && !c->blocked;
	c->want_space &= !tell;
	pthread_mutex_unlock(&c->lock);
	watch_update(c, c->in_watched, full);
	if (tell && c->client && c->client->writable) {
		c->client->writable(c->client_opaque);
	}
}

/* ---- input ---- */

static size_t room(struct chardev *c)
{
	return c->client && c->client->can_receive ? c->client->can_receive(c->client_opaque) : 0;
}

size_t chardev_deliver(struct chardev *c, const uint8_t *buf, size_t len)
{
	size_t n = MIN(len, room(c));

	if (n) {
		c->client->receive(c->client_opaque, buf, n);
	}
	return n;
}

/* Read once what the client can take. False if there is nothing more to do now. */
static bool input_once(struct chardev *c)
{
	uint8_t buf[INPUT_CHUNK];
	size_t n = MIN(sizeof(buf), room(c));
	ssize_t r;

	if (!n) {
		return false;
	}
	r = read(c->in_fd, buf, n);
	if (r < 0 && (errno == EAGAIN || errno == EINTR)) {
		return false;
	}
	if (r <= 0) {
		c->in_ended = true;
		return false;
	}
	n = c->impl->filter ? c->impl->filter(c, buf, (size_t)r) : (size_t)r;
	if (n) {
		c->client->receive(c->client_opaque, buf, n);
	}
	return true;
}

static void input(struct chardev *c)
{
	if (c->in_fd < 0 || c->in_ended) {
		return;
	}
	while (c->in_plain && input_once(c)) {
	}
	if (!c->in_plain) {
		input_once(c);
	}
}

/* Watch the input exactly while the client can receive. */
static void input_watch(struct chardev *c)
{
	watch_update(c, c->in_fd >= 0 && !c->in_plain && !c->in_ended && room(c) > 0,
		     c->out_watched);
}

static void out_ready(void *opaque, uint32_t events)
{
	struct chardev *c = opaque;

	flush(c);
	input_watch(c);
}

/* A given descriptor may block, so it is read only when it said that it is ready. */
static void in_ready(void *opaque, uint32_t events)
{
	struct chardev *c = opaque;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		input(c);
	}
	flush(c);
	input_watch(c);
}

static void work(void *opaque)
{
	struct chardev *c = opaque;

	flush(c);
	if (c->in_plain) {
		input(c);
	}
	input_watch(c);
}

static void due(void *opaque)
{
	flush(opaque);
}

void chardev_accept(struct chardev *c)
{
	chardev_kick(c);
}

void chardev_set_client(struct chardev *c, const struct chardev_client *cl, void *opaque)
{
	c->client = cl;
	c->client_opaque = opaque;
	chardev_kick(c);
}

/* ---- tail, life ---- */

size_t chardev_tail(struct chardev *c, char *buf, size_t size)
{
	size_t n;

	pthread_mutex_lock(&c->lock);
	n = MIN(size, (size_t)MIN(c->tail_total, (uint64_t)CHARDEV_TAIL_BYTES));
	for (size_t i = 0; i < n; i++) {
		buf[i] = c->tail[(c->tail_total - n + i) % CHARDEV_TAIL_BYTES];
	}
	pthread_mutex_unlock(&c->lock);
	return n;
}

static bool is_plain(int fd)
{
	struct stat st;

	/* epoll takes neither files nor devices that are always ready (/dev/null). */
	return fd >= 0 && fstat(fd, &st) == 0 &&
	       (S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && !isatty(fd)));
}

static bool is_socket(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

int chardev_init(struct chardev *c, const struct chardev_impl *impl, struct loop *loop, int in_fd,
		 int out_fd)
{
	c->impl = impl;
	c->loop = loop;
	c->in_fd = in_fd;
	c->out_fd = out_fd;
	c->out_is_in = in_fd >= 0 && in_fd == out_fd;
	c->in_plain = is_plain(in_fd);
	c->out_plain = is_plain(out_fd);
	c->out_is_socket = is_socket(out_fd);
	pthread_mutex_init(&c->lock, NULL);
	timer_init(&c->work, loop, work, c);
	timer_init(&c->due, loop, due, c);
	c->flushed_ns = -GATHER_NS;
	return 0;
}

/* The last words: wait for a slow reader, but not for ever. */
static void flush_last(struct chardev *c)
{
	ns_t until = clock_now_ns() + FREE_LIMIT_NS;

	pthread_mutex_lock(&c->lock);
	while (flush_locked(c) && !c->lossy && clock_now_ns() < until) {
		struct pollfd p = { .fd = c->out_fd, .events = POLLOUT };

		poll(&p, 1, (int)(FREE_LIMIT_NS / NS_PER_MS / 10));
	}
	pthread_mutex_unlock(&c->lock);
}

void chardev_free(struct chardev *c)
{
	if (!c) {
		return;
	}
	if (c->out_fd >= 0) {
		flush_last(c);
	}
	watch_update(c, false, false);
	timer_done(&c->work);
	timer_done(&c->due);
	if (c->impl->done) {
		c->impl->done(c);
	}
	if (!c->out_is_in) {
		fd_closep(&c->out_fd);
	}
	fd_closep(&c->in_fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
