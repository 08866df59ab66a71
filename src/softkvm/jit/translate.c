/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From guest code to a block: decode, find out which flags live, emit.
 *
 * Limits: a block has at most BLOCK_INSNS instructions, all bytes in one page. Instructions that
 * lie on two pages are the interpreter's.
 */
#include <stdlib.h>

#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/ops.h"
#include "softkvm/jit/tr.h"
#include "softkvm/vm.h"

#define LOOK_AHEAD 12u /* instructions */

struct rare *tr_rare(struct tr *t, enum rare_kind kind)
{
	struct rare *r = &t->rare[t->rares];

	if (t->rares == RARE_MAX - 1) {
		t->failed = true; /* the last one is a dummy */
	} else {
		t->rares++;
	}
	*r = (struct rare){ .kind = kind };
	return r;
}

/* --- decoding -------------------------------------------------------------------------------- */

void tr_emit_rip(struct tr *t, unsigned reg, uint64_t rip)
{
	if (!t->floats) {
		code_mov_imm(&t->c, reg, rip);
		return;
	}
	if ((int64_t)rip != (int32_t)rip) {
		t->failed = true; /* a branch over nearly 2 GiB */
		return;
	}
	code_load_gs(&t->c, reg, OFF(jit.page));
	if (rip != 0) {
		code_lea(&t->c, true, reg, reg, (int32_t)rip);
	}
}

static int decode_at(const struct tr *t, unsigned off, uint64_t rip, struct insn *ret)
{
	return insn_decode(t->page->bytes + off, 4096 - off, rip, t->block->key & KEY_MODE, ret);
}

static bool ends_block(enum tclass cls)
{
	switch (cls) {
	case T_ENDS:
	case T_STOP:
	case T_JMP:
	case T_CALL:
	case T_RET:
	case T_JMP_IND:
	case T_CALL_IND:
		return true;
	default:
		return false;
	}
}

/* Fill insn[] and fx[]. */
static void decode_block(struct tr *t)
{
	unsigned start = t->rip & 4095, off = start;

	t->stuck = t->cut = false;

	while (t->n < BLOCK_INSNS && off < 4096) {
		struct insn *in = &t->insn[t->n];

		int len = decode_at(t, off, t->rip + (off - start), in);

		if (len < 0) {
			t->stuck = len != DECODE_NEED_MORE;
			t->cut = len == DECODE_NEED_MORE;
			break;
		}
		in->off = (uint16_t)(off - start);
		t->fx[t->n] = effects_of(in);
		off += in->len;
		t->n++;
		if (ends_block(t->fx[t->n - 1].cls)) {
			break;
		}
	}
	t->decoded = t->n;
	t->block->range[0].start = (uint16_t)start;
	t->block->range[0].end = (uint16_t)off;
	t->block->ranges = 1;
}

/* --- flags -------------------------------------------------------------------------------------
 */

static uint32_t look_ahead(const struct tr *t, uint64_t rip, unsigned *ret_end)
{
	uint32_t open = FL_ARITH, live = 0;
	unsigned off = rip & 4095;

	for (unsigned i = 0; i < LOOK_AHEAD && open && off < 4096; i++) {
		struct effects e;
		struct insn in;

		if (decode_at(t, off, rip, &in) < 0) {
			break;
		}
		e = effects_of(&in);
		off += in.len;
		rip += in.len;
		live |= e.reads & open;
		open &= ~e.writes;
		if (e.cls == T_JCC || e.cls == T_LOOP || ends_block(e.cls)) {
			break;
		}
	}
	*ret_end = off;
	return live | open;
}

/* The block depends on these bytes of the page. False: no room to remember it. */
static bool depend_on(struct jit_block *b, unsigned start, unsigned end)
{
	for (unsigned i = 0; i < b->ranges; i++) {
		if (b->range[i].start <= start && end <= b->range[i].end) {
			return true;
		}
	}
	if (b->ranges == BLOCK_RANGES) {
		return false;
	}
	b->range[b->ranges].start = (uint16_t)start;
	b->range[b->ranges].end = (uint16_t)end;
	b->ranges++;
	return true;
}

uint32_t tr_live_at(struct tr *t, uint64_t rip)
{
	uint32_t live;
	unsigned end;

	if (!tr_same_page(t, rip)) {
		return FL_ARITH;
	}
	if (rip == t->rip) {
		return t->live_in[0];
	}
	live = look_ahead(t, rip, &end);
	return live == FL_ARITH || depend_on(t->block, rip & 4095, end) ? live : FL_ARITH;
}

