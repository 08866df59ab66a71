/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * softkvm's side of difftest.h: decode, bind and run one instruction on a vCPU
 * of its own, in 64-bit mode at CPL 3. The memory functions here stand in for
 * mmu/: a few fixed pages, mapped as in the child, with page faults as the SDM says.
 */
#include "softkvm/cpu/difftest.h"

#include <stdlib.h>

#include "base/assert.h"
#include "softkvm/cpu/bind.h"
#include "softkvm/cpu/debug.h"
#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/exec.h"

struct dt_soft {
	struct vcpu cpu;
	struct tlb_entry tlb[TLB_ENTRIES];
	struct insn insn[2];
	uint32_t key; /* of 64-bit mode; cpu.key may have been changed by a test */
	uint8_t window[DT_WINDOW_BYTES] __attribute__((aligned(4096)));
	uint8_t window_ro[DT_PAGE] __attribute__((aligned(4096)));
	uint8_t code[DT_PAGE] __attribute__((aligned(4096)));
	uint8_t fill[DT_WINDOW_BYTES], fill_ro[DT_PAGE]; /* what the windows start with */
};

/* --- memory -------------------------------------------------------------------------------- */

static void no_entry(struct tlb_entry *e, uint64_t page)
{
	e->rtag = e->wtag = e->xtag = (page ^ 1) * DT_PAGE;
	e->host = 0;
}

static void map_page(struct dt_soft *s, uint64_t lin, uint8_t *host, bool write)
{
	struct tlb_entry *e = mmu_tlb(&s->cpu, lin);

	e->rtag = lin;
	e->wtag = write ? lin : e->wtag;
	e->host = (uint64_t)(uintptr_t)host;
}

static bool canonical(gva_t lin)
{
	return (uint64_t)((int64_t)(lin << 16) >> 16) == lin;
}

/* Host address of one byte, or the fault. */
static uint8_t *byte_at(struct vcpu *cpu, gva_t lin, bool write)
{
	struct tlb_entry *e = mmu_tlb(cpu, lin);
	bool mapped = lin - e->rtag < DT_PAGE;

	if (!canonical(lin)) {
		cpu->fault =
			(struct fault){ .vector = EX_GP, .has_error = true, .noncanonical = true };
		return NULL;
	}
	if (!mapped || (write && lin - e->wtag >= DT_PAGE)) {
		cpu->fault = (struct fault){ .vector = EX_PF,
					     .has_error = true,
					     .has_payload = true,
					     .error = 4u | (write ? 2u : 0) | mapped,
					     .payload = lin };
		return NULL;
	}
	return tlb_host(e, lin);
}

static bool check_range(struct vcpu *cpu, gva_t lin, unsigned size, bool write)
{
	if (!canonical(lin) || !canonical(lin + size - 1)) {
		return byte_at(cpu, BIT64(63), write);
	}
	/* the first byte, then the first of each further page */
	for (gva_t at = lin; at - lin < size; at = (at & ~(gva_t)(DT_PAGE - 1)) + DT_PAGE) {
		if (!byte_at(cpu, at, write)) {
			return false;
		}
	}
	return true;
}

bool mmu_slow_load(struct vcpu *cpu, gva_t lin, void *out, unsigned size, bool system)
{
	if (!check_range(cpu, lin, size, false)) {
		return false;
	}
	for (unsigned i = 0; i < size; i++) {
		((uint8_t *)out)[i] = *byte_at(cpu, lin + i, false);
	}
	return true;
}

bool mmu_slow_store(struct vcpu *cpu, gva_t lin, const void *in, unsigned size, bool system)
{
	if (!check_range(cpu, lin, size, true)) {
		return false;
	}
	for (unsigned i = 0; i < size; i++) {
		*byte_at(cpu, lin + i, true) = ((const uint8_t *)in)[i];
	}
	return true;
}

void *mmu_rmw_slow(struct vcpu *cpu, gva_t lin, unsigned size, bool *ret_slow)
{
	*ret_slow = check_range(cpu, lin, size, true);
	return NULL;
}

