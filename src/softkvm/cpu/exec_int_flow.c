/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Near branches: JMP, CALL, RET, Jcc, LOOPcc, JCXZ.
 *
 * In 64-bit mode the operand size of these is always 8, in the others 2 or 4; so it also tells
 * which check the target needs: canonical, or within CS's limit. A step leaves the target in
 * cpu->rip, where exec_branch() takes it.
 */
#include "softkvm/cpu/exec_int_stack.h"

/* Make it the target; false: #GP(0) at the branch. */
ALWAYS_INLINE bool set_target(struct vcpu *cpu, uint64_t target, bool m64)
{
	bool ok;

	if (m64) {
		ok = (uint64_t)((int64_t)(target << 16) >> 16) == target;
	} else {
		ok = (cpu->key & MODE_FLAT) || target <= cpu->seg[SEG_CS].limit;
	}
	if (unlikely(!ok)) {
		return int_fault(cpu, EX_GP);
	}
	cpu->rip = target;
	return true;
}

/* Where the program goes on without a branch; EIP wraps at 32 bits outside 64-bit mode. */
ALWAYS_INLINE uint64_t fall_through(const struct vcpu *cpu, const struct insn *in, bool m64)
{
	uint64_t next = insn_next_rip(cpu, in);

	return m64 ? next : (uint32_t)next;
}

#define BRANCH_HANDLER(name, step)                                            \
	static enum exec_result name(struct vcpu *cpu, const struct insn *in) \
	{                                                                     \
		if (unlikely(!(step))) {                                      \
			return exec_abort_stack(cpu, in);                     \
		}                                                             \
		return exec_branch(cpu, in, cpu->rip);                        \
	}

/* --- JMP, CALL, RET ----------------------------------------------------------------------------
 */
ALWAYS_INLINE bool jmp(struct vcpu *cpu, const struct insn *in, unsigned size, enum int_place src)
{
	uint64_t target;

	if (!int_load(cpu, in, src, size, &target)) {
		return operand_failed(cpu, in);
	}
	return set_target(cpu, target, size == 8);
}

/* The target is illegal; but a fault of the stack comes before that. */
static bool call_refused(struct vcpu *cpu, unsigned size)
{
	uint64_t off = (cpu->gpr[RSP] - size) & stack_mask(cpu);
	gva_t lin;

	return stack_linear(cpu, off, size, ACC_WRITE, &lin) &&
	       mmu_probe(cpu, lin, size, ACC_WRITE) && int_fault(cpu, EX_GP);
}

ALWAYS_INLINE bool call(struct vcpu *cpu, const struct insn *in, unsigned size, enum int_place src)
{
	uint64_t target;

	if (!int_load(cpu, in, src, size, &target)) {
		return operand_failed(cpu, in);
	}
	if (unlikely(!set_target(cpu, target, size == 8))) {
		return call_refused(cpu, size);
	}
	return stack_push(cpu, insn_next_rip(cpu, in), size);
}

ALWAYS_INLINE bool ret(struct vcpu *cpu, const struct insn *in, unsigned size)
{
	uint64_t target, sp = cpu->gpr[RSP];

	if (!stack_pop(cpu, &target, size)) {
		return false;
	}
	if (!set_target(cpu, target, size == 8)) {
		cpu->gpr[RSP] = sp;
		return false;
	}
	if (in->imm) {
		stack_set(cpu, cpu->gpr[RSP] + in->imm);
	}
	return true;
}

