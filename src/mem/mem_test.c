/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mem/mem.h"

#include <stdlib.h>

#include "base/test.h"

static void test_refuses_bad_places(struct test *t)
{
	struct mem *m;

	CHECK_EQ(t, mem_new(&m), 0);
	CHECK_EQ(t, mem_add(m, 0, MIB(1), 0, "low"), 0);
	CHECK_EQ(t, mem_add(m, MIB(1) - 4096, 8192, 0, "over"), -EEXIST);
	CHECK_EQ(t, mem_add(m, 0, 4096, 0, "over"), -EEXIST);
	CHECK_EQ(t, mem_add(m, MIB(2) + 1, 4096, 0, "odd"), -EINVAL);
	CHECK_EQ(t, mem_add(m, MIB(2), 4095, 0, "odd"), -EINVAL);
	CHECK_EQ(t, mem_add(m, MIB(2), 0, 0, "none"), -EINVAL);
	CHECK_EQ(t, mem_add(m, UINT64_MAX - 4095, 8192, 0, "wrap"), -EINVAL);
	CHECK_EQ(t, mem_region_count(m), 1);
	CHECK(t, mem_region_at(m, 1) == NULL);
	for (unsigned i = 1; i < 32; i++) {
		CHECK_EQ(t, mem_add(m, MIB(2 * i), 4096, 0, "many"), 0);
	}
	CHECK_EQ(t, mem_add(m, MIB(200), 4096, 0, "too many"), -ENOSPC);
	mem_free(m);
}

