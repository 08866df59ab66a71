/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control and debug registers, modes, flags with IOPL, ports, and what CPUID depends on. */
#include "softkvm/cpu/sys_testvm.h"

static void test_cr0_checks(struct test *t)
{
	static const struct {
		uint64_t v;
		bool ok;
	} cases[] = {
		{ CR0_PE, true },
		{ CR0_PE | CR0_NW, false },
		{ CR0_PE | CR0_NW | CR0_CD, true },
		{ CR0_PG, false },
		{ CR0_PE | CR0_TS | CR0_WP, true },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sysvm s = sysvm_new(false);
		enum exec_result r;

		s.cpu->gpr[RAX] = cases[i].v;
		r = EXEC(&s, 0x0f, 0x22, 0xc0);
		if (cases[i].ok) {
			CHECK_EQ(t, r, EXEC_END);
			CHECK_EQ(t, s.cpu->cr0, cases[i].v | CR0_ET);
		} else {
			CHECK_FAULT(t, &s, r, EX_GP, 0);
			CHECK_EQ(t, s.cpu->cr0, CR0_PE | CR0_ET | CR0_NE);
		}
		sysvm_free(&s);
	}
}

/* The way into long mode and out of it, each step with what must not be. */
static void test_long_mode(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;
	enum exec_result r;

	put64(&s, TABLES, (TABLES + 0x1000) | 7);
	put64(&s, TABLES + 0x1000, (TABLES + 0x2000) | 7);
	put64(&s, TABLES + 0x2000, 0x87);
	cpu->gpr[RCX] = 0xc0000080;
	cpu->gpr[RAX] = EFER_LME;
	cpu->gpr[RDX] = 0;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x30), EXEC_END);
	CHECK_EQ(t, cpu->efer, EFER_LME);
	cpu->gpr[RAX] = CR0_PE | CR0_PG; /* without PAE */
	r = EXEC(&s, 0x0f, 0x22, 0xc0);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	CHECK_EQ(t, cpu->efer, EFER_LME);
	cpu->gpr[RAX] = CR4_PCIDE | CR4_PAE; /* PCIDE only in long mode */
	r = EXEC(&s, 0x0f, 0x22, 0xe0);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->gpr[RAX] = CR4_PAE;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x22, 0xe0), EXEC_END);
	cpu->gpr[RAX] = TABLES;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x22, 0xd8), EXEC_END);
	cpu->gpr[RAX] = CR0_PE | CR0_PG;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x22, 0xc0), EXEC_END);
	CHECK_EQ(t, cpu->efer, EFER_LME | EFER_LMA);
	CHECK_EQ(t, cpu->key & MODE_SIZE, MODE_32); /* compatibility mode still */
	CHECK_EQ(t, EXEC(&s, 0xea, LE32(CODE + 0x100), LE16(S_CODE64)), EXEC_END);
	CHECK_EQ(t, cpu->key, MODE_64 | KEY_PE);
	cpu->gpr[RAX] = CR0_PE; /* not from 64-bit code */
	r = EXEC(&s, 0x0f, 0x22, 0xc0);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->gpr[RAX] = 0; /* nor without PAE */
	r = EXEC(&s, 0x0f, 0x22, 0xe0);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->gpr[RAX] = EFER_LME ^ EFER_LME; /* nor LME off */
	r = EXEC(&s, 0x0f, 0x30);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->gpr[RAX] = CR4_PAE | CR4_PCIDE;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x22, 0xe0), EXEC_END);
	force_seg(&s, SEG_CS, S_CODE0);
	cpu_mode_changed(cpu);
	cpu->gpr[RAX] = CR0_PE; /* nor with PCIDE */
	r = EXEC(&s, 0x0f, 0x22, 0xc0);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->gpr[RAX] = CR4_PAE;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x22, 0xe0), EXEC_END);
	cpu->gpr[RAX] = CR0_PE;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x22, 0xc0), EXEC_END);
	CHECK_EQ(t, cpu->efer, EFER_LME);
	sysvm_free(&s);
}

static void test_pae_pdptes(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	enum exec_result r;

	s.cpu->gpr[RAX] = CR4_PAE;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x22, 0xe0), EXEC_END);
	s.cpu->cr3 = TABLES;
	put64(&s, TABLES, (TABLES + 0x1000) | 3); /* W is reserved there */
	put64(&s, TABLES + 0x1000, 0x87);
	s.cpu->gpr[RAX] = CR0_PE | CR0_PG;
	r = EXEC(&s, 0x0f, 0x22, 0xc0);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	CHECK(t, !(s.cpu->cr0 & CR0_PG));
	put64(&s, TABLES, (TABLES + 0x1000) | 1);
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x22, 0xc0), EXEC_END);
	CHECK(t, s.cpu->cr0 & CR0_PG);
	sysvm_free(&s);
}

