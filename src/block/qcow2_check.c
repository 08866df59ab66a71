/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Check: all references are counted, from the tables alone, and compared with
 * the refcounts and flags that the image has. No recursion: the levels are
 * fixed. Memory goes with the references that there are, not with what the
 * header claims.
 *
 * Repair writes the counted numbers where the image has blocks for them. Where
 * the blocks themselves are bad or missing, all are made anew behind the end,
 * and the header leads there. Then flags are set by the counts.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/qcow2_int.h"

#define CHUNK_BITS   9
#define CHUNK_COUNTS BIT(CHUNK_BITS)
#define REPORTS_MAX  1000 /* lines; the numbers go on */

struct chunk {
	struct chunk *next;
	uint64_t index; /* first cluster >> CHUNK_BITS */
	uint32_t n[CHUNK_COUNTS];
};

struct counts {
	struct chunk **hash, *last;
	size_t hash_size, chunks;
};

struct checker {
	struct qcow2 *q;
	struct qcow2_check *c;
	struct counts counts;
	uint64_t file_clusters, next_data, reports;
	uint8_t *table;
	bool bad_blocks; /* refcount blocks cannot be used as they are */
	bool quiet, without_blocks;
};

/* --- counting ------------------------------------------------------------------------------- */

static int counts_grow(struct counts *k)
{
	size_t size = k->hash_size ? k->hash_size * 4 : 256;
	struct chunk **hash = calloc(size, sizeof(struct chunk *));

	if (!hash) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < k->hash_size; i++) {
		struct chunk *next;

		for (struct chunk *c = k->hash[i]; c; c = next) {
			next = c->next;
			c->next = hash[c->index & (size - 1)];
			hash[c->index & (size - 1)] = c;
		}
	}
	free(k->hash);
	k->hash = hash;
	k->hash_size = size;
	return 0;
}

static struct chunk *counts_find(struct counts *k, uint64_t index)
{
	struct chunk *c = k->last;

	if (c && c->index == index) {
		return c;
	}
	c = k->hash_size ? k->hash[index & (k->hash_size - 1)] : NULL;
	while (c && c->index != index) {
		c = c->next;
	}
	k->last = c ? c : k->last;
	return c;
}

static int counts_add(struct counts *k, uint64_t cluster)
{
	uint64_t index = cluster >> CHUNK_BITS;
	struct chunk *c = counts_find(k, index);

	if (!c) {
		if (k->chunks >= k->hash_size && counts_grow(k) < 0) {
			return -ENOMEM;
		}
		c = calloc(1, sizeof(*c));
		if (!c) {
			return -ENOMEM;
		}
		c->index = index;
		c->next = k->hash[index & (k->hash_size - 1)];
		k->hash[index & (k->hash_size - 1)] = c;
		k->last = c;
		k->chunks++;
	}
	c->n[cluster & (CHUNK_COUNTS - 1)] += c->n[cluster & (CHUNK_COUNTS - 1)] < UINT32_MAX;
	return 0;
}

static uint32_t counts_get(struct counts *k, uint64_t cluster)
{
	struct chunk *c = counts_find(k, cluster >> CHUNK_BITS);

	return c ? c->n[cluster & (CHUNK_COUNTS - 1)] : 0;
}

static void counts_done(struct counts *k)
{
	for (size_t i = 0; i < k->hash_size; i++) {
		struct chunk *next;

		for (struct chunk *c = k->hash[i]; c; c = next) {
			next = c->next;
			free(c);
		}
	}
	free(k->hash);
	*k = (struct counts){ 0 };
}

/* --- findings --------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void report(struct checker *k, const char *fmt, ...)
{
	char line[200];
	va_list ap;

	if (!k->c->report || k->quiet || k->reports++ >= REPORTS_MAX) {
		return;
	}
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	k->c->report(k->c->opaque, line);
}

static void corrupt(struct checker *k)
{
	k->c->corruptions += !k->quiet;
}

/* One reference to [at, at + len) from `what`. */
static int refer(struct checker *k, const char *what, uint64_t at, uint64_t len)
{
	uint64_t first = q_cluster_of(k->q, at), end = q_cluster_of(k->q, at + len - 1) + 1;
	int r = 0;

	if (!len) {
		return 0;
	}
	if (at + len < at || end > k->file_clusters) {
		report(k, "%s at 0x%" PRIx64 " lies behind the end of the file", what, at);
		corrupt(k);
		return 0;
	}
	for (uint64_t i = first; i < end && !r; i++) {
		r = counts_add(&k->counts, i);
	}
	if (end << k->q->cluster_bits > k->c->image_end) {
		k->c->image_end = end << k->q->cluster_bits;
	}
	return r;
}

