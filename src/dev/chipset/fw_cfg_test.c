/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dev/chipset/fw_cfg.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/test.h"
#include "dev/testbus.h"

#define RAM_BYTES 0x10000
#define COMMAND   0x1000 /* where the tests put a DMA command */
#define TARGET    0x2000

struct fixture {
	struct testbus *b;
	struct dev *d;
};

static void setup(struct fixture *f)
{
	f->b = testbus_new(RAM_BYTES);
	if (fw_cfg_new(&f->b->env, &f->d) < 0) {
		abort();
	}
}

static void teardown(struct fixture *f)
{
	dev_free(f->d);
	testbus_free(f->b);
}

static void read_item(struct fixture *f, uint16_t key, void *buf, size_t len)
{
	uint8_t *to = buf;

	testbus_outw(f->b, 0x510, key);
	for (size_t i = 0; i < len; i++) {
		to[i] = testbus_inb(f->b, 0x511);
	}
}

static void test_signature(struct test *t)
{
	struct fixture f;
	char s[6] = "";
	uint32_t id;

	setup(&f);
	read_item(&f, 0, s, 5);
	CHECK_STR(t, s, "QEMU"); /* and zeros behind it */
	read_item(&f, 1, &id, sizeof(id));
	CHECK_EQ(t, id, 3);
	read_item(&f, 0x7777, s, 2);
	CHECK_EQ(t, s[0], 0);
	CHECK_EQ(t, testbus_inl(f.b, 0x514), 0x554d4551); /* "QEMU" */
	CHECK_EQ(t, testbus_inl(f.b, 0x518), 0x47464320);
	CHECK_EQ(t, testbus_inb(f.b, 0x515), 'E');
	teardown(&f);
}

static void test_items(struct test *t)
{
	struct fixture f;
	uint64_t v = 0;

	setup(&f);
	CHECK_EQ(t, fw_cfg_add_u16(f.d, FW_CFG_CPUS, 7), 0);
	CHECK_EQ(t, fw_cfg_add_u64(f.d, FW_CFG_RAM_BYTES, 1), 0);
	CHECK_EQ(t, fw_cfg_add_u64(f.d, FW_CFG_RAM_BYTES, 0x123456789ab), 0);
	read_item(&f, FW_CFG_CPUS, &v, 2);
	CHECK_EQ(t, v, 7);
	read_item(&f, FW_CFG_RAM_BYTES, &v, 8);
	CHECK_EQ(t, v, 0x123456789ab);
	/* Wrong sizes do nothing. */
	testbus_outb(f.b, 0x510, FW_CFG_CPUS);
	CHECK_EQ(t, testbus_inb(f.b, 0x511), 0);
	teardown(&f);
}

struct entry {
	uint32_t size;
	uint16_t select, reserved;
	char name[FW_CFG_FILE_NAME_SIZE];
} __attribute__((packed));

static void test_files(struct test *t)
{
	struct {
		uint32_t count;
		struct entry e[3];
	} __attribute__((packed)) dir;
	char name[FW_CFG_FILE_NAME_SIZE + 1];
	struct fixture f;
	char buf[8];
	int r = 0;

	setup(&f);
	CHECK_EQ(t, fw_cfg_add_file(f.d, "etc/zz", "zz", 2), 0);
	CHECK_EQ(t, fw_cfg_add_file(f.d, "etc/aa", "first", 5), 0);
	CHECK_EQ(t, fw_cfg_add_file(f.d, "etc/aa", "again!", 6), 0);
	read_item(&f, FW_CFG_FILE_DIR, &dir, sizeof(dir));
	CHECK_EQ(t, be32toh(dir.count), 2);
	CHECK_STR(t, dir.e[0].name, "etc/aa");
	CHECK_EQ(t, be32toh(dir.e[0].size), 6);
	CHECK_EQ(t, dir.e[2].size, 0);
	read_item(&f, be16toh(dir.e[0].select), buf, 6);
	CHECK(t, memcmp(buf, "again!", 6) == 0);
	memset(name, 'x', sizeof(name));
	name[FW_CFG_FILE_NAME_SIZE] = 0;
	CHECK_EQ(t, fw_cfg_add_file(f.d, name, "", 0), -ENAMETOOLONG);
	for (unsigned i = 0; i < FW_CFG_FILES_MAX && r == 0; i++) {
		snprintf(name, sizeof(name), "file%u", i);
		r = fw_cfg_add_file(f.d, name, "", 0);
	}
	CHECK_EQ(t, r, -ENOSPC);
	teardown(&f);
}

/* Put a command into RAM and start it; what `control` is then. */
static uint32_t dma(struct fixture *f, uint32_t control, uint32_t length, uint64_t address)
{
	uint32_t words[4] = { htobe32(control), htobe32(length), htobe32((uint32_t)(address >> 32)),
			      htobe32((uint32_t)address) };

	mem_write(f->b->env.mem, COMMAND, words, sizeof(words));
	testbus_outl(f->b, 0x514, 0);
	testbus_outl(f->b, 0x518, htobe32(COMMAND));
	mem_read(f->b->env.mem, COMMAND, words, 4);
	return be32toh(words[0]);
}

static void test_dma(struct test *t)
{
	static char big[10000];
	struct fixture f;
	char buf[8];

	setup(&f);
	memset(big, 'b', sizeof(big));
	CHECK_EQ(t, fw_cfg_add(f.d, FW_CFG_UUID, "0123456789", 10), 0);
	CHECK_EQ(t, fw_cfg_add(f.d, FW_CFG_KERNEL_DATA, big, sizeof(big)), 0);
	/* Select, skip 2, read 4; then over the end. */
	CHECK_EQ(t, dma(&f, FW_CFG_UUID << 16 | 8 | 4, 2, 0), 0);
	CHECK_EQ(t, dma(&f, 2, 4, TARGET), 0);
	mem_read(f.b->env.mem, TARGET, buf, 4);
	CHECK(t, memcmp(buf, "2345", 4) == 0);
	mem_write(f.b->env.mem, TARGET, "########", 8);
	CHECK_EQ(t, dma(&f, 2, 8, TARGET), 0);
	mem_read(f.b->env.mem, TARGET, buf, 8);
	CHECK(t, memcmp(buf, "6789\0\0\0\0", 8) == 0);
	/* More than one chunk. */
	CHECK_EQ(t, dma(&f, FW_CFG_KERNEL_DATA << 16 | 8 | 2, sizeof(big), TARGET), 0);
	mem_read(f.b->env.mem, TARGET + sizeof(big) - 1, buf, 2);
	CHECK_EQ(t, buf[0], 'b');
	/* Not RAM; writing; a command that is not in RAM. */
	CHECK_EQ(t, dma(&f, 8 | 2, 16, RAM_BYTES - 8), 1);
	CHECK_EQ(t, dma(&f, 8 | 2, 0xffffffff, TARGET), 1);
	CHECK_EQ(t, dma(&f, 8 | 2, 16, UINT64_MAX - 4), 1);
	CHECK_EQ(t, dma(&f, 8 | 16, 4, TARGET), 1);
	testbus_outl(f.b, 0x514, 0xffffffff);
	testbus_outl(f.b, 0x518, 0xffffffff);
	teardown(&f);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "signature", test_signature },
		{ "items", test_items },
		{ "files", test_files },
		{ "dma", test_dma },
		{ 0 },
	};

	return test_main(argc, argv, cases);
}
