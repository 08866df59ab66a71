/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Multiboot-1 images (Multiboot Specification 0.6.96): ELF, or raw with
 * addresses in the header ("a.out kludge"). Entered in 32-bit protected mode
 * with the magic in EAX and EBX pointing to the information structure.
 *
 * The command line begins with the kernel's name, as programs that count it
 * as their argument 0 expect.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "machine/load_int.h"

#define HEADER_MAGIC      0x1badb002u
#define HEADER_BYTES      12u
#define HEADER_FULL_BYTES 32u
#define BOOT_MAGIC        0x2badb002u
/* Flags of the header: bits 0-15 must be understood by the loader. */
#define FLAG_UNKNOWN   0xfff8u /* 0: align modules, 1: memory, 2: video (given: none) */
#define FLAG_ADDRESSES BIT(16)

/* Which fields of the information are valid. */
enum {
	INFO_MEMORY = BIT(0),
	INFO_CMDLINE = BIT(2),
	INFO_MODULES = BIT(3),
	INFO_MAP = BIT(6),
	INFO_LOADER = BIT(9),
};

struct info {
	uint32_t flags, mem_lower_kib, mem_upper_kib, boot_device, cmdline;
	uint32_t module_count, modules, symbols[4], map_bytes, map;
	uint32_t drives_bytes, drives, config_table, loader_name, apm_table;
};
static_assert(offsetof(struct info, loader_name) == 64, "information as the standard has it");

struct map_entry {
	uint32_t size; /* of what follows */
	uint64_t base, len;
	uint32_t type;
} __attribute__((packed));
static_assert(LOAD_RANGES_MAX * sizeof(struct map_entry) <= LOW_MAP_BYTES, "the map has room");

struct module {
	uint32_t start, end, name, reserved;
};

/* In LOW_MODS: the modules, then the loader's name, then the modules' names. */
#define LOADER_NAME    "Lodge"
#define MODULES_BYTES  (LOAD_MODULES_MAX * sizeof(struct module))
#define LOADER_NAME_AT (LOW_MODS + MODULES_BYTES)
#define NAMES_AT       (LOADER_NAME_AT + sizeof(LOADER_NAME))
#define NAMES_END      (LOW_MODS + LOW_MODS_BYTES)
static_assert(NAMES_AT < NAMES_END, "modules and names have room");

struct header {
	uint32_t offset, flags;
	uint32_t header_addr, load_addr, load_end, bss_end, entry;
};

/* Find the header in the first 8 KiB. */
static bool find_header(const uint8_t *head, size_t len, struct header *ret)
{
	for (size_t at = 0; at + HEADER_BYTES <= MIN(len, LOAD_HEAD_BYTES); at += 4) {
		uint32_t flags = load_le32(head + at + 4), sum = load_le32(head + at + 8);

		if (load_le32(head + at) != HEADER_MAGIC || HEADER_MAGIC + flags + sum != 0) {
			continue;
		}
		*ret = (struct header){ .offset = (uint32_t)at, .flags = flags };
		if (flags & FLAG_ADDRESSES) {
			if (at + HEADER_FULL_BYTES > len) {
				return false;
			}
			ret->header_addr = load_le32(head + at + 12);
			ret->load_addr = load_le32(head + at + 16);
			ret->load_end = load_le32(head + at + 20);
			ret->bss_end = load_le32(head + at + 24);
			ret->entry = load_le32(head + at + 28);
		}
		return true;
	}
	return false;
}

int load_multiboot_is(const uint8_t *head, size_t len)
{
	struct header h;

	return find_header(head, len, &h);
}

static int read_header(const struct load_file *f, struct header *ret, struct load_error *e)
{
	size_t len = MIN(f->size_bytes, LOAD_HEAD_BYTES);
	uint8_t *head = malloc(len);
	int r;

	if (!head) {
		return load_fail(e, ENOMEM, "kernel %s: out of memory", f->name);
	}
	r = load_pread(f, 0, head, len, e);
	if (r == 0 && !find_header(head, len, ret)) {
		r = load_fail(e, ENOEXEC, "kernel %s: has changed and is no kernel any more",
			      f->name);
	}
	if (r == 0 && (ret->flags & FLAG_UNKNOWN)) {
		r = load_fail(e, ENOTSUP,
			      "kernel %s: wants multiboot features 0x%x that are not known here",
			      f->name, ret->flags & FLAG_UNKNOWN);
	}
	free(head);
	return r;
}

/* The header's addresses as one segment of an image. */
static int from_addresses(const struct load_file *f, const struct header *h, struct elf_image *ret,
			  struct load_error *e)
{
	uint64_t offset, bytes;

	if (h->load_addr > h->header_addr || h->header_addr - h->load_addr > h->offset) {
		return load_fail(e, ENOEXEC, "kernel %s: is broken: its header's addresses lie",
				 f->name);
	}
	offset = h->offset - (h->header_addr - h->load_addr);
	bytes = h->load_end ? (uint64_t)h->load_end - h->load_addr : f->size_bytes - offset;
	if (h->load_end && h->load_end < h->load_addr) {
		return load_fail(e, ENOEXEC, "kernel %s: is broken: it ends before it begins",
				 f->name);
	}
	if (!range_within(offset, bytes, f->size_bytes)) {
		return load_fail(e, ENOEXEC,
				 "kernel %s: is truncated: its header promises %llu bytes; "
				 "is its download or build complete?",
				 f->name, (unsigned long long)(offset + bytes));
	}
	memset(ret, 0, sizeof(*ret));
	ret->entry = h->entry;
	ret->load_count = 1;
	ret->loads[0] = (struct elf_segment){
		.offset = offset, .paddr = h->load_addr, .file_bytes = bytes, .mem_bytes = bytes
	};
	if (h->bss_end > h->load_addr + bytes) {
		ret->loads[0].mem_bytes = h->bss_end - h->load_addr;
	}
	return 0;
}

