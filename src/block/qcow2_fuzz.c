/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hostile images. The input says how a sound image with snapshots and
 * compressed clusters is made, and what is then broken in it: fields of the header, entries of
 * L1, L2, refcount table and blocks, rows of snapshots, bytes anywhere. It is
 * then read, checked, written to and repaired. Nothing may crash, hang, or take
 * memory out of proportion; what repair leaves as sound must be so.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "block/image.h"
#include "block/qcow2.h"
#include "block/qcow2_format.h"
#include "block/testfile.h"

#define DISK_BYTES KIB(96)
#define FILE_MAX   MIB(2) /* what a broken image may make of its file */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *at, *end;
};

static uint8_t take8(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static uint32_t take32(struct input *in)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < 4; i++) {
		v = v << 8 | take8(in);
	}
	return v;
}

/* --- a sound image ---------------------------------------------------------------------------- */

static const uint32_t clusters[] = { 512, 1024, 4096, 16384 };
static const uint32_t widths[] = { 1, 4, 16, 64 };

static bool make(struct testfile *t, struct input *in)
{
	uint8_t shape = take8(in), ops = take8(in) & 31;
	struct qcow2_create_options o = { .size = DISK_BYTES,
					  .version = shape & 1 ? 3 : 2,
					  .cluster_bytes = clusters[shape >> 1 & 3],
					  .refcount_bits = shape & 1 ? widths[shape >> 3 & 3] : 16,
					  .zstd = (shape & 0x21) == 0x21,
					  .extended_l2 = (shape & 0x47) == 0x47 };
	struct qcow2_options open = { .cache_bytes = 4096 };
	struct qcow2 *q;
	char name[2] = "a";

	if (qcow2_create(&t->file, &o, NULL, 0) < 0 ||
	    qcow2_open(&t->file, &open, NULL, 0, &q) < 0) {
		return false;
	}
	while (ops--) {
		static uint8_t buf[16384];
		struct iovec iov = { buf, 512 * (1 + (take8(in) & 15)) };
		uint64_t at = (uint64_t)(take8(in) % 150) * 512;

		memset(buf, ops, sizeof(buf));
		switch (take8(in) & 7) {
		case 0:
			(void)qcow2_write_compressed(q, ALIGN_DOWN(at, o.cluster_bytes), buf,
						     MIN(o.cluster_bytes, DISK_BYTES - at));
			break;
		case 1:
			(void)qcow2_snapshot_create(q, name, NULL, 0);
			name[0]++;
			break;
		case 2:
			(void)qcow2_write_zeroes(q, at, iov.iov_len, true);
			break;
		default:
			(void)qcow2_write(q, at, &iov, 1);
		}
	}
	return qcow2_close(q) == 0;
}

/* --- what is broken ------------------------------------------------------------------------------
 */

static uint64_t at64(struct testfile *t, uint64_t at)
{
	return at + 8 <= t->size ? load_be64(t->data + at) : 0;
}

static void put64(struct testfile *t, uint64_t at, uint64_t v)
{
	if (at + 8 <= t->size) {
		store_be64(t->data + at, v);
	}
}

/* A table of the image, or a place anywhere. */
static uint64_t place(struct testfile *t, struct input *in)
{
	uint64_t l1 = at64(t, QH_L1_OFFSET), rt = at64(t, QH_RT_OFFSET);
	uint64_t index = take8(in);

	switch (take8(in) % 7) {
	case 0:
		return l1 + index % 8 * 8;
	case 1:
		return (at64(t, l1 + index % 4 * 8) & QE_OFFSET) + take8(in) * 8ull;
	case 2:
		return rt + index % 4 * 8;
	case 3:
		return (at64(t, rt) & QE_RT_OFFSET) + index * 8;
	case 4:
		return at64(t, QH_SNAPSHOTS_OFFSET) + index % 96;
	case 5:
		return index % 14 * 8;
	default:
		return t->size ? take32(in) % t->size : 0;
	}
}

/* A value that is likely to be believed: offsets of other things, with flags. */
static uint64_t value(struct testfile *t, struct input *in)
{
	uint64_t v = take32(in);

	switch (take8(in) & 7) {
	case 0:
		return v;
	case 1:
		return v << 32 | take32(in);
	case 2:
		return ALIGN_DOWN(v % (t->size + 1), (uint64_t)512) | QE_COPIED;
	case 3:
		return ALIGN_DOWN(v % (t->size + 1), (uint64_t)512);
	case 4:
		return QE_COMPRESSED | v << 30 | take32(in);
	case 5:
		return at64(t, place(t, in));
	case 6:
		return v << 24;
	default:
		return UINT64_MAX - (v & 0xff);
	}
}

