/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clusters and how many refer to each.
 *
 * A cluster is taken at the first free place. Its count is 1 in the cache at
 * once and on the disk before anything there refers to it. It is given back
 * in steps: see qcow2_commit.c.
 *
 * A new refcount block lies on the first cluster that it counts. When the
 * refcount table is full, a larger one is made behind all that the old one
 * covers, with the blocks that count it, and the header switched to it.
 */
#include <stdlib.h>

#include "block/qcow2_int.h"

#define RT_GROW_MIN 1 /* clusters */

uint64_t refcount_load(const uint8_t *block, unsigned order, uint64_t index)
{
	switch (order) {
	case 0:
	case 1:
	case 2: {
		unsigned per = 8u >> order, width = BIT(order);

		return block[index / per] >> (index % per * width) & (BIT(width) - 1);
	}
	case 3:
		return block[index];
	case 4:
		return load_be16(block + index * 2);
	case 5:
		return load_be32(block + index * 4);
	default:
		return load_be64(block + index * 8);
	}
}

void refcount_store(uint8_t *block, unsigned order, uint64_t index, uint64_t value)
{
	switch (order) {
	case 0:
	case 1:
	case 2: {
		unsigned per = 8u >> order, width = BIT(order), shift = index % per * width;
		unsigned mask = (BIT(width) - 1) << shift;

		block[index / per] =
			(uint8_t)((block[index / per] & ~mask) | (unsigned)value << shift);
		break;
	}
	case 3:
		block[index] = (uint8_t)value;
		break;
	case 4:
		store_be16(block + index * 2, (uint16_t)value);
		break;
	case 5:
		store_be32(block + index * 4, (uint32_t)value);
		break;
	default:
		store_be64(block + index * 8, value);
	}
}

/* Counts in a slice of a refcount block, as a power of 2. */
static unsigned slice_count_bits(const struct qcow2 *q)
{
	return q->slice_bits + 3 - q->refcount_order;
}

/* The slice that counts `cluster`; *ret NULL: it has no block, so the count is 0. */
static int count_slice_locked(struct qcow2 *q, uint64_t cluster, struct slot **ret,
			      uint64_t *ret_index)
{
	uint64_t block = cluster >> q->rb_bits, in_block = cluster & (BIT64(q->rb_bits) - 1);
	uint64_t at;

	*ret = NULL;
	if (block >= q->rt_size || !q->rt[block]) {
		return 0;
	}
	at = q->rt[block] & QE_RT_OFFSET;
	if (q->rt[block] & ~QE_RT_OFFSET || at & (q->cluster_bytes - 1) ||
	    at >= BIT64(QCOW2_HOST_BITS)) {
		return q_corrupt_locked(q, "bad refcount block", block);
	}
	at += in_block >> slice_count_bits(q) << q->slice_bits;
	*ret_index = in_block & (BIT64(slice_count_bits(q)) - 1);
	return cache_get_locked(q, at, SLOT_REFBLOCK, false, ret);
}

int refcount_get_locked(struct qcow2 *q, uint64_t cluster, uint64_t *ret)
{
	struct slot *s;
	uint64_t index;
	int r = count_slice_locked(q, cluster, &s, &index);

	if (!r) {
		*ret = s ? refcount_load(s->data, q->refcount_order, index) : 0;
	}
	return r;
}

/* --- is it something else's? ---------------------------------------------------------------- */

static bool overlaps(const struct qcow2 *q, uint64_t first, uint64_t count, uint64_t offset,
		     uint64_t bytes)
{
	uint64_t start = offset >> q->cluster_bits;
	uint64_t end = (offset + bytes + q->cluster_bytes - 1) >> q->cluster_bits;

	return bytes && first < end && start < first + count;
}

bool cluster_is_metadata_locked(const struct qcow2 *q, uint64_t first, uint64_t count)
{
	return first == 0 || overlaps(q, first, count, q->l1_offset, (uint64_t)q->l1_size * 8) ||
	       overlaps(q, first, count, q->rt_offset,
			(uint64_t)q->rt_clusters << q->cluster_bits) ||
	       (q->snapshot_count &&
		overlaps(q, first, count, q->snapshots_offset, q_snapshots_bytes(q)));
}

