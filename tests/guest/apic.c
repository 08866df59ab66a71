/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Local APIC, its timer in all modes, x2APIC, IPIs, IOAPIC, 8259 and 8254. */
#include "guest.h"

#define VECTOR       0x40
#define LVT_TIMER    0x320
#define TIMER_INIT   0x380
#define TIMER_NOW    0x390
#define TIMER_DIVIDE 0x3e0
#define IOAPIC       0xfec00000ul
#define CPUS_MAX     8

static volatile u64 count[256], count_on[CPUS_MAX], last_tsc;
static bool x2apic;
static bool pic_eoi;

static bool on_interrupt(struct regs *r)
{
	if (r->vector < 0x20) {
		return false;
	}
	count[r->vector]++;
	count_on[cpu_number()]++;
	last_tsc = rdtsc();
	if (pic_eoi) {
		outb(0x20, 0x20);
	} else if (x2apic) {
		wrmsr(0x80b, 0);
	} else {
		apic_eoi();
	}
	return true;
}

static void begin(void)
{
	memset((void *)count, 0, sizeof(count));
	memset((void *)count_on, 0, sizeof(count_on));
	trap_hook = on_interrupt;
	apic_enable();
	apic_write(TIMER_DIVIDE, 0xb); /* by 1 */
}

/* Wait with interrupts on until count[v] is at least n, or a very long time has passed. */
static bool await(unsigned v, u64 n)
{
	u64 start = rdtsc();

	while (count[v] < n && rdtsc() - start < 20000000000ul) {
		__asm__ volatile("sti; nop; pause; cli" ::: "memory");
	}
	return count[v] >= n;
}

static bool await_halted(unsigned v, u64 n)
{
	while (count[v] < n) {
		__asm__ volatile("sti; hlt; cli" ::: "memory");
	}
	return true;
}

static void test_one_shot(void)
{
	begin();
	apic_write(LVT_TIMER, VECTOR);
	apic_write(TIMER_INIT, 100000);
	CHECK(apic_read(TIMER_NOW) <= 100000);
	CHECK(await(VECTOR, 1));
	CHECK_EQ(apic_read(TIMER_NOW), 0);
	for (unsigned i = 0; i < 1000; i++) {
		__asm__ volatile("sti; nop; cli");
	}
	CHECK_EQ(count[VECTOR], 1);
	/* halted */
	apic_write(TIMER_INIT, 100000);
	CHECK(await_halted(VECTOR, 2));
	/* masked: nothing comes */
	apic_write(LVT_TIMER, VECTOR | 0x10000);
	apic_write(TIMER_INIT, 1000);
	while (apic_read(TIMER_NOW)) {
		cpu_relax();
	}
	__asm__ volatile("sti; nop; cli");
	CHECK_EQ(count[VECTOR], 2);
}

static void test_periodic(void)
{
	begin();
	apic_write(LVT_TIMER, VECTOR | 0x20000);
	apic_write(TIMER_INIT, 200000);
	CHECK(await_halted(VECTOR, 5));
	apic_write(TIMER_INIT, 0);
	CHECK_EQ(apic_read(TIMER_NOW), 0);
	/* a tick that came before it was stopped is not the next test's */
	__asm__ volatile("sti; nop; cli");
}

static void test_deadline(void)
{
	u32 a, b, c, d;
	u64 when;

	cpuid(1, 0, &a, &b, &c, &d);
	if (!(c >> 24 & 1)) {
		skip("no TSC deadline");
		return;
	}
	begin();
	apic_write(LVT_TIMER, VECTOR | 0x40000);
	__asm__ volatile("mfence");
	when = rdtsc() + 300000000; /* far enough to be read back on a slow host */
	wrmsr(0x6e0, when);
	CHECK_EQ(rdmsr(0x6e0), when);
	CHECK(await_halted(VECTOR, 1));
	CHECK(last_tsc >= when);
	CHECK_EQ(rdmsr(0x6e0), 0);
	/* in the past: at once */
	wrmsr(0x6e0, 1);
	CHECK(await(VECTOR, 2));
	/* disarmed */
	wrmsr(0x6e0, rdtsc() + 300000000);
	wrmsr(0x6e0, 0);
	when = rdtsc();
	while (rdtsc() - when < 400000000) {
		__asm__ volatile("sti; nop; cli");
	}
	CHECK_EQ(count[VECTOR], 2);
	apic_write(LVT_TIMER, 0x10000);
}

