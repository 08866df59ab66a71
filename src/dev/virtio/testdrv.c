/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dev/virtio/testdrv.h"

#include <stdlib.h>

#include "base/assert.h"

#define REG_STATUS    0x14
#define REG_QUEUE_SEL 0x16
#define CAP_LIST      0x34
#define CAP_ID_MSIX   0x11
#define CAP_ID_VENDOR 0x09
#define INDIRECT_MAX  64

struct testdrv *testdrv_new(void)
{
	struct testdrv *d = calloc(1, sizeof(*d));

	ASSERT(d);
	d->t = testbus_new(TESTDRV_RAM_BYTES);
	ASSERT(pci_host_new(&d->t->env, 0xb0000000, 256, &d->host) == 0);
	d->alloc_at = 0x10000;
	return d;
}

void testdrv_free(struct testdrv *d)
{
	pci_host_free(d->host);
	testbus_free(d->t);
	free(d);
}

gpa_t testdrv_alloc(struct testdrv *d, size_t len, size_t align)
{
	gpa_t at = ALIGN_UP(d->alloc_at, (gpa_t)align);

	ASSERT(at + len <= TESTDRV_RAM_BYTES);
	d->alloc_at = at + len;
	return at;
}

void *testdrv_host(struct testdrv *d, gpa_t gpa)
{
	return mem_map(d->t->env.mem, gpa, 1, true);
}

static void note_cap(struct testdrv *d, unsigned cap)
{
	uint32_t type = testbus_config_read(d->t, d->devfn, cap + 3, 1);
	uint32_t offset = TESTDRV_BAR + testbus_config_read(d->t, d->devfn, cap + 8, 4);

	switch (type) {
	case 1:
		d->common = offset;
		break;
	case 2:
		d->notify = offset;
		d->notify_mult = testbus_config_read(d->t, d->devfn, cap + 16, 4);
		break;
	case 3:
		d->isr = offset;
		break;
	case 4:
		d->device = offset;
		break;
	case 5:
		d->pci_cfg_cap = cap;
		break;
	}
}

static void msix_on(struct testdrv *d, unsigned cap)
{
	uint32_t control = testbus_config_read(d->t, d->devfn, cap + 2, 2);

	for (unsigned i = 0; i <= (control & 0x7ff); i++) {
		uint64_t e = TESTDRV_MSIX_BAR + 16 * i;

		testbus_write(d->t, DEV_MMIO, e, 0xfee00000, 4);
		testbus_write(d->t, DEV_MMIO, e + 4, 0, 4);
		testbus_write(d->t, DEV_MMIO, e + 8, TESTDRV_MSI_DATA + i, 4);
		testbus_write(d->t, DEV_MMIO, e + 12, 0, 4);
	}
	testbus_config_write(d->t, d->devfn, cap + 2, control | 0x8000, 2);
}

bool testdrv_attach(struct testdrv *d, struct pci_dev *p)
{
	unsigned cap, msix = 0;

	d->pci = p;
	d->devfn = p->devfn;
	testbus_config_write(d->t, d->devfn, 0x14, TESTDRV_MSIX_BAR, 4);
	testbus_config_write(d->t, d->devfn, 0x20, TESTDRV_BAR, 4);
	testbus_config_write(d->t, d->devfn, 0x24, 0, 4);
	testbus_config_write(d->t, d->devfn, 0x04, 0x6, 2);
	cap = testbus_config_read(d->t, d->devfn, CAP_LIST, 1);
	for (unsigned i = 0; cap && i < 16; i++) {
		uint32_t id = testbus_config_read(d->t, d->devfn, cap, 1);

		if (id == CAP_ID_VENDOR) {
			note_cap(d, cap);
		} else if (id == CAP_ID_MSIX) {
			msix = cap;
		}
		cap = testbus_config_read(d->t, d->devfn, cap + 1, 1);
	}
	if (msix) {
		msix_on(d, msix);
	}
	return d->common && d->isr && d->device && d->notify && d->pci_cfg_cap && msix;
}

