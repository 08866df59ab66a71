/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs batches of cases on both sides, compares, counts (difftest.h).
 */
#include "softkvm/cpu/difftest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/disasm.h"
#include "softkvm/cpu/exec.h"
#include "softkvm/cpu/vcpu.h"

enum { BATCH = 512, SHOWN_PER_ROW = 2 };

/* --- what is not defined -------------------------------------------------------------------- */

/* Arithmetic flags that the manual leaves undefined, and that our handlers need not match. */
static uint64_t undefined_flags(const struct insn *in)
{
	switch (in->op) {
	case OP_DIV:
	case OP_IDIV:
		return FL_ARITH;
	case OP_DAA:
	case OP_DAS:
		return FL_OF;
	case OP_AAA:
	case OP_AAS:
		return FL_OF | FL_SF | FL_ZF | FL_PF;
	case OP_AAM:
	case OP_AAD:
		return FL_OF | FL_AF | FL_CF;
	case OP_MUL:
	case OP_IMUL1:
	case OP_IMUL2:
	case OP_IMUL3:
		return FL_SF | FL_ZF | FL_AF | FL_PF;
	case OP_SHLD:
	case OP_SHRD: /* count above the size: everything */
		return in->osz == 2 ? FL_ARITH : FL_AF | FL_OF;
	case OP_SHL:
	case OP_SHR:
	case OP_SAR:
		return FL_AF | FL_OF | (in->osz < 4 ? FL_CF : 0);
	case OP_ROL:
	case OP_ROR:
	case OP_RCL:
	case OP_RCR:
		return FL_OF;
	case OP_BSF:
	case OP_BSR:
		return FL_ARITH & ~(unsigned)FL_ZF;
	case OP_TZCNT:
	case OP_LZCNT:
		return FL_OF | FL_SF | FL_PF | FL_AF;
	case OP_BT:
	case OP_BTS:
	case OP_BTR:
	case OP_BTC:
		return FL_OF | FL_SF | FL_AF | FL_PF;
	case OP_AND:
	case OP_OR:
	case OP_XOR:
	case OP_TEST:
		return FL_AF;
	case OP_ANDN:
	case OP_BLSI:
	case OP_BLSR:
	case OP_BLSMSK:
	case OP_BZHI:
		return FL_AF | FL_PF;
	case OP_BEXTR:
		return FL_AF | FL_PF | FL_SF;
	default:
		return 0;
	}
}

/* A range of bytes in memory that need not agree. */
struct hole {
	unsigned at, len;
};

static const struct hole env_holes[] = { { 12, 12 } };              /* FIP, FOP, FDP */
static const struct hole fxsave_holes[] = { { 6, 18 }, { 28, 4 } }; /* they, and MXCSR_MASK */
static const struct hole xsave_holes[] = { { 6, 18 }, { 28, 4 }, { 512, 8 } }; /* XSTATE_BV */

static const struct hole *holes_of(const struct insn *in, unsigned *ret_n)
{
	switch (in->op) {
	case OP_FNSTENV:
	case OP_FNSAVE:
		*ret_n = in->osz == 2 ? 0 : 1;
		return env_holes;
	case OP_FXSAVE:
		*ret_n = 2;
		return fxsave_holes;
	case OP_XSAVE:
		*ret_n = 3;
		return xsave_holes;
	default:
		*ret_n = 0;
		return NULL;
	}
}

static void clear_hole(uint8_t *window, uint64_t lin, unsigned len)
{
	for (unsigned i = 0; i < len; i++) {
		if (lin + i - DT_WINDOW < DT_WINDOW_BYTES) {
			window[lin + i - DT_WINDOW] = 0;
		}
	}
}

static uint64_t operand_address(const struct dt_case *c, const struct insn *in)
{
	uint64_t base = in->base < 16 ? c->in.gpr[in->base] : 0;
	uint64_t index = in->index < 16 ? c->in.gpr[in->index] : 0;
	uint64_t off = base + (index << in->scale) + (uint64_t)in->disp;

	off = in->asz == 8 ? off : (uint32_t)off;
	return off + (in->seg == SEG_GS ? c->in.gs_base : 0);
}

