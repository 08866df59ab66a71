/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Another size, another backing file.
 *
 * Growing: what lies behind the old end is made to read as zeroes first
 * (the last cluster's rest, what a larger backing image has there, what an
 * earlier shrink was cut off at), L1 grows, then the header says the new
 * size. Shrinking: the header first, then what lies behind the new end is given
 * back. So a cut leaves the old size or the new one, whole.
 */
#include <stdlib.h>

#include "block/cursor_int.h"
#include "block/image.h"
#include "block/qcow2_int.h"

/* Exclusive. Write the header and make it stable; else nobody knows what it says. */
static int header_locked(struct qcow2 *q)
{
	int r = q_commit_locked(q);

	if (!r) {
		r = q_header_write(q);
		if (!r) {
			r = file_flush(q->file);
		}
		if (r < 0) {
			q->failed = r;
		}
	}
	return r;
}

/* Exclusive. A larger L1 table in new clusters; the header leads there when it returns 0. */
static int grow_l1_locked(struct qcow2 *q, uint64_t entries)
{
	uint64_t old_offset = q->l1_offset, bytes = q_up(q, entries * 8), first;
	uint32_t old_size = q->l1_size;
	uint64_t *l1, *old = q->l1;
	uint8_t *raw;
	int r = q_settle_locked(q);

	if (r < 0 || entries <= old_size) {
		return r;
	}
	l1 = calloc(entries, 8);
	raw = calloc(1, bytes);
	r = l1 && raw ? clusters_alloc_row_locked(q, bytes >> q->cluster_bits, &first) : -ENOMEM;
	if (!r) {
		memcpy(l1, q->l1, (size_t)old_size * 8);
		for (uint32_t i = 0; i < old_size; i++) {
			store_be64(raw + (size_t)i * 8, l1[i]);
		}
		r = file_write(q->file, raw, bytes, first << q->cluster_bits);
	}
	free(raw);
	if (!r) {
		r = q_commit_locked(q);
	}
	if (r < 0) {
		free(l1);
		return r; /* clusters that were taken leak */
	}
	q->l1 = l1;
	q->l1_size = (uint32_t)entries;
	q->l1_offset = first << q->cluster_bits;
	free(old);
	r = header_locked(q);
	return r < 0 || !old_size
		       ? r
		       : clusters_unlink_locked(q, q_cluster_of(q, old_offset),
						q_up(q, (uint64_t)old_size * 8) >> q->cluster_bits);
}

/* Zero the rest of the cluster that the old end lies in, if it holds anything. */
static int zero_rest(struct qcow2 *q, uint64_t old_size, uint64_t new_size)
{
	uint64_t end = MIN(q_up(q, old_size), new_size);

	return old_size < end ? q_zero_any(q, old_size, end - old_size) : 0;
}

/* Make [start, end), whole clusters behind the old end, read as zeroes. */
static int zero_behind(struct qcow2 *q, uint64_t start, uint64_t end)
{
	uint64_t backing_end = q->backing ? image_size_bytes(q->backing) : 0;
	uint64_t covered = MIN(end, q_up(q, backing_end));
	int r = 0;

	if (start < covered) {
		if (q->version < 3) {
			return -ENOTSUP;
		}
		r = q_change_clusters(q, start, covered, Q_ZERO_UNMAP);
		start = covered;
	}
	return r < 0 || start >= end ? r : q_change_clusters(q, start, end, Q_UNALLOCATE);
}

static int take(struct qcow2 *q)
{
	pthread_mutex_lock(&q->lock);
	q_exclusive_begin_locked(q);
	return q->failed;
}

static void leave(struct qcow2 *q)
{
	q_exclusive_end_locked(q);
	pthread_mutex_unlock(&q->lock);
}

static int grow(struct qcow2 *q, uint64_t size, enum qcow2_preallocation mode)
{
	uint64_t old = q->size, needed = q_l1_needed(q, size);
	int r = needed * 8 > QCOW2_L1_BYTES_MAX ? -EFBIG : take(q);

	if (needed * 8 > QCOW2_L1_BYTES_MAX) {
		return r;
	}
	if (!r) {
		r = grow_l1_locked(q, needed);
	}
	leave(q);
	if (!r) {
		r = zero_rest(q, old, size);
	}
	if (!r) {
		r = zero_behind(q, q_up(q, old), q_up(q, size));
	}
	/* Behind the disk's end nobody reads yet, so it may be allocated before the switch. */
	if (!r) {
		r = qcow2_preallocate(q, q_up(q, old), q_up(q, size) - q_up(q, old), mode);
	}
	if (r < 0) {
		return r;
	}
	r = take(q);
	if (!r) {
		q->size = size;
		r = header_locked(q);
	}
	leave(q);
	return r;
}

