/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation: what reaches the disk, and in which order
 *
 * Between commits nothing on the disk that says where data lie is changed:
 * requests change tables in memory, and write data to clusters that the disk
 * does not refer to yet (or in place, to those that it does). Fresh tables
 * (a new L2, a copied one, a new refcount block) are written whole to clusters
 * that the disk does not refer to either. A commit then makes all that is done
 * so far stable. It copies what is dirty under the lock, and, without it:
 *
 *	1. writes refcount blocks; flush    (data and fresh tables are stable too)
 *	2. writes the refcount table; flush
 *	3. writes L2 slices; flush
 *	4. writes L1; flush
 *
 * Stages with nothing to do are left out, but for the first flush. All
 * pieces are written in whole sectors whose entries stand each for itself, so a
 * torn or reordered write within a stage is one of the states in between.
 *
 * A cluster whose reference is dropped passes through three states:
 *
 *	unlinked	dropped in memory (q->unlinked)
 *	   | a commit has finished that began after that
 *	in a batch	dropped on the disk; requests that looked before may still use it
 *	   | two turns of the epoch: each of those requests has ended
 *	free		its count goes down, in memory, and on the disk with the next commit
 *
 * Epochs: each request counts itself in active[epoch & 1]. The epoch moves on
 * when nobody of the one before is left. What was dropped in epoch e can
 * be in use by requests of e and e - 1, so not any more at e + 2.
 *
 * Invariants
 *  1. On the disk, a cluster's count is never below the number of references
 *     to it. So a cut at any point leaves leaks at most.
 *  2. On the disk, what L2 refers to was written before (data, and what was copied
 *     around them), and so was each table that another one refers to.
 *  3. A cluster is not written for its new use while the disk refers to it in
 *     its old one.
 *  4. No slice that is dirty or being committed leaves the cache.
 *  5. Whenever the lock is let go, the cache is in a state that may be
 *     committed, unless the image is taken exclusively: then only its taker commits.
 *
 * A failed write leaves all of the commit dirty, to be tried again. After a failed
 * flush nobody knows what is on the disk; the kernel may have dropped the
 * pages. Then `failed` is set and nothing is written any more.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "block/qcow2_int.h"

/* --- runs of clusters ------------------------------------------------------------------- */

int runs_add(struct runs *r, uint64_t first, uint64_t count, bool keep)
{
	struct run *last = r->count ? &r->v[r->count - 1] : NULL;

	if (last && last->first + last->count == first && last->keep == keep) {
		last->count += count;
		return 0;
	}
	if (r->count == r->room) {
		size_t room = r->room ? r->room * 2 : 16;
		struct run *v = realloc(r->v, room * sizeof(*v));

		if (!v) {
			return -ENOMEM;
		}
		r->v = v;
		r->room = room;
	}
	r->v[r->count++] = (struct run){ first, count, keep };
	return 0;
}

/* --- requests and their epochs ----------------------------------------------------------- */

static void turn_epoch_locked(struct qcow2 *q)
{
	if (q->batches && !q->active[(q->epoch + 1) & 1]) {
		q->epoch++;
	}
}

unsigned q_enter_locked(struct qcow2 *q)
{
	while (q->exclusive_wanted) {
		pthread_cond_wait(&q->changed, &q->lock);
	}
	q->active[q->epoch & 1]++;
	return q->epoch & 1;
}

void q_leave_locked(struct qcow2 *q, unsigned token)
{
	ASSERT(q->active[token]);
	q->active[token]--;
	turn_epoch_locked(q);
	if (q->exclusive_wanted && !q->active[0] && !q->active[1]) {
		pthread_cond_broadcast(&q->changed);
	}
}

void q_exclusive_begin_locked(struct qcow2 *q)
{
	while (q->exclusive_wanted) {
		pthread_cond_wait(&q->changed, &q->lock);
	}
	q->exclusive_wanted = true;
	while (q->active[0] || q->active[1] || q->committing) {
		pthread_cond_wait(&q->changed, &q->lock);
	}
	q->exclusive = true;
	q->packed_at = 0; /* its cluster may be given back meanwhile */
	q->exclusive_owner = pthread_self();
}

void q_exclusive_end_locked(struct qcow2 *q)
{
	q->exclusive = q->exclusive_wanted = false;
	pthread_cond_broadcast(&q->changed);
}

/* --- giving clusters back ------------------------------------------------------------------ */

/* Give the host its space back. Nobody else knows of the batch, so no lock. */
static void punch(struct qcow2 *q, const struct run *run)
{
	(void)file_discard(q->file, run->first << q->cluster_bits, run->count << q->cluster_bits);
}

/* Nobody else refers to any cluster of the run. */
static bool run_dies_locked(struct qcow2 *q, const struct run *run)
{
	uint64_t n;

	for (uint64_t i = 0; i < run->count; i++) {
		if (refcount_get_locked(q, run->first + i, &n) < 0 || n != 1) {
			return false;
		}
	}
	return !run->keep;
}

