/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Segment registers: load checks, limits and types of accesses, LAR and its kin, tables, bases. */
#include "softkvm/cpu/sys_testvm.h"

enum { MOV_ES = 0xc0, MOV_SS = 0xd0, MOV_DS = 0xd8, MOV_FS = 0xe0 }; /* 8E /r with AX */

static void test_load_checks(struct test *t)
{
	static const struct {
		unsigned cpl;
		uint8_t modrm;
		uint16_t sel;
		int vector; /* -1: loaded */
		uint32_t error;
	} cases[] = {
		{ 0, MOV_DS, S_DATA0, -1, 0 },
		{ 0, MOV_DS, S_DATA3 | 3, -1, 0 },
		{ 0, MOV_DS, S_DATA0 | 3, EX_GP, S_DATA0 },
		{ 3, MOV_DS, S_DATA0, EX_GP, S_DATA0 },
		{ 3, MOV_DS, S_RO | 3, -1, 0 },
		{ 3, MOV_DS, S_XONLY | 3, EX_GP, S_XONLY },
		{ 3, MOV_DS, S_CODE3 | 3, -1, 0 },
		{ 3, MOV_DS, S_CONF, -1, 0 },
		{ 3, MOV_FS, 0, -1, 0 },
		{ 3, MOV_FS, 3, -1, 0 },
		{ 3, MOV_DS, S_NP | 3, EX_NP, S_NP },
		{ 0, MOV_DS, S_LDT, EX_GP, S_LDT },
		{ 0, MOV_ES, 0x1f8, EX_GP, 0x1f8 },
		{ 0, MOV_ES, 0x0c, EX_GP, 0x0c },
		{ 0, MOV_SS, S_DATA0, -1, 0 },
		{ 0, MOV_SS, 0, EX_GP, 0 },
		{ 0, MOV_SS, S_DATA0 | 3, EX_GP, S_DATA0 },
		{ 0, MOV_SS, S_DATA3, EX_GP, S_DATA3 },
		{ 0, MOV_SS, S_CODE0, EX_GP, S_CODE0 },
		{ 3, MOV_SS, S_RO | 3, EX_GP, S_RO },
		{ 3, MOV_SS, S_NP | 3, EX_SS, S_NP },
		{ 3, MOV_SS, S_DATA3 | 3, -1, 0 },
		{ 0, 0xc8, S_CODE0, EX_UD, 0 }, /* CS */
		{ 0, 0xf0, S_DATA0, EX_UD, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sysvm s = sysvm_new(false);
		enum exec_result r;

		set_cpl(&s, cases[i].cpl);
		set_gdt(&s, S_NP, descriptor(0, 0xfffff, 0xc073));
		s.cpu->gpr[RAX] = cases[i].sel;
		r = EXEC(&s, 0x8e, cases[i].modrm);
		if (cases[i].vector >= 0) {
			CHECK_FAULT(t, &s, r, (unsigned)cases[i].vector, cases[i].error);
		} else {
			unsigned reg = cases[i].modrm >> 3 & 7;

			CHECK_EQ(t, r, EXEC_END);
			CHECK_EQ(t, s.cpu->seg[reg].sel, cases[i].sel);
			CHECK_EQ(t, s.cpu->seg[reg].unusable, sel_null(cases[i].sel));
			CHECK_EQ(t, s.cpu->ev.shadow, reg == SEG_SS ? SHADOW_MOVSS : 0);
		}
		sysvm_free(&s);
	}
}

static void test_accessed_bit(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	set_gdt(&s, S_RO, descriptor(0x1000, 0x10, 0x40f2));
	s.cpu->gpr[RAX] = S_RO | 3;
	CHECK_EQ(t, EXEC(&s, 0x8e, MOV_DS), EXEC_END);
	CHECK_EQ(t, get32(&s, GDT + S_RO + 4) >> 8 & 0xff, 0xf3);
	CHECK_EQ(t, s.cpu->seg[SEG_DS].type, 3);
	CHECK_EQ(t, s.cpu->seg[SEG_DS].limit, 0x10);
	CHECK_EQ(t, s.cpu->seg[SEG_DS].base, 0x1000);
	sysvm_free(&s);
}

static void test_ldt(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	enum exec_result r;

	s.cpu->gpr[RAX] = S_LDT;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x00, 0xd0), EXEC_END); /* lldt %ax */
	CHECK_EQ(t, s.cpu->ldtr.base, LDT);
	put64(&s, LDT + 8, descriptor(0x5000, 0xfff, 0x4093));
	s.cpu->gpr[RAX] = 0x0c;
	CHECK_EQ(t, EXEC(&s, 0x8e, MOV_DS), EXEC_END);
	CHECK_EQ(t, s.cpu->seg[SEG_DS].base, 0x5000);
	s.cpu->gpr[RAX] = 0x104;
	r = EXEC(&s, 0x8e, MOV_DS);
	CHECK_FAULT(t, &s, r, EX_GP, 0x104);
	s.cpu->gpr[RAX] = S_DATA0;
	r = EXEC(&s, 0x0f, 0x00, 0xd0);
	CHECK_FAULT(t, &s, r, EX_GP, S_DATA0);
	s.cpu->gpr[RAX] = 0;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x00, 0xd0), EXEC_END);
	CHECK(t, s.cpu->ldtr.unusable);
	sysvm_free(&s);
}

