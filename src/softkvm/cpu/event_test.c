/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delivery of events: frames, checks and their order, double and triple faults, debug traps. */
#include "softkvm/cpu/sys_testvm.h"

static enum exec_result raise_fault(struct sysvm *s, enum vector v, bool has_error, uint32_t error)
{
	s->cpu->fault =
		(struct fault){ .vector = (uint8_t)v, .has_error = has_error, .error = error };
	return event_deliver_fault(s->cpu);
}

static void test_same_privilege_32(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	uint32_t sp = STACK0 - 0x800;

	s.cpu->rflags |= FL_IF | FL_TF | FL_NT;
	CHECK_EQ(t, raise_fault(&s, EX_GP, true, 0x1234), EXEC_END);
	CHECK_EQ(t, s.cpu->rip, HANDLER + EX_GP * 16);
	CHECK_EQ(t, s.cpu->gpr[RSP], sp - 16);
	CHECK_EQ(t, get32(&s, sp - 16), 0x1234);
	CHECK_EQ(t, get32(&s, sp - 12), CODE);
	CHECK_EQ(t, get32(&s, sp - 8), S_CODE0);
	CHECK_EQ(t, get32(&s, sp - 4), FL_FIXED | FL_IF | FL_TF | FL_NT | FL_RF);
	CHECK_EQ(t, s.cpu->rflags, FL_FIXED);
	sysvm_free(&s);
}

static void test_inner_privilege_32(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	set_cpl(&s, 3);
	s.cpu->rflags |= FL_IF;
	set_idt(&s, 0x40, gate32(S_CODE0, HANDLER + 0x400, DT_TRAP, 0, 0));
	CHECK_EQ(t, event_deliver_interrupt(s.cpu, 0x40), EXEC_END);
	CHECK_EQ(t, s.cpu->cpl, 0);
	CHECK_EQ(t, s.cpu->seg[SEG_SS].sel, S_DATA0);
	CHECK_EQ(t, s.cpu->seg[SEG_CS].sel, S_CODE0);
	CHECK_EQ(t, s.cpu->gpr[RSP], STACK0 - 20);
	CHECK_EQ(t, get32(&s, STACK0 - 4), S_DATA3 | 3);
	CHECK_EQ(t, get32(&s, STACK0 - 8), STACK3);
	CHECK_EQ(t, get32(&s, STACK0 - 12), FL_FIXED | FL_IF);
	CHECK_EQ(t, get32(&s, STACK0 - 16), S_CODE3 | 3);
	CHECK_EQ(t, get32(&s, STACK0 - 20), CODE);
	CHECK(t, s.cpu->rflags & FL_IF); /* a trap gate */
	sysvm_free(&s);
}

static void test_gate_16(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	uint32_t sp = STACK0 - 0x800;

	set_idt(&s, 0x41, gate32(S_CODE0, 0x77771234, DT_INT16, 0, 0));
	CHECK_EQ(t, event_deliver_interrupt(s.cpu, 0x41), EXEC_END);
	CHECK_EQ(t, s.cpu->rip, 0x1234);
	CHECK_EQ(t, s.cpu->gpr[RSP], sp - 6);
	CHECK_EQ(t, get16(&s, sp - 6), CODE & 0xffff);
	sysvm_free(&s);
}

static void test_frame_64(struct test *t)
{
	struct sysvm s = sysvm_new(true);

	s.cpu->gpr[RSP] = STACK0 - 0x803;
	CHECK_EQ(t, raise_fault(&s, EX_PF, true, 2), EXEC_END);
	CHECK_EQ(t, s.cpu->gpr[RSP], STACK0 - 0x810 - 48);
	CHECK_EQ(t, get64(&s, STACK0 - 0x810 - 8), S_DATA0);
	CHECK_EQ(t, get64(&s, STACK0 - 0x810 - 16), STACK0 - 0x803);
	CHECK_EQ(t, get64(&s, STACK0 - 0x810 - 32), S_CODE64);
	CHECK_EQ(t, get64(&s, STACK0 - 0x810 - 48), 2);
	CHECK_EQ(t, s.cpu->seg[SEG_SS].sel, S_DATA0); /* same privilege: stays */
	sysvm_free(&s);
}

static void test_ist_and_null_ss(struct test *t)
{
	struct sysvm s = sysvm_new(true);

	set_cpl(&s, 3);
	set_idt(&s, EX_DF, gate32(S_CODE64, HANDLER, DT_INT, 0, 1)); /* IST 1 */
	CHECK_EQ(t, raise_fault(&s, EX_DF, true, 0), EXEC_END);
	CHECK_EQ(t, s.cpu->gpr[RSP], IST1 - 48);
	CHECK_EQ(t, s.cpu->cpl, 0);
	CHECK_EQ(t, s.cpu->seg[SEG_SS].sel, 0);
	CHECK(t, s.cpu->seg[SEG_SS].unusable);
	CHECK_EQ(t, get64(&s, IST1 - 16), STACK3);
	sysvm_free(&s);
}

