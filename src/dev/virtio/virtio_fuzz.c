/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drivers that send anything: for each kind of device, random features, then a
 * program of operations from the input: bytes poked into ring memory, chains
 * whose shape is legal and whose content is not, register writes, kicks, input
 * from the host's side, time, resets. Nothing may crash, hang or leak.
 *
 *	device, features (4 bytes), operations: op, then its operands
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/unix_socket.h"
#include "block/block.h"
#include "dev/char/chardev.h"
#include "dev/virtio/testdrv.h"
#include "dev/virtio/virtio_devices.h"
#include "netio/netio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OPS_MAX    300
#define RINGS_AT   0x10000u /* where testdrv_alloc() begins */
#define DATA_AT    0x100000u
#define QUEUE_SIZE 16
#define SEGS_MAX   6

enum device { BLK, NET, CONSOLE, RNG, BALLOON, VSOCK, DEVICES };
enum op { POKE, CHAIN, KICK, REGISTER, SETTLE, ADVANCE, HOST, RESTART, OPS };

struct input {
	const uint8_t *at, *end;
};

struct target {
	enum device kind;
	struct testdrv *d;
	struct pci_dev *pci;
	struct block *block;
	struct netio *near, *far;
	struct chardev *chars[2];
	char path[64];
	int host_fd, listen_fd;
	uint64_t features;
	unsigned queues;
	uint16_t next[TESTDRV_QUEUES_MAX];
	bool wrap[TESTDRV_QUEUES_MAX];
};

static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t v = 0;

	while (bytes-- && in->at < in->end) {
		v = v << 8 | *in->at++;
	}
	return v;
}

/* --- one of each device --------------------------------------------------------------------------
 */

static int make_blk(struct target *t)
{
	struct block_options o = { .no_lock = true };
	struct virtio_blk_options v = { .queues = 2 };
	int fd = memfd_create("disk", MFD_CLOEXEC);

	ASSERT(fd >= 0 && ftruncate(fd, KIB(256)) == 0);
	ASSERT(block_open_fd(t->d->t->loop, fd, "disk", &o, NULL, 0, &t->block) == 0);
	v.block = t->block;
	return virtio_blk_new(t->d->host, -1, &v, &t->pci);
}

static int make_net(struct target *t)
{
	struct virtio_net_options v = { .mtu = 1500 };

	ASSERT(netio_pair_new_queues(t->d->t->loop, 2, &t->near, &t->far) == 0);
	v.netio = t->near;
	return virtio_net_new(t->d->host, -1, &v, &t->pci);
}

static int make_console(struct target *t)
{
	struct virtio_console_port p[2] = { { .name = "a" }, { .name = "b" } };
	struct virtio_console_options v = { .ports = p, .port_count = 2 };

	for (unsigned i = 0; i < 2; i++) {
		ASSERT(chardev_memory_new(t->d->t->loop, &t->chars[i]) == 0);
		p[i].chardev = t->chars[i];
	}
	return virtio_console_new(t->d->host, -1, &v, &t->pci);
}

/* The guest's way to a program of the host; with odd ports there is one. */
static int host_connect(void *opaque, uint32_t port)
{
	int fds[2];

	if (port % 2 == 0) {
		return -ECONNREFUSED;
	}
	ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	fd_closep(&((struct target *)opaque)->host_fd);
	((struct target *)opaque)->host_fd = fds[0];
	return fds[1];
}

static int make_vsock(struct target *t)
{
	struct virtio_vsock_options v = { .cid = 3, .connect = host_connect, .opaque = t };

	snprintf(t->path, sizeof(t->path), "/tmp/lodge-vsock-fuzz.%d", (int)getpid());
	unlink(t->path);
	ASSERT(unix_listen(t->path, 64, &t->listen_fd) == 0);
	v.listen_fd = t->listen_fd;
	return virtio_vsock_new(t->d->host, -1, &v, &t->pci);
}

