/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The disk, and through it the rings in all their kinds. */
#include <stdlib.h>
#include <sys/mman.h>

#include "base/test.h"
#include "block/block.h"
#include "dev/virtio/testdrv.h"
#include "dev/virtio/virtio_devices.h"

#define DISK_BYTES   MIB(1)
#define SECTOR       512
#define F_RO         BIT64(5)
#define F_FLUSH      BIT64(9)
#define F_CONFIG_WCE BIT64(11)
#define F_MQ         BIT64(12)
#define F_DISCARD    BIT64(13)
#define F_ZEROES     BIT64(14)
#define BASE         VIRTIO_F_VERSION_1

#define T_IN      0
#define T_OUT     1
#define T_FLUSH   4
#define T_GET_ID  8
#define T_DISCARD 11
#define T_ZEROES  13

static const struct {
	const char *name;
	uint64_t features;
	uint16_t size;
} modes[] = {
	{ "split", 0, 16 },
	{ "split, event index", VIRTIO_F_EVENT_IDX, 8 },
	{ "split, indirect", VIRTIO_F_INDIRECT, 16 },
	{ "split, both", VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX, 256 },
	{ "packed", VIRTIO_F_PACKED, 13 },
	{ "packed, event index", VIRTIO_F_PACKED | VIRTIO_F_EVENT_IDX, 16 },
	{ "packed, indirect", VIRTIO_F_PACKED | VIRTIO_F_INDIRECT, 7 },
	{ "packed, both", VIRTIO_F_PACKED | VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX, 256 },
};

struct disk {
	struct testdrv *d;
	struct block *block;
	int fd;
	struct pci_dev *pci;
};

static bool disk_new(struct disk *k, bool readonly, bool no_uring, unsigned queues)
{
	struct block_options o = { .readonly = readonly, .no_lock = true, .no_uring = no_uring };
	struct virtio_blk_options vo = { .serial = "serial-0123456789-too-long", .queues = queues };

	k->d = testdrv_new();
	k->fd = memfd_create("disk", MFD_CLOEXEC);
	if (k->fd < 0 || ftruncate(k->fd, DISK_BYTES) < 0 ||
	    block_open_fd(k->d->t->loop, k->fd, "disk", &o, NULL, 0, &k->block) < 0) {
		return false;
	}
	vo.block = k->block;
	return virtio_blk_new(k->d->host, -1, &vo, &k->pci) == 0 && testdrv_attach(k->d, k->pci);
}

static void disk_free(struct disk *k)
{
	struct block *b = k->block;
	struct testdrv *d = k->d;

	pci_host_free(d->host);
	d->host = NULL;
	block_close(b);
	testbus_free(d->t);
	free(d);
}

/* One request, its parts in guest memory. */
struct request {
	gpa_t header, data, status;
	uint32_t len;
};

static struct request request_new(struct testdrv *d, uint32_t type, uint64_t sector, uint32_t len)
{
	struct request r = { testdrv_alloc(d, 16, 1), testdrv_alloc(d, len ? len : 1, 1),
			     testdrv_alloc(d, 1, 1), len };
	uint8_t *h = testdrv_host(d, r.header);

	store_le32(h, type);
	store_le32(h + 4, 0);
	store_le64(h + 8, sector);
	*(uint8_t *)testdrv_host(d, r.status) = 0xee;
	return r;
}

static uint8_t status_of(struct testdrv *d, const struct request *r)
{
	return *(uint8_t *)testdrv_host(d, r->status);
}

/* Do it and wait; the status, or -1. */
static int run(struct testdrv_queue *q, const struct request *r, bool write, uint32_t *ret_len)
{
	struct testdrv_seg s[3] = { { r->header, 16, false } };
	unsigned n = 1;

	if (r->len) {
		s[n++] = (struct testdrv_seg){ r->data, r->len, !write };
	}
	s[n++] = (struct testdrv_seg){ r->status, 1, true };
	if (testdrv_add(q, s, n) < 0) {
		return -1;
	}
	testdrv_kick(q);
	return testdrv_wait_used(q, ret_len) < 0 ? -1 : status_of(q->d, r);
}

