/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hardware task switches (SDM 3A chapter 7).
 *
 * Theory of operation
 * -------------------
 * Up to begin_task() nothing but memory that the same switch would write again has
 * changed, so that faults report the old task's instruction. The new TSS is read as a whole
 * before that. From then on faults are the new task's: CS, SS and the data segments
 * are checked one after the other, each fault finding RIP at the new task's first instruction, and
 * the rest of the segments marked unusable with their selectors loaded.
 */
#include "softkvm/cpu/exec_sys_int.h"

#define TSS32_SIZE 104u
#define TSS16_SIZE 44u
#define DR6_BT     BIT(15)
#define DR7_LOCAL  0x155u /* L0..L3, LE */

/* A TSS of either size, as registers. */
struct task {
	bool wide;
	uint16_t link, ldt, sel[6]; /* by segment index */
	uint32_t cr3, eip, eflags, gpr[8];
	bool trap;
};

/* Segment registers that the small form has. */
static unsigned seg_count(bool wide)
{
	return wide ? 6 : 4;
}

static void task_parse(const uint8_t *t, bool wide, struct task *ret)
{
	*ret = (struct task){ .wide = wide, .link = load_le16(t) };
	if (wide) {
		ret->cr3 = load_le32(t + 28);
		ret->eip = load_le32(t + 32);
		ret->eflags = load_le32(t + 36);
		for (unsigned i = 0; i < 8; i++) {
			ret->gpr[i] = load_le32(t + 40 + i * 4);
		}
		for (unsigned i = 0; i < 6; i++) {
			ret->sel[i] = load_le16(t + 72 + i * 4);
		}
		ret->ldt = load_le16(t + 96);
		ret->trap = t[100] & 1;
		return;
	}
	ret->eip = load_le16(t + 14);
	ret->eflags = load_le16(t + 16);
	for (unsigned i = 0; i < 8; i++) {
		ret->gpr[i] = load_le16(t + 18 + i * 2) | 0xffff0000;
	}
	for (unsigned i = 0; i < 4; i++) {
		ret->sel[i] = load_le16(t + 34 + i * 2);
	}
	ret->ldt = load_le16(t + 42);
}

static bool read_bytes(struct vcpu *cpu, gva_t lin, uint8_t *out, unsigned size)
{
	for (unsigned i = 0; i < size; i += 4) {
		if (!mmu_sys_load(cpu, (uint32_t)(lin + i), out + i, 4)) {
			return false;
		}
	}
	return true;
}

/* --- the TSS descriptor -------------------------------------------------------------- */
/* IRET reports everything as #TS, and wants the busy one. */
static bool check_tss(struct vcpu *cpu, uint16_t sel, enum task_reason reason, uint32_t ext,
		      struct desc *ret)
{
	bool iret = reason == TASK_IRET;
	enum vector v = iret ? EX_TS : EX_GP;
	uint32_t type, error = sel_error(sel) | ext;

	if ((sel & 4) || sel_null(sel)) {
		return cpu_raise(cpu, v, error);
	}
	if (!desc_read(cpu, sel, ret, v, ext)) {
		return false;
	}
	type = DESC_TYPE(ret);
	if (DESC_S(ret) || (type | 10) != 11 || !(type & 1) || !!(type & 2) != iret) {
		return cpu_raise(cpu, v, error);
	}
	if (!DESC_P(ret)) {
		return cpu_raise(cpu, EX_NP, error);
	}
	if (desc_limit(ret) < (type & 8 ? TSS32_SIZE : TSS16_SIZE) - 1) {
		return cpu_raise(cpu, EX_TS, error);
	}
	return true;
}

/* --- leaving the old task ------------------------------------------------------------ */
static bool store32(struct vcpu *cpu, uint32_t off, uint32_t v)
{
	return mmu_sys_store(cpu, (uint32_t)(cpu->tr.base + off), &v, 4);
}
static bool store16(struct vcpu *cpu, uint32_t off, uint16_t v)
{
	return mmu_sys_store(cpu, (uint32_t)(cpu->tr.base + off), &v, 2);
}

static bool save_wide(struct vcpu *cpu, uint32_t eip, uint32_t eflags)
{
	bool ok = store32(cpu, 32, eip) && store32(cpu, 36, eflags);

	for (unsigned i = 0; ok && i < 8; i++) {
		ok = store32(cpu, 40 + i * 4, (uint32_t)cpu->gpr[i]);
	}
	for (unsigned i = 0; ok && i < 6; i++) {
		ok = store16(cpu, 72 + i * 4, cpu->seg[i].sel);
	}
	return ok;
}

