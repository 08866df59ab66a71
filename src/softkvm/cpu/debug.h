/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Breakpoints and single steps as the run loop and the MMU see them. The
 * rules of #DB are in event.c. Own thread only.
 */
#pragma once

#include "softkvm/cpu/vcpu.h"

/* Debug registers or KVM_SET_GUEST_DEBUG may have changed: what is watched follows. Cheap. */
void debug_refresh(struct vcpu *cpu);
/* Must the next instruction be run alone? */
bool debug_must_step(const struct vcpu *cpu);
/* A data or I/O breakpoint was hit (DR6 bits): a trap behind this instruction. */
void debug_hit(struct vcpu *cpu, uint32_t dr6_bits);
/* An access to a port was made. */
void debug_check_io(struct vcpu *cpu, uint16_t port, unsigned size);