static int run_simple(struct testdrv_queue *q, uint32_t type, uint64_t sector, uint32_t len,
		      bool write)
{
	struct request r = request_new(q->d, type, sector, len);
	uint32_t used;

	return run(q, &r, write, &used);
}

static void test_identity(struct test *t)
{
	struct disk k;
	uint64_t f;

	CHECK(t, disk_new(&k, false, false, 2));
	CHECK_EQ(t, testbus_config_read(k.d->t, k.d->devfn, 0, 4), 0x10421af4);
	CHECK_EQ(t, testbus_config_read(k.d->t, k.d->devfn, 8, 1), 1);
	CHECK_EQ(t, testdrv_config(k.d, 0, 4), DISK_BYTES / SECTOR);
	CHECK_EQ(t, testdrv_config(k.d, 34, 2), 2);
	f = testdrv_offered(k.d);
	CHECK(t, (f & (F_FLUSH | F_MQ | F_DISCARD | F_ZEROES)) ==
			 (F_FLUSH | F_MQ | F_DISCARD | F_ZEROES));
	CHECK(t, !(f & F_RO));
	CHECK_EQ(t, testdrv_common_read(k.d, 0x12, 2), 2);
	disk_free(&k);
}

static void test_negotiation(struct test *t)
{
	struct disk k;
	uint8_t s = VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER;

	CHECK(t, disk_new(&k, false, false, 1));
	CHECK_EQ(t, testdrv_negotiate(k.d, BASE), s | VIRTIO_FEATURES_OK);
	CHECK_EQ(t, testdrv_negotiate(k.d, 0), s);                /* not even version 1 */
	CHECK_EQ(t, testdrv_negotiate(k.d, BASE | BIT64(50)), s); /* never offered */
	/* DRIVER_OK without FEATURES_OK does not count. */
	testdrv_ok(k.d);
	CHECK_EQ(t, testdrv_status(k.d) & VIRTIO_DRIVER_OK, 0);
	/* Features are fixed once agreed. */
	CHECK_EQ(t, testdrv_negotiate(k.d, BASE), s | VIRTIO_FEATURES_OK);
	testdrv_common_write(k.d, 8, 0, 4);
	testdrv_common_write(k.d, 0xc, UINT32_MAX, 4);
	CHECK_EQ(t, testdrv_common_read(k.d, 0xc, 4), 0);
	/* A vector that is not there reads back as none. */
	testdrv_common_write(k.d, 0x10, 77, 2);
	CHECK_EQ(t, testdrv_common_read(k.d, 0x10, 2), 0xffff);
	/* Sizes that cannot be: the queue breaks instead of starting. */
	testdrv_common_write(k.d, 0x16, 0, 2);
	testdrv_common_write(k.d, 0x18, 24, 2);
	testdrv_common_write(k.d, 0x1c, 1, 2);
	CHECK(t, testdrv_status(k.d) & VIRTIO_NEEDS_RESET);
	disk_free(&k);
}

