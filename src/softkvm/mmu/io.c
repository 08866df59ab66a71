/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Accesses to devices: those of the VM itself at once, others by KVM_EXIT_MMIO and
 * KVM_EXIT_IO (KVM API 5).
 *
 * Theory of operation: starting over
 *
 * A handler cannot be stopped in the midst of an instruction. An access that needs user space
 * is entered in the vCPU's log, the run structure is filled, and the handler is told to leave
 * (MMU_NEEDS_EXIT) with the instruction's address still in RIP. At the next KVM_RUN,
 * io_resume() completes the entry with the data from the run structure, and the run loop
 * executes that one instruction (or event delivery) again, alone. Accesses that match the log
 * in order are answered by it; the next new one leaves again. When the instruction is through,
 * the log is emptied.
 *
 * So at the exit RIP is that of the instruction, for writes too, and the registers are those
 * from before it (a string instruction's: of the iteration). As the API says, user space sees
 * the state behind the access only after it has entered KVM_RUN again (with immediate_exit, if
 * it wants no more).
 *
 * Iterations of a string instruction are told apart by RCX, RSI and RDI: they differ from those
 * noted in the log as soon as an iteration was committed, and the log is then another iteration's.
 *
 * Accesses that a device of the VM answers are not logged; they may happen again when the same
 * instruction needs an exit for another access. All of those devices bear it: an instruction
 * that moves between a device inside and one outside first reads, then writes.
 */
#include "base/assert.h"
#include "softkvm/cpu/debug.h"
#include "softkvm/cpu/run.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/coalesced.h"
#include "softkvm/mmu/mmu_int.h"
#include "softkvm/vm.h"

#define MMIO_PIECE     8u
#define PIO_PAGE_BYTES 4096u

static uint8_t *pio_page(const struct vcpu *cpu)
{
	return (uint8_t *)cpu->run + KVM_PIO_PAGE_OFFSET * PIO_PAGE_BYTES;
}

void vcpu_drop_io(struct vcpu *cpu)
{
	cpu->io.count = 0;
	cpu->io.cursor = 0;
	cpu->io.replay = false;
}

void io_resume(struct vcpu *cpu)
{
	struct io_log *log = &cpu->io;
	struct io_access *a;

	log->cursor = 0;
	if (!log->replay) {
		return;
	}
	a = &log->acc[log->count - 1];
	if (!a->done && !a->write && a->count <= 1) {
		memcpy(a->data, a->pio ? pio_page(cpu) : cpu->run->mmio.data, a->len);
	}
	a->done = true;
}

/* Differs between iterations of a string instruction. */
static uint64_t iteration(const struct vcpu *cpu)
{
	return cpu->gpr[RCX] * 0x9e3779b97f4a7c15ull + cpu->gpr[RSI] * 0xc2b2ae3d27d4eb4full +
	       cpu->gpr[RDI];
}

/* The log's answer to this access, or NULL: `want` is not in it. */
static const struct io_access *log_answer(struct vcpu *cpu, const struct io_access *want)
{
	struct io_log *log = &cpu->io;
	const struct io_access *a;

	if (log->count != 0 && log->counter != iteration(cpu)) {
		vcpu_drop_io(cpu);
	}
	if (log->cursor >= log->count) {
		return NULL;
	}
	a = &log->acc[log->cursor];
	if (!a->done || a->addr != want->addr || a->pio != want->pio || a->write != want->write ||
	    a->len != want->len || a->count != want->count) {
		log->count = log->cursor; /* the instruction has changed its mind: memory did */
		return NULL;
	}
	log->cursor++;
	return a;
}

/* Enter a new access; the caller fills the run structure. False: no room. */
static bool log_append(struct vcpu *cpu, const struct io_access *want)
{
	struct io_log *log = &cpu->io;

	cpu->fault = (struct fault){ .vector = MMU_NEEDS_EXIT };
	if (log->count == IO_LOG_MAX) {
		vcpu_drop_io(cpu);
		run_emulation_failure(cpu, NULL, 0);
		return false;
	}
	if (log->count == 0) {
		log->counter = iteration(cpu);
	}
	log->acc[log->count++] = *want;
	log->cursor = log->count;
	log->replay = true;
	return true;
}

/* --- memory-mapped ------------------------------------------------------------------------ */

static void mmio_exit(struct vcpu *cpu, const struct io_access *a)
{
	struct kvm_run *run = cpu->run;

	if (!log_append(cpu, a)) {
		return;
	}
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = a->addr;
	run->mmio.len = a->len;
	run->mmio.is_write = a->write;
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	if (a->write) {
		memcpy(run->mmio.data, a->data, a->len);
	}
}

static bool mmio_piece_read(struct vcpu *cpu, gpa_t gpa, void *out, unsigned len)
{
	const struct io_access want = { .addr = gpa, .len = (uint8_t)len };
	const struct io_access *a;

	if (irqchip_mmio_read(cpu, gpa, out, len)) {
		return true;
	}
	a = log_answer(cpu, &want);
	if (a) {
		memcpy(out, a->data, len);
		return true;
	}
	mmio_exit(cpu, &want);
	return false;
}

static bool mmio_piece_write(struct vcpu *cpu, gpa_t gpa, const void *in, unsigned len)
{
	struct io_access want = { .addr = gpa, .write = true, .len = (uint8_t)len };

	if (log_answer(cpu, &want)) {
		return true;
	}
	if (irqchip_mmio_write(cpu, gpa, in, len) || coalesced_write(cpu, false, gpa, in, len)) {
		return true;
	}
	memcpy(want.data, in, len);
	mmio_exit(cpu, &want);
	return false;
}

bool io_mmio_read(struct vcpu *cpu, gpa_t gpa, void *out, unsigned len)
{
	for (unsigned i = 0; i < len; i += MMIO_PIECE) {
		if (!mmio_piece_read(cpu, gpa + i, (uint8_t *)out + i, MIN(len - i, MMIO_PIECE))) {
			return false;
		}
	}
	return true;
}

bool io_mmio_write(struct vcpu *cpu, gpa_t gpa, const void *in, unsigned len)
{
	for (unsigned i = 0; i < len; i += MMIO_PIECE) {
		if (!mmio_piece_write(cpu, gpa + i, (const uint8_t *)in + i,
				      MIN(len - i, MMIO_PIECE))) {
			return false;
		}
	}
	return true;
}

/* --- ports -------------------------------------------------------------------------------- */

static void pio_exit(struct vcpu *cpu, const struct io_access *a, const void *data)
{
	struct kvm_run *run = cpu->run;

	if (!log_append(cpu, a)) {
		return;
	}
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = a->write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	run->io.size = a->len;
	run->io.port = (uint16_t)a->addr;
	run->io.count = a->count;
	run->io.data_offset = KVM_PIO_PAGE_OFFSET * PIO_PAGE_BYTES;
	if (a->write) {
		memcpy(pio_page(cpu), data, (size_t)a->len * a->count);
	}
}

/* Does one of the VM's own devices have the port? Then all elements go there. */
static bool pio_inside(struct vcpu *cpu, uint16_t port, void *in, const void *out, unsigned size,
		       unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		bool taken =
			in ? irqchip_pio_read(cpu, port, (uint8_t *)in + i * size, size)
			   : irqchip_pio_write(cpu, port, (const uint8_t *)out + i * size, size);

		if (!taken) {
			return false;
		}
	}
	return true;
}

