/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory slots: guest-physical to host, and dirty logs.
 *
 * Readers (vCPU threads) look slots up without a lock in an immutable array that
 * is replaced as a whole: a change stops all vCPUs of the VM at a boundary
 * (REQ_PAUSE), swaps, has every TLB flushed, and lets them go on.
 *
 * Addresses that a call's own structures name (dirty bitmaps) are the caller's: a bad one
 * is -EFAULT.
 */
#pragma once

#include <linux/kvm.h>

#include "base/util.h"

struct vm;
struct vcpu;

#define MEMSLOTS_MAX 32764 /* KVM_CAP_NR_MEMSLOTS */

struct memslot {
	gpa_t gpa;
	uint64_t size_bytes;
	uint8_t *host;
	uint32_t id, flags;      /* KVM_MEM_* */
	_Atomic uint64_t *dirty; /* a bit a page; NULL without dirty log */
};

int memslots_init(struct vm *vm);
void memslots_done(struct vm *vm);
/*
 * KVM_SET_USER_MEMORY_REGION: create, move, flags, delete; answers as the kernel does.
 * The caller holds vm->lock and is no running vCPU of this VM.
 */
int memslots_set(struct vm *vm, const struct kvm_userspace_memory_region *r);
/* KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG (manual-protect per KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2).
 * Locks as memslots_set(). */
int memslots_get_dirty_log(struct vm *vm, struct kvm_dirty_log *log);
int memslots_clear_dirty_log(struct vm *vm, struct kvm_clear_dirty_log *log);

/* The slot of a guest-physical address, NULL if none. Callers: vCPU threads, or the VM's lock. */
struct memslot *memslots_find(struct vm *vm, gpa_t gpa);
/* [gpa, gpa+len) of this slot was or will be written. Nothing without a dirty log. */
void memslot_mark_dirty(struct memslot *slot, gpa_t gpa, uint64_t len);

/*
 * Accesses by the VM's own parts (page walker, PV structures): copies within RAM; 0, or -EFAULT.
 * Writes mark the dirty log (code needs no care: blocks compare their bytes, see
 * cpu/blocks.c). Any thread that may not race a slot change: a vCPU thread inside the guest or
 * between vcpu_memory_begin() and _end(), or a holder of the VM's lock.
 */
int vm_read_phys(struct vm *vm, gpa_t gpa, void *buf, size_t len);
int vm_write_phys(struct vm *vm, struct vcpu *cpu, gpa_t gpa, const void *buf, size_t len);
/* Host address of an aligned guest-physical word for atomics (A/D bits, PV flags); NULL if not RAM
 * (or read-only, for a write). `write` marks the dirty log. */
void *vm_map_phys(struct vm *vm, gpa_t gpa, size_t len, bool write);