static void test_requests(struct test *t)
{
	struct testdrv_queue *q;
	struct request r;
	struct disk k;
	uint32_t len;

	CHECK(t, disk_new(&k, false, false, 1));
	CHECK(t, testdrv_start(k.d, BASE | F_FLUSH | F_DISCARD | F_ZEROES, 1, 0));
	q = &k.d->q[0];
	r = request_new(k.d, T_OUT, 3, 1024);
	memset(testdrv_host(k.d, r.data), 0x5a, 1024);
	CHECK_EQ(t, run(q, &r, true, &len), 0);
	CHECK_EQ(t, len, 1);
	r = request_new(k.d, T_IN, 4, 512);
	CHECK_EQ(t, run(q, &r, false, &len), 0);
	CHECK_EQ(t, len, 513);
	CHECK_EQ(t, *(uint8_t *)testdrv_host(k.d, r.data), 0x5a);
	CHECK_EQ(t, run_simple(q, T_FLUSH, 0, 0, true), 0);
	r = request_new(k.d, T_GET_ID, 0, 20);
	CHECK_EQ(t, run(q, &r, false, &len), 0);
	CHECK(t, memcmp(testdrv_host(k.d, r.data), "serial-0123456789-to", 20) == 0);
	/* Beyond the end, not whole sectors, far away, unknown. */
	CHECK_EQ(t, run_simple(q, T_IN, DISK_BYTES / SECTOR, 512, false), 1);
	CHECK_EQ(t, run_simple(q, T_IN, DISK_BYTES / SECTOR - 1, 1024, false), 1);
	CHECK_EQ(t, run_simple(q, T_OUT, 0, 100, true), 1);
	CHECK_EQ(t, run_simple(q, T_IN, UINT64_MAX / 512, 512, false), 1);
	CHECK_EQ(t, run_simple(q, T_IN, UINT64_MAX, 512, false), 1);
	CHECK_EQ(t, run_simple(q, 99, 0, 512, false), 2);
	disk_free(&k);
}

static void set_range(struct testdrv *d, const struct request *r, uint64_t sector, uint32_t count,
		      uint32_t flags)
{
	uint8_t *p = testdrv_host(d, r->data);

	store_le64(p, sector);
	store_le32(p + 8, count);
	store_le32(p + 12, flags);
}

static void test_ranges(struct test *t)
{
	static const struct {
		uint32_t type, bytes, count, flags;
		uint64_t sector;
		int status;
	} rows[] = {
		{ T_ZEROES, 16, 2, 0, 8, 0 },
		{ T_ZEROES, 16, 2, 1, 10, 0 },
		{ T_DISCARD, 16, 8, 0, 16, 0 },
		{ T_DISCARD, 16, 8, 1, 16, 2 }, /* unmap is no flag of discard */
		{ T_ZEROES, 16, 8, 2, 16, 2 },  /* unknown flag */
		{ T_ZEROES, 16, 8, 0, DISK_BYTES / SECTOR, 1 },
		{ T_ZEROES, 16, UINT32_MAX, 0, 0, 1 },
		{ T_DISCARD, 32, 8, 0, 0, 1 }, /* more segments than we said */
		{ T_DISCARD, 8, 0, 0, 0, 1 },
	};
	struct disk k;
	uint8_t sector[SECTOR];
	uint32_t len;

	CHECK(t, disk_new(&k, false, false, 1));
	memset(sector, 0xff, sizeof(sector));
	for (unsigned i = 0; i < 32; i++) {
		CHECK(t, pwrite(k.fd, sector, SECTOR, i * SECTOR) == SECTOR);
	}
	CHECK(t, testdrv_start(k.d, BASE | F_FLUSH | F_DISCARD | F_ZEROES, 1, 0));
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct request r = request_new(k.d, rows[i].type, 0, rows[i].bytes);

		if (rows[i].bytes >= 16) {
			set_range(k.d, &r, rows[i].sector, rows[i].count, rows[i].flags);
		}
		CHECK_EQ(t, run(&k.d->q[0], &r, true, &len), rows[i].status);
	}
	CHECK(t, pread(k.fd, sector, SECTOR, 7 * SECTOR) == SECTOR && sector[0] == 0xff);
	CHECK(t, pread(k.fd, sector, SECTOR, 9 * SECTOR) == SECTOR && sector[511] == 0);
	CHECK(t, pread(k.fd, sector, SECTOR, 11 * SECTOR) == SECTOR && sector[0] == 0);
	CHECK(t, pread(k.fd, sector, SECTOR, 12 * SECTOR) == SECTOR && sector[0] == 0xff);
	disk_free(&k);
}

