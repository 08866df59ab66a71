/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest instructions encoded anew, with the host's registers (SDM 2A chapter 2). The
 * opcode row says what each field means, so one function does for nearly all of them.
 */
#include "softkvm/cpu/ops.h"
#include "softkvm/cpu/simd_int.h"
#include "softkvm/jit/tr.h"

struct planner {
	struct recode *r;
	bool mem, ok;
};

/* A general register's host number; one that lives in memory gets a scratch register. */
static uint8_t plan_gpr(struct planner *p, unsigned guest)
{
	int host = tr_host(guest);
	struct recode *r = p->r;

	if (host >= 0) {
		return (uint8_t)host;
	}
	for (unsigned i = 0; i < r->homed; i++) {
		if (r->home[i].guest == guest) {
			return r->home[i].tmp;
		}
	}
	if (r->homed == (p->mem ? 1u : 2u)) { /* TMP_B holds the operand's address */
		p->ok = false;
		return 0;
	}
	r->home[r->homed].guest = (uint8_t)guest;
	r->home[r->homed].tmp = r->homed == 0 ? TMP_A : TMP_B;
	return r->home[r->homed++].tmp;
}

/* `number` as struct insn has it: a byte index for bytes. */
static uint8_t plan_operand(struct planner *p, unsigned number, bool byte)
{
	uint8_t host;

	if (!byte) {
		return plan_gpr(p, number);
	}
	if (number & 1) { /* AH, CH, DH, BH: encoded as 4..7, without REX */
		p->r->no_rex = true;
		return (uint8_t)(4 + (number >> 3));
	}
	host = plan_gpr(p, number >> 3);
	p->r->byte_rex |= host >= 4;
	return host;
}

static void plan_field(struct planner *p, const struct insn *in, enum opnd opnd)
{
	const struct opnd_info *o = &opnd_infos[opnd];
	bool byte = o->reg_size == OS_B;
	struct recode *r = p->r;

	switch ((enum opnd_kind)o->kind) {
	case OK_G:
		r->reg = plan_operand(p, in->reg, byte);
		break;
	case OK_V:
	case OK_P:
		r->reg = in->reg;
		break;
	case OK_E:
		if (!p->mem) {
			r->rm = plan_operand(p, in->rm, byte);
		}
		break;
	case OK_R:
		r->rm = plan_operand(p, in->rm, byte);
		break;
	case OK_Z:
		r->rm = plan_operand(p, in->reg, byte);
		break;
	case OK_W:
	case OK_U:
	case OK_Q:
	case OK_N:
	case OK_STI:
		r->rm = in->rm;
		break;
	case OK_B:
		r->vvvv = plan_gpr(p, in->vvvv);
		break;
	case OK_H:
		r->vvvv = in->vvvv;
		break;
	default:
		break;
	}
}

bool recode_plan(const struct insn *in, struct recode *ret)
{
	struct planner p = { .r = ret, .mem = in->flags & INSN_MEM, .ok = true };

	memset(ret, 0, sizeof(*ret));
	ret->row = simd_row(in);
	if (!ret->row) {
		return false;
	}
	for (unsigned i = 0; i < 4; i++) {
		plan_field(&p, in, ret->row->opnd[i]);
	}
	if (p.mem) {
		ret->rm = TMP_B;
	}
	if (ret->no_rex) {
		bool rex = p.mem || ret->byte_rex || (in->flags & INSN_REXW) || ret->reg >= 8 ||
			   ret->rm >= 8;

		return p.ok && !rex;
	}
	return p.ok;
}

/* --- emission ------------------------------------------------------------------------------- */

static bool has_modrm(const struct insn *in, const struct row *row)
{
	unsigned table = in->flags & INSN_VEX ? ROW_VEX + in->map : in->map;

	return (row->kinds & KINDS_MODRM) || row_tables[table][in->opcode].split != SPLIT_NONE;
}

static void emit_legacy(struct code *c, const struct insn *in, const struct recode *r, bool modrm,
			unsigned opcode, unsigned index)
{
	unsigned pp = r->row->flags & ROW_PP_MASK;
	bool w = in->flags & INSN_REXW;
	unsigned rex =
		(unsigned)w << 3 | (modrm ? (r->reg >> 3) << 2 : 0) | index >> 3 << 1 | r->rm >> 3;

	if (in->flags & INSN_OSZ) {
		code_byte(c, 0x66);
	}
	if (pp == ROW_PP_F3 || pp == ROW_PP_F2) {
		code_byte(c, pp == ROW_PP_F3 ? 0xf3 : 0xf2);
	}
	if (in->flags & INSN_LOCK) {
		code_byte(c, 0xf0);
	}
	if (rex || r->byte_rex) {
		code_byte(c, 0x40 | rex);
	}
	if (in->map != 0) {
		code_byte(c, 0x0f);
	}
	if (in->map >= 2) {
		code_byte(c, in->map == 2 ? 0x38 : 0x3a);
	}
	code_byte(c, opcode);
}

