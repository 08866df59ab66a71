/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Windows: one look at the TLB for several accesses of a block off one register.
 *
 * Theory of operation
 *
 * Before a block is emitted its accesses are sorted by the value of their base register: registers
 * that only move by constants (RSP above all) keep a value's identity, everything else makes a new
 * one. If at least WINDOW_MIN accesses have one identity, and lie within WINDOW_BYTES, they form a
 * window. At the first of them the whole range is looked up at once, for writing if one of them
 * writes; what was found is kept as the difference to the host's address in jit.window[]. The
 * accesses then need no check, and leave the flags alone.
 *
 * A range that is not wholly on one page with a tag of the right kind sends the vCPU to a careful
 * twin of the rest of the block, which has no windows (KEY_CAREFUL). The range is never walked for:
 * an access of it may not be made in the end, and must then leave no trace in the page tables.
 *
 * What was found holds until the block's end: nothing in between changes mappings, and write tags
 * of this vCPU are only taken away by itself.
 */
#include "softkvm/cpu/ops.h"
#include "softkvm/cpu/simd_int.h"
#include "softkvm/jit/tr.h"
#include "softkvm/mmu/mmu.h"

#define WINDOW_MIN   3u
#define WINDOW_BYTES 256

/* While the block is looked through: a value's number and the register's distance from it. */
struct values {
	uint16_t id[16];
	int64_t off[16];
	uint16_t next;
};

#define IDS_MAX (32u + 4u * BLOCK_INSNS)
struct range {
	int64_t min, max;
	unsigned count;
	bool write;
};

static void new_value(struct values *v, unsigned reg)
{
	v->id[reg] = v->next++;
	v->off[reg] = 0;
}

/* Registers that the instruction writes, as a mask; of those that do not move by constants. */
static uint32_t registers_written(const struct insn *in, const struct row *row)
{
	static const uint64_t gpr =
		BIT64(OK_G) | BIT64(OK_E) | BIT64(OK_Z) | BIT64(OK_R) | BIT64(OK_B);
	uint32_t mask = 0;

	for (unsigned i = 0; i < 2; i++) {
		const struct opnd_info *o = &opnd_infos[row->opnd[i]];
		unsigned n;

		if (!(gpr & BIT64(o->kind)) || (o->kind == OK_E && (in->flags & INSN_MEM))) {
			continue;
		}
		n = o->kind == OK_B                      ? in->vvvv
		    : o->kind == OK_E || o->kind == OK_R ? in->rm
							 : in->reg;
		mask |= BIT(o->reg_size == OS_B ? n >> 3 : n);
	}
	switch (in->op) {
	case OP_MUL:
	case OP_IMUL1:
	case OP_DIV:
	case OP_IDIV:
	case OP_CMPXCHG8B:
	case OP_CMPXCHG16B:
	case OP_CBW:
	case OP_CWD:
		return mask | BIT(RAX) | BIT(RDX);
	case OP_PCMPESTRI:
	case OP_PCMPISTRI:
	case OP_VPCMPESTRI:
	case OP_VPCMPISTRI:
	case OP_LOOP:
		return mask | BIT(RCX);
	default:
		return mask |
		       BIT(RAX); /* implicit accumulators: XCHG, CMPXCHG, LAHF, FNSTSW, MOV moffs */
	}
}

static bool reads_only(unsigned op)
{
	return op == OP_CMP || op == OP_TEST || op == OP_BT;
}

/* RSP or another register moves by a constant: ADD, SUB, LEA. */
static bool moved_by_constant(const struct insn *in, unsigned *ret_reg, int64_t *ret_by)
{
	if (in->osz != 8) {
		return false;
	}
	if (in->op == OP_LEA && in->base == in->reg && in->index == GPR_ZERO && in->asz == 8) {
		*ret_reg = in->reg;
		*ret_by = in->disp;
		return true;
	}
	if ((in->op == OP_ADD || in->op == OP_SUB) && !(in->flags & INSN_MEM) &&
	    (in->opcode == 0x81 || in->opcode == 0x83)) {
		*ret_reg = in->rm;
		*ret_by = in->op == OP_ADD ? (int64_t)in->imm : -(int64_t)in->imm;
		return true;
	}
	return false;
}

