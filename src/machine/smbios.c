/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SMBIOS 3.0: the structures that the specification requires (6.2), with what there
 * is to say about a virtual machine. Each is a formatted part, then its
 * strings, each with a NUL, then one more NUL.
 */
#include "machine/smbios.h"

#include <stdlib.h>

#include "base/assert.h"
#include "mem/mem.h"

#define TABLE_BYTES         (BOARD_BIOS_END - BOARD_SMBIOS_TABLE)
#define ENTRY_BYTES         24
#define VENDOR              "Lodge"
#define PRODUCT             "Lodge PC"
#define FORMATTED_MAX       0x60
#define NO_HANDLE           0xfffe
#define HANDLE_MEMORY_ARRAY 0x1000
#define HANDLE_CHASSIS      0x0300
#define HANDLE_MEMORY       0x1100
#define SIZE_EXTENDED       0x7fff
#define SIZE_EXTENDED_KIB   0x80000000u

/* One structure being built: bytes go into `f` by the offsets of the specification. */
struct structure {
	uint8_t f[FORMATTED_MAX];
	uint8_t len;
	const char *strings[4];
};

struct writer {
	uint8_t *at, *end;
};

static void put(struct writer *w, const void *bytes, size_t len)
{
	ASSERT(len <= (size_t)(w->end - w->at));
	memcpy(w->at, bytes, len);
	w->at += len;
}

static struct structure start(uint8_t type, uint8_t len, uint16_t handle)
{
	struct structure s = { .len = len };

	s.f[0] = type;
	s.f[1] = len;
	store_le16(s.f + 2, handle);
	return s;
}

static void finish(struct writer *w, const struct structure *s)
{
	bool any = false;

	put(w, s->f, s->len);
	for (unsigned i = 0; i < ARRAY_SIZE(s->strings) && s->strings[i]; i++) {
		put(w, s->strings[i], strlen(s->strings[i]) + 1);
		any = true;
	}
	put(w, "\0", any ? 1 : 2);
}

static void put_bios(struct writer *w)
{
	struct structure s = start(0, 0x18, 0x0000);

	s.f[4] = 1; /* vendor */
	s.f[5] = 2; /* version */
	store_le16(s.f + 6, 0xe000);
	s.f[8] = 3;                     /* release date */
	store_le64(s.f + 10, BIT64(3)); /* characteristics are not given */
	s.f[19] = 0x1c;                 /* a virtual machine; UEFI-less; targeted content */
	s.f[20] = s.f[21] = 0;
	s.f[22] = s.f[23] = 0xff; /* no embedded controller */
	s.strings[0] = VENDOR;
	s.strings[1] = "direct";
	s.strings[2] = "01/01/2024";
	finish(w, &s);
}

static void put_system(struct writer *w)
{
	struct structure s = start(1, 0x1b, 0x0100);

	s.f[4] = 1;
	s.f[5] = 2;
	s.f[0x18] = 6; /* wake-up: power switch */
	s.strings[0] = VENDOR;
	s.strings[1] = PRODUCT;
	finish(w, &s);
}

static void put_chassis(struct writer *w)
{
	struct structure s = start(3, 0x16, HANDLE_CHASSIS);

	s.f[4] = 1;
	s.f[5] = 1;                     /* type: other */
	s.f[9] = s.f[10] = s.f[11] = 3; /* states: safe */
	s.f[12] = 2;                    /* security: unknown */
	s.strings[0] = VENDOR;
	finish(w, &s);
}

static void put_processor(struct writer *w, unsigned cpus)
{
	struct structure s = start(4, 0x30, 0x0400);

	s.f[4] = 1;
	s.f[5] = 3; /* central processor */
	s.f[6] = 1; /* family: other */
	s.f[7] = 2;
	s.f[0x18] = 0x41; /* socket populated, enabled */
	s.f[0x19] = 1;    /* upgrade: other */
	store_le16(s.f + 0x1a, 0xffff);
	store_le16(s.f + 0x1c, 0xffff);
	store_le16(s.f + 0x1e, 0xffff); /* no cache structures */
	s.f[0x23] = s.f[0x24] = s.f[0x25] = (uint8_t)cpus;
	store_le16(s.f + 0x26, BIT(2)); /* 64-bit capable */
	store_le16(s.f + 0x28, 1);
	store_le16(s.f + 0x2a, (uint16_t)cpus);
	store_le16(s.f + 0x2c, (uint16_t)cpus);
	store_le16(s.f + 0x2e, (uint16_t)cpus);
	s.strings[0] = "CPU 0";
	s.strings[1] = VENDOR;
	finish(w, &s);
}

