/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host side of a network card: tap, or user mode with no rights at all.
 * Knows no device. All functions on the loop's thread.
 *
 * Frames carry a struct virtio_net_hdr_v1 (12 bytes, little endian) in front
 * in both directions, so that checksum and segmentation offloads pass through.
 * A back end without offloads sends zeroed headers and completes what it gets.
 * The client's functions are called from the loop, never from within
 * netio_send() or netio_receive(), so they may take the device's lock.
 */
#pragma once

#include <sys/uio.h>

#include "base/loop.h"

#define NETIO_HDR_BYTES 12

struct netio;

enum netio_offload {
	NETIO_OFFLOAD_CSUM = BIT(0),
	NETIO_OFFLOAD_TSO4 = BIT(1),
	NETIO_OFFLOAD_TSO6 = BIT(2),
	NETIO_OFFLOAD_ECN = BIT(3),
	NETIO_OFFLOAD_USO = BIT(4),
};

/* The device's side. */
struct netio_client {
	/*
	 * Frames are waiting: call netio_receive() until it says -EAGAIN. Called again only
	 * after that.
	 */
	void (*readable)(void *opaque);
	/* netio_send() had said -EAGAIN and may be tried again. */
	void (*writable)(void *opaque);
	void (*link_changed)(void *opaque, bool up);
};

struct netio_forward {
	bool udp;
	uint32_t host_addr; /* IPv4, host order; 0: loopback only (127.0.0.1) */
	uint16_t host_port;
	uint16_t guest_port;
};

struct netio_user_options {
	const struct netio_forward *forwards;
	unsigned forward_count;
	bool restricted; /* no way to the host's network at all */
			 /* The host's loopback is reachable as the gateway's address (10.0.2.2). */
};

/* User mode: DHCP (10.0.2.15/24, gateway .2, DNS .3), IPv6, outgoing TCP and UDP. */
int netio_user_new(struct loop *loop, const struct netio_user_options *o, char *error,
		   size_t error_size, struct netio **ret);
/* An existing tap interface (opened with IFF_VNET_HDR, `queues` queues). */
int netio_tap_new(struct loop *loop, const char *ifname, unsigned queues, char *error,
		  size_t error_size, struct netio **ret);
/* A pair of ends joined back to back, for tests; with 1 to 4 queues. */
int netio_pair_new(struct loop *loop, struct netio **ret_a, struct netio **ret_b);
int netio_pair_new_queues(struct loop *loop, unsigned queues, struct netio **ret_a,
			  struct netio **ret_b);
void netio_free(struct netio *n);

void netio_set_client(struct netio *n, const struct netio_client *c, void *opaque);
unsigned netio_queues(const struct netio *n);
/* What the back end can take from the guest (and give, once enabled). */
unsigned netio_offloads(const struct netio *n);
/* Which offloads the guest accepts on receive. */
void netio_set_offloads(struct netio *n, unsigned offloads);
bool netio_link_up(const struct netio *n);

/* One frame with its header. Bytes taken (the whole frame), -EAGAIN, or -errno (dropped). */
ssize_t netio_send(struct netio *n, unsigned queue, const struct iovec *iov, unsigned iov_count);
/* One frame into iov: its length, -EAGAIN, -EMSGSIZE (frame dropped). */
ssize_t netio_receive(struct netio *n, unsigned queue, const struct iovec *iov, unsigned iov_count);
