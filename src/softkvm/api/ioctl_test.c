/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each ioctl's errors, and what is set and read back.
 */
#include <linux/kvm_para.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "softkvm/api/testapi.h"

#define BAD_POINTER 8ul

/* --- errors, as a table -------------------------------------------------------------- */
enum level { SYSTEM, VM, VCPU };

static const struct {
	const char *name;
	enum level level;
	unsigned long request, arg;
	int want;
} errors[] = {
	{ "version with argument", SYSTEM, KVM_GET_API_VERSION, 1, -EINVAL },
	{ "version", SYSTEM, KVM_GET_API_VERSION, 0, 12 },
	{ "unknown machine type", SYSTEM, KVM_CREATE_VM, 77, -EINVAL },
	{ "mmap size with argument", SYSTEM, KVM_GET_VCPU_MMAP_SIZE, 1, -EINVAL },
	{ "mmap size", SYSTEM, KVM_GET_VCPU_MMAP_SIZE, 0, 3 * 4096 },
	{ "unknown system call", SYSTEM, _IO(KVMIO, 0xf7), 0, -EINVAL },
	{ "VM's call on the system", SYSTEM, KVM_CREATE_VCPU, 0, -EINVAL },
	{ "CPUID to nowhere", SYSTEM, KVM_GET_SUPPORTED_CPUID, BAD_POINTER, -EFAULT },
	{ "emulated CPUID to nowhere", SYSTEM, KVM_GET_EMULATED_CPUID, BAD_POINTER, -EFAULT },
	{ "MSR list to nowhere", SYSTEM, KVM_GET_MSR_INDEX_LIST, BAD_POINTER, -EFAULT },
	{ "feature list to nowhere", SYSTEM, KVM_GET_MSR_FEATURE_INDEX_LIST, BAD_POINTER, -EFAULT },
	{ "feature MSRs from nowhere", SYSTEM, KVM_GET_MSRS, BAD_POINTER, -EFAULT },
	{ "MCE capabilities to nowhere", SYSTEM, KVM_X86_GET_MCE_CAP_SUPPORTED, BAD_POINTER,
	  -EFAULT },
	{ "unknown VM call", VM, _IO(KVMIO, 0xf7), 0, -ENOTTY },
	{ "vCPU's call on the VM", VM, KVM_RUN, 0, -ENOTTY },
	{ "statistics are not there", VM, KVM_GET_STATS_FD, 0, -ENOTTY },
	{ "memory from nowhere", VM, KVM_SET_USER_MEMORY_REGION, BAD_POINTER, -EFAULT },
	{ "dirty log from nowhere", VM, KVM_GET_DIRTY_LOG, BAD_POINTER, -EFAULT },
	{ "vCPU id too large", VM, KVM_CREATE_VCPU, 1024, -EINVAL },
	{ "vCPU id taken", VM, KVM_CREATE_VCPU, 0, -EEXIST },
	{ "boot CPU too late", VM, KVM_SET_BOOT_CPU_ID, 1, -EBUSY },
	{ "TSS beyond 4 GiB", VM, KVM_SET_TSS_ADDR, 0xfffff000, -EINVAL },
	{ "TSS", VM, KVM_SET_TSS_ADDR, 0xfffbd000, 0 },
	{ "irqchip after vCPUs", VM, KVM_CREATE_IRQCHIP, 0, -EINVAL },
	{ "few MMU pages", VM, KVM_SET_NR_MMU_PAGES, 1, -EINVAL },
	{ "line without irqchip", VM, KVM_IRQ_LINE, BAD_POINTER, -EFAULT },
	{ "MSI from nowhere", VM, KVM_SIGNAL_MSI, BAD_POINTER, -EFAULT },
	{ "clock to nowhere", VM, KVM_GET_CLOCK, BAD_POINTER, -EFAULT },
	{ "filter from nowhere", VM, KVM_X86_SET_MSR_FILTER, BAD_POINTER, -EFAULT },
	{ "PIT2 that is not there", VM, KVM_GET_PIT2, BAD_POINTER, -ENXIO },
	{ "routing from nowhere", VM, KVM_SET_GSI_ROUTING, BAD_POINTER, -EFAULT },
	{ "run with argument", VCPU, KVM_RUN, 1, -EINVAL },
	{ "unknown vCPU call", VCPU, _IO(KVMIO, 0xf7), 0, -EINVAL },
	{ "one-reg is not for x86", VCPU, KVM_GET_ONE_REG, BAD_POINTER, -EINVAL },
	{ "SMI is not there", VCPU, KVM_SMI, 0, -EINVAL },
	{ "regs to nowhere", VCPU, KVM_GET_REGS, BAD_POINTER, -EFAULT },
	{ "regs from nowhere", VCPU, KVM_SET_REGS, BAD_POINTER, -EFAULT },
	{ "sregs from nowhere", VCPU, KVM_SET_SREGS, BAD_POINTER, -EFAULT },
	{ "sregs2 to nowhere", VCPU, KVM_GET_SREGS2, BAD_POINTER, -EFAULT },
	{ "FPU from nowhere", VCPU, KVM_SET_FPU, BAD_POINTER, -EFAULT },
	{ "XSAVE to nowhere", VCPU, KVM_GET_XSAVE, BAD_POINTER, -EFAULT },
	{ "XCRs from nowhere", VCPU, KVM_SET_XCRS, BAD_POINTER, -EFAULT },
	{ "MSRs from nowhere", VCPU, KVM_SET_MSRS, BAD_POINTER, -EFAULT },
	{ "CPUID from nowhere", VCPU, KVM_SET_CPUID2, BAD_POINTER, -EFAULT },
	{ "LAPIC that is not there", VCPU, KVM_GET_LAPIC, BAD_POINTER, -EINVAL },
	{ "VAPIC without LAPIC", VCPU, KVM_SET_VAPIC_ADDR, BAD_POINTER, -EFAULT },
	{ "events from nowhere", VCPU, KVM_SET_VCPU_EVENTS, BAD_POINTER, -EFAULT },
	{ "debug registers to nowhere", VCPU, KVM_GET_DEBUGREGS, BAD_POINTER, -EFAULT },
	{ "debugging from nowhere", VCPU, KVM_SET_GUEST_DEBUG, BAD_POINTER, -EFAULT },
	{ "signal mask from nowhere", VCPU, KVM_SET_SIGNAL_MASK, BAD_POINTER, -EFAULT },
	{ "no signal mask", VCPU, KVM_SET_SIGNAL_MASK, 0, 0 },
	{ "clock without kvm-clock", VCPU, KVM_KVMCLOCK_CTRL, 0, -EINVAL },
	{ "translation from nowhere", VCPU, KVM_TRANSLATE, BAD_POINTER, -EFAULT },
	{ "interrupt from nowhere", VCPU, KVM_INTERRUPT, BAD_POINTER, -EFAULT },
	{ "statistics are not there", VCPU, KVM_GET_STATS_FD, 0, -EINVAL },
};

