/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation: internal snapshots
 *
 * A snapshot is a row of a table, with an L1 table of its own. Data and L2
 * tables are shared; a cluster's count is the number of L1 tables that lead to it.
 * "Copied" flags of the active tables say that a count is 1, so that a
 * write may go in place. Each operation takes the image exclusively and goes
 * in steps, each stable before the next:
 *
 *	create	flags off; counts up, copy of L1 and new table of rows written;
 *		header to the new table; the old one given back
 *	apply	flags off in the snapshot's tables; counts up, new L1 written; header
 *		to the new L1 (and size); counts of the old tree down; flags set
 *	delete	new table of rows written; header to it; counts down; flags set
 *
 * Invariants
 *  1. A flag is never on while the count is more than 1, on the disk either. A cut may
 *     leave one off where the count is 1: a copy too many is made, no more.
 *  2. Counts go up before the header leads to what they count, and down after.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "block/cursor_int.h"
#include "block/image.h"
#include "block/qcow2_int.h"

#define NAME_MAX_BYTES 255
#define RUNS_MAX       65536 /* settle when so much waits to be given back: bounds memory */

/* --- the table of rows ------------------------------------------------------------------- */

static size_t row_bytes(const struct snapshot_row *s)
{
	return ALIGN_UP(QS_FIXED_BYTES + s->extra_bytes + strlen(s->pub.id) + strlen(s->pub.name),
			(size_t)8);
}

uint64_t q_snapshots_bytes(const struct qcow2 *q)
{
	uint64_t n = 0;

	for (unsigned i = 0; q->snapshots && i < q->snapshot_count; i++) {
		n += row_bytes(&q->snapshots[i]);
	}
	return n;
}

static void row_free(struct snapshot_row *s)
{
	free(s->pub.id);
	free(s->pub.name);
	free(s->extra);
}

void q_snapshots_free(struct qcow2 *q)
{
	for (unsigned i = 0; q->snapshots && i < q->snapshot_count; i++) {
		row_free(&q->snapshots[i]);
	}
	free(q->snapshots);
	q->snapshots = NULL;
}

static bool row_ok(const struct qcow2 *q, const struct snapshot_row *s)
{
	uint64_t bytes = (uint64_t)s->l1_size * 8;

	return bytes <= QCOW2_L1_BYTES_MAX && !(s->l1_offset & (q->cluster_bytes - 1)) &&
	       range_within(s->l1_offset, bytes, BIT64(QCOW2_HOST_BITS)) &&
	       (s->l1_offset || !s->l1_size) && s->pub.disk_bytes <= INT64_MAX - BIT(21) &&
	       q_l1_needed(q, s->pub.disk_bytes) <= QCOW2_L1_BYTES_MAX / 8;
}

static void load_extra(const struct qcow2 *q, struct snapshot_row *s)
{
	const uint8_t *x = s->extra;

	s->pub.disk_bytes = q->size;
	s->pub.icount = UINT64_MAX;
	if (s->extra_bytes >= QS_EXTRA_DISK_SIZE) {
		s->pub.vm_state_bytes = load_be64(x + QS_EXTRA_VM_STATE);
	}
	if (s->extra_bytes >= QS_EXTRA_ICOUNT) {
		s->pub.disk_bytes = load_be64(x + QS_EXTRA_DISK_SIZE);
	}
	if (s->extra_bytes >= QS_EXTRA_BYTES) {
		s->pub.icount = load_be64(x + QS_EXTRA_ICOUNT);
	}
}

/* Read what follows the fixed part at `at`. */
static int load_strings(struct qcow2 *q, struct snapshot_row *s, uint64_t at, uint32_t id_len,
			uint32_t name_len)
{
	int r = 0;

	s->extra = malloc(s->extra_bytes + 1);
	s->pub.id = calloc(1, id_len + 1);
	s->pub.name = calloc(1, name_len + 1);
	if (!s->extra || !s->pub.id || !s->pub.name) {
		return -ENOMEM;
	}
	r = file_read(q->file, s->extra, s->extra_bytes, at);
	if (!r) {
		r = file_read(q->file, s->pub.id, id_len, at + s->extra_bytes);
	}
	if (!r) {
		r = file_read(q->file, s->pub.name, name_len, at + s->extra_bytes + id_len);
	}
	/* Compared as strings, and written back with the lengths of strings. */
	if (!r && (strlen(s->pub.id) != id_len || strlen(s->pub.name) != name_len)) {
		r = -EUCLEAN;
	}
	return r;
}

