/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Branches, calls and returns, and the ends of blocks.
 *
 * Theory of operation
 *
 * Within the page a jump is an edge: its displacement is patched to the target's block when that
 * is known, and leads to a stub that finds it before. To another page, and to computed targets, the
 * vCPU's table of indirect targets is asked, whose entries hold for the present address space only.
 *
 * Returns are predicted by the host's own stack: a call pushes the guest's return address and then
 * calls; what follows the host's call goes on behind the guest's. A return compares the address
 * that it popped from the guest's stack with the one on the host's, and if they are the same,
 * returns. A mismatch (another stack, a longjmp) drops all predictions. The host stack is bounded
 * by jit.ras_limit; whoever leaves translated code, or changes privilege or address space, drops
 * them all.
 *
 * Every loop has a backward or an indirect jump; these look for requests to the vCPU.
 */
#include <linux/kvm.h>

#include "softkvm/cpu/ops.h"
#include "softkvm/jit/tr.h"

void tr_emit_canonical(struct code *c)
{
	code_mov_rr(c, TMP_A, TMP_B);
	code_bytes(c, "\x49\xc1\xfa\x2f", 4); /* sar $47, %r10 */
	code_lea(c, true, TMP_A, TMP_A, 1);
	code_alu_imm(c, true, 7, TMP_A, 1);
}

/* --- requests -------------------------------------------------------------------------------- */

void tr_emit_wanted(struct code *c)
{
	code_load_gs(c, TMP_A, OFF(run));
	code_bytes(c, "\x45\x0f\xb6\x52", 4); /* movzbl immediate_exit(%r10), %r10d */
	code_byte(c, offsetof(struct kvm_run, immediate_exit));
	code_gs(c, false, 0x0b, TMP_A, OFF(req)); /* or */
}

/* A jump is emitted next that leaves with RIP `rip`. */
static struct rare *leave_rare(struct tr *t, uint64_t rip)
{
	struct rare *r = tr_rare(t, RARE_LOOP);

	r->rip = rip;
	r->home = t->home;
	return r;
}

/* Is there something for the run loop? Then leave with RIP `rip`. Changes flags. */
static void emit_poll(struct tr *t, uint64_t rip)
{
	struct rare *r = leave_rare(t, rip);

	tr_emit_wanted(&t->c);
	r->jump[0] = code_jcc_forward(&t->c, CC_IS_NE);
}

/* The same where only a request counts: other jumps of the loop look at the rest. */
static void emit_poll_request(struct tr *t, uint64_t rip)
{
	struct rare *r = leave_rare(t, rip);
	struct code *c = &t->c;

	code_bytes(c, "\x65\x83\x3c\x25", 4); /* cmpl $0, req */
	code_u32(c, OFF(req));
	code_byte(c, 0);
	r->jump[0] = code_jcc_forward(c, CC_IS_NE);
}

/* --- edges ------------------------------------------------------------------------------------ */

/* Displacements are patched while others may run them: they must not cross 8 bytes. */
static void align_patch(struct code *c, unsigned opcode_bytes)
{
	static const uint8_t nops[3][3] = { { 0x90 }, { 0x66, 0x90 }, { 0x0f, 0x1f, 0x00 } };
	unsigned at = ((uintptr_t)c->p + opcode_bytes) & 7;

	if (at > 4) {
		code_bytes(c, nops[7 - at], 8 - at);
	}
}

/* The jump's displacement ends at c->p: it belongs to an edge to `target`. */
static void edge_here(struct tr *t, uint64_t target, bool host_flags)
{
	struct jit_edge *e = &t->edge[t->edges++];
	struct rare *r = tr_rare(t, RARE_LINK);

	*e = (struct jit_edge){ .target = target, .patch = t->c.p - 4, .host_flags = host_flags };
	r->jump[0] = t->c.p;
	r->ptr = e;
	r->home = host_flags ? HOME_HOST : HOME_MEMORY;
}

