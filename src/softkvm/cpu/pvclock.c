/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest time: the TSC, kvm-clock, stolen time.
 *
 * Theory of operation
 * -------------------
 * The guest's TSC is the host's, scaled if the guest was given another
 * frequency, plus an offset. kvm-clock runs on the TSC too: a VM has one pair
 * (host TSC, ns), and each vCPU's page states it with that vCPU's TSC. As all
 * pages are made from one pair by one rate, times read on different vCPUs agree, which is what
 * PVCLOCK_TSC_STABLE_BIT promises. The pair is taken anew when the clock was set.
 *
 * A page is written like a seqlock: odd version, body, even version. Only the
 * vCPU itself writes its page.
 *
 * The preempted byte of the steal-time page is the one thing that both sides change: peers set
 * the flush bit by a compare-exchange while the preempted bit is set; we exchange it by 0
 * when we go on, so no request is lost.
 */
#include "softkvm/cpu/pvclock.h"

#include <asm/kvm_para.h>
#include <fcntl.h>
#include <stdlib.h>
#include <x86intrin.h>

#include "softkvm/api/api.h"
#include "softkvm/cpu/msr_int.h"
#include "softkvm/mmu/memslot.h"

#define PVCLOCK_TSC_STABLE BIT(0)
#define PVCLOCK_STOPPED    BIT(1)
#define STEAL_CHECK_NS     (NS_PER_MS / 5) /* /proc is not read more often: that takes some µs */

struct pvclock_page {
	uint32_t version, pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags, pad[2];
};
_Static_assert(sizeof(struct pvclock_page) == 32, "KVM ABI");

struct wall_page {
	uint32_t version, sec, nsec;
};

/* --- the time-stamp counter ---------------------------------------------------------- */
bool cpu_tsc_scaled(const struct vcpu *cpu)
{
	return cpu->tsc_khz != 0 && cpu->tsc_khz != clock_host_tsc_khz();
}

static uint64_t scale_tsc(const struct vcpu *cpu, uint64_t host)
{
	if (!cpu_tsc_scaled(cpu)) {
		return host;
	}
	return (uint64_t)((unsigned __int128)host * cpu->tsc_khz / clock_host_tsc_khz());
}

uint64_t cpu_tsc(const struct vcpu *cpu)
{
	return scale_tsc(cpu, __rdtsc()) + (uint64_t)cpu->tsc_offset;
}

/* The counter moved against time: kvm-clock's page must follow. */
static void set_offset(struct vcpu *cpu, int64_t offset)
{
	cpu->tsc_offset = offset;
	if (cpu->msr.kvm_system_time & KVM_MSR_ENABLED) {
		vcpu_request(cpu, REQ_CLOCK);
	}
}

void tsc_write_guest(struct vcpu *cpu, uint64_t v)
{
	set_offset(cpu, cpu->tsc_offset + (int64_t)(v - cpu_tsc(cpu)));
}

/* Is `v` what a vCPU would be given that is set together with the last one? (within a second) */
static bool matches_last(const struct vcpu *cpu, uint64_t v, uint64_t host)
{
	uint64_t expected, second = (uint64_t)cpu->tsc_khz * 1000;

	if (cpu->vm->tsc_sync.khz != cpu->tsc_khz) {
		return false;
	}
	expected = cpu->vm->tsc_sync.value +
		   (scale_tsc(cpu, host) - scale_tsc(cpu, cpu->vm->tsc_sync.host_tsc));
	return v == 0 || (v < expected + second && v + second > expected);
}

/* User space sets its vCPUs one after the other, but means the same moment: as KVM, we guess so. */
void tsc_write_host(struct vcpu *cpu, uint64_t v)
{
	struct vm *vm = cpu->vm;
	uint64_t host = __rdtsc();
	int64_t offset = (int64_t)(v - scale_tsc(cpu, host));

	pthread_mutex_lock(&vm->clock_lock);
	if (!vm->tsc_sync.valid) {
		/* Nothing was set yet: what counts is how vCPUs are made, with equal counters. */
		vm->tsc_sync.value = scale_tsc(cpu, host) + (uint64_t)cpu->tsc_offset;
		vm->tsc_sync.host_tsc = host;
		vm->tsc_sync.offset = cpu->tsc_offset;
		vm->tsc_sync.khz = cpu->tsc_khz;
		vm->tsc_sync.valid = true;
	}
	if (matches_last(cpu, v, host)) {
		offset = vm->tsc_sync.offset;
	} else {
		vm->tsc_sync.offset = offset;
		vm->tsc_sync.khz = cpu->tsc_khz;
	}
	vm->tsc_sync.value = v;
	vm->tsc_sync.host_tsc = host;
	pthread_mutex_unlock(&vm->clock_lock);
	set_offset(cpu, offset);
}

