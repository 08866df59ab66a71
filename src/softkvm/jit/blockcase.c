/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs the programs of blockcase.h both ways, compares, and makes failing ones smaller. */
#include "softkvm/jit/blockcase.h"

#include <signal.h>
#include <stdio.h>
#include <sys/time.h>

#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/disasm.h"
#include "softkvm/cpu/exec.h"
#include "softkvm/jit/effects.h"
#include "softkvm/jit/testuser.h"

enum { NOTES_MAX = 24, LIMIT_MS = 100 };
enum { GPA_STRIDE = 2 * DT_PAGE };

/* What is mapped: pages at every second guest-physical one. */
static const struct area {
	gva_t lin;
	gpa_t gpa;
	unsigned pages;
	uint64_t flags;
	bool compared;
} areas[] = {
	{ DT_WINDOW, 0x400000, 2, TU_U | TU_W, true },
	{ DT_WINDOW_RO, 0x408000, 1, TU_U, false },
	{ DT_CODE, 0x410000, BC_CODE_PAGES, TU_U | TU_W | TU_X, true },
	{ BC_ALIAS, 0x410000, BC_CODE_PAGES, TU_U | TU_W, false },
	{ BC_STACK, 0x420000, 1, TU_U | TU_W, true },
	{ BC_COUNTER, 0x428000, 1, TU_U | TU_W, true },
};
enum { AREA_WINDOW, AREA_RO, AREA_CODE, AREA_ALIAS, AREA_STACK, AREA_COUNTER };
enum { COMPARED_BYTES = (2 + BC_CODE_PAGES + 1 + 1) * DT_PAGE };

/* The state where a fault (or the end) stopped the program. */
struct note {
	uint64_t gpr[16];
	uint64_t rip, rflags, cr2;
	uint32_t error, live;
	uint8_t vector, stop;
	uint8_t xsave[XS_SIZE];
	uint8_t memory[COMPARED_BYTES];
};

struct trace {
	unsigned n;
	struct note note[NOTES_MAX];
};

enum way { WAY_INTERPRETED, WAY_COLD, WAY_WARM, WAY_HEATING, WAYS };
static const char *const way_names[WAYS] = { "interpreted", "translated", "translated again",
					     "translated as it gets hot" };

struct bc {
	struct testuser *u;
	uint8_t fill[DT_WINDOW_BYTES], fill_ro[DT_PAGE];
	uint8_t code[BC_CODE_BYTES];  /* scratch: what memory holds */
	uint32_t seen[BC_CODE_BYTES]; /* flags whose use from there on has been looked for */
	struct bc_program program;
	struct trace want, got;
	uint64_t programs, faults, stuck;
};

/* --- memory ----------------------------------------------------------------------------------- */

static uint8_t *page_at(struct bc *b, unsigned area, unsigned page)
{
	return b->u->t->ram + areas[area].gpa + page * GPA_STRIDE;
}

static void memory_get(struct bc *b, uint8_t *out)
{
	for (unsigned i = 0; i < ARRAY_SIZE(areas); i++) {
		for (unsigned p = 0; p < areas[i].pages && areas[i].compared; p++) {
			memcpy(out, page_at(b, i, p), DT_PAGE);
			out += DT_PAGE;
		}
	}
}

/* Code that is the same stays translated. */
static void load_memory(struct bc *b)
{
	memcpy(page_at(b, AREA_WINDOW, 0), b->fill, DT_PAGE);
	memcpy(page_at(b, AREA_WINDOW, 1), b->fill + DT_PAGE, DT_PAGE);
	memcpy(page_at(b, AREA_RO, 0), b->fill_ro, DT_PAGE);
	for (unsigned i = 0; i < DT_PAGE; i += 8) {
		store_le64(page_at(b, AREA_STACK, 0) + i, 0x0101010101010101ull * (i >> 3));
	}
	memset(page_at(b, AREA_COUNTER, 0), 0, DT_PAGE);
	store_le32(page_at(b, AREA_COUNTER, 0), BC_LOOPS);
	for (unsigned p = 0; p < BC_CODE_PAGES; p++) {
		uint8_t *at = page_at(b, AREA_CODE, p);
		const uint8_t *want = b->program.code + p * DT_PAGE;

		for (unsigned i = 0; i < DT_PAGE; i += 64) {
			if (memcmp(at + i, want + i, 64) != 0) {
				memcpy(at + i, want + i, 64);
				testuser_wrote(b->u, areas[AREA_CODE].gpa + p * GPA_STRIDE + i, 64);
			}
		}
	}
}

