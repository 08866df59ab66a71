/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions that do not branch.
 *
 * Nothing of the guest's state changes before the last check that may leave the block, so that the
 * interpreter can start the instruction over.
 */
#include "softkvm/cpu/bind.h"
#include "softkvm/cpu/blocks.h"
#include "softkvm/cpu/ops.h"
#include "softkvm/cpu/simd_int.h"
#include "softkvm/jit/tr.h"

/* Flags that must survive whatever comes before the operation itself. */
static uint32_t live_before(const struct tr *t)
{
	return t->live_in[t->i];
}

/* Flags that the host's operation must find: those that it reads, and those that it may keep. */
static uint32_t needed(const struct tr *t)
{
	const struct effects *e = &t->fx[t->i];

	return e->reads | (e->touches ? t->live_out[t->i] & ~e->writes : 0);
}

/* The operation has been emitted. */
static void flags_done(struct tr *t)
{
	if (t->fx[t->i].touches) {
		t->home = HOME_HOST;
	}
}

/* --- handlers of the interpreter -------------------------------------------------------------- */

struct jit_call *tr_call_record(struct tr *t)
{
	struct jit_call *call = jit_alloc(t->jit, sizeof(*call));

	if (!call) {
		t->failed = true;
		return NULL;
	}
	call->insn[0] = *tr_insn(t);
	insn_bind(&call->insn[0]);
	call->insn[1] = (struct insn){ .fn = block_stop,
				       .off = (uint16_t)(tr_insn(t)->off + tr_insn(t)->len) };
	call->next_rip = tr_next_rip(t);
	call->block = t->block;
	return call;
}

static void emit_handler_call(struct code *c, const struct jit *jit, const struct jit_call *call)
{
	code_mov_imm(c, TMP_B, (uintptr_t)call);
	code_call(c, jit->glue.handler);
}

void tr_handler(struct tr *t)
{
	const struct jit_call *call = tr_call_record(t);

	tr_flags_clobber(t, live_before(t));
	emit_handler_call(&t->c, t->jit, call);
	t->home = HOME_MEMORY;
	t->sse_ready = t->avx_ready = t->x87_ready = false;
}

struct rare *tr_to_handler(struct tr *t, const struct jit_call *call)
{
	struct rare *r = tr_rare(t, RARE_HANDLER);

	r->ptr = (void *)(uintptr_t)call;
	return r;
}

void tr_rare_handler(struct tr *t, const struct rare *r)
{
	emit_handler_call(&t->c, t->jit, r->ptr);
	code_jmp(&t->c, r->back + t->c.to_rx);
}

/* --- the general form ------------------------------------------------------------------------- */

static void load_homed(struct tr *t, const struct recode *r)
{
	for (unsigned i = 0; i < r->homed; i++) {
		code_load_gs(&t->c, r->home[i].tmp, OFF_GPR(r->home[i].guest));
	}
}

static void store_homed(struct tr *t, const struct recode *r)
{
	for (unsigned i = 0; i < r->homed; i++) {
		code_store_gs(&t->c, r->home[i].tmp, OFF_GPR(r->home[i].guest));
	}
}

/* Does the instruction write its memory operand (or, like CMPXCHG, require that it may)? */
static bool writes_memory(const struct insn *in, const struct row *row)
{
	switch (in->op) {
	case OP_CMP:
	case OP_TEST:
	case OP_BT:
	case OP_MUL:
	case OP_IMUL1:
	case OP_DIV:
	case OP_IDIV:
		return false;
	case OP_XCHG:
	case OP_XADD:
	case OP_CMPXCHG:
		return true;
	case OP_FNSTCW:
	case OP_FNSTSW:
		return true;
	default:
		break;
	}
	if (op_group(in->op) == OPG_X87) {
		return x87_op_stores(in->op);
	}
	if (simd_sets_flags(in->op)) {
		return false;
	}
	switch (opnd_infos[row->opnd[0]].kind) {
	case OK_E:
	case OK_M:
	case OK_W:
	case OK_Q:
	case OK_OFF:
		return true;
	default:
		return false;
	}
}

