/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images: random operations against a model, with either engine; limits; errors; locks. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/test.h"
#include "block/block.h"
#include "block/file.h"
#include "block/qcow2.h"

#define DISK_BYTES KIB(512)
#define IN_FLIGHT  16
#define SEGS_MAX   5

extern char **environ;

struct op {
	struct block_req req;
	struct iovec iov[SEGS_MAX];
	uint8_t *buf;
	unsigned *pending;
	int result;
	bool busy;
};

struct rig {
	struct loop *loop;
	struct block *block;
	char path[64];
	char error[256];
	unsigned pending, batches;
};

static void batch_end(void *opaque)
{
	((struct rig *)opaque)->batches++;
}

static bool make_file(struct rig *r, uint64_t size)
{
	int fd;

	snprintf(r->path, sizeof(r->path), "/var/tmp/lodge-block-test.XXXXXX");
	fd = mkstemp(r->path);
	if (fd < 0) {
		return false;
	}
	(void)!ftruncate(fd, (off_t)size);
	close(fd);
	return true;
}

#define QCOW2_CLUSTER 4096u

/* Make the empty file a qcow2 image. */
static bool make_qcow2(struct rig *r, uint64_t size)
{
	struct qcow2_create_options o = { .size = size, .cluster_bytes = QCOW2_CLUSTER };
	struct file *f;
	int fd = open(r->path, O_RDWR | O_CLOEXEC);
	bool ok = fd >= 0 && file_new_fd(fd, false, &f) == 0;

	if (ok) {
		ok = qcow2_create(f, &o, r->error, sizeof(r->error)) == 0;
		file_close(f);
	}
	return ok;
}

static bool rig_new(struct rig *r, uint64_t size, const struct block_options *o)
{
	bool qcow2 = o->format == BLOCK_QCOW2;

	*r = (struct rig){ 0 };
	if (!make_file(r, qcow2 ? 0 : size) || (qcow2 && !make_qcow2(r, size)) ||
	    loop_new(NULL, &r->loop) < 0 ||
	    block_open(r->loop, r->path, o, r->error, sizeof(r->error), &r->block) < 0) {
		return false;
	}
	block_set_batch_end(r->block, batch_end, r);
	return true;
}

static void rig_free(struct rig *r)
{
	block_close(r->block);
	loop_free(r->loop);
	unlink(r->path);
}

static void op_done(struct block_req *req, int result)
{
	struct op *o = (struct op *)req;

	o->result = result;
	o->busy = false;
	--*o->pending;
}

static void op_start(struct rig *r, struct op *o, enum block_op op, uint64_t offset, uint64_t len)
{
	o->req.op = op;
	o->req.offset = offset;
	o->req.len = len;
	o->req.done = op_done;
	o->pending = &r->pending;
	o->busy = true;
	r->pending++;
	block_submit(r->block, &o->req);
}

static bool wait_all(struct rig *r)
{
	ns_t until = clock_now_ns() + 20 * NS_PER_S;

	block_kick(r->block);
	while (r->pending && clock_now_ns() < until) {
		loop_poll(r->loop, 100 * NS_PER_MS);
	}
	return !r->pending;
}

static int run_one(struct rig *r, enum block_op op, uint64_t offset, void *buf, uint64_t len,
		   unsigned flags)
{
	struct op o = { .req = { .flags = flags } };

	o.iov[0] = (struct iovec){ buf, len };
	o.req.iov = o.iov;
	o.req.iov_count = 1;
	op_start(r, &o, op, offset, len);
	return wait_all(r) ? o.result : -ETIMEDOUT;
}

/* --- the model ----------------------------------------------------------------------------------
 */

static uint32_t rnd_state;

static uint32_t rnd(uint32_t below)
{
	rnd_state = rnd_state * 1664525 + 1013904223;
	return (rnd_state >> 8) % below;
}

static void cut(struct op *o, uint64_t len)
{
	uint8_t *at = o->buf;
	unsigned n = 0;

	while (len) {
		uint64_t part = n + 1 == SEGS_MAX ? len : 1 + rnd((uint32_t)len);

		o->iov[n++] = (struct iovec){ at, part };
		at += part;
		len -= part;
	}
	o->req.iov = o->iov;
	o->req.iov_count = n;
}

