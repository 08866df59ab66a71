/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The routines between translated code and C, made once per VM.
 *
 * Theory of operation
 *
 * The host's stack in translated code, from the top: what `enter` saved (jit.frame points to it); a
 * pair that no return matches (jit.ras_base); pairs of guest return address and host return
 * address, as calls push them. It is aligned to 16 bytes between instructions, so routines that are
 * jumped to may call C at once, and those that are called must align it first.
 *
 * Before C runs the guest's registers are in vcpu.gpr (those that C preserves may stay where they
 * are, if C does not look at them), flags in vcpu.cc, and vector registers, if they are live, in
 * vcpu.fpu.v; after it they are loaded again. So C sees, and may change, the state as the
 * interpreter keeps it.
 *
 * r11 and r10 carry what a routine is told.
 */
#include "softkvm/jit/tr.h"

#include "softkvm/mmu/mmu.h"

/* An address that no return can have: not canonical. */
#define NO_RETURN 0x5a5a000000000000ull
#define RAS_BYTES KIB(16)

static const uint8_t pinned[] = { RAX, RCX, RDX, RBX, RBP, RSI, RDI, R8, R12, R13, R14, R15 };
/* Of these, what C functions do not preserve; with RSP, whose host register they do not either. */
static const uint8_t volatiles[] = { RAX, RCX, RDX, RSI, RDI, R8 };
static const uint8_t preserved[] = { RBX, RBP, R12, R13, R14, R15 };

static void store_regs(struct code *c, const uint8_t *regs, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		code_store_gs(c, regs[i], OFF_GPR(regs[i]));
	}
}

static void load_regs(struct code *c, const uint8_t *regs, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		code_load_gs(c, regs[i], OFF_GPR(regs[i]));
	}
}

static void spill(struct code *c)
{
	store_regs(c, pinned, sizeof(pinned));
	code_store_gs(c, HOST_SP, OFF_GPR(RSP));
}

static void reload(struct code *c)
{
	load_regs(c, pinned, sizeof(pinned));
	code_load_gs(c, HOST_SP, OFF_GPR(RSP));
}

static void spill_volatiles(struct code *c)
{
	store_regs(c, volatiles, sizeof(volatiles));
	code_store_gs(c, HOST_SP, OFF_GPR(RSP));
}

static void reload_volatiles(struct code *c)
{
	load_regs(c, volatiles, sizeof(volatiles));
	code_load_gs(c, HOST_SP, OFF_GPR(RSP));
}

/* All vector registers to or from vcpu.fpu.v, if they are live. Changes flags only. */
static void vectors(const struct jit *jit, struct code *c, bool store)
{
	uint8_t *skip;

	code_cmpb_gs(c, OFF(jit.vectors_live), 0);
	skip = code_jcc_forward(c, CC_IS_E);
	for (unsigned i = 0; i < 16; i++) {
		code_byte(c, 0x65);
		if (jit->avx) {
			code_byte(c, 0xc5);
			code_byte(c, i < 8 ? 0xfc : 0x7c);
		} else {
			code_rex(c, false, i, 0, 0);
			code_byte(c, 0x0f);
		}
		code_byte(c, store ? 0x11 : 0x10);
		code_byte(c, 0x04 | (i & 7) << 3);
		code_byte(c, 0x25);
		code_u32(c, (uint32_t)(OFF(fpu.v) + i * sizeof(union vreg)));
	}
	code_land(c, skip);
}

static void call_c(struct code *c, const void *fn)
{
	code_mov_imm(c, RAX, (uintptr_t)fn);
	code_bytes(c, "\xff\xd0", 2);
}

/* mov rdi, this vCPU */
static void first_argument(struct code *c)
{
	code_load_gs(c, RDI, OFF(jit.self));
}

/* Call fn(vCPU, r11) with all of the guest's state at home. */
static void call_with_state(const struct jit *jit, struct code *c, const void *fn)
{
	spill(c);
	vectors(jit, c, true);
	first_argument(c);
	code_mov_rr(c, RSI, TMP_B);
	call_c(c, fn);
}

