/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening, creating and closing a qcow2 image. */
#include "block/qcow2.h"

#include <stdio.h>
#include <stdlib.h>

#include "block/qcow2_int.h"

/* --- life ------------------------------------------------------------------------------- */

static void batches_free(struct qcow2 *q)
{
	while (q->batches) {
		struct free_batch *b = q->batches;

		q->batches = b->next;
		free(b->runs.v);
		free(b);
	}
	free(q->unlinked.v);
}

void q_free(struct qcow2 *q)
{
	q_snapshots_free(q);
	batches_free(q);
	cache_done(&q->cache);
	free(q->l1);
	free(q->rt);
	free(q->backing_name);
	free(q->backing_format);
	free(q->data_name);
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->changed);
	free(q);
}

static struct qcow2 *new_object(struct file *file)
{
	struct qcow2 *q = calloc(1, sizeof(*q));

	if (q) {
		q->file = q->data = file;
		q->batches_end = &q->batches;
		q->l1_dirty_first = q->rt_dirty_first = UINT64_MAX;
		pthread_mutex_init(&q->lock, NULL);
		pthread_cond_init(&q->changed, NULL);
	}
	return q;
}

/* --- open ---------------------------------------------------------------------------------- */

/* A table of 64-bit numbers, `entries` of them in a file that has `size` bytes. */
static int load_table(struct qcow2 *q, uint64_t at, uint64_t entries, uint64_t size, uint64_t **ret)
{
	uint64_t *t;
	int r;

	if (entries && !range_within(at, 8, size)) {
		return -EUCLEAN; /* not even its first entry is there */
	}
	t = calloc(MAX(entries, (uint64_t)1), 8);
	r = t ? file_read(q->file, t, entries * 8, at) : -ENOMEM;
	if (r < 0) {
		free(t);
		return r;
	}
	for (uint64_t i = 0; i < entries; i++) {
		t[i] = load_be64(&t[i]);
	}
	*ret = t;
	return 0;
}

static int load_tables(struct qcow2 *q, char *error, size_t error_size)
{
	uint64_t size;
	int r = file_size(q->file, &size);

	if (!r) {
		q->fresh = (size + q->cluster_bytes - 1) >> q->cluster_bits;
		r = load_table(q, q->l1_offset, q->l1_size, size, &q->l1);
	}
	if (!r) {
		q->rt_size = (uint64_t)q->rt_clusters * (q->cluster_bytes / 8);
		r = load_table(q, q->rt_offset, q->rt_size, size, &q->rt);
	}
	return r < 0 ? q_fail(r, error, error_size, "its tables cannot be read: %s",
			      r == -EUCLEAN ? "they lie behind the file's end" : strerror(-r))
		     : 0;
}

static int find_tracking(void *opaque, const char *name, uint32_t flags)
{
	const char **found = opaque;
	static _Thread_local char copy[128];

	if ((flags & BITMAP_AUTO) && !(flags & BITMAP_IN_USE)) {
		snprintf(copy, sizeof(copy), "%s", name);
		*found = copy;
	}
	return 0;
}

/* May the image be written to, as far as its bitmaps go? */
static int check_bitmaps(struct qcow2 *q, const struct qcow2_options *o, char *error, size_t size)
{
	const char *name = NULL;
	struct bitmap_visitor v = { .bitmap = find_tracking, .opaque = &name };
	int r = q->has_bitmaps ? q_bitmaps_walk(q, &v) : 0;

	if (r < 0) {
		return q_fail(r, error, size, "its bitmaps cannot be read: %s", strerror(-r));
	}
	if (name && !o->allow_bitmaps) {
		return q_fail(-ENOTSUP, error, size,
			      "its bitmap '%s' records writes, which is not supported; remove it: "
			      "qemu-img bitmap --remove FILE '%s'",
			      name, name);
	}
	if (name) {
		q->autoclear &= ~(uint64_t)QA_BITMAPS; /* they are void from now on */
		q->has_bitmaps = false;
	}
	return 0;
}

static int check_data_file(struct qcow2 *q, const struct qcow2_options *o, char *error, size_t size)
{
	bool has = q->incompatible & QI_DATA_FILE;

	if (has && !o->data) {
		return q_fail(-EINVAL, error, size,
			      "its data lie in another file%s%s; state it: data-file=FILE",
			      q->data_name ? ": " : "", q->data_name ? q->data_name : "");
	}
	if (!has && o->data) {
		return q_fail(-EINVAL, error, size, "has no external data file, but one is stated");
	}
	if (has) {
		q->data = o->data;
	}
	return 0;
}

