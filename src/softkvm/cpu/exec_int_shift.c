/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shifts and rotates. The host gets the guest's flags first: a count of 0
 * leaves them alone, and rotates change two of them.
 */
#include "softkvm/cpu/exec_int.h"

OP_SHIFT(rol, "rol")
OP_SHIFT(ror, "ror")
OP_SHIFT(rcl, "rcl")
OP_SHIFT(rcr, "rcr")
OP_SHIFT(shl, "shl")
OP_SHIFT(shr, "shr")
OP_SHIFT(sar, "sar")

#define SHIFT_HANDLER(name, size, form, dst, src) \
	HANDLER(name##_##size##_##form, int_binary(cpu, in, size, name##_##size, dst, src, false))
#define SHIFT_SIZE(name, size)                        \
	SHIFT_HANDLER(name, size, e1, AT_RM, AT_ONE)  \
	SHIFT_HANDLER(name, size, ei, AT_RM, AT_IMM)  \
	SHIFT_HANDLER(name, size, ecl, AT_RM, AT_CL)  \
	SHIFT_HANDLER(name, size, m1, AT_MEM, AT_ONE) \
	SHIFT_HANDLER(name, size, mi, AT_MEM, AT_IMM) \
	SHIFT_HANDLER(name, size, mcl, AT_MEM, AT_CL)
#define SHIFT_ROW(name, size)                                                       \
	{                                                                           \
		{ name##_##size##_e1, name##_##size##_ei, name##_##size##_ecl },    \
		{                                                                   \
			name##_##size##_m1, name##_##size##_mi, name##_##size##_mcl \
		}                                                                   \
	}
#define SHIFT(name)                                        \
	SHIFT_SIZE(name, 1)                                \
	SHIFT_SIZE(name, 2)                                \
	SHIFT_SIZE(name, 4)                                \
	SHIFT_SIZE(name, 8)                                \
	static exec_fn *const name##_handlers[4][2][3] = { \
		SHIFT_ROW(name, 1),                        \
		SHIFT_ROW(name, 2),                        \
		SHIFT_ROW(name, 4),                        \
		SHIFT_ROW(name, 8),                        \
	};
SHIFT(rol)
SHIFT(ror)
SHIFT(rcl)
SHIFT(rcr)
SHIFT(shl)
SHIFT(shr)
SHIFT(sar)

/*
 * SHLD and SHRD have three inputs. An int_op takes two, so the count and the fill travel in one
 * structure by address.
 */
struct double_shift {
	uint64_t fill;
	uint8_t count;
};

#define DOUBLE_SIZE(name, size, type, insn)                                               \
	static uint64_t name##_##size(uint64_t a, uint64_t b, uint32_t *cc)               \
	{                                                                                 \
		const struct double_shift *s = (const struct double_shift *)(uintptr_t)b; \
		uint32_t f = *cc;                                                         \
		type x = (type)a;                                                         \
		__asm__(ASM_FLAGS_IN insn " %%cl, %[fill], %[x]" ASM_FLAGS_OUT            \
			: "+&a"(f), [x] "+r"(x)                                           \
			: [fill] "r"((type)s->fill), "c"(s->count)                        \
			: "cc");                                                          \
		*cc = f & CC_BITS;                                                        \
		return x;                                                                 \
	}
DOUBLE_SIZE(shld, 2, uint16_t, "shldw")
DOUBLE_SIZE(shld, 4, uint32_t, "shldl")
DOUBLE_SIZE(shld, 8, uint64_t, "shldq")
DOUBLE_SIZE(shrd, 2, uint16_t, "shrdw")
DOUBLE_SIZE(shrd, 4, uint32_t, "shrdl")
DOUBLE_SIZE(shrd, 8, uint64_t, "shrdq")

ALWAYS_INLINE bool double_shift(struct vcpu *cpu, const struct insn *in, unsigned size, int_op *op)
{
	bool by_cl = in->opcode & 1;
	struct double_shift s = {
		.fill = reg_load(cpu, in->reg, size),
		.count = by_cl ? (uint8_t)cpu->gpr[RCX] : (uint8_t)in->imm,
	};
	uint64_t b = (uintptr_t)&s;
	gva_t lin;

	if (!insn_has_mem(in)) {
		reg_store(cpu, in->rm, op(reg_load(cpu, in->rm, size), b, &cpu->cc), size);
		return true;
	}
	return ea_linear(cpu, in, size, ACC_RMW, &lin) && int_rmw(cpu, lin, size, op, b, false);
}

#define DOUBLE_HANDLER(name, size) \
	HANDLER(exec_##name##_##size, double_shift(cpu, in, size, name##_##size))
DOUBLE_HANDLER(shld, 2)
DOUBLE_HANDLER(shld, 4)
DOUBLE_HANDLER(shld, 8)
DOUBLE_HANDLER(shrd, 2)
DOUBLE_HANDLER(shrd, 4)
DOUBLE_HANDLER(shrd, 8)

exec_fn *int_shift_bind(const struct insn *in)
{
	static exec_fn *const shld[4] = { NULL, exec_shld_2, exec_shld_4, exec_shld_8 };
	static exec_fn *const shrd[4] = { NULL, exec_shrd_2, exec_shrd_4, exec_shrd_8 };
	unsigned size = size_log2(in->osz), mem = insn_has_mem(in);
	/* C0, C1: immediate; D0, D1: 1; D2, D3: CL */
	unsigned by = in->opcode < 0xd0 ? 1 : in->opcode & 2;

	switch (in->op) {
	case OP_ROL:
		return rol_handlers[size][mem][by];
	case OP_ROR:
		return ror_handlers[size][mem][by];
	case OP_RCL:
		return rcl_handlers[size][mem][by];
	case OP_RCR:
		return rcr_handlers[size][mem][by];
	case OP_SHL:
		return shl_handlers[size][mem][by];
	case OP_SHR:
		return shr_handlers[size][mem][by];
	case OP_SAR:
		return sar_handlers[size][mem][by];
	case OP_SHLD:
		return shld[size];
	case OP_SHRD:
		return shrd[size];
	default:
		return NULL;
	}
}