static void put_memory_array(struct writer *w, uint64_t ram_bytes)
{
	struct structure s = start(16, 0x17, HANDLE_MEMORY_ARRAY);

	s.f[4] = 1; /* location: other */
	s.f[5] = 3; /* system memory */
	s.f[6] = 6; /* multi-bit ECC */
	store_le32(s.f + 7, SIZE_EXTENDED_KIB);
	store_le16(s.f + 11, NO_HANDLE);
	store_le16(s.f + 13, 1);
	store_le64(s.f + 15, ram_bytes);
	finish(w, &s);
}

static void put_memory_device(struct writer *w, uint64_t ram_bytes)
{
	struct structure s = start(17, 0x28, HANDLE_MEMORY);
	uint64_t mib = ram_bytes / MIB(1);

	store_le16(s.f + 4, HANDLE_MEMORY_ARRAY);
	store_le16(s.f + 6, NO_HANDLE);
	store_le16(s.f + 8, 0xffff);
	store_le16(s.f + 10, 0xffff); /* widths unknown */
	store_le16(s.f + 12, (uint16_t)MIN(mib, (uint64_t)SIZE_EXTENDED));
	s.f[14] = 9; /* DIMM */
	s.f[16] = 1;
	s.f[18] = 7;                  /* RAM */
	store_le16(s.f + 19, BIT(1)); /* detail: other */
	s.f[23] = 2;
	store_le32(s.f + 28, mib >= SIZE_EXTENDED ? (uint32_t)mib : 0);
	s.strings[0] = "DIMM 0";
	s.strings[1] = VENDOR;
	finish(w, &s);
}

/* A range of addresses that the memory array answers; both ends inside. */
static void put_mapping(struct writer *w, uint16_t handle, uint64_t base, uint64_t len)
{
	struct structure s = start(19, 0x1f, handle);

	if (!len) {
		return;
	}
	store_le32(s.f + 4, 0xffffffff); /* see the extended addresses */
	store_le32(s.f + 8, 0xffffffff);
	store_le16(s.f + 12, HANDLE_MEMORY_ARRAY);
	s.f[14] = 1; /* partition width */
	store_le64(s.f + 15, base);
	store_le64(s.f + 23, base + len - 1);
	finish(w, &s);
}

static void put_boot(struct writer *w)
{
	struct structure s = start(32, 0x0b, 0x2000);

	finish(w, &s); /* status 0: no errors */
}

static void put_end(struct writer *w)
{
	struct structure s = start(127, 4, 0x7f00);

	finish(w, &s);
}

static void put_entry(uint8_t *t, uint32_t table_bytes)
{
	uint8_t sum = 0;

	memset(t, 0, ENTRY_BYTES);
	memcpy(t, "_SM3_", 5);
	t[6] = ENTRY_BYTES;
	t[7] = 3; /* version 3.0 */
	t[10] = 1;
	store_le32(t + 12, table_bytes);
	store_le64(t + 16, BOARD_SMBIOS_TABLE);
	for (unsigned i = 0; i < ENTRY_BYTES; i++) {
		sum = (uint8_t)(sum + t[i]);
	}
	t[5] = (uint8_t)-sum;
}

int smbios_place(struct mem *mem, const struct board_layout *l)
{
	uint8_t *entry = mem_map(mem, BOARD_SMBIOS, ENTRY_BYTES, true);
	uint8_t *table = mem_map(mem, BOARD_SMBIOS_TABLE, TABLE_BYTES, true);
	uint64_t ram = l->low_ram_bytes + l->high_ram_bytes;
	struct writer w = { table, table + TABLE_BYTES };

	if (!entry || !table) {
		return -EFAULT;
	}
	put_bios(&w);
	put_system(&w);
	put_chassis(&w);
	put_processor(&w, l->cpus);
	put_memory_array(&w, ram);
	put_memory_device(&w, ram);
	put_mapping(&w, 0x1300, 0, l->low_ram_bytes);
	put_mapping(&w, 0x1301, BOARD_HIGH_RAM, l->high_ram_bytes);
	put_boot(&w);
	put_end(&w);
	put_entry(entry, (uint32_t)(w.at - table));
	return 0;
}
