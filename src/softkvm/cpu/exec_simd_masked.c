/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Vector accesses lane by lane, where only the lanes that a mask selects may
 * touch memory: MASKMOVQ, MASKMOVDQU, VMASKMOV, VPMASKMOV, gathers. And VZERO*.
 */
#include "softkvm/cpu/simd_int.h"

static bool lane_linear(struct vcpu *cpu, const struct insn *in, uint64_t off, unsigned size,
			enum mmu_access acc, gva_t *ret)
{
	off = in->asz == 8 ? off : in->asz == 4 ? (uint32_t)off : (uint16_t)off;
	if (in->flags & INSN_FLAT) {
		*ret = cpu->segbase[in->seg] + off;
		return true;
	}
	return seg_linear(cpu, in->seg, off, size, acc, ret);
}

/* May all selected lanes be written? A fault has the address of the first that may not. */
static bool probe_lanes(struct vcpu *cpu, gva_t lin, unsigned size, uint32_t mask)
{
	unsigned first = (unsigned)__builtin_ctz(mask) * size;
	unsigned end = (32 - (unsigned)__builtin_clz(mask)) * size;

	if (((lin + first) ^ (lin + end - 1)) < 4096) {
		return mmu_probe(cpu, lin + first, end - first, ACC_WRITE);
	}
	for (unsigned i = 0; i < 32 / size; i++) {
		if ((mask & BIT(i)) && !mmu_probe(cpu, lin + i * size, size, ACC_WRITE)) {
			return false;
		}
	}
	return true;
}

/*
 * Store the lanes of `size` bytes that `mask` (a bit a lane) selects. All are checked before the
 * first byte is written.
 */
static bool store_lanes(struct vcpu *cpu, const struct insn *in, uint64_t off, const uint8_t *data,
			unsigned size, uint32_t mask)
{
	unsigned first, last;
	gva_t lin;

	if (!mask) {
		return true;
	}
	first = (unsigned)__builtin_ctz(mask) * size;
	last = (31 - (unsigned)__builtin_clz(mask)) * size;
	if (!lane_linear(cpu, in, off + first, size, ACC_WRITE, &lin) ||
	    !lane_linear(cpu, in, off + last, size, ACC_WRITE, &lin) ||
	    !probe_lanes(cpu, lin - last, size, mask)) {
		return false;
	}
	for (unsigned i = first; i <= last; i += size) {
		bool ok = true;

		if (mask & BIT(i / size)) {
			gva_t at = lin - last + i;

			ok = size == 1   ? mmu_store(cpu, at, data + i, 1)
			     : size == 4 ? mmu_store(cpu, at, data + i, 4)
					 : mmu_store(cpu, at, data + i, 8);
		}
		if (!ok) {
			return false;
		}
	}
	return true;
}

static uint32_t sign_mask(const union vreg *v, unsigned size, unsigned bytes)
{
	uint32_t mask = 0;

	for (unsigned i = 0; i < bytes / size; i++) {
		mask |= (uint32_t)(v->b[i * size + size - 1] >> 7) << i;
	}
	return mask;
}

/* --- MASKMOV: to DS:rDI, or an overriding segment --------------------------------------------- */

static enum exec_result maskmov(struct vcpu *cpu, const struct insn *in, const uint8_t *data,
				const union vreg *mask, unsigned bytes)
{
	struct insn at = *in;

	if (!(in->flags & INSN_SEGOVR)) {
		at.seg = SEG_DS;
	}
	at.flags &= ~(uint32_t)INSN_FLAT; /* the decoder knows of no operand */
	if (!store_lanes(cpu, &at, cpu->gpr[RDI], data, 1, sign_mask(mask, 1, bytes))) {
		return exec_abort(cpu, in);
	}
	return EXEC_NEXT;
}