uint32_t testdrv_common_read(struct testdrv *d, unsigned offset, unsigned size)
{
	return (uint32_t)testbus_read(d->t, DEV_MMIO, d->common + offset, size);
}

void testdrv_common_write(struct testdrv *d, unsigned offset, uint64_t value, unsigned size)
{
	testbus_write(d->t, DEV_MMIO, d->common + offset, value, size);
}

uint64_t testdrv_config(struct testdrv *d, unsigned offset, unsigned size)
{
	return testbus_read(d->t, DEV_MMIO, d->device + offset, size);
}

uint8_t testdrv_status(struct testdrv *d)
{
	return (uint8_t)testdrv_common_read(d, REG_STATUS, 1);
}

uint64_t testdrv_offered(struct testdrv *d)
{
	uint64_t f;

	testdrv_common_write(d, 0, 0, 4);
	f = testdrv_common_read(d, 4, 4);
	testdrv_common_write(d, 0, 1, 4);
	return f | (uint64_t)testdrv_common_read(d, 4, 4) << 32;
}

static bool is_reset(void *opaque)
{
	return testdrv_status(opaque) == 0;
}

uint8_t testdrv_negotiate(struct testdrv *d, uint64_t features)
{
	testdrv_common_write(d, REG_STATUS, 0, 1);
	ASSERT(testbus_wait(d->t, is_reset, d));
	testdrv_common_write(d, REG_STATUS, VIRTIO_ACKNOWLEDGE, 1);
	testdrv_common_write(d, REG_STATUS, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER, 1);
	testdrv_common_write(d, 8, 0, 4);
	testdrv_common_write(d, 0xc, (uint32_t)features, 4);
	testdrv_common_write(d, 8, 1, 4);
	testdrv_common_write(d, 0xc, features >> 32, 4);
	testdrv_common_write(d, REG_STATUS, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK,
			     1);
	d->features = features;
	d->packed = features & VIRTIO_F_PACKED;
	d->event_idx = features & VIRTIO_F_EVENT_IDX;
	d->indirect = features & VIRTIO_F_INDIRECT;
	testdrv_common_write(d, 0x10, 0, 2); /* configuration changes: vector 0 */
	return testdrv_status(d);
}

static void queue_init(struct testdrv_queue *q)
{
	size_t n = q->size;
	struct testdrv *d = q->d;

	q->desc_gpa = testdrv_alloc(d, n * VQ_DESC_BYTES, 16);
	q->driver_gpa = testdrv_alloc(d, VQ_AVAIL_BYTES(n), 4);
	q->device_gpa = testdrv_alloc(d, VQ_USED_BYTES(n), 4);
	q->desc = testdrv_host(d, q->desc_gpa);
	q->driver = testdrv_host(d, q->driver_gpa);
	q->device = testdrv_host(d, q->device_gpa);
	memset(q->desc, 0, n * VQ_DESC_BYTES);
	memset(q->driver, 0, VQ_AVAIL_BYTES(n));
	memset(q->device, 0, VQ_USED_BYTES(n));
	q->avail_wrap = q->used_wrap = true;
	q->free_count = q->size;
	for (uint16_t i = 0; i < q->size && !d->packed; i++) {
		store_le16(q->desc + i * VQ_DESC_BYTES + VQ_DESC_SPLIT_NEXT, (uint16_t)(i + 1));
	}
	if (d->indirect) {
		q->table_gpa = testdrv_alloc(d, n * INDIRECT_MAX * VQ_DESC_BYTES, 16);
	}
}

struct testdrv_queue *testdrv_queue(struct testdrv *d, unsigned index, uint16_t size)
{
	struct testdrv_queue *q = &d->q[index];

