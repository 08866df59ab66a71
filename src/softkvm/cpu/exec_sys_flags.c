/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Flags that depend on privilege: PUSHF, POPF, CLI, STI, STAC, CLAC; software interrupts, HLT. */
#include "softkvm/cpu/exec_sys_int.h"

/* --- PUSHF and POPF ------------------------------------------------------------------ */
static enum exec_result op_pushf(struct vcpu *cpu, const struct insn *in)
{
	uint64_t v = cpu_rflags(cpu) & ~(uint64_t)(FL_VM | FL_RF);
	struct stack st;

	if (cpu_v86(cpu) && cpu_iopl(cpu) != 3) {
		if (!(cpu->cr4 & CR4_VME) || in->osz != 2) {
			return exec_gp0(cpu, in);
		}
		v = (v & ~(uint64_t)FL_IF) | FL_IOPL | (v & FL_VIF ? FL_IF : 0);
	}
	stack_current(cpu, &st);
	if (!stack_push(cpu, &st, v, in->osz)) {
		return exec_abort_stack(cpu, in);
	}
	cpu->gpr[RSP] = stack_merge_rsp(cpu, &st);
	return exec_next(cpu, in);
}

/* Which flags POPF loads; *v is changed where VIF stands for IF. False: #GP(0). */
static bool popf_mask(struct vcpu *cpu, unsigned size, uint64_t *v, uint64_t *ret_mask)
{
	uint64_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT | (size > 2 ? FL_AC | FL_ID : 0);

	*ret_mask = mask;
	if (!cpu_v86(cpu)) {
		*ret_mask |= cpu->cpl <= cpu_iopl(cpu) ? FL_IF : 0;
		*ret_mask |= cpu->cpl == 0 ? FL_IOPL : 0;
		return true;
	}
	if (cpu_iopl(cpu) == 3) {
		*ret_mask |= FL_IF;
		return true;
	}
	if (!(cpu->cr4 & CR4_VME) || size != 2 || (*v & FL_TF) ||
	    ((*v & FL_IF) && (cpu->rflags & FL_VIP))) {
		return cpu_raise(cpu, EX_GP, 0);
	}
	*ret_mask = mask | FL_VIF;
	*v = (*v & ~(uint64_t)FL_VIF) | (*v & FL_IF ? FL_VIF : 0);
	return true;
}

static enum exec_result op_popf(struct vcpu *cpu, const struct insn *in)
{
	struct stack st;
	uint64_t v, mask, old = cpu_rflags(cpu);

	if (cpu_v86(cpu) && cpu_iopl(cpu) != 3 && (!(cpu->cr4 & CR4_VME) || in->osz != 2)) {
		return exec_gp0(cpu, in);
	}
	stack_current(cpu, &st);
	if (!stack_pop(cpu, &st, in->osz, &v)) {
		return exec_abort_stack(cpu, in);
	}
	if (!popf_mask(cpu, in->osz, &v, &mask)) {
		return exec_abort(cpu, in);
	}
	cpu->gpr[RSP] = stack_merge_rsp(cpu, &st);
	v = ((old & ~mask) | (v & mask)) & ~(uint64_t)FL_RF;
	cpu->cc = cc_from_flags(v);
	if (!((v ^ old) & (FL_IF | FL_TF | FL_AC))) {
		cpu->rflags = (v & ~(uint64_t)FL_ARITH) | FL_FIXED;
		return exec_next(cpu, in);
	}
	cpu_set_rflags(cpu, v);
	return exec_end(cpu, in);
}

/* --- CLI and STI --------------------------------------------------------------------- */
/* Does CLI and STI change VIF instead of IF here? */
static bool uses_vif(const struct vcpu *cpu)
{
	return cpu->cpl == 3 && (cpu->cr4 & (cpu_v86(cpu) ? CR4_VME : CR4_PVI));
}

static enum exec_result op_cli(struct vcpu *cpu, const struct insn *in)
{
	if (cpu->cpl <= cpu_iopl(cpu)) {
		cpu->rflags &= ~(uint64_t)FL_IF;
	} else if (uses_vif(cpu)) {
		cpu->rflags &= ~(uint64_t)FL_VIF;
	} else {
		return exec_gp0(cpu, in);
	}
	return exec_next(cpu, in);
}

static enum exec_result op_sti(struct vcpu *cpu, const struct insn *in)
{
	if (cpu->cpl > cpu_iopl(cpu)) {
		if (!uses_vif(cpu) || (cpu->rflags & FL_VIP)) {
			return exec_gp0(cpu, in);
		}
		cpu->rflags |= FL_VIF;
		return exec_next(cpu, in);
	}
	if (cpu->rflags & FL_IF) {
		return exec_next(cpu, in);
	}
	cpu->rflags |= FL_IF;
	cpu->ev.shadow |= SHADOW_STI;
	return exec_end(cpu, in);
}

/* --- STAC and CLAC ------------------------------------------------------------------- */
static enum exec_result set_ac(struct vcpu *cpu, const struct insn *in, bool ac)
{
	if (!cpu_has(cpu, FEAT_SMAP) || cpu->cpl != 0) {
		return exec_ud(cpu, in);
	}
	cpu->rflags = (cpu->rflags & ~(uint64_t)FL_AC) | (ac ? FL_AC : 0);
	mmu_select_tlb(cpu);
	return exec_next(cpu, in);
}

static enum exec_result op_stac(struct vcpu *cpu, const struct insn *in)
{
	return set_ac(cpu, in, true);
}
static enum exec_result op_clac(struct vcpu *cpu, const struct insn *in)
{
	return set_ac(cpu, in, false);
}

/* --- software interrupts ------------------------------------------------------------- */
static enum exec_result op_int(struct vcpu *cpu, const struct insn *in)
{
	return event_software_interrupt(cpu, in, (uint8_t)in->imm);
}
static enum exec_result op_int3(struct vcpu *cpu, const struct insn *in)
{
	return event_software_interrupt(cpu, in, EX_BP);
}
static enum exec_result op_int1(struct vcpu *cpu, const struct insn *in)
{
	return event_software_interrupt(cpu, in, EX_DB);
}
static enum exec_result op_into(struct vcpu *cpu, const struct insn *in)
{
	if (!(cpu->cc & CC_OF)) {
		return exec_next(cpu, in);
	}
	return event_software_interrupt(cpu, in, EX_OF);
}

/*
 * HLT: behind it the vCPU is KVM_MP_STATE_HALTED; the run loop waits for an event, or gives
 * KVM_EXIT_HLT if the LAPIC is user space's.
 */
static enum exec_result op_hlt(struct vcpu *cpu, const struct insn *in)
{
	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	if (!atomic_exchange(&cpu->ev.pv_unhalted, false)) {
		atomic_store(&cpu->mp_state, KVM_MP_STATE_HALTED);
	}
	return exec_end(cpu, in);
}

exec_fn *exec_sys_bind_flags(const struct insn *in)
{
	static const struct {
		uint16_t op;
		exec_fn *fn;
	} handlers[] = {
		{ OP_PUSHF, op_pushf }, { OP_POPF, op_popf }, { OP_CLI, op_cli },
		{ OP_STI, op_sti },     { OP_STAC, op_stac }, { OP_CLAC, op_clac },
		{ OP_INT, op_int },     { OP_INT3, op_int3 }, { OP_INT1, op_int1 },
		{ OP_INTO, op_into },   { OP_HLT, op_hlt },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(handlers); i++) {
		if (handlers[i].op == in->op) {
			return handlers[i].fn;
		}
	}
	return NULL;
}
