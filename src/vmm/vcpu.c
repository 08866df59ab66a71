/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * A vCPU's thread is parked (waiting for `changed`) or in its run loop.
 * `want` says where it shall be; group->running counts the run loops.
 *
 *   parked  --want RUN-->  run loop      vcpu_group_resume()
 *   run loop --want PAUSE--> parked      vcpu_group_pause(): sets `want`, then kicks
 *   run loop --held-->     parked        vcpu_group_hold(), at the vCPU's next exit
 *   run loop --failure-->  parked for good
 *   any     --want QUIT--> ended         vcpu_group_done()
 *
 * Invariants
 *  1. A run loop is left only after KVM_RUN has returned -EINTR, or failed. KVM
 *     finishes a port or memory access at the next KVM_RUN, so then none is pending.
 *  2. The pauser writes `want` and then immediate_exit; the runner clears
 *     immediate_exit and then reads `want` (all sequentially consistent), so no
 *     kick is lost.
 *  3. No lock is held inside the run loop.
 *  4. Who asks for a reset by a port write is held before that write's exit has
 *     been served: behind it, the guest may only have a triple fault in store.
 */
#include "vmm/vcpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "base/assert.h"

/* One port access, or a string of them (REP INS/OUTS). */
static void serve_io(struct vcpu *c)
{
	struct kvm_run *run = c->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			bus_write(c->group->bus, DEV_PIO, run->io.port, data, run->io.size);
		} else {
			bus_read(c->group->bus, DEV_PIO, run->io.port, data, run->io.size);
		}
	}
}

static void serve_mmio(struct vcpu *c)
{
	struct kvm_run *run = c->run;

	if (run->mmio.is_write) {
		bus_write(c->group->bus, DEV_MMIO, run->mmio.phys_addr, run->mmio.data,
			  run->mmio.len);
	} else {
		bus_read(c->group->bus, DEV_MMIO, run->mmio.phys_addr, run->mmio.data,
			 run->mmio.len);
	}
}

/* False: it cannot go on. */
static bool serve_system_event(struct vcpu *c)
{
	const struct vcpu_events *ev = c->group->events;

	switch (c->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		ev->request(c->group->opaque, DEV_REQUEST_POWEROFF);
		return true;
	case KVM_SYSTEM_EVENT_RESET:
		ev->request(c->group->opaque, DEV_REQUEST_RESET);
		return true;
	default:
		return false;
	}
}

/* Do what the exit asks for; false: the vCPU cannot go on. */
static bool serve_exit(struct vcpu *c)
{
	switch (c->run->exit_reason) {
	case KVM_EXIT_IO:
		serve_io(c);
		return true;
	case KVM_EXIT_MMIO:
		serve_mmio(c);
		return true;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return true;
	case KVM_EXIT_SYSTEM_EVENT:
		return serve_system_event(c);
	default:
		/* SHUTDOWN, INTERNAL_ERROR, FAIL_ENTRY; HLT is the engine's own. */
		return false;
	}
}

