/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of qcow2: the open image, its cache of tables, clusters and their
 * counts, the map from guest to host, the commit.
 *
 * One lock an image, `lock`, guards all of struct qcow2; functions that end in
 * _locked want it held, and those that say "may let go" drop it for a while:
 * pointers into the cache are void after them. Data are read and written without it.
 */
#pragma once

#include <pthread.h>

#include "block/qcow2.h"
#include "block/qcow2_format.h"

#define QCOW2_SLICE_BITS 12 /* tables are cached in pieces of 4 KiB, or a cluster if smaller */

/* --- cached pieces of tables -------------------------------------------------------------- */

enum slot_kind { SLOT_L2, SLOT_REFBLOCK };

struct slot {
	uint64_t offset; /* in the file; 0: unused */
	uint8_t *data;   /* one slice, as on the disk */
	struct slot *hash_next;
	enum slot_kind kind;
	bool dirty, committing, recent;
};

struct cache {
	struct slot **slots; /* `count` are there, `max` is the bound */
	size_t count, room, max, dirty, hand;
	struct slot **hash;
	size_t hash_size; /* a power of 2 */
};

/* --- clusters on their way to be free ------------------------------------------------------ */

struct run {
	uint64_t first, count; /* clusters */
	bool keep;             /* another reference may remain: give back one count, no hole */
};

struct runs {
	struct run *v;
	size_t count, room;
};

struct free_batch {
	struct free_batch *next;
	struct runs runs;
	uint64_t epoch; /* when its references were gone from the disk */
};

/* A guest range whose mapping is being made; lives on the stack of its writer. */
struct making {
	struct making *next;
	uint64_t start, end;
};

/* One entry of an L2 table; `bitmap` is 0 without extended entries. */
struct l2_entry {
	uint64_t desc, bitmap;
};

struct snapshot_row {
	struct qcow2_snapshot pub;
	uint64_t l1_offset;
	uint32_t l1_size;
	uint8_t *extra; /* as read, for what we do not know */
	uint32_t extra_bytes;
};

struct qcow2 {
	struct file *file, *data; /* the same without an external data file */
	struct image *backing;
	bool readonly, header_only, closing;

	/* The header, in host order. */
	uint32_t version, cluster_bits, refcount_order, header_length;
	uint64_t size, incompatible, compatible, autoclear;
	uint64_t l1_offset, rt_offset, snapshots_offset;
	uint32_t l1_size, rt_clusters, snapshot_count;
	enum qcow2_compression compression;
	char *backing_name, *backing_format, *data_name;
	uint64_t bitmap_dir_offset, bitmap_dir_bytes;
	uint32_t bitmap_count;
	bool has_bitmaps;

	/* Derived. */
	uint32_t cluster_bytes;
	unsigned slice_bits, entry_bytes, l2_bits; /* 1 << l2_bits entries a table */
	unsigned subclusters;                      /* 1 or 32 a cluster */
	unsigned rb_bits;                          /* 1 << rb_bits counts a refcount block */
	uint64_t refcount_max;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* making, committing, exclusive, active */

	uint64_t *l1;                          /* host order */
	uint64_t l1_dirty_first, l1_dirty_end; /* entries */
	uint64_t *rt;
	uint64_t rt_size, rt_dirty_first, rt_dirty_end;
	struct cache cache;

	uint64_t free_hint;    /* no cluster below is free */
	uint64_t fresh;        /* from here on no cluster was ever written */
	uint64_t packed_at;    /* compressed data go on here; 0: nowhere */
	struct making *making; /* see qcow2_io.c */

	struct runs unlinked;                      /* references are gone from the cache only */
	struct free_batch *batches, **batches_end; /* gone from the disk, not from requests */
	uint64_t epoch, active[2];                 /* see qcow2_commit.c */
	bool committing, exclusive_wanted, exclusive;
	pthread_t exclusive_owner;
	uint64_t commits_started, commits_done;
	int failed; /* -errno: a flush has failed, so nothing is known of what was written */

	struct snapshot_row *snapshots;
};

static inline uint64_t q_cluster_of(const struct qcow2 *q, uint64_t offset)
{
	return offset >> q->cluster_bits;
}

static inline uint64_t q_down(const struct qcow2 *q, uint64_t offset)
{
	return ALIGN_DOWN(offset, (uint64_t)q->cluster_bytes);
}

static inline uint64_t q_up(const struct qcow2 *q, uint64_t offset)
{
	return ALIGN_UP(offset, (uint64_t)q->cluster_bytes);
}

