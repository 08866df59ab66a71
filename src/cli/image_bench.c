/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `lodge image bench`: sequential requests through the layer that serves guests. */
#include <stdlib.h>
#include <sys/mman.h>

#include "base/loop.h"
#include "cli/image_int.h"

struct bench;

struct bench_req {
	struct block_req req;
	struct iovec iov;
	struct bench *bench;
};

struct bench {
	const struct image_args *a;
	struct block *block;
	struct bench_req *reqs;
	uint8_t *buf; /* of all requests, in huge pages like a guest's memory */
	uint64_t started, done, size, next;
	int result;
};

static void start_one(struct bench *b, struct bench_req *r)
{
	uint64_t disk = block_size_bytes(b->block);

	if (b->next + b->size > disk) {
		b->next = 0;
	}
	r->req.op = b->a->write ? BLOCK_WRITE : BLOCK_READ;
	r->req.offset = b->next;
	r->req.len = b->size;
	b->next += b->size;
	b->started++;
	block_submit(b->block, &r->req);
}

static void one_done(struct block_req *req, int result)
{
	struct bench_req *r = container_of(req, struct bench_req, req);
	struct bench *b = r->bench;

	b->done++;
	b->result = b->result ? b->result : result;
	if (b->started < b->a->count && !b->result) {
		start_one(b, r);
	}
}

static bool make_requests(struct bench *b)
{
	size_t bytes = ALIGN_UP(b->a->depth * b->size, MIB(2));

	b->reqs = calloc(b->a->depth, sizeof(*b->reqs));
	if (posix_memalign((void **)&b->buf, MIB(2), bytes)) {
		return false;
	}
	(void)madvise(b->buf, bytes, MADV_HUGEPAGE);
	memset(b->buf, 0x55, bytes);
	for (uint64_t i = 0; b->reqs && i < b->a->depth; i++) {
		struct bench_req *r = &b->reqs[i];

		r->iov = (struct iovec){ b->buf + i * b->size, b->size };
		r->req.iov = &r->iov;
		r->req.iov_count = 1;
		r->req.done = one_done;
		r->bench = b;
	}
	return b->reqs;
}

static int run(struct bench *b, struct loop *loop)
{
	ns_t start = clock_now_ns(), took;

	for (uint64_t i = 0; i < b->a->depth && b->started < b->a->count; i++) {
		start_one(b, &b->reqs[i]);
	}
	block_kick(b->block);
	while (b->done < b->started) {
		loop_poll(loop, NS_PER_S);
	}
	took = clock_now_ns() - start;
	if (b->result < 0) {
		return image_fail("image %s: a request failed: %s", b->a->files[0],
				  strerror(-b->result));
	}
	printf("run completed in %.3f seconds: %.0f requests/s, %.1f MiB/s\n", (double)took / 1e9,
	       (double)b->done * 1e9 / (double)took,
	       (double)(b->done * b->size) * 1e9 / (double)took / 1048576);
	return 0;
}

static int bench_loop(struct bench *b, const struct block_options *o)
{
	struct loop *loop;
	char error[512];
	int r = loop_new(NULL, &loop);

	if (r < 0) {
		return image_fail("cannot start: %s", strerror(-r));
	}
	r = block_open(loop, b->a->files[0], o, error, sizeof(error), &b->block);
	if (r < 0) {
		loop_free(loop);
		return image_fail("%s", error);
	}
	if (b->size > block_size_bytes(b->block)) {
		r = image_usage("image bench: the image is smaller than one request");
	} else {
		r = make_requests(b) ? run(b, loop) : image_fail("out of memory");
	}
	block_close(b->block);
	loop_free(loop);
	return r;
}

int image_cmd_bench(const struct image_args *given)
{
	struct image_args a = *given;
	struct block_options o = { .format = a.format,
				   .readonly = !a.write,
				   .direct = a.direct,
				   .no_uring = a.no_uring,
				   .backing = a.chain,
				   .backing_count = a.chain_count,
				   .backing_from_header = a.chain_from_header,
				   .data_file = a.data_file };
	struct bench b = { .a = &a };
	int r;

	a.count = a.count ? a.count : 75000;
	a.depth = a.depth ? a.depth : 64;
	b.size = a.size ? a.size : 4096;
	r = bench_loop(&b, &o);
	free(b.buf);
	free(b.reqs);
	return r;
}
