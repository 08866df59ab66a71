/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x87, SSE and XSAVE where the host's processor is no oracle: traps, pending
 * exceptions, formats, KVM's structures. (The arithmetic: insn_test.c.)
 */
#include "softkvm/cpu/fpu.h"

#include <linux/kvm.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/test.h"
#include "softkvm/cpu/difftest.h"
#include "softkvm/cpu/msr.h"
#include "softkvm/cpu/simd_int.h"

static struct dt_soft *soft;
static struct dt_case c;
static struct dt_result res;
static struct insn in;

enum { AT = DT_WINDOW + 64 }; /* where RBX points */

/* A fresh case: FNINIT's state, default MXCSR, RBX at an aligned place of the window. */
static void begin(void)
{
	memset(&c, 0, sizeof(c));
	c.in.rip = DT_CODE + DT_CODE_OFFSET;
	c.in.rflags = 0x202;
	c.in.gpr[RBX] = AT;
	store_le16(c.in.xsave + FXS_FCW, FCW_INIT);
	store_le32(c.in.xsave + FXS_MXCSR, MXCSR_INIT);
	dt_soft_vcpu(soft)->fp_trap = 0;
}

static void run(const char *bytes, unsigned len)
{
	memcpy(c.code, bytes, len);
	c.len = len;
	dt_run_soft(soft, &c, &res, &in);
}
#define RUN(bytes) run(bytes, sizeof(bytes) - 1)

/* Go on with what the last instruction left in the registers. */
static void again(void)
{
	memcpy(&c.in.xsave, res.state.xsave, XS_SIZE);
	memcpy(c.in.gpr, res.state.gpr, sizeof(c.in.gpr));
}

static void put(const void *bytes, unsigned len)
{
	c.patch_at = AT;
	c.patch_len = len;
	memcpy(c.patch, bytes, len);
}

static const uint8_t *memory(void)
{
	return res.window + (AT - DT_WINDOW);
}

static void set_st0(uint64_t mantissa, uint16_t exponent)
{
	store_le64(c.in.xsave + FXS_ST, mantissa);
	store_le16(c.in.xsave + FXS_ST + 8, exponent);
	c.in.xsave[FXS_FTW] = 1;
}

/* --- traps ------------------------------------------------------------------------------------ */

static void test_traps(struct test *t)
{
	static const struct {
		uint8_t trap;
		const char *code;
		uint8_t len, vector;
	} rows[] = {
		{ FPTRAP_X87_NM, "\xd9\xe8", 2, EX_NM },      /* fld1 */
		{ FPTRAP_X87_NM, "\xdb\xe3", 2, EX_NM },      /* fninit */
		{ FPTRAP_X87_NM, "\x0f\xae\x03", 3, EX_NM },  /* fxsave */
		{ FPTRAP_X87_NM, "\x9b", 1, DT_VECTOR_NONE }, /* wait */
		{ FPTRAP_WAIT_NM, "\x9b", 1, EX_NM },
		{ FPTRAP_X87_NM, "\x0f\xfe\xc1", 3, EX_NM }, /* paddd mm */
		{ FPTRAP_MMX_UD | FPTRAP_X87_NM, "\x0f\xfe\xc1", 3, EX_UD },
		{ FPTRAP_MMX_UD | FPTRAP_X87_NM, "\xd9\xe8", 2, EX_NM },
		{ FPTRAP_SSE_UD | FPTRAP_SSE_NM, "\x66\x0f\xfe\xc1", 4, EX_UD }, /* paddd xmm */
		{ FPTRAP_SSE_NM, "\x66\x0f\xfe\xc1", 4, EX_NM },
		{ FPTRAP_SSE_NM, "\x0f\x10\x03", 3, EX_NM }, /* movups load */
		{ FPTRAP_SSE_UD, "\x0f\x11\x03", 3, EX_UD }, /* movups store */
		{ FPTRAP_SSE_UD, "\x0f\xae\x1b", 3, EX_UD }, /* stmxcsr */
		{ FPTRAP_AVX_UD, "\x66\x0f\xfe\xc1", 4, DT_VECTOR_NONE },
		{ FPTRAP_AVX_UD | FPTRAP_SSE_NM, "\xc5\xf1\xfe\xc1", 4, EX_UD }, /* vpaddd */
		{ FPTRAP_SSE_NM, "\xc5\xf1\xfe\xc1", 4, EX_NM },
		{ FPTRAP_SSE_UD, "\xc5\xf1\xfe\xc1", 4, DT_VECTOR_NONE },
		{ FPTRAP_AVX_UD, "\xc5\xf8\x77", 3, EX_UD }, /* vzeroupper */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		if ((uint8_t)rows[i].code[0] == 0xc5 && !(fpu_host_features() & FPUF_AVX)) {
			continue;
		}
		begin();
		dt_soft_vcpu(soft)->fp_trap = rows[i].trap;
		run(rows[i].code, rows[i].len);
		CHECK_EQ(t, res.vector, rows[i].vector);
		CHECK_EQ(t, res.state.rip - c.in.rip,
			 res.vector == DT_VECTOR_NONE ? rows[i].len : 0);
	}
	dt_soft_vcpu(soft)->fp_trap = 0;
}

