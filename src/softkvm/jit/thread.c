/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The GS base of a thread inside KVM_RUN is its vCPU; the program's own comes back afterwards.
 */
#include <asm/prctl.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

#include "softkvm/cpu/vcpu.h"
#include "softkvm/jit/jit.h"
#include "softkvm/vm.h"

#define HWCAP2_GSBASE BIT(1) /* user mode may use RDGSBASE and WRGSBASE */

static bool have_gsbase(void)
{
	static _Atomic int known; /* 0: not asked yet */
	int k = atomic_load_explicit(&known, memory_order_relaxed);

	if (k == 0) {
		k = getauxval(AT_HWCAP2) & HWCAP2_GSBASE ? 1 : 2;
		atomic_store_explicit(&known, k, memory_order_relaxed);
	}
	return k == 1;
}

static void set_gs(uint64_t base)
{
	if (have_gsbase()) {
		__asm__ volatile("wrgsbase %0" : : "r"(base) : "memory");
	} else {
		syscall(SYS_arch_prctl, ARCH_SET_GS, base);
	}
}

static uint64_t get_gs(void)
{
	uint64_t base = 0;

	if (have_gsbase()) {
		__asm__ volatile("rdgsbase %0" : "=r"(base));
	} else {
		syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
	}
	return base;
}

void jit_thread_enter(struct vcpu *cpu)
{
	if (cpu->vm->jit) {
		cpu->jit.saved_gs = get_gs();
		set_gs((uint64_t)(uintptr_t)cpu);
		jit_guards_changed(cpu);
	}
}

void jit_thread_leave(struct vcpu *cpu)
{
	if (cpu->vm->jit) {
		set_gs(cpu->jit.saved_gs);
	}
}