static void test_ltr(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	enum exec_result r;

	s.cpu->gpr[RAX] = S_TSS; /* busy */
	r = EXEC(&s, 0x0f, 0x00, 0xd8);
	CHECK_FAULT(t, &s, r, EX_GP, S_TSS);
	s.cpu->gpr[RAX] = S_TSS_B;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x00, 0xd8), EXEC_END);
	CHECK_EQ(t, s.cpu->tr.base, TSS_B);
	CHECK_EQ(t, get32(&s, GDT + S_TSS_B + 4) >> 8 & 0xff, 0x8b);
	s.cpu->gpr[RAX] = 0;
	r = EXEC(&s, 0x0f, 0x00, 0xd8);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	set_cpl(&s, 3);
	r = EXEC(&s, 0x0f, 0x00, 0xd8);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	sysvm_free(&s);
}

static void test_ltr_64(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	enum exec_result r;

	put64(&s, GDT + S_TSS_B + 8, 0xffff8000); /* the upper half of the base */
	s.cpu->gpr[RAX] = S_TSS_B;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x00, 0xd8), EXEC_END);
	CHECK_EQ(t, s.cpu->tr.base, 0xffff800000000000 + TSS_B);
	set_gdt(&s, S_TSS_B, descriptor(TSS_B, 0x67, 0x0089));
	put64(&s, GDT + S_TSS_B + 8, 0x12345678); /* not canonical */
	r = EXEC(&s, 0x0f, 0x00, 0xd8);
	CHECK_FAULT(t, &s, r, EX_GP, S_TSS_B);
	sysvm_free(&s);
}

