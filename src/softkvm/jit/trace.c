/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For those who work on the translator: a map for perf, dumps, counts.
 */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "softkvm/jit/jit_int.h"
#include "softkvm/vm.h"

static FILE *perf_map(void)
{
	static FILE *file;
	char path[64];

	if (!file) {
		snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
		file = fopen(path, "we");
	}
	return file;
}

void jit_trace_init(void)
{
	if (jit_options.perf_map) {
		perf_map(); /* now, before a sandbox forbids it */
	}
}

static void dump(const struct jit_block *b)
{
	const uint8_t *guest = b->page->bytes + (b->rip & 4095);

	fprintf(stderr, "block %016llx key %x: %u instructions, %u bytes of code at %p\n guest:",
		(unsigned long long)b->rip, b->key, b->insns, b->code_bytes,
		(const void *)b->enter_indirect);
	for (unsigned i = b->range[0].start; i < b->range[0].end; i++) {
		fprintf(stderr, " %02x", guest[i - b->range[0].start]);
	}
	fprintf(stderr, "\n host:");
	for (unsigned i = 0; i < b->code_bytes; i++) {
		fprintf(stderr, " %02x", b->enter_indirect[i]);
	}
	fprintf(stderr, "\n");
}

void jit_trace_block(struct jit *jit, const struct jit_block *b)
{
	(void)jit;
	if (unlikely(jit_options.perf_map) && perf_map()) {
		fprintf(perf_map(), "%llx %x guest_%llx\n",
			(unsigned long long)(uintptr_t)b->enter_indirect, b->code_bytes,
			(unsigned long long)b->rip);
		fflush(perf_map());
	}
	if (unlikely(jit_options.dump)) {
		dump(b);
	}
}

/* --- counts ----------------------------------------------------------------------------------- */

#define REPORT_OPS 20u

static unsigned most_frequent(const uint64_t counts[OP_COUNT])
{
	unsigned best = 0;

	for (unsigned op = 1; op < OP_COUNT; op++) {
		best = counts[op] > counts[best] ? op : best;
	}
	return best;
}

/* Forms that share a mnemonic are told apart by the operation's name. */
static void report_ops(const char *what, uint64_t counts[OP_COUNT])
{
#define NAME(name, mnemonic, group) [OP_##name] = #name,
	static const char *const names[OP_COUNT] = { "NONE", OPS_ALL(NAME) };
#undef NAME

	fprintf(stderr, "softkvm: %s:", what);
	for (unsigned i = 0; i < REPORT_OPS; i++) {
		unsigned op = most_frequent(counts);

		if (counts[op] == 0) {
			break;
		}
		fprintf(stderr, " %s %llu", names[op], (unsigned long long)counts[op]);
		counts[op] = 0;
	}
	fprintf(stderr, "\n");
}

void jit_report(const struct vm *vm)
{
	const struct jit *jit = vm->jit;

	if (!jit) {
		return;
	}
	fprintf(stderr,
		"softkvm: %u blocks, %llu killed, %llu regions emptied, %llu flushes; "
		"%llu instructions became %llu bytes, and %llu of rare paths\n",
		jit->blocks, (unsigned long long)jit->killed,
		(unsigned long long)atomic_load(&jit->evictions), (unsigned long long)jit->flushes,
		(unsigned long long)jit->insns, (unsigned long long)jit->code_bytes,
		(unsigned long long)jit->cold_bytes);
	for (uint32_t i = 0; i < vm->vcpu_count; i++) {
		const struct jit_vcpu *j = &vm->vcpus[i]->jit;

		fprintf(stderr,
			"softkvm: vcpu %u: %llu entries, %llu interpreted, %llu translated, "
			"%llu links, %llu indirect misses (%llu times all anew), %llu memory "
			"calls, "
			"%llu handlers\n",
			vm->vcpus[i]->id, (unsigned long long)j->stats.entered,
			(unsigned long long)j->stats.interpreted,
			(unsigned long long)j->stats.translated,
			(unsigned long long)j->stats.linked, (unsigned long long)j->stats.misses,
			(unsigned long long)j->stats.renewed, (unsigned long long)j->stats.memory,
			(unsigned long long)j->stats.handlers);
		jit_verify_report(vm->vcpus[i]);
		if (j->op_counts) {
			report_ops("handled by C", j->op_counts->handled);
			report_ops("interpreted blocks begin with", j->op_counts->interpreted);
		}
	}
}
