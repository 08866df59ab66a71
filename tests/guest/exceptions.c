/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exceptions of long mode: vector, error code, the pushed RIP, order. (SDM 3A chapter 6) */
#include "guest.h"

static struct caught c;

static void do_divide(void *arg)
{
	__asm__ volatile("xorl %%edx, %%edx; movl $1, %%eax; divl %0" ::"r"(0) : "eax", "edx");
}

static void do_divide_overflow(void *arg)
{
	__asm__ volatile("movl $5, %%edx; movl $1, %%eax; divl %0" ::"r"(2) : "eax", "edx");
}

static void do_ud2(void *arg)
{
	__asm__ volatile("ud2");
}

static void test_divide(void)
{
	CHECK_EQ(catch_call(do_divide, NULL, &c), 0);
	CHECK_EQ(catch_call(do_divide_overflow, NULL, &c), 0);
	CHECK_EQ(catch_user(do_divide, NULL, &c), 0);
	CHECK_EQ(c.cs & 3, 3);
}

static void test_undefined(void)
{
	CHECK_EQ(catch_call(do_ud2, NULL, &c), 6);
	CHECK_EQ(*(u16 *)c.rip, 0x0b0f);
	CHECK_EQ(catch_user(do_ud2, NULL, &c), 6);
}

static void read_at(void *p)
{
	(void)*(volatile u8 *)p;
}

static void read_by_rbp(void *p)
{
	__asm__ volatile("pushq %%rbp; movq %0, %%rbp; movb (%%rbp), %%al; popq %%rbp" ::"r"(p)
			 : "al");
}

static void jump_to(void *p)
{
	__asm__ volatile("jmp *%0" ::"r"(p));
}

static void test_non_canonical(void)
{
	void *bad = (void *)0x8000000000000000ul, *edge = (void *)0x0000800000000000ul;

	CHECK_EQ(catch_call(read_at, bad, &c), 13);
	CHECK_EQ(c.error, 0);
	CHECK_EQ(catch_call(read_at, edge, &c), 13);
	CHECK_EQ(catch_call(read_by_rbp, bad, &c), 12);
	CHECK_EQ(c.error, 0);
	CHECK_EQ(catch_call(jump_to, bad, &c), 13);
	CHECK_EQ(c.error, 0);
}

static void do_int3(void *arg)
{
	__asm__ volatile("int3");
}

static void do_int_80(void *arg)
{
	__asm__ volatile("int $0x80");
}

static void do_int_20(void *arg)
{
	__asm__ volatile("int $0x20");
}

static void test_software_interrupts(void)
{
	CHECK_EQ(catch_call(do_int3, NULL, &c), 3);
	CHECK_EQ(((u8 *)c.rip)[-1], 0xcc);
	CHECK_EQ(catch_user(do_int3, NULL, &c), 3);
	CHECK_EQ(catch_user(do_int_80, NULL, &c), 0x80);
	CHECK_EQ(*(u16 *)(c.rip - 2), 0x80cd);
	/* a gate of DPL 0 from CPL 3: #GP with the vector's error code, RIP at the INT */
	CHECK_EQ(catch_user(do_int_20, NULL, &c), 13);
	CHECK_EQ(c.error, 0x20 * 8 + 2);
	CHECK_EQ(*(u16 *)c.rip, 0x20cd);
	CHECK_EQ(catch_call(do_int_20, NULL, &c), 0x20);
}

static void do_int_30(void *arg)
{
	__asm__ volatile("int $0x30");
}

static void test_gate_not_present(void)
{
	struct idt_entry saved = idt[0x30];
	struct caught np;

	idt[0x30].flags &= (u16)~0x8000;
	CHECK_EQ(catch_call(do_int_20, NULL, &c), 0x20);
	CHECK_EQ(catch_call(do_int_30, NULL, &np), 11);
	CHECK_EQ(np.error, 0x30 * 8 + 2);
	idt[0x30] = saved;
	idt[0x30].selector = 0x10; /* a data segment */
	CHECK_EQ(catch_call(do_int_30, NULL, &np), 13);
	CHECK_EQ(np.error, 0x10);
	idt[0x30] = saved;
}

static u8 df_stack[4096] __attribute__((aligned(16)));

