/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Legacy modes: segment limits, rings, call gates with parameters, hardware tasks,
 * virtual-8086 mode, real mode, 32-bit and PAE paging, the instructions that 64-bit mode lost.
 */
#include "guest32.h"

#define SLOT 16
#define SEL  (SLOT * 8)

static struct caught c;
static u8 area[4096] __attribute__((aligned(4096)));
static u8 ring3_stack[4096] __attribute__((aligned(16)));
static volatile u32 note[8];

/* --- segments ------------------------------------------------------------------------- */
static void read_es(void *at)
{
	__asm__ volatile("movl $0x80, %%ecx; movw %%cx, %%es; movb %%es:(%0), %%al; "
			 "movl $0x10, %%ecx; movw %%cx, %%es" ::"r"(at)
			 : "eax", "ecx");
}

static void read_es4(void *at)
{
	__asm__ volatile("movl $0x80, %%ecx; movw %%cx, %%es; movl %%es:(%0), %%eax; "
			 "movl $0x10, %%ecx; movw %%cx, %%es" ::"r"(at)
			 : "eax", "ecx");
}

static void write_es(void *at)
{
	__asm__ volatile("movl $0x80, %%ecx; movw %%cx, %%es; movb $1, %%es:(%0); "
			 "movl $0x10, %%ecx; movw %%cx, %%es" ::"r"(at)
			 : "ecx", "memory");
}

static void reload_es(void)
{
	__asm__ volatile("movw %w0, %%es" ::"r"(0x10));
}

static void test_limits(void)
{
	gdt_segment(SLOT, (u32)area, 99, 0x93, 4);
	CHECK_EQ(catch_call(read_es, (void *)99, &c), -1);
	CHECK_EQ(catch_call(read_es, (void *)100, &c), 13);
	CHECK_EQ(c.error, 0);
	CHECK_EQ(catch_call(read_es4, (void *)96, &c), -1);
	CHECK_EQ(catch_call(read_es4, (void *)97, &c), 13);
	CHECK_EQ(catch_call(write_es, (void *)4, &c), -1);
	/* read-only */
	gdt_segment(SLOT, (u32)area, 99, 0x91, 4);
	CHECK_EQ(catch_call(write_es, (void *)4, &c), 13);
	CHECK_EQ(catch_call(read_es, (void *)4, &c), -1);
	/* expand-down: valid above the limit */
	gdt_segment(SLOT, (u32)area - 0x1000, 0xfff, 0x97, 4);
	CHECK_EQ(catch_call(read_es, (void *)0xfff, &c), 13);
	CHECK_EQ(catch_call(read_es, (void *)0x1000, &c), -1);
	/* expand-down with B = 0 ends at 64 KiB */
	gdt_segment(SLOT, (u32)area - 0x1000, 0xfff, 0x97, 0);
	CHECK_EQ(catch_call(read_es, (void *)0x10000, &c), 13);
	/* page granularity */
	gdt_segment(SLOT, 0, 0x1, 0x93, 0xc);
	CHECK_EQ(catch_call(read_es, (void *)0x1fff, &c), -1);
	CHECK_EQ(catch_call(read_es, (void *)0x2000, &c), 13);
	reload_es();
}

static void null_read(void *arg)
{
	__asm__ volatile("xorl %%ecx, %%ecx; movw %%cx, %%es; movb %%es:(%0), %%al" ::"r"(area)
			 : "eax", "ecx");
}

extern u8 gates[];

static void load_ss(void *sel)
{
	__asm__ volatile("movw %w0, %%ss" ::"r"(sel));
}

static void far_jump(void *sel)
{
	struct __attribute__((packed)) {
		u32 offset;
		u16 selector;
	} target = { 0, (u16)(u32)sel };

	__asm__ volatile("ljmp *%0" ::"m"(target));
}

static void test_loads(void)
{
	CHECK_EQ(catch_call(null_read, NULL, &c), 13);
	CHECK_EQ(c.error, 0);
	reload_es();
	CHECK_EQ(catch_call(load_ss, (void *)0, &c), 13);
	CHECK_EQ(c.error, 0);
	CHECK_EQ(catch_call(load_ss, (void *)8, &c), 13);
	CHECK_EQ(c.error, 8);
	gdt_segment(SLOT, 0, 0xfffff, 0x13, 0xc); /* not present */
	CHECK_EQ(catch_call(load_ss, (void *)SEL, &c), 12);
	CHECK_EQ(c.error, SEL);
	CHECK_EQ(catch_call(far_jump, (void *)0x10, &c), 13);
	CHECK_EQ(c.error, 0x10);
	CHECK_EQ(catch_call(far_jump, (void *)0, &c), 13);
	gdt_segment(SLOT, 0, 0xfffff, 0x1b, 0xc);
	CHECK_EQ(catch_call(far_jump, (void *)SEL, &c), 11);
	CHECK_EQ(c.error, SEL);
}

