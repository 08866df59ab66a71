/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The run loop and the block cache, by small guests: exits and how they are finished, leaving
 * early, events, debugging.
 */
#include "softkvm/cpu/guest64.h"

#include "softkvm/cpu/event.h"

/* As CHECK, but frees the VM `v` first. */
#define WANT(cond)                                                                        \
	do {                                                                              \
		if (!(cond)) {                                                            \
			test_fail(t, __FILE__, __LINE__, "%s (exit %u, rip %llx)", #cond, \
				  v->cpu[0]->run->exit_reason,                            \
				  (unsigned long long)v->cpu[0]->rip);                    \
			testvm_free(v);                                                   \
			return;                                                           \
		}                                                                         \
	} while (0)

/* Runs vCPU 0 until an exit of this kind. */
static bool exits(struct testvm *v, uint32_t reason)
{
	return vcpu_run(v->cpu[0]) == 0 && v->cpu[0]->run->exit_reason == reason;
}

static uint64_t gpr(struct testvm *v, enum gpr r)
{
	return v->cpu[0]->gpr[r];
}

GUEST(halt, "mov $42, %eax\n hlt\n mov $43, %eax\n hlt");
static void test_halt(struct test *t)
{
	struct testvm *v = guest64_new(1, halt);

	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RAX) == 42);
	WANT(v->cpu[0]->rip == GUEST_CODE + 6);
	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RAX) == 43);
	testvm_free(v);
}

/* An instruction that ends blocks leaves the flags alone, and what follows may read them. */
GUEST(flags_over_cpuid,
      "mov $1, %eax\n cmp $2, %eax\n cpuid\n setc %sil\n movzbl %sil, %esi\n hlt");
static void test_flags_over_cpuid(struct test *t)
{
	struct testvm *v = guest64_new(1, flags_over_cpuid);

	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RSI) == 1);
	testvm_free(v);
}

/* --- device accesses ---------------------------------------------------------------------- */

GUEST(ports, "mov $0x3f8, %edx\n mov $0x5a, %al\n out %al, %dx\n in %dx, %al\n"
	     "movzbl %al, %ebx\n inl $0x60, %eax\n hlt");
static void test_ports(struct test *t)
{
	struct testvm *v = guest64_new(1, ports);
	struct kvm_run *run = v->cpu[0]->run;
	uint8_t *data = (uint8_t *)run + 4096;

	WANT(exits(v, KVM_EXIT_IO) && run->io.direction == KVM_EXIT_IO_OUT && run->io.size == 1);
	WANT(run->io.port == 0x3f8 && data[0] == 0x5a);
	WANT(exits(v, KVM_EXIT_IO) && run->io.direction == KVM_EXIT_IO_IN);
	data[0] = 0x77;
	WANT(exits(v, KVM_EXIT_IO) && run->io.size == 4 && run->io.port == 0x60);
	store_le32(data, 0xdeadbeef);
	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RBX) == 0x77 && gpr(v, RAX) == 0xdeadbeef);
	testvm_free(v);
}

GUEST(mmio, "mov $0x40000000, %ebx\n mov 8(%rbx), %rax\n addl $5, 16(%rbx)\n"
	    "mov %rax, 0x300000\n pushq 24(%rbx)\n pop %rcx\n hlt");
static void test_mmio(struct test *t)
{
	struct testvm *v = guest64_new(1, mmio);
	struct kvm_run *run = v->cpu[0]->run;
	uint64_t before;

	WANT(exits(v, KVM_EXIT_MMIO) && !run->mmio.is_write && run->mmio.len == 8);
	WANT(run->mmio.phys_addr == GUEST_MMIO + 8);
	store_le64(run->mmio.data, 0x1122334455667788);
	WANT(exits(v, KVM_EXIT_MMIO) && !run->mmio.is_write && run->mmio.len == 4);
	WANT(gpr(v, RAX) == 0x1122334455667788);
	before = v->cpu[0]->rip;
	store_le32(run->mmio.data, 100);
	WANT(exits(v, KVM_EXIT_MMIO) && run->mmio.is_write && load_le32(run->mmio.data) == 105);
	WANT(run->mmio.phys_addr == GUEST_MMIO + 16 && v->cpu[0]->rip == before);
	WANT(exits(v, KVM_EXIT_MMIO) && run->mmio.phys_addr == GUEST_MMIO + 24);
	WANT(gpr(v, RSP) == GUEST_STACK);
	store_le64(run->mmio.data, 7);
	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RCX) == 7 && gpr(v, RSP) == GUEST_STACK);
	WANT(load_le64(v->ram + GUEST_DATA) == 0x1122334455667788);
	testvm_free(v);
}

