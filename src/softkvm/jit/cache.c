/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The code cache: memory, blocks, edges, and the pages that code was made from. See jit_int.h.
 *
 * How a page becomes code: it is given the next sequence number, noted in jit->pending, and every
 * vCPU is asked (REQ_JIT) to drop its write tags for all pages noted since it last looked; then it
 * stores the number up to which it has (vcpu.jit.seen). A vCPU outside the guest looks before it
 * touches memory, so it need not be waited for. One that is so far behind that the notes it needs
 * are overwritten drops its whole TLB.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/stub.h"
#include "softkvm/jit/jit_int.h"
#include "softkvm/mmu/mmu_int.h"
#include "softkvm/vm.h"

#define ARENA_CHUNK KIB(128)

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, size;
	uint8_t data[] __attribute__((aligned(16)));
};

/* --- look-up ---------------------------------------------------------------------------------- */

static unsigned block_hash(uint64_t rip, uint32_t key, uint64_t host)
{
	uint64_t x = rip ^ host << 7 ^ (uint64_t)key << 56;

	return (unsigned)(x * 0x9e3779b97f4a7c15ull >> (64 - BLOCK_HASH_BITS));
}

struct jit_block *jit_find(const struct jit *jit, uint64_t rip, uint32_t key, uint64_t host)
{
	struct jit_block *b =
		atomic_load_explicit(&jit->hash[block_hash(rip, key, host)], memory_order_acquire);

	while (b && (b->rip != rip || b->key != key || b->host != host)) {
		b = atomic_load_explicit(&b->hash_next, memory_order_acquire);
	}
	return b;
}

static unsigned page_hash(uint64_t host)
{
	return (unsigned)((host >> 12) * 0x9e3779b97f4a7c15ull >> (64 - PAGE_HASH_BITS));
}

struct jit_page *jit_page_find(const struct jit *jit, uint64_t host)
{
	struct jit_page *p =
		atomic_load_explicit(&jit->pages[page_hash(host)], memory_order_acquire);

	while (p && p->host != host) {
		p = atomic_load_explicit(&p->next, memory_order_relaxed);
	}
	return p;
}

struct jit_page *jit_page_get(struct jit *jit, uint64_t host)
{
	struct jit_page *p = jit_page_find(jit, host);

	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p) {
			return NULL;
		}
		p->host = host;
		atomic_store(&p->next, atomic_load(&jit->pages[page_hash(host)]));
		atomic_store_explicit(&jit->pages[page_hash(host)], p, memory_order_release);
	}
	return p;
}

static enum page_state page_state(const struct jit_page *p)
{
	return (enum page_state)atomic_load_explicit(&p->state, memory_order_acquire);
}

bool jit_page_is_code(const struct vm *vm, const uint8_t *host)
{
	const struct jit_page *p;

	if (!vm->jit) {
		return false;
	}
	p = jit_page_find(vm->jit, (uint64_t)(uintptr_t)host & ~4095ull);
	return p && page_state(p) != PAGE_DATA;
}

/* --- edges
 * ---------------------------------------------------------------------------------------- */

static void patch_displacement(const struct jit *jit, uint8_t *at, const uint8_t *target)
{
	uint8_t *rx = at + (jit->rx - jit->rw);

	__atomic_store_n((uint32_t *)(void *)at, (uint32_t)(target - (rx + 4)), __ATOMIC_RELEASE);
}

void jit_link(struct jit *jit, struct jit_edge *e, struct jit_block *to)
{
	if (e->to || e->from->dead) {
		return;
	}
	e->to = to;
	e->next_in = to->in;
	to->in = e;
	patch_displacement(jit, e->patch, e->host_flags ? to->enter : to->enter_memory);
}

static void edge_unlink(struct jit_edge *e)
{
	struct jit_edge **p = &e->to->in;

	while (*p != e) {
		p = &(*p)->next_in;
	}
	*p = e->next_in;
	e->to = NULL;
}

/* --- blocks
 * ----------------------------------------------------------------------------------------- */

