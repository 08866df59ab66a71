/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SMBIOS tables, for a kernel that is started without firmware. Source: DMTF DSP0134 3.6. */
#pragma once

#include "machine/board.h"

/*
 * Write the 64-bit entry point to BOARD_SMBIOS and the table to BOARD_SMBIOS_TABLE. 0, or
 * -EFAULT if it is not RAM there.
 */
int smbios_place(struct mem *mem, const struct board_layout *l);
