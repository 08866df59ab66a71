/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes the cases of difftest.h: for a row random legal encodings, and values
 * with a bias to corners.
 */
#include "softkvm/cpu/difftest.h"

#include <cpuid.h>

#include "softkvm/cpu/simd_int.h"

uint64_t dt_random(struct dt_rng *r)
{
	r->s ^= r->s >> 12;
	r->s ^= r->s << 25;
	r->s ^= r->s >> 27;
	return r->s * 0x2545f4914f6cdd1dull;
}

unsigned dt_below(struct dt_rng *r, unsigned n)
{
	return (unsigned)((dt_random(r) >> 32) * n >> 32);
}

bool dt_chance(struct dt_rng *r, unsigned percent)
{
	return dt_below(r, 100) < percent;
}

void dt_window_fill(uint8_t *window, uint8_t *window_ro)
{
	struct dt_rng rng = { 0x1234567 };

	for (unsigned i = 0; i < DT_WINDOW_BYTES; i += 8) {
		store_le64(window + i, dt_random(&rng));
	}
	for (unsigned i = 0; i < DT_PAGE; i += 8) {
		store_le64(window_ro + i, dt_random(&rng));
	}
}

static bool allow_32bit = true;

void dt_allow_32bit(bool allowed)
{
	allow_32bit = allowed;
}

/* --- which rows ------------------------------------------------------------------------------ */

struct host_bit {
	uint8_t feature;
	uint32_t leaf;
	uint8_t reg, bit; /* 0 EAX .. 3 EDX */
};

static const struct host_bit host_bits[] = {
	{ RF_POPCNT, 1, 2, 23 },     { RF_LZCNT, 0x80000001, 2, 5 }, { RF_BMI1, 7, 1, 3 },
	{ RF_BMI2, 7, 1, 8 },        { RF_ADX, 7, 1, 19 },           { RF_MOVBE, 1, 2, 22 },
	{ RF_SSE3, 1, 2, 0 },        { RF_SSSE3, 1, 2, 9 },          { RF_SSE41, 1, 2, 19 },
	{ RF_SSE42, 1, 2, 20 },      { RF_AES, 1, 2, 25 },           { RF_PCLMUL, 1, 2, 1 },
	{ RF_SHA, 7, 1, 29 },        { RF_AVX, 1, 2, 28 },           { RF_AVX2, 7, 1, 5 },
	{ RF_FMA, 1, 2, 12 },        { RF_F16C, 1, 2, 29 },          { RF_CX16, 1, 2, 13 },
	{ RF_XSAVE, 1, 2, 27 },      { RF_XSAVEOPT, 0xd, 0, 0 },     { RF_XSAVEC, 0xd, 0, 1 },
	{ RF_CLFLUSHOPT, 7, 1, 23 }, { RF_CLWB, 7, 1, 24 },
};

static bool feature_missing(const struct row *row)
{
	for (unsigned i = 0; i < ARRAY_SIZE(host_bits); i++) {
		const struct host_bit *h = &host_bits[i];
		uint32_t r[4] = { 0 };

		if (h->feature == row_feature(row)) {
			return !__get_cpuid_count(h->leaf, h->leaf == 0xd, &r[0], &r[1], &r[2],
						  &r[3]) ||
			       !(r[h->reg] & BIT(h->bit));
		}
	}
	return false;
}

/* VEX forms need the AVX state too, and those of AES and CLMUL both features. */
static bool vector_missing(const struct row_ref *ref)
{
	uint64_t have = fpu_host_features();
	unsigned op = ref->row->op;

	return ref->vex && (ref->row->kinds & (BIT64(OK_V) | BIT64(OK_H))) &&
	       (!(have & FPUF_AVX) ||
		(op >= OP_VAESIMC && op <= OP_VAESKEYGENASSIST && !(have & FPUF_AES)) ||
		(op == OP_VPCLMULQDQ && !(have & FPUF_PCLMUL)));
}

const char *dt_row_excluded(const struct row_ref *ref)
{
	enum op_group group = op_group(ref->row->op);

	if (group == OPG_SYS) {
		return "system instruction: guest tests";
	}
	if ((ref->row->flags & ROW_NO64) && !allow_32bit) {
		return "this kernel runs no 32-bit code";
	}
	if (ref->row->flags & ROW_PRIV) {
		return "privileged";
	}
	if (feature_missing(ref->row) || vector_missing(ref)) {
		return "this machine lacks it";
	}
	switch (ref->row->op) {
	case OP_RDRAND:
	case OP_RDSEED:
		return "random results";
	case OP_XSAVEOPT:
	case OP_XSAVEC:
		return "depends on the processor's tracking: own tests";
	default:
		return NULL;
	}
}

