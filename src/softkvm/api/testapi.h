/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM through the public interface, for tests: what a KVM program would do.
 */
#pragma once

#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/test.h"
#include "base/util.h"
#include "softkvm/softkvm.h"

#define TESTAPI_RAM_BYTES MIB(2)

struct testapi {
	int sys, vm, vcpu[4];
	unsigned count;
	struct kvm_run *run[4];
	uint8_t *ram; /* slot 0, at 0 */
};

static inline int api_call(int fd, unsigned long request, const void *arg)
{
	return softkvm_ioctl(fd, request, (unsigned long)(uintptr_t)arg);
}

static inline void testapi_open(struct testapi *t)
{
	struct kvm_userspace_memory_region r = { .memory_size = TESTAPI_RAM_BYTES };

	memset(t, 0, sizeof(*t));
	t->sys = softkvm_open();
	ASSERT(t->sys >= 0);
	t->vm = softkvm_ioctl(t->sys, KVM_CREATE_VM, 0);
	ASSERT(t->vm >= 0);
	t->ram = mmap(NULL, TESTAPI_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	ASSERT(t->ram != MAP_FAILED);
	r.userspace_addr = (uintptr_t)t->ram;
	ASSERT(api_call(t->vm, KVM_SET_USER_MEMORY_REGION, &r) == 0);
}

/* The next vCPU, with the CPUID that the engine offers and the deadline timer. */
static inline int testapi_vcpu(struct testapi *t)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = { .head.nent = 256 };
	unsigned i = t->count++;

	t->vcpu[i] = softkvm_ioctl(t->vm, KVM_CREATE_VCPU, i);
	ASSERT(t->vcpu[i] >= 0);
	t->run[i] = softkvm_mmap_run(t->vcpu[i]);
	ASSERT(t->run[i]);
	ASSERT(api_call(t->sys, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	for (unsigned e = 0; e < cpuid.head.nent; e++) {
		if (cpuid.entries[e].function == 1) {
			cpuid.entries[e].ecx |= BIT(24);
		}
	}
	ASSERT(api_call(t->vcpu[i], KVM_SET_CPUID2, &cpuid) == 0);
	return t->vcpu[i];
}

/* Put code at `addr` and start the vCPU there in real mode, with interrupts on if `flags` has IF.
 */
static inline void testapi_code(struct testapi *t, unsigned i, uint16_t addr, const void *code,
				size_t len, uint64_t flags)
{
	struct kvm_regs regs = { .rip = addr, .rsp = 0x8000, .rflags = 2 | flags };
	struct kvm_sregs sregs;

	memcpy(t->ram + addr, code, len);
	ASSERT(api_call(t->vcpu[i], KVM_GET_SREGS, &sregs) == 0);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	ASSERT(api_call(t->vcpu[i], KVM_SET_SREGS, &sregs) == 0);
	ASSERT(api_call(t->vcpu[i], KVM_SET_REGS, &regs) == 0);
}

static inline void testapi_close(struct testapi *t)
{
	for (unsigned i = 0; i < t->count; i++) {
		softkvm_munmap_run(t->run[i]);
		softkvm_close(t->vcpu[i]);
	}
	softkvm_close(t->vm);
	softkvm_close(t->sys);
	munmap(t->ram, TESTAPI_RAM_BYTES);
}
