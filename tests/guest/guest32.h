/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 32-bit sibling of guest.h: one processor, protected mode without paging (tests turn it on),
 * the way into real mode. See guest.h for what the shared names mean.
 */
#pragma once

#include "report.h"

struct regs {
	u32 edi, esi, ebp, esp_unused, ebx, edx, ecx, eax, ds, es, fs, gs;
	u32 vector, error, eip, cs, eflags;
	u32 esp, ss;                        /* from another ring only */
	u32 v86_es, v86_ds, v86_fs, v86_gs; /* from virtual-8086 mode only */
};
struct caught {
	int vector;
	u32 error, eip, cs, eflags, esp, ss, cr2;
};
int catch_call(void (*fn)(void *), void *arg, struct caught *c);
extern bool (*trap_hook)(struct regs *r);
void idt_set(unsigned vector, void *handler, u16 selector, unsigned dpl, unsigned type);
extern u64 gdt[], idt[256];
struct tss32 {
	u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp,
		esi, edi, es, cs, ss, ds, fs, gs, ldt;
	u16 trap, iomap;
} __attribute__((packed));
extern struct tss32 tss, tss_other;
void gdt_segment(unsigned slot, u32 base, u32 limit, unsigned access, unsigned flags);
/* Put 16-bit code at 0x9200 and call it in real mode (ends by RETF; may use 0x500-0x8fff). */
void real_run(const void *code, unsigned len);
void real_call(void);
/* An address below 1 MiB, hidden from the compiler, which takes small ones for null. */
static inline void *low(u32 address)
{
	__asm__("" : "+r"(address));
	return (void *)address;
}
#define REAL_DATA ((volatile u16 *)low(0x600))
