/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent bitmaps: not used here, but kept. Their clusters are counted by
 * check, and an image whose bitmap records writes is not opened for writing, since
 * the bitmap would be wrong and nobody would know.
 */
#include <stdlib.h>

#include "block/qcow2_int.h"

/* A row of the directory: offsets. */
enum bitmap_at {
	BM_TABLE_OFFSET = 0,
	BM_TABLE_SIZE = 8,
	BM_FLAGS = 12,
	BM_NAME_SIZE = 18,
	BM_EXTRA_SIZE = 20,
	BM_FIXED_BYTES = 24,
};

#define TABLE_ENTRIES_MAX (MIB(64) / 8)
#define NAME_BYTES_MAX    1023

static int walk_table(struct qcow2 *q, const struct bitmap_visitor *v, uint64_t at, uint32_t size)
{
	uint64_t bytes = (uint64_t)size * 8;
	uint8_t *table;
	int r;

	if (!size || !v->range) {
		return 0;
	}
	if (size > TABLE_ENTRIES_MAX || at & (q->cluster_bytes - 1)) {
		return -EUCLEAN;
	}
	r = v->range(v->opaque, at, bytes);
	table = r < 0 ? NULL : malloc(bytes);
	if (!table) {
		return r < 0 ? r : -ENOMEM;
	}
	r = file_read(q->file, table, bytes, at);
	for (uint32_t i = 0; i < size && !r; i++) {
		uint64_t cluster = load_be64(table + (size_t)i * 8) & QE_OFFSET;

		r = cluster ? v->range(v->opaque, cluster, q->cluster_bytes) : 0;
	}
	free(table);
	return r;
}

static int walk_row(struct qcow2 *q, const struct bitmap_visitor *v, const uint8_t *row,
		    size_t left, size_t *ret_bytes)
{
	uint32_t extra, name_len;
	char name[NAME_BYTES_MAX + 1];
	int r = 0;

	if (left < BM_FIXED_BYTES) {
		return -EUCLEAN;
	}
	extra = load_be32(row + BM_EXTRA_SIZE);
	name_len = load_be16(row + BM_NAME_SIZE);
	if (name_len > NAME_BYTES_MAX || extra > left ||
	    BM_FIXED_BYTES + (size_t)extra + name_len > left) {
		return -EUCLEAN;
	}
	memcpy(name, row + BM_FIXED_BYTES + extra, name_len);
	name[name_len] = '\0';
	if (v->bitmap) {
		r = v->bitmap(v->opaque, name, load_be32(row + BM_FLAGS));
	}
	*ret_bytes = ALIGN_UP((size_t)BM_FIXED_BYTES + extra + name_len, 8);
	return r < 0 ? r
		     : walk_table(q, v, load_be64(row + BM_TABLE_OFFSET),
				  load_be32(row + BM_TABLE_SIZE));
}

int q_bitmaps_walk(struct qcow2 *q, const struct bitmap_visitor *v)
{
	size_t at = 0, bytes;
	uint8_t *dir = malloc(MAX(q->bitmap_dir_bytes, (uint64_t)1));
	int r = dir ? file_read(q->file, dir, q->bitmap_dir_bytes, q->bitmap_dir_offset) : -ENOMEM;

	if (!r && v->range) {
		r = v->range(v->opaque, q->bitmap_dir_offset, q->bitmap_dir_bytes);
	}
	for (uint32_t i = 0; i < q->bitmap_count && !r; i++) {
		r = at > q->bitmap_dir_bytes
			    ? -EUCLEAN
			    : walk_row(q, v, dir + at, q->bitmap_dir_bytes - at, &bytes);
		at += r < 0 ? 0 : bytes;
	}
	free(dir);
	return r;
}
