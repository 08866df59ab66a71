/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Back ends: the pair, checksums, and user mode as a guest sees it: a small guest of
 * frames in this file gets an address, opens a connection to a server on the
 * host's loopback, and is reached through a forwarded port.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/test.h"
#include "netio/netio_int.h"

#define HDR       NETIO_HDR_BYTES
#define ETH       14
#define IP        20
#define WAIT_NS   (10 * NS_PER_S)
#define FRAME_MAX 70000

static const uint8_t guest_mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

struct guest {
	struct loop *loop;
	struct netio *n;
	bool readable;
	uint8_t tx[FRAME_MAX], rx[FRAME_MAX];
	size_t rx_len; /* without the header */
	uint8_t gateway_mac[6];
	uint32_t seq, ack;
	uint16_t sport, dport;
};

static void on_readable(void *opaque)
{
	((struct guest *)opaque)->readable = true;
}

static const struct netio_client client = { .readable = on_readable };

static bool guest_new(struct guest *g, const struct netio_user_options *o)
{
	char error[256];

	memset(g, 0, sizeof(*g));
	if (loop_new(NULL, &g->loop) < 0 ||
	    netio_user_new(g->loop, o, error, sizeof(error), &g->n) < 0) {
		return false;
	}
	netio_set_client(g->n, &client, g);
	return true;
}

static void guest_free(struct guest *g)
{
	netio_free(g->n);
	loop_free(g->loop);
}

/* The next frame into g->rx; false: none within the time. */
static bool next_frame(struct guest *g)
{
	struct iovec iov = { g->rx, sizeof(g->rx) };
	ns_t until = clock_now_ns() + WAIT_NS;

	while (clock_now_ns() < until) {
		ssize_t n = g->readable ? netio_receive(g->n, 0, &iov, 1) : -EAGAIN;

		if (n > 0) {
			g->rx_len = (size_t)n - HDR;
			return true;
		}
		g->readable = false;
		loop_poll(g->loop, 50 * NS_PER_MS);
	}
	return false;
}

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16) {
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

static uint32_t sum_be(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	}
	return sum;
}

/* Ethernet and IPv4 around what is behind them; the checksum of `proto` is left to the back end. */
static bool send_ip(struct guest *g, uint8_t proto, uint32_t src, uint32_t dst, size_t len,
		    unsigned csum_at)
{
	uint8_t *eth = g->tx + HDR, *ip = eth + ETH, *l4 = ip + IP;
	struct iovec iov = { g->tx, HDR + ETH + IP + len };

	memset(g->tx, 0, HDR);
	g->tx[NETIO_HDR_FLAGS] = NETIO_NEEDS_CSUM;
	store_le16(g->tx + NETIO_HDR_CSUM_START, ETH + IP);
	store_le16(g->tx + NETIO_HDR_CSUM_OFFSET, (uint16_t)csum_at);
	memset(eth, 0xff, 6);
	if (g->gateway_mac[0]) {
		memcpy(eth, g->gateway_mac, 6);
	}
	memcpy(eth + 6, guest_mac, 6);
	put16(eth + 12, 0x0800);
	memset(ip, 0, IP);
	ip[0] = 0x45;
	put16(ip + 2, (unsigned)(IP + len));
	ip[8] = 64;
	ip[9] = proto;
	put32(ip + 12, src);
	put32(ip + 16, dst);
	put16(ip + 10, (uint16_t)~fold(sum_be(ip, IP)));
	put16(l4 + csum_at, fold(sum_be(ip + 12, 8) + proto + (uint32_t)len));
	return netio_send(g->n, 0, &iov, 1) == (ssize_t)iov.iov_len;
}

/* --- the pair and checksums ----------------------------------------------------------------------
 */

