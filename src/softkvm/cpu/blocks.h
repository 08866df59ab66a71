/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks of decoded instructions: a cache private to each vCPU. Own thread only.
 */
#pragma once

#include "softkvm/cpu/exec.h"

#define BLOCK_INSNS_MAX 48
#define BLOCK_BYTES_MAX 64

struct block {
	uint64_t rip; /* of the first instruction; relative operands are decoded for it */
	uint32_t key; /* KEY_*; BLOCK_DEAD: matches nothing */
	uint8_t count;
	uint8_t len;          /* bytes */
	uint16_t last_offset; /* in the page, at which the comparison by vectors stays within it */
	bool crosses;         /* one instruction that lies on two pages */
	uint8_t *host;        /* where the bytes lay when the block was last entered */
	uint64_t care;        /* a bit for each byte that exists */
	struct block *next;   /* in its hash chain */
	uint8_t bytes[BLOCK_BYTES_MAX] __attribute__((aligned(16)));
	struct insn insn[]; /* count, and the slot that ends the block */
};
#define BLOCK_DEAD UINT32_MAX

/* The calling function is the run loop: from here on the host stack may grow a little. */
void block_stack_base(struct vcpu *cpu);
/* Run from cpu->rip on until something needs the run loop. */
enum exec_result block_run(struct vcpu *cpu);
/*
 * Run one instruction at cpu->rip. EXEC_END: it is done and cpu->rip is the next one's. *ret_in
 * is the instruction, valid with EXEC_END until the next call.
 */
enum exec_result block_step(struct vcpu *cpu, const struct insn **ret_in);
/* The handler that ends a block behind its last instruction, with cpu->rip set. */
enum exec_result block_stop(struct vcpu *cpu, const struct insn *in);
/* The instruction under way is the current block's last one, whatever follows. */
void block_kill_current(struct vcpu *cpu);
