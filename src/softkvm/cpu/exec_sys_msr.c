/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RDMSR and WRMSR with their exits to user space (KVM API 5, KVM_EXIT_X86_RDMSR),
 * and hypercalls.
 *
 * An exit leaves RIP at the instruction and notes it in cpu->user_exit. At the next KVM_RUN
 * exec_sys_complete() takes the answer and moves RIP on, or has a #GP wait.
 */
#include <linux/kvm_para.h>
#include <sched.h>

#include "softkvm/cpu/msr_int.h"
#include "softkvm/cpu/pvclock.h"
#include "softkvm/cpu/run.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/memslot.h"

/* --- exits --------------------------------------------------------------------------- */
static enum exec_result leave(struct vcpu *cpu, const struct insn *in, uint32_t reason)
{
	cpu->rip = insn_rip(cpu, in);
	cpu->user_exit.reason = reason;
	cpu->user_exit.rip = cpu->rip;
	cpu->user_exit.next_rip = insn_next_rip(cpu, in);
	cpu->run->exit_reason = reason;
	return EXEC_EXIT;
}

void exec_sys_complete(struct vcpu *cpu)
{
	uint32_t reason = cpu->user_exit.reason;
	const struct kvm_run *run = cpu->run;

	cpu->user_exit.reason = 0;
	if (reason == 0 || cpu->rip != cpu->user_exit.rip) {
		return; /* nothing waits, or the state was set anew */
	}
	if (reason == KVM_EXIT_HYPERCALL) {
		cpu->gpr[RAX] = run->hypercall.ret;
	} else if (run->msr.error != 0) {
		cpu->ev.exception = (struct fault){ .vector = EX_GP, .has_error = true };
		cpu->ev.exception_pending = true;
		return;
	} else if (reason == KVM_EXIT_X86_RDMSR) {
		cpu->gpr[RAX] = (uint32_t)run->msr.data;
		cpu->gpr[RDX] = run->msr.data >> 32;
	}
	cpu->rip = cpu->user_exit.next_rip;
}

/* The answer has come, but nobody has taken it yet: this is the same instruction again. */
static bool completes(struct vcpu *cpu, const struct insn *in)
{
	if (likely(cpu->user_exit.reason == 0)) {
		return false;
	}
	cpu->rip = insn_rip(cpu, in);
	if (cpu->user_exit.rip != cpu->rip) {
		cpu->user_exit.reason = 0;
		return false;
	}
	exec_sys_complete(cpu);
	return true;
}

/* Does user space want to hear of this? */
static bool msr_exit(struct vcpu *cpu, uint32_t reason, uint32_t index, uint64_t data)
{
	if (!(cpu->vm->cap.user_msr_mask & reason)) {
		return false;
	}
	memset(&cpu->run->msr, 0, sizeof(cpu->run->msr));
	cpu->run->msr.reason = reason;
	cpu->run->msr.index = index;
	cpu->run->msr.data = data;
	return true;
}

static uint32_t exit_reason_of(enum msr_status s)
{
	return s == MSR_UNKNOWN ? KVM_MSR_EXIT_REASON_UNKNOWN : KVM_MSR_EXIT_REASON_INVAL;
}

/* --- RDMSR and WRMSR ----------------------------------------------------------------- */
static enum exec_result op_rdmsr(struct vcpu *cpu, const struct insn *in)
{
	uint32_t index = (uint32_t)cpu->gpr[RCX], reason = KVM_MSR_EXIT_REASON_FILTER;
	uint64_t v = 0;

	if (completes(cpu, in)) {
		return EXEC_END;
	}
	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	if (msr_filter_allows(cpu->vm, index, false)) {
		enum msr_status s = msr_get(cpu, index, &v, false);

		if (s == MSR_OK) {
			cpu->gpr[RAX] = (uint32_t)v;
			cpu->gpr[RDX] = v >> 32;
			return exec_next(cpu, in);
		}
		reason = exit_reason_of(s);
	}
	return msr_exit(cpu, reason, index, 0) ? leave(cpu, in, KVM_EXIT_X86_RDMSR)
					       : exec_gp0(cpu, in);
}

