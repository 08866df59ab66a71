/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * A block is a straight run of decoded instructions within one page, at most BLOCK_BYTES_MAX bytes.
 * It is found by RIP and mode key, in a direct-mapped table (`front`) before hash chains, and it
 * holds a copy of the bytes it was made from.
 *
 * Entering a block does what fetching does: RIP is translated by the TLB's execute tag, with
 * the rights of the present privilege, and the bytes in memory are compared with the block's.
 * Decoding is a pure function of bytes, RIP and mode, so a block whose bytes are the same is
 * right, whoever wrote them and through whatever mapping. Nothing else is needed to keep blocks
 * coherent: not with stores of this or another vCPU, not with DMA by user space's devices (of
 * which nobody tells us), not with changes of page tables or slots. The comparison costs about
 * 1 ns for a common block. Alternatives were weighed: write protection of code pages in all
 * vCPUs' TLBs with cross-calls cannot see user space's own writes, and mprotect() of guest RAM
 * costs microseconds a page and another process may map it.
 *
 * What the comparison cannot see is a store, by the block itself, to its own bytes that are
 * still to be executed; mmu/code.c catches it and kills the block. A store by another vCPU
 * while the block runs takes effect with the next block, as if its bytes had been prefetched;
 * x86 promises more only behind a serializing instruction, and those end a block.
 *
 * An instruction that lies on two pages is a block of its own (`crosses`), which is never in
 * `front`'s fast way, since its two parts must be translated one by one.
 *
 * Several blocks of the same RIP and key may be in a chain (processes, patched code): at most
 * VARIANTS_MAX are kept. Memory comes from an arena of ARENA_BYTES, which is emptied as a whole
 * when it is full; a chain may thus be cut only when no instruction is under way, or behind the
 * one that is.
 *
 * Running on: the handler that ends a block, and branches, call block_chain(), which looks at
 * requests and goes into the next block by a tail call. In builds without tail calls the run
 * loop does it.
 *
 * A handler that the compiler could not give a tail call leaves a frame behind; a guest may loop
 * over such instructions, so block_chain() returns when the stack has grown by STACK_BYTES_MAX.
 */
#include "softkvm/cpu/blocks.h"

#include <emmintrin.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "softkvm/cpu/bind.h"
#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/ops.h"
#include "softkvm/cpu/run.h"
#include "softkvm/mmu/mmu_int.h"

#define ARENA_BYTES     MIB(32) /* of address space; touched as it fills */
#define FRONT_BITS      14
#define CHAIN_BITS      15
#define VARIANTS_MAX    4
#define STACK_BYTES_MAX KIB(32) /* that handlers may leave on the host's stack */
#define BLOCK_SIZE(n)   (sizeof(struct block) + ((n) + 1) * sizeof(struct insn))

struct blocks {
	uint8_t *arena;
	size_t used;
	enum exec_result result; /* why find() gave no block */
	struct block *step;      /* scratch for block_step() */
	struct block *front[1 << FRONT_BITS];
	struct block *chain[1 << CHAIN_BITS];
};

/* What empty places of `front` point to. */
static struct block no_block = { .key = BLOCK_DEAD };

static inline unsigned front_hash(uint64_t rip)
{
	return (unsigned)(rip ^ rip >> FRONT_BITS) & ((1 << FRONT_BITS) - 1);
}

static unsigned chain_hash(uint64_t rip, uint32_t key)
{
	return (unsigned)((rip ^ (uint64_t)key << 40) * 0x9e3779b97f4a7c15ull >> (64 - CHAIN_BITS));
}

int blocks_init(struct vcpu *cpu)
{
	struct blocks *bs = calloc(1, sizeof(*bs));

	if (!bs) {
		return -ENOMEM;
	}
	cpu->blocks = bs;
	bs->step = calloc(1, BLOCK_SIZE(1));
	bs->arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (bs->arena == MAP_FAILED || !bs->step) {
		bs->arena = bs->arena == MAP_FAILED ? NULL : bs->arena;
		blocks_done(cpu);
		return -ENOMEM;
	}
	cpu->front = bs->front;
	blocks_flush(cpu);
	return 0;
}

