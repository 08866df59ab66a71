/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chains of images. Opened one behind the other in a loop, and read so too: an
 * image's headers can make a chain long, but not our stack. No file is twice
 * in a chain, so it has no loop.
 */
#include "block/image.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "block/block_int.h"
#include "block/cursor_int.h"

struct image {
	enum block_format format;
	char *name;
	struct file *file; /* raw; qcow2 has its own */
	struct qcow2 *q;
	struct image *backing;
	uint64_t size;
	bool readonly;
	dev_t dev;
	ino_t ino;
};

static const char *const format_names[] = { "raw", "qcow2" };
static_assert(ARRAY_SIZE(format_names) == BLOCK_FORMAT_COUNT, "each format has a name");

bool block_format_parse(const char *name, enum block_format *ret)
{
	for (unsigned i = 0; i < BLOCK_FORMAT_COUNT; i++) {
		if (strcmp(name, format_names[i]) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

const char *block_format_name(enum block_format f)
{
	return format_names[f];
}

int block_say(int err, const char *name, char *error, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (!error || !size) {
		return err;
	}
	n = snprintf(error, size, "disk %s: ", name);
	if (n >= 0 && (size_t)n < size) {
		va_start(ap, fmt);
		vsnprintf(error + n, size - (size_t)n, fmt, ap);
		va_end(ap);
	}
	return err;
}

/* --- opening one -------------------------------------------------------------------------- */

/* Lock it and make a file of it. The descriptor is taken over on success. */
static int file_of_fd(int fd, const char *path, const struct image_options *o, char *error,
		      size_t size, struct file **ret)
{
	char holder[96];
	int r = o->no_lock ? 0 : block_lock(fd, o->readonly, holder, sizeof(holder));

	if (r < 0) {
		return block_say(r, path, error, size,
				 "is in use by %s; stop it, or give both a disk of their own",
				 holder[0] ? holder : "another process (not visible to this user)");
	}
	r = file_new_fd(fd, o->readonly, ret);
	if (r < 0) {
		return block_say(r, path, error, size,
				 r == -EISDIR ? "is a directory; give a disk image"
					      : "is neither a file nor a block device");
	}
	return 0;
}

static int open_file(const char *path, const struct image_options *o, char *error, size_t size,
		     struct file **ret)
{
	int flags = O_CLOEXEC | O_NONBLOCK | (o->readonly ? O_RDONLY : O_RDWR);
	AUTO_FD fd = open(path, flags | (o->direct ? O_DIRECT : 0));
	int r;

	if (fd < 0) {
		return block_explain_open(-errno, path, o->readonly, error, size);
	}
	r = file_of_fd(fd, path, o, error, size, ret);
	if (!r) {
		(void)TAKE_FD(fd);
	}
	return r;
}

static void remember_file(struct image *i, const struct file *f)
{
	struct stat st;

	if (f->fd >= 0 && fstat(f->fd, &st) == 0) {
		i->dev = st.st_dev;
		i->ino = st.st_ino;
	}
}

static int set_up_raw(struct image *i, struct file *f, char *error, size_t size)
{
	int r = file_size(f, &i->size);

	if (r < 0) {
		return block_say(r, i->name, error, size, "its size cannot be found: %s",
				 strerror(-r));
	}
	i->size = ALIGN_UP(i->size, (uint64_t)BLOCK_SECTOR);
	i->file = f;
	return 0;
}

static int set_up_qcow2(struct image *i, struct file *f, const struct image_options *o, char *error,
			size_t size)
{
	struct qcow2_options q = { .readonly = o->readonly,
				   .no_repair = o->no_repair,
				   .allow_bitmaps = o->allow_bitmaps,
				   .cache_bytes = o->cache_bytes };
	char why[256];
	int r = o->data_file ? open_file(o->data_file, o, error, size, &q.data) : 0;

	if (r < 0) {
		return r;
	}
	r = qcow2_open(f, &q, why, sizeof(why), &i->q);
	if (r < 0) {
		file_close(q.data);
		return block_say(r, i->name, error, size, "%s", why);
	}
	return 0;
}

int image_open_file(struct file *f, const char *name, enum block_format format,
		    const struct image_options *o, char *error, size_t size, struct image **ret)
{
	struct image *i = calloc(1, sizeof(*i));
	int r = -ENOMEM;

	if (i) {
		i->format = format;
		i->readonly = o->readonly;
		i->name = strdup(name);
	}
	if (!i || !i->name) {
		block_say(r, name, error, size, "out of memory");
	} else {
		remember_file(i, f);
		r = format == BLOCK_RAW ? set_up_raw(i, f, error, size)
					: set_up_qcow2(i, f, o, error, size);
	}
	if (r < 0) {
		free(i ? i->name : NULL);
		free(i);
		return r;
	}
	*ret = i;
	return 0;
}

static int open_one(const char *path, enum block_format format, const struct image_options *o,
		    char *error, size_t size, struct image **ret)
{
	struct file *f;
	int r = open_file(path, o, error, size, &f);

	if (r < 0) {
		return r;
	}
	r = image_open_file(f, path, format, o, error, size, ret);
	if (r < 0) {
		file_close(f);
	}
	return r;
}

/* --- the chain ------------------------------------------------------------------------------- */

/* A name in a header is relative to the image's folder. */
static int resolve(const char *image, const char *name, char *buf, size_t size)
{
	const char *slash = strrchr(image, '/');
	int n;

	if (name[0] == '/' || !slash) {
		n = snprintf(buf, size, "%s", name);
	} else {
		n = snprintf(buf, size, "%.*s/%s", (int)(slash - image), image, name);
	}
	return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

/* What is behind `i`: *ret_path NULL: nothing. */
static int next_of(struct image *i, unsigned depth, const struct image_options *o, char *path,
		   size_t path_size, enum block_format *ret_format, bool *ret_any, char *error,
		   size_t size)
{
	struct qcow2_info info;

	*ret_any = false;
	if (!i->q || o->no_backing) {
		return 0;
	}
	qcow2_get_info(i->q, &info);
	if (depth < o->backing_count) {
		*ret_any = true;
		*ret_format = o->backing[depth].format;
		return snprintf(path, path_size, "%s", o->backing[depth].path) < (int)path_size
			       ? 0
			       : -ENAMETOOLONG;
	}
	if (!info.backing_name) {
		return 0;
	}
	if (!o->backing_from_header) {
		return block_say(-EINVAL, i->name, error, size,
				 "has the backing file '%s' (%s), which is used only if you say "
				 "so: backing=FILE,backing-format=raw|qcow2, or backing=header",
				 info.backing_name,
				 info.backing_format ? info.backing_format : "format not stated");
	}
	if (!info.backing_format || !block_format_parse(info.backing_format, ret_format)) {
		return block_say(-EINVAL, i->name, error, size,
				 "its backing file '%s' has the format '%s'; raw and qcow2 are "
				 "known, give backing=FILE,backing-format=",
				 info.backing_name,
				 info.backing_format ? info.backing_format : "(not stated)");
	}
	*ret_any = true;
	return resolve(i->name, info.backing_name, path, path_size);
}

static bool in_chain(const struct image *first, const struct image *i)
{
	for (const struct image *at = first; at; at = at->backing) {
		if (i->ino && at->ino == i->ino && at->dev == i->dev) {
			return true;
		}
	}
	return false;
}

/* Open all that is behind `first`. */
static int open_chain(struct image *first, const struct image_options *o, char *error, size_t size)
{
	struct image_options back = { .readonly = true,
				      .no_lock = o->no_lock,
				      .direct = o->direct,
				      .cache_bytes = o->cache_bytes };
	struct image *last = first, *next;
	enum block_format format = BLOCK_RAW;
	char path[4096];
	bool any;

	for (unsigned depth = 0;; depth++) {
		int r = next_of(last, depth, o, path, sizeof(path), &format, &any, error, size);

		if (r == -ENAMETOOLONG) {
			block_say(r, last->name, error, size,
				  "its backing file's name is too long");
		}
		if (r < 0 || !any) {
			return r;
		}
		r = open_one(path, format, &back, error, size, &next);
		if (r < 0) {
			return r;
		}
		if (in_chain(first, next)) {
			image_close(next);
			return block_say(-ELOOP, first->name, error, size,
					 "its chain of backing files comes back to '%s'; mend it: "
					 "lodge image rebase",
					 path);
		}
		last->backing = next;
		qcow2_set_backing(last->q, next);
		last = next;
	}
}

static int with_chain(struct image *i, const struct image_options *o, char *error, size_t size,
		      struct image **ret)
{
	int r = open_chain(i, o, error, size);

	if (!r) {
		*ret = i;
	}
	return r;
}

int image_open(const char *path, enum block_format format, const struct image_options *o,
	       char *error, size_t size, struct image **ret)
{
	struct image *i;
	int r = open_one(path, format, o, error, size, &i);

	if (r < 0) {
		return r;
	}
	r = with_chain(i, o, error, size, ret);
	if (r < 0) {
		image_close(i);
	}
	return r;
}

int image_open_fd(int fd, const char *path, enum block_format format, const struct image_options *o,
		  char *error, size_t size, struct image **ret)
{
	AUTO_FD own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	struct image *i;
	struct file *f;
	int r;

	/* On a copy, so that the caller keeps its own if anything fails. */
	if (own < 0) {
		return block_say(-errno, path, error, size, "is not open: %s", strerror(errno));
	}
	r = file_of_fd(own, path, o, error, size, &f);
	if (r < 0) {
		return r;
	}
	(void)TAKE_FD(own);
	r = image_open_file(f, path, format, o, error, size, &i);
	if (r < 0) {
		file_close(f);
		return r;
	}
	r = with_chain(i, o, error, size, ret);
	if (r < 0) {
		image_close(i);
	} else {
		close(fd);
	}
	return r;
}

int image_close(struct image *i)
{
	int r = 0;

	while (i) {
		struct image *next = i->backing;
		int closed = i->q ? qcow2_close(i->q) : 0;

		r = r < 0 ? r : closed;
		file_close(i->file);
		free(i->name);
		free(i);
		i = next;
	}
	return r;
}

uint64_t image_size_bytes(const struct image *i)
{
	return i->q ? qcow2_size_bytes(i->q) : i->size;
}

enum block_format image_format(const struct image *i)
{
	return i->format;
}

const char *image_name(const struct image *i)
{
	return i->name;
}

bool image_readonly(const struct image *i)
{
	return i->readonly;
}

struct qcow2 *image_qcow2(struct image *i)
{
	return i->q;
}

struct image *image_backing(struct image *i)
{
	return i->backing;
}

struct file *image_file(struct image *i)
{
	return i->q ? qcow2_data_file(i->q) : i->file;
}

/* --- reading ------------------------------------------------------------------------------------
 */

static int read_packed(struct qcow2 *q, const struct qcow2_extent *x, uint64_t offset,
		       struct cursor *c)
{
	struct qcow2_info info;
	uint8_t *buf = malloc(x->len);
	int r = -ENOMEM;

	if (buf) {
		qcow2_get_info(q, &info);
		r = qcow2_read_compressed(q, x->entry, offset & (info.cluster_bytes - 1), buf,
					  x->len);
	}
	if (!r) {
		cursor_copy(c, buf, x->len, true);
	}
	free(buf);
	return r;
}

/*
 * Read what image `i` itself has at `offset`. *ret_len is set to how much that
 * was; *ret_behind: nothing was read, it is the next image's.
 */
static int read_own(struct image *i, uint64_t offset, struct cursor *c, uint64_t len,
		    uint64_t *ret_len, bool *ret_behind)
{
	struct qcow2_extent x;
	int r;

	*ret_behind = false;
	*ret_len = len;
	if (!i->q) {
		return cursor_move(c, i->file, false, len, offset);
	}
	r = qcow2_lookup(i->q, offset, len, &x);
	if (r < 0) {
		return r;
	}
	*ret_len = x.len;
	if (x.kind == QCOW2_DATA) {
		r = cursor_move(c, qcow2_data_file(i->q), false, x.len, x.host);
	} else if (x.kind == QCOW2_COMPRESSED) {
		r = read_packed(i->q, &x, offset, c);
	} else if (x.kind == QCOW2_UNALLOCATED && i->backing) {
		*ret_behind = true;
	} else {
		cursor_zero(c, x.len);
	}
	qcow2_release(i->q, &x);
	return r;
}

int image_read_cursor(struct image *first, uint64_t offset, struct cursor *c, uint64_t len)
{
	while (len) {
		struct image *i = first;
		uint64_t n = len, size;
		bool behind = true;

		while (behind) {
			int r;

			size = image_size_bytes(i);
			if (offset >= size) {
				cursor_zero(c, n);
				break;
			}
			r = read_own(i, offset, c, MIN(n, size - offset), &n, &behind);
			if (r < 0) {
				return r;
			}
			i = i->backing;
		}
		offset += n;
		len -= n;
	}
	return 0;
}

int image_read(struct image *i, uint64_t offset, void *buf, size_t len)
{
	struct iovec iov = { buf, len };
	struct cursor c = { &iov, 1, 0 };

	if (!range_within(offset, len, image_size_bytes(i))) {
		return -EINVAL;
	}
	return image_read_cursor(i, offset, &c, len);
}

/* --- changing
 * ------------------------------------------------------------------------------------- */

static int check_change(const struct image *i, uint64_t offset, uint64_t len)
{
	if (i->readonly) {
		return -EROFS;
	}
	return range_within(offset, len, image_size_bytes(i)) ? 0 : -EINVAL;
}

int image_write(struct image *i, uint64_t offset, const void *buf, size_t len)
{
	struct iovec iov = { (void *)buf, len };
	int r = check_change(i, offset, len);

	if (r < 0) {
		return r;
	}
	return i->q ? qcow2_write(i->q, offset, &iov, 1) : file_write(i->file, buf, len, offset);
}

int image_write_zeroes(struct image *i, uint64_t offset, uint64_t len, bool unmap)
{
	int r = check_change(i, offset, len);

	if (r < 0) {
		return r;
	}
	return i->q ? qcow2_write_zeroes(i->q, offset, len, unmap)
		    : file_zero(i->file, offset, len, unmap);
}

int image_discard(struct image *i, uint64_t offset, uint64_t len)
{
	int r = check_change(i, offset, len);

	if (r < 0) {
		return r;
	}
	return i->q ? qcow2_discard(i->q, offset, len) : file_discard(i->file, offset, len);
}

int image_flush(struct image *i)
{
	if (i->readonly) {
		return 0;
	}
	return i->q ? qcow2_flush(i->q) : file_flush(i->file);
}

static int resize_raw(struct image *i, uint64_t size, enum qcow2_preallocation mode)
{
	uint64_t old = i->size;
	int r = file_truncate(i->file, size);

	if (!r) {
		i->size = ALIGN_UP(size, (uint64_t)BLOCK_SECTOR);
	}
	if (!r && size > old && mode == QCOW2_PREALLOC_FALLOC) {
		r = file_allocate(i->file, old, size - old);
	}
	for (uint64_t at = old; !r && mode == QCOW2_PREALLOC_FULL && at < size;) {
		static const uint8_t zeroes[65536];
		size_t n = MIN(size - at, sizeof(zeroes));

		r = file_write(i->file, zeroes, n, at);
		at += n;
	}
	return r;
}

int image_resize(struct image *i, uint64_t size, enum qcow2_preallocation mode, char *error,
		 size_t error_size)
{
	char why[256];
	int r;

	if (i->q) {
		r = qcow2_resize(i->q, size, mode, why, sizeof(why));
	} else {
		r = i->readonly                       ? -EROFS
		    : mode == QCOW2_PREALLOC_METADATA ? -EINVAL
						      : resize_raw(i, size, mode);
		snprintf(why, sizeof(why), "cannot be resized: %s",
			 r == -EINVAL ? "a raw image has no metadata; give off, falloc or full"
				      : strerror(-r));
	}
	return r < 0 ? block_say(r, i->name, error, error_size, "%s", why) : 0;
}

/* --- looking
 * ----------------------------------------------------------------------------------------- */

static int extent_raw(struct image *i, uint64_t offset, uint64_t len, struct image_extent *x)
{
	uint64_t start, end;
	int r = file_next_data(i->file, offset, &start, &end);

	if (r < 0) {
		return r;
	}
	x->present = x->has_host = true;
	x->host = offset;
	x->data = start <= offset && offset < end;
	x->zero = !x->data;
	x->len = MIN(len, (x->data ? end : MAX(start, offset + 1)) - offset);
	if (x->zero && start >= image_size_bytes(i)) {
		x->len = len;
	}
	/* In whole sectors, whatever the file system says. */
	x->len = MIN(len, ALIGN_UP(x->len, (uint64_t)BLOCK_SECTOR));
	return 0;
}

static int extent_qcow2(struct image *i, uint64_t offset, uint64_t len, struct image_extent *x,
			bool *ret_behind)
{
	struct qcow2_extent q;
	int r = qcow2_lookup(i->q, offset, len, &q);

	if (r < 0) {
		return r;
	}
	qcow2_release(i->q, &q);
	x->len = q.len;
	x->present = q.kind != QCOW2_UNALLOCATED;
	x->data = q.kind == QCOW2_DATA || q.kind == QCOW2_COMPRESSED;
	x->zero = !x->data;
	x->compressed = q.kind == QCOW2_COMPRESSED;
	x->has_host = q.kind == QCOW2_DATA || q.kind == QCOW2_ZERO_ALLOCATED;
	x->host = x->has_host ? q.host : 0;
	*ret_behind = q.kind == QCOW2_UNALLOCATED;
	return 0;
}

int image_extent(struct image *i, uint64_t offset, uint64_t len, unsigned depth_max,
		 struct image_extent *ret)
{
	for (unsigned depth = 0;; depth++) {
		uint64_t size = image_size_bytes(i);
		bool behind = false;
		int r;

		*ret = (struct image_extent){ .len = len, .depth = depth, .zero = true };
		if (offset >= size) {
			ret->present = depth > 0; /* a short backing image: zeroes, known as such */
			return 0;
		}
		len = MIN(len, size - offset);
		ret->len = len;
		r = i->q ? extent_qcow2(i, offset, len, ret, &behind)
			 : extent_raw(i, offset, len, ret);
		ret->depth = depth;
		if (r < 0 || !behind || !i->backing || depth + 1 >= depth_max) {
			return r;
		}
		len = ret->len;
		i = i->backing;
	}
}

static bool fast_ok(const struct file *f, uint64_t host, uint64_t len)
{
	return f->fd >= 0 && !((host | len) & (f->align - 1));
}

enum image_fast_kind image_try_fast(struct image *i, bool write, uint64_t offset, uint64_t len,
				    struct image_fast *ret)
{
	ret->holder = NULL;
	for (; i; i = i->backing) {
		struct qcow2_extent *x = &ret->extent;

		if (!i->q) {
			ret->fd = i->file->fd;
			ret->host = offset;
			return fast_ok(i->file, offset, len) && range_within(offset, len, i->size)
				       ? IMAGE_FAST_DATA
				       : IMAGE_FAST_NO;
		}
		if (!range_within(offset, len, qcow2_size_bytes(i->q)) ||
		    !qcow2_try_lookup(i->q, offset, len, x)) {
			return IMAGE_FAST_NO;
		}
		if (x->kind == QCOW2_DATA && x->len == len && (!write || x->writable) &&
		    fast_ok(qcow2_data_file(i->q), x->host, len)) {
			ret->fd = qcow2_data_file(i->q)->fd;
			ret->host = x->host;
			ret->holder = i->q;
			return IMAGE_FAST_DATA;
		}
		qcow2_release(i->q, x);
		if (x->len < len || write || x->kind == QCOW2_DATA || x->kind == QCOW2_COMPRESSED) {
			return IMAGE_FAST_NO;
		}
		if (x->kind != QCOW2_UNALLOCATED || !i->backing) {
			return IMAGE_FAST_ZERO;
		}
	}
	return IMAGE_FAST_NO;
}
