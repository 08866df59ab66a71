/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System instructions that need no C: flags, time stamps, segment bases, control registers.
 *
 * Theory of operation
 *
 * A block's key tells user code from supervisor code, and supervisor code only runs translated at
 * privilege 0 (can_translate() in run.c), so privilege is known here. What an instruction
 * depends on besides (features, CR4, a scaled time stamp) is one byte of jit_vcpu.guard, computed
 * by jit_guards_changed(); where it is not 0, the interpreter's handler is called.
 *
 * STI and POPF must not pass over an interrupt that waits for IF. The run loop leaves in
 * jit.irq_waits whether one may; what comes later raises a request, which the next poll finds. If
 * none waits, nobody can see the shadow of STI.
 */
#include "softkvm/cpu/ops.h"
#include "softkvm/jit/tr.h"

#define OFF_SEG(i, member) \
	(OFF(seg) + (i) * sizeof(struct segment) + offsetof(struct segment, member))

static bool is_user(const struct tr *t)
{
	return t->block->key & KEY_USER;
}

enum { ALU_OR = 1, ALU_AND = 4 };

/* A guest register's new value is in `reg`, if it lives in memory. */
static void set_guest(struct tr *t, unsigned guest, unsigned reg)
{
	if (tr_host(guest) < 0) {
		code_store_gs(&t->c, reg, OFF_GPR(guest));
	}
}

/* Where to put a guest register's new value. */
static unsigned target_of(unsigned guest)
{
	return tr_host(guest) >= 0 ? (unsigned)tr_host(guest) : TMP_B;
}

/* The same to the handler as the end of the block. */
static struct rare *to_ends(struct tr *t)
{
	struct rare *r = tr_rare(t, RARE_ENDS);

	r->ptr = tr_call_record(t);
	return r;
}

/* With a guard that is not 0 the handler does it. NULL: no guard. Changes flags. */
static struct rare *guarded(struct tr *t, enum jit_guard guard)
{
	struct rare *r;

	tr_flags_clobber(t, t->live_in[t->i]);
	r = tr_to_handler(t, tr_call_record(t));
	code_cmpb_gs(&t->c, OFF(jit.guard) + guard, 0);
	r->jump[0] = code_jcc_forward(&t->c, CC_IS_NE);
	return r;
}

static void landed(struct tr *t, struct rare *r)
{
	r->back = t->c.p;
}

/* --- flags ------------------------------------------------------------------------------------ */

static void emit_cli(struct tr *t)
{
	tr_flags_clobber(t, t->live_in[t->i]);
	code_alu_gs_imm(&t->c, ALU_AND, OFF(rflags), ~(uint32_t)FL_IF);
}

static void emit_sti(struct tr *t)
{
	struct rare *r;

	tr_flags_clobber(t, t->live_in[t->i]);
	r = to_ends(t);
	code_cmpb_gs(&t->c, OFF(jit.irq_waits), 0);
	r->jump[0] = code_jcc_forward(&t->c, CC_IS_NE);
	code_alu_gs_imm(&t->c, ALU_OR, OFF(rflags), FL_IF);
}

static void emit_set_ac(struct tr *t, bool ac)
{
	struct rare *r = guarded(t, GUARD_SMAP);
	struct code *c = &t->c;

	code_alu_gs_imm(c, ac ? ALU_OR : ALU_AND, OFF(rflags), ac ? FL_AC : ~(uint32_t)FL_AC);
	code_load_gs(c, TMP_B, OFF(tlb_super) + (ac ? sizeof(void *) : 0));
	code_store_gs(c, TMP_B, OFF(tlb));
	landed(t, r);
}

/* RFLAGS as PUSHF shows them, from vcpu.cc and vcpu.rflags, to TMP_A. */
static void load_flags(struct code *c)
{
	code_bytes(c, "\x65\x44\x0f\xb7\x14\x25", 6); /* movzwl cc, %r10d */
	code_u32(c, OFF(cc));
	code_rr(c, false, 0x8b, TMP_B, TMP_A);
	code_bytes(c, "\x41\xc1\xeb\x08", 4); /* shr $8, %r11d */
	code_alu_imm(c, false, 4, TMP_B, FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF);
	code_alu_imm(c, false, 4, TMP_A, 1);
	code_bytes(c, "\x41\xc1\xe2\x0b", 4); /* shl $11, %r10d */
	code_rr(c, false, 0x0b, TMP_A, TMP_B);
	code_gs(c, true, 0x0b, TMP_A, OFF(rflags)); /* VM and RF are clear in translated code */
}

static void emit_pushf(struct tr *t)
{
	struct code *c = &t->c;

	tr_flags_clobber(t, FL_ARITH);
	load_flags(c);
	code_store_gs(c, TMP_A, OFF(jit.tmp[1]));
	code_lea(c, true, TMP_B, HOST_SP, -8);
	tr_probe(t, 8, true, 1);
	code_load_gs(c, TMP_A, OFF(jit.tmp[1]));
	code_rm(c, true, 0x89, TMP_A, TMP_B, 0);
	code_lea(c, true, HOST_SP, HOST_SP, -8);
}

