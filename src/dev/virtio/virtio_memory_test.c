/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The devices that fill and empty memory: the random numbers and the balloon. */
#include <stdlib.h>
#include <sys/stat.h>

#include "base/test.h"
#include "dev/virtio/testdrv.h"
#include "dev/virtio/virtio_devices.h"

#define BASE        VIRTIO_F_VERSION_1
#define F_STATS     BIT64(1)
#define F_REPORTING BIT64(5)
#define PAGE        4096
#define AREA        0x400000u /* whole pages for the balloon, apart from rings and buffers */

static struct testdrv_seg segment(struct testdrv *d, uint32_t len, bool write)
{
	return (struct testdrv_seg){ testdrv_alloc(d, len, 16), len, write };
}

static void test_rng(struct test *t)
{
	struct virtio_rng_options o = { .bytes_per_s = 40000 };
	struct testdrv *d = testdrv_new();
	uint64_t got = 0;
	struct pci_dev *p;
	uint32_t len;

	CHECK(t, virtio_rng_new(d->host, -1, &o, &p) == 0 && testdrv_attach(d, p));
	CHECK(t, testdrv_start(d, BASE | VIRTIO_F_EVENT_IDX, 1, 16));
	/* What the bucket holds at once, then nothing until time passes. */
	for (unsigned i = 0; i < 10; i++) {
		struct testdrv_seg s = segment(d, 4096, true);

		memset(testdrv_host(d, s.gpa), 0, 4096);
		CHECK(t, testdrv_add(&d->q[0], &s, 1) >= 0);
	}
	testdrv_kick(&d->q[0]);
	testbus_settle(d->t);
	while (testdrv_used(&d->q[0], &len) >= 0) {
		got += len;
	}
	CHECK_EQ(t, got, 10000); /* a quarter of a second's worth */
	testbus_advance(d->t, 500 * NS_PER_MS);
	while (testdrv_used(&d->q[0], &len) >= 0) {
		got += len;
	}
	CHECK(t, got > 12000 && got <= 30000);
	for (unsigned i = 0; i < 40; i++) {
		testbus_advance(d->t, 100 * NS_PER_MS);
		while (testdrv_used(&d->q[0], &len) >= 0) {
			got += len;
		}
	}
	CHECK_EQ(t, d->q[0].free_count, 16); /* all came back in the end */
	testdrv_free(d);
}

static void test_rng_is_random(struct test *t)
{
	struct testdrv *d = testdrv_new();
	struct testdrv_seg s[2];
	struct pci_dev *p;
	const uint64_t *w;
	uint32_t len;

	CHECK(t, virtio_rng_new(d->host, -1, NULL, &p) == 0 && testdrv_attach(d, p));
	CHECK(t, testdrv_start(d, BASE | VIRTIO_F_PACKED, 1, 16));
	s[0] = segment(d, 32, true);
	s[1] = segment(d, 64, true);
	memset(testdrv_host(d, s[0].gpa), 0, 32);
	CHECK(t, testdrv_add(&d->q[0], s, 2) >= 0);
	testdrv_kick(&d->q[0]);
	CHECK(t, testdrv_wait_used(&d->q[0], &len) >= 0 && len == 96);
	w = testdrv_host(d, s[0].gpa);
	CHECK(t, w[0] && w[1] && w[0] != w[1] && w[1] != w[2]);
	testdrv_free(d);
}

/* --- the balloon
 * ------------------------------------------------------------------------------------- */

static struct testdrv *balloon_new(struct pci_dev **ret)
{
	struct testdrv *d = testdrv_new();

	return virtio_balloon_new(d->host, -1, NULL, ret) == 0 && testdrv_attach(d, *ret) ? d
											  : NULL;
}

static uint64_t used_blocks(struct testdrv *d)
{
	struct stat st;

	return fstat(mem_region_at(d->t->env.mem, 0)->fd, &st) == 0 ? (uint64_t)st.st_blocks : 0;
}

static bool give_pages(struct testdrv *d, unsigned queue, const uint32_t *pfns, unsigned count)
{
	struct testdrv_seg s = segment(d, count * 4, false);
	uint32_t len;

	memcpy(testdrv_host(d, s.gpa), pfns, count * 4);
	if (testdrv_add(&d->q[queue], &s, 1) < 0) {
		return false;
	}
	testdrv_kick(&d->q[queue]);
	return testdrv_wait_used(&d->q[queue], &len) >= 0;
}

static void test_inflate(struct test *t)
{
	static const uint32_t odd[] = { UINT32_MAX, 0xfffff, TESTDRV_RAM_BYTES / PAGE,
					TESTDRV_RAM_BYTES / PAGE - 1 };
	uint32_t pfns[64];
	struct pci_dev *p;
	struct testdrv *d = balloon_new(&p);
	uint64_t before;

	CHECK(t, d && testdrv_start(d, BASE, 2, 16));
	memset(testdrv_host(d, AREA), 0x5a, 65 * PAGE);
	before = used_blocks(d);
	for (unsigned i = 0; i < 64; i++) {
		pfns[i] = AREA / PAGE + (i < 32 ? i : 95 - i); /* up, then down */
	}
	CHECK(t, give_pages(d, 0, pfns, 64));
	CHECK_EQ(t, before - used_blocks(d), 64 * PAGE / 512);
	CHECK_EQ(t, *(uint8_t *)testdrv_host(d, AREA + 5 * PAGE), 0);
	CHECK_EQ(t, *(uint8_t *)testdrv_host(d, AREA + 64 * PAGE), 0x5a);
	CHECK(t, give_pages(d, 1, pfns, 64));
	/* Pages that are not there are nobody's. */
	CHECK(t, give_pages(d, 0, odd, ARRAY_SIZE(odd)));
	CHECK_EQ(t, testdrv_status(d) & VIRTIO_NEEDS_RESET, 0);
	testdrv_free(d);
}

