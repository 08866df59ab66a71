/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/test.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void test_fail(struct test *t, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	t->failed = true;
	printf("# %s:%d: ", file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static bool wanted(int argc, char **argv, const char *name)
{
	if (argc < 2) {
		return true;
	}
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], name) == 0) {
			return true;
		}
	}
	return false;
}

int test_main(int argc, char **argv, const struct test_case *cases)
{
	int number = 0, failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (const struct test_case *c = cases; c->name; c++) {
		struct test t = { .name = c->name };

		if (!wanted(argc, argv, c->name)) {
			continue;
		}
		c->fn(&t);
		failed += t.failed;
		printf("%s %d %s%s%s\n", t.failed ? "not ok" : "ok", ++number, c->name,
		       t.skip_reason ? " # SKIP " : "", t.skip_reason ? t.skip_reason : "");
	}
	printf("1..%d\n", number);
	return failed ? 1 : 0;
}
