/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The TLB's rules, and the slow paths: what a guest may rely on, seen through mmu.h only.
 */
#include "softkvm/mmu/testvm.h"

#define ROOT   0x100000
#define TABLES 0x101000 /* taken one by one */
#define P      1ull
#define W      2ull
#define U      4ull
#define A      0x20ull
#define D      0x40ull
#define PS     0x80ull
#define G      0x100ull
#define NX     BIT64(63)

struct fixture {
	struct testvm *t;
	struct vcpu *cpu;
	gpa_t next;
};

static void long_mode(struct vcpu *cpu)
{
	cpu->cr0 = CR0_PE | CR0_PG | CR0_WP;
	cpu->cr4 = CR4_PAE | CR4_PGE;
	cpu->efer = EFER_LMA | EFER_LME | EFER_NX;
	cpu->key = MODE_64 | KEY_PE;
	cpu->cpl = 0;
	mmu_paging_changed(cpu, 0, 0, 0);
	mmu_set_cr3(cpu, ROOT, false);
}

static struct fixture fix_new(unsigned vcpus)
{
	struct fixture f = { .t = testvm_new(vcpus), .next = TABLES };

	f.cpu = f.t->cpu[0];
	for (unsigned i = 0; i < vcpus; i++) {
		long_mode(f.t->cpu[i]);
	}
	return f;
}

static uint64_t *entry(struct fixture *f, gpa_t root, gva_t lin, unsigned level)
{
	gpa_t table = root;

	for (unsigned l = 4;; l--) {
		uint64_t *e =
			(uint64_t *)(void *)(f->t->ram + table) + (lin >> (12 + 9 * (l - 1)) & 511);

		if (l == level) {
			return e;
		}
		if (!(*e & P)) {
			*e = f->next | P | W | U;
			f->next += 4096;
		}
		table = *e & 0xffffffffff000;
	}
}

/* Map in the page tables at ROOT; no flush. */
static void map(struct fixture *f, gva_t lin, uint64_t e)
{
	*entry(f, ROOT, lin, 1) = e;
}

static void map_2m(struct fixture *f, gva_t lin, uint64_t e)
{
	*entry(f, ROOT, lin, 2) = e | PS;
}

static bool load(struct fixture *f, gva_t lin, uint32_t *ret)
{
	return mmu_load(f->cpu, lin, ret, 4);
}

static bool store(struct fixture *f, gva_t lin, uint32_t v)
{
	return mmu_store(f->cpu, lin, &v, 4);
}

static void put(struct fixture *f, gpa_t gpa, uint32_t v)
{
	memcpy(f->t->ram + gpa, &v, 4);
}

static uint32_t get(struct fixture *f, gpa_t gpa)
{
	return load_le32(f->t->ram + gpa);
}

/* A failed access with this #PF error code? */
static bool faulted(struct fixture *f, gva_t lin, uint32_t error)
{
	const struct fault *x = &f->cpu->fault;

	return x->vector == EX_PF && x->has_error && x->error == error && x->has_payload &&
	       x->payload == lin;
}

