/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drivers that break the rules: each row makes one thing wrong in a ring. The device must say
 * that it needs a reset (or, where the rules allow it, answer with an error),
 * must not touch what is not its own, and must work again after a reset.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "base/test.h"
#include "block/block.h"
#include "dev/virtio/testdrv.h"
#include "dev/virtio/virtio_devices.h"

#define BASE       VIRTIO_F_VERSION_1
#define SPLIT      0
#define PACKED     VIRTIO_F_PACKED
#define QUEUE_SIZE 8
#define RAM_END    TESTDRV_RAM_BYTES

enum answer {
	BREAKS, /* DEVICE_NEEDS_RESET */
	FAILS,  /* an error status */
	IGNORES /* neither; the chain may or may not come back */
};

struct scene {
	struct testdrv *d;
	struct testdrv_queue *q;
	struct block *block;
	gpa_t header, data, status, table;
};

/* Write descriptor `i`. `next`: of a split ring; packed rings ignore it. */
static void put(struct scene *s, unsigned i, gpa_t gpa, uint32_t len, uint16_t flags, uint16_t next)
{
	uint8_t *at = s->q->desc + (size_t)i * VQ_DESC_BYTES;

	store_le64(at, gpa);
	store_le32(at + 8, len);
	if (s->d->packed) {
		store_le16(at + 12, (uint16_t)i);
		vq_store_release16(at + 14, flags | VQ_DESC_AVAIL);
	} else {
		store_le16(at + 12, flags);
		store_le16(at + 14, next);
	}
}

static void put_table(struct scene *s, unsigned i, gpa_t gpa, uint32_t len, uint16_t flags,
		      uint16_t next)
{
	uint8_t *at = (uint8_t *)testdrv_host(s->d, s->table) + (size_t)i * VQ_DESC_BYTES;

	store_le64(at, gpa);
	store_le32(at + 8, len);
	store_le16(at + 12, s->d->packed ? 0 : flags);
	store_le16(at + 14, s->d->packed ? flags : next);
}

/* Make entry 0 of a split ring available, with the index at `idx`. */
static void offer(struct scene *s, uint16_t head, uint16_t idx)
{
	if (!s->d->packed) {
		store_le16(s->q->driver + VQ_AVAIL_ENTRY(0), head);
		vq_store_release16(s->q->driver + VQ_RING_IDX, idx);
	}
}

#define N VQ_DESC_NEXT
#define W VQ_DESC_WRITE
#define I VQ_DESC_INDIRECT

static void header_not_ram(struct scene *s)
{
	put(s, 1, s->status, 1, W, 0);
	put(s, 0, RAM_END, 16, N, 1);
	offer(s, 0, 1);
}

static void data_crosses_end(struct scene *s)
{
	put(s, 2, s->status, 1, W, 0);
	put(s, 1, RAM_END - 256, 512, N | W, 2);
	put(s, 0, s->header, 16, N, 1);
	offer(s, 0, 1);
}

static void data_is_device(struct scene *s)
{
	put(s, 2, s->status, 1, W, 0);
	put(s, 1, TESTDRV_BAR, 512, N | W, 2);
	put(s, 0, s->header, 16, N, 1);
	offer(s, 0, 1);
}

static void address_wraps(struct scene *s)
{
	put(s, 2, s->status, 1, W, 0);
	put(s, 1, UINT64_MAX - 100, 512, N | W, 2);
	put(s, 0, s->header, 16, N, 1);
	offer(s, 0, 1);
}

static void length_huge(struct scene *s)
{
	put(s, 2, s->status, 1, W, 0);
	put(s, 1, s->data, UINT32_MAX, N | W, 2);
	put(s, 0, s->header, 16, N, 1);
	offer(s, 0, 1);
}

