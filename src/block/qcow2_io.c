/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation: reading and writing
 *
 * A read looks up an extent at a time and reads it without the lock. A write
 * goes in pieces. Onto clusters of data that are only ours it goes in place.
 * Else the mapping is made anew: clusters are taken, filled (with what lay
 * around the data before), and then linked into L2.
 *
 * While that goes on, the guest range is listed in q->making, and whoever
 * wants to make or change a mapping in it waits; readers see the old one.
 * So different clusters are made in parallel, and two writers into one new
 * cluster come one after the other, the second in place.
 *
 * Invariants
 *  1. Ranges in q->making lie on whole clusters and do not overlap.
 *  2. An entry within a range in q->making is changed by its maker only.
 *  3. What is filled around the data is never data that others write in place:
 *     a writable subcluster is not copied.
 */
#include <stdlib.h>

#include "block/cursor_int.h"
#include "block/image.h"
#include "block/qcow2_int.h"

#define ZEROES_BYTES KIB(64)
#define PIECE_MAX    MIB(4) /* of guest data made at once: bounds how long others wait */

/* --- who makes what ------------------------------------------------------------------------- */

static struct making *maker_of_locked(struct qcow2 *q, uint64_t start, uint64_t end)
{
	struct making *m = q->making;

	while (m && (m->end <= start || end <= m->start)) {
		m = m->next;
	}
	return m;
}

void q_making_begin_locked(struct qcow2 *q, struct making *m, uint64_t start, uint64_t end)
{
	while (maker_of_locked(q, start, end)) {
		pthread_cond_wait(&q->changed, &q->lock);
	}
	*m = (struct making){ q->making, start, end };
	q->making = m;
}

void q_making_end_locked(struct qcow2 *q, struct making *m)
{
	struct making **at = &q->making;

	while (*at != m) {
		at = &(*at)->next;
	}
	*at = m->next;
	pthread_cond_broadcast(&q->changed);
}

/* --- data --------------------------------------------------------------------------------------
 */

/* --- looking up ---------------------------------------------------------------------------------
 */

/* `entered`: the caller has a token, and may not wait for one that waits for it. */
static int lookup(struct qcow2 *q, bool entered, uint64_t offset, uint64_t len,
		  struct qcow2_extent *ret)
{
	unsigned token;
	int r;

