/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who can answer the KVM API. Internal to src/kvm.
 */
#pragma once

#include "kvm/kvm.h"

struct kvm_provider {
	/* A descriptor for system ioctls, or -errno. */
	int (*open)(void);
	/* As ioctl(2), but -errno in place of errno. `fd`: system, VM or vCPU. */
	int (*ioctl)(int fd, unsigned long request, unsigned long arg);
	void (*close)(int fd);
	void *(*map_run)(int vcpu_fd, size_t size_bytes); /* NULL: see errno */
	void (*unmap_run)(void *run, size_t size_bytes);
	/* `immediate_exit` is set already; make a KVM_RUN under way see it. */
	void (*kick)(int vcpu_fd, unsigned long thread);
};

extern const struct kvm_provider kvm_provider_kernel;
/* Where the build has no softkvm, every function fails with -ENOTSUP. */
extern const struct kvm_provider kvm_provider_soft;

/* Open with a provider of one's choice: check what it can do, and nothing else. */
int kvm_open_provider(const struct kvm_provider *p, enum kvm_engine engine, char *reason,
		      size_t reason_size, struct kvm **ret);
