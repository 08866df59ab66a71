/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The console: one port, several ports, slow readers, resets. */
#include <stdlib.h>

#include "base/test.h"
#include "dev/char/chardev.h"
#include "dev/virtio/testdrv.h"
#include "dev/virtio/virtio_devices.h"

#define BASE         VIRTIO_F_VERSION_1
#define F_MULTIPORT  BIT64(1)
#define READY        0
#define PORT_ADD     1
#define PORT_READY   3
#define CONSOLE_PORT 4
#define PORT_OPEN    6
#define PORT_NAME    7

struct tty {
	struct testdrv *d;
	struct chardev *chars[2];
};

static bool tty_new(struct tty *y, unsigned ports)
{
	struct virtio_console_port p[2] = { { 0 } };
	struct virtio_console_options o = { .ports = p, .port_count = ports };
	struct pci_dev *pci;

	memset(y, 0, sizeof(*y));
	y->d = testdrv_new();
	for (unsigned i = 0; i < ports; i++) {
		if (chardev_memory_new(y->d->t->loop, &y->chars[i]) < 0) {
			return false;
		}
		p[i].chardev = y->chars[i];
	}
	p[1].name = "org.lodge.agent";
	return virtio_console_new(y->d->host, -1, &o, &pci) == 0 && testdrv_attach(y->d, pci);
}

static void tty_free(struct tty *y)
{
	pci_host_free(y->d->host);
	chardev_free(y->chars[0]);
	chardev_free(y->chars[1]);
	testbus_free(y->d->t);
	free(y->d);
}

static gpa_t add(struct tty *y, unsigned queue, const void *data, uint32_t len, bool write)
{
	struct testdrv_seg s = { testdrv_alloc(y->d, len, 1), len, write };

	if (data) {
		memcpy(testdrv_host(y->d, s.gpa), data, len);
	}
	if (testdrv_add(&y->d->q[queue], &s, 1) < 0) {
		return 0;
	}
	testdrv_kick(&y->d->q[queue]);
	return s.gpa;
}

static bool tail_is(struct chardev *c, const char *want)
{
	char tail[256];
	size_t n = chardev_tail(c, tail, sizeof(tail));

	return n == strlen(want) && memcmp(tail, want, n) == 0;
}

static const uint64_t modes[] = { 0, VIRTIO_F_EVENT_IDX, VIRTIO_F_PACKED,
				  VIRTIO_F_PACKED | VIRTIO_F_EVENT_IDX };

static void test_one_port(struct test *t)
{
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		struct tty y;
		gpa_t gpa;
		uint32_t len;

		CHECK(t, tty_new(&y, 1));
		CHECK(t, !(testdrv_offered(y.d) & F_MULTIPORT));
		CHECK(t, testdrv_start(y.d, BASE | modes[m], 2, 8));
		CHECK(t, add(&y, 1, "hello ", 6, false) && add(&y, 1, "world", 5, false));
		CHECK(t, testdrv_wait_used(&y.d->q[1], &len) >= 0);
		CHECK(t, testdrv_wait_used(&y.d->q[1], &len) >= 0);
		CHECK(t, tail_is(y.chars[0], "hello world"));
		/* Input before there is a buffer waits. */
		chardev_memory_feed(y.chars[0], "typed", 5);
		testbus_settle(y.d->t);
		gpa = add(&y, 0, NULL, 64, true);
		CHECK(t, testdrv_wait_used(&y.d->q[0], &len) >= 0);
		CHECK_EQ(t, len, 5);
		CHECK(t, memcmp(testdrv_host(y.d, gpa), "typed", 5) == 0);
		/* Small buffers: each is filled. */
		for (unsigned i = 0; i < 4; i++) {
			CHECK(t, add(&y, 0, NULL, 2, true));
		}
		chardev_memory_feed(y.chars[0], "abcdefgh", 8);
		for (unsigned i = 0; i < 4; i++) {
			CHECK(t, testdrv_wait_used(&y.d->q[0], &len) >= 0);
			CHECK_EQ(t, len, 2);
		}
		tty_free(&y);
	}
}

/* A reader that takes nothing holds the chain; then it goes on, nothing lost. */
static void test_slow_reader(struct test *t)
{
	struct tty y;
	uint32_t len;

	CHECK(t, tty_new(&y, 1));
	CHECK(t, testdrv_start(y.d, BASE | VIRTIO_F_EVENT_IDX, 2, 8));
	chardev_memory_block(y.chars[0], true);
	CHECK(t, add(&y, 1, "one", 3, false) && add(&y, 1, "two", 3, false));
	testbus_settle(y.d->t);
	CHECK(t, testdrv_used(&y.d->q[1], &len) < 0);
	chardev_memory_block(y.chars[0], false);
	CHECK(t, testdrv_wait_used(&y.d->q[1], &len) >= 0);
	CHECK(t, testdrv_wait_used(&y.d->q[1], &len) >= 0);
	CHECK(t, tail_is(y.chars[0], "onetwo"));
	/* Reset while one is held: at once, and the console works again. */
	chardev_memory_block(y.chars[0], true);
	CHECK(t, add(&y, 1, "lost", 4, false));
	testbus_settle(y.d->t);
	testdrv_common_write(y.d, 0x14, 0, 1);
	CHECK_EQ(t, testdrv_status(y.d), 0);
	chardev_memory_block(y.chars[0], false);
	testbus_settle(y.d->t);
	CHECK(t, testdrv_start(y.d, BASE, 2, 8));
	CHECK(t, add(&y, 1, "!", 1, false));
	CHECK(t, testdrv_wait_used(&y.d->q[1], &len) >= 0);
	CHECK(t, tail_is(y.chars[0], "onetwo!"));
	tty_free(&y);
}

