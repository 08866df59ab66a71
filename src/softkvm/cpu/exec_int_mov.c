/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Data movement: MOV, MOVZX, MOVSX, LEA, CMOVcc, SETcc, BSWAP, MOVBE, CBW, CWD, XLAT, LAHF, SAHF.
 */
#include "softkvm/cpu/exec_int.h"

/* --- MOV ------------------------------------------------------------------------------------ */
ALWAYS_INLINE bool mov(struct vcpu *cpu, const struct insn *in, unsigned size, enum int_place dst,
		       enum int_place src)
{
	uint64_t v;

	if (!int_load(cpu, in, src, size, &v)) {
		return false;
	}
	if (dst == AT_MEM) {
		return mem_store(cpu, in, size, v);
	}
	reg_store(cpu, dst == AT_REG ? in->reg : in->rm, v, size);
	return true;
}

#define MOV_SIZE(size)                                               \
	HANDLER(mov_##size##_eg, mov(cpu, in, size, AT_RM, AT_REG))  \
	HANDLER(mov_##size##_ge, mov(cpu, in, size, AT_REG, AT_RM))  \
	HANDLER(mov_##size##_mg, mov(cpu, in, size, AT_MEM, AT_REG)) \
	HANDLER(mov_##size##_gm, mov(cpu, in, size, AT_REG, AT_MEM)) \
	HANDLER(mov_##size##_ei, mov(cpu, in, size, AT_RM, AT_IMM))  \
	HANDLER(mov_##size##_mi, mov(cpu, in, size, AT_MEM, AT_IMM))
MOV_SIZE(1)
MOV_SIZE(2)
MOV_SIZE(4)
MOV_SIZE(8)

enum mov_form { MOV_EG, MOV_GE, MOV_MG, MOV_GM, MOV_EI, MOV_MI, MOV_FORMS };
#define MOV_ROW(size)                                                               \
	{                                                                           \
		mov_##size##_eg, mov_##size##_ge, mov_##size##_mg, mov_##size##_gm, \
			mov_##size##_ei, mov_##size##_mi                            \
	}
static exec_fn *const mov_handlers[4][MOV_FORMS] = { MOV_ROW(1), MOV_ROW(2), MOV_ROW(4),
						     MOV_ROW(8) };

static enum mov_form mov_form(const struct insn *in)
{
	bool mem = insn_has_mem(in);

	if (in->op == OP_MOVNTI) {
		return MOV_MG;
	}
	switch (in->opcode) {
	case 0x88:
	case 0x89:
	case 0xa2:
	case 0xa3:
		return mem ? MOV_MG : MOV_EG;
	case 0x8a:
	case 0x8b:
	case 0xa0:
	case 0xa1:
		return mem ? MOV_GM : MOV_GE;
	default: /* B0..BF, C6, C7 */
		return mem ? MOV_MI : MOV_EI;
	}
}

/* --- MOVZX, MOVSX, MOVSXD ----------------------------------------------------------------------
 */
ALWAYS_INLINE bool extend(struct vcpu *cpu, const struct insn *in, unsigned size, unsigned from,
			  bool sign, enum int_place src)
{
	uint64_t v;
	unsigned shift = 64 - from * 8;

	if (!int_load(cpu, in, src, from, &v)) {
		return false;
	}
	if (sign) {
		v = (uint64_t)((int64_t)(v << shift) >> shift);
	}
	reg_store(cpu, in->reg, v, size);
	return true;
}

#define EXTEND(name, size, from, sign)                                                \
	HANDLER(name##_##size##_##from##_e, extend(cpu, in, size, from, sign, AT_RM)) \
	HANDLER(name##_##size##_##from##_m, extend(cpu, in, size, from, sign, AT_MEM))
#define EXTEND_ALL(name, sign)   \
	EXTEND(name, 2, 1, sign) \
	EXTEND(name, 4, 1, sign) \
	EXTEND(name, 8, 1, sign) \
	EXTEND(name, 2, 2, sign) \
	EXTEND(name, 4, 2, sign) \
	EXTEND(name, 8, 2, sign) \
	EXTEND(name, 2, 4, sign) \
	EXTEND(name, 4, 4, sign) \
	EXTEND(name, 8, 4, sign)
EXTEND_ALL(zx, false)
EXTEND_ALL(sx, true)

/* [log2 of the destination's size][log2 of the source's][memory] */
#define EXTEND_PAIR(name, size, from)                                  \
	{                                                              \
		name##_##size##_##from##_e, name##_##size##_##from##_m \
	}
#define EXTEND_TABLE(name)                                                                        \
	{                                                                                         \
		{ { NULL, NULL } },                                                               \
			{ EXTEND_PAIR(name, 2, 1), EXTEND_PAIR(name, 2, 2),                       \
			  EXTEND_PAIR(name, 2, 4) },                                              \
			{ EXTEND_PAIR(name, 4, 1), EXTEND_PAIR(name, 4, 2),                       \
			  EXTEND_PAIR(name, 4, 4) },                                              \
		{                                                                                 \
			EXTEND_PAIR(name, 8, 1), EXTEND_PAIR(name, 8, 2), EXTEND_PAIR(name, 8, 4) \
		}                                                                                 \
	}
static exec_fn *const zx_handlers[4][3][2] = EXTEND_TABLE(zx);
static exec_fn *const sx_handlers[4][3][2] = EXTEND_TABLE(sx);

/* log2 of the source's size. MOVSXD reads 32 bits even into a 16-bit register. */
static unsigned extend_from(const struct insn *in)
{
	return in->op == OP_MOVSXD ? 2 : in->opcode & 1;
}

/* --- LEA
 * ------------------------------------------------------------------------------------------ */
STEP(lea)
{
	reg_store(cpu, in->reg, ea_offset(cpu, in), in->osz);
	return true;
}
/* The common one: 64 bits, no index. */
STEP(lea_base)
{
	cpu->gpr[in->reg] = cpu->gpr[in->base] + (uint64_t)in->disp;
	return true;
}
HANDLER(exec_lea, lea(cpu, in))
HANDLER(exec_lea_base, lea_base(cpu, in))

/* --- conditions
 * ------------------------------------------------------------------------------------- */
/* The memory operand is read whatever the condition; a 32-bit destination is cleared above always.
 */
ALWAYS_INLINE bool cmov(struct vcpu *cpu, const struct insn *in, unsigned size, enum int_place src,
			unsigned cond)
{
	uint64_t v;

	if (!int_load(cpu, in, src, size, &v)) {
		return false;
	}
	if (!cc_test(cpu->cc, cond)) {
		v = cpu->gpr[in->reg];
	}
	reg_store(cpu, in->reg, v, size);
	return true;
}

ALWAYS_INLINE bool setcc(struct vcpu *cpu, const struct insn *in, bool mem, unsigned cond)
{
	bool v = cc_test(cpu->cc, cond);

	if (mem) {
		return mem_store(cpu, in, 1, v);
	}
	*reg8(cpu, in->rm) = v;
	return true;
}

#define COND(c)                                            \
	HANDLER(cmov_2_e_##c, cmov(cpu, in, 2, AT_RM, c))  \
	HANDLER(cmov_2_m_##c, cmov(cpu, in, 2, AT_MEM, c)) \
	HANDLER(cmov_4_e_##c, cmov(cpu, in, 4, AT_RM, c))  \
	HANDLER(cmov_4_m_##c, cmov(cpu, in, 4, AT_MEM, c)) \
	HANDLER(cmov_8_e_##c, cmov(cpu, in, 8, AT_RM, c))  \
	HANDLER(cmov_8_m_##c, cmov(cpu, in, 8, AT_MEM, c)) \
	HANDLER(setcc_e_##c, setcc(cpu, in, false, c))     \
	HANDLER(setcc_m_##c, setcc(cpu, in, true, c))
/* clang-format off */
COND(0) COND(1) COND(2) COND(3) COND(4) COND(5) COND(6) COND(7)
COND(8) COND(9) COND(10) COND(11) COND(12) COND(13) COND(14) COND(15)
/* clang-format on */

#define FOR_CONDS(X)                                                                            \
	X(0), X(1), X(2), X(3), X(4), X(5), X(6), X(7), X(8), X(9), X(10), X(11), X(12), X(13), \
		X(14), X(15)
#define CMOV_ROW(c)                                                                             \
	{                                                                                       \
		{ NULL, NULL }, { cmov_2_e_##c, cmov_2_m_##c }, { cmov_4_e_##c, cmov_4_m_##c }, \
		{                                                                               \
			cmov_8_e_##c, cmov_8_m_##c                                              \
		}                                                                               \
	}
#define SETCC_ROW(c)                     \
	{                                \
		setcc_e_##c, setcc_m_##c \
	}
		static exec_fn *const cmov_handlers[16][4][2] = { FOR_CONDS(CMOV_ROW) };
static exec_fn *const setcc_handlers[16][2] = { FOR_CONDS(SETCC_ROW) };

/* --- bytes in another order
 * --------------------------------------------------------------------------- */
ALWAYS_INLINE uint64_t swap(uint64_t v, unsigned size)
{
	return size == 2   ? __builtin_bswap16((uint16_t)v)
	       : size == 4 ? __builtin_bswap32((uint32_t)v)
			   : __builtin_bswap64(v);
}

/* With a 16-bit operand BSWAP is undefined: processors give 0. */
STEP(bswap)
{
	unsigned size = in->osz;

	reg_store(cpu, in->rm, size == 2 ? 0 : swap(cpu->gpr[in->rm], size), size);
	return true;
}
HANDLER(exec_bswap, bswap(cpu, in))

ALWAYS_INLINE bool movbe(struct vcpu *cpu, const struct insn *in, unsigned size, bool load)
{
	uint64_t v;

	if (!load) {
		return mem_store(cpu, in, size, swap(cpu->gpr[in->reg], size));
	}
	if (!mem_load(cpu, in, size, &v)) {
		return false;
	}
	reg_store(cpu, in->reg, swap(v, size), size);
	return true;
}
HANDLER(movbe_2_load, movbe(cpu, in, 2, true))
HANDLER(movbe_4_load, movbe(cpu, in, 4, true))
HANDLER(movbe_8_load, movbe(cpu, in, 8, true))
HANDLER(movbe_2_store, movbe(cpu, in, 2, false))
HANDLER(movbe_4_store, movbe(cpu, in, 4, false))
HANDLER(movbe_8_store, movbe(cpu, in, 8, false))
static exec_fn *const movbe_handlers[2][4] = {
	{ NULL, movbe_2_load, movbe_4_load, movbe_8_load },
	{ NULL, movbe_2_store, movbe_4_store, movbe_8_store },
};

/* --- the accumulator
 * ----------------------------------------------------------------------------------- */
/* CBW, CWDE, CDQE: the lower half of the operand size is extended. */
STEP(cbw)
{
	uint64_t a = cpu->gpr[RAX];

	switch (in->osz) {
	case 2:
		reg_store(cpu, RAX, (uint64_t)(int8_t)a, 2);
		break;
	case 4:
		reg_store(cpu, RAX, (uint64_t)(int16_t)a, 4);
		break;
	default:
		cpu->gpr[RAX] = (uint64_t)(int32_t)a;
		break;
	}
	return true;
}
/* CWD, CDQ, CQO: the sign fills rDX. */
STEP(cwd)
{
	unsigned shift = 64 - in->osz * 8;

	reg_store(cpu, RDX, (uint64_t)((int64_t)(cpu->gpr[RAX] << shift) >> 63), in->osz);
	return true;
}
HANDLER(exec_cbw, cbw(cpu, in))
HANDLER(exec_cwd, cwd(cpu, in))

/* AL = [rBX + AL]; insn.base is not set, as there's no ModRM. */
STEP(xlat)
{
	uint64_t off = cpu->gpr[RBX] + (uint8_t)cpu->gpr[RAX];
	gva_t lin;
	uint8_t v;

	off = in->asz == 8 ? off : in->asz == 4 ? (uint32_t)off : (uint16_t)off;
	if (in->flags & INSN_FLAT) {
		lin = cpu->segbase[in->seg] + off;
	} else if (!seg_linear(cpu, in->seg, off, 1, ACC_READ, &lin)) {
		return false;
	}
	if (!mmu_load(cpu, lin, &v, 1)) {
		return false;
	}
	*reg8(cpu, RAX) = v;
	return true;
}
HANDLER(exec_xlat, xlat(cpu, in))

STEP(lahf)
{
	*reg8(cpu, 1) = (uint8_t)(cc_to_flags(cpu->cc) | FL_FIXED);
	return true;
}
STEP(sahf)
{
	uint8_t ah = *reg8(cpu, 1);

	cpu->cc = (cpu->cc & CC_OF) | cc_from_flags(ah);
	return true;
}
HANDLER(exec_lahf, lahf(cpu, in))
HANDLER(exec_sahf, sahf(cpu, in))

exec_fn *int_mov_bind(const struct insn *in)
{
	unsigned size = size_log2(in->osz), mem = insn_has_mem(in);

	if (in->op >= OP_CMOVO && in->op <= OP_CMOVNLE) {
		return cmov_handlers[in->op - OP_CMOVO][size][mem];
	}
	if (in->op >= OP_SETO && in->op <= OP_SETNLE) {
		return setcc_handlers[in->op - OP_SETO][mem];
	}
	switch (in->op) {
	case OP_MOV:
	case OP_MOVNTI:
		return mov_handlers[size][mov_form(in)];
	case OP_MOVZX:
		return zx_handlers[size][extend_from(in)][mem];
	case OP_MOVSX:
	case OP_MOVSXD:
		return sx_handlers[size][extend_from(in)][mem];
	case OP_LEA:
		return in->asz == 8 && in->osz == 8 && in->index == GPR_ZERO ? exec_lea_base
									     : exec_lea;
	case OP_BSWAP:
		return exec_bswap;
	case OP_MOVBE:
		return movbe_handlers[in->opcode & 1][size];
	case OP_CBW:
		return exec_cbw;
	case OP_CWD:
		return exec_cwd;
	case OP_XLAT:
		return exec_xlat;
	case OP_LAHF:
		return exec_lahf;
	case OP_SAHF:
		return exec_sahf;
	default:
		return NULL;
	}
}
