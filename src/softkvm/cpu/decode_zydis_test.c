/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoder against Zydis: all opcodes of all maps with the prefixes that
 * matter, all ModRM bytes, all modes, then random bytes. Compared are validity, length,
 * mnemonic, memory operand, registers, immediates, operand size. Every difference must be one
 * of those that are explained here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "base/test.h"
#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/rows.h"

#define RIP         0x1000u
#define RANDOM_RUNS 2000000u

struct pair {
	struct insn in;
	int ours; /* length or DECODE_* */
	bool valid;
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	const uint8_t *bytes;
	unsigned mode;
};

static ZydisDecoder decoders[3]; /* by MODE_16, MODE_32, MODE_64 */

static void differ(struct test *t, const struct pair *p, const char *what, uint64_t ours,
		   uint64_t theirs)
{
	char text[3 * INSN_BYTES_MAX + 1];

	for (unsigned i = 0; i < INSN_BYTES_MAX; i++) {
		snprintf(text + 3 * i, sizeof(text) - 3 * i, "%02x ", p->bytes[i]);
	}
	if (!t->failed) {
		test_fail(t, __FILE__, __LINE__,
			  "%s (%s), mode %u: 0x%" PRIx64 ", Zydis 0x%" PRIx64 ": %s", what,
			  p->valid ? ZydisMnemonicGetString(p->zi.mnemonic) : "invalid", p->mode,
			  ours, theirs, text);
	}
}

/* --- explained differences ------------------------------------------------------------------- */
/* Extensions that this processor does not have: #UD here. */
static bool is_lacking(const struct pair *p)
{
	static const char *const lacking[] = {
		"AMD3DNOW",  "AMD_INVLPGB", "AMX_BF16",  "AMX_INT8",
		"AMX_TILE",  "AVX512EVEX",  "AVX512VEX", "AVX_VNNI",
		"CET",       "CLZERO",      "ENQCMD",    "FMA4",
		"GFNI",      "HRESET",      "KEYLOCKER", "KEYLOCKER_WIDE",
		"KNC",       "KNCE",        "KNCV",      "MCOMMIT",
		"MONITORX",  "MOVDIR",      "PADLOCK",   "PCONFIG",
		"PKU",       "PT",          "RDPRU",     "RTM",
		"SERIALIZE", "SGX",         "SGX_ENCLV", "SMX",
		"SNP",       "SSE4A",       "SVM",       "TBM",
		"TDX",       "TSX_LDTRK",   "UINTR",     "VAES",
		"VMFUNC",    "VPCLMULQDQ",  "VTX",       "WAITPKG",
		"XOP",       "XSAVES",
	};
	const char *ext = ZydisISAExtGetString(p->zi.meta.isa_ext);

	for (unsigned i = 0; i < ARRAY_SIZE(lacking); i++) {
		if (!strcmp(ext, lacking[i])) {
			return true;
		}
	}
	/* 0F 0D with a register: a NOP for Intel, #UD for AMD and here */
	return p->zi.mnemonic == ZYDIS_MNEMONIC_NOP && p->zi.opcode == 0x0d;
}

/* Names that differ by operand size here and not there, or the other way round. */
static bool same_name(const struct pair *p)
{
	static const char *const families[] = {
		"ins",     "outs",  "movs",   "cmps",     "stos",   "lods",     "scas",
		"pusha",   "popa",  "pushf",  "popf",     "iret",   "prefetch", "fxsave",
		"fxrstor", "xsave", "xrstor", "xsaveopt", "xsavec", "fstp",
	};
	static const char *const twins[][2] = {
		{ "lcall", "call" },
		{ "ljmp", "jmp" },
		{ "lret", "ret" },
		{ "jcxz", "jecxz" },
		{ "jcxz", "jrcxz" },
		{ "cbw", "cwde" },
		{ "cbw", "cdqe" },
		{ "cwd", "cdq" },
		{ "cwd", "cqo" },
		{ "fneni", "feni8087_nop" },
		{ "fndisi", "fdisi8087_nop" },
		{ "fnsetpm", "fsetpm287_nop" },
	};
	const char *a = op_mnemonic(p->in.op), *b = ZydisMnemonicGetString(p->zi.mnemonic);

	if (!strcmp(a, b)) {
		return true;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(twins); i++) {
		if (!strcmp(a, twins[i][0]) && !strcmp(b, twins[i][1])) {
			return true;
		}
	}
	for (unsigned i = 0; i < ARRAY_SIZE(families); i++) {
		if (!strcmp(a, families[i])) {
			return !strncmp(a, b, strlen(a));
		}
	}
	return false;
}