static void test_limits(struct test *t)
{
	static const struct {
		uint32_t limit;
		uint16_t ar;
		uint32_t off;
		unsigned size;
		enum mmu_access acc;
		bool ok;
	} cases[] = {
		{ 0xfff, 0x40f3, 0xffc, 4, ACC_READ, true },
		{ 0xfff, 0x40f3, 0xffd, 4, ACC_READ, false },
		{ 0xfff, 0x40f3, 0xfffffffe, 4, ACC_READ, false }, /* wraps */
		{ 0xfff, 0x40f1, 0, 4, ACC_READ, true },
		{ 0xfff, 0x40f1, 0, 4, ACC_WRITE, false },
		{ 0xfff, 0x40f1, 0, 4, ACC_RMW, false },
		{ 0xfff, 0x40f9, 0, 4, ACC_READ, false }, /* execute only */
		{ 0xfff, 0x40fb, 0, 4, ACC_READ, true },
		{ 0xfff, 0x40fb, 0, 4, ACC_WRITE, false },
		{ 0xfff, 0x40fb, 0, 1, ACC_EXEC, true },
		{ 0xfff, 0x40f7, 0xfff, 1, ACC_READ, false }, /* expand down */
		{ 0xfff, 0x40f7, 0x1000, 1, ACC_WRITE, true },
		{ 0xfff, 0x40f7, 0xfffffffc, 4, ACC_READ, true },
		{ 0xfff, 0x40f7, 0xfffffffd, 4, ACC_READ, false },
		{ 0xfff, 0x00f7, 0x10000, 1, ACC_READ, false }, /* 16-bit: up to 64 KiB */
		{ 0xfff, 0x00f7, 0xffff, 1, ACC_READ, true },
		{ 0xfffff, 0xc0f3, 0xfffffffc, 4, ACC_READ, true },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sysvm s = sysvm_new(false);
		gva_t lin;

		set_gdt(&s, S_RO, descriptor(0x10, cases[i].limit, cases[i].ar));
		force_seg(&s, SEG_DS, S_RO | 3);
		force_seg(&s, SEG_SS, S_RO | 3);
		cpu_mode_changed(s.cpu);
		CHECK_EQ(t,
			 seg_linear(s.cpu, SEG_DS, cases[i].off, cases[i].size, cases[i].acc, &lin),
			 cases[i].ok);
		if (cases[i].ok) {
			CHECK_EQ(t, lin, (uint32_t)(cases[i].off + 0x10));
		} else {
			CHECK_EQ(t, s.cpu->fault.vector, EX_GP);
			CHECK(t, !seg_linear(s.cpu, SEG_SS, cases[i].off, cases[i].size,
					     cases[i].acc, &lin));
			CHECK_EQ(t, s.cpu->fault.vector, EX_SS);
		}
		sysvm_free(&s);
	}
}

static void test_unreal(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;
	gva_t lin;

	force_seg(&s, SEG_CS, S_CODE16);
	cpu_mode_changed(cpu);
	cpu->rip = 0x9000;
	cpu->gpr[RAX] = CR0_ET;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x22, 0xc0), EXEC_END); /* PE off, DS keeps its 4 GiB */
	CHECK(t, seg_linear(cpu, SEG_DS, 0x12345678, 4, ACC_WRITE, &lin));
	CHECK_EQ(t, lin, 0x12345678);
	cpu->gpr[RAX] = 0x1000;
	CHECK_EQ(t, EXEC(&s, 0x8e, MOV_DS), EXEC_END);
	CHECK_EQ(t, cpu->seg[SEG_DS].base, 0x10000);
	CHECK(t, seg_linear(cpu, SEG_DS, 0x12345678, 4, ACC_WRITE, &lin));
	CHECK_EQ(t, cpu->key & KEY_MODE, MODE_16 | MODE_REAL);
	sysvm_free(&s);
}

static void test_flat_key(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	CHECK_EQ(t, s.cpu->key, MODE_32 | MODE_FLAT | KEY_SS32 | KEY_PE);
	force_seg(&s, SEG_ES, S_DATA16);
	cpu_mode_changed(s.cpu);
	CHECK_EQ(t, s.cpu->key, MODE_32 | KEY_SS32 | KEY_PE);
	force_seg(&s, SEG_ES, S_RO);
	cpu_mode_changed(s.cpu);
	CHECK_EQ(t, s.cpu->key, MODE_32 | KEY_SS32 | KEY_PE);
	sysvm_free(&s);
}

static void test_inspect(struct test *t)
{
	static const struct {
		unsigned cpl;
		uint8_t op2[2]; /* second opcode byte and ModRM */
		uint16_t sel;
		bool zf;
		uint32_t eax; /* if zf */
	} cases[] = {
		{ 0, { 0x02, 0xc1 }, S_CODE0, true, 0xcf9b00 },
		{ 3, { 0x02, 0xc1 }, S_CODE0, false, 0 },
		{ 3, { 0x02, 0xc1 }, S_CONF, true, 0xcf9e00 },
		{ 0, { 0x02, 0xc1 }, S_DATA3 | 3, true, 0xcff300 },
		{ 0, { 0x02, 0xc1 }, 0, false, 0 },
		{ 0, { 0x02, 0xc1 }, 0x1f8, false, 0 },
		{ 0, { 0x02, 0xc1 }, S_LDT, true, 0x008200 },
		{ 0, { 0x02, 0xc1 }, S_TASKGATE, true, 0x00e500 },
		{ 0, { 0x03, 0xc1 }, S_TASKGATE, false, 0 },
		{ 0, { 0x03, 0xc1 }, S_DATA0, true, 0xffffffff },
		{ 0, { 0x03, 0xc1 }, S_DATA16, true, 0xffff },
		{ 0, { 0x03, 0xc1 }, S_LDT, true, 0xff },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sysvm s = sysvm_new(false);

		set_cpl(&s, cases[i].cpl);
		s.cpu->gpr[RAX] = 0x5555;
		s.cpu->gpr[RCX] = cases[i].sel;
		CHECK_EQ(t, EXEC(&s, 0x0f, cases[i].op2[0], cases[i].op2[1]), EXEC_END);
		CHECK_EQ(t, !!(cpu_rflags(s.cpu) & FL_ZF), cases[i].zf);
		CHECK_EQ(t, s.cpu->gpr[RAX], cases[i].zf ? cases[i].eax : 0x5555);
		sysvm_free(&s);
	}
}