/* The arithmetic flags of TMP_B become vcpu.cc's. */
static void store_cc(struct code *c)
{
	code_rr(c, false, 0x8b, TMP_A, TMP_B);
	code_alu_imm(c, false, 4, TMP_A, FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF);
	code_alu_imm(c, false, 1, TMP_A, FL_FIXED);
	code_bytes(c, "\x41\xc1\xe2\x08", 4); /* shl $8, %r10d */
	code_bytes(c, "\x41\xc1\xeb\x0b", 4); /* shr $11, %r11d */
	code_alu_imm(c, false, 4, TMP_B, 1);
	code_rr(c, false, 0x0b, TMP_A, TMP_B);
	code_gs(c, false, 0x89, TMP_A, OFF(cc));
}

/* Flags that POPF may change without more ado. */
#define POPF_PLAIN ((uint32_t)(FL_ARITH | FL_IF | FL_DF | FL_FIXED | BIT(3) | BIT(5) | BIT(15)))

static void emit_popf(struct tr *t)
{
	struct rare *other = to_ends(t), *waits = tr_rare(t, RARE_ENDS);
	struct code *c = &t->c;
	uint8_t *same, *clears;

	waits->ptr = other->ptr;
	tr_flags_clobber(t, FL_ARITH);
	code_mov_rr(c, TMP_B, HOST_SP);
	tr_probe(t, 8, false, 1);
	code_rm(c, true, 0x8b, TMP_B, TMP_B, 0);
	code_rr(c, false, 0x8b, TMP_A, TMP_B);
	code_gs(c, false, 0x33, TMP_A, OFF(rflags));
	code_bytes(c, "\x41\xf7\xc2", 3); /* test $others, %r10d */
	code_u32(c, ~POPF_PLAIN & 0x3fffff);
	other->jump[0] = code_jcc_forward(c, CC_IS_NE);
	code_alu_imm(c, false, 4, TMP_A, FL_IF | FL_DF);
	same = code_jcc8(c, CC_IS_E);
	code_bytes(c, "\x41\xf7\xc3", 3); /* test $IF, %r11d */
	code_u32(c, FL_IF);
	clears = code_jcc8(c, CC_IS_E);
	code_cmpb_gs(c, OFF(jit.irq_waits), 0);
	waits->jump[0] = code_jcc_forward(c, CC_IS_NE);
	code_land8(c, clears);
	code_gs(c, false, 0x31, TMP_A, OFF(rflags)); /* xor */
	code_land8(c, same);
	store_cc(c);
	code_lea(c, true, HOST_SP, HOST_SP, 8);
	t->home = HOME_MEMORY;
}

/* --- time stamps ------------------------------------------------------------------------------ */

static void emit_rdtsc(struct tr *t, bool aux)
{
	unsigned guard =
		(is_user(t) ? GUARD_TSC_USER : GUARD_TSC) + (aux ? GUARD_TSCP - GUARD_TSC : 0);
	struct rare *r = guarded(t, guard);
	struct code *c = &t->c;

	if (aux) {
		code_bytes(c, "\x0f\xae\xe8", 3); /* lfence: what came before is done */
		code_gs(c, false, 0x8b, RCX, OFF(msr.tsc_aux));
	}
	code_bytes(c, "\x0f\x31", 2);                 /* rdtsc */
	code_bytes(c, "\x48\xc1\xe2\x20", 4);         /* shl $32, %rdx */
	code_rr(c, true, 0x0b, RAX, RDX);             /* or */
	code_gs(c, true, 0x03, RAX, OFF(tsc_offset)); /* add */
	code_mov_rr(c, RDX, RAX);
	code_bytes(c, "\x48\xc1\xea\x20", 4); /* shr $32, %rdx */
	code_rr(c, false, 0x8b, RAX, RAX);
	landed(t, r);
}

/* --- segments --------------------------------------------------------------------------------- */

static void emit_swapgs(struct tr *t)
{
	struct code *c = &t->c;

	code_load_gs(c, TMP_B, OFF(msr.kernel_gs_base));
	code_load_gs(c, TMP_A, OFF_SEG(SEG_GS, base));
	code_store_gs(c, TMP_B, OFF_SEG(SEG_GS, base));
	code_store_gs(c, TMP_B, OFF(segbase) + 8 * SEG_GS);
	code_store_gs(c, TMP_A, OFF(msr.kernel_gs_base));
}

static void emit_read_base(struct tr *t, unsigned seg)
{
	const struct insn *in = tr_insn(t);
	struct rare *r = guarded(t, GUARD_FSGSBASE);
	unsigned to = target_of(in->rm);

	code_gs(&t->c, in->osz == 8, 0x8b, to, OFF_SEG(seg, base));
	set_guest(t, in->rm, to);
	landed(t, r);
}

