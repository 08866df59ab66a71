/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loop of KVM_RUN.
 *
 * Theory of operation
 *
 * Each turn: (1) requests; (2) a vCPU that is not runnable waits, or leaves; (3) what is due
 * before the next instruction, in the order of SDM 3A table 6-2: injected and pending events
 * and debug traps, NMI, interrupts; (4) guest code, until a block ends and something asks for
 * attention. Requests from other threads set bits in cpu->req, which every change from block to
 * block looks at. Instructions that change what the loop decides on (IF, mode, debug registers,
 * halting) end their block and return EXEC_END.
 *
 * A unit is one event delivery or one run of guest code. With a device access unfinished
 * (io.replay, see mmu/io.c) the first unit is exactly one instruction or delivery, nothing comes
 * before it, and the log is dropped behind it.
 *
 * The shadow of STI and MOV SS: if an interrupt waits (or user space waits to inject one), one
 * instruction is run alone, and the next turn takes it. If none waits, the shadow has no effect
 * that anybody could see, and is dropped.
 *
 * RF only suppresses instruction breakpoints, and these make the loop step; without them it is
 * cleared at once, as any instruction does.
 */
#include "softkvm/cpu/run.h"

#include <immintrin.h>

#include "softkvm/cpu/blocks.h"
#include "softkvm/cpu/debug.h"
#include "softkvm/cpu/event.h"
#include "softkvm/cpu/pvclock.h"
#include "softkvm/cpu/run_int.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/irqchip/irqchip_int.h"
#include "softkvm/jit/jit.h"
#include "softkvm/mmu/mmu.h"
#include "softkvm/vm.h"

#define SPIN_MAX_NS  20000u /* below the cost of waking a thread on another CPU */
#define SPIN_STEP_NS 2000u

/* What a part of a turn says. */
enum turn { TURN_GO, TURN_AGAIN, TURN_EXIT, TURN_EINTR };

/* --- exits -------------------------------------------------------------------------------- */

void run_emulation_failure(struct vcpu *cpu, const uint8_t *bytes, unsigned len)
{
	struct kvm_run *run = cpu->run;

	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	memset(&run->emulation_failure, 0, sizeof(run->emulation_failure));
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = 1;
	if (len != 0) {
		/* the flags' word, and two that hold the length and the bytes */
		run->emulation_failure.ndata = 3;
		run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
		run->emulation_failure.insn_size = (uint8_t)MIN(len, 15u);
		memset(run->emulation_failure.insn_bytes, 0x90, 15);
		memcpy(run->emulation_failure.insn_bytes, bytes, MIN(len, 15u));
	}
}

static enum turn exit_with(struct vcpu *cpu, uint32_t reason)
{
	cpu->run->exit_reason = reason;
	return TURN_EXIT;
}

static bool immediate_exit(const struct vcpu *cpu)
{
	return __atomic_load_n(&cpu->run->immediate_exit, __ATOMIC_ACQUIRE) != 0;
}

/* --- requests ----------------------------------------------------------------------------- */

static enum turn events_arrived(struct vcpu *cpu)
{
	int vector;

	if (!cpu->lapic) {
		return TURN_GO;
	}
	lapic_accept_events(cpu);
	lapic_check_timer(cpu);
	vector = irqchip_take_user_eoi(cpu);
	if (vector >= 0) {
		cpu->run->eoi.vector = (uint8_t)vector;
		return exit_with(cpu, KVM_EXIT_IOAPIC_EOI);
	}
	return TURN_GO;
}

static enum turn triple_fault(struct vcpu *cpu)
{
	if (!atomic_exchange(&cpu->ev.triple_fault, false)) {
		return TURN_GO;
	}
	vcpu_drop_io(cpu);
	return exit_with(cpu, KVM_EXIT_SHUTDOWN);
}

/* The bits that are no matter of events; they are cleared already. */
static void requests_state(struct vcpu *cpu, uint32_t req)
{
	if (req & REQ_TLB_FLUSH) {
		mmu_flush_all(cpu);
	}
	if (req & REQ_JIT) {
		jit_drop_write_tags(cpu);
	}
	if (req & REQ_CLOCK) {
		pvclock_update(cpu);
	}
	if (req & REQ_STEAL) {
		steal_time_enter(cpu);
	}
}

/* A request that is not served in this turn is asked for again. */
static enum turn requests_again(struct vcpu *cpu, uint32_t req, enum turn t)
{
	atomic_fetch_or(&cpu->req, req);
	return t;
}

static enum turn requests(struct vcpu *cpu)
{
	bool finish = cpu->io.replay;
	uint32_t req = atomic_load(&cpu->req);
	enum turn t = TURN_GO;

