/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libsoftkvm: the KVM API in user space. The numbers, structures and answers
 * are those of <linux/kvm.h> and the kernel's KVM API document; descriptors are
 * real ones (memfds, so a vCPU's run structure can be mapped by plain mmap too), known to this
 * library by their number.
 *
 * All functions may be called from any thread; KVM_RUN of one vCPU by one
 * thread at a time. Results are those of the system call: >= 0 or -errno.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* As open("/dev/kvm"): a system descriptor. */
int softkvm_open(void);
/* Is this descriptor a system, VM or vCPU descriptor of ours? Lock-free. */
bool softkvm_owns(int fd);
int softkvm_ioctl(int fd, unsigned long request, unsigned long arg);
/* A vCPU's struct kvm_run (KVM_GET_VCPU_MMAP_SIZE bytes); NULL: errno says why. */
void *softkvm_mmap_run(int vcpu_fd);
int softkvm_munmap_run(void *run);
/* Bytes of that mapping. */
size_t softkvm_run_size(void);
/*
 * As close(): the descriptor is gone; the VM lives until its last descriptor
 * is closed (a vCPU holds its VM). -EBADF if it is not ours.
 */
int softkvm_close(int fd);
/*
 * Make the running, or next, KVM_RUN of this vCPU return -EINTR soon. Async-signal-safe.
 * Setting run->immediate_exit does the same, but wakes no halted vCPU.
 */
void softkvm_kick(int vcpu_fd);
/* Options for those who work on it ("stats", "trace=FILE", …), comma-separated; -EINVAL. */
int softkvm_set_options(const char *options);

/* --- for those who wrap system calls (the preload shim) ---------------------------------- */
/* `newfd` (by dup and its kin) names what `fd` does. -EBADF: fd is not ours. */
int softkvm_dup(int fd, int newfd);
/* The descriptor was, or is about to be, closed by somebody else. -EBADF: not ours. */
int softkvm_forget(int fd);
/* As softkvm_kick() for the vCPU that the calling thread runs, if any. Async-signal-safe. */
void softkvm_kick_self(void);
/*
 * The same for the vCPU that `thread` runs: for pthread_cancel(), which KVM_RUN puts off until it
 * returns.
 */
void softkvm_kick_thread(pthread_t thread);
