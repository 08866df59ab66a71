/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vsock: both ways to connect, credit both ways, shutdowns, and packets that lie. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/test.h"
#include "base/unix_socket.h"
#include "dev/virtio/testdrv.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_vsock_int.h"

#define BASE    VIRTIO_F_VERSION_1
#define CID     7
#define RX_BUFS 16
#define RX_LEN  4096

struct link {
	struct testdrv *d;
	char dir[64], path[96];
	int listen_fd;
	gpa_t tx;
	gpa_t rx_gpa[VQ_SIZE_MAX]; /* by chain */
	struct vsock_hdr h;        /* the last packet */
	const uint8_t *data;
	uint32_t fwd_cnt; /* what we say */
	uint32_t buf_alloc;
};

/* Port N is "<path>_N", as for `lodge run --vsock`. */
static int host_connect(void *opaque, uint32_t port)
{
	char path[128];
	int fd = -1, r;

	snprintf(path, sizeof(path), "%s_%u", ((struct link *)opaque)->path, port);
	r = unix_connect(path, &fd);
	return r < 0 ? r : fd;
}

static bool link_new(struct link *l)
{
	struct virtio_vsock_options o = { .cid = CID };
	struct pci_dev *p;

	memset(l, 0, sizeof(*l));
	l->buf_alloc = 65536;
	snprintf(l->dir, sizeof(l->dir), "/tmp/lodge-vsock.XXXXXX");
	if (!mkdtemp(l->dir)) {
		return false;
	}
	snprintf(l->path, sizeof(l->path), "%s/v", l->dir);
	l->d = testdrv_new();
	if (unix_listen(l->path, 64, &l->listen_fd) < 0) {
		return false;
	}
	o.listen_fd = l->listen_fd;
	o.connect = host_connect;
	o.opaque = l;
	return virtio_vsock_new(l->d->host, -1, &o, &p) == 0 && testdrv_attach(l->d, p);
}

static void link_free(struct link *l)
{
	testdrv_free(l->d);
	close(l->listen_fd);
	unlink(l->path);
	rmdir(l->dir);
}

static bool add_rx(struct link *l)
{
	struct testdrv_seg s = { testdrv_alloc(l->d, RX_LEN, 16), RX_LEN, true };
	int id = testdrv_add(&l->d->q[0], &s, 1);

	if (id < 0) {
		return false;
	}
	l->rx_gpa[id] = s.gpa;
	testdrv_kick(&l->d->q[0]);
	return true;
}

static bool link_start(struct link *l, uint64_t features)
{
	if (!testdrv_start(l->d, BASE | features, 3, 32)) {
		return false;
	}
	l->tx = testdrv_alloc(l->d, 128 * 1024, 16);
	for (unsigned i = 0; i < RX_BUFS; i++) {
		if (!add_rx(l)) {
			return false;
		}
	}
	return true;
}

static void store_hdr(uint8_t *p, const struct vsock_hdr *h)
{
	store_le64(p, h->src_cid);
	store_le64(p + 8, h->dst_cid);
	store_le32(p + 16, h->src_port);
	store_le32(p + 20, h->dst_port);
	store_le32(p + 24, h->len);
	store_le16(p + 28, h->type);
	store_le16(p + 30, h->op);
	store_le32(p + 32, h->flags);
	store_le32(p + 36, h->buf_alloc);
	store_le32(p + 40, h->fwd_cnt);
}

static bool send_raw(struct link *l, const struct vsock_hdr *h, const void *data, uint32_t len)
{
	uint8_t *p = testdrv_host(l->d, l->tx);
	struct testdrv_seg s[2] = { { l->tx, VSOCK_HDR_BYTES, false },
				    { l->tx + VSOCK_HDR_BYTES, len, false } };
	uint32_t used;

	store_hdr(p, h);
	if (len) {
		memcpy(p + VSOCK_HDR_BYTES, data, len);
	}
	if (testdrv_add(&l->d->q[1], s, len ? 2 : 1) < 0) {
		return false;
	}
	testdrv_kick(&l->d->q[1]);
	return testdrv_wait_used(&l->d->q[1], &used) >= 0;
}