static void test_self_ipi_and_priority(void)
{
	begin();
	apic_write(0x300, 0x44050);              /* self, vector 0x50 */
	CHECK_EQ(apic_read(0x220) >> 16 & 1, 1); /* IRR of 0x50 */
	__asm__ volatile("sti; nop; cli");
	CHECK_EQ(count[0x50], 1);
	/* held back by the task priority */
	write_cr8(6);
	CHECK_EQ(apic_read(0x80), 0x60);
	apic_write(0x300, 0x44050);
	__asm__ volatile("sti; nop; nop; cli");
	CHECK_EQ(count[0x50], 1);
	apic_write(0x300, 0x44070);
	__asm__ volatile("sti; nop; nop; cli");
	CHECK_EQ(count[0x70], 1);
	write_cr8(0);
	__asm__ volatile("sti; nop; nop; cli");
	CHECK_EQ(count[0x50], 2);
	/* STI's shadow: the HLT that follows is reached first and woken */
	apic_write(0x300, 0x44050);
	__asm__ volatile("sti; hlt; cli");
	CHECK_EQ(count[0x50], 3);
}

static void idle_with_interrupts(unsigned cpu)
{
	if (cpu == 0) {
		u64 n = cpus_present();

		/* all but self, one after the other until everybody has seen one */
		for (unsigned i = 0; i < 100; i++) {
			apic_write(0x300, 0xc4060);
			while (apic_read(0x300) & 0x1000) {
			}
		}
		for (unsigned i = 1; i < n; i++) {
			while (!count_on[i]) {
				apic_write(0x300, 0xc4060);
				cpu_relax();
			}
		}
		return;
	}
	while (!count_on[cpu]) {
		__asm__ volatile("sti; hlt; cli" ::: "memory");
	}
}

static void test_broadcast(void)
{
	if (cpus_present() < 2) {
		skip("needs two processors");
		return;
	}
	begin();
	cpus_run(idle_with_interrupts);
	CHECK(count[0x60] >= 1);
	CHECK_EQ(count_on[0], 0);
}

static volatile bool nmi_seen;

static bool on_nmi(struct regs *r)
{
	if (r->vector == 2) {
		nmi_seen = true;
		return true;
	}
	return on_interrupt(r);
}

static void test_nmi(void)
{
	begin();
	trap_hook = on_nmi;
	nmi_seen = false;
	/* NMI to ourselves by physical destination; IF is clear */
	apic_write(0x310, apic_read(0x20) & 0xff000000);
	apic_write(0x300, 0x4400);
	for (unsigned i = 0; i < 100000 && !nmi_seen; i++) {
		cpu_relax();
	}
	CHECK(nmi_seen);
}

static struct caught c;

static void read_reserved_x2apic(void *arg)
{
	rdmsr(0x80e); /* no DFR in x2APIC mode */
}

static void write_read_only(void *arg)
{
	wrmsr(0x803, 0);
}

