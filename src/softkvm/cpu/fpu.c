/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x87, SSE and AVX state: loading it into the host's processor, reset, the
 * forms that user space sees, CPUID leaf 0xD.
 */
#include "softkvm/cpu/fpu.h"

#include <cpuid.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>

#include "softkvm/cpu/msr.h"
#include "softkvm/cpu/stub.h"
#include "softkvm/cpu/vcpu.h"

static inline uint32_t host_stmxcsr(void)
{
	uint32_t v;

	__asm__ volatile("stmxcsr %0" : "=m"(v) : : "memory");
	return v;
}

static inline void host_ldmxcsr(uint32_t v)
{
	__asm__ volatile("ldmxcsr %0" : : "m"(v) : "memory");
}

/*
 * With an exception unmasked the host will raise SIGFPE for the guest: make sure that it reaches
 * our handler, whatever the thread's mask and the program's handlers are by now.
 */
static void expect_sigfpe(struct vcpu *cpu)
{
	sigset_t set, old;

	stub_claim_sigfpe();
	sigemptyset(&set);
	sigaddset(&set, SIGFPE);
	pthread_sigmask(SIG_UNBLOCK, &set, &old);
	cpu->fpu.fpe_unblocked |= sigismember(&old, SIGFPE) == 1;
}

static void restore_sigfpe(struct vcpu *cpu)
{
	sigset_t set;

	if (!cpu->fpu.fpe_unblocked) {
		return;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGFPE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	cpu->fpu.fpe_unblocked = 0;
}

void fpu_load(struct vcpu *cpu)
{
	struct fpu *f = &cpu->fpu;

	if (f->loaded) {
		return;
	}
	f->host_mxcsr = host_stmxcsr();
	f->loaded = 1;
	fpu_set_mxcsr(cpu, f->mxcsr);
}

void fpu_unload(struct vcpu *cpu)
{
	struct fpu *f = &cpu->fpu;

	if (!f->loaded) {
		return;
	}
	fpu_sync_x87(cpu);
	f->mxcsr = host_stmxcsr() & MXCSR_VALID;
	host_ldmxcsr(f->host_mxcsr);
	f->loaded = 0;
	restore_sigfpe(cpu);
}

uint32_t fpu_mxcsr(const struct vcpu *cpu)
{
	return cpu->fpu.loaded ? host_stmxcsr() & MXCSR_VALID : cpu->fpu.mxcsr;
}

void fpu_set_mxcsr(struct vcpu *cpu, uint32_t mxcsr)
{
	cpu->fpu.mxcsr = mxcsr;
	if (!cpu->fpu.loaded) {
		return;
	}
	if ((mxcsr & MXCSR_MASKS) != MXCSR_MASKS) {
		cpu->jit.sse_off = cpu->jit.avx_off = 1; /* the interpreter's stubs can fault */
		expect_sigfpe(cpu);
	}
	host_ldmxcsr(mxcsr);
}

/* Forget the x87 registers in the host: leave them as the ABI wants them at calls. */
static void drop_x87(struct vcpu *cpu)
{
	if (cpu->fpu.x87_live) {
		__asm__ volatile("fninit" : : : "memory");
		cpu->fpu.x87_live = 0;
	}
}

void fpu_sync_x87(struct vcpu *cpu)
{
	uint8_t tmp[FXS_SIZE] __attribute__((aligned(16)));
	uint8_t *image = cpu->fpu.image;

	if (!cpu->fpu.x87_live) {
		return;
	}
	__asm__ volatile("fxsave64 %0" : "=m"(tmp) : : "memory");
	drop_x87(cpu);
	memcpy(image + FXS_FCW, tmp + FXS_FCW, 5);
	memcpy(image + FXS_ST, tmp + FXS_ST, 8 * 16);
}

/* --- reset, user space ------------------------------------------------------------------ */

static void image_init(uint8_t *image)
{
	memset(image, 0, FXS_SIZE);
	store_le16(image + FXS_FCW, FCW_INIT);
	store_le32(image + FXS_MXCSR_MASK, MXCSR_VALID);
}

void fpu_image_reset(struct vcpu *cpu)
{
	drop_x87(cpu);
	image_init(cpu->fpu.image);
}

void fpu_reset(struct vcpu *cpu)
{
	fpu_image_reset(cpu);
	memset(cpu->fpu.v, 0, sizeof(cpu->fpu.v));
	fpu_set_mxcsr(cpu, MXCSR_INIT);
}

void fpu_get(const struct vcpu *cpu, struct kvm_fpu *ret)
{
	const uint8_t *im = cpu->fpu.image;

	memset(ret, 0, sizeof(*ret));
	memcpy(ret->fpr, im + FXS_ST, sizeof(ret->fpr));
	ret->fcw = load_le16(im + FXS_FCW);
	ret->fsw = load_le16(im + FXS_FSW);
	ret->ftwx = im[FXS_FTW];
	ret->last_opcode = load_le16(im + FXS_FOP);
	ret->last_ip = load_le64(im + FXS_FIP);
	ret->last_dp = load_le64(im + FXS_FDP);
	for (unsigned i = 0; i < 16; i++) {
		memcpy(ret->xmm[i], cpu->fpu.v[i].b, 16);
	}
	ret->mxcsr = cpu->fpu.mxcsr;
}

/* ES and B follow from the flags and masks; FCW's bit 6 reads as 1, its reserved bits as 0. */
static void image_normalize(uint8_t *im)
{
	uint16_t fcw = (load_le16(im + FXS_FCW) & 0x1f3f) | 0x40, fsw = load_le16(im + FXS_FSW);

	fsw &= (uint16_t) ~(FSW_ES | FSW_BUSY);
	if (fsw & ~fcw & FCW_MASKS) {
		fsw |= FSW_ES | FSW_BUSY;
	}
	store_le16(im + FXS_FCW, fcw);
	store_le16(im + FXS_FSW, fsw);
	im[5] = 0;
	store_le16(im + FXS_FOP, load_le16(im + FXS_FOP) & 0x7ff);
	for (unsigned i = 0; i < 8; i++) {
		memset(im + FXS_ST + i * 16 + 10, 0, 6);
	}
}

void fpu_image_set(struct vcpu *cpu, const uint8_t *legacy)
{
	drop_x87(cpu);
	if (legacy != cpu->fpu.image) {
		memcpy(cpu->fpu.image, legacy, FXS_MXCSR);
		memcpy(cpu->fpu.image + FXS_ST, legacy + FXS_ST, 8 * 16);
	}
	image_normalize(cpu->fpu.image);
}

int fpu_set(struct vcpu *cpu, const struct kvm_fpu *in)
{
	uint8_t im[FXS_XMM] = { 0 };

	if (in->mxcsr & ~MXCSR_VALID) {
		return -EINVAL;
	}
	store_le16(im + FXS_FCW, in->fcw);
	store_le16(im + FXS_FSW, in->fsw);
	im[FXS_FTW] = in->ftwx;
	store_le16(im + FXS_FOP, in->last_opcode);
	store_le64(im + FXS_FIP, in->last_ip);
	store_le64(im + FXS_FDP, in->last_dp);
	memcpy(im + FXS_ST, in->fpr, sizeof(in->fpr));
	fpu_image_set(cpu, im);
	for (unsigned i = 0; i < 16; i++) {
		memcpy(cpu->fpu.v[i].b, in->xmm[i], 16);
	}
	fpu_set_mxcsr(cpu, in->mxcsr);
	return 0;
}

void fpu_get_xsave(const struct vcpu *cpu, struct kvm_xsave *ret)
{
	uint8_t *p = (uint8_t *)ret->region;

	memset(p, 0, sizeof(ret->region));
	memcpy(p, cpu->fpu.image, FXS_XMM);
	store_le32(p + FXS_MXCSR, cpu->fpu.mxcsr);
	store_le32(p + FXS_MXCSR_MASK, MXCSR_VALID);
	for (unsigned i = 0; i < 16; i++) {
		memcpy(p + FXS_XMM + i * 16, cpu->fpu.v[i].b, 16);
		memcpy(p + XS_AVX + i * 16, cpu->fpu.v[i].b + 16, 16);
	}
	store_le64(p + XS_HEADER, fpu_xinuse(cpu, fpu_xcr0_supported()));
}

int fpu_set_xsave(struct vcpu *cpu, const struct kvm_xsave *in)
{
	const uint8_t *p = (const uint8_t *)in->region;
	static const uint8_t zero[48];
	uint64_t bv = load_le64(p + XS_HEADER);
	uint32_t mxcsr = MXCSR_INIT;

	if ((bv & ~fpu_xcr0_supported()) || load_le64(p + XS_HEADER + 8) ||
	    memcmp(p + XS_HEADER + 16, zero, sizeof(zero))) {
		return -EINVAL;
	}
	if (bv & (XFEATURE_SSE | XFEATURE_AVX)) {
		mxcsr = load_le32(p + FXS_MXCSR);
		if (mxcsr & ~MXCSR_VALID) {
			return -EINVAL;
		}
	}
	if (bv & XFEATURE_X87) {
		fpu_image_set(cpu, p);
	} else {
		fpu_image_reset(cpu);
	}
	for (unsigned i = 0; i < 16; i++) {
		memcpy(cpu->fpu.v[i].b, bv & XFEATURE_SSE ? p + FXS_XMM + i * 16 : zero, 16);
		memcpy(cpu->fpu.v[i].b + 16, bv & XFEATURE_AVX ? p + XS_AVX + i * 16 : zero, 16);
	}
	fpu_set_mxcsr(cpu, mxcsr);
	return 0;
}

void fpu_get_xcrs(const struct vcpu *cpu, struct kvm_xcrs *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->nr_xcrs = 1;
	ret->xcrs[0].value = cpu->xcr0;
}

int fpu_set_xcrs(struct vcpu *cpu, const struct kvm_xcrs *in)
{
	if (in->nr_xcrs > KVM_MAX_XCRS || in->flags) {
		return -EINVAL;
	}
	/* As the kernel: XCR0 only, the first one counts. */
	for (unsigned i = 0; i < in->nr_xcrs; i++) {
		if (in->xcrs[i].xcr == 0) {
			if (!fpu_xcr0_valid(in->xcrs[i].value)) {
				return -EINVAL;
			}
			cpu->xcr0 = in->xcrs[i].value;
			break;
		}
	}
	return 0;
}

uint64_t fpu_xcr0_supported(void)
{
	uint64_t v = XFEATURE_X87 | XFEATURE_SSE;

	return fpu_host_features() & FPUF_AVX ? v | XFEATURE_AVX : v;
}

bool fpu_xcr0_valid(uint64_t xcr0)
{
	if (!(xcr0 & XFEATURE_X87) || (xcr0 & ~fpu_xcr0_supported())) {
		return false;
	}
	return !(xcr0 & XFEATURE_AVX) || (xcr0 & XFEATURE_SSE);
}

/* --- in use ------------------------------------------------------------------------------ */

static bool x87_is_init(const uint8_t *im)
{
	uint64_t any = (uint64_t)(load_le16(im + FXS_FCW) ^ FCW_INIT) | load_le16(im + FXS_FSW) |
		       im[FXS_FTW] | load_le16(im + FXS_FOP) | load_le64(im + FXS_FIP) |
		       load_le64(im + FXS_FDP);

	for (unsigned i = 0; i < 8 * 16; i += 8) {
		any |= load_le64(im + FXS_ST + i);
	}
	return any == 0;
}

uint64_t fpu_xinuse(const struct vcpu *cpu, uint64_t components)
{
	const struct fpu *f = &cpu->fpu;
	uint64_t low = 0, high = 0, ret = 0;

	if ((components & XFEATURE_X87) && (f->x87_live || !x87_is_init(f->image))) {
		ret |= XFEATURE_X87;
	}
	for (unsigned i = 0; i < 16; i++) {
		low |= f->v[i].q[0] | f->v[i].q[1];
		high |= f->v[i].q[2] | f->v[i].q[3];
	}
	ret |= (low ? XFEATURE_SSE : 0) | (high ? XFEATURE_AVX : 0);
	return ret & components;
}

/* --- CPUID --------------------------------------------------------------------------------- */

struct feature_bit {
	uint32_t leaf;
	uint8_t reg; /* 1 EBX, 2 ECX */
	uint8_t bit;
	bool avx; /* needs the host's AVX state */
	uint32_t feature;
};

static const struct feature_bit feature_bits[] = {
	{ 1, 2, 0, false, FPUF_SSE3 },   { 1, 2, 9, false, FPUF_SSSE3 },
	{ 1, 2, 19, false, FPUF_SSE41 }, { 1, 2, 20, false, FPUF_SSE42 },
	{ 1, 2, 25, false, FPUF_AES },   { 1, 2, 1, false, FPUF_PCLMUL },
	{ 7, 1, 29, false, FPUF_SHA },   { 1, 2, 28, true, FPUF_AVX },
	{ 7, 1, 5, true, FPUF_AVX2 },    { 1, 2, 12, true, FPUF_FMA },
	{ 1, 2, 29, true, FPUF_F16C },
};

static bool host_has_avx_state(void)
{
	uint32_t a, b, c, d, lo, hi;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) {
		return false;
	}
	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (lo & 6) == 6;
}