/* --- the tables ----------------------------------------------------------------------------------
 */

/* The flag of a reference in the active tables must fit the count that the image has. */
static int check_flag(struct checker *k, const char *what, uint64_t entry, uint64_t cluster)
{
	uint64_t n = 0;
	int r = refcount_get_locked(k->q, cluster, &n);

	if (r < 0 || (n == 1) == !!(entry & QE_COPIED)) {
		return r;
	}
	if (entry & QE_COPIED) {
		report(k,
		       "%s 0x%" PRIx64 " is flagged as the only reference, but %" PRIu64
		       " are counted",
		       what, entry, n);
		corrupt(k);
	} else {
		k->c->stale_flags += !k->quiet;
	}
	return 0;
}

static int check_data(struct checker *k, struct l2_entry e, bool active)
{
	uint64_t first, count, at = e.desc & QE_OFFSET;
	int r;

	entry_clusters(k->q, e, &first, &count);
	if (e.desc & QE_COMPRESSED) {
		uint64_t len;

		compressed_range(k->q, e.desc, &at, &len);
		k->c->compressed_clusters += active && !k->quiet;
		k->c->allocated_clusters += active && !k->quiet;
		return refer(k, "a compressed cluster", at, len);
	}
	if (!map_has_host(k->q, e)) {
		return 0;
	}
	if (active && !k->quiet) {
		k->c->allocated_clusters++;
		k->c->fragmented_clusters += k->next_data && at != k->next_data;
		k->next_data = at + k->q->cluster_bytes;
	}
	if (q_has_data_file(k->q)) {
		return 0;
	}
	r = active ? check_flag(k, "the L2 entry", e.desc, first) : 0;
	return r < 0 ? r : refer(k, "a data cluster", at, k->q->cluster_bytes);
}

static int check_l2(struct checker *k, uint64_t at, bool active)
{
	const struct qcow2 *q = k->q;
	int r = file_read(q->file, k->table, q->cluster_bytes, at);

	for (uint64_t i = 0; i < BIT64(q->l2_bits) && !r; i++) {
		const uint8_t *raw = k->table + i * q->entry_bytes;
		struct l2_entry e = { load_be64(raw), q_extended(q) ? load_be64(raw + 8) : 0 };

		if (!e.desc) {
			continue;
		}
		if (!map_entry_ok(q, e)) {
			report(k,
			       "the L2 entry 0x%" PRIx64 " in the table at 0x%" PRIx64
			       " is damaged",
			       e.desc, at);
			corrupt(k);
			continue;
		}
		r = check_data(k, e, active);
	}
	return r;
}

/* An L1 table of `size` entries in host order, and what it leads to. */
static int check_l1(struct checker *k, const uint64_t *l1, uint64_t offset, uint32_t size,
		    bool active)
{
	int r = refer(k, "an L1 table", offset, (uint64_t)size * 8);

	for (uint32_t i = 0; i < size && !r; i++) {
		uint64_t at = l1[i] & QE_OFFSET;

		if (!l1[i]) {
			continue;
		}
		if ((l1[i] & QE_L1_RESERVED) || at & (k->q->cluster_bytes - 1)) {
			report(k, "the L1 entry %u, 0x%" PRIx64 ", is damaged", i, l1[i]);
			corrupt(k);
			continue;
		}
		r = at ? refer(k, "an L2 table", at, k->q->cluster_bytes) : 0;
		if (!r && at && active) {
			r = check_flag(k, "the L1 entry", l1[i], q_cluster_of(k->q, at));
		}
		if (!r && at && q_cluster_of(k->q, at) < k->file_clusters) {
			r = check_l2(k, at, active);
		}
	}
	return r;
}

static int check_snapshot(struct checker *k, const struct snapshot_row *s)
{
	uint64_t *l1 = calloc(MAX(s->l1_size, 1u), 8);
	int r = l1 ? 0 : -ENOMEM;

	if (s->l1_size && q_cluster_of(k->q, s->l1_offset) >= k->file_clusters) {
		free(l1);
		return refer(k, "a snapshot's L1 table", s->l1_offset, (uint64_t)s->l1_size * 8);
	}
	if (!r) {
		r = file_read(k->q->file, l1, (size_t)s->l1_size * 8, s->l1_offset);
	}
	for (uint32_t i = 0; i < s->l1_size && !r; i++) {
		l1[i] = load_be64(&l1[i]);
	}
	if (!r) {
		r = check_l1(k, l1, s->l1_offset, s->l1_size, false);
	}
	free(l1);
	return r;
}