void blocks_done(struct vcpu *cpu)
{
	struct blocks *bs = cpu->blocks;

	if (!bs) {
		return;
	}
	if (bs->arena) {
		munmap(bs->arena, ARENA_BYTES);
	}
	free(bs->step);
	free(bs);
	cpu->blocks = NULL;
	cpu->front = NULL;
	cpu->blk = NULL;
}

void blocks_flush(struct vcpu *cpu)
{
	struct blocks *bs = cpu->blocks;

	for (unsigned i = 0; i < ARRAY_SIZE(bs->front); i++) {
		bs->front[i] = &no_block;
	}
	memset(bs->chain, 0, sizeof(bs->chain));
	bs->used = 0;
	cpu->blk = NULL;
}

/* --- comparing ---------------------------------------------------------------------------- */

/*
 * Are the bytes at `host`, all on one page, the block's? The vectors may reach behind the block's
 * last byte: the caller has checked that this stays within the page (vectors_fit()).
 */
static inline bool vectors_same(const struct block *b, const uint8_t *host)
{
	uint64_t differ = 0;

	for (unsigned i = 0; i < b->len; i += 16) {
		__m128i x = _mm_loadu_si128((const __m128i *)(const void *)(host + i));
		__m128i y = _mm_load_si128((const __m128i *)(const void *)(b->bytes + i));

		differ |= (uint64_t)(uint32_t)(_mm_movemask_epi8(_mm_cmpeq_epi8(x, y)) ^ 0xffff)
			  << i;
	}
	return (differ & b->care) == 0;
}

static inline bool bytes_same(const struct block *b, const uint8_t *host)
{
	return memcmp(host, b->bytes, b->len) == 0;
}

/* --- handlers that end a block ------------------------------------------------------------ */

static enum exec_result block_end(struct vcpu *cpu, const struct insn *in)
{
	return exec_branch(cpu, in, cpu->blk_va + in->off);
}

enum exec_result block_stop(struct vcpu *cpu, const struct insn *in)
{
	cpu->rip = cpu->blk_va + in->off;
	return EXEC_END;
}

static void chain_unlink(struct blocks *bs, struct block *b)
{
	struct block **p = &bs->chain[chain_hash(b->rip, b->key)];

	while (*p && *p != b) {
		p = &(*p)->next;
	}
	if (*p) {
		*p = b->next;
	}
}

void block_kill_current(struct vcpu *cpu)
{
	struct block *b = cpu->blk;

	if (!b || b->key == BLOCK_DEAD) {
		return;
	}
	chain_unlink(cpu->blocks, b);
	b->key = BLOCK_DEAD;
	for (unsigned i = 0; i <= b->count; i++) {
		b->insn[i].fn = block_stop;
	}
}

/* --- making ------------------------------------------------------------------------------- */

/* Where code is fetched from: one or two parts. */
struct code_window {
	uint8_t *host;
	unsigned avail; /* bytes of the first page that may be executed */
	bool limited;   /* the segment's limit, not the page, ends them */
	uint8_t buf[BLOCK_BYTES_MAX + INSN_BYTES_MAX];
	unsigned buf_len;
};

static inline gva_t linear_rip(const struct vcpu *cpu, uint64_t rip)
{
	gva_t lin = rip + cpu->segbase[SEG_CS];

	return likely(cpu->key & MODE_64) ? lin : (uint32_t)lin;
}

static bool limit_checked(const struct vcpu *cpu)
{
	return (cpu->key & (MODE_64 | MODE_FLAT)) == 0;
}

static bool raise_gp0(struct vcpu *cpu)
{
	cpu->fault = (struct fault){ .vector = EX_GP, .has_error = true };
	return false;
}

