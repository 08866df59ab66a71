/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `lodge image info`, `map`, `check`, `compare`: what only looks (check may repair). */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/image_int.h"

#define CHUNK_BYTES MIB(2)

static void human_size(char *buf, size_t size, uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	double v = (double)bytes;
	unsigned i = 0;

	for (; v >= 1024 && i + 1 < ARRAY_SIZE(units); i++) {
		v /= 1024;
	}
	snprintf(buf, size, "%.3g %s", v, units[i]);
}

static const char *yes(bool b)
{
	return b ? "true" : "false";
}

/* --- info ---------------------------------------------------------------------------------- */

static uint64_t space_of(struct image *i)
{
	struct stat st;

	return fstat(image_file(i)->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static void json_pair(const char *key, const char *value)
{
	if (value) {
		printf(",\n    \"%s\": ", key);
		image_json_string(stdout, value);
	}
}

static void info_json_snapshots(struct qcow2 *q)
{
	printf(",\n    \"snapshots\": [");
	for (unsigned i = 0; i < qcow2_snapshot_count(q); i++) {
		const struct qcow2_snapshot *s = qcow2_snapshot_at(q, i);

		printf("%s\n        { \"id\": ", i ? "," : "");
		image_json_string(stdout, s->id);
		printf(", \"name\": ");
		image_json_string(stdout, s->name);
		printf(", \"date-sec\": %" PRIu64 ", \"date-nsec\": %u, \"vm-state-size\": %" PRIu64
		       ", \"vm-clock-sec\": %" PRIu64 ", \"vm-clock-nsec\": %" PRIu64
		       ", \"disk-size\": %" PRIu64 " }",
		       s->date_sec, s->date_nsec, s->vm_state_bytes, s->vm_clock_ns / 1000000000,
		       s->vm_clock_ns % 1000000000, s->disk_bytes);
	}
	printf("\n    ]");
}

static void info_json_qcow2(struct qcow2 *q)
{
	struct qcow2_info n;

	qcow2_get_info(q, &n);
	printf(",\n    \"cluster-size\": %u,\n    \"dirty-flag\": %s", n.cluster_bytes,
	       yes(n.dirty));
	json_pair("backing-filename", n.backing_name);
	json_pair("backing-filename-format", n.backing_format);
	if (n.snapshots) {
		info_json_snapshots(q);
	}
	printf(",\n    \"format-specific\": { \"type\": \"qcow2\", \"data\": {\n"
	       "        \"compat\": \"%s\", \"compression-type\": \"%s\", \"lazy-refcounts\": %s,\n"
	       "        \"refcount-bits\": %u, \"corrupt\": %s, \"extended-l2\": %s, "
	       "\"bitmaps\": %u",
	       n.version == 2 ? "0.10" : "1.1", n.zstd ? "zstd" : "zlib", yes(n.lazy_refcounts),
	       n.refcount_bits, yes(n.corrupt), yes(n.extended_l2), n.bitmaps);
	if (n.data_file) {
		printf(",\n        \"data-file\": ");
		image_json_string(stdout, n.data_file_name ? n.data_file_name : "");
		printf(", \"data-file-raw\": %s", yes(n.data_file_raw));
	}
	printf("\n    } }");
}

static void list_snapshots(struct qcow2 *q)
{
	printf("%-10s %-24s %12s  %-19s\n", "ID", "NAME", "VM STATE", "DATE");
	for (unsigned i = 0; i < qcow2_snapshot_count(q); i++) {
		const struct qcow2_snapshot *s = qcow2_snapshot_at(q, i);
		time_t when = (time_t)s->date_sec;
		char date[32] = "", size[24];
		struct tm tm;

		if (localtime_r(&when, &tm)) {
			strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
		}
		human_size(size, sizeof(size), s->vm_state_bytes);
		printf("%-10s %-24s %12s  %-19s\n", s->id, s->name, size, date);
	}
}

static void info_human_qcow2(struct qcow2 *q)
{
	struct qcow2_info n;

	qcow2_get_info(q, &n);
	printf("cluster size: %u\nversion: %u\ncompression: %s\nrefcount bits: %u\n",
	       n.cluster_bytes, n.version, n.zstd ? "zstd" : "zlib", n.refcount_bits);
	if (n.backing_name) {
		printf("backing file: %s (format %s)\n", n.backing_name,
		       n.backing_format ? n.backing_format : "not stated");
	}
	if (n.data_file) {
		printf("data file: %s%s\n", n.data_file_name ? n.data_file_name : "(not named)",
		       n.data_file_raw ? ", raw" : "");
	}
	printf("%s%s%s%s", n.extended_l2 ? "extended L2 entries\n" : "",
	       n.lazy_refcounts ? "lazy refcounts\n" : "",
	       n.dirty ? "was not closed cleanly\n" : "",
	       n.corrupt ? "is marked as damaged; see: lodge image check --repair\n" : "");
	if (n.bitmaps) {
		printf("bitmaps: %u\n", n.bitmaps);
	}
	if (n.snapshots) {
		list_snapshots(q);
	}
}

/* Its data file is not needed to read the header, so another may stand for it. */
static bool open_info(const struct image_args *a, struct image **ret)
{
	struct image_options o = { .readonly = true,
				   .no_backing = true,
				   .no_lock = a->force_share };
	char error[512];
	int r = image_open(a->files[0], a->format, &o, error, sizeof(error), ret);

	if (r == -EINVAL && a->format == BLOCK_QCOW2) {
		o.data_file = a->files[0];
		r = image_open(a->files[0], a->format, &o, error, sizeof(error), ret);
	}
	return r >= 0 || !image_fail("%s", error);
}

int image_cmd_info(const struct image_args *a)
{
	char size[24], space[24];
	struct image *i;

	if (!open_info(a, &i)) {
		return IMAGE_EXIT_FAILURE;
	}
	if (a->json) {
		printf("{\n    \"filename\": ");
		image_json_string(stdout, a->files[0]);
		printf(",\n    \"format\": \"%s\",\n    \"virtual-size\": %" PRIu64
		       ",\n    \"actual-size\": %" PRIu64,
		       block_format_name(a->format), image_size_bytes(i), space_of(i));
		if (image_qcow2(i)) {
			info_json_qcow2(image_qcow2(i));
		}
		printf("\n}\n");
	} else {
		human_size(size, sizeof(size), image_size_bytes(i));
		human_size(space, sizeof(space), space_of(i));
		printf("image: %s\nformat: %s\nvirtual size: %s (%" PRIu64
		       " bytes)\ndisk size: %s\n",
		       a->files[0], block_format_name(a->format), size, image_size_bytes(i), space);
		if (image_qcow2(i)) {
			info_human_qcow2(image_qcow2(i));
		}
	}
	image_close(i);
	return 0;
}

/* --- map -------------------------------------------------------------------------------------- */

static bool same_kind(const struct image_extent *a, const struct image_extent *b)
{
	return a->depth == b->depth && a->present == b->present && a->zero == b->zero &&
	       a->data == b->data && a->compressed == b->compressed && a->has_host == b->has_host &&
	       (!a->has_host || b->host == a->host + a->len);
}

static void map_row(const struct image_args *a, uint64_t at, const struct image_extent *x,
		    bool first)
{
	if (!a->json) {
		if (x->data) {
			printf("0x%-14" PRIx64 " 0x%-14" PRIx64 " ", at, x->len);
			printf(x->has_host ? "0x%-14" PRIx64 " %u\n"
					   : "compressed%.0" PRIx64 "       %u\n",
			       x->host, x->depth);
		}
		return;
	}
	printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %u, "
	       "\"present\": %s, \"zero\": %s, \"data\": %s",
	       first ? "[" : ",\n", at, x->len, x->depth, yes(x->present), yes(x->zero),
	       yes(x->data));
	if (x->has_host) {
		printf(", \"offset\": %" PRIu64, x->host);
	}
	printf("}");
}

int image_cmd_map(const struct image_args *a)
{
	struct image_extent x, next;
	uint64_t at = 0, start = 0, size;
	bool any = false, first = true;
	struct image *i;
	int r = 0;

	if (!image_open_arg(a, 0, a->format, true, &i)) {
		return IMAGE_EXIT_FAILURE;
	}
	if (!a->json) {
		printf("%-16s %-16s %-16s %s\n", "Offset", "Length", "Mapped to", "Depth");
	}
	size = image_size_bytes(i);
	for (; at < size && !r; at += next.len) {
		r = image_extent(i, at, size - at, UINT32_MAX, &next);
		if (r < 0) {
			break;
		}
		if (any && same_kind(&x, &next)) {
			x.len += next.len;
			continue;
		}
		if (any) {
			map_row(a, start, &x, first);
			first = false;
		}
		x = next;
		start = at;
		any = true;
	}
	if (any) {
		map_row(a, start, &x, first);
	}
	printf("%s", a->json ? any ? "]\n" : "[]\n" : "");
	image_close(i);
	return r < 0 ? image_fail("image %s: cannot be read: %s", a->files[0], strerror(-r)) : 0;
}

/* --- check --------------------------------------------------------------------------------------
 */

static void print_finding(void *opaque, const char *line)
{
	fprintf(stderr, "%s\n", line);
}

static void check_print(const struct image_args *a, const struct qcow2_check *c)
{
	if (a->json) {
		printf("{\n    \"filename\": ");
		image_json_string(stdout, a->files[0]);
		printf(",\n    \"format\": \"qcow2\",\n    \"check-errors\": 0,\n"
		       "    \"image-end-offset\": %" PRIu64 ",\n    \"corruptions\": %" PRIu64
		       ",\n    \"leaks\": %" PRIu64 ",\n    \"stale-flags\": %" PRIu64
		       ",\n    \"corruptions-fixed\": %" PRIu64 ",\n    \"leaks-fixed\": %" PRIu64
		       ",\n    \"total-clusters\": %" PRIu64
		       ",\n    \"allocated-clusters\": %" PRIu64
		       ",\n    \"fragmented-clusters\": %" PRIu64
		       ",\n    \"compressed-clusters\": %" PRIu64 "\n}\n",
		       c->image_end, c->corruptions, c->leaks, c->stale_flags, c->fixed_corruptions,
		       c->fixed_leaks, c->total_clusters, c->allocated_clusters,
		       c->fragmented_clusters, c->compressed_clusters);
		return;
	}
	if (a->quiet) {
		return;
	}
	if (c->fixed_corruptions || c->fixed_leaks || c->fixed_flags) {
		printf("repaired: %" PRIu64 " errors, %" PRIu64 " leaked clusters, %" PRIu64
		       " flags\n",
		       c->fixed_corruptions, c->fixed_leaks, c->fixed_flags);
	}
	if (!c->corruptions && !c->leaks && !c->stale_flags) {
		printf("no errors were found\n");
	} else {
		printf("%" PRIu64 " errors (data may be lost), %" PRIu64 " leaked clusters (space "
		       "only), %" PRIu64 " flags missing (harmless)\n",
		       c->corruptions, c->leaks, c->stale_flags);
	}
	printf("clusters: %" PRIu64 " of %" PRIu64 " allocated, %" PRIu64 " fragmented, %" PRIu64
	       " compressed\n",
	       c->allocated_clusters, c->total_clusters, c->fragmented_clusters,
	       c->compressed_clusters);
}

int image_cmd_check(const struct image_args *a)
{
	unsigned repair = a->repair_all     ? QCOW2_REPAIR_ALL
			  : a->repair_leaks ? QCOW2_REPAIR_LEAKS
					    : 0;
	struct image_options o = { .readonly = !repair,
				   .no_backing = true,
				   .no_repair = true,
				   .allow_bitmaps = true,
				   .no_lock = a->force_share && !repair,
				   .data_file = a->data_file };
	struct qcow2_check c = { .report = a->quiet ? NULL : print_finding };
	struct image *i;
	char error[512];
	int r;

	if (a->format == BLOCK_RAW) {
		return image_fail("image %s: a raw image has nothing to check", a->files[0]);
	}
	if (image_open(a->files[0], a->format, &o, error, sizeof(error), &i) < 0) {
		return image_fail("%s", error);
	}
	r = qcow2_check(image_qcow2(i), repair, &c);
	if (r < 0) {
		image_close(i);
		return image_fail("image %s: cannot be checked: %s", a->files[0], strerror(-r));
	}
	r = image_close(i);
	if (r < 0) {
		return image_fail("image %s: cannot be written: %s", a->files[0], strerror(-r));
	}
	check_print(a, &c);
	return c.corruptions ? IMAGE_EXIT_FAILURE : c.leaks ? IMAGE_EXIT_LEAKS : 0;
}

/* --- compare
 * ---------------------------------------------------------------------------------------- */

/* How much from `at` on is zeroes in both without a look. */
static int both_zero(struct image *x, struct image *y, uint64_t at, uint64_t len, uint64_t *ret)
{
	struct image *images[] = { x, y };

	*ret = len;
	for (unsigned i = 0; i < 2; i++) {
		struct image_extent e = { .zero = true, .len = len };
		uint64_t size = image_size_bytes(images[i]);
		int r = at < size ? image_extent(images[i], at, MIN(len, size - at), UINT32_MAX, &e)
				  : 0;

		if (r < 0 || !e.zero) {
			*ret = 0;
			return r;
		}
		*ret = MIN(*ret, e.len);
	}
	return 0;
}

/* Beyond the end of the shorter one is zeroes. */
static int read_padded(struct image *i, uint64_t at, uint8_t *buf, size_t len)
{
	uint64_t size = image_size_bytes(i), have = at < size ? MIN(len, size - at) : 0;

	memset(buf + have, 0, len - have);
	return have ? image_read(i, at, buf, have) : 0;
}

static int compare_all(const struct image_args *a, struct image *x, struct image *y,
		       uint64_t *ret_at)
{
	uint64_t end = MAX(image_size_bytes(x), image_size_bytes(y)), at = 0, n;
	uint8_t *p = malloc(CHUNK_BYTES), *q = malloc(CHUNK_BYTES);
	int r = p && q ? 0 : -ENOMEM;

	*ret_at = UINT64_MAX;
	for (; at < end && !r && *ret_at == UINT64_MAX; at += n) {
		image_progress(a, (double)at / (double)end);
		r = both_zero(x, y, at, end - at, &n);
		if (r < 0 || n) {
			continue;
		}
		n = MIN(CHUNK_BYTES, end - at);
		r = read_padded(x, at, p, n);
		if (!r) {
			r = read_padded(y, at, q, n);
		}
		for (uint64_t i = 0; !r && i < n && *ret_at == UINT64_MAX; i += 512) {
			if (memcmp(p + i, q + i, MIN(512, n - i)) != 0) {
				*ret_at = at + i;
			}
		}
	}
	image_progress(a, 1);
	free(p);
	free(q);
	return r;
}

int image_cmd_compare(const struct image_args *a)
{
	enum block_format second = a->has_format2 ? a->format2 : a->format;
	struct image *x, *y;
	uint64_t at;
	int r;

	if (!image_open_arg(a, 0, a->format, true, &x)) {
		return IMAGE_EXIT_FAILURE;
	}
	if (!image_open_arg(a, 1, second, true, &y)) {
		image_close(x);
		return IMAGE_EXIT_FAILURE;
	}
	r = compare_all(a, x, y, &at);
	image_close(x);
	image_close(y);
	if (r < 0) {
		return image_fail("the images cannot be read: %s", strerror(-r));
	}
	if (at != UINT64_MAX) {
		if (!a->quiet) {
			printf("images differ at offset %" PRIu64 "\n", at);
		}
		return IMAGE_EXIT_FAILURE;
	}
	if (!a->quiet) {
		printf("images are identical\n");
	}
	return 0;
}

/* --- snapshot
 * ------------------------------------------------------------------------------------------ */

static int change_snapshot(const struct image_args *a, struct qcow2 *q, char *error, size_t size)
{
	unsigned at;

	if (a->action == 'c') {
		return qcow2_snapshot_create(q, a->snapshot, error, size);
	}
	if (qcow2_snapshot_find(q, a->snapshot, &at) < 0) {
		snprintf(error, size, "there is no snapshot '%s'; see: lodge image snapshot -l",
			 a->snapshot);
		return -ENOENT;
	}
	return a->action == 'a' ? qcow2_snapshot_apply(q, at, error, size)
				: qcow2_snapshot_delete(q, at, error, size);
}

int image_cmd_snapshot(const struct image_args *a)
{
	bool list = !a->action || a->action == 'l';
	struct image_options o = { .readonly = list,
				   .no_backing = true,
				   .no_lock = a->force_share };
	char error[512];
	struct image *i;
	int r = 0, closed;

	if (a->format != BLOCK_QCOW2) {
		return image_fail("image %s: only qcow2 images have snapshots", a->files[0]);
	}
	if (image_open(a->files[0], a->format, &o, error, sizeof(error), &i) < 0) {
		return image_fail("%s", error);
	}
	if (list && a->json) {
		printf("{\n    \"filename\": ");
		image_json_string(stdout, a->files[0]);
		info_json_snapshots(image_qcow2(i));
		printf("\n}\n");
	} else if (list) {
		list_snapshots(image_qcow2(i));
	} else {
		r = change_snapshot(a, image_qcow2(i), error, sizeof(error));
	}
	closed = image_close(i);
	if (r < 0) {
		return image_fail("image %s: %s", a->files[0], error);
	}
	return closed < 0 ? image_fail("image %s: cannot be written: %s", a->files[0],
				       strerror(-closed))
			  : 0;
}