static int load_row(struct qcow2 *q, struct snapshot_row *s, uint64_t *at)
{
	uint8_t f[QS_FIXED_BYTES];
	int r = file_read(q->file, f, sizeof(f), *at);

	if (r < 0) {
		return r;
	}
	s->l1_offset = load_be64(f + QS_L1_OFFSET);
	s->l1_size = load_be32(f + QS_L1_SIZE);
	s->extra_bytes = load_be32(f + QS_EXTRA_SIZE);
	s->pub.date_sec = load_be32(f + QS_DATE_SEC);
	s->pub.date_nsec = load_be32(f + QS_DATE_NSEC);
	s->pub.vm_clock_ns = load_be64(f + QS_VM_CLOCK);
	s->pub.vm_state_bytes = load_be32(f + QS_VM_STATE_SIZE);
	if (s->extra_bytes > QCOW2_SNAPSHOT_EXTRA_MAX) {
		return -EUCLEAN;
	}
	r = load_strings(q, s, *at + QS_FIXED_BYTES, load_be16(f + QS_ID_SIZE),
			 load_be16(f + QS_NAME_SIZE));
	if (r < 0) {
		return r;
	}
	load_extra(q, s);
	*at += row_bytes(s);
	return row_ok(q, s) ? 0 : -EUCLEAN;
}

int q_snapshots_read(struct qcow2 *q, char *error, size_t error_size)
{
	uint64_t at = q->snapshots_offset;
	int r = 0;

	if (!q->snapshot_count) {
		return 0;
	}
	q->snapshots = calloc(q->snapshot_count, sizeof(*q->snapshots));
	if (!q->snapshots) {
		return q_fail(-ENOMEM, error, error_size, "out of memory");
	}
	for (unsigned i = 0; i < q->snapshot_count && !r; i++) {
		r = load_row(q, &q->snapshots[i], &at);
		if (!r && at - q->snapshots_offset > QCOW2_SNAPSHOTS_BYTES_MAX) {
			r = -EUCLEAN;
		}
		if (r < 0) {
			return q_fail(r, error, error_size, "its snapshot %u cannot be read: %s", i,
				      r == -EUCLEAN ? "damaged" : strerror(-r));
		}
	}
	return 0;
}

static void store_row(const struct snapshot_row *s, uint8_t *at)
{
	size_t id_len = strlen(s->pub.id), name_len = strlen(s->pub.name);
	uint8_t *strings = at + QS_FIXED_BYTES + s->extra_bytes;
	bool large = s->extra_bytes >= QS_EXTRA_DISK_SIZE;

	store_be64(at + QS_L1_OFFSET, s->l1_offset);
	store_be32(at + QS_L1_SIZE, s->l1_size);
	store_be16(at + QS_ID_SIZE, (uint16_t)id_len);
	store_be16(at + QS_NAME_SIZE, (uint16_t)name_len);
	store_be32(at + QS_DATE_SEC, (uint32_t)s->pub.date_sec);
	store_be32(at + QS_DATE_NSEC, s->pub.date_nsec);
	store_be64(at + QS_VM_CLOCK, s->pub.vm_clock_ns);
	store_be32(at + QS_VM_STATE_SIZE, large && s->pub.vm_state_bytes > UINT32_MAX
						  ? 0
						  : (uint32_t)s->pub.vm_state_bytes);
	store_be32(at + QS_EXTRA_SIZE, s->extra_bytes);
	memcpy(at + QS_FIXED_BYTES, s->extra, s->extra_bytes);
	memcpy(strings, s->pub.id, id_len);
	memcpy(strings + id_len, s->pub.name, name_len);
}

