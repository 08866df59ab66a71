/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * A kick is a write to the queue's eventfd: by KVM itself where ioeventfds
 * can be had, else by our write handler. The loop watches these descriptors
 * edge-triggered and never reads them: each write is an edge of its own, and
 * that saves a system call a kick. So queues are served on the loop's thread
 * only, whoever kicked.
 *
 * Reset may come while chains are in flight in a back end, which holds pointers
 * into guest memory. The device is then muted at once (nothing is popped or
 * pushed any more), device_status keeps its old value, and the last chain to
 * come back ends the reset: the driver, which polls for 0, then knows that
 * nothing writes into its buffers any more. With nothing in flight a reset
 * ends before the write returns. Queue reset works the same for one queue.
 *
 *	running --status=0--> resetting --last chain--> reset
 *	   \------------- nothing in flight -----------/
 *
 * A machine reset (dev_class.reset) cannot be refused or put off: it runs on
 * the loop's thread, and waits there with class->drain().
 */
#include "dev/virtio/virtio_int.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/assert.h"
#include "base/guest_log.h"
#include "mem/mem.h"

bool virtio_running(const struct virtio_dev *v)
{
	return (v->status & VIRTIO_DRIVER_OK) && !(v->status & VIRTIO_NEEDS_RESET) &&
	       !v->resetting && pci_dma_allowed(&v->pci);
}

void virtio_broken(struct virtio_dev *v)
{
	if (v->status & VIRTIO_NEEDS_RESET) {
		return;
	}
	guest_log("%s: the driver broke the rules; the device needs a reset", v->pci.dev.name);
	v->status |= VIRTIO_NEEDS_RESET;
	for (unsigned i = 0; i < v->queue_count; i++) {
		v->queues[i].vq.broken = true; /* so that all loops over queues end */
	}
	virtio_config_changed(v);
}

void virtio_config_changed(struct virtio_dev *v)
{
	v->generation++;
	if (v->status & VIRTIO_DRIVER_OK) {
		virtio_pci_interrupt(v, v->config_vector, BIT(1));
	}
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	/* It can fail only if the counter is full, and then an edge is due anyway. */
	(void)!write(fd, &one, sizeof(one));
}

void virtio_again(struct virtio_dev *v, struct virtqueue *q)
{
	signal_fd(container_of(q, struct virtio_queue, vq)->kick_fd);
}

void virtio_work(struct virtio_dev *v)
{
	signal_fd(v->work_fd);
}

/* --- reset ------------------------------------------------------------------------- */

static void queue_finish(struct virtio_queue *q)
{
	vq_stop(&q->vq);
	q->resetting = false;
}

static bool chains_in_flight(const struct virtio_dev *v)
{
	for (unsigned i = 0; i < v->queue_count; i++) {
		if (v->queues[i].vq.in_flight) {
			return true;
		}
	}
	return false;
}

static void reset_finish(struct virtio_dev *v)
{
	for (unsigned i = 0; i < v->queue_count; i++) {
		queue_finish(&v->queues[i]);
	}
	v->resetting = false;
	v->status = v->isr = 0;
	v->features = 0;
	v->feature_select = v->driver_feature_select = 0;
	v->queue_select = 0;
	v->config_vector = VIRTIO_NO_VECTOR;
	pci_intx_set(&v->pci, false);
	if (v->cls->reset) {
		v->cls->reset(v);
	}
}

static void queue_mute(struct virtio_dev *v, struct virtio_queue *q)
{
	q->vq.mute = true;
	if (v->cls->queue_stop) {
		v->cls->queue_stop(v, &q->vq);
	}
}

static void reset_begin(struct virtio_dev *v)
{
	v->resetting = true;
	for (unsigned i = 0; i < v->queue_count; i++) {
		queue_mute(v, &v->queues[i]);
	}
	if (!chains_in_flight(v)) {
		reset_finish(v);
	}
}

void virtio_queue_reset(struct virtio_dev *v, struct virtio_queue *q)
{
	if (!virtio_has(v, VIRTIO_F_RING_RESET) || !q->vq.enabled) {
		return;
	}
	q->resetting = true;
	queue_mute(v, q);
	if (!q->vq.in_flight) {
		queue_finish(q);
	}
}