static inline bool q_extended(const struct qcow2 *q)
{
	return q->subclusters > 1;
}

static inline bool q_has_data_file(const struct qcow2 *q)
{
	return q->data != q->file;
}

/* Bytes of guest data below one L2 table. */
static inline uint64_t q_l2_span(const struct qcow2 *q)
{
	return BIT64(q->l2_bits + q->cluster_bits);
}

/* L1 entries that a disk of this size needs. */
static inline uint64_t q_l1_needed(const struct qcow2 *q, uint64_t size)
{
	uint64_t span = q_l2_span(q);

	return size / span + (size % span != 0);
}

/* --- qcow2_header.c ------------------------------------------------------------------------ */

int q_header_read(struct qcow2 *q, char *error, size_t error_size);
/* Write the fixed part anew, from q's fields: one sector, so all or nothing. No flush. */
int q_header_write(struct qcow2 *q);
/* Put the reason into `error` (may be NULL) and return `err`. */
__attribute__((format(printf, 4, 5))) int q_fail(int err, char *error, size_t size, const char *fmt,
						 ...);
/*
 * The whole first cluster, with extensions and the backing file's name. -ENOSPC:
 * no room. Without the names of features it fits in one sector if the file names are short.
 */
int q_header_build(struct qcow2 *q, uint8_t *cluster, bool features);
/* Set the corrupt bit, so that nobody writes to it any more. Returns -EIO. */
int q_corrupt_locked(struct qcow2 *q, const char *what, uint64_t where);
/* Release what a half-opened image has. */
void q_free(struct qcow2 *q);

/* --- qcow2_cache.c ------------------------------------------------------------------------- */

int cache_init(struct cache *c, size_t bytes, size_t slice_bytes);
void cache_done(struct cache *c);
/*
 * The slice at `offset` of the file. `blank`: it is new, all zeroes, not read.
 * The slot may be given to another slice by the next call. -errno of the read.
 */
int cache_get_locked(struct qcow2 *q, uint64_t offset, enum slot_kind kind, bool blank,
		     struct slot **ret);
/* Only if it is there; else NULL. */
struct slot *cache_peek_locked(struct qcow2 *q, uint64_t offset);
void cache_dirty_locked(struct qcow2 *q, struct slot *s);
/* Forget what is cached of a range: its clusters are no table any more. */
void cache_drop_locked(struct qcow2 *q, uint64_t offset, uint64_t len);
/* Forget all of L2: it was changed on the disk. Nothing of it may be dirty. */
void cache_drop_l2_locked(struct qcow2 *q);
/* So much is dirty that a commit should come first. */
static inline bool cache_full(const struct cache *c)
{
	return c->dirty >= c->max / 2;
}

/* --- qcow2_refcount.c ----------------------------------------------------------------------- */

uint64_t refcount_load(const uint8_t *block, unsigned order, uint64_t index);
void refcount_store(uint8_t *block, unsigned order, uint64_t index, uint64_t value);
int refcount_get_locked(struct qcow2 *q, uint64_t cluster, uint64_t *ret);
/* +1 or -1 on each; may let go only if a refcount block must be made. */
int refcount_add_locked(struct qcow2 *q, uint64_t first, uint64_t count, int delta);
/*
 * Take up to `want` clusters in a row, one at least, each with a count of 1.
 * May let go. *ret_fresh: they were never written, so read as zeroes.
 */
int clusters_alloc_locked(struct qcow2 *q, uint64_t want, uint64_t *ret_first, uint64_t *ret_count,
			  bool *ret_fresh);
/* Exactly `want` in a row. May let go. */
int clusters_alloc_row_locked(struct qcow2 *q, uint64_t want, uint64_t *ret_first);
/* Give back what nothing on the disk refers to. */
void clusters_free_now_locked(struct qcow2 *q, uint64_t first, uint64_t count);
/* Give back what the disk refers to until the next commit. */
int clusters_unlink_locked(struct qcow2 *q, uint64_t first, uint64_t count);
/* Those of a compressed cluster: of an L2 entry. */
int compressed_unlink_locked(struct qcow2 *q, uint64_t entry);
/* The host range of a compressed cluster's L2 entry. */
/* The clusters that an entry refers to; *ret_count 0: none. */
void entry_clusters(const struct qcow2 *q, struct l2_entry e, uint64_t *ret_first,
		    uint64_t *ret_count);
void compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_at, uint64_t *ret_len);
/* Does the cluster hold the header, L1, the refcount table or a block of it, or the snapshots? */
bool cluster_is_metadata_locked(const struct qcow2 *q, uint64_t first, uint64_t count);

/* --- qcow2_map.c ---------------------------------------------------------------------------- */

/*
 * The slice of L2 that maps `offset`, and where in it: *ret NULL if there
 * is no L2 table. `cached_only`: -EAGAIN instead of reading.
 */
int map_slice_locked(struct qcow2 *q, uint64_t offset, bool cached_only, struct slot **ret,
		     unsigned *ret_index);
/* The L2 table of `offset` is there and only ours, so its entries may be changed. May let go. */
int map_own_l2_locked(struct qcow2 *q, uint64_t offset);
struct l2_entry map_load(const struct qcow2 *q, const struct slot *s, unsigned index);
void map_store_locked(struct qcow2 *q, struct slot *s, unsigned index, struct l2_entry e);
/* Entries in a slice. */
unsigned map_slice_entries(const struct qcow2 *q);
/* The entry names a cluster of data. */
bool map_has_host(const struct qcow2 *q, struct l2_entry e);
/* The entry's fields may stand as they do. */
bool map_entry_ok(const struct qcow2 *q, struct l2_entry e);
/* What subcluster `sub` is. -EIO: the entry is damaged; says so once and stops writing. */
int map_kind_locked(struct qcow2 *q, struct l2_entry e, unsigned sub, enum qcow2_kind *ret);
int map_lookup_locked(struct qcow2 *q, uint64_t offset, uint64_t len, bool cached_only,
		      struct qcow2_extent *ret);
/* Give back the clusters of an entry that is replaced. */
int map_unlink_entry_locked(struct qcow2 *q, struct l2_entry e);

/* --- qcow2_commit.c -------------------------------------------------------------------------- */

/* A request begins: waits while the image is taken exclusively. Returns its token. */
unsigned q_enter_locked(struct qcow2 *q);
void q_leave_locked(struct qcow2 *q, unsigned token);
void q_exclusive_begin_locked(struct qcow2 *q);
void q_exclusive_end_locked(struct qcow2 *q);
/* Make stable all that is done so far. Lets go. */
int q_commit_locked(struct qcow2 *q);
/* Commit until nothing waits to be freed. Exclusive, or nobody else is there. */
int q_settle_locked(struct qcow2 *q);
int runs_add(struct runs *r, uint64_t first, uint64_t count, bool keep);
bool q_is_dirty_locked(const struct qcow2 *q);

/* --- qcow2_io.c ------------------------------------------------------------------------------ */

/* Reading without a look at the disk's size: behind it, and of a VM state. */
struct cursor;
int q_read_any(struct qcow2 *q, uint64_t offset, struct cursor *c, uint64_t len);
/* Write zeroes without a look at the disk's size. */
int q_zero_any(struct qcow2 *q, uint64_t offset, uint64_t len);
/* Wait until nobody makes what lies in [start, end), then make it ours. */
void q_making_begin_locked(struct qcow2 *q, struct making *m, uint64_t start, uint64_t end);
void q_making_end_locked(struct qcow2 *q, struct making *m);
/* What to make of whole clusters, whatever they are now. */
enum q_change { Q_DISCARD, Q_ZERO_UNMAP, Q_ZERO_KEEP, Q_UNALLOCATE };
int q_change_clusters(struct qcow2 *q, uint64_t start, uint64_t end, enum q_change what);

/* --- qcow2_snapshot.c ------------------------------------------------------------------------ */

int q_snapshots_read(struct qcow2 *q, char *error, size_t error_size);
void q_snapshots_free(struct qcow2 *q);
/* Set the "copied" flags of the active tables (`off`: all off; else by the counts); stable. */
int q_flag_active_locked(struct qcow2 *q, bool off);
/* The size of the snapshot table on the disk. */
uint64_t q_snapshots_bytes(const struct qcow2 *q);

/* --- qcow2_bitmap.c -------------------------------------------------------------------------- */

/*
 * Walk the bitmap directory and tell `fn` of each cluster range that it uses
 * and, with `name` set, of each bitmap. Stops at an error.
 */
struct bitmap_visitor {
	int (*range)(void *opaque, uint64_t at, uint64_t len);
	int (*bitmap)(void *opaque, const char *name, uint32_t flags);
	void *opaque;
};
#define BITMAP_IN_USE BIT(0)
#define BITMAP_AUTO   BIT(1)
int q_bitmaps_walk(struct qcow2 *q, const struct bitmap_visitor *v);
