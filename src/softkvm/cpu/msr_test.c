/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Model-specific registers, their exits, hypercalls, paravirtual clocks. */
#include "softkvm/cpu/msr_int.h"
#include "softkvm/cpu/pvclock.h"
#include "softkvm/cpu/sys_testvm.h"

#define PAGE 0x50000u

/* Which values a guest may write, and what it reads then. */
static void test_values(struct test *t)
{
	static const struct {
		uint32_t index;
		uint64_t v;
		bool ok;
	} cases[] = {
		{ MSR_STAR, UINT64_MAX, true },
		{ MSR_LSTAR, 0xffffffff81000000, true },
		{ MSR_LSTAR, 0x8000000000000000, false },
		{ MSR_KERNEL_GS_BASE, 0x800000000000, false },
		{ MSR_FS_BASE, 0x7fffffffffff, true },
		{ MSR_GS_BASE, 0xffff7fffffffffff, false },
		{ MSR_PAT, 0x0007040600070406, true },
		{ MSR_PAT, 0x0007040600070402, false },
		{ MSR_PAT, 0x0807040600070406, false },
		{ MSR_MTRR_DEF, 0xc06, true },
		{ MSR_MTRR_DEF, 0x1000, false },
		{ MSR_MTRR_DEF, 0x802, false },
		{ MSR_MTRR_PHYS0, 0xc0000000, true },
		{ MSR_MTRR_PHYS0, 0xc0000002, false },
		{ MSR_MTRR_PHYS0 + 1, 0xfc0000800, true },
		{ MSR_MTRR_PHYS0 + 1, 0xfc0000801, false },
		{ MSR_MTRR_FIX64K, 0x0606060606060606, true },
		{ MSR_MTRR_FIX4K_7, 0x0606060606060602, false },
		{ MSR_MTRR_CAP, 0, false },
		{ MSR_MCG_STATUS, 5, true },
		{ MSR_MC0_CTL, UINT64_MAX, true },
		{ MSR_MC0_CTL, 5, false },
		{ MSR_MC0_CTL + 1, 0, true },
		{ MSR_MC0_CTL + 1, 1, false },
		{ MSR_MCG_CAP, 0, false },
		{ MSR_EFER, EFER_LME | EFER_LMA | EFER_NX | EFER_SCE, true },
		{ MSR_EFER, BIT64(13) | EFER_LME | EFER_LMA, false },
		{ MSR_SPEC_CTRL, 7, true },
		{ MSR_SPEC_CTRL, 8, false },
		{ MSR_TSC_AUX, 0x1234, true },
		{ MSR_ARCH_CAPABILITIES, 0, false },
		{ MSR_PLATFORM_INFO, 0, false },
		{ MSR_MISC_FEATURES, 1, true },
		{ MSR_MISC_FEATURES, 2, false },
		{ MSR_HWCR, BIT64(24), true },
		{ MSR_HWCR, BIT64(0), false },
		{ MSR_XSS, 1, false },
		{ MSR_KVM_POLL_CONTROL, 0, true },
		{ MSR_KVM_POLL_CONTROL, 2, false },
		{ MSR_KVM_STEAL_TIME, PAGE | 3, false },
		{ MSR_KVM_ASYNC_PF_EN, 1, false },
		{ 0x12345678, 0, false },
		{ 0xc0010064, 0, false },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sysvm s = sysvm_new(true);
		enum exec_result r;
		uint64_t v;

		s.cpu->gpr[RCX] = cases[i].index;
		s.cpu->gpr[RAX] = (uint32_t)cases[i].v;
		s.cpu->gpr[RDX] = cases[i].v >> 32;
		r = EXEC(&s, 0x0f, 0x30);
		if (!cases[i].ok) {
			CHECK_FAULT(t, &s, r, EX_GP, 0);
		} else {
			CHECK_EQ(t, r, EXEC_END);
			CHECK(t, msr_read(s.cpu, cases[i].index, &v, false));
			CHECK_EQ(t, v, cases[i].v);
		}
		sysvm_free(&s);
	}
}

