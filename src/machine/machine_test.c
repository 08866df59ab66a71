/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The whole board on a test bus. */
#include "machine/machine.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/test.h"
#include "dev/char/chardev.h"
#include "dev/chipset/fw_cfg.h"
#include "dev/pci/pci_regs.h"
#include "machine/board.h"
#include "machine/testboard.h"

/* Expect machine_new() to refuse `c` with this errno and a message that has `word`. */
static bool refused(struct testboard *b, const struct machine_config *c, int r, const char *word)
{
	struct machine *m = NULL;
	char error[256] = "";
	bool ok = machine_new(&b->bus->env, c, error, sizeof(error), &m) == r && !m &&
		  strstr(error, word) && !strchr(error, '\n');

	if (!ok) {
		printf("# error: %s\n", error);
	}
	return ok;
}

static void test_bad_configs(struct test *t)
{
	struct testboard *b = testboard_prepare();
	struct machine_config c = b->config;

	c.kernel = NULL;
	CHECK(t, refused(b, &c, -ENOTSUP, "kernel"));
	c.kernel = "/nonexistent";
	CHECK(t, refused(b, &c, -ENOENT, "/nonexistent"));
	c = b->config;
	c.cpus = 0;
	CHECK(t, refused(b, &c, -EINVAL, "0 processors"));
	c.cpus = 256;
	CHECK(t, refused(b, &c, -EINVAL, "256 processors"));
	c = b->config;
	c.memory_bytes = MIB(3);
	CHECK(t, refused(b, &c, -EINVAL, "memory"));
	c.memory_bytes = MIB(64) + 1;
	CHECK(t, refused(b, &c, -EINVAL, "memory"));
	c.memory_bytes = GIB(2048);
	CHECK(t, refused(b, &c, -EINVAL, "memory"));
	c = b->config;
	c.vsock.cid = 2;
	CHECK(t, refused(b, &c, -EINVAL, "vsock"));
	c.vsock.cid = 3;
	c.vsock.connect = NULL;
	CHECK(t, refused(b, &c, -EINVAL, "vsock"));
	CHECK_EQ(t, mem_region_count(b->bus->env.mem), 0); /* not even RAM was added */
	testboard_free(b);
}

static uint32_t ecam(struct testboard *b, unsigned devfn, unsigned reg, unsigned size)
{
	return (uint32_t)testbus_read(b->bus, DEV_MMIO, BOARD_ECAM + (devfn << 12) + reg, size);
}

static void test_devices(struct test *t)
{
	/* In their order on the bus: disk, network, console, rng, balloon, vsock. */
	static const uint16_t ids[] = { 0x1042, 0x1041, 0x1043, 0x1044, 0x1045, 0x1053 };
	struct testboard *b = testboard_new();
	char tail[16] = "";

	CHECK_EQ(t, ecam(b, 0, 0, 4), 0x29c08086);
	CHECK_EQ(t, ecam(b, 0x1f << 3, 0, 4), 0x29188086);
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
		CHECK_EQ(t, ecam(b, (i + 1) << 3, 0, 4), (uint32_t)ids[i] << 16 | 0x1af4);
	}
	CHECK_EQ(t, ecam(b, (ARRAY_SIZE(ids) + 1) << 3, 0, 2), 0xffff);
	testbus_outb(b->bus, 0x3f8, '!');
	CHECK_EQ(t, chardev_tail(b->console, tail, sizeof(tail)), 1);
	CHECK_EQ(t, testbus_inl(b->bus, 0x600), 0x00000000);
	testbus_outw(b->bus, 0x510, FW_CFG_CPUS);
	CHECK_EQ(t, testbus_inb(b->bus, 0x511), 3);
	testbus_outw(b->bus, 0x510, FW_CFG_CMDLINE_DATA);
	CHECK_EQ(t, testbus_inb(b->bus, 0x511), 'h');
	testbus_outl(b->bus, 0xf4, 5);
	CHECK_EQ(t, b->bus->requests[DEV_REQUEST_DEBUG_EXIT], 1);
	testboard_free(b);
}

