/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-console (virtio 1.2 5.3): one console port, or several ports with the
 * control queues.
 *
 * Theory of operation
 *
 * Output: a chain whose bytes the character device does not take all is kept
 * (`tx_held`, `tx_done`) until that is writable again. Input: can_receive() takes one
 * buffer from the ring in advance (`rx_held`) and says its size; receive() fills
 * it and gives it back. Without a buffer, the driver's next kick calls
 * chardev_accept().
 *
 * What the device wants to say on the control queue is a set of bits a port, so
 * a driver that asks without ever reading cannot make us keep more than that.
 * The bits are sent in the order of their numbers.
 */
#include <stdlib.h>

#include "dev/char/chardev.h"
#include "dev/virtio/iov_int.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_int.h"

#define F_MULTIPORT   BIT64(1)
#define F_EMERG_WRITE BIT64(2)

/* Offsets in the configuration space (5.3.4). */
enum config { CONFIG_PORTS = 4, CONFIG_EMERG_WRITE = 8, CONFIG_BYTES = 12 };

/* Queues (5.3.2). */
enum { QUEUE_RX = 0, QUEUE_TX = 1, QUEUE_CONTROL_RX = 2, QUEUE_CONTROL_TX = 3 };

enum control_event {
	DEVICE_READY = 0,
	PORT_ADD = 1,
	PORT_READY = 3,
	CONSOLE_PORT = 4,
	PORT_OPEN = 6,
	PORT_NAME = 7,
};

#define CONTROL_BYTES 8 /* port, event, value */
#define NAME_BYTES    64
#define CHAIN_MAX     128
#define QUEUE_SIZE    128

struct port {
	struct virtio_console *console;
	unsigned index;
	struct chardev *chardev;
	char name[NAME_BYTES];
	struct virtqueue *rx, *tx;
	unsigned say; /* events to send on the control queue, a bit each */
	bool open;    /* the guest has it open */

	bool tx_holds, rx_holds;
	uint32_t tx_done;
	struct vq_chain tx_held, rx_held;
	struct iovec tx_iov[CHAIN_MAX], rx_iov[CHAIN_MAX];
	gpa_t tx_gpa[CHAIN_MAX], rx_gpa[CHAIN_MAX];
};

struct virtio_console {
	struct virtio_dev v;
	struct port *ports;
	unsigned port_count;
};

static struct virtio_console *from_virtio(struct virtio_dev *v)
{
	return container_of(v, struct virtio_console, v);
}

/* --- output ----------------------------------------------------------------------------- */

/* Write what is left of the held chain. False: not all was taken, it is still held. */
static bool write_held(struct port *p)
{
	struct vq_chain *c = &p->tx_held;
	uint32_t skip = p->tx_done;

	for (unsigned i = 0; i < c->out_count && p->chardev; i++) {
		size_t len = c->iov[i].iov_len, taken;

		if (skip >= len) {
			skip -= (uint32_t)len;
			continue;
		}
		taken = chardev_write(p->chardev, (uint8_t *)c->iov[i].iov_base + skip, len - skip);
		p->tx_done += (uint32_t)taken;
		if (taken < len - skip) {
			return false;
		}
		skip = 0;
	}
	p->tx_holds = false;
	virtio_push(&p->console->v, p->tx, c, 0);
	return true;
}

static void transmit(struct port *p)
{
	struct virtio_dev *v = &p->console->v;
	unsigned budget = p->tx->size;
	bool full = p->tx_holds && !write_held(p);

	do {
		vq_kicks_off(p->tx);
		while (!full && budget && virtio_pop(v, p->tx, &p->tx_held)) {
			p->tx_holds = true;
			p->tx_done = 0;
			full = !write_held(p);
			budget--;
		}
	} while (!full && budget && vq_kicks_on(p->tx));
	if (!budget) {
		virtio_again(v, p->tx);
	}
	virtio_flush(v, p->tx);
}

/* --- input ------------------------------------------------------------------------------- */

/* May this port have input now, and is there a buffer for it? */
static bool rx_ready(struct port *p)
{
	struct virtio_dev *v = &p->console->v;

	if (!virtio_running(v) || (p->index > 0 && !p->open)) {
		return false;
	}
	while (!p->rx_holds) {
		if (!virtio_pop(v, p->rx, &p->rx_held)) {
			if (vq_kicks_on(p->rx)) {
				continue;
			}
			return false;
		}
		if (!p->rx_held.in_bytes) {
			vq_forget(p->rx, &p->rx_held);
			virtio_broken(v);
			return false;
		}
		p->rx_holds = true;
	}
	return true;
}

static size_t can_receive(void *opaque)
{
	struct port *p = opaque;
	size_t room;

	dev_lock(&p->console->v.pci.dev);
	room = rx_ready(p) ? p->rx_held.in_bytes : 0;
	dev_unlock(&p->console->v.pci.dev);
	return room;
}

