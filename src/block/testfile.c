/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/testfile.h"

#include <stdlib.h>

#include "base/assert.h"
#include "block/cursor_int.h"

static struct testfile *from_file(struct file *f)
{
	return container_of(f, struct testfile, file);
}

/* What lies in room behind the size is zeroes. */
static int set_size(struct testfile *t, uint64_t size)
{
	if (t->size_max && size > t->size_max) {
		return -ENOSPC;
	}
	if (size > t->room) {
		uint64_t room = MAX(size, t->room * 2);
		uint8_t *data = realloc(t->data, room);

		ASSERT(data);
		memset(data + t->room, 0, room - t->room);
		t->data = data;
		t->room = room;
	}
	if (size < t->size) {
		memset(t->data + size, 0, t->size - size);
	}
	t->size = size;
	return 0;
}

static int count_call(struct testfile *t)
{
	t->calls++;
	if (t->fail_at && (t->calls == t->fail_at || (t->fail_for_good && t->calls > t->fail_at))) {
		return t->fail_error;
	}
	return 0;
}

static struct testfile_event *record(struct testfile *t, enum testfile_op op, uint64_t offset,
				     uint64_t len)
{
	if (t->event_count == t->event_room) {
		t->event_room = t->event_room ? t->event_room * 2 : 256;
		t->events = realloc(t->events, t->event_room * sizeof(*t->events));
		ASSERT(t->events);
	}
	t->events[t->event_count] = (struct testfile_event){ op, offset, len, NULL };
	return &t->events[t->event_count++];
}

static int readv_locked(struct file *f, const struct iovec *iov, unsigned count, uint64_t at)
{
	struct testfile *t = from_file(f);

	for (unsigned i = 0; i < count; at += iov[i].iov_len, i++) {
		uint64_t have = at < t->size ? MIN(t->size - at, iov[i].iov_len) : 0;

		if (have) {
			memcpy(iov[i].iov_base, t->data + at, have);
		}
		memset((uint8_t *)iov[i].iov_base + have, 0, iov[i].iov_len - have);
	}
	return 0;
}

static int writev_locked(struct file *f, const struct iovec *iov, unsigned count, uint64_t at)
{
	struct testfile *t = from_file(f);
	uint64_t len = iov_bytes(iov, count), start = at;
	int r = count_call(t);

	if (!r && at + len > t->size) {
		r = set_size(t, at + len);
	}
	if (r < 0) {
		return r;
	}
	for (unsigned i = 0; i < count; at += iov[i].iov_len, i++) {
		memcpy(t->data + at, iov[i].iov_base, iov[i].iov_len);
	}
	if (t->record) {
		struct testfile_event *e = record(t, TESTFILE_WRITE, start, len);

		e->data = malloc(len);
		ASSERT(e->data);
		memcpy(e->data, t->data + start, len);
	}
	return 0;
}

static int flush_locked(struct file *f)
{
	struct testfile *t = from_file(f);
	int r = count_call(t);

	if (!r && t->record) {
		record(t, TESTFILE_FLUSH, 0, 0);
	}
	return r;
}

static int zero_locked(struct file *f, uint64_t at, uint64_t len, bool unmap)
{
	struct testfile *t = from_file(f);
	int r = count_call(t);

	if (!r && at + len > t->size) {
		r = set_size(t, at + len);
	}
	if (r < 0) {
		return r;
	}
	memset(t->data + at, 0, len);
	if (t->record) {
		record(t, TESTFILE_ZERO, at, len);
	}
	return 0;
}

/* As a hole in a file: nothing behind the end. */
static int discard_locked(struct file *f, uint64_t at, uint64_t len)
{
	struct testfile *t = from_file(f);

	if (at >= t->size) {
		return 0;
	}
	return zero_locked(f, at, MIN(len, t->size - at), true);
}

static int size_locked(struct file *f, uint64_t *ret)
{
	*ret = from_file(f)->size;
	return 0;
}