/* --- values ------------------------------------------------------------------------------------
 */

static uint64_t random_int(struct dt_rng *r)
{
	static const uint64_t corners[] = {
		0,
		1,
		2,
		~0ull,
		0x7f,
		0x80,
		0xff,
		0x7fff,
		0x8000,
		0xffff,
		0x7fffffff,
		0x80000000,
		0xffffffff,
		0x7fffffffffffffff,
		0x8000000000000000,
		0x0123456789abcdef,
		63,
		31,
		32,
		64,
	};

	switch (dt_below(r, 4)) {
	case 0:
		return corners[dt_below(r, ARRAY_SIZE(corners))];
	case 1:
		return dt_below(r, 256);
	default:
		return dt_random(r);
	}
}

static uint32_t random_f32(struct dt_rng *r)
{
	static const uint32_t corners[] = {
		0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000,
		0x7fc00000, 0x7f800001, 0xffc12345, 0x00000001, 0x807fffff, 0x00800000,
		0x7f7fffff, 0x4f000000, 0xcf000000, 0x5f000000, 0x3f000000, 0x40490fdb,
	};

	if (dt_chance(r, 50)) {
		return corners[dt_below(r, ARRAY_SIZE(corners))];
	}
	/* exponents near 1: sums and products that stay finite */
	return dt_chance(r, 50)
		       ? (uint32_t)dt_random(r)
		       : ((uint32_t)dt_random(r) & 0x807fffff) | (0x70 + dt_below(r, 32)) << 23;
}

static uint64_t random_f64(struct dt_rng *r)
{
	static const uint64_t corners[] = {
		0,
		0x8000000000000000,
		0x3ff0000000000000,
		0xbff0000000000000,
		0x7ff0000000000000,
		0xfff0000000000000,
		0x7ff8000000000000,
		0x7ff0000000000001,
		0xfff8000000012345,
		0x0000000000000001,
		0x800fffffffffffff,
		0x0010000000000000,
		0x7fefffffffffffff,
		0x41e0000000000000,
		0xc3e0000000000000,
		0x3fe0000000000000,
		0x36a0000000000000,
	};

	if (dt_chance(r, 50)) {
		return corners[dt_below(r, ARRAY_SIZE(corners))];
	}
	return dt_chance(r, 50) ? dt_random(r)
				: (dt_random(r) & 0x800fffffffffffff) |
					  (uint64_t)(0x3f0 + dt_below(r, 32)) << 52;
}

/* The eight kinds of 80-bit values, pseudo-denormals and unnormals too. */
static void random_f80(struct dt_rng *r, uint8_t out[10])
{
	uint64_t mantissa = dt_random(r) | BIT64(63);
	uint16_t exponent = (uint16_t)((0x3ff0 + dt_below(r, 32)) | (dt_below(r, 2) << 15));

	switch (dt_below(r, 10)) {
	case 0:
		mantissa = 0;
		exponent &= 0x8000;
		break;
	case 1:
		mantissa = BIT64(63);
		exponent |= 0x7fff;
		break;
	case 2:
		exponent |= 0x7fff;
		break;
	case 3:
		mantissa &= ~BIT64(63);
		exponent &= 0x8000;
		break;
	case 4:
		exponent &= 0x8000;
		break;
	case 5:
		mantissa &= ~BIT64(63);
		break;
	case 6:
		exponent = (uint16_t)dt_random(r);
		break;
	case 7:
		mantissa = BIT64(63);
		exponent = 0x3fff;
		break;
	default:
		break;
	}
	store_le64(out, mantissa);
	store_le16(out + 8, exponent);
}