struct range {
	uint64_t base, end;
};

static int range_compare(const void *a, const void *b)
{
	uint64_t x = ((const struct range *)a)->base, y = ((const struct range *)b)->base;

	return (x > y) - (x < y);
}

/* All memory BARs that a device has, sized as an OS does it; they are put back. */
static unsigned size_bars(struct testboard *b, unsigned devfn, struct range *ranges)
{
	unsigned count = 0, reg = PCI_REG_BAR0;

	while (reg < PCI_REG_BAR0 + 24) {
		uint32_t low = testbus_config_read(b->bus, devfn, reg, 4), size;
		bool wide = (low & 7) == 4;
		uint64_t base = low & ~0xfu;

		testbus_config_write(b->bus, devfn, reg, ~0u, 4);
		size = -(testbus_config_read(b->bus, devfn, reg, 4) & ~0xfu);
		testbus_config_write(b->bus, devfn, reg, low, 4);
		if (wide) {
			base |= (uint64_t)testbus_config_read(b->bus, devfn, reg + 4, 4) << 32;
		}
		if (size) {
			ranges[count++] = (struct range){ base, base + size };
		}
		reg += wide ? 8 : 4;
	}
	return count;
}

static void test_bars(struct test *t)
{
	struct testboard *b = testboard_new();
	struct range ranges[64];
	unsigned count = 0;

	for (unsigned slot = 1; slot <= 6; slot++) {
		unsigned found = size_bars(b, slot << 3, ranges + count);

		CHECK(t, found >= 1);
		count += found;
		/* Decoding on; bus mastering is the driver's to switch on. */
		CHECK_EQ(t, ecam(b, slot << 3, PCI_REG_COMMAND, 2), PCI_COMMAND_MEMORY);
		CHECK(t, ecam(b, slot << 3, PCI_REG_INT_LINE, 1) >= 10);
	}
	qsort(ranges, count, sizeof(ranges[0]), range_compare);
	for (unsigned i = 0; i < count; i++) {
		CHECK(t, ranges[i].base % (ranges[i].end - ranges[i].base) == 0);
		CHECK(t, ranges[i].base >= BOARD_PCI32 && ranges[i].end <= BOARD_PCI32_END);
		CHECK(t, i == 0 || ranges[i - 1].end <= ranges[i].base);
	}
	testboard_free(b);
}

static void test_e820(struct test *t)
{
	struct testboard *b = testboard_new();
	struct {
		uint64_t base, len;
		uint32_t type;
	} __attribute__((packed)) e;
	uint64_t end = 0, ram = 0;
	uint16_t key = FW_CFG_FILE_FIRST; /* the only file */

	testbus_outw(b->bus, 0x510, key);
	for (;;) {
		for (unsigned i = 0; i < sizeof(e); i++) {
			((uint8_t *)&e)[i] = testbus_inb(b->bus, 0x511);
		}
		if (!e.len) {
			break;
		}
		CHECK(t, e.base >= end);
		end = e.base + e.len;
		ram += e.type == 1 ? e.len : 0;
	}
	CHECK_EQ(t, ram, BOARD_EBDA + TESTBOARD_RAM_BYTES - MIB(1));
	testboard_free(b);
}

static void test_start(struct test *t)
{
	struct testboard *b = testboard_new();
	const struct machine_start *s = machine_start(b->machine);
	char signature[8], byte;

	CHECK_EQ(t, s->kind, MACHINE_KERNEL_MULTIBOOT);
	CHECK_EQ(t, s->rip, 0x100020);
	CHECK(t, !s->long_mode);
	mem_read(b->bus->env.mem, s->rip, &byte, 1);
	CHECK_EQ(t, (uint8_t)byte, 0xf4);
	mem_read(b->bus->env.mem, BOARD_RSDP, signature, 8);
	CHECK(t, memcmp(signature, "RSD PTR ", 8) == 0);
	mem_read(b->bus->env.mem, BOARD_SMBIOS, signature, 5);
	CHECK(t, memcmp(signature, "_SM3_", 5) == 0);
	testboard_free(b);
}