static void target_new(struct target *t, enum device kind)
{
	int r = -1;

	*t = (struct target){ .kind = kind, .d = testdrv_new(), .host_fd = -1, .listen_fd = -1 };
	switch (kind) {
	case BLK:
		r = make_blk(t);
		break;
	case NET:
		r = make_net(t);
		break;
	case CONSOLE:
		r = make_console(t);
		break;
	case RNG:
		r = virtio_rng_new(t->d->host, -1, NULL, &t->pci);
		break;
	case BALLOON:
		r = virtio_balloon_new(t->d->host, -1, NULL, &t->pci);
		break;
	default:
		r = make_vsock(t);
	}
	ASSERT(r == 0 && testdrv_attach(t->d, t->pci));
	t->queues = testdrv_common_read(t->d, 0x12, 2);
}

static void target_free(struct target *t)
{
	pci_host_free(t->d->host);
	fd_closep(&t->host_fd);
	fd_closep(&t->listen_fd);
	unlink(t->path);
	block_close(t->block);
	netio_free(t->near);
	netio_free(t->far);
	chardev_free(t->chars[0]);
	chardev_free(t->chars[1]);
	testbus_free(t->d->t);
	free(t->d);
}

/* --- operations
 * ------------------------------------------------------------------------------------ */

static void restart(struct target *t)
{
	t->d->alloc_at = RINGS_AT;
	/* The BARs may have been moved by what was written through the access capability. */
	testdrv_attach(t->d, t->pci);
	if (!(testdrv_negotiate(t->d, t->features) & VIRTIO_FEATURES_OK)) {
		t->features &= VIRTIO_F_VERSION_1 | VIRTIO_F_PACKED | VIRTIO_F_INDIRECT |
			       VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_RESET;
		ASSERT(testdrv_negotiate(t->d, t->features) & VIRTIO_FEATURES_OK);
	}
	for (unsigned i = 0; i < t->queues; i++) {
		testdrv_queue(t->d, i, QUEUE_SIZE);
		t->next[i] = 0;
		t->wrap[i] = true;
	}
	testdrv_ok(t->d);
}

static void poke(struct target *t, struct input *in)
{
	uint32_t at = RINGS_AT + take(in, 2), len = 1 + take(in, 1) % 16;
	uint8_t *p = testdrv_host(t->d, at);

	while (len-- && in->at < in->end) {
		*p++ = *in->at++;
	}
}

/* A descriptor as the input likes it. */
static struct testdrv_seg segment(struct target *t, struct input *in)
{
	struct testdrv_seg s = { DATA_AT + take(in, 2), take(in, 2), take(in, 1) & 1 };

	if (s.len & 1) {
		s.len &= 0x3f; /* mostly small, like headers */
	}
	for (uint32_t n = MIN(s.len, 8), i = 0; i < n && !s.write; i++) {
		*((uint8_t *)testdrv_host(t->d, s.gpa) + i) = (uint8_t)take(in, 1);
	}
	return s;
}

static void desc_put(struct testdrv_queue *q, unsigned i, const struct testdrv_seg *s, uint16_t a,
		     uint16_t b)
{
	uint8_t *at = q->desc + (size_t)(i % q->size) * VQ_DESC_BYTES;

	store_le64(at, s->gpa);
	store_le32(at + 8, s->len);
	store_le16(at + 12, a);
	vq_store_release16(at + 14, b);
}

static void chain(struct target *t, struct input *in)
{
	unsigned n = take(in, 1), index = n % t->queues;
	struct testdrv_queue *q = &t->d->q[index];
	unsigned count = 1 + n / 32 % SEGS_MAX;
	uint16_t head = t->next[index];

	if (!q->size) {
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		struct testdrv_seg s = segment(t, in);
		uint16_t flags = (uint16_t)((s.write ? VQ_DESC_WRITE : 0) |
					    (i + 1 < count ? VQ_DESC_NEXT : 0));
		uint16_t pos = t->next[index];

		if (t->d->packed) {
			flags |= t->wrap[index] ? VQ_DESC_AVAIL : VQ_DESC_USED;
			desc_put(q, pos, &s, pos, flags);
		} else {
			desc_put(q, pos, &s, flags, (uint16_t)((pos + 1) % q->size));
		}
		t->next[index] = (uint16_t)((pos + 1) % q->size);
		t->wrap[index] ^= t->next[index] == 0;
	}
	if (!t->d->packed) {
		uint16_t idx = load_le16(q->driver + VQ_RING_IDX);

		store_le16(q->driver + VQ_AVAIL_ENTRY(idx % q->size), head);
		vq_store_release16(q->driver + VQ_RING_IDX, (uint16_t)(idx + 1));
	}
	testdrv_force_kick(q);
}

