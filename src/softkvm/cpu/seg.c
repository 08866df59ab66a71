/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What follows from mode and segments: the block key, bases, address checks, reset. */
#include "softkvm/cpu/exec_sys_int.h"
#include "softkvm/cpu/msr_index.h"
#include "softkvm/jit/jit.h"

/* --- derived state ------------------------------------------------------------------- */
static bool segment_flat(const struct segment *s, bool writable)
{
	return !s->unusable && s->base == 0 && s->limit == UINT32_MAX && s->present && s->s &&
	       !(s->type & 8) && !(s->type & 4) && (!writable || (s->type & 2));
}

/* All of CS, DS, ES and SS cover the address space: no access through them needs a check. */
static bool segments_flat(const struct vcpu *cpu)
{
	const struct segment *cs = &cpu->seg[SEG_CS];

	return cs->base == 0 && cs->limit == UINT32_MAX && (cs->type & 10) == 10 &&
	       segment_flat(&cpu->seg[SEG_DS], true) && segment_flat(&cpu->seg[SEG_ES], true) &&
	       segment_flat(&cpu->seg[SEG_SS], true);
}

static uint32_t key_of(const struct vcpu *cpu)
{
	const struct segment *cs = &cpu->seg[SEG_CS];
	uint32_t key = cpu->cpl == 3 ? KEY_USER : 0;

	if (cpu_lma(cpu) && cs->l) {
		return key | MODE_64 | KEY_PE;
	}
	key |= cs->db ? MODE_32 : MODE_16;
	key |= cpu->seg[SEG_SS].db ? KEY_SS32 : 0;
	if (!cpu_protected(cpu)) {
		return key | MODE_REAL;
	}
	return key | KEY_PE | (segments_flat(cpu) ? MODE_FLAT : 0);
}

static uint8_t fp_traps(const struct vcpu *cpu)
{
	uint8_t t = 0;

	if (cpu->cr0 & CR0_EM) {
		t |= FPTRAP_X87_NM | FPTRAP_SSE_UD | FPTRAP_MMX_UD;
	}
	if (cpu->cr0 & CR0_TS) {
		t |= FPTRAP_X87_NM | FPTRAP_SSE_NM | (cpu->cr0 & CR0_MP ? FPTRAP_WAIT_NM : 0);
	}
	if (!(cpu->cr4 & CR4_OSFXSR)) {
		t |= FPTRAP_SSE_UD;
	}
	if (!(cpu->cr4 & CR4_OSXSAVE) ||
	    (cpu->xcr0 & (XFEATURE_SSE | XFEATURE_AVX)) != (XFEATURE_SSE | XFEATURE_AVX)) {
		t |= FPTRAP_AVX_UD;
	}
	return t;
}

void cpu_mode_changed(struct vcpu *cpu)
{
	bool m64;

	if (!cpu_pe(cpu)) {
		cpu->cpl = 0;
	} else if (cpu_v86(cpu)) {
		cpu->cpl = 3;
	}
	cpu->key = key_of(cpu);
	m64 = (cpu->key & MODE_SIZE) == MODE_64;
	for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
		uint64_t base = cpu->seg[i].base;

		if (m64) {
			cpu->segbase[i] = i >= SEG_FS ? base : 0;
		} else {
			cpu->segbase[i] = (uint32_t)base;
		}
	}
	cpu->segbase[SEG_NONE] = 0;
	cpu->gpr[GPR_ZERO] = 0;
	cpu->fp_trap = fp_traps(cpu);
	mmu_select_tlb(cpu);
	jit_mode_changed(cpu);
}

/* --- addresses ----------------------------------------------------------------------- */
static bool seg_fault(struct vcpu *cpu, unsigned seg)
{
	return cpu_raise(cpu, seg == SEG_SS ? EX_SS : EX_GP, 0);
}

/* May a segment of this kind be accessed so? Real mode does not care. */
static bool type_allows(const struct segment *s, enum mmu_access acc)
{
	if (s->type & 8) {
		return acc == ACC_EXEC || (acc == ACC_READ && (s->type & 2));
	}
	return acc == ACC_READ || ((acc == ACC_WRITE || acc == ACC_RMW) && (s->type & 2));
}

static bool within_limit(const struct segment *s, uint64_t offset, unsigned size)
{
	uint64_t last = offset + size - 1;

	if (!(s->type & 8) && (s->type & 4)) {
		return offset > s->limit && last <= (s->db ? UINT32_MAX : 0xffffu);
	}
	return last <= s->limit;
}

