/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The side of difftest.h that is a whole virtual machine: the case's instruction lies in a page
 * full of HLT, which user code may not execute, and is run by the interpreter or translated.
 */
#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/exec.h"
#include "softkvm/jit/testuser.h"

/* Guest-physical; the window's pages are apart, so that what crosses them is seen to. */
enum { GPA_CODE = 0x410000, GPA_WINDOW = 0x400000, GPA_STRIDE = 0x2000, GPA_RO = 0x408000 };
enum { OP_BYTE_HLT = 0xf4, FNOP_OFFSET = 0xc00 };
#define FORGET_EVERY                                                                \
	128 /* cases: translations are refused for a page that is written too often \
	     */

struct dt_soft {
	struct testuser *u;
	enum dt_way way;
	enum dt_how how;
	unsigned runs;
	uint8_t fill[DT_WINDOW_BYTES], fill_ro[DT_PAGE];
};

static uint8_t *ram(struct dt_soft *s, gpa_t gpa)
{
	return s->u->t->ram + gpa;
}

struct dt_soft *dt_soft_new(void)
{
	struct dt_soft *s = calloc(1, sizeof(*s));

	if (!s) {
		return NULL;
	}
	s->u = testuser_new();
	testuser_map(s->u, DT_WINDOW, GPA_WINDOW, TU_U | TU_W);
	testuser_map(s->u, DT_WINDOW + DT_PAGE, GPA_WINDOW + GPA_STRIDE, TU_U | TU_W);
	testuser_map(s->u, DT_WINDOW_RO, GPA_RO, TU_U);
	testuser_map(s->u, DT_CODE, GPA_CODE, TU_U | TU_X);
	dt_window_fill(s->fill, s->fill_ro);
	return s;
}

void dt_soft_free(struct dt_soft *s)
{
	if (s) {
		testuser_free(s->u);
		free(s);
	}
}

bool dt_soft_select(struct dt_soft *s, enum dt_way way)
{
	s->way = way;
	return true;
}

enum dt_how dt_soft_how(const struct dt_soft *s)
{
	return s->how;
}

struct vcpu *dt_soft_vcpu(struct dt_soft *s)
{
	return s->u->cpu;
}

static void patch(struct dt_soft *s, const struct dt_case *c)
{
	for (unsigned i = 0; i < c->patch_len; i++) {
		uint64_t at = c->patch_at + i;

		if (at >= DT_WINDOW_RO) {
			*ram(s, GPA_RO + (at - DT_WINDOW_RO)) = c->patch[i];
		} else {
			uint64_t off = at - DT_WINDOW;

			*ram(s, GPA_WINDOW + off / DT_PAGE * GPA_STRIDE + off % DT_PAGE) =
				c->patch[i];
		}
	}
}

static void load_memory(struct dt_soft *s, const struct dt_case *c)
{
	uint8_t *code = ram(s, GPA_CODE);

	memcpy(ram(s, GPA_WINDOW), s->fill, DT_PAGE);
	memcpy(ram(s, GPA_WINDOW + GPA_STRIDE), s->fill + DT_PAGE, DT_PAGE);
	memcpy(ram(s, GPA_RO), s->fill_ro, DT_PAGE);
	patch(s, c);
	memset(code, OP_BYTE_HLT, DT_PAGE);
	memcpy(code + (c->in.rip - DT_CODE), c->code, c->len);
	memcpy(code + FNOP_OFFSET, "\xd9\xd0", 2);
	testuser_wrote(s->u, GPA_CODE, DT_PAGE);
	if (s->runs++ % FORGET_EVERY == 0) {
		testuser_forget(s->u);
	}
}

static void load_state(struct dt_soft *s, const struct dt_case *c)
{
	struct vcpu *cpu = s->u->cpu;

	testuser_mode(s->u, c->m32);
	memcpy(cpu->gpr, c->in.gpr, sizeof(c->in.gpr));
	cpu->seg[SEG_GS].base = c->m32 ? 0 : c->in.gs_base;
	cpu_mode_changed(cpu);
	cpu->rip = c->in.rip;
	cpu->rflags = (c->in.rflags & ~(uint64_t)FL_ARITH) | FL_FIXED;
	cpu->cc = cc_from_flags(c->in.rflags);
	dt_fpu_set(cpu, c->in.xsave);
	cpu->fault = (struct fault){ .vector = 0 };
}