static int shrink(struct qcow2 *q, uint64_t size)
{
	uint64_t old = q->size, end, file_end = 0;
	int r = take(q);

	if (!r) {
		q->size = size;
		r = header_locked(q);
	}
	leave(q);
	end = q_up(q, old);
	if (!r) {
		r = q_change_clusters(q, q_up(q, size), end, Q_UNALLOCATE);
	}
	if (!r) {
		pthread_mutex_lock(&q->lock);
		r = q_settle_locked(q);
		pthread_mutex_unlock(&q->lock);
	}
	if (!r && (q->autoclear & QA_RAW_DATA_FILE) && file_size(q->data, &file_end) == 0 &&
	    file_end > size) {
		r = file_truncate(q->data, size);
	}
	return r;
}

int qcow2_resize(struct qcow2 *q, uint64_t size, enum qcow2_preallocation mode, char *error,
		 size_t error_size)
{
	int r;

	size = ALIGN_UP(size, (uint64_t)512);
	if (q->readonly) {
		return q_fail(-EROFS, error, error_size, "the image is open read-only");
	}
	if (size > (uint64_t)INT64_MAX - BIT(21)) {
		return q_fail(-EINVAL, error, error_size, "the size is too large");
	}
	if (q->snapshot_count && q->version < 3) {
		return q_fail(
			-ENOTSUP, error, error_size,
			"an image of version 2 with snapshots cannot be resized; delete them");
	}
	if (q->has_bitmaps) {
		return q_fail(
			-ENOTSUP, error, error_size,
			"an image with bitmaps cannot be resized; remove them: qemu-img bitmap");
	}
	r = size < q->size ? shrink(q, size) : grow(q, size, mode);
	if (r == -EFBIG) {
		return q_fail(r, error, error_size,
			      "a disk of this size needs larger clusters: convert it");
	}
	if (r == -ENOTSUP) {
		return q_fail(
			r, error, error_size,
			"version 2 cannot hide what the larger backing image has behind the end");
	}
	return r < 0 ? q_fail(r, error, error_size, "cannot be resized: %s", strerror(-r)) : 0;
}

/* --- backing file -------------------------------------------------------------------------- */

/* Write the first cluster anew. Sectors behind the first hold only names and padding. */
static int rewrite_header_locked(struct qcow2 *q)
{
	uint8_t *cluster = malloc(q->cluster_bytes);
	int r = cluster ? q_header_build(q, cluster, false) : -ENOMEM;

	if (!r) {
		r = q_commit_locked(q);
	}
	if (!r) {
		r = file_write(q->file, cluster, q->cluster_bytes, 0);
	}
	if (!r) {
		r = file_flush(q->file);
	}
	free(cluster);
	return r;
}

int qcow2_change_backing(struct qcow2 *q, const char *name, const char *format, char *error,
			 size_t error_size)
{
	char *old_name = q->backing_name, *old_format = q->backing_format;
	int r;

	if (q->readonly) {
		return q_fail(-EROFS, error, error_size, "the image is open read-only");
	}
	if (name && (!format || !*name || strlen(name) > QCOW2_BACKING_NAME_MAX)) {
		return q_fail(-EINVAL, error, error_size,
			      "give the backing file's name and format");
	}
	r = take(q);
	q->backing_name = name ? strdup(name) : NULL;
	q->backing_format = name ? strdup(format) : NULL;
	if (!r) {
		r = name && (!q->backing_name || !q->backing_format) ? -ENOMEM
								     : rewrite_header_locked(q);
	}
	if (r < 0) {
		free(q->backing_name);
		free(q->backing_format);
		q->backing_name = old_name;
		q->backing_format = old_format;
	} else {
		free(old_name);
		free(old_format);
	}
	leave(q);
	return r < 0 ? q_fail(r, error, error_size, "its header cannot be written: %s",
			      r == -ENOSPC ? "the name does not fit in a cluster" : strerror(-r))
		     : 0;
}
