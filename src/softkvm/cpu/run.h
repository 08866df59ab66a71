/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block cache and the loop of KVM_RUN.
 */
#pragma once

#include "softkvm/cpu/vcpu.h"

struct vm;

/*
 * KVM_RUN without the ioctl's wrapping: runs until an exit (0, cpu->run is filled) or
 * -EINTR. Own thread, ioctl_lock held. A device access or another exit that waits for its
 * answer is finished first, even with immediate_exit or a kick.
 */
int vcpu_run(struct vcpu *cpu);
/*
 * Could an interrupt from user space (KVM_INTERRUPT) be taken now? For
 * ready_for_interrupt_injection.
 */
bool vcpu_ready_for_interrupt(struct vcpu *cpu);
/* Forget an unfinished device access: state was set from outside. (mmu/io.c) */
void vcpu_drop_io(struct vcpu *cpu);
/* KVM_RUN begins again: take the answer to the access that waited. (mmu/io.c) */
void io_resume(struct vcpu *cpu);
/*
 * Fill cpu->run with KVM_EXIT_INTERNAL_ERROR, suberror emulation, and the instruction's bytes
 * (none: NULL, 0).
 */
void run_emulation_failure(struct vcpu *cpu, const uint8_t *bytes, unsigned len);

/*
 * Behind an instruction that may have changed what the run loop decides on: is there nothing for it
 * to do? Then what it would clear is cleared.
 */
bool run_may_go_on(struct vcpu *cpu);
/* All decoded blocks of this vCPU are dropped (breakpoints changed, …). */
void blocks_flush(struct vcpu *cpu);
int blocks_init(struct vcpu *cpu);
void blocks_done(struct vcpu *cpu);

/*
 * A thread that is not inside vcpu_run(), but holds ioctl_lock, is about to touch guest memory for
 * this vCPU (an MSR with a page address is set, …): slots do not change until _end().
 */
void vcpu_memory_begin(struct vcpu *cpu);
void vcpu_memory_end(struct vcpu *cpu);
/*
 * Stop every vCPU of the VM at a block boundary, and let them go. The caller holds vm->lock and
 * is no running vCPU of this VM. (Used by memslot changes and dirty logs.)
 */
void vm_pause_vcpus(struct vm *vm);
void vm_resume_vcpus(struct vm *vm);
/* Every vCPU drops its TLB before it next touches memory. For a caller that has paused them. */
void vm_flush_tlbs(struct vm *vm);
