/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The local APIC's timer (SDM 3A 11.5.4).
 *
 * Theory of operation
 *  The counter is not counted: `deadline` says when it reaches zero on
 *  CLOCK_MONOTONIC. It counts a bus clock of 1 GHz, as KVM's does. The vCPU's thread
 *  raises the interrupt when it looks (lapic_check_timer), be it because it woke up by itself
 *  at lapic_next_deadline(), or because the service thread told it (REQ_EVENT).
 *  Periodic ticks that were missed are not caught up: the next deadline lies in the future.
 */
#include "softkvm/cpu/msr.h"
#include "softkvm/irqchip/irqchip_int.h"

/* A guest that asks for shorter periods gets these: it would never leave its handler (as KVM). */
#define PERIOD_MIN_NS (200 * NS_PER_US)

static unsigned divisor(const struct lapic *l)
{
	uint32_t tdcr = lapic_reg(l, APIC_TDCR);
	uint32_t shift = ((tdcr & 3) | (tdcr >> 1 & 4)) + 1;

	return 1u << (shift & 7);
}

static void set_deadline(struct lapic *l, ns_t deadline)
{
	atomic_store(&l->deadline, deadline);
	if (deadline != NEVER) {
		service_arm(l->cpu->vm, deadline);
	}
}

void lapic_timer_stop(struct lapic *l)
{
	set_deadline(l, NEVER);
	l->period = 0;
	l->tsc_deadline = 0;
}

/* Count `left` of a full `count`. */
static void start(struct lapic *l, uint32_t count, uint32_t left)
{
	unsigned mode = LVTT_MODE(lapic_reg(l, APIC_LVTT));

	lapic_timer_stop(l);
	if (count == 0 || mode == TIMER_TSC_DEADLINE) {
		return;
	}
	l->period = (ns_t)count * divisor(l);
	if (mode == TIMER_PERIODIC) {
		l->period = MAX(l->period, PERIOD_MIN_NS);
	}
	set_deadline(l, clock_now_ns() + (ns_t)left * divisor(l));
}

void lapic_timer_start(struct lapic *l, uint32_t count)
{
	if (LVTT_MODE(lapic_reg(l, APIC_LVTT)) == TIMER_TSC_DEADLINE) {
		return; /* writes to the initial count are ignored in this mode */
	}
	lapic_reg_set(l, APIC_TMICT, count);
	start(l, count, count);
}

void lapic_timer_resume(struct lapic *l, uint32_t tmcct)
{
	uint32_t count = lapic_reg(l, APIC_TMICT);
	bool periodic = LVTT_MODE(lapic_reg(l, APIC_LVTT)) == TIMER_PERIODIC;

	if (tmcct != 0 || periodic) {
		start(l, count, tmcct != 0 ? MIN(tmcct, count) : count);
	}
}

void lapic_timer_set_lvtt(struct lapic *l, uint32_t old, uint32_t lvtt)
{
	bool was_tsc = LVTT_MODE(old) == TIMER_TSC_DEADLINE;
	bool is_tsc = LVTT_MODE(lvtt) == TIMER_TSC_DEADLINE;

	/* Changing to or from deadline mode disarms (SDM 3A 11.5.4.1). */
	if (was_tsc != is_tsc) {
		lapic_reg_set(l, APIC_TMICT, 0);
		lapic_timer_stop(l);
	}
}

uint64_t lapic_timer_tsc_deadline(const struct lapic *l)
{
	return LVTT_MODE(lapic_reg(l, APIC_LVTT)) == TIMER_TSC_DEADLINE ? l->tsc_deadline : 0;
}

void lapic_timer_set_tsc_deadline(struct lapic *l, uint64_t tsc)
{
	uint64_t now_tsc;
	unsigned __int128 ns;

	if (LVTT_MODE(lapic_reg(l, APIC_LVTT)) != TIMER_TSC_DEADLINE) {
		return;
	}
	lapic_timer_stop(l);
	l->tsc_deadline = tsc;
	if (tsc == 0) {
		return;
	}
	now_tsc = cpu_tsc(l->cpu);
	if (tsc <= now_tsc) {
		set_deadline(l, clock_now_ns());
		lapic_check_timer(l->cpu);
		return;
	}
	ns = (unsigned __int128)(tsc - now_tsc) * 1000000u / l->cpu->tsc_khz;
	if (ns < (unsigned __int128)(NEVER / 2)) {
		set_deadline(l, clock_now_ns() + (ns_t)ns);
	}
}

uint32_t lapic_timer_count(const struct lapic *l)
{
	ns_t deadline = atomic_load(&l->deadline), left;

	if (deadline == NEVER || l->period == 0) {
		return 0;
	}
	left = deadline - clock_now_ns();
	if (left <= 0) {
		if (LVTT_MODE(lapic_reg(l, APIC_LVTT)) != TIMER_PERIODIC) {
			return 0;
		}
		left = l->period - (-left % l->period);
	}
	return (uint32_t)(left / divisor(l));
}

void lapic_check_timer(struct vcpu *cpu)
{
	struct lapic *l = cpu->lapic;
	ns_t deadline, now;

	if (!l) {
		return;
	}
	deadline = atomic_load(&l->deadline);
	now = deadline == NEVER ? 0 : clock_now_ns();
	if (deadline == NEVER || now < deadline) {
		return;
	}
	if (LVTT_MODE(lapic_reg(l, APIC_LVTT)) == TIMER_PERIODIC) {
		ns_t missed = (now - deadline) / l->period;

		set_deadline(l, deadline + (missed + 1) * l->period);
	} else {
		atomic_store(&l->deadline, NEVER);
		l->tsc_deadline = 0;
	}
	lapic_local_deliver(l, APIC_LVTT);
}

ns_t lapic_next_deadline(struct vcpu *cpu)
{
	return cpu->lapic ? atomic_load(&cpu->lapic->deadline) : NEVER;
}
