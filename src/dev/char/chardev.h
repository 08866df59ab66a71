/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host side of a serial port or console: a byte stream. Implementations:
 * stdio (raw terminal), pty, file, socket, null, memory (tests).
 * Callbacks come on the loop's thread; chardev_write() from any thread.
 */
#pragma once

#include "base/loop.h"

struct chardev;

struct chardev_client {
	/* How many bytes may be delivered now (0: stop; call chardev_accept() later). */
	size_t (*can_receive)(void *opaque);
	void (*receive)(void *opaque, const uint8_t *buf, size_t len);
	/* Space again after a short chardev_write(). */
	void (*writable)(void *opaque);
};

void chardev_set_client(struct chardev *c, const struct chardev_client *cl, void *opaque);
/* Write; returns how much was taken (0..len), never blocks. Output is also kept in the tail. */
size_t chardev_write(struct chardev *c, const void *buf, size_t len);
void chardev_accept(struct chardev *c); /* the client can receive again */
/* The last bytes that the guest wrote (for error messages): copies at most `size`. */
size_t chardev_tail(struct chardev *c, char *buf, size_t size);
void chardev_free(struct chardev *c); /* restores a terminal; NULL is fine */

/*
 * stdio: standard input and output, terminal raw while it lives (if it is one);
 * Ctrl-A x calls `quit`, Ctrl-A Ctrl-A sends one Ctrl-A, Ctrl-A h shows help.
 */
int chardev_stdio_new(struct loop *loop, loop_fn *quit, void *opaque, struct chardev **ret);
/* A new pseudo terminal; its path by chardev_path(). */
int chardev_pty_new(struct loop *loop, struct chardev **ret);
int chardev_file_new(struct loop *loop, const char *path, struct chardev **ret);
/* fds are taken over; in_fd -1: write only. */
int chardev_fd_new(struct loop *loop, int in_fd, int out_fd, struct chardev **ret);
int chardev_memory_new(struct loop *loop, struct chardev **ret);
void chardev_memory_feed(struct chardev *c, const void *buf, size_t len);
const char *chardev_path(const struct chardev *c); /* pty: "/dev/pts/N"; others: NULL */
