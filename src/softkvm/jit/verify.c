/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SOFTKVM_OPTS=verify: blocks are run by the interpreter and by their translation, and compared.
 *
 * Theory of operation
 *
 * A block is verified the first jit_options.verify times that it runs; until then nothing is linked
 * to it, so that every run comes through jit_verify(). There
 *
 *  1. the interpreter runs the block's instructions one by one, as far as control flows straight
 *     on, with a snapshot of the state after each and a log of what it writes to memory. It sees
 *     a TLB that grants nothing, so all its accesses come by mmu.c, which tells jit_log_*();
 *  2. state and memory are put back;
 *  3. the translation runs alone: jit_vcpu.alone keeps it from going on in another block. It may
 *     leave early, so it is compared with each snapshot that has the RIP it came to; one must be
 *     the same in registers, memory, and those arithmetic flags that may still be read.
 *
 * The guest goes on with the translation's result. Where a difference is found, all is done once
 * more before it counts: devices write to memory at any time. Stores beyond the interpreter's log
 * are not seen at once; they will show in a later block.
 *
 * Not compared: instructions whose effects are more than the snapshot has or that depend on
 * time; blocks that touch a device or change code, where the interpreter's run stands; blocks on
 * two pages; more than one vCPU.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "softkvm/cpu/bind.h"
#include "softkvm/cpu/blocks.h"
#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/disasm.h"
#include "softkvm/cpu/ops.h"
#include "softkvm/jit/effects.h"
#include "softkvm/jit/jit_int.h"
#include "softkvm/mmu/mmu_int.h"
#include "softkvm/vm.h"

#define LOG_MAX     256u
#define LOG_BYTES   KIB(64)
#define ATTEMPTS    4u                           /* before a difference counts */
#define MIX_NOTHING ((uint64_t)UINT16_MAX << 48) /* no entry of the ibtc has it */

struct snapshot {
	uint64_t gpr[GPR_COUNT], rip, rflags, segbase[SEG_COUNT], kernel_gs_base;
	struct segment seg[6];
	uint32_t cc, key, mxcsr;
	uint8_t cpl, x87_live;
	union vreg v[16];
	uint8_t x87[FXS_XMM]; /* of the FXSAVE image */
	unsigned logged;      /* entries of the log up to here */
};

struct log_entry {
	uint8_t *host;
	unsigned len, at; /* bytes; where they are in `old`, `fresh` and `got` */
};

struct verify {
	bool device, overflow; /* the interpreter touched one; the log was too small */
	unsigned entries, bytes;
	struct log_entry entry[LOG_MAX];
	uint8_t old[LOG_BYTES], fresh[LOG_BYTES], got[LOG_BYTES];
	unsigned steps; /* snapshots, the first of the state before */
	struct snapshot shot[BLOCK_INSNS + 2];
	struct snapshot end; /* the translation's */
	uint32_t seen[4096]; /* flags whose use from there on has been looked for */
	uint64_t same, committed, passed;
};

/* --- the log ---------------------------------------------------------------------------------- */

void jit_log_write(struct vcpu *cpu, uint8_t *host, size_t len)
{
	struct verify *v = cpu->jit.log;

	if (v->entries == LOG_MAX || v->bytes + len > LOG_BYTES) {
		v->overflow = true;
		return;
	}
	v->entry[v->entries++] = (struct log_entry){ host, (unsigned)len, v->bytes };
	memcpy(v->old + v->bytes, host, len);
	v->bytes += (unsigned)len;
}

void jit_log_device(struct vcpu *cpu)
{
	((struct verify *)cpu->jit.log)->device = true;
}

/* The instruction is done: keep what it has changed. */
static void log_trim(struct verify *v, unsigned first)
{
	for (unsigned i = first; i < v->entries; i++) {
		struct log_entry *e = &v->entry[i];
		const uint8_t *old = v->old + e->at;
		unsigned skip = 0;

		while (skip < e->len && e->host[skip] == old[skip]) {
			skip++;
		}
		e->host += skip;
		e->at += skip;
		e->len -= skip;
		while (e->len > 0 && e->host[e->len - 1] == v->old[e->at + e->len - 1]) {
			e->len--;
		}
		memcpy(v->fresh + e->at, e->host, e->len);
	}
}