static void test_readonly(struct test *t)
{
	struct disk k;

	CHECK(t, disk_new(&k, true, false, 1));
	CHECK(t, testdrv_offered(k.d) & F_RO);
	CHECK(t, testdrv_start(k.d, BASE | F_RO, 1, 0));
	CHECK_EQ(t, run_simple(&k.d->q[0], T_OUT, 0, 512, true), 1);
	CHECK_EQ(t, run_simple(&k.d->q[0], T_IN, 0, 512, false), 0);
	disk_free(&k);
}

static void test_write_cache(struct test *t)
{
	struct disk k;

	CHECK(t, disk_new(&k, false, false, 1));
	CHECK(t, testdrv_start(k.d, BASE | F_FLUSH | F_CONFIG_WCE, 1, 0));
	CHECK_EQ(t, testdrv_config(k.d, 32, 1), 1);
	testbus_write(k.d->t, DEV_MMIO, k.d->device + 32, 0, 1);
	CHECK_EQ(t, testdrv_config(k.d, 32, 1), 0);
	CHECK_EQ(t, run_simple(&k.d->q[0], T_OUT, 0, 512, true), 0);
	disk_free(&k);
}

/* --- any layout, any ring: against a model ---------------------------------------------------- */

static uint32_t rnd_state;

static uint32_t rnd(uint32_t below)
{
	rnd_state = rnd_state * 1664525 + 1013904223;
	return (rnd_state >> 8) % below;
}

struct pending {
	struct request r;
	uint64_t sector;
	bool write;
	bool used;
};

/* Cut [gpa, gpa+len) into up to `max` pieces. */
static unsigned cut(struct testdrv_seg *s, unsigned max, gpa_t gpa, uint32_t len, bool write)
{
	unsigned n = 0;

	while (len) {
		uint32_t part = n + 1 == max ? len : 1 + rnd(len);

		s[n++] = (struct testdrv_seg){ gpa, part, write };
		gpa += part;
		len -= part;
	}
	return n;
}

/* Header and data, data and status lie behind each other in memory, so cuts can fall anywhere. */
static struct pending pending_new(struct testdrv *d, const uint8_t *model)
{
	struct pending p = { .write = rnd(2), .sector = rnd(DISK_BYTES / SECTOR - 8) };
	uint32_t len = SECTOR * (1 + rnd(8));
	gpa_t at = testdrv_alloc(d, 16 + len + 1, 1);
	uint8_t *h = testdrv_host(d, at);

	p.r = (struct request){ at, at + 16, at + 16 + len, len };
	store_le32(h, p.write ? T_OUT : T_IN);
	store_le64(h + 8, p.sector);
	for (uint32_t i = 0; i < len; i++) {
		h[16 + i] = p.write ? (uint8_t)rnd(256) : 0xaa;
	}
	h[16 + len] = 0xee;
	return p;
}

static unsigned pending_segs(const struct pending *p, struct testdrv_seg *s)
{
	unsigned n;

	if (p->write) {
		n = cut(s, 3, p->r.header, 16 + p->r.len, false);
		s[n++] = (struct testdrv_seg){ p->r.status, 1, true };
		return n;
	}
	n = cut(s, 2, p->r.header, 16, false);
	return n + cut(s + n, 3, p->r.data, p->r.len + 1, true);
}

static bool overlaps(const struct pending *all, unsigned count, const struct pending *p)
{
	for (unsigned i = 0; i < count; i++) {
		if (all[i].used && (all[i].write || p->write) &&
		    all[i].sector < p->sector + p->r.len / SECTOR &&
		    p->sector < all[i].sector + all[i].r.len / SECTOR) {
			return true;
		}
	}
	return false;
}

static bool pending_check(struct testdrv *d, struct pending *p, uint8_t *model, uint32_t len)
{
	uint8_t *at = model + p->sector * SECTOR;
	const uint8_t *data = testdrv_host(d, p->r.data);

	p->used = false;
	if (status_of(d, &p->r) != 0 || len != (p->write ? 1 : p->r.len + 1)) {
		return false;
	}
	if (p->write) {
		memcpy(at, data, p->r.len);
		return true;
	}
	return memcmp(at, data, p->r.len) == 0;
}

