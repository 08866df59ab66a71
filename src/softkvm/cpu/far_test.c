/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Far transfers: JMP, CALL, RET, IRET, gates, SYSCALL and SYSENTER in their modes. */
#include "softkvm/cpu/sys_testvm.h"

#define JMPF(sel, off)  0xea, LE32(off), LE16(sel)
#define CALLF(sel, off) 0x9a, LE32(off), LE16(sel)

static void push32(struct sysvm *s, uint32_t v)
{
	s->cpu->gpr[RSP] -= 4;
	put32(s, (uint32_t)s->cpu->gpr[RSP], v);
}
static void push64(struct sysvm *s, uint64_t v)
{
	s->cpu->gpr[RSP] -= 8;
	put64(s, (uint32_t)s->cpu->gpr[RSP], v);
}

/* What a far jump at a privilege says about each selector. */
static void test_jump_checks(struct test *t)
{
	static const struct {
		unsigned cpl;
		uint16_t sel;
		uint32_t off;
		int vector; /* -1: goes there */
		uint32_t error;
		uint16_t cs;
	} cases[] = {
		{ 0, S_CODE0, 0x12345, -1, 0, S_CODE0 },
		{ 0, 0, 0, EX_GP, 0, 0 },
		{ 0, 3, 0, EX_GP, 0, 0 },
		{ 0, S_DATA0, 0, EX_GP, S_DATA0, 0 },
		{ 0, S_CODE3 | 3, 0, EX_GP, S_CODE3, 0 },
		{ 0, S_CODE0 | 3, 0, EX_GP, S_CODE0, 0 },
		{ 3, S_CODE0, 0, EX_GP, S_CODE0, 0 },
		{ 3, S_CODE3, 0x12345, -1, 0, S_CODE3 | 3 },
		{ 3, S_CONF, 0x12345, -1, 0, S_CONF | 3 },
		{ 0, S_CONF, 0x12345, -1, 0, S_CONF },
		{ 0, S_CODE16, 0x10000, EX_GP, 0, 0 },
		{ 0, 0x1f8, 0, EX_GP, 0x1f8, 0 },
		{ 0, 0x0c, 0, EX_GP, 0x0c, 0 }, /* no LDT */
		{ 0, S_LDT, 0, EX_GP, S_LDT, 0 },
		{ 3, S_TSS_B, 0, EX_GP, S_TSS_B, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sysvm s = sysvm_new(false);
		enum exec_result r;

		set_cpl(&s, cases[i].cpl);
		r = EXEC(&s, JMPF(cases[i].sel, cases[i].off));
		if (cases[i].vector >= 0) {
			CHECK_FAULT(t, &s, r, (unsigned)cases[i].vector, cases[i].error);
			CHECK_EQ(t, s.cpu->rip, CODE);
		} else {
			CHECK_EQ(t, r, EXEC_END);
			CHECK_EQ(t, s.cpu->rip, cases[i].off);
			CHECK_EQ(t, s.cpu->seg[SEG_CS].sel, cases[i].cs);
			CHECK_EQ(t, s.cpu->cpl, cases[i].cpl);
		}
		sysvm_free(&s);
	}
}

static void test_not_present_code(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	enum exec_result r;

	set_gdt(&s, S_CODE16, descriptor(0, 0xffff, 0x001b));
	r = EXEC(&s, JMPF(S_CODE16, 0));
	CHECK_FAULT(t, &s, r, EX_NP, S_CODE16);
	sysvm_free(&s);
}

static void test_call_and_return(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	uint64_t sp = s.cpu->gpr[RSP];

	CHECK_EQ(t, EXEC(&s, CALLF(S_CODE16, 0x8000)), EXEC_END);
	CHECK_EQ(t, get32(&s, (uint32_t)sp - 4), S_CODE0);
	CHECK_EQ(t, get32(&s, (uint32_t)sp - 8), CODE + 7);
	CHECK_EQ(t, s.cpu->key & MODE_SIZE, MODE_16);
	CHECK_EQ(t, EXEC(&s, 0x66, 0xca, 0x08, 0x00), EXEC_END); /* 32-bit lret $8 */
	CHECK_EQ(t, s.cpu->rip, CODE + 7);
	CHECK_EQ(t, s.cpu->gpr[RSP], sp + 8);
	CHECK_EQ(t, s.cpu->seg[SEG_CS].sel, S_CODE0);
	sysvm_free(&s);
}

static void test_call_gate_inward(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	set_cpl(&s, 3);
	set_gdt(&s, S_GATE, gate32(S_CODE0, 0x15000, DT_CALL, 3, 2));
	push32(&s, 0x11111111);
	push32(&s, 0x22222222);
	CHECK_EQ(t, EXEC(&s, CALLF(S_GATE | 3, 0xdead)), EXEC_END);
	CHECK_EQ(t, s.cpu->rip, 0x15000);
	CHECK_EQ(t, s.cpu->cpl, 0);
	CHECK_EQ(t, s.cpu->gpr[RSP], STACK0 - 24);
	CHECK_EQ(t, get32(&s, STACK0 - 4), S_DATA3 | 3);
	CHECK_EQ(t, get32(&s, STACK0 - 8), STACK3 - 8);
	CHECK_EQ(t, get32(&s, STACK0 - 12), 0x11111111);
	CHECK_EQ(t, get32(&s, STACK0 - 16), 0x22222222);
	CHECK_EQ(t, get32(&s, STACK0 - 20), S_CODE3 | 3);
	CHECK_EQ(t, get32(&s, STACK0 - 24), CODE + 7);
	/* Back out: parameters released on both stacks, DS of privilege 0 is nulled. */
	force_seg(&s, SEG_DS, S_DATA0);
	force_seg(&s, SEG_FS, S_CONF);
	CHECK_EQ(t, EXEC(&s, 0xca, 0x08, 0x00), EXEC_END);
	CHECK_EQ(t, s.cpu->cpl, 3);
	CHECK_EQ(t, s.cpu->rip, CODE + 7);
	CHECK_EQ(t, s.cpu->gpr[RSP], STACK3);
	CHECK_EQ(t, s.cpu->seg[SEG_SS].sel, S_DATA3 | 3);
	CHECK(t, s.cpu->seg[SEG_DS].unusable && s.cpu->seg[SEG_DS].sel == 0);
	CHECK(t, !s.cpu->seg[SEG_FS].unusable); /* conforming code stays */
	CHECK(t, !s.cpu->seg[SEG_ES].unusable);
	sysvm_free(&s);
}

static void test_call_gate_checks(struct test *t)
{
	static const struct {
		uint64_t gate;
		enum vector vector;
		uint32_t error;
	} cases[] = {
		{ 0x00008c0000080000, EX_GP, S_GATE }, /* DPL 0 from 3 */
		{ 0x00006c0000080000, EX_NP, S_GATE },
		{ 0x0000ec0000000000, EX_GP, 0 }, /* null target */
		{ 0x0000ec0000100000, EX_GP, S_DATA0 },
		{ 0x0000e90000080000, EX_GP, 0 }, /* a TSS without limit: see below */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sysvm s = sysvm_new(false);
		enum exec_result r;

		set_cpl(&s, 3);
		set_gdt(&s, S_GATE, cases[i].gate);
		r = EXEC(&s, CALLF(S_GATE, 0));
		CHECK_EQ(t, r, EXEC_FAULT);
		if (cases[i].error != 0 || cases[i].vector == EX_NP) {
			CHECK_FAULT(t, &s, r, cases[i].vector, cases[i].error);
		}
		CHECK_EQ(t, s.cpu->gpr[RSP], STACK3);
		sysvm_free(&s);
	}
}

static void test_jump_through_gate(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	enum exec_result r;

	set_cpl(&s, 3);
	set_gdt(&s, S_GATE, gate32(S_CODE0, 0x15000, DT_CALL, 3, 0));
	r = EXEC(&s, JMPF(S_GATE, 0)); /* a jump changes no privilege */
	CHECK_FAULT(t, &s, r, EX_GP, S_CODE0);
	set_gdt(&s, S_GATE, gate32(S_CONF, 0x15000, DT_CALL, 3, 0));
	CHECK_EQ(t, EXEC(&s, JMPF(S_GATE, 0)), EXEC_END);
	CHECK_EQ(t, s.cpu->rip, 0x15000);
	CHECK_EQ(t, s.cpu->cpl, 3);
	sysvm_free(&s);
}

static void test_iret_flags(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	/* To privilege 3 with IOPL 0: IF of the frame is taken, since CPL is still 0. */
	push32(&s, S_DATA3 | 3);
	push32(&s, STACK3 - 16);
	push32(&s, FL_IF | FL_ID | FL_AC | FL_CF | FL_VIP);
	push32(&s, S_CODE3 | 3);
	push32(&s, 0x18000);
	CHECK_EQ(t, EXEC(&s, 0xcf), EXEC_END);
	CHECK_EQ(t, s.cpu->cpl, 3);
	CHECK_EQ(t, cpu_rflags(s.cpu), FL_FIXED | FL_IF | FL_ID | FL_AC | FL_CF | FL_VIP);
	CHECK_EQ(t, s.cpu->gpr[RSP], STACK3 - 16);
	/* At privilege 3: neither IF nor IOPL. */
	push32(&s, FL_IOPL);
	push32(&s, S_CODE3 | 3);
	push32(&s, 0x18100);
	CHECK_EQ(t, EXEC(&s, 0xcf), EXEC_END);
	CHECK_EQ(t, cpu_rflags(s.cpu), FL_FIXED | FL_IF | FL_VIP);
	CHECK_EQ(t, s.cpu->rip, 0x18100);
	sysvm_free(&s);
}

static void test_v86(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;
	enum exec_result r;
	static const uint16_t sels[] = { 0x5000, 0x4000, 0x3000, 0x2000 }; /* GS FS DS ES */

	for (unsigned i = 0; i < 4; i++) {
		push32(&s, sels[i]);
	}
	push32(&s, 0x6000); /* SS */
	push32(&s, 0x1000); /* ESP */
	push32(&s, FL_VM | FL_IF);
	push32(&s, 0x1200); /* CS */
	push32(&s, 0x34);
	CHECK_EQ(t, EXEC(&s, 0xcf), EXEC_END);
	CHECK_EQ(t, cpu->cpl, 3);
	CHECK_EQ(t, cpu->key & (KEY_MODE | KEY_PE), MODE_16 | MODE_REAL);
	CHECK_EQ(t, cpu->seg[SEG_CS].base, 0x12000);
	CHECK_EQ(t, cpu->seg[SEG_GS].base, 0x50000);
	CHECK_EQ(t, cpu->gpr[RSP], 0x1000);
	r = EXEC(&s, 0xcd, 0x21); /* IOPL 0, no VME */
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	r = EXEC(&s, 0xfa);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	/* Out by an interrupt: the nine-word frame, data segments null. */
	CHECK_EQ(t, event_deliver_interrupt(cpu, 6), EXEC_END);
	CHECK_EQ(t, cpu->gpr[RSP], STACK0 - 36);
	CHECK_EQ(t, get32(&s, STACK0 - 4), 0x5000);
	CHECK_EQ(t, get32(&s, STACK0 - 16), 0x2000);
	CHECK_EQ(t, get32(&s, STACK0 - 20), 0x6000);
	CHECK_EQ(t, get32(&s, STACK0 - 28), FL_VM | FL_IF | FL_FIXED);
	CHECK_EQ(t, get32(&s, STACK0 - 36), 0x34);
	CHECK(t, cpu->seg[SEG_DS].unusable && !(cpu->rflags & FL_VM));
	/* And in again by IRET. */
	CHECK_EQ(t, EXEC(&s, 0xcf), EXEC_END);
	CHECK_EQ(t, cpu->seg[SEG_ES].base, 0x20000);
	CHECK_EQ(t, cpu->rip, 0x34);
	sysvm_free(&s);
}

static void test_vme(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;

	cpu->cr4 |= CR4_VME;
	cpu->rflags |= FL_VM | FL_VIF | FL_IF;
	for (unsigned i = 0; i < 6; i++) {
		cpu->seg[i] = (struct segment){
			.limit = 0xffff, .type = 3, .s = 1, .present = 1, .dpl = 3
		};
	}
	cpu->gpr[RSP] = 0x8000;
	cpu_mode_changed(cpu);
	cpu->rip = 0x9000;
	put16(&s, TSS + 102, 0x88); /* redirection map at 0x68: all redirected */
	put32(&s, 0x21 * 4, 0x20000100);
	CHECK_EQ(t, EXEC(&s, 0xcd, 0x21), EXEC_END);
	CHECK_EQ(t, cpu->rip, 0x100);
	CHECK_EQ(t, cpu->seg[SEG_CS].sel, 0x2000);
	CHECK(t, cpu_v86(cpu) && !(cpu->rflags & FL_VIF) && (cpu->rflags & FL_IF));
	CHECK_EQ(t, get16(&s, 0x7ffe), FL_IOPL | FL_IF | FL_FIXED);
	CHECK_EQ(t, EXEC(&s, 0xfb), EXEC_END); /* sti: the virtual flag */
	CHECK(t, cpu->rflags & FL_VIF);
	CHECK_EQ(t, EXEC(&s, 0xcf), EXEC_END);
	CHECK_EQ(t, cpu->rip, 0x9002);
	CHECK(t, cpu->rflags & FL_VIF);
	sysvm_free(&s);
}

static void test_iret_64(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	enum exec_result r;

	/* A null SS is fine for 64-bit code of privilege 0; SS:RSP is always popped. */
	push64(&s, 0);
	push64(&s, 0x7777);
	push64(&s, FL_IF);
	push64(&s, S_CODE64);
	push64(&s, 0x18000);
	CHECK_EQ(t, EXEC(&s, 0x48, 0xcf), EXEC_END);
	CHECK_EQ(t, s.cpu->gpr[RSP], 0x7777);
	CHECK(t, s.cpu->seg[SEG_SS].unusable);
	s.cpu->gpr[RSP] = STACK0;
	push64(&s, 3); /* but not of privilege 3 */
	push64(&s, STACK3);
	push64(&s, 0);
	push64(&s, S_CODE64_3 | 3);
	push64(&s, 0x18000);
	r = EXEC(&s, 0x48, 0xcf);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	put64(&s, STACK0 - 8, S_DATA3 | 3);
	put64(&s, STACK0 - 40, 0x8000000000000000);
	r = EXEC(&s, 0x48, 0xcf); /* RIP is not canonical */
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	CHECK_EQ(t, s.cpu->cpl, 0);
	put64(&s, STACK0 - 40, 0x18000);
	CHECK_EQ(t, EXEC(&s, 0x48, 0xcf), EXEC_END);
	CHECK_EQ(t, s.cpu->cpl, 3);
	CHECK_EQ(t, s.cpu->gpr[RSP], STACK3);
	sysvm_free(&s);
}

static void test_iret_to_compat(struct test *t)
{
	struct sysvm s = sysvm_new(true);

	push64(&s, S_DATA3 | 3);
	push64(&s, STACK3);
	push64(&s, 0);
	push64(&s, S_CODE3 | 3);
	push64(&s, 0x18000);
	CHECK_EQ(t, EXEC(&s, 0x48, 0xcf), EXEC_END);
	CHECK_EQ(t, s.cpu->key & (MODE_SIZE | KEY_PE | KEY_USER), MODE_32 | KEY_PE | KEY_USER);
	/* Interrupts enter 64-bit code again. */
	CHECK_EQ(t, event_deliver_interrupt(s.cpu, 6), EXEC_END);
	CHECK_EQ(t, s.cpu->key & MODE_SIZE, MODE_64);
	CHECK_EQ(t, get64(&s, STACK0 - 32), S_CODE3 | 3);
	sysvm_free(&s);
}

static void test_call_gate_64(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	enum exec_result r;

	set_cpl(&s, 3);
	set_gdt(&s, S_GATE, gate32(S_CODE64, 0x15000, DT_CALL, 3, 0));
	put64(&s, GDT + S_GATE + 8, 0);
	put32(&s, 0x40000, 0xdead);
	put16(&s, 0x40004, S_GATE | 3);
	s.cpu->gpr[RAX] = 0x40000;
	CHECK_EQ(t, EXEC(&s, 0xff, 0x18), EXEC_END); /* lcall *(%rax) */
	CHECK_EQ(t, s.cpu->rip, 0x15000);
	CHECK_EQ(t, s.cpu->gpr[RSP], STACK0 - 32);
	CHECK_EQ(t, get64(&s, STACK0 - 8), S_DATA3 | 3);
	CHECK_EQ(t, get64(&s, STACK0 - 32), CODE + 2);
	CHECK_EQ(t, EXEC(&s, 0x48, 0xcb), EXEC_END); /* lretq */
	CHECK_EQ(t, s.cpu->cpl, 3);
	CHECK_EQ(t, s.cpu->gpr[RSP], STACK3);
	put64(&s, GDT + S_GATE + 8, 1ull << 40); /* type of the upper half must be 0 */
	r = EXEC(&s, 0xff, 0x18);
	CHECK_FAULT(t, &s, r, EX_GP, S_GATE);
	sysvm_free(&s);
}

static void test_syscall(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	struct vcpu *cpu = s.cpu;
	enum exec_result r;

	set_cpl(&s, 3);
	cpu->msr.star = (uint64_t)S_CODE0 << 32 | (uint64_t)0x8b << 48;
	cpu->msr.lstar = 0x15000;
	cpu->msr.sfmask = FL_IF | FL_TF | FL_DF;
	cpu_set_rflags(cpu, FL_IF | FL_DF | FL_CF);
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x05), EXEC_END);
	CHECK_EQ(t, cpu->rip, 0x15000);
	CHECK_EQ(t, cpu->gpr[RCX], CODE + 2);
	CHECK_EQ(t, cpu->gpr[R11], FL_FIXED | FL_IF | FL_DF | FL_CF);
	CHECK_EQ(t, cpu_rflags(cpu), FL_FIXED | FL_CF);
	CHECK_EQ(t, cpu->cpl, 0);
	CHECK_EQ(t, cpu->seg[SEG_SS].sel, S_CODE0 + 8);
	CHECK_EQ(t, EXEC(&s, 0x48, 0x0f, 0x07), EXEC_END);
	CHECK_EQ(t, cpu->rip, CODE + 2);
	CHECK_EQ(t, cpu->seg[SEG_CS].sel, 0x9b);
	CHECK_EQ(t, cpu->seg[SEG_SS].sel, 0x93);
	CHECK_EQ(t, cpu_rflags(cpu), FL_FIXED | FL_IF | FL_DF | FL_CF);
	CHECK_EQ(t, cpu->key & MODE_SIZE, MODE_64);
	r = EXEC(&s, 0x48, 0x0f, 0x07); /* privilege 3 */
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	set_cpl(&s, 0);
	cpu->feat.amd = false;
	cpu->gpr[RCX] = 0x800000000000;
	r = EXEC(&s, 0x48, 0x0f, 0x07);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	CHECK_EQ(t, cpu->cpl, 0);
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x07), EXEC_END); /* to 32-bit code */
	CHECK_EQ(t, cpu->key & MODE_SIZE, MODE_32);
	CHECK_EQ(t, cpu->rip, 0);
	cpu->efer &= ~EFER_SCE;
	set_cpl(&s, 0);
	cpu->rip = CODE;
	r = EXEC(&s, 0x0f, 0x05);
	CHECK_FAULT(t, &s, r, EX_UD, 0);
	sysvm_free(&s);
}

