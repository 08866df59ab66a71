/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * One epoll descriptor holds the watches, an eventfd that wakes the owner, and
 * nothing else; deadlines are a binary heap whose head bounds the wait.
 * Watches are kept in an array indexed by descriptor, with a serial number, so
 * that an event of a descriptor that was closed and reused within one batch is
 * recognised as stale.
 *
 * Invariants
 *  1. `lock` guards heap, posts and `quit`; watches belong to the owner alone.
 *  2. No callback is called with `lock` held.
 *  3. timers[0] is unused; timers[i].heap_index == i for each armed timer.
 *  4. Whoever changes the head of the heap or adds a post from another thread
 *     writes the eventfd, so the owner never sleeps past it.
 */
#include "base/loop.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/assert.h"

#define EVENTS_PER_TURN 32

struct watch {
	loop_fd_fn *fn; /* NULL: none */
	void *opaque;
	uint32_t serial;
};

struct post {
	loop_fn *fn;
	void *opaque;
};

struct loop {
	struct clock *clock;
	int epoll_fd, wake_fd;
	struct watch *watches; /* by descriptor */
	size_t watch_count;
	uint32_t next_serial;

	pthread_mutex_t lock;
	struct timer **heap;
	unsigned heap_len, heap_cap;
	struct post *posts;
	size_t post_len, post_cap;
	bool quit;
};

int loop_new(struct clock *clock, struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 0 };
	int r;

	if (!l) {
		return -ENOMEM;
	}
	l->clock = clock;
	pthread_mutex_init(&l->lock, NULL);
	l->next_serial = 1;
	l->wake_fd = -1;
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd >= 0) {
		l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	if (l->wake_fd < 0 || epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->wake_fd, &ev) < 0) {
		r = -errno;
		loop_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l) {
		return;
	}
	fd_closep(&l->epoll_fd);
	fd_closep(&l->wake_fd);
	pthread_mutex_destroy(&l->lock);
	free(l->watches);
	free(l->heap);
	free(l->posts);
	free(l);
}

struct clock *loop_clock(struct loop *l)
{
	return l->clock;
}

ns_t loop_now_ns(struct loop *l)
{
	return clock_read_ns(l->clock);
}

static void wake(struct loop *l)
{
	uint64_t one = 1;

	/* A full counter means that the owner is awake already. */
	(void)!write(l->wake_fd, &one, sizeof(one));
}

static int grow_watches(struct loop *l, int fd)
{
	size_t want = l->watch_count ? l->watch_count : 64;
	struct watch *w;

	while (want <= (size_t)fd) {
		want *= 2;
	}
	w = realloc(l->watches, want * sizeof(*w));
	if (!w) {
		return -ENOMEM;
	}
	memset(w + l->watch_count, 0, (want - l->watch_count) * sizeof(*w));
	l->watches = w;
	l->watch_count = want;
	return 0;
}

int loop_watch_fd(struct loop *l, int fd, uint32_t epoll_events, loop_fd_fn *fn, void *opaque)
{
	struct epoll_event ev = { .events = epoll_events };
	struct watch *w;
	int r, op;

	if (fd < 0 || !fn) {
		return -EINVAL;
	}
	if ((size_t)fd >= l->watch_count) {
		r = grow_watches(l, fd);
		if (r < 0) {
			return r;
		}
	}
	w = &l->watches[fd];
	op = w->fn ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	ev.data.u64 = (uint64_t)l->next_serial << 32 | (uint32_t)fd;
	if (epoll_ctl(l->epoll_fd, op, fd, &ev) < 0) {
		return -errno;
	}
	w->fn = fn;
	w->opaque = opaque;
	w->serial = l->next_serial++;
	if (!l->next_serial) {
		l->next_serial = 1;
	}
	return 0;
}

