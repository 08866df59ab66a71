/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Power management, with the LPC bridge that places it, the MCH and the single ports. */
#include "dev/chipset/pm.h"

#include <stdlib.h>

#include "base/test.h"
#include "dev/chipset/lpc.h"
#include "dev/chipset/mch.h"
#include "dev/chipset/ports.h"
#include "dev/testbus.h"

#define PM      0x600
#define HALF_NS ((ns_t)((1ull << 23) * NS_PER_S / PM_TIMER_HZ)) /* bit 23 changes so often */

struct fixture {
	struct testbus *b;
	struct dev *pm, *ports;
	struct pci_host *host;
	struct pci_dev *mch, *lpc;
};

static void setup(struct fixture *f)
{
	f->b = testbus_new(0);
	if (pm_new(&f->b->env, &f->pm) < 0 || pci_host_new(&f->b->env, 0, 0, &f->host) < 0 ||
	    mch_new(f->host, &f->mch) < 0 || lpc_new(f->host, f->pm, &f->lpc) < 0 ||
	    ports_new(&f->b->env, true, &f->ports) < 0) {
		abort();
	}
	lpc_enable_acpi(f->lpc);
}

static void teardown(struct fixture *f)
{
	pci_host_free(f->host);
	dev_free(f->pm);
	dev_free(f->ports);
	testbus_free(f->b);
}

static void test_identity(struct test *t)
{
	struct fixture f;

	setup(&f);
	CHECK_EQ(t, testbus_config_read(f.b, 0, 0, 4), 0x29c08086);
	CHECK_EQ(t, testbus_config_read(f.b, LPC_DEVFN, 0, 4), 0x29188086);
	CHECK_EQ(t, testbus_config_read(f.b, LPC_DEVFN, 0x40, 4), PM | 1);
	CHECK_EQ(t, testbus_config_read(f.b, LPC_DEVFN, 0x60, 4), 0x80808080);
	teardown(&f);
}

static void test_pm_base(struct test *t)
{
	struct fixture f;

	setup(&f);
	testbus_outw(f.b, PM + PM1_EN, 0x0100);
	testbus_config_write(f.b, LPC_DEVFN, 0x40, 0xb000, 4);
	CHECK_EQ(t, testbus_inw(f.b, PM + PM1_EN), 0xffff);
	CHECK_EQ(t, testbus_inw(f.b, 0xb000 + PM1_EN), 0x0100);
	testbus_config_write(f.b, LPC_DEVFN, 0x44, 0, 1);
	CHECK_EQ(t, testbus_inw(f.b, 0xb000 + PM1_EN), 0xffff);
	teardown(&f);
}

static void test_timer(struct test *t)
{
	struct fixture f;
	uint32_t start;

	setup(&f);
	start = testbus_inl(f.b, PM + PM_TMR);
	testbus_advance(f.b, NS_PER_S);
	CHECK_EQ(t, testbus_inl(f.b, PM + PM_TMR) - start, PM_TIMER_HZ);
	testbus_advance(f.b, 4 * NS_PER_S);
	CHECK_EQ(t, testbus_inl(f.b, PM + PM_TMR), 5 * PM_TIMER_HZ - (1 << 24)); /* 24 bits */
	CHECK_EQ(t, testbus_inw(f.b, PM + PM1_STS) & 1, 1);
	testbus_outw(f.b, PM + PM1_STS, 1);
	CHECK_EQ(t, testbus_inw(f.b, PM + PM1_STS) & 1, 0);
	/* With the interrupt on, the SCI comes by itself. */
	testbus_outw(f.b, PM + PM1_EN, 1);
	testbus_outw(f.b, PM + PM1_CNT, 1);
	CHECK(t, !f.b->irq_level[9]);
	testbus_advance(f.b, HALF_NS + 1);
	CHECK(t, f.b->irq_level[9]);
	testbus_outw(f.b, PM + PM1_STS, 1);
	CHECK(t, !f.b->irq_level[9]);
	testbus_advance(f.b, HALF_NS + 1);
	CHECK(t, f.b->irq_level[9]);
	teardown(&f);
}

static void test_power_button(struct test *t)
{
	struct fixture f;

	setup(&f);
	testbus_outw(f.b, PM + PM1_EN, 0x0120);
	CHECK_EQ(t, testbus_inw(f.b, PM + PM1_CNT) & 1, 0);
	testbus_outb(f.b, PM_APM_PORT, PM_APM_ACPI_ENABLE); /* as the OS takes over */
	CHECK_EQ(t, testbus_inw(f.b, PM + PM1_CNT) & 1, 1);
	pm_power_button(f.pm);
	CHECK(t, f.b->irq_level[9]);
	CHECK_EQ(t, testbus_inw(f.b, PM + PM1_STS) & 0x100, 0x100);
	testbus_outb(f.b, PM + PM1_STS, 0xff); /* the other half */
	CHECK(t, f.b->irq_level[9]);
	testbus_outb(f.b, PM + PM1_STS + 1, 0x01);
	CHECK(t, !f.b->irq_level[9]);
	pm_power_button(f.pm);
	testbus_outb(f.b, PM_APM_PORT, PM_APM_ACPI_DISABLE);
	CHECK(t, !f.b->irq_level[9]);
	teardown(&f);
}

