/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * XCHG, XADD, CMPXCHG, CMPXCHG8B, CMPXCHG16B.
 *
 * On RAM the host's locked instructions do it in place. The slow path (devices, page
 * crossings) reads by mmu_rmw_begin() and writes by mmu_rmw_commit(); the mmu keeps others out.
 */
#include "softkvm/cpu/exec_int.h"

/* --- XCHG ------------------------------------------------------------------------------------ */
ALWAYS_INLINE uint64_t host_xchg(void *p, uint64_t v, unsigned size)
{
	uint8_t b = (uint8_t)v;
	uint16_t w = (uint16_t)v;
	uint32_t d = (uint32_t)v;

	switch (size) {
	case 1:
		__asm__ volatile("xchgb %0, (%1)" : "+q"(b) : "r"(p) : "memory");
		return b;
	case 2:
		__asm__ volatile("xchgw %0, (%1)" : "+r"(w) : "r"(p) : "memory");
		return w;
	case 4:
		__asm__ volatile("xchgl %0, (%1)" : "+r"(d) : "r"(p) : "memory");
		return d;
	default:
		__asm__ volatile("xchgq %0, (%1)" : "+r"(v) : "r"(p) : "memory");
		return v;
	}
}

ALWAYS_INLINE bool xchg_mem(struct vcpu *cpu, const struct insn *in, unsigned size)
{
	uint64_t v = reg_load(cpu, in->reg, size), old = 0;
	gva_t lin;
	bool slow;
	void *p;

	if (!ea_linear(cpu, in, size, ACC_RMW, &lin)) {
		return false;
	}
	p = mmu_rmw(cpu, lin, size, &slow);
	if (likely(p)) {
		old = host_xchg(p, v, size);
	} else if (!slow || !mmu_rmw_begin(cpu, lin, &old, size, true) ||
		   !mmu_rmw_commit(cpu, lin, &v, size, true)) {
		return false;
	}
	reg_store(cpu, in->reg, old, size);
	return true;
}

ALWAYS_INLINE bool xchg_reg(struct vcpu *cpu, const struct insn *in, unsigned size)
{
	uint64_t a = reg_load(cpu, in->rm, size), b = reg_load(cpu, in->reg, size);

	reg_store(cpu, in->rm, b, size);
	reg_store(cpu, in->reg, a, size);
	return true;
}

/* --- XADD ------------------------------------------------------------------------------------- */
OP2(add, "", "add")

/* The register gets what memory held: the sum less the register. */
ALWAYS_INLINE bool xadd_mem(struct vcpu *cpu, const struct insn *in, unsigned size, int_op *op,
			    bool locked)
{
	uint64_t b = reg_load(cpu, in->reg, size), old = 0, sum;
	uint32_t cc = cpu->cc;
	gva_t lin;
	bool slow;
	void *p;

	if (!ea_linear(cpu, in, size, ACC_RMW, &lin)) {
		return false;
	}
	p = mmu_rmw(cpu, lin, size, &slow);
	if (!p) {
		if (!slow || !mmu_rmw_begin(cpu, lin, &old, size, locked)) {
			return false;
		}
		sum = op(old, b, &cc);
		if (!mmu_rmw_commit(cpu, lin, &sum, size, locked)) {
			return false;
		}
	} else {
		do {
			memcpy(&old, p, size);
			sum = op(old, b, &cc);
		} while (locked && !host_cas(p, old, sum, size));
		if (!locked) {
			memcpy(p, &sum, size);
		}
	}
	cpu->cc = cc;
	reg_store(cpu, in->reg, old, size);
	return true;
}

/* With the same register twice, the sum stays (SDM: it's written last). */
ALWAYS_INLINE bool xadd_reg(struct vcpu *cpu, const struct insn *in, unsigned size, int_op *op)
{
	uint64_t a = reg_load(cpu, in->rm, size), b = reg_load(cpu, in->reg, size);
	uint64_t sum = op(a, b, &cpu->cc);

	reg_store(cpu, in->reg, a, size);
	reg_store(cpu, in->rm, sum, size);
	return true;
}