/* Write rows to new clusters. Stable after the next commit. */
static int write_rows_locked(struct qcow2 *q, const struct snapshot_row *rows, unsigned count,
			     uint64_t *ret_offset)
{
	uint64_t bytes = 0, first, at = 0;
	uint8_t *raw;
	int r;

	for (unsigned i = 0; i < count; i++) {
		bytes += row_bytes(&rows[i]);
	}
	*ret_offset = 0;
	if (!count) {
		return 0;
	}
	raw = bytes <= QCOW2_SNAPSHOTS_BYTES_MAX ? calloc(1, q_up(q, bytes)) : NULL;
	if (!raw) {
		return bytes <= QCOW2_SNAPSHOTS_BYTES_MAX ? -ENOMEM : -EFBIG;
	}
	for (unsigned i = 0; i < count; i++) {
		store_row(&rows[i], raw + at);
		at += row_bytes(&rows[i]);
	}
	r = clusters_alloc_row_locked(q, q_up(q, bytes) >> q->cluster_bits, &first);
	if (!r) {
		*ret_offset = first << q->cluster_bits;
		r = file_write(q->file, raw, q_up(q, bytes), *ret_offset);
		if (r < 0) {
			clusters_free_now_locked(q, first, q_up(q, bytes) >> q->cluster_bits);
		}
	}
	free(raw);
	return r;
}

/* --- trees -------------------------------------------------------------------------------- */

static uint64_t table_of(const struct qcow2 *q, uint64_t l1_entry)
{
	return l1_entry & QE_OFFSET;
}

static struct l2_entry entry_at(const struct qcow2 *q, const uint8_t *table, uint64_t i)
{
	const uint8_t *at = table + i * q->entry_bytes;

	return (struct l2_entry){ load_be64(at), q_extended(q) ? load_be64(at + 8) : 0 };
}

/* One reference more or less on a range of clusters. Exclusive. */
static int count_ref_locked(struct qcow2 *q, uint64_t first, uint64_t count, int delta,
			    bool compressed)
{
	uint64_t n;
	int r;

	if (delta < 0) {
		r = runs_add(&q->unlinked, first, count, compressed);
		return !r && q->unlinked.count > RUNS_MAX ? q_settle_locked(q) : r;
	}
	for (uint64_t i = 0; i < count; i++) {
		r = refcount_get_locked(q, first + i, &n);
		if (r < 0 || !n) {
			return r < 0 ? r
				     : q_corrupt_locked(q, "a cluster in use is counted as free",
							(first + i) << q->cluster_bits);
		}
	}
	r = refcount_add_locked(q, first, count, 1);
	return !r && cache_full(&q->cache) ? q_commit_locked(q) : r;
}

/* The same for all that a table's entries refer to. *done: references so far, `limit` at most. */
static int count_table_locked(struct qcow2 *q, const uint8_t *table, int delta, uint64_t limit,
			      uint64_t *done)
{
	for (uint64_t i = 0; i < BIT64(q->l2_bits) && *done < limit; i++) {
		struct l2_entry e = entry_at(q, table, i);
		uint64_t first, count;
		int r;

		entry_clusters(q, e, &first, &count);
		if (!count) {
			continue;
		}
		r = count_ref_locked(q, first, count, delta, e.desc & QE_COMPRESSED);
		if (r < 0) {
			return r;
		}
		++*done;
	}
	return 0;
}

static int count_tree_locked(struct qcow2 *q, const uint64_t *l1, uint32_t size, int delta,
			     uint64_t limit, uint64_t *done)
{
	uint8_t *table = malloc(q->cluster_bytes);
	int r = table ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < size && !r && *done < limit; i++) {
		uint64_t at = table_of(q, l1[i]);

		if (!at) {
			continue;
		}
		r = at & (q->cluster_bytes - 1) ? q_corrupt_locked(q, "bad L1 entry", i)
						: file_read(q->file, table, q->cluster_bytes, at);
		if (!r) {
			r = count_table_locked(q, table, delta, limit, done);
		}
		if (!r && *done < limit) {
			r = count_ref_locked(q, q_cluster_of(q, at), 1, delta, false);
			*done += !r;
		}
	}
	free(table);
	return r;
}

