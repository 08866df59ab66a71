/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `lodge image create` and `convert`. */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/sysinfo.h>

#include "cli/image_int.h"

#define CHUNK_BYTES MIB(2) /* a whole number of clusters of any size */
#define WORKERS_MAX 8

/* --- options of creation ------------------------------------------------------------------ */

struct creation {
	struct qcow2_create_options q;
	enum qcow2_preallocation preallocation;
	bool has_size;
	char words[4096];
};

static bool parse_bool(const char *name, const char *v, bool *ret)
{
	*ret = strcmp(v, "on") == 0;
	if (!*ret && strcmp(v, "off") != 0) {
		image_usage("-o %s=%s: give on or off", name, v);
		return false;
	}
	return true;
}

static bool parse_number(const char *name, const char *v, uint32_t *ret)
{
	uint64_t n;

	if (!image_parse_size(v, &n) || !n || n > UINT32_MAX) {
		image_usage("-o %s=%s: not a number of use here", name, v);
		return false;
	}
	*ret = (uint32_t)n;
	return true;
}

static bool parse_preallocation(const char *v, enum qcow2_preallocation *ret)
{
	static const char *const modes[] = { "off", "metadata", "falloc", "full" };

	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		if (strcmp(v, modes[i]) == 0) {
			*ret = i;
			return true;
		}
	}
	image_usage("-o preallocation=%s: give off, metadata, falloc or full", v);
	return false;
}

static bool creation_word(struct creation *c, const char *name, const char *v)
{
	if (strcmp(name, "size") == 0) {
		c->has_size = true;
		return image_parse_size(v, &c->q.size) || !image_usage("-o size=%s: no size", v);
	}
	if (strcmp(name, "compat") == 0) {
		c->q.version = strcmp(v, "0.10") == 0 || strcmp(v, "v2") == 0  ? 2
			       : strcmp(v, "1.1") == 0 || strcmp(v, "v3") == 0 ? 3
									       : 0;
		return c->q.version || !image_usage("-o compat=%s: give 0.10 or 1.1", v);
	}
	if (strcmp(name, "compression_type") == 0) {
		c->q.zstd = strcmp(v, "zstd") == 0;
		return c->q.zstd || strcmp(v, "zlib") == 0 ||
		       !image_usage("-o compression_type=%s: give zlib or zstd", v);
	}
	if (strcmp(name, "cluster_size") == 0) {
		return parse_number(name, v, &c->q.cluster_bytes);
	}
	if (strcmp(name, "refcount_bits") == 0) {
		return parse_number(name, v, &c->q.refcount_bits);
	}
	if (strcmp(name, "lazy_refcounts") == 0) {
		return parse_bool(name, v, &c->q.lazy_refcounts);
	}
	if (strcmp(name, "extended_l2") == 0) {
		return parse_bool(name, v, &c->q.extended_l2);
	}
	if (strcmp(name, "data_file_raw") == 0) {
		return parse_bool(name, v, &c->q.data_file_raw);
	}
	if (strcmp(name, "preallocation") == 0) {
		return parse_preallocation(v, &c->preallocation);
	}
	if (strcmp(name, "data_file") == 0 || strcmp(name, "backing_file") == 0) {
		*(name[0] == 'd' ? &c->q.data_file_name : &c->q.backing_name) = v;
		return true;
	}
	if (strcmp(name, "backing_fmt") == 0) {
		c->q.backing_format = v;
		return true;
	}
	image_usage("-o %s: there is no such option; see: lodge image --help", name);
	return false;
}

/* False: it is said what is wrong. */
static bool parse_creation(const struct image_args *a, struct creation *c)
{
	char *word, *rest = c->words;

	*c = (struct creation){ .q.backing_name = a->backing };
	if (a->backing) {
		c->q.backing_format = a->has_format2 ? block_format_name(a->format2) : NULL;
	}
	if (!a->create_options) {
		return true;
	}
	if (snprintf(c->words, sizeof(c->words), "%s", a->create_options) >=
	    (int)sizeof(c->words)) {
		image_usage("-o: too long");
		return false;
	}
	while ((word = strsep(&rest, ","))) {
		char *value = strchr(word, '=');

		if (!value) {
			image_usage("-o %s: its value is missing; give NAME=VALUE", word);
			return false;
		}
		*value++ = '\0';
		if (!creation_word(c, word, value)) {
			return false;
		}
	}
	return true;
}