static void fault_with_bad_gate(void *arg)
{
	idt[14].flags &= (u16)~0x8000; /* #PF's gate is not present: #NP while delivering: #DF */
	read_at((void *)(WINDOW));
}

static void test_double_fault(void)
{
	struct idt_entry pf = idt[14], df = idt[8];

	window_init();
	tss[0].ist[0] = (u64)(df_stack + sizeof(df_stack));
	idt_set(8, (u8 *)((u64)idt[8].low | (u64)idt[8].middle << 16 | (u64)idt[8].high << 32), 0,
		1, 0xe);
	CHECK_EQ(catch_call(fault_with_bad_gate, NULL, &c), 8);
	CHECK_EQ(c.error, 0);
	CHECK_EQ(c.cr2, WINDOW);
	idt[14] = pf;
	idt[8] = df;
}

#define PRIVILEGED(name, code)                                            \
	static void name(void *arg)                                       \
	{                                                                 \
		__asm__ volatile(code ::: "rax", "rcx", "rdx", "memory"); \
	}
PRIVILEGED(do_hlt, "hlt")
PRIVILEGED(do_cli, "cli")
PRIVILEGED(do_sti, "sti")
PRIVILEGED(do_rdmsr, "movl $0x10, %%ecx; rdmsr")
PRIVILEGED(do_wrmsr, "movl $0x10, %%ecx; wrmsr")
PRIVILEGED(do_mov_cr0, "movq %%cr0, %%rax")
PRIVILEGED(do_mov_cr3, "movq %%rax, %%cr3")
PRIVILEGED(do_lgdt, "lgdt (%%rsp)")
PRIVILEGED(do_invlpg, "invlpg (%%rsp)")
PRIVILEGED(do_wbinvd, "wbinvd")
PRIVILEGED(do_clts, "clts")
PRIVILEGED(do_mov_dr, "movq %%dr7, %%rax")
PRIVILEGED(do_in, "inb $0x80, %%al")
PRIVILEGED(do_ltr, "movw $0x50, %%ax; ltr %%ax")
PRIVILEGED(do_swapgs, "swapgs")
PRIVILEGED(do_lmsw, "lmsw %%ax")
PRIVILEGED(do_sysret, "sysretq")

static void test_privileged(void)
{
	static void (*const list[])(void *) = {
		do_hlt,     do_cli,  do_sti,    do_rdmsr,  do_wrmsr,  do_mov_cr0,
		do_mov_cr3, do_lgdt, do_invlpg, do_wbinvd, do_clts,   do_mov_dr,
		do_in,      do_ltr,  do_swapgs, do_lmsw,   do_sysret,
	};

	for (unsigned i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		CHECK_EQ(catch_user(list[i], NULL, &c), 13);
		CHECK_EQ(c.error, 0);
	}
}

static void do_in_allowed(void *arg)
{
	(void)inb(0x80);
	user_exit();
}

static void test_io_bitmap(void)
{
	tss[0].bitmap[0x80 / 8] &= (u8)~1;
	CHECK_EQ(catch_user(do_in_allowed, NULL, &c), -1);
	tss[0].bitmap[0x80 / 8] |= 1;
	CHECK_EQ(catch_user(do_in_allowed, NULL, &c), 13);
}

static void do_bad_msr(void *arg)
{
	rdmsr(0x12345678);
}

static void do_bad_cr4(void *arg)
{
	write_cr4(read_cr4() | 1ul << 31);
}

static void do_bad_cr0(void *arg)
{
	write_cr0((read_cr0() & ~1ul)); /* PG without PE */
}

static void do_lme_off(void *arg)
{
	wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x100ul);
}

static void do_pae_off(void *arg)
{
	write_cr4(read_cr4() & ~0x20ul);
}

static void test_bad_control(void)
{
	CHECK_EQ(catch_call(do_bad_msr, NULL, &c), 13);
	CHECK_EQ(catch_call(do_bad_cr4, NULL, &c), 13);
	CHECK_EQ(catch_call(do_bad_cr0, NULL, &c), 13);
	CHECK_EQ(catch_call(do_lme_off, NULL, &c), 13);
	CHECK_EQ(catch_call(do_pae_off, NULL, &c), 13);
}