static void test_pair(struct test *t)
{
	uint8_t frame[200], got[200];
	struct iovec out[2] = { { frame, 50 }, { frame + 50, 50 } }, in = { got, sizeof(got) };
	struct guest g = { 0 };
	struct netio *a, *b;

	CHECK(t, loop_new(NULL, &g.loop) == 0 && netio_pair_new(g.loop, &a, &b) == 0);
	netio_set_client(b, &client, &g);
	for (unsigned i = 0; i < sizeof(frame); i++) {
		frame[i] = (uint8_t)i;
	}
	CHECK_EQ(t, netio_send(a, 0, out, 2), 100);
	CHECK(t, !g.readable); /* told from the loop, not from within */
	loop_poll(g.loop, 0);
	CHECK(t, g.readable);
	CHECK_EQ(t, netio_receive(b, 0, &in, 1), 100);
	CHECK(t, memcmp(frame, got, 100) == 0);
	CHECK_EQ(t, netio_receive(b, 0, &in, 1), -EAGAIN);
	CHECK_EQ(t, netio_send(a, 0, out, 2), 100);
	in.iov_len = 20;
	CHECK_EQ(t, netio_receive(b, 0, &in, 1), -EMSGSIZE);
	CHECK_EQ(t, netio_receive(b, 0, &in, 1), -EAGAIN);
	out[0].iov_len = 5;
	CHECK_EQ(t, netio_send(a, 0, out, 1), -EMSGSIZE);
	netio_free(b);
	out[0].iov_len = 50;
	CHECK_EQ(t, netio_send(a, 0, out, 2), 100); /* nobody there: gone */
	netio_free(a);
	loop_free(g.loop);
}

static void test_checksum(struct test *t)
{
	uint8_t hdr[HDR] = { NETIO_NEEDS_CSUM }, frame[64];

	for (size_t len = 2; len <= 40; len++) {
		for (unsigned i = 0; i < sizeof(frame); i++) {
			frame[i] = (uint8_t)(i * 37 + len);
		}
		put16(frame + 4, 0x1234); /* the pseudo header's sum */
		store_le16(hdr + NETIO_HDR_CSUM_START, 4);
		store_le16(hdr + NETIO_HDR_CSUM_OFFSET, 0);
		CHECK_EQ(t, netio_complete_csum(hdr, frame, 4 + len), 0);
		/* Summed up again with 0x1234 in place of the field it is all ones. */
		CHECK_EQ(t, fold(sum_be(frame + 4, len) + 0x1234), 0xffff);
	}
	store_le16(hdr + NETIO_HDR_CSUM_START, 65);
	CHECK_EQ(t, netio_complete_csum(hdr, frame, 64), -EINVAL);
	store_le16(hdr + NETIO_HDR_CSUM_START, 60);
	store_le16(hdr + NETIO_HDR_CSUM_OFFSET, 3);
	CHECK_EQ(t, netio_complete_csum(hdr, frame, 64), -EINVAL);
	store_le16(hdr + NETIO_HDR_CSUM_OFFSET, 0xffff);
	CHECK_EQ(t, netio_complete_csum(hdr, frame, 64), -EINVAL);
}

/* --- user mode
 * ------------------------------------------------------------------------------------ */

#define BOOTP_BYTES 240

/* A DHCP message of `type`; *ret_addr: what the answer offers. */
static bool dhcp(struct guest *g, uint8_t type, uint32_t want, uint8_t want_type,
		 uint32_t *ret_addr)
{
	uint8_t *udp = g->tx + HDR + ETH + IP, *b = udp + 8, *o = b + BOOTP_BYTES;

	memset(udp, 0, 8 + BOOTP_BYTES + 60);
	put16(udp, 68);
	put16(udp + 2, 67);
	put16(udp + 4, 8 + BOOTP_BYTES + 60);
	b[0] = 1;
	b[1] = 1;
	b[2] = 6;
	put32(b + 4, 0x12345678);
	memcpy(b + 28, guest_mac, 6);
	put32(b + 236, 0x63825363);
	*o++ = 53;
	*o++ = 1;
	*o++ = type;
	if (want) {
		*o++ = 50;
		*o++ = 4;
		put32(o, want);
		o += 4;
	}
	*o = 255;
	if (!send_ip(g, 17, 0, 0xffffffff, 8 + BOOTP_BYTES + 60, 6)) {
		return false;
	}
	while (next_frame(g)) {
		const uint8_t *eth = g->rx + HDR, *ip = eth + ETH, *r = ip + IP + 8;

		if (be16(eth + 12) != 0x0800 || ip[9] != 17 || be16(ip + IP + 2) != 68) {
			continue;
		}
		*ret_addr = be32(r + 16);
		memcpy(g->gateway_mac, eth + 6, 6);
		return r[BOOTP_BYTES] == 53 && r[BOOTP_BYTES + 2] == want_type;
	}
	return false;
}

