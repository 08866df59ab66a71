/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linux' bzImage by its 64-bit entry (Documentation/arch/x86/boot.rst, boot
 * protocol 2.12 and later). The real-mode part is never run: only its header
 * is used, the rest is decompressed by the kernel itself.
 */
#include <assert.h>

#include "machine/load_int.h"

/* Offsets in the file, and in the zero page, of the setup header's fields. */
enum {
	HDR_SETUP_SECTS = 0x1f1,
	HDR_SYSSIZE = 0x1f4,
	HDR_VID_MODE = 0x1fa,
	HDR_BOOT_FLAG = 0x1fe,
	HDR_JUMP_OFFSET = 0x201,
	HDR_MAGIC = 0x202,
	HDR_VERSION = 0x206,
	HDR_TYPE_OF_LOADER = 0x210,
	HDR_LOADFLAGS = 0x211,
	HDR_CODE32_START = 0x214,
	HDR_RAMDISK_IMAGE = 0x218,
	HDR_RAMDISK_SIZE = 0x21c,
	HDR_CMD_LINE_PTR = 0x228,
	HDR_INITRD_ADDR_MAX = 0x22c,
	HDR_KERNEL_ALIGNMENT = 0x230,
	HDR_RELOCATABLE = 0x234,
	HDR_XLOADFLAGS = 0x236,
	HDR_CMDLINE_SIZE = 0x238,
	HDR_PREF_ADDRESS = 0x258,
	HDR_INIT_SIZE = 0x260,
	HDR_END = 0x268, /* of the fields that 2.12 has */
};

/* Offsets in the zero page alone. */
enum {
	ZERO_RSDP = 0x070,
	ZERO_E820_COUNT = 0x1e8,
	ZERO_HDR_LIMIT = 0x290, /* the header may not grow beyond */
	ZERO_E820 = 0x2d0,
	ZERO_BYTES = 4096,
};

#define E820_ENTRY_BYTES     20u
#define BOOT_FLAG            0xaa55
#define MAGIC_HDRS           0x53726448u /* "HdrS" */
#define VERSION_MIN          0x020c
#define XLF_KERNEL_64        BIT(0)
#define XLF_ABOVE_4G         BIT(1)
#define VID_MODE_NORMAL      0xffff
#define LOADER_UNDEFINED     0xff
#define ENTRY_64             0x200
#define SECTOR               512u
#define DEFAULT_INITRD_LIMIT 0x37ffffffu

static_assert(ZERO_E820 + LOAD_RANGES_MAX * E820_ENTRY_BYTES <= ZERO_BYTES,
	      "the map fits into the zero page");

struct header {
	uint8_t raw[ZERO_HDR_LIMIT]; /* the file's first bytes, zeros behind the header's end */
	uint64_t payload_offset, payload_bytes;
	uint64_t pref_address, init_bytes, alignment;
	bool relocatable, above_4g;
	uint32_t initrd_last, cmdline_max;
};

int load_bzimage_is(const uint8_t *head, size_t len)
{
	return len >= HDR_END && load_le16(head + HDR_BOOT_FLAG) == BOOT_FLAG &&
	       load_le32(head + HDR_MAGIC) == MAGIC_HDRS;
}

static int check_header(const struct load_file *f, const uint8_t *raw, struct load_error *e)
{
	unsigned version = load_le16(raw + HDR_VERSION);

	if (version < VERSION_MIN) {
		return load_fail(
			e, ENOEXEC,
			"kernel %s: its boot protocol %u.%02u is too old (2.12 is wanted); "
			"give a kernel of Linux 3.8 or later",
			f->name, version >> 8, version & 0xff);
	}
	if (!(load_le16(raw + HDR_XLOADFLAGS) & XLF_KERNEL_64)) {
		return load_fail(e, ENOEXEC,
				 "kernel %s: has no 64-bit entry; give a kernel for x86-64",
				 f->name);
	}
	return 0;
}

static int read_header(const struct load_file *f, struct header *h, struct load_error *e)
{
	size_t end, have = MIN(f->size_bytes, sizeof(h->raw));
	unsigned sects;
	int r;

	memset(h, 0, sizeof(*h));
	r = load_pread(f, 0, h->raw, have, e);
	if (r < 0) {
		return r;
	}
	/* The file may have changed since it was told apart. */
	if (!load_bzimage_is(h->raw, have)) {
		return load_fail(e, ENOEXEC, "kernel %s: has changed and is no kernel any more",
				 f->name);
	}
	r = check_header(f, h->raw, e);
	if (r < 0) {
		return r;
	}
	end = HDR_MAGIC + h->raw[HDR_JUMP_OFFSET];
	if (end < sizeof(h->raw)) {
		memset(h->raw + end, 0, sizeof(h->raw) - end);
	}
	sects = h->raw[HDR_SETUP_SECTS] ? h->raw[HDR_SETUP_SECTS] : 4;
	h->payload_offset = (sects + 1) * SECTOR;
	h->payload_bytes = load_le32(h->raw + HDR_SYSSIZE) * 16ull;
	if (!h->payload_bytes || h->payload_bytes <= ENTRY_64) {
		return load_fail(e, ENOEXEC, "kernel %s: is broken: its header names no code",
				 f->name);
	}
	if (!range_within(h->payload_offset, h->payload_bytes, ALIGN_UP(f->size_bytes, 16))) {
		return load_fail(e, ENOEXEC,
				 "kernel %s: is truncated: has %llu bytes of %llu; "
				 "is its download or build complete?",
				 f->name, (unsigned long long)f->size_bytes,
				 (unsigned long long)(h->payload_offset + h->payload_bytes));
	}
	h->payload_bytes = MIN(h->payload_bytes, f->size_bytes - h->payload_offset);
	h->pref_address = load_le64(h->raw + HDR_PREF_ADDRESS);
	h->init_bytes = MAX(load_le32(h->raw + HDR_INIT_SIZE), h->payload_bytes);
	h->alignment = load_le32(h->raw + HDR_KERNEL_ALIGNMENT);
	h->relocatable = h->raw[HDR_RELOCATABLE] != 0;
	h->above_4g = load_le16(h->raw + HDR_XLOADFLAGS) & XLF_ABOVE_4G;
	h->initrd_last = load_le32(h->raw + HDR_INITRD_ADDR_MAX);
	h->cmdline_max = load_le32(h->raw + HDR_CMDLINE_SIZE);
	return 0;
}

