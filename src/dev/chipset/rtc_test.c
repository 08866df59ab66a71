/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dev/chipset/rtc.h"

#include <stdlib.h>
#include <time.h>

#include "base/test.h"
#include "dev/chipset/rtc_time_int.h"
#include "dev/testbus.h"

/* 2024-02-28 23:59:58 UTC, a Wednesday; the clock starts a quarter second later. */
#define START_S  1709164798ll
#define START_NS (START_S * NS_PER_S + NS_PER_S / 4)

struct fixture {
	struct testbus *b;
	struct dev *d;
};

static void setup(struct fixture *f)
{
	struct rtc_config c = { .memory_below_4g = MIB(256),
				.memory_above_4g = GIB(3),
				.cpus = 4,
				.epoch_ns = START_NS };

	f->b = testbus_new(0);
	if (rtc_new(&f->b->env, &c, &f->d) < 0) {
		abort();
	}
}

static void teardown(struct fixture *f)
{
	dev_free(f->d);
	testbus_free(f->b);
}

static uint8_t rd(struct fixture *f, uint8_t reg)
{
	testbus_outb(f->b, 0x70, reg);
	return testbus_inb(f->b, 0x71);
}

static void wr(struct fixture *f, uint8_t reg, uint8_t value)
{
	testbus_outb(f->b, 0x70, reg);
	testbus_outb(f->b, 0x71, value);
}

/* year (with century) … second, as BCD digits in one number */
static uint64_t now(struct fixture *f)
{
	static const uint8_t regs[] = { 0x32, 9, 8, 7, 4, 2, 0 };
	uint64_t v = 0;

	for (unsigned i = 0; i < sizeof(regs); i++) {
		v = v << 8 | rd(f, regs[i]);
	}
	return v;
}

static void test_calendar(struct test *t)
{
	/* The C library's calendar as the oracle, days around every leap rule. */
	for (int64_t s = -5000000000; s < 8000000000; s += 86400 * 13 + 3601) {
		time_t want_time = s;
		struct tm want;
		struct rtc_time got;

		gmtime_r(&want_time, &want);
		rtc_time_split(s, &got);
		CHECK(t, got.year == want.tm_year + 1900 && got.month == want.tm_mon + 1 &&
				 got.day == want.tm_mday && got.hour == want.tm_hour &&
				 got.minute == want.tm_min && got.second == want.tm_sec &&
				 got.weekday == want.tm_wday + 1);
		CHECK_EQ(t, rtc_time_join(&got), s);
	}
}

static void test_time(struct test *t)
{
	struct fixture f;

	setup(&f);
	CHECK_EQ(t, now(&f), 0x20240228235958);
	CHECK_EQ(t, rd(&f, 6), 4);
	testbus_advance(f.b, 2 * NS_PER_S);
	CHECK_EQ(t, now(&f), 0x20240229000000); /* a leap year */
	CHECK_EQ(t, rd(&f, 6), 5);
	wr(&f, 0x0b, 0x06); /* binary */
	CHECK_EQ(t, rd(&f, 7), 29);
	testbus_advance(f.b, 13 * 3600 * NS_PER_S);
	wr(&f, 0x0b, 0x00); /* BCD, 12 hours */
	CHECK_EQ(t, rd(&f, 4), 0x81);
	dev_reset(f.d);
	wr(&f, 0x0b, 0x02);
	CHECK_EQ(t, now(&f), 0x20240229130000); /* a reset does not stop the clock */
	teardown(&f);
}

static void test_set(struct test *t)
{
	struct fixture f;

	setup(&f);
	wr(&f, 0x0b, 0x82);
	wr(&f, 9, 0x31);
	wr(&f, 8, 0x12);
	wr(&f, 7, 0x31);
	testbus_advance(f.b, 5 * NS_PER_S); /* it stands still meanwhile */
	CHECK_EQ(t, now(&f), 0x20311231235958);
	wr(&f, 0x0b, 0x02);
	CHECK_EQ(t, now(&f), 0x20311231235958);
	testbus_advance(f.b, 3 * NS_PER_S);
	CHECK_EQ(t, now(&f), 0x20320101000001);
	wr(&f, 0, 0x30); /* one register alone */
	CHECK_EQ(t, now(&f), 0x20320101000030);
	/* Nonsense: any values, never a crash; the clock goes on from somewhere. */
	wr(&f, 0x32, 0xff);
	wr(&f, 9, 0xff);
	wr(&f, 8, 0);
	wr(&f, 7, 0xff);
	wr(&f, 4, 0xff);
	now(&f);
	testbus_advance(f.b, 3 * NS_PER_S);
	now(&f);
	teardown(&f);
}

