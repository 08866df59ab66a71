/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Binding of general-purpose instructions, and the slow way of read-modify-write.
 */
#include "softkvm/cpu/exec_int.h"

#include <cpuid.h>

bool int_rmw_slow(struct vcpu *cpu, gva_t lin, unsigned size, int_op *op, uint64_t b, bool slow,
		  bool locked)
{
	uint32_t cc = cpu->cc;
	uint64_t v = 0;

	if (!slow || !mmu_rmw_begin(cpu, lin, &v, size, locked)) {
		return false;
	}
	v = op(v, b, &cc);
	if (!mmu_rmw_commit(cpu, lin, &v, size, locked)) {
		return false;
	}
	cpu->cc = cc;
	return true;
}

static bool host_has_rdrand(void)
{
	unsigned a, b, c = 0, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_RDRND);
}

static bool host_has_rdseed(void)
{
	unsigned a, b = 0, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_RDSEED);
}

/*
 * Handlers that use an instruction of the same name are only good where the host has it. (A host
 * without TZCNT or LZCNT runs BSF or BSR for them, as the real thing would.)
 */
static bool host_has(uint16_t op)
{
	switch (op) {
	case OP_POPCNT:
		return __builtin_cpu_supports("popcnt");
	case OP_CRC32:
		return __builtin_cpu_supports("sse4.2");
	case OP_ANDN:
	case OP_BEXTR:
	case OP_BLSR:
	case OP_BLSMSK:
	case OP_BLSI:
		return __builtin_cpu_supports("bmi");
	case OP_BZHI:
	case OP_PDEP:
	case OP_PEXT:
		return __builtin_cpu_supports("bmi2");
	case OP_RDRAND:
		return host_has_rdrand();
	case OP_RDSEED:
		return host_has_rdseed();
	default:
		return true;
	}
}

exec_fn *exec_int_bind(const struct insn *in)
{
	/* the most frequent first */
	static exec_fn *(*const binders[])(const struct insn *in) = {
		int_mov_bind,    int_alu_bind,    int_flow_bind, int_stack_bind,
		int_shift_bind,  int_misc_bind,   int_mul_bind,  int_bit_bind,
		int_atomic_bind, int_string_bind, int_bmi_bind,
	};

	if (!host_has(in->op)) {
		return NULL;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(binders); i++) {
		exec_fn *fn = binders[i](in);

		if (fn) {
			return fn;
		}
	}
	return NULL;
}
