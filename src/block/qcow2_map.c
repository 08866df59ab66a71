/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From guest offsets to clusters: L1, the L2 tables, and what their entries mean. */
#include <stdlib.h>

#include "base/assert.h"
#include "block/qcow2_int.h"

unsigned map_slice_entries(const struct qcow2 *q)
{
	return BIT(q->slice_bits) / q->entry_bytes;
}

struct l2_entry map_load(const struct qcow2 *q, const struct slot *s, unsigned index)
{
	const uint8_t *at = s->data + (size_t)index * q->entry_bytes;

	return (struct l2_entry){ load_be64(at), q_extended(q) ? load_be64(at + 8) : 0 };
}

void map_store_locked(struct qcow2 *q, struct slot *s, unsigned index, struct l2_entry e)
{
	uint8_t *at = s->data + (size_t)index * q->entry_bytes;

	store_be64(at, e.desc);
	if (q_extended(q)) {
		store_be64(at + 8, e.bitmap);
	}
	cache_dirty_locked(q, s);
}

/* An L1 entry's table; 0: there is none. -EIO: damaged. */
static int l1_entry_locked(struct qcow2 *q, uint64_t l1_index, uint64_t *ret_offset)
{
	uint64_t entry = q->l1[l1_index], at = entry & QE_OFFSET;

	if (unlikely((entry & QE_L1_RESERVED) || at & (q->cluster_bytes - 1))) {
		return q_corrupt_locked(q, "bad L1 entry", l1_index);
	}
	*ret_offset = at;
	return 0;
}

int map_slice_locked(struct qcow2 *q, uint64_t offset, bool cached_only, struct slot **ret,
		     unsigned *ret_index)
{
	uint64_t l1_index = offset >> (q->l2_bits + q->cluster_bits);
	uint64_t in_table = q_cluster_of(q, offset) & (BIT64(q->l2_bits) - 1);
	unsigned entries = map_slice_entries(q);
	uint64_t at = 0;
	int r;

	*ret = NULL;
	*ret_index = (unsigned)in_table & (entries - 1);
	if (l1_index >= q->l1_size) {
		return 0;
	}
	r = l1_entry_locked(q, l1_index, &at);
	if (r < 0 || !at) {
		return r;
	}
	at += in_table / entries << q->slice_bits;
	if (cached_only) {
		*ret = cache_peek_locked(q, at);
		return *ret ? 0 : -EAGAIN;
	}
	return cache_get_locked(q, at, SLOT_L2, false, ret);
}

/* --- owning a table ------------------------------------------------------------------------ */

/* Write a copy of the table at `from` to `to`. Its slices are clean: it is a snapshot's too. */
static int copy_table_locked(struct qcow2 *q, uint64_t from, uint64_t to)
{
	uint8_t *table = malloc(q->cluster_bytes);
	size_t step = (size_t)1 << q->slice_bits;
	int r = table ? file_read(q->file, table, q->cluster_bytes, from) : -ENOMEM;

	for (size_t at = 0; at < q->cluster_bytes && !r; at += step) {
		struct slot *s = cache_peek_locked(q, from + at);

		if (s) {
			memcpy(table + at, s->data, step);
		}
	}
	if (!r) {
		r = file_write(q->file, table, q->cluster_bytes, to);
	}
	free(table);
	return r;
}

static void l1_set_locked(struct qcow2 *q, uint64_t index, uint64_t entry)
{
	q->l1[index] = entry;
	q->l1_dirty_first = MIN(q->l1_dirty_first, index);
	q->l1_dirty_end = MAX(q->l1_dirty_end, index + 1);
}

static int fill_new_table_locked(struct qcow2 *q, uint64_t old, uint64_t at, bool fresh)
{
	cache_drop_locked(q, at, q->cluster_bytes);
	if (old) {
		return copy_table_locked(q, old, at);
	}
	return fresh ? 0 : file_zero(q->file, at, q->cluster_bytes, false);
}

int map_own_l2_locked(struct qcow2 *q, uint64_t offset)
{
	uint64_t l1_index = offset >> (q->l2_bits + q->cluster_bits);
	uint64_t old = 0, first, count;
	bool fresh;
	int r;

	ASSERT(l1_index < q->l1_size);
	r = l1_entry_locked(q, l1_index, &old);
	if (!r && old && cluster_is_metadata_locked(q, q_cluster_of(q, old), 1)) {
		r = q_corrupt_locked(q, "an L2 table lies on another table", old);
	}
	if (r < 0 || (old && (q->l1[l1_index] & QE_COPIED))) {
		return r;
	}
	r = clusters_alloc_locked(q, 1, &first, &count, &fresh);
	if (r < 0) {
		return r;
	}
	/* The lock may have been gone: another may have made it. */
	if ((q->l1[l1_index] & QE_OFFSET) != old || (q->l1[l1_index] & QE_COPIED)) {
		clusters_free_now_locked(q, first, 1);
		return 0;
	}
	r = fill_new_table_locked(q, old, first << q->cluster_bits, fresh);
	if (r < 0) {
		clusters_free_now_locked(q, first, 1);
		return r;
	}
	l1_set_locked(q, l1_index, first << q->cluster_bits | QE_COPIED);
	if (old) {
		r = runs_add(&q->unlinked, q_cluster_of(q, old), 1, true);
	}
	return r;
}

/* --- what an entry means -------------------------------------------------------------------- */

static bool bitmap_ok(uint64_t bitmap)
{
	return !((uint32_t)bitmap & (uint32_t)(bitmap >> 32));
}