static void test_verify(struct test *t)
{
	static const struct {
		uint16_t sel;
		bool readable, writable;
	} cases[] = {
		{ S_DATA3 | 3, true, true },   { S_RO | 3, true, false },
		{ S_XONLY | 3, false, false }, { S_CODE3 | 3, true, false },
		{ S_DATA0, false, false },     { S_TSS, false, false },
		{ 0, false, false },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sysvm s = sysvm_new(false);

		set_cpl(&s, 3);
		s.cpu->gpr[RAX] = cases[i].sel;
		CHECK_EQ(t, EXEC(&s, 0x0f, 0x00, 0xe0), EXEC_END);
		CHECK_EQ(t, !!(cpu_rflags(s.cpu) & FL_ZF), cases[i].readable);
		CHECK_EQ(t, EXEC(&s, 0x0f, 0x00, 0xe8), EXEC_END);
		CHECK_EQ(t, !!(cpu_rflags(s.cpu) & FL_ZF), cases[i].writable);
		sysvm_free(&s);
	}
}

static void test_arpl(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	s.cpu->gpr[RAX] = 0x10;
	s.cpu->gpr[RCX] = 3;
	CHECK_EQ(t, EXEC(&s, 0x63, 0xc8), EXEC_END);
	CHECK_EQ(t, s.cpu->gpr[RAX], 0x13);
	CHECK(t, cpu_rflags(s.cpu) & FL_ZF);
	CHECK_EQ(t, EXEC(&s, 0x63, 0xc8), EXEC_END);
	CHECK(t, !(cpu_rflags(s.cpu) & FL_ZF));
	sysvm_free(&s);
}

static void test_tables(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	enum exec_result r;

	s.cpu->gpr[RAX] = 0x40000;
	put16(&s, 0x40000, 0x1ff);
	put32(&s, 0x40002, 0x89abcdef);
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0x18), EXEC_END); /* lidt (%eax) */
	CHECK_EQ(t, s.cpu->idt.base, 0x89abcdef);
	CHECK_EQ(t, s.cpu->idt.limit, 0x1ff);
	CHECK_EQ(t, EXEC(&s, 0x66, 0x0f, 0x01, 0x18), EXEC_END);
	CHECK_EQ(t, s.cpu->idt.base, 0xabcdef);            /* 24 bits with a 16-bit operand size */
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0x00), EXEC_END); /* sgdt */
	CHECK_EQ(t, get16(&s, 0x40000), S_END - 1);
	CHECK_EQ(t, get32(&s, 0x40002), GDT);
	s.cpu->cr4 |= CR4_UMIP;
	set_cpl(&s, 3);
	r = EXEC(&s, 0x0f, 0x01, 0x00);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	r = EXEC(&s, 0x0f, 0x00, 0xc8); /* str */
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	r = EXEC(&s, 0x0f, 0x01, 0xe0); /* smsw */
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	sysvm_free(&s);
}

static void test_lidt_64(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	enum exec_result r;

	s.cpu->gpr[RAX] = 0x40000;
	put16(&s, 0x40000, 0xfff);
	put64(&s, 0x40002, 0xfffffe0000000000);
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0x18), EXEC_END);
	CHECK_EQ(t, s.cpu->idt.base, 0xfffffe0000000000);
	put64(&s, 0x40002, 0x0000fe0000000000ull << 8);
	r = EXEC(&s, 0x0f, 0x01, 0x18);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	sysvm_free(&s);
}