/* --- an empty image ------------------------------------------------------------------------- */

/* A name in the image's header is relative to the image's folder. */
static void beside(const char *image, const char *name, char *buf, size_t size)
{
	const char *slash = strrchr(image, '/');

	if (name[0] == '/' || !slash) {
		snprintf(buf, size, "%s", name);
	} else {
		snprintf(buf, size, "%.*s/%s", (int)(slash - image), image, name);
	}
}

static bool make_data_file(const char *image, const struct creation *c, char *path, size_t size)
{
	int fd;

	beside(image, c->q.data_file_name, path, size);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, (off_t)c->q.size) < 0) {
		image_fail("data file %s: cannot be made: %s", path, strerror(errno));
		if (fd >= 0) {
			close(fd);
		}
		return false;
	}
	close(fd);
	return true;
}

/* Make it in `out` and open it for writing. The file is the image's from then on. */
static bool make_image(struct image_output *out, enum block_format format, struct creation *c,
		       struct image **ret)
{
	struct image_options o = { .no_lock = true, .no_backing = true };
	char error[512], data[4096];
	int r;

	if (format == BLOCK_QCOW2) {
		r = qcow2_create(out->file, &c->q, error, sizeof(error));
		if (r < 0) {
			image_fail("image %s: %s", out->name, error);
			return false;
		}
		if (c->q.data_file_name) {
			if (!make_data_file(out->name, c, data, sizeof(data))) {
				return false;
			}
			o.data_file = data;
		}
	} else {
		r = file_truncate(out->file, c->q.size);
		if (r < 0) {
			image_fail("image %s: cannot have this size: %s", out->name, strerror(-r));
			return false;
		}
	}
	r = image_open_file(out->file, out->name, format, &o, error, sizeof(error), ret);
	if (r < 0) {
		image_fail("%s", error);
		return false;
	}
	out->file = NULL;
	return true;
}

static int preallocate(struct image *i, enum qcow2_preallocation mode)
{
	uint64_t size = image_size_bytes(i);

	if (image_qcow2(i)) {
		return qcow2_preallocate(image_qcow2(i), 0, size, mode);
	}
	if (mode == QCOW2_PREALLOC_FALLOC) {
		return file_allocate(image_file(i), 0, size);
	}
	if (mode == QCOW2_PREALLOC_FULL) {
		int r = image_resize(i, 0, QCOW2_PREALLOC_OFF, NULL, 0);

		return r < 0 ? r : image_resize(i, size, mode, NULL, 0);
	}
	return 0;
}

/* Close, and give it its name if all went well. Returns the exit status. */
static int finish(struct image_output *out, struct image *i, int r)
{
	int closed;

	if (!r && i) {
		r = image_flush(i);
	}
	closed = image_close(i);
	r = r < 0 ? r : closed;
	if (r < 0) {
		image_output_abandon(out);
		return image_fail("image %s: cannot be written: %s", out->name, strerror(-r));
	}
	return image_output_commit(out) ? 0 : IMAGE_EXIT_FAILURE;
}

static bool check_creation(const struct image_args *a, const struct creation *c,
			   enum block_format format)
{
	if (format == BLOCK_RAW &&
	    (c->q.backing_name || c->q.version || c->q.cluster_bytes || c->q.refcount_bits ||
	     c->q.zstd || c->q.extended_l2 || c->q.lazy_refcounts || c->q.data_file_name)) {
		image_usage("image %s: raw images have a size and preallocation, nothing else; "
			    "-f qcow2 has",
			    a->files[0]);
		return false;
	}
	if (c->q.backing_name && !c->q.backing_format) {
		image_usage("image %s: the backing file's format is not stated; give -F raw or -F "
			    "qcow2",
			    a->files[0]);
		return false;
	}
	if (c->preallocation && c->q.backing_name) {
		image_usage("image %s: preallocation would hide the backing file", a->files[0]);
		return false;
	}
	return true;
}