static bool collides(const struct op *ops, uint64_t offset, uint64_t len)
{
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		if (ops[i].busy && ops[i].req.offset < offset + len &&
		    offset < ops[i].req.offset + ops[i].req.len) {
			return true;
		}
	}
	return false;
}

static void start_random(struct rig *r, struct op *o, struct op *ops, uint8_t *model,
			 uint32_t align, bool qcow2)
{
	enum block_op op = (enum block_op)rnd(5);
	uint64_t offset = rnd(DISK_BYTES / align) * (uint64_t)align;
	uint64_t len = (1 + rnd(16)) * (uint64_t)align;

	len = MIN(len, DISK_BYTES - offset);
	if (op == BLOCK_FLUSH) {
		op_start(r, o, op, 0, 0);
		return;
	}
	if (qcow2 && op == BLOCK_DISCARD) {
		/* Whole clusters read as zeroes after, others as before. */
		offset = ALIGN_DOWN(offset, (uint64_t)QCOW2_CLUSTER);
		len = ALIGN_UP(len, (uint64_t)QCOW2_CLUSTER);
		len = MIN(len, DISK_BYTES - offset);
	}
	if (collides(ops, offset, len)) {
		return;
	}
	o->req.flags = rnd(4) ? 0 : op == BLOCK_WRITE ? BLOCK_REQ_FUA : 0;
	if (op == BLOCK_WRITE_ZEROES || op == BLOCK_DISCARD) {
		o->req.flags = rnd(2) ? BLOCK_REQ_UNMAP : 0;
		memset(model + offset, 0, len);
	} else {
		cut(o, len);
		for (uint64_t i = 0; i < len; i++) {
			o->buf[i] = (uint8_t)rnd(256);
		}
	}
	if (op == BLOCK_WRITE) {
		memcpy(model + offset, o->buf, len);
	}
	op_start(r, o, op, offset, len);
}

static bool check_reads(struct op *ops, const uint8_t *model)
{
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		struct op *o = &ops[i];

		if (o->result || (o->req.op == BLOCK_READ && o->req.len &&
				  memcmp(o->buf, model + o->req.offset, o->req.len) != 0)) {
			return false;
		}
	}
	return true;
}

static void run_model(struct test *t, struct block_options o, uint32_t align, unsigned rounds)
{
	uint8_t *model = calloc(1, DISK_BYTES), *all = calloc(1, DISK_BYTES);
	struct op *ops = calloc(IN_FLIGHT, sizeof(*ops));
	struct rig r;

	if (!rig_new(&r, DISK_BYTES, &o)) {
		t->skip_reason = o.direct ? "no direct I/O here" : NULL;
		CHECK(t, o.direct);
		return;
	}
	rnd_state = align;
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		CHECK(t, posix_memalign((void **)&ops[i].buf, 4096, 17 * 4096) == 0);
	}
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < IN_FLIGHT; i++) {
			ops[i].req.len = 0;
			start_random(&r, &ops[i], ops, model, align, o.format == BLOCK_QCOW2);
		}
		CHECK(t, wait_all(&r));
		CHECK(t, check_reads(ops, model));
	}
	CHECK(t, r.batches > 0);
	CHECK_EQ(t, run_one(&r, BLOCK_READ, 0, all, DISK_BYTES, 0), 0);
	CHECK(t, memcmp(all, model, DISK_BYTES) == 0);
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		free(ops[i].buf);
	}
	rig_free(&r);
	free(ops);
	free(all);
	free(model);
}

static void test_model_uring(struct test *t)
{
	run_model(t, (struct block_options){ 0 }, 512, 100);
}

static void test_model_pool(struct test *t)
{
	run_model(t, (struct block_options){ .no_uring = true }, 512, 60);
}

static void test_model_qcow2(struct test *t)
{
	run_model(t, (struct block_options){ .format = BLOCK_QCOW2 }, 512, 200);
}

static void test_model_qcow2_pool(struct test *t)
{
	run_model(t, (struct block_options){ .format = BLOCK_QCOW2, .no_uring = true }, 512, 100);
}

static void test_model_qcow2_direct(struct test *t)
{
	run_model(t, (struct block_options){ .format = BLOCK_QCOW2, .direct = true }, 512, 40);
}

