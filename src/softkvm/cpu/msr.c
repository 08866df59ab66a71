/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model-specific registers. Plain ones are rows of a table; the others, whose
 * reading or writing does something, are cases of a switch. MTRRs, machine check, KVM's own and
 * the ones that only read as zero have a file of their own.
 */
#include "softkvm/cpu/msr.h"

#include "softkvm/cpu/msr_int.h"
#include "softkvm/irqchip/irqchip.h"

/* --- plain registers ----------------------------------------------------------------- */
enum {
	RF_CANONICAL = BIT(0),  /* other values are #GP */
	RF_HOST_WRITE = BIT(1), /* the guest can only read it */
	RF_AMD = BIT(2),        /* of AMD's processors only */
};

static const struct row {
	uint32_t index;
	uint16_t offset;
	uint8_t flags;
	uint16_t feat;  /* the guest needs it; 0: none */
	uint64_t valid; /* bits that may be set */
} rows[] = {
#define M(field) offsetof(struct vcpu, msr.field)
	{ MSR_SYSENTER_CS, M(sysenter_cs), 0, 0, UINT32_MAX },
	{ MSR_SYSENTER_ESP, M(sysenter_esp), RF_CANONICAL, 0, UINT64_MAX },
	{ MSR_SYSENTER_EIP, M(sysenter_eip), RF_CANONICAL, 0, UINT64_MAX },
	{ MSR_STAR, M(star), 0, 0, UINT64_MAX },
	{ MSR_LSTAR, M(lstar), RF_CANONICAL, 0, UINT64_MAX },
	{ MSR_CSTAR, M(cstar), RF_CANONICAL, 0, UINT64_MAX },
	{ MSR_SFMASK, M(sfmask), 0, 0, UINT64_MAX },
	{ MSR_KERNEL_GS_BASE, M(kernel_gs_base), RF_CANONICAL, 0, UINT64_MAX },
	{ MSR_ARCH_CAPABILITIES, M(arch_caps), RF_HOST_WRITE, FEAT_ARCH_CAPABILITIES, UINT64_MAX },
	{ MSR_PLATFORM_INFO, M(platform_info), RF_HOST_WRITE, 0, UINT64_MAX },
	{ MSR_POWER_CTL, M(power_ctl), 0, 0, UINT64_MAX },
	{ MSR_SMBASE, M(smbase), RF_HOST_WRITE, 0, UINT64_MAX },
	{ MSR_XSS, M(xss), 0, FEAT_XSAVES, 0 },
	{ MSR_OSVW_LENGTH, M(osvw_length), RF_HOST_WRITE | RF_AMD, 0, UINT64_MAX },
	{ MSR_OSVW_STATUS, M(osvw_status), RF_HOST_WRITE | RF_AMD, 0, UINT64_MAX },
	{ MSR_VIRT_SPEC_CTRL, M(virt_spec_ctrl), RF_AMD, FEAT_VIRT_SSBD, BIT64(2) },
#undef M
};

static const struct row *find_row(uint32_t index)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].index == index) {
			return &rows[i];
		}
	}
	return NULL;
}

static bool row_there(const struct vcpu *cpu, const struct row *r, bool host)
{
	return host || ((r->feat == 0 || feat_test(&cpu->feat, r->feat)) &&
			(!(r->flags & RF_AMD) || cpu->feat.amd));
}

static enum msr_status row_set(struct vcpu *cpu, const struct row *r, uint64_t v, bool host)
{
	if (!row_there(cpu, r, host) || ((r->flags & RF_HOST_WRITE) && !host) ||
	    ((r->flags & RF_CANONICAL) && !canonical(cpu, v)) || (v & ~r->valid)) {
		return MSR_INVALID;
	}
	memcpy((char *)cpu + r->offset, &v, 8);
	return MSR_OK;
}

static enum msr_status row_get(const struct vcpu *cpu, const struct row *r, uint64_t *ret,
			       bool host)
{
	bool hidden = r->index == MSR_SMBASE ||
		      (r->index == MSR_PLATFORM_INFO && cpu->vm->cap.platform_info_off);

	if (!row_there(cpu, r, host) || (hidden && !host)) {
		return MSR_INVALID;
	}
	memcpy(ret, (const char *)cpu + r->offset, 8);
	return MSR_OK;
}

