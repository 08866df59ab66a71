/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/cpuid.h"

#include <assert.h>

#include "base/assert.h"

static_assert(offsetof(struct cpuid_table, entries) == offsetof(struct kvm_cpuid2, entries),
	      "the table is a kvm_cpuid2 with room");

/* The rate of KVM's local APIC timer. */
#define APIC_BUS_KHZ 1000000u

#define LEAF_1_ECX_MONITOR      BIT(3)
#define LEAF_1_ECX_VMX          BIT(5)
#define LEAF_1_ECX_TSC_DEADLINE BIT(24)
#define LEAF_1_ECX_HYPERVISOR   BIT(31)
#define LEAF_1_EDX_HTT          BIT(28)
#define EXT_1_ECX_CMP_LEGACY    BIT(1)
#define EXT_1_ECX_SVM           BIT(2)
#define EXT_1_ECX_PERFCTR_CORE  BIT(23)
#define EXT_1_ECX_PERFCTR_NB    BIT(24)
#define EXT_1_ECX_PERFCTR_LLC   BIT(28)

#define LEAF_KVM         0x40000000u
#define LEAF_KVM_TIMING  0x40000010u
#define LEAF_EXT_1       0x80000001u
#define LEAF_NAME        0x80000002u
#define LEAF_EXT_8       0x80000008u
#define LEAF_AMD_SVM     0x8000000au
#define LEAF_AMD_CACHE   0x8000001du
#define LEAF_AMD_TOPO    0x8000001eu
#define LEAF_AMD_PERFMON 0x80000022u

struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_table *t, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < t->head.nent; i++) {
		struct kvm_cpuid_entry2 *e = &t->entries[i];

		if (e->function == function &&
		    (e->index == index || !(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX))) {
			return e;
		}
	}
	return NULL;
}

/* All entries of a function go. */
static void drop(struct cpuid_table *t, uint32_t function)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < t->head.nent; i++) {
		if (t->entries[i].function != function) {
			t->entries[kept++] = t->entries[i];
		}
	}
	t->head.nent = kept;
}

static void add(struct cpuid_table *t, struct kvm_cpuid_entry2 e)
{
	/* Engines report a quarter of that. */
	if (t->head.nent < CPUID_ENTRIES_MAX) {
		t->entries[t->head.nent++] = e;
	}
}

/* The kernel's KVM leaves the processor's name to us: it is the host's. */
static void fill_name(struct cpuid_table *t)
{
	for (uint32_t leaf = LEAF_NAME; leaf < LEAF_NAME + 3; leaf++) {
		struct kvm_cpuid_entry2 *e = cpuid_find(t, leaf, 0), name = { .function = leaf };

		if (e && (e->eax | e->ebx | e->ecx | e->edx)) {
			continue;
		}
		__asm__ volatile("cpuid"
				 : "=a"(name.eax), "=b"(name.ebx), "=c"(name.ecx), "=d"(name.edx)
				 : "a"(leaf), "c"(0));
		if (e) {
			*e = name;
		} else {
			add(t, name);
		}
	}
}

int cpuid_read_supported(struct kvm *k, struct cpuid_table *ret)
{
	int r;

	memset(ret, 0, sizeof(*ret));
	ret->head.nent = CPUID_ENTRIES_MAX;
	r = kvm_sys_ioctl(k, KVM_GET_SUPPORTED_CPUID, &ret->head);
	if (r >= 0) {
		fill_name(ret);
	}
	return r;
}

/* Bits that number n things. */
static unsigned bits_for(unsigned n)
{
	return n > 1 ? 32 - (unsigned)__builtin_clz(n - 1) : 0;
}

static uint32_t set_field(uint32_t v, unsigned shift, unsigned width, uint32_t field)
{
	uint32_t mask = (uint32_t)((1ull << width) - 1);

	return (v & ~(mask << shift)) | (MIN(field, mask) << shift);
}

static void adapt_features(struct kvm_cpuid_entry2 *e, const struct cpuid_place *p)
{
	/* Logical processors, and this one's number. */
	e->ebx = set_field(e->ebx, 24, 8, p->apic_id);
	e->ebx = set_field(e->ebx, 16, 8, p->cpus > 1 ? 1u << bits_for(p->cpus) : 1);
	e->ecx |= LEAF_1_ECX_HYPERVISOR;
	/* Guests inside guests are not offered; MONITOR would exit for ever. */
	e->ecx &= ~(LEAF_1_ECX_MONITOR | LEAF_1_ECX_VMX);
	if (p->tsc_deadline) {
		e->ecx |= LEAF_1_ECX_TSC_DEADLINE;
	}
	e->edx = p->cpus > 1 ? e->edx | LEAF_1_EDX_HTT : e->edx & ~LEAF_1_EDX_HTT;
}

