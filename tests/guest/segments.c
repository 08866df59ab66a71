/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segments and control transfers: loads, LAR and LSL, call gates, compatibility
 * mode, SYSCALL, SYSENTER, IRET to each ring, FS and GS bases.
 */
#include "guest.h"

#define SLOT 40 /* a free GDT entry */
#define SEL  (SLOT * 8)

static struct caught c;
volatile u64 landed, landed_rcx, landed_r11, landed_rsp, landed_cs;

static void test_lar_lsl(void)
{
	u64 r = 0, zf;

	__asm__ volatile("lar %2, %0; setz %b1; movzbq %b1, %1"
			 : "=&r"(r), "=&q"(zf)
			 : "r"((u64)8));
	CHECK_EQ(zf, 1);
	CHECK_EQ(r & 0xf0ff00, 0xa09b00); /* the limit bits are undefined */
	__asm__ volatile("lsl %2, %0; setz %b1; movzbq %b1, %1"
			 : "=&r"(r), "=&q"(zf)
			 : "r"((u64)0x10));
	CHECK_EQ(zf, 1);
	CHECK_EQ(r, 0xffffffff);
	__asm__ volatile("lsl %2, %0; setz %b1; movzbq %b1, %1"
			 : "=&r"(r), "=&q"(zf)
			 : "r"((u64)0xfff0));
	CHECK_EQ(zf, 0);
	__asm__ volatile("verr %w1; setz %b0; movzbq %b0, %0" : "=&q"(zf) : "r"((u64)8));
	CHECK_EQ(zf, 1);
	__asm__ volatile("verw %w1; setz %b0; movzbq %b0, %0" : "=&q"(zf) : "r"((u64)8));
	CHECK_EQ(zf, 0);
	gdt[SLOT] = 0x0000820000000067; /* an LDT */
	__asm__ volatile("lar %2, %0; setz %b1; movzbq %b1, %1"
			 : "=&r"(r), "=&q"(zf)
			 : "r"((u64)SEL));
	CHECK_EQ(zf, 1);
	CHECK_EQ(r, 0x8200);
}

static void test_accessed_bit(void)
{
	gdt[SLOT] = 0x00cf92000000ffff;
	__asm__ volatile("movw %w0, %%es" ::"r"((u64)SEL));
	CHECK_EQ(*(volatile u64 *)&gdt[SLOT], 0x00cf93000000ffff);
	__asm__ volatile("movw %w0, %%es" ::"r"((u64)0));
}

static void test_fs_gs_bases(void)
{
	u64 v;

	wrmsr(0xc0000100, (u64)scratch[0]);
	*(volatile u64 *)(scratch[0] + 8) = 0x1234;
	__asm__ volatile("movq %%fs:8, %0" : "=r"(v));
	CHECK_EQ(v, 0x1234);
	wrmsr(0xc0000101, (u64)scratch[1]);
	wrmsr(0xc0000102, (u64)scratch[2]);
	__asm__ volatile("swapgs");
	CHECK_EQ(rdmsr(0xc0000101), (u64)scratch[2]);
	CHECK_EQ(rdmsr(0xc0000102), (u64)scratch[1]);
	/* a selector load takes the descriptor's 32-bit base */
	gdt[SLOT] = 0x12cf93345678ffff;
	__asm__ volatile("movw %w0, %%fs" ::"r"((u64)SEL));
	CHECK_EQ(rdmsr(0xc0000100), 0x12345678);
	__asm__ volatile("movw %w0, %%fs; movw %w0, %%gs" ::"r"((u64)0));
}

static void test_fsgsbase(void)
{
	u32 a, b, cc, d;
	u64 cr4 = read_cr4(), v;

	cpuid(7, 0, &a, &b, &cc, &d);
	if (!(b & 1)) {
		skip("no FSGSBASE");
		return;
	}
	write_cr4(cr4 | 1ul << 16);
	__asm__ volatile("wrfsbase %0" ::"r"(0x123456789abcul));
	CHECK_EQ(rdmsr(0xc0000100), 0x123456789abc);
	__asm__ volatile("rdfsbase %0" : "=r"(v));
	CHECK_EQ(v, 0x123456789abc);
	write_cr4(cr4);
	wrmsr(0xc0000100, 0);
}