/* The clusters are counted as free, and are really no table in use: our last line of defence. */
static int check_free_locked(struct qcow2 *q, uint64_t first, uint64_t count)
{
	bool bad = cluster_is_metadata_locked(q, first, count);

	for (uint64_t i = 0; i < q->l1_size && !bad; i++) {
		bad = (q->l1[i] & QE_OFFSET) &&
		      ((q->l1[i] & QE_OFFSET) >> q->cluster_bits) - first < count;
	}
	for (uint64_t i = 0; i < q->rt_size && !bad; i++) {
		bad = q->rt[i] && (q->rt[i] >> q->cluster_bits) - first < count;
	}
	return bad ? q_corrupt_locked(q, "a table is counted as free", first << q->cluster_bits)
		   : 0;
}

/* --- new blocks and tables ---------------------------------------------------------------------
 */

static void rt_touch(struct qcow2 *q, uint64_t index)
{
	q->rt_dirty_first = MIN(q->rt_dirty_first, index);
	q->rt_dirty_end = MAX(q->rt_dirty_end, index + 1);
}

static int new_block_locked(struct qcow2 *q, uint64_t block)
{
	uint64_t cluster = block << q->rb_bits, at = cluster << q->cluster_bits;
	struct slot *s;
	int r = at >= BIT64(QCOW2_HOST_BITS) ? -EFBIG : check_free_locked(q, cluster, 1);

	if (!r) {
		cache_drop_locked(q, at, q->cluster_bytes);
		r = file_zero(q->file, at, q->cluster_bytes, false);
	}
	if (!r) {
		r = cache_get_locked(q, at, SLOT_REFBLOCK, true, &s);
	}
	if (r < 0) {
		return r;
	}
	refcount_store(s->data, q->refcount_order, 0, 1);
	cache_dirty_locked(q, s);
	q->rt[block] = at;
	rt_touch(q, block);
	q->fresh = MAX(q->fresh, cluster + 1);
	return 0;
}

struct growth {
	uint64_t first; /* cluster: the new blocks, then the new table */
	uint64_t blocks, table_clusters;
};

/* How large a table, and how many blocks, so that they count themselves. */
static int plan_growth(const struct qcow2 *q, struct growth *g)
{
	uint64_t per_cluster = q->cluster_bytes / 8;

	g->first = q->rt_size << q->rb_bits;
	g->table_clusters = q->rt_clusters + MAX(q->rt_clusters / 2, (uint32_t)RT_GROW_MIN);
	g->blocks = 1;
	for (;;) {
		uint64_t all = g->blocks + g->table_clusters;
		uint64_t blocks = (all + BIT64(q->rb_bits) - 1) >> q->rb_bits;
		uint64_t table = (q->rt_size + blocks + per_cluster - 1) / per_cluster;

		if (blocks <= g->blocks && table <= g->table_clusters) {
			break;
		}
		g->blocks = MAX(g->blocks, blocks);
		g->table_clusters = MAX(g->table_clusters, table);
	}
	if (g->table_clusters > QCOW2_RT_BYTES_MAX >> q->cluster_bits) {
		return -EFBIG;
	}
	return g->first + g->blocks + g->table_clusters > BIT64(QCOW2_HOST_BITS) >> q->cluster_bits
		       ? -EFBIG
		       : 0;
}

static int write_blocks(struct qcow2 *q, const struct growth *g)
{
	uint64_t used = g->blocks + g->table_clusters;
	uint8_t *block = malloc(q->cluster_bytes);
	int r = block ? 0 : -ENOMEM;

	for (uint64_t b = 0; b < g->blocks && !r; b++) {
		uint64_t first = b << q->rb_bits;

		memset(block, 0, q->cluster_bytes);
		for (uint64_t i = 0; i < BIT64(q->rb_bits) && first + i < used; i++) {
			refcount_store(block, q->refcount_order, i, 1);
		}
		r = file_write(q->file, block, q->cluster_bytes, (g->first + b) << q->cluster_bits);
	}
	free(block);
	return r;
}

static int write_table(struct qcow2 *q, const uint64_t *rt, uint64_t entries, uint64_t at)
{
	uint8_t *raw = malloc(entries * 8);
	int r;

	if (!raw) {
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < entries; i++) {
		store_be64(raw + i * 8, rt[i]);
	}
	r = file_write(q->file, raw, entries * 8, at);
	free(raw);
	return r;
}

