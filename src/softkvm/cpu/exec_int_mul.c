/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MUL, IMUL, DIV, IDIV, and decimal arithmetic.
 *
 * Division is done by the host's instruction, but only after a check that it cannot
 * raise #DE there: that would be a signal to our own process.
 */
#include "softkvm/cpu/exec_int.h"

/* --- MUL, IMUL: rDX:rAX = rAX * source -------------------------------------------------------- */
struct wide {
	uint64_t lo, hi;
};

/* `insn` works on rAX and rDX; rAX is saved before LAHF needs AH. */
#define WIDE_OP(name, type, insn)                                              \
	ALWAYS_INLINE void name(struct wide *w, type src, uint32_t *cc)        \
	{                                                                      \
		uint64_t f = *cc, lo = w->lo, hi = w->hi;                      \
		__asm__(ASM_FLAGS_IN "mov %[lo], %%rax\n\t" insn " %[src]\n\t" \
				     "mov %%rax, %[lo]" ASM_FLAGS_OUT          \
			: "+&a"(f), [lo] "+&r"(lo), "+&d"(hi)                  \
			: [src] "r"(src)                                       \
			: "cc");                                               \
		w->lo = lo;                                                    \
		w->hi = hi;                                                    \
		*cc = (uint32_t)f & CC_BITS;                                   \
	}
WIDE_OP(mul_1, uint8_t, "mulb")
WIDE_OP(mul_2, uint16_t, "mulw")
WIDE_OP(mul_4, uint32_t, "mull")
WIDE_OP(mul_8, uint64_t, "mulq")
WIDE_OP(imul1_1, uint8_t, "imulb")
WIDE_OP(imul1_2, uint16_t, "imulw")
WIDE_OP(imul1_4, uint32_t, "imull")
WIDE_OP(imul1_8, uint64_t, "imulq")
WIDE_OP(div_1, uint8_t, "divb")
WIDE_OP(div_2, uint16_t, "divw")
WIDE_OP(div_4, uint32_t, "divl")
WIDE_OP(div_8, uint64_t, "divq")
WIDE_OP(idiv_1, uint8_t, "idivb")
WIDE_OP(idiv_2, uint16_t, "idivw")
WIDE_OP(idiv_4, uint32_t, "idivl")
WIDE_OP(idiv_8, uint64_t, "idivq")

/* AX is the whole result for bytes, rAX and rDX else. */
static inline void store_wide(struct vcpu *cpu, const struct wide *w, unsigned size)
{
	if (size == 1) {
		reg_store(cpu, RAX, w->lo, 2);
		return;
	}
	reg_store(cpu, RAX, w->lo, size);
	reg_store(cpu, RDX, w->hi, size);
}

