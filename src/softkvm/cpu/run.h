/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block cache and the loop of KVM_RUN.
 */
#pragma once

#include "softkvm/cpu/vcpu.h"

/*
 * KVM_RUN without the ioctl's wrapping: runs until an exit (0, cpu->run is filled) or
 * -EINTR, -EFAULT. Own thread, ioctl_lock held.
 */
int vcpu_run(struct vcpu *cpu);
/* Forget an unfinished device access: state was set from outside. */
void vcpu_drop_io(struct vcpu *cpu);
/* All decoded blocks of this vCPU are dropped (breakpoints changed, …). */
void blocks_flush(struct vcpu *cpu);
int blocks_init(struct vcpu *cpu);
void blocks_done(struct vcpu *cpu);
/*
 * Stop every vCPU of the VM at a block boundary, and let them go. The caller holds vm->lock and
 * is no running vCPU of this VM. (Used by memslot changes and dirty logs.)
 */
struct vm;
void vm_pause_vcpus(struct vm *vm);
void vm_resume_vcpus(struct vm *vm);
