/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest for tests of system instructions: descriptor tables, stacks and code at fixed
 * places, in 32-bit protected mode or 64-bit mode, executed one instruction at a time.
 */
#pragma once

#include "softkvm/cpu/blocks.h"
#include "softkvm/cpu/exec_sys_int.h"
#include "softkvm/mmu/testvm.h"

#define GDT       0x1000u
#define IDT       0x2000u
#define TSS       0x4000u
#define TSS_B     0x5000u
#define LDT       0x6000u
#define CODE      0x10000u
#define HANDLER   0x11000u /* handler of vector v: + v * 16 */
#define STACK0    0x20000u
#define STACK1    0x22000u
#define STACK3    0x30000u
#define IST1      0x28000u
#define TABLES    0x100000u
#define TSS_LIMIT 0x20ffu

/* Selectors. */
enum {
	S_CODE0 = 0x08,
	S_DATA0 = 0x10,
	S_CODE3 = 0x18,
	S_DATA3 = 0x20,
	S_TSS = 0x28, /* two entries */
	S_TSS_B = 0x38,
	S_GATE = 0x48,
	/* two entries */ S_CONF = 0x58,
	S_RO = 0x60,
	S_XONLY = 0x68,
	S_NP = 0x70,
	S_CODE16 = 0x78,
	S_DATA16 = 0x80,
	S_LDT = 0x88, /* two entries */
	S_CODE64_3 = 0x98,
	S_CODE1 = 0xa0,
	S_DATA1 = 0xa8,
	S_TASKGATE = 0xb0,
	S_DOWN = 0xb8,
	S_CODE64 = 0xc0,
	S_END = 0xc8,
};

struct sysvm {
	struct testvm *t;
	struct vcpu *cpu;
	uint8_t *ram;
};

static inline void put64(struct sysvm *s, uint32_t at, uint64_t v)
{
	memcpy(s->ram + at, &v, 8);
}
static inline void put32(struct sysvm *s, uint32_t at, uint32_t v)
{
	memcpy(s->ram + at, &v, 4);
}
static inline void put16(struct sysvm *s, uint32_t at, uint16_t v)
{
	memcpy(s->ram + at, &v, 2);
}
static inline uint64_t get64(const struct sysvm *s, uint32_t at)
{
	return load_le64(s->ram + at);
}
static inline uint32_t get32(const struct sysvm *s, uint32_t at)
{
	return load_le32(s->ram + at);
}
static inline uint16_t get16(const struct sysvm *s, uint32_t at)
{
	return load_le16(s->ram + at);
}

/* `ar`: type, S, DPL, P as in bits 8..15 of the upper word, and G, D, L in bits 12..15 (0xc09b). */
static inline uint64_t descriptor(uint32_t base, uint32_t limit, uint16_t ar)
{
	uint32_t lo = (limit & 0xffff) | base << 16;
	uint32_t hi =
		(base >> 16 & 0xff) | (ar & 0xf0ffu) << 8 | (limit & 0xf0000) | (base & 0xff000000);

	return lo | (uint64_t)hi << 32;
}
static inline uint64_t gate32(uint16_t sel, uint32_t off, unsigned type, unsigned dpl, unsigned n)
{
	return (uint32_t)sel << 16 | (off & 0xffff) |
	       (uint64_t)((off & 0xffff0000) | 0x8000 | dpl << 13 | type << 8 | n) << 32;
}
static inline void set_gdt(struct sysvm *s, uint16_t sel, uint64_t d)
{
	put64(s, GDT + (sel & ~7u), d);
}
static inline void set_idt(struct sysvm *s, unsigned vector, uint64_t gate)
{
	put64(s, IDT + vector * (cpu_lma(s->cpu) ? 16 : 8), gate);
}

static inline void fill_tables(struct sysvm *s, bool m64)
{
	static const struct {
		uint16_t sel, ar;
	} flat[] = {
		{ S_CODE0, 0xc09b }, { S_DATA0, 0xc093 },    { S_CODE3, 0xc0fb },
		{ S_DATA3, 0xc0f3 }, { S_CONF, 0xc09e },     { S_RO, 0xc0f0 },
		{ S_XONLY, 0xc0f8 }, { S_NP, 0xc073 },       { S_CODE1, 0xc0bb },
		{ S_DATA1, 0xc0b3 }, { S_CODE64_3, 0xa0fb }, { S_CODE64, 0xa09b },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(flat); i++) {
		set_gdt(s, flat[i].sel, descriptor(0, 0xfffff, flat[i].ar));
	}
	set_gdt(s, S_CODE16, descriptor(0, 0xffff, 0x009b));
	set_gdt(s, S_DATA16, descriptor(0, 0xffff, 0x0093));
	set_gdt(s, S_DOWN, descriptor(0, 0xfff, 0x40f7));
	set_gdt(s, S_TSS, descriptor(TSS, TSS_LIMIT & 0xfff, 0x008b));
	set_gdt(s, S_TSS_B, descriptor(TSS_B, 0x67, 0x0089));
	set_gdt(s, S_LDT, descriptor(LDT, 0xff, 0x0082));
	set_gdt(s, S_TASKGATE, gate32(S_TSS_B, 0, DT_TASK, 3, 0));
	for (unsigned v = 0; v < 32; v++) {
		set_idt(s, v, gate32(m64 ? S_CODE64 : S_CODE0, HANDLER + v * 16, DT_INT, 0, 0));
	}
	if (m64) {
		put64(s, TSS + 4, STACK0);
		put64(s, TSS + 36, IST1);
	} else {
		put32(s, TSS + 4, STACK0);
		put16(s, TSS + 8, S_DATA0);
		put32(s, TSS + 12, STACK1);
		put16(s, TSS + 16, S_DATA1 | 1);
	}
}