/* --- SYSCALL --------------------------------------------------------------------- */
__asm__(".globl syscall_entry\n"
	"syscall_entry:\n"
	"	movq %rcx, landed_rcx(%rip)\n"
	"	movq %r11, landed_r11(%rip)\n"
	"	movq %rsp, landed_rsp(%rip)\n"
	"	pushfq\n"
	"	popq landed(%rip)\n"
	"	movq %cs, %rax\n"
	"	movq %rax, landed_cs(%rip)\n"
	"	sysretq\n");
void syscall_entry(void);

static void do_syscall(void *arg)
{
	__asm__ volatile("std; syscall; cld" ::: "rax", "rcx", "r11", "memory", "cc");
	user_exit();
}

static void do_syscall_kernel(void *arg)
{
	__asm__ volatile("syscall");
}

static void test_syscall(void)
{
	u64 efer = rdmsr(0xc0000080);

	wrmsr(0xc0000081, 0x0028000800000000ul); /* SYSRET base 28|3, SYSCALL 08 */
	wrmsr(0xc0000082, (u64)syscall_entry);
	wrmsr(0xc0000084, 0x400);
	CHECK_EQ(catch_user(do_syscall, NULL, &c), -1);
	CHECK_EQ(landed_cs, 8);
	CHECK_EQ(landed & 0x400, 0);
	CHECK_EQ(landed_r11 & 0x400, 0x400);
	CHECK_EQ(*(u16 *)(landed_rcx - 2), 0x050f);
	wrmsr(0xc0000080, efer & ~1ul);
	CHECK_EQ(catch_user(do_syscall, NULL, &c), 6);
	CHECK_EQ(catch_call(do_syscall_kernel, NULL, &c), 6);
	wrmsr(0xc0000080, efer);
}

/* --- compatibility mode -------------------------------------------------------------- */
__asm__("	.code32\n"
	".globl compat_code\n"
	"compat_code:\n"
	"	movl $0x10, %eax\n" /* the way back from ring 3 left a null selector */
	"	movl %eax, %ds\n"
	"	movl $0xffffffff, %eax\n"
	"	incl %eax\n" /* 40 is INC here, a prefix in 64-bit mode */
	"	.byte 0x40\n"
	"	pushl %eax\n"
	"	popl %eax\n"
	"	movl %eax, landed\n"
	"	movl %esp, landed_rsp\n"
	"	lret\n"
	"	.code64\n");
void compat_code(void);

static void run_compat(void *arg)
{
	u64 save;

	/* far call through memory to the 32-bit segment; it returns with a 32-bit far return */
	struct {
		u32 offset;
		u16 selector;
	} __attribute__((packed)) target = { (u32)(u64)compat_code, 0x18 };

	/* the 64-bit frame of LCALL with a 32-bit operand: 4-byte CS and EIP, as LRET wants */
	__asm__ volatile(
		"movq %%rsp, %0; leaq stacks+8192(%%rip), %%rsp; lcall *(%1); movq %0, %%rsp"
		: "=&b"(save)
		: "r"(&target)
		: "rax", "memory", "cc");
}

static void test_compatibility_mode(void)
{
	landed = 0xdead;
	CHECK_EQ(catch_call(run_compat, NULL, &c), -1);
	CHECK_EQ((u32)landed, 1);
}

/* --- call gates ------------------------------------------------------------------------- */
__asm__(".globl gate_entry\n"
	"gate_entry:\n"
	"	movq %rsp, landed_rsp(%rip)\n"
	"	movq %cs, %rax\n"
	"	movq %rax, landed_cs(%rip)\n"
	"	movq 8(%rsp), %rax\n"
	"	movq %rax, landed(%rip)\n"
	"	lretq\n");
void gate_entry(void);

static void call_gate(void *arg)
{
	struct {
		u32 offset;
		u16 selector;
	} __attribute__((packed)) target = { 0, (u16)(u64)arg };

	__asm__ volatile("lcall *%0" ::"m"(target) : "rax", "memory");
	__asm__ volatile("movq %%cs, %%rax; testb $3, %%al; jz 1f; int $0x81; 1:" ::
				 : "rax", "memory");
}

static void set_gate(unsigned slot, void (*fn)(void), u16 selector, unsigned dpl)
{
	u64 p = (u64)fn;

	gdt[slot] = (p & 0xffff) | (u64)selector << 16 | (u64)(0x8c00 | dpl << 13) << 32 |
		    (p >> 16 & 0xffff) << 48;
	gdt[slot + 1] = p >> 32;
}