#define DONE(f) testvm_free((f).t)
/* As CHECK, but frees the fixture `f` first. */
#define WANT(cond)                                                     \
	do {                                                           \
		if (!(cond)) {                                         \
			test_fail(t, __FILE__, __LINE__, "%s", #cond); \
			DONE(f);                                       \
			return;                                        \
		}                                                      \
	} while (0)

static void test_stale_until_invlpg(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v;

	put(&f, 0x200000, 1);
	put(&f, 0x201000, 2);
	map(&f, 0x400000, 0x200000 | P | W | U);
	WANT(load(&f, 0x400000, &v) && v == 1);
	map(&f, 0x400000, 0x201000 | P | W | U);
	WANT(load(&f, 0x400000, &v) && v == 1);
	mmu_flush_page(f.cpu, 0x400fff);
	WANT(load(&f, 0x400000, &v) && v == 2);
	DONE(f);
}

static void test_no_caching_of_absence(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v;

	WANT(!load(&f, 0x400000, &v) && faulted(&f, 0x400000, 0));
	map(&f, 0x400000, 0x200000 | P);
	WANT(load(&f, 0x400000, &v));
	WANT(!store(&f, 0x400000, 1) && faulted(&f, 0x400000, PF_P | PF_W));
	map(&f, 0x400000, 0x200000 | P | W); /* more rights need no flush */
	WANT(store(&f, 0x400000, 7) && get(&f, 0x200000) == 7);
	DONE(f);
}

static void test_accessed_dirty(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v;

	map(&f, 0x400000, 0x200000 | P | W);
	WANT(load(&f, 0x400000, &v));
	WANT(*entry(&f, ROOT, 0x400000, 1) == (0x200000 | P | W | A));
	WANT(*entry(&f, ROOT, 0x400000, 4) & A);
	WANT(store(&f, 0x400004, 1));
	WANT(*entry(&f, ROOT, 0x400000, 1) == (0x200000 | P | W | A | D));
	/* Cleared with a flush: set again by the next write, not by a read. */
	map(&f, 0x400000, 0x200000 | P | W);
	mmu_flush_page(f.cpu, 0x400000);
	WANT(load(&f, 0x400000, &v) && !(*entry(&f, ROOT, 0x400000, 1) & D));
	WANT(store(&f, 0x400004, 2) && (*entry(&f, ROOT, 0x400000, 1) & D));
	DONE(f);
}

static void test_global_pages(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v;

	put(&f, 0x201000, 2);
	map(&f, 0x400000, 0x200000 | P | G);
	map(&f, 0x401000, 0x200000 | P);
	WANT(load(&f, 0x400000, &v) && load(&f, 0x401000, &v));
	map(&f, 0x400000, 0x201000 | P | G);
	map(&f, 0x401000, 0x201000 | P);
	WANT(mmu_set_cr3(f.cpu, ROOT, false));
	WANT(load(&f, 0x400000, &v) && v == 0);
	WANT(load(&f, 0x401000, &v) && v == 2);
	f.cpu->cr4 &= ~CR4_PGE;
	WANT(mmu_paging_changed(f.cpu, f.cpu->cr0, f.cpu->cr4 | CR4_PGE, f.cpu->efer));
	WANT(load(&f, 0x400000, &v) && v == 2);
	DONE(f);
}

/* More entries than the log of fills holds: the flush by scanning. */
static void test_many_entries(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v;

	for (unsigned i = 0; i < 600; i++) {
		map(&f, 0x400000 + i * 4096, (0x200000 + i * 4096) | P | (i % 3 == 0 ? G : 0));
		put(&f, 0x200000 + i * 4096, i);
		WANT(load(&f, 0x400000 + i * 4096, &v) && v == i);
	}
	for (unsigned i = 0; i < 600; i++) {
		map(&f, 0x400000 + i * 4096, 0);
	}
	WANT(mmu_set_cr3(f.cpu, ROOT, false));
	for (unsigned i = 0; i < 600; i++) {
		WANT(load(&f, 0x400000 + i * 4096, &v) == (i % 3 == 0));
	}
	mmu_flush_all(f.cpu);
	WANT(!load(&f, 0x400000, &v));
	DONE(f);
}

static void test_invlpg_large(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v;

	put(&f, 0x201000, 1);
	put(&f, 0x3ff000, 1);
	map_2m(&f, 0x600000, 0x200000 | P | W);
	WANT(load(&f, 0x601000, &v) && v == 1 && load(&f, 0x7ff000, &v) && v == 1);
	map_2m(&f, 0x600000, 0x400000 | P | W);
	WANT(load(&f, 0x601000, &v) && v == 1);
	mmu_flush_page(f.cpu, 0x6a0000);
	WANT(load(&f, 0x601000, &v) && v == 0 && load(&f, 0x7ff000, &v) && v == 0);
	DONE(f);
}

static void user_mode(struct fixture *f, bool user)
{
	f->cpu->cpl = user ? 3 : 0;
	mmu_select_tlb(f->cpu);
}

static bool with_pcids(struct fixture *f)
{
	f->cpu->cr4 |= CR4_PCIDE;
	return mmu_paging_changed(f->cpu, f->cpu->cr0, f->cpu->cr4 & ~CR4_PCIDE, f->cpu->efer);
}

/* SMAP, with RFLAGS.AC set or not. */
static bool with_smap(struct fixture *f)
{
	f->cpu->cr4 |= CR4_SMAP;
	return mmu_paging_changed(f->cpu, f->cpu->cr0, f->cpu->cr4 & ~CR4_SMAP, f->cpu->efer);
}

static void set_ac(struct fixture *f, bool ac)
{
	f->cpu->rflags = ac ? f->cpu->rflags | FL_AC : f->cpu->rflags & ~(uint64_t)FL_AC;
	mmu_select_tlb(f->cpu);
}

static void test_pcids(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v;

	WANT(with_pcids(&f));
	user_mode(&f, true);
	put(&f, 0x201000, 2);
	WANT(mmu_set_cr3(f.cpu, ROOT | 1, false));
	map(&f, 0x400000, 0x200000 | P | U);
	map(&f, 0x401000, 0x200000 | P | U);
	map(&f, 0x402000, 0x200000 | P | U | G);
	WANT(load(&f, 0x400000, &v) && load(&f, 0x401000, &v) && load(&f, 0x402000, &v));
	map(&f, 0x400000, 0x201000 | P | U);
	map(&f, 0x401000, 0x201000 | P | U);
	map(&f, 0x402000, 0x201000 | P | U | G);
	/* Another PCID sees the new tables; the old one keeps its entries. */
	WANT(mmu_set_cr3(f.cpu, ROOT | 2 | BIT64(63), true));
	WANT(load(&f, 0x400000, &v) && v == 2);
	WANT(mmu_set_cr3(f.cpu, ROOT | 1, true) && load(&f, 0x400000, &v) && v == 0);
	mmu_flush_pcid_page(f.cpu, 1, 0x400000);
	WANT(load(&f, 0x400000, &v) && v == 2 && load(&f, 0x401000, &v) && v == 0);
	mmu_flush_pcid(f.cpu, 1);
	WANT(load(&f, 0x401000, &v) && v == 2 && load(&f, 0x402000, &v) && v == 0);
	/* INVLPG under another PCID takes the global one. */
	WANT(mmu_set_cr3(f.cpu, ROOT | 2, true));
	mmu_flush_page(f.cpu, 0x402000);
	WANT(mmu_set_cr3(f.cpu, ROOT | 1, true) && load(&f, 0x402000, &v) && v == 2);
	WANT(f.cpu->cr3 == (ROOT | 1));
	DONE(f);
}

/* The supervisor's global entries are every space's, the others go with theirs. */
static void test_shared_supervisor(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v;

	WANT(with_pcids(&f));
	put(&f, 0x201000, 2);
	for (unsigned ac = 0; ac < 2; ac++) {
		f.cpu->cr4 |= CR4_SMAP;
		WANT(mmu_paging_changed(f.cpu, f.cpu->cr0, 0, f.cpu->efer));
		set_ac(&f, ac);
		map(&f, 0x400000, 0x200000 | P);
		map(&f, 0x401000, 0x200000 | P | G);
		WANT(mmu_set_cr3(f.cpu, ROOT | 1, true));
		WANT(load(&f, 0x400000, &v) && v == 0 && load(&f, 0x401000, &v) && v == 0);
		map(&f, 0x400000, 0x201000 | P);
		map(&f, 0x401000, 0x201000 | P | G);
		WANT(mmu_set_cr3(f.cpu, ROOT | 1, true)); /* the same space: nothing goes */
		WANT(load(&f, 0x400000, &v) && v == 0);
		WANT(mmu_set_cr3(f.cpu, ROOT | 2, true));
		WANT(load(&f, 0x400000, &v) && v == 2 && load(&f, 0x401000, &v) && v == 0);
		map(&f, 0x400000, 0x200000 | P);
		mmu_flush_pcid(f.cpu, 1); /* not the current one */
		mmu_flush_pcid_page(f.cpu, 1, 0x400000);
		WANT(load(&f, 0x400000, &v) && v == 2 && load(&f, 0x401000, &v) && v == 0);
		mmu_flush_pcid_page(f.cpu, 2, 0x400000);
		mmu_flush_pcid_page(f.cpu, 2, 0x401000); /* global: stays */
		WANT(load(&f, 0x400000, &v) && v == 0 && load(&f, 0x401000, &v) && v == 0);
		map(&f, 0x400000, 0x201000 | P);
		mmu_flush_nonglobal(f.cpu);
		WANT(load(&f, 0x400000, &v) && v == 2 && load(&f, 0x401000, &v) && v == 0);
		mmu_flush_page(f.cpu, 0x401000);
		WANT(load(&f, 0x401000, &v) && v == 2);
	}
	/* Without CR4.PGE nothing is global. */
	f.cpu->cr4 &= ~CR4_PGE;
	WANT(mmu_paging_changed(f.cpu, f.cpu->cr0, f.cpu->cr4 | CR4_PGE, f.cpu->efer));
	WANT(load(&f, 0x401000, &v) && v == 2);
	map(&f, 0x401000, 0x200000 | P | G);
	WANT(mmu_set_cr3(f.cpu, ROOT | 1, true) && load(&f, 0x401000, &v) && v == 0);
	DONE(f);
}

/* With AC set, what the supervisor and the user know needs no walk; rights stay what they are. */
static void test_borrowed(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v;

	WANT(with_smap(&f));
	put(&f, 0x201000, 2);
	map(&f, 0x400000, 0x200000 | P | W);
	map(&f, 0x401000, 0x200000 | P | U);
	map(&f, 0x402000, 0x200000 | P | W | U);
	WANT(store(&f, 0x400000, 1));
	user_mode(&f, true);
	WANT(load(&f, 0x401000, &v) && store(&f, 0x402000, 1));
	user_mode(&f, false);
	set_ac(&f, true);
	*entry(&f, ROOT, 0x400000, 2) = 0; /* no walk finds anything any more */
	WANT(load(&f, 0x400000, &v) && v == 1 && store(&f, 0x400000, 7));
	WANT(load(&f, 0x401000, &v) && v == 7);
	WANT(store(&f, 0x402000, 8) && load(&f, 0x402000, &v) && v == 8);
	WANT(!store(&f, 0x401000, 1) && faulted(&f, 0x401000, PF_W));
	mmu_flush_page(f.cpu, 0x400000);
	mmu_flush_page(f.cpu, 0x402000);
	WANT(!load(&f, 0x400000, &v) && load(&f, 0x401000, &v) && !load(&f, 0x402000, &v));
	set_ac(&f, false);
	WANT(!load(&f, 0x400000, &v) && !load(&f, 0x401000, &v));
	DONE(f);
}

/* More PCIDs than stay warm, and back: whatever is forgotten, nothing is wrong. */
static void test_pcid_eviction(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v;

	WANT(with_pcids(&f));
	user_mode(&f, true);
	for (unsigned i = 1; i <= 3 * TLB_SPACES; i++) {
		put(&f, 0x200000 + i * 4096, i);
		map(&f, 0x400000, (0x200000 + i * 4096) | P | U);
		WANT(mmu_set_cr3(f.cpu, ROOT | i, true) && load(&f, 0x400000, &v) && v == i);
	}
	WANT(mmu_set_cr3(f.cpu, ROOT | 1, true) && load(&f, 0x400000, &v));
	WANT(v == 3 * TLB_SPACES);
	DONE(f);
}

static void test_privilege_tables(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v = 5;

	map(&f, 0x400000, 0x200000 | P | W);
	map(&f, 0x401000, 0x201000 | P | W | U);
	WANT(store(&f, 0x400000, 1) && store(&f, 0x401000, 1));
	f.cpu->cpl = 3;
	mmu_select_tlb(f.cpu);
	WANT(!load(&f, 0x400000, &v) && faulted(&f, 0x400000, PF_P | PF_U));
	WANT(load(&f, 0x401000, &v));
	WANT(mmu_sys_load(f.cpu, 0x400000, &v, 4) && v == 1);
	f.cpu->cpl = 0;
	f.cpu->cr4 |= CR4_SMAP;
	WANT(mmu_paging_changed(f.cpu, f.cpu->cr0, f.cpu->cr4 & ~CR4_SMAP, f.cpu->efer));
	WANT(!load(&f, 0x401000, &v) && faulted(&f, 0x401000, PF_P));
	f.cpu->rflags |= FL_AC;
	mmu_select_tlb(f.cpu);
	WANT(load(&f, 0x401000, &v) && store(&f, 0x401000, 3));
	WANT(!mmu_sys_load(f.cpu, 0x401000, &v, 4) && faulted(&f, 0x401000, PF_P));
	DONE(f);
}

static void test_crossing(struct test *t)
{
	struct fixture f = fix_new(1);
	uint64_t v;

	map(&f, 0x400000, 0x200000 | P | W);
	WANT(!mmu_store(f.cpu, 0x400ffd, &(uint32_t){ 0xddccbbaa }, 4));
	WANT(faulted(&f, 0x401000, PF_W));
	WANT(get(&f, 0x200ffc) == 0); /* nothing was written */
	map(&f, 0x401000, 0x300000 | P | W);
	WANT(mmu_store(f.cpu, 0x400ffd, &(uint32_t){ 0xddccbbaa }, 4));
	WANT(get(&f, 0x200ffc) == 0xccbbaa00 && get(&f, 0x300000) == 0xdd);
	WANT(mmu_load(f.cpu, 0x400ffd, &v, 8) && v == 0xddccbbaa);
	DONE(f);
}

static void test_canonical(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v;

	WANT(!load(&f, 0x800000000000, &v));
	WANT(f.cpu->fault.vector == EX_GP && f.cpu->fault.noncanonical);
	map(&f, 0x7ffffffff000, 0x200000 | P);
	WANT(!load(&f, 0x7ffffffffffe, &v) && f.cpu->fault.vector == EX_GP);
	WANT(load(&f, 0x7ffffffffffc, &v));
	DONE(f);
}

static void test_rmw(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t old;
	bool slow;

	map(&f, 0x400000, 0x200000 | P);
	WANT(!mmu_rmw(f.cpu, 0x400000, 4, &slow) && !slow && faulted(&f, 0x400000, PF_P | PF_W));
	map(&f, 0x400000, 0x200000 | P | W);
	map(&f, 0x401000, 0x300000 | P | W);
	WANT(mmu_rmw(f.cpu, 0x400010, 4, &slow) == f.t->ram + 0x200010);
	WANT(!mmu_rmw(f.cpu, 0x400ffe, 4, &slow) && slow);
	WANT(mmu_rmw_begin(f.cpu, 0x400ffe, &old, 4, true) && old == 0);
	WANT(mmu_rmw_commit(f.cpu, 0x400ffe, &(uint32_t){ 0x11223344 }, 4, true));
	WANT(get(&f, 0x200ffc) == 0x33440000 && get(&f, 0x300000) == 0x1122);
	map(&f, 0x401000, 0x201000 | P | W); /* next to each other in the host: no need */
	mmu_flush_page(f.cpu, 0x401000);
	WANT(mmu_rmw(f.cpu, 0x400ffe, 4, &slow) == f.t->ram + 0x200ffe);
	DONE(f);
}

static void test_string_runs(struct test *t)
{
	struct fixture f = fix_new(1);
	void *h;

	map(&f, 0x400000, 0x200000 | P | W);
	WANT(mmu_run(f.cpu, 0x400100, ACC_READ, false, 4, &h) == 0xf00 && h == f.t->ram + 0x200100);
	WANT(mmu_run(f.cpu, 0x400100, ACC_WRITE, true, 4, &h) == 0x104 && h == f.t->ram + 0x200100);
	WANT(mmu_run(f.cpu, 0x400ffe, ACC_READ, false, 4, &h) == 0);
	WANT(mmu_run(f.cpu, 0x402000, ACC_READ, false, 4, &h) == 0);
	WANT(*entry(&f, ROOT, 0x400000, 1) & D);
	DONE(f);
}

static void test_probe(struct test *t)
{
	struct fixture f = fix_new(1);

	map(&f, 0x400000, 0x200000 | P | W);
	map(&f, 0x401000, 0x201000 | P);
	WANT(mmu_probe(f.cpu, 0x400000, 4096, ACC_WRITE));
	WANT(mmu_probe(f.cpu, 0x400800, 4096, ACC_READ));
	WANT(!mmu_probe(f.cpu, 0x400800, 4096, ACC_WRITE));
	WANT(faulted(&f, 0x401000, PF_P | PF_W));
	DONE(f);
}

static void test_legacy_wrap(struct test *t)
{
	struct fixture f = fix_new(1);
	uint32_t v;

	f.cpu->efer = 0;
	f.cpu->cr0 = CR0_PE;
	f.cpu->key = MODE_32 | KEY_PE;
	WANT(mmu_paging_changed(f.cpu, CR0_PE | CR0_PG | CR0_WP, f.cpu->cr4, EFER_LMA | EFER_NX));
	WANT(testvm_slot(f.t, 1, 0, 0xfffff000, 0x1000, f.t->ram + 0x300000) == 0);
	put(&f, 0x300ffc, 0xaabb0000);
	put(&f, 0, 0xccdd);
	WANT(mmu_load(f.cpu, 0xfffffffe, &v, 4) && v == 0xccddaabb);
	DONE(f);
}

static void test_read_only_slot(struct test *t)
{
	struct fixture f = fix_new(1);
	struct kvm_run *run = f.cpu->run;
	uint32_t v;

	WANT(testvm_slot(f.t, 1, KVM_MEM_READONLY, 0x10000000, 0x1000, f.t->ram + 0x300000) == 0);
	put(&f, 0x300010, 42);
	map(&f, 0x400000, 0x10000000 | P | W);
	WANT(load(&f, 0x400010, &v) && v == 42);
	WANT(!store(&f, 0x400010, 1) && f.cpu->fault.vector == MMU_NEEDS_EXIT);
	WANT(run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write && run->mmio.len == 4 &&
	     run->mmio.phys_addr == 0x10000010 && run->mmio.data[0] == 1);
	WANT(get(&f, 0x300010) == 42);
	io_resume(f.cpu);
	WANT(store(&f, 0x400010, 1)); /* answered */
	DONE(f);
}

/* 20 bytes, the last 4 in RAM: 8, 8 outside, then the rest. */
static void test_mmio_pieces(struct test *t)
{
	struct fixture f = fix_new(1);
	struct kvm_run *run = f.cpu->run;
	uint8_t buf[20];

	map(&f, 0x400000, 0x20000000 | P | W);
	map(&f, 0x401000, 0x200000 | P | W);
	put(&f, 0x200000, 0x44332211);
	for (unsigned i = 0; i < 2; i++) {
		WANT(!mmu_load(f.cpu, 0x400ff0, buf, 20));
		WANT(run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write);
		WANT(run->mmio.len == 8 && run->mmio.phys_addr == 0x20000ff0 + 8 * i);
		memset(run->mmio.data, 0xa0 + (int)i, 8);
		io_resume(f.cpu);
	}
	WANT(mmu_load(f.cpu, 0x400ff0, buf, 20));
	WANT(buf[7] == 0xa0 && buf[8] == 0xa1 && buf[16] == 0x11 && buf[19] == 0x44);
	vcpu_drop_io(f.cpu);
	WANT(!mmu_load(f.cpu, 0x400ff0, buf, 20) && run->mmio.phys_addr == 0x20000ff0);
	DONE(f);
}

/* The next iteration of a string instruction is not answered by the log of the last one. */
static void test_mmio_iterations(struct test *t)
{
	struct fixture f = fix_new(1);
	uint8_t b = 0;

	map(&f, 0x400000, 0x20000000 | P | W);
	f.cpu->gpr[RCX] = 2;
	WANT(!mmu_store(f.cpu, 0x400000, &b, 1));
	io_resume(f.cpu);
	WANT(mmu_store(f.cpu, 0x400000, &b, 1));
	f.cpu->gpr[RCX] = 1;
	WANT(!mmu_store(f.cpu, 0x400000, &b, 1) && f.cpu->io.count == 1);
	DONE(f);
}

static void test_mmio_log_bound(struct test *t)
{
	struct fixture f = fix_new(1);
	unsigned exits = 0;
	uint8_t buf[2048];

	map(&f, 0x400000, 0x20000000 | P | W);
	while (!mmu_load(f.cpu, 0x400000, buf, sizeof(buf)) &&
	       f.cpu->run->exit_reason == KVM_EXIT_MMIO && exits < 1000) {
		exits++;
		io_resume(f.cpu);
	}
	WANT(exits == IO_LOG_MAX && f.cpu->run->exit_reason == KVM_EXIT_INTERNAL_ERROR);
	DONE(f);
}

static void test_ports(struct test *t)
{
	struct fixture f = fix_new(1);
	struct kvm_run *run = f.cpu->run;
	uint8_t *data = (uint8_t *)run + 4096;
	uint16_t v = 0, many[3] = { 1, 2, 3 }, back[3] = { 0 };

	WANT(!io_port_in(f.cpu, 0x1f0, &v, 2));
	WANT(run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN);
	WANT(run->io.size == 2 && run->io.count == 1 && run->io.port == 0x1f0);
	WANT(run->io.data_offset == 4096);
	store_le16(data, 0xbeef);
	io_resume(f.cpu);
	WANT(io_port_in(f.cpu, 0x1f0, &v, 2) && v == 0xbeef);
	vcpu_drop_io(f.cpu);
	WANT(!io_port_out_rep(f.cpu, 0x1f0, many, 2, 3) && run->io.direction == KVM_EXIT_IO_OUT);
	WANT(run->io.count == 3 && load_le16(data + 4) == 3);
	vcpu_drop_io(f.cpu);
	WANT(!io_port_in_rep(f.cpu, 0x1f0, back, 2, 3) && run->io.count == 3);
	memcpy(data, many, 6);
	io_resume(f.cpu);
	WANT(io_port_in_rep(f.cpu, 0x1f0, back, 2, 3) && back[2] == 3);
	DONE(f);
}

static void test_coalesced(struct test *t)
{
	struct fixture f = fix_new(1);
	struct kvm_coalesced_mmio_zone z = { .addr = 0x20000000, .size = 0x100 };
	struct kvm_coalesced_mmio_ring *ring = (void *)((uint8_t *)f.cpu->run + 8192);
	unsigned n = 0;

	map(&f, 0x400000, 0x20000000 | P | W);
	WANT(coalesced_register(&f.t->vm, &z) == 0);
	WANT(store(&f, 0x400010, 0x1234));
	WANT(ring->last == 1 && ring->coalesced_mmio[0].phys_addr == 0x20000010);
	WANT(ring->coalesced_mmio[0].len == 4 && ring->coalesced_mmio[0].data[1] == 0x12);
	while (n < 1000 && store(&f, 0x400010, n)) {
		n++;
	}
	WANT(n > 100 && n < 200 && f.cpu->run->exit_reason == KVM_EXIT_MMIO); /* full: an exit */
	vcpu_drop_io(f.cpu);
	ring->last = 0xffffffff; /* a hostile index */
	WANT(!store(&f, 0x400010, 1));
	vcpu_drop_io(f.cpu);
	ring->last = ring->first = 0;
	WANT(!store(&f, 0x4000fe, 1)); /* not within the zone as a whole */
	vcpu_drop_io(f.cpu);
	z.pio = 2;
	WANT(coalesced_register(&f.t->vm, &z) == -EINVAL);
	z.pio = 0;
	WANT(coalesced_unregister(&f.t->vm, &z) == 0 && !store(&f, 0x400010, 1));
	DONE(f);
}

/* Pages with execute tags have no write tags, and become data again when written often. */
static void test_code_pages(struct test *t)
{
	struct fixture f = fix_new(1);
	const struct tlb_entry *e;
	unsigned avail, n;

	map(&f, 0x400000, 0x200000 | P | W);
	map(&f, 0x500000, 0x200000 | P | W); /* the same page elsewhere */
	WANT(store(&f, 0x500000, 1));
	e = mmu_tlb(f.cpu, 0x500000);
	WANT(e->wtag == 0x500000);
	WANT(mmu_fetch(f.cpu, 0x400123, &avail) == f.t->ram + 0x200123 && avail == 0xedd);
	WANT(e->wtag != 0x500000 && e->rtag == 0x500000);
	WANT(mmu_tlb(f.cpu, 0x400000)->xtag == 0x400000);
	for (n = 0; n < 1000 && e->wtag != 0x500000; n++) {
		WANT(store(&f, 0x500000, n) && get(&f, 0x200000) == n);
	}
	WANT(n == CODE_HOT + 1);
	WANT(mmu_tlb(f.cpu, 0x400000)->xtag != 0x400000);
	WANT(mmu_fetch(f.cpu, 0x400123, &avail) && e->wtag != 0x500000);
	DONE(f);
}

/* More code pages than the set holds. */
static void test_code_overflow(struct test *t)
{
	struct fixture f = fix_new(1);
	uint8_t *host = testvm_pages(MIB(64));
	unsigned avail;
	bool ok = testvm_slot(f.t, 1, 0, GIB(1), MIB(64), host) == 0;

	f.cpu->cr0 = CR0_PE;
	ok = ok && mmu_paging_changed(f.cpu, CR0_PG, f.cpu->cr4, f.cpu->efer);
	for (uint64_t a = 0; ok && a < MIB(64); a += 4096) {
		ok = mmu_fetch(f.cpu, GIB(1) + a, &avail) == host + a &&
		     f.cpu->mmu->code_count <= CODE_MAX && code_has(f.cpu->mmu, host + a) &&
		     store(&f, GIB(1) + a, 1) && mmu_tlb(f.cpu, a)->wtag != GIB(1) + a;
	}
	munmap(host, MIB(64));
	WANT(ok);
	DONE(f);
}

/* All entries of a page lose their tags, wherever they are. */
static void test_code_page_everywhere(struct test *t)
{
	struct fixture f = fix_new(1);
	struct mmu *m = f.cpu->mmu;
	unsigned avail, tags = 0, want = 0;

	WANT(with_pcids(&f));
	for (unsigned i = 0; i < 8; i++) {
		map(&f, 0x400000 + i * 0x5000, 0x200000 | P | W | U);
		map(&f, 0x600000 + i * 0x5000, (0x201000 + i * 0x1000) | P | W | U);
	}
	for (unsigned s = 0; s < 3; s++) {
		WANT(mmu_set_cr3(f.cpu, ROOT | s, true));
		for (unsigned u = 0; u < 2; u++) {
			user_mode(&f, u);
			for (unsigned i = 0; i < 8; i++) {
				WANT(store(&f, 0x400000 + i * 0x5000, i));
				WANT(store(&f, 0x600000 + i * 0x5000, i));
				WANT(mmu_tlb(f.cpu, 0x400000 + i * 0x5000)->wtag ==
				     0x400000 + i * 0x5000);
			}
		}
	}
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < TLB_TABLES * TLB_ENTRIES; i++) {
			const struct tlb_table *tab = &m->table[i / TLB_ENTRIES];
			const struct tlb_entry *e = &tab->entry[i % TLB_ENTRIES];

			if ((tab->note[i % TLB_ENTRIES].flags & NOTE_VALID) &&
			    e->wtag == tab->note[i % TLB_ENTRIES].lin) {
				tags++;
				want += e->host != (uintptr_t)f.t->ram + 0x200000;
			}
		}
		if (pass == 0) {
			WANT(tags == 4 * 16 && want == 4 * 8); /* three spaces, one supervisor */
			WANT(mmu_fetch(f.cpu, 0x400000, &avail));
			tags = want = 0;
		}
	}
	WANT(tags == 4 * 8 && want == tags);
	DONE(f);
}

