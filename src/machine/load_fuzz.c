/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel images from the fuzzer, opened and placed twice (start and reset).
 * The first byte chooses the kind that the magic numbers are forced to, so
 * that the fuzzer need not find them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "machine/load.h"

#define RAM_BYTES MIB(32)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void force_magic(uint8_t *image, size_t size, uint8_t kind)
{
	if (kind == 1 && size >= 0x268) {
		store_le16(image + 0x1fe, 0xaa55);
		memcpy(image + 0x202, "HdrS", 4);
		image[0x207] = 2;
		image[0x206] |= 0x0c;
		image[0x236] |= 1;
	} else if (kind == 2 && size >= 52) {
		memcpy(image, "\177ELF\002\001", 6);
		store_le16(image + 18, 62);
	} else if (kind == 3 && size >= 32) {
		uint32_t flags = load_le32(image + 4) & 0x10007;

		store_le32(image, 0x1badb002);
		store_le32(image + 4, flags);
		store_le32(image + 8, -(0x1badb002 + flags));
	}
}

static void load_twice(const char *path, const struct load_range *map, unsigned count)
{
	struct load_params p = { map, count, 0xe0000 };
	struct machine_start start;
	struct load *l = NULL;
	struct mem *m;
	char error[256];

	if (mem_new(&m) < 0 || mem_add(m, 0, RAM_BYTES, 0, "ram") < 0) {
		abort();
	}
	if (load_open(path, path, "fuzz", error, sizeof(error), &l) == 0) {
		load_place(l, m, &p, &start, error, sizeof(error));
		load_place(l, m, &p, &start, error, sizeof(error));
	}
	load_close(l);
	mem_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct load_range map[] = {
		{ 0, 0xa0000, LOAD_RANGE_RAM },
		{ MIB(1), RAM_BYTES - MIB(1), LOAD_RANGE_RAM },
	};
	char path[32];
	uint8_t *image;
	int fd;

	if (size < 2) {
		return 0;
	}
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	image = malloc(size - 1);
	if (fd < 0 || !image) {
		abort();
	}
	memcpy(image, data + 1, size - 1);
	force_magic(image, size - 1, data[0] & 3);
	if (write(fd, image, size - 1) < 0) {
		abort();
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	load_twice(path, map, sizeof(map) / sizeof(map[0]));
	free(image);
	close(fd);
	return 0;
}
