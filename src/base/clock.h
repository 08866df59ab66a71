/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one clock. Code that tests want to steer takes a `struct clock *`;
 * everything else calls clock_now_ns().
 */
#pragma once

#include "base/util.h"

#define NS_PER_S  1000000000ll
#define NS_PER_MS 1000000ll
#define NS_PER_US 1000ll

/*
 * A time source. `now` NULL means CLOCK_MONOTONIC; tests set `manual` and move
 * `manual_ns` by hand. Read from any thread; moved only by the test's thread.
 */
struct clock {
	bool manual;
	_Atomic ns_t manual_ns;
};

ns_t clock_now_ns(void);                   /* CLOCK_MONOTONIC */
ns_t clock_read_ns(const struct clock *c); /* c NULL: CLOCK_MONOTONIC */
uint64_t clock_wall_ns(void);              /* CLOCK_REALTIME since the epoch */
uint64_t clock_cpu_ns(void);               /* CPU time of this process */
