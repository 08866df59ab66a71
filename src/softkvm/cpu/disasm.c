/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text of instructions, by the operand letters of their rows.
 */
#include "softkvm/cpu/disasm.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/rows.h"

struct text {
	char *buf;
	size_t size, len; /* len counts what did not fit, too */
};

static __attribute__((format(printf, 2, 3))) void put(struct text *t, const char *fmt, ...)
{
	size_t room = t->len < t->size ? t->size - t->len : 0;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(room ? t->buf + t->len : NULL, room, fmt, ap);
	va_end(ap);
	t->len += n > 0 ? (size_t)n : 0;
}

/* --- registers ------------------------------------------------------------------------------ */
static const char *const seg_names[] = { "es", "cs", "ss", "ds", "fs", "gs" };

/* A general register by number; for bytes by index into the register file (insn.h). */
static void put_gpr(struct text *t, unsigned reg, unsigned size)
{
	static const char *const old[] = { "ax", "cx", "dx", "bx", "sp", "bp", "si", "di" };
	unsigned n = size == 1 ? reg / 8 : reg;
	bool high = size == 1 && (reg & 1);

	if (n >= 8) {
		put(t, "r%u%s", n, size == 1 ? "b" : size == 2 ? "w" : size == 4 ? "d" : "");
	} else if (size == 1 && n < 4) {
		put(t, "%c%c", old[n][0], high ? 'h' : 'l');
	} else if (size == 1) {
		put(t, "%sl", old[n]);
	} else {
		put(t, "%s%s", size == 8 ? "r" : size == 4 ? "e" : "", old[n]);
	}
}

static void put_vec(struct text *t, unsigned reg, unsigned size)
{
	put(t, "%cmm%u", size == 32 ? 'y' : 'x', reg);
}

/* --- memory ------------------------------------------------------------------------------------
 */
static void put_mem_size(struct text *t, unsigned size)
{
	switch (size) {
	case 1:
		put(t, "byte ptr ");
		break;
	case 2:
		put(t, "word ptr ");
		break;
	case 4:
		put(t, "dword ptr ");
		break;
	case 6:
		put(t, "fword ptr ");
		break;
	case 8:
		put(t, "qword ptr ");
		break;
	case 10:
		put(t, "tbyte ptr ");
		break;
	case 16:
		put(t, "xmmword ptr ");
		break;
	case 32:
		put(t, "ymmword ptr ");
		break;
	default:
		break;
	}
}

static void put_disp(struct text *t, int64_t disp, bool alone, unsigned asz)
{
	if (alone) {
		uint64_t mask = asz == 8 ? UINT64_MAX : asz == 4 ? UINT32_MAX : UINT16_MAX;

		put(t, "0x%" PRIx64, (uint64_t)disp & mask);
	} else if (disp) {
		put(t, "%c0x%" PRIx64, disp < 0 ? '-' : '+',
		    disp < 0 ? -(uint64_t)disp : (uint64_t)disp);
	}
}

static void put_mem(struct text *t, const struct insn *in)
{
	bool base = in->base != GPR_ZERO, index = in->index != GPR_ZERO;

	put_mem_size(t, in->mem_size);
	if (in->flags & INSN_SEGOVR) {
		put(t, "%s:", seg_names[in->seg]);
	}
	put(t, "[");
	if (base) {
		put_gpr(t, in->base, in->asz);
	}
	if (index) {
		put(t, base ? "+" : "");
		if (in->flags & INSN_VSIB) {
			put_vec(t, in->index, in->flags & INSN_VEXL ? 32 : 16);
		} else {
			put_gpr(t, in->index, in->asz);
		}
		if (in->scale) {
			put(t, "*%u", 1u << in->scale);
		}
	}
	put_disp(t, in->disp, !base && !index, in->asz);
	put(t, "]");
}

/* --- operands ----------------------------------------------------------------------------------
 */
static void put_imm(struct text *t, const struct insn *in, const struct opnd_info *o, unsigned nth,
		    unsigned size)
{
	uint64_t v = in->op == OP_ENTER && nth ? in->imm2 : in->imm;
	unsigned bytes = o->kind == OK_IMMS ? MAX(in->osz, size) : size;
	uint64_t mask = bytes >= 8 ? UINT64_MAX : BIT64(bytes * 8) - 1;

	put(t, "0x%" PRIx64, v & mask);
}

