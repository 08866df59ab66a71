/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * A walk reads the entries from the root down and remembers where each one lies. Presence and
 * reserved bits are checked at each level, permissions at the end, over all levels. Only
 * when the access is allowed are accessed and dirty bits set, each by a compare-and-exchange
 * of the entry as it was read: if another vCPU changed it meanwhile, the walk starts over. So
 * an entry that a guest has taken away is never used with its old content after an A or D bit
 * was stored to it.
 *
 * Tables that lie in no slot count as not present; where a slot is read-only the bits stay as
 * they are.
 */
#include "softkvm/mmu/walk.h"

#include "softkvm/cpu/vcpu.h"
#include "softkvm/mmu/memslot.h"

#define PTE_P   BIT64(0)
#define PTE_W   BIT64(1)
#define PTE_U   BIT64(2)
#define PTE_A   BIT64(5)
#define PTE_D   BIT64(6)
#define PTE_PS  BIT64(7)
#define PTE_G   BIT64(8)
#define PTE_NX  BIT64(63)
#define ADDR_52 0x000ffffffffff000ull

/* Entries read on the way, for the A and D bits. */
struct trail {
	gpa_t gpa[4];
	uint64_t entry[4];
	unsigned count;
	unsigned width; /* bytes of an entry */
};

static uint64_t bits(unsigned lo, unsigned hi)
{
	return hi < lo ? 0 : (hi == 63 ? ~0ull : BIT64(hi + 1) - 1) & ~(BIT64(lo) - 1);
}

/* 0 or -EFAULT: one entry, read at once. */
static int entry_read(const struct walk_env *env, struct trail *t, gpa_t gpa, uint64_t *ret)
{
	void *p = vm_map_phys(env->vm, gpa, t->width, false);

	if (!p) {
		return -EFAULT;
	}
	*ret = t->width == 8 ? __atomic_load_n((uint64_t *)p, __ATOMIC_RELAXED)
			     : __atomic_load_n((uint32_t *)p, __ATOMIC_RELAXED);
	t->gpa[t->count] = gpa;
	t->entry[t->count++] = *ret;
	return 0;
}

