/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Configuration space: offsets and bits. PCI Local Bus 3.0 chapter 6, PCIe
 * Base 4.0 chapter 7.
 */
#pragma once

#include "base/util.h"

enum pci_reg {
	PCI_REG_VENDOR = 0x00,
	PCI_REG_DEVICE = 0x02,
	PCI_REG_COMMAND = 0x04,
	PCI_REG_STATUS = 0x06,
	PCI_REG_REVISION = 0x08,
	PCI_REG_CLASS = 0x09,
	PCI_REG_CACHE_LINE = 0x0c,
	PCI_REG_LATENCY = 0x0d,
	PCI_REG_HEADER_TYPE = 0x0e,
	PCI_REG_BAR0 = 0x10,
	PCI_REG_SUBSYS_VENDOR = 0x2c,
	PCI_REG_SUBSYS = 0x2e,
	PCI_REG_CAP_LIST = 0x34,
	PCI_REG_INT_LINE = 0x3c,
	PCI_REG_INT_PIN = 0x3d,
	PCI_REG_FIRST_CAP = 0x40,
};

#define PCI_COMMAND_IO           BIT(0)
#define PCI_COMMAND_MEMORY       BIT(1)
#define PCI_COMMAND_MASTER       BIT(2)
#define PCI_COMMAND_INTX_DISABLE BIT(10)
/* Special cycles, parity, SERR#: no effect here, but they read back. */
#define PCI_COMMAND_WRITABLE                                                          \
	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | BIT(6) | BIT(8) | \
	 PCI_COMMAND_INTX_DISABLE)

#define PCI_STATUS_INTERRUPT BIT(3)
#define PCI_STATUS_CAP_LIST  BIT(4)

#define PCI_HEADER_MULTIFUNCTION BIT(7)

#define PCI_BAR_SPACE_IO      BIT(0)
#define PCI_BAR_TYPE_64       BIT(2)
#define PCI_BAR_TYPE_PREFETCH BIT(3)
#define PCI_BAR_IO_FLAGS      0x3u
#define PCI_BAR_MEM_FLAGS     0xfu

enum pci_cap_id {
	PCI_CAP_MSI = 0x05,
	PCI_CAP_VENDOR = 0x09,
	PCI_CAP_EXPRESS = 0x10,
	PCI_CAP_MSIX = 0x11,
};

/* MSI-X capability: offsets in it. */
#define PCI_MSIX_CONTROL       2
#define PCI_MSIX_TABLE         4
#define PCI_MSIX_PBA           8
#define PCI_MSIX_CAP_BYTES     12
#define PCI_MSIX_ENABLE        BIT(15)
#define PCI_MSIX_FUNCTION_MASK BIT(14)
#define PCI_MSIX_VECTORS_MAX   2048
#define PCI_MSIX_ENTRY_BYTES   16
#define PCI_MSIX_ENTRY_MASKED  BIT(0)

/* MSI capability, the form with 64-bit address and mask bits. */
#define PCI_MSI_CONTROL   2
#define PCI_MSI_ADDRESS   4
#define PCI_MSI_DATA      12
#define PCI_MSI_MASK      16
#define PCI_MSI_PENDING   20
#define PCI_MSI_CAP_BYTES 24
#define PCI_MSI_ENABLE    BIT(0)
#define PCI_MSI_64BIT     BIT(7)
#define PCI_MSI_MASKABLE  BIT(8)