#define MUL_STEP(name, size, type, place)                         \
	STEP(exec_##name##_##size##_##place##_step)               \
	{                                                         \
		struct wide w = { cpu->gpr[RAX], cpu->gpr[RDX] }; \
		uint64_t v;                                       \
		if (!int_load(cpu, in, place, size, &v)) {        \
			return false;                             \
		}                                                 \
		name##_##size(&w, (type)v, &cpu->cc);             \
		store_wide(cpu, &w, size);                        \
		return true;                                      \
	}                                                         \
	HANDLER(name##_##size##_##place, exec_##name##_##size##_##place##_step(cpu, in))
#define MUL_SIZE(name, size, type)        \
	MUL_STEP(name, size, type, AT_RM) \
	MUL_STEP(name, size, type, AT_MEM)
#define MUL(name)                                       \
	MUL_SIZE(name, 1, uint8_t)                      \
	MUL_SIZE(name, 2, uint16_t)                     \
	MUL_SIZE(name, 4, uint32_t)                     \
	MUL_SIZE(name, 8, uint64_t)                     \
	static exec_fn *const name##_handlers[4][2] = { \
		{ name##_1_AT_RM, name##_1_AT_MEM },    \
		{ name##_2_AT_RM, name##_2_AT_MEM },    \
		{ name##_4_AT_RM, name##_4_AT_MEM },    \
		{ name##_8_AT_RM, name##_8_AT_MEM },    \
	};
MUL(mul)
MUL(imul1)

/* --- DIV, IDIV ----------------------------------------------------------------------------------
 */
/* The quotient fits: the dividend's upper half is below the divisor. */
static bool div_fits(uint64_t lo, uint64_t hi, uint64_t d, unsigned size)
{
	uint64_t mask = size == 8 ? UINT64_MAX : BIT64(size * 8) - 1;

	return size == 1 ? d && (uint8_t)(lo >> 8) < d : (hi & mask) < d;
}

/* The signed dividend of `size` times two bytes. */
static __int128 dividend(uint64_t lo, uint64_t hi, unsigned size)
{
	switch (size) {
	case 1:
		return (int16_t)lo;
	case 2:
		return (int32_t)((uint32_t)hi << 16 | (uint16_t)lo);
	case 4:
		return (int64_t)(hi << 32 | (uint32_t)lo);
	default:
		return (__int128)((unsigned __int128)hi << 64 | lo);
	}
}

/*
 * By magnitudes: |quotient| is at most 2^(n-1) - 1, or 2^(n-1) if it is negative. For that the
 * magnitude of the dividend must be below |d| * (limit + 1).
 */
static bool idiv_fits(uint64_t lo, uint64_t hi, int64_t d, unsigned size)
{
	__int128 n = dividend(lo, hi, size);
	unsigned __int128 n_abs = n < 0 ? -(unsigned __int128)n : (unsigned __int128)n;
	uint64_t d_abs = d < 0 ? -(uint64_t)d : (uint64_t)d;
	bool negative = (n < 0) != (d < 0);
	unsigned __int128 limit = (unsigned __int128)BIT64(size * 8 - 1) + negative;

	return d_abs && n_abs < limit * d_abs;
}

#define DIV_STEP(name, size, type, place, fits)                   \
	STEP(exec_##name##_##size##_##place##_step)               \
	{                                                         \
		struct wide w = { cpu->gpr[RAX], cpu->gpr[RDX] }; \
		uint64_t v;                                       \
		if (!int_load(cpu, in, place, size, &v)) {        \
			return false;                             \
		}                                                 \
		if (unlikely(!fits(w.lo, w.hi, (type)v, size))) { \
			return int_fault(cpu, EX_DE);             \
		}                                                 \
		name##_##size(&w, (type)v, &cpu->cc);             \
		store_wide(cpu, &w, size);                        \
		return true;                                      \
	}                                                         \
	HANDLER(name##_##size##_##place, exec_##name##_##size##_##place##_step(cpu, in))
#define DIV_SIZE(name, size, type, fits)        \
	DIV_STEP(name, size, type, AT_RM, fits) \
	DIV_STEP(name, size, type, AT_MEM, fits)
DIV_SIZE(div, 1, uint8_t, div_fits)
DIV_SIZE(div, 2, uint16_t, div_fits)
DIV_SIZE(div, 4, uint32_t, div_fits)
DIV_SIZE(div, 8, uint64_t, div_fits)
DIV_SIZE(idiv, 1, int8_t, idiv_fits)
DIV_SIZE(idiv, 2, int16_t, idiv_fits)
DIV_SIZE(idiv, 4, int32_t, idiv_fits)
DIV_SIZE(idiv, 8, int64_t, idiv_fits)
static exec_fn *const div_handlers[4][2] = {
	{ div_1_AT_RM, div_1_AT_MEM },
	{ div_2_AT_RM, div_2_AT_MEM },
	{ div_4_AT_RM, div_4_AT_MEM },
	{ div_8_AT_RM, div_8_AT_MEM },
};
static exec_fn *const idiv_handlers[4][2] = {
	{ idiv_1_AT_RM, idiv_1_AT_MEM },
	{ idiv_2_AT_RM, idiv_2_AT_MEM },
	{ idiv_4_AT_RM, idiv_4_AT_MEM },
	{ idiv_8_AT_RM, idiv_8_AT_MEM },
};

/* --- IMUL with two and three operands
 * -------------------------------------------------------------- */
OP2_SIZE(imul2, 2, uint16_t, ASM_FLAGS_IN, "imul", "w", "", "r")
OP2_SIZE(imul2, 4, uint32_t, ASM_FLAGS_IN, "imul", "l", "", "r")
OP2_SIZE(imul2, 8, uint64_t, ASM_FLAGS_IN, "imul", "q", "", "r")

#define IMUL_SIZE(size)                                                                            \
	HANDLER(imul2_##size##_e, int_to_reg(cpu, in, in->reg, size, imul2_##size, AT_REG, AT_RM)) \
	HANDLER(imul2_##size##_m,                                                                  \
		int_to_reg(cpu, in, in->reg, size, imul2_##size, AT_REG, AT_MEM))                  \
	HANDLER(imul3_##size##_e, int_to_reg(cpu, in, in->reg, size, imul2_##size, AT_RM, AT_IMM)) \
	HANDLER(imul3_##size##_m, int_to_reg(cpu, in, in->reg, size, imul2_##size, AT_MEM, AT_IMM))
IMUL_SIZE(2)
IMUL_SIZE(4)
IMUL_SIZE(8)
/* [log2 of the size][immediate][memory] */
#define IMUL_ROW(size)                                     \
	{                                                  \
		{ imul2_##size##_e, imul2_##size##_m },    \
		{                                          \
			imul3_##size##_e, imul3_##size##_m \
		}                                          \
	}
static exec_fn *const imul_handlers[4][2][2] = {
	{ { NULL, NULL }, { NULL, NULL } },
	IMUL_ROW(2),
	IMUL_ROW(4),
	IMUL_ROW(8),
};

/* --- decimal arithmetic (16- and 32-bit modes only; SDM 2A)
 * ------------------------------------------ */
/* SF, ZF and PF of AL; the host's TEST clears CF and OF. */
static void flags_of_al(struct vcpu *cpu, uint32_t other)
{
	uint8_t al = (uint8_t)cpu->gpr[RAX];
	uint32_t cc = other & (CC_CF | CC_AF | CC_OF);

	cc |= al & 0x80 ? CC_SF : 0;
	cc |= al == 0 ? CC_ZF : 0;
	cc |= __builtin_parity(al) ? 0 : CC_PF;
	cpu->cc = cc;
}

/* AAA and AAS: `sign` is 1 or -1. */
static bool ascii_adjust(struct vcpu *cpu, int sign)
{
	uint16_t ax = (uint16_t)cpu->gpr[RAX];
	bool adjust = (ax & 15) > 9 || (cpu->cc & CC_AF);

	if (adjust) {
		ax = (uint16_t)(ax + sign * 0x106);
	}
	reg_store(cpu, RAX, ax & 0xff0f, 2);
	flags_of_al(cpu, adjust ? CC_AF | CC_CF : 0);
	return true;
}
HANDLER(exec_aaa, ascii_adjust(cpu, 1))
HANDLER(exec_aas, ascii_adjust(cpu, -1))

static bool decimal_adjust(struct vcpu *cpu, bool subtract)
{
	uint8_t old = (uint8_t)cpu->gpr[RAX], al = old;
	bool carry = cpu->cc & CC_CF, out = false;
	uint32_t cc = 0;

	if ((al & 15) > 9 || (cpu->cc & CC_AF)) {
		out = carry || (subtract ? al < 6 : al > 0xf9);
		al = subtract ? al - 6 : al + 6;
		cc |= CC_AF;
	}
	if (old > 0x99 || carry) {
		al = subtract ? al - 0x60 : al + 0x60;
		out = true;
	}
	*reg8(cpu, RAX) = al;
	flags_of_al(cpu, cc | (out ? CC_CF : 0));
	return true;
}
HANDLER(exec_daa, decimal_adjust(cpu, false))
HANDLER(exec_das, decimal_adjust(cpu, true))

static bool aam(struct vcpu *cpu, const struct insn *in)
{
	uint8_t al = (uint8_t)cpu->gpr[RAX], base = (uint8_t)in->imm;

	if (!base) {
		return int_fault(cpu, EX_DE);
	}
	reg_store(cpu, RAX, (uint64_t)(al / base) << 8 | al % base, 2);
	flags_of_al(cpu, 0);
	return true;
}

static bool aad(struct vcpu *cpu, const struct insn *in)
{
	uint16_t ax = (uint16_t)cpu->gpr[RAX];

	reg_store(cpu, RAX, (uint8_t)((ax & 0xff) + (ax >> 8) * (uint8_t)in->imm), 2);
	flags_of_al(cpu, 0);
	return true;
}
HANDLER(exec_aam, aam(cpu, in))
HANDLER(exec_aad, aad(cpu, in))

exec_fn *int_mul_bind(const struct insn *in)
{
	unsigned size = size_log2(in->osz), mem = insn_has_mem(in);

	switch (in->op) {
	case OP_MUL:
		return mul_handlers[size][mem];
	case OP_IMUL1:
		return imul1_handlers[size][mem];
	case OP_IMUL2:
		return imul_handlers[size][0][mem];
	case OP_IMUL3:
		return imul_handlers[size][1][mem];
	case OP_DIV:
		return div_handlers[size][mem];
	case OP_IDIV:
		return idiv_handlers[size][mem];
	case OP_AAA:
		return exec_aaa;
	case OP_AAS:
		return exec_aas;
	case OP_AAM:
		return exec_aam;
	case OP_AAD:
		return exec_aad;
	case OP_DAA:
		return exec_daa;
	case OP_DAS:
		return exec_das;
	default:
		return NULL;
	}
}
