/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flags, hints, fences, random numbers, BOUND, SALC, UD.
 */
#include "softkvm/cpu/exec_int.h"

STEP(nop)
{
	return true;
}
STEP(clc)
{
	cpu->cc &= ~CC_CF;
	return true;
}
STEP(stc)
{
	cpu->cc |= CC_CF;
	return true;
}
STEP(cmc)
{
	cpu->cc ^= CC_CF;
	return true;
}
STEP(cld)
{
	cpu->rflags &= ~(uint64_t)FL_DF;
	return true;
}
STEP(std)
{
	cpu->rflags |= FL_DF;
	return true;
}
STEP(salc)
{
	*reg8(cpu, RAX) = cpu->cc & CC_CF ? 0xff : 0;
	return true;
}
HANDLER(exec_nop, nop(cpu, in))
HANDLER(exec_clc, clc(cpu, in))
HANDLER(exec_stc, stc(cpu, in))
HANDLER(exec_cmc, cmc(cpu, in))
HANDLER(exec_cld, cld(cpu, in))
HANDLER(exec_std, std(cpu, in))
HANDLER(exec_salc, salc(cpu, in))

/* The guest's ordering is the host's: the fences are passed on. */
STEP(spin_pause)
{
	__asm__ volatile("pause");
	return true;
}
STEP(lfence)
{
	__asm__ volatile("lfence" : : : "memory");
	return true;
}
STEP(mfence)
{
	__asm__ volatile("mfence" : : : "memory");
	return true;
}
STEP(sfence)
{
	__asm__ volatile("sfence" : : : "memory");
	return true;
}
HANDLER(exec_pause, spin_pause(cpu, in))
HANDLER(exec_lfence, lfence(cpu, in))
HANDLER(exec_mfence, mfence(cpu, in))
HANDLER(exec_sfence, sfence(cpu, in))

/* Caches are the host's business; but the access is checked as a load (SDM: CLFLUSH). */
STEP(clflush)
{
	gva_t lin;

	return ea_linear(cpu, in, 1, ACC_READ, &lin) && mmu_probe(cpu, lin, 1, ACC_READ);
}
HANDLER(exec_clflush, clflush(cpu, in))

/* CF tells whether there was a number; the other flags are cleared. */
#define RANDOM_SIZE(name, size, type)                                 \
	STEP(name##_step_##size)                                      \
	{                                                             \
		type v;                                               \
		bool ok;                                              \
		__asm__ volatile(#name " %0" : "=r"(v), "=@ccc"(ok)); \
		reg_store(cpu, in->rm, v, size);                      \
		cpu->cc = ok ? CC_CF : 0;                             \
		return true;                                          \
	}                                                             \
	HANDLER(name##_##size, name##_step_##size(cpu, in))
RANDOM_SIZE(rdrand, 2, uint16_t)
RANDOM_SIZE(rdrand, 4, uint32_t)
RANDOM_SIZE(rdrand, 8, uint64_t)
RANDOM_SIZE(rdseed, 2, uint16_t)
RANDOM_SIZE(rdseed, 4, uint32_t)
RANDOM_SIZE(rdseed, 8, uint64_t)
static exec_fn *const rdrand_handlers[4] = { NULL, rdrand_2, rdrand_4, rdrand_8 };
static exec_fn *const rdseed_handlers[4] = { NULL, rdseed_2, rdseed_4, rdseed_8 };

/* Both bounds are signed, the lower one first. */
static bool bound(struct vcpu *cpu, const struct insn *in)
{
	unsigned size = in->osz;
	int32_t index, low, high;
	uint8_t limits[8];
	gva_t lin;

	if (!ea_linear(cpu, in, size * 2, ACC_READ, &lin) ||
	    !(size == 2 ? mmu_load(cpu, lin, limits, 4) : mmu_load(cpu, lin, limits, 8))) {
		return false;
	}
	if (size == 2) {
		low = (int16_t)load_le16(limits);
		high = (int16_t)load_le16(limits + 2);
		index = (int16_t)cpu->gpr[in->reg];
	} else {
		low = (int32_t)load_le32(limits);
		high = (int32_t)load_le32(limits + 4);
		index = (int32_t)cpu->gpr[in->reg];
	}
	return index >= low && index <= high ? true : int_fault(cpu, EX_BR);
}
HANDLER(exec_bound, bound(cpu, in))

HANDLER(exec_undefined, int_fault(cpu, EX_UD))

exec_fn *int_misc_bind(const struct insn *in)
{
	switch (in->op) {
	case OP_NOP:
	case OP_PREFETCH:
		return exec_nop;
	case OP_CLC:
		return exec_clc;
	case OP_STC:
		return exec_stc;
	case OP_CMC:
		return exec_cmc;
	case OP_CLD:
		return exec_cld;
	case OP_STD:
		return exec_std;
	case OP_SALC:
		return exec_salc;
	case OP_PAUSE:
		return exec_pause;
	case OP_LFENCE:
		return exec_lfence;
	case OP_MFENCE:
		return exec_mfence;
	case OP_SFENCE:
		return exec_sfence;
	case OP_CLFLUSH:
	case OP_CLFLUSHOPT:
	case OP_CLWB:
		return exec_clflush;
	case OP_RDRAND:
		return rdrand_handlers[size_log2(in->osz)];
	case OP_RDSEED:
		return rdseed_handlers[size_log2(in->osz)];
	case OP_BOUND:
		return exec_bound;
	case OP_UD0:
	case OP_UD1:
	case OP_UD2:
		return exec_undefined;
	default:
		return NULL;
	}
}