static void test_copies_cross_regions(struct test *t)
{
	uint8_t buf[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, back[8] = { 0 };
	struct mem *m;

	CHECK_EQ(t, mem_new(&m), 0);
	CHECK_EQ(t, mem_add(m, 0x1000, 0x1000, 0, "a"), 0);
	CHECK_EQ(t, mem_add(m, 0x2000, 0x1000, 0, "b"), 0);
	CHECK_EQ(t, mem_write(m, 0x1ffc, buf, 8), 0);
	CHECK_EQ(t, mem_read(m, 0x1ffc, back, 8), 0);
	CHECK(t, memcmp(buf, back, 8) == 0);
	CHECK_EQ(t, *(uint8_t *)mem_map(m, 0x2000, 1, false), 5);
	CHECK(t, mem_map(m, 0x1ffc, 8, false) == NULL);
	CHECK(t, mem_map(m, 0x1ffc, 4, true) != NULL);
	mem_free(m);
}

static void test_outside_ram_copies_nothing(struct test *t)
{
	uint8_t ones[8] = { 1, 1, 1, 1, 1, 1, 1, 1 }, zero[8] = { 0 }, back[8];
	struct mem *m;

	CHECK_EQ(t, mem_new(&m), 0);
	CHECK_EQ(t, mem_add(m, 0x1000, 0x1000, 0, "a"), 0);
	CHECK_EQ(t, mem_write(m, 0x1ffc, ones, 8), -EFAULT);
	CHECK_EQ(t, mem_read(m, 0x1ff8, back, 8), 0);
	CHECK(t, memcmp(back, zero, 8) == 0);
	CHECK_EQ(t, mem_read(m, 0xffc, back, 8), -EFAULT);
	CHECK_EQ(t, mem_read(m, UINT64_MAX - 3, back, 8), -EFAULT);
	CHECK_EQ(t, mem_write(m, 0x1000, ones, SIZE_MAX), -EFAULT);
	CHECK(t, mem_map(m, 0x1000, SIZE_MAX, false) == NULL);
	CHECK(t, mem_host(m, 0x1000, 0x1001) == NULL);
	mem_free(m);
}

static void test_rom_is_for_loaders(struct test *t)
{
	struct mem *m;
	char *p, c = 'x';

	CHECK_EQ(t, mem_new(&m), 0);
	CHECK_EQ(t, mem_add(m, 0xf0000, 0x10000, MEM_READONLY, "rom"), 0);
	CHECK_EQ(t, mem_write(m, 0xf0000, &c, 1), -EFAULT);
	CHECK(t, mem_map(m, 0xf0000, 1, true) == NULL);
	p = mem_host(m, 0xf0000, 1);
	CHECK(t, p != NULL);
	*p = 'r';
	CHECK_EQ(t, mem_read(m, 0xf0000, &c, 1), 0);
	CHECK_EQ(t, c, 'r');
	CHECK_EQ(t, mem_ram_bytes(m), 0);
	mem_free(m);
}

static void test_alias_is_the_same_file(struct test *t)
{
	const struct mem_region *low;
	struct mem *m;
	char c = 'h';

	CHECK_EQ(t, mem_new(&m), 0);
	CHECK_EQ(t, mem_add(m, 0, MIB(4), 0, "low"), 0);
	low = mem_region_at(m, 0);
	CHECK_EQ(t, mem_add_alias(m, GIB(4), MIB(2), 0, "high", low, MIB(4)), 0);
	CHECK_EQ(t, mem_add_alias(m, GIB(8), MIB(1), MEM_READONLY, "seen twice", low, MIB(1)), 0);
	CHECK_EQ(t, mem_add_alias(m, GIB(9), MIB(1), 0, "odd", low, 12), -EINVAL);
	CHECK_EQ(t, mem_add_alias(m, GIB(9), MIB(1), 0, "far", low, UINT64_MAX - 4095), -EINVAL);
	CHECK_EQ(t, mem_ram_bytes(m), MIB(6));
	CHECK_EQ(t, mem_region_at(m, 1)->fd, low->fd);
	CHECK_EQ(t, mem_region_at(m, 1)->fd_offset, MIB(4));
	CHECK_EQ(t, mem_region_at(m, 2)->slot, 2);
	CHECK_EQ(t, mem_write(m, MIB(1) + 5, &c, 1), 0);
	c = 0;
	CHECK_EQ(t, mem_read(m, GIB(8) + 5, &c, 1), 0);
	CHECK_EQ(t, c, 'h');
	CHECK_EQ(t, mem_write(m, GIB(4) + MIB(2) - 1, &c, 1), 0);
	CHECK_EQ(t, mem_write(m, GIB(4) + MIB(2), &c, 1), -EFAULT);
	mem_free(m);
}

static void test_dirty_bits(struct test *t)
{
	uint64_t bits[2] = { 0, 0 };
	char buf[4096] = { 0 };
	struct mem *m;

	CHECK_EQ(t, mem_new(&m), 0);
	CHECK_EQ(t, mem_add(m, 0x100000, 70 * 4096, 0, "ram"), 0);
	CHECK_EQ(t, mem_write(m, 0x100000, buf, 1), 0);
	mem_dirty_take(m, 0, bits);
	CHECK_EQ(t, bits[0] | bits[1], 0);
	CHECK_EQ(t, mem_dirty_track(m, true), 0);
	CHECK_EQ(t, mem_write(m, 0x100fff, buf, 2), 0);
	CHECK(t, mem_map(m, 0x100000 + 69 * 4096, 1, true) != NULL);
	CHECK(t, mem_map(m, 0x100000 + 68 * 4096, 1, false) != NULL);
	mem_mark_dirty(m, 0x100000 + 63 * 4096 + 100, 4096);
	mem_mark_dirty(m, 0x10, 4096);
	mem_dirty_take(m, 0, bits);
	CHECK_EQ(t, bits[0], 3 | BIT64(63));
	CHECK_EQ(t, bits[1], BIT64(0) | BIT64(5));
	bits[0] = bits[1] = 0;
	mem_dirty_take(m, 0, bits);
	CHECK_EQ(t, bits[0] | bits[1], 0);
	CHECK_EQ(t, mem_add(m, GIB(1), 4096, 0, "late"), 0);
	CHECK_EQ(t, mem_write(m, GIB(1), buf, 4096), 0);
	mem_dirty_take(m, 1, bits);
	CHECK_EQ(t, bits[0], 1);
	CHECK_EQ(t, mem_write(m, 0x100000, buf, 1), 0);
	CHECK_EQ(t, mem_dirty_track(m, false), 0);
	CHECK_EQ(t, mem_dirty_track(m, true), 0);
	bits[0] = 0;
	mem_dirty_take(m, 0, bits);
	CHECK_EQ(t, bits[0], 0);
	mem_free(m);
}

static const struct test_case cases[] = {
	{ "refuses bad places", test_refuses_bad_places },
	{ "copies cross regions", test_copies_cross_regions },
	{ "outside RAM copies nothing", test_outside_ram_copies_nothing },
	{ "ROM is for loaders", test_rom_is_for_loaders },
	{ "alias is the same file", test_alias_is_the_same_file },
	{ "dirty bits", test_dirty_bits },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