static void test_simd_exception(struct test *t)
{
	struct vcpu *cpu = dt_soft_vcpu(soft);

	begin();
	store_le32(c.in.xsave + FXS_MXCSR, MXCSR_INIT & ~0x200u); /* division by zero unmasked */
	store_le32(c.in.xsave + FXS_XMM, 0x3f800000);
	RUN("\x0f\x5e\xc1"); /* divps xmm0, xmm1 */
	CHECK_EQ(t, res.vector, EX_XM);
	CHECK_EQ(t, load_le32(res.state.xsave + FXS_XMM), 0x3f800000);
	CHECK_EQ(t, load_le32(res.state.xsave + FXS_MXCSR) & 0x3f,
		 5); /* 0/0 in the others: IE too */
	cpu->cr4 &= ~CR4_OSXMMEXCPT;
	RUN("\x0f\x5e\xc1");
	cpu->cr4 |= CR4_OSXMMEXCPT;
	CHECK_EQ(t, res.vector, EX_UD);
	begin(); /* masked again: no trace of it is left in the host */
	RUN("\x0f\x5e\xc1");
	CHECK_EQ(t, res.vector, DT_VECTOR_NONE);
}

static void on_foreign_fpe(int sig)
{
	_exit(42);
}

/* SIGFPE that is not a guest's goes to who had the signal before. */
static void test_foreign_sigfpe(struct test *t)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGFPE, on_foreign_fpe);
		stub_claim_sigfpe();
		raise(SIGFPE);
		_exit(1);
	}
	CHECK_EQ(t, waitpid(pid, &status, 0), pid);
	CHECK_EQ(t, WEXITSTATUS(status), 42);
	pid = fork();
	if (pid == 0) {
		signal(SIGFPE, SIG_DFL);
		stub_claim_sigfpe();
		raise(SIGFPE);
		_exit(1);
	}
	CHECK_EQ(t, waitpid(pid, &status, 0), pid);
	CHECK(t, WIFSIGNALED(status) && WTERMSIG(status) == SIGFPE);
}

/* --- x87 exceptions -----------------------------------------------------------------------------
 */

/* Leaves a pending division by zero behind: fdiv m32 of 1.0 by 0.0. */
static void divide_by_zero(void)
{
	begin();
	store_le16(c.in.xsave + FXS_FCW, FCW_INIT & ~4u);
	set_st0(BIT64(63), 0x3fff);
	put("\0\0\0\0", 4);
	RUN("\xd8\x33"); /* fdiv dword ptr [rbx] */
}

