/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/loop.h"
#include "base/test.h"

struct trace {
	int order[64];
	int count;
};

struct step {
	struct timer timer;
	struct trace *trace;
	int id;
};

static void fired(void *opaque)
{
	struct step *s = opaque;

	s->trace->order[s->trace->count++] = s->id;
}

static void test_timers_fire_in_order(struct test *t)
{
	struct clock clock = { .manual = true };
	struct trace trace = { 0 };
	struct step steps[32];
	struct loop *l;

	CHECK(t, loop_new(&clock, &l) == 0);
	for (int i = 0; i < 32; i++) {
		steps[i] = (struct step){ .trace = &trace, .id = (i * 7) % 32 };
		timer_init(&steps[i].timer, l, fired, &steps[i]);
		timer_arm(&steps[i].timer, 100 + steps[i].id);
	}
	timer_disarm(&steps[0].timer); /* id 0 */
	CHECK(t, !loop_poll(l, 0));
	clock.manual_ns = 1000;
	loop_poll(l, 0);
	CHECK_EQ(t, trace.count, 31);
	for (int i = 0; i < 31; i++) {
		CHECK_EQ(t, trace.order[i], i + 1);
	}
	CHECK(t, !timer_armed(&steps[3].timer));
	loop_free(l);
}

static void count_event(void *opaque, uint32_t events)
{
	if (events & EPOLLIN) {
		(*(int *)opaque)++;
	}
}

static void test_descriptors(struct test *t)
{
	int fd = eventfd(1, EFD_CLOEXEC), hits = 0;
	struct loop *l;

	CHECK(t, loop_new(NULL, &l) == 0);
	CHECK(t, loop_watch_fd(l, fd, EPOLLIN, count_event, &hits) == 0);
	CHECK(t, loop_poll(l, 0));
	CHECK_EQ(t, hits, 1);
	loop_unwatch_fd(l, fd);
	CHECK(t, !loop_poll(l, 0));
	CHECK_EQ(t, hits, 1);
	CHECK(t, loop_watch_fd(l, -1, EPOLLIN, count_event, &hits) == -EINVAL);
	close(fd);
	loop_free(l);
}

static void stop(void *opaque)
{
	loop_quit(opaque);
}

static void *post_from_thread(void *opaque)
{
	loop_post(opaque, stop, opaque);
	return NULL;
}

static void test_post_wakes_the_loop(struct test *t)
{
	struct loop *l;
	pthread_t thread;

	CHECK(t, loop_new(NULL, &l) == 0);
	pthread_create(&thread, NULL, post_from_thread, l);
	loop_run(l);
	pthread_join(thread, NULL);
	loop_free(l);
}

static const struct test_case cases[] = {
	{ "timers fire in order", test_timers_fire_in_order },
	{ "descriptors", test_descriptors },
	{ "post wakes the loop", test_post_wakes_the_loop },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