/* --- instructions that only these modes have -------------------------------------------- */
static void do_into(void *arg)
{
	__asm__ volatile("movl $0x7fffffff, %%eax; addl $1, %%eax; into" ::: "eax");
}

static void do_bound(void *arg)
{
	static const u32 bounds[2] = { 5, 10 };

	__asm__ volatile("boundl %0, %1" ::"r"(arg), "m"(bounds));
}

static void do_aam0(void *arg)
{
	__asm__ volatile("movw $0x1234, %%ax; .byte 0xd4, 0" ::: "eax");
}

static void test_lost_instructions(void)
{
	u32 a, f;
	struct __attribute__((packed)) {
		u32 offset;
		u16 selector;
	} far = { 0x12345678, 0x10 };

	CHECK_EQ(catch_call(do_into, NULL, &c), 4);
	CHECK_EQ(catch_call(do_bound, (void *)7, &c), -1);
	CHECK_EQ(catch_call(do_bound, (void *)4, &c), 5);
	CHECK_EQ(catch_call(do_bound, (void *)11, &c), 5);
	CHECK_EQ(catch_call(do_aam0, NULL, &c), 0);
	__asm__ volatile("movl $0x0009, %%eax; addb $8, %%al; daa; pushfl; popl %1"
			 : "=&a"(a), "=&r"(f));
	CHECK_EQ(a & 0xff, 0x17);
	__asm__ volatile("movl $0x20, %%eax; subb $9, %%al; das" : "=&a"(a));
	CHECK_EQ(a & 0xff, 0x11);
	__asm__ volatile("movl $0x0138, %%eax; addb $0x37, %%al; aaa" : "=&a"(a));
	CHECK_EQ(a & 0xffff, 0x0205);
	__asm__ volatile("movl $53, %%eax; aam" : "=&a"(a));
	CHECK_EQ(a & 0xffff, 0x0503);
	__asm__ volatile("movl $0x0503, %%eax; aad" : "=&a"(a));
	CHECK_EQ(a & 0xffff, 53);
	__asm__ volatile("stc; .byte 0xd6" : "=a"(a)); /* SALC */
	CHECK_EQ(a & 0xff, 0xff);
	__asm__ volatile("les %1, %0" : "=r"(a) : "m"(far));
	CHECK_EQ(a, 0x12345678);
	/* ARPL */
	__asm__ volatile("movl $0x10, %%eax; movl $3, %%ecx; arpl %%cx, %%ax"
			 : "=&a"(a)::"ecx", "cc");
	CHECK_EQ(a, 0x13);
	/* PUSHA, POPA */
	__asm__ volatile("movl $7, %%eax; pushal; movl $0, %%eax; popal" : "=&a"(a));
	CHECK_EQ(a, 7);
	__asm__ volatile("enter $16, $2; movl %%ebp, %0; leave" : "=r"(a));
}

/* --- rings ------------------------------------------------------------------------------------ */
static void to_ring3(void *fn)
{
	__asm__ volatile("movl $0x23, %%eax; movw %%ax, %%ds; movw %%ax, %%es\n"
			 "pushl $0x23; pushl %0; pushl $2; pushl $0x1b; pushl %1; iretl" ::"r"(
				 ring3_stack + sizeof(ring3_stack)),
			 "r"(fn)
			 : "eax", "memory");
}

__asm__(".globl ring3_int80, ring3_cli, ring3_callgate\n"
	"ring3_int80: int $0x80\n"
	"ring3_cli: cli\n"
	"ring3_callgate: pushl $0x1111; pushl $0x2222; lcall $0x83, $0; int $0x80\n"
	".globl gate_target\n"
	"gate_target: movl 8(%esp), %eax; movl %eax, note; movl 12(%esp), %eax; movl %eax, note+4\n"
	"  movl %cs, %eax; movl %eax, note+8; movl %esp, note+12; lret $8\n");
