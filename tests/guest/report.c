/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "report.h"

#include <stdarg.h>

#define COM1       0x3f8
#define DEBUG_EXIT 0xf4

static unsigned test_number;
static bool test_failed;
static const char *skip_reason;

/* --- memory functions that the compiler calls ------------------------------------ */
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

int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *x = a, *y = b;

	for (size_t i = 0; i < n; i++) {
		if (x[i] != y[i]) {
			return x[i] - y[i];
		}
	}
	return 0;
}

/* --- output ------------------------------------------------------------------------- */
static void put_char(char c)
{
	while (!(inb(COM1 + 5) & 0x20)) {
	}
	outb(COM1, (u8)c);
}

static void put_string(const char *s)
{
	while (*s) {
		put_char(*s++);
	}
}

static void put_number(word v, unsigned base)
{
	char buffer[24];
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
			put_string(va_arg(ap, const char *));
			break;
		case 'x':
			put_number(va_arg(ap, word), 16);
			break;
		default:
			put_number(va_arg(ap, word), 10);
		}
	}
	va_end(ap);
}

void check_equal(word got, word want, const char *what, int line)
{
	if (got != want) {
		test_failed = true;
		print("# line %u: %s is 0x%x, want 0x%x\n", (word)line, what, got, want);
	}
}

void skip(const char *reason)
{
	skip_reason = reason;
}

void report_exit(u8 code)
{
	outb(DEBUG_EXIT, code);
	for (;;) {
		__asm__ volatile("cli; hlt");
	}
}

void report_run(void (*between)(void))
{
	for (const struct guest_test *t = tests; t->name; t++) {
		test_failed = false;
		skip_reason = NULL;
		t->fn();
		between();
		print("%s %u %s", test_failed ? "not ok" : "ok", (word)++test_number, t->name);
		print(skip_reason && !test_failed ? " # SKIP %s\n" : "\n", skip_reason);
	}
	print("1..%u\n", (word)test_number);
	report_exit(0);
}
