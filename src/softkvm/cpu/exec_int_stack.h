/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stack as PUSH, POP, CALL, RET, ENTER and LEAVE use it. All functions leave RSP
 * alone unless they say otherwise; false: fault, return exec_abort_stack().
 */
#pragma once

#include "softkvm/cpu/exec_int.h"

static inline bool stack_is_64(const struct vcpu *cpu)
{
	return (cpu->key & MODE_SIZE) == MODE_64;
}

/* What of RSP is the stack pointer. */
static inline uint64_t stack_mask(const struct vcpu *cpu)
{
	return stack_is_64(cpu) ? UINT64_MAX : cpu->key & KEY_SS32 ? UINT32_MAX : UINT16_MAX;
}

static inline bool stack_linear(struct vcpu *cpu, uint64_t off, unsigned size, enum mmu_access acc,
				gva_t *ret)
{
	if (stack_is_64(cpu) || (cpu->key & MODE_FLAT)) {
		*ret = off;
		return true;
	}
	return seg_linear(cpu, SEG_SS, off, size, acc, ret);
}

/* Set the stack pointer; of a 16-bit one the upper bits of RSP stay. */
static inline void stack_set(struct vcpu *cpu, uint64_t sp)
{
	uint64_t mask = stack_mask(cpu);

	cpu->gpr[RSP] = mask == UINT16_MAX ? (cpu->gpr[RSP] & ~mask) | (sp & mask) : sp & mask;
}

/* Write `size` bytes of v below *sp, and lower *sp (a local copy). */
static inline bool stack_write(struct vcpu *cpu, uint64_t *sp, uint64_t v, unsigned size)
{
	uint64_t off = (*sp - size) & stack_mask(cpu);
	gva_t lin;

	if (!stack_linear(cpu, off, size, ACC_WRITE, &lin) || !mmu_store(cpu, lin, &v, size)) {
		return false;
	}
	*sp = off;
	return true;
}

static inline bool stack_read(struct vcpu *cpu, uint64_t *sp, uint64_t *ret, unsigned size)
{
	uint64_t off = *sp & stack_mask(cpu);
	gva_t lin;

	*ret = 0;
	if (!stack_linear(cpu, off, size, ACC_READ, &lin) || !mmu_load(cpu, lin, ret, size)) {
		return false;
	}
	*sp = off + size;
	return true;
}

/* PUSH: RSP moves if the write succeeded. `size` a constant; 8 is 64-bit mode for sure. */
ALWAYS_INLINE bool stack_push(struct vcpu *cpu, uint64_t v, unsigned size)
{
	uint64_t sp = cpu->gpr[RSP];

	if (size == 8) {
		if (!mmu_store(cpu, sp - 8, &v, 8)) {
			return false;
		}
		cpu->gpr[RSP] = sp - 8;
		return true;
	}
	if (!stack_write(cpu, &sp, v, size)) {
		return false;
	}
	stack_set(cpu, sp);
	return true;
}

/* POP: RSP moves if the read succeeded, before the caller stores the value. */
ALWAYS_INLINE bool stack_pop(struct vcpu *cpu, uint64_t *ret, unsigned size)
{
	uint64_t sp = cpu->gpr[RSP];

	if (size == 8) {
		if (!mmu_load(cpu, sp, ret, 8)) {
			return false;
		}
		cpu->gpr[RSP] = sp + 8;
		return true;
	}
	if (!stack_read(cpu, &sp, ret, size)) {
		return false;
	}
	stack_set(cpu, sp);
	return true;
}

/* The ModRM operand failed, not the stack: exec_abort_stack() must not take it for the stack's. */
static inline bool operand_failed(struct vcpu *cpu, const struct insn *in)
{
	if (in->seg != SEG_SS) {
		cpu->fault.noncanonical = false;
	}
	return false;
}

#define STACK_HANDLER(name, step)                                             \
	static enum exec_result name(struct vcpu *cpu, const struct insn *in) \
	{                                                                     \
		if (unlikely(!(step))) {                                      \
			return exec_abort_stack(cpu, in);                     \
		}                                                             \
		return exec_next(cpu, in);                                    \
	}
