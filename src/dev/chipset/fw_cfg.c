/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fw_cfg. Items are read byte by byte from the data port, or copied to guest
 * memory by DMA: the guest writes the address (big endian, as all here) of a
 * command { control, length, address }, which is done at once; then
 * `control` is 0, or has the error bit. Writing items is not offered.
 */
#include "dev/chipset/fw_cfg.h"

#include <endian.h>
#include <stdlib.h>

#include "dev/bus.h"
#include "mem/mem.h"

#define PORT_SELECTOR 0 /* offsets */
#define PORT_DATA     1
#define PORT_DMA_HIGH 4
#define PORT_DMA_LOW  8

#define ID_TRADITIONAL BIT(0)
#define ID_DMA         BIT(1)
#define DMA_SIGNATURE  0x51454d5520434647ull /* "QEMU CFG" */

#define DMA_ERROR  BIT(0)
#define DMA_READ   BIT(1)
#define DMA_SKIP   BIT(2)
#define DMA_SELECT BIT(3)
#define DMA_WRITE  BIT(4)
#define DMA_CHUNK  4096

#define ITEMS_MAX 128

struct item {
	uint16_t key;
	char name[FW_CFG_FILE_NAME_SIZE]; /* "": not a file */
	uint8_t *data;
	size_t len;
};

struct fw_cfg {
	struct dev dev;
	struct dev_window window;
	struct item items[ITEMS_MAX];
	unsigned item_count;
	const struct item *selected; /* NULL: none, reads give 0 */
	size_t offset;
	uint32_t dma_high;
};

struct dma_command {
	uint32_t control;
	uint32_t length;
	uint64_t address;
} __attribute__((packed));

struct dir_entry {
	uint32_t size;
	uint16_t select;
	uint16_t reserved;
	char name[FW_CFG_FILE_NAME_SIZE];
} __attribute__((packed));

static struct item *find(struct fw_cfg *f, uint16_t key)
{
	for (unsigned i = 0; i < f->item_count; i++) {
		if (f->items[i].key == key) {
			return &f->items[i];
		}
	}
	return NULL;
}

static void select_item(struct fw_cfg *f, uint16_t key)
{
	f->selected = find(f, key);
	f->offset = 0;
}

/* Copy what is left of the item, then zeros. `buf` NULL: skip. */
static void take(struct fw_cfg *f, uint8_t *buf, size_t len)
{
	size_t left = f->selected ? f->selected->len - f->offset : 0, n = MIN(len, left);

	if (buf) {
		if (n) {
			memcpy(buf, f->selected->data + f->offset, n);
		}
		memset(buf + n, 0, len - n);
	}
	f->offset += n;
}

/* ---- DMA ---- */

static int dma_read(struct fw_cfg *f, uint64_t address, uint32_t length)
{
	uint8_t chunk[DMA_CHUNK];

	while (length) {
		uint32_t n = MIN(length, (uint32_t)sizeof(chunk));

		take(f, chunk, n);
		if (mem_write(f->dev.env->mem, address, chunk, n) < 0) {
			return -EFAULT;
		}
		address += n;
		length -= n;
	}
	return 0;
}

static int dma_execute(struct fw_cfg *f, const struct dma_command *c)
{
	uint32_t control = be32toh(c->control);

	if (control & DMA_SELECT) {
		select_item(f, (uint16_t)(control >> 16));
	}
	if (control & DMA_READ) {
		return dma_read(f, be64toh(c->address), be32toh(c->length));
	}
	if (control & DMA_WRITE) {
		return -EPERM;
	}
	if (control & DMA_SKIP) {
		take(f, NULL, be32toh(c->length));
	}
	return 0;
}

static void dma_start(struct fw_cfg *f, uint64_t at)
{
	struct mem *mem = f->dev.env->mem;
	struct dma_command c;
	uint32_t result;

	if (mem_read(mem, at, &c, sizeof(c)) < 0) {
		return; /* nowhere to say so */
	}
	result = htobe32(dma_execute(f, &c) < 0 ? DMA_ERROR : 0);
	mem_write(mem, at, &result, sizeof(result));
}

/* ---- ports ---- */

static uint64_t fw_cfg_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	struct fw_cfg *f = container_of(d, struct fw_cfg, dev);
	uint8_t byte;

	if (offset >= PORT_DMA_HIGH) { /* the registers read as the signature */
		uint64_t bytes = htobe64(DMA_SIGNATURE) >> (8 * (offset - PORT_DMA_HIGH));

		return bytes & (size == 4 ? UINT32_MAX : (1u << (8 * size)) - 1);
	}
	if (offset != PORT_DATA || size != 1) {
		return 0;
	}
	take(f, &byte, 1);
	return byte;
}

static void fw_cfg_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
			 unsigned size)
{
	struct fw_cfg *f = container_of(d, struct fw_cfg, dev);

	if (offset == PORT_SELECTOR && size == 2) {
		select_item(f, (uint16_t)value);
	} else if (offset == PORT_DMA_HIGH && size == 4) {
		f->dma_high = be32toh((uint32_t)value);
	} else if (offset == PORT_DMA_LOW && size == 4) {
		uint64_t at = (uint64_t)f->dma_high << 32 | be32toh((uint32_t)value);

		f->dma_high = 0;
		dma_start(f, at);
	}
}

