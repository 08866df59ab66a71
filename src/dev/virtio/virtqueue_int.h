/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One virtqueue, split or packed, the device's end. Knows rings and memory,
 * nothing of PCI or of what a device does. Source: virtio 1.2 chapters 2.7, 2.8.
 *
 * All functions: the device's lock held. What the rings say is untrusted: any
 * broken rule gives -EBADMSG from vq_pop(), after which the queue gives
 * nothing more until it is started anew.
 */
#pragma once

#include <sys/uio.h>

#include "base/util.h"

#define VQ_SIZE_MAX 1024 /* entries; also bounds the descriptors of one chain */

struct mem;

/*
 * A buffer that the driver made available: first `out_count` entries that it
 * wrote for us, then `in_count` that we write. The arrays are the caller's.
 */
struct vq_chain {
	struct iovec *iov;
	gpa_t *gpa;   /* guest addresses of the entries, for dirty marks */
	unsigned cap; /* room in both */
	unsigned out_count, in_count;
	uint32_t out_bytes, in_bytes;
	uint16_t id;    /* what the used ring names */
	uint16_t slots; /* ring entries that it took (packed) */
};

struct virtqueue {
	struct mem *mem;
	const char *owner; /* the device's name, for messages */
	unsigned index;

	/* As the driver set it. */
	uint16_t size, size_max;
	uint16_t vector;
	bool enabled;
	gpa_t desc_gpa, driver_gpa, device_gpa;

	/* Valid while started. */
	bool started, broken;
	bool packed, event_idx, indirect;
	uint8_t *desc, *driver, *device;
	uint16_t last_avail, seen_avail;
	uint16_t used; /* split: free running; packed: a ring position */
	bool avail_wrap, used_wrap;
	uint16_t staged;      /* split: pushed, not published; packed: slots pushed */
	uint8_t *first_flags; /* packed: the descriptor that publishes what is staged */
	uint16_t first_value;
	bool kicks_on;

	/* Chains that the device holds, and the ring entries that they took. */
	unsigned in_flight, in_flight_slots;
	bool mute; /* stopping, or no bus mastering: do not touch guest memory */
};

/*
 * Map the rings and start at entry 0. -EINVAL: size or alignment out of range;
 * -EFAULT: a part is not RAM.
 */
int vq_start(struct virtqueue *q, bool packed, bool event_idx, bool indirect);
/* Forget the rings; everything the driver set goes back to its reset value. */
void vq_stop(struct virtqueue *q);

/* 1 and a chain, 0: nothing there, -EBADMSG: the driver broke the rules (a line is logged). */
int vq_pop(struct virtqueue *q, struct vq_chain *c);
/* Give a chain back; `written`: bytes in its `in` part. Seen by the driver after vq_flush(). */
void vq_push(struct virtqueue *q, const struct vq_chain *c, uint32_t written);
/* Drop a chain without giving it back (the queue is being stopped). */
void vq_forget(struct virtqueue *q, const struct vq_chain *c);
/* Publish what was pushed. True: the driver wants an interrupt. */
bool vq_flush(struct virtqueue *q);

/* Ask the driver not to kick: the queue is being worked on. */
void vq_kicks_off(struct virtqueue *q);
/* Ask for kicks again. True: something came in between; go on working. */
bool vq_kicks_on(struct virtqueue *q);
bool vq_empty(struct virtqueue *q);
