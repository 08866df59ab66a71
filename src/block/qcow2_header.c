/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header: read as untrusted input, every field checked before use; written
 * as one sector, so that a power cut leaves the old or the new one.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/guest_log.h"
#include "block/block_int.h"
#include "block/qcow2_int.h"

#define FEATURE_ROW_BYTES 48

int q_fail(int err, char *error, size_t size, const char *fmt, ...)
{
	va_list ap;

	if (error && size) {
		va_start(ap, fmt);
		vsnprintf(error, size, fmt, ap);
		va_end(ap);
	}
	return err;
}

static const struct {
	uint8_t type, bit; /* type as in the feature name table */
	const char *name;
} feature_names[] = {
	{ 0, 0, "dirty bit" },
	{ 0, 1, "corrupt bit" },
	{ 0, 2, "external data file" },
	{ 0, 3, "compression type" },
	{ 0, 4, "extended L2 entries" },
	{ 1, 0, "lazy refcounts" },
	{ 2, 0, "bitmaps" },
	{ 2, 1, "raw external data" },
};

/* --- reading ---------------------------------------------------------------------------- */

static void load_fixed(struct qcow2 *q, const uint8_t *h)
{
	q->version = load_be32(h + QH_VERSION);
	q->cluster_bits = load_be32(h + QH_CLUSTER_BITS);
	q->size = load_be64(h + QH_SIZE);
	q->l1_size = load_be32(h + QH_L1_SIZE);
	q->l1_offset = load_be64(h + QH_L1_OFFSET);
	q->rt_offset = load_be64(h + QH_RT_OFFSET);
	q->rt_clusters = load_be32(h + QH_RT_CLUSTERS);
	q->snapshot_count = load_be32(h + QH_SNAPSHOTS);
	q->snapshots_offset = load_be64(h + QH_SNAPSHOTS_OFFSET);
	q->refcount_order = 4;
	q->header_length = QH_V2_BYTES;
	if (q->version >= 3) {
		q->incompatible = load_be64(h + QH_INCOMPATIBLE);
		q->compatible = load_be64(h + QH_COMPATIBLE);
		q->autoclear = load_be64(h + QH_AUTOCLEAR);
		q->refcount_order = load_be32(h + QH_REFCOUNT_ORDER);
		q->header_length = load_be32(h + QH_HEADER_LENGTH);
	}
}

/* The image's own name for an incompatible feature that we do not know; "" if it has none. */
static void unknown_name(const uint8_t *table, size_t bytes, unsigned bit, char *name, size_t size)
{
	name[0] = '\0';
	for (size_t at = 0; at + FEATURE_ROW_BYTES <= bytes; at += FEATURE_ROW_BYTES) {
		if (table[at] == 0 && table[at + 1] == bit) {
			snprintf(name, size, " (%.46s)", (const char *)table + at + 2);
			break;
		}
	}
	for (char *c = name; *c; c++) {
		*c = (char)(*c < ' ' || *c > '~' ? '?' : *c);
	}
}

static int check_features(struct qcow2 *q, const uint8_t *table, size_t bytes, char *error,
			  size_t size)
{
	uint64_t unknown = q->incompatible & ~(uint64_t)QI_KNOWN;
	char name[64];

	if (!unknown) {
		return 0;
	}
	unknown_name(table, bytes, (unsigned)__builtin_ctzll(unknown), name, sizeof(name));
	return q_fail(-ENOTSUP, error, size,
		      "needs the incompatible feature %u%s, which is not known here; convert it by "
		      "the program that made it",
		      (unsigned)__builtin_ctzll(unknown), name);
}

