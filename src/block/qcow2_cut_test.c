/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Power cuts. All writes and flushes of random runs are recorded. Then the
 * file is rebuilt as a disk may have it after a cut at any point: all that was
 * flushed, and of what came after any part, in any order between different
 * sectors, writes torn at any sector. Each such file must open, have no corruption
 * (leaks are allowed, and flags that cost a copy), and hold in every
 * sector what was flushed there last or what was written there since. After that
 * it is opened for writing, written to, and must still be sound.
 *
 * The disk that is assumed: sectors of 512 bytes are written whole; two writes
 * to one sector come in their order; a flush makes all before it stable.
 *
 *	qcow2_cut_test [CUTS [SEED]]	how many cut points, 200000 by default
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "block/image.h"
#include "block/qcow2.h"
#include "block/testfile.h"

#define SECTOR      TESTFILE_SECTOR
#define DISK_MAX    KIB(96)
#define SECTORS_MAX (DISK_MAX / SECTOR)
#define OPS         26
#define SNAPS_MAX   2
#define VERSIONS    64 /* of a sector since a flush */
#define PENDING_MAX 512

struct shape {
	const char *name;
	struct qcow2_create_options o;
	uint64_t size;
	bool backing;
};

static const struct shape shapes[] = {
	{ "512", { .cluster_bytes = 512 }, KIB(24), false },
	{ "512, 1 bit", { .cluster_bytes = 512, .refcount_bits = 1 }, KIB(24), false },
	{ "512, 64 bits", { .cluster_bytes = 512, .refcount_bits = 64 }, KIB(24), false },
	{ "512, backing", { .cluster_bytes = 512 }, KIB(24), true },
	{ "2K", { .cluster_bytes = 2048 }, KIB(48), true },
	{ "4K v2", { .cluster_bytes = 4096, .version = 2 }, KIB(48), false },
	{ "1K v2, backing", { .cluster_bytes = 1024, .version = 2 }, KIB(24), true },
	{ "4K zstd", { .cluster_bytes = 4096, .zstd = true }, KIB(48), false },
	{ "16K extended", { .cluster_bytes = 16384, .extended_l2 = true }, KIB(64), true },
};

/* A sector's content is told by one number: which write it was. 0: zeroes. */
struct sector {
	uint32_t flushed; /* what must be there, or one of `since` */
	uint32_t since[VERSIONS];
	unsigned count;
};

/* What a guest may expect of the disk at a point of the record. */
struct expectation {
	struct sector sectors[SECTORS_MAX];
	uint64_t sizes[8]; /* the size may be any of these */
	unsigned size_count;
	bool unknown; /* a snapshot is being applied: any of old and new, see applied */
	uint32_t applied[SECTORS_MAX];
};

struct snap {
	char name[16];
	uint32_t content[SECTORS_MAX];
	uint64_t size;
};

struct run {
	const struct shape *shape;
	struct testfile *file;
	struct qcow2 *q;
	struct image *backing;
	struct expectation now;
	uint32_t content[SECTORS_MAX]; /* the model */
	uint64_t size;
	struct snap snaps[SNAPS_MAX]; /* stable ones */
	unsigned snap_count;
	int changing; /* index of a snapshot on its way out; -1: none */
	uint32_t seed, next_write;
	struct testfile *stable; /* what the disk has for sure */
	const char *op;
};

static struct {
	uint64_t survived, lost, wanted;
} total;

static uint32_t rnd(uint32_t *seed, uint32_t below)
{
	*seed = *seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(*seed >> 4) * below >> 28);
}

/* --- contents ------------------------------------------------------------------------------- */

static void fill(uint8_t *sector, uint32_t number)
{
	for (unsigned i = 0; i < SECTOR; i += 4) {
		store_le32(sector + i, number);
	}
}

/* Which write a sector holds; UINT32_MAX: a mixture, which none may be. */
static uint32_t number_of(const uint8_t *sector)
{
	uint32_t n = load_le32(sector);

	for (unsigned i = 4; i < SECTOR; i += 4) {
		if (load_le32(sector + i) != n) {
			return UINT32_MAX;
		}
	}
	return n;
}

static void expect_write(struct run *r, unsigned s, uint32_t number)
{
	struct sector *e = &r->now.sectors[s];

	ASSERT(e->count < VERSIONS);
	e->since[e->count++] = number;
	r->content[s] = number;
}

static void expect_flushed(struct run *r)
{
	for (unsigned s = 0; s < SECTORS_MAX; s++) {
		r->now.sectors[s].flushed = r->content[s];
		r->now.sectors[s].count = 0;
	}
	r->now.sizes[0] = r->size;
	r->now.size_count = 1;
}

