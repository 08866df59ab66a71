/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory: dependent loads, the C library's copies, fills and string functions.
 */
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "guestbench.h"

#define LINE_BYTES 64

struct line {
	struct line *next;
	uint64_t value;
	uint8_t pad[LINE_BYTES - 16];
};

static struct line *allocate(size_t bytes)
{
	void *p;

	if (posix_memalign(&p, LINE_BYTES, bytes)) {
		errx(2, "no memory");
	}
	return p;
}

/* One ring through all lines, by Sattolo's way; n loads along it. */
static uint64_t chase(size_t bytes, uint64_t n)
{
	uint64_t state = 88172645463325252, sum = 0;
	size_t count = bytes / LINE_BYTES;
	struct line *lines = allocate(bytes), *at = lines;

	for (size_t i = 0; i < count; i++) {
		lines[i].next = &lines[i];
		lines[i].value = i;
	}
	for (size_t i = count - 1; i > 0; i--) {
		size_t other = next_random(&state) % i;
		struct line *next = lines[i].next;

		lines[i].next = lines[other].next;
		lines[other].next = next;
	}
	for (uint64_t i = 0; i < n; i++) {
		at = at->next;
	}
	sum = at->value;
	free(lines);
	return mix(sum, n);
}

/* A unit is one load. */
uint64_t memory_chase_small(uint64_t n)
{
	return chase((size_t)256 << 10, n);
}

/* A unit is one load; the ring is made anew each time. */
uint64_t memory_chase_large(uint64_t n)
{
	return chase((size_t)64 << 20, n);
}

#define BLOCK_BYTES ((size_t)4 << 20)

/* A unit is a copy of 4 MiB. */
uint64_t memory_copy(uint64_t n)
{
	uint8_t *a = (uint8_t *)allocate(BLOCK_BYTES), *b = (uint8_t *)allocate(BLOCK_BYTES);
	uint64_t sum = 0;

	memset(a, 1, BLOCK_BYTES);
	memset(b, 2, BLOCK_BYTES);
	for (uint64_t i = 0; i < n; i++) {
		a[i * 4099 % BLOCK_BYTES] = (uint8_t)i;
		memcpy(b, a, BLOCK_BYTES - i % 64);
		sum = mix(sum, b[i * 4099 % BLOCK_BYTES] + b[i * 4099 / 2 % BLOCK_BYTES]);
	}
	free(a);
	free(b);
	return sum;
}

/* A unit is 4 MiB filled. */
uint64_t memory_set(uint64_t n)
{
	uint8_t *a = (uint8_t *)allocate(BLOCK_BYTES);
	uint64_t sum = 0;

	memset(a, 1, BLOCK_BYTES);
	for (uint64_t i = 0; i < n; i++) {
		memset(a + i % 64, (int)i, BLOCK_BYTES - i % 64);
		sum = mix(sum, a[i * 4099 % BLOCK_BYTES]);
	}
	free(a);
	return sum;
}

#define NAMES       512
#define NAME_STRIDE 128

/* Names of 3 to 100 letters, each ended by a NUL. */
static void make_names(char (*names)[NAME_STRIDE])
{
	uint64_t state = 88172645463325252;

	for (int i = 0; i < NAMES; i++) {
		size_t len = 3 + next_random(&state) % 98;

		for (size_t k = 0; k < len; k++) {
			names[i][k] = (char)('a' + next_random(&state) % 20);
		}
		names[i][len] = '\0';
	}
}

/* A unit is one pass of small string calls over 512 names. */
uint64_t memory_strings(uint64_t n)
{
	static char names[NAMES][NAME_STRIDE], copy[NAME_STRIDE];
	uint64_t sum = 0;

	make_names(names);
	for (uint64_t i = 0; i < n; i++) {
		for (int k = 0; k < NAMES; k++) {
			const char *name = names[k], *other = names[(k + i) % NAMES];
			size_t len = strlen(name);
			const char *found = strchr(name, 'e'), *part = strstr(name, "ab");

			memcpy(copy, name, len + 1);
			copy[len / 2] = (char)('a' + i % 20);
			sum += len + (found ? (size_t)(found - name) : 0);
			sum += (part ? 3 : 1) + (strcmp(name, other) < 0 ? 5 : 2);
			sum = mix(sum, memchr(copy, copy[len - 1], len) == copy);
		}
	}
	return sum;
}
