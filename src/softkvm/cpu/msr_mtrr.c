/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory type range registers and machine check banks: kept and checked as the
 * manuals say, without effect (SDM 3A 11.11, 3B chapter 15).
 */
#include "softkvm/cpu/msr_int.h"

#define MTRR_CAP          0x508u /* 8 variable ranges, fixed ranges, write combining */
#define MTRR_DEF_VALID    0xcffu
#define MTRR_MASK_VALID   BIT64(11)
#define MCG_CTL_P         BIT64(8)
#define HWCR_MC_STATUS_WR BIT64(18)

static bool type_valid(unsigned type)
{
	return type < 8 && (BIT(type) & (BIT(0) | BIT(1) | BIT(4) | BIT(5) | BIT(6)));
}

/* Index into msr.mtrr_fixed, -1: not one of them. */
static int fixed_index(uint32_t index)
{
	if (index == MSR_MTRR_FIX64K) {
		return 0;
	}
	if (index == MSR_MTRR_FIX16K_0 || index == MSR_MTRR_FIX16K_1) {
		return (int)(1 + index - MSR_MTRR_FIX16K_0);
	}
	if (index >= MSR_MTRR_FIX4K_0 && index <= MSR_MTRR_FIX4K_7) {
		return (int)(3 + index - MSR_MTRR_FIX4K_0);
	}
	return -1;
}

static bool fixed_valid(uint64_t v)
{
	for (unsigned i = 0; i < 8; i++, v >>= 8) {
		if (!type_valid(v & 0xff)) {
			return false;
		}
	}
	return true;
}

/* Even numbers are bases with a type, odd ones masks with a valid bit. */
static bool phys_valid(const struct vcpu *cpu, uint32_t index, uint64_t v)
{
	uint64_t addr = (BIT64(cpu->feat.phys_bits) - 1) & ~UINT64_C(0xfff);

	if (index & 1) {
		return !(v & ~(addr | MTRR_MASK_VALID));
	}
	return !(v & ~(addr | 0xff)) && type_valid(v & 0xff);
}

enum msr_status msr_mtrr_get(struct vcpu *cpu, uint32_t index, uint64_t *ret)
{
	int fixed = fixed_index(index);

	if (fixed >= 0) {
		*ret = cpu->msr.mtrr_fixed[fixed];
	} else if (index >= MSR_MTRR_PHYS0 && index <= MSR_MTRR_PHYS_LAST) {
		*ret = cpu->msr.mtrr_phys[index - MSR_MTRR_PHYS0];
	} else if (index == MSR_MTRR_DEF) {
		*ret = cpu->msr.mtrr_def;
	} else if (index == MSR_MTRR_CAP) {
		*ret = MTRR_CAP;
	} else {
		return MSR_UNKNOWN;
	}
	return MSR_OK;
}

enum msr_status msr_mtrr_set(struct vcpu *cpu, uint32_t index, uint64_t v)
{
	int fixed = fixed_index(index);
	uint64_t *reg;
	bool ok;

	if (fixed >= 0) {
		reg = &cpu->msr.mtrr_fixed[fixed];
		ok = fixed_valid(v);
	} else if (index >= MSR_MTRR_PHYS0 && index <= MSR_MTRR_PHYS_LAST) {
		reg = &cpu->msr.mtrr_phys[index - MSR_MTRR_PHYS0];
		ok = phys_valid(cpu, index, v);
	} else if (index == MSR_MTRR_DEF) {
		reg = &cpu->msr.mtrr_def;
		ok = !(v & ~(uint64_t)MTRR_DEF_VALID) && type_valid(v & 0xff);
	} else {
		return index == MSR_MTRR_CAP ? MSR_INVALID : MSR_UNKNOWN;
	}
	if (!ok) {
		return MSR_INVALID;
	}
	*reg = v;
	return MSR_OK;
}

/* --- machine check ------------------------------------------------------------------- */
/* CTL, STATUS, ADDR and MISC of the banks that MCG_CAP counts. */
static uint64_t *bank_register(struct vcpu *cpu, uint32_t index)
{
	uint32_t banks = MIN((uint32_t)(cpu->msr.mcg_cap & 0xff), ARRAY_SIZE(cpu->msr.mc_bank) / 4);

	if (index < MSR_MC0_CTL || index - MSR_MC0_CTL >= banks * 4) {
		return NULL;
	}
	return &cpu->msr.mc_bank[index - MSR_MC0_CTL];
}

enum msr_status msr_mce_get(struct vcpu *cpu, uint32_t index, uint64_t *ret, bool host)
{
	const uint64_t *bank = bank_register(cpu, index);

	if (bank != NULL) {
		*ret = *bank;
		return MSR_OK;
	}
	switch (index) {
	case MSR_P5_MC_ADDR:
	case MSR_P5_MC_TYPE:
		*ret = 0;
		return MSR_OK;
	case MSR_MCG_CAP:
		*ret = cpu->msr.mcg_cap;
		return MSR_OK;
	case MSR_MCG_STATUS:
		*ret = cpu->msr.mcg_status;
		return MSR_OK;
	case MSR_MCG_CTL:
		*ret = cpu->msr.mcg_ctl;
		return host || (cpu->msr.mcg_cap & MCG_CTL_P) ? MSR_OK : MSR_INVALID;
	default:
		return MSR_UNKNOWN;
	}
}

/*
 * CTL is all or nothing, but old kernels clear bit 10 (or 0) of some banks; a guest can
 * only clear STATUS, unless HWCR lets it inject errors.
 */
static bool bank_valid(const struct vcpu *cpu, uint32_t index, uint64_t v, bool host)
{
	switch (index & 3) {
	case 0:
		return v == 0 || (v | BIT64(10) | 1) == UINT64_MAX;
	case 1:
		return host || v == 0 || (cpu->feat.amd && (cpu->msr.hwcr & HWCR_MC_STATUS_WR));
	default:
		return true;
	}
}

enum msr_status msr_mce_set(struct vcpu *cpu, uint32_t index, uint64_t v, bool host)
{
	uint64_t *bank = bank_register(cpu, index);

	if (bank != NULL) {
		if (!bank_valid(cpu, index, v, host)) {
			return MSR_INVALID;
		}
		*bank = v;
		return MSR_OK;
	}
	switch (index) {
	case MSR_MCG_STATUS:
		cpu->msr.mcg_status = v;
		return MSR_OK;
	case MSR_MCG_CTL:
		if (!host && (!(cpu->msr.mcg_cap & MCG_CTL_P) || (v != 0 && v != UINT64_MAX))) {
			return MSR_INVALID;
		}
		cpu->msr.mcg_ctl = v;
		return MSR_OK;
	case MSR_MCG_CAP:
		return MSR_INVALID;
	default:
		return MSR_UNKNOWN;
	}
}
