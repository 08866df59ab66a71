/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Debug registers, single step, traps and their order. (SDM 3B chapter 17) */
#include "guest.h"

#define FL_TF 0x100ul
#define FL_RF 0x10000ul

static volatile u64 hits, dr6_seen, rip_seen[64];
static volatile u64 watched __attribute__((aligned(8)));
static bool step_on;

static u64 read_dr6_clear(void)
{
	u64 v = read_dr6();

	write_dr6(0xffff0ff0);
	return v;
}

static bool on_debug(struct regs *r)
{
	if (r->vector != 1) {
		return false;
	}
	dr6_seen = read_dr6_clear();
	if (hits < 64) {
		rip_seen[hits] = r->rip;
	}
	hits++;
	if (!step_on) {
		r->rflags &= ~FL_TF;
		r->rflags |= FL_RF; /* let an instruction breakpoint go on */
	}
	return true;
}

static void begin(void)
{
	hits = 0;
	step_on = false;
	dr6_seen = 0;
	write_dr6(0xffff0ff0);
	write_dr7(0x400);
	trap_hook = on_debug;
}

static void test_single_step(void)
{
	u64 first, last;

	begin();
	step_on = true;
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq\n"
			 "nop\n1: nop\nnop\n"
			 "pushfq; andq $~0x100, (%%rsp); popfq\n"
			 "2: leaq 1b(%%rip), %0; leaq 2b(%%rip), %1"
			 : "=r"(first), "=r"(last)::"memory", "cc");
	step_on = false;
	/* a trap after each of nop nop nop pushfq andq popfq: the POPF that sets TF gives none,
	 * the one that clears it does */
	CHECK_EQ(hits, 6);
	CHECK_EQ(rip_seen[0], first);
	CHECK_EQ(rip_seen[5], last);
	CHECK_EQ(dr6_seen & 0xf00f, 0x4000);
}

static void test_step_over_mov_ss(void)
{
	u64 after;

	begin();
	step_on = true;
	__asm__ volatile("movl $0x10, %%ecx; pushfq; orq $0x100, (%%rsp); popfq\n"
			 "movw %%cx, %%ss\nnop\n1: nop\n"
			 "pushfq; andq $~0x100, (%%rsp); popfq\n"
			 "leaq 1b(%%rip), %0"
			 : "=r"(after)::"memory", "cc", "ecx");
	step_on = false;
	/* no trap behind MOV SS: the first one comes after the instruction that follows it */
	CHECK_EQ(rip_seen[0], after);
}

static void test_instruction_breakpoint(void)
{
	u64 where;

	begin();
	__asm__ volatile("leaq 1f(%%rip), %0" : "=r"(where));
	__asm__ volatile(
		"leaq 1f(%%rip), %%rax; movq %%rax, %%dr0; movq $0x402, %%rax; movq %%rax, %%dr7\n"
		"nop\n1: nop\nnop\nleaq 1b(%%rip), %0"
		: "=r"(where)::"rax", "memory");
	CHECK_EQ(hits, 1);
	CHECK_EQ(rip_seen[0], where);
	CHECK_EQ(dr6_seen & 0xf, 1);
	write_dr7(0x400);
}

static void test_data_breakpoints(void)
{
	u64 after;

	begin();
	__asm__ volatile("movq %0, %%dr1" ::"r"(&watched));
	write_dr7(0x400 | 8 | 1ul << 20 | 3ul << 22); /* G1, writes, 4 bytes */
	(void)watched;
	CHECK_EQ(hits, 0);
	__asm__ volatile("movl $5, %1\n1: nop\nleaq 1b(%%rip), %0" : "=r"(after), "=m"(watched));
	CHECK_EQ(hits, 1);
	CHECK_EQ(rip_seen[0], after);
	CHECK_EQ(dr6_seen & 0xf, 2);
	CHECK_EQ(watched, 5);
	/* one byte past it: nothing */
	((volatile u8 *)&watched)[4] = 1;
	CHECK_EQ(hits, 1);
	/* reads and writes */
	write_dr7(0x400 | 8 | 3ul << 20 | 3ul << 22);
	(void)*(volatile u8 *)((u8 *)&watched + 3);
	CHECK_EQ(hits, 2);
	write_dr7(0x400);
}

static struct caught c;

static void do_int1(void *arg)
{
	__asm__ volatile(".byte 0xf1\n1: nop\nleaq 1b(%%rip), %0" : "=r"(*(u64 *)arg));
}

static void test_int1(void)
{
	u64 after = 0;

	begin();
	CHECK_EQ(catch_call(do_int1, &after, &c), -1);
	CHECK_EQ(hits, 1);
	CHECK_EQ(rip_seen[0], after);
	CHECK_EQ(dr6_seen & 0xf00f, 0);
}

static void touch_dr7(void *arg)
{
	write_dr7(read_dr7() | 1ul << 13); /* GD */
	(void)read_dr7();
}

static void use_dr4(void *arg)
{
	__asm__ volatile("movq %%db4, %%rax" ::: "rax");
}

static void bad_dr7(void *arg)
{
	write_dr7(1ul << 40);
}

static void test_access_rules(void)
{
	u64 cr4 = read_cr4();

	begin();
	trap_hook = NULL;
	CHECK_EQ(catch_call(touch_dr7, NULL, &c), 1);
	CHECK_EQ(read_dr6_clear() >> 13 & 1, 1);
	CHECK_EQ(read_dr7() >> 13 & 1, 0);
	CHECK_EQ(catch_call(bad_dr7, NULL, &c), 13);
	CHECK_EQ(catch_call(use_dr4, NULL, &c), -1);
	write_cr4(cr4 | 8);
	CHECK_EQ(catch_call(use_dr4, NULL, &c), 6);
	write_cr4(cr4);
}

static void test_string_single_step(void)
{
	begin();
	step_on = true;
	__asm__ volatile("movl $5, %%ecx; leaq %0, %%rdi; pushfq; orq $0x100, (%%rsp); popfq\n"
			 "rep stosb\n"
			 "pushfq; andq $~0x100, (%%rsp); popfq" ::"m"(scratch[0][0])
			 : "rcx", "rdi", "memory", "cc");
	step_on = false;
	/* each iteration traps, then pushfq andq popfq */
	CHECK_EQ(hits, 5 + 3);
	CHECK_EQ(rip_seen[0], rip_seen[3]);
}

const struct guest_test tests[] = {
	{ "single step", test_single_step },
	{ "single step over MOV SS", test_step_over_mov_ss },
	{ "instruction breakpoint and RF", test_instruction_breakpoint },
	{ "data breakpoints", test_data_breakpoints },
	{ "INT1", test_int1 },
	{ "who may touch debug registers", test_access_rules },
	{ "single step in a string instruction", test_string_single_step },
	{ 0 },
};
