/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a handler leaves an instruction that cannot be completed.
 */
#include "softkvm/cpu/exec.h"

enum exec_result exec_abort(struct vcpu *cpu, const struct insn *in)
{
	cpu->rip = insn_rip(cpu, in);
	if (cpu->fault.vector == MMU_NEEDS_EXIT) {
		return EXEC_EXIT;
	}
	if (cpu->fault.noncanonical && (in->flags & INSN_MEM) && in->seg == SEG_SS) {
		cpu->fault.vector = EX_SS;
	}
	return EXEC_FAULT;
}

enum exec_result exec_abort_stack(struct vcpu *cpu, const struct insn *in)
{
	if (cpu->fault.vector == EX_GP && cpu->fault.noncanonical) {
		cpu->fault.vector = EX_SS;
	}
	return exec_abort(cpu, in);
}

enum exec_result exec_fault(struct vcpu *cpu, const struct insn *in, enum vector vector)
{
	cpu->rip = insn_rip(cpu, in);
	cpu->fault = (struct fault){ .vector = (uint8_t)vector };
	return EXEC_FAULT;
}

enum exec_result exec_fault_error(struct vcpu *cpu, const struct insn *in, enum vector vector,
				  uint32_t error)
{
	cpu->rip = insn_rip(cpu, in);
	cpu->fault = (struct fault){ .vector = (uint8_t)vector, .has_error = true, .error = error };
	return EXEC_FAULT;
}