bool map_entry_ok(const struct qcow2 *q, struct l2_entry e)
{
	uint64_t host = e.desc & QE_OFFSET;

	if (e.desc & QE_COMPRESSED) {
		return !q_has_data_file(q) && !e.bitmap;
	}
	if (host & (q->cluster_bytes - 1) || e.desc & QE_L2_RESERVED) {
		return false;
	}
	if (q_extended(q) && (!bitmap_ok(e.bitmap) || e.desc & QE_ZERO ||
			      (!host && !q_has_data_file(q) && (uint32_t)e.bitmap))) {
		return false;
	}
	return q->version >= 3 || !(e.desc & QE_ZERO);
}

/* In an external data file offset 0 is a cluster like any other, if it is "copied". */
bool map_has_host(const struct qcow2 *q, struct l2_entry e)
{
	return (e.desc & QE_OFFSET) || (q_has_data_file(q) && (e.desc & QE_COPIED));
}

static enum qcow2_kind kind_of(const struct qcow2 *q, struct l2_entry e, unsigned sub)
{
	bool host = map_has_host(q, e);

	if (e.desc & QE_COMPRESSED) {
		return QCOW2_COMPRESSED;
	}
	if (q_extended(q)) {
		if (e.bitmap >> (32 + sub) & 1) {
			return host ? QCOW2_ZERO_ALLOCATED : QCOW2_ZERO;
		}
		return e.bitmap >> sub & 1 ? QCOW2_DATA : QCOW2_UNALLOCATED;
	}
	if (e.desc & QE_ZERO) {
		return host ? QCOW2_ZERO_ALLOCATED : QCOW2_ZERO;
	}
	return host ? QCOW2_DATA : QCOW2_UNALLOCATED;
}

int map_kind_locked(struct qcow2 *q, struct l2_entry e, unsigned sub, enum qcow2_kind *ret)
{
	if (unlikely(!map_entry_ok(q, e))) {
		return q_corrupt_locked(q, "bad L2 entry", e.desc);
	}
	*ret = kind_of(q, e, sub);
	if (*ret == QCOW2_DATA && !q_has_data_file(q) &&
	    cluster_is_metadata_locked(q, q_cluster_of(q, e.desc & QE_OFFSET), 1)) {
		return q_corrupt_locked(q, "data lie on a table", e.desc & QE_OFFSET);
	}
	return 0;
}

/* --- looking up ------------------------------------------------------------------------------- */

/* The extent that starts at `offset`, within its subcluster. */
static int first_extent_locked(struct qcow2 *q, struct l2_entry e, uint64_t offset,
			       struct qcow2_extent *x)
{
	uint64_t in_cluster = offset & (q->cluster_bytes - 1);
	uint64_t sub_bytes = q->cluster_bytes / q->subclusters;
	int r = map_kind_locked(q, e, (unsigned)(in_cluster / sub_bytes), &x->kind);

	if (r < 0) {
		return r;
	}
	x->host = (e.desc & QE_OFFSET) + in_cluster;
	x->entry = e.desc;
	x->writable = x->kind == QCOW2_DATA && (e.desc & QE_COPIED);
	x->len = x->kind == QCOW2_COMPRESSED ? q->cluster_bytes - in_cluster
					     : sub_bytes - in_cluster % sub_bytes;
	return 0;
}

/* Does `next` go on where `x` ends? */
static bool goes_on(const struct qcow2_extent *x, const struct qcow2_extent *next)
{
	if (next->kind != x->kind || next->writable != x->writable) {
		return false;
	}
	switch (x->kind) {
	case QCOW2_DATA:
	case QCOW2_ZERO_ALLOCATED:
		return next->host == x->host + x->len;
	case QCOW2_COMPRESSED:
		return false;
	default:
		return true;
	}
}

int map_lookup_locked(struct qcow2 *q, uint64_t offset, uint64_t len, bool cached_only,
		      struct qcow2_extent *ret)
{
	uint64_t slice_span = (uint64_t)map_slice_entries(q) << q->cluster_bits;
	uint64_t span = MIN(len, slice_span - (offset & (slice_span - 1)));
	struct qcow2_extent next;
	struct slot *s;
	unsigned index;
	int r = map_slice_locked(q, offset, cached_only, &s, &index);

	if (r < 0) {
		return r;
	}
	if (!s) {
		*ret = (struct qcow2_extent){ .kind = QCOW2_UNALLOCATED, .len = span };
		return 0;
	}
	r = first_extent_locked(q, map_load(q, s, index), offset, ret);
	while (!r && ret->len < span) {
		uint64_t at = offset + ret->len;
		unsigned i = index + (unsigned)(q_cluster_of(q, at) - q_cluster_of(q, offset));

		r = first_extent_locked(q, map_load(q, s, i), at, &next);
		if (r < 0 || !goes_on(ret, &next)) {
			break;
		}
		ret->len += next.len;
	}
	ret->len = MIN(ret->len, span);
	return r;
}

int map_unlink_entry_locked(struct qcow2 *q, struct l2_entry e)
{
	if (e.desc & QE_COMPRESSED) {
		return compressed_unlink_locked(q, e.desc);
	}
	if (q_has_data_file(q) || !(e.desc & QE_OFFSET)) {
		return 0;
	}
	return clusters_unlink_locked(q, q_cluster_of(q, e.desc & QE_OFFSET), 1);
}

void entry_clusters(const struct qcow2 *q, struct l2_entry e, uint64_t *ret_first,
		    uint64_t *ret_count)
{
	uint64_t at, len;

	*ret_count = 0;
	if (e.desc & QE_COMPRESSED) {
		compressed_range(q, e.desc, &at, &len);
		*ret_first = q_cluster_of(q, at);
		*ret_count = q_cluster_of(q, at + len - 1) + 1 - *ret_first;
	} else if (e.desc & QE_OFFSET) {
		*ret_first = q_cluster_of(q, e.desc & QE_OFFSET);
		*ret_count = 1;
	}
}
