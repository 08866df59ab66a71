/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the oracle test: do the operations of the command line on one image.
 *
 *	imagedrv IMAGE [BACKING FORMAT] -- OP...
 *
 * w:OFFSET:LEN:BYTE write, c:… compressed cluster, z:OFFSET:LEN zeroes,
 * d:OFFSET:LEN discard, f flush, s:NAME snapshot, a:NAME apply, x:NAME delete,
 * r:SIZE resize. What was flushed is said: the number of operations before.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/image.h"

static int write_op(struct image *i, bool packed, uint64_t at, uint64_t len, int byte)
{
	uint8_t *buf = malloc(len ? len : 1);
	int r = -ENOMEM;

	if (buf) {
		memset(buf, byte, len);
		r = packed ? qcow2_write_compressed(image_qcow2(i), at, buf, len)
			   : image_write(i, at, buf, len);
	}
	free(buf);
	return r;
}

static int snapshot_op(struct qcow2 *q, char op, const char *name, char *error, size_t size)
{
	unsigned at;

	if (op == 's') {
		return qcow2_snapshot_create(q, name, error, size);
	}
	if (qcow2_snapshot_find(q, name, &at) < 0) {
		return -ENOENT;
	}
	return op == 'a' ? qcow2_snapshot_apply(q, at, error, size)
			 : qcow2_snapshot_delete(q, at, error, size);
}

static int run_op(struct image *i, const char *op, char *error, size_t size)
{
	uint64_t at = 0, len = 0;
	int byte = 0;

	if (op[0] == 's' || op[0] == 'a' || op[0] == 'x') {
		return snapshot_op(image_qcow2(i), op[0], op + 2, error, size);
	}
	(void)sscanf(op + 1, ":%" SCNu64 ":%" SCNu64 ":%d", &at, &len, &byte);
	switch (op[0]) {
	case 'w':
	case 'c':
		return write_op(i, op[0] == 'c', at, len, byte);
	case 'z':
		return image_write_zeroes(i, at, len, byte);
	case 'd':
		return image_discard(i, at, len);
	case 'f':
		return image_flush(i);
	case 'r':
		return image_resize(i, at, QCOW2_PREALLOC_OFF, error, size);
	default:
		return -EINVAL;
	}
}

int main(int argc, char **argv)
{
	struct block_source back;
	struct image_options o = { 0 };
	struct image *i;
	char error[512] = "";
	int at = 2, r;

	if (argc > 4 && block_format_parse(argv[3], &back.format)) {
		back.path = argv[2];
		o.backing = &back;
		o.backing_count = 1;
		at = 4;
	}
	if (argc < 3 || image_open(argv[1], BLOCK_QCOW2, &o, error, sizeof(error), &i) < 0) {
		fprintf(stderr, "imagedrv: %s\n", error);
		return 1;
	}
	for (at++; at < argc; at++) {
		r = run_op(i, argv[at], error, sizeof(error));
		if (r < 0) {
			fprintf(stderr, "imagedrv: %s: %s %s\n", argv[at], strerror(-r), error);
			return 1;
		}
		if (argv[at][0] == 'f') {
			printf("%d\n", at);
			fflush(stdout);
		}
	}
	return image_close(i) < 0;
}