/* Flags that are live behind the last instruction. */
static uint32_t live_at_end(struct tr *t)
{
	const struct insn *last = &t->insn[t->n - 1];

	switch (t->fx[t->n - 1].cls) {
	case T_JMP:
		return tr_live_at(t, last->imm);
	case T_CALL:
	case T_RET:
	case T_JMP_IND:
	case T_CALL_IND:
	case T_STOP:
	case T_ENDS:
		return FL_ARITH;
	default:
		return tr_live_at(t, t->rip + last->off + last->len);
	}
}

static void find_live_once(struct tr *t)
{
	uint32_t live = live_at_end(t);

	for (unsigned i = t->n; i-- > 0;) {
		enum tclass cls = t->fx[i].cls;

		t->live_out[i] = live;
		if (cls == T_JCC || cls == T_LOOP) {
			live |= tr_live_at(t, t->insn[i].imm);
		}
		live = t->fx[i].reads | (live & ~t->fx[i].writes);
		t->live_in[i] = live;
	}
}

/* A block that jumps to itself needs to know what it will find: all at first, then better. */
static void find_live(struct tr *t)
{
	t->live_in[0] = FL_ARITH;
	find_live_once(t);
	find_live_once(t);
}

/* --- emission
 * -------------------------------------------------------------------------------------- */

/* False: the block is over. */
static bool emit_insn(struct tr *t)
{
	switch (t->fx[t->i].cls) {
	case T_NOP:
		return true;
	case T_GENERIC:
	case T_X87:
	case T_SSE:
	case T_AVX:
		tr_generic(t);
		return true;
	case T_FAST:
		return tr_system(t);
	case T_STRING:
		tr_string(t);
		return true;
	case T_BITS:
		tr_bits(t);
		return true;
	case T_HANDLER:
		tr_handler(t);
		return true;
	case T_LEA:
		tr_lea(t);
		return true;
	case T_DIV:
		tr_div(t);
		return true;
	case T_PUSH:
		tr_push(t);
		return true;
	case T_POP:
		tr_pop(t);
		return true;
	case T_LEAVE:
		tr_leave(t);
		return true;
	case T_CLD:
	case T_STD:
		tr_direction(t, t->fx[t->i].cls == T_STD);
		return true;
	case T_JCC:
		tr_jcc(t);
		return true;
	case T_LOOP:
		tr_loop(t);
		return true;
	case T_JMP:
		tr_jmp(t);
		return false;
	case T_CALL:
	case T_CALL_IND:
		tr_call(t);
		return false;
	case T_RET:
		tr_ret(t);
		return false;
	case T_JMP_IND:
		tr_jmp_indirect(t);
		return false;
	case T_ENDS:
		tr_ends(t);
		return false;
	case T_STOP:
		tr_leave_to_interpreter(t, tr_rip(t));
		return false;
	}
	return false;
}

/* Entries: see jit_block. Flags that nobody reads need not be fetched. */
static void emit_entries(struct tr *t)
{
	struct jit_block *b = t->block;
	struct code *c = &t->c;

	while ((uintptr_t)c->p & 15) {
		code_byte(c, 0x90);
	}
	b->enter_indirect = code_rx(c);
	code_bytes(c, "\x0f\x1f\x44\x00\x00",
		   5); /* a nop that a jump replaces when the block dies */
	if (t->floats) {
		code_gs(c, true, 0x33, TMP_B, OFF(jit.mix));
		code_lea(c, true, TMP_B, TMP_B, -(int32_t)t->rip);
		code_store_gs(c, TMP_B, OFF(jit.page));
	}
	b->enter_memory = code_rx(c);
	if (t->live_in[0]) {
		tr_emit_flags_load(c, TMP_A);
	}
	b->enter = code_rx(c);
	t->home = HOME_HOST;
}

static void emit_body(struct tr *t)
{
	unsigned end;

	for (t->i = 0; t->i < t->n; t->i++) {
		if (!emit_insn(t)) {
			return;
		}
		if (t->failed) {
			return;
		}
	}
	t->i = t->n - 1;
	end = (unsigned)(t->rip & 4095) + t->insn[t->i].off + t->insn[t->i].len;
	if (t->stuck && t->n == t->decoded && end < 4096) {
		tr_leave_to_interpreter(t, tr_next_rip(t)); /* what follows cannot be decoded */
	} else if (t->cut && t->n == t->decoded) {
		tr_go_far(t, tr_next_rip(t)); /* it lies on two pages */
	} else {
		tr_go_on(t, tr_next_rip(t));
	}
}