static int bitmap_range(void *opaque, uint64_t at, uint64_t len)
{
	return refer(opaque, "a bitmap", at, len);
}

/* The refcount table and its blocks. A bad entry is passed over from here on. */
static int check_blocks(struct checker *k)
{
	struct qcow2 *q = k->q;
	int r = refer(k, "the refcount table", q->rt_offset,
		      (uint64_t)q->rt_clusters << q->cluster_bits);

	for (uint64_t i = 0; i < q->rt_size && !r; i++) {
		uint64_t at = q->rt[i] & QE_RT_OFFSET;

		if (!q->rt[i]) {
			continue;
		}
		if (q->rt[i] & ~QE_RT_OFFSET || at & (q->cluster_bytes - 1) ||
		    q_cluster_of(q, at) >= k->file_clusters) {
			report(k,
			       "the refcount table's entry %" PRIu64 ", 0x%" PRIx64 ", is damaged",
			       i, q->rt[i]);
			corrupt(k);
			k->bad_blocks = true;
			q->rt[i] = 0;
			continue;
		}
		r = refer(k, "a refcount block", at, q->cluster_bytes);
	}
	return r;
}

static int count_all(struct checker *k)
{
	struct bitmap_visitor bitmaps = { .range = bitmap_range, .opaque = k };
	struct qcow2 *q = k->q;
	int r = refer(k, "the header", 0, q->cluster_bytes);

	if (!r && !k->without_blocks) {
		r = check_blocks(k);
	}
	if (!r) {
		r = check_l1(k, q->l1, q->l1_offset, q->l1_size, true);
	}
	if (!r && q->snapshot_count) {
		r = refer(k, "the snapshot table", q->snapshots_offset, q_snapshots_bytes(q));
	}
	for (unsigned i = 0; i < q->snapshot_count && !r; i++) {
		r = check_snapshot(k, &q->snapshots[i]);
	}
	if (!r && q->has_bitmaps) {
		r = q_bitmaps_walk(q, &bitmaps);
		if (r == -EUCLEAN) {
			report(k, "the bitmaps' directory is damaged");
			corrupt(k);
			r = 0;
		}
	}
	return r;
}

/* --- comparing
 * --------------------------------------------------------------------------------------- */

static void compare_one(struct checker *k, uint64_t cluster, uint64_t has, uint64_t wanted)
{
	if (has > wanted) {
		report(k,
		       "leaked: cluster %" PRIu64 " has refcount %" PRIu64 ", used %" PRIu64
		       " times",
		       cluster, has, wanted);
		k->c->leaks++;
	} else {
		report(k,
		       "cluster %" PRIu64 " has refcount %" PRIu64 ", but is used %" PRIu64
		       " times",
		       cluster, has, wanted);
		k->c->corruptions++;
	}
}

static int compare_block(struct checker *k, uint64_t block)
{
	struct qcow2 *q = k->q;
	uint64_t first = block << q->rb_bits;
	int r = file_read(q->file, k->table, q->cluster_bytes, q->rt[block]);

	for (uint64_t i = 0; i < BIT64(q->rb_bits) && !r; i++) {
		uint64_t has = refcount_load(k->table, q->refcount_order, i);
		uint64_t wanted = counts_get(&k->counts, first + i);

		if (has != wanted) {
			compare_one(k, first + i, has, wanted);
		}
	}
	if (!r && counts_get(&k->counts, q_cluster_of(q, q->rt[block])) != 1) {
		k->bad_blocks = true; /* it is something else too: not to be written to */
	}
	return r;
}

/* What is used, but has no block to count it. */
static void compare_uncounted(struct checker *k)
{
	for (size_t h = 0; h < k->counts.hash_size; h++) {
		for (struct chunk *c = k->counts.hash[h]; c; c = c->next) {
			for (unsigned i = 0; i < CHUNK_COUNTS; i++) {
				uint64_t cluster = (c->index << CHUNK_BITS) + i;
				uint64_t block = cluster >> k->q->rb_bits;

				if (c->n[i] && (block >= k->q->rt_size || !k->q->rt[block])) {
					compare_one(k, cluster, 0, c->n[i]);
					k->bad_blocks = true;
				}
			}
		}
	}
}