static void log_undo(struct verify *v)
{
	for (unsigned i = v->entries; i-- > 0;) {
		const struct log_entry *e = &v->entry[i];

		memcpy(e->host, v->old + e->at, e->len);
	}
}

static bool log_has_code(const struct vcpu *cpu, const struct verify *v)
{
	for (unsigned i = 0; i < v->entries; i++) {
		if (jit_page_is_code(cpu->vm, v->entry[i].host)) {
			return true;
		}
	}
	return false;
}

/* --- state ------------------------------------------------------------------------------------ */

static void x87_get(const struct vcpu *cpu, uint8_t *out)
{
	uint8_t now[FXS_SIZE] __attribute__((aligned(16)));

	memcpy(out, cpu->fpu.image, FXS_XMM);
	memset(out + FXS_MXCSR, 0, 8);
	if (cpu->fpu.x87_live) {
		__asm__ volatile("fxsave64 %0" : "=m"(now) : : "memory");
		memcpy(out, now, 5);
		memcpy(out + FXS_ST, now + FXS_ST, 8 * 16);
	}
}

static void x87_put(struct vcpu *cpu, const struct snapshot *s)
{
	uint8_t now[FXS_SIZE] __attribute__((aligned(16)));

	if (!s->x87_live) {
		fpu_sync_x87(cpu);
		memcpy(cpu->fpu.image, s->x87, FXS_MXCSR);
		memcpy(cpu->fpu.image + FXS_ST, s->x87 + FXS_ST, 8 * 16);
		return;
	}
	__asm__ volatile("fxsave64 %0" : "=m"(now) : : "memory");
	memcpy(now, s->x87, FXS_MXCSR); /* MXCSR and vectors stay */
	memcpy(now + FXS_ST, s->x87 + FXS_ST, 8 * 16);
	__asm__ volatile("fxrstor64 %0" : : "m"(now) : "memory");
	cpu->fpu.x87_live = 1;
}

static void state_get(const struct vcpu *cpu, struct snapshot *s)
{
	memset(s, 0, sizeof(*s));
	memcpy(s->gpr, cpu->gpr, sizeof(s->gpr));
	s->rip = cpu->rip;
	s->rflags = cpu->rflags & ~(uint64_t)FL_RF;
	memcpy(s->segbase, cpu->segbase, sizeof(s->segbase));
	memcpy(s->seg, cpu->seg, sizeof(s->seg));
	s->kernel_gs_base = cpu->msr.kernel_gs_base;
	s->cc = cpu->cc & (0xff00u | CC_OF);
	s->key = cpu->key;
	s->mxcsr = fpu_mxcsr(cpu);
	s->cpl = cpu->cpl;
	s->x87_live = cpu->fpu.x87_live;
	memcpy(s->v, cpu->fpu.v, sizeof(s->v));
	x87_get(cpu, s->x87);
}

static void state_put(struct vcpu *cpu, const struct snapshot *s)
{
	memcpy(cpu->gpr, s->gpr, sizeof(s->gpr));
	cpu->rip = s->rip;
	cpu->rflags = s->rflags;
	cpu->cc = s->cc;
	memcpy(cpu->seg, s->seg, sizeof(s->seg));
	cpu->msr.kernel_gs_base = s->kernel_gs_base;
	cpu->cpl = s->cpl;
	memcpy(cpu->fpu.v, s->v, sizeof(s->v));
	x87_put(cpu, s);
	fpu_set_mxcsr(cpu, s->mxcsr);
	cpu_mode_changed(cpu);
}

/* --- what may be compared -----------------------------------------------------------------------
 */

/* System instructions all of whose effects are in a snapshot. */
static bool sys_known(unsigned op)
{
	switch (op) {
	case OP_CLI:
	case OP_STI:
	case OP_STAC:
	case OP_CLAC:
	case OP_SWAPGS:
	case OP_PUSHF:
	case OP_POPF:
	case OP_RDFSBASE:
	case OP_RDGSBASE:
	case OP_WRFSBASE:
	case OP_WRGSBASE:
	case OP_MOV_FROM_SREG:
	case OP_MOV_FROM_CR:
	case OP_VERW:
		return true;
	default:
		return false;
	}
}

static bool insn_known(const struct insn *in)
{
	return op_group(in->op) == OPG_SYS
		       ? sys_known(in->op)
		       : in->op != OP_RDRAND && in->op != OP_RDSEED && in->op != OP_UD0 &&
				 in->op != OP_UD1 && in->op != OP_UD2;
}