static bool get_address(struct guest *g)
{
	uint32_t addr;

	return dhcp(g, 1, 0, 2, &addr) && addr == 0x0a00020f && dhcp(g, 3, addr, 5, &addr) &&
	       addr == 0x0a00020f;
}

static void test_dhcp(struct test *t)
{
	struct netio_user_options o = { 0 };
	struct guest *g = malloc(sizeof(*g));

	CHECK(t, g && guest_new(g, &o));
	CHECK(t, netio_offloads(g->n) & NETIO_OFFLOAD_TSO4);
	CHECK(t, get_address(g));
	guest_free(g);
	free(g);
}

#define FIN 1
#define SYN 2
#define ACK 16

static bool tcp_send(struct guest *g, uint8_t flags, uint32_t dst, const void *data, size_t len)
{
	uint8_t *tcp = g->tx + HDR + ETH + IP;

	memset(tcp, 0, 20);
	put16(tcp, g->sport);
	put16(tcp + 2, g->dport);
	put32(tcp + 4, g->seq);
	put32(tcp + 8, g->ack);
	tcp[12] = 0x50;
	tcp[13] = flags;
	put16(tcp + 14, 65535);
	if (len) {
		memcpy(tcp + 20, data, len);
	}
	g->seq += (uint32_t)len + (flags & (SYN | FIN) ? 1 : 0);
	return send_ip(g, 6, 0x0a00020f, dst, 20 + len, 16);
}

/* A segment for us: its payload; answers ARP on the way. NULL: nothing came. */
static const uint8_t *tcp_receive(struct guest *g, uint8_t *ret_flags, size_t *ret_len)
{
	while (next_frame(g)) {
		uint8_t *eth = g->rx + HDR, *ip = eth + ETH, *tcp = ip + IP;
		struct iovec iov = { g->rx, HDR + ETH + 28 };

		if (be16(eth + 12) == 0x0806 && be16(ip + 6) == 1) {
			memset(g->rx, 0, HDR);
			memcpy(ip + 18, ip + 8, 10); /* the asker becomes the target */
			put32(ip + 14, 0x0a00020f);
			memcpy(ip + 8, guest_mac, 6);
			put16(ip + 6, 2);
			memcpy(eth, ip + 18, 6);
			memcpy(eth + 6, guest_mac, 6);
			if (netio_send(g->n, 0, &iov, 1) < 0) {
				return NULL;
			}
			continue;
		}
		if (be16(eth + 12) != 0x0800 || ip[9] != 6) {
			continue;
		}
		g->dport = be16(tcp);
		*ret_flags = tcp[13];
		*ret_len = (size_t)(be16(ip + 2) - IP - (tcp[12] >> 4) * 4);
		if (*ret_len && be32(tcp + 4) != g->ack && g->ack) {
			continue; /* an old one again */
		}
		g->ack = be32(tcp + 4) + (uint32_t)*ret_len + (*ret_flags & (SYN | FIN) ? 1 : 0);
		return tcp + (tcp[12] >> 4) * 4;
	}
	return NULL;
}

static int listen_loopback(uint16_t *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 1) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0) {
		return -1;
	}
	*ret_port = ntohs(a.sin_port);
	return fd;
}

/* Read `want` bytes on the host's side while the loop runs; how many came. */
static size_t host_read(struct guest *g, int fd, uint8_t *buf, size_t want)
{
	ns_t until = clock_now_ns() + WAIT_NS;
	size_t got = 0;

	while (got < want && clock_now_ns() < until) {
		ssize_t n = recv(fd, buf + got, want - got, MSG_DONTWAIT);

		if (n > 0) {
			got += (size_t)n;
		} else {
			loop_poll(g->loop, NS_PER_MS);
		}
	}
	return got;
}

