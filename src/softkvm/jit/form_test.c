/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every user-mode instruction form with fixed random cases three ways: by this processor, by the
 * interpreter, translated (cpu/difftest.h). LODGE_INSN_CASES in the environment sets the cases a
 * row.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/test.h"
#include "softkvm/cpu/difftest.h"

enum { CASES_PER_ROW = 120 };

static void test_three_ways(struct test *t)
{
	const char *n = getenv("LODGE_INSN_CASES");
	struct dt_options opt = { .seed = 20260101,
				  .cases_per_row =
					  n ? (unsigned)strtoul(n, NULL, 0) : CASES_PER_ROW };
	struct dt_report rep;

	dt_run(&opt, &rep);
	if (!rep.supported) {
		SKIP(t, "no XSAVE, or no executable memory");
	}
	printf("# %" PRIu64 " cases; %u of %u rows covered, %u excluded\n", rep.cases,
	       rep.rows_covered, rep.rows, rep.rows_excluded);
	printf("# translated: %u rows to host code, %u by their handlers, %u left to the "
	       "interpreter\n",
	       rep.translated[DT_BY_HOST_CODE], rep.translated[DT_BY_HANDLER],
	       rep.translated[DT_BY_INTERPRETER]);
	CHECK_EQ(t, rep.differences, 0);
	CHECK(t, rep.rows_covered + rep.rows_excluded + 3 >= rep.rows); /* but UD0, UD1, UD2 */
}

static const struct test_case cases[] = {
	{ "host, interpreter and translator agree", test_three_ways },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
