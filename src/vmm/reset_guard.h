/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that resets itself without end is broken, and would fill a host's
 * processor and logs.
 */
#pragma once

#include "base/clock.h"

/* More than this many resets in the window trip the guard: no kernel boots in a second. */
#define RESET_GUARD_MAX       10u
#define RESET_GUARD_WINDOW_NS (10 * NS_PER_S)

struct reset_guard {
	ns_t when_ns[RESET_GUARD_MAX]; /* a ring: the last ones */
	unsigned count;
};

/* A reset happens at `now_ns`: is it one too many? Remembers it. */
bool reset_guard_trips(struct reset_guard *g, ns_t now_ns);