#define FLOW_SIZE(size)                                              \
	BRANCH_HANDLER(jmp_##size##_e, jmp(cpu, in, size, AT_RM))    \
	BRANCH_HANDLER(jmp_##size##_m, jmp(cpu, in, size, AT_MEM))   \
	BRANCH_HANDLER(jmp_##size##_i, jmp(cpu, in, size, AT_IMM))   \
	BRANCH_HANDLER(call_##size##_e, call(cpu, in, size, AT_RM))  \
	BRANCH_HANDLER(call_##size##_m, call(cpu, in, size, AT_MEM)) \
	BRANCH_HANDLER(call_##size##_i, call(cpu, in, size, AT_IMM)) \
	BRANCH_HANDLER(ret_##size, ret(cpu, in, size))
FLOW_SIZE(2)
FLOW_SIZE(4)
FLOW_SIZE(8)
#define FLOW_ROW(name, size)                                            \
	{                                                               \
		name##_##size##_e, name##_##size##_m, name##_##size##_i \
	}
static exec_fn *const jmp_handlers[4][3] = {
	{ NULL, NULL, NULL },
	FLOW_ROW(jmp, 2),
	FLOW_ROW(jmp, 4),
	FLOW_ROW(jmp, 8),
};
static exec_fn *const call_handlers[4][3] = {
	{ NULL, NULL, NULL },
	FLOW_ROW(call, 2),
	FLOW_ROW(call, 4),
	FLOW_ROW(call, 8),
};
static exec_fn *const ret_handlers[4] = { NULL, ret_2, ret_4, ret_8 };

/* --- conditional ---------------------------------------------------------------------------------
 */
ALWAYS_INLINE bool jcc(struct vcpu *cpu, const struct insn *in, unsigned cond, bool m64)
{
	if (cc_test(cpu->cc, cond)) {
		return set_target(cpu, in->imm, m64);
	}
	cpu->rip = fall_through(cpu, in, m64);
	return true;
}
#define JCC(c)                                            \
	BRANCH_HANDLER(jcc_64_##c, jcc(cpu, in, c, true)) \
	BRANCH_HANDLER(jcc_32_##c, jcc(cpu, in, c, false))
/* clang-format off */
JCC(0) JCC(1) JCC(2) JCC(3) JCC(4) JCC(5) JCC(6) JCC(7)
JCC(8) JCC(9) JCC(10) JCC(11) JCC(12) JCC(13) JCC(14) JCC(15)
/* clang-format on */
#define JCC_ROW(c)                     \
	{                              \
		jcc_32_##c, jcc_64_##c \
	}
		static exec_fn *const jcc_handlers[16][2] = {
			JCC_ROW(0),  JCC_ROW(1),  JCC_ROW(2),  JCC_ROW(3),
			JCC_ROW(4),  JCC_ROW(5),  JCC_ROW(6),  JCC_ROW(7),
			JCC_ROW(8),  JCC_ROW(9),  JCC_ROW(10), JCC_ROW(11),
			JCC_ROW(12), JCC_ROW(13), JCC_ROW(14), JCC_ROW(15),
		};

/* LOOP counts in rCX of the address size; the count changes only if the branch does not fault. */
static bool loop(struct vcpu *cpu, const struct insn *in)
{
	uint64_t count = reg_load(cpu, RCX, in->asz) - 1;
	bool m64 = in->osz == 8, zf = cpu->cc & CC_ZF;
	bool taken = in->asz == 8 ? count : in->asz == 4 ? (uint32_t)count : (uint16_t)count;

	if ((in->op == OP_LOOPE && !zf) || (in->op == OP_LOOPNE && zf)) {
		taken = false;
	}
	cpu->rip = fall_through(cpu, in, m64);
	if (taken && !set_target(cpu, in->imm, m64)) {
		return false;
	}
	reg_store(cpu, RCX, count, in->asz);
	return true;
}

static bool jcxz(struct vcpu *cpu, const struct insn *in)
{
	bool m64 = in->osz == 8;

	if (reg_load(cpu, RCX, in->asz) == 0) {
		return set_target(cpu, in->imm, m64);
	}
	cpu->rip = fall_through(cpu, in, m64);
	return true;
}
BRANCH_HANDLER(exec_loop, loop(cpu, in))
BRANCH_HANDLER(exec_jcxz, jcxz(cpu, in))

exec_fn *int_flow_bind(const struct insn *in)
{
	unsigned size = size_log2(in->osz);
	unsigned src = in->opcode != 0xff ? 2 : insn_has_mem(in);

	if (in->op >= OP_JO && in->op <= OP_JNLE) {
		return jcc_handlers[in->op - OP_JO][in->osz == 8];
	}
	switch (in->op) {
	case OP_JMP:
		return jmp_handlers[size][src];
	case OP_CALL:
		return call_handlers[size][src];
	case OP_RET:
		return ret_handlers[size];
	case OP_LOOP:
	case OP_LOOPE:
	case OP_LOOPNE:
		return exec_loop;
	case OP_JCXZ:
		return exec_jcxz;
	default:
		return NULL;
	}
}
