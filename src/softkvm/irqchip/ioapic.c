/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The I/O APIC: 24 inputs, each with a redirection entry (82093AA data sheet,
 * ICH9 13.5).
 *
 * `irr` has the inputs whose line is up. An edge is sent when its line comes up,
 * `delivered` says that it was; masked then, it is lost unless user space restores it. A level
 * entry with remote IRR set waits for its EOI; if the line is still up then, it is sent again.
 * Polarity is ignored, as KVM_CAP_IOAPIC_POLARITY_IGNORED says.
 */
#include "softkvm/irqchip/irqchip_int.h"

#define VERSION        0x170020u /* 24 inputs, version 20H: with an EOI register */
#define REG_SELECT     0x00u
#define REG_WINDOW     0x10u
#define REG_EOI        0x40u
#define INDEX_ID       0u
#define INDEX_VERSION  1u
#define INDEX_ARB      2u
#define INDEX_REDIR    0x10u
#define REDIR_READONLY (REDIR_REMOTE_IRR | BIT64(12))
#define ID_MASK        0x0f000000u

static void entry_to_msg(const struct ioapic *io, uint64_t e, struct irq_msg *m)
{
	*m = (struct irq_msg){
		.vector = (uint8_t)e,
		.mode = e >> 8 & 7,
		.logical = e & BIT64(11),
		.level_triggered = e & REDIR_LEVEL,
		.assert = true,
		.dest = (uint32_t)(e >> 56),
	};
}

/* Send what input `pin` asks for, if it may be sent now. As gsi_set_locked() answers. */
static int service(struct ioapic *io, unsigned pin)
{
	uint64_t *e = &io->redir[pin];
	struct irq_msg m;
	int r;

	if ((*e & REDIR_MASKED) || ((*e & REDIR_LEVEL) && (*e & REDIR_REMOTE_IRR))) {
		return -1;
	}
	entry_to_msg(io, *e, &m);
	if (m.mode == DELIVER_EXTINT) {
		return -1; /* the PIC has its own wire to the processor */
	}
	if (!m.level_triggered) {
		io->delivered |= BIT(pin);
	}
	r = msg_deliver(io->vm, &m);
	/* Even if it was pending there already (0), an EOI will come for it. */
	if (r >= 0 && m.level_triggered) {
		*e |= REDIR_REMOTE_IRR;
	}
	return r;
}

int ioapic_set_line_locked(struct ioapic *io, unsigned pin, enum irq_source source, bool level)
{
	bool was_up = io->irr & BIT(pin), level_triggered = io->redir[pin] & REDIR_LEVEL;

	io->lines[pin] = level ? io->lines[pin] | BIT(source) : io->lines[pin] & ~BIT(source);
	if (io->lines[pin] == 0) {
		io->irr &= ~BIT(pin);
		return 1;
	}
	io->irr |= BIT(pin);
	if (!level_triggered && was_up) {
		return 0; /* no edge */
	}
	if (!level_triggered) {
		io->delivered &= ~BIT(pin);
	}
	return service(io, pin);
}

static void eoi_pin(struct ioapic *io, unsigned pin)
{
	uint64_t *e = &io->redir[pin];

	gsi_acked_locked(io->vm, KVM_IRQCHIP_IOAPIC, pin);
	if (!(*e & REDIR_LEVEL)) {
		return;
	}
	*e &= ~REDIR_REMOTE_IRR;
	if (io->irr & BIT(pin)) {
		service(io, pin);
	}
}

void ioapic_eoi_locked(struct ioapic *io, uint8_t vector, bool level)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		if ((uint8_t)io->redir[pin] == vector &&
		    (level || !(io->redir[pin] & REDIR_LEVEL))) {
			eoi_pin(io, pin);
		}
	}
}

/* An entry stays known by its old vector while that one is still in service. */
void ioapic_scan_locked(struct ioapic *io)
{
	uint64_t handled[4] = { 0 };

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint8_t vector = (uint8_t)io->redir[pin];

		if ((io->redir[pin] & REDIR_LEVEL) ||
		    gsi_has_waiter_locked(io->vm, KVM_IRQCHIP_IOAPIC, pin)) {
			handled[vector / 64] |= BIT64(vector % 64);
		}
	}
	for (unsigned i = 0; i < ARRAY_SIZE(handled); i++) {
		atomic_store(&io->handled[i], handled[i]);
	}
}