/* 32 bytes of one kind, for a vector or an operand in memory. */
static void random_vector(struct dt_rng *r, uint8_t out[32])
{
	unsigned kind = dt_below(r, 6);

	for (unsigned i = 0; i < 32; i += 8) {
		switch (kind) {
		case 0:
		case 1:
			store_le64(out + i, random_f64(r));
			break;
		case 2:
		case 3:
			store_le32(out + i, random_f32(r));
			store_le32(out + i + 4, random_f32(r));
			break;
		case 4:
			store_le64(out + i, random_int(r));
			break;
		default:
			store_le64(out + i, dt_random(r));
			break;
		}
	}
	if (dt_chance(r, 20)) {
		random_f80(r, out);
	}
}

static uint32_t random_mxcsr(struct dt_rng *r)
{
	uint32_t v = MXCSR_INIT;

	if (dt_chance(r, 50)) {
		v |= (uint32_t)dt_random(r) & 0xe040; /* rounding, FTZ, DAZ */
		v |= (uint32_t)dt_random(r) & 0x3f;
	}
	if (dt_chance(r, 15)) {
		v &= ~((uint32_t)dt_random(r) & MXCSR_MASKS);
	}
	return v;
}

static void random_x87(struct dt_rng *r, uint8_t *x)
{
	uint16_t fcw = FCW_INIT, fsw = 0;

	if (dt_chance(r, 60)) {
		static const uint16_t precision[] = { 0x000, 0x200, 0x300, 0x300 };

		fcw = (uint16_t)(0x7f | precision[dt_below(r, 4)] | dt_below(r, 4) << 10);
		fsw = (uint16_t)(dt_random(r) & 0x477f) | (uint16_t)(dt_below(r, 8) << 11);
		fsw |= fsw & 0x40 && !(fsw & 1) ? 1 : 0;
	}
	if (dt_chance(r, 10)) {
		fcw &= (uint16_t) ~(dt_random(r) & FCW_MASKS);
		if (dt_chance(r, 60)) {
			fsw &= 0x7f00;
		}
	}
	if (fsw & ~fcw & FCW_MASKS) {
		fsw |= FSW_ES | FSW_BUSY;
	}
	store_le16(x + FXS_FCW, fcw);
	store_le16(x + FXS_FSW, fsw);
	x[FXS_FTW] = dt_chance(r, 70) ? 0xff : (uint8_t)dt_random(r);
	for (unsigned i = 0; i < 8; i++) {
		random_f80(r, x + FXS_ST + i * 16);
	}
}

static void random_fpu(struct dt_rng *r, uint8_t *x)
{
	memset(x, 0, XS_SIZE);
	random_x87(r, x);
	store_le32(x + FXS_MXCSR, random_mxcsr(r));
	for (unsigned i = 0; i < 16; i++) {
		uint8_t v[32];

		random_vector(r, v);
		memcpy(x + FXS_XMM + i * 16, v, 16);
		memcpy(x + XS_AVX + i * 16, v + 16, 16);
	}
	if (!(fpu_xcr0_supported() & XFEATURE_AVX)) {
		memset(x + XS_AVX, 0, XS_AVX_SIZE);
	}
	store_le64(x + XS_HEADER, fpu_xcr0_supported());
}

/* --- where memory operands lie -----------------------------------------------------------------
 */

/* Mostly inside the window; sometimes across its middle, its ends, misaligned, read-only, nowhere.
 */
static uint64_t random_place(struct dt_rng *r, unsigned size)
{
	static const uint64_t wild[] = { 0,
					 0x7ffffffff000,
					 0x800000000000,
					 0xffff7fffffffffff,
					 0xfffffffffffffff8,
					 0x8000000000000000,
					 0x30000000 };
	unsigned room = size < DT_WINDOW_BYTES ? DT_WINDOW_BYTES - size : 1;

	switch (dt_below(r, 16)) {
	case 0:
		return DT_WINDOW + DT_PAGE - dt_below(r, size ? size + 1 : 8);
	case 1:
		return DT_WINDOW + DT_WINDOW_BYTES - dt_below(r, size + 1);
	case 2:
		return DT_WINDOW - dt_below(r, size + 1);
	case 3:
		return DT_WINDOW_RO + dt_below(r, DT_PAGE - 64);
	case 4:
		return dt_chance(r, 30) ? wild[dt_below(r, ARRAY_SIZE(wild))]
					: DT_WINDOW + dt_below(r, room);
	case 5:
	case 6:
		return DT_WINDOW + dt_below(r, room);
	default:
		return (DT_WINDOW + dt_below(r, room)) & ~63ull;
	}
}

