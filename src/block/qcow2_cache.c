/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pieces of L2 tables and refcount blocks in memory, as they lie on the disk.
 *
 * Bound: `max` slices. One more is made only if every one of them is dirty or
 * being written; requests commit when half are dirty (cache_full()), so
 * this takes as many at most as there are requests in flight.
 * Victims go by second chance.
 */
#include <stdlib.h>

#include "block/qcow2_int.h"

#define SLOTS_MIN 64

static size_t hash_of(const struct cache *c, uint64_t offset)
{
	return (size_t)((offset >> 9) * 0x9e3779b97f4a7c15ull >> 20) & (c->hash_size - 1);
}

int cache_init(struct cache *c, size_t bytes, size_t slice_bytes)
{
	size_t max = MAX(bytes / slice_bytes, (size_t)SLOTS_MIN);

	*c = (struct cache){ .max = max, .hash_size = 64 };
	while (c->hash_size < max) {
		c->hash_size *= 2;
	}
	c->hash = calloc(c->hash_size, sizeof(*c->hash));
	return c->hash ? 0 : -ENOMEM;
}

void cache_done(struct cache *c)
{
	for (size_t i = 0; i < c->count; i++) {
		free(c->slots[i]->data);
		free(c->slots[i]);
	}
	free(c->slots);
	free(c->hash);
	*c = (struct cache){ 0 };
}

static void unhash(struct cache *c, struct slot *s)
{
	struct slot **at = &c->hash[hash_of(c, s->offset)];

	while (*at && *at != s) {
		at = &(*at)->hash_next;
	}
	if (*at) {
		*at = s->hash_next;
	}
	s->offset = 0;
}

static struct slot *find(struct cache *c, uint64_t offset)
{
	struct slot *s = c->hash[hash_of(c, offset)];

	while (s && s->offset != offset) {
		s = s->hash_next;
	}
	return s;
}

struct slot *cache_peek_locked(struct qcow2 *q, uint64_t offset)
{
	struct slot *s = find(&q->cache, offset);

	if (s) {
		s->recent = true;
	}
	return s;
}

static struct slot *add_slot(struct cache *c, size_t slice_bytes)
{
	struct slot *s;

	if (c->count == c->room) {
		size_t room = c->room ? c->room * 2 : SLOTS_MIN;
		struct slot **slots = realloc(c->slots, room * sizeof(struct slot *));

		if (!slots) {
			return NULL;
		}
		c->slots = slots;
		c->room = room;
	}
	s = calloc(1, sizeof(*s));
	if (s && posix_memalign((void **)&s->data, 4096, slice_bytes)) {
		free(s);
		s = NULL;
	}
	if (s) {
		c->slots[c->count++] = s;
	}
	return s;
}

/* A clean slot whose content may go; NULL: there is none. */
static struct slot *victim(struct cache *c)
{
	for (size_t n = 0; n < 2 * c->count; n++) {
		struct slot *s = c->slots[c->hand];

		c->hand = (c->hand + 1) % c->count;
		if (s->dirty || s->committing) {
			continue;
		}
		if (s->offset && s->recent) {
			s->recent = false;
			continue;
		}
		return s;
	}
	return NULL;
}

static struct slot *take_slot(struct cache *c, size_t slice_bytes)
{
	struct slot *s = c->count < c->max ? add_slot(c, slice_bytes) : victim(c);

	if (!s) {
		s = c->count < c->max ? victim(c) : add_slot(c, slice_bytes);
	}
	if (s && s->offset) {
		unhash(c, s);
	}
	return s;
}

int cache_get_locked(struct qcow2 *q, uint64_t offset, enum slot_kind kind, bool blank,
		     struct slot **ret)
{
	struct cache *c = &q->cache;
	size_t bytes = (size_t)1 << q->slice_bits;
	struct slot *s = find(c, offset);
	int r = 0;

	if (s && !blank) {
		s->recent = true;
		*ret = s;
		return s->kind == kind ? 0 : q_corrupt_locked(q, "a table of two kinds", offset);
	}
	s = s ? s : take_slot(c, bytes);
	if (!s) {
		return -ENOMEM;
	}
	if (s->offset) {
		unhash(c, s);
	}
	if (blank) {
		memset(s->data, 0, bytes);
	} else {
		r = file_read(q->file, s->data, bytes, offset);
	}
	if (r < 0) {
		return r;
	}
	s->offset = offset;
	s->kind = kind;
	s->recent = true;
	s->hash_next = c->hash[hash_of(c, offset)];
	c->hash[hash_of(c, offset)] = s;
	*ret = s;
	return 0;
}

void cache_dirty_locked(struct qcow2 *q, struct slot *s)
{
	if (!s->dirty) {
		s->dirty = true;
		q->cache.dirty++;
	}
}

void cache_drop_locked(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	uint64_t step = BIT64(q->slice_bits);

	for (uint64_t at = offset; at < offset + len; at += step) {
		struct slot *s = find(&q->cache, at);

		if (!s) {
			continue;
		}
		if (s->dirty) {
			s->dirty = false;
			q->cache.dirty--;
		}
		unhash(&q->cache, s);
	}
}

void cache_drop_l2_locked(struct qcow2 *q)
{
	for (size_t i = 0; i < q->cache.count; i++) {
		struct slot *s = q->cache.slots[i];

		if (s->offset && s->kind == SLOT_L2) {
			cache_drop_locked(q, s->offset, 1);
		}
	}
}
