/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The opcode rows: what this processor can execute, as data (SDM volume 2,
 * appendix A and the instructions' own pages). The same rows drive decoding,
 * disassembly, the check that every operation has a handler, coverage counts
 * and the generation of tests.
 *
 * A row is one instruction form: an operation, up to four operands in the
 * manual's letters, and flags. Where one opcode byte has several rows, the
 * first that fits (prefix, register or memory, W, L, mode) is the one.
 */
#pragma once

#include "base/util.h"
#include "softkvm/cpu/insn.h"
#include "softkvm/cpu/ops.h"

/* Where an operand lives. */
enum opnd_kind {
	OK_NONE,
	OK_E,   /* ModRM.rm: general register or memory */
	OK_G,   /* ModRM.reg: general register */
	OK_R,   /* ModRM.rm, register form only: general register */
	OK_M,   /* ModRM.rm, memory form only */
	OK_Z,   /* general register in the opcode's low bits (insn.reg) */
	OK_B,   /* VEX.vvvv: general register */
	OK_ACC, /* AL, AX, EAX, RAX */
	OK_CL,
	OK_DX,
	OK_ONE,  /* the constant 1 */
	OK_IMM,  /* immediate, zero-extended */
	OK_IMMS, /* immediate, sign-extended */
	OK_REL,  /* branch target relative to the next instruction */
	OK_FAR,  /* selector:offset in the instruction */
	OK_OFF,  /* moffs: address without ModRM */
	OK_X,    /* string source, DS:rSI */
	OK_Y,    /* string destination, ES:rDI */
	OK_S,    /* ModRM.reg: segment register */
	OK_SEG,  /* a named segment register (insn.reg) */
	OK_CR,   /* ModRM.reg: control register */
	OK_DR,   /* ModRM.reg: debug register */
	OK_V,    /* ModRM.reg: XMM/YMM */
	OK_W,    /* ModRM.rm: XMM/YMM or memory */
	OK_U,    /* ModRM.rm, register form only: XMM/YMM */
	OK_H,    /* VEX.vvvv: XMM/YMM */
	OK_L,    /* immediate bits 7..4: XMM/YMM (insn.is4) */
	OK_P,    /* ModRM.reg: MMX */
	OK_Q,    /* ModRM.rm: MMX or memory */
	OK_N,    /* ModRM.rm, register form only: MMX */
	OK_VSIB, /* memory with a vector index */
	OK_ST0,  /* x87 stack top */
	OK_STI,  /* ModRM.rm, register form only: ST(i) */
	OK_COUNT
};

/* Operand sizes. */
enum opnd_size {
	OS_NONE, /* no access, or as long as the machine says (XSAVE) */
	OS_B,
	OS_W,
	OS_D,
	OS_Q,
	OS_DQ,
	OS_QQ,    /* 1, 2, 4, 8, 16, 32 bytes */
	OS_T,     /* 10 */
	OS_V,     /* operand size: 2, 4, 8 */
	OS_Z,     /* 2 with a 16-bit operand size, else 4 */
	OS_Y,     /* 8 with W in 64-bit mode, else 4 */
	OS_X,     /* vector: 16, or 32 with VEX.L */
	OS_XH,    /* half of it */
	OS_XQ,    /* a quarter */
	OS_XE,    /* an eighth */
	OS_DUP,   /* MOVDDUP: 8, or 32 with VEX.L */
	OS_S,     /* descriptor-table register: 6, in 64-bit mode 10 */
	OS_P,     /* far pointer: operand size + 2 */
	OS_A,     /* BOUND: twice the operand size */
	OS_ENV,   /* FLDENV: 14 with a 16-bit operand size, else 28 */
	OS_STATE, /* FRSTOR: 94 or 108 */
	OS_FX,    /* 512 */
	OS_M64,   /* 8 in 64-bit mode, else 4 */
	OS_COUNT
};

/* clang-format off */
/* OPN(letters, kind, size in a register, size in memory or of the immediate) */
#define OPNDS(OPN) \
	OPN(Eb, E, B, B) OPN(Ew, E, W, W) OPN(Ed, E, D, D) OPN(Eq, E, Q, Q) OPN(Ev, E, V, V) \
	OPN(Ey, E, Y, Y) OPN(Ez, E, Z, D) OPN(E64, E, M64, M64) OPN(Edb, E, D, B) \
	OPN(Edw, E, D, W) OPN(Evw, E, V, W) OPN(Gb, G, B, B) OPN(Gw, G, W, W) OPN(Gd, G, D, D) \
	OPN(Gv, G, V, V) OPN(Gy, G, Y, Y) OPN(G64, G, M64, M64) OPN(Rv, R, V, V) \
	OPN(Rw, R, W, W) OPN(Rd, R, D, D) OPN(Ry, R, Y, Y) OPN(R64, R, M64, M64) \
	OPN(Zb, Z, B, B) OPN(Zv, Z, V, V) OPN(By, B, Y, Y) OPN(AL, ACC, B, B) \
	OPN(AX, ACC, W, W) OPN(eAX, ACC, Z, Z) OPN(rAX, ACC, V, V) OPN(CL, CL, B, B) \
	OPN(DX, DX, W, W) OPN(One, ONE, B, B) OPN(Ib, IMM, B, B) OPN(Iw, IMM, W, W) \
	OPN(Ibs, IMMS, B, B) OPN(Iz, IMMS, Z, Z) OPN(Iv, IMMS, V, V) OPN(Jb, REL, B, B) \
	OPN(Jz, REL, Z, Z) OPN(Ap, FAR, P, P) OPN(Ob, OFF, B, B) OPN(Ov, OFF, V, V) \
	OPN(Xb, X, B, B) OPN(Xv, X, V, V) OPN(Xz, X, Z, Z) OPN(Yb, Y, B, B) OPN(Yv, Y, V, V) \
	OPN(Yz, Y, Z, Z) OPN(Sw, S, W, W) OPN(ES, SEG, W, W) OPN(CS, SEG, W, W) \
	OPN(SS, SEG, W, W) OPN(DS, SEG, W, W) OPN(FS, SEG, W, W) OPN(GS, SEG, W, W) \
	OPN(Cd, CR, M64, M64) OPN(Dd, DR, M64, M64) OPN(M, M, NONE, NONE) OPN(Mb, M, B, B) \
	OPN(Mw, M, W, W) OPN(Md, M, D, D) OPN(Mq, M, Q, Q) OPN(Mdq, M, DQ, DQ) \
	OPN(Mqq, M, QQ, QQ) OPN(Mt, M, T, T) OPN(Mx, M, X, X) OPN(Mv, M, V, V) OPN(My, M, Y, Y) \
	OPN(Ms, M, S, S) OPN(Mp, M, P, P) OPN(Ma, M, A, A) OPN(Menv, M, ENV, ENV) \
	OPN(Mstate, M, STATE, STATE) OPN(Mfx, M, FX, FX) OPN(Vx, V, X, X) OPN(Vps, V, X, X) \
	OPN(Vpd, V, X, X) OPN(Vdq, V, DQ, DQ) OPN(Vqq, V, QQ, QQ) OPN(Vss, V, D, D) \
	OPN(Vsd, V, Q, Q) OPN(Vd, V, D, D) OPN(Vq, V, Q, Q) OPN(Vh, V, XH, XH) OPN(Wx, W, X, X) \
	OPN(Wps, W, X, X) OPN(Wpd, W, X, X) OPN(Wdq, W, DQ, DQ) OPN(Wqq, W, QQ, QQ) \
	OPN(Wss, W, D, D) OPN(Wsd, W, Q, Q) OPN(Wd, W, D, D) OPN(Wq, W, Q, Q) OPN(Ww, W, W, W) \
	OPN(Wb, W, B, B) OPN(Wh, W, XH, XH) OPN(Wg, W, XQ, XQ) OPN(We, W, XE, XE) \
	OPN(Wdup, W, DUP, DUP) OPN(Ux, U, X, X) OPN(Ups, U, X, X) OPN(Upd, U, X, X) \
	OPN(Udq, U, DQ, DQ) OPN(Uss, U, D, D) OPN(Usd, U, Q, Q) OPN(Uq, U, Q, Q) \
	OPN(Hx, H, X, X) OPN(Hps, H, X, X) OPN(Hpd, H, X, X) OPN(Hdq, H, DQ, DQ) \
	OPN(Hqq, H, QQ, QQ) OPN(Hss, H, D, D) OPN(Hsd, H, Q, Q) OPN(Hq, H, Q, Q) \
	OPN(Lx, L, X, X) OPN(Pq, P, Q, Q) OPN(Pd, P, D, D) OPN(Qq, Q, Q, Q) OPN(Qd, Q, D, D) \
	OPN(Nq, N, Q, Q) OPN(VMd, VSIB, D, D) OPN(VMq, VSIB, Q, Q) OPN(ST0, ST0, T, T) \
	OPN(STi, STI, T, T)

/* clang-format on */
enum opnd {
	OPND_NONE,
#define OPND_ENUM(name, kind, rsize, msize) OPND_##name,
	OPNDS(OPND_ENUM)
#undef OPND_ENUM
		OPND_COUNT
};

/* OPND_KIND_Eb == OK_E, and so on. */
enum {
	OPND_KIND_ = OK_NONE,
#define OPND_ENUM(name, kind, rsize, msize) OPND_KIND_##name = OK_##kind,
	OPNDS(OPND_ENUM)
#undef OPND_ENUM
};

struct opnd_info {
	char name[8];
	uint8_t kind;     /* enum opnd_kind */
	uint8_t reg_size; /* enum opnd_size */
	uint8_t mem_size;
};
extern const struct opnd_info opnd_infos[OPND_COUNT];

/* Features of CPUID that a row needs; RF_BASE: every x86-64. */
enum row_feature {
	RF_BASE,
	RF_X87,
	RF_MMX,
	RF_SSE,
	RF_SSE2,
	RF_SSE3,
	RF_SSSE3,
	RF_SSE41,
	RF_SSE42,
	RF_POPCNT,
	RF_LZCNT,
	RF_BMI1,
	RF_BMI2,
	RF_ADX,
	RF_MOVBE,
	RF_AES,
	RF_PCLMUL,
	RF_SHA,
	RF_AVX,
	RF_AVX2,
	RF_FMA,
	RF_F16C,
	RF_CX16,
	RF_RDRAND,
	RF_RDSEED,
	RF_CLFLUSHOPT,
	RF_CLWB,
	RF_FXSR,
	RF_XSAVE,
	RF_XSAVEOPT,
	RF_XSAVEC,
	RF_FSGSBASE,
	RF_RDTSCP,
	RF_RDPID,
	RF_INVPCID,
	RF_SMAP,
	RF_MONITOR,
	RF_COUNT
};

/* Row flags. The letters before each are what rows.c writes. */
#define ROW_PP_MASK    7ull /* prefix: ROW_PP_ANY, or 1 + insn.pp, or ROW_PP_N66 */
#define ROW_PP_ANY     0ull /* prefixes select nothing */
#define ROW_PP_NP      1ull /* NP: none of 66, F3, F2 */
#define ROW_PP_66      2ull
#define ROW_PP_F3      3ull
#define ROW_PP_F2      4ull
#define ROW_PP_N66     5ull      /* N66: neither F3 nor F2; 66 is the operand size */
#define ROW_LOCK       BIT64(3)  /* LK: LOCK is legal with a memory destination */
#define ROW_REP        BIT64(4)  /* F2/F3 repeat it */
#define ROW_NO64       BIT64(5)  /* I64: #UD in 64-bit mode */
#define ROW_ONLY64     BIT64(6)  /* O64: #UD outside it */
#define ROW_DEF64      BIT64(7)  /* D64: in 64-bit mode operand size 8, or 2 with 66 */
#define ROW_FORCE64    BIT64(8)  /* F64: in 64-bit mode operand size 8, always */
#define ROW_NOREAL     BIT64(9)  /* PM: #UD in real and virtual-8086 mode */
#define ROW_PRIV       BIT64(10) /* CPL 0 only (the handler checks) */
#define ROW_ENDS       BIT64(11) /* ends a block */
#define ROW_W0         BIT64(12) /* REX.W or VEX.W must be 0 */
#define ROW_W1         BIT64(13)
#define ROW_WY0        BIT64(14) /* the same, but W counts as 0 outside 64-bit mode */
#define ROW_WY1        BIT64(15)
#define ROW_L0         BIT64(16) /* VEX.L must be 0 */
#define ROW_L1         BIT64(17)
#define ROW_NOREXB     BIT64(18) /* fits only without REX.B */
#define ROW_MODANY     BIT64(19) /* ModRM.mod is ignored: always a register */
#define ROW_DISTINCT   BIT64(20) /* VSIB: destination, index and mask must all differ */
#define ROW_FEATURE(f) ((uint64_t)(f) << 32)
#define ROW_CLASS(c)   ((uint64_t)(c) << 40)
/*
 * Exception class of SDM 2 chapter 2.4 (1..8, 11, 12; 0: general-purpose). 9: class 4 whose
 * legacy form may be unaligned (the manual's "except MOVDQU, …").
 */
#define ROW_CLASS_4U 9

struct row {
	uint16_t id;     /* dense, from 0; insn.row */
	uint16_t op;     /* enum op */
	uint8_t opnd[4]; /* enum opnd */
	uint64_t flags;
	uint64_t kinds; /* bit n: an operand of enum opnd_kind n */
};

/* Sets of operand kinds, for row.kinds. */
#define KINDS_MEM_ONLY (BIT64(OK_M) | BIT64(OK_VSIB))
#define KINDS_REG_ONLY (BIT64(OK_R) | BIT64(OK_U) | BIT64(OK_N) | BIT64(OK_STI))
#define KINDS_EITHER   (BIT64(OK_E) | BIT64(OK_W) | BIT64(OK_Q))
#define KINDS_REG_FIELD \
	(BIT64(OK_G) | BIT64(OK_S) | BIT64(OK_CR) | BIT64(OK_DR) | BIT64(OK_V) | BIT64(OK_P))
#define KINDS_MODRM (KINDS_MEM_ONLY | KINDS_REG_ONLY | KINDS_EITHER | KINDS_REG_FIELD)
#define KINDS_VVVV  (BIT64(OK_H) | BIT64(OK_B))

static inline enum row_feature row_feature(const struct row *r)
{
	return (r->flags >> 32) & 0xff;
}
static inline unsigned row_class(const struct row *r)
{
	return (r->flags >> 40) & 0xf;
}
/* Must a 16-byte operand of the legacy SSE form be aligned (#GP)? VEX forms: class 1 only. */
static inline bool row_sse_aligned(const struct row *r)
{
	unsigned c = row_class(r);

	return c == 1 || c == 2 || c == 4;
}

/* --- the tables, as the decoder walks them --------------------------------------------- */
enum row_split {
	SPLIT_NONE, /* `rows` holds the candidates, ended by one with OP_NONE; NULL: none */
	SPLIT_REG,  /* `sub` has 8 sets by ModRM.reg */
	SPLIT_FULL, /* 8 sets by ModRM.reg for memory, then 64 by ModRM & 63 for registers */
};

struct row_set {
	union {
		const struct row *rows;
		const struct row_set *sub;
	};
	enum row_split split;
};

/* insn.map 0..3 for legacy encodings, ROW_VEX + 1..3 for VEX. */
enum { ROW_VEX = 3, ROW_TABLES = 7 };
extern const struct row_set *const row_tables[ROW_TABLES]; /* [256] each */

/* --- going through all rows ------------------------------------------------------------- */
/* A row with the place where it was found: how to encode it. */
struct row_ref {
	const struct row *row;
	uint8_t map; /* 0..3 */
	bool vex;
	uint8_t opcode; /* Zb, Zv, Jcc…: each of the opcodes has its own row */
	int8_t reg;     /* ModRM.reg that selects it, -1: free (or there is no ModRM) */
	int16_t modrm;  /* whole ModRM byte that selects it, -1: free */
};

unsigned rows_count(void);
/* Row `i` of [0, rows_count()) and where it first stands. Walks the tables: slow. */
struct row_ref row_get(unsigned i);
/* Has the form a ModRM byte? */
static inline bool row_has_modrm(const struct row_ref *ref)
{
	return ref->reg >= 0 || (ref->row->kinds & KINDS_MODRM);
}
/* May, or must, ModRM name memory? Must it be a register? */
static inline bool row_mem_possible(const struct row *row)
{
	return row->kinds & (KINDS_MEM_ONLY | KINDS_EITHER);
}
static inline bool row_mem_only(const struct row *row)
{
	return row->kinds & KINDS_MEM_ONLY;
}
static inline bool row_reg_only(const struct row *row)
{
	return row->kinds & KINDS_REG_ONLY;
}
/* Bytes of an operand size in a decoded instruction; 0: none or variable. */
unsigned opnd_size_bytes(enum opnd_size size, const struct insn *in, enum insn_mode mode);