static void fw_cfg_reset(struct dev *d)
{
	struct fw_cfg *f = container_of(d, struct fw_cfg, dev);

	select_item(f, FW_CFG_SIGNATURE);
	f->dma_high = 0;
}

static void fw_cfg_done(struct dev *d)
{
	struct fw_cfg *f = container_of(d, struct fw_cfg, dev);

	for (unsigned i = 0; i < f->item_count; i++) {
		free(f->items[i].data);
	}
	free(f);
}

static const struct dev_class fw_cfg_class = {
	.name = "fw_cfg",
	.done = fw_cfg_done,
	.reset = fw_cfg_reset,
	.read = fw_cfg_read,
	.write = fw_cfg_write,
};

/* ---- items ---- */

static int item_set(struct fw_cfg *f, uint16_t key, const char *name, const void *data, size_t len)
{
	struct item *it = find(f, key);
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy || (!it && f->item_count == ITEMS_MAX)) {
		free(copy);
		return copy ? -ENOSPC : -ENOMEM;
	}
	if (len) {
		memcpy(copy, data, len);
	}
	if (!it) {
		it = &f->items[f->item_count++];
	}
	free(it->data);
	it->key = key;
	memcpy(it->name, name, strlen(name) + 1);
	it->data = copy;
	it->len = len;
	select_item(f, FW_CFG_SIGNATURE);
	return 0;
}

int fw_cfg_add(struct dev *d, enum fw_cfg_key key, const void *data, size_t len)
{
	return item_set(container_of(d, struct fw_cfg, dev), (uint16_t)key, "", data, len);
}

int fw_cfg_add_u16(struct dev *d, enum fw_cfg_key key, uint16_t value)
{
	return fw_cfg_add(d, key, &value, sizeof(value));
}

int fw_cfg_add_u32(struct dev *d, enum fw_cfg_key key, uint32_t value)
{
	return fw_cfg_add(d, key, &value, sizeof(value));
}

int fw_cfg_add_u64(struct dev *d, enum fw_cfg_key key, uint64_t value)
{
	return fw_cfg_add(d, key, &value, sizeof(value));
}

static int entry_compare(const void *a, const void *b)
{
	return strcmp(((const struct dir_entry *)a)->name, ((const struct dir_entry *)b)->name);
}

/* Write the directory anew: a count, then the files by name. */
static int directory_update(struct fw_cfg *f)
{
	struct {
		uint32_t count;
		struct dir_entry entries[FW_CFG_FILES_MAX];
	} __attribute__((packed)) dir = { 0 };
	uint32_t n = 0;

	for (unsigned i = 0; i < f->item_count; i++) {
		const struct item *it = &f->items[i];

		if (it->name[0]) {
			dir.entries[n].size = htobe32((uint32_t)it->len);
			dir.entries[n].select = htobe16(it->key);
			memcpy(dir.entries[n++].name, it->name, sizeof(it->name));
		}
	}
	qsort(dir.entries, n, sizeof(dir.entries[0]), entry_compare);
	dir.count = htobe32(n);
	return item_set(f, FW_CFG_FILE_DIR, "", &dir, 4 + n * sizeof(dir.entries[0]));
}

int fw_cfg_add_file(struct dev *d, const char *name, const void *data, size_t len)
{
	struct fw_cfg *f = container_of(d, struct fw_cfg, dev);
	uint16_t key = FW_CFG_FILE_FIRST;
	int r;

	if (strlen(name) >= FW_CFG_FILE_NAME_SIZE) {
		return -ENAMETOOLONG;
	}
	while (find(f, key) && strcmp(find(f, key)->name, name) != 0) {
		key++;
	}
	if (key >= FW_CFG_FILE_FIRST + FW_CFG_FILES_MAX) {
		return -ENOSPC;
	}
	r = item_set(f, key, name, data, len);
	return r < 0 ? r : directory_update(f);
}

int fw_cfg_new(struct dev_env *env, struct dev **ret)
{
	struct fw_cfg *f = calloc(1, sizeof(*f));
	int r;

	if (!f) {
		return -ENOMEM;
	}
	dev_init(&f->dev, &fw_cfg_class, env, NULL);
	dev_window_init(&f->window, &f->dev, 0, DEV_PIO, FW_CFG_PORTS, 1, 4);
	r = bus_map(env->bus, &f->window, FW_CFG_PORT);
	r = r < 0 ? r : fw_cfg_add(&f->dev, FW_CFG_SIGNATURE, "QEMU", 4);
	r = r < 0 ? r : fw_cfg_add_u32(&f->dev, FW_CFG_ID, ID_TRADITIONAL | ID_DMA);
	r = r < 0 ? r : directory_update(f);
	if (r < 0) {
		dev_free(&f->dev);
		return r;
	}
	dev_reset(&f->dev);
	*ret = &f->dev;
	return 0;
}