static void receive(void *opaque, const uint8_t *buf, size_t len)
{
	struct port *p = opaque;
	struct virtio_dev *v = &p->console->v;

	dev_lock(&v->pci.dev);
	/* A reset may have come in between; then the bytes are lost, as on a line. */
	while (len && rx_ready(p)) {
		struct vq_chain *c = &p->rx_held;
		size_t n = iov_copy_in(c->iov + c->out_count, c->in_count, 0, buf, len);

		p->rx_holds = false;
		virtio_push(v, p->rx, c, (uint32_t)n);
		buf += n;
		len -= n;
	}
	virtio_flush(v, p->rx);
	dev_unlock(&v->pci.dev);
}

static void writable(void *opaque)
{
	struct port *p = opaque;

	dev_lock(&p->console->v.pci.dev);
	if (virtio_running(&p->console->v) && p->tx->started) {
		transmit(p);
	}
	dev_unlock(&p->console->v.pci.dev);
}

static const struct chardev_client client = {
	.can_receive = can_receive,
	.receive = receive,
	.writable = writable,
};

/* --- control ------------------------------------------------------------------------------- */

static size_t control_message(const struct port *p, enum control_event event, uint8_t *msg)
{
	size_t len = CONTROL_BYTES;

	store_le32(msg, p->index);
	store_le16(msg + 4, (uint16_t)event);
	store_le16(msg + 6, 1);
	if (event == PORT_NAME) {
		size_t n = strlen(p->name);

		memcpy(msg + CONTROL_BYTES, p->name, n);
		len += n;
	}
	return len;
}

/* Send one message. False: there is no buffer for it. */
static bool control_send(struct virtio_console *s, struct virtqueue *q, const struct port *p,
			 enum control_event event)
{
	struct iovec iov[CHAIN_MAX];
	gpa_t gpa[CHAIN_MAX];
	struct vq_chain c = { .iov = iov, .gpa = gpa, .cap = CHAIN_MAX };
	uint8_t msg[CONTROL_BYTES + NAME_BYTES];
	size_t len = control_message(p, event, msg);

	if (!virtio_pop(&s->v, q, &c)) {
		return false;
	}
	if (c.in_bytes < CONTROL_BYTES) {
		vq_forget(q, &c);
		virtio_broken(&s->v);
		return false;
	}
	len = iov_copy_in(c.iov + c.out_count, c.in_count, 0, msg, len);
	virtio_push(&s->v, q, &c, (uint32_t)len);
	return true;
}

static bool control_send_all(struct virtio_console *s, struct virtqueue *q)
{
	for (unsigned i = 0; i < s->port_count; i++) {
		struct port *p = &s->ports[i];

		for (unsigned event = 0; p->say; event++) {
			if (!(p->say & BIT(event))) {
				continue;
			}
			if (!control_send(s, q, p, event)) {
				return false;
			}
			p->say &= ~BIT(event);
		}
	}
	return true;
}

static void control_out(struct virtio_console *s)
{
	struct virtqueue *q = virtio_vq(&s->v, QUEUE_CONTROL_RX);

	while (virtio_running(&s->v) && !control_send_all(s, q) && vq_kicks_on(q)) {
	}
	virtio_flush(&s->v, q);
}

/* The driver has the port: what is it, what is it called, and our end is open. */
static void port_ready(struct port *p)
{
	p->say |= BIT(PORT_OPEN);
	if (p->index == 0) {
		p->say |= BIT(CONSOLE_PORT);
	}
	if (p->name[0]) {
		p->say |= BIT(PORT_NAME);
	}
}

static void control_handle(struct virtio_console *s, const uint8_t *msg)
{
	uint32_t id = load_le32(msg);
	uint16_t event = load_le16(msg + 4), value = load_le16(msg + 6);

	if (event == DEVICE_READY && value == 1) {
		for (unsigned i = 0; i < s->port_count; i++) {
			s->ports[i].say |= BIT(PORT_ADD);
		}
	}
	if (id >= s->port_count) {
		return;
	}
	if (event == PORT_READY && value == 1) {
		port_ready(&s->ports[id]);
	} else if (event == PORT_OPEN) {
		s->ports[id].open = value == 1;
		if (s->ports[id].chardev && value == 1) {
			chardev_accept(s->ports[id].chardev);
		}
	}
}

static void control_in(struct virtio_console *s, struct virtqueue *q)
{
	struct iovec iov[CHAIN_MAX];
	gpa_t gpa[CHAIN_MAX];
	struct vq_chain c = { .iov = iov, .gpa = gpa, .cap = CHAIN_MAX };
	unsigned budget = q->size;

	while (budget-- && virtio_pop(&s->v, q, &c)) {
		uint8_t msg[CONTROL_BYTES];

		if (iov_copy_out(c.iov, c.out_count, 0, msg, sizeof(msg)) == sizeof(msg)) {
			control_handle(s, msg);
		}
		virtio_push(&s->v, q, &c, 0);
	}
	virtio_flush(&s->v, q);
	if (vq_kicks_on(q)) {
		virtio_again(&s->v, q);
	}
	control_out(s);
}

/* --- the class -------------------------------------------------------------------------------- */

/* The port of a data queue (5.3.2): 0 and 1 are port 0's, 4 and up the others'. */
static struct port *port_of(struct virtio_console *s, unsigned queue)
{
	return &s->ports[queue < QUEUE_CONTROL_RX ? 0 : queue / 2 - 1];
}