/* --- values that need a look --------------------------------------------------------- */
#define MISC_ENABLE_PMU_RO (BIT64(7) | BIT64(11) | BIT64(12))
#define UCODE_REV_INTEL    0x100000000ull
#define UCODE_REV_AMD      0x01000065ull
#define HWCR_IGNORED       (BIT64(3) | BIT64(6) | BIT64(8)) /* TLB cache, flush filter, monitor */
#define HWCR_MC_STATUS_WR  BIT64(18)
#define HWCR_TSC_FREQ_SEL  BIT64(24)
#define DE_CFG_LFENCE      BIT64(1) /* LFENCE is dispatch-serializing */
#define DEBUGCTL_IGNORED   3ull     /* LBR, BTF */
#define ARCH_CAPS                                                                                 \
	(BIT64(0) | BIT64(1) | BIT64(3) | BIT64(4) | BIT64(5) | BIT64(6) | BIT64(8) | BIT64(13) | \
	 BIT64(14) | BIT64(15) | BIT64(20) | BIT64(24) | BIT64(26) | BIT64(27) | BIT64(62))
/* RDCL_NO, IBRS_ALL and the other _NO bits */

static bool pat_valid(uint64_t v)
{
	for (unsigned i = 0; i < 8; i++, v >>= 8) {
		unsigned type = v & 0xff;

		if (type > 7 || type == 2 || type == 3) {
			return false;
		}
	}
	return true;
}

static bool has_spec_ctrl(const struct vcpu *cpu)
{
	return cpu_has(cpu, FEAT_SPEC_CTRL) || cpu_has(cpu, FEAT_AMD_IBRS) ||
	       cpu_has(cpu, FEAT_AMD_STIBP) || cpu_has(cpu, FEAT_AMD_SSBD);
}

static bool has_pred_cmd(const struct vcpu *cpu)
{
	return cpu_has(cpu, FEAT_SPEC_CTRL) || cpu_has(cpu, FEAT_AMD_IBPB);
}

static enum msr_status get_special(struct vcpu *cpu, uint32_t index, uint64_t *ret, bool host)
{
	switch (index) {
	case MSR_TSC:
		*ret = cpu_tsc(cpu);
		return MSR_OK;
	case MSR_MCG_CTL:
		*ret = cpu->msr.mcg_ctl; /* user space may ask though it is not there */
		return host ? MSR_OK : MSR_UNKNOWN;
	case MSR_TSC_ADJUST:
		*ret = cpu->msr.tsc_adjust;
		return host || cpu_has(cpu, FEAT_TSC_ADJUST) ? MSR_OK : MSR_INVALID;
	case MSR_TSC_AUX:
		*ret = cpu->msr.tsc_aux;
		return host || cpu_has(cpu, FEAT_RDTSCP) || cpu_has(cpu, FEAT_RDPID) ? MSR_OK
										     : MSR_INVALID;
	case MSR_APIC_BASE:
		*ret = lapic_get_base(cpu);
		return MSR_OK;
	case MSR_EFER:
		*ret = cpu->efer;
		return MSR_OK;
	case MSR_FS_BASE:
		*ret = cpu->seg[SEG_FS].base;
		return MSR_OK;
	case MSR_GS_BASE:
		*ret = cpu->seg[SEG_GS].base;
		return MSR_OK;
	case MSR_PAT:
		*ret = cpu->msr.pat;
		return MSR_OK;
	case MSR_MISC_ENABLE:
		*ret = cpu->msr.misc_enable;
		return MSR_OK;
	case MSR_MISC_FEATURES:
		*ret = cpu->msr.misc_features;
		return MSR_OK;
	case MSR_SPEC_CTRL:
		*ret = cpu->msr.spec_ctrl;
		return host || has_spec_ctrl(cpu) ? MSR_OK : MSR_INVALID;
	case MSR_FEATURE_CONTROL:
		*ret = cpu->msr.feature_control;
		return host || !cpu->feat.amd ? MSR_OK : MSR_UNKNOWN;
	case MSR_UCODE_REV:
		*ret = cpu->msr.microcode;
		if (*ret == 0) {
			*ret = cpu->feat.amd ? UCODE_REV_AMD : UCODE_REV_INTEL;
		}
		return MSR_OK;
	case MSR_DEBUGCTL:
		*ret = cpu->msr.debugctl;
		return MSR_OK;
	case MSR_HWCR:
		*ret = cpu->msr.hwcr | HWCR_TSC_FREQ_SEL;
		return MSR_OK;
	case MSR_DE_CFG:
		*ret = DE_CFG_LFENCE;
		return cpu->feat.amd ? MSR_OK : MSR_UNKNOWN;
	default:
		return MSR_UNKNOWN;
	}
}

