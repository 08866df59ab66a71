/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The network card against a pair end that the test holds. */
#include <stdlib.h>

#include "base/test.h"
#include "dev/virtio/testdrv.h"
#include "dev/virtio/virtio_devices.h"
#include "netio/netio.h"

#define F_CSUM       BIT64(0)
#define F_GUEST_CSUM BIT64(1)
#define F_GUEST_OFFL BIT64(2)
#define F_MTU        BIT64(3)
#define F_MAC        BIT64(5)
#define F_GUEST_TSO4 BIT64(7)
#define F_HOST_TSO4  BIT64(11)
#define F_MRG_RXBUF  BIT64(15)
#define F_STATUS     BIT64(16)
#define F_CTRL_VQ    BIT64(17)
#define F_CTRL_RX    BIT64(18)
#define F_CTRL_MAC   BIT64(23)
#define BASE         VIRTIO_F_VERSION_1
#define HDR          NETIO_HDR_BYTES
#define FRAME_MAX    70000
#define TSO          (F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_HOST_TSO4)

static const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

struct card {
	struct testdrv *d;
	struct netio *device_end, *end;
	unsigned readable, writable;
	uint8_t frame[FRAME_MAX];
};

static void on_readable(void *opaque)
{
	((struct card *)opaque)->readable++;
}

static void on_writable(void *opaque)
{
	((struct card *)opaque)->writable++;
}

static const struct netio_client end_client = { .readable = on_readable, .writable = on_writable };

static struct card *card_new_queues(unsigned queues)
{
	struct card *c = calloc(1, sizeof(*c));
	struct virtio_net_options o = { .mtu = 1500 };
	struct pci_dev *p;

	if (!c) {
		return NULL;
	}
	c->d = testdrv_new();
	memcpy(o.mac, mac, 6);
	if (netio_pair_new_queues(c->d->t->loop, queues, &c->device_end, &c->end) < 0) {
		return NULL;
	}
	o.netio = c->device_end;
	netio_set_client(c->end, &end_client, c);
	if (virtio_net_new(c->d->host, -1, &o, &p) < 0 || !testdrv_attach(c->d, p)) {
		return NULL;
	}
	return c;
}

static struct card *card_new(void)
{
	return card_new_queues(1);
}

static void card_free(struct card *c)
{
	pci_host_free(c->d->host);
	netio_free(c->device_end);
	netio_free(c->end);
	testbus_free(c->d->t);
	free(c->d);
	free(c);
}

static ssize_t end_receive(struct card *c)
{
	struct iovec iov = { c->frame, sizeof(c->frame) };

	return netio_receive(c->end, 0, &iov, 1);
}

static ssize_t end_send(struct card *c, size_t len, uint8_t seed)
{
	struct iovec iov = { c->frame, len };

	memset(c->frame, 0, HDR);
	for (size_t i = HDR; i < len; i++) {
		c->frame[i] = (uint8_t)(seed + i * 7);
	}
	return netio_send(c->end, 0, &iov, 1);
}

static bool add_rx_to(struct card *c, unsigned queue, gpa_t *ret_gpa, uint32_t len)
{
	struct testdrv_seg s = { testdrv_alloc(c->d, len, 1), len, true };

	*ret_gpa = s.gpa;
	memset(testdrv_host(c->d, s.gpa), 0xcc, len);
	return testdrv_add(&c->d->q[queue], &s, 1) >= 0;
}

static bool add_rx(struct card *c, gpa_t *ret_gpa, uint32_t len)
{
	return add_rx_to(c, 0, ret_gpa, len);
}

static bool matches(struct card *c, gpa_t gpa, size_t at, size_t len, uint8_t seed)
{
	const uint8_t *p = testdrv_host(c->d, gpa);

	for (size_t i = 0; i < len; i++) {
		if (at + i >= HDR && p[i] != (uint8_t)(seed + (at + i) * 7)) {
			return false;
		}
	}
	return true;
}

static const uint64_t modes[] = {
	0,
	VIRTIO_F_EVENT_IDX,
	VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX,
	VIRTIO_F_PACKED,
	VIRTIO_F_PACKED | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT,
};