static void put_operand(struct text *t, const struct insn *in, enum insn_mode mode, unsigned nth,
			enum opnd operand)
{
	const struct opnd_info *o = &opnd_infos[operand];
	unsigned size = opnd_size_bytes(o->reg_size, in, mode);
	bool mem = in->flags & INSN_MEM;

	switch ((enum opnd_kind)o->kind) {
	case OK_M:
	case OK_OFF:
	case OK_VSIB:
		put_mem(t, in);
		break;
	case OK_E:
	case OK_R:
		mem ? put_mem(t, in) : put_gpr(t, in->rm, size);
		break;
	case OK_W:
	case OK_U:
		mem ? put_mem(t, in) : put_vec(t, in->rm, size);
		break;
	case OK_Q:
	case OK_N:
		mem ? put_mem(t, in) : put(t, "mm%u", in->rm);
		break;
	case OK_G:
	case OK_Z:
		put_gpr(t, in->reg, size);
		break;
	case OK_B:
		put_gpr(t, in->vvvv, size);
		break;
	case OK_V:
		put_vec(t, in->reg, size);
		break;
	case OK_H:
		put_vec(t, in->vvvv, size);
		break;
	case OK_L:
		put_vec(t, in->is4, size);
		break;
	case OK_P:
		put(t, "mm%u", in->reg);
		break;
	case OK_ACC:
		put_gpr(t, 0, size);
		break;
	case OK_CL:
		put(t, "cl");
		break;
	case OK_DX:
		put(t, "dx");
		break;
	case OK_ONE:
		put(t, "1");
		break;
	case OK_IMM:
	case OK_IMMS:
		put_imm(t, in, o, nth, size);
		break;
	case OK_REL:
		put(t, "0x%" PRIx64, in->imm);
		break;
	case OK_FAR:
		put(t, "0x%x:0x%" PRIx64, in->imm2, in->imm);
		break;
	case OK_X:
		put_mem_size(t, in->mem_size);
		put(t, "%s:[", seg_names[in->seg]);
		put_gpr(t, RSI, in->asz);
		put(t, "]");
		break;
	case OK_Y:
		put_mem_size(t, in->mem_size);
		put(t, "es:[");
		put_gpr(t, RDI, in->asz);
		put(t, "]");
		break;
	case OK_S:
	case OK_SEG:
		put(t, "%s", seg_names[in->reg]);
		break;
	case OK_CR:
		put(t, "cr%u", in->reg);
		break;
	case OK_DR:
		put(t, "dr%u", in->reg);
		break;
	case OK_ST0:
		put(t, "st");
		break;
	case OK_STI:
		put(t, "st(%u)", in->rm);
		break;
	case OK_NONE:
	case OK_COUNT:
		break;
	}
}

unsigned insn_format(const struct insn *in, enum insn_mode mode, char *buf, size_t size)
{
	struct text t = { .buf = buf, .size = size };
	struct row_ref ref = row_get(in->row);

	if (size) {
		buf[0] = '\0';
	}
	put(&t, "%s%s%s", in->flags & INSN_LOCK ? "lock " : "",
	    in->flags & INSN_REP     ? "rep "
	    : in->flags & INSN_REPNE ? "repne "
				     : "",
	    op_mnemonic(in->op));
	for (unsigned i = 0; i < 4 && ref.row && ref.row->opnd[i] != OPND_NONE; i++) {
		put(&t, i ? ", " : " ");
		put_operand(&t, in, mode, i, ref.row->opnd[i]);
	}
	return (unsigned)t.len;
}

unsigned insn_disassemble(const uint8_t *bytes, unsigned avail, uint64_t rip, enum insn_mode mode,
			  char *buf, size_t size)
{
	struct insn in;
	int len = insn_decode(bytes, avail, rip, mode, &in);

	if (len < 0) {
		snprintf(buf, size, "(bad)");
		return 1;
	}
	insn_format(&in, mode, buf, size);
	return (unsigned)len;
}