static int compare_all(struct checker *k)
{
	int r = 0;

	for (uint64_t b = 0; b < k->q->rt_size && !r; b++) {
		r = k->q->rt[b] ? compare_block(k, b) : 0;
	}
	if (!r) {
		compare_uncounted(k);
	}
	return r;
}

/* --- repair
 * --------------------------------------------------------------------------------------------- */

static void drop_refblocks_locked(struct qcow2 *q)
{
	for (size_t i = 0; i < q->cache.count; i++) {
		struct slot *s = q->cache.slots[i];

		if (s->offset && s->kind == SLOT_REFBLOCK) {
			cache_drop_locked(q, s->offset, 1);
		}
	}
}

/* Write the counted numbers into a block; `all` false: only those that are too high. */
static int repair_block(struct checker *k, uint64_t block, bool all)
{
	struct qcow2 *q = k->q;
	bool changed = false;
	int r = file_read(q->file, k->table, q->cluster_bytes, q->rt[block]);

	for (uint64_t i = 0; i < BIT64(q->rb_bits) && !r; i++) {
		uint64_t has = refcount_load(k->table, q->refcount_order, i);
		uint64_t wanted = counts_get(&k->counts, (block << q->rb_bits) + i);

		if (has == wanted || (has < wanted && !all) || wanted > q->refcount_max) {
			continue;
		}
		refcount_store(k->table, q->refcount_order, i, wanted);
		changed = true;
		k->c->fixed_leaks += has > wanted;
		k->c->fixed_corruptions += has < wanted;
	}
	return r < 0 || !changed ? r
				 : file_write(q->file, k->table, q->cluster_bytes, q->rt[block]);
}

static int repair_counts(struct checker *k, bool all)
{
	int r = 0;

	for (uint64_t b = 0; b < k->q->rt_size && !r; b++) {
		r = k->q->rt[b] ? repair_block(k, b, all) : 0;
	}
	drop_refblocks_locked(k->q);
	k->q->free_hint = 0;
	return r < 0 ? r : file_flush(k->q->file);
}

struct new_counts {
	uint64_t first, blocks, table_clusters; /* behind the end: blocks, then the table */
};

static int plan_rebuild(struct checker *k, struct new_counts *n)
{
	struct qcow2 *q = k->q;
	uint64_t total;

	*n = (struct new_counts){ k->file_clusters, 1, 1 };
	for (;;) {
		uint64_t blocks, table;

		total = n->first + n->blocks + n->table_clusters;
		blocks = (total + BIT64(q->rb_bits) - 1) >> q->rb_bits;
		table = q_up(q, blocks * 8) >> q->cluster_bits;
		if (blocks <= n->blocks && table <= n->table_clusters) {
			break;
		}
		n->blocks = blocks;
		n->table_clusters = table;
	}
	return n->table_clusters << q->cluster_bits > QCOW2_RT_BYTES_MAX ? -EFBIG : 0;
}

static int write_new_block(struct checker *k, const struct new_counts *n, uint64_t block)
{
	struct qcow2 *q = k->q;
	uint64_t total = n->first + n->blocks + n->table_clusters;

	memset(k->table, 0, q->cluster_bytes);
	for (uint64_t i = 0; i < BIT64(q->rb_bits); i++) {
		uint64_t cluster = (block << q->rb_bits) + i;
		uint64_t count = counts_get(&k->counts, cluster);

		if (cluster >= n->first && cluster < total) {
			count = 1;
		}
		refcount_store(k->table, q->refcount_order, i, MIN(count, q->refcount_max));
	}
	return file_write(q->file, k->table, q->cluster_bytes,
			  (n->first + block) << q->cluster_bits);
}

static int write_new_table(struct checker *k, const struct new_counts *n, uint64_t **ret)
{
	struct qcow2 *q = k->q;
	uint64_t entries = (n->table_clusters << q->cluster_bits) / 8;
	uint64_t *rt = calloc(entries, 8), *raw = calloc(entries, 8);
	int r = rt && raw ? 0 : -ENOMEM;

	for (uint64_t b = 0; b < n->blocks && !r; b++) {
		rt[b] = (n->first + b) << q->cluster_bits;
		store_be64(&raw[b], rt[b]);
	}
	if (!r) {
		r = file_write(q->file, raw, entries * 8,
			       (n->first + n->blocks) << q->cluster_bits);
	}
	free(raw);
	if (r < 0) {
		free(rt);
		return r;
	}
	*ret = rt;
	return 0;
}

