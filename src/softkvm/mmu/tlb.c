/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The software TLB's tables and what invalidates them (SDM 3A 4.10.4).
 *
 * Theory of operation
 *
 * The supervisor's tables are for all address spaces; the user's entries are in a table for each
 * space, that is, for each PCID (number 0 without CR4.PCIDE). TLB_SPACES spaces stay warm, the
 * least recently used one is emptied for a new PCID. So a kernel whose pages are global finds
 * its entries in any space. What is not global in the supervisor's tables belongs to the
 * current space, and goes when that changes; with CR4.SMAP nothing of the user's is in
 * TLB_SUPER at all.
 *
 * Nothing is marked by generation: an invalidation takes the entries out. A table logs which
 * places were filled since it was emptied, local (not global) and global entries apart, each
 * place at most once in either log. So to empty a table takes time for what was put in, not for
 * its size.
 *
 * When a page becomes code, or data again, all entries of that page are wanted. Entries that
 * may write or execute are therefore chained by a hash of the page's host address. The links
 * are in the notes; an entry is unchained when it is cleared or replaced.
 *
 * Invariants
 *  1. An entry's tags are its note's page or EMPTY; all are EMPTY without NOTE_VALID.
 *  2. Index i's EMPTY tag is a page whose index is not i (0; for index 0, page 1).
 *  3. Entries of large pages are 4 KiB entries with the size in the note; the number of the
 *     large page is hashed into table.large, so that INVLPG knows when it must look for all of
 *     them.
 *  4. A valid entry's place is in the log of its globality. A log may have places more: NOTE_LOGGED
 *     and NOTE_LOGGED_GLOBAL say so in the note, valid or not.
 *  5. An entry with a write tag, an execute tag or NOTE_WSLOW has NOTE_CHAINED; what has
 *     NOTE_CHAINED is valid, and in the chain of its host page, and nothing else is in a chain.
 *  6. Local entries of the supervisor's tables are of the current space.
 *  7. Global entries of the user's tables are in the space in which they were filled; INVLPG
 *     looks for them in all spaces.
 */
#include <assert.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "softkvm/jit/jit.h"
#include "softkvm/mmu/mmu_int.h"

#define ENTRIES_BYTES (TLB_ENTRIES * sizeof(struct tlb_entry))
#define NOTES_BYTES   (TLB_ENTRIES * sizeof(struct tlb_note))
#define LOG_BYTES     (TLB_ENTRIES * sizeof(uint16_t))
#define TABLE_BYTES   (ENTRIES_BYTES + NOTES_BYTES + TLB_LOGS * LOG_BYTES)
#define WIPE_MIN      (TLB_ENTRIES / 4) /* places filled from which memset() is cheaper */

static_assert(TABLE_BYTES % 64 == 0 && TLB_ENTRIES <= 65536);

static const uint8_t size_shift[PAGE_SIZES] = { 12, 21, 22, 30 };
static const uint64_t note_logged[TLB_LOGS] = { NOTE_LOGGED, NOTE_LOGGED_GLOBAL };

static uint64_t tag_empty(unsigned index)
{
	return index == 0 ? 0x1000 : 0;
}

int tlb_init(struct mmu *m)
{
	uint8_t *p;

	m->memory_bytes = TABLE_BYTES * TLB_TABLES + ENTRIES_BYTES;
	p = mmap(NULL, m->memory_bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		return -ENOMEM;
	}
	m->memory = p;
	for (unsigned i = 0; i < TLB_TABLES; i++, p += TABLE_BYTES) {
		struct tlb_table *t = &m->table[i];

		t->entry = (struct tlb_entry *)p;
		t->note = (struct tlb_note *)(p + ENTRIES_BYTES);
		for (unsigned l = 0; l < TLB_LOGS; l++) {
			t->log[l] = (uint16_t *)(p + ENTRIES_BYTES + NOTES_BYTES + l * LOG_BYTES);
		}
		t->entry[0].rtag = t->entry[0].wtag = t->entry[0].xtag = tag_empty(0);
	}
	m->none = (struct tlb_entry *)p;
	m->none[0] = (struct tlb_entry){ tag_empty(0), tag_empty(0), tag_empty(0), 0 };
	m->space[0].used = true;
	m->kind[TLB_SUPER] = &m->table[TLB_SUPER];
	m->kind[TLB_SUPER_AC] = &m->table[TLB_SUPER_AC];
	m->kind[TLB_USER] = &m->table[TLB_USER];
	return 0;
}

