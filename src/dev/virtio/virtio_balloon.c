/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-balloon (virtio 1.2 5.5): the guest gives pages back to the host.
 *
 * Pages that it puts into the balloon, and free pages that it reports, are
 * punched out of the memory file: every mapping loses them, and they come
 * back as zeroes when touched. So deflating needs nothing from us.
 *
 * Linux numbers the queues by what was agreed, leaving no gaps, and so do we:
 * inflate, deflate, then statistics and reporting if there are.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>

#include "dev/virtio/iov_int.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_int.h"
#include "mem/mem.h"

#define F_STATS       BIT64(1)
#define F_DEFLATE_OOM BIT64(2)
#define F_REPORTING   BIT64(5)

enum config { CONFIG_NUM_PAGES = 0, CONFIG_ACTUAL = 4, CONFIG_BYTES = 8 };

#define PAGE_BYTES    4096u
#define PAGE_SHIFT    12
#define QUEUE_SIZE    128
#define QUEUES        4
#define CHAINS_A_TURN 4 /* each is up to 1024 calls to the kernel */
#define PFNS_A_CHAIN  1024
#define STAT_BYTES    10 /* tag, value: packed */
#define STATS_A_CHAIN 64
#define STAT_COUNT    10 /* tags that there are (5.5.6.3) */

enum role { ROLE_INFLATE, ROLE_DEFLATE, ROLE_STATS, ROLE_REPORTING, ROLE_NONE };

struct virtio_balloon {
	struct virtio_dev v;
	bool stats_held; /* the driver's statistics buffer; given back to ask for new ones */
	struct vq_chain stats_chain;
	struct virtqueue *stats_queue;
	uint64_t stats[STAT_COUNT]; /* by tag */
	ns_t stats_ns;
	struct iovec iov[VQ_SIZE_MAX], stats_iov[STATS_A_CHAIN];
	gpa_t gpa[VQ_SIZE_MAX], stats_gpa[STATS_A_CHAIN];
};

static struct virtio_balloon *from_virtio(struct virtio_dev *v)
{
	return container_of(v, struct virtio_balloon, v);
}

static enum role role_of(const struct virtio_dev *v, const struct virtqueue *q)
{
	unsigned next = 2;

	if (q->index < 2) {
		return q->index ? ROLE_DEFLATE : ROLE_INFLATE;
	}
	if (virtio_has(v, F_STATS) && q->index == next++) {
		return ROLE_STATS;
	}
	if (virtio_has(v, F_REPORTING) && q->index == next) {
		return ROLE_REPORTING;
	}
	return ROLE_NONE;
}

/* --- giving memory back --------------------------------------------------------------------- */

/* Punch the whole pages of [gpa, gpa+len) out, as far as they are RAM. */
static void release(struct mem *m, gpa_t gpa, uint64_t len)
{
	gpa_t start = ALIGN_UP(gpa, (gpa_t)PAGE_BYTES);
	gpa_t end = ALIGN_DOWN(gpa + len, (gpa_t)PAGE_BYTES);

	for (unsigned i = 0; i < mem_region_count(m) && start < end; i++) {
		const struct mem_region *r = mem_region_at(m, i);
		gpa_t from = MAX(start, r->gpa), to = MIN(end, r->gpa + r->size_bytes);

		if (from >= to || (r->flags & MEM_READONLY)) {
			continue;
		}
		/* What cannot be given back stays; the guest does not use it anyway. */
		(void)fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)(r->fd_offset + (from - r->gpa)), (off_t)(to - from));
	}
}

