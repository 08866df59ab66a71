/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coalesced MMIO and PIO (KVM API 4.116): writes to registered zones are collected in a ring
 * that user space reads when it likes. The ring lies in the third page of the first vCPU's
 * mapping.
 */
#pragma once

#include <linux/kvm.h>

#include "softkvm/cpu/vcpu.h"

/* KVM_REGISTER_COALESCED_MMIO and KVM_UNREGISTER_COALESCED_MMIO; vm->lock held. 0 or -errno. */
int coalesced_register(struct vm *vm, const struct kvm_coalesced_mmio_zone *zone);
int coalesced_unregister(struct vm *vm, const struct kvm_coalesced_mmio_zone *zone);
void coalesced_done(struct vm *vm);
/* True: the write is in the ring. */
bool coalesced_write(struct vcpu *cpu, bool pio, uint64_t addr, const void *data, unsigned len);
