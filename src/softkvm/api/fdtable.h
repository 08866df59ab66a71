/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which descriptors are ours, and the object behind each.
 *
 * A descriptor is a real one (a memfd), so that it can be passed, duplicated,
 * polled and mapped; this table says what it means. Several descriptors may
 * share one handle (dup).
 *
 * All functions: any thread. fdtable_owns() and fdtable_kick() take no lock and may
 * be called from a signal handler.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum handle_kind {
	HANDLE_SYSTEM,
	HANDLE_VM,
	HANDLE_VCPU,
	HANDLE_KIND_COUNT,
};

struct vm;
struct vcpu;

struct handle {
	enum handle_kind kind;
	struct vm *vm;     /* VM and vCPU */
	struct vcpu *vcpu; /* vCPU only */
	_Atomic int refs;  /* each descriptor, each call under way */
	_Atomic int pins;  /* readers between finding a handle and counting it; see fdtable.c */
	struct handle *next_free;
};

/*
 * Make `fd` name a new handle, which takes over the caller's reference to vm or vcpu. A stale entry
 * of the same number is forgotten first. -EMFILE: the number is beyond the table; -ENOMEM.
 */
int fdtable_add(int fd, enum handle_kind kind, struct vm *vm, struct vcpu *vcpu);
/* `newfd` means what `fd` does. -EBADF: fd is not ours. */
int fdtable_dup(int fd, int newfd);
/* Forget the descriptor (its number may be reused afterwards). -EBADF: not ours. */
int fdtable_remove(int fd);
bool fdtable_owns(int fd);
/* The handle, counted; NULL: not ours. Give it back with handle_put(). */
struct handle *fdtable_get(int fd);
/* Last reference: the object is let go (vm_unref() or vcpu_release()). NULL is fine. */
void handle_put(struct handle *h);
/* Call `fn` on the vCPU behind fd, if it is one. `fn` must be async-signal-safe. */
void fdtable_kick(int fd, void (*fn)(struct vcpu *cpu));
/* Call `fn` on each vCPU that has a descriptor. It must not wait for anything. */
void fdtable_each_vcpu(void (*fn)(struct vcpu *cpu, uintptr_t arg), uintptr_t arg);