static void test_config(struct test *t)
{
	struct card *c = card_new();
	uint64_t f;

	CHECK(t, c);
	f = testdrv_offered(c->d);
	CHECK_EQ(t, f & (TSO | F_MTU | F_MAC | F_MRG_RXBUF | F_STATUS | F_CTRL_VQ),
		 TSO | F_MTU | F_MAC | F_MRG_RXBUF | F_STATUS | F_CTRL_VQ);
	CHECK_EQ(t, testdrv_config(c->d, 0, 4), 0x01005452);
	CHECK_EQ(t, testdrv_config(c->d, 6, 2), 1);
	CHECK_EQ(t, testdrv_config(c->d, 8, 2), 1);
	CHECK_EQ(t, testdrv_config(c->d, 10, 2), 1500);
	/* Segmentation without checksums, the control queue's things without it. */
	CHECK(t, !(testdrv_negotiate(c->d, BASE | F_HOST_TSO4) & VIRTIO_FEATURES_OK));
	CHECK(t, !(testdrv_negotiate(c->d, BASE | F_GUEST_TSO4) & VIRTIO_FEATURES_OK));
	CHECK(t, !(testdrv_negotiate(c->d, BASE | F_CTRL_RX) & VIRTIO_FEATURES_OK));
	CHECK(t, testdrv_negotiate(c->d, BASE | TSO | F_CTRL_VQ | F_CTRL_RX) & VIRTIO_FEATURES_OK);
	card_free(c);
}

static void test_transmit(struct test *t)
{
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		struct card *c = card_new();
		uint32_t len;

		CHECK(t, c && testdrv_start(c->d, BASE | modes[m], 2, 16));
		for (unsigned i = 0; i < 50; i++) {
			uint32_t n = HDR + 60 + i * 20;
			gpa_t gpa = testdrv_alloc(c->d, n, 1);
			uint8_t *p = testdrv_host(c->d, gpa);
			struct testdrv_seg s[2] = { { gpa, HDR + i % 20, false },
						    { gpa + HDR + i % 20, n - HDR - i % 20,
						      false } };

			memset(p, 0, HDR);
			memset(p + HDR, (int)i, n - HDR);
			CHECK(t, testdrv_add(&c->d->q[1], s, 2) >= 0);
			testdrv_kick(&c->d->q[1]);
			CHECK(t, testdrv_wait_used(&c->d->q[1], &len) >= 0);
			CHECK_EQ(t, end_receive(c), n);
			CHECK(t, memcmp(c->frame, p, n) == 0);
		}
		CHECK_EQ(t, end_receive(c), -EAGAIN);
		card_free(c);
	}
}

/* A full back end holds a chain; nothing is lost or comes twice. */
/* Large frames that wait in one row: the driver hears of the first before the last is sent. */
static void test_transmit_tells_early(struct test *t)
{
	struct card *c = card_new();
	struct testdrv_seg s = { .len = 20000 };
	unsigned before;

	CHECK(t, c);
	c->d->t->have_irqfd = false; /* an eventfd would count several as one */
	CHECK(t, testdrv_start(c->d, BASE, 2, 16));
	s.gpa = testdrv_alloc(c->d, s.len, 1);
	memset(testdrv_host(c->d, s.gpa), 0, s.len);
	for (unsigned i = 0; i < 5; i++) {
		CHECK(t, testdrv_add(&c->d->q[1], &s, 1) >= 0);
	}
	before = c->d->t->msi_count;
	testdrv_kick(&c->d->q[1]);
	testbus_settle(c->d->t);
	CHECK_EQ(t, c->d->t->msi_count - before, 3); /* of 2, 2 and 1 */
	card_free(c);
}

static void test_transmit_full(struct test *t)
{
	struct card *c = card_new();
	uint32_t len, sent = 0, got = 0;

	CHECK(t, c && testdrv_start(c->d, BASE | VIRTIO_F_EVENT_IDX, 2, 64));
	for (unsigned i = 0; i < 40; i++) {
		struct testdrv_seg s = { testdrv_alloc(c->d, 60000, 1), 60000, false };

		memset(testdrv_host(c->d, s.gpa), (int)i, 60000);
		CHECK(t, testdrv_add(&c->d->q[1], &s, 1) >= 0);
		sent++;
	}
	testdrv_kick(&c->d->q[1]);
	testbus_settle(c->d->t);
	while (got < sent) {
		CHECK_EQ(t, end_receive(c), 60000);
		CHECK_EQ(t, c->frame[HDR], got);
		got++;
		testbus_settle(c->d->t);
	}
	for (unsigned i = 0; i < sent; i++) {
		CHECK(t, testdrv_used(&c->d->q[1], &len) >= 0);
	}
	card_free(c);
}