/* What the operand's address must be a multiple of. */
static unsigned alignment(const struct insn *in, const struct row *row)
{
	if (in->op == OP_CMPXCHG16B) {
		return 16;
	}
	return op_group(in->op) == OPG_SIMD && simd_mem_aligned(in, row) ? in->mem_size : 1;
}

bool tr_operand_plain(const struct insn *in, const struct effects *e)
{
	switch (e->cls) {
	case T_GENERIC:
	case T_SSE:
	case T_AVX:
	case T_X87: {
		struct recode r;

		return recode_plan(in, &r) && alignment(in, r.row) <= 1;
	}
	case T_DIV:
		return in->osz >= 4;
	case T_PUSH:
		return in->osz == 8;
	case T_JMP_IND:
	case T_CALL_IND:
		return true;
	default:
		return false;
	}
}

bool tr_operand_writes(const struct insn *in, const struct effects *e)
{
	switch (e->cls) {
	case T_GENERIC:
	case T_SSE:
	case T_AVX:
	case T_X87:
		return writes_memory(in, simd_row(in));
	default:
		return false;
	}
}

/* A guard byte must be 0; else C makes it so, or the interpreter takes over. */
static void guard(struct tr *t, size_t off, enum rare_kind kind, unsigned want)
{
	struct rare *r;

	tr_flags_clobber(t, live_before(t));
	r = tr_rare(t, kind);
	r->off = off;
	r->rip = tr_rip(t);
	r->home = t->home;
	code_cmpb_gs(&t->c, off, want);
	r->jump[0] = code_jcc_forward(&t->c, CC_IS_NE);
	r->back = t->c.p;
}

static void vector_guard(struct tr *t)
{
	switch (t->fx[t->i].cls) {
	case T_SSE:
		if (!t->sse_ready) {
			guard(t, OFF(jit.sse_off), RARE_VECTORS, 0);
		}
		t->sse_ready = true;
		break;
	case T_AVX:
		if (!t->avx_ready) {
			guard(t, OFF(jit.avx_off), RARE_VECTORS, 0);
		}
		t->avx_ready = true;
		break;
	case T_X87:
		if (!t->x87_ready) {
			guard(t, OFF(fpu.x87_live), RARE_INTERPRET, 1);
			guard(t, OFF(jit.x87_off), RARE_INTERPRET, 0);
		}
		t->x87_ready = true;
		break;
	default:
		break;
	}
}

/* Slow paths of a vector block's first guard. */
void tr_rare_vectors(struct tr *t, const struct rare *r)
{
	struct code *c = &t->c;
	uint8_t *off;

	code_call(c, t->jit->glue.vectors);
	code_cmpb_gs(c, r->off, 0);
	off = code_jcc8(c, CC_IS_NE);
	code_jmp(c, r->back + c->to_rx);
	code_land8(c, off);
	tr_emit_rip(t, TMP_B, r->rip);
	code_jmp(c, t->jit->glue.exit_interpret);
}

/* Those that clear registers which 32-bit code does not have would do so in the host. */
static bool clears_too_much(const struct tr *t, const struct insn *in)
{
	return !t->m64 && (in->op == OP_VZEROUPPER || in->op == OP_VZEROALL);
}

void tr_generic(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	struct recode r;

	if (clears_too_much(t, in) || !recode_plan(in, &r)) {
		tr_handler(t);
		return;
	}
	vector_guard(t);
	if (in->flags & INSN_MEM) {
		if (!tr_window_ready(t, 0)) {
			tr_flags_clobber(t, live_before(t));
		}
		tr_operand(t, in, in->mem_size, writes_memory(in, r.row), alignment(in, r.row));
	}
	if (needed(t)) {
		tr_flags_to_host(t, TMP_A);
	}
	load_homed(t, &r);
	recode_emit(t, in, &r);
	store_homed(t, &r);
	flags_done(t);
}

/* --- special ones -------------------------------------------------------------------------------
 */

