/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the suite's gcc row compiles: the same containers for several types, by macros. It is
 * never linked.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAP(type, name)                                                             \
	struct name {                                                                \
		type *at;                                                            \
		size_t len, room;                                                    \
	};                                                                           \
	int name##_push(struct name *h, type x)                                      \
	{                                                                            \
		size_t i = h->len;                                                   \
		if (h->len == h->room) {                                             \
			size_t room = h->room ? 2 * h->room : 16;                    \
			type *more = realloc(h->at, room * sizeof(type));            \
			if (!more) {                                                 \
				return -1;                                           \
			}                                                            \
			h->at = more;                                                \
			h->room = room;                                              \
		}                                                                    \
		h->len++;                                                            \
		while (i > 0 && x < h->at[(i - 1) / 2]) {                            \
			h->at[i] = h->at[(i - 1) / 2];                               \
			i = (i - 1) / 2;                                             \
		}                                                                    \
		h->at[i] = x;                                                        \
		return 0;                                                            \
	}                                                                            \
	type name##_pop(struct name *h)                                              \
	{                                                                            \
		type first = h->at[0], last = h->at[--h->len];                       \
		size_t i = 0, below;                                                 \
		while ((below = 2 * i + 1) < h->len) {                               \
			if (below + 1 < h->len && h->at[below + 1] < h->at[below]) { \
				below++;                                             \
			}                                                            \
			if (!(h->at[below] < last)) {                                \
				break;                                               \
			}                                                            \
			h->at[i] = h->at[below];                                     \
			i = below;                                                   \
		}                                                                    \
		h->at[i] = last;                                                     \
		return first;                                                        \
	}

#define SORT(type, name)                                     \
	void name##_sort(type *a, long low, long high)       \
	{                                                    \
		while (low < high) {                         \
			type pivot = a[(low + high) / 2];    \
			long i = low - 1, k = high + 1;      \
			for (;;) {                           \
				do {                         \
					i++;                 \
				} while (a[i] < pivot);      \
				do {                         \
					k--;                 \
				} while (pivot < a[k]);      \
				if (i >= k) {                \
					break;               \
				}                            \
				type x = a[i];               \
				a[i] = a[k];                 \
				a[k] = x;                    \
			}                                    \
			if (k - low < high - k) {            \
				name##_sort(a, low, k);      \
				low = k + 1;                 \
			} else {                             \
				name##_sort(a, k + 1, high); \
				high = k;                    \
			}                                    \
		}                                            \
	}                                                    \
	type name##_sum(const type *a, size_t n)             \
	{                                                    \
		type sum = 0;                                \
		for (size_t i = 0; i < n; i++) {             \
			sum += a[i] * a[n - 1 - i];          \
		}                                            \
		return sum;                                  \
	}

#define MATRIX(type, name)                                                             \
	void name##_multiply(type *restrict c, const type *a, const type *b, size_t n) \
	{                                                                              \
		for (size_t i = 0; i < n; i++) {                                       \
			for (size_t k = 0; k < n; k++) {                               \
				type sum = 0;                                          \
				for (size_t j = 0; j < n; j++) {                       \
					sum += a[i * n + j] * b[j * n + k];            \
				}                                                      \
				c[i * n + k] = sum;                                    \
			}                                                              \
		}                                                                      \
	}                                                                              \
	void name##_print(const type *a, size_t n, const char *format)                 \
	{                                                                              \
		for (size_t i = 0; i < n * n; i++) {                                   \
			printf(format, a[i]);                                          \
			putchar((i + 1) % n ? ' ' : '\n');                             \
		}                                                                      \
	}

#define TABLE(type, name)                                                         \
	struct name##_entry {                                                     \
		type key;                                                         \
		uint64_t value;                                                   \
		struct name##_entry *next;                                        \
	};                                                                        \
	uint64_t *name##_find(struct name##_entry **table, size_t bits, type key) \
	{                                                                         \
		uint64_t hash = 0;                                                \
		const unsigned char *p = (const unsigned char *)&key;             \
		for (size_t i = 0; i < sizeof(key); i++) {                        \
			hash = (hash ^ p[i]) * 0x100000001b3;                     \
		}                                                                 \
		struct name##_entry **at = &table[hash >> (64 - bits)];           \
		for (; *at; at = &(*at)->next) {                                  \
			if (memcmp(&(*at)->key, &key, sizeof(key)) == 0) {        \
				return &(*at)->value;                             \
			}                                                         \
		}                                                                 \
		*at = calloc(1, sizeof(**at));                                    \
		if (!*at) {                                                       \
			return NULL;                                              \
		}                                                                 \
		(*at)->key = key;                                                 \
		return &(*at)->value;                                             \
	}

#define ALL(type, name)             \
	HEAP(type, name##_heap)     \
	SORT(type, name)            \
	MATRIX(type, name##_matrix) \
	TABLE(type, name##_table)

ALL(int, whole)
ALL(unsigned char, byte)
ALL(uint64_t, word)
ALL(double, number)
