/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine for unit tests of devices: RAM, bus, a clock that stands still, and an
 * environment that records what devices ask for. Single-threaded use;
 * the env functions may be called from any thread all the same.
 */
#pragma once

#include "dev/bus.h"
#include "dev/dev.h"
#include "mem/mem.h"

#define TESTBUS_GSIS 24
#define TESTBUS_MSIS 256 /* the last ones are kept */
#define TESTBUS_FDS  64

struct testbus_msi {
	uint64_t address;
	uint32_t data;
};

struct testbus_irqfd {
	int eventfd; /* -1: free */
	struct testbus_msi msi;
};

struct testbus_ioeventfd {
	int eventfd; /* -1: free */
	enum dev_space space;
	uint64_t addr;
	unsigned len;
	bool has_match;
	uint64_t match;
};

struct testbus {
	struct dev_env env;
	struct clock clock;
	struct loop *loop;
	pthread_mutex_t lock;
	bool have_irqfd, have_ioeventfd; /* set before use; false: -ENOTSUP, as on a poor machine */
	bool irq_level[TESTBUS_GSIS];
	unsigned irq_raised[TESTBUS_GSIS]; /* rising edges */
	struct testbus_msi msi[TESTBUS_MSIS];
	unsigned msi_count; /* all; msi[n % TESTBUS_MSIS] */
	unsigned requests[DEV_REQUEST_COUNT];
	unsigned request_value; /* of the last one */
	struct testbus_irqfd irqfd[TESTBUS_FDS];
	struct testbus_ioeventfd ioeventfd[TESTBUS_FDS];
};

/* `ram_bytes` at 0 (multiple of 4096; 0: none). Aborts on failure: it is a test. */
struct testbus *testbus_new(uint64_t ram_bytes);
void testbus_free(struct testbus *t); /* devices must be gone */

/* Accesses as a vCPU makes them; a write that an ioeventfd matches signals it instead. */
uint64_t testbus_read(struct testbus *t, enum dev_space space, uint64_t addr, unsigned size);
void testbus_write(struct testbus *t, enum dev_space space, uint64_t addr, uint64_t value,
		   unsigned size);
static inline uint8_t testbus_inb(struct testbus *t, uint16_t port)
{
	return (uint8_t)testbus_read(t, DEV_PIO, port, 1);
}
static inline uint16_t testbus_inw(struct testbus *t, uint16_t port)
{
	return (uint16_t)testbus_read(t, DEV_PIO, port, 2);
}
static inline uint32_t testbus_inl(struct testbus *t, uint16_t port)
{
	return (uint32_t)testbus_read(t, DEV_PIO, port, 4);
}
static inline void testbus_outb(struct testbus *t, uint16_t port, uint8_t value)
{
	testbus_write(t, DEV_PIO, port, value, 1);
}
static inline void testbus_outw(struct testbus *t, uint16_t port, uint16_t value)
{
	testbus_write(t, DEV_PIO, port, value, 2);
}
static inline void testbus_outl(struct testbus *t, uint16_t port, uint32_t value)
{
	testbus_write(t, DEV_PIO, port, value, 4);
}

/* PCI configuration by ports 0xcf8/0xcfc. */
uint32_t testbus_config_read(struct testbus *t, unsigned devfn, unsigned reg, unsigned size);
void testbus_config_write(struct testbus *t, unsigned devfn, unsigned reg, uint32_t value,
			  unsigned size);

/* Move the clock and serve what is due; then serve the loop and irqfds until all is quiet. */
void testbus_advance(struct testbus *t, ns_t by_ns);
void testbus_settle(struct testbus *t);
/*
 * Like settle, but waits (at most 10 s, real time) until `done` is true: for work of other
 * threads. Returns whether it became true.
 */
bool testbus_wait(struct testbus *t, bool (*done)(void *opaque), void *opaque);
/* The last message, or NULL if there was none since the last call. */
const struct testbus_msi *testbus_last_msi(struct testbus *t);
