/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSI-X: vector table, pending bits, and eventfds that fire vectors.
 * Source: PCI Local Bus 3.0, 6.8.2.
 *
 * Theory of operation. Table and PBA are a device of their own (own lock, own
 * windows over the owner's BAR), so a vector can be fired from any thread
 * whatever lock the owner holds.
 *
 * A vector may send when MSI-X is on, function mask and its own mask are clear, and
 * bus mastering is on (a message is a memory write). If it may not, firing sets its
 * pending bit; when that changes (vectors_update) pending ones are sent. With
 * MSI-X off, firing does nothing.
 *
 * A vector's eventfd is, while the vector may send, handed to the machine (irqfd).
 * While it may not, nobody reads it: its counter is the pending bit, and the
 * machine or we see it when it is handed over again. If the machine refuses it, it
 * goes into the host's epoll set for good (`watched`), and the loop's thread fires
 * the vector.
 */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/assert.h"
#include "dev/pci/pci_int.h"

struct vector {
	struct pci_msix *msix;
	uint64_t address;
	uint32_t data;
	uint32_t control;
	bool pending;
	bool watched; /* in the host's epoll set */
	bool given;   /* the machine has the eventfd, with given_address and given_data */
	uint64_t given_address;
	uint32_t given_data;
	int fd;    /* -1: none yet */
	int route; /* the machine's */
};

struct pci_msix {
	struct dev dev; /* the lock of all here */
	struct pci_dev *owner;
	struct pci_host *host;
	unsigned cap, bar, count;
	uint64_t table_offset, pba_offset;
	struct dev_window table, pba;
	bool enabled; /* written with the lock, read without */
	bool blocked; /* function mask, or no bus mastering */
	struct vector vectors[];
};

enum msix_window { WINDOW_TABLE, WINDOW_PBA };

static bool may_send(const struct vector *v)
{
	return v->msix->enabled && !v->msix->blocked && !(v->control & PCI_MSIX_ENTRY_MASKED);
}

static int send(struct vector *v)
{
	struct dev_env *env = v->msix->dev.env;

	return env->impl->msi_send(env->opaque, v->address, v->data);
}

/* Has somebody signalled the eventfd since it was last read? Clears it. */
static bool eventfd_take(int fd)
{
	uint64_t count;

	return fd >= 0 && read(fd, &count, sizeof(count)) == sizeof(count);
}

static void fire_locked(struct vector *v)
{
	if (may_send(v)) {
		send(v);
	} else if (v->msix->enabled) {
		v->pending = true;
	}
}

static void take_back(struct vector *v)
{
	struct dev_env *env = v->msix->dev.env;

	if (v->given) {
		env->impl->irqfd_clear(env->opaque, v->fd, &v->route);
		v->given = false;
	}
}

/* The machine refused the eventfd: have the loop read it from now on. */
static void watch(struct vector *v)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = v };

	v->watched = epoll_ctl(v->msix->host->epoll_fd, EPOLL_CTL_ADD, v->fd, &e) == 0;
}

static void hand_over(struct vector *v)
{
	struct dev_env *env = v->msix->dev.env;

	if (v->given && v->given_address == v->address && v->given_data == v->data) {
		return;
	}
	if (!env->impl->irqfd_set ||
	    env->impl->irqfd_set(env->opaque, v->fd, v->address, v->data, &v->route) < 0) {
		take_back(v);
		watch(v);
		return;
	}
	v->given = true;
	v->given_address = v->address;
	v->given_data = v->data;
}

/* After anything that decides whether this vector may send, or where to. */
static void vector_update(struct vector *v)
{
	if (!may_send(v)) {
		take_back(v);
		return;
	}
	if (!v->given && !v->watched && eventfd_take(v->fd)) {
		v->pending = true;
	}
	if (v->pending) {
		v->pending = false;
		send(v);
	}
	if (v->fd >= 0 && !v->watched) {
		hand_over(v);
	}
}

static void vectors_update(struct pci_msix *x)
{
	for (unsigned i = 0; i < x->count; i++) {
		vector_update(&x->vectors[i]);
	}
}

/* ---- table and PBA ---- */

static uint32_t table_read(struct pci_msix *x, uint64_t offset)
{
	const struct vector *v = &x->vectors[offset / PCI_MSIX_ENTRY_BYTES];

	switch (offset % PCI_MSIX_ENTRY_BYTES) {
	case 0:
		return (uint32_t)v->address;
	case 4:
		return (uint32_t)(v->address >> 32);
	case 8:
		return v->data;
	default:
		return v->control;
	}
}

