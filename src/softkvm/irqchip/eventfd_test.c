/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Routing, irqfds and ioeventfds.
 */
#include <sys/eventfd.h>

#include "softkvm/irqchip/testchip.h"

struct routes {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry e[4];
};

static int set_routes(struct testchip *c, struct routes *r)
{
	return irqchip_vm_ioctl(c->vm, KVM_SET_GSI_ROUTING, (uintptr_t)r);
}

static struct kvm_irq_routing_entry msi_route(uint32_t gsi, uint8_t vector)
{
	return (struct kvm_irq_routing_entry){ .gsi = gsi,
					       .type = KVM_IRQ_ROUTING_MSI,
					       .u.msi = { .address_lo = 0xfee00000u,
							  .data = vector } };
}

static struct kvm_irq_routing_entry pin_route(uint32_t gsi, uint32_t chip, uint32_t pin)
{
	return (struct kvm_irq_routing_entry){ .gsi = gsi,
					       .type = KVM_IRQ_ROUTING_IRQCHIP,
					       .u.irqchip = { .irqchip = chip, .pin = pin } };
}

static void test_routing(struct test *t)
{
	struct testchip c;
	struct routes r = { .head.nr = 1, .e[0] = msi_route(4095, 0x90) };

	testchip_open(&c, IRQCHIP_FULL, 1);
	apic_enable(&c, 0);
	CHECK_EQ(t, set_routes(&c, &r), 0);
	CHECK_EQ(t, line(&c, 4095, true), 1);
	CHECK_EQ(t, requested(&c, 0x90), 1);
	CHECK_EQ(t, (unsigned)line(&c, 4, true), (unsigned)-1); /* the defaults are gone */
	r.e[0].gsi = 4096;
	CHECK_EQ(t, set_routes(&c, &r), -EINVAL);
	r.e[0] = pin_route(1, KVM_IRQCHIP_IOAPIC, 24);
	CHECK_EQ(t, set_routes(&c, &r), -EINVAL);
	r.e[0] = pin_route(1, KVM_IRQCHIP_PIC_MASTER, 8);
	CHECK_EQ(t, set_routes(&c, &r), -EINVAL);
	r.e[0] = pin_route(1, 3, 0);
	CHECK_EQ(t, set_routes(&c, &r), -EINVAL);
	r.e[0] = msi_route(1, 0x33);
	r.e[0].flags = 8;
	CHECK_EQ(t, set_routes(&c, &r), -EINVAL);
	r.head.nr = 2; /* an MSI and a pin for one GSI */
	r.e[0] = msi_route(1, 0x33);
	r.e[1] = pin_route(1, KVM_IRQCHIP_IOAPIC, 1);
	CHECK_EQ(t, set_routes(&c, &r), -EINVAL);
	r.e[0] = pin_route(1, KVM_IRQCHIP_PIC_MASTER, 1);
	CHECK_EQ(t, set_routes(&c, &r), 0);
	r.head.flags = 1;
	CHECK_EQ(t, set_routes(&c, &r), -EINVAL);
	r.head = (struct kvm_irq_routing){ .nr = 4097 };
	CHECK_EQ(t, set_routes(&c, &r), -EINVAL);
	testchip_close(&c);
}

