/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A walk over the bytes of an iovec list. */
#pragma once

#include <sys/uio.h>

#include "base/util.h"

struct file;

#define CURSOR_BATCH 64

static inline uint64_t iov_bytes(const struct iovec *iov, unsigned count)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < count; i++) {
		n += iov[i].iov_len;
	}
	return n;
}

struct cursor {
	const struct iovec *iov;
	unsigned left;
	size_t at; /* within iov[0] */
};

/* The next entries as their own list, `max` bytes and CURSOR_BATCH entries at most. */
unsigned cursor_batch(const struct cursor *c, struct iovec *out, uint64_t max);
void cursor_advance(struct cursor *c, size_t len);
/* Copy between a flat buffer and the list, moving on in it. */
void cursor_copy(struct cursor *c, uint8_t *flat, size_t len, bool to_list);
void cursor_zero(struct cursor *c, uint64_t len);
/* Read or write `len` bytes of a file at `offset`, moving on in the list. 0 or -errno. */
int cursor_move(struct cursor *c, struct file *f, bool write, uint64_t len, uint64_t offset);