/* Without a size, an image is as large as its backing image. */
static bool size_of_backing(const struct image_args *a, struct creation *c)
{
	struct image_options o = { .readonly = true, .no_backing = true, .no_lock = true };
	enum block_format format;
	char path[4096], error[512];
	struct image *i;

	if (!block_format_parse(c->q.backing_format, &format)) {
		image_usage("-F %s: there is no such format; give raw or qcow2",
			    c->q.backing_format);
		return false;
	}
	beside(a->files[0], c->q.backing_name, path, sizeof(path));
	if (image_open(path, format, &o, error, sizeof(error), &i) < 0) {
		image_fail("%s", error);
		return false;
	}
	c->q.size = image_size_bytes(i);
	image_close(i);
	return true;
}

int image_cmd_create(const struct image_args *a)
{
	enum block_format format = a->has_format ? a->format : BLOCK_RAW;
	struct image_output out;
	struct creation c;
	struct image *i;

	if (!parse_creation(a, &c) || !check_creation(a, &c, format)) {
		return IMAGE_EXIT_USAGE;
	}
	if (a->file_count == 2 && !image_parse_size(a->files[1], &c.q.size)) {
		return image_usage("image create: %s: not a size; give one like 10G", a->files[1]);
	}
	if (a->file_count == 1 && !c.has_size) {
		if (!c.q.backing_name) {
			return image_usage("image %s: its size is missing; give one like 10G",
					   a->files[0]);
		}
		if (!size_of_backing(a, &c)) {
			return IMAGE_EXIT_FAILURE;
		}
	}
	if (!image_output_begin(&out, a->files[0])) {
		return IMAGE_EXIT_FAILURE;
	}
	if (!make_image(&out, format, &c, &i)) {
		file_close(out.file);
		image_output_abandon(&out);
		return IMAGE_EXIT_FAILURE;
	}
	return finish(&out, i, preallocate(i, c.preallocation));
}

/* --- convert ------------------------------------------------------------------------------------
 */

/* What the workers share. */
struct conversion {
	const struct image_args *a;
	struct image *in, *out;
	bool from_snapshot;
	unsigned snapshot;
	uint64_t size, unit; /* zeroes are left out in whole units */
	pthread_mutex_t lock;
	uint64_t next, done; /* under the lock */
	int result;
};

static bool is_zero(const uint8_t *p, size_t len)
{
	return !p[0] && memcmp(p, p + 1, len - 1) == 0;
}

static int write_piece(struct conversion *c, uint64_t at, const uint8_t *buf, size_t len)
{
	int r = 0;

	if (!c->a->compress) {
		return image_write(c->out, at, buf, len);
	}
	for (size_t n = 0; n < len && !r; n += c->unit) {
		r = qcow2_write_compressed(image_qcow2(c->out), at + n, buf + n,
					   MIN(c->unit, len - n));
	}
	return r;
}

/* Write what is not zeroes, in runs of units. The output reads as zeroes where nothing is written.
 */
static int write_data(struct conversion *c, uint64_t at, const uint8_t *buf, size_t len)
{
	size_t start = 0, n;
	bool data = false;
	int r = 0;

	for (size_t i = 0; i <= len && !r; i += n) {
		bool zero = i == len;

		n = i < len ? MIN(c->unit, len - i) : 1;
		zero = zero || is_zero(buf + i, n);
		if (data && zero) {
			r = write_piece(c, at + start, buf + start, i - start);
		}
		if (!data && !zero) {
			start = i;
		}
		data = !zero;
	}
	return r;
}

static int read_chunk(struct conversion *c, uint64_t at, uint8_t *buf, size_t len)
{
	return c->from_snapshot ? qcow2_snapshot_read(image_qcow2(c->in), c->snapshot, at, buf, len)
				: image_read(c->in, at, buf, len);
}

static bool chunk_is_zero(struct conversion *c, uint64_t at, uint64_t len)
{
	struct image_extent x;

	while (len && !c->from_snapshot) {
		if (image_extent(c->in, at, len, UINT32_MAX, &x) < 0 || !x.zero) {
			return false;
		}
		at += x.len;
		len -= x.len;
	}
	return !len;
}

static int convert_chunk(struct conversion *c, uint64_t at, uint8_t *buf, size_t len)
{
	int r;

	if (chunk_is_zero(c, at, len)) {
		return 0;
	}
	r = read_chunk(c, at, buf, len);
	return r < 0 ? r : write_data(c, at, buf, len);
}

