/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The root complex as far as software sees it: configuration accesses by
 * ports 0xcf8/0xcfc and by memory (ECAM), and the way of INTx to the
 * interrupt controllers. The reset control register 0xcf9 lies in the middle
 * of the address port and is told from it by its size, so it lives here too.
 *
 * Interrupts: a function's pin is swizzled to one of PIRQ A..H. Each PIRQ
 * drives its own IOAPIC input (GSI 16-23), always; and, if the LPC bridge's
 * routing registers say so, an ISA interrupt. Lines are shared: a PIRQ is high
 * while any device asserts it, counted under intx_lock.
 */
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/assert.h"
#include "dev/pci/pci_int.h"

#define CONFIG_ADDRESS        0xcf8
#define CONFIG_ADDRESS_ENABLE BIT64(31)
#define PORT_ADDRESS          0 /* offsets in the ports' window */
#define PORT_RESET            1
#define PORT_DATA             4
#define ECAM_BUS_SHIFT        20
#define ECAM_BUSES_MAX        256

/* ICH9 datasheet 13.7.5: writing 1 to RST_CPU resets; SYS_RST and FULL_RST say how. */
#define RESET_CPU      BIT(2)
#define RESET_WRITABLE 0x0e

enum host_window { WINDOW_PORTS, WINDOW_ECAM };

/* A configuration access to bus 0; there is no other bus. */
static uint32_t config_read(struct pci_host *h, unsigned bus, unsigned devfn, unsigned reg,
			    unsigned len)
{
	struct pci_dev *p = bus == 0 ? h->devs[devfn] : NULL;

	return p ? pci_config_read(p, reg, len) : ~0u;
}

static void config_write(struct pci_host *h, unsigned bus, unsigned devfn, unsigned reg,
			 uint32_t value, unsigned len)
{
	struct pci_dev *p = bus == 0 ? h->devs[devfn] : NULL;

	if (p) {
		pci_config_write(p, reg, value, len);
	}
}

static uint64_t ports_read(struct pci_host *h, unsigned offset, unsigned size)
{
	if (offset == PORT_ADDRESS && size == 4) {
		return h->address;
	}
	if (offset == PORT_RESET && size == 1) {
		return h->reset_control;
	}
	if (offset < PORT_DATA || !(h->address & CONFIG_ADDRESS_ENABLE)) {
		return ~0ull;
	}
	return config_read(h, (h->address >> 16) & 0xff, (h->address >> 8) & 0xff,
			   (h->address & 0xfc) | (offset & 3), size);
}

static void reset_control_write(struct pci_host *h, uint8_t value)
{
	uint8_t before = h->reset_control;

	h->reset_control = value & RESET_WRITABLE;
	if ((value & RESET_CPU) && !(before & RESET_CPU)) {
		h->dev.env->impl->request(h->dev.env->opaque, DEV_REQUEST_RESET, 0);
	}
}

static void ports_write(struct pci_host *h, unsigned offset, uint32_t value, unsigned size)
{
	if (offset == PORT_ADDRESS && size == 4) {
		h->address = value;
	} else if (offset == PORT_RESET && size == 1) {
		reset_control_write(h, (uint8_t)value);
	} else if (offset >= PORT_DATA && (h->address & CONFIG_ADDRESS_ENABLE)) {
		config_write(h, (h->address >> 16) & 0xff, (h->address >> 8) & 0xff,
			     (h->address & 0xfc) | (offset & 3), value, size);
	}
}

static uint64_t host_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	struct pci_host *h = container_of(d, struct pci_host, dev);

	if (window == WINDOW_PORTS) {
		return ports_read(h, (unsigned)offset, size);
	}
	return config_read(h, (unsigned)(offset >> ECAM_BUS_SHIFT), (offset >> 12) & 0xff,
			   offset & 0xfff, size);
}

static void host_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
		       unsigned size)
{
	struct pci_host *h = container_of(d, struct pci_host, dev);

	if (window == WINDOW_PORTS) {
		ports_write(h, (unsigned)offset, (uint32_t)value, size);
	} else {
		config_write(h, (unsigned)(offset >> ECAM_BUS_SHIFT), (offset >> 12) & 0xff,
			     offset & 0xfff, (uint32_t)value, size);
	}
}

static void host_reset(struct dev *d)
{
	struct pci_host *h = container_of(d, struct pci_host, dev);

	h->address = 0;
	h->reset_control = 0;
}

static void host_done(struct dev *d)
{
	struct pci_host *h = container_of(d, struct pci_host, dev);

	if (h->epoll_fd >= 0) {
		loop_unwatch_fd(d->env->loop, h->epoll_fd);
		close(h->epoll_fd);
	}
	pthread_mutex_destroy(&h->intx_lock);
	free(h);
}

static const struct dev_class host_class = {
	.name = "pci-host",
	.done = host_done,
	.reset = host_reset,
	.read = host_read,
	.write = host_write,
};

/* Eventfds that the machine could not take over: fire their vectors by hand. */
static void eventfds_ready(void *opaque, uint32_t events)
{
	struct pci_host *h = opaque;
	struct epoll_event ready[32];
	int n = epoll_wait(h->epoll_fd, ready, ARRAY_SIZE(ready), 0);

	for (int i = 0; i < n; i++) {
		pci_msix_signalled(ready[i].data.ptr);
	}
}

