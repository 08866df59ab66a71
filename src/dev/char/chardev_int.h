/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside char/: the common part of chardevs and what an implementation gives. */
#pragma once

#include <pthread.h>

#include "dev/char/chardev.h"

struct chardev_impl {
	/*
	 * Input as it came in; may be changed in place, returns how much is for the client.
	 * Absent: all of it. Loop's thread.
	 */
	size_t (*filter)(struct chardev *c, uint8_t *buf, size_t len);
	/* Free what the implementation holds (the common part is freed after it). */
	void (*done)(struct chardev *c);
};

struct chardev {
	const struct chardev_impl *impl;
	struct loop *loop;
	struct timer work; /* armed from any thread: flush output, resume input */
	struct timer due;  /* armed from any thread: flush output */
	const struct chardev_client *client;
	void *client_opaque;
	/* -1: none. Owned. */
	int in_fd, out_fd;
	bool in_watched, in_plain; /* plain: a file, which epoll does not watch */
	bool in_ended;
	bool out_watched, out_plain;
	bool out_is_in; /* one descriptor for both, one watch */
	bool out_is_socket;
	bool lossy; /* a full buffer drops its oldest bytes */

	pthread_mutex_t lock; /* of what follows */
	uint8_t out[CHARDEV_OUT_BYTES];
	size_t out_start, out_len;
	ns_t flushed_ns; /* when something was written last */
	bool out_dead;   /* other end gone: output is only kept in the tail */
	bool want_space; /* the client had a short write */
	bool blocked;    /* memory: take nothing */
	char tail[CHARDEV_TAIL_BYTES];
	uint64_t tail_total; /* bytes ever written */
};

/* Set up the common part; the descriptors are taken over at once, also on failure. */
int chardev_init(struct chardev *c, const struct chardev_impl *impl, struct loop *loop, int in_fd,
		 int out_fd);
/* Deliver input that did not come from a descriptor; returns how much the client took. */
size_t chardev_deliver(struct chardev *c, const uint8_t *buf, size_t len);
/* Let the loop's thread look after the chardev soon. Any thread. */
void chardev_kick(struct chardev *c);
