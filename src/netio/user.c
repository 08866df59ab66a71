/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User mode: libslirp plays router, DHCP and DNS server, and carries the
 * guest's connections over sockets of this process.
 *
 * Theory of operation
 *
 * libslirp wants to be asked before each wait which sockets matter
 * (slirp_pollfds_fill) and to be told after it (slirp_pollfds_poll). Its sockets
 * are kept in an epoll set of their own, which is one descriptor for the
 * loop; after anything that may have changed its mind, refresh() asks again and
 * changes the set by the difference. Frames from the guest are many, so they
 * only mark the set as stale and wake the loop once.
 *
 * Offloads: a segmented frame of the guest is one large IP packet, which
 * libslirp takes as it is once its checksum is complete. So the guest may send
 * 64 KiB at a time although nothing here segments. In the other direction
 * frames have the network's size and a checksum that is known to be right.
 *
 * Nothing here calls the device from within send or receive: frames that
 * libslirp makes are queued, and told from the loop.
 */
#include <libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/guest_log.h"
#include "netio/netio_int.h"

#define QUEUE_BYTES     MIB(1) /* frames for the guest: 16 full windows */
#define EVENTS_PER_TURN 64
#define GUEST_ADDR      0x0a00020f /* 10.0.2.15 */
#define NETWORK_ADDR    0x0a000200
#define NETWORK_MASK    0xffffff00
#define HOST_ADDR       0x0a000202
#define DNS_ADDR        0x0a000203
#define LOOPBACK_ADDR   0x7f000001
#define ETHERNET_MIN    14

/* A descriptor that libslirp asked for, in the order it asked: its index is libslirp's. */
struct user_poll {
	int fd;
	uint32_t events; /* wanted */
	uint32_t revents;
};

/* By descriptor: what the epoll set holds. */
struct user_fd {
	uint32_t events; /* 0: not in the set */
	uint32_t wanted;
	unsigned poll; /* index + 1 of its user_poll */
};

struct user_timer {
	struct timer timer;
	struct user *user;
	SlirpTimerId id;
	void *opaque;
};

struct user {
	struct netio n;
	Slirp *slirp;
	int epoll_fd, wake_fd;
	struct timer timeout;
	struct user_poll *polls;
	unsigned poll_count, poll_cap, old_count;
	int *old; /* descriptors of the last fill */
	struct user_fd *fds;
	size_t fd_count;

	struct netio_queue queue;
	bool in_turn;      /* the loop is in here: what is due is done at the turn's end */
	bool stale;        /* refresh() is due */
	bool readable_due; /* the client must be told */
	bool told;         /* it was, and has not emptied the queue yet */
	unsigned guest_offloads;
	uint8_t frame[NETIO_FRAME_MAX];
};

static struct user *from_netio(struct netio *n)
{
	return container_of(n, struct user, n);
}

static void wake(struct user *u)
{
	uint64_t one = 1;

	if (!u->in_turn) {
		(void)!write(u->wake_fd, &one, sizeof(one));
	}
}

static void mark_stale(struct user *u)
{
	if (!u->stale) {
		u->stale = true;
		wake(u);
	}
}

/* --- which sockets matter ---------------------------------------------------------------- */

static bool grow_fds(struct user *u, int fd)
{
	size_t want = u->fd_count ? u->fd_count : 64;
	struct user_fd *fds;

	while (want <= (size_t)fd) {
		want *= 2;
	}
	fds = realloc(u->fds, want * sizeof(*fds));
	if (!fds) {
		return false;
	}
	memset(fds + u->fd_count, 0, (want - u->fd_count) * sizeof(*fds));
	u->fds = fds;
	u->fd_count = want;
	return true;
}

static bool grow_polls(struct user *u)
{
	unsigned cap = u->poll_cap ? u->poll_cap * 2 : 64;
	struct user_poll *polls = realloc(u->polls, cap * sizeof(*polls));
	int *old;

	if (!polls) {
		return false;
	}
	u->polls = polls;
	old = realloc(u->old, cap * sizeof(*old));
	if (!old) {
		return false;
	}
	u->old = old;
	u->poll_cap = cap;
	return true;
}

/* libslirp's bits and epoll's for the same things. */
static const struct {
	int slirp;
	uint32_t epoll;
} event_map[] = {
	{ SLIRP_POLL_IN, EPOLLIN },   { SLIRP_POLL_OUT, EPOLLOUT }, { SLIRP_POLL_PRI, EPOLLPRI },
	{ SLIRP_POLL_ERR, EPOLLERR }, { SLIRP_POLL_HUP, EPOLLHUP },
};

