/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The software TLB's tables and what invalidates them (SDM 3A 4.10.4).
 *
 * Theory of operation
 *
 * A space is what belongs to one PCID (number 0 without CR4.PCIDE): a table for each kind
 * of rights. TLB_SPACES spaces stay warm, the least recently used one is emptied for a new PCID.
 * Nothing is marked by generation: an invalidation takes the entries out, which costs little since
 * each table remembers which entries were filled as long as these are few.
 *
 * Invariants
 *  1. An entry's tags are its note's page or EMPTY; all are EMPTY without NOTE_VALID.
 *  2. Index i's EMPTY tag is a page whose index is not i (0; for index 0, page 1).
 *  3. Entries of large pages are 4 KiB entries with the size in the note; the number of the
 *     large page is hashed into table.large[size], so that INVLPG knows when it must look for
 *     all of them.
 *  4. Global entries are in the space in which they were filled; INVLPG looks into all spaces.
 */
#include <sys/mman.h>

#include "base/assert.h"
#include "softkvm/jit/jit.h"
#include "softkvm/mmu/mmu_int.h"

#define TABLE_BYTES (TLB_ENTRIES * sizeof(struct tlb_entry))
#define NOTES_BYTES (TLB_ENTRIES * sizeof(struct tlb_note))

static const uint8_t size_shift[PAGE_SIZES] = { 12, 21, 22, 30 };

static uint64_t tag_empty(unsigned index)
{
	return index == 0 ? 0x1000 : 0;
}

static void entry_clear(struct tlb_table *t, unsigned i)
{
	t->entry[i].rtag = t->entry[i].wtag = t->entry[i].xtag = tag_empty(i);
	t->note[i].flags = 0;
}

static void table_clear(struct tlb_table *t)
{
	if (t->filled > TLB_LOG_MAX) {
		memset(t->entry, 0, TABLE_BYTES);
		memset(t->note, 0, NOTES_BYTES);
		entry_clear(t, 0);
	} else {
		for (unsigned i = 0; i < t->filled; i++) {
			entry_clear(t, t->log[i]);
		}
	}
	t->filled = 0;
	memset(t->large, 0, sizeof(t->large));
}

int tlb_init(struct mmu *m)
{
	size_t one = TABLE_BYTES + NOTES_BYTES;
	uint8_t *p;

	m->memory_bytes = one * TLB_SPACES * TLB_KINDS + TABLE_BYTES;
	p = mmap(NULL, m->memory_bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		return -ENOMEM;
	}
	m->memory = p;
	for (unsigned s = 0; s < TLB_SPACES; s++) {
		for (unsigned k = 0; k < TLB_KINDS; k++) {
			struct tlb_table *t = &m->space[s].table[k];

			t->entry = (struct tlb_entry *)p;
			t->note = (struct tlb_note *)(p + TABLE_BYTES);
			entry_clear(t, 0);
			p += one;
		}
	}
	m->none = (struct tlb_entry *)p;
	m->none[0] = (struct tlb_entry){ tag_empty(0), tag_empty(0), tag_empty(0), 0 };
	m->space[0].used = true;
	m->cur = &m->space[0];
	return 0;
}

void tlb_done(struct mmu *m)
{
	if (m->memory) {
		munmap(m->memory, m->memory_bytes);
		m->memory = NULL;
	}
}

/* --- filling ------------------------------------------------------------------------------ */

static uint64_t large_bit(gva_t lin, enum page_size size)
{
	uint64_t n = lin >> size_shift[size];

	return BIT64((n ^ n >> 6) & 63);
}

void tlb_put(struct tlb_table *t, const struct tlb_fill *f)
{
	unsigned i = (f->lin >> 12) & (TLB_ENTRIES - 1);
	struct tlb_entry *e = &t->entry[i];
	enum page_size size = (f->note & NOTE_SIZE) >> NOTE_SIZE_SHIFT;

	if (!(t->note[i].flags & NOTE_VALID)) {
		if (t->filled < TLB_LOG_MAX) {
			t->log[t->filled] = (uint16_t)i;
		}
		if (t->filled <= TLB_LOG_MAX) {
			t->filled++;
		}
	}
	if (size != PAGE_4K) {
		t->large[size] |= large_bit(f->lin, size);
	}
	e->host = (uint64_t)(uintptr_t)f->host;
	e->rtag = f->r ? f->lin : tag_empty(i);
	e->wtag = f->w ? f->lin : tag_empty(i);
	e->xtag = f->x ? f->lin : tag_empty(i);
	t->note[i] = (struct tlb_note){ f->lin, f->note | NOTE_VALID };
}

/*
 * Take the write tags (or execute tags) of a host page. Without execute tags it is no code page
 * any more.
 */
