/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an instruction does with the arithmetic flags, and how it is translated.
 */
#pragma once

#include "softkvm/cpu/insn.h"

/* How the translator treats an instruction. */
enum tclass {
	T_GENERIC, /* encoded anew with the host's registers and a checked memory operand */
	T_NOP,
	T_HANDLER, /* the interpreter's handler is called */
	T_ENDS,    /* the same; it may change RIP, mode or events, so the block ends */
	T_STOP,    /* left to the interpreter: the block ends before it */
	T_LEA,
	T_DIV,
	T_PUSH,
	T_POP,
	T_LEAVE,
	T_JMP,
	T_JCC,
	T_CALL,
	T_RET,
	T_JMP_IND,
	T_CALL_IND,
	T_LOOP, /* LOOP, JCXZ */
	T_CLD,
	T_STD,
	T_X87,
	T_SSE,
	T_AVX,
	T_FAST,   /* a system instruction: see tr_system.c */
	T_STRING, /* MOVS, STOS */
	T_BITS,   /* BT and its kin, a register as index into memory */
};

/* Bits of FL_ARITH. */
struct effects {
	enum tclass cls;
	uint32_t reads;  /* flags that it depends on */
	uint32_t writes; /* flags that it certainly replaces (also by undefined values) */
	bool touches;    /* the host instruction may change flags */
};

/* Pure. */
struct effects effects_of(const struct insn *in);

/* Code to look through for effects_live(). */
struct effects_walk {
	/*
	 * Decode at `rip`; <0: not known. *ret_seen is a place of its own for each address, 0 at
	 * first.
	 */
	int (*decode)(void *arg, uint64_t rip, struct insn *ret, uint32_t **ret_seen);
	void *arg;
};
/* Of the flags `open`, those that some path from `rip` on may read before it replaces them. */
uint32_t effects_live(const struct effects_walk *w, uint64_t rip, uint32_t open);
