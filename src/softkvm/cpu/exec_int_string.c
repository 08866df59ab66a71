/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MOVS, STOS, LODS, SCAS, CMPS, alone and repeated.
 *
 * Theory of operation: a repeated instruction runs in chunks. A chunk is a run of elements whose
 * operands lie in host memory, within a page and within what limits and address wrap allow: the
 * host's own REP instruction does it, with the guest's direction, so overlap and flags are
 * exact. Where there is no such run (a device, an element over a page's end, the end of a segment),
 * the chunk is one element by the memory functions, which raise the fault, too.
 *
 * Invariants
 *  1. After each chunk RSI, RDI and RCX are what the processor would show then: a fault or an
 *     interrupt between chunks finds an instruction that can be started over.
 *  2. Between chunks the vCPU can be called away: the instruction then ends with RIP at itself.
 *     Also after an element that used the log of device accesses (vcpu.io), which serves one try of
 * one instruction, and after each element under single-step.
 */
#include "softkvm/cpu/debug.h"
#include "softkvm/cpu/exec_int.h"

#define CHUNK_BYTES 4096u /* a page: mmu_run() gives no more */

/* The instruction's constants, gathered once. */
struct str {
	unsigned size;
	uint64_t mask; /* of addresses */
	int64_t step;  /* size, or -size with DF */
	bool rep, down;
};

/* One chunk: how many elements, where they lie, and what came out. */
struct chunk {
	unsigned n;
	void *src, *dst;
};

static bool is_repeated(const struct insn *in)
{
	return in->flags & (INSN_REP | INSN_REPNE);
}

static struct str str_of(const struct vcpu *cpu, const struct insn *in, unsigned size)
{
	bool down = cpu->rflags & FL_DF;

	return (struct str){
		.size = size,
		.rep = is_repeated(in),
		.down = down,
		.step = down ? -(int64_t)size : (int64_t)size,
		.mask = in->asz == 8   ? UINT64_MAX
			: in->asz == 4 ? UINT32_MAX
				       : UINT16_MAX,
	};
}

static bool str_linear(struct vcpu *cpu, const struct insn *in, unsigned seg, uint64_t off,
		       unsigned size, enum mmu_access acc, gva_t *ret)
{
	if (in->flags & INSN_FLAT) {
		*ret = cpu->segbase[seg] + off;
		return true;
	}
	return seg_linear(cpu, seg, off, size, acc, ret);
}

static void reg_step(struct vcpu *cpu, const struct insn *in, unsigned reg, int64_t by)
{
	reg_store(cpu, reg, cpu->gpr[reg] + (uint64_t)by, in->asz);
}

/* --- one element ---------------------------------------------------------------------------- */
ALWAYS_INLINE bool str_load(struct vcpu *cpu, const struct insn *in, const struct str *s,
			    unsigned seg, unsigned reg, unsigned size, uint64_t *ret)
{
	gva_t lin;

	*ret = 0;
	return str_linear(cpu, in, seg, cpu->gpr[reg] & s->mask, size, ACC_READ, &lin) &&
	       mmu_load(cpu, lin, ret, size);
}

ALWAYS_INLINE bool str_store(struct vcpu *cpu, const struct insn *in, const struct str *s,
			     unsigned size, uint64_t v)
{
	gva_t lin;

	return str_linear(cpu, in, SEG_ES, cpu->gpr[RDI] & s->mask, size, ACC_WRITE, &lin) &&
	       mmu_store(cpu, lin, &v, size);
}

OP2(cmp, "", "cmp")

ALWAYS_INLINE void str_compare(struct vcpu *cpu, uint64_t a, uint64_t b, unsigned size)
{
	switch (size) {
	case 1:
		cmp_1(a, b, &cpu->cc);
		break;
	case 2:
		cmp_2(a, b, &cpu->cc);
		break;
	case 4:
		cmp_4(a, b, &cpu->cc);
		break;
	default:
		cmp_8(a, b, &cpu->cc);
		break;
	}
}

/* Do one element and move the index registers; false: fault, nothing changed. */
ALWAYS_INLINE bool str_element(struct vcpu *cpu, const struct insn *in, const struct str *s,
			       enum op op, unsigned size)
{
	uint64_t a = cpu->gpr[RAX], b;

	if ((op == OP_MOVS || op == OP_LODS || op == OP_CMPS) &&
	    !str_load(cpu, in, s, in->seg, RSI, size, &a)) {
		return false;
	}
	if ((op == OP_CMPS || op == OP_SCAS) && !str_load(cpu, in, s, SEG_ES, RDI, size, &b)) {
		return false;
	}
	if ((op == OP_MOVS || op == OP_STOS) && !str_store(cpu, in, s, size, a)) {
		return false;
	}
	if (op == OP_LODS) {
		reg_store(cpu, RAX, a, size);
	}
	if (op == OP_CMPS || op == OP_SCAS) {
		str_compare(cpu, a, b, size);
	}
	if (op != OP_STOS && op != OP_SCAS) {
		reg_step(cpu, in, RSI, s->step);
	}
	if (op != OP_LODS) {
		reg_step(cpu, in, RDI, s->step);
	}
	return true;
}

/* --- chunks ----------------------------------------------------------------------------------- */
/* How many elements until the offset would wrap, at most `n`; 0: the first one does already. */
static unsigned until_wrap(const struct str *s, uint64_t off, unsigned n)
{
	uint64_t room = s->mask - off; /* bytes behind the first one */

	if (room < s->size - 1) {
		return 0;
	}
	if (s->down) {
		return (unsigned)MIN(n, off / s->size + 1);
	}
	return room >= CHUNK_BYTES ? n : (unsigned)MIN(n, (room + 1) / s->size);
}

/* Host address of a run of at most `n` elements at [reg]; returns how many, maybe 0. */
static unsigned str_run(struct vcpu *cpu, const struct insn *in, const struct str *s, unsigned seg,
			unsigned reg, enum mmu_access acc, unsigned n, void **ret)
{
	uint64_t off = cpu->gpr[reg] & s->mask, lowest;
	gva_t lin;

	n = until_wrap(s, off, n);
	if (n == 0) {
		return 0;
	}
	lowest = s->down ? off - (uint64_t)(n - 1) * s->size : off;
	if (!str_linear(cpu, in, seg, lowest, n * s->size, acc, &lin)) {
		return 0;
	}
	lin += off - lowest;
	return MIN(n, mmu_run(cpu, lin, acc, s->down, s->size, ret) / s->size);
}

/* The chunk at the index registers. n == 0: go by one element. */
static struct chunk next_chunk(struct vcpu *cpu, const struct insn *in, const struct str *s,
			       enum op op, uint64_t count)
{
	struct chunk c = { .n = (unsigned)MIN(count, CHUNK_BYTES / s->size) };

	if (c.n > 1 && op != OP_STOS && op != OP_SCAS) {
		c.n = str_run(cpu, in, s, in->seg, RSI, ACC_READ, c.n, &c.src);
	}
	if (c.n > 1 && op != OP_LODS) {
		c.n = str_run(cpu, in, s, SEG_ES, RDI,
			      op == OP_MOVS || op == OP_STOS ? ACC_WRITE : ACC_READ, c.n, &c.dst);
	}
	return c.n > 1 ? c : (struct chunk){ 0 };
}

/* The host's REP instruction with the guest's direction; its count register tells what is left. */
#define HOST_REP(insn, ...)                                                     \
	do {                                                                    \
		if (s->down) {                                                  \
			__asm__ volatile("std\n\t" insn "\n\tcld" __VA_ARGS__); \
		} else {                                                        \
			__asm__ volatile(insn __VA_ARGS__);                     \
		}                                                               \
	} while (0)
#define HOST_MOVS(suffix) \
	HOST_REP("rep movs" suffix, : "+S"(c->src), "+D"(c->dst), "+c"(left) : : "memory")
#define HOST_STOS(suffix) \
	HOST_REP("rep stos" suffix, : "+D"(c->dst), "+c"(left) : "a"(cpu->gpr[RAX]) : "memory")
/* STD and CLD leave the arithmetic flags alone. */
#define HOST_CMPS(rep, suffix)                                         \
	HOST_REP(rep " cmps" suffix "\n\tlahf\n\tseto %%al",           \
		 : "+S"(c->src), "+D"(c->dst), "+c"(left), "+a"(flags) \
		 :                                                     \
		 : "memory", "cc")
#define HOST_SCAS(rep, suffix)                               \
	HOST_REP(rep " scas" suffix "\n\tlahf\n\tseto %%al", \
		 : "+D"(c->dst), "+c"(left), "+a"(flags)     \
		 :                                           \
		 : "memory", "cc")
#define BY_SIZE(X, ...)             \
	switch (s->size) {          \
	case 1:                     \
		X(__VA_ARGS__ "b"); \
		break;              \
	case 2:                     \
		X(__VA_ARGS__ "w"); \
		break;              \
	case 4:                     \
		X(__VA_ARGS__ "l"); \
		break;              \
	default:                    \
		X(__VA_ARGS__ "q"); \
		break;              \
	}
#define REPE_CMPS(suffix)  HOST_CMPS("repe", suffix)
#define REPNE_CMPS(suffix) HOST_CMPS("repne", suffix)
#define REPE_SCAS(suffix)  HOST_SCAS("repe", suffix)
#define REPNE_SCAS(suffix) HOST_SCAS("repne", suffix)

static void chunk_compare(struct vcpu *cpu, const struct insn *in, const struct str *s,
			  struct chunk *c, uint64_t *ret_left)
{
	uint64_t left = c->n, flags = cpu->gpr[RAX];
	bool while_equal = in->flags & INSN_REP;

	if (in->op == OP_CMPS && while_equal) {
		BY_SIZE(REPE_CMPS)
	} else if (in->op == OP_CMPS) {
		BY_SIZE(REPNE_CMPS)
	} else if (while_equal) {
		BY_SIZE(REPE_SCAS)
	} else {
		BY_SIZE(REPNE_SCAS)
	}
	cpu->cc = (uint32_t)flags & CC_BITS;
	*ret_left = left;
}

/* Run a chunk; returns how many elements were done: fewer than c->n if a comparison ended it. */
static unsigned run_chunk(struct vcpu *cpu, const struct insn *in, const struct str *s,
			  struct chunk *c)
{
	uint64_t left = c->n, last = 0;

	switch (in->op) {
	case OP_MOVS:
		BY_SIZE(HOST_MOVS)
		break;
	case OP_STOS:
		BY_SIZE(HOST_STOS)
		break;
	case OP_LODS:
		memcpy(&last, (uint8_t *)c->src + s->step * (int64_t)(c->n - 1), s->size);
		reg_store(cpu, RAX, last, s->size);
		left = 0;
		break;
	default:
		chunk_compare(cpu, in, s, c, &left);
		break;
	}
	return c->n - (unsigned)left;
}

/* Move the registers behind `n` elements of a chunk. */
static void chunk_commit(struct vcpu *cpu, const struct insn *in, const struct str *s, unsigned n)
{
	int64_t by = s->step * (int64_t)n;

	if (in->op != OP_STOS && in->op != OP_SCAS) {
		reg_step(cpu, in, RSI, by);
	}
	if (in->op != OP_LODS) {
		reg_step(cpu, in, RDI, by);
	}
	reg_step(cpu, in, RCX, -(int64_t)n);
}

/* Has a comparison ended the repetition? */
static bool str_decided(const struct vcpu *cpu, const struct insn *in)
{
	bool equal = cpu->cc & CC_ZF;

	return (in->op == OP_CMPS || in->op == OP_SCAS) && equal != !!(in->flags & INSN_REP);
}

/* Must the instruction end here, though it is not done? */
static bool called_away(const struct vcpu *cpu)
{
	return atomic_load_explicit(&cpu->req, memory_order_relaxed) != 0 || cpu->io.count != 0;
}

enum str_result { STR_DONE, STR_FAULT, STR_PAUSE };

ALWAYS_INLINE enum str_result str_repeat(struct vcpu *cpu, const struct insn *in, enum op op,
					 unsigned size)
{
	const struct str s = str_of(cpu, in, size);
	bool step = debug_must_step(cpu);
	uint64_t count;

	while ((count = reg_load(cpu, RCX, in->asz)) != 0) {
		struct chunk c = next_chunk(cpu, in, &s, op, step ? 1 : count);

		if (c.n) {
			chunk_commit(cpu, in, &s, run_chunk(cpu, in, &s, &c));
		} else if (str_element(cpu, in, &s, op, size)) {
			reg_step(cpu, in, RCX, -1);
		} else {
			return STR_FAULT;
		}
		if (str_decided(cpu, in) || reg_load(cpu, RCX, in->asz) == 0) {
			break;
		}
		if (step || called_away(cpu)) {
			return STR_PAUSE;
		}
	}
	return STR_DONE;
}

ALWAYS_INLINE bool str_single(struct vcpu *cpu, const struct insn *in, enum op op, unsigned size)
{
	const struct str s = str_of(cpu, in, size);

	return str_element(cpu, in, &s, op, size);
}

#define STRING(name, o, size)                                                                \
	HANDLER(name##_##size, str_single(cpu, in, o, size))                                 \
	static enum exec_result rep_##name##_##size(struct vcpu *cpu, const struct insn *in) \
	{                                                                                    \
		switch (str_repeat(cpu, in, o, size)) {                                      \
		case STR_FAULT:                                                              \
			return exec_abort(cpu, in);                                          \
		case STR_PAUSE:                                                              \
			cpu->rip = insn_rip(cpu, in);                                        \
			return EXEC_END;                                                     \
		default:                                                                     \
			return exec_next(cpu, in);                                           \
		}                                                                            \
	}
#define STRINGS(name, o)                                \
	STRING(name, o, 1)                              \
	STRING(name, o, 2)                              \
	STRING(name, o, 4)                              \
	STRING(name, o, 8)                              \
	static exec_fn *const name##_handlers[4][2] = { \
		{ name##_1, rep_##name##_1 },           \
		{ name##_2, rep_##name##_2 },           \
		{ name##_4, rep_##name##_4 },           \
		{ name##_8, rep_##name##_8 },           \
	};
STRINGS(movs, OP_MOVS)
STRINGS(stos, OP_STOS)
STRINGS(lods, OP_LODS)
STRINGS(scas, OP_SCAS)
STRINGS(cmps, OP_CMPS)

exec_fn *int_string_bind(const struct insn *in)
{
	unsigned size = size_log2(in->osz), rep = is_repeated(in);

	switch (in->op) {
	case OP_MOVS:
		return movs_handlers[size][rep];
	case OP_STOS:
		return stos_handlers[size][rep];
	case OP_LODS:
		return lods_handlers[size][rep];
	case OP_SCAS:
		return scas_handlers[size][rep];
	case OP_CMPS:
		return cmps_handlers[size][rep];
	default:
		return NULL;
	}
}
