/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What do TLB misses and invalidations cost? Prints nanoseconds of CPU time, the best of five. No
 * test: figures depend on the machine.
 */
#include <inttypes.h>
#include <stdio.h>

#include "softkvm/mmu/memslot_int.h"
#include "softkvm/mmu/testvm.h"

#define ROOT   0x100000u
#define DATA   0x400000u /* guest-physical; pages that are mapped lie from here on */
#define KERNEL 0xffff888000000000ull
#define USER   0x400000ull
#define LARGE  0xffffc90000000000ull
enum { P = 1, W = 2, U = 4, PS = 0x80, G = 0x100 };
enum { PAGES = 32768, ROUNDS = 5 };

static gpa_t next_table = ROOT + 4096;

static void map(struct testvm *t, gva_t lin, uint64_t e, unsigned level)
{
	uint64_t *table = (uint64_t *)(void *)(t->ram + ROOT);

	for (unsigned l = 4; l > level; l--) {
		uint64_t *p = &table[lin >> (12 + 9 * (l - 1)) & 511];

		if (!(*p & P)) {
			*p = next_table | P | W | U;
			next_table += 4096;
		}
		table = (uint64_t *)(void *)(t->ram + (*p & 0xffffffffff000));
	}
	table[lin >> (12 + 9 * (level - 1)) & 511] = e;
}

/* The kernel's pages are global, the user's are not; 2 MiB pages cover all memory, each 8 times. */
static struct testvm *make(void)
{
	struct testvm *t = testvm_new(1);
	struct vcpu *cpu = t->cpu[0];

	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t to = DATA + i % 2048 * 4096;

		map(t, KERNEL + i * 4096ull, to | P | W | G, 1);
		map(t, USER + i * 4096ull, to | P | W | U, 1);
	}
	for (unsigned i = 0; i < 64; i++) {
		map(t, LARGE + i * MIB(2), i % 8 * MIB(2) | P | W | G | PS, 2);
	}
	ASSERT(next_table < DATA);
	cpu->cr0 = CR0_PE | CR0_PG | CR0_WP;
	cpu->cr4 = CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMAP | CR4_SMEP;
	cpu->efer = EFER_LMA | EFER_LME | EFER_NX;
	cpu->key = MODE_64 | KEY_PE;
	mmu_paging_changed(cpu, 0, 0, 0);
	mmu_set_cr3(cpu, ROOT, false);
	return t;
}

static void set_user(struct vcpu *cpu, bool user)
{
	cpu->cpl = user ? 3 : 0;
	mmu_select_tlb(cpu);
}

static void touch(struct vcpu *cpu, gva_t lin, unsigned pages)
{
	uint32_t v;

	for (unsigned i = 0; i < pages; i++) {
		ASSERT(mmu_load(cpu, lin + i * 4096ull, &v, 4));
	}
}

static void dirty(struct vcpu *cpu, gva_t lin, unsigned pages)
{
	for (unsigned i = 0; i < pages; i++) {
		ASSERT(mmu_store(cpu, lin + i * 4096ull, &i, 4));
	}
}

/* --- what is measured: each returns how often it did it ------------------------------------- */

static unsigned miss_read(struct vcpu *cpu)
{
	touch(cpu, KERNEL, PAGES);
	return PAGES;
}

static unsigned miss_write(struct vcpu *cpu)
{
	dirty(cpu, KERNEL, PAGES);
	return PAGES;
}

static unsigned miss_large(struct vcpu *cpu)
{
	touch(cpu, LARGE, PAGES);
	return PAGES;
}

static unsigned miss_user(struct vcpu *cpu)
{
	set_user(cpu, true);
	touch(cpu, USER, PAGES);
	set_user(cpu, false);
	return PAGES;
}

/* A kernel and a process, 200 pages each, on to the next process. */
static unsigned switches(struct vcpu *cpu, unsigned pcids, bool noflush)
{
	for (unsigned i = 0; i < 100; i++) {
		ASSERT(mmu_set_cr3(cpu, ROOT | (1 + i % pcids), noflush));
		touch(cpu, KERNEL, 200);
		set_user(cpu, true);
		touch(cpu, USER + MIB(1), 200);
		set_user(cpu, false);
	}
	return 100;
}

