/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * The workloads of `make bench-softkvm`. Each does `n` units of work from a fixed start and
 * gives a checksum, which depends on n alone: it is the same natively and in every guest.
 * What a unit is stands beside each; main.c has how many make 100 %.
 */

/* cpu.c */
uint64_t cpu_intloop(uint64_t n);
uint64_t cpu_branches(uint64_t n);
uint64_t cpu_fib(uint64_t n);
uint64_t cpu_icall(uint64_t n);
uint64_t cpu_interp(uint64_t n);
uint64_t cpu_sort(uint64_t n);

/* bytes.c */
uint64_t bytes_sha256(uint64_t n);
uint64_t bytes_lz(uint64_t n);
uint64_t bytes_rle(uint64_t n);

/* memory.c */
uint64_t memory_chase_small(uint64_t n);
uint64_t memory_chase_large(uint64_t n);
uint64_t memory_copy(uint64_t n);
uint64_t memory_set(uint64_t n);
uint64_t memory_strings(uint64_t n);

/* float.c */
uint64_t float_sse2(uint64_t n);
uint64_t float_avx2(uint64_t n); /* needs float_has_avx2() */
uint64_t float_nbody(uint64_t n);
uint64_t float_x87(uint64_t n);
bool float_has_avx2(void);

/* kernel.c */
uint64_t kernel_syscall(uint64_t n);
uint64_t kernel_signal(uint64_t n);
uint64_t kernel_pagefault(uint64_t n);
uint64_t kernel_mprotect(uint64_t n);
uint64_t kernel_fork(uint64_t n);
uint64_t kernel_exec(uint64_t n);
uint64_t kernel_ctxsw(uint64_t n);
#define KERNEL_EXEC_WORD   "exec-child" /* what kernel_exec() runs this program with */
#define KERNEL_EXEC_STATUS 7            /* and the status that it shall end with */

/* code.c */
uint64_t code_modify(uint64_t n);
uint64_t code_generate(uint64_t n);

/* threads.c */
uint64_t threads_atomic(uint64_t n);
uint64_t threads_one(uint64_t n);
uint64_t threads_two(uint64_t n); /* threads_one()'s work, half of it in each thread */
uint64_t threads_futex(uint64_t n);

struct workload {
	const char *name;
	uint64_t (*run)(uint64_t n);
	uint64_t full;           /* units at 100 % */
	bool (*supported)(void); /* NULL: everywhere */
};

/* main.c: the workload of that name, or NULL. */
const struct workload *workload_find(const char *name);

/*
 * Do `percent` of the workload `times` over. *ret_checksum is set. False: a repetition gave
 * another checksum than the first.
 */
bool workload_run(const struct workload *w, unsigned int percent, unsigned int times,
		  uint64_t *ret_checksum);

/* agent.c: serve requests in the file system below `root`; the exit status. See there. */
int agent_main(const char *root);

/* The next number of a fixed sequence; *state is its place there, and must not be 0. */
static inline uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Add a word to a checksum. */
static inline uint64_t mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * 0x9e3779b97f4a7c15;
	return sum ^ sum >> 29;
}