static void test_reserved(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	struct vcpu *cpu = s.cpu;
	enum exec_result r;

	cpu->gpr[RAX] = CR4_PAE | BIT64(31);
	r = EXEC(&s, 0x0f, 0x22, 0xe0);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->gpr[RAX] = TABLES | BIT64(60);
	r = EXEC(&s, 0x0f, 0x22, 0xd8);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->gpr[RAX] = 16;
	r = EXEC(&s, 0x44, 0x0f, 0x22, 0xc0); /* cr8 */
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	r = EXEC(&s, 0x0f, 0x22, 0xc8); /* cr1 */
	CHECK_FAULT(t, &s, r, EX_UD, 0);
	cpu->gpr[RAX] = BIT64(40);
	r = EXEC(&s, 0x0f, 0x23, 0xf8); /* dr7 */
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	set_cpl(&s, 3);
	r = EXEC(&s, 0x0f, 0x20, 0xc0);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	r = EXEC(&s, 0xf4);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	r = EXEC(&s, 0x0f, 0x06);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	sysvm_free(&s);
}

static void test_lmsw(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	s.cpu->gpr[RAX] = 0x0e; /* PE stays */
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xf0), EXEC_END);
	CHECK_EQ(t, s.cpu->cr0, CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE);
	CHECK_EQ(t, s.cpu->fp_trap & (FPTRAP_X87_NM | FPTRAP_SSE_UD | FPTRAP_WAIT_NM),
		 FPTRAP_X87_NM | FPTRAP_SSE_UD | FPTRAP_WAIT_NM);
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x06), EXEC_END); /* clts */
	CHECK(t, !(s.cpu->cr0 & CR0_TS));
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xe1), EXEC_END); /* smsw %ecx */
	CHECK_EQ(t, s.cpu->gpr[RCX], s.cpu->cr0);
	sysvm_free(&s);
}

static void test_debug_registers(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;
	enum exec_result r;

	cpu->gpr[RAX] = 0xffffffff;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x23, 0xf0), EXEC_END); /* dr6 */
	CHECK_EQ(t, cpu->dr6, 0xffffefff);
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x23, 0xe0), EXEC_END); /* dr4 is dr6 */
	cpu->cr4 |= CR4_DE;
	r = EXEC(&s, 0x0f, 0x23, 0xe0);
	CHECK_FAULT(t, &s, r, EX_UD, 0);
	cpu->gpr[RAX] = BIT(13);
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x23, 0xf8), EXEC_END);
	CHECK_EQ(t, cpu->dr7, 0x400 | BIT(13));
	r = EXEC(&s, 0x0f, 0x21, 0xc0); /* GD: any access is #DB */
	CHECK_FAULT(t, &s, r, EX_DB, 0);
	CHECK_EQ(t, cpu->fault.payload, BIT(13));
	sysvm_free(&s);
}

static void test_iopl(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;
	enum exec_result r;

	set_cpl(&s, 3);
	r = EXEC(&s, 0xfa);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	put32(&s, STACK3 - 4, FL_IF | FL_IOPL | FL_CF | FL_AC);
	cpu->gpr[RSP] = STACK3 - 4;
	CHECK_EQ(t, EXEC(&s, 0x9d), EXEC_END); /* popf: no IF, no IOPL, no fault */
	CHECK_EQ(t, cpu_rflags(cpu), FL_FIXED | FL_CF | FL_AC);
	cpu->rflags |= FL_IOPL;
	CHECK_EQ(t, EXEC(&s, 0xfb), EXEC_END);
	CHECK(t, cpu->rflags & FL_IF);
	CHECK_EQ(t, cpu->ev.shadow, SHADOW_STI);
	CHECK_EQ(t, EXEC(&s, 0xfb), EXEC_END); /* again: no shadow */
	CHECK_EQ(t, cpu->ev.shadow, 0);
	CHECK_EQ(t, EXEC(&s, 0x9c), EXEC_END); /* pushf */
	CHECK_EQ(t, get32(&s, STACK3 - 4), FL_FIXED | FL_CF | FL_AC | FL_IOPL | FL_IF);
	CHECK_EQ(t, EXEC(&s, 0xfa), EXEC_END);
	CHECK(t, !(cpu->rflags & FL_IF));
	sysvm_free(&s);
}