void ring3_int80(void);
void ring3_cli(void);
void ring3_callgate(void);
void gate_target(void);

static void test_rings(void)
{
	u32 top = (u32)(ring3_stack + sizeof(ring3_stack));

	CHECK_EQ(catch_call(to_ring3, ring3_int80, &c), 0x80);
	CHECK_EQ(c.cs, 0x1b);
	CHECK_EQ(c.ss, 0x23);
	CHECK_EQ(c.esp, top);
	CHECK_EQ(catch_call(to_ring3, ring3_cli, &c), 13);
	CHECK_EQ(c.error, 0);
	/* a call gate with two parameters */
	gdt[SLOT] = ((u32)gate_target & 0xffff) | 8ull << 16 | (u64)0xec02 << 32 |
		    (u64)((u32)gate_target >> 16) << 48;
	CHECK_EQ(catch_call(to_ring3, ring3_callgate, &c), 0x80);
	CHECK_EQ(note[0], 0x2222);
	CHECK_EQ(note[1], 0x1111);
	CHECK_EQ(note[2], 8);
	CHECK_EQ(note[3], tss.esp0 - 24);
	CHECK_EQ(c.esp, top); /* LRET 8 dropped the parameters on both stacks */
}

/* --- hardware tasks ------------------------------------------------------------------------------
 */
static u8 task_stack[4096] __attribute__((aligned(16)));

__asm__(".globl task_entry\n"
	"task_entry:\n"
	"  movl %eax, note\n"
	"  str %ax\n"
	"  movzwl %ax, %eax\n"
	"  movl %eax, note+4\n"
	"  pushfl\n"
	"  popl note+8\n"
	"  movl %cr0, %eax\n"
	"  movl %eax, note+12\n"
	"  iretl\n"
	"  movl $0x77, note+16\n"
	"  iretl\n");
void task_entry(void);

static void prepare_task(void)
{
	memset(&tss_other, 0, sizeof(tss_other));
	tss_other.eip = (u32)task_entry;
	tss_other.eflags = 2;
	tss_other.eax = 0x4711;
	tss_other.esp = (u32)(task_stack + sizeof(task_stack));
	tss_other.es = tss_other.ss = tss_other.ds = tss_other.fs = tss_other.gs = 0x10;
	tss_other.cs = 8;
	tss_other.iomap = sizeof(tss_other);
	gdt_segment(8, (u32)&tss_other, sizeof(tss_other) - 1, 0x89, 0);
}

static void call_task(void *arg)
{
	__asm__ volatile("lcall $0x40, $0" ::: "memory", "eax");
}

static void test_task_switch(void)
{
	u32 cr0;

	prepare_task();
	__asm__ volatile("clts");
	CHECK_EQ(catch_call(call_task, NULL, &c), -1);
	CHECK_EQ(note[0], 0x4711);
	CHECK_EQ(note[1], 0x40);
	CHECK_EQ(note[2] & 0x4000, 0x4000); /* NT */
	CHECK_EQ(note[3] & 8, 8);           /* TS */
	CHECK_EQ(tss_other.link, 0x38);
	CHECK_EQ(gdt[7] >> 40 & 0xff, 0x8b); /* we are busy again */
	CHECK_EQ(gdt[8] >> 40 & 0xff, 0x89); /* it is not */
	__asm__ volatile("movl %%cr0, %0" : "=r"(cr0));
	CHECK_EQ(cr0 & 8, 8);
	/* again: it goes on behind its IRET */
	note[4] = 0;
	CHECK_EQ(catch_call(call_task, NULL, &c), -1);
	CHECK_EQ(note[4], 0x77);
	/* a busy task */
	gdt[8] |= 2ull << 40;
	CHECK_EQ(catch_call(call_task, NULL, &c), 13);
	CHECK_EQ(c.error, 0x40);
	/* a task gate in the IDT */
	prepare_task();
	idt_set(0x50, 0, 0x40, 0, 5);
	__asm__ volatile("int $0x50" ::: "memory");
	CHECK_EQ(note[0], 0x4711);
	/* too short */
	gdt_segment(8, (u32)&tss_other, 0x66, 0x89, 0);
	CHECK_EQ(catch_call(call_task, NULL, &c), 10);
	CHECK_EQ(c.error, 0x40);
	__asm__ volatile("clts");
}

/* --- virtual-8086 mode
 * ------------------------------------------------------------------------------ */
