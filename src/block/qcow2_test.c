/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 in memory: random operations on images of every shape against a
 * model of their content, clean for check at the end; writers side by side; damage
 * and repair; calls that fail, one after the other.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/test.h"
#include "block/image.h"
#include "block/qcow2.h"
#include "block/qcow2_format.h"
#include "block/testfile.h"

#define SNAPS_MAX 4

struct shape {
	const char *name;
	struct qcow2_create_options o;
	bool backing, raw_backing_short;
};

static const struct shape shapes[] = {
	{ "v2", { .version = 2, .cluster_bytes = 4096 }, false, false },
	{ "v2, backing", { .version = 2, .cluster_bytes = 1024 }, true, false },
	{ "v3, 512", { .cluster_bytes = 512 }, false, false },
	{ "v3, 512, backing", { .cluster_bytes = 512 }, true, true },
	{ "v3, 4K", { .cluster_bytes = 4096 }, true, false },
	{ "v3, 64K", { .cluster_bytes = 65536 }, false, false },
	{ "v3, 2M", { .cluster_bytes = 2 << 20 }, false, false },
	{ "1 bit", { .cluster_bytes = 512, .refcount_bits = 1 }, true, false },
	{ "2 bits", { .cluster_bytes = 1024, .refcount_bits = 2 }, false, false },
	{ "4 bits", { .cluster_bytes = 1024, .refcount_bits = 4 }, false, false },
	{ "8 bits", { .cluster_bytes = 512, .refcount_bits = 8 }, false, false },
	{ "32 bits", { .cluster_bytes = 512, .refcount_bits = 32 }, true, false },
	{ "64 bits", { .cluster_bytes = 512, .refcount_bits = 64 }, false, false },
	{ "zstd", { .cluster_bytes = 4096, .zstd = true }, false, false },
	{ "lazy", { .cluster_bytes = 4096, .lazy_refcounts = true }, false, false },
	{ "extended", { .cluster_bytes = 16384, .extended_l2 = true }, false, false },
	{ "extended, backing", { .cluster_bytes = 16384, .extended_l2 = true }, true, true },
};

struct rig {
	struct testfile *file;
	struct qcow2 *q;
	struct image *backing;
	uint8_t *model, *back;
	uint64_t size, back_size;
	uint8_t *snaps[SNAPS_MAX];
	uint64_t snap_sizes[SNAPS_MAX];
	unsigned snap_count;
	uint32_t seed;
	uint32_t cluster;
	uint64_t size_max;
	char error[256];
};

static uint32_t rnd(struct rig *r, uint32_t below)
{
	r->seed = r->seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(r->seed >> 4) * below >> 28);
}

static bool open_backing(struct rig *r, const struct shape *s)
{
	struct image_options o = { .readonly = true };
	struct testfile *f;

	r->back_size = s->raw_backing_short ? r->size / 2 / 512 * 512 : r->size;
	r->back = malloc(r->back_size);
	for (uint64_t i = 0; i < r->back_size; i++) {
		r->back[i] = (uint8_t)(i * 7 / 64 + 1);
	}
	f = testfile_new_copy(r->back, r->back_size);
	memcpy(r->model, r->back, r->back_size);
	return image_open_file(&f->file, "backing", BLOCK_RAW, &o, r->error, sizeof(r->error),
			       &r->backing) == 0;
}

static bool reopen(struct rig *r)
{
	struct qcow2_options o = { .cache_bytes = 4096 };

	if (r->q && qcow2_close(r->q) < 0) {
		return false;
	}
	r->q = NULL;
	r->file->keep = true;
	if (qcow2_open(&r->file->file, &o, r->error, sizeof(r->error), &r->q) < 0) {
		return false;
	}
	qcow2_set_backing(r->q, r->backing);
	return true;
}

static bool rig_new(struct rig *r, const struct shape *s, uint64_t size, uint32_t seed)
{
	struct qcow2_create_options o = s->o;

	*r = (struct rig){
		.seed = seed, .size = size, .size_max = size * 2, .cluster = o.cluster_bytes
	};
	r->model = calloc(1, r->size_max);
	r->file = testfile_new();
	o.size = size;
	if (s->backing) {
		o.backing_name = "backing";
		o.backing_format = "raw";
		if (!open_backing(r, s)) {
			return false;
		}
	}
	return qcow2_create(&r->file->file, &o, r->error, sizeof(r->error)) == 0 && reopen(r);
}