	if (unlikely(req & REQ_PAUSE)) {
		guest_leave(cpu);
		guest_enter(cpu);
		req = atomic_load(&cpu->req);
	}
	req &= ~(uint32_t)(REQ_PAUSE | REQ_STEP | (finish ? REQ_KICK : 0));
	if (req != 0) {
		atomic_fetch_and(&cpu->req, ~req);
		requests_state(cpu, req);
	}
	if (req & REQ_TRIPLE) {
		t = triple_fault(cpu);
	}
	if (req & REQ_EVENT) {
		t = t == TURN_GO ? events_arrived(cpu) : requests_again(cpu, REQ_EVENT, t);
	}
	if (req & REQ_KICK) {
		t = t == TURN_GO ? TURN_EINTR : requests_again(cpu, REQ_KICK, t);
	}
	if (t == TURN_GO && !finish && immediate_exit(cpu)) {
		return TURN_EINTR;
	}
	return t;
}

/* --- waiting ------------------------------------------------------------------------------ */

/* Look for a request without sleeping, as long as that paid lately. */
static bool spin(struct vcpu *cpu, ns_t deadline)
{
	ns_t now = clock_now_ns(), end = MIN(now + cpu->halt_spin_ns, deadline);

	while (now < end) {
		for (unsigned i = 0; i < 16; i++) {
			if (atomic_load_explicit(&cpu->req, memory_order_acquire) != 0) {
				cpu->halt_spin_ns =
					MIN(cpu->halt_spin_ns + SPIN_STEP_NS, SPIN_MAX_NS);
				return true;
			}
			_mm_pause();
		}
		now = clock_now_ns();
	}
	return false;
}

/* Sleep until a request or the deadline. False: a signal came. */
static bool sleep_until(struct vcpu *cpu, ns_t deadline)
{
	ns_t start = clock_now_ns();
	int r = 0;

	atomic_store(&cpu->sleeping, true);
	while (atomic_load(&cpu->req) == 0 && !immediate_exit(cpu)) {
		r = futex_wait_until(&cpu->req, 0, deadline);
		if (r == -EINTR || r == -ETIMEDOUT) {
			break;
		}
	}
	atomic_store(&cpu->sleeping, false);
	if (clock_now_ns() - start < SPIN_MAX_NS) {
		cpu->halt_spin_ns = MAX(cpu->halt_spin_ns, SPIN_STEP_NS);
	} else {
		cpu->halt_spin_ns /= 2;
	}
	return r != -EINTR;
}

/* Not runnable: wait for a request or the vCPU's own timer. */
static enum turn wait_for_request(struct vcpu *cpu)
{
	ns_t deadline = cpu->lapic ? lapic_next_deadline(cpu) : INT64_MAX;
	bool ok = true;

	steal_time_leave(cpu);
	guest_leave(cpu);
	if (deadline > clock_now_ns() && !spin(cpu, deadline)) {
		ok = sleep_until(cpu, deadline);
	}
	guest_enter(cpu);
	steal_time_enter(cpu);
	if (deadline <= clock_now_ns()) {
		atomic_fetch_or(&cpu->req, REQ_EVENT);
	}
	return ok ? TURN_AGAIN : TURN_EINTR;
}

static bool nmi_due(const struct vcpu *cpu)
{
	return atomic_load_explicit(&cpu->ev.nmi_pending, memory_order_acquire) != 0 &&
	       !cpu->ev.nmi_masked;
}

static bool irqs_blocked(const struct vcpu *cpu)
{
	return (cpu->guest_debug.control & KVM_GUESTDBG_BLOCKIRQ) != 0;
}

static bool irq_due(struct vcpu *cpu)
{
	return (cpu->rflags & FL_IF) && irq_pending(cpu);
}

/* What ends HLT. */
static bool woken(struct vcpu *cpu)
{
	return event_is_pending(cpu) || atomic_exchange(&cpu->ev.pv_unhalted, false) ||
	       (!irqs_blocked(cpu) && (nmi_due(cpu) || irq_due(cpu)));
}

static enum turn not_runnable(struct vcpu *cpu, uint32_t state)
{
	if (state == KVM_MP_STATE_HALTED) {
		if (!cpu->lapic) {
			atomic_store(&cpu->mp_state, KVM_MP_STATE_RUNNABLE);
			return exit_with(cpu, KVM_EXIT_HLT);
		}
		if (woken(cpu)) {
			atomic_store(&cpu->mp_state, KVM_MP_STATE_RUNNABLE);
			return TURN_GO;
		}
	}
	return wait_for_request(cpu);
}

/* --- events ------------------------------------------------------------------------------- */

static bool nmi_take(struct vcpu *cpu)
{
	uint8_t n = atomic_load(&cpu->ev.nmi_pending);

	while (n != 0) {
		if (atomic_compare_exchange_weak(&cpu->ev.nmi_pending, &n, (uint8_t)(n - 1))) {
			return true;
		}
	}
	return false;
}

bool vcpu_ready_for_interrupt(struct vcpu *cpu)
{
	if (irqchip_full(cpu->vm)) {
		return true;
	}
	if (!(cpu->rflags & FL_IF) || cpu->ev.shadow != 0 || event_is_pending(cpu)) {
		return false;
	}
	return !cpu->lapic || (lapic_accepts_extint(cpu) && atomic_load(&cpu->ext_vector) < 0);
}

/*
 * Deliver what is due. EXEC_NEXT: nothing is; *ret_held: an interrupt waits for the shadow to end.
 */