static uint64_t host_features;

static void host_features_find(void)
{
	bool avx = host_has_avx_state();
	uint64_t f = FPUF_MMX;

	for (unsigned i = 0; i < ARRAY_SIZE(feature_bits); i++) {
		const struct feature_bit *fb = &feature_bits[i];
		uint32_t r[4] = { 0 };

		if (__get_cpuid_count(fb->leaf, 0, &r[0], &r[1], &r[2], &r[3]) &&
		    (r[fb->reg] & BIT(fb->bit)) && (avx || !fb->avx)) {
			f |= fb->feature;
		}
	}
	host_features = f;
}

uint64_t fpu_host_features(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, host_features_find);
	return host_features;
}

uint32_t fpu_xsave_size(uint64_t components, bool compacted)
{
	/* AVX is the only component behind the header: both formats place it alike. */
	(void)compacted;
	return components & XFEATURE_AVX ? XS_SIZE : XS_AVX;
}

void fpu_cpuid_d(const struct vcpu *cpu, uint32_t subleaf, struct cpuid_regs *ret)
{
	uint64_t all = fpu_xcr0_supported(), xcr0 = cpu ? cpu->xcr0 : XFEATURE_X87;

	memset(ret, 0, sizeof(*ret));
	if (subleaf == 0) {
		ret->eax = (uint32_t)all;
		ret->ebx = fpu_xsave_size(xcr0, false);
		ret->ecx = fpu_xsave_size(all, false);
		ret->edx = (uint32_t)(all >> 32);
	} else if (subleaf == 1) {
		ret->eax = BIT(0) | BIT(1) | BIT(2); /* XSAVEOPT, XSAVEC, XGETBV(1) */
		ret->ebx = fpu_xsave_size(xcr0, true);
	} else if (subleaf == 2 && (all & XFEATURE_AVX)) {
		ret->eax = XS_AVX_SIZE;
		ret->ebx = XS_AVX;
	}
}