void tlb_done(struct mmu *m)
{
	if (m->memory) {
		munmap(m->memory, m->memory_bytes);
		m->memory = NULL;
	}
}

/* --- chains of a host page's entries ------------------------------------------------------- */

/* Entries are numbered over all tables, from 1: 0 is none. */
static uint32_t entry_id(const struct mmu *m, const struct tlb_table *t, unsigned i)
{
	return (uint32_t)(t - m->table) * TLB_ENTRIES + i + 1;
}

static struct tlb_table *id_table(struct mmu *m, uint32_t id)
{
	return &m->table[(id - 1) / TLB_ENTRIES];
}

static struct tlb_note *id_note(struct mmu *m, uint32_t id)
{
	return &id_table(m, id)->note[(id - 1) % TLB_ENTRIES];
}

static uint32_t *chain_of(struct mmu *m, uint64_t host)
{
	return &m->chain[(host >> 12) * 0x9e3779b97f4a7c15ull >> (64 - TLB_CHAIN_BITS)];
}

static void chain_add(struct mmu *m, struct tlb_table *t, unsigned i)
{
	uint32_t *head = chain_of(m, t->entry[i].host), id = entry_id(m, t, i);
	struct tlb_note *n = &t->note[i];

	n->prev = 0;
	n->next = *head;
	if (n->next) {
		id_note(m, n->next)->prev = id;
	}
	*head = id;
	n->flags |= NOTE_CHAINED;
	m->chained++;
}

static void chain_remove(struct mmu *m, struct tlb_table *t, unsigned i)
{
	struct tlb_note *n = &t->note[i];

	*(n->prev ? &id_note(m, n->prev)->next : chain_of(m, t->entry[i].host)) = n->next;
	if (n->next) {
		id_note(m, n->next)->prev = n->prev;
	}
	n->flags &= ~(uint64_t)NOTE_CHAINED;
	m->chained--;
}

/*
 * Take the write tags (or execute tags) of a host page. Without execute tags it is no code page
 * any more.
 */
