/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all virtio devices share: features, status, queues, and the PCI
 * transport in front of them (virtio 1.2 chapters 2, 3, 4.1).
 *
 * Threads: registers are answered on vCPU threads, queues are served on the
 * loop's thread, both with the device's lock held. A slot of the class runs on
 * the loop's thread with the lock held unless it says otherwise.
 */
#pragma once

#include "dev/pci/pci.h"
#include "dev/virtio/virtqueue_int.h"

#define VIRTIO_CONFIG_BYTES_MAX 128
#define VIRTIO_QUEUES_MAX       64
#define VIRTIO_NO_VECTOR        0xffff

/* Device status bits (virtio 1.2 2.1). */
enum virtio_status {
	VIRTIO_ACKNOWLEDGE = BIT(0),
	VIRTIO_DRIVER = BIT(1),
	VIRTIO_DRIVER_OK = BIT(2),
	VIRTIO_FEATURES_OK = BIT(3),
	VIRTIO_NEEDS_RESET = BIT(6),
	VIRTIO_FAILED = BIT(7),
};

/* Features that are not of one device (virtio 1.2 6). */
#define VIRTIO_F_INDIRECT   BIT64(28)
#define VIRTIO_F_EVENT_IDX  BIT64(29)
#define VIRTIO_F_VERSION_1  BIT64(32)
#define VIRTIO_F_PACKED     BIT64(34)
#define VIRTIO_F_RING_RESET BIT64(40)

/* Device ids (virtio 1.2 5). */
enum virtio_id {
	VIRTIO_ID_NET = 1,
	VIRTIO_ID_BLOCK = 2,
	VIRTIO_ID_CONSOLE = 3,
	VIRTIO_ID_RNG = 4,
	VIRTIO_ID_BALLOON = 5,
	VIRTIO_ID_VSOCK = 19,
};

struct virtio_dev;

struct virtio_class {
	struct pci_class pci; /* filled by VIRTIO_PCI_CLASS */
	enum virtio_id id;
	uint32_t class_code;

	/* The driver has kicked this queue, or it was just started. */
	void (*serve)(struct virtio_dev *v, struct virtqueue *q);
	/* virtio_work() was called. */
	void (*work)(struct virtio_dev *v);
	/* May these features go together? Any thread. NULL: yes. */
	bool (*features_ok)(struct virtio_dev *v, uint64_t features);
	/* The driver is ready (DRIVER_OK). Any thread. */
	void (*started)(struct virtio_dev *v);
	/* The queue is being stopped: forget chains that are kept for later. Any thread. */
	void (*queue_stop)(struct virtio_dev *v, struct virtqueue *q);
	/* The device was reset, all queues are stopped. Any thread. */
	void (*reset)(struct virtio_dev *v);
	/* The driver wrote the device's configuration. Any thread. NULL: writes vanish. */
	void (*config_write)(struct virtio_dev *v, unsigned offset, uint32_t value, unsigned size);
	/* Wait for I/O in flight. Lock NOT held. */
	void (*drain)(struct virtio_dev *v);
	/* Free what the device itself holds, not `v`. Lock NOT held; must take a half-built one. */
	void (*free)(struct virtio_dev *v);
};

struct virtio_queue {
	struct virtqueue vq;
	struct virtio_dev *v;
	int kick_fd;    /* written by the guest's kicks (ioeventfd) or for them */
	bool resetting; /* queue_reset was written, chains are still in flight */
};

struct virtio_dev {
	struct pci_dev pci;
	const struct virtio_class *cls;
	uint64_t offered, features;
	struct virtio_queue *queues;
	unsigned queue_count;
	uint8_t config[VIRTIO_CONFIG_BYTES_MAX];
	unsigned config_bytes;
	int work_fd;

	uint8_t status, isr, generation;
	bool resetting; /* 0 was written to device_status, chains are still in flight */
	uint32_t feature_select, driver_feature_select;
	uint16_t queue_select, config_vector;
	unsigned pci_cfg_cap;    /* where the configuration access capability lies */
	uint64_t ioeventfd_base; /* of the notify area; VIRTIO_NO_BASE: none are set */
};
#define VIRTIO_NO_BASE UINT64_MAX

struct virtio_setup {
	const char *name;
	uint64_t features; /* the device's own; the general ones are added */
	unsigned queue_count;
	uint16_t queue_size;
	unsigned config_bytes;
};

/*
 * Set up `v` (zeroed, the first member of a block that free() takes) and put it
 * on the bus. On failure -errno, and `v` and what class->free() frees are gone.
 */
int virtio_init(struct virtio_dev *v, const struct virtio_class *cls, struct pci_host *h, int devfn,
		const struct virtio_setup *s);

static inline struct virtqueue *virtio_vq(struct virtio_dev *v, unsigned i)
{
	return &v->queues[i].vq;
}

static inline bool virtio_has(const struct virtio_dev *v, uint64_t feature)
{
	return v->features & feature;
}

/* May queues be served now? */
bool virtio_running(const struct virtio_dev *v);
/* The driver broke the rules: DEVICE_NEEDS_RESET, and nothing more until then. */
void virtio_broken(struct virtio_dev *v);
/* vq_pop() that marks the device as broken. 1 or 0. */
int virtio_pop(struct virtio_dev *v, struct virtqueue *q, struct vq_chain *c);
/* vq_push(), and the end of a reset that waited for this chain. */
void virtio_push(struct virtio_dev *v, struct virtqueue *q, const struct vq_chain *c,
		 uint32_t written);
/* Publish what was pushed and interrupt the driver if it wants that. */
void virtio_flush(struct virtio_dev *v, struct virtqueue *q);
/* The configuration space changed: tell the driver. */
void virtio_config_changed(struct virtio_dev *v);
/* Have the queue served again in the loop's next turn / class->work() run there. Any thread. */
void virtio_again(struct virtio_dev *v, struct virtqueue *q);
void virtio_work(struct virtio_dev *v);

/* The transport's slots, for VIRTIO_PCI_CLASS. */
void virtio_pci_done(struct dev *d);
void virtio_pci_reset(struct dev *d);
uint64_t virtio_pci_read(struct dev *d, unsigned window, uint64_t offset, unsigned size);
void virtio_pci_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
		      unsigned size);
void virtio_pci_config_written(struct pci_dev *p, unsigned reg, unsigned len);
void virtio_pci_config_reading(struct pci_dev *p, unsigned reg, unsigned len);

#define VIRTIO_PCI_CLASS(name_)                              \
	{                                                    \
		.dev = { .name = (name_),                    \
			 .done = virtio_pci_done,            \
			 .reset = virtio_pci_reset,          \
			 .read = virtio_pci_read,            \
			 .write = virtio_pci_write },        \
		.config_written = virtio_pci_config_written, \
		.config_reading = virtio_pci_config_reading, \
	}

/* Between the transport and the common part. Lock held. */
void virtio_status_write(struct virtio_dev *v, uint8_t status);
void virtio_queue_enable(struct virtio_dev *v, struct virtio_queue *q);
void virtio_queue_reset(struct virtio_dev *v, struct virtio_queue *q);
void virtio_dma_changed(struct virtio_dev *v);
/* The transport's interrupts and fast kicks. */
void virtio_pci_interrupt(struct virtio_dev *v, uint16_t vector, uint8_t isr_bit);
void virtio_pci_ioeventfds(struct virtio_dev *v);
int virtio_pci_setup(struct virtio_dev *v);
