/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model-specific registers, for RDMSR/WRMSR (host false) and KVM_GET/SET_MSRS
 * (host true: fewer checks, read-only ones can be set). False: #GP, or not there.
 */
#pragma once

#include "softkvm/cpu/vcpu.h"

bool msr_read(struct vcpu *cpu, uint32_t index, uint64_t *ret, bool host);
bool msr_write(struct vcpu *cpu, uint32_t index, uint64_t value, bool host);
/* KVM_GET_MSR_INDEX_LIST, KVM_GET_MSR_FEATURE_INDEX_LIST: the tables and their lengths. */
const uint32_t *msr_list(unsigned *ret_count);
const uint32_t *msr_feature_list(unsigned *ret_count);
bool msr_feature_read(uint32_t index, uint64_t *ret);

/* Guest time-stamp counter now. */
uint64_t cpu_tsc(const struct vcpu *cpu);
/* Does it run at another frequency than the host's? Else only tsc_offset lies between them. */
bool cpu_tsc_scaled(const struct vcpu *cpu);

/* What the guest's CPUID says, by KVM_SET_CPUID2's table; all zero if there is no such leaf.
 * (cpuid.c in api/) */
struct cpuid_regs {
	uint32_t eax, ebx, ecx, edx;
};
void cpuid_query(const struct vcpu *cpu, uint32_t leaf, uint32_t subleaf, struct cpuid_regs *ret);
/* Guest has the feature? Bits cached at SET_CPUID2: see enum cpu_feature in features.h. */
