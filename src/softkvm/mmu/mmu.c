/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The slow paths of mmu.h: TLB misses, accesses that cross a page, devices,
 * pages under watch.
 *
 * Theory of operation
 *
 * An access becomes a span of one or two parts, each within a page. All parts are translated,
 * with all checks, before the first is read or written. A translation of RAM is put
 * into the TLB; what is no RAM (and writes to read-only slots) goes to io.c each time.
 *
 * Write tags are only given when nothing remains to be done at a write: the page's D bit is
 * set, its bit in the dirty log too, it is no code page of this vCPU and under no watch. The
 * note NOTE_WSLOW says that only the last two are missing, so that the page tables need not be
 * walked again.
 */
#include "base/assert.h"
#include "softkvm/cpu/debug.h"
#include "softkvm/cpu/msr.h"
#include "softkvm/cpu/run.h"
#include "softkvm/jit/jit.h"
#include "softkvm/mmu/mmu_int.h"
#include "softkvm/vm.h"

#include <stdlib.h>

#define PAGE_MASK (~4095ull)

int mmu_vcpu_init(struct vcpu *cpu)
{
	struct mmu *m = calloc(1, sizeof(*m));

	if (!m) {
		return -ENOMEM;
	}
	cpu->mmu = m;
	if (tlb_init(m) != 0) {
		mmu_vcpu_done(cpu);
		return -ENOMEM;
	}
	m->env.vm = cpu->vm;
	mmu_cpuid_changed(cpu);
	mmu_select_tlb(cpu);
	return 0;
}

void mmu_vcpu_done(struct vcpu *cpu)
{
	if (cpu->mmu) {
		tlb_done(cpu->mmu);
		free(cpu->mmu);
		cpu->mmu = NULL;
	}
}

void mmu_cpuid_changed(struct vcpu *cpu)
{
	struct walk_env *env = &cpu->mmu->env;
	struct cpuid_regs r;
	uint8_t old = env->maxphyaddr;

	cpuid_query(cpu, 0x80000008, 0, &r);
	env->maxphyaddr = r.eax & 0xff ? MIN(r.eax & 0xff, 52u) : 36;
	cpuid_query(cpu, 0x80000001, 0, &r);
	env->pages_1g = r.edx >> 26 & 1;
	cpuid_query(cpu, 0, 0, &r);
	env->amd = r.ebx == 0x68747541 || r.ebx == 0x6f677948; /* "Auth", "Hygo" */
	if (old != env->maxphyaddr) {
		mmu_flush_all(cpu);
	}
}

/* --- translation -------------------------------------------------------------------------- */

static bool fault_page(struct vcpu *cpu, gva_t lin, uint32_t error)
{
	cpu->fault = (struct fault){
		.vector = EX_PF,
		.has_error = true,
		.error = error,
		.has_payload = true,
		.payload = lin,
	};
	return false;
}

static bool fault_noncanonical(struct vcpu *cpu)
{
	cpu->fault = (struct fault){ .vector = EX_GP, .has_error = true, .noncanonical = true };
	return false;
}

static unsigned walk_how(enum mmu_access acc, enum tlb_kind kind)
{
	return (acc == ACC_WRITE || acc == ACC_RMW ? WALK_WRITE : 0) |
	       (acc == ACC_EXEC ? WALK_FETCH : 0) | (kind == TLB_USER ? WALK_USER : 0) |
	       (kind == TLB_SUPER_AC ? WALK_AC : 0);
}

static bool page_watched(const struct mmu *m, gva_t page)
{
	for (unsigned i = 0; i < WATCH_MAX; i++) {
		const struct watch *w = &m->watch[i];

		if ((m->watch_on & BIT(i)) && w->lin < page + 4096 && page < w->lin + w->len) {
			return true;
		}
	}
	return false;
}

/* Does the dirty log know already that the page is written? */
static bool page_logged(const struct memslot *s, gpa_t gpa)
{
	uint64_t p = (gpa - s->gpa) >> 12;

	return !s->dirty ||
	       (atomic_load_explicit(&s->dirty[p >> 6], memory_order_relaxed) >> (p & 63) & 1);
}

