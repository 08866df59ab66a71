/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * The driver offers chains of descriptors, vq_pop() turns one into a scatter
 * list of host addresses, and vq_push() with vq_flush() gives it back. Ring
 * memory is mapped once at the start; it stays mapped as long as the region
 * lives. Each field of it is loaded once, checked, and then used: the guest may
 * change it at any time.
 *
 * Publishing is in two steps, so that several buffers of one frame, and all
 * completions of one turn, become visible at once and cost one interrupt:
 * vq_push() writes entries that the driver does not look at yet (split: past
 * the index; packed: behind a descriptor whose flags are held back), and
 * vq_flush() releases them.
 *
 * Invariants
 *  1. in_flight_slots <= size: a driver that offers more is broken. So devices
 *     can size their pools by the queue.
 *  2. A chain visits at most as many descriptors as its table has, and at most
 *     `cap` entries: loops end.
 *  3. No address leaves here that mem_map() did not give.
 *  4. With `mute` set guest memory is not written.
 */
#include "dev/virtio/virtqueue_int.h"

#include "base/guest_log.h"
#include "dev/virtio/virtqueue_layout_int.h"
#include "mem/mem.h"

/* A descriptor's copy. */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next; /* packed: the id */
};

static int vq_fail(struct virtqueue *q, const char *why)
{
	guest_log("%s: queue %u: %s", q->owner, q->index, why);
	q->broken = true;
	return -EBADMSG;
}

static void *vq_map(struct virtqueue *q, gpa_t gpa, size_t len, size_t align, bool write, int *ret)
{
	void *p;

	if (gpa % align) {
		*ret = -EINVAL;
		return NULL;
	}
	p = mem_map(q->mem, gpa, len, write);
	if (!p) {
		*ret = -EFAULT;
	}
	return p;
}

static bool vq_size_ok(uint16_t size, uint16_t max, bool packed)
{
	return size && size <= max && (packed || !(size & (size - 1)));
}

int vq_start(struct virtqueue *q, bool packed, bool event_idx, bool indirect)
{
	size_t n = q->size;
	int r = 0;

	if (!vq_size_ok(q->size, q->size_max, packed)) {
		return -EINVAL;
	}
	q->desc = vq_map(q, q->desc_gpa, n * VQ_DESC_BYTES, 16, packed, &r);
	q->driver = vq_map(q, q->driver_gpa, packed ? VQ_EVENT_BYTES : VQ_AVAIL_BYTES(n),
			   packed ? 4 : 2, false, &r);
	q->device =
		vq_map(q, q->device_gpa, packed ? VQ_EVENT_BYTES : VQ_USED_BYTES(n), 4, true, &r);
	if (r < 0) {
		return r;
	}
	q->packed = packed;
	q->event_idx = event_idx;
	q->indirect = indirect;
	q->last_avail = q->seen_avail = q->used = q->staged = 0;
	q->avail_wrap = q->used_wrap = true;
	q->first_flags = NULL;
	q->kicks_on = true;
	q->broken = q->mute = false;
	q->started = true;
	return 0;
}

void vq_stop(struct virtqueue *q)
{
	q->started = q->enabled = q->broken = q->mute = false;
	q->desc = q->driver = q->device = NULL;
	q->desc_gpa = q->driver_gpa = q->device_gpa = 0;
	q->size = q->size_max;
	q->vector = 0xffff;
	q->staged = 0;
	q->in_flight = q->in_flight_slots = 0;
}

/* --- descriptors to scatter lists --------------------------------------------- */

static struct desc load_desc(const uint8_t *p, bool packed)
{
	uint64_t w[2];
	struct desc d;

	memcpy(w, (const void *)p, sizeof(w));
	/* The compiler must not go back to guest memory for a second look. */
	__asm__ volatile("" : "+r"(w[0]), "+r"(w[1]));
	d.addr = w[0];
	d.len = (uint32_t)w[1];
	d.flags = (uint16_t)(w[1] >> (packed ? 48 : 32));
	d.next = (uint16_t)(w[1] >> (packed ? 32 : 48));
	return d;
}

/* Adds one host range; false: no room. */
static bool chain_put(struct vq_chain *c, void *host, gpa_t gpa, uint32_t len, bool write)
{
	unsigned n = c->out_count + c->in_count;

	if (n == c->cap) {
		return false;
	}
	c->iov[n] = (struct iovec){ host, len };
	c->gpa[n] = gpa;
	if (write) {
		c->in_count++;
	} else {
		c->out_count++;
	}
	return true;
}

