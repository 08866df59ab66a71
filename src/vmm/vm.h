/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM as KVM sees it: interrupt controllers, timer, memory slots. Used by
 * the thread that builds the guest; the ioctls themselves are thread-safe.
 */
#pragma once

#include "kvm/kvm.h"
#include "mem/mem.h"

#define VM_CHIPS 3 /* both 8259 and the IOAPIC */

struct vm {
	struct kvm *kvm;
	int fd;
	/* As created, for a reset. */
	struct kvm_irqchip chips[VM_CHIPS];
	struct kvm_pit_state2 pit;
};

/* 0, or -errno and one line in `error`. Done with vm_done(), also after a failure. */
int vm_init(struct vm *v, struct kvm *k, char *error, size_t error_size);
void vm_done(struct vm *v);
/* Make each region of `m` a memory slot. The same errors. */
int vm_add_memory(struct vm *v, const struct mem *m, char *error, size_t error_size);
/* Interrupt controllers and timer back to power-on. vCPUs paused. 0 or -errno. */
int vm_reset(struct vm *v);