static void test_pending(struct test *t)
{
	struct vcpu *cpu = dt_soft_vcpu(soft);
	const uint8_t *x = res.state.xsave;

	divide_by_zero();
	CHECK_EQ(t, res.vector, DT_VECTOR_NONE);
	CHECK_EQ(t, load_le16(x + FXS_FSW) & 0x8084, 0x8084);
	CHECK_EQ(t, load_le64(x + FXS_ST), BIT64(63)); /* no result */
	CHECK_EQ(t, load_le16(x + FXS_FOP), 0x033);
	CHECK_EQ(t, load_le64(x + FXS_FIP), DT_CODE + DT_CODE_OFFSET);
	CHECK_EQ(t, load_le64(x + FXS_FDP), AT);
	again();
	RUN("\xd9\xe8"); /* fld1 waits */
	CHECK_EQ(t, res.vector, EX_MF);
	RUN("\x9b");
	CHECK_EQ(t, res.vector, EX_MF);
	RUN("\x0f\xfe\xc1"); /* MMX waits */
	CHECK_EQ(t, res.vector, EX_MF);
	RUN("\xdf\xe0"); /* fnstsw ax does not */
	CHECK_EQ(t, res.vector, DT_VECTOR_NONE);
	CHECK_EQ(t, res.state.gpr[RAX] & 0x84, 0x84);
	RUN("\xdb\xe2"); /* fnclex */
	CHECK_EQ(t, res.vector, DT_VECTOR_NONE);
	CHECK_EQ(t, load_le16(x + FXS_FSW) & 0x80ff, 0);
	/* without CR0.NE it is ignored */
	divide_by_zero();
	again();
	cpu->cr0 &= ~CR0_NE;
	RUN("\xd9\xe8");
	cpu->cr0 |= CR0_NE;
	CHECK_EQ(t, res.vector, DT_VECTOR_NONE);
	CHECK_EQ(t, load_le16(x + FXS_FSW) & 0x84, 0x84);
	CHECK_EQ(t, load_le16(x + FXS_FSW) >> 11 & 7, 7);
}

/* FLDCW that unmasks a flag makes it pending; FNSTENV masks again and stores the pointers. */
static void test_control(struct test *t)
{
	begin();
	store_le16(c.in.xsave + FXS_FSW, 4);
	put("\x7b\x03", 2);
	RUN("\xd9\x2b");
	CHECK_EQ(t, load_le16(res.state.xsave + FXS_FSW), 0x8084);
	divide_by_zero();
	again();
	RUN("\xd9\x33"); /* fnstenv [rbx] */
	CHECK_EQ(t, load_le32(memory()), 0xffff037b);
	CHECK_EQ(t, load_le32(memory() + 12), (uint32_t)(DT_CODE + DT_CODE_OFFSET));
	CHECK_EQ(t, load_le32(memory() + 16), 0x033u << 16);
	CHECK_EQ(t, load_le32(memory() + 20), (uint32_t)AT);
	CHECK_EQ(t, load_le16(res.state.xsave + FXS_FCW), 0x37f);
	CHECK_EQ(t, load_le16(res.state.xsave + FXS_FSW) & 0x8080, 0);
}

static void test_store_withheld(struct test *t)
{
	begin();
	store_le16(c.in.xsave + FXS_FCW, FCW_INIT & ~8u); /* overflow unmasked */
	set_st0(BIT64(63), 0x7000);
	put("\x11\x22\x33\x44", 4);
	RUN("\xd9\x1b"); /* fstp dword ptr [rbx] */
	CHECK_EQ(t, res.vector, DT_VECTOR_NONE);
	CHECK_EQ(t, load_le32(memory()), 0x44332211);
	CHECK_EQ(t, res.state.xsave[FXS_FTW], 1); /* not popped */
	CHECK_EQ(t, load_le16(res.state.xsave + FXS_FSW) & 0x88, 0x88);
}

/* --- environments
 * ---------------------------------------------------------------------------------- */