/* Store `set` to an entry that is still as it was. False: it has changed. */
static bool entry_set(const struct walk_env *env, const struct trail *t, unsigned i, uint64_t set)
{
	uint64_t old = t->entry[i];
	void *p;

	if ((old & set) == set) {
		return true;
	}
	p = vm_map_phys(env->vm, t->gpa[i], t->width, true);
	if (!p) {
		return true;
	}
	if (t->width == 8) {
		return __atomic_compare_exchange_n((uint64_t *)p, &old, old | set, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	} else {
		uint32_t old32 = (uint32_t)old;

		return __atomic_compare_exchange_n((uint32_t *)p, &old32, old32 | (uint32_t)set,
						   false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	}
}

static bool trail_mark(const struct walk_env *env, const struct trail *t, bool write)
{
	for (unsigned i = 0; i < t->count; i++) {
		bool leaf = i == t->count - 1;

		if (!entry_set(env, t, i, leaf && write ? PTE_A | PTE_D : PTE_A)) {
			return false;
		}
	}
	return true;
}

/* Reserved bits of a present 8-byte entry at `level` (1: page table); SDM 3A tables 4-9 to 4-19. */
static uint64_t reserved_64(const struct walk_env *env, unsigned level, uint64_t e)
{
	bool lma = (env->efer & EFER_LMA) != 0;
	uint64_t r = bits(env->maxphyaddr, lma ? 51 : 62);

	if (!(env->efer & EFER_NX)) {
		r |= PTE_NX;
	}
	if (level == 4) {
		return r | PTE_PS | (env->amd ? PTE_G : 0);
	}
	if (level == 3) {
		if (!(e & PTE_PS)) {
			return r | (env->amd ? PTE_G : 0);
		}
		return r | (env->pages_1g ? bits(13, 29) : PTE_PS);
	}
	return level == 2 && (e & PTE_PS) ? r | bits(13, 20) : r;
}

static void rights_add(struct walk_result *r, uint64_t e)
{
	r->user = r->user && (e & PTE_U);
	r->write = r->write && (e & PTE_W);
	r->nx = r->nx || (e & PTE_NX);
}

static void leaf_set(const struct walk_env *env, struct walk_result *r, uint64_t e,
		     enum page_size size, uint64_t frame, uint64_t offset)
{
	r->size = size;
	r->gpa = frame | offset;
	r->global = (e & PTE_G) && (env->cr4 & CR4_PGE);
	r->dirty = (e & PTE_D) != 0;
}

/* 4-level and PAE. The result is 0, PF_P | PF_RSVD or PF_NONE. */
#define PF_NONE (-1) /* not present: error bits 0 */
static int walk_64(const struct walk_env *env, gva_t lin, struct walk_result *r, struct trail *t)
{
	static const enum page_size sizes[] = { 0, PAGE_4K, PAGE_2M, PAGE_1G };
	bool lma = (env->efer & EFER_LMA) != 0;
	uint64_t table = env->cr3 & ADDR_52, e;
	unsigned level = 4;

	t->width = 8;
	if (!lma) {
		e = env->pdpte[lin >> 30 & 3];
		if (!(e & PTE_P)) {
			return PF_NONE;
		}
		table = e & ADDR_52;
		level = 2;
	}
	for (;; level--) {
		unsigned shift = 12 + 9 * (level - 1);

		if (entry_read(env, t, table + (lin >> shift & 511) * 8, &e) != 0 || !(e & PTE_P)) {
			return PF_NONE;
		}
		if (e & reserved_64(env, level, e)) {
			return PF_P | PF_RSVD;
		}
		rights_add(r, e);
		if (level == 1 || (level < 4 && (e & PTE_PS))) {
			uint64_t mask = BIT64(shift) - 1;

			leaf_set(env, r, e, sizes[level], e & ADDR_52 & ~mask, lin & mask);
			return 0;
		}
		table = e & ADDR_52;
	}
}

/* Reserved bits of a 4 MiB entry: 20..13 hold address bits 39..32 as far as they exist. */
static uint64_t reserved_4m(const struct walk_env *env)
{
	unsigned m = MIN(env->maxphyaddr, 40);

	return bits(m <= 32 ? 13 : m - 32 + 13, 21);
}

/* 32-bit paging. */
static int walk_32(const struct walk_env *env, gva_t lin, struct walk_result *r, struct trail *t)
{
	uint64_t e;

	t->width = 4;
	if (entry_read(env, t, (env->cr3 & 0xfffff000) + (lin >> 22 & 1023) * 4, &e) != 0 ||
	    !(e & PTE_P)) {
		return PF_NONE;
	}
	rights_add(r, e);
	if ((e & PTE_PS) && (env->cr4 & CR4_PSE)) {
		if (e & reserved_4m(env)) {
			return PF_P | PF_RSVD;
		}
		leaf_set(env, r, e, PAGE_4M, (e & 0xffc00000) | (e >> 13 & 0xff) << 32,
			 lin & 0x3fffff);
		return 0;
	}
	if (entry_read(env, t, (e & 0xfffff000) + (lin >> 12 & 1023) * 4, &e) != 0 ||
	    !(e & PTE_P)) {
		return PF_NONE;
	}
	rights_add(r, e);
	leaf_set(env, r, e, PAGE_4K, e & 0xfffff000, lin & 0xfff);
	return 0;
}

/* SDM 3A 4.6.1. */
bool walk_allows(const struct walk_env *env, const struct walk_result *r, unsigned how)
{
	if (how & WALK_FETCH) {
		if (r->nx && (env->efer & EFER_NX)) {
			return false;
		}
		return how & WALK_USER ? r->user : !(r->user && (env->cr4 & CR4_SMEP));
	}
	if (how & WALK_USER) {
		return r->user && (r->write || !(how & WALK_WRITE));
	}
	if (r->user && (env->cr4 & CR4_SMAP) && !(how & WALK_AC)) {
		return false;
	}
	return r->write || !(how & WALK_WRITE) || !(env->cr0 & CR0_WP);
}

static uint32_t error_code(const struct walk_env *env, unsigned how, uint32_t bits_found)
{
	bool has_i = ((env->cr4 & CR4_PAE) && (env->efer & EFER_NX)) || (env->cr4 & CR4_SMEP);

	return bits_found | (how & WALK_WRITE ? PF_W : 0) | (how & WALK_USER ? PF_U : 0) |
	       ((how & WALK_FETCH) && has_i ? PF_I : 0);
}

int walk(const struct walk_env *env, gva_t lin, unsigned how, struct walk_result *ret,
	 uint32_t *ret_error)
{
	for (;;) {
		struct walk_result r = { .user = true, .write = true };
		struct trail t = { 0 };
		int e = 0;

		if (!(env->cr0 & CR0_PG)) {
			r.gpa = lin & 0xffffffff;
			r.dirty = true;
			*ret = r;
			return 0;
		}
		e = env->cr4 & CR4_PAE ? walk_64(env, lin, &r, &t) : walk_32(env, lin, &r, &t);
		if (e == 0 && !(how & WALK_ANY) && !walk_allows(env, &r, how)) {
			e = PF_P;
		}
		if (e != 0) {
			*ret_error = error_code(env, how, e == PF_NONE ? 0 : (uint32_t)e);
			return -EFAULT;
		}
		if ((how & WALK_QUIET) || trail_mark(env, &t, how & WALK_WRITE)) {
			r.dirty = r.dirty || (how & WALK_WRITE);
			*ret = r;
			return 0;
		}
	}
}

bool walk_load_pdptes(struct walk_env *env, uint64_t cr3)
{
	uint64_t e[4];
	uint64_t reserved = bits(1, 2) | bits(5, 8) | bits(env->maxphyaddr, 63);

	/* What lies in no RAM reads as not present. */
	if (vm_read_phys(env->vm, cr3 & 0xffffffe0, e, sizeof(e)) != 0) {
		memset(e, 0, sizeof(e));
	}
	for (unsigned i = 0; i < 4; i++) {
		if ((e[i] & PTE_P) && (e[i] & reserved)) {
			return false;
		}
	}
	memcpy(env->pdpte, e, sizeof(e));
	return true;
}
