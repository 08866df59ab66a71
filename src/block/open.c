/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening an image: what kind of file it is, its limits and locks, and what to say if it fails. */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/hint.h"
#include "block/block_int.h"

struct message {
	char *buf;
	size_t size;
	const char *name;
};

__attribute__((format(printf, 3, 4))) static int say(const struct message *m, int err,
						     const char *fmt, ...)
{
	va_list ap;
	int n;

	if (!m->buf || !m->size) {
		return err;
	}
	n = snprintf(m->buf, m->size, "disk %s: ", m->name);
	if (n < 0 || (size_t)n >= m->size) {
		return err;
	}
	va_start(ap, fmt);
	vsnprintf(m->buf + n, m->size - (size_t)n, fmt, ap);
	va_end(ap);
	return err;
}

static int explain_open(const struct message *m, int err, bool readonly)
{
	return block_explain_open(err, m->name, readonly, m->buf, m->size);
}

int block_explain_open(int err, const char *name, bool readonly, char *error, size_t error_size)
{
	const struct message message = { error, error_size, name }, *m = &message;

	switch (err) {
	case -ENOENT:
		return say(m, err,
			   "no such file; check the path, or make one: "
			   "lodge image create FILE 10G");
	case -EACCES:
	case -EPERM:
		return say(m, err, "permission denied; it must be readable%s for this user",
			   readonly ? "" : " and writable (or given as readonly)");
	case -EROFS:
		return say(m, err, "lies on a read-only file system; give it as readonly");
	case -EISDIR:
		return say(m, err, "is a directory; give a disk image or a block device");
	case -EINVAL:
		return say(m, err,
			   "cannot be opened for direct I/O; its file system may not "
			   "support it");
	case -ETXTBSY:
		return say(m, err, "is a program that runs now; give a disk image");
	case -ENXIO:
	case -ENODEV:
		return say(m, err, "is no disk (%s); give a disk image or a block device",
			   strerror(-err));
	default:
		return say(m, err, "cannot be opened: %s%s", strerror(-err), hint_path(err));
	}
}

/* --- what the file can do --------------------------------------------------------------- */

static bool sysfs_discards(dev_t dev)
{
	static const char *const places[] = { "queue", "../queue" /* of a partition */ };

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		unsigned long long max = 0;
		char path[96];
		FILE *f;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/discard_max_bytes",
			 major(dev), minor(dev), places[i]);
		f = fopen(path, "re");
		if (f) {
			if (fscanf(f, "%llu", &max) != 1) {
				max = 0;
			}
			fclose(f);
			return max > 0;
		}
	}
	return false;
}

static int device_limits(struct block *b, const struct stat *st)
{
	unsigned long long size;
	int sector;

	if (ioctl(b->fd, BLKGETSIZE64, &size) < 0 || ioctl(b->fd, BLKSSZGET, &sector) < 0) {
		return -errno;
	}
	b->is_device = true;
	b->size = ALIGN_DOWN((uint64_t)size, (uint64_t)BLOCK_SECTOR);
	if (sector > 512 && sector <= 4096 && !(sector & (sector - 1))) {
		b->sector = (uint32_t)sector;
	}
	b->can_discard = sysfs_discards(st->st_rdev);
	return 0;
}

static void file_limits(struct block *b, const struct stat *st)
{
	b->size = ALIGN_UP((uint64_t)st->st_size, (uint64_t)BLOCK_SECTOR);
	b->can_discard = true;
}

void block_direct_limits(struct block *b)
{
	struct statx sx = { 0 };

	b->dio_mem_align = b->dio_offset_align = b->is_device ? b->sector : 4096;
#ifdef STATX_DIOALIGN
	if (statx(b->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
	    (sx.stx_mask & STATX_DIOALIGN) && sx.stx_dio_offset_align) {
		b->dio_mem_align = MAX(sx.stx_dio_mem_align, 1u);
		b->dio_offset_align = sx.stx_dio_offset_align;
	}
#else
	(void)sx;
#endif
	/* Tell the guest to keep to it, if it is something that disks have. */
	if (b->dio_offset_align == 4096 && b->size % 4096 == 0) {
		b->sector = 4096;
	}
}

static int find_limits(struct block *b, const struct message *m, bool direct)
{
	struct stat st;
	int r;

	if (fstat(b->fd, &st) < 0) {
		return explain_open(m, -errno, b->readonly);
	}
	if (S_ISDIR(st.st_mode)) {
		return explain_open(m, -EISDIR, b->readonly);
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		return say(m, -EINVAL, "is neither a file nor a block device; give one");
	}
	if (S_ISBLK(st.st_mode)) {
		r = device_limits(b, &st);
		if (r < 0) {
			return say(m, r, "its size cannot be found: %s", strerror(-r));
		}
	} else {
		file_limits(b, &st);
	}
	if (!b->size) {
		return say(m, -EINVAL, "is empty; give it a size first: truncate -s 10G FILE");
	}
	b->dio_mem_align = b->dio_offset_align = 1;
	if (direct) {
		block_direct_limits(b);
	}
	return 0;
}

static int take_lock(struct block *b, const struct message *m)
{
	char holder[96];
	int r = block_lock(b->fd, b->readonly, holder, sizeof(holder));

	if (r == -EBUSY) {
		return say(m, r, "is in use by %s; stop it, or give both a disk of their own",
			   holder[0] ? holder : "another process (not visible to this user)");
	}
	return r < 0 ? say(m, r, "cannot be locked: %s", strerror(-r)) : 0;
}

static int check_mode(int fd, const struct message *m, bool readonly)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0) {
		return say(m, -errno, "is not open: %s", strerror(errno));
	}
	if ((flags & O_ACCMODE) == O_WRONLY || (!readonly && (flags & O_ACCMODE) == O_RDONLY)) {
		return say(m, -EACCES, "was not opened for reading%s",
			   readonly ? "" : " and writing");
	}
	/* O_NONBLOCK was only for FIFOs and the like at open(). */
	if (fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
		return say(m, -errno, "cannot be set up: %s", strerror(errno));
	}
	return 0;
}

