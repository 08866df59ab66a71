/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What insn_decode() promises beyond lengths: ends of the bytes, flags, prefixes, and the text of
 * instructions (golden lines for each kind of operand).
 */
#include "softkvm/cpu/decode.h"

#include <stdio.h>

#include "base/test.h"
#include "softkvm/cpu/disasm.h"
#include "softkvm/cpu/ops.h"

#define DECODE(in, mode, ...)                                                                   \
	insn_decode((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }), \
		    0x1000, mode, in)

/* Each instruction cut short asks for more, whatever its bytes would mean. */
static void test_cut(struct test *t)
{
	static const uint8_t insns[][15] = {
		{ 0x90 },
		{ 0x48, 0x8b, 0x84, 0x98, 1, 2, 3, 4 },
		{ 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8 },
		{ 0xc4, 0xe2, 0x79, 0x18, 0x05, 1, 2, 3, 4 },
		{ 0x66, 0x0f, 0x3a, 0x0f, 0xc1, 5 },
		{ 0xc8, 1, 2, 3 },
		{ 0xf0, 0x48, 0x0f, 0xba, 0x2c, 0x25, 1, 2, 3, 4, 7 },
	};
	struct insn in;

	for (unsigned i = 0; i < ARRAY_SIZE(insns); i++) {
		int len = insn_decode(insns[i], 15, 0, MODE_64, &in);

		CHECK(t, len > 0);
		for (int cut = 0; cut < len; cut++) {
			CHECK_EQ(t, insn_decode(insns[i], (unsigned)cut, 0, MODE_64, &in),
				 DECODE_NEED_MORE);
		}
	}
}

static void test_too_long(struct test *t)
{
	uint8_t bytes[32];
	struct insn in;

	memset(bytes, 0x2e, sizeof(bytes));
	CHECK_EQ(t, insn_decode(bytes, 14, 0, MODE_32, &in), DECODE_NEED_MORE);
	CHECK_EQ(t, insn_decode(bytes, 15, 0, MODE_32, &in), DECODE_TOO_LONG);
	CHECK_EQ(t, insn_decode(bytes, 32, 0, MODE_32, &in), DECODE_TOO_LONG);
	bytes[14] = 0x90;
	CHECK_EQ(t, insn_decode(bytes, 32, 0, MODE_32, &in), 15);
	bytes[14] = 0xb0; /* mov al, imm8: the immediate is the 16th */
	CHECK_EQ(t, insn_decode(bytes, 32, 0, MODE_32, &in), DECODE_TOO_LONG);
}

static void test_lock(struct test *t)
{
	struct insn in;

	CHECK_EQ(t, DECODE(&in, MODE_64, 0xf0, 0x01, 0x08), 3);
	CHECK(t, in.flags & INSN_LOCK);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xf0, 0x01, 0xc8), DECODE_UD); /* a register */
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xf0, 0x03, 0x08), DECODE_UD); /* memory is the source */
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xf0, 0x39, 0x08), DECODE_UD); /* cmp */
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xf0, 0x89, 0x08), DECODE_UD); /* mov */
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xf0, 0x0f, 0xa3, 0x08), DECODE_UD); /* bt */
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xf0, 0x0f, 0xc7, 0x08), 4);         /* cmpxchg8b */
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xf0, 0x90), DECODE_UD);
}

static void test_vex_rules(struct test *t)
{
	struct insn in;

	CHECK_EQ(t, DECODE(&in, MODE_64, 0xc5, 0xf0, 0x58, 0xc2), 4);
	CHECK_EQ(t, in.op, OP_VADDPS);
	CHECK_EQ(t, in.vvvv, 1);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x66, 0xc5, 0xf0, 0x58, 0xc2), DECODE_UD);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xf3, 0xc5, 0xf0, 0x58, 0xc2), DECODE_UD);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xf0, 0xc5, 0xf0, 0x58, 0xc2), DECODE_UD);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x48, 0xc5, 0xf0, 0x58, 0xc2), DECODE_UD);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x67, 0xc5, 0xf0, 0x58, 0xc2), 5);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xc5, 0xf0, 0x28, 0xc2), DECODE_UD); /* vvvv not 1111 */
	CHECK_EQ(t, DECODE(&in, MODE_32 | MODE_REAL, 0xc5, 0xf0, 0x58, 0xc2), DECODE_UD);
	CHECK_EQ(t, DECODE(&in, MODE_32, 0xc5, 0x30), 2); /* lds esi, [eax] */
	CHECK_EQ(t, in.op, OP_LDS);
	/* a gather whose index is its destination; and none without SIB */
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xc4, 0xe2, 0x69, 0x90, 0x04, 0x08), 6);
	CHECK(t, in.flags & INSN_VSIB);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xc4, 0xe2, 0x69, 0x90, 0x0c, 0x08), DECODE_UD);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xc4, 0xe2, 0x69, 0x90, 0x08), DECODE_UD);
}