static enum exec_result deliver(struct vcpu *cpu, bool *ret_held)
{
	enum exec_result r;

	*ret_held = false;
	if (event_is_pending(cpu)) {
		r = event_deliver_pending(cpu);
		if (r != EXEC_NEXT) {
			return r;
		}
	}
	if (cpu->io.replay || irqs_blocked(cpu)) {
		return EXEC_NEXT;
	}
	if (unlikely(cpu->ev.shadow != 0)) {
		*ret_held = nmi_due(cpu) || irq_due(cpu) || cpu->run->request_interrupt_window;
		return EXEC_NEXT;
	}
	if (nmi_due(cpu) && nmi_take(cpu)) {
		return event_deliver_nmi(cpu);
	}
	if (irq_due(cpu)) {
		int vector = irq_acknowledge(cpu);

		if (vector >= 0) {
			return event_deliver_interrupt(cpu, (uint8_t)vector);
		}
	}
	return EXEC_NEXT;
}

/* --- guest code --------------------------------------------------------------------------- */

static enum exec_result step(struct vcpu *cpu)
{
	uint64_t flags = cpu->rflags;
	uint32_t hits = cpu->ev.debug_bits;
	uint8_t shadow = cpu->ev.shadow;
	const struct insn *in = NULL;
	enum exec_result r;

	if (!cpu->io.replay && event_code_breakpoint(cpu)) {
		return EXEC_FAULT;
	}
	cpu->ev.shadow = 0;
	r = block_step(cpu, &in);
	if (r == EXEC_END) {
		event_insn_done(cpu, in, flags);
	} else if (r == EXEC_EXIT) {
		cpu->ev.shadow = shadow;
		cpu->ev.debug_bits = hits;
	}
	return r;
}

static enum exec_result execute(struct vcpu *cpu, bool held)
{
	if (unlikely(held || cpu->io.replay || debug_must_step(cpu))) {
		return step(cpu);
	}
	cpu->rflags &= ~(uint64_t)FL_RF;
	cpu->ev.shadow = 0;
	cpu->jit.irq_waits = irq_may_wait(cpu) || cpu->run->request_interrupt_window;
	return jit_run(cpu);
}

static bool window_open(struct vcpu *cpu)
{
	return cpu->run->request_interrupt_window && !cpu->io.replay &&
	       vcpu_ready_for_interrupt(cpu) && !irqchip_full(cpu->vm);
}

bool run_may_go_on(struct vcpu *cpu)
{
	if (atomic_load_explicit(&cpu->mp_state, memory_order_relaxed) != KVM_MP_STATE_RUNNABLE ||
	    event_is_pending(cpu) || (cpu->ev.shadow & SHADOW_MOVSS) || cpu->io.count != 0 ||
	    nmi_due(cpu) || irq_due(cpu) || cpu->run->request_interrupt_window) {
		return false;
	}
	debug_refresh(cpu);
	if (debug_must_step(cpu)) {
		return false;
	}
	cpu->rflags &= ~(uint64_t)FL_RF;
	cpu->ev.shadow = 0;
	return true;
}

static enum turn unit(struct vcpu *cpu)
{
	bool held;
	enum exec_result r = deliver(cpu, &held);

	if (r == EXEC_NEXT) {
		if (unlikely(window_open(cpu))) {
			return exit_with(cpu, KVM_EXIT_IRQ_WINDOW_OPEN);
		}
		r = execute(cpu, held);
	}
	if (r == EXEC_FAULT) {
		r = event_deliver_fault(cpu);
	}
	if (r == EXEC_EXIT) {
		return TURN_EXIT;
	}
	if (unlikely(cpu->io.count != 0)) {
		vcpu_drop_io(cpu);
	}
	return TURN_AGAIN;
}

static enum turn turn(struct vcpu *cpu)
{
	uint32_t state;
	enum turn t = TURN_GO;

	if (atomic_load_explicit(&cpu->req, memory_order_acquire) != 0 || immediate_exit(cpu)) {
		t = requests(cpu);
	}
	debug_refresh(cpu);
	state = atomic_load_explicit(&cpu->mp_state, memory_order_relaxed);
	if (t == TURN_GO && unlikely(state != KVM_MP_STATE_RUNNABLE)) {
		t = not_runnable(cpu, state);
	}
	return t == TURN_GO ? unit(cpu) : t;
}

int vcpu_run(struct vcpu *cpu)
{
	enum turn t;

	guest_enter(cpu);
	jit_thread_enter(cpu);
	fpu_load(cpu);
	steal_time_enter(cpu);
	exec_sys_complete(cpu);
	io_resume(cpu);
	block_stack_base(cpu);
	do {
		t = turn(cpu);
	} while (t == TURN_GO || t == TURN_AGAIN);
	steal_time_leave(cpu);
	fpu_unload(cpu);
	jit_thread_leave(cpu);
	guest_leave(cpu);
	if (t == TURN_EINTR) {
		cpu->run->exit_reason = KVM_EXIT_INTR;
		return -EINTR;
	}
	return 0;
}
