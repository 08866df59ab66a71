/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Templates of the general-purpose handlers. An operation is written once, as
 * host instructions on values (int_op); the templates here give it operands. They are inlined
 * into one handler for each operation, size and form, so that nothing is decided at run time.
 */
#pragma once

#include "softkvm/cpu/exec.h"
#include "softkvm/cpu/ops.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/*
 * One operation on values: a is the destination's old value, b the source; *cc holds the flags
 * before and after. Only the low `size` bytes of the result count.
 */
typedef uint64_t int_op(uint64_t a, uint64_t b, uint32_t *cc);

/* --- host flags --------------------------------------------------------------------------- */
/* In asm with cc in eax: make the host's flags the guest's; catch them again. */
#define ASM_FLAGS_IN  "addb $0x7f, %%al\n\tsahf\n\t"
#define ASM_FLAGS_OUT "\n\tlahf\n\tseto %%al"
#define ASM_CARRY_IN  "btl $8, %%eax\n\t"

/* cc without what LAHF and SETO did not write. */
#define CC_BITS 0xff01u

/*
 * `insn` with operands of each size: OP2(add, "", "add") defines add_1, add_2, add_4, add_8.
 * `prologue` is ASM_FLAGS_IN, ASM_CARRY_IN or "".
 */
#define OP2_SIZE(name, size, type, prologue, insn, suffix, mod, src)               \
	ALWAYS_INLINE uint64_t name##_##size(uint64_t a, uint64_t b, uint32_t *cc) \
	{                                                                          \
		uint32_t f = *cc;                                                  \
		type x = (type)a;                                                  \
		__asm__(prologue insn suffix " %" mod "[b], %[x]" ASM_FLAGS_OUT    \
			: "+&a"(f), [x] "+q"(x)                                    \
			: [b] src((type)b)                                         \
			: "cc");                                                   \
		*cc = f & CC_BITS;                                                 \
		return x;                                                          \
	}
#define OP2(name, prologue, insn)                                 \
	OP2_SIZE(name, 1, uint8_t, prologue, insn, "b", "", "q")  \
	OP2_SIZE(name, 2, uint16_t, prologue, insn, "w", "", "r") \
	OP2_SIZE(name, 4, uint32_t, prologue, insn, "l", "", "r") \
	OP2_SIZE(name, 8, uint64_t, prologue, insn, "q", "", "r")
/* The source is a count in CL. */
#define OP_SHIFT(name, insn)                                           \
	OP2_SIZE(name, 1, uint8_t, ASM_FLAGS_IN, insn, "b", "b", "c")  \
	OP2_SIZE(name, 2, uint16_t, ASM_FLAGS_IN, insn, "w", "b", "c") \
	OP2_SIZE(name, 4, uint32_t, ASM_FLAGS_IN, insn, "l", "b", "c") \
	OP2_SIZE(name, 8, uint64_t, ASM_FLAGS_IN, insn, "q", "b", "c")

#define OP1_SIZE(name, size, type, prologue, insn, suffix)                         \
	ALWAYS_INLINE uint64_t name##_##size(uint64_t a, uint64_t b, uint32_t *cc) \
	{                                                                          \
		uint32_t f = *cc;                                                  \
		type x = (type)a;                                                  \
		__asm__(prologue insn suffix " %[x]" ASM_FLAGS_OUT                 \
			: "+&a"(f), [x] "+q"(x)                                    \
			:                                                          \
			: "cc");                                                   \
		*cc = f & CC_BITS;                                                 \
		return x;                                                          \
	}
#define OP1(name, prologue, insn)                        \
	OP1_SIZE(name, 1, uint8_t, prologue, insn, "b")  \
	OP1_SIZE(name, 2, uint16_t, prologue, insn, "w") \
	OP1_SIZE(name, 4, uint32_t, prologue, insn, "l") \
	OP1_SIZE(name, 8, uint64_t, prologue, insn, "q")