/* --- at random ------------------------------------------------------------------------------ */

/* The tables keep their invariants (tlb.c). */
static bool tables_sane(const struct mmu *m)
{
	unsigned chained = 0, linked = 0;

	for (unsigned k = 0; k < TLB_TABLES * TLB_ENTRIES; k++) {
		const struct tlb_table *t = &m->table[k / TLB_ENTRIES];
		unsigned i = k % TLB_ENTRIES;
		const struct tlb_entry *e = &t->entry[i];
		const struct tlb_note *n = &t->note[i];
		uint64_t log = n->flags & NOTE_GLOBAL ? NOTE_LOGGED_GLOBAL : NOTE_LOGGED;
		const uint64_t tags[3] = { e->rtag, e->wtag, e->xtag };
		bool valid = n->flags & NOTE_VALID;

		for (unsigned j = 0; j < 3; j++) {
			bool empty = ((tags[j] >> 12) & (TLB_ENTRIES - 1)) != i;

			if (!empty && (!valid || tags[j] != n->lin)) {
				return false;
			}
			if (!empty && j > 0 && !(n->flags & NOTE_CHAINED)) {
				return false;
			}
			if (!empty && j == 1 && code_has(m, (uint8_t *)(uintptr_t)e->host)) {
				return false;
			}
		}
		if ((valid && !(n->flags & log)) || (!valid && (n->flags & NOTE_CHAINED))) {
			return false;
		}
		chained += (n->flags & NOTE_CHAINED) != 0;
	}
	for (unsigned c = 0; c < TLB_CHAINS; c++) {
		for (uint32_t id = m->chain[c], prev = 0; id != 0; linked++) {
			const struct tlb_note *n =
				&m->table[(id - 1) / TLB_ENTRIES].note[(id - 1) % TLB_ENTRIES];

			if (n->prev != prev || !(n->flags & NOTE_CHAINED) || linked > chained) {
				return false;
			}
			prev = id;
			id = n->next;
		}
	}
	return chained == linked && chained == m->chained;
}

