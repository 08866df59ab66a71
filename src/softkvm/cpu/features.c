/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's CPUID as cached bits. */
#include "softkvm/cpu/features.h"

#include <cpuid.h>

#include "softkvm/cpu/msr.h"
#include "softkvm/cpu/vcpu.h"

#define LEAF_KVM_FIRST    0x40000000u
#define LEAF_KVM_STEP     0x100u /* hypervisor leaves may be moved up in such steps */
#define LEAF_KVM_LAST     0x40010000u
#define PHYS_BITS_DEFAULT 36
#define PHYS_BITS_MAX     52

/* Where each cached word comes from. */
static const struct {
	uint32_t leaf, subleaf;
	uint8_t reg; /* 0..3: EAX, EBX, ECX, EDX */
} words[FW_COUNT] = {
	[FW_1_EDX] = { 1, 0, 3 },
	[FW_1_ECX] = { 1, 0, 2 },
	[FW_7_EBX] = { 7, 0, 1 },
	[FW_7_ECX] = { 7, 0, 2 },
	[FW_7_EDX] = { 7, 0, 3 },
	[FW_81_EDX] = { 0x80000001, 0, 3 },
	[FW_81_ECX] = { 0x80000001, 0, 2 },
	[FW_D1_EAX] = { 0xd, 1, 0 },
	[FW_KVM] = { 0, 0, 0 },
	[FW_88_EBX] = { 0x80000008, 0, 1 },
	[FW_821_EAX] = { 0x80000021, 0, 0 },
};

static const struct kvm_cpuid_entry2 *find_leaf(const struct vcpu *cpu, uint32_t leaf,
						uint32_t subleaf)
{
	for (uint32_t i = 0; i < cpu->cpuid_count; i++) {
		const struct kvm_cpuid_entry2 *e = &cpu->cpuid[i];

		if (e->function == leaf &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == subleaf)) {
			return e;
		}
	}
	return NULL;
}

static uint32_t leaf_word(const struct vcpu *cpu, uint32_t leaf, uint32_t subleaf, unsigned reg)
{
	const struct kvm_cpuid_entry2 *e = find_leaf(cpu, leaf, subleaf);

	if (e == NULL) {
		return 0;
	}
	switch (reg) {
	case 0:
		return e->eax;
	case 1:
		return e->ebx;
	case 2:
		return e->ecx;
	default:
		return e->edx;
	}
}

static bool vendor_is_amd(uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	static const char names[][13] = { "AuthenticAMD", "HygonGenuine" };
	char v[12];

	store_le32(v, ebx);
	store_le32(v + 4, edx);
	store_le32(v + 8, ecx);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (memcmp(v, names[i], sizeof(v)) == 0) {
			return true;
		}
	}
	return false;
}

/* The base of KVM's leaves, 0 if the guest is not shown them. */
static uint32_t find_kvm_leaves(const struct vcpu *cpu)
{
	static const char signature[13] = "KVMKVMKVM\0\0\0";

	for (uint32_t base = LEAF_KVM_FIRST; base < LEAF_KVM_LAST; base += LEAF_KVM_STEP) {
		const struct kvm_cpuid_entry2 *e = find_leaf(cpu, base, 0);
		char v[12];

		if (e == NULL) {
			continue;
		}
		store_le32(v, e->ebx);
		store_le32(v + 4, e->ecx);
		store_le32(v + 8, e->edx);
		if (memcmp(v, signature, sizeof(v)) == 0) {
			return base;
		}
	}
	return 0;
}

/* No table: what the engine has may be used; only the vendor must be somebody's: the host's. */
static void set_defaults(struct cpu_features *f)
{
	uint32_t a, b, c, d;

	memset(f->w, 0xff, sizeof(f->w));
	f->w[FEAT_LA57 / 32] &= ~BIT(FEAT_LA57 % 32);
	f->w[FW_KVM] = 0;
	f->kvm = false;
	f->phys_bits = PHYS_BITS_DEFAULT;
	f->xcr0_valid = fpu_xcr0_supported();
	__cpuid(0, a, b, c, d);
	f->amd = vendor_is_amd(b, c, d);
}

void cpu_features_update(struct vcpu *cpu)
{
	struct cpu_features *f = &cpu->feat;
	uint32_t kvm, bits;

	if (cpu->cpuid_count == 0) {
		set_defaults(f);
		return;
	}
	for (unsigned i = 0; i < FW_COUNT; i++) {
		f->w[i] = leaf_word(cpu, words[i].leaf, words[i].subleaf, words[i].reg);
	}
	kvm = find_kvm_leaves(cpu);
	f->kvm = kvm != 0;
	f->w[FW_KVM] = kvm != 0 ? leaf_word(cpu, kvm + 1, 0, 0) : 0;
	f->amd = vendor_is_amd(leaf_word(cpu, 0, 0, 1), leaf_word(cpu, 0, 0, 2),
			       leaf_word(cpu, 0, 0, 3));
	bits = leaf_word(cpu, 0x80000008, 0, 0) & 0xff;
	f->phys_bits = bits == 0 ? PHYS_BITS_DEFAULT : (uint8_t)MIN(bits, PHYS_BITS_MAX);
	f->xcr0_valid = leaf_word(cpu, 0xd, 0, 0) | (uint64_t)leaf_word(cpu, 0xd, 0, 3) << 32;
	f->xcr0_valid &= fpu_xcr0_supported();
}