static bool model_round(struct testdrv_queue *q, struct pending *by_id, uint8_t *model)
{
	struct testdrv *d = q->d;
	gpa_t mark = d->alloc_at;
	unsigned added = 0;
	uint32_t len;
	int id;

	for (unsigned tries = 1 + rnd(40); tries; tries--) {
		struct testdrv_seg s[8];
		struct pending p = pending_new(d, model);

		if (overlaps(by_id, VQ_SIZE_MAX, &p)) {
			continue;
		}
		id = testdrv_add(q, s, pending_segs(&p, s));
		if (id < 0) {
			break;
		}
		by_id[id] = p;
		by_id[id].used = true;
		added++;
		if (rnd(3) == 0) {
			testdrv_kick(q);
		}
		if (rnd(8) == 0) {
			testbus_settle(d->t);
		}
	}
	testdrv_kick(q);
	while (added--) {
		id = testdrv_wait_used(q, &len);
		if (id < 0 || !by_id[id].used || !pending_check(d, &by_id[id], model, len)) {
			return false;
		}
	}
	d->alloc_at = mark;
	return testdrv_used(q, &len) < 0;
}

static void run_model(struct test *t, unsigned mode, bool no_uring, unsigned rounds)
{
	struct pending *by_id = calloc(VQ_SIZE_MAX, sizeof(*by_id));
	uint8_t *model = calloc(1, DISK_BYTES);
	struct disk k;

	rnd_state = mode * 77 + 1;
	CHECK(t, by_id && model && disk_new(&k, false, no_uring, 1));
	CHECK(t, testdrv_start(k.d, BASE | F_FLUSH | modes[mode].features, 1, modes[mode].size));
	for (unsigned i = 0; i < rounds; i++) {
		if (!model_round(&k.d->q[0], by_id, model)) {
			test_fail(t, __FILE__, __LINE__, "%s: round %u", modes[mode].name, i);
			return;
		}
	}
	CHECK(t, !(testdrv_status(k.d) & VIRTIO_NEEDS_RESET));
	disk_free(&k);
	free(model);
	free(by_id);
}

static void test_model(struct test *t)
{
	for (unsigned i = 0; i < ARRAY_SIZE(modes) && !t->failed; i++) {
		run_model(t, i, false, 60);
	}
}

static void test_model_pool(struct test *t)
{
	for (unsigned i = 0; i < ARRAY_SIZE(modes) && !t->failed; i++) {
		run_model(t, i, true, 20);
	}
}

/* --- notifications
 * -------------------------------------------------------------------------------- */

static void test_interrupts(struct test *t)
{
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		const struct testbus_msi *msi;
		struct disk k;
		unsigned before;

		CHECK(t, disk_new(&k, false, false, 1));
		CHECK(t, testdrv_start(k.d, BASE | modes[i].features, 1, modes[i].size));
		testdrv_interrupts(&k.d->q[0], true);
		testbus_last_msi(k.d->t);
		CHECK_EQ(t, run_simple(&k.d->q[0], T_IN, 0, 512, false), 0);
		msi = testbus_last_msi(k.d->t);
		CHECK(t, msi && msi->data == TESTDRV_MSI_DATA + 1);
		testdrv_interrupts(&k.d->q[0], false);
		before = k.d->t->msi_count;
		CHECK_EQ(t, run_simple(&k.d->q[0], T_IN, 0, 512, false), 0);
		CHECK_EQ(t, k.d->t->msi_count, before);
		disk_free(&k);
	}
}

