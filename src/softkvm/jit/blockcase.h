/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random programs of user code, run by the interpreter and by the translator from the same state,
 * and compared. (Tests and fuzzers only.)
 *
 * Theory of operation: blockgen.c strings random instructions (from the opcode rows, by
 * cpu/difftest_gen.c) and control flow together: forward jumps, backward ones bounded by a
 * counter in memory, calls, returns, computed jumps, stores into the program itself, directly and
 * through another mapping. blockcase.c runs a program: a fault stops it, is noted with all state,
 * and the instruction is passed over; the notes of both sides must be the same. Arithmetic flags
 * count at a fault where they may still be read (translated code may lose others), and
 * are set to known values behind it. The translator runs a program three times: at once,
 * then with what it has translated, then as code becomes hot.
 */
#pragma once

#include "softkvm/cpu/difftest.h"

/* Linear addresses, below 2 GiB as all of difftest.h's. */
#define BC_ALIAS   0x58000000ull /* the code again, not executable */
#define BC_STACK   0x30000000ull
#define BC_COUNTER 0x30010000ull /* a page: how many backward jumps may yet be taken */
enum { BC_CODE_PAGES = 3, BC_CODE_BYTES = BC_CODE_PAGES * DT_PAGE, BC_STACK_BYTES = DT_PAGE };
enum { BC_ITEMS_MAX = 96, BC_LOOPS = 24 };

struct bc_program {
	uint8_t code[BC_CODE_BYTES];
	unsigned start, end; /* offsets of the first byte and of the final HLT */
	unsigned items;
	struct {
		unsigned start, end;
	} item[BC_ITEMS_MAX]; /* for making a failing program smaller */
	struct dt_state in;
	bool m32;
};

/* The program of a seed. */
void bc_generate(uint64_t seed, struct bc_program *ret);

struct bc;
struct bc *bc_new(void);
void bc_free(struct bc *b);
/* Do both agree? If not, says where on standard output. */
bool bc_check(struct bc *b, uint64_t seed);
/* Faults seen so far, and instructions that the translator had run by handlers or interpreted. */
void bc_report(const struct bc *b);