/* How much of [gpa, gpa+len) lies in the RAM region that holds gpa; 0: none does. */
static uint32_t within_region(struct mem *m, gpa_t gpa, uint32_t len)
{
	for (unsigned i = 0; i < mem_region_count(m); i++) {
		const struct mem_region *r = mem_region_at(m, i);

		if (gpa >= r->gpa && gpa - r->gpa < r->size_bytes) {
			return (uint32_t)MIN((uint64_t)len, r->size_bytes - (gpa - r->gpa));
		}
	}
	return 0;
}

/* A range that crosses from one region into the next, which is rare, is cut. */
static int chain_add_pieces(struct virtqueue *q, struct vq_chain *c, const struct desc *d)
{
	bool write = d->flags & VQ_DESC_WRITE;
	uint32_t done = 0;

	while (done < d->len) {
		uint32_t n = within_region(q->mem, d->addr + done, d->len - done);
		void *host = n ? mem_map(q->mem, d->addr + done, n, write) : NULL;

		if (!host) {
			return vq_fail(q, "a descriptor points outside of memory");
		}
		if (!chain_put(c, host, d->addr + done, n, write)) {
			return vq_fail(q, "too many segments");
		}
		done += n;
	}
	return 0;
}

static int chain_add(struct virtqueue *q, struct vq_chain *c, const struct desc *d)
{
	bool write = d->flags & VQ_DESC_WRITE;
	uint32_t *sum = write ? &c->in_bytes : &c->out_bytes;
	uint64_t end;
	void *host;

	if (!write && c->in_count) {
		return vq_fail(q, "a readable descriptor follows a writable one");
	}
	if (!d->len) {
		return 0;
	}
	if (!range_end(d->addr, d->len, &end) || __builtin_add_overflow(*sum, d->len, sum)) {
		return vq_fail(q, "a chain's length overflows");
	}
	host = mem_map(q->mem, d->addr, d->len, write);
	if (!host) {
		return chain_add_pieces(q, c, d);
	}
	if (!chain_put(c, host, d->addr, d->len, write)) {
		return vq_fail(q, "too many segments");
	}
	return 0;
}

/* The table that an indirect descriptor names, checked; NULL: broken. */
static const uint8_t *indirect_table(struct virtqueue *q, const struct desc *d, uint32_t *ret_count)
{
	const uint8_t *table;

	if (!q->indirect || (d->flags & VQ_DESC_NEXT)) {
		vq_fail(q, "an indirect descriptor is not allowed here");
		return NULL;
	}
	if (!d->len || d->len % VQ_DESC_BYTES || d->len / VQ_DESC_BYTES > VQ_SIZE_MAX) {
		vq_fail(q, "an indirect table has a wrong length");
		return NULL;
	}
	table = mem_map(q->mem, d->addr, d->len, false);
	if (!table) {
		vq_fail(q, "an indirect table is not in memory");
		return NULL;
	}
	*ret_count = d->len / VQ_DESC_BYTES;
	return table;
}

/* Follow a split chain through `table` from entry `i`. */
static int walk_split(struct virtqueue *q, struct vq_chain *c, const uint8_t *table, uint32_t count,
		      uint16_t i)
{
	bool inside = table != q->desc;

	for (uint32_t visited = 0; visited < count; visited++) {
		struct desc d;
		int r;

		if (i >= count) {
			return vq_fail(q, "a descriptor's index is past its table");
		}
		d = load_desc(table + (size_t)i * VQ_DESC_BYTES, false);
		if (d.flags & VQ_DESC_INDIRECT) {
			if (inside) {
				return vq_fail(q, "an indirect table inside an indirect table");
			}
			table = indirect_table(q, &d, &count);
			if (!table) {
				return -EBADMSG;
			}
			return walk_split(q, c, table, count, 0);
		}
		r = chain_add(q, c, &d);
		if (r < 0 || !(d.flags & VQ_DESC_NEXT)) {
			return r;
		}
		i = d.next;
	}
	return vq_fail(q, "a chain has a loop");
}

static bool split_empty(struct virtqueue *q)
{
	if (q->seen_avail == q->last_avail) {
		q->seen_avail = vq_load_acquire16(q->driver + VQ_RING_IDX);
	}
	return q->seen_avail == q->last_avail;
}