bool io_port_in_rep(struct vcpu *cpu, uint16_t port, void *buf, unsigned size, unsigned count)
{
	const struct io_access want = {
		.addr = port,
		.pio = true,
		.len = (uint8_t)size,
		.count = (uint16_t)count,
	};
	const struct io_access *a;

	ASSERT(count > 0 && count * size <= PIO_PAGE_BYTES);
	a = log_answer(cpu, &want);
	if (a) {
		memcpy(buf, count == 1 ? a->data : pio_page(cpu), (size_t)size * count);
	} else if (!pio_inside(cpu, port, buf, NULL, size, count)) {
		pio_exit(cpu, &want, NULL);
		return false;
	}
	debug_check_io(cpu, port, size);
	return true;
}

bool io_port_out_rep(struct vcpu *cpu, uint16_t port, const void *buf, unsigned size,
		     unsigned count)
{
	const struct io_access want = {
		.addr = port,
		.pio = true,
		.write = true,
		.len = (uint8_t)size,
		.count = (uint16_t)count,
	};

	ASSERT(count > 0 && count * size <= PIO_PAGE_BYTES);
	if (!log_answer(cpu, &want) && !pio_inside(cpu, port, NULL, buf, size, count) &&
	    !(count == 1 && coalesced_write(cpu, true, port, buf, size))) {
		pio_exit(cpu, &want, buf);
		return false;
	}
	debug_check_io(cpu, port, size);
	return true;
}

bool io_port_in(struct vcpu *cpu, uint16_t port, void *out, unsigned size)
{
	return io_port_in_rep(cpu, port, out, size, 1);
}

bool io_port_out(struct vcpu *cpu, uint16_t port, const void *in, unsigned size)
{
	return io_port_out_rep(cpu, port, in, size, 1);
}
