/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A serial port: National PC16550D at eight I/O ports. */
#pragma once

#include "dev/dev.h"

struct chardev;

#define SERIAL_COM1_PORT 0x3f8
#define SERIAL_COM1_IRQ  4

/*
 * Map a port at `port` with ISA interrupt `irq`. `c` is borrowed, it must outlive the port;
 * NULL: nothing is connected. 0 or -errno; freed with dev_free().
 */
int serial_new(struct dev_env *env, uint16_t port, unsigned irq, struct chardev *c,
	       struct dev **ret);
