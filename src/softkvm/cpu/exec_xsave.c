/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC, XRSTOR and MXCSR, in C: what they
 * do to memory is exact (SDM 1 10.5, 13.4 to 13.11). All checks and all reads
 * come before the first change.
 */
#include "softkvm/cpu/simd_int.h"

/* --- legacy area ----------------------------------------------------------------------------- */

static bool is_64bit(const struct vcpu *cpu)
{
	return (cpu->key & MODE_SIZE) == MODE_64;
}

/* XMM8 to XMM15 exist in 64-bit mode only. */
static unsigned vector_count(const struct vcpu *cpu)
{
	return is_64bit(cpu) ? 16 : 8;
}

/* Bytes 0..23 and 32..159. Without REX.W the pointers are 32 bits and a selector (zero here). */
static void put_x87(struct vcpu *cpu, const struct insn *in, uint8_t *area)
{
	const uint8_t *im = cpu->fpu.image;

	memcpy(area, im, FXS_MXCSR);
	if (!(in->flags & INSN_REXW)) {
		store_le32(area + FXS_FIP + 4, 0);
		store_le32(area + FXS_FDP + 4, 0);
	}
	memcpy(area + FXS_ST, im + FXS_ST, 8 * 16);
}

static void get_x87(struct vcpu *cpu, const struct insn *in, const uint8_t *area)
{
	uint8_t im[FXS_XMM];

	memcpy(im, area, sizeof(im));
	if (!(in->flags & INSN_REXW)) {
		store_le32(im + FXS_FIP + 4, 0);
		store_le32(im + FXS_FDP + 4, 0);
	}
	fpu_image_set(cpu, im);
}

static void put_mxcsr(const struct vcpu *cpu, uint8_t *area)
{
	store_le32(area + FXS_MXCSR, fpu_mxcsr(cpu));
	store_le32(area + FXS_MXCSR_MASK, MXCSR_VALID);
}

static void put_xmm(const struct vcpu *cpu, uint8_t *area)
{
	for (unsigned i = 0, n = vector_count(cpu); i < n; i++) {
		memcpy(area + FXS_XMM + i * 16, cpu->fpu.v[i].b, 16);
	}
}

/* `area` NULL: the initial state. */
static void get_xmm(struct vcpu *cpu, const uint8_t *area)
{
	static const uint8_t zero[16];

	for (unsigned i = 0, n = vector_count(cpu); i < n; i++) {
		memcpy(cpu->fpu.v[i].b, area ? area + FXS_XMM + i * 16 : zero, 16);
	}
}

static void put_avx(const struct vcpu *cpu, uint8_t *area)
{
	for (unsigned i = 0, n = vector_count(cpu); i < n; i++) {
		memcpy(area + XS_AVX + i * 16, cpu->fpu.v[i].b + 16, 16);
	}
}

static void get_avx(struct vcpu *cpu, const uint8_t *area)
{
	static const uint8_t zero[16];

	for (unsigned i = 0, n = vector_count(cpu); i < n; i++) {
		memcpy(cpu->fpu.v[i].b + 16, area ? area + XS_AVX + i * 16 : zero, 16);
	}
}

/* The operand's address, aligned; false: abort. */
static bool area_linear(struct vcpu *cpu, const struct insn *in, unsigned size, unsigned align,
			enum mmu_access acc, gva_t *ret)
{
	if (!ea_linear(cpu, in, size, acc, ret)) {
		return false;
	}
	if (*ret & (align - 1)) {
		cpu->fault = (struct fault){ .vector = EX_GP, .has_error = true };
		return false;
	}
	return true;
}

/* --- FXSAVE, FXRSTOR -----------------------------------------------------------------------------
 */

