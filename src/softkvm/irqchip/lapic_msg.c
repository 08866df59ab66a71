/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupt messages: who is meant, and what the receiver does (SDM 3A 11.6, 11.11).
 */
#include "softkvm/irqchip/irqchip_int.h"

#define BROADCAST_XAPIC  0xffu
#define BROADCAST_X2APIC UINT32_MAX
#define VECTOR_MIN       16u /* lower ones are exceptions: illegal in a message */

/* --- receiving ------------------------------------------------------------------------- */
void lapic_queue_nmi(struct vcpu *cpu)
{
	uint8_t n = atomic_load(&cpu->ev.nmi_pending);

	while (n < 2 && !atomic_compare_exchange_weak(&cpu->ev.nmi_pending, &n, (uint8_t)(n + 1))) {
	}
	vcpu_request(cpu, REQ_EVENT);
}

static bool accept_vector(struct lapic *l, uint8_t vector, bool level)
{
	bool was_set;

	if (!lapic_enabled(l)) {
		return false;
	}
	if (vector < VECTOR_MIN) {
		lapic_error(l, ESR_RECV_ILLEGAL);
		return false;
	}
	if (lapic_bit(l, APIC_TMR, vector) != level) {
		lapic_bit_set(l, APIC_TMR, vector, level);
	}
	was_set = lapic_bit_set(l, APIC_IRR, vector, true);
	atomic_store(&l->irr_pending, true);
	vcpu_request(l->cpu, REQ_EVENT);
	return !was_set;
}

static void post_event(struct lapic *l, uint32_t event)
{
	atomic_fetch_or(&l->events, event);
	vcpu_request(l->cpu, REQ_EVENT);
}

bool lapic_accept(struct lapic *l, uint8_t mode, uint8_t vector, bool assert, bool level)
{
	switch (mode) {
	case DELIVER_FIXED:
	case DELIVER_LOWEST:
		return accept_vector(l, vector, level);
	case DELIVER_NMI:
		lapic_queue_nmi(l->cpu);
		return true;
	case DELIVER_INIT:
		/* The level de-assert form does nothing on processors of today (SDM 3A 11.6.1). */
		if (level && !assert) {
			return false;
		}
		post_event(l, EVENT_INIT);
		return true;
	case DELIVER_SIPI:
		atomic_store(&l->sipi_vector, vector);
		post_event(l, EVENT_SIPI);
		return true;
	case DELIVER_EXTINT:
		vcpu_request(l->cpu, REQ_EVENT);
		return true;
	default: /* SMI: there is no system-management mode */
		return false;
	}
}

bool lapic_local_deliver(struct lapic *l, unsigned offset)
{
	uint32_t lvt = lapic_reg(l, offset);
	uint8_t mode = offset == APIC_LVTT || offset == APIC_LVTERR ? DELIVER_FIXED : LVT_MODE(lvt);

	if (!lapic_hw_enabled(l) || (lvt & LVT_MASKED)) {
		return false;
	}
	return lapic_accept(l, mode, (uint8_t)lvt, true, false);
}

/* INIT wins over a SIPI that came before it (SDM 3A 9.4.1: the order is INIT, SIPI, SIPI). */
bool lapic_accept_events(struct vcpu *cpu)
{
	struct lapic *l = cpu->lapic;
	uint32_t events = l ? atomic_load(&l->events) : 0;
	bool bsp = cpu->id == cpu->vm->boot_cpu_id;

	if (events == 0) {
		return false;
	}
	if (events & EVENT_INIT) {
		atomic_fetch_and(&l->events, ~(uint32_t)EVENT_INIT);
		cpu_reset(cpu, true);
		lapic_reset(cpu, true);
		atomic_store(&cpu->mp_state,
			     bsp ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED);
	}
	if (!(atomic_fetch_and(&l->events, ~(uint32_t)EVENT_SIPI) & EVENT_SIPI) ||
	    atomic_load(&cpu->mp_state) != KVM_MP_STATE_INIT_RECEIVED) {
		return events & EVENT_INIT; /* a SIPI that finds the processor running is dropped */
	}
	cpu->seg[SEG_CS].sel = (uint16_t)(atomic_load(&l->sipi_vector) << 8);
	cpu->seg[SEG_CS].base = (uint64_t)atomic_load(&l->sipi_vector) << 12;
	cpu->rip = 0;
	cpu_mode_changed(cpu);
	atomic_store(&cpu->mp_state, KVM_MP_STATE_RUNNABLE);
	return true;
}