void tr_lea(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	struct insn plain = *in;
	int host = tr_host(in->reg);

	if (in->osz == 2 || in->asz < 4) {
		tr_handler(t);
		return;
	}
	plain.seg = SEG_DS;
	if (t->floats && (in->flags & INSN_RIPREL)) {
		unsigned to = host >= 0 ? (unsigned)host : TMP_B;

		tr_emit_rip(t, to, (uint64_t)in->disp);
		if (in->asz == 4 || in->osz == 4) {
			code_rr(&t->c, false, 0x8b, to, to);
		}
	} else if (in->base == GPR_ZERO && in->index == GPR_ZERO) {
		uint64_t v = in->asz == 8 ? (uint64_t)in->disp : (uint32_t)in->disp;

		code_mov_imm(&t->c, host >= 0 ? (unsigned)host : TMP_B,
			     in->osz == 4 ? (uint32_t)v : v);
	} else if (host >= 0 && in->index == GPR_ZERO && tr_host(in->base) >= 0) {
		code_lea(&t->c, in->asz == 8 && in->osz == 8, (unsigned)host,
			 (unsigned)tr_host(in->base), (int32_t)in->disp);
	} else if (host >= 0 && in->base != GPR_ZERO && tr_host(in->base) >= 0 &&
		   tr_host(in->index) >= 0) {
		code_lea_sib(&t->c, in->asz == 8 && in->osz == 8, (unsigned)host,
			     (unsigned)tr_host(in->base), (unsigned)tr_host(in->index), in->scale,
			     (int32_t)in->disp);
	} else {
		tr_address(t, &plain);
		if (host >= 0) {
			code_rr(&t->c, in->osz == 8, 0x8b, (unsigned)host, TMP_B);
		} else if (in->osz == 4) {
			code_rr(&t->c, false, 0x8b, TMP_B, TMP_B);
		}
	}
	if (host < 0) {
		code_store_gs(&t->c, TMP_B, OFF_GPR(in->reg));
	}
}

/* The divisor as a host register. */
static unsigned divisor(struct tr *t, const struct insn *in)
{
	if (in->flags & INSN_MEM) {
		tr_operand(t, in, in->osz, false, 1);
		tr_op_operand(t, in->osz == 8, 0x8b, TMP_B);
		return TMP_B;
	}
	return tr_use(t, in->rm, TMP_B);
}

/*
 * DIV is right if the dividend's upper half is less than the divisor; IDIV surely, if the upper
 * half is the sign of the lower and the divisor neither 0 nor -1. All else is the handler's matter.
 */
void tr_div(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	bool w = in->osz == 8;
	struct rare *r[2] = { NULL, NULL };
	const struct jit_call *call;
	struct code *c = &t->c;
	unsigned d;

	if (in->osz < 4) {
		tr_handler(t);
		return;
	}
	call = tr_call_record(t);
	tr_flags_clobber(t, live_before(t));
	d = divisor(t, in);
	r[0] = tr_to_handler(t, call);
	if (in->op == OP_DIV) {
		code_rr(c, w, 0x3b, RDX, d); /* cmp d, rdx */
		r[0]->jump[0] = code_jcc_forward(c, CC_IS_AE);
		code_rr(c, w, 0xf7, 6, d);
	} else {
		r[1] = tr_to_handler(t, call);
		code_rr(c, w, 0x8b, TMP_A, RAX);
		code_rex(c, w, 0, 0, TMP_A);
		code_bytes(c, "\xc1", 1); /* sar $31 or $63, tmp */
		code_byte(c, 0xf8 | (TMP_A & 7));
		code_byte(c, w ? 63 : 31);
		code_rr(c, w, 0x3b, TMP_A, RDX);
		r[0]->jump[0] = code_jcc_forward(c, CC_IS_NE);
		code_lea(c, w, TMP_A, d, 1);
		code_alu_imm(c, w, 7, TMP_A, 1);
		r[1]->jump[0] = code_jcc_forward(c, CC_IS_BE);
		code_rr(c, w, 0xf7, 7, d);
		r[1]->back = c->p;
	}
	r[0]->back = c->p;
	t->home = HOME_HOST; /* undefined after a division, whoever did it */
}