/* The first page at RIP. False: cpu->fault. */
static bool window_open(struct vcpu *cpu, struct code_window *w)
{
	uint64_t rip = cpu->rip;
	uint32_t limit = cpu->seg[SEG_CS].limit;

	w->limited = false;
	if (limit_checked(cpu) && rip > limit) {
		return raise_gp0(cpu);
	}
	w->host = mmu_fetch(cpu, linear_rip(cpu, rip), &w->avail);
	if (!w->host) {
		return false;
	}
	if (limit_checked(cpu) && limit - rip < w->avail - 1) {
		w->avail = (unsigned)(limit - rip) + 1;
		w->limited = true;
	}
	return true;
}

static void window_fill(struct code_window *w)
{
	w->buf_len = MIN(w->avail, (unsigned)BLOCK_BYTES_MAX);
	memcpy(w->buf, w->host, w->buf_len);
}

/* The instruction goes on behind the page: fetch the rest of what it may need. */
static bool window_extend(struct vcpu *cpu, struct code_window *w)
{
	uint64_t next = cpu->rip + w->avail;
	unsigned n = INSN_BYTES_MAX - w->avail, avail;
	uint8_t *host;

	if (w->limited || (limit_checked(cpu) && next > cpu->seg[SEG_CS].limit)) {
		return raise_gp0(cpu);
	}
	host = mmu_fetch(cpu, linear_rip(cpu, next), &avail);
	if (!host) {
		return false;
	}
	if (limit_checked(cpu)) {
		n = (unsigned)MIN((uint64_t)n, cpu->seg[SEG_CS].limit - next + 1);
	}
	memcpy(w->buf + w->avail, host, n);
	w->buf_len = w->avail + n;
	return true;
}

static void insn_finish(struct insn *in, unsigned off)
{
	in->off = (uint16_t)off;
	insn_bind(in);
}

/*
 * Serializing instructions (SDM 3A 8.3): what follows is fetched anew, so it is another block.
 * Those that change what blocks depend on say so by INSN_ENDS.
 */
static bool serializes(const struct insn *in)
{
	switch (in->op) {
	case OP_CPUID:
	case OP_INVD:
	case OP_INVLPG:
	case OP_INVPCID:
	case OP_LGDT:
	case OP_LIDT:
	case OP_LLDT:
	case OP_LTR:
	case OP_WBINVD:
	case OP_WRMSR:
		return true;
	default:
		return (in->flags & INSN_ENDS) != 0;
	}
}

/*
 * Decode up to `max` instructions from the window. Returns how many bytes they have, or what is
 * wrong with the first.
 */
static int decode_run(const struct vcpu *cpu, const struct code_window *w, struct insn *in,
		      unsigned max, unsigned *ret_count)
{
	unsigned off = 0, n = 0;

	while (n < max) {
		int len = insn_decode(w->buf + off, w->buf_len - off, cpu->rip + off,
				      cpu->key & KEY_MODE, &in[n]);

		if (len < 0) {
			if (n == 0) {
				return len;
			}
			break;
		}
		if (off + (unsigned)len > BLOCK_BYTES_MAX) {
			break;
		}
		insn_finish(&in[n], off);
		off += (unsigned)len;
		if (serializes(&in[n++]) || off >= w->buf_len) {
			break;
		}
	}
	*ret_count = n;
	return (int)off;
}

static bool decode_failed(struct vcpu *cpu, const struct code_window *w, int code)
{
	if (code == DECODE_UD) {
		cpu->fault = (struct fault){ .vector = EX_UD };
		return false;
	}
	return raise_gp0(cpu); /* too long, or behind the limit */
}

