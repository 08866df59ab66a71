/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * struct memslots holds two arrays of pointers to slots: by address (for lookups) and by id
 * (for changes), both sorted and without gaps. They are built anew for each change and swapped
 * while every vCPU stands still; nobody else reads them without vm->lock, so the old ones are
 * freed at once. A slot itself is replaced, not changed, with one exception: bits of its dirty
 * log are set and cleared by atomic operations.
 *
 * Invariants
 *  1. Slots by address do not overlap; both arrays hold the same slots.
 *  2. No vCPU holds a host address taken from a slot over a boundary at which it may pause,
 *     but in its TLB, which is flushed after every swap and every clearing of dirty bits.
 */
#include "softkvm/mmu/memslot.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "softkvm/cpu/run.h"
#include "softkvm/jit/jit.h"
#include "softkvm/mmu/memslot_int.h"
#include "softkvm/vm.h"

#define MEM_FLAGS_VALID (KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)
#define MEM_PAGES_MAX   ((1ull << 31) - 1) /* KVM_MEM_MAX_NR_PAGES */
#define GPA_LIMIT       BIT64(52)
#define USER_LIMIT      (BIT64(47) - 4096) /* user addresses end here without LA57 */

enum change { CHANGE_CREATE, CHANGE_DELETE, CHANGE_MOVE, CHANGE_FLAGS, CHANGE_NONE };

int memslots_init(struct vm *vm)
{
	vm->slots = calloc(1, sizeof(*vm->slots));
	return vm->slots ? 0 : -ENOMEM;
}

static void slot_free(struct memslot *s)
{
	if (s) {
		free((void *)s->dirty);
		free(s);
	}
}

void memslots_done(struct vm *vm)
{
	struct memslots *m = vm->slots;

	if (!m) {
		return;
	}
	for (unsigned i = 0; i < m->count; i++) {
		slot_free(m->by_id[i]);
	}
	free(m->by_id);
	free(m->by_gpa);
	free(m);
	vm->slots = NULL;
}

/* The first slot whose id is at least `id`. */
static unsigned id_position(const struct memslots *m, uint32_t id)
{
	unsigned lo = 0, hi = m->count;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (m->by_id[mid]->id < id) {
			lo = mid + 1;
		} else {
			hi = mid;
		}
	}
	return lo;
}

struct memslot *memslots_by_id(const struct memslots *m, uint32_t id)
{
	unsigned i = id_position(m, id);

	return i < m->count && m->by_id[i]->id == id ? m->by_id[i] : NULL;
}

/* How many slots start at or below `gpa`. */
static unsigned gpa_position(const struct memslots *m, gpa_t gpa)
{
	unsigned lo = 0, hi = m->count;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (m->by_gpa[mid]->gpa <= gpa) {
			lo = mid + 1;
		} else {
			hi = mid;
		}
	}
	return lo;
}

static bool slot_has(const struct memslot *s, gpa_t gpa)
{
	return gpa - s->gpa < s->size_bytes;
}

struct memslot *memslots_find(struct vm *vm, gpa_t gpa)
{
	struct memslots *m = vm->slots;
	unsigned i = atomic_load_explicit(&m->last_hit, memory_order_relaxed);

	if (likely(i < m->count && slot_has(m->by_gpa[i], gpa))) {
		return m->by_gpa[i];
	}
	i = gpa_position(m, gpa);
	if (i == 0 || !slot_has(m->by_gpa[i - 1], gpa)) {
		return NULL;
	}
	atomic_store_explicit(&m->last_hit, i - 1, memory_order_relaxed);
	return m->by_gpa[i - 1];
}

/* --- changes ----------------------------------------------------------------------------- */

static int region_check(const struct kvm_userspace_memory_region *r)
{
	uint64_t end;

	if (r->flags & ~MEM_FLAGS_VALID) {
		return -EINVAL;
	}
	if (((r->memory_size | r->guest_phys_addr | r->userspace_addr) & 4095) != 0) {
		return -EINVAL;
	}
	if (!range_end(r->userspace_addr, r->memory_size, &end) || end > USER_LIMIT) {
		return -EINVAL;
	}
	if (r->slot >> 16 || r->slot >= MEMSLOTS_MAX) { /* one address space: no SMM */
		return -EINVAL;
	}
	if (!range_end(r->guest_phys_addr, r->memory_size, &end) ||
	    r->memory_size >> 12 > MEM_PAGES_MAX) {
		return -EINVAL;
	}
	return 0;
}

/* What the request asks of `old` (NULL: no such slot): an enum change or -EINVAL. */
static int region_change(const struct memslot *old, const struct kvm_userspace_memory_region *r)
{
	if (r->memory_size == 0) {
		return old ? CHANGE_DELETE : -EINVAL;
	}
	if (!old) {
		return CHANGE_CREATE;
	}
	if ((uint8_t *)(uintptr_t)r->userspace_addr != old->host ||
	    r->memory_size != old->size_bytes || ((r->flags ^ old->flags) & KVM_MEM_READONLY)) {
		return -EINVAL;
	}
	if (r->guest_phys_addr != old->gpa) {
		return CHANGE_MOVE;
	}
	return r->flags != old->flags ? CHANGE_FLAGS : CHANGE_NONE;
}

