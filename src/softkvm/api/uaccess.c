/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checked copies within our own address space.
 *
 * The kernel does the check: process_vm_readv() on ourselves says EFAULT for a
 * bad address. Where a sandbox forbids it, a pipe does: write() from the caller's
 * buffer, read() to it, in pieces that fit into the pipe.
 */
#include "softkvm/api/uaccess.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "base/util.h"

#define PIPE_PIECE_BYTES 4096u /* a pipe takes as much without blocking */

static _Atomic bool no_vm_access;

/* One piece through a pipe: from `src` to `dst`, either of which may be bad. */
static int pipe_copy(void *dst, const void *src, size_t len)
{
	int p[2], r = 0;

	if (pipe2(p, O_CLOEXEC) != 0) {
		return -errno;
	}
	if (write(p[1], src, len) != (ssize_t)len || read(p[0], dst, len) != (ssize_t)len) {
		r = -EFAULT;
	}
	close(p[0]);
	close(p[1]);
	return r;
}

static int copy_by_pipe(uint64_t dst, uint64_t src, size_t len)
{
	while (len > 0) {
		size_t n = MIN(len, PIPE_PIECE_BYTES);
		int r = pipe_copy((void *)(uintptr_t)dst, (const void *)(uintptr_t)src, n);

		if (r != 0) {
			return r;
		}
		dst += n;
		src += n;
		len -= n;
	}
	return 0;
}

static int copy(uint64_t dst, uint64_t src, size_t len, bool write_side)
{
	struct iovec local = { (void *)(uintptr_t)(write_side ? src : dst), len };
	struct iovec remote = { (void *)(uintptr_t)(write_side ? dst : src), len };
	ssize_t n;

	if (len == 0) {
		return 0;
	}
	if (atomic_load_explicit(&no_vm_access, memory_order_relaxed)) {
		return copy_by_pipe(dst, src, len);
	}
	n = write_side ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0)
		       : process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	if (n == (ssize_t)len) {
		return 0;
	}
	if (n < 0 && errno != EFAULT) {
		atomic_store(&no_vm_access, true);
		return copy_by_pipe(dst, src, len);
	}
	return -EFAULT;
}

int user_read(void *dst, uint64_t src, size_t len_bytes)
{
	return copy((uint64_t)(uintptr_t)dst, src, len_bytes, false);
}

int user_write(uint64_t dst, const void *src, size_t len_bytes)
{
	return copy(dst, (uint64_t)(uintptr_t)src, len_bytes, true);
}

int user_check(uint64_t addr, size_t len_bytes)
{
	uint64_t end;
	uint8_t byte;
	int r;

	if (len_bytes == 0) {
		return 0;
	}
	if (!range_end(addr, len_bytes - 1, &end)) {
		return -EFAULT;
	}
	for (uint64_t a = addr;; a = MIN(a + 4096, end)) {
		r = user_read(&byte, a, 1);
		if (r != 0 || a == end) {
			return r;
		}
	}
}