static void do_unaligned(void *arg)
{
	u64 v[2];

	__asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq; movl 1(%0), %%eax; pushfq; "
			 "andq $~0x40000, (%%rsp); popfq" ::"r"(v)
			 : "eax", "memory");
	user_exit();
}

static void test_alignment(void)
{
	write_cr0(read_cr0() | 1ul << 18);
	CHECK_EQ(catch_user(do_unaligned, NULL, &c), 17);
	CHECK_EQ(c.error, 0);
	write_cr0(read_cr0() & ~(1ul << 18));
	CHECK_EQ(catch_user(do_unaligned, NULL, &c), -1);
}

static void do_fpu(void *arg)
{
	__asm__ volatile("fnop");
}

static void do_sse(void *arg)
{
	__asm__ volatile("pxor %%xmm0, %%xmm0" ::: "memory");
}

static void test_fpu_traps(void)
{
	u64 cr0 = read_cr0(), cr4 = read_cr4();

	write_cr0(cr0 | 8);
	CHECK_EQ(catch_call(do_fpu, NULL, &c), 7);
	CHECK_EQ(catch_call(do_sse, NULL, &c), 7);
	__asm__ volatile("clts");
	CHECK_EQ(catch_call(do_sse, NULL, &c), -1);
	write_cr0((cr0 & ~8ul) | 4);
	CHECK_EQ(catch_call(do_fpu, NULL, &c), 7);
	CHECK_EQ(catch_call(do_sse, NULL, &c), 6);
	write_cr0(cr0);
	write_cr4(cr4 & ~0x200ul);
	CHECK_EQ(catch_call(do_sse, NULL, &c), 6);
	write_cr4(cr4);
}

static void do_iret_bad(void *arg)
{
	__asm__ volatile("pushq $0x10; pushq %%rsp; pushq $2; pushq $8; pushq %0; iretq" ::"r"(
		0x8000000000000000ul));
}

static void do_mov_bad_seg(void *arg)
{
	__asm__ volatile("movw %w0, %%ds" ::"r"((u64)arg));
}

static void test_segment_errors(void)
{
	CHECK_EQ(catch_call(do_iret_bad, NULL, &c), 13);
	CHECK_EQ(catch_call(do_mov_bad_seg, (void *)0xfff8, &c), 13);
	CHECK_EQ(c.error, 0xfff8);
	CHECK_EQ(catch_call(do_mov_bad_seg, (void *)0x50, &c), 13); /* a TSS */
	CHECK_EQ(c.error, 0x50);
	gdt[40] = 0x00cf13000000ffff; /* not present */
	CHECK_EQ(catch_call(do_mov_bad_seg, (void *)(40 * 8), &c), 11);
	CHECK_EQ(c.error, 40 * 8);
}

static u64 long_insn_rip;

static void do_too_long(void *arg)
{
	/* fifteen prefixes and an opcode: 16 bytes */
	__asm__ volatile("leaq 1f(%%rip), %%rax; movq %%rax, %0; 1: .fill 15, 1, 0x66; nop"
			 : "=m"(long_insn_rip)::"rax");
}

static void test_length_limit(void)
{
	CHECK_EQ(catch_call(do_too_long, NULL, &c), 13);
	CHECK_EQ(c.rip, long_insn_rip);
}

static void do_lock_ud(void *arg)
{
	__asm__ volatile(".byte 0xf0, 0x90"); /* lock nop */
}

static void test_lock_prefix(void)
{
	CHECK_EQ(catch_call(do_lock_ud, NULL, &c), 6);
}

const struct guest_test tests[] = {
	{ "divide errors", test_divide },
	{ "undefined opcode", test_undefined },
	{ "non-canonical addresses", test_non_canonical },
	{ "software interrupts", test_software_interrupts },
	{ "gates not present or wrong", test_gate_not_present },
	{ "double fault on an IST stack", test_double_fault },
	{ "privileged instructions", test_privileged },
	{ "I/O permission bitmap", test_io_bitmap },
	{ "reserved control bits", test_bad_control },
	{ "alignment check", test_alignment },
	{ "FPU and SSE traps", test_fpu_traps },
	{ "segment errors", test_segment_errors },
	{ "instruction length limit", test_length_limit },
	{ "LOCK where it may not stand", test_lock_prefix },
	{ 0 },
};
