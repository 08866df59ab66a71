/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BT, BTS, BTR, BTC, BSF, BSR, TZCNT, LZCNT, POPCNT, CRC32.
 */
#include "softkvm/cpu/exec_int.h"

/* --- bit tests ------------------------------------------------------------------------------- */
/* There are no byte forms. The host masks the bit number of a register operand as the guest's. */
#define BIT_OP(name)                                                   \
	OP2_SIZE(name, 2, uint16_t, ASM_FLAGS_IN, #name, "w", "", "r") \
	OP2_SIZE(name, 4, uint32_t, ASM_FLAGS_IN, #name, "l", "", "r") \
	OP2_SIZE(name, 8, uint64_t, ASM_FLAGS_IN, #name, "q", "", "r")
BIT_OP(bt)
BIT_OP(bts)
BIT_OP(btr)
BIT_OP(btc)

/*
 * A bit number from a register reaches beyond the operand: it is signed, and moves the address
 * by whole operands (SDM 2A 3.1.1.9).
 */
ALWAYS_INLINE bool bit_linear(struct vcpu *cpu, const struct insn *in, unsigned size,
			      enum mmu_access acc, bool by_reg, gva_t *ret)
{
	uint64_t off = ea_offset(cpu, in);
	unsigned shift = 64 - size * 8, log2_bits = 3 + size_log2(size);
	int64_t bit = (int64_t)(cpu->gpr[in->reg] << shift) >> shift;

	if (by_reg) {
		off += (uint64_t)((bit >> log2_bits) * (int64_t)size);
		off = in->asz == 8 ? off : in->asz == 4 ? (uint32_t)off : (uint16_t)off;
	}
	if (in->flags & INSN_FLAT) {
		*ret = cpu->segbase[in->seg] + off;
		return true;
	}
	return seg_linear(cpu, in->seg, off, size, acc, ret);
}

ALWAYS_INLINE bool bit_mem(struct vcpu *cpu, const struct insn *in, unsigned size, int_op *op,
			   bool by_reg, bool store, bool locked)
{
	uint64_t b = by_reg ? cpu->gpr[in->reg] : in->imm, v = 0;
	gva_t lin;

	if (!bit_linear(cpu, in, size, store ? ACC_RMW : ACC_READ, by_reg, &lin)) {
		return false;
	}
	if (store) {
		return int_rmw(cpu, lin, size, op, b, locked);
	}
	if (!mmu_load(cpu, lin, &v, size)) {
		return false;
	}
	op(v, b, &cpu->cc);
	return true;
}

/* BT must not store: that would clear a 32-bit register's upper half. */
ALWAYS_INLINE bool bit_reg(struct vcpu *cpu, const struct insn *in, unsigned size, int_op *op,
			   enum int_place src, bool store)
{
	return store ? int_binary(cpu, in, size, op, AT_RM, src, false)
		     : int_compare(cpu, in, size, op, AT_RM, src);
}

#define BIT_SIZE(name, size, store)                                                                \
	HANDLER(name##_##size##_eg, bit_reg(cpu, in, size, name##_##size, AT_REG, store))          \
	HANDLER(name##_##size##_ei, bit_reg(cpu, in, size, name##_##size, AT_IMM, store))          \
	HANDLER(name##_##size##_mg, bit_mem(cpu, in, size, name##_##size, true, store, false))     \
	HANDLER(name##_##size##_mi, bit_mem(cpu, in, size, name##_##size, false, store, false))    \
	HANDLER(name##_##size##_mg_lock, bit_mem(cpu, in, size, name##_##size, true, store, true)) \
	HANDLER(name##_##size##_mi_lock, bit_mem(cpu, in, size, name##_##size, false, store, true))
#define BIT_ROW(name, size)                                                                     \
	{                                                                                       \
		name##_##size##_eg, name##_##size##_ei, name##_##size##_mg, name##_##size##_mi, \
			name##_##size##_mg_lock, name##_##size##_mi_lock                        \
	}
#define BITS(name, store)                               \
	BIT_SIZE(name, 2, store)                        \
	BIT_SIZE(name, 4, store)                        \
	BIT_SIZE(name, 8, store)                        \
	static exec_fn *const name##_handlers[4][6] = { \
		{ NULL },                               \
		BIT_ROW(name, 2),                       \
		BIT_ROW(name, 4),                       \
		BIT_ROW(name, 8),                       \
	};
BITS(bt, false)
BITS(bts, true)
BITS(btr, true)
BITS(btc, true)

/* --- bit searches ------------------------------------------------------------------------------
 */
/*
 * BSF and BSR leave the destination alone if the source is 0; all of its 64 bits, so it goes
 * through the host's instruction whole: a is the old value, b the source.
 */
#define SEARCH_OP(name, size, insn, mod)                                            \
	ALWAYS_INLINE uint64_t name##_##size(uint64_t a, uint64_t b, uint32_t *cc)  \
	{                                                                           \
		uint32_t f = *cc;                                                   \
		__asm__(ASM_FLAGS_IN insn " %" mod "[b], %" mod "[x]" ASM_FLAGS_OUT \
			: "+&a"(f), [x] "+&r"(a)                                    \
			: [b] "r"(b)                                                \
			: "cc");                                                    \
		*cc = f & CC_BITS;                                                  \
		return a;                                                           \
	}
#define SEARCH(name)                       \
	SEARCH_OP(name, 2, #name "w", "w") \
	SEARCH_OP(name, 4, #name "l", "k") \
	SEARCH_OP(name, 8, #name "q", "q")
SEARCH(bsf)
SEARCH(bsr)
SEARCH(tzcnt)
SEARCH(lzcnt)
SEARCH(popcnt)

ALWAYS_INLINE bool search(struct vcpu *cpu, const struct insn *in, unsigned size, int_op *op,
			  enum int_place src)
{
	uint64_t v;

	if (!int_load(cpu, in, src, size, &v)) {
		return false;
	}
	cpu->gpr[in->reg] = op(cpu->gpr[in->reg], v, &cpu->cc);
	return true;
}
#define SEARCH_SIZE(name, size)                                                 \
	HANDLER(name##_##size##_e, search(cpu, in, size, name##_##size, AT_RM)) \
	HANDLER(name##_##size##_m, search(cpu, in, size, name##_##size, AT_MEM))
#define SEARCHES(name)                                  \
	SEARCH_SIZE(name, 2)                            \
	SEARCH_SIZE(name, 4)                            \
	SEARCH_SIZE(name, 8)                            \
	static exec_fn *const name##_handlers[4][2] = { \
		{ NULL, NULL },                         \
		{ name##_2_e, name##_2_m },             \
		{ name##_4_e, name##_4_m },             \
		{ name##_8_e, name##_8_m },             \
	};
SEARCHES(bsf)
SEARCHES(bsr)
SEARCHES(tzcnt)
SEARCHES(lzcnt)
SEARCHES(popcnt)

/* --- CRC32 -------------------------------------------------------------------------------------
 */
#define CRC_SIZE(size, type, text)                                               \
	ALWAYS_INLINE bool crc32_##size(struct vcpu *cpu, const struct insn *in, \
					enum int_place src)                      \
	{                                                                        \
		uint64_t v, crc = (uint32_t)cpu->gpr[in->reg];                   \
		if (!int_load(cpu, in, src, size, &v)) {                         \
			return false;                                            \
		}                                                                \
		__asm__(text : "+r"(crc) : "r"((type)v));                        \
		cpu->gpr[in->reg] = crc;                                         \
		return true;                                                     \
	}                                                                        \
	HANDLER(crc32_##size##_e, crc32_##size(cpu, in, AT_RM))                  \
	HANDLER(crc32_##size##_m, crc32_##size(cpu, in, AT_MEM))
CRC_SIZE(1, uint8_t, "crc32b %b1, %k0")
CRC_SIZE(2, uint16_t, "crc32w %w1, %k0")
CRC_SIZE(4, uint32_t, "crc32l %k1, %k0")
CRC_SIZE(8, uint64_t, "crc32q %q1, %q0")
static exec_fn *const crc32_handlers[4][2] = {
	{ crc32_1_e, crc32_1_m },
	{ crc32_2_e, crc32_2_m },
	{ crc32_4_e, crc32_4_m },
	{ crc32_8_e, crc32_8_m },
};

exec_fn *int_bit_bind(const struct insn *in)
{
	unsigned size = size_log2(in->osz), mem = insn_has_mem(in);
	unsigned form = (in->opcode == 0xba) + (mem ? insn_locked(in) ? 4 : 2 : 0);

	switch (in->op) {
	case OP_BT:
		return bt_handlers[size][form];
	case OP_BTS:
		return bts_handlers[size][form];
	case OP_BTR:
		return btr_handlers[size][form];
	case OP_BTC:
		return btc_handlers[size][form];
	case OP_BSF:
		return bsf_handlers[size][mem];
	case OP_BSR:
		return bsr_handlers[size][mem];
	case OP_TZCNT:
		return tzcnt_handlers[size][mem];
	case OP_LZCNT:
		return lzcnt_handlers[size][mem];
	case OP_POPCNT:
		return popcnt_handlers[size][mem];
	case OP_CRC32:
		return crc32_handlers[in->opcode == 0xf0 ? 0 : size][mem];
	default:
		return NULL;
	}
}