/* Put what a walk found into the table. */
static uint8_t *fill(struct vcpu *cpu, gva_t lin, enum mmu_access acc, enum tlb_kind kind,
		     const struct walk_result *r, struct memslot *slot)
{
	struct mmu *m = cpu->mmu;
	struct tlb_table *t = m->kind[kind];
	const struct tlb_entry *old = &t->entry[(lin >> 12) & (TLB_ENTRIES - 1)];
	struct tlb_fill f = { .lin = lin & PAGE_MASK };
	gpa_t page = r->gpa & PAGE_MASK;
	bool watched = m->watch_on && page_watched(m, f.lin), code;

	f.host = slot->host + (page - slot->gpa);
	if (acc == ACC_EXEC) {
		code_add(cpu, f.host);
		jit_page_fetched(cpu->vm, f.host);
	}
	f.r = walk_allows(&m->env, r, walk_how(ACC_READ, kind));
	f.w = r->dirty && !(slot->flags & KVM_MEM_READONLY) && page_logged(slot, page) &&
	      walk_allows(&m->env, r, walk_how(ACC_WRITE, kind));
	f.x = acc == ACC_EXEC || (old->xtag == f.lin && old->host == (uint64_t)(uintptr_t)f.host);
	code = (f.w || f.x) && (code_has(m, f.host) || jit_page_is_code(cpu->vm, f.host));
	f.x = f.x && code && walk_allows(&m->env, r, walk_how(ACC_EXEC, kind));
	f.note = page | (r->global ? NOTE_GLOBAL : 0) | (uint32_t)r->size << NOTE_SIZE_SHIFT |
		 (f.r && watched ? NOTE_RSLOW : 0) | (f.w && (watched || code) ? NOTE_WSLOW : 0);
	f.r = f.r && !watched;
	f.w = f.w && !watched && !code;
	tlb_put(m, t, &f);
	return f.host;
}

/* Writes to this page have no tag for a reason: does that still hold? */
static bool stays_slow(const struct vcpu *cpu, const struct tlb_entry *e, gva_t page)
{
	const uint8_t *host = tlb_host(e, 0);

	return code_has(cpu->mmu, host) || jit_page_is_code(cpu->vm, host) ||
	       (cpu->mmu->watch_on && page_watched(cpu->mmu, page));
}

/* Is the access granted by what the table knows? */
static bool known(const struct vcpu *cpu, const struct tlb_entry *e, const struct tlb_note *n,
		  gva_t page, enum mmu_access acc)
{
	if (!(n->flags & NOTE_VALID) || n->lin != page) {
		return false;
	}
	switch (acc) {
	case ACC_READ:
		return e->rtag == page || (n->flags & NOTE_RSLOW);
	case ACC_EXEC:
		return e->xtag == page;
	default:
		return e->wtag == page || ((n->flags & NOTE_WSLOW) && stays_slow(cpu, e, page));
	}
}

/*
 * With AC set the supervisor may read and write what it may without, and what the user may: if the
 * table for one of these knows the page, TLB_SUPER_AC needs no walk. (They are of the same space.)
 */
static bool borrow(const struct vcpu *cpu, gva_t page, enum mmu_access acc)
{
	struct mmu *m = cpu->mmu;
	unsigned i = (page >> 12) & (TLB_ENTRIES - 1);
	const struct tlb_entry *old = &m->kind[TLB_SUPER_AC]->entry[i];
	const struct tlb_table *from = m->kind[TLB_SUPER];
	const struct tlb_entry *e = &from->entry[i];

	if (!known(cpu, e, &from->note[i], page, acc)) {
		from = m->kind[TLB_USER];
		e = &from->entry[i];
		if (!known(cpu, e, &from->note[i], page, acc)) {
			return false;
		}
	}
	tlb_put(m, m->kind[TLB_SUPER_AC],
		&(struct tlb_fill){
			.lin = page,
			.host = tlb_host(e, 0),
			.note = from->note[i].flags & NOTE_OF_PAGE,
			.r = e->rtag == page,
			.w = e->wtag == page,
			.x = old->xtag == page && old->host == e->host,
		});
	return true;
}

