/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which descriptors are ours: a two-level array indexed by descriptor.
 *
 * Theory of operation
 *  A slot points to a handle or is NULL. Writers (add, dup, remove) hold
 *  `table_lock`. Readers hold nothing:
 *
 *	load slot -> raise pins -> load slot again -> the same? count refs -> drop pins
 *
 *  Invariants
 *  1. Handles are type-stable: the memory of one is reused for other handles, but never
 *     freed; raising `pins` of a handle that has just died is harmless.
 *  2. A remover clears the slot, then waits until pins is 0, then drops the slot's
 *     reference. So a reader that saw the slot unchanged after raising pins finds
 *     refs > 0 until it drops pins.
 *  3. Between raising and dropping pins nothing blocks, so the remover's wait is short.
 */
#include "softkvm/api/fdtable.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "base/util.h"
#include "softkvm/api/api.h"

#define CHUNK_BITS 10
#define CHUNK_SIZE (1u << CHUNK_BITS)
#define CHUNKS     1024u /* a million descriptors: the kernel's default nr_open */

typedef struct handle *_Atomic slot_t;

static slot_t *_Atomic chunks[CHUNKS];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct handle *free_handles; /* table_lock */

static slot_t *slot_find(int fd)
{
	slot_t *chunk;

	if (fd < 0 || (unsigned)fd >= CHUNKS * CHUNK_SIZE) {
		return NULL;
	}
	chunk = atomic_load_explicit(&chunks[(unsigned)fd >> CHUNK_BITS], memory_order_acquire);
	return chunk ? &chunk[(unsigned)fd & (CHUNK_SIZE - 1)] : NULL;
}

static int slot_make_locked(int fd, slot_t **ret)
{
	slot_t *chunk;

	if (fd < 0 || (unsigned)fd >= CHUNKS * CHUNK_SIZE) {
		return -EMFILE;
	}
	if (!chunks[(unsigned)fd >> CHUNK_BITS]) {
		chunk = calloc(CHUNK_SIZE, sizeof(*chunk));
		if (!chunk) {
			return -ENOMEM;
		}
		atomic_store_explicit(&chunks[(unsigned)fd >> CHUNK_BITS], chunk,
				      memory_order_release);
	}
	*ret = slot_find(fd);
	return 0;
}

static struct handle *handle_new_locked(void)
{
	struct handle *h = free_handles;

	if (h) {
		free_handles = h->next_free;
		return h;
	}
	return calloc(1, sizeof(*h));
}

/* Empty the slot; the caller drops the returned handle's reference outside the lock. */
static struct handle *slot_clear_locked(slot_t *slot)
{
	struct handle *h = atomic_exchange(slot, NULL);

	while (h && atomic_load(&h->pins) != 0) {
		sched_yield();
	}
	return h;
}

int fdtable_add(int fd, enum handle_kind kind, struct vm *vm, struct vcpu *vcpu)
{
	struct handle *h = NULL, *old = NULL;
	slot_t *slot;
	int r;

	pthread_mutex_lock(&table_lock);
	r = slot_make_locked(fd, &slot);
	if (r == 0) {
		h = handle_new_locked();
		r = h ? 0 : -ENOMEM;
	}
	if (r == 0) {
		old = slot_clear_locked(slot);
		h->kind = kind;
		h->vm = vm;
		h->vcpu = vcpu;
		atomic_store(&h->refs, 1);
		atomic_store(slot, h);
	}
	pthread_mutex_unlock(&table_lock);
	handle_put(old);
	return r;
}

int fdtable_dup(int fd, int newfd)
{
	struct handle *h = fdtable_get(fd), *old = NULL;
	slot_t *slot;
	int r;

	if (!h) {
		return -EBADF;
	}
	pthread_mutex_lock(&table_lock);
	r = slot_make_locked(newfd, &slot);
	if (r == 0) {
		old = slot_clear_locked(slot);
		atomic_store(slot, h); /* the slot keeps our reference */
	}
	pthread_mutex_unlock(&table_lock);
	handle_put(r == 0 ? old : h);
	return r;
}

int fdtable_remove(int fd)
{
	slot_t *slot = slot_find(fd);
	struct handle *h;

	if (!slot) {
		return -EBADF;
	}
	pthread_mutex_lock(&table_lock);
	h = slot_clear_locked(slot);
	pthread_mutex_unlock(&table_lock);
	handle_put(h);
	return h ? 0 : -EBADF;
}

bool fdtable_owns(int fd)
{
	slot_t *slot = slot_find(fd);

	return slot && atomic_load_explicit(slot, memory_order_acquire) != NULL;
}

/* The handle with pins raised, or NULL. */
static struct handle *slot_pin(slot_t *slot)
{
	struct handle *h;

	while (slot && (h = atomic_load(slot)) != NULL) {
		atomic_fetch_add(&h->pins, 1);
		if (atomic_load(slot) == h) {
			return h;
		}
		atomic_fetch_sub(&h->pins, 1);
	}
	return NULL;
}

struct handle *fdtable_get(int fd)
{
	struct handle *h = slot_pin(slot_find(fd));

	if (h) {
		atomic_fetch_add(&h->refs, 1);
		atomic_fetch_sub(&h->pins, 1);
	}
	return h;
}

void handle_put(struct handle *h)
{
	struct vm *vm;
	struct vcpu *vcpu;
	enum handle_kind kind;

	if (!h || atomic_fetch_sub(&h->refs, 1) != 1) {
		return;
	}
	kind = h->kind;
	vm = h->vm;
	vcpu = h->vcpu;
	pthread_mutex_lock(&table_lock);
	h->next_free = free_handles;
	free_handles = h;
	pthread_mutex_unlock(&table_lock);
	if (kind == HANDLE_VM) {
		vm_release(vm);
	} else if (kind == HANDLE_VCPU) {
		vcpu_release(vcpu);
	}
}

void fdtable_kick(int fd, void (*fn)(struct vcpu *cpu))
{
	struct handle *h = slot_pin(slot_find(fd));

	if (!h) {
		return;
	}
	if (h->kind == HANDLE_VCPU) {
		fn(h->vcpu);
	}
	atomic_fetch_sub(&h->pins, 1);
}

static void each_in_chunk(slot_t *chunk, void (*fn)(struct vcpu *cpu, uintptr_t arg), uintptr_t arg)
{
	for (unsigned i = 0; i < CHUNK_SIZE; i++) {
		struct handle *h = slot_pin(&chunk[i]);

		if (h) {
			if (h->kind == HANDLE_VCPU) {
				fn(h->vcpu, arg);
			}
			atomic_fetch_sub(&h->pins, 1);
		}
	}
}

void fdtable_each_vcpu(void (*fn)(struct vcpu *cpu, uintptr_t arg), uintptr_t arg)
{
	for (unsigned i = 0; i < CHUNKS; i++) {
		slot_t *chunk = atomic_load_explicit(&chunks[i], memory_order_acquire);

		if (chunk) {
			each_in_chunk(chunk, fn, arg);
		}
	}
}
