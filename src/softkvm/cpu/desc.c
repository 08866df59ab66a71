/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptor tables, and the checks of segment loads (SDM 3A chapters 3 and 5). */
#include "softkvm/cpu/exec_sys_int.h"

#define SEL_LDT 4u

/* --- tables -------------------------------------------------------------------------- */
/* Where `size` bytes of a selector's entry lie; false: beyond the table. Changes nothing. */
static bool desc_locate(const struct vcpu *cpu, uint16_t sel, unsigned size, gva_t *ret)
{
	uint32_t off = sel & ~7u;
	uint64_t base = cpu->gdt.base;
	uint32_t limit = cpu->gdt.limit;

	if (sel & SEL_LDT) {
		if (cpu->ldtr.unusable) {
			return false;
		}
		base = cpu->ldtr.base;
		limit = cpu->ldtr.limit;
	}
	if (off + size - 1 > limit) {
		return false;
	}
	*ret = cpu_lma(cpu) ? base + off : (uint32_t)(base + off);
	return true;
}

static bool desc_load(struct vcpu *cpu, gva_t lin, struct desc *ret)
{
	uint64_t raw;

	if (!mmu_sys_load(cpu, lin, &raw, 8)) {
		return false;
	}
	*ret = (struct desc){ .lo = (uint32_t)raw, .hi = (uint32_t)(raw >> 32), .lin = lin };
	return true;
}

bool desc_read(struct vcpu *cpu, uint16_t sel, struct desc *ret, enum vector vector, uint32_t ext)
{
	gva_t lin;

	if (!desc_locate(cpu, sel, 8, &lin)) {
		return cpu_raise(cpu, vector, sel_error(sel) | ext);
	}
	return desc_load(cpu, lin, ret);
}

bool desc_peek(struct vcpu *cpu, uint16_t sel, struct desc *ret, bool *ret_found)
{
	gva_t lin;

	*ret_found = !sel_null(sel) && desc_locate(cpu, sel, 8, &lin);
	return !*ret_found || desc_load(cpu, lin, ret);
}

bool desc_read_high(struct vcpu *cpu, uint16_t sel, struct desc *d, enum vector vector,
		    uint32_t ext)
{
	gva_t lin;

	if (!desc_locate(cpu, sel, 16, &lin)) {
		return cpu_raise(cpu, vector, sel_error(sel) | ext);
	}
	if (!mmu_sys_load(cpu, lin + 8, &d->high, 8)) {
		return false;
	}
	if ((d->high >> 40) & 0x1f) {
		return cpu_raise(cpu, vector, sel_error(sel) | ext);
	}
	d->high = (uint32_t)d->high;
	return true;
}

/* Set or clear bits of an entry's type byte; no other byte is written. */
static bool desc_update_type(struct vcpu *cpu, struct desc *d, uint8_t set, uint8_t clear)
{
	gva_t lin = d->lin + 5;
	uint8_t byte;

	if (!mmu_sys_load(cpu, lin, &byte, 1)) {
		return false;
	}
	byte = (uint8_t)((byte | set) & ~clear);
	if (!mmu_sys_store(cpu, lin, &byte, 1)) {
		return false;
	}
	d->hi = ((d->hi | (uint32_t)set << 8)) & ~((uint32_t)clear << 8);
	return true;
}

bool desc_set_accessed(struct vcpu *cpu, struct desc *d)
{
	return (DESC_TYPE(d) & 1) || desc_update_type(cpu, d, 1, 0);
}

bool desc_set_busy(struct vcpu *cpu, struct desc *d, bool busy)
{
	return desc_update_type(cpu, d, busy ? 2 : 0, busy ? 0 : 2);
}

void desc_to_segment(const struct desc *d, uint16_t sel, struct segment *ret)
{
	*ret = (struct segment){
		.base = desc_base(d) | (DESC_S(d) ? 0 : d->high << 32),
		.limit = desc_limit(d),
		.sel = sel,
		.type = DESC_TYPE(d),
		.s = DESC_S(d),
		.dpl = DESC_DPL(d),
		.present = DESC_P(d),
		.l = DESC_L(d),
		.db = DESC_D(d),
		.g = (d->hi >> 23) & 1,
		.avl = (d->hi >> 20) & 1,
	};
}