static bool save_narrow(struct vcpu *cpu, uint32_t eip, uint32_t eflags)
{
	bool ok = store16(cpu, 14, (uint16_t)eip) && store16(cpu, 16, (uint16_t)eflags);

	for (unsigned i = 0; ok && i < 8; i++) {
		ok = store16(cpu, 18 + i * 2, (uint16_t)cpu->gpr[i]);
	}
	for (unsigned i = 0; ok && i < 4; i++) {
		ok = store16(cpu, 34 + i * 2, cpu->seg[i].sel);
	}
	return ok;
}

static bool save_task(struct vcpu *cpu, uint64_t next_rip, enum task_reason reason)
{
	uint32_t eflags = (uint32_t)cpu_rflags(cpu);

	if (reason == TASK_IRET) {
		eflags &= ~(uint32_t)FL_NT;
	}
	return cpu->tr.type & 8 ? save_wide(cpu, (uint32_t)next_rip, eflags)
				: save_narrow(cpu, (uint32_t)next_rip, eflags);
}

/* JMP and IRET leave a task that is not busy any more. */
static bool release_old(struct vcpu *cpu, enum task_reason reason)
{
	struct desc d;

	if (reason != TASK_JMP && reason != TASK_IRET) {
		return true;
	}
	return desc_read(cpu, cpu->tr.sel, &d, EX_TS, 0) && desc_set_busy(cpu, &d, false);
}

/* --- entering the new one ------------------------------------------------------------ */
static void new_flags(struct vcpu *cpu, const struct task *t, enum task_reason reason)
{
	uint64_t v = t->eflags;

	if (!t->wide) {
		v &= 0xffff;
	}
	if (reason == TASK_CALL || reason == TASK_GATE) {
		v |= FL_NT;
	}
	cpu_set_rflags(cpu, v);
}

/* Registers and selectors, without looking at any descriptor. False: CR3's PDPTEs are bad. */
static bool begin_task(struct vcpu *cpu, const struct desc *d, uint16_t sel, const struct task *t,
		       enum task_reason reason)
{
	if (t->wide && (cpu->cr0 & CR0_PG) && !mmu_set_cr3(cpu, t->cr3, false)) {
		return cpu_raise(cpu, EX_TS, sel_error(sel));
	}
	desc_to_segment(d, sel, &cpu->tr);
	cpu->tr.type |= 2;
	cpu->cr0 |= CR0_TS;
	cpu->dr7 &= ~(uint64_t)DR7_LOCAL;
	for (unsigned i = 0; i < 8; i++) {
		cpu->gpr[i] = t->gpr[i];
	}
	cpu->rip = t->eip;
	for (unsigned i = 0; i < 6; i++) {
		uint8_t l = 0, db = cpu->seg[i].db;

		cpu->seg[i] = (struct segment){
			.sel = t->sel[i], .unusable = 1, .l = l, .db = db, .s = 1, .type = 1
		};
	}
	cpu->ldtr = (struct segment){ .sel = t->ldt, .unusable = 1, .type = DT_LDT };
	new_flags(cpu, t, reason);
	return true;
}

static bool load_ldt(struct vcpu *cpu, uint16_t sel, uint32_t ext)
{
	struct desc d;

	if (sel_null(sel)) {
		return true;
	}
	if (sel & 4) {
		return cpu_raise(cpu, EX_TS, sel_error(sel) | ext);
	}
	if (!desc_read(cpu, sel, &d, EX_TS, ext)) {
		return false;
	}
	if (DESC_S(&d) || DESC_TYPE(&d) != DT_LDT || !DESC_P(&d)) {
		return cpu_raise(cpu, EX_TS, sel_error(sel) | ext);
	}
	desc_to_segment(&d, sel, &cpu->ldtr);
	return true;
}

static bool load_cs(struct vcpu *cpu, uint16_t sel, uint32_t ext)
{
	struct desc d;
	unsigned rpl = sel & 3;

	if (sel_null(sel)) {
		return cpu_raise(cpu, EX_TS, ext);
	}
	if (!desc_read(cpu, sel, &d, EX_TS, ext)) {
		return false;
	}
	if (!DESC_CODE(&d) || (DESC_CONFORMING(&d) ? DESC_DPL(&d) > rpl : DESC_DPL(&d) != rpl)) {
		return cpu_raise(cpu, EX_TS, sel_error(sel) | ext);
	}
	if (!DESC_P(&d)) {
		return cpu_raise(cpu, EX_NP, sel_error(sel) | ext);
	}
	if (!desc_set_accessed(cpu, &d)) {
		return false;
	}
	segment_for_cs(&d, sel, rpl, &cpu->seg[SEG_CS]);
	return true;
}

