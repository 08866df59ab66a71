/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters: raw deflate with a window of 4 KiB, or zstd. They are
 * packed one behind the other at any byte, so several share a cluster, and each
 * counts as one reference to it.
 */
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "block/qcow2_int.h"

#define DEFLATE_WINDOW (-12) /* raw, 4 KiB: what the format asks for */

/* --- unpacking ---------------------------------------------------------------------------- */

static int unpack_zlib(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	z_stream z = { .next_in = (uint8_t *)in,
		       .avail_in = (unsigned)in_len,
		       .next_out = out,
		       .avail_out = (unsigned)out_len };
	int r;

	if (inflateInit2(&z, DEFLATE_WINDOW) != Z_OK) {
		return -ENOMEM;
	}
	r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return (r == Z_STREAM_END || r == Z_BUF_ERROR) && !z.avail_out ? 0 : -EIO;
}

static int unpack_zstd(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	ZSTD_DCtx *z = ZSTD_createDCtx();
	ZSTD_inBuffer src = { in, in_len, 0 };
	ZSTD_outBuffer dst = { out, out_len, 0 };
	int r = z ? 0 : -ENOMEM;

	while (!r && dst.pos < dst.size) {
		size_t in_before = src.pos, out_before = dst.pos;

		if (ZSTD_isError(ZSTD_decompressStream(z, &dst, &src)) ||
		    (src.pos == in_before && dst.pos == out_before)) {
			r = -EIO;
		}
	}
	ZSTD_freeDCtx(z);
	return r;
}

static int unpack(struct qcow2 *q, const uint8_t *in, size_t in_len, uint8_t *out)
{
	return q->compression == QCOW2_ZSTD ? unpack_zstd(in, in_len, out, q->cluster_bytes)
					    : unpack_zlib(in, in_len, out, q->cluster_bytes);
}

int qcow2_read_compressed(struct qcow2 *q, uint64_t entry, size_t skip, void *buf, size_t len)
{
	uint64_t at, packed;
	uint8_t *in, *out;
	int r;

	compressed_range(q, entry, &at, &packed);
	in = malloc(packed); /* two clusters at the most */
	out = malloc(q->cluster_bytes);
	r = in && out ? file_read(q->file, in, packed, at) : -ENOMEM;
	if (!r) {
		r = unpack(q, in, packed, out);
	}
	if (!r) {
		memcpy(buf, out + skip, len);
	}
	free(in);
	free(out);
	return r;
}

/* --- packing -------------------------------------------------------------------------------- */

/* 0: it does not get smaller. */
static size_t pack_zlib(const uint8_t *in, size_t len, uint8_t *out, size_t out_len)
{
	z_stream z = { .next_in = (uint8_t *)in,
		       .avail_in = (unsigned)len,
		       .next_out = out,
		       .avail_out = (unsigned)out_len };
	int r;

	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, DEFLATE_WINDOW, 9,
			 Z_DEFAULT_STRATEGY) != Z_OK) {
		return 0;
	}
	r = deflate(&z, Z_FINISH);
	deflateEnd(&z);
	return r == Z_STREAM_END ? out_len - z.avail_out : 0;
}

static size_t pack(struct qcow2 *q, const uint8_t *in, uint8_t *out)
{
	size_t len = q->cluster_bytes, room = len - 1;
	size_t n;

	if (q->compression == QCOW2_ZLIB) {
		return pack_zlib(in, len, out, room);
	}
	n = ZSTD_compress(out, room, in, len, ZSTD_CLEVEL_DEFAULT);
	return ZSTD_isError(n) ? 0 : n;
}

/* Room for `size` bytes behind what was packed last. May let go. */
static int alloc_bytes_locked(struct qcow2 *q, size_t size, uint64_t *ret_at)
{
	uint64_t first, count, at, in_cluster;
	bool fresh, shared = false;
	int r;

	in_cluster = q->packed_at & (q->cluster_bytes - 1);
	if (in_cluster && size <= q->cluster_bytes - in_cluster) {
		at = q->packed_at;
		r = refcount_add_locked(q, q_cluster_of(q, at), 1, 1);
		if (!r) {
			q->packed_at = (at + size) & (q->cluster_bytes - 1) ? at + size : 0;
			*ret_at = at;
		}
		if (r != -EOVERFLOW) {
			return r;
		}
		q->packed_at = 0; /* as many share it as can be counted */
	}
	r = clusters_alloc_locked(q, 1, &first, &count, &fresh);
	if (r < 0) {
		return r;
	}
	at = first << q->cluster_bits;
	in_cluster = q->packed_at & (q->cluster_bytes - 1);
	if (in_cluster && q_cluster_of(q, q->packed_at) + 1 == first) {
		shared = refcount_add_locked(q, first - 1, 1, 1) == 0;
	}
	at = shared ? q->packed_at : at;
	q->packed_at = (at + size) & (q->cluster_bytes - 1) ? at + size : 0;
	*ret_at = at;
	return 0;
}

