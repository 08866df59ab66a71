/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random ioctls with random structures, on VMs that run random code: never a crash,
 * never a hang.
 *
 *	api_fuzz [--seconds N] [--seed S] [--count CALLS]
 *
 * Without --seed a random one, which is printed. What it does is decided by the seed alone, but
 * for the moments at which another thread kicks the vCPUs out of their code.
 */
#include <inttypes.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/util.h"
#include "softkvm/softkvm.h"

#define RAM_BYTES 0x40000u
#define ARG_BYTES 16384u
#define VCPUS     3
#define VM_CALLS  400u /* then a new VM */
#define KICK_NS   200000

struct vm_state {
	int sys, vm, vcpu[VCPUS], event;
	struct kvm_run *run[VCPUS];
};

static uint64_t rng;
static uint8_t *ram, *arg;
static _Atomic int kicked[VCPUS] = { -1, -1, -1 };
static _Atomic bool done;

static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static bool chance(unsigned one_in)
{
	return rnd() % one_in == 0;
}

/* Without KVM_SET_USER_MEMORY_REGION: a bad host address there is the caller's own SIGSEGV. */
static const unsigned long requests[] = {
	KVM_GET_API_VERSION,
	KVM_CREATE_VM,
	KVM_CHECK_EXTENSION,
	KVM_GET_VCPU_MMAP_SIZE,
	KVM_GET_SUPPORTED_CPUID,
	KVM_GET_EMULATED_CPUID,
	KVM_GET_MSR_INDEX_LIST,
	KVM_GET_MSR_FEATURE_INDEX_LIST,
	KVM_X86_GET_MCE_CAP_SUPPORTED,
	KVM_ENABLE_CAP,
	KVM_GET_DIRTY_LOG,
	KVM_CLEAR_DIRTY_LOG,
	KVM_SET_TSS_ADDR,
	KVM_SET_IDENTITY_MAP_ADDR,
	KVM_SET_BOOT_CPU_ID,
	KVM_SET_NR_MMU_PAGES,
	KVM_GET_NR_MMU_PAGES,
	KVM_GET_CLOCK,
	KVM_SET_CLOCK,
	KVM_X86_SET_MSR_FILTER,
	KVM_CREATE_IRQCHIP,
	KVM_CREATE_PIT,
	KVM_CREATE_PIT2,
	KVM_IRQ_LINE,
	KVM_IRQ_LINE_STATUS,
	KVM_SIGNAL_MSI,
	KVM_GET_IRQCHIP,
	KVM_SET_IRQCHIP,
	KVM_GET_PIT,
	KVM_SET_PIT,
	KVM_GET_PIT2,
	KVM_SET_PIT2,
	KVM_REINJECT_CONTROL,
	KVM_SET_GSI_ROUTING,
	KVM_IRQFD,
	KVM_IOEVENTFD,
	KVM_REGISTER_COALESCED_MMIO,
	KVM_UNREGISTER_COALESCED_MMIO,
	KVM_RUN,
	KVM_GET_REGS,
	KVM_SET_REGS,
	KVM_GET_SREGS,
	KVM_SET_SREGS,
	KVM_GET_SREGS2,
	KVM_SET_SREGS2,
	KVM_GET_FPU,
	KVM_SET_FPU,
	KVM_GET_XSAVE,
	KVM_GET_XSAVE2,
	KVM_SET_XSAVE,
	KVM_GET_XCRS,
	KVM_SET_XCRS,
	KVM_GET_MSRS,
	KVM_SET_MSRS,
	KVM_SET_CPUID2,
	KVM_SET_CPUID,
	KVM_GET_CPUID2,
	KVM_GET_LAPIC,
	KVM_SET_LAPIC,
	KVM_GET_MP_STATE,
	KVM_SET_MP_STATE,
	KVM_GET_VCPU_EVENTS,
	KVM_SET_VCPU_EVENTS,
	KVM_GET_DEBUGREGS,
	KVM_SET_DEBUGREGS,
	KVM_SET_GUEST_DEBUG,
	KVM_SET_TSC_KHZ,
	KVM_GET_TSC_KHZ,
	KVM_INTERRUPT,
	KVM_NMI,
	KVM_TRANSLATE,
	KVM_KVMCLOCK_CTRL,
	KVM_SET_SIGNAL_MASK,
	KVM_X86_SETUP_MCE,
	KVM_X86_SET_MCE,
	KVM_HAS_DEVICE_ATTR,
	KVM_GET_DEVICE_ATTR,
	KVM_SET_DEVICE_ATTR,
	KVM_SET_VAPIC_ADDR,
};

static void *kicker(void *unused)
{
	const struct timespec pause = { 0, KICK_NS };

	while (!atomic_load(&done)) {
		for (unsigned i = 0; i < VCPUS; i++) {
			softkvm_kick(atomic_load(&kicked[i]));
		}
		nanosleep(&pause, NULL);
	}
	return unused;
}

static int call(int fd, unsigned long request, void *p)
{
	return softkvm_ioctl(fd, request, (unsigned long)(uintptr_t)p);
}