void loop_unwatch_fd(struct loop *l, int fd)
{
	if (fd < 0 || (size_t)fd >= l->watch_count || !l->watches[fd].fn) {
		return;
	}
	epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	l->watches[fd] = (struct watch){ 0 };
}

int loop_post(struct loop *l, loop_fn *fn, void *opaque)
{
	int r = 0;

	pthread_mutex_lock(&l->lock);
	if (l->post_len == l->post_cap) {
		size_t cap = l->post_cap ? l->post_cap * 2 : 16;
		struct post *p = realloc(l->posts, cap * sizeof(*p));

		if (p) {
			l->posts = p;
			l->post_cap = cap;
		} else {
			r = -ENOMEM;
		}
	}
	if (!r) {
		l->posts[l->post_len++] = (struct post){ fn, opaque };
	}
	pthread_mutex_unlock(&l->lock);
	wake(l);
	return r;
}

void loop_quit(struct loop *l)
{
	pthread_mutex_lock(&l->lock);
	l->quit = true;
	pthread_mutex_unlock(&l->lock);
	wake(l);
}

/* --- the heap of timers -------------------------------------------------- */

static void heap_put_locked(struct loop *l, unsigned i, struct timer *t)
{
	l->heap[i] = t;
	t->heap_index = i;
}

static void sift_up_locked(struct loop *l, unsigned i, struct timer *t)
{
	while (i > 1 && l->heap[i / 2]->deadline_ns > t->deadline_ns) {
		heap_put_locked(l, i, l->heap[i / 2]);
		i /= 2;
	}
	heap_put_locked(l, i, t);
}

static void sift_down_locked(struct loop *l, unsigned i, struct timer *t)
{
	for (;;) {
		unsigned child = i * 2;

		if (child > l->heap_len) {
			break;
		}
		if (child < l->heap_len &&
		    l->heap[child + 1]->deadline_ns < l->heap[child]->deadline_ns) {
			child++;
		}
		if (l->heap[child]->deadline_ns >= t->deadline_ns) {
			break;
		}
		heap_put_locked(l, i, l->heap[child]);
		i = child;
	}
	heap_put_locked(l, i, t);
}

static void heap_remove_locked(struct loop *l, struct timer *t)
{
	unsigned i = t->heap_index;
	struct timer *last;

	if (!i) {
		return;
	}
	t->heap_index = 0;
	last = l->heap[l->heap_len--];
	if (last == t) {
		return;
	}
	if (i > 1 && l->heap[i / 2]->deadline_ns > last->deadline_ns) {
		sift_up_locked(l, i, last);
	} else {
		sift_down_locked(l, i, last);
	}
}

/* Room for one timer more; there are few, so a refusal of memory is our end. */
static void heap_reserve_locked(struct loop *l)
{
	if (l->heap_len + 2 > l->heap_cap) {
		unsigned cap = l->heap_cap ? l->heap_cap * 2 : 32;
		struct timer **h = realloc(l->heap, cap * sizeof(struct timer *));

		ASSERT(h);
		l->heap = h;
		l->heap_cap = cap;
	}
}

void timer_init(struct timer *t, struct loop *l, loop_fn *fn, void *opaque)
{
	*t = (struct timer){ .loop = l, .fn = fn, .opaque = opaque };
}

void timer_done(struct timer *t)
{
	if (t->loop) {
		timer_disarm(t);
	}
}

void timer_arm(struct timer *t, ns_t deadline_ns)
{
	struct loop *l = t->loop;
	bool is_head;

	pthread_mutex_lock(&l->lock);
	heap_remove_locked(l, t);
	heap_reserve_locked(l);
	t->deadline_ns = deadline_ns;
	sift_up_locked(l, ++l->heap_len, t);
	is_head = t->heap_index == 1;
	pthread_mutex_unlock(&l->lock);
	if (is_head) {
		wake(l);
	}
}

void timer_disarm(struct timer *t)
{
	pthread_mutex_lock(&t->loop->lock);
	heap_remove_locked(t->loop, t);
	pthread_mutex_unlock(&t->loop->lock);
}

