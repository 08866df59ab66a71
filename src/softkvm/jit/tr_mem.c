/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory operands: address, software TLB, the way out.
 *
 * The look-up is
 *
 *	lea operand, %r11
 *	rorx $7, %r11, %r10; and $index mask, %r10d; add tlb, %r10
 *	sub tag(%r10), %r11; cmp $4096 - size, %r11; ja rare
 *	add host(%r10), %r11
 *
 * One comparison covers a wrong page, missing rights and an operand that crosses the page's end.
 * The rare path restores the address (add tag(%r10), %r11) and asks C, which answers with a
 * host address, or has the interpreter run the instruction.
 */
#include "softkvm/jit/tr.h"

#include "softkvm/mmu/mmu.h"

static bool is_constant(const struct tr *t, const struct insn *in)
{
	return !(t->floats && (in->flags & INSN_RIPREL)) && in->base == GPR_ZERO &&
	       in->index == GPR_ZERO && in->seg != SEG_FS && in->seg != SEG_GS;
}

static uint64_t constant_address(const struct insn *in)
{
	return in->asz == 8 ? (uint64_t)in->disp : (uint32_t)in->disp;
}

void tr_address(struct tr *t, const struct insn *in)
{
	struct code *c = &t->c;
	bool w = in->asz == 8;
	unsigned base, index;

	if (in->index != GPR_ZERO) {
		index = tr_use(t, in->index, TMP_A);
		if (in->base == GPR_ZERO) {
			code_lea_index(c, w, TMP_B, index, in->scale, (int32_t)in->disp);
		} else {
			base = tr_use(t, in->base, TMP_B);
			code_lea_sib(c, w, TMP_B, base, index, in->scale, (int32_t)in->disp);
		}
	} else if (t->floats && (in->flags & INSN_RIPREL)) {
		tr_emit_rip(t, TMP_B, (uint64_t)in->disp);
		if (!w) {
			code_rr(c, false, 0x8b, TMP_B, TMP_B);
		}
	} else if (in->base == GPR_ZERO) {
		code_mov_imm(c, TMP_B, constant_address(in));
	} else {
		base = tr_use(t, in->base, TMP_B);
		if (in->disp != 0) {
			code_lea(c, w, TMP_B, base, (int32_t)in->disp);
		} else if (base != TMP_B || !w) {
			code_rr(c, w, 0x8b, TMP_B, base);
		}
	}
	if (in->seg == SEG_FS || in->seg == SEG_GS) {
		code_gs(c, true, 0x03, TMP_B, OFF(segbase) + 8u * in->seg); /* add */
	}
}

static struct rare *memory_rare(struct tr *t, enum rare_kind kind, unsigned size, bool write)
{
	struct rare *r = tr_rare(t, kind);

	r->tag = write ? offsetof(struct tlb_entry, wtag) : offsetof(struct tlb_entry, rtag);
	r->what = size | (write ? MEM_WRITE : 0);
	r->rip = tr_rip(t);
	r->home = t->home;
	return r;
}

/* TMP_A becomes the TLB entry of the address in TMP_B. */
void tr_emit_entry(const struct jit *jit, struct code *c)
{
	_Static_assert(sizeof(struct tlb_entry) == 32, "shift by 12 - 5");
	if (jit->bmi2) {
		code_bytes(c, "\xc4\x43\xfb\xf0\xd3\x07", 6); /* rorx $7, %r11, %r10 */
	} else {
		code_mov_rr(c, TMP_A, TMP_B);
		code_bytes(c, "\x49\xc1\xea\x07", 4); /* shr $7, %r10 */
	}
	code_alu_imm(c, false, 4, TMP_A, (TLB_ENTRIES - 1) * sizeof(struct tlb_entry));
	code_gs(c, true, 0x03, TMP_A, OFF(tlb));
}

static void look_up(struct tr *t, struct rare *r, unsigned size, unsigned align)
{
	struct code *c = &t->c;

	tr_emit_entry(t->jit, c);
	code_rm(c, true, 0x2b, TMP_B, TMP_A, r->tag);
	code_alu_imm(c, true, 7, TMP_B, (int32_t)(4096 - size));
	r->jump[0] = code_jcc_forward(c, CC_IS_A);
	if (align > 1) {
		r->what |= align << MEM_ALIGN_SHIFT;
		code_bytes(c, "\x41\xf6\xc3", 3); /* test $align - 1, %r11b */
		code_byte(c, align - 1);
		r->jump[1] = code_jcc_forward(c, CC_IS_NE);
	}
	code_rm(c, true, 0x03, TMP_B, TMP_A, offsetof(struct tlb_entry, host));
	r->back = c->p;
	t->mem_disp = 0;
	t->mem_index = -1;
}