bool mmu_rmw_begin(struct vcpu *cpu, gva_t lin, void *old, unsigned size, bool locked)
{
	return check_range(cpu, lin, size, true) && mmu_slow_load(cpu, lin, old, size, false);
}

bool mmu_rmw_commit(struct vcpu *cpu, gva_t lin, const void *val, unsigned size, bool locked)
{
	return mmu_slow_store(cpu, lin, val, size, false);
}

void mmu_rmw_cancel(struct vcpu *cpu, bool locked)
{
}

bool mmu_probe(struct vcpu *cpu, gva_t lin, unsigned size, enum mmu_access acc)
{
	return check_range(cpu, lin, size, acc == ACC_WRITE || acc == ACC_RMW);
}

unsigned mmu_run(struct vcpu *cpu, gva_t lin, enum mmu_access acc, bool down, unsigned size,
		 void **ret_host)
{
	struct fault saved = cpu->fault;
	uint8_t *p = byte_at(cpu, lin, acc == ACC_WRITE || acc == ACC_RMW);
	unsigned off = (unsigned)(lin & (DT_PAGE - 1));

	cpu->fault = saved;
	if (!p || off + size > DT_PAGE) {
		return 0;
	}
	*ret_host = p;
	return down ? off + size : DT_PAGE - off;
}

bool seg_linear(struct vcpu *cpu, unsigned seg, uint64_t offset, unsigned size, enum mmu_access acc,
		gva_t *ret)
{
	*ret = cpu->segbase[seg] + offset;
	return true;
}

void cpu_mode_changed(struct vcpu *cpu)
{
}

exec_fn *exec_sys_bind(const struct insn *in)
{
	return NULL; /* not tested here */
}

bool debug_must_step(const struct vcpu *cpu)
{
	return false;
}

enum exec_result block_chain(struct vcpu *cpu)
{
	return EXEC_END;
}

/* --- running -------------------------------------------------------------------------------- */

static enum exec_result after(struct vcpu *cpu, const struct insn *in)
{
	cpu->rip = insn_rip(cpu, in);
	return EXEC_END;
}

struct dt_soft *dt_soft_new(void)
{
	struct dt_soft *s = aligned_alloc(DT_PAGE, ALIGN_UP(sizeof(*s), (size_t)DT_PAGE));
	struct vcpu *cpu;

	if (!s) {
		return NULL;
	}
	memset(s, 0, sizeof(*s));
	cpu = &s->cpu;
	cpu->tlb = s->tlb;
	for (uint64_t i = 0; i < TLB_ENTRIES; i++) {
		no_entry(&s->tlb[i], i);
	}
	map_page(s, DT_WINDOW, s->window, true);
	map_page(s, DT_WINDOW + DT_PAGE, s->window + DT_PAGE, true);
	map_page(s, DT_WINDOW_RO, s->window_ro, false);
	cpu->cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_MP | CR0_WP | CR0_ET;
	cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	cpu->efer = EFER_LME | EFER_LMA | EFER_SCE;
	cpu->xcr0 = fpu_xcr0_supported();
	cpu->cpl = 3;
	s->key = cpu->key = MODE_64 | KEY_PE | KEY_USER | KEY_SS32;
	cpu->rflags = FL_FIXED | FL_IF;
	dt_window_fill(s->fill, s->fill_ro);
	return s;
}

void dt_soft_free(struct dt_soft *s)
{
	free(s);
}

bool dt_soft_select(struct dt_soft *s, enum dt_way way)
{
	return way == DT_INTERPRETER;
}

enum dt_how dt_soft_how(const struct dt_soft *s)
{
	return DT_BY_INTERPRETER;
}

struct vcpu *dt_soft_vcpu(struct dt_soft *s)
{
	return &s->cpu;
}