static void test_call_gates(void)
{
	set_gate(SLOT, gate_entry, 8, 3);
	CHECK_EQ(catch_call(call_gate, (void *)SEL, &c), -1);
	CHECK_EQ(landed_cs, 8);
	CHECK_EQ(landed, 8);
	/* from ring 3: a stack of ring 0 from the TSS, and back */
	CHECK_EQ(catch_user(call_gate, (void *)(SEL | 3), &c), -1);
	CHECK_EQ(landed_cs, 8);
	CHECK_EQ(landed, 0x3b);
	CHECK_EQ(landed_rsp, tss[0].rsp[0] - 32);
	/* a gate of DPL 0 from ring 3 */
	set_gate(SLOT, gate_entry, 8, 0);
	CHECK_EQ(catch_user(call_gate, (void *)(SEL | 3), &c), 13);
	CHECK_EQ(c.error, SEL);
	/* not present */
	gdt[SLOT] &= ~(1ul << 47);
	CHECK_EQ(catch_call(call_gate, (void *)SEL, &c), 11);
	CHECK_EQ(c.error, SEL);
}

static void iret_to(void *arg)
{
	const u64 *f = arg;

	__asm__ volatile("pushq %0; pushq %1; pushq %2; pushq %3; pushq %4; iretq" ::"m"(f[0]),
			 "m"(f[1]), "m"(f[2]), "m"(f[3]), "m"(f[4]));
}

static void test_iret_checks(void)
{
	static u64 frame[5]; /* ss rsp rflags cs rip */

	/* to ring 3 with a ring-0 stack segment */
	frame[0] = 0x10;
	frame[1] = (u64)(scratch[0] + 2048);
	frame[2] = 2;
	frame[3] = 0x3b;
	frame[4] = (u64)user_exit;
	CHECK_EQ(catch_call(iret_to, frame, &c), 13);
	CHECK_EQ(c.error, 0x10);
	/* a code selector that is data */
	frame[0] = 0x33;
	frame[3] = 0x33;
	CHECK_EQ(catch_call(iret_to, frame, &c), 13);
	CHECK_EQ(c.error, 0x30);
	/* null */
	frame[3] = 0;
	CHECK_EQ(catch_call(iret_to, frame, &c), 13);
	CHECK_EQ(c.error, 0);
}

static void do_ltr(void *arg)
{
	__asm__ volatile("ltr %w0" ::"r"(arg));
}

static void test_ltr(void)
{
	u64 saved = gdt[0x50 / 8];

	/* a busy TSS cannot be loaded */
	CHECK_EQ(saved >> 40 & 0xf, 0xb);
	CHECK_EQ(catch_call(do_ltr, (void *)0x50, &c), 13);
	CHECK_EQ(c.error, 0x50);
	CHECK_EQ(catch_call(do_ltr, (void *)0, &c), 13);
	CHECK_EQ(c.error, 0);
}

static void user_sgdt(void *arg)
{
	u8 buffer[10];

	__asm__ volatile("sgdt %0" : "=m"(buffer));
	user_exit();
}

static void test_umip(void)
{
	u32 a, b, cc, d;
	u64 cr4 = read_cr4();

	cpuid(7, 0, &a, &b, &cc, &d);
	if (!(cc >> 2 & 1)) {
		skip("no UMIP");
		return;
	}
	write_cr4(cr4 | 1ul << 11);
	CHECK_EQ(catch_user(user_sgdt, NULL, &c), 13);
	write_cr4(cr4);
	CHECK_EQ(catch_user(user_sgdt, NULL, &c), -1);
}

const struct guest_test tests[] = {
	{ "LAR, LSL, VERR, VERW", test_lar_lsl },
	{ "accessed bit", test_accessed_bit },
	{ "FS and GS bases, SWAPGS", test_fs_gs_bases },
	{ "FSGSBASE", test_fsgsbase },
	{ "SYSCALL and SYSRET", test_syscall },
	{ "compatibility mode", test_compatibility_mode },
	{ "call gates", test_call_gates },
	{ "IRET's checks", test_iret_checks },
	{ "LTR", test_ltr },
	{ "UMIP", test_umip },
	{ 0 },
};
