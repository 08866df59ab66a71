/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The io_uring engine: reads, writes and flushes that need no help. One ring
 * an image. The image is no registered file of it: the kernel lets go of
 * those some time after the process has died, and the image lock with them,
 * so a guest that was killed could not be started again at once. Whatever the
 * kernel does only in part (short transfers at the end of the file) or not at
 * all goes on to the pool, which does it again from the start: requests are
 * idempotent.
 *
 * A ring could open files and sockets past seccomp, which sees one system call
 * for all of them. So it is restricted for good, before its first use, to what
 * is needed here; a kernel that cannot do that (before 5.10) gets no ring.
 */
#include <liburing.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "block/block_int.h"

#define RING_ENTRIES 256

struct block_uring {
	struct block *block;
	struct io_uring ring;
	unsigned queued;    /* prepared, not handed over */
	unsigned in_flight; /* queued ones too */
};

/* A result that the pool must mend. */
static bool wants_retry(const struct block_req *r, int res)
{
	if (r->op == BLOCK_FLUSH) {
		return res == -EINTR || res == -EAGAIN;
	}
	return res == -EINTR || res == -EAGAIN || (res >= 0 && (uint64_t)res < r->len);
}

static void cqe_done(struct block_uring *u, struct block_req *r, int res)
{
	u->in_flight--;
	block_release(r);
	if (unlikely(wants_retry(r, res)) && u->block->pool) {
		block_pool_submit(u->block->pool, r);
		return;
	}
	if (unlikely(wants_retry(r, res))) {
		/* The pool could not be made when this began; do it here, it is rare. */
		block_complete(u->block, r, block_do(u->block, r));
		return;
	}
	block_complete(u->block, r, res < 0 ? res : 0);
}

static bool reap(struct block_uring *u)
{
	struct io_uring_cqe *cqe;
	bool any = false;

	while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		struct block_req *r = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		/* Freed before done() is called, which may submit. */
		io_uring_cqe_seen(&u->ring, cqe);
		cqe_done(u, r, res);
		any = true;
	}
	return any;
}

static void ring_ready(void *opaque, uint32_t events)
{
	struct block_uring *u = opaque;
	struct block *b = u->block;

	if (reap(u)) {
		block_batch_end(b);
	}
}

/* What the ring may do: no other operation, no flag of a request, no registration. */
static const uint8_t allowed[] = {
	IORING_OP_READ, IORING_OP_READV, IORING_OP_WRITE, IORING_OP_WRITEV, IORING_OP_FSYNC,
};

/* By the system call: liburing 2.3's shared library does not have its functions for these. */
static int ring_register(struct io_uring *ring, unsigned what, const void *arg, unsigned count)
{
	return syscall(SYS_io_uring_register, ring->ring_fd, what, arg, count) < 0 ? -errno : 0;
}

static int restrict_ring(struct io_uring *ring)
{
	struct io_uring_restriction rows[ARRAY_SIZE(allowed)] = { 0 };
	int r;

	for (unsigned i = 0; i < ARRAY_SIZE(allowed); i++) {
		rows[i].opcode = IORING_RESTRICTION_SQE_OP;
		rows[i].sqe_op = allowed[i];
	}
	r = ring_register(ring, IORING_REGISTER_RESTRICTIONS, rows, ARRAY_SIZE(rows));
	return r < 0 ? r : ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

int block_uring_init_ring(struct io_uring *ring)
{
	unsigned flags = IORING_SETUP_R_DISABLED;
	int r = io_uring_queue_init(RING_ENTRIES, ring, flags | IORING_SETUP_COOP_TASKRUN);

	if (r == -EINVAL) {
		r = io_uring_queue_init(RING_ENTRIES, ring, flags);
	}
	if (r < 0) {
		return r;
	}
	r = restrict_ring(ring);
	if (r < 0) {
		io_uring_queue_exit(ring);
	}
	return r;
}

int block_uring_new(struct block *b, struct block_uring **ret)
{
	struct block_uring *u = calloc(1, sizeof(*u));
	int r;

	if (!u) {
		return -ENOMEM;
	}
	u->block = b;
	r = block_uring_init_ring(&u->ring);
	if (r < 0) {
		free(u);
		return r;
	}
	io_uring_ring_dontfork(&u->ring);
	r = loop_watch_fd(b->loop, u->ring.ring_fd, EPOLLIN, ring_ready, u);
	if (r < 0) {
		io_uring_queue_exit(&u->ring);
		free(u);
		return r;
	}
	*ret = u;
	return 0;
}

void block_uring_free(struct block_uring *u)
{
	if (!u) {
		return;
	}
	loop_unwatch_fd(u->block->loop, u->ring.ring_fd);
	io_uring_queue_exit(&u->ring);
	free(u);
}

static void prepare_rw(struct io_uring_sqe *sqe, struct block_req *r)
{
	uint64_t at = block_priv(r)->host;
	int fd = block_priv(r)->fd;
	bool single = r->iov_count == 1;

	if (r->op == BLOCK_READ && single) {
		io_uring_prep_read(sqe, fd, r->iov->iov_base, (unsigned)r->iov->iov_len, at);
	} else if (r->op == BLOCK_READ) {
		io_uring_prep_readv(sqe, fd, r->iov, r->iov_count, at);
	} else if (single) {
		io_uring_prep_write(sqe, fd, r->iov->iov_base, (unsigned)r->iov->iov_len, at);
	} else {
		io_uring_prep_writev(sqe, fd, r->iov, r->iov_count, at);
	}
	if (r->op == BLOCK_WRITE && (r->flags & BLOCK_REQ_FUA)) {
		sqe->rw_flags = RWF_DSYNC;
	}
}

bool block_uring_submit(struct block_uring *u, struct block_req *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (!sqe) {
		(void)block_uring_kick(u);
		sqe = io_uring_get_sqe(&u->ring);
	}
	if (!sqe) {
		return false;
	}
	if (r->op == BLOCK_FLUSH) {
		io_uring_prep_fsync(sqe, block_priv(r)->fd, IORING_FSYNC_DATASYNC);
	} else {
		prepare_rw(sqe, r);
	}
	io_uring_sqe_set_data(sqe, r);
	u->queued++;
	u->in_flight++;
	return true;
}

bool block_uring_kick(struct block_uring *u)
{
	int n;

	if (!u->queued) {
		return true;
	}
	do {
		n = io_uring_submit(&u->ring);
	} while (n == -EINTR);
	/* EAGAIN, EBUSY: the kernel is short of something; what stays is handed over later. */
	if (n > 0) {
		u->queued -= MIN((unsigned)n, u->queued);
	}
	return !u->queued;
}

void block_uring_wait(struct block_uring *u)
{
	struct io_uring_cqe *cqe;

	(void)block_uring_kick(u);
	(void)io_uring_wait_cqe(&u->ring, &cqe);
	reap(u);
}

unsigned block_uring_in_flight(const struct block_uring *u)
{
	return u->in_flight;
}