/* Every listed MSR can be read and written back by user space, as QEMU does at each reset. */
static void test_lists(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	unsigned n;
	const uint32_t *list = msr_list(&n);
	uint64_t v;

	CHECK(t, n > 50);
	for (unsigned i = 0; i < n; i++) {
		if (list[i] == MSR_TSC_DEADLINE) {
			continue; /* needs a LAPIC */
		}
		if (!msr_read(s.cpu, list[i], &v, true)) {
			test_fail(t, __FILE__, __LINE__, "cannot read %x", list[i]);
			return;
		}
		if (list[i] != MSR_SMI_COUNT && !msr_write(s.cpu, list[i], v, true)) {
			test_fail(t, __FILE__, __LINE__, "cannot write %x", list[i]);
			return;
		}
	}
	list = msr_feature_list(&n);
	for (unsigned i = 0; i < n; i++) {
		CHECK(t, msr_feature_read(list[i], &v));
	}
	CHECK(t, !msr_feature_read(MSR_STAR, &v));
	sysvm_free(&s);
}

static void test_user_exits(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	struct vcpu *cpu = s.cpu;
	enum exec_result r;

	cpu->gpr[RCX] = 0x12345678;
	r = EXEC(&s, 0x0f, 0x32);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->vm->cap.user_msr_mask = KVM_MSR_EXIT_REASON_UNKNOWN;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x32), EXEC_EXIT);
	CHECK_EQ(t, cpu->run->exit_reason, KVM_EXIT_X86_RDMSR);
	CHECK_EQ(t, cpu->run->msr.index, 0x12345678);
	CHECK_EQ(t, cpu->run->msr.reason, KVM_MSR_EXIT_REASON_UNKNOWN);
	CHECK_EQ(t, cpu->rip, CODE);
	cpu->run->msr.data = 0x1122334455667788;
	exec_sys_complete(cpu);
	CHECK_EQ(t, cpu->gpr[RAX], 0x55667788);
	CHECK_EQ(t, cpu->gpr[RDX], 0x11223344);
	CHECK_EQ(t, cpu->rip, CODE + 2);
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x30), EXEC_EXIT);
	CHECK_EQ(t, cpu->run->exit_reason, KVM_EXIT_X86_WRMSR);
	CHECK_EQ(t, cpu->run->msr.data, 0x1122334455667788);
	cpu->run->msr.error = 1;
	exec_sys_complete(cpu);
	CHECK_EQ(t, cpu->rip, CODE + 2);
	CHECK(t, cpu->ev.exception_pending && cpu->ev.exception.vector == EX_GP);
	cpu->ev.exception_pending = false;
	/* Not asked for: a value that is wrong for a register that exists. */
	cpu->gpr[RCX] = MSR_PAT;
	cpu->gpr[RAX] = 2;
	r = EXEC(&s, 0x0f, 0x30);
	CHECK_FAULT(t, &s, r, EX_GP, 0);
	cpu->vm->cap.user_msr_mask = KVM_MSR_EXIT_REASON_INVAL;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x30), EXEC_EXIT);
	CHECK_EQ(t, cpu->run->msr.reason, KVM_MSR_EXIT_REASON_INVAL);
	/* State was set anew meanwhile: the answer is nobody's. */
	cpu->rip = 0x18000;
	exec_sys_complete(cpu);
	CHECK_EQ(t, cpu->rip, 0x18000);
	sysvm_free(&s);
}

static bool near(uint64_t a, uint64_t b)
{
	return a - b + BIT64(30) < BIT64(31);
}

static void test_tsc(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	struct vcpu *cpu = s.cpu;

	CHECK(t, msr_write(cpu, MSR_TSC, 1ull << 40, false));
	CHECK(t, near(cpu_tsc(cpu), 1ull << 40));
	cpu->msr.tsc_adjust = 0;
	/* A guest's write shows in TSC_ADJUST. */
	CHECK(t, msr_write(cpu, MSR_TSC, 3ull << 40, false));
	CHECK(t, near(cpu->msr.tsc_adjust, 2ull << 40));
	CHECK(t, msr_write(cpu, MSR_TSC_ADJUST, 0, false));
	CHECK(t, near(cpu_tsc(cpu), 1ull << 40));
	CHECK(t, msr_write(cpu, MSR_TSC_ADJUST, 5ull << 40, true)); /* user space's moves nothing */
	CHECK(t, near(cpu_tsc(cpu), 1ull << 40));
	CHECK(t, msr_write(cpu, MSR_TSC, 7ull << 40, true));
	CHECK(t, near(cpu_tsc(cpu), 7ull << 40));
	CHECK_EQ(t, cpu->msr.tsc_adjust, 5ull << 40);
	sysvm_free(&s);
}