static void test_errors(struct test *t)
{
	struct testapi a;
	bool ok = true;

	testapi_open(&a);
	testapi_vcpu(&a);
	for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
		int fd = errors[i].level == SYSTEM ? a.sys
			 : errors[i].level == VM   ? a.vm
						   : a.vcpu[0];
		int r = softkvm_ioctl(fd, errors[i].request, errors[i].arg);

		if (r != errors[i].want) {
			test_fail(t, __FILE__, __LINE__, "%s: %d, want %d", errors[i].name, r,
				  errors[i].want);
			ok = false;
		}
	}
	testapi_close(&a);
	CHECK(t, ok);
	CHECK_EQ(t, (unsigned)softkvm_ioctl(-1, KVM_RUN, 0), (unsigned)-EBADF);
	CHECK_EQ(t, (unsigned)softkvm_ioctl(0, KVM_RUN, 0), (unsigned)-EBADF);
}

/* --- descriptors -------------------------------------------------------------------------- */
static void test_descriptors(struct test *t)
{
	struct testapi a;
	struct kvm_regs regs = { .rflags = 2 };
	int vcpu, copy;

	testapi_open(&a);
	vcpu = testapi_vcpu(&a);
	CHECK(t, softkvm_owns(a.sys) && softkvm_owns(a.vm) && softkvm_owns(vcpu));
	CHECK(t, !softkvm_owns(-1) && !softkvm_owns(1 << 30));
	copy = dup(vcpu);
	CHECK(t, !softkvm_owns(copy));
	CHECK(t, softkvm_dup(vcpu, copy) == 0 && softkvm_owns(copy));
	/* The VM lives as long as one of its vCPUs has a descriptor. */
	CHECK(t, softkvm_close(a.vm) == 0);
	CHECK(t, softkvm_close(vcpu) == 0);
	CHECK(t, softkvm_close(vcpu) == -EBADF);
	CHECK(t, api_call(copy, KVM_SET_REGS, &regs) == 0);
	CHECK(t, softkvm_close(copy) == 0);
	CHECK(t, !softkvm_owns(copy));
	softkvm_close(a.sys);
	softkvm_munmap_run(a.run[0]);
	munmap(a.ram, TESTAPI_RAM_BYTES);
}

