/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host side of a serial port or console: a byte stream. Implementations:
 * stdio (raw terminal), pty, file, socket, null, memory (tests).
 * Callbacks come on the loop's thread, with no lock held; chardev_write() and
 * chardev_accept() may be called from any thread, all else from the loop's thread or before it
 * runs. The program MUST ignore SIGPIPE.
 */
#pragma once

#include "base/loop.h"

struct chardev;

#define CHARDEV_OUT_BYTES  65536
#define CHARDEV_TAIL_BYTES 4096

struct chardev_client {
	/* How many bytes may be delivered now (0: stop; call chardev_accept() later). */
	size_t (*can_receive)(void *opaque);
	void (*receive)(void *opaque, const uint8_t *buf, size_t len);
	/* Space again after a short chardev_write(). */
	void (*writable)(void *opaque);
};

void chardev_set_client(struct chardev *c, const struct chardev_client *cl, void *opaque);
/*
 * Write; returns how much was taken (0..len), never blocks: up to CHARDEV_OUT_BYTES wait for
 * the loop's thread, which writes all that has come together by then. If the other end
 * is gone, or a pty whose buffer nobody reads is full, output is lost rather than the guest
 * stopped. Output is also kept in the tail.
 */
size_t chardev_write(struct chardev *c, const void *buf, size_t len);
void chardev_accept(struct chardev *c); /* the client can receive again */
/* The last bytes that the guest wrote (for error messages): copies at most `size`. */
size_t chardev_tail(struct chardev *c, char *buf, size_t size);
/* Write out what waits (for a second at most), restore a terminal. NULL is fine. */
void chardev_free(struct chardev *c);

/*
 * stdio: standard input and output, terminal raw while it lives (if it is one);
 * Ctrl-A x calls `quit`, Ctrl-A Ctrl-A sends one Ctrl-A, Ctrl-A h shows help.
 */
int chardev_stdio_new(struct loop *loop, loop_fn *quit, void *opaque, struct chardev **ret);
/* Restore the terminal now, for ways out that free nothing. Async-signal-safe, repeatable. */
void chardev_stdio_restore(void);
/* A new pseudo terminal; its path by chardev_path(). */
int chardev_pty_new(struct loop *loop, struct chardev **ret);
/* fds are taken over; in_fd -1: write only. */
int chardev_fd_new(struct loop *loop, int in_fd, int out_fd, struct chardev **ret);
/* For tests: output is only kept in the tail, input is fed. */
int chardev_memory_new(struct loop *loop, struct chardev **ret);
/* Bytes from outside; the loop delivers them (CHARDEV_OUT_BYTES may wait at the most). */
void chardev_memory_feed(struct chardev *c, const void *buf, size_t len);
/* While set, chardev_write() takes nothing: a reader that is too slow. */
void chardev_memory_block(struct chardev *c, bool blocked);
const char *chardev_path(const struct chardev *c); /* pty: "/dev/pts/N"; others: NULL */