static int check_geometry(struct qcow2 *q, const uint8_t *h, char *error, size_t size)
{
	static const char *const crypt[] = { "", "AES encryption", "LUKS encryption" };
	uint32_t method = load_be32(h + QH_CRYPT);

	if (q->cluster_bits < QCOW2_CLUSTER_BITS_MIN || q->cluster_bits > QCOW2_CLUSTER_BITS_MAX) {
		return q_fail(-EUCLEAN, error, size, "clusters of 2^%u bytes are not allowed",
			      q->cluster_bits);
	}
	if (method) {
		return q_fail(-ENOTSUP, error, size,
			      "%s is not supported; decrypt it: qemu-img convert",
			      method < ARRAY_SIZE(crypt) ? crypt[method] : "an unknown encryption");
	}
	if (q->refcount_order > QCOW2_REFCOUNT_ORDER_MAX) {
		return q_fail(-EUCLEAN, error, size,
			      "reference counts of 2^%u bits are not allowed", q->refcount_order);
	}
	if ((q->incompatible & QI_EXTENDED_L2) && q->cluster_bits < QCOW2_EXT_CLUSTER_BITS) {
		return q_fail(-EUCLEAN, error, size,
			      "extended L2 entries in clusters below 16 KiB");
	}
	if (q->header_length < (q->version == 2 ? QH_V2_BYTES : QH_V3_BYTES) ||
	    q->header_length > BIT(q->cluster_bits) || q->header_length % 8) {
		return q_fail(-EUCLEAN, error, size, "a header of %u bytes is not allowed",
			      q->header_length);
	}
	if (q->size > (uint64_t)INT64_MAX - BIT(21)) {
		return q_fail(-EUCLEAN, error, size, "a disk of %llu bytes is not allowed",
			      (unsigned long long)q->size);
	}
	return 0;
}

static int check_compression(struct qcow2 *q, const uint8_t *h, char *error, size_t size)
{
	unsigned type = q->header_length > QH_COMPRESSION && q->version > 2 ? h[QH_COMPRESSION] : 0;

	if (type >= QCOW2_COMPRESSION_COUNT) {
		return q_fail(-ENOTSUP, error, size, "compression type %u is not known here", type);
	}
	if ((type != QCOW2_ZLIB) != !!(q->incompatible & QI_COMPRESSION)) {
		return q_fail(-EUCLEAN, error, size,
			      "its compression type contradicts its features");
	}
	q->compression = type;
	return 0;
}

static void derive(struct qcow2 *q)
{
	bool extended = q->incompatible & QI_EXTENDED_L2;

	q->cluster_bytes = BIT(q->cluster_bits);
	q->slice_bits = MIN(q->cluster_bits, (unsigned)QCOW2_SLICE_BITS);
	q->entry_bytes = extended ? 16 : 8;
	q->l2_bits = q->cluster_bits - (extended ? 4 : 3);
	q->subclusters = extended ? QCOW2_SUBCLUSTERS : 1;
	q->rb_bits = q->cluster_bits + 3 - q->refcount_order;
	q->refcount_max = q->refcount_order == 6 ? UINT64_MAX : BIT64(BIT(q->refcount_order)) - 1;
}

/* A table of the header lies on clusters, within what an offset can name. */
static bool table_ok(const struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
	return !(offset & (q->cluster_bytes - 1)) && offset >= q->cluster_bytes &&
	       range_within(offset, bytes, BIT64(QCOW2_HOST_BITS));
}