static void test_fork(struct test *t)
{
	struct testapi a;
	struct kvm_regs regs;
	int status;
	pid_t pid;

	testapi_open(&a);
	testapi_vcpu(&a);
	pid = fork();
	if (pid == 0) {
		_exit(api_call(a.vcpu[0], KVM_GET_REGS, &regs) == -EIO &&
				      softkvm_close(a.vcpu[0]) == 0
			      ? 0
			      : 1);
	}
	CHECK(t, waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(t, api_call(a.vcpu[0], KVM_GET_REGS, &regs) == 0);
	testapi_close(&a);
}

/* --- state --------------------------------------------------------------------------------- */
static void test_regs(struct test *t)
{
	struct testapi a;
	struct kvm_regs in, out;
	uint64_t *words = (uint64_t *)&in;

	testapi_open(&a);
	testapi_vcpu(&a);
	for (unsigned i = 0; i < sizeof(in) / 8; i++) {
		words[i] = 0x1111111111111111ull * (i + 1);
	}
	in.rip = 0x1234;
	in.rflags = 0x246;
	CHECK(t, api_call(a.vcpu[0], KVM_SET_REGS, &in) == 0);
	CHECK(t, api_call(a.vcpu[0], KVM_GET_REGS, &out) == 0);
	CHECK(t, memcmp(&in, &out, sizeof(in)) == 0);
	testapi_close(&a);
}

static int set_sregs(struct testapi *a, struct kvm_sregs *s, uint64_t cr0, uint64_t cr4,
		     uint64_t efer)
{
	s->cr0 = cr0;
	s->cr4 = cr4;
	s->efer = efer;
	return api_call(a->vcpu[0], KVM_SET_SREGS, s);
}

static void test_sregs(struct test *t)
{
	static const uint64_t cr0_pg = 0x80000011ull;
	struct testapi a;
	struct kvm_sregs s, out;
	struct kvm_sregs2 s2, out2;

	testapi_open(&a);
	testapi_vcpu(&a);
	CHECK(t, api_call(a.vcpu[0], KVM_GET_SREGS, &s) == 0);
	CHECK(t, s.cs.selector == 0xf000 && s.cs.base == 0xffff0000u);
	CHECK_EQ(t, set_sregs(&a, &s, BIT64(32) | 0x11, 0, 0), -EINVAL);
	CHECK_EQ(t, set_sregs(&a, &s, BIT64(29) | 0x11, 0, 0), -EINVAL); /* NW, not CD */
	CHECK_EQ(t, set_sregs(&a, &s, 0x80000010ull, 0, 0), -EINVAL);    /* PG, not PE */
	CHECK_EQ(t, set_sregs(&a, &s, 0x11, BIT64(13), 0), -EINVAL);     /* VMXE */
	CHECK_EQ(t, set_sregs(&a, &s, 0x11, BIT64(12), 0), -EINVAL);     /* LA57 */
	CHECK_EQ(t, set_sregs(&a, &s, cr0_pg, 0, 0x500), -EINVAL);       /* long mode, not PAE */
	CHECK_EQ(t, set_sregs(&a, &s, cr0_pg, 0x20, 0x100), -EINVAL);    /* LME, not LMA */
	CHECK_EQ(t, set_sregs(&a, &s, 0x11, 0x20, 0x400), -EINVAL);      /* LMA without paging */
	s.cr3 = BIT64(60);
	CHECK_EQ(t, set_sregs(&a, &s, cr0_pg, 0x20, 0x500), -EINVAL);
	s.cr3 = 0x1000;
	s.cs.l = 1;
	s.gdt.base = 0x5000;
	s.gdt.limit = 0x27;
	s.cr8 = 7;
	s.interrupt_bitmap[1] = BIT64(5);
	CHECK_EQ(t, set_sregs(&a, &s, cr0_pg, 0x20, 0xd00), 0);
	CHECK(t, api_call(a.vcpu[0], KVM_GET_SREGS, &out) == 0);
	CHECK(t, memcmp(&s, &out, sizeof(s)) == 0);
	CHECK(t, api_call(a.vcpu[0], KVM_GET_SREGS2, &s2) == 0);
	CHECK_EQ(t, s2.flags, 0);
	s2.cr2 = 0x123456;
	CHECK(t, api_call(a.vcpu[0], KVM_SET_SREGS2, &s2) == 0);
	CHECK(t, api_call(a.vcpu[0], KVM_GET_SREGS2, &out2) == 0);
	CHECK(t, memcmp(&s2, &out2, sizeof(s2)) == 0);
	s2.flags = BIT64(9);
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_SREGS2, &s2), -EINVAL);
	testapi_close(&a);
}

static void test_events(struct test *t)
{
	struct testapi a;
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = { 1 } };
	struct kvm_vcpu_events e = { 0 }, out;

	testapi_open(&a);
	testapi_vcpu(&a);
	e.flags = BIT(31);
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.flags = KVM_VCPUEVENT_VALID_PAYLOAD; /* not enabled */
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.flags = 0;
	e.exception.injected = 1;
	e.exception.nr = 32;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	CHECK(t, api_call(a.vm, KVM_ENABLE_CAP, &cap) == 0);
	e = (struct kvm_vcpu_events){
		.flags = KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_NMI_PENDING |
			 KVM_VCPUEVENT_VALID_SHADOW,
		.exception = { .nr = 14, .has_error_code = 1, .error_code = 6, .pending = 1 },
		.exception_has_payload = 1,
		.exception_payload = 0xdead000,
		.interrupt = { .shadow = KVM_X86_SHADOW_INT_STI },
		.nmi = { .pending = 1, .masked = 1 },
	};
	CHECK(t, api_call(a.vcpu[0], KVM_SET_VCPU_EVENTS, &e) == 0);
	CHECK(t, api_call(a.vcpu[0], KVM_GET_VCPU_EVENTS, &out) == 0);
	CHECK_EQ(t, out.exception.pending, 1);
	CHECK_EQ(t, out.exception.injected, 0);
	CHECK_EQ(t, out.exception_payload, 0xdead000);
	CHECK_EQ(t, out.interrupt.shadow, KVM_X86_SHADOW_INT_STI);
	CHECK(t, out.nmi.pending && out.nmi.masked);
	testapi_close(&a);
}

