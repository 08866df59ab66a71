/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What test guests of every width share: types, checks, and the report in TAP on the serial
 * port. Numbers are a register wide.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef unsigned long word;

struct guest_test {
	const char *name;
	void (*fn)(void);
};
extern const struct guest_test tests[]; /* ends with a NULL name */

void check_equal(word got, word want, const char *what, int line);
void skip(const char *reason);
#define CHECK(c)       check_equal(!!(c), 1, #c, __LINE__)
#define CHECK_EQ(a, b) check_equal((word)(a), (word)(b), #a, __LINE__)
void print(const char *fmt, ...); /* %s %u %x; each number a word */

/* Run all tests, calling `between` after each; then leave through the debug port with 0. */
void report_run(void (*between)(void)) __attribute__((noreturn));
/* Leave through the debug port. */
void report_exit(u8 code) __attribute__((noreturn));

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

void *memset(void *p, int c, size_t n);
void *memcpy(void *d, const void *s, size_t n);
int memcmp(const void *a, const void *b, size_t n);
