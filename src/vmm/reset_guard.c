/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/reset_guard.h"

bool reset_guard_trips(struct reset_guard *g, ns_t now_ns)
{
	unsigned slot = g->count % RESET_GUARD_MAX;
	bool storm =
		g->count >= RESET_GUARD_MAX && now_ns - g->when_ns[slot] < RESET_GUARD_WINDOW_NS;

	g->when_ns[slot] = now_ns;
	g->count++;
	return storm;
}
