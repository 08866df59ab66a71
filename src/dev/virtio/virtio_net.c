/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-net (virtio 1.2 5.1): data path. The control queue is in
 * virtio_net_ctrl.c.
 *
 * Theory of operation
 *
 * Queue 2n receives, 2n+1 transmits, the last one is the control queue. A frame to
 * send goes from guest memory to the back end without a copy. If the back end
 * is full, the chain is kept (`held`) and tried again when it is writable.
 *
 * To receive without a copy, buffers are taken from the ring in advance (the
 * "stock", whose entries lie one behind the other in one scatter list) and the
 * back end writes right into them; what a frame does not use stays in stock for
 * the next. Behind the stock lies a spill area, so that no frame is cut off:
 * what spills is copied into more buffers, and waits until there are enough.
 *
 *	stock:  [ chain 0 | chain 1 | ... | chain n ] [ spill ]
 *	frame:  |------------------ len ---------------->|
 *
 * Invariants
 *  1. Entries of stock chain i+1 begin where those of chain i end.
 *  2. While `frame_len` is not 0, the first `placed` bytes of a frame lie in the
 *     stock, the others in the spill area, and nothing is received.
 *  3. Stopping a queue forgets all that it holds; see queue_stop().
 */
#include "dev/virtio/virtio_net_int.h"

#include <stdlib.h>

#include "dev/virtio/iov_int.h"
#include "dev/virtio/virtio_devices.h"
#include "mem/mem.h"

#define F_CSUM          BIT64(0)
#define F_GUEST_CSUM    BIT64(1)
#define F_MTU           BIT64(3)
#define F_MAC           BIT64(5)
#define F_GUEST_TSO4    BIT64(7)
#define F_GUEST_TSO6    BIT64(8)
#define F_GUEST_ECN     BIT64(9)
#define F_HOST_TSO4     BIT64(11)
#define F_HOST_TSO6     BIT64(12)
#define F_HOST_ECN      BIT64(13)
#define F_HOST_USO      BIT64(56)
#define F_GUEST_USO4    BIT64(54)
#define F_GUEST_USO6    BIT64(55)
#define F_STATUS        BIT64(16)
#define F_CTRL_RX_EXTRA BIT64(20)

#define QUEUE_SIZE 256
#define STATUS_UP  1
/* What a frame takes at the most without segmentation: header, Ethernet, a VLAN tag. */
#define FRAME_OVERHEAD (NET_HDR_BYTES + 18)
#define MTU_DEFAULT    1500
/*
 * A driver's TCP sends no more than a little ahead of what it knows to be sent: so it is told after
 * so much, and not only when its ring is empty. Small frames still share what that costs.
 */
#define TX_UNSEEN_BYTES KIB(32)

static struct virtio_net *from_virtio(struct virtio_dev *v)
{
	return container_of(v, struct virtio_net, v);
}

/* --- transmit ------------------------------------------------------------------------------ */

/* Send what `p->held` describes. False: the back end is full, it is still held. */
static bool send_held(struct virtio_net *n, struct net_pair *p)
{
	struct vq_chain *c = &p->held;
	ssize_t r;

	if (c->out_bytes < NET_HDR_BYTES) {
		r = -EINVAL;
	} else {
		r = netio_send(n->netio, p->index, c->iov, c->out_count);
	}
	if (r == -EAGAIN) {
		return false;
	}
	p->holds = false;
	p->unseen_bytes += c->out_bytes;
	virtio_push(&n->v, p->tx, c, 0);
	if (p->unseen_bytes >= TX_UNSEEN_BYTES) {
		virtio_flush(&n->v, p->tx);
		p->unseen_bytes = 0;
	}
	return true;
}