static int repair_dirty(struct qcow2 *q, char *error, size_t size)
{
	struct qcow2_check c = { 0 };
	int r = qcow2_check(q, QCOW2_REPAIR_ALL, &c);

	if (r < 0) {
		return q_fail(r, error, size, "was not closed cleanly and cannot be repaired: %s",
			      strerror(-r));
	}
	if (c.corruptions) {
		return q_fail(-EUCLEAN, error, size,
			      "was not closed cleanly and is damaged; see: lodge image check");
	}
	return 0;
}

/* What is to be done before the first write. */
static int prepare_writing(struct qcow2 *q, const struct qcow2_options *o, char *error, size_t size)
{
	bool had_bitmaps = q->has_bitmaps, void_bitmaps;
	int r = check_bitmaps(q, o, error, size);

	void_bitmaps = had_bitmaps && !q->has_bitmaps;
	if (r < 0) {
		return r;
	}
	if ((q->incompatible & QI_CORRUPT) && !o->no_repair) {
		return q_fail(-EUCLEAN, error, size,
			      "is marked as damaged; open it read-only, or repair it: "
			      "lodge image check --repair");
	}
	if ((q->incompatible & QI_DIRTY) && !o->no_repair) {
		return repair_dirty(q, error, size);
	}
	if (q->version >= 3 && (q->autoclear & ~(uint64_t)QA_KNOWN || void_bitmaps)) {
		q->autoclear &= QA_KNOWN; /* what is not known here will not be kept right */
		r = q_header_write(q);
	}
	return r < 0 ? q_fail(r, error, size, "its header cannot be written: %s", strerror(-r)) : 0;
}

static int open_all(struct qcow2 *q, const struct qcow2_options *o, char *error, size_t size)
{
	int r = q_header_read(q, error, size);

	if (!r) {
		r = check_data_file(q, o, error, size);
	}
	if (!r) {
		r = cache_init(&q->cache, o->cache_bytes ? o->cache_bytes : QCOW2_CACHE_BYTES,
			       (size_t)1 << q->slice_bits);
	}
	if (!r) {
		r = load_tables(q, error, size);
	}
	if (!r) {
		r = q_snapshots_read(q, error, size);
	}
	return !r && !q->readonly ? prepare_writing(q, o, error, size) : r;
}

int qcow2_open(struct file *file, const struct qcow2_options *o, char *error, size_t error_size,
	       struct qcow2 **ret)
{
	struct qcow2 *q = new_object(file);
	int r;

	if (!q) {
		return q_fail(-ENOMEM, error, error_size, "out of memory");
	}
	q->readonly = o->readonly;
	r = open_all(q, o, error, error_size);
	if (r < 0) {
		q_free(q);
		return r;
	}
	*ret = q;
	return 0;
}

int qcow2_open_header(struct file *file, char *error, size_t error_size, struct qcow2 **ret)
{
	struct qcow2 *q = new_object(file);
	int r;

	if (!q) {
		return q_fail(-ENOMEM, error, error_size, "out of memory");
	}
	q->readonly = q->header_only = true;
	r = q_header_read(q, error, error_size);
	if (r < 0) {
		q_free(q);
		return r;
	}
	*ret = q;
	return 0;
}

void qcow2_abandon(struct qcow2 *q)
{
	struct file *file = q->file, *data = q->data;

	q_free(q);
	file_close(data == file ? NULL : data);
	file_close(file);
}

int qcow2_close(struct qcow2 *q)
{
	int r = 0;

	if (!q) {
		return 0;
	}
	if (!q->readonly) {
		pthread_mutex_lock(&q->lock);
		r = q_settle_locked(q);
		pthread_mutex_unlock(&q->lock);
	}
	qcow2_abandon(q);
	return r;
}

void qcow2_set_backing(struct qcow2 *q, struct image *backing)
{
	q->backing = backing;
}

uint64_t qcow2_size_bytes(const struct qcow2 *q)
{
	return q->size;
}

struct file *qcow2_data_file(struct qcow2 *q)
{
	return q->data;
}

void qcow2_get_info(const struct qcow2 *q, struct qcow2_info *ret)
{
	*ret = (struct qcow2_info){
		.version = q->version,
		.size = q->size,
		.cluster_bytes = q->cluster_bytes,
		.refcount_bits = BIT(q->refcount_order),
		.incompatible = q->incompatible,
		.compatible = q->compatible,
		.autoclear = q->autoclear,
		.zstd = q->compression == QCOW2_ZSTD,
		.extended_l2 = q->incompatible & QI_EXTENDED_L2,
		.data_file = q->incompatible & QI_DATA_FILE,
		.data_file_raw = q->autoclear & QA_RAW_DATA_FILE,
		.lazy_refcounts = q->compatible & QC_LAZY_REFCOUNTS,
		.dirty = q->incompatible & QI_DIRTY,
		.corrupt = q->incompatible & QI_CORRUPT,
		.snapshots = q->snapshot_count,
		.bitmaps = q->has_bitmaps ? q->bitmap_count : 0,
		.backing_name = q->backing_name,
		.backing_format = q->backing_format,
		.data_file_name = q->data_name,
	};
}

