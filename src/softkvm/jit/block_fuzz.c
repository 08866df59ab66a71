/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random programs, interpreted and translated, compared (blockcase.h).
 *
 *	block_fuzz [--seconds N] [--seed S] [--count N]
 *
 * Programs S, S + 1, …; without --seed from a random one on. Status 1 if anything differed.
 */
#include "softkvm/jit/blockcase.h"
#include "softkvm/jit/testuser.h"

int main(int argc, char **argv)
{
	struct testuser_options o;
	uint64_t bad = 0;
	struct bc *b;

	if (!testuser_options(argc, argv, &o)) {
		return 2;
	}
	b = bc_new();
	for (uint64_t i = 0; i < o.count && bad < 10 && time(NULL) < o.end; i++) {
		bad += !bc_check(b, o.seed + i);
	}
	bc_report(b);
	bc_free(b);
	return bad ? 1 : 0;
}
