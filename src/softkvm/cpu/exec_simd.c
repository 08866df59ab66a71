/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MMX, SSE, AVX and x87: who handles what, and the faults common to all.
 */
#include "softkvm/cpu/simd_int.h"

enum exec_result simd_trap_sse(struct vcpu *cpu, const struct insn *in)
{
	return exec_fault(cpu, in, cpu->fp_trap & FPTRAP_SSE_UD ? EX_UD : EX_NM);
}

enum exec_result simd_trap_avx(struct vcpu *cpu, const struct insn *in)
{
	return exec_fault(cpu, in, cpu->fp_trap & FPTRAP_AVX_UD ? EX_UD : EX_NM);
}

enum exec_result simd_trap_mmx(struct vcpu *cpu, const struct insn *in)
{
	return exec_fault(cpu, in, cpu->fp_trap & FPTRAP_MMX_UD ? EX_UD : EX_NM);
}

enum exec_result simd_trap_x87(struct vcpu *cpu, const struct insn *in)
{
	return exec_fault(cpu, in, EX_NM);
}

/* The host found an unmasked SIMD exception: MXCSR, live in the host, has its flags. */
enum exec_result stub_fp_fault(struct vcpu *cpu, const struct insn *in)
{
	return exec_fault(cpu, in, cpu->cr4 & CR4_OSXMMEXCPT ? EX_XM : EX_UD);
}

exec_fn *exec_simd_bind(const struct insn *in)
{
	static exec_fn *(*const binders[])(
		const struct insn *) = { xsave_bind, x87_bind, simd_masked_bind, simd_mov_bind };
	enum op_group group = op_group(in->op);

	if (group != OPG_SIMD && group != OPG_X87) {
		return NULL;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(binders); i++) {
		exec_fn *fn = binders[i](in);

		if (fn) {
			return fn;
		}
	}
	return simd_generate(in);
}
