/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoder.
 *
 * Theory of operation: prefixes are gathered (read_prefixes), then the opcode
 * chooses a table and a set of rows (read_opcode, read_vex), the first row that fits prefix,
 * ModRM, W, L and mode is taken (match), and its operand letters say what else the instruction
 * has (read_modrm, read_operand). Every step reads through fetch(), which notes the first byte
 * that is missing; the result then is DECODE_NEED_MORE or DECODE_TOO_LONG, whatever was found
 * out before: a processor fetches an instruction before it judges it.
 */
#include "softkvm/cpu/decode.h"

#include "softkvm/cpu/rows.h"

struct dec {
	const uint8_t *bytes;
	unsigned avail, pos;
	bool missing; /* fetch() ran over the end */
	bool m64, lock;
	uint8_t size;     /* MODE_16, MODE_32, MODE_64 */
	uint8_t rex, rep; /* rep: F2, F3 or 0, the last one seen */
	bool opsize, vex, rexw;
	uint8_t vvvv;  /* as encoded: inverted */
	uint8_t table; /* index of row_tables */
	uint8_t seg_override;
	enum insn_mode mode;
	uint64_t rip;
};

static inline uint8_t fetch(struct dec *d)
{
	if (unlikely(d->pos >= d->avail)) {
		d->missing = true;
		return 0;
	}
	return d->bytes[d->pos++];
}

static inline uint8_t peek(struct dec *d)
{
	if (unlikely(d->pos >= d->avail)) {
		d->missing = true;
		return 0;
	}
	return d->bytes[d->pos];
}

/* A little-endian number of 1, 2, 4 or 8 bytes. */
static uint64_t fetch_num(struct dec *d, unsigned size, bool sign)
{
	uint64_t v = 0;
	unsigned shift = 64 - 8 * size;

	if (unlikely(d->avail - d->pos < size)) {
		d->missing = true;
		return 0;
	}
	switch (size) {
	case 1:
		v = d->bytes[d->pos];
		break;
	case 2:
		v = load_le16(d->bytes + d->pos);
		break;
	case 4:
		v = load_le32(d->bytes + d->pos);
		break;
	default:
		v = load_le64(d->bytes + d->pos);
		break;
	}
	d->pos += size;
	return sign ? (uint64_t)((int64_t)(v << shift) >> shift) : v;
}

/* 64-bit mode: FS and GS only, the others are as if not there. */
static void note_segment(struct dec *d, uint8_t seg)
{
	if (!d->m64 || seg >= SEG_FS) {
		d->seg_override = seg;
	}
}

/* All prefixes; returns the byte behind them. A REX counts only directly before the opcode. */
static uint8_t read_prefixes(struct dec *d, struct insn *in)
{
	for (;;) {
		uint8_t b = fetch(d);

		if (d->m64 && (b & 0xf0) == 0x40) {
			d->rex = b;
			continue;
		}
		switch (b) {
		case 0x26:
			note_segment(d, SEG_ES);
			break;
		case 0x2e:
			note_segment(d, SEG_CS);
			break;
		case 0x36:
			note_segment(d, SEG_SS);
			break;
		case 0x3e:
			note_segment(d, SEG_DS);
			break;
		case 0x64:
			note_segment(d, SEG_FS);
			break;
		case 0x65:
			note_segment(d, SEG_GS);
			break;
		case 0x66:
			d->opsize = true;
			break;
		case 0x67:
			in->flags |= INSN_ASZ;
			break;
		case 0xf0:
			d->lock = true;
			break;
		case 0xf2:
		case 0xf3:
			d->rep = b;
			break;
		default:
			return b;
		}
		d->rex = 0;
	}
}

/* C5 or C4 was read and is a VEX prefix. False: #UD. (SDM 2A 2.3.5) */
static bool read_vex(struct dec *d, struct insn *in, uint8_t first)
{
	uint8_t b1 = fetch(d), b2 = b1, map = 1;
	bool legacy_prefix = d->lock || d->opsize || d->rep || d->rex;

	d->rex = 0x40 | (b1 & 0x80 ? 0 : 4);
	if (first == 0xc4) {
		b2 = fetch(d);
		map = b1 & 31;
		d->rex |= (b1 & 0x40 ? 0 : 2) | (b1 & 0x20 ? 0 : 1) | (b2 & 0x80 ? 8 : 0);
	}
	if (!d->m64) {
		d->rex &= 0x48; /* only W means something: there are eight registers */
	}
	d->vex = true;
	d->rexw = d->rex & 8;
	d->vvvv = (b2 >> 3) & 15;
	in->flags |= INSN_VEX | (b2 & 4 ? INSN_VEXL : 0);
	in->pp = b2 & 3;
	d->table = ROW_VEX + map;
	in->map = map;
	in->opcode = fetch(d);
	return !legacy_prefix && map >= 1 && map <= 3;
}

