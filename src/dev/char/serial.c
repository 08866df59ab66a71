/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PC16550D. Source: National Semiconductor's datasheet, chapter 8.
 *
 * Theory of operation. A byte that is written leaves at once, so the
 * transmitter is empty again at the next look; only when the chardev takes
 * nothing do bytes wait in the transmit FIFO, until chardev's writable().
 * The line has no speed: divisor and parity are stored and mean nothing.
 *
 * Interrupts: `thr_pending` is the edge-like "holding register is empty"
 * condition: set when it becomes empty or is enabled while empty, cleared
 * by reading IIR while it is the reported source, or by writing a byte.
 * The other three are levels derived from LSR, the receive FIFO and MSR. The
 * line follows irq_update(). Received bytes below the trigger level
 * are reported as a character timeout without waiting for the time to pass:
 * nothing more comes as long as the guest has not looked.
 */
#include "dev/char/serial.h"

#include <stdlib.h>

#include "dev/bus.h"
#include "dev/char/chardev.h"

#define FIFO_BYTES 16

enum reg { RBR_THR_DLL, IER_DLM, IIR_FCR, LCR, MCR, LSR, MSR, SCR, REG_COUNT };

#define IER_RX       BIT(0)
#define IER_THR      BIT(1)
#define IER_LINE     BIT(2)
#define IER_MODEM    BIT(3)
#define IER_WRITABLE 0x0f

#define IIR_NONE         0x01
#define IIR_MODEM        0x00
#define IIR_THR          0x02
#define IIR_RX           0x04
#define IIR_LINE         0x06
#define IIR_RX_TIMEOUT   0x0c
#define IIR_FIFO_ENABLED 0xc0

#define FCR_ENABLE   BIT(0)
#define FCR_CLEAR_RX BIT(1)
#define FCR_CLEAR_TX BIT(2)
#define FCR_KEPT     0xc9 /* enable, DMA mode, trigger */

#define LCR_DLAB BIT(7)

#define MCR_DTR      BIT(0)
#define MCR_RTS      BIT(1)
#define MCR_OUT1     BIT(2)
#define MCR_OUT2     BIT(3)
#define MCR_LOOP     BIT(4)
#define MCR_WRITABLE 0x1f

#define LSR_DATA      BIT(0)
#define LSR_OVERRUN   BIT(1)
#define LSR_ERRORS    0x1e
#define LSR_THR_EMPTY BIT(5)
#define LSR_IDLE      BIT(6)

#define MSR_DELTA_CTS BIT(0)
#define MSR_DELTA_DSR BIT(1)
#define MSR_TRAIL_RI  BIT(2)
#define MSR_DELTA_DCD BIT(3)
#define MSR_DELTAS    0x0f
#define MSR_CTS       BIT(4)
#define MSR_DSR       BIT(5)
#define MSR_RI        BIT(6)
#define MSR_DCD       BIT(7)
#define MSR_CONNECTED (MSR_CTS | MSR_DSR | MSR_DCD)

struct fifo {
	uint8_t byte[FIFO_BYTES];
	unsigned start, count;
};

struct serial {
	struct dev dev;
	struct dev_window window;
	struct chardev *chardev;
	unsigned irq;
	bool irq_level;
	bool thr_pending;
	uint8_t ier, fcr, lcr, mcr, msr, scr;
	uint8_t errors; /* LSR's, until it is read */
	uint16_t divisor;
	struct fifo rx, tx;
};

static void fifo_put(struct fifo *f, uint8_t byte)
{
	f->byte[(f->start + f->count++) % FIFO_BYTES] = byte;
}

static uint8_t fifo_get(struct fifo *f)
{
	uint8_t byte = f->byte[f->start];

	f->start = (f->start + 1) % FIFO_BYTES;
	f->count--;
	return byte;
}

static unsigned fifo_size(const struct serial *s)
{
	return s->fcr & FCR_ENABLE ? FIFO_BYTES : 1;
}

static unsigned rx_trigger(const struct serial *s)
{
	static const uint8_t level[4] = { 1, 4, 8, 14 };

	return s->fcr & FCR_ENABLE ? level[s->fcr >> 6] : 1;
}

/* The source with the highest priority (datasheet table III). */
static uint8_t interrupt_id(const struct serial *s)
{
	if ((s->ier & IER_LINE) && s->errors) {
		return IIR_LINE;
	}
	if ((s->ier & IER_RX) && s->rx.count) {
		return s->rx.count >= rx_trigger(s) ? IIR_RX : IIR_RX_TIMEOUT;
	}
	if ((s->ier & IER_THR) && s->thr_pending) {
		return IIR_THR;
	}
	if ((s->ier & IER_MODEM) && (s->msr & MSR_DELTAS)) {
		return IIR_MODEM;
	}
	return IIR_NONE;
}