bool mmu_access(struct vcpu *cpu, gva_t lin, enum mmu_access acc, enum tlb_kind kind,
		struct target *ret)
{
	struct mmu *m = cpu->mmu;
	struct tlb_table *t = m->kind[kind];
	unsigned i = (lin >> 12) & (TLB_ENTRIES - 1), how = walk_how(acc, kind);
	struct memslot *slot;
	struct walk_result r;
	uint32_t error;

	if (known(cpu, &t->entry[i], &t->note[i], lin & PAGE_MASK, acc) ||
	    (kind == TLB_SUPER_AC && acc != ACC_EXEC && borrow(cpu, lin & PAGE_MASK, acc))) {
		ret->host = tlb_host(&t->entry[i], lin);
		ret->gpa = (t->note[i].flags & NOTE_GPA) | (lin & 4095);
		return true;
	}
	if ((cpu->efer & EFER_LMA) && (uint64_t)((int64_t)(lin << 16) >> 16) != lin) {
		return fault_noncanonical(cpu);
	}
	mmu_env_refresh(cpu);
	if (walk(&m->env, lin, how, &r, &error) != 0) {
		return fault_page(cpu, lin, error);
	}
	ret->gpa = r.gpa;
	ret->host = NULL;
	slot = memslots_find(cpu->vm, r.gpa);
	if (!slot || ((how & WALK_WRITE) && (slot->flags & KVM_MEM_READONLY))) {
		return true;
	}
	if (how & WALK_WRITE) {
		memslot_mark_dirty(slot, r.gpa, 1);
	}
	ret->host = fill(cpu, lin, acc, kind, &r, slot) + (lin & 4095);
	return true;
}

uint8_t *mmu_fetch(struct vcpu *cpu, gva_t lin, unsigned *ret_avail)
{
	struct target t;

	if (!mmu_access(cpu, lin, ACC_EXEC, mmu_kind(cpu, false), &t)) {
		return NULL;
	}
	if (!t.host) {
		run_emulation_failure(cpu, NULL, 0);
		cpu->fault.vector = MMU_NEEDS_EXIT;
		return NULL;
	}
	*ret_avail = 4096 - (lin & 4095);
	return t.host;
}

/* The page behind lin's: linear addresses wrap at 4 GiB outside of 64-bit mode. */
static gva_t next_page(const struct vcpu *cpu, gva_t lin, bool system)
{
	gva_t next = (lin & PAGE_MASK) + 4096;
	bool wide = system ? (cpu->efer & EFER_LMA) != 0 : (cpu->key & 3) == MODE_64;

	return wide ? next : (uint32_t)next;
}

static bool span_get(struct vcpu *cpu, gva_t lin, unsigned size, enum mmu_access acc, bool system,
		     struct span *ret)
{
	enum tlb_kind kind = mmu_kind(cpu, system);
	unsigned room = 4096 - (lin & 4095);

	ASSERT(size <= 4096);
	ret->len[0] = MIN(size, room);
	ret->len[1] = size - ret->len[0];
	return mmu_access(cpu, lin, acc, kind, &ret->part[0]) &&
	       (ret->len[1] == 0 ||
		mmu_access(cpu, next_page(cpu, lin, system), acc, kind, &ret->part[1]));
}

/*
 * #AC for operands of 2, 4 and 8 bytes; wider ones are vectors and have their own rules. Comes
 * after page faults (SDM 3A table 6-2).
 */
static bool aligned(struct vcpu *cpu, gva_t lin, unsigned size)
{
	if (likely(!mmu_checks_alignment(cpu)) || (size != 2 && size != 4 && size != 8) ||
	    lin % size == 0) {
		return true;
	}
	cpu->fault = (struct fault){ .vector = EX_AC, .has_error = true };
	return false;
}

/* --- watchpoints -------------------------------------------------------------------------- */