static void emit_rares(struct tr *t)
{
	for (unsigned i = 0; i < t->rares && !t->failed; i++) {
		const struct rare *r = &t->rare[i];

		for (unsigned k = 0; k < 2; k++) {
			if (r->jump[k]) {
				code_land(&t->c, r->jump[k]);
			}
		}
		switch (r->kind) {
		case RARE_MEMORY:
		case RARE_CONSTANT:
			tr_rare_memory(t, r);
			break;
		case RARE_VECTORS:
			tr_rare_vectors(t, r);
			break;
		case RARE_HANDLER:
			tr_rare_handler(t, r);
			break;
		default:
			tr_rare_flow(t, r);
			break;
		}
	}
}

static bool edges_move(struct tr *t)
{
	struct jit_block *b = t->block;

	b->edges = jit_alloc(t->jit, MAX(t->edges, 1u) * sizeof(struct jit_edge));
	b->edge_count = t->edges;
	return b->edges != NULL;
}

static void edges_fill(struct tr *t)
{
	struct jit_block *b = t->block;

	for (unsigned i = 0; i < t->edges; i++) {
		b->edges[i] = t->edge[i];
		b->edges[i].from = b;
	}
}

/* Emit the first t->n instructions. False: too much for one block. */
static bool emit_block(struct tr *t)
{
	t->c = t->jit->code;
	t->rares = t->edges = 0;
	t->sse_ready = t->avx_ready = t->x87_ready = t->failed = false;
	find_live(t);
	tr_windows_plan(t);
	emit_entries(t);
	emit_body(t);
	if (t->failed || !edges_move(t)) {
		return false;
	}
	t->hot_end = t->c.p;
	t->c = t->jit->cold;
	emit_rares(t);
	edges_fill(t);
	return !t->failed;
}

static void tr_begin(struct tr *t, struct vcpu *cpu, struct jit_page *page, struct jit_block *b)
{
	memset(b, 0, sizeof(*b));
	b->rip = jit_block_rip(cpu->key, cpu->rip);
	b->key = cpu->key;
	b->host = page->host;
	b->page = page;
	t->cpu = cpu;
	t->jit = cpu->vm->jit;
	t->page = page;
	t->block = b;
	t->m64 = (cpu->key & MODE_SIZE) == MODE_64;
	t->floats = jit_floats(cpu->key);
	t->rip = b->rip;
	t->n = 0;
}

/* The instruction at the end of the page, which goes on on the next. False: not one for us. */
static bool decode_crossing(struct tr *t, struct jit_page *next)
{
	unsigned start = t->rip & 4095, head = 4096 - start;
	uint8_t bytes[2 * INSN_BYTES_MAX];
	int len;

	memcpy(bytes, t->page->bytes + start, head);
	memcpy(bytes + head, next->bytes, INSN_BYTES_MAX);
	len = insn_decode(bytes, head + INSN_BYTES_MAX, t->rip, t->block->key & KEY_MODE,
			  &t->insn[0]);
	if (len <= (int)head) {
		return false;
	}
	t->fx[0] = effects_of(&t->insn[0]);
	t->n = t->decoded = 1;
	t->stuck = t->cut = false;
	t->block->crosses = true;
	t->block->page2 = next;
	t->block->host2 = next->host;
	t->block->range[0].start = (uint16_t)start;
	t->block->range[0].end = 4096;
	t->block->ranges = 1;
	return true;
}

struct tr *tr_new(void)
{
	return calloc(1, sizeof(struct tr));
}

struct jit_block *jit_translate(struct vcpu *cpu, struct jit_page *page, struct jit_page *next,
				bool *ret_next, bool careful)
{
	struct jit *jit = cpu->vm->jit;
	struct jit_block scratch, *b;
	struct tr *t = jit->work;

	tr_begin(t, cpu, page, &scratch);
	scratch.key |= careful ? KEY_CAREFUL : 0;
	decode_block(t);
	*ret_next = t->n == 0 && t->cut && !next;
	if (t->n == 0 && !(t->cut && next && decode_crossing(t, next))) {
		return NULL;
	}
	if (t->fx[0].cls == T_STOP) {
		return NULL;
	}
	b = jit_alloc(jit, sizeof(*b));
	if (!b) {
		return NULL;
	}
	*b = scratch;
	t->block = b;
	while (!emit_block(t)) {
		if (t->n == 1) {
			return NULL;
		}
		t->n /= 2;
	}
	b->insns = (uint16_t)t->n;
	b->region = (uint16_t)jit->region;
	b->code_bytes = (uint32_t)(t->hot_end - jit->code.p);
	b->cold_bytes = (uint32_t)(t->c.p - jit->cold.p);
	jit->code.p = t->hot_end;
	jit->cold = t->c;
	jit->insns += t->n;
	jit->code_bytes += b->code_bytes;
	jit->cold_bytes += b->cold_bytes;
	jit_publish(jit, b);
	return b;
}