/* jmp gs:jit.tmp[0] */
static void jump_tmp(struct code *c)
{
	code_bytes(c, "\x65\xff\x24\x25", 4);
	code_u32(c, OFF(jit.tmp[0]));
}

static const uint8_t saved[] = { RBX, RBP, R12, R13, R14, R15 };

static void push_pop(struct code *c, unsigned reg, unsigned op)
{
	code_rex(c, false, 0, 0, reg);
	code_byte(c, op | (reg & 7));
}

/* int enter(struct vcpu *cpu, const uint8_t *code) */
static void make_enter(struct code *c, const uint8_t *no_return)
{
	for (unsigned i = 0; i < sizeof(saved); i++) {
		push_pop(c, saved[i], 0x50);
	}
	code_alu_imm(c, true, 5, RSP, 8);
	code_store_gs(c, RSP, OFF(jit.frame));
	code_mov_imm(c, RAX, NO_RETURN);
	push_pop(c, RAX, 0x50);
	code_mov_imm(c, RAX, (uintptr_t)no_return);
	push_pop(c, RAX, 0x50);
	code_store_gs(c, RSP, OFF(jit.ras_base));
	code_lea(c, true, RAX, RSP, -(int32_t)RAS_BYTES);
	code_store_gs(c, RAX, OFF(jit.ras_limit));
	code_store_gs(c, RSI, OFF(jit.tmp[0]));
	reload(c);
	jump_tmp(c);
}

/* Back to C with the state at home and the reason in EAX. */
static const uint8_t *make_leave(struct code *c)
{
	const uint8_t *at = code_rx(c);

	code_movb_gs(c, OFF(jit.vectors_live), 0);
	code_movb_gs(c, OFF(jit.sse_off), 1);
	code_movb_gs(c, OFF(jit.avx_off), 1);
	code_load_gs(c, RSP, OFF(jit.frame));
	code_alu_imm(c, true, 0, RSP, 8);
	for (unsigned i = sizeof(saved); i-- > 0;) {
		push_pop(c, saved[i], 0x58);
	}
	code_byte(c, 0xc3);
	return at;
}

/* RIP in r11. */
static void make_exit(struct jit *jit, struct code *c, enum jit_exit why, const uint8_t *leave,
		      const uint8_t **ret_memory, const uint8_t **ret_host)
{
	*ret_host = code_rx(c);
	tr_emit_flags_save(c, TMP_A);
	*ret_memory = code_rx(c);
	code_store_gs(c, TMP_B, OFF(rip));
	spill(c);
	vectors(jit, c, true);
	code_mov_imm(c, RAX, why);
	code_jmp(c, leave);
}

/* After a C function that answered with a code address, or NULL: leave, why is in jit.result. */
static void go_or_leave(struct jit *jit, struct code *c, const uint8_t *leave)
{
	code_bytes(c, "\x48\x85\xc0\x65\x48\x89\x04\x25", 8); /* test %rax, %rax; mov %rax, tmp */
	code_u32(c, OFF(jit.tmp[0]));
	code_load_gs(c, RAX, OFF(jit.result));
	code_jcc(c, CC_IS_E, leave);
	vectors(jit, c, false);
	reload(c);
	jump_tmp(c);
}

/* Registers are loaded: to the block at vcpu.rip. */
static void go_to_rip(const struct jit *jit, struct code *c)
{
	code_load_gs(c, TMP_B, OFF(rip));
	tr_emit_go(jit, c);
}

/* After a C function that says whether to go on at vcpu.rip; else leave, why is in jit.result. */
static void go_on_or_leave(const struct jit *jit, struct code *c, const uint8_t *leave)
{
	code_bytes(c, "\x84\xc0", 2); /* test %al, %al */
	code_load_gs(c, RAX, OFF(jit.result));
	code_jcc(c, CC_IS_E, leave);
	vectors(jit, c, false);
	reload(c);
	go_to_rip(jit, c);
}