/* Fill a block from the window; it has room for `max` instructions. False: cpu->fault. */
static bool block_fill(struct vcpu *cpu, struct code_window *w, struct block *b, unsigned max)
{
	unsigned count = 0;
	int len;

	window_fill(w);
	b->crosses = false;
	len = decode_run(cpu, w, b->insn, max, &count);
	if (len == DECODE_NEED_MORE && w->avail < INSN_BYTES_MAX) {
		if (!window_extend(cpu, w)) {
			return false;
		}
		b->crosses = true;
		len = decode_run(cpu, w, b->insn, 1, &count);
	}
	if (len < 0) {
		return decode_failed(cpu, w, len);
	}
	b->rip = cpu->rip;
	b->key = cpu->key;
	b->count = (uint8_t)count;
	b->len = (uint8_t)len;
	b->host = w->host;
	b->last_offset = (uint16_t)(4096 - ALIGN_UP((unsigned)len, 16u));
	b->care = len == BLOCK_BYTES_MAX ? ~0ull : BIT64(len) - 1;
	memset(b->bytes, 0, sizeof(b->bytes));
	memcpy(b->bytes, w->buf, (unsigned)len);
	b->insn[count] = (struct insn){ .fn = block_end, .off = (uint16_t)len };
	return true;
}

/* Keep chains short: the oldest variant of this RIP and key goes. */
static void chain_trim(struct blocks *bs, uint64_t rip, uint32_t key)
{
	struct block *last = NULL;
	unsigned n = 0;

	for (struct block *b = bs->chain[chain_hash(rip, key)]; b; b = b->next) {
		if (b->rip == rip && b->key == key) {
			last = b;
			n++;
		}
	}
	if (n >= VARIANTS_MAX) {
		chain_unlink(bs, last);
	}
}

static struct block *block_make(struct vcpu *cpu, struct code_window *w)
{
	struct blocks *bs = cpu->blocks;
	struct block *b, **chain;

	if (bs->used + BLOCK_SIZE(BLOCK_INSNS_MAX) > ARENA_BYTES) {
		blocks_flush(cpu);
	}
	b = (struct block *)(void *)(bs->arena + bs->used);
	if (!block_fill(cpu, w, b, BLOCK_INSNS_MAX)) {
		return NULL;
	}
	bs->used += ALIGN_UP(BLOCK_SIZE(b->count), (size_t)64);
	chain_trim(bs, b->rip, b->key);
	chain = &bs->chain[chain_hash(b->rip, b->key)];
	b->next = *chain;
	*chain = b;
	return b;
}

/* --- finding ------------------------------------------------------------------------------ */

/* A crossing block's bytes: the first part is in the window, the rest on the next page. */
static bool crossing_same(struct vcpu *cpu, const struct code_window *w, const struct block *b)
{
	unsigned avail;
	const uint8_t *host;

	if (w->limited || w->avail >= b->len || memcmp(w->host, b->bytes, w->avail) != 0 ||
	    (limit_checked(cpu) && cpu->rip + b->len - 1 > cpu->seg[SEG_CS].limit)) {
		return false;
	}
	host = mmu_fetch(cpu, linear_rip(cpu, cpu->rip + w->avail), &avail);
	return host && memcmp(host, b->bytes + w->avail, b->len - w->avail) == 0;
}

static struct block *chain_find(struct vcpu *cpu, const struct code_window *w)
{
	struct block *b = cpu->blocks->chain[chain_hash(cpu->rip, cpu->key)];

	for (; b; b = b->next) {
		if (b->rip != cpu->rip || b->key != cpu->key) {
			continue;
		}
		if (b->crosses ? crossing_same(cpu, w, b)
			       : b->len <= w->avail && bytes_same(b, w->host)) {
			break;
		}
	}
	return b;
}

static enum exec_result fetch_result(const struct vcpu *cpu)
{
	return cpu->fault.vector == MMU_NEEDS_EXIT ? EXEC_EXIT : EXEC_FAULT;
}

static void block_current(struct vcpu *cpu, struct block *b, uint8_t *host)
{
	b->host = host;
	cpu->blk = b;
	cpu->blk_va = b->rip;
	/* One store: others may read it at any time. */
	__atomic_store_n(&cpu->insn_count, cpu->insn_count + b->count, __ATOMIC_RELAXED);
}