/* All up, or on an error as before. */
static int tree_up_locked(struct qcow2 *q, const uint64_t *l1, uint32_t size)
{
	uint64_t done = 0, undone = 0;
	int r = count_tree_locked(q, l1, size, 1, UINT64_MAX, &done);

	if (r < 0 && !q->failed) {
		(void)count_tree_locked(q, l1, size, -1, done, &undone);
	}
	return r;
}

static int tree_down_locked(struct qcow2 *q, const uint64_t *l1, uint32_t size)
{
	uint64_t done = 0;

	return count_tree_locked(q, l1, size, -1, UINT64_MAX, &done);
}

/* --- flags ----------------------------------------------------------------------------------- */

/* What the flag of a reference to `cluster` is to be. */
static int flag_for_locked(struct qcow2 *q, uint64_t cluster, bool off, uint64_t *ret)
{
	uint64_t n = 0;
	int r = off ? 0 : refcount_get_locked(q, cluster, &n);

	*ret = n == 1 ? QE_COPIED : 0;
	return r;
}

static int flag_table_locked(struct qcow2 *q, uint64_t at, bool off, uint8_t *table)
{
	bool changed = false;
	int r = at & (q->cluster_bytes - 1) ? q_corrupt_locked(q, "bad L1 entry", at)
					    : file_read(q->file, table, q->cluster_bytes, at);

	for (uint64_t i = 0; i < BIT64(q->l2_bits) && !r; i++) {
		uint64_t desc = load_be64(table + i * q->entry_bytes), flag = 0;

		if (!(desc & QE_COMPRESSED) && (desc & QE_OFFSET)) {
			r = flag_for_locked(q, q_cluster_of(q, desc & QE_OFFSET), off, &flag);
		}
		if (!r && (desc & QE_COPIED) != flag) {
			store_be64(table + i * q->entry_bytes, (desc & ~QE_COPIED) | flag);
			changed = true;
		}
	}
	return r < 0 || !changed ? r : file_write(q->file, table, q->cluster_bytes, at);
}

/* Set the flags in the tables of a tree and in `l1` itself: `off` all off, else by the counts. */
static int flag_tree_locked(struct qcow2 *q, uint64_t *l1, uint32_t size, bool off)
{
	uint8_t *table = malloc(q->cluster_bytes);
	int r = table ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < size && !r; i++) {
		uint64_t at = table_of(q, l1[i]), flag;

		if (!at) {
			continue;
		}
		r = flag_table_locked(q, at, off, table);
		if (!r) {
			r = flag_for_locked(q, q_cluster_of(q, at), off, &flag);
		}
		if (!r) {
			l1[i] = (l1[i] & ~QE_COPIED) | flag;
		}
	}
	cache_drop_l2_locked(q);
	free(table);
	return r;
}

/* The same of the active tree, made stable. */
int q_flag_active_locked(struct qcow2 *q, bool off)
{
	int r = flag_tree_locked(q, q->l1, q->l1_size, off);

	q->l1_dirty_first = 0;
	q->l1_dirty_end = q->l1_size;
	return r < 0 ? r : q_commit_locked(q);
}

/* --- parts of the operations --------------------------------------------------------------------
 */

static int load_l1(struct qcow2 *q, const struct snapshot_row *s, uint32_t size, uint64_t **ret)
{
	uint32_t count = MIN(s->l1_size, size);
	uint64_t *l1 = calloc(MAX(size, 1u), 8);
	int r = l1 ? file_read(q->file, l1, (size_t)count * 8, s->l1_offset) : -ENOMEM;

	if (r < 0) {
		free(l1);
		return r;
	}
	for (uint32_t i = 0; i < count; i++) {
		l1[i] = load_be64(&l1[i]);
	}
	*ret = l1;
	return 0;
}

