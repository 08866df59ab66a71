/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Far JMP and CALL, through call gates too (SDM 2A CALL, JMP; 3A 5.8). Returns
 * are in exec_sys_ret.c.
 */
#include "softkvm/cpu/exec_sys_int.h"

void segment_for_cs(const struct desc *d, uint16_t sel, unsigned cpl, struct segment *ret)
{
	desc_to_segment(d, (uint16_t)((sel & ~3u) | cpl), ret);
}

bool cs_target_check(struct vcpu *cpu, const struct segment *cs, uint64_t rip, uint32_t ext)
{
	bool ok = cpu_lma(cpu) && cs->l ? canonical(cpu, rip) : rip <= cs->limit;

	return ok || cpu_raise(cpu, EX_GP, ext);
}

/* --- the target ---------------------------------------------------------------------- */
static bool read_far_pointer(struct vcpu *cpu, const struct insn *in, uint16_t *ret_sel,
			     uint64_t *ret_off)
{
	uint64_t off = 0;
	gva_t lin, sel_lin;
	bool ok;

	if (!(in->flags & INSN_MEM)) {
		*ret_sel = in->imm2;
		*ret_off = in->imm & size_mask(in->osz);
		return true;
	}
	if (!ea_linear(cpu, in, in->osz + 2u, ACC_READ, &lin)) {
		return false;
	}
	sel_lin = cpu_64bit(cpu) ? lin + in->osz : (uint32_t)(lin + in->osz);
	ok = in->osz == 8   ? mmu_load(cpu, lin, &off, 8)
	     : in->osz == 4 ? mmu_load(cpu, lin, &off, 4)
			    : mmu_load(cpu, lin, &off, 2);
	if (!ok || !mmu_load(cpu, sel_lin, ret_sel, 2)) {
		return false;
	}
	*ret_off = off;
	return true;
}

/* Push the return address. */
static bool push_return(struct vcpu *cpu, const struct insn *in, struct stack *st, unsigned size)
{
	return stack_push(cpu, st, cpu->seg[SEG_CS].sel, size) &&
	       stack_push(cpu, st, insn_next_rip(cpu, in), size);
}

static enum exec_result commit(struct vcpu *cpu, const struct segment *cs, uint64_t rip,
			       const struct stack *st)
{
	if (st != NULL) {
		cpu->gpr[RSP] = stack_merge_rsp(cpu, st);
	}
	cpu->seg[SEG_CS] = *cs;
	cpu->rip = rip;
	cpu_mode_changed(cpu);
	return EXEC_END;
}

static enum exec_result far_real(struct vcpu *cpu, const struct insn *in, uint16_t sel,
				 uint64_t off, bool call)
{
	struct segment cs;
	struct stack st;

	if (off > cpu->seg[SEG_CS].limit) {
		return exec_gp0(cpu, in);
	}
	stack_current(cpu, &st);
	if (call && !push_return(cpu, in, &st, in->osz)) {
		return exec_abort(cpu, in);
	}
	seg_from_real(cpu, SEG_CS, sel, &cs);
	return commit(cpu, &cs, off, call ? &st : NULL);
}

/* --- code segments ------------------------------------------------------------------- */
static bool check_code(struct vcpu *cpu, uint16_t sel, const struct desc *d)
{
	unsigned dpl = DESC_DPL(d), rpl = sel & 3;
	bool ok;

	ok = DESC_CODE(d) && !(cpu_lma(cpu) && DESC_L(d) && DESC_D(d));
	if (ok && DESC_CONFORMING(d)) {
		ok = dpl <= cpu->cpl;
	} else {
		ok = ok && rpl <= cpu->cpl && dpl == cpu->cpl;
	}
	if (!ok) {
		return cpu_raise(cpu, EX_GP, sel_error(sel));
	}
	return DESC_P(d) || cpu_raise(cpu, EX_NP, sel_error(sel));
}