void jit_publish(struct jit *jit, struct jit_block *b)
{
	struct jit_block *_Atomic *chain = &jit->hash[block_hash(b->rip, b->key, b->host)];

	b->page_next = b->page->blocks;
	b->page->blocks = b;
	if (b->crosses) {
		b->cross_next = b->page2->crossing;
		b->page2->crossing = b;
	}
	b->region_next = jit->regions[b->region].blocks;
	jit->regions[b->region].blocks = b;
	atomic_store_explicit(&b->hash_next, atomic_load(chain), memory_order_relaxed);
	atomic_store_explicit(chain, b, memory_order_release);
	jit->blocks++;
}

static void hash_remove(struct jit *jit, struct jit_block *b)
{
	struct jit_block *_Atomic *p = &jit->hash[block_hash(b->rip, b->key, b->host)];

	while (atomic_load(p) != b) {
		p = &atomic_load(p)->hash_next;
	}
	atomic_store_explicit(p, atomic_load(&b->hash_next), memory_order_release);
}

static void page_remove(struct jit_block *b)
{
	struct jit_block **p = &b->page->blocks;

	while (*p != b) {
		p = &(*p)->page_next;
	}
	*p = b->page_next;
	if (b->crosses) {
		for (p = &b->page2->crossing; *p != b;) {
			p = &(*p)->cross_next;
		}
		*p = b->cross_next;
	}
}

/* Whoever comes by an indirect jump is sent to the dispatcher. */
static void close_entry(const struct jit *jit, const struct jit_block *b)
{
	uint8_t *rw = jit->rw + (b->enter_indirect - jit->rx), bytes[8];
	uint64_t word;

	memcpy(bytes, rw, sizeof(bytes));
	bytes[0] = 0xe9;
	store_le32(bytes + 1, (uint32_t)(jit->glue.indirect - (b->enter_indirect + 5)));
	memcpy(&word, bytes, sizeof(word));
	__atomic_store_n((uint64_t *)(void *)rw, word, __ATOMIC_RELEASE);
}

void jit_kill(struct jit *jit, struct jit_block *b)
{
	if (b->dead) {
		return;
	}
	b->dead = true;
	hash_remove(jit, b);
	page_remove(b);
	close_entry(jit, b);
	while (b->in) {
		struct jit_edge *e = b->in;

		b->in = e->next_in;
		e->to = NULL;
		patch_displacement(jit, e->patch, e->stub);
	}
	for (unsigned i = 0; i < b->edge_count; i++) {
		if (b->edges[i].to) {
			edge_unlink(&b->edges[i]);
			patch_displacement(jit, b->edges[i].patch, b->edges[i].stub);
		}
	}
	jit->blocks--;
	jit->killed++;
}

/* --- memory
 * ------------------------------------------------------------------------------------------- */

static struct vcpu *vm_vcpu(struct vm *vm, uint32_t i)
{
	return atomic_load_explicit(&vm->vcpus[i], memory_order_acquire);
}

static void region_evict(struct jit *jit, struct jit_region *r)
{
	struct jit_block *next;

	if (r->evicted) {
		return;
	}
	for (struct jit_block *b = r->blocks; b; b = next) {
		next = b->region_next;
		jit_kill(jit, b);
	}
	r->blocks = NULL;
	r->evicted = true;
	atomic_fetch_add(&jit->evictions, 1);
	for (uint32_t i = 0; i < atomic_load(&jit->vm->vcpu_count); i++) {
		struct vcpu *cpu = vm_vcpu(jit->vm, i);

		r->leaves[i] = atomic_load(&cpu->jit.leaves);
		vcpu_request(cpu, REQ_JIT);
	}
}

/* Has every vCPU left translated code since the region was evicted? Then its memory is free. */
static bool region_clean(struct jit *jit, struct jit_region *r)
{
	for (uint32_t i = 0; !r->clean && i < atomic_load(&jit->vm->vcpu_count); i++) {
		struct vcpu *cpu = vm_vcpu(jit->vm, i);

		if (atomic_load(&cpu->jit.inside) &&
		    atomic_load(&cpu->jit.leaves) == r->leaves[i]) {
			return false;
		}
	}
	while (r->arena) {
		struct arena_chunk *next = r->arena->next;

		free(r->arena);
		r->arena = next;
	}
	r->clean = true;
	return true;
}