/* With immediate_exit the access is finished, and nothing more. */
static void test_finish_with_immediate_exit(struct test *t)
{
	struct testvm *v = guest64_new(1, mmio);
	struct kvm_run *run = v->cpu[0]->run;

	WANT(exits(v, KVM_EXIT_MMIO));
	store_le64(run->mmio.data, 99);
	run->immediate_exit = 1;
	WANT(vcpu_run(v->cpu[0]) == -EINTR && run->exit_reason == KVM_EXIT_INTR);
	WANT(gpr(v, RAX) == 99 && v->cpu[0]->rip == GUEST_CODE + 9);
	WANT(vcpu_run(v->cpu[0]) == -EINTR && v->cpu[0]->rip == GUEST_CODE + 9);
	run->immediate_exit = 0;
	vcpu_request(v->cpu[0], REQ_KICK);
	WANT(vcpu_run(v->cpu[0]) == -EINTR);
	WANT(exits(v, KVM_EXIT_MMIO) && run->mmio.phys_addr == GUEST_MMIO + 16);
	testvm_free(v);
}

GUEST(strings, "mov $0x40000000, %edi\n mov $0x300000, %esi\n mov $3, %ecx\n rep movsl\n hlt");
static void test_string_to_mmio(struct test *t)
{
	struct testvm *v = guest64_new(1, strings);
	struct kvm_run *run = v->cpu[0]->run;

	for (uint32_t i = 0; i < 3; i++) {
		store_le32(v->ram + GUEST_DATA + 4 * i, i + 1);
	}
	for (uint32_t i = 0; i < 3; i++) {
		WANT(exits(v, KVM_EXIT_MMIO) && run->mmio.is_write && run->mmio.len == 4);
		WANT(run->mmio.phys_addr == GUEST_MMIO + 4 * i);
		WANT(load_le32(run->mmio.data) == i + 1);
	}
	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RCX) == 0 && gpr(v, RDI) == GUEST_MMIO + 12);
	testvm_free(v);
}

GUEST(rep_ports, "mov $0x1f0, %edx\n mov $0x300000, %edi\n mov $5, %ecx\n rep insw\n"
		 "mov $0x300000, %esi\n mov $3, %ecx\n rep outsb\n hlt");
static void test_rep_ports(struct test *t)
{
	struct testvm *v = guest64_new(1, rep_ports);
	struct kvm_run *run = v->cpu[0]->run;
	uint8_t *data = (uint8_t *)run + 4096;
	unsigned in = 0, out = 0;

	while (in < 5) {
		WANT(exits(v, KVM_EXIT_IO) && run->io.direction == KVM_EXIT_IO_IN);
		WANT(run->io.size == 2 && run->io.count >= 1 && run->io.count <= 5 - in);
		for (unsigned i = 0; i < run->io.count; i++) {
			store_le16(data + 2 * i, (uint16_t)(0x101 * ++in));
		}
	}
	while (out < 3) {
		WANT(exits(v, KVM_EXIT_IO) && run->io.direction == KVM_EXIT_IO_OUT);
		WANT(run->io.size == 1 && run->io.count >= 1 && run->io.count <= 3 - out);
		for (unsigned i = 0; i < run->io.count; i++, out++) {
			WANT(data[i] == 1 + out / 2);
		}
	}
	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RCX) == 0 && gpr(v, RDI) == GUEST_DATA + 10);
	WANT(load_le16(v->ram + GUEST_DATA + 8) == 0x505);
	testvm_free(v);
}

/* --- leaving early ------------------------------------------------------------------------ */