static void test_target(struct test *t)
{
	struct pci_dev *p;
	struct testdrv *d = balloon_new(&p);
	const struct testbus_msi *msi;

	CHECK(t, d && testdrv_start(d, BASE, 2, 16));
	testbus_last_msi(d->t);
	virtio_balloon_set_target(p, MIB(1) + 1);
	CHECK_EQ(t, testdrv_config(d, 0, 4), 256);
	msi = testbus_last_msi(d->t);
	CHECK(t, msi && msi->data == TESTDRV_MSI_DATA); /* the configuration's vector */
	testbus_write(d->t, DEV_MMIO, d->device + 4, 200, 4);
	CHECK_EQ(t, virtio_balloon_actual(p), 200 * PAGE);
	virtio_balloon_set_target(p, UINT64_MAX);
	CHECK_EQ(t, testdrv_config(d, 0, 4), TESTDRV_RAM_BYTES / PAGE);
	testdrv_free(d);
}

/* Free pages that are reported; its queue's number depends on what was agreed. */
static void test_reporting(struct test *t)
{
	for (unsigned stats = 0; stats < 2; stats++) {
		unsigned queue = 2 + stats;
		struct testdrv_seg s[2] = { { AREA, 16 * PAGE, true },
					    { AREA + 20 * PAGE, 4 * PAGE, true } };
		struct pci_dev *p;
		struct testdrv *d = balloon_new(&p);
		uint64_t before;
		uint32_t len;

		CHECK(t, d && testdrv_start(d, BASE | F_REPORTING | (stats ? F_STATS : 0),
					    queue + 1, 16));
		memset(testdrv_host(d, AREA), 0x5a, 24 * PAGE);
		before = used_blocks(d);
		CHECK(t, testdrv_add(&d->q[queue], s, 2) >= 0);
		testdrv_kick(&d->q[queue]);
		CHECK(t, testdrv_wait_used(&d->q[queue], &len) >= 0);
		CHECK_EQ(t, before - used_blocks(d), 20 * PAGE / 512);
		CHECK_EQ(t, *(uint8_t *)testdrv_host(d, AREA + 18 * PAGE), 0x5a);
		testdrv_free(d);
	}
}

static void add_stats(struct testdrv *d, uint64_t free_bytes, uint16_t odd_tag)
{
	struct testdrv_seg s = segment(d, 25, false); /* two and a half */
	uint8_t *raw = testdrv_host(d, s.gpa);

	store_le16(raw, 4);
	store_le64(raw + 2, free_bytes);
	store_le16(raw + 10, odd_tag);
	store_le64(raw + 12, 1);
	testdrv_add(&d->q[2], &s, 1);
	testdrv_kick(&d->q[2]);
	testbus_settle(d->t);
}

static void test_stats(struct test *t)
{
	struct virtio_balloon_stats st;
	struct pci_dev *p;
	struct testdrv *d = balloon_new(&p);
	uint32_t len;

	CHECK(t, d && testdrv_start(d, BASE | F_STATS, 3, 16));
	virtio_balloon_get_stats(p, &st);
	CHECK_EQ(t, st.free_bytes, UINT64_MAX);
	virtio_balloon_ask_stats(p); /* the driver has given no buffer yet */
	testbus_advance(d->t, NS_PER_S);
	add_stats(d, 12345, 60000);
	virtio_balloon_get_stats(p, &st);
	CHECK_EQ(t, st.free_bytes, 12345);
	CHECK_EQ(t, st.total_bytes, UINT64_MAX);
	CHECK_EQ(t, st.updated_ns, loop_now_ns(d->t->loop));
	CHECK(t, testdrv_used(&d->q[2], &len) < 0); /* kept until asked for */
	virtio_balloon_ask_stats(p);
	CHECK(t, testdrv_used(&d->q[2], &len) >= 0);
	add_stats(d, 777, 5);
	virtio_balloon_get_stats(p, &st);
	CHECK(t, st.free_bytes == 777 && st.total_bytes == 1);
	/* A second buffer pushes the first out; a reset forgets. */
	add_stats(d, 1, 5);
	CHECK(t, testdrv_used(&d->q[2], &len) >= 0);
	testdrv_common_write(d, 0x14, 0, 1);
	CHECK_EQ(t, testdrv_status(d), 0);
	virtio_balloon_ask_stats(p);
	virtio_balloon_get_stats(p, &st);
	CHECK_EQ(t, st.free_bytes, UINT64_MAX);
	testdrv_free(d);
}

static const struct test_case cases[] = {
	{ "rng", test_rng },
	{ "rng-is-random", test_rng_is_random },
	{ "inflate", test_inflate },
	{ "target", test_target },
	{ "reporting", test_reporting },
	{ "stats", test_stats },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