/* Eight requests offered at once: one kick is wanted, one interrupt comes. */
static void test_batch(struct test *t)
{
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		struct testdrv_seg s[2];
		struct disk k;
		uint32_t len;
		unsigned count = modes[i].size < 16 ? 3 : 6, before;

		CHECK(t, disk_new(&k, false, false, 1));
		CHECK(t, testdrv_start(k.d, BASE | modes[i].features, 1, modes[i].size));
		testbus_settle(k.d->t);
		testdrv_interrupts(&k.d->q[0], true);
		before = k.d->t->msi_count;
		for (unsigned n = 0; n < count; n++) {
			struct request r = request_new(k.d, T_FLUSH, 0, 0);

			s[0] = (struct testdrv_seg){ r.header, 16, false };
			s[1] = (struct testdrv_seg){ r.status, 1, true };
			CHECK(t, testdrv_add(&k.d->q[0], s, 2) >= 0);
		}
		CHECK(t, testdrv_kick(&k.d->q[0]));
		for (unsigned n = 0; n < count; n++) {
			CHECK(t, testdrv_wait_used(&k.d->q[0], &len) >= 0);
		}
		/* With event index exactly one; else one a batch of completions. */
		if (k.d->event_idx) {
			CHECK_EQ(t, k.d->t->msi_count, before + 1);
		} else {
			CHECK(t, k.d->t->msi_count > before && k.d->t->msi_count <= before + count);
		}
		disk_free(&k);
	}
}

static void test_intx(struct test *t)
{
	struct disk k;
	unsigned cap, gsi;

	CHECK(t, disk_new(&k, false, false, 1));
	for (cap = testbus_config_read(k.d->t, k.d->devfn, 0x34, 1);
	     cap && testbus_config_read(k.d->t, k.d->devfn, cap, 1) != 0x11;
	     cap = testbus_config_read(k.d->t, k.d->devfn, cap + 1, 1)) {
	}
	CHECK(t, cap);
	testbus_config_write(k.d->t, k.d->devfn, cap + 2, 0, 2);
	CHECK(t, testdrv_start(k.d, BASE, 1, 0));
	CHECK_EQ(t, run_simple(&k.d->q[0], T_IN, 0, 512, false), 0);
	gsi = PCI_GSI_FIRST + pci_pirq((uint8_t)k.d->devfn, 0);
	CHECK(t, k.d->t->irq_level[gsi]);
	CHECK_EQ(t, testbus_read(k.d->t, DEV_MMIO, k.d->isr, 1), 1);
	CHECK(t, !k.d->t->irq_level[gsi]);
	CHECK_EQ(t, testbus_read(k.d->t, DEV_MMIO, k.d->isr, 1), 0);
	disk_free(&k);
}

/* The same through the configuration access capability and without ioeventfds. */
static void test_pci_cfg(struct test *t)
{
	struct disk k;
	unsigned cap;

	CHECK(t, disk_new(&k, false, false, 1));
	cap = k.d->pci_cfg_cap;
	testbus_config_write(k.d->t, k.d->devfn, cap + 4, 4, 1);
	testbus_config_write(k.d->t, k.d->devfn, cap + 8, 0x12, 4); /* num_queues */
	testbus_config_write(k.d->t, k.d->devfn, cap + 12, 2, 4);
	CHECK_EQ(t, testbus_config_read(k.d->t, k.d->devfn, cap + 16, 2), 1);
	testbus_config_write(k.d->t, k.d->devfn, cap + 8, 0x14, 4); /* device_status */
	testbus_config_write(k.d->t, k.d->devfn, cap + 12, 1, 4);
	testbus_config_write(k.d->t, k.d->devfn, cap + 16, VIRTIO_ACKNOWLEDGE, 1);
	CHECK_EQ(t, testdrv_status(k.d), VIRTIO_ACKNOWLEDGE);
	/* Outside of the BAR, or of an impossible length: nothing happens. */
	testbus_config_write(k.d->t, k.d->devfn, cap + 8, 0xfffffff0, 4);
	testbus_config_write(k.d->t, k.d->devfn, cap + 16, 0, 1);
	testbus_config_write(k.d->t, k.d->devfn, cap + 12, 0, 4);
	testbus_config_write(k.d->t, k.d->devfn, cap + 16, 0, 1);
	CHECK_EQ(t, testdrv_status(k.d), VIRTIO_ACKNOWLEDGE);
	disk_free(&k);
}

