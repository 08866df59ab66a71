/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A request done by plain system calls, on the calling thread: what workers
 * do, and the slow cases of io_uring (short transfers, odd alignment, discard,
 * zeroes). Reads beyond the end of the file, which lies in the last sector at
 * the most, give zeroes; writes there extend the file.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "block/block_int.h"
#include "block/cursor_int.h"

#define BOUNCE_BYTES MIB(1)
#define ZERO_BYTES   KIB(64)

unsigned cursor_batch(const struct cursor *c, struct iovec *out, uint64_t max)
{
	size_t at = c->at;
	unsigned n = 0;

	for (unsigned i = 0; i < c->left && n < CURSOR_BATCH && max; i++) {
		size_t len = MIN((uint64_t)(c->iov[i].iov_len - at), max);

		if (len) {
			out[n++] = (struct iovec){ (char *)c->iov[i].iov_base + at, len };
		}
		max -= len;
		at = 0;
	}
	return n;
}

void cursor_advance(struct cursor *c, size_t len)
{
	while (c->left && len >= c->iov->iov_len - c->at) {
		len -= c->iov->iov_len - c->at;
		c->iov++;
		c->left--;
		c->at = 0;
	}
	c->at += len;
}

void cursor_copy(struct cursor *c, uint8_t *flat, size_t len, bool to_list)
{
	while (len && c->left) {
		size_t n = MIN(len, c->iov->iov_len - c->at);
		uint8_t *p = (uint8_t *)c->iov->iov_base + c->at;

		if (to_list) {
			memcpy(p, flat, n);
		} else {
			memcpy(flat, p, n);
		}
		flat += n;
		len -= n;
		cursor_advance(c, n);
	}
}

void cursor_zero(struct cursor *c, uint64_t len)
{
	while (len && c->left) {
		size_t n = MIN(len, (uint64_t)(c->iov->iov_len - c->at));

		memset((uint8_t *)c->iov->iov_base + c->at, 0, n);
		len -= n;
		cursor_advance(c, n);
	}
}

static int sync_plain(struct block *b, struct block_req *r)
{
	struct cursor c = { r->iov, r->iov_count, 0 };
	int flags = r->op == BLOCK_WRITE && (r->flags & BLOCK_REQ_FUA) ? RWF_DSYNC : 0;
	uint64_t done = 0;

	while (done < r->len) {
		struct iovec iov[CURSOR_BATCH];
		unsigned n = cursor_batch(&c, iov, r->len - done);
		off_t at = (off_t)(r->offset + done);
		ssize_t got = r->op == BLOCK_READ ? preadv2(b->fd, iov, (int)n, at, 0)
						  : pwritev2(b->fd, iov, (int)n, at, flags);
		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got < 0) {
			return -errno;
		}
		if (got == 0 && r->op == BLOCK_WRITE) {
			return -EIO;
		}
		if (got == 0) {
			cursor_zero(&c, r->len - done);
			return 0;
		}
		cursor_advance(&c, (size_t)got);
		done += (uint64_t)got;
	}
	return 0;
}

/* --- O_DIRECT with what it does not take: through an aligned buffer -------------------- */

static int read_full(int fd, uint8_t *buf, size_t len, uint64_t at)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return -errno;
		}
		if (n == 0) {
			memset(buf + done, 0, len - done);
			return 0;
		}
		done += (size_t)n;
	}
	return 0;
}

static int write_full(int fd, const uint8_t *buf, size_t len, uint64_t at, int flags)
{
	size_t done = 0;

	while (done < len) {
		struct iovec iov = { (void *)(uintptr_t)(buf + done), len - done };
		ssize_t n = pwritev2(fd, &iov, 1, (off_t)(at + done), flags);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n < 0 ? -errno : -EIO;
		}
		done += (size_t)n;
	}
	return 0;
}

/* One piece of at most BOUNCE_BYTES: [at, at+len) of the disk. */
static int bounce_piece(struct block *b, struct block_req *r, struct cursor *c, uint8_t *buf,
			uint64_t at, size_t len)
{
	uint64_t start = ALIGN_DOWN(at, (uint64_t)b->dio_offset_align);
	uint64_t end = ALIGN_UP(at + len, (uint64_t)b->dio_offset_align);
	bool partial = start != at || end != at + len;
	int err = 0;

	if (r->op == BLOCK_READ || partial) {
		err = read_full(b->fd, buf, end - start, start);
	}
	if (err < 0) {
		return err;
	}
	cursor_copy(c, buf + (at - start), len, r->op == BLOCK_READ);
	if (r->op == BLOCK_READ) {
		return 0;
	}
	return write_full(b->fd, buf, end - start, start, r->flags & BLOCK_REQ_FUA ? RWF_DSYNC : 0);
}

