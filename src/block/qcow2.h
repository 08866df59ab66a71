/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 images, versions 2 and 3. Blocking calls; any thread, many at a time,
 * unless a function says otherwise. What the calls promise about crashes
 * stands at the head of qcow2_commit.c.
 */
#pragma once

#include "block/file.h"

struct image;
struct qcow2;

/* What an image is, as it lies in its header. */
struct qcow2_info {
	uint32_t version;
	uint64_t size; /* of the disk that a guest sees, bytes */
	uint32_t cluster_bytes;
	uint32_t refcount_bits;
	uint64_t incompatible, compatible, autoclear; /* enum qcow2_incompatible, … */
	bool zstd, extended_l2, data_file, data_file_raw, lazy_refcounts;
	bool dirty, corrupt;
	unsigned snapshots, bitmaps;
	const char *backing_name, *backing_format; /* NULL: none; borrowed from the image */
	const char *data_file_name;
};

struct qcow2_create_options {
	uint64_t size;
	uint32_t version;       /* 2, 3; 0: 3 */
	uint32_t cluster_bytes; /* 0: 64 KiB */
	uint32_t refcount_bits; /* 0: 16 */
	bool zstd, extended_l2, lazy_refcounts;
	const char *backing_name, *backing_format; /* both or neither */
	const char *data_file_name;                /* as it is to stand in the header */
	bool data_file_raw;
};

enum qcow2_preallocation {
	QCOW2_PREALLOC_OFF,
	QCOW2_PREALLOC_METADATA,
	QCOW2_PREALLOC_FALLOC,
	QCOW2_PREALLOC_FULL,
	QCOW2_PREALLOC_COUNT,
};

struct qcow2_options {
	bool readonly;
	bool no_repair;     /* leave a dirty image alone (check does it itself) */
	bool allow_bitmaps; /* writable though bitmaps would become wrong: they are given up */
	size_t cache_bytes; /* of metadata; 0: QCOW2_CACHE_BYTES */
	struct file *data;  /* the external data file; taken over; NULL if there is none */
};

#define QCOW2_CACHE_BYTES MIB(32) /* holds the L2 tables of 256 GiB with clusters of 64 KiB */

/* Make an empty image in `file`, whose old content is lost. On failure one line in `error`. */
int qcow2_create(struct file *file, const struct qcow2_create_options *o, char *error,
		 size_t error_size);
/*
 * Open the image in `file`, which is taken over on success. On failure
 * -errno and one line in `error`: -EMEDIUMTYPE it is no qcow2 image, -ENOTSUP
 * it has something that is refused by name, -EUCLEAN it is damaged.
 */
int qcow2_open(struct file *file, const struct qcow2_options *o, char *error, size_t error_size,
	       struct qcow2 **ret);
/* Only what the header says: no table is read. The strings go with qcow2_close(). */
int qcow2_open_header(struct file *file, char *error, size_t error_size, struct qcow2 **ret);
/* Writes everything out. 0 or the first error; the object is gone in any case. NULL is fine. */
int qcow2_close(struct qcow2 *q);
/* Like a crash: nothing more is written. For tests. */
void qcow2_abandon(struct qcow2 *q);
/* Where unallocated ranges are read from; borrowed; NULL: they are zeroes. Before any I/O. */
void qcow2_set_backing(struct qcow2 *q, struct image *backing);
void qcow2_get_info(const struct qcow2 *q, struct qcow2_info *ret);
uint64_t qcow2_size_bytes(const struct qcow2 *q);

/* --- content ------------------------------------------------------------------------------ */

/* Ranges lie on the disk, else -EINVAL. With the backing chain behind it. */
int qcow2_read(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned count);
int qcow2_write(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned count);
int qcow2_write_zeroes(struct qcow2 *q, uint64_t offset, uint64_t len, bool unmap);
/* Whole clusters only; the rest of the range is left as it is. They read as zeroes after. */
int qcow2_discard(struct qcow2 *q, uint64_t offset, uint64_t len);
/* Whole clusters become unallocated, so that the backing image shows through. */
int qcow2_unallocate(struct qcow2 *q, uint64_t offset, uint64_t len);
/* All that completed before the call is stable when it returns 0. */
int qcow2_flush(struct qcow2 *q);
/* One cluster's content, compressed if that saves space. `offset` starts a cluster. */
int qcow2_write_compressed(struct qcow2 *q, uint64_t offset, const void *buf, size_t len);
/* Allocate [offset, +len); what was unallocated reads as zeroes. */
int qcow2_preallocate(struct qcow2 *q, uint64_t offset, uint64_t len,
		      enum qcow2_preallocation mode);

