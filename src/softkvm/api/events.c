/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pending and injected events in KVM's structure (KVM API 4.31, 4.32).
 *
 * Without KVM_CAP_EXCEPTION_PAYLOAD pending and injected exceptions look the
 * same to user space, and a payload (CR2, DR6) is applied before it looks.
 */
#include "softkvm/api/api.h"
#include "softkvm/irqchip/irqchip_int.h"

#define FLAGS_KNOWN                                                                           \
	(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |                  \
	 KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD | \
	 KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

static uint8_t shadow_to_kvm(uint8_t shadow)
{
	return (uint8_t)((shadow & SHADOW_MOVSS ? KVM_X86_SHADOW_INT_MOV_SS : 0) |
			 (shadow & SHADOW_STI ? KVM_X86_SHADOW_INT_STI : 0));
}

static uint8_t shadow_from_kvm(uint8_t shadow)
{
	return (uint8_t)((shadow & KVM_X86_SHADOW_INT_MOV_SS ? SHADOW_MOVSS : 0) |
			 (shadow & KVM_X86_SHADOW_INT_STI ? SHADOW_STI : 0));
}

static void apply_payload(struct vcpu *cpu)
{
	struct fault *f = &cpu->ev.exception;

	if (f->vector == EX_PF) {
		cpu->cr2 = f->payload;
	} else if (f->vector == EX_DB) {
		cpu->dr6 = (cpu->dr6 & ~0xfull) | f->payload;
	}
	f->has_payload = false;
	f->payload = 0;
}

/* INT3 and INTO happen again by themselves: their length could not be told. */
static bool is_soft(const struct fault *f)
{
	return f->vector == EX_BP || f->vector == EX_OF;
}

static void exception_get(struct vcpu *cpu, struct kvm_vcpu_events *e)
{
	struct events *ev = &cpu->ev;
	bool separate = cpu->vm->cap.exception_payload;

	if (!ev->exception_pending && !ev->exception_injected) {
		return;
	}
	if (!separate && ev->exception_pending && ev->exception.has_payload) {
		apply_payload(cpu);
	}
	if (!is_soft(&ev->exception)) {
		e->exception.injected =
			ev->exception_injected || (!separate && ev->exception_pending);
		e->exception.pending = ev->exception_pending;
	}
	e->exception.nr = ev->exception.vector;
	e->exception.has_error_code = ev->exception.has_error;
	e->exception.error_code = ev->exception.error;
	e->exception_has_payload = ev->exception.has_payload;
	e->exception_payload = ev->exception.payload;
}

void events_get(struct vcpu *cpu, struct kvm_vcpu_events *e)
{
	struct events *ev = &cpu->ev;

	memset(e, 0, sizeof(*e));
	exception_get(cpu, e);
	e->interrupt.injected = ev->interrupt_injected && !ev->interrupt_soft;
	e->interrupt.nr = ev->interrupt_nr;
	e->interrupt.shadow = shadow_to_kvm(ev->shadow);
	e->nmi.injected = ev->nmi_injected;
	e->nmi.pending = atomic_load(&ev->nmi_pending) != 0;
	e->nmi.masked = ev->nmi_masked;
	e->smi.smm = ev->smm;
	e->smi.pending = atomic_load(&ev->smi_pending);
	e->smi.latched_init = lapic_init_pending(cpu);
	e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
		   KVM_VCPUEVENT_VALID_SMM;
	if (cpu->vm->cap.exception_payload) {
		e->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	}
	if (cpu->vm->cap.triple_fault_event) {
		e->triple_fault.pending = atomic_load(&ev->triple_fault);
		e->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
}

static bool events_valid(struct vcpu *cpu, const struct kvm_vcpu_events *e, bool pending)
{
	if (e->flags & ~(uint32_t)FLAGS_KNOWN) {
		return false;
	}
	if ((e->flags & KVM_VCPUEVENT_VALID_PAYLOAD) && !cpu->vm->cap.exception_payload) {
		return false;
	}
	if ((e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) && !cpu->vm->cap.triple_fault_event) {
		return false;
	}
	if ((e->exception.injected || pending) &&
	    (e->exception.nr > 31 || e->exception.nr == EX_NMI)) {
		return false;
	}
	/* There is no system-management mode here. */
	return !(e->flags & KVM_VCPUEVENT_VALID_SMM) || (!e->smi.smm && !e->smi.pending);
}

static void exception_set(struct vcpu *cpu, const struct kvm_vcpu_events *e, bool pending)
{
	struct events *ev = &cpu->ev;

	ev->exception_pending = pending;
	ev->exception_injected = e->exception.injected && !pending;
	ev->exception = (struct fault){
		.vector = e->exception.nr,
		.has_error = e->exception.has_error_code,
		.error = e->exception.error_code,
		.has_payload = pending && e->exception_has_payload,
		.payload = e->exception_payload,
	};
}

static void triple_fault_set(struct vcpu *cpu, bool pending)
{
	atomic_store(&cpu->ev.triple_fault, pending);
	if (pending) {
		vcpu_request(cpu, REQ_TRIPLE);
	} else {
		atomic_fetch_and(&cpu->req, ~(uint32_t)REQ_TRIPLE);
	}
}

int events_set(struct vcpu *cpu, const struct kvm_vcpu_events *e)
{
	struct events *ev = &cpu->ev;
	bool pending = (e->flags & KVM_VCPUEVENT_VALID_PAYLOAD) && e->exception.pending;

	if (!events_valid(cpu, e, pending)) {
		return -EINVAL;
	}
	exception_set(cpu, e, pending);
	ev->interrupt_injected = e->interrupt.injected;
	ev->interrupt_nr = e->interrupt.nr;
	ev->interrupt_soft = e->interrupt.soft;
	if (e->flags & KVM_VCPUEVENT_VALID_SHADOW) {
		ev->shadow = shadow_from_kvm(e->interrupt.shadow);
	}
	ev->nmi_injected = e->nmi.injected;
	ev->nmi_masked = e->nmi.masked;
	if (e->flags & KVM_VCPUEVENT_VALID_NMI_PENDING) {
		atomic_store(&ev->nmi_pending, e->nmi.pending != 0);
	}
	if (e->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR) {
		lapic_set_sipi_vector(cpu, (uint8_t)e->sipi_vector);
	}
	if (e->flags & KVM_VCPUEVENT_VALID_SMM) {
		lapic_set_init_pending(cpu, e->smi.latched_init);
	}
	if (e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) {
		triple_fault_set(cpu, e->triple_fault.pending);
	}
	vcpu_request(cpu, REQ_EVENT);
	return 0;
}