static void host_net(struct target *t, struct input *in)
{
	static uint8_t frame[70000];
	struct iovec iov = { frame, NETIO_HDR_BYTES + take(in, 2) };

	(void)netio_send(t->far, iov.iov_len & 1, &iov, 1);
	iov.iov_len = sizeof(frame);
	while (take(in, 1) & 1 && netio_receive(t->far, 0, &iov, 1) > 0) {
	}
}

static void host_console(struct target *t, struct input *in)
{
	unsigned n = take(in, 1);
	struct chardev *c = t->chars[n & 1];

	chardev_memory_block(c, n & 2);
	chardev_memory_feed(c, "some input for the guest", n / 4 % 24);
}

static void host_vsock(struct target *t, struct input *in)
{
	unsigned n = take(in, 1);
	uint8_t buf[4096] = "CONNECT 5\n";

	if (n & 1) {
		fd_closep(&t->host_fd);
		if (unix_connect(t->path, &t->host_fd) < 0) {
			return;
		}
	}
	if (t->host_fd >= 0) {
		(void)!send(t->host_fd, buf, n & 2 ? 10 : n * 16, MSG_NOSIGNAL);
		(void)!recv(t->host_fd, buf, n & 4 ? sizeof(buf) : 1, MSG_DONTWAIT);
	}
}

static void host_side(struct target *t, struct input *in)
{
	switch (t->kind) {
	case NET:
		host_net(t, in);
		break;
	case CONSOLE:
		host_console(t, in);
		break;
	case BALLOON:
		virtio_balloon_set_target(t->pci, take(in, 3));
		virtio_balloon_ask_stats(t->pci);
		break;
	case VSOCK:
		host_vsock(t, in);
		break;
	default:
		break;
	}
}

static void step(struct target *t, struct input *in)
{
	uint32_t at;

	switch ((enum op)(take(in, 1) % OPS)) {
	case POKE:
		poke(t, in);
		break;
	case CHAIN:
		chain(t, in);
		break;
	case KICK:
		testdrv_force_kick(&t->d->q[take(in, 1) % t->queues]);
		break;
	case REGISTER:
		at = take(in, 2);
		testbus_write(t->d->t, DEV_MMIO, TESTDRV_BAR + at % 0x3fff, take(in, 4),
			      1u << at / 0x4000);
		testbus_read(t->d->t, DEV_MMIO, TESTDRV_BAR + at % 0x3fff, 1u << at / 0x4000);
		break;
	case SETTLE:
		testbus_settle(t->d->t);
		break;
	case ADVANCE:
		testbus_advance(t->d->t, (ns_t)take(in, 2) * NS_PER_MS);
		break;
	case HOST:
		host_side(t, in);
		break;
	default:
		restart(t);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	struct target t;
	uint32_t chosen;

	target_new(&t, (enum device)(take(&in, 1) % DEVICES));
	chosen = take(&in, 4);
	t.features = testdrv_offered(t.d) & (VIRTIO_F_VERSION_1 | (chosen & 0x3fffffff) |
					     (chosen & BIT(30) ? VIRTIO_F_PACKED : 0) |
					     (chosen & BIT(31) ? VIRTIO_F_RING_RESET : 0));
	restart(&t);
	for (unsigned i = 0; i < OPS_MAX && in.at < in.end; i++) {
		step(&t, &in);
	}
	testbus_settle(t.d->t);
	target_free(&t);
	return 0;
}