static void test_debugregs_and_mp_state(struct test *t)
{
	struct testapi a;
	struct kvm_debugregs d = { .db = { 1, 2, 3, 4 }, .dr6 = 0xffff0ff0, .dr7 = 0x400 }, out;
	struct kvm_mp_state mp = { KVM_MP_STATE_HALTED };

	testapi_open(&a);
	testapi_vcpu(&a);
	CHECK(t, api_call(a.vcpu[0], KVM_SET_DEBUGREGS, &d) == 0);
	CHECK(t, api_call(a.vcpu[0], KVM_GET_DEBUGREGS, &out) == 0);
	CHECK(t, memcmp(&d, &out, sizeof(d)) == 0);
	d.dr7 = BIT64(32);
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_DEBUGREGS, &d), -EINVAL);
	d.dr7 = 0x400;
	d.flags = 1;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_DEBUGREGS, &d), -EINVAL);
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_MP_STATE, &mp), -EINVAL); /* no LAPIC */
	mp.mp_state = KVM_MP_STATE_RUNNABLE;
	CHECK(t, api_call(a.vcpu[0], KVM_SET_MP_STATE, &mp) == 0);
	CHECK(t, api_call(a.vcpu[0], KVM_GET_MP_STATE, &mp) == 0 &&
			 mp.mp_state == KVM_MP_STATE_RUNNABLE);
	testapi_close(&a);
}

/* --- lists ------------------------------------------------------------------------------------ */
static void test_lists(struct test *t)
{
	struct {
		struct kvm_msr_list head;
		uint32_t indices[512];
	} list = { .head.nmsrs = 1 };
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[2];
	} msrs = { .head.nmsrs = 2 };
	struct testapi a;
	uint32_t n;

	testapi_open(&a);
	testapi_vcpu(&a);
	CHECK_EQ(t, api_call(a.sys, KVM_GET_MSR_INDEX_LIST, &list), -E2BIG);
	n = list.head.nmsrs;
	CHECK(t, n > 10 && n < 512);
	CHECK_EQ(t, api_call(a.sys, KVM_GET_MSR_INDEX_LIST, &list), 0);
	for (uint32_t i = 0; i < n; i++) {
		msrs.head.nmsrs = 1;
		msrs.e[0].index = list.indices[i];
		if (list.indices[i] == 0x17b) {
			continue; /* MCG_CTL is there only after KVM_X86_SETUP_MCE says so */
		}
		CHECK_EQ(t, api_call(a.vcpu[0], KVM_GET_MSRS, &msrs), 1);
		CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_MSRS, &msrs), 1);
	}
	msrs.head.nmsrs = 2; /* the second one does not exist */
	msrs.e[0].index = 0x174;
	msrs.e[1].index = 0x12345678;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_GET_MSRS, &msrs), 1);
	msrs.head.nmsrs = 256;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_GET_MSRS, &msrs), -E2BIG);
	testapi_close(&a);
}

struct cpuid_table {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 e[256];
};

static void test_cpuid(struct test *t)
{
	static struct cpuid_table in, out;
	struct testapi a;
	int n;

	testapi_open(&a);
	CHECK_EQ(t, api_call(a.sys, KVM_GET_SUPPORTED_CPUID, &in), -E2BIG);
	in.head.nent = 256;
	CHECK_EQ(t, api_call(a.sys, KVM_GET_SUPPORTED_CPUID, &in), 0);
	n = (int)in.head.nent;
	CHECK(t, n > 10);
	testapi_vcpu(&a);
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_CPUID2, &in), 0);
	out.head.nent = (uint32_t)n - 1;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_GET_CPUID2, &out), -E2BIG);
	out.head.nent = 256;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_GET_CPUID2, &out), 0);
	CHECK_EQ(t, out.head.nent, n);
	in.head.nent = 257;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_CPUID2, &in), -E2BIG);
	testapi_close(&a);
}

/* After the first KVM_RUN the table cannot change. */
static void test_cpuid_is_fixed(struct test *t)
{
	static struct cpuid_table table;
	struct testapi a;

	testapi_open(&a);
	testapi_vcpu(&a);
	testapi_code(&a, 0, 0x1000, "\xf4", 1, 0);
	CHECK_EQ(t, softkvm_ioctl(a.vcpu[0], KVM_RUN, 0), 0);
	CHECK_EQ(t, a.run[0]->exit_reason, KVM_EXIT_HLT);
	table.head.nent = 256;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_GET_CPUID2, &table), 0);
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_CPUID2, &table), 0);
	table.e[0].eax ^= 1;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_CPUID2, &table), -EINVAL);
	testapi_close(&a);
}

/* --- capabilities --------------------------------------------------------------------------------
 */
static void test_caps(struct test *t)
{
	struct testapi a;
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MAX_VCPU_ID, .args = { 2 } };

	testapi_open(&a);
	CHECK_EQ(t, softkvm_ioctl(a.sys, KVM_CHECK_EXTENSION, 0xfffff), 0);
	CHECK_EQ(t, softkvm_ioctl(a.sys, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
	CHECK_EQ(t, softkvm_ioctl(a.vm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS), 256);
	CHECK_EQ(t, softkvm_ioctl(a.vm, KVM_CHECK_EXTENSION, KVM_CAP_X86_SMM), 0);
	CHECK_EQ(t, api_call(a.vm, KVM_ENABLE_CAP, &cap), 0);
	cap.args[0] = 3;
	CHECK_EQ(t, api_call(a.vm, KVM_ENABLE_CAP, &cap), -EINVAL);
	CHECK_EQ(t, softkvm_ioctl(a.vm, KVM_CREATE_VCPU, 2), -EINVAL);
	cap = (struct kvm_enable_cap){ .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 25 } };
	CHECK_EQ(t, api_call(a.vm, KVM_ENABLE_CAP, &cap), -EINVAL);
	cap.args[0] = 24;
	CHECK_EQ(t, api_call(a.vm, KVM_ENABLE_CAP, &cap), 0);
	CHECK_EQ(t, api_call(a.vm, KVM_ENABLE_CAP, &cap), -EEXIST);
	cap.flags = 1;
	CHECK_EQ(t, api_call(a.vm, KVM_ENABLE_CAP, &cap), -EINVAL);
	cap = (struct kvm_enable_cap){ .cap = 9999 };
	CHECK_EQ(t, api_call(a.vm, KVM_ENABLE_CAP, &cap), -EINVAL);
	testapi_close(&a);
}

