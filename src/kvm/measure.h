/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast /dev/kvm really is. Internal to src/kvm.
 *
 * A /dev/kvm that opens may only emulate unmodified guests, slower by far
 * than softkvm. A tiny 64-bit guest in ring 0 tells: its loop mixes plain
 * arithmetic with control-register and MSR accesses that real hardware
 * virtualization runs without an exit.
 */
#pragma once

#include "kvm/kvm.h"

/*
 * Fast enough: real hardware does hundreds of millions of this mix a second,
 * even when it is itself emulated (a test host in QEMU) tens of millions;
 * KVMs that emulate do one or two million.
 */
#define KVM_FAST_INSNS_PER_S 10000000ull

/* Time the loop: at most twice KVM_MEASURE_MAX_MS. 0 or -errno. */
#define KVM_MEASURE_MAX_MS 60
int kvm_measure(struct kvm *k, uint64_t *ret_insns_per_s);

/*
 * The same, but remembered for this boot in a file of the calling user. A file
 * that cannot be read, is not the user's, or is damaged is measured anew and replaced.
 */
int kvm_measure_cached(struct kvm *k, uint64_t *ret_insns_per_s);

/*
 * The file's two halves, for tests: read or write the figure for `boot_id` in
 * `dir`, which must belong to the user and be writable to nobody else.
 * 0 or -errno (-ESTALE: another boot; -EBADMSG: damaged; -EPERM: not ours).
 */
int kvm_measure_load(const char *dir, const char *boot_id, uint64_t *ret_insns_per_s);
int kvm_measure_store(const char *dir, const char *boot_id, uint64_t insns_per_s);
