/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest32.h"

#include <stdarg.h>

#define COM1 0x3f8

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
static unsigned test_number;
static bool test_failed;
static const char *skip_reason;

static inline void outb(u16 port, u8 v)
{
	__asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

void *memset(void *p, int c, size_t n)
{
	void *d = p;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return p;
}

void *memcpy(void *d, const void *s, size_t n)
{
	void *r = d;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
	return r;
}

static void put_char(char c)
{
	while (!(inb(COM1 + 5) & 0x20)) {
	}
	outb(COM1, (u8)c);
}

static void put_number(u32 v, unsigned base)
{
	char buffer[16];
	int i = 0;

	do {
		buffer[i++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (i) {
		put_char(buffer[--i]);
	}
}

void print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	for (; *fmt; fmt++) {
		if (*fmt != '%') {
			put_char(*fmt);
			continue;
		}
		switch (*++fmt) {
		case 's':
			for (const char *s = va_arg(ap, const char *); *s; s++) {
				put_char(*s);
			}
			break;
		case 'x':
			put_number(va_arg(ap, u32), 16);
			break;
		default:
			put_number(va_arg(ap, u32), 10);
		}
	}
	va_end(ap);
}

void check_equal(u32 got, u32 want, const char *what, int line)
{
	if (got != want) {
		test_failed = true;
		print("# line %u: %s is 0x%x, want 0x%x\n", (u32)line, what, got, want);
	}
}

void skip(const char *reason)
{
	skip_reason = reason;
}

static void finish(u8 code)
{
	outb(0xf4, code);
	for (;;) {
		__asm__ volatile("cli; hlt");
	}
}

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
	finish(0x7f);
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
	for (const struct guest_test *t = tests; t->name; t++) {
		test_failed = false;
		skip_reason = NULL;
		t->fn();
		trap_hook = NULL;
		print("%s %u %s", test_failed ? "not ok" : "ok", ++test_number, t->name);
		print(skip_reason && !test_failed ? " # SKIP %s\n" : "\n", skip_reason);
	}
	print("1..%u\n", test_number);
	finish(0);
}