static bool in_window(uint64_t at, unsigned size)
{
	return range_within(at - DT_WINDOW, size, DT_WINDOW_BYTES) ||
	       range_within(at - DT_WINDOW_RO, size, DT_PAGE);
}

/* --- encoding ------------------------------------------------------------------------------------
 */

struct enc {
	struct dt_rng *r;
	struct dt_case *c;
	struct row_ref ref;
	uint64_t place; /* where the memory operand shall be */
	unsigned mem_size;
	uint8_t rex; /* low four bits */
	bool asz, osz, mem, gs;
	unsigned regs; /* 16, in 32-bit mode 8 */
	uint8_t modrm, sib;
	bool has_sib;
	unsigned disp_size;
	int32_t disp;
	uint8_t vvvv;
};

static void put(struct dt_case *c, uint8_t b)
{
	if (c->len < sizeof(c->code) - 1) {
		c->code[c->len++] = b;
	}
}

static void put_num(struct dt_case *c, uint64_t v, unsigned size)
{
	for (unsigned i = 0; i < size; i++) {
		put(c, (uint8_t)(v >> 8 * i));
	}
}

static enum opnd_kind kind_of(const struct enc *e, unsigned i)
{
	return opnd_infos[e->ref.row->opnd[i]].kind;
}

static bool has_kind(const struct enc *e, enum opnd_kind kind)
{
	return e->ref.row->kinds & BIT64(kind);
}

static void set_reg(struct enc *e, unsigned n, unsigned rex_bit)
{
	e->rex &= (uint8_t) ~(1u << rex_bit);
	e->rex |= (uint8_t)((n >> 3) << rex_bit);
}

/* A base register without help: point it at place - disp - index. */
static void aim(struct enc *e, unsigned base, uint64_t sum)
{
	e->c->in.gpr[base] = e->place - (e->gs ? e->c->in.gs_base : 0) - sum;
	if (e->asz && dt_chance(e->r, 50)) {
		e->c->in.gpr[base] |= dt_random(e->r) << 32;
	}
}

static int32_t random_disp(struct enc *e)
{
	switch (dt_below(e->r, 3)) {
	case 0:
		e->disp_size = 0;
		return 0;
	case 1:
		e->disp_size = 1;
		return (int8_t)dt_random(e->r);
	default:
		e->disp_size = 4;
		return (int32_t)dt_random(e->r) >> dt_below(e->r, 20);
	}
}

static void modrm_vsib(struct enc *e)
{
	unsigned base = dt_below(e->r, e->regs), index = dt_below(e->r, e->regs),
		 scale = dt_below(e->r, 4);
	uint8_t *x = e->c->in.xsave;

	e->modrm |= 4;
	e->disp = random_disp(e);
	if (e->disp_size == 0 && (base & 7) == 5) {
		e->disp_size = 1;
	}
	e->modrm |= e->disp_size == 0 ? 0 : e->disp_size == 1 ? 0x40 : 0x80;
	e->has_sib = true;
	e->sib = (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7));
	set_reg(e, base, 0);
	set_reg(e, index, 1);
	aim(e, base, (uint64_t)(int64_t)e->disp);
	/* indexes that stay near, mostly */
	for (unsigned i = 0; i < 8 && dt_chance(e->r, 95); i++) {
		uint8_t *at = i < 4 ? x + FXS_XMM + index * 16 + i * 4
				    : x + XS_AVX + index * 16 + (i - 4) * 4;
		int32_t v = (int32_t)dt_below(e->r, 512) - 256;

		store_le32(at, dt_chance(e->r, 30) ? 0 : (uint32_t)v);
	}
	if (dt_chance(e->r, 50)) {
		for (unsigned i = 0; i < 4; i++) {
			uint8_t *at = i < 2 ? x + FXS_XMM + index * 16 + i * 8
					    : x + XS_AVX + index * 16 + (i - 2) * 8;

			store_le64(at, (uint64_t)((int64_t)dt_below(e->r, 512) - 256));
		}
	}
}