/* --- kvm-clock ----------------------------------------------------------------------- */
/* ns = (ticks << shift) * mul >> 32 for a counter of `khz`. */
static void clock_scale(uint32_t khz, uint32_t *ret_mul, int8_t *ret_shift)
{
	uint64_t hz = (uint64_t)khz * 1000, target = NS_PER_S;
	int shift = 0;

	while (hz > target * 2) {
		hz >>= 1;
		shift--;
	}
	/* mul must be a fraction: the scaled counter runs faster than 1 GHz. */
	while (hz <= target) {
		hz <<= 1;
		shift++;
	}
	*ret_mul = (uint32_t)((target << 32) / hz);
	*ret_shift = (int8_t)shift;
}

static uint64_t host_ticks_to_ns(uint64_t ticks)
{
	return (uint64_t)((unsigned __int128)ticks * 1000000u / clock_host_tsc_khz());
}

/* The VM's pair, taken anew if the clock was set since. */
static void master_read(struct vm *vm, uint64_t *ret_tsc, uint64_t *ret_ns)
{
	pthread_mutex_lock(&vm->clock_lock);
	if (!vm->master.valid || vm->master.offset_ns != vm->kvmclock_offset_ns) {
		vm->master.offset_ns = vm->kvmclock_offset_ns;
		vm->master.ns = clock_kvm_ns(vm);
		vm->master.host_tsc = __rdtsc();
		vm->master.valid = true;
	}
	*ret_tsc = vm->master.host_tsc;
	*ret_ns = vm->master.ns;
	pthread_mutex_unlock(&vm->clock_lock);
}

uint64_t pvclock_at_ns(struct vm *vm, uint64_t host_tsc)
{
	uint64_t tsc, ns;

	master_read(vm, &tsc, &ns);
	if (host_tsc < tsc) {
		return ns - host_ticks_to_ns(tsc - host_tsc); /* the pair was taken a moment ago */
	}
	return ns + host_ticks_to_ns(host_tsc - tsc);
}

uint64_t pvclock_now_ns(struct vm *vm)
{
	return pvclock_at_ns(vm, __rdtsc());
}

/* Write a versioned page: the version is its first word. */
static void write_page(struct vcpu *cpu, gpa_t gpa, void *page, size_t size)
{
	uint32_t version;

	if (vm_read_phys(cpu->vm, gpa, &version, 4) != 0) {
		return;
	}
	version = (version | 1) + 2; /* odd, and another one than before */
	memcpy(page, &version, 4);
	if (vm_write_phys(cpu->vm, cpu, gpa, &version, 4) != 0) {
		return;
	}
	atomic_thread_fence(memory_order_release);
	vm_write_phys(cpu->vm, cpu, gpa + 4, (char *)page + 4, size - 4);
	atomic_thread_fence(memory_order_release);
	version++;
	vm_write_phys(cpu->vm, cpu, gpa, &version, 4);
}

void pvclock_update(struct vcpu *cpu)
{
	struct pvclock_page p = { 0 };
	uint64_t msr = cpu->msr.kvm_system_time, host, ns;

	if (!(msr & KVM_MSR_ENABLED)) {
		return;
	}
	master_read(cpu->vm, &host, &ns);
	p.tsc_timestamp = scale_tsc(cpu, host) + (uint64_t)cpu->tsc_offset;
	p.system_time = ns;
	clock_scale(cpu->tsc_khz != 0 ? cpu->tsc_khz : clock_host_tsc_khz(), &p.tsc_to_system_mul,
		    &p.tsc_shift);
	p.flags = PVCLOCK_TSC_STABLE | (cpu->clock_stopped ? PVCLOCK_STOPPED : 0);
	cpu->clock_stopped = false;
	write_page(cpu, msr & ~1ull, &p, sizeof(p));
}