static int pop_split(struct virtqueue *q, struct vq_chain *c)
{
	uint16_t head;

	if (split_empty(q)) {
		return 0;
	}
	if ((uint16_t)(q->seen_avail - q->last_avail) > q->size) {
		return vq_fail(q, "the available index is ahead by more than the ring");
	}
	head = vq_load_acquire16(q->driver + VQ_AVAIL_ENTRY(q->last_avail & (q->size - 1)));
	if (head >= q->size) {
		return vq_fail(q, "an available entry is past the table");
	}
	q->last_avail++;
	c->id = head;
	c->slots = 1;
	return walk_split(q, c, q->desc, q->size, head) < 0 ? -EBADMSG : 1;
}

static uint8_t *packed_desc(const struct virtqueue *q, uint16_t i)
{
	return q->desc + (size_t)i * VQ_DESC_BYTES;
}

static bool packed_empty(struct virtqueue *q)
{
	uint16_t f = vq_load_acquire16(packed_desc(q, q->last_avail) + VQ_DESC_PACKED_FLAGS);
	bool avail = f & VQ_DESC_AVAIL, used = f & VQ_DESC_USED;

	return avail != q->avail_wrap || used == q->avail_wrap;
}

static int packed_indirect(struct virtqueue *q, struct vq_chain *c, const struct desc *head)
{
	uint32_t count;
	const uint8_t *table = indirect_table(q, head, &count);

	if (!table) {
		return -EBADMSG;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct desc d = load_desc(table + (size_t)i * VQ_DESC_BYTES, true);

		if (d.flags & VQ_DESC_INDIRECT) {
			return vq_fail(q, "an indirect table inside an indirect table");
		}
		if (chain_add(q, c, &d) < 0) {
			return -EBADMSG;
		}
	}
	return 0;
}

static void packed_advance(uint16_t *pos, bool *wrap, uint16_t slots, uint16_t size)
{
	unsigned next = (unsigned)*pos + slots;

	if (next >= size) {
		next -= size;
		*wrap = !*wrap;
	}
	*pos = (uint16_t)next;
}

static int walk_packed(struct virtqueue *q, struct vq_chain *c)
{
	uint16_t i = q->last_avail;

	for (c->slots = 1; c->slots <= q->size; c->slots++) {
		struct desc d = load_desc(packed_desc(q, i), true);
		int r;

		c->id = d.next;
		if (d.flags & VQ_DESC_INDIRECT) {
			if (c->slots > 1) {
				return vq_fail(q, "an indirect descriptor inside a chain");
			}
			return packed_indirect(q, c, &d);
		}
		r = chain_add(q, c, &d);
		if (r < 0 || !(d.flags & VQ_DESC_NEXT)) {
			return r;
		}
		i = (uint16_t)(i + 1 == q->size ? 0 : i + 1);
	}
	return vq_fail(q, "a chain is longer than the ring");
}

static int pop_packed(struct virtqueue *q, struct vq_chain *c)
{
	if (packed_empty(q)) {
		return 0;
	}
	if (walk_packed(q, c) < 0) {
		return -EBADMSG;
	}
	packed_advance(&q->last_avail, &q->avail_wrap, c->slots, q->size);
	return 1;
}

int vq_pop(struct virtqueue *q, struct vq_chain *c)
{
	int r;

	if (!q->started || q->mute) {
		return 0;
	}
	if (q->broken) {
		return -EBADMSG;
	}
	c->out_count = c->in_count = 0;
	c->out_bytes = c->in_bytes = 0;
	r = q->packed ? pop_packed(q, c) : pop_split(q, c);
	if (r <= 0) {
		return r;
	}
	if (q->in_flight_slots + c->slots > q->size) {
		return vq_fail(q, "more buffers are offered than the ring has room for");
	}
	q->in_flight++;
	q->in_flight_slots += c->slots;
	return 1;
}

/* --- giving back ---------------------------------------------------------------- */

void vq_forget(struct virtqueue *q, const struct vq_chain *c)
{
	q->in_flight--;
	q->in_flight_slots -= c->slots;
}

static void mark_dirty(struct virtqueue *q, const struct vq_chain *c, uint32_t written)
{
	for (unsigned i = c->out_count; i < c->out_count + c->in_count && written; i++) {
		uint32_t n = MIN((uint32_t)c->iov[i].iov_len, written);

		mem_mark_dirty(q->mem, c->gpa[i], n);
		written -= n;
	}
}

static void push_split(struct virtqueue *q, const struct vq_chain *c, uint32_t written)
{
	uint8_t *e = q->device + VQ_USED_ENTRY((uint16_t)(q->used + q->staged) & (q->size - 1));

	store_le32(e, c->id);
	store_le32(e + 4, written);
	q->staged++;
}