static bool is_pending(struct vector *v)
{
	if (!v->pending && v->msix->enabled && !v->given && !v->watched && eventfd_take(v->fd)) {
		v->pending = true;
	}
	return v->pending;
}

static uint64_t pba_read(struct pci_msix *x, uint64_t offset, unsigned size)
{
	unsigned first = (unsigned)offset * 8;
	uint64_t bits = 0;

	for (unsigned i = 0; i < size * 8 && first + i < x->count; i++) {
		bits |= (uint64_t)is_pending(&x->vectors[first + i]) << i;
	}
	return bits;
}

static uint64_t msix_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	struct pci_msix *x = container_of(d, struct pci_msix, dev);
	uint64_t value;

	if (window == WINDOW_PBA) {
		return pba_read(x, offset, size);
	}
	value = table_read(x, offset);
	if (size == 8) {
		value |= (uint64_t)table_read(x, offset + 4) << 32;
	}
	return value;
}

static void table_write(struct pci_msix *x, uint64_t offset, uint32_t value)
{
	struct vector *v = &x->vectors[offset / PCI_MSIX_ENTRY_BYTES];

	switch (offset % PCI_MSIX_ENTRY_BYTES) {
	case 0:
		v->address = (v->address & ~0xffffffffull) | (value & ~3u);
		break;
	case 4:
		v->address = (v->address & 0xffffffff) | (uint64_t)value << 32;
		break;
	case 8:
		v->data = value;
		break;
	default:
		v->control = value & PCI_MSIX_ENTRY_MASKED;
	}
}

static void msix_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
		       unsigned size)
{
	struct pci_msix *x = container_of(d, struct pci_msix, dev);

	if (window == WINDOW_PBA) {
		return; /* read only */
	}
	table_write(x, offset, (uint32_t)value);
	if (size == 8) {
		table_write(x, offset + 4, (uint32_t)(value >> 32));
	}
	vector_update(&x->vectors[offset / PCI_MSIX_ENTRY_BYTES]);
}

static const struct dev_class msix_class = {
	.name = "msix",
	.read = msix_read,
	.write = msix_write,
};

void pci_msix_bar_moved(struct pci_dev *p, unsigned nr, bool mapped)
{
	struct pci_msix *x = p->msix;
	struct bus *bus = p->dev.env->bus;
	uint64_t base = p->bar[nr].window.base;

	if (!x || x->bar != nr) {
		return;
	}
	if (!mapped) {
		bus_unmap(bus, &x->table);
		bus_unmap(bus, &x->pba);
		return;
	}
	/* Over the BAR: the newest wins. Without memory for it the table is just not there. */
	bus_map(bus, &x->table, base + x->table_offset);
	bus_map(bus, &x->pba, base + x->pba_offset);
}

/* ---- life ---- */

static void vectors_reset(struct pci_msix *x)
{
	for (unsigned i = 0; i < x->count; i++) {
		struct vector *v = &x->vectors[i];

		take_back(v);
		v->address = 0;
		v->data = 0;
		v->control = PCI_MSIX_ENTRY_MASKED;
		v->pending = false;
		eventfd_take(v->fd);
	}
}

static struct pci_msix *msix_alloc(struct pci_dev *p, unsigned vectors, unsigned bar,
				   unsigned table_offset)
{
	struct pci_msix *x = calloc(1, sizeof(*x) + vectors * sizeof(x->vectors[0]));

	if (!x) {
		return NULL;
	}
	dev_init(&x->dev, &msix_class, p->dev.env, NULL);
	x->owner = p;
	x->host = p->host;
	x->bar = bar;
	x->count = vectors;
	x->table_offset = table_offset;
	x->pba_offset = ALIGN_UP(table_offset + vectors * PCI_MSIX_ENTRY_BYTES, 8u);
	dev_window_init(&x->table, &x->dev, WINDOW_TABLE, DEV_MMIO, vectors * PCI_MSIX_ENTRY_BYTES,
			4, 8);
	dev_window_init(&x->pba, &x->dev, WINDOW_PBA, DEV_MMIO, ALIGN_UP(vectors, 64u) / 8, 4, 8);
	for (unsigned i = 0; i < vectors; i++) {
		x->vectors[i].msix = x;
		x->vectors[i].fd = -1;
		x->vectors[i].route = -1;
		x->vectors[i].control = PCI_MSIX_ENTRY_MASKED;
	}
	return x;
}

