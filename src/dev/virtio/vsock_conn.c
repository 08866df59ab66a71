/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vsock's connections: each is a UNIX socket on the host's side and a pair of
 * ports on the guest's.
 *
 * Theory of operation
 *
 *	host program connects          guest connects
 *	       |                             |
 *	   GREETING --"CONNECT n"--> REQUESTED --RESPONSE--> ESTABLISHED
 *	                                                       |
 *	        gone <---- RST, or both sides shut and all passed on
 *
 * Towards the guest bytes are read from the socket right into a receive buffer,
 * as many as the guest has credit for; without buffer or credit the socket is
 * not read. From the guest they are written to the socket at once; what it does
 * not take is kept, at most VSOCK_BUF_BYTES, and the guest is told of room
 * only as the socket takes more. A guest that sends beyond its credit is reset.
 *
 * The loop is level-triggered, so a socket with nothing to do is not watched
 * at all: a hang-up would be reported for ever.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "dev/virtio/iov_int.h"
#include "dev/virtio/virtio_vsock_int.h"

#define PACKETS_A_TURN 16
#define PORT_FIRST     (1u << 30)
#define PORT_LAST      ((1u << 31) - 1)

static void conn_ready(void *opaque, uint32_t events);

static unsigned bucket_of(uint32_t host_port, uint32_t guest_port)
{
	return (host_port * 31 + guest_port) % VSOCK_BUCKETS;
}

struct vsock_conn *vsock_find(struct virtio_vsock *s, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *c = s->buckets[bucket_of(host_port, guest_port)];

	while (c && (c->host_port != host_port || c->guest_port != guest_port)) {
		c = c->next;
	}
	return c;
}

static struct loop *loop_of(const struct virtio_vsock *s)
{
	return s->v.pci.dev.env->loop;
}

static void link_in(struct vsock_conn *c)
{
	struct vsock_conn **head = &c->dev->buckets[bucket_of(c->host_port, c->guest_port)];

	c->next = *head;
	*head = c;
}

static void link_out(struct vsock_conn *c)
{
	struct vsock_conn **at = &c->dev->buckets[bucket_of(c->host_port, c->guest_port)];

	while (*at != c) {
		at = &(*at)->next;
	}
	*at = c->next;
}

/* Takes `fd` over. NULL: too many, or no memory; then it is closed. */
static struct vsock_conn *conn_new(struct virtio_vsock *s, int fd, enum vsock_state state,
				   uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *c = s->conn_count < VSOCK_CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c) {
		close(fd);
		return NULL;
	}
	c->dev = s;
	c->fd = fd;
	c->state = state;
	c->host_port = host_port;
	c->guest_port = guest_port;
	link_in(c);
	s->conn_count++;
	return c;
}

static void conn_free(struct vsock_conn *c)
{
	link_out(c);
	c->dev->conn_count--;
	loop_unwatch_fd(loop_of(c->dev), c->fd);
	close(c->fd);
	free(c->buf);
	free(c);
}

static void conn_reset(struct vsock_conn *c)
{
	if (c->state != VSOCK_GREETING) {
		vsock_reset_unknown(c->dev, c->host_port, c->guest_port);
	}
	conn_free(c);
}

void vsock_close_all(struct virtio_vsock *s)
{
	for (unsigned i = 0; i < VSOCK_BUCKETS; i++) {
		while (s->buckets[i]) {
			conn_free(s->buckets[i]);
		}
	}
}

static uint32_t credit(const struct vsock_conn *c)
{
	uint32_t on_way = c->tx_cnt - c->peer_fwd_cnt;

	return on_way < c->peer_buf_alloc ? c->peer_buf_alloc - on_way : 0;
}

static bool reads_socket(const struct vsock_conn *c)
{
	return c->state == VSOCK_ESTABLISHED && !c->host_eof && !c->guest_shut_rcv;
}

/* Watch for what can be done now; for nothing: not at all. */
static void update_watch(struct vsock_conn *c)
{
	uint32_t events = 0;

	if (c->state == VSOCK_GREETING || (reads_socket(c) && !c->wants_guest)) {
		events |= EPOLLIN;
	}
	if (c->buf_len) {
		events |= EPOLLOUT;
	}
	if (events == c->events) {
		return;
	}
	c->events = events;
	if (!events) {
		loop_unwatch_fd(loop_of(c->dev), c->fd);
	} else if (loop_watch_fd(loop_of(c->dev), c->fd, events, conn_ready, c) < 0) {
		c->events = 0; /* no memory: it will be tried again with the next packet */
	}
}

