/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netio/netio.h"

#include <stdlib.h>

#include "base/assert.h"
#include "netio/netio_int.h"

void netio_free(struct netio *n)
{
	if (n) {
		n->cls->free(n);
	}
}

void netio_set_client(struct netio *n, const struct netio_client *c, void *opaque)
{
	n->client = c;
	n->opaque = opaque;
}

unsigned netio_queues(const struct netio *n)
{
	return n->queues;
}

unsigned netio_offloads(const struct netio *n)
{
	return n->offloads;
}

void netio_set_offloads(struct netio *n, unsigned offloads)
{
	if (n->cls->set_offloads) {
		n->cls->set_offloads(n, offloads);
	}
}

bool netio_link_up(const struct netio *n)
{
	return n->link_up;
}

ssize_t netio_send(struct netio *n, unsigned queue, const struct iovec *iov, unsigned iov_count)
{
	return n->cls->send(n, queue, iov, iov_count);
}

ssize_t netio_receive(struct netio *n, unsigned queue, const struct iovec *iov, unsigned iov_count)
{
	return n->cls->receive(n, queue, iov, iov_count);
}

/* --- frames that wait ---------------------------------------------------------------------- */

#define LENGTH_BYTES sizeof(uint32_t)

int netio_queue_init(struct netio_queue *q, size_t size)
{
	ASSERT(size && !(size & (size - 1)));
	*q = (struct netio_queue){ .size = size };
	q->buf = malloc(size);
	return q->buf ? 0 : -ENOMEM;
}

void netio_queue_done(struct netio_queue *q)
{
	free(q->buf);
	q->buf = NULL;
}

bool netio_queue_empty(const struct netio_queue *q)
{
	return q->head == q->tail;
}

static void ring_write(struct netio_queue *q, size_t at, const void *src, size_t len)
{
	size_t i = at & (q->size - 1), first = MIN(len, q->size - i);

	memcpy(q->buf + i, src, first);
	memcpy(q->buf, (const uint8_t *)src + first, len - first);
}

static void ring_read(const struct netio_queue *q, size_t at, void *dst, size_t len)
{
	size_t i = at & (q->size - 1), first = MIN(len, q->size - i);

	memcpy(dst, q->buf + i, first);
	memcpy((uint8_t *)dst + first, q->buf, len - first);
}

bool netio_queue_put(struct netio_queue *q, const struct iovec *iov, unsigned count)
{
	size_t at = q->head + LENGTH_BYTES, len = 0;
	uint32_t stored;

	for (unsigned i = 0; i < count; i++) {
		len += iov[i].iov_len;
	}
	if (len > NETIO_FRAME_MAX || len + LENGTH_BYTES > q->size - (q->head - q->tail)) {
		return false;
	}
	stored = (uint32_t)len;
	ring_write(q, q->head, &stored, LENGTH_BYTES);
	for (unsigned i = 0; i < count; i++) {
		ring_write(q, at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	q->head = at;
	return true;
}

ssize_t netio_queue_get(struct netio_queue *q, const struct iovec *iov, unsigned count)
{
	uint32_t len, left;
	size_t at;

	if (netio_queue_empty(q)) {
		return -EAGAIN;
	}
	ring_read(q, q->tail, &len, LENGTH_BYTES);
	at = q->tail + LENGTH_BYTES;
	q->tail = at + len;
	left = len;
	for (unsigned i = 0; i < count && left; i++) {
		size_t n = MIN(left, iov[i].iov_len);

		ring_read(q, at, iov[i].iov_base, n);
		at += n;
		left -= (uint32_t)n;
	}
	if (netio_queue_empty(q)) {
		q->head = q->tail = 0; /* the same few cache lines again */
	}
	return left ? -EMSGSIZE : (ssize_t)len;
}

/* --- checksums -------------------------------------------------------------------------------- */

/* Sum of 16-bit words (RFC 1071), eight bytes at a time. */
static uint16_t sum_words(const uint8_t *p, size_t len)
{
	uint64_t sum = 0;

	for (; len >= 8; p += 8, len -= 8) {
		uint64_t v = load_le64(p);

		sum += (v & UINT32_MAX) + (v >> 32);
	}
	for (; len >= 2; p += 2, len -= 2) {
		sum += load_le16(p);
	}
	if (len) {
		sum += *p;
	}
	while (sum >> 16) {
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

int netio_complete_csum(const uint8_t *hdr, uint8_t *frame, size_t len)
{
	size_t start = load_le16(hdr + NETIO_HDR_CSUM_START);
	size_t at = start + load_le16(hdr + NETIO_HDR_CSUM_OFFSET);
	uint16_t sum;

	if (!(hdr[NETIO_HDR_FLAGS] & NETIO_NEEDS_CSUM)) {
		return 0;
	}
	if (start > len || !range_within(at, 2, len)) {
		return -EINVAL;
	}
	sum = (uint16_t)~sum_words(frame + start, len - start);
	/* All ones stands for zero, which in UDP would mean "none". */
	store_le16(frame + at, sum ? sum : 0xffff);
	return 0;
}
