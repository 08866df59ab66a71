/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The routing table, alone and on whatever engine there is.
 */
#include "vmm/gsi.h"

#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/test.h"
#include "vmm/reset_guard.h"

static struct kvm_irq_routing_entry entries[GSI_TABLE_MAX];

static unsigned count_of(unsigned n, unsigned gsi, unsigned type, unsigned chip, unsigned pin)
{
	unsigned found = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct kvm_irq_routing_entry *e = &entries[i];

		found += e->gsi == gsi && e->type == type && e->u.irqchip.irqchip == chip &&
			 e->u.irqchip.pin == pin;
	}
	return found;
}

static void test_default_routes(struct test *t)
{
	static struct gsi g;
	unsigned n = gsi_fill_table(&g, entries);

	CHECK_EQ(t, n, 15 + 23);
	CHECK_EQ(t, count_of(n, 0, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_PIC_MASTER, 0), 1);
	CHECK_EQ(t, count_of(n, 0, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, 2), 1);
	CHECK_EQ(t, count_of(n, 4, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, 4), 1);
	CHECK_EQ(t, count_of(n, 8, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_PIC_SLAVE, 0), 1);
	CHECK_EQ(t, count_of(n, 23, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, 23), 1);
	CHECK_EQ(t, count_of(n, 2, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, 2), 0);
}

struct fixture {
	struct kvm *kvm;
	struct vm vm;
	struct gsi gsi;
};

static bool setup(struct fixture *x)
{
	char text[256];

	memset(x, 0, sizeof(*x));
	return (kvm_open(KVM_ENGINE_SOFT, text, sizeof(text), &x->kvm) == 0 ||
		kvm_open(KVM_ENGINE_KERNEL, text, sizeof(text), &x->kvm) == 0) &&
	       vm_init(&x->vm, x->kvm, text, sizeof(text)) == 0 && gsi_init(&x->gsi, &x->vm) == 0;
}

static void teardown(struct fixture *x)
{
	gsi_done(&x->gsi);
	vm_done(&x->vm);
	kvm_close(x->kvm);
}

static void test_routes_come_and_go(struct test *t)
{
	static struct fixture x;
	int fds[3], routes[3] = { -1, -1, -1 };
	unsigned n;

	if (!setup(&x)) {
		SKIP(t, "no engine on this machine");
	}
	for (int i = 0; i < 3; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		CHECK_EQ(t,
			 gsi_irqfd_set(&x.gsi, fds[i], 0xfee00000, 0x30u + (unsigned)i, &routes[i]),
			 0);
		CHECK_EQ(t, routes[i], i);
	}
	/* The message changes, the route stays. */
	CHECK_EQ(t, gsi_irqfd_set(&x.gsi, fds[1], 0xfee01000, 0x44, &routes[1]), 0);
	CHECK_EQ(t, routes[1], 1);
	n = gsi_fill_table(&x.gsi, entries);
	CHECK_EQ(t, n, 38 + 3);
	CHECK_EQ(t, entries[39].gsi, GSI_LINES + 1);
	CHECK_EQ(t, entries[39].u.msi.data, 0x44);
	CHECK_EQ(t, entries[39].u.msi.address_lo, 0xfee01000);
	/* One goes, its place is used again. */
	gsi_irqfd_clear(&x.gsi, fds[1], &routes[1]);
	CHECK_EQ(t, routes[1], -1);
	gsi_irqfd_clear(&x.gsi, fds[1], &routes[1]);
	CHECK_EQ(t, gsi_fill_table(&x.gsi, entries), 38 + 2);
	CHECK_EQ(t, gsi_irqfd_set(&x.gsi, fds[1], 0xfee00000, 0x55, &routes[1]), 0);
	CHECK_EQ(t, routes[1], 1);
	for (int i = 0; i < 3; i++) {
		gsi_irqfd_clear(&x.gsi, fds[i], &routes[i]);
		close(fds[i]);
	}
	CHECK_EQ(t, gsi_fill_table(&x.gsi, entries), 38);
	teardown(&x);
}

static void test_routes_end(struct test *t)
{
	static struct fixture x;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), route = -1;

	if (!setup(&x)) {
		SKIP(t, "no engine on this machine");
	}
	for (unsigned i = 0; i < GSI_ROUTES_MAX; i++) {
		x.gsi.routes[i] = (struct gsi_route){ .used = true, .eventfd = -1 };
	}
	x.gsi.route_count = GSI_ROUTES_MAX;
	CHECK_EQ(t, gsi_irqfd_set(&x.gsi, fd, 0xfee00000, 0x30, &route), -ENOSPC);
	CHECK_EQ(t, route, -1);
	/* A descriptor that is no eventfd: nothing is left of the route. */
	memset(x.gsi.routes, 0, sizeof(x.gsi.routes));
	x.gsi.route_count = 0;
	CHECK(t, gsi_irqfd_set(&x.gsi, 0x7fff, 0xfee00000, 0x30, &route) < 0);
	CHECK_EQ(t, route, -1);
	CHECK_EQ(t, gsi_fill_table(&x.gsi, entries), 38);
	close(fd);
	teardown(&x);
}

static void test_doorbells(struct test *t)
{
	static struct fixture x;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t match = 3;

	if (!setup(&x)) {
		SKIP(t, "no engine on this machine");
	}
	CHECK_EQ(t, gsi_ioeventfd(&x.gsi, true, DEV_MMIO, 0xd0000000, 0, NULL, fd), 0);
	CHECK_EQ(t, gsi_ioeventfd(&x.gsi, true, DEV_PIO, 0x1000, 2, &match, fd), 0);
	CHECK_EQ(t, gsi_ioeventfd(&x.gsi, true, DEV_PIO, 0x1000, 2, &match, fd), -EEXIST);
	CHECK_EQ(t, gsi_ioeventfd(&x.gsi, false, DEV_PIO, 0x1000, 2, &match, fd), 0);
	CHECK_EQ(t, gsi_ioeventfd(&x.gsi, false, DEV_PIO, 0x1000, 2, &match, fd), -ENOENT);
	CHECK_EQ(t, gsi_ioeventfd(&x.gsi, false, DEV_MMIO, 0xd0000000, 0, NULL, fd), 0);
	close(fd);
	teardown(&x);
}

static void test_reset_guard(struct test *t)
{
	struct reset_guard g = { 0 };
	ns_t now = 5;

	for (unsigned i = 0; i < RESET_GUARD_MAX; i++) {
		CHECK(t, !reset_guard_trips(&g, now += NS_PER_MS));
	}
	CHECK(t, reset_guard_trips(&g, now += NS_PER_MS));
	/* One a second, for ever, is fine. */
	now += RESET_GUARD_WINDOW_NS;
	for (unsigned i = 0; i < 5 * RESET_GUARD_MAX; i++) {
		CHECK(t, !reset_guard_trips(&g, now += NS_PER_S));
	}
}

static const struct test_case cases[] = {
	{ "default routes", test_default_routes },
	{ "routes come and go", test_routes_come_and_go },
	{ "routes end", test_routes_end },
	{ "doorbells", test_doorbells },
	{ "reset guard", test_reset_guard },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