static void test_real_mode(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;

	cpu->cr0 &= ~CR0_PE;
	for (unsigned i = 0; i < 6; i++) {
		cpu->seg[i] = (struct segment){ .limit = 0xffff, .type = 3, .s = 1, .present = 1 };
	}
	cpu->seg[SEG_CS].sel = 0x100;
	cpu->seg[SEG_CS].base = 0x1000;
	cpu->idt = (struct dtable){ 0, 0x3ff };
	cpu_mode_changed(cpu);
	cpu->rip = 0x55;
	cpu->gpr[RSP] = 0xabcd8000;
	cpu->rflags |= FL_IF;
	put32(&s, 8 * 4, 0x20000333);
	CHECK_EQ(t, event_deliver_interrupt(cpu, 8), EXEC_END);
	CHECK_EQ(t, cpu->rip, 0x333);
	CHECK_EQ(t, cpu->seg[SEG_CS].base, 0x20000);
	CHECK_EQ(t, cpu->gpr[RSP], 0xabcd7ffa); /* only SP moves */
	CHECK_EQ(t, get16(&s, 0x7ffa), 0x55);
	CHECK_EQ(t, get16(&s, 0x7ffc), 0x100);
	CHECK(t, !(cpu->rflags & FL_IF));
	/* No error code, and a vector beyond the table is a chain of #GP that shuts down. */
	cpu->idt.limit = 15;
	CHECK_EQ(t, raise_fault(&s, EX_GP, true, 9), EXEC_END);
	CHECK(t, cpu->ev.triple_fault);
	sysvm_free(&s);
}

/* What a broken gate or handler raises: error codes with EXT. #UD first: no double fault. */
static void test_gate_checks(struct test *t)
{
	static const struct {
		uint64_t gate;
		enum vector vector;
		uint32_t error;
	} cases[] = {
		{ 0, EX_GP, 6 * 8 + 3 },
		{ 0x00008c0000080000, EX_GP, 6 * 8 + 3 },   /* a call gate */
		{ 0x00000e0000080000, EX_NP, 6 * 8 + 3 },   /* not present */
		{ 0x00008e0000000000, EX_GP, 1 },           /* null code */
		{ 0x00008e0000100000, EX_GP, S_DATA0 + 1 }, /* data */
		{ 0x00008e0001f80000, EX_GP, 0x1f8 + 1 },   /* beyond the GDT */
		{ 0x00008e0000700000, EX_GP, S_NP + 1 },    /* data, not present */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sysvm s = sysvm_new(false);
		uint32_t sp = STACK0 - 0x800;

		set_idt(&s, EX_UD, cases[i].gate);
		CHECK_EQ(t, raise_fault(&s, EX_UD, false, 0), EXEC_END);
		CHECK_EQ(t, s.cpu->rip, HANDLER + cases[i].vector * 16u);
		CHECK_EQ(t, get32(&s, sp - 16), cases[i].error);
		CHECK_EQ(t, get32(&s, sp - 12), CODE);
		sysvm_free(&s);
	}
}

static void test_software_interrupt(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	enum exec_result r;

	set_cpl(&s, 3);
	r = EXEC(&s, 0xcd, 0x06); /* DPL 0: the program may not */
	CHECK_FAULT(t, &s, r, EX_GP, 6 * 8 + 2);
	CHECK_EQ(t, s.cpu->rip, CODE);
	set_idt(&s, 3, gate32(S_CODE0, HANDLER, DT_INT, 3, 0));
	CHECK_EQ(t, EXEC(&s, 0xcc), EXEC_END);
	CHECK_EQ(t, get32(&s, STACK0 - 20), CODE + 1);
	CHECK_EQ(t, get32(&s, STACK0 - 12) & FL_RF, 0);
	sysvm_free(&s);
}

static void test_double_and_triple(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	uint32_t sp = STACK0 - 0x800;

	set_idt(&s, EX_GP, 0); /* #GP, then #GP again: contributory */
	CHECK_EQ(t, raise_fault(&s, EX_GP, true, 5), EXEC_END);
	CHECK_EQ(t, s.cpu->rip, HANDLER + EX_DF * 16);
	CHECK_EQ(t, get32(&s, sp - 16), 0);
	CHECK(t, !s.cpu->ev.triple_fault);
	set_idt(&s, EX_DF, 0);
	set_idt(&s, EX_NP, 0);
	CHECK_EQ(t, raise_fault(&s, EX_NP, true, 5), EXEC_END);
	CHECK(t, s.cpu->ev.triple_fault);
	CHECK(t, atomic_load(&s.cpu->req) & REQ_TRIPLE);
	sysvm_free(&s);
}