/* Host code for x87 runs only once the registers are live: let the interpreter load them. */
static void make_x87_live(struct dt_soft *s, const struct dt_case *c)
{
	struct vcpu *cpu = s->u->cpu;
	uint16_t fcw = load_le16(c->in.xsave + FXS_FCW), fsw = load_le16(c->in.xsave + FXS_FSW);

	if (s->way == DT_INTERPRETER || (fcw & FCW_MASKS) != FCW_MASKS || (fsw & FSW_ES)) {
		return;
	}
	s->u->interpret = true;
	cpu->rip = DT_CODE + FNOP_OFFSET;
	testuser_run(s->u);
	ASSERT(cpu->fpu.x87_live && cpu->rip == DT_CODE + FNOP_OFFSET + 2);
	cpu->rip = c->in.rip;
	cpu->fault = (struct fault){ .vector = 0 };
	cpu_mode_changed(cpu); /* the translator is on again */
}

/* Has the case come to the HLT behind it, or to where no code is? */
static bool ended(struct dt_soft *s, const struct dt_case *c)
{
	const struct vcpu *cpu = s->u->cpu;
	const struct fault *f = &cpu->fault;

	if (cpu->rip == c->in.rip) {
		return false;
	}
	if (f->vector == EX_PF) {
		return f->payload == cpu->rip;
	}
	return f->vector == EX_GP && cpu->rip - DT_CODE < DT_PAGE &&
	       *ram(s, GPA_CODE + (cpu->rip - DT_CODE)) == OP_BYTE_HLT;
}

static void take_fault(const struct vcpu *cpu, struct dt_result *ret)
{
	ret->vector = cpu->fault.vector;
	ret->error = cpu->fault.has_error ? cpu->fault.error : 0;
	ret->cr2 = cpu->fault.has_payload ? cpu->fault.payload : 0;
}

bool dt_soft_access(struct dt_soft *s, uint64_t lin, unsigned size, struct dt_result *ret)
{
	if (mmu_probe(s->u->cpu, lin, size, ACC_READ)) {
		return true;
	}
	take_fault(s->u->cpu, ret);
	return false;
}

/* The HLT is a handler, too. */
static enum dt_how how_run(const struct vcpu *cpu)
{
	if (cpu->jit.stats.interpreted != 0) {
		return DT_BY_INTERPRETER;
	}
	return cpu->jit.stats.handlers > 1 ? DT_BY_HANDLER : DT_BY_HOST_CODE;
}

static void run(struct dt_soft *s, const struct dt_case *c, struct dt_result *ret)
{
	struct vcpu *cpu = s->u->cpu;
	enum testuser_stop stop;

	testuser_enter(s->u);
	make_x87_live(s, c);
	memset(&cpu->jit.stats, 0, sizeof(cpu->jit.stats));
	s->u->interpret = s->way == DT_INTERPRETER;
	stop = testuser_run(s->u);
	testuser_leave(s->u);
	s->how = how_run(cpu);
	ret->vector = DT_VECTOR_BROKEN;
	if (stop == TU_FAULT && ended(s, c)) {
		ret->vector = DT_VECTOR_NONE;
	} else if (stop == TU_FAULT) {
		take_fault(cpu, ret);
	}
}

void dt_run_soft(struct dt_soft *s, const struct dt_case *c, struct dt_result *ret,
		 struct insn *ret_in)
{
	struct vcpu *cpu = s->u->cpu;

	memset(ret, 0, sizeof(*ret));
	load_memory(s, c);
	load_state(s, c);
	if (insn_decode(ram(s, GPA_CODE + (c->in.rip - DT_CODE)), 15, c->in.rip,
			cpu->key & KEY_MODE, ret_in) < 0) {
		memset(ret_in, 0, sizeof(*ret_in));
	}
	run(s, c, ret);
	ASSERT(cpu->gpr[GPR_ZERO] == 0);
	memcpy(ret->state.gpr, cpu->gpr, sizeof(ret->state.gpr));
	ret->state.rip = cpu->rip;
	ret->state.rflags = cpu->rflags | cc_to_flags(cpu->cc);
	dt_fpu_get(cpu, ret->state.xsave);
	memcpy(ret->window, ram(s, GPA_WINDOW), DT_PAGE);
	memcpy(ret->window + DT_PAGE, ram(s, GPA_WINDOW + GPA_STRIDE), DT_PAGE);
}