static void test_tcp_out(struct test *t)
{
	struct netio_user_options o = { 0 };
	struct guest *g = malloc(sizeof(*g));
	uint8_t *data = malloc(40000), *got = malloc(40000), flags;
	const uint8_t *payload;
	size_t len, sum = 0;
	uint16_t port;
	int server = listen_loopback(&port), fd;

	CHECK(t, g && data && got && server >= 0 && guest_new(g, &o) && get_address(g));
	g->sport = 40000;
	g->dport = port;
	g->seq = 1000;
	CHECK(t, tcp_send(g, SYN, 0x0a000202, NULL, 0));
	CHECK(t, tcp_receive(g, &flags, &len) && flags == (SYN | ACK));
	CHECK(t, tcp_send(g, ACK, 0x0a000202, NULL, 0));
	fd = accept(server, NULL, NULL);
	CHECK(t, fd >= 0);
	/* One large frame, as segmentation offload has it, with its checksum still to be made. */
	for (unsigned i = 0; i < 40000; i++) {
		data[i] = (uint8_t)(i * 13);
	}
	CHECK(t, tcp_send(g, ACK, 0x0a000202, data, 40000));
	CHECK_EQ(t, host_read(g, fd, got, 40000), 40000);
	CHECK(t, memcmp(data, got, 40000) == 0);
	/* And back: several segments. */
	CHECK(t, send(fd, data, 10000, 0) == 10000);
	while (sum < 10000) {
		payload = tcp_receive(g, &flags, &len);
		CHECK(t, payload && sum + len <= 10000 && memcmp(payload, data + sum, len) == 0);
		sum += len;
		if (len) {
			CHECK(t, tcp_send(g, ACK, 0x0a000202, NULL, 0));
		}
	}
	close(fd);
	close(server);
	guest_free(g);
	free(g);
	free(data);
	free(got);
}

static void test_forward(struct test *t)
{
	struct netio_forward f = { .guest_port = 80 };
	struct netio_user_options o = { .forwards = &f, .forward_count = 1 };
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct guest *g = malloc(sizeof(*g)), *other = malloc(sizeof(*other));
	uint8_t flags, got[5];
	size_t len;
	int probe = listen_loopback(&f.host_port);
	AUTO_FD fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	close(probe); /* a port that was free a moment ago */
	CHECK(t, g && other && fd >= 0 && guest_new(g, &o) && get_address(g));
	CHECK(t, !guest_new(other, &o)); /* taken */
	loop_free(other->loop);
	a.sin_port = htons(f.host_port);
	CHECK(t, connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 || errno == EINPROGRESS);
	CHECK(t, tcp_receive(g, &flags, &len) && flags == SYN);
	g->sport = 80;
	g->seq = 5000;
	CHECK(t, tcp_send(g, SYN | ACK, 0x0a000202, NULL, 0));
	CHECK(t, tcp_receive(g, &flags, &len) && (flags & ACK));
	CHECK(t, tcp_send(g, ACK, 0x0a000202, "hello", 5));
	CHECK_EQ(t, host_read(g, fd, got, 5), 5);
	CHECK(t, memcmp(got, "hello", 5) == 0);
	guest_free(g);
	free(g);
	free(other);
}

static void test_forward_error(struct test *t)
{
	struct netio_forward f = { .guest_port = 80 };
	struct netio_user_options o = { .forwards = &f, .forward_count = 1 };
	char error[256] = "", want[16];
	struct loop *loop;
	struct netio *n;
	int server = listen_loopback(&f.host_port);

	CHECK(t, server >= 0 && loop_new(NULL, &loop) == 0);
	CHECK(t, netio_user_new(loop, &o, error, sizeof(error), &n) < 0);
	snprintf(want, sizeof(want), "port %u ", f.host_port);
	CHECK(t, strstr(error, want) && strstr(error, "in use"));
	loop_free(loop);
	close(server);
}