static int host_map(struct pci_host *h, uint64_t ecam_base, unsigned ecam_buses)
{
	int r;

	h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (h->epoll_fd < 0) {
		return -errno;
	}
	r = loop_watch_fd(h->dev.env->loop, h->epoll_fd, EPOLLIN, eventfds_ready, h);
	if (r < 0) {
		return r;
	}
	dev_window_init(&h->ports, &h->dev, WINDOW_PORTS, DEV_PIO, 8, 1, 4);
	dev_window_init(&h->ecam, &h->dev, WINDOW_ECAM, DEV_MMIO,
			(uint64_t)ECAM_BUSES_MAX << ECAM_BUS_SHIFT, 1, 4);
	r = bus_map(h->dev.env->bus, &h->ports, CONFIG_ADDRESS);
	return r < 0 ? r : pci_host_set_ecam(h, ecam_base, ecam_buses);
}

int pci_host_new(struct dev_env *env, uint64_t ecam_base, unsigned ecam_buses,
		 struct pci_host **ret)
{
	struct pci_host *h = calloc(1, sizeof(*h));
	int r;

	if (!h) {
		return -ENOMEM;
	}
	dev_init(&h->dev, &host_class, env, NULL);
	pthread_mutex_init(&h->intx_lock, NULL);
	memset(h->pirq_isa, PCI_PIRQ_NOT_TO_ISA, sizeof(h->pirq_isa));
	r = host_map(h, ecam_base, ecam_buses);
	if (r < 0) {
		dev_free(&h->dev);
		return r;
	}
	*ret = h;
	return 0;
}

void pci_host_free(struct pci_host *h)
{
	if (!h) {
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(h->devs); i++) {
		pci_dev_remove(h->devs[i]);
	}
	dev_free(&h->dev);
}

void pci_host_reset(struct pci_host *h)
{
	for (unsigned i = 0; i < ARRAY_SIZE(h->devs); i++) {
		if (h->devs[i]) {
			pci_dev_reset_all(h->devs[i]);
		}
	}
	dev_reset(&h->dev);
}

int pci_host_set_ecam(struct pci_host *h, uint64_t base, unsigned buses)
{
	bus_unmap(h->dev.env->bus, &h->ecam);
	if (!buses) {
		return 0;
	}
	h->ecam.len = (uint64_t)buses << ECAM_BUS_SHIFT;
	return bus_map(h->dev.env->bus, &h->ecam, base);
}

struct pci_dev *pci_host_dev(struct pci_host *h, uint8_t devfn)
{
	return h->devs[devfn];
}

/* ---- INTx ---- */

unsigned pci_pirq(uint8_t devfn, unsigned pin)
{
	return ((devfn >> 3) + pin) % PCI_PIRQS;
}

/* Drive the ISA lines that PIRQs are routed to; only changes are sent. */
static void isa_update_locked(struct pci_host *h)
{
	uint16_t level = 0, changed;

	for (unsigned i = 0; i < PCI_PIRQS; i++) {
		if (h->pirq_isa[i] != PCI_PIRQ_NOT_TO_ISA && h->pirq_count[i]) {
			level |= (uint16_t)BIT(h->pirq_isa[i]);
		}
	}
	changed = level ^ h->isa_level;
	h->isa_level = level;
	for (unsigned irq = 0; irq < 16; irq++) {
		if (changed & BIT(irq)) {
			dev_irq_set(&h->dev, irq, level & BIT(irq));
		}
	}
}

void pci_host_route_pirq(struct pci_host *h, unsigned pirq, int irq)
{
	ASSERT(pirq < PCI_PIRQS && irq >= PCI_PIRQ_NOT_TO_ISA && irq < 16);
	pthread_mutex_lock(&h->intx_lock);
	h->pirq_isa[pirq] = (int8_t)irq;
	isa_update_locked(h);
	pthread_mutex_unlock(&h->intx_lock);
}

static void intx_assert_locked(struct pci_dev *p, bool asserted)
{
	struct pci_host *h = p->host;
	unsigned pirq = pci_pirq(p->devfn, p->config[PCI_REG_INT_PIN] - 1u);
	unsigned before = h->pirq_count[pirq];

	if (p->intx_asserted == asserted) {
		return;
	}
	p->intx_asserted = asserted;
	h->pirq_count[pirq] += asserted ? 1 : -1;
	if (!before != !h->pirq_count[pirq]) {
		dev_irq_set(&h->dev, PCI_GSI_FIRST + pirq, asserted);
		isa_update_locked(h);
	}
}

static void intx_update_locked(struct pci_dev *p)
{
	bool disabled = __atomic_load_n(&p->config[PCI_REG_COMMAND + 1], __ATOMIC_RELAXED) &
			(PCI_COMMAND_INTX_DISABLE >> 8);

	intx_assert_locked(p, p->intx_level && !disabled && !pci_msix_enabled(p) &&
				      !pci_msi_enabled(p));
}

void pci_intx_init(struct pci_dev *p, unsigned pin)
{
	ASSERT(pin < 4);
	p->config[PCI_REG_INT_PIN] = (uint8_t)(pin + 1);
}

void pci_intx_update(struct pci_dev *p)
{
	if (!p->config[PCI_REG_INT_PIN]) {
		return;
	}
	pthread_mutex_lock(&p->host->intx_lock);
	intx_update_locked(p);
	pthread_mutex_unlock(&p->host->intx_lock);
}

void pci_intx_set(struct pci_dev *p, bool level)
{
	if (!p->config[PCI_REG_INT_PIN]) {
		return;
	}
	pthread_mutex_lock(&p->host->intx_lock);
	__atomic_store_n(&p->intx_level, level, __ATOMIC_RELAXED);
	intx_update_locked(p);
	pthread_mutex_unlock(&p->host->intx_lock);
}
