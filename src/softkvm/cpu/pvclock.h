/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM's paravirtual time: kvm-clock's pages, and the steal-time page with its
 * preempted and flush-TLB marks.
 */
#pragma once

#include "softkvm/cpu/vcpu.h"

struct vm;

/*
 * Write the vCPU's kvm-clock page if it is enabled: at REQ_CLOCK, own thread. All vCPUs of a
 * VM use one pair of time and TSC, so that PVCLOCK_TSC_STABLE_BIT is true.
 */
void pvclock_update(struct vcpu *cpu);
/* KVM_KVMCLOCK_CTRL: say "stopped" at the next update. -EINVAL: the guest has no kvm-clock. */
int pvclock_guest_stopped(struct vcpu *cpu);
/* The wall clock's page at `gpa` (MSR_KVM_WALL_CLOCK*). */
void pvclock_write_wall_clock(struct vcpu *cpu, gpa_t gpa);
/* kvm-clock as guests see it (ns), now and at a host TSC value. Any thread; takes clock_lock. */
uint64_t pvclock_now_ns(struct vm *vm);
uint64_t pvclock_at_ns(struct vm *vm, uint64_t host_tsc);

/*
 * The vCPU begins (again) to run guest code: at the start of KVM_RUN, and after halting. Takes the
 * preempted mark back, flushes the TLB if a peer asked for that instead of sending an IPI, and adds
 * to the stolen time. REQ_STEAL asks for it too.
 */
void steal_time_enter(struct vcpu *cpu);
/* The vCPU stops running: before it halts and before KVM_RUN returns. Sets the preempted mark. */
void steal_time_leave(struct vcpu *cpu);
