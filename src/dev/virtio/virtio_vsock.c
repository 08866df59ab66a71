/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-vsock (virtio 1.2 5.10) between the guest and UNIX sockets of the
 * host: the device and its packets. The connections are in vsock_conn.c.
 */
#include "dev/virtio/virtio_vsock_int.h"

#include <stdlib.h>

#include "dev/virtio/iov_int.h"
#include "dev/virtio/virtio_devices.h"

#define QUEUE_SIZE 128

enum { QUEUE_RX, QUEUE_TX, QUEUE_EVENT, QUEUES };

static struct virtio_vsock *from_virtio(struct virtio_dev *v)
{
	return container_of(v, struct virtio_vsock, v);
}

static void hdr_store(uint8_t *p, const struct vsock_hdr *h)
{
	store_le64(p, h->src_cid);
	store_le64(p + 8, h->dst_cid);
	store_le32(p + 16, h->src_port);
	store_le32(p + 20, h->dst_port);
	store_le32(p + 24, h->len);
	store_le16(p + 28, h->type);
	store_le16(p + 30, h->op);
	store_le32(p + 32, h->flags);
	store_le32(p + 36, h->buf_alloc);
	store_le32(p + 40, h->fwd_cnt);
}

static struct vsock_hdr hdr_load(const uint8_t *p)
{
	return (struct vsock_hdr){
		.src_cid = load_le64(p),
		.dst_cid = load_le64(p + 8),
		.src_port = load_le32(p + 16),
		.dst_port = load_le32(p + 20),
		.len = load_le32(p + 24),
		.type = load_le16(p + 28),
		.op = load_le16(p + 30),
		.flags = load_le32(p + 32),
		.buf_alloc = load_le32(p + 36),
		.fwd_cnt = load_le32(p + 40),
	};
}

/* --- to the guest ------------------------------------------------------------------------- */

bool vsock_rx_ready(struct virtio_vsock *s)
{
	struct virtqueue *q = virtio_vq(&s->v, QUEUE_RX);

	while (!s->rx_held) {
		if (!virtio_pop(&s->v, q, &s->rx)) {
			if (vq_kicks_on(q)) {
				continue;
			}
			return false;
		}
		if (s->rx.in_bytes < VSOCK_HDR_BYTES) {
			vq_forget(q, &s->rx);
			virtio_broken(&s->v);
			return false;
		}
		s->rx_held = true;
	}
	return true;
}

void vsock_rx_send(struct virtio_vsock *s, const struct vsock_hdr *h)
{
	struct vq_chain *c = &s->rx;
	uint8_t raw[VSOCK_HDR_BYTES];

	hdr_store(raw, h);
	iov_copy_in(c->iov + c->out_count, c->in_count, 0, raw, sizeof(raw));
	s->rx_held = false;
	virtio_push(&s->v, virtio_vq(&s->v, QUEUE_RX), c, VSOCK_HDR_BYTES + h->len);
}

void vsock_reset_unknown(struct virtio_vsock *s, uint32_t host_port, uint32_t guest_port)
{
	if (s->reset_count < VSOCK_RESETS_MAX) {
		s->resets[s->reset_count++] = (struct vsock_reset){ host_port, guest_port };
	}
}

static void send_resets(struct virtio_vsock *s)
{
	unsigned sent = 0;

	while (sent < s->reset_count && vsock_rx_ready(s)) {
		const struct vsock_reset *r = &s->resets[sent++];
		const struct vsock_hdr h = { .src_cid = VSOCK_CID_HOST,
					     .dst_cid = s->cid,
					     .src_port = r->host_port,
					     .dst_port = r->guest_port,
					     .type = VSOCK_TYPE_STREAM,
					     .op = VSOCK_RST };

		vsock_rx_send(s, &h);
	}
	memmove(s->resets, s->resets + sent, (s->reset_count - sent) * sizeof(*s->resets));
	s->reset_count -= sent;
}

void vsock_flush(struct virtio_vsock *s)
{
	send_resets(s);
	virtio_flush(&s->v, virtio_vq(&s->v, QUEUE_RX));
}

/* --- from the guest -------------------------------------------------------------------------- */