/* 16-bit environments: the pointers lie elsewhere. */
static void forget_memory(const struct dt_case *c, const struct insn *in, struct dt_result *r)
{
	unsigned n;
	const struct hole *h = holes_of(in, &n);

	for (unsigned i = 0; i < n; i++) {
		clear_hole(r->window, operand_address(c, in) + h[i].at, h[i].len);
	}
	if ((in->op == OP_FNSTENV || in->op == OP_FNSAVE) && in->osz == 2) {
		clear_hole(r->window, operand_address(c, in) + 6, 8);
	}
}

/* FIP, FDP and FOP are never compared: the host's are addresses of the child. */
static void forget_pointers(uint8_t *x)
{
	memset(x + FXS_FOP, 0, FXS_MXCSR - FXS_FOP);
	store_le32(x + FXS_MXCSR_MASK, 0);
	memset(x + XS_HEADER, 0, 64);
	x[5] = 0;
	for (unsigned i = 0; i < 8; i++) {
		memset(x + FXS_ST + i * 16 + 10, 0, 6);
	}
}

/* Images are accessed in pieces, in an order of the processor's own: which page faults is open. */
static bool is_image(const struct insn *in)
{
	switch (in->op) {
	case OP_FNSTENV:
	case OP_FLDENV:
	case OP_FNSAVE:
	case OP_FRSTOR:
	case OP_FXSAVE:
	case OP_FXRSTOR:
	case OP_XSAVE:
	case OP_XRSTOR:
		return true;
	default:
		return false;
	}
}

/* A page that is not ours: the host may have something there that user mode cannot see. */
static void canonicalize_page_fault(const struct insn *in, struct dt_result *r)
{
	if (r->cr2 - DT_WINDOW > DT_WINDOW_RO + 2 * DT_PAGE - DT_WINDOW) {
		r->error &= ~1u;
	}
	if (is_image(in)) {
		r->cr2 = 0;
		r->error &= ~1u;
	}
}

static void canonicalize_fault(const struct insn *in, struct dt_result *r)
{
	r->fault_address = r->cr2;
	if (r->vector == EX_PF) {
		canonicalize_page_fault(in, r);
	} else {
		r->cr2 = 0;
	}
}

/*
 * Contents of empty x87 registers are nobody's: FNINIT and FINCSTP may leave anything by the
 * manual, but this is what the host does too, so they are compared.
 */
static void canonicalize(const struct dt_case *c, const struct insn *in, struct dt_result *r)
{
	uint64_t undefined = undefined_flags(in) | ~(uint64_t)(FL_ARITH | FL_DF);

	forget_pointers(r->state.xsave);
	for (unsigned i = 0; i < 16 && c->m32; i++) {
		r->state.gpr[i] = i < 8 ? (uint32_t)r->state.gpr[i] : 0;
	}
	if (r->vector != DT_VECTOR_NONE) {
		undefined |= FL_ARITH & undefined_flags(in);
	}
	r->state.rflags &= ~undefined;
	canonicalize_fault(in, r);
	if (r->vector == DT_VECTOR_NONE) {
		forget_memory(c, in, r);
		r->error = 0;
	}
}

/* A jump to where no code is: the host faults at the target, softkvm would at the next fetch. */
static void undo_fetch_fault(struct dt_result *n)
{
	if (n->vector == EX_PF && n->cr2 == n->state.rip) {
		n->vector = DT_VECTOR_NONE;
	}
}

/* --- showing --------------------------------------------------------------------------------- */

static const char *const way_names[DT_WAYS] = { "softkvm", "translator" };
static const char *way_name = "softkvm"; /* of what is being shown */

static void show_bytes(const char *name, const uint8_t *a, const uint8_t *b, unsigned n,
		       uint64_t base)
{
	for (unsigned i = 0; i < n; i += 8) {
		if (memcmp(a + i, b + i, 8)) {
			printf("#   %s+%" PRIx64 ": host %016" PRIx64 " %s %016" PRIx64 "\n", name,
			       base + i, load_le64(a + i), way_name, load_le64(b + i));
		}
	}
}

