/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Port 0x92, the PS/2's system control port A (ICH9 datasheet 13.7.3): bit 0
 * resets when it rises, bit 1 gates A20, which here is always open. Port 0xf4
 * ends the machine with the value written, for test kernels.
 *
 * Port 0x61 (NMI status, speaker) belongs to the timer, which is the engine's:
 * a KVM_CREATE_PIT2 with KVM_PIT_SPEAKER_DUMMY answers it. POST codes (0x80) go nowhere.
 */
#include "dev/chipset/ports.h"

#include <stdlib.h>

#include "dev/bus.h"

#define PORT_A        0x92
#define PORT_A_RESET  BIT(0)
#define PORT_A_A20    BIT(1)
#define PORT_A_STORED 0xfa

enum ports_window { WINDOW_PORT_A, WINDOW_DEBUG_EXIT };

struct ports {
	struct dev dev;
	struct dev_window port_a, debug_exit;
	uint8_t a;
};

static uint64_t ports_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	struct ports *p = container_of(d, struct ports, dev);

	return window == WINDOW_PORT_A ? p->a | PORT_A_A20 : 0;
}

static void ports_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
			unsigned size)
{
	struct ports *p = container_of(d, struct ports, dev);
	const struct dev_env *env = d->env;
	bool reset;

	if (window == WINDOW_DEBUG_EXIT) {
		env->impl->request(env->opaque, DEV_REQUEST_DEBUG_EXIT, (unsigned)value);
		return;
	}
	reset = (value & PORT_A_RESET) && !(p->a & PORT_A_RESET);
	p->a = (uint8_t)(value & (PORT_A_STORED | PORT_A_RESET));
	if (reset) {
		env->impl->request(env->opaque, DEV_REQUEST_RESET, 0);
	}
}

static void ports_reset(struct dev *d)
{
	container_of(d, struct ports, dev)->a = 0;
}

static void ports_done(struct dev *d)
{
	free(container_of(d, struct ports, dev));
}

static const struct dev_class ports_class = {
	.name = "ports",
	.done = ports_done,
	.reset = ports_reset,
	.read = ports_read,
	.write = ports_write,
};

int ports_new(struct dev_env *env, bool debug_exit, struct dev **ret)
{
	struct ports *p = calloc(1, sizeof(*p));
	int r;

	if (!p) {
		return -ENOMEM;
	}
	dev_init(&p->dev, &ports_class, env, NULL);
	dev_window_init(&p->port_a, &p->dev, WINDOW_PORT_A, DEV_PIO, 1, 1, 1);
	dev_window_init(&p->debug_exit, &p->dev, WINDOW_DEBUG_EXIT, DEV_PIO, 4, 1, 4);
	r = bus_map(env->bus, &p->port_a, PORT_A);
	if (r == 0 && debug_exit) {
		r = bus_map(env->bus, &p->debug_exit, PORTS_DEBUG_EXIT);
	}
	if (r < 0) {
		dev_free(&p->dev);
		return r;
	}
	*ret = &p->dev;
	return 0;
}