static void rig_free(struct rig *r)
{
	(void)qcow2_close(r->q);
	testfile_free(r->file);
	image_close(r->backing);
	free(r->model);
	free(r->back);
	for (unsigned i = 0; i < r->snap_count; i++) {
		free(r->snaps[i]);
	}
}

static bool same(struct rig *r)
{
	uint8_t *buf = malloc(r->size);
	struct iovec iov = { buf, r->size };
	bool ok = qcow2_size_bytes(r->q) == r->size && qcow2_read(r->q, 0, &iov, 1) == 0 &&
		  memcmp(buf, r->model, r->size) == 0;

	free(buf);
	for (unsigned i = 0; i < r->snap_count && ok; i++) {
		buf = malloc(r->snap_sizes[i]);
		ok = qcow2_snapshot_read(r->q, i, 0, buf, r->snap_sizes[i]) == 0 &&
		     memcmp(buf, r->snaps[i], r->snap_sizes[i]) == 0;
		free(buf);
	}
	return ok;
}

static void print_line(void *opaque, const char *line)
{
	printf("# %s\n", line);
}

static bool is_clean(struct rig *r)
{
	struct qcow2_check c = { .report = print_line };

	return qcow2_check(r->q, 0, &c) == 0 && !c.corruptions && !c.leaks && !c.stale_flags;
}

/* --- random operations ----------------------------------------------------------------------- */

static void some_range(struct rig *r, uint64_t *at, uint64_t *len)
{
	uint32_t sectors = (uint32_t)(r->size / 512), max = MIN(sectors, r->cluster / 512 * 5 + 3);

	*at = (uint64_t)rnd(r, sectors) * 512;
	*len = (uint64_t)(1 + rnd(r, max)) * 512;
	*len = MIN(*len, r->size - *at);
	if (rnd(r, 3) == 0) {
		*at = ALIGN_DOWN(*at, (uint64_t)r->cluster);
		*len = MIN(ALIGN_UP(*len, (uint64_t)r->cluster), r->size - *at);
	}
}

static int do_write(struct rig *r, bool packed)
{
	struct iovec iov[3];
	uint64_t at, len;
	uint8_t fill = (uint8_t)rnd(r, 256), *buf;
	int res;

	some_range(r, &at, &len);
	if (packed) {
		at = ALIGN_DOWN(at, (uint64_t)r->cluster);
		len = MIN(r->cluster, r->size - at);
	}
	buf = r->model + at;
	for (uint64_t i = 0; i < len; i++) {
		buf[i] = (uint8_t)(fill + (i / 512 & 15) * (rnd(r, 8) == 0));
	}
	if (packed) {
		return qcow2_write_compressed(r->q, at, buf, len);
	}
	iov[0] = (struct iovec){ buf, len / 3 };
	iov[1] = (struct iovec){ buf + len / 3, len / 3 };
	iov[2] = (struct iovec){ buf + len / 3 * 2, len - len / 3 * 2 };
	res = qcow2_write(r->q, at, iov, 3);
	return res;
}

static int do_zero(struct rig *r)
{
	uint64_t at, len;

	some_range(r, &at, &len);
	memset(r->model + at, 0, len);
	return qcow2_write_zeroes(r->q, at, len, rnd(r, 2));
}

/* Only what is whole clusters reads as zeroes; version 2 keeps what has a backing image. */
static int do_discard(struct rig *r)
{
	uint64_t at, len, first, end;
	struct qcow2_info info;
	int res;

	some_range(r, &at, &len);
	qcow2_get_info(r->q, &info);
	first = ALIGN_UP(at, (uint64_t)r->cluster);
	end = at + len == r->size ? r->size : ALIGN_DOWN(at + len, (uint64_t)r->cluster);
	res = qcow2_discard(r->q, at, len);
	if (first < end && !(info.version == 2 && r->backing)) {
		memset(r->model + first, 0, end - first);
	}
	return res;
}