static void test_no_ioeventfd(struct test *t)
{
	struct disk k;

	CHECK(t, disk_new(&k, false, false, 1));
	k.d->t->have_ioeventfd = false;
	CHECK(t, testdrv_start(k.d, BASE, 1, 0));
	CHECK_EQ(t, run_simple(&k.d->q[0], T_IN, 0, 512, false), 0);
	disk_free(&k);
}

/* --- resets
 * ------------------------------------------------------------------------------------------ */

static bool is_reset(void *opaque)
{
	return testdrv_status(opaque) == 0;
}

/* Have `count` reads handed to the image, but not come back. */
static bool put_in_flight(struct disk *k, unsigned count, struct request *r)
{
	struct testdrv_queue *q = &k->d->q[0];

	for (unsigned i = 0; i < count; i++) {
		struct testdrv_seg s[3];

		*r = request_new(k->d, T_IN, i, 512);
		memset(testdrv_host(k->d, r->data), 0x77, 512);
		s[0] = (struct testdrv_seg){ r->header, 16, false };
		s[1] = (struct testdrv_seg){ r->data, 512, true };
		s[2] = (struct testdrv_seg){ r->status, 1, true };
		if (testdrv_add(q, s, 3) < 0) {
			return false;
		}
	}
	testdrv_kick(q);
	return loop_poll(k->d->t->loop, 0); /* one turn: the kick is served */
}

static void test_reset_in_flight(struct test *t)
{
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		struct request r;
		struct disk k;

		CHECK(t, disk_new(&k, false, i % 2, 1));
		CHECK(t, testdrv_start(k.d, BASE | modes[i].features, 1, modes[i].size));
		testbus_settle(k.d->t);
		CHECK(t, put_in_flight(&k, 2, &r));
		testdrv_common_write(k.d, 0x14, 0, 1);
		CHECK(t, testdrv_status(k.d) != 0); /* not before the I/O has ended */
		CHECK(t, testbus_wait(k.d->t, is_reset, k.d));
		/* The status byte was not touched any more. */
		CHECK_EQ(t, status_of(k.d, &r), 0xee);
		CHECK(t, testdrv_start(k.d, BASE | modes[i].features, 1, modes[i].size));
		CHECK_EQ(t, run_simple(&k.d->q[0], T_IN, 0, 512, false), 0);
		/* The machine's reset waits itself. */
		CHECK(t, put_in_flight(&k, 2, &r));
		pci_host_reset(k.d->host);
		CHECK(t, testdrv_attach(k.d, k.pci));
		CHECK_EQ(t, testdrv_status(k.d), 0);
		CHECK(t, testdrv_start(k.d, BASE | modes[i].features, 1, modes[i].size));
		CHECK_EQ(t, run_simple(&k.d->q[0], T_IN, 0, 512, false), 0);
		/* And a device may go while it works. */
		CHECK(t, put_in_flight(&k, 2, &r));
		disk_free(&k);
	}
}

static bool queue_is_reset(void *opaque)
{
	return testdrv_common_read(opaque, 0x3a, 2) == 0;
}

static void test_queue_reset(struct test *t)
{
	struct request r;
	struct disk k;

	CHECK(t, disk_new(&k, false, false, 2));
	CHECK(t, testdrv_start(k.d, BASE | VIRTIO_F_RING_RESET | F_MQ, 2, 16));
	testbus_settle(k.d->t);
	CHECK(t, put_in_flight(&k, 3, &r));
	testdrv_common_write(k.d, 0x16, 0, 2);
	testdrv_common_write(k.d, 0x3a, 1, 2);
	CHECK_EQ(t, testdrv_common_read(k.d, 0x3a, 2), 1);
	CHECK(t, testbus_wait(k.d->t, queue_is_reset, k.d));
	CHECK_EQ(t, testdrv_common_read(k.d, 0x1c, 2), 0);
	CHECK_EQ(t, status_of(k.d, &r), 0xee);
	CHECK_EQ(t, run_simple(&k.d->q[1], T_IN, 0, 512, false), 0); /* the other goes on */
	CHECK(t, testdrv_queue(k.d, 0, 8));
	CHECK_EQ(t, run_simple(&k.d->q[0], T_IN, 0, 512, false), 0);
	disk_free(&k);
}