/* --- what a capability promises ------------------------------------------------------------------
 */
static const struct {
	unsigned cap;
	enum level level;
	unsigned long request;
} promises[] = {
	{ KVM_CAP_IRQCHIP, VM, KVM_GET_IRQCHIP },
	{ KVM_CAP_MMU_SHADOW_CACHE_CONTROL, VM, KVM_GET_NR_MMU_PAGES },
	{ KVM_CAP_USER_MEMORY, VM, KVM_SET_USER_MEMORY_REGION },
	{ KVM_CAP_SET_TSS_ADDR, VM, KVM_SET_TSS_ADDR },
	{ KVM_CAP_EXT_CPUID, SYSTEM, KVM_GET_SUPPORTED_CPUID },
	{ KVM_CAP_PIT2, VM, KVM_CREATE_PIT2 },
	{ KVM_CAP_PIT_STATE2, VM, KVM_GET_PIT2 },
	{ KVM_CAP_MP_STATE, VCPU, KVM_GET_MP_STATE },
	{ KVM_CAP_COALESCED_MMIO, VM, KVM_REGISTER_COALESCED_MMIO },
	{ KVM_CAP_SET_GUEST_DEBUG, VCPU, KVM_SET_GUEST_DEBUG },
	{ KVM_CAP_REINJECT_CONTROL, VM, KVM_REINJECT_CONTROL },
	{ KVM_CAP_IRQ_ROUTING, VM, KVM_SET_GSI_ROUTING },
	{ KVM_CAP_IRQ_INJECT_STATUS, VM, KVM_IRQ_LINE_STATUS },
	{ KVM_CAP_MCE, VCPU, KVM_X86_SETUP_MCE },
	{ KVM_CAP_MCE, SYSTEM, KVM_X86_GET_MCE_CAP_SUPPORTED },
	{ KVM_CAP_IRQFD, VM, KVM_IRQFD },
	{ KVM_CAP_SET_BOOT_CPU_ID, VM, KVM_SET_BOOT_CPU_ID },
	{ KVM_CAP_IOEVENTFD, VM, KVM_IOEVENTFD },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, VM, KVM_SET_IDENTITY_MAP_ADDR },
	{ KVM_CAP_ADJUST_CLOCK, VM, KVM_GET_CLOCK },
	{ KVM_CAP_VCPU_EVENTS, VCPU, KVM_GET_VCPU_EVENTS },
	{ KVM_CAP_DEBUGREGS, VCPU, KVM_GET_DEBUGREGS },
	{ KVM_CAP_ENABLE_CAP, VCPU, KVM_ENABLE_CAP },
	{ KVM_CAP_ENABLE_CAP_VM, VM, KVM_ENABLE_CAP },
	{ KVM_CAP_XSAVE, VCPU, KVM_GET_XSAVE },
	{ KVM_CAP_XSAVE2, VCPU, KVM_GET_XSAVE2 },
	{ KVM_CAP_XCRS, VCPU, KVM_GET_XCRS },
	{ KVM_CAP_SIGNAL_MSI, VM, KVM_SIGNAL_MSI },
	{ KVM_CAP_EXT_EMUL_CPUID, SYSTEM, KVM_GET_EMULATED_CPUID },
	{ KVM_CAP_CHECK_EXTENSION_VM, VM, KVM_CHECK_EXTENSION },
	{ KVM_CAP_VCPU_ATTRIBUTES, VCPU, KVM_GET_DEVICE_ATTR },
	{ KVM_CAP_SYS_ATTRIBUTES, SYSTEM, KVM_GET_DEVICE_ATTR },
	{ KVM_CAP_GET_MSR_FEATURES, SYSTEM, KVM_GET_MSR_FEATURE_INDEX_LIST },
	{ KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, VM, KVM_CLEAR_DIRTY_LOG },
	{ KVM_CAP_X86_MSR_FILTER, VM, KVM_X86_SET_MSR_FILTER },
	{ KVM_CAP_SREGS2, VCPU, KVM_GET_SREGS2 },
	{ KVM_CAP_VM_TSC_CONTROL, VM, KVM_GET_TSC_KHZ },
	{ KVM_CAP_GET_TSC_KHZ, VCPU, KVM_GET_TSC_KHZ },
};
/* Capabilities that a VM switches on; `arg` is always good. */
static const struct {
	unsigned cap;
	uint64_t arg;
} switches[] = {
	{ KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 1 },
	{ KVM_CAP_HALT_POLL, 1000 },
	{ KVM_CAP_DISABLE_QUIRKS, 0 },
	{ KVM_CAP_DISABLE_QUIRKS2, 0 },
	{ KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS },
	{ KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_PAUSE },
	{ KVM_CAP_MSR_PLATFORM_INFO, 1 },
	{ KVM_CAP_EXCEPTION_PAYLOAD, 1 },
	{ KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1 },
	{ KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN },
	{ KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1 },
	{ KVM_CAP_EXIT_HYPERCALL, BIT(KVM_HC_MAP_GPA_RANGE) },
};