/* Would [gpa, gpa+size) touch a slot other than `self`? */
static bool region_overlaps(const struct memslots *m, gpa_t gpa, uint64_t size,
			    const struct memslot *self)
{
	unsigned end = gpa_position(m, gpa + size - 1);

	/* Only `self` may lie between the last slot that starts in reach and the next before it. */
	for (unsigned i = end; i > 0; i--) {
		const struct memslot *s = m->by_gpa[i - 1];

		if (s != self) {
			return s->gpa + s->size_bytes > gpa;
		}
	}
	return false;
}

static uint64_t slot_bitmap_words(const struct memslot *s)
{
	return ((s->size_bytes >> 12) + 63) / 64;
}

/* The successor of `old` (or a new slot): its dirty log is made, or taken over at the commit. */
static struct memslot *slot_make(struct vm *vm, const struct memslot *old,
				 const struct kvm_userspace_memory_region *r)
{
	struct memslot *s = calloc(1, sizeof(*s));

	if (!s) {
		return NULL;
	}
	s->gpa = r->guest_phys_addr;
	s->size_bytes = r->memory_size;
	s->host = (uint8_t *)(uintptr_t)r->userspace_addr;
	s->id = r->slot;
	s->flags = r->flags;
	if ((r->flags & KVM_MEM_LOG_DIRTY_PAGES) && !(old && old->dirty)) {
		uint64_t words = slot_bitmap_words(s);

		s->dirty = calloc(words, sizeof(*s->dirty));
		if (!s->dirty) {
			free(s);
			return NULL;
		}
		if (vm->cap.manual_dirty_flags & KVM_DIRTY_LOG_INITIALLY_SET) {
			memset((void *)s->dirty, 0xff, words * sizeof(*s->dirty));
		}
	}
	return s;
}

/* Copy `src` without `old` and with `new` before the first that `after` says comes behind it. */
static unsigned array_replace(struct memslot **dst, struct memslot *const *src, unsigned count,
			      const struct memslot *old, struct memslot *new, bool by_gpa)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++) {
		if (src[i] == old) {
			continue;
		}
		if (new && (by_gpa ? src[i]->gpa > new->gpa : src[i]->id > new->id)) {
			dst[n++] = new;
			new = NULL;
		}
		dst[n++] = src[i];
	}
	if (new) {
		dst[n++] = new;
	}
	return n;
}

/* Swap `old` for `new` (either may be NULL) while nobody looks. */
static int slots_commit(struct vm *vm, struct memslot *old, struct memslot *new)
{
	struct memslots *m = vm->slots;
	struct memslot **by_id = calloc(m->count + 1, sizeof(*by_id));
	struct memslot **by_gpa = calloc(m->count + 1, sizeof(*by_gpa));
	unsigned n;

	if (!by_id || !by_gpa) {
		free(by_id);
		free(by_gpa);
		return -ENOMEM;
	}
	n = array_replace(by_id, m->by_id, m->count, old, new, false);
	array_replace(by_gpa, m->by_gpa, m->count, old, new, true);
	vm_pause_vcpus(vm);
	if (old && new && (new->flags &KVM_MEM_LOG_DIRTY_PAGES) && old->dirty) {
		new->dirty = old->dirty;
		old->dirty = NULL;
	}
	free(m->by_id);
	free(m->by_gpa);
	m->by_id = by_id;
	m->by_gpa = by_gpa;
	m->count = n;
	vm_flush_tlbs(vm);
	jit_flush(vm);
	vm_resume_vcpus(vm);
	slot_free(old);
	return 0;
}

int memslots_set(struct vm *vm, const struct kvm_userspace_memory_region *r)
{
	struct memslots *m = vm->slots;
	struct memslot *old, *new = NULL;
	int change, rc = region_check(r);

	if (rc != 0) {
		return rc;
	}
	old = memslots_by_id(m, r->slot);
	change = region_change(old, r);
	if (change < 0 || change == CHANGE_NONE) {
		return change < 0 ? change : 0;
	}
	if (change == CHANGE_CREATE || change == CHANGE_MOVE) {
		if (region_overlaps(m, r->guest_phys_addr, r->memory_size, old)) {
			return -EEXIST;
		}
		if (r->guest_phys_addr + r->memory_size > GPA_LIMIT) {
			return -EINVAL;
		}
	}
	if (change != CHANGE_DELETE) {
		new = slot_make(vm, old, r);
		if (!new) {
			return -ENOMEM;
		}
	}
	rc = slots_commit(vm, old, new);
	if (rc != 0) {
		slot_free(new);
	}
	return rc;
}