static int check_tables(struct qcow2 *q, char *error, size_t size)
{
	uint64_t l1_bytes = (uint64_t)q->l1_size * 8;
	uint64_t rt_bytes = (uint64_t)q->rt_clusters * q->cluster_bytes;

	if (l1_bytes > QCOW2_L1_BYTES_MAX) {
		return q_fail(-EUCLEAN, error, size, "an L1 table of %u entries is too large",
			      q->l1_size);
	}
	if (q->l1_size < q_l1_needed(q, q->size)) {
		return q_fail(-EUCLEAN, error, size, "its L1 table is too small for its size");
	}
	if (q->l1_size && !table_ok(q, q->l1_offset, l1_bytes)) {
		return q_fail(-EUCLEAN, error, size, "its L1 table is at a bad place");
	}
	if (!q->rt_clusters || rt_bytes > QCOW2_RT_BYTES_MAX) {
		return q_fail(-EUCLEAN, error, size,
			      "a refcount table of %u clusters is not allowed", q->rt_clusters);
	}
	if (!table_ok(q, q->rt_offset, rt_bytes)) {
		return q_fail(-EUCLEAN, error, size, "its refcount table is at a bad place");
	}
	if (q->snapshot_count > QCOW2_SNAPSHOTS_MAX) {
		return q_fail(-EUCLEAN, error, size, "%u snapshots are too many",
			      q->snapshot_count);
	}
	if (q->snapshot_count && !table_ok(q, q->snapshots_offset, 8)) {
		return q_fail(-EUCLEAN, error, size, "its snapshot table is at a bad place");
	}
	return 0;
}

static char *take_string(const uint8_t *at, size_t len)
{
	return memchr(at, 0, len) ? NULL : strndup((const char *)at, len);
}

static int read_bitmaps(struct qcow2 *q, const uint8_t *x, uint32_t len, char *error, size_t size)
{
	if (!(q->autoclear & QA_BITMAPS)) {
		return 0; /* a program that does not know them has written to the image: void */
	}
	if (len != 24) {
		return q_fail(-EUCLEAN, error, size, "its bitmaps' header is damaged");
	}
	q->bitmap_count = load_be32(x);
	q->bitmap_dir_bytes = load_be64(x + 8);
	q->bitmap_dir_offset = load_be64(x + 16);
	if (!q->bitmap_count || q->bitmap_count > QCOW2_BITMAPS_MAX ||
	    q->bitmap_dir_bytes > QCOW2_BITMAP_DIR_MAX ||
	    !table_ok(q, q->bitmap_dir_offset, q->bitmap_dir_bytes)) {
		return q_fail(-EUCLEAN, error, size, "its bitmaps' directory is at a bad place");
	}
	q->has_bitmaps = true;
	return 0;
}

static int read_extension(struct qcow2 *q, uint32_t type, const uint8_t *x, uint32_t len,
			  char *error, size_t size)
{
	switch (type) {
	case QX_BACKING_FORMAT:
		free(q->backing_format);
		q->backing_format = take_string(x, len);
		return q->backing_format && len < 32
			       ? 0
			       : q_fail(-EUCLEAN, error, size,
					"its backing file's format is damaged");
	case QX_DATA_FILE:
		free(q->data_name);
		q->data_name = take_string(x, len);
		return q->data_name
			       ? 0
			       : q_fail(-EUCLEAN, error, size, "its data file's name is damaged");
	case QX_FEATURES:
		return check_features(q, x, len, error, size);
	case QX_BITMAPS:
		return read_bitmaps(q, x, len, error, size);
	case QX_ENCRYPTION:
		return q_fail(-ENOTSUP, error, size,
			      "LUKS encryption is not supported; decrypt it: qemu-img convert");
	default:
		return 0; /* not to be known is no harm; it stays where it is */
	}
}

static int read_extensions(struct qcow2 *q, const uint8_t *cluster, size_t end, char *error,
			   size_t size)
{
	size_t at = q->header_length;

	while (at + 8 <= end) {
		uint32_t type = load_be32(cluster + at), len = load_be32(cluster + at + 4);
		int r;

		at += 8;
		if (type == QX_END) {
			return 0;
		}
		if (len > end - at) {
			return q_fail(-EUCLEAN, error, size, "a header extension is too long");
		}
		r = read_extension(q, type, cluster + at, len, error, size);
		if (r < 0) {
			return r;
		}
		at += ALIGN_UP((size_t)len, 8);
	}
	return 0;
}

