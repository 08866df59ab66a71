/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine: which provider answers, and the few checks before it is trusted.
 */
#include "kvm/kvm.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "kvm/measure.h"
#include "kvm/provider.h"

#define REASON_BYTES 256u

struct kvm {
	const struct kvm_provider *provider;
	enum kvm_engine engine;
	int fd;
	size_t run_bytes; /* size of a vCPU's run structure with its rings */
	char reason[REASON_BYTES];
};

static const char *const engine_names[] = {
	[KVM_ENGINE_AUTO] = "auto",
	[KVM_ENGINE_KERNEL] = "kvm",
	[KVM_ENGINE_SOFT] = "soft",
};
static_assert(ARRAY_SIZE(engine_names) == KVM_ENGINE_COUNT, "a name for each engine");

/* What every guest of ours needs. */
static const struct {
	int cap;
	const char *name;
} needed_caps[] = {
	{ KVM_CAP_USER_MEMORY, "user memory" },
	{ KVM_CAP_READONLY_MEM, "read-only memory" },
	{ KVM_CAP_IRQCHIP, "in-kernel interrupt controllers" },
	{ KVM_CAP_PIT2, "the in-kernel timer" },
	{ KVM_CAP_IRQ_ROUTING, "interrupt routing" },
	{ KVM_CAP_SIGNAL_MSI, "message-signalled interrupts" },
	{ KVM_CAP_IRQFD, "irqfd" },
	{ KVM_CAP_IOEVENTFD, "ioeventfd" },
	{ KVM_CAP_EXT_CPUID, "CPUID tables" },
	{ KVM_CAP_MP_STATE, "processor states" },
	{ KVM_CAP_VCPU_EVENTS, "vCPU events" },
	{ KVM_CAP_SET_TSS_ADDR, "SET_TSS_ADDR" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
};

bool kvm_engine_parse(const char *s, enum kvm_engine *ret)
{
	for (unsigned i = 0; i < KVM_ENGINE_COUNT; i++) {
		if (strcmp(s, engine_names[i]) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

const char *kvm_engine_name(enum kvm_engine e)
{
	ASSERT(e < KVM_ENGINE_COUNT);
	return engine_names[e];
}

/* The signal only interrupts KVM_RUN: there is nothing to do in its handler. */
static void on_kick(int signo)
{
}

static int install_kick_handler(void)
{
	struct sigaction sa = { .sa_handler = on_kick };

	sigemptyset(&sa.sa_mask);
	return sigaction(KVM_KICK_SIGNAL, &sa, NULL) < 0 ? -errno : 0;
}

/* The first needed capability that is missing; NULL: none. */
static const char *missing_cap(struct kvm *k)
{
	for (size_t i = 0; i < ARRAY_SIZE(needed_caps); i++) {
		if (kvm_sys_ioctl_int(k, KVM_CHECK_EXTENSION, needed_caps[i].cap) <= 0) {
			return needed_caps[i].name;
		}
	}
	return NULL;
}

static int check_abilities(struct kvm *k, char *reason, size_t reason_size)
{
	int version = kvm_sys_ioctl_int(k, KVM_GET_API_VERSION, 0);
	int run_bytes = kvm_sys_ioctl_int(k, KVM_GET_VCPU_MMAP_SIZE, 0);
	const char *missing;

	if (version != KVM_API_VERSION) {
		snprintf(reason, reason_size, "its API version is %d, not %d", version,
			 KVM_API_VERSION);
		return -ENOTSUP;
	}
	missing = missing_cap(k);
	if (missing || run_bytes < (int)sizeof(struct kvm_run)) {
		snprintf(reason, reason_size, "it lacks %s",
			 missing ? missing : "a whole run structure");
		return -ENOTSUP;
	}
	k->run_bytes = (size_t)run_bytes;
	return 0;
}

/* Why a provider could not be opened, and what to do. */
static void say_open_error(enum kvm_engine engine, int err, char *reason, size_t size)
{
	if (engine == KVM_ENGINE_SOFT && (err == -EACCES || err == -EPERM)) {
		snprintf(reason, size,
			 "software KVM cannot start: this host forbids to make code "
			 "(SELinux's execmem, vm.memfd_noexec)");
	} else if (engine == KVM_ENGINE_SOFT) {
		snprintf(reason, size, "software KVM cannot start: %s",
			 err == -ENOTSUP ? "this build has none" : strerror(-err));
	} else if (err == -ENOENT) {
		snprintf(reason, size, "there is no /dev/kvm");
	} else if (err == -EACCES || err == -EPERM) {
		snprintf(reason, size, "no right to open /dev/kvm (group kvm has it)");
	} else {
		snprintf(reason, size, "/dev/kvm cannot be opened: %s", strerror(-err));
	}
}

int kvm_open_provider(const struct kvm_provider *p, enum kvm_engine engine, char *reason,
		      size_t reason_size, struct kvm **ret)
{
	char why[REASON_BYTES - 64];
	struct kvm *k;
	int r = p->open();

	if (r < 0) {
		say_open_error(engine, r, reason, reason_size);
		return r;
	}
	k = calloc(1, sizeof(*k));
	if (!k) {
		p->close(r);
		return -ENOMEM;
	}
	*k = (struct kvm){ .provider = p, .engine = engine, .fd = r };
	r = check_abilities(k, why, sizeof(why));
	if (r < 0) {
		snprintf(reason, reason_size, "%s cannot run guests: %s",
			 engine == KVM_ENGINE_SOFT ? "software KVM" : "/dev/kvm", why);
		kvm_close(k);
		return r;
	}
	*ret = k;
	return 0;
}

static int open_asked(enum kvm_engine want, char *reason, size_t size, struct kvm **ret)
{
	const struct kvm_provider *p =
		want == KVM_ENGINE_SOFT ? &kvm_provider_soft : &kvm_provider_kernel;
	int r = kvm_open_provider(p, want, reason, size, ret);

	if (r == 0) {
		snprintf(reason, size, "as asked for");
	}
	return r;
}

/*
 * The kernel's if it is there, able and fast; else ours. If ours cannot be
 * opened, a slow one is still better than none.
 */
static int open_auto(char *reason, size_t size, struct kvm **ret)
{
	char why[REASON_BYTES - 64], soft_why[REASON_BYTES - 64];
	struct kvm *kernel = NULL;
	uint64_t speed = 0;
	int r, soft;

	r = kvm_open_provider(&kvm_provider_kernel, KVM_ENGINE_KERNEL, why, sizeof(why), &kernel);
	if (r == 0) {
		r = kvm_measure_cached(kernel, &speed);
		if (r == 0 && speed >= KVM_FAST_INSNS_PER_S) {
			snprintf(reason, size, "/dev/kvm runs %" PRIu64 " M instructions/s",
				 speed / 1000000);
			*ret = kernel;
			return 0;
		}
		if (r < 0) {
			snprintf(why, sizeof(why), "/dev/kvm fails a small guest: %s",
				 strerror(-r));
		} else {
			snprintf(why, sizeof(why),
				 "/dev/kvm only emulates: %.1f M instructions/s, %u M are wanted",
				 (double)speed / 1e6, (unsigned)(KVM_FAST_INSNS_PER_S / 1000000));
		}
	}
	soft = kvm_open_provider(&kvm_provider_soft, KVM_ENGINE_SOFT, soft_why, sizeof(soft_why),
				 ret);
	if (soft == 0) {
		snprintf(reason, size, "%s", why);
		kvm_close(kernel);
		return 0;
	}
	if (kernel && r == 0) {
		snprintf(reason, size, "%.120s; yet %.120s", why, soft_why);
		*ret = kernel;
		return 0;
	}
	kvm_close(kernel);
	snprintf(reason, size, "%.120s; and %.120s", why, soft_why);
	return soft;
}

int kvm_open(enum kvm_engine want, char *reason, size_t reason_size, struct kvm **ret)
{
	char line[REASON_BYTES] = "";
	int r = install_kick_handler();

	if (r == 0) {
		r = want == KVM_ENGINE_AUTO ? open_auto(line, sizeof(line), ret)
					    : open_asked(want, line, sizeof(line), ret);
	}
	if (r == -ENOMEM) {
		snprintf(line, sizeof(line), "out of memory");
	}
	if (r == 0) {
		snprintf((*ret)->reason, sizeof((*ret)->reason), "%s", line);
	}
	if (reason) {
		snprintf(reason, reason_size, "%s", line);
	}
	return r;
}

void kvm_close(struct kvm *k)
{
	if (k) {
		k->provider->close(k->fd);
		free(k);
	}
}

enum kvm_engine kvm_engine(const struct kvm *k)
{
	return k->engine;
}

const char *kvm_reason(const struct kvm *k)
{
	return k->reason;
}

int kvm_sys_ioctl(struct kvm *k, unsigned long request, void *arg)
{
	return k->provider->ioctl(k->fd, request, (unsigned long)arg);
}

int kvm_ioctl(struct kvm *k, int fd, unsigned long request, void *arg)
{
	return k->provider->ioctl(fd, request, (unsigned long)arg);
}

int kvm_sys_ioctl_int(struct kvm *k, unsigned long request, unsigned long arg)
{
	return k->provider->ioctl(k->fd, request, arg);
}

int kvm_ioctl_int(struct kvm *k, int fd, unsigned long request, unsigned long arg)
{
	return k->provider->ioctl(fd, request, arg);
}

void kvm_fd_close(struct kvm *k, int *fd)
{
	if (*fd >= 0) {
		k->provider->close(*fd);
	}
	*fd = -1;
}

struct kvm_run *kvm_map_run(struct kvm *k, int vcpu_fd)
{
	return k->provider->map_run(vcpu_fd, k->run_bytes);
}

void kvm_unmap_run(struct kvm *k, struct kvm_run *run)
{
	if (run) {
		k->provider->unmap_run(run, k->run_bytes);
	}
}

int kvm_run(struct kvm *k, int vcpu_fd)
{
	return k->provider->ioctl(vcpu_fd, KVM_RUN, 0);
}

void kvm_kick(struct kvm *k, int vcpu_fd, struct kvm_run *run, unsigned long thread)
{
	/* Pairs with the runner, who clears it and then looks why it was kicked. */
	__atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	k->provider->kick(vcpu_fd, thread);
}