static void break_it(struct testfile *t, struct input *in)
{
	unsigned count = take8(in) & 15;

	while (count-- && in->at < in->end) {
		uint64_t at = place(t, in), v = value(t, in);

		if (take8(in) & 1) {
			put64(t, at, v);
		} else if (at < t->size) {
			t->data[at] = (uint8_t)v;
		}
	}
}

/* --- use
 * ---------------------------------------------------------------------------------------------- */

static void read_all(struct qcow2 *q)
{
	static uint8_t buf[4096];
	struct iovec iov = { buf, sizeof(buf) };
	uint64_t size = MIN(qcow2_size_bytes(q), DISK_BYTES * 2);

	for (uint64_t at = 0; at + sizeof(buf) <= size; at += sizeof(buf)) {
		(void)qcow2_read(q, at, &iov, 1);
	}
	for (unsigned i = 0; i < qcow2_snapshot_count(q) && i < 4; i++) {
		(void)qcow2_snapshot_read(q, i, 0, buf, sizeof(buf));
	}
}

static void look(struct testfile *t)
{
	struct qcow2_options o = { .readonly = true, .cache_bytes = 4096 };
	struct qcow2_check c = { 0 };
	struct qcow2 *q;
	char error[256];

	if (qcow2_open(&t->file, &o, error, sizeof(error), &q) < 0) {
		ASSERT(error[0]);
		return;
	}
	read_all(q);
	(void)qcow2_check(q, 0, &c);
	(void)qcow2_close(q);
}

static void use(struct testfile *t, struct input *in)
{
	struct qcow2_options o = { .cache_bytes = 4096, .allow_bitmaps = true };
	static uint8_t buf[8192];
	struct iovec iov = { buf, sizeof(buf) };
	struct qcow2 *q;

	if (qcow2_open(&t->file, &o, NULL, 0, &q) < 0) {
		return;
	}
	for (unsigned n = take8(in) & 7; n; n--) {
		uint64_t at = (uint64_t)take8(in) * 512;

		switch (take8(in) & 7) {
		case 0:
			(void)qcow2_discard(q, at, DISK_BYTES / 3);
			break;
		case 1:
			(void)qcow2_snapshot_create(q, "new", NULL, 0);
			break;
		case 2:
			(void)qcow2_snapshot_apply(q, 0, NULL, 0);
			break;
		case 3:
			(void)qcow2_snapshot_delete(q, 0, NULL, 0);
			break;
		case 4:
			(void)qcow2_resize(q, at + 512, QCOW2_PREALLOC_OFF, NULL, 0);
			break;
		default:
			(void)qcow2_write(q, at, &iov, 1);
		}
	}
	(void)qcow2_close(q);
}

/* What repair says is sound must be sound when it is opened again. */
static void mend(struct testfile *t)
{
	struct qcow2_options o = { .cache_bytes = 4096, .no_repair = true, .allow_bitmaps = true };
	struct qcow2_check first = { 0 }, second = { 0 };
	struct qcow2 *q;
	bool done;

	if (qcow2_open(&t->file, &o, NULL, 0, &q) < 0) {
		return;
	}
	done = qcow2_check(q, QCOW2_REPAIR_ALL, &first) == 0;
	done = qcow2_close(q) == 0 && done && !first.corruptions;
	if (!done || qcow2_open(&t->file, &o, NULL, 0, &q) < 0) {
		return;
	}
	ASSERT(qcow2_check(q, 0, &second) < 0 || !second.corruptions);
	(void)qcow2_close(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	struct testfile *t;

	if (size && data[0] == 0xff) {
		t = testfile_new_copy(data + 1, size - 1); /* any bytes at all */
	} else {
		t = testfile_new();
		t->keep = true;
		if (!make(t, &in)) {
			testfile_free(t);
			return 0;
		}
		break_it(t, &in);
	}
	t->keep = true;
	t->size_max = FILE_MAX;
	look(t);
	use(t, &in);
	mend(t);
	look(t);
	testfile_free(t);
	return 0;
}