static void test_pvi(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	enum exec_result r;

	set_cpl(&s, 3);
	s.cpu->cr4 |= CR4_PVI;
	CHECK_EQ(t, EXEC(&s, 0xfb), EXEC_END);
	CHECK_EQ(t, s.cpu->rflags, FL_FIXED | FL_VIF);
	CHECK_EQ(t, EXEC(&s, 0xfa), EXEC_END);
	CHECK_EQ(t, s.cpu->rflags, FL_FIXED);
	s.cpu->rflags |= FL_VIP;
	r = EXEC(&s, 0xfb);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	sysvm_free(&s);
}

static void test_port_bitmap(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;
	enum exec_result r;

	set_cpl(&s, 3);
	cpu->tr.limit = 0x88 + 0x100;
	put16(&s, TSS + 102, 0x88);
	put16(&s, TSS + 0x88 + 0x3f8 / 8, 0xff02); /* port 0x3f9 is forbidden */
	cpu->gpr[RDX] = 0x3f9;
	r = EXEC(&s, 0xec);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->gpr[RDX] = 0x3f8;
	CHECK_EQ(t, EXEC(&s, 0xec), EXEC_EXIT);
	CHECK_EQ(t, cpu->run->exit_reason, KVM_EXIT_IO);
	CHECK_EQ(t, cpu->run->io.port, 0x3f8);
	CHECK_EQ(t, cpu->run->io.direction, KVM_EXIT_IO_IN);
	vcpu_drop_io(cpu);
	r = EXEC(&s, 0x66, 0xed); /* two bytes reach the forbidden one */
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->gpr[RDX] = 0x800; /* the bitmap ends before */
	r = EXEC(&s, 0xec);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->rflags |= FL_IOPL;
	CHECK_EQ(t, EXEC(&s, 0xec), EXEC_EXIT);
	sysvm_free(&s);
}

static void test_rep_outs(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct vcpu *cpu = s.cpu;

	memcpy(s.ram + 0x40000, "0123456789", 10);
	cpu->gpr[RSI] = 0x40000;
	cpu->gpr[RCX] = 10;
	cpu->gpr[RDX] = 0x402;
	CHECK_EQ(t, EXEC(&s, 0xf3, 0x6e), EXEC_EXIT);
	CHECK_EQ(t, cpu->run->io.count, 10); /* all in one exit */
	CHECK(t, memcmp((char *)cpu->run + cpu->run->io.data_offset, "0123456789", 10) == 0);
	CHECK_EQ(t, cpu->gpr[RCX], 10);
	io_resume(cpu);
	CHECK_EQ(t, EXEC(&s, 0xf3, 0x6e), EXEC_END);
	CHECK_EQ(t, cpu->gpr[RCX], 0);
	CHECK_EQ(t, cpu->gpr[RSI], 0x4000a);
	CHECK_EQ(t, cpu->rip, CODE + 2);
	sysvm_free(&s);
}

static void test_hlt(struct test *t)
{
	struct sysvm s = sysvm_new(false);

	CHECK_EQ(t, EXEC(&s, 0xf4), EXEC_END);
	CHECK_EQ(t, s.cpu->mp_state, KVM_MP_STATE_HALTED);
	CHECK_EQ(t, s.cpu->rip, CODE + 1);
	atomic_store(&s.cpu->mp_state, KVM_MP_STATE_RUNNABLE);
	atomic_store(&s.cpu->ev.pv_unhalted, true); /* a kick that came before */
	CHECK_EQ(t, EXEC(&s, 0xf4), EXEC_END);
	CHECK_EQ(t, s.cpu->mp_state, KVM_MP_STATE_RUNNABLE);
	sysvm_free(&s);
}

static void test_time_stamps(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	enum exec_result r;
	uint64_t a, b;

	CHECK_EQ(t, EXEC(&s, 0x0f, 0x31), EXEC_END);
	a = s.cpu->gpr[RAX] | s.cpu->gpr[RDX] << 32;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x31), EXEC_END);
	b = s.cpu->gpr[RAX] | s.cpu->gpr[RDX] << 32;
	CHECK(t, b > a);
	s.cpu->cr4 |= CR4_TSD;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x31), EXEC_END);
	set_cpl(&s, 3);
	r = EXEC(&s, 0x0f, 0x31);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	sysvm_free(&s);
}

