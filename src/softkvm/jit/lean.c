/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The usual cases of SYSCALL, SYSRET and IRET: between 64-bit code of privileges 0 and 3.
 *
 * Theory of operation
 *
 * Translated code calls these with only the registers at home that C does not preserve, and with
 * the guest's vector registers in the host's: this file is compiled without use of vector
 * registers, and calls nothing. A function looks at all that could make the case an unusual one
 * before it changes anything. False: it is one, nothing was changed, the handler does it.
 *
 * Of what cpu_mode_changed() computes only key, TLB table and mix differ between the two
 * privileges: segments' bases, FP traps and guards are the same.
 */
#include "softkvm/cpu/exec.h"
#include "softkvm/cpu/exec_sys_int.h"
#include "softkvm/jit/jit_int.h"

#define SYSRET_FLAGS 0x3c7fd7u
/* What IRET loads at privilege 0: all but VM, and RF, which has no effect here. */
#define IRET_FLAGS \
	(FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_AC | FL_VIF | FL_VIP | FL_ID)

/* As cpu_set_rflags(), for flags that exist and without what follows. */
static void set_flags(struct vcpu *cpu, uint64_t v)
{
	cpu->cc = cc_from_flags(v);
	cpu->rflags = (v & ~(uint64_t)FL_ARITH) | FL_FIXED;
}

/* Has the run loop something to do, also with these flags, or is the TLB another one? */
static bool unusual(const struct vcpu *cpu, uint64_t v, bool user)
{
	return jit_wanted_elsewhere(cpu) || (v & FL_TF) ||
	       (user && (v & FL_AC) && (cpu->cr0 & CR0_AM)) ||
	       ((v & FL_IF) && !(cpu->rflags & FL_IF) && cpu->jit.irq_waits);
}

/* Privilege is 0 or 3 now, in 64-bit mode; flags are set. */
static void privilege_changed(struct vcpu *cpu, unsigned cpl)
{
	struct jit_vcpu *j = &cpu->jit;

	cpu->cpl = (uint8_t)cpl;
	if (cpl == 3) {
		cpu->key = MODE_64 | KEY_PE | KEY_USER;
		cpu->tlb = cpu->tlb_user;
		j->mix = j->space_mix[j->space];
	} else {
		cpu->key = MODE_64 | KEY_PE;
		cpu->tlb = cpu->tlb_super[(cpu->rflags & FL_AC) != 0];
		j->mix = j->supervisor_mix;
	}
}

static void load_flat(struct segment *s, uint16_t sel, unsigned dpl, bool code)
{
	s->base = 0;
	s->limit = UINT32_MAX;
	s->sel = sel;
	s->type = code ? 11 : 3;
	s->s = 1;
	s->dpl = (uint8_t)dpl;
	s->present = 1;
	s->l = code;
	s->db = !code;
	s->g = 1;
	s->avl = 0;
	s->unusable = 0;
}

bool jit_lean_syscall(struct vcpu *cpu, const struct jit_call *call)
{
	uint64_t flags = cpu_rflags(cpu), new = flags & ~(cpu->msr.sfmask | FL_RF);
	uint16_t sel = (uint16_t)(cpu->msr.star >> 32);

	if (!(cpu->efer & EFER_SCE) || unusual(cpu, new, false)) {
		return false;
	}
	cpu->gpr[RCX] = call->next_rip + jit_base(cpu);
	cpu->gpr[R11] = flags & ~(uint64_t)FL_RF;
	cpu->rip = cpu->msr.lstar;
	load_flat(&cpu->seg[SEG_CS], sel & 0xfffc, 0, true);
	load_flat(&cpu->seg[SEG_SS], (uint16_t)(sel + 8), 0, false);
	set_flags(cpu, new);
	privilege_changed(cpu, 0);
	return true;
}

bool jit_lean_sysret(struct vcpu *cpu, const struct jit_call *call)
{
	uint64_t rip = cpu->gpr[RCX], flags = cpu->gpr[R11] & SYSRET_FLAGS;
	uint16_t sel = (uint16_t)(cpu->msr.star >> 48);

	(void)call;
	if (!(cpu->efer & EFER_SCE) || !canonical(cpu, rip) || unusual(cpu, flags, true)) {
		return false;
	}
	cpu->rip = rip;
	load_flat(&cpu->seg[SEG_CS], (uint16_t)((sel + 16) | 3), 3, true);
	load_flat(&cpu->seg[SEG_SS], (uint16_t)((sel + 8) | 3), 3, false);
	set_flags(cpu, flags);
	privilege_changed(cpu, 3);
	return true;
}