/* --- operands ------------------------------------------------------------------------------ */
enum int_place {
	AT_RM,  /* general register insn.rm */
	AT_REG, /* general register insn.reg */
	AT_MEM,
	AT_IMM,
	AT_ONE,
	AT_CL,
	AT_VVVV,
	AT_NONE, /* nothing: 0 */
};

ALWAYS_INLINE bool mem_load(struct vcpu *cpu, const struct insn *in, unsigned size, uint64_t *ret)
{
	gva_t lin;

	*ret = 0;
	return ea_linear(cpu, in, size, ACC_READ, &lin) && mmu_load(cpu, lin, ret, size);
}

ALWAYS_INLINE bool mem_store(struct vcpu *cpu, const struct insn *in, unsigned size, uint64_t v)
{
	gva_t lin;

	return ea_linear(cpu, in, size, ACC_WRITE, &lin) && mmu_store(cpu, lin, &v, size);
}

/* Value of an operand of `size` bytes; false: exec_abort. */
ALWAYS_INLINE bool int_load(struct vcpu *cpu, const struct insn *in, enum int_place at,
			    unsigned size, uint64_t *ret)
{
	switch (at) {
	case AT_RM:
		*ret = reg_load(cpu, in->rm, size);
		return true;
	case AT_REG:
		*ret = reg_load(cpu, in->reg, size);
		return true;
	case AT_MEM:
		return mem_load(cpu, in, size, ret);
	case AT_IMM:
		*ret = in->imm;
		return true;
	case AT_ONE:
		*ret = 1;
		return true;
	case AT_CL:
		*ret = (uint8_t)cpu->gpr[RCX];
		return true;
	case AT_VVVV:
		*ret = reg_load(cpu, in->vvvv, size);
		return true;
	case AT_NONE:
		*ret = 0;
		return true;
	}
	return true;
}

/* --- read-modify-write ---------------------------------------------------------------------- */
/* Replace *p by `new` if it's still `old`, atomically, at any alignment. */
#define DEFINE_CAS(size, type, suffix)                                   \
	static inline bool host_cas_##size(void *p, type old, type new)  \
	{                                                                \
		bool done;                                               \
		__asm__ volatile("lock cmpxchg" suffix " %[new], (%[p])" \
				 : "=@ccz"(done), "+a"(old)              \
				 : [new] "q"(new), [p] "r"(p)            \
				 : "memory");                            \
		return done;                                             \
	}
DEFINE_CAS(1, uint8_t, "b")
DEFINE_CAS(2, uint16_t, "w")
DEFINE_CAS(4, uint32_t, "l")
DEFINE_CAS(8, uint64_t, "q")

ALWAYS_INLINE bool host_cas(void *p, uint64_t old, uint64_t new, unsigned size)
{
	switch (size) {
	case 1:
		return host_cas_1(p, (uint8_t)old, (uint8_t) new);
	case 2:
		return host_cas_2(p, (uint16_t)old, (uint16_t) new);
	case 4:
		return host_cas_4(p, (uint32_t)old, (uint32_t) new);
	default:
		return host_cas_8(p, old, new);
	}
}

/* RMW by the slow path. False: exec_abort. (exec_int.c) */
bool int_rmw_slow(struct vcpu *cpu, gva_t lin, unsigned size, int_op *op, uint64_t b, bool slow,
		  bool locked);

/* mem = op(mem, b) at a linear address; with LOCK as one atomic step. */
ALWAYS_INLINE bool int_rmw(struct vcpu *cpu, gva_t lin, unsigned size, int_op *op, uint64_t b,
			   bool locked)
{
	uint32_t cc;
	uint64_t old = 0, new;
	bool slow;
	void *p = mmu_rmw(cpu, lin, size, &slow);

	if (unlikely(!p)) {
		return int_rmw_slow(cpu, lin, size, op, b, slow, locked);
	}
	do {
		memcpy(&old, p, size);
		cc = cpu->cc;
		new = op(old, b, &cc);
		if (!locked) {
			memcpy(p, &new, size);
			break;
		}
	} while (!host_cas(p, old, new, size));
	cpu->cc = cc;
	return true;
}