static __attribute__((noinline)) enum exec_result maskmovdqu_body(struct vcpu *cpu,
								  const struct insn *in)
{
	SIMD_CHECK_TRAP(cpu, in);
	return maskmov(cpu, in, cpu->fpu.v[in->reg].b, &cpu->fpu.v[in->rm], 16);
}
SIMD_HANDLER(maskmovdqu)

static __attribute__((noinline)) enum exec_result maskmovq_body(struct vcpu *cpu,
								const struct insn *in)
{
	union vreg data, mask;

	if (unlikely(cpu->fp_trap & TRAP_MMX)) {
		return simd_trap_mmx(cpu, in);
	}
	if (x87_pending(cpu)) {
		return exec_fault(cpu, in, EX_MF);
	}
	x87_read_mmx(cpu, in->modrm >> 3 & 7, data.b);
	x87_read_mmx(cpu, in->modrm & 7, mask.b);
	x87_enter_mmx(cpu); /* before it can fault, as processors do */
	return maskmov(cpu, in, data.b, &mask, 8);
}
SIMD_HANDLER(maskmovq)

/* --- VMASKMOV, VPMASKMOV ---------------------------------------------------------------------- */

static unsigned vector_bytes(const struct insn *in)
{
	return in->flags & INSN_VEXL ? 32 : 16;
}

static inline enum exec_result vmask_store(struct vcpu *cpu, const struct insn *in, unsigned size)
{
	uint32_t mask;

	SIMD_CHECK_TRAP(cpu, in);
	mask = sign_mask(&cpu->fpu.v[in->vvvv], size, vector_bytes(in));
	if (!store_lanes(cpu, in, ea_offset(cpu, in), cpu->fpu.v[in->reg].b, size, mask)) {
		return exec_abort(cpu, in);
	}
	return EXEC_NEXT;
}

static inline enum exec_result vmask_load(struct vcpu *cpu, const struct insn *in, unsigned size)
{
	union vreg ret = { .q = { 0 } };
	uint64_t off = ea_offset(cpu, in);
	uint32_t mask;

	SIMD_CHECK_TRAP(cpu, in);
	mask = sign_mask(&cpu->fpu.v[in->vvvv], size, vector_bytes(in));
	for (unsigned i = 0; i < vector_bytes(in); i += size) {
		gva_t lin;

		if ((mask & BIT(i / size)) &&
		    (!lane_linear(cpu, in, off + i, size, ACC_READ, &lin) ||
		     !mmu_load(cpu, lin, ret.b + i, size))) {
			return exec_abort(cpu, in);
		}
	}
	cpu->fpu.v[in->reg] = ret;
	return EXEC_NEXT;
}

static __attribute__((noinline)) enum exec_result vmask_load4_body(struct vcpu *cpu,
								   const struct insn *in)
{
	return vmask_load(cpu, in, 4);
}
SIMD_HANDLER(vmask_load4)

static __attribute__((noinline)) enum exec_result vmask_load8_body(struct vcpu *cpu,
								   const struct insn *in)
{
	return vmask_load(cpu, in, 8);
}
SIMD_HANDLER(vmask_load8)

static __attribute__((noinline)) enum exec_result vmask_store4_body(struct vcpu *cpu,
								    const struct insn *in)
{
	return vmask_store(cpu, in, 4);
}
SIMD_HANDLER(vmask_store4)

static __attribute__((noinline)) enum exec_result vmask_store8_body(struct vcpu *cpu,
								    const struct insn *in)
{
	return vmask_store(cpu, in, 8);
}
SIMD_HANDLER(vmask_store8)

/* --- gathers: lanes from low to high; what is done stays done when a later lane faults ----------
 */