/* A list of page numbers; neighbours go in one call, whichever way they run. */
static void inflate(struct virtio_balloon *b, const struct vq_chain *c)
{
	struct mem *m = b->v.pci.dev.env->mem;
	uint64_t first = 0, count = 0;
	uint8_t raw[4];

	for (size_t at = 0; at < PFNS_A_CHAIN * sizeof(raw); at += sizeof(raw)) {
		uint64_t pfn;

		if (iov_copy_out(c->iov, c->out_count, at, raw, sizeof(raw)) < sizeof(raw)) {
			break;
		}
		pfn = load_le32(raw);
		if (count && pfn == first + count) {
			count++;
		} else if (count && pfn + 1 == first) {
			first = pfn;
			count++;
		} else {
			release(m, first << PAGE_SHIFT, count << PAGE_SHIFT);
			first = pfn;
			count = 1;
		}
	}
	release(m, first << PAGE_SHIFT, count << PAGE_SHIFT);
}

static void report(struct virtio_balloon *b, const struct vq_chain *c)
{
	for (unsigned i = c->out_count; i < c->out_count + c->in_count; i++) {
		release(b->v.pci.dev.env->mem, c->gpa[i], c->iov[i].iov_len);
	}
}

/* --- statistics ------------------------------------------------------------------------------- */

static void take_stats(struct virtio_balloon *b, const struct vq_chain *c)
{
	uint8_t raw[STAT_BYTES];

	memset(b->stats, 0xff, sizeof(b->stats));
	for (unsigned i = 0; i < STATS_A_CHAIN; i++) {
		if (iov_copy_out(c->iov, c->out_count, i * sizeof(raw), raw, sizeof(raw)) <
		    sizeof(raw)) {
			break;
		}
		if (load_le16(raw) < STAT_COUNT) {
			b->stats[load_le16(raw)] = load_le64(raw + 2);
		}
	}
	b->stats_ns = loop_now_ns(b->v.pci.dev.env->loop);
}

/* The driver's buffer is kept until somebody asks; a second one pushes the first out. */
static void serve_stats(struct virtio_balloon *b, struct virtqueue *q)
{
	struct vq_chain c = { .iov = b->iov, .gpa = b->gpa, .cap = STATS_A_CHAIN };

	if (!virtio_pop(&b->v, q, &c)) {
		return;
	}
	take_stats(b, &c);
	if (b->stats_held) {
		virtio_push(&b->v, q, &b->stats_chain, 0);
		virtio_flush(&b->v, q);
	}
	memcpy(b->stats_iov, b->iov, sizeof(b->stats_iov));
	memcpy(b->stats_gpa, b->gpa, sizeof(b->stats_gpa));
	b->stats_chain = c;
	b->stats_chain.iov = b->stats_iov;
	b->stats_chain.gpa = b->stats_gpa;
	b->stats_held = true;
	b->stats_queue = q;
	if (vq_kicks_on(q)) {
		virtio_again(&b->v, q);
	}
}

void virtio_balloon_ask_stats(struct pci_dev *p)
{
	struct virtio_balloon *b = container_of(p, struct virtio_balloon, v.pci);

	dev_lock(&p->dev);
	if (b->stats_held && virtio_running(&b->v)) {
		b->stats_held = false;
		virtio_push(&b->v, b->stats_queue, &b->stats_chain, 0);
		virtio_flush(&b->v, b->stats_queue);
	}
	dev_unlock(&p->dev);
}

void virtio_balloon_get_stats(struct pci_dev *p, struct virtio_balloon_stats *ret)
{
	struct virtio_balloon *b = container_of(p, struct virtio_balloon, v.pci);
	const uint64_t *s = b->stats;

	dev_lock(&p->dev);
	*ret = (struct virtio_balloon_stats){
		.swap_in = s[0],
		.swap_out = s[1],
		.major_faults = s[2],
		.minor_faults = s[3],
		.free_bytes = s[4],
		.total_bytes = s[5],
		.available_bytes = s[6],
		.disk_caches_bytes = s[7],
		.hugetlb_alloc = s[8],
		.hugetlb_fail = s[9],
		.updated_ns = b->stats_ns,
	};
	dev_unlock(&p->dev);
}

/* --- the class ----------------------------------------------------------------------------------
 */