	memset(q, 0, sizeof(*q));
	q->d = d;
	q->index = index;
	testdrv_common_write(d, REG_QUEUE_SEL, index, 2);
	if (size) {
		testdrv_common_write(d, 0x18, size, 2);
	}
	q->size = (uint16_t)testdrv_common_read(d, 0x18, 2);
	if (!q->size) {
		return NULL;
	}
	queue_init(q);
	testdrv_common_write(d, 0x1a, index + 1, 2);
	testdrv_common_write(d, 0x20, q->desc_gpa, 4);
	testdrv_common_write(d, 0x24, q->desc_gpa >> 32, 4);
	testdrv_common_write(d, 0x28, q->driver_gpa, 4);
	testdrv_common_write(d, 0x30, q->device_gpa, 4);
	testdrv_common_write(d, 0x1c, 1, 2);
	return q;
}

void testdrv_ok(struct testdrv *d)
{
	testdrv_common_write(
		d, REG_STATUS,
		VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK, 1);
}

bool testdrv_start(struct testdrv *d, uint64_t features, unsigned count, uint16_t size)
{
	if (!(testdrv_negotiate(d, features) & VIRTIO_FEATURES_OK)) {
		return false;
	}
	for (unsigned i = 0; i < count; i++) {
		if (!testdrv_queue(d, i, size)) {
			return false;
		}
	}
	testdrv_ok(d);
	return testdrv_status(d) ==
	       (VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
}

/* --- rings ------------------------------------------------------------------------------ */

static void fill_desc(uint8_t *at, gpa_t gpa, uint32_t len, uint16_t a, uint16_t b)
{
	store_le64(at + VQ_DESC_ADDR, gpa);
	store_le32(at + VQ_DESC_LEN, len);
	store_le16(at + 12, a);
	vq_store_release16(at + 14, b);
}

static uint16_t seg_flags(const struct testdrv_seg *s, bool more)
{
	return (uint16_t)((s->write ? VQ_DESC_WRITE : 0) | (more ? VQ_DESC_NEXT : 0));
}

/* Write an indirect table for chain `id`; its place. */
static gpa_t fill_table(struct testdrv_queue *q, unsigned id, const struct testdrv_seg *segs,
			unsigned count)
{
	gpa_t gpa = q->table_gpa + (gpa_t)id * INDIRECT_MAX * VQ_DESC_BYTES;
	uint8_t *table = testdrv_host(q->d, gpa);

	ASSERT(count <= INDIRECT_MAX);
	for (unsigned i = 0; i < count; i++) {
		uint16_t flags = seg_flags(&segs[i], i + 1 < count && !q->d->packed);

		if (q->d->packed) {
			fill_desc(table + i * VQ_DESC_BYTES, segs[i].gpa, segs[i].len, 0, flags);
		} else {
			fill_desc(table + i * VQ_DESC_BYTES, segs[i].gpa, segs[i].len, flags,
				  (uint16_t)(i + 1));
		}
	}
	return gpa;
}

static void offer_split(struct testdrv_queue *q, uint16_t head)
{
	store_le16(q->driver + VQ_AVAIL_ENTRY(q->next_avail % q->size), head);
	vq_store_release16(q->driver + VQ_RING_IDX, ++q->next_avail);
}

static int add_split(struct testdrv_queue *q, const struct testdrv_seg *segs, unsigned count)
{
	bool indirect = q->d->indirect && count > 1;
	unsigned slots = indirect ? 1 : count;
	uint16_t head = q->free_head, i = head;

	if (q->free_count < slots) {
		return -1;
	}
	for (unsigned k = 0; k < slots; k++) {
		uint8_t *at = q->desc + (size_t)i * VQ_DESC_BYTES;
		uint16_t next = load_le16(at + VQ_DESC_SPLIT_NEXT);

		if (indirect) {
			fill_desc(at, fill_table(q, head, segs, count), count * VQ_DESC_BYTES,
				  VQ_DESC_INDIRECT, next);
		} else {
			fill_desc(at, segs[k].gpa, segs[k].len, seg_flags(&segs[k], k + 1 < slots),
				  next);
		}
		i = next;
	}
	q->free_head = i;
	q->free_count -= (uint16_t)slots;
	q->chain_slots[head] = (uint16_t)slots;
	offer_split(q, head);
	return head;
}

static uint16_t free_id(struct testdrv_queue *q)
{
	while (q->id_busy[q->next_id % q->size]) {
		q->next_id++;
	}
	q->id_busy[q->next_id % q->size] = true;
	return q->next_id++ % q->size;
}

static int add_packed(struct testdrv_queue *q, const struct testdrv_seg *segs, unsigned count)
{
	bool indirect = q->d->indirect && count > 1;
	unsigned slots = indirect ? 1 : count;
	uint16_t id, head_flags = 0, flags;
	uint8_t *head = q->desc + (size_t)q->next_avail * VQ_DESC_BYTES;

	if (q->free_count < slots) {
		return -1;
	}
	id = free_id(q);
	for (unsigned k = 0; k < slots; k++) {
		uint8_t *at = q->desc + (size_t)q->next_avail * VQ_DESC_BYTES;

		flags = indirect ? VQ_DESC_INDIRECT : seg_flags(&segs[k], k + 1 < slots);
		flags |= q->avail_wrap ? VQ_DESC_AVAIL : VQ_DESC_USED;
		if (indirect) {
			store_le64(at, fill_table(q, id, segs, count));
			store_le32(at + VQ_DESC_LEN, count * VQ_DESC_BYTES);
		} else {
			store_le64(at, segs[k].gpa);
			store_le32(at + VQ_DESC_LEN, segs[k].len);
		}
		store_le16(at + VQ_DESC_PACKED_ID, id);
		if (k) {
			store_le16(at + VQ_DESC_PACKED_FLAGS, flags);
		} else {
			head_flags = flags;
		}
		if (++q->next_avail == q->size) {
			q->next_avail = 0;
			q->avail_wrap = !q->avail_wrap;
		}
	}
	vq_store_release16(head + VQ_DESC_PACKED_FLAGS, head_flags);
	q->free_count -= (uint16_t)slots;
	q->chain_slots[id] = (uint16_t)slots;
	q->kicked += (uint16_t)slots;
	return id;
}

int testdrv_add(struct testdrv_queue *q, const struct testdrv_seg *segs, unsigned count)
{
	return q->d->packed ? add_packed(q, segs, count) : add_split(q, segs, count);
}

void testdrv_force_kick(struct testdrv_queue *q)
{
	testbus_write(q->d->t, DEV_MMIO, q->d->notify + q->index * q->d->notify_mult, q->index, 2);
}

static bool wants_kick_split(struct testdrv_queue *q)
{
	uint16_t old = q->kicked;

	q->kicked = q->next_avail;
	if (q->d->event_idx) {
		return vq_event_passed(vq_load_acquire16(q->device + VQ_USED_ENTRY(q->size)),
				       q->next_avail, old);
	}
	return !(vq_load_acquire16(q->device + VQ_RING_FLAGS) & VQ_USED_NO_NOTIFY);
}

static bool wants_kick_packed(struct testdrv_queue *q)
{
	uint16_t flags = vq_load_acquire16(q->device + VQ_EVENT_FLAGS);
	uint16_t event = vq_load_acquire16(q->device + VQ_EVENT_OFF_WRAP);
	uint16_t added = q->kicked;
	bool wrap = event & VQ_EVENT_WRAP_BIT;

	q->kicked = 0;
	if (flags != VQ_EVENT_DESC) {
		return flags == VQ_EVENT_ENABLE;
	}
	event &= (uint16_t)~VQ_EVENT_WRAP_BIT;
	if (wrap != q->avail_wrap) {
		event -= q->size;
	}
	return vq_event_passed(event, q->next_avail, (uint16_t)(q->next_avail - added));
}

bool testdrv_kick(struct testdrv_queue *q)
{
	bool wants;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wants = q->d->packed ? wants_kick_packed(q) : wants_kick_split(q);
	if (wants) {
		testdrv_force_kick(q);
	}
	return wants;
}

static int used_split(struct testdrv_queue *q, uint32_t *ret_len)
{
	const uint8_t *e = q->device + VQ_USED_ENTRY(q->next_used % q->size);
	uint32_t id;

	if (vq_load_acquire16(q->device + VQ_RING_IDX) == q->next_used) {
		return -1;
	}
	id = load_le32(e);
	ASSERT(id < q->size);
	*ret_len = load_le32(e + 4);
	q->next_used++;
	/* The chain goes back to the free list. */
	for (uint16_t i = (uint16_t)id, k = 1;; k++) {
		uint8_t *next = q->desc + (size_t)i * VQ_DESC_BYTES + VQ_DESC_SPLIT_NEXT;

		if (k == q->chain_slots[id]) {
			store_le16(next, q->free_head);
			break;
		}
		i = load_le16(next);
	}
	q->free_head = (uint16_t)id;
	q->free_count += q->chain_slots[id];
	return (int)id;
}

static int used_packed(struct testdrv_queue *q, uint32_t *ret_len)
{
	const uint8_t *at = q->desc + (size_t)q->next_used * VQ_DESC_BYTES;
	uint16_t flags = vq_load_acquire16(at + VQ_DESC_PACKED_FLAGS);
	bool avail = flags & VQ_DESC_AVAIL, used = flags & VQ_DESC_USED;
	uint16_t id;

	if (avail != used || used != q->used_wrap) {
		return -1;
	}
	id = load_le16(at + VQ_DESC_PACKED_ID);
	ASSERT(id < q->size && q->id_busy[id]);
	*ret_len = load_le32(at + VQ_DESC_LEN);
	q->id_busy[id] = false;
	q->free_count += q->chain_slots[id];
	q->next_used += q->chain_slots[id];
	if (q->next_used >= q->size) {
		q->next_used -= q->size;
		q->used_wrap = !q->used_wrap;
	}
	return id;
}

int testdrv_used(struct testdrv_queue *q, uint32_t *ret_len)
{
	return q->d->packed ? used_packed(q, ret_len) : used_split(q, ret_len);
}

void testdrv_interrupts(struct testdrv_queue *q, bool on)
{
	bool event = on && q->d->event_idx;

	if (!q->d->packed) {
		store_le16(q->driver + VQ_RING_FLAGS, on ? 0 : VQ_AVAIL_NO_INTERRUPT);
		/* With event index "off" is an event that is far away. */
		store_le16(q->driver + VQ_AVAIL_ENTRY(q->size),
			   (uint16_t)(q->next_used - (on ? 0 : 1)));
		return;
	}
	store_le16(q->driver + VQ_EVENT_OFF_WRAP, (uint16_t)(q->next_used | q->used_wrap << 15));
	store_le16(q->driver + VQ_EVENT_FLAGS, event ? VQ_EVENT_DESC
					       : on  ? VQ_EVENT_ENABLE
						     : VQ_EVENT_DISABLE);
}

static bool has_used(void *opaque)
{
	struct testdrv_queue *q = opaque;
	struct testdrv_queue *copy = malloc(sizeof(*copy));
	uint32_t len;
	bool has;

	ASSERT(copy);
	if (q->d->packed) {
		*copy = *q;
		has = used_packed(copy, &len) >= 0;
	} else {
		has = vq_load_acquire16(q->device + VQ_RING_IDX) != q->next_used;
	}
	free(copy);
	return has;
}

int testdrv_wait_used(struct testdrv_queue *q, uint32_t *ret_len)
{
	if (!testbus_wait(q->d->t, has_used, q)) {
		return -1;
	}
	return testdrv_used(q, ret_len);
}
