/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests: a file in memory that can record what is written, fail at a
 * given call, or be full at a given size.
 */
#pragma once

#include <pthread.h>

#include "block/file.h"

#define TESTFILE_SECTOR 512u

enum testfile_op { TESTFILE_WRITE, TESTFILE_ZERO, TESTFILE_TRUNCATE, TESTFILE_FLUSH };

struct testfile_event {
	enum testfile_op op;
	uint64_t offset, len; /* TRUNCATE: len is the new size */
	uint8_t *data;        /* WRITE */
};

struct testfile {
	struct file file;
	pthread_mutex_t lock; /* guards all below while requests run */
	uint8_t *data;
	uint64_t size, room, size_max; /* size_max: -ENOSPC beyond; 0: no limit */
	bool record;
	struct testfile_event *events;
	size_t event_count, event_room;
	uint64_t calls, fail_at; /* this call of write, zero, flush fails; 0: none */
	int fail_error;
	bool fail_for_good; /* and all that follow */
	bool keep;          /* file_close() leaves it alone */
};

struct testfile *testfile_new(void);
/* A copy of `size` bytes. */
struct testfile *testfile_new_copy(const void *data, uint64_t size);
void testfile_free(struct testfile *t);
/* Do what an event says to a plain buffer image. */
void testfile_apply(struct testfile *t, const struct testfile_event *e, uint64_t from, uint64_t to);
void testfile_forget_events(struct testfile *t);
