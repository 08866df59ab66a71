/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One PCI function: its configuration space, BARs and capabilities.
 *
 * Theory of operation. A configuration write goes through per-bit masks
 * (`wmask`, `w1c`), then everything that follows from registers is derived
 * anew from them: where BARs are decoded (bars_update), whether interrupts
 * pass (pci_intx_update, MSI, MSI-X). So the order in which a guest writes
 * registers cannot make the parts disagree.
 *
 * Bytes of `config` are stored and loaded as relaxed atomics where threads
 * without the lock look at them (bus mastering, interrupt disable).
 */
#include "dev/pci/pci.h"

#include <stdio.h>

#include "base/assert.h"
#include "dev/pci/pci_int.h"

#define CAP_SPACE_END 256

static uint8_t config_byte(const struct pci_dev *p, unsigned reg)
{
	return __atomic_load_n(&p->config[reg], __ATOMIC_RELAXED);
}

static unsigned command(const struct pci_dev *p)
{
	return config_byte(p, PCI_REG_COMMAND) | (unsigned)config_byte(p, PCI_REG_COMMAND + 1) << 8;
}

bool pci_dma_allowed(const struct pci_dev *p)
{
	return command(p) & PCI_COMMAND_MASTER;
}

/* A free devfn for `want` (-1: any slot from 1 on), or -errno. */
static int choose_devfn(const struct pci_host *h, int want)
{
	if (want >= 0) {
		ASSERT(want < 256);
		return h->devs[want] ? -EBUSY : want;
	}
	for (int devfn = 1 << 3; devfn < 256; devfn += 8) {
		if (!h->devs[devfn]) {
			return devfn;
		}
	}
	return -ENOSPC;
}

static void header_init(struct pci_dev *p, const struct pci_ids *ids)
{
	uint8_t *c = p->config;

	store_le16(c + PCI_REG_VENDOR, ids->vendor);
	store_le16(c + PCI_REG_DEVICE, ids->device);
	store_le32(c + PCI_REG_REVISION, ids->class_code << 8 | ids->revision);
	store_le16(c + PCI_REG_SUBSYS_VENDOR, ids->subsys_vendor);
	store_le16(c + PCI_REG_SUBSYS, ids->subsys);
	pci_config_writable(p, PCI_REG_COMMAND, 2, PCI_COMMAND_WRITABLE);
	pci_config_writable(p, PCI_REG_CACHE_LINE, 1, 0xff);
	pci_config_writable(p, PCI_REG_INT_LINE, 1, 0xff);
	p->next_cap = PCI_REG_FIRST_CAP;
}

/* Several functions in one slot: function 0 says so, or nobody looks for the others. */
static void mark_multifunction(struct pci_host *h, uint8_t devfn)
{
	struct pci_dev *first = h->devs[devfn & ~7u];
	bool more = false;

	for (unsigned fn = 1; fn < 8; fn++) {
		more |= h->devs[(devfn & ~7u) | fn] != NULL;
	}
	if (first && more) {
		first->config[PCI_REG_HEADER_TYPE] |= PCI_HEADER_MULTIFUNCTION;
	}
}

int pci_dev_init(struct pci_dev *p, const struct pci_class *cls, struct pci_host *h, int devfn,
		 const struct pci_ids *ids, const char *name)
{
	int at = choose_devfn(h, devfn);

	if (at < 0) {
		return at;
	}
	dev_init(&p->dev, &cls->dev, h->dev.env, name);
	p->host = h;
	p->devfn = (uint8_t)at;
	header_init(p, ids);
	h->devs[at] = p;
	mark_multifunction(h, (uint8_t)at);
	return 0;
}

void pci_dev_remove(struct pci_dev *p)
{
	struct pci_msix *msix;
	struct pci_msi *msi;

	if (!p) {
		return;
	}
	pci_intx_set(p, false);
	p->host->devs[p->devfn] = NULL;
	msix = p->msix;
	msi = p->msi;
	dev_free(&p->dev); /* p is gone; its workers, which may have notified, too */
	pci_msix_free(msix);
	pci_msi_free(msi);
}

void pci_config_writable(struct pci_dev *p, unsigned reg, unsigned len, uint32_t bits)
{
	ASSERT(reg + len <= PCI_CONFIG_BYTES && len <= 4);
	for (unsigned i = 0; i < len; i++) {
		p->wmask[reg + i] |= (uint8_t)(bits >> (8 * i));
	}
}

/* ---- BARs ---- */