static void vm_open(struct vm_state *s)
{
	struct kvm_userspace_memory_region r = { .memory_size = RAM_BYTES,
						 .userspace_addr = (uintptr_t)ram };

	s->sys = softkvm_open();
	s->vm = softkvm_ioctl(s->sys, KVM_CREATE_VM, 0);
	s->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r.flags = chance(2) ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	call(s->vm, KVM_SET_USER_MEMORY_REGION, &r);
	if (chance(2)) {
		softkvm_ioctl(s->vm, KVM_CREATE_IRQCHIP, 0);
	}
	for (unsigned i = 0; i < VCPUS; i++) {
		s->vcpu[i] = softkvm_ioctl(s->vm, KVM_CREATE_VCPU, i);
		s->run[i] = softkvm_mmap_run(s->vcpu[i]);
		atomic_store(&kicked[i], s->vcpu[i]);
	}
	for (unsigned i = 0; i < RAM_BYTES; i += 8) {
		uint64_t v = rnd();

		memcpy(ram + i, &v, sizeof(v));
	}
}

static void vm_close(struct vm_state *s)
{
	softkvm_close(s->vm);
	for (unsigned i = 0; i < VCPUS; i++) {
		atomic_store(&kicked[i], -1);
		softkvm_munmap_run(s->run[i]);
		softkvm_close(s->vcpu[i]);
	}
	softkvm_close(s->sys);
	close(s->event);
}

/* Mostly small numbers, some addresses of ours, some anything. */
static uint64_t word(void)
{
	switch (rnd() % 6) {
	case 0:
		return rnd();
	case 1:
		return (uintptr_t)arg + rnd() % ARG_BYTES;
	case 2:
		return BIT64(rnd() % 64);
	default:
		return rnd() % 256;
	}
}

/* Half of the time the last call's answer is kept: SETs get what some GET said, but for a few
 * words. */
static void fill_arg(const struct vm_state *s, unsigned long request)
{
	bool keep = chance(2);
	unsigned changes = (unsigned)(rnd() % 8);

	if (!keep) {
		for (unsigned i = 0; i < 512; i++) {
			store_le64(arg + 8 * i, word());
		}
	}
	for (unsigned i = 0; i < changes; i++) {
		store_le64(arg + rnd() % 1024, word());
	}
	if (request == KVM_IRQFD || request == KVM_IOEVENTFD) {
		store_le32(arg + (request == KVM_IRQFD ? 0 : 20), (uint32_t)s->event);
	}
}

/* User space may write to the run structure at any time. */
static void scribble(struct vm_state *s)
{
	uint8_t *run = (uint8_t *)s->run[rnd() % VCPUS];

	for (unsigned i = 0; i < 4; i++) {
		run[rnd() % (3 * 4096)] = (uint8_t)rnd();
	}
}

static void one_call(struct vm_state *s)
{
	unsigned long request = requests[rnd() % ARRAY_SIZE(requests)];
	unsigned which = (unsigned)(rnd() % 8);
	unsigned i = (unsigned)(rnd() % VCPUS);
	int fd = which == 0 ? s->sys : which < 4 ? s->vm : s->vcpu[i];
	int r;

	if (chance(50)) {
		request ^= BIT(rnd() % 30);
	}
	if (request == KVM_SET_USER_MEMORY_REGION) {
		return;
	}
	fill_arg(s, request);
	if (chance(8)) {
		scribble(s);
	}
	if (request == KVM_RUN) {
		r = softkvm_ioctl(s->vcpu[i], KVM_RUN, 0);
	} else if (_IOC_SIZE(request) == 0 && !chance(4)) {
		r = softkvm_ioctl(fd, request, (unsigned long)word());
	} else {
		r = softkvm_ioctl(fd, request,
				  chance(20) ? (unsigned long)word()
					     : (unsigned long)(uintptr_t)arg);
	}
	if (r > 2 && (request == KVM_CREATE_VM || request == KVM_CREATE_VCPU) && softkvm_owns(r)) {
		softkvm_close(r);
	}
}

static bool parse(int argc, char **argv, uint64_t *seconds, uint64_t *count)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t v = strtoull(argv[i + 1], NULL, 0);

		if (strcmp(argv[i], "--seconds") == 0) {
			*seconds = v;
		} else if (strcmp(argv[i], "--seed") == 0) {
			rng = v;
		} else if (strcmp(argv[i], "--count") == 0) {
			*count = v;
		} else {
			return false;
		}
	}
	return argc % 2 == 1;
}

static void fuzz(uint64_t seconds, uint64_t count)
{
	ns_t end = clock_now_ns() + (ns_t)seconds * NS_PER_S;
	struct vm_state s;

	for (uint64_t n = 0; n < count && (seconds == 0 || clock_now_ns() < end);) {
		vm_open(&s);
		for (unsigned i = 0; i < VM_CALLS && n < count; i++, n++) {
			one_call(&s);
		}
		vm_close(&s);
	}
}

int main(int argc, char **argv)
{
	uint64_t seconds = 0, count = UINT64_MAX;
	pthread_t thread;

	if (getrandom(&rng, sizeof(rng), 0) != sizeof(rng) ||
	    !parse(argc, argv, &seconds, &count) || (seconds == 0 && count == UINT64_MAX)) {
		fprintf(stderr, "usage: %s [--seconds N] [--seed S] [--count CALLS]\n", argv[0]);
		return 2;
	}
	rng |= 1;
	printf("seed %" PRIu64 "\n", rng);
	fflush(stdout);
	ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	arg = mmap(NULL, ARG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED || arg == MAP_FAILED ||
	    pthread_create(&thread, NULL, kicker, NULL) != 0) {
		return 1;
	}
	fuzz(seconds, count);
	atomic_store(&done, true);
	pthread_join(thread, NULL);
	printf("ok\n");
	return 0;
}
