/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM's paravirtual registers (Documentation/virt/kvm/x86/msr), and the ones of
 * old processors that guests read without asking and that KVM answers with a constant.
 */
#include "softkvm/cpu/msr_int.h"
#include "softkvm/cpu/pvclock.h"
#include "softkvm/irqchip/irqchip.h"

/* --- KVM's own ----------------------------------------------------------------------- */
static const struct {
	uint32_t index;
	uint16_t offset;
	uint16_t feat;
	uint64_t reserved;
} pv[] = {
#define M(field) offsetof(struct vcpu, msr.field)
	{ MSR_KVM_WALL_CLOCK_OLD, M(kvm_wall_clock), FEAT_KVM_CLOCK, 0 },
	{ MSR_KVM_SYSTEM_TIME_OLD, M(kvm_system_time), FEAT_KVM_CLOCK, 0 },
	{ MSR_KVM_WALL_CLOCK_NEW, M(kvm_wall_clock), FEAT_KVM_CLOCK2, 0 },
	{ MSR_KVM_SYSTEM_TIME_NEW, M(kvm_system_time), FEAT_KVM_CLOCK2, 0 },
	{ MSR_KVM_STEAL_TIME, M(kvm_steal_time), FEAT_KVM_STEAL_TIME, KVM_STEAL_RESERVED_MASK },
	{ MSR_KVM_PV_EOI_EN, M(kvm_pv_eoi), FEAT_KVM_PV_EOI, 2 },
	{ MSR_KVM_POLL_CONTROL, M(kvm_poll_control), FEAT_KVM_POLL_CONTROL, ~1ull },
	{ MSR_KVM_MIGRATION_CONTROL, M(kvm_migration_control), FEAT_KVM_MIGRATION_CONTROL, ~1ull },
	/* Asynchronous page faults are not offered: they can only be off. */
	{ MSR_KVM_ASYNC_PF_EN, M(kvm_async_pf), FEAT_KVM_ASYNC_PF, UINT64_MAX },
#undef M
};

/* KVM_CAP_ENFORCE_PV_FEATURE_CPUID: what CPUID does not show is not there. */
static bool pv_there(const struct vcpu *cpu, unsigned i, bool host)
{
	return host || !cpu->vm->cap.enforce_pv_cpuid || feat_test(&cpu->feat, pv[i].feat);
}

enum msr_status msr_kvm_get(struct vcpu *cpu, uint32_t index, uint64_t *ret, bool host)
{
	for (unsigned i = 0; i < ARRAY_SIZE(pv); i++) {
		if (pv[i].index == index) {
			memcpy(ret, (const char *)cpu + pv[i].offset, 8);
			return pv_there(cpu, i, host) ? MSR_OK : MSR_INVALID;
		}
	}
	return MSR_UNKNOWN;
}

/* What else a write does. */
static void pv_written(struct vcpu *cpu, uint32_t index, uint64_t v, bool host)
{
	switch (index) {
	case MSR_KVM_WALL_CLOCK_OLD:
	case MSR_KVM_WALL_CLOCK_NEW:
		pvclock_write_wall_clock(cpu, v);
		break;
	case MSR_KVM_SYSTEM_TIME_OLD:
	case MSR_KVM_SYSTEM_TIME_NEW:
		vcpu_request(cpu, REQ_CLOCK);
		break;
	case MSR_KVM_STEAL_TIME:
		vcpu_request(cpu, REQ_STEAL);
		break;
	case MSR_KVM_PV_EOI_EN:
		lapic_set_pv_eoi(cpu, v);
		break;
	default:
		break;
	}
}

enum msr_status msr_kvm_set(struct vcpu *cpu, uint32_t index, uint64_t v, bool host)
{
	for (unsigned i = 0; i < ARRAY_SIZE(pv); i++) {
		if (pv[i].index != index) {
			continue;
		}
		if (!pv_there(cpu, i, host) || (v & pv[i].reserved)) {
			return MSR_INVALID;
		}
		memcpy((char *)cpu + pv[i].offset, &v, 8);
		pv_written(cpu, index, v, host);
		return MSR_OK;
	}
	return MSR_UNKNOWN;
}

/* --- constants ----------------------------------------------------------------------- */
enum { WR_NO, WR_IGNORE, WR_ZERO }; /* #GP; dropped; only zero */