static void modrm_memory(struct enc *e)
{
	unsigned base = dt_below(e->r, e->regs), index = dt_below(e->r, e->regs),
		 scale = dt_below(e->r, 4);

	e->mem = true;
	if (has_kind(e, OK_VSIB)) {
		modrm_vsib(e);
		return;
	}
	if (dt_chance(e->r,
		      10)) { /* RIP-relative: the displacement is set when the length is known */
		e->modrm |= 5;
		e->disp_size = 4;
		e->disp = (int32_t)e->place; /* in 32-bit mode that is all */
		return;
	}
	e->disp = random_disp(e);
	if (dt_chance(e->r, 30) && (base & 7) != 4) {
		if (e->disp_size == 0 && (base & 7) == 5) {
			e->disp_size = 1;
		}
		e->modrm |= base & 7;
		set_reg(e, base, 0);
		aim(e, base, (uint64_t)(int64_t)e->disp);
	} else {
		uint64_t scaled;

		if (e->disp_size == 0 && (base & 7) == 5) {
			e->disp_size = 4;
			e->disp = 0x1000;
			base = 16; /* none: taken as absolute */
		}
		e->has_sib = true;
		e->modrm |= 4;
		e->sib = (uint8_t)(scale << 6 | (index & 7) << 3 | (base == 16 ? 5 : base & 7));
		set_reg(e, index, 1);
		if (base == 16) {
			e->disp = (int32_t)(e->place - (e->gs ? e->c->in.gs_base : 0));
			e->disp_size = 4;
			if (index != RSP) {
				e->c->in.gpr[index] = 0;
			}
			return;
		}
		set_reg(e, base, 0);
		if (index == base && index != RSP) {
			e->c->in.gpr[base] = 0; /* mostly a miss; scale and all */
			scaled = 0;
		} else {
			scaled = index == RSP ? 0 : e->c->in.gpr[index] << scale;
		}
		aim(e, base, (uint64_t)(int64_t)e->disp + scaled);
	}
	e->modrm |= e->disp_size == 0 ? 0 : e->disp_size == 1 ? 0x40 : 0x80;
}

static void choose_modrm(struct enc *e)
{
	const struct row *row = e->ref.row;
	unsigned reg = dt_below(e->r, e->regs);

	if (e->ref.modrm >= 0) {
		e->modrm = (uint8_t)e->ref.modrm;
		return;
	}
	if (e->ref.reg >= 0) {
		e->modrm = (uint8_t)(e->ref.reg << 3);
	} else {
		e->modrm = (uint8_t)((reg & 7) << 3);
		set_reg(e, reg, 2);
	}
	if (row_mem_only(row) ||
	    (row_mem_possible(row) && !row_reg_only(row) && dt_chance(e->r, 60))) {
		modrm_memory(e);
	} else {
		unsigned rm = dt_below(e->r, e->regs);

		e->modrm |= (uint8_t)(0xc0 | (rm & 7));
		set_reg(e, rm, 0);
	}
}

static void choose_width(struct enc *e)
{
	uint64_t f = e->ref.row->flags;

	if (f & (ROW_W1 | ROW_WY1)) {
		e->rex |= 8;
	} else if (!(f & (ROW_W0 | ROW_WY0)) && !e->c->m32 && dt_chance(e->r, 35)) {
		e->rex |= 8;
	}
	if (f & ROW_NOREXB) {
		e->rex &= (uint8_t)~1u;
	}
}

static void put_vex(struct enc *e)
{
	uint64_t f = e->ref.row->flags;
	unsigned l = f & ROW_L1 ? 1 : f & ROW_L0 ? 0 : dt_below(e->r, 2);
	unsigned pp = (f & ROW_PP_MASK) >= ROW_PP_NP && (f & ROW_PP_MASK) <= ROW_PP_F2
			      ? (unsigned)(f & ROW_PP_MASK) - 1
			      : 0;
	bool uses = has_kind(e, OK_H) || has_kind(e, OK_B);

	e->vvvv = uses ? (uint8_t)dt_below(e->r, e->regs) : 0;
	put(e->c, 0xc4);
	put(e->c, (uint8_t)((~e->rex & 7) << 5 | e->ref.map));
	put(e->c, (uint8_t)((e->rex & 8) << 4 | (~e->vvvv & 15) << 3 | l << 2 | pp));
}