static void test_split(struct test *t)
{
	struct testchip c;
	struct routes r = { .head.nr = 1, .e[0] = pin_route(1, KVM_IRQCHIP_IOAPIC, 1) };
	struct kvm_irq_level level = { .irq = 1 };

	testchip_open(&c, IRQCHIP_NONE, 1);
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_IRQ_LINE, (uintptr_t)&level), -ENXIO);
	CHECK_EQ(t, set_routes(&c, &r), -EINVAL);
	testchip_close(&c);
	testchip_open(&c, IRQCHIP_SPLIT, 1);
	apic_enable(&c, 0);
	CHECK_EQ(t, set_routes(&c, &r), -EINVAL); /* no IOAPIC of ours */
	r.e[0] = msi_route(3, 0x91);
	r.e[0].u.msi.data |= BIT(15); /* level: its EOI goes to user space */
	CHECK_EQ(t, set_routes(&c, &r), 0);
	CHECK_EQ(t, line(&c, 3, true), 1);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x91);
	CHECK_EQ(t, (unsigned)irqchip_take_user_eoi(c.cpu[0]), (unsigned)-1);
	apic_put(&c, 0, APIC_EOI, 0);
	CHECK_EQ(t, irqchip_take_user_eoi(c.cpu[0]), 0x91);
	CHECK_EQ(t, (unsigned)irqchip_take_user_eoi(c.cpu[0]), (unsigned)-1);
	atomic_store(&c.cpu[0]->ext_vector, 0x45); /* KVM_INTERRUPT */
	apic_put(&c, 0, APIC_LVT0, DELIVER_EXTINT << 8);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x45);
	testchip_close(&c);
}

static int irqfd(struct testchip *c, int fd, uint32_t gsi, uint32_t flags, int resample)
{
	struct kvm_irqfd in = {
		.fd = (uint32_t)fd, .gsi = gsi, .flags = flags, .resamplefd = (uint32_t)resample
	};

	return irqchip_vm_ioctl(c->vm, KVM_IRQFD, (uintptr_t)&in);
}

static void test_irqfd(struct test *t)
{
	struct testchip c;
	AUTO_FD fd = eventfd(0, EFD_CLOEXEC);
	AUTO_FD null = dup(1);

	testchip_open(&c, IRQCHIP_FULL, 1);
	apic_enable(&c, 0);
	ioapic_entry(&c, 17, 0xa1);
	CHECK_EQ(t, irqfd(&c, 999, 17, 0, -1), -EBADF);
	CHECK_EQ(t, irqfd(&c, null, 17, 0, -1), -EINVAL);
	CHECK_EQ(t, irqfd(&c, fd, 17, BIT(7), -1), -EINVAL);
	CHECK_EQ(t, irqfd(&c, fd, 17, 0, -1), 0);
	CHECK_EQ(t, irqfd(&c, fd, 18, 0, -1), -EBUSY);
	eventfd_write(fd, 1);
	wait_requested(&c, 0, 0xa1);
	requested(&c, 0xa1);
	CHECK_EQ(t, irqfd(&c, fd, 17, KVM_IRQFD_FLAG_DEASSIGN, -1), 0);
	CHECK_EQ(t, irqfd(&c, fd, 17, KVM_IRQFD_FLAG_DEASSIGN, -1), 0);
	eventfd_write(fd, 1);
	CHECK_EQ(t, requested(&c, 0xa1), 0);
	CHECK_EQ(t, irqfd(&c, fd, 17, 0, -1), 0); /* signalled before: raised at once */
	wait_requested(&c, 0, 0xa1);
	testchip_close(&c);
}

static void test_resample(struct test *t)
{
	struct testchip c;
	AUTO_FD fd = eventfd(0, EFD_CLOEXEC);
	AUTO_FD again = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eventfd_t count;

	testchip_open(&c, IRQCHIP_SPLIT, 1);
	CHECK_EQ(t, irqfd(&c, fd, 20, KVM_IRQFD_FLAG_RESAMPLE, again), -EINVAL);
	testchip_close(&c);
	testchip_open(&c, IRQCHIP_FULL, 1);
	apic_enable(&c, 0);
	ioapic_entry(&c, 20, REDIR_LEVEL | 0xa2);
	CHECK_EQ(t, irqfd(&c, fd, 20, KVM_IRQFD_FLAG_RESAMPLE, again), 0);
	eventfd_write(fd, 1);
	wait_requested(&c, 0, 0xa2);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0xa2);
	CHECK(t, eventfd_read(again, &count) != 0);
	apic_put(&c, 0, APIC_EOI, 0);
	CHECK(t, eventfd_read(again, &count) == 0); /* "is it still up?" */
	CHECK(t, !irq_pending(c.cpu[0]));
	testchip_close(&c);
}