static void test_reset(struct test *t)
{
	static const char junk[64] = "overwritten by the guest";
	struct testboard *b = testboard_new();
	struct mem *mem = b->bus->env.mem;
	uint32_t bar = testbus_config_read(b->bus, 1 << 3, 0x20, 4);
	char error[256], signature[8];

	/* Leave nothing as it was. */
	testbus_config_write(b->bus, 1 << 3, 0x20, 0xd0000000, 4);
	testbus_config_write(b->bus, 0, 0x60, 0, 4);
	testbus_config_write(b->bus, 0x1f << 3, 0x44, 0, 1);
	testbus_outb(b->bus, 0x3f9, 2);
	CHECK(t, b->bus->irq_level[4]);
	mem_write(mem, BOARD_RSDP, junk, sizeof(junk));
	mem_write(mem, 0x100000, junk, sizeof(junk));
	CHECK_EQ(t, machine_reset(b->machine, error, sizeof(error)), 0);
	CHECK(t, !b->bus->irq_level[4]);
	CHECK_EQ(t, ecam(b, 1 << 3, 0x20, 4), bar);
	CHECK_EQ(t, testbus_inl(b->bus, 0x600), 0);
	mem_read(mem, BOARD_RSDP, signature, 8);
	CHECK(t, memcmp(signature, "RSD PTR ", 8) == 0);
	mem_read(mem, 0x100020, signature, 1);
	CHECK_EQ(t, (uint8_t)signature[0], 0xf4);
	testboard_free(b);
}

static void test_power_button(struct test *t)
{
	struct testboard *b = testboard_new();

	testbus_outb(b->bus, 0xb2, 2);
	testbus_outw(b->bus, 0x602, 0x100);
	machine_power_button(b->machine);
	CHECK(t, b->bus->irq_level[9]);
	testbus_outw(b->bus, 0x604, 7 << 10 | 1 << 13);
	CHECK_EQ(t, b->bus->requests[DEV_REQUEST_POWEROFF], 1);
	testboard_free(b);
}

/* Also a board with nothing optional, and RAM above 4 GiB. */
static void test_bare_board(struct test *t)
{
	struct testboard *b = testboard_prepare();
	struct machine_config c = { .cpus = 1, .memory_bytes = GIB(3), .kernel = b->kernel };
	struct board_layout l;
	char error[256] = "";

	CHECK_EQ(t, machine_new(&b->bus->env, &c, error, sizeof(error), &b->machine), 0);
	CHECK_EQ(t, ecam(b, 1 << 3, 0, 2), 0xffff);
	CHECK_EQ(t, testbus_inb(b->bus, 0x3fd), 0xff);
	testbus_outl(b->bus, 0xf4, 5);
	CHECK_EQ(t, b->bus->requests[DEV_REQUEST_DEBUG_EXIT], 0);
	CHECK(t, mem_map(b->bus->env.mem, GIB(2) - 4096, 4096, true));
	CHECK(t, !mem_map(b->bus->env.mem, GIB(2), 4096, true));
	CHECK(t, mem_map(b->bus->env.mem, GIB(5) - 4096, 4096, true));
	board_layout_init(&l, 1, c.memory_bytes, false);
	CHECK_EQ(t, l.pci64, GIB(5));
	testboard_free(b);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "bad configurations", test_bad_configs },
		{ "devices", test_devices },
		{ "bars", test_bars },
		{ "e820", test_e820 },
		{ "start", test_start },
		{ "reset", test_reset },
		{ "power button", test_power_button },
		{ "bare board", test_bare_board },
		{ 0 },
	};

	return test_main(argc, argv, cases);
}
