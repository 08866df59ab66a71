/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of src/block: the image's state, its two engines (io_uring and the
 * thread pool), the image locks.
 */
#pragma once

#include <assert.h>
#include <pthread.h>

#include "block/block.h"
#include "block/image.h"

#define BLOCK_SECTOR 512u

/* What block keeps in a request's `internal`. */
struct block_private {
	struct block_req *next; /* in whichever list it waits */
	struct block *block;
	intptr_t result;
	uintptr_t exclusive; /* a write that must read around itself: nothing beside it */
	/* What the ring reads or writes: of the image's file, or of one in its chain. */
	uint64_t host;
	struct qcow2 *holder; /* holds the extent until the ring is done; NULL: none */
	int fd;
	unsigned token;
};
static_assert(sizeof(struct block_private) <= sizeof(((struct block_req *)0)->internal),
	      "fits in struct block_req");

static inline struct block_private *block_priv(struct block_req *r)
{
	return (struct block_private *)r->internal;
}

/* First in, first out, linked through the requests. */
struct block_list {
	struct block_req *head, *tail;
};

void block_list_put(struct block_list *l, struct block_req *r);
struct block_req *block_list_take(struct block_list *l); /* NULL: empty */

struct block_uring;
struct block_pool;

struct block {
	struct loop *loop;
	int fd;
	char *name;
	uint64_t size; /* bytes, a multiple of 512; the file may end up to 511 bytes earlier */
	uint32_t sector;
	uint32_t dio_mem_align, dio_offset_align; /* 1 without O_DIRECT */
	bool readonly, is_device, can_discard;

	struct image *image; /* NULL: raw, which needs none */

	struct block_uring *uring; /* NULL: the pool does it all */
	struct block_pool *pool;   /* made when first needed */

	/* Loop thread. */
	unsigned in_flight;        /* handed to an engine */
	bool exclusive;            /* the one in flight is exclusive */
	struct block_list waiting; /* behind an exclusive one */
	struct block_list failed;  /* refused; done() comes in the next turn */
	loop_fn *batch_end;
	void *batch_opaque;
	int post_fd; /* wakes the loop for `failed` and for another kick */
};

/* Back from an engine, on the loop's thread: calls done(). */
void block_complete(struct block *b, struct block_req *r, int result);
/* After the engine has completed all that it had. */
void block_batch_end(struct block *b);

/* Start the engines; the descriptor and its limits are set. */
int block_engine_start(struct block *b, bool no_uring);

/* The same for any format. */
int block_do(struct block *b, struct block_req *r);
/* Let go of what the request holds of its image. Once the ring is done with it. */
void block_release(struct block_req *r);
/* Do a raw request here and now, whatever its alignment. 0 or -errno. Any thread. */
int block_sync(struct block *b, struct block_req *r);
/* Find what O_DIRECT asks for of b->fd. */
void block_direct_limits(struct block *b);
/* Could the kernel take the request's buffers and range as they are? */
bool block_aligned(const struct block *b, const struct block_req *r);

struct io_uring;
/* A ring that can read, write and flush, and nothing else. 0 or -errno; io_uring_queue_exit(). */
int block_uring_init_ring(struct io_uring *ring);
/* io_uring. -errno: the kernel refuses it. */
int block_uring_new(struct block *b, struct block_uring **ret);
void block_uring_free(struct block_uring *u);
/* READ, WRITE, FLUSH, aligned. False: no room, use the pool. */
bool block_uring_submit(struct block_uring *u, struct block_req *r);
/* False: the kernel could not take all now, try again later. */
bool block_uring_kick(struct block_uring *u);
void block_uring_wait(struct block_uring *u); /* for at least one completion, and reap */
unsigned block_uring_in_flight(const struct block_uring *u);

int block_pool_new(struct block *b, struct block_pool **ret);
void block_pool_free(struct block_pool *p);
void block_pool_submit(struct block_pool *p, struct block_req *r);
void block_pool_wait(struct block_pool *p);

/* What open() said, for people, behind "disk NAME: ". Returns `err`. */
int block_explain_open(int err, const char *name, bool readonly, char *error, size_t error_size);
/* Set error to "disk NAME: " and what follows. Returns `err`. */
int block_say(int err, const char *name, char *error, size_t error_size, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/*
 * Take the image locks that QEMU's raw driver takes. 0; -EBUSY with the other's name in
 * `holder`, as far as it can be known, else an empty string; a file system
 * without such locks is no error.
 */
int block_lock(int fd, bool readonly, char *holder, size_t holder_size);
