/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ioctls on a vCPU descriptor. All but KVM_RUN see a vCPU that does not run, and memory slots that
 * stay: the dispatcher holds ioctl_lock and has called vcpu_memory_begin().
 */
#include <stdlib.h>

#include "softkvm/api/api.h"
#include "softkvm/api/cpuid.h"
#include "softkvm/api/uaccess.h"
#include "softkvm/cpu/pvclock.h"
#include "softkvm/cpu/run.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/irqchip/irqchip_int.h"
#include "softkvm/mmu/mmu.h"

static int get_regs(struct api_call *c)
{
	regs_get(c->cpu, c->arg);
	return 0;
}

static int set_regs(struct api_call *c)
{
	regs_set(c->cpu, c->arg);
	return 0;
}

static int get_sregs(struct api_call *c)
{
	sregs_get(c->cpu, c->arg);
	return 0;
}

static int set_sregs(struct api_call *c)
{
	return sregs_set(c->cpu, c->arg);
}

static int get_sregs2(struct api_call *c)
{
	sregs2_get(c->cpu, c->arg);
	return 0;
}

static int set_sregs2(struct api_call *c)
{
	return sregs2_set(c->cpu, c->arg);
}

static int get_fpu(struct api_call *c)
{
	fpu_get(c->cpu, c->arg);
	return 0;
}

static int set_fpu(struct api_call *c)
{
	return fpu_set(c->cpu, c->arg);
}

/* KVM_GET_XSAVE2 too: no component lies behind the first 4096 bytes. */
static int get_xsave(struct api_call *c)
{
	fpu_get_xsave(c->cpu, c->arg);
	return 0;
}

static int set_xsave(struct api_call *c)
{
	return fpu_set_xsave(c->cpu, c->arg);
}

static int get_xcrs(struct api_call *c)
{
	fpu_get_xcrs(c->cpu, c->arg);
	return 0;
}

static int set_xcrs(struct api_call *c)
{
	int r = fpu_set_xcrs(c->cpu, c->arg);

	if (r == 0) {
		cpu_mode_changed(c->cpu);
	}
	return r;
}

static int get_msrs(struct api_call *c)
{
	return msrs_get(c->cpu, c->raw);
}

static int set_msrs(struct api_call *c)
{
	return msrs_set(c->cpu, c->raw);
}

static int set_cpuid2(struct api_call *c)
{
	return cpuid_set2(c->cpu, c->raw);
}

static int set_cpuid(struct api_call *c)
{
	return cpuid_set_legacy(c->cpu, c->raw);
}

static int get_cpuid2(struct api_call *c)
{
	return cpuid_get2(c->cpu, c->raw);
}

static int lapic(struct api_call *c)
{
	return irqchip_vcpu_ioctl(c->cpu, c->request, c->raw);
}

static int get_mp_state(struct api_call *c)
{
	struct kvm_mp_state *mp = c->arg;
	uint32_t state;

	lapic_accept_events(c->cpu);
	state = atomic_load(&c->cpu->mp_state);
	if (state == KVM_MP_STATE_HALTED && atomic_load(&c->cpu->ev.pv_unhalted)) {
		state = KVM_MP_STATE_RUNNABLE;
	}
	mp->mp_state = state;
	return 0;
}

static int set_mp_state(struct api_call *c)
{
	const struct kvm_mp_state *mp = c->arg;
	uint32_t state = mp->mp_state;

	if (state > KVM_MP_STATE_SIPI_RECEIVED && state != KVM_MP_STATE_AP_RESET_HOLD) {
		return -EINVAL;
	}
	if (state != KVM_MP_STATE_RUNNABLE && !c->cpu->lapic) {
		return -EINVAL;
	}
	if (state == KVM_MP_STATE_SIPI_RECEIVED) {
		state = KVM_MP_STATE_INIT_RECEIVED;
		lapic_set_sipi_pending(c->cpu);
	}
	atomic_store(&c->cpu->mp_state, state);
	vcpu_request(c->cpu, REQ_EVENT);
	return 0;
}

static int get_vcpu_events(struct api_call *c)
{
	events_get(c->cpu, c->arg);
	return 0;
}

static int set_vcpu_events(struct api_call *c)
{
	return events_set(c->cpu, c->arg);
}

