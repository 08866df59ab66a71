/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bus: windows of devices by address.
 *
 * Theory of operation. Each space has the list of mapped windows in the order
 * of mapping, and a table made from it: sorted segments that do not overlap,
 * each naming the newest window there. Changes happen under `lock` and rebuild
 * the table. Look-ups take no lock: the table is guarded by a sequence number
 * (odd while it is being copied), and a look-up that saw it change starts
 * again. A table that became too small is kept until bus_free(), since a
 * look-up may still read it; capacities double, so all old ones together are
 * no larger than the newest.
 *
 * A window may move between a look-up and the device's lock. So the access
 * checks window's place again with the lock held and starts again if it
 * moved.
 *
 * Invariants:
 * 1. The table has room for 2n+1 segments of n windows, so unmapping never
 *    allocates.
 * 2. Segments name windows that were mapped when `seq` was last even; windows
 *    are freed only when no vCPU can be in an access.
 */
#include "dev/bus.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/assert.h"

struct segment {
	uint64_t first, last; /* both inside */
	uint64_t base;        /* of the window */
	struct dev_window *w;
};

struct table {
	struct table *older;
	unsigned capacity;
	struct segment segments[];
};

struct space {
	_Atomic uint32_t seq;
	struct table *table; /* atomic; NULL: nothing was ever mapped */
	unsigned count;      /* atomic; segments in use */
	/* Under bus->lock: */
	struct dev_window **windows; /* oldest first */
	unsigned window_count, window_capacity;
	struct segment *scratch; /* as many as table->capacity */
	uint64_t *edges;         /* the same */
};

struct bus {
	pthread_mutex_t lock;
	struct space space[DEV_SPACE_COUNT];
};

#define LOAD(p)     __atomic_load_n(&(p), __ATOMIC_RELAXED)
#define STORE(p, v) __atomic_store_n(&(p), v, __ATOMIC_RELAXED)

int bus_new(struct bus **ret)
{
	struct bus *b = calloc(1, sizeof(*b));

	if (!b) {
		return -ENOMEM;
	}
	pthread_mutex_init(&b->lock, NULL);
	*ret = b;
	return 0;
}

static void space_done(struct space *s)
{
	struct table *t = s->table;

	while (t) {
		struct table *older = t->older;

		free(t);
		t = older;
	}
	for (unsigned i = 0; i < s->window_count; i++) {
		s->windows[i]->mapped = false;
	}
	free(s->windows);
	free(s->scratch);
	free(s->edges);
}