static void show_case(const struct dt_case *c)
{
	printf("#   bytes");
	for (unsigned i = 0; i < c->len; i++) {
		printf(" %02x", c->code[i]);
	}
	printf("  flags %" PRIx64 " mxcsr %x fcw %x fsw %x ftw %x\n", c->in.rflags,
	       load_le32(c->in.xsave + FXS_MXCSR), load_le16(c->in.xsave),
	       load_le16(c->in.xsave + 2), c->in.xsave[FXS_FTW]);
	for (unsigned i = 0; i < 16; i += 4) {
		printf("#   gpr%u %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n", i,
		       c->in.gpr[i], c->in.gpr[i + 1], c->in.gpr[i + 2], c->in.gpr[i + 3]);
	}
	if (c->patch_len) {
		printf("#   [%" PRIx64 "] =", c->patch_at);
		for (unsigned i = 0; i < MIN(c->patch_len, 32); i++) {
			printf(" %02x", c->patch[i]);
		}
		printf("\n");
	}
}

static void show_inputs(const struct dt_case *c, const struct insn *in)
{
	const uint8_t *x = c->in.xsave;
	const unsigned regs[3] = { in->reg & 15, in->rm & 15, in->vvvv & 15 };

	for (unsigned i = 0; i < 3; i++) {
		const uint8_t *lo = x + FXS_XMM + regs[i] * 16, *hi = x + XS_AVX + regs[i] * 16;

		printf("#   v%u %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n",
		       regs[i], load_le64(hi + 8), load_le64(hi), load_le64(lo + 8), load_le64(lo));
	}
	if (op_group(in->op) == OPG_X87) {
		for (unsigned i = 0; i < 8; i++) {
			printf("#   st%u %04x:%016" PRIx64 "\n", i,
			       load_le16(x + FXS_ST + i * 16 + 8), load_le64(x + FXS_ST + i * 16));
		}
	}
}

static void show_difference(const struct dt_case *c, const struct insn *in,
			    const struct dt_result *n, const struct dt_result *s)
{
	char text[96];

	insn_disassemble(c->code, c->len, c->in.rip, c->m32 ? MODE_32 : MODE_64, text,
			 sizeof(text));
	printf("# %s differs%s: %s (row %u)\n", way_name, c->m32 ? " (32-bit)" : "", text, c->row);
	show_case(c);
	show_inputs(c, in);
	if (n->vector != s->vector || n->error != s->error || n->cr2 != s->cr2) {
		printf("#   vector: host %u/%x/%" PRIx64 " %s %u/%x/%" PRIx64 "\n", n->vector,
		       n->error, n->cr2, way_name, s->vector, s->error, s->cr2);
	}
	show_bytes("gpr*8", (const uint8_t *)n->state.gpr, (const uint8_t *)s->state.gpr, 128, 0);
	if (n->state.rip != s->state.rip || n->state.rflags != s->state.rflags) {
		printf("#   rip, flags: host %" PRIx64 " %" PRIx64 " %s %" PRIx64 " %" PRIx64 "\n",
		       n->state.rip, n->state.rflags, way_name, s->state.rip, s->state.rflags);
	}
	show_bytes("xsave", n->state.xsave, s->state.xsave, XS_SIZE, 0);
	show_bytes("memory", n->window, s->window, DT_WINDOW_BYTES, DT_WINDOW);
}

/* --- running ---------------------------------------------------------------------------------- */

struct run {
	const struct dt_options *opt;
	struct dt_report *rep;
	struct dt_soft *soft;
	struct dt_case *cases;
	uint32_t *covered, *failed; /* by row */
	uint8_t *how;               /* by row: the best of enum dt_how, plus 1 */
	struct dt_rng rng;
	unsigned filled;
};