void tlb_drop_tags(struct mmu *m, const uint8_t *host_page, bool exec)
{
	uint64_t host = (uint64_t)(uintptr_t)host_page;

	for (uint32_t id = *chain_of(m, host); id != 0; id = id_note(m, id)->next) {
		unsigned i = (id - 1) % TLB_ENTRIES;
		struct tlb_entry *e = &id_table(m, id)->entry[i];
		struct tlb_note *note = id_note(m, id);

		if (e->host != host) {
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

/* --- filling ------------------------------------------------------------------------------ */

/* The bit of the large page at `lin`. Neighbours have different ones. */
static unsigned large_bit(gva_t lin, enum page_size size)
{
	uint64_t n = lin >> size_shift[size];

	return (unsigned)((n ^ n >> 16) & (TLB_LARGE_BITS - 1));
}

static void log_place(struct tlb_table *t, unsigned i, enum tlb_log log)
{
	if (!(t->note[i].flags & note_logged[log])) {
		t->log[log][t->logged[log]++] = (uint16_t)i;
		t->note[i].flags |= note_logged[log];
	}
}

void tlb_put(struct mmu *m, struct tlb_table *t, const struct tlb_fill *f)
{
	unsigned i = (f->lin >> 12) & (TLB_ENTRIES - 1), bit;
	struct tlb_entry *e = &t->entry[i];
	struct tlb_note *n = &t->note[i];
	enum page_size size = (f->note & NOTE_SIZE) >> NOTE_SIZE_SHIFT;

	if (n->flags & NOTE_CHAINED) {
		chain_remove(m, t, i);
	}
	log_place(t, i, f->note & NOTE_GLOBAL ? TLB_LOG_GLOBAL : TLB_LOG_LOCAL);
	if (size != PAGE_4K) {
		bit = large_bit(f->lin, size);
		t->large[bit / 64] |= BIT64(bit % 64);
		t->sizes |= BIT(size);
	}
	e->host = (uint64_t)(uintptr_t)f->host;
	e->rtag = f->r ? f->lin : tag_empty(i);
	e->wtag = f->w ? f->lin : tag_empty(i);
	e->xtag = f->x ? f->lin : tag_empty(i);
	n->lin = f->lin;
	n->flags = (n->flags & NOTE_LOGGED_ANY) | f->note | NOTE_VALID;
	if (f->w || f->x || (f->note & NOTE_WSLOW)) {
		chain_add(m, t, i);
	}
}

/* --- invalidation of tables ---------------------------------------------------------------- */

static void entry_clear(struct mmu *m, struct tlb_table *t, unsigned i)
{
	if (t->note[i].flags & NOTE_CHAINED) {
		chain_remove(m, t, i);
	}
	t->entry[i].rtag = t->entry[i].wtag = t->entry[i].xtag = tag_empty(i);
	t->note[i].flags &= NOTE_LOGGED_ANY;
}

static bool table_is_empty(const struct tlb_table *t)
{
	return t->logged[TLB_LOG_LOCAL] + t->logged[TLB_LOG_GLOBAL] == 0;
}

/* Both logs are empty now. */
static void table_emptied(struct tlb_table *t)
{
	if (t->sizes != 0) {
		memset(t->large, 0, sizeof(t->large));
		t->sizes = 0;
	}
}

/* Take out the entries of one log, and forget the log. */
static void table_clear_log(struct mmu *m, struct tlb_table *t, enum tlb_log log)
{
	bool global = log == TLB_LOG_GLOBAL;

	for (unsigned k = 0; k < t->logged[log]; k++) {
		unsigned i = t->log[log][k];
		uint64_t flags = t->note[i].flags;

		if ((flags & NOTE_VALID) && !(flags & NOTE_GLOBAL) == !global) {
			entry_clear(m, t, i);
		}
		t->note[i].flags &= ~note_logged[log];
	}
	t->logged[log] = 0;
	if (table_is_empty(t)) {
		table_emptied(t);
	}
}

static void table_clear(struct mmu *m, struct tlb_table *t)
{
	table_clear_log(m, t, TLB_LOG_LOCAL);
	table_clear_log(m, t, TLB_LOG_GLOBAL);
}

/* The same when all chains are void. */
static void table_wipe(struct tlb_table *t)
{
	if (table_is_empty(t)) {
		return;
	}
	if (t->logged[TLB_LOG_LOCAL] + t->logged[TLB_LOG_GLOBAL] >= WIPE_MIN) {
		memset(t->entry, 0, ENTRIES_BYTES);
		memset(t->note, 0, NOTES_BYTES);
		t->entry[0].rtag = t->entry[0].wtag = t->entry[0].xtag = tag_empty(0);
	} else {
		for (unsigned l = 0; l < TLB_LOGS; l++) {
			for (unsigned k = 0; k < t->logged[l]; k++) {
				unsigned i = t->log[l][k];
				struct tlb_entry *e = &t->entry[i];

				e->rtag = e->wtag = e->xtag = tag_empty(i);
				t->note[i].flags = 0;
			}
		}
	}
	t->logged[TLB_LOG_LOCAL] = t->logged[TLB_LOG_GLOBAL] = 0;
	table_emptied(t);
}

/* Which entries of an address are meant. */
enum inv_what { INV_ALL, INV_GLOBAL_ONLY, INV_LOCAL_ONLY };

static bool inv_meant(uint64_t flags, enum inv_what what)
{
	bool global = (flags & NOTE_GLOBAL) != 0;

	return (flags & NOTE_VALID) && (what == INV_ALL || global == (what == INV_GLOBAL_ONLY));
}

/* All entries of the large page of this size at `lin`. */
static void table_inv_large(struct mmu *m, struct tlb_table *t, gva_t lin, enum page_size size,
			    enum inv_what what)
{
	unsigned pages = 1u << MIN(size_shift[size] - 12, TLB_BITS);
	unsigned first = (lin >> 12) & (TLB_ENTRIES - 1) & ~(pages - 1);

	for (unsigned i = first; i < first + pages; i++) {
		uint64_t fl = t->note[i].flags;

		if (inv_meant(fl, what) && (fl & NOTE_SIZE) >> NOTE_SIZE_SHIFT == size &&
		    (t->note[i].lin ^ lin) >> size_shift[size] == 0) {
			entry_clear(m, t, i);
		}
	}
}

static void table_inv(struct mmu *m, struct tlb_table *t, gva_t lin, enum inv_what what)
{
	unsigned i = (lin >> 12) & (TLB_ENTRIES - 1);

	if (t->logged[TLB_LOG_GLOBAL] == 0 &&
	    (what == INV_GLOBAL_ONLY || t->logged[TLB_LOG_LOCAL] == 0)) {
		return;
	}
	if (inv_meant(t->note[i].flags, what) && (t->note[i].lin ^ lin) >> 12 == 0) {
		entry_clear(m, t, i);
	}
	for (enum page_size z = PAGE_2M; z < PAGE_SIZES && t->sizes >> z != 0; z++) {
		unsigned bit = large_bit(lin, z);

		if ((t->sizes & BIT(z)) && (t->large[bit / 64] >> (bit % 64) & 1)) {
			table_inv_large(m, t, lin, z, what);
		}
	}
}

/* --- invalidation by what instructions name ------------------------------------------------- */

static struct tlb_table *user_table(struct mmu *m, unsigned space)
{
	return &m->table[TLB_USER + space];
}

/* Is this table a part of the current space? */
static bool is_current(const struct mmu *m, const struct tlb_table *t)
{
	return t < &m->table[TLB_USER] || t == m->kind[TLB_USER];
}

void mmu_flush_all(struct vcpu *cpu)
{
	struct mmu *m = cpu->mmu;

	if (m->chained < TLB_CHAINS / 8) {
		for (unsigned i = 0; i < TLB_TABLES; i++) {
			table_clear(m, &m->table[i]);
		}
	} else {
		memset(m->chain, 0, sizeof(m->chain));
		m->chained = 0;
		for (unsigned i = 0; i < TLB_TABLES; i++) {
			table_wipe(&m->table[i]);
		}
	}
	code_clear(m);
	jit_mappings_changed(cpu);
}

void mmu_flush_nonglobal(struct vcpu *cpu)
{
	for (unsigned i = 0; i < TLB_TABLES; i++) {
		table_clear_log(cpu->mmu, &cpu->mmu->table[i], TLB_LOG_LOCAL);
	}
	jit_mappings_changed(cpu);
}

void mmu_flush_page(struct vcpu *cpu, gva_t lin)
{
	struct mmu *m = cpu->mmu;

	for (unsigned i = 0; i < TLB_TABLES; i++) {
		struct tlb_table *t = &m->table[i];

		table_inv(m, t, lin, is_current(m, t) ? INV_ALL : INV_GLOBAL_ONLY);
	}
	jit_mapping_changed(cpu, lin);
}

/* The number of the space, TLB_SPACES if there is none. */
static unsigned space_find(const struct mmu *m, uint32_t pcid)
{
	unsigned s = 0;

	while (s < TLB_SPACES && !(m->space[s].used && m->space[s].pcid == pcid)) {
		s++;
	}
	return s;
}

static void shared_clear_local(struct mmu *m)
{
	table_clear_log(m, &m->table[TLB_SUPER], TLB_LOG_LOCAL);
	table_clear_log(m, &m->table[TLB_SUPER_AC], TLB_LOG_LOCAL);
}

static void space_clear_local(struct mmu *m, unsigned s)
{
	table_clear_log(m, user_table(m, s), TLB_LOG_LOCAL);
	if (s == m->cur) {
		shared_clear_local(m);
	}
}

void mmu_flush_pcid(struct vcpu *cpu, uint16_t pcid)
{
	unsigned s = space_find(cpu->mmu, pcid);

	if (s < TLB_SPACES) {
		space_clear_local(cpu->mmu, s);
		jit_space_emptied(cpu, s);
	}
}

void mmu_flush_pcid_page(struct vcpu *cpu, uint16_t pcid, gva_t lin)
{
	struct mmu *m = cpu->mmu;
	unsigned s = space_find(m, pcid);

	if (s == TLB_SPACES) {
		return;
	}
	table_inv(m, user_table(m, s), lin, INV_LOCAL_ONLY);
	if (s == m->cur) {
		table_inv(m, &m->table[TLB_SUPER], lin, INV_LOCAL_ONLY);
		table_inv(m, &m->table[TLB_SUPER_AC], lin, INV_LOCAL_ONLY);
	}
	jit_mapping_changed(cpu, lin);
}

/* --- spaces ------------------------------------------------------------------------------- */

/* An empty space for this PCID. */
static unsigned space_take(struct mmu *m, uint32_t pcid)
{
	unsigned victim = 0;

	for (unsigned s = 0; s < TLB_SPACES && m->space[victim].used; s++) {
		if (!m->space[s].used || m->space[s].last_use < m->space[victim].last_use) {
			victim = s;
		}
	}
	table_clear(m, user_table(m, victim));
	m->space[victim].used = true;
	m->space[victim].pcid = pcid;
	return victim;
}

static void space_switch(struct vcpu *cpu, uint32_t pcid)
{
	struct mmu *m = cpu->mmu;

	if (m->space[m->cur].pcid != pcid) {
		unsigned s = space_find(m, pcid);

		shared_clear_local(m);
		m->cur = s < TLB_SPACES ? s : space_take(m, pcid);
		if (s == TLB_SPACES) {
			jit_space_emptied(cpu, m->cur);
		}
		m->kind[TLB_USER] = user_table(m, m->cur);
	}
	m->space[m->cur].last_use = ++m->use_clock;
	jit_space_changed(cpu, m->cur);
}

bool tlb_is_global(const struct vcpu *cpu, gva_t lin)
{
	const struct tlb_table *t = cpu->mmu->kind[mmu_kind(cpu, false)];
	const struct tlb_note *n = &t->note[(lin >> 12) & (TLB_ENTRIES - 1)];

	return (n->flags & NOTE_VALID) && (n->lin ^ lin) >> 12 == 0 && (n->flags & NOTE_GLOBAL);
}

void mmu_select_tlb(struct vcpu *cpu)
{
	struct tlb_table *const *kind = cpu->mmu->kind;

	cpu->tlb_super[0] = kind[TLB_SUPER]->entry;
	cpu->tlb_super[1] = kind[cpu->cr4 & CR4_SMAP ? TLB_SUPER_AC : TLB_SUPER]->entry;
	cpu->tlb_user = kind[TLB_USER]->entry;
	cpu->tlb = unlikely(mmu_checks_alignment(cpu))
			   ? cpu->mmu->none
			   : cpu->mmu->kind[mmu_kind(cpu, false)]->entry;
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
		space_clear_local(m, m->cur);
		jit_space_emptied(cpu, m->cur);
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