/* All counts anew. The old blocks and table are not counted any more, so they are free. */
static int rebuild(struct checker *k)
{
	struct qcow2 *q = k->q;
	struct new_counts n = { 0 };
	uint64_t *rt = NULL;
	int r;

	counts_done(&k->counts);
	k->without_blocks = k->quiet = true;
	r = count_all(k);
	if (!r) {
		r = plan_rebuild(k, &n);
	}
	for (uint64_t b = 0; !r && b < n.blocks; b++) {
		r = write_new_block(k, &n, b);
	}
	if (!r) {
		r = write_new_table(k, &n, &rt);
	}
	if (!r) {
		r = file_flush(q->file);
	}
	if (r < 0) {
		free(rt);
		return r;
	}
	free(q->rt);
	q->rt = rt;
	q->rt_size = (n.table_clusters << q->cluster_bits) / 8;
	q->rt_offset = (n.first + n.blocks) << q->cluster_bits;
	q->rt_clusters = (uint32_t)n.table_clusters;
	q->fresh = MAX(q->fresh, n.first + n.blocks + n.table_clusters);
	q->free_hint = 0;
	drop_refblocks_locked(q);
	r = q_header_write(q);
	return r < 0 ? r : file_flush(q->file);
}

static int clear_marks(struct qcow2 *q)
{
	int r;

	q->incompatible &= ~(uint64_t)(QI_DIRTY | QI_CORRUPT);
	r = q_header_write(q);
	return r < 0 ? r : file_flush(q->file);
}

static int recheck(struct qcow2 *q, struct qcow2_check *c);

/* Do what `flags` allows, then look again: what is left is what is reported. */
static int repair(struct checker *k, unsigned flags)
{
	struct qcow2_check before = *k->c;
	bool all = (flags & QCOW2_REPAIR_ALL) == QCOW2_REPAIR_ALL;
	struct qcow2 *q = k->q;
	int r;

	q->failed = 0;
	r = all && k->bad_blocks ? rebuild(k) : repair_counts(k, all);
	if (!r && all) {
		r = q_flag_active_locked(q, false);
	}
	if (!r) {
		r = recheck(q, k->c);
	}
	if (r < 0) {
		return r;
	}
	k->c->fixed_corruptions = before.corruptions - MIN(before.corruptions, k->c->corruptions);
	k->c->fixed_leaks = before.leaks - MIN(before.leaks, k->c->leaks);
	k->c->fixed_flags = before.stale_flags - MIN(before.stale_flags, k->c->stale_flags);
	return all && !k->c->corruptions && q->version >= 3 ? clear_marks(q) : 0;
}

/* --- the check
 * --------------------------------------------------------------------------------------------- */

static int check_once(struct checker *k)
{
	struct qcow2 *q = k->q;
	uint64_t bytes;
	int r = file_size(q->file, &bytes);

	if (r < 0) {
		return r;
	}
	k->file_clusters = (bytes + q->cluster_bytes - 1) >> q->cluster_bits;
	k->table = malloc(q->cluster_bytes);
	if (!k->table) {
		return -ENOMEM;
	}
	k->c->total_clusters = q_up(q, q->size) >> q->cluster_bits;
	r = count_all(k);
	return r < 0 ? r : compare_all(k);
}

static void checker_done(struct checker *k)
{
	counts_done(&k->counts);
	free(k->table);
}

static int recheck(struct qcow2 *q, struct qcow2_check *c)
{
	struct qcow2_check again = { .report = NULL };
	struct checker k = { .q = q, .c = &again };
	int r = check_once(&k);

	again.report = c->report;
	again.opaque = c->opaque;
	*c = again;
	checker_done(&k);
	return r;
}

int qcow2_check(struct qcow2 *q, unsigned flags, struct qcow2_check *c)
{
	struct checker k = { .q = q, .c = c };
	int r;

	pthread_mutex_lock(&q->lock);
	q_exclusive_begin_locked(q);
	r = q->readonly || q->failed ? 0 : q_settle_locked(q);
	if (!r) {
		r = check_once(&k);
	}
	if (!r && flags && !q->readonly &&
	    (c->corruptions || c->leaks || c->stale_flags ||
	     q->incompatible & (QI_DIRTY | QI_CORRUPT))) {
		r = repair(&k, flags);
	}
	checker_done(&k);
	q_exclusive_end_locked(q);
	pthread_mutex_unlock(&q->lock);
	return r;
}
