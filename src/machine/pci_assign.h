/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What firmware does for PCI devices, when there is none: addresses and interrupt lines. */
#pragma once

#include "dev/pci/pci.h"
#include "machine/board.h"

/*
 * Give every BAR an address from the board's windows, largest first, and switch decoding
 * on; write interrupt lines and the PIRQ routes of `lpc` for kernels that use neither
 * ACPI nor MSI. Bus mastering stays off, drivers set it. -ENOSPC if a BAR fits nowhere.
 */
int pci_assign(struct pci_host *h, struct pci_dev *lpc, const struct board_layout *l);
