/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Segment registers, descriptor tables, selector checks, FS and GS bases. */
#include "softkvm/cpu/exec_sys_int.h"

/* --- operands ------------------------------------------------------------------------ */
/* A 16-bit source in a register or memory. */
static bool load_ew(struct vcpu *cpu, const struct insn *in, uint16_t *ret)
{
	gva_t lin;

	if (!(in->flags & INSN_MEM)) {
		*ret = (uint16_t)cpu->gpr[in->rm];
		return true;
	}
	return ea_linear(cpu, in, 2, ACC_READ, &lin) && mmu_load(cpu, lin, ret, 2);
}

/* A destination that is 16 bits in memory, and the operand size in a register. */
static enum exec_result store_sel(struct vcpu *cpu, const struct insn *in, uint64_t v)
{
	gva_t lin;

	if (!(in->flags & INSN_MEM)) {
		reg_store(cpu, in->rm, v, in->osz);
		return exec_next(cpu, in);
	}
	if (!ea_linear(cpu, in, 2, ACC_WRITE, &lin) || !mmu_store(cpu, lin, &v, 2)) {
		return exec_abort(cpu, in);
	}
	return exec_next(cpu, in);
}

static gva_t lin_add(const struct vcpu *cpu, gva_t lin, unsigned n)
{
	return cpu_64bit(cpu) ? lin + n : (uint32_t)(lin + n);
}

/* CR4.UMIP keeps programs from looking at descriptor tables. */
static bool umip(const struct vcpu *cpu)
{
	return (cpu->cr4 & CR4_UMIP) && cpu->cpl > 0;
}

/* Put a checked segment into its register and go on. */
static enum exec_result commit(struct vcpu *cpu, const struct insn *in, unsigned index,
			       const struct segment *s)
{
	bool changed = seg_commit(cpu, index, s);

	if (index == SEG_SS) {
		cpu->ev.shadow |= SHADOW_MOVSS;
		return exec_end(cpu, in);
	}
	return changed ? exec_end(cpu, in) : exec_next(cpu, in);
}

/* --- MOV, PUSH, POP ------------------------------------------------------------------ */
static enum exec_result op_mov_from_sreg(struct vcpu *cpu, const struct insn *in)
{
	return in->reg > SEG_GS ? exec_ud(cpu, in) : store_sel(cpu, in, cpu->seg[in->reg].sel);
}

static enum exec_result op_mov_to_sreg(struct vcpu *cpu, const struct insn *in)
{
	struct segment s;
	uint16_t sel;

	if (in->reg == SEG_CS || in->reg > SEG_GS) {
		return exec_ud(cpu, in);
	}
	if (!load_ew(cpu, in, &sel) || !seg_prepare(cpu, in->reg, sel, &s)) {
		return exec_abort(cpu, in);
	}
	return commit(cpu, in, in->reg, &s);
}

static enum exec_result op_push_sreg(struct vcpu *cpu, const struct insn *in)
{
	struct stack st;

	stack_current(cpu, &st);
	if (!stack_push(cpu, &st, cpu->seg[in->reg].sel, in->osz)) {
		return exec_abort_stack(cpu, in);
	}
	cpu->gpr[RSP] = stack_merge_rsp(cpu, &st);
	return exec_next(cpu, in);
}

static enum exec_result op_pop_sreg(struct vcpu *cpu, const struct insn *in)
{
	struct segment s;
	struct stack st;
	uint64_t sel;

	stack_current(cpu, &st);
	if (!stack_pop(cpu, &st, in->osz, &sel)) {
		return exec_abort_stack(cpu, in);
	}
	if (!seg_prepare(cpu, in->reg, (uint16_t)sel, &s)) {
		return exec_abort(cpu, in);
	}
	cpu->gpr[RSP] = stack_merge_rsp(cpu, &st);
	return commit(cpu, in, in->reg, &s);
}