GUEST(forever, "1: inc %rax\n jmp 1b");

struct kicker {
	struct vcpu *cpu;
	void (*fn)(struct vcpu *cpu);
};

static void wait_until_in_guest(struct vcpu *cpu)
{
	while (!atomic_load(&cpu->in_guest)) {
		sched_yield();
	}
}

static void *kicker_main(void *arg)
{
	struct kicker *k = arg;

	wait_until_in_guest(k->cpu);
	k->fn(k->cpu);
	return NULL;
}

static int run_and_kick(struct testvm *v, void (*fn)(struct vcpu *cpu))
{
	struct kicker k = { v->cpu[0], fn };
	pthread_t thread;
	int r;

	ASSERT(pthread_create(&thread, NULL, kicker_main, &k) == 0);
	r = vcpu_run(v->cpu[0]);
	pthread_join(thread, NULL);
	return r;
}

static void kick(struct vcpu *cpu)
{
	vcpu_request(cpu, REQ_KICK);
}

static void set_immediate_exit(struct vcpu *cpu)
{
	__atomic_store_n(&cpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
}

static void test_kick(struct test *t)
{
	struct testvm *v = guest64_new(1, forever);

	WANT(run_and_kick(v, kick) == -EINTR && v->cpu[0]->run->exit_reason == KVM_EXIT_INTR);
	WANT(run_and_kick(v, set_immediate_exit) == -EINTR);
	v->cpu[0]->run->immediate_exit = 0;
	vcpu_request(v->cpu[0], REQ_KICK); /* before KVM_RUN: not lost */
	WANT(vcpu_run(v->cpu[0]) == -EINTR);
	testvm_free(v);
}

static void change_slots(struct vcpu *cpu)
{
	struct testvm *v = container_of(cpu->vm, struct testvm, vm);

	for (unsigned i = 0; i < 50; i++) {
		ASSERT(testvm_slot(v, 1, 0, GIB(2), 0x1000, v->ram) == 0);
		ASSERT(testvm_slot(v, 1, 0, 0, 0, NULL) == 0);
	}
	vcpu_request(cpu, REQ_KICK);
}

static void test_slots_while_running(struct test *t)
{
	struct testvm *v = guest64_new(1, forever);

	WANT(run_and_kick(v, change_slots) == -EINTR && gpr(v, RAX) > 0);
	testvm_free(v);
}

/* --- faults ------------------------------------------------------------------------------- */

GUEST(triple, "ud2");
static void test_triple_fault(struct test *t)
{
	struct testvm *v = guest64_new(1, triple);

	v->cpu[0]->idt.limit = 0;
	WANT(exits(v, KVM_EXIT_SHUTDOWN));
	testvm_free(v);
}

GUEST(no_ram, "mov $0x40000000, %eax\n jmp *%rax");
static void test_fetch_outside_ram(struct test *t)
{
	struct testvm *v = guest64_new(1, no_ram);

	WANT(exits(v, KVM_EXIT_INTERNAL_ERROR));
	WANT(v->cpu[0]->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION);
	WANT(v->cpu[0]->rip == GUEST_MMIO);
	testvm_free(v);
}

GUEST(fetch_fault, "mov $0x80000123, %eax\n jmp *%rax");
GUEST(handler, "mov %cr2, %rbx\n pop %rdx\n pop %rsi\n hlt");
static void test_fetch_fault(struct test *t)
{
	struct testvm *v = guest64_new(1, fetch_fault);

	guest64_put(v, GUEST_CODE + 0x1000, handler_start, handler_end);
	guest64_gate(v, EX_PF, GUEST_CODE + 0x1000);
	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RBX) == 0x80000123);
	WANT(gpr(v, RDX) == PF_I && gpr(v, RSI) == 0x80000123);
	testvm_free(v);
}

