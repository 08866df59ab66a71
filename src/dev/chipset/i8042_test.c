/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dev/chipset/i8042.h"

#include <stdlib.h>

#include "base/test.h"
#include "dev/testbus.h"

struct fixture {
	struct testbus *b;
	struct dev *d;
};

static void setup(struct fixture *f)
{
	f->b = testbus_new(0);
	if (i8042_new(&f->b->env, &f->d) < 0) {
		abort();
	}
}

static void teardown(struct fixture *f)
{
	dev_free(f->d);
	testbus_free(f->b);
}

static void command(struct fixture *f, uint8_t c)
{
	testbus_outb(f->b, 0x64, c);
}

static void data(struct fixture *f, uint8_t c)
{
	testbus_outb(f->b, 0x60, c);
}

static void mouse(struct fixture *f, uint8_t c)
{
	command(f, 0xd4);
	data(f, c);
}

/* The next byte, 0x100 added if it is the mouse's; 0xfff if there is none. */
static unsigned next(struct fixture *f)
{
	uint8_t status = testbus_inb(f->b, 0x64);

	if (!(status & 1)) {
		return 0xfff;
	}
	return testbus_inb(f->b, 0x60) | (status & 0x20 ? 0x100 : 0);
}

static void test_controller(struct test *t)
{
	struct fixture f;

	setup(&f);
	CHECK_EQ(t, next(&f), 0xfff);
	command(&f, 0xaa);
	CHECK_EQ(t, next(&f), 0x55);
	command(&f, 0xab);
	CHECK_EQ(t, next(&f), 0);
	command(&f, 0xa9);
	CHECK_EQ(t, next(&f), 0);
	command(&f, 0x20);
	CHECK_EQ(t, next(&f), 0x47);
	command(&f, 0x60);
	data(&f, 0x65);
	command(&f, 0x20);
	CHECK_EQ(t, next(&f), 0x65);
	command(&f, 0xa7);
	command(&f, 0x20);
	CHECK_EQ(t, next(&f) & 0x20, 0x20);
	command(&f, 0xa8);
	command(&f, 0x20);
	CHECK_EQ(t, next(&f) & 0x20, 0);
	command(&f, 0xd3); /* loop through the mouse's port: how drivers find it */
	data(&f, 0x5a);
	CHECK_EQ(t, next(&f), 0x15a);
	command(&f, 0xd2);
	data(&f, 0xa5);
	CHECK_EQ(t, next(&f), 0xa5);
	CHECK_EQ(t, next(&f), 0xfff);
	teardown(&f);
}

static void test_reset_pulse(struct test *t)
{
	struct fixture f;

	setup(&f);
	command(&f, 0xff); /* nothing pulsed */
	CHECK_EQ(t, f.b->requests[DEV_REQUEST_RESET], 0);
	command(&f, 0xfe);
	CHECK_EQ(t, f.b->requests[DEV_REQUEST_RESET], 1);
	command(&f, 0xd1);
	data(&f, 0x02);
	CHECK_EQ(t, f.b->requests[DEV_REQUEST_RESET], 2);
	command(&f, 0xd0);
	CHECK_EQ(t, next(&f) & 2, 2); /* A20 */
	teardown(&f);
}

static void test_keyboard(struct test *t)
{
	static const uint8_t press_a[] = { 0x1c }, release_a[] = { 0xf0, 0x1c };
	struct fixture f;

	setup(&f);
	data(&f, 0xff);
	CHECK_EQ(t, next(&f), 0xfa);
	CHECK_EQ(t, next(&f), 0xaa);
	data(&f, 0xf2);
	CHECK_EQ(t, next(&f), 0xfa);
	CHECK_EQ(t, next(&f), 0xab);
	CHECK_EQ(t, next(&f), 0x41); /* 0x83, translated */
	data(&f, 0xed);
	CHECK_EQ(t, next(&f), 0xfa);
	data(&f, 0x07);
	CHECK_EQ(t, next(&f), 0xfa);
	data(&f, 0xee);
	CHECK_EQ(t, next(&f), 0xee);
	data(&f, 0x42);
	CHECK_EQ(t, next(&f), 0xfe);
	CHECK(t, !f.b->irq_level[1]);
	i8042_send_key(f.d, press_a, sizeof(press_a));
	CHECK(t, f.b->irq_level[1]);
	CHECK_EQ(t, next(&f), 0x1e);
	CHECK(t, !f.b->irq_level[1]);
	i8042_send_key(f.d, release_a, sizeof(release_a));
	CHECK_EQ(t, next(&f), 0x9e);
	command(&f, 0x60);
	data(&f, 0x05); /* no translation */
	i8042_send_key(f.d, release_a, sizeof(release_a));
	CHECK_EQ(t, next(&f), 0xf0);
	CHECK_EQ(t, next(&f), 0x1c);
	data(&f, 0xf0);
	data(&f, 0x00);
	CHECK_EQ(t, next(&f), 0xfa);
	CHECK_EQ(t, next(&f), 0xfa);
	CHECK_EQ(t, next(&f), 2);
	data(&f, 0xf5);
	CHECK_EQ(t, next(&f), 0xfa);
	i8042_send_key(f.d, press_a, sizeof(press_a)); /* not scanning */
	CHECK_EQ(t, next(&f), 0xfff);
	teardown(&f);
}

