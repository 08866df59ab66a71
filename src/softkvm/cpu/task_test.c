/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hardware task switches. */
#include "softkvm/cpu/sys_testvm.h"

#define NEW_EIP 0x14000u

/* The second task: flat, privilege 0. */
static void fill_task(struct sysvm *s)
{
	static const uint16_t sels[6] = { S_DATA0, S_CODE0, S_DATA0, S_DATA0, S_DATA0, S_DATA0 };

	put32(s, TSS_B + 32, NEW_EIP);
	put32(s, TSS_B + 36, FL_IF | FL_CF);
	for (unsigned i = 0; i < 8; i++) {
		put32(s, TSS_B + 40 + i * 4, i == RSP ? STACK1 : 0x100 + i);
	}
	for (unsigned i = 0; i < 6; i++) {
		put16(s, TSS_B + 72 + i * 4, sels[i]);
	}
}

static unsigned tss_type(const struct sysvm *s, uint16_t sel)
{
	return get32(s, GDT + sel + 4) >> 8 & 15;
}

static void test_call_and_iret(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;

	fill_task(&s);
	cpu->gpr[RAX] = 0xaaaa;
	cpu->gpr[RDI] = 0xdddd;
	cpu->dr7 = 0x400 | 3;
	CHECK_EQ(t, EXEC(&s, 0x9a, LE32(0), LE16(S_TSS_B)), EXEC_END);
	CHECK_EQ(t, cpu->rip, NEW_EIP);
	CHECK_EQ(t, cpu->gpr[RDI], 0x107);
	CHECK_EQ(t, cpu->gpr[RSP], STACK1);
	CHECK_EQ(t, cpu_rflags(cpu), FL_FIXED | FL_IF | FL_CF | FL_NT);
	CHECK_EQ(t, cpu->tr.sel, S_TSS_B);
	CHECK_EQ(t, tss_type(&s, S_TSS_B), DT_TSS_BUSY);
	CHECK_EQ(t, tss_type(&s, S_TSS), DT_TSS_BUSY);
	CHECK_EQ(t, get16(&s, TSS_B), S_TSS);
	CHECK(t, cpu->cr0 & CR0_TS);
	CHECK_EQ(t, cpu->dr7, 0x400 | 2);
	CHECK_EQ(t, get32(&s, TSS + 32), CODE + 7);
	CHECK_EQ(t, get32(&s, TSS + 40), 0xaaaa);
	CHECK_EQ(t, get16(&s, TSS + 76), S_CODE0);
	CHECK_EQ(t, EXEC(&s, 0xcf), EXEC_END);
	CHECK_EQ(t, cpu->rip, CODE + 7);
	CHECK_EQ(t, cpu->gpr[RAX], 0xaaaa);
	CHECK_EQ(t, cpu->gpr[RDI], 0xdddd);
	CHECK_EQ(t, tss_type(&s, S_TSS_B), DT_TSS);
	CHECK_EQ(t, cpu->tr.sel, S_TSS);
	CHECK_EQ(t, get32(&s, TSS_B + 32), NEW_EIP + 1);
	CHECK(t, !(get32(&s, TSS_B + 36) & FL_NT));
	sysvm_free(&s);
}

static void test_jump_and_trap_bit(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	fill_task(&s);
	put16(&s, TSS_B + 100, 1);
	CHECK_EQ(t, EXEC(&s, 0xea, LE32(0), LE16(S_TASKGATE)), EXEC_END);
	CHECK_EQ(t, s.cpu->rip, NEW_EIP);
	CHECK_EQ(t, tss_type(&s, S_TSS), DT_TSS); /* a jump leaves it free */
	CHECK(t, !(s.cpu->rflags & FL_NT));
	CHECK_EQ(t, s.cpu->ev.debug_bits, BIT(15));
	sysvm_free(&s);
}

static void test_gate_with_error(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	fill_task(&s);
	set_idt(&s, EX_DF, gate32(S_TSS_B, 0, DT_TASK, 0, 0));
	set_idt(&s, EX_GP, 0);
	s.cpu->fault = (struct fault){ .vector = EX_GP, .has_error = true, .error = 8 };
	CHECK_EQ(t, event_deliver_fault(s.cpu), EXEC_END);
	CHECK_EQ(t, s.cpu->rip, NEW_EIP);
	CHECK_EQ(t, s.cpu->gpr[RSP], STACK1 - 4);
	CHECK_EQ(t, get32(&s, STACK1 - 4), 0);
	CHECK_EQ(t, get32(&s, TSS + 32), CODE);
	CHECK(t, s.cpu->rflags & FL_NT);
	sysvm_free(&s);
}

