/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory. A file (memfd) is owned by the mem and may back several
 * regions; a region is one mapping of a part of a file at one guest address.
 *
 * Invariants
 *  1. regions[] is sorted by nothing: a guest has a handful, a scan is fastest.
 *  2. No two regions overlap, and none wraps around.
 *  3. A region's dirty bitmap is allocated before `tracking` becomes true and
 *     freed only by mem_free(), so that marking needs no lock.
 */
#include "mem/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096ull
/* Large host pages need mappings that begin at one. */
#define HUGE_BYTES MIB(2)
/* RAM low and high, ROMs and their aliases, video memory: a dozen in practice. */
#define MEM_REGIONS_MAX 32u

struct file {
	int fd;
	uint64_t size_bytes;
};

struct slot {
	struct mem_region region;
	unsigned file;
	_Atomic uint64_t *dirty; /* a bit a page; NULL until tracked */
};

struct mem {
	struct slot slots[MEM_REGIONS_MAX];
	unsigned count;
	struct file files[MEM_REGIONS_MAX];
	unsigned file_count;
	atomic_bool tracking;
};

int mem_new(struct mem **ret)
{
	struct mem *m = calloc(1, sizeof(*m));

	if (!m) {
		return -ENOMEM;
	}
	*ret = m;
	return 0;
}

void mem_free(struct mem *m)
{
	if (!m) {
		return;
	}
	for (unsigned i = 0; i < m->count; i++) {
		munmap(m->slots[i].region.host, m->slots[i].region.size_bytes);
		free(m->slots[i].dirty);
	}
	for (unsigned i = 0; i < m->file_count; i++) {
		fd_closep(&m->files[i].fd);
	}
	free(m);
}

/* Whether a region may lie at [gpa, gpa+size). */
static int check_place(const struct mem *m, gpa_t gpa, uint64_t size_bytes)
{
	uint64_t end;

	if (!size_bytes || gpa % PAGE_BYTES || size_bytes % PAGE_BYTES ||
	    !range_end(gpa, size_bytes, &end) || size_bytes > INT64_MAX) {
		return -EINVAL;
	}
	for (unsigned i = 0; i < m->count; i++) {
		const struct mem_region *r = &m->slots[i].region;

		if (gpa < r->gpa + r->size_bytes && r->gpa < end) {
			return -EEXIST;
		}
	}
	return m->count < MEM_REGIONS_MAX ? 0 : -ENOSPC;
}

/* Map a part of a file where large pages could back it. NULL: see errno. */
static uint8_t *map_part(int fd, uint64_t offset, uint64_t size_bytes)
{
	uint8_t *area, *at;
	size_t head;

	area = mmap(NULL, size_bytes + HUGE_BYTES, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED) {
		return NULL;
	}
	head = (size_t)(-(uintptr_t)area & (HUGE_BYTES - 1));
	at = mmap(area + head, size_bytes, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, (off_t)offset);
	if (at == MAP_FAILED) {
		munmap(area, size_bytes + HUGE_BYTES);
		return NULL;
	}
	if (head) {
		munmap(area, head);
	}
	if (head < HUGE_BYTES) {
		munmap(at + size_bytes, HUGE_BYTES - head);
	}
	if (size_bytes >= HUGE_BYTES) {
		/* A wish: the host may have no large pages for shared memory. */
		madvise(at, size_bytes, MADV_HUGEPAGE);
	}
	/* Guests' secrets have no place in our core dumps. */
	madvise(at, size_bytes, MADV_DONTDUMP);
	return at;
}

static _Atomic uint64_t *new_bitmap(uint64_t size_bytes)
{
	return calloc(ALIGN_UP(size_bytes / PAGE_BYTES, 64) / 64, sizeof(uint64_t));
}

