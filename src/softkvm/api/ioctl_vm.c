/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ioctls on a VM descriptor.
 */
#include "softkvm/api/api.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/memslot.h"

static int check_extension(struct api_call *c)
{
	return caps_check(c->vm, c->raw);
}

static int enable_cap(struct api_call *c)
{
	return caps_enable_vm(c->vm, c->arg);
}

static int create_vcpu(struct api_call *c)
{
	int fd = -1, r = vcpu_create_locked(c->vm, (uint32_t)c->raw, &fd);

	return r != 0 ? r : fd;
}

static int set_user_memory_region(struct api_call *c)
{
	return memslots_set(c->vm, c->arg);
}

static int get_dirty_log(struct api_call *c)
{
	return memslots_get_dirty_log(c->vm, c->arg);
}

static int clear_dirty_log(struct api_call *c)
{
	return memslots_clear_dirty_log(c->vm, c->arg);
}

/* The kernel puts three pages there on some processors; we need none, but check as it does. */
static int set_tss_addr(struct api_call *c)
{
	if (c->raw > (uint32_t)(-3 * 4096)) {
		return -EINVAL;
	}
	c->vm->tss_addr = c->raw;
	return 0;
}

static int set_identity_map_addr(struct api_call *c)
{
	uint64_t addr;

	memcpy(&addr, c->arg, sizeof(addr));
	if (c->vm->vcpu_count != 0) {
		return -EINVAL;
	}
	c->vm->identity_map_addr = addr;
	return 0;
}

static int set_boot_cpu_id(struct api_call *c)
{
	if (c->vm->vcpu_count != 0) {
		return -EBUSY;
	}
	c->vm->boot_cpu_id = (uint32_t)c->raw;
	return 0;
}

/* Shadow pages are no matter here; the number is kept for who asks. */
static int set_nr_mmu_pages(struct api_call *c)
{
	if (c->raw < 64) { /* the kernel's least */
		return -EINVAL;
	}
	c->vm->nr_mmu_pages = c->raw;
	return 0;
}

static int get_nr_mmu_pages(struct api_call *c)
{
	return (int)c->vm->nr_mmu_pages;
}

static int get_clock(struct api_call *c)
{
	return clock_get(c->vm, c->arg);
}

static int set_clock(struct api_call *c)
{
	return clock_set(c->vm, c->arg);
}

static int set_tsc_khz(struct api_call *c)
{
	uint32_t khz = (uint32_t)c->raw;

	c->vm->default_tsc_khz = khz ? khz : clock_host_tsc_khz();
	return 0;
}

static int get_tsc_khz(struct api_call *c)
{
	return (int)c->vm->default_tsc_khz;
}

static int set_msr_filter(struct api_call *c)
{
	return msr_filter_set(c->vm, c->raw);
}

static int irqchip(struct api_call *c)
{
	return irqchip_vm_ioctl(c->vm, c->request, c->raw);
}

const struct ioctl_row ioctl_vm_rows[] = {
	{ KVM_IRQ_LINE, ARG_RAW, irqchip },
	{ KVM_IRQ_LINE_STATUS, ARG_RAW, irqchip },
	{ KVM_SIGNAL_MSI, ARG_RAW, irqchip },
	{ KVM_SET_USER_MEMORY_REGION, ARG_IN | CALL_LOCKED, set_user_memory_region },
	{ KVM_GET_DIRTY_LOG, ARG_IN | CALL_LOCKED, get_dirty_log },
	{ KVM_CLEAR_DIRTY_LOG, ARG_IN | CALL_LOCKED, clear_dirty_log },
	{ KVM_CHECK_EXTENSION, ARG_NONE, check_extension },
	{ KVM_ENABLE_CAP, ARG_IN | CALL_LOCKED, enable_cap },
	{ KVM_CREATE_VCPU, CALL_LOCKED, create_vcpu },
	{ KVM_SET_TSS_ADDR, CALL_LOCKED, set_tss_addr },
	{ KVM_SET_IDENTITY_MAP_ADDR, ARG_IN | CALL_LOCKED, set_identity_map_addr },
	{ KVM_SET_BOOT_CPU_ID, CALL_LOCKED, set_boot_cpu_id },
	{ KVM_SET_NR_MMU_PAGES, CALL_LOCKED, set_nr_mmu_pages },
	{ KVM_GET_NR_MMU_PAGES, CALL_LOCKED, get_nr_mmu_pages },
	{ KVM_GET_CLOCK, ARG_OUT | CALL_LOCKED, get_clock },
	{ KVM_SET_CLOCK, ARG_IN | CALL_LOCKED, set_clock },
	{ KVM_SET_TSC_KHZ, CALL_LOCKED, set_tsc_khz },
	{ KVM_GET_TSC_KHZ, CALL_LOCKED, get_tsc_khz },
	{ KVM_X86_SET_MSR_FILTER, ARG_RAW | CALL_LOCKED, set_msr_filter },
	{ KVM_CREATE_IRQCHIP, CALL_LOCKED, irqchip },
	{ KVM_CREATE_PIT, CALL_LOCKED, irqchip },
	{ KVM_CREATE_PIT2, ARG_RAW | CALL_LOCKED, irqchip },
	{ KVM_GET_IRQCHIP, ARG_RAW, irqchip },
	{ KVM_SET_IRQCHIP, ARG_RAW, irqchip },
	{ KVM_GET_PIT, ARG_RAW, irqchip },
	{ KVM_SET_PIT, ARG_RAW, irqchip },
	{ KVM_GET_PIT2, ARG_RAW, irqchip },
	{ KVM_SET_PIT2, ARG_RAW, irqchip },
	{ KVM_REINJECT_CONTROL, ARG_RAW, irqchip },
	{ KVM_SET_GSI_ROUTING, ARG_RAW, irqchip },
	{ KVM_IRQFD, ARG_RAW, irqchip },
	{ KVM_IOEVENTFD, ARG_RAW, irqchip },
	{ KVM_REGISTER_COALESCED_MMIO, ARG_RAW, irqchip },
	{ KVM_UNREGISTER_COALESCED_MMIO, ARG_RAW, irqchip },
	{ 0 },
};