static void test_paging(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;

	fill_task(&s);
	cpu->cr4 |= CR4_PSE;
	for (unsigned i = 0; i < 4; i++) {
		put32(&s, TABLES + i * 4, i << 22 | 0x87);
		put32(&s, TABLES + 0x1000 + i * 4, i << 22 | 0x87);
	}
	CHECK(t, mmu_set_cr3(cpu, TABLES, false) && cpu_set_cr0(cpu, cpu->cr0 | CR0_PG));
	put32(&s, TSS_B + 28, TABLES + 0x1000);
	CHECK_EQ(t, EXEC(&s, 0x9a, LE32(0), LE16(S_TSS_B)), EXEC_END);
	CHECK_EQ(t, cpu->cr3, TABLES + 0x1000);
	sysvm_free(&s);
}

static void test_small(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	set_gdt(&s, S_TSS_B, descriptor(TSS_B, 0x2b, 0x0081));
	put16(&s, TSS_B + 14, 0x9000);
	put16(&s, TSS_B + 16, FL_CF);
	put16(&s, TSS_B + 26, 0x7000); /* SP */
	put16(&s, TSS_B + 34, S_DATA0);
	put16(&s, TSS_B + 36, S_CODE0);
	put16(&s, TSS_B + 38, S_DATA0);
	put16(&s, TSS_B + 40, S_DATA0);
	CHECK_EQ(t, EXEC(&s, 0x9a, LE32(0), LE16(S_TSS_B)), EXEC_END);
	CHECK_EQ(t, s.cpu->rip, 0x9000);
	CHECK_EQ(t, s.cpu->gpr[RSP] & 0xffff, 0x7000);
	CHECK(t, s.cpu->seg[SEG_FS].unusable);
	CHECK_EQ(t, tss_type(&s, S_TSS_B), DT_TSS16_BUSY);
	sysvm_free(&s);
}

static void test_checks(struct test *t)
{
	static const struct {
		uint64_t tss;
		enum vector vector;
		uint32_t error;
	} cases[] = {
		{ 0x00008b0050000067, EX_GP, S_TSS_B }, /* busy */
		{ 0x0000090050000067, EX_NP, S_TSS_B },
		{ 0x0000890050000066, EX_TS, S_TSS_B }, /* too small */
		{ 0x0000820050000067, EX_GP, S_TSS_B },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sysvm s = sysvm_new(false);
		enum exec_result r;

		fill_task(&s);
		set_gdt(&s, S_TSS_B, cases[i].tss);
		r = EXEC(&s, 0xea, LE32(0), LE16(S_TSS_B));
		CHECK_FAULT(t, &s, r, cases[i].vector, cases[i].error);
		CHECK_EQ(t, s.cpu->rip, CODE);
		CHECK_EQ(t, s.cpu->tr.sel, S_TSS);
		sysvm_free(&s);
	}
}

/* Bad segments are found when the new task runs already. */
static void test_new_task_faults(struct test *t)
{
	static const struct {
		uint32_t off;
		uint16_t sel;
		enum vector vector;
		uint32_t error;
	} cases[] = {
		{ 76, S_DATA0, EX_TS, S_DATA0 }, /* CS is data */
		{ 76, 0, EX_TS, 0 },
		{ 80, S_RO, EX_TS, S_RO },       /* SS read-only */
		{ 84, 0x1f8, EX_TS, 0x1f8 },     /* DS beyond the table */
		{ 88, S_NP, EX_NP, S_NP },       /* FS not present */
		{ 96, S_DATA0, EX_TS, S_DATA0 }, /* LDT */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sysvm s = sysvm_new(false);
		enum exec_result r;

		fill_task(&s);
		put16(&s, TSS_B + cases[i].off, cases[i].sel);
		r = EXEC(&s, 0xea, LE32(0), LE16(S_TSS_B));
		CHECK_FAULT(t, &s, r, cases[i].vector, cases[i].error);
		CHECK_EQ(t, s.cpu->rip, NEW_EIP);
		CHECK_EQ(t, s.cpu->tr.sel, S_TSS_B);
		sysvm_free(&s);
	}
}

static const struct test_case cases[] = {
	{ "call_and_iret", test_call_and_iret },
	{ "jump_and_trap_bit", test_jump_and_trap_bit },
	{ "gate_with_error", test_gate_with_error },
	{ "paging", test_paging },
	{ "small", test_small },
	{ "checks", test_checks },
	{ "new_task_faults", test_new_task_faults },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