static void make_link(struct jit *jit, struct code *c, const uint8_t *leave)
{
	jit->glue.link_host = code_rx(c);
	tr_emit_flags_save(c, TMP_A);
	jit->glue.link = code_rx(c);
	call_with_state(jit, c, jit_call_link);
	go_or_leave(jit, c, leave);
}

static void make_indirect(struct jit *jit, struct code *c, const uint8_t *leave)
{
	uint8_t *miss;

	jit->glue.ret_miss = code_rx(c);
	code_load_gs(c, RSP, OFF(jit.ras_base));
	/* Loops may consist of such returns: look for requests. */
	tr_emit_wanted(c);
	code_jcc(c, CC_IS_NE, jit->glue.exit_loop);
	tr_emit_ibtc(c, &miss);
	code_land(c, miss);
	jit->glue.indirect = code_rx(c);
	code_gs(c, true, 0x33, TMP_B, OFF(jit.mix));
	code_store_gs(c, TMP_B, OFF(rip));
	call_with_state(jit, c, jit_call_indirect);
	go_or_leave(jit, c, leave);
}

/* RIP in r11: the block that was left there needs a careful twin. */
static void make_careful(struct jit *jit, struct code *c, const uint8_t *leave)
{
	jit->glue.careful = code_rx(c);
	code_store_gs(c, TMP_B, OFF(rip));
	call_with_state(jit, c, jit_call_careful);
	go_or_leave(jit, c, leave);
}

/*
 * Called with a linear address in r11 and what is wanted in r10d; the guest's RIP stands in the
 * code 2 bytes behind the return address. Comes back with a host address in r11, or leaves.
 */
static void make_memory(struct jit *jit, struct code *c, const uint8_t *leave)
{
	uint8_t *fail;

	jit->glue.memory = code_rx(c);
	spill_volatiles(c);
	vectors(jit, c, true);
	first_argument(c);
	code_mov_rr(c, RSI, TMP_B);
	code_rr(c, false, 0x8b, RDX, TMP_A);
	code_rm(c, true, 0x8b, RCX, RSP, 0);
	code_alu_imm(c, true, 5, RSP, 8);
	call_c(c, jit_call_memory);
	code_alu_imm(c, true, 0, RSP, 8);
	code_bytes(c, "\x48\x85\xc0", 3); /* test %rax, %rax */
	fail = code_jcc_forward(c, CC_IS_E);
	code_mov_rr(c, TMP_B, RAX);
	vectors(jit, c, false);
	reload_volatiles(c);
	code_byte(c, 0xc3);
	code_land(c, fail);
	store_regs(c, preserved, sizeof(preserved));
	code_load_gs(c, RSP, OFF(jit.ras_base));
	code_cmpb_gs(c, OFF(jit.page_fault), 0);
	code_mov_imm(c, RAX, JIT_INTERPRET);
	code_jcc(c, CC_IS_E, leave);
	first_argument(c);
	call_c(c, jit_call_fault);
	go_on_or_leave(jit, c, leave);
}

/*
 * The look-up of tr_mem.c out of line, for code that is not hot. Called with a linear address in
 * r11; comes back with a host address. Behind the call stands TEST EAX, imm32, with the guest's
 * RIP.
 */
static const uint8_t *make_probe(struct jit *jit, struct code *c, unsigned size, bool write)
{
	uint8_t tag = write ? offsetof(struct tlb_entry, wtag) : offsetof(struct tlb_entry, rtag);
	const uint8_t *at;
	uint8_t *miss;

	while ((uintptr_t)c->p & 63) {
		code_byte(c, 0xcc);
	}
	at = code_rx(c);
	tr_emit_entry(jit, c);
	code_rm(c, true, 0x2b, TMP_B, TMP_A, tag);
	code_alu_imm(c, true, 7, TMP_B, (int32_t)(4096 - size));
	miss = code_jcc8(c, CC_IS_A);
	code_rm(c, true, 0x03, TMP_B, TMP_A, offsetof(struct tlb_entry, host));
	code_byte(c, 0xc3);
	code_land8(c, miss);
	code_rm(c, true, 0x03, TMP_B, TMP_A, tag);
	code_mov_imm(c, TMP_A, size | (write ? MEM_WRITE : 0));
	code_jmp(c, jit->glue.memory);
	return at;
}