/* What an unknown request is answered, by level. */
static int answer_to_unknown(enum level level)
{
	return level == VM ? -ENOTTY : -EINVAL;
}

static void test_promises(struct test *t)
{
	struct testapi a;
	const char *wrong = NULL;

	testapi_open(&a);
	testapi_vcpu(&a);
	for (unsigned i = 0; i < ARRAY_SIZE(promises); i++) {
		enum level level = promises[i].level;
		int fd = level == SYSTEM ? a.sys : level == VM ? a.vm : a.vcpu[0];
		unsigned cap = promises[i].cap;

		if (softkvm_ioctl(a.vm, KVM_CHECK_EXTENSION, cap) <= 0 ||
		    softkvm_ioctl(fd, promises[i].request, BAD_POINTER) ==
			    answer_to_unknown(level)) {
			wrong = "request";
			printf("# capability %u, request %#lx\n", cap, promises[i].request);
		}
	}
	for (unsigned i = 0; i < ARRAY_SIZE(switches); i++) {
		struct kvm_enable_cap cap = { .cap = switches[i].cap, .args = { switches[i].arg } };
		int mask = softkvm_ioctl(a.vm, KVM_CHECK_EXTENSION, cap.cap);

		if (mask <= 0 || api_call(a.vm, KVM_ENABLE_CAP, &cap) != 0) {
			wrong = "switch";
			printf("# capability %u\n", cap.cap);
		}
	}
	testapi_close(&a);
	CHECK(t, !wrong);
}

/* KVM_HC_MAP_GPA_RANGE leaves to user space if that has asked for it, and brings its answer back.
 */
static void test_exit_hypercall(struct test *t)
{
	static const char code[] = "\x66\xb8\x0c\0\0\0" /* mov eax, KVM_HC_MAP_GPA_RANGE */
				   "\x66\xbb\0\0\x10\0" /* mov ebx, 0x100000 */
				   "\x66\xb9\2\0\0\0"   /* mov ecx, 2: pages */
				   "\x66\xba\x10\0\0\0" /* mov edx, encrypted */
				   "\x0f\x01\xc1\xf4";  /* vmcall; hlt */
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_HYPERCALL, .args = { 1 } };
	struct kvm_regs regs;
	struct testapi a;

	testapi_open(&a);
	CHECK_EQ(t, softkvm_ioctl(a.vm, KVM_CHECK_EXTENSION, KVM_CAP_EXIT_HYPERCALL),
		 BIT(KVM_HC_MAP_GPA_RANGE));
	CHECK_EQ(t, api_call(a.vm, KVM_ENABLE_CAP, &cap), -EINVAL);
	cap.args[0] = BIT(KVM_HC_MAP_GPA_RANGE);
	CHECK_EQ(t, api_call(a.vm, KVM_ENABLE_CAP, &cap), 0);
	testapi_vcpu(&a);
	testapi_code(&a, 0, 0x1000, code, sizeof(code) - 1, 0);
	CHECK_EQ(t, softkvm_ioctl(a.vcpu[0], KVM_RUN, 0), 0);
	CHECK_EQ(t, a.run[0]->exit_reason, KVM_EXIT_HYPERCALL);
	CHECK_EQ(t, a.run[0]->hypercall.nr, KVM_HC_MAP_GPA_RANGE);
	CHECK_EQ(t, a.run[0]->hypercall.args[0], 0x100000);
	CHECK_EQ(t, a.run[0]->hypercall.args[1], 2);
	a.run[0]->hypercall.ret = 77;
	CHECK_EQ(t, softkvm_ioctl(a.vcpu[0], KVM_RUN, 0), 0);
	CHECK_EQ(t, a.run[0]->exit_reason, KVM_EXIT_HLT);
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_GET_REGS, &regs), 0);
	CHECK_EQ(t, regs.rax, 77);
	testapi_close(&a);
}

/* --- CPUID and the page walk ---------------------------------------------------------------------
 */
static int set_1g_pages(int vcpu, bool on)
{
	static struct cpuid_table table;

	table.head.nent = 256;
	ASSERT(api_call(vcpu, KVM_GET_CPUID2, &table) == 0);
	for (unsigned i = 0; i < table.head.nent; i++) {
		if (table.e[i].function == 0x80000001u) {
			table.e[i].edx = (table.e[i].edx & ~BIT(26)) | (on ? BIT(26) : 0);
		}
	}
	return api_call(vcpu, KVM_SET_CPUID2, &table);
}

/* A new table holds at once, not only in KVM_RUN: 1 GiB pages come and go with it. */
static void test_cpuid_reaches_the_walk(struct test *t)
{
	const uint64_t lin = 0x12345678, pml4 = 0x10000, pdpt = 0x11000;
	struct kvm_translation tr = { .linear_address = lin };
	struct kvm_sregs s;
	struct testapi a;

	testapi_open(&a);
	testapi_vcpu(&a);
	store_le64(a.ram + pml4, pdpt | 7);
	store_le64(a.ram + pdpt, 0x87);
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_GET_SREGS, &s), 0);
	s.cr0 |= 0x80000001;
	s.cr3 = pml4;
	s.cr4 |= 0x20;
	s.efer |= 0x500;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_SREGS, &s), 0);
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_TRANSLATE, &tr), 0);
	CHECK(t, tr.valid && tr.physical_address == lin);
	CHECK_EQ(t, set_1g_pages(a.vcpu[0], false), 0);
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_TRANSLATE, &tr), 0);
	CHECK(t, !tr.valid);
	CHECK_EQ(t, set_1g_pages(a.vcpu[0], true), 0);
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_TRANSLATE, &tr), 0);
	CHECK(t, tr.valid);
	testapi_close(&a);
}

