/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the data path and the control queue of virtio-net share. */
#pragma once

#include "dev/virtio/virtio_int.h"
#include "netio/netio.h"

#define NET_F_CTRL_GUEST_OFFLOADS BIT64(2)
#define NET_F_MRG_RXBUF           BIT64(15)
#define NET_F_CTRL_VQ             BIT64(17)
#define NET_F_CTRL_RX             BIT64(18)
#define NET_F_CTRL_VLAN           BIT64(19)
#define NET_F_MQ                  BIT64(22)
#define NET_F_CTRL_MAC_ADDR       BIT64(23)

/* Offsets in the configuration space (virtio 1.2 5.1.4). */
enum net_config {
	NET_CONFIG_MAC = 0,
	NET_CONFIG_STATUS = 6,
	NET_CONFIG_PAIRS = 8,
	NET_CONFIG_MTU = 10,
	NET_CONFIG_BYTES = 12,
};

#define NET_HDR_BYTES       NETIO_HDR_BYTES
#define NET_HDR_NUM_BUFFERS 10
#define NET_FRAME_MAX       (NET_HDR_BYTES + 65535 + 18)
#define NET_CHAIN_MAX       256
/* Entries for the stock; one more is for the spill area. The kernel takes 1024 in a call. */
#define NET_IOV_MAX 1023

struct net_pair {
	unsigned index;
	struct virtqueue *rx, *tx;

	/* Transmit. */
	bool holds; /* `held` waits for the back end */
	struct vq_chain held;
	struct iovec held_iov[NET_CHAIN_MAX];
	gpa_t held_gpa[NET_CHAIN_MAX];
	uint32_t unseen_bytes; /* sent, but the driver was not told yet */

	/* Receive; see the head of virtio_net.c. */
	bool waiting; /* the back end may have frames */
	unsigned stock_first, stock_count;
	uint32_t stock_bytes;
	unsigned iov_used;
	unsigned source;                       /* the back end's queue to take from next */
	unsigned merged;                       /* buffers given back for the frame at hand */
	struct iovec first_iov[NET_HDR_BYTES]; /* the first one's, for its header */
	gpa_t first_gpa[NET_HDR_BYTES];
	unsigned first_count;
	uint32_t frame_len, placed; /* the frame that waits for buffers; 0: none */
	struct vq_chain stock[VQ_SIZE_MAX];
	struct iovec iov[NET_IOV_MAX + 1];
	gpa_t gpa[NET_IOV_MAX + 1];
	uint8_t spill[NET_FRAME_MAX];
};

struct virtio_net {
	struct virtio_dev v;
	struct netio *netio;
	uint8_t mac[6]; /* as configured; the guest may set another until reset */
	uint16_t mtu;
	struct net_pair *pairs;
	unsigned pair_count, pairs_on;
	unsigned rx_offloads;
	bool large_frames; /* one was seen: prepare for more */
	bool link_up;
};

/* Serve the control queue. */
void virtio_net_control(struct virtio_net *n, struct virtqueue *q);
/* Use `count` of the pairs. */
void virtio_net_set_pairs(struct virtio_net *n, unsigned count);
/* Feature bits that say what the guest can receive, in netio's words. */
unsigned virtio_net_guest_offloads(uint64_t features);