enum { R_PAGES = 24, R_PCIDS = 12, R_STEPS = 60000, R_FRAMES = 2560, R_FRAME = 0x600000 };

/*
 * Pages are mapped anew, accessed and flushed at random. Each mapping has a higher number than
 * the one before, which lies in the page; the least that an access may see is known.
 */
struct random {
	struct fixture f;
	uint64_t state;
	uint32_t number;                   /* of the last mapping made */
	uint32_t oldest[R_PCIDS][R_PAGES]; /* that may be seen; of global pages in [0] */
	unsigned pcid;
};

static unsigned below(struct random *r, unsigned n)
{
	r->state ^= r->state >> 12;
	r->state ^= r->state << 25;
	r->state ^= r->state >> 27;
	return (unsigned)((r->state * 0x2545f4914f6cdd1dull >> 33) % n);
}

/* Mostly one of few: what is done with one is to matter for another. */
static unsigned random_pcid(struct random *r)
{
	return below(r, below(r, 4) ? 3 : R_PCIDS);
}

/* Some share a place in the table, some are the user's, some are global. */
static gva_t page_lin(unsigned page)
{
	return 0x400000 + (page % 16) * 0x1000 + (uint64_t)(page / 16) * TLB_ENTRIES * 4096;
}

static bool page_is_user(unsigned page)
{
	return page & 1;
}

