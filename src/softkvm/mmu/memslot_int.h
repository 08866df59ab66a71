/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arrays behind memslot.h, for this folder and its tests.
 */
#pragma once

#include <stdatomic.h>

#include "softkvm/mmu/memslot.h"

struct memslots {
	unsigned count;
	struct memslot **by_id;    /* sorted by id */
	struct memslot **by_gpa;   /* sorted by address */
	_Atomic unsigned last_hit; /* index into by_gpa; a hint */
};

struct memslot *memslots_by_id(const struct memslots *m, uint32_t id);
