/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ACPI tables of the board, placed for a kernel that is started without
 * firmware: RSDP at BOARD_RSDP, FACS at BOARD_FACS, the rest from BOARD_ACPI on.
 * Source: ACPI 6.4, chapter 5.
 */
#pragma once

#include "machine/board.h"

#define ACPI_HEADER_BYTES 36

/* Write the tables into RAM. 0, or -EFAULT if it is not RAM there. */
int acpi_place(struct mem *mem, const struct board_layout *l);

/* The DSDT with its header (checksum right); at most `size` bytes into `buf`; its length. */
size_t acpi_build_dsdt(void *buf, size_t size, const struct board_layout *l);
/* Fill a table's header: its length, identity and checksum. The rest is in place. */
void acpi_header_finish(uint8_t *table, const char signature[4], uint8_t revision, uint32_t len);
