/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of all instruction forms share: fixed cases of every row, and the row counts.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/test.h"
#include "softkvm/cpu/difftest.h"

/* LODGE_INSN_CASES in the environment sets the cases a row. */
static inline void dt_check_rows(struct test *t, uint64_t seed, unsigned cases_per_row,
				 struct dt_report *ret)
{
	const char *n = getenv("LODGE_INSN_CASES");
	struct dt_options opt = { .seed = seed,
				  .cases_per_row =
					  n ? (unsigned)strtoul(n, NULL, 0) : cases_per_row };

	dt_run(&opt, ret);
	if (!ret->supported) {
		SKIP(t, "no XSAVE, or no executable memory");
	}
	printf("# %" PRIu64 " cases; %u of %u rows covered, %u excluded\n", ret->cases,
	       ret->rows_covered, ret->rows, ret->rows_excluded);
	CHECK_EQ(t, ret->differences, 0);
	/* every row that is not excluded ended without a fault at least once; but UD0, UD1, UD2 */
	CHECK(t, ret->rows_covered + ret->rows_excluded + 3 >= ret->rows);
}
