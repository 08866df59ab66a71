/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running translated code, and what it asks C for.
 *
 * Theory of operation
 *
 * jit_run() takes the block at RIP if there is one; else the interpreter runs one block, and code
 * that has come by often enough is translated. Between both nothing needs to be converted: outside
 * of translated code the state is the interpreter's.
 *
 * The table of indirect targets is a cache of "in this address space and privilege, RIP is this
 * block". It is kept right by `mix`, a number that is part of each tag: each TLB space has one for
 * user code, and there is one for supervisor code, which outlives changes of the space as long as
 * its pages are global. Where translations of instruction fetches may have changed, new numbers are
 * given out; an INVLPG asks a Bloom filter first whether the page has ever been a target.
 */
#include <linux/kvm.h>
#include <stdlib.h>

#include "softkvm/cpu/blocks.h"
#include "softkvm/cpu/event.h"
#include "softkvm/cpu/msr.h"
#include "softkvm/cpu/run.h"
#include "softkvm/cpu/simd_int.h"
#include "softkvm/jit/jit_int.h"
#include "softkvm/mmu/mmu_int.h"
#include "softkvm/vm.h"

#define HEAT_TRANSLATE 3u   /* times that code is interpreted first */
#define SAMPLES_HOT    2u   /* times that a page is seen running before it is hot */
#define HEAT_REFUSED   128u /* where a count goes on when it could not be translated */

struct jit_options jit_options = { .cache_mib = 128 };

/* --- the table of indirect targets ----------------------------------------------------------- */

#define MIX_MAX (UINT16_MAX - 1u)

/* Forget all targets; their code may go away. */
static void ibtc_clear(struct vcpu *cpu)
{
	memset(cpu->jit.ibtc, 0, sizeof(cpu->jit.ibtc));
	memset(cpu->jit.targets, 0, sizeof(cpu->jit.targets));
}

/* `n` numbers that no entry has; the first one. */
static uint32_t mixes_take(struct vcpu *cpu, unsigned n)
{
	struct jit_vcpu *j = &cpu->jit;

	if (j->mix_count + n > MIX_MAX) {
		ibtc_clear(cpu);
		j->mix_count = 0;
	}
	j->mix_count += n;
	return j->mix_count - n + 1;
}

/* New numbers for everything: no entry matches any more. */
static void mixes_renew(struct vcpu *cpu)
{
	uint32_t first = mixes_take(cpu, JIT_SPACES + 1);
	struct jit_vcpu *j = &cpu->jit;

	j->stats.renewed++;
	j->supervisor_mix = (uint64_t)first << 48;
	for (unsigned i = 0; i < JIT_SPACES; i++) {
		j->space_mix[i] = (uint64_t)(first + 1 + i) << 48;
	}
	memset(j->targets, 0, sizeof(j->targets));
}

/* One new number. When they have run out, the others change, too. */
static uint64_t next_mix(struct vcpu *cpu)
{
	if (cpu->jit.mix_count + 1 > MIX_MAX) {
		mixes_renew(cpu);
	}
	return (uint64_t)mixes_take(cpu, 1) << 48;
}

static void choose_mix(struct vcpu *cpu)
{
	struct jit_vcpu *j = &cpu->jit;

	j->mix = cpu->cpl == 3 ? j->space_mix[j->space] : j->supervisor_mix;
}

static unsigned target_bit(gva_t lin)
{
	return (unsigned)((lin >> 12) * 0x9e3779b97f4a7c15ull >> (64 - JIT_TARGET_BITS));
}

/* Supervisor code on pages that are not global belongs to the space that was. */
static void supervisor_leaves(struct vcpu *cpu)
{
	if (cpu->jit.supervisor_local) {
		cpu->jit.supervisor_local = false;
		cpu->jit.supervisor_mix = next_mix(cpu);
	}
}