/* A REX counts only as the last prefix; the last of F2 and F3 wins. */
static void test_prefix_order(struct test *t)
{
	struct insn in;

	CHECK_EQ(t, DECODE(&in, MODE_64, 0x48, 0x66, 0x01, 0xc8), 4);
	CHECK_EQ(t, in.osz, 2);
	CHECK(t, !(in.flags & INSN_REX));
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x66, 0x48, 0x01, 0xc8), 4);
	CHECK_EQ(t, in.osz, 8);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xf2, 0xf3, 0x0f, 0x10, 0x00), 5);
	CHECK_EQ(t, in.op, OP_MOVSS);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0xf3, 0xf2, 0x66, 0x0f, 0x10, 0x00), 6);
	CHECK_EQ(t, in.op, OP_MOVSD);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x64, 0x2e, 0x8b, 0x00), 4); /* 2E does nothing */
	CHECK_EQ(t, in.seg, SEG_FS);
	CHECK_EQ(t, DECODE(&in, MODE_32, 0x64, 0x2e, 0x8b, 0x00), 4);
	CHECK_EQ(t, in.seg, SEG_CS);
}

static void test_byte_registers(struct test *t)
{
	struct insn in;

	CHECK_EQ(t, DECODE(&in, MODE_64, 0x88, 0xe7), 2); /* mov bh, ah */
	CHECK_EQ(t, in.rm, 25);
	CHECK_EQ(t, in.reg, 1);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x40, 0x88, 0xe7), 3); /* mov dil, spl */
	CHECK_EQ(t, in.rm, 56);
	CHECK_EQ(t, in.reg, 32);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x41, 0xb7, 0x01), 3); /* mov r15b, 1 */
	CHECK_EQ(t, in.rm, 120);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x0f, 0xb6, 0xc4), 3); /* movzx eax, ah */
	CHECK_EQ(t, in.rm, 1);
	CHECK_EQ(t, in.reg, 0);
}

static void test_flat(struct test *t)
{
	struct insn in;

	CHECK(t, DECODE(&in, MODE_64, 0x64, 0x8b, 0x00) > 0 && (in.flags & INSN_FLAT));
	CHECK(t, DECODE(&in, MODE_32, 0x8b, 0x00) > 0 && !(in.flags & INSN_FLAT));
	CHECK(t, DECODE(&in, MODE_32 | MODE_FLAT, 0x8b, 0x00) > 0 && (in.flags & INSN_FLAT));
	CHECK(t, DECODE(&in, MODE_32 | MODE_FLAT, 0x8b, 0x45, 0) > 0 && (in.flags & INSN_FLAT));
	CHECK(t, DECODE(&in, MODE_32 | MODE_FLAT, 0x64, 0x8b, 0x00) > 0 && !(in.flags & INSN_FLAT));
	/* CS may be read but not written: the check is left to seg_linear() */
	CHECK(t, DECODE(&in, MODE_32 | MODE_FLAT, 0x2e, 0x8b, 0x00) > 0 && !(in.flags & INSN_FLAT));
	CHECK(t, DECODE(&in, MODE_32 | MODE_FLAT, 0x67, 0x8b, 0x07) > 0 && !(in.flags & INSN_FLAT));
	CHECK(t, DECODE(&in, MODE_32 | MODE_REAL | MODE_FLAT, 0x8b, 0x00) > 0 &&
			 !(in.flags & INSN_FLAT));
}

