/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Vector moves between registers and memory: the commonest SIMD instructions of
 * all guests, in C because their memory access is most of their work. (Register forms
 * are stubs.)
 */
#include "softkvm/cpu/simd_int.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/*
 * Loads: `size` bytes into the low end of the register, zeros above: up to 16 bytes in legacy forms
 * (MOVSS, MOVD, MOVQ), up to 32 with VEX. False: abort, or not aligned.
 */
ALWAYS_INLINE bool load_body(struct vcpu *cpu, const struct insn *in, unsigned size, bool aligned,
			     bool vex)
{
	union vreg tmp = { .q = { 0 } };
	gva_t lin;

	if (unlikely(!ea_linear(cpu, in, size, ACC_READ, &lin))) {
		return false;
	}
	if (aligned && unlikely(lin & (size - 1))) {
		cpu->fault = (struct fault){ .vector = EX_GP, .has_error = true };
		return false;
	}
	if (unlikely(!mmu_load(cpu, lin, &tmp, size))) {
		return false;
	}
	memcpy(&cpu->fpu.v[in->reg], &tmp, vex ? 32 : 16);
	return true;
}

/* Stores of `size` bytes from byte `from` of the register. */
ALWAYS_INLINE bool store_body(struct vcpu *cpu, const struct insn *in, unsigned size, unsigned from,
			      bool aligned)
{
	gva_t lin;

	if (unlikely(!ea_linear(cpu, in, size, ACC_WRITE, &lin))) {
		return false;
	}
	if (aligned && unlikely(lin & (size - 1))) {
		cpu->fault = (struct fault){ .vector = EX_GP, .has_error = true };
		return false;
	}
	return mmu_store(cpu, lin, cpu->fpu.v[in->reg].b + from, size);
}

/* One quarter replaced by memory: MOVLPS, MOVHPS and the PD forms; legacy only. */
ALWAYS_INLINE bool load_half_body(struct vcpu *cpu, const struct insn *in, unsigned half)
{
	uint64_t v;
	gva_t lin;

	if (unlikely(!ea_linear(cpu, in, 8, ACC_READ, &lin)) ||
	    unlikely(!mmu_load(cpu, lin, &v, 8))) {
		return false;
	}
	cpu->fpu.v[in->reg].q[half] = v;
	return true;
}

#define MOVE_FN(name, vex, body)                                                      \
	static enum exec_result name(struct vcpu *cpu, const struct insn *in)         \
	{                                                                             \
		if (unlikely(cpu->fp_trap & (vex ? TRAP_AVX : TRAP_SSE))) {           \
			return vex ? simd_trap_avx(cpu, in) : simd_trap_sse(cpu, in); \
		}                                                                     \
		return likely(body) ? exec_next(cpu, in) : exec_abort(cpu, in);       \
	}
#define LOAD_FN(name, size, aligned, vex) MOVE_FN(name, vex, load_body(cpu, in, size, aligned, vex))
#define STORE_FN(name, size, from, aligned, vex) \
	MOVE_FN(name, vex, store_body(cpu, in, size, from, aligned))

LOAD_FN(load4, 4, false, false)
LOAD_FN(load8, 8, false, false)
LOAD_FN(load16, 16, false, false)
LOAD_FN(load16_aligned, 16, true, false)
LOAD_FN(vload4, 4, false, true)
LOAD_FN(vload8, 8, false, true)
LOAD_FN(vload16, 16, false, true)
LOAD_FN(vload16_aligned, 16, true, true)
LOAD_FN(vload32, 32, false, true)
LOAD_FN(vload32_aligned, 32, true, true)
STORE_FN(store4, 4, 0, false, false)
STORE_FN(store8, 8, 0, false, false)
STORE_FN(store8_high, 8, 8, false, false)
STORE_FN(store16, 16, 0, false, false)
STORE_FN(store16_aligned, 16, 0, true, false)
STORE_FN(vstore4, 4, 0, false, true)
STORE_FN(vstore8, 8, 0, false, true)
STORE_FN(vstore8_high, 8, 8, false, true)
STORE_FN(vstore16, 16, 0, false, true)
STORE_FN(vstore16_aligned, 16, 0, true, true)
STORE_FN(vstore32, 32, 0, false, true)
STORE_FN(vstore32_aligned, 32, 0, true, true)

