/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM with memory and vCPUs for unit tests, without descriptors and ioctls.
 */
#pragma once

#include <stdlib.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/test.h"
#include "softkvm/cpu/run.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/jit/jit.h"
#include "softkvm/mmu/coalesced.h"
#include "softkvm/mmu/mmu_int.h"
#include "softkvm/vm.h"

#define TESTVM_RAM_BYTES MIB(16)

struct testvm {
	struct vm vm;
	uint8_t *ram; /* slot 0, at 0 */
	unsigned count;
	struct vcpu *cpu[4];
};

static inline uint8_t *testvm_pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ASSERT(p != MAP_FAILED);
	return p;
}

static inline int testvm_slot(struct testvm *t, uint32_t id, uint32_t flags, gpa_t gpa,
			      uint64_t size, uint8_t *host)
{
	const struct kvm_userspace_memory_region r = {
		.slot = id,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};
	int rc;

	pthread_mutex_lock(&t->vm.lock);
	rc = memslots_set(&t->vm, &r);
	pthread_mutex_unlock(&t->vm.lock);
	return rc;
}

static inline void testvm_vcpu(struct testvm *t)
{
	struct vcpu *cpu = aligned_alloc(64, ALIGN_UP(sizeof(*cpu), (size_t)64));

	ASSERT(cpu);
	memset(cpu, 0, sizeof(*cpu));
	cpu->vm = &t->vm;
	cpu->id = t->count;
	cpu->fd = -1;
	atomic_store(&cpu->ext_vector, -1);
	pthread_mutex_init(&cpu->ioctl_lock, NULL);
	cpu->run = (struct kvm_run *)testvm_pages(3 * 4096);
	jit_vcpu_init(cpu);
	ASSERT(mmu_vcpu_init(cpu) == 0 && blocks_init(cpu) == 0);
	cpu_reset(cpu, false);
	cpu->mmu->env.maxphyaddr = 40;
	cpu->mmu->env.pages_1g = true;
	cpu->has_run = true; /* no CPUID: keep what was set here */
	t->cpu[t->count++] = cpu;
	atomic_store(&t->vm.vcpus[t->vm.vcpu_count], cpu);
	atomic_fetch_add(&t->vm.vcpu_count, 1);
}

/* With LODGE_TEST_JIT in the environment guests run translated from their first instruction on. */
static inline struct testvm *testvm_new(unsigned vcpus)
{
	struct testvm *t = calloc(1, sizeof(*t));

	ASSERT(t);
	pthread_mutex_init(&t->vm.lock, NULL);
	pthread_mutex_init(&t->vm.split_lock, NULL);
	ASSERT(memslots_init(&t->vm) == 0 && irqchip_init(&t->vm) == 0);
	t->ram = testvm_pages(TESTVM_RAM_BYTES);
	ASSERT(testvm_slot(t, 0, 0, 0, TESTVM_RAM_BYTES, t->ram) == 0);
	if (getenv("LODGE_TEST_JIT")) {
		jit_options.eager = true;
		ASSERT(jit_vm_init(&t->vm) == 0);
	}
	for (unsigned i = 0; i < vcpus; i++) {
		testvm_vcpu(t);
	}
	return t;
}

static inline void testvm_free(struct testvm *t)
{
	for (unsigned i = 0; i < t->count; i++) {
		struct vcpu *cpu = t->cpu[i];

		blocks_done(cpu);
		mmu_vcpu_done(cpu);
		munmap(cpu->run, 3 * 4096);
		free(cpu);
	}
	jit_vm_done(&t->vm);
	coalesced_done(&t->vm);
	irqchip_done(&t->vm);
	memslots_done(&t->vm);
	munmap(t->ram, TESTVM_RAM_BYTES);
	free(t);
}