static void watch_note(struct vcpu *cpu, gva_t lin, unsigned size, bool write)
{
	const struct mmu *m = cpu->mmu;

	for (unsigned i = 0; i < WATCH_MAX; i++) {
		const struct watch *w = &m->watch[i];

		if ((m->watch_on & BIT(i)) && (write || !w->write_only) && lin < w->lin + w->len &&
		    w->lin < lin + size) {
			debug_hit(cpu, BIT(i));
		}
	}
}

static inline void watch_check(struct vcpu *cpu, gva_t lin, unsigned size, bool write)
{
	if (unlikely(cpu->mmu->watch_on)) {
		watch_note(cpu, lin, size, write);
	}
}

/* --- loads and stores --------------------------------------------------------------------- */

/* Aligned accesses of up to 8 bytes must be one access: other vCPUs look on. */
static void copy_once(void *dst, const void *src, unsigned size)
{
	switch (size) {
	case 1:
		memcpy(dst, src, 1);
		break;
	case 2:
		memcpy(dst, src, 2);
		break;
	case 4:
		memcpy(dst, src, 4);
		break;
	case 8:
		memcpy(dst, src, 8);
		break;
	case 16:
		memcpy(dst, src, 16);
		break;
	default:
		memcpy(dst, src, size);
	}
}

static bool part_read(struct vcpu *cpu, const struct target *t, void *out, unsigned len)
{
	if (!t->host) {
		if (unlikely(cpu->jit.log)) {
			jit_log_device(cpu);
		}
		return io_mmio_read(cpu, t->gpa, out, len);
	}
	copy_once(out, t->host, len);
	return true;
}

/* For jit/verify.c. */
static void log_write(struct vcpu *cpu, uint8_t *host, size_t len)
{
	if (host) {
		jit_log_write(cpu, host, len);
	} else {
		jit_log_device(cpu);
	}
}

static bool part_write(struct vcpu *cpu, const struct target *t, const void *in, unsigned len)
{
	if (unlikely(cpu->jit.log)) {
		log_write(cpu, t->host, len);
	}
	if (!t->host) {
		return io_mmio_write(cpu, t->gpa, in, len);
	}
	copy_once(t->host, in, len);
	code_wrote(cpu, t->host, len);
	jit_wrote(cpu->vm, t->host, len);
	return true;
}

static bool span_read(struct vcpu *cpu, const struct span *s, void *out)
{
	return part_read(cpu, &s->part[0], out, s->len[0]) &&
	       (s->len[1] == 0 ||
		part_read(cpu, &s->part[1], (uint8_t *)out + s->len[0], s->len[1]));
}

static bool span_write(struct vcpu *cpu, const struct span *s, const void *in)
{
	return part_write(cpu, &s->part[0], in, s->len[0]) &&
	       (s->len[1] == 0 ||
		part_write(cpu, &s->part[1], (const uint8_t *)in + s->len[0], s->len[1]));
}

bool mmu_slow_load(struct vcpu *cpu, gva_t lin, void *out, unsigned size, bool system)
{
	struct span s;

	if (!span_get(cpu, lin, size, ACC_READ, system, &s) ||
	    (!system && !aligned(cpu, lin, size)) || !span_read(cpu, &s, out)) {
		return false;
	}
	if (!system) {
		watch_check(cpu, lin, size, false);
	}
	return true;
}

bool mmu_slow_store(struct vcpu *cpu, gva_t lin, const void *in, unsigned size, bool system)
{
	struct span s;

	if (!span_get(cpu, lin, size, ACC_WRITE, system, &s) ||
	    (!system && !aligned(cpu, lin, size)) || !span_write(cpu, &s, in)) {
		return false;
	}
	if (!system) {
		watch_check(cpu, lin, size, true);
	}
	return true;
}

bool mmu_sys_load(struct vcpu *cpu, gva_t lin, void *out, unsigned size)
{
	return mmu_slow_load(cpu, lin, out, size, true);
}