enum qcow2_kind {
	QCOW2_UNALLOCATED, /* the backing image's content */
	QCOW2_ZERO,
	QCOW2_ZERO_ALLOCATED, /* reads as zeroes, but has space */
	QCOW2_DATA,
	QCOW2_COMPRESSED,
	QCOW2_KIND_COUNT,
};

struct qcow2_extent {
	enum qcow2_kind kind;
	uint64_t len;
	uint64_t host;  /* DATA, ZERO_ALLOCATED: offset in the data file */
	bool writable;  /* DATA: may be overwritten in place */
	uint64_t entry; /* COMPRESSED: the L2 entry */
	unsigned token; /* for qcow2_release() */
};

/*
 * What lies at `offset`, `len` bytes at the most. The extent's space is not
 * given to anything else before qcow2_release().
 */
int qcow2_lookup(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_extent *ret);
/* The same, never waiting: false, nothing held, if it would have to. */
bool qcow2_try_lookup(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_extent *ret);
void qcow2_release(struct qcow2 *q, const struct qcow2_extent *e);
/* A COMPRESSED extent's content, `skip` bytes into its cluster. */
int qcow2_read_compressed(struct qcow2 *q, uint64_t entry, size_t skip, void *buf, size_t len);
/* Would a flush now have to write metadata? If so it is not for the fast path. */
bool qcow2_flush_is_plain(struct qcow2 *q);
struct file *qcow2_data_file(struct qcow2 *q);

/* --- shape -------------------------------------------------------------------------------- */

int qcow2_resize(struct qcow2 *q, uint64_t size, enum qcow2_preallocation mode, char *error,
		 size_t error_size);
/* What the header says of the backing file, and nothing else. Both NULL: none. */
int qcow2_change_backing(struct qcow2 *q, const char *name, const char *format, char *error,
			 size_t error_size);

struct qcow2_snapshot {
	char *id, *name;
	uint64_t date_sec;
	uint32_t date_nsec;
	uint64_t vm_clock_ns, vm_state_bytes, disk_bytes, icount;
};

unsigned qcow2_snapshot_count(const struct qcow2 *q);
/* Borrowed, until the list changes. */
const struct qcow2_snapshot *qcow2_snapshot_at(const struct qcow2 *q, unsigned index);
/* By id, else by name; -ENOENT. */
int qcow2_snapshot_find(const struct qcow2 *q, const char *id_or_name, unsigned *ret);
/* Each waits for requests in flight and keeps others out while it runs. */
int qcow2_snapshot_create(struct qcow2 *q, const char *name, char *error, size_t error_size);
int qcow2_snapshot_apply(struct qcow2 *q, unsigned index, char *error, size_t error_size);
int qcow2_snapshot_delete(struct qcow2 *q, unsigned index, char *error, size_t error_size);
/* A snapshot's content, on its own disk size. */
int qcow2_snapshot_read(struct qcow2 *q, unsigned index, uint64_t offset, void *buf, size_t len);

/* --- check -------------------------------------------------------------------------------- */

struct qcow2_check {
	uint64_t corruptions; /* data may be wrong or get lost */
	uint64_t leaks;       /* clusters that nobody uses */
	uint64_t stale_flags; /* "copied" flags missing: harmless, a copy too many */
	uint64_t fixed_corruptions, fixed_leaks, fixed_flags;
	uint64_t total_clusters, allocated_clusters, compressed_clusters, fragmented_clusters;
	uint64_t image_end; /* behind the last cluster in use */
	/* Told of each finding, one line; may be NULL. */
	void (*report)(void *opaque, const char *line);
	void *opaque;
};

enum qcow2_repair { QCOW2_REPAIR_LEAKS = BIT(0), QCOW2_REPAIR_ALL = BIT(1) | BIT(0) };

/*
 * Compare all references with all refcounts, and repair what `repair` (0:
 * nothing) names. Exclusive. An error is one of I/O or memory; findings are none.
 */
int qcow2_check(struct qcow2 *q, unsigned repair, struct qcow2_check *c);