bool seg_linear(struct vcpu *cpu, unsigned seg, uint64_t offset, unsigned size, enum mmu_access acc,
		gva_t *ret)
{
	const struct segment *s;

	if (seg >= SEG_NONE) {
		*ret = offset;
		return true;
	}
	if (cpu_64bit(cpu)) {
		uint64_t lin = cpu->segbase[seg] + offset;

		if (!canonical(cpu, lin) || !canonical(cpu, lin + size - 1)) {
			return seg_fault(cpu, seg);
		}
		*ret = lin;
		return true;
	}
	s = &cpu->seg[seg];
	if (cpu_protected(cpu) && (s->unusable || !s->present || !type_allows(s, acc))) {
		return seg_fault(cpu, seg);
	}
	if (!within_limit(s, (uint32_t)offset, size)) {
		return seg_fault(cpu, seg);
	}
	*ret = (uint32_t)(cpu->segbase[seg] + offset);
	return true;
}

/* --- reset --------------------------------------------------------------------------- */
#define DR6_RESET           0xffff0ff0u
#define DR7_RESET           0x400u
#define PAT_RESET           0x0007040600070406ull
#define SMBASE_RESET        0x30000u
#define MISC_ENABLE_RESET   0x1801u   /* fast strings; no BTS, no PEBS */
#define PLATFORM_INFO_RESET BIT64(31) /* CPUID faulting */
#define MCG_CAP_RESET       32u

static void reset_segments(struct vcpu *cpu)
{
	for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
		cpu->seg[i] = (struct segment){ .limit = 0xffff, .type = 3, .s = 1, .present = 1 };
	}
	cpu->seg[SEG_CS].sel = 0xf000;
	cpu->seg[SEG_CS].base = 0xffff0000;
	cpu->seg[SEG_CS].type = 11;
	cpu->tr = (struct segment){ .limit = 0xffff, .type = DT_TSS_BUSY, .present = 1 };
	cpu->ldtr = (struct segment){ .limit = 0xffff, .type = DT_LDT, .present = 1 };
	cpu->gdt = (struct dtable){ .limit = 0xffff };
	cpu->idt = (struct dtable){ .limit = 0xffff };
}

static void reset_events(struct vcpu *cpu)
{
	struct events *ev = &cpu->ev;

	ev->exception_pending = ev->exception_injected = false;
	ev->interrupt_injected = ev->interrupt_soft = false;
	ev->nmi_injected = ev->nmi_masked = ev->smm = false;
	atomic_store(&ev->nmi_pending, 0);
	atomic_store(&ev->smi_pending, false);
	atomic_store(&ev->triple_fault, false);
	atomic_store(&ev->pv_unhalted, false);
	ev->shadow = 0;
	ev->debug_bits = 0;
	ev->soft_bp_rip = UINT64_MAX;
	cpu->user_exit.reason = 0;
}

/* What INIT leaves alone. */
static void reset_power_on(struct vcpu *cpu)
{
	uint64_t mcg_cap = cpu->msr.mcg_cap;

	memset(&cpu->msr, 0, sizeof(cpu->msr));
	cpu->msr.mcg_cap = mcg_cap != 0 ? mcg_cap : MCG_CAP_RESET;
	cpu->msr.pat = PAT_RESET;
	cpu->msr.smbase = SMBASE_RESET;
	cpu->msr.misc_enable = MISC_ENABLE_RESET;
	cpu->msr.platform_info = PLATFORM_INFO_RESET;
	cpu->msr.kvm_poll_control = 1;
	msr_feature_read(MSR_ARCH_CAPABILITIES, &cpu->msr.arch_caps);
	cpu->xcr0 = XFEATURE_X87;
	fpu_reset(cpu);
}

void cpu_reset(struct vcpu *cpu, bool init)
{
	struct cpuid_regs id;

	if (cpu->cpuid_count == 0) {
		cpu_features_update(cpu); /* KVM_SET_CPUID2 does it otherwise */
	}
	cpuid_query(cpu, 1, 0, &id);
	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->gpr[RDX] = id.eax != 0 ? id.eax : 0x600;
	cpu->rip = 0xfff0;
	cpu->rflags = FL_FIXED;
	cpu->cc = cc_from_flags(0);
	cpu->cpl = 0;
	reset_segments(cpu);
	cpu->cr0 = CR0_ET | (init ? cpu->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW);
	cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->efer = cpu->cr8 = 0;
	memset(cpu->dr, 0, sizeof(cpu->dr));
	cpu->dr6 = DR6_RESET;
	cpu->dr7 = DR7_RESET;
	reset_events(cpu);
	if (!init) {
		reset_power_on(cpu);
	}
	mmu_flush_all(cpu);
	cpu_mode_changed(cpu);
}