static bool page_is_global(unsigned page)
{
	return page % 5 < 2;
}

static void random_map(struct random *r, unsigned page)
{
	gpa_t frame = R_FRAME + ++r->number % R_FRAMES * 4096;

	put(&r->f, frame, r->number);
	map(&r->f, page_lin(page),
	    frame | P | W | (page_is_user(page) ? U : 0) | (page_is_global(page) ? G : 0));
}

static uint32_t *oldest(struct random *r, unsigned pcid, unsigned page)
{
	return &r->oldest[page_is_global(page) ? 0 : pcid][page];
}

/* What was mapped before is not to be seen any more. */
static void forget(struct random *r, unsigned pcid, unsigned page)
{
	gpa_t now = *entry(&r->f, ROOT, page_lin(page), 1) & 0xffffffffff000;

	*oldest(r, pcid, page) = get(&r->f, now);
}

static void forget_local(struct random *r, unsigned pcid)
{
	for (unsigned p = 0; p < R_PAGES; p++) {
		if (!page_is_global(p)) {
			forget(r, pcid, p);
		}
	}
}

static bool random_access(struct random *r, unsigned page)
{
	gva_t lin = page_lin(page);
	bool user = page_is_user(page), ac = below(r, 2);
	uint32_t v = 0;
	unsigned avail;
	bool ok;

	user_mode(&r->f, user && below(r, 2));
	set_ac(&r->f, ac || (user && r->f.cpu->cpl == 0));
	switch (below(r, 6)) {
	case 0:
		ok = mmu_fetch(r->f.cpu, lin, &avail) != NULL;
		v = *oldest(r, r->pcid, page);
		break;
	case 1:
	case 2:
		ok = store(&r->f, lin + 8, 1) && load(&r->f, lin, &v);
		break;
	default:
		ok = load(&r->f, lin, &v);
	}
	return ok && v >= *oldest(r, r->pcid, page);
}

