/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CPUID, time stamps, XCR0, caches and TLB, MONITOR and MWAIT. */
#include "softkvm/cpu/exec_sys_int.h"
#include "softkvm/cpu/msr_index.h"

/* --- CPUID --------------------------------------------------------------------------- */
#define MISC_FEATURES_CPUID_FAULT BIT64(0)
#define MISC_ENABLE_MWAIT         BIT64(18)

static enum exec_result op_cpuid(struct vcpu *cpu, const struct insn *in)
{
	uint32_t leaf = (uint32_t)cpu->gpr[RAX], subleaf = (uint32_t)cpu->gpr[RCX];
	struct cpuid_regs r;

	if ((cpu->msr.misc_features & MISC_FEATURES_CPUID_FAULT) && cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	cpuid_query(cpu, leaf, subleaf, &r);
	cpu->gpr[RAX] = r.eax;
	cpu->gpr[RBX] = r.ebx;
	cpu->gpr[RCX] = r.ecx;
	cpu->gpr[RDX] = r.edx;
	return exec_next(cpu, in);
}

/* --- time stamps --------------------------------------------------------------------- */
static bool tsc_allowed(const struct vcpu *cpu)
{
	return cpu->cpl == 0 || !(cpu->cr4 & CR4_TSD);
}

static enum exec_result op_rdtsc(struct vcpu *cpu, const struct insn *in)
{
	uint64_t v;

	if (!tsc_allowed(cpu)) {
		return exec_gp0(cpu, in);
	}
	v = cpu_tsc(cpu);
	cpu->gpr[RAX] = (uint32_t)v;
	cpu->gpr[RDX] = v >> 32;
	return exec_next(cpu, in);
}

static enum exec_result op_rdtscp(struct vcpu *cpu, const struct insn *in)
{
	uint64_t v;

	if (!cpu_has(cpu, FEAT_RDTSCP)) {
		return exec_ud(cpu, in);
	}
	if (!tsc_allowed(cpu)) {
		return exec_gp0(cpu, in);
	}
	v = cpu_tsc(cpu);
	cpu->gpr[RAX] = (uint32_t)v;
	cpu->gpr[RDX] = v >> 32;
	cpu->gpr[RCX] = (uint32_t)cpu->msr.tsc_aux;
	return exec_next(cpu, in);
}

static enum exec_result op_rdpid(struct vcpu *cpu, const struct insn *in)
{
	if (!cpu_has(cpu, FEAT_RDPID)) {
		return exec_ud(cpu, in);
	}
	reg_store(cpu, in->rm, (uint32_t)cpu->msr.tsc_aux, cpu_64bit(cpu) ? 8 : 4);
	return exec_next(cpu, in);
}

/* There are no performance counters. */
static enum exec_result op_rdpmc(struct vcpu *cpu, const struct insn *in)
{
	return exec_gp0(cpu, in);
}

/* --- XCR0 ---------------------------------------------------------------------------- */
static enum exec_result op_xgetbv(struct vcpu *cpu, const struct insn *in)
{
	uint32_t index = (uint32_t)cpu->gpr[RCX];
	uint64_t v = cpu->xcr0;

	if (!(cpu->cr4 & CR4_OSXSAVE)) {
		return exec_ud(cpu, in);
	}
	if (index > 1 || (index == 1 && !cpu_has(cpu, FEAT_XGETBV1))) {
		return exec_gp0(cpu, in);
	}
	if (index == 1) {
		v = fpu_xinuse(cpu, cpu->xcr0);
	}
	cpu->gpr[RAX] = (uint32_t)v;
	cpu->gpr[RDX] = v >> 32;
	return exec_next(cpu, in);
}

static enum exec_result op_xsetbv(struct vcpu *cpu, const struct insn *in)
{
	uint64_t v = (uint32_t)cpu->gpr[RAX] | cpu->gpr[RDX] << 32;

