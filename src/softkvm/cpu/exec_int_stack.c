/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PUSH, POP, PUSHA, POPA, ENTER, LEAVE. (Segment registers and flags are pushed
 * by exec_sys_*.c.)
 */
#include "softkvm/cpu/exec_int_stack.h"

/* --- PUSH ------------------------------------------------------------------------------------ */
ALWAYS_INLINE bool push(struct vcpu *cpu, const struct insn *in, unsigned size, enum int_place src)
{
	uint64_t v;

	if (!int_load(cpu, in, src, size, &v)) {
		return operand_failed(cpu, in);
	}
	return stack_push(cpu, v, size);
}
#define PUSH_SIZE(size)                                             \
	STACK_HANDLER(push_##size##_e, push(cpu, in, size, AT_RM))  \
	STACK_HANDLER(push_##size##_m, push(cpu, in, size, AT_MEM)) \
	STACK_HANDLER(push_##size##_i, push(cpu, in, size, AT_IMM))
PUSH_SIZE(2)
PUSH_SIZE(4)
PUSH_SIZE(8)
static exec_fn *const push_handlers[4][3] = {
	{ NULL, NULL, NULL },
	{ push_2_e, push_2_m, push_2_i },
	{ push_4_e, push_4_m, push_4_i },
	{ push_8_e, push_8_m, push_8_i },
};

/* --- POP -------------------------------------------------------------------------------------- */
ALWAYS_INLINE bool pop_reg(struct vcpu *cpu, const struct insn *in, unsigned size)
{
	uint64_t v;

	if (!stack_pop(cpu, &v, size)) {
		return false;
	}
	reg_store(cpu, in->rm, v, size);
	return true;
}

/* The address is computed with RSP already moved (SDM: POP). */
ALWAYS_INLINE bool pop_mem(struct vcpu *cpu, const struct insn *in, unsigned size)
{
	uint64_t v, sp = cpu->gpr[RSP];

	if (!stack_pop(cpu, &v, size)) {
		return false;
	}
	if (!mem_store(cpu, in, size, v)) {
		cpu->gpr[RSP] = sp;
		return operand_failed(cpu, in);
	}
	return true;
}
STACK_HANDLER(pop_2_e, pop_reg(cpu, in, 2))
STACK_HANDLER(pop_4_e, pop_reg(cpu, in, 4))
STACK_HANDLER(pop_8_e, pop_reg(cpu, in, 8))
STACK_HANDLER(pop_2_m, pop_mem(cpu, in, 2))
STACK_HANDLER(pop_4_m, pop_mem(cpu, in, 4))
STACK_HANDLER(pop_8_m, pop_mem(cpu, in, 8))
static exec_fn *const pop_handlers[4][2] = {
	{ NULL, NULL },
	{ pop_2_e, pop_2_m },
	{ pop_4_e, pop_4_m },
	{ pop_8_e, pop_8_m },
};

/* --- all registers ------------------------------------------------------------------------------
 */
STEP(pusha)
{
	uint64_t sp = cpu->gpr[RSP];

	for (unsigned r = RAX; r <= RDI; r++) {
		if (!stack_write(cpu, &sp, cpu->gpr[r], in->osz)) {
			return false;
		}
	}
	stack_set(cpu, sp);
	return true;
}

STEP(popa)
{
	uint64_t sp = cpu->gpr[RSP], v[8];

	for (unsigned i = 0; i < 8; i++) {
		if (!stack_read(cpu, &sp, &v[i], in->osz)) {
			return false;
		}
	}
	stack_set(cpu, sp);
	for (unsigned r = RAX; r <= RDI; r++) {
		if (r != RSP) {
			reg_store(cpu, r, v[RDI - r], in->osz);
		}
	}
	return true;
}
STACK_HANDLER(exec_pusha, pusha(cpu, in))
STACK_HANDLER(exec_popa, popa(cpu, in))

/* --- frames --------------------------------------------------------------------------------------
 */
/* Copy the outer frames' pointers of a nested ENTER, level 1 to 31; then the new one's. */
static bool enter_nested(struct vcpu *cpu, uint64_t *sp, unsigned level, unsigned size)
{
	uint64_t bp = cpu->gpr[RBP], frame = *sp, v;

	for (unsigned i = 1; i < level; i++) {
		uint64_t at = bp - (uint64_t)i * size;

		if (!stack_read(cpu, &at, &v, size) || !stack_write(cpu, sp, v, size)) {
			return false;
		}
	}
	return stack_write(cpu, sp, frame, size);
}

/* The new stack's top must be writable before anything changes (SDM: ENTER, #PF). */
STEP(enter)
{
	unsigned size = in->osz, level = in->imm2 & 31;
	uint64_t sp = cpu->gpr[RSP], frame;
	gva_t lin;

	if (!stack_write(cpu, &sp, cpu->gpr[RBP], size)) {
		return false;
	}
	frame = sp;
	if (level && !enter_nested(cpu, &sp, level, size)) {
		return false;
	}
	sp = (sp - in->imm) & stack_mask(cpu);
	if (!stack_linear(cpu, sp, size, ACC_WRITE, &lin) ||
	    !mmu_probe(cpu, lin, size, ACC_WRITE)) {
		return false;
	}
	reg_store(cpu, RBP, frame, size);
	stack_set(cpu, sp);
	return true;
}

ALWAYS_INLINE bool leave(struct vcpu *cpu, unsigned size)
{
	uint64_t sp = cpu->gpr[RBP], v;

	if (!stack_read(cpu, &sp, &v, size)) {
		return false;
	}
	stack_set(cpu, sp);
	reg_store(cpu, RBP, v, size);
	return true;
}
STACK_HANDLER(exec_enter, enter(cpu, in))
STACK_HANDLER(leave_2, leave(cpu, 2))
STACK_HANDLER(leave_4, leave(cpu, 4))
STACK_HANDLER(leave_8, leave(cpu, 8))
static exec_fn *const leave_handlers[4] = { NULL, leave_2, leave_4, leave_8 };

exec_fn *int_stack_bind(const struct insn *in)
{
	unsigned size = size_log2(in->osz), mem = insn_has_mem(in);
	bool imm = in->opcode == 0x68 || in->opcode == 0x6a;

	switch (in->op) {
	case OP_PUSH:
		return push_handlers[size][imm ? 2 : mem];
	case OP_POP:
		return pop_handlers[size][mem];
	case OP_PUSHA:
		return exec_pusha;
	case OP_POPA:
		return exec_popa;
	case OP_ENTER:
		return exec_enter;
	case OP_LEAVE:
		return leave_handlers[size];
	default:
		return NULL;
	}
}
