/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-blk (virtio 1.2 5.2).
 *
 * Theory of operation
 *
 * Each queue has a pool of requests as large as its ring, so nothing is
 * allocated while it runs. serve() takes all that the driver offers, hands it
 * to the image, and kicks the image once. Completions come without the lock:
 * they are put on a list, and the image's end-of-batch call takes the lock
 * once, fills the used rings, and interrupts once a queue.
 *
 * The write cache is on if the driver knows how to flush it; else (no FLUSH
 * agreed, or switched off through CONFIG_WCE) each write is stable before
 * it completes.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/guest_log.h"
#include "block/block.h"
#include "dev/virtio/iov_int.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_int.h"
#include "mem/mem.h"

#define F_SEG_MAX      BIT64(2)
#define F_RO           BIT64(5)
#define F_BLK_SIZE     BIT64(6)
#define F_FLUSH        BIT64(9)
#define F_TOPOLOGY     BIT64(10)
#define F_CONFIG_WCE   BIT64(11)
#define F_MQ           BIT64(12)
#define F_DISCARD      BIT64(13)
#define F_WRITE_ZEROES BIT64(14)

/* Offsets in the configuration space (5.2.4). */
enum config {
	CONFIG_CAPACITY = 0,
	CONFIG_SEG_MAX = 12,
	CONFIG_BLK_SIZE = 20,
	CONFIG_PHYSICAL_EXP = 24,
	CONFIG_MIN_IO = 26,
	CONFIG_OPT_IO = 28,
	CONFIG_WRITEBACK = 32,
	CONFIG_NUM_QUEUES = 34,
	CONFIG_MAX_DISCARD_SECTORS = 36,
	CONFIG_MAX_DISCARD_SEG = 40,
	CONFIG_DISCARD_ALIGN = 44,
	CONFIG_MAX_ZEROES_SECTORS = 48,
	CONFIG_MAX_ZEROES_SEG = 52,
	CONFIG_ZEROES_MAY_UNMAP = 56,
	CONFIG_BYTES = 60,
};

enum request_type {
	T_IN = 0,
	T_OUT = 1,
	T_FLUSH = 4,
	T_GET_ID = 8,
	T_DISCARD = 11,
	T_WRITE_ZEROES = 13,
};

enum request_status { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

#define SECTOR            512u
#define HEADER_BYTES      16 /* type, reserved, sector */
#define RANGE_BYTES       16 /* sector, count, flags: of discard and write zeroes */
#define RANGE_UNMAP       BIT(0)
#define SEG_MAX           126 /* as told to the driver; header and status come on top */
#define CHAIN_MIN         (SEG_MAX + 2)
#define RANGE_SECTORS_MAX 0x3fffffu /* 2 GiB: what one call to the host may take */
#define QUEUE_SIZE        256

struct blk_req {
	struct block_req io;
	struct blk_req *next; /* free or completed */
	struct blk_queue *queue;
	struct vq_chain chain;
	uint8_t *status;
	gpa_t status_gpa;
	uint32_t in_data; /* bytes that count as written, without the status */
	int result;
};

/*
 * The pool is taken from by need, so a quiet disk's is never touched, nor the end of the entries
 * of short chains.
 */
struct blk_queue {
	struct virtio_blk *blk;
	struct virtqueue *vq;
	struct blk_req *pool, *free;
	struct iovec *iovs; /* chain_max for each request */
	gpa_t *gpas;
	unsigned chain_max; /* entries of a chain: the ring's size at least (2.7.13.1.1) */
	unsigned used;
	bool touched; /* something was pushed in this batch */
};

struct virtio_blk {
	struct virtio_dev v;
	struct block *block;
	char serial[VIRTIO_BLK_SERIAL_BYTES];
	struct blk_queue *queues;
	unsigned queue_count;
	struct blk_req *completed, **completed_end; /* loop thread, no lock */
};

static struct virtio_blk *from_virtio(struct virtio_dev *v)
{
	return container_of(v, struct virtio_blk, v);
}

static struct blk_req *req_get(struct blk_queue *q)
{
	struct blk_req *r = q->free;
	size_t at;