/* Modules follow the kernel, each on its own page. */
static int put_modules(struct load *l, struct mem *m, const struct load_params *p, gpa_t from,
		       struct load_error *e)
{
	gpa_t at = ALIGN_UP(MAX(from, MIB(1)), 4096), name = NAMES_AT;

	for (unsigned i = 0; i < l->initrd_count; i++) {
		const struct load_file *f = &l->initrds[i];
		size_t name_bytes = strlen(f->name) + 1;
		struct module mod = { .start = (uint32_t)at,
				      .end = (uint32_t)(at + f->size_bytes),
				      .name = (uint32_t)name };
		int r;

		if (f->size_bytes > UINT32_MAX || at + f->size_bytes > UINT32_MAX ||
		    !load_is_free(p, at, f->size_bytes)) {
			return load_fail_memory(l, p, from, e);
		}
		if (name_bytes > NAMES_END - name) {
			return load_fail(e, E2BIG,
					 "initrd %s: the modules' names are too long together",
					 f->name);
		}
		r = load_copy(f, 0, m, at, f->size_bytes, e);
		if (r < 0) {
			return r;
		}
		if (!load_put(m, LOW_MODS + i * sizeof(mod), &mod, sizeof(mod)) ||
		    !load_put(m, name, f->name, name_bytes)) {
			return load_fail_memory(l, p, from, e);
		}
		name += name_bytes;
		at = ALIGN_UP(at + f->size_bytes, 4096);
	}
	return 0;
}

static uint32_t put_map(struct mem *m, const struct load_params *p)
{
	struct map_entry map[LOAD_RANGES_MAX];
	uint32_t bytes = p->map_count * (uint32_t)sizeof(map[0]);

	for (unsigned i = 0; i < p->map_count; i++) {
		map[i] = (struct map_entry){ .size = sizeof(map[0]) - sizeof(map[0].size),
					     .base = p->map[i].base,
					     .len = p->map[i].len,
					     .type = p->map[i].type };
	}
	return load_put(m, LOW_MAP, map, bytes) ? bytes : 0;
}

/* RAM in one piece from `base` on, in KiB. */
static uint32_t ram_kib_from(const struct load_params *p, gpa_t base)
{
	for (unsigned i = 0; i < p->map_count; i++) {
		const struct load_range *r = &p->map[i];

		if (r->type == LOAD_RANGE_RAM && base >= r->base && base - r->base < r->len) {
			return (uint32_t)MIN((r->len - (base - r->base)) >> 10, UINT32_MAX);
		}
	}
	return 0;
}

static int put_info(struct load *l, struct mem *m, const struct load_params *p,
		    struct load_error *e)
{
	struct info info = {
		.flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MAP | INFO_LOADER,
		.mem_lower_kib = MIN(ram_kib_from(p, 0), 640),
		.mem_upper_kib = ram_kib_from(p, MIB(1)),
		.cmdline = LOW_CMDLINE,
		.module_count = l->initrd_count,
		.modules = LOW_MODS,
		.map_bytes = put_map(m, p),
		.map = LOW_MAP,
		.loader_name = LOADER_NAME_AT,
	};

	if (!info.map_bytes || !load_put(m, LOADER_NAME_AT, LOADER_NAME, sizeof(LOADER_NAME)) ||
	    !load_put(m, LOW_INFO, &info, sizeof(info))) {
		return load_fail(e, ENOMEM, "kernel %s: too little memory", l->kernel.name);
	}
	return 0;
}

/* The kernel's name in front of the command line. */
static int put_cmdline(struct load *l, struct mem *m, struct load_error *e)
{
	char *line;
	int len = asprintf(&line, "%s %s", l->kernel.name, l->cmdline);
	int r = 0;

	if (len < 0) {
		return load_fail(e, ENOMEM, "out of memory");
	}
	if (!load_put(m, LOW_CMDLINE, line, (size_t)len + 1)) {
		r = load_fail(e, ENOMEM, "kernel %s: too little memory", l->kernel.name);
	}
	free(line);
	return r;
}

static int place(struct load *l, const struct elf_image *img, struct mem *m,
		 const struct load_params *p, struct machine_start *ret, struct load_error *e)
{
	struct load_extent at;
	int r;

	if (img->entry > UINT32_MAX) {
		return load_fail(e, ENOEXEC, "kernel %s: its entry lies above 4 GiB",
				 l->kernel.name);
	}
	r = elf_place(l, img, m, p, &at, e);
	if (r == 0) {
		r = put_modules(l, m, p, at.end, e);
	}
	if (r == 0) {
		r = put_info(l, m, p, e);
	}
	if (r == 0) {
		r = load_start_common(l, m, ret, false, e);
	}
	if (r == 0) {
		r = put_cmdline(l, m, e);
	}
	if (r == 0) {
		ret->rip = img->entry;
		ret->rbx = LOW_INFO;
		ret->rax = BOOT_MAGIC;
	}
	return r;
}

int load_multiboot(struct load *l, struct mem *m, const struct load_params *p,
		   struct machine_start *ret, struct load_error *e)
{
	struct elf_image *img = calloc(1, sizeof(*img));
	struct header h;
	int r;

	if (!img) {
		return load_fail(e, ENOMEM, "kernel %s: out of memory", l->kernel.name);
	}
	r = read_header(&l->kernel, &h, e);
	if (r == 0) {
		r = h.flags & FLAG_ADDRESSES ? from_addresses(&l->kernel, &h, img, e)
					     : elf_parse(&l->kernel, img, e);
	}
	if (r == 0) {
		r = place(l, img, m, p, ret, e);
	}
	free(img);
	return r;
}
