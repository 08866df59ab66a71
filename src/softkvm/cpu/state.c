/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RFLAGS in its two forms. */
#include "softkvm/cpu/exec_sys_int.h"

#define FL_KNOWN                                                                               \
	(FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_VIF | \
	 FL_VIP | FL_ID)

uint32_t cc_to_flags(uint32_t cc)
{
	return ((cc >> 8) & (FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF)) | ((cc & CC_OF) ? FL_OF : 0);
}

uint32_t cc_from_flags(uint64_t flags)
{
	uint32_t low = flags & (FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF);

	return (low | FL_FIXED) << 8 | ((flags & FL_OF) ? CC_OF : 0);
}

uint64_t cpu_rflags(const struct vcpu *cpu)
{
	return cpu->rflags | cc_to_flags(cpu->cc);
}

void cpu_set_rflags(struct vcpu *cpu, uint64_t v)
{
	uint64_t old = cpu->rflags;

	cpu->cc = cc_from_flags(v);
	cpu->rflags = (v & (FL_KNOWN & ~FL_ARITH)) | FL_FIXED;
	if ((old ^ cpu->rflags) & (FL_VM | FL_AC)) {
		cpu_mode_changed(cpu);
	}
}
