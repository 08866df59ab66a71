/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Work on bytes: a hash, two compressors.
 */
#include <stdlib.h>
#include <string.h>

#include "guestbench.h"

#define TEXT_BYTES 65536

/* Words in an order that repeats now and then: what compressors like. */
static void make_text(uint8_t *text, uint64_t state)
{
	static const char words[16][8] = { "guest ",   "host ",  "page ",  "fault ",
					   "of the ",  "and ",   "table ", "\n",
					   "memory ",  "a ",     "to ",    "vector ",
					   "register", " stack", "   ",    "aaaaaaa" };
	size_t at = 0;

	while (at < TEXT_BYTES) {
		uint64_t x = next_random(&state);
		const char *word = words[x >> 40 & 15];
		size_t len = strnlen(word, sizeof(words[0]));

		len = len < TEXT_BYTES - at ? len : TEXT_BYTES - at;
		memcpy(text + at, word, len);
		at += len;
		if ((x >> 50 & 7) == 0 && at < TEXT_BYTES) {
			text[at++] = (uint8_t)x;
		}
	}
}

/* FIPS 180-4, 4.2.2 */
static const uint32_t sha256_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2,
};

static uint32_t ror(uint32_t x, int by)
{
	return x >> by | x << (32 - by);
}

/* FIPS 180-4, 6.2.2: the message schedule of a block of 64 bytes. */
static void sha256_schedule(const uint8_t *p, uint32_t w[64])
{
	for (int t = 0; t < 16; t++) {
		w[t] = (uint32_t)p[4 * t] << 24 | (uint32_t)p[4 * t + 1] << 16 |
		       (uint32_t)p[4 * t + 2] << 8 | p[4 * t + 3];
	}
	for (int t = 16; t < 64; t++) {
		uint32_t a = w[t - 15], b = w[t - 2];

		w[t] = (ror(b, 17) ^ ror(b, 19) ^ b >> 10) + w[t - 7] +
		       (ror(a, 7) ^ ror(a, 18) ^ a >> 3) + w[t - 16];
	}
}

/*
 * FIPS 180-4, 6.2.2, step 3 for one t: the eight working variables turn by one place each time,
 * so that v[(7 - t) mod 8], which was h, becomes a.
 */
static inline void sha256_round(uint32_t v[8], int t, uint32_t k_and_w)
{
	uint32_t a = v[-t & 7], b = v[(1 - t) & 7], c = v[(2 - t) & 7];
	uint32_t e = v[(4 - t) & 7], f = v[(5 - t) & 7], g = v[(6 - t) & 7];
	uint32_t t1 = v[(7 - t) & 7] + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) +
		      ((e & f) ^ (~e & g)) + k_and_w;

	v[(3 - t) & 7] += t1;
	v[(7 - t) & 7] = t1 + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
}

static void sha256_block(uint32_t h[8], const uint8_t *p)
{
	uint32_t w[64], v[8];

	sha256_schedule(p, w);
	memcpy(v, h, sizeof(v));
	for (int t = 0; t < 64; t += 8) {
#pragma GCC unroll 8
		for (int i = 0; i < 8; i++) {
			sha256_round(v, i, sha256_k[t + i] + w[t + i]);
		}
	}
	for (int i = 0; i < 8; i++) {
		h[i] += v[i];
	}
}

/* A unit is 64 KiB hashed (without the padding of the end). */
uint64_t bytes_sha256(uint64_t n)
{
	static uint8_t text[TEXT_BYTES];
	uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

	make_text(text, 1);
	for (uint64_t i = 0; i < n; i++) {
		for (size_t at = 0; at < TEXT_BYTES; at += 64) {
			sha256_block(h, text + at);
		}
	}
	return (uint64_t)h[0] << 32 | h[7];
}

#define LZ_HASH_BITS 12
#define LZ_MIN       4
#define LZ_MAX       259 /* LZ_MIN and what a byte can count */

static unsigned int lz_hash(const uint8_t *p)
{
	uint32_t word;

	memcpy(&word, p, sizeof(word));
	return word * 2654435761U >> (32 - LZ_HASH_BITS);
}

static size_t lz_match(const uint8_t *a, const uint8_t *b, size_t most)
{
	size_t len = 0;

	while (len < most && a[len] == b[len]) {
		len++;
	}
	return len;
}

