/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI Express devices on bus 0: configuration space, BARs, MSI-X, MSI, INTx.
 * Source: PCI Local Bus 3.0, PCIe Base 4.0 chapter 7.
 */
#pragma once

#include "dev/bus.h"
#include "dev/dev.h"

#define PCI_CONFIG_BYTES 4096
#define PCI_BARS	 6

struct pci_host; /* the root complex: ports 0xcf8/0xcfc and ECAM */

enum pci_bar_kind { PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64, PCI_BAR_MEM64_PREFETCH };

struct pci_ids {
	uint16_t vendor, device, subsys_vendor, subsys;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	uint8_t revision;
};

struct pci_dev;

/* Additions to dev_class; may be NULL. */
struct pci_class {
	struct dev_class dev; /* read/write get the BAR's number as `window` */
	/*
	 * After the generic part has stored a configuration write. `reg`, `len`: what was
	 * written. Lock held.
	 */
	void (*config_written)(struct pci_dev *p, unsigned reg, unsigned len);
	/* Before a configuration read is answered (to refresh a live register). Lock held. */
	void (*config_reading)(struct pci_dev *p, unsigned reg, unsigned len);
};

struct pci_bar {
	enum pci_bar_kind kind;
	struct dev_window window;
	uint64_t size; /* 0: no such BAR */
};

struct pci_dev {
	struct dev dev;
	struct pci_host *host;
	uint8_t devfn; /* device << 3 | function */
	uint8_t config[PCI_CONFIG_BYTES];
	uint8_t wmask[PCI_CONFIG_BYTES]; /* bits that the guest may write */
	uint8_t w1c[PCI_CONFIG_BYTES];	 /* bits that a written 1 clears */
	struct pci_bar bar[PCI_BARS];
	uint8_t next_cap; /* where the next capability goes */
	struct pci_msix *msix;
	bool intx_level;
};

/*
 * A host bridge: makes the config ports and ECAM window, INTx routing to GSI 16-23
 * (the usual swizzle: (slot + pin) & 7 -> PIRQ A..H).
 */
int pci_host_new(struct dev_env *env, uint64_t ecam_base, unsigned ecam_buses,
		 struct pci_host **ret);
void pci_host_free(struct pci_host *h); /* frees the devices on it too */
void pci_host_reset(struct pci_host *h); /* resets every device on it */

/*
 * Put `p` on the bus. `devfn` -1: the next free slot from 1 up. The class must outlive
 * it. 0, -EBUSY (slot taken), -ENOSPC. On success the host owns p.
 */
int pci_dev_init(struct pci_dev *p, const struct pci_class *cls, struct pci_host *h, int devfn,
		 const struct pci_ids *ids, const char *name);

/* BAR `nr` (a 64-bit one takes nr+1 too); size a power of two; accesses 1..8 bytes unless set. */
int pci_bar_add(struct pci_dev *p, unsigned nr, enum pci_bar_kind kind, uint64_t size,
		unsigned min_size, unsigned max_size);
/* Where the guest has put it, or -1 if it is not decoded now. */
uint64_t pci_bar_address(const struct pci_dev *p, unsigned nr);

/* A capability of `len` bytes (header included) in the first 256 bytes; its offset, or -ENOSPC. */
int pci_cap_add(struct pci_dev *p, uint8_t id, unsigned len);
/* Makes it a PCIe endpoint (root-complex integrated): the express capability. */
int pci_express_init(struct pci_dev *p);

/*
 * MSI-X with `vectors` entries; table at `table_offset`, PBA behind it, in BAR `bar`
 * (added before; its accesses there are taken by this module, the rest go to
 * the class).
 */
int pci_msix_init(struct pci_dev *p, unsigned vectors, unsigned bar, unsigned table_offset);
bool pci_msix_enabled(const struct pci_dev *p);
/* Fire a vector (pends if masked). Any thread, no lock needed. */
void pci_msix_notify(struct pci_dev *p, unsigned vector);
/*
 * An eventfd whose signal fires the vector (KVM irqfd if the machine has it, else
 * watched by the loop); made at first use, owned by pci. -1 if none can be had.
 */
int pci_msix_eventfd(struct pci_dev *p, unsigned vector);

/* Drive INTA#. Any thread; does nothing while MSI-X is enabled or INTx disabled in command. */
void pci_intx_set(struct pci_dev *p, bool level);

/* Bus mastering allowed? A device MUST NOT touch memory while it is not. */
bool pci_dma_allowed(const struct pci_dev *p);
