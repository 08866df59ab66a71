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

/* Is there work for event_deliver_pending()? Interrupts and NMI are the run loop's to see. */
static inline bool event_is_pending(const struct vcpu *cpu)
{
	return cpu->ev.exception_pending || cpu->ev.exception_injected ||
	       cpu->ev.interrupt_injected || cpu->ev.nmi_injected || cpu->ev.debug_bits;
}

/* --- debug traps --------------------------------------------------------------------- */
enum bp_type { BP_EXEC = 0, BP_WRITE = 1, BP_IO = 2, BP_READWRITE = 3 };

/* The debug registers that count: the debugger's with KVM_GUESTDBG_USE_HW_BP, else the guest's. */
static inline uint64_t cpu_dr7(const struct vcpu *cpu)
{
	return cpu->guest_debug.control & KVM_GUESTDBG_USE_HW_BP ? cpu->guest_debug.arch.debugreg[7]
								 : cpu->dr7;
}
static inline uint64_t cpu_dr(const struct vcpu *cpu, unsigned i)
{
	return cpu->guest_debug.control & KVM_GUESTDBG_USE_HW_BP ? cpu->guest_debug.arch.debugreg[i]
								 : cpu->dr[i];
}
/*
 * DR6 bits (B0..B3) of the enabled breakpoints that an access [addr, addr+size) hits. For BP_WRITE,
 * breakpoints on reads and writes count too; BP_READWRITE means a read. (SDM 3B 17.2.5)
 */
uint32_t event_match_breakpoints(const struct vcpu *cpu, uint64_t addr, unsigned size,
				 enum bp_type type);
/* A data or I/O breakpoint was hit: reported as a trap after this instruction. */
static inline void event_data_breakpoint(struct vcpu *cpu, uint32_t dr6_bits)
{
	cpu->ev.debug_bits |= dr6_bits;
}
/*
 * Instruction breakpoints at rip, before its instruction is executed (RF off): true: cpu->fault
 * holds the #DB fault, to be delivered.
 */
bool event_code_breakpoint(struct vcpu *cpu);
/*
 * An instruction that was run on its own is done (EXEC_NEXT or EXEC_END, no fault, no exit):
 * clears RF unless the instruction loaded it, and notes the single-step trap if RFLAGS.TF was set
 * in `rflags_before`, or the debugger steps (KVM_GUESTDBG_SINGLESTEP).
 */
void event_insn_done(struct vcpu *cpu, const struct insn *in, uint64_t rflags_before);

/* --- exits that need an answer ------------------------------------------------------- */
/*
 * KVM_RUN is entered again after KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR or KVM_EXIT_HYPERCALL:
 * takes user space's answer (registers, RIP, or a pending #GP). Nothing to do otherwise.
 * (exec_sys_msr.c)
 */
void exec_sys_complete(struct vcpu *cpu);