static int truncate_locked(struct file *f, uint64_t bytes)
{
	struct testfile *t = from_file(f);
	int r = count_call(t);

	if (!r) {
		r = set_size(t, bytes);
	}
	if (!r && t->record) {
		record(t, TESTFILE_TRUNCATE, 0, bytes);
	}
	return r;
}

static int allocate_locked(struct file *f, uint64_t at, uint64_t len)
{
	struct testfile *t = from_file(f);

	return at + len > t->size ? truncate_locked(f, at + len) : 0;
}

static int test_next_data(struct file *f, uint64_t at, uint64_t *ret_start, uint64_t *ret_end)
{
	*ret_start = MIN(at, from_file(f)->size);
	*ret_end = from_file(f)->size;
	return 0;
}

static void test_close(struct file *f)
{
	if (!from_file(f)->keep) {
		testfile_free(from_file(f));
	}
}

/* Each call under the lock. */
#define LOCKED(name, params, ...)                  \
	static int test_##name params              \
	{                                          \
		struct testfile *t = from_file(f); \
		int r;                             \
                                                   \
		pthread_mutex_lock(&t->lock);      \
		r = name##_locked(__VA_ARGS__);    \
		pthread_mutex_unlock(&t->lock);    \
		return r;                          \
	}
LOCKED(readv, (struct file * f, const struct iovec *iov, unsigned count, uint64_t at), f, iov,
       count, at)
LOCKED(writev, (struct file * f, const struct iovec *iov, unsigned count, uint64_t at), f, iov,
       count, at)
LOCKED(flush, (struct file * f), f)
LOCKED(zero, (struct file * f, uint64_t at, uint64_t len, bool unmap), f, at, len, unmap)
LOCKED(discard, (struct file * f, uint64_t at, uint64_t len), f, at, len)
LOCKED(size, (struct file * f, uint64_t *ret), f, ret)
LOCKED(truncate, (struct file * f, uint64_t bytes), f, bytes)
LOCKED(allocate, (struct file * f, uint64_t at, uint64_t len), f, at, len)

static const struct file_ops test_ops = {
	.readv = test_readv,
	.writev = test_writev,
	.flush = test_flush,
	.zero = test_zero,
	.discard = test_discard,
	.size = test_size,
	.truncate = test_truncate,
	.allocate = test_allocate,
	.next_data = test_next_data,
	.close = test_close,
};

struct testfile *testfile_new(void)
{
	struct testfile *t = calloc(1, sizeof(*t));

	ASSERT(t);
	pthread_mutex_init(&t->lock, NULL);
	t->file = (struct file){ &test_ops, -1, 1, true };
	return t;
}

struct testfile *testfile_new_copy(const void *data, uint64_t size)
{
	struct testfile *t = testfile_new();

	ASSERT(set_size(t, size) == 0);
	if (size) {
		memcpy(t->data, data, size);
	}
	return t;
}

void testfile_forget_events(struct testfile *t)
{
	for (size_t i = 0; i < t->event_count; i++) {
		free(t->events[i].data);
	}
	t->event_count = 0;
}

void testfile_free(struct testfile *t)
{
	if (t) {
		testfile_forget_events(t);
		free(t->events);
		free(t->data);
		free(t);
	}
}

void testfile_apply(struct testfile *t, const struct testfile_event *e, uint64_t from, uint64_t to)
{
	if (e->op == TESTFILE_TRUNCATE) {
		ASSERT(set_size(t, e->len) == 0);
	}
	if (e->op != TESTFILE_WRITE && e->op != TESTFILE_ZERO) {
		return;
	}
	to = MIN(to, e->len);
	if (from >= to) {
		return;
	}
	if (e->offset + to > t->size) {
		ASSERT(set_size(t, e->offset + to) == 0);
	}
	if (e->op == TESTFILE_WRITE) {
		memcpy(t->data + e->offset + from, e->data + from, to - from);
	} else {
		memset(t->data + e->offset + from, 0, to - from);
	}
}
