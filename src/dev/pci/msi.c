/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plain MSI with one vector, 64-bit address and a mask bit. For devices whose
 * drivers know no MSI-X. Source: PCI Local Bus 3.0, 6.8.1.
 *
 * The registers live in the owner's configuration space under its lock; what
 * a notifying thread needs of them is copied here, under `lock`, after each
 * configuration write.
 */
#include <stdlib.h>

#include "dev/pci/pci_int.h"

struct pci_msi {
	pthread_mutex_t lock;
	struct dev_env *env;
	unsigned cap;
	bool enabled; /* written with the lock, read without */
	bool blocked; /* masked, or no bus mastering */
	bool pending;
	uint64_t address;
	uint16_t data;
};

int pci_msi_init(struct pci_dev *p)
{
	struct pci_msi *m = calloc(1, sizeof(*m));
	int cap;

	if (!m) {
		return -ENOMEM;
	}
	cap = pci_cap_add(p, PCI_CAP_MSI, PCI_MSI_CAP_BYTES);
	if (cap < 0) {
		free(m);
		return cap;
	}
	pthread_mutex_init(&m->lock, NULL);
	m->env = p->dev.env;
	m->cap = (unsigned)cap;
	store_le16(p->config + cap + PCI_MSI_CONTROL, PCI_MSI_64BIT | PCI_MSI_MASKABLE);
	pci_config_writable(p, m->cap + PCI_MSI_CONTROL, 2, PCI_MSI_ENABLE);
	pci_config_writable(p, m->cap + PCI_MSI_ADDRESS, 4, ~3u);
	pci_config_writable(p, m->cap + PCI_MSI_ADDRESS + 4, 4, ~0u);
	pci_config_writable(p, m->cap + PCI_MSI_DATA, 2, 0xffff);
	pci_config_writable(p, m->cap + PCI_MSI_MASK, 4, 1);
	p->msi = m;
	return 0;
}

void pci_msi_free(struct pci_msi *m)
{
	if (m) {
		pthread_mutex_destroy(&m->lock);
		free(m);
	}
}

void pci_msi_reset(struct pci_dev *p)
{
	struct pci_msi *m = p->msi;

	if (!m) {
		return;
	}
	for (unsigned i = PCI_MSI_CONTROL; i < PCI_MSI_CAP_BYTES; i++) {
		p->config[m->cap + i] &= (uint8_t)~p->wmask[m->cap + i];
	}
	pthread_mutex_lock(&m->lock);
	m->pending = false;
	pthread_mutex_unlock(&m->lock);
}

static void send_if_allowed(struct pci_msi *m)
{
	if (m->pending && m->enabled && !m->blocked) {
		m->pending = false;
		m->env->impl->msi_send(m->env->opaque, m->address, m->data);
	}
}

void pci_msi_config_written(struct pci_dev *p)
{
	struct pci_msi *m = p->msi;
	const uint8_t *cap;
	bool enabled;

	if (!m) {
		return;
	}
	cap = p->config + m->cap;
	pthread_mutex_lock(&m->lock);
	enabled = load_le16(cap + PCI_MSI_CONTROL) & PCI_MSI_ENABLE;
	if (enabled && !m->enabled) {
		m->pending = false;
	}
	__atomic_store_n(&m->enabled, enabled, __ATOMIC_RELAXED);
	m->blocked = (cap[PCI_MSI_MASK] & 1) || !pci_dma_allowed(p);
	m->address = load_le64(cap + PCI_MSI_ADDRESS);
	m->data = load_le16(cap + PCI_MSI_DATA);
	send_if_allowed(m);
	pthread_mutex_unlock(&m->lock);
}

bool pci_msi_enabled(const struct pci_dev *p)
{
	return p->msi && __atomic_load_n(&p->msi->enabled, __ATOMIC_RELAXED);
}

void pci_msi_notify(struct pci_dev *p)
{
	struct pci_msi *m = p->msi;

	if (!m) {
		return;
	}
	pthread_mutex_lock(&m->lock);
	if (m->enabled) {
		m->pending = true;
		send_if_allowed(m);
	}
	pthread_mutex_unlock(&m->lock);
}

void pci_msi_refresh(struct pci_dev *p)
{
	struct pci_msi *m = p->msi;

	if (m) {
		pthread_mutex_lock(&m->lock);
		p->config[m->cap + PCI_MSI_PENDING] = m->pending;
		pthread_mutex_unlock(&m->lock);
	}
}