static int add_poll(int fd, int events, void *opaque)
{
	struct user *u = opaque;
	uint32_t wanted = 0;

	if (fd < 0 || ((size_t)fd >= u->fd_count && !grow_fds(u, fd)) ||
	    (u->poll_count == u->poll_cap && !grow_polls(u))) {
		return -1;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(event_map); i++) {
		wanted |= events & event_map[i].slirp ? event_map[i].epoll : 0;
	}
	u->fds[fd].wanted = wanted;
	u->fds[fd].poll = u->poll_count + 1;
	u->polls[u->poll_count] = (struct user_poll){ .fd = fd, .events = wanted };
	return (int)u->poll_count++;
}

static int get_revents(int index, void *opaque)
{
	struct user *u = opaque;
	int events = 0;

	if (index < 0 || (unsigned)index >= u->poll_count) {
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(event_map); i++) {
		events |= u->polls[index].revents & event_map[i].epoll ? event_map[i].slirp : 0;
	}
	return events;
}

/* Bring the epoll set to `wanted` for one descriptor; it may have been closed and made anew. */
static void sync_fd(struct user *u, int fd)
{
	struct user_fd *f = &u->fds[fd];
	struct epoll_event e = { .events = f->wanted, .data.fd = fd };

	if (f->wanted == f->events) {
		return;
	}
	if (!f->wanted) {
		(void)epoll_ctl(u->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	} else if (epoll_ctl(u->epoll_fd, f->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e) < 0 &&
		   (errno == ENOENT || errno == EEXIST)) {
		(void)epoll_ctl(u->epoll_fd, errno == ENOENT ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd,
				&e);
	}
	f->events = f->wanted;
}

/*
 * To be woken too early costs less than to move the timer at each turn: libslirp looks at its own
 * clock then, and the next wait is the right one.
 */
static void arm_timeout(struct user *u, uint32_t timeout_ms)
{
	ns_t deadline = loop_now_ns(u->n.loop) + (ns_t)timeout_ms * NS_PER_MS;

	if (timeout_ms == UINT32_MAX) {
		timer_disarm(&u->timeout);
	} else if (!timer_armed(&u->timeout) || deadline < u->timeout.deadline_ns) {
		timer_arm(&u->timeout, deadline);
	}
}

static void refresh(struct user *u)
{
	uint32_t timeout_ms = UINT32_MAX;

	u->stale = false;
	u->old_count = u->poll_count;
	for (unsigned i = 0; i < u->old_count; i++) {
		u->old[i] = u->polls[i].fd;
		u->fds[u->old[i]].wanted = 0;
		u->fds[u->old[i]].poll = 0;
	}
	u->poll_count = 0;
	slirp_pollfds_fill(u->slirp, &timeout_ms, add_poll, u);
	for (unsigned i = 0; i < u->old_count; i++) {
		sync_fd(u, u->old[i]);
	}
	for (unsigned i = 0; i < u->poll_count; i++) {
		sync_fd(u, u->polls[i].fd);
	}
	arm_timeout(u, timeout_ms);
}

/* Tell the client of frames that have come, once until it has taken them all. */
static void tell(struct user *u)
{
	if (u->readable_due && !u->told) {
		u->readable_due = false;
		u->told = true;
		netio_tell_readable(&u->n);
	}
}

/*
 * Ask libslirp anew, and tell the client. What the client sends back makes it
 * stale again: that is seen to in the loop's next turn, for all of it at once.
 */
static void turn_end(struct user *u)
{
	u->in_turn = false; /* whatever comes up from here on has a turn of its own */
	if (u->stale) {
		refresh(u);
	}
	tell(u);
}

static void sockets_ready(void *opaque, uint32_t events)
{
	struct user *u = opaque;
	struct epoll_event ev[EVENTS_PER_TURN];
	int n = epoll_wait(u->epoll_fd, ev, EVENTS_PER_TURN, 0);

	for (unsigned i = 0; i < u->poll_count; i++) {
		u->polls[i].revents = 0;
	}
	for (int i = 0; i < n; i++) {
		unsigned poll = u->fds[ev[i].data.fd].poll;

		if (poll) {
			u->polls[poll - 1].revents = ev[i].events;
		}
	}
	u->in_turn = u->stale = true;
	slirp_pollfds_poll(u->slirp, 0, get_revents, u);
	turn_end(u);
}

static void woken(void *opaque, uint32_t events)
{
	struct user *u = opaque;

	u->in_turn = true;
	turn_end(u);
}

static void timed_out(void *opaque)
{
	sockets_ready(opaque, 0);
}

/* --- what libslirp calls -------------------------------------------------------------------- */

static ssize_t slirp_send_packet(const void *buf, size_t len, void *opaque)
{
	struct user *u = opaque;
	uint8_t hdr[NETIO_HDR_BYTES] = { 0 };
	struct iovec iov[2] = { { hdr, sizeof(hdr) }, { (void *)(uintptr_t)buf, len } };

	if (u->guest_offloads & NETIO_OFFLOAD_CSUM) {
		hdr[NETIO_HDR_FLAGS] = NETIO_DATA_VALID;
	}
	hdr[NETIO_HDR_NUM_BUFFERS] = 1;
	/* A full queue drops, as a network would. */
	if (netio_queue_put(&u->queue, iov, 2) && !u->told && !u->readable_due) {
		u->readable_due = true;
		wake(u);
	}
	return (ssize_t)len;
}

static void slirp_guest_error(const char *msg, void *opaque)
{
	guest_log("user network: %.200s", msg);
}

static int64_t slirp_clock(void *opaque)
{
	struct user *u = opaque;

	return loop_now_ns(u->n.loop);
}

static void timer_due(void *opaque)
{
	struct user_timer *t = opaque;

	slirp_handle_timer(t->user->slirp, t->id, t->opaque);
	mark_stale(t->user);
}

static void *slirp_timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	struct user *u = opaque;
	struct user_timer *t = calloc(1, sizeof(*t));

	if (t) {
		t->user = u;
		t->id = id;
		t->opaque = cb_opaque;
		timer_init(&t->timer, u->n.loop, timer_due, t);
	}
	return t;
}