static bool same(const struct dt_result *a, const struct dt_result *b)
{
	return a->vector == b->vector && a->error == b->error && a->cr2 == b->cr2 &&
	       a->state.rip == b->state.rip && a->state.rflags == b->state.rflags &&
	       !memcmp(a->state.gpr, b->state.gpr, sizeof(a->state.gpr)) &&
	       !memcmp(a->state.xsave, b->state.xsave, XS_SIZE) &&
	       !memcmp(a->window, b->window, DT_WINDOW_BYTES);
}

/* Something of the test program itself lies there (the child is a fork of it). */
static bool host_has_page(uint64_t addr)
{
	unsigned char v;

	return mincore((void *)(uintptr_t)(addr & ~(uint64_t)(DT_PAGE - 1)), DT_PAGE, &v) == 0;
}

/* What processors do differently, and the manual allows. */
static bool tolerated(const struct dt_case *c, const struct insn *in, const struct dt_result *n,
		      const struct dt_result *s)
{
	if (n->vector == EX_GP && s->vector == EX_PF && s->cr2 >> 63) {
		return true; /* kernel addresses, as some hypervisors answer */
	}
	if (c->m32 && s->vector == EX_PF && s->cr2 >= 0xfffff000 &&
	    (n->vector == EX_GP || n->vector == EX_SS)) {
		return true; /* across the 4 GiB limit, which flat blocks do not check */
	}
	if (s->vector == EX_PF && host_has_page(s->fault_address)) {
		return true;
	}
	switch (in->op) {
	case OP_CALL: /* a bad target and a bad stack: which comes first is open */
		return n->vector == EX_PF && s->vector == EX_GP;
	case OP_POPA: /* registers popped before the fault */
		return n->vector == EX_PF && s->vector == EX_PF;
	case OP_MASKMOVQ:
	case OP_MASKMOVDQU:
	case OP_VMASKMOVDQU: /* faults of bytes masked out */
		return (n->vector == EX_PF || n->vector == EX_GP) &&
		       (s->vector == EX_PF || s->vector == EX_GP || s->vector == DT_VECTOR_NONE);
	case OP_SHA1NEXTE:
	case OP_SHA1MSG1:
	case OP_SHA1MSG2:
	case OP_SHA1RNDS4:
	case OP_SHA256RNDS2:
	case OP_SHA256MSG1:
	case OP_SHA256MSG2: /* AMD's need no alignment */
		return s->vector == EX_GP && (in->flags & INSN_MEM) &&
		       (operand_address(c, in) & 15);
	default:
		return false;
	}
}

static bool agree(const struct dt_case *c, const struct insn *in, const struct dt_result *n,
		  const struct dt_result *s)
{
	return same(n, s) || tolerated(c, in, n, s);
}

/*
 * CMPS reads two operands. If both fault, the manual leaves open which fault is taken, and
 * processors differ: softkvm's is the source's; this makes it that of [RDI]. False: that one
 * can be read.
 */
static bool other_fault(struct dt_soft *soft, const struct insn *in, struct dt_result *s)
{
	uint64_t rdi = s->state.gpr[RDI];

	if (in->op != OP_CMPS || s->vector == DT_VECTOR_NONE ||
	    dt_soft_access(soft, in->asz == 8 ? rdi : (uint32_t)rdi, in->osz, s)) {
		return false;
	}
	canonicalize_fault(in, s);
	return true;
}

static void note_coverage(struct run *r, enum dt_way way, unsigned row)
{
	unsigned how = dt_soft_how(r->soft) + 1u;

	if (way == DT_INTERPRETER) {
		r->covered[row]++;
	} else {
		r->how[row] = (uint8_t)MAX(r->how[row], how);
	}
}

static void compare_way(struct run *r, struct dt_case *c, enum dt_way way)
{
	static struct dt_result native, soft;
	struct insn in;

	dt_run_soft(r->soft, c, &soft, &in);
	native = c->native;
	undo_fetch_fault(&native);
	canonicalize(c, &in, &native);
	canonicalize(c, &in, &soft);
	if (soft.vector == DT_VECTOR_NONE && native.vector == DT_VECTOR_NONE) {
		note_coverage(r, way, in.row);
	}
	if (!agree(c, &in, &native, &soft) &&
	    !(other_fault(r->soft, &in, &soft) && agree(c, &in, &native, &soft))) {
		r->rep->differences++;
		if (r->failed[c->row]++ < SHOWN_PER_ROW || r->opt->verbose) {
			way_name = way_names[way];
			show_difference(c, &in, &native, &soft);
		}
	}
}

