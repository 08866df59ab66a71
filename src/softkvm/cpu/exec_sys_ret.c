/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Far RET and IRET in all modes (SDM 2A IRET, 2B RET). */
#include "softkvm/cpu/exec_sys_int.h"

#define FL_PLAIN (FL_ARITH | FL_TF | FL_DF | FL_NT) /* loadable at any privilege */
#define FL_WIDE  (FL_RF | FL_AC | FL_ID)            /* in the upper half */

/* What a return has popped. */
struct frame {
	uint64_t rip, flags, sp;
	uint16_t cs, ss;
};

static void load_flags(struct vcpu *cpu, uint64_t v, uint64_t mask)
{
	uint64_t old = cpu_rflags(cpu), new = (old & ~mask) | (v & mask);

	cpu->cc = cc_from_flags(new);
	cpu->rflags = (new & ~(uint64_t)FL_ARITH) | FL_FIXED;
}

/* Which flags IRET loads in protected mode. */
static uint64_t iret_mask(const struct vcpu *cpu, unsigned size)
{
	uint64_t mask = FL_PLAIN | (size > 2 ? FL_WIDE : 0);

	if (cpu->cpl <= cpu_iopl(cpu)) {
		mask |= FL_IF;
	}
	if (cpu->cpl == 0) {
		mask |= FL_IOPL | (size > 2 ? FL_VIF | FL_VIP : 0);
	}
	return mask;
}

static bool pop_frame(struct vcpu *cpu, struct stack *st, unsigned size, bool iret,
		      struct frame *ret)
{
	uint64_t cs;

	if (!stack_pop(cpu, st, size, &ret->rip) || !stack_pop(cpu, st, size, &cs)) {
		return false;
	}
	ret->cs = (uint16_t)cs;
	return !iret || stack_pop(cpu, st, size, &ret->flags);
}

static bool pop_outer_stack(struct vcpu *cpu, struct stack *st, unsigned size, struct frame *ret)
{
	uint64_t ss;

	if (!stack_pop(cpu, st, size, &ret->sp) || !stack_pop(cpu, st, size, &ss)) {
		return false;
	}
	ret->ss = (uint16_t)ss;
	return true;
}

/* --- real mode and virtual-8086 ------------------------------------------------------ */
static void real_target(struct vcpu *cpu, const struct frame *f, const struct stack *st)
{
	struct segment cs;

	seg_from_real(cpu, SEG_CS, f->cs, &cs);
	cpu->seg[SEG_CS] = cs;
	cpu->rip = f->rip;
	cpu->gpr[RSP] = stack_merge_rsp(cpu, st);
}

/* Flags that a virtual-8086 IRET loads; false: #GP(0). With VME, VIF stands for IF. */
static bool v86_iret_flags(struct vcpu *cpu, struct frame *f, unsigned size, uint64_t *ret_mask)
{
	*ret_mask = FL_PLAIN | FL_IF | (size > 2 ? FL_WIDE : 0);
	if (cpu_iopl(cpu) == 3) {
		return true;
	}
	if (!(cpu->cr4 & CR4_VME) || size != 2 || (f->flags & FL_TF) ||
	    ((f->flags & FL_IF) && (cpu->rflags & FL_VIP))) {
		return cpu_raise(cpu, EX_GP, 0);
	}
	*ret_mask = (*ret_mask & ~(uint64_t)FL_IF) | FL_VIF;
	f->flags = (f->flags & ~(uint64_t)FL_VIF) | (f->flags & FL_IF ? FL_VIF : 0);
	return true;
}

static enum exec_result return_real(struct vcpu *cpu, const struct insn *in, bool iret)
{
	struct frame f = { 0 };
	struct stack st;
	uint64_t mask = 0;