/* Write an L1 table to new clusters. Stable after the next commit. */
static int write_l1_locked(struct qcow2 *q, const uint64_t *l1, uint32_t size, uint64_t *ret_offset)
{
	uint64_t bytes = q_up(q, MAX((uint64_t)size * 8, 1)), first;
	uint64_t *raw = calloc(1, bytes);
	int r = raw ? clusters_alloc_row_locked(q, bytes >> q->cluster_bits, &first) : -ENOMEM;

	if (r < 0) {
		free(raw);
		return r;
	}
	for (uint32_t i = 0; i < size; i++) {
		store_be64(&raw[i], l1[i]);
	}
	*ret_offset = first << q->cluster_bits;
	r = file_write(q->file, raw, bytes, *ret_offset);
	if (r < 0) {
		clusters_free_now_locked(q, first, bytes >> q->cluster_bits);
	}
	free(raw);
	return r;
}

static uint64_t l1_clusters(const struct qcow2 *q, uint32_t size)
{
	return q_up(q, MAX((uint64_t)size * 8, 1)) >> q->cluster_bits;
}

static int unlink_bytes_locked(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
	return bytes && offset ? clusters_unlink_locked(q, q_cluster_of(q, offset),
							q_up(q, bytes) >> q->cluster_bits)
			       : 0;
}

/* Make what the header says now stable. If that fails nobody knows what it says. */
static int switch_header_locked(struct qcow2 *q)
{
	int r = q_header_write(q);

	if (!r) {
		r = file_flush(q->file);
	}
	if (r < 0) {
		q->failed = r;
	}
	return r;
}

static int begin(struct qcow2 *q, char *error, size_t size)
{
	int r;

	if (q->readonly) {
		return q_fail(-EROFS, error, size, "the image is open read-only");
	}
	pthread_mutex_lock(&q->lock);
	q_exclusive_begin_locked(q);
	r = q_settle_locked(q);
	if (r < 0) {
		q_fail(r, error, size, "what is written cannot be made stable: %s", strerror(-r));
	}
	return r;
}

static int end(struct qcow2 *q, int r, const char *what, char *error, size_t size)
{
	int settled = r < 0 && q->failed ? 0 : q_settle_locked(q);

	q_exclusive_end_locked(q);
	pthread_mutex_unlock(&q->lock);
	r = r < 0 ? r : settled;
	if (r == -EOVERFLOW) {
		return q_fail(
			r, error, size,
			"the image's refcounts of %u bits are too narrow for one more snapshot",
			BIT(q->refcount_order));
	}
	return r < 0 ? q_fail(r, error, size, "%s: %s", what, strerror(-r)) : 0;
}

/* --- create
 * ---------------------------------------------------------------------------------------- */

static bool name_taken(const struct qcow2 *q, const char *name)
{
	for (unsigned i = 0; i < q->snapshot_count; i++) {
		if (strcmp(q->snapshots[i].pub.name, name) == 0) {
			return true;
		}
	}
	return false;
}

static int check_create(struct qcow2 *q, const char *name, char *error, size_t size)
{
	if (!*name || strlen(name) > NAME_MAX_BYTES) {
		return q_fail(-EINVAL, error, size, "a snapshot's name has 1 to %d bytes",
			      NAME_MAX_BYTES);
	}
	if (q_has_data_file(q)) {
		return q_fail(-ENOTSUP, error, size,
			      "an image with an external data file has no internal snapshots");
	}
	if (q->snapshot_count >= QCOW2_SNAPSHOTS_MAX) {
		return q_fail(-EFBIG, error, size, "%u snapshots are too many", q->snapshot_count);
	}
	if (name_taken(q, name)) {
		return q_fail(-EEXIST, error, size,
			      "there is a snapshot of this name; delete it first");
	}
	return 0;
}