static bool is_vex(struct dec *d, uint8_t b)
{
	return (b == 0xc4 || b == 0xc5) &&
	       (d->m64 || (!(d->mode & MODE_REAL) && (peek(d) & 0xc0) == 0xc0));
}

static bool read_opcode(struct dec *d, struct insn *in)
{
	uint8_t b = read_prefixes(d, in);

	if (unlikely(is_vex(d, b))) {
		return read_vex(d, in, b);
	}
	if (b == 0x0f) {
		b = fetch(d);
		in->map = 1;
		if (b == 0x38 || b == 0x3a) {
			in->map = b == 0x38 ? 2 : 3;
			b = fetch(d);
		}
	}
	d->table = in->map;
	d->rexw = d->rex & 8;
	in->opcode = b;
	in->pp = d->rep ? (d->rep == 0xf3 ? 2 : 3) : d->opsize;
	return true;
}

static bool prefix_fits(uint64_t flags, uint8_t pp)
{
	unsigned want = flags & ROW_PP_MASK;

	return want == ROW_PP_ANY || want == pp + 1u || (want == ROW_PP_N66 && pp <= 1);
}

static bool width_fits(const struct dec *d, const struct insn *in, uint64_t flags)
{
	const uint64_t any = ROW_W0 | ROW_W1 | ROW_WY0 | ROW_WY1 | ROW_L0 | ROW_L1 | ROW_NOREXB;
	bool wy = d->rexw && d->m64, l = in->flags & INSN_VEXL;

	if (!(flags & any)) {
		return true;
	}
	return !(((flags & ROW_W0) && d->rexw) || ((flags & ROW_W1) && !d->rexw) ||
		 ((flags & ROW_WY0) && wy) || ((flags & ROW_WY1) && !wy) ||
		 ((flags & ROW_L0) && l) || ((flags & ROW_L1) && !l) ||
		 ((flags & ROW_NOREXB) && (d->rex & 1)));
}

static bool mode_fits(const struct dec *d, uint64_t flags)
{
	return !(flags & (d->m64 ? ROW_NO64 : ROW_ONLY64)) &&
	       !((flags & ROW_NOREAL) && (d->mode & MODE_REAL));
}

static bool form_fits(const struct row *r, uint8_t modrm)
{
	uint64_t wrong = modrm >= 0xc0 ? KINDS_MEM_ONLY : KINDS_REG_ONLY;

	return !(r->kinds & wrong) || (r->flags & ROW_MODANY);
}

/* The row of this opcode and ModRM (peeked at, still to be fetched); NULL: #UD. */
static const struct row *match(struct dec *d, const struct insn *in)
{
	const struct row_set *set = &row_tables[d->table][in->opcode];
	uint8_t modrm = 0;

	if (set->split != SPLIT_NONE) {
		modrm = peek(d);
		set = &set->sub[set->split == SPLIT_FULL && modrm >= 0xc0 ? 8 + (modrm & 63)
									  : (modrm >> 3) & 7];
	}
	if (!set->rows) {
		return NULL;
	}
	if (set->rows->kinds & KINDS_MODRM) {
		modrm = peek(d);
	}
	for (const struct row *r = set->rows; r->op != OP_NONE; r++) {
		if (prefix_fits(r->flags, in->pp) && form_fits(r, modrm) &&
		    width_fits(d, in, r->flags) && mode_fits(d, r->flags)) {
			return r;
		}
	}
	return NULL;
}

static void set_sizes(const struct dec *d, struct insn *in, uint64_t flags)
{
	bool asz = in->flags & INSN_ASZ;

	switch (d->size) {
	case MODE_64:
		in->asz = asz ? 4 : 8;
		in->osz = (flags & ROW_FORCE64) || d->rexw ? 8
			  : d->opsize                      ? 2
			  : flags & ROW_DEF64              ? 8
							   : 4;
		break;
	case MODE_32:
		in->asz = asz ? 2 : 4;
		in->osz = d->opsize ? 2 : 4;
		break;
	default:
		in->asz = asz ? 4 : 2;
		in->osz = d->opsize ? 4 : 2;
		break;
	}
}

