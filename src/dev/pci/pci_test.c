/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dev/pci/pci.h"

#include <stdlib.h>

#include "base/test.h"
#include "dev/pci/pci_regs.h"
#include "dev/testbus.h"

#define ECAM  0xb0000000ull
#define DEVFN (5 << 3)

struct card {
	struct pci_dev pci;
	uint8_t byte[4096];
	unsigned config_writes, resets;
};

static void card_done(struct dev *d)
{
	free(container_of(d, struct card, pci.dev));
}

static void card_reset(struct dev *d)
{
	container_of(d, struct card, pci.dev)->resets++;
}

static uint64_t card_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	struct card *c = container_of(d, struct card, pci.dev);
	uint64_t v = 0;

	memcpy(&v, c->byte + offset, size);
	return v | (uint64_t)window << 56;
}

static void card_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
		       unsigned size)
{
	struct card *c = container_of(d, struct card, pci.dev);

	memcpy(c->byte + offset, &value, size);
}

static void card_config_written(struct pci_dev *p, unsigned reg, unsigned len)
{
	container_of(p, struct card, pci)->config_writes++;
}

static const struct pci_class card_class = {
	.dev = { .name = "card",
		 .done = card_done,
		 .reset = card_reset,
		 .read = card_read,
		 .write = card_write },
	.config_written = card_config_written,
};

static const struct pci_ids card_ids = { 0x1234, 0x5678, 0x9abc, 0xdef0, 0x010203, 7 };

struct fixture {
	struct testbus *bus;
	struct pci_host *host;
	struct card *card;
};

static struct card *card_new(struct pci_host *h, int devfn, int *r)
{
	struct card *c = calloc(1, sizeof(*c));

	*r = pci_dev_init(&c->pci, &card_class, h, devfn, &card_ids, NULL);
	if (*r < 0) {
		free(c);
		return NULL;
	}
	return c;
}

/* A card with an I/O BAR 0, a 32-bit BAR 1 with 4 MSI-X vectors, a 64-bit BAR 4, MSI, INTA#. */
static void setup(struct fixture *f, bool irqfd)
{
	int r;

	f->bus = testbus_new(0);
	f->bus->have_irqfd = irqfd;
	pci_host_new(&f->bus->env, ECAM, 256, &f->host);
	f->card = card_new(f->host, DEVFN, &r);
	pci_bar_add(&f->card->pci, 0, PCI_BAR_IO, 32, 1, 4);
	pci_bar_add(&f->card->pci, 1, PCI_BAR_MEM32, 4096, 1, 8);
	pci_bar_add(&f->card->pci, 4, PCI_BAR_MEM64_PREFETCH, 16384, 1, 8);
	pci_msix_init(&f->card->pci, 4, 1, 2048);
	pci_msi_init(&f->card->pci);
	pci_express_init(&f->card->pci);
	pci_intx_init(&f->card->pci, 0);
}

static void teardown(struct fixture *f)
{
	pci_host_free(f->host);
	testbus_free(f->bus);
}

static uint32_t rd(struct fixture *f, unsigned reg, unsigned size)
{
	return testbus_config_read(f->bus, DEVFN, reg, size);
}

static void wr(struct fixture *f, unsigned reg, uint32_t value, unsigned size)
{
	testbus_config_write(f->bus, DEVFN, reg, value, size);
}

static unsigned find_cap(struct fixture *f, uint8_t id)
{
	unsigned at = rd(f, PCI_REG_CAP_LIST, 1);

	while (at && rd(f, at, 1) != id) {
		at = rd(f, at + 1, 1);
	}
	return at;
}

