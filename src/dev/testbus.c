/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine for unit tests: see the header. */
#include "dev/testbus.h"

#include <stdlib.h>

#include "base/assert.h"

#define WAIT_LIMIT_NS (10 * NS_PER_S)
#define WAIT_STEP_NS  (10 * NS_PER_MS)

static void irq_set(void *opaque, unsigned gsi, bool level)
{
	struct testbus *t = opaque;

	ASSERT(gsi < TESTBUS_GSIS);
	pthread_mutex_lock(&t->lock);
	t->irq_raised[gsi] += level && !t->irq_level[gsi];
	t->irq_level[gsi] = level;
	pthread_mutex_unlock(&t->lock);
}

static int msi_send(void *opaque, uint64_t address, uint32_t data)
{
	struct testbus *t = opaque;

	pthread_mutex_lock(&t->lock);
	t->msi[t->msi_count++ % TESTBUS_MSIS] = (struct testbus_msi){ address, data };
	pthread_mutex_unlock(&t->lock);
	return 0;
}

static int ioeventfd_add(void *opaque, enum dev_space space, uint64_t addr, unsigned len,
			 const uint64_t *match, int eventfd)
{
	struct testbus *t = opaque;
	int r = -ENOSPC;

	if (!t->have_ioeventfd) {
		return -ENOTSUP;
	}
	pthread_mutex_lock(&t->lock);
	for (unsigned i = 0; i < TESTBUS_FDS && r < 0; i++) {
		struct testbus_ioeventfd *e = &t->ioeventfd[i];

		if (e->eventfd < 0) {
			*e = (struct testbus_ioeventfd){
				eventfd, space, addr, len, match != NULL, match ? *match : 0
			};
			r = 0;
		}
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

static bool same_ioeventfd(const struct testbus_ioeventfd *e, enum dev_space space, uint64_t addr,
			   unsigned len, const uint64_t *match, int eventfd)
{
	return e->eventfd == eventfd && e->space == space && e->addr == addr && e->len == len &&
	       e->has_match == (match != NULL) && (!match || *match == e->match);
}

static void ioeventfd_del(void *opaque, enum dev_space space, uint64_t addr, unsigned len,
			  const uint64_t *match, int eventfd)
{
	struct testbus *t = opaque;
	bool found = false;

	pthread_mutex_lock(&t->lock);
	for (unsigned i = 0; i < TESTBUS_FDS; i++) {
		if (same_ioeventfd(&t->ioeventfd[i], space, addr, len, match, eventfd)) {
			t->ioeventfd[i].eventfd = -1;
			found = true;
		}
	}
	pthread_mutex_unlock(&t->lock);
	ASSERT(found);
}

static int irqfd_set(void *opaque, int eventfd, uint64_t address, uint32_t data, int *route)
{
	struct testbus *t = opaque;
	int r = -ENOSPC;

	if (!t->have_irqfd) {
		return -ENOTSUP;
	}
	pthread_mutex_lock(&t->lock);
	for (int i = 0; i < TESTBUS_FDS && *route < 0; i++) {
		*route = t->irqfd[i].eventfd < 0 ? i : -1;
	}
	if (*route >= 0) {
		t->irqfd[*route] = (struct testbus_irqfd){ eventfd, { address, data } };
		r = 0;
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

static void irqfd_clear(void *opaque, int eventfd, int *route)
{
	struct testbus *t = opaque;

	pthread_mutex_lock(&t->lock);
	ASSERT(*route >= 0 && t->irqfd[*route].eventfd == eventfd);
	t->irqfd[*route].eventfd = -1;
	*route = -1;
	pthread_mutex_unlock(&t->lock);
}

static void request(void *opaque, enum dev_request what, unsigned value)
{
	struct testbus *t = opaque;

	pthread_mutex_lock(&t->lock);
	t->requests[what]++;
	t->request_value = value;
	pthread_mutex_unlock(&t->lock);
}

static const struct dev_env_impl testbus_impl = {
	.irq_set = irq_set,
	.msi_send = msi_send,
	.ioeventfd_add = ioeventfd_add,
	.ioeventfd_del = ioeventfd_del,
	.irqfd_set = irqfd_set,
	.irqfd_clear = irqfd_clear,
	.request = request,
};

struct testbus *testbus_new(uint64_t ram_bytes)
{
	struct testbus *t = calloc(1, sizeof(*t));

	ASSERT(t);
	pthread_mutex_init(&t->lock, NULL);
	t->clock.manual = true;
	t->clock.manual_ns = NS_PER_S;
	for (unsigned i = 0; i < TESTBUS_FDS; i++) {
		t->irqfd[i].eventfd = -1;
		t->ioeventfd[i].eventfd = -1;
	}
	t->env.impl = &testbus_impl;
	t->env.opaque = t;
	ASSERT(loop_new(&t->clock, &t->loop) == 0);
	t->env.loop = t->loop;
	ASSERT(bus_new(&t->env.bus) == 0);
	ASSERT(mem_new(&t->env.mem) == 0);
	ASSERT(!ram_bytes || mem_add(t->env.mem, 0, ram_bytes, 0, "ram") == 0);
	return t;
}

void testbus_free(struct testbus *t)
{
	if (!t) {
		return;
	}
	for (unsigned i = 0; i < TESTBUS_FDS; i++) { /* what devices forgot to give back */
		ASSERT(t->irqfd[i].eventfd < 0 && t->ioeventfd[i].eventfd < 0);
	}
	bus_free(t->env.bus);
	loop_free(t->loop);
	mem_free(t->env.mem);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

uint64_t testbus_read(struct testbus *t, enum dev_space space, uint64_t addr, unsigned size)
{
	uint64_t value = 0;

	bus_read(t->env.bus, space, addr, &value, size);
	return value;
}

/* The eventfd that takes this write, or -1. */
static int find_ioeventfd(struct testbus *t, enum dev_space space, uint64_t addr, uint64_t value,
			  unsigned size)
{
	int fd = -1;

	pthread_mutex_lock(&t->lock);
	for (unsigned i = 0; i < TESTBUS_FDS && fd < 0; i++) {
		const struct testbus_ioeventfd *e = &t->ioeventfd[i];

		if (e->eventfd >= 0 && e->space == space && e->addr == addr &&
		    (!e->len || e->len == size) && (!e->has_match || e->match == value)) {
			fd = e->eventfd;
		}
	}
	pthread_mutex_unlock(&t->lock);
	return fd;
}

void testbus_write(struct testbus *t, enum dev_space space, uint64_t addr, uint64_t value,
		   unsigned size)
{
	int fd = find_ioeventfd(t, space, addr, value, size);
	uint64_t one = 1;

	if (fd >= 0) {
		ASSERT(write(fd, &one, sizeof(one)) == sizeof(one));
	} else {
		bus_write(t->env.bus, space, addr, &value, size);
	}
}

static uint32_t config_address(unsigned devfn, unsigned reg)
{
	return BIT(31) | devfn << 8 | (reg & 0xfc);
}

uint32_t testbus_config_read(struct testbus *t, unsigned devfn, unsigned reg, unsigned size)
{
	testbus_outl(t, 0xcf8, config_address(devfn, reg));
	return (uint32_t)testbus_read(t, DEV_PIO, 0xcfc + (reg & 3), size);
}

void testbus_config_write(struct testbus *t, unsigned devfn, unsigned reg, uint32_t value,
			  unsigned size)
{
	testbus_outl(t, 0xcf8, config_address(devfn, reg));
	testbus_write(t, DEV_PIO, 0xcfc + (reg & 3), value, size);
}

/* Turn signals of irqfds into messages, as KVM does. True if there was one. */
static bool irqfds_serve(struct testbus *t)
{
	bool any = false;

	for (unsigned i = 0; i < TESTBUS_FDS; i++) {
		struct testbus_irqfd e = t->irqfd[i];
		uint64_t count;

		if (e.eventfd >= 0 && read(e.eventfd, &count, sizeof(count)) == sizeof(count)) {
			msi_send(t, e.msi.address, e.msi.data);
			any = true;
		}
	}
	return any;
}

void testbus_settle(struct testbus *t)
{
	bool again;

	do {
		again = irqfds_serve(t);
		again |= loop_poll(t->loop, 0);
	} while (again);
}

bool testbus_wait(struct testbus *t, bool (*done)(void *opaque), void *opaque)
{
	ns_t until = clock_now_ns() + WAIT_LIMIT_NS;

	testbus_settle(t);
	while (!done(opaque)) {
		if (clock_now_ns() > until) {
			return false;
		}
		loop_poll(t->loop, WAIT_STEP_NS);
		testbus_settle(t);
	}
	return true;
}

void testbus_advance(struct testbus *t, ns_t by_ns)
{
	t->clock.manual_ns += by_ns;
	testbus_settle(t);
}

const struct testbus_msi *testbus_last_msi(struct testbus *t)
{
	const struct testbus_msi *last = NULL;

	testbus_settle(t);
	if (t->msi_count) {
		last = &t->msi[(t->msi_count - 1) % TESTBUS_MSIS];
		t->msi_count = 0;
	}
	return last;
}