static int get_debugregs(struct api_call *c)
{
	struct kvm_debugregs *d = c->arg;

	memcpy(d->db, c->cpu->dr, sizeof(d->db));
	d->dr6 = c->cpu->dr6;
	d->dr7 = c->cpu->dr7;
	return 0;
}

static int set_debugregs(struct api_call *c)
{
	const struct kvm_debugregs *d = c->arg;

	if (d->flags != 0 || d->dr6 >> 32 || d->dr7 >> 32) {
		return -EINVAL;
	}
	memcpy(c->cpu->dr, d->db, sizeof(d->db));
	c->cpu->dr6 = d->dr6;
	c->cpu->dr7 = d->dr7;
	mmu_flush_all(c->cpu); /* watched pages take the slow path */
	blocks_flush(c->cpu);
	return 0;
}

/* KVM_SET_GUEST_DEBUG (KVM API 4.80). */
static int set_guest_debug(struct api_call *c)
{
	const struct kvm_guest_debug *d = c->arg;
	struct vcpu *cpu = c->cpu;

	if (d->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
		if (cpu->ev.exception_pending || cpu->ev.exception_injected) {
			return -EBUSY;
		}
		cpu->ev.exception = (struct fault){
			.vector = d->control & KVM_GUESTDBG_INJECT_DB ? EX_DB : EX_BP,
			.trap = true,
		};
		cpu->ev.exception_pending = true;
		vcpu_request(cpu, REQ_EVENT);
	}
	cpu->guest_debug = *d;
	if (!(d->control & KVM_GUESTDBG_ENABLE)) {
		memset(&cpu->guest_debug, 0, sizeof(cpu->guest_debug));
	}
	mmu_flush_all(cpu);
	blocks_flush(cpu);
	cpu_mode_changed(cpu);
	return 0;
}

static int set_tsc_khz(struct api_call *c)
{
	uint32_t khz = (uint32_t)c->raw;

	c->cpu->tsc_khz = khz ? khz : clock_host_tsc_khz();
	vcpu_request(c->cpu, REQ_CLOCK);
	return 0;
}

static int get_tsc_khz(struct api_call *c)
{
	return (int)c->cpu->tsc_khz;
}

static int interrupt(struct api_call *c)
{
	const struct kvm_interrupt *irq = c->arg;
	struct vcpu *cpu = c->cpu;
	int none = -1;

	if (irq->irq >= 256) {
		return -EINVAL;
	}
	if (!irqchip_in_kernel(cpu->vm)) {
		cpu->ev.interrupt_nr = (uint8_t)irq->irq;
		cpu->ev.interrupt_soft = false;
		cpu->ev.interrupt_injected = true;
	} else if (irqchip_full(cpu->vm)) {
		return -ENXIO;
	} else if (!atomic_compare_exchange_strong(&cpu->ext_vector, &none, (int)irq->irq)) {
		return -EEXIST;
	}
	vcpu_request(cpu, REQ_EVENT);
	return 0;
}

static int nmi(struct api_call *c)
{
	lapic_queue_nmi(c->cpu);
	return 0;
}

static int translate(struct api_call *c)
{
	struct kvm_translation *t = c->arg;
	bool writable, user;
	gpa_t gpa;

	t->valid = mmu_translate(c->cpu, t->linear_address, &gpa, &writable, &user);
	t->physical_address = t->valid ? gpa : UINT64_MAX;
	/* The kernel does not look at the rights either: it says these. */
	t->writeable = 1;
	t->usermode = 0;
	return 0;
}

static int kvmclock_ctrl(struct api_call *c)
{
	return pvclock_guest_stopped(c->cpu);
}

static int set_signal_mask(struct api_call *c)
{
	struct kvm_signal_mask head;
	uint64_t bits;
	sigset_t *set;
	int r;

	if (c->raw == 0) {
		free(c->cpu->sigmask);
		c->cpu->sigmask = NULL;
		return 0;
	}
	r = user_read(&head, c->raw, sizeof(head));
	if (r == 0 && head.len != sizeof(bits)) {
		return -EINVAL;
	}
	if (r == 0) {
		r = user_read(&bits, c->raw + sizeof(head), sizeof(bits));
	}
	set = r == 0 ? calloc(1, sizeof(*set)) : NULL;
	if (!set) {
		return r != 0 ? r : -ENOMEM;
	}
	memcpy(set, &bits, sizeof(bits));
	free(c->cpu->sigmask);
	c->cpu->sigmask = set;
	return 0;
}

