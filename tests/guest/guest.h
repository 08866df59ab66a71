/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the bare-metal test guests share: output in TAP on the serial port,
 * exceptions as results, processors, the local APIC. One program a topic; each
 * defines `tests` and is told the processors' number by fw_cfg.
 */
#pragma once

#include "report.h"

/* --- exceptions --------------------------------------------------------------------- */
struct regs {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};
struct caught {
	long vector; /* -1: none */
	u64 error, rip, cr2, rflags, cs, rsp;
};
/* Call fn(arg); an exception inside ends it and is described in *c. Its vector, or -1. */
long catch_call(void (*fn)(void *), void *arg, struct caught *c);
/* Sees every exception and interrupt first: true = handled, go on at regs->rip. */
extern bool (*trap_hook)(struct regs *regs);
/* Run fn(arg) at CPL 3 on a stack of its own; it ends by user_exit() or an exception. */
long catch_user(void (*fn)(void *), void *arg, struct caught *c);
#define USER_EXIT_VECTOR 0x81
static inline void user_exit(void)
{
	__asm__ volatile("int $0x81" ::: "memory");
}
void idt_set(unsigned vector, void *handler, unsigned dpl, unsigned ist, unsigned type);
struct idt_entry {
	u16 low, selector, flags, middle;
	u32 high, zero;
};
extern struct idt_entry idt[256];
struct tss64 {
	u32 zero;
	u64 rsp[3];
	u64 zero1;
	u64 ist[7];
	u64 zero2;
	u16 zero3, iomap;
	u8 bitmap[8193];
} __attribute__((packed));
extern struct tss64 tss[8];
extern u64 gdt[];

/* --- processors ------------------------------------------------------------------------- */
unsigned cpus_present(void);
/* Start all of them; each calls fn(number) and halts. Returns when all have come back, number 0 is
 * us. */
void cpus_run(void (*fn)(unsigned cpu));
unsigned cpu_number(void);

/* --- hardware ------------------------------------------------------------------------------ */
static inline void outl(u16 port, u32 v)
{
	__asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}
static inline void outw(u16 port, u16 v)
{
	__asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port));
}
static inline u64 rdmsr(u32 index)
{
	u32 lo, hi;
	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(index));
	return (u64)hi << 32 | lo;
}
static inline void wrmsr(u32 index, u64 v)
{
	__asm__ volatile("wrmsr" ::"c"(index), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}
static inline u64 rdtsc(void)
{
	u32 lo, hi;
	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (u64)hi << 32 | lo;
}
static inline void cpuid(u32 leaf, u32 sub, u32 *a, u32 *b, u32 *c, u32 *d)
{
	__asm__ volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "a"(leaf), "c"(sub));
}
#define READ_REG(name)                                                    \
	static inline u64 read_##name(void)                               \
	{                                                                 \
		u64 v;                                                    \
		__asm__ volatile("mov %%" #name ", %0" : "=r"(v));        \
		return v;                                                 \
	}                                                                 \
	static inline void write_##name(u64 v)                            \
	{                                                                 \
		__asm__ volatile("mov %0, %%" #name ::"r"(v) : "memory"); \
	}
READ_REG(cr0)
READ_REG(cr2)
READ_REG(cr3)
READ_REG(cr4)
READ_REG(cr8)
READ_REG(dr0)
READ_REG(dr6)
READ_REG(dr7)
static inline void invlpg(void *p)
{
	__asm__ volatile("invlpg (%0)" ::"r"(p) : "memory");
}
static inline void cpu_relax(void)
{
	__asm__ volatile("pause");
}
static inline u64 rflags(void)
{
	u64 v;
	__asm__ volatile("pushfq; popq %0" : "=r"(v));
	return v;
}
#define APIC_BASE 0xfee00000ul
static inline u32 apic_read(u32 reg)
{
	return *(volatile u32 *)(APIC_BASE + reg);
}
static inline void apic_write(u32 reg, u32 v)
{
	*(volatile u32 *)(APIC_BASE + reg) = v;
}
void apic_enable(void);
void apic_eoi(void);

/* --- paging: 4 KiB tables for one 2 MiB window at WINDOW, whose entries the tests set ------------
 */
#define WINDOW 0x7f800000ul /* linear; identity page tables are split there by window_init() */
#define PTE_P  1ul
#define PTE_W  2ul
#define PTE_U  4ul
#define PTE_A  32ul
#define PTE_D  64ul
#define PTE_PS 128ul
#define PTE_G  256ul
#define PTE_NX (1ul << 63)
extern volatile u64 window_pt[512], page_dirs[], pdpt[], pml4[];
void window_init(void);
extern u8 scratch[8][4096]; /* page-aligned, to be mapped */
