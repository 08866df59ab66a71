/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two ends, back to back. Each end has queues of frames for it, what is sent on
 * queue n comes out of queue n; a full one makes the other's send say -EAGAIN.
 * Callbacks come from the loop, woken by an eventfd of each end, never from
 * within send or receive.
 */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "netio/netio_int.h"

#define QUEUE_BYTES     MIB(1)
#define PAIR_QUEUES_MAX 4

struct pair_end {
	struct netio n;
	struct pair_end *other; /* NULL: it is gone */
	struct netio_queue queues[PAIR_QUEUES_MAX];
	int wake_fd;
	bool readable_due, writable_due;
	bool told;    /* readable() was called, receive has not yet said -EAGAIN */
	bool blocked; /* our send said -EAGAIN */
};

static struct pair_end *from_netio(struct netio *n)
{
	return container_of(n, struct pair_end, n);
}

static void wake(struct pair_end *e)
{
	uint64_t one = 1;

	(void)!write(e->wake_fd, &one, sizeof(one));
}

static void woken(void *opaque, uint32_t events)
{
	struct pair_end *e = opaque;
	uint64_t counter;

	(void)!read(e->wake_fd, &counter, sizeof(counter));
	if (e->readable_due) {
		e->readable_due = false;
		e->told = true;
		netio_tell_readable(&e->n);
	}
	if (e->writable_due) {
		e->writable_due = false;
		netio_tell_writable(&e->n);
	}
}

static ssize_t pair_send(struct netio *n, unsigned queue, const struct iovec *iov, unsigned count)
{
	struct pair_end *e = from_netio(n), *o = e->other;
	size_t len = 0;

	for (unsigned i = 0; i < count; i++) {
		len += iov[i].iov_len;
	}
	if (len < NETIO_HDR_BYTES || len > NETIO_FRAME_MAX) {
		return -EMSGSIZE;
	}
	if (!o) {
		return (ssize_t)len;
	}
	if (!netio_queue_put(&o->queues[queue % n->queues], iov, count)) {
		e->blocked = true;
		return -EAGAIN;
	}
	if (!o->told && !o->readable_due) {
		o->readable_due = true;
		wake(o);
	}
	return (ssize_t)len;
}

static ssize_t pair_receive(struct netio *n, unsigned queue, const struct iovec *iov,
			    unsigned count)
{
	struct pair_end *e = from_netio(n), *o = e->other;
	ssize_t r = netio_queue_get(&e->queues[queue % n->queues], iov, count);

	if (r == -EAGAIN) {
		e->told = false;
	}
	if (r != -EAGAIN && o && o->blocked) {
		o->blocked = false;
		o->writable_due = true;
		wake(o);
	}
	return r;
}

static void pair_free(struct netio *n)
{
	struct pair_end *e = from_netio(n);

	if (e->other) {
		e->other->other = NULL;
	}
	if (e->wake_fd >= 0) {
		loop_unwatch_fd(n->loop, e->wake_fd);
	}
	fd_closep(&e->wake_fd);
	for (unsigned i = 0; i < n->queues; i++) {
		netio_queue_done(&e->queues[i]);
	}
	free(e);
}

static const struct netio_class pair_class = {
	.send = pair_send,
	.receive = pair_receive,
	.free = pair_free,
};

static int end_new(struct loop *loop, unsigned queues, struct pair_end **ret)
{
	struct pair_end *e = calloc(1, sizeof(*e));
	int r;

	if (!e) {
		return -ENOMEM;
	}
	e->n = (struct netio){
		.cls = &pair_class, .loop = loop, .queues = queues, .link_up = true
	};
	e->n.offloads =
		NETIO_OFFLOAD_CSUM | NETIO_OFFLOAD_TSO4 | NETIO_OFFLOAD_TSO6 | NETIO_OFFLOAD_ECN;
	e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = e->wake_fd < 0 ? -errno : loop_watch_fd(loop, e->wake_fd, EPOLLIN, woken, e);
	for (unsigned i = 0; i < queues && !r; i++) {
		r = netio_queue_init(&e->queues[i], QUEUE_BYTES);
	}
	if (r < 0) {
		pair_free(&e->n);
		return r;
	}
	*ret = e;
	return 0;
}

int netio_pair_new_queues(struct loop *loop, unsigned queues, struct netio **ret_a,
			  struct netio **ret_b)
{
	struct pair_end *a, *b;
	int r = queues && queues <= PAIR_QUEUES_MAX ? end_new(loop, queues, &a) : -EINVAL;

	if (r < 0) {
		return r;
	}
	r = end_new(loop, queues, &b);
	if (r < 0) {
		pair_free(&a->n);
		return r;
	}
	a->other = b;
	b->other = a;
	*ret_a = &a->n;
	*ret_b = &b->n;
	return 0;
}

int netio_pair_new(struct loop *loop, struct netio **ret_a, struct netio **ret_b)
{
	return netio_pair_new_queues(loop, 1, ret_a, ret_b);
}