static void test_update_in_progress(struct test *t)
{
	struct fixture f;

	setup(&f);
	CHECK_EQ(t, rd(&f, 0x0a), 0x26);
	/* 100 us before the next second. */
	testbus_advance(f.b, 3 * NS_PER_S / 4 - 100 * NS_PER_US);
	CHECK_EQ(t, rd(&f, 0x0a), 0xa6);
	testbus_advance(f.b, 100 * NS_PER_US);
	CHECK_EQ(t, rd(&f, 0x0a), 0x26);
	CHECK_EQ(t, rd(&f, 0x0d), 0x80);
	teardown(&f);
}

static void test_update_interrupt(struct test *t)
{
	struct fixture f;

	setup(&f);
	rd(&f, 0x0c);
	testbus_advance(f.b, NS_PER_S);
	CHECK_EQ(t, rd(&f, 0x0c), 0x50); /* flags, periodic one too, but no interrupt */
	wr(&f, 0x0b, 0x12);
	CHECK(t, !f.b->irq_level[8]);
	testbus_advance(f.b, NS_PER_S);
	CHECK(t, f.b->irq_level[8]);
	CHECK_EQ(t, rd(&f, 0x0c), 0xf0); /* midnight: the alarm at 00:00:00, too */
	CHECK(t, !f.b->irq_level[8]);
	CHECK_EQ(t, rd(&f, 0x0c), 0);
	testbus_advance(f.b, NS_PER_S);
	CHECK(t, f.b->irq_level[8]);
	dev_reset(f.d);
	CHECK(t, !f.b->irq_level[8]);
	teardown(&f);
}

static void test_periodic(struct test *t)
{
	struct fixture f;
	unsigned count = 0;

	setup(&f);
	wr(&f, 0x0a, 0x26); /* 1024 Hz */
	rd(&f, 0x0c);
	wr(&f, 0x0b, 0x42);
	for (unsigned i = 0; i < 4000; i++) { /* a second */
		testbus_advance(f.b, 250 * NS_PER_US);
		if (f.b->irq_level[8]) {
			count++;
			CHECK_EQ(t, rd(&f, 0x0c) & 0xc0, 0xc0);
		}
	}
	CHECK(t, count >= 1023 && count <= 1025);
	wr(&f, 0x0a, 0x20); /* rate 0: off */
	rd(&f, 0x0c);
	testbus_advance(f.b, NS_PER_S / 2);
	CHECK(t, !f.b->irq_level[8]);
	teardown(&f);
}

static void test_alarm(struct test *t)
{
	struct fixture f;

	setup(&f);
	rd(&f, 0x0c);
	wr(&f, 5, 0x00);
	wr(&f, 3, 0x01);
	wr(&f, 1, 0x10); /* 00:01:10, 72 s ahead, past midnight */
	wr(&f, 0x0b, 0x22);
	testbus_advance(f.b, 71 * NS_PER_S);
	CHECK(t, !f.b->irq_level[8]);
	testbus_advance(f.b, NS_PER_S);
	CHECK(t, f.b->irq_level[8]);
	CHECK_EQ(t, rd(&f, 0x0c) & 0xa0, 0xa0);
	/* Every minute at second 10. */
	wr(&f, 5, 0xff);
	wr(&f, 3, 0xc0);
	testbus_advance(f.b, 59 * NS_PER_S);
	CHECK(t, !f.b->irq_level[8]);
	testbus_advance(f.b, NS_PER_S);
	CHECK(t, f.b->irq_level[8]);
	rd(&f, 0x0c);
	wr(&f, 1, 0x77); /* no such second: never */
	testbus_advance(f.b, 100000 * NS_PER_S);
	CHECK(t, !f.b->irq_level[8]);
	teardown(&f);
}

static void test_bytes(struct test *t)
{
	struct fixture f;

	setup(&f);
	CHECK_EQ(t, rd(&f, 0x15) | rd(&f, 0x16) << 8, 640);
	CHECK_EQ(t, rd(&f, 0x17) | rd(&f, 0x18) << 8, 0xffff);
	CHECK_EQ(t, rd(&f, 0x34) | rd(&f, 0x35) << 8, MIB(240) >> 16);
	CHECK_EQ(t, rd(&f, 0x5b) | rd(&f, 0x5c) << 8 | rd(&f, 0x5d) << 16, GIB(3) >> 16);
	CHECK_EQ(t, rd(&f, 0x5f), 3);
	wr(&f, 0x8f, 0x0a); /* shutdown status, with NMI masked */
	CHECK_EQ(t, rd(&f, 0x0f), 0x0a);
	testbus_outb(f.b, 0x72, 0x8f); /* the upper bank is another */
	testbus_outb(f.b, 0x73, 0x55);
	CHECK_EQ(t, rd(&f, 0x0f), 0x0a);
	CHECK_EQ(t, testbus_inb(f.b, 0x73), 0x55);
	teardown(&f);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "calendar", test_calendar },
		{ "time", test_time },
		{ "set", test_set },
		{ "update in progress", test_update_in_progress },
		{ "update interrupt", test_update_interrupt },
		{ "periodic", test_periodic },
		{ "alarm", test_alarm },
		{ "bytes", test_bytes },
		{ 0 },
	};

	return test_main(argc, argv, cases);
}
