/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control queue of virtio-net (virtio 1.2 5.1.6.5): class, command, data,
 * and one byte of answer. Receive filters (promiscuous, MAC and VLAN tables)
 * are checked and accepted: the back end carries only frames for this guest,
 * and a device may always pass more than was asked for (5.1.6.5.1).
 */
#include "dev/virtio/iov_int.h"
#include "dev/virtio/virtio_net_int.h"

#define ACK_OK  0
#define ACK_ERR 1

#define CLASS_RX       0
#define CLASS_MAC      1
#define CLASS_VLAN     2
#define CLASS_ANNOUNCE 3
#define CLASS_MQ       4
#define CLASS_OFFLOADS 5

#define RX_COMMANDS       6 /* promisc, allmulti, alluni, nomulti, nouni, nobcast */
#define MAC_TABLE_SET     0
#define MAC_ADDR_SET      1
#define VLAN_COMMANDS     2
#define MQ_PAIRS_SET      0
#define OFFLOADS_SET      0
#define COMMAND_BYTES     2
#define MAC_BYTES         6
#define COMMANDS_PER_TURN 64
#define VLAN_IDS          4096

/* The command's data: what is behind class and command. */
struct data {
	const struct vq_chain *chain;
	size_t len;
};

static bool data_read(const struct data *d, size_t offset, void *buf, size_t len)
{
	return range_within(offset, len, d->len) &&
	       iov_copy_out(d->chain->iov, d->chain->out_count, COMMAND_BYTES + offset, buf, len) ==
		       len;
}

static bool control_rx(uint8_t command, const struct data *d)
{
	uint8_t on;

	return command < RX_COMMANDS && d->len == 1 && data_read(d, 0, &on, 1);
}

/* Two tables, unicast and multicast, each a count and that many addresses. */
static bool mac_tables_ok(const struct data *d)
{
	size_t at = 0;
	uint8_t count[4];

	for (unsigned i = 0; i < 2; i++) {
		if (!data_read(d, at, count, sizeof(count))) {
			return false;
		}
		at += sizeof(count) + (size_t)load_le32(count) * MAC_BYTES;
		if (at > d->len) {
			return false;
		}
	}
	return at == d->len;
}

static bool control_mac(struct virtio_net *n, uint8_t command, const struct data *d)
{
	uint8_t mac[MAC_BYTES];

	if (command == MAC_TABLE_SET) {
		return mac_tables_ok(d);
	}
	if (command != MAC_ADDR_SET || d->len != MAC_BYTES || !data_read(d, 0, mac, MAC_BYTES)) {
		return false;
	}
	memcpy(n->v.config + NET_CONFIG_MAC, mac, MAC_BYTES);
	return true;
}

static bool control_vlan(uint8_t command, const struct data *d)
{
	uint8_t id[2];

	return command < VLAN_COMMANDS && d->len == 2 && data_read(d, 0, id, 2) &&
	       load_le16(id) < VLAN_IDS;
}

static bool control_mq(struct virtio_net *n, uint8_t command, const struct data *d)
{
	uint8_t pairs[2];
	unsigned count;

	if (command != MQ_PAIRS_SET || !virtio_has(&n->v, NET_F_MQ) || d->len != 2 ||
	    !data_read(d, 0, pairs, 2)) {
		return false;
	}
	count = load_le16(pairs);
	if (!count || count > n->pair_count) {
		return false;
	}
	virtio_net_set_pairs(n, count);
	for (unsigned i = 0; i < count; i++) {
		virtio_again(&n->v, n->pairs[i].rx);
	}
	return true;
}

static bool control_offloads(struct virtio_net *n, uint8_t command, const struct data *d)
{
	uint8_t bits[8];
	uint64_t wanted;

	if (command != OFFLOADS_SET || !virtio_has(&n->v, NET_F_CTRL_GUEST_OFFLOADS) ||
	    d->len != sizeof(bits) || !data_read(d, 0, bits, sizeof(bits))) {
		return false;
	}
	wanted = load_le64(bits);
	if (wanted & ~n->v.features) {
		return false;
	}
	n->rx_offloads = virtio_net_guest_offloads(wanted);
	netio_set_offloads(n->netio, n->rx_offloads);
	return true;
}

static bool control(struct virtio_net *n, const struct vq_chain *c)
{
	struct data d = { c, c->out_bytes - COMMAND_BYTES };
	uint8_t command[COMMAND_BYTES];

	iov_copy_out(c->iov, c->out_count, 0, command, sizeof(command));
	switch (command[0]) {
	case CLASS_RX:
		return control_rx(command[1], &d);
	case CLASS_MAC:
		return control_mac(n, command[1], &d);
	case CLASS_VLAN:
		return control_vlan(command[1], &d);
	case CLASS_MQ:
		return control_mq(n, command[1], &d);
	case CLASS_OFFLOADS:
		return control_offloads(n, command[1], &d);
	default:
		return false; /* announcements, too: we ask for none */
	}
}

void virtio_net_control(struct virtio_net *n, struct virtqueue *q)
{
	struct iovec iov[NET_CHAIN_MAX];
	gpa_t gpa[NET_CHAIN_MAX];
	struct vq_chain c = { .iov = iov, .gpa = gpa, .cap = NET_CHAIN_MAX };

	for (unsigned i = 0; i < COMMANDS_PER_TURN; i++) {
		uint8_t ack;

		if (!virtio_pop(&n->v, q, &c)) {
			virtio_flush(&n->v, q);
			if (vq_kicks_on(q)) {
				continue;
			}
			return;
		}
		if (c.out_bytes < COMMAND_BYTES || !c.in_bytes) {
			vq_forget(q, &c);
			virtio_broken(&n->v);
			return;
		}
		ack = control(n, &c) ? ACK_OK : ACK_ERR;
		iov_copy_in(c.iov + c.out_count, c.in_count, 0, &ack, 1);
		virtio_push(&n->v, q, &c, 1);
	}
	virtio_flush(&n->v, q);
	virtio_again(&n->v, q);
}