void jit_space_emptied(struct vcpu *cpu, unsigned space)
{
	uint64_t mix;

	if (!cpu->vm->jit) {
		return;
	}
	mix = next_mix(cpu); /* may give all of them new values */
	cpu->jit.space_mix[space] = mix;
	supervisor_leaves(cpu);
	choose_mix(cpu);
}

void jit_space_changed(struct vcpu *cpu, unsigned space)
{
	if (!cpu->vm->jit || cpu->jit.space == space) {
		return;
	}
	cpu->jit.space = space;
	supervisor_leaves(cpu);
	choose_mix(cpu);
}

void jit_mappings_changed(struct vcpu *cpu)
{
	if (cpu->vm->jit) {
		mixes_renew(cpu);
		choose_mix(cpu);
	}
}

void jit_mapping_changed(struct vcpu *cpu, gva_t lin)
{
	unsigned bit = target_bit(lin);

	if (cpu->jit.targets[bit >> 6] >> (bit & 63) & 1) {
		jit_mappings_changed(cpu);
	}
}

static void target_note(struct vcpu *cpu, gva_t lin)
{
	unsigned bit = target_bit(lin);

	cpu->jit.targets[bit >> 6] |= BIT64(bit & 63);
}

static void ibtc_put(struct vcpu *cpu, const struct jit_block *b)
{
	struct ibtc_entry *e = &cpu->jit.ibtc[ibtc_slot(cpu->rip)];

	if (cpu->cpl != 3 && !tlb_is_global(cpu, cpu->rip)) {
		cpu->jit.supervisor_local = true;
	}
	target_note(cpu, cpu->rip);
	if (b->crosses) {
		target_note(cpu, cpu->rip + 4096);
	}
	e->code = b->enter_indirect;
	e->tag = cpu->rip ^ cpu->jit.mix;
}

/* --- blocks -------------------------------------------------------------------------------------
 */

/* The host page of cpu->rip, by the TLB; 0: not to be fetched from (the interpreter says why). */
static uint64_t fetch_page(struct vcpu *cpu)
{
	const struct tlb_entry *e = mmu_tlb(cpu, cpu->rip);
	unsigned avail;
	uint8_t *host;

	if (likely(cpu->rip - e->xtag < 4096)) {
		return e->host;
	}
	host = mmu_fetch(cpu, cpu->rip, &avail);
	return (uint64_t)(uintptr_t)host & ~4095ull;
}

/* The page behind cpu->rip's. */
static uint64_t fetch_next_page(struct vcpu *cpu)
{
	uint64_t rip = cpu->rip, page;

	cpu->rip = (rip & ~4095ull) + 4096;
	page = fetch_page(cpu);
	cpu->rip = rip;
	return page;
}

/* Is the rest of the block's instruction still the same? Fetching it may kill the block. */
static bool crosses_well(struct vcpu *cpu, const struct jit_block *b)
{
	return b->host2 == fetch_next_page(cpu) && !b->dead;
}

static struct jit_block *find(struct vcpu *cpu, uint64_t page)
{
	struct jit_block *b =
		jit_find(cpu->vm->jit, jit_block_rip(cpu->key, cpu->rip), cpu->key, page);

	return b && unlikely(b->crosses) && !crosses_well(cpu, b) ? NULL : b;
}

static struct jit_block *block_here(struct vcpu *cpu, uint64_t *ret_page)
{
	*ret_page = fetch_page(cpu);
	return *ret_page ? find(cpu, *ret_page) : NULL;
}

/* The block of an instruction on two pages. */
static struct jit_block *translate_crossing(struct vcpu *cpu, struct jit_page *p)
{
	struct jit *jit = cpu->vm->jit;
	uint64_t host2;
	struct jit_block *old;
	struct jit_page *next;
	bool more;

	pthread_mutex_unlock(&jit->lock); /* fetching may look into the cache itself */
	host2 = fetch_next_page(cpu);
	pthread_mutex_lock(&jit->lock);
	next = host2 ? jit_page_get(jit, host2) : NULL;
	if (!next || !jit_page_ready(cpu, next) || !jit_page_ready(cpu, p) || !jit_room(jit)) {
		return NULL;
	}
	old = jit_find(jit, jit_block_rip(cpu->key, cpu->rip), cpu->key, p->host);
	if (old) {
		jit_kill(jit, old); /* the next page was another one then */
	}
	return jit_translate(cpu, p, next, &more, false);
}