static bool sector_ok(const struct sector *e, uint32_t number)
{
	bool ok = number == e->flushed;

	for (unsigned i = 0; i < e->count && !ok; i++) {
		ok = number == e->since[i];
	}
	return ok;
}

/* --- one cut ---------------------------------------------------------------------------------- */

static void complain(const struct run *r, const char *what, uint64_t a, uint64_t b)
{
	if (total.lost < 20) {
		printf("# %s, seed %u, in %s: %s (%" PRIu64 ", %" PRIu64 ")\n", r->shape->name,
		       r->seed, r->op, what, a, b);
	}
}

static bool content_ok(const struct run *r, struct qcow2 *q)
{
	uint64_t size = qcow2_size_bytes(q);
	static uint8_t buf[DISK_MAX];
	struct iovec iov = { buf, size };
	bool size_ok = false;

	for (unsigned i = 0; i < r->now.size_count; i++) {
		size_ok = size_ok || size == r->now.sizes[i];
	}
	if (!size_ok || qcow2_read(q, 0, &iov, 1) < 0) {
		complain(r, "wrong size or not readable", size, r->size);
		return false;
	}
	for (unsigned s = 0; s < size / SECTOR; s++) {
		uint32_t number = number_of(buf + s * SECTOR);

		if (!sector_ok(&r->now.sectors[s], number)) {
			complain(r, "a sector is lost", s, number);
			return false;
		}
	}
	return true;
}

static bool snapshots_ok(const struct run *r, struct qcow2 *q)
{
	static uint8_t buf[DISK_MAX];

	for (unsigned i = 0; i < r->snap_count; i++) {
		const struct snap *s = &r->snaps[i];
		unsigned at;

		if (qcow2_snapshot_find(q, s->name, &at) < 0) {
			if ((int)i == r->changing) {
				continue;
			}
			complain(r, "a snapshot is lost", i, 0);
			return false;
		}
		if (qcow2_snapshot_read(q, at, 0, buf, s->size) < 0) {
			complain(r, "a snapshot cannot be read", i, 0);
			return false;
		}
		for (unsigned n = 0; n < s->size / SECTOR; n++) {
			if (number_of(buf + n * SECTOR) != s->content[n]) {
				complain(r, "a snapshot's sector is lost", i, n);
				return false;
			}
		}
	}
	return true;
}

static bool sound(const struct run *r, struct qcow2 *q, const char *when)
{
	struct qcow2_check c = { 0 };
	int err = qcow2_check(q, 0, &c);

	if (err < 0 || c.corruptions) {
		complain(r, when, c.corruptions, (uint64_t)-err);
	}
	return !err && !c.corruptions;
}

/* The guest goes on after the cut: overwrite a part, flush, look again. */
static bool goes_on(const struct run *r, struct testfile *t)
{
	struct qcow2_options o = { .cache_bytes = 4096 };
	uint8_t buf[SECTOR * 3];
	struct iovec iov = { buf, sizeof(buf) };
	struct qcow2 *q;
	char error[128];
	bool ok;

	t->keep = true;
	if (qcow2_open(&t->file, &o, error, sizeof(error), &q) < 0) {
		complain(r, error, 0, 0);
		return false;
	}
	qcow2_set_backing(q, r->backing);
	memset(buf, 0x5a, sizeof(buf));
	ok = qcow2_write(q, 0, &iov, 1) == 0 && qcow2_write(q, SECTOR * 9, &iov, 1) == 0 &&
	     qcow2_flush(q) == 0 && sound(r, q, "corrupt after going on") && snapshots_ok(r, q);
	return qcow2_close(q) == 0 && ok;
}

static void try_cut(const struct run *r, struct testfile *t, bool write_too)
{
	struct qcow2_options o = { .readonly = true, .cache_bytes = 4096 };
	struct qcow2 *q;
	char error[128];
	bool ok;

	t->keep = true;
	if (qcow2_open(&t->file, &o, error, sizeof(error), &q) < 0) {
		complain(r, error, 0, 0);
		total.lost++;
		return;
	}
	qcow2_set_backing(q, r->backing);
	ok = sound(r, q, "corrupt") && content_ok(r, q) && snapshots_ok(r, q);
	(void)qcow2_close(q);
	if (ok && write_too) {
		ok = goes_on(r, t);
	}
	total.survived += ok;
	total.lost += !ok;
}

/* --- all cuts of a stretch between two flushes
 * ---------------------------------------------------- */