/* An instruction of 7 bytes, 3 of them on a page that is not there. */
GUEST(straddle, "movl $0x11223344, 0x300000\n hlt");
static void test_straddling_fault(struct test *t)
{
	struct testvm *v = guest64_new(1, straddle);
	gpa_t at = 0x200000 - 5; /* at the end of a 2 MiB page */
	uint64_t *next = (uint64_t *)(void *)(v->ram + 0x3008);

	guest64_put(v, at, straddle_start, straddle_end);
	guest64_put(v, GUEST_CODE + 0x1000, handler_start, handler_end);
	guest64_gate(v, EX_PF, GUEST_CODE + 0x1000);
	*next &= ~1ull;
	v->cpu[0]->rip = at;
	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RBX) == 0x200000 && gpr(v, RSI) == at);
	*next |= 1;
	v->cpu[0]->rip = at;
	WANT(exits(v, KVM_EXIT_HLT) && load_le32(v->ram + GUEST_DATA) == 0x11223344);
	/* Change the part on the second page. */
	v->ram[at + straddle_end - straddle_start - 2] = 0x55;
	mmu_flush_all(v->cpu[0]); /* nobody is told: what is translated is fetched anew */
	v->cpu[0]->rip = at;
	WANT(exits(v, KVM_EXIT_HLT) && load_le32(v->ram + GUEST_DATA) == 0x55223344);
	testvm_free(v);
}

/* Real mode: sequential flow over the end of the segment is #GP. */
static void test_segment_end(struct test *t)
{
	struct testvm *v = testvm_new(1);
	struct vcpu *cpu = v->cpu[0];

	memset(v->ram + 0x10000, 0x90, 0x10000);
	v->ram[0x2000] = 0xf4;
	store_le32(v->ram + 13 * 4, 0x2000);
	cpu->seg[SEG_CS] = (struct segment){
		.sel = 0x1000, .base = 0x10000, .limit = 0xffff, .type = 11, .s = 1, .present = 1
	};
	cpu->gpr[RSP] = 0x1000;
	cpu->idt = (struct dtable){ 0, 0x3ff };
	cpu->rip = 0xfff0;
	atomic_store(&cpu->mp_state, KVM_MP_STATE_RUNNABLE);
	cpu_mode_changed(cpu);
	WANT(exits(v, KVM_EXIT_HLT) && cpu->rip == 0x2001);
	WANT(load_le32(v->ram + 0xffa) == 0x10000000); /* pushed: CS 1000, IP 0 */
	testvm_free(v);
}

/* --- interrupts --------------------------------------------------------------------------- */

GUEST(irq_on, "sti\n nop\n cli\n 1: inc %rax\n cmp $1000, %rax\n jb 1b\n sti\n nop\n hlt");
GUEST(irq_handler, "mov (%rsp), %rbx\n mov %rax, %rcx\n iretq");
static void inject(struct vcpu *cpu, uint8_t vector)
{
	cpu->ev.interrupt_injected = true;
	cpu->ev.interrupt_nr = vector;
}

static void test_interrupt_window(struct test *t)
{
	struct testvm *v = guest64_new(1, irq_on);
	struct kvm_run *run = v->cpu[0]->run;

	guest64_put(v, GUEST_CODE + 0x1000, irq_handler_start, irq_handler_end);
	guest64_gate(v, 0x30, GUEST_CODE + 0x1000);
	run->request_interrupt_window = 1;
	WANT(exits(v, KVM_EXIT_IRQ_WINDOW_OPEN));
	WANT(vcpu_ready_for_interrupt(v->cpu[0]) && (v->cpu[0]->rflags & FL_IF));
	WANT(v->cpu[0]->ev.shadow == 0);
	inject(v->cpu[0], 0x30);
	run->request_interrupt_window = 0;
	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RBX) >= GUEST_CODE + 1);
	testvm_free(v);
}

static void test_nmi(struct test *t)
{
	struct testvm *v = guest64_new(1, irq_on);

	guest64_put(v, GUEST_CODE + 0x1000, irq_handler_start, irq_handler_end);
	guest64_gate(v, EX_NMI, GUEST_CODE + 0x1000);
	atomic_store(&v->cpu[0]->ev.nmi_pending, 2);
	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RBX) == GUEST_CODE); /* both before the first */
	WANT(atomic_load(&v->cpu[0]->ev.nmi_pending) == 0 && !v->cpu[0]->ev.nmi_masked);
	testvm_free(v);
}