static void free_batch_locked(struct qcow2 *q, struct free_batch *b)
{
	for (size_t i = 0; i < b->runs.count; i++) {
		const struct run *run = &b->runs.v[i];

		if (run_dies_locked(q, run)) {
			pthread_mutex_unlock(&q->lock);
			punch(q, run);
			pthread_mutex_lock(&q->lock);
		}
		/* A count that cannot be read stays too high: a leak. */
		(void)refcount_add_locked(q, run->first, run->count, -1);
	}
	free(b->runs.v);
	free(b);
}

/* Only the committer does this, so that no two do. Lets go. */
static void reclaim_locked(struct qcow2 *q)
{
	turn_epoch_locked(q);
	turn_epoch_locked(q);
	while (q->batches && q->batches->epoch + 2 <= q->epoch) {
		struct free_batch *b = q->batches;

		q->batches = b->next;
		if (!q->batches) {
			q->batches_end = &q->batches;
		}
		free_batch_locked(q, b);
	}
}

/* --- the commit ------------------------------------------------------------------------------ */

/* What a commit writes: copies, so that requests go on meanwhile. */
struct piece {
	struct slot *slot; /* NULL: of L1 or the refcount table */
	uint64_t at;
	size_t len;
	uint8_t *data;
};

enum stage { STAGE_REFBLOCKS, STAGE_RT, STAGE_L2, STAGE_L1, STAGE_COUNT };

struct commit {
	struct piece *pieces[STAGE_COUNT];
	size_t count[STAGE_COUNT];
	uint8_t *slices; /* one copy behind the other */
	uint64_t l1_first, l1_end, rt_first, rt_end;
	struct free_batch *batch;
	bool flush_failed;
};

bool q_is_dirty_locked(const struct qcow2 *q)
{
	return q->cache.dirty || q->l1_dirty_first < q->l1_dirty_end ||
	       q->rt_dirty_first < q->rt_dirty_end || q->unlinked.count;
}

static void commit_free(struct commit *c)
{
	for (unsigned s = 0; s < STAGE_COUNT; s++) {
		if (s == STAGE_RT || s == STAGE_L1) {
			free(c->pieces[s] ? c->pieces[s]->data : NULL);
		}
		free(c->pieces[s]);
	}
	free(c->slices);
	if (c->batch) {
		free(c->batch->runs.v);
		free(c->batch);
	}
}

/* The dirty part of a table that is in memory whole, in sectors. */
static int copy_table(struct commit *c, enum stage stage, const uint64_t *table, uint64_t entries,
		      uint64_t offset, uint64_t first, uint64_t end)
{
	struct piece *p;

	if (first >= end) {
		return 0;
	}
	first = ALIGN_DOWN(first, 64);
	end = MIN(ALIGN_UP(end, 64), entries);
	p = calloc(1, sizeof(*p));
	c->pieces[stage] = p;
	if (!p) {
		return -ENOMEM;
	}
	p->at = offset + first * 8;
	p->len = (end - first) * 8;
	p->data = malloc(p->len);
	if (!p->data) {
		return -ENOMEM;
	}
	for (uint64_t i = first; i < end; i++) {
		store_be64(p->data + (i - first) * 8, table[i]);
	}
	c->count[stage] = 1;
	return 0;
}

static int copy_slices_locked(struct qcow2 *q, struct commit *c)
{
	size_t bytes = (size_t)1 << q->slice_bits, n = 0;

	if (!q->cache.dirty) {
		return 0;
	}
	c->slices = malloc(q->cache.dirty * bytes);
	c->pieces[STAGE_L2] = calloc(q->cache.dirty, sizeof(struct piece));
	c->pieces[STAGE_REFBLOCKS] = calloc(q->cache.dirty, sizeof(struct piece));
	if (!c->slices || !c->pieces[STAGE_L2] || !c->pieces[STAGE_REFBLOCKS]) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < q->cache.count; i++) {
		struct slot *s = q->cache.slots[i];
		enum stage stage = s->kind == SLOT_L2 ? STAGE_L2 : STAGE_REFBLOCKS;
		uint8_t *copy = c->slices + n * bytes;

		if (!s->dirty) {
			continue;
		}
		memcpy(copy, s->data, bytes);
		c->pieces[stage][c->count[stage]++] = (struct piece){ s, s->offset, bytes, copy };
		n++;
	}
	ASSERT(n == q->cache.dirty);
	return 0;
}

