/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Delivery of events to the guest (SDM 3A chapter 6).
 *
 * Theory of operation
 * -------------------
 * deliver() tries one event: it checks gate, code segment and stack, pushes
 * the frame, and only then commits registers; when a check or an access fails,
 * nothing but memory below the stack pointer has changed, and cpu->fault says why.
 * deliver_chain() goes on with that fault, merged with the first event by the
 * rules of table 6-5 into #DF, and with a failing #DF into a triple fault. An
 * access that must go to user space parks the event in cpu->ev as "injected":
 * the next event_deliver_pending() takes it up again.
 */
#include "softkvm/cpu/event.h"

#include "softkvm/cpu/exec_sys_int.h"

#define DR6_TRAPS              15u
#define DR6_ACTIVE_LOW         0xffff0ff0u
#define DR6_BS                 BIT(14)
#define DR7_GD                 BIT(13)
#define IDT_ERROR(vector, ext) ((uint32_t)(vector) << 3 | 2u | (ext))

enum event_kind { EV_EXCEPTION, EV_INTERRUPT, EV_NMI, EV_SOFTWARE };

struct delivery {
	enum event_kind kind;
	struct fault fault; /* vector and error; the whole for EV_EXCEPTION */
	uint64_t rip;       /* to be pushed */
	uint32_t ext;
	bool check_dpl;
	bool set_rf; /* in the pushed flags */
};

/* --- real mode and 8086-style -------------------------------------------------------- */
/* Push FLAGS, CS, IP and go to the vector of a table at `table`. */
static bool deliver_ivt(struct vcpu *cpu, const struct delivery *dv, gva_t table, uint64_t flags,
			uint64_t clear)
{
	struct segment cs;
	struct stack st;
	uint16_t entry[2];

	if (!mmu_sys_load(cpu, table + dv->fault.vector * 4u, entry, 4)) {
		return false;
	}
	stack_current(cpu, &st);
	if (!stack_push(cpu, &st, flags, 2) || !stack_push(cpu, &st, cpu->seg[SEG_CS].sel, 2) ||
	    !stack_push(cpu, &st, dv->rip, 2)) {
		return false;
	}
	seg_from_real(cpu, SEG_CS, entry[1], &cs);
	cpu->seg[SEG_CS] = cs;
	cpu->gpr[RSP] = stack_merge_rsp(cpu, &st);
	cpu->rip = entry[0];
	cpu->rflags &= ~clear;
	cpu_mode_changed(cpu);
	return true;
}

static bool deliver_real(struct vcpu *cpu, const struct delivery *dv)
{
	if (dv->fault.vector * 4u + 3 > cpu->idt.limit) {
		return cpu_raise(cpu, EX_GP, IDT_ERROR(dv->fault.vector, dv->ext));
	}
	return deliver_ivt(cpu, dv, cpu->idt.base, cpu_rflags(cpu), FL_IF | FL_TF | FL_AC | FL_RF);
}

/* --- protected mode ------------------------------------------------------------------ */
static bool gate_read(struct vcpu *cpu, const struct delivery *dv, struct desc *ret)
{
	unsigned size = cpu_lma(cpu) ? 16 : 8;
	uint32_t off = dv->fault.vector * size;
	uint32_t error = IDT_ERROR(dv->fault.vector, dv->ext);
	uint64_t raw[2] = { 0, 0 };
	bool known;

	if (off + size - 1 > cpu->idt.limit) {
		return cpu_raise(cpu, EX_GP, error);
	}
	for (unsigned i = 0; i < size / 8; i++) {
		if (!mmu_sys_load(cpu, cpu->idt.base + off + i * 8, &raw[i], 8)) {
			return false;
		}
	}
	*ret = (struct desc){ .lo = (uint32_t)raw[0],
			      .hi = (uint32_t)(raw[0] >> 32),
			      .high = (uint32_t)raw[1] };
	switch (DESC_S(ret) ? 0 : DESC_TYPE(ret)) {
	case DT_INT:
	case DT_TRAP:
		known = true;
		break;
	case DT_TASK:
	case DT_INT16:
	case DT_TRAP16:
		known = !cpu_lma(cpu);
		break;
	default:
		known = false;
		break;
	}
	if (!known || (dv->check_dpl && DESC_DPL(ret) < cpu->cpl)) {
		return cpu_raise(cpu, EX_GP, error);
	}
	return DESC_P(ret) || cpu_raise(cpu, EX_NP, error);
}

