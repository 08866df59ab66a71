/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random instructions on this processor and on softkvm, interpreted and translated, compared
 * (difftest.h).
 *
 *	insn_fuzz [--seconds N] [--seed S] [--count CASES_PER_ROW] [--only MNEMONIC] [--verbose]
 *
 * Without --seed a random one, which is printed. Status 1 if anything differed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "softkvm/cpu/difftest.h"

static bool parse(int argc, char **argv, struct dt_options *opt)
{
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (!strcmp(argv[i], "--verbose")) {
			opt->verbose = true;
			continue;
		}
		if (!value) {
			return false;
		}
		if (!strcmp(argv[i], "--seconds")) {
			opt->seconds = (unsigned)strtoul(value, NULL, 0);
		} else if (!strcmp(argv[i], "--seed")) {
			opt->seed = strtoull(value, NULL, 0);
		} else if (!strcmp(argv[i], "--count")) {
			opt->cases_per_row = (unsigned)strtoul(value, NULL, 0);
		} else if (!strcmp(argv[i], "--only")) {
			opt->only = value;
		} else {
			return false;
		}
		i++;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct dt_options opt = { .cases_per_row = 32 };
	struct dt_report rep;

	if (getrandom(&opt.seed, sizeof(opt.seed), 0) != sizeof(opt.seed)) {
		opt.seed = 1;
	}
	if (!parse(argc, argv, &opt)) {
		fprintf(stderr,
			"usage: %s [--seconds N] [--seed S] [--count N] [--only MNEMONIC] "
			"[--verbose]\n",
			argv[0]);
		return 2;
	}
	printf("seed %" PRIu64 "\n", opt.seed);
	dt_run(&opt, &rep);
	if (!rep.supported) {
		printf("this machine cannot run the native side\n");
		return 77;
	}
	printf("%" PRIu64 " cases, %" PRIu64 " differences; %u of %u rows covered, %u excluded\n",
	       rep.cases, rep.differences, rep.rows_covered, rep.rows, rep.rows_excluded);
	printf("translated: %u rows to host code, %u by their handlers, %u left to the "
	       "interpreter\n",
	       rep.translated[DT_BY_HOST_CODE], rep.translated[DT_BY_HANDLER],
	       rep.translated[DT_BY_INTERPRETER]);
	return rep.differences ? 1 : 0;
}