static void test_receive_plain(struct test *t)
{
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		struct card *c = card_new();
		gpa_t gpa[8];
		uint32_t len;

		CHECK(t, c && testdrv_start(c->d, BASE | modes[m], 2, 16));
		/* Frames wait for buffers. */
		CHECK_EQ(t, end_send(c, 100, 1), 100);
		testbus_settle(c->d->t);
		for (unsigned i = 0; i < 8; i++) {
			CHECK(t, add_rx(c, &gpa[i], 1526));
		}
		CHECK(t, testdrv_kick(&c->d->q[0]));
		CHECK(t, testdrv_wait_used(&c->d->q[0], &len) >= 0);
		CHECK_EQ(t, len, 100);
		CHECK(t, matches(c, gpa[0], 0, 100, 1));
		CHECK_EQ(t, load_le16((uint8_t *)testdrv_host(c->d, gpa[0]) + 10), 1);
		/* One too long for its buffer is dropped, the buffer is used for the next. */
		CHECK_EQ(t, end_send(c, 2000, 2), 2000);
		CHECK_EQ(t, end_send(c, 1526, 3), 1526);
		CHECK(t, testdrv_wait_used(&c->d->q[0], &len) >= 0);
		CHECK_EQ(t, len, 1526);
		CHECK(t, matches(c, gpa[1], 0, 1526, 3));
		CHECK(t, testdrv_used(&c->d->q[0], &len) < 0);
		card_free(c);
	}
}

/* Frames of all sizes into buffers of all sizes, split by the device as needed. */
static void merge_round(struct test *t, struct card *c, uint32_t frame, uint32_t buffer)
{
	unsigned want = (frame + buffer - 1) / buffer, n = 0;
	gpa_t mark = c->d->alloc_at, gpa[64];
	uint32_t at = 0, len;

	CHECK(t, want <= 64);
	CHECK_EQ(t, end_send(c, frame, (uint8_t)frame), frame);
	/* Half of the buffers first: the rest of the frame must wait. */
	for (; n < want / 2; n++) {
		CHECK(t, add_rx(c, &gpa[n], buffer));
	}
	testdrv_kick(&c->d->q[0]);
	testbus_settle(c->d->t);
	CHECK(t, testdrv_used(&c->d->q[0], &len) < 0);
	for (; n < want; n++) {
		CHECK(t, add_rx(c, &gpa[n], buffer));
	}
	testdrv_kick(&c->d->q[0]);
	for (unsigned i = 0; i < want; i++) {
		CHECK(t, testdrv_wait_used(&c->d->q[0], &len) >= 0);
		CHECK_EQ(t, len, MIN(frame - at, buffer));
		CHECK(t, matches(c, gpa[i], at, len, (uint8_t)frame));
		at += len;
	}
	CHECK_EQ(t, load_le16((uint8_t *)testdrv_host(c->d, gpa[0]) + 10), want);
	CHECK(t, testdrv_used(&c->d->q[0], &len) < 0);
	c->d->alloc_at = mark;
}

static void test_receive_merged(struct test *t)
{
	static const uint32_t frames[] = { 60, 1000, 1514, 4096, 9000, 65000 };
	static const uint32_t buffers[] = { 64, 1526, 4096, 65562 };

	for (unsigned m = 0; m < ARRAY_SIZE(modes) && !t->failed; m++) {
		struct card *c = card_new();

		CHECK(t, c && testdrv_start(c->d, BASE | modes[m] | F_MRG_RXBUF | TSO, 2, 64));
		for (unsigned i = 0; i < ARRAY_SIZE(frames); i++) {
			for (unsigned k = 0; k < ARRAY_SIZE(buffers); k++) {
				if (frames[i] / buffers[k] < 60 && !t->failed) {
					merge_round(t, c, frames[i], buffers[k]);
				}
			}
		}
		card_free(c);
	}
}

/* Many buffers in stock, many frames: each in order, no buffer lost. */
static void test_receive_stock(struct test *t)
{
	struct card *c = card_new();
	uint32_t len;

	CHECK(t, c && testdrv_start(c->d, BASE | F_MRG_RXBUF | TSO | VIRTIO_F_EVENT_IDX, 2, 256));
	for (unsigned round = 0; round < 20; round++) {
		gpa_t mark = c->d->alloc_at, gpa[256];

		for (unsigned i = 0; i < 200; i++) {
			CHECK(t, add_rx(c, &gpa[i], 1526));
		}
		testdrv_kick(&c->d->q[0]);
		for (unsigned i = 0; i < 200; i++) {
			CHECK(t, end_send(c, 100 + i, (uint8_t)i) > 0);
			if (i % 3 == 0) {
				testbus_settle(c->d->t);
			}
		}
		for (unsigned i = 0; i < 200; i++) {
			CHECK(t, testdrv_wait_used(&c->d->q[0], &len) >= 0);
			CHECK_EQ(t, len, 100 + i);
			CHECK(t, matches(c, gpa[i], 0, len, (uint8_t)i));
		}
		c->d->alloc_at = mark;
	}
	card_free(c);
}

