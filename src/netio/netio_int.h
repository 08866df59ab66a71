/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of src/netio: what a back end fills in, and frames that wait. */
#pragma once

#include "netio/netio.h"

/* A frame with header and the largest segment that offloads make (64 KiB of IP and Ethernet). */
#define NETIO_FRAME_MAX (NETIO_HDR_BYTES + 65535 + 18)

/* struct virtio_net_hdr_v1 (virtio 1.2 5.1.6): offsets and values. */
#define NETIO_HDR_FLAGS       0
#define NETIO_HDR_GSO_TYPE    1
#define NETIO_HDR_HDR_LEN     2
#define NETIO_HDR_GSO_SIZE    4
#define NETIO_HDR_CSUM_START  6
#define NETIO_HDR_CSUM_OFFSET 8
#define NETIO_HDR_NUM_BUFFERS 10
#define NETIO_NEEDS_CSUM      1
#define NETIO_DATA_VALID      2

struct netio_class {
	ssize_t (*send)(struct netio *n, unsigned queue, const struct iovec *iov, unsigned count);
	ssize_t (*receive)(struct netio *n, unsigned queue, const struct iovec *iov,
			   unsigned count);
	void (*set_offloads)(struct netio *n, unsigned offloads); /* NULL: nothing to do */
	void (*free)(struct netio *n);                            /* the whole of it */
};

struct netio {
	const struct netio_class *cls;
	struct loop *loop;
	const struct netio_client *client;
	void *opaque;
	unsigned queues;
	unsigned offloads; /* that it can take */
	bool link_up;
};

static inline void netio_tell_readable(struct netio *n)
{
	if (n->client && n->client->readable) {
		n->client->readable(n->opaque);
	}
}

static inline void netio_tell_writable(struct netio *n)
{
	if (n->client && n->client->writable) {
		n->client->writable(n->opaque);
	}
}

/*
 * Frames on their way to the device: a ring of bytes with a length in front of
 * each, bounded; what does not fit is dropped, as a network does.
 */
struct netio_queue {
	uint8_t *buf;
	size_t size; /* a power of two */
	size_t head, tail;
};

int netio_queue_init(struct netio_queue *q, size_t size);
void netio_queue_done(struct netio_queue *q);
bool netio_queue_empty(const struct netio_queue *q);
/* False: no room, or a frame longer than NETIO_FRAME_MAX. */
bool netio_queue_put(struct netio_queue *q, const struct iovec *iov, unsigned count);
/* As netio_receive(). */
ssize_t netio_queue_get(struct netio_queue *q, const struct iovec *iov, unsigned count);

/*
 * Do what the header asks for: put the checksum in. `frame`: `len` bytes, without
 * the header. -EINVAL: the header points outside of it.
 */
int netio_complete_csum(const uint8_t *hdr, uint8_t *frame, size_t len);