static void to_v86(void *arg)
{
	/* SS:SP 0:8000, CS:IP 920:0, data segments 60 */
	__asm__ volatile(
		"pushl $0x60; pushl $0x60; pushl $0x60; pushl $0x60; pushl $0; pushl $0x8000\n"
		"pushl %0; pushl $0x920; pushl $0; iretl" ::"r"((u32)arg)
		: "memory");
}

static void test_v86(void)
{
	/* mov $0x1234, %ax; mov %ax, (0); int $0x20 */
	static const u8 code[] = { 0xb8, 0x34, 0x12, 0xa3, 0, 0, 0xcd, 0x20 };
	/* hlt */
	static const u8 hlt[] = { 0xf4 };
	/* pushf; pop (2); cli; int3 */
	static const u8 flags[] = { 0x9c, 0x8f, 0x06, 2, 0, 0xfa, 0xcc };

	memcpy(low(0x9200), code, sizeof(code));
	REAL_DATA[0] = 0;
	/* IOPL 0: INT faults to the monitor */
	CHECK_EQ(catch_call(to_v86, (void *)0x20002, &c), 13);
	CHECK_EQ(c.error, 0);
	CHECK_EQ(c.cs, 0x920);
	CHECK_EQ(c.eip, 6);
	CHECK_EQ(c.eflags & 0x20000, 0x20000);
	CHECK_EQ(c.ss, 0);
	CHECK_EQ(c.esp & 0xffff, 0x8000);
	CHECK_EQ(REAL_DATA[0], 0x1234);
	/* IOPL 3: goes through the 32-bit gate, whose DPL must allow ring 3 */
	idt_set(0x20, (void *)0, 8, 3, 0xe);
	extern u8 gates[];
	idt_set(0x20, gates + 0x20 * 16, 8, 3, 0xe);
	CHECK_EQ(catch_call(to_v86, (void *)0x23002, &c), 0x20);
	CHECK_EQ(c.eip, 8);
	memcpy(low(0x9200), hlt, sizeof(hlt));
	CHECK_EQ(catch_call(to_v86, (void *)0x23002, &c), 13);
	memcpy(low(0x9200), flags, sizeof(flags));
	CHECK_EQ(catch_call(to_v86, (void *)0x20002, &c), 13); /* PUSHF with IOPL 0 */
	CHECK_EQ(c.eip, 0);
	CHECK_EQ(catch_call(to_v86, (void *)0x23002, &c), 3);
	CHECK_EQ(REAL_DATA[1] & 0x3000, 0x3000);
}

/* --- real mode
 * ------------------------------------------------------------------------------------------ */
static void test_real_mode(void)
{
	/* a handler of INT 0x21 at 0:700 that adds 1 to AX, then real code:
	 * mov $0x1000,%ax; int $0x21; mov %ax,(0x600); mov %sp,(0x602); mov $0xffff,%bx; mov
	 * %bx,%ds; mov 0x710,%al (ffff:0710 = 100700: above 1 MiB with A20 on); xor %bx,%bx; mov
	 * %bx,%ds; mov %al,(0x604); pushf; pop %ax; mov %ax,(0x606); retf */
	static const u8 handler[] = { 0x40, 0xcf };
	static const u8 code[] = {
		0xb8, 0x00, 0x10, 0xcd, 0x21, 0xa3, 0x00, 0x06, 0x89, 0x26, 0x02,
		0x06, 0xbb, 0xff, 0xff, 0x8e, 0xdb, 0xa0, 0x10, 0x07, 0x31, 0xdb,
		0x8e, 0xdb, 0xa2, 0x04, 0x06, 0x9c, 0x58, 0xa3, 0x06, 0x06, 0xcb,
	};

	memcpy(low(0x700), handler, sizeof(handler));
	*(volatile u32 *)low(0x21 * 4) = 0x00000700;
	*(volatile u8 *)low(0x100700) = 0xa2;
	*(volatile u8 *)low(0x700) = handler[0];
	real_run(code, sizeof(code));
	CHECK_EQ(REAL_DATA[0], 0x1001);
	CHECK_EQ(REAL_DATA[1], 0x8ff0 - 4);
	CHECK_EQ(REAL_DATA[2] & 0xff, 0xa2);
	CHECK_EQ(REAL_DATA[3] & 0xc002, 2);
}

