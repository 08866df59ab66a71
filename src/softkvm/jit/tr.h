/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator's working state, shared by its files: translate.c (analysis, driver), tr_mem.c
 * (memory operands), tr_op.c (plain instructions), tr_flow.c (branches, ends).
 *
 * All code is emitted straight into the current region. Rare paths (`struct rare`) are
 * remembered and emitted behind the block, so that the common way is straight.
 */
#pragma once

#include "softkvm/cpu/rows.h"
#include "softkvm/jit/effects.h"
#include "softkvm/jit/jit_int.h"

/* Where the guest's flags are. */
enum { HOME_HOST = BIT(0), HOME_MEMORY = BIT(1) };

enum rare_kind {
	RARE_MEMORY,    /* r11 - tag is no offset in the page: ask C */
	RARE_CONSTANT,  /* the same with a constant address */
	RARE_INTERPRET, /* leave, the interpreter goes on at `rip` */
	RARE_LOOP,      /* leave, the run loop has something to do; RIP is `rip` */
	RARE_LINK,      /* an edge that is not linked yet */
	RARE_FAR,       /* a jump to the constant `target` on another page */
	RARE_FAR_TMP,   /* a jump to the address in jit.tmp[1] */
	RARE_INDIRECT,  /* r11 XOR mix was not found */
	RARE_RETURN,    /* a return that was not predicted; r11 is the target */
	RARE_RAS_FULL,  /* start the prediction of returns anew, and come back */
	RARE_WINDOW,    /* a window is not to be had: go on in a careful block */
	RARE_VECTORS,   /* make vectors live and come back */
	RARE_HANDLER,   /* call a handler and come back */
	RARE_ENDS,      /* call a handler as the end of the block */
};

struct rare {
	enum rare_kind kind;
	uint8_t home;
	uint8_t *jump[2]; /* what comes here: positions behind rel32 fields, NULL: none */
	uint8_t *back;    /* writable address to come back to */
	uint64_t rip;     /* of the instruction, or where to go on */
	uint64_t target;
	uint32_t what;  /* of a memory call */
	uint8_t tag;    /* offset of the TLB entry's tag */
	int32_t adjust; /* stack adjustment of a return */
	size_t off;     /* the guard's offset */
	void *ptr;      /* jit_edge, jit_call */
};

/* An access that may be a window's. */
struct window_access {
	uint16_t id;    /* of the base register's value, 0: none */
	uint8_t window; /* number + 1 */
	uint8_t reg, size;
	bool write;
	int64_t disp, off; /* from the register; the register from its value */
};
struct window {
	int32_t min, adjust;
	uint16_t size;
	bool write, open;
};

#define RARE_MAX 320u

struct tr {
	struct vcpu *cpu;
	struct jit *jit;
	struct jit_page *page;
	struct jit_block *block;
	struct code c;
	bool m64;
	bool floats;         /* addresses are relative to jit.page: see jit_floats() */
	uint64_t rip;        /* of the block; all others count from there */
	unsigned n, decoded; /* instructions to emit; that there are */
	bool stuck;          /* what follows the last one is not for a block */
	bool cut;            /* what follows it lies on two pages */
	struct insn insn[BLOCK_INSNS];
	struct effects fx[BLOCK_INSNS];
	uint32_t live_in[BLOCK_INSNS], live_out[BLOCK_INSNS];
	unsigned i;   /* the instruction being emitted */
	uint8_t home; /* HOME_*; 0: the flags are dead */
	bool sse_ready, avx_ready, x87_ready;
	int32_t mem_disp; /* the checked operand is at [TMP_B + mem_index + mem_disp] */
	int mem_index;    /* a host register, or -1 */
	unsigned windows;
	struct window window[JIT_WINDOWS];
	struct window_access access[BLOCK_INSNS][2];
	unsigned rares;
	struct rare rare[RARE_MAX];
	unsigned edges;
	struct jit_edge edge[BLOCK_INSNS + 2];
	bool failed;
	uint8_t *hot_end; /* where the rare paths were left for the cold part */
};

/* --- registers ------------------------------------------------------------------------------ */
/* The host register that holds a guest register, or -1: it lives in memory. */
static inline int tr_host(unsigned guest)
{
	return guest == RSP ? HOST_SP : guest >= R9 && guest <= R11 ? -1 : (int)guest;
}
/* The same, loading those from memory into `tmp`. */
static inline unsigned tr_use(struct tr *t, unsigned guest, unsigned tmp)
{
	int host = tr_host(guest);

	if (host >= 0) {
		return (unsigned)host;
	}
	code_load_gs(&t->c, tmp, OFF_GPR(guest));
	return tmp;
}

static inline const struct insn *tr_insn(const struct tr *t)
{
	return &t->insn[t->i];
}
static inline uint64_t tr_rip(const struct tr *t)
{
	return t->rip + t->insn[t->i].off;
}
static inline uint64_t tr_next_rip(const struct tr *t)
{
	uint64_t next = tr_rip(t) + t->insn[t->i].len;

	return t->m64 ? next : (uint32_t)next;
}
static inline bool tr_same_page(const struct tr *t, uint64_t rip)
{
	return (rip ^ t->rip) >> 12 == 0;
}

/* mov reg, rip, where `rip` counts as tr.rip does. Flags stay. */
void tr_emit_rip(struct tr *t, unsigned reg, uint64_t rip);

/* --- translate.c ------------------------------------------------------------------------------ */
struct rare *tr_rare(struct tr *t, enum rare_kind kind);
/* Which flags may be read from `rip` on before they are replaced; the bytes looked at count as the
 * block's. */
uint32_t tr_live_at(struct tr *t, uint64_t rip);