/* LDS, LES, LFS, LGS, LSS. */
static enum exec_result load_far(struct vcpu *cpu, const struct insn *in, unsigned index)
{
	struct segment s;
	uint64_t off = 0;
	uint16_t sel;
	gva_t lin;
	bool ok;

	if (!(in->flags & INSN_MEM)) {
		return exec_ud(cpu, in);
	}
	if (!ea_linear(cpu, in, in->osz + 2u, ACC_READ, &lin)) {
		return exec_abort(cpu, in);
	}
	ok = in->osz == 8   ? mmu_load(cpu, lin, &off, 8)
	     : in->osz == 4 ? mmu_load(cpu, lin, &off, 4)
			    : mmu_load(cpu, lin, &off, 2);
	if (!ok || !mmu_load(cpu, lin_add(cpu, lin, in->osz), &sel, 2) ||
	    !seg_prepare(cpu, index, sel, &s)) {
		return exec_abort(cpu, in);
	}
	reg_store(cpu, in->reg, off, in->osz);
	return commit(cpu, in, index, &s);
}

static enum exec_result op_lds(struct vcpu *cpu, const struct insn *in)
{
	return load_far(cpu, in, SEG_DS);
}
static enum exec_result op_les(struct vcpu *cpu, const struct insn *in)
{
	return load_far(cpu, in, SEG_ES);
}
static enum exec_result op_lfs(struct vcpu *cpu, const struct insn *in)
{
	return load_far(cpu, in, SEG_FS);
}
static enum exec_result op_lgs(struct vcpu *cpu, const struct insn *in)
{
	return load_far(cpu, in, SEG_GS);
}
static enum exec_result op_lss(struct vcpu *cpu, const struct insn *in)
{
	enum exec_result r = load_far(cpu, in, SEG_SS);

	/* Unlike MOV and POP, LSS loads both halves at once and holds nothing off. */
	if (r == EXEC_END) {
		cpu->ev.shadow &= (uint8_t)~SHADOW_MOVSS;
	}
	return r;
}

/* --- LAR, LSL, VERR, VERW, ARPL ------------------------------------------------------ */
#define TYPES_LAR_LEGACY                                                                    \
	(BIT(DT_TSS16) | BIT(DT_LDT) | BIT(DT_TSS16_BUSY) | BIT(DT_CALL16) | BIT(DT_TASK) | \
	 BIT(DT_TSS) | BIT(DT_TSS_BUSY) | BIT(DT_CALL))
#define TYPES_LAR_LONG (BIT(DT_LDT) | BIT(DT_TSS) | BIT(DT_TSS_BUSY) | BIT(DT_CALL))
#define TYPES_GATES    (BIT(DT_CALL16) | BIT(DT_TASK) | BIT(DT_CALL))

/* Set ZF alone. */
static enum exec_result set_zf(struct vcpu *cpu, const struct insn *in, bool zf)
{
	cpu->cc = (cpu->cc & ~CC_ZF) | (zf ? CC_ZF : 0);
	return exec_next(cpu, in);
}

/* May a program at CPL and RPL see this segment at all? */
static bool visible(const struct vcpu *cpu, const struct desc *d, uint16_t sel)
{
	return (DESC_CODE(d) && DESC_CONFORMING(d)) ||
	       (DESC_DPL(d) >= cpu->cpl && DESC_DPL(d) >= (sel & 3u));
}

/* Read the descriptor for LAR or LSL: which system types are shown depends on the instruction. */
static bool inspect(struct vcpu *cpu, const struct insn *in, uint32_t types, struct desc *d,
		    bool *ret_ok)
{
	uint16_t sel;

	if (!load_ew(cpu, in, &sel) || !desc_peek(cpu, sel, d, ret_ok)) {
		return false;
	}
	*ret_ok = *ret_ok && (DESC_S(d) || (types & BIT(DESC_TYPE(d)))) && visible(cpu, d, sel);
	return true;
}

static enum exec_result op_lar(struct vcpu *cpu, const struct insn *in)
{
	uint32_t types = cpu_lma(cpu) ? TYPES_LAR_LONG : TYPES_LAR_LEGACY;
	struct desc d;
	bool ok;