/* --- IRET ------------------------------------------------------------------------------------- */

/* [lin, lin + size) if `tlb` grants reads there, within a page. */
static const uint8_t *readable(const struct tlb_entry *tlb, gva_t lin, unsigned size)
{
	const struct tlb_entry *e = &tlb[(lin >> 12) & (TLB_ENTRIES - 1)];

	return lin - e->rtag <= 4096 - size ? tlb_host(e, lin) : NULL;
}

/* The GDT's entry of a selector. */
static bool descriptor(const struct vcpu *cpu, uint16_t sel, struct desc *ret)
{
	uint32_t off = sel & ~7u;
	const uint8_t *p;

	if ((sel & 4) || off + 7 > cpu->gdt.limit) {
		return false;
	}
	p = readable(cpu->tlb_super[0], cpu->gdt.base + off, 8);
	if (!p) {
		return false;
	}
	ret->lo = load_le32(p);
	ret->hi = load_le32(p + 4);
	return true;
}

static void load_segment(struct segment *s, const struct desc *d, uint16_t sel)
{
	s->base = desc_base(d);
	s->limit = desc_limit(d);
	s->sel = sel;
	s->type = DESC_TYPE(d);
	s->s = 1;
	s->dpl = DESC_DPL(d);
	s->present = 1;
	s->l = DESC_L(d);
	s->db = DESC_D(d);
	s->g = (d->hi >> 23) & 1;
	s->avl = (d->hi >> 20) & 1;
	s->unusable = 0;
}

/* 64-bit code of this privilege, or writable data: present, and marked as accessed. */
static bool is_code(const struct desc *d, unsigned cpl)
{
	return DESC_S(d) && (DESC_TYPE(d) & 13) == 9 && DESC_P(d) && DESC_DPL(d) == cpl &&
	       DESC_L(d) && !DESC_D(d);
}
static bool is_stack(const struct desc *d, unsigned cpl)
{
	return DESC_S(d) && (DESC_TYPE(d) & 11) == 3 && DESC_P(d) && DESC_DPL(d) == cpl;
}

/* Would a change to privilege 3 leave a segment that is too privileged? */
static bool privileged_segments(const struct vcpu *cpu)
{
	static const uint8_t regs[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };

	for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
		const struct segment *s = &cpu->seg[regs[i]];

		if (!s->unusable && s->dpl < 3) {
			return true;
		}
	}
	return false;
}

bool jit_lean_iret(struct vcpu *cpu, const struct jit_call *call)
{
	const uint8_t *frame = readable(cpu->tlb, cpu->gpr[RSP], 40);
	uint64_t rip, flags;
	struct desc cs, ss;
	uint16_t cs_sel, ss_sel;
	unsigned cpl;
	bool null;

	(void)call;
	if (!frame || (cpu->rflags & FL_NT) || cpu->ev.nmi_masked) {
		return false;
	}
	rip = load_le64(frame);
	cs_sel = load_le16(frame + 8);
	flags = load_le64(frame + 16) & IRET_FLAGS;
	ss_sel = load_le16(frame + 32);
	cpl = cs_sel & 3;
	null = ss_sel == 0 && cpl == 0;
	if ((cpl != 0 && (cpl != 3 || privileged_segments(cpu))) || (ss_sel & 3u) != cpl ||
	    unusual(cpu, flags, cpl == 3) || !canonical(cpu, rip)) {
		return false;
	}
	if (!descriptor(cpu, cs_sel, &cs) || !is_code(&cs, cpl) ||
	    (!null && (!descriptor(cpu, ss_sel, &ss) || !is_stack(&ss, cpl)))) {
		return false;
	}
	cpu->rip = rip;
	cpu->gpr[RSP] = load_le64(frame + 24);
	load_segment(&cpu->seg[SEG_CS], &cs, cs_sel);
	if (null) {
		cpu->seg[SEG_SS] = (struct segment){ .unusable = 1, .s = 1, .type = 1 };
	} else {
		load_segment(&cpu->seg[SEG_SS], &ss, ss_sel);
	}
	set_flags(cpu, flags);
	privilege_changed(cpu, cpl);
	return true;
}