static void test_tsc_together(struct test *t)
{
	struct testvm *vm = testvm_new(2);
	int64_t offset;

	vm->cpu[0]->tsc_khz = vm->cpu[1]->tsc_khz = 1000000;
	offset = vm->cpu[0]->tsc_offset;
	tsc_write_host(vm->cpu[0], 0); /* as it was made: nothing changes */
	CHECK_EQ(t, vm->cpu[0]->tsc_offset, offset);
	tsc_write_host(vm->cpu[0], 1ull << 60);
	offset = vm->cpu[0]->tsc_offset;
	tsc_write_host(vm->cpu[1], 1ull << 60); /* a moment later, but the same is meant */
	CHECK_EQ(t, vm->cpu[1]->tsc_offset, offset);
	tsc_write_host(vm->cpu[1], 0);
	CHECK_EQ(t, vm->cpu[1]->tsc_offset, offset);
	tsc_write_host(vm->cpu[1], 1ull << 50);
	CHECK(t, vm->cpu[1]->tsc_offset != offset);
	testvm_free(vm);
}

/* As a guest reads the page. */
static uint64_t pvclock_read(const struct sysvm *s, uint64_t tsc)
{
	uint64_t delta = tsc - get64(s, PAGE + 8), mul = get32(s, PAGE + 24);
	int8_t shift = (int8_t)s->ram[PAGE + 28];

	delta = shift < 0 ? delta >> -shift : delta << shift;
	return get64(s, PAGE + 16) + (uint64_t)((unsigned __int128)delta * mul >> 32);
}

static void test_kvm_clock(struct test *t)
{
	static const uint32_t khz[] = { 0, 300000, 1000000, 2000001, 4100000 };

	for (unsigned i = 0; i < ARRAY_SIZE(khz); i++) {
		struct sysvm s = sysvm_new(true);
		uint64_t want, got;

		s.cpu->tsc_khz = khz[i];
		CHECK(t, msr_write(s.cpu, MSR_KVM_SYSTEM_TIME_NEW, PAGE | 1, false));
		CHECK(t, atomic_load(&s.cpu->req) & REQ_CLOCK);
		pvclock_update(s.cpu);
		CHECK_EQ(t, get32(&s, PAGE) & 1, 0);
		CHECK(t, get32(&s, PAGE) != 0);
		CHECK_EQ(t, s.ram[PAGE + 29], 1); /* stable */
		want = pvclock_now_ns(s.cpu->vm);
		got = pvclock_read(&s, cpu_tsc(s.cpu));
		CHECK(t, got >= want && got - want < 100000000);
		CHECK(t, pvclock_guest_stopped(s.cpu) == 0);
		pvclock_update(s.cpu);
		CHECK_EQ(t, s.ram[PAGE + 29], 3);
		pvclock_update(s.cpu);
		CHECK_EQ(t, s.ram[PAGE + 29], 1);
		CHECK(t, msr_write(s.cpu, MSR_KVM_SYSTEM_TIME_NEW, 0, false));
		CHECK_EQ(t, pvclock_guest_stopped(s.cpu), -EINVAL);
		sysvm_free(&s);
	}
}

static void test_wall_clock(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	uint64_t boot, now = clock_wall_ns();

	CHECK(t, msr_write(s.cpu, MSR_KVM_WALL_CLOCK_NEW, PAGE, false));
	CHECK_EQ(t, get32(&s, PAGE) & 1, 0);
	boot = get32(&s, PAGE + 4) * 1000000000ull + get32(&s, PAGE + 8);
	CHECK(t, now - (boot + pvclock_now_ns(s.cpu->vm)) + 2000000000 < 4000000000);
	sysvm_free(&s);
}

static void test_steal_time(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	uint8_t *preempted = s.ram + PAGE + 16;
	uint32_t version;

	steal_time_leave(s.cpu); /* off: nothing happens */
	CHECK_EQ(t, *preempted, 0);
	CHECK(t, msr_write(s.cpu, MSR_KVM_STEAL_TIME, PAGE | 1, false));
	steal_time_enter(s.cpu);
	steal_time_leave(s.cpu);
	CHECK_EQ(t, *preempted, KVM_VCPU_PREEMPTED);
	*preempted |= KVM_VCPU_FLUSH_TLB;
	steal_time_enter(s.cpu);
	CHECK_EQ(t, *preempted, 0);
	CHECK_EQ(t, get32(&s, PAGE + 8) & 1, 0);
	/* The version moves on with each entry, and is even after it. */
	version = get32(&s, PAGE + 8);
	steal_time_enter(s.cpu);
	CHECK_EQ(t, get32(&s, PAGE + 8), version + 2);
	s.ram[PAGE + 8] |= 1; /* the guest's rubbish */
	steal_time_enter(s.cpu);
	CHECK_EQ(t, get32(&s, PAGE + 8), version + 6);
	/* A page that is not there harms nobody. */
	CHECK(t, msr_write(s.cpu, MSR_KVM_STEAL_TIME, 0xff00000000ull | 1, false));
	steal_time_leave(s.cpu);
	steal_time_enter(s.cpu);
	sysvm_free(&s);
}

