/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Random programs with fixed seeds (blockcase.h). LODGE_BLOCKS in the environment: how many. */
#include <stdlib.h>

#include "base/test.h"
#include "softkvm/jit/blockcase.h"

enum { PROGRAMS = 15000 };

static void test_programs(struct test *t)
{
	const char *env = getenv("LODGE_BLOCKS");
	unsigned n = env ? (unsigned)strtoul(env, NULL, 0) : PROGRAMS, bad = 0;
	struct bc *b = bc_new();

	for (unsigned i = 0; i < n && bad < 5; i++) {
		bad += !bc_check(b, 1000000 + i);
	}
	bc_report(b);
	bc_free(b);
	CHECK_EQ(t, bad, 0);
}

static const struct test_case cases[] = {
	{ "interpreter and translator agree on random programs", test_programs },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