static void test_keyboard_overflow(struct test *t)
{
	static const uint8_t code[] = { 0xe0, 0xf0, 0x75 };
	struct fixture f;
	unsigned n = 0;

	setup(&f);
	command(&f, 0x60);
	data(&f, 0x04);
	for (unsigned i = 0; i < 100; i++) {
		i8042_send_key(f.d, code, sizeof(code));
	}
	data(&f, 0xee); /* an answer still has room */
	for (unsigned v; (v = next(&f)) != 0xfff && v != 0xee; n++) {
		CHECK_EQ(t, v, code[n % 3]); /* whole events only */
	}
	CHECK(t, n >= 30 && n % 3 == 0);
	CHECK(t, !f.b->irq_raised[1]);
	teardown(&f);
}

static void test_mouse(struct test *t)
{
	struct fixture f;

	setup(&f);
	mouse(&f, 0xff);
	CHECK(t, f.b->irq_level[12]);
	CHECK_EQ(t, next(&f), 0x1fa);
	CHECK_EQ(t, next(&f), 0x1aa);
	CHECK_EQ(t, next(&f), 0x100);
	CHECK(t, !f.b->irq_level[12]);
	i8042_send_mouse(f.d, 1, 1, 0, 0); /* not enabled */
	CHECK_EQ(t, next(&f), 0xfff);
	mouse(&f, 0xeb);
	CHECK_EQ(t, next(&f), 0x1fa);
	CHECK_EQ(t, next(&f), 0x108);
	next(&f);
	next(&f);
	mouse(&f, 0xf4);
	CHECK_EQ(t, next(&f), 0x1fa);
	i8042_send_mouse(f.d, 5, -3, 0, I8042_BUTTON_LEFT);
	CHECK_EQ(t, next(&f), 0x129);
	CHECK_EQ(t, next(&f), 0x105);
	CHECK_EQ(t, next(&f), 0x1fd);
	CHECK_EQ(t, next(&f), 0xfff);
	/* A long way goes in several reports. */
	i8042_send_mouse(f.d, 300, 0, 0, 0);
	CHECK_EQ(t, next(&f), 0x108);
	CHECK_EQ(t, next(&f), 0x1ff);
	CHECK_EQ(t, next(&f), 0x100);
	CHECK_EQ(t, next(&f), 0x108);
	CHECK_EQ(t, next(&f), 0x100 + 45);
	CHECK_EQ(t, next(&f), 0x100);
	teardown(&f);
}

static void test_wheel(struct test *t)
{
	static const uint8_t knock[] = { 200, 100, 80 };
	struct fixture f;

	setup(&f);
	mouse(&f, 0xf2);
	next(&f);
	CHECK_EQ(t, next(&f), 0x100);
	for (unsigned i = 0; i < sizeof(knock); i++) {
		mouse(&f, 0xf3);
		CHECK_EQ(t, next(&f), 0x1fa);
		mouse(&f, knock[i]);
		CHECK_EQ(t, next(&f), 0x1fa);
	}
	mouse(&f, 0xf2);
	next(&f);
	CHECK_EQ(t, next(&f), 0x103);
	mouse(&f, 0xf4);
	next(&f);
	i8042_send_mouse(f.d, 0, 0, -1, I8042_BUTTON_MIDDLE);
	CHECK_EQ(t, next(&f), 0x10c);
	next(&f);
	next(&f);
	CHECK_EQ(t, next(&f), 0x1ff);
	mouse(&f, 0xe9);
	CHECK_EQ(t, next(&f), 0x1fa);
	CHECK_EQ(t, next(&f), 0x122);
	CHECK_EQ(t, next(&f), 0x102);
	CHECK_EQ(t, next(&f), 0x100 + 80);
	teardown(&f);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "controller", test_controller },
		{ "reset pulse", test_reset_pulse },
		{ "keyboard", test_keyboard },
		{ "keyboard overflow", test_keyboard_overflow },
		{ "mouse", test_mouse },
		{ "wheel", test_wheel },
		{ 0 },
	};

	return test_main(argc, argv, cases);
}