static bool handler_code(struct vcpu *cpu, uint16_t sel, uint32_t ext, struct desc *ret,
			 unsigned *ret_cpl)
{
	if (sel_null(sel)) {
		return cpu_raise(cpu, EX_GP, ext);
	}
	if (!desc_read(cpu, sel, ret, EX_GP, ext)) {
		return false;
	}
	*ret_cpl = DESC_CONFORMING(ret) ? cpu->cpl : DESC_DPL(ret);
	if (!DESC_CODE(ret) || DESC_DPL(ret) > cpu->cpl ||
	    (cpu_lma(cpu) && (!DESC_L(ret) || DESC_D(ret))) || (cpu_v86(cpu) && *ret_cpl != 0)) {
		return cpu_raise(cpu, EX_GP, sel_error(sel) | ext);
	}
	if (!DESC_P(ret)) {
		return cpu_raise(cpu, EX_NP, sel_error(sel) | ext);
	}
	return desc_set_accessed(cpu, ret);
}

/* The stack of the handler; *ss is filled if it changes. */
static bool handler_stack(struct vcpu *cpu, unsigned cpl, unsigned ist, uint32_t ext,
			  struct segment *ss, struct stack *st)
{
	uint16_t sel;

	stack_current(cpu, st);
	st->error = ext;
	if (cpl != cpu->cpl || ist != 0) {
		if (!tss_stack(cpu, cpl, ist, ext, &sel, &st->sp)) {
			return false;
		}
		st->implicit = cpl != 3;
		st->cpl = cpl;
		if (!cpu_lma(cpu)) {
			if (!seg_check_stack(cpu, sel, cpl, ss, EX_TS, ext)) {
				return false;
			}
			st->ss = ss;
			st->mask = ss->db ? UINT32_MAX : 0xffff;
			st->sp &= st->mask;
			st->error = sel_error(sel) | ext;
		} else if (cpl != cpu->cpl) {
			*ss = (struct segment){
				.sel = sel, .unusable = 1, .dpl = (uint8_t)cpl, .s = 1, .type = 1
			};
		}
	}
	if (cpu_lma(cpu)) {
		st->flat = true;
		st->mask = UINT64_MAX;
		st->sp &= ~UINT64_C(15);
	}
	return true;
}

/* Push the frame: SS and SP on a change of stack (always in long mode), flags, CS, RIP, error. */
static bool push_frame(struct vcpu *cpu, const struct delivery *dv, struct stack *st, unsigned size,
		       bool outer)
{
	static const uint8_t v86_order[] = { SEG_GS, SEG_FS, SEG_DS, SEG_ES };
	uint64_t flags = cpu_rflags(cpu) | (dv->set_rf ? FL_RF : 0);

	if (cpu_v86(cpu)) {
		for (unsigned i = 0; i < ARRAY_SIZE(v86_order); i++) {
			if (!stack_push(cpu, st, cpu->seg[v86_order[i]].sel, size)) {
				return false;
			}
		}
	}
	if (outer && (!stack_push(cpu, st, cpu->seg[SEG_SS].sel, size) ||
		      !stack_push(cpu, st, cpu->gpr[RSP], size))) {
		return false;
	}
	return stack_push(cpu, st, flags, size) &&
	       stack_push(cpu, st, cpu->seg[SEG_CS].sel, size) &&
	       stack_push(cpu, st, dv->rip, size) &&
	       (!dv->fault.has_error || stack_push(cpu, st, dv->fault.error, size));
}

/* Everything is checked and pushed: enter the handler. */
static void enter_handler(struct vcpu *cpu, const struct segment *cs, unsigned cpl,
			  const struct segment *new_ss, const struct stack *st, uint64_t rip,
			  bool interrupt_gate)
{
	bool v86 = cpu_v86(cpu);

	cpu->gpr[RSP] = stack_merge_rsp(cpu, st);
	cpu->rflags &= ~(uint64_t)(FL_TF | FL_VM | FL_RF | FL_NT | (interrupt_gate ? FL_IF : 0));
	if (v86) {
		static const uint8_t regs[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };

		for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
			struct segment null;

			seg_from_null(cpu, regs[i], 0, &null);
			cpu->seg[regs[i]] = null;
		}
	}
	if (new_ss != NULL) {
		cpu->seg[SEG_SS] = *new_ss;
	}
	cpu->seg[SEG_CS] = *cs;
	cpu->cpl = (uint8_t)cpl;
	cpu->rip = rip;
	cpu_mode_changed(cpu);
}

