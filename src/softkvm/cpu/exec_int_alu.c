/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST, INC, DEC, NEG, NOT.
 */
#include "softkvm/cpu/exec_int.h"

OP2(add, "", "add")
OP2(or, ASM_FLAGS_IN, "or")
OP2(adc, ASM_CARRY_IN, "adc")
OP2(sbb, ASM_CARRY_IN, "sbb")
OP2(and, ASM_FLAGS_IN, "and")
OP2(sub, "", "sub")
OP2(xor, ASM_FLAGS_IN, "xor")
OP2(cmp, "", "cmp")
OP2(test, ASM_FLAGS_IN, "test")
OP1(inc, ASM_CARRY_IN, "inc")
OP1(dec, ASM_CARRY_IN, "dec")
OP1(neg, "", "neg")
OP1(not, ASM_FLAGS_IN, "not")

/* The forms of one operation and size, in the order of enum alu_form. */
enum alu_form {
	ALU_EG,
	ALU_GE,
	ALU_MG,
	ALU_GM,
	ALU_EI,
	ALU_MI,
	ALU_MG_LOCK,
	ALU_MI_LOCK,
	ALU_FORMS
};

#define ALU_HANDLER(name, size, form, dst, src, locked) \
	HANDLER(name##_##size##_##form, int_binary(cpu, in, size, name##_##size, dst, src, locked))
#define ALU_SIZE(name, size)                                   \
	ALU_HANDLER(name, size, eg, AT_RM, AT_REG, false)      \
	ALU_HANDLER(name, size, ge, AT_REG, AT_RM, false)      \
	ALU_HANDLER(name, size, mg, AT_MEM, AT_REG, false)     \
	ALU_HANDLER(name, size, gm, AT_REG, AT_MEM, false)     \
	ALU_HANDLER(name, size, ei, AT_RM, AT_IMM, false)      \
	ALU_HANDLER(name, size, mi, AT_MEM, AT_IMM, false)     \
	ALU_HANDLER(name, size, mg_lock, AT_MEM, AT_REG, true) \
	ALU_HANDLER(name, size, mi_lock, AT_MEM, AT_IMM, true)
#define ALU_ROW(name, size)                                                                     \
	{                                                                                       \
		name##_##size##_eg, name##_##size##_ge, name##_##size##_mg, name##_##size##_gm, \
			name##_##size##_ei, name##_##size##_mi, name##_##size##_mg_lock,        \
			name##_##size##_mi_lock                                                 \
	}
#define ALU(name)                                               \
	ALU_SIZE(name, 1)                                       \
	ALU_SIZE(name, 2)                                       \
	ALU_SIZE(name, 4)                                       \
	ALU_SIZE(name, 8)                                       \
	static exec_fn *const name##_handlers[4][ALU_FORMS] = { \
		ALU_ROW(name, 1),                               \
		ALU_ROW(name, 2),                               \
		ALU_ROW(name, 4),                               \
		ALU_ROW(name, 8),                               \
	};
ALU(add)
ALU(or)
ALU(adc)
ALU(sbb)
ALU(and)
ALU(sub)
ALU(xor)

#define CMP_HANDLER(name, size, form, dst, src) \
	HANDLER(name##_##size##_##form, int_compare(cpu, in, size, name##_##size, dst, src))
#define CMP_SIZE(name, size)                        \
	CMP_HANDLER(name, size, eg, AT_RM, AT_REG)  \
	CMP_HANDLER(name, size, ge, AT_REG, AT_RM)  \
	CMP_HANDLER(name, size, mg, AT_MEM, AT_REG) \
	CMP_HANDLER(name, size, gm, AT_REG, AT_MEM) \
	CMP_HANDLER(name, size, ei, AT_RM, AT_IMM)  \
	CMP_HANDLER(name, size, mi, AT_MEM, AT_IMM)
#define CMP_ROW(name, size)                                                                     \
	{                                                                                       \
		name##_##size##_eg, name##_##size##_ge, name##_##size##_mg, name##_##size##_gm, \
			name##_##size##_ei, name##_##size##_mi, NULL, NULL                      \
	}
#define CMP(name)                                               \
	CMP_SIZE(name, 1)                                       \
	CMP_SIZE(name, 2)                                       \
	CMP_SIZE(name, 4)                                       \
	CMP_SIZE(name, 8)                                       \
	static exec_fn *const name##_handlers[4][ALU_FORMS] = { \
		CMP_ROW(name, 1),                               \
		CMP_ROW(name, 2),                               \
		CMP_ROW(name, 4),                               \
		CMP_ROW(name, 8),                               \
	};
