/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LPC bridge, 8086:2918. Source: ICH9 datasheet (316972) 13.1, chipset
 * configuration registers 10.1.
 *
 * The pin routing registers (D25IR to D31IR) are stored, but the board's
 * routing is fixed (see pci.h); the DSDT tells the truth.
 */
#include "dev/chipset/lpc.h"

#include <stdlib.h>

#include "dev/chipset/pm.h"
#include "dev/pci/pci_regs.h"

#define PMBASE           0x40
#define PMBASE_ADDRESS   0xff80
#define ACPI_CNTL        0x44
#define ACPI_CNTL_ENABLE BIT(7)
#define PIRQ_ROUT_OFF    BIT(7)
#define GEN_PMCON_1      0xa0
#define RCBA             0xf0
#define RCBA_ENABLE      BIT(0)
#define RCBA_ADDRESS     0xffffc000u
#define RCBA_BYTES       0x4000

/* Chipset configuration registers that are stored: interrupt pins and routes. */
#define CC_FIRST      0x3100
#define CC_LAST       0x31ff
#define CC_GCS        0x3410
#define GCS_NO_REBOOT BIT(5) /* strapped: there is no TCO watchdog to reboot us */

struct lpc {
	struct pci_dev pci;
	struct dev_window rcrb;
	struct dev *pm;
	uint8_t cc[CC_LAST + 1 - CC_FIRST];
};

static const struct pci_ids lpc_ids = {
	.vendor = 0x8086,
	.device = 0x2918,
	.class_code = 0x060100,
	.revision = 2,
	.subsys_vendor = 0x1af4,
	.subsys = 0x1100,
};

static unsigned pirq_reg(unsigned pirq)
{
	return pirq < 4 ? LPC_PIRQA_ROUT + pirq : LPC_PIRQE_ROUT + pirq - 4;
}

static void pirqs_update(struct lpc *l)
{
	for (unsigned i = 0; i < PCI_PIRQS; i++) {
		uint8_t rout = l->pci.config[pirq_reg(i)];

		pci_host_route_pirq(l->pci.host, i,
				    rout & PIRQ_ROUT_OFF ? PCI_PIRQ_NOT_TO_ISA : rout & 0xf);
	}
}

static bool touches(unsigned reg, unsigned len, unsigned first, unsigned bytes)
{
	return reg < first + bytes && reg + len > first;
}

static void rcba_update(struct lpc *l)
{
	uint32_t value = load_le32(l->pci.config + RCBA);
	struct bus *bus = l->pci.dev.env->bus;

	bus_unmap(bus, &l->rcrb);
	if (value & RCBA_ENABLE) {
		bus_map(bus, &l->rcrb, value & RCBA_ADDRESS);
	}
}

static void config_written(struct pci_dev *p, unsigned reg, unsigned len)
{
	struct lpc *l = container_of(p, struct lpc, pci);

	if (touches(reg, len, PMBASE, ACPI_CNTL + 1 - PMBASE)) {
		pm_set_base(l->pm, p->config[ACPI_CNTL] & ACPI_CNTL_ENABLE
					   ? load_le16(p->config + PMBASE) & PMBASE_ADDRESS
					   : 0);
	}
	if (touches(reg, len, LPC_PIRQA_ROUT, LPC_PIRQE_ROUT + 4 - LPC_PIRQA_ROUT)) {
		pirqs_update(l);
	}
	if (touches(reg, len, RCBA, 4)) {
		rcba_update(l);
	}
}

static uint64_t lpc_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	struct lpc *l = container_of(d, struct lpc, pci.dev);
	uint64_t value = 0;

	if (offset >= CC_FIRST && offset <= CC_LAST) {
		memcpy(&value, l->cc + (offset - CC_FIRST), size);
	} else if (offset == CC_GCS) {
		value = GCS_NO_REBOOT;
	}
	return value;
}

static void lpc_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
		      unsigned size)
{
	struct lpc *l = container_of(d, struct lpc, pci.dev);

	if (offset >= CC_FIRST && offset <= CC_LAST) {
		memcpy(l->cc + (offset - CC_FIRST), &value, size);
	}
}

static void lpc_reset(struct dev *d)
{
	struct lpc *l = container_of(d, struct lpc, pci.dev);
	uint8_t *c = l->pci.config;

	store_le32(c + PMBASE, 1); /* the I/O space bit is fixed */
	c[ACPI_CNTL] = 0;
	for (unsigned i = 0; i < PCI_PIRQS; i++) {
		c[pirq_reg(i)] = PIRQ_ROUT_OFF;
	}
	store_le16(c + GEN_PMCON_1, 0);
	store_le32(c + RCBA, 0);
	memset(l->cc, 0, sizeof(l->cc));
}

static void lpc_done(struct dev *d)
{
	free(container_of(d, struct lpc, pci.dev));
}

static const struct pci_class lpc_class = {
	.dev = { .name = "lpc",
		 .done = lpc_done,
		 .reset = lpc_reset,
		 .read = lpc_read,
		 .write = lpc_write },
	.config_written = config_written,
};

void lpc_enable_acpi(struct pci_dev *lpc)
{
	pci_config_write(lpc, PMBASE, LPC_PMBASE, 4);
	pci_config_write(lpc, ACPI_CNTL, ACPI_CNTL_ENABLE, 1);
}

int lpc_new(struct pci_host *h, struct dev *pm, struct pci_dev **ret)
{
	struct lpc *l = calloc(1, sizeof(*l));
	struct pci_dev *p;
	int r;

	if (!l) {
		return -ENOMEM;
	}
	p = &l->pci;
	r = pci_dev_init(p, &lpc_class, h, LPC_DEVFN, &lpc_ids, NULL);
	if (r < 0) {
		free(l);
		return r;
	}
	l->pm = pm;
	dev_window_init(&l->rcrb, &p->dev, 0, DEV_MMIO, RCBA_BYTES, 1, 4);
	p->config[PCI_REG_HEADER_TYPE] = PCI_HEADER_MULTIFUNCTION; /* as on the chip */
	pci_config_writable(p, PMBASE, 4, PMBASE_ADDRESS);
	pci_config_writable(p, ACPI_CNTL, 1, 0x87);
	for (unsigned i = 0; i < PCI_PIRQS; i++) {
		pci_config_writable(p, pirq_reg(i), 1, 0x8f);
	}
	pci_config_writable(p, GEN_PMCON_1, 2, 0x0610);
	pci_config_writable(p, RCBA, 4, RCBA_ADDRESS | RCBA_ENABLE);
	lpc_reset(&p->dev);
	*ret = p;
	return 0;
}