static struct jit_block *translate_locked(struct vcpu *cpu, uint64_t page)
{
	struct jit *jit = cpu->vm->jit;
	struct jit_block *b = jit_find(jit, jit_block_rip(cpu->key, cpu->rip), cpu->key, page);
	struct jit_page *p;
	bool more = false;

	if (b && !b->crosses) {
		return b; /* another vCPU was faster */
	}
	p = jit_page_get(jit, page);
	if (!p || !jit_page_ready(cpu, p) || !jit_room(jit)) {
		return NULL;
	}
	b = jit_translate(cpu, p, NULL, &more, false);
	return more ? translate_crossing(cpu, p) : b;
}

/* Translate at cpu->rip, if it has been here often. */
static struct jit_block *maybe_translate(struct vcpu *cpu, uint64_t page)
{
	struct jit *jit = cpu->vm->jit;
	uint32_t rip = (uint32_t)cpu->rip;
	uint8_t *heat = &cpu->jit.heat[(rip ^ rip >> 12) & (JIT_HEAT_SLOTS - 1)];
	struct jit_block *b;

	if (page == 0 ||
	    (!jit_options.eager && ((*heat)++ < HEAT_TRANSLATE || *heat > HEAT_REFUSED))) {
		return NULL;
	}
	pthread_mutex_lock(&jit->lock);
	b = translate_locked(cpu, page);
	pthread_mutex_unlock(&jit->lock);
	*heat = b ? 0 : HEAT_REFUSED;
	if (b) {
		cpu->jit.stats.translated++;
		jit_trace_block(jit, b);
	}
	return b;
}

const uint8_t *jit_call_indirect(struct vcpu *cpu)
{
	struct jit_block *b;
	uint64_t page;

	cpu->jit.stats.misses++;
	if (jit_wanted_elsewhere(cpu) || !cpu->jit.on) {
		cpu->jit.result = JIT_LOOP;
		return NULL;
	}
	b = cpu->jit.alone ? NULL : block_here(cpu, &page);
	if (!b || !jit_verified(b)) {
		cpu->jit.result = JIT_MISS;
		return NULL;
	}
	ibtc_put(cpu, b);
	cpu->jit.page = cpu->rip & ~4095ull;
	return b->enter_memory;
}

const uint8_t *jit_call_link(struct vcpu *cpu, struct jit_edge *e)
{
	struct jit *jit = cpu->vm->jit;
	struct jit_block *b;
	uint64_t page;

	cpu->rip = e->target + jit_base(cpu);
	if (jit_wanted_elsewhere(cpu)) {
		cpu->jit.result = JIT_LOOP;
		return NULL;
	}
	cpu->jit.result = JIT_MISS;
	if (unlikely(cpu->jit.alone)) {
		return NULL;
	}
	page = fetch_page(cpu);
	pthread_mutex_lock(&jit->lock);
	b = page ? jit_find(jit, e->target, cpu->key, page) : NULL;
	if (b && (b->crosses || !jit_verified(b))) {
		b = NULL; /* its second page counts, too */
	}
	if (b && page == e->from->host && cpu->key == (e->from->key & ~KEY_CAREFUL)) {
		jit_link(jit, e, b);
	}
	pthread_mutex_unlock(&jit->lock);
	cpu->jit.stats.linked++;
	return b ? b->enter_memory : NULL;
}