bool timer_armed(const struct timer *t)
{
	bool armed;

	pthread_mutex_lock(&t->loop->lock);
	armed = t->heap_index != 0;
	pthread_mutex_unlock(&t->loop->lock);
	return armed;
}

/* --- a turn ----------------------------------------------------------------- */

static struct timer *take_due_timer(struct loop *l)
{
	struct timer *t = NULL;
	ns_t now = loop_now_ns(l);

	pthread_mutex_lock(&l->lock);
	if (l->heap_len && l->heap[1]->deadline_ns <= now) {
		t = l->heap[1];
		heap_remove_locked(l, t);
	}
	pthread_mutex_unlock(&l->lock);
	return t;
}

static bool run_timers(struct loop *l)
{
	bool any = false;
	struct timer *t;

	while ((t = take_due_timer(l))) {
		t->fn(t->opaque);
		any = true;
	}
	return any;
}

static bool run_posts(struct loop *l)
{
	struct post *posts;
	size_t len;

	pthread_mutex_lock(&l->lock);
	posts = l->posts;
	len = l->post_len;
	l->posts = NULL;
	l->post_len = l->post_cap = 0;
	pthread_mutex_unlock(&l->lock);
	for (size_t i = 0; i < len; i++) {
		posts[i].fn(posts[i].opaque);
	}
	free(posts);
	return len > 0;
}

/* How long to wait for descriptors: the caller's bound, cut by the first deadline. */
static ns_t wait_bound(struct loop *l, ns_t wait_ns)
{
	ns_t left;

	pthread_mutex_lock(&l->lock);
	if (l->post_len || l->quit) {
		wait_ns = 0;
	} else if (l->heap_len) {
		left = l->heap[1]->deadline_ns - loop_now_ns(l);
		left = MAX(left, 0);
		/* A manual clock does not move while we sleep. */
		if (l->clock && l->clock->manual && left > 0) {
			left = wait_ns;
		}
		if (wait_ns < 0 || left < wait_ns) {
			wait_ns = left;
		}
	}
	pthread_mutex_unlock(&l->lock);
	return wait_ns;
}

static bool serve_event(struct loop *l, const struct epoll_event *ev)
{
	int fd = (int)(uint32_t)ev->data.u64;
	uint32_t serial = (uint32_t)(ev->data.u64 >> 32);
	uint64_t counter;

	if (!serial) {
		(void)!read(l->wake_fd, &counter, sizeof(counter));
		return false;
	}
	if ((size_t)fd >= l->watch_count || l->watches[fd].serial != serial || !l->watches[fd].fn) {
		return false;
	}
	l->watches[fd].fn(l->watches[fd].opaque, ev->events);
	return true;
}

bool loop_poll(struct loop *l, ns_t wait_ns)
{
	struct epoll_event events[EVENTS_PER_TURN];
	struct timespec ts, *tsp = NULL;
	bool any = false;
	int n;

	wait_ns = wait_bound(l, wait_ns);
	if (wait_ns >= 0) {
		ts = (struct timespec){ wait_ns / NS_PER_S, wait_ns % NS_PER_S };
		tsp = &ts;
	}
	n = epoll_pwait2(l->epoll_fd, events, EVENTS_PER_TURN, tsp, NULL);
	for (int i = 0; i < n; i++) {
		any |= serve_event(l, &events[i]);
	}
	any |= run_timers(l);
	any |= run_posts(l);
	return any;
}

void loop_run(struct loop *l)
{
	bool quit;

	do {
		loop_poll(l, -1);
		pthread_mutex_lock(&l->lock);
		quit = l->quit;
		pthread_mutex_unlock(&l->lock);
	} while (!quit);
	pthread_mutex_lock(&l->lock);
	l->quit = false;
	pthread_mutex_unlock(&l->lock);
}