/* Does the jump that is emitted now find the flags in the host's? Where nobody reads them, no. */
static bool edge_host_flags(const struct tr *t, uint32_t live)
{
	return live && (t->home & HOME_HOST);
}

/* The same to another page. */
static void far_here(struct tr *t, uint64_t target, uint32_t live)
{
	struct rare *r = tr_rare(t, RARE_FAR);

	r->jump[0] = t->c.p;
	r->target = target;
	r->home = live ? t->home : HOME_MEMORY;
}

/* Go to the address in TMP_B; if the table does not know it, ask C. */
void tr_emit_go(const struct jit *jit, struct code *c)
{
	uint8_t *miss;

	tr_emit_ibtc(c, &miss);
	code_land(c, miss);
	code_jmp(c, jit->glue.indirect);
}

/* A branch, conditional or a call, by an instruction of the host that is `opcode` and a
 * displacement. */
static void emit_branch(struct tr *t, uint64_t target, const void *opcode, unsigned bytes,
			uint32_t live)
{
	bool near = tr_same_page(t, target);

	if (near) {
		align_patch(&t->c, bytes);
	}
	code_bytes(&t->c, opcode, bytes);
	code_u32(&t->c, 0);
	if (near) {
		edge_here(t, target, edge_host_flags(t, live));
	} else {
		far_here(t, target, live);
	}
}

/* A jump to another page's `target`; flags are in memory. */
static void emit_far(struct tr *t, uint64_t target)
{
	struct code *c = &t->c;
	size_t entry = OFF(jit.ibtc) + ibtc_slot(target) * sizeof(struct ibtc_entry);
	uint8_t *miss;

	tr_emit_rip(t, TMP_B, target);
	if (t->floats) {
		tr_emit_go(t->jit, c);
		return;
	}
	code_gs(c, true, 0x33, TMP_B, OFF(jit.mix));
	code_gs(c, true, 0x3b, TMP_B, entry + offsetof(struct ibtc_entry, tag));
	miss = code_jcc8(c, CC_IS_NE);
	code_bytes(c, "\x65\xff\x24\x25", 4); /* jmp *code */
	code_u32(c, (uint32_t)(entry + offsetof(struct ibtc_entry, code)));
	code_land8(c, miss);
	code_jmp(c, t->jit->glue.indirect);
}

static void emit_goto_far(struct tr *t, uint64_t target, uint32_t live)
{
	tr_flags_to_memory(t, live);
	emit_far(t, target);
}

/* A jump to `target`; `live`: flags that may be read there. */
static void emit_goto(struct tr *t, uint64_t target, uint32_t live)
{
	if (tr_same_page(t, target)) {
		emit_branch(t, target, "\xe9", 1, live);
	} else {
		emit_goto_far(t, target, live);
	}
}

/*
 * May a loop be closed by going to `target`? Every loop has such a step. In 64-bit mode addresses
 * may count from the page (tr.floats), so that those before it are negative. A direct jump reaches
 * 2 GiB, and no loop goes around all 2^64 bytes; one around the 2^32 of 32-bit code may, by a jump
 * or by just going on.
 */
static bool is_backward(const struct tr *t, uint64_t target)
{
	return t->m64 ? (int64_t)(target - tr_rip(t)) <= 0 : target <= tr_rip(t);
}

/* Going to `rip`, where `live` may be read: look for requests if that may close a loop. */
static void poll_backward(struct tr *t, uint64_t rip, uint32_t live)
{
	if (is_backward(t, rip)) {
		tr_flags_clobber(t, live);
		emit_poll(t, rip);
	}
}

void tr_go_on(struct tr *t, uint64_t rip)
{
	uint32_t live = tr_live_at(t, rip);

	poll_backward(t, rip, live);
	emit_goto(t, rip, live);
}

void tr_go_far(struct tr *t, uint64_t rip)
{
	poll_backward(t, rip, FL_ARITH);
	emit_goto_far(t, rip, FL_ARITH);
}