static void serve(struct virtio_dev *v, struct virtqueue *q)
{
	struct virtio_balloon *b = from_virtio(v);
	struct vq_chain c = { .iov = b->iov, .gpa = b->gpa, .cap = VQ_SIZE_MAX };
	enum role role = role_of(v, q);
	unsigned budget = CHAINS_A_TURN;

	if (role == ROLE_STATS) {
		serve_stats(b, q);
		return;
	}
	while (budget && virtio_pop(v, q, &c)) {
		if (role == ROLE_INFLATE) {
			inflate(b, &c);
		} else if (role == ROLE_REPORTING) {
			report(b, &c);
		}
		virtio_push(v, q, &c, 0);
		budget--;
	}
	virtio_flush(v, q);
	if (!budget || vq_kicks_on(q)) {
		virtio_again(v, q);
	}
}

static void queue_stop(struct virtio_dev *v, struct virtqueue *q)
{
	struct virtio_balloon *b = from_virtio(v);

	if (b->stats_held && q == b->stats_queue) {
		vq_forget(q, &b->stats_chain);
		b->stats_held = false;
	}
}

static void reset(struct virtio_dev *v)
{
	struct virtio_balloon *b = from_virtio(v);

	store_le32(v->config + CONFIG_ACTUAL, 0);
	memset(b->stats, 0xff, sizeof(b->stats));
	b->stats_ns = 0;
}

static void config_write(struct virtio_dev *v, unsigned offset, uint32_t value, unsigned size)
{
	if (offset == CONFIG_ACTUAL && size == 4) {
		store_le32(v->config + CONFIG_ACTUAL, value);
	}
}

static void balloon_free(struct virtio_dev *v)
{
}

static const struct virtio_class balloon_class = {
	.pci = VIRTIO_PCI_CLASS("virtio-balloon"),
	.id = VIRTIO_ID_BALLOON,
	.class_code = 0x00ff00, /* no class fits */
	.serve = serve,
	.queue_stop = queue_stop,
	.reset = reset,
	.config_write = config_write,
	.free = balloon_free,
};

void virtio_balloon_set_target(struct pci_dev *p, uint64_t bytes)
{
	struct virtio_balloon *b = container_of(p, struct virtio_balloon, v.pci);

	bytes = MIN(bytes, mem_ram_bytes(p->dev.env->mem));
	dev_lock(&p->dev);
	store_le32(b->v.config + CONFIG_NUM_PAGES, (uint32_t)(bytes >> PAGE_SHIFT));
	virtio_config_changed(&b->v);
	dev_unlock(&p->dev);
}

uint64_t virtio_balloon_actual(struct pci_dev *p)
{
	struct virtio_balloon *b = container_of(p, struct virtio_balloon, v.pci);
	uint64_t pages;

	dev_lock(&p->dev);
	pages = load_le32(b->v.config + CONFIG_ACTUAL);
	dev_unlock(&p->dev);
	return pages << PAGE_SHIFT;
}

int virtio_balloon_new(struct pci_host *h, int devfn, const struct virtio_balloon_options *o,
		       struct pci_dev **ret)
{
	struct virtio_setup s = { .features = F_STATS | F_REPORTING | F_DEFLATE_OOM,
				  .queue_count = QUEUES,
				  .queue_size = QUEUE_SIZE,
				  .config_bytes = CONFIG_BYTES };
	struct virtio_balloon *b = calloc(1, sizeof(*b));
	int r;

	if (!b) {
		return -ENOMEM;
	}
	if (o && o->no_deflate_on_oom) {
		s.features &= ~F_DEFLATE_OOM;
	}
	memset(b->stats, 0xff, sizeof(b->stats));
	r = virtio_init(&b->v, &balloon_class, h, devfn, &s);
	if (r < 0) {
		return r;
	}
	if (ret) {
		*ret = &b->v.pci;
	}
	return 0;
}