static bool is_control(unsigned queue)
{
	return queue == QUEUE_CONTROL_RX || queue == QUEUE_CONTROL_TX;
}

static void serve(struct virtio_dev *v, struct virtqueue *q)
{
	struct virtio_console *s = from_virtio(v);
	struct port *p;

	if (q->index == QUEUE_CONTROL_RX) {
		control_out(s);
	} else if (q->index == QUEUE_CONTROL_TX) {
		control_in(s, q);
	} else {
		p = port_of(s, q->index);
		if (q->index % 2) {
			transmit(p);
		} else if (p->chardev) {
			chardev_accept(p->chardev);
		}
	}
}

static void queue_stop(struct virtio_dev *v, struct virtqueue *q)
{
	struct port *p;

	if (is_control(q->index)) {
		return;
	}
	p = port_of(from_virtio(v), q->index);
	if (q == p->tx && p->tx_holds) {
		vq_forget(q, &p->tx_held);
		p->tx_holds = false;
	}
	if (q == p->rx && p->rx_holds) {
		vq_forget(q, &p->rx_held);
		p->rx_holds = false;
	}
}

static void reset(struct virtio_dev *v)
{
	struct virtio_console *s = from_virtio(v);

	for (unsigned i = 0; i < s->port_count; i++) {
		s->ports[i].say = 0;
		s->ports[i].open = false;
	}
}

/* A byte without queues, for a kernel in trouble (5.3.4, emerg_wr). */
static void config_write(struct virtio_dev *v, unsigned offset, uint32_t value, unsigned size)
{
	struct virtio_console *s = from_virtio(v);
	uint8_t byte = (uint8_t)value;

	if (offset == CONFIG_EMERG_WRITE && s->ports[0].chardev) {
		(void)chardev_write(s->ports[0].chardev, &byte, 1);
	}
}

static void console_free(struct virtio_dev *v)
{
	struct virtio_console *s = from_virtio(v);

	for (unsigned i = 0; s->ports && i < s->port_count; i++) {
		if (s->ports[i].chardev) {
			chardev_set_client(s->ports[i].chardev, NULL, NULL);
		}
	}
	free(s->ports);
}

static const struct virtio_class console_class = {
	.pci = VIRTIO_PCI_CLASS("virtio-console"),
	.id = VIRTIO_ID_CONSOLE,
	.class_code = 0x078000, /* communication controller, other */
	.serve = serve,
	.queue_stop = queue_stop,
	.reset = reset,
	.config_write = config_write,
	.free = console_free,
};

static void port_init(struct virtio_console *s, unsigned i, const struct virtio_console_port *o)
{
	struct port *p = &s->ports[i];

	p->console = s;
	p->index = i;
	p->chardev = o->chardev;
	if (o->name) {
		memcpy(p->name, o->name, MIN(strlen(o->name), sizeof(p->name) - 1));
	}
	p->tx_held = (struct vq_chain){ .iov = p->tx_iov, .gpa = p->tx_gpa, .cap = CHAIN_MAX };
	p->rx_held = (struct vq_chain){ .iov = p->rx_iov, .gpa = p->rx_gpa, .cap = CHAIN_MAX };
}

static void ports_connect(struct virtio_console *s)
{
	for (unsigned i = 0; i < s->port_count; i++) {
		struct port *p = &s->ports[i];

		p->rx = virtio_vq(&s->v, i ? 2 * i + 2 : QUEUE_RX);
		p->tx = virtio_vq(&s->v, i ? 2 * i + 3 : QUEUE_TX);
	}
	for (unsigned i = 0; i < s->port_count; i++) {
		if (s->ports[i].chardev) {
			chardev_set_client(s->ports[i].chardev, &client, &s->ports[i]);
		}
	}
}

int virtio_console_new(struct pci_host *h, int devfn, const struct virtio_console_options *o,
		       struct pci_dev **ret)
{
	bool multi = o->port_count > 1;
	struct virtio_setup setup = {
		.features = F_EMERG_WRITE | (multi ? F_MULTIPORT : 0),
		.queue_count = multi ? 2 * o->port_count + 2 : 2,
		.queue_size = QUEUE_SIZE,
		.config_bytes = CONFIG_BYTES,
	};
	struct virtio_console *s;
	int r;

	if (!o->port_count || o->port_count > VIRTIO_CONSOLE_PORTS_MAX) {
		return -EINVAL;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		return -ENOMEM;
	}
	s->ports = calloc(o->port_count, sizeof(*s->ports));
	if (!s->ports) {
		free(s);
		return -ENOMEM;
	}
	s->port_count = o->port_count;
	for (unsigned i = 0; i < o->port_count; i++) {
		port_init(s, i, &o->ports[i]);
	}
	store_le32(s->v.config + CONFIG_PORTS, o->port_count);
	r = virtio_init(&s->v, &console_class, h, devfn, &setup);
	if (r < 0) {
		return r;
	}
	ports_connect(s);
	if (ret) {
		*ret = &s->v.pci;
	}
	return 0;
}
