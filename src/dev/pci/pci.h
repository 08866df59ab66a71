/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI Express devices on bus 0: configuration space, BARs, MSI-X, MSI, INTx.
 * Source: PCI Local Bus 3.0, PCIe Base 4.0 chapter 7.
 */
#pragma once

#include "dev/bus.h"
#include "dev/dev.h"

#define PCI_CONFIG_BYTES 4096
#define PCI_BARS         6

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
	 * After the generic part has stored a configuration write and moved BARs. `reg`, `len`:
	 * what was written. After a reset it is called with 0, PCI_CONFIG_BYTES. Lock held.
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
	uint8_t w1c[PCI_CONFIG_BYTES];   /* bits that a written 1 clears */
	struct pci_bar bar[PCI_BARS];
	uint8_t next_cap; /* where the next capability goes */
	struct pci_msix *msix;
	struct pci_msi *msi;
	bool intx_level;    /* what the device asks for; under the host's interrupt lock */
	bool intx_asserted; /* what reaches the line; the same lock */
};

#define PCI_PIRQS           8  /* PIRQ A..H */
#define PCI_GSI_FIRST       16 /* of PIRQ A */
#define PCI_PIRQ_NOT_TO_ISA -1

/*
 * A host bridge: makes the config ports (with the reset control register 0xcf9 between
 * them) and the ECAM window, INTx routing to GSI 16-23 (the usual swizzle:
 * (slot + pin) & 7 -> PIRQ A..H, where INTA# is pin 0). On the loop's thread or before it runs.
 */
int pci_host_new(struct dev_env *env, uint64_t ecam_base, unsigned ecam_buses,
		 struct pci_host **ret);
/* Frees the devices on it too; NULL is fine. On the loop's thread, vCPUs out. */
void pci_host_free(struct pci_host *h);
/*
 * Resets every device on it: the class's reset(), then the header (BARs 0, decoding off),
 * MSI and MSI-X off, then config_written().
 */
void pci_host_reset(struct pci_host *h);
/* Move or (`buses` 0) unmap the ECAM window; buses: 64, 128 or 256. -errno as bus_map(). */
int pci_host_set_ecam(struct pci_host *h, uint64_t base, unsigned buses);
/* Let a PIRQ drive ISA interrupt `irq` too (PCI_PIRQ_NOT_TO_ISA: none). Any thread. */
void pci_host_route_pirq(struct pci_host *h, unsigned pirq, int irq);
/* The PIRQ (0..7) of a function's pin (0: INTA#), as the swizzle above has it. */
unsigned pci_pirq(uint8_t devfn, unsigned pin);
/* The device at `devfn`, or NULL. Devices are only added before the machine runs. */
struct pci_dev *pci_host_dev(struct pci_host *h, uint8_t devfn);
/* Configuration access as by the guest, for the board: `len` 1, 2 or 4, aligned. */
uint32_t pci_config_read(struct pci_dev *p, unsigned reg, unsigned len);
void pci_config_write(struct pci_dev *p, unsigned reg, uint32_t value, unsigned len);

/*
 * Put `p` on the bus. `devfn` -1: the next free slot from 1 up. The class must outlive
 * it. 0, -EBUSY (slot taken), -ENOSPC. On success the host owns p. `p` must be zeroed before.
 * A maker that fails after this calls pci_dev_remove(), which calls done().
 */
int pci_dev_init(struct pci_dev *p, const struct pci_class *cls, struct pci_host *h, int devfn,
		 const struct pci_ids *ids, const char *name);

/* Take `p` off the bus again and free it (class's done(), which frees). NULL is fine. */
void pci_dev_remove(struct pci_dev *p);
/* INTx on this function: `pin` 0 is INTA#. Default: none. */
void pci_intx_init(struct pci_dev *p, unsigned pin);

/* BAR `nr` (a 64-bit one takes nr+1 too); size a power of two; accesses 1..8 bytes unless set. */
int pci_bar_add(struct pci_dev *p, unsigned nr, enum pci_bar_kind kind, uint64_t size,
		unsigned min_size, unsigned max_size);
/* Where the guest has put it, or -1 if it is not decoded now. Lock held. */
uint64_t pci_bar_address(const struct pci_dev *p, unsigned nr);

/* Let the guest write `bits` at `reg` (len 1, 2 or 4). Before the machine runs. */
void pci_config_writable(struct pci_dev *p, unsigned reg, unsigned len, uint32_t bits);

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

/* Plain MSI, one vector, 64-bit with mask and pending bits. 0, -ENOSPC or -ENOMEM. */
int pci_msi_init(struct pci_dev *p);
bool pci_msi_enabled(const struct pci_dev *p);
void pci_msi_notify(struct pci_dev *p); /* any thread, no lock needed */

/*
 * Drive the device's INTx pin. Any thread, its lock held or not. The level is kept, but does not
 * reach the line while MSI or MSI-X is enabled or INTx disabled in command.
 */
void pci_intx_set(struct pci_dev *p, bool level);

/* Bus mastering allowed? A device MUST NOT touch memory while it is not. */
bool pci_dma_allowed(const struct pci_dev *p);