static void load_state(struct dt_soft *s, const struct dt_case *c)
{
	struct vcpu *cpu = &s->cpu;

	memcpy(s->window, s->fill, DT_WINDOW_BYTES);
	memcpy(s->window_ro, s->fill_ro, DT_PAGE);
	memset(s->code, 0xcc, DT_PAGE);
	memcpy(s->code + (c->in.rip - DT_CODE), c->code, c->len);
	if (c->patch_len && c->patch_at >= DT_WINDOW_RO) {
		memcpy(s->window_ro + (c->patch_at - DT_WINDOW_RO), c->patch, c->patch_len);
	} else if (c->patch_len) {
		memcpy(s->window + (c->patch_at - DT_WINDOW), c->patch, c->patch_len);
	}
	memcpy(cpu->gpr, c->in.gpr, sizeof(c->in.gpr));
	cpu->gpr[GPR_ZERO] = 0;
	cpu->segbase[SEG_GS] = c->in.gs_base;
	cpu->rip = c->in.rip;
	cpu->blk_va = c->in.rip;
	cpu->rflags = (c->in.rflags & ~(uint64_t)FL_ARITH) | FL_FIXED;
	cpu->cc = cc_from_flags(c->in.rflags);
	dt_fpu_set(cpu, c->in.xsave);
	cpu->fault = (struct fault){ .vector = 0 };
}

static enum exec_result run_insn(struct vcpu *cpu, struct insn *in)
{
	enum exec_result r;

	insn_bind(in);
	in[1] = (struct insn){ .fn = after, .off = in->len };
	fpu_load(cpu);
	r = in->fn(cpu, in);
	if (r == EXEC_NEXT) {
		r = after(cpu, &in[1]);
	}
	fpu_unload(cpu);
	return r;
}

static void take_fault(const struct vcpu *cpu, struct dt_result *ret)
{
	ret->vector = cpu->fault.vector;
	ret->error = cpu->fault.has_error ? cpu->fault.error : 0;
	ret->cr2 = cpu->fault.has_payload ? cpu->fault.payload : 0;
}

bool dt_soft_access(struct dt_soft *s, uint64_t lin, unsigned size, struct dt_result *ret)
{
	if (check_range(&s->cpu, lin, size, false)) {
		return true;
	}
	take_fault(&s->cpu, ret);
	return false;
}

void dt_run_soft(struct dt_soft *s, const struct dt_case *c, struct dt_result *ret,
		 struct insn *ret_in)
{
	struct vcpu *cpu = &s->cpu;
	enum exec_result r;
	int len;

	load_state(s, c);
	if (c->m32) {
		cpu->key = (s->key & ~(uint32_t)KEY_MODE) | MODE_32 | MODE_FLAT;
	}
	memset(ret, 0, sizeof(*ret));
	len = insn_decode(s->code + (c->in.rip - DT_CODE), 15, c->in.rip, cpu->key & KEY_MODE,
			  &s->insn[0]);
	if (len < 0) {
		memset(ret_in, 0, sizeof(*ret_in));
		s->insn[0] = (struct insn){ .len = 1 };
		r = len == DECODE_UD ? exec_ud(cpu, s->insn) : exec_gp0(cpu, s->insn);
	} else {
		*ret_in = s->insn[0];
		r = run_insn(cpu, s->insn);
	}
	if (c->m32) {
		cpu->key = s->key;
	}
	ret->vector = DT_VECTOR_NONE;
	if (r == EXEC_FAULT) {
		take_fault(cpu, ret);
	} else if (r != EXEC_END) {
		ret->vector = DT_VECTOR_BROKEN;
	}
	memcpy(ret->state.gpr, cpu->gpr, sizeof(ret->state.gpr));
	ASSERT(cpu->gpr[GPR_ZERO] == 0);
	ret->state.rip = cpu->rip;
	ret->state.rflags = cpu->rflags | cc_to_flags(cpu->cc);
	dt_fpu_get(cpu, ret->state.xsave);
	memcpy(ret->window, s->window, DT_WINDOW_BYTES);
}