void bus_free(struct bus *b)
{
	if (!b) {
		return;
	}
	for (unsigned i = 0; i < DEV_SPACE_COUNT; i++) {
		space_done(&b->space[i]);
	}
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static bool size_valid(unsigned size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

void dev_window_init(struct dev_window *w, struct dev *d, unsigned id, enum dev_space space,
		     uint64_t len, unsigned min_size, unsigned max_size)
{
	ASSERT(size_valid(min_size) && size_valid(max_size) && min_size <= max_size);
	ASSERT(len && len % min_size == 0);
	*w = (struct dev_window){ .dev = d,
				  .id = id,
				  .space = space,
				  .len = len,
				  .min_size = (uint8_t)min_size,
				  .max_size = (uint8_t)max_size };
}

/* Make room for `n` windows and the segments they can make. */
static int space_reserve(struct space *s, unsigned n)
{
	unsigned cap = MAX(16u, s->window_capacity * 2);
	struct dev_window **windows;
	struct segment *scratch;
	uint64_t *edges;
	struct table *t;

	if (n <= s->window_capacity) {
		return 0;
	}
	t = malloc(sizeof(*t) + (2 * cap + 1) * sizeof(t->segments[0]));
	windows = realloc(s->windows, cap * sizeof(*windows));
	s->windows = windows ? windows : s->windows;
	scratch = realloc(s->scratch, (2 * cap + 1) * sizeof(*scratch));
	s->scratch = scratch ? scratch : s->scratch;
	edges = realloc(s->edges, (2 * cap + 1) * sizeof(*edges));
	s->edges = edges ? edges : s->edges;
	if (!t || !windows || !scratch || !edges) {
		free(t);
		return -ENOMEM;
	}
	t->capacity = 2 * cap + 1;
	t->older = s->table;
	if (s->table) {
		memcpy(t->segments, s->table->segments, s->count * sizeof(t->segments[0]));
	}
	__atomic_store_n(&s->table, t, __ATOMIC_RELEASE);
	s->window_capacity = cap;
	return 0;
}

static int edge_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The newest window that has `addr`, or NULL. */
static struct dev_window *newest_at(const struct space *s, uint64_t addr)
{
	for (unsigned i = s->window_count; i-- > 0;) {
		struct dev_window *w = s->windows[i];

		if (addr >= w->base && addr - w->base < w->len) {
			return w;
		}
	}
	return NULL;
}

/* Cut the space at every window's edge and name the newest window of each piece. */
static unsigned flatten(struct space *s)
{
	unsigned edges = 0, count = 0;

	for (unsigned i = 0; i < s->window_count; i++) {
		s->edges[edges++] = s->windows[i]->base;
		s->edges[edges++] = s->windows[i]->base + s->windows[i]->len;
	}
	qsort(s->edges, edges, sizeof(s->edges[0]), edge_compare);
	for (unsigned i = 0; i + 1 < edges; i++) {
		uint64_t first = s->edges[i], last = s->edges[i + 1] - 1;
		struct dev_window *w = first <= last ? newest_at(s, first) : NULL;

		if (!w || s->edges[i] == s->edges[i + 1]) {
			continue;
		}
		if (count && s->scratch[count - 1].w == w &&
		    s->scratch[count - 1].last == first - 1) {
			s->scratch[count - 1].last = last;
			continue;
		}
		s->scratch[count++] = (struct segment){ first, last, w->base, w };
	}
	return count;
}

static void rebuild(struct space *s)
{
	unsigned count = flatten(s);
	uint32_t seq = atomic_load_explicit(&s->seq, memory_order_relaxed);

	atomic_store_explicit(&s->seq, seq + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	for (unsigned i = 0; i < count; i++) {
		struct segment *to = &s->table->segments[i];

		STORE(to->first, s->scratch[i].first);
		STORE(to->last, s->scratch[i].last);
		STORE(to->base, s->scratch[i].base);
		STORE(to->w, s->scratch[i].w);
	}
	STORE(s->count, count);
	atomic_store_explicit(&s->seq, seq + 2, memory_order_release);
}

static void remove_locked(struct space *s, struct dev_window *w)
{
	unsigned i = 0;

	while (s->windows[i] != w) {
		i++;
		ASSERT(i < s->window_count);
	}
	memmove(&s->windows[i], &s->windows[i + 1],
		(s->window_count - i - 1) * sizeof(s->windows[0]));
	s->window_count--;
	STORE(w->mapped, false);
}

int bus_map(struct bus *b, struct dev_window *w, uint64_t base)
{
	struct space *s = &b->space[w->space];
	uint64_t end;
	int r;

	if (!range_end(base, w->len, &end) || (w->space == DEV_PIO && end > 0x10000)) {
		return -EINVAL;
	}
	pthread_mutex_lock(&b->lock);
	r = space_reserve(s, s->window_count + 1);
	if (r == 0) {
		if (w->mapped) {
			remove_locked(s, w);
		}
		STORE(w->base, base);
		STORE(w->mapped, true);
		s->windows[s->window_count++] = w;
		rebuild(s);
	}
	pthread_mutex_unlock(&b->lock);
	return r;
}

void bus_unmap(struct bus *b, struct dev_window *w)
{
	struct space *s = &b->space[w->space];

	pthread_mutex_lock(&b->lock);
	if (w->mapped) {
		remove_locked(s, w);
		rebuild(s);
	}
	pthread_mutex_unlock(&b->lock);
}

void bus_unmap_dev(struct bus *b, struct dev *d)
{
	pthread_mutex_lock(&b->lock);
	for (unsigned i = 0; i < DEV_SPACE_COUNT; i++) {
		struct space *s = &b->space[i];
		unsigned before = s->window_count;

		for (unsigned k = s->window_count; k-- > 0;) {
			if (s->windows[k]->dev == d) {
				remove_locked(s, s->windows[k]);
			}
		}
		if (s->window_count != before) {
			rebuild(s);
		}
	}
	pthread_mutex_unlock(&b->lock);
}

/* The first of the sorted segments that ends at or behind `addr`; `count` if none. */
static unsigned search(const struct table *t, unsigned count, uint64_t addr)
{
	unsigned lo = 0, hi = count;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (LOAD(t->segments[mid].last) < addr) {
			lo = mid + 1;
		} else {
			hi = mid;
		}
	}
	return lo;
}

/* What is at `addr`: a window's segment, or (w NULL) a gap and where it ends. */
static struct segment look_up_once(const struct space *s, uint64_t addr)
{
	const struct table *t = __atomic_load_n(&s->table, __ATOMIC_ACQUIRE);
	struct segment found = { .first = 0, .last = UINT64_MAX };
	unsigned count = t ? MIN(LOAD(s->count), t->capacity) : 0;
	unsigned i = t ? search(t, count, addr) : 0;

	if (i < count) {
		found.first = LOAD(t->segments[i].first);
		found.last = LOAD(t->segments[i].last);
		found.base = LOAD(t->segments[i].base);
		found.w = LOAD(t->segments[i].w);
	}
	if (found.first > addr) {
		found.w = NULL;
		found.last = found.first - 1;
	}
	return found;
}

static struct segment look_up(struct space *s, uint64_t addr)
{
	struct segment found;
	uint32_t seq;

	do {
		seq = atomic_load_explicit(&s->seq, memory_order_acquire);
		while (unlikely(seq & 1)) {
			sched_yield();
			seq = atomic_load_explicit(&s->seq, memory_order_acquire);
		}
		found = look_up_once(s, addr);
		atomic_thread_fence(memory_order_acquire);
	} while (unlikely(atomic_load_explicit(&s->seq, memory_order_relaxed) != seq));
	return found;
}

static uint64_t device_read(struct dev_window *w, uint64_t offset, unsigned size)
{
	struct dev *d = w->dev;

	return d->cls->read ? d->cls->read(d, w->id, offset, size) : ~0ull;
}

static void device_write(struct dev_window *w, uint64_t offset, uint64_t value, unsigned size)
{
	struct dev *d = w->dev;

	if (d->cls->write) {
		d->cls->write(d, w->id, offset, value, size);
	}
}

/* One legal access of `size` at `offset` serves `take` bytes from `skip` on. */
struct piece {
	uint64_t offset;
	unsigned size, skip, take;
};

static struct piece piece_at(const struct dev_window *w, uint64_t offset, unsigned len)
{
	unsigned size = w->max_size;

	while (size > len || (offset & (size - 1))) {
		size >>= 1;
	}
	if (size < w->min_size) {
		uint64_t start = ALIGN_DOWN(offset, (uint64_t)w->min_size);
		unsigned skip = (unsigned)(offset - start);

		return (struct piece){ start, w->min_size, skip, MIN(len, w->min_size - skip) };
	}
	return (struct piece){ offset, size, 0, size };
}

static void window_read(struct dev_window *w, uint64_t offset, uint8_t *buf, unsigned len)
{
	while (len) {
		struct piece p = piece_at(w, offset, len);
		uint64_t value = device_read(w, p.offset, p.size);

		memcpy(buf, (uint8_t *)&value + p.skip, p.take);
		buf += p.take;
		offset += p.take;
		len -= p.take;
	}
}

static void window_write(struct dev_window *w, uint64_t offset, const uint8_t *buf, unsigned len)
{
	while (len) {
		struct piece p = piece_at(w, offset, len);
		uint64_t value = p.take == p.size ? 0 : device_read(w, p.offset, p.size);

		memcpy((uint8_t *)&value + p.skip, buf, p.take);
		device_write(w, p.offset, value, p.size);
		buf += p.take;
		offset += p.take;
		len -= p.take;
	}
}

/* Take the device's lock if its window is still where the look-up saw it. */
static bool enter(const struct segment *at)
{
	struct dev_window *w = at->w;

	dev_lock(w->dev);
	if (likely(LOAD(w->mapped) && LOAD(w->base) == at->base)) {
		return true;
	}
	dev_unlock(w->dev);
	return false;
}

/* How much of `len` bytes from `addr` lies in the segment. */
static unsigned span(const struct segment *at, uint64_t addr, unsigned len)
{
	uint64_t left = at->last - addr;

	return left >= len ? len : (unsigned)left + 1;
}

void bus_read(struct bus *b, enum dev_space space, uint64_t addr, void *buf, unsigned len)
{
	uint8_t *to = buf;

	while (len) {
		struct segment at = look_up(&b->space[space], addr);
		unsigned n = span(&at, addr, len);

		if (!at.w) {
			memset(to, 0xff, n);
		} else if (enter(&at)) {
			window_read(at.w, addr - at.base, to, n);
			dev_unlock(at.w->dev);
		} else {
			continue;
		}
		addr += n;
		to += n;
		len -= n;
	}
}

void bus_write(struct bus *b, enum dev_space space, uint64_t addr, const void *buf, unsigned len)
{
	const uint8_t *from = buf;

	while (len) {
		struct segment at = look_up(&b->space[space], addr);
		unsigned n = span(&at, addr, len);

		if (at.w) {
			if (!enter(&at)) {
				continue;
			}
			window_write(at.w, addr - at.base, from, n);
			dev_unlock(at.w->dev);
		}
		addr += n;
		from += n;
		len -= n;
	}
}