static bool load_data(struct vcpu *cpu, unsigned index, uint16_t sel, uint32_t ext)
{
	struct desc d;
	bool conforming;

	if (sel_null(sel)) {
		return true;
	}
	if (!desc_read(cpu, sel, &d, EX_TS, ext)) {
		return false;
	}
	conforming = DESC_CODE(&d) && DESC_CONFORMING(&d);
	if (!desc_readable(&d) ||
	    (!conforming && (DESC_DPL(&d) < cpu->cpl || DESC_DPL(&d) < (sel & 3u)))) {
		return cpu_raise(cpu, EX_TS, sel_error(sel) | ext);
	}
	if (!DESC_P(&d)) {
		return cpu_raise(cpu, EX_NP, sel_error(sel) | ext);
	}
	if (!desc_set_accessed(cpu, &d)) {
		return false;
	}
	desc_to_segment(&d, sel, &cpu->seg[index]);
	return true;
}

static bool load_segments(struct vcpu *cpu, const struct task *t, uint32_t ext)
{
	static const uint8_t data[] = { SEG_DS, SEG_ES, SEG_FS, SEG_GS };

	if (cpu_v86(cpu)) {
		for (unsigned i = 0; i < 6; i++) {
			seg_from_real(cpu, i, t->sel[i], &cpu->seg[i]);
		}
		return load_ldt(cpu, t->ldt, ext);
	}
	cpu->cpl = t->sel[SEG_CS] & 3;
	if (!load_ldt(cpu, t->ldt, ext) || !load_cs(cpu, t->sel[SEG_CS], ext) ||
	    !seg_check_stack(cpu, t->sel[SEG_SS], cpu->cpl, &cpu->seg[SEG_SS], EX_TS, ext)) {
		return false;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
		if (data[i] < seg_count(t->wide) &&
		    !load_data(cpu, data[i], t->sel[data[i]], ext)) {
			return false;
		}
	}
	return true;
}

static bool push_error(struct vcpu *cpu, bool wide, uint32_t error)
{
	struct stack st;

	stack_current(cpu, &st);
	if (!stack_push(cpu, &st, error, wide ? 4 : 2)) {
		return false;
	}
	cpu->gpr[RSP] = stack_merge_rsp(cpu, &st);
	return true;
}

/* A fault of the new task; its tables cannot lie in a device's registers. */
static enum exec_result new_task_fault(struct vcpu *cpu)
{
	cpu_mode_changed(cpu);
	if (cpu->fault.vector == MMU_NEEDS_EXIT) {
		cpu_raise(cpu, EX_TS, sel_error(cpu->tr.sel));
	}
	return EXEC_FAULT;
}

static enum exec_result old_task_fault(const struct vcpu *cpu)
{
	return cpu->fault.vector == MMU_NEEDS_EXIT ? EXEC_EXIT : EXEC_FAULT;
}

enum exec_result task_switch(struct vcpu *cpu, uint16_t sel, enum task_reason reason,
			     uint64_t next_rip, bool has_error, uint32_t error, uint32_t ext)
{
	bool nested = reason == TASK_CALL || reason == TASK_GATE;
	uint8_t raw[TSS32_SIZE];
	uint16_t old = cpu->tr.sel;
	struct task t;
	struct desc d;
	bool wide;

	if (!check_tss(cpu, sel, reason, ext, &d)) {
		return old_task_fault(cpu);
	}
	wide = DESC_TYPE(&d) & 8;
	if (!read_bytes(cpu, desc_base(&d), raw, wide ? TSS32_SIZE : TSS16_SIZE) ||
	    !save_task(cpu, next_rip, reason) ||
	    (nested && !mmu_sys_store(cpu, desc_base(&d), &old, 2)) ||
	    (reason != TASK_IRET && !desc_set_busy(cpu, &d, true)) || !release_old(cpu, reason)) {
		return old_task_fault(cpu);
	}
	task_parse(raw, wide, &t);
	if (!begin_task(cpu, &d, sel, &t, reason)) {
		return old_task_fault(cpu);
	}
	if (!load_segments(cpu, &t, ext)) {
		return new_task_fault(cpu);
	}
	cpu_mode_changed(cpu);
	if ((has_error && !push_error(cpu, wide, error)) ||
	    !cs_target_check(cpu, &cpu->seg[SEG_CS], cpu->rip, ext)) {
		return new_task_fault(cpu);
	}
	if (t.trap) {
		cpu->ev.debug_bits |= DR6_BT;
	}
	return EXEC_END;
}
