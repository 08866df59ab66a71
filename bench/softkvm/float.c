/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Floating point: matrices by SSE2 and by AVX2 with FMA, scalar doubles, the x87.
 */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "guestbench.h"

#define SIDE 64

struct matrix {
	_Alignas(32) double at[SIDE][SIDE];
};

static void matrix_fill(struct matrix *m, uint64_t state)
{
	for (int i = 0; i < SIDE; i++) {
		for (int k = 0; k < SIDE; k++) {
			m->at[i][k] = (double)(next_random(&state) >> 40) / 0x1000000;
		}
	}
}

static uint64_t matrix_sum(const struct matrix *m)
{
	uint64_t sum = 0, bits;

	for (int i = 0; i < SIDE; i++) {
		memcpy(&bits, &m->at[i][SIDE - 1 - i], sizeof(bits));
		sum = mix(sum, bits);
	}
	return sum;
}

static void multiply_sse2(struct matrix *c, const struct matrix *a, const struct matrix *b)
{
	for (int i = 0; i < SIDE; i++) {
		for (int k = 0; k < SIDE; k += 4) {
			__m128d low = _mm_setzero_pd(), high = _mm_setzero_pd();

			for (int j = 0; j < SIDE; j++) {
				__m128d x = _mm_set1_pd(a->at[i][j]);

				low = _mm_add_pd(low, _mm_mul_pd(x, _mm_load_pd(&b->at[j][k])));
				high = _mm_add_pd(high,
						  _mm_mul_pd(x, _mm_load_pd(&b->at[j][k + 2])));
			}
			_mm_store_pd(&c->at[i][k], low);
			_mm_store_pd(&c->at[i][k + 2], high);
		}
	}
}

__attribute__((target("avx2,fma"))) static void
multiply_avx2(struct matrix *c, const struct matrix *a, const struct matrix *b)
{
	for (int i = 0; i < SIDE; i++) {
		for (int k = 0; k < SIDE; k += 8) {
			__m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();

			for (int j = 0; j < SIDE; j++) {
				__m256d x = _mm256_broadcast_sd(&a->at[i][j]);

				low = _mm256_fmadd_pd(x, _mm256_load_pd(&b->at[j][k]), low);
				high = _mm256_fmadd_pd(x, _mm256_load_pd(&b->at[j][k + 4]), high);
			}
			_mm256_store_pd(&c->at[i][k], low);
			_mm256_store_pd(&c->at[i][k + 4], high);
		}
	}
}

static uint64_t matrices(uint64_t n, void (*multiply)(struct matrix *, const struct matrix *,
						      const struct matrix *))
{
	static struct matrix a, b, c;
	uint64_t sum = 0;

	matrix_fill(&a, 1);
	matrix_fill(&b, 2);
	for (uint64_t i = 0; i < n; i++) {
		multiply(&c, &a, &b);
		sum = mix(sum, matrix_sum(&c));
		a.at[i % SIDE][i / SIDE % SIDE] += 0.5;
	}
	return sum;
}

/* A unit is a product of two matrices of 64 x 64 doubles. */
uint64_t float_sse2(uint64_t n)
{
	return matrices(n, multiply_sse2);
}

bool float_has_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* A unit is the same product. */
uint64_t float_avx2(uint64_t n)
{
	return matrices(n, multiply_avx2);
}

#define BODIES 5

struct body {
	double at[3], speed[3], mass;
};

/* A sun and four planets, in made-up units. */
static const struct body start[BODIES] = {
	{ { 0, 0, 0 }, { 0, 0, 0 }, 40 },
	{ { 5, -1, 0.1 }, { 0.6, 2.8, -0.02 }, 0.04 },
	{ { 8, 4, -0.4 }, { -1.0, 1.8, 0.01 }, 0.01 },
	{ { 13, -15, -0.2 }, { 1.1, 0.9, -0.01 }, 0.002 },
	{ { 15, -26, 0.2 }, { 1.0, 0.6, -0.03 }, 0.002 },
};

static void attract(struct body *a, struct body *b, double step)
{
	double d[3], square = 0, pull;

	for (int i = 0; i < 3; i++) {
		d[i] = a->at[i] - b->at[i];
		square += d[i] * d[i];
	}
	pull = step / (square * sqrt(square));
	for (int i = 0; i < 3; i++) {
		a->speed[i] -= d[i] * b->mass * pull;
		b->speed[i] += d[i] * a->mass * pull;
	}
}

/* A unit is one step of five bodies. */
uint64_t float_nbody(uint64_t n)
{
	struct body bodies[BODIES];
	uint64_t sum = 0, bits;

	memcpy(bodies, start, sizeof(bodies));
	for (uint64_t step = 0; step < n; step++) {
		for (int i = 0; i < BODIES; i++) {
			for (int k = i + 1; k < BODIES; k++) {
				attract(&bodies[i], &bodies[k], 0.001);
			}
		}
		for (int i = 0; i < BODIES; i++) {
			for (int k = 0; k < 3; k++) {
				bodies[i].at[k] += 0.001 * bodies[i].speed[k];
			}
		}
	}
	for (int i = 0; i < BODIES; i++) {
		memcpy(&bits, &bodies[i].at[0], sizeof(bits));
		sum = mix(sum, bits);
	}
	return sum;
}

/* A unit is one step of a recurrence in 80 bits. */
uint64_t float_x87(uint64_t n)
{
	long double x = 0.5L, y = 1.25L, sum = 0;
	uint64_t bits;

	for (uint64_t i = 0; i < n; i++) {
		x = 3.7L * x * (1 - x);
		y = sqrtl(y * y + x) / (1 + x);
		sum += x * y - (long double)(i & 7);
	}
	memcpy(&bits, &sum, sizeof(bits));
	return bits;
}