static void test_header(struct test *t)
{
	struct fixture f;

	setup(&f, false);
	CHECK_EQ(t, rd(&f, 0, 4), 0x56781234);
	CHECK_EQ(t, rd(&f, 8, 4), 0x01020307);
	CHECK_EQ(t, rd(&f, 0x2c, 4), 0xdef09abc);
	CHECK_EQ(t, rd(&f, 0x2f, 1), 0xde);
	CHECK_EQ(t, rd(&f, PCI_REG_INT_PIN, 1), 1);
	CHECK_EQ(t, rd(&f, PCI_REG_STATUS, 2), PCI_STATUS_CAP_LIST);
	wr(&f, 0, 0xffffffff, 4);
	CHECK_EQ(t, rd(&f, 0, 4), 0x56781234);
	wr(&f, PCI_REG_COMMAND, 0xffff, 2);
	CHECK_EQ(t, rd(&f, PCI_REG_COMMAND, 2), PCI_COMMAND_WRITABLE);
	wr(&f, PCI_REG_INT_LINE, 0x5a, 1);
	CHECK_EQ(t, rd(&f, PCI_REG_INT_LINE, 1), 0x5a);
	/* No device, no bus, no enable bit. */
	CHECK_EQ(t, testbus_config_read(f.bus, DEVFN + 1, 0, 4), 0xffffffff);
	CHECK_EQ(t, testbus_config_read(f.bus, 0x100 | DEVFN, 0, 4), 0xffffffff);
	testbus_outl(f.bus, 0xcf8, DEVFN << 8);
	CHECK_EQ(t, testbus_inl(f.bus, 0xcfc), 0xffffffff);
	CHECK_EQ(t, testbus_inl(f.bus, 0xcf8), DEVFN << 8);
	testbus_outb(f.bus, 0xcf8, 0xff); /* not a dword: no effect */
	CHECK_EQ(t, testbus_inl(f.bus, 0xcf8), DEVFN << 8);
	CHECK_EQ(t, testbus_inb(f.bus, 0xcf8), 0xff);
	teardown(&f);
}

static void test_ecam(struct test *t)
{
	struct fixture f;
	uint64_t at = ECAM + (DEVFN << 12);

	setup(&f, false);
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, at, 4), 0x56781234);
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, at + 2, 2), 0x5678);
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, at, 8), 0x0010000056781234);
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, at + 0x100, 4), 0);
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, at + MIB(1), 4), 0xffffffff);
	testbus_write(f.bus, DEV_MMIO, at + PCI_REG_COMMAND, PCI_COMMAND_MASTER, 1);
	CHECK(t, pci_dma_allowed(&f.card->pci));
	pci_host_set_ecam(f.host, 0xe0000000, 64);
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, at, 4), 0xffffffff);
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, 0xe0000000 + (DEVFN << 12), 2), 0x1234);
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, 0xe4000000 + (DEVFN << 12), 2), 0xffff);
	teardown(&f);
}

static void test_bars(struct test *t)
{
	struct fixture f;

	setup(&f, false);
	wr(&f, 0x10, 0xffffffff, 4);
	CHECK_EQ(t, rd(&f, 0x10, 4), 0xffffffe1);
	wr(&f, 0x14, 0xffffffff, 4);
	CHECK_EQ(t, rd(&f, 0x14, 4), 0xfffff000);
	wr(&f, 0x20, 0xffffffff, 4);
	wr(&f, 0x24, 0xffffffff, 4);
	CHECK_EQ(t, rd(&f, 0x20, 4), 0xffffc00c);
	CHECK_EQ(t, rd(&f, 0x24, 4), 0xffffffff);
	CHECK_EQ(t, rd(&f, 0x18, 4), 0); /* not there */
	/* Sizing with decoding on maps nothing. */
	wr(&f, PCI_REG_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY, 2);
	CHECK_EQ(t, pci_bar_address(&f.card->pci, 0), ~0ull);
	CHECK_EQ(t, pci_bar_address(&f.card->pci, 1), ~0ull);
	CHECK_EQ(t, pci_bar_address(&f.card->pci, 4), ~0ull);
	wr(&f, 0x10, 0xc001, 4);
	wr(&f, 0x14, 0xfe000000, 4);
	wr(&f, 0x20, 0x40000000, 4);
	wr(&f, 0x24, 0x80, 4);
	f.card->byte[3] = 0x77;
	CHECK_EQ(t, testbus_inb(f.bus, 0xc003), 0x77);
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, 0xfe000003, 1), 0x77);
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, 0x8040000000, 8), 0x0400000077000000);
	/* Moves; each kind has its own switch. */
	wr(&f, 0x10, 0xd000, 2);
	CHECK_EQ(t, testbus_inb(f.bus, 0xc003), 0xff);
	CHECK_EQ(t, testbus_inb(f.bus, 0xd003), 0x77);
	wr(&f, PCI_REG_COMMAND, PCI_COMMAND_MEMORY, 2);
	CHECK_EQ(t, testbus_inb(f.bus, 0xd003), 0xff);
	CHECK_EQ(t, pci_bar_address(&f.card->pci, 1), 0xfe000000);
	CHECK(t, f.card->config_writes > 0);
	pci_host_reset(f.host);
	CHECK_EQ(t, f.card->resets, 1);
	CHECK_EQ(t, rd(&f, 0x20, 4), 0xc);
	CHECK_EQ(t, rd(&f, PCI_REG_COMMAND, 2), 0);
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, 0xfe000003, 1), 0xff);
	teardown(&f);
}