/* Sizes that are told otherwise: LEA reads nothing, areas of variable size, cache lines. */
static bool size_differs(const struct pair *p)
{
	switch (p->in.op) {
	case OP_LEA:
	case OP_FXSAVE:
	case OP_FXRSTOR:
	case OP_XSAVE:
	case OP_XRSTOR:
	case OP_XSAVEOPT:
	case OP_XSAVEC:
	case OP_CLFLUSH:
	case OP_CLFLUSHOPT:
	case OP_CLWB:
	case OP_UD0:
	case OP_UD1:
		return true;
	default:
		return false;
	}
}

/* --- comparison ----------------------------------------------------------------------------------
 */
static unsigned gpr_or_zero(ZydisRegister r)
{
	if (r == ZYDIS_REGISTER_NONE || r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP) {
		return GPR_ZERO;
	}
	return (unsigned)ZydisRegisterGetId(r);
}

static bool is_string(const struct insn *in)
{
	return in->mem_size && !(in->flags & INSN_MEM);
}

static void compare_mem(struct test *t, const struct pair *p, const ZydisDecodedOperand *o)
{
	const struct insn *in = &p->in;
	int64_t disp = in->disp, want = o->mem.disp.value;

	if (!size_differs(p) && in->mem_size * 8u != o->size) {
		differ(t, p, "memory size", in->mem_size, o->size / 8);
	}
	if (in->asz * 8u != p->zi.address_width) {
		differ(t, p, "address size", in->asz, p->zi.address_width / 8);
	}
	if (is_string(in)) {
		return;
	}
	if (!(in->flags & INSN_MEM)) {
		differ(t, p, "memory", 0, 1);
	}
	if (in->base != gpr_or_zero(o->mem.base) || in->index != gpr_or_zero(o->mem.index)) {
		differ(t, p, "base and index", in->base << 8 | in->index, 0);
	}
	if (o->mem.index != ZYDIS_REGISTER_NONE && o->mem.scale && BIT(in->scale) != o->mem.scale) {
		differ(t, p, "scale", BIT(in->scale), o->mem.scale);
	}
	disp -= in->flags & INSN_RIPREL ? (int64_t)RIP + p->ours : 0;
	if (in->asz < 8 && p->zi.raw.modrm.offset == 0) { /* moffs: unsigned here */
		want &= in->asz == 4 ? 0xffffffff : 0xffff;
	}
	if (disp != want) {
		differ(t, p, "displacement", (uint64_t)disp, (uint64_t)want);
	}
	if (in->op != OP_LEA && in->seg != (unsigned)(o->mem.segment - ZYDIS_REGISTER_ES)) {
		differ(t, p, "segment", in->seg, o->mem.segment - ZYDIS_REGISTER_ES);
	}
}

static void compare_imm(struct test *t, const struct pair *p, const ZydisDecodedOperand *o,
			unsigned nth)
{
	const struct insn *in = &p->in;
	uint64_t ours = in->op == OP_ENTER && nth == 1 ? in->imm2 : in->imm, want = o->imm.value.u;
	uint64_t mask = o->size >= 64 ? UINT64_MAX : BIT64(o->size) - 1;

	if (in->opcode == 0xd0 || in->opcode == 0xd1) {
		return; /* shifts by 1 show it as an immediate */
	}
	if (o->imm.is_relative) {
		want += RIP + (unsigned)p->ours;
		mask = in->osz == 8 ? UINT64_MAX : BIT64(in->osz * 8) - 1;
		if (ours & ~mask) {
			differ(t, p, "target not truncated", ours, want);
		}
	}
	if ((ours ^ want) & mask) {
		differ(t, p, "immediate", ours, want);
	}
}

