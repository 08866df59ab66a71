/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IN, OUT, INS, OUTS with the TSS's permission bitmap (SDM 1 chapter 19). */
#include "softkvm/cpu/debug.h"
#include "softkvm/cpu/exec_sys_int.h"

#define TSS_IO_BASE 102u
#define TSS_IO_MIN  103u  /* lowest limit of a TSS that has the field */
#define REP_BYTES   4096u /* at most in one exit: the data page */

/* --- permission ---------------------------------------------------------------------- */
static bool bitmap_allows(struct vcpu *cpu, uint16_t port, unsigned size)
{
	const struct segment *tr = &cpu->tr;
	uint16_t map, bits;
	uint32_t off;

	if (tr->unusable || !(tr->type & 8) || tr->limit < TSS_IO_MIN) {
		return cpu_raise(cpu, EX_GP, 0);
	}
	if (!mmu_sys_load(cpu, tr->base + TSS_IO_BASE, &map, 2)) {
		return false;
	}
	off = (uint32_t)map + port / 8u;
	if (off + 1 > tr->limit) {
		return cpu_raise(cpu, EX_GP, 0);
	}
	if (!mmu_sys_load(cpu, tr->base + off, &bits, 2)) {
		return false;
	}
	bits = (uint16_t)(bits >> (port % 8));
	return !(bits & (BIT(size) - 1)) || cpu_raise(cpu, EX_GP, 0);
}

static bool io_allowed(struct vcpu *cpu, uint16_t port, unsigned size)
{
	if (!cpu_pe(cpu) || (cpu->cpl <= cpu_iopl(cpu) && !cpu_v86(cpu))) {
		return true;
	}
	return bitmap_allows(cpu, port, size);
}

/* --- IN and OUT ---------------------------------------------------------------------- */
/* The forms with DX have bit 3 of the opcode set, those with an immediate have not. */
static uint16_t port_of(const struct vcpu *cpu, const struct insn *in)
{
	return in->opcode & 8 ? (uint16_t)cpu->gpr[RDX] : (uint8_t)in->imm;
}

static enum exec_result op_in(struct vcpu *cpu, const struct insn *in)
{
	uint16_t port = port_of(cpu, in);
	uint32_t v = 0;

	if (!io_allowed(cpu, port, in->osz) || !io_port_in(cpu, port, &v, in->osz)) {
		return exec_abort(cpu, in);
	}
	reg_store(cpu, RAX, v, in->osz);
	return exec_next(cpu, in);
}

static enum exec_result op_out(struct vcpu *cpu, const struct insn *in)
{
	uint16_t port = port_of(cpu, in);
	uint32_t v = (uint32_t)cpu->gpr[RAX];

	if (!io_allowed(cpu, port, in->osz) || !io_port_out(cpu, port, &v, in->osz)) {
		return exec_abort(cpu, in);
	}
	return exec_next(cpu, in);
}

/* --- INS and OUTS -------------------------------------------------------------------- */
static void reg_add(struct vcpu *cpu, const struct insn *in, unsigned reg, int64_t n)
{
	reg_store(cpu, reg, cpu->gpr[reg] + (uint64_t)n, in->asz);
}

static bool repeats(const struct insn *in)
{
	return in->flags & (INSN_REP | INSN_REPNE);
}

/* Move the registers on by `count` elements and leave: repeated forms come back for more. */
static enum exec_result advance(struct vcpu *cpu, const struct insn *in, unsigned reg,
				unsigned count)
{
	int64_t step = cpu->rflags & FL_DF ? -(int64_t)in->osz : in->osz;

	reg_add(cpu, in, reg, step * count);
	if (!repeats(in)) {
		return exec_next(cpu, in);
	}
	reg_add(cpu, in, RCX, -(int64_t)count);
	if (reg_load(cpu, RCX, in->asz) == 0) {
		return exec_end(cpu, in);
	}
	cpu->rip = insn_rip(cpu, in);
	return EXEC_END;
}

/*
 * How many elements can go at once: upwards, within the page of `lin` and the segment
 * (flat ones only), and no debugger that wants each one.
 */