static int setup_mce(struct api_call *c)
{
	uint64_t cap;
	unsigned banks;

	memcpy(&cap, c->arg, sizeof(cap));
	banks = cap & 0xff;
	if (banks == 0 || banks > MCE_BANKS_MAX || (cap & ~(MCG_CAP_SUPPORTED | 0xff | 0xff0000))) {
		return -EINVAL;
	}
	c->cpu->msr.mcg_cap = cap;
	if (cap & BIT64(8)) { /* MCG_CTL_P */
		c->cpu->msr.mcg_ctl = UINT64_MAX;
	}
	for (unsigned i = 0; i < banks; i++) {
		c->cpu->msr.mc_bank[4 * i] = UINT64_MAX;
	}
	return 0;
}

#define MCI_STATUS_VAL  BIT64(63)
#define MCI_STATUS_OVER BIT64(62)
#define MCI_STATUS_UC   BIT64(61)
#define MCG_STATUS_MCIP BIT64(2)

static void mce_record(uint64_t *bank, const struct kvm_x86_mce *mce)
{
	uint64_t over = bank[1] & MCI_STATUS_VAL ? MCI_STATUS_OVER : 0;

	bank[1] = mce->status | over;
	bank[2] = mce->addr;
	bank[3] = mce->misc;
}

/* An uncorrected error: a machine check, or shutdown if one cannot be taken (SDM 3B 15). */
static void mce_uncorrected(struct vcpu *cpu, uint64_t *bank, const struct kvm_x86_mce *mce)
{
	if ((cpu->msr.mcg_status & MCG_STATUS_MCIP) || !(cpu->cr4 & CR4_MCE)) {
		atomic_store(&cpu->ev.triple_fault, true);
		vcpu_request(cpu, REQ_TRIPLE);
		return;
	}
	mce_record(bank, mce);
	cpu->msr.mcg_status = mce->mcg_status;
	cpu->ev.exception = (struct fault){ .vector = EX_MC, .trap = true };
	cpu->ev.exception_pending = true;
	vcpu_request(cpu, REQ_EVENT);
}

static int set_mce(struct api_call *c)
{
	const struct kvm_x86_mce *mce = c->arg;
	struct vcpu *cpu = c->cpu;
	uint64_t cap = cpu->msr.mcg_cap;
	bool uc = mce->status & MCI_STATUS_UC;
	uint64_t *bank;

	if (mce->bank >= (cap & 0xff) || !(mce->status & MCI_STATUS_VAL)) {
		return -EINVAL;
	}
	bank = &cpu->msr.mc_bank[4 * mce->bank];
	if (uc && (((cap & BIT64(8)) && cpu->msr.mcg_ctl != UINT64_MAX) || bank[0] != UINT64_MAX)) {
		return 0; /* reporting is switched off */
	}
	if (uc) {
		mce_uncorrected(cpu, bank, mce);
	} else if (!(bank[1] & MCI_STATUS_VAL) || !(bank[1] & MCI_STATUS_UC)) {
		mce_record(bank, mce);
	} else {
		bank[1] |= MCI_STATUS_OVER;
	}
	return 0;
}

/*
 * KVM_SET_VAPIC_ADDR. TPR accesses are not reported here (KVM_CAP_VAPIC is 0), so no guest's code
 * is ever patched to use that page, and it need not be kept in step. QEMU sets the address
 * without asking, and gives up if it is refused.
 */
static int set_vapic_addr(struct api_call *c)
{
	const struct kvm_vapic_addr *va = c->arg;
	uint32_t tpr;

	if (!c->cpu->lapic) {
		return -EINVAL;
	}
	return va->vapic_addr == 0 || vm_read_phys(c->vm, va->vapic_addr, &tpr, sizeof(tpr)) == 0
		       ? 0
		       : -EINVAL;
}

static int enable_cap(struct api_call *c)
{
	return caps_enable_vcpu(c->cpu, c->arg);
}