	if (!inspect(cpu, in, types, &d, &ok)) {
		return exec_abort(cpu, in);
	}
	if (ok) {
		reg_store(cpu, in->reg, d.hi & (in->osz == 2 ? 0xff00 : 0xffff00), in->osz);
	}
	return set_zf(cpu, in, ok);
}

static enum exec_result op_lsl(struct vcpu *cpu, const struct insn *in)
{
	uint32_t types = (cpu_lma(cpu) ? TYPES_LAR_LONG : TYPES_LAR_LEGACY) & ~TYPES_GATES;
	struct desc d;
	bool ok;

	if (!inspect(cpu, in, types, &d, &ok)) {
		return exec_abort(cpu, in);
	}
	if (ok) {
		reg_store(cpu, in->reg, desc_limit(&d), in->osz);
	}
	return set_zf(cpu, in, ok);
}

static enum exec_result verify(struct vcpu *cpu, const struct insn *in, bool write)
{
	struct desc d;
	bool ok;

	if (!inspect(cpu, in, 0, &d, &ok)) {
		return exec_abort(cpu, in);
	}
	return set_zf(cpu, in, ok && (write ? desc_writable_data(&d) : desc_readable(&d)));
}

static enum exec_result op_verr(struct vcpu *cpu, const struct insn *in)
{
	return verify(cpu, in, false);
}
static enum exec_result op_verw(struct vcpu *cpu, const struct insn *in)
{
	return verify(cpu, in, true);
}

static enum exec_result op_arpl(struct vcpu *cpu, const struct insn *in)
{
	uint16_t dst, rpl = cpu->gpr[in->reg] & 3;
	gva_t lin = 0;
	bool raise;

	if (in->flags & INSN_MEM) {
		/* Write access is checked even if nothing will be changed. */
		if (!ea_linear(cpu, in, 2, ACC_RMW, &lin) || !mmu_probe(cpu, lin, 2, ACC_WRITE) ||
		    !mmu_load(cpu, lin, &dst, 2)) {
			return exec_abort(cpu, in);
		}
	} else {
		dst = (uint16_t)cpu->gpr[in->rm];
	}
	raise = (dst & 3) < rpl;
	if (raise) {
		dst = (uint16_t)((dst & ~3u) | rpl);
		if (!(in->flags & INSN_MEM)) {
			reg_store(cpu, in->rm, dst, 2);
		} else if (!mmu_store(cpu, lin, &dst, 2)) {
			return exec_abort(cpu, in);
		}
	}
	return set_zf(cpu, in, raise);
}

/* --- LDTR and TR --------------------------------------------------------------------- */
static enum exec_result op_sldt(struct vcpu *cpu, const struct insn *in)
{
	return umip(cpu) ? exec_gp0(cpu, in) : store_sel(cpu, in, cpu->ldtr.sel);
}
static enum exec_result op_str(struct vcpu *cpu, const struct insn *in)
{
	return umip(cpu) ? exec_gp0(cpu, in) : store_sel(cpu, in, cpu->tr.sel);
}

/* Read a system descriptor of one of `types` from the GDT. */
static bool read_system(struct vcpu *cpu, uint16_t sel, uint32_t types, struct desc *d)
{
	if (sel & 4) {
		return cpu_raise(cpu, EX_GP, sel_error(sel));
	}
	if (!desc_read(cpu, sel, d, EX_GP, 0)) {
		return false;
	}
	if (DESC_S(d) || !(types & BIT(DESC_TYPE(d)))) {
		return cpu_raise(cpu, EX_GP, sel_error(sel));
	}
	if (!DESC_P(d)) {
		return cpu_raise(cpu, EX_NP, sel_error(sel));
	}
	if (cpu_lma(cpu)) {
		return desc_read_high(cpu, sel, d, EX_GP, 0) &&
		       (canonical(cpu, desc_base(d) | d->high << 32) ||
			cpu_raise(cpu, EX_GP, sel_error(sel)));
	}
	return true;
}