static void lengths_overflow(struct scene *s)
{
	/* Two parts of 4 GiB - 1 would sum to something small; neither is RAM anyway. */
	put(s, 3, s->status, 1, W, 0);
	put(s, 2, 0, UINT32_MAX, N | W, 3);
	put(s, 1, 0, UINT32_MAX, N | W, 2);
	put(s, 0, s->header, 16, N, 1);
	offer(s, 0, 1);
}

static void readable_after_writable(struct scene *s)
{
	put(s, 2, s->data, 512, 0, 0);
	put(s, 1, s->status, 1, N | W, 2);
	put(s, 0, s->header, 16, N, 1);
	offer(s, 0, 1);
}

static void loop_of_two(struct scene *s)
{
	put(s, 0, s->header, 16, N, 1);
	put(s, 1, s->data, 8, N, 0);
	offer(s, 0, 1);
}

static void loop_to_self(struct scene *s)
{
	put(s, 0, s->header, 16, N, 0);
	offer(s, 0, 1);
}

static void chain_never_ends(struct scene *s)
{
	for (unsigned i = QUEUE_SIZE; i--;) {
		put(s, i, s->header, 16, N, (uint16_t)((i + 1) % QUEUE_SIZE));
	}
	offer(s, 0, 1);
}

static void next_past_table(struct scene *s)
{
	put(s, 0, s->header, 16, N, QUEUE_SIZE);
	offer(s, 0, 1);
}

static void head_past_table(struct scene *s)
{
	offer(s, QUEUE_SIZE, 1);
}

static void index_jumps(struct scene *s)
{
	put(s, 0, s->header, 16, 0, 0);
	offer(s, 0, QUEUE_SIZE + 1);
}

static void no_status(struct scene *s)
{
	put(s, 0, s->header, 16, 0, 0);
	offer(s, 0, 1);
}

static void short_header(struct scene *s)
{
	put(s, 1, s->status, 1, W, 0);
	put(s, 0, s->header, 15, N, 1);
	offer(s, 0, 1);
}

/* The device breaks by the first chain while a second one waits: it must not wait for that. */
static void broken_with_more(struct scene *s)
{
	put(s, 1, s->header, 16, 0, 0);
	put(s, 0, s->header, 16, 0, 0);
	store_le16(s->q->driver + VQ_AVAIL_ENTRY(1), 1);
	offer(s, 0, 2);
}

static void only_writable(struct scene *s)
{
	put(s, 0, s->data, 512, W, 0);
	offer(s, 0, 1);
}

static void empty_descriptors(struct scene *s)
{
	put(s, 1, s->status, 0, W, 0);
	put(s, 0, s->header, 0, N, 1);
	offer(s, 0, 1);
}

static void indirect_not_agreed(struct scene *s)
{
	put_table(s, 0, s->header, 16, 0, 0);
	put(s, 0, s->table, 16, I, 0);
	offer(s, 0, 1);
}

static void table_ragged(struct scene *s)
{
	put(s, 0, s->table, 24, I, 0);
	offer(s, 0, 1);
}

static void table_empty(struct scene *s)
{
	put(s, 0, s->table, 0, I, 0);
	offer(s, 0, 1);
}

static void table_not_ram(struct scene *s)
{
	put(s, 0, RAM_END - 16, 64, I, 0);
	offer(s, 0, 1);
}

static void table_too_long(struct scene *s)
{
	put(s, 0, s->table, (VQ_SIZE_MAX + 1) * VQ_DESC_BYTES, I, 0);
	offer(s, 0, 1);
}

static void table_with_next(struct scene *s)
{
	put(s, 1, s->status, 1, W, 0);
	put_table(s, 0, s->header, 16, 0, 0);
	put(s, 0, s->table, 16, I | N, 1);
	offer(s, 0, 1);
}

static void table_in_table(struct scene *s)
{
	put_table(s, 0, s->table, 16, I, 0);
	put(s, 0, s->table, 16, I, 0);
	offer(s, 0, 1);
}

static void table_loops(struct scene *s)
{
	put_table(s, 0, s->header, 16, N, 1);
	put_table(s, 1, s->header, 16, N, 0);
	put(s, 0, s->table, 32, I, 0);
	offer(s, 0, 1);
}