static void test_slots(struct test *t)
{
	struct fixture f;
	struct card *c;
	int r;

	setup(&f, false);
	c = card_new(f.host, DEVFN, &r);
	CHECK_EQ(t, r, -EBUSY);
	c = card_new(f.host, -1, &r);
	CHECK_EQ(t, c->pci.devfn, 1 << 3);
	CHECK_EQ(t, rd(&f, PCI_REG_HEADER_TYPE, 1), 0);
	c = card_new(f.host, DEVFN | 3, &r);
	CHECK_EQ(t, rd(&f, PCI_REG_HEADER_TYPE, 1), PCI_HEADER_MULTIFUNCTION);
	pci_dev_remove(&c->pci);
	CHECK(t, !pci_host_dev(f.host, DEVFN | 3));
	r = 0;
	for (unsigned i = 0; i < 31 && r == 0; i++) {
		card_new(f.host, -1, &r);
	}
	CHECK_EQ(t, r, -ENOSPC);
	teardown(&f);
}

static void test_caps(struct test *t)
{
	struct fixture f;
	unsigned at;

	setup(&f, false);
	at = find_cap(&f, PCI_CAP_EXPRESS);
	CHECK_EQ(t, rd(&f, at + 2, 2), 0x92);
	CHECK(t, find_cap(&f, PCI_CAP_MSIX) != 0 && find_cap(&f, PCI_CAP_MSI) != 0);
	at = find_cap(&f, PCI_CAP_MSIX);
	CHECK_EQ(t, rd(&f, at + PCI_MSIX_CONTROL, 2), 3);
	CHECK_EQ(t, rd(&f, at + PCI_MSIX_TABLE, 4), 2048 | 1);
	CHECK_EQ(t, rd(&f, at + PCI_MSIX_PBA, 4), (2048 + 64) | 1);
	CHECK_EQ(t, pci_cap_add(&f.card->pci, PCI_CAP_VENDOR, 200), -ENOSPC);
	while (pci_cap_add(&f.card->pci, PCI_CAP_VENDOR, 4) > 0) {
	}
	CHECK_EQ(t, find_cap(&f, 0x55), 0); /* the list ends */
	teardown(&f);
}