/*
 * Groups of a byte of flags and eight items: a literal, or distance (2 bytes) and length - 4.
 * out needs room for 9/8 of TEXT_BYTES and a group more; the length written.
 */
static size_t lz_pack(const uint8_t *in, uint8_t *out)
{
	static uint16_t heads[1 << LZ_HASH_BITS];
	size_t at = 0, len = 0, flags = 0;
	unsigned int items = 0;

	memset(heads, 0, sizeof(heads));
	while (at < TEXT_BYTES) {
		size_t most = TEXT_BYTES - at < LZ_MAX ? TEXT_BYTES - at : LZ_MAX, found = 0;

		if (items++ % 8 == 0) {
			flags = len++;
			out[flags] = 0;
		}
		if (most >= LZ_MIN) {
			unsigned int hash = lz_hash(in + at);
			size_t from = heads[hash];

			heads[hash] = (uint16_t)at;
			if (from < at && (found = lz_match(in + from, in + at, most)) >= LZ_MIN) {
				out[flags] |= (uint8_t)(1U << (items - 1) % 8);
				out[len++] = (uint8_t)(at - from);
				out[len++] = (uint8_t)((at - from) >> 8);
				out[len++] = (uint8_t)(found - LZ_MIN);
				at += found;
				continue;
			}
		}
		out[len++] = in[at++];
	}
	return len;
}

/* The inverse of lz_pack() for its output; the length written. */
static size_t lz_unpack(const uint8_t *in, size_t in_len, uint8_t *out)
{
	size_t at = 0, len = 0;
	uint8_t flags = 0;

	for (unsigned int items = 0; at < in_len; items++) {
		if (items % 8 == 0) {
			flags = in[at++];
		}
		if (flags >> items % 8 & 1) {
			size_t distance = in[at] | (size_t)in[at + 1] << 8;
			size_t more = (size_t)in[at + 2] + LZ_MIN;

			for (size_t i = 0; i < more; i++, len++) {
				out[len] = out[len - distance];
			}
			at += 3;
		} else {
			out[len++] = in[at++];
		}
	}
	return len;
}

/* A unit is 64 KiB of text, packed and unpacked by matches. */
uint64_t bytes_lz(uint64_t n)
{
	static uint8_t text[TEXT_BYTES], packed[TEXT_BYTES + TEXT_BYTES / 8 + 32],
		unpacked[TEXT_BYTES + LZ_MAX];
	uint64_t sum = 0;

	for (uint64_t i = 0; i < n; i++) {
		size_t len;

		make_text(text, i + 1);
		len = lz_pack(text, packed);
		sum = mix(sum, len);
		if (lz_unpack(packed, len, unpacked) != TEXT_BYTES ||
		    memcmp(text, unpacked, TEXT_BYTES) != 0) {
			abort();
		}
	}
	return sum;
}

/* Runs as count and byte; the length written. */
static size_t rle_pack(const uint8_t *in, size_t in_len, uint8_t *out)
{
	size_t len = 0;

	for (size_t at = 0; at < in_len;) {
		size_t run = 1;

		while (run < 255 && at + run < in_len && in[at + run] == in[at]) {
			run++;
		}
		out[len++] = (uint8_t)run;
		out[len++] = in[at];
		at += run;
	}
	return len;
}

/* A unit is 64 KiB of short runs packed and each byte of the result looked at. */
uint64_t bytes_rle(uint64_t n)
{
	static uint8_t runs[TEXT_BYTES], packed[2 * TEXT_BYTES];
	uint64_t state = 88172645463325252, sum = 0;

	for (size_t at = 0; at < TEXT_BYTES;) {
		uint64_t x = next_random(&state);

		for (uint64_t i = 0; i <= (x & 7) && at < TEXT_BYTES; i++) {
			runs[at++] = (uint8_t)(x >> 8);
		}
	}
	for (uint64_t i = 0; i < n; i++) {
		size_t len = rle_pack(runs, TEXT_BYTES, packed);
		unsigned int counted = 0;

		for (size_t at = 0; at < len; at += 2) {
			counted += packed[at] * packed[at + 1];
		}
		sum = mix(sum, counted + len);
		runs[i * 61 % TEXT_BYTES]++;
	}
	return sum;
}
