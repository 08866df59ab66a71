/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Processors at work together: locked operations lose nothing, memory order is
 * x86's (stores may pass later loads, nothing else), code that another processor
 * changes is seen.
 */
#include "guest.h"

#define ROUNDS 20000
#define LITMUS 3000

static volatile u32 arrived, generation;
static unsigned cpus;

static void barrier(void)
{
	u32 mine = generation;

	if (__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST) == cpus) {
		arrived = 0;
		__atomic_add_fetch(&generation, 1, __ATOMIC_SEQ_CST);
		return;
	}
	while (generation == mine) {
		cpu_relax();
	}
}

static struct {
	volatile u64 added, xadded, incremented, cas, spin;
	volatile u8 byte;
	volatile u16 word;
	volatile u64 locked_by_xchg;
	volatile u32 bits;
	u8 pad[64];
} shared __attribute__((aligned(64)));
static u8 straddle[256] __attribute__((aligned(64)));
static volatile u64 pair[2] __attribute__((aligned(16)));

static void hammer(unsigned cpu)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		u64 old, one = 1;

		__asm__ volatile("lock addq $3, %0" : "+m"(shared.added));
		__asm__ volatile("lock xaddq %0, %1" : "+r"(one), "+m"(shared.xadded));
		__asm__ volatile("lock incq %0" : "+m"(shared.incremented));
		__asm__ volatile("lock incb %0" : "+m"(shared.byte));
		__asm__ volatile("lock addw $1, %0" : "+m"(shared.word));
		__asm__ volatile("lock btcl %1, %0" : "+m"(shared.bits) : "r"(cpu));
		do {
			old = shared.cas;
		} while (!__sync_bool_compare_and_swap(&shared.cas, old, old + 5));
		/* over a cache line, and (at 4094) over nothing else */
		__asm__ volatile("lock addl $1, %0" : "+m"(*(u32 *)(straddle + 62)));
		while (__sync_lock_test_and_set(&shared.spin, 1)) {
			cpu_relax();
		}
		shared.locked_by_xchg++;
		__atomic_store_n(&shared.spin, 0, __ATOMIC_RELEASE);
	}
}

static void test_atomics(void)
{
	u64 total;

	cpus = cpus_present();
	total = (u64)cpus * ROUNDS;
	memset(&shared, 0, sizeof(shared));
	memset(straddle, 0, sizeof(straddle));
	cpus_run(hammer);
	CHECK_EQ(shared.added, total * 3);
	CHECK_EQ(shared.xadded, total);
	CHECK_EQ(shared.incremented, total);
	CHECK_EQ(shared.byte, (u8)total);
	CHECK_EQ(shared.word, (u16)total);
	CHECK_EQ(shared.bits, 0);
	CHECK_EQ(shared.cas, total * 5);
	CHECK_EQ(shared.locked_by_xchg, total);
	CHECK_EQ(*(volatile u32 *)(straddle + 62), (u32)total);
}

static void hammer_split(unsigned cpu)
{
	u32 *over = (u32 *)(scratch[2] + 4094);

	for (unsigned i = 0; i < ROUNDS / 10; i++) {
		u64 lo, hi, nlo, nhi;
		bool ok;

		__asm__ volatile("lock addl $1, %0" : "+m"(*over));
		lo = pair[0];
		hi = pair[1];
		do {
			nlo = lo + 1;
			nhi = hi - 1;
			__asm__ volatile("lock cmpxchg16b %1; sete %0"
					 : "=q"(ok), "+m"(pair), "+a"(lo), "+d"(hi)
					 : "b"(nlo), "c"(nhi)
					 : "memory");
		} while (!ok);
	}
}

static void test_split_locks(void)
{
	cpus = cpus_present();
	*(volatile u32 *)(scratch[2] + 4094) = 0;
	pair[0] = pair[1] = 0;
	cpus_run(hammer_split);
	CHECK_EQ(*(volatile u32 *)(scratch[2] + 4094), (u64)cpus * (ROUNDS / 10));
	CHECK_EQ(pair[0], (u64)cpus * (ROUNDS / 10));
	CHECK_EQ(pair[1], -(u64)cpus * (ROUNDS / 10));
}

/* --- litmus tests of two processors ---------------------------------------------- */
static volatile u64 x __attribute__((aligned(64))), y __attribute__((aligned(64)));
static volatile u64 r0, r1, r2, r3;
static unsigned seen[4], forbidden;

static void store_buffer(unsigned cpu)
{
	for (unsigned i = 0; i < LITMUS; i++) {
		if (cpu == 0) {
			x = y = 0;
		}
		barrier();
		if (cpu == 0) {
			x = 1;
			r0 = y;
		} else if (cpu == 1) {
			y = 1;
			r1 = x;
		}
		barrier();
		if (cpu == 0) {
			seen[r0 * 2 + r1]++;
		}
	}
}

static void store_buffer_fenced(unsigned cpu)
{
	for (unsigned i = 0; i < LITMUS; i++) {
		if (cpu == 0) {
			x = y = 0;
		}
		barrier();
		if (cpu == 0) {
			x = 1;
			__asm__ volatile("mfence" ::: "memory");
			r0 = y;
		} else if (cpu == 1) {
			y = 1;
			__asm__ volatile("lock addl $0, (%%rsp)" ::: "memory", "cc");
			r1 = x;
		}
		barrier();
		if (cpu == 0 && r0 == 0 && r1 == 0) {
			forbidden++;
		}
	}
}

static void message_passing(unsigned cpu)
{
	for (unsigned i = 0; i < LITMUS; i++) {
		if (cpu == 0) {
			x = y = 0;
		}
		barrier();
		if (cpu == 0) {
			x = 1;
			y = 1;
		} else if (cpu == 1) {
			r0 = y;
			r1 = x;
		}
		barrier();
		if (cpu == 0 && r0 == 1 && r1 == 0) {
			forbidden++;
		}
	}
}