static struct testfile *copy_of(const struct testfile *t)
{
	return testfile_new_copy(t->data, t->size);
}

/* Each prefix; the last write torn at a sector. */
static void cut_prefixes(const struct run *r, const struct testfile_event *e, size_t count)
{
	struct testfile *disk = copy_of(r->stable);

	for (size_t i = 0; i <= count; i++) {
		struct testfile *t = copy_of(disk);

		try_cut(r, t, true);
		testfile_free(t);
		if (i == count) {
			break;
		}
		if (e[i].len > SECTOR) {
			uint32_t seed = r->seed + (uint32_t)i;
			uint64_t torn = (1 + rnd(&seed, (uint32_t)(e[i].len / SECTOR))) * SECTOR;

			t = copy_of(disk);
			testfile_apply(t, &e[i], 0, torn);
			try_cut(r, t, false);
			testfile_free(t);
			t = copy_of(disk);
			testfile_apply(t, &e[i], torn, UINT64_MAX);
			try_cut(r, t, false);
			testfile_free(t);
		}
		testfile_apply(disk, &e[i], 0, UINT64_MAX);
	}
	testfile_free(disk);
}

/* Some sectors got all writes, some none, some up to a point: in the order of each sector. */
static void cut_reordered(struct run *r, const struct testfile_event *e, size_t count,
			  unsigned tries)
{
	static uint16_t until[4096]; /* a sector has the writes before this one */

	for (unsigned n = 0; n < tries; n++) {
		struct testfile *t = copy_of(r->stable);
		unsigned some = rnd(&r->seed, 3);

		for (unsigned s = 0; s < ARRAY_SIZE(until); s++) {
			until[s] = (uint16_t)(some == 0   ? rnd(&r->seed, (uint32_t)count + 1)
					      : some == 1 ? (rnd(&r->seed, 8) ? count : 0)
							  : (rnd(&r->seed, 8) ? 0 : count));
		}
		for (size_t i = 0; i < count; i++) {
			if (e[i].op == TESTFILE_TRUNCATE) {
				testfile_apply(t, &e[i], 0, 0);
			}
			for (uint64_t at = 0; at < e[i].len && e[i].op != TESTFILE_TRUNCATE;) {
				uint64_t sector = (e[i].offset + at) / SECTOR;
				uint64_t n_bytes = SECTOR - (e[i].offset + at) % SECTOR;

				if (i < until[sector % ARRAY_SIZE(until)]) {
					testfile_apply(t, &e[i], at, at + n_bytes);
				}
				at += n_bytes;
			}
		}
		try_cut(r, t, n % 4 == 0);
		testfile_free(t);
	}
}

/* What was recorded since the last call: cut it everywhere, and take what was flushed as stable. */
static void cut_everywhere(struct run *r)
{
	struct testfile_event *e = r->file->events;
	size_t count = r->file->event_count, start = 0;

	for (size_t i = 0; i <= count; i++) {
		if (i < count && e[i].op != TESTFILE_FLUSH) {
			continue;
		}
		cut_prefixes(r, e + start, i - start);
		if (i - start > 1) {
			cut_reordered(r, e + start, i - start, 12);
		}
		if (i == count) {
			break;
		}
		for (size_t n = start; n < i; n++) {
			testfile_apply(r->stable, &e[n], 0, UINT64_MAX);
		}
		start = i + 1;
	}
	/* What is not flushed yet stays, to be cut with what comes. */
	for (size_t i = 0; i < start; i++) {
		free(e[i].data);
	}
	memmove(e, e + start, (count - start) * sizeof(*e));
	r->file->event_count = count - start;
}

/* --- the run
 * --------------------------------------------------------------------------------------- */

static void range(struct run *r, unsigned *first, unsigned *count)
{
	unsigned all = (unsigned)(r->size / SECTOR);
	unsigned max = MIN(all, r->shape->o.cluster_bytes / SECTOR * 3 + 2);

	*first = rnd(&r->seed, all);
	*count = 1 + rnd(&r->seed, max);
	*count = MIN(*count, all - *first);
}

static int op_write(struct run *r, bool packed)
{
	static uint8_t buf[DISK_MAX];
	struct iovec iov = { buf, 0 };
	unsigned first, count;

	range(r, &first, &count);
	if (packed) {
		unsigned per = r->shape->o.cluster_bytes / SECTOR;

		first = first / per * per;
		count = MIN(per, (unsigned)(r->size / SECTOR) - first);
	}
	r->next_write++;
	for (unsigned i = 0; i < count; i++) {
		fill(buf + i * SECTOR, r->next_write);
		expect_write(r, first + i, r->next_write);
	}
	iov.iov_len = (size_t)count * SECTOR;
	r->op = packed ? "a compressed write" : "a write";
	return packed ? qcow2_write_compressed(r->q, first * SECTOR, buf, iov.iov_len)
		      : qcow2_write(r->q, first * SECTOR, &iov, 1);
}

