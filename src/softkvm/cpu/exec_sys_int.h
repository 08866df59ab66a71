/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of system instructions share: faults as values, modes,
 * descriptors, stacks.
 *
 * Functions that return bool and take the vCPU fill cpu->fault when they return false (or it asks
 * for an exit, see mmu.h); a handler then does `return exec_abort(cpu, in)`.
 */
#pragma once

#include "softkvm/cpu/event.h"
#include "softkvm/cpu/exec.h"
#include "softkvm/cpu/msr.h"
#include "softkvm/cpu/ops.h"
#include "softkvm/vm.h"

/* --- faults -------------------------------------------------------------------------- */
#define EXT 1u /* error code: the event was not caused by the program */

/* Both return false, so that a check is `return cpu_raise(…)`. */
static inline bool cpu_raise(struct vcpu *cpu, enum vector vector, uint32_t error)
{
	cpu->fault = (struct fault){ .vector = (uint8_t)vector, .has_error = true, .error = error };
	return false;
}
static inline bool cpu_raise_plain(struct vcpu *cpu, enum vector vector)
{
	cpu->fault = (struct fault){ .vector = (uint8_t)vector };
	return false;
}
/* The error code that names a selector. */
static inline uint32_t sel_error(uint16_t sel)
{
	return sel & 0xfffcu;
}

/* --- modes --------------------------------------------------------------------------- */
static inline bool cpu_lma(const struct vcpu *cpu)
{
	return cpu->efer & EFER_LMA;
}
static inline bool cpu_pe(const struct vcpu *cpu)
{
	return cpu->cr0 & CR0_PE;
}
static inline bool cpu_v86(const struct vcpu *cpu)
{
	return cpu->rflags & FL_VM;
}
/* Protected mode proper: descriptors are looked up. */
static inline bool cpu_protected(const struct vcpu *cpu)
{
	return cpu_pe(cpu) && !cpu_v86(cpu);
}
static inline bool cpu_64bit(const struct vcpu *cpu)
{
	return (cpu->key & MODE_SIZE) == MODE_64;
}
static inline unsigned cpu_iopl(const struct vcpu *cpu)
{
	return (unsigned)(cpu->rflags >> 12) & 3;
}
static inline bool canonical(const struct vcpu *cpu, uint64_t va)
{
	unsigned shift = cpu->cr4 & CR4_LA57 ? 7 : 16;

	return (uint64_t)((int64_t)(va << shift) >> shift) == va;
}
/* Bits of an operand or address size. */
static inline uint64_t size_mask(unsigned size)
{
	return size == 8 ? UINT64_MAX : BIT64(size * 8) - 1;
}

/* --- descriptors (desc.c) ------------------------------------------------------------ */
/* An entry of a descriptor table; `high` is the upper half of the long ones of long mode. */
struct desc {
	uint32_t lo, hi;
	uint64_t high;
	gva_t lin; /* where it lies */
};

enum {
	DT_TSS16 = 1,
	DT_LDT = 2,
	DT_TSS16_BUSY = 3,
	DT_CALL16 = 4,
	DT_TASK = 5,
	DT_INT16 = 6,
	DT_TRAP16 = 7,
	DT_TSS = 9,
	DT_TSS_BUSY = 11,
	DT_CALL = 12,
	DT_INT = 14,
	DT_TRAP = 15,
};

#define DESC_TYPE(d)       (((d)->hi >> 8) & 15)
#define DESC_S(d)          (((d)->hi >> 12) & 1)
#define DESC_DPL(d)        (((d)->hi >> 13) & 3)
#define DESC_P(d)          (((d)->hi >> 15) & 1)
#define DESC_L(d)          (((d)->hi >> 21) & 1)
#define DESC_D(d)          (((d)->hi >> 22) & 1)
#define DESC_CODE(d)       (DESC_S(d) && (DESC_TYPE(d) & 8))
#define DESC_CONFORMING(d) (DESC_TYPE(d) & 4) /* of code */
#define DESC_BUSY_BIT      BIT(9)

static inline uint32_t desc_base(const struct desc *d)
{
	return d->lo >> 16 | (d->hi & 0xff) << 16 | (d->hi & 0xff000000);
}
static inline uint32_t desc_limit(const struct desc *d)
{
	uint32_t limit = (d->lo & 0xffff) | (d->hi & 0xf0000);

	return d->hi & BIT(23) ? limit << 12 | 0xfff : limit;
}
static inline bool desc_writable_data(const struct desc *d)
{
	return DESC_S(d) && (DESC_TYPE(d) & 10) == 2;
}
/* Data, or code that may be read. */
static inline bool desc_readable(const struct desc *d)
{
	return DESC_S(d) && (DESC_TYPE(d) & 10) != 8;
}
/* Gates. */
static inline uint16_t gate_sel(const struct desc *d)
{
	return (uint16_t)(d->lo >> 16);
}
static inline uint64_t gate_offset(const struct desc *d)
{
	return (d->lo & 0xffff) | (d->hi & 0xffff0000) | d->high << 32;
}
static inline bool sel_null(uint16_t sel)
{
	return (sel & 0xfffc) == 0;
}

