/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small 64-bit guests for unit tests: code is assembled into the test program's own read-only data
 * and copied to the guest's memory.
 *
 * Memory: page tables at 0x1000 (identity, 2 MiB pages, 16 MiB; the 2 MiB at GUEST_MMIO are no
 * RAM), IDT at GUEST_IDT, stack below GUEST_STACK, code at GUEST_CODE.
 */
#pragma once

#include "softkvm/mmu/testvm.h"

#define GUEST_IDT   0x8000
#define GUEST_GDT   0x9000
#define GUEST_STACK 0x20000
#define GUEST_CODE  0x100000u
#define GUEST_DATA  0x300000
#define GUEST_MMIO  0x40000000ull

/*
 * GUEST(name, "instructions"): bytes from name_start to name_end. Addresses within the code are
 * relative to RIP, so it may be copied anywhere.
 */
#define GUEST(name, text)                                                            \
	__asm__(".pushsection .rodata\n" #name "_start:\n" text "\n" #name "_end:\n" \
		".popsection\n");                                                    \
	extern const uint8_t name##_start[], name##_end[]

static inline void guest64_tables(struct testvm *t)
{
	uint64_t *pml4 = (uint64_t *)(void *)(t->ram + 0x1000);
	uint64_t *pdpt = (uint64_t *)(void *)(t->ram + 0x2000);
	uint64_t *pd = (uint64_t *)(void *)(t->ram + 0x3000);
	uint64_t *pd_mmio = (uint64_t *)(void *)(t->ram + 0x4000);

	pml4[0] = 0x2007;
	pdpt[0] = 0x3007;
	pdpt[1] = 0x4007;
	for (unsigned i = 0; i < 8; i++) {
		pd[i] = (uint64_t)i << 21 | 0x87;
	}
	pd_mmio[0] = GUEST_MMIO | 0x87;
	store_le64(t->ram + GUEST_GDT + 8, 0x00af9b000000ffff);
	store_le64(t->ram + GUEST_GDT + 16, 0x00cf93000000ffff);
}

static inline struct segment guest64_segment(uint16_t sel, uint8_t type, bool l)
{
	return (struct segment){ .sel = sel,
				 .limit = 0xffffffff,
				 .type = type,
				 .s = 1,
				 .present = 1,
				 .l = l,
				 .db = !l,
				 .g = 1 };
}

/* Long mode, CPL 0, interrupts off, at `rip`. */
static inline void guest64_state(struct vcpu *cpu, uint64_t rip)
{
	uint64_t cr0 = cpu->cr0, cr4 = cpu->cr4, efer = cpu->efer;

	cpu->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET | CR0_NE;
	cpu->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR;
	cpu->efer = EFER_LME | EFER_LMA | EFER_NX;
	cpu->cr3 = 0x1000;
	for (unsigned i = 0; i < 6; i++) {
		cpu->seg[i] =
			i == SEG_CS ? guest64_segment(8, 11, true) : guest64_segment(16, 3, false);
	}
	cpu->gdt = (struct dtable){ GUEST_GDT, 23 };
	cpu->idt = (struct dtable){ GUEST_IDT, 256 * 16 - 1 };
	cpu->cpl = 0;
	cpu->rip = rip;
	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->gpr[RSP] = GUEST_STACK;
	cpu_set_rflags(cpu, FL_FIXED);
	atomic_store(&cpu->mp_state, KVM_MP_STATE_RUNNABLE);
	ASSERT(mmu_paging_changed(cpu, cr0, cr4, efer) && mmu_set_cr3(cpu, cpu->cr3, false));
	cpu_mode_changed(cpu);
}

static inline void guest64_gate(struct testvm *t, unsigned vector, uint64_t rip)
{
	uint8_t *g = t->ram + GUEST_IDT + vector * 16;

	store_le64(g, (rip & 0xffff) | 8 << 16 | 0x8eull << 40 | (rip >> 16 & 0xffff) << 48);
	store_le64(g + 8, rip >> 32);
}

static inline void guest64_put(struct testvm *t, gpa_t at, const uint8_t *start, const uint8_t *end)
{
	memcpy(t->ram + at, start, (size_t)(end - start));
}

/* A VM whose vCPUs are about to run `name` at GUEST_CODE. */
#define guest64_new(vcpus, name) guest64_load(vcpus, name##_start, name##_end)
static inline struct testvm *guest64_load(unsigned vcpus, const uint8_t *start, const uint8_t *end)
{
	struct testvm *t = testvm_new(vcpus);

	guest64_tables(t);
	guest64_put(t, GUEST_CODE, start, end);
	for (unsigned i = 0; i < vcpus; i++) {
		guest64_state(t->cpu[i], GUEST_CODE);
	}
	return t;
}