/* Stop with buffers in stock, a frame half delivered and one held: a reset forgets them all. */
static void test_reset(struct test *t)
{
	struct card *c = card_new();
	uint32_t len;
	gpa_t gpa;

	CHECK(t, c && testdrv_start(c->d, BASE | F_MRG_RXBUF | TSO, 2, 64));
	CHECK(t, add_rx(c, &gpa, 100));
	CHECK(t, end_send(c, 60000, 1) > 0);
	testdrv_kick(&c->d->q[0]);
	testbus_settle(c->d->t);
	for (unsigned i = 0; i < 30; i++) {
		struct testdrv_seg s = { testdrv_alloc(c->d, 60000, 1), 60000, false };

		CHECK(t, testdrv_add(&c->d->q[1], &s, 1) >= 0);
	}
	testdrv_kick(&c->d->q[1]);
	testbus_settle(c->d->t);
	testdrv_common_write(c->d, 0x14, 0, 1);
	CHECK_EQ(t, testdrv_status(c->d), 0); /* nothing is in flight elsewhere: at once */
	while (end_receive(c) > 0) {
	}
	c->d->alloc_at = MIB(8);
	CHECK(t, testdrv_start(c->d, BASE, 2, 64));
	CHECK(t, add_rx(c, &gpa, 1526));
	testdrv_kick(&c->d->q[0]);
	CHECK(t, end_send(c, 500, 9) > 0);
	CHECK(t, testdrv_wait_used(&c->d->q[0], &len) >= 0);
	CHECK_EQ(t, len, 500);
	CHECK(t, matches(c, gpa, 0, 500, 9));
	card_free(c);
}

static int control_on(struct card *c, unsigned queue, uint8_t class, uint8_t cmd, const void *data,
		      uint32_t n)
{
	gpa_t gpa = testdrv_alloc(c->d, 3 + n, 1);
	uint8_t *p = testdrv_host(c->d, gpa);
	struct testdrv_seg s[3] = { { gpa, 2, false },
				    { gpa + 3, n, false },
				    { gpa + 2, 1, true } };
	uint32_t len;

	p[0] = class;
	p[1] = cmd;
	p[2] = 0xee;
	memcpy(p + 3, data, n);
	if (testdrv_add(&c->d->q[queue], s, 3) < 0) {
		return -1;
	}
	testdrv_kick(&c->d->q[queue]);
	return testdrv_wait_used(&c->d->q[queue], &len) < 0 || len != 1 ? -1 : p[2];
}

static int control(struct card *c, uint8_t class, uint8_t cmd, const void *data, uint32_t n)
{
	return control_on(c, 2, class, cmd, data, n);
}

static void test_control(struct test *t)
{
	struct card *c = card_new();
	uint8_t on = 1, new_mac[6] = { 2, 2, 3, 4, 5, 6 }, table[14] = { 1, 0, 0, 0 },
		vlan[2] = { 5 };
	uint8_t offloads[8] = { 0 }, pairs[2] = { 1, 0 };

	CHECK(t, c && testdrv_start(c->d,
				    BASE | F_CTRL_VQ | F_CTRL_RX | F_CTRL_MAC | F_GUEST_OFFL | TSO |
					    BIT64(19),
				    3, 64));
	CHECK_EQ(t, control(c, 0, 0, &on, 1), 0);
	CHECK_EQ(t, control(c, 0, 9, &on, 1), 1);
	CHECK_EQ(t, control(c, 0, 0, table, 14), 1);
	CHECK_EQ(t, control(c, 1, 1, new_mac, 6), 0);
	CHECK_EQ(t, testdrv_config(c->d, 0, 4), 0x04030202);
	CHECK_EQ(t, control(c, 1, 1, new_mac, 5), 1);
	CHECK_EQ(t, control(c, 1, 0, table, 14), 0); /* one unicast, none multicast */
	memset(table, 0xff, 4);
	CHECK_EQ(t, control(c, 1, 0, table, 14), 1); /* four thousand million addresses */
	CHECK_EQ(t, control(c, 2, 0, vlan, 2), 0);
	vlan[1] = 0xff;
	CHECK_EQ(t, control(c, 2, 1, vlan, 2), 1);
	CHECK_EQ(t, control(c, 4, 0, pairs, 2), 1); /* MQ was not agreed */
	offloads[0] = 2;
	CHECK_EQ(t, control(c, 5, 0, offloads, 8), 0);
	offloads[1] = 0xff;
	CHECK_EQ(t, control(c, 5, 0, offloads, 8), 1);
	CHECK_EQ(t, control(c, 77, 0, offloads, 8), 1);
	/* A reset brings the configured address back. */
	testdrv_common_write(c->d, 0x14, 0, 1);
	CHECK_EQ(t, testdrv_config(c->d, 0, 4), 0x01005452);
	card_free(c);
}

