/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty logs (KVM API 4.8, 4.117) and copies to and from guest-physical memory.
 *
 * A page's bit is set before it is written: when a vCPU gets a TLB entry that may write, or at
 * each access of the VM's own parts. Clearing bits stops the vCPUs and flushes their TLBs, so
 * that the next write sets the bit again.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "softkvm/api/uaccess.h"
#include "softkvm/cpu/run.h"
#include "softkvm/mmu/memslot_int.h"
#include "softkvm/jit/jit.h"
#include "softkvm/mmu/mmu_int.h"
#include "softkvm/vm.h"

#define CLEAR_PIECE_WORDS 512 /* of the caller's bitmap, copied at a time */

void memslot_mark_dirty(struct memslot *slot, gpa_t gpa, uint64_t len)
{
	uint64_t first = (gpa - slot->gpa) >> 12, last = (gpa + len - 1 - slot->gpa) >> 12;

	if (!slot->dirty) {
		return;
	}
	for (uint64_t p = first; p <= last; p++) {
		uint64_t bit = BIT64(p & 63);
		_Atomic uint64_t *w = &slot->dirty[p >> 6];

		if (!(atomic_load_explicit(w, memory_order_relaxed) & bit)) {
			atomic_fetch_or(w, bit);
		}
	}
}

static struct memslot *log_slot(struct vm *vm, uint32_t id, int *ret_error)
{
	struct memslot *s;

	*ret_error = -EINVAL;
	if (id >= MEMSLOTS_MAX) {
		return NULL;
	}
	*ret_error = -ENOENT;
	s = memslots_by_id(vm->slots, id);
	return s && s->dirty ? s : NULL;
}

static bool manual_protect(const struct vm *vm)
{
	return (vm->cap.manual_dirty_flags & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) != 0;
}

/* A copy of the log, which is emptied if `take`. NULL: no memory. */
static uint64_t *log_snapshot(struct vm *vm, struct memslot *s, uint64_t words, bool take)
{
	uint64_t *copy = malloc(words * sizeof(*copy));

	if (!copy) {
		return NULL;
	}
	vm_pause_vcpus(vm);
	for (uint64_t i = 0; i < words; i++) {
		copy[i] = take ? atomic_exchange(&s->dirty[i], 0) : atomic_load(&s->dirty[i]);
	}
	if (take) {
		vm_flush_tlbs(vm);
	}
	vm_resume_vcpus(vm);
	return copy;
}

int memslots_get_dirty_log(struct vm *vm, struct kvm_dirty_log *log)
{
	int rc;
	struct memslot *s = log_slot(vm, log->slot, &rc);
	uint64_t pages, words;
	uint64_t *copy;

	if (!s) {
		return rc;
	}
	pages = s->size_bytes >> 12;
	words = (pages + 63) / 64;
	copy = log_snapshot(vm, s, words, !manual_protect(vm));
	if (!copy) {
		return -ENOMEM;
	}
	if (pages % 64 != 0) {
		copy[words - 1] &= BIT64(pages % 64) - 1;
	}
	rc = user_write((uintptr_t)log->dirty_bitmap, copy, words * sizeof(*copy));
	free(copy);
	return rc;
}

/* The range's rules: 64-page steps, except that the last step may end with the slot. */
static bool clear_range_ok(const struct kvm_clear_dirty_log *log, uint64_t pages)
{
	if (log->first_page % 64 != 0 || log->first_page > pages ||
	    log->num_pages > pages - log->first_page) {
		return false;
	}
	return log->num_pages == pages - log->first_page || log->num_pages % 64 == 0;
}

int memslots_clear_dirty_log(struct vm *vm, struct kvm_clear_dirty_log *log)
{
	uint64_t buf[CLEAR_PIECE_WORDS];
	uint64_t words, done = 0;
	int rc;
	struct memslot *s;

	if (!manual_protect(vm)) {
		return -ENXIO;
	}
	s = log_slot(vm, log->slot, &rc);
	if (!s) {
		return rc;
	}
	if (!clear_range_ok(log, s->size_bytes >> 12)) {
		return -EINVAL;
	}
	words = ((uint64_t)log->num_pages + 63) / 64;
	rc = 0;
	vm_pause_vcpus(vm);
	while (done < words && rc == 0) {
		uint64_t n = MIN(words - done, (uint64_t)CLEAR_PIECE_WORDS);

		rc = user_read(buf, (uintptr_t)log->dirty_bitmap + done * 8, n * 8);
		for (uint64_t i = 0; rc == 0 && i < n; i++) {
			atomic_fetch_and(&s->dirty[log->first_page / 64 + done + i], ~buf[i]);
		}
		done += n;
	}
	vm_flush_tlbs(vm);
	vm_resume_vcpus(vm);
	return rc;
}

/* --- copies ------------------------------------------------------------------------------- */

/* Host address of `gpa` and how many bytes of `len` lie there; NULL: not RAM. */
static uint8_t *phys_piece(struct vm *vm, gpa_t gpa, size_t len, bool write, size_t *ret_len)
{
	struct memslot *s = memslots_find(vm, gpa);

	if (!s || (write && (s->flags & KVM_MEM_READONLY))) {
		return NULL;
	}
	*ret_len = MIN(len, s->gpa + s->size_bytes - gpa);
	if (write) {
		memslot_mark_dirty(s, gpa, *ret_len);
	}
	return s->host + (gpa - s->gpa);
}

int vm_read_phys(struct vm *vm, gpa_t gpa, void *buf, size_t len)
{
	uint8_t *out = buf;

	while (len > 0) {
		size_t n;
		const uint8_t *p = phys_piece(vm, gpa, len, false, &n);

		if (!p) {
			return -EFAULT;
		}
		memcpy(out, p, n);
		out += n;
		gpa += n;
		len -= n;
	}
	return 0;
}

int vm_write_phys(struct vm *vm, struct vcpu *cpu, gpa_t gpa, const void *buf, size_t len)
{
	const uint8_t *in = buf;

	while (len > 0) {
		size_t n;
		uint8_t *p = phys_piece(vm, gpa, len, true, &n);

		if (!p) {
			return -EFAULT;
		}
		memcpy(p, in, n);
		if (cpu) {
			code_wrote(cpu, p, n);
		}
		jit_wrote(vm, p, n);
		in += n;
		gpa += n;
		len -= n;
	}
	return 0;
}

void *vm_map_phys(struct vm *vm, gpa_t gpa, size_t len, bool write)
{
	size_t n;
	uint8_t *p = phys_piece(vm, gpa, len, write, &n);

	return p && n == len ? p : NULL;
}
