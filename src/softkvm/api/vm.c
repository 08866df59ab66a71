/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a virtual machine.
 *
 * References: one of the VM's descriptors, one of each vCPU's. As in the kernel,
 * irqfds do not hold the VM: they are let go with its last descriptor. Everything is
 * freed with the last reference: then no thread can be inside any of its calls.
 */
#include <stdlib.h>

#include "softkvm/api/api.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/irqchip/irqchip_int.h"
#include "softkvm/jit/jit.h"
#include "softkvm/mmu/coalesced.h"
#include "softkvm/mmu/memslot.h"

static void vm_free(struct vm *vm)
{
	options_report(vm);
	if (vm->irqchip) {
		irqchip_done(vm);
	}
	for (uint32_t i = 0; i < vm->vcpu_count; i++) {
		vcpu_free(vm->vcpus[i]);
	}
	jit_vm_done(vm);
	if (vm->slots) {
		memslots_done(vm);
	}
	coalesced_done(vm);
	fd_closep(&vm->ring_fd);
	msr_filter_free(vm->msr_filter);
	pthread_mutex_destroy(&vm->split_lock);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

int vm_new(unsigned long type, struct vm **ret)
{
	struct vm *vm;
	int r;

	if (type != 0) {
		return -EINVAL;
	}
	options_from_environment();
	vm = calloc(1, sizeof(*vm));
	if (!vm) {
		return -ENOMEM;
	}
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->split_lock, NULL);
	vm->fd = vm->ring_fd = -1;
	atomic_store(&vm->refs, 1);
	vm->tsc_base_host = clock_host_tsc_now();
	vm->default_tsc_khz = clock_host_tsc_khz();
	vm->cap.max_vcpu_id = 0;
	vm->kvmclock_offset_ns = -(int64_t)clock_kvm_ns(vm);
	r = memslots_init(vm);
	if (r == 0) {
		r = irqchip_init(vm);
	}
	if (r == 0) {
		r = jit_vm_init(vm);
	}
	if (r != 0) {
		vm_free(vm);
		return r;
	}
	*ret = vm;
	return 0;
}

void vm_unref(struct vm *vm)
{
	if (vm && atomic_fetch_sub(&vm->refs, 1) == 1) {
		vm_free(vm);
	}
}

void vm_release(struct vm *vm)
{
	irqchip_release_eventfds(vm);
	vm_unref(vm);
}

struct vcpu *vm_vcpu_by_id(struct vm *vm, uint32_t id)
{
	uint32_t n = atomic_load_explicit(&vm->vcpu_count, memory_order_acquire);

	for (uint32_t i = 0; i < n; i++) {
		if (vm->vcpus[i]->id == id) {
			return vm->vcpus[i];
		}
	}
	return NULL;
}