/* --- CMPXCHG ------------------------------------------------------------------------------------
 */
/* The flags of CMP rAX, destination. */
OP2(cmp, "", "cmp")

/*
 * Memory is always written, with its old value if it differs (SDM: CMPXCHG): the permission to
 * write is checked in any case.
 */
ALWAYS_INLINE bool cmpxchg_mem(struct vcpu *cpu, const struct insn *in, unsigned size, int_op *cmp,
			       bool locked)
{
	uint64_t a = reg_load(cpu, RAX, size), b = reg_load(cpu, in->reg, size), old = 0, new;
	uint32_t cc = cpu->cc;
	gva_t lin;
	bool slow;
	void *p;

	if (!ea_linear(cpu, in, size, ACC_RMW, &lin)) {
		return false;
	}
	p = mmu_rmw(cpu, lin, size, &slow);
	if (!p && (!slow || !mmu_rmw_begin(cpu, lin, &old, size, locked))) {
		return false;
	}
	if (p) {
		do {
			memcpy(&old, p, size);
		} while (locked && !host_cas(p, old, old == a ? b : old, size));
	}
	new = old == a ? b : old;
	if (p && !locked) {
		memcpy(p, &new, size);
	} else if (!p && !mmu_rmw_commit(cpu, lin, &new, size, locked)) {
		return false;
	}
	cmp(a, old, &cc);
	cpu->cc = cc;
	if (old != a) {
		reg_store(cpu, RAX, old, size);
	}
	return true;
}

/*
 * In 64-bit mode, of 32-bit operands only the one that is written has its upper half
 * cleared: EAX if they differ, else the destination.
 */
ALWAYS_INLINE bool cmpxchg_reg(struct vcpu *cpu, const struct insn *in, unsigned size, int_op *cmp)
{
	uint64_t a = reg_load(cpu, RAX, size), old = reg_load(cpu, in->rm, size);

	cmp(a, old, &cpu->cc);
	if (old == a) {
		reg_store(cpu, in->rm, reg_load(cpu, in->reg, size), size);
	} else {
		reg_store(cpu, RAX, old, size);
	}
	return true;
}

