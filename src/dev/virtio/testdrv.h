/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver's end of a virtio device, for tests on the test bus: finds the
 * capabilities, negotiates, and works rings of both kinds, by the rules, or
 * lets a test write into them what it likes.
 */
#pragma once

#include "dev/pci/pci.h"
#include "dev/testbus.h"
#include "dev/virtio/virtio_int.h"
#include "dev/virtio/virtqueue_layout_int.h"

#define TESTDRV_RAM_BYTES  MIB(16)
#define TESTDRV_QUEUES_MAX 40
#define TESTDRV_BAR        0xe0000000u /* BAR 4; MSI-X's BAR 1 lies below */
#define TESTDRV_MSIX_BAR   0xdff00000u
#define TESTDRV_MSI_DATA   0x4000 /* plus the vector */

struct testdrv_seg {
	gpa_t gpa;
	uint32_t len;
	bool write; /* the device may write there */
};

struct testdrv_queue {
	struct testdrv *d;
	unsigned index;
	uint16_t size;
	gpa_t desc_gpa, driver_gpa, device_gpa;
	uint8_t *desc, *driver, *device; /* host addresses */

	uint16_t free_head, free_count; /* split: chained by `next` */
	uint16_t next_avail, next_used; /* packed: positions; split: indices */
	uint16_t kicked; /* next_avail at the last kick (split), slots since (packed) */
	bool avail_wrap, used_wrap;
	uint16_t chain_slots[VQ_SIZE_MAX]; /* by id */
	uint16_t next_id;                  /* packed */
	bool id_busy[VQ_SIZE_MAX];
	gpa_t table_gpa; /* room for indirect tables, one an id */
};

struct testdrv {
	struct testbus *t;
	struct pci_host *host;
	struct pci_dev *pci;
	unsigned devfn;
	gpa_t alloc_at;
	uint32_t common, isr, device, notify, notify_mult; /* guest addresses */
	unsigned pci_cfg_cap;
	uint64_t features;
	bool packed, event_idx, indirect;
	struct testdrv_queue q[TESTDRV_QUEUES_MAX];
};

/* A test bus with RAM and a PCI host; then put a device on it and attach. */
struct testdrv *testdrv_new(void);
void testdrv_free(struct testdrv *d); /* frees the device too */
/* Find the capabilities of `p`, place its BARs, switch it and MSI-X on. False: something is
 * missing. */
bool testdrv_attach(struct testdrv *d, struct pci_dev *p);

gpa_t testdrv_alloc(struct testdrv *d, size_t len, size_t align);
void *testdrv_host(struct testdrv *d, gpa_t gpa);

uint32_t testdrv_common_read(struct testdrv *d, unsigned offset, unsigned size);
void testdrv_common_write(struct testdrv *d, unsigned offset, uint64_t value, unsigned size);
uint64_t testdrv_config(struct testdrv *d, unsigned offset, unsigned size);
uint8_t testdrv_status(struct testdrv *d);
uint64_t testdrv_offered(struct testdrv *d);

/* Reset, then negotiate exactly `features`. The status after it. */
uint8_t testdrv_negotiate(struct testdrv *d, uint64_t features);
/* Queue `index` with `size` entries (0: all), enabled. */
struct testdrv_queue *testdrv_queue(struct testdrv *d, unsigned index, uint16_t size);
void testdrv_ok(struct testdrv *d); /* DRIVER_OK */
/* negotiate + `count` queues + DRIVER_OK. */
bool testdrv_start(struct testdrv *d, uint64_t features, unsigned count, uint16_t size);

/* Offer a chain; its id, or -1 if the ring is full. Not seen by a kick yet. */
int testdrv_add(struct testdrv_queue *q, const struct testdrv_seg *segs, unsigned count);
/* Kick if the device wants it; whether it did. */
bool testdrv_kick(struct testdrv_queue *q);
void testdrv_force_kick(struct testdrv_queue *q);
/* The next used chain: its id (and length), or -1. */
int testdrv_used(struct testdrv_queue *q, uint32_t *ret_len);
/* Ask for (or no) interrupts. */
void testdrv_interrupts(struct testdrv_queue *q, bool on);
/* Serve the loop until a used chain is there, or 10 s; as testdrv_used(). */
int testdrv_wait_used(struct testdrv_queue *q, uint32_t *ret_len);