static enum exec_result far_code(struct vcpu *cpu, const struct insn *in, uint16_t sel,
				 uint64_t off, struct desc *d, bool call)
{
	struct segment cs;
	struct stack st;

	if (!check_code(cpu, sel, d)) {
		return exec_abort(cpu, in);
	}
	segment_for_cs(d, sel, cpu->cpl, &cs);
	stack_current(cpu, &st);
	if (!cs_target_check(cpu, &cs, off, 0) || !desc_set_accessed(cpu, d) ||
	    (call && !push_return(cpu, in, &st, in->osz))) {
		return exec_abort(cpu, in);
	}
	cs.type |= 1;
	return commit(cpu, &cs, off, call ? &st : NULL);
}

/* --- call gates ---------------------------------------------------------------------- */
/* The code segment that a gate names; *ret_cpl is the privilege that it runs with. */
static bool gate_code(struct vcpu *cpu, uint16_t sel, bool call, struct desc *ret,
		      unsigned *ret_cpl)
{
	bool ok;

	if (sel_null(sel)) {
		return cpu_raise(cpu, EX_GP, 0);
	}
	if (!desc_read(cpu, sel, ret, EX_GP, 0)) {
		return false;
	}
	ok = DESC_CODE(ret) && DESC_DPL(ret) <= cpu->cpl;
	ok = ok && (!cpu_lma(cpu) || (DESC_L(ret) && !DESC_D(ret)));
	if (ok && !call && !DESC_CONFORMING(ret)) {
		ok = DESC_DPL(ret) == cpu->cpl;
	}
	if (!ok) {
		return cpu_raise(cpu, EX_GP, sel_error(sel));
	}
	if (!DESC_P(ret)) {
		return cpu_raise(cpu, EX_NP, sel_error(sel));
	}
	*ret_cpl = DESC_CONFORMING(ret) ? cpu->cpl : DESC_DPL(ret);
	return desc_set_accessed(cpu, ret);
}

/* Copy the gate's parameters from the caller's stack to the new one. */
static bool copy_parameters(struct vcpu *cpu, struct stack *to, unsigned count, unsigned size)
{
	uint64_t v[31];
	struct stack from;

	stack_current(cpu, &from);
	for (unsigned i = 0; i < count; i++) {
		if (!stack_pop(cpu, &from, size, &v[i])) {
			return false;
		}
	}
	while (count-- > 0) {
		if (!stack_push(cpu, to, v[count], size)) {
			return false;
		}
	}
	return true;
}

/* A new stack of privilege `cpl`, with old SS:SP and the parameters pushed. */
static bool inner_stack(struct vcpu *cpu, unsigned cpl, unsigned size, unsigned params,
			struct segment *ss, struct stack *st)
{
	uint16_t sel;
	uint64_t sp;

	if (!tss_stack(cpu, cpl, 0, 0, &sel, &sp)) {
		return false;
	}
	*st = (struct stack){ .ss = ss, .sp = sp, .cpl = cpl, .implicit = true };
	if (cpu_lma(cpu)) {
		*ss = (struct segment){
			.sel = sel, .unusable = 1, .dpl = (uint8_t)cpl, .s = 1, .type = 1
		};
		st->flat = true;
		st->mask = UINT64_MAX;
	} else {
		if (!seg_check_stack(cpu, sel, cpl, ss, EX_TS, 0)) {
			return false;
		}
		st->mask = ss->db ? UINT32_MAX : 0xffff;
		st->sp &= st->mask;
		st->error = sel_error(sel);
	}
	return stack_push(cpu, st, cpu->seg[SEG_SS].sel, size) &&
	       stack_push(cpu, st, cpu->gpr[RSP], size) &&
	       copy_parameters(cpu, st, cpu_lma(cpu) ? 0 : params, size);
}

static enum exec_result far_call_gate(struct vcpu *cpu, const struct insn *in, uint16_t gate,
				      struct desc *g, bool call)
{
	unsigned size = DESC_TYPE(g) == DT_CALL16 ? 2 : cpu_lma(cpu) ? 8 : 4;
	unsigned cpl;
	uint16_t sel;
	uint64_t off;
	struct segment cs, ss;
	struct stack st;
	struct desc d;