static unsigned batch(const struct vcpu *cpu, const struct insn *in, unsigned seg, gva_t lin)
{
	uint64_t left = reg_load(cpu, RCX, in->asz);
	bool flat = cpu_64bit(cpu) || (cpu->key & KEY_MODE & MODE_FLAT && seg < SEG_FS);
	uint64_t fits = (REP_BYTES - (lin & (REP_BYTES - 1))) / in->osz;

	if (!repeats(in) || !flat || (cpu->rflags & FL_DF) || debug_must_step(cpu) ||
	    (cpu_dr7(cpu) & 0xff) || in->asz == 2 || (in->asz == 4 && cpu_64bit(cpu))) {
		return 1;
	}
	return (unsigned)MAX(MIN(left, fits), 1u);
}

/* A copy of a batch between guest memory, within one page, and a buffer. */
static bool copy_in(struct vcpu *cpu, gva_t lin, const uint8_t *buf, unsigned size, unsigned count)
{
	for (unsigned i = 0; i < count; i++, lin += size, buf += size) {
		bool ok = size == 4   ? mmu_store(cpu, lin, buf, 4)
			  : size == 2 ? mmu_store(cpu, lin, buf, 2)
				      : mmu_store(cpu, lin, buf, 1);
		if (!ok) {
			return false;
		}
	}
	return true;
}

static bool copy_out(struct vcpu *cpu, gva_t lin, uint8_t *buf, unsigned size, unsigned count)
{
	for (unsigned i = 0; i < count; i++, lin += size, buf += size) {
		bool ok = size == 4   ? mmu_load(cpu, lin, buf, 4)
			  : size == 2 ? mmu_load(cpu, lin, buf, 2)
				      : mmu_load(cpu, lin, buf, 1);
		if (!ok) {
			return false;
		}
	}
	return true;
}

static enum exec_result op_ins(struct vcpu *cpu, const struct insn *in)
{
	uint16_t port = (uint16_t)cpu->gpr[RDX];
	uint8_t buf[REP_BYTES];
	unsigned count;
	gva_t lin;
	bool ok;

	if (!io_allowed(cpu, port, in->osz)) {
		return exec_abort(cpu, in);
	}
	if (repeats(in) && reg_load(cpu, RCX, in->asz) == 0) {
		return exec_next(cpu, in);
	}
	if (!seg_linear(cpu, SEG_ES, reg_load(cpu, RDI, in->asz), in->osz, ACC_WRITE, &lin)) {
		return exec_abort(cpu, in);
	}
	count = batch(cpu, in, SEG_ES, lin);
	if (!mmu_probe(cpu, lin, in->osz * count, ACC_WRITE)) {
		return exec_abort(cpu, in);
	}
	ok = count > 1 ? io_port_in_rep(cpu, port, buf, in->osz, count)
		       : io_port_in(cpu, port, buf, in->osz);
	if (!ok || !copy_in(cpu, lin, buf, in->osz, count)) {
		return exec_abort(cpu, in);
	}
	return advance(cpu, in, RDI, count);
}

static enum exec_result op_outs(struct vcpu *cpu, const struct insn *in)
{
	uint16_t port = (uint16_t)cpu->gpr[RDX];
	uint8_t buf[REP_BYTES];
	unsigned count;
	gva_t lin;
	bool ok;

	if (!io_allowed(cpu, port, in->osz)) {
		return exec_abort(cpu, in);
	}
	if (repeats(in) && reg_load(cpu, RCX, in->asz) == 0) {
		return exec_next(cpu, in);
	}
	if (!seg_linear(cpu, in->seg, reg_load(cpu, RSI, in->asz), in->osz, ACC_READ, &lin)) {
		return exec_abort(cpu, in);
	}
	count = batch(cpu, in, in->seg, lin);
	if (!copy_out(cpu, lin, buf, in->osz, count)) {
		return exec_abort(cpu, in);
	}
	ok = count > 1 ? io_port_out_rep(cpu, port, buf, in->osz, count)
		       : io_port_out(cpu, port, buf, in->osz);
	return ok ? advance(cpu, in, RSI, count) : exec_abort(cpu, in);
}

exec_fn *exec_sys_bind_io(const struct insn *in)
{
	switch (in->op) {
	case OP_IN:
		return op_in;
	case OP_OUT:
		return op_out;
	case OP_INS:
		return op_ins;
	case OP_OUTS:
		return op_outs;
	default:
		return NULL;
	}
}
