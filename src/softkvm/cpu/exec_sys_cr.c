/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control and debug registers, EFER (SDM 3A 2.5, 4.1; 3B 17.2). */
#include "softkvm/cpu/exec_sys_int.h"
#include "softkvm/irqchip/irqchip.h"

#define CR0_KNOWN                                                                                  \
	(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
	 CR0_PG)
#define CR4_PAGING     (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PCIDE | CR4_LA57)
#define DR6_ACTIVE_LOW 0xffff0ff0u
#define DR6_VOLATILE   0xe00fu
#define DR6_BD         BIT(13)
#define DR7_FIXED      0x400u
#define DR7_VOLATILE   0xffff2bffu
#define DR7_GD         BIT(13)
#define DR7_ENABLES    0xffu
#define EFER_FFXSR     BIT64(14)
#define EFER_AUTOIBRS  BIT64(21)
#define CR3_NOFLUSH    BIT64(63)

/* --- CR0 ----------------------------------------------------------------------------- */
static bool gp0(struct vcpu *cpu)
{
	return cpu_raise(cpu, EX_GP, 0);
}

/* Turning paging on or off: what else must be true, and EFER.LMA. */
static bool check_paging_switch(const struct vcpu *cpu, uint64_t v)
{
	bool cs_l = cpu->seg[SEG_CS].l;

	if (v & CR0_PG) {
		return !(cpu->efer & EFER_LME) || ((cpu->cr4 & CR4_PAE) && !cs_l);
	}
	return !(cpu->cr4 & CR4_PCIDE) && !cpu_64bit(cpu);
}

bool cpu_set_cr0(struct vcpu *cpu, uint64_t v)
{
	uint64_t old = cpu->cr0, efer = cpu->efer;

	if ((v >> 32) || ((v & CR0_NW) && !(v & CR0_CD)) || ((v & CR0_PG) && !(v & CR0_PE))) {
		return gp0(cpu);
	}
	v = (v & CR0_KNOWN) | CR0_ET;
	if ((v ^ old) & CR0_PG) {
		if (!check_paging_switch(cpu, v)) {
			return gp0(cpu);
		}
		if (efer & EFER_LME) {
			cpu->efer = v & CR0_PG ? efer | EFER_LMA : efer & ~EFER_LMA;
		}
	}
	cpu->cr0 = v;
	if (((v ^ old) & (CR0_PG | CR0_WP | CR0_CD | CR0_NW)) &&
	    !mmu_paging_changed(cpu, old, cpu->cr4, efer)) {
		cpu->cr0 = old;
		cpu->efer = efer;
		return gp0(cpu);
	}
	cpu_mode_changed(cpu);
	return true;
}

/* --- CR4 ----------------------------------------------------------------------------- */
#define CR4_ALWAYS                                                                                \
	(CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | \
	 CR4_OSFXSR | CR4_OSXMMEXCPT)

/* Bits that ask for a feature. LA57 is none of them: the walk knows four levels. */
static const struct {
	uint64_t bit;
	enum cpu_feature feat;
} cr4_features[] = {
	{ CR4_UMIP, FEAT_UMIP },     { CR4_FSGSBASE, FEAT_FSGSBASE }, { CR4_PCIDE, FEAT_PCID },
	{ CR4_OSXSAVE, FEAT_XSAVE }, { CR4_SMEP, FEAT_SMEP },         { CR4_SMAP, FEAT_SMAP },
};

uint64_t cpu_cr4_valid(const struct vcpu *cpu)
{
	uint64_t valid = CR4_ALWAYS;

	for (unsigned i = 0; i < ARRAY_SIZE(cr4_features); i++) {
		if (feat_test(&cpu->feat, cr4_features[i].feat)) {
			valid |= cr4_features[i].bit;
		}
	}
	return valid;
}