/* The new table is on the disk; make it the one. Returns the error of the switch. */
static int switch_table_locked(struct qcow2 *q, const struct growth *g, uint64_t *rt)
{
	uint64_t old_offset = q->rt_offset;
	uint32_t old_clusters = q->rt_clusters;
	uint64_t *old = q->rt;
	int r;

	q->rt_offset = (g->first + g->blocks) << q->cluster_bits;
	q->rt_clusters = (uint32_t)g->table_clusters;
	r = q_header_write(q);
	if (!r) {
		r = file_flush(q->file);
	}
	if (r < 0) {
		/* Which of both the disk has is not known: nothing may be changed any more. */
		q->rt_offset = old_offset;
		q->rt_clusters = old_clusters;
		q->failed = r;
		free(rt);
		return r;
	}
	q->rt = rt;
	q->rt_size = g->table_clusters * (q->cluster_bytes / 8);
	q->fresh = MAX(q->fresh, g->first + g->blocks + g->table_clusters);
	free(old);
	return clusters_unlink_locked(q, old_offset >> q->cluster_bits, old_clusters);
}

/* May let go. */
static int grow_table_locked(struct qcow2 *q)
{
	uint64_t old_size = q->rt_size, entries;
	struct growth g;
	uint64_t *rt;
	int r;

	/* The new table lists only blocks that are on the disk. */
	while (q->rt_dirty_first < q->rt_dirty_end || q->committing) {
		r = q_commit_locked(q);
		if (r < 0 || q->rt_size != old_size) {
			return r;
		}
	}
	r = plan_growth(q, &g);
	if (!r) {
		r = check_free_locked(q, g.first, g.blocks + g.table_clusters);
	}
	if (r < 0) {
		return r;
	}
	entries = g.table_clusters * (q->cluster_bytes / 8);
	rt = calloc(entries, sizeof(*rt));
	if (!rt) {
		return -ENOMEM;
	}
	memcpy(rt, q->rt, q->rt_size * sizeof(*rt));
	for (uint64_t b = 0; b < g.blocks; b++) {
		rt[q->rt_size + b] = (g.first + b) << q->cluster_bits;
	}
	cache_drop_locked(q, g.first << q->cluster_bits, g.blocks << q->cluster_bits);
	r = write_blocks(q, &g);
	if (!r) {
		r = write_table(q, rt, entries, (g.first + g.blocks) << q->cluster_bits);
	}
	if (!r) {
		r = file_flush(q->file);
	}
	if (r < 0) {
		free(rt);
		return r;
	}
	return switch_table_locked(q, &g, rt);
}

/* --- counting --------------------------------------------------------------------------------- */

static int add_one_locked(struct qcow2 *q, uint64_t cluster, int delta)
{
	struct slot *s;
	uint64_t index, value;
	int r = count_slice_locked(q, cluster, &s, &index);

	while (!r && !s && delta > 0) {
		uint64_t block = cluster >> q->rb_bits;

		r = block < q->rt_size ? new_block_locked(q, block) : grow_table_locked(q);
		if (!r) {
			r = count_slice_locked(q, cluster, &s, &index);
		}
	}
	if (r < 0) {
		return r;
	}
	value = s ? refcount_load(s->data, q->refcount_order, index) : 0;
	if (delta < 0 && !value) {
		return q_corrupt_locked(q, "a cluster in use is counted as free",
					cluster << q->cluster_bits);
	}
	if (delta > 0 && value == q->refcount_max) {
		return -EOVERFLOW;
	}
	value = delta > 0 ? value + 1 : value - 1;
	refcount_store(s->data, q->refcount_order, index, value);
	cache_dirty_locked(q, s);
	if (!value) {
		q->free_hint = MIN(q->free_hint, cluster);
	}
	return 0;
}

int refcount_add_locked(struct qcow2 *q, uint64_t first, uint64_t count, int delta)
{
	for (uint64_t i = 0; i < count; i++) {
		int r = add_one_locked(q, first + i, delta);

		if (r < 0) {
			/* As it was, as far as that is possible. */
			while (delta > 0 && i--) {
				(void)add_one_locked(q, first + i, -delta);
			}
			return r;
		}
	}
	return 0;
}

/* --- taking ------------------------------------------------------------------------------------
 */

/* The run of free counts in the slice from `index` on; false: there is none. */
static bool find_in_slice(const struct qcow2 *q, const struct slot *s, uint64_t index,
			  uint64_t want, uint64_t *ret_index, uint64_t *ret_count)
{
	uint64_t end = BIT64(slice_count_bits(q)), n = 0;

	while (index < end && refcount_load(s->data, q->refcount_order, index)) {
		index++;
	}
	while (n < want && index + n < end &&
	       !refcount_load(s->data, q->refcount_order, index + n)) {
		n++;
	}
	*ret_index = index;
	*ret_count = n;
	return n > 0;
}

