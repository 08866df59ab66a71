/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The entry points: descriptors and the dispatch of ioctls by their rows.
 *
 * A process that forks does not take its VMs along: as with the kernel's KVM,
 * every call on them says EIO in the child.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "softkvm/api/api.h"
#include "softkvm/api/fdtable.h"
#include "softkvm/api/uaccess.h"
#include "softkvm/cpu/run.h"
#include "softkvm/cpu/stub.h"
#include "softkvm/softkvm.h"

#define ARG_MAX_BYTES 4096u /* KVM_GET_XSAVE has the largest structure */

static _Atomic bool is_child;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void after_fork_in_child(void)
{
	atomic_store(&is_child, true);
}

static void init_once(void)
{
	pthread_atfork(NULL, NULL, after_fork_in_child);
}

int api_memfd(const char *name, size_t size_bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0) {
		return -errno;
	}
	if (size_bytes != 0 && ftruncate(fd, (off_t)size_bytes) != 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

int softkvm_open(void)
{
	AUTO_FD fd = -1;
	int r;

	pthread_once(&once, init_once);
	if (atomic_load(&is_child)) {
		return -EIO;
	}
	r = stub_init();
	if (r != 0) {
		return r;
	}
	fd = api_memfd("softkvm", 0);
	if (fd < 0) {
		return fd;
	}
	r = fdtable_add(fd, HANDLE_SYSTEM, NULL, NULL);
	return r != 0 ? r : TAKE_FD(fd);
}

bool softkvm_owns(int fd)
{
	return fdtable_owns(fd);
}

int softkvm_dup(int fd, int newfd)
{
	return fdtable_dup(fd, newfd);
}

int softkvm_forget(int fd)
{
	return atomic_load(&is_child) ? 0 : fdtable_remove(fd);
}

int softkvm_close(int fd)
{
	if (!fdtable_owns(fd)) {
		return -EBADF;
	}
	/* First out of the table: once closed, another thread may get the number. */
	softkvm_forget(fd);
	return close(fd) == 0 ? 0 : -errno;
}

void *softkvm_mmap_run(int vcpu_fd)
{
	struct handle *h = fdtable_get(vcpu_fd);
	void *p;

	if (!h || h->kind != HANDLE_VCPU) {
		handle_put(h);
		errno = h ? EINVAL : EBADF;
		return NULL;
	}
	p = mmap(NULL, RUN_SIZE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
	if (p != MAP_FAILED && vcpu_map_ring(h->vm, p) != 0) {
		munmap(p, RUN_SIZE_BYTES);
		p = MAP_FAILED;
	}
	handle_put(h);
	return p == MAP_FAILED ? NULL : p;
}

size_t softkvm_run_size(void)
{
	return RUN_SIZE_BYTES;
}

int softkvm_munmap_run(void *run)
{
	return munmap(run, RUN_SIZE_BYTES) == 0 ? 0 : -errno;
}

static void kick(struct vcpu *cpu)
{
	vcpu_request(cpu, REQ_KICK);
}

void softkvm_kick(int vcpu_fd)
{
	fdtable_kick(vcpu_fd, kick);
}

static void kick_if_run_by(struct vcpu *cpu, uintptr_t thread)
{
	if (atomic_load(&cpu->runner) == thread) {
		kick(cpu);
	}
}

void softkvm_kick_thread(pthread_t thread)
{
	fdtable_each_vcpu(kick_if_run_by, (uintptr_t)thread);
}

void softkvm_kick_self(void)
{
	api_kick_self();
}

/* --- ioctls ------------------------------------------------------------------------ */
static const struct ioctl_row *const tables[] = {
	[HANDLE_SYSTEM] = ioctl_system_rows,
	[HANDLE_VM] = ioctl_vm_rows,
	[HANDLE_VCPU] = ioctl_vcpu_rows,
};
_Static_assert(ARRAY_SIZE(tables) == HANDLE_KIND_COUNT, "a table for each kind");

static const struct ioctl_row *row_find(enum handle_kind kind, uint32_t request)
{
	for (const struct ioctl_row *row = tables[kind]; row->fn; row++) {
		if (row->request == request) {
			return row;
		}
	}
	return NULL;
}

static pthread_mutex_t *call_lock(const struct handle *h, const struct ioctl_row *row)
{
	if (h->kind == HANDLE_VCPU) {
		return &h->vcpu->ioctl_lock;
	}
	return h->kind == HANDLE_VM && (row->flags & CALL_LOCKED) ? &h->vm->lock : NULL;
}

static int call(const struct handle *h, const struct ioctl_row *row, struct api_call *c)
{
	pthread_mutex_t *lock = call_lock(h, row);
	bool memory = h->kind == HANDLE_VCPU && !(row->flags & CALL_RUN);
	int r;

	if (lock) {
		pthread_mutex_lock(lock);
	}
	if (memory) {
		vcpu_memory_begin(h->vcpu);
	}
	r = row->fn(c);
	if (memory) {
		vcpu_memory_end(h->vcpu);
	}
	if (lock) {
		pthread_mutex_unlock(lock);
	}
	return r;
}

/* With a structure to carry: in, call, out. Apart, so that plain calls have a small frame. */
static __attribute__((noinline)) int call_with_arg(const struct handle *h,
						   const struct ioctl_row *row, struct api_call *c)
{
	uint8_t buf[ARG_MAX_BYTES] __attribute__((aligned(64)));
	size_t size = _IOC_SIZE(row->request);
	int r;

	if (size > sizeof(buf)) {
		return -EINVAL;
	}
	if (row->flags & ARG_IN) {
		r = user_read(buf, c->raw, size);
		if (r != 0) {
			return r;
		}
	} else {
		memset(buf, 0, size);
	}
	c->arg = buf;
	r = call(h, row, c);
	if (r >= 0 && (row->flags & ARG_OUT) && user_write(c->raw, buf, size) != 0) {
		r = -EFAULT;
	}
	return r;
}

/*
 * A cancellation that came during KVM_RUN takes place now, if it may take place anywhere. (By
 * pthread_testcancel(): the changes of state and type cancel too, but glibc 2.36 then gives no
 * result.)
 */
static void allow_cancel(void)
{
	int type;

	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	if (type == PTHREAD_CANCEL_ASYNCHRONOUS) {
		pthread_testcancel();
		pthread_setcanceltype(type, NULL);
	}
}

int softkvm_ioctl(int fd, unsigned long request, unsigned long arg)
{
	struct handle *h = fdtable_get(fd);
	const struct ioctl_row *row;
	struct api_call c = { .raw = arg, .request = (uint32_t)request, .cancel_state = -1 };
	int r;

	if (!h) {
		return -EBADF;
	}
	c.vm = h->vm;
	c.cpu = h->vcpu;
	row = row_find(h->kind, (uint32_t)request);
	if (h->kind != HANDLE_SYSTEM && atomic_load_explicit(&is_child, memory_order_relaxed)) {
		r = -EIO;
	} else if (!row) {
		r = h->kind == HANDLE_VM ? -ENOTTY : -EINVAL; /* as the kernel's KVM answers */
	} else if (row->flags & (ARG_IN | ARG_OUT)) {
		r = call_with_arg(h, row, &c);
	} else {
		r = call(h, row, &c);
	}
	handle_put(h);
	if (c.cancel_state == PTHREAD_CANCEL_ENABLE) {
		allow_cancel();
	}
	return r;
}