static enum msr_status set_base(struct vcpu *cpu, unsigned seg, uint64_t v)
{
	if (!canonical(cpu, v)) {
		return MSR_INVALID;
	}
	cpu->seg[seg].base = v;
	cpu->segbase[seg] = cpu_64bit(cpu) ? v : (uint32_t)v;
	return MSR_OK;
}

static enum msr_status set_checked(uint64_t *reg, uint64_t v, bool ok)
{
	if (!ok) {
		return MSR_INVALID;
	}
	*reg = v;
	return MSR_OK;
}

static enum msr_status set_tsc_adjust(struct vcpu *cpu, uint64_t v, bool host)
{
	if (!host && !cpu_has(cpu, FEAT_TSC_ADJUST)) {
		return MSR_INVALID;
	}
	if (!host) {
		tsc_write_guest(cpu, cpu_tsc(cpu) + (v - cpu->msr.tsc_adjust));
	}
	cpu->msr.tsc_adjust = v;
	return MSR_OK;
}

static enum msr_status set_efer(struct vcpu *cpu, uint64_t v, bool host)
{
	if (host) {
		uint64_t old = cpu->efer;

		cpu->efer = (v & ~EFER_LMA) | (old & EFER_LMA);
		if (!mmu_paging_changed(cpu, cpu->cr0, cpu->cr4, old)) {
			cpu->efer = old;
			return MSR_INVALID;
		}
		cpu_mode_changed(cpu);
		return MSR_OK;
	}
	return cpu_set_efer(cpu, v) ? MSR_OK : MSR_INVALID;
}

/* Of AMD's HWCR, KVM keeps one bit and lets pass those that matter to nobody. */
static enum msr_status set_hwcr(struct vcpu *cpu, uint64_t v)
{
	v &= ~(HWCR_IGNORED | HWCR_TSC_FREQ_SEL);
	return set_checked(&cpu->msr.hwcr, v, !(v & ~HWCR_MC_STATUS_WR));
}