void tr_leave_to_interpreter(struct tr *t, uint64_t rip)
{
	bool host = t->home == HOME_HOST;

	tr_emit_rip(t, TMP_B, rip);
	code_jmp(&t->c, host ? t->jit->glue.exit_interpret_host : t->jit->glue.exit_interpret);
}

void tr_jmp(struct tr *t)
{
	uint64_t target = tr_insn(t)->imm;
	uint32_t live = tr_live_at(t, target);

	poll_backward(t, target, live);
	emit_goto(t, target, live);
}

/* Taken backwards: the poll is in the way, so the condition jumps over it. */
static void jcc_backward(struct tr *t, unsigned cc, uint64_t target, uint32_t live)
{
	uint8_t home = t->home, *skip = code_jcc_forward(&t->c, cc ^ 1);

	tr_flags_clobber(t, live);
	emit_poll(t, target);
	emit_goto(t, target, live);
	code_land(&t->c, skip);
	t->home = home;
}

void tr_jcc(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	unsigned cc = in->op - OP_JO;
	uint32_t live = tr_live_at(t, in->imm);

	tr_flags_to_host(t, TMP_B);
	if (is_backward(t, in->imm)) {
		jcc_backward(t, cc, in->imm, live);
		return;
	}
	emit_branch(t, in->imm, (const uint8_t[]){ 0x0f, (uint8_t)(0x80 | cc) }, 2, live);
}

/* LOOP and JCXZ leave the flags alone, and so must we. */
void tr_loop(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	uint32_t live = tr_live_at(t, in->imm);
	struct code *c = &t->c;
	bool w = in->asz == 8;
	uint8_t home, *zero, *over = NULL;

	if (in->op == OP_LOOP) {
		code_lea(c, w, RCX, RCX, -1);
	}
	if (!w) {
		code_byte(c, 0x67);
	}
	code_bytes(c, "\xe3\x00", 2); /* jrcxz, jecxz */
	zero = c->p;
	if (in->op == OP_JCXZ) {
		code_bytes(c, "\xe9\x00\x00\x00\x00", 5);
		over = c->p;
		code_land8(c, zero);
	}
	home = t->home;
	poll_backward(t, in->imm, live);
	if (in->op == OP_LOOP) {
		emit_branch(t, in->imm, "\xe9", 1, live);
		code_land8(c, zero);
	} else {
		emit_goto(t, in->imm, live);
		code_land(c, over);
	}
	t->home = home;
}

/* --- indirect jumps --------------------------------------------------------------------------- */

void tr_emit_ibtc(struct code *c, uint8_t **ret_miss)
{
	_Static_assert(sizeof(struct ibtc_entry) == 16 && IBTC_BITS <= 15, "index << 1, scale 8");
	code_rr(c, false, 0x8b, TMP_A, TMP_B);
	code_bytes(c, "\x41\xc1\xea\x0c", 4); /* shr $12, %r10d */
	code_rr(c, false, 0x33, TMP_A, TMP_B);
	code_alu_imm(c, false, 4, TMP_A, (IBTC_ENTRIES - 1) << 1);
	code_gs(c, true, 0x33, TMP_B, OFF(jit.mix));
	code_bytes(c, "\x65\x4e\x3b\x1c\xd5", 5); /* cmp tag(,%r10,8), %r11 */
	code_u32(c, OFF(jit.ibtc));
	*ret_miss = code_jcc_forward(c, CC_IS_NE);
	code_bytes(c, "\x65\x42\xff\x24\xd5", 5); /* jmp *code(,%r10,8) */
	code_u32(c, OFF(jit.ibtc) + offsetof(struct ibtc_entry, code));
}

/* The target is in TMP_B, flags are in memory. */
static void emit_indirect(struct tr *t, uint64_t rip)
{
	struct rare *r;
	uint8_t *miss;

	tr_emit_ibtc(&t->c, &miss);
	r = tr_rare(t, RARE_INDIRECT);
	r->jump[0] = miss;
	r->rip = rip;
}