static void irq_update(struct serial *s)
{
	bool level = interrupt_id(s) != IIR_NONE;

	if (level != s->irq_level) {
		s->irq_level = level;
		dev_irq_set(&s->dev, s->irq, level);
	}
}

/* ---- receive ---- */

static void rx_put(struct serial *s, uint8_t byte)
{
	if (s->rx.count < fifo_size(s)) {
		fifo_put(&s->rx, byte);
		return;
	}
	s->errors |= LSR_OVERRUN;
	if (!(s->fcr & FCR_ENABLE)) { /* without a FIFO the new byte replaces the old */
		s->rx.count = 0;
		fifo_put(&s->rx, byte);
	}
}

static size_t can_receive(void *opaque)
{
	struct serial *s = opaque;
	size_t n = 0;

	dev_lock(&s->dev);
	if (!(s->mcr & MCR_LOOP) && s->rx.count < fifo_size(s)) {
		n = fifo_size(s) - s->rx.count;
	}
	dev_unlock(&s->dev);
	return n;
}

static void receive(void *opaque, const uint8_t *buf, size_t len)
{
	struct serial *s = opaque;

	dev_lock(&s->dev);
	for (size_t i = 0; i < len; i++) {
		rx_put(s, buf[i]);
	}
	irq_update(s);
	dev_unlock(&s->dev);
}

/* There is room again. */
static void rx_accept(struct serial *s)
{
	if (s->chardev) {
		chardev_accept(s->chardev);
	}
}

static uint8_t rbr_read(struct serial *s)
{
	uint8_t byte;

	if (!s->rx.count) {
		return 0;
	}
	byte = fifo_get(&s->rx);
	if (!s->rx.count) {
		rx_accept(s);
	}
	irq_update(s);
	return byte;
}

/* ---- transmit ---- */

/* Give the FIFO to the chardev as far as it takes it. */
static void tx_drain(struct serial *s)
{
	if (!s->tx.count) {
		return;
	}
	while (s->tx.count) {
		uint8_t byte = s->tx.byte[s->tx.start];

		if (s->chardev && !chardev_write(s->chardev, &byte, 1)) {
			return;
		}
		fifo_get(&s->tx);
	}
	s->thr_pending = true;
}

static void writable(void *opaque)
{
	struct serial *s = opaque;

	dev_lock(&s->dev);
	tx_drain(s);
	irq_update(s);
	dev_unlock(&s->dev);
}

static void thr_write(struct serial *s, uint8_t byte)
{
	if (s->thr_pending && !(s->fcr & FCR_ENABLE)) {
		/*
		 * The line drops while the byte is on its way. With a FIFO the following bytes of a
		 * burst would find it low already, so the edge is spared there.
		 */
		s->thr_pending = false;
		irq_update(s);
	}
	if (s->mcr & MCR_LOOP) {
		rx_put(s, byte);
		s->thr_pending = true;
	} else if (s->tx.count < fifo_size(s)) {
		s->thr_pending &= s->tx.count == 0;
		fifo_put(&s->tx, byte);
		tx_drain(s);
		s->thr_pending &= s->tx.count == 0;
	}
	irq_update(s);
}

/* ---- registers ---- */

static uint8_t iir_read(struct serial *s)
{
	uint8_t id = interrupt_id(s);

	if (id == IIR_THR) {
		s->thr_pending = false;
		irq_update(s);
	}
	return id | (s->fcr & FCR_ENABLE ? IIR_FIFO_ENABLED : 0);
}

static uint8_t lsr_read(struct serial *s)
{
	uint8_t v = s->errors;

	v |= s->rx.count ? LSR_DATA : 0;
	v |= s->tx.count ? 0 : LSR_THR_EMPTY | LSR_IDLE;
	if (s->errors) {
		s->errors = 0;
		irq_update(s);
	}
	return v;
}

static uint8_t msr_read(struct serial *s)
{
	uint8_t v = s->msr;

	if (v & MSR_DELTAS) {
		s->msr &= (uint8_t)~MSR_DELTAS;
		irq_update(s);
	}
	return v;
}

static void ier_write(struct serial *s, uint8_t value)
{
	uint8_t before = s->ier;

	s->ier = value & IER_WRITABLE;
	if ((s->ier & ~before & IER_THR) && !s->tx.count) {
		s->thr_pending = true;
	}
	irq_update(s);
}