static bool deliver_gate(struct vcpu *cpu, const struct delivery *dv, const struct desc *gate)
{
	uint16_t sel = gate_sel(gate);
	unsigned ist = cpu_lma(cpu) ? gate->hi & 7 : 0;
	uint64_t rip = gate_offset(gate);
	struct segment cs, ss;
	struct stack st;
	struct desc d;
	unsigned cpl, size;
	bool inner;

	if (!handler_code(cpu, sel, dv->ext, &d, &cpl) ||
	    !handler_stack(cpu, cpl, ist, dv->ext, &ss, &st)) {
		return false;
	}
	size = cpu_lma(cpu) ? 8 : DESC_TYPE(gate) & 8 ? 4 : 2;
	rip = size == 2 ? (uint16_t)rip : rip;
	inner = cpl != cpu->cpl;
	segment_for_cs(&d, sel, cpl, &cs);
	if (!push_frame(cpu, dv, &st, size, inner || cpu_lma(cpu)) ||
	    !cs_target_check(cpu, &cs, rip, dv->ext)) {
		return false;
	}
	enter_handler(cpu, &cs, cpl, inner ? &ss : NULL, &st, rip, !(DESC_TYPE(gate) & 1));
	return true;
}

static enum exec_result result_of(const struct vcpu *cpu, bool ok)
{
	return ok ? EXEC_END : cpu->fault.vector == MMU_NEEDS_EXIT ? EXEC_EXIT : EXEC_FAULT;
}

/* One event. EXEC_FAULT: cpu->fault, cpu->rip is where the fault is to be reported. */
static enum exec_result deliver(struct vcpu *cpu, const struct delivery *dv)
{
	struct desc gate;

	if (!cpu_pe(cpu)) {
		return result_of(cpu, deliver_real(cpu, dv));
	}
	if (!gate_read(cpu, dv, &gate)) {
		return result_of(cpu, false);
	}
	if (DESC_TYPE(&gate) == DT_TASK) {
		return task_switch(cpu, gate_sel(&gate), TASK_GATE, dv->rip, dv->fault.has_error,
				   dv->fault.error, dv->ext);
	}
	return result_of(cpu, deliver_gate(cpu, dv, &gate));
}

/* --- faults while delivering --------------------------------------------------------- */
enum fault_class { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE, CLASS_DOUBLE };

static enum fault_class fault_class(uint8_t vector)
{
	switch (vector) {
	case EX_DE:
	case EX_TS:
	case EX_NP:
	case EX_SS:
	case EX_GP:
		return CLASS_CONTRIBUTORY;
	case EX_PF:
		return CLASS_PAGE;
	case EX_DF:
		return CLASS_DOUBLE;
	default:
		return CLASS_BENIGN;
	}
}

/* Is the second one no ordinary event but a double fault? */
static bool is_double_fault(uint8_t first, uint8_t second)
{
	enum fault_class a = fault_class(first), b = fault_class(second);

	return (a == CLASS_CONTRIBUTORY && b == CLASS_CONTRIBUTORY) ||
	       (a == CLASS_PAGE && (b == CLASS_CONTRIBUTORY || b == CLASS_PAGE));
}

/* CR2 and DR6 change when the event is delivered, not when it is raised. */
static void apply_payload(struct vcpu *cpu, struct fault *f)
{
	if (f->has_payload && f->vector == EX_PF) {
		cpu->cr2 = f->payload;
	} else if (f->vector == EX_DB) {
		if (f->has_payload) {
			cpu->dr6 = (cpu->dr6 & ~(uint64_t)DR6_TRAPS) | DR6_ACTIVE_LOW | f->payload;
		}
		cpu->dr7 &= ~(uint64_t)DR7_GD;
	}
	f->has_payload = false;
}

/* Which exceptions report an instruction that has not been executed. */
static bool is_fault_class(const struct fault *f)
{
	return !f->trap && f->vector != EX_DB && f->vector != EX_BP && f->vector != EX_OF;
}