static void handle(struct virtio_vsock *s, struct vq_chain *c)
{
	uint8_t raw[VSOCK_HDR_BYTES];
	unsigned count = c->out_count;
	struct vsock_hdr h;
	struct iovec *data;

	if (iov_copy_out(c->iov, c->out_count, 0, raw, sizeof(raw)) < sizeof(raw)) {
		return;
	}
	h = hdr_load(raw);
	if (h.src_cid != s->cid || h.len > c->out_bytes - VSOCK_HDR_BYTES) {
		return;
	}
	if (h.dst_cid != VSOCK_CID_HOST || h.type != VSOCK_TYPE_STREAM) {
		if (h.op != VSOCK_RST) {
			vsock_reset_unknown(s, h.dst_port, h.src_port);
		}
		return;
	}
	data = iov_trim_front(c->iov, &count, VSOCK_HDR_BYTES);
	iov_trim_back(data, &count, c->out_bytes - VSOCK_HDR_BYTES - h.len);
	vsock_packet(s, &h, data, count);
}

static void serve_tx(struct virtio_vsock *s, struct virtqueue *q)
{
	struct vq_chain c = { .iov = s->tx_iov, .gpa = s->tx_gpa, .cap = VSOCK_CHAIN_MAX };
	unsigned budget = q->size;

	do {
		vq_kicks_off(q);
		while (budget && virtio_pop(&s->v, q, &c)) {
			handle(s, &c);
			virtio_push(&s->v, q, &c, 0);
			budget--;
		}
	} while (budget && vq_kicks_on(q));
	if (!budget) {
		virtio_again(&s->v, q);
	}
	virtio_flush(&s->v, q);
}

static void drop_if_reset(struct virtio_vsock *s)
{
	if (s->drop_all) {
		s->drop_all = false;
		vsock_close_all(s);
	}
}

static void serve(struct virtio_dev *v, struct virtqueue *q)
{
	struct virtio_vsock *s = from_virtio(v);

	drop_if_reset(s);
	if (q->index == QUEUE_TX) {
		serve_tx(s, q);
	} else if (q->index == QUEUE_RX) {
		vsock_pump_all(s);
	}
	vsock_flush(s);
}

static void work(struct virtio_dev *v)
{
	drop_if_reset(from_virtio(v));
}

static void queue_stop(struct virtio_dev *v, struct virtqueue *q)
{
	struct virtio_vsock *s = from_virtio(v);

	if (q->index == QUEUE_RX && s->rx_held) {
		vq_forget(q, &s->rx);
		s->rx_held = false;
	}
}

static void reset(struct virtio_dev *v)
{
	struct virtio_vsock *s = from_virtio(v);

	s->reset_count = 0;
	s->drop_all = true;
	virtio_work(v);
}

static void vsock_free(struct virtio_dev *v)
{
	struct virtio_vsock *s = from_virtio(v);

	vsock_close_all(s);
	if (s->listen_fd >= 0) {
		loop_unwatch_fd(v->pci.dev.env->loop, s->listen_fd);
	}
}

static const struct virtio_class vsock_class = {
	.pci = VIRTIO_PCI_CLASS("virtio-vsock"),
	.id = VIRTIO_ID_VSOCK,
	.class_code = 0x078000, /* communication controller, other */
	.serve = serve,
	.work = work,
	.queue_stop = queue_stop,
	.reset = reset,
	.free = vsock_free,
};

int virtio_vsock_new(struct pci_host *h, int devfn, const struct virtio_vsock_options *o,
		     struct pci_dev **ret)
{
	const struct virtio_setup setup = { .queue_count = QUEUES,
					    .queue_size = QUEUE_SIZE,
					    .config_bytes = 8 };
	struct virtio_vsock *s;
	int r;

	if (o->cid <= VSOCK_CID_HOST || o->cid == UINT32_MAX || !o->connect) {
		return -EINVAL;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		return -ENOMEM;
	}
	s->cid = o->cid;
	s->listen_fd = -1;
	s->connect = o->connect;
	s->connect_opaque = o->opaque;
	s->next_port = 1u << 30;
	s->rx = (struct vq_chain){ .iov = s->rx_iov, .gpa = s->rx_gpa, .cap = VSOCK_CHAIN_MAX };
	store_le64(s->v.config, s->cid);
	r = virtio_init(&s->v, &vsock_class, h, devfn, &setup);
	if (r < 0) {
		return r;
	}
	r = vsock_listen(s, o->listen_fd);
	if (r < 0) {
		pci_dev_remove(&s->v.pci);
		return r;
	}
	if (ret) {
		*ret = &s->v.pci;
	}
	return 0;
}