static void fcr_write(struct serial *s, uint8_t value)
{
	bool toggled = (value ^ s->fcr) & FCR_ENABLE;

	if (toggled || (value & FCR_CLEAR_RX)) {
		s->rx.count = 0;
		rx_accept(s);
	}
	if ((toggled || (value & FCR_CLEAR_TX)) && s->tx.count) {
		s->tx.count = 0;
		s->thr_pending = true;
	}
	s->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
	irq_update(s);
}

/* Modem inputs: looped back from our own outputs, or a partner that is always there. */
static void msr_update(struct serial *s)
{
	uint8_t now = MSR_CONNECTED, changed;

	if (s->mcr & MCR_LOOP) {
		now = (s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
		      (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0);
	}
	changed = (s->msr ^ now) & 0xf0;
	s->msr = now | (s->msr & MSR_DELTAS);
	s->msr |= changed & MSR_CTS ? MSR_DELTA_CTS : 0;
	s->msr |= changed & MSR_DSR ? MSR_DELTA_DSR : 0;
	s->msr |= changed & MSR_DCD ? MSR_DELTA_DCD : 0;
	s->msr |= (changed & MSR_RI) && !(now & MSR_RI) ? MSR_TRAIL_RI : 0;
}

static void mcr_write(struct serial *s, uint8_t value)
{
	bool loop_ended = (s->mcr & MCR_LOOP) && !(value & MCR_LOOP);

	s->mcr = value & MCR_WRITABLE;
	msr_update(s);
	if (loop_ended) {
		rx_accept(s);
	}
	irq_update(s);
}

static uint64_t serial_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	struct serial *s = container_of(d, struct serial, dev);

	switch ((enum reg)offset) {
	case RBR_THR_DLL:
		return s->lcr & LCR_DLAB ? s->divisor & 0xff : rbr_read(s);
	case IER_DLM:
		return s->lcr & LCR_DLAB ? s->divisor >> 8 : s->ier;
	case IIR_FCR:
		return iir_read(s);
	case LCR:
		return s->lcr;
	case MCR:
		return s->mcr;
	case LSR:
		return lsr_read(s);
	case MSR:
		return msr_read(s);
	default:
		return s->scr;
	}
}

static void serial_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
			 unsigned size)
{
	struct serial *s = container_of(d, struct serial, dev);
	uint8_t v = (uint8_t)value;

	switch ((enum reg)offset) {
	case RBR_THR_DLL:
		if (s->lcr & LCR_DLAB) {
			s->divisor = (uint16_t)((s->divisor & 0xff00) | v);
		} else {
			thr_write(s, v);
		}
		break;
	case IER_DLM:
		if (s->lcr & LCR_DLAB) {
			s->divisor = (uint16_t)((s->divisor & 0xff) | v << 8);
		} else {
			ier_write(s, v);
		}
		break;
	case IIR_FCR:
		fcr_write(s, v);
		break;
	case LCR:
		s->lcr = v;
		break;
	case MCR:
		mcr_write(s, v);
		break;
	case SCR:
		s->scr = v;
		break;
	default: /* LSR and MSR: read only in normal operation */
		break;
	}
}

static void serial_reset(struct dev *d)
{
	struct serial *s = container_of(d, struct serial, dev);

	s->ier = s->fcr = s->lcr = s->mcr = s->errors = 0;
	s->divisor = 1;
	s->thr_pending = false;
	s->rx.count = s->tx.count = 0;
	s->msr = MSR_CONNECTED;
	irq_update(s);
	rx_accept(s);
}

static void serial_done(struct dev *d)
{
	struct serial *s = container_of(d, struct serial, dev);

	if (s->chardev) {
		chardev_set_client(s->chardev, NULL, NULL);
	}
	free(s);
}

static const struct dev_class serial_class = {
	.name = "serial",
	.done = serial_done,
	.reset = serial_reset,
	.read = serial_read,
	.write = serial_write,
};

static const struct chardev_client serial_client = {
	.can_receive = can_receive,
	.receive = receive,
	.writable = writable,
};

int serial_new(struct dev_env *env, uint16_t port, unsigned irq, struct chardev *c,
	       struct dev **ret)
{
	struct serial *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		return -ENOMEM;
	}
	dev_init(&s->dev, &serial_class, env, NULL);
	s->irq = irq;
	dev_window_init(&s->window, &s->dev, 0, DEV_PIO, REG_COUNT, 1, 1);
	r = bus_map(env->bus, &s->window, port);
	if (r < 0) {
		dev_free(&s->dev);
		return r;
	}
	s->chardev = c;
	dev_reset(&s->dev);
	if (c) {
		chardev_set_client(c, &serial_client, s);
	}
	*ret = &s->dev;
	return 0;
}