int pci_msix_init(struct pci_dev *p, unsigned vectors, unsigned bar, unsigned table_offset)
{
	struct pci_msix *x;
	int cap;

	ASSERT(vectors >= 1 && vectors <= PCI_MSIX_VECTORS_MAX && !p->msix);
	x = msix_alloc(p, vectors, bar, table_offset);
	if (!x) {
		return -ENOMEM;
	}
	ASSERT(table_offset % 8 == 0 && x->pba_offset + x->pba.len <= p->bar[bar].size);
	cap = pci_cap_add(p, PCI_CAP_MSIX, PCI_MSIX_CAP_BYTES);
	if (cap < 0) {
		pci_msix_free(x);
		return cap;
	}
	x->cap = (unsigned)cap;
	store_le16(p->config + cap + PCI_MSIX_CONTROL, (uint16_t)(vectors - 1));
	store_le32(p->config + cap + PCI_MSIX_TABLE, table_offset | bar);
	store_le32(p->config + cap + PCI_MSIX_PBA, (uint32_t)x->pba_offset | bar);
	pci_config_writable(p, x->cap + PCI_MSIX_CONTROL, 2,
			    PCI_MSIX_ENABLE | PCI_MSIX_FUNCTION_MASK);
	p->msix = x;
	return 0;
}

void pci_msix_free(struct pci_msix *x)
{
	if (!x) {
		return;
	}
	bus_unmap_dev(x->dev.env->bus, &x->dev);
	for (unsigned i = 0; i < x->count; i++) {
		struct vector *v = &x->vectors[i];

		take_back(v);
		if (v->watched) {
			epoll_ctl(x->host->epoll_fd, EPOLL_CTL_DEL, v->fd, NULL);
		}
		fd_closep(&v->fd);
	}
	pthread_mutex_destroy(&x->dev.lock);
	free(x);
}

void pci_msix_reset(struct pci_dev *p)
{
	struct pci_msix *x = p->msix;

	if (!x) {
		return;
	}
	store_le16(p->config + x->cap + PCI_MSIX_CONTROL, (uint16_t)(x->count - 1));
	dev_lock(&x->dev);
	__atomic_store_n(&x->enabled, false, __ATOMIC_RELAXED);
	vectors_reset(x);
	dev_unlock(&x->dev);
}

void pci_msix_config_written(struct pci_dev *p)
{
	struct pci_msix *x = p->msix;
	bool enabled, blocked;
	unsigned control;

	if (!x) {
		return;
	}
	control = load_le16(p->config + x->cap + PCI_MSIX_CONTROL);
	enabled = control & PCI_MSIX_ENABLE;
	blocked = (control & PCI_MSIX_FUNCTION_MASK) || !pci_dma_allowed(p);
	if (enabled == x->enabled && blocked == x->blocked) {
		return;
	}
	dev_lock(&x->dev);
	if (enabled && !x->enabled) {
		for (unsigned i = 0; i < x->count; i++) { /* signals from before do not count */
			eventfd_take(x->vectors[i].fd);
			x->vectors[i].pending = false;
		}
	}
	__atomic_store_n(&x->enabled, enabled, __ATOMIC_RELAXED);
	x->blocked = blocked;
	vectors_update(x);
	dev_unlock(&x->dev);
}

/* ---- for the device ---- */

bool pci_msix_enabled(const struct pci_dev *p)
{
	return p->msix && __atomic_load_n(&p->msix->enabled, __ATOMIC_RELAXED);
}

void pci_msix_notify(struct pci_dev *p, unsigned vector)
{
	struct pci_msix *x = p->msix;

	if (!x || vector >= x->count) {
		return;
	}
	dev_lock(&x->dev);
	fire_locked(&x->vectors[vector]);
	dev_unlock(&x->dev);
}

void pci_msix_signalled(void *opaque)
{
	struct vector *v = opaque;

	dev_lock(&v->msix->dev);
	if (eventfd_take(v->fd)) {
		fire_locked(v);
	}
	dev_unlock(&v->msix->dev);
}

int pci_msix_eventfd(struct pci_dev *p, unsigned vector)
{
	struct pci_msix *x = p->msix;
	struct vector *v;
	int fd;

	if (!x || vector >= x->count) {
		return -1;
	}
	v = &x->vectors[vector];
	dev_lock(&x->dev);
	if (v->fd < 0) {
		v->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		vector_update(v);
	}
	fd = v->fd;
	dev_unlock(&x->dev);
	return fd;
}