static void table_drop_tags(struct tlb_table *t, uint64_t host, bool exec)
{
	unsigned n = t->filled > TLB_LOG_MAX ? TLB_ENTRIES : t->filled;

	for (unsigned k = 0; k < n; k++) {
		unsigned i = t->filled > TLB_LOG_MAX ? k : t->log[k];
		struct tlb_entry *e = &t->entry[i];
		struct tlb_note *note = &t->note[i];

		if (e->host != host || !(note->flags & NOTE_VALID)) {
			continue;
		}
		if (exec) {
			e->xtag = tag_empty(i);
			note->flags &= ~(uint64_t)NOTE_WSLOW; /* the next write may get its tag */
		} else if (e->wtag == note->lin) {
			e->wtag = tag_empty(i);
			note->flags |= NOTE_WSLOW;
		}
	}
}

void tlb_drop_tags(struct mmu *m, const uint8_t *host_page, bool exec)
{
	uint64_t host = (uint64_t)(uintptr_t)host_page;

	for (unsigned s = 0; s < TLB_SPACES; s++) {
		for (unsigned k = 0; k < TLB_KINDS; k++) {
			table_drop_tags(&m->space[s].table[k], host, exec);
		}
	}
}

/* --- invalidation ------------------------------------------------------------------------- */

static void space_clear(struct tlb_space *s)
{
	for (unsigned k = 0; k < TLB_KINDS; k++) {
		table_clear(&s->table[k]);
	}
}

static void table_clear_nonglobal(struct tlb_table *t)
{
	bool scan = t->filled > TLB_LOG_MAX;
	unsigned n = scan ? TLB_ENTRIES : t->filled, kept = 0;

	for (unsigned k = 0; k < n; k++) {
		unsigned i = scan ? k : t->log[k];

		if (!(t->note[i].flags & NOTE_GLOBAL)) {
			if (t->note[i].flags & NOTE_VALID) {
				entry_clear(t, i);
			}
			continue;
		}
		if (kept < TLB_LOG_MAX) {
			t->log[kept] = (uint16_t)i;
		}
		kept++;
	}
	t->filled = MIN(kept, TLB_LOG_MAX + 1u);
	if (kept == 0) {
		memset(t->large, 0, sizeof(t->large));
	}
}

static void space_clear_nonglobal(struct tlb_space *s)
{
	for (unsigned k = 0; k < TLB_KINDS; k++) {
		table_clear_nonglobal(&s->table[k]);
	}
}

/* Which entries of an address are meant. */
enum inv_what { INV_ALL, INV_GLOBAL_ONLY, INV_NONGLOBAL_ONLY };

static bool inv_meant(uint64_t flags, enum inv_what what)
{
	bool global = (flags & NOTE_GLOBAL) != 0;

	return what == INV_ALL || global == (what == INV_GLOBAL_ONLY);
}

/* All entries of the large page of this size at `lin`. */
static void table_inv_large(struct tlb_table *t, gva_t lin, enum page_size size, enum inv_what what)
{
	unsigned pages = 1u << MIN(size_shift[size] - 12, TLB_BITS);
	unsigned first = (lin >> 12) & (TLB_ENTRIES - 1) & ~(pages - 1);

	for (unsigned i = first; i < first + pages; i++) {
		uint64_t fl = t->note[i].flags;

		if ((fl & NOTE_VALID) && (fl & NOTE_SIZE) >> NOTE_SIZE_SHIFT == size &&
		    (t->note[i].lin ^ lin) >> size_shift[size] == 0 && inv_meant(fl, what)) {
			entry_clear(t, i);
		}
	}
}

static void table_inv(struct tlb_table *t, gva_t lin, enum inv_what what)
{
	unsigned i = (lin >> 12) & (TLB_ENTRIES - 1);

	if (t->filled == 0) {
		return;
	}
	if ((t->note[i].flags & NOTE_VALID) && ((t->note[i].lin ^ lin) >> 12) == 0 &&
	    inv_meant(t->note[i].flags, what)) {
		entry_clear(t, i);
	}
	for (enum page_size z = PAGE_2M; z < PAGE_SIZES; z++) {
		if (t->large[z] & large_bit(lin, z)) {
			table_inv_large(t, lin, z, what);
		}
	}
}

static void space_inv(struct tlb_space *s, gva_t lin, enum inv_what what)
{
	for (unsigned k = 0; k < TLB_KINDS; k++) {
		table_inv(&s->table[k], lin, what);
	}
}

void mmu_flush_all(struct vcpu *cpu)
{
	struct mmu *m = cpu->mmu;

	for (unsigned s = 0; s < TLB_SPACES; s++) {
		space_clear(&m->space[s]);
	}
	code_clear(m);
	jit_mappings_changed(cpu);
}

void mmu_flush_nonglobal(struct vcpu *cpu)
{
	for (unsigned s = 0; s < TLB_SPACES; s++) {
		space_clear_nonglobal(&cpu->mmu->space[s]);
	}
	jit_mappings_changed(cpu);
}

void mmu_flush_page(struct vcpu *cpu, gva_t lin)
{
	struct mmu *m = cpu->mmu;

	for (unsigned s = 0; s < TLB_SPACES; s++) {
		space_inv(&m->space[s], lin, &m->space[s] == m->cur ? INV_ALL : INV_GLOBAL_ONLY);
	}
	jit_mapping_changed(cpu, lin);
}