static bool control(struct tty *y, uint32_t port, uint16_t event, uint16_t value)
{
	uint8_t msg[8];
	uint32_t len;

	store_le32(msg, port);
	store_le16(msg + 4, event);
	store_le16(msg + 6, value);
	return add(y, 3, msg, sizeof(msg), false) && testdrv_wait_used(&y->d->q[3], &len) >= 0;
}

/* The next message; its text goes to `text`. */
static int next_event(struct tty *y, gpa_t *bufs, uint32_t *ret_port, char *text)
{
	uint32_t len;
	int id = testdrv_wait_used(&y->d->q[2], &len);
	const uint8_t *p;

	if (id < 0 || len < 8) {
		return -1;
	}
	p = testdrv_host(y->d, bufs[id]);
	*ret_port = load_le32(p);
	memcpy(text, p + 8, len - 8);
	text[len - 8] = '\0';
	return load_le16(p + 4);
}

static void test_ports(struct test *t)
{
	static const struct {
		int event;
		uint32_t port;
	} want[] = { { PORT_ADD, 0 },  { PORT_ADD, 1 },  { CONSOLE_PORT, 0 },
		     { PORT_OPEN, 0 }, { PORT_OPEN, 1 }, { PORT_NAME, 1 } };
	gpa_t bufs[8], gpa;
	uint32_t port = 0, len;
	char text[128];
	struct tty y;

	CHECK(t, tty_new(&y, 2));
	CHECK_EQ(t, testdrv_config(y.d, 4, 4), 2);
	CHECK(t, testdrv_start(y.d, BASE | F_MULTIPORT, 6, 8));
	for (unsigned i = 0; i < 8; i++) {
		bufs[i] = add(&y, 2, NULL, 128, true);
	}
	CHECK(t, control(&y, UINT32_MAX, READY, 1));
	CHECK(t, control(&y, 0, PORT_READY, 1) && control(&y, 1, PORT_READY, 1));
	CHECK(t, control(&y, 77, PORT_READY, 1)); /* no such port */
	for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
		CHECK_EQ(t, next_event(&y, bufs, &port, text), want[i].event);
		CHECK_EQ(t, port, want[i].port);
	}
	CHECK_STR(t, text, "org.lodge.agent");
	/* Input for a port that the guest has not opened waits. */
	chardev_memory_feed(y.chars[1], "ping", 4);
	gpa = add(&y, 4, NULL, 64, true);
	testbus_settle(y.d->t);
	CHECK(t, testdrv_used(&y.d->q[4], &len) < 0);
	CHECK(t, control(&y, 1, PORT_OPEN, 1));
	CHECK(t, testdrv_wait_used(&y.d->q[4], &len) >= 0);
	CHECK(t, len == 4 && memcmp(testdrv_host(y.d, gpa), "ping", 4) == 0);
	CHECK(t, add(&y, 5, "pong", 4, false));
	CHECK(t, testdrv_wait_used(&y.d->q[5], &len) >= 0);
	CHECK(t, tail_is(y.chars[1], "pong") && tail_is(y.chars[0], ""));
	tty_free(&y);
}

/* Ask and ask, and never take an answer. */
static void test_control_flood(struct test *t)
{
	struct tty y;

	CHECK(t, tty_new(&y, 2));
	CHECK(t, testdrv_start(y.d, BASE | F_MULTIPORT, 6, 8));
	for (unsigned i = 0; i < 1000; i++) {
		gpa_t mark = y.d->alloc_at;

		CHECK(t, control(&y, 0, READY, 1) && control(&y, 1, PORT_READY, 1));
		y.d->alloc_at = mark;
	}
	CHECK_EQ(t, testdrv_status(y.d) & VIRTIO_NEEDS_RESET, 0);
	tty_free(&y);
}

static void test_emergency(struct test *t)
{
	struct tty y;

	CHECK(t, tty_new(&y, 1));
	testbus_write(y.d->t, DEV_MMIO, y.d->device + 8, 'X', 4);
	CHECK(t, tail_is(y.chars[0], "X")); /* with no driver at all */
	tty_free(&y);
}

static const struct test_case cases[] = {
	{ "one-port", test_one_port },   { "slow-reader", test_slow_reader },
	{ "ports", test_ports },         { "control-flood", test_control_flood },
	{ "emergency", test_emergency }, { 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
