/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strings of elements (MOVS, STOS) and of bits (BT and its kin with a register as index).
 *
 * The host's own instruction does the work, on host addresses that take the place of the guest's
 * while it runs. A repeated one is done so if it goes upwards, does something, and stays on one
 * page (of either operand); else the handler does it, in pieces.
 */
#include "softkvm/cpu/ops.h"
#include "softkvm/jit/tr.h"

static unsigned log2_size(unsigned size)
{
	return (unsigned)__builtin_ctz(size);
}

/* Jump away unless RCX elements from `reg` on lie on one page. */
static uint8_t *check_page(struct tr *t, unsigned reg, unsigned size)
{
	struct code *c = &t->c;

	code_lea_sib(c, true, TMP_B, reg, RCX, log2_size(size), -1);
	code_rr(c, true, 0x33, TMP_B, reg);
	code_bytes(c, "\x49\xc1\xeb\x0c", 4); /* shr $12, %r11 */
	return code_jcc_forward(c, CC_IS_NE);
}

static bool fits(const struct tr *t)
{
	const struct insn *in = tr_insn(t);

	return t->m64 && in->asz == 8 &&
	       (in->op == OP_STOS || (in->seg != SEG_FS && in->seg != SEG_GS));
}

static void emit_string(struct code *c, const struct insn *in, bool rep)
{
	if (in->osz == 2) {
		code_byte(c, 0x66);
	}
	if (rep) {
		code_byte(c, 0xf3);
	}
	code_rex(c, in->osz == 8, 0, 0, 0);
	code_byte(c, (in->op == OP_MOVS ? 0xa4 : 0xaa) | (in->osz > 1));
}

/* RDI becomes the host's address, that in TMP_B; TMP_A says how to come back. */
static void swap_destination(struct code *c)
{
	code_mov_rr(c, TMP_A, RDI);
	code_rr(c, true, 0x2b, TMP_A, TMP_B);
	code_mov_rr(c, RDI, TMP_B);
}

/* The same for RSI, jit.tmp[1] and TMP_B. */
static void swap_source(struct code *c)
{
	code_load_gs(c, TMP_B, OFF(jit.tmp[1]));
	code_rr(c, true, 0x87, TMP_B, RSI); /* xchg */
	code_rr(c, true, 0x2b, TMP_B, RSI);
}

void tr_string(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	bool rep = in->flags & (INSN_REP | INSN_REPNE), moves = in->op == OP_MOVS;
	unsigned size = rep ? 1 : in->osz;
	struct rare *down, *far = NULL;
	struct code *c = &t->c;
	struct jit_call *call;

	if (!fits(t)) {
		tr_handler(t);
		return;
	}
	call = tr_call_record(t);
	tr_flags_clobber(t, t->live_in[t->i]);
	down = tr_to_handler(t, call);
	code_bytes(c, "\x65\xf7\x04\x25", 4); /* testl $DF, rflags */
	code_u32(c, OFF(rflags));
	code_u32(c, FL_DF);
	down->jump[0] = code_jcc_forward(c, CC_IS_NE);
	if (rep) {
		code_lea(c, true, TMP_B, RCX, -1);
		code_alu_imm(c, true, 7, TMP_B, (int32_t)(4096 / in->osz - 1));
		down->jump[1] = code_jcc_forward(c, CC_IS_A);
		far = tr_to_handler(t, call);
		far->jump[0] = check_page(t, RDI, in->osz);
		far->jump[1] = moves ? check_page(t, RSI, in->osz) : NULL;
	}
	if (moves) {
		code_mov_rr(c, TMP_B, RSI);
		tr_probe(t, size, false, 1);
		code_store_gs(c, TMP_B, OFF(jit.tmp[1]));
	}
	code_mov_rr(c, TMP_B, RDI);
	tr_probe(t, size, true, 1);
	swap_destination(c);
	if (moves) {
		swap_source(c);
	}
	emit_string(c, in, rep);
	code_rr(c, true, 0x03, RDI, TMP_A);
	if (moves) {
		code_rr(c, true, 0x03, RSI, TMP_B);
	}
	down->back = c->p;
	if (far) {
		far->back = c->p;
	}
}

/* --- bits ------------------------------------------------------------------------------------- */

/* How far from the operand's address the bit's word lies, to TMP_A. Changes flags. */
static void bit_offset(struct tr *t, const struct insn *in)
{
	unsigned index = tr_use(t, in->reg, TMP_A);
	struct code *c = &t->c;

	code_rr(c, true, in->osz == 8 ? 0x8b : 0x63, TMP_A, index); /* mov, movslq */
	code_bytes(c, "\x49\xc1\xfa", 3);                           /* sar, %r10 */
	code_byte(c, in->osz == 8 ? 6 : 5);
	code_bytes(c, "\x49\xc1\xe2", 3); /* shl, %r10 */
	code_byte(c, in->osz == 8 ? 3 : 2);
}

/*
 * The word that holds the bit is looked up; then the host's instruction with the same index gets an
 * address from which it reaches that word.
 */
void tr_bits(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	struct code *c = &t->c;
	unsigned index;

	if (!t->m64 || in->asz != 8 || in->osz < 4) {
		tr_handler(t);
		return;
	}
	tr_flags_clobber(t, t->live_in[t->i]);
	tr_address(t, in);
	bit_offset(t, in);
	code_rr(c, true, 0x03, TMP_B, TMP_A);
	tr_probe(t, in->osz, in->op != OP_BT, 1);
	bit_offset(t, in);
	code_rr(c, true, 0x2b, TMP_B, TMP_A);
	if (t->live_out[t->i] & ~t->fx[t->i].writes) {
		tr_flags_to_host(t, TMP_A);
	}
	index = tr_use(t, in->reg, TMP_A);
	if (in->flags & INSN_LOCK) {
		code_byte(c, 0xf0);
	}
	code_rex(c, in->osz == 8, index, 0, TMP_B);
	code_byte(c, 0x0f);
	code_byte(c, in->opcode);
	code_base(c, index, TMP_B, 0);
	t->home = HOME_HOST;
}
