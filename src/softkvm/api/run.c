/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM_RUN: what surrounds the run loop (KVM API 4.10, chapter 5).
 *
 * Theory of operation: leaving early
 *  KVM_RUN ends with -EINTR for three reasons:
 *  - somebody asked: softkvm_kick(), or softkvm_kick_self() from a signal handler on
 *    the thread that runs the vCPU. Both set REQ_KICK, which stays until a KVM_RUN sees it: a
 *    kick that comes just before KVM_RUN is not lost.
 *  - run->immediate_exit is set on entry. An access that waits for its data is finished
 *    first, as user space saves a guest's state in that way.
 *  - a signal is pending that KVM_SET_SIGNAL_MASK lets through. It must stay
 *    pending, and be delivered (or not) by the caller's own mask, so it cannot be unblocked here.
 *    sigwatch.c looks for such signals while the vCPU runs, and asks by REQ_KICK.
 */
#include "softkvm/api/api.h"
#include "softkvm/api/sigwatch.h"
#include "softkvm/cpu/run.h"
#include "softkvm/irqchip/irqchip.h"

static __thread struct vcpu *running __attribute__((tls_model("initial-exec")));

void api_kick_self(void)
{
	struct vcpu *cpu = running;

	if (cpu) {
		vcpu_request(cpu, REQ_KICK);
	}
}

/* State that user space changed in the run structure (KVM API chapter 5, kvm_dirty_regs). */
static int sync_in(struct vcpu *cpu)
{
	struct kvm_run *run = cpu->run;
	uint64_t dirty = run->kvm_dirty_regs;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvm_vcpu_events events;

	if ((run->kvm_valid_regs | dirty) & ~(uint64_t)SYNC_REGS_VALID) {
		return -EINVAL;
	}
	/* Copied first: the page is shared with whom we do not trust. */
	if (dirty & KVM_SYNC_X86_REGS) {
		regs = run->s.regs.regs;
		regs_set(cpu, &regs);
		run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_REGS;
	}
	if (dirty & KVM_SYNC_X86_SREGS) {
		sregs = run->s.regs.sregs;
		if (sregs_set(cpu, &sregs) != 0) {
			return -EINVAL;
		}
		run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_SREGS;
	}
	if (dirty & KVM_SYNC_X86_EVENTS) {
		events = run->s.regs.events;
		if (events_set(cpu, &events) != 0) {
			return -EINVAL;
		}
		run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_EVENTS;
	}
	return 0;
}

static void sync_out(struct vcpu *cpu)
{
	struct kvm_run *run = cpu->run;
	uint64_t valid = run->kvm_valid_regs;

	if (valid & KVM_SYNC_X86_REGS) {
		regs_get(cpu, &run->s.regs.regs);
	}
	if (valid & KVM_SYNC_X86_SREGS) {
		sregs_get(cpu, &run->s.regs.sregs);
	}
	if (valid & KVM_SYNC_X86_EVENTS) {
		events_get(cpu, &run->s.regs.events);
	}
}

static void fill_run(struct vcpu *cpu)
{
	struct kvm_run *run = cpu->run;

	run->if_flag = (cpu->rflags & FL_IF) != 0;
	run->cr8 = lapic_get_cr8(cpu);
	run->apic_base = lapic_get_base(cpu);
	run->ready_for_interrupt_injection = vcpu_ready_for_interrupt(cpu);
}

/* An unfinished access is completed even with immediate_exit; the run loop stops behind it. */
static bool must_complete(const struct vcpu *cpu)
{
	return cpu->io.replay || cpu->user_exit.reason != 0;
}

static int run_checked(struct vcpu *cpu)
{
	struct kvm_run *run = cpu->run;
	bool at_once = __atomic_load_n(&run->immediate_exit, __ATOMIC_ACQUIRE);
	uint32_t reason = run->exit_reason;
	int r;

	vcpu_memory_begin(cpu);
	r = sync_in(cpu);
	vcpu_memory_end(cpu);
	if (r != 0) {
		return r;
	}
	if (!cpu->lapic) {
		if (run->cr8 & ~15ull) {
			return -EINVAL;
		}
		cpu->cr8 = run->cr8;
	}
	if (at_once && !must_complete(cpu)) {
		return -EINTR;
	}
	r = vcpu_run(cpu);
	cpu->has_run = true;
	if (at_once && r == -EINTR) {
		run->exit_reason =
			reason; /* the guest did not run: the last exit's words stay true */
	}
	return r;
}

/*
 * A thread that is cancelled must not vanish out of the run loop, with the vCPU locked and known as
 * running: it is cancelled behind it. Who cancels kicks it (softkvm_kick_thread()).
 */
int api_run(struct api_call *c)
{
	struct vcpu *cpu = c->cpu;
	int r, cancel_state;

	if (c->raw != 0) {
		return -EINVAL;
	}
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	cpu->run->flags = 0;
	running = cpu;
	atomic_store(&cpu->runner, (uintptr_t)pthread_self());
	if (sigwatch_enter(cpu)) {
		r = -EINTR;
		cpu->run->exit_reason = KVM_EXIT_INTR;
	} else {
		r = run_checked(cpu);
	}
	sigwatch_leave(cpu);
	atomic_store(&cpu->runner, 0);
	running = NULL;
	sync_out(cpu);
	fill_run(cpu);
	c->cancel_state = cancel_state;
	return r;
}
