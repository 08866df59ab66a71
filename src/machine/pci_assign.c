/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses for BARs. Largest first, so that each BAR's alignment (its own
 * size) wastes nothing. Memory BARs go below 4 GiB as long as there is room, where
 * every kernel reaches them; big 64-bit ones go above.
 */
#include "machine/pci_assign.h"

#include <stdlib.h>

#include "dev/chipset/lpc.h"
#include "dev/pci/pci_regs.h"

#define DEVFNS 256
/* BARs of this size or more would fill the window below 4 GiB too soon. */
#define BIG_BAR MIB(64)

struct window {
	uint64_t next, end;
};

struct request {
	struct pci_dev *dev;
	unsigned nr;
	uint64_t size;
};

static int request_compare(const void *a, const void *b)
{
	const struct request *x = a, *y = b;

	if (x->size != y->size) {
		return x->size < y->size ? 1 : -1;
	}
	return x->dev->devfn != y->dev->devfn ? (int)x->dev->devfn - y->dev->devfn
					      : (int)x->nr - (int)y->nr;
}

static bool take(struct window *w, uint64_t size, uint64_t *ret)
{
	uint64_t at = ALIGN_UP(w->next, size);

	if (at < w->next || at >= w->end || w->end - at < size) {
		return false;
	}
	w->next = at + size;
	*ret = at;
	return true;
}

static bool is_wide(const struct pci_bar *b)
{
	return b->kind == PCI_BAR_MEM64 || b->kind == PCI_BAR_MEM64_PREFETCH;
}

static int assign_bar(const struct request *r, struct window *io, struct window *mem32,
		      struct window *mem64)
{
	const struct pci_bar *b = &r->dev->bar[r->nr];
	unsigned reg = PCI_REG_BAR0 + 4 * r->nr;
	uint64_t at;
	bool found;

	if (b->kind == PCI_BAR_IO) {
		found = take(io, r->size, &at);
	} else if (is_wide(b) && r->size >= BIG_BAR) {
		found = take(mem64, r->size, &at);
	} else {
		found = take(mem32, r->size, &at) || (is_wide(b) && take(mem64, r->size, &at));
	}
	if (!found) {
		return -ENOSPC;
	}
	pci_config_write(r->dev, reg, (uint32_t)at, 4);
	if (is_wide(b)) {
		pci_config_write(r->dev, reg + 4, (uint32_t)(at >> 32), 4);
	}
	return 0;
}

static unsigned collect(struct pci_host *h, struct request *requests)
{
	unsigned count = 0;

	for (unsigned devfn = 0; devfn < DEVFNS; devfn++) {
		struct pci_dev *p = pci_host_dev(h, (uint8_t)devfn);

		for (unsigned nr = 0; p && nr < PCI_BARS; nr++) {
			if (p->bar[nr].size) {
				requests[count++] = (struct request){ p, nr, p->bar[nr].size };
			}
		}
	}
	return count;
}

/* ISA interrupts for PIRQs, as q35 firmware spreads them. */
static uint8_t isa_irq(unsigned pirq)
{
	return pirq & 2 ? 11 : 10;
}

static void assign_interrupts(struct pci_host *h, struct pci_dev *lpc)
{
	for (unsigned i = 0; i < PCI_PIRQS; i++) {
		unsigned reg = i < 4 ? LPC_PIRQA_ROUT + i : LPC_PIRQE_ROUT + i - 4;

		pci_config_write(lpc, reg, isa_irq(i), 1);
	}
	for (unsigned devfn = 0; devfn < DEVFNS; devfn++) {
		struct pci_dev *p = pci_host_dev(h, (uint8_t)devfn);
		unsigned pin = p ? pci_config_read(p, PCI_REG_INT_PIN, 1) : 0;

		if (pin) {
			pci_config_write(p, PCI_REG_INT_LINE,
					 isa_irq(pci_pirq((uint8_t)devfn, pin - 1)), 1);
		}
	}
}

/* Switch on what a device has, once its addresses are set. */
static void enable_decoding(struct pci_host *h)
{
	for (unsigned devfn = 0; devfn < DEVFNS; devfn++) {
		struct pci_dev *p = pci_host_dev(h, (uint8_t)devfn);
		uint32_t command = 0;

		for (unsigned nr = 0; p && nr < PCI_BARS; nr++) {
			if (p->bar[nr].size) {
				command |= p->bar[nr].kind == PCI_BAR_IO ? PCI_COMMAND_IO
									 : PCI_COMMAND_MEMORY;
			}
		}
		if (command) {
			pci_config_write(p, PCI_REG_COMMAND, command, 2);
		}
	}
}

int pci_assign(struct pci_host *h, struct pci_dev *lpc, const struct board_layout *l)
{
	struct request *requests = calloc((size_t)DEVFNS * PCI_BARS, sizeof(*requests));
	struct window io = { BOARD_PCI_IO, BOARD_PCI_IO_END };
	struct window mem32 = { BOARD_PCI32, BOARD_PCI32_END };
	struct window mem64 = { l->pci64, l->pci64_end };
	unsigned count;
	int r = 0;

	if (!requests) {
		return -ENOMEM;
	}
	count = collect(h, requests);
	qsort(requests, count, sizeof(*requests), request_compare);
	for (unsigned i = 0; i < count && r == 0; i++) {
		r = assign_bar(&requests[i], &io, &mem32, &mem64);
	}
	free(requests);
	if (r == 0) {
		enable_decoding(h);
		assign_interrupts(h, lpc);
	}
	return r;
}