static const struct dummy {
	uint32_t first, last;
	uint64_t value;
	uint8_t write;
	bool hidden; /* write only */
} dummies[] = {
	{ MSR_PLATFORM_ID, MSR_PLATFORM_ID, 0, WR_NO, false },
	{ MSR_EBL_CR_POWERON, MSR_EBL_CR_POWERON, 0, WR_NO, false },
	{ MSR_EBC_FREQUENCY_ID, MSR_EBC_FREQUENCY_ID, BIT64(24), WR_NO, false },
	{ MSR_SMI_COUNT, MSR_SMI_COUNT, 0, WR_ZERO, false },
	{ 0x1fc, 0x1fc, 0, WR_IGNORE, false }, /* IA32_POWER_CTL */
	{ MSR_UCODE_WRITE, MSR_UCODE_WRITE, 0, WR_IGNORE, true },
	{ MSR_P6_PERFCTR0, MSR_P6_PERFCTR1, 0, WR_ZERO, false },
	{ MSR_FSB_FREQ, MSR_FSB_FREQ, 3, WR_NO, false },
	{ MSR_BBL_CR_CTL3, MSR_BBL_CR_CTL3, 0xbe702111, WR_IGNORE, false },
	{ MSR_P6_EVNTSEL0, MSR_P6_EVNTSEL1, 0, WR_ZERO, false },
	{ MSR_PERF_STATUS, MSR_PERF_STATUS, 1000 | 4ull << 40, WR_NO, false },
	{ MSR_PERF_CTL, MSR_PERF_CTL, 0, WR_NO, false },
	{ MSR_LASTBRANCH_FROM, MSR_LASTINT_TO, 0, WR_NO, false },
	{ MSR_RAPL_POWER_UNIT, MSR_RAPL_POWER_UNIT, 0, WR_NO, false },
	{ MSR_PKG_ENERGY, MSR_PKG_ENERGY, 0, WR_NO, false },
	{ MSR_DRAM_ENERGY, MSR_DRAM_ENERGY, 0, WR_NO, false },
	{ MSR_PP0_ENERGY, MSR_PP0_ENERGY, 0, WR_NO, false },
	{ MSR_PP1_ENERGY, MSR_PP1_ENERGY, 0, WR_NO, false },
	{ MSR_K7_EVNTSEL0, MSR_K7_PERFCTR3, 0, WR_ZERO, false },
	{ MSR_SYSCFG, MSR_SYSCFG, 0, WR_IGNORE, false },
	{ MSR_TOP_MEM, MSR_TOP_MEM, 0, WR_IGNORE, false },
	{ MSR_K7_CLK_CTL, MSR_K7_CLK_CTL, 0x20000000, WR_IGNORE, false },
	{ MSR_TOP_MEM2, MSR_TOP_MEM2, 0, WR_IGNORE, false },
	{ MSR_NB_CFG, MSR_NB_CFG, 0, WR_IGNORE, false },
	{ MSR_PATCH_LOADER, MSR_PATCH_LOADER, 0, WR_IGNORE, true },
	{ MSR_INT_PENDING, MSR_INT_PENDING, 0, WR_IGNORE, false },
	{ MSR_MMIO_CONF_BASE, MSR_MMIO_CONF_BASE, 0, WR_ZERO, false },
	{ MSR_TSEG_ADDR, MSR_TSEG_MASK, 0, WR_NO, false },
	{ MSR_VM_HSAVE_PA, MSR_VM_HSAVE_PA, 0, WR_IGNORE, false },
	{ MSR_DC_CFG, MSR_DC_CFG, 0, WR_IGNORE, false },
	{ MSR_BU_CFG2, MSR_BU_CFG2, 0, WR_IGNORE, false },
	{ MSR_EX_CFG, MSR_EX_CFG, 0, WR_IGNORE, false },
};

static const struct dummy *find_dummy(uint32_t index)
{
	for (unsigned i = 0; i < ARRAY_SIZE(dummies); i++) {
		if (index >= dummies[i].first && index <= dummies[i].last) {
			return &dummies[i];
		}
	}
	return NULL;
}

enum msr_status msr_dummy_get(const struct vcpu *cpu, uint32_t index, uint64_t *ret)
{
	const struct dummy *d = find_dummy(index);

	if (d == NULL || d->hidden) {
		return MSR_UNKNOWN;
	}
	*ret = d->value;
	return MSR_OK;
}

enum msr_status msr_dummy_set(const struct vcpu *cpu, uint32_t index, uint64_t v)
{
	const struct dummy *d = find_dummy(index);

	if (d == NULL) {
		return MSR_UNKNOWN;
	}
	if (d->write == WR_NO || (d->write == WR_ZERO && v != 0)) {
		return MSR_INVALID;
	}
	return MSR_OK;
}