static void load_state(struct bc *b)
{
	const struct dt_state *in = &b->program.in;
	struct vcpu *cpu = b->u->cpu;

	testuser_mode(b->u, b->program.m32);
	memcpy(cpu->gpr, in->gpr, sizeof(in->gpr));
	for (unsigned i = 0; i < 16 && b->program.m32; i++) {
		cpu->gpr[i] = (uint32_t)cpu->gpr[i];
	}
	cpu->seg[SEG_GS].base = cpu->seg[SEG_FS].base = b->program.m32 ? 0 : in->gs_base;
	cpu_mode_changed(cpu);
	cpu->rip = in->rip;
	cpu->rflags = (in->rflags & ~(uint64_t)FL_ARITH) | FL_FIXED;
	cpu->cc = cc_from_flags(in->rflags);
	dt_fpu_set(cpu, in->xsave);
	cpu->fault = (struct fault){ .vector = 0 };
}

/* --- which flags may still be read ------------------------------------------------------------ */

static int decode_at(struct bc *b, uint64_t rip, struct insn *ret)
{
	uint64_t off = rip - DT_CODE;

	return off < BC_CODE_BYTES ? insn_decode(b->code + off, BC_CODE_BYTES - (unsigned)off, rip,
						 b->u->cpu->key & KEY_MODE, ret)
				   : -1;
}

static int walk_decode(void *arg, uint64_t rip, struct insn *ret, uint32_t **ret_seen)
{
	struct bc *b = arg;
	int len = decode_at(b, rip, ret);

	if (len >= 0) {
		*ret_seen = &b->seen[rip - DT_CODE];
	}
	return len;
}

static uint32_t live_flags(struct bc *b)
{
	struct effects_walk w = { walk_decode, b };

	for (unsigned p = 0; p < BC_CODE_PAGES; p++) {
		memcpy(b->code + p * DT_PAGE, page_at(b, AREA_CODE, p), DT_PAGE);
	}
	memset(b->seen, 0, sizeof(b->seen));
	return effects_live(&w, b->u->cpu->rip, FL_ARITH);
}

/* --- running -----------------------------------------------------------------------------------
 */

static void take_note(struct bc *b, struct note *n, enum testuser_stop stop)
{
	const struct vcpu *cpu = b->u->cpu;

	memset(n, 0, sizeof(*n));
	memcpy(n->gpr, cpu->gpr, sizeof(n->gpr));
	for (unsigned i = 0; i < 8 && b->program.m32; i++) {
		n->gpr[i] = (uint32_t)n->gpr[i];
	}
	n->live = live_flags(b);
	n->rip = cpu->rip;
	n->rflags = cpu->rflags | (cc_to_flags(cpu->cc) & n->live);
	n->stop = stop;
	n->vector = cpu->fault.vector;
	n->error = cpu->fault.has_error ? cpu->fault.error : 0;
	n->cr2 = cpu->fault.has_payload ? cpu->fault.payload : 0;
	dt_fpu_get(cpu, n->xsave);
	memory_get(b, n->memory);
}

