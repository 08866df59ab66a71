/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the handlers of instructions share: dispatch to the next one, flags,
 * operands, leaving.
 *
 * Handlers run on the vCPU's thread. They change nothing before the last thing
 * that can fault (registers last), so that an instruction can always be started over.
 *
 * Dispatch: `return exec_next(cpu, in)` tail-calls the following instruction of
 * the block (the block's last slot is a handler that ends it). Builds that cannot
 * promise tail calls (no optimisation, sanitizers) return EXEC_NEXT to a loop.
 *
 * A tail call is only made if no local whose address was handed out is alive: let an inline
 * function that returns bool do what needs such locals (ret_x parameters), and call
 * exec_next() outside of it (see HANDLER in exec_int.h). `objdump -d` must show no `call *`.
 */
#pragma once

#include "softkvm/cpu/vcpu.h"
#include "softkvm/mmu/mmu.h"

#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
	!defined(EXEC_NO_TAIL_CALLS)
#define EXEC_TAIL_CALLS    1
#define exec_next(cpu, in) ((in)[1].fn((cpu), (in) + 1))
#else
#define EXEC_TAIL_CALLS    0
#define exec_next(cpu, in) (EXEC_NEXT)
#endif

/* RIP of an instruction and of its successor (wraps as the mode wants in the caller). */
static inline uint64_t insn_rip(const struct vcpu *cpu, const struct insn *in)
{
	return cpu->blk_va + in->off;
}

static inline uint64_t insn_next_rip(const struct vcpu *cpu, const struct insn *in)
{
	return cpu->blk_va + in->off + in->len;
}

/* A memory function failed: fault or exit, the instruction will start over. */
enum exec_result exec_abort(struct vcpu *cpu, const struct insn *in);
/* Raise a fault of this instruction. */
enum exec_result exec_fault(struct vcpu *cpu, const struct insn *in, enum vector vector);
enum exec_result exec_fault_error(struct vcpu *cpu, const struct insn *in, enum vector vector,
				  uint32_t error);
static inline enum exec_result exec_gp0(struct vcpu *cpu, const struct insn *in)
{
	return exec_fault_error(cpu, in, EX_GP, 0);
}
static inline enum exec_result exec_ud(struct vcpu *cpu, const struct insn *in)
{
	return exec_fault(cpu, in, EX_UD);
}
/* Done, but state that blocks rely on has changed: end the block behind this instruction. */
static inline enum exec_result exec_end(struct vcpu *cpu, const struct insn *in)
{
	cpu->rip = insn_next_rip(cpu, in);
	return EXEC_END;
}

/*
 * A branch, taken or not, to a target that was checked (canonical, limit): the block is over. Goes
 * straight into the next block if nothing asks for attention. INSN_ENDS is for what changes the
 * mode, paging or events and must get to the run loop first: those use exec_end() or set cpu->rip
 * and return EXEC_END.
 */
enum exec_result block_chain(struct vcpu *cpu); /* from cpu->rip on; blocks.c */
static inline enum exec_result exec_branch(struct vcpu *cpu, const struct insn *in, uint64_t target)
{
	cpu->rip = target;
	return EXEC_TAIL_CALLS ? block_chain(cpu) : EXEC_END;
}
/*
 * As exec_abort() and for a fault of the instruction's implicit stack access (PUSH, POP, CALL,
 * RET, ENTER, LEAVE, …): a non-canonical address is #SS(0) there, #GP(0) elsewhere. exec_abort()
 * itself makes it #SS(0) if in->seg == SEG_SS. (These, exec_fault() and exec_fault_error():
 * fault.c)
 */
enum exec_result exec_abort_stack(struct vcpu *cpu, const struct insn *in);

/* --- arithmetic flags --------------------------------------------------------------
 * cc: bits 15..8 = SF ZF 0 AF 0 PF 1 CF as LAHF leaves them in AH, bit 0 = OF (SETO).
 * A host instruction's flags are caught by `lahf; seto %al` into (e)ax, and put back by
 * `add $0x7f, %al; sahf`.
 */
#define CC_CF 0x0100u
#define CC_PF 0x0400u
#define CC_AF 0x1000u
#define CC_ZF 0x4000u
#define CC_SF 0x8000u
#define CC_OF 0x0001u

/* Arithmetic flags between cc's form and EFLAGS'. */
static inline uint32_t cc_to_flags(uint32_t cc)
{
	return ((cc >> 8) & (FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF)) | ((cc & CC_OF) ? FL_OF : 0);
}

static inline uint32_t cc_from_flags(uint64_t flags)
{
	uint32_t low = flags & (FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF);

	return (low | FL_FIXED) << 8 | ((flags & FL_OF) ? CC_OF : 0);
}

/* All of RFLAGS. */
static inline uint64_t cpu_rflags(const struct vcpu *cpu)
{
	return cpu->rflags | cc_to_flags(cpu->cc);
}

/* One of the 16 conditions of Jcc, SETcc, CMOVcc (low four opcode bits), `c` a constant where it
 * counts. */
static inline bool cc_test(uint32_t cc, unsigned c)
{
	bool r;

	switch (c >> 1) {
	case 0:
		r = cc & CC_OF;
		break;
	case 1:
		r = cc & CC_CF;
		break;
	case 2:
		r = cc & CC_ZF;
		break;
	case 3:
		r = cc & (CC_CF | CC_ZF);
		break;
	case 4:
		r = cc & CC_SF;
		break;
	case 5:
		r = cc & CC_PF;
		break;
	case 6:
		r = ((cc >> 15) ^ cc) & 1;
		break;
	default:
		r = (((cc >> 15) ^ cc) & 1) | (cc & CC_ZF);
		break;
	}
	return r ^ (c & 1);
}

/* --- register operands ------------------------------------------------------------------ */
static inline uint8_t *reg8(struct vcpu *cpu, unsigned byte_index)
{
	return (uint8_t *)cpu->gpr + byte_index;
}

/* Store a general register of `size` bytes: 32-bit writes clear the upper half. `reg` is a byte
 * index for size 1. */
static inline void reg_store(struct vcpu *cpu, unsigned reg, uint64_t v, unsigned size)
{
	switch (size) {
	case 1:
		*reg8(cpu, reg) = (uint8_t)v;
		break;
	case 2:
		memcpy(&cpu->gpr[reg], &v, 2);
		break;
	case 4:
		cpu->gpr[reg] = (uint32_t)v;
		break;
	default:
		cpu->gpr[reg] = v;
		break;
	}
}

static inline uint64_t reg_load(const struct vcpu *cpu, unsigned reg, unsigned size)
{
	switch (size) {
	case 1:
		return ((const uint8_t *)cpu->gpr)[reg];
	case 2:
		return (uint16_t)cpu->gpr[reg];
	case 4:
		return (uint32_t)cpu->gpr[reg];
	default:
		return cpu->gpr[reg];
	}
}

/* --- memory operands ---------------------------------------------------------------------- */
/* The offset within the segment. */
static inline uint64_t ea_offset(const struct vcpu *cpu, const struct insn *in)
{
	uint64_t a = cpu->gpr[in->base] + (cpu->gpr[in->index] << in->scale) + (uint64_t)in->disp;

	return in->asz == 8 ? a : in->asz == 4 ? (uint32_t)a : (uint16_t)a;
}

/*
 * Offset to linear with the checks of legacy modes (limit, type, null, expand-down) and of
 * 64-bit mode (canonical is checked by the mmu; #SS against #GP for stack-segment forms). False:
 * cpu->fault is filled. (seg.c)
 */
bool seg_linear(struct vcpu *cpu, unsigned seg, uint64_t offset, unsigned size, enum mmu_access acc,
		gva_t *ret);

/* The linear address of the memory operand; false: exec_abort. */
static inline bool ea_linear(struct vcpu *cpu, const struct insn *in, unsigned size,
			     enum mmu_access acc, gva_t *ret)
{
	uint64_t off = ea_offset(cpu, in);

	if (likely(in->flags & INSN_FLAT)) {
		*ret = cpu->segbase[in->seg] + off;
		return true;
	}
	return seg_linear(cpu, in->seg, off, size, acc, ret);
}
/* Is 32-bit linear wrap needed? INSN_FLAT is only set where base + offset cannot need it. */

/* --- who handles what: each returns NULL for an op of another file (bind.c asks in turn) --- */
exec_fn *
exec_int_bind(const struct insn *in); /* exec_int*.c: general-purpose, branches, strings, BMI */
exec_fn *
exec_sys_bind(const struct insn *in); /* exec_sys*.c: system, segments, far transfers, I/O, MSRs */
exec_fn *
exec_simd_bind(const struct insn *in); /* exec_simd*.c, exec_x87.c: MMX, SSE, AVX, x87, XSAVE */
