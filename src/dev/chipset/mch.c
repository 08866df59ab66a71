/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MCH, 8086:29c0. Source: Intel 3 Series chipset datasheet (319970), 5.1: the
 * PCI Express register range base address. Shadow memory (PAM) and SMRAM
 * registers are stored for firmware that writes them; RAM is always there.
 */
#include "dev/chipset/mch.h"

#include <stdlib.h>

#include "dev/pci/pci_regs.h"

#define PCIEXBAR          0x60
#define PCIEXBAR_ENABLE   BIT64(0)
#define PCIEXBAR_LENGTH   (BIT64(1) | BIT64(2))
#define PCIEXBAR_ADDRESS  0xff0000000ull /* bits 35..28, more with fewer buses */
#define PCIEXBAR_ADDR_128 BIT64(27)
#define PCIEXBAR_ADDR_64  BIT64(26)
#define PAM0              0x90
#define PAM_COUNT         7
#define SMRAM             0x9d
#define SMRAM_DEFAULT     0x02
#define ESMRAMC           0x9e

static const struct pci_ids mch_ids = {
	.vendor = 0x8086,
	.device = 0x29c0,
	.class_code = 0x060000,
	.subsys_vendor = 0x1af4,
	.subsys = 0x1100,
};

/* Follow the register: length 0..2 is 256, 128 or 64 buses; 3 is reserved. */
static void config_written(struct pci_dev *p, unsigned reg, unsigned len)
{
	static const uint16_t buses[4] = { 256, 128, 64, 0 };
	static const uint64_t bits[4] = { PCIEXBAR_ADDRESS, PCIEXBAR_ADDRESS | PCIEXBAR_ADDR_128,
					  PCIEXBAR_ADDRESS | PCIEXBAR_ADDR_128 | PCIEXBAR_ADDR_64,
					  0 };
	uint64_t value = load_le64(p->config + PCIEXBAR);
	unsigned length = (value & PCIEXBAR_LENGTH) >> 1;

	if (reg >= PCIEXBAR + 8 || reg + len <= PCIEXBAR) {
		return;
	}
	/* In 36 bits the range cannot wrap; without memory for the mapping it is just not there. */
	pci_host_set_ecam(p->host, value & bits[length],
			  value & PCIEXBAR_ENABLE ? buses[length] : 0);
}

static void mch_reset(struct dev *d)
{
	struct pci_dev *p = container_of(d, struct pci_dev, dev);

	store_le64(p->config + PCIEXBAR, 0);
	memset(p->config + PAM0, 0, PAM_COUNT);
	p->config[SMRAM] = SMRAM_DEFAULT;
	p->config[ESMRAMC] = 0;
}

static void mch_done(struct dev *d)
{
	free(container_of(d, struct pci_dev, dev));
}

static const struct pci_class mch_class = {
	.dev = { .name = "mch", .done = mch_done, .reset = mch_reset },
	.config_written = config_written,
};

void mch_set_pciexbar(struct pci_dev *mch, uint64_t base)
{
	pci_config_write(mch, PCIEXBAR + 4, (uint32_t)(base >> 32), 4);
	pci_config_write(mch, PCIEXBAR, (uint32_t)(base | PCIEXBAR_ENABLE), 4);
}

int mch_new(struct pci_host *h, struct pci_dev **ret)
{
	struct pci_dev *p = calloc(1, sizeof(*p));
	int r;

	if (!p) {
		return -ENOMEM;
	}
	r = pci_dev_init(p, &mch_class, h, 0, &mch_ids, NULL);
	if (r < 0) {
		free(p);
		return r;
	}
	pci_config_writable(p, PCIEXBAR, 4, 0xfc000007);
	pci_config_writable(p, PCIEXBAR + 4, 4, 0xf);
	for (unsigned i = 0; i < PAM_COUNT; i++) {
		pci_config_writable(p, PAM0 + i, 1, i ? 0x33 : 0x30);
	}
	pci_config_writable(p, SMRAM, 1, 0x70);
	pci_config_writable(p, ESMRAMC, 1, 0x87);
	mch_reset(&p->dev);
	*ret = p;
	return 0;
}
