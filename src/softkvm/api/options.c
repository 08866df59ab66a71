/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * softkvm_set_options(): settings for those who work on the engine.
 */
#include <stdio.h>
#include <stdlib.h>

#include "softkvm/api/api.h"
#include "softkvm/softkvm.h"

static _Atomic bool want_stats;

static int set_one(const char *option, size_t len)
{
	if (len == strlen("stats") && memcmp(option, "stats", len) == 0) {
		atomic_store(&want_stats, true);
		return 0;
	}
	return -EINVAL;
}

int softkvm_set_options(const char *options)
{
	const char *p = options ? options : "";

	while (*p) {
		size_t len = strcspn(p, ",");
		int r = set_one(p, len);

		if (r != 0) {
			return r;
		}
		p += len + (p[len] == ',');
	}
	return 0;
}

void options_report(const struct vm *vm)
{
	if (!atomic_load(&want_stats)) {
		return;
	}
	for (uint32_t i = 0; i < vm->vcpu_count; i++) {
		fprintf(stderr, "softkvm: vcpu %u: about %llu instructions\n", vm->vcpus[i]->id,
			(unsigned long long)vm->vcpus[i]->insn_count);
	}
}
