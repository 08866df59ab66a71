/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies between buffers and scatter lists. All take an offset into the list,
 * never pass its end, and return how many bytes they handled.
 */
#pragma once

#include <sys/uio.h>

#include "base/util.h"

size_t iov_bytes(const struct iovec *iov, unsigned count);
size_t iov_copy_out(const struct iovec *iov, unsigned count, size_t offset, void *buf, size_t len);
size_t iov_copy_in(const struct iovec *iov, unsigned count, size_t offset, const void *buf,
		   size_t len);
/* Cut `len` bytes off the front (the entries are changed); returns the new first entry. */
struct iovec *iov_trim_front(struct iovec *iov, unsigned *count, size_t len);
/* Cut `len` bytes off the end. */
void iov_trim_back(struct iovec *iov, unsigned *count, size_t len);