static void transmit(struct virtio_net *n, struct net_pair *p)
{
	unsigned budget = p->tx->size;
	bool full = p->holds && !send_held(n, p);

	do {
		vq_kicks_off(p->tx);
		while (!full && budget && virtio_pop(&n->v, p->tx, &p->held)) {
			p->holds = true;
			full = !send_held(n, p);
			budget--;
		}
		/* A full back end tells us when to go on; kicks would not help. */
	} while (!full && budget && vq_kicks_on(p->tx));
	if (!budget) {
		virtio_again(&n->v, p->tx);
	}
	virtio_flush(&n->v, p->tx);
	p->unseen_bytes = 0;
}

/* --- receive ------------------------------------------------------------------------------- */

static void stock_reset(struct net_pair *p)
{
	p->stock_first = p->stock_count = 0;
	p->stock_bytes = 0;
	p->iov_used = 0;
	p->frame_len = 0;
	p->merged = 0;
}

/* Move what is left to the front when a chain no longer fits behind. */
static void stock_compact(struct net_pair *p)
{
	unsigned first_iov =
		p->stock_count ? (unsigned)(p->stock[p->stock_first].iov - p->iov) : p->iov_used;
	unsigned n = p->iov_used - first_iov;

	memmove(p->iov, p->iov + first_iov, n * sizeof(*p->iov));
	memmove(p->gpa, p->gpa + first_iov, n * sizeof(*p->gpa));
	memmove(p->stock, p->stock + p->stock_first, p->stock_count * sizeof(*p->stock));
	for (unsigned i = 0; i < p->stock_count; i++) {
		p->stock[i].iov -= first_iov;
		p->stock[i].gpa -= first_iov;
	}
	p->stock_first = 0;
	p->iov_used = n;
}

/* Take one buffer more from the ring. False: none there, or no room, or the device broke. */
static bool stock_add(struct virtio_net *n, struct net_pair *p)
{
	struct vq_chain *c;

	if (!p->stock_count) {
		p->stock_first = p->iov_used = 0;
	}
	if (p->stock_first + p->stock_count == VQ_SIZE_MAX ||
	    p->iov_used + NET_CHAIN_MAX > NET_IOV_MAX) {
		stock_compact(p);
	}
	if (p->stock_count == VQ_SIZE_MAX || p->iov_used + NET_CHAIN_MAX > NET_IOV_MAX) {
		return false;
	}
	c = &p->stock[p->stock_first + p->stock_count];
	*c = (struct vq_chain){ .iov = p->iov + p->iov_used,
				.gpa = p->gpa + p->iov_used,
				.cap = NET_CHAIN_MAX };
	if (!virtio_pop(&n->v, p->rx, c)) {
		return false;
	}
	if (c->out_count || c->in_bytes < NET_HDR_BYTES) {
		vq_forget(p->rx, c);
		virtio_broken(&n->v);
		return false;
	}
	p->iov_used += c->in_count;
	p->stock_bytes += c->in_bytes;
	p->stock_count++;
	return true;
}

/* How much stock a frame usually needs; a larger one spills. */
static uint32_t stock_wanted(const struct virtio_net *n)
{
	if (n->rx_offloads & (NETIO_OFFLOAD_TSO4 | NETIO_OFFLOAD_TSO6 | NETIO_OFFLOAD_USO)) {
		return n->large_frames ? NET_FRAME_MAX : 4096;
	}
	return (n->mtu ? n->mtu : MTU_DEFAULT) + FRAME_OVERHEAD;
}

static void stock_fill(struct virtio_net *n, struct net_pair *p)
{
	uint32_t wanted = stock_wanted(n);

	/* Without mergeable buffers a frame has exactly one. */
	if (!virtio_has(&n->v, NET_F_MRG_RXBUF)) {
		if (!p->stock_count) {
			stock_add(n, p);
		}
		return;
	}
	while (p->stock_bytes < wanted && stock_add(n, p)) {
	}
}