/* A chain has come back to a muted queue. */
static void chain_ended(struct virtio_dev *v, struct virtio_queue *q)
{
	if (v->resetting) {
		if (!chains_in_flight(v)) {
			reset_finish(v);
		}
	} else if (q->resetting && !q->vq.in_flight) {
		queue_finish(q);
	}
}

void virtio_pci_reset(struct dev *d)
{
	struct virtio_dev *v = container_of(d, struct virtio_dev, pci.dev);

	if (!v->resetting) {
		reset_begin(v);
	}
	if (v->resetting && v->cls->drain) {
		dev_unlock(d);
		v->cls->drain(v);
		dev_lock(d);
	}
	ASSERT(!v->resetting);
	virtio_pci_ioeventfds(v);
}

/* --- status and queues ------------------------------------------------------------ */

static bool features_acceptable(struct virtio_dev *v)
{
	if ((v->features & ~v->offered) || !(v->features & VIRTIO_F_VERSION_1)) {
		return false;
	}
	return !v->cls->features_ok || v->cls->features_ok(v, v->features);
}

void virtio_status_write(struct virtio_dev *v, uint8_t status)
{
	uint8_t added = (uint8_t)(status & ~v->status);

	if (!status) {
		reset_begin(v);
		return;
	}
	if ((added & VIRTIO_FEATURES_OK) && !features_acceptable(v)) {
		added &= (uint8_t)~VIRTIO_FEATURES_OK;
	}
	/* DRIVER_OK without agreed features would start rings of an unknown kind. */
	if (!((v->status | added) & VIRTIO_FEATURES_OK)) {
		added &= (uint8_t)~VIRTIO_DRIVER_OK;
	}
	v->status |= added & (uint8_t)~VIRTIO_NEEDS_RESET;
	if (!(added & VIRTIO_DRIVER_OK)) {
		return;
	}
	virtio_pci_ioeventfds(v);
	if (v->cls->started) {
		v->cls->started(v);
	}
	for (unsigned i = 0; i < v->queue_count; i++) {
		if (v->queues[i].vq.started) {
			virtio_again(v, &v->queues[i].vq);
		}
	}
}

void virtio_queue_enable(struct virtio_dev *v, struct virtio_queue *q)
{
	int r;

	if (q->vq.enabled || q->resetting || !(v->status & VIRTIO_FEATURES_OK)) {
		return;
	}
	q->vq.enabled = true;
	r = vq_start(&q->vq, virtio_has(v, VIRTIO_F_PACKED), virtio_has(v, VIRTIO_F_EVENT_IDX),
		     virtio_has(v, VIRTIO_F_INDIRECT));
	if (r < 0) {
		guest_log("%s: queue %u: its rings are %s", v->pci.dev.name, q->vq.index,
			  r == -EFAULT ? "not in memory" : "badly sized or aligned");
		virtio_broken(v);
		return;
	}
	if (v->status & VIRTIO_DRIVER_OK) {
		virtio_again(v, &q->vq);
	}
}

/* Bus mastering was switched: what waited may go on. */
void virtio_dma_changed(struct virtio_dev *v)
{
	if (!virtio_running(v)) {
		return;
	}
	for (unsigned i = 0; i < v->queue_count; i++) {
		virtio_again(v, &v->queues[i].vq);
	}
}

int virtio_pop(struct virtio_dev *v, struct virtqueue *q, struct vq_chain *c)
{
	int r;

	if (unlikely(!virtio_running(v))) {
		return 0;
	}
	r = vq_pop(q, c);
	if (unlikely(r < 0)) {
		virtio_broken(v);
		return 0;
	}
	return r;
}

void virtio_push(struct virtio_dev *v, struct virtqueue *q, const struct vq_chain *c,
		 uint32_t written)
{
	if (unlikely(!pci_dma_allowed(&v->pci) || q->mute)) {
		vq_forget(q, c);
		chain_ended(v, container_of(q, struct virtio_queue, vq));
		return;
	}
	vq_push(q, c, written);
}

void virtio_flush(struct virtio_dev *v, struct virtqueue *q)
{
	if (pci_dma_allowed(&v->pci) && vq_flush(q)) {
		virtio_pci_interrupt(v, q->vector, BIT(0));
	}
}

/* --- life ---------------------------------------------------------------------------- */