static void put_legacy(struct enc *e)
{
	uint64_t f = e->ref.row->flags, pp = f & ROW_PP_MASK;
	bool osz = (pp == ROW_PP_ANY || pp == ROW_PP_N66) && dt_chance(e->r, 25) &&
		   !(f & ROW_FORCE64); /* 66 with near branches: AMD and Intel differ */

	e->osz = pp == ROW_PP_66 || osz;
	if (e->osz) {
		put(e->c, 0x66);
	} else if (pp == ROW_PP_F3 || pp == ROW_PP_F2) {
		put(e->c, pp == ROW_PP_F3 ? 0xf3 : 0xf2);
	} else if ((f & ROW_REP) && dt_chance(e->r, 50)) {
		put(e->c, dt_chance(e->r, 50) ? 0xf3 : 0xf2);
	}
	if ((f & ROW_LOCK) && dt_chance(e->r, e->mem ? 25 : 2)) {
		put(e->c, 0xf0);
	}
	if (!e->c->m32 && (e->rex || dt_chance(e->r, 20))) {
		put(e->c, 0x40 | e->rex);
	}
	if (e->ref.map > 0) {
		put(e->c, 0x0f);
	}
	if (e->ref.map > 1) {
		put(e->c, e->ref.map == 2 ? 0x38 : 0x3a);
	}
}

/* Bytes of immediates and such behind ModRM, by what the decoder will take from the letters. */
static unsigned immediate_size(const struct enc *e, unsigned i)
{
	struct insn in = { .osz = e->osz ? 2 : 4, .asz = e->asz || e->c->m32 ? 4 : 8 };
	const struct opnd_info *o = &opnd_infos[e->ref.row->opnd[i]];

	if (!e->ref.vex && (e->rex & 8)) {
		in.osz = 8;
	}
	switch (o->kind) {
	case OK_IMM:
	case OK_IMMS:
	case OK_REL:
		return opnd_size_bytes(o->mem_size, &in, e->c->m32 ? MODE_32 : MODE_64);
	case OK_L:
		return 1;
	case OK_OFF:
		return in.asz;
	default:
		return 0;
	}
}

static void put_immediates(struct enc *e)
{
	for (unsigned i = 0; i < 4; i++) {
		unsigned size = immediate_size(e, i);
		uint64_t v = random_int(e->r);

		if (kind_of(e, i) == OK_OFF) {
			v = e->place;
		} else if (kind_of(e, i) == OK_REL) {
			/* not into itself */
			v = dt_chance(e->r, 50) ? 16 + dt_below(e->r, 112)
						: -32ull - dt_below(e->r, 96);
		}
		put_num(e->c, v, size);
	}
}

/* --- memory contents and registers by operation
 * ------------------------------------------------------ */

static void patch_operand(struct enc *e)
{
	struct dt_case *c = e->c;
	unsigned n = e->mem_size ? e->mem_size : 32;

	if (!in_window(e->place, n) || dt_chance(e->r, 20)) {
		return;
	}
	c->patch_at = e->place;
	c->patch_len = MIN(n, DT_PATCH_MAX);
	for (unsigned i = 0; i < c->patch_len; i += 32) {
		uint8_t v[32];

		random_vector(e->r, v);
		memcpy(c->patch + i, v, MIN(32, c->patch_len - i));
	}
	if (e->mem_size == 10) {
		random_f80(e->r, c->patch);
		for (unsigned i = 0; i < 9 && dt_chance(e->r, 50); i++) { /* packed decimal */
			c->patch[i] = (uint8_t)(dt_below(e->r, 10) << 4 | dt_below(e->r, 10));
		}
	}
}

/* Legal images for FXRSTOR and XRSTOR, and sometimes illegal ones. */
static void patch_xsave(struct enc *e)
{
	struct dt_case *c = e->c;

	e->place &= ~63ull;
	if (!in_window(e->place, XS_SIZE)) {
		return;
	}
	c->patch_at = e->place;
	c->patch_len = XS_SIZE;
	random_fpu(e->r, c->patch);
	store_le64(c->patch + XS_HEADER, dt_below(e->r, 8) & fpu_xcr0_supported());
	if (dt_chance(e->r, 30)) {
		uint64_t comp = dt_below(e->r, 8) & fpu_xcr0_supported();

		store_le64(c->patch + XS_HEADER + 8, comp | BIT64(63));
		if (dt_chance(e->r, 80)) {
			store_le64(c->patch + XS_HEADER, comp & dt_random(e->r));
		}
	}
	if (dt_chance(e->r, 5)) {
		c->patch[XS_HEADER + dt_below(e->r, 24)] |= 8;
	}
	if (dt_chance(e->r, 5)) {
		c->patch[FXS_MXCSR + 3] = 1;
	}
}

