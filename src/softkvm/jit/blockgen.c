/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The generator of blockcase.h. */
#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/simd_int.h"
#include "softkvm/jit/blockcase.h"

enum { FIXUPS_MAX = 64, MARKS_MAX = 16, HLT = 0xf4 };

/* A field that can be filled in when the program is whole. */
struct fixup {
	unsigned at;   /* four bytes */
	bool relative; /* a displacement, else an address */
	bool mark;     /* of a mark's immediate, else of the item behind `item` */
	bool alias;
	unsigned item;
};

struct gen {
	struct dt_rng r;
	struct bc_program *p;
	unsigned at; /* where the next byte goes */
	struct fixup fixup[FIXUPS_MAX];
	unsigned fixups;
	unsigned mark[MARKS_MAX]; /* offsets of immediates that may be patched */
	unsigned marks;
	bool patches; /* a program that is mostly about changing itself */
};

/* --- bytes ----------------------------------------------------------------------------------- */

static void put(struct gen *g, unsigned b)
{
	if (g->at < BC_CODE_BYTES - 1) {
		g->p->code[g->at++] = (uint8_t)b;
	}
}

static void put32(struct gen *g, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++) {
		put(g, v >> 8 * i);
	}
}

static void put_bytes(struct gen *g, const uint8_t *bytes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		put(g, bytes[i]);
	}
}

/* ModRM and displacement of an absolute address. */
static void put_absolute(struct gen *g, unsigned reg, uint32_t address)
{
	if (g->p->m32) {
		put(g, reg << 3 | 5);
	} else {
		put(g, reg << 3 | 4);
		put(g, 0x25);
	}
	put32(g, address);
}

static void put_fixup(struct gen *g, struct fixup f)
{
	f.at = g->at;
	if (g->fixups < FIXUPS_MAX) {
		g->fixup[g->fixups++] = f;
	}
	put32(g, 0);
}

/* An item some way on, mostly near. */
static unsigned item_ahead(struct gen *g)
{
	return g->p->items + 1 + dt_below(&g->r, dt_chance(&g->r, 80) ? 3 : 12);
}

static unsigned random_reg(struct gen *g)
{
	unsigned reg = dt_below(&g->r, g->p->m32 ? 8 : 16);

	return reg == RSP ? RAX : reg;
}

/* mov $v, reg */
static void put_mov(struct gen *g, unsigned reg, uint64_t v)
{
	bool wide = v > UINT32_MAX && !g->p->m32;

	if (wide || reg >= 8) {
		put(g, 0x40 | (wide ? 8 : 0) | reg >> 3);
	}
	put(g, 0xb8 | (reg & 7));
	put32(g, (uint32_t)v);
	if (wide) {
		put32(g, (uint32_t)(v >> 32));
	}
}

static void put_stack(struct gen *g, unsigned percent)
{
	if (dt_chance(&g->r, percent)) {
		put_mov(g, RSP, BC_STACK + 0x400 + dt_below(&g->r, 0x180) * 8);
	}
}

/* --- instructions of the rows ---------------------------------------------------------------- */

static bool row_usable(struct gen *g, unsigned row)
{
	struct row_ref ref = row_get(row);

	if (dt_row_excluded(&ref) || (ref.row->kinds & BIT64(OK_REL))) {
		return false;
	}
	switch (ref.row->op) {
	case OP_CALL:
	case OP_JMP:
	case OP_RET:
	case OP_UD0:
	case OP_UD1:
	case OP_UD2:
		return false;
	case OP_LDMXCSR: /* these unmask exceptions, and little works afterwards */
	case OP_VLDMXCSR:
	case OP_FLDCW:
	case OP_FLDENV:
	case OP_FRSTOR:
	case OP_FXRSTOR:
	case OP_XRSTOR:
		return dt_chance(&g->r, 10);
	default:
		return true;
	}
}

static unsigned random_row(struct gen *g)
{
	enum op_group want = dt_chance(&g->r, 65)   ? OPG_INT
			     : dt_chance(&g->r, 70) ? OPG_SIMD
						    : OPG_X87;

	for (;;) {
		unsigned row = dt_below(&g->r, rows_count());

		if (op_group(row_get(row).row->op) == want && row_usable(g, row)) {
			return row;
		}
	}
}

static void put_base(struct gen *g, const struct dt_case *c, unsigned reg)
{
	if (reg < 16) {
		put_mov(g, reg, c->in.gpr[reg]);
	}
}

