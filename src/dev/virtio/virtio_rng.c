/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-rng (virtio 1.2 5.4): the kernel's random numbers, at a bounded rate. A
 * bucket of bytes fills with time; when it is empty, chains wait in the ring
 * until a timer says that there is enough again.
 */
#include <stdlib.h>
#include <sys/random.h>

#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_int.h"

#define RATE_DEFAULT  MIB(1)
#define RATE_MAX      GIB(1)
#define BUCKET_MIN    KIB(4)
#define CHAIN_BYTES   KIB(16) /* given for one chain at the most */
#define CHAINS_A_TURN 16
#define QUEUE_SIZE    64

struct virtio_rng {
	struct virtio_dev v;
	uint64_t rate; /* bytes a second */
	uint64_t bucket, bucket_max;
	ns_t filled_ns; /* when the bucket was last filled */
	struct timer timer;
	struct iovec iov[VQ_SIZE_MAX];
	gpa_t gpa[VQ_SIZE_MAX];
};

static struct virtio_rng *from_virtio(struct virtio_dev *v)
{
	return container_of(v, struct virtio_rng, v);
}

static void bucket_fill(struct virtio_rng *g)
{
	ns_t now = loop_now_ns(g->v.pci.dev.env->loop);
	uint64_t us = (uint64_t)MAX(now - g->filled_ns, 0) / (uint64_t)NS_PER_US;
	uint64_t more;

	us = MIN(us, 1000000u);
	more = us * g->rate / 1000000u;
	if (more) {
		g->bucket = MIN(g->bucket + more, g->bucket_max);
		g->filled_ns = now;
	}
}

/* Fill the chain as far as the bucket goes; how many bytes. */
static uint32_t chain_fill(struct virtio_rng *g, const struct vq_chain *c)
{
	uint32_t limit = (uint32_t)MIN(g->bucket, CHAIN_BYTES), done = 0;

	for (unsigned i = c->out_count; i < c->out_count + c->in_count && done < limit; i++) {
		size_t want = MIN(c->iov[i].iov_len, (size_t)(limit - done));
		ssize_t n = getrandom(c->iov[i].iov_base, want, 0);

		if (n <= 0) {
			break; /* a signal; what there is will do */
		}
		done += (uint32_t)n;
		if ((size_t)n < want) {
			break;
		}
	}
	g->bucket -= done;
	return done;
}

static void wait_for_more(struct virtio_rng *g)
{
	ns_t fill_ns = (ns_t)(BUCKET_MIN * (uint64_t)NS_PER_S / g->rate);

	timer_arm(&g->timer, g->filled_ns + MAX(fill_ns, NS_PER_MS));
}

static void serve(struct virtio_dev *v, struct virtqueue *q)
{
	struct virtio_rng *g = from_virtio(v);
	struct vq_chain c = { .iov = g->iov, .gpa = g->gpa, .cap = VQ_SIZE_MAX };
	unsigned budget = CHAINS_A_TURN;

	bucket_fill(g);
	while (budget && g->bucket && virtio_pop(v, q, &c)) {
		virtio_push(v, q, &c, chain_fill(g, &c));
		budget--;
	}
	virtio_flush(v, q);
	if (!g->bucket) {
		wait_for_more(g);
	} else if (!budget || vq_kicks_on(q)) {
		virtio_again(v, q);
	}
}

static void timer_due(void *opaque)
{
	struct virtio_rng *g = opaque;

	virtio_again(&g->v, virtio_vq(&g->v, 0));
}

static void rng_free(struct virtio_dev *v)
{
	timer_done(&from_virtio(v)->timer);
}

static const struct virtio_class rng_class = {
	.pci = VIRTIO_PCI_CLASS("virtio-rng"),
	.id = VIRTIO_ID_RNG,
	.class_code = 0x00ff00, /* no class fits */
	.serve = serve,
	.free = rng_free,
};

int virtio_rng_new(struct pci_host *h, int devfn, const struct virtio_rng_options *o,
		   struct pci_dev **ret)
{
	const struct virtio_setup s = { .queue_count = 1, .queue_size = QUEUE_SIZE };
	uint64_t rate = o && o->bytes_per_s ? o->bytes_per_s : RATE_DEFAULT;
	struct virtio_rng *g;
	int r;

	if (rate > RATE_MAX) {
		return -EINVAL;
	}
	g = calloc(1, sizeof(*g));
	if (!g) {
		return -ENOMEM;
	}
	g->rate = rate;
	g->bucket_max = g->bucket = MAX(rate / 4, BUCKET_MIN);
	r = virtio_init(&g->v, &rng_class, h, devfn, &s);
	if (r < 0) {
		return r;
	}
	timer_init(&g->timer, g->v.pci.dev.env->loop, timer_due, g);
	g->filled_ns = loop_now_ns(g->v.pci.dev.env->loop);
	if (ret) {
		*ret = &g->v.pci;
	}
	return 0;
}