static uint64_t entry_of(const struct qcow2 *q, uint64_t at, size_t size)
{
	uint64_t sectors = ((at + size - 1) >> 9) - (at >> 9);

	return QE_COMPRESSED | sectors << (62 - (q->cluster_bits - 8)) | at;
}

static void give_back_locked(struct qcow2 *q, uint64_t at, size_t size)
{
	uint64_t first = q_cluster_of(q, at), last = q_cluster_of(q, at + size - 1);

	q->packed_at = 0;
	clusters_free_now_locked(q, first, last - first + 1);
}

static int link_locked(struct qcow2 *q, uint64_t offset, uint64_t entry)
{
	struct slot *s;
	unsigned index;
	int r = map_own_l2_locked(q, offset);

	if (!r) {
		r = map_slice_locked(q, offset, false, &s, &index);
	}
	if (!r) {
		map_store_locked(q, s, index, (struct l2_entry){ entry, 0 });
	}
	return r;
}

/* Nothing lies at `offset` yet? */
static int is_empty_locked(struct qcow2 *q, uint64_t offset, bool *ret)
{
	struct qcow2_extent x;
	int r = map_lookup_locked(q, offset, q->cluster_bytes, false, &x);

	*ret = !r && x.len == q->cluster_bytes &&
	       (x.kind == QCOW2_UNALLOCATED || x.kind == QCOW2_ZERO);
	return r;
}

/* Entered, and its range is ours. -EEXIST: something lies there. */
static int store_locked(struct qcow2 *q, uint64_t offset, const uint8_t *packed, size_t size)
{
	uint64_t at = 0;
	bool empty;
	int r = is_empty_locked(q, offset, &empty);

	if (r < 0 || !empty) {
		return r < 0 ? r : -EEXIST;
	}
	r = alloc_bytes_locked(q, size, &at);
	if (r < 0) {
		return r;
	}
	if (at + size > BIT64(62 - (q->cluster_bits - 8))) {
		give_back_locked(q, at, size);
		return -EEXIST; /* farther than such an entry reaches: uncompressed, then */
	}
	pthread_mutex_unlock(&q->lock);
	r = file_write(q->file, packed, size, at);
	pthread_mutex_lock(&q->lock);
	if (!r) {
		r = link_locked(q, offset, entry_of(q, at, size));
	}
	if (r < 0) {
		give_back_locked(q, at, size);
	}
	return r;
}

static int store(struct qcow2 *q, uint64_t offset, const uint8_t *packed, size_t size)
{
	struct making m;
	unsigned token;
	int r;

	pthread_mutex_lock(&q->lock);
	r = q->failed ? q->failed : cache_full(&q->cache) ? q_commit_locked(q) : 0;
	if (r < 0) {
		pthread_mutex_unlock(&q->lock);
		return r;
	}
	token = q_enter_locked(q);
	q_making_begin_locked(q, &m, offset, offset + q->cluster_bytes);
	r = store_locked(q, offset, packed, size);
	q_making_end_locked(q, &m);
	q_leave_locked(q, token);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int qcow2_write_compressed(struct qcow2 *q, uint64_t offset, const void *buf, size_t len)
{
	uint8_t *in = calloc(1, q->cluster_bytes), *out = malloc(q->cluster_bytes);
	struct iovec iov = { (void *)buf, len };
	size_t size;
	int r = -ENOMEM;

	if (q->readonly || offset & (q->cluster_bytes - 1) || len > q->cluster_bytes ||
	    !range_within(offset, len, q->size)) {
		r = q->readonly ? -EROFS : -EINVAL;
	} else if (in && out) {
		memcpy(in, buf, len);
		size = q_has_data_file(q) ? 0 : pack(q, in, out);
		r = size ? store(q, offset, out, size) : -EEXIST;
		if (r == -EEXIST) {
			r = qcow2_write(q, offset, &iov, 1);
		}
	}
	free(in);
	free(out);
	return r;
}
