/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x87, MMX, SSE and AVX state.
 *
 * Theory of operation
 * -------------------
 * Vector instructions take their operands from v[] and put their results back
 * there; only while one runs are guest values in the host's vector registers.
 * Two things do stay in the host's processor while a vCPU runs:
 *
 *  - MXCSR, from fpu_load() to fpu_unload(), so that instructions pay nothing
 *    for rounding, denormals and sticky flags. Between the two, `mxcsr` is stale:
 *    read it by fpu_mxcsr(). The code of softkvm does no floating-point
 *    arithmetic (a test of its object code holds this), and signal
 *    handlers get a fresh MXCSR from the kernel.
 *  - the x87 and MMX registers, lazily: `x87_live` says that they are in the host's
 *    x87 and that `image` is stale. Only while all x87 exceptions are masked: with
 *    one unmasked each instruction goes through `image`, so the host never holds a pending one.
 *
 * Invariants
 *  1. x87_live implies loaded, and FCW bits 0..5 set.
 *  2. not loaded: v, image and mxcsr are the whole state.
 *  3. FOP, FIP and FDP of `image` are always the guest's: they never come from the host. They
 *     are set only by instructions that raise an unmasked exception (CPUID.7.EBX[6]).
 *  4. mxcsr has no bits outside MXCSR_VALID.
 */
#pragma once

#include "base/util.h"

struct vcpu;
struct kvm_fpu;
struct kvm_xsave;
struct kvm_xcrs;

union vreg {
	uint8_t b[32];
	uint16_t w[16];
	uint32_t d[8];
	uint64_t q[4];
	float f[8];
	double df[4];
} __attribute__((aligned(32)));

/* Offsets in the legacy image (SDM 1 table 10-2). */
enum {
	FXS_FCW = 0,
	FXS_FSW = 2,
	FXS_FTW = 4, /* one bit a register: not empty */
	FXS_FOP = 6,
	FXS_FIP = 8,
	FXS_FDP = 16,
	FXS_MXCSR = 24,
	FXS_MXCSR_MASK = 28,
	FXS_ST = 32, /* 16 bytes a register, ST(0) first */
	FXS_XMM = 160,
	FXS_SIZE = 512,
	XS_HEADER = 512,
	XS_AVX = 576, /* standard format */
	XS_AVX_SIZE = 256,
	XS_SIZE = XS_AVX + XS_AVX_SIZE,
};

#define XFEATURE_X87 BIT64(0)
#define XFEATURE_SSE BIT64(1)
#define XFEATURE_AVX BIT64(2)

#define MXCSR_INIT  0x1f80u
#define MXCSR_VALID 0xffffu /* others: #GP on load; shown to guests as MXCSR_MASK */
#define MXCSR_MASKS 0x1f80u /* exception masks */
#define FCW_INIT    0x037fu
#define FCW_MASKS   0x003fu
#define FSW_ES      0x0080u /* an unmasked exception is pending */
#define FSW_BUSY    0x8000u /* always a copy of ES */

struct fpu {
	union vreg v[16];
	uint8_t image[FXS_SIZE]
		__attribute__((aligned(64))); /* FXSAVE64 form; its XMM part is not used */
	uint8_t bounce[64] __attribute__((aligned(64))); /* operands that cross pages */
	uint32_t mxcsr;
	uint32_t host_mxcsr; /* the thread's own, while loaded */
	uint8_t x87_live;
	uint8_t loaded;
	uint8_t fpe_unblocked; /* fpu_load() or later unblocked SIGFPE: block it again */
};

/* vcpu.fp_trap: why an instruction of a class must not run now. */
enum {
	FPTRAP_X87_NM = BIT(0),  /* CR0.EM or CR0.TS: #NM for x87 */
	FPTRAP_SSE_UD = BIT(1),  /* CR0.EM or not CR4.OSFXSR: #UD */
	FPTRAP_SSE_NM = BIT(2),  /* CR0.TS */
	FPTRAP_AVX_UD = BIT(3),  /* not CR4.OSXSAVE or XCR0 lacks AVX */
	FPTRAP_WAIT_NM = BIT(4), /* CR0.MP and CR0.TS: #NM for WAIT */
	FPTRAP_MMX_UD = BIT(5),  /* CR0.EM: #UD for MMX */
};

