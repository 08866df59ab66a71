/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Signals that shall end KVM_RUN though their thread blocks them.
 *
 * Theory of operation
 *  The kernel swaps the thread's mask for KVM_RUN and back before signals are
 *  delivered, so a signal that ends KVM_RUN stays pending. In user space a signal that is
 *  unblocked is delivered; so they stay blocked, and one watching thread per process looks at what
 *  is pending for the running threads (SigPnd, ShdPnd in /proc/self/task/TID/status), every
 *  WATCH_PERIOD_NS while any vCPU runs with a mask. Programs that want better use
 *  immediate_exit, as the API document tells them.
 *
 *  A watch is on the list from sigwatch_enter() to sigwatch_leave(); it lives on the stack of
 *  nobody: it is part of a table of running threads guarded by `lock`.
 */
#include "softkvm/api/sigwatch.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "softkvm/cpu/vcpu.h"

#define WATCH_PERIOD_NS NS_PER_MS
#define STATUS_BYTES    4096

struct watch {
	struct vcpu *cpu;
	pid_t tid;
	uint64_t signals; /* bit n-1: signal n */
	struct watch *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER;
static struct watch *watches;
static bool have_thread;

/* The hexadecimal mask behind `key` in a status file. */
static uint64_t status_mask(const char *status, const char *key)
{
	const char *p = strstr(status, key);

	return p ? strtoull(p + strlen(key), NULL, 16) : 0;
}

static uint64_t pending_of(pid_t tid)
{
	char path[64], text[STATUS_BYTES];
	AUTO_FD fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0) {
		return 0;
	}
	text[n] = '\0';
	return status_mask(text, "\nSigPnd:") | status_mask(text, "\nShdPnd:");
}

static void *watch_thread(void *arg)
{
	const struct timespec period = { 0, WATCH_PERIOD_NS };

	pthread_mutex_lock(&lock);
	for (;;) {
		while (!watches) {
			pthread_cond_wait(&not_empty, &lock);
		}
		for (struct watch *w = watches; w; w = w->next) {
			if (pending_of(w->tid) & w->signals) {
				vcpu_request(w->cpu, REQ_KICK);
			}
		}
		pthread_mutex_unlock(&lock);
		nanosleep(&period, NULL);
		pthread_mutex_lock(&lock);
	}
	return arg;
}

/* The watcher must take no signal that is meant for the program. */
static void start_thread_locked(void)
{
	sigset_t all, old;
	pthread_t thread;

	if (have_thread) {
		return;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, NULL, watch_thread, NULL) == 0) {
		pthread_detach(thread);
		have_thread = true;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static uint64_t set_bits(const sigset_t *set)
{
	uint64_t bits;

	memcpy(&bits, set, sizeof(bits)); /* the kernel's sigset_t: 64 bits */
	return bits;
}

bool sigwatch_enter(struct vcpu *cpu)
{
	sigset_t blocked, pending;
	uint64_t signals;
	struct watch *w;

	if (!cpu->sigmask) {
		return false;
	}
	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	signals = set_bits(&blocked) & ~set_bits(cpu->sigmask);
	if (signals == 0) {
		return false;
	}
	sigpending(&pending);
	if (set_bits(&pending) & signals) {
		return true;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		return false;
	}
	*w = (struct watch){ .cpu = cpu, .tid = gettid(), .signals = signals };
	pthread_mutex_lock(&lock);
	start_thread_locked();
	w->next = watches;
	watches = w;
	pthread_cond_signal(&not_empty);
	pthread_mutex_unlock(&lock);
	return false;
}

void sigwatch_leave(struct vcpu *cpu)
{
	struct watch **p, *w = NULL;

	if (!cpu->sigmask) {
		return;
	}
	pthread_mutex_lock(&lock);
	for (p = &watches; *p; p = &(*p)->next) {
		if ((*p)->cpu == cpu) {
			w = *p;
			*p = w->next;
			break;
		}
	}
	pthread_mutex_unlock(&lock);
	free(w);
}