/* The caller has checked the place; the file covers the part. */
static int add_slot(struct mem *m, const struct mem_region *r, unsigned file)
{
	struct slot *s = &m->slots[m->count];

	s->region = *r;
	s->region.slot = m->count;
	s->file = file;
	s->dirty = NULL;
	if (atomic_load(&m->tracking)) {
		s->dirty = new_bitmap(r->size_bytes);
		if (!s->dirty) {
			return -ENOMEM;
		}
	}
	s->region.host = map_part(r->fd, r->fd_offset, r->size_bytes);
	if (!s->region.host) {
		free(s->dirty);
		return -ENOMEM;
	}
	m->count++;
	return 0;
}

int mem_add(struct mem *m, gpa_t gpa, uint64_t size_bytes, unsigned flags, const char *name)
{
	struct mem_region r = {
		.gpa = gpa, .size_bytes = size_bytes, .flags = flags, .name = name
	};
	AUTO_FD fd = -1;
	int err = check_place(m, gpa, size_bytes);

	if (err < 0) {
		return err;
	}
	fd = memfd_create(name, MFD_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, (off_t)size_bytes) < 0) {
		return -errno;
	}
	r.fd = fd;
	err = add_slot(m, &r, m->file_count);
	if (err < 0) {
		return err;
	}
	m->files[m->file_count++] = (struct file){ TAKE_FD(fd), size_bytes };
	return 0;
}

int mem_add_alias(struct mem *m, gpa_t gpa, uint64_t size_bytes, unsigned flags, const char *name,
		  const struct mem_region *of, uint64_t offset)
{
	struct mem_region r = {
		.gpa = gpa, .size_bytes = size_bytes, .flags = flags, .name = name, .fd = of->fd
	};
	unsigned file = container_of(of, struct slot, region)->file;
	struct file *f = &m->files[file];
	uint64_t end;
	int err = check_place(m, gpa, size_bytes);

	if (err < 0) {
		return err;
	}
	if (!range_end(of->fd_offset, offset, &r.fd_offset) || r.fd_offset % PAGE_BYTES ||
	    !range_end(r.fd_offset, size_bytes, &end) || end > INT64_MAX) {
		return -EINVAL;
	}
	if (end > f->size_bytes) {
		if (ftruncate(f->fd, (off_t)end) < 0) {
			return -errno;
		}
		f->size_bytes = end;
	}
	return add_slot(m, &r, file);
}

unsigned mem_region_count(const struct mem *m)
{
	return m->count;
}

const struct mem_region *mem_region_at(const struct mem *m, unsigned index)
{
	return index < m->count ? &m->slots[index].region : NULL;
}

uint64_t mem_ram_bytes(const struct mem *m)
{
	bool counted[MEM_REGIONS_MAX] = { false };
	uint64_t sum = 0;

	for (unsigned i = 0; i < m->count; i++) {
		const struct slot *s = &m->slots[i];

		if (!(s->region.flags & MEM_READONLY) && !counted[s->file]) {
			counted[s->file] = true;
			sum += m->files[s->file].size_bytes;
		}
	}
	return sum;
}

/* The slot that holds `gpa`; *ret_left: bytes from there to its end. NULL: no RAM. */
static struct slot *find(struct mem *m, gpa_t gpa, uint64_t *ret_left)
{
	for (unsigned i = 0; i < m->count; i++) {
		struct slot *s = &m->slots[i];
		uint64_t offset = gpa - s->region.gpa;

		if (offset < s->region.size_bytes) {
			*ret_left = s->region.size_bytes - offset;
			return s;
		}
	}
	return NULL;
}

static void mark(struct slot *s, uint64_t offset, uint64_t len)
{
	uint64_t last = (offset + len - 1) / PAGE_BYTES;

	for (uint64_t page = offset / PAGE_BYTES; page <= last; page++) {
		atomic_fetch_or_explicit(&s->dirty[page / 64], BIT64(page % 64),
					 memory_order_release);
	}
}

static bool tracks(struct mem *m)
{
	return atomic_load_explicit(&m->tracking, memory_order_acquire);
}

/* Whether all of [gpa, gpa+len) is RAM, writable if `write`. */
static bool is_ram(struct mem *m, gpa_t gpa, uint64_t len, bool write)
{
	uint64_t end, left;

	if (!range_end(gpa, len, &end)) {
		return false;
	}
	while (len) {
		struct slot *s = find(m, gpa, &left);

		if (!s || (write && (s->region.flags & MEM_READONLY))) {
			return false;
		}
		left = MIN(left, len);
		gpa += left;
		len -= left;
	}
	return true;
}

