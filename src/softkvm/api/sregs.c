/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segments and control registers in KVM's structures (KVM API 4.13, 4.14, 4.131).
 */
#include "softkvm/api/api.h"
#include "softkvm/api/cpuid.h"
#include "softkvm/cpu/run.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/memslot.h"
#include "softkvm/mmu/mmu.h"

/* What both structures have; their own tails differ. */
struct sregs_common {
	struct kvm_segment cs, ds, es, fs, gs, ss, tr, ldt;
	struct kvm_dtable gdt, idt;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
};
_Static_assert(offsetof(struct kvm_sregs, interrupt_bitmap) == sizeof(struct sregs_common), "head");
_Static_assert(offsetof(struct kvm_sregs2, flags) == sizeof(struct sregs_common), "head");

static void segment_get(const struct segment *s, struct kvm_segment *k)
{
	*k = (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->sel,
		.type = s->type,
		.present = s->present,
		.dpl = s->dpl,
		.db = s->db,
		.s = s->s,
		.l = s->l,
		.g = s->g,
		.avl = s->avl,
		.unusable = s->unusable,
	};
}

static void segment_set(struct segment *s, const struct kvm_segment *k)
{
	*s = (struct segment){
		.base = k->base,
		.limit = k->limit,
		.sel = k->selector,
		.type = k->type & 15,
		.present = k->present & 1,
		.dpl = k->dpl & 3,
		.db = k->db & 1,
		.s = k->s & 1,
		.l = k->l & 1,
		.g = k->g & 1,
		.avl = k->avl & 1,
		.unusable = k->unusable & 1,
	};
}

static void common_get(struct vcpu *cpu, struct sregs_common *s)
{
	memset(s, 0, sizeof(*s));
	segment_get(&cpu->seg[SEG_CS], &s->cs);
	segment_get(&cpu->seg[SEG_DS], &s->ds);
	segment_get(&cpu->seg[SEG_ES], &s->es);
	segment_get(&cpu->seg[SEG_FS], &s->fs);
	segment_get(&cpu->seg[SEG_GS], &s->gs);
	segment_get(&cpu->seg[SEG_SS], &s->ss);
	segment_get(&cpu->tr, &s->tr);
	segment_get(&cpu->ldtr, &s->ldt);
	s->gdt = (struct kvm_dtable){ .base = cpu->gdt.base, .limit = cpu->gdt.limit };
	s->idt = (struct kvm_dtable){ .base = cpu->idt.base, .limit = cpu->idt.limit };
	s->cr0 = cpu->cr0;
	s->cr2 = cpu->cr2;
	s->cr3 = cpu->cr3;
	s->cr4 = cpu->cr4;
	s->cr8 = lapic_get_cr8(cpu);
	s->efer = cpu->efer;
	s->apic_base = lapic_get_base(cpu);
}

static bool cr0_valid(uint64_t cr0)
{
	if (cr0 >> 32) {
		return false;
	}
	if ((cr0 & CR0_NW) && !(cr0 & CR0_CD)) {
		return false;
	}
	return !(cr0 & CR0_PG) || (cr0 & CR0_PE);
}

/* The consistency that the kernel asks for: what no processor could be in. */
static bool common_valid(struct vcpu *cpu, const struct sregs_common *s)
{
	if ((s->efer & EFER_LME) && (s->cr0 & CR0_PG)) {
		if (!(s->cr4 & CR4_PAE) || !(s->efer & EFER_LMA)) {
			return false;
		}
		if (s->cr3 >> cpuid_maxphyaddr(cpu)) {
			return false;
		}
	} else if ((s->efer & EFER_LMA) || s->cs.l) {
		return false;
	}
	return !(s->cr4 & ~cpu_cr4_valid(cpu)) && cr0_valid(s->cr0);
}

static void set_segments(struct vcpu *cpu, const struct sregs_common *s)
{
	segment_set(&cpu->seg[SEG_CS], &s->cs);
	segment_set(&cpu->seg[SEG_DS], &s->ds);
	segment_set(&cpu->seg[SEG_ES], &s->es);
	segment_set(&cpu->seg[SEG_FS], &s->fs);
	segment_set(&cpu->seg[SEG_GS], &s->gs);
	segment_set(&cpu->seg[SEG_SS], &s->ss);
	segment_set(&cpu->tr, &s->tr);
	segment_set(&cpu->ldtr, &s->ldt);
	cpu->gdt = (struct dtable){ .base = s->gdt.base, .limit = s->gdt.limit };
	cpu->idt = (struct dtable){ .base = s->idt.base, .limit = s->idt.limit };
}

