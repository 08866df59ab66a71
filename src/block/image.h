/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image of any format with the chain behind it, by blocking calls: what
 * tools work on, and what a chain is read through. Any thread.
 */
#pragma once

#include "block/block.h"
#include "block/file.h"
#include "block/qcow2.h"

struct image;
struct cursor;

struct image_options {
	bool readonly;
	bool no_lock;
	bool direct;
	bool no_backing;    /* what is unallocated reads as zeroes, whatever the header says */
	bool no_repair;     /* as of struct qcow2_options */
	bool allow_bitmaps; /* the same */
	/* The chain behind a qcow2 image, next first. Names that its headers have are not used. */
	const struct block_source *backing;
	unsigned backing_count;
	/* Take names and formats behind those from the headers: the caller trusts the image. */
	bool backing_from_header;
	const char *data_file; /* of the first image */
	size_t cache_bytes;    /* of each image; 0: the usual */
};

/*
 * Open. On failure -errno and one line in `error`: what, which file, why, what
 * to do.
 */
int image_open(const char *path, enum block_format format, const struct image_options *o,
	       char *error, size_t error_size, struct image **ret);
/* The same on an open descriptor, which is taken over on success. */
int image_open_fd(int fd, const char *path, enum block_format format, const struct image_options *o,
		  char *error, size_t error_size, struct image **ret);
/* An image in a file object, which is taken over on success. `name` is for messages. */
int image_open_file(struct file *file, const char *name, enum block_format format,
		    const struct image_options *o, char *error, size_t error_size,
		    struct image **ret);
/* 0, or the first error of writing out. The whole chain. NULL is fine. */
int image_close(struct image *i);

uint64_t image_size_bytes(const struct image *i);
enum block_format image_format(const struct image *i);
const char *image_name(const struct image *i);
bool image_readonly(const struct image *i);
struct qcow2 *image_qcow2(struct image *i); /* NULL: it is raw */
struct image *image_backing(struct image *i);
struct file *image_file(struct image *i); /* where the guest's data lie */

int image_read(struct image *i, uint64_t offset, void *buf, size_t len);
/* Behind the image's end it reads zeroes. */
int image_read_cursor(struct image *i, uint64_t offset, struct cursor *c, uint64_t len);
int image_write(struct image *i, uint64_t offset, const void *buf, size_t len);
int image_write_zeroes(struct image *i, uint64_t offset, uint64_t len, bool unmap);
int image_discard(struct image *i, uint64_t offset, uint64_t len);
int image_flush(struct image *i);
int image_resize(struct image *i, uint64_t size, enum qcow2_preallocation mode, char *error,
		 size_t error_size);

struct image_extent {
	uint64_t len;
	unsigned depth;  /* which image of the chain it is in: 0 the first */
	bool present;    /* some image has it; else nothing was ever written there */
	bool zero, data; /* reads as zeroes; must be read to know */
	bool compressed, has_host;
	uint64_t host; /* has_host: where in that image's file */
};

/* What lies at `offset`, `len` bytes at the most; `depth_max` images are looked at. */
int image_extent(struct image *i, uint64_t offset, uint64_t len, unsigned depth_max,
		 struct image_extent *ret);

/*
 * Where a request of [offset, +len) can be served by one read or write of
 * one descriptor. IMAGE_FAST_NO: not so, or it cannot be told without waiting.
 */
enum image_fast_kind { IMAGE_FAST_NO, IMAGE_FAST_ZERO, IMAGE_FAST_DATA };
struct image_fast {
	int fd;
	uint64_t host;
	struct qcow2 *holder; /* to be released; NULL: nothing */
	struct qcow2_extent extent;
};
enum image_fast_kind image_try_fast(struct image *i, bool write, uint64_t offset, uint64_t len,
				    struct image_fast *ret);
/* "raw", "qcow2"; false: no such format. */
bool block_format_parse(const char *name, enum block_format *ret);
const char *block_format_name(enum block_format f);