static int new_row(struct qcow2 *q, const char *name, struct snapshot_row *s)
{
	unsigned long id = 0;
	struct timespec now;
	char text[24];

	for (unsigned i = 0; i < q->snapshot_count; i++) {
		id = MAX(id, strtoul(q->snapshots[i].pub.id, NULL, 10));
	}
	snprintf(text, sizeof(text), "%lu", id + 1);
	clock_gettime(CLOCK_REALTIME, &now);
	*s = (struct snapshot_row){
		.pub = { .id = strdup(text),
			 .name = strdup(name),
			 .date_sec = (uint64_t)now.tv_sec,
			 .date_nsec = (uint32_t)now.tv_nsec,
			 .disk_bytes = q->size,
			 .icount = UINT64_MAX },
		.l1_size = q->l1_size,
		.extra = calloc(1, QS_EXTRA_BYTES),
		.extra_bytes = QS_EXTRA_BYTES,
	};
	if (!s->pub.id || !s->pub.name || !s->extra) {
		return -ENOMEM;
	}
	store_be64(s->extra + QS_EXTRA_DISK_SIZE, q->size);
	store_be64(s->extra + QS_EXTRA_ICOUNT, UINT64_MAX);
	return 0;
}

/* Counts are up. Write the copy of L1 and the rows, and lead the header there. */
static int enter_row_locked(struct qcow2 *q, struct snapshot_row *rows)
{
	uint64_t old_offset = q->snapshots_offset, old_bytes = q_snapshots_bytes(q), offset;
	struct snapshot_row *s = &rows[q->snapshot_count];
	int r = write_l1_locked(q, q->l1, q->l1_size, &s->l1_offset);

	if (r < 0) {
		return r;
	}
	r = write_rows_locked(q, rows, q->snapshot_count + 1, &offset);
	if (!r) {
		r = q_commit_locked(q);
	}
	if (r < 0) {
		clusters_free_now_locked(q, q_cluster_of(q, s->l1_offset),
					 l1_clusters(q, s->l1_size));
		return r;
	}
	free(q->snapshots);
	q->snapshots = rows;
	q->snapshot_count++;
	q->snapshots_offset = offset;
	r = switch_header_locked(q);
	return r < 0 ? r : unlink_bytes_locked(q, old_offset, old_bytes);
}

static int create_locked(struct qcow2 *q, struct snapshot_row *rows)
{
	uint64_t undone = 0;
	int r = q_flag_active_locked(q, true);

	if (!r) {
		r = tree_up_locked(q, q->l1, q->l1_size);
	}
	if (!r) {
		r = enter_row_locked(q, rows);
		if (r < 0 && q->snapshots != rows && !q->failed) {
			(void)count_tree_locked(q, q->l1, q->l1_size, -1, UINT64_MAX, &undone);
		}
	}
	if (r < 0 && !q->failed) {
		(void)q_settle_locked(q);
		(void)q_flag_active_locked(q, false);
	}
	return r;
}

int qcow2_snapshot_create(struct qcow2 *q, const char *name, char *error, size_t error_size)
{
	struct snapshot_row *rows;
	int r = begin(q, error, error_size);

	if (r == -EROFS) {
		return r;
	}
	if (!r) {
		r = check_create(q, name, error, error_size);
	}
	if (r < 0) {
		q_exclusive_end_locked(q);
		pthread_mutex_unlock(&q->lock);
		return r;
	}
	rows = calloc(q->snapshot_count + 1, sizeof(*rows));
	r = rows ? new_row(q, name, &rows[q->snapshot_count]) : -ENOMEM;
	if (!r) {
		if (q->snapshot_count) {
			memcpy(rows, q->snapshots, q->snapshot_count * sizeof(*rows));
		}
		r = create_locked(q, rows);
	}
	if (rows && q->snapshots != rows) {
		row_free(&rows[q->snapshot_count]);
		free(rows);
	}
	return end(q, r, "the snapshot cannot be made", error, error_size);
}

/* --- apply
 * ------------------------------------------------------------------------------------------- */

struct old_tree {
	uint64_t *l1, offset;
	uint32_t size;
};

/* Lead the header to `l1`, which is on the disk at `offset`. */
static int switch_l1_locked(struct qcow2 *q, uint64_t *l1, uint32_t size, uint64_t offset,
			    uint64_t disk_bytes, struct old_tree *old)
{
	*old = (struct old_tree){ q->l1, q->l1_offset, q->l1_size };
	q->l1 = l1;
	q->l1_size = size;
	q->l1_offset = offset;
	q->size = disk_bytes;
	cache_drop_l2_locked(q);
	return switch_header_locked(q);
}