/* Frames that are none: dropped, with an error or without, never a crash. */
static void test_garbage(struct test *t)
{
	struct netio_user_options o = { 0 };
	struct guest *g = malloc(sizeof(*g));
	uint32_t seed = 1;

	CHECK(t, g && guest_new(g, &o));
	for (unsigned i = 0; i < 20000; i++) {
		size_t len = i % 200;
		struct iovec iov = { g->tx, len };

		for (size_t k = 0; k < len; k++) {
			seed = seed * 1664525 + 1013904223;
			g->tx[k] = (uint8_t)(seed >> 24);
		}
		if (len > HDR + ETH + 2) {
			put16(g->tx + HDR + 12, i % 3 == 0 ? 0x0800 : i % 3 == 1 ? 0x86dd : 0x0806);
			g->tx[HDR + ETH] = i % 3 == 1 ? 0x60 : 0x45;
			g->tx[NETIO_HDR_FLAGS] = i % 2;
		}
		netio_send(g->n, 0, &iov, 1);
		if (i % 64 == 0) {
			loop_poll(g->loop, 0);
		}
	}
	guest_free(g);
	free(g);
}

/* A router solicitation is answered: there is IPv6. */
static void test_ipv6(struct test *t)
{
	struct netio_user_options o = { 0 };
	struct guest *g = malloc(sizeof(*g));
	uint8_t *eth, *ip, *icmp;
	struct iovec iov;
	bool found = false;

	CHECK(t, g && guest_new(g, &o));
	eth = g->tx + HDR;
	ip = eth + ETH;
	icmp = ip + 40;
	iov = (struct iovec){ g->tx, HDR + ETH + 40 + 8 };
	memcpy(eth, "\x33\x33\0\0\0\2", 6);
	memcpy(eth + 6, guest_mac, 6);
	put16(eth + 12, 0x86dd);
	ip[0] = 0x60;
	put16(ip + 4, 8);
	ip[6] = 58;
	ip[7] = 255;
	memcpy(ip + 8, "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
	memcpy(ip + 24, "\xff\2\0\0\0\0\0\0\0\0\0\0\0\0\0\2", 16);
	icmp[0] = 133;
	g->tx[NETIO_HDR_FLAGS] = NETIO_NEEDS_CSUM;
	store_le16(g->tx + NETIO_HDR_CSUM_START, ETH + 40);
	store_le16(g->tx + NETIO_HDR_CSUM_OFFSET, 2);
	put16(icmp + 2, fold(sum_be(ip + 8, 32) + 8 + 58));
	CHECK(t, netio_send(g->n, 0, &iov, 1) > 0);
	while (!found && next_frame(g)) {
		const uint8_t *r = g->rx + HDR;

		found = be16(r + 12) == 0x86dd && r[ETH + 40] == 134;
	}
	CHECK(t, found);
	guest_free(g);
	free(g);
}

static void test_tap_errors(struct test *t)
{
	char error[256] = "";
	struct loop *loop;
	struct netio *n;

	CHECK(t, loop_new(NULL, &loop) == 0);
	CHECK_EQ(t, netio_tap_new(loop, "lodge-none", 1, error, sizeof(error), &n), -ENODEV);
	CHECK(t, strstr(error, "lodge-none") && strstr(error, "no such interface"));
	CHECK_EQ(t, netio_tap_new(loop, "a-name-that-is-too-long", 1, error, sizeof(error), &n),
		 -EINVAL);
	loop_free(loop);
}

/* --- a real tap, in a network namespace of our own
 * ------------------------------------------------- */

#define TAP_ADDR 0x0a090901 /* 10.9.9.1 */

/* Make a persistent tap with an address, and set it up. */
static bool make_tap(const char *name, bool multi)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) };
	struct sockaddr_in *a = (struct sockaddr_in *)&ifr.ifr_addr;
	AUTO_FD fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	AUTO_FD s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (multi) {
		ifr.ifr_flags |= (short)IFF_MULTI_QUEUE;
	}
	memcpy(ifr.ifr_name, name, strlen(name));
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0) {
		return false;
	}
	*a = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(TAP_ADDR) };
	if (ioctl(s, SIOCSIFADDR, &ifr) < 0) {
		return false;
	}
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	return ioctl(s, SIOCSIFFLAGS, &ifr) == 0;
}

