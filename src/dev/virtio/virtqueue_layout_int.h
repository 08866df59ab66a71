/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the rings lie in guest memory (virtio 1.2 2.7.5 to 2.7.8, 2.8.13, 2.8.14),
 * for the device's end and for the driver's end in the tests.
 */
#pragma once

#include "base/util.h"

enum vq_desc_flags {
	VQ_DESC_NEXT = BIT(0),
	VQ_DESC_WRITE = BIT(1),
	VQ_DESC_INDIRECT = BIT(2),
	VQ_DESC_AVAIL = BIT(7),
	VQ_DESC_USED = BIT(15),
};

/* Both kinds of descriptor have 16 bytes: address, length, then two 16-bit fields. */
#define VQ_DESC_BYTES        16
#define VQ_DESC_ADDR         0
#define VQ_DESC_LEN          8
#define VQ_DESC_SPLIT_FLAGS  12
#define VQ_DESC_SPLIT_NEXT   14
#define VQ_DESC_PACKED_ID    12
#define VQ_DESC_PACKED_FLAGS 14

/* Split: flags, index, ring, event. The used ring's entries are id and length. */
#define VQ_RING_FLAGS         0
#define VQ_RING_IDX           2
#define VQ_AVAIL_ENTRY(n)     (4 + 2 * (size_t)(n))
#define VQ_USED_ENTRY(n)      (4 + 8 * (size_t)(n))
#define VQ_AVAIL_BYTES(size)  (VQ_AVAIL_ENTRY(size) + 2) /* used_event behind the ring */
#define VQ_USED_BYTES(size)   (VQ_USED_ENTRY(size) + 2)  /* avail_event behind it */
#define VQ_AVAIL_NO_INTERRUPT 1
#define VQ_USED_NO_NOTIFY     1

/* Packed: an event suppression area is a position with wrap bit, then flags. */
#define VQ_EVENT_BYTES    4
#define VQ_EVENT_OFF_WRAP 0
#define VQ_EVENT_FLAGS    2
#define VQ_EVENT_ENABLE   0
#define VQ_EVENT_DISABLE  1
#define VQ_EVENT_DESC     2
#define VQ_EVENT_WRAP_BIT BIT(15)

/* Has `event` been passed on the way from `old` to `now`? (virtio 1.2 2.7.10.1) */
static inline bool vq_event_passed(uint16_t event, uint16_t now, uint16_t old)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

static inline uint16_t vq_load_acquire16(const uint8_t *p)
{
	return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
}

static inline void vq_store_release16(uint8_t *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, v, __ATOMIC_RELEASE);
}