	pthread_mutex_lock(&q->lock);
	if (entered) {
		token = q->epoch & 1;
		q->active[token]++;
	} else {
		token = q_enter_locked(q);
	}
	r = map_lookup_locked(q, offset, len, false, ret);
	ret->token = token;
	if (r < 0) {
		q_leave_locked(q, token);
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

int qcow2_lookup(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_extent *ret)
{
	return lookup(q, false, offset, len, ret);
}

bool qcow2_try_lookup(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_extent *ret)
{
	bool ok = false;

	if (pthread_mutex_trylock(&q->lock)) {
		return false;
	}
	if (!q->exclusive_wanted && !q->failed) {
		ok = map_lookup_locked(q, offset, len, true, ret) == 0;
	}
	if (ok) {
		ret->token = q_enter_locked(q);
	}
	pthread_mutex_unlock(&q->lock);
	return ok;
}

void qcow2_release(struct qcow2 *q, const struct qcow2_extent *e)
{
	pthread_mutex_lock(&q->lock);
	q_leave_locked(q, e->token);
	pthread_mutex_unlock(&q->lock);
}

/* --- reading
 * -------------------------------------------------------------------------------------- */

static int read_packed(struct qcow2 *q, const struct qcow2_extent *x, uint64_t offset,
		       struct cursor *c)
{
	uint8_t *buf = malloc(x->len);
	int r = buf ? qcow2_read_compressed(q, x->entry, offset & (q->cluster_bytes - 1), buf,
					    x->len)
		    : -ENOMEM;

	if (!r) {
		cursor_copy(c, buf, x->len, true);
	}
	free(buf);
	return r;
}

static int read_extent(struct qcow2 *q, const struct qcow2_extent *x, uint64_t offset,
		       struct cursor *c)
{
	switch (x->kind) {
	case QCOW2_DATA:
		return cursor_move(c, q->data, false, x->len, x->host);
	case QCOW2_COMPRESSED:
		return read_packed(q, x, offset, c);
	case QCOW2_UNALLOCATED:
		if (q->backing) {
			return image_read_cursor(q->backing, offset, c, x->len);
		}
		/* fall through */
	default:
		cursor_zero(c, x->len);
		return 0;
	}
}

int q_read_any(struct qcow2 *q, uint64_t offset, struct cursor *c, uint64_t len)
{
	while (len) {
		struct qcow2_extent x;
		int r = lookup(q, true, offset, len, &x);

		if (r < 0) {
			return r;
		}
		r = read_extent(q, &x, offset, c);
		qcow2_release(q, &x);
		if (r < 0) {
			return r;
		}
		offset += x.len;
		len -= x.len;
	}
	return 0;
}

int qcow2_read(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned count)
{
	struct cursor c = { iov, count, 0 };
	uint64_t len = iov_bytes(iov, count);
	unsigned token;
	int r;

	if (!range_within(offset, len, q->size)) {
		return -EINVAL;
	}
	pthread_mutex_lock(&q->lock);
	token = q_enter_locked(q);
	pthread_mutex_unlock(&q->lock);
	r = q_read_any(q, offset, &c, len);
	pthread_mutex_lock(&q->lock);
	q_leave_locked(q, token);
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* --- writing where nothing of ours is yet
 * ----------------------------------------------------------- */

enum entry_class {
	CLASS_NONE,    /* no cluster: unallocated or zeroes */
	CLASS_OWN,     /* a cluster of ours alone */
	CLASS_FOREIGN, /* shared or compressed: must not be written to */
};

/* A piece of a write whose mapping is made. */
struct piece {
	struct making making;
	enum entry_class class;
	uint64_t offset, end;          /* the guest's data */
	uint64_t fill_start, fill_end; /* with what is filled around them */
	uint64_t base;                 /* guest offset of the first cluster */
	uint64_t host;                 /* host offset of the same */
	uint64_t clusters;
	bool fresh, taken;
};

static enum entry_class class_of(const struct qcow2 *q, struct l2_entry e)
{
	if (e.desc & QE_COMPRESSED) {
		return CLASS_FOREIGN;
	}
	if (!map_has_host(q, e)) {
		return CLASS_NONE;
	}
	return e.desc & QE_COPIED ? CLASS_OWN : CLASS_FOREIGN;
}

/* How many clusters from p->base on, up to `end` and within the slice, are of one class. */
static int classify_locked(struct qcow2 *q, struct piece *p, uint64_t end)
{
	uint64_t max = (q_up(q, end) - p->base) >> q->cluster_bits;
	struct slot *s;
	unsigned index;
	int r = map_slice_locked(q, p->base, false, &s, &index);

	if (r < 0) {
		return r;
	}
	max = MIN(max, (uint64_t)map_slice_entries(q) - index);
	p->class = s ? class_of(q, map_load(q, s, index)) : CLASS_NONE;
	p->clusters = 1;
	while (p->class != CLASS_OWN && p->clusters < max &&
	       (!s || class_of(q, map_load(q, s, index + (unsigned)p->clusters)) == p->class)) {
		p->clusters++;
	}
	if (p->class == CLASS_OWN) {
		p->host = map_load(q, s, index).desc & QE_OFFSET;
	}
	return 0;
}

static int take_clusters_locked(struct qcow2 *q, struct piece *p)
{
	uint64_t first;
	int r;

	p->fresh = false;
	if (p->class == CLASS_OWN) {
		return 0;
	}
	if (q_has_data_file(q)) {
		p->host = p->base;
		return 0;
	}
	r = clusters_alloc_locked(q, p->clusters, &first, &p->clusters, &p->fresh);
	if (!r) {
		p->host = first << q->cluster_bits;
		p->taken = true;
	}
	return r;
}

/* Set p's ranges, now that its clusters are known. `x` is the extent at p->offset. */
static void set_ranges(struct qcow2 *q, struct piece *p, const struct qcow2_extent *x)
{
	uint64_t unit = q->cluster_bytes / (p->class == CLASS_FOREIGN ? 1 : q->subclusters);

	p->making.end = p->base + (p->clusters << q->cluster_bits);
	p->end = MIN(p->end, p->making.end);
	if (p->class == CLASS_OWN) {
		p->end = MIN(p->end, p->offset + x->len);
	}
	p->fill_start = ALIGN_DOWN(p->offset, unit);
	p->fill_end = ALIGN_UP(p->end, unit);
}

/*
 * Begin a piece at p->offset, p->end at the most. *ret_in_place: it may be
 * written as it is, to x->host. May let go.
 */
static int begin_piece_locked(struct qcow2 *q, struct piece *p, struct qcow2_extent *x,
			      bool *ret_in_place)
{
	uint64_t len = MIN(p->end - p->offset, PIECE_MAX);
	int r;

	p->base = q_down(q, p->offset);
	while (maker_of_locked(q, p->base, p->base + q->cluster_bytes)) {
		pthread_cond_wait(&q->changed, &q->lock);
	}
	r = map_lookup_locked(q, p->offset, len, false, x);
	*ret_in_place = !r && x->writable;
	p->end = p->offset + (*ret_in_place ? x->len : len);
	if (r < 0 || *ret_in_place) {
		return r;
	}
	r = classify_locked(q, p, p->end);
	/* Up to the next maker: the first cluster has none. */
	while (!r && maker_of_locked(q, p->base, p->base + (p->clusters << q->cluster_bits))) {
		p->clusters--;
	}
	if (r < 0) {
		return r;
	}
	q_making_begin_locked(q, &p->making, p->base, p->base + (p->clusters << q->cluster_bits));
	r = take_clusters_locked(q, p);
	if (r < 0) {
		q_making_end_locked(q, &p->making);
		return r;
	}
	set_ranges(q, p, x);
	pthread_cond_broadcast(&q->changed); /* the range may have become smaller */
	return 0;
}

/* Is all of it zeroes without a look at data? */
static bool range_is_zero(struct qcow2 *q, bool entered, uint64_t offset, uint64_t len)
{
	while (len) {
		struct qcow2_extent x;
		bool zero;

		if (lookup(q, entered, offset, len, &x) < 0) {
			return false;
		}
		qcow2_release(q, &x);
		zero = x.kind == QCOW2_ZERO || x.kind == QCOW2_ZERO_ALLOCATED ||
		       (x.kind == QCOW2_UNALLOCATED &&
			(!q->backing || offset >= image_size_bytes(q->backing)));
		if (!zero) {
			return false;
		}
		offset += x.len;
		len -= x.len;
	}
	return true;
}

/* Read what is to be filled in. *ret_buf NULL: nothing need be written. */
static int read_around(struct qcow2 *q, const struct piece *p, uint64_t offset, uint64_t end,
		       uint8_t **ret_buf)
{
	struct iovec iov = { NULL, end - offset };
	struct cursor c = { &iov, 1, 0 };
	bool zero;
	int r;

	*ret_buf = NULL;
	if (offset == end) {
		return 0;
	}
	zero = range_is_zero(q, true, offset, end - offset);
	if (zero && p->fresh) {
		return 0;
	}
	iov.iov_base = calloc(1, iov.iov_len);
	if (!iov.iov_base) {
		return -ENOMEM;
	}
	r = zero ? 0 : q_read_any(q, offset, &c, end - offset);
	if (r < 0) {
		free(iov.iov_base);
		return r;
	}
	*ret_buf = iov.iov_base;
	return 0;
}

/* One call for all three parts, if the data are not too many pieces for it. */
static int write_filled(struct qcow2 *q, const struct piece *p, struct cursor *c, uint8_t *head,
			uint8_t *tail)
{
	struct iovec iov[CURSOR_BATCH + 2];
	uint64_t len = p->end - p->offset, at = p->host + (p->offset - p->base), bytes;
	unsigned n = 0, data;
	int r;

	if (head) {
		iov[n++] = (struct iovec){ head, p->offset - p->fill_start };
		at -= p->offset - p->fill_start;
	}
	data = cursor_batch(c, iov + n, len);
	bytes = iov_bytes(iov + n, data);
	n += data;
	if (tail && bytes == len) {
		iov[n++] = (struct iovec){ tail, p->fill_end - p->end };
	}
	r = file_writev(q->data, iov, n, at);
	cursor_advance(c, bytes);
	if (r < 0 || bytes == len) {
		return r;
	}
	r = cursor_move(c, q->data, true, len - bytes, p->host + (p->offset - p->base) + bytes);
	if (!r && tail) {
		r = file_write(q->data, tail, p->fill_end - p->end, p->host + (p->end - p->base));
	}
	return r;
}

static int fill_piece(struct qcow2 *q, const struct piece *p, struct cursor *c)
{
	uint8_t *head = NULL, *tail = NULL;
	int r = read_around(q, p, p->fill_start, p->offset, &head);

	if (!r) {
		r = read_around(q, p, p->end, p->fill_end, &tail);
	}
	if (!r) {
		r = write_filled(q, p, c, head, tail);
	}
	free(head);
	free(tail);
	return r;
}

/* Bits of the subclusters in [start, end) of the cluster at `base`. */
static uint32_t sub_mask(const struct qcow2 *q, uint64_t base, uint64_t start, uint64_t end)
{
	uint64_t sub = q->cluster_bytes / q->subclusters;
	uint64_t from = MAX(start, base) - base, to = MIN(end, base + q->cluster_bytes) - base;
	uint64_t first = from / sub, last = (to + sub - 1) / sub;

	return (uint32_t)((BIT64(last) - 1) & ~(BIT64(first) - 1));
}

static struct l2_entry linked_entry(const struct qcow2 *q, const struct piece *p,
				    struct l2_entry old, uint64_t i)
{
	uint64_t base = p->base + (i << q->cluster_bits);
	struct l2_entry e = { (p->host + (i << q->cluster_bits)) | QE_COPIED, 0 };
	uint32_t mask;

	if (!q_extended(q)) {
		return e;
	}
	mask = sub_mask(q, base, p->fill_start, p->fill_end);
	if (p->class == CLASS_FOREIGN) {
		e.bitmap = mask; /* all of them: the whole cluster was filled */
	} else {
		e.bitmap = (old.bitmap | mask) & ~((uint64_t)mask << 32);
	}
	return e;
}

/* Enter the piece's clusters into L2. May let go. */
static int link_piece_locked(struct qcow2 *q, struct piece *p)
{
	struct slot *s;
	unsigned index;
	int r = map_own_l2_locked(q, p->base);

	if (!r) {
		r = map_slice_locked(q, p->base, false, &s, &index);
	}
	if (r < 0) {
		return r;
	}
	for (uint64_t i = 0; i < p->clusters; i++) {
		struct l2_entry old = map_load(q, s, index + (unsigned)i);

		if (p->class == CLASS_FOREIGN) {
			/* Out of memory: what was there leaks. */
			(void)map_unlink_entry_locked(q, old);
		}
		map_store_locked(q, s, index + (unsigned)i, linked_entry(q, p, old, i));
	}
	return 0;
}

static int make_piece(struct qcow2 *q, struct piece *p, struct cursor *c)
{
	int r = fill_piece(q, p, c);

	pthread_mutex_lock(&q->lock);
	if (!r) {
		r = link_piece_locked(q, p);
	}
	if (r < 0 && p->taken) {
		clusters_free_now_locked(q, q_cluster_of(q, p->host), p->clusters);
	}
	q_making_end_locked(q, &p->making);
	return r;
}

/* Room in the cache for what a request makes dirty. May let go. Before entering. */
static int make_room_locked(struct qcow2 *q)
{
	if (q->failed) {
		return q->failed;
	}
	return cache_full(&q->cache) ? q_commit_locked(q) : 0;
}

/* Enter, and begin a piece; q_leave_locked(*ret_token) ends it. <0: nothing was entered. */
static int piece_enter(struct qcow2 *q, struct piece *p, struct qcow2_extent *x, bool *ret_in_place,
		       unsigned *ret_token)
{
	int r;

	pthread_mutex_lock(&q->lock);
	r = make_room_locked(q);
	if (!r) {
		*ret_token = q_enter_locked(q);
		r = begin_piece_locked(q, p, x, ret_in_place);
		if (r < 0) {
			q_leave_locked(q, *ret_token);
		}
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* Write as much from `offset` on as goes at once; *ret_len bytes. */
static int write_some(struct qcow2 *q, uint64_t offset, uint64_t end, struct cursor *c,
		      uint64_t *ret_len)
{
	struct piece p = { .offset = offset, .end = end };
	struct qcow2_extent x;
	unsigned token;
	bool in_place;
	int r = piece_enter(q, &p, &x, &in_place, &token);

	if (r < 0) {
		return r;
	}
	if (in_place) {
		r = cursor_move(c, q->data, true, p.end - p.offset, x.host);
		pthread_mutex_lock(&q->lock);
	} else {
		r = make_piece(q, &p, c);
	}
	q_leave_locked(q, token);
	pthread_mutex_unlock(&q->lock);
	*ret_len = p.end - p.offset;
	return r;
}

static int check_write(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	if (q->readonly) {
		return -EROFS;
	}
	return range_within(offset, len, q->size) ? 0 : -EINVAL;
}

static int write_range(struct qcow2 *q, uint64_t offset, struct cursor *c, uint64_t len)
{
	uint64_t end = offset + len, n = 0;
	int r = 0;

	while (offset < end && !r) {
		r = write_some(q, offset, end, c, &n);
		offset += n;
	}
	return r;
}

int qcow2_write(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned count)
{
	struct cursor c = { iov, count, 0 };
	uint64_t len = iov_bytes(iov, count);
	int r = check_write(q, offset, len);

	return r < 0 ? r : write_range(q, offset, &c, len);
}

/* --- changing whole clusters
 * ------------------------------------------------------------------------ */

static struct l2_entry changed_entry(const struct qcow2 *q, struct l2_entry e, enum q_change what)
{
	struct l2_entry none = { 0, 0 }, zero = { QE_ZERO, 0 };
	bool keep = what == Q_ZERO_KEEP && class_of(q, e) == CLASS_OWN;

	if (q_extended(q)) {
		zero = (struct l2_entry){ 0, 0xffffffffull << 32 };
	}
	if (keep) {
		zero.desc |= e.desc & (QE_OFFSET | QE_COPIED);
	}
	if (what == Q_UNALLOCATE || (what == Q_DISCARD && !q->backing)) {
		return none;
	}
	/* Version 2 knows no zeroes: the callers see to it that there is no backing image. */
	return q->version >= 3 ? zero : none;
}

/* Would `what` change the entry? */
static bool entry_changes(const struct qcow2 *q, struct l2_entry e, enum q_change what)
{
	struct l2_entry n = changed_entry(q, e, what);

	/* Nothing behind it reads as zeroes already. */
	if (!e.desc && !e.bitmap && !q->backing) {
		return false;
	}
	return n.desc != e.desc || n.bitmap != e.bitmap;
}

static void change_entry_locked(struct qcow2 *q, struct slot *s, unsigned index, enum q_change what)
{
	struct l2_entry e = map_load(q, s, index), n;

	if (!entry_changes(q, e, what)) {
		return;
	}
	n = changed_entry(q, e, what);
	if (!map_has_host(q, n)) {
		/* Out of memory: what was there leaks. */
		(void)map_unlink_entry_locked(q, e);
	}
	map_store_locked(q, s, index, n);
}

/* All within one slice. May let go. */
static int change_slice_locked(struct qcow2 *q, uint64_t start, uint64_t end, enum q_change what)
{
	uint64_t n = (end - start) >> q->cluster_bits;
	bool any = false;
	struct slot *s;
	unsigned index;
	int r = map_slice_locked(q, start, false, &s, &index);

	for (uint64_t i = 0; !r && i < n; i++) {
		struct l2_entry e =
			s ? map_load(q, s, index + (unsigned)i) : (struct l2_entry){ 0, 0 };

		any = any || entry_changes(q, e, what);
	}
	if (r < 0 || !any) {
		return r;
	}
	r = map_own_l2_locked(q, start);
	if (!r) {
		r = map_slice_locked(q, start, false, &s, &index);
	}
	for (uint64_t i = 0; !r && i < n; i++) {
		change_entry_locked(q, s, index + (unsigned)i, what);
	}
	return r;
}

/* The end of what one step of a change may take: a slice, or a whole L2 table that is not there. */
static uint64_t step_end_locked(const struct qcow2 *q, uint64_t start, uint64_t end,
				enum q_change what)
{
	uint64_t span = q_l2_span(q), index = start / span;
	bool absent = index >= q->l1_size || !(q->l1[index] & QE_OFFSET);

	if (!absent || (q->backing && what != Q_UNALLOCATE)) {
		span = (uint64_t)map_slice_entries(q) << q->cluster_bits;
	}
	return MIN(end, ALIGN_DOWN(start, span) + span);
}

int q_change_clusters(struct qcow2 *q, uint64_t start, uint64_t end, enum q_change what)
{
	int r = 0;

	pthread_mutex_lock(&q->lock);
	while (start < end && !r) {
		struct making m;
		uint64_t step;
		unsigned token;

		r = make_room_locked(q);
		if (r < 0) {
			break;
		}
		token = q_enter_locked(q);
		step = step_end_locked(q, start, end, what);
		q_making_begin_locked(q, &m, start, step);
		/* A table may have come while we waited. */
		step = m.end = MIN(step, step_end_locked(q, start, end, what));
		r = change_slice_locked(q, start, step, what);
		q_making_end_locked(q, &m);
		q_leave_locked(q, token);
		start = step;
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* --- zeroes and discard
 * ------------------------------------------------------------------------------- */

/* Zeroes as data, unless they are zeroes already. */
int q_zero_any(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	static const uint8_t zeroes[ZEROES_BYTES];
	int r = 0;

	if (range_is_zero(q, false, offset, len)) {
		return 0;
	}
	while (len && !r) {
		struct iovec iov = { (void *)zeroes, MIN(len, ZEROES_BYTES) };
		struct cursor c = { &iov, 1, 0 };

		r = write_range(q, offset, &c, iov.iov_len);
		offset += iov.iov_len;
		len -= iov.iov_len;
	}
	return r;
}

/* Whole clusters, or up to the end of the disk. */
static int zero_clusters(struct qcow2 *q, uint64_t start, uint64_t end, bool unmap)
{
	int r = 0;

	if (q->version < 3 && (q->backing || !unmap)) {
		return q_zero_any(q, start, end - start);
	}
	if (q->autoclear & QA_RAW_DATA_FILE) {
		r = file_zero(q->data, start, end - start, unmap);
	}
	return r < 0 ? r
		     : q_change_clusters(q, start, q_up(q, end),
					 unmap ? Q_ZERO_UNMAP : Q_ZERO_KEEP);
}

int qcow2_write_zeroes(struct qcow2 *q, uint64_t offset, uint64_t len, bool unmap)
{
	uint64_t end = offset + len, first, last;
	int r = check_write(q, offset, len);

	if (r < 0 || !len) {
		return r;
	}
	first = q_up(q, offset);
	last = end == q->size ? end : q_down(q, end);
	if (first >= last) {
		return q_zero_any(q, offset, len);
	}
	r = q_zero_any(q, offset, first - offset);
	if (!r) {
		r = zero_clusters(q, first, last, unmap);
	}
	return r < 0 ? r : q_zero_any(q, last, end - last);
}

int qcow2_discard(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	uint64_t end = offset + len, first, last;
	int r = check_write(q, offset, len);

	if (r < 0) {
		return r;
	}
	first = q_up(q, offset);
	last = end == q->size ? q_up(q, end) : q_down(q, end);
	if (first >= last || (q->version < 3 && q->backing)) {
		return 0; /* a hint, and it cannot be followed */
	}
	if (q->autoclear & QA_RAW_DATA_FILE) {
		return zero_clusters(q, first, MIN(last, q->size), true);
	}
	r = q_change_clusters(q, first, last, Q_DISCARD);
	if (!r && q_has_data_file(q)) {
		r = file_discard(q->data, first, last - first);
	}
	return r;
}

int qcow2_unallocate(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	uint64_t end = offset + len;
	int r = check_write(q, offset, len);

	if (r < 0) {
		return r;
	}
	return q_change_clusters(q, q_up(q, offset), end == q->size ? q_up(q, end) : q_down(q, end),
				 Q_UNALLOCATE);
}

int qcow2_flush(struct qcow2 *q)
{
	int r;

	if (q->readonly) {
		return 0;
	}
	pthread_mutex_lock(&q->lock);
	r = q_commit_locked(q);
	pthread_mutex_unlock(&q->lock);
	return r;
}

bool qcow2_flush_is_plain(struct qcow2 *q)
{
	bool plain;

	if (pthread_mutex_trylock(&q->lock)) {
		return false;
	}
	plain = !q_is_dirty_locked(q) && !q->committing && !q->failed && !q->exclusive_wanted;
	pthread_mutex_unlock(&q->lock);
	return plain;
}

/* --- space ahead of data
 * --------------------------------------------------------------------------------- */

static int fill_zeroes(struct qcow2 *q, uint64_t at, uint64_t len)
{
	static const uint8_t zeroes[ZEROES_BYTES];
	int r = 0;

	for (uint64_t n; len && !r; at += n, len -= n) {
		n = MIN(len, ZEROES_BYTES);
		r = file_write(q->data, zeroes, n, at);
	}
	return r;
}

static int prepare_space(struct qcow2 *q, const struct piece *p, enum qcow2_preallocation mode)
{
	uint64_t len = p->clusters << q->cluster_bits;
	int r = p->fresh ? 0 : file_zero(q->data, p->host, len, false);

	if (!r && mode == QCOW2_PREALLOC_FALLOC) {
		r = file_allocate(q->data, p->host, len);
	}
	if (!r && mode == QCOW2_PREALLOC_FULL) {
		r = fill_zeroes(q, p->host, len);
	}
	return r;
}

/* Make what lies at p->offset, as far as it has no cluster. */
static int preallocate_piece(struct qcow2 *q, struct piece *p, enum qcow2_preallocation mode)
{
	int r = prepare_space(q, p, mode);

	p->fill_start = p->base;
	p->fill_end = p->making.end;
	pthread_mutex_lock(&q->lock);
	if (!r) {
		r = link_piece_locked(q, p);
	}
	if (r < 0 && p->taken) {
		clusters_free_now_locked(q, q_cluster_of(q, p->host), p->clusters);
	}
	q_making_end_locked(q, &p->making);
	pthread_mutex_unlock(&q->lock);
	return r;
}

static int preallocate_some(struct qcow2 *q, uint64_t offset, uint64_t end,
			    enum qcow2_preallocation mode, uint64_t *ret_end)
{
	struct piece p = { .offset = offset, .end = end, .base = offset };
	struct qcow2_extent x;
	unsigned token;
	bool in_place;
	int r = piece_enter(q, &p, &x, &in_place, &token);

	if (r < 0) {
		return r;
	}
	*ret_end = p.end;
	if (!in_place) {
		*ret_end = p.making.end;
		r = preallocate_piece(q, &p, mode);
	}
	pthread_mutex_lock(&q->lock);
	q_leave_locked(q, token);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int qcow2_preallocate(struct qcow2 *q, uint64_t offset, uint64_t len, enum qcow2_preallocation mode)
{
	uint64_t at = q_down(q, offset), end = q_up(q, offset + len), size;
	int r = 0;

	while (at < end && !r && mode != QCOW2_PREALLOC_OFF) {
		r = preallocate_some(q, at, end, mode, &at);
	}
	/* The last cluster is there to its end, as other programs expect. */
	if (!r && mode != QCOW2_PREALLOC_OFF && file_size(q->file, &size) == 0 &&
	    size < q->fresh << q->cluster_bits) {
		r = file_truncate(q->file, q->fresh << q->cluster_bits);
	}
	return r;
}