static int do_snapshot(struct rig *r)
{
	char name[24];
	int res;

	if (r->snap_count == SNAPS_MAX) {
		return 0;
	}
	snprintf(name, sizeof(name), "snap%u", r->seed);
	res = qcow2_snapshot_create(r->q, name, r->error, sizeof(r->error));
	if (!res) {
		r->snaps[r->snap_count] = malloc(r->size);
		memcpy(r->snaps[r->snap_count], r->model, r->size);
		r->snap_sizes[r->snap_count++] = r->size;
	}
	return res == -EOVERFLOW ? 0 : res;
}

static int do_apply(struct rig *r)
{
	unsigned i;
	int res;

	if (!r->snap_count) {
		return 0;
	}
	i = rnd(r, r->snap_count);
	res = qcow2_snapshot_apply(r->q, i, r->error, sizeof(r->error));
	if (!res) {
		r->size = r->snap_sizes[i];
		memcpy(r->model, r->snaps[i], r->size);
	}
	return res == -EOVERFLOW ? 0 : res;
}

static int do_delete(struct rig *r)
{
	unsigned i;
	int res;

	if (!r->snap_count) {
		return 0;
	}
	i = rnd(r, r->snap_count);
	res = qcow2_snapshot_delete(r->q, i, r->error, sizeof(r->error));
	if (!res) {
		free(r->snaps[i]);
		r->snap_count--;
		memmove(r->snaps + i, r->snaps + i + 1, (r->snap_count - i) * sizeof(*r->snaps));
		memmove(r->snap_sizes + i, r->snap_sizes + i + 1,
			(r->snap_count - i) * sizeof(*r->snap_sizes));
	}
	return res;
}

static int do_resize(struct rig *r)
{
	uint64_t size = 4096 + (uint64_t)rnd(r, (uint32_t)(r->size_max / 512) - 8) * 512;
	int res = qcow2_resize(r->q, size,
			       rnd(r, 4) == 0 ? QCOW2_PREALLOC_METADATA : QCOW2_PREALLOC_OFF,
			       r->error, sizeof(r->error));

	if (res == -ENOTSUP) {
		return 0;
	}
	if (!res) {
		if (size > r->size) {
			memset(r->model + r->size, 0, size - r->size);
		}
		r->size = size;
	}
	return res;
}

static int do_one(struct rig *r)
{
	switch (rnd(r, 40)) {
	case 0:
	case 1:
		return do_snapshot(r);
	case 2:
		return do_apply(r);
	case 3:
	case 4:
		return do_delete(r);
	case 5:
		return do_resize(r);
	case 6:
	case 7:
	case 8:
		return qcow2_flush(r->q);
	case 9:
	case 10:
	case 11:
	case 12:
	case 13:
		return do_zero(r);
	case 14:
	case 15:
	case 16:
	case 17:
	case 18:
		return do_discard(r);
	case 19:
	case 20:
	case 21:
	case 22:
		return do_write(r, true);
	case 23:
		return reopen(r) ? 0 : -EIO;
	default:
		return do_write(r, false);
	}
}

static bool run_shape(const struct shape *s, uint32_t seed, unsigned ops)
{
	uint64_t size = MIN((uint64_t)s->o.cluster_bytes * 40 + 1536, MIB(9));
	struct rig r;
	bool ok = rig_new(&r, s, size, seed);

	for (unsigned i = 0; i < ops && ok; i++) {
		int res = do_one(&r);

		ok = res == 0;
		if (!ok) {
			printf("# %s, seed %u, step %u: %s (%s)\n", s->name, seed, i,
			       strerror(-res), r.error);
		}
		if (ok && i % 16 == 0 && !(ok = same(&r))) {
			printf("# %s, seed %u, step %u: content differs\n", s->name, seed, i);
		}
	}
	if (ok && !(ok = same(&r) && is_clean(&r) && reopen(&r) && same(&r) && is_clean(&r))) {
		printf("# %s, seed %u: differs or is not clean at the end\n", s->name, seed);
	}
	rig_free(&r);
	return ok;
}