static bool send_op(struct link *l, uint16_t op, uint32_t guest, uint32_t host, uint32_t flags,
		    const void *data, uint32_t len)
{
	const struct vsock_hdr h = { .src_cid = CID,
				     .dst_cid = VSOCK_CID_HOST,
				     .src_port = guest,
				     .dst_port = host,
				     .len = len,
				     .type = VSOCK_TYPE_STREAM,
				     .op = op,
				     .flags = flags,
				     .buf_alloc = l->buf_alloc,
				     .fwd_cnt = l->fwd_cnt };

	return send_raw(l, &h, data, len);
}

/* The next packet for the guest into l->h; its buffer is offered again. */
static bool receive(struct link *l)
{
	uint32_t len;
	int id = testdrv_wait_used(&l->d->q[0], &len);
	const uint8_t *p;

	if (id < 0 || len < VSOCK_HDR_BYTES) {
		return false;
	}
	p = testdrv_host(l->d, l->rx_gpa[id]);
	l->h = (struct vsock_hdr){ .src_cid = load_le64(p),
				   .dst_cid = load_le64(p + 8),
				   .src_port = load_le32(p + 16),
				   .dst_port = load_le32(p + 20),
				   .len = load_le32(p + 24),
				   .type = load_le16(p + 28),
				   .op = load_le16(p + 30),
				   .flags = load_le32(p + 32),
				   .buf_alloc = load_le32(p + 36),
				   .fwd_cnt = load_le32(p + 40) };
	l->data = p + VSOCK_HDR_BYTES;
	return l->h.len == len - VSOCK_HDR_BYTES && l->h.src_cid == VSOCK_CID_HOST &&
	       l->h.dst_cid == CID && add_rx(l);
}

static bool receive_op(struct link *l, uint16_t op)
{
	return receive(l) && l->h.op == op;
}

static bool silent(struct link *l)
{
	uint32_t len;

	testbus_settle(l->d->t);
	return testdrv_used(&l->d->q[0], &len) < 0;
}

static int unix_socket(const char *path, bool listening)
{
	int fd = -1;
	int r = listening ? unix_listen(path, 4, &fd) : unix_connect(path, &fd);

	if (r < 0 || fcntl(fd, F_SETFL, 0) < 0) {
		return -1;
	}
	return fd;
}

/* Connect from the guest to host port 99; the host's end. */
static int guest_connect(struct link *l, uint32_t guest_port)
{
	char path[128];
	int server, fd = -1;

	snprintf(path, sizeof(path), "%s_99", l->path);
	server = unix_socket(path, true);
	if (server >= 0 && send_op(l, VSOCK_REQUEST, guest_port, 99, 0, NULL, 0) &&
	    receive_op(l, VSOCK_RESPONSE)) {
		fd = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	}
	close(server);
	unlink(path);
	return fd;
}

static void test_guest_connects(struct test *t)
{
	static const uint64_t modes[] = { 0, VIRTIO_F_EVENT_IDX,
					  VIRTIO_F_PACKED | VIRTIO_F_EVENT_IDX };

	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		uint8_t buf[64];
		struct link l;
		int fd;

		CHECK(t, link_new(&l) && link_start(&l, modes[i]));
		CHECK_EQ(t, testdrv_config(l.d, 0, 4), CID);
		/* Nobody listens. */
		CHECK(t, send_op(&l, VSOCK_REQUEST, 1000, 98, 0, NULL, 0));
		CHECK(t, receive_op(&l, VSOCK_RST) && l.h.dst_port == 1000 && l.h.src_port == 98);
		fd = guest_connect(&l, 1001);
		CHECK(t, fd >= 0 && l.h.dst_port == 1001 && l.h.src_port == 99);
		CHECK(t, send_op(&l, VSOCK_RW, 1001, 99, 0, "from the guest", 14));
		CHECK_EQ(t, read(fd, buf, sizeof(buf)), 14);
		CHECK(t, memcmp(buf, "from the guest", 14) == 0);
		CHECK(t, write(fd, "from the host", 13) == 13);
		CHECK(t, receive_op(&l, VSOCK_RW) && l.h.len == 13);
		CHECK(t, memcmp(l.data, "from the host", 13) == 0);
		CHECK_EQ(t, l.h.fwd_cnt, 14);
		/* The host closes: no more from it; the guest closes too and is confirmed. */
		close(fd);
		CHECK(t, receive_op(&l, VSOCK_SHUTDOWN) && l.h.flags == VSOCK_SHUT_SEND);
		CHECK(t, send_op(&l, VSOCK_SHUTDOWN, 1001, 99, 3, NULL, 0));
		CHECK(t, receive_op(&l, VSOCK_RST));
		CHECK(t, silent(&l));
		link_free(&l);
	}
}