static void test_real_faults(void)
{
	/* INT 0's handler at 0:710: incw (0x600); add $2 to the return IP; iret:
	 * push %bp; mov %sp,%bp; addw $2,2(%bp); pop %bp; incw %cs:0x600; iret */
	static const u8 handler[] = { 0x55, 0x89, 0xe5, 0x83, 0x46, 0x02, 0x02,
				      0x5d, 0x2e, 0xff, 0x06, 0x00, 0x06, 0xcf };
	/* xor %bx,%bx; div %bx (2 bytes); retf */
	static const u8 divide[] = { 0x31, 0xdb, 0xf7, 0xf3, 0xcb };
	/* a word at offset ffff: #GP (13): mov 0xffff,%bx is 4 bytes; the handler skips 2, so two
	 * NOP-like bytes must remain: 8b 1e ff ff -> "ff ff" is no instruction; use es: prefix-free
	 * a1 (3 bytes): a1 ff ff -> skip 2 leaves "ff"; so the handler of 13 skips 4 */
	static const u8 handler13[] = { 0x55, 0x89, 0xe5, 0x83, 0x46, 0x02, 0x04,
					0x5d, 0x2e, 0xff, 0x06, 0x02, 0x06, 0xcf };
	static const u8 wrap[] = { 0x8b, 0x1e, 0xff, 0xff, 0xcb };

	memcpy(low(0x710), handler, sizeof(handler));
	memcpy(low(0x730), handler13, sizeof(handler13));
	*(volatile u32 *)low(0 * 4) = 0x00000710;
	*(volatile u32 *)low(13 * 4) = 0x00000730;
	REAL_DATA[0] = REAL_DATA[1] = 0;
	real_run(divide, sizeof(divide));
	CHECK_EQ(REAL_DATA[0], 1);
	real_run(wrap, sizeof(wrap));
	CHECK_EQ(REAL_DATA[1], 1);
}

/* --- paging of 32 bits and PAE
 * ------------------------------------------------------------------------------ */
static u32 directory[1024] __attribute__((aligned(4096))),
	table[1024] __attribute__((aligned(4096)));
static u64 pae_pdpt[4] __attribute__((aligned(32)));
static u64 pae_dirs[4][512] __attribute__((aligned(4096))),
	pae_table[512] __attribute__((aligned(4096)));
#define WINDOW 0x7f800000u

static u32 get_cr4(void)
{
	u32 v;

	__asm__ volatile("movl %%cr4, %0" : "=r"(v));
	return v;
}

static void set_cr4(u32 v)
{
	__asm__ volatile("movl %0, %%cr4" ::"r"(v) : "memory");
}

static void set_paging(u32 cr3, bool on)
{
	u32 cr0;

	__asm__ volatile("movl %%cr0, %0" : "=r"(cr0));
	if (on) {
		__asm__ volatile("movl %0, %%cr3" ::"r"(cr3) : "memory");
		cr0 |= 0x80010000u;
	} else {
		cr0 &= ~0x80000000u;
	}
	__asm__ volatile("movl %0, %%cr0; jmp 1f; 1:" ::"r"(cr0) : "memory");
}

static void read_window(void *arg)
{
	note[0] = *(volatile u8 *)(WINDOW + (u32)arg);
}

static void write_window(void *arg)
{
	*(volatile u8 *)(WINDOW + (u32)arg) = 9;
}

static void test_paging_32(void)
{
	u32 cr4 = get_cr4();

	for (u32 i = 0; i < 1024; i++) {
		directory[i] = i << 22 | 0x87; /* 4 MiB pages */
	}
	memset(table, 0, sizeof(table));
	directory[WINDOW >> 22] = (u32)table | 7;
	table[(WINDOW >> 12) & 1023] = (u32)area | 5; /* present, user, read-only */
	area[3] = 0x33;
	set_cr4((cr4 & ~0x20u) | 0x10);
	set_paging((u32)directory, true);
	CHECK_EQ(catch_call(read_window, (void *)3, &c), -1);
	CHECK_EQ(note[0], 0x33);
	CHECK_EQ(((volatile u32 *)table)[(WINDOW >> 12) & 1023] & 0x60, 0x20);
	CHECK_EQ(catch_call(write_window, (void *)3, &c), 14); /* WP is set */
	CHECK_EQ(c.error, 3);
	CHECK_EQ(c.cr2, WINDOW + 3);
	CHECK_EQ(catch_call(read_window, (void *)0x1000, &c), 14);
	CHECK_EQ(c.error, 0);
	CHECK_EQ(((volatile u32 *)directory)[1] & 0x20, 0x20); /* our own code */
	set_paging(0, false);
	set_cr4(cr4);
}