static enum exec_result op_lldt(struct vcpu *cpu, const struct insn *in)
{
	struct desc d;
	uint16_t sel;

	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	if (!load_ew(cpu, in, &sel)) {
		return exec_abort(cpu, in);
	}
	if (sel_null(sel)) {
		cpu->ldtr = (struct segment){ .sel = sel, .unusable = 1, .type = DT_LDT };
		return exec_next(cpu, in);
	}
	if (!read_system(cpu, sel, BIT(DT_LDT), &d)) {
		return exec_abort(cpu, in);
	}
	desc_to_segment(&d, sel, &cpu->ldtr);
	return exec_next(cpu, in);
}

static enum exec_result op_ltr(struct vcpu *cpu, const struct insn *in)
{
	struct desc d;
	uint16_t sel;

	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	if (!load_ew(cpu, in, &sel)) {
		return exec_abort(cpu, in);
	}
	if (sel_null(sel)) {
		return exec_gp0(cpu, in);
	}
	if (!read_system(cpu, sel, BIT(DT_TSS) | (cpu_lma(cpu) ? 0 : BIT(DT_TSS16)), &d) ||
	    !desc_set_busy(cpu, &d, true)) {
		return exec_abort(cpu, in);
	}
	desc_to_segment(&d, sel, &cpu->tr);
	return exec_next(cpu, in);
}

/* --- GDTR and IDTR ------------------------------------------------------------------- */
static enum exec_result store_table(struct vcpu *cpu, const struct insn *in, const struct dtable *t)
{
	unsigned base_size = cpu_64bit(cpu) ? 8 : 4;
	gva_t lin;
	bool ok;

	if (umip(cpu)) {
		return exec_gp0(cpu, in);
	}
	if (!ea_linear(cpu, in, base_size + 2, ACC_WRITE, &lin) ||
	    !mmu_probe(cpu, lin, base_size + 2, ACC_WRITE) || !mmu_store(cpu, lin, &t->limit, 2)) {
		return exec_abort(cpu, in);
	}
	lin = lin_add(cpu, lin, 2);
	ok = base_size == 8 ? mmu_store(cpu, lin, &t->base, 8) : mmu_store(cpu, lin, &t->base, 4);
	return ok ? exec_next(cpu, in) : exec_abort(cpu, in);
}

static enum exec_result load_table(struct vcpu *cpu, const struct insn *in, struct dtable *t)
{
	bool m64 = cpu_64bit(cpu);
	uint64_t base = 0;
	uint16_t limit;
	gva_t lin;
	bool ok;

	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	if (!ea_linear(cpu, in, m64 ? 10 : 6, ACC_READ, &lin) || !mmu_load(cpu, lin, &limit, 2)) {
		return exec_abort(cpu, in);
	}
	lin = lin_add(cpu, lin, 2);
	ok = m64 ? mmu_load(cpu, lin, &base, 8) : mmu_load(cpu, lin, &base, 4);
	if (!ok) {
		return exec_abort(cpu, in);
	}
	if (m64 && !canonical(cpu, base)) {
		return exec_gp0(cpu, in);
	}
	if (!m64 && in->osz == 2) {
		base &= 0xffffff;
	}
	*t = (struct dtable){ .base = base, .limit = limit };
	return exec_next(cpu, in);
}

static enum exec_result op_sgdt(struct vcpu *cpu, const struct insn *in)
{
	return store_table(cpu, in, &cpu->gdt);
}
static enum exec_result op_sidt(struct vcpu *cpu, const struct insn *in)
{
	return store_table(cpu, in, &cpu->idt);
}
static enum exec_result op_lgdt(struct vcpu *cpu, const struct insn *in)
{
	return load_table(cpu, in, &cpu->gdt);
}
static enum exec_result op_lidt(struct vcpu *cpu, const struct insn *in)
{
	return load_table(cpu, in, &cpu->idt);
}