static void slirp_timer_free(void *timer, void *opaque)
{
	struct user_timer *t = timer;

	if (t) {
		timer_done(&t->timer);
		free(t);
	}
}

static void slirp_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	struct user_timer *t = timer;

	if (t) {
		timer_arm(&t->timer, expire_ms * NS_PER_MS);
	}
}

static void slirp_register_fd(int fd, void *opaque)
{
}

/* About to be closed: its number may come back as another socket's. */
static void slirp_unregister_fd(int fd, void *opaque)
{
	struct user *u = opaque;

	if (fd >= 0 && (size_t)fd < u->fd_count && u->fds[fd].events) {
		(void)epoll_ctl(u->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		u->fds[fd] = (struct user_fd){ 0 };
	}
}

static void slirp_notify(void *opaque)
{
	mark_stale(opaque);
}

static const SlirpCb callbacks = {
	.send_packet = slirp_send_packet,
	.guest_error = slirp_guest_error,
	.clock_get_ns = slirp_clock,
	.timer_new_opaque = slirp_timer_new,
	.timer_free = slirp_timer_free,
	.timer_mod = slirp_timer_mod,
	.register_poll_fd = slirp_register_fd,
	.unregister_poll_fd = slirp_unregister_fd,
	.notify = slirp_notify,
};

/* --- what the device calls -------------------------------------------------------------------- */

/* Copy `iov` into one piece; 0: too long. */
static size_t flatten(uint8_t *to, size_t size, const struct iovec *iov, unsigned count)
{
	size_t len = 0;

	for (unsigned i = 0; i < count; i++) {
		if (iov[i].iov_len > size - len) {
			return 0;
		}
		memcpy(to + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	return len;
}

static ssize_t user_send(struct netio *n, unsigned queue, const struct iovec *iov, unsigned count)
{
	struct user *u = from_netio(n);
	size_t len = flatten(u->frame, sizeof(u->frame), iov, count);
	uint8_t *frame = u->frame + NETIO_HDR_BYTES;

	if (len < NETIO_HDR_BYTES + ETHERNET_MIN) {
		return -EMSGSIZE;
	}
	if (netio_complete_csum(u->frame, frame, len - NETIO_HDR_BYTES) < 0) {
		return -EINVAL;
	}
	slirp_input(u->slirp, frame, (int)(len - NETIO_HDR_BYTES));
	mark_stale(u);
	return (ssize_t)len;
}

static ssize_t user_receive(struct netio *n, unsigned queue, const struct iovec *iov,
			    unsigned count)
{
	struct user *u = from_netio(n);
	ssize_t r = netio_queue_get(&u->queue, iov, count);

	if (r == -EAGAIN) {
		u->told = false;
	}
	return r;
}

static void user_set_offloads(struct netio *n, unsigned offloads)
{
	from_netio(n)->guest_offloads = offloads;
}

static void user_free(struct netio *n)
{
	struct user *u = from_netio(n);

	if (u->slirp) {
		slirp_cleanup(u->slirp);
	}
	timer_done(&u->timeout);
	if (u->epoll_fd >= 0) {
		loop_unwatch_fd(n->loop, u->epoll_fd);
	}
	if (u->wake_fd >= 0) {
		loop_unwatch_fd(n->loop, u->wake_fd);
	}
	fd_closep(&u->epoll_fd);
	fd_closep(&u->wake_fd);
	netio_queue_done(&u->queue);
	free(u->polls);
	free(u->old);
	free(u->fds);
	free(u);
}

static const struct netio_class user_class = {
	.send = user_send,
	.receive = user_receive,
	.set_offloads = user_set_offloads,
	.free = user_free,
};

/* --- setting up --------------------------------------------------------------------------------
 */

static struct in_addr ipv4(uint32_t host_order)
{
	return (struct in_addr){ .s_addr = htonl(host_order) };
}

/* fec0::`last` */
static struct in6_addr site_local(uint8_t last)
{
	struct in6_addr a = { .s6_addr = { 0xfe, 0xc0 } };

	a.s6_addr[15] = last;
	return a;
}

static Slirp *start_slirp(struct user *u, const struct netio_user_options *o)
{
	SlirpConfig c = {
		.version = 4,
		.restricted = o->restricted,
		.in_enabled = true,
		.vnetwork = ipv4(NETWORK_ADDR),
		.vnetmask = ipv4(NETWORK_MASK),
		.vhost = ipv4(HOST_ADDR),
		.vdhcp_start = ipv4(GUEST_ADDR),
		.vnameserver = ipv4(DNS_ADDR),
		.in6_enabled = true,
		.vprefix_addr6 = site_local(0),
		.vprefix_len = 64,
		.vhost6 = site_local(2),
		.vnameserver6 = site_local(3),
	};

	return slirp_new(&c, &callbacks, u);
}

static int add_forward(struct user *u, const struct netio_forward *f, char *error, size_t size)
{
	struct in_addr host = ipv4(f->host_addr ? f->host_addr : LOOPBACK_ADDR);
	char text[INET_ADDRSTRLEN];
	int err;

	errno = 0;
	if (slirp_add_hostfwd(u->slirp, f->udp, host, f->host_port, ipv4(GUEST_ADDR),
			      f->guest_port) == 0) {
		return 0;
	}
	err = errno ? errno : EADDRINUSE;
	inet_ntop(AF_INET, &host, text, sizeof(text));
	if (error && size) {
		snprintf(error, size,
			 "user network: cannot forward %s port %u of %s: %s; choose another port",
			 f->udp ? "UDP" : "TCP", f->host_port, text, strerror(err));
	}
	return -err;
}

static int user_start(struct user *u, const struct netio_user_options *o, char *error, size_t size)
{
	struct loop *l = u->n.loop;
	int r;

	timer_init(&u->timeout, l, timed_out, u);
	u->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	u->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->epoll_fd < 0 || u->wake_fd < 0) {
		return -errno;
	}
	r = netio_queue_init(&u->queue, QUEUE_BYTES);
	if (!r) {
		r = loop_watch_fd(l, u->epoll_fd, EPOLLIN, sockets_ready, u);
	}
	if (!r) {
		/* Edges only: it is never read. */
		r = loop_watch_fd(l, u->wake_fd, EPOLLIN | EPOLLET, woken, u);
	}
	if (r < 0) {
		return r;
	}
	u->slirp = start_slirp(u, o);
	if (!u->slirp) {
		return -ENOMEM;
	}
	for (unsigned i = 0; i < o->forward_count && !r; i++) {
		r = add_forward(u, &o->forwards[i], error, size);
	}
	return r;
}

int netio_user_new(struct loop *loop, const struct netio_user_options *o, char *error,
		   size_t error_size, struct netio **ret)
{
	struct user *u = calloc(1, sizeof(*u));
	int r;

	if (error && error_size) {
		error[0] = '\0';
	}
	if (!u) {
		return -ENOMEM;
	}
	u->n = (struct netio){ .cls = &user_class, .loop = loop, .queues = 1, .link_up = true };
	u->n.offloads =
		NETIO_OFFLOAD_CSUM | NETIO_OFFLOAD_TSO4 | NETIO_OFFLOAD_TSO6 | NETIO_OFFLOAD_ECN;
	u->epoll_fd = u->wake_fd = -1;
	r = user_start(u, o, error, error_size);
	if (r < 0) {
		user_free(&u->n);
		if (error && error_size && !error[0]) {
			snprintf(error, error_size, "user network: cannot be set up: %s",
				 strerror(-r));
		}
		return r;
	}
	refresh(u);
	*ret = &u->n;
	return 0;
}