/* The branch's target in TMP_B. */
static void load_target(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	bool w = in->osz == 8;

	if (in->flags & INSN_MEM) {
		tr_operand(t, in, in->osz, false, 1);
		tr_op_operand(t, w, 0x8b, TMP_B);
	} else {
		unsigned reg = tr_use(t, in->rm, TMP_B);

		if (reg != TMP_B || !w) {
			code_rr(&t->c, w, 0x8b, TMP_B, reg);
		}
	}
}

void tr_jmp_indirect(struct tr *t)
{
	tr_flags_clobber(t, FL_ARITH);
	emit_poll_request(t, tr_rip(t));
	load_target(t);
	emit_indirect(t, tr_rip(t));
}

/* --- calls and returns
 * ---------------------------------------------------------------------------- */

/* Push the return address on both stacks; then the host's call follows. */
static void push_return(struct tr *t, unsigned size)
{
	struct code *c = &t->c;
	struct rare *r;

	tr_probe_push(t, size);
	tr_emit_rip(t, TMP_A, tr_next_rip(t));
	tr_op_operand(t, size == 8, 0x89, TMP_A);
	code_lea(c, t->m64, HOST_SP, HOST_SP, -(int32_t)size);
	code_gs(c, true, 0x3b, RSP, OFF(jit.ras_limit)); /* cmp ras_limit, %rsp */
	r = tr_rare(t, RARE_RAS_FULL);
	r->jump[0] = code_jcc_forward(c, CC_IS_B);
	r->back = c->p;
	code_bytes(c, "\x41\x52", 2); /* push %r10 */
}

/* What the host returns to. */
static void emit_landing(struct tr *t)
{
	code_lea(&t->c, true, RSP, RSP, 8);
	if (t->floats) {
		code_lea(&t->c, true, TMP_B, TMP_B, -(int32_t)tr_next_rip(t));
		code_store_gs(&t->c, TMP_B, OFF(jit.page));
	}
	t->home = HOME_MEMORY;
	emit_goto(t, tr_next_rip(t), FL_ARITH);
}

static void call_direct(struct tr *t)
{
	const struct insn *in = tr_insn(t);

	if (is_backward(t, in->imm)) {
		emit_poll_request(t, tr_rip(t));
	}
	push_return(t, in->osz);
	emit_branch(t, in->imm, "\xe8", 1, 0);
}

static void call_indirect(struct tr *t)
{
	struct code *c = &t->c;
	struct rare *r;

	emit_poll_request(t, tr_rip(t));
	load_target(t);
	if (t->m64) {
		tr_emit_canonical(c);
		r = tr_rare(t, RARE_INTERPRET);
		r->rip = tr_rip(t);
		r->home = t->home;
		r->jump[0] = code_jcc_forward(c, CC_IS_A);
	}
	code_store_gs(c, TMP_B, OFF(jit.tmp[1]));
	push_return(t, tr_insn(t)->osz);
	code_byte(c, 0xe8);
	code_u32(c, 0);
	r = tr_rare(t, RARE_FAR_TMP);
	r->jump[0] = c->p;
}

void tr_call(struct tr *t)
{
	tr_flags_clobber(t, FL_ARITH);
	if (t->fx[t->i].cls == T_CALL) {
		call_direct(t);
	} else {
		call_indirect(t);
	}
	emit_landing(t);
}

void tr_ret(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	unsigned size = in->osz;
	struct code *c = &t->c;
	struct rare *r;

	tr_flags_clobber(t, FL_ARITH);
	tr_probe_pop(t, HOST_SP, size);
	tr_op_operand(t, size == 8, 0x8b, TMP_B);
	r = tr_rare(t, RARE_RETURN);
	r->rip = tr_rip(t);
	r->adjust = (int32_t)(size + (uint16_t)in->imm);
	code_bytes(c, "\x4c\x3b\x5c\x24\x08", 5); /* cmp 8(%rsp), %r11 */
	r->jump[0] = code_jcc_forward(c, CC_IS_NE);
	code_lea(c, t->m64, HOST_SP, HOST_SP, r->adjust);
	code_byte(c, 0xc3);
}

