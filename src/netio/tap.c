/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An existing tap interface, opened with a virtio-net header of 12 bytes in
 * front of each frame, so that offloads pass through to the kernel. One
 * descriptor a queue, watched edge-triggered: an edge is told to the client once,
 * and again only after its receive has said -EAGAIN.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "netio/netio_int.h"

#define TAP_QUEUES_MAX 8

/* Of linux/if_tun.h since 6.2; kernels without them refuse the call. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct tap {
	struct netio n;
	int fds[TAP_QUEUES_MAX];
	bool blocked;
};

static struct tap *from_netio(struct netio *n)
{
	return container_of(n, struct tap, n);
}

static unsigned tun_flags(unsigned offloads)
{
	static const struct {
		unsigned offload, tun;
	} map[] = {
		{ NETIO_OFFLOAD_CSUM, TUN_F_CSUM },
		{ NETIO_OFFLOAD_TSO4, TUN_F_TSO4 },
		{ NETIO_OFFLOAD_TSO6, TUN_F_TSO6 },
		{ NETIO_OFFLOAD_ECN, TUN_F_TSO_ECN },
		{ NETIO_OFFLOAD_USO, TUN_F_USO4 | TUN_F_USO6 },
	};
	unsigned flags = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(map); i++) {
		flags |= offloads & map[i].offload ? map[i].tun : 0;
	}
	return flags;
}

static void tap_ready(void *opaque, uint32_t events)
{
	struct tap *t = opaque;

	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
		netio_tell_readable(&t->n);
	}
	if ((events & EPOLLOUT) && t->blocked) {
		t->blocked = false;
		netio_tell_writable(&t->n);
	}
}

static ssize_t tap_send(struct netio *n, unsigned queue, const struct iovec *iov, unsigned count)
{
	struct tap *t = from_netio(n);
	ssize_t r;

	do {
		r = writev(t->fds[queue % n->queues], iov, (int)count);
	} while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN) {
		t->blocked = true;
	}
	return r < 0 ? -errno : r;
}

static ssize_t tap_receive(struct netio *n, unsigned queue, const struct iovec *iov, unsigned count)
{
	struct tap *t = from_netio(n);
	ssize_t r;

	do {
		r = readv(t->fds[queue % n->queues], iov, (int)count);
	} while (r < 0 && errno == EINTR);
	/* Anything else (the interface went down or away) gives nothing either. */
	return r < 0 ? -EAGAIN : r;
}

static void tap_set_offloads(struct netio *n, unsigned offloads)
{
	struct tap *t = from_netio(n);

	for (unsigned i = 0; i < n->queues; i++) {
		(void)ioctl(t->fds[i], TUNSETOFFLOAD, tun_flags(offloads));
	}
}

static void tap_free(struct netio *n)
{
	struct tap *t = from_netio(n);

	for (unsigned i = 0; i < n->queues; i++) {
		if (t->fds[i] >= 0) {
			loop_unwatch_fd(n->loop, t->fds[i]);
		}
		fd_closep(&t->fds[i]);
	}
	free(t);
}

static const struct netio_class tap_class = {
	.send = tap_send,
	.receive = tap_receive,
	.set_offloads = tap_set_offloads,
	.free = tap_free,
};

static int open_queue(const char *ifname, bool multi)
{
	struct ifreq ifr = { 0 };
	int hdr = NETIO_HDR_BYTES;
	AUTO_FD fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		return -errno;
	}
	memcpy(ifr.ifr_name, ifname, strlen(ifname));
	ifr.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	if (multi) {
		ifr.ifr_flags |= (short)IFF_MULTI_QUEUE;
	}
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &hdr) < 0) {
		return -errno;
	}
	return TAKE_FD(fd);
}

static unsigned probe_offloads(int fd)
{
	unsigned some =
		NETIO_OFFLOAD_CSUM | NETIO_OFFLOAD_TSO4 | NETIO_OFFLOAD_TSO6 | NETIO_OFFLOAD_ECN;
	unsigned offloads = 0;

	if (ioctl(fd, TUNSETOFFLOAD, tun_flags(some | NETIO_OFFLOAD_USO)) == 0) {
		offloads = some | NETIO_OFFLOAD_USO;
	} else if (ioctl(fd, TUNSETOFFLOAD, tun_flags(some)) == 0) {
		offloads = some;
	}
	(void)ioctl(fd, TUNSETOFFLOAD, 0);
	return offloads;
}

static int explain(char *error, size_t size, const char *ifname, int err)
{
	const char *why = strerror(-err);

	if (err == -EPERM) {
		why = "not allowed; make it for this user: ip tuntap add NAME mode tap user USER "
		      "vnet_hdr";
	} else if (err == -EACCES) {
		why = "this user may not open /dev/net/tun; let it: chmod 666 /dev/net/tun";
	} else if (err == -EBUSY) {
		why = "in use by another program; stop that, or give another tap";
	} else if (err == -EINVAL) {
		why = "not a tap interface, or made with other flags; make one: ip tuntap add NAME "
		      "mode tap user USER vnet_hdr";
	} else if (err == -ENODEV) {
		why = "no such interface; make it: ip tuntap add NAME mode tap user USER vnet_hdr";
	} else if (err == -ENOENT) {
		why = "/dev/net/tun is missing; load the tun module";
	}
	if (error && size) {
		snprintf(error, size, "tap %s: %s", ifname, why);
	}
	return err;
}

static int open_all(struct tap *t, const char *ifname, unsigned queues)
{
	for (unsigned i = 0; i < queues; i++) {
		int r = open_queue(ifname, queues > 1);

		if (r == -EINVAL && queues == 1) {
			r = open_queue(ifname, true); /* it was made with multi_queue */
		}
		if (r < 0) {
			return r;
		}
		t->fds[i] = r;
		r = loop_watch_fd(t->n.loop, r, EPOLLIN | EPOLLOUT | EPOLLET, tap_ready, t);
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

int netio_tap_new(struct loop *loop, const char *ifname, unsigned queues, char *error,
		  size_t error_size, struct netio **ret)
{
	struct tap *t;
	int r;

	if (!queues || queues > TAP_QUEUES_MAX || !ifname[0] || strlen(ifname) >= IFNAMSIZ) {
		return explain(error, error_size, ifname, -EINVAL);
	}
	/* TUNSETIFF would make an interface that is not there, if it may. */
	if (!if_nametoindex(ifname)) {
		return explain(error, error_size, ifname, -ENODEV);
	}
	t = calloc(1, sizeof(*t));
	if (!t) {
		return explain(error, error_size, ifname, -ENOMEM);
	}
	t->n = (struct netio){ .cls = &tap_class, .loop = loop, .queues = queues, .link_up = true };
	for (unsigned i = 0; i < TAP_QUEUES_MAX; i++) {
		t->fds[i] = -1;
	}
	r = open_all(t, ifname, queues);
	if (r < 0) {
		tap_free(&t->n);
		return explain(error, error_size, ifname, r);
	}
	t->n.offloads = probe_offloads(t->fds[0]);
	*ret = &t->n;
	return 0;
}
