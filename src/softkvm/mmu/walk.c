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

/* Entries read on the way, for the rights, and for the A and D bits. */
struct trail {
	gpa_t gpa[4];
	uint64_t entry[4];
	unsigned count;
	unsigned width;    /* bytes of an entry */
	uint64_t all, any; /* bits that all of them have, and that any has */
	/* what the last one says */
	enum page_size size;
	gpa_t found; /* of the address */
};

static uint64_t bits(unsigned lo, unsigned hi)
{
	return hi < lo ? 0 : (hi == 63 ? ~0ull : BIT64(hi + 1) - 1) & ~(BIT64(lo) - 1);
}

/*
 * One entry, read at once. False: it lies in no RAM. Tables tend to lie in one slot, which
 * *slot remembers.
 */
static inline bool entry_read(const struct walk_env *env, struct trail *t, gpa_t gpa,
			      const struct memslot **slot, uint64_t *ret)
{
	const struct memslot *s = *slot;
	const uint8_t *p;

	if (!s || gpa - s->gpa >= s->size_bytes) {
		s = *slot = memslots_find(env->vm, gpa);
		if (!s) {
			return false;
		}
	}
	/* Slots are made of pages, and entries are aligned: it does not cross the slot's end. */
	p = s->host + (gpa - s->gpa);
	*ret = t->width == 8 ? __atomic_load_n((const uint64_t *)(const void *)p, __ATOMIC_RELAXED)
			     : __atomic_load_n((const uint32_t *)(const void *)p, __ATOMIC_RELAXED);
	t->gpa[t->count] = gpa;
	t->entry[t->count++] = *ret;
	return true;
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

/* Without any of these bits an entry has no reserved bit set, at whatever level. */
static uint64_t suspect_64(const struct walk_env *env)
{
	return bits(env->maxphyaddr, env->efer & EFER_LMA ? 51 : 62) | PTE_PS |
	       (env->efer & EFER_NX ? 0 : PTE_NX) | (env->amd ? PTE_G : 0);
}

static void rights_add(struct trail *t, uint64_t e)
{
	t->all &= e;
	t->any |= e;
}

static void leaf_set(struct trail *t, enum page_size size, uint64_t frame, uint64_t offset)
{
	t->size = size;
	t->found = frame | offset;
}

/* 4-level and PAE. The result is 0, PF_P | PF_RSVD or PF_NONE. */
#define PF_NONE (-1) /* not present: error bits 0 */
static int walk_64(const struct walk_env *env, gva_t lin, struct trail *t)
{
	static const enum page_size sizes[] = { 0, PAGE_4K, PAGE_2M, PAGE_1G };
	bool lma = (env->efer & EFER_LMA) != 0;
	uint64_t table = env->cr3 & ADDR_52, suspect = suspect_64(env), e;
	const struct memslot *slot = NULL;
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

		if (!entry_read(env, t, table + (lin >> shift & 511) * 8, &slot, &e) ||
		    !(e & PTE_P)) {
			return PF_NONE;
		}
		if ((e & suspect) && (e & reserved_64(env, level, e))) {
			return PF_P | PF_RSVD;
		}
		rights_add(t, e);
		if (level == 1 || (level < 4 && (e & PTE_PS))) {
			uint64_t mask = BIT64(shift) - 1;

			leaf_set(t, sizes[level], e & ADDR_52 & ~mask, lin & mask);
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
static int walk_32(const struct walk_env *env, gva_t lin, struct trail *t)
{
	const struct memslot *slot = NULL;
	uint64_t e;

	t->width = 4;
	if (!entry_read(env, t, (env->cr3 & 0xfffff000) + (lin >> 22 & 1023) * 4, &slot, &e) ||
	    !(e & PTE_P)) {
		return PF_NONE;
	}
	rights_add(t, e);
	if ((e & PTE_PS) && (env->cr4 & CR4_PSE)) {
		if (e & reserved_4m(env)) {
			return PF_P | PF_RSVD;
		}
		leaf_set(t, PAGE_4M, (e & 0xffc00000) | (e >> 13 & 0xff) << 32, lin & 0x3fffff);
		return 0;
	}
	if (!entry_read(env, t, (e & 0xfffff000) + (lin >> 12 & 1023) * 4, &slot, &e) ||
	    !(e & PTE_P)) {
		return PF_NONE;
	}
	rights_add(t, e);
	leaf_set(t, PAGE_4K, e & 0xfffff000, lin & 0xfff);
	return 0;
}

/* SDM 3A 4.6.1. */
static inline bool allows(const struct walk_env *env, bool user, bool write, bool nx, unsigned how)
{
	if (how & WALK_FETCH) {
		if (nx && (env->efer & EFER_NX)) {
			return false;
		}
		return how & WALK_USER ? user : !(user && (env->cr4 & CR4_SMEP));
	}
	if (how & WALK_USER) {
		return user && (write || !(how & WALK_WRITE));
	}
	if (user && (env->cr4 & CR4_SMAP) && !(how & WALK_AC)) {
		return false;
	}
	return write || !(how & WALK_WRITE) || !(env->cr0 & CR0_WP);
}

bool walk_allows(const struct walk_env *env, const struct walk_result *r, unsigned how)
{
	return allows(env, r->user, r->write, r->nx, how);
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
	if (!(env->cr0 & CR0_PG)) {
		*ret = (struct walk_result){
			.gpa = lin & 0xffffffff, .user = true, .write = true, .dirty = true
		};
		return 0;
	}
	for (;;) {
		struct trail t;
		bool user, write, nx;
		uint64_t leaf;
		int e;

		t.count = 0;
		t.all = ~0ull;
		t.any = 0;
		e = env->cr4 & CR4_PAE ? walk_64(env, lin, &t) : walk_32(env, lin, &t);
		user = t.all & PTE_U;
		write = t.all & PTE_W;
		nx = t.any & PTE_NX;
		if (e == 0 && !(how & WALK_ANY) && !allows(env, user, write, nx, how)) {
			e = PF_P;
		}
		if (e != 0) {
			*ret_error = error_code(env, how, e == PF_NONE ? 0 : (uint32_t)e);
			return -EFAULT;
		}
		if (!(how & WALK_QUIET) && !trail_mark(env, &t, how & WALK_WRITE)) {
			continue;
		}
		leaf = t.entry[t.count - 1];
		*ret = (struct walk_result){
			.gpa = t.found,
			.size = t.size,
			.user = user,
			.write = write,
			.nx = nx,
			.global = (leaf & PTE_G) && (env->cr4 & CR4_PGE),
			.dirty = (leaf & PTE_D) || (how & WALK_WRITE),
		};
		return 0;
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
