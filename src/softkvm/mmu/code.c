/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation: writes into the block that is being executed
 *
 * Blocks compare their bytes with memory whenever they are entered (cpu/blocks.c), so a write
 * by anybody to code that is not under way needs no notice. What must be noticed is a write by
 * this vCPU to the rest of its own current block: x86 executes the new bytes.
 *
 * Therefore a host page that this vCPU has an execute tag for is in the set `code`, and no
 * table holds a write tag for it: the first execute tag takes all write tags away, and a fill
 * for a write grants none. So writes to such pages come through the slow path, which calls
 * code_wrote(): if the written range touches the current block, the block is killed, that is,
 * the slots of all its instructions now end it. The instruction under way is completed, and the
 * next one is fetched anew.
 *
 * A page that is written often without being the current block's (data beside code, a page that
 * was freed and used again) loses its execute tags and becomes data; executing it makes it code
 * again.
 *
 * Pages are told apart by host address, so slots that share memory by the same host address are
 * seen as one. Memory that user space mapped twice is not: a write through the other mapping
 * becomes visible with the next block.
 */
#include "softkvm/cpu/blocks.h"
#include "softkvm/mmu/mmu_int.h"

static unsigned code_hash(uint64_t host_page)
{
	return (unsigned)((host_page >> 12) * 0x9e3779b97f4a7c15ull >> (64 - CODE_BITS));
}

/* The page's place in the set, or the free place where it would be. */
static unsigned code_place(const struct mmu *m, uint64_t page)
{
	unsigned i = code_hash(page);

	while (m->code[i].host != 0 && m->code[i].host != page) {
		i = (i + 1) & (CODE_SLOTS - 1);
	}
	return i;
}

static uint64_t page_of(const uint8_t *host)
{
	return (uint64_t)(uintptr_t)host & ~4095ull;
}

bool code_has(const struct mmu *m, const uint8_t *host)
{
	return m->code[code_place(m, page_of(host))].host != 0;
}

void code_clear(struct mmu *m)
{
	if (m->code_count != 0) {
		memset(m->code, 0, sizeof(m->code));
		m->code_count = 0;
	}
}

static void code_insert(struct mmu *m, uint64_t page)
{
	m->code[code_place(m, page)] = (struct code_page){ page, 0 };
	m->code_count++;
}

void code_add(struct vcpu *cpu, uint8_t *host)
{
	struct mmu *m = cpu->mmu;
	uint64_t page = page_of(host);

	if (m->code[code_place(m, page)].host != 0) {
		return;
	}
	if (m->code_count >= CODE_MAX) {
		mmu_flush_all(cpu);
		if (cpu->blk && page_of(cpu->blk->host) != page) {
			code_insert(m, page_of(cpu->blk->host));
		}
	}
	code_insert(m, page);
	tlb_drop_tags(m, (uint8_t *)(uintptr_t)page, false);
}

/* Take a page out, moving up what collided with it. */
static void code_remove(struct mmu *m, unsigned i)
{
	unsigned hole = i, k = i;

	for (;;) {
		k = (k + 1) & (CODE_SLOTS - 1);
		if (m->code[k].host == 0) {
			break;
		}
		if (((k - code_hash(m->code[k].host)) & (CODE_SLOTS - 1)) >=
		    ((k - hole) & (CODE_SLOTS - 1))) {
			m->code[hole] = m->code[k];
			hole = k;
		}
	}
	m->code[hole].host = 0;
	m->code_count--;
}

void code_wrote(struct vcpu *cpu, const uint8_t *host, size_t len)
{
	struct mmu *m = cpu->mmu;
	const struct block *b = cpu->blk;
	uint64_t page = page_of(host);
	unsigned i;

	if (b && host < b->host + b->len && b->host < host + len) {
		block_kill_current(cpu);
	}
	i = code_place(m, page);
	if (m->code[i].host == 0 || ++m->code[i].writes < CODE_HOT) {
		return;
	}
	m->code[i].writes = 0;
	if (b && page_of(b->host) == page) {
		return;
	}
	code_remove(m, i);
	tlb_drop_tags(m, (uint8_t *)(uintptr_t)page, true);
}