/* Let registers point to where the case wants them, mostly. */
static void put_registers(struct gen *g, const struct dt_case *c, const struct insn *in)
{
	if ((in->flags & INSN_MEM) && dt_chance(&g->r, 85)) {
		put_base(g, c, in->base);
		put_base(g, c, in->flags & INSN_VSIB ? 16 : in->index);
	}
	switch (in->op) {
	case OP_MOVS:
	case OP_CMPS:
	case OP_STOS:
	case OP_LODS:
	case OP_SCAS:
	case OP_MASKMOVQ:
	case OP_MASKMOVDQU:
	case OP_VMASKMOVDQU:
		put_mov(g, RSI, c->in.gpr[RSI]);
		put_mov(g, RDI, c->in.gpr[RDI]);
		put_mov(g, RCX, c->in.gpr[RCX]);
		break;
	case OP_XLAT:
		put_mov(g, RBX, c->in.gpr[RBX]);
		break;
	case OP_PUSH:
	case OP_POP:
	case OP_PUSHA:
	case OP_POPA:
	case OP_ENTER:
		put_stack(g, 50);
		break;
	case OP_LEAVE:
		put_mov(g, RBP, c->in.gpr[RBP]);
		break;
	default:
		break;
	}
}

/* The displacement of a RIP-relative operand, for where the instruction lies now. */
static void move_relative(struct gen *g, struct dt_case *c, const struct insn *in)
{
	uint32_t old = (uint32_t)((uint64_t)in->disp - (c->in.rip + in->len));

	for (unsigned i = in->len - 4u; i > 0; i--) {
		if (load_le32(c->code + i) == old) {
			store_le32(c->code + i,
				   (uint32_t)((uint64_t)in->disp - (DT_CODE + g->at + in->len)));
			return;
		}
	}
}

/* And the interpreter and the host leave others. */
static bool leaves_flags_undefined(unsigned op)
{
	switch (op) {
	case OP_DIV:
	case OP_IDIV:
	case OP_MUL:
	case OP_IMUL1:
	case OP_IMUL2:
	case OP_IMUL3:
	case OP_TZCNT:
	case OP_LZCNT:
		return true;
	default:
		return false;
	}
}

static void put_case(struct gen *g, struct dt_case *c, const struct insn *in)
{
	put_registers(g, c, in);
	if (in->flags & INSN_RIPREL) {
		move_relative(g, c, in);
	}
	if (c->code[0] == 0x65 && dt_chance(&g->r, 50)) {
		c->code[0] = 0x64; /* both bases are the same */
	}
	put_bytes(g, c->code, in->len);
	if (leaves_flags_undefined(in->op)) {
		put(g, 0x3c); /* cmp $imm, %al */
		put(g, (unsigned)dt_random(&g->r));
	}
}

static void item_row(struct gen *g)
{
	enum insn_mode mode = g->p->m32 ? MODE_32 | MODE_FLAT : MODE_64;
	static struct dt_case c;
	struct insn in;

	for (;;) {
		dt_make_case(&g->r, random_row(g), &c);
		if (c.m32 == g->p->m32 &&
		    insn_decode(c.code, sizeof(c.code) - 1, c.in.rip, mode, &in) > 0 &&
		    op_group(in.op) != OPG_SYS) {
			put_case(g, &c, &in);
			return;
		}
	}
}

/* --- flags and the stack --------------------------------------------------------------------- */

/* Flags become a register, or come from one. */
static void item_flags(struct gen *g)
{
	unsigned reg = dt_below(&g->r, 8);

	reg = reg == RSP ? RAX : reg;
	switch (dt_below(&g->r, 4)) {
	case 0:
		put_stack(g, 80);
		put(g, 0x9c); /* pushf */
		put(g, 0x58 | reg);
		break;
	case 1:
		put_stack(g, 80);
		put_mov(g, reg, 0x202 | (dt_random(&g->r) & (FL_ARITH | FL_DF)));
		put(g, 0x50 | reg);
		put(g, 0x9d); /* popf */
		break;
	case 2:
		put(g, 0x9f); /* lahf */
		break;
	default:
		put(g, 0x0f); /* setcc */
		put(g, 0x90 | dt_below(&g->r, 16));
		put(g, 0xc0 | dt_below(&g->r, 8));
		break;
	}
}

/* --- control flow ---------------------------------------------------------------------------- */

