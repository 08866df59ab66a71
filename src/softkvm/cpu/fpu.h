/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x87, SSE and AVX state. Vector registers lie apart from the legacy image, so
 * that 256-bit loads and stores are plain.
 */
#pragma once

#include "base/util.h"

union vreg {
	uint8_t b[32];
	uint16_t w[16];
	uint32_t d[8];
	uint64_t q[4];
	float f[8];
	double df[4];
} __attribute__((aligned(32)));

struct fpu {
	union vreg v[16];
	uint8_t x87[160] __attribute__((aligned(16))); /* first 160 bytes of an FXSAVE64 image */
	uint32_t mxcsr;
	uint64_t xstate_bv; /* which components are not in their initial state (bit 0 x87, 1 SSE, 2 AVX) */
};

/* vcpu.fp_trap: why an instruction of a class must not run now. */
enum {
	FPTRAP_X87_NM = BIT(0), /* CR0.EM or CR0.TS: #NM for x87 */
	FPTRAP_SSE_UD = BIT(1), /* CR0.EM or not CR4.OSFXSR: #UD */
	FPTRAP_SSE_NM = BIT(2), /* CR0.TS */
	FPTRAP_AVX_UD = BIT(3), /* not CR4.OSXSAVE or XCR0 lacks AVX */
	FPTRAP_WAIT_NM = BIT(4), /* CR0.MP and CR0.TS: #NM for WAIT */
	FPTRAP_MMX_UD = BIT(5), /* CR0.EM: #UD for MMX */
};
