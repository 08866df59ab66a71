/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `lodge image resize`, `commit`, `rebase`: in place, each step safe against a cut. */
#include <inttypes.h>
#include <stdlib.h>

#include "cli/image_int.h"

#define CHUNK_BYTES MIB(1)

/* Close; the exit status of what `r` says. */
static int finish(const struct image_args *a, struct image *i, int r)
{
	int closed = image_close(i);

	r = r < 0 ? r : closed;
	return r < 0 ? image_fail("image %s: cannot be changed: %s", a->files[0], strerror(-r)) : 0;
}

/* --- resize --------------------------------------------------------------------------------- */

/* "10G", "+1G", "-512M". */
static bool parse_new_size(const char *text, uint64_t old, uint64_t *ret)
{
	uint64_t n;

	if (!image_parse_size(text + (*text == '+' || *text == '-'), &n)) {
		return false;
	}
	if (*text == '-') {
		*ret = old - n;
		return n <= old;
	}
	*ret = n;
	return *text != '+' || !__builtin_add_overflow(old, n, ret);
}

int image_cmd_resize(const struct image_args *a)
{
	char error[512];
	struct image *i;
	uint64_t size;
	int r;

	if (!image_open_arg(a, 0, a->format, false, &i)) {
		return IMAGE_EXIT_FAILURE;
	}
	if (!parse_new_size(a->files[1], image_size_bytes(i), &size)) {
		image_close(i);
		return image_usage("image resize: %s: not a size; give one like 20G or +5G",
				   a->files[1]);
	}
	if (size < image_size_bytes(i) && !a->shrink) {
		image_close(i);
		return image_fail("image %s: would become smaller, and lose what is behind; if "
				  "that is meant, give --shrink",
				  a->files[0]);
	}
	r = image_resize(i, size, a->preallocation, error, sizeof(error));
	if (r < 0) {
		image_close(i);
		return image_fail("%s", error);
	}
	return finish(a, i, image_flush(i));
}

/* --- commit ----------------------------------------------------------------------------------- */

static int commit_extent(struct image *top, struct image *base, uint64_t at,
			 const struct image_extent *x, uint8_t *buf)
{
	int r = 0;

	if (x->zero) {
		return image_write_zeroes(base, at, x->len, true);
	}
	for (uint64_t done = 0, n; done < x->len && !r; done += n) {
		n = MIN(CHUNK_BYTES, x->len - done);
		r = image_read(top, at + done, buf, n);
		if (!r) {
			r = image_write(base, at + done, buf, n);
		}
	}
	return r;
}

/* Write all that `top` itself has to `base`. */
static int commit_all(const struct image_args *a, struct image *top, struct image *base)
{
	uint64_t size = image_size_bytes(top);
	struct image_extent x = { .len = 0 };
	uint8_t *buf = malloc(CHUNK_BYTES);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t at = 0; at < size && !r; at += x.len) {
		image_progress(a, (double)at / (double)size);
		r = image_extent(top, at, size - at, 1, &x);
		if (!r && x.present) {
			r = commit_extent(top, base, at, &x, buf);
		}
	}
	if (!r) {
		image_progress(a, 1);
		r = image_flush(base);
	}
	free(buf);
	return r;
}

static bool open_base(const struct image_args *a, struct image **ret)
{
	struct image_options o = { .backing = a->chain + 1,
				   .backing_count = a->chain_count - 1,
				   .backing_from_header = a->chain_from_header };
	char error[512];

	if (image_open(a->chain[0].path, a->chain[0].format, &o, error, sizeof(error), ret) < 0) {
		image_fail("%s", error);
		return false;
	}
	return true;
}

/* The base is complete and stable before anything of the top is given up. */
int image_cmd_commit(const struct image_args *a)
{
	struct image_options o = { .no_backing = true, .data_file = a->data_file };
	struct image *top, *base;
	char error[512];
	int r = 0, closed;

	if (!a->chain_count || a->format != BLOCK_QCOW2) {
		return image_usage("image commit: state the image to commit into: --backing FILE "
				   "--backing-format raw|qcow2");
	}
	if (image_open(a->files[0], a->format, &o, error, sizeof(error), &top) < 0) {
		return image_fail("%s", error);
	}
	if (!open_base(a, &base)) {
		image_close(top);
		return IMAGE_EXIT_FAILURE;
	}
	if (image_size_bytes(base) < image_size_bytes(top)) {
		r = image_resize(base, image_size_bytes(top), QCOW2_PREALLOC_OFF, error,
				 sizeof(error));
	}
	if (!r) {
		r = commit_all(a, top, base);
	}
	closed = image_close(base);
	r = r < 0 ? r : closed;
	if (!r) {
		r = qcow2_unallocate(image_qcow2(top), 0, image_size_bytes(top));
	}
	return finish(a, top, r);
}