/* Leaf 4 and AMD's 0x8000001d: who shares each cache. Only level 3 is shared. */
static void adapt_caches(struct cpuid_table *t, uint32_t function, const struct cpuid_place *p)
{
	uint32_t ids = (1u << bits_for(p->cpus)) - 1;

	for (uint32_t i = 0; i < t->head.nent; i++) {
		struct kvm_cpuid_entry2 *e = &t->entries[i];
		unsigned level = (e->eax >> 5) & 7;

		if (e->function != function || !(e->eax & 0x1f)) {
			continue;
		}
		e->eax = set_field(e->eax, 14, 12, level >= 3 ? ids : 0);
		if (function == 4) {
			e->eax = set_field(e->eax, 26, 6, ids);
		}
	}
}

/* Leaf 0xb: no threads, all cores in one package. */
static void replace_topology(struct cpuid_table *t, const struct cpuid_place *p)
{
	struct kvm_cpuid_entry2 *max = cpuid_find(t, 0, 0);
	struct kvm_cpuid_entry2 e = { .function = 0xb,
				      .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
				      .edx = p->apic_id };

	drop(t, 0xb);
	drop(t, 0x1f);
	if (!max || max->eax < 0xb) {
		return;
	}
	e.ebx = 1;
	e.ecx = 1 << 8; /* level type: thread */
	add(t, e);
	e.index = 1;
	e.eax = bits_for(p->cpus);
	e.ebx = p->cpus;
	e.ecx = 2 << 8 | 1; /* core */
	add(t, e);
	e.index = 2;
	e.eax = e.ebx = 0;
	e.ecx = 2;
	add(t, e);
}

static void adapt_amd(struct cpuid_table *t, const struct cpuid_place *p)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(t, LEAF_EXT_1, 0);

	if (e) {
		e->ecx &= ~(EXT_1_ECX_SVM | EXT_1_ECX_CMP_LEGACY | EXT_1_ECX_PERFCTR_CORE |
			    EXT_1_ECX_PERFCTR_NB | EXT_1_ECX_PERFCTR_LLC);
	}
	if (e && p->cpus > 1 && cpuid_find(t, LEAF_AMD_TOPO, 0)) {
		e->ecx |= EXT_1_ECX_CMP_LEGACY;
	}
	e = cpuid_find(t, LEAF_EXT_8, 0);
	if (e) {
		e->ecx = set_field(e->ecx, 0, 8, p->cpus - 1);
		e->ecx = set_field(e->ecx, 12, 4, bits_for(p->cpus));
	}
	e = cpuid_find(t, LEAF_AMD_TOPO, 0);
	if (e) {
		e->eax = p->apic_id;
		e->ebx = p->apic_id & 0xff; /* core; one thread each */
		e->ecx = 0;                 /* one node */
	}
	drop(t, LEAF_AMD_SVM);
}

/* The TSC's rate: Intel's leaf 0x15 and the hypervisors' 0x40000010. */
static void add_timing(struct cpuid_table *t, const struct cpuid_place *p)
{
	struct kvm_cpuid_entry2 *kvm = cpuid_find(t, LEAF_KVM, 0), *max = cpuid_find(t, 0, 0);

	if (!p->tsc_khz) {
		return;
	}
	if (max && max->eax >= 0x15) {
		drop(t, 0x15);
		/* crystal (ECX) × EBX / EAX; the crystal also drives the APIC timer. */
		add(t, (struct kvm_cpuid_entry2){ .function = 0x15,
						  .eax = APIC_BUS_KHZ,
						  .ebx = p->tsc_khz,
						  .ecx = APIC_BUS_KHZ * 1000u });
	}
	if (kvm) {
		kvm->eax = LEAF_KVM_TIMING;
		drop(t, LEAF_KVM_TIMING);
		add(t, (struct kvm_cpuid_entry2){ .function = LEAF_KVM_TIMING,
						  .eax = p->tsc_khz,
						  .ebx = APIC_BUS_KHZ });
	}
}

void cpuid_adapt(struct cpuid_table *t, const struct cpuid_place *p)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(t, 1, 0);

	ASSERT(p->cpus && p->apic_id < p->cpus);
	if (e) {
		adapt_features(e, p);
	}
	adapt_caches(t, 4, p);
	adapt_caches(t, LEAF_AMD_CACHE, p);
	/* No virtual counters: they would be switched at every entry and exit. */
	e = cpuid_find(t, 0xa, 0);
	if (e) {
		e->eax = e->ebx = e->ecx = e->edx = 0;
	}
	drop(t, LEAF_AMD_PERFMON);
	replace_topology(t, p);
	adapt_amd(t, p);
	add_timing(t, p);
}