/* --- checks of loads ----------------------------------------------------------------- */
void seg_from_real(const struct vcpu *cpu, unsigned index, uint16_t sel, struct segment *ret)
{
	const struct segment *old = &cpu->seg[index];

	*ret = *old;
	if (cpu_pe(cpu) || old->unusable) {
		/* Virtual-8086 mode, or the register held nothing that could be kept. */
		*ret = (struct segment){
			.limit = 0xffff, .type = 3, .s = 1, .present = 1, .dpl = cpu_pe(cpu) ? 3 : 0
		};
	}
	ret->sel = sel;
	ret->base = (uint32_t)sel << 4;
}

void seg_from_null(const struct vcpu *cpu, unsigned index, uint16_t sel, struct segment *ret)
{
	const struct segment *old = &cpu->seg[index];
	bool keeps = cpu->feat.amd && !cpu_has(cpu, FEAT_NULL_SEL_CLEARS_BASE);

	*ret = (struct segment){ .sel = sel,
				 .unusable = 1,
				 .type = 1,
				 .s = 1,
				 .base = keeps ? old->base : 0,
				 .limit = old->limit };
}

bool seg_check_data(struct vcpu *cpu, uint16_t sel, struct segment *ret)
{
	struct desc d;
	unsigned rpl = sel & 3;
	bool conforming;

	if (!desc_read(cpu, sel, &d, EX_GP, 0)) {
		return false;
	}
	conforming = DESC_CODE(&d) && DESC_CONFORMING(&d);
	if (!desc_readable(&d) ||
	    (!conforming && (rpl > DESC_DPL(&d) || cpu->cpl > DESC_DPL(&d)))) {
		return cpu_raise(cpu, EX_GP, sel_error(sel));
	}
	if (!DESC_P(&d)) {
		return cpu_raise(cpu, EX_NP, sel_error(sel));
	}
	if (!desc_set_accessed(cpu, &d)) {
		return false;
	}
	desc_to_segment(&d, sel, ret);
	return true;
}

bool seg_check_stack(struct vcpu *cpu, uint16_t sel, unsigned cpl, struct segment *ret,
		     enum vector vector, uint32_t ext)
{
	struct desc d;

	if (sel_null(sel)) {
		return cpu_raise(cpu, vector, ext);
	}
	if (!desc_read(cpu, sel, &d, vector, ext)) {
		return false;
	}
	if ((sel & 3u) != cpl || !desc_writable_data(&d) || DESC_DPL(&d) != cpl) {
		return cpu_raise(cpu, vector, sel_error(sel) | ext);
	}
	if (!DESC_P(&d)) {
		return cpu_raise(cpu, EX_SS, sel_error(sel) | ext);
	}
	if (!desc_set_accessed(cpu, &d)) {
		return false;
	}
	desc_to_segment(&d, sel, ret);
	return true;
}

bool seg_prepare(struct vcpu *cpu, unsigned index, uint16_t sel, struct segment *ret)
{
	if (!cpu_protected(cpu)) {
		seg_from_real(cpu, index, sel, ret);
		return true;
	}
	if (index != SEG_SS) {
		if (!sel_null(sel)) {
			return seg_check_data(cpu, sel, ret);
		}
		seg_from_null(cpu, index, sel, ret);
		return true;
	}
	if (sel_null(sel) && cpu_64bit(cpu) && cpu->cpl != 3 && (sel & 3u) == cpu->cpl) {
		seg_from_null(cpu, index, sel, ret);
		ret->dpl = cpu->cpl;
		return true;
	}
	return seg_check_stack(cpu, sel, cpu->cpl, ret, EX_GP, 0);
}

bool seg_commit(struct vcpu *cpu, unsigned index, const struct segment *s)
{
	uint32_t key = cpu->key;

	cpu->seg[index] = *s;
	if (cpu_64bit(cpu)) {
		if (index >= SEG_FS) {
			cpu->segbase[index] = s->base;
		}
		return false;
	}
	cpu_mode_changed(cpu);
	return cpu->key != key;
}

void seg_drop_privileged(struct vcpu *cpu)
{
	static const uint8_t regs[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };

	for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
		const struct segment *s = &cpu->seg[regs[i]];

		if (!s->unusable && s->dpl < cpu->cpl && (s->type & 12) != 12) {
			struct segment null;

			seg_from_null(cpu, regs[i], 0, &null);
			cpu->seg[regs[i]] = null;
		}
	}
}