static const struct bar_kind {
	uint8_t flags;
	enum dev_space space;
	bool wide;
} bar_kinds[] = {
	[PCI_BAR_IO] = { PCI_BAR_SPACE_IO, DEV_PIO, false },
	[PCI_BAR_MEM32] = { 0, DEV_MMIO, false },
	[PCI_BAR_MEM64] = { PCI_BAR_TYPE_64, DEV_MMIO, true },
	[PCI_BAR_MEM64_PREFETCH] = { PCI_BAR_TYPE_64 | PCI_BAR_TYPE_PREFETCH, DEV_MMIO, true },
};

static unsigned bar_reg(unsigned nr)
{
	return PCI_REG_BAR0 + 4 * nr;
}

int pci_bar_add(struct pci_dev *p, unsigned nr, enum pci_bar_kind kind, uint64_t size,
		unsigned min_size, unsigned max_size)
{
	const struct bar_kind *k = &bar_kinds[kind];
	uint64_t mask = ~(size - 1);

	ASSERT(nr + k->wide < PCI_BARS && !p->bar[nr].size);
	ASSERT(size >= 16 && (size & (size - 1)) == 0 && (k->wide || size <= GIB(2)));
	p->bar[nr].kind = kind;
	p->bar[nr].size = size;
	dev_window_init(&p->bar[nr].window, &p->dev, nr, k->space, size, min_size, max_size);
	p->config[bar_reg(nr)] = k->flags;
	pci_config_writable(p, bar_reg(nr), 4, (uint32_t)mask);
	if (k->wide) {
		pci_config_writable(p, bar_reg(nr) + 4, 4, (uint32_t)(mask >> 32));
	}
	return 0;
}

uint64_t pci_bar_address(const struct pci_dev *p, unsigned nr)
{
	const struct dev_window *w = &p->bar[nr].window;

	return p->bar[nr].size && w->mapped ? w->base : ~0ull;
}

/*
 * Where the registers say that a BAR is, or ~0 if it is not decoded: switched off, at 0
 * (unset), or with its end beyond the space (what sizing with all ones leaves).
 */
