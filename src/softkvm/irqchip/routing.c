/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GSI routing: from an interrupt's number to controller inputs and MSIs (KVM API
 * 4.52), and the way back when an input is acknowledged.
 */
#include <stdlib.h>
#include <sys/eventfd.h>

#include "softkvm/irqchip/irqchip_int.h"

#define ISA_GSIS 16u

void routing_free(struct routing *r)
{
	if (r) {
		free(r->routes);
		free(r);
	}
}

static struct routing *routing_alloc(unsigned routes)
{
	struct routing *r = calloc(1, sizeof(*r));

	if (!r) {
		return NULL;
	}
	r->routes = calloc(routes + 1, sizeof(*r->routes));
	if (!r->routes) {
		free(r);
		return NULL;
	}
	memset(r->first, 0xff, sizeof(r->first));
	memset(r->gsi_of, 0xff, sizeof(r->gsi_of));
	return r;
}

/*
 * A GSI may go to one input of each controller, or to one MSI. -EINVAL: it goes
 * there already. `pin` counts within its chip.
 */
static int add(struct routing *r, const struct route *in)
{
	struct route *route = &r->routes[r->count];

	for (int i = r->first[in->gsi]; i >= 0; i = r->routes[i].next) {
		if (in->type != KVM_IRQ_ROUTING_IRQCHIP ||
		    r->routes[i].type != KVM_IRQ_ROUTING_IRQCHIP || r->routes[i].chip == in->chip) {
			return -EINVAL;
		}
	}
	*route = *in;
	route->next = r->first[in->gsi];
	r->first[in->gsi] = (int)r->count++;
	if (in->type == KVM_IRQ_ROUTING_IRQCHIP) {
		r->gsi_of[in->chip][in->pin] = (int)in->gsi;
	}
	return 0;
}

struct routing *routing_new_default(bool empty)
{
	struct routing *r = routing_alloc(ISA_GSIS + IOAPIC_PINS);

	for (unsigned gsi = 0; r && !empty && gsi < IOAPIC_PINS; gsi++) {
		struct route route = { .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP };

		if (gsi < ISA_GSIS) {
			route.chip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
			route.pin = gsi & 7;
			add(r, &route);
		}
		route.chip = KVM_IRQCHIP_IOAPIC;
		route.pin = gsi;
		add(r, &route);
	}
	return r;
}

static int convert(struct vm *vm, const struct kvm_irq_routing_entry *e, struct route *ret)
{
	*ret = (struct route){ .gsi = e->gsi, .type = e->type };
	if (e->gsi >= GSI_MAX || e->flags != 0) {
		return -EINVAL;
	}
	if (e->type == KVM_IRQ_ROUTING_MSI) {
		ret->msi_address = e->u.msi.address_lo | (uint64_t)e->u.msi.address_hi << 32;
		ret->msi_data = e->u.msi.data;
		return vm->cap.x2apic_32bit_ids && (e->u.msi.address_hi & 0xff) ? -EINVAL : 0;
	}
	if (e->type != KVM_IRQ_ROUTING_IRQCHIP || !irqchip_full(vm)) {
		return -EINVAL;
	}
	ret->chip = e->u.irqchip.irqchip;
	ret->pin = e->u.irqchip.pin;
	if (ret->chip > KVM_IRQCHIP_IOAPIC) {
		return -EINVAL;
	}
	return ret->pin < (ret->chip == KVM_IRQCHIP_IOAPIC ? IOAPIC_PINS : 8) ? 0 : -EINVAL;
}

int routing_new(struct vm *vm, const struct kvm_irq_routing_entry *e, unsigned n,
		struct routing **ret)
{
	struct routing *r = routing_alloc(n);
	int err = r ? 0 : -ENOMEM;

	for (unsigned i = 0; err == 0 && i < n; i++) {
		struct route route;

		err = convert(vm, &e[i], &route);
		if (err == 0) {
			err = add(r, &route);
		}
	}
	if (err != 0) {
		routing_free(r);
		return err;
	}
	*ret = r;
	return 0;
}

static int drive(struct vm *vm, const struct route *route, enum irq_source source, bool level)
{
	struct irqchip *chip = vm->irqchip;
	struct irq_msg m;

	if (route->type == KVM_IRQ_ROUTING_MSI) {
		if (!level) {
			return -1;
		}
		msg_from_msi(vm, route->msi_address, route->msi_data, &m);
		return msg_deliver(vm, &m);
	}
	if (route->chip == KVM_IRQCHIP_IOAPIC) {
		return ioapic_set_line_locked(&chip->ioapic, route->pin, source, level);
	}
	return pic_set_line_locked(&chip->pic,
				   route->pin + (route->chip == KVM_IRQCHIP_PIC_SLAVE ? 8 : 0),
				   source, level);
}

int gsi_set_locked(struct vm *vm, uint32_t gsi, enum irq_source source, bool level)
{
	struct routing *r = vm->irqchip->routing;
	int ret = -1;

	if (!r || gsi >= GSI_MAX) {
		return -1;
	}
	for (int i = r->first[gsi]; i >= 0; i = r->routes[i].next) {
		int got = drive(vm, &r->routes[i], source, level);

		if (got >= 0) {
			ret = MAX(ret, 0) + got;
		}
	}
	return ret;
}

static int gsi_of(struct vm *vm, unsigned chip, unsigned pin)
{
	struct routing *r = vm->irqchip->routing;

	return r ? r->gsi_of[chip][pin] : -1;
}

bool gsi_has_waiter_locked(struct vm *vm, unsigned chip, unsigned pin)
{
	int gsi = gsi_of(vm, chip, pin);

	if (gsi < 0) {
		return false;
	}
	if (gsi == 0 && atomic_load(&vm->irqchip->pit)) {
		return true;
	}
	for (struct irqfd *f = vm->irqchip->irqfds; f; f = f->next) {
		if (f->resample_fd >= 0 && f->gsi == (uint32_t)gsi) {
			return true;
		}
	}
	return false;
}

void gsi_unmasked_locked(struct vm *vm, unsigned chip, unsigned pin)
{
	struct pit *pit = atomic_load(&vm->irqchip->pit);

	if (pit && gsi_of(vm, chip, pin) == 0) {
		pit_unmasked_locked(pit);
	}
}

void gsi_acked_locked(struct vm *vm, unsigned chip, unsigned pin)
{
	int gsi = gsi_of(vm, chip, pin);
	struct pit *pit = atomic_load(&vm->irqchip->pit);
	bool lowered = false;

	if (gsi < 0) {
		return;
	}
	if (gsi == 0 && pit) {
		pit_acked_locked(pit);
	}
	for (struct irqfd *f = vm->irqchip->irqfds; f; f = f->next) {
		if (f->resample_fd < 0 || f->gsi != (uint32_t)gsi) {
			continue;
		}
		if (!lowered) {
			gsi_set_locked(vm, (uint32_t)gsi, SOURCE_RESAMPLE, false);
			lowered = true;
		}
		eventfd_write(f->resample_fd, 1);
	}
}
