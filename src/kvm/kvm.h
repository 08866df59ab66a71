/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one door to KVM: the kernel's /dev/kvm, or softkvm, with the numbers and
 * structures of <linux/kvm.h>. Nobody above knows which of both answers.
 * Descriptors of VMs and vCPUs are this module's: never read, dup or poll
 * them by hand.
 */
#pragma once

#include <linux/kvm.h>

#include "base/util.h"

struct kvm;

enum kvm_engine {
	KVM_ENGINE_AUTO, /* the faster one, measured once a boot */
	KVM_ENGINE_KERNEL,
	KVM_ENGINE_SOFT,
	KVM_ENGINE_COUNT
};

/* "auto", "kvm", "soft"; false if it is none of these. */
bool kvm_engine_parse(const char *s, enum kvm_engine *ret);
const char *kvm_engine_name(enum kvm_engine e);

/*
 * Open an engine. 0 or -errno (-ENOENT: no /dev/kvm, -EACCES: no right to it,
 * -ENOTSUP: it lacks what a guest needs). `reason` (may be NULL) gets one line that says which
 * engine was taken and why, or why none could be.
 */
int kvm_open(enum kvm_engine want, char *reason, size_t reason_size, struct kvm **ret);
void kvm_close(struct kvm *k); /* NULL is fine; VMs and vCPUs must be closed before */
enum kvm_engine kvm_engine(const struct kvm *k); /* KERNEL or SOFT */
const char *kvm_reason(const struct kvm *k);

/* All return what ioctl(2) would: >= 0, or -errno. `arg` as the API documents it. */
int kvm_sys_ioctl(struct kvm *k, unsigned long request, void *arg);
int kvm_ioctl(struct kvm *k, int fd, unsigned long request, void *arg);
/* Integer-argument forms. */
int kvm_sys_ioctl_int(struct kvm *k, unsigned long request, unsigned long arg);
int kvm_ioctl_int(struct kvm *k, int fd, unsigned long request, unsigned long arg);
void kvm_fd_close(struct kvm *k, int *fd); /* sets it to -1 */

/* The run structure of a vCPU (KVM_GET_VCPU_MMAP_SIZE bytes). NULL: see errno. */
struct kvm_run *kvm_map_run(struct kvm *k, int vcpu_fd);
void kvm_unmap_run(struct kvm *k, struct kvm_run *run);

/*
 * KVM_RUN on the calling thread: 0 (an exit is in `run`), or -errno: -EINTR after
 * kvm_kick() or a signal. The thread must be the only one that runs this vCPU.
 */
int kvm_run(struct kvm *k, int vcpu_fd);
/*
 * Make a vCPU's running, or next, kvm_run() return soon with -EINTR. Any thread;
 * `run` and `thread` are the vCPU's. kvm_open() installs the handler of the
 * signal that this needs (KVM_KICK_SIGNAL). The runner clears
 * run->immediate_exit when it has seen the kick.
 */
#define KVM_KICK_SIGNAL SIGUSR1
void kvm_kick(struct kvm *k, int vcpu_fd, struct kvm_run *run, unsigned long thread);