/* Where the kernel wants to be, or where it can be. */
static int choose_address(struct load *l, const struct header *h, const struct load_params *p,
			  struct load_extent *ret, struct load_error *e)
{
	gpa_t at = h->pref_address;

	if (h->alignment & (h->alignment - 1)) {
		return load_fail(e, ENOEXEC, "kernel %s: is broken: alignment 0x%llx",
				 l->kernel.name, (unsigned long long)h->alignment);
	}
	/* The page tables that it starts on map 4 GiB. */
	if (at > GIB(4) - h->init_bytes || !load_is_free(p, at, h->init_bytes)) {
		at = ALIGN_UP(MIB(1), MAX(h->alignment, 4096));
		if (!h->relocatable || at > GIB(4) - h->init_bytes ||
		    !load_is_free(p, at, h->init_bytes)) {
			uint64_t least = h->relocatable ? at : MIN(h->pref_address, GIB(4));

			return load_fail_memory(l, p, least + h->init_bytes, e);
		}
	}
	*ret = (struct load_extent){ at, at + h->init_bytes };
	return 0;
}

static void fill_e820(uint8_t *zero, const struct load_params *p)
{
	zero[ZERO_E820_COUNT] = (uint8_t)p->map_count;
	for (unsigned i = 0; i < p->map_count; i++) {
		uint8_t *entry = zero + ZERO_E820 + i * E820_ENTRY_BYTES;

		store_le64(entry, p->map[i].base);
		store_le64(entry + 8, p->map[i].len);
		store_le32(entry + 16, p->map[i].type);
	}
}

static int put_zero_page(struct load *l, struct mem *m, const struct load_params *p,
			 const struct header *h, gpa_t kernel, gpa_t initrd, uint64_t initrd_len,
			 struct load_error *e)
{
	uint8_t zero[ZERO_BYTES] = { 0 };

	memcpy(zero + HDR_SETUP_SECTS, h->raw + HDR_SETUP_SECTS, sizeof(h->raw) - HDR_SETUP_SECTS);
	store_le64(zero + ZERO_RSDP, p->rsdp);
	store_le16(zero + HDR_VID_MODE, VID_MODE_NORMAL);
	zero[HDR_TYPE_OF_LOADER] = LOADER_UNDEFINED;
	store_le32(zero + HDR_CODE32_START, (uint32_t)kernel);
	store_le32(zero + HDR_RAMDISK_IMAGE, (uint32_t)initrd);
	store_le32(zero + HDR_RAMDISK_SIZE, (uint32_t)initrd_len);
	store_le32(zero + HDR_CMD_LINE_PTR, LOW_CMDLINE);
	fill_e820(zero, p);
	if (!load_put(m, LOW_INFO, zero, sizeof(zero))) {
		return load_fail(e, ENOMEM, "kernel %s: too little memory", l->kernel.name);
	}
	return 0;
}

int load_bzimage(struct load *l, struct mem *m, const struct load_params *p,
		 struct machine_start *ret, struct load_error *e)
{
	struct load_extent at;
	uint64_t initrd_len;
	struct header h;
	gpa_t initrd, last;
	int r = read_header(&l->kernel, &h, e);

	if (r < 0) {
		return r;
	}
	if (strlen(l->cmdline) > h.cmdline_max) {
		return load_fail(
			e, E2BIG,
			"command line: has %zu bytes, kernel %s takes at most %u; shorten it",
			strlen(l->cmdline), l->kernel.name, h.cmdline_max);
	}
	r = choose_address(l, &h, p, &at, e);
	if (r < 0) {
		return r;
	}
	r = load_copy(&l->kernel, h.payload_offset, m, at.start, h.payload_bytes, e);
	if (r < 0) {
		return r;
	}
	last = h.above_4g ? UINT32_MAX : h.initrd_last ? h.initrd_last : DEFAULT_INITRD_LIMIT;
	r = load_place_initrd(l, m, p, at, last, &initrd, &initrd_len, e);
	if (r == 0) {
		r = put_zero_page(l, m, p, &h, at.start, initrd, initrd_len, e);
	}
	if (r == 0) {
		r = load_start_common(l, m, ret, true, e);
	}
	if (r == 0) {
		ret->rip = at.start + ENTRY_64;
		ret->rsi = LOW_INFO;
	}
	return r;
}