static enum exec_result op_smsw(struct vcpu *cpu, const struct insn *in)
{
	return umip(cpu) ? exec_gp0(cpu, in) : store_sel(cpu, in, cpu->cr0);
}

/* --- FS and GS bases ----------------------------------------------------------------- */
static enum exec_result op_swapgs(struct vcpu *cpu, const struct insn *in)
{
	uint64_t base = cpu->seg[SEG_GS].base;

	if (!cpu_64bit(cpu)) {
		return exec_ud(cpu, in);
	}
	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	cpu->seg[SEG_GS].base = cpu->segbase[SEG_GS] = cpu->msr.kernel_gs_base;
	cpu->msr.kernel_gs_base = base;
	return exec_next(cpu, in);
}

static enum exec_result read_base(struct vcpu *cpu, const struct insn *in, unsigned index)
{
	if (!cpu_64bit(cpu) || !(cpu->cr4 & CR4_FSGSBASE)) {
		return exec_ud(cpu, in);
	}
	reg_store(cpu, in->rm, cpu->seg[index].base, in->osz);
	return exec_next(cpu, in);
}

static enum exec_result write_base(struct vcpu *cpu, const struct insn *in, unsigned index)
{
	uint64_t v = reg_load(cpu, in->rm, in->osz);

	if (!cpu_64bit(cpu) || !(cpu->cr4 & CR4_FSGSBASE)) {
		return exec_ud(cpu, in);
	}
	if (!canonical(cpu, v)) {
		return exec_gp0(cpu, in);
	}
	cpu->seg[index].base = cpu->segbase[index] = v;
	return exec_next(cpu, in);
}

static enum exec_result op_rdfsbase(struct vcpu *cpu, const struct insn *in)
{
	return read_base(cpu, in, SEG_FS);
}
static enum exec_result op_rdgsbase(struct vcpu *cpu, const struct insn *in)
{
	return read_base(cpu, in, SEG_GS);
}
static enum exec_result op_wrfsbase(struct vcpu *cpu, const struct insn *in)
{
	return write_base(cpu, in, SEG_FS);
}
static enum exec_result op_wrgsbase(struct vcpu *cpu, const struct insn *in)
{
	return write_base(cpu, in, SEG_GS);
}

/* --- who does what ------------------------------------------------------------------- */
static const struct {
	uint16_t op;
	exec_fn *fn;
} handlers[] = {
	{ OP_MOV_FROM_SREG, op_mov_from_sreg },
	{ OP_MOV_TO_SREG, op_mov_to_sreg },
	{ OP_PUSH_SREG, op_push_sreg },
	{ OP_POP_SREG, op_pop_sreg },
	{ OP_LDS, op_lds },
	{ OP_LES, op_les },
	{ OP_LFS, op_lfs },
	{ OP_LGS, op_lgs },
	{ OP_LSS, op_lss },
	{ OP_LAR, op_lar },
	{ OP_LSL, op_lsl },
	{ OP_VERR, op_verr },
	{ OP_VERW, op_verw },
	{ OP_ARPL, op_arpl },
	{ OP_SLDT, op_sldt },
	{ OP_STR, op_str },
	{ OP_LLDT, op_lldt },
	{ OP_LTR, op_ltr },
	{ OP_SGDT, op_sgdt },
	{ OP_SIDT, op_sidt },
	{ OP_LGDT, op_lgdt },
	{ OP_LIDT, op_lidt },
	{ OP_SMSW, op_smsw },
	{ OP_SWAPGS, op_swapgs },
	{ OP_RDFSBASE, op_rdfsbase },
	{ OP_RDGSBASE, op_rdgsbase },
	{ OP_WRFSBASE, op_wrfsbase },
	{ OP_WRGSBASE, op_wrgsbase },
};

exec_fn *exec_sys_bind_seg(const struct insn *in)
{
	for (unsigned i = 0; i < ARRAY_SIZE(handlers); i++) {
		if (handlers[i].op == in->op) {
			return handlers[i].fn;
		}
	}
	return NULL;
}
