/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disk images and their I/O; knows no device. Asynchronous: requests are
 * submitted and their completion called back on the image's loop thread.
 * Formats are stated by the caller, never probed from content.
 */
#pragma once

#include <sys/uio.h>

#include "base/loop.h"

struct block;

enum block_format { BLOCK_RAW, BLOCK_QCOW2, BLOCK_FORMAT_COUNT };

/* An image behind another one. */
struct block_source {
	const char *path;
	enum block_format format;
};

struct block_options {
	enum block_format format;
	bool readonly;
	bool direct;   /* O_DIRECT */
	bool no_lock;  /* do not take QEMU's image locks */
	bool no_uring; /* use the thread pool (for tests and comparison) */
	/* qcow2: the chain behind it, next first; see struct image_options. */
	const struct block_source *backing;
	unsigned backing_count;
	bool backing_from_header;
	const char *data_file;
};

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

enum block_req_flags {
	BLOCK_REQ_UNMAP = BIT(0), /* WRITE_ZEROES may deallocate */
	BLOCK_REQ_FUA = BIT(1),
};

/* A request; embedded in the submitter's, which lives until `done`. */
struct block_req {
	enum block_op op;
	unsigned flags;
	uint64_t offset; /* bytes; any alignment */
	uint64_t len;    /* bytes; for READ and WRITE the sum of iov */
	struct iovec *iov;
	unsigned iov_count;
	/* result 0 or -errno; called on the loop's thread, never from block_submit() itself */
	void (*done)(struct block_req *r, int result);
	void *internal[8]; /* block's own, opaque */
};

/*
 * Open the image on `path`. On failure -errno and one line in `error` (may be
 * NULL): what, which file, why, what to do; -EBUSY names the locker if known.
 * `loop` must outlive it.
 */
int block_open(struct loop *loop, const char *path, const struct block_options *o, char *error,
	       size_t error_size, struct block **ret);
/* The same on an open descriptor (taken over on success); `name` is for messages. */
int block_open_fd(struct loop *loop, int fd, const char *name, const struct block_options *o,
		  char *error, size_t error_size, struct block **ret);
/* Waits for requests in flight. NULL is fine. */
void block_close(struct block *b);

uint64_t block_size_bytes(const struct block *b);
bool block_readonly(const struct block *b);
uint32_t block_sector_bytes(const struct block *b); /* logical, 512 or 4096 */
bool block_can_discard(const struct block *b);

/* Loop thread only. Out of range or on a read-only image: done() with -EINVAL/-EROFS. */
void block_submit(struct block *b, struct block_req *r);
/* Hand queued submissions to the kernel; call once after a batch of block_submit(). */
void block_kick(struct block *b);
/*
 * Have `fn` called on the loop's thread after each batch of completions, so that
 * their submitter can tell its guest once. NULL: not any more. One user an image.
 */
void block_set_batch_end(struct block *b, loop_fn *fn, void *opaque);
/* Run until nothing is in flight (for reset); calls back as usual. Loop thread. */
void block_drain(struct block *b);