static void item_forward(struct gen *g)
{
	unsigned ahead = item_ahead(g);

	switch (dt_below(&g->r, 8)) {
	case 0:
		put(g, 0xe9);
		break;
	case 1: /* jrcxz over a jump that is thus taken for most values */
		put_bytes(g, (const uint8_t *)"\xe3\x05\xe9", 3);
		break;
	case 2:
		put_mov(g, RCX, dt_below(&g->r, 3));
		put_bytes(g, (const uint8_t *)"\xe2\x02\xeb\x05\xe9",
			  5); /* loop 1f; jmp 2f; 1: jmp */
		break;
	default:
		put(g, 0x0f);
		put(g, 0x80 | dt_below(&g->r, 16));
		break;
	}
	put_fixup(g, (struct fixup){ .relative = true, .item = ahead });
}

static void item_backward(struct gen *g)
{
	unsigned n = g->p->items, back = 1 + dt_below(&g->r, MIN(n, 8u));

	put(g, 0xff);
	put_absolute(g, 1, (uint32_t)BC_COUNTER); /* decl counter */
	put(g, 0x78);                             /* js over */
	if (dt_chance(&g->r, 30)) {
		put(g, 5);
		put(g, 0xe9);
	} else {
		put(g, 6);
		put(g, 0x0f);
		put(g, 0x80 | dt_below(&g->r, 16));
	}
	put_fixup(g, (struct fixup){ .relative = true, .item = n - back });
}

static void put_modrm_reg(struct gen *g, unsigned ext, unsigned reg)
{
	if (reg >= 8) {
		put(g, 0x41);
	}
	put(g, 0xff);
	put(g, 0xc0 | ext << 3 | (reg & 7));
}

static void item_computed(struct gen *g)
{
	unsigned reg = random_reg(g), ahead = item_ahead(g);

	if (reg >= 8) {
		put(g, 0x41);
	}
	put(g, 0xb8 | (reg & 7));
	put_fixup(g, (struct fixup){ .item = ahead });
	put_stack(g, 80);
	switch (dt_below(&g->r, 4)) {
	case 0:
		put_modrm_reg(g, 4, reg); /* jmp *reg */
		break;
	case 1:
		put_modrm_reg(g, 2, reg); /* call *reg */
		break;
	case 2: /* push reg; ret */
		put_modrm_reg(g, 6, reg);
		put(g, 0xc3);
		break;
	default: /* push reg; pop it again; jmp *-8(rsp) */
		put_modrm_reg(g, 6, reg);
		if (reg >= 8) {
			put(g, 0x41);
		}
		put(g, 0x58 | (reg & 7));
		put_bytes(g, (const uint8_t *)"\xff\x64\x24", 3);
		put(g, g->p->m32 ? 0xfc : 0xf8);
		break;
	}
}

/* A function in the way, jumped over, and called. */
static void item_call(struct gen *g)
{
	unsigned over, entry, n = 1 + dt_below(&g->r, 3);

	put(g, 0xe9);
	over = g->at;
	put32(g, 0);
	entry = g->at;
	for (unsigned i = 0; i < n; i++) {
		item_row(g);
	}
	if (dt_chance(&g->r, 80)) {
		put(g, 0xc3);
	} else {
		put_bytes(g, (const uint8_t *)"\xc2\x08\x00", 3);
	}
	store_le32(g->p->code + over, g->at - (over + 4));
	put_stack(g, 90);
	put(g, 0xe8);
	put32(g, entry - (g->at + 4));
}

/* --- code that is changed --------------------------------------------------------------------- */

static void item_mark(struct gen *g)
{
	put(g, 0xb8 | dt_below(&g->r, 4)); /* mov $imm, reg */
	if (g->marks < MARKS_MAX) {
		g->mark[g->marks++] = g->at;
	}
	put32(g, (uint32_t)dt_random(&g->r));
}

/* ModRM of an operand in some mark's immediate. */
static void put_marked(struct gen *g, unsigned reg)
{
	if (g->p->m32) {
		put(g, reg << 3 | 5);
	} else {
		put(g, reg << 3 | 4);
		put(g, 0x25);
	}
	put_fixup(g, (struct fixup){ .mark = true, .alias = dt_chance(&g->r, 40) });
}