static void test_random(struct test *t)
{
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
		bool large = shapes[i].o.cluster_bytes > 16384;

		for (uint32_t seed = 1; seed <= (large ? 2u : 12u); seed++) {
			CHECK(t, run_shape(&shapes[i], seed, large ? 60 : 400));
		}
	}
}

/* --- side by side -------------------------------------------------------------------------------
 */

#define WRITERS 4

struct writer {
	struct qcow2 *q;
	unsigned index;
	int result;
};

/* Each writes every fourth sector: all share all clusters. Now and then a discard of its own. */
static void *write_own(void *opaque)
{
	struct writer *w = opaque;
	uint8_t buf[512];
	struct iovec iov = { buf, sizeof(buf) };

	memset(buf, (int)w->index + 1, sizeof(buf));
	for (unsigned i = w->index; i < 2048 && !w->result; i += WRITERS) {
		w->result = qcow2_write(w->q, (uint64_t)i * 512, &iov, 1);
		if (!w->result && i % 64 == w->index) {
			w->result = qcow2_flush(w->q);
		}
		if (!w->result) {
			w->result = qcow2_discard(w->q, MIB(1) + (uint64_t)i * 512, 65536);
		}
		if (!w->result) {
			w->result = qcow2_write(w->q, MIB(1) + (uint64_t)i * 512, &iov, 1);
		}
	}
	return NULL;
}

static void test_side_by_side(struct test *t)
{
	static const struct shape s = { "threads", { .cluster_bytes = 4096 }, false, false };
	struct writer w[WRITERS];
	pthread_t threads[WRITERS];
	struct rig r;
	bool right = true, made;
	char error[128];

	CHECK(t, rig_new(&r, &s, MIB(3), 1));
	/* What the first does not make its own is shared with this. */
	made = qcow2_preallocate(r.q, 0, KIB(256), QCOW2_PREALLOC_METADATA) == 0;
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){ r.q, i, 0 };
		pthread_create(&threads[i], NULL, write_own, &w[i]);
	}
	for (unsigned i = 0; i < 3 && made; i++) {
		char name[8];

		snprintf(name, sizeof(name), "s%u", i);
		made = qcow2_snapshot_create(r.q, name, error, sizeof(error)) == 0;
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		right = right && !w[i].result;
	}
	for (unsigned i = 0; i < 2048 && right; i++) {
		uint8_t buf[512];
		struct iovec iov = { buf, sizeof(buf) };

		right = qcow2_read(r.q, (uint64_t)i * 512, &iov, 1) == 0 &&
			buf[0] == i % WRITERS + 1 && buf[511] == i % WRITERS + 1;
	}
	right = right && is_clean(&r);
	rig_free(&r);
	CHECK(t, made);
	CHECK(t, right);
}

/* --- damage
 * ---------------------------------------------------------------------------------------- */

static bool repair_and_check(struct rig *r, bool want_corruptions)
{
	struct qcow2_options o = { .no_repair = true };
	struct qcow2_check c = { 0 };

	(void)qcow2_close(r->q);
	r->q = NULL;
	if (qcow2_open(&r->file->file, &o, r->error, sizeof(r->error), &r->q) < 0 ||
	    qcow2_check(r->q, QCOW2_REPAIR_ALL, &c) < 0) {
		return false;
	}
	return (!want_corruptions || c.fixed_corruptions) && !c.corruptions && is_clean(r) &&
	       same(r);
}

static bool damage_shape(const struct shape *s, void (*damage)(struct rig *r), bool corrupts)
{
	struct rig r;
	bool ok = rig_new(&r, s, (uint64_t)s->o.cluster_bytes * 40, 3);

	for (unsigned i = 0; i < 50 && ok; i++) {
		ok = do_write(&r, false) == 0;
	}
	ok = ok && do_snapshot(&r) == 0 && do_write(&r, false) == 0 && reopen(&r);
	if (ok) {
		damage(&r);
		ok = repair_and_check(&r, corrupts) && do_write(&r, false) == 0 && reopen(&r) &&
		     same(&r) && is_clean(&r);
	}
	if (!ok) {
		printf("# %s: %s\n", s->name, r.error);
	}
	rig_free(&r);
	return ok;
}

