/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The workloads of `make bench-softkvm` in one static program.
 *
 * usage: guestbench NAME [PERCENT [TIMES]]     prints: name checksum cpu_ns wall_ns
 *        guestbench list                       the names
 *        guestbench agent ROOT                 serve tools/bench-softkvm, see agent.c
 * status: 77: the processor lacks what the workload needs
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "guestbench.h"

#define STATUS_UNSUPPORTED 77
#define NS_PER_S           1000000000U

/* 100 % is about half a second on a processor of 2023. */
static const struct workload workloads[] = {
	{ "intloop", cpu_intloop, 350000000, NULL },
	{ "branches", cpu_branches, 32000000, NULL },
	{ "fib", cpu_fib, 20000, NULL },
	{ "icall", cpu_icall, 60000000, NULL },
	{ "interp", cpu_interp, 5500, NULL },
	{ "sort", cpu_sort, 1800, NULL },
	{ "sha256", bytes_sha256, 2400, NULL },
	{ "lz", bytes_lz, 1200, NULL },
	{ "bytes", bytes_rle, 6000, NULL },
	{ "chase-256k", memory_chase_small, 100000000, NULL },
	{ "chase-64m", memory_chase_large, 5000000, NULL },
	{ "memcpy", memory_copy, 5000, NULL },
	{ "memset", memory_set, 10000, NULL },
	{ "strings", memory_strings, 50000, NULL },
	{ "sse2", float_sse2, 9000, NULL },
	{ "avx2", float_avx2, 18000, float_has_avx2 },
	{ "nbody", float_nbody, 6000000, NULL },
	{ "x87", float_x87, 30000000, NULL },
	{ "syscall", kernel_syscall, 3000000, NULL },
	{ "signal", kernel_signal, 160000, NULL },
	{ "pagefault", kernel_pagefault, 180, NULL },
	{ "mprotect", kernel_mprotect, 90000, NULL },
	{ "fork", kernel_fork, 700, NULL },
	{ "exec", kernel_exec, 900, NULL },
	{ "ctxsw", kernel_ctxsw, 100000, NULL },
	{ "smc", code_modify, 12000000, NULL },
	{ "codegen", code_generate, 5000000, NULL },
	{ "atomic", threads_atomic, 70000000, NULL },
	{ "one", threads_one, 50000000, NULL },
	{ "two", threads_two, 50000000, NULL },
	{ "futex", threads_futex, 100000, NULL },
};

#define WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

const struct workload *workload_find(const char *name)
{
	for (size_t i = 0; i < WORKLOADS; i++) {
		if (strcmp(workloads[i].name, name) == 0) {
			return &workloads[i];
		}
	}
	return NULL;
}

bool workload_run(const struct workload *w, unsigned int percent, unsigned int times,
		  uint64_t *ret_checksum)
{
	uint64_t n = w->full * percent / 100, first = w->run(n > 0 ? n : 1);

	for (unsigned int i = 1; i < times; i++) {
		if (w->run(n > 0 ? n : 1) != first) {
			return false;
		}
	}
	*ret_checksum = first;
	return true;
}

static uint64_t now_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* CPU time of this process and of its children that have ended. */
static uint64_t cpu_ns(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return now_ns(CLOCK_PROCESS_CPUTIME_ID) +
	       (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static int run_one(const struct workload *w, unsigned int percent, unsigned int times)
{
	uint64_t cpu = cpu_ns(), wall = now_ns(CLOCK_MONOTONIC), checksum;

	if (w->supported && !w->supported()) {
		fprintf(stderr, "guestbench: %s: not on this processor\n", w->name);
		return STATUS_UNSUPPORTED;
	}
	if (!workload_run(w, percent, times, &checksum)) {
		errx(1, "%s: a repetition gave another checksum", w->name);
	}
	printf("%s %016llx %llu %llu\n", w->name, (unsigned long long)checksum,
	       (unsigned long long)(cpu_ns() - cpu),
	       (unsigned long long)(now_ns(CLOCK_MONOTONIC) - wall));
	return 0;
}

static unsigned int number(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || value == 0 || value > 1000000) {
		errx(2, "%s: not a number from 1 on", text);
	}
	return (unsigned int)value;
}

int main(int argc, char **argv)
{
	const struct workload *w;

	if (argc == 2 && strcmp(argv[1], KERNEL_EXEC_WORD) == 0) {
		return KERNEL_EXEC_STATUS;
	}
	if (argc == 2 && strcmp(argv[1], "list") == 0) {
		for (size_t i = 0; i < WORKLOADS; i++) {
			puts(workloads[i].name);
		}
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "agent") == 0) {
		return agent_main(argv[2]);
	}
	if (argc < 2 || argc > 4 || !(w = workload_find(argv[1]))) {
		errx(2, "usage: guestbench NAME [PERCENT [TIMES]] | list | agent ROOT");
	}
	return run_one(w, argc > 2 ? number(argv[2]) : 100, argc > 3 ? number(argv[3]) : 1);
}