static void push_packed(struct virtqueue *q, const struct vq_chain *c, uint32_t written)
{
	uint8_t *d = packed_desc(q, q->used);
	uint16_t flags = (uint16_t)(q->used_wrap ? VQ_DESC_AVAIL | VQ_DESC_USED : 0);

	if (written) {
		flags |= VQ_DESC_WRITE;
	}
	store_le32(d + VQ_DESC_LEN, written);
	store_le16(d + VQ_DESC_PACKED_ID, c->id);
	if (!q->staged) {
		q->first_flags = d + VQ_DESC_PACKED_FLAGS;
		q->first_value = flags;
	} else {
		vq_store_release16(d + VQ_DESC_PACKED_FLAGS, flags);
	}
	q->staged += c->slots;
	packed_advance(&q->used, &q->used_wrap, c->slots, q->size);
}

void vq_push(struct virtqueue *q, const struct vq_chain *c, uint32_t written)
{
	vq_forget(q, c);
	if (!q->started || q->mute) {
		return;
	}
	mark_dirty(q, c, written);
	if (q->packed) {
		push_packed(q, c, written);
	} else {
		push_split(q, c, written);
	}
}

static bool flush_split(struct virtqueue *q)
{
	uint16_t old = q->used;

	q->used += q->staged;
	q->staged = 0;
	vq_store_release16(q->device + VQ_RING_IDX, q->used);
	mem_mark_dirty(q->mem, q->device_gpa, VQ_USED_BYTES(q->size));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!q->event_idx) {
		return !(vq_load_acquire16(q->driver + VQ_RING_FLAGS) & VQ_AVAIL_NO_INTERRUPT);
	}
	return vq_event_passed(vq_load_acquire16(q->driver + VQ_AVAIL_ENTRY(q->size)), q->used,
			       old);
}

static bool flush_packed(struct virtqueue *q)
{
	uint16_t slots = q->staged, flags, event;

	q->staged = 0;
	vq_store_release16(q->first_flags, q->first_value);
	mem_mark_dirty(q->mem, q->desc_gpa, (size_t)q->size * VQ_DESC_BYTES);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	flags = vq_load_acquire16(q->driver + VQ_EVENT_FLAGS) & 3;
	if (flags != VQ_EVENT_DESC || !q->event_idx) {
		return flags != VQ_EVENT_DISABLE;
	}
	event = vq_load_acquire16(q->driver + VQ_EVENT_OFF_WRAP);
	flags = event >> 15;
	event &= (uint16_t)~VQ_EVENT_WRAP_BIT;
	if ((bool)flags != q->used_wrap) {
		event -= q->size;
	}
	return vq_event_passed(event, q->used, (uint16_t)(q->used - slots));
}

bool vq_flush(struct virtqueue *q)
{
	if (!q->staged || !q->started || q->mute) {
		return false;
	}
	return q->packed ? flush_packed(q) : flush_split(q);
}

/* --- kicks ------------------------------------------------------------------------ */

bool vq_empty(struct virtqueue *q)
{
	if (!q->started || q->broken || q->mute) {
		return true;
	}
	return q->packed ? packed_empty(q) : split_empty(q);
}

void vq_kicks_off(struct virtqueue *q)
{
	if (!q->started || q->mute || !q->kicks_on) {
		return;
	}
	q->kicks_on = false;
	if (q->packed) {
		vq_store_release16(q->device + VQ_EVENT_FLAGS, VQ_EVENT_DISABLE);
	} else if (!q->event_idx) {
		vq_store_release16(q->device + VQ_RING_FLAGS, VQ_USED_NO_NOTIFY);
	}
	/* Split with event index: an event that is not moved on stays silent. */
}

static void kicks_on_packed(struct virtqueue *q)
{
	if (q->event_idx) {
		vq_store_release16(q->device + VQ_EVENT_OFF_WRAP,
				   (uint16_t)(q->last_avail | q->avail_wrap << 15));
		vq_store_release16(q->device + VQ_EVENT_FLAGS, VQ_EVENT_DESC);
	} else {
		vq_store_release16(q->device + VQ_EVENT_FLAGS, VQ_EVENT_ENABLE);
	}
}

bool vq_kicks_on(struct virtqueue *q)
{
	if (!q->started || q->mute || q->broken) {
		return false;
	}
	q->kicks_on = true;
	if (q->packed) {
		kicks_on_packed(q);
	} else if (q->event_idx) {
		vq_store_release16(q->device + VQ_USED_ENTRY(q->size), q->last_avail);
	} else {
		vq_store_release16(q->device + VQ_RING_FLAGS, 0);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !vq_empty(q);
}