bool mmu_sys_store(struct vcpu *cpu, gva_t lin, const void *in, unsigned size)
{
	return mmu_slow_store(cpu, lin, in, size, true);
}

bool mmu_probe(struct vcpu *cpu, gva_t lin, unsigned size, enum mmu_access acc)
{
	enum tlb_kind kind = mmu_kind(cpu, false);
	struct target t;

	for (;;) {
		unsigned room = 4096 - (lin & 4095);

		if (!mmu_access(cpu, lin, acc, kind, &t)) {
			return false;
		}
		if (size <= room) {
			return true;
		}
		size -= room;
		lin = next_page(cpu, lin, false);
	}
}

unsigned mmu_run(struct vcpu *cpu, gva_t lin, enum mmu_access acc, bool down, unsigned size,
		 void **ret_host)
{
	unsigned off = lin & 4095, n;
	struct target t;

	if (off + size > 4096 || (mmu_checks_alignment(cpu) && lin % size != 0) ||
	    !mmu_access(cpu, lin, acc, mmu_kind(cpu, false), &t) || !t.host ||
	    (cpu->mmu->watch_on && page_watched(cpu->mmu, lin & PAGE_MASK))) {
		return 0;
	}
	n = down ? off + size : 4096 - off;
	if (acc != ACC_READ) {
		if (unlikely(cpu->jit.log)) {
			log_write(cpu, down ? t.host - off : t.host, n);
		}
		jit_page_to_data(cpu->vm, t.host);
		code_wrote(cpu, down ? t.host - off : t.host, n);
	}
	*ret_host = t.host;
	return n;
}

bool mmu_translate(struct vcpu *cpu, gva_t lin, gpa_t *ret_gpa, bool *ret_writable, bool *ret_user)
{
	struct walk_result r;
	uint32_t error;

	mmu_env_refresh(cpu);
	if (walk(&cpu->mmu->env, lin, WALK_QUIET | WALK_ANY, &r, &error) != 0) {
		return false;
	}
	*ret_gpa = r.gpa;
	*ret_writable = r.write;
	*ret_user = r.user;
	return true;
}

/* --- read-modify-write -------------------------------------------------------------------- */

void *mmu_rmw_slow(struct vcpu *cpu, gva_t lin, unsigned size, bool *ret_slow)
{
	struct span s;

	*ret_slow = false;
	if (!span_get(cpu, lin, size, ACC_RMW, false, &s) || !aligned(cpu, lin, size)) {
		return NULL;
	}
	*ret_slow = true;
	if (!s.part[0].host || (s.len[1] != 0 && s.part[1].host != s.part[0].host + s.len[0])) {
		return NULL;
	}
	watch_check(cpu, lin, size, true);
	if (unlikely(cpu->jit.log)) {
		log_write(cpu, s.part[0].host, size);
	}
	jit_page_to_data(cpu->vm, s.part[0].host);
	code_wrote(cpu, s.part[0].host, size);
	*ret_slow = false;
	return s.part[0].host;
}

bool mmu_rmw_begin(struct vcpu *cpu, gva_t lin, void *old, unsigned size, bool locked)
{
	struct span *s = &cpu->mmu->rmw;

	if (!span_get(cpu, lin, size, ACC_RMW, false, s) || !aligned(cpu, lin, size)) {
		return false;
	}
	if (locked) {
		pthread_mutex_lock(&cpu->vm->split_lock);
	}
	if (!span_read(cpu, s, old)) {
		mmu_rmw_cancel(cpu, locked);
		return false;
	}
	return true;
}

bool mmu_rmw_commit(struct vcpu *cpu, gva_t lin, const void *val, unsigned size, bool locked)
{
	bool ok = span_write(cpu, &cpu->mmu->rmw, val);

	mmu_rmw_cancel(cpu, locked);
	if (ok) {
		watch_check(cpu, lin, size, true);
	}
	return ok;
}

void mmu_rmw_cancel(struct vcpu *cpu, bool locked)
{
	if (locked) {
		pthread_mutex_unlock(&cpu->vm->split_lock);
	}
}
