/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile guest: any accesses to any window of a full board, any bytes in its RAM, time that
 * goes on, resets in between. The input is a program of operations:
 *
 *	op, window, offset (2 bytes), value (up to 8 bytes, as op says)
 *
 * The first input byte chooses whether the machine has irqfds and ioeventfds.
 */
#include <stdlib.h>

#include "dev/char/chardev.h"
#include "machine/board.h"
#include "machine/testboard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OPS_MAX    400 /* time for one input stays short */
#define RINGS_BASE 0x8000ull
#define RINGS_MASK 0xffffull

enum op {
	OP_READ,
	OP_WRITE,
	OP_RAM,
	OP_ADVANCE,
	OP_SETTLE,
	OP_RESET,
	OP_BUTTON,
	OP_FEED,
	OP_COUNT
};

static const struct target {
	enum dev_space space;
	uint64_t base, len;
} targets[] = {
	{ DEV_PIO, 0x3f8, 8 },
	{ DEV_PIO, 0x60, 0x20 },
	{ DEV_PIO, 0x90, 8 },
	{ DEV_PIO, 0xb0, 8 },
	{ DEV_PIO, 0xf0, 8 },
	{ DEV_PIO, 0x50e, 16 },
	{ DEV_PIO, 0x600, 0x84 },
	{ DEV_PIO, 0xcf6, 12 },
	{ DEV_PIO, 0, 0x10000 },
	{ DEV_MMIO, BOARD_ECAM, 0x10000 },
	{ DEV_MMIO, BOARD_ECAM + (1 << 15), 0x10000 },
	{ DEV_MMIO, BOARD_ECAM + (0x1f << 15), 0x1000 },
	{ DEV_MMIO, BOARD_PCI32, 0x10000 },
	{ DEV_MMIO, BOARD_PCI32 + 0x10000, 0x10000 },
	{ DEV_MMIO, BOARD_PCI32 + 0x20000, 0x10000 },
	{ DEV_MMIO, 0xfed1c000, 0x4000 },
	{ DEV_MMIO, UINT64_MAX - 0xffff, 0x10000 },
};

struct input {
	const uint8_t *at, *end;
};

static uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes && in->at < in->end; i++) {
		v |= (uint64_t)*in->at++ << (8 * i);
	}
	return v;
}

static void step(struct testboard *b, struct input *in)
{
	uint8_t head = (uint8_t)take(in, 1);
	const struct target *t = &targets[take(in, 1) % ARRAY_SIZE(targets)];
	uint64_t at = t->base + take(in, 2) % t->len, value;
	unsigned bytes = 1u << (head >> 6);
	char error[256];

	switch ((enum op)((head & 0x3f) % OP_COUNT)) {
	case OP_READ:
		testbus_read(b->bus, t->space, at, bytes);
		break;
	case OP_WRITE:
		testbus_write(b->bus, t->space, at, take(in, bytes), bytes);
		break;
	case OP_RAM: /* rings lie here if the guest wants to find them */
		value = take(in, bytes);
		mem_write(b->bus->env.mem, RINGS_BASE + (at & RINGS_MASK), &value, bytes);
		break;
	case OP_ADVANCE:
		testbus_advance(b->bus, (ns_t)take(in, bytes) & 0xfffffffffll);
		break;
	case OP_RESET:
		if (machine_reset(b->machine, error, sizeof(error)) < 0) {
			abort();
		}
		break;
	case OP_BUTTON:
		machine_power_button(b->machine);
		break;
	case OP_FEED:
		chardev_memory_feed(b->console, "key", 3);
		testbus_settle(b->bus);
		break;
	default:
		testbus_settle(b->bus);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	uint8_t mode = (uint8_t)take(&in, 1);
	struct testboard *b = testboard_prepare();
	char error[256];

	b->bus->have_irqfd = mode & 1;
	b->bus->have_ioeventfd = mode & 2;
	if (machine_new(&b->bus->env, &b->config, error, sizeof(error), &b->machine) < 0) {
		abort();
	}
	for (unsigned i = 0; i < OPS_MAX && in.at < in.end; i++) {
		step(b, &in);
	}
	testboard_free(b);
	return 0;
}