static void delivery_of_fault(const struct vcpu *cpu, const struct fault *f, struct delivery *ret)
{
	*ret = (struct delivery){ .kind = EV_EXCEPTION,
				  .fault = *f,
				  .rip = cpu->rip,
				  .ext = EXT,
				  .set_rf = is_fault_class(f) };
	if (!cpu_pe(cpu)) {
		ret->fault.has_error = false;
	}
}

/* The access needs user space: keep the event where KVM_GET_VCPU_EVENTS shows it. */
static void park(struct vcpu *cpu, const struct delivery *dv)
{
	struct events *ev = &cpu->ev;

	switch (dv->kind) {
	case EV_EXCEPTION:
		ev->exception = dv->fault;
		ev->exception_injected = true;
		break;
	case EV_INTERRUPT:
		ev->interrupt_injected = true;
		ev->interrupt_soft = false;
		ev->interrupt_nr = dv->fault.vector;
		break;
	case EV_NMI:
		ev->nmi_injected = true;
		break;
	case EV_SOFTWARE:
		break; /* its instruction starts over */
	}
}

static enum exec_result triple_fault(struct vcpu *cpu)
{
	atomic_store(&cpu->ev.triple_fault, true);
	vcpu_request(cpu, REQ_TRIPLE);
	return EXEC_END;
}

static enum exec_result deliver_chain(struct vcpu *cpu, struct delivery *dv)
{
	for (;;) {
		enum exec_result r = deliver(cpu, dv);
		struct fault second;
		bool exception = dv->kind == EV_EXCEPTION;

		if (r == EXEC_EXIT) {
			park(cpu, dv);
			return r;
		}
		if (r != EXEC_FAULT) {
			cpu->ev.shadow = 0;
			return EXEC_END;
		}
		second = cpu->fault;
		apply_payload(cpu, &second);
		if (exception && dv->fault.vector == EX_DF) {
			return triple_fault(cpu);
		}
		if (exception && is_double_fault(dv->fault.vector, second.vector)) {
			second = (struct fault){ .vector = EX_DF, .has_error = true };
		}
		delivery_of_fault(cpu, &second, dv);
	}
}

/* --- the debugger -------------------------------------------------------------------- */
static enum exec_result exit_debug(struct vcpu *cpu, uint8_t vector, uint64_t dr6)
{
	struct kvm_debug_exit_arch *d = &cpu->run->debug.arch;
	uint64_t pc = cpu->rip + (cpu_64bit(cpu) ? 0 : cpu->segbase[SEG_CS]);

	cpu->run->exit_reason = KVM_EXIT_DEBUG;
	*d = (struct kvm_debug_exit_arch){
		.exception = vector,
		.pc = cpu_64bit(cpu) ? pc : (uint32_t)pc,
		.dr6 = dr6 | DR6_ACTIVE_LOW,
		.dr7 = cpu_dr7(cpu),
	};
	return EXEC_EXIT;
}

/* Does the debugger want this #DB? */
static bool debugger_takes_db(const struct vcpu *cpu)
{
	uint32_t c = cpu->guest_debug.control;

	return (c & KVM_GUESTDBG_ENABLE) &&
	       (c & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP));
}

static bool debugger_takes_bp(const struct vcpu *cpu)
{
	uint32_t c = cpu->guest_debug.control;

	return (c & KVM_GUESTDBG_ENABLE) && (c & KVM_GUESTDBG_USE_SW_BP);
}

/* --- what raises events -------------------------------------------------------------- */
enum exec_result event_deliver_fault(struct vcpu *cpu)
{
	struct fault f = cpu->fault;
	struct delivery dv;

	if (f.vector == EX_DB && debugger_takes_db(cpu)) {
		cpu->ev.debug_bits = 0;
		return exit_debug(cpu, EX_DB, f.has_payload ? f.payload : 0);
	}
	cpu->ev.debug_bits = 0;
	apply_payload(cpu, &f);
	delivery_of_fault(cpu, &f, &dv);
	/* An instruction breakpoint's handler decides itself whether to resume past it. */
	return deliver_chain(cpu, &dv);
}

enum exec_result event_deliver_interrupt(struct vcpu *cpu, uint8_t vector)
{
	struct delivery dv = {
		.kind = EV_INTERRUPT, .fault.vector = vector, .rip = cpu->rip, .ext = EXT
	};