static unsigned switch_warm(struct vcpu *cpu)
{
	return switches(cpu, 6, true);
}

static unsigned switch_new(struct vcpu *cpu)
{
	return switches(cpu, 6, false);
}

static unsigned switch_many(struct vcpu *cpu)
{
	return switches(cpu, 12, true);
}

/* copy_from_user() and its like: the user's page, and the kernel's, with AC. */
static unsigned copies(struct vcpu *cpu)
{
	for (unsigned i = 0; i < 100; i++) {
		ASSERT(mmu_set_cr3(cpu, ROOT | (1 + i % 6), true));
		set_user(cpu, true);
		dirty(cpu, USER, 20);
		set_user(cpu, false);
		dirty(cpu, KERNEL + MIB(1), 20);
		cpu->rflags |= FL_AC;
		mmu_select_tlb(cpu);
		touch(cpu, USER, 20);
		dirty(cpu, KERNEL + MIB(1), 20);
		cpu->rflags &= ~(uint64_t)FL_AC;
		mmu_select_tlb(cpu);
	}
	return 100;
}

static void fill_all(struct vcpu *cpu)
{
	for (unsigned i = 0; i < TLB_SPACES; i++) {
		ASSERT(mmu_set_cr3(cpu, ROOT | (1 + i), true));
		dirty(cpu, KERNEL, TLB_ENTRIES / 2);
		touch(cpu, LARGE + MIB(16) + TLB_ENTRIES / 2 * 4096, TLB_ENTRIES / 2);
		set_user(cpu, true);
		dirty(cpu, USER, TLB_ENTRIES);
		set_user(cpu, false);
	}
}

static unsigned drop_write(struct vcpu *cpu)
{
	for (unsigned i = 0; i < 64; i++) {
		tlb_drop_tags(cpu->mmu, cpu->vm->slots->by_id[0]->host + DATA + i * 4096, false);
	}
	return 64;
}

static unsigned invlpg(struct vcpu *cpu)
{
	for (unsigned i = 0; i < 128; i++) {
		mmu_flush_page(cpu, USER + i * 4096ull);
	}
	return 128;
}

static unsigned flush_full(struct vcpu *cpu)
{
	mmu_flush_all(cpu);
	return 1;
}

static unsigned flush_few(struct vcpu *cpu)
{
	for (unsigned i = 0; i < 100; i++) {
		touch(cpu, KERNEL, 10);
		mmu_flush_all(cpu);
	}
	return 100;
}

static void nothing(struct vcpu *cpu)
{
}

static const struct {
	const char *name;
	void (*prepare)(struct vcpu *cpu);
	unsigned (*run)(struct vcpu *cpu);
} figures[] = {
	{ "miss, read", nothing, miss_read },
	{ "miss, write", nothing, miss_write },
	{ "miss, 2 MiB page", nothing, miss_large },
	{ "miss, user", nothing, miss_user },
	{ "switch, 6 warm spaces", nothing, switch_warm },
	{ "switch, each new", nothing, switch_new },
	{ "switch, 12 spaces", nothing, switch_many },
	{ "switch and copies", nothing, copies },
	{ "page becomes code", fill_all, drop_write },
	{ "INVLPG, full tables", fill_all, invlpg },
	{ "flush, full tables", fill_all, flush_full },
	{ "10 misses, flush", nothing, flush_few },
};

int main(void)
{
	struct testvm *t = make();

	for (unsigned i = 0; i < ARRAY_SIZE(figures); i++) {
		double best = 1e9;

		mmu_flush_all(t->cpu[0]);
		for (unsigned k = 0; k < ROUNDS; k++) {
			uint64_t begin;
			unsigned n;
			double ns;

			figures[i].prepare(t->cpu[0]);
			begin = clock_cpu_ns();
			n = figures[i].run(t->cpu[0]);
			ns = (double)(clock_cpu_ns() - begin) / n;
			best = MIN(best, ns);
		}
		printf("%-24s %10.1f ns\n", figures[i].name, best);
	}
	testvm_free(t);
	return 0;
}
