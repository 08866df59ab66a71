/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pushes and pops that are made before anything is committed; stacks from the TSS. */
#include "softkvm/cpu/exec_sys_int.h"

void stack_current(const struct vcpu *cpu, struct stack *ret)
{
	const struct segment *ss = &cpu->seg[SEG_SS];

	*ret = (struct stack){ .ss = ss, .sp = cpu->gpr[RSP], .cpl = cpu->cpl };
	ret->flat = cpu_64bit(cpu);
	ret->mask = ret->flat ? UINT64_MAX : ss->db ? UINT32_MAX : 0xffff;
	ret->sp &= ret->mask;
}

/* As seg_linear() for a stack that may not be SS yet. */
static bool stack_linear(struct vcpu *cpu, const struct stack *st, uint64_t off, unsigned size,
			 bool write, gva_t *ret)
{
	const struct segment *s = st->ss;
	uint64_t last = off + size - 1;
	bool ok;

	if (st->flat) {
		*ret = off;
		return (canonical(cpu, off) && canonical(cpu, last)) ||
		       cpu_raise(cpu, EX_SS, st->error);
	}
	if (s->type & 4 && !(s->type & 8)) {
		ok = off > s->limit && last <= (s->db ? UINT32_MAX : 0xffffu);
	} else {
		ok = last <= s->limit;
	}
	if (cpu_protected(cpu)) {
		ok = ok && !s->unusable && (!write || (s->type & 10) == 2);
	}
	*ret = (uint32_t)(s->base + off);
	return ok || cpu_raise(cpu, EX_SS, st->error);
}

bool stack_push(struct vcpu *cpu, struct stack *st, uint64_t v, unsigned size)
{
	uint64_t sp = (st->sp - size) & st->mask;
	gva_t lin;
	bool ok;

	if (!stack_linear(cpu, st, sp, size, true, &lin)) {
		return false;
	}
	if (st->implicit) {
		ok = mmu_sys_store(cpu, lin, &v, size);
	} else {
		ok = size == 8   ? mmu_store(cpu, lin, &v, 8)
		     : size == 4 ? mmu_store(cpu, lin, &v, 4)
				 : mmu_store(cpu, lin, &v, 2);
	}
	if (ok) {
		st->sp = sp;
	}
	return ok;
}

bool stack_pop(struct vcpu *cpu, struct stack *st, unsigned size, uint64_t *ret)
{
	uint64_t v = 0;
	gva_t lin;
	bool ok;

	if (!stack_linear(cpu, st, st->sp, size, false, &lin)) {
		return false;
	}
	ok = size == 8   ? mmu_load(cpu, lin, &v, 8)
	     : size == 4 ? mmu_load(cpu, lin, &v, 4)
			 : mmu_load(cpu, lin, &v, 2);
	if (ok) {
		st->sp = (st->sp + size) & st->mask;
		*ret = v;
	}
	return ok;
}

uint64_t stack_merge_rsp(const struct vcpu *cpu, const struct stack *st)
{
	/* A 32-bit stack pointer clears the upper half as any 32-bit result. */
	if (st->mask == 0xffff) {
		return (cpu->gpr[RSP] & ~UINT64_C(0xffff)) | st->sp;
	}
	return st->sp;
}

static bool tss_fault(struct vcpu *cpu, uint32_t ext)
{
	return cpu_raise(cpu, EX_TS, sel_error(cpu->tr.sel) | ext);
}

static bool tss_load(struct vcpu *cpu, uint32_t off, void *out, unsigned size, uint32_t ext)
{
	uint64_t lin = cpu->tr.base + off;

	if (cpu->tr.unusable || off + size - 1 > cpu->tr.limit) {
		return tss_fault(cpu, ext);
	}
	return mmu_sys_load(cpu, cpu_lma(cpu) ? lin : (uint32_t)lin, out, size);
}

bool tss_stack(struct vcpu *cpu, unsigned dpl, unsigned ist, uint32_t ext, uint16_t *ret_ss,
	       uint64_t *ret_sp)
{
	uint64_t sp = 0;
	uint16_t ss = 0;
	bool ok;

	if (cpu_lma(cpu)) {
		*ret_ss = (uint16_t)dpl; /* null, with the new CPL as RPL */
		return tss_load(cpu, ist != 0 ? 28 + ist * 8 : 4 + dpl * 8, ret_sp, 8, ext);
	}
	if (cpu->tr.type & 8) {
		ok = tss_load(cpu, 8 + dpl * 8, &ss, 2, ext) &&
		     tss_load(cpu, 4 + dpl * 8, &sp, 4, ext);
	} else {
		ok = tss_load(cpu, 4 + dpl * 4, &ss, 2, ext) &&
		     tss_load(cpu, 2 + dpl * 4, &sp, 2, ext);
	}
	*ret_ss = ss;
	*ret_sp = sp;
	return ok;
}