static int check_format(const struct block_options *o, const struct message *m)
{
	if (o->format >= BLOCK_FORMAT_COUNT) {
		return say(m, -ENOTSUP, "unknown format; raw and qcow2 are what there is");
	}
	if (o->format == BLOCK_RAW && (o->backing_count || o->data_file)) {
		return say(m, -EINVAL, "a raw image has no backing file and no data file");
	}
	return 0;
}

static struct image_options image_options_of(const struct block_options *o)
{
	return (struct image_options){ .readonly = o->readonly,
				       .no_lock = o->no_lock,
				       .direct = o->direct,
				       .backing = o->backing,
				       .backing_count = o->backing_count,
				       .backing_from_header = o->backing_from_header,
				       .data_file = o->data_file };
}

/* What is known of the disk from its image. */
static void image_limits(struct block *b)
{
	b->size = ALIGN_DOWN(image_size_bytes(b->image), (uint64_t)BLOCK_SECTOR);
	b->dio_mem_align = b->dio_offset_align = image_file(b->image)->align;
	b->can_discard = true;
}

/* Start an image that is open; it is taken over in any case. */
static int start_image(struct loop *loop, struct image *i, const struct block_options *o,
		       const struct message *m, struct block **ret)
{
	struct block *b = calloc(1, sizeof(*b));
	int r = -ENOMEM;

	if (!b) {
		image_close(i);
		return say(m, r, "out of memory");
	}
	b->loop = loop;
	b->fd = b->post_fd = -1;
	b->sector = BLOCK_SECTOR;
	b->readonly = o->readonly;
	b->image = i;
	b->name = strdup(m->name);
	image_limits(b);
	if (!b->size) {
		r = say(m, -EINVAL, "has no size; give it one: lodge image resize FILE 10G");
	} else if (b->name) {
		r = block_engine_start(b, o->no_uring);
	}
	if (r < 0) {
		block_close(b);
		return r == -EINVAL ? r : say(m, r, "cannot be started: %s", strerror(-r));
	}
	*ret = b;
	return 0;
}

static int set_up(struct block *b, const struct block_options *o, const struct message *m)
{
	int flags, r = check_mode(b->fd, m, o->readonly);

	if (r < 0) {
		return r;
	}
	flags = fcntl(b->fd, F_GETFL);
	r = find_limits(b, m, flags & O_DIRECT);
	if (!r && !o->no_lock) {
		r = take_lock(b, m);
	}
	if (r < 0) {
		return r;
	}
	r = block_engine_start(b, o->no_uring);
	return r < 0 ? say(m, r, "no I/O engine can be had: %s", strerror(-r)) : 0;
}

int block_open_fd(struct loop *loop, int fd, const char *name, const struct block_options *o,
		  char *error, size_t error_size, struct block **ret)
{
	struct message m = { error, error_size, name };
	struct image_options image = image_options_of(o);
	struct image *i;
	struct block *b;
	int r = check_format(o, &m);

	if (r < 0) {
		return r;
	}
	if (o->format == BLOCK_QCOW2) {
		r = image_open_fd(fd, name, o->format, &image, error, error_size, &i);
		return r < 0 ? r : start_image(loop, i, o, &m, ret);
	}
	b = calloc(1, sizeof(*b));
	if (!b) {
		return say(&m, -ENOMEM, "out of memory");
	}
	b->loop = loop;
	b->fd = fd;
	b->post_fd = -1;
	b->sector = BLOCK_SECTOR;
	b->readonly = o->readonly;
	b->name = strdup(name);
	r = b->name ? set_up(b, o, &m) : say(&m, -ENOMEM, "out of memory");
	if (r < 0) {
		b->fd = -1; /* still the caller's */
		block_close(b);
		return r;
	}
	*ret = b;
	return 0;
}

int block_open(struct loop *loop, const char *path, const struct block_options *o, char *error,
	       size_t error_size, struct block **ret)
{
	struct message m = { error, error_size, path };
	int flags = O_CLOEXEC | O_NONBLOCK | (o->readonly ? O_RDONLY : O_RDWR);
	struct image_options image = image_options_of(o);
	struct image *i;
	AUTO_FD fd = -1;
	int r = check_format(o, &m);

	if (r < 0) {
		return r;
	}
	if (o->format == BLOCK_QCOW2) {
		r = image_open(path, o->format, &image, error, error_size, &i);
		return r < 0 ? r : start_image(loop, i, o, &m, ret);
	}
	fd = open(path, flags | (o->direct ? O_DIRECT : 0));
	if (fd < 0) {
		return explain_open(&m, -errno, o->readonly);
	}
	r = block_open_fd(loop, fd, path, o, error, error_size, ret);
	if (!r) {
		(void)TAKE_FD(fd);
	}
	return r;
}
