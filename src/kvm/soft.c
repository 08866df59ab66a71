/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libsoftkvm, which answers the same API in this process.
 */
#include "kvm/provider.h"
#include "softkvm/softkvm.h"

static void soft_close(int fd)
{
	softkvm_close(fd);
}

static void *soft_map_run(int vcpu_fd, size_t size_bytes)
{
	return softkvm_mmap_run(vcpu_fd);
}

static void soft_unmap_run(void *run, size_t size_bytes)
{
	softkvm_munmap_run(run);
}

static void soft_kick(int vcpu_fd, unsigned long thread)
{
	softkvm_kick(vcpu_fd);
}

const struct kvm_provider kvm_provider_soft = {
	.open = softkvm_open,
	.ioctl = softkvm_ioctl,
	.close = soft_close,
	.map_run = soft_map_run,
	.unmap_run = soft_unmap_run,
	.kick = soft_kick,
};