/* --- calls that touch guest memory, against changes of slots -------------------------------------
 */
#define SLOT_GPA     0x10000000u
#define SLOT_CHANGES 400

struct slot_changer {
	int vm;
	uint8_t *host;
	_Atomic bool done;
};

static void slot_set(const struct slot_changer *c, uint64_t size)
{
	struct kvm_userspace_memory_region r = { .slot = 1,
						 .guest_phys_addr = SLOT_GPA,
						 .memory_size = size,
						 .userspace_addr = (uintptr_t)c->host };

	ASSERT(api_call(c->vm, KVM_SET_USER_MEMORY_REGION, &r) == 0);
}

/* The memory of a slot that is gone may not be touched any more. */
static void *change_slots(void *arg)
{
	struct slot_changer *c = arg;

	for (unsigned i = 0; i < SLOT_CHANGES; i++) {
		slot_set(c, 4096);
		sched_yield();
		slot_set(c, 0);
		ASSERT(mprotect(c->host, 4096, PROT_NONE) == 0);
		sched_yield();
		ASSERT(mprotect(c->host, 4096, PROT_READ | PROT_WRITE) == 0);
	}
	atomic_store(&c->done, true);
	return NULL;
}

static void test_memory_against_slots(struct test *t)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[64];
	} msrs = { .head.nmsrs = 64 };
	struct slot_changer c = { 0 };
	struct testapi a;
	pthread_t thread;

	for (unsigned i = 0; i < 64; i++) {
		msrs.e[i].index = 0x4b564d00; /* wall clock: written at once */
		msrs.e[i].data = SLOT_GPA + 64 * i;
	}
	testapi_open(&a);
	testapi_vcpu(&a);
	c.vm = a.vm;
	c.host = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(t, c.host != MAP_FAILED);
	CHECK_EQ(t, pthread_create(&thread, NULL, change_slots, &c), 0);
	while (!atomic_load(&c.done)) {
		CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_MSRS, &msrs), 64);
	}
	pthread_join(thread, NULL);
	munmap(c.host, 4096);
	testapi_close(&a);
}

static void test_clock(struct test *t)
{
	struct testapi a;
	struct kvm_clock_data d = { .clock = 5000000000000ull }, out;

	testapi_open(&a);
	CHECK_EQ(t, api_call(a.vm, KVM_SET_CLOCK, &d), 0);
	CHECK_EQ(t, api_call(a.vm, KVM_GET_CLOCK, &out), 0);
	CHECK(t, out.clock >= d.clock);
	CHECK(t, out.flags & KVM_CLOCK_TSC_STABLE);
	d.flags = BIT(20);
	CHECK_EQ(t, api_call(a.vm, KVM_SET_CLOCK, &d), -EINVAL);
	testapi_close(&a);
}

/* --- KVM_RUN
 * --------------------------------------------------------------------------------------- */
static void test_immediate_exit_and_kick(struct test *t)
{
	struct testapi a;

	testapi_open(&a);
	testapi_vcpu(&a);
	testapi_code(&a, 0, 0x1000, "\xeb\xfe", 2, 0); /* a loop for ever */
	a.run[0]->immediate_exit = 1;
	a.run[0]->exit_reason = 77; /* stays: the guest does not run */
	CHECK_EQ(t, softkvm_ioctl(a.vcpu[0], KVM_RUN, 0), -EINTR);
	CHECK_EQ(t, a.run[0]->exit_reason, 77);
	a.run[0]->immediate_exit = 0;
	softkvm_kick(a.vcpu[0]);
	CHECK_EQ(t, softkvm_ioctl(a.vcpu[0], KVM_RUN, 0), -EINTR);
	CHECK_EQ(t, a.run[0]->exit_reason, KVM_EXIT_INTR);
	softkvm_kick(-1);
	softkvm_kick(a.vm);
	testapi_close(&a);
}

static void *run_thread(void *arg)
{
	struct testapi *a = arg;

	return (void *)(intptr_t)softkvm_ioctl(a->vcpu[0], KVM_RUN, 0);
}

/* A kick ends a loop, and a HLT, of a vCPU that runs on another thread. */
static void test_kick_from_outside(struct test *t)
{
	static const struct {
		const char *code;
		size_t len;
	} codes[] = { { "\xeb\xfe", 2 }, { "\xfa\xf4", 2 } };

	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
		struct testapi a;
		pthread_t thread;
		void *r;

		testapi_open(&a);
		CHECK_EQ(t, softkvm_ioctl(a.vm, KVM_CREATE_IRQCHIP, 0), 0);
		testapi_vcpu(&a);
		testapi_code(&a, 0, 0x1000, codes[i].code, codes[i].len, 0);
		CHECK(t, pthread_create(&thread, NULL, run_thread, &a) == 0);
		sched_yield();
		softkvm_kick(a.vcpu[0]);
		pthread_join(thread, &r);
		CHECK_EQ(t, (intptr_t)r, -EINTR);
		testapi_close(&a);
	}
}