static void damage_counts(struct rig *r)
{
	uint64_t rt = load_be64(r->file->data + QH_RT_OFFSET);
	uint64_t block = load_be64(r->file->data + rt);

	memset(r->file->data + block, 0, 8);
	r->file->data[block + 40] ^= 1;
}

static void damage_table(struct rig *r)
{
	uint64_t rt = load_be64(r->file->data + QH_RT_OFFSET);

	memset(r->file->data + rt, 0xff, 8);
}

static void damage_missing(struct rig *r)
{
	uint64_t rt = load_be64(r->file->data + QH_RT_OFFSET);

	memset(r->file->data + rt, 0, 8);
}

static void mark_dirty(struct rig *r)
{
	store_be64(r->file->data + QH_INCOMPATIBLE,
		   load_be64(r->file->data + QH_INCOMPATIBLE) | QI_DIRTY | QI_CORRUPT);
}

static void test_repair(struct test *t)
{
	static const struct shape small[] = {
		{ "v3", { .cluster_bytes = 4096 }, false, false },
		{ "64 bits", { .cluster_bytes = 512, .refcount_bits = 64 }, false, false },
		{ "ext", { .cluster_bytes = 16384, .extended_l2 = true }, false, false },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(small); i++) {
		CHECK(t, damage_shape(&small[i], damage_counts, true));
		CHECK(t, damage_shape(&small[i], damage_table, true));
		CHECK(t, damage_shape(&small[i], damage_missing, true));
		CHECK(t, damage_shape(&small[i], mark_dirty, false));
	}
}

/* --- calls that fail
 * ------------------------------------------------------------------------------- */

/* What is flushed stays, whatever call fails; the image is never worse than leaking. */
static bool fail_once(const struct shape *s, uint64_t at, int error, bool for_good, bool *ret_end)
{
	struct qcow2_options readonly = { .readonly = true };
	uint8_t *flushed = NULL;
	struct qcow2_check c = { 0 };
	struct qcow2 *q = NULL;
	uint64_t flushed_size = 0;
	struct rig r;
	bool ok = rig_new(&r, s, (uint64_t)s->o.cluster_bytes * 16, 5);

	for (unsigned i = 0; i < 20 && ok; i++) {
		ok = do_write(&r, false) == 0;
	}
	ok = ok && qcow2_flush(r.q) == 0;
	flushed_size = r.size;
	flushed = malloc(r.size);
	memcpy(flushed, r.model, r.size);
	r.file->fail_at = r.file->calls + at;
	r.file->fail_error = error;
	r.file->fail_for_good = for_good;
	/* Only what keeps the content: new mappings, snapshots, a larger size. */
	for (unsigned i = 0; i < 12 && ok; i++) {
		struct iovec iov = { flushed, r.size };
		uint64_t n = MIN((uint64_t)s->o.cluster_bytes * (i + 1), r.size);

		iov.iov_len = n;
		(void)qcow2_write(r.q, 0, &iov, 1);
		(void)qcow2_flush(r.q);
		if (i % 4 == 1) {
			(void)qcow2_snapshot_create(r.q, i == 1 ? "a" : "b", NULL, 0);
		}
		if (i == 7) {
			(void)qcow2_snapshot_delete(r.q, 0, NULL, 0);
		}
		if (i == 8 && qcow2_snapshot_count(r.q)) {
			(void)qcow2_snapshot_apply(r.q, 0, NULL, 0);
		}
	}
	*ret_end = r.file->calls < r.file->fail_at;
	(void)qcow2_close(r.q);
	r.q = NULL;
	r.file->fail_at = 0;
	ok = ok && qcow2_open(&r.file->file, &readonly, r.error, sizeof(r.error), &q) == 0;
	if (ok) {
		uint8_t *buf = malloc(flushed_size);
		struct iovec iov = { buf, flushed_size };

		ok = qcow2_check(q, 0, &c) == 0 && !c.corruptions &&
		     qcow2_read(q, 0, &iov, 1) == 0 && memcmp(buf, flushed, flushed_size) == 0;
		free(buf);
		(void)qcow2_close(q);
	}
	if (!ok) {
		printf("# %s: call %llu fails with %s: %llu corruptions %s\n", s->name,
		       (unsigned long long)at, strerror(-error), (unsigned long long)c.corruptions,
		       r.error);
	}
	free(flushed);
	rig_free(&r);
	return ok;
}