static void emit_write_base(struct tr *t, unsigned seg)
{
	const struct insn *in = tr_insn(t);
	struct rare *r = guarded(t, GUARD_FSGSBASE);
	struct code *c = &t->c;

	code_rr(c, in->osz == 8, 0x8b, TMP_B, tr_use(t, in->rm, TMP_B));
	if (in->osz == 8) {
		tr_emit_canonical(c);
		r->jump[1] = code_jcc_forward(c, CC_IS_A); /* not canonical */
	}
	code_store_gs(c, TMP_B, OFF_SEG(seg, base));
	code_store_gs(c, TMP_B, OFF(segbase) + 8 * seg);
	landed(t, r);
}

static void emit_mov_from_sreg(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	unsigned to = target_of(in->rm);
	struct code *c = &t->c;

	code_byte(c, 0x65); /* movzwl sel, reg */
	code_rex(c, false, to, 0, 0);
	code_bytes(c, "\x0f\xb7", 2);
	code_byte(c, 0x04 | (to & 7) << 3);
	code_byte(c, 0x25);
	code_u32(c, (uint32_t)OFF_SEG(in->reg, sel));
	set_guest(t, in->rm, to);
}

/* --- control registers ------------------------------------------------------------------------ */

static void emit_mov_from_cr(struct tr *t, size_t off)
{
	unsigned to = target_of(tr_insn(t)->rm);

	code_load_gs(&t->c, to, off);
	set_guest(t, tr_insn(t)->rm, to);
}

static bool control_register(const struct insn *in, size_t *ret_off)
{
	switch (in->flags & INSN_LOCK ? 8 : in->reg) {
	case 0:
		*ret_off = OFF(cr0);
		return true;
	case 2:
		*ret_off = OFF(cr2);
		return true;
	case 3:
		*ret_off = OFF(cr3);
		return true;
	case 4:
		*ret_off = OFF(cr4);
		return true;
	default:
		return false;
	}
}

/* --- those that end a block ------------------------------------------------------------------- */

const uint8_t *tr_ends_glue(const struct tr *t)
{
	const struct jit_glue *g = &t->jit->glue;
	const struct insn *in = tr_insn(t);

	if (t->m64 && in->op == OP_SYSCALL) {
		return g->lean[LEAN_SYSCALL];
	}
	if (t->m64 && !is_user(t) && in->op == OP_SYSRET && (in->flags & INSN_REXW)) {
		return g->lean[LEAN_SYSRET];
	}
	if (t->m64 && !is_user(t) && in->op == OP_IRET && in->osz == 8) {
		return g->lean[LEAN_IRET];
	}
	return g->ends;
}

/* --- all -------------------------------------------------------------------------------------- */

/* At privilege 0 in 64-bit mode. */
static bool emit_privileged(struct tr *t)
{
	const struct insn *in = tr_insn(t);
	size_t off;

	switch (in->op) {
	case OP_CLI:
		emit_cli(t);
		return true;
	case OP_STI:
		emit_sti(t);
		return true;
	case OP_STAC:
	case OP_CLAC:
		emit_set_ac(t, in->op == OP_STAC);
		return true;
	case OP_POPF:
		if (in->osz != 8) {
			return false;
		}
		emit_popf(t);
		return true;
	case OP_SWAPGS:
		emit_swapgs(t);
		return true;
	case OP_MOV_FROM_CR:
		if (!control_register(in, &off)) {
			return false;
		}
		emit_mov_from_cr(t, off);
		return true;
	default:
		return false;
	}
}

/* At any privilege in 64-bit mode. */
static bool emit_any(struct tr *t)
{
	const struct insn *in = tr_insn(t);

	switch (in->op) {
	case OP_PUSHF:
		if (in->osz != 8) {
			return false;
		}
		emit_pushf(t);
		return true;
	case OP_RDTSC:
	case OP_RDTSCP:
		emit_rdtsc(t, in->op == OP_RDTSCP);
		return true;
	case OP_RDFSBASE:
	case OP_RDGSBASE:
		emit_read_base(t, in->op == OP_RDFSBASE ? SEG_FS : SEG_GS);
		return true;
	case OP_WRFSBASE:
	case OP_WRGSBASE:
		emit_write_base(t, in->op == OP_WRFSBASE ? SEG_FS : SEG_GS);
		return true;
	case OP_MOV_FROM_SREG:
		if ((in->flags & INSN_MEM) || in->osz < 4 || in->reg > SEG_GS) {
			return false;
		}
		emit_mov_from_sreg(t);
		return true;
	default:
		return false;
	}
}

bool tr_system(struct tr *t)
{
	if (t->m64 && (emit_any(t) || (!is_user(t) && emit_privileged(t)))) {
		return true;
	}
	if (tr_insn(t)->flags & INSN_ENDS) {
		tr_ends(t);
		return false;
	}
	tr_handler(t);
	return true;
}