/* Go on behind the instruction that faulted. False: there is none, or it is the last. */
static bool pass_over(struct bc *b)
{
	struct vcpu *cpu = b->u->cpu;
	struct insn in;

	if (cpu->rip == DT_CODE + b->program.end || decode_at(b, cpu->rip, &in) < 0 ||
	    b->code[cpu->rip - DT_CODE] == 0xf4) {
		return false;
	}
	cpu->rip += in.len;
	cpu->cc = cc_from_flags(cpu->rip * 0x9e3779b97f4a7c15ull >> 32);
	cpu->fault = (struct fault){ .vector = 0 };
	return true;
}

/* A program may loop for ever: then the run ends as TU_STUCK. */
static struct kvm_run *run_under_way;

static void on_alarm(int sig)
{
	run_under_way->immediate_exit = 1;
}

static void set_limit(struct bc *b, unsigned ms)
{
	const struct itimerval t = { .it_value = { .tv_sec = ms / 1000,
						   .tv_usec = ms % 1000 * 1000 } };

	run_under_way = b->u->cpu->run;
	run_under_way->immediate_exit = 0;
	signal(SIGVTALRM, on_alarm);
	setitimer(ITIMER_VIRTUAL, &t, NULL);
}

static void run(struct bc *b, enum way way, struct trace *t)
{
	enum testuser_stop stop;

	set_limit(b, way == WAY_INTERPRETED ? LIMIT_MS : 10 * LIMIT_MS);
	load_memory(b);
	load_state(b);
	b->u->interpret = way == WAY_INTERPRETED;
	jit_options.eager = way != WAY_HEATING;
	t->n = 0;
	do {
		testuser_enter(b->u);
		stop = testuser_run(b->u);
		testuser_leave(b->u);
		take_note(b, &t->note[t->n++], stop);
	} while (stop == TU_FAULT && t->n < NOTES_MAX && pass_over(b));
	set_limit(b, 0);
}

static bool traces_same(const struct trace *a, const struct trace *b)
{
	return a->n == b->n && memcmp(a->note, b->note, a->n * sizeof(a->note[0])) == 0;
}

/* The first way that differs from the interpreter; WAYS: none. */
static enum way differing_way(struct bc *b)
{
	testuser_forget(b->u);
	run(b, WAY_INTERPRETED, &b->want);
	if (b->want.note[b->want.n - 1].stop == TU_STUCK) {
		return WAYS;
	}
	for (enum way way = WAY_COLD; way < WAYS; way++) {
		if (way == WAY_HEATING) {
			testuser_forget(b->u);
		}
		run(b, way, &b->got);
		if (!traces_same(&b->want, &b->got)) {
			return way;
		}
	}
	return WAYS;
}

/* --- showing ---------------------------------------------------------------------------------- */

static void show_program(const struct bc_program *p)
{
	enum insn_mode mode = p->m32 ? MODE_32 | MODE_FLAT : MODE_64;
	unsigned at = p->start;

	while (at < p->end) {
		struct insn in;
		char text[96];
		int len = insn_decode(p->code + at, BC_CODE_BYTES - at, DT_CODE + at, mode, &in);

		insn_disassemble(p->code + at, BC_CODE_BYTES - at, DT_CODE + at, mode, text,
				 sizeof(text));
		len = len > 0 ? len : 1;
		if (p->code[at] != 0x90) {
			printf("#   %llx: %-50s", DT_CODE + at, text);
			for (int i = 0; i < len; i++) {
				printf(" %02x", p->code[at + (unsigned)i]);
			}
			printf("\n");
		}
		at += (unsigned)len;
	}
}

static void show_bytes(const char *name, const void *a, const void *b, unsigned n)
{
	const uint8_t *x = a, *y = b;

	for (unsigned i = 0; i < n; i += 8) {
		if (memcmp(x + i, y + i, 8) != 0) {
			printf("#   %s+%x: want %016" PRIx64 " got %016" PRIx64 "\n", name, i,
			       load_le64(x + i), load_le64(y + i));
		}
	}
}