	return deliver_chain(cpu, &dv);
}

enum exec_result event_deliver_nmi(struct vcpu *cpu)
{
	struct delivery dv = {
		.kind = EV_NMI, .fault.vector = EX_NMI, .rip = cpu->rip, .ext = EXT
	};

	cpu->ev.nmi_masked = true;
	return deliver_chain(cpu, &dv);
}

/* Virtual-8086 mode: does the TSS's bitmap send INT n to the task's own vectors? */
static bool v86_redirects(struct vcpu *cpu, uint8_t vector, bool *ret)
{
	uint16_t map;
	uint32_t off;
	uint8_t bits;

	*ret = false;
	if (!(cpu->cr4 & CR4_VME)) {
		return true;
	}
	if (cpu->tr.unusable || cpu->tr.limit < 103) {
		return cpu_raise(cpu, EX_GP, 0);
	}
	if (!mmu_sys_load(cpu, (uint32_t)(cpu->tr.base + 102), &map, 2)) {
		return false;
	}
	off = (uint32_t)map - 32 + vector / 8u;
	if (map < 32 || off > cpu->tr.limit) {
		return cpu_raise(cpu, EX_GP, 0);
	}
	if (!mmu_sys_load(cpu, (uint32_t)(cpu->tr.base + off), &bits, 1)) {
		return false;
	}
	*ret = !((bits >> (vector % 8)) & 1);
	return true;
}

/* INT n in virtual-8086 mode that is redirected; with IOPL < 3 the virtual IF stands for IF. */
static bool deliver_v86(struct vcpu *cpu, const struct delivery *dv)
{
	uint64_t flags = cpu_rflags(cpu), clear = FL_TF | FL_NT | FL_RF;

	if (cpu_iopl(cpu) == 3) {
		clear |= FL_IF;
	} else {
		flags = (flags & ~(uint64_t)FL_IF) | FL_IOPL | (flags & FL_VIF ? FL_IF : 0);
		clear |= FL_VIF;
	}
	return deliver_ivt(cpu, dv, 0, flags, clear);
}

enum exec_result event_software_interrupt(struct vcpu *cpu, const struct insn *in, uint8_t vector)
{
	struct delivery dv = { .kind = EV_SOFTWARE,
			       .fault.vector = vector,
			       .rip = insn_next_rip(cpu, in),
			       .check_dpl = in->op != OP_INT1,
			       .ext = in->op == OP_INT1 ? EXT : 0 };
	enum exec_result r;
	bool redirected;

	cpu->rip = insn_rip(cpu, in);
	if (in->op == OP_INT3 && debugger_takes_bp(cpu)) {
		cpu->ev.soft_bp_rip = cpu->rip;
		return exit_debug(cpu, EX_BP, 0);
	}
	if (in->op == OP_INT1 && debugger_takes_db(cpu)) {
		return exit_debug(cpu, EX_DB, 0);
	}
	if (cpu_v86(cpu) && in->op == OP_INT) {
		if (!v86_redirects(cpu, vector, &redirected)) {
			return exec_abort(cpu, in);
		}
		if (redirected) {
			return result_of(cpu, deliver_v86(cpu, &dv));
		}
		if (cpu_iopl(cpu) != 3) {
			return exec_gp0(cpu, in);
		}
	}
	r = deliver(cpu, &dv);
	if (r == EXEC_END && in->op == OP_INT1) {
		cpu->dr7 &= ~(uint64_t)DR7_GD;
	}
	return r;
}

/* --- what waits ---------------------------------------------------------------------- */
static enum exec_result deliver_waiting_exception(struct vcpu *cpu)
{
	struct events *ev = &cpu->ev;
	struct fault f = ev->exception;
	struct delivery dv;

	if (ev->exception_injected) {
		f.has_payload = false; /* was applied when it was injected */
	}
	ev->exception_injected = ev->exception_pending = false;
	apply_payload(cpu, &f);
	delivery_of_fault(cpu, &f, &dv);
	if (f.vector == EX_BP && ev->soft_bp_rip == cpu->rip) {
		dv.rip++; /* the debugger gives a guest's own INT3 back */
		dv.ext = 0;
	}
	return deliver_chain(cpu, &dv);
}