/* 16-bit address forms (SDM 2A table 2-1). */
static void read_mem16(struct dec *d, struct insn *in, unsigned mod, unsigned rm)
{
	static const struct {
		uint8_t base, index, seg;
	} forms[8] = {
		{ RBX, RSI, SEG_DS },      { RBX, RDI, SEG_DS },      { RBP, RSI, SEG_SS },
		{ RBP, RDI, SEG_SS },      { RSI, GPR_ZERO, SEG_DS }, { RDI, GPR_ZERO, SEG_DS },
		{ RBP, GPR_ZERO, SEG_SS }, { RBX, GPR_ZERO, SEG_DS },
	};

	if (mod == 0 && rm == 6) {
		in->disp = (int64_t)fetch_num(d, 2, true);
		return;
	}
	in->base = forms[rm].base;
	in->index = forms[rm].index;
	in->seg = forms[rm].seg;
	if (mod) {
		in->disp = (int64_t)fetch_num(d, mod == 1 ? 1 : 2, true);
	}
}

/* 32- and 64-bit forms (tables 2-2, 2-3). False: #UD, a vector index without SIB. */
static bool read_mem32(struct dec *d, struct insn *in, unsigned mod, unsigned rm, bool vsib)
{
	unsigned base = rm;
	bool sib = rm == 4;

	if (sib) {
		uint8_t b = fetch(d);
		unsigned index = ((b >> 3) & 7) | (d->rex & 2 ? 8 : 0);

		base = b & 7;
		in->scale = b >> 6;
		in->index = vsib || index != 4 ? index : GPR_ZERO;
		if (in->index == GPR_ZERO) {
			in->scale = 0;
		}
	}
	if (vsib) {
		in->flags |= INSN_VSIB;
	}
	if (mod == 0 && base == 5) {
		in->disp = (int64_t)fetch_num(d, 4, true);
		if (d->m64 && !sib) {
			in->flags |= INSN_RIPREL; /* made absolute when the length is known */
		}
		return sib || !vsib;
	}
	in->base = base | (d->rex & 1 ? 8 : 0);
	if (in->base == RSP || in->base == RBP) {
		in->seg = SEG_SS;
	}
	if (mod) {
		in->disp = (int64_t)fetch_num(d, mod == 1 ? 1 : 4, true);
	}
	return sib || !vsib;
}

static bool read_modrm(struct dec *d, struct insn *in, const struct row *r)
{
	unsigned mod, rm;
	bool vsib = r->kinds & BIT64(OK_VSIB);

	in->modrm = fetch(d);
	mod = in->modrm >> 6;
	rm = in->modrm & 7;
	in->reg = ((in->modrm >> 3) & 7) | (d->rex & 4 ? 8 : 0);
	if (mod == 3 || (r->flags & ROW_MODANY)) {
		in->rm = rm | (d->rex & 1 ? 8 : 0);
		return true;
	}
	in->flags |= INSN_MEM;
	if (in->asz == 2) {
		read_mem16(d, in, mod, rm);
		return !vsib;
	}
	return read_mem32(d, in, mod, rm, vsib);
}

/* A byte register's place in the register file: AH, CH, DH, BH without any REX. */
static uint8_t byte_reg(const struct insn *in, unsigned n)
{
	return n >= 4 && n < 8 && !(in->flags & INSN_REX) ? (n - 4) * 8 + 1 : n * 8;
}

static bool system_reg_valid(const struct insn *in, enum opnd_kind kind)
{
	switch (kind) {
	case OK_S:
		return in->reg <= SEG_GS && !(in->op == OP_MOV_TO_SREG && in->reg == SEG_CS);
	case OK_CR:
		return in->reg == 0 || (in->reg >= 2 && in->reg <= 4) || in->reg == 8;
	default:
		return in->reg < 8;
	}
}

static void read_branch(struct dec *d, struct insn *in, unsigned size)
{
	uint64_t rel = fetch_num(d, size, true), target = d->rip + d->pos + rel;

	in->imm = in->osz == 8 ? target : in->osz == 4 ? (uint32_t)target : (uint16_t)target;
}

