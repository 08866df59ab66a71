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
	int err = 0;

	b->in_flight++;
	if (!for_uring(b, r) || !block_uring_submit(b->uring, r)) {
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
	if (b->dio_offset_align > 1 && r->op == BLOCK_WRITE) {
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