static void test_host_connects(struct test *t)
{
	char line[64];
	uint32_t port;
	struct link l;
	ssize_t n;
	int fd;

	CHECK(t, link_new(&l) && link_start(&l, 0));
	fd = unix_socket(l.path, false);
	CHECK(t, fd >= 0 && write(fd, "CONN", 4) == 4);
	testbus_settle(l.d->t);
	CHECK(t, write(fd, "ECT 1234\nearly", 14) == 14);
	CHECK(t, receive_op(&l, VSOCK_REQUEST) && l.h.dst_port == 1234);
	port = l.h.src_port;
	CHECK(t, send_op(&l, VSOCK_RESPONSE, 1234, port, 0, NULL, 0));
	n = read(fd, line, sizeof(line) - 1);
	CHECK(t, n > 3 && memcmp(line, "OK ", 3) == 0);
	line[n] = '\0';
	CHECK_EQ(t, strtoul(line + 3, NULL, 10), port);
	CHECK(t, receive_op(&l, VSOCK_RW) && l.h.len == 5 && memcmp(l.data, "early", 5) == 0);
	/* The guest resets: the program sees the end. */
	CHECK(t, send_op(&l, VSOCK_RST, 1234, port, 0, NULL, 0));
	CHECK_EQ(t, read(fd, line, 1), 0);
	close(fd);
	/* Refused by the guest, and greetings that are none. */
	fd = unix_socket(l.path, false);
	CHECK(t, write(fd, "CONNECT 5\n", 10) == 10 && receive_op(&l, VSOCK_REQUEST));
	CHECK(t, send_op(&l, VSOCK_RST, 5, l.h.src_port, 0, NULL, 0));
	CHECK_EQ(t, read(fd, line, 1), 0);
	close(fd);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const bad[] = { "HELLO 5\n", "CONNECT 99999999999\n",
						   "CONNECT 0000000000000000000000000000000005\n" };

		fd = unix_socket(l.path, false);
		CHECK(t, write(fd, bad[i], strlen(bad[i])) > 0);
		testbus_settle(l.d->t);
		n = recv(fd, line, 1, MSG_DONTWAIT);
		CHECK(t, n == 0 || (n < 0 && errno == ECONNRESET));
		close(fd);
	}
	CHECK(t, silent(&l));
	link_free(&l);
}