int pvclock_guest_stopped(struct vcpu *cpu)
{
	if (!(cpu->msr.kvm_system_time & KVM_MSR_ENABLED)) {
		return -EINVAL;
	}
	cpu->clock_stopped = true;
	vcpu_request(cpu, REQ_CLOCK);
	return 0;
}

void pvclock_write_wall_clock(struct vcpu *cpu, gpa_t gpa)
{
	struct wall_page p;
	uint64_t boot;

	if (gpa == 0) {
		return;
	}
	boot = clock_wall_ns() - pvclock_now_ns(cpu->vm);
	p.version = 0;
	p.sec = (uint32_t)(boot / NS_PER_S);
	p.nsec = (uint32_t)(boot % NS_PER_S);
	write_page(cpu, gpa, &p, sizeof(p));
}

/* --- stolen time --------------------------------------------------------------------- */
#define STEAL_PAGE(cpu) ((cpu)->msr.kvm_steal_time & KVM_STEAL_VALID_BITS)

static bool steal_enabled(const struct vcpu *cpu)
{
	return cpu->msr.kvm_steal_time & KVM_MSR_ENABLED;
}

/* How long this thread has waited for a processor, in ns: the second number of its schedstat. */
static uint64_t run_delay_ns(void)
{
	char buf[80], *end;
	AUTO_FD fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	if (n <= 0) {
		return 0;
	}
	buf[n] = '\0';
	strtoull(buf, &end, 10);
	return strtoull(end, NULL, 10);
}

/* What this thread waited since the last look at /proc; 0 in between. */
static uint64_t newly_stolen_ns(struct vcpu *cpu)
{
	bool first = cpu->steal_checked_ns == 0;
	uint64_t before = cpu->steal_run_delay;
	ns_t now = clock_now_ns();

	if (!first && now - cpu->steal_checked_ns < STEAL_CHECK_NS) {
		return 0;
	}
	cpu->steal_checked_ns = now;
	cpu->steal_run_delay = run_delay_ns();
	return first || cpu->steal_run_delay < before ? 0 : cpu->steal_run_delay - before;
}

static void write_stolen(struct vcpu *cpu, size_t offset, const void *field, size_t len)
{
	vm_write_phys(cpu->vm, cpu, STEAL_PAGE(cpu) + offset, field, len);
	atomic_thread_fence(memory_order_release);
}

/* The version is even, and another one, after each entry, as with the kernel's KVM. */
static void add_stolen(struct vcpu *cpu)
{
	struct kvm_steal_time st;

	if (vm_read_phys(cpu->vm, STEAL_PAGE(cpu), &st, sizeof(st)) != 0) {
		return;
	}
	st.version = (st.version + 1) | 1;
	st.steal += newly_stolen_ns(cpu);
	write_stolen(cpu, offsetof(struct kvm_steal_time, version), &st.version,
		     sizeof(st.version));
	write_stolen(cpu, offsetof(struct kvm_steal_time, steal), &st.steal, sizeof(st.steal));
	st.version++;
	write_stolen(cpu, offsetof(struct kvm_steal_time, version), &st.version,
		     sizeof(st.version));
}

static _Atomic uint8_t *preempted_byte(struct vcpu *cpu)
{
	return vm_map_phys(cpu->vm, STEAL_PAGE(cpu) + offsetof(struct kvm_steal_time, preempted), 1,
			   true);
}

void steal_time_enter(struct vcpu *cpu)
{
	_Atomic uint8_t *preempted;

	if (!steal_enabled(cpu)) {
		return;
	}
	preempted = preempted_byte(cpu);
	if (preempted != NULL && (atomic_exchange(preempted, 0) & KVM_VCPU_FLUSH_TLB)) {
		mmu_flush_all(cpu);
	}
	add_stolen(cpu);
}

void steal_time_leave(struct vcpu *cpu)
{
	_Atomic uint8_t *preempted;

	if (!steal_enabled(cpu)) {
		return;
	}
	preempted = preempted_byte(cpu);
	if (preempted != NULL) {
		atomic_fetch_or(preempted, KVM_VCPU_PREEMPTED);
	}
}