/* The block at cpu->rip, found in a chain or made; current. NULL: blocks->result says why. */
static __attribute__((noinline)) struct block *block_find(struct vcpu *cpu)
{
	struct code_window w;
	struct block *b;

	if (!(cpu->key & MODE_64)) {
		cpu->rip = (uint32_t)cpu->rip;
	}
	if (!window_open(cpu, &w)) {
		cpu->blocks->result = fetch_result(cpu);
		return NULL;
	}
	b = chain_find(cpu, &w);
	if (!b) {
		b = block_make(cpu, &w);
		if (!b) {
			cpu->blocks->result = fetch_result(cpu);
			return NULL;
		}
	}
	if (!b->crosses) {
		cpu->front[front_hash(b->rip)] = b;
	}
	block_current(cpu, b, w.host);
	return b;
}

/* The same, the fast way only: NULL says nothing yet. */
static inline struct block *block_front(struct vcpu *cpu)
{
	uint64_t rip = cpu->rip;
	struct block *b = cpu->front[front_hash(rip)];
	gva_t lin = linear_rip(cpu, rip);
	const struct tlb_entry *e = mmu_tlb(cpu, lin);
	uint8_t *host = tlb_host(e, lin);

	if (unlikely(b->rip != rip || b->key != cpu->key || lin - e->xtag > b->last_offset ||
		     !vectors_same(b, host))) {
		return NULL;
	}
	if (unlikely(limit_checked(cpu)) && rip + b->len - 1 > cpu->seg[SEG_CS].limit) {
		return NULL;
	}
	block_current(cpu, b, host);
	return b;
}

#if EXEC_TAIL_CALLS
static __attribute__((noinline)) enum exec_result block_run_slow(struct vcpu *cpu)
{
	struct block *b = block_find(cpu);

	return b ? b->insn[0].fn(cpu, b->insn) : cpu->blocks->result;
}

enum exec_result block_run(struct vcpu *cpu)
{
	struct block *b = block_front(cpu);

	return likely(b != NULL) ? b->insn[0].fn(cpu, b->insn) : block_run_slow(cpu);
}
#else
enum exec_result block_run(struct vcpu *cpu)
{
	const struct block *b = block_front(cpu);
	const struct insn *in;
	enum exec_result r;

	if (!b) {
		b = block_find(cpu);
	}
	if (!b) {
		return cpu->blocks->result;
	}
	in = b->insn;
	do {
		r = in->fn(cpu, in);
		in++;
	} while (r == EXEC_NEXT);
	return r;
}
#endif

static inline uintptr_t stack_pointer(void)
{
	uintptr_t sp;

	__asm__("mov %%rsp, %0" : "=r"(sp));
	return sp;
}

void block_stack_base(struct vcpu *cpu)
{
	cpu->stack_floor = stack_pointer() - STACK_BYTES_MAX;
}

enum exec_result block_chain(struct vcpu *cpu)
{
	if (unlikely(stack_pointer() < cpu->stack_floor)) {
		return EXEC_END;
	}
	if (unlikely(atomic_load_explicit(&cpu->req, memory_order_relaxed) |
		     __atomic_load_n(&cpu->run->immediate_exit, __ATOMIC_RELAXED))) {
		return EXEC_END;
	}
	if (cpu->jit.on) {
		cpu->jit.chained = true; /* translated code may go on: see jit/run.c */
		return EXEC_END;
	}
	return block_run(cpu);
}

/* --- one instruction ---------------------------------------------------------------------- */

enum exec_result block_step(struct vcpu *cpu, const struct insn **ret_in)
{
	struct block *b = cpu->blocks->step;
	struct code_window w;
	enum exec_result r;

	if (!(cpu->key & MODE_64)) {
		cpu->rip = (uint32_t)cpu->rip;
	}
	if (!window_open(cpu, &w) || !block_fill(cpu, &w, b, 1)) {
		return fetch_result(cpu);
	}
	b->insn[1].fn = block_stop;
	block_current(cpu, b, w.host);
	*ret_in = b->insn;
	atomic_fetch_or(&cpu->req, REQ_STEP);
	r = b->insn[0].fn(cpu, b->insn);
	atomic_fetch_and(&cpu->req, ~(uint32_t)REQ_STEP);
	if (r == EXEC_NEXT) {
		r = block_stop(cpu, &b->insn[1]);
	}
	return r;
}