/* cpu->rip is in the middle of a block, whose window there is none: a block without takes over. */
const uint8_t *jit_call_careful(struct vcpu *cpu)
{
	uint64_t rip = jit_block_rip(cpu->key, cpu->rip), page = fetch_page(cpu);
	struct jit *jit = cpu->vm->jit;
	struct jit_block *b = NULL;
	struct jit_page *p;
	bool more;

	cpu->jit.result = JIT_INTERPRET;
	if (page == 0 || cpu->jit.alone) {
		return NULL;
	}
	pthread_mutex_lock(&jit->lock);
	b = jit_find(jit, rip, cpu->key | KEY_CAREFUL, page);
	if (!b) {
		p = jit_page_get(jit, page);
		if (p && jit_page_ready(cpu, p) && jit_room(jit)) {
			b = jit_translate(cpu, p, NULL, &more, true);
		}
	}
	pthread_mutex_unlock(&jit->lock);
	cpu->jit.page = cpu->rip & ~4095ull;
	return b && !b->crosses ? b->enter_memory : NULL;
}

/* --- handlers ------------------------------------------------------------------------------------
 */

/* The handler of an instruction whose operand's address is relative to the page. */
static enum exec_result call_relative(struct vcpu *cpu, const struct jit_call *call)
{
	struct insn insn[2] = { call->insn[0], call->insn[1] };

	insn[0].disp += (int64_t)jit_base(cpu);
	return insn[0].fn(cpu, insn);
}

static enum exec_result call_handler(struct vcpu *cpu, const struct jit_call *call)
{
	uint64_t base = jit_base(cpu);
	enum exec_result r;

	cpu->blk = NULL;
	cpu->blk_va = call->block->rip + base;
	r = unlikely(base && (call->insn[0].flags & INSN_RIPREL))
		    ? call_relative(cpu, call)
		    : call->insn[0].fn(cpu, call->insn);
	if (r == EXEC_NEXT) {
		cpu->rip = call->next_rip + base;
		r = EXEC_END;
	}
	cpu->jit.exec = r;
	cpu->jit.stats.handlers++;
	if (unlikely(cpu->jit.op_counts)) {
		cpu->jit.op_counts->handled[call->insn[0].op]++;
	}
	return r;
}

int jit_call_handler(struct vcpu *cpu, const struct jit_call *call)
{
	uint64_t next = call->next_rip + jit_base(cpu);
	enum exec_result r = call_handler(cpu, call);

	return !(r == EXEC_END && cpu->rip == next && !call->block->dead &&
		 cpu->key == (call->block->key & ~KEY_CAREFUL) && cpu->io.count == 0 &&
		 cpu->ev.debug_bits == 0);
}

/* After a delivery or a handler that ended its block: may translated code go on at cpu->rip? */
static bool may_go_on(struct vcpu *cpu, enum exec_result r)
{
	cpu->jit.result = JIT_RESULT;
	if (r != EXEC_END || !run_may_go_on(cpu)) {
		return false;
	}
	cpu->jit.result = JIT_LOOP;
	return !jit_wanted_elsewhere(cpu) && cpu->jit.on;
}

bool jit_call_ends(struct vcpu *cpu, const struct jit_call *call)
{
	return may_go_on(cpu, call_handler(cpu, call));
}

/*
 * Which vector instructions may run translated: the registers are live, the class does not trap,
 * and no exception can be raised.
 */
static void vectors_usable(struct vcpu *cpu)
{
	struct jit_vcpu *j = &cpu->jit;
	bool off = !j->vectors_live || (fpu_mxcsr(cpu) & MXCSR_MASKS) != MXCSR_MASKS;

	j->sse_off = off || (cpu->fp_trap & TRAP_SSE);
	j->avx_off = off || (cpu->fp_trap & TRAP_AVX);
}

void jit_call_vectors(struct vcpu *cpu)
{
	cpu->jit.vectors_live = 1;
	vectors_usable(cpu);
}

/* --- memory
 * ---------------------------------------------------------------------------------------- */