static void test_env(struct test *t)
{
	uint8_t image[FXS_SIZE] = { 0 }, back[FXS_SIZE], env[ENV_MAX];

	store_le16(image + FXS_FCW, 0x27f);
	store_le16(image + FXS_FSW, 0x3000); /* TOP 6 */
	image[FXS_FTW] = 0xc0;               /* R6 = ST0, R7 = ST1 */
	store_le64(image + FXS_ST, BIT64(63));
	store_le16(image + FXS_ST + 8, 0x3fff);
	store_le16(image + FXS_FOP, 0x5d3);
	store_le64(image + FXS_FIP, 0x12345);
	store_le64(image + FXS_FDP, 0xabcde);
	for (unsigned i = 0; i < 4; i++) {
		struct env_format f = { .wide = i & 1, .protected = i & 2 };

		env_store(image, f, env);
		memset(back, 0, sizeof(back));
		memcpy(back + FXS_ST, image + FXS_ST + 96, 32); /* as seen with TOP 0 */
		memcpy(back + FXS_ST + 96, image + FXS_ST, 32);
		env_load(back, f, env);
		CHECK_EQ(t, load_le32(back), load_le32(image));
		CHECK_EQ(t, back[FXS_FTW], 0xc0);
		CHECK(t, !memcmp(back + FXS_ST, image + FXS_ST, 128));
		CHECK_EQ(t, load_le64(back + FXS_FIP), f.wide || !f.protected ? 0x12345 : 0x2345);
		CHECK_EQ(t, load_le64(back + FXS_FDP), f.wide || !f.protected ? 0xabcde : 0xbcde);
		CHECK_EQ(t, load_le16(back + FXS_FOP), f.wide || !f.protected ? 0x5d3 : 0);
	}
	env_store(image, (struct env_format){ .wide = true, .protected = true }, env);
	CHECK_EQ(t, load_le32(env + 8), 0xffff4fff); /* R6 valid, R7 zero, others empty */
	CHECK_EQ(t, load_le32(env + 24), 0xffff0000);
}

/* --- XSAVE
 * ------------------------------------------------------------------------------------------- */

static void xsave_case(uint64_t components)
{
	begin();
	c.in.gpr[RAX] = components;
	c.patch_at = AT;
	c.patch_len = XS_SIZE;
	memset(c.patch, 0xee, XS_SIZE);
	memset(c.patch + XS_HEADER, 0, 64);
}

static void test_xsaveopt(struct test *t)
{
	uint64_t all = fpu_xcr0_supported();

	xsave_case(7);
	store_le64(c.patch + XS_HEADER, 0xf0);
	store_le64(c.in.xsave + FXS_XMM + 16, 77); /* only SSE is in use */
	RUN("\x0f\xae\x33");                       /* xsaveopt [rbx] */
	CHECK_EQ(t, res.vector, DT_VECTOR_NONE);
	CHECK_EQ(t, load_le64(memory() + XS_HEADER), 0xf2); /* bits not asked for are kept */
	CHECK_EQ(t, memory()[0], 0xee);                     /* x87 is in its initial state */
	CHECK_EQ(t, load_le64(memory() + FXS_XMM + 16), 77);
	CHECK_EQ(t, load_le32(memory() + FXS_MXCSR), MXCSR_INIT);
	CHECK_EQ(t, memory()[XS_AVX], 0xee);
	RUN("\x0f\xae\x23"); /* xsave writes them all the same */
	CHECK_EQ(t, load_le64(memory() + XS_HEADER), 0xf2);
	CHECK_EQ(t, load_le16(memory()), FCW_INIT);
	CHECK_EQ(t, memory()[XS_AVX], all & XFEATURE_AVX ? 0 : 0xee);
}

static void test_xsavec(struct test *t)
{
	uint64_t all = fpu_xcr0_supported();

	xsave_case(7);
	memset(c.patch + XS_HEADER, 0xee, 64);
	RUN("\x0f\xc7\x23"); /* xsavec [rbx] */
	CHECK_EQ(t, res.vector, DT_VECTOR_NONE);
	CHECK_EQ(t, load_le64(memory() + XS_HEADER), 0);
	CHECK_EQ(t, load_le64(memory() + XS_HEADER + 8), all | BIT64(63));
	CHECK_EQ(t, memory()[XS_HEADER + 16], 0xee);
	CHECK_EQ(t, memory()[FXS_MXCSR], 0xee);
	store_le32(c.in.xsave + FXS_MXCSR, 0x1f81); /* MXCSR counts as SSE here */
	RUN("\x0f\xc7\x23");
	CHECK_EQ(t, load_le64(memory() + XS_HEADER), XFEATURE_SSE);
	CHECK_EQ(t, load_le32(memory() + FXS_MXCSR), 0x1f81);
}

