/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Integer work: arithmetic, branches, calls, indirect calls and jumps, sorting.
 */
#include <stdlib.h>

#include "guestbench.h"

/* A unit is one round of arithmetic in registers. */
uint64_t cpu_intloop(uint64_t n)
{
	uint64_t a = 1, b = 0x123456789abcdef, c = 7;

	for (uint64_t i = 0; i < n; i++) {
		a += b ^ (i * 0x9e3779b1);
		b = (b << 13 | b >> 51) + a;
		c ^= a >> 7;
		c = c * 5 + (uint32_t)b;
	}
	return mix(mix(a, b), c);
}

/* A unit is one number, whose bits decide the way that is taken. */
uint64_t cpu_branches(uint64_t n)
{
	uint64_t state = 88172645463325252, odd = 0, low = 0, steps = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t x = next_random(&state);

		if (x & 0x10) {
			odd += x & 0xff;
		} else if (x & 0x60) {
			low ^= x;
		} else {
			odd--;
		}
		for (x >>= 58; x > 1; steps++) {
			x = x & 1 ? x - 1 : x >> 1;
		}
		if ((int64_t)low < (int64_t)odd) {
			low += 3;
		}
	}
	return mix(mix(odd, low), steps);
}

__attribute__((noipa)) static unsigned int fib(unsigned int n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

/* A unit is fib(20): some 22,000 calls. */
uint64_t cpu_fib(uint64_t n)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < n; i++) {
		sum = mix(sum, fib(20 + (i & 1)));
	}
	return sum;
}

#define OPERATION(name, expression)                                                     \
	__attribute__((noipa)) static uint64_t operation_##name(uint64_t a, uint64_t b) \
	{                                                                               \
		return expression;                                                      \
	}
OPERATION(add, a + b)
OPERATION(sub, a - b)
OPERATION(xor, a ^ b)
OPERATION(mul, a *(b | 1))
OPERATION(rol, a << 9 | a >> 55)
OPERATION(shr, a ^ b >> 5)
OPERATION(lea, a + b * 4 + 9)
OPERATION(not, ~a)

static uint64_t (*const operations[8])(uint64_t, uint64_t) = {
	operation_add, operation_sub, operation_xor, operation_mul,
	operation_rol, operation_shr, operation_lea, operation_not,
};

/* A unit is one call through a pointer, in an order that is hard to foresee every other time. */
uint64_t cpu_icall(uint64_t n)
{
	uint64_t state = 88172645463325252, a = 1;

	for (uint64_t i = 0; i < n; i++) {
		unsigned int which = i & 1 ? next_random(&state) >> 20 & 7 : i >> 1 & 7;

		a = operations[which](a, i);
	}
	return a;
}

enum opcode { OP_SET, OP_ADD, OP_SUB, OP_MUL, OP_AND, OP_SHR, OP_LOAD, OP_STORE, OP_JNZ, OP_END };

struct instruction {
	uint8_t op, to, from, operand;
};

/* r1: rounds to go, r2: a number as Collatz has it, r3: steps, r4: an index, r5: a sum */
static const struct instruction program[] = {
	{ OP_SET, 4, 0, 0 },  { OP_SET, 6, 0, 1 }, { OP_ADD, 4, 1, 0 },  { OP_ADD, 2, 1, 0 },
	{ OP_SET, 7, 0, 0 },  { OP_ADD, 7, 2, 0 }, { OP_AND, 7, 6, 0 },  { OP_JNZ, 7, 0, 11 },
	{ OP_SHR, 2, 6, 0 },  { OP_SET, 8, 0, 1 }, { OP_JNZ, 8, 0, 14 }, { OP_SET, 8, 0, 3 },
	{ OP_MUL, 2, 8, 0 },  { OP_ADD, 2, 6, 0 }, { OP_ADD, 3, 6, 0 },  { OP_STORE, 2, 3, 0 },
	{ OP_LOAD, 9, 4, 0 }, { OP_ADD, 5, 9, 0 }, { OP_ADD, 4, 6, 0 },  { OP_SET, 8, 0, 0 },
	{ OP_ADD, 8, 2, 0 },  { OP_SUB, 8, 6, 0 }, { OP_JNZ, 8, 0, 4 },  { OP_SUB, 1, 6, 0 },
	{ OP_JNZ, 1, 0, 2 },  { OP_END, 0, 0, 0 },
};

/* Run the program for `rounds` numbers. */
static uint64_t interpret(uint64_t rounds)
{
	uint64_t memory[256] = { 0 }, reg[16] = { 0 };

	reg[1] = rounds;
	for (const struct instruction *i = program;; i++) {
		switch ((enum opcode)i->op) {
		case OP_SET:
			reg[i->to] = i->operand;
			break;
		case OP_ADD:
			reg[i->to] += reg[i->from];
			break;
		case OP_SUB:
			reg[i->to] -= reg[i->from];
			break;
		case OP_MUL:
			reg[i->to] *= reg[i->from];
			break;
		case OP_AND:
			reg[i->to] &= reg[i->from];
			break;
		case OP_SHR:
			reg[i->to] >>= reg[i->from] & 63;
			break;
		case OP_LOAD:
			reg[i->to] = memory[reg[i->from] & 255];
			break;
		case OP_STORE:
			memory[reg[i->from] & 255] = reg[i->to];
			break;
		case OP_JNZ:
			if (reg[i->to]) {
				i = program + i->operand - 1;
			}
			break;
		case OP_END:
			return mix(reg[3], reg[5]);
		}
	}
}

/* A unit is 100 numbers of the interpreted program. */
uint64_t cpu_interp(uint64_t n)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < n; i++) {
		sum = mix(sum, interpret(100));
	}
	return sum;
}

#define SORT_COUNT 4096

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* A unit is 4,096 numbers sorted by the C library. */
uint64_t cpu_sort(uint64_t n)
{
	static uint32_t numbers[SORT_COUNT];
	uint64_t state = 88172645463325252, sum = 0;

	for (uint64_t i = 0; i < n; i++) {
		for (int k = 0; k < SORT_COUNT; k++) {
			numbers[k] = (uint32_t)next_random(&state);
		}
		qsort(numbers, SORT_COUNT, sizeof(numbers[0]), compare);
		for (int k = 0; k < SORT_COUNT; k += 64) {
			sum = mix(sum, numbers[k]);
		}
	}
	return sum;
}