/* Called with a struct jit_call in r11: comes back if the next instruction follows. */
static void make_handler(struct jit *jit, struct code *c, const uint8_t *leave)
{
	jit->glue.handler = code_rx(c);
	spill(c);
	vectors(jit, c, true);
	first_argument(c);
	code_mov_rr(c, RSI, TMP_B);
	code_alu_imm(c, true, 5, RSP, 8);
	call_c(c, jit_call_handler);
	code_alu_imm(c, true, 0, RSP, 8);
	code_bytes(c, "\x85\xc0", 2); /* test %eax, %eax */
	code_mov_imm(c, RAX, JIT_RESULT);
	code_jcc(c, CC_IS_NE, leave);
	vectors(jit, c, false);
	reload(c);
	code_byte(c, 0xc3);
}

/* Jumped to with a struct jit_call in r11: goes on wherever RIP is then. */
static void make_ends(struct jit *jit, struct code *c, const uint8_t *leave)
{
	jit->glue.ends = code_rx(c);
	code_load_gs(c, RSP, OFF(jit.ras_base));
	call_with_state(jit, c, jit_call_ends);
	go_on_or_leave(jit, c, leave);
}

/* The same for the functions of lean.c. */
static const uint8_t *make_lean(const struct jit *jit, struct code *c, const void *fn)
{
	const uint8_t *at = code_rx(c);
	uint8_t *unusual;

	code_store_gs(c, TMP_B, OFF(jit.tmp[1]));
	code_load_gs(c, RSP, OFF(jit.ras_base));
	spill_volatiles(c);
	first_argument(c);
	code_mov_rr(c, RSI, TMP_B);
	call_c(c, fn);
	code_bytes(c, "\x84\xc0", 2);
	reload_volatiles(c);
	unusual = code_jcc8(c, CC_IS_E);
	go_to_rip(jit, c);
	code_land8(c, unusual);
	code_load_gs(c, TMP_B, OFF(jit.tmp[1]));
	code_jmp(c, jit->glue.ends);
	return at;
}

/* Called by vector code that finds the registers not live; it looks again afterwards. */
static void make_vectors(struct jit *jit, struct code *c)
{
	jit->glue.vectors = code_rx(c);
	spill_volatiles(c);
	vectors(jit, c, true);
	first_argument(c);
	code_alu_imm(c, true, 5, RSP, 8);
	call_c(c, jit_call_vectors);
	code_alu_imm(c, true, 0, RSP, 8);
	vectors(jit, c, false);
	reload_volatiles(c);
	code_byte(c, 0xc3);
}

void jit_glue_make(struct jit *jit, struct code *c)
{
	const uint8_t *leave = make_leave(c), *no_return, *unused;

	make_exit(jit, c, JIT_INTERPRET, leave, &jit->glue.exit_interpret,
		  &jit->glue.exit_interpret_host);
	make_exit(jit, c, JIT_LOOP, leave, &jit->glue.exit_loop, &jit->glue.exit_loop_host);
	make_exit(jit, c, JIT_MISS, leave, &no_return, &unused);
	make_link(jit, c, leave);
	make_indirect(jit, c, leave);
	make_careful(jit, c, leave);
	make_memory(jit, c, leave);
	for (unsigned i = 0; i < JIT_PROBES; i++) {
		jit->glue.probe[0][i] = make_probe(jit, c, 1u << i, false);
		jit->glue.probe[1][i] = make_probe(jit, c, 1u << i, true);
	}
	make_handler(jit, c, leave);
	make_ends(jit, c, leave);
	jit->glue.lean[LEAN_SYSCALL] = make_lean(jit, c, jit_lean_syscall);
	jit->glue.lean[LEAN_SYSRET] = make_lean(jit, c, jit_lean_sysret);
	jit->glue.lean[LEAN_IRET] = make_lean(jit, c, jit_lean_iret);
	make_vectors(jit, c);
	jit->glue.enter = code_rx(c);
	make_enter(c, no_return);
}