static void table_next_past(struct scene *s)
{
	put_table(s, 0, s->header, 16, N, 7);
	put(s, 0, s->table, 32, I, 0);
	offer(s, 0, 1);
}

/* As many segments as the table holds, far more than the disk said it takes. */
static void table_many(struct scene *s)
{
	for (unsigned i = 0; i < 1024; i++) {
		put_table(s, i, s->header, 1, i < 1023 ? N : 0, (uint16_t)(i + 1));
	}
	put(s, 0, s->table, 1024 * VQ_DESC_BYTES, I, 0);
	offer(s, 0, 1);
}

/* The same head over and over, while the first is still in flight. */
static void same_head(struct scene *s)
{
	put(s, 2, s->status, 1, W, 0);
	put(s, 1, s->data, 512, N | W, 2);
	put(s, 0, s->header, 16, N, 1);
	for (unsigned i = 0; i < QUEUE_SIZE; i++) {
		store_le16(s->q->driver + VQ_AVAIL_ENTRY(i), 0);
	}
	vq_store_release16(s->q->driver + VQ_RING_IDX, QUEUE_SIZE);
}

/* Data on top of the rings themselves: the device writes over its own ring. */
static void data_on_ring(struct scene *s)
{
	put(s, 2, s->status, 1, W, 0);
	put(s, 1, s->q->device_gpa, 512, N | W, 2);
	put(s, 0, s->header, 16, N, 1);
	offer(s, 0, 1);
}

static const struct {
	const char *name;
	uint64_t features;
	void (*make)(struct scene *s);
	enum answer answer;
} rows[] = {
	{ "header not RAM", SPLIT, header_not_ram, BREAKS },
	{ "header not RAM, packed", PACKED, header_not_ram, BREAKS },
	{ "data over the end", SPLIT, data_crosses_end, BREAKS },
	{ "data over the end, packed", PACKED, data_crosses_end, BREAKS },
	{ "data is a device", SPLIT, data_is_device, BREAKS },
	{ "data is a device, packed", PACKED, data_is_device, BREAKS },
	{ "address wraps", SPLIT, address_wraps, BREAKS },
	{ "address wraps, packed", PACKED, address_wraps, BREAKS },
	{ "huge length", SPLIT, length_huge, BREAKS },
	{ "huge length, packed", PACKED, length_huge, BREAKS },
	{ "lengths overflow", SPLIT, lengths_overflow, BREAKS },
	{ "readable after writable", SPLIT, readable_after_writable, BREAKS },
	{ "readable after writable, packed", PACKED, readable_after_writable, BREAKS },
	{ "loop of two", SPLIT, loop_of_two, BREAKS },
	{ "loop to self", SPLIT, loop_to_self, BREAKS },
	{ "chain never ends", SPLIT, chain_never_ends, BREAKS },
	{ "chain never ends, packed", PACKED, chain_never_ends, BREAKS },
	{ "next past the table", SPLIT, next_past_table, BREAKS },
	{ "head past the table", SPLIT, head_past_table, BREAKS },
	{ "index jumps", SPLIT, index_jumps, BREAKS },
	{ "no status", SPLIT, no_status, BREAKS },
	{ "no status, packed", PACKED, no_status, BREAKS },
	{ "broken with more", SPLIT, broken_with_more, BREAKS },
	{ "broken with more, packed", PACKED, broken_with_more, BREAKS },
	{ "short header", SPLIT, short_header, BREAKS },
	{ "only writable", PACKED, only_writable, BREAKS },
	{ "empty descriptors", SPLIT, empty_descriptors, BREAKS },
	{ "empty descriptors, packed", PACKED, empty_descriptors, BREAKS },
	{ "indirect not agreed", SPLIT, indirect_not_agreed, BREAKS },
	{ "indirect not agreed, packed", PACKED, indirect_not_agreed, BREAKS },
	{ "ragged table", SPLIT | VIRTIO_F_INDIRECT, table_ragged, BREAKS },
	{ "ragged table, packed", PACKED | VIRTIO_F_INDIRECT, table_ragged, BREAKS },
	{ "empty table", SPLIT | VIRTIO_F_INDIRECT, table_empty, BREAKS },
	{ "table not RAM", SPLIT | VIRTIO_F_INDIRECT, table_not_ram, BREAKS },
	{ "table not RAM, packed", PACKED | VIRTIO_F_INDIRECT, table_not_ram, BREAKS },
	{ "table too long", SPLIT | VIRTIO_F_INDIRECT, table_too_long, BREAKS },
	{ "table with next", SPLIT | VIRTIO_F_INDIRECT, table_with_next, BREAKS },
	{ "table with next, packed", PACKED | VIRTIO_F_INDIRECT, table_with_next, BREAKS },
	{ "table in table", SPLIT | VIRTIO_F_INDIRECT, table_in_table, BREAKS },
	{ "table in table, packed", PACKED | VIRTIO_F_INDIRECT, table_in_table, BREAKS },
	{ "table loops", SPLIT | VIRTIO_F_INDIRECT, table_loops, BREAKS },
	{ "table next past", SPLIT | VIRTIO_F_INDIRECT, table_next_past, BREAKS },
	{ "many segments", SPLIT | VIRTIO_F_INDIRECT, table_many, BREAKS },
	{ "many segments, packed", PACKED | VIRTIO_F_INDIRECT, table_many, BREAKS },
	{ "same head again", SPLIT, same_head, IGNORES },
	{ "data on the ring", SPLIT, data_on_ring, IGNORES },
};

