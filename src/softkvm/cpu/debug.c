/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Data breakpoints: the pages they touch get no read and write tags in the TLB, so that accesses
 * come through the slow path, which compares addresses. The debug registers are compared with
 * those in force at each turn of the run loop (MOV DR ends a block); a change flushes the TLB.
 *
 * A hit is noted in ev.debug_bits; the current block is killed and REQ_TRAP set, so that the
 * run loop is reached behind this instruction whether it is the last of its block or not.
 *
 * Instruction breakpoints and single steps make the run loop execute one instruction at a time.
 */
#include "softkvm/cpu/debug.h"

#include "softkvm/cpu/blocks.h"
#include "softkvm/cpu/event.h"
#include "softkvm/mmu/mmu_int.h"

#define DR7_ENABLE(i)   (3u << ((i)*2))
#define DR7_RW(dr7, i)  ((dr7) >> (16 + (i)*4) & 3)
#define DR7_LEN(dr7, i) ((dr7) >> (18 + (i)*4) & 3)
#define DR7_ANY         0xffu

static void watch_compute(const struct vcpu *cpu, struct watch *w, uint8_t *ret_on)
{
	static const uint8_t lengths[] = { 1, 2, 8, 4 };
	uint64_t dr7 = cpu_dr7(cpu);

	*ret_on = 0;
	for (unsigned i = 0; i < WATCH_MAX; i++) {
		unsigned rw = DR7_RW(dr7, i);

		w[i] = (struct watch){ 0 };
		if (!(dr7 & DR7_ENABLE(i)) || (rw != BP_WRITE && rw != BP_READWRITE)) {
			continue;
		}
		w[i].len = lengths[DR7_LEN(dr7, i)];
		w[i].lin = ALIGN_DOWN(cpu_dr(cpu, i), (uint64_t)w[i].len);
		w[i].write_only = rw == BP_WRITE;
		*ret_on |= (uint8_t)BIT(i);
	}
}

static bool watch_same(const struct watch *a, const struct watch *b)
{
	for (unsigned i = 0; i < WATCH_MAX; i++) {
		if (a[i].lin != b[i].lin || a[i].len != b[i].len ||
		    a[i].write_only != b[i].write_only) {
			return false;
		}
	}
	return true;
}

void debug_refresh(struct vcpu *cpu)
{
	struct mmu *m = cpu->mmu;
	struct watch w[WATCH_MAX];
	uint8_t on;

	if (likely(!(cpu_dr7(cpu) & DR7_ANY) && m->watch_on == 0)) {
		return;
	}
	watch_compute(cpu, w, &on);
	if (on != m->watch_on || !watch_same(w, m->watch)) {
		memcpy(m->watch, w, sizeof(w));
		m->watch_on = on;
		mmu_flush_all(cpu);
	}
}

bool debug_must_step(const struct vcpu *cpu)
{
	uint64_t dr7 = cpu_dr7(cpu);

	if ((cpu->rflags & FL_TF) || (cpu->guest_debug.control & KVM_GUESTDBG_SINGLESTEP)) {
		return true;
	}
	if (likely(!(dr7 & DR7_ANY))) {
		return false;
	}
	for (unsigned i = 0; i < WATCH_MAX; i++) {
		if ((dr7 & DR7_ENABLE(i)) && DR7_RW(dr7, i) == BP_EXEC) {
			return true;
		}
	}
	return false;
}

void debug_hit(struct vcpu *cpu, uint32_t dr6_bits)
{
	event_data_breakpoint(cpu, dr6_bits);
	atomic_fetch_or(&cpu->req, REQ_TRAP);
	block_kill_current(cpu);
}

void debug_check_io(struct vcpu *cpu, uint16_t port, unsigned size)
{
	uint32_t hits;

	if (likely(!(cpu_dr7(cpu) & DR7_ANY))) {
		return;
	}
	hits = event_match_breakpoints(cpu, port, size, BP_IO);
	if (hits != 0) {
		debug_hit(cpu, hits);
	}
}
