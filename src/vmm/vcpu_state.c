/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A processor's registers: its CPUID, what it holds after power-on, and what
 * the boot processor starts a directly loaded kernel with.
 */
#include <assert.h>
#include <stdlib.h>

#include "vmm/cpuid.h"
#include "vmm/vcpu.h"

struct vcpu_saved {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_lapic_state lapic;
};

/* Values after RESET (SDM 3A 10.1, KVM's paravirtual ones: off). */
static const struct {
	uint32_t index;
	uint64_t value;
} reset_msrs[] = {
	{ 0x174, 0 },                     /* SYSENTER_CS */
	{ 0x175, 0 },                     /* SYSENTER_ESP */
	{ 0x176, 0 },                     /* SYSENTER_EIP */
	{ 0x1a0, 1 },                     /* MISC_ENABLE: fast strings */
	{ 0x277, 0x0007040600070406ull }, /* PAT */
	{ 0x6e0, 0 },                     /* TSC_DEADLINE */
	{ 0xc0000081, 0 },                /* STAR */
	{ 0xc0000082, 0 },                /* LSTAR */
	{ 0xc0000083, 0 },                /* CSTAR */
	{ 0xc0000084, 0 },                /* FMASK */
	{ 0xc0000102, 0 },                /* KERNEL_GS_BASE */
	{ 0xc0000103, 0 },                /* TSC_AUX */
	{ 0x4b564d00, 0 },                /* wall clock */
	{ 0x4b564d01, 0 },                /* system time */
	{ 0x4b564d02, 0 },                /* asynchronous page faults */
	{ 0x4b564d03, 0 },                /* stolen time */
	{ 0x4b564d04, 0 },                /* end of interrupt */
	{ 0x11, 0 },                      /* wall clock, old number */
	{ 0x12, 0 },                      /* system time, old number */
};

/* MTRRs as firmware leaves them: on, everything write-back. */
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ON_WRITEBACK 0x806ull

/* Local vectors of the boot processor's LINT pins: virtual wire mode. */
#define LAPIC_LVT0         0x350
#define LAPIC_LVT1         0x360
#define LAPIC_MODE_EXTINT  0x700u
#define LAPIC_MODE_NMI     0x400u
#define SEGMENT_TSS32_BUSY 11

static int vcpu_ioctl(struct vcpu *c, unsigned long request, void *arg)
{
	return kvm_ioctl(c->group->vm->kvm, c->fd, request, arg);
}

static int set_cpuid(struct vcpu *c, unsigned count)
{
	struct kvm *k = c->group->vm->kvm;
	struct cpuid_table *t = malloc(sizeof(*t));
	struct cpuid_place place = { .cpus = count, .apic_id = c->index };
	int r, khz;

	if (!t) {
		return -ENOMEM;
	}
	khz = kvm_ioctl_int(k, c->fd, KVM_GET_TSC_KHZ, 0);
	place.tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	place.tsc_deadline =
		kvm_sys_ioctl_int(k, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	r = cpuid_read_supported(k, t);
	if (r >= 0) {
		cpuid_adapt(t, &place);
		r = vcpu_ioctl(c, KVM_SET_CPUID2, &t->head);
	}
	free(t);
	return r;
}

int vcpu_state_init(struct vcpu *c, unsigned count)
{
	struct vcpu_saved *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		return -ENOMEM;
	}
	c->saved = s;
	r = set_cpuid(c, count);
	if (r >= 0) {
		r = vcpu_ioctl(c, KVM_GET_REGS, &s->regs);
	}
	if (r >= 0) {
		r = vcpu_ioctl(c, KVM_GET_SREGS, &s->sregs);
	}
	if (r >= 0) {
		r = vcpu_ioctl(c, KVM_GET_XSAVE, &s->xsave);
	}
	return r < 0 ? r : vcpu_ioctl(c, KVM_GET_LAPIC, &s->lapic);
}

void vcpu_state_done(struct vcpu *c)
{
	free(c->saved);
	c->saved = NULL;
}

static int set_msr(struct vcpu *c, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };

	static_assert(offsetof(__typeof__(m), entry) == sizeof(struct kvm_msrs),
		      "one entry follows the head");
	return vcpu_ioctl(c, KVM_SET_MSRS, &m);
}