/* A frame on the back end's queue `from` must come out of the driver's queue `to`. */
static bool crosses(struct card *c, unsigned from, unsigned to)
{
	struct iovec iov = { c->frame, 200 };
	uint32_t len;
	gpa_t gpa;

	memset(c->frame, 0, HDR);
	memset(c->frame + HDR, (int)(from + 1), 200 - HDR);
	if (!add_rx_to(c, to, &gpa, 1526)) {
		return false;
	}
	testdrv_kick(&c->d->q[to]);
	return netio_send(c->end, from, &iov, 1) == 200 &&
	       testdrv_wait_used(&c->d->q[to], &len) >= 0 && len == 200 &&
	       *((uint8_t *)testdrv_host(c->d, gpa) + 199) == from + 1;
}

static bool sends_on(struct card *c, unsigned pair)
{
	struct testdrv_seg s = { testdrv_alloc(c->d, 100, 1), 100, false };
	struct iovec iov = { c->frame, sizeof(c->frame) };
	uint32_t len;

	if (testdrv_add(&c->d->q[2 * pair + 1], &s, 1) < 0) {
		return false;
	}
	testdrv_kick(&c->d->q[2 * pair + 1]);
	return testdrv_wait_used(&c->d->q[2 * pair + 1], &len) >= 0 &&
	       netio_receive(c->end, pair, &iov, 1) == 100;
}

static void test_pairs(struct test *t)
{
	struct card *c = card_new_queues(3);
	uint8_t pairs[2] = { 3, 0 };

	CHECK(t, c);
	CHECK_EQ(t, testdrv_config(c->d, 8, 2), 3);
	CHECK(t, testdrv_start(c->d, BASE | F_CTRL_VQ | BIT64(22), 7, 16));
	/* Until the driver asks for more, all comes in by the first pair. */
	CHECK(t, crosses(c, 0, 0) && crosses(c, 1, 0) && crosses(c, 2, 0));
	CHECK_EQ(t, control_on(c, 6, 4, 0, pairs, 2), 0);
	CHECK(t, crosses(c, 0, 0) && crosses(c, 1, 2) && crosses(c, 2, 4));
	CHECK(t, sends_on(c, 0) && sends_on(c, 1) && sends_on(c, 2));
	pairs[0] = 2;
	CHECK_EQ(t, control_on(c, 6, 4, 0, pairs, 2), 0);
	CHECK(t, crosses(c, 0, 0) && crosses(c, 1, 2) && crosses(c, 2, 0));
	pairs[0] = 4;
	CHECK_EQ(t, control_on(c, 6, 4, 0, pairs, 2), 1);
	pairs[0] = 0;
	CHECK_EQ(t, control_on(c, 6, 4, 0, pairs, 2), 1);
	/* A driver without MQ finds the control queue as the third. */
	c->d->alloc_at = 0x10000;
	CHECK(t, testdrv_start(c->d, BASE | F_CTRL_VQ | F_CTRL_RX, 3, 16));
	pairs[0] = 1;
	CHECK_EQ(t, control_on(c, 2, 0, 0, pairs, 1), 0);
	CHECK(t, crosses(c, 0, 0) && crosses(c, 2, 0));
	card_free(c);
}

static const struct test_case cases[] = {
	{ "config", test_config },
	{ "transmit", test_transmit },
	{ "transmit-early", test_transmit_tells_early },
	{ "transmit-full", test_transmit_full },
	{ "receive-plain", test_receive_plain },
	{ "receive-merged", test_receive_merged },
	{ "receive-stock", test_receive_stock },
	{ "reset", test_reset },
	{ "control", test_control },
	{ "pairs", test_pairs },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
