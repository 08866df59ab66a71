/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code that changes: an instruction patched before each call, functions made and called once.
 */
#include <err.h>
#include <string.h>
#include <sys/mman.h>

#include "guestbench.h"

#define CODE_BYTES 65536

typedef uint64_t (*function)(uint64_t);

static uint8_t *map_code(void)
{
	uint8_t *p = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		err(2, "mmap of code");
	}
	return p;
}

/* What was written as data, as a function. */
static function as_function(uint8_t *code)
{
	function f;

	memcpy(&f, &code, sizeof(f));
	return f;
}

/* A unit is one new immediate in a function, and its call. */
uint64_t code_modify(uint64_t n)
{
	/* lea 0(%rdi,%rdi,4),%rax; ret */
	static const uint8_t body[] = { 0x48, 0x8d, 0x84, 0xbf, 0, 0, 0, 0, 0xc3 };
	uint8_t *code = map_code();
	uint64_t sum = 0;

	memcpy(code, body, sizeof(body));
	for (uint64_t i = 0; i < n; i++) {
		int32_t immediate = (int32_t)(i * 0x10003);

		memcpy(code + 4, &immediate, sizeof(immediate));
		sum = mix(sum, as_function(code)(sum & 0xffff));
	}
	munmap(code, CODE_BYTES);
	return sum;
}

#define FUNCTION_INSTRUCTIONS 25 /* and a ret */
#define FUNCTION_BYTES        192

/* A function of 26 instructions on rax and rdi; its operands come from *state. */
static void generate(uint8_t *out, uint64_t *state)
{
	/* mov imm,%eax; then of add, sub, xor imm,%rax; add, xor %rdi,%rax; ror $n,%rax; inc %rax
	 */
	static const struct {
		uint8_t bytes[3], len, immediate;
	} forms[] = {
		{ { 0x48, 0x05 }, 2, 4 },       { { 0x48, 0x2d }, 2, 4 },
		{ { 0x48, 0x35 }, 2, 4 },       { { 0x48, 0x01, 0xf8 }, 3, 0 },
		{ { 0x48, 0x31, 0xf8 }, 3, 0 }, { { 0x48, 0xc1, 0xc8 }, 3, 1 },
		{ { 0x48, 0xff, 0xc0 }, 3, 0 }, { { 0x48, 0xf7, 0xd8 }, 3, 0 },
	};
	uint64_t x = next_random(state);

	*out++ = 0xb8;
	memcpy(out, &x, 4);
	out += 4;
	for (int i = 1; i < FUNCTION_INSTRUCTIONS; i++) {
		x = next_random(state);
		memcpy(out, forms[x >> 61].bytes, sizeof(forms[0].bytes));
		out += forms[x >> 61].len;
		memcpy(out, &x, 4);
		out += forms[x >> 61].immediate;
	}
	*out = 0xc3;
}

/* A unit is one function made and called; 340 lie side by side, then they are overwritten. */
uint64_t code_generate(uint64_t n)
{
	uint64_t state = 88172645463325252, sum = 1;
	uint8_t *code = map_code();
	size_t at = 0;

	for (uint64_t i = 0; i < n; i++) {
		generate(code + at, &state);
		sum = mix(sum, as_function(code + at)(sum));
		at = at + 2 * FUNCTION_BYTES <= CODE_BYTES ? at + FUNCTION_BYTES : 0;
	}
	munmap(code, CODE_BYTES);
	return sum;
}