static void item_patch(struct gen *g)
{
	switch (dt_below(&g->r, 7)) {
	case 0:
		put(g, 0xc6); /* movb $imm, */
		put_marked(g, 0);
		put(g, (unsigned)dt_random(&g->r));
		break;
	case 1:
		put(g, 0x01); /* add %eax, */
		put_marked(g, RAX);
		break;
	case 2:
		put_bytes(g, (const uint8_t *)"\xf0\x0f\xc1", 3); /* lock xadd %edx, */
		put_marked(g, RDX);
		break;
	case 3:
		put(g, 0x87); /* xchg %ecx, */
		put_marked(g, RCX);
		break;
	case 4:
		put_bytes(g, (const uint8_t *)"\x66\x0f\x7e", 3); /* movd %xmm1, */
		put_marked(g, 1);
		break;
	case 5: /* rep stosb */
		put(g, 0xbf);
		put_fixup(g, (struct fixup){ .mark = true, .alias = dt_chance(&g->r, 40) });
		put_mov(g, RCX, 1 + dt_below(&g->r, 4));
		put_bytes(g, (const uint8_t *)"\xfc\xf3\xaa", 3);
		break;
	default:
		put(g, 0x89); /* mov %eax, */
		put_marked(g, RAX);
		break;
	}
}

/* --- the whole -------------------------------------------------------------------------------- */

static void put_item(struct gen *g)
{
	unsigned kind = dt_below(&g->r, 100);

	if (g->patches && dt_chance(&g->r, 60)) {
		kind = dt_chance(&g->r, 20) ? 75 : dt_chance(&g->r, 50) ? 91 : 99;
	}
	if (kind < 52) {
		item_row(g);
	} else if (kind < 62) {
		item_flags(g);
	} else if (kind < 74) {
		item_forward(g);
	} else if (kind < 81 && g->p->items > 0) {
		item_backward(g);
	} else if (kind < 86) {
		item_computed(g);
	} else if (kind < 91) {
		item_call(g);
	} else if (kind < 96) {
		item_mark(g);
	} else {
		item_patch(g);
	}
}

static unsigned item_offset(const struct bc_program *p, unsigned item)
{
	return item < p->items ? p->item[item].start : p->end;
}

static void fix(struct gen *g, const struct fixup *f)
{
	struct bc_program *p = g->p;
	unsigned to;

	if (!f->mark) {
		to = item_offset(p, f->item);
	} else if (g->marks) {
		to = g->mark[dt_below(&g->r, g->marks)];
	} else {
		store_le32(p->code + f->at, DT_WINDOW + 0x100);
		return;
	}
	store_le32(p->code + f->at, f->relative ? to - (f->at + 4)
				    : f->alias  ? (uint32_t)BC_ALIAS + to
						: (uint32_t)DT_CODE + to);
}

void bc_generate(uint64_t seed, struct bc_program *p)
{
	struct gen g = { .r = { seed * 0x9e3779b97f4a7c15ull | 1 }, .p = p };
	static struct dt_case first;
	unsigned items;

	memset(p, 0, sizeof(*p));
	memset(p->code, HLT, sizeof(p->code));
	dt_random(&g.r);
	p->m32 = dt_chance(&g.r, 15);
	g.patches = dt_chance(&g.r, 15);
	items = 2 + dt_below(&g.r, dt_chance(&g.r, 70) ? 14 : 40);
	dt_make_case(&g.r, 0, &first);
	p->in = first.in;
	if (!dt_chance(&g.r, 10)) { /* all exceptions masked, mostly */
		store_le16(p->in.xsave + FXS_FCW, load_le16(p->in.xsave + FXS_FCW) | FCW_MASKS);
		store_le16(p->in.xsave + FXS_FSW,
			   load_le16(p->in.xsave + FXS_FSW) & ~(FSW_ES | FSW_BUSY));
		store_le32(p->in.xsave + FXS_MXCSR,
			   load_le32(p->in.xsave + FXS_MXCSR) | MXCSR_MASKS);
	}
	/* near a page's end now and then */
	p->start = g.at =
		dt_chance(&g.r, 40) ? DT_PAGE - dt_below(&g.r, 200) : dt_below(&g.r, 2 * DT_PAGE);
	p->in.rip = DT_CODE + p->start;
	while (p->items < items && g.at < BC_CODE_BYTES - 512) {
		unsigned start = g.at;

		put_item(&g);
		p->item[p->items].start = start;
		p->item[p->items++].end = g.at;
	}
	p->end = g.at;
	for (unsigned i = 0; i < g.fixups; i++) {
		fix(&g, &g.fixup[i]);
	}
}
