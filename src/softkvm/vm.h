/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual machine: its vCPUs, memory, interrupt controllers, clock.
 *
 * Locks, in order of rank: vm->lock (ioctls on the VM) < vcpu->ioctl_lock <
 * vm->irq_lock (controllers, routing) < lapic's own < slots' own.
 */
#pragma once

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/util.h"

struct memslots;
struct irqchip;
struct vcpu;
struct coalesced;
struct jit;

#define VM_VCPUS_MAX 256

struct vm {
	pthread_mutex_t lock;
	_Atomic int refs; /* the VM descriptor and each vCPU */
	int fd;
	struct memslots *slots;
	struct jit *jit; /* the code cache, NULL: everything is interpreted (jit/) */
	struct irqchip
		*irqchip; /* always there: routing, eventfds; its mode says what is in-"kernel" */
	struct coalesced *coalesced; /* KVM_REGISTER_COALESCED_MMIO (mmu/coalesced.c) */
	_Atomic uint32_t pause_acks; /* futex: raised when a vCPU stops for vm_pause_vcpus() */
	pthread_mutex_t split_lock;  /* locked accesses that cross a page or hit a device */

	_Atomic uint32_t vcpu_count;
	struct vcpu *_Atomic
		vcpus[VM_VCPUS_MAX]; /* in order of creation; never removed while running */

	/* clock: KVM_SET_CLOCK's offset to the host's boot time */
	int64_t kvmclock_offset_ns;
	pthread_mutex_t
		clock_lock; /* master and tsc_sync; all zero is unlocked; nothing below it */
	/* kvm-clock's pair of time and TSC, one for all vCPUs (pvclock.c). */
	struct {
		bool valid;
		int64_t offset_ns; /* kvmclock_offset_ns that it was made for */
		uint64_t host_tsc, ns;
	} master;
	/* The last TSC that user space set, so that vCPUs that are set alike agree (msr.c). */
	struct {
		bool valid;
		uint32_t khz;
		uint64_t value, host_tsc;
		int64_t offset;
	} tsc_sync;
	uint64_t tsc_base_host; /* common TSC origin, so that vCPUs agree */
	uint32_t boot_cpu_id, default_tsc_khz;

	/* KVM_ENABLE_CAP results */
	struct {
		bool split_irqchip, x2apic_32bit_ids, x2apic_no_bcast_quirk, exception_payload,
			triple_fault_event, manual_dirty_log;
		uint32_t exit_hypercalls; /* KVM_CAP_EXIT_HYPERCALL: a bit a hypercall */
		uint32_t manual_dirty_flags, user_msr_mask, disabled_exits, max_vcpu_id, quirks_off;
		bool platform_info_off; /* MSR 0xce: #GP for the guest */
		bool bus_lock_exit, exit_on_emulation_failure, enforce_pv_cpuid;
	} cap;
	struct msr_filter *msr_filter; /* KVM_X86_SET_MSR_FILTER, NULL: none */
	gpa_t tss_addr, identity_map_addr;
	int ring_fd; /* the first vCPU's memfd: its last page is everybody's coalesced ring; -1 */
	uint64_t nr_mmu_pages; /* KVM_SET_NR_MMU_PAGES: remembered only */
};

/*
 * KVM_X86_SET_MSR_FILTER. Replaced as a whole while the vCPUs stand still, so that they read it
 * without a lock. (api/msr_filter.c)
 */
struct msr_filter {
	bool default_allow;
	unsigned count;
	struct msr_filter_range {
		uint32_t flags, base, nmsrs; /* KVM_MSR_FILTER_READ, _WRITE */
		uint8_t *bitmap;             /* a set bit allows */
	} ranges[KVM_MSR_FILTER_MAX_RANGES];
};
/* May the guest read (write) this MSR itself? x2APIC's are never filtered. */
bool msr_filter_allows(const struct vm *vm, uint32_t index, bool write);
