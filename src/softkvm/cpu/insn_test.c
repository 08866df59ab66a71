/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every user-mode instruction form with fixed random cases, on this processor
 * and on softkvm (difftest.h). LODGE_INSN_CASES in the environment sets the cases a row.
 */
#include "softkvm/cpu/difftest_check.h"

enum { CASES_PER_ROW = 400 };

static void test_against_host(struct test *t)
{
	struct dt_report rep;

	dt_check_rows(t, 20240607, CASES_PER_ROW, &rep);
}

static const struct test_case cases[] = {
	{ "host and softkvm agree", test_against_host },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
