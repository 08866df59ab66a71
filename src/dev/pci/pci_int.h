/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside pci/: what host, device, MSI and MSI-X share.
 *
 * Locks, outermost first: host->dev.lock (the config ports and ECAM), a
 * device's dev.lock, its MSI or MSI-X lock, host->intx_lock.
 */
#pragma once

#include "dev/pci/pci.h"
#include "dev/pci/pci_regs.h"

struct pci_host {
	struct dev dev;
	struct dev_window ports, ecam;
	uint32_t address; /* port 0xcf8 */
	uint8_t reset_control;
	struct pci_dev *devs[256]; /* by devfn; fixed while vCPUs run */
	int epoll_fd; /* watched by the loop: eventfds that the machine cannot take over */

	pthread_mutex_t intx_lock;
	unsigned pirq_count[PCI_PIRQS]; /* devices that assert it */
	int8_t pirq_isa[PCI_PIRQS];     /* PCI_PIRQ_NOT_TO_ISA or 0..15 */
	uint16_t isa_level;             /* what we drive now */
};

uint32_t pci_dev_config_read_locked(struct pci_dev *p, unsigned reg, unsigned len);
void pci_dev_config_write_locked(struct pci_dev *p, unsigned reg, uint32_t value, unsigned len);
void pci_dev_reset_all(struct pci_dev *p);
/* Recompute what reaches the line. */
void pci_intx_update(struct pci_dev *p);

/* MSI-X: the guest wrote configuration space (lock of p held). */
void pci_msix_config_written(struct pci_dev *p);
void pci_msix_reset(struct pci_dev *p);
/* BAR `nr` has moved: map table and PBA over it (`mapped`) or take them away. */
void pci_msix_bar_moved(struct pci_dev *p, unsigned nr, bool mapped);
void pci_msix_free(struct pci_msix *x);
/* An eventfd in the host's epoll set is readable; `opaque` is its vector. */
void pci_msix_signalled(void *opaque);

void pci_msi_config_written(struct pci_dev *p);
void pci_msi_reset(struct pci_dev *p);
/* Bring the pending bit in configuration space up to date. */
void pci_msi_refresh(struct pci_dev *p);
void pci_msi_free(struct pci_msi *m);