static __attribute__((noinline)) enum exec_result fxsave_body(struct vcpu *cpu,
							      const struct insn *in)
{
	unsigned size = FXS_XMM + vector_count(cpu) * 16;
	uint8_t area[FXS_SIZE];
	gva_t lin;

	if (unlikely(cpu->fp_trap & FPTRAP_X87_NM)) {
		return simd_trap_x87(cpu, in);
	}
	if (!area_linear(cpu, in, FXS_SIZE, 16, ACC_WRITE, &lin) ||
	    !mmu_probe(cpu, lin, FXS_SIZE, ACC_WRITE)) {
		return exec_abort(cpu, in);
	}
	fpu_sync_x87(cpu);
	put_x87(cpu, in, area);
	put_mxcsr(cpu, area);
	put_xmm(cpu, area);
	if (!simd_write(cpu, lin, area, size)) {
		return exec_abort(cpu, in);
	}
	return EXEC_NEXT;
}
SIMD_HANDLER(fxsave)

static __attribute__((noinline)) enum exec_result fxrstor_body(struct vcpu *cpu,
							       const struct insn *in)
{
	uint8_t area[FXS_SIZE];
	gva_t lin;

	if (unlikely(cpu->fp_trap & FPTRAP_X87_NM)) {
		return simd_trap_x87(cpu, in);
	}
	if (!area_linear(cpu, in, FXS_SIZE, 16, ACC_READ, &lin) ||
	    !simd_read(cpu, lin, area, FXS_SIZE)) {
		return exec_abort(cpu, in);
	}
	if (load_le32(area + FXS_MXCSR) & ~MXCSR_VALID) {
		return exec_gp0(cpu, in);
	}
	get_x87(cpu, in, area);
	get_xmm(cpu, area);
	fpu_set_mxcsr(cpu, load_le32(area + FXS_MXCSR));
	return EXEC_NEXT;
}
SIMD_HANDLER(fxrstor)

/* --- XSAVE family --------------------------------------------------------------------------------
 */

static uint64_t requested(const struct vcpu *cpu)
{
	return cpu->xcr0 & ((uint64_t)(uint32_t)cpu->gpr[RDX] << 32 | (uint32_t)cpu->gpr[RAX]);
}

/* #UD and #NM of the family. */
static bool xsave_traps(struct vcpu *cpu, const struct insn *in, enum exec_result *ret)
{
	if (unlikely(!(cpu->cr4 & CR4_OSXSAVE))) {
		*ret = exec_ud(cpu, in);
		return true;
	}
	if (unlikely(cpu->cr0 & CR0_TS)) {
		*ret = exec_fault(cpu, in, EX_NM);
		return true;
	}
	return false;
}

static bool write_piece(struct vcpu *cpu, gva_t lin, const uint8_t *area, unsigned start,
			unsigned size)
{
	return simd_write(cpu, lin + start, area + start, size);
}

/*
 * Write the components `save`, and MXCSR if `mxcsr`; bytes of others stay as they are in memory.
 * The header's first `header` bytes too. All was probed before.
 */
static bool write_area(struct vcpu *cpu, const struct insn *in, gva_t lin, uint64_t save,
		       bool mxcsr, unsigned header, uint8_t *area)
{
	unsigned n = vector_count(cpu);

	if (save & XFEATURE_X87) {
		put_x87(cpu, in, area);
		if (!write_piece(cpu, lin, area, 0, FXS_MXCSR) ||
		    !write_piece(cpu, lin, area, FXS_ST, 8 * 16)) {
			return false;
		}
	}
	if (mxcsr) {
		put_mxcsr(cpu, area);
		if (!write_piece(cpu, lin, area, FXS_MXCSR, 8)) {
			return false;
		}
	}
	if (save & XFEATURE_SSE) {
		put_xmm(cpu, area);
		if (!write_piece(cpu, lin, area, FXS_XMM, n * 16)) {
			return false;
		}
	}
	if (save & XFEATURE_AVX) {
		put_avx(cpu, area);
		if (!write_piece(cpu, lin, area, XS_AVX, n * 16)) {
			return false;
		}
	}
	return write_piece(cpu, lin, area, XS_HEADER, header);
}