static bool scene_start(struct scene *s, uint64_t features)
{
	s->d->alloc_at = 0x10000;
	if (!testdrv_start(s->d, BASE | features, 1, QUEUE_SIZE)) {
		return false;
	}
	s->q = &s->d->q[0];
	s->header = testdrv_alloc(s->d, 16, 16);
	s->data = testdrv_alloc(s->d, 4096, 16);
	s->status = testdrv_alloc(s->d, 1, 1);
	s->table = testdrv_alloc(s->d, 1100 * VQ_DESC_BYTES, 16);
	memset(testdrv_host(s->d, s->header), 0, 16); /* a read of sector 0 */
	return true;
}

static bool works(struct scene *s)
{
	struct testdrv_seg segs[3] = { { s->header, 16, false },
				       { s->data, 512, true },
				       { s->status, 1, true } };
	uint32_t len;

	if (testdrv_add(s->q, segs, 3) < 0) {
		return false;
	}
	testdrv_kick(s->q);
	return testdrv_wait_used(s->q, &len) >= 0 && len == 513;
}

static bool scene_new(struct scene *s)
{
	struct block_options o = { .no_lock = true };
	struct virtio_blk_options vo = { 0 };
	struct pci_dev *p;
	int fd = memfd_create("disk", MFD_CLOEXEC);

	s->d = testdrv_new();
	if (fd < 0 || ftruncate(fd, MIB(1)) < 0 ||
	    block_open_fd(s->d->t->loop, fd, "disk", &o, NULL, 0, &s->block) < 0) {
		return false;
	}
	vo.block = s->block;
	return virtio_blk_new(s->d->host, -1, &vo, &p) == 0 && testdrv_attach(s->d, p);
}

static void scene_free(struct scene *s)
{
	pci_host_free(s->d->host);
	block_close(s->block);
	testbus_free(s->d->t);
	free(s->d);
}

