/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The I/O loop: one thread waits for descriptors and deadlines and calls back.
 * Devices, block and network back ends live on one; libc only, so that they
 * need no GLib. A manual clock makes it deterministic for tests.
 *
 * Threads: a loop belongs to the thread that calls loop_run()/loop_poll().
 * loop_post(), loop_quit(), timer_arm() and timer_disarm() may be called from
 * any thread; all else only from the owner, or before it runs.
 * Callbacks run on the owner without any lock of the loop held.
 */
#pragma once

#include "base/clock.h"

struct loop;

typedef void loop_fd_fn(void *opaque, uint32_t epoll_events);
typedef void loop_fn(void *opaque);

/* clock NULL: the real one. 0 or -errno; the caller frees with loop_free(). */
int loop_new(struct clock *clock, struct loop **ret);
void loop_free(struct loop *l);           /* NULL is fine; watches and timers must be gone */
struct clock *loop_clock(struct loop *l); /* as given to loop_new; may be NULL */
ns_t loop_now_ns(struct loop *l);

/*
 * Watch `fd` (borrowed; must outlive the watch) for EPOLLIN/EPOLLOUT/… One
 * watch a descriptor. Changing: call again with the same fd. 0 or -errno.
 */
int loop_watch_fd(struct loop *l, int fd, uint32_t epoll_events, loop_fd_fn *fn, void *opaque);
/* Stop watching; after it returns `fn` is not called again. Unknown fd is fine. */
void loop_unwatch_fd(struct loop *l, int fd);

/* Run `fn` once on the owner's thread, in the order of posting. -ENOMEM or 0. */
int loop_post(struct loop *l, loop_fn *fn, void *opaque);

/* Run until loop_quit(). */
void loop_run(struct loop *l);
void loop_quit(struct loop *l);
/*
 * One turn: wait at most `wait_ns` (<0: for ever, 0: not at all) and serve what
 * is due. With a manual clock, time does not pass by itself: the wait is for
 * descriptors only. Returns true if anything was called.
 */
bool loop_poll(struct loop *l, ns_t wait_ns);

/* A one-shot timer, embedded in its user. */
struct timer {
	struct loop *loop;
	loop_fn *fn;
	void *opaque;
	ns_t deadline_ns;    /* absolute, the loop's clock */
	unsigned heap_index; /* 0: not armed */
};
void timer_init(struct timer *t, struct loop *l, loop_fn *fn, void *opaque);
void timer_done(struct timer *t); /* disarms; owner's thread */
/* Fire once at `deadline_ns` or soon after; re-arming moves it. Never fails. */
void timer_arm(struct timer *t, ns_t deadline_ns);
void timer_disarm(struct timer *t);
bool timer_armed(const struct timer *t);