static int drop_tree_locked(struct qcow2 *q, struct old_tree *old)
{
	int r = tree_down_locked(q, old->l1, old->size);

	if (!r) {
		r = unlink_bytes_locked(q, old->offset, (uint64_t)old->size * 8);
	}
	return r < 0 ? r : q_settle_locked(q);
}

static int apply_locked(struct qcow2 *q, const struct snapshot_row *s)
{
	uint64_t needed = q_l1_needed(q, s->pub.disk_bytes), offset, *l1;
	uint32_t size = (uint32_t)MAX(MAX(needed, s->l1_size), q->l1_size);
	struct old_tree old;
	int r = load_l1(q, s, size, &l1);

	if (r < 0) {
		return r;
	}
	r = flag_tree_locked(q, l1, size, true);
	if (!r) {
		r = tree_up_locked(q, l1, size);
	}
	if (!r) {
		r = write_l1_locked(q, l1, size, &offset);
		if (!r) {
			r = q_commit_locked(q);
		}
		if (r < 0 && !q->failed) {
			(void)tree_down_locked(q, l1, size);
		}
	}
	if (r < 0) {
		free(l1);
		return r;
	}
	r = switch_l1_locked(q, l1, size, offset, s->pub.disk_bytes, &old);
	if (!r) {
		r = drop_tree_locked(q, &old);
	}
	free(old.l1);
	return r < 0 ? r : q_flag_active_locked(q, false);
}

int qcow2_snapshot_apply(struct qcow2 *q, unsigned index, char *error, size_t error_size)
{
	int r = begin(q, error, error_size);

	if (r == -EROFS) {
		return r;
	}
	if (!r) {
		r = index < q->snapshot_count ? apply_locked(q, &q->snapshots[index]) : -ENOENT;
	}
	return end(q, r, "the snapshot cannot be applied", error, error_size);
}

/* --- delete
 * -------------------------------------------------------------------------------------------- */

/* Lead the header to a table without the row. The row itself is the caller's then. */
static int leave_row_locked(struct qcow2 *q, unsigned index, struct snapshot_row *ret)
{
	uint64_t old_offset = q->snapshots_offset, old_bytes = q_snapshots_bytes(q), offset;
	unsigned count = q->snapshot_count - 1;
	struct snapshot_row *rows = calloc(count + 1, sizeof(*rows));
	int r = rows ? 0 : -ENOMEM;

	if (!r) {
		memcpy(rows, q->snapshots, index * sizeof(*rows));
		memcpy(rows + index, q->snapshots + index + 1, (count - index) * sizeof(*rows));
		r = write_rows_locked(q, rows, count, &offset);
	}
	if (!r) {
		r = q_commit_locked(q);
	}
	if (r < 0) {
		free(rows);
		return r;
	}
	*ret = q->snapshots[index];
	free(q->snapshots);
	q->snapshots = rows;
	q->snapshot_count = count;
	q->snapshots_offset = offset;
	r = switch_header_locked(q);
	return r < 0 ? r : unlink_bytes_locked(q, old_offset, old_bytes);
}

static int delete_locked(struct qcow2 *q, unsigned index)
{
	struct snapshot_row row = { 0 };
	uint64_t *l1;
	int r = load_l1(q, &q->snapshots[index], q->snapshots[index].l1_size, &l1);

	if (r < 0) {
		return r;
	}
	r = leave_row_locked(q, index, &row);
	if (!r) {
		r = tree_down_locked(q, l1, row.l1_size);
	}
	if (!r) {
		r = unlink_bytes_locked(q, row.l1_offset, (uint64_t)row.l1_size * 8);
	}
	if (!r) {
		r = q_settle_locked(q);
	}
	row_free(&row);
	free(l1);
	return r < 0 ? r : q_flag_active_locked(q, false);
}

int qcow2_snapshot_delete(struct qcow2 *q, unsigned index, char *error, size_t error_size)
{
	int r = begin(q, error, error_size);

	if (r == -EROFS) {
		return r;
	}
	if (!r) {
		r = index < q->snapshot_count ? delete_locked(q, index) : -ENOENT;
	}
	return end(q, r, "the snapshot cannot be deleted", error, error_size);
}

