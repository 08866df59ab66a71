/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * A request is checked, then goes to io_uring if the kernel can take it as it
 * is, else to the pool. A write under O_DIRECT whose ends are not aligned must
 * read around itself and write whole blocks back; a write to a neighbour that
 * runs at the same time would be lost. Such a request is exclusive: it waits
 * until nothing is in flight, and whatever comes behind it waits for it.
 *
 * An image of another format than raw has a struct image. A read or write that
 * lies in one piece of one file of its chain, as far as cached tables tell,
 * goes to io_uring like a raw one, to where it really lies; the image holds that
 * piece until the ring is done. All else (allocation, tables to be read, compressed
 * data) goes to the pool, whose workers call the image's blocking functions.
 *
 * Invariants (all on the loop's thread)
 *  1. in_flight counts what engines have; done() is called exactly once each.
 *  2. `waiting` is non-empty only while something is in flight.
 *  3. done() is never called from within block_submit(): refusals are kept in
 *     `failed` until the loop's next turn.
 */
#include "block/block_int.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/assert.h"
#include "base/guest_log.h"
#include "block/cursor_int.h"

#define IOV_COUNT_MAX 1024 /* what the kernel takes in one call */

void block_list_put(struct block_list *l, struct block_req *r)
{
	block_priv(r)->next = NULL;
	if (l->tail) {
		block_priv(l->tail)->next = r;
	} else {
		l->head = r;
	}
	l->tail = r;
}

struct block_req *block_list_take(struct block_list *l)
{
	struct block_req *r = l->head;

	if (r) {
		l->head = block_priv(r)->next;
		if (!l->head) {
			l->tail = NULL;
		}
	}
	return r;
}

uint64_t block_size_bytes(const struct block *b)
{
	return b->size;
}

bool block_readonly(const struct block *b)
{
	return b->readonly;
}

uint32_t block_sector_bytes(const struct block *b)
{
	return b->sector;
}

bool block_can_discard(const struct block *b)
{
	return b->can_discard && !b->readonly;
}

void block_set_batch_end(struct block *b, loop_fn *fn, void *opaque)
{
	b->batch_end = fn;
	b->batch_opaque = opaque;
}

/* --- submission -------------------------------------------------------------------------- */

static void poke(struct block *b)
{
	uint64_t one = 1;

	(void)!write(b->post_fd, &one, sizeof(one));
}

static void refuse(struct block *b, struct block_req *r, int error)
{
	block_priv(r)->result = error;
	block_list_put(&b->failed, r);
	poke(b);
}

static int request_check(const struct block *b, const struct block_req *r)
{
	if (r->op != BLOCK_READ && b->readonly && r->op != BLOCK_FLUSH) {
		return -EROFS;
	}
	if (r->op == BLOCK_FLUSH) {
		return 0;
	}
	return range_within(r->offset, r->len, b->size) ? 0 : -EINVAL;
}

enum route { ROUTE_URING, ROUTE_POOL, ROUTE_DONE };

/* Where in the chain does the request lie, if that is one piece? */
static enum route route_rw(struct block *b, struct block_req *r)
{
	struct block_private *p = block_priv(r);
	struct image_fast fast;
	struct cursor c = { r->iov, r->iov_count, 0 };

	switch (image_try_fast(b->image, r->op == BLOCK_WRITE, r->offset, r->len, &fast)) {
	case IMAGE_FAST_ZERO:
		cursor_zero(&c, r->len);
		return ROUTE_DONE;
	case IMAGE_FAST_DATA:
		p->fd = fast.fd;
		p->host = fast.host;
		p->holder = fast.holder;
		p->token = fast.extent.token;
		return ROUTE_URING;
	default:
		return ROUTE_POOL;
	}
}

static enum route route_image(struct block *b, struct block_req *r)
{
	struct qcow2 *q = image_qcow2(b->image);

	if (r->op == BLOCK_FLUSH) {
		block_priv(r)->fd = image_file(b->image)->fd;
		return b->readonly                                   ? ROUTE_DONE
		       : b->uring && (!q || qcow2_flush_is_plain(q)) ? ROUTE_URING
								     : ROUTE_POOL;
	}
	if (!b->uring || r->op == BLOCK_DISCARD || r->op == BLOCK_WRITE_ZEROES ||
	    r->iov_count > IOV_COUNT_MAX || !block_aligned(b, r)) {
		return ROUTE_POOL;
	}
	/* A write that is to be stable needs a commit, unless tables are as they were. */
	if (r->op == BLOCK_WRITE && (r->flags & BLOCK_REQ_FUA) && !qcow2_flush_is_plain(q)) {
		return ROUTE_POOL;
	}
	return route_rw(b, r);
}

void block_release(struct block_req *r)
{
	struct block_private *p = block_priv(r);

	if (p->holder) {
		qcow2_release(p->holder, &(struct qcow2_extent){ .token = p->token });
		p->holder = NULL;
	}
}

static int image_write_request(struct image *i, struct block_req *r)
{
	int err = qcow2_write(image_qcow2(i), r->offset, r->iov, r->iov_count);

	return !err && (r->flags & BLOCK_REQ_FUA) ? image_flush(i) : err;
}

int block_do(struct block *b, struct block_req *r)
{
	struct image *i = b->image;
	int err;

	if (!i) {
		return block_sync(b, r);
	}
	switch (r->op) {
	case BLOCK_READ:
		return qcow2_read(image_qcow2(i), r->offset, r->iov, r->iov_count);
	case BLOCK_WRITE:
		return image_write_request(i, r);
	case BLOCK_FLUSH:
		return image_flush(i);
	case BLOCK_DISCARD:
		return image_discard(i, r->offset, r->len);
	case BLOCK_WRITE_ZEROES:
		err = image_write_zeroes(i, r->offset, r->len, r->flags & BLOCK_REQ_UNMAP);
		return !err && (r->flags & BLOCK_REQ_FUA) ? image_flush(i) : err;
	}
	return -EINVAL;
}

static bool for_uring(const struct block *b, const struct block_req *r)
{
	if (!b->uring || r->op == BLOCK_DISCARD || r->op == BLOCK_WRITE_ZEROES) {
		return false;
	}
	return r->op == BLOCK_FLUSH || (r->iov_count <= IOV_COUNT_MAX && block_aligned(b, r));
}

static int to_pool(struct block *b, struct block_req *r)
{
	int err = b->pool ? 0 : block_pool_new(b, &b->pool);

	if (!err) {
		block_pool_submit(b->pool, r);
	}
	return err;
}

static void hand_over(struct block *b, struct block_req *r)
{
	enum route route = for_uring(b, r) ? ROUTE_URING : ROUTE_POOL;
	int err = 0;

	block_priv(r)->fd = b->fd;
	block_priv(r)->host = r->offset;
	if (b->image) {
		route = route_image(b, r);
	}
	if (route == ROUTE_DONE) {
		refuse(b, r, 0);
		return;
	}
	b->in_flight++;
	if (route == ROUTE_POOL || !block_uring_submit(b->uring, r)) {
		block_release(r);
		err = to_pool(b, r);
	}
	if (err < 0) {
		b->in_flight--;
		refuse(b, r, err);
	}
}

/* Start what waits, as far as exclusive requests let it. */
static void run_waiting(struct block *b)
{
	while (b->waiting.head && !b->exclusive) {
		bool exclusive = block_priv(b->waiting.head)->exclusive;

		if (exclusive && b->in_flight) {
			return;
		}
		b->exclusive = exclusive;
		hand_over(b, block_list_take(&b->waiting));
		if (!b->in_flight) {
			b->exclusive = false;
		}
	}
}

void block_submit(struct block *b, struct block_req *r)
{
	struct block_private *p = block_priv(r);
	int err = request_check(b, r);

	*p = (struct block_private){ .block = b };
	if (unlikely(err < 0 || (!r->len && r->op != BLOCK_FLUSH))) {
		refuse(b, r, err);
		return;
	}
	if (b->dio_offset_align > 1 && r->op == BLOCK_WRITE && !b->image) {
		p->exclusive = ((r->offset | r->len) & (b->dio_offset_align - 1)) != 0;
	}
	if (likely(!p->exclusive && !b->exclusive && !b->waiting.head)) {
		hand_over(b, r);
		return;
	}
	block_list_put(&b->waiting, r);
	run_waiting(b);
}

void block_kick(struct block *b)
{
	if (b->uring && !block_uring_kick(b->uring)) {
		poke(b); /* the kernel could not take all now */
	}
}

void block_complete(struct block *b, struct block_req *r, int result)
{
	b->in_flight--;
	if (unlikely(block_priv(r)->exclusive)) {
		b->exclusive = false;
	}
	r->done(r, result);
	if (unlikely(b->waiting.head)) {
		run_waiting(b);
	}
}

void block_batch_end(struct block *b)
{
	if (b->batch_end) {
		b->batch_end(b->batch_opaque);
	}
	block_kick(b);
}

static bool run_failed(struct block *b)
{
	struct block_list failed = b->failed;
	struct block_req *r;
	bool any = false;

	b->failed = (struct block_list){ 0 };
	while ((r = block_list_take(&failed))) {
		r->done(r, (int)block_priv(r)->result);
		any = true;
	}
	return any;
}

static void post_ready(void *opaque, uint32_t events)
{
	struct block *b = opaque;
	uint64_t counter;

	(void)!read(b->post_fd, &counter, sizeof(counter));
	if (run_failed(b)) {
		block_batch_end(b);
	} else {
		block_kick(b);
	}
}

void block_drain(struct block *b)
{
	bool any = false;

	while (b->in_flight || b->waiting.head || b->failed.head) {
		any = true;
		if (run_failed(b)) {
			continue;
		}
		if (b->uring && block_uring_in_flight(b->uring)) {
			block_uring_wait(b->uring);
		} else {
			ASSERT(b->pool);
			block_pool_wait(b->pool);
		}
	}
	if (any && b->batch_end) {
		b->batch_end(b->batch_opaque);
	}
}

/* --- life ----------------------------------------------------------------------------------- */

void block_close(struct block *b)
{
	if (!b) {
		return;
	}
	block_drain(b);
	block_uring_free(b->uring);
	block_pool_free(b->pool);
	if (b->post_fd >= 0) {
		loop_unwatch_fd(b->loop, b->post_fd);
	}
	fd_closep(&b->post_fd);
	if (image_close(b->image) < 0) {
		guest_log("disk %s: what was written last may be lost", b->name);
	}
	fd_closep(&b->fd);
	free(b->name);
	free(b);
}

int block_engine_start(struct block *b, bool no_uring)
{
	int r;

	b->post_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = b->post_fd < 0 ? -errno : loop_watch_fd(b->loop, b->post_fd, EPOLLIN, post_ready, b);
	if (r < 0) {
		return r;
	}
	/* A kernel or a sandbox that refuses io_uring: the pool can do it all. */
	if (!no_uring && block_uring_new(b, &b->uring) < 0) {
		b->uring = NULL;
	}
	return b->uring ? 0 : block_pool_new(b, &b->pool);
}