/* As many descriptors as the ring has, the most that a driver may chain (2.7.13.1.1). */
static void test_long_chains(struct test *t)
{
	enum { RING = 256, PIECES = RING - 2 };
	static const uint64_t kinds[] = { 0, VIRTIO_F_PACKED };
	uint8_t sectors[2 * SECTOR], *got;
	struct testdrv_seg s[RING];
	struct request r;
	struct disk k;
	uint32_t len;

	CHECK(t, disk_new(&k, false, false, 1));
	for (unsigned i = 0; i < sizeof(sectors); i++) {
		sectors[i] = (uint8_t)(i * 7 + i / 256);
	}
	CHECK(t, pwrite(k.fd, sectors, sizeof(sectors), 0) == sizeof(sectors));
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		CHECK(t, testdrv_start(k.d, BASE | kinds[i], 1, RING));
		r = request_new(k.d, T_IN, 0, sizeof(sectors));
		s[0] = (struct testdrv_seg){ r.header, 16, false };
		for (unsigned j = 0; j < PIECES; j++) {
			len = j + 1 < PIECES ? 4 : sizeof(sectors) - 4 * (PIECES - 1);
			s[1 + j] = (struct testdrv_seg){ r.data + 4 * j, len, true };
		}
		s[RING - 1] = (struct testdrv_seg){ r.status, 1, true };
		CHECK(t, testdrv_add(&k.d->q[0], s, RING) >= 0);
		testdrv_kick(&k.d->q[0]);
		CHECK(t, testdrv_wait_used(&k.d->q[0], &len) >= 0);
		CHECK_EQ(t, status_of(k.d, &r), 0);
		got = testdrv_host(k.d, r.data);
		CHECK(t, memcmp(got, sectors, sizeof(sectors)) == 0);
	}
	disk_free(&k);
}

static void test_bus_master(struct test *t)
{
	struct testdrv_seg s[2];
	struct request r;
	struct disk k;
	uint32_t len;

	CHECK(t, disk_new(&k, false, false, 1));
	CHECK(t, testdrv_start(k.d, BASE, 1, 16));
	testbus_config_write(k.d->t, k.d->devfn, 4, 2, 2);
	r = request_new(k.d, T_FLUSH, 0, 0);
	s[0] = (struct testdrv_seg){ r.header, 16, false };
	s[1] = (struct testdrv_seg){ r.status, 1, true };
	CHECK(t, testdrv_add(&k.d->q[0], s, 2) >= 0);
	testdrv_force_kick(&k.d->q[0]);
	testbus_settle(k.d->t);
	CHECK(t, testdrv_used(&k.d->q[0], &len) < 0);
	testbus_config_write(k.d->t, k.d->devfn, 4, 6, 2);
	CHECK(t, testdrv_wait_used(&k.d->q[0], &len) >= 0);
	disk_free(&k);
}

static const struct test_case cases[] = {
	{ "identity", test_identity },
	{ "negotiation", test_negotiation },
	{ "requests", test_requests },
	{ "ranges", test_ranges },
	{ "readonly", test_readonly },
	{ "write-cache", test_write_cache },
	{ "model", test_model },
	{ "model-pool", test_model_pool },
	{ "interrupts", test_interrupts },
	{ "batch", test_batch },
	{ "intx", test_intx },
	{ "pci-cfg", test_pci_cfg },
	{ "no-ioeventfd", test_no_ioeventfd },
	{ "reset-in-flight", test_reset_in_flight },
	{ "queue-reset", test_queue_reset },
	{ "long-chains", test_long_chains },
	{ "bus-master", test_bus_master },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