static void kicked(void *opaque, uint32_t events)
{
	struct virtio_queue *q = opaque;
	struct virtio_dev *v = q->v;

	dev_lock(&v->pci.dev);
	if (virtio_running(v) && q->vq.started && !q->vq.mute) {
		v->cls->serve(v, &q->vq);
	}
	dev_unlock(&v->pci.dev);
}

static void work_due(void *opaque, uint32_t events)
{
	struct virtio_dev *v = opaque;

	dev_lock(&v->pci.dev);
	if (v->cls->work) {
		v->cls->work(v);
	}
	dev_unlock(&v->pci.dev);
}

static int watch_all(struct virtio_dev *v)
{
	struct loop *l = v->pci.dev.env->loop;
	int r = loop_watch_fd(l, v->work_fd, EPOLLIN | EPOLLET, work_due, v);

	for (unsigned i = 0; i < v->queue_count && !r; i++) {
		r = loop_watch_fd(l, v->queues[i].kick_fd, EPOLLIN | EPOLLET, kicked,
				  &v->queues[i]);
	}
	return r;
}

/* Everything but the lock and the struct itself. */
static void release(struct virtio_dev *v)
{
	v->cls->free(v);
	for (unsigned i = 0; v->queues && i < v->queue_count; i++) {
		fd_closep(&v->queues[i].kick_fd);
	}
	fd_closep(&v->work_fd);
	free(v->queues);
	v->queues = NULL;
}

void virtio_pci_done(struct dev *d)
{
	struct virtio_dev *v = container_of(d, struct virtio_dev, pci.dev);
	struct loop *l = d->env->loop;

	if (v->cls->drain) {
		v->cls->drain(v);
	}
	loop_unwatch_fd(l, v->work_fd);
	for (unsigned i = 0; i < v->queue_count; i++) {
		loop_unwatch_fd(l, v->queues[i].kick_fd);
	}
	release(v);
	free(v);
}

static int make_queues(struct virtio_dev *v, const struct virtio_setup *s)
{
	v->queues = calloc(s->queue_count, sizeof(*v->queues));
	if (!v->queues) {
		return -ENOMEM;
	}
	v->queue_count = s->queue_count;
	for (unsigned i = 0; i < s->queue_count; i++) {
		v->queues[i].kick_fd = -1;
	}
	for (unsigned i = 0; i < s->queue_count; i++) {
		struct virtio_queue *q = &v->queues[i];

		q->v = v;
		q->vq.index = i;
		q->vq.size_max = s->queue_size;
		vq_stop(&q->vq);
		q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (q->kick_fd < 0) {
			return -errno;
		}
	}
	v->work_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return v->work_fd < 0 ? -errno : 0;
}

static int place(struct virtio_dev *v, struct pci_host *h, int devfn, const char *name)
{
	const struct pci_ids ids = {
		.vendor = 0x1af4,
		.device = (uint16_t)(0x1040 + v->cls->id),
		.subsys_vendor = 0x1af4,
		.subsys = 0x1100, /* 0x40 or more: a modern device (virtio 1.2 4.1.2.1) */
		.class_code = v->cls->class_code,
		.revision = 1,
	};

	return pci_dev_init(&v->pci, &v->cls->pci, h, devfn, &ids, name);
}

int virtio_init(struct virtio_dev *v, const struct virtio_class *cls, struct pci_host *h, int devfn,
		const struct virtio_setup *s)
{
	int r;

	v->cls = cls;
	v->work_fd = -1;
	v->offered = s->features | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX |
		     VIRTIO_F_PACKED | VIRTIO_F_RING_RESET;
	v->config_bytes = s->config_bytes;
	v->config_vector = VIRTIO_NO_VECTOR;
	v->ioeventfd_base = VIRTIO_NO_BASE;
	r = make_queues(v, s);
	if (!r) {
		r = place(v, h, devfn, s->name);
	}
	if (r < 0) {
		release(v);
		free(v);
		return r;
	}
	for (unsigned i = 0; i < v->queue_count; i++) {
		v->queues[i].vq.mem = v->pci.dev.env->mem;
		v->queues[i].vq.owner = v->pci.dev.name;
	}
	r = virtio_pci_setup(v);
	if (!r) {
		r = watch_all(v);
	}
	if (r < 0) {
		pci_dev_remove(&v->pci);
	}
	return r;
}