/* --- to the guest ---------------------------------------------------------------------------- */

/* s->rx is there: send it as a packet of this connection. */
static void send_packet(struct vsock_conn *c, enum vsock_op op, uint32_t flags, uint32_t len)
{
	const struct vsock_hdr h = {
		.src_cid = VSOCK_CID_HOST,
		.dst_cid = c->dev->cid,
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.len = len,
		.type = VSOCK_TYPE_STREAM,
		.op = op,
		.flags = flags,
		.buf_alloc = VSOCK_BUF_BYTES,
		.fwd_cnt = c->fwd_cnt,
	};

	c->fwd_told = c->fwd_cnt;
	vsock_rx_send(c->dev, &h);
}

/* Operations that are due, in the order of their numbers. False: no receive buffer. */
static bool send_operations(struct vsock_conn *c)
{
	for (unsigned op = 0; c->say; op++) {
		if (!(c->say & BIT(op))) {
			continue;
		}
		if (!vsock_rx_ready(c->dev)) {
			return false;
		}
		c->say &= ~BIT(op);
		send_packet(c, op, op == VSOCK_SHUTDOWN ? VSOCK_SHUT_SEND : 0, 0);
	}
	return true;
}

/* The data part of s->rx, `max` bytes at most; 0: a buffer that can hold a header only. */
static unsigned rx_space(struct virtio_vsock *s, struct iovec *iov, uint32_t max)
{
	const struct vq_chain *c = &s->rx;
	unsigned count = c->in_count;
	uint32_t room = c->in_bytes - VSOCK_HDR_BYTES;
	struct iovec *first;

	memcpy(iov, c->iov + c->out_count, count * sizeof(*iov));
	first = iov_trim_front(iov, &count, VSOCK_HDR_BYTES);
	if (room > max) {
		iov_trim_back(first, &count, room - max);
	}
	memmove(iov, first, count * sizeof(*iov));
	return count;
}

enum progress { GO_ON, STOP, WAIT_GUEST, LOST };

/* One packet of data from the socket to the guest. */
static enum progress send_data(struct vsock_conn *c)
{
	struct iovec iov[VSOCK_CHAIN_MAX];
	uint32_t max = credit(c);
	unsigned count;
	ssize_t n;

	if (!max || !vsock_rx_ready(c->dev)) {
		return WAIT_GUEST;
	}
	count = rx_space(c->dev, iov, max);
	if (!count) {
		virtio_broken(&c->dev->v);
		return WAIT_GUEST;
	}
	n = readv(c->fd, iov, (int)count);
	if (n < 0) {
		return errno == EAGAIN || errno == EINTR ? STOP : LOST;
	}
	if (n == 0) {
		c->host_eof = true;
		c->say |= BIT(VSOCK_SHUTDOWN);
		return send_operations(c) ? STOP : WAIT_GUEST;
	}
	c->tx_cnt += (uint32_t)n;
	send_packet(c, VSOCK_RW, 0, (uint32_t)n);
	return GO_ON;
}

void vsock_pump(struct vsock_conn *c)
{
	enum progress p = send_operations(c) ? GO_ON : WAIT_GUEST;

	for (unsigned i = 0; i < PACKETS_A_TURN && p == GO_ON && reads_socket(c); i++) {
		p = send_data(c);
	}
	if (p == LOST) {
		conn_reset(c);
		return;
	}
	c->wants_guest = p == WAIT_GUEST;
	update_watch(c);
}

/* Buffers have come: serve all that wait for some. */
void vsock_pump_all(struct virtio_vsock *s)
{
	for (unsigned i = 0; i < VSOCK_BUCKETS; i++) {
		struct vsock_conn *c = s->buckets[i], *next;

		for (; c; c = next) {
			next = c->next;
			if (c->wants_guest || c->say) {
				vsock_pump(c);
			}
		}
	}
}

/* --- from the guest ----------------------------------------------------------------------------
 */

/* Bytes went to the socket: may the guest have more? Is a shut direction now empty? */
static void passed_on(struct vsock_conn *c, uint32_t len)
{
	c->fwd_cnt += len;
	if (c->fwd_cnt - c->fwd_told >= VSOCK_BUF_BYTES / 2) {
		c->say |= BIT(VSOCK_CREDIT_UPDATE);
	}
}

static ssize_t socket_send(struct vsock_conn *c, struct iovec *iov, unsigned count)
{
	const struct msghdr m = { .msg_iov = iov, .msg_iovlen = count };
	ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0) {
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	}
	return n;
}