static enum msr_status set_special(struct vcpu *cpu, uint32_t index, uint64_t v, bool host)
{
	switch (index) {
	case MSR_TSC:
		if (host) {
			tsc_write_host(cpu, v);
		} else {
			uint64_t delta = v - cpu_tsc(cpu);

			tsc_write_guest(cpu, v);
			cpu->msr.tsc_adjust += delta;
		}
		return MSR_OK;
	case MSR_MCG_CTL:
		return host && v == 0 ? set_checked(&cpu->msr.mcg_ctl, 0, true) : MSR_UNKNOWN;
	case MSR_TSC_ADJUST:
		return set_tsc_adjust(cpu, v, host);
	case MSR_TSC_AUX:
		if (!host && !cpu_has(cpu, FEAT_RDTSCP) && !cpu_has(cpu, FEAT_RDPID)) {
			return MSR_INVALID;
		}
		return set_checked(&cpu->msr.tsc_aux, (uint32_t)v,
				   cpu->feat.amd || v <= UINT32_MAX);
	case MSR_APIC_BASE:
		return lapic_set_base(cpu, v, host) ? MSR_OK : MSR_INVALID;
	case MSR_EFER:
		return set_efer(cpu, v, host);
	case MSR_FS_BASE:
		return set_base(cpu, SEG_FS, v);
	case MSR_GS_BASE:
		return set_base(cpu, SEG_GS, v);
	case MSR_PAT:
		return set_checked(&cpu->msr.pat, v, pat_valid(v));
	case MSR_MISC_ENABLE:
		return set_checked(&cpu->msr.misc_enable, v,
				   host || !((v ^ cpu->msr.misc_enable) & MISC_ENABLE_PMU_RO));
	case MSR_MISC_FEATURES:
		return set_checked(&cpu->msr.misc_features, v,
				   v == 0 || (v == 1 && (cpu->msr.platform_info & BIT64(31))));
	case MSR_SPEC_CTRL:
		return set_checked(&cpu->msr.spec_ctrl, v,
				   !(v & ~0x407ull) && (host || has_spec_ctrl(cpu)));
	case MSR_PRED_CMD:
		return (v & ~1ull) || !(host || has_pred_cmd(cpu)) ? MSR_INVALID : MSR_OK;
	case MSR_FLUSH_CMD:
		return (v & ~1ull) || !(host || cpu_has(cpu, FEAT_FLUSH_L1D)) ? MSR_INVALID
									      : MSR_OK;
	case MSR_FEATURE_CONTROL:
		if (!host && cpu->feat.amd) {
			return MSR_UNKNOWN;
		}
		return set_checked(&cpu->msr.feature_control, v,
				   host || (v == 1 && !(cpu->msr.feature_control & 1)));
	case MSR_UCODE_REV:
		if (host) {
			cpu->msr.microcode = v;
		}
		return MSR_OK;
	case MSR_DEBUGCTL:
		return set_checked(&cpu->msr.debugctl, 0, !(v & ~DEBUGCTL_IGNORED));
	case MSR_HWCR:
		return set_hwcr(cpu, v);
	case MSR_DE_CFG:
		if (!cpu->feat.amd) {
			return MSR_UNKNOWN;
		}
		return v == DE_CFG_LFENCE || (host && v == 0) ? MSR_OK : MSR_INVALID;
	default:
		return MSR_UNKNOWN;
	}
}

/* --- all ----------------------------------------------------------------------------- */
static bool is_lapic(uint32_t index)
{
	return (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST) || index == MSR_TSC_DEADLINE;
}

enum msr_status msr_get(struct vcpu *cpu, uint32_t index, uint64_t *ret, bool host)
{
	const struct row *r = find_row(index);
	enum msr_status s;

	if (index == MSR_PLATFORM_INFO && !host && cpu->vm->cap.platform_info_off) {
		return MSR_INVALID;
	}
	if (r != NULL) {
		return row_get(cpu, r, ret, host);
	}
	if (is_lapic(index)) {
		return lapic_msr_read(cpu, index, ret) ? MSR_OK : MSR_INVALID;
	}
	s = get_special(cpu, index, ret, host);
	s = s != MSR_UNKNOWN ? s : msr_mtrr_get(cpu, index, ret);
	s = s != MSR_UNKNOWN ? s : msr_mce_get(cpu, index, ret, host);
	s = s != MSR_UNKNOWN ? s : msr_kvm_get(cpu, index, ret, host);
	return s != MSR_UNKNOWN ? s : msr_dummy_get(cpu, index, ret);
}

enum msr_status msr_set(struct vcpu *cpu, uint32_t index, uint64_t v, bool host)
{
	const struct row *r = find_row(index);
	enum msr_status s;

	if (r != NULL) {
		return row_set(cpu, r, v, host);
	}
	if (is_lapic(index)) {
		return lapic_msr_write(cpu, index, v) ? MSR_OK : MSR_INVALID;
	}
	s = set_special(cpu, index, v, host);
	s = s != MSR_UNKNOWN ? s : msr_mtrr_set(cpu, index, v);
	s = s != MSR_UNKNOWN ? s : msr_mce_set(cpu, index, v, host);
	s = s != MSR_UNKNOWN ? s : msr_kvm_set(cpu, index, v, host);
	return s != MSR_UNKNOWN ? s : msr_dummy_set(cpu, index, v);
}

bool msr_read(struct vcpu *cpu, uint32_t index, uint64_t *ret, bool host)
{
	return msr_get(cpu, index, ret, host) == MSR_OK;
}

