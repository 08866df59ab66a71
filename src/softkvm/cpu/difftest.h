/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions run twice: by the processor of this machine, in a child process,
 * and by softkvm's decoder and handlers; then compared. (Tests and fuzzers only.)
 *
 * Theory of operation: difftest_gen.c makes cases from the opcode rows: code
 * bytes, registers, memory. A batch of them lies in memory shared with the child of
 * difftest_native.c, which runs each in a page full of INT3, so that every instruction ends
 * in a signal that has all registers; a fault is a signal too. difftest_soft.c runs the same
 * case here, with a TLB that maps the same addresses. difftest.c compares and counts.
 *
 * jit/difftest_jit.c stands in for difftest_soft.c in another program: it has a whole virtual
 * machine with page tables, and two ways to run a case, by the interpreter and translated.
 */
#pragma once

#include "softkvm/cpu/fpu.h"
#include "softkvm/cpu/insn.h"
#include "softkvm/cpu/rows.h"

/*
 * Addresses in the child, and in softkvm's TLB. All fit in 31 bits, for 67-prefixed forms. Code and
 * state lie more than 256 MiB from the windows, as far as BT reaches with 32 bits.
 */
#define DT_CODE      0x50000000ull /* one page, executable */
#define DT_STATE     0x50010000ull /* struct dt_state of the case under way */
#define DT_WINDOW    0x20000000ull /* two pages, readable and writable; holes on both sides */
#define DT_WINDOW_RO 0x20010000ull /* one page, read-only; holes on both sides */
enum { DT_PAGE = 4096, DT_WINDOW_BYTES = 2 * DT_PAGE, DT_CODE_OFFSET = 0x800 };

struct dt_state {
	uint8_t xsave[XS_SIZE] __attribute__((aligned(64))); /* standard format */
	uint64_t gpr[16];
	uint64_t rip, rflags;
	uint64_t gs_base;
	uint32_t far_rip; /* with far_cs: where dt_enter goes */
	uint16_t far_cs;
};

enum { DT_VECTOR_NONE = 0xff, DT_VECTOR_BROKEN = 0xfe };

struct dt_result {
	struct dt_state state;
	uint8_t window[DT_WINDOW_BYTES];
	uint64_t cr2;
	uint64_t fault_address; /* cr2 before what may differ was taken out */
	uint32_t error;
	uint8_t vector; /* DT_VECTOR_* */
};

enum { DT_PATCH_MAX = XS_SIZE };

struct dt_case {
	uint8_t code[16];
	unsigned len;
	unsigned row; /* what it was made from */
	bool m32;     /* run in 32-bit (compatibility) mode, with 32-bit registers */
	struct dt_state in;
	uint64_t patch_at; /* these bytes go to memory before */
	unsigned patch_len;
	uint8_t patch[DT_PATCH_MAX];
	struct dt_result native;
};

/* xorshift64*: repeatable everywhere. */
struct dt_rng {
	uint64_t s;
};
uint64_t dt_random(struct dt_rng *r);
unsigned dt_below(struct dt_rng *r, unsigned n);
bool dt_chance(struct dt_rng *r, unsigned percent);

/* --- difftest_gen.c ---------------------------------------------------------------------- */
/* Why a row is not tested; NULL: it is. Rows that 64-bit mode lacks are, in 32-bit mode. */
const char *dt_row_excluded(const struct row_ref *ref);
/* A random case of this row: code, registers, memory. */
void dt_make_case(struct dt_rng *rng, unsigned row, struct dt_case *ret);
/* Can this machine's kernel run 32-bit code? (It can until said otherwise.) */
void dt_allow_32bit(bool allowed);
/* What the window holds before each case (patches apart), both parts. */
void dt_window_fill(uint8_t *window, uint8_t *window_ro);
/* Between an XSAVE image (all components present) and struct fpu, not loaded. */
void dt_fpu_set(struct vcpu *cpu, const uint8_t *xsave);
void dt_fpu_get(const struct vcpu *cpu, uint8_t *xsave);

/* --- difftest_native.c --------------------------------------------------------------------- */
/* Shared memory for `n` cases; NULL: none. */
struct dt_case *dt_cases_new(unsigned n);
/* Run cases [0, n) in a child, filling `native`. False: this machine cannot (no XSAVE, …). */
bool dt_run_native(struct dt_case *cases, unsigned n);

/* --- difftest_soft.c, jit/difftest_jit.c --------------------------------------------------- */
enum dt_way { DT_INTERPRETER, DT_TRANSLATOR, DT_WAYS };
/* What ran an instruction that ended without a fault. */
enum dt_how { DT_BY_INTERPRETER, DT_BY_HANDLER, DT_BY_HOST_CODE, DT_HOWS };

struct dt_soft;
struct dt_soft *dt_soft_new(void);
void dt_soft_free(struct dt_soft *s);
/* Which way dt_run_soft() goes from now on; false: there is no such way. */
bool dt_soft_select(struct dt_soft *s, enum dt_way way);
/* Of the last case. */
enum dt_how dt_soft_how(const struct dt_soft *s);
/* For tests that set control registers, mode or traps: these stay from case to case. */
struct vcpu *dt_soft_vcpu(struct dt_soft *s);
/* Decode, bind, run. *ret_in: the decoded instruction (op OP_NONE: #UD by the decoder). */
void dt_run_soft(struct dt_soft *s, const struct dt_case *c, struct dt_result *ret,
		 struct insn *ret_in);
/* May user mode read [lin, lin+size)? False: vector, error and cr2 of *ret are the fault. */
bool dt_soft_access(struct dt_soft *s, uint64_t lin, unsigned size, struct dt_result *ret);

/* --- difftest.c ------------------------------------------------------------------------------- */
struct dt_options {
	uint64_t seed;
	unsigned cases_per_row; /* each round */
	unsigned seconds;       /* 0: one round */
	const char *only;       /* a mnemonic, or NULL */
	bool verbose;           /* print all differences in full, and coverage */
};
struct dt_report {
	unsigned rows, rows_covered, rows_excluded;
	unsigned translated[DT_HOWS]; /* rows by the best that the translator did for them */
	uint64_t cases, differences;
	bool supported;
};
void dt_run(const struct dt_options *opt, struct dt_report *ret);
