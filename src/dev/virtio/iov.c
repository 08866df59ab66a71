/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dev/virtio/iov_int.h"

size_t iov_bytes(const struct iovec *iov, unsigned count)
{
	size_t sum = 0;

	for (unsigned i = 0; i < count; i++) {
		sum += iov[i].iov_len;
	}
	return sum;
}

size_t iov_copy_out(const struct iovec *iov, unsigned count, size_t offset, void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < count && done < len; i++) {
		size_t n;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		n = MIN(iov[i].iov_len - offset, len - done);
		memcpy((char *)buf + done, (char *)iov[i].iov_base + offset, n);
		done += n;
		offset = 0;
	}
	return done;
}

size_t iov_copy_in(const struct iovec *iov, unsigned count, size_t offset, const void *buf,
		   size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < count && done < len; i++) {
		size_t n;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		n = MIN(iov[i].iov_len - offset, len - done);
		memcpy((char *)iov[i].iov_base + offset, (const char *)buf + done, n);
		done += n;
		offset = 0;
	}
	return done;
}

struct iovec *iov_trim_front(struct iovec *iov, unsigned *count, size_t len)
{
	while (*count && len >= iov->iov_len) {
		len -= iov->iov_len;
		iov++;
		--*count;
	}
	if (*count) {
		iov->iov_base = (char *)iov->iov_base + len;
		iov->iov_len -= len;
	}
	return iov;
}

void iov_trim_back(struct iovec *iov, unsigned *count, size_t len)
{
	while (*count && len >= iov[*count - 1].iov_len) {
		len -= iov[*count - 1].iov_len;
		--*count;
	}
	if (*count) {
		iov[*count - 1].iov_len -= len;
	}
}