bool lapic_init_pending(const struct vcpu *cpu)
{
	return cpu->lapic && (atomic_load(&cpu->lapic->events) & EVENT_INIT);
}

void lapic_set_init_pending(struct vcpu *cpu, bool pending)
{
	if (cpu->lapic && pending) {
		post_event(cpu->lapic, EVENT_INIT);
	} else if (cpu->lapic) {
		atomic_fetch_and(&cpu->lapic->events, ~(uint32_t)EVENT_INIT);
	}
}

void lapic_set_sipi_pending(struct vcpu *cpu)
{
	if (cpu->lapic) {
		post_event(cpu->lapic, EVENT_SIPI);
	}
}

void lapic_set_sipi_vector(struct vcpu *cpu, uint8_t vector)
{
	if (cpu->lapic) {
		atomic_store(&cpu->lapic->sipi_vector, vector);
	}
}

/* --- addressing --------------------------------------------------------------------------- */
static uint32_t physical_id(const struct lapic *l)
{
	uint32_t id = lapic_reg(l, APIC_ID);

	return lapic_x2apic(l) ? id : id >> 24;
}

/*
 * Is `dest` the broadcast address for this receiver? MSIs and IOAPICs can only say 0xff: that
 * reaches receivers in x2APIC mode too, unless user space asked for the strict way.
 */
static bool is_broadcast(const struct lapic *l, const struct irq_msg *m)
{
	bool strict = m->source || l->cpu->vm->cap.x2apic_no_bcast_quirk;

	if (!lapic_x2apic(l)) {
		return m->dest == BROADCAST_XAPIC;
	}
	return m->dest == BROADCAST_X2APIC || (!strict && m->dest == BROADCAST_XAPIC);
}

static bool match_physical(const struct lapic *l, const struct irq_msg *m)
{
	/* A receiver with a large id that is not yet in x2APIC mode is known by its whole id. */
	return m->dest == physical_id(l) || (l->cpu->id > 0xff && m->dest == l->cpu->id);
}

static bool match_logical(const struct lapic *l, const struct irq_msg *m)
{
	uint32_t ldr = lapic_reg(l, APIC_LDR), id;

	if (lapic_x2apic(l)) {
		return ldr >> 16 == m->dest >> 16 && (ldr & m->dest & 0xffff);
	}
	id = ldr >> 24;
	if (lapic_reg(l, APIC_DFR) >> 28 == 0xf) { /* flat */
		return id & m->dest & 0xff;
	}
	return id >> 4 == (m->dest >> 4 & 0xf) && (id & m->dest & 0xf);
}

static bool match(const struct lapic *l, const struct irq_msg *m)
{
	if (!lapic_hw_enabled(l)) {
		return false;
	}
	switch (m->shorthand) {
	case DEST_SELF:
		return l == m->source;
	case DEST_ALL:
		return true;
	case DEST_OTHERS:
		return l != m->source;
	default:
		return is_broadcast(l, m) ||
		       (m->logical ? match_logical(l, m) : match_physical(l, m));
	}
}

/* --- sending --------------------------------------------------------------------------------- */
/* Of all that match and listen, the one that took the fewest such messages. */
static struct lapic *pick_lowest(struct vm *vm, const struct irq_msg *m, bool *ret_matched)
{
	uint32_t n = atomic_load_explicit(&vm->vcpu_count, memory_order_acquire);
	struct lapic *best = NULL;

	for (uint32_t i = 0; i < n; i++) {
		struct lapic *l = vm->vcpus[i]->lapic;

		if (!l || !match(l, m)) {
			continue;
		}
		*ret_matched = true;
		if (lapic_enabled(l) &&
		    (!best || (int32_t)(atomic_load(&l->arb) - atomic_load(&best->arb)) < 0)) {
			best = l;
		}
	}
	return best;
}

static int deliver_lowest(struct vm *vm, const struct irq_msg *m)
{
	bool matched = false;
	struct lapic *l = pick_lowest(vm, m, &matched);

	if (!l) {
		return matched ? 0 : -1;
	}
	atomic_fetch_add(&l->arb, 1);
	return lapic_accept(l, DELIVER_FIXED, m->vector, m->assert, m->level_triggered);
}