static int sync_bounce(struct block *b, struct block_req *r)
{
	struct cursor c = { r->iov, r->iov_count, 0 };
	size_t align = MAX(MAX(b->dio_mem_align, b->dio_offset_align), 4096u);
	uint64_t done = 0;
	uint8_t *buf = aligned_alloc(align, BOUNCE_BYTES + 2 * align);
	int err = buf ? 0 : -ENOMEM;

	while (!err && done < r->len) {
		size_t n = MIN(r->len - done, BOUNCE_BYTES);

		err = bounce_piece(b, r, &c, buf, r->offset + done, n);
		done += n;
	}
	free(buf);
	return err;
}

bool block_aligned(const struct block *b, const struct block_req *r)
{
	uint64_t bits;

	if (b->dio_offset_align <= 1) {
		return true;
	}
	if ((r->offset | r->len) & (b->dio_offset_align - 1)) {
		return false;
	}
	bits = 0;
	for (unsigned i = 0; i < r->iov_count; i++) {
		bits |= (uintptr_t)r->iov[i].iov_base;
		if (r->iov[i].iov_len & (b->dio_offset_align - 1)) {
			return false;
		}
	}
	return !(bits & (b->dio_mem_align - 1));
}

/* --- discard and zeroes -------------------------------------------------------------- */

static bool unsupported(int err)
{
	return err == -EOPNOTSUPP || err == -ENOSYS || err == -ENOTTY || err == -EINVAL;
}

static int punch(struct block *b, uint64_t offset, uint64_t len)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	return fallocate(b->fd, mode, (off_t)offset, (off_t)len) < 0 ? -errno : 0;
}

static int device_ioctl(struct block *b, unsigned long request, uint64_t offset, uint64_t len)
{
	uint64_t range[2] = { offset, len };

	return ioctl(b->fd, request, range) < 0 ? -errno : 0;
}

/* A hint: a file system that cannot do it is no error. */
static int sync_discard(struct block *b, struct block_req *r)
{
	int err = b->is_device ? device_ioctl(b, BLKDISCARD, r->offset, r->len)
			       : punch(b, r->offset, r->len);

	return unsupported(err) ? 0 : err;
}

static int write_zeroes_by_hand(struct block *b, uint64_t offset, uint64_t len)
{
	size_t align = MAX(b->dio_mem_align, 4096u);
	uint8_t *zeroes = aligned_alloc(align, ZERO_BYTES);
	int err = zeroes ? 0 : -ENOMEM;

	if (zeroes) {
		memset(zeroes, 0, ZERO_BYTES);
	}
	while (!err && len) {
		struct iovec iov = { zeroes, MIN(len, ZERO_BYTES) };
		struct block_req part = { .op = BLOCK_WRITE,
					  .offset = offset,
					  .len = iov.iov_len,
					  .iov = &iov,
					  .iov_count = 1 };

		err = block_sync(b, &part);
		offset += iov.iov_len;
		len -= iov.iov_len;
	}
	free(zeroes);
	return err;
}

static int zero_range(struct block *b, struct block_req *r)
{
	int err;

	if (b->is_device) {
		return device_ioctl(b, BLKZEROOUT, r->offset, r->len);
	}
	err = -EOPNOTSUPP;
	if (r->flags & BLOCK_REQ_UNMAP) {
		err = punch(b, r->offset, r->len);
	}
	if (unsupported(err)) {
		int mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

		err = fallocate(b->fd, mode, (off_t)r->offset, (off_t)r->len) < 0 ? -errno : 0;
	}
	return err;
}

static int sync_write_zeroes(struct block *b, struct block_req *r)
{
	int err = zero_range(b, r);

	if (unsupported(err)) {
		err = write_zeroes_by_hand(b, r->offset, r->len);
	}
	if (!err && (r->flags & BLOCK_REQ_FUA)) {
		err = fdatasync(b->fd) < 0 ? -errno : 0;
	}
	return err;
}

int block_sync(struct block *b, struct block_req *r)
{
	switch (r->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		return block_aligned(b, r) ? sync_plain(b, r) : sync_bounce(b, r);
	case BLOCK_FLUSH:
		return fdatasync(b->fd) < 0 ? -errno : 0;
	case BLOCK_DISCARD:
		return sync_discard(b, r);
	case BLOCK_WRITE_ZEROES:
		return sync_write_zeroes(b, r);
	}
	return -EINVAL;
}
