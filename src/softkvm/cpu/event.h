/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Delivery of exceptions and interrupts through the IDT or IVT (SDM 3A chapter 6),
 * with contributory faults, double fault and triple fault.
 */
#pragma once

#include "softkvm/cpu/vcpu.h"

/*
 * Deliver cpu->fault (cpu->rip is what gets pushed). Merges with an exception whose delivery
 * failed to #DF, #DF's failure to a triple fault (ev.triple_fault, REQ_TRIPLE).
 * Returns EXEC_END when the vCPU can go on at the handler, EXEC_EXIT if delivery needs a device
 * access from user space (nothing changed; call again), or for KVM_EXIT_DEBUG.
 */
enum exec_result event_deliver_fault(struct vcpu *cpu);
/* An external interrupt or NMI; the caller has checked IF, shadow and masks. Result as above. */
enum exec_result event_deliver_interrupt(struct vcpu *cpu, uint8_t vector);
enum exec_result event_deliver_nmi(struct vcpu *cpu);
/* INT n, INT3, INTO, INT1 by instruction: gate DPL is checked, RIP pushed is the next one's. */
enum exec_result event_software_interrupt(struct vcpu *cpu, const struct insn *in, uint8_t vector);
/*
 * Raise what was injected by KVM_SET_VCPU_EVENTS or KVM_INTERRUPT, and single-step or
 * breakpoint #DB after an instruction, in the order of SDM 3A table 6-2. Called by the run loop
 * before the next block when any of them is pending. EXEC_NEXT: nothing was due.
 */
enum exec_result event_deliver_pending(struct vcpu *cpu);