static struct tlb_space *space_find(struct mmu *m, uint32_t pcid)
{
	for (unsigned s = 0; s < TLB_SPACES; s++) {
		if (m->space[s].used && m->space[s].pcid == pcid) {
			return &m->space[s];
		}
	}
	return NULL;
}

static unsigned space_index(const struct mmu *m, const struct tlb_space *s)
{
	return (unsigned)(s - m->space);
}

void mmu_flush_pcid(struct vcpu *cpu, uint16_t pcid)
{
	struct tlb_space *s = space_find(cpu->mmu, pcid);

	if (s) {
		space_clear_nonglobal(s);
		jit_space_emptied(cpu, space_index(cpu->mmu, s));
	}
}

void mmu_flush_pcid_page(struct vcpu *cpu, uint16_t pcid, gva_t lin)
{
	struct tlb_space *s = space_find(cpu->mmu, pcid);

	if (s) {
		space_inv(s, lin, INV_NONGLOBAL_ONLY);
		jit_mapping_changed(cpu, lin);
	}
}

/* --- spaces ------------------------------------------------------------------------------- */

static struct tlb_space *space_take(struct mmu *m, uint32_t pcid)
{
	struct tlb_space *victim = NULL;

	for (unsigned s = 0; s < TLB_SPACES; s++) {
		struct tlb_space *p = &m->space[s];

		if (!p->used) {
			victim = p;
			break;
		}
		if (!victim || p->last_use < victim->last_use) {
			victim = p;
		}
	}
	space_clear(victim);
	victim->used = true;
	victim->pcid = pcid;
	return victim;
}

static void space_switch(struct vcpu *cpu, uint32_t pcid)
{
	struct mmu *m = cpu->mmu;
	struct tlb_space *s = space_find(m, pcid);

	m->cur = s ? s : space_take(m, pcid);
	m->cur->last_use = ++m->use_clock;
	if (!s) {
		jit_space_emptied(cpu, space_index(m, m->cur));
	}
	jit_space_changed(cpu, space_index(m, m->cur));
}

bool tlb_is_global(const struct vcpu *cpu, gva_t lin)
{
	const struct tlb_table *t = &cpu->mmu->cur->table[mmu_kind(cpu, false)];
	const struct tlb_note *n = &t->note[(lin >> 12) & (TLB_ENTRIES - 1)];

	return (n->flags & NOTE_VALID) && (n->lin ^ lin) >> 12 == 0 && (n->flags & NOTE_GLOBAL);
}

void mmu_select_tlb(struct vcpu *cpu)
{
	cpu->tlb = unlikely(mmu_checks_alignment(cpu))
			   ? cpu->mmu->none
			   : cpu->mmu->cur->table[mmu_kind(cpu, false)].entry;
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

bool mmu_set_cr3(struct vcpu *cpu, uint64_t cr3, bool noflush)
{
	struct mmu *m = cpu->mmu;
	uint32_t pcid = cpu->cr4 & CR4_PCIDE ? cr3 & 0xfff : 0;

	mmu_env_refresh(cpu);
	if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer) && !walk_load_pdptes(&m->env, cr3)) {
		return false;
	}
	cpu->cr3 = cr3 & ~BIT64(63);
	m->env.cr3 = cpu->cr3;
	space_switch(cpu, pcid);
	if (!(noflush && (cpu->cr4 & CR4_PCIDE))) {
		space_clear_nonglobal(m->cur);
		jit_space_emptied(cpu, space_index(m, m->cur));
	}
	mmu_select_tlb(cpu);
	return true;
}

bool mmu_paging_changed(struct vcpu *cpu, uint64_t old_cr0, uint64_t old_cr4, uint64_t old_efer)
{
	const uint64_t cr0_load = CR0_PG | CR0_CD | CR0_NW, cr0_flush = CR0_PG | CR0_WP;
	const uint64_t cr4_load = CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP;
	const uint64_t cr4_flush = cr4_load | CR4_SMAP | CR4_LA57;
	uint64_t d0 = cpu->cr0 ^ old_cr0, d4 = cpu->cr4 ^ old_cr4, de = cpu->efer ^ old_efer;
	struct mmu *m = cpu->mmu;

	mmu_env_refresh(cpu);
	if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer) &&
	    ((d0 & cr0_load) || (d4 & cr4_load) || (de & EFER_LMA)) &&
	    !walk_load_pdptes(&m->env, cpu->cr3)) {
		return false;
	}
	if ((d0 & cr0_flush) || (d4 & cr4_flush) || (de & (EFER_NX | EFER_LMA))) {
		mmu_flush_all(cpu);
		space_switch(cpu, cpu->cr4 & CR4_PCIDE ? cpu->cr3 & 0xfff : 0);
	}
	mmu_select_tlb(cpu);
	return true;
}