static void region_begin(struct jit *jit, unsigned n)
{
	struct jit_region *r = &jit->regions[n];

	jit->region = n;
	jit->code.p = r->start;
	jit->cold.p = r->start + ALIGN_DOWN((size_t)(r->end - r->start) / 2, (size_t)4096);
	jit->end = jit->cold.p;
	jit->cold_end = r->end;
	r->clean = r->evicted = false;
	region_evict(jit, &jit->regions[(n + 1) % REGIONS]);
}

bool jit_room(struct jit *jit)
{
	unsigned next = (jit->region + 1) % REGIONS;

	if ((size_t)(jit->end - jit->code.p) >= BLOCK_ROOM &&
	    (size_t)(jit->cold_end - jit->cold.p) >= BLOCK_ROOM) {
		return true;
	}
	if (!region_clean(jit, &jit->regions[next])) {
		return false;
	}
	region_begin(jit, next);
	return true;
}

void *jit_alloc(struct jit *jit, size_t bytes)
{
	struct jit_region *r = &jit->regions[jit->region];
	void *p;

	bytes = ALIGN_UP(bytes, (size_t)16);
	if (!r->arena || r->arena->size - r->arena->used < bytes) {
		size_t size = MAX(bytes, (size_t)ARENA_CHUNK - sizeof(struct arena_chunk));
		struct arena_chunk *chunk = malloc(sizeof(*chunk) + size);

		if (!chunk) {
			return NULL;
		}
		chunk->next = r->arena;
		chunk->used = 0;
		chunk->size = size;
		r->arena = chunk;
	}
	p = r->arena->data + r->arena->used;
	r->arena->used += bytes;
	return p;
}

/* --- pages
 * -------------------------------------------------------------------------------------------- */

static void page_mark(struct vcpu *cpu, struct jit_page *page)
{
	struct jit *jit = cpu->vm->jit;
	uint32_t seq = atomic_load(&jit->page_sequence) + 1;

	atomic_store(&page->state, PAGE_PENDING);
	page->sequence = seq;
	atomic_store(&jit->pending[seq % JIT_PENDING], page->host);
	atomic_store(&jit->page_sequence, seq);
	for (uint32_t i = 0; i < atomic_load(&cpu->vm->vcpu_count); i++) {
		if (vm_vcpu(cpu->vm, i) != cpu) {
			vcpu_request(vm_vcpu(cpu->vm, i), REQ_JIT);
		}
	}
	jit_drop_write_tags(cpu);
}

void jit_drop_write_tags(struct vcpu *cpu)
{
	struct jit *jit = cpu->vm->jit;
	uint32_t seq, seen = atomic_load(&cpu->jit.seen);

	if (!jit) {
		return;
	}
	seq = atomic_load(&jit->page_sequence);
	if (seq - seen > JIT_PENDING / 2) {
		mmu_flush_all(cpu);
	} else {
		while (seen != seq) {
			seen++;
			tlb_drop_tags(cpu->mmu,
				      (const uint8_t *)(uintptr_t)atomic_load(
					      &jit->pending[seen % JIT_PENDING]),
				      false);
		}
	}
	atomic_store(&cpu->jit.seen, seq);
}

static bool dropped_by_all(struct vm *vm, uint32_t sequence)
{
	for (uint32_t i = 0; i < atomic_load(&vm->vcpu_count); i++) {
		struct vcpu *cpu = vm_vcpu(vm, i);

		if ((int32_t)(atomic_load(&cpu->jit.seen) - sequence) < 0 &&
		    (atomic_load(&cpu->in_guest) || !(atomic_load(&cpu->req) & REQ_JIT))) {
			return false;
		}
	}
	return true;
}

void jit_page_kill_blocks(struct jit *jit, struct jit_page *page)
{
	while (page->blocks) {
		jit_kill(jit, page->blocks);
	}
	while (page->crossing) {
		jit_kill(jit, page->crossing);
	}
}

