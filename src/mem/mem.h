/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest-physical memory as devices and loaders see it: RAM regions backed by
 * one memfd each, checked copies, dirty marks. An address that is not wholly
 * RAM is refused, so no device can DMA into another device.
 *
 * Threads: regions are added and removed before vCPUs run or with them paused;
 * everything else may be called from any thread.
 */
#pragma once

#include "base/util.h"

struct mem;

enum mem_flags {
	/* ROM: the guest and mem_write() may not write; loaders use mem_host(). */
	MEM_READONLY = BIT(0),
};

struct mem_region {
	gpa_t gpa;
	uint64_t size_bytes; /* multiple of 4096 */
	uint8_t *host;       /* mapping in this process */
	int fd;              /* the memfd behind it */
	uint64_t fd_offset;
	unsigned flags;
	const char *name; /* static string */
	unsigned slot;    /* stable number, for KVM's memslots */
};

int mem_new(struct mem **ret);
void mem_free(struct mem *m); /* NULL is fine */

/* Add RAM at [gpa, gpa+size). -EEXIST if it overlaps, -EINVAL if unaligned, -ENOMEM. */
int mem_add(struct mem *m, gpa_t gpa, uint64_t size_bytes, unsigned flags, const char *name);
/*
 * The same, but backed by a part of an existing region's memfd: how RAM above
 * and below the 4 GiB hole are one file, and how a ROM is seen twice.
 */
int mem_add_alias(struct mem *m, gpa_t gpa, uint64_t size_bytes, unsigned flags, const char *name,
		  const struct mem_region *of, uint64_t offset);
unsigned mem_region_count(const struct mem *m);
const struct mem_region *mem_region_at(const struct mem *m, unsigned index);
uint64_t mem_ram_bytes(const struct mem *m); /* all writable RAM, aliases once */

/* Copies. 0, or -EFAULT if any byte of the range is not RAM (then nothing is copied). */
int mem_read(struct mem *m, gpa_t gpa, void *buf, size_t len);
int mem_write(struct mem *m, gpa_t gpa, const void *buf, size_t len);

/*
 * The host's address of [gpa, gpa+len), NULL if the range is not wholly inside
 * one region, or `write` and it is read-only. With `write` the range is marked
 * dirty now; a holder that writes later marks again with mem_mark_dirty().
 * Valid as long as the region is. The guest writes there at any time: copy
 * once, check the copy, use the copy.
 */
void *mem_map(struct mem *m, gpa_t gpa, size_t len, bool write);
/* For loaders: like mem_map, but read-only regions may be written too. */
void *mem_host(struct mem *m, gpa_t gpa, size_t len);
void mem_mark_dirty(struct mem *m, gpa_t gpa, size_t len);

/*
 * What devices dirtied while tracking is on, a bit a page of the region.
 * mem_dirty_take() ORs the bits into `bitmap` (u64 words, region's pages) and clears them.
 */
int mem_dirty_track(struct mem *m, bool on);
void mem_dirty_take(struct mem *m, unsigned index, uint64_t *bitmap);