/* --- looking
 * ------------------------------------------------------------------------------------------- */

unsigned qcow2_snapshot_count(const struct qcow2 *q)
{
	return q->snapshot_count;
}

const struct qcow2_snapshot *qcow2_snapshot_at(const struct qcow2 *q, unsigned index)
{
	return &q->snapshots[index].pub;
}

int qcow2_snapshot_find(const struct qcow2 *q, const char *id_or_name, unsigned *ret)
{
	for (unsigned by_name = 0; by_name < 2; by_name++) {
		for (unsigned i = 0; i < q->snapshot_count; i++) {
			const struct qcow2_snapshot *s = &q->snapshots[i].pub;

			if (strcmp(by_name ? s->name : s->id, id_or_name) == 0) {
				*ret = i;
				return 0;
			}
		}
	}
	return -ENOENT;
}

/* The entry of the snapshot's L2 for `offset`; all zero: none. */
static int snapshot_entry(struct qcow2 *q, const struct snapshot_row *s, uint64_t offset,
			  struct l2_entry *ret)
{
	uint64_t l1_index = offset / q_l2_span(q);
	uint64_t index = q_cluster_of(q, offset) & (BIT64(q->l2_bits) - 1);
	uint8_t raw[16] = { 0 };
	int r;

	*ret = (struct l2_entry){ 0, 0 };
	if (l1_index >= s->l1_size) {
		return 0;
	}
	r = file_read(q->file, raw, 8, s->l1_offset + l1_index * 8);
	if (r < 0 || !(load_be64(raw) & QE_OFFSET)) {
		return r;
	}
	r = file_read(q->file, raw, q->entry_bytes,
		      (load_be64(raw) & QE_OFFSET) + index * q->entry_bytes);
	*ret = (struct l2_entry){ load_be64(raw), q_extended(q) ? load_be64(raw + 8) : 0 };
	return r;
}

/* Within one subcluster. */
static int snapshot_read_piece(struct qcow2 *q, const struct snapshot_row *s, uint64_t offset,
			       struct cursor *c, uint64_t len)
{
	uint64_t in_cluster = offset & (q->cluster_bytes - 1);
	uint64_t sub_bytes = q->cluster_bytes / q->subclusters;
	enum qcow2_kind kind = QCOW2_UNALLOCATED;
	struct l2_entry e;
	uint8_t *buf;
	int r = snapshot_entry(q, s, offset, &e);

	if (!r) {
		r = map_kind_locked(q, e, (unsigned)(in_cluster / sub_bytes), &kind);
	}
	if (r < 0) {
		return r;
	}
	if (kind == QCOW2_UNALLOCATED && q->backing) {
		return image_read_cursor(q->backing, offset, c, len);
	}
	if (kind != QCOW2_DATA && kind != QCOW2_COMPRESSED) {
		cursor_zero(c, len);
		return 0;
	}
	buf = malloc(len);
	if (!buf) {
		return -ENOMEM;
	}
	r = kind == QCOW2_DATA ? file_read(q->data, buf, len, (e.desc & QE_OFFSET) + in_cluster)
			       : qcow2_read_compressed(q, e.desc, in_cluster, buf, len);
	cursor_copy(c, buf, len, true);
	free(buf);
	return r;
}

int qcow2_snapshot_read(struct qcow2 *q, unsigned index, uint64_t offset, void *buf, size_t len)
{
	uint64_t sub_bytes = q->cluster_bytes / q->subclusters;
	struct iovec iov = { buf, len };
	struct cursor c = { &iov, 1, 0 };
	int r = 0;

	pthread_mutex_lock(&q->lock);
	if (index >= q->snapshot_count ||
	    !range_within(offset, len, q->snapshots[index].pub.disk_bytes)) {
		r = -EINVAL;
	}
	while (len && !r) {
		size_t n = MIN(len, sub_bytes - offset % sub_bytes);

		r = snapshot_read_piece(q, &q->snapshots[index], offset, &c, n);
		offset += n;
		len -= n;
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}