static void read_immediate(struct dec *d, struct insn *in, unsigned nth, unsigned size, bool sign)
{
	uint64_t v = fetch_num(d, size, sign);

	if (nth) {
		in->imm2 = (uint16_t)v; /* ENTER's second one */
	} else {
		in->imm = v;
	}
}

/* Fill in what one operand letter asks for. False: #UD. */
static bool read_operand(struct dec *d, struct insn *in, unsigned nth, enum opnd operand)
{
	const struct opnd_info *o = &opnd_infos[operand];
	bool byte = o->reg_size == OS_B, mem = in->flags & INSN_MEM;

	switch ((enum opnd_kind)o->kind) {
	case OK_E:
	case OK_M:
	case OK_W:
	case OK_Q:
	case OK_VSIB:
		if (mem) {
			in->mem_size = opnd_size_bytes(o->mem_size, in, d->mode);
			break;
		}
		/* fall through */
	case OK_R:
		if (o->kind == OK_Q) {
			in->rm &= 7;
		} else if (byte && o->kind == OK_E) {
			in->rm = byte_reg(in, in->rm);
		}
		break;
	case OK_N:
	case OK_STI:
		in->rm &= 7;
		break;
	case OK_P:
		in->reg &= 7;
		break;
	case OK_G:
		if (byte) {
			in->reg = byte_reg(in, in->reg);
		}
		break;
	case OK_Z:
		in->reg = (in->opcode & 7) | (d->rex & 1 ? 8 : 0);
		in->reg = in->rm = byte ? byte_reg(in, in->reg) : in->reg;
		break;
	case OK_ACC:
		in->rm = RAX;
		break;
	case OK_OFF:
		in->flags |= INSN_MEM;
		in->disp = (int64_t)fetch_num(d, in->asz, false);
		in->mem_size = opnd_size_bytes(o->mem_size, in, d->mode);
		break;
	case OK_SEG:
		in->reg = operand - OPND_ES;
		break;
	case OK_S:
		in->reg &= 7; /* fall through */
	case OK_CR:
	case OK_DR:
		return system_reg_valid(in, o->kind);
	case OK_REL:
		read_branch(d, in, opnd_size_bytes(o->mem_size, in, d->mode));
		break;
	case OK_FAR:
		in->imm = fetch_num(d, in->osz, false);
		in->imm2 = (uint16_t)fetch_num(d, 2, false);
		break;
	case OK_IMM:
	case OK_IMMS:
		read_immediate(d, in, nth == 1 && in->op == OP_ENTER,
			       opnd_size_bytes(o->mem_size, in, d->mode), o->kind == OK_IMMS);
		break;
	case OK_L:
		in->imm = fetch(d);
		in->is4 = (in->imm >> 4) & (d->m64 ? 15 : 7);
		break;
	case OK_X:
	case OK_Y:
		in->mem_size = opnd_size_bytes(o->mem_size, in, d->mode);
		break;
	default:
		break;
	}
	return true;
}

/* The operand size as the letters narrow it: bytes, 32 bits at most for ports, W alone for y. */
static void adjust_osz(const struct dec *d, struct insn *in, const struct row *r)
{
	const uint64_t general = BIT64(OK_E) | BIT64(OK_G) | BIT64(OK_Z) | BIT64(OK_ACC) |
				 BIT64(OK_X) | BIT64(OK_Y) | BIT64(OK_OFF);
	const struct opnd_info *o = &opnd_infos[r->opnd[0]];

	if (!((general | BIT64(OK_R) | BIT64(OK_B) | BIT64(OK_CR) | BIT64(OK_DR) | BIT64(OK_V) |
	       BIT64(OK_M)) &
	      BIT64(o->kind))) {
		o = &opnd_infos[r->opnd[1]];
	} else if (o->reg_size == OS_Y && opnd_infos[r->opnd[1]].reg_size == OS_V) {
		return; /* CRC32 */
	} else if (o->kind == OK_V) {
		o = &opnd_infos[r->kinds & BIT64(OK_H) ? r->opnd[2] : r->opnd[1]];
	}
	if (o->reg_size == OS_B && (general & BIT64(o->kind))) {
		in->osz = 1;
	} else if (o->reg_size == OS_Z && in->osz == 8 && o->kind != OK_E) {
		in->osz = 4;
	} else if (o->reg_size == OS_Y) {
		in->osz = d->rexw && d->m64 ? 8 : 4;
	} else if (o->reg_size == OS_M64) {
		in->osz = d->m64 ? 8 : 4;
	}
}