/* XSAVE and XSAVEOPT: standard format; XSTATE_BV's other bits are kept. */
static enum exec_result save_standard(struct vcpu *cpu, const struct insn *in, bool optimised)
{
	uint64_t rfbm = requested(cpu), inuse, old;
	unsigned size = fpu_xsave_size(rfbm, false);
	uint8_t area[XS_SIZE];
	enum exec_result r;
	gva_t lin;

	if (xsave_traps(cpu, in, &r)) {
		return r;
	}
	if (!area_linear(cpu, in, size, 64, ACC_WRITE, &lin) ||
	    !mmu_probe(cpu, lin, size, ACC_WRITE) || !mmu_load(cpu, lin + XS_HEADER, &old, 8)) {
		return exec_abort(cpu, in);
	}
	fpu_sync_x87(cpu);
	inuse = fpu_xinuse(cpu, rfbm);
	store_le64(area + XS_HEADER, (old & ~rfbm) | inuse);
	if (!write_area(cpu, in, lin, optimised ? inuse : rfbm,
			rfbm & (XFEATURE_SSE | XFEATURE_AVX), 8, area)) {
		return exec_abort(cpu, in);
	}
	return EXEC_NEXT;
}

static __attribute__((noinline)) enum exec_result xsave_body(struct vcpu *cpu,
							     const struct insn *in)
{
	return save_standard(cpu, in, false);
}
SIMD_HANDLER(xsave)

static __attribute__((noinline)) enum exec_result xsaveopt_body(struct vcpu *cpu,
								const struct insn *in)
{
	return save_standard(cpu, in, true);
}
SIMD_HANDLER(xsaveopt)

/* Compacted; AVX, the only extended component, lies where the standard format has it. */
static __attribute__((noinline)) enum exec_result xsavec_body(struct vcpu *cpu,
							      const struct insn *in)
{
	uint64_t rfbm = requested(cpu), inuse;
	unsigned size = fpu_xsave_size(rfbm, true);
	uint8_t area[XS_SIZE];
	enum exec_result r;
	gva_t lin;

	if (xsave_traps(cpu, in, &r)) {
		return r;
	}
	if (!area_linear(cpu, in, size, 64, ACC_WRITE, &lin) ||
	    !mmu_probe(cpu, lin, size, ACC_WRITE)) {
		return exec_abort(cpu, in);
	}
	fpu_sync_x87(cpu);
	inuse = fpu_xinuse(cpu, rfbm);
	if ((rfbm & XFEATURE_SSE) && fpu_mxcsr(cpu) != MXCSR_INIT) {
		inuse |= XFEATURE_SSE;
	}
	store_le64(area + XS_HEADER, inuse);
	store_le64(area + XS_HEADER + 8, rfbm | BIT64(63));
	if (!write_area(cpu, in, lin, inuse, inuse & XFEATURE_SSE, 16, area)) {
		return exec_abort(cpu, in);
	}
	return EXEC_NEXT;
}
SIMD_HANDLER(xsavec)

/* --- XRSTOR
 * -------------------------------------------------------------------------------------------- */

static bool all_zero(const uint8_t *p, unsigned n)
{
	uint8_t any = 0;

	for (unsigned i = 0; i < n; i++) {
		any |= p[i];
	}
	return !any;
}

/* The header's rules: false is #GP(0). */
static bool header_valid(const struct vcpu *cpu, const uint8_t *h)
{
	uint64_t bv = load_le64(h), comp = load_le64(h + 8);

	if (comp & BIT64(63)) {
		return !(comp & ~BIT64(63) & ~cpu->xcr0) && !(bv & ~comp) && all_zero(h + 16, 48) &&
		       !(bv & BIT64(63));
	}
	return !(bv & ~cpu->xcr0) && all_zero(h + 8, 16);
}

static void restore(struct vcpu *cpu, const struct insn *in, uint64_t rfbm, uint64_t from,
		    const uint8_t *area)
{
	if (rfbm & XFEATURE_X87) {
		if (from & XFEATURE_X87) {
			get_x87(cpu, in, area);
		} else {
			fpu_image_reset(cpu);
		}
	}
	if (rfbm & XFEATURE_SSE) {
		get_xmm(cpu, from & XFEATURE_SSE ? area : NULL);
	}
	if (rfbm & XFEATURE_AVX) {
		get_avx(cpu, from & XFEATURE_AVX ? area : NULL);
	}
}

