/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CPUID that this engine can back, and the table that a vCPU was given.
 */
#pragma once

#include "softkvm/cpu/msr.h"
#include "softkvm/cpu/vcpu.h"

#define CPUID_ENTRIES_MAX 256u /* KVM_MAX_CPUID_ENTRIES */

/* KVM_GET_SUPPORTED_CPUID, KVM_GET_EMULATED_CPUID with their E2BIG protocol (KVM API 4.46). */
int cpuid_get_supported(uint64_t user);
int cpuid_get_emulated(uint64_t user);
/* Build the supported table: number of entries, or -E2BIG if `max` is too small. */
int cpuid_build_supported(struct kvm_cpuid_entry2 *ret, unsigned max);
uint64_t cpuid_supported_xcr0(void);
/* Guest-physical address bits by CPUID (36 without leaf 0x80000008). */
unsigned cpuid_maxphyaddr(const struct vcpu *cpu);

/* KVM_SET_CPUID2, KVM_SET_CPUID, KVM_GET_CPUID2. */
int cpuid_set2(struct vcpu *cpu, uint64_t user);
int cpuid_set_legacy(struct vcpu *cpu, uint64_t user);
int cpuid_get2(struct vcpu *cpu, uint64_t user);
