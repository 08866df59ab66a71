/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * softkvm_set_options(): settings for those who work on the engine.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "softkvm/api/api.h"
#include "softkvm/jit/jit.h"
#include "softkvm/softkvm.h"

#define VERIFY_RUNS 16u /* of each block: then it has met most of what it will */

static _Atomic bool want_stats;

/* The option is `name`, whatever follows it. */
static bool is(const char *option, size_t len, const char *name)
{
	return len == strlen(name) && memcmp(option, name, len) == 0;
}

/* A number of up to seven digits. */
static bool number(const char *text, size_t len, unsigned *ret)
{
	unsigned v = 0;

	if (len == 0 || len > 7) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9') {
			return false;
		}
		v = v * 10 + (unsigned)(text[i] - '0');
	}
	*ret = v;
	return true;
}

static int set_cache(const char *mib, size_t len)
{
	unsigned v;

	if (!number(mib, len, &v) || v < JIT_CACHE_MIB_MIN || v > JIT_CACHE_MIB_MAX) {
		return -EINVAL;
	}
	jit_options.cache_mib = v;
	return 0;
}

static int set_one(const char *option, size_t len)
{
	if (is(option, len, "stats")) {
		atomic_store(&want_stats, true);
		jit_options.count = true;
	} else if (is(option, len, "nojit")) {
		jit_options.off = true;
	} else if (is(option, len, "perf")) {
		jit_options.perf_map = true;
	} else if (is(option, len, "dump")) {
		jit_options.dump = true;
	} else if (is(option, len, "verify")) {
		jit_options.verify = VERIFY_RUNS;
	} else if (is(option, len, "eager")) {
		jit_options.eager = true;
	} else if (len > 6 && memcmp(option, "cache=", 6) == 0) {
		return set_cache(option + 6, len - 6);
	} else if (len > 7 && memcmp(option, "verify=", 7) == 0) {
		return number(option + 7, len - 7, &jit_options.verify) ? 0 : -EINVAL;
	} else {
		return -EINVAL;
	}
	return 0;
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
	jit_report(vm);
}

static void read_environment(void)
{
	const char *options = secure_getenv("SOFTKVM_OPTS");

	if (options && softkvm_set_options(options) != 0) {
		fprintf(stderr, "softkvm: SOFTKVM_OPTS: unknown option in \"%s\"\n", options);
	}
}

void options_from_environment(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, read_environment);
}