/* --- rebase --------------------------------------------------------------------------------------
 */

static int read_padded(struct image *i, uint64_t at, uint8_t *buf, size_t len)
{
	uint64_t size = i ? image_size_bytes(i) : 0, have = at < size ? MIN(len, size - at) : 0;

	memset(buf + have, 0, len - have);
	return have ? image_read(i, at, buf, have) : 0;
}

/* Where the new chain has something else than the old one, the image gets it itself. */
static int keep_content(struct image *top, struct image *new, uint64_t at, uint64_t len,
			uint64_t unit, uint8_t *was, uint8_t *is)
{
	int r = image_read(top, at, was, len);

	if (!r) {
		r = read_padded(new, at, is, len);
	}
	for (uint64_t n = 0; n < len && !r; n += unit) {
		uint64_t piece = MIN(unit, len - n);

		if (memcmp(was + n, is + n, piece) != 0) {
			r = image_write(top, at + n, was + n, piece);
		}
	}
	return r;
}

static int keep_all(const struct image_args *a, struct image *top, struct image *new)
{
	uint64_t size = image_size_bytes(top), n;
	uint8_t *was = malloc(CHUNK_BYTES * 2), *is = malloc(CHUNK_BYTES * 2);
	struct qcow2_info info;
	int r = was && is ? 0 : -ENOMEM;

	qcow2_get_info(image_qcow2(top), &info);
	for (uint64_t at = 0; at < size && !r; at += n) {
		struct image_extent x;

		image_progress(a, (double)at / (double)size);
		r = image_extent(top, at, MIN(CHUNK_BYTES * 2, size - at), 1, &x);
		n = x.len;
		if (!r && !x.present) {
			r = keep_content(top, new, at, n, info.cluster_bytes, was, is);
		}
	}
	if (!r) {
		image_progress(a, 1);
		r = image_flush(top);
	}
	free(was);
	free(is);
	return r;
}

static bool open_new(const struct image_args *a, struct image **ret)
{
	struct image_options o = { .readonly = true,
				   .no_lock = true, /* it may be in the old chain too */
				   .backing_from_header = a->chain_from_header };
	char error[512];

	*ret = NULL;
	if (a->unsafe || !a->backing || !*a->backing) {
		return true;
	}
	if (image_open(a->backing, a->format2, &o, error, sizeof(error), ret) < 0) {
		image_fail("%s", error);
		return false;
	}
	return true;
}

static int rebase(const struct image_args *a, struct image *top, struct image *new)
{
	bool none = !*a->backing;
	char error[256];
	int r = a->unsafe ? 0 : keep_all(a, top, new);

	if (r < 0) {
		return finish(a, top, r);
	}
	r = qcow2_change_backing(image_qcow2(top), none ? NULL : a->backing,
				 none ? NULL : block_format_name(a->format2), error, sizeof(error));
	if (r < 0) {
		image_close(top);
		return image_fail("image %s: %s", a->files[0], error);
	}
	return finish(a, top, 0);
}

int image_cmd_rebase(const struct image_args *a)
{
	struct image_options o = { .no_backing = a->unsafe,
				   .backing = a->chain,
				   .backing_count = a->chain_count,
				   .backing_from_header = a->chain_from_header };
	struct image *top, *new;
	char error[512];
	int status;

	if (!a->backing || (*a->backing && !a->has_format2) || a->format != BLOCK_QCOW2) {
		return image_usage(
			"image rebase: state the new backing file: -b FILE -F raw|qcow2, "
			"or -b \"\" for none");
	}
	if (image_open(a->files[0], a->format, &o, error, sizeof(error), &top) < 0) {
		return image_fail("%s", error);
	}
	if (!open_new(a, &new)) {
		image_close(top);
		return IMAGE_EXIT_FAILURE;
	}
	status = rebase(a, top, new);
	image_close(new);
	return status;
}
