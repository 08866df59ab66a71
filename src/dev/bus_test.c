/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dev/bus.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/test.h"
#include "dev/testbus.h"

/* A device that remembers the accesses that reach it. */
struct probe {
	struct dev dev;
	struct dev_window window;
	uint8_t byte[64];
	unsigned reads, writes, last_size, last_window;
	uint64_t last_offset;
};

static uint64_t probe_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	struct probe *p = container_of(d, struct probe, dev);
	uint64_t value = 0;

	p->reads++;
	p->last_size = size;
	p->last_offset = offset;
	p->last_window = window;
	memcpy(&value, p->byte + offset, size);
	return value;
}

static void probe_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
			unsigned size)
{
	struct probe *p = container_of(d, struct probe, dev);

	p->writes++;
	p->last_size = size;
	p->last_offset = offset;
	p->last_window = window;
	memcpy(p->byte + offset, &value, size);
}

static const struct dev_class probe_class = {
	.name = "probe",
	.read = probe_read,
	.write = probe_write,
};
static const struct dev_class silent_class = { .name = "silent" };

static void probe_init(struct probe *p, struct testbus *t, enum dev_space space, uint64_t base,
		       uint64_t len, unsigned min, unsigned max)
{
	memset(p, 0, sizeof(*p));
	for (unsigned i = 0; i < sizeof(p->byte); i++) {
		p->byte[i] = (uint8_t)(0x10 + i);
	}
	dev_init(&p->dev, &probe_class, &t->env, NULL);
	dev_window_init(&p->window, &p->dev, 7, space, len, min, max);
	bus_map(t->env.bus, &p->window, base);
}

static void test_plain(struct test *t)
{
	struct testbus *b = testbus_new(0);
	struct probe p;

	probe_init(&p, b, DEV_PIO, 0x100, 8, 1, 4);
	CHECK_EQ(t, testbus_inb(b, 0x103), 0x13);
	CHECK_EQ(t, p.last_window, 7);
	CHECK_EQ(t, testbus_inl(b, 0x104), 0x17161514);
	testbus_outw(b, 0x102, 0xbeef);
	CHECK_EQ(t, p.last_offset, 2);
	CHECK_EQ(t, testbus_inw(b, 0x102), 0xbeef);
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x100, 4), 0xffffffff);
	dev_free(&p.dev);
	CHECK_EQ(t, testbus_inb(b, 0x103), 0xff);
	testbus_free(b);
}

static void test_nothing_there(struct test *t)
{
	struct testbus *b = testbus_new(0);
	struct dev d;
	struct dev_window w;

	CHECK_EQ(t, testbus_inl(b, 0xfffe), 0xffffffff);
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, UINT64_MAX - 3, 8), UINT64_MAX);
	testbus_write(b, DEV_MMIO, UINT64_MAX, 1, 8);
	dev_init(&d, &silent_class, &b->env, NULL);
	dev_window_init(&w, &d, 0, DEV_PIO, 4, 1, 1);
	CHECK_EQ(t, bus_map(b->env.bus, &w, 0xfffd), -EINVAL);
	CHECK_EQ(t, bus_map(b->env.bus, &w, 0xfffc), 0);
	CHECK_EQ(t, testbus_inb(b, 0xfffc), 0xff);
	testbus_outb(b, 0xfffc, 1);
	dev_free(&d);
	testbus_free(b);
}

static void test_split(struct test *t)
{
	struct testbus *b = testbus_new(0);
	struct probe p;

	probe_init(&p, b, DEV_MMIO, 0x1000, 16, 1, 2);
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x1000, 8), 0x1716151413121110);
	CHECK_EQ(t, p.reads, 4);
	/* Unaligned: 1 + 2 + 1. */
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x1003, 4), 0x16151413);
	CHECK_EQ(t, p.reads, 7);
	CHECK_EQ(t, p.last_size, 1);
	testbus_write(b, DEV_MMIO, 0x1001, 0xaabbcc, 4);
	CHECK_EQ(t, p.writes, 3);
	CHECK_EQ(t, p.byte[1], 0xcc);
	CHECK_EQ(t, p.byte[4], 0);
	dev_free(&p.dev);
	testbus_free(b);
}

static void test_widen(struct test *t)
{
	struct testbus *b = testbus_new(0);
	struct probe p;

	probe_init(&p, b, DEV_MMIO, 0x1000, 16, 4, 4);
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x1005, 1), 0x15);
	CHECK_EQ(t, p.last_size, 4);
	CHECK_EQ(t, p.last_offset, 4);
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x1003, 2), 0x1413);
	testbus_write(b, DEV_MMIO, 0x1006, 0xeeff, 2);
	CHECK_EQ(t, p.last_offset, 4);
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x1004, 4), 0xeeff1514);
	dev_free(&p.dev);
	testbus_free(b);
}