/* System instructions that leave all registers but RSP, and every mapping, as they are. */
static bool fast_keeps(const struct insn *in, int *ret_by)
{
	switch (in->op) {
	case OP_CLI:
	case OP_STI:
		*ret_by = 0;
		return true;
	case OP_PUSHF:
	case OP_POPF:
		*ret_by = in->op == OP_PUSHF ? -8 : 8;
		return in->osz == 8;
	default:
		return false;
	}
}

static void step(struct values *v, const struct insn *in, const struct effects *e)
{
	uint32_t mask;
	unsigned reg;
	int64_t by;
	int moved;

	if (e->cls == T_BITS) {
		return;
	}
	if (e->cls == T_FAST && fast_keeps(in, &moved)) {
		v->off[RSP] += moved;
		return;
	}
	switch (e->cls) {
	case T_PUSH:
		v->off[RSP] -= in->osz;
		return;
	case T_POP:
		v->off[RSP] += in->osz;
		new_value(v, in->rm);
		return;
	case T_LEAVE:
		v->id[RSP] = v->id[RBP];
		v->off[RSP] = v->off[RBP] + in->osz;
		new_value(v, RBP);
		return;
	case T_NOP:
	case T_JCC:
	case T_CLD:
	case T_STD:
		return;
	case T_GENERIC:
	case T_LEA:
	case T_DIV:
	case T_SSE:
	case T_AVX:
	case T_X87:
	case T_LOOP:
		break;
	default:
		for (reg = 0; reg < 16; reg++) {
			new_value(v, reg);
		}
		return;
	}
	if (moved_by_constant(in, &reg, &by)) {
		v->off[reg] += by;
		return;
	}
	if (in->op == OP_MOV && in->opcode == 0x89 && !(in->flags & INSN_MEM) && in->osz == 8) {
		v->id[in->rm] = v->id[in->reg]; /* mov %rsp, %rbp */
		v->off[in->rm] = v->off[in->reg];
		return;
	}
	mask = reads_only(in->op) ? 0 : registers_written(in, simd_row(in));
	for (reg = 0; reg < 16; reg++) {
		if (mask & BIT(reg)) {
			new_value(v, reg);
		}
	}
}

/* The accesses of instruction `i`: [0] its ModRM operand, [1] the stack. */
static void find_accesses(const struct values *v, const struct insn *in, const struct effects *e,
			  struct window_access acc[2])
{
	acc[0].id = acc[1].id = 0;
	if ((in->flags & INSN_MEM) && tr_operand_plain(in, e) && in->base != GPR_ZERO &&
	    in->index == GPR_ZERO && tr_host(in->base) >= 0 && in->asz == 8 && in->seg != SEG_FS &&
	    in->seg != SEG_GS) {
		acc[0] = (struct window_access){ .id = v->id[in->base],
						 .reg = in->base,
						 .size = in->mem_size,
						 .write = tr_operand_writes(in, e),
						 .disp = in->disp,
						 .off = v->off[in->base] };
	}
	switch (e->cls) {
	case T_PUSH:
	case T_CALL:
	case T_CALL_IND:
		acc[1] = (struct window_access){ .id = v->id[RSP],
						 .reg = RSP,
						 .size = in->osz,
						 .write = true,
						 .disp = -(int64_t)in->osz,
						 .off = v->off[RSP] };
		break;
	case T_POP:
	case T_RET:
	case T_LEAVE: {
		unsigned reg = e->cls == T_LEAVE ? RBP : RSP;

		acc[1] = (struct window_access){
			.id = v->id[reg], .reg = (uint8_t)reg, .size = in->osz, .off = v->off[reg]
		};
		break;
	}
	default:
		break;
	}
	if (in->osz == 2) {
		acc[1].id = 0;
	}
}