static void load_bad_pdpt(void *arg)
{
	__asm__ volatile("movl %0, %%cr3" ::"r"(arg) : "memory");
}

static void test_paging_pae(void)
{
	static u64 bad_pdpt[4] __attribute__((aligned(32)));
	u32 cr4 = get_cr4();

	for (u32 i = 0; i < 2048; i++) {
		pae_dirs[i >> 9][i & 511] = (u64)i << 21 | 0x87;
	}
	for (u32 i = 0; i < 4; i++) {
		pae_pdpt[i] = (u32)pae_dirs[i] | 1;
	}
	memset(pae_table, 0, sizeof(pae_table));
	pae_dirs[WINDOW >> 30][WINDOW >> 21 & 511] = (u32)pae_table | 7;
	pae_table[0] = (u32)area | 7;
	area[5] = 0x55;
	set_cr4((cr4 & ~0x10u) | 0x20);
	set_paging((u32)pae_pdpt, true);
	CHECK_EQ(catch_call(read_window, (void *)5, &c), -1);
	CHECK_EQ(note[0], 0x55);
	CHECK_EQ(catch_call(write_window, (void *)5, &c), -1);
	CHECK_EQ(((volatile u64 *)pae_table)[0] & 0x60, 0x60);
	CHECK_EQ(catch_call(read_window, (void *)0x1000, &c), 14);
	CHECK_EQ(c.error, 0);
	/* reserved bits of a PDPTE: #GP at the load, and CR3 stays */
	memcpy(bad_pdpt, pae_pdpt, sizeof(bad_pdpt));
	bad_pdpt[2] |= 0x1e6;
	CHECK_EQ(catch_call(load_bad_pdpt, bad_pdpt, &c), 13);
	/* PDPTEs are read at the load of CR3 only */
	((volatile u64 *)pae_pdpt)[WINDOW >> 30] = 0;
	__asm__ volatile("invlpg (%0)" ::"r"(WINDOW) : "memory");
	CHECK_EQ(catch_call(read_window, (void *)5, &c), -1);
	set_paging(0, false);
	set_cr4(cr4);
}

/* --- 16-bit protected mode
 * ---------------------------------------------------------------------------------------- */
__asm__(".code16\n"
	".globl pm16_code, pm16_end\n"
	"pm16_code:\n"
	"  movw $0xfffe, %ax\n"
	"  addw $3, %ax\n" /* wraps to 1 */
	"  movw %ax, 0x600\n"
	"  movl $0x12345678, 0x604\n"
	"  movw $0xffff, %bx\n"
	"  movw $2, %si\n"
	"  movb $0x5a, 0x601(%bx,%si)\n" /* 16-bit offset wraps: 0x602 */
	"  pushw $0x1122\n"
	"  popw 0x608\n"
	"  .byte 0x66\n"
	"  lret\n"
	"pm16_end:\n"
	".code32\n");
extern u8 pm16_code[], pm16_end[];

static void test_pm16(void)
{
	memcpy(low(0x9200), pm16_code, (size_t)(pm16_end - pm16_code));
	memset(low(0x600), 0, 16);
	__asm__ volatile("lcall $0x28, $0x9200" ::: "eax", "ebx", "esi", "memory", "cc");
	CHECK_EQ(REAL_DATA[0], 1);
	CHECK_EQ(*(volatile u32 *)low(0x604), 0x12345678);
	CHECK_EQ(*(volatile u8 *)low(0x602), 0x5a);
	CHECK_EQ(REAL_DATA[4], 0x1122);
}

const struct guest_test tests[] = {
	{ "segment limits and types", test_limits },
	{ "segment loads", test_loads },
	{ "instructions of legacy modes", test_lost_instructions },
	{ "rings and call gates", test_rings },
	{ "hardware tasks", test_task_switch },
	{ "virtual-8086 mode", test_v86 },
	{ "real mode", test_real_mode },
	{ "faults in real mode", test_real_faults },
	{ "16-bit protected mode", test_pm16 },
	{ "32-bit paging", test_paging_32 },
	{ "PAE paging", test_paging_pae },
	{ 0 },
};
