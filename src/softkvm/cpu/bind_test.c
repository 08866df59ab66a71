/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every instruction that decodes has a handler: all opcodes, with all prefixes
 * that select forms, ModRM bytes and modes. Also: every row can be reached, and the tables are
 * consistent in themselves.
 */
#include "softkvm/cpu/bind.h"

#include <stdio.h>

#include "base/test.h"
#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/exec.h"
#include "softkvm/cpu/rows.h"

#define ROWS_MAX 4096

/* What follows the opcode and ModRM: a SIB with a base and an index, displacement, immediates. */
static const uint8_t tail[] = { 0x98, 0x11, 0x22, 0x33, 0x44, 0x51, 0x62, 0x73, 0x84, 0x95, 0xa6 };

static const enum insn_mode modes[] = {
	MODE_64, MODE_32, MODE_16, MODE_32 | MODE_FLAT, MODE_16 | MODE_REAL, MODE_32 | MODE_REAL,
};

struct prefix {
	uint8_t count, bytes[3];
};

/* A bytes-and-result visitor over the encodings; `len` is what insn_decode() said. */
typedef void visit_fn(struct test *t, const struct insn *in, const uint8_t *bytes,
		      enum insn_mode mode, void *arg);

static void visit(struct test *t, const uint8_t *head, unsigned n, enum insn_mode mode,
		  visit_fn *fn, void *arg)
{
	uint8_t bytes[INSN_BYTES_MAX + sizeof(tail)];
	struct insn in;

	for (unsigned modrm = 0; modrm < 256 && !t->failed; modrm++) {
		memcpy(bytes, head, n);
		bytes[n] = (uint8_t)modrm;
		memcpy(bytes + n + 1, tail, sizeof(tail));
		if (insn_decode(bytes, INSN_BYTES_MAX, 0x10000, mode, &in) > 0) {
			fn(t, &in, bytes, mode, arg);
		}
	}
}

static void visit_legacy(struct test *t, enum insn_mode mode, visit_fn *fn, void *arg)
{
	static const struct prefix prefixes[] = {
		{ 0, { 0 } },          { 1, { 0x66 } },       { 1, { 0xf3 } },
		{ 1, { 0xf2 } },       { 2, { 0x66, 0xf2 } }, { 2, { 0x66, 0xf3 } },
		{ 1, { 0xf0 } },       { 2, { 0x66, 0xf0 } }, { 1, { 0x67 } },
		{ 1, { 0x48 } },       { 1, { 0x45 } },       { 2, { 0x66, 0x48 } },
		{ 2, { 0xf3, 0x48 } }, { 2, { 0xf2, 0x48 } }, { 2, { 0xf0, 0x48 } },
		{ 2, { 0x67, 0x66 } },
	};
	static const struct prefix maps[] = {
		{ 0, { 0 } },
		{ 1, { 0x0f } },
		{ 2, { 0x0f, 0x38 } },
		{ 2, { 0x0f, 0x3a } },
	};

	for (unsigned p = 0; p < ARRAY_SIZE(prefixes) * ARRAY_SIZE(maps); p++) {
		const struct prefix *pre = &prefixes[p / ARRAY_SIZE(maps)];
		const struct prefix *map = &maps[p % ARRAY_SIZE(maps)];
		uint8_t head[8];

		memcpy(head, pre->bytes, pre->count);
		memcpy(head + pre->count, map->bytes, map->count);
		for (unsigned opcode = 0; opcode < 256 && !t->failed; opcode++) {
			head[pre->count + map->count] = (uint8_t)opcode;
			visit(t, head, pre->count + map->count + 1u, mode, fn, arg);
		}
	}
}

/* All of vvvv = 1111 and one other, W, L, pp. */
static void visit_vex(struct test *t, enum insn_mode mode, visit_fn *fn, void *arg)
{
	for (unsigned map = 1; map <= 3; map++) {
		for (unsigned i = 0; i < 32; i++) {
			uint8_t b2 =
				(uint8_t)((i & 7) | (i & 8 ? 0x80 : 0) | (i & 16 ? 0x78 : 0x60));
			uint8_t head[] = { 0xc4, (uint8_t)(0xe0 | map), b2, 0 };

			for (unsigned opcode = 0; opcode < 256 && !t->failed; opcode++) {
				head[3] = (uint8_t)opcode;
				visit(t, head, sizeof(head), mode, fn, arg);
			}
		}
	}
}

static void visit_all(struct test *t, visit_fn *fn, void *arg)
{
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		visit_legacy(t, modes[m], fn, arg);
		visit_vex(t, modes[m], fn, arg);
	}
}

static void check_bound(struct test *t, const struct insn *in, const uint8_t *bytes,
			enum insn_mode mode, void *arg)
{
	bool *seen = arg;
	exec_fn *fn = NULL;

	seen[in->row] = true;
	switch (op_group(in->op)) {
	case OPG_INT:
		fn = exec_int_bind(in);
		break;
	case OPG_SYS:
		fn = exec_sys_bind(in);
		break;
	case OPG_X87:
	case OPG_SIMD:
		fn = exec_simd_bind(in);
		break;
	case OPG_NONE:
		break;
	}
	if (!fn && !t->failed) {
		test_fail(t, __FILE__, __LINE__,
			  "no handler: %s, mode %d, %02x %02x %02x %02x %02x %02x",
			  op_mnemonic(in->op), mode, bytes[0], bytes[1], bytes[2], bytes[3],
			  bytes[4], bytes[5]);
	}
}

static void test_total(struct test *t)
{
	static bool seen[ROWS_MAX];

	CHECK(t, rows_count() <= ROWS_MAX);
	visit_all(t, check_bound, seen);
	for (unsigned i = 0; i < rows_count() && !t->failed; i++) {
		struct row_ref ref = row_get(i);

		if (!seen[i]) {
			test_fail(t, __FILE__, __LINE__,
				  "row %u (%s, map %u, opcode %02x) is never reached", i,
				  op_mnemonic(ref.row->op), ref.map, ref.opcode);
		}
	}
}

/* Every row is found again under its number, and agrees with itself. */
static void test_rows(struct test *t)
{
	for (unsigned i = 0; i < rows_count(); i++) {
		struct row_ref ref = row_get(i);

		CHECK(t, ref.row != NULL);
		CHECK_EQ(t, ref.row->id, i);
		CHECK(t, ref.row->op > OP_NONE && ref.row->op < OP_COUNT);
		CHECK(t, !(row_mem_only(ref.row) && row_reg_only(ref.row)));
		CHECK(t, !(ref.row->flags & ROW_LOCK) || row_mem_possible(ref.row));
		CHECK(t, row_feature(ref.row) < RF_COUNT);
		CHECK(t, ref.vex || !(ref.row->kinds & (KINDS_VVVV | BIT64(OK_L))));
	}
}

/* Every operation is in some row. */
static void test_ops(struct test *t)
{
	static bool used[OP_COUNT];

	for (unsigned i = 0; i < rows_count(); i++) {
		used[row_get(i).row->op] = true;
	}
	for (unsigned op = OP_NONE + 1; op < OP_COUNT; op++) {
		if (!used[op]) {
			test_fail(t, __FILE__, __LINE__, "no row has %s", op_mnemonic(op));
			return;
		}
	}
}

static const struct test_case cases[] = {
	{ "every form has a handler", test_total },
	{ "rows agree with themselves", test_rows },
	{ "every operation has a row", test_ops },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