/* The next chunk. False: there is none, or something has failed. */
static bool next_chunk(struct conversion *c, uint64_t *at, uint64_t *len)
{
	bool more;

	pthread_mutex_lock(&c->lock);
	more = !c->result && c->next < c->size;
	*at = c->next;
	*len = more ? MIN(CHUNK_BYTES, c->size - c->next) : 0;
	c->next += *len;
	pthread_mutex_unlock(&c->lock);
	return more;
}

static void *convert_worker(void *opaque)
{
	struct conversion *c = opaque;
	uint8_t *buf = NULL;
	uint64_t at, len;
	int r = posix_memalign((void **)&buf, 4096, CHUNK_BYTES) ? -ENOMEM : 0;

	while (!r && next_chunk(c, &at, &len)) {
		r = convert_chunk(c, at, buf, len);
		pthread_mutex_lock(&c->lock);
		c->done += len;
		if (!r) {
			image_progress(c->a, (double)c->done / (double)c->size);
		}
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_lock(&c->lock);
	c->result = c->result ? c->result : r;
	pthread_mutex_unlock(&c->lock);
	free(buf);
	return NULL;
}

static int convert_all(struct conversion *c)
{
	unsigned count = MIN((unsigned)get_nprocs() + 2, (unsigned)WORKERS_MAX), started = 0;
	pthread_t threads[WORKERS_MAX];

	pthread_mutex_init(&c->lock, NULL);
	while (started < count && !pthread_create(&threads[started], NULL, convert_worker, c)) {
		started++;
	}
	if (!started) {
		convert_worker(c);
	}
	for (unsigned i = 0; i < started; i++) {
		pthread_join(threads[i], NULL);
	}
	pthread_mutex_destroy(&c->lock);
	return c->result;
}

static bool find_snapshot(const struct image_args *a, struct conversion *c)
{
	struct qcow2 *q = image_qcow2(c->in);

	if (!a->snapshot) {
		return true;
	}
	if (!q || qcow2_snapshot_find(q, a->snapshot, &c->snapshot) < 0) {
		image_fail("image %s: there is no snapshot '%s'", a->files[0], a->snapshot);
		return false;
	}
	c->from_snapshot = true;
	c->size = qcow2_snapshot_at(q, c->snapshot)->disk_bytes;
	return true;
}

static int convert_to(const struct image_args *a, struct conversion *c, struct creation *n)
{
	struct image_output out;
	int r;

	if (!image_output_begin(&out, a->files[1])) {
		return IMAGE_EXIT_FAILURE;
	}
	n->q.size = c->size;
	if (!make_image(&out, a->format2, n, &c->out)) {
		file_close(out.file);
		image_output_abandon(&out);
		return IMAGE_EXIT_FAILURE;
	}
	c->unit = 4096;
	if (image_qcow2(c->out)) {
		struct qcow2_info info;

		qcow2_get_info(image_qcow2(c->out), &info);
		c->unit = info.cluster_bytes;
	}
	r = preallocate(c->out, n->preallocation);
	return finish(&out, c->out, r < 0 ? r : convert_all(c));
}

int image_cmd_convert(const struct image_args *a)
{
	struct conversion c = { .a = a };
	struct creation n;
	int status;

	if (!a->has_format2) {
		return image_usage("image convert: -O is missing; give -O raw or -O qcow2");
	}
	if (a->compress && a->format2 != BLOCK_QCOW2) {
		return image_usage("image convert: -c: only qcow2 images are compressed");
	}
	if (!parse_creation(a, &n) || !check_creation(a, &n, a->format2)) {
		return IMAGE_EXIT_USAGE;
	}
	if (n.q.backing_name) {
		return image_usage("image convert: the output has no backing file; make one by "
				   "create -b, and rebase");
	}
	if (!image_open_arg(a, 0, a->format, true, &c.in)) {
		return IMAGE_EXIT_FAILURE;
	}
	c.size = image_size_bytes(c.in);
	status = find_snapshot(a, &c) ? convert_to(a, &c, &n) : IMAGE_EXIT_FAILURE;
	image_close(c.in);
	return status;
}