static void test_failing_calls(struct test *t)
{
	static const struct shape failing[] = {
		{ "512", { .cluster_bytes = 512, .refcount_bits = 8 }, false, false },
		{ "4K v2", { .version = 2, .cluster_bytes = 4096 }, false, false },
		{ "ext", { .cluster_bytes = 16384, .extended_l2 = true }, false, false },
	};
	unsigned done = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(failing); i++) {
		for (unsigned mode = 0; mode < 4; mode++) {
			bool end = false;

			for (uint64_t at = 1; !end; at++, done++) {
				CHECK(t, fail_once(&failing[i], at, mode & 1 ? -EIO : -ENOSPC,
						   mode & 2, &end));
			}
		}
	}
	printf("# failing calls: %u\n", done);
}

/* --- refusals
 * ---------------------------------------------------------------------------------------- */

static void test_refusals(struct test *t)
{
	static const struct {
		unsigned at, bytes;
		uint64_t value;
		const char *says;
	} rows[] = {
		{ QH_MAGIC, 4, 0, "is no qcow2 image" },
		{ QH_VERSION, 4, 1, "version 1" },
		{ QH_CLUSTER_BITS, 4, 8, "clusters of 2^8" },
		{ QH_CLUSTER_BITS, 4, 22, "clusters of 2^22" },
		{ QH_CRYPT, 4, 1, "AES" },
		{ QH_CRYPT, 4, 2, "LUKS" },
		{ QH_L1_SIZE, 4, 0, "L1 table is too small" },
		{ QH_L1_SIZE, 4, 0x7fffffff, "too large" },
		{ QH_L1_OFFSET, 8, 77, "L1 table is at a bad place" },
		{ QH_L1_OFFSET, 8, 1ull << 50, "behind the file's end" },
		{ QH_RT_OFFSET, 8, 0, "refcount table is at a bad place" },
		{ QH_RT_CLUSTERS, 4, 0, "refcount table of 0" },
		{ QH_RT_CLUSTERS, 4, 1u << 30, "refcount table of" },
		{ QH_SNAPSHOTS, 4, 1u << 20, "snapshots are too many" },
		{ QH_INCOMPATIBLE, 8, 1ull << 40, "incompatible feature 40" },
		{ QH_INCOMPATIBLE, 8, QI_DATA_FILE, "data lie in another file" },
		{ QH_REFCOUNT_ORDER, 4, 7, "reference counts" },
		{ QH_HEADER_LENGTH, 4, 4, "a header of 4 bytes" },
		{ QH_SIZE, 8, UINT64_MAX, "not allowed" },
		{ QH_BACKING_OFFSET, 8, 3, "backing file's name" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct qcow2_create_options o = { .size = MIB(1), .cluster_bytes = 4096 };
		struct qcow2_options open = { 0 };
		struct testfile *f = testfile_new();
		struct qcow2 *q;
		char error[256] = "";
		int r = qcow2_create(&f->file, &o, error, sizeof(error));

		if (rows[i].bytes == 4) {
			store_be32(f->data + rows[i].at, (uint32_t)rows[i].value);
		} else {
			store_be64(f->data + rows[i].at, rows[i].value);
		}
		r = r < 0 ? r : qcow2_open(&f->file, &open, error, sizeof(error), &q);
		testfile_free(f);
		if (r >= 0 || !strstr(error, rows[i].says)) {
			test_fail(t, __FILE__, __LINE__, "row %u: %d: %s", i, r, error);
			return;
		}
	}
}

static const struct test_case cases[] = {
	{ "random operations on every shape", test_random },
	{ "writers side by side", test_side_by_side },
	{ "damage is repaired", test_repair },
	{ "each call fails once", test_failing_calls },
	{ "headers are refused by name", test_refusals },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
