/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's bus: finds the device behind a port or a physical address.
 *
 * Look-ups take a read lock for the search only, never during a device's
 * read() or write(). Unmapping waits until no access is inside the device
 * (by its lock). Nothing there: reads give all ones, writes vanish.
 */
#pragma once

#include "dev/dev.h"

struct bus;

int bus_new(struct bus **ret);
void bus_free(struct bus *b);

/*
 * Set up a window of `d` (not mapped yet). Sizes: powers of two up to 8,
 * min <= max; accesses outside of them are split or widened by the bus.
 */
void dev_window_init(struct dev_window *w, struct dev *d, unsigned id, enum dev_space space,
		     uint64_t len, unsigned min_size, unsigned max_size);
/* Map at `base`. Overlap: the newest mapping wins, as PCI has it. 0 or -ENOMEM. */
int bus_map(struct bus *b, struct dev_window *w, uint64_t base);
void bus_unmap(struct bus *b, struct dev_window *w); /* not mapped: nothing */

/* An access by a vCPU, any thread, any length up to 8; crosses windows safely. */
void bus_read(struct bus *b, enum dev_space space, uint64_t addr, void *buf, unsigned len);
void bus_write(struct bus *b, enum dev_space space, uint64_t addr, const void *buf, unsigned len);
