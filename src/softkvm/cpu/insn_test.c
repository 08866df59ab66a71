/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every user-mode instruction form with fixed random cases, on this processor
 * and on softkvm (difftest.h). LODGE_INSN_CASES in the environment sets the cases a row.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/test.h"
#include "softkvm/cpu/difftest.h"

enum { CASES_PER_ROW = 400 };

static void test_against_host(struct test *t)
{
	const char *n = getenv("LODGE_INSN_CASES");
	struct dt_options opt = { .seed = 20240607,
				  .cases_per_row =
					  n ? (unsigned)strtoul(n, NULL, 0) : CASES_PER_ROW };
	struct dt_report rep;

	dt_run(&opt, &rep);
	if (!rep.supported) {
		SKIP(t, "no XSAVE, or no executable memory");
	}
	printf("# %" PRIu64 " cases; %u of %u rows covered, %u excluded\n", rep.cases,
	       rep.rows_covered, rep.rows, rep.rows_excluded);
	CHECK_EQ(t, rep.differences, 0);
	/* every row that is not excluded ended without a fault at least once; but UD0, UD1, UD2 */
	CHECK(t, rep.rows_covered + rep.rows_excluded + 3 >= rep.rows);
}

static const struct test_case cases[] = {
	{ "host and softkvm agree", test_against_host },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
