/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's bus: finds the device behind a port or a physical address.
 *
 * Look-ups hold no lock during a device's read() or write(). Nothing there:
 * reads give all ones, writes vanish.
 *
 * Ranks: a device's lock may be held while a window is mapped or unmapped (a
 * BAR moves inside a configuration write); the bus takes no device's lock
 * while it holds its own.
 */
#pragma once

#include "dev/dev.h"

struct bus;

int bus_new(struct bus **ret);
void bus_free(struct bus *b); /* NULL is fine; the windows must not be accessed any more */

/*
 * Set up a window of `d` (not mapped yet). Sizes: powers of two up to 8,
 * min <= max, `len` a multiple of min; accesses outside of them are split or
 * widened by the bus (a smaller write becomes a read and a write of `min`).
 */
void dev_window_init(struct dev_window *w, struct dev *d, unsigned id, enum dev_space space,
		     uint64_t len, unsigned min_size, unsigned max_size);
/*
 * Map at `base`. Overlap: the newest mapping wins, as PCI has it. Mapped before: it moves.
 * 0, -ENOMEM, or -EINVAL if the range ends beyond the space.
 */
int bus_map(struct bus *b, struct dev_window *w, uint64_t base);
/*
 * Not mapped: nothing. If the caller holds the device's lock, no access is or comes
 * inside after it returns; without it one may still be on its way out.
 */
void bus_unmap(struct bus *b, struct dev_window *w);
/* Unmap all windows of `d`. */
void bus_unmap_dev(struct bus *b, struct dev *d);

/* An access by a vCPU, any thread, any length; crosses windows safely. */
void bus_read(struct bus *b, enum dev_space space, uint64_t addr, void *buf, unsigned len);
void bus_write(struct bus *b, enum dev_space space, uint64_t addr, const void *buf, unsigned len);