static void compare(struct run *r, struct dt_case *c)
{
	r->rep->cases++;
	for (enum dt_way way = 0; way < DT_WAYS; way++) {
		if (dt_soft_select(r->soft, way)) {
			compare_way(r, c, way);
		}
	}
}

static bool flush(struct run *r)
{
	if (!dt_run_native(r->cases, r->filled)) {
		return false;
	}
	for (unsigned i = 0; i < r->filled; i++) {
		compare(r, &r->cases[i]);
	}
	r->filled = 0;
	return true;
}

static bool wanted(const struct run *r, const struct row_ref *ref)
{
	return !dt_row_excluded(ref) &&
	       (!r->opt->only || !strcmp(op_mnemonic(ref->row->op), r->opt->only));
}

static bool one_round(struct run *r)
{
	for (unsigned row = 0; row < rows_count(); row++) {
		struct row_ref ref = row_get(row);

		for (unsigned i = 0; i < r->opt->cases_per_row && wanted(r, &ref); i++) {
			dt_make_case(&r->rng, row, &r->cases[r->filled++]);
			if (r->filled == BATCH && !flush(r)) {
				return false;
			}
		}
	}
	return flush(r);
}

/* One NOP in 32-bit mode: kernels may be built without it. */
static bool probe_32bit(struct dt_case *c)
{
	memset(c, 0, sizeof(*c));
	c->m32 = true;
	c->code[0] = 0x90;
	c->len = 1;
	c->in.rip = DT_CODE + DT_CODE_OFFSET;
	c->in.rflags = 0x202;
	store_le32(c->in.xsave + FXS_MXCSR, MXCSR_INIT);
	return dt_run_native(c, 1) && c->native.vector == DT_VECTOR_NONE;
}

static const char *const how_names[DT_HOWS] = { "interpreted", "by its handler", "host code" };

static void count_coverage(struct run *r)
{
	for (unsigned row = 0; row < rows_count(); row++) {
		struct row_ref ref = row_get(row);
		const char *why = dt_row_excluded(&ref);

		r->rep->rows++;
		r->rep->rows_excluded += why != NULL;
		r->rep->rows_covered += r->covered[row] > 0;
		if (r->how[row]) {
			r->rep->translated[r->how[row] - 1]++;
		}
		if (r->opt->verbose && !r->covered[row]) {
			printf("# row %u %s (%02x map %u%s) not covered: %s\n", row,
			       op_mnemonic(ref.row->op), ref.opcode, ref.map, ref.vex ? " vex" : "",
			       why ? why : "no case ended without a fault");
		}
		if (r->opt->verbose && r->how[row]) {
			printf("# row %u %s (%02x map %u%s): %s\n", row, op_mnemonic(ref.row->op),
			       ref.opcode, ref.map, ref.vex ? " vex" : "",
			       how_names[r->how[row] - 1]);
		}
	}
}

void dt_run(const struct dt_options *opt, struct dt_report *ret)
{
	unsigned n = rows_count();
	struct run r = { .opt = opt, .rep = ret, .rng = { opt->seed * 2 + 1 } };
	time_t end = time(NULL) + opt->seconds;

	memset(ret, 0, sizeof(*ret));
	r.soft = dt_soft_new();
	r.cases = dt_cases_new(BATCH);
	r.covered = calloc(n, sizeof(*r.covered));
	r.failed = calloc(n, sizeof(*r.failed));
	r.how = calloc(n, 1);
	if (r.soft && r.cases && r.covered && r.failed && r.how) {
		dt_allow_32bit(probe_32bit(r.cases));
		do {
			ret->supported = one_round(&r);
		} while (ret->supported && time(NULL) < end);
		count_coverage(&r);
	}
	free(r.covered);
	free(r.failed);
	free(r.how);
	dt_soft_free(r.soft);
}
