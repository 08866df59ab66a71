/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A descriptor as a struct file, on the same calls that the raw format's
 * workers use. Under O_DIRECT a piece that is not aligned is written by reading
 * around it; `around` keeps two such pieces of one block from each other.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block_int.h"
#include "block/cursor_int.h"
#include "block/file.h"

struct file_fd {
	struct file file;
	struct block host;       /* what block_sync() wants to know: never submitted to */
	pthread_rwlock_t around; /* taken for writing by pieces that are not aligned */
};

static struct file_fd *from_file(struct file *f)
{
	return container_of(f, struct file_fd, file);
}

int cursor_move(struct cursor *c, struct file *f, bool write, uint64_t len, uint64_t offset)
{
	while (len) {
		struct iovec iov[CURSOR_BATCH];
		unsigned n = cursor_batch(c, iov, len);
		uint64_t bytes = iov_bytes(iov, n);
		int r = write ? file_writev(f, iov, n, offset) : file_readv(f, iov, n, offset);

		if (r < 0) {
			return r;
		}
		cursor_advance(c, bytes);
		offset += bytes;
		len -= bytes;
	}
	return 0;
}

static struct block_req request(enum block_op op, uint64_t at, uint64_t len)
{
	return (struct block_req){ .op = op, .offset = at, .len = len };
}

static int fd_readv(struct file *f, const struct iovec *iov, unsigned count, uint64_t at)
{
	struct block_req r = request(BLOCK_READ, at, iov_bytes(iov, count));

	r.iov = (struct iovec *)iov;
	r.iov_count = count;
	return block_sync(&from_file(f)->host, &r);
}

static int fd_writev(struct file *f, const struct iovec *iov, unsigned count, uint64_t at)
{
	struct block_req r = request(BLOCK_WRITE, at, iov_bytes(iov, count));
	struct file_fd *d = from_file(f);
	int err;

	r.iov = (struct iovec *)iov;
	r.iov_count = count;
	if (f->align <= 1) {
		return block_sync(&d->host, &r);
	}
	if ((at | r.len) & (f->align - 1)) {
		pthread_rwlock_wrlock(&d->around);
	} else {
		pthread_rwlock_rdlock(&d->around);
	}
	err = block_sync(&d->host, &r);
	pthread_rwlock_unlock(&d->around);
	return err;
}

static int fd_flush(struct file *f)
{
	return fdatasync(f->fd) < 0 ? -errno : 0;
}

static int fd_zero(struct file *f, uint64_t at, uint64_t len, bool unmap)
{
	struct block_req r = request(BLOCK_WRITE_ZEROES, at, len);
	struct file_fd *d = from_file(f);
	struct stat st;

	r.flags = unmap ? BLOCK_REQ_UNMAP : 0;
	if (!d->host.is_device && fstat(f->fd, &st) == 0 && (uint64_t)st.st_size < at + len &&
	    ftruncate(f->fd, (off_t)(at + len)) < 0) {
		return -errno;
	}
	return block_sync(&d->host, &r);
}

static int fd_discard(struct file *f, uint64_t at, uint64_t len)
{
	struct block_req r = request(BLOCK_DISCARD, at, len);

	return block_sync(&from_file(f)->host, &r);
}

static int fd_size(struct file *f, uint64_t *ret)
{
	off_t end = lseek(f->fd, 0, SEEK_END);

	if (end < 0) {
		return -errno;
	}
	*ret = (uint64_t)end;
	return 0;
}

static int fd_truncate(struct file *f, uint64_t bytes)
{
	uint64_t now = 0;

	if (from_file(f)->host.is_device) {
		int r = fd_size(f, &now);

		return r < 0 ? r : bytes <= now ? 0 : -ENOSPC;
	}
	return ftruncate(f->fd, (off_t)bytes) < 0 ? -errno : 0;
}

static int fd_allocate(struct file *f, uint64_t at, uint64_t len)
{
	if (from_file(f)->host.is_device) {
		return 0;
	}
	return fallocate(f->fd, 0, (off_t)at, (off_t)len) < 0 ? -errno : 0;
}

static int fd_next_data(struct file *f, uint64_t at, uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t size = 0;
	off_t start, end;
	int r = fd_size(f, &size);

	if (r < 0 || at >= size) {
		*ret_start = *ret_end = size;
		return r;
	}
	start = lseek(f->fd, (off_t)at, SEEK_DATA);
	if (start < 0 && errno == ENXIO) {
		*ret_start = *ret_end = size;
		return 0;
	}
	end = start < 0 ? -1 : lseek(f->fd, start, SEEK_HOLE);
	/* Cannot be told: all is data. */
	*ret_start = start < 0 ? at : (uint64_t)start;
	*ret_end = end < 0 ? size : (uint64_t)end;
	return 0;
}

static void fd_close(struct file *f)
{
	struct file_fd *d = from_file(f);

	fd_closep(&f->fd);
	pthread_rwlock_destroy(&d->around);
	free(d);
}

static const struct file_ops fd_ops = {
	.readv = fd_readv,
	.writev = fd_writev,
	.flush = fd_flush,
	.zero = fd_zero,
	.discard = fd_discard,
	.size = fd_size,
	.truncate = fd_truncate,
	.allocate = fd_allocate,
	.next_data = fd_next_data,
	.close = fd_close,
};

int file_new_fd(int fd, bool readonly, struct file **ret)
{
	struct file_fd *d;
	struct stat st;

	if (fstat(fd, &st) < 0) {
		return -errno;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	}
	d = calloc(1, sizeof(*d));
	if (!d) {
		return -ENOMEM;
	}
	d->file = (struct file){ &fd_ops, fd, 1, S_ISREG(st.st_mode) };
	d->host.fd = fd;
	d->host.sector = BLOCK_SECTOR;
	d->host.is_device = S_ISBLK(st.st_mode);
	d->host.readonly = readonly;
	d->host.dio_mem_align = d->host.dio_offset_align = 1;
	if (fcntl(fd, F_GETFL) & O_DIRECT) {
		block_direct_limits(&d->host);
		d->file.align = d->host.dio_offset_align;
	}
	pthread_rwlock_init(&d->around, NULL);
	*ret = &d->file;
	return 0;
}