static void test_xrstor(struct test *t)
{
	xsave_case(7);
	memset(c.in.xsave + FXS_XMM, 0x55, 256);
	store_le16(c.in.xsave + FXS_FCW, 0x27f);
	store_le32(c.patch + FXS_MXCSR, 0x1fa0);
	RUN("\x0f\xae\x2b"); /* xrstor [rbx]: XSTATE_BV 0: all initial, but MXCSR is loaded */
	CHECK_EQ(t, res.vector, DT_VECTOR_NONE);
	CHECK_EQ(t, load_le16(res.state.xsave + FXS_FCW), FCW_INIT);
	CHECK_EQ(t, load_le64(res.state.xsave + FXS_XMM), 0);
	CHECK_EQ(t, load_le32(res.state.xsave + FXS_MXCSR), 0x1fa0);
	store_le64(c.patch + XS_HEADER + 8, BIT64(63) | 3); /* compacted: MXCSR is part of SSE */
	RUN("\x0f\xae\x2b");
	CHECK_EQ(t, load_le32(res.state.xsave + FXS_MXCSR), MXCSR_INIT);
	store_le64(c.patch + XS_HEADER, 4); /* not in XCOMP_BV */
	RUN("\x0f\xae\x2b");
	CHECK_EQ(t, res.vector, EX_GP);
	CHECK_EQ(t, load_le64(res.state.xsave + FXS_XMM), 0x5555555555555555);
	store_le64(c.patch + XS_HEADER, BIT64(9));
	store_le64(c.patch + XS_HEADER + 8, 0);
	RUN("\x0f\xae\x2b");
	CHECK_EQ(t, res.vector, EX_GP);
	c.in.gpr[RBX] += 16; /* not aligned to 64 */
	store_le64(c.patch + XS_HEADER, 0);
	RUN("\x0f\xae\x2b");
	CHECK_EQ(t, res.vector, EX_GP);
	dt_soft_vcpu(soft)->cr4 &= ~CR4_OSXSAVE;
	RUN("\x0f\xae\x2b");
	dt_soft_vcpu(soft)->cr4 |= CR4_OSXSAVE;
	CHECK_EQ(t, res.vector, EX_UD);
	begin();
	put("\0\0\1\0", 4);
	RUN("\x0f\xae\x13"); /* ldmxcsr with a reserved bit */
	CHECK_EQ(t, res.vector, EX_GP);
}

/* Outside 64-bit mode there are eight vector registers. */
static void test_eight_registers(struct test *t)
{
	struct vcpu *cpu = dt_soft_vcpu(soft);
	uint32_t key = cpu->key;

	xsave_case(7);
	memset(c.in.xsave + FXS_XMM, 0x55, 256);
	cpu->key = (key & ~(uint32_t)KEY_MODE) | MODE_32 | MODE_FLAT;
	RUN("\x0f\xae\x03"); /* fxsave [ebx] */
	CHECK_EQ(t, res.vector, DT_VECTOR_NONE);
	CHECK_EQ(t, memory()[FXS_XMM + 127], 0x55);
	CHECK_EQ(t, memory()[FXS_XMM + 128], 0xee);
	if (fpu_host_features() & FPUF_AVX) {
		RUN("\xc5\xfc\x77"); /* vzeroall */
		CHECK_EQ(t, load_le64(res.state.xsave + FXS_XMM + 112), 0);
		CHECK_EQ(t, load_le64(res.state.xsave + FXS_XMM + 128), 0x5555555555555555);
	}
	cpu->key = key;
}

/* --- user space
 * --------------------------------------------------------------------------------------- */