static int decode_in_page(const struct jit_block *b, uint64_t rip, struct insn *ret)
{
	unsigned off = rip & 4095;

	return insn_decode((const uint8_t *)(uintptr_t)b->host + off, 4096 - off, rip,
			   b->key & KEY_MODE, ret);
}

static bool block_known(const struct vcpu *cpu, const struct jit_block *b)
{
	uint64_t rip = cpu->rip;

	if (b->crosses || cpu->mmu->watch_on || atomic_load(&cpu->vm->vcpu_count) != 1) {
		return false;
	}
	for (unsigned i = 0; i < b->insns; i++) {
		struct insn in;

		if ((rip ^ cpu->rip) >> 12 != 0 || decode_in_page(b, rip, &in) < 0 ||
		    !insn_known(&in)) {
			return false;
		}
		rip += in.len;
	}
	return true;
}

/* --- the interpreter's run ------------------------------------------------------------------- */

static uint64_t next_rip(const struct vcpu *cpu, const struct insn *in)
{
	uint64_t next = cpu->rip + in->len;

	return (cpu->key & MODE_SIZE) == MODE_64 ? next : (uint32_t)next;
}

/* One instruction. *ret_straight: the next one follows it. */
static enum exec_result step(struct vcpu *cpu, const struct jit_block *b, bool *ret_straight)
{
	struct insn in[2];
	enum exec_result r;
	uint64_t next;

	*ret_straight = false;
	cpu->blk = NULL;
	cpu->blk_va = cpu->rip;
	if (decode_in_page(b, cpu->rip, in) < 0) {
		return EXEC_END;
	}
	in[0].off = 0;
	insn_bind(in);
	in[1] = (struct insn){ .fn = block_stop, .off = in->len };
	next = next_rip(cpu, in);
	cpu->tlb = cpu->mmu->none;
	r = in->fn(cpu, in);
	if (r == EXEC_NEXT) {
		cpu->rip = next;
		r = EXEC_END;
	}
	if ((cpu->key & MODE_SIZE) != MODE_64) {
		cpu->rip = (uint32_t)cpu->rip;
	}
	*ret_straight = r == EXEC_END && cpu->rip == next && cpu->key == (b->key & ~KEY_CAREFUL);
	return r;
}

static enum exec_result interpret_block(struct vcpu *cpu, const struct jit_block *b,
					struct verify *v)
{
	enum exec_result r = EXEC_END;
	bool straight = true;

	v->device = v->overflow = false;
	v->entries = v->bytes = v->steps = 0;
	state_get(cpu, &v->shot[v->steps++]);
	cpu->jit.log = v;
	for (unsigned i = 0; i < b->insns && straight && !v->device && !v->overflow; i++) {
		unsigned first = v->entries;

		r = step(cpu, b, &straight);
		log_trim(v, first);
		v->shot[v->steps].logged = 0;
		state_get(cpu, &v->shot[v->steps]);
		v->shot[v->steps++].logged = v->entries;
	}
	cpu->jit.log = NULL;
	mmu_select_tlb(cpu);
	return r;
}

/* --- which flags count --------------------------------------------------------------------------
 */

/* What the interpreter computes itself and leaves otherwise than the host, both being right. */
static uint32_t undefined_by(const struct insn *in)
{
	switch (in->op) {
	case OP_DIV:
	case OP_IDIV:
		return FL_ARITH;
	case OP_MUL:
	case OP_IMUL1:
	case OP_IMUL2:
	case OP_IMUL3:
		return FL_SF | FL_ZF | FL_AF | FL_PF;
	case OP_TZCNT:
	case OP_LZCNT:
		return FL_OF | FL_SF | FL_AF | FL_PF;
	default:
		return 0;
	}
}

/* Flags that the block's first `steps` instructions leave undefined. */
static uint32_t undefined_flags(const struct jit_block *b, const struct verify *v, unsigned steps)
{
	uint32_t undefined = 0;

	for (unsigned i = 0; i < steps; i++) {
		struct insn in;

		if (decode_in_page(b, v->shot[i].rip, &in) >= 0) {
			undefined &= ~effects_of(&in).writes;
			undefined |= undefined_by(&in);
		}
	}
	return undefined;
}