int mem_read(struct mem *m, gpa_t gpa, void *buf, size_t len)
{
	uint64_t left;

	if (!is_ram(m, gpa, len, false)) {
		return -EFAULT;
	}
	for (uint8_t *to = buf; len; to += left, gpa += left, len -= left) {
		struct slot *s = find(m, gpa, &left);

		left = MIN(left, len);
		memcpy(to, s->region.host + (gpa - s->region.gpa), left);
	}
	return 0;
}

int mem_write(struct mem *m, gpa_t gpa, const void *buf, size_t len)
{
	uint64_t left;

	if (!is_ram(m, gpa, len, true)) {
		return -EFAULT;
	}
	for (const uint8_t *from = buf; len; from += left, gpa += left, len -= left) {
		struct slot *s = find(m, gpa, &left);
		uint64_t offset = gpa - s->region.gpa;

		left = MIN(left, len);
		memcpy(s->region.host + offset, from, left);
		if (unlikely(tracks(m))) {
			mark(s, offset, left);
		}
	}
	return 0;
}

void *mem_map(struct mem *m, gpa_t gpa, size_t len, bool write)
{
	uint64_t left;
	struct slot *s = find(m, gpa, &left);

	if (!s || len > left || (write && (s->region.flags & MEM_READONLY))) {
		return NULL;
	}
	if (write && len && unlikely(tracks(m))) {
		mark(s, gpa - s->region.gpa, len);
	}
	return s->region.host + (gpa - s->region.gpa);
}

void *mem_host(struct mem *m, gpa_t gpa, size_t len)
{
	uint64_t left;
	struct slot *s = find(m, gpa, &left);

	if (!s || len > left) {
		return NULL;
	}
	if (len && unlikely(tracks(m))) {
		mark(s, gpa - s->region.gpa, len);
	}
	return s->region.host + (gpa - s->region.gpa);
}

void mem_mark_dirty(struct mem *m, gpa_t gpa, size_t len)
{
	uint64_t left;

	if (likely(!tracks(m))) {
		return;
	}
	while (len) {
		struct slot *s = find(m, gpa, &left);

		if (!s) {
			return;
		}
		left = MIN(left, len);
		mark(s, gpa - s->region.gpa, left);
		gpa += left;
		len -= left;
	}
}

int mem_dirty_track(struct mem *m, bool on)
{
	if (!on) {
		atomic_store(&m->tracking, false);
		return 0;
	}
	if (atomic_load(&m->tracking)) {
		return 0;
	}
	for (unsigned i = 0; i < m->count; i++) {
		struct slot *s = &m->slots[i];
		uint64_t words = ALIGN_UP(s->region.size_bytes / PAGE_BYTES, 64) / 64;

		if (!s->dirty) {
			s->dirty = new_bitmap(s->region.size_bytes);
		}
		if (!s->dirty) {
			return -ENOMEM;
		}
		/* What an earlier tracking left behind is no news. */
		for (uint64_t w = 0; w < words; w++) {
			atomic_store_explicit(&s->dirty[w], 0, memory_order_relaxed);
		}
	}
	atomic_store_explicit(&m->tracking, true, memory_order_release);
	return 0;
}

void mem_dirty_take(struct mem *m, unsigned index, uint64_t *bitmap)
{
	struct slot *s;
	uint64_t words;

	if (index >= m->count || !m->slots[index].dirty) {
		return;
	}
	s = &m->slots[index];
	words = ALIGN_UP(s->region.size_bytes / PAGE_BYTES, 64) / 64;
	for (uint64_t w = 0; w < words; w++) {
		if (atomic_load_explicit(&s->dirty[w], memory_order_relaxed)) {
			bitmap[w] |=
				atomic_exchange_explicit(&s->dirty[w], 0, memory_order_acquire);
		}
	}
}
