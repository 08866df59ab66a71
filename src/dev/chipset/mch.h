/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory controller hub of a q35 as software sees it: PCI function 00:00.0. */
#pragma once

#include "dev/pci/pci.h"

/* Put it on `h`. 0 or -errno; the host owns it. */
int mch_new(struct pci_host *h, struct pci_dev **ret);
/* What firmware does: put ECAM at `base` with all 256 buses. After each reset. */
void mch_set_pciexbar(struct pci_dev *mch, uint64_t base);