	if (iret && cpu_v86(cpu) && cpu_iopl(cpu) != 3 && (!(cpu->cr4 & CR4_VME) || in->osz != 2)) {
		return exec_gp0(cpu, in);
	}
	stack_current(cpu, &st);
	if (!pop_frame(cpu, &st, in->osz, iret, &f)) {
		return exec_abort(cpu, in);
	}
	if (f.rip > cpu->seg[SEG_CS].limit) {
		return exec_gp0(cpu, in);
	}
	if (!iret) {
		st.sp = (st.sp + in->imm) & st.mask;
	} else if (!cpu_v86(cpu)) {
		mask = FL_PLAIN | FL_IF | FL_IOPL | (in->osz > 2 ? FL_WIDE : 0);
	} else if (!v86_iret_flags(cpu, &f, in->osz, &mask)) {
		return exec_abort(cpu, in);
	}
	real_target(cpu, &f, &st);
	load_flags(cpu, f.flags, mask);
	cpu_mode_changed(cpu);
	return EXEC_END;
}

/* IRET from privilege 0 with VM set in the popped flags. */
static enum exec_result return_to_v86(struct vcpu *cpu, const struct insn *in, struct stack *st,
				      const struct frame *f)
{
	static const uint8_t order[] = { SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	uint64_t sel[ARRAY_SIZE(order)], sp;

	if (!stack_pop(cpu, st, 4, &sp)) {
		return exec_abort(cpu, in);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
		if (!stack_pop(cpu, st, 4, &sel[i])) {
			return exec_abort(cpu, in);
		}
	}
	if (f->rip > 0xffff) {
		return exec_gp0(cpu, in);
	}
	load_flags(cpu, f->flags, FL_PLAIN | FL_WIDE | FL_IF | FL_IOPL | FL_VIF | FL_VIP | FL_VM);
	for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
		struct segment s;

		seg_from_real(cpu, order[i], (uint16_t)sel[i], &s);
		cpu->seg[order[i]] = s;
	}
	seg_from_real(cpu, SEG_CS, f->cs, &cpu->seg[SEG_CS]);
	cpu->rip = f->rip;
	cpu->gpr[RSP] = sp;
	cpu->cpl = 3;
	cpu_mode_changed(cpu);
	return EXEC_END;
}

/* --- protected mode ------------------------------------------------------------------ */
static bool return_code(struct vcpu *cpu, uint16_t sel, struct desc *ret)
{
	unsigned rpl = sel & 3;
	bool ok;

	if (sel_null(sel)) {
		return cpu_raise(cpu, EX_GP, 0);
	}
	if (!desc_read(cpu, sel, ret, EX_GP, 0)) {
		return false;
	}
	ok = rpl >= cpu->cpl && DESC_CODE(ret) && !(cpu_lma(cpu) && DESC_L(ret) && DESC_D(ret)) &&
	     (DESC_CONFORMING(ret) ? DESC_DPL(ret) <= rpl : DESC_DPL(ret) == rpl);
	if (!ok) {
		return cpu_raise(cpu, EX_GP, sel_error(sel));
	}
	if (!DESC_P(ret)) {
		return cpu_raise(cpu, EX_NP, sel_error(sel));
	}
	return desc_set_accessed(cpu, ret);
}

/* SS of a return; null is allowed for 64-bit code above privilege 3. */
static bool return_stack(struct vcpu *cpu, uint16_t sel, unsigned cpl, bool to_64,
			 struct segment *ret)
{
	if (sel_null(sel) && to_64 && cpl != 3 && (sel & 3u) == cpl) {
		*ret = (struct segment){
			.sel = sel, .unusable = 1, .dpl = (uint8_t)cpl, .s = 1, .type = 1
		};
		return true;
	}
	return seg_check_stack(cpu, sel, cpl, ret, EX_GP, 0);
}

/* The new stack pointer: all of it, or 16 bits for a small SS. */
static void set_return_rsp(struct vcpu *cpu, const struct segment *ss, bool to_64, uint64_t sp)
{
	struct stack st = { .ss = ss, .flat = to_64 };

	st.mask = to_64 ? UINT64_MAX : ss->db ? UINT32_MAX : 0xffff;
	st.sp = sp & st.mask;
	cpu->gpr[RSP] = stack_merge_rsp(cpu, &st);
}