static void test_hypercalls(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	struct vcpu *cpu = s.cpu;

	cpu->gpr[RAX] = 1;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xc1), EXEC_END);
	CHECK_EQ(t, cpu->gpr[RAX], 0);
	cpu->gpr[RAX] = 99;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xd9), EXEC_END);
	CHECK_EQ(t, (int64_t)cpu->gpr[RAX], -1000);
	cpu->gpr[RAX] = 9; /* clock pairing */
	cpu->gpr[RBX] = PAGE;
	cpu->gpr[RCX] = 0;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xd9), EXEC_END);
	CHECK_EQ(t, cpu->gpr[RAX], 0);
	CHECK(t, get64(&s, PAGE) > 1000000000 && get64(&s, PAGE + 16) != 0);
	cpu->gpr[RAX] = 12;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xd9), EXEC_END);
	CHECK_EQ(t, (int64_t)cpu->gpr[RAX], -1000);
	cpu->vm->cap.exit_hypercalls = BIT(12);
	cpu->gpr[RAX] = 12;
	cpu->gpr[RBX] = 0x100000;
	cpu->gpr[RCX] = 2;
	cpu->gpr[RDX] = 0x10;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xd9), EXEC_EXIT);
	CHECK_EQ(t, cpu->run->exit_reason, KVM_EXIT_HYPERCALL);
	CHECK_EQ(t, cpu->run->hypercall.args[1], 2);
	cpu->run->hypercall.ret = 77;
	exec_sys_complete(cpu);
	CHECK_EQ(t, cpu->gpr[RAX], 77);
	set_cpl(&s, 3);
	cpu->gpr[RAX] = 1;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xd9), EXEC_END);
	CHECK_EQ(t, (int64_t)cpu->gpr[RAX], -1);
	sysvm_free(&s);
}

static void test_foreign_hypercall(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	struct vcpu *cpu = s.cpu;
	enum exec_result r;

	cpu->feat.amd = true;
	cpu->gpr[RAX] = 1;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xc1), EXEC_END);
	CHECK_EQ(t, cpu->gpr[RAX], 0);
	CHECK_EQ(t, s.ram[CODE + 2], 0xd9); /* rewritten */
	cpu->feat.amd = false;
	cpu->rip = CODE;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xd9), EXEC_END);
	CHECK_EQ(t, s.ram[CODE + 2], 0xc1);
	cpu->vm->cap.quirks_off = KVM_X86_QUIRK_FIX_HYPERCALL_INSN;
	cpu->rip = CODE;
	r = EXEC(&s, 0x0f, 0x01, 0xd9);
	CHECK_FAULT(t, &s, r, EX_UD, 0);
	CHECK_EQ(t, s.ram[CODE + 2], 0xd9);
	sysvm_free(&s);
}

static void test_kick(struct test *t)
{
	struct sysvm s = sysvm_new(true);
	struct vcpu *peer;

	testvm_vcpu(s.t);
	peer = s.t->cpu[1];
	atomic_store(&peer->mp_state, KVM_MP_STATE_HALTED);
	s.cpu->gpr[RAX] = 5;
	s.cpu->gpr[RBX] = 0;
	s.cpu->gpr[RCX] = 1;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xd9), EXEC_END);
	CHECK_EQ(t, peer->mp_state, KVM_MP_STATE_RUNNABLE);
	CHECK(t, !peer->ev.pv_unhalted);
	s.cpu->gpr[RAX] = 5;
	CHECK_EQ(t, EXEC(&s, 0x0f, 0x01, 0xd9), EXEC_END);
	CHECK(t, peer->ev.pv_unhalted); /* it was running: its next HLT falls through */
	sysvm_free(&s);
}

static const struct test_case cases[] = {
	{ "values", test_values },
	{ "lists", test_lists },
	{ "user_exits", test_user_exits },
	{ "tsc", test_tsc },
	{ "tsc_together", test_tsc_together },
	{ "kvm_clock", test_kvm_clock },
	{ "wall_clock", test_wall_clock },
	{ "steal_time", test_steal_time },
	{ "hypercalls", test_hypercalls },
	{ "foreign_hypercall", test_foreign_hypercall },
	{ "kick", test_kick },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