static void test_sleep(struct test *t)
{
	struct fixture f;

	setup(&f);
	testbus_outw(f.b, PM + PM1_CNT, 7 << 10); /* no SLP_EN */
	CHECK_EQ(t, f.b->requests[DEV_REQUEST_POWEROFF], 0);
	testbus_outw(f.b, PM + PM1_CNT, 7 << 10 | 1 << 13);
	CHECK_EQ(t, f.b->requests[DEV_REQUEST_POWEROFF], 1);
	CHECK_EQ(t, testbus_inw(f.b, PM + PM1_CNT), 7 << 10); /* SLP_EN reads 0 */
	testbus_outw(f.b, PM + PM1_CNT, 0x2000);
	CHECK_EQ(t, f.b->requests[DEV_REQUEST_POWEROFF], 2);
	testbus_outw(f.b, PM + PM1_CNT, 5 << 10 | 1 << 13);
	CHECK_EQ(t, f.b->requests[DEV_REQUEST_SUSPEND], 1);
	teardown(&f);
}

static void test_gpe(struct test *t)
{
	struct fixture f;

	setup(&f);
	testbus_outl(f.b, PM + PM_GPE0_EN, 0x12345678);
	testbus_outb(f.b, PM + PM_GPE0_EN + 7, 0x9a);
	CHECK_EQ(t, testbus_inl(f.b, PM + PM_GPE0_EN), 0x12345678);
	CHECK_EQ(t, testbus_inl(f.b, PM + PM_GPE0_EN + 4), 0x9a000000);
	CHECK_EQ(t, testbus_inl(f.b, PM + PM_GPE0_STS), 0);
	testbus_outl(f.b, PM + PM_SMI_EN, 0xffffffff);
	CHECK_EQ(t, testbus_inl(f.b, PM + PM_SMI_EN), 0x0006607f);
	dev_reset(f.pm);
	CHECK_EQ(t, testbus_inl(f.b, PM + PM_GPE0_EN), 0);
	teardown(&f);
}

static void test_ports(struct test *t)
{
	struct fixture f;

	setup(&f);
	CHECK_EQ(t, testbus_inb(f.b, 0x92), 0x02);
	testbus_outb(f.b, 0x92, 0x00); /* A20 cannot be closed */
	CHECK_EQ(t, testbus_inb(f.b, 0x92) & 2, 2);
	testbus_outb(f.b, 0x92, 0x03);
	CHECK_EQ(t, f.b->requests[DEV_REQUEST_RESET], 1);
	testbus_outl(f.b, 0xf4, 0x1234);
	CHECK_EQ(t, f.b->requests[DEV_REQUEST_DEBUG_EXIT], 1);
	CHECK_EQ(t, f.b->request_value, 0x1234);
	teardown(&f);
}

static void test_pirq(struct test *t)
{
	struct fixture f;

	setup(&f);
	pci_intx_init(f.lpc, 2); /* slot 31, INTC#: (31 + 2) & 7 = 1 */
	pci_intx_set(f.lpc, true);
	CHECK(t, f.b->irq_level[PCI_GSI_FIRST + 1]);
	testbus_config_write(f.b, LPC_DEVFN, LPC_PIRQA_ROUT + 1, 11, 1);
	CHECK(t, f.b->irq_level[11]);
	testbus_config_write(f.b, LPC_DEVFN, LPC_PIRQA_ROUT + 1, 0x8b, 1);
	CHECK(t, !f.b->irq_level[11]);
	teardown(&f);
}

static void test_pciexbar(struct test *t)
{
	struct fixture f;

	setup(&f);
	mch_set_pciexbar(f.mch, 0xb0000000);
	CHECK_EQ(t, testbus_read(f.b, DEV_MMIO, 0xb0000000, 4), 0x29c08086);
	testbus_config_write(f.b, 0, 0x60, 0xe0000005, 4); /* 64 buses */
	CHECK_EQ(t, testbus_read(f.b, DEV_MMIO, 0xb0000000, 4), 0xffffffff);
	CHECK_EQ(t, testbus_read(f.b, DEV_MMIO, 0xe0000000, 4), 0x29c08086);
	testbus_config_write(f.b, 0, 0x60, 0xe0000007, 4); /* reserved length */
	CHECK_EQ(t, testbus_read(f.b, DEV_MMIO, 0xe0000000, 4), 0xffffffff);
	/* The bridge may unmap itself through its own window. */
	mch_set_pciexbar(f.mch, 0xb0000000);
	testbus_write(f.b, DEV_MMIO, 0xb0000060, 0, 4);
	CHECK_EQ(t, testbus_read(f.b, DEV_MMIO, 0xb0000000, 4), 0xffffffff);
	pci_host_reset(f.host);
	CHECK_EQ(t, testbus_config_read(f.b, 0, 0x60, 4), 0);
	teardown(&f);
}

static void test_rcba(struct test *t)
{
	struct fixture f;

	setup(&f);
	testbus_config_write(f.b, LPC_DEVFN, 0xf0, LPC_RCBA | 1, 4);
	CHECK_EQ(t, testbus_read(f.b, DEV_MMIO, LPC_RCBA + 0x3410, 4), 0x20);
	testbus_write(f.b, DEV_MMIO, LPC_RCBA + 0x3140, 0x3210, 2);
	CHECK_EQ(t, testbus_read(f.b, DEV_MMIO, LPC_RCBA + 0x3140, 4), 0x3210);
	pci_host_reset(f.host);
	CHECK_EQ(t, testbus_read(f.b, DEV_MMIO, LPC_RCBA + 0x3140, 4), 0xffffffff);
	teardown(&f);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "identity", test_identity },
		{ "pm base", test_pm_base },
		{ "timer", test_timer },
		{ "power button", test_power_button },
		{ "sleep", test_sleep },
		{ "gpe", test_gpe },
		{ "ports", test_ports },
		{ "pirq", test_pirq },
		{ "pciexbar", test_pciexbar },
		{ "rcba", test_rcba },
		{ 0 },
	};

	return test_main(argc, argv, cases);
}
