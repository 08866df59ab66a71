/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole board for tests and the fuzzer: every device that there is, with back ends in
 * memory, on a test bus, with a kernel that is one instruction long.
 */
#pragma once

#include "dev/testbus.h"
#include "machine/machine.h"

#define TESTBOARD_RAM_BYTES  MIB(16)
#define TESTBOARD_DISK_BYTES MIB(1)

struct testboard {
	struct testbus *bus;
	struct machine *machine;
	struct chardev *console, *virtio_console;
	struct block *disk;
	struct netio *net, *net_peer; /* joined back to back */
	char dir[32];                 /* temporary, with the kernel and the vsock's socket */
	char kernel[64], socket[64];
	int vsock_fd;
	struct machine_config config; /* as machine_new() got it */
};

/* Everything but the machine; aborts if the host refuses something. */
struct testboard *testboard_prepare(void);
/* The same with the machine made. */
struct testboard *testboard_new(void);
void testboard_free(struct testboard *t);