static void load_buffer(unsigned cpu)
{
	for (unsigned i = 0; i < LITMUS; i++) {
		if (cpu == 0) {
			x = y = 0;
		}
		barrier();
		if (cpu == 0) {
			r0 = x;
			y = 1;
		} else if (cpu == 1) {
			r1 = y;
			x = 1;
		}
		barrier();
		if (cpu == 0 && r0 == 1 && r1 == 1) {
			forbidden++;
		}
	}
}

static void test_litmus(void)
{
	cpus = cpus_present();
	if (cpus < 2) {
		skip("needs two processors");
		return;
	}
	cpus_run(store_buffer);
	print("# store buffering: 00 %u, 01 %u, 10 %u, 11 %u\n", (u64)seen[0], (u64)seen[1],
	      (u64)seen[2], (u64)seen[3]);
	CHECK_EQ(seen[0] + seen[1] + seen[2] + seen[3], LITMUS);
	forbidden = 0;
	cpus_run(store_buffer_fenced);
	CHECK_EQ(forbidden, 0);
	cpus_run(message_passing);
	CHECK_EQ(forbidden, 0);
	cpus_run(load_buffer);
	CHECK_EQ(forbidden, 0);
}

/* --- code that changes --------------------------------------------------------------- */
static u8 *const code = scratch[4];
static volatile u32 patched, stop;

static void test_self_modifying(void)
{
	/* mov $imm, %eax; ret: patched a thousand times, called each time */
	memcpy(code, "\xb8\0\0\0\0\xc3", 6);
	for (u32 i = 0; i < 1000; i++) {
		*(volatile u32 *)(code + 1) = i * 7;
		CHECK_EQ(((u32(*)(void))code)(), i * 7);
	}
	/* an instruction that changes the next one, in the same straight line:
	 * movb $0x02, 1f+1(%rip); 1: mov $1, %eax; ret */
	for (u32 i = 0; i < 100; i++) {
		memcpy(code, "\xc6\x05\x01\0\0\0\x02\xb8\x01\0\0\0\xc3", 13);
		CHECK_EQ(((u32(*)(void))code)(), 2);
	}
	/* a loop that counts its own immediate up: incl 1f+1(%rip); 1: mov $0,%eax; cmp $50,%eax;
	 * jb; ret */
	memcpy(code, "\xff\x05\x01\0\0\0\xb8\0\0\0\0\x83\xf8\x32\x72\xf0\xc3", 17);
	CHECK_EQ(((u32(*)(void))code)(), 50);
}

static void cross_modify(unsigned cpu)
{
	u32 (*fn)(void) = (u32(*)(void))code;

	if (cpu == 0) {
		for (u32 i = 1; i <= 2000; i++) {
			*(volatile u32 *)(code + 4) = i; /* aligned: one store */
			__atomic_store_n(&patched, i, __ATOMIC_RELEASE);
			cpu_relax();
		}
		stop = 1;
		return;
	}
	while (!stop) {
		u32 want = __atomic_load_n(&patched, __ATOMIC_ACQUIRE), a, b, c, d, got;

		cpuid(0, 0, &a, &b, &c, &d); /* serialise, as the rules ask */
		got = fn();
		if (got < want) {
			__atomic_add_fetch(&forbidden, 1, __ATOMIC_SEQ_CST);
		}
	}
}

static void test_cross_modifying(void)
{
	cpus = cpus_present();
	if (cpus < 2) {
		skip("needs two processors");
		return;
	}
	forbidden = patched = stop = 0;
	memcpy(code, "\x66\x90\x90\xb8\0\0\0\0\xc3", 9);
	cpus_run(cross_modify);
	CHECK_EQ(forbidden, 0);
}

static void test_aliased_code(void)
{
	u8 *other = (u8 *)WINDOW;

	/* written through another linear address, as kernels patch text */
	window_init();
	window_pt[0] = (u64)code | PTE_P | PTE_W;
	invlpg(other);
	memcpy(code, "\xb8\x01\0\0\0\xc3", 6);
	CHECK_EQ(((u32(*)(void))code)(), 1);
	for (u32 i = 2; i < 100; i++) {
		*(volatile u32 *)(other + 1) = i;
		CHECK_EQ(((u32(*)(void))code)(), i);
		CHECK_EQ(((u32(*)(void))other)(), i);
	}
}

static void remap_other(unsigned cpu)
{
	u8 *p = (u8 *)WINDOW;

	for (u32 i = 0; i < 200; i++) {
		barrier();
		if (cpu == 0) {
			window_pt[0] = (u64)scratch[i & 1] | PTE_P | PTE_W;
		}
		barrier();
		if (cpu == 1) {
			invlpg(p);
			if (*(volatile u8 *)p != (i & 1)) {
				forbidden++;
			}
		}
	}
}

static void test_remote_page_tables(void)
{
	cpus = cpus_present();
	if (cpus < 2) {
		skip("needs two processors");
		return;
	}
	window_init();
	forbidden = 0;
	scratch[0][0] = 0;
	scratch[1][0] = 1;
	cpus_run(remap_other);
	CHECK_EQ(forbidden, 0);
}

const struct guest_test tests[] = {
	{ "locked operations", test_atomics },
	{ "locks over lines and pages, cmpxchg16b", test_split_locks },
	{ "memory order", test_litmus },
	{ "self-modifying code", test_self_modifying },
	{ "cross-modifying code", test_cross_modifying },
	{ "code written through another address", test_aliased_code },
	{ "page tables changed by another processor", test_remote_page_tables },
	{ 0 },
};
