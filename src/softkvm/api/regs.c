/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * General registers in KVM's structure (KVM API 4.11, 4.12).
 */
#include "softkvm/api/api.h"
#include "softkvm/cpu/exec.h"
#include "softkvm/cpu/run.h"

/* struct kvm_regs lists them as RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP, then R8 to R15. */
static const uint8_t order[16] = { RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP,
				   R8,  R9,  R10, R11, R12, R13, R14, R15 };

void regs_get(struct vcpu *cpu, struct kvm_regs *r)
{
	uint64_t v[16];

	for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
		v[i] = cpu->gpr[order[i]];
	}
	memcpy(r, v, sizeof(v));
	r->rip = cpu->rip;
	r->rflags = cpu_rflags(cpu);
}

/*
 * An instruction that waits for its device access is finished at the next KVM_RUN
 * with the registers given here, unless RIP moves away from it.
 */
void regs_set(struct vcpu *cpu, const struct kvm_regs *r)
{
	uint64_t v[16];

	memcpy(v, r, sizeof(v));
	for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
		cpu->gpr[order[i]] = v[i];
	}
	if (cpu->rip != r->rip) {
		vcpu_drop_io(cpu);
	}
	cpu->rip = r->rip;
	cpu_set_rflags(cpu, r->rflags | FL_FIXED);
	/* An exception that was not delivered yet belonged to the old state. */
	cpu->ev.exception_pending = false;
	vcpu_request(cpu, REQ_EVENT);
}
