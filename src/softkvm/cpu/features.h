/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest's CPUID says, cached as bits: for #UD checks, reserved bits of
 * control registers and MSRs, and where Intel and AMD differ.
 */
#pragma once

#include "base/util.h"

struct vcpu;

/* CPUID registers that are cached; a feature is word * 32 + bit. */
enum feat_word {
	FW_1_EDX,
	FW_1_ECX,
	FW_7_EBX,
	FW_7_ECX,
	FW_7_EDX,
	FW_81_EDX,
	FW_81_ECX,
	FW_D1_EAX,
	FW_KVM,
	FW_88_EBX,
	FW_821_EAX,
	FW_COUNT
};

enum cpu_feature {
	FEAT_VME = FW_1_EDX * 32 + 1,
	FEAT_DE = FW_1_EDX * 32 + 2,
	FEAT_PSE = FW_1_EDX * 32 + 3,
	FEAT_TSC = FW_1_EDX * 32 + 4,
	FEAT_PAE = FW_1_EDX * 32 + 6,
	FEAT_MCE = FW_1_EDX * 32 + 7,
	FEAT_SEP = FW_1_EDX * 32 + 11,
	FEAT_PGE = FW_1_EDX * 32 + 13,
	FEAT_FXSR = FW_1_EDX * 32 + 24,
	FEAT_SSE = FW_1_EDX * 32 + 25,
	FEAT_MONITOR = FW_1_ECX * 32 + 3,
	FEAT_PCID = FW_1_ECX * 32 + 17,
	FEAT_X2APIC = FW_1_ECX * 32 + 21,
	FEAT_TSC_DEADLINE = FW_1_ECX * 32 + 24,
	FEAT_XSAVE = FW_1_ECX * 32 + 26,
	FEAT_HYPERVISOR = FW_1_ECX * 32 + 31,
	FEAT_FSGSBASE = FW_7_EBX * 32 + 0,
	FEAT_TSC_ADJUST = FW_7_EBX * 32 + 1,
	FEAT_SMEP = FW_7_EBX * 32 + 7,
	FEAT_INVPCID = FW_7_EBX * 32 + 10,
	FEAT_SMAP = FW_7_EBX * 32 + 20,
	FEAT_UMIP = FW_7_ECX * 32 + 2,
	FEAT_LA57 = FW_7_ECX * 32 + 16,
	FEAT_RDPID = FW_7_ECX * 32 + 22,
	FEAT_SPEC_CTRL = FW_7_EDX * 32 + 26,
	FEAT_FLUSH_L1D = FW_7_EDX * 32 + 28,
	FEAT_ARCH_CAPABILITIES = FW_7_EDX * 32 + 29,
	FEAT_SPEC_CTRL_SSBD = FW_7_EDX * 32 + 31,
	FEAT_SYSCALL = FW_81_EDX * 32 + 11,
	FEAT_NX = FW_81_EDX * 32 + 20,
	FEAT_FXSR_OPT = FW_81_EDX * 32 + 25,
	FEAT_RDTSCP = FW_81_EDX * 32 + 27,
	FEAT_LM = FW_81_EDX * 32 + 29,
	FEAT_XGETBV1 = FW_D1_EAX * 32 + 2,
	FEAT_XSAVES = FW_D1_EAX * 32 + 3,
	FEAT_KVM_CLOCK = FW_KVM * 32 + 0,
	FEAT_KVM_CLOCK2 = FW_KVM * 32 + 3,
	FEAT_KVM_ASYNC_PF = FW_KVM * 32 + 4,
	FEAT_KVM_STEAL_TIME = FW_KVM * 32 + 5,
	FEAT_KVM_PV_EOI = FW_KVM * 32 + 6,
	FEAT_KVM_PV_UNHALT = FW_KVM * 32 + 7,
	FEAT_KVM_PV_TLB_FLUSH = FW_KVM * 32 + 9,
	FEAT_KVM_PV_SEND_IPI = FW_KVM * 32 + 11,
	FEAT_KVM_POLL_CONTROL = FW_KVM * 32 + 12,
	FEAT_KVM_PV_SCHED_YIELD = FW_KVM * 32 + 13,
	FEAT_KVM_MIGRATION_CONTROL = FW_KVM * 32 + 17,
	FEAT_AMD_IBPB = FW_88_EBX * 32 + 12,
	FEAT_AMD_IBRS = FW_88_EBX * 32 + 14,
	FEAT_AMD_STIBP = FW_88_EBX * 32 + 15,
	FEAT_AMD_SSBD = FW_88_EBX * 32 + 24,
	FEAT_VIRT_SSBD = FW_88_EBX * 32 + 25,
	FEAT_NULL_SEL_CLEARS_BASE = FW_821_EAX * 32 + 6,
	FEAT_AUTOIBRS = FW_821_EAX * 32 + 8,
};

struct cpu_features {
	uint32_t w[FW_COUNT];
	bool amd;            /* vendor AMD or Hygon; all others count as Intel */
	bool kvm;            /* KVM's paravirtual leaves are there */
	uint8_t phys_bits;   /* MAXPHYADDR, 36 if no leaf says */
	uint64_t xcr0_valid; /* CPUID.0DH.0 EDX:EAX */
};

/*
 * Read the table of KVM_SET_CPUID2 anew (owner thread or ioctl_lock). Without a
 * table all is allowed that the engine can do, as hardware under KVM allows it. (features.c)
 */
void cpu_features_update(struct vcpu *cpu);

static inline bool feat_test(const struct cpu_features *f, enum cpu_feature feat)
{
	return (f->w[feat / 32] >> (feat % 32)) & 1;
}
/* Has this guest the feature? */
#define cpu_has(cpu, which) feat_test(&(cpu)->feat, which)