/* Without credit nothing is sent; with some, just as much. */
static void test_credit_to_guest(struct test *t)
{
	uint8_t buf[10000] = { 0 };
	uint32_t sum = 0;
	struct link l;
	int fd;

	CHECK(t, link_new(&l) && link_start(&l, 0));
	l.buf_alloc = 1000;
	fd = guest_connect(&l, 1001);
	CHECK(t, fd >= 0 && write(fd, buf, sizeof(buf)) == sizeof(buf));
	while (sum < sizeof(buf)) {
		CHECK(t, receive_op(&l, VSOCK_RW));
		sum += l.h.len;
		CHECK(t, sum <= l.fwd_cnt + l.buf_alloc);
		if (sum == l.fwd_cnt + l.buf_alloc) {
			CHECK(t, silent(&l));
			l.fwd_cnt = sum;
			CHECK(t, send_op(&l, VSOCK_CREDIT_UPDATE, 1001, 99, 0, NULL, 0));
		}
	}
	CHECK_EQ(t, sum, sizeof(buf));
	/* Counters that cannot be mean no credit, not a flood. */
	l.fwd_cnt = sum + 5000000;
	CHECK(t, send_op(&l, VSOCK_CREDIT_UPDATE, 1001, 99, 0, NULL, 0));
	CHECK(t, write(fd, buf, 100) == 100);
	CHECK(t, silent(&l));
	close(fd);
	link_free(&l);
}

/* A program that does not read: the guest may fill its credit and no more. */
static void test_credit_to_host(struct test *t)
{
	uint8_t *buf = calloc(1, 32768);
	uint64_t sent = 0, got = 0;
	uint32_t fwd = 0;
	struct link l;
	int fd;

	CHECK(t, buf && link_new(&l) && link_start(&l, 0));
	fd = guest_connect(&l, 1001);
	CHECK(t, fd >= 0);
	for (;;) {
		CHECK(t, send_op(&l, VSOCK_CREDIT_REQUEST, 1001, 99, 0, NULL, 0));
		CHECK(t, receive_op(&l, VSOCK_CREDIT_UPDATE));
		fwd = l.h.fwd_cnt;
		if (sent - fwd + 16384 > VSOCK_BUF_BYTES) {
			break;
		}
		/* Less than half of the buffer, so no update comes unasked. */
		CHECK(t, send_op(&l, VSOCK_RW, 1001, 99, 0, buf, 16384));
		sent += 16384;
	}
	CHECK(t, sent > VSOCK_BUF_BYTES && silent(&l));
	/* Now the program reads it all, and the guest is told of the room. */
	while (got < sent) {
		ssize_t n = read(fd, buf, 32768);

		if (n > 0) {
			got += (uint64_t)n;
		}
		testbus_settle(l.d->t);
	}
	CHECK_EQ(t, got, sent);
	close(fd);
	free(buf);
	link_free(&l);
}

/* More than its credit at once: reset. */
static void test_over_credit(struct test *t)
{
	uint8_t *buf = calloc(1, 70000);
	struct link l;
	int fd;

	CHECK(t, buf && link_new(&l) && link_start(&l, 0));
	fd = guest_connect(&l, 1001);
	CHECK(t, fd >= 0);
	CHECK(t, send_op(&l, VSOCK_RW, 1001, 99, 0, buf, 70000));
	CHECK(t, receive_op(&l, VSOCK_RST));
	close(fd);
	free(buf);
	link_free(&l);
}

/* Packets that lie about who, what or how much. */
static void test_lies(struct test *t)
{
	const struct vsock_hdr good = { .src_cid = CID,
					.dst_cid = VSOCK_CID_HOST,
					.src_port = 5,
					.dst_port = 6,
					.type = VSOCK_TYPE_STREAM,
					.op = VSOCK_RW };
	struct vsock_hdr h = good;
	struct link l;
	int fd;

	CHECK(t, link_new(&l) && link_start(&l, 0));
	CHECK(t, send_raw(&l, &h, NULL, 0) && receive_op(&l, VSOCK_RST)); /* no such connection */
	h.src_cid = 8;                                                    /* another's name */
	CHECK(t, send_raw(&l, &h, NULL, 0) && silent(&l));
	h = good;
	h.dst_cid = 9; /* another guest */
	CHECK(t, send_raw(&l, &h, NULL, 0) && receive_op(&l, VSOCK_RST));
	h = good;
	h.type = 2;
	CHECK(t, send_raw(&l, &h, NULL, 0) && receive_op(&l, VSOCK_RST));
	h = good;
	h.len = 1000; /* more than the chain has */
	CHECK(t, send_raw(&l, &h, "abc", 3) && silent(&l));
	h = good;
	h.op = VSOCK_RST; /* never answered */
	CHECK(t, send_raw(&l, &h, NULL, 0) && silent(&l));
	fd = guest_connect(&l, 1001);
	CHECK(t, fd >= 0);
	CHECK(t, send_op(&l, 77, 1001, 99, 0, NULL, 0) && receive_op(&l, VSOCK_RST));
	close(fd);
	fd = guest_connect(&l, 1002);
	CHECK(t, fd >= 0); /* a second request on it */
	CHECK(t, send_op(&l, VSOCK_REQUEST, 1002, 99, 0, NULL, 0) && receive_op(&l, VSOCK_RST));
	close(fd);
	link_free(&l);
}