bool msr_write(struct vcpu *cpu, uint32_t index, uint64_t value, bool host)
{
	return msr_set(cpu, index, value, host) == MSR_OK;
}

/* --- lists --------------------------------------------------------------------------- */
static const uint32_t list[] = {
	MSR_SYSENTER_CS,
	MSR_SYSENTER_ESP,
	MSR_SYSENTER_EIP,
	MSR_STAR,
	MSR_CSTAR,
	MSR_KERNEL_GS_BASE,
	MSR_SFMASK,
	MSR_LSTAR,
	MSR_TSC,
	MSR_PAT,
	MSR_FEATURE_CONTROL,
	MSR_TSC_AUX,
	MSR_SPEC_CTRL,
	MSR_XSS,
	MSR_KVM_WALL_CLOCK_OLD,
	MSR_KVM_SYSTEM_TIME_OLD,
	MSR_KVM_WALL_CLOCK_NEW,
	MSR_KVM_SYSTEM_TIME_NEW,
	MSR_KVM_STEAL_TIME,
	MSR_KVM_PV_EOI_EN,
	MSR_KVM_POLL_CONTROL,
	MSR_KVM_MIGRATION_CONTROL,
	MSR_TSC_ADJUST,
	MSR_TSC_DEADLINE,
	MSR_ARCH_CAPABILITIES,
	MSR_MISC_ENABLE,
	MSR_MCG_STATUS,
	MSR_MCG_CTL,
	MSR_SMBASE,
	MSR_SMI_COUNT,
	MSR_PLATFORM_INFO,
	MSR_MISC_FEATURES,
	MSR_VIRT_SPEC_CTRL,
	MSR_HWCR,
	MSR_UCODE_REV,
	MSR_DEBUGCTL,
	MSR_MTRR_DEF,
	MSR_MTRR_PHYS0,
	MSR_MTRR_PHYS0 + 1,
	MSR_MTRR_PHYS0 + 2,
	MSR_MTRR_PHYS0 + 3,
	MSR_MTRR_PHYS0 + 4,
	MSR_MTRR_PHYS0 + 5,
	MSR_MTRR_PHYS0 + 6,
	MSR_MTRR_PHYS0 + 7,
	MSR_MTRR_PHYS0 + 8,
	MSR_MTRR_PHYS0 + 9,
	MSR_MTRR_PHYS0 + 10,
	MSR_MTRR_PHYS0 + 11,
	MSR_MTRR_PHYS0 + 12,
	MSR_MTRR_PHYS0 + 13,
	MSR_MTRR_PHYS0 + 14,
	MSR_MTRR_PHYS_LAST,
	MSR_MTRR_FIX64K,
	MSR_MTRR_FIX16K_0,
	MSR_MTRR_FIX16K_1,
	MSR_MTRR_FIX4K_0,
	MSR_MTRR_FIX4K_0 + 1,
	MSR_MTRR_FIX4K_0 + 2,
	MSR_MTRR_FIX4K_0 + 3,
	MSR_MTRR_FIX4K_0 + 4,
	MSR_MTRR_FIX4K_0 + 5,
	MSR_MTRR_FIX4K_0 + 6,
	MSR_MTRR_FIX4K_7,
};

static const uint32_t features[] = { MSR_DE_CFG, MSR_UCODE_REV, MSR_ARCH_CAPABILITIES };

const uint32_t *msr_list(unsigned *ret_count)
{
	*ret_count = ARRAY_SIZE(list);
	return list;
}

const uint32_t *msr_feature_list(unsigned *ret_count)
{
	*ret_count = ARRAY_SIZE(features);
	return features;
}

bool msr_feature_read(uint32_t index, uint64_t *ret)
{
	switch (index) {
	case MSR_DE_CFG:
		*ret = DE_CFG_LFENCE;
		return true;
	case MSR_UCODE_REV:
		*ret = UCODE_REV_INTEL;
		return true;
	case MSR_ARCH_CAPABILITIES:
		*ret = ARCH_CAPS;
		return true;
	case 0x345: /* IA32_PERF_CAPABILITIES: there is no PMU */
		*ret = 0;
		return true;
	default:
		return false;
	}
}