static void page_to_data(struct jit *jit, struct jit_page *page)
{
	jit_page_kill_blocks(jit, page);
	atomic_store_explicit(&page->state, PAGE_DATA, memory_order_release);
}

bool jit_page_ready(struct vcpu *cpu, struct jit_page *page)
{
	switch (page_state(page)) {
	case PAGE_DATA:
		if (page->cool > 0) {
			page->cool--;
			return false;
		}
		if (!page->bytes) {
			page->bytes = malloc(4096);
		}
		if (!page->bytes) {
			return false;
		}
		page_mark(cpu, page);
		/* fall through */
	case PAGE_PENDING:
		if (!dropped_by_all(cpu->vm, page->sequence)) {
			return false;
		}
		page->writes = page->kills = 0;
		/* In this order, and the opposite of wrote_in_page(): one of both sees the other.
		 */
		atomic_store(&page->state, PAGE_CODE);
		atomic_thread_fence(memory_order_seq_cst);
		memcpy(page->bytes, (const void *)(uintptr_t)page->host, 4096);
		return true;
	case PAGE_CODE:
		jit_page_verify(cpu->vm->jit, page);
		return true;
	}
	return false;
}

/* Kill what was made from [start, end) of the page. How many blocks that were. */
static unsigned page_changed(struct jit *jit, struct jit_page *page, unsigned start, unsigned end)
{
	struct jit_block *next;
	unsigned n = 0;

	for (struct jit_block *b = page->blocks; b; b = next) {
		bool hit = false;

		next = b->page_next;
		for (unsigned i = 0; i < b->ranges; i++) {
			hit |= b->range[i].start < end && start < b->range[i].end;
		}
		if (hit) {
			jit_kill(jit, b);
			n++;
		}
	}
	for (struct jit_block *b = page->crossing; b && start < INSN_BYTES_MAX; b = next) {
		next = b->cross_next;
		jit_kill(jit, b);
		n++;
	}
	memcpy(page->bytes + start, (const uint8_t *)(uintptr_t)page->host + start, end - start);
	return n;
}

void jit_page_verify(struct jit *jit, struct jit_page *page)
{
	const uint8_t *host = (const uint8_t *)(uintptr_t)page->host;

	if (likely(memcmp(host, page->bytes, 4096) == 0)) {
		return;
	}
	for (unsigned i = 0; i < 4096; i += 64) {
		if (memcmp(host + i, page->bytes + i, 64) != 0) {
			page_changed(jit, page, i, i + 64);
		}
	}
}

void jit_page_fetched(struct vm *vm, const uint8_t *host)
{
	struct jit_page *p;

	if (!vm->jit) {
		return;
	}
	p = jit_page_find(vm->jit, (uint64_t)(uintptr_t)host & ~4095ull);
	if (p && page_state(p) == PAGE_CODE) {
		pthread_mutex_lock(&vm->jit->lock);
		if (page_state(p) == PAGE_CODE) {
			jit_page_verify(vm->jit, p);
		}
		pthread_mutex_unlock(&vm->jit->lock);
	}
}

/* A page written so often is data for a while. */
static void page_count_write(struct jit *jit, struct jit_page *p, unsigned killed)
{
	p->kills += killed;
	if (killed == 0 && ++p->writes < PAGE_WRITES_MAX) {
		return;
	}
	if (killed == 0) {
		page_to_data(jit, p);
	} else if (p->kills >= PAGE_KILLS_MAX) {
		page_to_data(jit, p);
		p->cool = PAGE_COOL;
	}
}

static void wrote_in_page(struct jit *jit, uint64_t host, unsigned start, unsigned end)
{
	struct jit_page *p;

	atomic_thread_fence(memory_order_seq_cst); /* the write comes before the look */
	p = jit_page_find(jit, host);
	if (!p || page_state(p) != PAGE_CODE) {
		return;
	}
	pthread_mutex_lock(&jit->lock);
	if (page_state(p) == PAGE_CODE) {
		page_count_write(jit, p, page_changed(jit, p, start, end));
	}
	pthread_mutex_unlock(&jit->lock);
}