/* Find a run at or behind `from`, within one slice. May let go. */
static int find_run_locked(struct qcow2 *q, uint64_t from, uint64_t want, uint64_t *ret_first,
			   uint64_t *ret_count)
{
	uint64_t at = from, index, found;
	struct slot *s;

	for (;;) {
		uint64_t base;
		int r;

		if (at >> q->rb_bits >= q->rt_size) {
			r = grow_table_locked(q);
			at = MIN(at, MAX(q->free_hint, from));
		} else if (!q->rt[at >> q->rb_bits]) {
			r = new_block_locked(q, at >> q->rb_bits);
		} else {
			r = count_slice_locked(q, at, &s, &index);
			base = at - index;
			if (!r && find_in_slice(q, s, index, want, &found, ret_count)) {
				*ret_first = base + found;
				return 0;
			}
			at = base + BIT64(slice_count_bits(q));
		}
		if (r < 0) {
			return r;
		}
	}
}

static int take_run_locked(struct qcow2 *q, uint64_t first, uint64_t count)
{
	int r = 0;

	if (first + count > BIT64(QCOW2_HOST_BITS) >> q->cluster_bits) {
		return -EFBIG;
	}
	r = check_free_locked(q, first, count);
	if (!r) {
		r = refcount_add_locked(q, first, count, 1); /* blocks are there: keeps the lock */
	}
	if (!r) {
		q->fresh = MAX(q->fresh, first + count);
	}
	return r;
}

int clusters_alloc_locked(struct qcow2 *q, uint64_t want, uint64_t *ret_first, uint64_t *ret_count,
			  bool *ret_fresh)
{
	uint64_t from = q->free_hint, first, count;
	int r = find_run_locked(q, from, want, &first, &count);

	if (r < 0) {
		return r;
	}
	*ret_fresh = first >= q->fresh && q->file->zero_behind;
	r = take_run_locked(q, first, count);
	if (r < 0) {
		return r;
	}
	if (q->free_hint == from) {
		q->free_hint = first + count; /* find_run_locked() passed over nothing free */
	}
	*ret_first = first;
	*ret_count = count;
	return 0;
}

/* Is [first, first + want) free? Makes the blocks that count it. May let go. */
static int row_is_free_locked(struct qcow2 *q, uint64_t first, uint64_t want, uint64_t *ret_next)
{
	uint64_t at = first;

	*ret_next = first;
	while (at < first + want) {
		uint64_t run, count;
		int r = find_run_locked(q, at, first + want - at, &run, &count);

		if (r < 0) {
			return r;
		}
		if (run != at) {
			*ret_next = run; /* something lies between */
			return 0;
		}
		at += count;
	}
	return 0;
}

int clusters_alloc_row_locked(struct qcow2 *q, uint64_t want, uint64_t *ret_first)
{
	uint64_t first = q->free_hint, next, rt_size;
	int r;

	for (;;) {
		rt_size = q->rt_size;
		r = row_is_free_locked(q, first, want, &next);
		if (r < 0) {
			return r;
		}
		if (next == first && rt_size == q->rt_size) {
			break; /* else the lock was let go: look again */
		}
		first = next;
	}
	r = take_run_locked(q, first, want);
	if (!r) {
		*ret_first = first;
	}
	return r;
}

/* --- giving back ---------------------------------------------------------------------------------
 */

void clusters_free_now_locked(struct qcow2 *q, uint64_t first, uint64_t count)
{
	(void)refcount_add_locked(q, first, count, -1);
}

int clusters_unlink_locked(struct qcow2 *q, uint64_t first, uint64_t count)
{
	return runs_add(&q->unlinked, first, count, false);
}

void compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_at, uint64_t *ret_len)
{
	unsigned offset_bits = 62 - (q->cluster_bits - 8);
	uint64_t sectors = (entry & (QE_COMPRESSED - 1)) >> offset_bits;

	*ret_at = entry & (BIT64(offset_bits) - 1);
	*ret_len = (sectors + 1) * 512 - (*ret_at & 511);
}

int compressed_unlink_locked(struct qcow2 *q, uint64_t entry)
{
	uint64_t at, len, first, end;

	compressed_range(q, entry, &at, &len);
	first = q_cluster_of(q, at);
	end = q_cluster_of(q, at + len - 1) + 1;
	if (q_cluster_of(q, q->packed_at) - first <= end - first) {
		q->packed_at = 0; /* nothing is added to what is given back */
	}
	return runs_add(&q->unlinked, first, end - first, true);
}
