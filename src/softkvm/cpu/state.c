/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RFLAGS in its two forms. */
#include "softkvm/cpu/exec_sys_int.h"

#define FL_KNOWN                                                                               \
	(FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_VIF | \
	 FL_VIP | FL_ID)

void cpu_set_rflags(struct vcpu *cpu, uint64_t v)
{
	uint64_t old = cpu->rflags;

	cpu->cc = cc_from_flags(v);
	cpu->rflags = (v & (FL_KNOWN & ~FL_ARITH)) | FL_FIXED;
	if ((old ^ cpu->rflags) & (FL_VM | FL_AC)) {
		cpu_mode_changed(cpu);
	}
}