static int op_zero(struct run *r)
{
	unsigned first, count;

	range(r, &first, &count);
	for (unsigned i = 0; i < count; i++) {
		expect_write(r, first + i, 0);
	}
	r->op = "zeroes";
	return qcow2_write_zeroes(r->q, first * SECTOR, (uint64_t)count * SECTOR, rnd(&r->seed, 2));
}

static int op_discard(struct run *r)
{
	unsigned per = r->shape->o.cluster_bytes / SECTOR, first, count;

	range(r, &first, &count);
	r->op = "a discard";
	first = first / per * per;
	count = MIN((count + per - 1) / per * per, (unsigned)(r->size / SECTOR) - first);
	for (unsigned i = 0; i < count && !(r->shape->o.version == 2 && r->backing); i++) {
		expect_write(r, first + i, 0);
	}
	return qcow2_discard(r->q, first * SECTOR, (uint64_t)count * SECTOR);
}

static int op_flush(struct run *r)
{
	int err;

	r->op = "a flush";
	err = qcow2_flush(r->q);
	cut_everywhere(r);
	expect_flushed(r);
	return err;
}

static int op_snapshot(struct run *r)
{
	struct snap *s = &r->snaps[r->snap_count];
	int err;

	if (r->snap_count == SNAPS_MAX) {
		return 0;
	}
	snprintf(s->name, sizeof(s->name), "s%u", ++r->next_write);
	r->op = "a snapshot";
	err = qcow2_snapshot_create(r->q, s->name, NULL, 0);
	cut_everywhere(r);
	expect_flushed(r);
	if (err == -EOVERFLOW) {
		return 0;
	}
	memcpy(s->content, r->content, sizeof(s->content));
	s->size = r->size;
	r->snap_count += !err;
	return err;
}

static int op_delete(struct run *r)
{
	unsigned i, at;
	int err;

	if (!r->snap_count) {
		return 0;
	}
	i = rnd(&r->seed, r->snap_count);
	err = qcow2_snapshot_find(r->q, r->snaps[i].name, &at);
	r->changing = (int)i;
	r->op = "a snapshot's end";
	err = err < 0 ? err : qcow2_snapshot_delete(r->q, at, NULL, 0);
	cut_everywhere(r);
	expect_flushed(r);
	r->changing = -1;
	r->snap_count--;
	memmove(r->snaps + i, r->snaps + i + 1, (r->snap_count - i) * sizeof(*r->snaps));
	return err;
}

static int op_apply(struct run *r)
{
	const struct snap *s;
	unsigned at;
	int err;

	if (!r->snap_count) {
		return 0;
	}
	s = &r->snaps[rnd(&r->seed, r->snap_count)];
	r->op = "a snapshot's return";
	/* First what was before is made stable, then it is one or the other. */
	err = op_flush(r);
	for (unsigned n = 0; n < SECTORS_MAX; n++) {
		expect_write(r, n, n < s->size / SECTOR ? s->content[n] : 0);
	}
	r->now.sizes[r->now.size_count++] = s->size;
	r->size = s->size;
	err = err < 0 ? err : qcow2_snapshot_find(r->q, s->name, &at);
	r->op = "a snapshot's return";
	err = err < 0 ? err : qcow2_snapshot_apply(r->q, at, NULL, 0);
	cut_everywhere(r);
	expect_flushed(r);
	return err == -EOVERFLOW ? -ECANCELED : err;
}

static int op_resize(struct run *r)
{
	unsigned sectors = 16 + rnd(&r->seed, (unsigned)(r->shape->size * 5 / 4 / SECTOR) - 16);
	uint64_t size = (uint64_t)sectors * SECTOR, old;
	int err = op_flush(r);

	old = r->size;
	r->op = size < r->size ? "a shrink" : "a growth";
	if (err < 0 || (r->shape->o.version == 2 && (r->snap_count || r->backing))) {
		return err;
	}
	r->now.sizes[r->now.size_count++] = size;
	for (uint64_t n = MIN(size, old) / SECTOR; n < SECTORS_MAX; n++) {
		expect_write(r, (unsigned)n, 0);
	}
	r->size = size;
	err = qcow2_resize(r->q, size, QCOW2_PREALLOC_OFF, NULL, 0);
	cut_everywhere(r);
	return err < 0 ? err : op_flush(r);
}