/* Zydis' register as struct insn numbers it. */
static unsigned reg_number(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH) {
		return (unsigned)(r - ZYDIS_REGISTER_AH) * 8 + 1;
	}
	if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_BL) {
		return (unsigned)(r - ZYDIS_REGISTER_AL) * 8;
	}
	if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B) {
		return (unsigned)(r - ZYDIS_REGISTER_SPL + 4) * 8;
	}
	return (unsigned)ZydisRegisterGetId(r);
}

static void compare_reg(struct test *t, const struct pair *p, const ZydisDecodedOperand *o)
{
	const struct insn *in = &p->in;
	unsigned want = reg_number(o->reg.value), ours;

	switch (o->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		ours = in->reg;
		break;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		ours = in->rm;
		break;
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		ours = in->vvvv;
		break;
	case ZYDIS_OPERAND_ENCODING_IS4:
		ours = in->is4;
		break;
	default:
		return;
	}
	if (ours != want) {
		differ(t, p, "register", ours, want);
	}
}

/* Where the operand size is the size of the first operand. */
static void compare_osz(struct test *t, const struct pair *p)
{
	const struct opnd_info *o = &opnd_infos[row_get(p->in.row).row->opnd[0]];
	bool by_osz = (o->kind == OK_E || o->kind == OK_G || o->kind == OK_Z) &&
		      (o->reg_size == OS_V || o->reg_size == OS_B || o->reg_size == OS_Y);

	if (op_group(p->in.op) != OPG_INT || !by_osz || p->in.op == OP_CRC32 || size_differs(p) ||
	    p->in.op == OP_NOP) {
		return;
	}
	if (p->op[0].size / 8 != p->in.osz) {
		differ(t, p, "operand size", p->in.osz, p->op[0].size / 8);
	}
}

static void compare_operands(struct test *t, const struct pair *p)
{
	for (unsigned i = 0; i < p->zi.operand_count_visible; i++) {
		const ZydisDecodedOperand *o = &p->op[i];

		if (o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
			continue;
		}
		switch (o->type) {
		case ZYDIS_OPERAND_TYPE_MEMORY:
			compare_mem(t, p, o);
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			compare_imm(t, p, o, i);
			break;
		case ZYDIS_OPERAND_TYPE_REGISTER:
			compare_reg(t, p, o);
			break;
		default:
			break;
		}
	}
}

static void compare(struct test *t, const uint8_t *bytes, enum insn_mode mode, bool sizes)
{
	struct pair p = { .bytes = bytes, .mode = mode };

	p.ours = insn_decode(bytes, INSN_BYTES_MAX, RIP, mode, &p.in);
	p.valid = ZYAN_SUCCESS(
		ZydisDecoderDecodeFull(&decoders[mode], bytes, INSN_BYTES_MAX, &p.zi, p.op));
	if (!p.valid || p.ours < 0) {
		if (p.ours > 0) {
			differ(t, &p, "valid", (uint64_t)p.ours, 0);
		} else if (p.valid && !is_lacking(&p)) {
			differ(t, &p, "invalid", 0, p.zi.length);
		}
		return;
	}
	if (p.ours != p.zi.length) {
		differ(t, &p, "length", (uint64_t)p.ours, p.zi.length);
	} else if (!same_name(&p)) {
		differ(t, &p, op_mnemonic(p.in.op), 0, 0);
	} else {
		compare_operands(t, &p);
	}
	if (sizes) {
		compare_osz(t, &p);
	}
}

/* --- what is compared
 * -------------------------------------------------------------------------------- */
static const uint8_t tail[] = { 0x94, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x81, 0x92 };

