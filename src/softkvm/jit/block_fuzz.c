/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random programs, interpreted and translated, compared (blockcase.h).
 *
 *	block_fuzz [--seconds N] [--seed S] [--count N]
 *
 * Programs S, S + 1, …; without --seed from a random one on. Status 1 if anything differed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "softkvm/jit/blockcase.h"

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = UINT64_MAX, bad = 0;
	time_t end = time(NULL) + 60;
	struct bc *b;

	if (getrandom(&seed, sizeof(seed), 0) == sizeof(seed)) {
		seed >>= 16;
	}
	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (value && !strcmp(argv[i], "--seconds")) {
			end = time(NULL) + strtol(value, NULL, 0);
		} else if (value && !strcmp(argv[i], "--seed")) {
			seed = strtoull(value, NULL, 0);
		} else if (value && !strcmp(argv[i], "--count")) {
			count = strtoull(value, NULL, 0);
		} else {
			fprintf(stderr, "usage: %s [--seconds N] [--seed S] [--count N]\n",
				argv[0]);
			return 2;
		}
	}
	printf("seed %" PRIu64 "\n", seed);
	fflush(stdout);
	b = bc_new();
	for (uint64_t i = 0; i < count && bad < 10 && time(NULL) < end; i++) {
		bad += !bc_check(b, seed + i);
	}
	bc_report(b);
	bc_free(b);
	return bad ? 1 : 0;
}
