/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two 8259A interrupt controllers, the slave at the master's input 2, with the
 * edge/level registers of PCI chipsets at ports 4D0H and 4D1H (Intel 8259A data sheet, ICH9 13.4).
 *
 * State is kept in KVM's own structure. `priority_add` is the input of highest
 * priority; priorities below count from it, 0 highest, 8: none.
 */
#include "softkvm/irqchip/irqchip_int.h"

#define CASCADE_PIN 2u
#define SPURIOUS    7u
#define ELCR_MASTER 0xf8 /* inputs 0, 1, 2 are edges always */
#define ELCR_SLAVE  0xde /* inputs 8 and 13 too */

#define ICW1_INIT   0x10
#define ICW1_LEVEL  0x08
#define ICW1_SINGLE 0x02
#define ICW1_ICW4   0x01
#define ICW4_AUTO   0x02
#define ICW4_SFNM   0x10
#define OCW3        0x08

static unsigned priority_of(const struct kvm_pic_state *h, uint8_t mask)
{
	unsigned p = 0;

	if (mask == 0) {
		return 8;
	}
	while (!(mask & BIT((p + h->priority_add) & 7))) {
		p++;
	}
	return p;
}

/* The input that this half asks for, -1. */
static int request_of(const struct pic *p, unsigned half)
{
	const struct kvm_pic_state *h = &p->half[half];
	unsigned want = priority_of(h, h->irr & ~h->imr), busy;
	uint8_t in_service = h->isr;

	if (want == 8) {
		return -1;
	}
	/* Special fully nested: a slave that is served may ask again (data sheet, page 19). */
	if (h->special_fully_nested_mode && half == 0) {
		in_service &= (uint8_t)~BIT(CASCADE_PIN);
	}
	if (h->special_mask) {
		in_service &= (uint8_t)~h->imr;
	}
	busy = priority_of(h, in_service);
	return want < busy ? (int)((want + h->priority_add) & 7) : -1;
}

/* One input of one half: 1 new, 0 already pending, -1 masked. */
static int set_input(struct kvm_pic_state *h, unsigned pin, bool level)
{
	uint8_t bit = (uint8_t)BIT(pin);
	int r = 1;

	if (h->elcr & bit) {
		if (level) {
			r = !(h->irr & bit);
			h->irr |= bit;
			h->last_irr |= bit;
		} else {
			h->irr &= (uint8_t)~bit;
			h->last_irr &= (uint8_t)~bit;
		}
	} else if (level) {
		if (!(h->last_irr & bit)) {
			r = !(h->irr & bit);
			h->irr |= bit;
		}
		h->last_irr |= bit;
	} else {
		h->last_irr &= (uint8_t)~bit;
	}
	return h->imr & bit ? -1 : r;
}

/* The output wire's vCPU must look. */
static void wake_boot_cpu(struct pic *p)
{
	uint32_t n = atomic_load_explicit(&p->vm->vcpu_count, memory_order_acquire);

	for (uint32_t i = 0; i < n; i++) {
		struct vcpu *cpu = p->vm->vcpus[i];

		if (cpu->id == p->vm->boot_cpu_id) {
			vcpu_request(cpu, REQ_EVENT);
		}
	}
}

void pic_update_locked(struct pic *p)
{
	bool output;

	set_input(&p->half[0], CASCADE_PIN, false);
	if (request_of(p, 1) >= 0) {
		set_input(&p->half[0], CASCADE_PIN, true);
	} else {
		/* A slave that asks no more is no edge that was remembered. */
		p->half[0].irr &= (uint8_t)~BIT(CASCADE_PIN);
	}
	output = request_of(p, 0) >= 0;
	if (atomic_exchange(&p->output, output) != output && output) {
		wake_boot_cpu(p);
	}
}

int pic_set_line_locked(struct pic *p, unsigned pin, enum irq_source source, bool level)
{
	int r;

	p->lines[pin] = level ? p->lines[pin] | BIT(source) : p->lines[pin] & ~BIT(source);
	r = set_input(&p->half[pin / 8], pin & 7, p->lines[pin] != 0);
	pic_update_locked(p);
	return r;
}

/* In service no more: tell who waits for it. */
static void end_of(struct pic *p, unsigned half, uint8_t mask)
{
	uint8_t ended = p->half[half].isr & mask;

	p->half[half].isr &= (uint8_t)~mask;
	for (unsigned pin = 0; pin < 8; pin++) {
		if (ended & BIT(pin)) {
			gsi_acked_locked(
				p->vm, half ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER, pin);
		}
	}
}

static void take(struct pic *p, unsigned half, unsigned pin)
{
	struct kvm_pic_state *h = &p->half[half];
	uint8_t bit = (uint8_t)BIT(pin);

	h->isr |= bit;
	if (!(h->elcr & bit)) {
		h->irr &= (uint8_t)~bit;
	}
	if (h->auto_eoi) {
		if (h->rotate_on_auto_eoi) {
			h->priority_add = (pin + 1) & 7;
		}
		end_of(p, half, bit);
	}
}

/* The INTA cycles: a vector always comes, a spurious one if nothing asks any more. */
int pic_acknowledge_locked(struct pic *p)
{
	int pin = request_of(p, 0), slave_pin;
	unsigned half = 0, vector_pin;

	vector_pin = pin < 0 ? SPURIOUS : (unsigned)pin;
	if (pin >= 0) {
		take(p, 0, (unsigned)pin);
	}
	if (pin == (int)CASCADE_PIN) {
		half = 1;
		slave_pin = request_of(p, 1);
		vector_pin = slave_pin < 0 ? SPURIOUS : (unsigned)slave_pin;
		if (slave_pin >= 0) {
			take(p, 1, (unsigned)slave_pin);
		}
	}
	pic_update_locked(p);
	return (p->half[half].irq_base & 0xf8) + (int)vector_pin;
}