static void write_redir(struct ioapic *io, unsigned index, uint32_t v)
{
	unsigned pin = index / 2;
	uint64_t *e = &io->redir[pin], old = *e;

	if (index & 1) {
		*e = (old & 0xffffffffull) | (uint64_t)(v & 0xff000000u) << 32;
	} else {
		*e = (old & ~0x1ffffull) | ((v & 0x1ffffu) & ~REDIR_READONLY) |
		     (old & REDIR_READONLY);
		/* Remote IRR means nothing for an edge: switching over clears it. */
		if (!(*e & REDIR_LEVEL)) {
			*e &= ~REDIR_REMOTE_IRR;
		}
	}
	ioapic_scan_locked(io);
	if ((old & REDIR_MASKED) && !(*e & REDIR_MASKED)) {
		gsi_unmasked_locked(io->vm, KVM_IRQCHIP_IOAPIC, pin);
	}
	if ((*e & REDIR_LEVEL) && (io->irr & BIT(pin))) {
		service(io, pin);
	}
}

static void write_window(struct ioapic *io, uint32_t v)
{
	if (io->select == INDEX_ID) {
		io->id = v & ID_MASK;
	} else if (io->select >= INDEX_REDIR && io->select < INDEX_REDIR + 2 * IOAPIC_PINS) {
		write_redir(io, io->select - INDEX_REDIR, v);
	}
}

static uint32_t read_window(const struct ioapic *io)
{
	unsigned index = io->select - INDEX_REDIR;

	if (io->select == INDEX_VERSION) {
		return VERSION;
	}
	if (io->select == INDEX_ID || io->select == INDEX_ARB) {
		return io->id;
	}
	if (io->select < INDEX_REDIR || index >= 2 * IOAPIC_PINS) {
		return UINT32_MAX;
	}
	return (uint32_t)(io->redir[index / 2] >> (index & 1 ? 32 : 0));
}

void ioapic_read_locked(struct ioapic *io, unsigned offset, void *buf, unsigned len)
{
	uint32_t v = 0;

	memset(buf, 0, len);
	if ((offset & 0xf0) == REG_SELECT) {
		v = io->select;
	} else if ((offset & 0xf0) == REG_WINDOW) {
		v = read_window(io);
	}
	memcpy(buf, &v, MIN(len, (unsigned)sizeof(v)));
}

void ioapic_write_locked(struct ioapic *io, unsigned offset, const void *buf, unsigned len)
{
	uint32_t v = 0;

	memcpy(&v, buf, MIN(len, (unsigned)sizeof(v)));
	switch (offset & 0xf0) {
	case REG_SELECT:
		io->select = v & 0xff;
		break;
	case REG_WINDOW:
		write_window(io, v);
		break;
	case REG_EOI:
		ioapic_eoi_locked(io, (uint8_t)v, true);
		break;
	default:
		break;
	}
}

void ioapic_get_locked(const struct ioapic *io, struct kvm_ioapic_state *s)
{
	memset(s, 0, sizeof(*s));
	s->base_address = IOAPIC_BASE;
	s->ioregsel = io->select;
	s->id = io->id >> 24;
	s->irr = io->irr & ~io->delivered;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		s->redirtbl[pin].bits = io->redir[pin];
	}
}

void ioapic_set_locked(struct ioapic *io, const struct kvm_ioapic_state *s)
{
	io->select = s->ioregsel & 0xff;
	io->id = s->id << 24 & ID_MASK;
	io->irr = 0;
	io->delivered = 0;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		io->redir[pin] = s->redirtbl[pin].bits;
	}
	ioapic_scan_locked(io);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		if (s->irr & BIT(pin)) {
			io->irr |= BIT(pin);
			service(io, pin);
		}
	}
}

void ioapic_init(struct ioapic *io, struct vm *vm)
{
	memset(io, 0, sizeof(*io));
	io->vm = vm;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		io->redir[pin] = REDIR_MASKED;
	}
}