#define ATOMIC_SIZE(size)                                                          \
	HANDLER(xchg_##size##_e, xchg_reg(cpu, in, size))                          \
	HANDLER(xchg_##size##_m, xchg_mem(cpu, in, size))                          \
	HANDLER(xadd_##size##_e, xadd_reg(cpu, in, size, add_##size))              \
	HANDLER(xadd_##size##_m, xadd_mem(cpu, in, size, add_##size, false))       \
	HANDLER(xadd_##size##_m_lock, xadd_mem(cpu, in, size, add_##size, true))   \
	HANDLER(cmpxchg_##size##_e, cmpxchg_reg(cpu, in, size, cmp_##size))        \
	HANDLER(cmpxchg_##size##_m, cmpxchg_mem(cpu, in, size, cmp_##size, false)) \
	HANDLER(cmpxchg_##size##_m_lock, cmpxchg_mem(cpu, in, size, cmp_##size, true))
ATOMIC_SIZE(1)
ATOMIC_SIZE(2)
ATOMIC_SIZE(4)
ATOMIC_SIZE(8)

static exec_fn *const xchg_handlers[4][2] = {
	{ xchg_1_e, xchg_1_m },
	{ xchg_2_e, xchg_2_m },
	{ xchg_4_e, xchg_4_m },
	{ xchg_8_e, xchg_8_m },
};
#define LOCKABLE(name)                                       \
	static exec_fn *const name##_handlers[4][3] = {      \
		{ name##_1_e, name##_1_m, name##_1_m_lock }, \
		{ name##_2_e, name##_2_m, name##_2_m_lock }, \
		{ name##_4_e, name##_4_m, name##_4_m_lock }, \
		{ name##_8_e, name##_8_m, name##_8_m_lock }, \
	};
LOCKABLE(xadd)
LOCKABLE(cmpxchg)

/* --- CMPXCHG8B, CMPXCHG16B
 * -------------------------------------------------------------------------- */
/* Two words as rDX:rAX and rCX:rBX hold them: [0] is the lower. */
struct pair {
	uint64_t w[2];
};

static inline bool host_cas_16(void *p, struct pair *old, const struct pair *new)
{
	bool done;

	__asm__ volatile("lock cmpxchg16b (%[p])"
			 : "=@ccz"(done), "+a"(old->w[0]), "+d"(old->w[1])
			 : [p] "r"(p), "b"(new->w[0]), "c"(new->w[1])
			 : "memory");
	return done;
}

/* Only ZF changes. */
static void pair_finish(struct vcpu *cpu, const struct pair *old, bool equal, unsigned half)
{
	cpu->cc = (cpu->cc & ~CC_ZF) | (equal ? CC_ZF : 0);
	if (!equal) {
		reg_store(cpu, RAX, old->w[0], half);
		reg_store(cpu, RDX, old->w[1], half);
	}
}

static bool cmpxchg8b(struct vcpu *cpu, const struct insn *in)
{
	uint64_t expected = cpu->gpr[RDX] << 32 | (uint32_t)cpu->gpr[RAX], old = 0, new;
	uint64_t value = cpu->gpr[RCX] << 32 | (uint32_t)cpu->gpr[RBX];
	gva_t lin;
	bool slow;
	void *p;

	if (!ea_linear(cpu, in, 8, ACC_RMW, &lin)) {
		return false;
	}
	p = mmu_rmw(cpu, lin, 8, &slow);
	if (!p && (!slow || !mmu_rmw_begin(cpu, lin, &old, 8, insn_locked(in)))) {
		return false;
	}
	if (p) {
		do {
			memcpy(&old, p, 8);
		} while (!host_cas_8(p, old, old == expected ? value : old));
	}
	new = old == expected ? value : old;
	if (!p && !mmu_rmw_commit(cpu, lin, &new, 8, insn_locked(in))) {
		return false;
	}
	pair_finish(cpu, &(struct pair){ { (uint32_t)old, old >> 32 } }, old == expected, 4);
	return true;
}

static bool pair_equal(const struct pair *a, const struct pair *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1];
}

/* The operand must be aligned, or #GP(0): so it never crosses a page, and the host can do it. */
static bool cmpxchg16b(struct vcpu *cpu, const struct insn *in)
{
	struct pair expected = { { cpu->gpr[RAX], cpu->gpr[RDX] } }, old = expected;
	const struct pair value = { { cpu->gpr[RBX], cpu->gpr[RCX] } };
	gva_t lin;
	bool slow, equal;
	void *p;

	if (!ea_linear(cpu, in, 16, ACC_RMW, &lin)) {
		return false;
	}
	if (lin & 15) {
		return int_fault(cpu, EX_GP);
	}
	p = mmu_rmw(cpu, lin, 16, &slow);
	if (p) {
		equal = host_cas_16(p, &old, &value);
	} else {
		if (!slow || !mmu_rmw_begin(cpu, lin, &old, 16, insn_locked(in))) {
			return false;
		}
		equal = pair_equal(&old, &expected);
		if (!mmu_rmw_commit(cpu, lin, equal ? &value : &old, 16, insn_locked(in))) {
			return false;
		}
	}
	pair_finish(cpu, &old, equal, 8);
	return true;
}
HANDLER(exec_cmpxchg8b, cmpxchg8b(cpu, in))
HANDLER(exec_cmpxchg16b, cmpxchg16b(cpu, in))

exec_fn *int_atomic_bind(const struct insn *in)
{
	unsigned size = size_log2(in->osz), mem = insn_has_mem(in);
	unsigned form = !mem ? 0 : insn_locked(in) ? 2 : 1;

	switch (in->op) {
	case OP_XCHG:
		return xchg_handlers[size][mem];
	case OP_XADD:
		return xadd_handlers[size][form];
	case OP_CMPXCHG:
		return cmpxchg_handlers[size][form];
	case OP_CMPXCHG8B:
		return exec_cmpxchg8b;
	case OP_CMPXCHG16B:
		return exec_cmpxchg16b;
	default:
		return NULL;
	}
}