struct walk {
	const struct jit_block *block;
	struct verify *v;
	uint64_t page; /* number of the page that is looked at */
};

static int walk_decode(void *arg, uint64_t rip, struct insn *ret, uint32_t **ret_seen)
{
	struct walk *w = arg;

	*ret_seen = &w->v->seen[rip & 4095];
	return rip >> 12 == w->page ? decode_in_page(w->block, rip, ret) : -1;
}

static uint32_t live_flags(const struct jit_block *b, struct verify *v, uint64_t start)
{
	struct walk walk = { b, v, start >> 12 };
	struct effects_walk w = { walk_decode, &walk };

	memset(v->seen, 0, sizeof(v->seen));
	return effects_live(&w, v->end.rip, FL_ARITH);
}

/* --- comparing
 * ------------------------------------------------------------------------------------ */

static bool memory_same(struct verify *v, const struct snapshot *s)
{
	bool same = true;

	for (unsigned i = 0; i < v->entries; i++) {
		memcpy(v->got + v->entry[i].at, v->entry[i].host, v->entry[i].len);
	}
	log_undo(v);
	for (unsigned i = 0; i < s->logged; i++) {
		memcpy(v->entry[i].host, v->fresh + v->entry[i].at, v->entry[i].len);
	}
	for (unsigned i = 0; i < v->entries; i++) {
		same &= memcmp(v->got + v->entry[i].at, v->entry[i].host, v->entry[i].len) == 0;
	}
	for (unsigned i = 0; i < v->entries; i++) {
		memcpy(v->entry[i].host, v->got + v->entry[i].at, v->entry[i].len);
	}
	return same;
}

/* A copy of the snapshot without what does not count. */
static struct snapshot plain(const struct snapshot *s, uint32_t live)
{
	struct snapshot p = *s;

	p.cc = cc_to_flags(s->cc) & live;
	p.x87_live = 0;
	p.logged = 0;
	return p;
}

static bool snapshot_same(const struct snapshot *a, const struct snapshot *b, uint32_t live)
{
	struct snapshot x, y;

	memset(&x, 0, sizeof(x));
	memset(&y, 0, sizeof(y));
	x = plain(a, live);
	y = plain(b, live);
	return memcmp(&x, &y, sizeof(x)) == 0;
}

static const struct snapshot *matching(const struct jit_block *b, struct verify *v, uint32_t live)
{
	for (unsigned i = 0; i < v->steps; i++) {
		uint32_t count = live & ~undefined_flags(b, v, i);

		if (v->shot[i].rip == v->end.rip && snapshot_same(&v->shot[i], &v->end, count) &&
		    memory_same(v, &v->shot[i])) {
			return &v->shot[i];
		}
	}
	return NULL;
}

/* --- showing
 * -------------------------------------------------------------------------------------- */

static void show_words(const char *name, const void *want, const void *got, unsigned n)
{
	for (unsigned i = 0; i < n; i += 8) {
		uint64_t w, g;

		memcpy(&w, (const uint8_t *)want + i, 8);
		memcpy(&g, (const uint8_t *)got + i, 8);
		if (w != g) {
			fprintf(stderr, "  %s+%x: interpreted %016llx translated %016llx\n", name,
				i, (unsigned long long)w, (unsigned long long)g);
		}
	}
}

static void show_block(const struct jit_block *b, uint64_t rip)
{
	for (unsigned i = 0; i < b->insns; i++) {
		const uint8_t *at = (const uint8_t *)(uintptr_t)b->host + (rip & 4095);
		struct insn in;
		char text[96];
		int len = decode_in_page(b, rip, &in);

		if (len < 0) {
			break;
		}
		insn_disassemble(at, (unsigned)len, rip, b->key & KEY_MODE, text, sizeof(text));
		fprintf(stderr, "  %llx: %-48s", (unsigned long long)rip, text);
		for (int k = 0; k < len; k++) {
			fprintf(stderr, " %02x", at[k]);
		}
		fprintf(stderr, "\n");
		rip += (unsigned)len;
	}
}

static void show_memory(const struct verify *v)
{
	for (unsigned i = 0; i < v->entries; i++) {
		const struct log_entry *e = &v->entry[i];

		for (unsigned k = 0; k < e->len; k++) {
			if (e->host[k] != v->fresh[e->at + k]) {
				fprintf(stderr,
					"  write %u of %u bytes, byte %u: interpreted %02x "
					"translated %02x\n",
					i, e->len, k, v->fresh[e->at + k], e->host[k]);
			}
		}
	}
}