static void test_sysenter(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;
	enum exec_result r;

	set_cpl(&s, 3);
	r = EXEC(&s, 0x0f, 0x34);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->msr.sysenter_cs = S_CODE0 | 3;
	cpu->msr.sysenter_esp = STACK0;
	cpu->msr.sysenter_eip = 0x15000;
	cpu->rflags |= FL_IF;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x34), EXEC_END);
	CHECK_EQ(t, cpu->rip, 0x15000);
	CHECK_EQ(t, cpu->gpr[RSP], STACK0);
	CHECK_EQ(t, cpu->seg[SEG_CS].sel, S_CODE0);
	CHECK(t, cpu->cpl == 0 && !(cpu->rflags & FL_IF));
	cpu->gpr[RDX] = 0x18000;
	cpu->gpr[RCX] = STACK3;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x35), EXEC_END);
	CHECK_EQ(t, cpu->rip, 0x18000);
	CHECK_EQ(t, cpu->gpr[RSP], STACK3);
	CHECK_EQ(t, cpu->seg[SEG_CS].sel, S_CODE3 | 3);
	CHECK_EQ(t, cpu->seg[SEG_SS].sel, S_DATA3 | 3);
	CHECK_EQ(t, cpu->cpl, 3);
	sysvm_free(&s);
}

static const struct test_case cases[] = {
	{ "jump_checks", test_jump_checks },
	{ "not_present_code", test_not_present_code },
	{ "call_and_return", test_call_and_return },
	{ "call_gate_inward", test_call_gate_inward },
	{ "call_gate_checks", test_call_gate_checks },
	{ "jump_through_gate", test_jump_through_gate },
	{ "iret_flags", test_iret_flags },
	{ "v86", test_v86 },
	{ "vme", test_vme },
	{ "iret_64", test_iret_64 },
	{ "iret_to_compat", test_iret_to_compat },
	{ "call_gate_64", test_call_gate_64 },
	{ "syscall", test_syscall },
	{ "sysenter", test_sysenter },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