static uint64_t bar_wanted(const struct pci_dev *p, unsigned nr)
{
	const struct pci_bar *b = &p->bar[nr];
	const struct bar_kind *k = &bar_kinds[b->kind];
	uint64_t base = load_le32(p->config + bar_reg(nr));
	uint64_t limit = k->wide ? UINT64_MAX : UINT32_MAX, end;

	if (k->space == DEV_PIO) {
		base &= ~(uint64_t)PCI_BAR_IO_FLAGS;
		limit = 0x10000;
	} else {
		base &= ~(uint64_t)PCI_BAR_MEM_FLAGS;
	}
	if (k->wide) {
		base |= (uint64_t)load_le32(p->config + bar_reg(nr) + 4) << 32;
	}
	if (!(command(p) & (k->space == DEV_PIO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) || !base ||
	    !range_end(base, b->size, &end) || end > limit) {
		return ~0ull;
	}
	return base;
}

static void bar_update(struct pci_dev *p, unsigned nr)
{
	struct pci_bar *b = &p->bar[nr];
	uint64_t now = pci_bar_address(p, nr), wanted = bar_wanted(p, nr);
	struct bus *bus = p->dev.env->bus;

	if (now == wanted) {
		return;
	}
	pci_msix_bar_moved(p, nr, false);
	bus_unmap(bus, &b->window);
	if (wanted != ~0ull && bus_map(bus, &b->window, wanted) == 0) {
		pci_msix_bar_moved(p, nr, true);
	}
}

static void bars_update(struct pci_dev *p)
{
	for (unsigned nr = 0; nr < PCI_BARS; nr++) {
		if (p->bar[nr].size) {
			bar_update(p, nr);
		}
	}
}

/* ---- capabilities ---- */

int pci_cap_add(struct pci_dev *p, uint8_t id, unsigned len)
{
	unsigned at = p->next_cap, end = ALIGN_UP(at + len, 4u);
	uint8_t *link = &p->config[PCI_REG_CAP_LIST];

	ASSERT(len >= 2);
	if (!at || end > CAP_SPACE_END) {
		return -ENOSPC;
	}
	while (*link) {
		link = &p->config[*link + 1];
	}
	*link = (uint8_t)at;
	p->config[at] = id;
	p->config[at + 1] = 0;
	p->config[PCI_REG_STATUS] |= PCI_STATUS_CAP_LIST;
	p->next_cap = (uint8_t)end; /* 0 when full */
	return (int)at;
}

/* PCIe Base 7.5.3; a root-complex integrated endpoint has no link registers. */
#define EXPRESS_CAP_BYTES       0x3c
#define EXPRESS_FLAGS           2
#define EXPRESS_VERSION         2
#define EXPRESS_TYPE_RC_END     (9 << 4)
#define EXPRESS_DEVCAP          4
#define EXPRESS_DEVCAP_ROLE_ERR BIT(15)
#define EXPRESS_DEVCTL          8
/* Error reporting, relaxed order, no snoop, payload and request size: they read back. */
#define EXPRESS_DEVCTL_WRITABLE 0x78ffu

int pci_express_init(struct pci_dev *p)
{
	int at = pci_cap_add(p, PCI_CAP_EXPRESS, EXPRESS_CAP_BYTES);

	if (at < 0) {
		return at;
	}
	store_le16(p->config + at + EXPRESS_FLAGS, EXPRESS_VERSION | EXPRESS_TYPE_RC_END);
	store_le32(p->config + at + EXPRESS_DEVCAP, EXPRESS_DEVCAP_ROLE_ERR);
	pci_config_writable(p, (unsigned)at + EXPRESS_DEVCTL, 2, EXPRESS_DEVCTL_WRITABLE);
	return 0;
}

/* ---- access ---- */

uint32_t pci_dev_config_read_locked(struct pci_dev *p, unsigned reg, unsigned len)
{
	const struct pci_class *cls = container_of(p->dev.cls, const struct pci_class, dev);
	uint32_t value = 0;

	if (cls->config_reading) {
		cls->config_reading(p, reg, len);
	}
	pci_msi_refresh(p);
	memcpy(&value, p->config + reg, len);
	if (reg <= PCI_REG_STATUS && reg + len > PCI_REG_STATUS &&
	    __atomic_load_n(&p->intx_level, __ATOMIC_RELAXED)) {
		value |= PCI_STATUS_INTERRUPT << (8 * (PCI_REG_STATUS - reg));
	}
	return value;
}

static void follow_registers(struct pci_dev *p, unsigned reg, unsigned len)
{
	const struct pci_class *cls = container_of(p->dev.cls, const struct pci_class, dev);

	bars_update(p);
	pci_msix_config_written(p);
	pci_msi_config_written(p);
	pci_intx_update(p);
	if (cls->config_written) {
		cls->config_written(p, reg, len);
	}
}

void pci_dev_config_write_locked(struct pci_dev *p, unsigned reg, uint32_t value, unsigned len)
{
	for (unsigned i = 0; i < len; i++) {
		uint8_t bits = (uint8_t)(value >> (8 * i)), mask = p->wmask[reg + i];
		uint8_t to = (uint8_t)((p->config[reg + i] & ~mask) | (bits & mask));

		to &= (uint8_t) ~(bits & p->w1c[reg + i]);
		__atomic_store_n(&p->config[reg + i], to, __ATOMIC_RELAXED);
	}
	follow_registers(p, reg, len);
}

uint32_t pci_config_read(struct pci_dev *p, unsigned reg, unsigned len)
{
	uint32_t value;

	ASSERT(reg + len <= PCI_CONFIG_BYTES && len <= 4);
	dev_lock(&p->dev);
	value = pci_dev_config_read_locked(p, reg, len);
	dev_unlock(&p->dev);
	return value;
}

void pci_config_write(struct pci_dev *p, unsigned reg, uint32_t value, unsigned len)
{
	ASSERT(reg + len <= PCI_CONFIG_BYTES && len <= 4);
	dev_lock(&p->dev);
	pci_dev_config_write_locked(p, reg, value, len);
	dev_unlock(&p->dev);
}

static void header_reset(struct pci_dev *p)
{
	__atomic_store_n(&p->config[PCI_REG_COMMAND], 0, __ATOMIC_RELAXED);
	__atomic_store_n(&p->config[PCI_REG_COMMAND + 1], 0, __ATOMIC_RELAXED);
	p->config[PCI_REG_CACHE_LINE] = 0;
	p->config[PCI_REG_INT_LINE] = 0;
	for (unsigned i = PCI_REG_BAR0; i < bar_reg(PCI_BARS); i++) {
		p->config[i] &= (uint8_t)~p->wmask[i];
	}
}

void pci_dev_reset_all(struct pci_dev *p)
{
	dev_lock(&p->dev);
	if (p->dev.cls->reset) {
		p->dev.cls->reset(&p->dev);
	}
	pci_intx_set(p, false);
	header_reset(p);
	pci_msix_reset(p);
	pci_msi_reset(p);
	follow_registers(p, 0, PCI_CONFIG_BYTES);
	dev_unlock(&p->dev);
}
