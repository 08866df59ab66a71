/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ELF kernels with a PVH note: entered in 32-bit protected mode with EBX
 * pointing to a start info (Xen's docs/misc/pvh.pandoc and
 * public/arch-x86/hvm/start_info.h, version 1).
 */
#include <assert.h>
#include <stdlib.h>

#include "machine/load_int.h"

#define START_MAGIC   0x336ec578u
#define START_VERSION 1

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, map;
	uint32_t map_count, reserved;
};
static_assert(sizeof(struct start_info) == 56, "start info as the ABI has it");

struct start_module {
	uint64_t paddr, size, cmdline, reserved;
};

struct start_range {
	uint64_t addr, size;
	uint32_t type, reserved;
};
static_assert(sizeof(struct start_range) == 24, "map entry as the ABI has it");

struct tables {
	struct start_range map[LOAD_RANGES_MAX];
	struct start_module initrd;
};
static_assert(sizeof(struct tables) <= LOW_MAP_BYTES, "the tables have room");

static bool put_info(struct load *l, struct mem *m, const struct load_params *p, gpa_t initrd,
		     uint64_t initrd_len)
{
	struct tables t = { .initrd = { .paddr = initrd, .size = initrd_len } };
	struct start_info info = {
		.magic = START_MAGIC,
		.version = START_VERSION,
		.module_count = l->initrd_count ? 1 : 0,
		.modules = l->initrd_count ? LOW_MAP + offsetof(struct tables, initrd) : 0,
		.cmdline = LOW_CMDLINE,
		.rsdp = p->rsdp,
		.map = LOW_MAP,
		.map_count = p->map_count,
	};

	for (unsigned i = 0; i < p->map_count; i++) {
		t.map[i] = (struct start_range){ .addr = p->map[i].base,
						 .size = p->map[i].len,
						 .type = p->map[i].type };
	}
	return load_put(m, LOW_INFO, &info, sizeof(info)) && load_put(m, LOW_MAP, &t, sizeof(t));
}

static int place(struct load *l, const struct elf_image *img, struct mem *m,
		 const struct load_params *p, struct machine_start *ret, struct load_error *e)
{
	struct load_extent at;
	uint64_t initrd_len;
	gpa_t initrd;
	int r;

	if (!img->has_pvh || img->pvh_entry > UINT32_MAX) {
		return load_fail(e, ENOEXEC, "kernel %s: has no PVH entry below 4 GiB",
				 l->kernel.name);
	}
	r = elf_place(l, img, m, p, &at, e);
	if (r == 0) {
		r = load_place_initrd(l, m, p, at, UINT32_MAX, &initrd, &initrd_len, e);
	}
	if (r == 0 && !put_info(l, m, p, initrd, initrd_len)) {
		r = load_fail(e, ENOMEM, "kernel %s: too little memory", l->kernel.name);
	}
	if (r == 0) {
		r = load_start_common(l, m, ret, false, e);
	}
	if (r == 0) {
		ret->rip = img->pvh_entry;
		ret->rbx = LOW_INFO;
	}
	return r;
}

int load_pvh(struct load *l, struct mem *m, const struct load_params *p, struct machine_start *ret,
	     struct load_error *e)
{
	struct elf_image *img = calloc(1, sizeof(*img));
	int r;

	if (!img) {
		return load_fail(e, ENOMEM, "kernel %s: out of memory", l->kernel.name);
	}
	r = elf_parse(&l->kernel, img, e);
	if (r == 0) {
		r = place(l, img, m, p, ret, e);
	}
	free(img);
	return r;
}
