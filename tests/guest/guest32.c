/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest32.h"

void start_c(void);
void trap(struct regs *r);
int catch_enter(void (*fn)(void *), void *arg, u32 *buffer);
void catch_leave(u32 *buffer, int result) __attribute__((noreturn));
extern u8 gates[];

u64 idt[256] __attribute__((aligned(16)));
struct tss32 tss, tss_other;
bool (*trap_hook)(struct regs *r);
static u8 ring0_stack[4096] __attribute__((aligned(16)));

struct catch_frame {
	u32 buffer[8];
	struct caught *result;
};
static struct catch_frame *volatile catching;

void trap(struct regs *r)
{
	struct catch_frame *f = catching;
	u32 cr2;

	__asm__ volatile("movl %%cr2, %0" : "=r"(cr2));
	if (trap_hook && trap_hook(r)) {
		return;
	}
	if (f) {
		bool outer = (r->cs & 3) || (r->eflags & 0x20000);

		catching = NULL;
		*f->result = (struct caught){
			(int)r->vector,     r->error,          r->eip, r->cs, r->eflags,
			outer ? r->esp : 0, outer ? r->ss : 0, cr2
		};
		catch_leave(f->buffer, (int)r->vector);
	}
	print("Bail out! exception %u error 0x%x cs:eip 0x%x:0x%x\n", r->vector, r->error, r->cs,
	      r->eip);
	report_exit(0x7f);
}

int catch_call(void (*fn)(void *), void *arg, struct caught *c)
{
	struct catch_frame f = { .result = c };
	int r;

	*c = (struct caught){ .vector = -1 };
	catching = &f;
	r = catch_enter(fn, arg, f.buffer);
	catching = NULL;
	return r;
}

void idt_set(unsigned vector, void *handler, u16 selector, unsigned dpl, unsigned type)
{
	u32 p = (u32)handler;

	idt[vector] = (p & 0xffff) | (u64)selector << 16 | (u64)(0x80 | dpl << 5 | type) << 40 |
		      (u64)(p >> 16) << 48;
}

void gdt_segment(unsigned slot, u32 base, u32 limit, unsigned access, unsigned flags)
{
	gdt[slot] = (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 |
		    (u64)(limit >> 16 & 0xf) << 48 | (u64)flags << 52 | (u64)(base >> 24) << 56;
}

void real_run(const void *code, unsigned len)
{
	memcpy(low(0x9200), code, len);
	real_call();
}

static void forget_hook(void)
{
	trap_hook = NULL;
}

void start_c(void)
{
	struct __attribute__((packed)) {
		u16 limit;
		u32 base;
	} pointer = { sizeof(idt) - 1, (u32)idt };

	for (unsigned v = 0; v < 256; v++) {
		idt_set(v, gates + v * 16, 8, v == 3 || v == 4 || v >= 0x80 ? 3 : 0, 0xe);
	}
	__asm__ volatile("lidt %0" ::"m"(pointer));
	tss.ss0 = 0x10;
	tss.esp0 = (u32)(ring0_stack + sizeof(ring0_stack));
	tss.iomap = sizeof(tss);
	gdt_segment(7, (u32)&tss, sizeof(tss) - 1, 0x89, 0);
	__asm__ volatile("ltr %w0" ::"r"(0x38));
	report_run(forget_hook);
}