/* --- the stack
 * ------------------------------------------------------------------------------------ */

static void move_sp(struct tr *t, int32_t by)
{
	code_lea(&t->c, t->m64, HOST_SP, HOST_SP, by);
}

/* The new top of stack becomes the checked operand. */
void tr_probe_push(struct tr *t, unsigned size)
{
	if (tr_window_operand(t, 1)) {
		return;
	}
	code_lea(&t->c, t->m64, TMP_B, HOST_SP, -(int32_t)size);
	tr_probe(t, size, true, 1);
}

void tr_probe_pop(struct tr *t, unsigned host_reg, unsigned size)
{
	if (tr_window_operand(t, 1)) {
		return;
	}
	code_rr(&t->c, t->m64, 0x8b, TMP_B, host_reg);
	tr_probe(t, size, false, 1);
}

static void push_immediate(struct tr *t, const struct insn *in)
{
	struct code *c = &t->c;

	tr_probe_push(t, in->osz);
	tr_op_operand(t, in->osz == 8, 0xc7, 0);
	code_u32(c, (uint32_t)in->imm);
	move_sp(t, -(int32_t)in->osz);
}

void tr_push(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	bool w = in->osz == 8;
	unsigned value;

	if (in->osz == 2) {
		tr_handler(t);
		return;
	}
	if (!tr_window_ready(t, 1) || ((in->flags & INSN_MEM) && !tr_window_ready(t, 0))) {
		tr_flags_clobber(t, live_before(t));
	}
	if (in->opcode == 0x68 || in->opcode == 0x6a) {
		push_immediate(t, in);
		return;
	}
	if (in->flags & INSN_MEM) {
		tr_operand(t, in, in->osz, false, 1);
		tr_op_operand(t, w, 0x8b, TMP_B);
		code_store_gs(&t->c, TMP_B, OFF(jit.tmp[1]));
		tr_probe_push(t, in->osz);
		code_load_gs(&t->c, TMP_A, OFF(jit.tmp[1]));
		value = TMP_A;
	} else {
		tr_probe_push(t, in->osz);
		value = tr_use(t, in->rm, TMP_A);
	}
	tr_op_operand(t, w, 0x89, value);
	move_sp(t, -(int32_t)in->osz);
}

void tr_pop(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	bool w = in->osz == 8;
	int host;

	if (in->osz == 2 || (in->flags & INSN_MEM)) {
		tr_handler(t);
		return;
	}
	host = tr_host(in->rm);
	if (!tr_window_ready(t, 1)) {
		tr_flags_clobber(t, live_before(t));
	}
	tr_probe_pop(t, HOST_SP, in->osz);
	tr_op_operand(t, w, 0x8b, host >= 0 ? (unsigned)host : TMP_A);
	if (host < 0) {
		code_store_gs(&t->c, TMP_A, OFF_GPR(in->rm));
	}
	if (host != HOST_SP) {
		move_sp(t, in->osz);
	}
}

void tr_leave(struct tr *t)
{
	const struct insn *in = tr_insn(t);

	if (in->osz == 2) {
		tr_handler(t);
		return;
	}
	if (!tr_window_ready(t, 1)) {
		tr_flags_clobber(t, live_before(t));
	}
	tr_probe_pop(t, RBP, in->osz);
	tr_op_operand(t, in->osz == 8, 0x8b, TMP_A);
	code_lea(&t->c, t->m64, HOST_SP, RBP, in->osz);
	code_rr(&t->c, in->osz == 8, 0x8b, RBP, TMP_A);
}

/* CLD and STD: DF is one of vcpu.rflags. */
void tr_direction(struct tr *t, bool down)
{
	tr_flags_clobber(t, live_before(t));
	code_alu_gs_imm(&t->c, down ? 1 : 4, OFF(rflags), down ? FL_DF : ~(uint32_t)FL_DF);
}