static void init_decoders(void)
{
	static const ZydisDecoderMode off[] = {
		ZYDIS_DECODER_MODE_MPX,
		ZYDIS_DECODER_MODE_CET,
		ZYDIS_DECODER_MODE_CLDEMOTE,
		ZYDIS_DECODER_MODE_WBNOINVD,
	};

	ZydisDecoderInit(&decoders[MODE_16], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	ZydisDecoderInit(&decoders[MODE_32], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&decoders[MODE_64], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (unsigned m = 0; m < 3; m++) {
		for (unsigned i = 0; i < ARRAY_SIZE(off); i++) {
			ZydisDecoderEnableMode(&decoders[m], off[i], ZYAN_FALSE);
		}
	}
}

static void compare_modrms(struct test *t, const uint8_t *head, unsigned n, enum insn_mode mode)
{
	uint8_t bytes[INSN_BYTES_MAX + sizeof(tail)];

	for (unsigned modrm = 0; modrm < 256 && !t->failed; modrm++) {
		memcpy(bytes, head, n);
		bytes[n] = (uint8_t)modrm;
		memcpy(bytes + n + 1, tail, sizeof(tail));
		compare(t, bytes, mode, modrm % 64 == 3);
	}
}

static void test_legacy(struct test *t)
{
	static const struct {
		uint8_t count, bytes[2];
	} prefixes[] = {
		{ 0, { 0 } },          { 1, { 0x66 } },       { 1, { 0xf3 } },
		{ 1, { 0xf2 } },       { 2, { 0x66, 0xf3 } }, { 2, { 0x66, 0xf2 } },
		{ 1, { 0xf0 } },       { 1, { 0x67 } },       { 1, { 0x48 } },
		{ 1, { 0x47 } },       { 1, { 0x4f } },       { 2, { 0x66, 0x48 } },
		{ 2, { 0xf3, 0x4d } }, { 2, { 0x65, 0x41 } }, { 1, { 0x2e } },
		{ 2, { 0x67, 0x66 } }, { 2, { 0xf3, 0xf2 } }, { 2, { 0x40, 0x66 } },
		{ 2, { 0xf0, 0x48 } },
	};
	static const uint8_t maps[][3] = {
		{ 0 }, { 1, 0x0f }, { 2, 0x0f, 0x38 }, { 2, 0x0f, 0x3a }
	};

	init_decoders();
	for (unsigned i = 0; i < 3 * ARRAY_SIZE(prefixes) * ARRAY_SIZE(maps); i++) {
		enum insn_mode mode = i % 3;
		const uint8_t *map = maps[i / 3 % ARRAY_SIZE(maps)];
		unsigned p = i / 3 / ARRAY_SIZE(maps), n = prefixes[p].count + map[0];
		uint8_t head[8];

		memcpy(head, prefixes[p].bytes, prefixes[p].count);
		memcpy(head + prefixes[p].count, map + 1, map[0]);
		for (unsigned opcode = 0; opcode < 256 && !t->failed; opcode++) {
			head[n] = (uint8_t)opcode;
			if (map[0] || opcode != 0x62) { /* EVEX has payloads of its own */
				compare_modrms(t, head, n + 1, mode);
			}
		}
	}
}

static void test_vex(struct test *t)
{
	init_decoders();
	for (unsigned i = 0; i < 3 * 3 * 256 && !t->failed; i++) {
		enum insn_mode mode = i % 3;
		uint8_t b1 = (uint8_t)(1 + i / 3 % 3), b2 = (uint8_t)(i / 9);

		/* all of W, vvvv, L, pp; R, X and B vary with them */
		b1 |= mode == MODE_64 ? (uint8_t)(b2 * 0x20) : 0xc0;
		for (unsigned opcode = 0; opcode < 256 && !t->failed; opcode++) {
			uint8_t bytes[INSN_BYTES_MAX + sizeof(tail)] = { 0xc4, b1, b2,
									 (uint8_t)opcode };

			memcpy(bytes + 5, tail, sizeof(tail));
			for (unsigned modrm = b2 & 7; modrm < 256; modrm += 11) {
				bytes[4] = (uint8_t)modrm;
				compare(t, bytes, mode, false);
			}
		}
	}
}

static void test_random(struct test *t)
{
	uint64_t seed = 0x1d872b41;

	init_decoders();
	for (unsigned i = 0; i < RANDOM_RUNS && !t->failed; i++) {
		uint8_t bytes[16];

		for (unsigned k = 0; k < 2; k++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			store_le64(bytes + 8 * k, seed);
		}
		if (i % 8 == 0) {
			bytes[0] = i % 16 ? 0xc4 : 0xc5;
		}
		compare(t, bytes, i % 3, false);
	}
}

static const struct test_case cases[] = {
	{ "legacy encodings", test_legacy },
	{ "VEX encodings", test_vex },
	{ "random bytes", test_random },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