static int read_backing_name(struct qcow2 *q, const uint8_t *cluster, uint64_t *ret_end,
			     char *error, size_t size)
{
	uint64_t at = load_be64(cluster + QH_BACKING_OFFSET);
	uint32_t len = load_be32(cluster + QH_BACKING_SIZE);

	*ret_end = q->cluster_bytes;
	if (!at) {
		return 0;
	}
	if (len > QCOW2_BACKING_NAME_MAX || !len || at < q->header_length ||
	    !range_within(at, len, q->cluster_bytes)) {
		return q_fail(-EUCLEAN, error, size, "its backing file's name is at a bad place");
	}
	q->backing_name = take_string(cluster + at, len);
	*ret_end = at;
	return q->backing_name
		       ? 0
		       : q_fail(-EUCLEAN, error, size, "its backing file's name is damaged");
}

static int read_cluster(struct qcow2 *q, const uint8_t *fixed, char *error, size_t size)
{
	uint8_t *cluster = malloc(q->cluster_bytes);
	uint64_t end;
	int r;

	if (!cluster) {
		return q_fail(-ENOMEM, error, size, "out of memory");
	}
	r = file_read(q->file, cluster, q->cluster_bytes, 0);
	if (r < 0) {
		q_fail(r, error, size, "its header cannot be read: %s", strerror(-r));
	}
	if (!r) {
		memcpy(cluster, fixed, QH_V3_LONG_BYTES); /* what has been checked */
		r = read_backing_name(q, cluster, &end, error, size);
	}
	if (!r) {
		r = read_extensions(q, cluster, (size_t)end, error, size);
	}
	free(cluster);
	return r < 0 ? r : check_features(q, NULL, 0, error, size);
}

int q_header_read(struct qcow2 *q, char *error, size_t size)
{
	uint8_t h[QH_V3_LONG_BYTES];
	int r = file_read(q->file, h, sizeof(h), 0);

	if (r < 0) {
		return q_fail(r, error, size, "its header cannot be read: %s", strerror(-r));
	}
	if (load_be32(h + QH_MAGIC) != QCOW2_MAGIC) {
		return q_fail(-EMEDIUMTYPE, error, size,
			      "is no qcow2 image; state the format that it has");
	}
	load_fixed(q, h);
	if (q->version != 2 && q->version != 3) {
		return q_fail(-ENOTSUP, error, size,
			      "qcow2 version %u is not known here; 2 and 3 are", q->version);
	}
	r = check_geometry(q, h, error, size);
	if (!r) {
		derive(q);
		r = read_cluster(q, h, error, size);
	}
	if (!r) {
		r = check_compression(q, h, error, size);
	}
	return r < 0 ? r : check_tables(q, error, size);
}

/* --- writing ----------------------------------------------------------------------------- */

static void store_fixed(const struct qcow2 *q, uint8_t *h)
{
	store_be32(h + QH_MAGIC, QCOW2_MAGIC);
	store_be32(h + QH_VERSION, q->version);
	store_be32(h + QH_CLUSTER_BITS, q->cluster_bits);
	store_be64(h + QH_SIZE, q->size);
	store_be32(h + QH_L1_SIZE, q->l1_size);
	store_be64(h + QH_L1_OFFSET, q->l1_offset);
	store_be64(h + QH_RT_OFFSET, q->rt_offset);
	store_be32(h + QH_RT_CLUSTERS, q->rt_clusters);
	store_be32(h + QH_SNAPSHOTS, q->snapshot_count);
	store_be64(h + QH_SNAPSHOTS_OFFSET, q->snapshots_offset);
	if (q->version < 3) {
		return;
	}
	store_be64(h + QH_INCOMPATIBLE, q->incompatible);
	store_be64(h + QH_COMPATIBLE, q->compatible);
	store_be64(h + QH_AUTOCLEAR, q->autoclear);
	store_be32(h + QH_REFCOUNT_ORDER, q->refcount_order);
	store_be32(h + QH_HEADER_LENGTH, q->header_length);
}

int q_header_write(struct qcow2 *q)
{
	uint8_t sector[512];
	int r = file_read(q->file, sector, sizeof(sector), 0);

	if (r < 0) {
		return r;
	}
	store_fixed(q, sector);
	return file_write(q->file, sector, sizeof(sector), 0);
}