/* --- around KVM_RUN -------------------------------------------------------------- */
/*
 * The calling thread is going to run this vCPU's instructions, or has done so. Every exec_fn of
 * this group must lie between both; nesting is not allowed, loading twice does nothing.
 * Everything outside KVM_RUN may then read and write struct fpu as plain memory.
 */
void fpu_load(struct vcpu *cpu);
void fpu_unload(struct vcpu *cpu);
/* MXCSR now, loaded or not; set: the value must be valid (MXCSR_VALID). */
uint32_t fpu_mxcsr(const struct vcpu *cpu);
void fpu_set_mxcsr(struct vcpu *cpu, uint32_t mxcsr);
/* Bring the x87 registers home into `image`; the next x87 or MMX instruction loads them again. */
void fpu_sync_x87(struct vcpu *cpu);
/*
 * Replace the x87 part by the first 160 bytes of an FXSAVE64 image (which may be fpu.image itself;
 * reserved bits are dropped, ES follows from flags and masks), or by FNINIT's state with zero
 * registers.
 */
void fpu_image_set(struct vcpu *cpu, const uint8_t *legacy);
void fpu_image_reset(struct vcpu *cpu);

/* --- life and user space ------------------------------------------------------------ */
/* After RESET; INIT leaves this state alone (SDM 3A table 10-1, with KVM's choice of FNINIT's
 * state). */
void fpu_reset(struct vcpu *cpu);
/* KVM_GET_FPU, KVM_SET_FPU (x87, XMM, MXCSR; upper halves stay). -EINVAL: reserved bits in MXCSR.
 */
void fpu_get(const struct vcpu *cpu, struct kvm_fpu *ret);
int fpu_set(struct vcpu *cpu, const struct kvm_fpu *in);
/*
 * KVM_GET_XSAVE, KVM_SET_XSAVE: the first 4096 bytes, standard format. -EINVAL: a component that
 * is not offered, reserved header bytes, compacted format, reserved bits in MXCSR.
 */
void fpu_get_xsave(const struct vcpu *cpu, struct kvm_xsave *ret);
int fpu_set_xsave(struct vcpu *cpu, const struct kvm_xsave *in);
/* KVM_GET_XCRS, KVM_SET_XCRS; -EINVAL. The caller calls cpu_mode_changed() after set. */
void fpu_get_xcrs(const struct vcpu *cpu, struct kvm_xcrs *ret);
int fpu_set_xcrs(struct vcpu *cpu, const struct kvm_xcrs *in);
/* XCR0 bits that can be set here, and XSETBV's check of a whole value (SDM 3A 13.3). */
uint64_t fpu_xcr0_supported(void);
bool fpu_xcr0_valid(uint64_t xcr0);
/* The components that are not in their initial state, of these (XINUSE). */
uint64_t fpu_xinuse(const struct vcpu *cpu, uint64_t components);

/* --- CPUID ---------------------------------------------------------------------------- */
/* What the host's units can run; the guest's CPUID must not claim more. */
enum fpu_feature {
	FPUF_MMX = BIT(0), /* with SSE and SSE2: always there on x86-64 */
	FPUF_SSE3 = BIT(1),
	FPUF_SSSE3 = BIT(2),
	FPUF_SSE41 = BIT(3),
	FPUF_SSE42 = BIT(4),
	FPUF_AES = BIT(5),
	FPUF_PCLMUL = BIT(6),
	FPUF_SHA = BIT(7),
	FPUF_AVX = BIT(8),
	FPUF_AVX2 = BIT(9),
	FPUF_FMA = BIT(10),
	FPUF_F16C = BIT(11),
};
uint64_t fpu_host_features(void);

struct cpuid_regs;
/*
 * CPUID leaf 0xD for a guest that may use all of fpu_xcr0_supported(): EBX of subleaves 0 and 1
 * follow XCR0 of `cpu`; NULL: as at reset. XSAVEOPT, XSAVEC and XGETBV(1) are offered, XSAVES is
 * not.
 */
void fpu_cpuid_d(const struct vcpu *cpu, uint32_t subleaf, struct cpuid_regs *ret);
/* Bytes of the XSAVE area for these components, standard or compacted format. */
uint32_t fpu_xsave_size(uint64_t components, bool compacted);