static void run_loop(struct vcpu *c)
{
	struct vcpu_group *g = c->group;

	for (;;) {
		int r = kvm_run(g->vm->kvm, c->fd);

		if (r == -EINTR || r == -EAGAIN) {
			__atomic_store_n(&c->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
			if (atomic_load(&g->want) != VCPU_WANT_RUN || atomic_load(&g->held)) {
				return;
			}
		} else if (r < 0 || !serve_exit(c)) {
			if (atomic_load(&g->held)) {
				return;
			}
			c->run_error = r < 0 ? r : 0;
			c->failed = true;
			g->events->failed(g->opaque, c);
			return;
		} else if (atomic_load(&g->held)) {
			/* Finish the access, and come back at once. */
			__atomic_store_n(&c->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		}
	}
}

/* Shall the thread wait outside of its run loop? With `lock` held. */
static bool is_parked(const struct vcpu *c)
{
	const struct vcpu_group *g = c->group;

	return g->want == VCPU_WANT_PAUSE || ((c->failed || g->held) && g->want != VCPU_WANT_QUIT);
}

static void *thread_main(void *opaque)
{
	struct vcpu *c = opaque;
	struct vcpu_group *g = c->group;
	char name[16];

	snprintf(name, sizeof(name), "vcpu %u", c->index);
	pthread_setname_np(pthread_self(), name);
	pthread_mutex_lock(&g->lock);
	c->thread_id = (int)syscall(SYS_gettid);
	pthread_cond_broadcast(&g->changed);
	for (;;) {
		while (is_parked(c)) {
			pthread_cond_wait(&g->changed, &g->lock);
		}
		if (g->want == VCPU_WANT_QUIT) {
			break;
		}
		g->running++;
		pthread_mutex_unlock(&g->lock);
		run_loop(c);
		pthread_mutex_lock(&g->lock);
		g->running--;
		pthread_cond_broadcast(&g->changed);
	}
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

static void kick_all(struct vcpu_group *g)
{
	for (unsigned i = 0; i < g->count; i++) {
		struct vcpu *c = &g->cpus[i];

		if (c->has_thread) {
			kvm_kick(g->vm->kvm, c->fd, c->run, c->thread);
		}
	}
}

static int create_one(struct vcpu *c)
{
	struct vm *vm = c->group->vm;
	int r = kvm_ioctl_int(vm->kvm, vm->fd, KVM_CREATE_VCPU, c->index);

	if (r < 0) {
		return r;
	}
	c->fd = r;
	c->run = kvm_map_run(vm->kvm, c->fd);
	if (!c->run) {
		return -errno;
	}
	return vcpu_state_init(c, c->group->count);
}

int vcpu_group_init(struct vcpu_group *g, struct vm *vm, struct bus *bus, unsigned count,
		    const struct vcpu_events *events, void *opaque, char *error, size_t error_size)
{
	*g = (struct vcpu_group){
		.vm = vm, .bus = bus, .events = events, .opaque = opaque, .count = count
	};
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->changed, NULL);
	g->cpus = calloc(count, sizeof(*g->cpus));
	if (!g->cpus) {
		g->count = 0;
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	for (unsigned i = 0; i < count; i++) {
		g->cpus[i] = (struct vcpu){ .group = g, .index = i, .fd = -1 };
	}
	for (unsigned i = 0; i < count; i++) {
		int r = create_one(&g->cpus[i]);

		if (r < 0) {
			snprintf(error, error_size, "engine: cannot create vCPU %u: %s", i,
				 strerror(-r));
			return r;
		}
	}
	return 0;
}

void vcpu_group_done(struct vcpu_group *g)
{
	if (!g->vm) {
		return;
	}
	pthread_mutex_lock(&g->lock);
	atomic_store(&g->want, VCPU_WANT_QUIT);
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	kick_all(g);
	for (unsigned i = 0; i < g->count; i++) {
		struct vcpu *c = &g->cpus[i];

		if (c->has_thread) {
			pthread_join(c->thread, NULL);
		}
		kvm_unmap_run(g->vm->kvm, c->run);
		kvm_fd_close(g->vm->kvm, &c->fd);
		vcpu_state_done(c);
	}
	free(g->cpus);
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	*g = (struct vcpu_group){ 0 };
}

int vcpu_group_start(struct vcpu_group *g)
{
	for (unsigned i = 0; i < g->count; i++) {
		struct vcpu *c = &g->cpus[i];
		int r = pthread_create(&c->thread, NULL, thread_main, c);

		if (r) {
			return -r;
		}
		c->has_thread = true;
	}
	/* Each has said its number, which the monitor shows. */
	pthread_mutex_lock(&g->lock);
	for (unsigned i = 0; i < g->count; i++) {
		while (!g->cpus[i].thread_id) {
			pthread_cond_wait(&g->changed, &g->lock);
		}
	}
	pthread_mutex_unlock(&g->lock);
	return 0;
}

void vcpu_group_pause(struct vcpu_group *g)
{
	pthread_mutex_lock(&g->lock);
	atomic_store(&g->want, VCPU_WANT_PAUSE);
	kick_all(g);
	while (g->running) {
		pthread_cond_wait(&g->changed, &g->lock);
	}
	pthread_mutex_unlock(&g->lock);
}

void vcpu_group_resume(struct vcpu_group *g)
{
	pthread_mutex_lock(&g->lock);
	atomic_store(&g->want, VCPU_WANT_RUN);
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

void vcpu_group_hold(struct vcpu_group *g)
{
	atomic_store(&g->held, true);
}

bool vcpu_group_is_paused(struct vcpu_group *g)
{
	return atomic_load(&g->want) == VCPU_WANT_PAUSE;
}

int vcpu_group_reset(struct vcpu_group *g, const struct machine_start *start, bool first)
{
	ASSERT(vcpu_group_is_paused(g));
	for (unsigned i = 0; i < g->count; i++) {
		int r = vcpu_state_reset(&g->cpus[i], start, first);

		if (r < 0) {
			return r;
		}
	}
	/* All are parked and look again with the next resume. */
	atomic_store(&g->held, false);
	return 0;
}