/* Give back the first chain in stock with `len` bytes of a frame in it. */
static void stock_use(struct virtio_net *n, struct net_pair *p, uint32_t len)
{
	struct vq_chain *c = &p->stock[p->stock_first++];

	p->stock_count--;
	p->stock_bytes -= c->in_bytes;
	if (!p->merged++) {
		/* Where the header lies: nearly always in one entry. */
		p->first_count =
			c->iov[0].iov_len >= NET_HDR_BYTES ? 1 : MIN(c->in_count, NET_HDR_BYTES);
		memcpy(p->first_iov, c->iov, p->first_count * sizeof(*c->iov));
		memcpy(p->first_gpa, c->gpa, p->first_count * sizeof(*c->gpa));
	}
	virtio_push(&n->v, p->rx, c, len);
}

/* All of the frame is in buffers: say in how many, and let the driver see them. */
static void frame_end(struct virtio_net *n, struct net_pair *p)
{
	uint8_t count[2];

	store_le16(count, (uint16_t)p->merged);
	iov_copy_in(p->first_iov, p->first_count, NET_HDR_NUM_BUFFERS, count, sizeof(count));
	for (unsigned i = 0; i < p->first_count; i++) {
		mem_mark_dirty(p->rx->mem, p->first_gpa[i],
			       MIN(p->first_iov[i].iov_len, NET_HDR_BYTES));
	}
	p->merged = 0;
}

/* All entries of the ring are here, or there is no room for more: no buffer will come. */
static bool stock_is_all(const struct net_pair *p)
{
	return p->rx->in_flight_slots == p->rx->size ||
	       (!p->stock_first &&
		(p->stock_count == VQ_SIZE_MAX || p->iov_used + NET_CHAIN_MAX > NET_IOV_MAX));
}

/*
 * Give the driver the frame at hand once there are buffers for all of it: until then it may not
 * see the first one, which says how many there are. False: they must come first.
 */
static bool frame_finish(struct virtio_net *n, struct net_pair *p)
{
	struct iovec *iov;
	uint32_t len = p->frame_len;

	while (p->stock_bytes < len) {
		if (stock_add(n, p)) {
			continue;
		}
		if (stock_is_all(p)) {
			p->frame_len = 0; /* longer than all buffers together: dropped */
			return true;
		}
		return false;
	}
	iov = p->stock[p->stock_first].iov;
	iov_copy_in(iov, p->iov_used - (unsigned)(iov - p->iov), p->placed, p->spill,
		    len - p->placed);
	p->frame_len = 0;
	while (len) {
		uint32_t part = MIN(len, p->stock[p->stock_first].in_bytes);

		stock_use(n, p, part);
		len -= part;
	}
	frame_end(n, p);
	return true;
}

/* A frame of `len` bytes was received into the stock and the spill area behind it. */
static bool frame_received(struct virtio_net *n, struct net_pair *p, uint32_t len)
{
	n->large_frames |= len > 4096;
	if (len > p->stock_bytes && !virtio_has(&n->v, NET_F_MRG_RXBUF)) {
		return true; /* longer than the buffers that the driver made for it: dropped */
	}
	p->frame_len = len;
	p->placed = MIN(len, p->stock_bytes);
	return frame_finish(n, p);
}

/*
 * The back end has a queue for each pair, but the driver may use fewer pairs: each then takes
 * from several. False: all of this pair's are empty.
 */
static bool next_source(struct virtio_net *n, struct net_pair *p)
{
	p->source += n->pairs_on;
	if (p->source < n->pair_count) {
		return true;
	}
	p->source = p->index;
	p->waiting = false;
	return false;
}

