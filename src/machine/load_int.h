/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the loaders of the kinds share. Internal to the loader and its tests.
 *
 * Low memory, the loader's own (LOAD_LOW_START … LOAD_LOW_END):
 *	0x1000	GDT
 *	0x2000	zero page, PVH start info or multiboot information
 *	0x3000	PVH memory map and modules, or multiboot memory map
 *	0x5000	multiboot modules and their names
 *	0x8000	page tables: PML4, PDPT, four page directories (4 GiB, 2 MiB pages)
 *	0xf000	a page of stack, growing down from 0x10000
 *	0x20000	command line
 */
#pragma once

#include "machine/load.h"

#define LOW_GDT        0x1000ull
#define LOW_INFO       0x2000ull
#define LOW_MAP        0x3000ull
#define LOW_MAP_BYTES  0x2000ull
#define LOW_MODS       0x5000ull
#define LOW_MODS_BYTES 0x3000ull
#define LOW_TABLES     0x8000ull
#define LOW_STACK_TOP  0x10000ull
#define LOW_CMDLINE    0x20000ull

#define GDT_CODE 0x10
#define GDT_DATA 0x18
#define GDT_TASK 0x20

#define LOAD_MODULES_MAX 64u

struct load_file {
	int fd;
	const char *what; /* "kernel" or "initrd", for messages */
	char *name;
	uint64_t size_bytes;
};

struct load {
	enum machine_kernel kind;
	struct load_file kernel;
	struct load_file initrds[LOAD_MODULES_MAX]; /* bzImage and PVH: one at the most */
	unsigned initrd_count;
	char *cmdline;
};

/* Where the one line about a failure goes. */
struct load_error {
	char *text;
	size_t size;
};

/* Write the line, return -err. */
int load_fail(struct load_error *e, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Read exactly `len` bytes of the file; anything less is a truncated file. */
int load_pread(const struct load_file *f, uint64_t offset, void *buf, size_t len,
	       struct load_error *e);
/* Read a part of the file into guest RAM. */
int load_copy(const struct load_file *f, uint64_t offset, struct mem *m, gpa_t gpa, uint64_t len,
	      struct load_error *e);
/* Copy into guest RAM, or zero it (`data` NULL); false if it is not RAM. */
bool load_put(struct mem *m, gpa_t gpa, const void *data, uint64_t len);

/* Whether [gpa, gpa+len) is RAM of the map. */
bool load_is_ram(const struct load_params *p, gpa_t gpa, uint64_t len);
/* Whether a kernel may be put there: RAM, and not the loader's own. */
bool load_is_free(const struct load_params *p, gpa_t gpa, uint64_t len);
uint64_t load_ram_bytes(const struct load_params *p);

/* Where the kernel came to lie. */
struct load_extent {
	gpa_t start, end;
};

/*
 * Put initrd 0 as high as it fits, wholly at or below `last`, clear of the
 * kernel. No initrd: *ret_gpa and *ret_len are 0.
 */
int load_place_initrd(struct load *l, struct mem *m, const struct load_params *p,
		      struct load_extent kernel, gpa_t last, gpa_t *ret_gpa, uint64_t *ret_len,
		      struct load_error *e);
/* The line for kernel and initrds that do not fit: says how much would do. */
int load_fail_memory(const struct load *l, const struct load_params *p, uint64_t kernel_end,
		     struct load_error *e);

/* Command line, GDT and stack; the fields of `ret` that belong to them. */
int load_start_common(struct load *l, struct mem *m, struct machine_start *ret, bool long_mode,
		      struct load_error *e);

/* --- ELF, load_elf.c --- */

#define ELF_SEGMENTS_MAX 64u

struct elf_segment {
	uint64_t offset, paddr, file_bytes, mem_bytes;
};

struct elf_image {
	uint64_t entry;
	struct elf_segment loads[ELF_SEGMENTS_MAX];
	unsigned load_count;
	bool has_pvh;
	uint64_t pvh_entry;
};

/* Whether the first bytes are those of an ELF file. */
bool elf_is(const uint8_t *head, size_t len);
/* Read and check headers and notes; x86 only. */
int elf_parse(const struct load_file *f, struct elf_image *ret, struct load_error *e);
/* Put the segments into RAM at their physical addresses. */
int elf_place(struct load *l, const struct elf_image *img, struct mem *m,
	      const struct load_params *p, struct load_extent *ret, struct load_error *e);

/* --- the kinds --- */

/* `head`: the first bytes of the file. 1: it is of this kind, 0: not, or -errno. */
#define LOAD_HEAD_BYTES 8192u
int load_bzimage_is(const uint8_t *head, size_t len);
int load_multiboot_is(const uint8_t *head, size_t len);

int load_bzimage(struct load *l, struct mem *m, const struct load_params *p,
		 struct machine_start *ret, struct load_error *e);
int load_pvh(struct load *l, struct mem *m, const struct load_params *p, struct machine_start *ret,
	     struct load_error *e);
int load_multiboot(struct load *l, struct mem *m, const struct load_params *p,
		   struct machine_start *ret, struct load_error *e);