/* A receive buffer without room for a header is against the rules. */
static void test_short_buffer(struct test *t)
{
	struct testdrv_seg s = { 0x100000, VSOCK_HDR_BYTES - 1, true };
	struct link l;

	CHECK(t, link_new(&l) && testdrv_start(l.d, BASE, 3, 32));
	l.tx = testdrv_alloc(l.d, 1024, 16);
	CHECK(t, testdrv_add(&l.d->q[0], &s, 1) >= 0);
	CHECK(t, send_op(&l, VSOCK_RW, 5, 6, 0, NULL, 0));
	testbus_settle(l.d->t);
	CHECK(t, testdrv_status(l.d) & VIRTIO_NEEDS_RESET);
	link_free(&l);
}

static void test_flood_of_resets(struct test *t)
{
	struct link l;
	unsigned got = 0;

	CHECK(t, link_new(&l));
	CHECK(t, testdrv_start(l.d, BASE, 3, 32)); /* no receive buffers */
	l.tx = testdrv_alloc(l.d, 1024, 16);
	for (unsigned i = 0; i < 500; i++) {
		CHECK(t, send_op(&l, VSOCK_RW, i, 6, 0, NULL, 0));
	}
	CHECK(t, add_rx(&l));
	while (got < VSOCK_RESETS_MAX) {
		CHECK(t, receive_op(&l, VSOCK_RST));
		got++;
	}
	CHECK(t, silent(&l));
	link_free(&l);
}

static void test_reset_closes(struct test *t)
{
	uint8_t byte;
	struct link l;
	int fd;

	CHECK(t, link_new(&l) && link_start(&l, 0));
	fd = guest_connect(&l, 1001);
	CHECK(t, fd >= 0);
	testdrv_common_write(l.d, 0x14, 0, 1);
	testbus_settle(l.d->t);
	CHECK_EQ(t, read(fd, &byte, 1), 0);
	close(fd);
	l.d->alloc_at = 0x10000;
	CHECK(t, link_start(&l, 0));
	fd = guest_connect(&l, 1001);
	CHECK(t, fd >= 0);
	close(fd);
	link_free(&l);
}

static void test_options(struct test *t)
{
	struct virtio_vsock_options o = { .cid = 2 };
	struct pci_dev *p;
	struct link l;

	CHECK(t, link_new(&l));
	o.listen_fd = l.listen_fd;
	o.connect = host_connect;
	o.opaque = &l;
	CHECK_EQ(t, virtio_vsock_new(l.d->host, -1, &o, &p), -EINVAL);
	pci_dev_remove(l.d->pci);
	o.cid = 4;
	CHECK_EQ(t, virtio_vsock_new(l.d->host, -1, &o, &p), 0); /* the socket is free again */
	link_free(&l);
}

static const struct test_case cases[] = {
	{ "guest-connects", test_guest_connects },
	{ "host-connects", test_host_connects },
	{ "credit-to-guest", test_credit_to_guest },
	{ "credit-to-host", test_credit_to_host },
	{ "over-credit", test_over_credit },
	{ "lies", test_lies },
	{ "short-buffer", test_short_buffer },
	{ "flood-of-resets", test_flood_of_resets },
	{ "reset-closes", test_reset_closes },
	{ "options", test_options },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