/* All of the guest's data was passed on, and it will send no more. True: the connection is gone. */
static bool finish_if_shut(struct vsock_conn *c)
{
	if (!c->guest_shut_send || c->buf_len) {
		return false;
	}
	if (c->guest_shut_rcv) {
		conn_reset(c);
		return true;
	}
	(void)shutdown(c->fd, SHUT_WR);
	return false;
}

/* Keep what the socket did not take; the caller has checked the credit, so it fits. */
static bool keep(struct vsock_conn *c, const struct iovec *data, unsigned count, size_t skip)
{
	size_t len = iov_bytes(data, count) - skip;

	if (!c->buf) {
		c->buf = malloc(VSOCK_BUF_BYTES);
	}
	if (!c->buf) {
		return false;
	}
	if (c->buf_at + c->buf_len + len > VSOCK_BUF_BYTES) {
		memmove(c->buf, c->buf + c->buf_at, c->buf_len);
		c->buf_at = 0;
	}
	iov_copy_out(data, count, skip, c->buf + c->buf_at + c->buf_len, len);
	c->buf_len += (uint32_t)len;
	return true;
}

/* False: the connection must be reset. */
static bool take_data(struct vsock_conn *c, uint32_t len, struct iovec *data, unsigned count)
{
	ssize_t n = 0;

	if (c->state != VSOCK_ESTABLISHED || c->guest_shut_send ||
	    len > VSOCK_BUF_BYTES - (c->rx_cnt - c->fwd_cnt)) {
		return false;
	}
	c->rx_cnt += len;
	if (!c->buf_len && len) {
		n = socket_send(c, data, count);
	}
	if (n < 0) {
		return false;
	}
	passed_on(c, (uint32_t)n);
	return (uint32_t)n == len || keep(c, data, count, (size_t)n);
}

/* The socket takes again. True: the connection is gone. */
static bool buffer_flush(struct vsock_conn *c)
{
	struct iovec iov = { c->buf + c->buf_at, c->buf_len };
	ssize_t n = c->buf_len ? socket_send(c, &iov, 1) : 0;

	if (n < 0) {
		conn_reset(c);
		return true;
	}
	c->buf_at += (uint32_t)n;
	c->buf_len -= (uint32_t)n;
	if (!c->buf_len) {
		c->buf_at = 0;
	}
	passed_on(c, (uint32_t)n);
	return finish_if_shut(c);
}

static void guest_connects(struct virtio_vsock *s, const struct vsock_hdr *h)
{
	int fd = s->connect(s->connect_opaque, h->dst_port);
	struct vsock_conn *c = NULL;

	if (fd >= 0) {
		c = conn_new(s, fd, VSOCK_ESTABLISHED, h->dst_port, h->src_port);
	}
	if (!c) {
		vsock_reset_unknown(s, h->dst_port, h->src_port);
		return;
	}
	c->peer_buf_alloc = h->buf_alloc;
	c->peer_fwd_cnt = h->fwd_cnt;
	c->say = BIT(VSOCK_RESPONSE);
	vsock_pump(c);
}

/* The guest accepts: tell the program. False: it has gone. */
static bool guest_accepts(struct vsock_conn *c)
{
	char line[VSOCK_LINE_BYTES];
	struct iovec iov = { line, 0 };
	int n = snprintf(line, sizeof(line), "OK %u\n", c->host_port);

	if (c->state != VSOCK_REQUESTED) {
		return false;
	}
	iov.iov_len = (size_t)n;
	if (socket_send(c, &iov, 1) != n) {
		return false;
	}
	c->state = VSOCK_ESTABLISHED;
	return true;
}

/* True: the connection is gone. */
static bool guest_shuts(struct vsock_conn *c, uint32_t flags)
{
	c->guest_shut_rcv |= flags & VSOCK_SHUT_RCV;
	c->guest_shut_send |= (flags & VSOCK_SHUT_SEND) != 0;
	return finish_if_shut(c);
}

