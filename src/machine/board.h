/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The board's map: what lies where, the same for the parts that place devices
 * and for the tables that describe them to the guest.
 */
#pragma once

#include "base/util.h"

struct mem;

/* RAM from 0; the rest of it from 4 GiB. */
#define BOARD_HIGH_RAM GIB(4)

/* The first MiB, when a kernel is started without firmware. */
#define BOARD_EBDA         0x9fc00ull /* where a PC's conventional memory ends */
#define BOARD_VGA          0xa0000ull
#define BOARD_FACS         0xe0000ull /* non-volatile storage for the OS's ACPI */
#define BOARD_ACPI         0xe1000ull /* tables, which the OS may reclaim */
#define BOARD_BIOS         0xf0000ull /* reserved: here kernels search for RSDP and SMBIOS */
#define BOARD_RSDP         0xf0000ull
#define BOARD_SMBIOS       0xf0040ull /* entry point */
#define BOARD_SMBIOS_TABLE 0xf0100ull
#define BOARD_BIOS_END     0x100000ull

/* The hole below 4 GiB. */
#define BOARD_ECAM       0xb0000000ull
#define BOARD_ECAM_BYTES MIB(256)
/*
 * Buses that the guest is told of. There is only one, and kernels probe each
 * slot of each bus in the table: 256 of them cost 8192 exits at every boot.
 */
#define BOARD_PCI_BUSES 1
#define BOARD_PCI32     0xc0000000ull
#define BOARD_PCI32_END 0xfec00000ull
#define BOARD_IOAPIC    0xfec00000ull
#define BOARD_LAPIC     0xfee00000ull
/* The engine's own pages (identity map and task state of a KVM vCPU). */
#define BOARD_ENGINE     0xfeffc000ull
#define BOARD_ENGINE_END 0xff000000ull

/* Behind RAM, aligned to its size's part. */
#define BOARD_PCI64_BYTES GIB(32)
#define BOARD_PCI64_ALIGN GIB(1)

/* I/O ports for BARs; what is below belongs to ISA devices. */
#define BOARD_PCI_IO     0xc000
#define BOARD_PCI_IO_END 0x10000

struct board_layout {
	unsigned cpus;
	uint64_t low_ram_bytes, high_ram_bytes;
	uint64_t pci64, pci64_end;
	bool has_com1;
};

#define BOARD_MEMORY_MIN MIB(4)

/* `memory_bytes` checked: a multiple of 4096 within the limits. */
void board_layout_init(struct board_layout *l, unsigned cpus, uint64_t memory_bytes, bool has_com1);