	if (!(cpu->cr4 & CR4_OSXSAVE)) {
		return exec_ud(cpu, in);
	}
	if (cpu->cpl != 0 || (uint32_t)cpu->gpr[RCX] != 0 || !fpu_xcr0_valid(v) ||
	    (v & ~(cpu->feat.xcr0_valid | XFEATURE_X87))) {
		return exec_gp0(cpu, in);
	}
	cpu->xcr0 = v;
	cpu_mode_changed(cpu);
	return exec_end(cpu, in);
}

/* --- caches and TLB ------------------------------------------------------------------ */
/* INVD, WBINVD, WBNOINVD: caches are the host's affair. */
static enum exec_result op_wbinvd(struct vcpu *cpu, const struct insn *in)
{
	return cpu->cpl != 0 ? exec_gp0(cpu, in) : exec_next(cpu, in);
}

static enum exec_result op_invlpg(struct vcpu *cpu, const struct insn *in)
{
	gva_t lin = cpu->segbase[in->seg] + ea_offset(cpu, in);

	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	if (!cpu_64bit(cpu)) {
		lin = (uint32_t)lin;
	}
	if (canonical(cpu, lin)) {
		mmu_flush_page(cpu, lin);
	}
	return exec_end(cpu, in);
}

static enum exec_result invalidate(struct vcpu *cpu, const struct insn *in, uint64_t type,
				   uint64_t pcid, uint64_t lin)
{
	bool other = pcid != 0 && !(cpu->cr4 & CR4_PCIDE);

	if (type > 3 || (pcid >> 12) || (type < 2 && other) ||
	    (type == 0 && !canonical(cpu, lin))) {
		return exec_gp0(cpu, in);
	}
	switch (type) {
	case 0:
		mmu_flush_pcid_page(cpu, (uint16_t)pcid, lin);
		break;
	case 1:
		mmu_flush_pcid(cpu, (uint16_t)pcid);
		break;
	case 2:
		mmu_flush_all(cpu);
		break;
	default:
		mmu_flush_nonglobal(cpu);
		break;
	}
	return exec_end(cpu, in);
}

static enum exec_result op_invpcid(struct vcpu *cpu, const struct insn *in)
{
	uint64_t type = cpu_64bit(cpu) ? cpu->gpr[in->reg] : (uint32_t)cpu->gpr[in->reg];
	uint64_t desc[2];
	gva_t lin;

	if (!cpu_has(cpu, FEAT_INVPCID)) {
		return exec_ud(cpu, in);
	}
	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	if (!ea_linear(cpu, in, 16, ACC_READ, &lin) || !mmu_load(cpu, lin, &desc[0], 8) ||
	    !mmu_load(cpu, cpu_64bit(cpu) ? lin + 8 : (uint32_t)(lin + 8), &desc[1], 8)) {
		return exec_abort(cpu, in);
	}
	return invalidate(cpu, in, type, desc[0], desc[1]);
}

/* --- MONITOR and MWAIT --------------------------------------------------------------- */
/*
 * Without the feature they are #UD only if user space turned KVM's habit off: some guests use
 * them without asking, and KVM lets them pass as NOPs.
 */
static bool monitor_there(const struct vcpu *cpu)
{
	bool has = cpu_has(cpu, FEAT_MONITOR);

	if (cpu->vm->cap.quirks_off & KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT) {
		has = cpu->msr.misc_enable & MISC_ENABLE_MWAIT;
	}
	return has || !(cpu->vm->cap.quirks_off & KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS);
}

static enum exec_result op_monitor(struct vcpu *cpu, const struct insn *in)
{
	uint8_t byte;
	gva_t lin;

	if (cpu->cpl != 0 || !monitor_there(cpu)) {
		return exec_ud(cpu, in);
	}
	if ((uint32_t)cpu->gpr[RCX] != 0) {
		return exec_gp0(cpu, in);
	}
	/* Faults as a load of a byte at DS:rAX. */
	if (!seg_linear(cpu, in->seg == SEG_NONE ? SEG_DS : in->seg, reg_load(cpu, RAX, in->asz), 1,
			ACC_READ, &lin) ||
	    !mmu_load(cpu, lin, &byte, 1)) {
		return exec_abort(cpu, in);
	}
	return exec_next(cpu, in);
}

static enum exec_result op_mwait(struct vcpu *cpu, const struct insn *in)
{
	if (cpu->cpl != 0 || !monitor_there(cpu)) {
		return exec_ud(cpu, in);
	}
	if ((uint32_t)cpu->gpr[RCX] & ~1u) {
		return exec_gp0(cpu, in);
	}
	return exec_end(cpu, in); /* an MWAIT may end at any time: at once */
}

/* Outside of system management mode, which is not offered. */
static enum exec_result op_rsm(struct vcpu *cpu, const struct insn *in)
{
	return exec_ud(cpu, in);
}

exec_fn *exec_sys_bind_misc(const struct insn *in)
{
	static const struct {
		uint16_t op;
		exec_fn *fn;
	} handlers[] = {
		{ OP_CPUID, op_cpuid },   { OP_RDTSC, op_rdtsc },     { OP_RDTSCP, op_rdtscp },
		{ OP_RDPID, op_rdpid },   { OP_RDPMC, op_rdpmc },     { OP_XGETBV, op_xgetbv },
		{ OP_XSETBV, op_xsetbv }, { OP_INVD, op_wbinvd },     { OP_WBINVD, op_wbinvd },
		{ OP_INVLPG, op_invlpg }, { OP_INVPCID, op_invpcid }, { OP_MONITOR, op_monitor },
		{ OP_MWAIT, op_mwait },   { OP_RSM, op_rsm },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(handlers); i++) {
		if (handlers[i].op == in->op) {
			return handlers[i].fn;
		}
	}
	return NULL;
}
