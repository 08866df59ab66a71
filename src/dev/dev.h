/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices and the world around them.
 *
 * A device is a struct with `struct dev` as its first member and one static
 * const struct dev_class. It touches the rest only through struct dev_env
 * (memory, interrupts, time, the I/O loop) and through its bus, so it runs the
 * same in a guest and on a test bus.
 *
 * Locks: every device has its own mutex (dev->lock). The bus takes it around
 * read() and write(); a device's own callbacks (timers, descriptors, backend
 * completions) take it themselves with dev_lock(). Interrupt functions of the
 * env may be called with it held; nothing else of another device may.
 */
#pragma once

#include <pthread.h>

#include "base/loop.h"
#include "base/util.h"

struct dev;
struct mem;
struct mem_region;

enum dev_space { DEV_PIO, DEV_MMIO, DEV_SPACE_COUNT };

enum dev_request {
	DEV_REQUEST_POWEROFF,   /* ACPI S5 */
	DEV_REQUEST_RESET,      /* keyboard controller, 0xcf9, FADT reset register */
	DEV_REQUEST_DEBUG_EXIT, /* port 0xf4, value as written */
	DEV_REQUEST_SUSPEND,    /* ACPI S3 */
	DEV_REQUEST_COUNT
};

/*
 * What a device may ask of the machine. One per machine; `impl` functions may
 * be called from any thread and never block for long.
 */
struct dev_env_impl {
	/* Set the level of an interrupt controllers' line (GSI numbers: 0-15 ISA, 16-23 PCI). */
	void (*irq_set)(void *opaque, unsigned gsi, bool level);
	/* Send a message-signalled interrupt. 0, or -errno if nobody takes it. */
	int (*msi_send)(void *opaque, uint64_t address, uint32_t data);
	/*
	 * Have `eventfd` signalled, with no exit to us, when the guest writes `len` (0: any)
	 * bytes at `addr`; `match` NULL: any value. Returns 0, or -errno: then writes
	 * come to write() as ever. Removed with the same arguments.
	 */
	int (*ioeventfd_add)(void *opaque, enum dev_space space, uint64_t addr, unsigned len,
			     const uint64_t *match, int eventfd);
	void (*ioeventfd_del)(void *opaque, enum dev_space space, uint64_t addr, unsigned len,
			      const uint64_t *match, int eventfd);
	/*
	 * Turn each write to `eventfd` into this MSI. *route: -1 to make a new
	 * route, else an old one is changed. 0 or -errno (then use msi_send).
	 */
	int (*irqfd_set)(void *opaque, int eventfd, uint64_t address, uint32_t data, int *route);
	void (*irqfd_clear)(void *opaque, int eventfd, int *route);
	/* The guest wants the machine to do this; returns at once, done later by the vmm. */
	void (*request)(void *opaque, enum dev_request what, unsigned value);
};

struct dev_env {
	const struct dev_env_impl *impl;
	void *opaque;
	struct mem *mem;
	struct loop *loop;
	struct bus *bus; /* where devices map their windows */
};

/*
 * One class a device. Absent slots have working defaults: read gives all ones,
 * write is ignored, reset does nothing.
 */
struct dev_class {
	const char *name;
	/* Free what the device holds, and the device itself. Windows are unmapped before. */
	void (*done)(struct dev *d);
	/* Back to the state after power-on. Called with the lock held, vCPUs paused or not. */
	void (*reset)(struct dev *d);
	/*
	 * An access to window `window` at `offset`: inside the window, aligned and sized as the
	 * window says (the bus splits and widens). Called with dev->lock held.
	 */
	uint64_t (*read)(struct dev *d, unsigned window, uint64_t offset, unsigned size);
	void (*write)(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
		      unsigned size);
};

/* A range of ports or memory that a device answers. Embedded in the device. */
struct dev_window {
	struct dev *dev;
	unsigned id; /* passed back as `window` */
	enum dev_space space;
	uint64_t base; /* valid while mapped */
	uint64_t len;
	uint8_t min_size; /* 1, 2, 4, 8; the bus splits or merges smaller accesses */
	uint8_t max_size;
	bool mapped;
};

struct dev {
	const struct dev_class *cls;
	struct dev_env *env;
	pthread_mutex_t lock;
	char name[32]; /* for messages: "virtio-blk 0" */
};

/* Set up the common part; `name` NULL: the class's. */
void dev_init(struct dev *d, const struct dev_class *cls, struct dev_env *env, const char *name);
/* Calls the class's done(), which frees. NULL is fine. */
void dev_free(struct dev *d);
void dev_reset(struct dev *d);

static inline void dev_lock(struct dev *d)
{
	pthread_mutex_lock(&d->lock);
}

static inline void dev_unlock(struct dev *d)
{
	pthread_mutex_unlock(&d->lock);
}

static inline void dev_irq_set(struct dev *d, unsigned gsi, bool level)
{
	d->env->impl->irq_set(d->env->opaque, gsi, level);
}