/* With KVM_SET_SIGNAL_MASK a blocked signal ends KVM_RUN, and stays pending. */
static void test_signal_mask(struct test *t)
{
	struct {
		struct kvm_signal_mask head;
		uint64_t bits;
	} __attribute__((packed)) mask = { .head.len = 8 };
	struct testapi a;
	pthread_t thread;
	sigset_t set, pending;
	void *r;

	testapi_open(&a);
	testapi_vcpu(&a);
	testapi_code(&a, 0, 0x1000, "\xeb\xfe", 2, 0);
	mask.head.len = 4;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_SIGNAL_MASK, &mask), -EINVAL);
	mask.head.len = 8;
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_SET_SIGNAL_MASK, &mask), 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	CHECK(t, pthread_create(&thread, NULL, run_thread, &a) == 0);
	pthread_kill(thread, SIGUSR1); /* before or within KVM_RUN: it ends in any case */
	pthread_join(thread, &r);
	CHECK_EQ(t, (intptr_t)r, -EINTR);
	/* Pending when KVM_RUN starts: it does not start. */
	raise(SIGUSR1);
	CHECK_EQ(t, softkvm_ioctl(a.vcpu[0], KVM_RUN, 0), -EINTR);
	sigpending(&pending);
	CHECK(t, sigismember(&pending, SIGUSR1));
	signal(SIGUSR1, SIG_IGN); /* throws it away */
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	signal(SIGUSR1, SIG_DFL);
	testapi_close(&a);
}

/* Data of an IN is taken at the next KVM_RUN, even if that shall leave at once. */
static void test_io_is_finished(struct test *t)
{
	static const char code[] = "\xba\x34\x12\xec\xf4"; /* mov dx, 0x1234; in al, dx; hlt */
	struct testapi a;
	struct kvm_regs regs;

	testapi_open(&a);
	testapi_vcpu(&a);
	testapi_code(&a, 0, 0x1000, code, sizeof(code), 0);
	CHECK_EQ(t, softkvm_ioctl(a.vcpu[0], KVM_RUN, 0), 0);
	CHECK_EQ(t, a.run[0]->exit_reason, KVM_EXIT_IO);
	CHECK_EQ(t, a.run[0]->io.port, 0x1234);
	*((uint8_t *)a.run[0] + a.run[0]->io.data_offset) = 0x5a;
	a.run[0]->immediate_exit = 1;
	CHECK_EQ(t, softkvm_ioctl(a.vcpu[0], KVM_RUN, 0), -EINTR);
	CHECK_EQ(t, api_call(a.vcpu[0], KVM_GET_REGS, &regs), 0);
	CHECK_EQ(t, regs.rax & 0xff, 0x5a);
	CHECK_EQ(t, regs.rip, 0x1004);
	a.run[0]->immediate_exit = 0;
	CHECK_EQ(t, softkvm_ioctl(a.vcpu[0], KVM_RUN, 0), 0);
	CHECK_EQ(t, a.run[0]->exit_reason, KVM_EXIT_HLT);
	testapi_close(&a);
}

static void test_sync_regs(struct test *t)
{
	struct testapi a;

	testapi_open(&a);
	testapi_vcpu(&a);
	testapi_code(&a, 0, 0x1000, "\x40\xf4", 2, 0); /* inc ax; hlt */
	a.run[0]->kvm_valid_regs = BIT(20);
	CHECK_EQ(t, softkvm_ioctl(a.vcpu[0], KVM_RUN, 0), -EINVAL);
	a.run[0]->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
	a.run[0]->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	a.run[0]->s.regs.regs = (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rax = 41 };
	CHECK_EQ(t, softkvm_ioctl(a.vcpu[0], KVM_RUN, 0), 0);
	CHECK_EQ(t, a.run[0]->s.regs.regs.rax, 42);
	CHECK_EQ(t, a.run[0]->kvm_dirty_regs, 0);
	CHECK_EQ(t, a.run[0]->if_flag, 0);
	testapi_close(&a);
}

static void test_set_options(struct test *t)
{
	CHECK_EQ(t, softkvm_set_options(""), 0);
	CHECK_EQ(t, softkvm_set_options("nonsense"), -EINVAL);
}

static const struct test_case cases[] = {
	{ "errors", test_errors },
	{ "descriptors", test_descriptors },
	{ "fork", test_fork },
	{ "regs", test_regs },
	{ "sregs", test_sregs },
	{ "events", test_events },
	{ "debugregs and MP state", test_debugregs_and_mp_state },
	{ "MSR lists", test_lists },
	{ "CPUID", test_cpuid },
	{ "CPUID is fixed after KVM_RUN", test_cpuid_is_fixed },
	{ "capabilities", test_caps },
	{ "what capabilities promise", test_promises },
	{ "exits for hypercalls", test_exit_hypercall },
	{ "CPUID reaches the walk", test_cpuid_reaches_the_walk },
	{ "guest memory against slots", test_memory_against_slots },
	{ "clock", test_clock },
	{ "immediate exit and kick", test_immediate_exit_and_kick },
	{ "kick from outside", test_kick_from_outside },
	{ "signal mask", test_signal_mask },
	{ "I/O is finished first", test_io_is_finished },
	{ "sync regs", test_sync_regs },
	{ "options", test_set_options },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