int msg_deliver(struct vm *vm, const struct irq_msg *m)
{
	uint32_t n = atomic_load_explicit(&vm->vcpu_count, memory_order_acquire);
	int r = -1;

	if (m->mode == DELIVER_LOWEST ||
	    (m->lowest_hint && m->mode == DELIVER_FIXED && m->logical)) {
		return deliver_lowest(vm, m);
	}
	for (uint32_t i = 0; i < n; i++) {
		struct lapic *l = vm->vcpus[i]->lapic;

		if (l && match(l, m)) {
			r = MAX(r, 0) +
			    lapic_accept(l, m->mode, m->vector, m->assert, m->level_triggered);
		}
	}
	return r;
}

void msg_from_msi(const struct vm *vm, uint64_t address, uint32_t data, struct irq_msg *ret)
{
	*ret = (struct irq_msg){
		.dest = (uint32_t)address >> 12 & 0xff,
		.logical = address & BIT(2),
		.lowest_hint = address & BIT(3),
		.vector = (uint8_t)data,
		.mode = data >> 8 & 7,
		.level_triggered = data & BIT(15),
		.assert = true,
	};
	if (vm->cap.x2apic_32bit_ids) {
		ret->dest |= (uint32_t)(address >> 32) & 0xffffff00u;
	}
}

/* ICR: SDM 3A figure 11-12 and, for x2APIC, 11-28. */
void lapic_send_ipi(struct lapic *l, uint32_t icr_low, uint32_t icr_high)
{
	struct irq_msg m = {
		.vector = (uint8_t)icr_low,
		.mode = icr_low >> 8 & 7,
		.logical = icr_low & BIT(11),
		.assert = icr_low & BIT(14),
		.level_triggered = icr_low & BIT(15),
		.shorthand = icr_low >> 18 & 3,
		.dest = lapic_x2apic(l) ? icr_high : icr_high >> 24,
		.source = l,
	};

	if (m.mode <= DELIVER_LOWEST && m.vector < VECTOR_MIN) {
		lapic_error(l, ESR_SEND_ILLEGAL);
	}
	if (m.mode <= DELIVER_LOWEST) {
		m.level_triggered = false; /* IPIs with a vector are edges */
	}
	msg_deliver(l->cpu->vm, &m);
}

/* --- KVM_HC_SEND_IPI (KVM's hypercall document) ------------------------------------------------
 */
#define PV_IPI_ERROR (-22) /* KVM_EINVAL */

static struct lapic *lapic_by_id(struct vm *vm, uint32_t id)
{
	uint32_t n = atomic_load_explicit(&vm->vcpu_count, memory_order_acquire);

	for (uint32_t i = 0; i < n; i++) {
		if (vm->vcpus[i]->lapic && physical_id(vm->vcpus[i]->lapic) == id) {
			return vm->vcpus[i]->lapic;
		}
	}
	return NULL;
}

static int64_t pv_send_map(struct vm *vm, uint64_t map, uint32_t base, uint64_t icr)
{
	int64_t sent = 0;

	for (unsigned bit = 0; map != 0; bit++, map >>= 1) {
		struct lapic *l = map & 1 ? lapic_by_id(vm, base + bit) : NULL;

		if (l && lapic_hw_enabled(l)) {
			sent += lapic_accept(l, icr >> 8 & 7, (uint8_t)icr, true, false);
		}
	}
	return sent;
}

int64_t lapic_pv_send_ipi(struct vcpu *cpu, uint64_t low, uint64_t high, uint32_t min, uint64_t icr,
			  bool long_mode)
{
	unsigned width = long_mode ? 64 : 32;
	unsigned mode = icr >> 8 & 7;

	if (!cpu->lapic || (icr & (BIT(11) | 3u << 18)) ||
	    (mode != DELIVER_FIXED && mode != DELIVER_NMI)) {
		return PV_IPI_ERROR;
	}
	if (!long_mode) {
		low = (uint32_t)low;
		high = (uint32_t)high;
	}
	return pv_send_map(cpu->vm, low, min, icr) + pv_send_map(cpu->vm, high, min + width, icr);
}