static bool random_load_cr3(struct random *r)
{
	bool noflush = below(r, 4) != 0;

	r->pcid = random_pcid(r);
	if (!noflush) {
		forget_local(r, r->pcid);
	}
	return mmu_set_cr3(r->f.cpu, ROOT | r->pcid, noflush);
}

static void random_flush(struct random *r)
{
	unsigned page = below(r, R_PAGES), pcid = random_pcid(r);

	switch (below(r, 8)) {
	case 0:
		mmu_flush_pcid(r->f.cpu, (uint16_t)pcid);
		forget_local(r, pcid);
		break;
	case 1:
		mmu_flush_nonglobal(r->f.cpu);
		for (unsigned i = 0; i < R_PCIDS; i++) {
			forget_local(r, i);
		}
		break;
	case 2:
		if (below(r, 8) == 0) {
			mmu_flush_all(r->f.cpu);
			for (unsigned i = 0; i < R_PCIDS * R_PAGES; i++) {
				forget(r, i / R_PAGES, i % R_PAGES);
			}
		}
		break;
	case 3:
	case 4:
		mmu_flush_pcid_page(r->f.cpu, (uint16_t)pcid, page_lin(page));
		if (!page_is_global(page)) {
			forget(r, pcid, page);
		}
		break;
	default:
		mmu_flush_page(r->f.cpu, page_lin(page));
		forget(r, r->pcid, page);
	}
}