static void test_chains(struct test *t)
{
	struct scene s;

	CHECK(t, scene_new(&s));
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		bool broken;
		unsigned msis;

		CHECK(t, scene_start(&s, rows[i].features));
		testbus_settle(s.d->t);
		msis = s.d->t->msi_count;
		rows[i].make(&s);
		testdrv_force_kick(s.q);
		testbus_settle(s.d->t);
		broken = testdrv_status(s.d) & VIRTIO_NEEDS_RESET;
		if (rows[i].answer == BREAKS && (!broken || s.d->t->msi_count == msis)) {
			test_fail(t, __FILE__, __LINE__, "%s: %s", rows[i].name,
				  broken ? "no interrupt said so" : "not broken");
			return;
		}
		/* Once broken it does nothing more, whatever is kicked. */
		testdrv_force_kick(s.q);
		testbus_settle(s.d->t);
		if (!scene_start(&s, rows[i].features) || !works(&s)) {
			test_fail(t, __FILE__, __LINE__, "%s: dead after a reset", rows[i].name);
			return;
		}
	}
	scene_free(&s);
}

/* Rings in places where no ring can be. */
static void test_ring_places(struct test *t)
{
	static const struct {
		uint64_t desc, driver, device;
		uint64_t features;
	} places[] = {
		{ RAM_END, 0x1000, 0x2000, SPLIT },        { 0x1000, RAM_END - 8, 0x2000, SPLIT },
		{ 0x1000, 0x2000, UINT64_MAX - 3, SPLIT }, { 0x1008, 0x2000, 0x3000, SPLIT },
		{ 0x1000, 0x2001, 0x3000, SPLIT },         { 0x1000, 0x2000, 0x3002, SPLIT },
		{ TESTDRV_BAR, 0x2000, 0x3000, PACKED },   { 0x1000, 0x2000, TESTDRV_BAR, PACKED },
		{ 0x1000, 0x2002, 0x3000, PACKED },
	};
	struct scene s;

	CHECK(t, scene_new(&s));
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		CHECK(t, testdrv_negotiate(s.d, BASE | places[i].features) & VIRTIO_FEATURES_OK);
		testdrv_common_write(s.d, 0x16, 0, 2);
		for (unsigned half = 0; half < 2; half++) {
			unsigned o = half * 4, shift = half * 32;

			testdrv_common_write(s.d, 0x20 + o, places[i].desc >> shift & UINT32_MAX,
					     4);
			testdrv_common_write(s.d, 0x28 + o, places[i].driver >> shift & UINT32_MAX,
					     4);
			testdrv_common_write(s.d, 0x30 + o, places[i].device >> shift & UINT32_MAX,
					     4);
		}
		testdrv_common_write(s.d, 0x1c, 1, 2);
		testdrv_ok(s.d);
		CHECK(t, testdrv_status(s.d) & VIRTIO_NEEDS_RESET);
		testdrv_common_write(s.d, 0x14, 0, 1);
	}
	CHECK(t, scene_start(&s, SPLIT) && works(&s));
	scene_free(&s);
}

/* Every register, every size, odd values, in every state: nothing but answers. */
static void test_registers(struct test *t)
{
	static const uint64_t values[] = { 0, 1, 0xff, 0x8000, UINT32_MAX, UINT64_MAX };
	struct scene s;

	CHECK(t, scene_new(&s));
	for (unsigned round = 0; round < 3; round++) {
		if (round) {
			CHECK(t, scene_start(&s, round == 1 ? SPLIT : PACKED));
		}
		for (unsigned offset = 0; offset < 0x4000; offset += offset < 0x60 ? 1 : 61) {
			for (unsigned size = 1; size <= 8; size *= 2) {
				for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
					uint64_t at = TESTDRV_BAR + offset;

					testbus_read(s.d->t, DEV_MMIO, at, size);
					testbus_write(s.d->t, DEV_MMIO, at, values[i], size);
				}
			}
		}
		testbus_settle(s.d->t);
	}
	testdrv_common_write(s.d, 0x14, 0, 1);
	CHECK(t, scene_start(&s, SPLIT) && works(&s));
	scene_free(&s);
}

static const struct test_case cases[] = {
	{ "chains", test_chains },
	{ "ring-places", test_ring_places },
	{ "registers", test_registers },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