static inline enum exec_result gather(struct vcpu *cpu, const struct insn *in, unsigned index_size,
				      unsigned size)
{
	union vreg *dst = &cpu->fpu.v[in->reg], *mask = &cpu->fpu.v[in->vvvv];
	const union vreg *index = &cpu->fpu.v[in->index];
	unsigned lanes = vector_bytes(in) / MAX(index_size, size);
	uint64_t base = cpu->gpr[in->base] + (uint64_t)in->disp;

	SIMD_CHECK_TRAP(cpu, in);
	for (unsigned i = 0; i < lanes; i++) {
		uint64_t off =
			index_size == 4 ? (uint64_t)(int64_t)(int32_t)index->d[i] : index->q[i];
		gva_t lin;

		if (mask->b[i * size + size - 1] & 0x80) {
			uint8_t v[8];

			if (!lane_linear(cpu, in, base + (off << in->scale), size, ACC_READ,
					 &lin) ||
			    !mmu_load(cpu, lin, v, size)) {
				return exec_abort(cpu, in);
			}
			memcpy(dst->b + i * size, v, size);
		}
		memset(mask->b + i * size, 0, size);
	}
	memset(dst->b + lanes * size, 0, sizeof(*dst) - lanes * size);
	memset(mask, 0, sizeof(*mask));
	return EXEC_NEXT;
}

static __attribute__((noinline)) enum exec_result gather_d4_body(struct vcpu *cpu,
								 const struct insn *in)
{
	return gather(cpu, in, 4, 4);
}
SIMD_HANDLER(gather_d4)

static __attribute__((noinline)) enum exec_result gather_d8_body(struct vcpu *cpu,
								 const struct insn *in)
{
	return gather(cpu, in, 4, 8);
}
SIMD_HANDLER(gather_d8)

static __attribute__((noinline)) enum exec_result gather_q4_body(struct vcpu *cpu,
								 const struct insn *in)
{
	return gather(cpu, in, 8, 4);
}
SIMD_HANDLER(gather_q4)

static __attribute__((noinline)) enum exec_result gather_q8_body(struct vcpu *cpu,
								 const struct insn *in)
{
	return gather(cpu, in, 8, 8);
}
SIMD_HANDLER(gather_q8)

/* --- VZERO
 * ------------------------------------------------------------------------------------------ */

static unsigned vector_count(const struct vcpu *cpu)
{
	return (cpu->key & MODE_SIZE) == MODE_64 ? 16 : 8;
}

static enum exec_result vzeroupper(struct vcpu *cpu, const struct insn *in)
{
	SIMD_CHECK_TRAP(cpu, in);
	for (unsigned i = 0, n = vector_count(cpu); i < n; i++) {
		cpu->fpu.v[i].q[2] = cpu->fpu.v[i].q[3] = 0;
	}
	return exec_next(cpu, in);
}

static enum exec_result vzeroall(struct vcpu *cpu, const struct insn *in)
{
	SIMD_CHECK_TRAP(cpu, in);
	memset(cpu->fpu.v, 0, vector_count(cpu) * sizeof(cpu->fpu.v[0]));
	return exec_next(cpu, in);
}

static bool store_form(const struct insn *in)
{
	const struct row *row = simd_row(in);

	return row && opnd_infos[row->opnd[0]].kind == OK_M;
}

exec_fn *simd_masked_bind(const struct insn *in)
{
	switch (in->op) {
	case OP_MASKMOVQ:
		return maskmovq;
	case OP_MASKMOVDQU:
	case OP_VMASKMOVDQU:
		return maskmovdqu;
	case OP_VMASKMOVPS:
	case OP_VPMASKMOVD:
		return store_form(in) ? vmask_store4 : vmask_load4;
	case OP_VMASKMOVPD:
	case OP_VPMASKMOVQ:
		return store_form(in) ? vmask_store8 : vmask_load8;
	case OP_VGATHERDPS:
	case OP_VPGATHERDD:
		return gather_d4;
	case OP_VGATHERDPD:
	case OP_VPGATHERDQ:
		return gather_d8;
	case OP_VGATHERQPS:
	case OP_VPGATHERQD:
		return gather_q4;
	case OP_VGATHERQPD:
	case OP_VPGATHERQQ:
		return gather_q8;
	case OP_VZEROUPPER:
		return vzeroupper;
	case OP_VZEROALL:
		return vzeroall;
	default:
		return NULL;
	}
}