MOVE_FN(load_low, false, load_half_body(cpu, in, 0))
MOVE_FN(load_high, false, load_half_body(cpu, in, 1))

struct mov_row {
	exec_fn *load, *load_aligned, *store, *store_aligned;
};

/* By size 4, 8, 16, 32. */
static const struct mov_row legacy_rows[4] = {
	{ load4, NULL, store4, NULL },
	{ load8, NULL, store8, NULL },
	{ load16, load16_aligned, store16, store16_aligned },
	{ NULL, NULL, NULL, NULL },
};
static const struct mov_row vex_rows[4] = {
	{ vload4, NULL, vstore4, NULL },
	{ vload8, NULL, vstore8, NULL },
	{ vload16, vload16_aligned, vstore16, vstore16_aligned },
	{ vload32, vload32_aligned, vstore32, vstore32_aligned },
};

static exec_fn *full_move(const struct insn *in, bool store, bool aligned)
{
	const struct mov_row *rows = in->flags & INSN_VEX ? vex_rows : legacy_rows;
	unsigned i = in->mem_size == 4 ? 0 : in->mem_size == 8 ? 1 : in->mem_size == 16 ? 2 : 3;

	if (in->mem_size != 4u << i) {
		return NULL;
	}
	rows += i;
	if (aligned && i >= 2) {
		return store ? rows->store_aligned : rows->load_aligned;
	}
	return store ? rows->store : rows->load;
}

/* Is the first operand memory, as in the store forms? */
static bool is_store(const struct insn *in)
{
	const struct row *row = simd_row(in);
	unsigned kind = row ? opnd_infos[row->opnd[0]].kind : OK_NONE;

	return kind == OK_W || kind == OK_M || kind == OK_E;
}

static exec_fn *half_move(const struct insn *in, unsigned half)
{
	bool vex = in->flags & INSN_VEX;

	if (is_store(in)) {
		return half ? (vex ? vstore8_high : store8_high) : (vex ? vstore8 : store8);
	}
	/* The VEX loads have three operands: stubs. */
	return vex ? NULL : half ? load_high : load_low;
}

static bool is_mmx(const struct insn *in)
{
	const struct row *row = simd_row(in);

	for (unsigned i = 0; row && i < 4; i++) {
		unsigned kind = opnd_infos[row->opnd[i]].kind;

		if (kind == OK_P || kind == OK_Q || kind == OK_N) {
			return true;
		}
	}
	return false;
}

exec_fn *simd_mov_bind(const struct insn *in)
{
	if (!(in->flags & INSN_MEM)) {
		return NULL;
	}
	switch (in->op) {
	case OP_MOVAPS:
	case OP_MOVAPD:
	case OP_MOVDQA:
	case OP_MOVNTPS:
	case OP_MOVNTPD:
	case OP_MOVNTDQ:
	case OP_MOVNTDQA:
	case OP_VMOVAPS:
	case OP_VMOVAPD:
	case OP_VMOVDQA:
	case OP_VMOVNTPS:
	case OP_VMOVNTPD:
	case OP_VMOVNTDQ:
	case OP_VMOVNTDQA:
		return full_move(in, is_store(in), true);
	case OP_MOVUPS:
	case OP_MOVUPD:
	case OP_MOVDQU:
	case OP_LDDQU:
	case OP_MOVSS:
	case OP_MOVSD:
	case OP_VMOVUPS:
	case OP_VMOVUPD:
	case OP_VMOVDQU:
	case OP_VLDDQU:
	case OP_VMOVSS:
	case OP_VMOVSD:
		return full_move(in, is_store(in), false);
	case OP_MOVD:
	case OP_MOVQ:
	case OP_VMOVD:
	case OP_VMOVQ:
		return is_mmx(in) ? NULL : full_move(in, is_store(in), false);
	case OP_MOVLPS:
	case OP_MOVLPD:
	case OP_VMOVLPS:
	case OP_VMOVLPD:
		return half_move(in, 0);
	case OP_MOVHPS:
	case OP_MOVHPD:
	case OP_VMOVHPS:
	case OP_VMOVHPD:
		return half_move(in, 1);
	default:
		return NULL;
	}
}