/* --- what ends a block otherwise ----------------------------------------------------------------
 */

void tr_ends(struct tr *t)
{
	const struct jit_call *call = tr_call_record(t);

	tr_flags_clobber(t, t->live_in[t->i]);
	code_mov_imm(&t->c, TMP_B, (uintptr_t)call);
	code_jmp(&t->c, tr_ends_glue(t));
}

/* --- rare paths ---------------------------------------------------------------------------------
 */

static void rare_indirect(struct tr *t, const struct rare *r)
{
	struct code *c = &t->c;
	uint8_t *bad;

	if (!t->m64) {
		code_jmp(c, t->jit->glue.indirect);
		return;
	}
	code_gs(c, true, 0x33, TMP_B, OFF(jit.mix));
	tr_emit_canonical(c);
	bad = code_jcc8(c, CC_IS_A);
	code_gs(c, true, 0x33, TMP_B, OFF(jit.mix));
	code_jmp(c, t->jit->glue.indirect);
	code_land8(c, bad);
	tr_emit_rip(t, TMP_B, r->rip);
	code_jmp(c, t->jit->glue.exit_interpret);
}

static void rare_return(struct tr *t, const struct rare *r)
{
	struct code *c = &t->c;
	uint8_t *bad = NULL;

	if (t->m64) {
		tr_emit_canonical(c);
		bad = code_jcc8(c, CC_IS_A);
	}
	code_lea(c, t->m64, HOST_SP, HOST_SP, r->adjust);
	code_jmp(c, t->jit->glue.ret_miss);
	if (bad) {
		code_land8(c, bad);
		tr_emit_rip(t, TMP_B, r->rip);
		code_jmp(c, t->jit->glue.exit_interpret);
	}
}

static void rare_link(struct tr *t, const struct rare *r)
{
	struct jit_edge *e = r->ptr;
	struct code *c = &t->c;

	e->stub = code_rx(c);
	/* the edges move into the block's memory: see translate.c, which knows where to */
	code_byte(c, 0x49);
	code_byte(c, 0xbb);
	code_u64(c, (uintptr_t)(t->block->edges + (e - t->edge)));
	code_jmp(c, e->host_flags ? t->jit->glue.link_host : t->jit->glue.link);
}

void tr_rare_flow(struct tr *t, const struct rare *r)
{
	const struct jit_glue *g = &t->jit->glue;
	struct code *c = &t->c;
	bool host = r->home == HOME_HOST;

	switch (r->kind) {
	case RARE_INTERPRET:
		tr_emit_rip(t, TMP_B, r->rip);
		code_jmp(c, host ? g->exit_interpret_host : g->exit_interpret);
		break;
	case RARE_LOOP:
		tr_emit_rip(t, TMP_B, r->rip);
		code_jmp(c, host ? g->exit_loop_host : g->exit_loop);
		break;
	case RARE_LINK:
		rare_link(t, r);
		break;
	case RARE_WINDOW:
		tr_emit_rip(t, TMP_B, r->rip);
		code_jmp(c, g->careful);
		break;
	case RARE_FAR:
		if (host) {
			tr_emit_flags_save(c, TMP_B);
		}
		emit_far(t, r->target);
		break;
	case RARE_FAR_TMP:
		code_load_gs(c, TMP_B, OFF(jit.tmp[1]));
		tr_emit_go(t->jit, c);
		break;
	case RARE_INDIRECT:
		rare_indirect(t, r);
		break;
	case RARE_RETURN:
		rare_return(t, r);
		break;
	case RARE_RAS_FULL:
		code_load_gs(c, RSP, OFF(jit.ras_base));
		code_jmp(c, r->back + c->to_rx);
		break;
	case RARE_ENDS:
		code_mov_imm(c, TMP_B, (uintptr_t)r->ptr);
		code_jmp(c, g->ends);
		break;
	default:
		break;
	}
}