/* One frame from the back end. False: none there, or no buffers. */
static bool receive_one(struct virtio_net *n, struct net_pair *p)
{
	struct iovec *iov;
	unsigned count;
	ssize_t r;

	if (p->frame_len) {
		return frame_finish(n, p);
	}
	stock_fill(n, p);
	if (!p->stock_count) {
		return false;
	}
	iov = p->stock[p->stock_first].iov;
	count = p->iov_used - (unsigned)(iov - p->iov);
	iov[count] = (struct iovec){ p->spill, sizeof(p->spill) };
	r = netio_receive(n->netio, p->source, iov, count + 1);
	if (r == -EAGAIN) {
		return next_source(n, p);
	}
	if (r < (ssize_t)NET_HDR_BYTES) {
		return true; /* a frame that cannot be is dropped */
	}
	return frame_received(n, p, (uint32_t)r);
}

/*
 * Take frames as long as there are any and buffers for them. Kicks are wanted
 * only while frames wait for buffers.
 */
static void receive(struct virtio_net *n, struct net_pair *p)
{
	unsigned budget = 4 * QUEUE_SIZE;

	if (!n->link_up) {
		return;
	}
	vq_kicks_off(p->rx);
	while (p->waiting && budget) {
		if (receive_one(n, p)) {
			budget--;
			continue;
		}
		if (p->waiting && !vq_kicks_on(p->rx)) {
			break; /* no buffers: the driver's next kick goes on */
		}
		if (!virtio_running(&n->v)) {
			break;
		}
	}
	if (!budget) {
		virtio_again(&n->v, p->rx);
	}
	virtio_flush(&n->v, p->rx);
}

/* --- what the back end says ------------------------------------------------------------------ */

/* Without MQ the control queue is the third, however many there are (5.1.2). */
static bool is_control(const struct virtio_net *n, const struct virtqueue *q)
{
	return q->index == (virtio_has(&n->v, NET_F_MQ) ? n->pair_count * 2 : 2);
}

static bool receives(const struct virtio_net *n, const struct net_pair *p)
{
	return virtio_running(&n->v) && p->rx->started && !p->rx->mute && !is_control(n, p->rx);
}

static void readable(void *opaque)
{
	struct virtio_net *n = opaque;

	dev_lock(&n->v.pci.dev);
	for (unsigned i = 0; i < n->pair_count; i++) {
		n->pairs[i].waiting = true;
		if (i < n->pairs_on && receives(n, &n->pairs[i])) {
			receive(n, &n->pairs[i]);
		}
	}
	dev_unlock(&n->v.pci.dev);
}

static void writable(void *opaque)
{
	struct virtio_net *n = opaque;

	dev_lock(&n->v.pci.dev);
	for (unsigned i = 0; i < n->pair_count; i++) {
		if (n->pairs[i].holds && virtio_running(&n->v)) {
			transmit(n, &n->pairs[i]);
		}
	}
	dev_unlock(&n->v.pci.dev);
}

static void set_link(struct virtio_net *n, bool up)
{
	n->link_up = up;
	store_le16(n->v.config + NET_CONFIG_STATUS, up ? STATUS_UP : 0);
}

static void link_changed(void *opaque, bool up)
{
	struct virtio_net *n = opaque;

	dev_lock(&n->v.pci.dev);
	if (n->link_up != up) {
		set_link(n, up);
		virtio_config_changed(&n->v);
	}
	dev_unlock(&n->v.pci.dev);
}

static const struct netio_client client = {
	.readable = readable,
	.writable = writable,
	.link_changed = link_changed,
};

/* --- the class ------------------------------------------------------------------------------- */

static void serve(struct virtio_dev *v, struct virtqueue *q)
{
	struct virtio_net *n = from_virtio(v);
	struct net_pair *p = &n->pairs[q->index / 2];

	if (is_control(n, q)) {
		virtio_net_control(n, q);
	} else if (q->index / 2 >= n->pair_count) {
		return; /* the control queue of a driver that has MQ, in one that has not */
	} else if (q->index % 2) {
		transmit(n, p);
	} else if (p->index < n->pairs_on) {
		receive(n, p);
	}
}