static enum exec_result deliver_waiting_interrupt(struct vcpu *cpu)
{
	uint8_t vector = cpu->ev.interrupt_nr;
	bool soft = cpu->ev.interrupt_soft;
	struct delivery dv = { .kind = EV_INTERRUPT,
			       .fault.vector = vector,
			       .rip = cpu->rip,
			       .ext = soft ? 0 : EXT,
			       .check_dpl = soft };

	cpu->ev.interrupt_injected = cpu->ev.interrupt_soft = false;
	return deliver_chain(cpu, &dv);
}

enum exec_result event_deliver_pending(struct vcpu *cpu)
{
	struct events *ev = &cpu->ev;

	if (ev->exception_injected) {
		return deliver_waiting_exception(cpu);
	}
	if (ev->nmi_injected) {
		ev->nmi_injected = false;
		return event_deliver_nmi(cpu);
	}
	if (ev->interrupt_injected) {
		return deliver_waiting_interrupt(cpu);
	}
	if (ev->exception_pending) {
		return deliver_waiting_exception(cpu);
	}
	if (ev->debug_bits && !(ev->shadow & SHADOW_MOVSS)) {
		cpu->fault = (struct fault){ .vector = EX_DB,
					     .has_payload = true,
					     .trap = true,
					     .payload = ev->debug_bits };
		return event_deliver_fault(cpu);
	}
	return EXEC_NEXT;
}

/* --- breakpoints and steps ----------------------------------------------------------- */
static bool breakpoint_kind_fits(const struct vcpu *cpu, unsigned rw, enum bp_type type)
{
	switch (rw) {
	case BP_EXEC:
		return type == BP_EXEC;
	case BP_WRITE:
		return type == BP_WRITE;
	case BP_IO:
		return type == BP_IO && (cpu->cr4 & CR4_DE);
	default:
		return type == BP_WRITE || type == BP_READWRITE;
	}
}

uint32_t event_match_breakpoints(const struct vcpu *cpu, uint64_t addr, unsigned size,
				 enum bp_type type)
{
	static const uint8_t lengths[] = { 1, 2, 8, 4 };
	uint64_t dr7 = cpu_dr7(cpu);
	uint32_t hits = 0;

	for (unsigned i = 0; i < 4; i++) {
		unsigned len = lengths[(dr7 >> (18 + i * 4)) & 3];
		uint64_t start = ALIGN_DOWN(cpu_dr(cpu, i), (uint64_t)len);

		if (!(dr7 & (3u << (i * 2))) ||
		    !breakpoint_kind_fits(cpu, (dr7 >> (16 + i * 4)) & 3, type)) {
			continue;
		}
		if (type == BP_EXEC ? cpu_dr(cpu, i) == addr
				    : (addr - start < len || start - addr < size)) {
			hits |= BIT(i);
		}
	}
	return hits;
}

bool event_code_breakpoint(struct vcpu *cpu)
{
	uint64_t lin = cpu->rip;
	uint32_t hits;

	if (cpu->rflags & FL_RF) {
		return false;
	}
	if (!cpu_64bit(cpu)) {
		lin = (uint32_t)(lin + cpu->segbase[SEG_CS]);
	}
	hits = event_match_breakpoints(cpu, lin, 1, BP_EXEC);
	if (hits == 0) {
		return false;
	}
	cpu->fault = (struct fault){ .vector = EX_DB, .has_payload = true, .payload = hits };
	return true;
}

void event_insn_done(struct vcpu *cpu, const struct insn *in, uint64_t rflags_before)
{
	bool step = rflags_before & FL_TF;

	if ((rflags_before & FL_RF) && in->op != OP_IRET) {
		cpu->rflags &= ~(uint64_t)FL_RF;
	}
	switch (in->op) {
	case OP_SYSCALL:
	case OP_SYSRET:
		step = cpu->rflags & FL_TF; /* the new flag counts at once */
		break;
	case OP_INT:
	case OP_INT3:
	case OP_INTO:
	case OP_INT1:
		step = step && (cpu->rflags & FL_TF); /* an INTO that was not taken */
		break;
	default:
		break;
	}
	if (cpu->ev.shadow & SHADOW_MOVSS) {
		step = false;
	}
	if (step || (cpu->guest_debug.control & KVM_GUESTDBG_SINGLESTEP)) {
		cpu->ev.debug_bits |= DR6_BS;
	}
}