static int ioevent(struct testchip *c, int fd, uint64_t addr, uint32_t len, uint64_t match,
		   uint32_t flags)
{
	struct kvm_ioeventfd in = {
		.fd = fd, .addr = addr, .len = len, .datamatch = match, .flags = flags
	};
	int r;

	pthread_mutex_lock(&c->vm->lock);
	r = irqchip_vm_ioctl(c->vm, KVM_IOEVENTFD, (uintptr_t)&in);
	pthread_mutex_unlock(&c->vm->lock);
	return r;
}

static bool hit(struct testchip *c, uint64_t addr, uint32_t v, unsigned len)
{
	return irqchip_mmio_write(c->cpu[0], addr, &v, len);
}

static void test_ioeventfd(struct test *t)
{
	struct testchip c;
	AUTO_FD fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eventfd_t count;
	uint16_t word = 7;

	testchip_open(&c, IRQCHIP_NONE, 1);
	CHECK_EQ(t, ioevent(&c, fd, 0x100000, 3, 0, 0), -EINVAL);
	CHECK_EQ(t, ioevent(&c, fd, 0x100000, 4, 0, BIT(9)), -EINVAL);
	CHECK_EQ(t, ioevent(&c, fd, 0x100000, 0, 0, KVM_IOEVENTFD_FLAG_DATAMATCH), -EINVAL);
	CHECK_EQ(t, ioevent(&c, fd, UINT64_MAX, 8, 0, 0), -EINVAL);
	CHECK_EQ(t, ioevent(&c, 999, 0x100000, 4, 0, 0), -EBADF);
	CHECK_EQ(t, ioevent(&c, fd, 0x100000, 4, 5, KVM_IOEVENTFD_FLAG_DATAMATCH), 0);
	CHECK_EQ(t, ioevent(&c, fd, 0x100000, 4, 5, KVM_IOEVENTFD_FLAG_DATAMATCH), -EEXIST);
	CHECK_EQ(t, ioevent(&c, fd, 0x100000, 0, 0, 0), -EEXIST);
	CHECK_EQ(t, ioevent(&c, fd, 0x100000, 4, 6, KVM_IOEVENTFD_FLAG_DATAMATCH), 0);
	CHECK(t, hit(&c, 0x100000, 5, 4) && eventfd_read(fd, &count) == 0);
	CHECK(t, !hit(&c, 0x100000, 7, 4));
	CHECK(t, !hit(&c, 0x100000, 5, 2));
	CHECK(t, !hit(&c, 0x100004, 5, 4));
	CHECK_EQ(t, ioevent(&c, fd, 0x200000, 0, 0, 0), 0); /* any length, any value */
	CHECK(t, hit(&c, 0x200000, 99, 1) && hit(&c, 0x200000, 98, 4));
	CHECK_EQ(t, ioevent(&c, fd, 0x510, 2, 0, KVM_IOEVENTFD_FLAG_PIO), 0);
	CHECK(t, irqchip_pio_write(c.cpu[0], 0x510, &word, 2));
	CHECK(t, !hit(&c, 0x510, 0, 2));
	CHECK_EQ(t, ioevent(&c, fd, 0x510, 2, 0, KVM_IOEVENTFD_FLAG_DEASSIGN), -ENOENT);
	CHECK_EQ(t,
		 ioevent(&c, fd, 0x510, 2, 0, KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN),
		 0);
	CHECK(t, !irqchip_pio_write(c.cpu[0], 0x510, &word, 2));
	testchip_close(&c);
}

static const struct test_case cases[] = {
	{ "routing", test_routing },     { "split irqchip", test_split },
	{ "irqfd", test_irqfd },         { "irqfd with resampling", test_resample },
	{ "ioeventfd", test_ioeventfd }, { 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