static void test_cross(struct test *t)
{
	struct testbus *b = testbus_new(0);
	struct probe p, q;

	probe_init(&p, b, DEV_MMIO, 0x1000, 4, 1, 8);
	probe_init(&q, b, DEV_MMIO, 0x1006, 4, 1, 8);
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x1002, 8), 0x13121110ffff1312);
	testbus_write(b, DEV_MMIO, 0x1002, 0x8877665544332211, 8);
	CHECK_EQ(t, p.byte[3], 0x22);
	CHECK_EQ(t, q.byte[0], 0x55);
	CHECK_EQ(t, q.byte[3], 0x88);
	dev_free(&p.dev);
	dev_free(&q.dev);
	testbus_free(b);
}

static void test_overlap(struct test *t)
{
	struct testbus *b = testbus_new(0);
	struct probe p, q;

	probe_init(&p, b, DEV_MMIO, 0x1000, 16, 1, 1);
	probe_init(&q, b, DEV_MMIO, 0x1004, 4, 1, 1);
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x1003, 2), 0x1013);
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x1007, 2), 0x1813);
	bus_map(b->env.bus, &p.window, 0x1000); /* the older becomes the newest */
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x1004, 1), 0x14);
	bus_unmap(b->env.bus, &p.window);
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x1003, 2), 0x10ff);
	bus_unmap(b->env.bus, &p.window);
	bus_map(b->env.bus, &q.window, 0x2000); /* moves */
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x1004, 1), 0xff);
	CHECK_EQ(t, testbus_read(b, DEV_MMIO, 0x2000, 1), 0x10);
	dev_free(&p.dev);
	dev_free(&q.dev);
	testbus_free(b);
}

/* Random maps and unmaps against a plain search. */
static void test_random_maps(struct test *t)
{
	struct testbus *b = testbus_new(0);
	struct probe p[40];
	unsigned order[40] = { 0 }, clock = 0, seed = 1;

	for (unsigned i = 0; i < 40; i++) {
		probe_init(&p[i], b, DEV_MMIO, 0, 1 + i, 1, 1);
		bus_unmap(b->env.bus, &p[i].window);
		memset(p[i].byte, (int)i, sizeof(p[i].byte));
	}
	for (unsigned round = 0; round < 2000; round++) {
		unsigned i = (seed = seed * 1103515245 + 12345) >> 16, at;

		i %= 40;
		at = ((seed = seed * 1103515245 + 12345) >> 16) % 256;
		if (seed & BIT(12)) {
			bus_map(b->env.bus, &p[i].window, at);
			order[i] = ++clock;
		} else {
			bus_unmap(b->env.bus, &p[i].window);
			order[i] = 0;
		}
		for (unsigned a = 0; a < 300; a += 7) {
			unsigned want = 0xff, best = 0;

			for (unsigned k = 0; k < 40; k++) {
				const struct dev_window *w = &p[k].window;

				if (order[k] > best && a >= w->base && a < w->base + w->len) {
					best = order[k];
					want = k;
				}
			}
			CHECK_EQ(t, testbus_read(b, DEV_MMIO, a, 1), want);
		}
	}
	for (unsigned i = 0; i < 40; i++) {
		dev_free(&p[i].dev);
	}
	testbus_free(b);
}

struct race {
	struct testbus *bus;
	_Atomic bool stop;
	_Atomic unsigned bad;
};

static void *race_reader(void *opaque)
{
	struct race *r = opaque;

	while (!atomic_load(&r->stop)) {
		uint64_t v = testbus_read(r->bus, DEV_MMIO, 0x1008, 1);

		/* 0x18: the big window; 0x10: the small one over it, if it is there. */
		if (v != 0x18 && v != 0x10) {
			atomic_fetch_add(&r->bad, 1);
		}
	}
	return NULL;
}

static void test_move_under_access(struct test *t)
{
	struct testbus *b = testbus_new(0);
	struct race r = { .bus = b };
	struct probe p, q;
	pthread_t thread;

	probe_init(&p, b, DEV_MMIO, 0x1000, 16, 1, 1);
	probe_init(&q, b, DEV_MMIO, 0x1008, 4, 1, 1);
	CHECK_EQ(t, pthread_create(&thread, NULL, race_reader, &r), 0);
	for (unsigned i = 0; i < 20000; i++) {
		bus_map(b->env.bus, &q.window, i & 1 ? 0x1008 : 0x3000);
	}
	atomic_store(&r.stop, true);
	pthread_join(thread, NULL);
	CHECK_EQ(t, r.bad, 0);
	dev_free(&p.dev);
	dev_free(&q.dev);
	testbus_free(b);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "plain", test_plain },
		{ "nothing there", test_nothing_there },
		{ "split", test_split },
		{ "widen", test_widen },
		{ "cross", test_cross },
		{ "overlap", test_overlap },
		{ "random maps", test_random_maps },
		{ "move under access", test_move_under_access },
		{ 0 },
	};

	return test_main(argc, argv, cases);
}
