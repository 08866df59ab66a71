/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small things that every part uses: sizes, alignment, checked sums,
 * little-endian loads and stores, descriptors that close themselves.
 * libc only: softkvm links nothing else.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_SIZE(a)         (sizeof(a) / sizeof((a)[0]))
#define BIT(n)                (1u << (n))
#define BIT64(n)              (1ull << (n))
#define KIB(n)                ((uint64_t)(n) << 10)
#define MIB(n)                ((uint64_t)(n) << 20)
#define GIB(n)                ((uint64_t)(n) << 30)
#define ALIGN_DOWN(x, a)      ((x) & ~((__typeof__(x))(a)-1))
#define ALIGN_UP(x, a)        ALIGN_DOWN((x) + ((__typeof__(x))(a)-1), a)
#define MIN(a, b)             ((a) < (b) ? (a) : (b))
#define MAX(a, b)             ((a) > (b) ? (a) : (b))
#define likely(x)             __builtin_expect(!!(x), 1)
#define unlikely(x)           __builtin_expect(!!(x), 0)
#define container_of(p, t, m) ((t *)((char *)(p)-offsetof(t, m)))

typedef uint64_t gpa_t; /* guest-physical address */
typedef uint64_t gva_t; /* guest-linear address */
typedef int64_t ns_t;   /* nanoseconds, CLOCK_MONOTONIC unless said otherwise */

/* [start, start+len) fits in 64 bits; its end goes to *ret_end. */
static inline bool range_end(uint64_t start, uint64_t len, uint64_t *ret_end)
{
	return !__builtin_add_overflow(start, len, ret_end);
}

/* [start, start+len) lies within [0, size). No overflow whatever the input. */
static inline bool range_within(uint64_t start, uint64_t len, uint64_t size)
{
	return start <= size && len <= size - start;
}

#define DEFINE_LE(bits)                                              \
	static inline uint##bits##_t load_le##bits(const void *p)    \
	{                                                            \
		uint##bits##_t v;                                    \
		memcpy(&v, p, sizeof(v));                            \
		return v;                                            \
	}                                                            \
	static inline void store_le##bits(void *p, uint##bits##_t v) \
	{                                                            \
		memcpy(p, &v, sizeof(v));                            \
	}
DEFINE_LE(16)
DEFINE_LE(32)
DEFINE_LE(64)
#undef DEFINE_LE

static inline void fd_closep(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
	*fd = -1;
}

/* A descriptor that closes itself; unset is -1. Hand over with TAKE_FD. */
#define AUTO_FD __attribute__((cleanup(fd_closep))) int
#define TAKE_FD(fd)              \
	({                       \
		int fd__ = (fd); \
		(fd) = -1;       \
		fd__;            \
	})