/* --- templates ---------------------------------------------------------------------------------
 */
/*
 * Each returns false if cpu->fault holds a fault (or the wish for an exit) and nothing was
 * changed. All locals that memory functions get by address live in here, and are gone when
 * HANDLER's exec_next() comes: only then can the compiler make it a jump.
 */

/* dst = op(dst, src) */
ALWAYS_INLINE bool int_binary(struct vcpu *cpu, const struct insn *in, unsigned size, int_op *op,
			      enum int_place dst, enum int_place src, bool locked)
{
	uint64_t b;
	gva_t lin;
	unsigned r = dst == AT_REG ? in->reg : in->rm;

	if (!int_load(cpu, in, src, size, &b)) {
		return false;
	}
	if (dst == AT_MEM) {
		return ea_linear(cpu, in, size, ACC_RMW, &lin) &&
		       int_rmw(cpu, lin, size, op, b, locked);
	}
	reg_store(cpu, r, op(reg_load(cpu, r, size), b, &cpu->cc), size);
	return true;
}

/* op(dst, src) for its flags: CMP, TEST. */
ALWAYS_INLINE bool int_compare(struct vcpu *cpu, const struct insn *in, unsigned size, int_op *op,
			       enum int_place dst, enum int_place src)
{
	uint64_t a, b;

	if (!int_load(cpu, in, dst, size, &a) || !int_load(cpu, in, src, size, &b)) {
		return false;
	}
	op(a, b, &cpu->cc);
	return true;
}

/* reg = op(src, src2): IMUL, BMI, POPCNT, … `reg` is a general register's number. */
ALWAYS_INLINE bool int_to_reg(struct vcpu *cpu, const struct insn *in, unsigned reg, unsigned size,
			      int_op *op, enum int_place src, enum int_place src2)
{
	uint64_t a, b;

	if (!int_load(cpu, in, src, size, &a) || !int_load(cpu, in, src2, size, &b)) {
		return false;
	}
	reg_store(cpu, reg, op(a, b, &cpu->cc), size);
	return true;
}

/* A handler that runs `step` (an expression of cpu and in, false: fault) and goes on. */
#define HANDLER(name, step)                                                   \
	static enum exec_result name(struct vcpu *cpu, const struct insn *in) \
	{                                                                     \
		if (unlikely(!(step))) {                                      \
			return exec_abort(cpu, in);                           \
		}                                                             \
		return exec_next(cpu, in);                                    \
	}
/* The head of such a step. */
#define STEP(name) ALWAYS_INLINE bool name(struct vcpu *cpu, const struct insn *in)

/* log2 of an operand size of 1, 2, 4, 8. */
static inline unsigned size_log2(unsigned size)
{
	return (unsigned)__builtin_ctz(size);
}
/* Fill cpu->fault; returns false, for steps. */
static inline bool int_fault(struct vcpu *cpu, enum vector vector)
{
	cpu->fault = (struct fault){ .vector = (uint8_t)vector, .has_error = vector == EX_GP };
	return false;
}
static inline bool insn_has_mem(const struct insn *in)
{
	return in->flags & INSN_MEM;
}
static inline bool insn_locked(const struct insn *in)
{
	return in->flags & INSN_LOCK;
}

/* --- who binds what; NULL: not mine -------------------------------------------------------------
 */
exec_fn *int_alu_bind(const struct insn *in);
exec_fn *int_shift_bind(const struct insn *in);
exec_fn *int_mov_bind(const struct insn *in);
exec_fn *int_mul_bind(const struct insn *in);
exec_fn *int_bit_bind(const struct insn *in);
exec_fn *int_bmi_bind(const struct insn *in);
exec_fn *int_atomic_bind(const struct insn *in);
exec_fn *int_flow_bind(const struct insn *in);
exec_fn *int_stack_bind(const struct insn *in);
exec_fn *int_string_bind(const struct insn *in);
exec_fn *int_misc_bind(const struct insn *in);