static enum exec_result op_wrmsr(struct vcpu *cpu, const struct insn *in)
{
	uint32_t index = (uint32_t)cpu->gpr[RCX], reason = KVM_MSR_EXIT_REASON_FILTER;
	uint64_t v = (uint32_t)cpu->gpr[RAX] | cpu->gpr[RDX] << 32;

	if (completes(cpu, in)) {
		return EXEC_END;
	}
	if (cpu->cpl != 0) {
		return exec_gp0(cpu, in);
	}
	if (msr_filter_allows(cpu->vm, index, true)) {
		enum msr_status s = msr_set(cpu, index, v, false);

		if (s == MSR_OK) {
			/* A device or timer may have something to say at once. */
			return exec_end(cpu, in);
		}
		reason = exit_reason_of(s);
	}
	return msr_exit(cpu, reason, index, v) ? leave(cpu, in, KVM_EXIT_X86_WRMSR)
					       : exec_gp0(cpu, in);
}

/* --- hypercalls ---------------------------------------------------------------------- */
#define MAP_GPA_ATTRS_VALID 0x1full /* page size 0..2, encrypted */

static struct vcpu *find_apic_id(struct vm *vm, uint64_t id)
{
	uint32_t n = atomic_load(&vm->vcpu_count);

	for (uint32_t i = 0; i < n; i++) {
		struct vcpu *c = atomic_load(&vm->vcpus[i]);

		if (c != NULL && c->id == id) {
			return c;
		}
	}
	return NULL;
}

/* A peer that waits in HLT for a lock goes on. */
static void kick_cpu(struct vcpu *cpu, uint64_t apic_id)
{
	struct vcpu *peer = find_apic_id(cpu->vm, apic_id);
	uint32_t halted = KVM_MP_STATE_HALTED;

	if (peer == NULL) {
		return;
	}
	atomic_store(&peer->ev.pv_unhalted, true);
	if (atomic_compare_exchange_strong(&peer->mp_state, &halted, KVM_MP_STATE_RUNNABLE)) {
		atomic_store(&peer->ev.pv_unhalted, false);
	}
	vcpu_request(peer, REQ_EVENT);
}

static uint64_t clock_pairing(struct vcpu *cpu, gpa_t gpa, uint64_t type)
{
	struct kvm_clock_pairing p = { 0 };
	uint64_t wall;

	if (type != KVM_CLOCK_PAIRING_WALLCLOCK) {
		return (uint64_t)-KVM_EOPNOTSUPP;
	}
	wall = clock_wall_ns();
	p.tsc = cpu_tsc(cpu);
	p.sec = (int64_t)(wall / NS_PER_S);
	p.nsec = (int64_t)(wall % NS_PER_S);
	return vm_write_phys(cpu->vm, cpu, gpa, &p, sizeof(p)) == 0 ? 0 : (uint64_t)-KVM_EFAULT;
}

/* May the guest use it? Asked only where user space wants CPUID to be enforced. */
static bool pv_may(const struct vcpu *cpu, enum cpu_feature f)
{
	return !cpu->vm->cap.enforce_pv_cpuid || feat_test(&cpu->feat, f);
}

static uint64_t hypercall(struct vcpu *cpu, uint64_t nr, const uint64_t a[4], bool m64)
{
	switch (nr) {
	case KVM_HC_VAPIC_POLL_IRQ:
		return 0;
	case KVM_HC_KICK_CPU:
		if (!pv_may(cpu, FEAT_KVM_PV_UNHALT)) {
			break;
		}
		kick_cpu(cpu, a[1]);
		return 0;
	case KVM_HC_CLOCK_PAIRING:
		return clock_pairing(cpu, a[0], a[1]);
	case KVM_HC_SEND_IPI:
		if (!pv_may(cpu, FEAT_KVM_PV_SEND_IPI)) {
			break;
		}
		return (uint64_t)lapic_pv_send_ipi(cpu, a[0], a[1], (uint32_t)a[2], a[3], m64);
	case KVM_HC_SCHED_YIELD:
		if (!pv_may(cpu, FEAT_KVM_PV_SCHED_YIELD)) {
			break;
		}
		sched_yield();
		return 0;
	default:
		break;
	}
	return (uint64_t)-KVM_ENOSYS;
}