	if (cpu_lma(cpu) && !desc_read_high(cpu, gate, g, EX_GP, 0)) {
		return exec_abort(cpu, in);
	}
	sel = gate_sel(g);
	off = gate_offset(g) & size_mask(size);
	if (!gate_code(cpu, sel, call, &d, &cpl)) {
		return exec_abort(cpu, in);
	}
	segment_for_cs(&d, sel, cpl, &cs);
	if (!cs_target_check(cpu, &cs, off, 0)) {
		return exec_abort(cpu, in);
	}
	if (!call) {
		return commit(cpu, &cs, off, NULL);
	}
	stack_current(cpu, &st);
	if (cpl != cpu->cpl && !inner_stack(cpu, cpl, size, g->hi & 31, &ss, &st)) {
		return exec_abort(cpu, in);
	}
	/* In long mode the handler is 64-bit code: its stack is flat, whatever the caller's is. */
	st.flat = st.flat || cpu_lma(cpu);
	if (!push_return(cpu, in, &st, size)) {
		return exec_abort(cpu, in);
	}
	if (cpl != cpu->cpl) {
		cpu->gpr[RSP] = stack_merge_rsp(cpu, &st);
		cpu->seg[SEG_SS] = ss;
		cpu->cpl = (uint8_t)cpl;
		return commit(cpu, &cs, off, NULL);
	}
	return commit(cpu, &cs, off, &st);
}

/* --- dispatch by descriptor ---------------------------------------------------------- */
static enum exec_result far_task(struct vcpu *cpu, const struct insn *in, uint16_t sel, bool call)
{
	enum exec_result r;

	cpu->rip = insn_rip(cpu, in);
	r = task_switch(cpu, sel, call ? TASK_CALL : TASK_JMP, insn_next_rip(cpu, in), false, 0, 0);
	return r;
}

static enum exec_result far_system(struct vcpu *cpu, const struct insn *in, uint16_t sel,
				   struct desc *d, bool call)
{
	unsigned type = DESC_TYPE(d);
	bool gate = type == DT_CALL || (!cpu_lma(cpu) && (type == DT_CALL16 || type == DT_TASK));
	bool tss = !cpu_lma(cpu) && (type == DT_TSS || type == DT_TSS16);

	if ((!gate && !tss) || DESC_DPL(d) < cpu->cpl || DESC_DPL(d) < (sel & 3u)) {
		return exec_fault_error(cpu, in, EX_GP, sel_error(sel));
	}
	if (!DESC_P(d)) {
		return exec_fault_error(cpu, in, EX_NP, sel_error(sel));
	}
	if (tss) {
		return far_task(cpu, in, sel, call);
	}
	if (type == DT_TASK) {
		return far_task(cpu, in, gate_sel(d), call);
	}
	return far_call_gate(cpu, in, sel, d, call);
}

static enum exec_result far_transfer(struct vcpu *cpu, const struct insn *in, bool call)
{
	struct desc d;
	uint16_t sel;
	uint64_t off;

	if (!read_far_pointer(cpu, in, &sel, &off)) {
		return exec_abort(cpu, in);
	}
	if (!cpu_protected(cpu)) {
		return far_real(cpu, in, sel, off, call);
	}
	if (sel_null(sel)) {
		return exec_gp0(cpu, in);
	}
	if (!desc_read(cpu, sel, &d, EX_GP, 0)) {
		return exec_abort(cpu, in);
	}
	return DESC_S(&d) ? far_code(cpu, in, sel, off, &d, call)
			  : far_system(cpu, in, sel, &d, call);
}

static enum exec_result op_callf(struct vcpu *cpu, const struct insn *in)
{
	return far_transfer(cpu, in, true);
}

static enum exec_result op_jmpf(struct vcpu *cpu, const struct insn *in)
{
	return far_transfer(cpu, in, false);
}

exec_fn *exec_sys_bind_far(const struct insn *in)
{
	switch (in->op) {
	case OP_CALLF:
		return op_callf;
	case OP_JMPF:
		return op_jmpf;
	default:
		return NULL;
	}
}
