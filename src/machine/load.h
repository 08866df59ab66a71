/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Direct start of kernels: bzImage by its 64-bit entry, ELF with a PVH note,
 * multiboot-1. The kind is told from the content; kernel images are hostile:
 * nothing in one can make the loader read or write outside of the file or RAM.
 *
 * The files are opened once and stay open, so that a reset, which comes after
 * the sandbox has closed the way to new files, can place them anew.
 */
#pragma once

#include "machine/machine.h"

/*
 * The loader's own structures (GDT, page tables, zero page, start info, command
 * line) lie in [LOAD_LOW_START, LOAD_LOW_END); the board must keep out of
 * there. Kernels and initrds lie where they ask, in RAM of the map.
 */
#define LOAD_LOW_START 0x1000ull
#define LOAD_LOW_END   0x90000ull

/* Longest command line, without its NUL: what Linux takes on x86. */
#define LOAD_CMDLINE_MAX 2047u

/* The guest's map of physical memory, ACPI's address range types. */
enum load_range_type {
	LOAD_RANGE_RAM = 1,
	LOAD_RANGE_RESERVED = 2,
	LOAD_RANGE_ACPI = 3,
	LOAD_RANGE_NVS = 4,
};

struct load_range {
	gpa_t base;
	uint64_t len;
	uint32_t type; /* enum load_range_type */
};

#define LOAD_RANGES_MAX 64u

struct load_params {
	const struct load_range *map; /* sorted by base, no overlaps */
	unsigned map_count;           /* 1 … LOAD_RANGES_MAX */
	gpa_t rsdp;                   /* 0: the kernel searches for it */
};

struct load;

/*
 * Open the kernel, and `initrd` if it is not NULL (for multiboot: modules,
 * files separated by commas). `cmdline` NULL is an empty one. On failure
 * -errno and one line in `error`: which file, why, what to do. Freed with load_close().
 */
int load_open(const char *kernel, const char *initrd, const char *cmdline, char *error,
	      size_t error_size, struct load **ret);
void load_close(struct load *l); /* NULL is fine */
enum machine_kernel load_kind(const struct load *l);

/*
 * Read the files into RAM, build what the kernel wants to find and say how the
 * boot processor starts. May be called again (reset): the files are read anew.
 * The same errors as load_open(); on failure parts of RAM may have been written.
 */
int load_place(struct load *l, struct mem *m, const struct load_params *p,
	       struct machine_start *ret, char *error, size_t error_size);
