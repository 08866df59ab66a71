/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Single ports of the PC that are no device of their own. */
#pragma once

#include "dev/dev.h"

#define PORTS_DEBUG_EXIT 0xf4

/*
 * Port 0x92 (fast A20 and reset) and, with `debug_exit`, port 0xf4: a value written there
 * becomes DEV_REQUEST_DEBUG_EXIT. 0 or -errno; freed with dev_free().
 */
int ports_new(struct dev_env *env, bool debug_exit, struct dev **ret);