bool cpu_set_cr4(struct vcpu *cpu, uint64_t v)
{
	uint64_t old = cpu->cr4, changed = v ^ old;

	if (v & ~cpu_cr4_valid(cpu)) {
		return gp0(cpu);
	}
	if (cpu_lma(cpu) && (!(v & CR4_PAE) || (changed & CR4_LA57))) {
		return gp0(cpu);
	}
	if ((changed & v & CR4_PCIDE) && (!cpu_lma(cpu) || (cpu->cr3 & 0xfff))) {
		return gp0(cpu);
	}
	cpu->cr4 = v;
	if ((changed & CR4_PAGING) && !mmu_paging_changed(cpu, cpu->cr0, old, cpu->efer)) {
		cpu->cr4 = old;
		return gp0(cpu);
	}
	cpu_mode_changed(cpu);
	return true;
}

/* --- EFER ---------------------------------------------------------------------------- */
bool cpu_set_efer(struct vcpu *cpu, uint64_t v)
{
	uint64_t old = cpu->efer, valid = EFER_LMA;

	valid |= cpu_has(cpu, FEAT_SYSCALL) ? EFER_SCE : 0;
	valid |= cpu_has(cpu, FEAT_LM) ? EFER_LME : 0;
	valid |= cpu_has(cpu, FEAT_NX) ? EFER_NX : 0;
	valid |= cpu_has(cpu, FEAT_FXSR_OPT) ? EFER_FFXSR : 0;
	valid |= cpu_has(cpu, FEAT_AUTOIBRS) ? EFER_AUTOIBRS : 0;
	if ((v & ~valid) || (((v ^ old) & EFER_LME) && (cpu->cr0 & CR0_PG))) {
		return gp0(cpu);
	}
	cpu->efer = (v & ~EFER_LMA) | (old & EFER_LMA);
	if (((cpu->efer ^ old) & EFER_NX) && !mmu_paging_changed(cpu, cpu->cr0, cpu->cr4, old)) {
		cpu->efer = old;
		return gp0(cpu);
	}
	return true;
}

/* --- CR3, CR8 ------------------------------------------------------------------------ */
static bool set_cr3(struct vcpu *cpu, uint64_t v)
{
	bool noflush = false;

	if (cpu_lma(cpu)) {
		if (cpu->cr4 & CR4_PCIDE) {
			noflush = v & CR3_NOFLUSH;
			v &= ~CR3_NOFLUSH;
		}
		if (v >> cpu->feat.phys_bits) {
			return gp0(cpu);
		}
	}
	return mmu_set_cr3(cpu, v, noflush) || gp0(cpu);
}

/* Without a LAPIC of ours, user space hears of a lowered priority (KVM_EXIT_SET_TPR). */
static enum exec_result set_cr8(struct vcpu *cpu, const struct insn *in, uint64_t v)
{
	uint64_t old = lapic_get_cr8(cpu);

	if (v > 15) {
		return exec_gp0(cpu, in);
	}
	lapic_set_cr8(cpu, v);
	if (v < old) {
		if (cpu->lapic == NULL) {
			cpu->rip = insn_next_rip(cpu, in);
			cpu->run->exit_reason = KVM_EXIT_SET_TPR;
			return EXEC_EXIT;
		}
	}
	return exec_end(cpu, in);
}

/* --- MOV CR -------------------------------------------------------------------------- */
static uint64_t cr_operand(const struct vcpu *cpu, const struct insn *in)
{
	return cpu_64bit(cpu) ? cpu->gpr[in->rm] : (uint32_t)cpu->gpr[in->rm];
}

/* LOCK MOV CR0 is AMD's way to CR8 outside 64-bit mode. */
static unsigned cr_number(const struct insn *in)
{
	return in->reg == 0 && (in->flags & INSN_LOCK) ? 8 : in->reg;
}

static enum exec_result op_mov_to_cr(struct vcpu *cpu, const struct insn *in)
{
	uint64_t v = cr_operand(cpu, in);
	bool ok;

	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	switch (cr_number(in)) {
	case 0:
		ok = cpu_set_cr0(cpu, v);
		break;
	case 2:
		cpu->cr2 = v;
		ok = true;
		break;
	case 3:
		ok = set_cr3(cpu, v);
		break;
	case 4:
		ok = cpu_set_cr4(cpu, v);
		break;
	case 8:
		return set_cr8(cpu, in, v);
	default:
		return exec_ud(cpu, in);
	}
	return ok ? exec_end(cpu, in) : exec_abort(cpu, in);
}

