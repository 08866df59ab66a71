/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests: a table of named functions, results in TAP on standard output
 * (meson reads it). A failed CHECK ends its own test and no other.
 *
 *	static void test_foo(struct test *t) { CHECK(t, foo() == 1); }
 *	static const struct test_case cases[] = { { "foo", test_foo }, { 0 } };
 *	int main(int argc, char **argv) { return test_main(argc, argv, cases); }
 *
 * `prog NAME…` runs only these.
 */
#pragma once

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

struct test {
	const char *name;
	bool failed;
	const char *skip_reason;
};

struct test_case {
	const char *name;
	void (*fn)(struct test *t);
};

int test_main(int argc, char **argv, const struct test_case *cases);
void test_fail(struct test *t, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#define CHECK(t, cond)                                                 \
	do {                                                           \
		if (!(cond)) {                                         \
			test_fail(t, __FILE__, __LINE__, "%s", #cond); \
			return;                                        \
		}                                                      \
	} while (0)
#define CHECK_EQ(t, a, b)                                                                          \
	do {                                                                                       \
		unsigned long long a__ = (unsigned long long)(a), b__ = (unsigned long long)(b);   \
		if (a__ != b__) {                                                                  \
			test_fail(t, __FILE__, __LINE__, "%s = 0x%llx, want 0x%llx (%s)", #a, a__, \
				  b__, #b);                                                        \
			return;                                                                    \
		}                                                                                  \
	} while (0)
#define CHECK_STR(t, a, b)                                                               \
	do {                                                                             \
		const char *a__ = (a), *b__ = (b);                                       \
		if (!a__ || __builtin_strcmp(a__, b__) != 0) {                           \
			test_fail(t, __FILE__, __LINE__, "%s = \"%s\", want \"%s\"", #a, \
				  a__ ? a__ : "(null)", b__);                            \
			return;                                                          \
		}                                                                        \
	} while (0)
/* Leave this test as skipped: say what is missing. */
#define SKIP(t, reason)                      \
	do {                                 \
		(t)->skip_reason = (reason); \
		return;                      \
	} while (0)