static void test_x2apic(void)
{
	u32 a, b, cc, d;

	cpuid(1, 0, &a, &b, &cc, &d);
	if (!(cc >> 21 & 1)) {
		skip("no x2APIC");
		return;
	}
	begin();
	x2apic = true;
	wrmsr(0x1b, rdmsr(0x1b) | 0xc00);
	CHECK_EQ(rdmsr(0x802), 0); /* our id */
	CHECK_EQ(rdmsr(0x803) & 0xff, rdmsr(0x803) & 0x1f);
	wrmsr(0x83f, 0x51); /* self IPI */
	__asm__ volatile("sti; nop; cli");
	CHECK_EQ(count[0x51], 1);
	wrmsr(0x830, 0x4052ul | 0ul << 32); /* physical, id 0 */
	__asm__ volatile("sti; nop; cli");
	CHECK_EQ(count[0x52], 1);
	CHECK_EQ(catch_call(read_reserved_x2apic, NULL, &c), 13);
	CHECK_EQ(catch_call(write_read_only, NULL, &c), 13);
	wrmsr(0x83e, 0xb);
	wrmsr(0x832, VECTOR);
	wrmsr(0x838, 100000);
	CHECK(await_halted(VECTOR, 1));
	wrmsr(0x832, 0x10000);
	/* back: off, then xAPIC */
	wrmsr(0x1b, rdmsr(0x1b) & ~0xc00ul);
	wrmsr(0x1b, rdmsr(0x1b) | 0x800);
	x2apic = false;
	apic_enable();
}

static void pit_start(u16 reload)
{
	outb(0x43, 0x34); /* channel 0, mode 2 */
	outb(0x40, (u8)reload);
	outb(0x40, (u8)(reload >> 8));
}

static void ioapic_write(u32 reg, u32 v)
{
	*(volatile u32 *)IOAPIC = reg;
	*(volatile u32 *)(IOAPIC + 0x10) = v;
}

static u32 ioapic_read(u32 reg)
{
	*(volatile u32 *)IOAPIC = reg;
	return *(volatile u32 *)(IOAPIC + 0x10);
}

static void test_ioapic_pit(void)
{
	begin();
	CHECK_EQ(ioapic_read(1) >> 16 & 0xff, 23);
	pit_start(11932); /* 100 Hz */
	ioapic_write(0x10 + 2 * 2 + 1, 0);
	ioapic_write(0x10 + 2 * 2, 0x48); /* GSI 2, edge, physical */
	CHECK(await_halted(0x48, 3));
	ioapic_write(0x10 + 2 * 2, 0x10000);
}

static void test_8259_pit(void)
{
	begin();
	pic_eoi = true;
	apic_write(0x350, 0x700); /* LINT0: ExtINT */
	outb(0x20, 0x11);
	outb(0x21, 0x30);
	outb(0x21, 4);
	outb(0x21, 1);
	outb(0x21, 0xfe);
	pit_start(11932);
	CHECK(await_halted(0x30, 3));
	outb(0x21, 0xff);
	CHECK_EQ(inb(0x21), 0xff);
	pic_eoi = false;
	apic_write(0x350, 0x10000);
}

static void test_pit_counts(void)
{
	u8 before, after;

	/* channel 2 in mode 0 with the gate open raises bit 5 of port 0x61 */
	outb(0x61, (inb(0x61) & ~3) | 1);
	outb(0x43, 0xb0);
	outb(0x42, 0xff);
	outb(0x42, 0x04);
	before = inb(0x61) & 0x20;
	while (!(inb(0x61) & 0x20)) {
		cpu_relax();
	}
	after = inb(0x61) & 0x20;
	CHECK_EQ(before, 0);
	CHECK_EQ(after, 0x20);
}

const struct guest_test tests[] = {
	{ "timer: one-shot", test_one_shot },
	{ "timer: periodic", test_periodic },
	{ "timer: TSC deadline", test_deadline },
	{ "self IPI and task priority", test_self_ipi_and_priority },
	{ "IPI to all others", test_broadcast },
	{ "NMI", test_nmi },
	{ "x2APIC", test_x2apic },
	{ "8254 through the IOAPIC", test_ioapic_pit },
	{ "8254 through the 8259", test_8259_pit },
	{ "8254 channel 2 and port 0x61", test_pit_counts },
	{ 0 },
};