/* Read a selector's entry (8 bytes). Beyond the table, or no LDT: `vector`(sel | ext). */
bool desc_read(struct vcpu *cpu, uint16_t sel, struct desc *ret, enum vector vector, uint32_t ext);
/* Is there an entry? For LAR, LSL, VERR, VERW: *ret_found; false: fault of the access. */
bool desc_peek(struct vcpu *cpu, uint16_t sel, struct desc *ret, bool *ret_found);
/* The upper half of a 16-byte system descriptor; long mode only. Its type field must be 0. */
bool desc_read_high(struct vcpu *cpu, uint16_t sel, struct desc *d, enum vector vector,
		    uint32_t ext);
/* Write back the accessed bit of a code or data segment, if it is clear. */
bool desc_set_accessed(struct vcpu *cpu, struct desc *d);
/* Set or clear the busy bit of a TSS descriptor. */
bool desc_set_busy(struct vcpu *cpu, struct desc *d, bool busy);
/* The register's hidden part. `high` is used for system segments in long mode. */
void desc_to_segment(const struct desc *d, uint16_t sel, struct segment *ret);

/* Load checks (SDM 3A 5.4, 5.7); results go to *ret, cpu is not changed, accessed bits are set. */
bool seg_check_data(struct vcpu *cpu, uint16_t sel, struct segment *ret);
bool seg_check_stack(struct vcpu *cpu, uint16_t sel, unsigned cpl, struct segment *ret,
		     enum vector vector, uint32_t ext);
/* Real mode and virtual-8086. */
void seg_from_real(const struct vcpu *cpu, unsigned index, uint16_t sel, struct segment *ret);
/* What a null selector leaves in the register. */
void seg_from_null(const struct vcpu *cpu, unsigned index, uint16_t sel, struct segment *ret);
/* MOV, POP, LxS: all modes; CS is not allowed here. */
bool seg_prepare(struct vcpu *cpu, unsigned index, uint16_t sel, struct segment *ret);
/* Put it into the register, and what follows from it. True: blocks may depend on the change. */
bool seg_commit(struct vcpu *cpu, unsigned index, const struct segment *s);
/* After a change to a lesser privilege: data segments that are too privileged become null. */
void seg_drop_privileged(struct vcpu *cpu);

/* --- stacks (exec_sys_stack.c) ------------------------------------------------------- */
/*
 * A stack that pushes and pops are made on before anything is committed. `cpl` is the privilege of
 * the accesses, `vector`/`error` what a limit violation raises.
 */
struct stack {
	const struct segment *ss;
	uint64_t sp;
	uint64_t mask; /* of the stack pointer */
	unsigned cpl;
	bool flat;      /* 64-bit mode */
	bool implicit;  /* a change of privilege: supervisor access whatever the CPL is now */
	uint32_t error; /* of #SS */
};
/* The current stack. */
void stack_current(const struct vcpu *cpu, struct stack *ret);
bool stack_push(struct vcpu *cpu, struct stack *st, uint64_t v, unsigned size);
bool stack_pop(struct vcpu *cpu, struct stack *st, unsigned size, uint64_t *ret);
/* The new RSP: only the part that the stack's size has. */
uint64_t stack_merge_rsp(const struct vcpu *cpu, const struct stack *st);
/* SS and (R)SP of privilege `dpl` from the TSS; ist 1..7 in long mode. #TS. */
bool tss_stack(struct vcpu *cpu, unsigned dpl, unsigned ist, uint32_t ext, uint16_t *ret_ss,
	       uint64_t *ret_sp);

/* --- far transfers (exec_sys_far.c) -------------------------------------------------- */
/* A checked code segment, for CS of privilege `cpl`. */
void segment_for_cs(const struct desc *d, uint16_t sel, unsigned cpl, struct segment *ret);
/* Is `rip` a legal target in this code segment? Else #GP(ext). */
bool cs_target_check(struct vcpu *cpu, const struct segment *cs, uint64_t rip, uint32_t ext);

/* --- tasks (task.c) ------------------------------------------------------------------ */
enum task_reason { TASK_JMP, TASK_CALL, TASK_IRET, TASK_GATE };
/*
 * Switch to the task of a TSS selector. next_rip is saved in the old task. EXEC_FAULT: cpu->fault,
 * with cpu->rip set (that of the old task if nothing was changed yet, else the new one's).
 */
enum exec_result task_switch(struct vcpu *cpu, uint16_t sel, enum task_reason reason,
			     uint64_t next_rip, bool has_error, uint32_t error, uint32_t ext);

/* --- privileged state ---------------------------------------------------------------- */
/* CR0, CR4, EFER writes with all checks: false = #GP(0). (exec_sys_cr.c) */
bool cpu_set_cr0(struct vcpu *cpu, uint64_t v);
bool cpu_set_cr4(struct vcpu *cpu, uint64_t v);
bool cpu_set_efer(struct vcpu *cpu, uint64_t v);

/* --- who binds what ------------------------------------------------------------------ */
exec_fn *exec_sys_bind_seg(const struct insn *in);
exec_fn *exec_sys_bind_far(const struct insn *in);
exec_fn *exec_sys_bind_ret(const struct insn *in);
exec_fn *exec_sys_bind_fast(const struct insn *in);
exec_fn *exec_sys_bind_cr(const struct insn *in);
exec_fn *exec_sys_bind_io(const struct insn *in);
exec_fn *exec_sys_bind_flags(const struct insn *in);
exec_fn *exec_sys_bind_msr(const struct insn *in);
exec_fn *exec_sys_bind_misc(const struct insn *in);
