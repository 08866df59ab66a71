/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Vector moves between registers and memory: the commonest SIMD instructions of
 * all guests, in C because their memory access is most of their work. (Register forms
 * are stubs.)
 */
#include "softkvm/cpu/simd_int.h"

/*
 * Loads: `size` bytes into the low end of the register. What lies above: legacy full loads keep
 * the upper half (keep 16), scalar and half ones clear up to 16 (MOVSS, MOVD, MOVQ); VEX clears all.
 */
static inline enum exec_result do_load(struct vcpu *cpu, const struct insn *in, unsigned size,
				       bool aligned, bool vex)
{
	union vreg tmp = { .q = { 0 } }, *dst = &cpu->fpu.v[in->reg];
	gva_t lin;

	if (unlikely(cpu->fp_trap & (vex ? TRAP_AVX : TRAP_SSE))) {
		return vex ? simd_trap_avx(cpu, in) : simd_trap_sse(cpu, in);
	}
	if (unlikely(!ea_linear(cpu, in, size, ACC_READ, &lin))) {
		return exec_abort(cpu, in);
	}
	if (aligned && unlikely(lin & (size - 1))) {
		return exec_gp0(cpu, in);
	}
	if (unlikely(!mmu_load(cpu, lin, &tmp, size))) {
		return exec_abort(cpu, in);
	}
	memcpy(dst, &tmp, vex ? 32 : 16);
	return exec_next(cpu, in);
}

/* Stores of `size` bytes from byte `from` of the register. */
static inline enum exec_result do_store(struct vcpu *cpu, const struct insn *in, unsigned size,
					unsigned from, bool aligned, bool vex)
{
	gva_t lin;

	if (unlikely(cpu->fp_trap & (vex ? TRAP_AVX : TRAP_SSE))) {
		return vex ? simd_trap_avx(cpu, in) : simd_trap_sse(cpu, in);
	}
	if (unlikely(!ea_linear(cpu, in, size, ACC_WRITE, &lin))) {
		return exec_abort(cpu, in);
	}
	if (aligned && unlikely(lin & (size - 1))) {
		return exec_gp0(cpu, in);
	}
	if (unlikely(!mmu_store(cpu, lin, cpu->fpu.v[in->reg].b + from, size))) {
		return exec_abort(cpu, in);
	}
	return exec_next(cpu, in);
}

#define LOAD_FN(name, size, aligned, vex)                                                          \
	static enum exec_result name(struct vcpu *cpu, const struct insn *in)                      \
	{                                                                                          \
		return do_load(cpu, in, size, aligned, vex);                                       \
	}
#define STORE_FN(name, size, from, aligned, vex)                                                   \
	static enum exec_result name(struct vcpu *cpu, const struct insn *in)                      \
	{                                                                                          \
		return do_store(cpu, in, size, from, aligned, vex);                                \
	}

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

/* The low or high quarter replaced by memory: MOVLPS, MOVHPS and the PD forms; legacy only. */
static inline enum exec_result do_load_half(struct vcpu *cpu, const struct insn *in, unsigned half)
{
	uint64_t v;
	gva_t lin;

	if (unlikely(cpu->fp_trap & TRAP_SSE)) {
		return simd_trap_sse(cpu, in);
	}
	if (unlikely(!ea_linear(cpu, in, 8, ACC_READ, &lin)) ||
	    unlikely(!mmu_load(cpu, lin, &v, 8))) {
		return exec_abort(cpu, in);
	}
	cpu->fpu.v[in->reg].q[half] = v;
	return exec_next(cpu, in);
}

static enum exec_result load_low(struct vcpu *cpu, const struct insn *in)
{
	return do_load_half(cpu, in, 0);
}

static enum exec_result load_high(struct vcpu *cpu, const struct insn *in)
{
	return do_load_half(cpu, in, 1);
}

enum move { MOVE_LOAD, MOVE_STORE, MOVE_STORE_HIGH, MOVE_LOAD_LOW, MOVE_LOAD_HIGH, MOVE_NONE };

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
	case OP_MOVAPS: case OP_MOVAPD: case OP_MOVDQA: case OP_MOVNTPS: case OP_MOVNTPD:
	case OP_MOVNTDQ: case OP_MOVNTDQA: case OP_VMOVAPS: case OP_VMOVAPD: case OP_VMOVDQA:
	case OP_VMOVNTPS: case OP_VMOVNTPD: case OP_VMOVNTDQ: case OP_VMOVNTDQA:
		return full_move(in, is_store(in), true);
	case OP_MOVUPS: case OP_MOVUPD: case OP_MOVDQU: case OP_LDDQU: case OP_MOVSS: case OP_MOVSD:
	case OP_VMOVUPS: case OP_VMOVUPD: case OP_VMOVDQU: case OP_VLDDQU: case OP_VMOVSS:
	case OP_VMOVSD:
		return full_move(in, is_store(in), false);
	case OP_MOVD: case OP_MOVQ: case OP_VMOVD: case OP_VMOVQ:
		return is_mmx(in) ? NULL : full_move(in, is_store(in), false);
	case OP_MOVLPS: case OP_MOVLPD: case OP_VMOVLPS: case OP_VMOVLPD:
		return half_move(in, 0);
	case OP_MOVHPS: case OP_MOVHPD: case OP_VMOVHPS: case OP_VMOVHPD:
		return half_move(in, 1);
	default:
		return NULL;
	}
}