static bool random_step(struct random *r)
{
	unsigned what = below(r, 20);

	if (what < 2) {
		return random_load_cr3(r);
	}
	if (what < 4) {
		random_map(r, below(r, R_PAGES));
	} else if (what < 7) {
		random_flush(r);
	} else {
		return random_access(r, below(r, R_PAGES));
	}
	return true;
}

static void test_at_random(struct test *t)
{
	struct random r = { .f = fix_new(1), .state = 20261125 };
	bool ok = with_pcids(&r.f) && with_smap(&r.f) && mmu_set_cr3(r.f.cpu, ROOT, false);
	unsigned n;

	for (unsigned p = 0; p < R_PAGES; p++) {
		random_map(&r, p);
	}
	for (n = 0; ok && n < R_STEPS; n++) {
		ok = random_step(&r) && (n % 500 != 0 || tables_sane(r.f.cpu->mmu));
	}
	DONE(r.f);
	CHECK(t, ok);
	CHECK_EQ(t, n, R_STEPS);
}

static void test_translate(struct test *t)
{
	struct fixture f = fix_new(1);
	bool w, u;
	gpa_t gpa;

	map(&f, 0x400000, 0x200000 | P | U);
	WANT(mmu_translate(f.cpu, 0x400123, &gpa, &w, &u) && gpa == 0x200123 && u && !w);
	WANT(!(*entry(&f, ROOT, 0x400000, 1) & A));
	WANT(!mmu_translate(f.cpu, 0x500000, &gpa, &w, &u));
	DONE(f);
}