	if (r) {
		q->free = r->next;
		return r;
	}
	/* vq_pop() never gives more chains than the ring has entries. */
	ASSERT(q->used <= q->vq->size_max);
	at = (size_t)q->used * q->chain_max;
	r = &q->pool[q->used++];
	r->queue = q;
	r->chain =
		(struct vq_chain){ .iov = q->iovs + at, .gpa = q->gpas + at, .cap = q->chain_max };
	return r;
}

static void req_put(struct blk_req *r)
{
	r->next = r->queue->free;
	r->queue->free = r;
}

static bool write_through(const struct virtio_blk *b)
{
	if (virtio_has(&b->v, F_CONFIG_WCE)) {
		return !b->v.config[CONFIG_WRITEBACK];
	}
	return !virtio_has(&b->v, F_FLUSH);
}

/* Give the request back with `status`. Lock held. */
static void req_finish(struct blk_req *r, enum request_status status)
{
	struct virtio_dev *v = &r->queue->blk->v;
	struct virtqueue *vq = r->queue->vq;

	if (likely(!vq->mute)) {
		*r->status = (uint8_t)status;
		mem_mark_dirty(vq->mem, r->status_gpa, 1);
	}
	virtio_push(v, vq, &r->chain, r->in_data + 1);
	r->queue->touched = true;
	req_put(r);
}

static void io_done(struct block_req *io, int result)
{
	struct blk_req *r = container_of(io, struct blk_req, io);
	struct virtio_blk *b = r->queue->blk;

	r->result = result;
	r->next = NULL;
	*b->completed_end = r;
	b->completed_end = &r->next;
}

static void flush_touched(struct virtio_blk *b)
{
	for (unsigned i = 0; i < b->queue_count; i++) {
		if (b->queues[i].touched) {
			b->queues[i].touched = false;
			virtio_flush(&b->v, b->queues[i].vq);
		}
	}
}

static enum request_status status_of(int result)
{
	if (result == 0) {
		return S_OK;
	}
	return result == -EOPNOTSUPP ? S_UNSUPP : S_IOERR;
}

static void batch_end(void *opaque)
{
	struct virtio_blk *b = opaque;
	struct blk_req *r, *next;

	dev_lock(&b->v.pci.dev);
	r = b->completed;
	b->completed = NULL;
	b->completed_end = &b->completed;
	for (; r; r = next) {
		next = r->next;
		req_finish(r, status_of(r->result));
	}
	flush_touched(b);
	dev_unlock(&b->v.pci.dev);
}

/* --- requests -------------------------------------------------------------------------- */

/* Split off the status byte, the last that we may write. False: there is none. */
static bool take_status(struct blk_req *r, unsigned *in_count)
{
	struct vq_chain *c = &r->chain;
	struct iovec *last;
	unsigned i;

	if (!c->in_count) {
		return false;
	}
	i = c->out_count + c->in_count - 1;
	last = &c->iov[i];
	last->iov_len--;
	r->status = (uint8_t *)last->iov_base + last->iov_len;
	r->status_gpa = c->gpa[i] + last->iov_len;
	*in_count = c->in_count - (last->iov_len == 0);
	return true;
}

/* Does [sector, sector + len) lie on the disk? *ret_offset in bytes. */
static bool range_ok(struct virtio_blk *b, uint64_t sector, uint64_t len, uint64_t *ret_offset)
{
	uint64_t size = block_size_bytes(b->block);

	if (sector > size / SECTOR || len % SECTOR) {
		return false;
	}
	*ret_offset = sector * SECTOR;
	return range_within(*ret_offset, len, size);
}

/* Hand a checked request over; it comes back through io_done(). */
static void submit(struct virtio_blk *b, struct blk_req *r, enum block_op op)
{
	r->io.op = op;
	r->io.done = io_done;
	block_submit(b->block, &r->io);
}

static bool start_rw(struct virtio_blk *b, struct blk_req *r, bool write, uint64_t sector,
		     struct iovec *iov, unsigned count, uint32_t len)
{
	if (!range_ok(b, sector, len, &r->io.offset) || (write && block_readonly(b->block))) {
		return false;
	}
	r->io.len = len;
	r->io.iov = iov;
	r->io.iov_count = count;
	r->io.flags = write && write_through(b) ? BLOCK_REQ_FUA : 0;
	r->in_data = write ? 0 : len;
	submit(b, r, write ? BLOCK_WRITE : BLOCK_READ);
	return true;
}

/* Discard and write zeroes: one range, as we told the driver (5.2.6.2). */
static enum request_status start_range(struct virtio_blk *b, struct blk_req *r, bool zeroes,
				       const struct iovec *iov, unsigned count, uint32_t len)
{
	uint8_t range[RANGE_BYTES];
	uint32_t sectors, flags;

	if (!virtio_has(&b->v, zeroes ? F_WRITE_ZEROES : F_DISCARD)) {
		return S_UNSUPP;
	}
	if (len != RANGE_BYTES || block_readonly(b->block)) {
		return S_IOERR;
	}
	iov_copy_out(iov, count, 0, range, sizeof(range));
	sectors = load_le32(range + 8);
	flags = load_le32(range + 12);
	if (flags & ~(zeroes ? RANGE_UNMAP : 0u)) {
		return S_UNSUPP;
	}
	if (sectors > RANGE_SECTORS_MAX ||
	    !range_ok(b, load_le64(range), (uint64_t)sectors * SECTOR, &r->io.offset)) {
		return S_IOERR;
	}
	r->io.len = (uint64_t)sectors * SECTOR;
	r->io.flags = zeroes && (flags & RANGE_UNMAP) ? BLOCK_REQ_UNMAP : 0;
	if (zeroes && write_through(b)) {
		r->io.flags |= BLOCK_REQ_FUA;
	}
	submit(b, r, zeroes ? BLOCK_WRITE_ZEROES : BLOCK_DISCARD);
	return S_OK;
}

static void get_id(struct virtio_blk *b, struct blk_req *r, const struct iovec *in, unsigned count)
{
	r->in_data = (uint32_t)iov_copy_in(in, count, 0, b->serial, sizeof(b->serial));
	req_finish(r, S_OK);
}

/* False: the chain breaks virtio's rules. */
static bool handle(struct virtio_blk *b, struct blk_req *r)
{
	struct vq_chain *c = &r->chain;
	uint8_t header[HEADER_BYTES];
	unsigned out_count = c->out_count, in_count;
	struct iovec *out, *in = c->iov + c->out_count;
	uint32_t out_len = c->out_bytes - HEADER_BYTES, in_len = c->in_bytes - 1;
	enum request_status status = S_OK;
	uint64_t sector;

	if (c->out_bytes < HEADER_BYTES || !take_status(r, &in_count)) {
		guest_log("%s: a request without header or status", b->v.pci.dev.name);
		return false;
	}
	iov_copy_out(c->iov, out_count, 0, header, sizeof(header));
	out = iov_trim_front(c->iov, &out_count, HEADER_BYTES);
	sector = load_le64(header + 8);
	r->in_data = 0;
	switch (load_le32(header)) {
	case T_IN:
		status = start_rw(b, r, false, sector, in, in_count, in_len) ? S_OK : S_IOERR;
		break;
	case T_OUT:
		status = start_rw(b, r, true, sector, out, out_count, out_len) ? S_OK : S_IOERR;
		break;
	case T_FLUSH:
		submit(b, r, BLOCK_FLUSH);
		break;
	case T_GET_ID:
		get_id(b, r, in, in_count);
		break;
	case T_DISCARD:
	case T_WRITE_ZEROES:
		status = start_range(b, r, load_le32(header) == T_WRITE_ZEROES, out, out_count,
				     out_len);
		break;
	default:
		status = S_UNSUPP;
	}
	if (status != S_OK) {
		req_finish(r, status);
	}
	return true;
}

static bool take_one(struct virtio_blk *b, struct blk_queue *q)
{
	struct blk_req *r = req_get(q);

	if (!virtio_pop(&b->v, q->vq, &r->chain)) {
		req_put(r);
		return false;
	}
	if (!handle(b, r)) {
		vq_forget(q->vq, &r->chain);
		req_put(r);
		virtio_broken(&b->v);
		return false;
	}
	return true;
}

static void serve(struct virtio_dev *v, struct virtqueue *vq)
{
	struct virtio_blk *b = from_virtio(v);
	struct blk_queue *q = &b->queues[vq->index];
	unsigned budget = vq->size; /* others have a right to the loop too */

	do {
		vq_kicks_off(vq);
		while (budget && take_one(b, q)) {
			budget--;
		}
	} while (budget && vq_kicks_on(vq));
	if (!budget) {
		virtio_again(v, vq);
	}
	flush_touched(b);
	block_kick(b->block);
}

/* --- life -------------------------------------------------------------------------------- */

static void config_write(struct virtio_dev *v, unsigned offset, uint32_t value, unsigned size)
{
	if (offset == CONFIG_WRITEBACK && size == 1 && virtio_has(v, F_CONFIG_WCE)) {
		v->config[CONFIG_WRITEBACK] = value & 1;
	}
}

static void reset(struct virtio_dev *v)
{
	v->config[CONFIG_WRITEBACK] = 1;
}

static void drain(struct virtio_dev *v)
{
	block_drain(from_virtio(v)->block);
}

static void blk_free(struct virtio_dev *v)
{
	struct virtio_blk *b = from_virtio(v);

	block_set_batch_end(b->block, NULL, NULL);
	for (unsigned i = 0; b->queues && i < b->queue_count; i++) {
		free(b->queues[i].pool);
		free(b->queues[i].iovs);
		free(b->queues[i].gpas);
	}
	free(b->queues);
}

static const struct virtio_class blk_class = {
	.pci = VIRTIO_PCI_CLASS("virtio-blk"),
	.id = VIRTIO_ID_BLOCK,
	.class_code = 0x010000, /* mass storage, SCSI: what guests' installers look for */
	.serve = serve,
	.config_write = config_write,
	.reset = reset,
	.drain = drain,
	.free = blk_free,
};

static uint64_t features(const struct virtio_blk *b)
{
	uint64_t f = F_SEG_MAX | F_BLK_SIZE | F_TOPOLOGY | F_FLUSH | F_CONFIG_WCE;

	if (b->queue_count > 1) {
		f |= F_MQ;
	}
	if (block_readonly(b->block)) {
		return f | F_RO;
	}
	return f | F_WRITE_ZEROES | (block_can_discard(b->block) ? F_DISCARD : 0);
}

static void fill_config(struct virtio_blk *b)
{
	uint8_t *c = b->v.config;
	uint32_t sector = block_sector_bytes(b->block);

	store_le64(c + CONFIG_CAPACITY, block_size_bytes(b->block) / SECTOR);
	store_le32(c + CONFIG_SEG_MAX, SEG_MAX);
	store_le32(c + CONFIG_BLK_SIZE, sector);
	c[CONFIG_PHYSICAL_EXP] = sector == 4096 ? 0 : 3; /* 4 KiB: what lies below has pages */
	store_le16(c + CONFIG_MIN_IO, (uint16_t)(4096 / sector));
	store_le32(c + CONFIG_OPT_IO, 0);
	c[CONFIG_WRITEBACK] = 1;
	store_le16(c + CONFIG_NUM_QUEUES, (uint16_t)b->queue_count);
	store_le32(c + CONFIG_MAX_DISCARD_SECTORS, RANGE_SECTORS_MAX);
	store_le32(c + CONFIG_MAX_DISCARD_SEG, 1);
	store_le32(c + CONFIG_DISCARD_ALIGN, 4096 / SECTOR);
	store_le32(c + CONFIG_MAX_ZEROES_SECTORS, RANGE_SECTORS_MAX);
	store_le32(c + CONFIG_MAX_ZEROES_SEG, 1);
	c[CONFIG_ZEROES_MAY_UNMAP] = block_can_discard(b->block);
}

/* One request more than the ring: the one that finds it empty. */
static bool make_pool(struct blk_queue *q, unsigned size)
{
	size_t entries;

	q->chain_max = MAX(size, CHAIN_MIN);
	entries = (size_t)(size + 1) * q->chain_max;
	q->pool = calloc(size + 1, sizeof(*q->pool));
	q->iovs = calloc(entries, sizeof(*q->iovs));
	q->gpas = calloc(entries, sizeof(*q->gpas));
	return q->pool && q->iovs && q->gpas;
}

static int make_pools(struct virtio_blk *b, unsigned size)
{
	b->queues = calloc(b->queue_count, sizeof(*b->queues));
	for (unsigned i = 0; b->queues && i < b->queue_count; i++) {
		b->queues[i].blk = b;
		if (!make_pool(&b->queues[i], size)) {
			return -ENOMEM;
		}
	}
	return b->queues ? 0 : -ENOMEM;
}

static bool size_ok(unsigned size, unsigned min)
{
	return size >= min && size <= VQ_SIZE_MAX && !(size & (size - 1));
}

int virtio_blk_new(struct pci_host *h, int devfn, const struct virtio_blk_options *o,
		   struct pci_dev **ret)
{
	unsigned size = o->queue_size ? o->queue_size : QUEUE_SIZE;
	struct virtio_setup s = { .queue_size = (uint16_t)size, .config_bytes = CONFIG_BYTES };
	struct virtio_blk *b;
	int r;

	if (!size_ok(size, 4) || o->queues > VIRTIO_BLK_QUEUES_MAX) {
		return -EINVAL;
	}
	b = calloc(1, sizeof(*b));
	if (!b) {
		return -ENOMEM;
	}
	b->block = o->block;
	b->queue_count = s.queue_count = o->queues ? o->queues : 1;
	b->completed_end = &b->completed;
	if (o->serial) {
		memcpy(b->serial, o->serial, MIN(strlen(o->serial), sizeof(b->serial)));
	}
	s.features = features(b);
	fill_config(b);
	r = make_pools(b, size);
	if (r < 0) {
		blk_free(&b->v);
		free(b);
		return r;
	}
	r = virtio_init(&b->v, &blk_class, h, devfn, &s);
	if (r < 0) {
		return r;
	}
	for (unsigned i = 0; i < b->queue_count; i++) {
		b->queues[i].vq = virtio_vq(&b->v, i);
	}
	block_set_batch_end(b->block, batch_end, b);
	if (ret) {
		*ret = &b->v.pci;
	}
	return 0;
}