void jit_wrote(struct vm *vm, const uint8_t *host, size_t len)
{
	uint64_t at = (uint64_t)(uintptr_t)host, end = at + len;

	if (!vm->jit) {
		return;
	}
	while (at < end) {
		uint64_t page = at & ~4095ull;

		wrote_in_page(vm->jit, page, at & 4095, (unsigned)(MIN(end, page + 4096) - page));
		at = page + 4096;
	}
}

void jit_page_to_data(struct vm *vm, const uint8_t *host)
{
	struct jit_page *p;

	if (!vm->jit) {
		return;
	}
	p = jit_page_find(vm->jit, (uint64_t)(uintptr_t)host & ~4095ull);
	if (p && page_state(p) != PAGE_DATA) {
		pthread_mutex_lock(&vm->jit->lock);
		page_to_data(vm->jit, p);
		pthread_mutex_unlock(&vm->jit->lock);
	}
}

void jit_flush(struct vm *vm)
{
	struct jit *jit = vm->jit;

	if (!jit) {
		return;
	}
	pthread_mutex_lock(&jit->lock);
	for (unsigned i = 0; i < ARRAY_SIZE(jit->pages); i++) {
		for (struct jit_page *p = jit->pages[i]; p; p = p->next) {
			page_to_data(jit, p);
		}
	}
	jit->flushes++;
	pthread_mutex_unlock(&jit->lock);
}

/* --- life
 * -----------------------------------------------------------------------------------------------
 */

static void cut_regions(struct jit *jit)
{
	size_t each = ALIGN_DOWN((jit->size - GLUE_BYTES) / REGIONS, (size_t)4096);

	for (unsigned i = 0; i < REGIONS; i++) {
		jit->regions[i].start = jit->rw + GLUE_BYTES + i * each;
		jit->regions[i].end = jit->regions[i].start + each;
		jit->regions[i].clean = jit->regions[i].evicted = true;
	}
	jit->code.to_rx = jit->cold.to_rx = jit->rx - jit->rw;
	region_begin(jit, 0);
}

static void jit_free(struct jit *jit)
{
	if (jit->rw) {
		munmap(jit->rw, jit->size);
		munmap(jit->rx, jit->size);
	}
	for (unsigned i = 0; i < REGIONS; i++) {
		struct arena_chunk *next;

		for (struct arena_chunk *c = jit->regions[i].arena; c; c = next) {
			next = c->next;
			free(c);
		}
	}
	for (unsigned i = 0; i < ARRAY_SIZE(jit->pages); i++) {
		struct jit_page *next;

		for (struct jit_page *p = jit->pages[i]; p; p = next) {
			next = p->next;
			free(p->bytes);
			free(p);
		}
	}
	pthread_mutex_destroy(&jit->lock);
	free(jit->work);
	munmap(jit, sizeof(*jit));
}

int jit_vm_init(struct vm *vm)
{
	struct code glue;
	struct jit *jit;
	int r;

	if (jit_options.off) {
		return 0;
	}
	jit = mmap(NULL, sizeof(*jit), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (jit == MAP_FAILED) {
		return -ENOMEM;
	}
	jit->vm = vm;
	pthread_mutex_init(&jit->lock, NULL);
	__builtin_cpu_init();
	jit->avx = __builtin_cpu_supports("avx");
	jit->bmi2 = __builtin_cpu_supports("bmi2");
	jit->work = tr_new();
	jit->size = MIB(jit_options.cache_mib);
	r = jit->work ? stub_map("softkvm-code", jit->size, &jit->rw, &jit->rx) : -ENOMEM;
	if (r < 0) {
		jit_free(jit);
		return r;
	}
	glue = (struct code){ jit->rw, jit->rx - jit->rw };
	jit_glue_make(jit, &glue);
	ASSERT(glue.p <= jit->rw + GLUE_BYTES);
	cut_regions(jit);
	vm->jit = jit;
	jit_trace_init();
	return 0;
}

void jit_vm_done(struct vm *vm)
{
	if (vm->jit) {
		jit_free(vm->jit);
		vm->jit = NULL;
	}
}