/* --- create ------------------------------------------------------------------------------------
 */

static int check_shape(const struct qcow2_create_options *o, uint32_t version, uint32_t cluster,
		       uint32_t bits, char *error, size_t size)
{
	if (version != 2 && version != 3) {
		return q_fail(-EINVAL, error, size, "version %u: give 2 or 3 (compat=0.10 or 1.1)",
			      version);
	}
	if (cluster < BIT(QCOW2_CLUSTER_BITS_MIN) || cluster > BIT(QCOW2_CLUSTER_BITS_MAX) ||
	    cluster & (cluster - 1)) {
		return q_fail(-EINVAL, error, size,
			      "cluster_size %u: give a power of 2 from 512 to 2M", cluster);
	}
	if (!bits || bits > 64 || bits & (bits - 1)) {
		return q_fail(-EINVAL, error, size,
			      "refcount_bits %u: give a power of 2 from 1 to 64", bits);
	}
	if (version == 2 &&
	    (bits != 16 || o->zstd || o->extended_l2 || o->lazy_refcounts || o->data_file_name)) {
		return q_fail(
			-EINVAL, error, size,
			"version 2 has refcounts of 16 bits and no zstd, extended L2 entries, "
			"lazy refcounts or data file; take version 3 (compat=1.1)");
	}
	if (o->extended_l2 && cluster < BIT(QCOW2_EXT_CLUSTER_BITS)) {
		return q_fail(-EINVAL, error, size, "extended_l2 needs clusters of 16K or more");
	}
	return 0;
}

static int check_names(const struct qcow2_create_options *o, char *error, size_t size)
{
	if (!o->backing_name != !o->backing_format) {
		return q_fail(-EINVAL, error, size,
			      "a backing file and its format are given together or not at all");
	}
	if (o->backing_name &&
	    (!*o->backing_name || strlen(o->backing_name) > QCOW2_BACKING_NAME_MAX)) {
		return q_fail(-EINVAL, error, size, "a backing file's name has 1 to %d bytes",
			      QCOW2_BACKING_NAME_MAX);
	}
	if (o->data_file_raw && (!o->data_file_name || o->backing_name)) {
		return q_fail(-EINVAL, error, size,
			      "data_file_raw needs a data file and allows no backing file");
	}
	if (o->size > (uint64_t)INT64_MAX - BIT(21)) {
		return q_fail(-EINVAL, error, size, "the size is too large");
	}
	return 0;
}

static int set_names(struct qcow2 *q, const struct qcow2_create_options *o)
{
	if (o->backing_name) {
		q->backing_name = strdup(o->backing_name);
		q->backing_format = strdup(o->backing_format);
	}
	if (o->data_file_name) {
		q->data_name = strdup(o->data_file_name);
	}
	return (o->backing_name && (!q->backing_name || !q->backing_format)) ||
			       (o->data_file_name && !q->data_name)
		       ? -ENOMEM
		       : 0;
}

static void set_shape(struct qcow2 *q, const struct qcow2_create_options *o)
{
	q->version = o->version ? o->version : 3;
	q->cluster_bits = (uint32_t)__builtin_ctz(o->cluster_bytes ? o->cluster_bytes : 65536);
	q->cluster_bytes = BIT(q->cluster_bits);
	q->refcount_order = (uint32_t)__builtin_ctz(o->refcount_bits ? o->refcount_bits : 16);
	q->size = ALIGN_UP(o->size, (uint64_t)512);
	q->compression = o->zstd ? QCOW2_ZSTD : QCOW2_ZLIB;
	q->incompatible = (o->zstd ? QI_COMPRESSION : 0) | (o->extended_l2 ? QI_EXTENDED_L2 : 0) |
			  (o->data_file_name ? QI_DATA_FILE : 0);
	q->compatible = o->lazy_refcounts ? QC_LAZY_REFCOUNTS : 0;
	q->autoclear = o->data_file_raw ? QA_RAW_DATA_FILE : 0;
	q->header_length = q->version == 2 ? QH_V2_BYTES : QH_V3_LONG_BYTES;
	q->l2_bits = q->cluster_bits - (o->extended_l2 ? 4 : 3);
	q->rb_bits = q->cluster_bits + 3 - q->refcount_order;
}

