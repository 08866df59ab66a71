/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The opcode tables. rows_*.inc hold the rows themselves, one file a map; they
 * are written in the letters defined here and belong to no other file.
 *
 * SET(rows…)	the candidates of an opcode, the first that fits is taken
 * GROUP(…)	eight sets by ModRM.reg
 * FULL(table)	8 sets for memory by ModRM.reg, 64 for registers by ModRM & 63
 * R(op, flags, operands…)
 */
#include "softkvm/cpu/rows.h"

enum { ROW_ID_BASE = __COUNTER__ + 1 };

#define OPN_COUNT_(z, a, b, c, d, n, ...) n
#define OPN_COUNT(...)                    OPN_COUNT_(0, ##__VA_ARGS__, 4, 3, 2, 1, 0)
#define KIND_0()                          0
#define KIND_1(a)                         BIT64(OPND_KIND_##a)
#define KIND_2(a, b)                      (KIND_1(a) | KIND_1(b))
#define KIND_3(a, b, c)                   (KIND_2(a, b) | KIND_1(c))
#define KIND_4(a, b, c, d)                (KIND_2(a, b) | KIND_2(c, d))
#define OPN_0()
#define OPN_1(a)             OPND_##a
#define OPN_2(a, b)          OPND_##a, OPND_##b
#define OPN_3(a, b, c)       OPND_##a, OPND_##b, OPND_##c
#define OPN_4(a, b, c, d)    OPND_##a, OPND_##b, OPND_##c, OPND_##d
#define PASTE_(name, n, ...) name##n(__VA_ARGS__)
#define PASTE(name, n, ...)  PASTE_(name, n, ##__VA_ARGS__)
#define R(o, f, ...)                                                                          \
	{                                                                                     \
		.id = __COUNTER__ - ROW_ID_BASE, .op = OP_##o,                                \
		.opnd = { PASTE(OPN_, OPN_COUNT(__VA_ARGS__), ##__VA_ARGS__) }, .flags = (f), \
		.kinds = PASTE(KIND_, OPN_COUNT(__VA_ARGS__), ##__VA_ARGS__)                  \
	}
#define SET(...)                              \
	{                                     \
		.rows = (const struct row[])  \
		{                             \
			__VA_ARGS__,          \
			{                     \
				.op = OP_NONE \
			}                     \
		}                             \
	}
#define GROUP(...)                                                                  \
	{                                                                           \
		.sub = (const struct row_set[8]){ __VA_ARGS__ }, .split = SPLIT_REG \
	}
#define FULL(t)                                 \
	{                                       \
		.sub = (t), .split = SPLIT_FULL \
	}

#define NP         ROW_PP_NP
#define P66        ROW_PP_66
#define PF3        ROW_PP_F3
#define PF2        ROW_PP_F2
#define N66        ROW_PP_N66
#define LK         ROW_LOCK
#define RP         ROW_REP
#define I64        ROW_NO64
#define O64        ROW_ONLY64
#define D64        ROW_DEF64
#define F64        ROW_FORCE64
#define PM         ROW_NOREAL
#define PR         ROW_PRIV
#define EN         ROW_ENDS
#define W0         ROW_W0
#define W1         ROW_W1
#define WY0        ROW_WY0
#define WY1        ROW_WY1
#define L0         ROW_L0
#define L1         ROW_L1
#define NOREXB     ROW_NOREXB
#define MODANY     ROW_MODANY
#define DISTINCT   ROW_DISTINCT
#define FEAT(f)    ROW_FEATURE(RF_##f)
#define X87        FEAT(X87)
#define MMX        FEAT(MMX)
#define SSE        FEAT(SSE)
#define SSE2       FEAT(SSE2)
#define SSE3       FEAT(SSE3)
#define SSSE3      FEAT(SSSE3)
#define SSE41      FEAT(SSE41)
#define SSE42      FEAT(SSE42)
#define AVX        FEAT(AVX)
#define AVX2       FEAT(AVX2)
#define FMA        FEAT(FMA)
#define BMI1       FEAT(BMI1)
#define BMI2       FEAT(BMI2)
#define CL_(c)     ROW_CLASS(c)
#define AVX_AES    (FEAT(AES) | CL_(4))
#define AVX_PCLMUL (FEAT(PCLMUL) | CL_(4))

#include "softkvm/cpu/rows_x87.inc"
#include "softkvm/cpu/rows_one.inc"
#include "softkvm/cpu/rows_0f.inc"
#include "softkvm/cpu/rows_0f38.inc"
#include "softkvm/cpu/rows_vex.inc"

enum { ROW_ID_END = __COUNTER__ - ROW_ID_BASE };

const struct row_set *const row_tables[ROW_TABLES] = {
	map_one, map_0f, map_0f38, map_0f3a, vex_0f, vex_0f38, vex_0f3a,
};

const struct opnd_info opnd_infos[OPND_COUNT] = {
#define OPND_ROW(name, kind, rsize, msize) \
	[OPND_##name] = { #name, OK_##kind, OS_##rsize, OS_##msize },
	OPNDS(OPND_ROW)
#undef OPND_ROW
};

unsigned rows_count(void)
{
	return ROW_ID_END;
}

/* Look for row `id` in one set; true when it's found. `ref` is filled from outside in. */
static bool find_in_set(const struct row_set *set, unsigned id, struct row_ref *ref)
{
	for (const struct row *r = set->rows; r && r->op != OP_NONE; r++) {
		if (r->id == id) {
			ref->row = r;
			return true;
		}
	}
	return false;
}

static bool find_in_opcode(const struct row_set *set, unsigned id, struct row_ref *ref)
{
	unsigned n = set->split == SPLIT_FULL ? 72 : 8;

	ref->reg = -1;
	ref->modrm = -1;
	if (set->split == SPLIT_NONE) {
		return find_in_set(set, id, ref);
	}
	for (unsigned i = 0; i < n; i++) {
		if (find_in_set(&set->sub[i], id, ref)) {
			ref->reg = i < 8 ? (int8_t)i : (int8_t)((i - 8) >> 3);
			ref->modrm = i < 8 ? -1 : (int16_t)(0xc0 + i - 8);
			return true;
		}
	}
	return false;
}

struct row_ref row_get(unsigned i)
{
	struct row_ref ref = { 0 };

	for (unsigned t = 0; t < ROW_TABLES; t++) {
		for (unsigned opcode = 0; opcode < 256; opcode++) {
			if (find_in_opcode(&row_tables[t][opcode], i, &ref)) {
				ref.map = t > ROW_VEX ? t - ROW_VEX : t;
				ref.vex = t > ROW_VEX;
				ref.opcode = opcode;
				return ref;
			}
		}
	}
	return ref;
}

unsigned opnd_size_bytes(enum opnd_size size, const struct insn *in, enum insn_mode mode)
{
	bool m64 = (mode & MODE_SIZE) == MODE_64;
	unsigned vl = in->flags & INSN_VEXL ? 32 : 16;

	switch (size) {
	case OS_B:
		return 1;
	case OS_W:
		return 2;
	case OS_D:
		return 4;
	case OS_Q:
		return 8;
	case OS_DQ:
		return 16;
	case OS_QQ:
		return 32;
	case OS_T:
		return 10;
	case OS_V:
		return in->osz;
	case OS_Z:
		return in->osz == 2 ? 2 : 4;
	case OS_Y:
		return m64 && (in->flags & INSN_REXW) ? 8 : 4;
	case OS_X:
		return vl;
	case OS_XH:
		return vl / 2;
	case OS_XQ:
		return vl / 4;
	case OS_XE:
		return vl / 8;
	case OS_DUP:
		return vl == 32 ? 32 : 8;
	case OS_S:
		return m64 ? 10 : 6;
	case OS_P:
		return in->osz + 2u;
	case OS_A:
		return in->osz * 2u;
	case OS_ENV:
		return in->osz == 2 ? 14 : 28;
	case OS_STATE:
		return in->osz == 2 ? 94 : 108;
	case OS_FX:
		return 512;
	case OS_M64:
		return m64 ? 8 : 4;
	case OS_NONE:
	case OS_COUNT:
		break;
	}
	return 0;
}