static void test_model_bytes(struct test *t)
{
	run_model(t, (struct block_options){ 0 }, 1, 60);
}

static void test_model_direct(struct test *t)
{
	run_model(t, (struct block_options){ .direct = true }, 4096, 40);
}

/* Odd ends under O_DIRECT: neighbours in one block at the same time must not lose each other. */
static void test_model_direct_odd(struct test *t)
{
	run_model(t, (struct block_options){ .direct = true }, 512, 40);
	if (!t->failed && !t->skip_reason) {
		run_model(t, (struct block_options){ .direct = true, .no_uring = true }, 512, 20);
	}
}

/* --- limits
 * ---------------------------------------------------------------------------------------- */

static void test_tail(struct test *t)
{
	for (unsigned no_uring = 0; no_uring < 2; no_uring++) {
		struct block_options o = { .no_uring = no_uring };
		uint8_t buf[1024], zero[512] = { 0 };
		struct stat st;
		struct rig r;

		CHECK(t, rig_new(&r, 1000, &o));
		CHECK_EQ(t, block_size_bytes(r.block), 1024);
		memset(buf, 0xff, sizeof(buf));
		CHECK_EQ(t, run_one(&r, BLOCK_READ, 512, buf, 512, 0), 0);
		CHECK(t, memcmp(buf, zero, 512) == 0);
		/* A write there makes the file whole. */
		memset(buf, 0x11, sizeof(buf));
		CHECK_EQ(t, run_one(&r, BLOCK_WRITE, 512, buf, 512, 0), 0);
		CHECK(t, stat(r.path, &st) == 0 && st.st_size == 1024);
		rig_free(&r);
	}
}

static void test_range(struct test *t)
{
	struct block_options o = { 0 };
	uint8_t buf[1024];
	struct rig r;

	CHECK(t, rig_new(&r, 4096, &o));
	CHECK_EQ(t, run_one(&r, BLOCK_READ, 4096, buf, 512, 0), -EINVAL);
	CHECK_EQ(t, run_one(&r, BLOCK_WRITE, 3584, buf, 1024, 0), -EINVAL);
	CHECK_EQ(t, run_one(&r, BLOCK_READ, UINT64_MAX - 100, buf, 512, 0), -EINVAL);
	CHECK_EQ(t, run_one(&r, BLOCK_DISCARD, 0, NULL, UINT64_MAX, 0), -EINVAL);
	CHECK_EQ(t, run_one(&r, BLOCK_READ, 4096, buf, 0, 0), 0);
	rig_free(&r);
}

