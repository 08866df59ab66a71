/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/clock.h"

#include <stdatomic.h>
#include <time.h>

static ns_t read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

ns_t clock_now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

ns_t clock_read_ns(const struct clock *c)
{
	if (c && c->manual) {
		return atomic_load_explicit(&c->manual_ns, memory_order_relaxed);
	}
	return clock_now_ns();
}

uint64_t clock_wall_ns(void)
{
	return (uint64_t)read_clock(CLOCK_REALTIME);
}

uint64_t clock_cpu_ns(void)
{
	return (uint64_t)read_clock(CLOCK_PROCESS_CPUTIME_ID);
}
