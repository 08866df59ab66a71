/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio devices (virtio 1.2, PCI transport, modern only): what the board
 * calls to place them. Each constructor puts the device on `h` at `devfn`
 * (-1: the next free slot); on success the host owns it and *ret, if not
 * NULL, borrows it. 0 or -errno: -EINVAL for an option out of range,
 * -ENOMEM, and what pci_dev_init() gives. On failure nothing is left behind.
 *
 * Back ends are borrowed and outlive the device. They and the device share
 * env->loop: queues are served on the loop's thread only. Devices are made and
 * freed, and dev_reset() is called, on that thread (or before the loop runs);
 * dev_reset() waits for I/O in flight. A guest may reset at any time on any
 * thread: device_status then reads as 0 only after the I/O has ended.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct block;
struct chardev;
struct netio;
struct pci_dev;
struct pci_host;

#define VIRTIO_BLK_QUEUES_MAX    16
#define VIRTIO_NET_PAIRS_MAX     8
#define VIRTIO_CONSOLE_PORTS_MAX 16
#define VIRTIO_BLK_SERIAL_BYTES  20

struct virtio_blk_options {
	struct block *block;
	const char *serial;  /* copied, cut at 20 bytes; NULL: empty */
	unsigned queues;     /* 0: one; usually the number of vCPUs */
	unsigned queue_size; /* 0: 256; else a power of two, 4 to 1024 */
};
int virtio_blk_new(struct pci_host *h, int devfn, const struct virtio_blk_options *o,
		   struct pci_dev **ret);

struct virtio_net_options {
	struct netio *netio;
	uint8_t mac[6];
	uint16_t mtu;        /* 0: not told to the guest */
	unsigned queue_size; /* 0: 256; else a power of two, 16 to 1024 */
};
/* As many queue pairs as netio_queues() says (at most VIRTIO_NET_PAIRS_MAX). */
int virtio_net_new(struct pci_host *h, int devfn, const struct virtio_net_options *o,
		   struct pci_dev **ret);

struct virtio_console_port {
	struct chardev *chardev; /* becomes its client; NULL: output vanishes */
	const char *name;        /* copied; NULL: none. Not for the console port */
};
struct virtio_console_options {
	/* Port 0 is a console (hvc0); the others are /dev/virtio-ports/NAME. */
	const struct virtio_console_port *ports;
	unsigned port_count; /* 1 to VIRTIO_CONSOLE_PORTS_MAX; 1: no multiport */
};
int virtio_console_new(struct pci_host *h, int devfn, const struct virtio_console_options *o,
		       struct pci_dev **ret);

struct virtio_rng_options {
	uint64_t bytes_per_s; /* 0: 1 MiB/s; more is delayed */
};
/* `o` NULL: defaults. */
int virtio_rng_new(struct pci_host *h, int devfn, const struct virtio_rng_options *o,
		   struct pci_dev **ret);

/* What the guest last said on the statistics queue; a value it did not give is UINT64_MAX. */
struct virtio_balloon_stats {
	uint64_t swap_in, swap_out, major_faults, minor_faults, free_bytes, total_bytes,
		available_bytes, disk_caches_bytes, hugetlb_alloc, hugetlb_fail;
	int64_t updated_ns; /* loop's clock; 0: never */
};
struct virtio_balloon_options {
	bool no_deflate_on_oom;
};
/* `o` NULL: defaults (deflate on out-of-memory, free page reporting, statistics). */
int virtio_balloon_new(struct pci_host *h, int devfn, const struct virtio_balloon_options *o,
		       struct pci_dev **ret);
/* Ask the guest to give up `bytes` of its memory (cut to whole pages, to all RAM at the most). */
void virtio_balloon_set_target(struct pci_dev *p, uint64_t bytes);
/* How much it has given up so far. */
uint64_t virtio_balloon_actual(struct pci_dev *p);
/* Ask for fresh statistics (the answer comes later, if the guest has a driver) / read the last. */
void virtio_balloon_ask_stats(struct pci_dev *p);
void virtio_balloon_get_stats(struct pci_dev *p, struct virtio_balloon_stats *ret);

struct virtio_vsock_options {
	uint32_t cid; /* the guest's context id, 3 or more */
	/*
	 * A listening UNIX socket, non-blocking, borrowed: a program connects, sends
	 * "CONNECT <port>\n", gets "OK <port>\n" once the guest accepts, then is joined to the
	 * guest's port.
	 */
	int listen_fd;
	/*
	 * The guest connects to a port of the host: a connected, non-blocking descriptor, which
	 * is the device's from then on, or -errno. On the loop's thread; must not block.
	 */
	int (*connect)(void *opaque, uint32_t port);
	void *opaque;
};
int virtio_vsock_new(struct pci_host *h, int devfn, const struct virtio_vsock_options *o,
		     struct pci_dev **ret);