/* May [lin, lin + size), within a page, be accessed directly? Its host address. */
static uint8_t *direct(struct vcpu *cpu, gva_t lin, bool write)
{
	struct target t;
	const struct tlb_entry *e;

	if (!mmu_access(cpu, lin, write ? ACC_WRITE : ACC_READ, mmu_kind(cpu, false), &t)) {
		cpu->jit.page_fault = cpu->fault.vector == EX_PF;
		return NULL;
	}
	if (!t.host) {
		return NULL;
	}
	e = mmu_tlb(cpu, lin);
	return lin - (write ? e->wtag : e->rtag) < 4096 ? t.host : NULL;
}

/* A read over a page's end: gathered in the bounce buffer. */
static void *gathered(struct vcpu *cpu, gva_t lin, unsigned size)
{
	gva_t next = (lin & ~4095ull) + 4096;
	unsigned first = (unsigned)(next - lin);
	const uint8_t *a, *b;

	if ((cpu->key & MODE_SIZE) != MODE_64) {
		next = (uint32_t)next;
	}
	a = direct(cpu, lin, false);
	if (!a) {
		return NULL;
	}
	memcpy(cpu->fpu.bounce, a, first);
	b = direct(cpu, next, false);
	if (!b) {
		return NULL;
	}
	memcpy(cpu->fpu.bounce + first, b, size - first);
	return cpu->fpu.bounce;
}

void *jit_call_memory(struct vcpu *cpu, gva_t lin, uint32_t what, const uint8_t *site)
{
	unsigned size = what & 0xff, align = what >> MEM_ALIGN_SHIFT;
	bool write = what & MEM_WRITE;
	void *host = NULL;

	cpu->jit.stats.memory++;
	cpu->jit.page_fault = 0;
	if ((align <= 1 || lin % align == 0) && !mmu_checks_alignment(cpu)) {
		if ((lin & 4095) + size <= 4096) {
			host = direct(cpu, lin, write);
		} else if (!write) {
			host = gathered(cpu, lin, size);
		}
	}
	if (!host) {
		uint64_t rip = site[0] == 0xa9 ? (uint64_t)(int32_t)load_le32(site + 1)
					       : load_le64(site + 2);

		cpu->rip = rip + jit_base(cpu);
	}
	return host;
}

/* Nothing of the instruction has been done: what it raised is delivered here. */
bool jit_call_fault(struct vcpu *cpu)
{
	bool keep = jit_options.keep_faults || cpu->jit.alone;

	cpu->jit.exec = keep ? EXEC_FAULT : event_deliver_fault(cpu);
	return may_go_on(cpu, (enum exec_result)cpu->jit.exec);
}

/* --- the loop
 * ----------------------------------------------------------------------------------------- */

enum jit_exit jit_enter(struct vcpu *cpu, const struct jit_block *b)
{
	int (*fn)(struct vcpu *, const uint8_t *);

	memcpy(&fn, &cpu->vm->jit->glue.enter, sizeof(fn));
	cpu->blk = NULL;
	cpu->jit.page = cpu->rip & ~4095ull;
	cpu->jit.stats.entered++;
	return (enum jit_exit)fn(cpu, b->enter_memory);
}

static enum exec_result interpret(struct vcpu *cpu)
{
	enum exec_result r;

	cpu->jit.chained = false;
	cpu->jit.stats.interpreted++;
	r = block_run(cpu);
	if (unlikely(cpu->jit.op_counts) && cpu->blk) {
		cpu->jit.op_counts->interpreted[cpu->blk->insn[0].op]++;
	}
	return r;
}

/*
 * A loop was called away from: that happens at random times, so what runs long is seen most. Its
 * page is translated anew, with everything inline.
 */
static void sample(struct vcpu *cpu)
{
	struct jit *jit = cpu->vm->jit;
	uint64_t host = fetch_page(cpu);
	struct jit_page *p = host ? jit_page_find(jit, host) : NULL;

	if (!p || p->hot) {
		return;
	}
	pthread_mutex_lock(&jit->lock);
	if (++p->samples >= SAMPLES_HOT) {
		p->hot = true;
		jit_page_kill_blocks(jit, p);
	}
	pthread_mutex_unlock(&jit->lock);
}