/*
 * What the image has goes into the one behind it, is stable there, and only then
 * is given up here. Snapshots would see the change, so there must be none.
 */
static int op_commit(struct run *r)
{
	static uint8_t buf[DISK_MAX];
	struct iovec iov = { buf, r->size };
	int err;

	if (!r->backing || r->snap_count) {
		return 0;
	}
	err = op_flush(r);
	err = err < 0 ? err : qcow2_read(r->q, 0, &iov, 1);
	if (!err && image_size_bytes(r->backing) < r->size) {
		err = image_resize(r->backing, r->size, QCOW2_PREALLOC_OFF, NULL, 0);
	}
	err = err < 0 ? err : image_write(r->backing, 0, buf, r->size);
	r->op = "a commit";
	err = err < 0 ? err : qcow2_unallocate(r->q, 0, r->size);
	return err < 0 ? err : op_flush(r);
}

static int one_op(struct run *r)
{
	switch (rnd(&r->seed, 32)) {
	case 0:
	case 1:
		return op_snapshot(r);
	case 2:
		return op_delete(r);
	case 3:
		return op_apply(r);
	case 4:
		return op_resize(r);
	case 5:
		return op_commit(r);
	case 6:
	case 7:
	case 8:
	case 9:
		return op_flush(r);
	case 10:
	case 11:
	case 12:
		return op_zero(r);
	case 13:
	case 14:
	case 15:
		return op_discard(r);
	case 16:
	case 17:
	case 18:
		return op_write(r, true);
	default:
		return op_write(r, false);
	}
}

static bool start(struct run *r)
{
	struct qcow2_create_options o = r->shape->o;
	struct qcow2_options open = { .cache_bytes = 4096 };
	struct image_options back = { .readonly = false };
	char error[128];

	r->file = testfile_new();
	o.size = r->size = r->shape->size;
	if (r->shape->backing) {
		struct testfile *f = testfile_new_copy(NULL, 0);

		/* A cut-off chain end: the backing image is smaller than the disk. */
		testfile_free(f);
		f = testfile_new();
		for (unsigned s = 0; s < r->size / 2 / SECTOR; s++) {
			uint8_t sector[SECTOR];

			fill(sector, 1000000 + s);
			(void)file_write(&f->file, sector, SECTOR, (uint64_t)s * SECTOR);
			r->content[s] = 1000000 + s;
		}
		o.backing_name = "b";
		o.backing_format = "raw";
		if (image_open_file(&f->file, "b", BLOCK_RAW, &back, error, sizeof(error),
				    &r->backing) < 0) {
			return false;
		}
	}
	if (qcow2_create(&r->file->file, &o, error, sizeof(error)) < 0 ||
	    qcow2_open(&r->file->file, &open, error, sizeof(error), &r->q) < 0) {
		return false;
	}
	qcow2_set_backing(r->q, r->backing);
	expect_flushed(r);
	r->stable = copy_of(r->file);
	r->file->record = true;
	return true;
}

static void cut_run(const struct shape *shape, uint32_t seed)
{
	struct run *r = calloc(1, sizeof(*r));
	int err = 0;

	ASSERT(r);
	r->shape = shape;
	r->seed = seed;
	r->changing = -1;
	if (!start(r)) {
		total.lost++;
		return;
	}
	for (unsigned i = 0; i < OPS && !err; i++) {
		err = one_op(r);
		if (i % 8 == 7 && !err) {
			err = op_flush(r);
		}
	}
	if (err < 0 && err != -ECANCELED) {
		complain(r, strerror(-err), 0, 0);
		total.lost++;
	}
	(void)qcow2_close(r->q);
	testfile_free(r->stable);
	image_close(r->backing);
	free(r);
}

int main(int argc, char **argv)
{
	uint32_t seed = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1;

	total.wanted = argc > 1 ? strtoull(argv[1], NULL, 10) : 200000;
	while (total.survived + total.lost < total.wanted && total.lost < 20) {
		for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
			cut_run(&shapes[i], seed * 100 + i);
		}
		seed++;
	}
	printf("# cut points: %" PRIu64 " survived, %" PRIu64 " lost\n", total.survived,
	       total.lost);
	printf("%sok 1 cut points: %" PRIu64 " survived, %" PRIu64 " lost\n1..1\n",
	       total.lost ? "not " : "", total.survived, total.lost);
	return total.lost != 0;
}