static enum exec_result op_mov_from_cr(struct vcpu *cpu, const struct insn *in)
{
	uint64_t v;

	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	switch (cr_number(in)) {
	case 0:
		v = cpu->cr0;
		break;
	case 2:
		v = cpu->cr2;
		break;
	case 3:
		v = cpu->cr3;
		break;
	case 4:
		v = cpu->cr4;
		break;
	case 8:
		v = lapic_get_cr8(cpu);
		break;
	default:
		return exec_ud(cpu, in);
	}
	cpu->gpr[in->rm] = cpu_64bit(cpu) ? v : (uint32_t)v;
	return exec_next(cpu, in);
}

static enum exec_result op_clts(struct vcpu *cpu, const struct insn *in)
{
	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	cpu->cr0 &= ~CR0_TS;
	cpu_mode_changed(cpu);
	return exec_end(cpu, in);
}

/* PE can be set by LMSW, but not cleared. */
static enum exec_result op_lmsw(struct vcpu *cpu, const struct insn *in)
{
	uint16_t v = (uint16_t)cpu->gpr[in->rm];
	gva_t lin;

	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	if ((in->flags & INSN_MEM) &&
	    (!ea_linear(cpu, in, 2, ACC_READ, &lin) || !mmu_load(cpu, lin, &v, 2))) {
		return exec_abort(cpu, in);
	}
	if (!cpu_set_cr0(cpu, (cpu->cr0 & ~(CR0_MP | CR0_EM | CR0_TS)) | (v & 15u))) {
		return exec_abort(cpu, in);
	}
	return exec_end(cpu, in);
}

/* --- debug registers ----------------------------------------------------------------- */
/* The checks of MOV DR; *ret_nr is 0..3, 6, 7. */
static bool check_dr(struct vcpu *cpu, unsigned nr, unsigned *ret_nr)
{
	if (nr > 7 || ((nr == 4 || nr == 5) && (cpu->cr4 & CR4_DE))) {
		return cpu_raise_plain(cpu, EX_UD);
	}
	if (cpu->cpl != 0) {
		return gp0(cpu);
	}
	if (cpu_dr7(cpu) & DR7_GD) {
		cpu->fault =
			(struct fault){ .vector = EX_DB, .has_payload = true, .payload = DR6_BD };
		return false;
	}
	*ret_nr = nr == 4 || nr == 5 ? nr + 2 : nr;
	return true;
}

static enum exec_result op_mov_from_dr(struct vcpu *cpu, const struct insn *in)
{
	unsigned nr;
	uint64_t v;

	if (!check_dr(cpu, in->reg, &nr)) {
		return exec_abort(cpu, in);
	}
	v = nr == 6 ? cpu->dr6 : nr == 7 ? cpu->dr7 : cpu->dr[nr];
	cpu->gpr[in->rm] = cpu_64bit(cpu) ? v : (uint32_t)v;
	return exec_next(cpu, in);
}

static enum exec_result op_mov_to_dr(struct vcpu *cpu, const struct insn *in)
{
	uint64_t v = cr_operand(cpu, in);
	unsigned nr;

	if (!check_dr(cpu, in->reg, &nr)) {
		return exec_abort(cpu, in);
	}
	if (nr >= 6 && (v >> 32)) {
		return exec_gp0(cpu, in);
	}
	switch (nr) {
	case 6:
		cpu->dr6 = (v & DR6_VOLATILE) | DR6_ACTIVE_LOW;
		break;
	case 7:
		cpu->dr7 = (v & DR7_VOLATILE) | DR7_FIXED;
		break;
	default:
		cpu->dr[nr] = v;
		break;
	}
	return exec_end(cpu, in);
}

exec_fn *exec_sys_bind_cr(const struct insn *in)
{
	switch (in->op) {
	case OP_MOV_TO_CR:
		return op_mov_to_cr;
	case OP_MOV_FROM_CR:
		return op_mov_from_cr;
	case OP_CLTS:
		return op_clts;
	case OP_LMSW:
		return op_lmsw;
	case OP_MOV_TO_DR:
		return op_mov_to_dr;
	case OP_MOV_FROM_DR:
		return op_mov_from_dr;
	default:
		return NULL;
	}
}