static void emit_vex(struct code *c, const struct insn *in, const struct recode *r, unsigned index)
{
	bool uses_vvvv = r->row->kinds & KINDS_VVVV;
	unsigned vvvv = uses_vvvv ? r->vvvv : 0;

	code_byte(c, 0xc4);
	code_byte(c, (r->reg & 8 ? 0 : 0x80) | (index & 8 ? 0 : 0x40) | (r->rm & 8 ? 0 : 0x20) |
			     in->map);
	code_byte(c, (in->flags & INSN_REXW ? 0x80 : 0) | (~vvvv & 15) << 3 |
			     (in->flags & INSN_VEXL ? 4 : 0) | in->pp);
	code_byte(c, in->opcode);
}

static unsigned reg_field(const struct insn *in, const struct recode *r)
{
	const uint64_t kinds = BIT64(OK_G) | BIT64(OK_V) | BIT64(OK_P);

	if (r->row->kinds & BIT64(OK_OFF)) {
		return RAX;
	}
	return r->row->kinds & kinds ? r->reg & 7u : (in->modrm >> 3) & 7u;
}

static unsigned rm_field(const struct insn *in, const struct recode *r)
{
	const uint64_t kinds = KINDS_EITHER | KINDS_REG_ONLY | BIT64(OK_Z);

	return r->row->kinds & kinds ? r->rm & 7u : in->modrm & 7u;
}

static void emit_immediates(struct code *c, const struct insn *in, const struct row *row,
			    enum insn_mode mode)
{
	for (unsigned i = 0; i < 4; i++) {
		const struct opnd_info *o = &opnd_infos[row->opnd[i]];
		unsigned size = 0;

		if (o->kind == OK_IMM || o->kind == OK_IMMS) {
			size = opnd_size_bytes(o->mem_size, in, mode);
		} else if (o->kind == OK_L) {
			size = 1;
		}
		if (o->kind == OK_L && (mode & MODE_SIZE) != MODE_64) {
			code_byte(c, in->imm & 0x7f); /* there are eight registers only */
			continue;
		}
		for (unsigned k = 0; k < size; k++) {
			code_byte(c, in->imm >> (8 * k));
		}
	}
}

void recode_emit(struct tr *t, const struct insn *in, const struct recode *r)
{
	enum insn_mode mode = t->block->key & KEY_MODE;
	unsigned opcode = in->opcode;
	struct code *c = &t->c;
	unsigned index = (in->flags & INSN_MEM) && t->mem_index >= 0 ? (unsigned)t->mem_index : 0;
	bool modrm = has_modrm(in, r->row), mem = in->flags & INSN_MEM, short_inc = false;

	if (r->row->kinds & BIT64(OK_OFF)) {
		static const uint8_t twin[4] = { 0x8a, 0x8b, 0x88, 0x89 };

		opcode = twin[opcode & 3];
		modrm = true;
	} else if (in->map == 0 && (opcode & 0xf0) == 0x40 && !(in->flags & INSN_VEX)) {
		short_inc = true; /* INC, DEC of 32-bit code; in 64-bit code that is REX */
	} else if (in->map == 0 && opcode == 0x82 && !(in->flags & INSN_VEX)) {
		opcode = 0x80; /* the same, but in 64-bit code */
	} else if ((r->row->kinds & BIT64(OK_Z)) && !modrm) {
		opcode = (opcode & ~7u) | (r->rm & 7u);
	}
	if (in->flags & INSN_VEX) {
		emit_vex(c, in, r, index);
	} else {
		emit_legacy(c, in, r, modrm, short_inc ? 0xff : opcode, index);
	}
	if (short_inc) {
		code_byte(c, 0xc0 | (opcode & 8) | (r->rm & 7u));
	} else if (modrm && mem) {
		tr_emit_operand(t, reg_field(in, r));
	} else if (modrm) {
		code_byte(c, 0xc0 | reg_field(in, r) << 3 | rm_field(in, r));
	}
	emit_immediates(c, in, r->row, mode);
}