static void test_xcr0(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	struct vcpu *cpu = s.cpu;
	enum exec_result r;

	r = EXEC(&s, 0x0f, 0x01, 0xd0);
	CHECK_FAULT(t, &s, r, EX_UD, 0);
	cpu->cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
	cpu->gpr[RCX] = cpu->gpr[RDX] = 0;
	cpu->gpr[RAX] = 5; /* AVX without SSE */
	r = EXEC(&s, 0x0f, 0x01, 0xd1);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->gpr[RAX] = 6; /* without x87 */
	r = EXEC(&s, 0x0f, 0x01, 0xd1);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->gpr[RAX] = 3;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xd1), EXEC_END);
	CHECK_EQ(t, cpu->xcr0, 3);
	CHECK(t, cpu->fp_trap & FPTRAP_AVX_UD);
	cpu->gpr[RAX] = 0;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xd0), EXEC_END);
	CHECK_EQ(t, cpu->gpr[RAX], 3);
	sysvm_free(&s);
}

/* CPUID shows OSXSAVE as CR4 has it, and can be made to fault. */
static void test_cpuid(struct test *t)
{
	struct sysvm s = sysvm_new(false);
	struct kvm_cpuid_entry2 e[] = {
		{ .function = 0,
		  .eax = 1,
		  .ebx = 0x756e6547,
		  .edx = 0x49656e69,
		  .ecx = 0x6c65746e },
		{ .function = 1, .eax = 0x306c3, .ecx = BIT(26), .edx = BIT(9) },
	};
	enum exec_result r;

	s.cpu->cpuid = e;
	s.cpu->cpuid_count = ARRAY_SIZE(e);
	cpu_features_update(s.cpu);
	CHECK(t, !s.cpu->feat.amd && cpu_has(s.cpu, FEAT_XSAVE) && !cpu_has(s.cpu, FEAT_PAE));
	s.cpu->gpr[RAX] = 1;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0xa2), EXEC_END);
	CHECK_EQ(t, s.cpu->gpr[RCX] & BIT(27), 0);
	s.cpu->cr4 |= CR4_OSXSAVE;
	s.cpu->gpr[RAX] = 1;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0xa2), EXEC_END);
	CHECK(t, s.cpu->gpr[RCX] & BIT(27));
	s.cpu->gpr[RAX] = CR4_SMEP; /* a feature that the guest has not */
	r = EXEC(&s, 0x0f, 0x22, 0xe0);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	s.cpu->gpr[RAX] = CR4_PAE; /* nor that one, but KVM does not ask */
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x22, 0xe0), EXEC_END);
	s.cpu->msr.misc_features = 1;
	set_cpl(&s, 3);
	r = EXEC(&s, 0x0f, 0xa2);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	s.cpu->cpuid = NULL;
	s.cpu->cpuid_count = 0;
	sysvm_free(&s);
}

static void test_reset(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	struct vcpu *cpu = s.cpu;

	cpu->msr.lstar = 0x1234;
	cpu->cr0 |= CR0_CD;
	cpu_reset(cpu, true);
	CHECK_EQ(t, cpu->msr.lstar, 0x1234); /* INIT leaves MSRs */
	CHECK_EQ(t, cpu->cr0, CR0_ET | CR0_CD);
	CHECK_EQ(t, cpu->efer, 0);
	cpu_reset(cpu, false);
	CHECK_EQ(t, cpu->msr.lstar, 0);
	CHECK_EQ(t, cpu->cr0, CR0_ET | CR0_CD | CR0_NW);
	CHECK_EQ(t, cpu->rip, 0xfff0);
	CHECK_EQ(t, cpu->seg[SEG_CS].base, 0xffff0000);
	CHECK_EQ(t, cpu->key, MODE_16 | MODE_REAL);
	CHECK_EQ(t, cpu_rflags(cpu), FL_FIXED);
	sysvm_free(&s);
}

static void test_flags_forms(struct test *t)
{
	for (uint32_t f = 0; f < 0x1000; f++) {
		uint32_t arith = f & FL_ARITH;

		CHECK_EQ(t, cc_to_flags(cc_from_flags(arith)), arith);
	}
	CHECK_EQ(t, cc_from_flags(FL_SF | FL_ZF | FL_OF), CC_SF | CC_ZF | CC_OF | 0x200);
}

static const struct test_case cases[] = {
	{ "cr0_checks", test_cr0_checks },
	{ "long_mode", test_long_mode },
	{ "pae_pdptes", test_pae_pdptes },
	{ "reserved", test_reserved },
	{ "lmsw", test_lmsw },
	{ "debug_registers", test_debug_registers },
	{ "iopl", test_iopl },
	{ "pvi", test_pvi },
	{ "port_bitmap", test_port_bitmap },
	{ "rep_outs", test_rep_outs },
	{ "hlt", test_hlt },
	{ "time_stamps", test_time_stamps },
	{ "xcr0", test_xcr0 },
	{ "cpuid", test_cpuid },
	{ "reset", test_reset },
	{ "flags_forms", test_flags_forms },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
