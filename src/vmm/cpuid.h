/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest's processors say of themselves: what KVM supports, made
 * consistent for one socket of N cores with one thread each.
 */
#pragma once

#include "kvm/kvm.h"

/* KVM itself takes no more (KVM_MAX_CPUID_ENTRIES). */
#define CPUID_ENTRIES_MAX 256u

struct cpuid_table {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
};

/* What KVM supports. 0 or -errno. */
int cpuid_read_supported(struct kvm *k, struct cpuid_table *ret);

struct cpuid_place {
	unsigned cpus;     /* in the guest */
	unsigned apic_id;  /* of this one */
	uint32_t tsc_khz;  /* 0: unknown */
	bool tsc_deadline; /* KVM_CAP_TSC_DEADLINE_TIMER */
};

/* Turn what is supported into what processor `p` shows (SDM 2A CPUID; APM 3 E). */
void cpuid_adapt(struct cpuid_table *t, const struct cpuid_place *p);
/* NULL: no such leaf. */
struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_table *t, uint32_t function, uint32_t index);
