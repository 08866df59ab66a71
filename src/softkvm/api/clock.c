/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvm-clock's time and the frequency of the host's time-stamp counter.
 */
#include <cpuid.h>
#include <pthread.h>
#include <time.h>
#include <x86intrin.h>

#include "softkvm/api/api.h"
#include "softkvm/cpu/pvclock.h"

#define CALIBRATE_NS (10 * NS_PER_MS) /* with stamps good to ~50 ns: 5 parts in a million */
#define STAMP_TRIES  8

static uint32_t host_khz;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* A time and a counter value taken at the same moment: the narrowest of some tries. */
static void stamp(clockid_t id, int64_t *ret_ns, uint64_t *ret_tsc)
{
	uint64_t best = UINT64_MAX;

	*ret_ns = 0;
	*ret_tsc = 0;
	for (int i = 0; i < STAMP_TRIES; i++) {
		uint64_t before = __rdtsc();
		int64_t ns = clock_ns(id);
		uint64_t after = __rdtsc();

		if (after - before < best) {
			best = after - before;
			*ret_ns = ns;
			*ret_tsc = before + (after - before) / 2;
		}
	}
}

/* CPUID 15H states the crystal and the ratio on some processors: exact. */
static uint32_t khz_from_cpuid(void)
{
	uint32_t a, b, c, d;

	if (!__get_cpuid(0x15, &a, &b, &c, &d) || a == 0 || b == 0 || c == 0) {
		return 0;
	}
	return (uint32_t)((uint64_t)c * b / a / 1000);
}

static void calibrate(void)
{
	int64_t ns0, ns1;
	uint64_t tsc0, tsc1;

	host_khz = khz_from_cpuid();
	if (host_khz != 0) {
		return;
	}
	stamp(CLOCK_MONOTONIC_RAW, &ns0, &tsc0);
	do {
		struct timespec pause = { 0, CALIBRATE_NS };

		nanosleep(&pause, NULL);
		stamp(CLOCK_MONOTONIC_RAW, &ns1, &tsc1);
	} while (ns1 - ns0 < CALIBRATE_NS);
	host_khz = (uint32_t)(((unsigned __int128)(tsc1 - tsc0) * 1000000) / (uint64_t)(ns1 - ns0));
}

uint32_t clock_host_tsc_khz(void)
{
	pthread_once(&once, calibrate);
	return host_khz;
}

uint64_t clock_host_tsc_now(void)
{
	return __rdtsc();
}

uint64_t clock_kvm_ns(const struct vm *vm)
{
	return (uint64_t)clock_ns(CLOCK_BOOTTIME) + (uint64_t)vm->kvmclock_offset_ns;
}

int clock_get(struct vm *vm, struct kvm_clock_data *d)
{
	int64_t boot_ns;
	uint64_t tsc;

	memset(d, 0, sizeof(*d));
	stamp(CLOCK_BOOTTIME, &boot_ns, &tsc);
	d->clock = pvclock_at_ns(vm, tsc); /* as guests see it */
	d->realtime = (uint64_t)(clock_ns(CLOCK_REALTIME) - (clock_ns(CLOCK_BOOTTIME) - boot_ns));
	d->host_tsc = tsc;
	d->flags = CLOCK_FLAGS_VALID;
	return 0;
}

int clock_set(struct vm *vm, const struct kvm_clock_data *d)
{
	uint64_t now = d->clock;

	if (d->flags & ~(uint32_t)CLOCK_FLAGS_VALID) {
		return -EINVAL;
	}
	if (d->flags & KVM_CLOCK_REALTIME) {
		/* What has passed in the world since the value was taken, if anything. */
		uint64_t wall = (uint64_t)clock_ns(CLOCK_REALTIME);

		now += wall > d->realtime ? wall - d->realtime : 0;
	}
	vm->kvmclock_offset_ns = (int64_t)(now - (uint64_t)clock_ns(CLOCK_BOOTTIME));
	for (uint32_t i = 0; i < atomic_load(&vm->vcpu_count); i++) {
		vcpu_request(atomic_load(&vm->vcpus[i]), REQ_CLOCK);
	}
	return 0;
}
