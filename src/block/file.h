/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file below an image: blocking reads and writes of any alignment, from
 * any thread. What a format is built on, and where tests put a memory file that
 * records, fails or cuts the power.
 */
#pragma once

#include <sys/uio.h>

#include "base/util.h"

struct file;

struct file_ops {
	/* All of it or -errno. Reads beyond the end give zeroes; writes there extend. */
	int (*readv)(struct file *f, const struct iovec *iov, unsigned count, uint64_t offset);
	int (*writev)(struct file *f, const struct iovec *iov, unsigned count, uint64_t offset);
	/* What was written is stable when it returns 0. */
	int (*flush)(struct file *f);
	/* The range reads as zeroes afterwards; `unmap`: give the space back if possible. */
	int (*zero)(struct file *f, uint64_t offset, uint64_t len, bool unmap);
	/* A hint: the content is not needed any more. */
	int (*discard)(struct file *f, uint64_t offset, uint64_t len);
	int (*size)(struct file *f, uint64_t *ret_bytes);
	int (*truncate)(struct file *f, uint64_t bytes);
	/* Reserve the space of a range, which keeps its content. */
	int (*allocate)(struct file *f, uint64_t offset, uint64_t len);
	/* The next range of data at or behind `offset`; no data: *ret_start = the size. */
	int (*next_data)(struct file *f, uint64_t offset, uint64_t *ret_start, uint64_t *ret_end);
	void (*close)(struct file *f);
};

struct file {
	const struct file_ops *ops;
	int fd;           /* -1: none; else plain reads and writes of it do the same */
	unsigned align;   /* what a read or write by `fd` must keep to; 1: nothing */
	bool zero_behind; /* what lies behind the end reads as zeroes once it is there */
};

static inline int file_readv(struct file *f, const struct iovec *iov, unsigned count, uint64_t at)
{
	return f->ops->readv(f, iov, count, at);
}

static inline int file_writev(struct file *f, const struct iovec *iov, unsigned count, uint64_t at)
{
	return f->ops->writev(f, iov, count, at);
}

static inline int file_read(struct file *f, void *buf, size_t len, uint64_t at)
{
	struct iovec iov = { buf, len };

	return f->ops->readv(f, &iov, 1, at);
}

static inline int file_write(struct file *f, const void *buf, size_t len, uint64_t at)
{
	struct iovec iov = { (void *)buf, len };

	return f->ops->writev(f, &iov, 1, at);
}

static inline int file_flush(struct file *f)
{
	return f->ops->flush(f);
}

static inline int file_zero(struct file *f, uint64_t at, uint64_t len, bool unmap)
{
	return f->ops->zero(f, at, len, unmap);
}

static inline int file_discard(struct file *f, uint64_t at, uint64_t len)
{
	return f->ops->discard(f, at, len);
}

static inline int file_size(struct file *f, uint64_t *ret)
{
	return f->ops->size(f, ret);
}

static inline int file_truncate(struct file *f, uint64_t bytes)
{
	return f->ops->truncate(f, bytes);
}

static inline int file_allocate(struct file *f, uint64_t at, uint64_t len)
{
	return f->ops->allocate(f, at, len);
}

static inline int file_next_data(struct file *f, uint64_t at, uint64_t *ret_start,
				 uint64_t *ret_end)
{
	return f->ops->next_data(f, at, ret_start, ret_end);
}

/* NULL is fine. */
static inline void file_close(struct file *f)
{
	if (f) {
		f->ops->close(f);
	}
}

/*
 * A file or a block device, open for reading (and writing unless `readonly`).
 * Takes the descriptor over on success. -EISDIR, -EINVAL: neither of both.
 */
int file_new_fd(int fd, bool readonly, struct file **ret);
