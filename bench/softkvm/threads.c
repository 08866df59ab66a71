/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Atomic operations, threads that are busy side by side, threads that wait for each other.
 */
#include <err.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guestbench.h"

/* A unit is one exchange, one add and one compare-and-exchange. */
uint64_t threads_atomic(uint64_t n)
{
	static _Atomic uint64_t counter, word, last;
	uint64_t sum = 0;

	counter = word = last = 0;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t old = atomic_fetch_add(&counter, i), expected = i / 2;

		sum += atomic_exchange(&word, old);
		if (atomic_compare_exchange_strong(&last, &expected, i / 2 + (i & 1))) {
			sum ^= i;
		}
	}
	return mix(mix(sum, counter), last);
}

#define TABLE_WORDS 4096

/* Arithmetic, a table in memory, calls, an unforeseeable branch: the work of a busy thread. */
static uint64_t busy(uint64_t n, uint64_t state)
{
	uint64_t table[TABLE_WORDS], sum = 0;

	for (uint64_t i = 0; i < TABLE_WORDS; i++) {
		table[i] = next_random(&state);
	}
	for (uint64_t i = 0; i < n; i++) {
		uint64_t *slot = &table[next_random(&state) % TABLE_WORDS];

		if (*slot & 4) {
			*slot = mix(*slot, i);
		} else {
			*slot += sum >> 3;
		}
		sum += *slot;
	}
	return sum;
}

struct job {
	uint64_t n, state, result;
};

static void *do_job(void *data)
{
	struct job *job = data;

	job->result = busy(job->n, job->state);
	return NULL;
}

static pthread_t start(void *(*body)(void *), void *data)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, body, data)) {
		errx(2, "no thread");
	}
	return thread;
}

/* A unit is two steps of busy work. */
uint64_t threads_one(uint64_t n)
{
	return mix(busy(n, 1), busy(n, 2));
}

uint64_t threads_two(uint64_t n)
{
	struct job jobs[2] = { { n, 1, 0 }, { n, 2, 0 } };
	pthread_t other = start(do_job, &jobs[1]);

	do_job(&jobs[0]);
	pthread_join(other, NULL);
	return mix(jobs[0].result, jobs[1].result);
}

struct turns {
	_Atomic uint32_t turn; /* 0, 1: who may go on; a futex */
	uint64_t n, sum;
};

static void wait_for_turn(struct turns *t, uint32_t mine)
{
	while (atomic_load(&t->turn) != mine) {
		syscall(SYS_futex, &t->turn, FUTEX_WAIT_PRIVATE, 1 - mine, NULL, NULL, 0);
	}
}

static void take_turns(struct turns *t, uint32_t mine)
{
	for (uint64_t i = 0; i < t->n; i++) {
		wait_for_turn(t, mine);
		t->sum = mix(t->sum, i + mine);
		atomic_store(&t->turn, 1 - mine);
		syscall(SYS_futex, &t->turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
}

static void *take_turns_second(void *data)
{
	take_turns(data, 1);
	return NULL;
}

/* A unit is the turn of one thread and the other's. */
uint64_t threads_futex(uint64_t n)
{
	struct turns turns = { 0, n, 0 };
	pthread_t other = start(take_turns_second, &turns);

	take_turns(&turns, 0);
	pthread_join(other, NULL);
	return turns.sum;
}