static void test_modes(struct test *t)
{
	struct insn in;

	CHECK_EQ(t, DECODE(&in, MODE_64, 0x27), DECODE_UD);
	CHECK_EQ(t, DECODE(&in, MODE_32, 0x27), 1);
	CHECK_EQ(t, DECODE(&in, MODE_32, 0x0f, 0x01, 0xf8), DECODE_UD);             /* swapgs */
	CHECK_EQ(t, DECODE(&in, MODE_16 | MODE_REAL, 0x0f, 0x00, 0xd0), DECODE_UD); /* lldt */
	CHECK_EQ(t, DECODE(&in, MODE_32, 0x0f, 0x00, 0xd0), 3);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x0f, 0x22, 0xc8), DECODE_UD); /* cr1 */
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x8e, 0xc8), DECODE_UD);       /* mov cs */
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x8e, 0xf0), DECODE_UD);       /* segment 6 */
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x66, 0xe8, 0, 0, 0, 0), 6);   /* call: 66 ignored */
	CHECK_EQ(t, in.imm, 0x1006);
	CHECK_EQ(t, DECODE(&in, MODE_32, 0x66, 0xe8, 0, 0xf0), 4);
	CHECK_EQ(t, in.imm, 0x0004); /* 1004 + f000, 16 bits */
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x8b, 0x05, 0x10, 0, 0, 0), 6);
	CHECK(t, (in.flags & INSN_RIPREL) && in.disp == 0x1016 && in.base == GPR_ZERO);
	CHECK_EQ(t, DECODE(&in, MODE_64, 0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1), DECODE_UD); /* EVEX */
}

static void test_text(struct test *t)
{
	static const struct {
		enum insn_mode mode;
		uint8_t bytes[12];
		const char *text;
	} rows[] = {
		{ MODE_64,
		  { 0x48, 0x01, 0x44, 0x88, 0x10 },
		  "add qword ptr [rax+rcx*4+0x10], rax" },
		{ MODE_64, { 0x83, 0xc0, 0xff }, "add eax, 0xffffffff" },
		{ MODE_64, { 0xf0, 0x0f, 0xb1, 0x0a }, "lock cmpxchg dword ptr [rdx], ecx" },
		{ MODE_64,
		  { 0xf3, 0x48, 0xa5 },
		  "rep movs qword ptr es:[rdi], qword ptr ds:[rsi]" },
		{ MODE_64, { 0x65, 0x48, 0x8b, 0x04, 0x25, 0x28 }, "mov rax, qword ptr gs:[0x28]" },
		{ MODE_64, { 0xeb, 0xfe }, "jmp 0x1000" },
		{ MODE_64, { 0x41, 0x88, 0xe7 }, "mov r15b, spl" },
		{ MODE_64, { 0x88, 0xe7 }, "mov bh, ah" },
		{ MODE_64, { 0xc8, 0x10, 0x00, 0x03 }, "enter 0x10, 0x3" },
		{ MODE_64, { 0xc5, 0xf4, 0x58, 0x07 }, "vaddps ymm0, ymm1, ymmword ptr [rdi]" },
		{ MODE_64,
		  { 0xc4, 0xe2, 0x6d, 0x92, 0x04, 0x88 },
		  "vgatherdps ymm0, dword ptr [rax+ymm1*4], ymm2" },
		{ MODE_64, { 0x0f, 0xef, 0xc1 }, "pxor mm0, mm1" },
		{ MODE_64, { 0xd8, 0xc3 }, "fadd st, st(3)" },
		{ MODE_64, { 0xdb, 0x28 }, "fld tbyte ptr [rax]" },
		{ MODE_64, { 0x0f, 0x22, 0xd8 }, "mov cr3, rax" },
		{ MODE_64, { 0x8e, 0xd8 }, "mov ds, ax" },
		{ MODE_64, { 0xd1, 0xe0 }, "shl eax, 1" },
		{ MODE_16, { 0x8b, 0x40, 0xfe }, "mov ax, word ptr [bx+si-0x2]" },
		{ MODE_32, { 0xea, 1, 2, 3, 4, 5, 6 }, "ljmp 0x605:0x4030201" },
		{ MODE_32, { 0xa1, 0xf0, 0xff, 0xff, 0xff }, "mov eax, dword ptr [0xfffffff0]" },
		{ MODE_64, { 0x06 }, "(bad)" },
	};
	char buf[80];

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		insn_disassemble(rows[i].bytes, sizeof(rows[i].bytes), 0x1000, rows[i].mode, buf,
				 sizeof(buf));
		CHECK_STR(t, buf, rows[i].text);
	}
	memset(buf, '#', sizeof(buf));
	insn_disassemble(rows[0].bytes, 12, 0, MODE_64, buf, 5);
	CHECK_STR(t, buf, "add ");
	CHECK_EQ(t, buf[5], '#');
}

static const struct test_case cases[] = {
	{ "cut instructions", test_cut },
	{ "too long instructions", test_too_long },
	{ "LOCK", test_lock },
	{ "VEX", test_vex_rules },
	{ "order of prefixes", test_prefix_order },
	{ "byte registers", test_byte_registers },
	{ "flat addresses", test_flat },
	{ "modes", test_modes },
	{ "text", test_text },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
