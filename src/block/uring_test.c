/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ring's restrictions: what lies in seccomp's blind spot is refused by the kernel. */
#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/test.h"
#include "block/block_int.h"

/* The result of the request that was prepared. */
static int result_of(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int r;

	if (io_uring_submit(ring) < 0 || io_uring_wait_cqe(ring, &cqe) < 0) {
		return -EIO;
	}
	r = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return r;
}

static void test_allowed(struct test *t)
{
	AUTO_FD fd = memfd_create("disk", MFD_CLOEXEC);
	char text[4] = "abc";
	struct iovec iov = { text, sizeof(text) };
	struct io_uring ring;

	if (block_uring_init_ring(&ring) < 0) {
		SKIP(t, "this kernel has no io_uring that can be restricted");
		return;
	}
	io_uring_prep_write(io_uring_get_sqe(&ring), fd, text, sizeof(text), 0);
	CHECK_EQ(t, result_of(&ring), sizeof(text));
	io_uring_prep_writev(io_uring_get_sqe(&ring), fd, &iov, 1, 4);
	CHECK_EQ(t, result_of(&ring), sizeof(text));
	io_uring_prep_read(io_uring_get_sqe(&ring), fd, text, sizeof(text), 4);
	CHECK_EQ(t, result_of(&ring), sizeof(text));
	io_uring_prep_readv(io_uring_get_sqe(&ring), fd, &iov, 1, 0);
	CHECK_EQ(t, result_of(&ring), sizeof(text));
	io_uring_prep_fsync(io_uring_get_sqe(&ring), fd, IORING_FSYNC_DATASYNC);
	CHECK_EQ(t, result_of(&ring), 0);
	io_uring_queue_exit(&ring);
}

static void test_refused(struct test *t)
{
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	int fds[1] = { 0 };

	if (block_uring_init_ring(&ring) < 0) {
		SKIP(t, "this kernel has no io_uring that can be restricted");
		return;
	}
	io_uring_prep_openat(io_uring_get_sqe(&ring), AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	CHECK_EQ(t, result_of(&ring), -EACCES);
	io_uring_prep_unlinkat(io_uring_get_sqe(&ring), AT_FDCWD, "/nothing-there", 0);
	CHECK_EQ(t, result_of(&ring), -EACCES);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_rw(IORING_OP_SOCKET, sqe, AF_INET, NULL, 0, SOCK_STREAM);
	CHECK_EQ(t, result_of(&ring), -EACCES);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_fsync(sqe, 0, 0);
	sqe->flags |= IOSQE_ASYNC;
	CHECK_EQ(t, result_of(&ring), -EACCES);
	CHECK_EQ(t, io_uring_register_files(&ring, fds, 1), -EACCES);
	io_uring_queue_exit(&ring);
}

static const struct test_case cases[] = {
	{ "allowed", test_allowed },
	{ "refused", test_refused },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