static void code_pointer(struct enc *e)
{
	/* never into the instruction itself */
	uint64_t target = DT_CODE + dt_below(e->r, DT_CODE_OFFSET);

	for (unsigned i = 0; i < 16; i++) {
		if (i != RSP && i != RBP && dt_chance(e->r, 50)) {
			e->c->in.gpr[i] = target;
		}
	}
	e->c->patch_at = DT_WINDOW + (dt_random(e->r) & 0xff8);
	e->c->patch_len = 8;
	store_le64(e->c->patch, target);
	e->c->in.gpr[RSP] = e->c->patch_at;
	e->place = e->c->patch_at;
}

/* Registers that instructions use without saying so. Before ModRM is chosen. */
static void implicit_registers(struct enc *e)
{
	struct dt_state *in = &e->c->in;

	in->gpr[RSP] = DT_WINDOW + 0x800 + (dt_random(e->r) & 0x7f8);
	if (dt_chance(e->r, 5)) {
		in->gpr[RSP] = random_place(e->r, 8);
	}
	in->gpr[RBP] = DT_WINDOW + 0x800 + (dt_random(e->r) & 0x7f8);
	switch (e->ref.row->op) {
	case OP_MOVS:
	case OP_CMPS:
	case OP_STOS:
	case OP_LODS:
	case OP_SCAS:
	case OP_MASKMOVQ:
	case OP_MASKMOVDQU:
	case OP_VMASKMOVDQU:
		in->gpr[RSI] = random_place(e->r, 16);
		in->gpr[RDI] = dt_chance(e->r, 20) ? in->gpr[RSI] + dt_below(e->r, 32)
						   : random_place(e->r, 16);
		in->gpr[RCX] = dt_chance(e->r, 90) ? dt_below(e->r, 64) : dt_random(e->r);
		break;
	case OP_XLAT:
		in->gpr[RBX] = random_place(e->r, 1);
		break;
	case OP_XSAVE:
	case OP_XRSTOR:
	case OP_FXSAVE:
	case OP_FXRSTOR:
		in->gpr[RAX] = dt_random(e->r) & 7;
		in->gpr[RDX] = 0;
		break;
	case OP_CALL:
	case OP_JMP:
	case OP_RET:
		code_pointer(e);
		break;
	case OP_DIV:
	case OP_IDIV: /* quotients that fit, now and then */
		in->gpr[RDX] = dt_chance(e->r, 60) ? dt_below(e->r, 4) : in->gpr[RDX];
		break;
	case OP_CMPXCHG8B:
	case OP_CMPXCHG16B:
	case OP_CMPXCHG:
		break;
	default:
		break;
	}
}

static void after_modrm(struct enc *e)
{
	struct dt_case *c = e->c;

	switch (e->ref.row->op) {
	case OP_XSAVE:
	case OP_XRSTOR:
	case OP_FXSAVE:
	case OP_FXRSTOR:
		c->in.gpr[RAX] &= 7; /* if it became an address: EAX still says which components */
		break;
	case OP_CMPXCHG8B:
	case OP_CMPXCHG16B:
	case OP_CMPXCHG:
		if (c->patch_len >= 8 && dt_chance(e->r, 50)) {
			c->in.gpr[RAX] = load_le64(c->patch);
		}
		break;
	default:
		break;
	}
}

static unsigned memory_size(const struct enc *e)
{
	struct insn in = { .osz = 4, .asz = 8, .flags = INSN_VEXL };

	for (unsigned i = 0; i < 4; i++) {
		const struct opnd_info *o = &opnd_infos[e->ref.row->opnd[i]];

		if (o->kind == OK_M || o->kind == OK_E || o->kind == OK_W || o->kind == OK_Q ||
		    o->kind == OK_VSIB || o->kind == OK_OFF) {
			return opnd_size_bytes(o->mem_size, &in, MODE_64);
		}
	}
	return 0;
}

static void random_state(struct dt_rng *r, struct dt_state *in)
{
	for (unsigned i = 0; i < 16; i++) {
		in->gpr[i] = random_int(r);
	}
	in->rip = DT_CODE + DT_CODE_OFFSET;
	in->rflags = 0x202 | (dt_random(r) & (0x8d5 | (dt_chance(r, 20) ? 0x400 : 0)));
	in->gs_base = 0x5000;
	random_fpu(r, in->xsave);
}

