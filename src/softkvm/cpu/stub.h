/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Host code made at run time: handlers (exec_fn) for SIMD and x87
 * instructions, which run the guest's instruction on the host's own unit.
 *
 * One cache for the process. A stub is keyed by the instruction without its
 * register numbers and address (those it reads from struct insn), so their number is bounded
 * by the instruction set whatever guests do. Memory is never writable and executable at one
 * address: the cache is a memfd mapped twice.
 */
#pragma once

#include "softkvm/cpu/insn.h"

/* A piece of code being put together. Emitting past the end sets `overflow`. */
struct stub_code {
	uint8_t b[384];
	unsigned n;
	bool overflow;
};

/* Code bytes, last argument first byte highest: stub_bytes(c, 3, "\x48\x89\xc8"). */
void stub_bytes(struct stub_code *c, unsigned n, const void *bytes);
void stub_byte(struct stub_code *c, uint8_t b);
void stub_u32(struct stub_code *c, uint32_t v);
/* mov $fn, %rax; call *%rax / jmp *%rax */
void stub_call(struct stub_code *c, const void *fn);
void stub_jump(struct stub_code *c, const void *fn);
/* A forward 32-bit conditional jump (low opcode nibble `cc`, 5 = jne): returns what stub_land()
 * wants. */
unsigned stub_jcc(struct stub_code *c, unsigned cc);
void stub_land(struct stub_code *c, unsigned jump);

/*
 * Memory for code: `size` bytes at a writable and at an executable address. 0, or -errno: no
 * executable memory. The caller unmaps both.
 */
int stub_map(const char *name, size_t size, uint8_t **ret_rw, uint8_t **ret_rx);
/* Set the cache up; called by whoever opens the library. 0, or -errno: no executable memory. */
int stub_init(void);
/* The handler of this key, NULL if it has not been made yet. Lock-free. `key` is never 0. */
exec_fn *stub_find(uint64_t key);
/*
 * Publish code under a key (if somebody else was faster: his). `raw`, which may be NULL, is a
 * second entry for C code: see stub_raw_fn. NULL: no memory, or the code overflowed.
 */
exec_fn *stub_add(uint64_t key, const struct stub_code *handler, const struct stub_code *raw);

/*
 * The instruction alone, with x87 state already loaded; `mem` is its memory operand. Nonzero: it
 * raised #XM and changed nothing.
 */
typedef int stub_raw_fn(struct vcpu *cpu, const struct insn *in, void *mem);
static inline stub_raw_fn *stub_raw(const struct insn *in)
{
	void *raw;

	memcpy(&raw, (const uint8_t *)(uintptr_t)in->fn - sizeof(raw), sizeof(raw));
	return (stub_raw_fn *)(uintptr_t)raw;
}

/*
 * Make SIGFPE ours (again), keeping the handler found for faults that are not in stubs. A
 * floating-point exception in a handler continues at stub_fp_fault(); in raw code it returns 1.
 */
void stub_claim_sigfpe(void);
/* Where handlers land on #XM; by exec_simd.c. */
enum exec_result stub_fp_fault(struct vcpu *cpu, const struct insn *in);
/* For statistics and tests. */
void stub_stats(unsigned *ret_stubs, size_t *ret_bytes);