static __attribute__((noinline)) enum exec_result xrstor_body(struct vcpu *cpu,
							      const struct insn *in)
{
	uint64_t rfbm = requested(cpu), from;
	uint8_t area[XS_SIZE];
	uint32_t mxcsr = MXCSR_INIT;
	bool compacted, load_mxcsr;
	enum exec_result r;
	gva_t lin;

	if (xsave_traps(cpu, in, &r)) {
		return r;
	}
	if (!area_linear(cpu, in, fpu_xsave_size(rfbm, false), 64, ACC_READ, &lin) ||
	    !simd_read(cpu, lin, area, XS_HEADER + 64)) {
		return exec_abort(cpu, in);
	}
	if (!header_valid(cpu, area + XS_HEADER)) {
		return exec_gp0(cpu, in);
	}
	compacted = load_le64(area + XS_HEADER + 8) & BIT64(63);
	from = rfbm & load_le64(area + XS_HEADER);
	load_mxcsr = compacted ? from & XFEATURE_SSE : rfbm & (XFEATURE_SSE | XFEATURE_AVX);
	if ((from & XFEATURE_AVX) && !simd_read(cpu, lin + XS_AVX, area + XS_AVX, XS_AVX_SIZE)) {
		return exec_abort(cpu, in);
	}
	if (load_mxcsr) {
		mxcsr = load_le32(area + FXS_MXCSR);
		if (mxcsr & ~MXCSR_VALID) {
			return exec_gp0(cpu, in);
		}
	}
	restore(cpu, in, rfbm, from, area);
	if (load_mxcsr || (compacted && (rfbm & XFEATURE_SSE))) {
		fpu_set_mxcsr(cpu, mxcsr);
	}
	return EXEC_NEXT;
}
SIMD_HANDLER(xrstor)

/* --- MXCSR
 * ---------------------------------------------------------------------------------------------- */

static __attribute__((noinline)) enum exec_result ldmxcsr_body(struct vcpu *cpu,
							       const struct insn *in)
{
	uint32_t v;
	gva_t lin;

	SIMD_CHECK_TRAP(cpu, in);
	if (!ea_linear(cpu, in, 4, ACC_READ, &lin) || !mmu_load(cpu, lin, &v, 4)) {
		return exec_abort(cpu, in);
	}
	if (v & ~MXCSR_VALID) {
		return exec_gp0(cpu, in);
	}
	fpu_set_mxcsr(cpu, v);
	return EXEC_NEXT;
}
SIMD_HANDLER(ldmxcsr)

static __attribute__((noinline)) enum exec_result stmxcsr_body(struct vcpu *cpu,
							       const struct insn *in)
{
	uint32_t v = fpu_mxcsr(cpu);
	gva_t lin;

	SIMD_CHECK_TRAP(cpu, in);
	if (!ea_linear(cpu, in, 4, ACC_WRITE, &lin) || !mmu_store(cpu, lin, &v, 4)) {
		return exec_abort(cpu, in);
	}
	return EXEC_NEXT;
}
SIMD_HANDLER(stmxcsr)

exec_fn *xsave_bind(const struct insn *in)
{
	switch (in->op) {
	case OP_FXSAVE:
		return fxsave;
	case OP_FXRSTOR:
		return fxrstor;
	case OP_XSAVE:
		return xsave;
	case OP_XSAVEOPT:
		return xsaveopt;
	case OP_XSAVEC:
		return xsavec;
	case OP_XRSTOR:
		return xrstor;
	case OP_LDMXCSR:
	case OP_VLDMXCSR:
		return ldmxcsr;
	case OP_STMXCSR:
	case OP_VSTMXCSR:
		return stmxcsr;
	default:
		return NULL;
	}
}