/* The look-up by a routine: for code that is not hot, which is better short. */
static bool probe_call(struct tr *t, unsigned size, bool write)
{
	unsigned log = (unsigned)__builtin_ctz(size);
	uint64_t rip = tr_rip(t);
	struct code *c = &t->c;

	if (t->page->hot || (size & (size - 1)) || log >= JIT_PROBES ||
	    (int64_t)rip != (int32_t)rip) {
		return false;
	}
	code_call(c, t->jit->glue.probe[write][log]);
	code_byte(c, 0xa9);
	code_u32(c, (uint32_t)rip);
	t->mem_disp = 0;
	t->mem_index = -1;
	return true;
}

void tr_probe(struct tr *t, unsigned size, bool write, unsigned align)
{
	if (align <= 1 && probe_call(t, size, write)) {
		return;
	}

	look_up(t, memory_rare(t, RARE_MEMORY, size, write), size, align);
}

struct rare *tr_probe_window(struct tr *t, unsigned size, bool write)
{
	struct rare *r = memory_rare(t, RARE_WINDOW, size, write);

	look_up(t, r, size, 1);
	return r;
}

void tr_op_operand(struct tr *t, bool w, unsigned op, unsigned reg)
{
	struct code *c = &t->c;

	code_rex(c, w, reg, t->mem_index < 0 ? 0 : (unsigned)t->mem_index, TMP_B);
	code_byte(c, op);
	tr_emit_operand(t, reg);
}

void tr_emit_operand(struct tr *t, unsigned reg)
{
	bool small = t->mem_disp >= -128 && t->mem_disp <= 127;
	struct code *c = &t->c;

	if (t->mem_index < 0) {
		code_base(c, reg, TMP_B, t->mem_disp);
		return;
	}
	code_byte(c, (small ? 0x40 : 0x80) | (reg & 7) << 3 | 4);
	code_byte(c, ((unsigned)t->mem_index & 7) << 3 | (TMP_B & 7));
	if (small) {
		code_byte(c, (uint8_t)t->mem_disp);
	} else {
		code_u32(c, (uint32_t)t->mem_disp);
	}
}

/* An address known now: its entry's place is, too. */
static void probe_constant(struct tr *t, uint64_t lin, unsigned size, bool write)
{
	struct rare *r = memory_rare(t, RARE_CONSTANT, size, write);
	int32_t entry = (int32_t)((lin >> 12 & (TLB_ENTRIES - 1)) * sizeof(struct tlb_entry));
	struct code *c = &t->c;

	r->target = lin;
	code_load_gs(c, TMP_A, OFF(tlb));
	code_mov_imm(c, TMP_B, lin & ~4095ull);
	code_rm(c, true, 0x39, TMP_B, TMP_A, entry + r->tag);
	r->jump[0] = code_jcc_forward(c, CC_IS_NE);
	code_rm(c, true, 0x8b, TMP_B, TMP_A, entry + (int32_t)offsetof(struct tlb_entry, host));
	r->back = c->p;
	t->mem_disp = lin & 4095;
	t->mem_index = -1;
}

void tr_operand(struct tr *t, const struct insn *in, unsigned size, bool write, unsigned align)
{
	uint64_t lin = constant_address(in);

	if (tr_window_operand(t, 0)) {
		return;
	}

	if (is_constant(t, in) && (lin & 4095) + size <= 4096 && (align <= 1 || lin % align == 0)) {
		probe_constant(t, lin, size, write);
		return;
	}
	tr_address(t, in);
	tr_probe(t, size, write, align);
}

void tr_rare_memory(struct tr *t, const struct rare *r)
{
	struct code *c = &t->c;

	if (r->kind == RARE_MEMORY) {
		code_rm(c, true, 0x03, TMP_B, TMP_A, r->tag); /* the address again */
	} else {
		code_mov_imm(c, TMP_B, r->target);
	}
	code_mov_imm(c, TMP_A, r->what);
	code_call(c, t->jit->glue.memory);
	if (r->kind == RARE_CONSTANT && (r->target & 4095) != 0) {
		/* the site's address must follow the call by a fixed distance: jump over it */
		code_byte(c, 0xeb);
		code_byte(c, 8);
		code_u64(c, r->rip);
		code_lea(c, true, TMP_B, TMP_B, -(int32_t)(r->target & 4095));
		code_jmp(c, r->back + c->to_rx);
		return;
	}
	code_byte(c, 0xeb);
	code_byte(c, 8);
	code_u64(c, r->rip);
	code_jmp(c, r->back + c->to_rx);
}