struct builder {
	uint8_t *at, *end;
};

static int put_extension(struct builder *b, uint32_t type, const void *data, size_t len)
{
	size_t padded = ALIGN_UP(len, 8);

	if ((size_t)(b->end - b->at) < 8 + padded) {
		return -ENOSPC;
	}
	store_be32(b->at, type);
	store_be32(b->at + 4, (uint32_t)len);
	memset(b->at + 8, 0, padded);
	if (len) {
		memcpy(b->at + 8, data, len);
	}
	b->at += 8 + padded;
	return 0;
}

static int put_bitmaps(const struct qcow2 *q, struct builder *b)
{
	uint8_t x[24] = { 0 };

	store_be32(x, q->bitmap_count);
	store_be64(x + 8, q->bitmap_dir_bytes);
	store_be64(x + 16, q->bitmap_dir_offset);
	return q->has_bitmaps ? put_extension(b, QX_BITMAPS, x, sizeof(x)) : 0;
}

/* Only for people that read the image elsewhere, so left out where room is short. */
static void put_features(struct builder *b)
{
	uint8_t rows[ARRAY_SIZE(feature_names) * FEATURE_ROW_BYTES] = { 0 };

	for (unsigned i = 0; i < ARRAY_SIZE(feature_names); i++) {
		uint8_t *row = rows + (size_t)i * FEATURE_ROW_BYTES;

		row[0] = feature_names[i].type;
		row[1] = feature_names[i].bit;
		memcpy(row + 2, feature_names[i].name, strlen(feature_names[i].name));
	}
	if (b->end - b->at > (ptrdiff_t)sizeof(rows) + 1200) {
		(void)put_extension(b, QX_FEATURES, rows, sizeof(rows));
	}
}

static int put_backing(const struct qcow2 *q, uint8_t *cluster, struct builder *b)
{
	size_t len = q->backing_name ? strlen(q->backing_name) : 0;

	if (!len) {
		return 0;
	}
	if ((size_t)(b->end - b->at) < len) {
		return -ENOSPC;
	}
	memcpy(b->at, q->backing_name, len);
	store_be64(cluster + QH_BACKING_OFFSET, (uint64_t)(b->at - cluster));
	store_be32(cluster + QH_BACKING_SIZE, (uint32_t)len);
	return 0;
}

int q_header_build(struct qcow2 *q, uint8_t *cluster, bool features)
{
	struct builder b = { cluster + q->header_length, cluster + q->cluster_bytes };
	int r = 0;

	memset(cluster, 0, q->cluster_bytes);
	store_fixed(q, cluster);
	if (q->header_length > QH_COMPRESSION && q->version > 2) {
		cluster[QH_COMPRESSION] = (uint8_t)q->compression;
	}
	if (q->backing_format) {
		r = put_extension(&b, QX_BACKING_FORMAT, q->backing_format,
				  strlen(q->backing_format));
	}
	if (!r && q->data_name) {
		r = put_extension(&b, QX_DATA_FILE, q->data_name, strlen(q->data_name));
	}
	if (!r) {
		r = put_bitmaps(q, &b);
	}
	if (!r && q->version >= 3 && features) {
		put_features(&b);
	}
	if (!r) {
		r = put_extension(&b, QX_END, NULL, 0);
	}
	return r < 0 ? r : put_backing(q, cluster, &b);
}

int q_corrupt_locked(struct qcow2 *q, const char *what, uint64_t where)
{
	guest_log("qcow2: damaged image: %s at 0x%llx; see: lodge image check", what,
		  (unsigned long long)where);
	if (!q->readonly && !q->failed) {
		q->failed = -EIO;
		if (q->version >= 3) {
			q->incompatible |= QI_CORRUPT;
			(void)q_header_write(q);
		}
	}
	return -EIO;
}