void vsock_packet(struct virtio_vsock *s, const struct vsock_hdr *h, struct iovec *data,
		  unsigned count)
{
	struct vsock_conn *c = vsock_find(s, h->dst_port, h->src_port);
	bool ok = true;

	if (!c || c->state == VSOCK_GREETING) {
		if (h->op == VSOCK_REQUEST) {
			guest_connects(s, h);
		} else if (h->op != VSOCK_RST) {
			vsock_reset_unknown(s, h->dst_port, h->src_port);
		}
		return;
	}
	c->peer_buf_alloc = h->buf_alloc;
	c->peer_fwd_cnt = h->fwd_cnt;
	switch (h->op) {
	case VSOCK_RESPONSE:
		ok = guest_accepts(c);
		break;
	case VSOCK_RST:
		conn_free(c);
		return;
	case VSOCK_SHUTDOWN:
		if (guest_shuts(c, h->flags)) {
			return;
		}
		break;
	case VSOCK_RW:
		ok = take_data(c, h->len, data, count);
		break;
	case VSOCK_CREDIT_UPDATE:
		break;
	case VSOCK_CREDIT_REQUEST:
		c->say |= BIT(VSOCK_CREDIT_UPDATE);
		break;
	default: /* a second request, or none of the operations that there are */
		ok = false;
	}
	if (ok) {
		vsock_pump(c);
	} else {
		conn_reset(c);
	}
}

/* --- from the host ------------------------------------------------------------------------------
 */

/* The port of a "CONNECT <port>\n" line; false: it is none. */
static bool parse_greeting(const char *line, size_t len, uint32_t *ret_port)
{
	static const char word[] = "CONNECT ";
	uint64_t port = 0;
	size_t at = sizeof(word) - 1;

	if (len <= at + 1 || memcmp(line, word, at) != 0) {
		return false;
	}
	for (; at < len - 1; at++) {
		if (line[at] < '0' || line[at] > '9') {
			return false;
		}
		port = port * 10 + (uint64_t)(line[at] - '0');
		if (port > UINT32_MAX) {
			return false;
		}
	}
	*ret_port = (uint32_t)port;
	return true;
}

static uint32_t free_port(struct virtio_vsock *s, uint32_t guest_port)
{
	uint32_t port;

	/* There are far fewer connections than ports. */
	do {
		port = s->next_port++;
		if (s->next_port > PORT_LAST) {
			s->next_port = PORT_FIRST;
		}
	} while (vsock_find(s, port, guest_port));
	return port;
}

/*
 * Collect a program's first line, a byte at a time so that what comes behind it stays in the
 * socket. 1: it is whole, 0: not yet, -errno: none will come.
 */
static int read_line(struct vsock_conn *c)
{
	while (c->line_len < sizeof(c->line)) {
		ssize_t n = recv(c->fd, &c->line[c->line_len], 1, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			return 0;
		}
		if (n <= 0) {
			return -ECONNRESET;
		}
		if (c->line[c->line_len++] == '\n') {
			return 1;
		}
	}
	return -EMSGSIZE;
}

static void greeting(struct vsock_conn *c)
{
	int r = read_line(c);
	uint32_t port;

	if (r == 0) {
		return;
	}
	if (r < 0 || !parse_greeting(c->line, c->line_len, &port) || !virtio_running(&c->dev->v)) {
		conn_free(c);
		return;
	}
	link_out(c);
	c->guest_port = port;
	c->host_port = free_port(c->dev, port);
	link_in(c);
	c->state = VSOCK_REQUESTED;
	c->say = BIT(VSOCK_REQUEST);
	vsock_pump(c);
}

static void conn_ready(void *opaque, uint32_t events)
{
	struct vsock_conn *c = opaque;
	struct virtio_vsock *s = c->dev;

	dev_lock(&s->v.pci.dev);
	if (s->drop_all) {
		/* The device was reset; its work() closes us. */
	} else if (c->state == VSOCK_GREETING) {
		greeting(c);
	} else if (!(c->events & EPOLLOUT) || !buffer_flush(c)) {
		vsock_pump(c);
	}
	vsock_flush(s);
	dev_unlock(&s->v.pci.dev);
}

static void accept_ready(void *opaque, uint32_t events)
{
	struct virtio_vsock *s = opaque;
	int fd;

	dev_lock(&s->v.pci.dev);
	while ((fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		/* Until the greeting it has a port that no packet can name twice. */
		struct vsock_conn *c = conn_new(s, fd, VSOCK_GREETING, free_port(s, 0), 0);

		if (c) {
			update_watch(c);
		}
	}
	dev_unlock(&s->v.pci.dev);
}

int vsock_listen(struct virtio_vsock *s, int listen_fd)
{
	/* Edges only: out of descriptors, the next connection tries again. */
	int r = loop_watch_fd(loop_of(s), listen_fd, EPOLLIN | EPOLLET, accept_ready, s);

	if (r == 0) {
		s->listen_fd = listen_fd;
	}
	return r;
}