/* Take what is dirty: from here on it counts as clean. On an error nothing is taken. */
static int collect_locked(struct qcow2 *q, struct commit *c)
{
	int r;

	c->l1_first = q->l1_dirty_first;
	c->l1_end = q->l1_dirty_end;
	c->rt_first = q->rt_dirty_first;
	c->rt_end = q->rt_dirty_end;
	c->batch = calloc(1, sizeof(*c->batch));
	r = c->batch ? copy_slices_locked(q, c) : -ENOMEM;
	if (!r) {
		r = copy_table(c, STAGE_L1, q->l1, q->l1_size, q->l1_offset, c->l1_first,
			       c->l1_end);
	}
	if (!r) {
		r = copy_table(c, STAGE_RT, q->rt, q->rt_size, q->rt_offset, c->rt_first,
			       c->rt_end);
	}
	if (r < 0) {
		return r;
	}
	for (unsigned s = 0; s < STAGE_COUNT; s++) {
		for (size_t i = 0; i < c->count[s]; i++) {
			struct slot *slot = c->pieces[s][i].slot;

			if (slot) {
				slot->dirty = false;
				slot->committing = true;
			}
		}
	}
	q->cache.dirty = 0;
	q->l1_dirty_first = q->rt_dirty_first = UINT64_MAX;
	q->l1_dirty_end = q->rt_dirty_end = 0;
	c->batch->runs = q->unlinked;
	q->unlinked = (struct runs){ 0 };
	return 0;
}

static int flush_file(struct commit *c, struct file *f)
{
	int r = file_flush(f);

	c->flush_failed = c->flush_failed || r < 0;
	return r;
}

static int write_stage(struct qcow2 *q, struct commit *c, enum stage stage)
{
	int r = 0;

	for (size_t i = 0; i < c->count[stage] && !r; i++) {
		const struct piece *p = &c->pieces[stage][i];

		r = file_write(q->file, p->data, p->len, p->at);
	}
	return r;
}

static int run_stages(struct qcow2 *q, struct commit *c)
{
	int r = q_has_data_file(q) ? flush_file(c, q->data) : 0;

	for (unsigned s = 0; s < STAGE_COUNT && !r; s++) {
		r = write_stage(q, c, s);
		if (!r && (c->count[s] || s == 0)) {
			r = flush_file(c, q->file);
		}
	}
	return r;
}

/* It has failed: all of it is dirty again. */
static void put_back_locked(struct qcow2 *q, struct commit *c)
{
	struct runs *runs = &c->batch->runs;

	for (unsigned s = 0; s < STAGE_COUNT; s++) {
		for (size_t i = 0; i < c->count[s]; i++) {
			struct piece *p = &c->pieces[s][i];

			/* Unless it has left the cache: it is no table any more. */
			if (p->slot && p->slot->offset == p->at) {
				cache_dirty_locked(q, p->slot);
			}
		}
	}
	q->l1_dirty_first = MIN(q->l1_dirty_first, c->l1_first);
	q->l1_dirty_end = MAX(q->l1_dirty_end, c->l1_end);
	q->rt_dirty_first = MIN(q->rt_dirty_first, c->rt_first);
	q->rt_dirty_end = MAX(q->rt_dirty_end, c->rt_end);
	for (size_t i = 0; i < runs->count; i++) {
		/* Out of memory: it leaks. */
		(void)runs_add(&q->unlinked, runs->v[i].first, runs->v[i].count, runs->v[i].keep);
	}
}

static void unpin_locked(struct commit *c)
{
	for (unsigned s = 0; s < STAGE_COUNT; s++) {
		for (size_t i = 0; i < c->count[s]; i++) {
			if (c->pieces[s][i].slot) {
				c->pieces[s][i].slot->committing = false;
			}
		}
	}
}

static void queue_batch_locked(struct qcow2 *q, struct commit *c)
{
	if (!c->batch->runs.count) {
		return;
	}
	c->batch->epoch = q->epoch;
	c->batch->next = NULL;
	*q->batches_end = c->batch;
	q->batches_end = &c->batch->next;
	c->batch = NULL;
}

static int commit_once_locked(struct qcow2 *q)
{
	struct commit c = { 0 };
	int r;

	reclaim_locked(q);
	r = collect_locked(q, &c);
	if (r < 0) {
		commit_free(&c);
		return r;
	}
	pthread_mutex_unlock(&q->lock);
	r = run_stages(q, &c);
	pthread_mutex_lock(&q->lock);
	unpin_locked(&c);
	if (r < 0) {
		put_back_locked(q, &c);
		if (c.flush_failed) {
			q->failed = r;
		}
	} else {
		queue_batch_locked(q, &c);
		reclaim_locked(q);
	}
	commit_free(&c);
	return r;
}

int q_commit_locked(struct qcow2 *q)
{
	uint64_t target = q->commits_started + 1, mine;
	int r;

	for (;;) {
		bool locked_out =
			q->exclusive && !pthread_equal(q->exclusive_owner, pthread_self());

		if (q->failed) {
			return q->failed;
		}
		if (q->commits_done >= target) {
			return 0; /* another one that began after us did it for us too */
		}
		if (!q->committing && !locked_out) {
			break;
		}
		pthread_cond_wait(&q->changed, &q->lock);
	}
	q->committing = true;
	mine = ++q->commits_started;
	r = commit_once_locked(q);
	q->committing = false;
	if (!r) {
		q->commits_done = mine;
	}
	pthread_cond_broadcast(&q->changed);
	return r;
}

int q_settle_locked(struct qcow2 *q)
{
	int r;

	do {
		r = q_commit_locked(q);
	} while (!r && (q_is_dirty_locked(q) || q->batches));
	return r;
}
