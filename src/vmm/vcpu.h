/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's processors: one thread each in KVM_RUN, and the group that
 * starts, pauses and ends them together.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "dev/bus.h"
#include "machine/machine.h"
#include "vmm/vm.h"

struct vcpu_group;

struct vcpu_saved; /* registers at power-on */

struct vcpu {
	struct vcpu_group *group;
	unsigned index; /* and APIC ID */
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool has_thread;
	int thread_id; /* as the kernel numbers threads; set by the thread */
	/* Set by the thread before it parks for good; others read it while paused. */
	bool failed;
	int run_error; /* what KVM_RUN said, if not 0 */
	struct vcpu_saved *saved;
};

/* Told to the owner; both are called on the vCPU's thread and must not block. */
struct vcpu_events {
	/* It cannot run any further: see `failed`. */
	void (*failed)(void *opaque, struct vcpu *c);
	/* The guest asked the engine for power-off or reset. */
	void (*request)(void *opaque, enum dev_request what);
};

enum vcpu_want { VCPU_WANT_PAUSE, VCPU_WANT_RUN, VCPU_WANT_QUIT };

/* Theory of operation: see vcpu.c. */
struct vcpu_group {
	struct vm *vm;
	struct bus *bus;
	const struct vcpu_events *events;
	void *opaque;
	struct vcpu *cpus;
	unsigned count;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	_Atomic int want; /* enum vcpu_want; written with `lock` held */
	unsigned running; /* threads inside their run loop; `lock` */
	atomic_bool held; /* see vcpu_group_hold() */
};

/*
 * Create `count` vCPUs with their CPUID. 0, or -errno and one line in `error`.
 * Ended by vcpu_group_done(), also after a failure.
 */
int vcpu_group_init(struct vcpu_group *g, struct vm *vm, struct bus *bus, unsigned count,
		    const struct vcpu_events *events, void *opaque, char *error, size_t error_size);
void vcpu_group_done(struct vcpu_group *g);
/* Start the threads; they wait, paused. 0 or -errno. */
int vcpu_group_start(struct vcpu_group *g);
/* All out of KVM_RUN, with no access pending, when it returns. Not from a vCPU's thread. */
void vcpu_group_pause(struct vcpu_group *g);
void vcpu_group_resume(struct vcpu_group *g);
bool vcpu_group_is_paused(struct vcpu_group *g);
/*
 * The guest asked for its end or its reset: no vCPU that notices (its own next
 * exit, at the latest) goes back into the guest, nor fails, until
 * vcpu_group_reset() or vcpu_group_done(). From any thread; does not wait.
 */
void vcpu_group_hold(struct vcpu_group *g);
/*
 * Set all to power-on; the first to `start`, the others wait for INIT and
 * SIPI. Paused only. 0 or -errno. `first`: they are fresh from creation.
 */
int vcpu_group_reset(struct vcpu_group *g, const struct machine_start *start, bool first);

/* --- state, vcpu_state.c --- */

/* CPUID for this processor; then its registers are saved. 0 or -errno. */
int vcpu_state_init(struct vcpu *c, unsigned count);
void vcpu_state_done(struct vcpu *c);
int vcpu_state_reset(struct vcpu *c, const struct machine_start *start, bool first);