static enum exec_result return_protected(struct vcpu *cpu, const struct insn *in, struct stack *st,
					 struct frame *f, bool iret)
{
	unsigned size = in->osz, cpl = f->cs & 3;
	uint64_t mask = iret ? iret_mask(cpu, size) : 0;
	uint64_t release = iret ? 0 : in->imm;
	struct segment cs, ss = cpu->seg[SEG_SS];
	struct desc d;
	bool to_64, pops_stack, outer;

	if (!return_code(cpu, f->cs, &d)) {
		return exec_abort(cpu, in);
	}
	segment_for_cs(&d, f->cs, cpl, &cs);
	to_64 = cpu_lma(cpu) && cs.l;
	outer = cpl != cpu->cpl;
	pops_stack = outer || (iret && cpu_64bit(cpu));
	st->sp = (st->sp + release) & st->mask;
	if (pops_stack &&
	    (!pop_outer_stack(cpu, st, size, f) || !return_stack(cpu, f->ss, cpl, to_64, &ss))) {
		return exec_abort(cpu, in);
	}
	if (!cs_target_check(cpu, &cs, f->rip, 0)) {
		return exec_abort(cpu, in);
	}
	if (pops_stack) {
		set_return_rsp(cpu, &ss, to_64, f->sp + release);
	} else {
		cpu->gpr[RSP] = stack_merge_rsp(cpu, st);
	}
	load_flags(cpu, f->flags, mask);
	cpu->seg[SEG_CS] = cs;
	cpu->seg[SEG_SS] = ss;
	cpu->cpl = (uint8_t)cpl;
	cpu->rip = f->rip;
	if (outer) {
		seg_drop_privileged(cpu);
	}
	cpu_mode_changed(cpu);
	return EXEC_END;
}

/* NT is set: back to the task in the link field. */
static enum exec_result return_task(struct vcpu *cpu, const struct insn *in)
{
	uint16_t link;

	if (cpu_lma(cpu)) {
		return exec_gp0(cpu, in);
	}
	if (!mmu_sys_load(cpu, (uint32_t)cpu->tr.base, &link, 2)) {
		return exec_abort(cpu, in);
	}
	cpu->rip = insn_rip(cpu, in);
	return task_switch(cpu, link, TASK_IRET, insn_next_rip(cpu, in), false, 0, 0);
}

static enum exec_result op_retf(struct vcpu *cpu, const struct insn *in)
{
	struct frame f = { 0 };
	struct stack st;

	if (!cpu_protected(cpu)) {
		return return_real(cpu, in, false);
	}
	stack_current(cpu, &st);
	if (!pop_frame(cpu, &st, in->osz, false, &f)) {
		return exec_abort(cpu, in);
	}
	return return_protected(cpu, in, &st, &f, false);
}

static enum exec_result op_iret(struct vcpu *cpu, const struct insn *in)
{
	struct frame f = { 0 };
	struct stack st;

	cpu->ev.nmi_masked = false; /* even if it faults (SDM 3A 6.7.1) */
	if (!cpu_protected(cpu)) {
		return return_real(cpu, in, true);
	}
	if (cpu->rflags & FL_NT) {
		return return_task(cpu, in);
	}
	stack_current(cpu, &st);
	if (!pop_frame(cpu, &st, in->osz, true, &f)) {
		return exec_abort(cpu, in);
	}
	if (in->osz == 4 && (f.flags & FL_VM) && cpu->cpl == 0 && !cpu_lma(cpu)) {
		return return_to_v86(cpu, in, &st, &f);
	}
	return return_protected(cpu, in, &st, &f, true);
}

exec_fn *exec_sys_bind_ret(const struct insn *in)
{
	switch (in->op) {
	case OP_RETF:
		return op_retf;
	case OP_IRET:
		return op_iret;
	default:
		return NULL;
	}
}