/* Ask for the tap's address on `queue`: the kernel must answer, on whichever queue. */
static bool arp_works(struct guest *g, unsigned queue)
{
	uint8_t *eth = g->tx + HDR, *arp = eth + ETH;
	struct iovec out = { g->tx, HDR + ETH + 28 }, in = { g->rx, sizeof(g->rx) };
	ns_t until = clock_now_ns() + WAIT_NS;

	memset(g->tx, 0, out.iov_len);
	memset(eth, 0xff, 6);
	memcpy(eth + 6, guest_mac, 6);
	put16(eth + 12, 0x0806);
	memcpy(arp, "\0\1\10\0\6\4\0\1", 8);
	memcpy(arp + 8, guest_mac, 6);
	put32(arp + 14, TAP_ADDR + 1);
	put32(arp + 24, TAP_ADDR);
	while (clock_now_ns() < until) {
		/* Again and again: an interface that has just come up may lose the first. */
		if (netio_send(g->n, queue, &out, 1) != (ssize_t)out.iov_len) {
			return false;
		}
		loop_poll(g->loop, 50 * NS_PER_MS);
		for (unsigned q = 0; g->readable && q < netio_queues(g->n); q++) {
			while (netio_receive(g->n, q, &in, 1) > 0) {
				const uint8_t *r = g->rx + HDR + ETH;

				if (be16(r - 2) == 0x0806 && r[7] == 2 &&
				    be32(r + 14) == TAP_ADDR) {
					return true;
				}
			}
		}
		g->readable = false;
	}
	return false;
}

static void test_tap(struct test *t)
{
	struct guest *g = calloc(1, sizeof(*g));
	char error[256] = "";
	struct netio *other;

	CHECK(t, g && loop_new(NULL, &g->loop) == 0);
	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		SKIP(t, "no network namespace to be had");
	}
	if (!make_tap("tap0", false)) {
		SKIP(t, "no tap to be had");
	}
	CHECK_EQ(t, netio_tap_new(g->loop, "tap0", 1, error, sizeof(error), &g->n), 0);
	netio_set_client(g->n, &client, g);
	CHECK(t, netio_offloads(g->n) & NETIO_OFFLOAD_TSO4);
	netio_set_offloads(g->n, NETIO_OFFLOAD_CSUM | NETIO_OFFLOAD_TSO4);
	CHECK(t, arp_works(g, 0));
	CHECK_EQ(t, netio_tap_new(g->loop, "tap0", 1, error, sizeof(error), &other), -EBUSY);
	CHECK(t, strstr(error, "in use"));
	netio_free(g->n);
	CHECK_EQ(t, netio_tap_new(g->loop, "tap0", 2, error, sizeof(error), &other), -EINVAL);
	CHECK_EQ(t, netio_tap_new(g->loop, "lo", 1, error, sizeof(error), &other), -EINVAL);
	CHECK(t, make_tap("tap1", true));
	CHECK_EQ(t, netio_tap_new(g->loop, "tap1", 1, error, sizeof(error), &other), 0);
	netio_free(other);
	CHECK_EQ(t, netio_tap_new(g->loop, "tap1", 3, error, sizeof(error), &g->n), 0);
	CHECK_EQ(t, netio_queues(g->n), 3);
	guest_free(g);
	free(g);
}

static const struct test_case cases[] = {
	{ "pair", test_pair },
	{ "checksum", test_checksum },
	{ "dhcp", test_dhcp },
	{ "tcp-out", test_tcp_out },
	{ "forward", test_forward },
	{ "forward-error", test_forward_error },
	{ "garbage", test_garbage },
	{ "ipv6", test_ipv6 },
	{ "tap-errors", test_tap_errors },
	{ "tap", test_tap }, /* the last: it leaves the host's network */
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