/* Count the access in, if the range stays small. */
static void range_add(struct range *r, struct window_access *a)
{
	int64_t start = a->off + a->disp, end = start + a->size;
	int64_t min = r->count ? MIN(r->min, start) : start,
		max = r->count ? MAX(r->max, end) : end;

	if (max - min > WINDOW_BYTES || a->off < -WINDOW_BYTES * 16 || a->off > WINDOW_BYTES * 16) {
		a->id = 0;
		return;
	}
	r->min = min;
	r->max = max;
	r->count++;
	r->write |= a->write;
}

static unsigned window_of(struct tr *t, const struct range *ranges, uint16_t *slot, unsigned id)
{
	const struct range *r = &ranges[id];

	if (id == 0 || r->count < WINDOW_MIN) {
		return 0;
	}
	if (slot[id] == 0 && t->windows < JIT_WINDOWS) {
		slot[id] = (uint16_t)++t->windows;
		t->window[slot[id] - 1] = (struct window){ .min = (int32_t)r->min,
							   .size = (uint16_t)(r->max - r->min),
							   .write = r->write };
	}
	return slot[id];
}

void tr_windows_plan(struct tr *t)
{
	struct range ranges[IDS_MAX];
	uint16_t slot[IDS_MAX];
	struct values v = { .next = 1 };

	t->windows = 0;
	memset(t->access, 0, t->n * sizeof(t->access[0]));
	if (!t->m64 || (t->block->key & KEY_CAREFUL)) {
		return;
	}
	memset(ranges, 0, sizeof(ranges));
	memset(slot, 0, sizeof(slot));
	for (unsigned r = 0; r < 16; r++) {
		new_value(&v, r);
	}
	for (unsigned i = 0; i < t->n && v.next + 16u < IDS_MAX; i++) {
		find_accesses(&v, &t->insn[i], &t->fx[i], t->access[i]);
		for (unsigned k = 0; k < 2; k++) {
			if (t->access[i][k].id != 0) {
				range_add(&ranges[t->access[i][k].id], &t->access[i][k]);
			}
		}
		step(&v, &t->insn[i], &t->fx[i]);
	}
	for (unsigned i = 0; i < t->n; i++) {
		for (unsigned k = 0; k < 2; k++) {
			struct window_access *a = &t->access[i][k];

			a->window = (uint8_t)window_of(t, ranges, slot, a->id);
		}
	}
}

/* --- emission ------------------------------------------------------------------------------- */

bool tr_window_ready(const struct tr *t, unsigned k)
{
	unsigned w = t->access[t->i][k].window;

	return w != 0 && t->window[w - 1].open;
}

static void window_open(struct tr *t, const struct window_access *a, struct window *w, size_t slot)
{
	unsigned base = (unsigned)tr_host(a->reg);
	struct code *c = &t->c;
	struct rare *r;

	code_lea(c, true, TMP_B, base, w->min - (int32_t)a->off);
	r = tr_probe_window(t, w->size, w->write);
	r->rip = tr_rip(t);
	code_rr(c, true, 0x2b, TMP_B, base); /* sub base, %r11 */
	code_store_gs(c, TMP_B, slot);
	w->adjust = (int32_t)a->off - w->min;
	w->open = true;
}

bool tr_window_operand(struct tr *t, unsigned k)
{
	const struct window_access *a = &t->access[t->i][k];
	struct window *w;
	size_t slot;

	if (a->window == 0) {
		return false;
	}
	w = &t->window[a->window - 1];
	slot = OFF(jit.window) + 8u * (a->window - 1u);
	if (w->open) {
		code_load_gs(&t->c, TMP_B, slot);
	} else {
		window_open(t, a, w, slot);
	}
	t->mem_index = tr_host(a->reg);
	t->mem_disp = (int32_t)a->disp + w->adjust;
	return true;
}