static void show_notes(const struct note *w, const struct note *g)
{
	printf("#   stop %u vector %u error %x cr2 %" PRIx64 " rip %" PRIx64 " flags %" PRIx64 "\n",
	       w->stop, w->vector, w->error, w->cr2, w->rip, w->rflags);
	if (w->stop != g->stop || w->vector != g->vector || w->error != g->error ||
	    w->cr2 != g->cr2 || w->rip != g->rip || w->rflags != g->rflags) {
		printf("#   got  %u vector %u error %x cr2 %" PRIx64 " rip %" PRIx64
		       " flags %" PRIx64 "\n",
		       g->stop, g->vector, g->error, g->cr2, g->rip, g->rflags);
	}
	show_bytes("gpr*8", w->gpr, g->gpr, sizeof(w->gpr));
	show_bytes("xsave", w->xsave, g->xsave, XS_SIZE);
	show_bytes("memory", w->memory, g->memory, COMPARED_BYTES);
}

static void show_difference(struct bc *b, enum way way)
{
	const struct bc_program *p = &b->program;
	unsigned i = 0;

	printf("# %s: differs%s; mxcsr %x fcw %x flags %" PRIx64 "\n", way_names[way],
	       p->m32 ? " (32-bit)" : "", load_le32(p->in.xsave + FXS_MXCSR),
	       load_le16(p->in.xsave), p->in.rflags);
	show_program(p);
	while (i < MIN(b->want.n, b->got.n) &&
	       memcmp(&b->want.note[i], &b->got.note[i], sizeof(b->want.note[i])) == 0) {
		i++;
	}
	printf("#   %u stops agree of %u and %u\n", i, b->want.n, b->got.n);
	if (i < MIN(b->want.n, b->got.n)) {
		show_notes(&b->want.note[i], &b->got.note[i]);
	}
}

/* Items that can become NOPs without the difference going away. */
static enum way make_smaller(struct bc *b, enum way way)
{
	struct bc_program *p = &b->program;

	for (unsigned i = 0; i < p->items; i++) {
		struct bc_program saved = *p;

		memset(p->code + p->item[i].start, 0x90, p->item[i].end - p->item[i].start);
		if (differing_way(b) == WAYS) {
			*p = saved;
		}
	}
	way = differing_way(b);
	return way;
}

bool bc_check(struct bc *b, uint64_t seed)
{
	enum way way;

	bc_generate(seed, &b->program);
	way = differing_way(b);
	b->programs++;
	b->faults += b->want.n - 1;
	b->stuck += b->want.note[b->want.n - 1].stop == TU_STUCK;
	if (way != WAYS) {
		printf("# program %" PRIu64 "\n", seed);
		show_difference(b, make_smaller(b, way));
	}
	return way == WAYS;
}

/* --- life ------------------------------------------------------------------------------------- */

struct bc *bc_new(void)
{
	struct bc *b = calloc(1, sizeof(*b));

	ASSERT(b);
	setvbuf(stdout, NULL, _IOLBF, 0);
	b->u = testuser_new();
	for (unsigned i = 0; i < ARRAY_SIZE(areas); i++) {
		for (unsigned p = 0; p < areas[i].pages; p++) {
			testuser_map(b->u, areas[i].lin + p * DT_PAGE,
				     areas[i].gpa + p * GPA_STRIDE, areas[i].flags);
		}
	}
	dt_window_fill(b->fill, b->fill_ro);
	return b;
}

void bc_free(struct bc *b)
{
	if (b) {
		testuser_free(b->u);
		free(b);
	}
}

void bc_report(const struct bc *b)
{
	const struct jit_vcpu *j = &b->u->cpu->jit;

	printf("# %" PRIu64 " programs (%" PRIu64 " endless), %" PRIu64 " faults; %" PRIu64
	       " blocks translated, entered %" PRIu64 " times, %" PRIu64 " handlers, %" PRIu64
	       " turns interpreted\n",
	       b->programs, b->stuck, b->faults, j->stats.translated, j->stats.entered,
	       j->stats.handlers, j->stats.interpreted);
}