CMP(cmp)
CMP(test)

#define UNARY_SIZE(name, size)                             \
	ALU_HANDLER(name, size, e, AT_RM, AT_NONE, false)  \
	ALU_HANDLER(name, size, m, AT_MEM, AT_NONE, false) \
	ALU_HANDLER(name, size, m_lock, AT_MEM, AT_NONE, true)
#define UNARY_ROW(name, size)                                                \
	{                                                                    \
		name##_##size##_e, name##_##size##_m, name##_##size##_m_lock \
	}
#define UNARY(name)                                     \
	UNARY_SIZE(name, 1)                             \
	UNARY_SIZE(name, 2)                             \
	UNARY_SIZE(name, 4)                             \
	UNARY_SIZE(name, 8)                             \
	static exec_fn *const name##_handlers[4][3] = { \
		UNARY_ROW(name, 1),                     \
		UNARY_ROW(name, 2),                     \
		UNARY_ROW(name, 4),                     \
		UNARY_ROW(name, 8),                     \
	};
UNARY(inc)
UNARY(dec)
UNARY(neg)
UNARY(not )

/* Opcodes 80..83, the accumulator's ..4 and ..5, A8, A9 and F6, F7 have an immediate. */
static bool alu_has_imm(const struct insn *in)
{
	return (in->opcode & 0xfc) == 0x80 || in->opcode >= 0xa8 ||
	       (in->opcode < 0x40 && (in->opcode & 4));
}

/* 84 and 85 (TEST) and opcodes with bit 1 clear have ModRM.rm first. */
static enum alu_form alu_form(const struct insn *in)
{
	bool mem = insn_has_mem(in), lock = insn_locked(in);

	if (alu_has_imm(in)) {
		return !mem ? ALU_EI : lock ? ALU_MI_LOCK : ALU_MI;
	}
	if (in->opcode < 0x40 && (in->opcode & 2)) {
		return mem ? ALU_GM : ALU_GE;
	}
	return !mem ? ALU_EG : lock ? ALU_MG_LOCK : ALU_MG;
}

exec_fn *int_alu_bind(const struct insn *in)
{
	unsigned size = size_log2(in->osz);
	enum alu_form form = alu_form(in);
	unsigned unary = !insn_has_mem(in) ? 0 : insn_locked(in) ? 2 : 1;

	switch (in->op) {
	case OP_ADD:
		return add_handlers[size][form];
	case OP_OR:
		return or_handlers[size][form];
	case OP_ADC:
		return adc_handlers[size][form];
	case OP_SBB:
		return sbb_handlers[size][form];
	case OP_AND:
		return and_handlers[size][form];
	case OP_SUB:
		return sub_handlers[size][form];
	case OP_XOR:
		return xor_handlers[size][form];
	case OP_CMP:
		return cmp_handlers[size][form];
	case OP_TEST:
		return test_handlers[size][form];
	case OP_INC:
		return inc_handlers[size][unary];
	case OP_DEC:
		return dec_handlers[size][unary];
	case OP_NEG:
		return neg_handlers[size][unary];
	case OP_NOT:
		return not_handlers[size][unary];
	default:
		return NULL;
	}
}