/* --- debugging ---------------------------------------------------------------------------- */

GUEST(steps, "xor %eax, %eax\n inc %eax\n jmp 1f\n nop\n 1: mov %eax, 0x300004\n inc %eax\n hlt");

static void test_guest_debug_step(struct test *t)
{
	struct testvm *v = guest64_new(1, steps);
	struct kvm_run *run = v->cpu[0]->run;
	static const unsigned offs[] = { 2, 4, 7, 14, 16 };

	v->cpu[0]->guest_debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	for (unsigned i = 0; i < ARRAY_SIZE(offs); i++) {
		WANT(exits(v, KVM_EXIT_DEBUG) && run->debug.arch.pc == GUEST_CODE + offs[i]);
		WANT(run->debug.arch.dr6 & BIT(14) && run->debug.arch.exception == EX_DB);
	}
	testvm_free(v);
}

static void test_guest_debug_breakpoints(struct test *t)
{
	struct testvm *v = guest64_new(1, steps);
	struct kvm_run *run = v->cpu[0]->run;
	struct kvm_guest_debug *d = &v->cpu[0]->guest_debug;

	d->control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
	d->arch.debugreg[0] = GUEST_CODE + 4; /* execution */
	d->arch.debugreg[1] = 0x300004;       /* 4 bytes written */
	d->arch.debugreg[7] = 2 | 8 | 1u << 20 | 3u << 22;
	WANT(exits(v, KVM_EXIT_DEBUG) && run->debug.arch.pc == GUEST_CODE + 4);
	WANT((run->debug.arch.dr6 & 15) == 1);
	d->arch.debugreg[7] &= ~2ull;
	WANT(exits(v, KVM_EXIT_DEBUG) && run->debug.arch.pc == GUEST_CODE + 14);
	WANT((run->debug.arch.dr6 & 15) == 2 && load_le32(v->ram + 0x300004) == 1);
	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RAX) == 2);
	testvm_free(v);
}

GUEST(trap_flag, "pushfq\n orq $0x100, (%rsp)\n popfq\n nop\n nop\n hlt");
GUEST(trap_handler, "mov (%rsp), %rbx\n lea (%rcx,%rbx), %rcx\n inc %rdx\n cmp $2, %rdx\n jb 1f\n"
		    "andq $~0x100, 16(%rsp)\n 1: iretq");
static void test_trap_flag(struct test *t)
{
	struct testvm *v = guest64_new(1, trap_flag);

	guest64_put(v, GUEST_CODE + 0x1000, trap_handler_start, trap_handler_end);
	guest64_gate(v, EX_DB, GUEST_CODE + 0x1000);
	WANT(exits(v, KVM_EXIT_HLT) && gpr(v, RDX) == 2);
	/* after the first and the second nop */
	WANT(gpr(v, RBX) == GUEST_CODE + 12 && gpr(v, RCX) == 2 * GUEST_CODE + 11 + 12);
	WANT(v->cpu[0]->dr6 & BIT(14));
	testvm_free(v);
}

static const struct test_case cases[] = {
	{ "halt", test_halt },
	{ "flags_over_cpuid", test_flags_over_cpuid },
	{ "ports", test_ports },
	{ "mmio", test_mmio },
	{ "finish_with_immediate_exit", test_finish_with_immediate_exit },
	{ "string_to_mmio", test_string_to_mmio },
	{ "rep_ports", test_rep_ports },
	{ "kick", test_kick },
	{ "slots_while_running", test_slots_while_running },
	{ "triple_fault", test_triple_fault },
	{ "fetch_outside_ram", test_fetch_outside_ram },
	{ "fetch_fault", test_fetch_fault },
	{ "straddling_fault", test_straddling_fault },
	{ "segment_end", test_segment_end },
	{ "interrupt_window", test_interrupt_window },
	{ "nmi", test_nmi },
	{ "guest_debug_step", test_guest_debug_step },
	{ "guest_debug_breakpoints", test_guest_debug_breakpoints },
	{ "trap_flag", test_trap_flag },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