/* The guest's features that say what it can receive, in netio's words. */
unsigned virtio_net_guest_offloads(uint64_t features)
{
	unsigned o = 0;

	o |= features & F_GUEST_CSUM ? NETIO_OFFLOAD_CSUM : 0;
	o |= features & F_GUEST_TSO4 ? NETIO_OFFLOAD_TSO4 : 0;
	o |= features & F_GUEST_TSO6 ? NETIO_OFFLOAD_TSO6 : 0;
	o |= features & F_GUEST_ECN ? NETIO_OFFLOAD_ECN : 0;
	if ((features & F_GUEST_USO4) && (features & F_GUEST_USO6)) {
		o |= NETIO_OFFLOAD_USO;
	}
	return o;
}

/* The back end is told on the loop's thread only. */
static void work(struct virtio_dev *v)
{
	struct virtio_net *n = from_virtio(v);

	netio_set_offloads(n->netio, n->rx_offloads);
}

static void started(struct virtio_dev *v)
{
	struct virtio_net *n = from_virtio(v);

	n->rx_offloads = virtio_net_guest_offloads(v->features);
	virtio_work(v);
}

/* Segmentation needs checksums, everything on the control queue needs that queue (5.1.3.1). */
static bool features_ok(struct virtio_dev *v, uint64_t f)
{
	if ((f & (F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_USO)) && !(f & F_CSUM)) {
		return false;
	}
	if ((f & (F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_USO4 | F_GUEST_USO6)) &&
	    !(f & F_GUEST_CSUM)) {
		return false;
	}
	if ((f & F_GUEST_ECN) && !(f & (F_GUEST_TSO4 | F_GUEST_TSO6))) {
		return false;
	}
	if ((f & F_HOST_ECN) && !(f & (F_HOST_TSO4 | F_HOST_TSO6))) {
		return false;
	}
	return (f & NET_F_CTRL_VQ) ||
	       !(f & (NET_F_CTRL_RX | F_CTRL_RX_EXTRA | NET_F_CTRL_VLAN | NET_F_MQ |
		      NET_F_CTRL_MAC_ADDR | NET_F_CTRL_GUEST_OFFLOADS));
}

static void queue_stop(struct virtio_dev *v, struct virtqueue *q)
{
	struct virtio_net *n = from_virtio(v);
	struct net_pair *p = &n->pairs[q->index / 2];

	if (is_control(n, q) || q->index / 2 >= n->pair_count) {
		return;
	}
	if (q->index % 2) {
		if (p->holds) {
			vq_forget(q, &p->held);
			p->holds = false;
		}
		return;
	}
	for (unsigned i = 0; i < p->stock_count; i++) {
		vq_forget(q, &p->stock[p->stock_first + i]);
	}
	stock_reset(p);
}

void virtio_net_set_pairs(struct virtio_net *n, unsigned count)
{
	n->pairs_on = count;
	for (unsigned i = 0; i < n->pair_count; i++) {
		n->pairs[i].source = i;
		n->pairs[i].waiting = true;
	}
}

static void reset(struct virtio_dev *v)
{
	struct virtio_net *n = from_virtio(v);

	virtio_net_set_pairs(n, 1);
	n->rx_offloads = 0;
	n->large_frames = false;
	memcpy(v->config + NET_CONFIG_MAC, n->mac, sizeof(n->mac));
	virtio_work(v);
}

static void net_free(struct virtio_dev *v)
{
	struct virtio_net *n = from_virtio(v);

	netio_set_client(n->netio, NULL, NULL);
	free(n->pairs);
}

static const struct virtio_class net_class = {
	.pci = VIRTIO_PCI_CLASS("virtio-net"),
	.id = VIRTIO_ID_NET,
	.class_code = 0x020000, /* Ethernet */
	.serve = serve,
	.work = work,
	.features_ok = features_ok,
	.started = started,
	.queue_stop = queue_stop,
	.reset = reset,
	.free = net_free,
};

