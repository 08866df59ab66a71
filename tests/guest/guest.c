/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest.h"

#define CPUS_MAX        8
#define AP_PAGE         0x8000ul
#define SEL_KERNEL_CODE 0x08
#define SEL_TSS         0x50 /* of processor 0; two GDT slots each */
#define USER_CS64       (0x38 | 3)
#define USER_SS         (0x30 | 3)

void start_c(unsigned cpu);
void trap(struct regs *r);
long catch_enter(void (*fn)(void *), void *arg, u64 *buffer);
void catch_leave(u64 *buffer, long result) __attribute__((noreturn));
void user_enter(u64 rip, u64 rsp, u64 flags, u64 arg, u64 cs, u64 ss) __attribute__((noreturn));

extern u8 gates[], ap_trampoline[], ap_trampoline_end[];
extern volatile u32 cpu_count;

struct idt_entry idt[256] __attribute__((aligned(16)));
struct tss64 tss[CPUS_MAX];
volatile u64 window_pt[512] __attribute__((aligned(4096)));
u8 scratch[8][4096] __attribute__((aligned(4096)));
bool (*trap_hook)(struct regs *regs);

struct catch_frame {
	u64 buffer[8];
	struct caught *result;
};
static struct catch_frame *volatile catching[CPUS_MAX];
static u8 fault_stacks[CPUS_MAX][8192] __attribute__((aligned(16)));
static u8 user_stacks[CPUS_MAX][8192] __attribute__((aligned(16)));
static void (*volatile cpu_fn)(unsigned cpu);
static volatile u32 cpus_done;

/* --- exceptions ------------------------------------------------------------------------ */
unsigned cpu_number(void)
{
	u16 tr;

	__asm__ volatile("str %0" : "=r"(tr));
	return tr >= SEL_TSS ? (tr - SEL_TSS) / 16u : 0;
}

void trap(struct regs *r)
{
	unsigned cpu = cpu_number();
	struct catch_frame *f = catching[cpu];
	u64 cr2 = read_cr2();

	if (trap_hook && trap_hook(r)) {
		return;
	}
	if (f) {
		catching[cpu] = NULL;
		*f->result = (struct caught){ (long)r->vector, r->error, r->rip, cr2,
					      r->rflags,       r->cs,    r->rsp };
		catch_leave(f->buffer, (long)r->vector);
	}
	print("Bail out! exception %u error 0x%x rip 0x%x cr2 0x%x on processor %u\n", r->vector,
	      r->error, r->rip, cr2, (u64)cpu);
	report_exit(0x7f);
}

long catch_call(void (*fn)(void *), void *arg, struct caught *c)
{
	unsigned cpu = cpu_number();
	struct catch_frame f = { .result = c };
	u64 flags = rflags();
	long r;

	*c = (struct caught){ .vector = -1 };
	catching[cpu] = &f;
	r = catch_enter(fn, arg, f.buffer);
	catching[cpu] = NULL;
	__asm__ volatile("pushq %0; popfq" ::"r"(flags) : "memory", "cc");
	return r;
}

struct user_call {
	void (*fn)(void *);
	void *arg;
	unsigned cpu;
};

static void enter_user(void *opaque)
{
	struct user_call *u = opaque;
	u64 *sp = (u64 *)(user_stacks[u->cpu] + sizeof(user_stacks[0])) - 3;

	*sp = 0; /* a return address that faults */
	user_enter((u64)u->fn, (u64)sp, 2, (u64)u->arg, USER_CS64, USER_SS);
}

long catch_user(void (*fn)(void *), void *arg, struct caught *c)
{
	struct user_call u = { fn, arg, cpu_number() };
	long r = catch_call(enter_user, &u, c);

	return r == USER_EXIT_VECTOR ? (c->vector = -1) : r;
}

void idt_set(unsigned vector, void *handler, unsigned dpl, unsigned ist, unsigned type)
{
	u64 p = (u64)handler;

	idt[vector] = (struct idt_entry){
		(u16)p,         SEL_KERNEL_CODE, (u16)(0x8000 | dpl << 13 | type << 8 | ist),
		(u16)(p >> 16), (u32)(p >> 32),  0
	};
}

static void load_tables(unsigned cpu)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} pointer = { sizeof(idt) - 1, (u64)idt };
	u64 base = (u64)&tss[cpu];
	unsigned slot = SEL_TSS / 8 + cpu * 2;

	tss[cpu].rsp[0] = (u64)(fault_stacks[cpu] + sizeof(fault_stacks[0]));
	tss[cpu].iomap = offsetof(struct tss64, bitmap);
	memset(tss[cpu].bitmap, 0xff, sizeof(tss[cpu].bitmap));
	gdt[slot] = (sizeof(struct tss64) - 1) | (base & 0xffffff) << 16 | 0x89ul << 40 |
		    (base >> 24 & 0xff) << 56;
	gdt[slot + 1] = base >> 32;
	__asm__ volatile("lidt %0" ::"m"(pointer));
	__asm__ volatile("ltr %w0" ::"r"(slot * 8));
}

/* --- processors ------------------------------------------------------------------------------ */
unsigned cpus_present(void)
{
	unsigned n;

	outw(0x510, 5); /* fw_cfg: number of processors */
	n = inb(0x511);
	n |= (unsigned)inb(0x511) << 8;
	return n >= 1 && n <= CPUS_MAX ? n : 1;
}

void apic_enable(void)
{
	wrmsr(0x1b, (rdmsr(0x1b) & ~0x400ul) | 0x800);
	apic_write(0xf0, 0x1ff);
}

void apic_eoi(void)
{
	apic_write(0xb0, 0);
}

static void send_ipi(u32 target, u32 command)
{
	apic_write(0x310, target << 24);
	apic_write(0x300, command);
	while (apic_read(0x300) & 0x1000) {
		cpu_relax();
	}
}

static void spin(u64 cycles)
{
	u64 start = rdtsc();

	while (rdtsc() - start < cycles) {
		cpu_relax();
	}
}

void cpus_run(void (*fn)(unsigned cpu))
{
	unsigned n = cpus_present();

	apic_enable();
	cpu_fn = fn;
	cpus_done = 0;
	cpu_count = 1;
	memcpy((void *)AP_PAGE, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
	for (unsigned i = 1; i < n; i++) {
		send_ipi(i, 0x4500); /* INIT */
		spin(1000000);
		send_ipi(i, 0x4600 | AP_PAGE >> 12);
		while (cpu_count < i + 1) {
			cpu_relax();
		}
	}
	fn(0);
	while (cpus_done < n - 1) {
		cpu_relax();
	}
}

static void forget_hook(void)
{
	trap_hook = NULL;
}

void start_c(unsigned cpu)
{
	load_tables(cpu);
	if (cpu) {
		apic_enable();
		cpu_fn(cpu);
		__atomic_add_fetch(&cpus_done, 1, __ATOMIC_SEQ_CST);
		return;
	}
	for (unsigned v = 0; v < 256; v++) {
		idt_set(v, gates + v * 16, v == 3 || v == 4 || v >= 0x80 ? 3 : 0, 0, 0xe);
	}
	/* both 8259 masked */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	report_run(forget_hook);
}

/* --- paging -------------------------------------------------------------------------------------
 */
void window_init(void)
{
	u64 index = WINDOW >> 21;

	memset((void *)window_pt, 0, sizeof(window_pt));
	page_dirs[index] = (u64)window_pt | PTE_P | PTE_W | PTE_U;
	write_cr3(read_cr3());
}
