/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CPUID table of a vCPU: KVM_SET_CPUID2, KVM_GET_CPUID2, and what the guest's
 * CPUID instruction says (SDM 2A CPUID; APM 3 appendix E).
 */
#include "softkvm/api/cpuid.h"

#include <asm/kvm_para.h>
#include <stdlib.h>

#include "softkvm/api/api.h"
#include "softkvm/api/uaccess.h"
#include "softkvm/cpu/run.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/mmu.h"

#define ECX1_OSXSAVE BIT(27)
#define ECX1_MWAIT   BIT(3)
#define ECX7_OSPKE   BIT(4)
#define EDX1_APIC    BIT(9)
#define KVM_UNHALT   BIT(KVM_FEATURE_PV_UNHALT)

static const struct kvm_cpuid_entry2 *find(const struct vcpu *cpu, uint32_t leaf, uint32_t subleaf)
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

static void set_bit(uint32_t *reg, uint32_t bit, bool on)
{
	*reg = on ? *reg | bit : *reg & ~bit;
}

/* What follows the vCPU's state rather than the table. */
static void update_live(const struct vcpu *cpu, struct kvm_cpuid_entry2 *e)
{
	struct vcpu *c = (struct vcpu *)cpu; /* lapic_get_base() changes nothing */

	switch (e->function) {
	case 1:
		set_bit(&e->ecx, ECX1_OSXSAVE, cpu->cr4 & CR4_OSXSAVE);
		set_bit(&e->edx, EDX1_APIC, lapic_get_base(c) & BIT(11));
		if (cpu->vm->cap.quirks_off & KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT) {
			set_bit(&e->ecx, ECX1_MWAIT, cpu->msr.misc_enable & BIT(18));
		}
		break;
	case 7:
		if (e->index == 0) {
			e->ecx &= ~ECX7_OSPKE; /* there are no protection keys */
		}
		break;
	case 0xd:
		if (e->index == 0) {
			e->ebx = fpu_xsave_size(cpu->xcr0, false);
		} else if (e->index == 1 && (e->eax & (BIT(1) | BIT(3)))) {
			e->ebx = fpu_xsave_size(cpu->xcr0 | cpu->msr.xss, true);
		}
		break;
	case KVM_CPUID_FEATURES:
		if (cpu->vm->cap.disabled_exits & KVM_X86_DISABLE_EXITS_HLT) {
			e->eax &= ~KVM_UNHALT;
		}
		break;
	default:
		break;
	}
}

/* --- the instruction ----------------------------------------------------------------- */
/*
 * A leaf beyond the last one of its class: Intel answers with the last basic leaf, AMD
 * with zeros. NULL: zeros.
 */
static const struct kvm_cpuid_entry2 *find_beyond(const struct vcpu *cpu, uint32_t leaf,
						  uint32_t subleaf)
{
	const struct kvm_cpuid_entry2 *basic = find(cpu, 0, 0), *class;
	uint32_t base = leaf & 0x80000000u;

	if (!basic || cpu->feat.amd) {
		return NULL;
	}
	if (leaf >= 0x40000000u && leaf <= 0x4fffffffu) {
		base = leaf & 0xffffff00u;
	} else if (leaf >= 0xc0000000u) {
		base = 0xc0000000u;
	}
	class = find(cpu, base, 0);
	if (class && leaf <= class->eax) {
		return NULL; /* in range, but empty */
	}
	return find(cpu, basic->eax, subleaf);
}

/* Topology leaves say the subleaf and the APIC id even where there is no level (SDM 2A). */
static void fill_topology(const struct vcpu *cpu, uint32_t leaf, uint32_t subleaf,
			  struct cpuid_regs *ret)
{
	const struct kvm_cpuid_entry2 *e;

	if (leaf != 0xb && leaf != 0x1f) {
		return;
	}
	e = find(cpu, leaf, 1);
	if (e) {
		ret->ecx = subleaf & 0xff;
		ret->edx = e->edx;
	}
}

void cpuid_query(const struct vcpu *cpu, uint32_t leaf, uint32_t subleaf, struct cpuid_regs *ret)
{
	const struct kvm_cpuid_entry2 *e = find(cpu, leaf, subleaf);
	struct kvm_cpuid_entry2 live;

	memset(ret, 0, sizeof(*ret));
	if (!e) {
		fill_topology(cpu, leaf, subleaf, ret);
		e = find_beyond(cpu, leaf, subleaf);
	}
	if (!e) {
		return;
	}
	live = *e;
	update_live(cpu, &live);
	*ret = (struct cpuid_regs){ live.eax, live.ebx, live.ecx, live.edx };
}