/* One by one: an engine need not know each, and stops at the first that it does not. */
static int reset_all_msrs(struct vcpu *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(reset_msrs); i++) {
		int r = set_msr(c, reset_msrs[i].index, reset_msrs[i].value);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

/* Everything that a guest may have changed, but general and segment registers. */
static int reset_rest(struct vcpu *c)
{
	struct kvm_vcpu_events events = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING |
						   KVM_VCPUEVENT_VALID_SIPI_VECTOR |
						   KVM_VCPUEVENT_VALID_SHADOW };
	struct kvm_debugregs debug = { .dr6 = 0xffff0ff0, .dr7 = 0x400 };
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0] = { .xcr = 0, .value = 1 } };
	int r = vcpu_ioctl(c, KVM_SET_VCPU_EVENTS, &events);

	if (r >= 0) {
		r = vcpu_ioctl(c, KVM_SET_DEBUGREGS, &debug);
	}
	if (r >= 0) {
		r = vcpu_ioctl(c, KVM_SET_XSAVE, &c->saved->xsave);
	}
	if (r >= 0) {
		r = vcpu_ioctl(c, KVM_SET_XCRS, &xcrs);
		/* Processors without XSAVE have none. */
		r = r == -EINVAL ? 0 : r;
	}
	return r < 0 ? r : reset_all_msrs(c);
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool long_code)
{
	return (struct kvm_segment){ .limit = 0xffffffff,
				     .selector = selector,
				     .type = type,
				     .present = 1,
				     .s = 1,
				     .db = !long_code,
				     .l = long_code,
				     .g = 1 };
}

static void fill_sregs(struct kvm_sregs *s, const struct machine_start *start)
{
	s->cs = flat_segment(start->cs, 11, start->long_mode);
	s->ds = s->es = s->fs = s->gs = s->ss = flat_segment(start->ds, 3, false);
	s->tr = (struct kvm_segment){
		.limit = 0x67, .selector = start->tr, .type = SEGMENT_TSS32_BUSY, .present = 1
	};
	s->ldt = (struct kvm_segment){ .unusable = 1 };
	s->gdt = (struct kvm_dtable){ .base = start->gdt_base, .limit = start->gdt_limit };
	s->idt = (struct kvm_dtable){ 0 };
	s->cr0 = start->cr0;
	s->cr3 = start->cr3;
	s->cr4 = start->cr4;
	s->efer = start->efer;
}

/* The interrupt pins as firmware would have left them on the boot processor. */
static void wire_pins(struct kvm_lapic_state *lapic)
{
	store_le32(lapic->regs + LAPIC_LVT0, LAPIC_MODE_EXTINT);
	store_le32(lapic->regs + LAPIC_LVT1, LAPIC_MODE_NMI);
}

static int set_boot_state(struct vcpu *c, const struct machine_start *start)
{
	struct kvm_regs regs = { .rip = start->rip,
				 .rsp = start->rsp,
				 .rsi = start->rsi,
				 .rbx = start->rbx,
				 .rax = start->rax,
				 .rflags = start->rflags };
	struct kvm_sregs sregs = c->saved->sregs;
	struct kvm_lapic_state lapic = c->saved->lapic;
	int r;

	fill_sregs(&sregs, start);
	wire_pins(&lapic);
	r = vcpu_ioctl(c, KVM_SET_SREGS, &sregs);
	if (r >= 0) {
		r = vcpu_ioctl(c, KVM_SET_REGS, &regs);
	}
	return r < 0 ? r : vcpu_ioctl(c, KVM_SET_LAPIC, &lapic);
}

static int set_reset_state(struct vcpu *c)
{
	int r = vcpu_ioctl(c, KVM_SET_SREGS, &c->saved->sregs);

	if (r >= 0) {
		r = vcpu_ioctl(c, KVM_SET_REGS, &c->saved->regs);
	}
	return r < 0 ? r : vcpu_ioctl(c, KVM_SET_LAPIC, &c->saved->lapic);
}

int vcpu_state_reset(struct vcpu *c, const struct machine_start *start, bool first)
{
	struct kvm_mp_state mp = { .mp_state = c->index ? KVM_MP_STATE_UNINITIALIZED
							: KVM_MP_STATE_RUNNABLE };
	int r = first ? 0 : reset_rest(c);

	if (r >= 0) {
		r = c->index ? (first ? 0 : set_reset_state(c)) : set_boot_state(c, start);
	}
	if (r >= 0 && !first) {
		r = vcpu_ioctl(c, KVM_SET_MP_STATE, &mp);
	}
	return r < 0 ? r : set_msr(c, MSR_MTRR_DEF_TYPE, MTRR_ON_WRITEBACK);
}
