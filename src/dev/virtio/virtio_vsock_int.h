/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the packets (virtio_vsock.c) and the connections (vsock_conn.c) of vsock share. */
#pragma once

#include "dev/virtio/virtio_int.h"

#define VSOCK_HDR_BYTES   44
#define VSOCK_CID_HOST    2
#define VSOCK_TYPE_STREAM 1
#define VSOCK_BUF_BYTES   KIB(64) /* what a guest may have on its way in one connection */
#define VSOCK_CONNS_MAX   1024
#define VSOCK_BUCKETS     64
#define VSOCK_RESETS_MAX  64
#define VSOCK_CHAIN_MAX   128
#define VSOCK_LINE_BYTES  32 /* "CONNECT 4294967295\n" and some */

enum vsock_op {
	VSOCK_REQUEST = 1,
	VSOCK_RESPONSE = 2,
	VSOCK_RST = 3,
	VSOCK_SHUTDOWN = 4,
	VSOCK_RW = 5,
	VSOCK_CREDIT_UPDATE = 6,
	VSOCK_CREDIT_REQUEST = 7,
};

enum vsock_shutdown { VSOCK_SHUT_RCV = BIT(0), VSOCK_SHUT_SEND = BIT(1) };

struct vsock_hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
};

enum vsock_state {
	VSOCK_GREETING,  /* a host program connected; its "CONNECT" line is awaited */
	VSOCK_REQUESTED, /* we sent REQUEST, the guest's RESPONSE is awaited */
	VSOCK_ESTABLISHED,
};

struct vsock_conn {
	struct vsock_conn *next; /* in its bucket */
	struct virtio_vsock *dev;
	enum vsock_state state;
	int fd;
	uint32_t host_port, guest_port;
	unsigned say;     /* operations to send, a bit each */
	uint32_t events;  /* what the loop watches for */
	bool wants_guest; /* data or operations wait for receive buffers or credit */

	/* To the guest: its buffer, what it has taken, what we have sent. */
	uint32_t peer_buf_alloc, peer_fwd_cnt, tx_cnt;
	bool host_eof, guest_shut_rcv;
	/* From the guest: received, passed on, and what of that it was told. */
	uint32_t rx_cnt, fwd_cnt, fwd_told;
	bool guest_shut_send;
	uint8_t *buf; /* VSOCK_BUF_BYTES, made when first needed */
	uint32_t buf_at, buf_len;

	char line[VSOCK_LINE_BYTES]; /* the greeting so far */
	size_t line_len;
};

struct vsock_reset {
	uint32_t host_port, guest_port;
};

struct virtio_vsock {
	struct virtio_dev v;
	uint32_t cid;
	int listen_fd;
	int (*connect)(void *opaque, uint32_t port);
	void *connect_opaque;
	bool drop_all; /* the device was reset: the loop's thread closes all */
	uint32_t next_port;
	unsigned conn_count;
	struct vsock_conn *buckets[VSOCK_BUCKETS];

	/* Answers to packets of no connection; a driver that sends more loses them. */
	struct vsock_reset resets[VSOCK_RESETS_MAX];
	unsigned reset_count;

	bool rx_held; /* a receive buffer taken in advance */
	struct vq_chain rx;
	struct iovec rx_iov[VSOCK_CHAIN_MAX], tx_iov[VSOCK_CHAIN_MAX];
	gpa_t rx_gpa[VSOCK_CHAIN_MAX], tx_gpa[VSOCK_CHAIN_MAX];
};

/*
 * All with the device's lock held, on the loop's thread. A connection may be
 * gone after a function that says so.
 */

/* A receive buffer of at least a header, in s->rx. False: none. */
bool vsock_rx_ready(struct virtio_vsock *s);
/* Give s->rx to the guest as a packet: `len` bytes of data are in place behind the header. */
void vsock_rx_send(struct virtio_vsock *s, const struct vsock_hdr *h);
/* Answer a packet of no connection, later. */
void vsock_reset_unknown(struct virtio_vsock *s, uint32_t host_port, uint32_t guest_port);

/* Send what answers wait and publish all packets. */
void vsock_flush(struct virtio_vsock *s);

int vsock_listen(struct virtio_vsock *s, int listen_fd);
void vsock_close_all(struct virtio_vsock *s);
struct vsock_conn *vsock_find(struct virtio_vsock *s, uint32_t host_port, uint32_t guest_port);
/* A packet of this connection, or a request for a new one. May free it. */
void vsock_packet(struct virtio_vsock *s, const struct vsock_hdr *h, struct iovec *data,
		  unsigned count);
/* Send what the connection has to say, as far as buffers and credit go. May free it. */
void vsock_pump(struct vsock_conn *c);
void vsock_pump_all(struct virtio_vsock *s);
