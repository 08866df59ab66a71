/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every user-mode instruction form with fixed random cases three ways: by this processor, by the
 * interpreter, translated (cpu/difftest.h). LODGE_INSN_CASES in the environment sets the cases a
 * row.
 */
#include "softkvm/cpu/difftest_check.h"

enum { CASES_PER_ROW = 120 };

static void test_three_ways(struct test *t)
{
	struct dt_report rep;

	dt_check_rows(t, 20260101, CASES_PER_ROW, &rep);
	if (rep.supported) {
		printf("# translated: %u rows to host code, %u by their handlers, %u left to the "
		       "interpreter\n",
		       rep.translated[DT_BY_HOST_CODE], rep.translated[DT_BY_HANDLER],
		       rep.translated[DT_BY_INTERPRETER]);
	}
}

static const struct test_case cases[] = {
	{ "host, interpreter and translator agree", test_three_ways },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
