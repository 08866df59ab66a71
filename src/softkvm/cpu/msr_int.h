/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of MSRs. */
#pragma once

#include <asm/kvm_para.h>

#include "softkvm/cpu/exec_sys_int.h"
#include "softkvm/cpu/msr_index.h"

/* Why an access is refused; KVM_EXIT_X86_RDMSR tells them apart. */
enum msr_status {
	MSR_OK,
	MSR_INVALID, /* exists, but not so: value, direction, or feature */
	MSR_UNKNOWN,
};

enum msr_status msr_get(struct vcpu *cpu, uint32_t index, uint64_t *ret, bool host);
enum msr_status msr_set(struct vcpu *cpu, uint32_t index, uint64_t v, bool host);

/* The groups; MSR_UNKNOWN: it is none of this file's. */
enum msr_status msr_mtrr_get(struct vcpu *cpu, uint32_t index, uint64_t *ret);
enum msr_status msr_mtrr_set(struct vcpu *cpu, uint32_t index, uint64_t v);
enum msr_status msr_mce_get(struct vcpu *cpu, uint32_t index, uint64_t *ret, bool host);
enum msr_status msr_mce_set(struct vcpu *cpu, uint32_t index, uint64_t v, bool host);
enum msr_status msr_kvm_get(struct vcpu *cpu, uint32_t index, uint64_t *ret, bool host);
enum msr_status msr_kvm_set(struct vcpu *cpu, uint32_t index, uint64_t v, bool host);
/* Those that only exist so that guests find nothing there. */
enum msr_status msr_dummy_get(const struct vcpu *cpu, uint32_t index, uint64_t *ret);
enum msr_status msr_dummy_set(const struct vcpu *cpu, uint32_t index, uint64_t v);

/* Guest time-stamp counter writes. */
void tsc_write_guest(struct vcpu *cpu, uint64_t v);
void tsc_write_host(struct vcpu *cpu, uint64_t v);