static enum exec_result run_inside(struct vcpu *cpu)
{
	struct jit_vcpu *j = &cpu->jit;

	for (;;) {
		struct jit_block *b;
		enum exec_result r;
		uint64_t page;

		if (unlikely(atomic_load(&cpu->vm->jit->evictions) != j->evictions)) {
			j->evictions = atomic_load(&cpu->vm->jit->evictions);
			ibtc_clear(cpu); /* it may name code that is about to be overwritten */
		}
		atomic_fetch_add(&j->leaves, 1);
		b = block_here(cpu, &page);
		if (!b) {
			b = maybe_translate(cpu, page);
		}
		if (b) {
			switch (jit_verified(b) ? jit_enter(cpu, b) : jit_verify(cpu, b)) {
			case JIT_LOOP:
				sample(cpu);
				return EXEC_END;
			case JIT_RESULT:
				return (enum exec_result)j->exec;
			case JIT_MISS:
				if (jit_wanted_elsewhere(cpu)) {
					return EXEC_END;
				}
				continue;
			case JIT_INTERPRET:
				break;
			}
		}
		r = interpret(cpu);
		if (r != EXEC_END || !j->chained || !j->on || jit_wanted_elsewhere(cpu)) {
			return r;
		}
	}
}

enum exec_result jit_run(struct vcpu *cpu)
{
	enum exec_result r;

	if (!cpu->jit.on) {
		return block_run(cpu);
	}
	atomic_store(&cpu->jit.inside, true);
	r = run_inside(cpu);
	atomic_store_explicit(&cpu->jit.inside, false, memory_order_release);
	return r;
}

/* --- state
 * ------------------------------------------------------------------------------------------------
 */

void jit_guards_changed(struct vcpu *cpu)
{
	bool scaled = cpu_tsc_scaled(cpu), trapped = cpu->cr4 & CR4_TSD;
	bool no_tscp = !cpu_has(cpu, FEAT_RDTSCP);
	uint8_t *g = cpu->jit.guard;

	g[GUARD_SMAP] = !cpu_has(cpu, FEAT_SMAP);
	g[GUARD_FSGSBASE] = !(cpu->cr4 & CR4_FSGSBASE);
	g[GUARD_TSC] = scaled;
	g[GUARD_TSC_USER] = scaled || trapped;
	g[GUARD_TSCP] = scaled || no_tscp;
	g[GUARD_TSCP_USER] = scaled || trapped || no_tscp;
}

/* Privileges 1 and 2 have the keys of privilege 0, but not its rights. */
static bool can_translate(const struct vcpu *cpu)
{
	if (cpu->cpl == 1 || cpu->cpl == 2) {
		return false;
	}
	if ((cpu->key & MODE_SIZE) == MODE_64) {
		return true;
	}
	return (cpu->key & (KEY_MODE | KEY_PE | KEY_SS32)) ==
	       (MODE_32 | MODE_FLAT | KEY_PE | KEY_SS32);
}

void jit_mode_changed(struct vcpu *cpu)
{
	struct jit_vcpu *j = &cpu->jit;

	if (!cpu->vm->jit) {
		return;
	}
	j->on = can_translate(cpu);
	jit_guards_changed(cpu);
	vectors_usable(cpu);
	j->x87_off = (cpu->fp_trap & TRAP_MMX) != 0;
	choose_mix(cpu);
}

void jit_vcpu_done(struct vcpu *cpu)
{
	free(cpu->jit.op_counts);
	free(cpu->jit.verify);
}

void jit_vcpu_init(struct vcpu *cpu)
{
	struct jit_vcpu *j = &cpu->jit;

	j->self = cpu;
	if (jit_options.count) {
		j->op_counts = calloc(1, sizeof(*j->op_counts)); /* without it nothing is counted */
	}
	j->sse_off = j->avx_off = j->x87_off = 1;
	mixes_renew(cpu);
	if (cpu->vm->jit) {
		atomic_store(&j->seen, atomic_load(&cpu->vm->jit->page_sequence));
	}
}