static void test_bad_tss_stack(struct test *t)
{
	static const struct {
		uint16_t ss;
		enum vector vector;
		uint32_t error;
	} cases[] = {
		{ 0, EX_TS, 1 },
		{ S_DATA3 | 3, EX_TS, S_DATA3 | 1 },
		{ S_RO, EX_TS, S_RO | 1 },
		{ S_CODE0, EX_TS, S_CODE0 | 1 },
		{ S_DATA0 | 3, EX_TS, S_DATA0 | 1 },
		{ 0x1f8, EX_TS, 0x1f9 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sysvm s = sysvm_new(false);

		set_cpl(&s, 3);
		/* #TS's own handler needs no other stack: conforming. */
		set_idt(&s, EX_TS, gate32(S_CONF, HANDLER, DT_INT, 0, 0));
		put16(&s, TSS + 8, cases[i].ss);
		CHECK_EQ(t, raise_fault(&s, EX_UD, false, 0), EXEC_END);
		CHECK_EQ(t, s.cpu->rip, HANDLER);
		CHECK_EQ(t, s.cpu->cpl, 3);
		CHECK_EQ(t, get32(&s, STACK3 - 16), cases[i].error);
		sysvm_free(&s);
	}
}

static void test_payloads(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;

	cpu->fault = (struct fault){
		.vector = EX_PF, .has_error = true, .has_payload = true, .payload = 0xdeadbeef
	};
	CHECK_EQ(t, event_deliver_fault(cpu), EXEC_END);
	CHECK_EQ(t, cpu->cr2, 0xdeadbeef);
	cpu->dr6 = 0xffff0ff0 | 15;
	cpu->dr7 = 0x400 | BIT(13);
	cpu->ev.debug_bits = BIT(14) | 2;
	CHECK(t, event_is_pending(cpu));
	CHECK_EQ(t, event_deliver_pending(cpu), EXEC_END);
	CHECK_EQ(t, cpu->dr6, 0xffff0ff0 | BIT(14) | 2);
	CHECK_EQ(t, cpu->dr7, 0x400);
	CHECK_EQ(t, event_deliver_pending(cpu), EXEC_NEXT);
	sysvm_free(&s);
}

static void test_pending_order(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct events *ev = &s.cpu->ev;

	set_idt(&s, 0x50, gate32(S_CODE0, HANDLER + 0x500, DT_INT, 0, 0));
	ev->interrupt_injected = true;
	ev->interrupt_nr = 0x50;
	ev->exception = (struct fault){ .vector = EX_UD };
	ev->exception_pending = true;
	CHECK_EQ(t, event_deliver_pending(s.cpu), EXEC_END);
	CHECK_EQ(t, s.cpu->rip, HANDLER + 0x500);
	CHECK_EQ(t, event_deliver_pending(s.cpu), EXEC_END);
	CHECK_EQ(t, s.cpu->rip, HANDLER + EX_UD * 16);
	/* MOV SS holds a debug trap off. */
	ev->debug_bits = BIT(14);
	ev->shadow = SHADOW_MOVSS;
	CHECK_EQ(t, event_deliver_pending(s.cpu), EXEC_NEXT);
	ev->shadow = 0;
	CHECK_EQ(t, event_deliver_pending(s.cpu), EXEC_END);
	CHECK_EQ(t, s.cpu->rip, HANDLER + EX_DB * 16);
	sysvm_free(&s);
}

static void test_nmi(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	CHECK_EQ(t, event_deliver_nmi(s.cpu), EXEC_END);
	CHECK(t, s.cpu->ev.nmi_masked);
	CHECK_EQ(t, s.cpu->rip, HANDLER + 2 * 16);
	CHECK_EQ(t, EXEC(&s, 0xcf), EXEC_END); /* iret */
	CHECK(t, !s.cpu->ev.nmi_masked);
	CHECK_EQ(t, s.cpu->rip, CODE);
	sysvm_free(&s);
}

static void test_breakpoints(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;

	cpu->dr[0] = 0x1000;
	cpu->dr[1] = 0x2004; /* 4 bytes, write */
	cpu->dr[2] = 0x3000; /* 8 bytes, access */
	cpu->dr[3] = 0x3f8;  /* port */
	cpu->dr7 = 0x400 | 0x55 | 0xdull << 20 | 0xbull << 24 | 0x2ull << 28;
	CHECK_EQ(t, event_match_breakpoints(cpu, 0x1000, 1, BP_EXEC), 1);
	CHECK_EQ(t, event_match_breakpoints(cpu, 0x1001, 1, BP_EXEC), 0);
	CHECK_EQ(t, event_match_breakpoints(cpu, 0x1000, 1, BP_WRITE), 0);
	CHECK_EQ(t, event_match_breakpoints(cpu, 0x2001, 4, BP_WRITE), 2);
	CHECK_EQ(t, event_match_breakpoints(cpu, 0x2000, 4, BP_WRITE), 0);
	CHECK_EQ(t, event_match_breakpoints(cpu, 0x2007, 1, BP_READWRITE), 0);
	CHECK_EQ(t, event_match_breakpoints(cpu, 0x3007, 1, BP_READWRITE), 4);
	CHECK_EQ(t, event_match_breakpoints(cpu, 0x3f8, 1, BP_IO), 0);
	cpu->cr4 |= CR4_DE;
	CHECK_EQ(t, event_match_breakpoints(cpu, 0x3f8, 1, BP_IO), 8);
	cpu->rip = 0x1000;
	CHECK(t, event_code_breakpoint(cpu));
	CHECK_EQ(t, cpu->fault.payload, 1);
	cpu->rflags |= FL_RF;
	CHECK(t, !event_code_breakpoint(cpu));
	sysvm_free(&s);
}

static void test_debugger(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;

	cpu->guest_debug.control =
		KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_SINGLESTEP;
	CHECK_EQ(t, EXEC(&s, 0xcc), EXEC_EXIT);
	CHECK_EQ(t, cpu->run->exit_reason, KVM_EXIT_DEBUG);
	CHECK_EQ(t, cpu->run->debug.arch.exception, EX_BP);
	CHECK_EQ(t, cpu->run->debug.arch.pc, CODE);
	/* Given back, it is delivered as if executed. */
	cpu->ev.exception = (struct fault){ .vector = EX_BP };
	cpu->ev.exception_pending = true;
	CHECK_EQ(t, event_deliver_pending(cpu), EXEC_END);
	CHECK_EQ(t, get32(&s, STACK0 - 0x800 - 12), CODE + 1);
	cpu->rip = CODE;
	CHECK_EQ(t, EXEC(&s, 0xfa), EXEC_END); /* cli */
	CHECK_EQ(t, event_deliver_pending(cpu), EXEC_EXIT);
	CHECK_EQ(t, cpu->run->debug.arch.exception, EX_DB);
	CHECK_EQ(t, cpu->run->debug.arch.pc, CODE + 1);
	CHECK_EQ(t, cpu->run->debug.arch.dr6, 0xffff0ff0 | BIT(14));
	sysvm_free(&s);
}

static void test_single_step(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	s.cpu->rflags |= FL_TF;
	CHECK_EQ(t, EXEC(&s, 0xfa), EXEC_END);
	CHECK_EQ(t, s.cpu->ev.debug_bits, BIT(14));
	CHECK_EQ(t, event_deliver_pending(s.cpu), EXEC_END);
	CHECK_EQ(t, get32(&s, STACK0 - 0x800 - 12), CODE + 1);
	CHECK(t, get32(&s, STACK0 - 0x800 - 4) & FL_TF);
	CHECK(t, !(s.cpu->rflags & FL_TF));
	/* IRET back with TF: the trap comes behind the next instruction, not behind IRET. */
	CHECK_EQ(t, EXEC(&s, 0xcf), EXEC_END);
	CHECK(t, s.cpu->rflags & FL_TF);
	CHECK_EQ(t, s.cpu->ev.debug_bits, 0);
	sysvm_free(&s);
}

static const struct test_case cases[] = {
	{ "same_privilege_32", test_same_privilege_32 },
	{ "inner_privilege_32", test_inner_privilege_32 },
	{ "gate_16", test_gate_16 },
	{ "frame_64", test_frame_64 },
	{ "ist_and_null_ss", test_ist_and_null_ss },
	{ "real_mode", test_real_mode },
	{ "gate_checks", test_gate_checks },
	{ "software_interrupt", test_software_interrupt },
	{ "double_and_triple", test_double_and_triple },
	{ "bad_tss_stack", test_bad_tss_stack },
	{ "payloads", test_payloads },
	{ "pending_order", test_pending_order },
	{ "nmi", test_nmi },
	{ "breakpoints", test_breakpoints },
	{ "debugger", test_debugger },
	{ "single_step", test_single_step },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