unsigned cpuid_maxphyaddr(const struct vcpu *cpu)
{
	return cpu->feat.phys_bits;
}

/* --- the ioctls -------------------------------------------------------------------------- */
static bool entries_equal(const struct vcpu *cpu, const struct kvm_cpuid_entry2 *a,
			  const struct kvm_cpuid_entry2 *b)
{
	struct kvm_cpuid_entry2 x = *a, y = *b;

	update_live(cpu, &x);
	update_live(cpu, &y);
	return x.function == y.function && x.index == y.index && x.flags == y.flags &&
	       x.eax == y.eax && x.ebx == y.ebx && x.ecx == y.ecx && x.edx == y.edx;
}

/* After the first KVM_RUN only the same table is accepted. */
static int check_unchanged(const struct vcpu *cpu, const struct kvm_cpuid_entry2 *e, uint32_t n)
{
	if (n != cpu->cpuid_count) {
		return -EINVAL;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (!entries_equal(cpu, &cpu->cpuid[i], &e[i])) {
			return -EINVAL;
		}
	}
	return 0;
}

static int check_table(const struct kvm_cpuid_entry2 *e, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t bits = e[i].eax >> 8 & 0xff;

		if (e[i].function == 0x80000008u && bits != 0 && bits != 48 && bits != 57) {
			return -EINVAL;
		}
	}
	return 0;
}

/* Takes over `entries`, whatever comes out. */
static int install(struct vcpu *cpu, struct kvm_cpuid_entry2 *entries, uint32_t n)
{
	int r = cpu->has_run ? check_unchanged(cpu, entries, n) : check_table(entries, n);

	if (r != 0 || cpu->has_run) {
		free(entries);
		return r;
	}
	free(cpu->cpuid);
	cpu->cpuid = entries;
	cpu->cpuid_count = n;
	cpu_features_update(cpu);
	mmu_cpuid_changed(cpu);
	mmu_flush_all(cpu);
	blocks_flush(cpu);
	return 0;
}

int cpuid_set2(struct vcpu *cpu, uint64_t user)
{
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 *entries;
	int r = user_read(&head, user, sizeof(head));

	if (r != 0) {
		return r;
	}
	if (head.nent > CPUID_ENTRIES_MAX) {
		return -E2BIG;
	}
	entries = calloc(head.nent + 1, sizeof(*entries));
	if (!entries) {
		return -ENOMEM;
	}
	r = user_read(entries, user + sizeof(head), head.nent * sizeof(*entries));
	if (r != 0) {
		free(entries);
		return r;
	}
	return install(cpu, entries, head.nent);
}

int cpuid_set_legacy(struct vcpu *cpu, uint64_t user)
{
	struct kvm_cpuid head;
	struct kvm_cpuid_entry *in;
	struct kvm_cpuid_entry2 *entries;
	int r = user_read(&head, user, sizeof(head));

	if (r != 0) {
		return r;
	}
	if (head.nent > CPUID_ENTRIES_MAX) {
		return -E2BIG;
	}
	in = calloc(head.nent + 1, sizeof(*in));
	entries = calloc(head.nent + 1, sizeof(*entries));
	r = !in || !entries ? -ENOMEM : user_read(in, user + sizeof(head), head.nent * sizeof(*in));
	for (uint32_t i = 0; r == 0 && i < head.nent; i++) {
		entries[i] = (struct kvm_cpuid_entry2){
			.function = in[i].function,
			.eax = in[i].eax,
			.ebx = in[i].ebx,
			.ecx = in[i].ecx,
			.edx = in[i].edx,
		};
	}
	free(in);
	if (r != 0) {
		free(entries);
		return r;
	}
	return install(cpu, entries, head.nent);
}

int cpuid_get2(struct vcpu *cpu, uint64_t user)
{
	struct kvm_cpuid2 head;
	int r = user_read(&head, user, sizeof(head));

	if (r != 0) {
		return r;
	}
	if (head.nent < cpu->cpuid_count) {
		return -E2BIG;
	}
	for (uint32_t i = 0; i < cpu->cpuid_count; i++) {
		struct kvm_cpuid_entry2 e = cpu->cpuid[i];

		update_live(cpu, &e);
		r = user_write(user + sizeof(head) + i * sizeof(e), &e, sizeof(e));
		if (r != 0) {
			return r;
		}
	}
	head.nent = cpu->cpuid_count;
	return user_write(user, &head, sizeof(head));
}
