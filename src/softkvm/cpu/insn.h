/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A decoded instruction. Made by decode.c, a pure function of bytes, address
 * and mode; bound to its handler by bind.c; run by exec_*.c, and later read by
 * the translator.
 */
#pragma once

#include "base/util.h"

struct vcpu;
struct insn;

/* What a handler says; see exec.h. */
enum exec_result {
	EXEC_NEXT = 0, /* go on with the next instruction of the block */
	EXEC_END,      /* cpu->rip is set; the block is over */
	EXEC_FAULT,    /* cpu->fault is filled, cpu->rip is what must be pushed */
	EXEC_EXIT,     /* leave KVM_RUN: cpu->run is filled */
};

typedef enum exec_result exec_fn(struct vcpu *cpu, const struct insn *in);

/* Index of a general register; the slots behind are constants for address forms. */
enum gpr {
	RAX,
	RCX,
	RDX,
	RBX,
	RSP,
	RBP,
	RSI,
	RDI,
	R8,
	R9,
	R10,
	R11,
	R12,
	R13,
	R14,
	R15,
	GPR_ZERO, /* always 0: "no base", "no index" */
	GPR_COUNT
};

/* Segment registers in the manual's order; then the slot whose base is always 0. */
enum seg_index { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_NONE, SEG_COUNT };

/* What decoding depends on. A subset of the block key, see vcpu.h. */
enum insn_mode {
	MODE_16, /* CS.D = 0 */
	MODE_32, /* CS.D = 1 */
	MODE_64, /* CS.L = 1 in long mode */
	MODE_SIZE = 3,
	MODE_REAL = 4, /* real or virtual-8086: no VEX, no protected-only instructions; with
			  MODE_16/32 */
	MODE_FLAT = 8, /* legacy mode, but CS, DS, ES, SS are flat and writable where needed */
};

enum insn_flag {
	INSN_MEM = BIT(0), /* ModRM names memory (or the form has a moffs) */
	INSN_LOCK = BIT(1),
	INSN_REP = BIT(2),   /* F3 as a repeat prefix */
	INSN_REPNE = BIT(3), /* F2 as a repeat prefix */
	INSN_REX = BIT(4),   /* any REX prefix */
	INSN_REXW = BIT(5),  /* REX.W or VEX.W */
	INSN_VEX = BIT(6),
	INSN_VEXL = BIT(7),    /* 256 bits */
	INSN_FLAT = BIT(8),    /* the address needs no limit check: base + offset is linear */
	INSN_OSZ = BIT(9),     /* 66 seen (as prefix, whatever it means here) */
	INSN_ASZ = BIT(10),    /* 67 seen */
	INSN_ENDS = BIT(11),   /* a block must end after it (set by the row) */
	INSN_RIPREL = BIT(12), /* disp already holds the absolute address */
	INSN_VSIB = BIT(13),
	INSN_SEGOVR = BIT(14), /* a segment prefix was seen (and had an effect) */
};

/*
 * 56 bytes. Register numbers include REX/VEX extensions. For 8-bit general register
 * operands `reg` and `rm` are byte indexes into the register file (AL 0,
 * AH 1, CL 8, CH 9, …, SIL 48, R15B 120), so that AH..BH need no test.
 */
struct insn {
	exec_fn *fn; /* bound handler */
	/*
	 * Immediate: zero-extended where the row says Ib or Iw, sign-extended for Ibs, Iz, Iv;
	 * relative branch: absolute target, cut to the operand size; far: offset.
	 */
	uint64_t imm;
	int64_t disp;   /* displacement; RIP-relative: the absolute address; moffs: the offset */
	uint32_t flags; /* enum insn_flag */
	uint16_t op;    /* enum op, ops.h */
	uint16_t row;   /* index of the opcode row, for coverage */
	uint16_t off;   /* from the start of its block */
	uint16_t imm2;  /* enter's second immediate, far pointer's selector */
	uint8_t len;    /* 1..15 */
	uint8_t osz;    /* operand size 1, 2, 4, 8 (general operands) */
	uint8_t asz;    /* address size 2, 4, 8 */
	uint8_t seg;    /* segment of the memory operand: index into vcpu.segbase and seg */
	uint8_t base;   /* GPR index or GPR_ZERO */
	uint8_t index;  /* GPR index or GPR_ZERO; VSIB: vector register */
	uint8_t scale;  /* shift 0..3 */
	uint8_t reg;    /* ModRM.reg or the opcode's register */
	uint8_t rm;     /* ModRM.rm where it is a register; the opcode's register; 0 for AL..rAX */
	uint8_t vvvv;   /* VEX second source */
	uint8_t map;    /* opcode map: 0 one-byte, 1 0F, 2 0F38, 3 0F3A */
	uint8_t opcode; /* last opcode byte */
	uint8_t modrm;  /* raw; meaningful if the form has one */
	uint8_t pp;     /* mandatory prefix: 0 none, 1 66, 2 F3, 3 F2 */
	uint8_t mem_size; /* bytes of the memory operand, 0: unknown/variable */
	uint8_t is4;      /* fourth register operand of some VEX forms */
};
_Static_assert(sizeof(struct insn) == 56, "three fit in 168 bytes; keep it small");
