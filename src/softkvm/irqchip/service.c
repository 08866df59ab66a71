/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM's service thread: deadlines of timers, and eventfds of irqfds.
 *
 * Theory of operation
 *  It sleeps in epoll_wait() on a timerfd, the irqfds and an eventfd that ends it.
 *  `armed` is the time for which the timerfd is set, NEVER if it is not. Who sets a deadline
 *  stores it first and then calls service_arm(), which does nothing if the
 *  thread wakes up early enough anyway: re-arming a timer for later costs no system call.
 *  The thread, when the time has come, sets `armed` to NEVER and then reads all deadlines.
 *  Either it reads a new deadline, or its owner reads NEVER and arms: none is lost.
 *  A LAPIC's deadline is served by its vCPU; `notified` remembers which one it was told of, so that
 *  a slow vCPU does not make this thread spin.
 */
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "softkvm/irqchip/irqchip_int.h"

#define EVENTS_AT_ONCE 16

static void set_timerfd_locked(struct service *s, ns_t deadline)
{
	struct itimerspec when = { 0 };

	deadline = MAX(deadline, 1); /* zero would disarm */
	when.it_value.tv_sec = deadline / NS_PER_S;
	when.it_value.tv_nsec = deadline % NS_PER_S;
	timerfd_settime(s->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static ns_t serve_lapic(struct lapic *l, ns_t now)
{
	ns_t deadline = atomic_load(&l->deadline);

	if (deadline == NEVER || atomic_load(&l->notified) == deadline) {
		return NEVER;
	}
	if (deadline > now) {
		return deadline;
	}
	atomic_store(&l->notified, deadline);
	vcpu_request(l->cpu, REQ_EVENT);
	return NEVER;
}

/* Serve what is due; the next deadline. */
static ns_t serve_timers(struct vm *vm)
{
	struct irqchip *chip = vm->irqchip;
	struct pit *pit = atomic_load(&chip->pit);
	uint32_t n = atomic_load_explicit(&vm->vcpu_count, memory_order_acquire);
	ns_t now = clock_now_ns(), next = NEVER;

	for (uint32_t i = 0; i < n; i++) {
		if (vm->vcpus[i]->lapic) {
			next = MIN(next, serve_lapic(vm->vcpus[i]->lapic, now));
		}
	}
	if (pit && atomic_load(&pit->deadline) <= now) {
		pthread_mutex_lock(&chip->lock);
		pit_tick_locked(pit, now);
		pthread_mutex_unlock(&chip->lock);
	}
	return pit ? MIN(next, atomic_load(&pit->deadline)) : next;
}

static void timer_fired(struct vm *vm)
{
	struct service *s = &vm->irqchip->service;
	uint64_t expirations;

	if (read(s->timer_fd, &expirations, sizeof(expirations)) < 0) {
		return; /* re-armed meanwhile */
	}
	atomic_store(&s->armed, NEVER);
	service_arm(vm, serve_timers(vm));
}

static void *service_thread(void *arg)
{
	struct vm *vm = arg;
	struct service *s = &vm->irqchip->service;
	struct epoll_event events[EVENTS_AT_ONCE];

	while (!atomic_load(&s->quit)) {
		int n = epoll_wait(s->epoll_fd, events, EVENTS_AT_ONCE, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == s->timer_fd) {
				timer_fired(vm);
			} else if (events[i].data.fd != s->wake_fd) {
				pthread_mutex_lock(&vm->irqchip->lock);
				irqfd_ready_locked(vm, events[i].data.fd);
				pthread_mutex_unlock(&vm->irqchip->lock);
			}
		}
	}
	return NULL;
}

static int epoll_add(struct service *s, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

static int open_fds(struct service *s)
{
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->epoll_fd < 0 || s->timer_fd < 0 || s->wake_fd < 0) {
		return -errno;
	}
	return epoll_add(s, s->timer_fd) | epoll_add(s, s->wake_fd);
}

static void close_fds(struct service *s)
{
	fd_closep(&s->wake_fd);
	fd_closep(&s->timer_fd);
	fd_closep(&s->epoll_fd);
}

/* The thread takes none of the program's signals. */
static int start_locked(struct vm *vm)
{
	struct service *s = &vm->irqchip->service;
	sigset_t all, old;
	int r;

	if (s->running) {
		return 0;
	}
	r = open_fds(s);
	if (r == 0) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		r = -pthread_create(&s->thread, NULL, service_thread, vm);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	if (r != 0) {
		close_fds(s);
		return r;
	}
	s->running = true;
	return 0;
}

int service_init(struct vm *vm)
{
	struct service *s = &vm->irqchip->service;

	s->epoll_fd = s->timer_fd = s->wake_fd = -1;
	atomic_store(&s->armed, NEVER);
	pthread_mutex_init(&s->lock, NULL);
	return 0;
}

void service_stop(struct vm *vm)
{
	struct service *s = &vm->irqchip->service;

	if (s->running) {
		atomic_store(&s->quit, true);
		eventfd_write(s->wake_fd, 1);
		pthread_join(s->thread, NULL);
		s->running = false;
	}
	close_fds(s);
	pthread_mutex_destroy(&s->lock);
}

void service_arm(struct vm *vm, ns_t deadline)
{
	struct service *s = &vm->irqchip->service;

	if (deadline >= atomic_load(&s->armed)) {
		return;
	}
	pthread_mutex_lock(&s->lock);
	if (deadline < atomic_load(&s->armed) && start_locked(vm) == 0) {
		atomic_store(&s->armed, deadline);
		set_timerfd_locked(s, deadline);
	}
	pthread_mutex_unlock(&s->lock);
}

int service_watch(struct vm *vm, int fd)
{
	struct service *s = &vm->irqchip->service;
	int r;

	pthread_mutex_lock(&s->lock);
	r = start_locked(vm);
	pthread_mutex_unlock(&s->lock);
	return r != 0 ? r : epoll_add(s, fd);
}

void service_unwatch(struct vm *vm, int fd)
{
	struct service *s = &vm->irqchip->service;

	if (s->epoll_fd >= 0) {
		epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	}
}
