/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dev/char/serial.h"

#include <stdlib.h>

#include "base/test.h"
#include "dev/char/chardev.h"
#include "dev/testbus.h"

#define COM 0x3f8
#define IER (COM + 1)
#define IIR (COM + 2)
#define FCR (COM + 2)
#define LCR (COM + 3)
#define MCR (COM + 4)
#define LSR (COM + 5)
#define MSR (COM + 6)
#define SCR (COM + 7)

struct fixture {
	struct testbus *b;
	struct chardev *c;
	struct dev *d;
};

static void setup(struct fixture *f)
{
	f->b = testbus_new(0);
	if (chardev_memory_new(f->b->loop, &f->c) < 0 ||
	    serial_new(&f->b->env, COM, 4, f->c, &f->d) < 0) {
		abort();
	}
	testbus_settle(f->b);
}

static void teardown(struct fixture *f)
{
	dev_free(f->d);
	chardev_free(f->c);
	testbus_free(f->b);
}

static void feed(struct fixture *f, const char *s)
{
	chardev_memory_feed(f->c, s, strlen(s));
	testbus_settle(f->b);
}

static uint8_t in(struct fixture *f, uint16_t port)
{
	return testbus_inb(f->b, port);
}

static void out(struct fixture *f, uint16_t port, uint8_t value)
{
	testbus_outb(f->b, port, value);
}

static bool irq(struct fixture *f)
{
	return f->b->irq_level[4];
}

static const char *output(struct fixture *f)
{
	static char buf[CHARDEV_TAIL_BYTES + 1];

	buf[chardev_tail(f->c, buf, CHARDEV_TAIL_BYTES)] = 0;
	return buf;
}

static void test_reset_state(struct test *t)
{
	struct fixture f;

	setup(&f);
	CHECK_EQ(t, in(&f, IER), 0);
	CHECK_EQ(t, in(&f, IIR), 1);
	CHECK_EQ(t, in(&f, LCR), 0);
	CHECK_EQ(t, in(&f, MCR), 0);
	CHECK_EQ(t, in(&f, LSR), 0x60);
	CHECK_EQ(t, in(&f, MSR), 0xb0);
	out(&f, SCR, 0x5a);
	CHECK_EQ(t, in(&f, SCR), 0x5a);
	/* Bits that do not exist read 0: this is how drivers tell UARTs apart. */
	out(&f, IER, 0xff);
	CHECK_EQ(t, in(&f, IER), 0x0f);
	out(&f, MCR, 0xff);
	CHECK_EQ(t, in(&f, MCR), 0x1f);
	teardown(&f);
}

static void test_divisor(struct test *t)
{
	struct fixture f;

	setup(&f);
	out(&f, LCR, 0x83);
	out(&f, COM, 0x0c);
	out(&f, IER, 0x01);
	CHECK_EQ(t, in(&f, COM), 0x0c);
	CHECK_EQ(t, in(&f, IER), 0x01);
	out(&f, LCR, 0x03);
	CHECK_EQ(t, in(&f, IER), 0);
	CHECK_STR(t, output(&f), "");
	teardown(&f);
}

static void test_output(struct test *t)
{
	struct fixture f;

	setup(&f);
	out(&f, COM, 'h');
	out(&f, COM, 'i');
	CHECK_STR(t, output(&f), "hi");
	CHECK_EQ(t, in(&f, LSR), 0x60);
	teardown(&f);
}

static void test_transmit_interrupt(struct test *t)
{
	struct fixture f;

	setup(&f);
	/* Enabling while empty interrupts; reading IIR clears; enabling again interrupts again. */
	out(&f, IER, 2);
	CHECK(t, irq(&f));
	CHECK_EQ(t, in(&f, IIR), 2);
	CHECK(t, !irq(&f));
	CHECK_EQ(t, in(&f, IIR), 1);
	out(&f, IER, 0);
	out(&f, IER, 2);
	CHECK_EQ(t, in(&f, IIR), 2);
	/* A byte: it leaves at once, so there is a new edge. */
	f.b->irq_raised[4] = 0;
	out(&f, COM, 'a');
	CHECK_EQ(t, f.b->irq_raised[4], 1);
	out(&f, COM, 'b');
	CHECK_EQ(t, f.b->irq_raised[4], 2);
	/* In a burst with FIFO the line is left high. */
	out(&f, FCR, 1);
	CHECK_EQ(t, in(&f, IIR), 0xc2);
	f.b->irq_raised[4] = 0;
	for (unsigned i = 0; i < 16; i++) {
		out(&f, COM, 'c');
	}
	CHECK_EQ(t, f.b->irq_raised[4], 1);
	CHECK_EQ(t, in(&f, IIR), 0xc2);
	teardown(&f);
}

