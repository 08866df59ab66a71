/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator: guest code becomes host code, block by block.
 *
 * Functions with a vCPU belong to its own thread, inside the guest; those with a VM may be
 * called by any thread.
 */
#pragma once

#include "softkvm/cpu/insn.h"
#include "softkvm/jit/jit_vcpu.h"

struct vm;
struct vcpu;

#define JIT_CACHE_MIB_MIN 4u
#define JIT_CACHE_MIB_MAX 1024u

/* Settings for the process (softkvm_set_options), before the first VM. */
struct jit_options {
	bool off;
	bool perf_map;    /* write /tmp/perf-PID.map */
	bool dump;        /* every block's host code to stderr */
	bool eager;       /* translate code when it first runs: for tests */
	bool keep_faults; /* jit_run() returns with faults, instead of delivering some: for tests */
	bool count;       /* which operations call C, or are interpreted */
	unsigned verify;  /* compare so many runs of each block with the interpreter's */
	unsigned cache_mib; /* bound of the code cache */
};
extern struct jit_options jit_options;

/* A VM's code cache. 0 or -errno: no executable memory. If it is off, vm->jit stays NULL. */
int jit_vm_init(struct vm *vm);
void jit_vm_done(struct vm *vm);
void jit_vcpu_init(struct vcpu *cpu);
void jit_vcpu_done(struct vcpu *cpu);
/* Counts, to stderr. */
void jit_report(const struct vm *vm);

/*
 * Run guest code from cpu->rip on, translated where that pays, until something needs the run loop.
 * As block_run(), which it calls for what is not translated.
 */
enum exec_result jit_run(struct vcpu *cpu);
/* The calling thread enters (leaves) KVM_RUN: takes GS. */
void jit_thread_enter(struct vcpu *cpu);
void jit_thread_leave(struct vcpu *cpu);
/* CR4, CPUID or the frequency of the time stamp may have changed. */
void jit_guards_changed(struct vcpu *cpu);
/* cpu_mode_changed(): privilege, mode, FP traps or the address space may be others now. */
void jit_mode_changed(struct vcpu *cpu);

/* --- what the MMU says ------------------------------------------------------------------- */
/* An address (any address) may translate otherwise now, in any space. */
void jit_mapping_changed(struct vcpu *cpu, gva_t lin);
void jit_mappings_changed(struct vcpu *cpu);
/* The current space is another one (an index below JIT_SPACES). */
void jit_space_changed(struct vcpu *cpu, unsigned space);
/* The entries of a space that are not global are gone. */
void jit_space_emptied(struct vcpu *cpu, unsigned space);
/* Is the page of translated code (no vCPU may hold a write tag for it)? Lock-free. */
bool jit_page_is_code(const struct vm *vm, const uint8_t *host);
/* [host, host+len) has been written by somebody: blocks made from it are gone afterwards. */
void jit_wrote(struct vm *vm, const uint8_t *host, size_t len);
/* The page is about to be written in full, or by an access that cannot be followed. */
void jit_page_to_data(struct vm *vm, const uint8_t *host);
/* REQ_JIT: drop write tags of pages that become code. */
void jit_drop_write_tags(struct vcpu *cpu);
/*
 * While the translator is verified (jit/verify.c; cpu->jit.log is not NULL): the instruction is
 * about to write [host, host+len), or touches a device.
 */
void jit_log_write(struct vcpu *cpu, uint8_t *host, size_t len);
void jit_log_device(struct vcpu *cpu);
/* The page got an execute tag: is it what was translated? */
void jit_page_fetched(struct vm *vm, const uint8_t *host);
/* All blocks, e.g. because slots go away; no vCPU is inside the guest. */
void jit_flush(struct vm *vm);