/*
 * Where all lies: header, refcount table (one cluster), the refcount blocks,
 * L1. Blocks count themselves, so their number is found by trying.
 */
struct layout {
	uint64_t blocks, l1_clusters, total;
};

static int lay_out(struct qcow2 *q, struct layout *l)
{
	uint64_t entries = q_l1_needed(q, q->size);

	if (entries * 8 > QCOW2_L1_BYTES_MAX) {
		return -EFBIG;
	}
	q->l1_size = (uint32_t)entries;
	l->l1_clusters = q_up(q, MAX(entries * 8, (uint64_t)8)) >> q->cluster_bits;
	l->blocks = 1;
	while ((2 + l->blocks + l->l1_clusters) > l->blocks << q->rb_bits) {
		l->blocks++;
	}
	q->rt_clusters = (uint32_t)(q_up(q, l->blocks * 8) >> q->cluster_bits);
	while ((1 + q->rt_clusters + l->blocks + l->l1_clusters) > l->blocks << q->rb_bits) {
		l->blocks++;
		q->rt_clusters = (uint32_t)(q_up(q, l->blocks * 8) >> q->cluster_bits);
	}
	q->rt_offset = q->cluster_bytes;
	q->l1_offset = (1 + q->rt_clusters + l->blocks) << q->cluster_bits;
	l->total = 1 + q->rt_clusters + l->blocks + l->l1_clusters;
	return 0;
}

static int write_counts(struct qcow2 *q, const struct layout *l, uint8_t *cluster)
{
	uint64_t first = 1 + q->rt_clusters;
	uint64_t per_cluster = q->cluster_bytes / 8;
	int r = 0;

	for (uint64_t c = 0; c < q->rt_clusters && !r; c++) {
		memset(cluster, 0, q->cluster_bytes);
		for (uint64_t i = 0; i < per_cluster && c * per_cluster + i < l->blocks; i++) {
			store_be64(cluster + i * 8, (first + c * per_cluster + i)
							    << q->cluster_bits);
		}
		r = file_write(q->file, cluster, q->cluster_bytes, (1 + c) << q->cluster_bits);
	}
	for (uint64_t b = 0; b < l->blocks && !r; b++) {
		memset(cluster, 0, q->cluster_bytes);
		for (uint64_t i = 0; i < BIT64(q->rb_bits); i++) {
			uint64_t at = (b << q->rb_bits) + i;

			refcount_store(cluster, q->refcount_order, i, at < l->total);
		}
		r = file_write(q->file, cluster, q->cluster_bytes, (first + b) << q->cluster_bits);
	}
	return r;
}

/* The header comes last, so a file that was not finished is no image. */
static int write_image(struct qcow2 *q, const struct layout *l, uint8_t *cluster)
{
	int r = file_truncate(q->file, 0);

	if (r == -ENOSPC) {
		return r; /* a block device that is too small */
	}
	r = write_counts(q, l, cluster);
	if (!r) {
		r = file_zero(q->file, q->l1_offset, l->l1_clusters << q->cluster_bits, false);
	}
	if (!r) {
		r = file_flush(q->file);
	}
	if (!r) {
		r = q_header_build(q, cluster, true);
	}
	if (!r) {
		r = file_write(q->file, cluster, q->cluster_bytes, 0);
	}
	return r < 0 ? r : file_flush(q->file);
}

int qcow2_create(struct file *file, const struct qcow2_create_options *o, char *error,
		 size_t error_size)
{
	struct qcow2 *q = new_object(file);
	uint8_t *cluster = NULL;
	struct layout l;
	int r;

	if (!q) {
		return q_fail(-ENOMEM, error, error_size, "out of memory");
	}
	r = check_shape(o, o->version ? o->version : 3, o->cluster_bytes ? o->cluster_bytes : 65536,
			o->refcount_bits ? o->refcount_bits : 16, error, error_size);
	if (!r) {
		r = check_names(o, error, error_size);
	}
	if (r < 0) {
		q_free(q);
		return r;
	}
	set_shape(q, o);
	r = set_names(q, o);
	if (!r) {
		r = lay_out(q, &l);
	}
	if (!r) {
		cluster = malloc(q->cluster_bytes);
		r = cluster ? write_image(q, &l, cluster) : -ENOMEM;
	}
	free(cluster);
	q_free(q);
	if (r == -EFBIG) {
		return q_fail(r, error, error_size,
			      "a disk of this size needs larger clusters; give cluster_size");
	}
	return r < 0 ? q_fail(r, error, error_size, "cannot be made: %s",
			      r == -ENOSPC
				      ? "no space is left, or the names do not fit in a cluster"
				      : strerror(-r))
		     : 0;
}
