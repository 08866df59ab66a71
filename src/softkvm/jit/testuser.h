/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual machine for tests that compares the interpreter with the translator: user code at CPL 3
 * behind real page tables, run without an operating system. A fault comes back to the test.
 */
#pragma once

#include <time.h>

#include "softkvm/cpu/difftest.h"
#include "softkvm/jit/jit.h"
#include "softkvm/mmu/testvm.h"

/* Why testuser_run() came back. */
enum testuser_stop {
	TU_FAULT, /* cpu->fault, at cpu->rip */
	TU_EXIT,  /* an exit to user space */
	TU_STUCK, /* too many turns, or run->immediate_exit was set */
};

struct testuser {
	struct testvm *t;
	struct vcpu *cpu;
	gpa_t tables_end; /* where the next page table goes */
	bool interpret;   /* testuser_run() interprets everything */
};

/* PTE bits of testuser_map(). */
enum { TU_W = BIT(1), TU_U = BIT(2), TU_X = BIT(9) };

/* A VM with a translator whose code cache is small, and one vCPU in 64-bit mode at CPL 3. */
struct testuser *testuser_new(void);
void testuser_free(struct testuser *u);
/* Map a page; `flags` of TU_*. */
void testuser_map(struct testuser *u, gva_t lin, gpa_t gpa, uint64_t flags);
/* 64-bit or 32-bit code from now on. */
void testuser_mode(struct testuser *u, bool m32);
/* The test has written guest memory that may be code. */
void testuser_wrote(struct testuser *u, gpa_t gpa, size_t len);
/* Forget all translations. */
void testuser_forget(struct testuser *u);
/*
 * Between testuser_enter() and testuser_leave() the thread is the vCPU's, with its FPU state
 * loaded.
 */
void testuser_enter(struct testuser *u);
void testuser_leave(struct testuser *u);
enum testuser_stop testuser_run(struct testuser *u);

/* What the fuzzers are told. */
struct testuser_options {
	uint64_t seed, count;
	time_t end;
};
/* Read them; without --seed a random one is taken, and it is printed. False: usage was shown. */
bool testuser_options(int argc, char **argv, struct testuser_options *ret);