static void show_difference(const struct jit_block *b, struct verify *v, uint32_t live)
{
	const struct snapshot *s = &v->shot[v->steps - 1];
	struct snapshot x, y = plain(&v->end, live);

	for (unsigned i = 0; i < v->steps; i++) {
		if (v->shot[i].rip == v->end.rip) {
			s = &v->shot[i];
		}
	}
	x = plain(s, live);
	fprintf(stderr, "softkvm: verify: block %llx key %x differs, after %u of %u instructions\n",
		(unsigned long long)v->shot[0].rip, b->key, (unsigned)(s - v->shot), b->insns);
	show_block(b, v->shot[0].rip);
	fprintf(stderr,
		"  rip: interpreted %llx translated %llx; flags %x %x; rflags %llx %llx; mxcsr %x "
		"%x; live %x\n",
		(unsigned long long)x.rip, (unsigned long long)y.rip, x.cc, y.cc,
		(unsigned long long)x.rflags, (unsigned long long)y.rflags, x.mxcsr, y.mxcsr, live);
	show_words("before gpr*8", (uint64_t[16]){ 0 }, v->shot[0].gpr, 128);
	show_words("gpr*8", x.gpr, y.gpr, 128);
	show_words("vector*32", x.v, y.v, sizeof(x.v));
	show_words("x87", x.x87, y.x87, sizeof(x.x87));
	show_words("segbase*8", x.segbase, y.segbase, sizeof(x.segbase));
	show_memory(v);
}

/* --- both
 * ------------------------------------------------------------------------------------------ */

static enum jit_exit translate_alone(struct vcpu *cpu, const struct jit_block *b, struct verify *v)
{
	uint64_t mix = cpu->jit.mix;
	enum jit_exit why;

	cpu->jit.alone = true;
	cpu->jit.mix = MIX_NOTHING;
	why = jit_enter(cpu, b);
	cpu->jit.alone = false;
	if (cpu->jit.mix == MIX_NOTHING) {
		cpu->jit.mix = mix;
	}
	state_get(cpu, &v->end);
	cpu_mode_changed(cpu); /* chooses the mix again */
	return why;
}

static struct verify *verify_get(struct vcpu *cpu)
{
	if (!cpu->jit.verify) {
		cpu->jit.verify = aligned_alloc(64, ALIGN_UP(sizeof(struct verify), (size_t)64));
		ASSERT(cpu->jit.verify);
		memset(cpu->jit.verify, 0, sizeof(struct verify));
	}
	return cpu->jit.verify;
}

enum jit_exit jit_verify(struct vcpu *cpu, struct jit_block *b)
{
	struct verify *v = verify_get(cpu);
	uint32_t live = 0;

	b->checks++;
	if (!block_known(cpu, b)) {
		v->passed++;
		b->checks = UINT32_MAX;
		return jit_enter(cpu, b);
	}
	for (unsigned i = 0; i < ATTEMPTS; i++) {
		enum exec_result r = interpret_block(cpu, b, v);
		enum jit_exit why;

		if (v->device || v->overflow || b->dead || log_has_code(cpu, v)) {
			v->committed++;
			cpu->jit.exec = r;
			return JIT_RESULT;
		}
		log_undo(v);
		state_put(cpu, &v->shot[0]);
		why = translate_alone(cpu, b, v);
		live = live_flags(b, v, v->shot[0].rip);
		if (matching(b, v, live)) {
			v->same++;
			return why;
		}
		if (atomic_load(&cpu->req) != 0) {
			return why; /* long strings are left for a request, sooner or later */
		}
		if (i + 1 < ATTEMPTS) {
			log_undo(v);
			state_put(cpu, &v->shot[0]);
		}
	}
	show_difference(b, v, live);
	abort();
}

void jit_verify_report(const struct vcpu *cpu)
{
	const struct verify *v = cpu->jit.verify;

	if (v) {
		fprintf(stderr,
			"softkvm: vcpu %u: %llu runs of blocks compared, %llu with devices or new "
			"code, %llu blocks not comparable\n",
			cpu->id, (unsigned long long)v->same, (unsigned long long)v->committed,
			(unsigned long long)v->passed);
	}
}