/* SS.DPL is the CPL (SDM 3A 3.4.5 has it in CS's RPL; they agree but in odd transitions). */
static uint8_t cpl_of(const struct vcpu *cpu)
{
	if (!(cpu->cr0 & CR0_PE)) {
		return 0;
	}
	return cpu->rflags & FL_VM ? 3 : cpu->seg[SEG_SS].dpl;
}

/* Old user space resets the boot processor without touching its MP state. */
static void unhalt_after_reset(struct vcpu *cpu)
{
	const struct segment *cs = &cpu->seg[SEG_CS];

	if (cpu->id == cpu->vm->boot_cpu_id && cpu->rip == 0xfff0 && cs->sel == 0xf000 &&
	    cs->base == 0xffff0000u && !(cpu->cr0 & CR0_PE)) {
		atomic_store(&cpu->mp_state, KVM_MP_STATE_RUNNABLE);
	}
}

static int common_set(struct vcpu *cpu, const struct sregs_common *s)
{
	uint64_t cr0 = cpu->cr0, cr4 = cpu->cr4, efer = cpu->efer;

	if (!common_valid(cpu, s) || !lapic_set_base(cpu, s->apic_base, true)) {
		return -EINVAL;
	}
	cpu->cr2 = s->cr2;
	lapic_set_cr8(cpu, s->cr8 & 15);
	cpu->efer = s->efer;
	cpu->cr0 = s->cr0 | CR0_ET;
	cpu->cr4 = s->cr4;
	set_segments(cpu, s);
	cpu->cpl = cpl_of(cpu);
	/* A PAE table with reserved bits is found out by the walk, as in the kernel. */
	if (!mmu_set_cr3(cpu, s->cr3, false)) {
		cpu->cr3 = s->cr3;
	}
	mmu_paging_changed(cpu, cr0, cr4, efer);
	mmu_flush_all(cpu);
	cpu_mode_changed(cpu);
	unhalt_after_reset(cpu);
	vcpu_request(cpu, REQ_EVENT);
	return 0;
}

void sregs_get(struct vcpu *cpu, struct kvm_sregs *s)
{
	struct sregs_common common;

	common_get(cpu, &common);
	memset(s, 0, sizeof(*s));
	memcpy(s, &common, sizeof(common));
	if (cpu->ev.interrupt_injected && !cpu->ev.interrupt_soft) {
		s->interrupt_bitmap[cpu->ev.interrupt_nr / 64] |= BIT64(cpu->ev.interrupt_nr % 64);
	}
}

int sregs_set(struct vcpu *cpu, struct kvm_sregs *s)
{
	struct sregs_common common;
	int r;

	memcpy(&common, s, sizeof(common));
	r = common_set(cpu, &common);
	if (r != 0) {
		return r;
	}
	for (unsigned i = 0; i < 4; i++) {
		if (s->interrupt_bitmap[i] != 0) {
			cpu->ev.interrupt_nr = (uint8_t)(i * 64 + (unsigned)__builtin_ctzll(
									  s->interrupt_bitmap[i]));
			cpu->ev.interrupt_injected = true;
			cpu->ev.interrupt_soft = false;
			break;
		}
	}
	return 0;
}

static bool is_pae_paging(const struct vcpu *cpu)
{
	return (cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE) && !(cpu->efer & EFER_LMA);
}

void sregs2_get(struct vcpu *cpu, struct kvm_sregs2 *s)
{
	struct sregs_common common;

	common_get(cpu, &common);
	memset(s, 0, sizeof(*s));
	memcpy(s, &common, sizeof(common));
	if (is_pae_paging(cpu) &&
	    vm_read_phys(cpu->vm, cpu->cr3 & 0xffffffe0u, s->pdptrs, sizeof(s->pdptrs)) == 0) {
		s->flags |= KVM_SREGS2_FLAGS_PDPTRS_VALID;
	}
}

int sregs2_set(struct vcpu *cpu, struct kvm_sregs2 *s)
{
	struct sregs_common common;
	bool pae = (s->cr0 & CR0_PG) && (s->cr4 & CR4_PAE) && !(s->efer & EFER_LMA);

	if (s->flags & ~(uint64_t)KVM_SREGS2_FLAGS_PDPTRS_VALID) {
		return -EINVAL;
	}
	if ((s->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) && !pae) {
		return -EINVAL;
	}
	memcpy(&common, s, sizeof(common));
	return common_set(cpu, &common);
}