/* The one attribute: the offset of the guest's TSC (KVM API, devices/vcpu). */
static int device_attr(struct api_call *c)
{
	const struct kvm_device_attr *attr = c->arg;
	uint64_t offset = (uint64_t)c->cpu->tsc_offset;
	int r;

	if (attr->group != KVM_VCPU_TSC_CTRL || attr->attr != KVM_VCPU_TSC_OFFSET) {
		return -ENXIO;
	}
	if (c->request == KVM_GET_DEVICE_ATTR) {
		return user_write(attr->addr, &offset, sizeof(offset));
	}
	if (c->request == KVM_SET_DEVICE_ATTR) {
		r = user_read(&offset, attr->addr, sizeof(offset));
		if (r != 0) {
			return r;
		}
		c->cpu->tsc_offset = (int64_t)offset;
		vcpu_request(c->cpu, REQ_CLOCK);
	}
	return 0;
}

const struct ioctl_row ioctl_vcpu_rows[] = {
	{ KVM_RUN, CALL_RUN, api_run },
	{ KVM_GET_REGS, ARG_OUT, get_regs },
	{ KVM_SET_REGS, ARG_IN, set_regs },
	{ KVM_GET_SREGS, ARG_OUT, get_sregs },
	{ KVM_SET_SREGS, ARG_IN, set_sregs },
	{ KVM_GET_SREGS2, ARG_OUT, get_sregs2 },
	{ KVM_SET_SREGS2, ARG_IN, set_sregs2 },
	{ KVM_GET_FPU, ARG_OUT, get_fpu },
	{ KVM_SET_FPU, ARG_IN, set_fpu },
	{ KVM_GET_XSAVE, ARG_OUT, get_xsave },
	{ KVM_GET_XSAVE2, ARG_OUT, get_xsave },
	{ KVM_SET_XSAVE, ARG_IN, set_xsave },
	{ KVM_GET_XCRS, ARG_OUT, get_xcrs },
	{ KVM_SET_XCRS, ARG_IN, set_xcrs },
	{ KVM_GET_MSRS, ARG_RAW, get_msrs },
	{ KVM_SET_MSRS, ARG_RAW, set_msrs },
	{ KVM_SET_CPUID2, ARG_RAW, set_cpuid2 },
	{ KVM_SET_CPUID, ARG_RAW, set_cpuid },
	{ KVM_GET_CPUID2, ARG_RAW, get_cpuid2 },
	{ KVM_GET_LAPIC, ARG_RAW, lapic },
	{ KVM_SET_LAPIC, ARG_RAW, lapic },
	{ KVM_GET_MP_STATE, ARG_OUT, get_mp_state },
	{ KVM_SET_MP_STATE, ARG_IN, set_mp_state },
	{ KVM_GET_VCPU_EVENTS, ARG_OUT, get_vcpu_events },
	{ KVM_SET_VCPU_EVENTS, ARG_IN, set_vcpu_events },
	{ KVM_GET_DEBUGREGS, ARG_OUT, get_debugregs },
	{ KVM_SET_DEBUGREGS, ARG_IN, set_debugregs },
	{ KVM_SET_GUEST_DEBUG, ARG_IN, set_guest_debug },
	{ KVM_SET_TSC_KHZ, ARG_NONE, set_tsc_khz },
	{ KVM_GET_TSC_KHZ, ARG_NONE, get_tsc_khz },
	{ KVM_INTERRUPT, ARG_IN, interrupt },
	{ KVM_NMI, ARG_NONE, nmi },
	{ KVM_TRANSLATE, ARG_IN | ARG_OUT, translate },
	{ KVM_KVMCLOCK_CTRL, ARG_NONE, kvmclock_ctrl },
	{ KVM_SET_SIGNAL_MASK, ARG_RAW, set_signal_mask },
	{ KVM_SET_VAPIC_ADDR, ARG_IN, set_vapic_addr },
	{ KVM_X86_SETUP_MCE, ARG_IN, setup_mce },
	{ KVM_X86_SET_MCE, ARG_IN, set_mce },
	{ KVM_ENABLE_CAP, ARG_IN, enable_cap },
	{ KVM_HAS_DEVICE_ATTR, ARG_IN, device_attr },
	{ KVM_GET_DEVICE_ATTR, ARG_IN, device_attr },
	{ KVM_SET_DEVICE_ATTR, ARG_IN, device_attr },
	{ 0 },
};
