/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM takes the routing table as a whole (KVM API 4.52), so that a change of
 * one message means the table anew. It is rebuilt under the lock from the
 * routes in use; a message that did not change costs nothing, as drivers mask
 * and unmask without changing it.
 */
#include "vmm/gsi.h"

#include <stdlib.h>

#include "base/assert.h"

void gsi_done(struct gsi *g)
{
	free(g->table);
	g->table = NULL;
}

static void fill_chip(struct kvm_irq_routing_entry *e, unsigned gsi, unsigned chip, unsigned pin)
{
	*e = (struct kvm_irq_routing_entry){ .gsi = gsi,
					     .type = KVM_IRQ_ROUTING_IRQCHIP,
					     .u.irqchip = { .irqchip = chip, .pin = pin } };
}

unsigned gsi_fill_table(const struct gsi *g, struct kvm_irq_routing_entry *entries)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 16; i++) {
		/* Pin 2 of the first chip is the second. */
		if (i != 2) {
			fill_chip(&entries[n++], i,
				  i < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, i % 8);
		}
	}
	for (unsigned i = 0; i < GSI_LINES; i++) {
		/* The timer's line comes in at pin 2, as the MADT says. */
		if (i != 2) {
			fill_chip(&entries[n++], i, KVM_IRQCHIP_IOAPIC, i ? i : 2);
		}
	}
	for (unsigned i = 0; i < g->route_count; i++) {
		const struct gsi_route *r = &g->routes[i];

		if (r->used) {
			entries[n++] = (struct kvm_irq_routing_entry){
				.gsi = GSI_LINES + i,
				.type = KVM_IRQ_ROUTING_MSI,
				.u.msi = { .address_lo = (uint32_t)r->address,
					   .address_hi = (uint32_t)(r->address >> 32),
					   .data = r->data },
			};
		}
	}
	return n;
}

static int set_table_locked(struct gsi *g)
{
	g->table->flags = 0;
	g->table->nr = gsi_fill_table(g, g->table->entries);
	return kvm_ioctl(g->vm->kvm, g->vm->fd, KVM_SET_GSI_ROUTING, g->table);
}

int gsi_init(struct gsi *g, struct vm *vm)
{
	memset(g, 0, sizeof(*g));
	g->vm = vm;
	pthread_mutex_init(&g->lock, NULL);
	g->table = calloc(1, sizeof(*g->table) + GSI_TABLE_MAX * sizeof(g->table->entries[0]));
	if (!g->table) {
		return -ENOMEM;
	}
	/* KVM's own table has the timer at pin 0. */
	return set_table_locked(g);
}

void gsi_line_set(struct gsi *g, unsigned gsi, bool level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	ASSERT(gsi < GSI_LINES);
	kvm_ioctl(g->vm->kvm, g->vm->fd, KVM_IRQ_LINE, &line);
}

int gsi_msi_send(struct gsi *g, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = { .address_lo = (uint32_t)address,
			       .address_hi = (uint32_t)(address >> 32),
			       .data = data };
	int r = kvm_ioctl(g->vm->kvm, g->vm->fd, KVM_SIGNAL_MSI, &msi);

	/* 0: every addressed APIC has it blocked. */
	return r > 0 ? 0 : r < 0 ? r : -ENXIO;
}

int gsi_ioeventfd(struct gsi *g, bool add, enum dev_space space, uint64_t addr, unsigned len,
		  const uint64_t *match, int eventfd)
{
	struct kvm_ioeventfd io = {
		.datamatch = match ? *match : 0,
		.addr = addr,
		.len = len,
		.fd = eventfd,
		.flags = (space == DEV_PIO ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
			 (add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return kvm_ioctl(g->vm->kvm, g->vm->fd, KVM_IOEVENTFD, &io);
}

static int attach(struct gsi *g, int eventfd, unsigned gsi, bool on)
{
	struct kvm_irqfd irqfd = { .fd = (uint32_t)eventfd,
				   .gsi = gsi,
				   .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN };

	return kvm_ioctl(g->vm->kvm, g->vm->fd, KVM_IRQFD, &irqfd);
}

/* A free route; -ENOSPC. */
static int take_route_locked(struct gsi *g)
{
	for (unsigned i = 0; i < GSI_ROUTES_MAX; i++) {
		if (!g->routes[i].used) {
			g->routes[i] = (struct gsi_route){ .used = true, .eventfd = -1 };
			g->route_count = MAX(g->route_count, i + 1);
			return (int)i;
		}
	}
	return -ENOSPC;
}

static void drop_route_locked(struct gsi *g, unsigned i)
{
	g->routes[i].used = false;
	while (g->route_count && !g->routes[g->route_count - 1].used) {
		g->route_count--;
	}
}

/* Give route `i` this message and this eventfd. */
static int change_route_locked(struct gsi *g, unsigned i, int eventfd, uint64_t address,
			       uint32_t data, bool is_new)
{
	struct gsi_route *r = &g->routes[i];
	struct gsi_route old = *r;
	int err = 0;

	if (is_new || r->address != address || r->data != data) {
		r->address = address;
		r->data = data;
		err = set_table_locked(g);
	}
	if (err >= 0 && r->eventfd != eventfd) {
		if (r->eventfd >= 0) {
			attach(g, r->eventfd, GSI_LINES + i, false);
			old.eventfd = -1;
		}
		err = attach(g, eventfd, GSI_LINES + i, true);
		r->eventfd = err < 0 ? -1 : eventfd;
	}
	if (err < 0) {
		*r = old;
	}
	return err < 0 ? err : 0;
}

int gsi_irqfd_set(struct gsi *g, int eventfd, uint64_t address, uint32_t data, int *route)
{
	bool is_new = *route < 0;
	int i, err;

	pthread_mutex_lock(&g->lock);
	i = is_new ? take_route_locked(g) : *route;
	err = i;
	if (i >= 0) {
		ASSERT((unsigned)i < GSI_ROUTES_MAX && g->routes[i].used);
		err = change_route_locked(g, (unsigned)i, eventfd, address, data, is_new);
	}
	if (err < 0 && i >= 0 && is_new) {
		drop_route_locked(g, (unsigned)i);
	} else if (err == 0) {
		*route = i;
	}
	pthread_mutex_unlock(&g->lock);
	return err;
}

void gsi_irqfd_clear(struct gsi *g, int eventfd, int *route)
{
	pthread_mutex_lock(&g->lock);
	if (*route >= 0) {
		ASSERT((unsigned)*route < GSI_ROUTES_MAX && g->routes[*route].used);
		if (g->routes[*route].eventfd >= 0) {
			attach(g, g->routes[*route].eventfd, GSI_LINES + (unsigned)*route, false);
		}
		/* KVM's table keeps the stale route, attached to nothing, until the next change. */
		drop_route_locked(g, (unsigned)*route);
		*route = -1;
	}
	pthread_mutex_unlock(&g->lock);
}