/* --- programming ------------------------------------------------------------------------- */
static void write_icw1(struct pic *p, unsigned half, uint8_t v)
{
	struct kvm_pic_state *h = &p->half[half];
	uint8_t elcr = h->elcr, elcr_mask = h->elcr_mask, last = h->last_irr, irr = h->irr;

	end_of(p, half, 0xff);
	memset(h, 0, sizeof(*h));
	h->elcr = elcr;
	h->elcr_mask = elcr_mask;
	/* The edge detector starts anew; level inputs still ask. */
	h->irr = irr & elcr;
	h->last_irr = last;
	h->init4 = v & ICW1_ICW4;
	h->init_state = 1;
}

static void write_ocw2(struct pic *p, unsigned half, uint8_t v)
{
	struct kvm_pic_state *h = &p->half[half];
	unsigned command = v >> 5, pin = v & 7, highest = priority_of(h, h->isr);

	switch (command) {
	case 0: /* rotate in automatic EOI mode: off, on */
	case 4:
		h->rotate_on_auto_eoi = command == 4;
		break;
	case 1: /* non-specific EOI; 5: with rotation */
	case 5:
		if (highest != 8) {
			pin = (highest + h->priority_add) & 7;
			if (command == 5) {
				h->priority_add = (pin + 1) & 7;
			}
			end_of(p, half, (uint8_t)BIT(pin));
		}
		break;
	case 3: /* specific EOI; 7: with rotation */
	case 7:
		if (command == 7) {
			h->priority_add = (pin + 1) & 7;
		}
		end_of(p, half, (uint8_t)BIT(pin));
		break;
	case 6:
		h->priority_add = (pin + 1) & 7;
		break;
	default:
		break;
	}
}

static void write_ocw3(struct kvm_pic_state *h, uint8_t v)
{
	if (v & 0x04) {
		h->poll = 1;
	}
	if (v & 0x02) {
		h->read_reg_select = v & 1;
	}
	if (v & 0x40) {
		h->special_mask = v >> 5 & 1;
	}
}

static void write_data(struct pic *p, unsigned half, uint8_t v)
{
	struct kvm_pic_state *h = &p->half[half];

	switch (h->init_state) {
	case 1: /* ICW2 */
		h->irq_base = v & 0xf8;
		h->init_state = 2;
		break;
	case 2: /* ICW3: the wiring is fixed */
		h->init_state = h->init4 ? 3 : 0;
		break;
	case 3: /* ICW4 */
		h->special_fully_nested_mode = (v & ICW4_SFNM) != 0;
		h->auto_eoi = (v & ICW4_AUTO) != 0;
		h->init_state = 0;
		break;
	default: /* OCW1 */
		if (half == 0 && (h->imr & 1) && !(v & 1)) {
			gsi_unmasked_locked(p->vm, KVM_IRQCHIP_PIC_MASTER, 0);
		}
		h->imr = v;
		break;
	}
}

static void write_command(struct pic *p, unsigned half, uint8_t v)
{
	if (v & ICW1_INIT) {
		write_icw1(p, half, v);
	} else if (v & OCW3) {
		write_ocw3(&p->half[half], v);
	} else {
		write_ocw2(p, half, v);
	}
}

/* A read after the poll command is the acknowledge: bit 7 says whether one was there. */
static uint8_t poll_read(struct pic *p, unsigned half)
{
	int pin = request_of(p, half);

	p->half[half].poll = 0;
	if (pin < 0) {
		return SPURIOUS;
	}
	take(p, half, (unsigned)pin);
	pic_update_locked(p);
	return (uint8_t)(0x80 | pin);
}

static bool decode(uint16_t port, unsigned *ret_half, bool *ret_data)
{
	if ((port & 0xff7e) != 0x20) {
		return false;
	}
	*ret_half = port & 0x80 ? 1 : 0;
	*ret_data = port & 1;
	return true;
}

bool pic_read_locked(struct pic *p, uint16_t port, uint8_t *ret)
{
	unsigned half;
	bool data;

	if (port == 0x4d0 || port == 0x4d1) {
		*ret = p->half[port & 1].elcr;
		return true;
	}
	if (!decode(port, &half, &data)) {
		return false;
	}
	if (p->half[half].poll) {
		*ret = poll_read(p, half);
	} else if (data) {
		*ret = p->half[half].imr;
	} else {
		*ret = p->half[half].read_reg_select ? p->half[half].isr : p->half[half].irr;
	}
	return true;
}

bool pic_write_locked(struct pic *p, uint16_t port, uint8_t v)
{
	unsigned half;
	bool data;

	if (port == 0x4d0 || port == 0x4d1) {
		p->half[port & 1].elcr = v & p->half[port & 1].elcr_mask;
		return true;
	}
	if (!decode(port, &half, &data)) {
		return false;
	}
	if (data) {
		write_data(p, half, v);
	} else {
		write_command(p, half, v);
	}
	pic_update_locked(p);
	return true;
}

void pic_init(struct pic *p, struct vm *vm)
{
	memset(p, 0, sizeof(*p));
	p->vm = vm;
	p->half[0].elcr_mask = ELCR_MASTER;
	p->half[1].elcr_mask = ELCR_SLAVE;
}
