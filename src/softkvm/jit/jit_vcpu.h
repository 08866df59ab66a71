/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator's part of a vCPU. Owner: the vCPU's thread, but for what is _Atomic.
 */
#pragma once

#include "base/util.h"

/*
 * Where indirect jumps look first: direct-mapped by the target. An entry's tag is the target XOR
 * jit_vcpu.mix, so changing `mix` empties the table at once. An entry of zeros matches nothing: the
 * upper 16 bits of `mix` are neither 0 nor all ones.
 */
#define IBTC_BITS    15
#define IBTC_ENTRIES (1u << IBTC_BITS)
struct ibtc_entry {
	uint64_t tag;
	const uint8_t *code; /* jit_block.enter_indirect */
};

#define JIT_WINDOWS     4u /* of a block at most: see tr_window.c */
#define JIT_HEAT_SLOTS  4096u
#define JIT_SPACES      32u /* at least the TLB's */
#define JIT_TARGET_BITS 16u

/* What system instructions of translated code depend on: not 0, they are the handler's. */
enum jit_guard {
	GUARD_SMAP, /* STAC, CLAC */
	GUARD_FSGSBASE,
	GUARD_TSC, /* the counter is scaled */
	GUARD_TSC_USER,
	GUARD_TSCP,
	GUARD_TSCP_USER,
	GUARD_COUNT
};

struct jit_vcpu {
	bool on;                  /* this VM translates and the present mode is one that can be */
	bool chained;             /* block_chain() returned for our sake: the turn goes on */
	uint8_t vectors_live;     /* the guest's vector registers are in the host's */
	uint8_t sse_off, avx_off; /* nonzero: not so, or instructions of the class may not run */
	uint8_t x87_off;          /* x87 and MMX instructions may trap */
	bool alone;               /* do not leave the block for another one: see verify.c */
	struct jit_op_counts *op_counts; /* NULL: not wanted */
	struct verify *verify, *log;     /* of verify.c; the second while accesses are logged */
	uint8_t guard[GUARD_COUNT];
	uint8_t page_fault;           /* cpu->fault is what the memory access that failed raises */
	uint8_t irq_waits;            /* an interrupt may be due as soon as IF is set */
	uint64_t window[JIT_WINDOWS]; /* host address minus a base register */
	uint64_t tmp[2];              /* scratch of translated code */
	uint64_t page; /* of the code that runs, if it is user code: see jit_floats() */
	uint64_t mix;  /* of the address space and privilege in force; see space.c */
	void *frame;   /* host stack at entry, to unwind to */
	void *ras_base, *ras_limit; /* part of the host stack that predicts returns */
	void *self;                 /* this vCPU */
	uint64_t result;         /* enum jit_exit, of C functions that make translated code leave */
	_Atomic uint32_t leaves; /* how often translated code was left */
	_Atomic bool inside;
	_Atomic uint32_t seen; /* pending pages whose write tags were dropped: see cache.c */
	uint64_t exec;         /* enum exec_result of the handler called last */
	uint32_t evictions;    /* of the cache, when the table below was last emptied for them */
	uint32_t mix_count;    /* mixes given out */
	unsigned space;        /* of the TLB, in force */
	bool supervisor_local; /* supervisor code of pages that are not global is in the table */
	uint64_t supervisor_mix, space_mix[JIT_SPACES];
	uint64_t targets[1u << (JIT_TARGET_BITS - 6)]; /* pages of targets, a Bloom filter */
	uint64_t saved_gs;
	uint8_t heat[JIT_HEAT_SLOTS];
	struct {
		uint64_t entered, interpreted, translated, linked, misses, memory, handlers,
			renewed;
	} stats;
	struct ibtc_entry ibtc[IBTC_ENTRIES];
};