/* Load a register's hidden part from the GDT, without checks. */
static inline void force_seg(struct sysvm *s, unsigned index, uint16_t sel)
{
	uint32_t at = GDT + (sel & ~7u);
	struct desc d = { .lo = get32(s, at), .hi = get32(s, at + 4) };

	desc_to_segment(&d, sel, &s->cpu->seg[index]);
}

static inline void set_cpl(struct sysvm *s, unsigned cpl)
{
	bool m64 = cpu_lma(s->cpu);
	uint16_t data = cpl == 3 ? S_DATA3 | 3 : cpl == 1 ? S_DATA1 | 1 : S_DATA0;

	force_seg(s, SEG_CS,
		  cpl == 3   ? (m64 ? S_CODE64_3 : S_CODE3) | 3
		  : cpl == 1 ? S_CODE1 | 1
		  : m64      ? S_CODE64
			     : S_CODE0);
	for (unsigned i = 0; i < 6; i++) {
		if (i != SEG_CS) {
			force_seg(s, i, data);
		}
	}
	s->cpu->cpl = (uint8_t)cpl;
	s->cpu->gpr[RSP] = cpl == 3 ? STACK3 : STACK0 - 0x800;
	cpu_mode_changed(s->cpu);
}

static inline struct sysvm sysvm_new(bool m64)
{
	struct testvm *t = testvm_new(1);
	struct sysvm s = { .t = t, .cpu = t->cpu[0], .ram = t->ram };
	struct vcpu *cpu = s.cpu;

	cpu->vm->default_tsc_khz = 0;
	cpu->cr0 = CR0_PE | CR0_ET | CR0_NE;
	if (m64) {
		put64(&s, TABLES, (TABLES + 0x1000) | 7);
		put64(&s, TABLES + 0x1000, (TABLES + 0x2000) | 7);
		for (unsigned i = 0; i < 8; i++) {
			put64(&s, TABLES + 0x2000 + i * 8, i * MIB(2) | 0x87);
		}
		cpu->cr0 |= CR0_PG;
		cpu->cr4 = CR4_PAE;
		cpu->efer = EFER_LME | EFER_LMA | EFER_NX | EFER_SCE;
		mmu_paging_changed(cpu, 0, 0, 0);
		mmu_set_cr3(cpu, TABLES, false);
	}
	cpu->gdt = (struct dtable){ GDT, S_END - 1 };
	cpu->idt = (struct dtable){ IDT, 0xfff };
	fill_tables(&s, m64);
	cpu->tr = (struct segment){ .base = TSS,
				    .limit = TSS_LIMIT & 0xfff,
				    .sel = S_TSS,
				    .type = DT_TSS_BUSY,
				    .present = 1 };
	cpu->ldtr = (struct segment){ .unusable = 1, .type = DT_LDT };
	cpu->rip = CODE;
	set_cpl(&s, 0);
	return s;
}

static inline void sysvm_free(struct sysvm *s)
{
	testvm_free(s->t);
}

/* Put code where RIP is (flat) and execute its first instruction. Faults stay in cpu->fault. */
static inline enum exec_result exec_bytes(struct sysvm *s, const void *code, unsigned len)
{
	uint64_t flags = s->cpu->rflags;
	const struct insn *in = NULL;
	enum exec_result r;

	memcpy(s->ram + s->cpu->segbase[SEG_CS] + s->cpu->rip, code, len);
	blocks_flush(s->cpu);
	s->cpu->ev.shadow = 0;
	r = block_step(s->cpu, &in);
	if (r == EXEC_END) {
		event_insn_done(s->cpu, in, flags);
	}
	return r;
}
#define EXEC(s, ...) \
	exec_bytes(s, (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }))
#define LE16(v) (uint8_t)(v), (uint8_t)((v) >> 8)
#define LE32(v) LE16(v), LE16((v) >> 16)

/* The last EXEC() must have raised this fault. */
#define CHECK_FAULT(t, s, r, vec, err)                    \
	do {                                              \
		CHECK_EQ(t, r, EXEC_FAULT);               \
		CHECK_EQ(t, (s)->cpu->fault.vector, vec); \
		CHECK_EQ(t, (s)->cpu->fault.error, err);  \
	} while (0)
