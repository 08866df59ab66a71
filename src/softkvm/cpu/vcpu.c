/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests to a vCPU, and the protocol by which all vCPUs of a VM are stopped.
 *
 * Theory of operation
 *
 * `req` is a set of bits; a vCPU looks at it between blocks. It is also the futex that a halted
 * vCPU sleeps on. vcpu_request() sets bits, then looks at `sleeping`; the vCPU sets `sleeping`,
 * then looks at the bits (by futex): one of them sees the other.
 *
 * Pausing is the same game: vm_pause_vcpus() sets REQ_PAUSE, then looks at `in_guest`; a vCPU sets
 * `in_guest`, then looks at REQ_PAUSE, and takes it back if it is set. Whoever clears
 * `in_guest` and finds REQ_PAUSE raises vm->pause_acks, on which the pauser sleeps.
 *
 * Invariant: a thread touches TLB, blocks or slots of a vCPU only with in_guest set, or holding
 * vm->lock.
 */
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "softkvm/cpu/run.h"
#include "softkvm/cpu/run_int.h"
#include "softkvm/vm.h"

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

int futex_wait_until(_Atomic uint32_t *word, uint32_t value, ns_t deadline)
{
	struct timespec ts = { deadline / NS_PER_S, deadline % NS_PER_S };

	if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value,
		    deadline == INT64_MAX ? NULL : &ts, NULL, FUTEX_BITSET_MATCH_ANY) == 0) {
		return 0;
	}
	return -errno;
}

void vcpu_request(struct vcpu *cpu, uint32_t req)
{
	atomic_fetch_or(&cpu->req, req);
	if (atomic_load(&cpu->sleeping)) {
		int saved = errno;

		futex_wake(&cpu->req);
		errno = saved;
	}
}

void guest_leave(struct vcpu *cpu)
{
	atomic_store(&cpu->in_guest, false);
	if (atomic_load(&cpu->req) & REQ_PAUSE) {
		atomic_fetch_add(&cpu->vm->pause_acks, 1);
		futex_wake(&cpu->vm->pause_acks);
	}
}

void guest_enter(struct vcpu *cpu)
{
	for (;;) {
		uint32_t req;

		atomic_store(&cpu->in_guest, true);
		if (likely(!(atomic_load(&cpu->req) & REQ_PAUSE))) {
			return;
		}
		guest_leave(cpu);
		while ((req = atomic_load(&cpu->req)) & REQ_PAUSE) {
			futex_wait_until(&cpu->req, req, INT64_MAX);
		}
	}
}

void vcpu_memory_begin(struct vcpu *cpu)
{
	guest_enter(cpu);
}

void vcpu_memory_end(struct vcpu *cpu)
{
	guest_leave(cpu);
}

static struct vcpu *vm_vcpu(struct vm *vm, uint32_t i)
{
	return atomic_load_explicit(&vm->vcpus[i], memory_order_acquire);
}

static void wait_outside(struct vcpu *cpu)
{
	for (;;) {
		uint32_t acks = atomic_load(&cpu->vm->pause_acks);

		if (!atomic_load(&cpu->in_guest)) {
			return;
		}
		futex_wait_until(&cpu->vm->pause_acks, acks, INT64_MAX);
	}
}

void vm_pause_vcpus(struct vm *vm)
{
	uint32_t n = atomic_load(&vm->vcpu_count);

	for (uint32_t i = 0; i < n; i++) {
		atomic_fetch_or(&vm_vcpu(vm, i)->req, REQ_PAUSE);
	}
	for (uint32_t i = 0; i < n; i++) {
		wait_outside(vm_vcpu(vm, i));
	}
}

void vm_resume_vcpus(struct vm *vm)
{
	uint32_t n = atomic_load(&vm->vcpu_count);

	for (uint32_t i = 0; i < n; i++) {
		struct vcpu *cpu = vm_vcpu(vm, i);

		atomic_fetch_and(&cpu->req, ~(uint32_t)REQ_PAUSE);
		futex_wake(&cpu->req);
	}
}

void vm_flush_tlbs(struct vm *vm)
{
	uint32_t n = atomic_load(&vm->vcpu_count);

	for (uint32_t i = 0; i < n; i++) {
		atomic_fetch_or(&vm_vcpu(vm, i)->req, REQ_TLB_FLUSH);
	}
}