static bool read_operands(struct dec *d, struct insn *in, const struct row *r)
{
	for (unsigned i = 0; i < 4 && r->opnd[i] != OPND_NONE; i++) {
		if (!read_operand(d, in, i, r->opnd[i])) {
			return false;
		}
	}
	return true;
}

/* vvvv holds a register, or must be 1111. */
static bool set_vvvv(const struct dec *d, struct insn *in, const struct row *r)
{
	if (!d->vex) {
		return true;
	}
	if (!(r->kinds & KINDS_VVVV)) {
		return d->vvvv == 15;
	}
	in->vvvv = (d->vvvv ^ 15) & (d->m64 ? 15 : 7);
	return true;
}

static void set_segment(const struct dec *d, struct insn *in)
{
	const unsigned flat = BIT(SEG_ES) | BIT(SEG_SS) | BIT(SEG_DS);

	if (d->seg_override != SEG_NONE) {
		in->seg = d->seg_override;
		in->flags |= INSN_SEGOVR;
	}
	if (d->m64 || ((d->mode & (MODE_FLAT | MODE_REAL)) == MODE_FLAT && in->asz == 4 &&
		       (flat & BIT(in->seg)))) {
		in->flags |= INSN_FLAT;
	}
}

static void set_flags(const struct dec *d, struct insn *in, const struct row *r)
{
	in->flags |= (d->opsize ? INSN_OSZ : 0) | (d->rexw ? INSN_REXW : 0) |
		     (d->lock ? INSN_LOCK : 0) | (r->flags & ROW_ENDS ? INSN_ENDS : 0);
	if (d->rep && (r->flags & ROW_REP)) {
		in->flags |= d->rep == 0xf3 ? INSN_REP : INSN_REPNE;
	}
}

/* Checks that need the operands. */
static bool operands_legal(const struct dec *d, const struct insn *in, const struct row *r)
{
	if (d->lock && !((r->flags & ROW_LOCK) && (in->flags & INSN_MEM))) {
		return false;
	}
	if (r->flags & ROW_DISTINCT) {
		return in->reg != in->index && in->reg != in->vvvv && in->index != in->vvvv;
	}
	return true;
}

static bool decode_row(struct dec *d, struct insn *in, const struct row *r)
{
	bool ok;

	in->row = r->id;
	in->op = r->op;
	set_sizes(d, in, r->flags);
	ok = set_vvvv(d, in, r);
	if ((r->kinds & KINDS_MODRM) || row_tables[d->table][in->opcode].split != SPLIT_NONE) {
		ok = read_modrm(d, in, r) && ok;
	}
	set_flags(d, in, r);
	adjust_osz(d, in, r);
	ok = read_operands(d, in, r) && ok;
	set_segment(d, in);
	if (in->flags & INSN_RIPREL) {
		in->disp += (int64_t)(d->rip + d->pos);
	}
	return ok && operands_legal(d, in, r);
}

int insn_decode(const uint8_t *bytes, unsigned avail, uint64_t rip, enum insn_mode mode,
		struct insn *out)
{
	struct dec d = {
		.bytes = bytes,
		.avail = MIN(avail, INSN_BYTES_MAX),
		.rip = rip,
		.mode = mode,
		.size = mode & MODE_SIZE,
		.m64 = (mode & MODE_SIZE) == MODE_64,
		.seg_override = SEG_NONE,
	};
	const struct row *r;
	bool ok;

	memset(out, 0, sizeof(*out));
	out->base = out->index = GPR_ZERO;
	out->seg = SEG_DS;
	ok = read_opcode(&d, out);
	if (d.rex && !d.vex) {
		out->flags |= INSN_REX;
	}
	r = ok && !d.missing ? match(&d, out) : NULL;
	ok = r && !d.missing && decode_row(&d, out, r);
	if (d.missing) {
		return avail >= INSN_BYTES_MAX ? DECODE_TOO_LONG : DECODE_NEED_MORE;
	}
	out->len = d.pos;
	return ok ? (int)d.pos : DECODE_UD;
}
