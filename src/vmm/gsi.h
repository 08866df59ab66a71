/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts and doorbells between devices and KVM: lines, messages, irqfds
 * with their routes, ioeventfds. Any thread.
 */
#pragma once

#include <pthread.h>

#include "dev/dev.h"
#include "vmm/vm.h"

/* Lines 0-15 go to the 8259s and the IOAPIC, 16-23 to the IOAPIC alone. */
#define GSI_LINES 24u
/* KVM's table is bounded by KVM_CAP_IRQ_ROUTING (1024 at the least); this is ours. */
#define GSI_ROUTES_MAX 960u

struct gsi_route {
	bool used;
	uint64_t address;
	uint32_t data;
	int eventfd; /* attached; -1: none */
};

struct gsi {
	struct vm *vm;
	pthread_mutex_t lock;                    /* guards all below */
	struct gsi_route routes[GSI_ROUTES_MAX]; /* route i has GSI GSI_LINES + i */
	unsigned route_count;                    /* one more than the highest in use */
	struct kvm_irq_routing *table;
};

int gsi_init(struct gsi *g, struct vm *vm); /* 0 or -errno */
void gsi_done(struct gsi *g);

/* The functions of struct dev_env_impl; contracts there. */
void gsi_line_set(struct gsi *g, unsigned gsi, bool level);
int gsi_msi_send(struct gsi *g, uint64_t address, uint32_t data);
int gsi_ioeventfd(struct gsi *g, bool add, enum dev_space space, uint64_t addr, unsigned len,
		  const uint64_t *match, int eventfd);
int gsi_irqfd_set(struct gsi *g, int eventfd, uint64_t address, uint32_t data, int *route);
void gsi_irqfd_clear(struct gsi *g, int eventfd, int *route);

/*
 * The whole table for the routes in use, as KVM wants it: for tests. Returns
 * the number of entries.
 */
unsigned gsi_fill_table(const struct gsi *g, struct kvm_irq_routing_entry *entries);
#define GSI_TABLE_MAX (16 + GSI_LINES + GSI_ROUTES_MAX)