static void test_readonly(struct test *t)
{
	struct block_options o = { .readonly = true };
	uint8_t buf[512];
	struct rig r;

	CHECK(t, rig_new(&r, 4096, &o));
	CHECK(t, block_readonly(r.block) && !block_can_discard(r.block));
	CHECK_EQ(t, run_one(&r, BLOCK_WRITE, 0, buf, 512, 0), -EROFS);
	CHECK_EQ(t, run_one(&r, BLOCK_DISCARD, 0, NULL, 512, 0), -EROFS);
	CHECK_EQ(t, run_one(&r, BLOCK_READ, 0, buf, 512, 0), 0);
	CHECK_EQ(t, run_one(&r, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	rig_free(&r);
}

/* Discard gives blocks back; zeroes without unmap need not. */
static void test_sparse(struct test *t)
{
	struct block_options o = { 0 };
	uint8_t *buf = malloc(MIB(1));
	struct stat before, after;
	struct rig r;

	CHECK(t, buf && rig_new(&r, MIB(1), &o));
	memset(buf, 0x55, MIB(1));
	CHECK_EQ(t, run_one(&r, BLOCK_WRITE, 0, buf, MIB(1), BLOCK_REQ_FUA), 0);
	CHECK(t, stat(r.path, &before) == 0);
	CHECK_EQ(t, run_one(&r, BLOCK_DISCARD, 0, NULL, MIB(1), 0), 0);
	CHECK(t, stat(r.path, &after) == 0 && after.st_blocks < before.st_blocks);
	CHECK_EQ(t, after.st_size, MIB(1));
	CHECK_EQ(t, run_one(&r, BLOCK_READ, KIB(512), buf, 4096, 0), 0);
	CHECK_EQ(t, buf[0], 0);
	rig_free(&r);
	free(buf);
}

static void test_drain(struct test *t)
{
	for (unsigned no_uring = 0; no_uring < 2; no_uring++) {
		struct block_options o = { .no_uring = no_uring };
		struct op ops[8] = { 0 };
		uint8_t *buf = malloc(8 * 4096);
		struct rig r;

		CHECK(t, buf && rig_new(&r, MIB(1), &o));
		for (unsigned i = 0; i < 8; i++) {
			ops[i].iov[0] = (struct iovec){ buf + i * 4096, 4096 };
			ops[i].req.iov = ops[i].iov;
			ops[i].req.iov_count = 1;
			op_start(&r, &ops[i], i == 7 ? BLOCK_DISCARD : BLOCK_READ, i * 4096, 4096);
		}
		block_drain(r.block);
		CHECK_EQ(t, r.pending, 0);
		CHECK_EQ(t, r.batches, 1);
		rig_free(&r);
		free(buf);
	}
}

/* --- errors
 * ---------------------------------------------------------------------------------------- */

static void expect_error(struct test *t, const char *path, struct block_options o, int want,
			 const char *text)
{
	struct loop *loop;
	struct block *b;
	char error[256] = "";

	CHECK(t, loop_new(NULL, &loop) == 0);
	CHECK_EQ(t, block_open(loop, path, &o, error, sizeof(error), &b), want);
	if (!strstr(error, text) || !strstr(error, path) || strchr(error, '\n')) {
		test_fail(t, __FILE__, __LINE__, "message: %s", error);
	}
	loop_free(loop);
}

static void test_errors(struct test *t)
{
	struct block_options raw = { 0 }, qcow2 = { .format = BLOCK_QCOW2 };
	struct block_options odd = { .format = BLOCK_FORMAT_COUNT };
	struct rig r = { 0 };

	expect_error(t, "/nonexistent/disk.img", raw, -ENOENT, "no such file");
	expect_error(t, "/tmp", raw, -EISDIR, "directory");
	expect_error(t, "/dev/null", raw, -EINVAL, "neither");
	expect_error(t, "/dev/null", qcow2, -EINVAL, "neither a file nor");
	expect_error(t, "/any", odd, -ENOTSUP, "unknown format");
	CHECK(t, !t->failed && make_file(&r, 0));
	expect_error(t, r.path, raw, -EINVAL, "empty");
	if (geteuid() != 0) {
		chmod(r.path, 0400);
		expect_error(t, r.path, raw, -EACCES, "permission");
	}
	unlink(r.path);
	CHECK(t, mkfifo(r.path, 0600) == 0);
	expect_error(t, r.path, raw, -EINVAL, "neither"); /* and does not wait for a writer */
	unlink(r.path);
}

static void test_borrowed_fd(struct test *t)
{
	struct block_options o = { 0 };
	struct loop *loop;
	struct block *b;
	char error[256];
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	CHECK(t, fd >= 0 && loop_new(NULL, &loop) == 0);
	CHECK_EQ(t, block_open_fd(loop, fd, "it", &o, error, sizeof(error), &b), -EINVAL);
	CHECK(t, fcntl(fd, F_GETFD) >= 0); /* still ours after a failure */
	close(fd);
	loop_free(loop);
}

/* --- locks
 * -------------------------------------------------------------------------------------------- */

static void test_locks(struct test *t)
{
	struct block_options rw = { 0 }, ro = { .readonly = true }, none = { .no_lock = true };
	struct block *b;
	struct rig r;
	char want[64];

	CHECK(t, rig_new(&r, 4096, &rw));
	CHECK_EQ(t, block_open(r.loop, r.path, &rw, r.error, sizeof(r.error), &b), -EBUSY);
	snprintf(want, sizeof(want), "process %d", (int)getpid());
	CHECK(t, strstr(r.error, want));
	CHECK_EQ(t, block_open(r.loop, r.path, &ro, NULL, 0, &b), -EBUSY);
	CHECK_EQ(t, block_open(r.loop, r.path, &none, NULL, 0, &b), 0);
	block_close(b);
	block_close(r.block);
	/* Readers share; a writer is kept out. */
	CHECK_EQ(t, block_open(r.loop, r.path, &ro, NULL, 0, &r.block), 0);
	CHECK_EQ(t, block_open(r.loop, r.path, &rw, NULL, 0, &b), -EBUSY);
	CHECK_EQ(t, block_open(r.loop, r.path, &ro, NULL, 0, &b), 0);
	block_close(b);
	rig_free(&r);
}

/* Run qemu-io on the image; its exit status, or -1 if there is none. */
static int qemu_io(const char *path, const char *command, bool readonly)
{
	char *argv[] = { "qemu-io",
			 "-f",
			 "raw",
			 "-c",
			 (char *)(uintptr_t)command,
			 readonly ? "-r" : (char *)(uintptr_t)path,
			 readonly ? (char *)(uintptr_t)path : NULL,
			 NULL };
	posix_spawn_file_actions_t actions;
	int status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	if (posix_spawnp(&pid, "qemu-io", &actions, NULL, argv, environ) != 0) {
		return -1;
	}
	posix_spawn_file_actions_destroy(&actions);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
		return -1;
	}
	return WEXITSTATUS(status) == 127 ? -1 : WEXITSTATUS(status);
}

/* A qemu-io that holds the image until its standard input is closed. */
static pid_t qemu_io_hold(const char *path, int *ret_in, int *ret_out)
{
	char *argv[] = { "qemu-io", "-f", "raw", (char *)(uintptr_t)path, NULL };
	posix_spawn_file_actions_t actions;
	int in[2], out[2];
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0) {
		return -1;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	if (posix_spawnp(&pid, "qemu-io", &actions, NULL, argv, environ) != 0) {
		pid = -1;
	}
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	*ret_in = in[1];
	*ret_out = out[0];
	return pid;
}

static void test_locks_qemu(struct test *t)
{
	struct block_options rw = { 0 }, ro = { .readonly = true };
	struct block *b;
	struct rig r;
	char byte;
	int in, out;
	pid_t pid;

	CHECK(t, rig_new(&r, 4096, &rw));
	if (qemu_io("/nonexistent", "quit", false) < 0) {
		rig_free(&r);
		SKIP(t, "no qemu-io (package qemu-utils)");
	}
	CHECK(t, qemu_io(r.path, "write 0 512", false) > 0);
	block_close(r.block);
	CHECK_EQ(t, qemu_io(r.path, "write 0 512", false), 0);
	CHECK_EQ(t, block_open(r.loop, r.path, &ro, NULL, 0, &r.block), 0);
	CHECK_EQ(t, qemu_io(r.path, "read 0 512", true), 0);
	CHECK(t, qemu_io(r.path, "write 0 512", false) > 0);
	/* The other way round. */
	block_close(r.block);
	pid = qemu_io_hold(r.path, &in, &out);
	CHECK(t, pid > 0);
	CHECK(t, read(out, &byte, 1) == 1); /* its prompt: it has the image */
	CHECK_EQ(t, block_open(r.loop, r.path, &rw, r.error, sizeof(r.error), &b), -EBUSY);
	CHECK(t, strstr(r.error, "(qemu-io)"));
	CHECK_EQ(t, block_open(r.loop, r.path, &ro, NULL, 0, &b), -EBUSY);
	close(in);
	waitpid(pid, NULL, 0);
	close(out);
	CHECK_EQ(t, block_open(r.loop, r.path, &rw, NULL, 0, &r.block), 0);
	rig_free(&r);
}

static const struct test_case cases[] = {
	{ "model-uring", test_model_uring },
	{ "model-pool", test_model_pool },
	{ "model-qcow2", test_model_qcow2 },
	{ "model-qcow2-pool", test_model_qcow2_pool },
	{ "model-qcow2-direct", test_model_qcow2_direct },
	{ "model-bytes", test_model_bytes },
	{ "model-direct", test_model_direct },
	{ "model-direct-odd", test_model_direct_odd },
	{ "tail", test_tail },
	{ "range", test_range },
	{ "readonly", test_readonly },
	{ "sparse", test_sparse },
	{ "drain", test_drain },
	{ "errors", test_errors },
	{ "borrowed-fd", test_borrowed_fd },
	{ "locks", test_locks },
	{ "locks-qemu", test_locks_qemu },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
