/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See testuser.h. */
#include "softkvm/jit/testuser.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "softkvm/cpu/blocks.h"
#include "softkvm/cpu/stub.h"

#define TABLES    0x1000 /* guest-physical: the top level first */
#define TURNS_MAX 1000000u

static uint64_t *table_at(struct testuser *u, uint64_t gpa)
{
	return (uint64_t *)(void *)(u->t->ram + gpa);
}

void testuser_map(struct testuser *u, gva_t lin, gpa_t gpa, uint64_t flags)
{
	gpa_t table = TABLES;

	for (unsigned shift = 39; shift > 12; shift -= 9) {
		uint64_t *e = table_at(u, table) + (lin >> shift & 511);

		if (!(*e & 1)) {
			*e = u->tables_end | 7;
			u->tables_end += 0x1000;
		}
		table = *e & ~0xfffull;
	}
	table_at(u, table)[lin >> 12 & 511] =
		gpa | (flags & ~(uint64_t)TU_X) | 1 | (flags & TU_X ? 0 : BIT64(63));
}

static struct segment segment(uint16_t sel, uint8_t type, bool l)
{
	return (struct segment){ .sel = sel,
				 .limit = 0xffffffff,
				 .type = type,
				 .s = 1,
				 .dpl = 3,
				 .present = 1,
				 .l = l,
				 .db = !l,
				 .g = 1 };
}

void testuser_mode(struct testuser *u, bool m32)
{
	u->cpu->seg[SEG_CS] = segment(m32 ? 0x23 : 0x33, 11, !m32);
	cpu_mode_changed(u->cpu);
}

static void set_state(struct vcpu *cpu)
{
	uint64_t cr0 = cpu->cr0, cr4 = cpu->cr4, efer = cpu->efer;

	cpu->cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_MP | CR0_WP | CR0_ET;
	cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
	cpu->efer = EFER_LME | EFER_LMA | EFER_NX | EFER_SCE;
	cpu->xcr0 = fpu_xcr0_supported();
	cpu->cr3 = TABLES;
	for (unsigned i = 0; i < 6; i++) {
		cpu->seg[i] = segment(0x2b, 3, false);
	}
	cpu->cpl = 3;
	cpu_set_rflags(cpu, FL_FIXED | FL_IF);
	atomic_store(&cpu->mp_state, KVM_MP_STATE_RUNNABLE);
	ASSERT(mmu_paging_changed(cpu, cr0, cr4, efer) && mmu_set_cr3(cpu, cpu->cr3, false));
}

struct testuser *testuser_new(void)
{
	struct testuser *u = calloc(1, sizeof(*u));

	ASSERT(u && stub_init() == 0);
	jit_options.eager = true;
	jit_options.keep_faults = true;
	jit_options.cache_mib = JIT_CACHE_MIB_MIN;
	u->t = testvm_new(0);
	ASSERT(jit_vm_init(&u->t->vm) == 0);
	testvm_vcpu(u->t);
	u->cpu = u->t->cpu[0];
	u->tables_end = TABLES + 0x1000;
	set_state(u->cpu);
	testuser_mode(u, false);
	return u;
}

void testuser_free(struct testuser *u)
{
	if (u) {
		testvm_free(u->t);
		free(u);
	}
}

void testuser_wrote(struct testuser *u, gpa_t gpa, size_t len)
{
	jit_wrote(&u->t->vm, u->t->ram + gpa, len);
}

void testuser_forget(struct testuser *u)
{
	jit_flush(&u->t->vm);
}

void testuser_enter(struct testuser *u)
{
	jit_thread_enter(u->cpu);
	fpu_load(u->cpu);
	block_stack_base(u->cpu);
}

void testuser_leave(struct testuser *u)
{
	fpu_unload(u->cpu);
	jit_thread_leave(u->cpu);
}

enum testuser_stop testuser_run(struct testuser *u)
{
	struct vcpu *cpu = u->cpu;

	for (unsigned i = 0; i < TURNS_MAX && !cpu->run->immediate_exit; i++) {
		uint32_t req = atomic_exchange(&cpu->req, 0);
		enum exec_result r;

		if (req & REQ_JIT) {
			jit_drop_write_tags(cpu);
		}
		cpu->rflags &= ~(uint64_t)FL_RF;
		cpu->ev.shadow = 0;
		if (u->interpret) {
			cpu->jit.on = false;
			r = block_run(cpu);
		} else {
			r = jit_run(cpu);
		}
		if (r == EXEC_FAULT) {
			return TU_FAULT;
		}
		if (r == EXEC_EXIT) {
			return TU_EXIT;
		}
	}
	return TU_STUCK;
}

bool testuser_options(int argc, char **argv, struct testuser_options *ret)
{
	*ret = (struct testuser_options){ .seed = 1, .count = UINT64_MAX, .end = time(NULL) + 60 };
	if (getrandom(&ret->seed, sizeof(ret->seed), 0) == sizeof(ret->seed)) {
		ret->seed >>= 16; /* room to count on from it */
	}
	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (value && !strcmp(argv[i], "--seconds")) {
			ret->end = time(NULL) + strtol(value, NULL, 0);
		} else if (value && !strcmp(argv[i], "--seed")) {
			ret->seed = strtoull(value, NULL, 0);
		} else if (value && !strcmp(argv[i], "--count")) {
			ret->count = strtoull(value, NULL, 0);
		} else {
			fprintf(stderr, "usage: %s [--seconds N] [--seed S] [--count N]\n",
				argv[0]);
			return false;
		}
	}
	printf("seed %" PRIu64 "\n", ret->seed);
	fflush(stdout);
	return true;
}