static void test_bases(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	struct vcpu *cpu = s.cpu;
	enum exec_result r;

	cpu->seg[SEG_GS].base = cpu->segbase[SEG_GS] = 0x1111;
	cpu->msr.kernel_gs_base = 0xffff888000000000;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xf8), EXEC_END); /* swapgs */
	CHECK_EQ(t, cpu->segbase[SEG_GS], 0xffff888000000000);
	CHECK_EQ(t, cpu->msr.kernel_gs_base, 0x1111);
	r = EXEC(&s, 0xf3, 0x48, 0x0f, 0xae, 0xd0); /* wrfsbase %rax */
	CHECK_FAULT(t, &s, r, EX_UD, 0);
	cpu->cr4 |= CR4_FSGSBASE;
	cpu->gpr[RAX] = 0x7fff00001234;
	CHECK_EQ(t, EXEC(&s, 0xf3, 0x48, 0x0f, 0xae, 0xd0), EXEC_END);
	CHECK_EQ(t, cpu->segbase[SEG_FS], 0x7fff00001234);
	CHECK_EQ(t, EXEC(&s, 0xf3, 0x0f, 0xae, 0xc1), EXEC_END); /* rdfsbase %ecx */
	CHECK_EQ(t, cpu->gpr[RCX], 0x1234);
	cpu->gpr[RAX] = 0x8000000000000000;
	r = EXEC(&s, 0xf3, 0x48, 0x0f, 0xae, 0xd0);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	set_cpl(&s, 3);
	r = EXEC(&s, 0x0f, 0x01, 0xf8);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	/* Loading a null selector: Intel clears the base, older AMD keeps it. */
	cpu->feat.amd = false;
	cpu->gpr[RAX] = 0;
	CHECK_EQ(t, EXEC(&s, 0x8e, 0xe8), EXEC_END);
	CHECK_EQ(t, cpu->segbase[SEG_GS], 0);
	sysvm_free(&s);
}

static void test_push_pop(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	uint32_t sp = (uint32_t)s.cpu->gpr[RSP];
	enum exec_result r;

	put32(&s, sp - 4, 0xffffffff);
	CHECK_EQ(t, EXEC(&s, 0x1e), EXEC_END); /* push %ds */
	CHECK_EQ(t, get16(&s, sp - 4), S_DATA0);
	put32(&s, sp - 4, 0xabcd0000 | S_DATA3);
	CHECK_EQ(t, EXEC(&s, 0x07), EXEC_END); /* pop %es */
	CHECK_EQ(t, s.cpu->seg[SEG_ES].sel, S_DATA3);
	CHECK_EQ(t, s.cpu->gpr[RSP], sp);
	put32(&s, sp, S_DATA3);
	r = EXEC(&s, 0x17); /* pop %ss: the stack pointer stays */
	CHECK_FAULT(t, &s, r, EX_GP, S_DATA3);
	CHECK_EQ(t, s.cpu->gpr[RSP], sp);
	put32(&s, 0x40000, 0x12345678);
	put16(&s, 0x40004, S_DATA0);
	s.cpu->gpr[RAX] = 0x40000;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0xb2, 0x20), EXEC_END); /* lss (%eax), %esp */
	CHECK_EQ(t, s.cpu->gpr[RSP], 0x12345678);
	sysvm_free(&s);
}

static const struct test_case cases[] = {
	{ "load_checks", test_load_checks },
	{ "accessed_bit", test_accessed_bit },
	{ "ldt", test_ldt },
	{ "ltr", test_ltr },
	{ "ltr_64", test_ltr_64 },
	{ "limits", test_limits },
	{ "unreal", test_unreal },
	{ "flat_key", test_flat_key },
	{ "inspect", test_inspect },
	{ "verify", test_verify },
	{ "arpl", test_arpl },
	{ "tables", test_tables },
	{ "lidt_64", test_lidt_64 },
	{ "bases", test_bases },
	{ "push_pop", test_push_pop },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
