/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A walk over the bytes of an iovec list. */
#pragma once

#include <sys/uio.h>

#include "base/util.h"

#define CURSOR_BATCH 64

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