/* --- tr_flags.c ------------------------------------------------------------------------------- */
/* Code follows that changes the host's flags; `live` of the guest's must survive. Uses r11. */
void tr_flags_clobber(struct tr *t, uint32_t live);
/* The next instruction needs the guest's flags in the host's. `tmp` is free. */
void tr_flags_to_host(struct tr *t, unsigned tmp);
/* Flags must be in memory if any of `live` is read later. Uses r11. */
void tr_flags_to_memory(struct tr *t, uint32_t live);
void tr_emit_flags_save(struct code *c, unsigned tmp);
void tr_emit_flags_load(struct code *c, unsigned tmp);

/* --- tr_mem.c -----------------------------------------------------------------------------------
 */
/* The operand's linear address in TMP_B. Uses TMP_A. */
void tr_address(struct tr *t, const struct insn *in);
/* TMP_B, a linear address, becomes the host's, or the access is left to the interpreter. */
void tr_probe(struct tr *t, unsigned size, bool write, unsigned align);
void tr_emit_entry(const struct jit *jit, struct code *c);
/* The look-up only, for a window: what is missing is left to the rare path that is returned. */
struct rare *tr_probe_window(struct tr *t, unsigned size, bool write);
/* ModRM and what follows, of the checked operand. */
void tr_emit_operand(struct tr *t, unsigned reg);
/* op reg, the checked operand */
void tr_op_operand(struct tr *t, bool w, unsigned op, unsigned reg);
/* Both for a memory operand; sets mem_disp. */
void tr_operand(struct tr *t, const struct insn *in, unsigned size, bool write, unsigned align);
void tr_rare_memory(struct tr *t, const struct rare *r);

/* --- tr_window.c
 * ---------------------------------------------------------------------------------- */
/* Find out which accesses share a look-up. After decoding, before emission. */
void tr_windows_plan(struct tr *t);
/* Is access k (0: operand, 1: stack) of this instruction one that needs no look-up any more? */
bool tr_window_ready(const struct tr *t, unsigned k);
/* Make it the checked operand, if it belongs to a window; flags change unless it was ready. */
bool tr_window_operand(struct tr *t, unsigned k);

/* --- encode.c
 * ------------------------------------------------------------------------------------- */
/*
 * An instruction with other registers: where each operand field goes. Fields that live in memory
 * are loaded before and stored behind.
 */
struct recode {
	const struct row *row;
	uint8_t reg, rm, vvvv; /* host numbers */
	bool byte_rex, no_rex;
	unsigned homed;
	struct {
		uint8_t guest, tmp;
	} home[2];
};
/* False: it cannot be encoded so; the handler does it. */
bool recode_plan(const struct insn *in, struct recode *ret);
void recode_emit(struct tr *t, const struct insn *in, const struct recode *r);

/* Is the memory operand of the kind that a window can serve? Does the instruction write it? */
bool tr_operand_plain(const struct insn *in, const struct effects *e);
bool tr_operand_writes(const struct insn *in, const struct effects *e);

/* --- tr_op.c
 * ---------------------------------------------------------------------------------------- */
void tr_handler(struct tr *t);
void tr_generic(struct tr *t);
void tr_lea(struct tr *t);
/* The top of stack, or what another host register points to, becomes the checked operand. */
void tr_probe_push(struct tr *t, unsigned size);
void tr_probe_pop(struct tr *t, unsigned host_reg, unsigned size);
void tr_div(struct tr *t);
void tr_push(struct tr *t);
void tr_pop(struct tr *t);
void tr_leave(struct tr *t);
void tr_direction(struct tr *t, bool down);
struct jit_call *tr_call_record(struct tr *t);
/* A jump is emitted next that leads to the handler, and back to where rare.back will say. */
struct rare *tr_to_handler(struct tr *t, const struct jit_call *call);
void tr_rare_handler(struct tr *t, const struct rare *r);
void tr_rare_vectors(struct tr *t, const struct rare *r);

/* --- tr_system.c, tr_string.c ----------------------------------------------------------------- */
/* The routine for an instruction of T_ENDS. */
const uint8_t *tr_ends_glue(const struct tr *t);
/* T_FAST. False: the block is over. */
bool tr_system(struct tr *t);
/* T_STRING: MOVS, STOS. T_BITS: BT and its kin with a register index into memory. */
void tr_string(struct tr *t);
void tr_bits(struct tr *t);

/* --- tr_flow.c
 * -------------------------------------------------------------------------------------- */
void tr_jmp(struct tr *t);
void tr_jcc(struct tr *t);
void tr_loop(struct tr *t);
void tr_call(struct tr *t);
void tr_ret(struct tr *t);
void tr_jmp_indirect(struct tr *t);
void tr_ends(struct tr *t);
/* Leave the block for `rip`, which follows it. */
void tr_go_on(struct tr *t, uint64_t rip);
/* The same by the table of indirect targets, as for another page. */
void tr_go_far(struct tr *t, uint64_t rip);
/* Leave it to the interpreter at `rip`. */
void tr_leave_to_interpreter(struct tr *t, uint64_t rip);
void tr_rare_flow(struct tr *t, const struct rare *r);
/* The look in the table of indirect targets for r11, ending in a jump. */
void tr_emit_ibtc(struct code *c, uint8_t **ret_miss);
/* The same, and if it is not there C is asked. */
void tr_emit_go(const struct jit *jit, struct code *c);
/* Compare: "above" if TMP_B is not canonical. Uses TMP_A. */
void tr_emit_canonical(struct code *c);
/* Not zero: there is something for the run loop. Uses TMP_A. */
void tr_emit_wanted(struct code *c);