/* KVM_HC_MAP_GPA_RANGE is user space's, if it asked for it (KVM_CAP_EXIT_HYPERCALL). */
static bool map_gpa_exit(struct vcpu *cpu, const uint64_t a[4], bool m64, uint64_t *ret)
{
	uint64_t start = a[0], pages = a[1], end;

	*ret = (uint64_t)-KVM_ENOSYS;
	if (!(cpu->vm->cap.exit_hypercalls & BIT(KVM_HC_MAP_GPA_RANGE))) {
		return false;
	}
	*ret = (uint64_t)-KVM_EINVAL;
	if ((start & 0xfff) || pages == 0 || (a[2] & ~MAP_GPA_ATTRS_VALID) || (a[2] & 3) == 3 ||
	    pages > UINT64_MAX >> 12 || !range_end(start, pages << 12, &end)) {
		return false;
	}
	memset(&cpu->run->hypercall, 0, sizeof(cpu->run->hypercall));
	cpu->run->hypercall.nr = KVM_HC_MAP_GPA_RANGE;
	cpu->run->hypercall.args[0] = start;
	cpu->run->hypercall.args[1] = pages;
	cpu->run->hypercall.args[2] = a[2];
	cpu->run->hypercall.longmode = m64;
	return true;
}

/*
 * The other vendor's instruction. KVM writes its own over it, which shows in memory, and goes
 * on; with that habit turned off it is #UD. Where the code cannot be written, it works all the
 * same.
 */
static bool fix_instruction(struct vcpu *cpu, const struct insn *in)
{
	static const uint8_t last_byte[] = { 0xc1, 0xd9 }; /* VMCALL, VMMCALL */
	uint64_t lin = insn_rip(cpu, in);

	if ((in->op == OP_VMMCALL) == cpu->feat.amd) {
		return true;
	}
	if (cpu->vm->cap.quirks_off & KVM_X86_QUIRK_FIX_HYPERCALL_INSN) {
		return false;
	}
	lin += (cpu_64bit(cpu) ? 0 : cpu->segbase[SEG_CS]) + in->len - 1u;
	if (!mmu_store(cpu, cpu_64bit(cpu) ? lin : (uint32_t)lin, &last_byte[cpu->feat.amd], 1)) {
		vcpu_drop_io(cpu); /* no exit for that */
	}
	return true;
}

static enum exec_result op_vmcall(struct vcpu *cpu, const struct insn *in)
{
	bool m64 = cpu_64bit(cpu);
	uint64_t mask = m64 ? UINT64_MAX : UINT32_MAX, nr = cpu->gpr[RAX] & mask, r;
	const uint64_t a[4] = { cpu->gpr[RBX] & mask, cpu->gpr[RCX] & mask, cpu->gpr[RDX] & mask,
				cpu->gpr[RSI] & mask };

	if (completes(cpu, in)) {
		return EXEC_END;
	}
	if (!fix_instruction(cpu, in)) {
		return exec_ud(cpu, in);
	}
	if (cpu->cpl != 0) {
		r = (uint64_t)-KVM_EPERM;
	} else if (nr == KVM_HC_MAP_GPA_RANGE) {
		if (map_gpa_exit(cpu, a, m64, &r)) {
			return leave(cpu, in, KVM_EXIT_HYPERCALL);
		}
	} else {
		r = hypercall(cpu, nr, a, m64);
	}
	cpu->gpr[RAX] = r & mask;
	return exec_end(cpu, in);
}

exec_fn *exec_sys_bind_msr(const struct insn *in)
{
	switch (in->op) {
	case OP_RDMSR:
		return op_rdmsr;
	case OP_WRMSR:
		return op_wrmsr;
	case OP_VMCALL:
	case OP_VMMCALL:
		return op_vmcall;
	default:
		return NULL;
	}
}
