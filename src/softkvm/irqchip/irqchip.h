/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interrupt controllers and timers that KVM has in the kernel: LAPIC,
 * IOAPIC, two 8259, 8254, GSI routing, MSI, irqfd and ioeventfd.
 *
 * One service thread a VM runs timers and watches eventfds; it starts with the
 * first of them. Any thread may raise a line or send an MSI.
 */
#pragma once

#include "softkvm/cpu/vcpu.h"
#include "softkvm/vm.h"

/* Made with the VM (no controllers yet). 0 or -errno. */
int irqchip_init(struct vm *vm);
void irqchip_done(struct vm *vm); /* stops the service thread */
/* KVM_CREATE_IRQCHIP and KVM_CAP_SPLIT_IRQCHIP; -EEXIST, -EINVAL (vCPUs exist). */
int irqchip_create(struct vm *vm);
int irqchip_create_split(struct vm *vm, unsigned ioapic_routes);
bool irqchip_in_kernel(const struct vm *vm); /* LAPICs are ours (full or split) */
bool irqchip_full(const struct vm *vm);      /* PIC and IOAPIC too */

/* ioctls on the VM that belong to the irqchip: -ENOTTY if `request` is none of these. */
int irqchip_vm_ioctl(struct vm *vm, unsigned long request, unsigned long arg);
/* ioctls on the vCPU: GET/SET_LAPIC, SET_TSC… no: only LAPIC's; -ENOTTY if none of these. */
int irqchip_vcpu_ioctl(struct vcpu *cpu, unsigned long request, unsigned long arg);

int lapic_new(struct vcpu *cpu); /* at CREATE_VCPU with an in-kernel LAPIC */
void lapic_free(struct vcpu *cpu);
void lapic_reset(struct vcpu *cpu, bool init);

/* --- the vCPU's side; its own thread --------------------------------------------------- */
/*
 * Is there an interrupt that could be delivered now (priority against TPR, EXTINT from the PIC
 * included)? Cheap: no lock when nothing is pending.
 */
bool irq_pending(struct vcpu *cpu);
/* Cheap, without effects, and true at least whenever that is. */
bool irq_may_wait(const struct vcpu *cpu);
/* Take it: its vector (moves IRR to ISR, or runs the PIC's INTA cycle), -1 if it went away. */
int irq_acknowledge(struct vcpu *cpu);
/*
 * INIT and SIPI that wait: called at REQ_EVENT; applies them (reset, start at
 * vector<<12, mp_state). Returns true if it changed the vCPU's state.
 */
bool lapic_accept_events(struct vcpu *cpu);
/* Expired timers of this vCPU (TSC deadline, one-shot, periodic): raise; called at REQ_EVENT. */
void lapic_check_timer(struct vcpu *cpu);
/* When the vCPU's own timer is next due (CLOCK_MONOTONIC; INT64_MAX: never): a halted vCPU sleeps
 * until then at the most, so no other thread must wake it. */
ns_t lapic_next_deadline(struct vcpu *cpu);
uint64_t lapic_get_cr8(struct vcpu *cpu);
void lapic_set_cr8(struct vcpu *cpu, uint64_t tpr);
uint64_t lapic_get_base(struct vcpu *cpu);                    /* IA32_APIC_BASE */
bool lapic_set_base(struct vcpu *cpu, uint64_t v, bool host); /* false: #GP */
bool lapic_msr_read(struct vcpu *cpu, uint32_t msr,
		    uint64_t *ret); /* 0x800-0x8ff, 0x6e0; false: #GP */
bool lapic_msr_write(struct vcpu *cpu, uint32_t msr, uint64_t v);
void lapic_set_pv_eoi(struct vcpu *cpu, uint64_t msr);
/* KVM_HC_SEND_IPI: number of vCPUs that got it, or a negative KVM_E*. */
int64_t lapic_pv_send_ipi(struct vcpu *cpu, uint64_t low, uint64_t high, uint32_t min, uint64_t icr,
			  bool long_mode);

/* --- the bus's side: called from the slow path of memory and port accesses -------------- */
/* True if a controller (or an ioeventfd) took the access; the data is in/out little endian. */
bool irqchip_mmio_read(struct vcpu *cpu, gpa_t gpa, void *buf, unsigned len);
bool irqchip_mmio_write(struct vcpu *cpu, gpa_t gpa, const void *buf, unsigned len);
bool irqchip_pio_read(struct vcpu *cpu, uint16_t port, void *buf, unsigned len);
bool irqchip_pio_write(struct vcpu *cpu, uint16_t port, const void *buf, unsigned len);

/* An IOAPIC/split EOI that user space must see (KVM_EXIT_IOAPIC_EOI): vector or -1; cleared. */
int irqchip_take_user_eoi(struct vcpu *cpu);
