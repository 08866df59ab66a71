/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ICH9's bridge to ISA devices: PCI function 00:1f.0. */
#pragma once

#include "dev/pci/pci.h"

#define LPC_DEVFN  (0x1f << 3)
#define LPC_PMBASE 0x600 /* where q35 firmware puts it */
#define LPC_RCBA   0xfed1c000ull
/* Offsets of the PIRQ A-D and E-H routing registers, a byte each. */
#define LPC_PIRQA_ROUT 0x60
#define LPC_PIRQE_ROUT 0x68

/* Put it on `h`; `pm` (borrowed, outlives it) is moved by its PMBASE register. 0 or -errno. */
int lpc_new(struct pci_host *h, struct dev *pm, struct pci_dev **ret);
/* What firmware does: PM ports at LPC_PMBASE, ACPI on. After each reset. */
void lpc_enable_acpi(struct pci_dev *lpc);