static void test_receive(struct test *t)
{
	struct fixture f;

	setup(&f);
	out(&f, IER, 1);
	feed(&f, "xy");
	CHECK(t, irq(&f));
	CHECK_EQ(t, in(&f, IIR), 4);
	CHECK_EQ(t, in(&f, LSR), 0x61);
	CHECK_EQ(t, in(&f, COM), 'x');
	CHECK(t, !irq(&f));
	CHECK_EQ(t, in(&f, COM), 0); /* without FIFO the next one comes later */
	testbus_settle(f.b);
	CHECK_EQ(t, in(&f, COM), 'y');
	CHECK_EQ(t, in(&f, LSR), 0x60);
	teardown(&f);
}

static void test_receive_fifo(struct test *t)
{
	struct fixture f;

	setup(&f);
	out(&f, FCR, 0x81); /* trigger at 8 */
	out(&f, IER, 1);
	feed(&f, "1234567");
	CHECK_EQ(t, in(&f, IIR), 0xcc); /* below: a timeout */
	feed(&f, "8");
	CHECK_EQ(t, in(&f, IIR), 0xc4);
	CHECK_EQ(t, in(&f, COM), '1');
	CHECK_EQ(t, in(&f, IIR), 0xcc);
	/* More than the FIFO holds waits outside: nothing is lost. */
	feed(&f, "9abcdefghijklmnopqrstuvwxyz");
	for (const char *s = "23456789abcdefghijklmnopqrstuvwxyz"; *s; s++) {
		testbus_settle(f.b);
		CHECK_EQ(t, in(&f, COM), (uint8_t)*s);
	}
	CHECK_EQ(t, in(&f, LSR), 0x60);
	feed(&f, "zzz");
	out(&f, FCR, 0x83); /* clear */
	CHECK_EQ(t, in(&f, LSR), 0x60);
	CHECK(t, !irq(&f));
	teardown(&f);
}

static void test_loopback(struct test *t)
{
	struct fixture f;

	setup(&f);
	out(&f, MCR, 0x10);
	CHECK_EQ(t, in(&f, MSR), 0x0b); /* all inputs dropped */
	out(&f, MCR, 0x1a);             /* RTS, OUT2 */
	CHECK_EQ(t, in(&f, MSR), 0x99); /* CTS, DCD and their changes */
	CHECK_EQ(t, in(&f, MSR), 0x90);
	out(&f, MCR, 0x14);
	CHECK_EQ(t, in(&f, MSR), 0x49); /* RI rose: no trailing edge */
	out(&f, IER, 8);
	out(&f, MCR, 0x10);
	CHECK(t, irq(&f));
	CHECK_EQ(t, in(&f, IIR), 0);
	CHECK_EQ(t, in(&f, MSR), 0x04);
	CHECK(t, !irq(&f));
	out(&f, COM, 'L');
	CHECK_EQ(t, in(&f, COM), 'L');
	CHECK_STR(t, output(&f), "");
	/* Two bytes into one place: overrun, told once. */
	out(&f, IER, 4);
	out(&f, COM, '1');
	out(&f, COM, '2');
	CHECK_EQ(t, in(&f, IIR), 6);
	CHECK_EQ(t, in(&f, LSR), 0x63);
	CHECK_EQ(t, in(&f, LSR), 0x61);
	CHECK_EQ(t, in(&f, COM), '2');
	teardown(&f);
}

static void test_slow_reader(struct test *t)
{
	struct fixture f;

	setup(&f);
	out(&f, FCR, 1);
	out(&f, IER, 2);
	in(&f, IIR);
	chardev_memory_block(f.c, true);
	out(&f, COM, 'a');
	CHECK_EQ(t, in(&f, LSR), 0);
	CHECK(t, !irq(&f));
	for (unsigned i = 0; i < 20; i++) { /* more than the FIFO holds is lost */
		out(&f, COM, 'b');
	}
	chardev_memory_block(f.c, false);
	testbus_settle(f.b);
	CHECK_STR(t, output(&f), "abbbbbbbbbbbbbbb");
	CHECK_EQ(t, in(&f, LSR), 0x60);
	CHECK_EQ(t, in(&f, IIR), 0xc2);
	teardown(&f);
}

static void test_reset(struct test *t)
{
	struct fixture f;

	setup(&f);
	out(&f, IER, 2);
	CHECK(t, irq(&f));
	dev_reset(f.d);
	CHECK(t, !irq(&f));
	CHECK_EQ(t, in(&f, IER), 0);
	teardown(&f);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "reset state", test_reset_state },
		{ "divisor", test_divisor },
		{ "output", test_output },
		{ "transmit interrupt", test_transmit_interrupt },
		{ "receive", test_receive },
		{ "receive fifo", test_receive_fifo },
		{ "loopback", test_loopback },
		{ "slow reader", test_slow_reader },
		{ "reset", test_reset },
		{ 0 },
	};

	return test_main(argc, argv, cases);
}
