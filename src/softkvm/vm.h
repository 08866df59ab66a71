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

#define VM_VCPUS_MAX 256

struct vm {
	pthread_mutex_t lock;
	_Atomic int refs; /* the VM descriptor and each vCPU */
	int fd;
	struct memslots *slots;
	struct irqchip *irqchip; /* always there: routing, eventfds; its mode says what is in-"kernel" */
	pthread_mutex_t split_lock; /* locked accesses that cross a page or hit a device */

	_Atomic uint32_t vcpu_count;
	struct vcpu *_Atomic vcpus[VM_VCPUS_MAX]; /* in order of creation; never removed while running */

	/* clock: KVM_SET_CLOCK's offset to the host's boot time */
	int64_t kvmclock_offset_ns;
	uint64_t tsc_base_host; /* common TSC origin, so that vCPUs agree */
	uint32_t boot_cpu_id, default_tsc_khz;

	/* KVM_ENABLE_CAP results */
	struct {
		bool split_irqchip, x2apic_32bit_ids, x2apic_no_bcast_quirk, exception_payload,
			triple_fault_event, manual_dirty_log;
		uint32_t manual_dirty_flags, user_msr_mask, disabled_exits, max_vcpu_id, quirks_off;
		bool bus_lock_exit, exit_on_emulation_failure, enforce_pv_cpuid;
	} cap;
	struct msr_filter *msr_filter; /* KVM_X86_SET_MSR_FILTER, NULL: none */
	gpa_t tss_addr, identity_map_addr;
};