static void test_kvm_structures(struct test *t)
{
	struct vcpu *cpu = calloc(1, sizeof(*cpu));
	struct kvm_fpu fpu = { .fcw = 0x27f,
			       .fsw = 0x3801,
			       .ftwx = 0x81,
			       .last_ip = 0x123456789ab,
			       .mxcsr = 0x1fa5 },
		       fpu2;
	struct kvm_xsave *x = calloc(1, sizeof(*x)), *y = calloc(1, sizeof(*y));
	struct kvm_xcrs xcrs = { .nr_xcrs = 1 };
	uint8_t *p = (uint8_t *)x->region;

	cpu->xcr0 = 1;
	fpu_reset(cpu);
	CHECK_EQ(t, fpu_xinuse(cpu, 7), 0);
	memset(fpu.xmm[5], 0x77, 16);
	memset(fpu.fpr[1], 0x66, 10);
	CHECK_EQ(t, fpu_set(cpu, &fpu), 0);
	fpu_get(cpu, &fpu2);
	CHECK(t, !memcmp(&fpu, &fpu2, sizeof(fpu)));
	fpu.mxcsr = 0x10000;
	CHECK_EQ(t, fpu_set(cpu, &fpu), -EINVAL);
	fpu_get_xsave(cpu, x);
	CHECK_EQ(t, load_le64(p + XS_HEADER), XFEATURE_X87 | XFEATURE_SSE);
	CHECK_EQ(t, load_le32(p + FXS_MXCSR), 0x1fa5);
	fpu_reset(cpu);
	CHECK_EQ(t, fpu_set_xsave(cpu, x), 0);
	fpu_get_xsave(cpu, y);
	CHECK(t, !memcmp(x, y, sizeof(*x)));
	store_le64(p + XS_HEADER, BIT64(5));
	CHECK_EQ(t, fpu_set_xsave(cpu, x), -EINVAL);
	store_le64(p + XS_HEADER, 3);
	store_le64(p + XS_HEADER + 8, BIT64(63));
	CHECK_EQ(t, fpu_set_xsave(cpu, x), -EINVAL);
	xcrs.xcrs[0].value = 4;
	CHECK_EQ(t, fpu_set_xcrs(cpu, &xcrs), -EINVAL);
	xcrs.xcrs[0].value = fpu_xcr0_supported();
	CHECK_EQ(t, fpu_set_xcrs(cpu, &xcrs), 0);
	fpu_get_xcrs(cpu, &xcrs);
	CHECK_EQ(t, xcrs.xcrs[0].value, fpu_xcr0_supported());
	free(cpu);
	free(x);
	free(y);
}

static void test_cpuid(struct test *t)
{
	struct cpuid_regs r;

	fpu_cpuid_d(NULL, 0, &r);
	CHECK_EQ(t, r.eax, fpu_xcr0_supported());
	CHECK_EQ(t, r.ebx, 576);
	CHECK_EQ(t, r.ecx, fpu_xcr0_supported() & 4 ? 832 : 576);
	fpu_cpuid_d(NULL, 1, &r);
	CHECK_EQ(t, r.eax, 7);
	fpu_cpuid_d(NULL, 2, &r);
	CHECK_EQ(t, r.eax, fpu_xcr0_supported() & 4 ? 256 : 0);
	CHECK(t,
	      !fpu_xcr0_valid(0) && !fpu_xcr0_valid(5) && !fpu_xcr0_valid(9) && fpu_xcr0_valid(3));
}

/* Rounding and flags live in the host between load and unload, and nowhere else. */
static void test_load_unload(struct test *t)
{
	struct vcpu *cpu = calloc(1, sizeof(*cpu));
	uint32_t host;

	fpu_reset(cpu);
	fpu_set_mxcsr(cpu, 0x7f80);
	fpu_load(cpu);
	__asm__ volatile("stmxcsr %0" : "=m"(host));
	CHECK_EQ(t, host, 0x7f80);
	__asm__ volatile("ldmxcsr %0" : : "m"((uint32_t){ 0x7fa0 }));
	CHECK_EQ(t, fpu_mxcsr(cpu), 0x7fa0);
	fpu_unload(cpu);
	__asm__ volatile("stmxcsr %0" : "=m"(host));
	CHECK_EQ(t, host & 0xffc0, MXCSR_INIT);
	CHECK_EQ(t, cpu->fpu.mxcsr, 0x7fa0);
	free(cpu);
}

static const struct test_case cases[] = {
	{ "traps by class", test_traps },
	{ "SIMD exceptions", test_simd_exception },
	{ "SIGFPE of others", test_foreign_sigfpe },
	{ "pending x87 exceptions", test_pending },
	{ "control words", test_control },
	{ "a store withheld", test_store_withheld },
	{ "environments", test_env },
	{ "XSAVE and XSAVEOPT", test_xsaveopt },
	{ "XSAVEC", test_xsavec },
	{ "XRSTOR", test_xrstor },
	{ "eight registers", test_eight_registers },
	{ "KVM's structures", test_kvm_structures },
	{ "CPUID 0xD", test_cpuid },
	{ "load and unload", test_load_unload },
	{ 0 },
};

int main(int argc, char **argv)
{
	int r;

	soft = dt_soft_new();
	r = soft ? test_main(argc, argv, cases) : 1;
	dt_soft_free(soft);
	return r;
}