static void test_execute_disable(struct test *t)
{
	struct fixture f = fix_new(1);
	unsigned avail;
	uint32_t v;

	map(&f, 0x400000, 0x200000 | P | W | NX);
	WANT(load(&f, 0x400000, &v));
	WANT(!mmu_fetch(f.cpu, 0x400000, &avail) && faulted(&f, 0x400000, PF_P | PF_I));
	map(&f, 0x401000, 0x20000000 | P);
	WANT(!mmu_fetch(f.cpu, 0x401000, &avail) && f.cpu->fault.vector == MMU_NEEDS_EXIT);
	WANT(f.cpu->run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
	     f.cpu->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION);
	DONE(f);
}

static void test_alignment(struct test *t)
{
	struct fixture f = fix_new(1);
	uint64_t v = 0;
	bool slow;
	void *h;

	map(&f, 0x400000, 0x200000 | P | W | U);
	f.cpu->cr0 |= CR0_AM;
	f.cpu->rflags |= FL_AC;
	mmu_select_tlb(f.cpu);
	WANT(mmu_load(f.cpu, 0x400001, &v, 4)); /* not at CPL 0 */
	f.cpu->cpl = 3;
	mmu_select_tlb(f.cpu);
	for (unsigned size = 2; size <= 8; size *= 2) {
		WANT(mmu_load(f.cpu, 0x400000 + size, &v, size));
		WANT(!mmu_load(f.cpu, 0x400001 + size, &v, size));
		WANT(f.cpu->fault.vector == EX_AC && f.cpu->fault.has_error && !f.cpu->fault.error);
		WANT(!mmu_store(f.cpu, 0x400ff8 + size / 2, &v, size));
		WANT(!mmu_rmw(f.cpu, 0x400001, size, &slow) && !slow);
		WANT(mmu_run(f.cpu, 0x400001, ACC_READ, false, size, &h) == 0);
	}
	WANT(!mmu_load(f.cpu, 0x401001, &v, 4) && f.cpu->fault.vector == EX_PF); /* goes before */
	f.cpu->rflags &= ~(uint64_t)FL_AC;
	mmu_select_tlb(f.cpu);
	WANT(mmu_load(f.cpu, 0x400001, &v, 8));
	DONE(f);
}

static const struct test_case cases[] = {
	{ "stale_until_invlpg", test_stale_until_invlpg },
	{ "no_caching_of_absence", test_no_caching_of_absence },
	{ "accessed_dirty", test_accessed_dirty },
	{ "global_pages", test_global_pages },
	{ "many_entries", test_many_entries },
	{ "invlpg_large", test_invlpg_large },
	{ "pcids", test_pcids },
	{ "shared_supervisor", test_shared_supervisor },
	{ "borrowed", test_borrowed },
	{ "pcid_eviction", test_pcid_eviction },
	{ "privilege_tables", test_privilege_tables },
	{ "crossing", test_crossing },
	{ "canonical", test_canonical },
	{ "rmw", test_rmw },
	{ "string_runs", test_string_runs },
	{ "probe", test_probe },
	{ "legacy_wrap", test_legacy_wrap },
	{ "read_only_slot", test_read_only_slot },
	{ "mmio_pieces", test_mmio_pieces },
	{ "mmio_iterations", test_mmio_iterations },
	{ "mmio_log_bound", test_mmio_log_bound },
	{ "ports", test_ports },
	{ "coalesced", test_coalesced },
	{ "code_pages", test_code_pages },
	{ "code_overflow", test_code_overflow },
	{ "code_page_everywhere", test_code_page_everywhere },
	{ "at_random", test_at_random },
	{ "translate", test_translate },
	{ "execute_disable", test_execute_disable },
	{ "alignment", test_alignment },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