/* What the back end can take and give, in virtio's words. */
static uint64_t offload_features(unsigned offloads)
{
	uint64_t f = 0;

	f |= offloads & NETIO_OFFLOAD_CSUM ? F_CSUM | F_GUEST_CSUM : 0;
	f |= offloads & NETIO_OFFLOAD_TSO4 ? F_HOST_TSO4 | F_GUEST_TSO4 : 0;
	f |= offloads & NETIO_OFFLOAD_TSO6 ? F_HOST_TSO6 | F_GUEST_TSO6 : 0;
	f |= offloads & NETIO_OFFLOAD_ECN ? F_HOST_ECN | F_GUEST_ECN : 0;
	f |= offloads & NETIO_OFFLOAD_USO ? F_HOST_USO | F_GUEST_USO4 | F_GUEST_USO6 : 0;
	return offloads & NETIO_OFFLOAD_CSUM ? f | NET_F_CTRL_GUEST_OFFLOADS : f;
}

static int make_pairs(struct virtio_net *n)
{
	n->pairs = calloc(n->pair_count, sizeof(*n->pairs));
	for (unsigned i = 0; n->pairs && i < n->pair_count; i++) {
		struct net_pair *p = &n->pairs[i];

		p->index = i;
		p->held = (struct vq_chain){ .iov = p->held_iov,
					     .gpa = p->held_gpa,
					     .cap = NET_CHAIN_MAX };
	}
	return n->pairs ? 0 : -ENOMEM;
}

static void fill_config(struct virtio_net *n, const struct virtio_net_options *o)
{
	memcpy(n->mac, o->mac, sizeof(n->mac));
	memcpy(n->v.config + NET_CONFIG_MAC, o->mac, sizeof(o->mac));
	set_link(n, netio_link_up(n->netio));
	store_le16(n->v.config + NET_CONFIG_PAIRS, (uint16_t)n->pair_count);
	store_le16(n->v.config + NET_CONFIG_MTU, o->mtu);
	n->mtu = o->mtu;
	virtio_net_set_pairs(n, 1);
}

int virtio_net_new(struct pci_host *h, int devfn, const struct virtio_net_options *o,
		   struct pci_dev **ret)
{
	unsigned size = o->queue_size ? o->queue_size : QUEUE_SIZE;
	struct virtio_setup s = { .queue_size = (uint16_t)size, .config_bytes = NET_CONFIG_BYTES };
	struct virtio_net *n;
	int r;

	if (size < 16 || size > VQ_SIZE_MAX || (size & (size - 1)) || (o->mtu && o->mtu < 68)) {
		return -EINVAL;
	}
	n = calloc(1, sizeof(*n));
	if (!n) {
		return -ENOMEM;
	}
	n->netio = o->netio;
	n->pair_count = MIN(netio_queues(o->netio), (unsigned)VIRTIO_NET_PAIRS_MAX);
	r = make_pairs(n);
	if (r < 0) {
		free(n);
		return r;
	}
	fill_config(n, o);
	s.queue_count = n->pair_count * 2 + 1;
	s.features = F_MAC | F_STATUS | NET_F_MRG_RXBUF | NET_F_CTRL_VQ | NET_F_CTRL_RX |
		     F_CTRL_RX_EXTRA | NET_F_CTRL_VLAN | NET_F_CTRL_MAC_ADDR |
		     offload_features(netio_offloads(o->netio)) | (o->mtu ? F_MTU : 0) |
		     (n->pair_count > 1 ? NET_F_MQ : 0);
	r = virtio_init(&n->v, &net_class, h, devfn, &s);
	if (r < 0) {
		return r;
	}
	for (unsigned i = 0; i < n->pair_count; i++) {
		n->pairs[i].rx = virtio_vq(&n->v, 2 * i);
		n->pairs[i].tx = virtio_vq(&n->v, 2 * i + 1);
	}
	netio_set_client(n->netio, &client, n);
	if (ret) {
		*ret = &n->v.pci;
	}
	return 0;
}