/* 32-bit mode where a row needs it, and now and then where it is the same. */
static bool choose_mode(struct dt_rng *rng, uint64_t row_flags)
{
	if (!allow_32bit || (row_flags & (ROW_ONLY64 | ROW_WY1))) {
		return false;
	}
	return (row_flags & ROW_NO64) || dt_chance(rng, 20);
}

void dt_make_case(struct dt_rng *rng, unsigned row, struct dt_case *ret)
{
	struct enc e = { .r = rng, .c = ret, .ref = row_get(row) };
	bool image;

	memset(ret, 0, offsetof(struct dt_case, native));
	ret->row = row;
	ret->m32 = choose_mode(rng, e.ref.row->flags);
	e.regs = ret->m32 ? 8 : 16;
	random_state(rng, &ret->in);
	e.mem_size = memory_size(&e);
	e.place = random_place(rng, e.mem_size ? e.mem_size : 64);
	if (ret->m32) {
		/* not across the end: flat blocks leave that limit out */
		e.place = (uint32_t)e.place < 0xfffff000 ? (uint32_t)e.place : 0x30000000;
	} else {
		e.asz = dt_chance(rng, 10) && e.place < 0x7fffffff;
		e.gs = dt_chance(rng, 10);
	}
	implicit_registers(&e);
	image = e.ref.row->op == OP_XRSTOR || e.ref.row->op == OP_FXRSTOR ||
		e.ref.row->op == OP_XSAVE || e.ref.row->op == OP_FXSAVE;
	if (image) {
		patch_xsave(&e);
	} else if (e.ref.row->op != OP_CALL && e.ref.row->op != OP_JMP && e.ref.row->op != OP_RET) {
		patch_operand(&e);
	}
	if (row_has_modrm(&e.ref)) {
		choose_modrm(&e);
	} else if (has_kind(&e, OK_Z)) {
		set_reg(&e, dt_below(rng, e.regs), 0);
	}
	choose_width(&e);
	after_modrm(&e);
	if (e.gs && (e.mem || has_kind(&e, OK_X))) {
		put(ret, 0x65);
	}
	if (e.asz) {
		put(ret, 0x67);
	}
	if (e.ref.vex) {
		put_vex(&e);
	} else {
		put_legacy(&e);
	}
	put(ret, e.ref.opcode);
	if (row_has_modrm(&e.ref)) {
		put(ret, e.modrm);
	}
	if (e.has_sib) {
		put(ret, e.sib);
	}
	if (e.mem && (e.modrm & 0xc7) == 5 && !ret->m32) {
		unsigned imm = 0;

		for (unsigned i = 0; i < 4; i++) {
			imm += immediate_size(&e, i);
		}
		e.disp = (int32_t)(e.place - (e.gs ? ret->in.gs_base : 0) -
				   (ret->in.rip + ret->len + 4 + imm));
	}
	put_num(ret, (uint64_t)(int64_t)e.disp, e.disp_size);
	put_immediates(&e);
	for (unsigned i = 0; i < 16 && ret->m32; i++) {
		ret->in.gpr[i] = (uint32_t)ret->in.gpr[i];
	}
}

void dt_fpu_set(struct vcpu *cpu, const uint8_t *x)
{
	fpu_image_set(cpu, x);
	fpu_set_mxcsr(cpu, load_le32(x + FXS_MXCSR));
	for (unsigned i = 0; i < 16; i++) {
		memcpy(cpu->fpu.v[i].b, x + FXS_XMM + i * 16, 16);
		memcpy(cpu->fpu.v[i].b + 16, x + XS_AVX + i * 16, 16);
	}
}

void dt_fpu_get(const struct vcpu *cpu, uint8_t *x)
{
	memset(x, 0, XS_SIZE);
	memcpy(x, cpu->fpu.image, FXS_XMM);
	store_le32(x + FXS_MXCSR, cpu->fpu.mxcsr);
	for (unsigned i = 0; i < 16; i++) {
		memcpy(x + FXS_XMM + i * 16, cpu->fpu.v[i].b, 16);
		memcpy(x + XS_AVX + i * 16, cpu->fpu.v[i].b + 16, 16);
	}
}