static void test_intx(struct test *t)
{
	struct fixture f;
	unsigned gsi = PCI_GSI_FIRST + 5;
	struct card *other;
	int r;

	setup(&f, false);
	pci_intx_set(&f.card->pci, true);
	CHECK(t, f.bus->irq_level[gsi]);
	CHECK_EQ(t, rd(&f, PCI_REG_STATUS, 2) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
	CHECK_EQ(t, rd(&f, PCI_REG_COMMAND, 4) >> 16 & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
	wr(&f, PCI_REG_COMMAND, PCI_COMMAND_INTX_DISABLE, 2);
	CHECK(t, !f.bus->irq_level[gsi]);
	CHECK_EQ(t, rd(&f, PCI_REG_STATUS, 1) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
	wr(&f, PCI_REG_COMMAND, 0, 2);
	CHECK(t, f.bus->irq_level[gsi]);
	/* Shared: slot 12, INTB# is (12 + 1) & 7 = 5 too. */
	other = card_new(f.host, 12 << 3, &r);
	pci_intx_init(&other->pci, 1);
	pci_intx_set(&other->pci, true);
	pci_intx_set(&f.card->pci, false);
	CHECK(t, f.bus->irq_level[gsi]);
	/* To the ISA side as well. */
	pci_host_route_pirq(f.host, 5, 11);
	CHECK(t, f.bus->irq_level[11]);
	pci_host_route_pirq(f.host, 5, 10);
	CHECK(t, !f.bus->irq_level[11] && f.bus->irq_level[10]);
	pci_host_reset(f.host);
	CHECK(t, !f.bus->irq_level[gsi] && !f.bus->irq_level[10]);
	teardown(&f);
}

static void enable_msix(struct fixture *f)
{
	wr(f, 0x14, 0xfe000000, 4);
	wr(f, PCI_REG_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	wr(f, find_cap(f, PCI_CAP_MSIX) + PCI_MSIX_CONTROL, PCI_MSIX_ENABLE, 2);
}

static void set_vector(struct fixture *f, unsigned v, uint64_t address, uint32_t data, bool mask)
{
	uint64_t at = 0xfe000000 + 2048 + v * PCI_MSIX_ENTRY_BYTES;

	testbus_write(f->bus, DEV_MMIO, at, address, 8);
	testbus_write(f->bus, DEV_MMIO, at + 8, data, 4);
	testbus_write(f->bus, DEV_MMIO, at + 12, mask, 4);
}

static uint64_t pba(struct fixture *f)
{
	return testbus_read(f->bus, DEV_MMIO, 0xfe000000 + 2048 + 64, 8);
}

static void test_msix(struct test *t)
{
	struct fixture f;
	unsigned control;

	setup(&f, false);
	control = find_cap(&f, PCI_CAP_MSIX) + PCI_MSIX_CONTROL;
	pci_msix_notify(&f.card->pci, 0); /* off: nothing */
	enable_msix(&f);
	CHECK_EQ(t, rd(&f, control, 2), PCI_MSIX_ENABLE | 3);
	/* The table's window hides the BAR there; vectors come up masked. */
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, 0xfe000000 + 2048 + 12, 4), 1);
	CHECK_EQ(t, pba(&f), 0);
	pci_msix_notify(&f.card->pci, 2);
	CHECK(t, !testbus_last_msi(f.bus));
	CHECK_EQ(t, pba(&f), 4);
	set_vector(&f, 2, 0xfee01004, 0x41, false);
	CHECK_EQ(t, f.bus->msi[0].data, 0x41);
	CHECK_EQ(t, testbus_last_msi(f.bus)->address, 0xfee01004);
	CHECK_EQ(t, pba(&f), 0);
	CHECK_EQ(t, testbus_read(f.bus, DEV_MMIO, 0xfe000000 + 2048 + 32, 8), 0xfee01004);
	/* Function mask. */
	wr(&f, control, PCI_MSIX_ENABLE | PCI_MSIX_FUNCTION_MASK, 2);
	pci_msix_notify(&f.card->pci, 2);
	CHECK_EQ(t, pba(&f), 4);
	wr(&f, control, PCI_MSIX_ENABLE, 2);
	CHECK(t, testbus_last_msi(f.bus));
	/* No bus mastering: a message is a memory write. */
	wr(&f, PCI_REG_COMMAND, PCI_COMMAND_MEMORY, 2);
	pci_msix_notify(&f.card->pci, 2);
	CHECK(t, !testbus_last_msi(f.bus));
	wr(&f, PCI_REG_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	CHECK(t, testbus_last_msi(f.bus));
	/* A vector that is not there; INTx stays quiet. */
	pci_msix_notify(&f.card->pci, 4);
	pci_intx_set(&f.card->pci, true);
	CHECK(t, !testbus_last_msi(f.bus) && !f.bus->irq_level[PCI_GSI_FIRST + 5]);
	wr(&f, control, 0, 2);
	CHECK(t, f.bus->irq_level[PCI_GSI_FIRST + 5]);
	CHECK(t, !pci_msix_enabled(&f.card->pci));
	teardown(&f);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one)) {
		abort();
	}
}

static void check_eventfd(struct test *t, bool irqfd)
{
	struct fixture f;
	int fd;

	setup(&f, irqfd);
	enable_msix(&f);
	fd = pci_msix_eventfd(&f.card->pci, 1);
	CHECK(t, fd >= 0 && fd == pci_msix_eventfd(&f.card->pci, 1));
	CHECK_EQ(t, pci_msix_eventfd(&f.card->pci, 4), -1);
	signal_fd(fd); /* masked: pends */
	CHECK(t, !testbus_last_msi(f.bus));
	CHECK_EQ(t, pba(&f), 2);
	set_vector(&f, 1, 0xfee00000, 0x51, false);
	CHECK_EQ(t, testbus_last_msi(f.bus)->data, 0x51);
	signal_fd(fd);
	CHECK_EQ(t, testbus_last_msi(f.bus)->data, 0x51);
	CHECK_EQ(t, f.bus->irqfd[0].eventfd, irqfd ? fd : -1);
	set_vector(&f, 1, 0xfee00000, 0x52, false);
	signal_fd(fd);
	CHECK_EQ(t, testbus_last_msi(f.bus)->data, 0x52);
	set_vector(&f, 1, 0xfee00000, 0x53, true);
	signal_fd(fd);
	CHECK(t, !testbus_last_msi(f.bus));
	set_vector(&f, 1, 0xfee00000, 0x53, false);
	CHECK_EQ(t, testbus_last_msi(f.bus)->data, 0x53);
	CHECK(t, !testbus_last_msi(f.bus));
	/* Off, signalled, on again: it does not count. */
	wr(&f, find_cap(&f, PCI_CAP_MSIX) + PCI_MSIX_CONTROL, 0, 2);
	CHECK_EQ(t, f.bus->irqfd[0].eventfd, -1);
	signal_fd(fd);
	wr(&f, find_cap(&f, PCI_CAP_MSIX) + PCI_MSIX_CONTROL, PCI_MSIX_ENABLE, 2);
	CHECK(t, !testbus_last_msi(f.bus));
	signal_fd(fd);
	CHECK(t, testbus_last_msi(f.bus));
	pci_host_reset(f.host);
	signal_fd(fd);
	CHECK(t, !testbus_last_msi(f.bus));
	teardown(&f);
}

static void test_eventfd_irqfd(struct test *t)
{
	check_eventfd(t, true);
}

static void test_eventfd_loop(struct test *t)
{
	check_eventfd(t, false);
}

static void test_msi(struct test *t)
{
	struct fixture f;
	unsigned cap;

	setup(&f, false);
	cap = find_cap(&f, PCI_CAP_MSI);
	wr(&f, PCI_REG_COMMAND, PCI_COMMAND_MASTER, 2);
	wr(&f, cap + PCI_MSI_ADDRESS, 0xfee0300f, 4);
	wr(&f, cap + PCI_MSI_DATA, 0x61, 2);
	pci_msi_notify(&f.card->pci);
	CHECK(t, !testbus_last_msi(f.bus));
	wr(&f, cap + PCI_MSI_CONTROL, 0xffff, 2);
	CHECK_EQ(t, rd(&f, cap + PCI_MSI_CONTROL, 2),
		 PCI_MSI_ENABLE | PCI_MSI_64BIT | PCI_MSI_MASKABLE);
	pci_msi_notify(&f.card->pci);
	CHECK_EQ(t, f.bus->msi[0].data, 0x61);
	CHECK_EQ(t, testbus_last_msi(f.bus)->address, 0xfee0300c);
	wr(&f, cap + PCI_MSI_MASK, ~0u, 4);
	pci_msi_notify(&f.card->pci);
	CHECK(t, !testbus_last_msi(f.bus));
	CHECK_EQ(t, rd(&f, cap + PCI_MSI_PENDING, 4), 1);
	wr(&f, cap + PCI_MSI_MASK, 0, 4);
	CHECK(t, testbus_last_msi(f.bus));
	CHECK_EQ(t, rd(&f, cap + PCI_MSI_PENDING, 4), 0);
	pci_host_reset(f.host);
	CHECK(t, !pci_msi_enabled(&f.card->pci));
	CHECK_EQ(t, rd(&f, cap + PCI_MSI_ADDRESS, 4), 0);
	teardown(&f);
}

static void test_reset_control(struct test *t)
{
	struct fixture f;

	setup(&f, false);
	testbus_outb(f.bus, 0xcf9, 0x02);
	CHECK_EQ(t, f.bus->requests[DEV_REQUEST_RESET], 0);
	testbus_outb(f.bus, 0xcf9, 0x06);
	CHECK_EQ(t, f.bus->requests[DEV_REQUEST_RESET], 1);
	CHECK_EQ(t, testbus_inb(f.bus, 0xcf9), 0x06);
	testbus_outb(f.bus, 0xcf9, 0x06); /* only the edge counts */
	CHECK_EQ(t, f.bus->requests[DEV_REQUEST_RESET], 1);
	teardown(&f);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "header", test_header },
		{ "ecam", test_ecam },
		{ "bars", test_bars },
		{ "slots", test_slots },
		{ "capabilities", test_caps },
		{ "intx", test_intx },
		{ "msix", test_msix },
		{ "eventfd by irqfd", test_eventfd_irqfd },
		{ "eventfd by the loop", test_eventfd_loop },
		{ "msi", test_msi },
		{ "reset control", test_reset_control },
		{ 0 },
	};

	return test_main(argc, argv, cases);
}
