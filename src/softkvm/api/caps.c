/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM_CHECK_EXTENSION and KVM_ENABLE_CAP (KVM API 4.4, 4.37, chapter 7).
 *
 * What is not in the table is not there: 0.
 */
#include <linux/kvm_para.h>
#include <unistd.h>

#include "softkvm/api/api.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/memslot.h"

#define DIRTY_LOG_MANUAL_CAPS (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)
/* Pausing and C-states never leave to user space; HLT only where nothing inside could end it. */
#define DISABLE_EXITS \
	(KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE | KVM_X86_DISABLE_EXITS_CSTATE)
#define EXIT_HYPERCALLS BIT(KVM_HC_MAP_GPA_RANGE) /* all of them */
#define VCPU_ID_MAX     1024
#define GSI_ROUTES_MAX  4096
#define IOAPIC_PINS_MAX 24

static const struct {
	uint16_t cap;
	int value;
} caps[] = {
	{ KVM_CAP_IRQCHIP, 1 },
	{ KVM_CAP_HLT, 1 },
	{ KVM_CAP_MMU_SHADOW_CACHE_CONTROL, 1 },
	{ KVM_CAP_USER_MEMORY, 1 },
	{ KVM_CAP_SET_TSS_ADDR, 1 },
	{ KVM_CAP_EXT_CPUID, 1 },
	{ KVM_CAP_CLOCKSOURCE, 1 },
	{ KVM_CAP_NR_MEMSLOTS, MEMSLOTS_MAX },
	{ KVM_CAP_PIT, 1 },
	{ KVM_CAP_NOP_IO_DELAY, 1 },
	{ KVM_CAP_MP_STATE, 1 },
	{ KVM_CAP_COALESCED_MMIO, 2 }, /* the ring's page in the mapping */
	{ KVM_CAP_SYNC_MMU, 1 },
	{ KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1 },
	{ KVM_CAP_USER_NMI, 1 },
	{ KVM_CAP_SET_GUEST_DEBUG, 1 },
	{ KVM_CAP_REINJECT_CONTROL, 1 },
	{ KVM_CAP_IRQ_ROUTING, GSI_ROUTES_MAX },
	{ KVM_CAP_IRQ_INJECT_STATUS, 1 },
	{ KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1 },
	{ KVM_CAP_MCE, MCE_BANKS_MAX },
	{ KVM_CAP_IRQFD, 1 },
	{ KVM_CAP_PIT2, 1 },
	{ KVM_CAP_SET_BOOT_CPU_ID, 1 },
	{ KVM_CAP_PIT_STATE2, 1 },
	{ KVM_CAP_IOEVENTFD, 1 },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, 1 },
	{ KVM_CAP_ADJUST_CLOCK, CLOCK_FLAGS_VALID },
	{ KVM_CAP_INTERNAL_ERROR_DATA, 1 },
	{ KVM_CAP_VCPU_EVENTS, 1 },
	{ KVM_CAP_PCI_SEGMENT, 1 },
	{ KVM_CAP_DEBUGREGS, 1 },
	{ KVM_CAP_X86_ROBUST_SINGLESTEP, 1 },
	{ KVM_CAP_ENABLE_CAP, 1 },
	{ KVM_CAP_XSAVE, 1 },
	{ KVM_CAP_XCRS, 1 },
	{ KVM_CAP_TSC_CONTROL, 1 },
	{ KVM_CAP_GET_TSC_KHZ, 1 },
	{ KVM_CAP_MAX_VCPUS, VM_VCPUS_MAX },
	{ KVM_CAP_TSC_DEADLINE_TIMER, 1 },
	{ KVM_CAP_SYNC_REGS, SYNC_REGS_VALID },
	{ KVM_CAP_KVMCLOCK_CTRL, 1 },
	{ KVM_CAP_SIGNAL_MSI, 1 },
	{ KVM_CAP_READONLY_MEM, 1 },
	{ KVM_CAP_IRQFD_RESAMPLE, 1 },
	{ KVM_CAP_EXT_EMUL_CPUID, 1 },
	{ KVM_CAP_IOAPIC_POLARITY_IGNORED, 1 },
	{ KVM_CAP_ENABLE_CAP_VM, 1 },
	{ KVM_CAP_IOEVENTFD_NO_LENGTH, 1 },
	{ KVM_CAP_CHECK_EXTENSION_VM, 1 },
	{ KVM_CAP_DISABLE_QUIRKS, 1 },
	{ KVM_CAP_SPLIT_IRQCHIP, 1 },
	{ KVM_CAP_IOEVENTFD_ANY_LENGTH, 1 },
	{ KVM_CAP_VCPU_ATTRIBUTES, 1 },
	{ KVM_CAP_MAX_VCPU_ID, VCPU_ID_MAX },
	{ KVM_CAP_X2APIC_API, X2APIC_API_FLAGS },
	{ KVM_CAP_IMMEDIATE_EXIT, 1 },
	{ KVM_CAP_X86_DISABLE_EXITS, DISABLE_EXITS },
	{ KVM_CAP_GET_MSR_FEATURES, 1 },
	{ KVM_CAP_MSR_PLATFORM_INFO, 1 },
	{ KVM_CAP_COALESCED_PIO, 1 },
	{ KVM_CAP_EXCEPTION_PAYLOAD, 1 },
	{ KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, DIRTY_LOG_MANUAL_CAPS },
	{ KVM_CAP_HALT_POLL, 1 },
	{ KVM_CAP_LAST_CPU, 1 },
	{ KVM_CAP_STEAL_TIME, 1 },
	{ KVM_CAP_X86_USER_SPACE_MSR, 1 },
	{ KVM_CAP_X86_MSR_FILTER, 1 },
	{ KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1 },
	{ KVM_CAP_SET_GUEST_DEBUG2, GUESTDBG_VALID },
	{ KVM_CAP_SREGS2, 1 },
	{ KVM_CAP_EXIT_HYPERCALL, EXIT_HYPERCALLS },
	{ KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1 },
	{ KVM_CAP_XSAVE2, sizeof(struct kvm_xsave) },
	{ KVM_CAP_SYS_ATTRIBUTES, 1 },
	{ KVM_CAP_DISABLE_QUIRKS2, QUIRKS_KNOWN },
	{ KVM_CAP_VM_TSC_CONTROL, 1 },
	{ KVM_CAP_SYSTEM_EVENT_DATA, 1 },
	{ KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1 },
};

