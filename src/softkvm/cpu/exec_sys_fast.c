/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM 2B; APM 3). */
#include "softkvm/cpu/exec_sys_int.h"

#define SYSRET_FLAGS 0x3c7fd7u

/* The fixed hidden parts that these instructions load. */
static void load_flat(struct segment *s, uint16_t sel, unsigned dpl, bool code, bool l)
{
	*s = (struct segment){ .limit = UINT32_MAX,
			       .sel = sel,
			       .type = code ? 11 : 3,
			       .s = 1,
			       .dpl = (uint8_t)dpl,
			       .present = 1,
			       .l = l,
			       .db = !l,
			       .g = 1 };
}

static void load_cs_ss(struct vcpu *cpu, uint16_t cs, uint16_t ss, unsigned cpl, bool l)
{
	load_flat(&cpu->seg[SEG_CS], cs, cpl, true, l);
	load_flat(&cpu->seg[SEG_SS], ss, cpl, false, false);
	cpu->cpl = (uint8_t)cpl;
}

static enum exec_result op_syscall(struct vcpu *cpu, const struct insn *in)
{
	uint64_t star = cpu->msr.star, next = insn_next_rip(cpu, in);
	uint16_t cs = (uint16_t)(star >> 32) & 0xfffc, ss = (uint16_t)((star >> 32) + 8);
	bool m64 = cpu_64bit(cpu);

	if (!(cpu->efer & EFER_SCE) || !cpu_pe(cpu) || (!m64 && !cpu->feat.amd)) {
		return exec_ud(cpu, in);
	}
	if (cpu_lma(cpu)) {
		cpu->gpr[RCX] = m64 ? next : (uint32_t)next;
		cpu->gpr[R11] = cpu_rflags(cpu) & ~(uint64_t)FL_RF;
		cpu->rip = m64 ? cpu->msr.lstar : cpu->msr.cstar;
		load_cs_ss(cpu, cs, ss, 0, true);
		cpu_set_rflags(cpu, cpu_rflags(cpu) & ~(cpu->msr.sfmask | FL_RF));
	} else {
		cpu->gpr[RCX] = (uint32_t)next;
		cpu->rip = (uint32_t)star;
		load_cs_ss(cpu, cs, ss, 0, false);
		cpu_set_rflags(cpu, cpu_rflags(cpu) & ~(uint64_t)(FL_VM | FL_IF | FL_RF));
	}
	cpu_mode_changed(cpu);
	return EXEC_END;
}

/* SYSRET loads all flags but RF and VM from R11; in legacy mode it only sets IF. */
static void sysret_flags(struct vcpu *cpu)
{
	if (cpu_lma(cpu)) {
		cpu_set_rflags(cpu, cpu->gpr[R11] & SYSRET_FLAGS);
	} else {
		cpu_set_rflags(cpu, cpu_rflags(cpu) | FL_IF);
	}
}

static enum exec_result op_sysret(struct vcpu *cpu, const struct insn *in)
{
	uint16_t base = (uint16_t)(cpu->msr.star >> 48);
	bool m64 = cpu_64bit(cpu), to_64 = m64 && (in->flags & INSN_REXW);
	uint64_t rip = to_64 ? cpu->gpr[RCX] : (uint32_t)cpu->gpr[RCX];

	if (!(cpu->efer & EFER_SCE) || (!m64 && !cpu->feat.amd)) {
		return exec_ud(cpu, in);
	}
	if (!cpu_protected(cpu) || cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	/* Intel faults before, AMD after the change of privilege, at the fetch. */
	if (to_64 && !cpu->feat.amd && !canonical(cpu, rip)) {
		return exec_gp0(cpu, in);
	}
	load_cs_ss(cpu, (uint16_t)((base + (to_64 ? 16 : 0)) | 3), (uint16_t)((base + 8) | 3), 3,
		   to_64);
	cpu->rip = rip;
	sysret_flags(cpu);
	cpu_mode_changed(cpu);
	return EXEC_END;
}

static enum exec_result op_sysenter(struct vcpu *cpu, const struct insn *in)
{
	uint16_t cs = (uint16_t)cpu->msr.sysenter_cs & 0xfffc;
	bool lma = cpu_lma(cpu);

	if ((lma && cpu->feat.amd) || !cpu_has(cpu, FEAT_SEP)) {
		return exec_ud(cpu, in);
	}
	if (!cpu_pe(cpu) || cs == 0) {
		return exec_gp0(cpu, in);
	}
	cpu->rip = lma ? cpu->msr.sysenter_eip : (uint32_t)cpu->msr.sysenter_eip;
	cpu->gpr[RSP] = lma ? cpu->msr.sysenter_esp : (uint32_t)cpu->msr.sysenter_esp;
	load_cs_ss(cpu, cs, (uint16_t)(cs + 8), 0, lma);
	cpu_set_rflags(cpu, cpu_rflags(cpu) & ~(uint64_t)(FL_VM | FL_IF | FL_RF));
	cpu_mode_changed(cpu);
	return EXEC_END;
}

static enum exec_result op_sysexit(struct vcpu *cpu, const struct insn *in)
{
	uint16_t cs = (uint16_t)cpu->msr.sysenter_cs & 0xfffc;
	bool to_64 = cpu_64bit(cpu) && (in->flags & INSN_REXW);
	uint64_t rip = cpu->gpr[RDX], rsp = cpu->gpr[RCX];

	if ((cpu_lma(cpu) && cpu->feat.amd) || !cpu_has(cpu, FEAT_SEP)) {
		return exec_ud(cpu, in);
	}
	if (!cpu_protected(cpu) || cpu->cpl != 0 || cs == 0 ||
	    (to_64 && (!canonical(cpu, rip) || !canonical(cpu, rsp)))) {
		return exec_gp0(cpu, in);
	}
	cs = (uint16_t)((cs + (to_64 ? 32 : 16)) | 3);
	load_cs_ss(cpu, cs, (uint16_t)(cs + 8), 3, to_64);
	cpu->rip = to_64 ? rip : (uint32_t)rip;
	cpu->gpr[RSP] = to_64 ? rsp : (uint32_t)rsp;
	cpu_mode_changed(cpu);
	return EXEC_END;
}

exec_fn *exec_sys_bind_fast(const struct insn *in)
{
	switch (in->op) {
	case OP_SYSCALL:
		return op_syscall;
	case OP_SYSRET:
		return op_sysret;
	case OP_SYSENTER:
		return op_sysenter;
	case OP_SYSEXIT:
		return op_sysexit;
	default:
		return NULL;
	}
}
