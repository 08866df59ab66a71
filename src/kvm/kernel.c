/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's KVM, behind /dev/kvm.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "kvm/provider.h"

static int kernel_open(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int kernel_ioctl(int fd, unsigned long request, unsigned long arg)
{
	int r = ioctl(fd, request, arg);

	return r < 0 ? -errno : r;
}

static void kernel_close(int fd)
{
	close(fd);
}

static void *kernel_map_run(int vcpu_fd, size_t size_bytes)
{
	void *p = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void kernel_unmap_run(void *run, size_t size_bytes)
{
	munmap(run, size_bytes);
}

static void kernel_kick(int vcpu_fd, unsigned long thread)
{
	pthread_kill((pthread_t)thread, KVM_KICK_SIGNAL);
}

const struct kvm_provider kvm_provider_kernel = {
	.open = kernel_open,
	.ioctl = kernel_ioctl,
	.close = kernel_close,
	.map_run = kernel_map_run,
	.unmap_run = kernel_unmap_run,
	.kick = kernel_kick,
};