int caps_check(struct vm *vm, unsigned long cap)
{
	if (cap == KVM_CAP_NR_VCPUS) {
		long cpus = sysconf(_SC_NPROCESSORS_ONLN);

		return (int)MIN(MAX(cpus, 1), VM_VCPUS_MAX);
	}
	for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
		if (caps[i].cap == cap) {
			return caps[i].value;
		}
	}
	return 0;
}

static int enable_manual_dirty_log(struct vm *vm, uint64_t arg)
{
	uint64_t allowed = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	if (arg & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) {
		allowed = DIRTY_LOG_MANUAL_CAPS;
	}
	if (arg & ~allowed) {
		return -EINVAL;
	}
	vm->cap.manual_dirty_log = arg & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	vm->cap.manual_dirty_flags = (uint32_t)arg;
	return 0;
}

static int enable_split_irqchip(struct vm *vm, uint64_t routes)
{
	int r;

	if (routes > IOAPIC_PINS_MAX) {
		return -EINVAL;
	}
	r = irqchip_create_split(vm, (unsigned)routes);
	if (r == 0) {
		vm->cap.split_irqchip = true;
	}
	return r;
}

static int enable_x2apic_api(struct vm *vm, uint64_t flags)
{
	if (flags & ~(uint64_t)X2APIC_API_FLAGS) {
		return -EINVAL;
	}
	vm->cap.x2apic_32bit_ids |= (flags & KVM_X2APIC_API_USE_32BIT_IDS) != 0;
	vm->cap.x2apic_no_bcast_quirk |= (flags & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK) != 0;
	return 0;
}

/* May be set once; the same again is fine. */
static int enable_max_vcpu_id(struct vm *vm, uint64_t max)
{
	if (max > VCPU_ID_MAX) {
		return -EINVAL;
	}
	if (vm->cap.max_vcpu_id != 0 || vm->vcpu_count != 0) {
		return vm->cap.max_vcpu_id == max ? 0 : -EINVAL;
	}
	vm->cap.max_vcpu_id = (uint32_t)max;
	return 0;
}

/* A mask: refused with bits that are not known. */
static int enable_mask(uint32_t *field, uint64_t value, uint64_t known)
{
	if (value & ~known) {
		return -EINVAL;
	}
	*field = (uint32_t)value;
	return 0;
}

int caps_enable_vm(struct vm *vm, const struct kvm_enable_cap *cap)
{
	uint64_t arg = cap->args[0];

	if (cap->flags != 0) {
		return -EINVAL;
	}
	switch (cap->cap) {
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return enable_manual_dirty_log(vm, arg);
	case KVM_CAP_HALT_POLL:
		return arg > UINT32_MAX ? -EINVAL : 0; /* how long we poll is our own affair */
	case KVM_CAP_DISABLE_QUIRKS2:
		return enable_mask(&vm->cap.quirks_off, arg, QUIRKS_KNOWN);
	case KVM_CAP_DISABLE_QUIRKS:
		vm->cap.quirks_off = (uint32_t)arg;
		return 0;
	case KVM_CAP_SPLIT_IRQCHIP:
		return enable_split_irqchip(vm, arg);
	case KVM_CAP_X2APIC_API:
		return enable_x2apic_api(vm, arg);
	case KVM_CAP_X86_DISABLE_EXITS:
		return enable_mask(&vm->cap.disabled_exits, arg, KVM_X86_DISABLE_VALID_EXITS);
	case KVM_CAP_MSR_PLATFORM_INFO:
		vm->cap.platform_info_off = arg == 0;
		return 0;
	case KVM_CAP_EXCEPTION_PAYLOAD:
		vm->cap.exception_payload = arg != 0;
		return 0;
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		vm->cap.triple_fault_event = arg != 0;
		return 0;
	case KVM_CAP_X86_USER_SPACE_MSR:
		return enable_mask(&vm->cap.user_msr_mask, arg, USER_MSR_MASK);
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		vm->cap.exit_on_emulation_failure = arg & 1;
		return arg & ~1ull ? -EINVAL : 0;
	case KVM_CAP_EXIT_HYPERCALL:
		return enable_mask(&vm->cap.exit_hypercalls, arg, EXIT_HYPERCALLS);
	case KVM_CAP_MAX_VCPU_ID:
		return enable_max_vcpu_id(vm, arg);
	default:
		return -EINVAL;
	}
}

int caps_enable_vcpu(struct vcpu *cpu, const struct kvm_enable_cap *cap)
{
	if (cap->flags != 0) {
		return -EINVAL;
	}
	if (cap->cap == KVM_CAP_ENFORCE_PV_FEATURE_CPUID) {
		cpu->vm->cap.enforce_pv_cpuid = cap->args[0] != 0;
		return 0;
	}
	return -EINVAL;
}
