/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The page walker against a model of its own: each format with all combinations of rights that
 * differ from "everything allowed" at one or two levels, and random ones.
 */
#include "softkvm/mmu/testvm.h"

/* What one entry says, as the manual's tables put it. */
struct level {
	bool present, write, user, nx, reserved;
};

enum format { F_32, F_32_PSE, F_PAE, F_PAE_2M, F_64, F_64_2M, F_64_1G, F_COUNT };

struct setup {
	enum format format;
	struct level level[4]; /* [0] is the leaf */
	bool wp, smep, smap, nxe;
	bool write, fetch, user, ac;
};

static const struct {
	unsigned levels; /* entries that the walk reads */
	unsigned leaf;   /* level of the last one, 1: page table */
	unsigned width;
} formats[F_COUNT] = {
	[F_32] = { 2, 1, 4 },     [F_32_PSE] = { 1, 2, 4 }, [F_PAE] = { 2, 1, 8 },
	[F_PAE_2M] = { 1, 2, 8 }, [F_64] = { 4, 1, 8 },     [F_64_2M] = { 3, 2, 8 },
	[F_64_1G] = { 2, 3, 8 },
};

#define TABLES 0x100000 /* a page for each level from here */
#define FRAME  0x40000000ull
#define LIN    0x40a0b123ull /* entries other than 0 at each level */

static bool has_nx(enum format f)
{
	return f >= F_PAE;
}

/* --- the model: what must happen, from the flags alone ------------------------------------ */

/* -1: allowed; else the error code. */
static int model(const struct setup *s)
{
	unsigned n = formats[s->format].levels;
	bool u = true, w = true, x = true, fault = false;
	int code = (s->write ? 2 : 0) | (s->user ? 4 : 0);

	if (s->fetch && ((s->nxe && s->format >= F_PAE) || s->smep)) {
		code |= 16;
	}
	for (unsigned i = n; i-- > 0;) {
		const struct level *l = &s->level[i];

		if (!l->present) {
			return code;
		}
		if (l->reserved || (l->nx && !s->nxe && has_nx(s->format))) {
			return code | 1 | 8;
		}
		u &= l->user;
		w &= l->write;
		x &= !(l->nx && has_nx(s->format));
	}
	if (s->fetch) {
		fault = !x || (s->user && !u) || (!s->user && u && s->smep);
	} else if (s->user) {
		fault = !u || (s->write && !w);
	} else {
		fault = (u && s->smap && !s->ac) || (s->write && !w && s->wp);
	}
	return fault ? code | 1 : -1;
}

/* --- the same as page tables -------------------------------------------------------------- */

static uint64_t entry_of(const struct setup *s, unsigned i)
{
	const struct level *l = &s->level[i];
	unsigned level = formats[s->format].leaf + i;
	uint64_t e = l->present | (uint64_t)l->write << 1 | (uint64_t)l->user << 2;
	bool large = i == 0 && level > 1;

	e |= i == 0 ? FRAME | (large ? 0x80 : 0) : TABLES + (uint64_t)(i - 1) * 4096;
	if (has_nx(s->format) && l->nx) {
		e |= BIT64(63);
	}
	if (l->reserved) {
		/* PML4E: PS. Large pages: a bit below the frame. Others: above MAXPHYADDR (40). */
		e |= level == 4 ? 0x80
		     : large    ? (s->format == F_32_PSE ? BIT64(21) : BIT64(13))
				: BIT64(45);
	}
	return e;
}

static unsigned index_of(const struct setup *s, unsigned i)
{
	unsigned level = formats[s->format].leaf + i;

	return formats[s->format].width == 4 ? LIN >> (12 + 10 * (level - 1)) & 1023
					     : LIN >> (12 + 9 * (level - 1)) & 511;
}

static void *entry_at(struct testvm *t, const struct setup *s, unsigned i)
{
	return t->ram + TABLES + i * 4096 + index_of(s, i) * formats[s->format].width;
}

static void build(struct testvm *t, const struct setup *s, struct walk_env *env)
{
	unsigned n = formats[s->format].levels;

	for (unsigned i = 0; i < n; i++) {
		uint64_t e = entry_of(s, i);

		memcpy(entry_at(t, s, i), &e, formats[s->format].width);
	}
	*env = (struct walk_env){
		.vm = &t->vm,
		.maxphyaddr = 40,
		.pages_1g = true,
		.cr0 = CR0_PG | CR0_PE | (s->wp ? CR0_WP : 0),
		.cr3 = TABLES + (n - 1) * 4096,
		.cr4 = CR4_PSE | (s->smep ? CR4_SMEP : 0) | (s->smap ? CR4_SMAP : 0) |
		       (s->format >= F_PAE ? CR4_PAE : 0),
		.efer = (s->nxe ? EFER_NX : 0) | (s->format >= F_64 ? EFER_LMA | EFER_LME : 0),
	};
	env->pdpte[LIN >> 30 & 3] = env->cr3 | 1;
}

static uint64_t entry_now(struct testvm *t, const struct setup *s, unsigned i)
{
	uint64_t e = 0;

	memcpy(&e, entry_at(t, s, i), formats[s->format].width);
	return e;
}

static gpa_t frame_offset(enum format f)
{
	switch (formats[f].leaf) {
	case 1:
		return LIN & 0xfff;
	case 2:
		return LIN & (formats[f].width == 4 ? 0x3fffff : 0x1fffff);
	default:
		return LIN & 0x3fffffff;
	}
}

/* Compare one setup. False: they differ. */
static bool agrees(struct testvm *t, const struct setup *s)
{
	unsigned how = (s->write ? WALK_WRITE : 0) | (s->fetch ? WALK_FETCH : 0) |
		       (s->user ? WALK_USER : 0) | (s->ac ? WALK_AC : 0);
	struct walk_result r;
	struct walk_env env;
	uint32_t error = 0;
	int want = model(s), got;

	build(t, s, &env);
	got = walk(&env, LIN, how, &r, &error) == 0 ? -1 : (int)error;
	if (got != want || (want < 0 && r.gpa != (FRAME | frame_offset(s->format)))) {
		return false;
	}
	for (unsigned i = 0; i < formats[s->format].levels; i++) {
		uint64_t e = entry_of(s, i);

		if (want < 0) {
			e |= 0x20 | (i == 0 && s->write ? 0x40 : 0);
		}
		if (entry_now(t, s, i) != e) {
			return false;
		}
	}
	return true;
}

static struct level level_of(unsigned bits)
{
	return (struct level){ !(bits & 1), !(bits & 2), !(bits & 4), bits & 8, bits & 16 };
}

static void setup_env(struct setup *s, unsigned bits)
{
	s->wp = bits & 1;
	s->smep = bits & 2;
	s->smap = bits & 4;
	s->nxe = bits & 8;
}

/* read, write, fetch × user, supervisor, supervisor with AC */
static void setup_access(struct setup *s, unsigned n)
{
	s->write = n % 3 == 1;
	s->fetch = n % 3 == 2;
	s->user = n / 3 == 0;
	s->ac = n / 3 == 2;
}

/* 32-bit table entries without PSE have no reserved bits, PSE ones have. */
static void drop_impossible(struct setup *s)
{
	for (unsigned i = 0; i < 4; i++) {
		if (s->format == F_32) {
			s->level[i].reserved = false;
		}
	}
}

static bool all_accesses(struct testvm *t, struct setup *s)
{
	drop_impossible(s);
	for (unsigned env = 0; env < 16; env++) {
		setup_env(s, env);
		for (unsigned a = 0; a < 9; a++) {
			setup_access(s, a);
			if (!agrees(t, s)) {
				return false;
			}
		}
	}
	return true;
}

static void test_two_levels(struct test *tc)
{
	struct testvm *t = testvm_new(0);

	for (enum format f = 0; f < F_COUNT; f++) {
		unsigned n = formats[f].levels;

		for (unsigned i = 0; i < n; i++) {
			for (unsigned bits = 0; bits < 32 * 32; bits++) {
				struct setup s = { .format = f };

				for (unsigned k = 0; k < 4; k++) {
					s.level[k] = level_of(0);
				}
				s.level[i] = level_of(bits % 32);
				s.level[(i + 1) % n] = n > 1 ? level_of(bits / 32) : s.level[i];
				if (!all_accesses(t, &s)) {
					test_fail(tc, __FILE__, __LINE__, "%u %u %x", f, i, bits);
					testvm_free(t);
					return;
				}
			}
		}
	}
	testvm_free(t);
}

static void test_random(struct test *tc)
{
	struct testvm *t = testvm_new(0);
	uint64_t x = 0x123456789abcdef;

	for (unsigned i = 0; i < 300000; i++) {
		struct setup s;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		s.format = (x >> 60) % F_COUNT;
		for (unsigned k = 0; k < 4; k++) {
			s.level[k] = level_of(x >> (20 + k * 5) & x >> (30 + k * 5) & 31);
		}
		setup_env(&s, x >> 50);
		setup_access(&s, (x >> 54) % 9);
		drop_impossible(&s);
		if (!agrees(t, &s)) {
			test_fail(tc, __FILE__, __LINE__, "round %u, format %u", i, s.format);
			break;
		}
	}
	testvm_free(t);
}

static void test_no_paging(struct test *tc)
{
	struct walk_env env = { .cr0 = CR0_PE };
	struct walk_result r;
	uint32_t error;

	CHECK(tc, walk(&env, 0x123456789, WALK_WRITE | WALK_USER, &r, &error) == 0);
	CHECK_EQ(tc, r.gpa, 0x23456789);
	CHECK(tc, r.user && r.write && !r.nx && r.dirty && !r.global);
}

static void test_missing_table(struct test *tc)
{
	struct testvm *t = testvm_new(0);
	struct walk_env env = { .vm = &t->vm, .cr0 = CR0_PG, .cr3 = 0xfff00000, .maxphyaddr = 40 };
	struct walk_result r;
	uint32_t error = 99;
	int rc = walk(&env, 0x1000, WALK_WRITE, &r, &error);

	testvm_free(t);
	CHECK(tc, rc == -EFAULT);
	CHECK_EQ(tc, error, PF_W);
}

static void test_pse36(struct test *tc)
{
	struct testvm *t = testvm_new(0);
	struct walk_env env = {
		.vm = &t->vm, .cr0 = CR0_PG, .cr4 = CR4_PSE, .cr3 = TABLES, .maxphyaddr = 40
	};
	uint32_t e = 0x00c00000 | 0x5a << 13 | 0x87, error;
	struct walk_result r;
	int rc[3];

	memcpy(t->ram + TABLES + 4, &e, 4);
	rc[0] = walk(&env, 0x412345, 0, &r, &error);
	env.maxphyaddr = 36; /* bits 39..36 are reserved now, and 0x50 is among them */
	rc[1] = walk(&env, 0x412345, 0, &r, &error);
	env.cr4 = 0; /* PS means nothing: this is a table */
	rc[2] = walk(&env, 0x412345, WALK_QUIET, &(struct walk_result){ 0 }, &(uint32_t){ 0 });
	testvm_free(t);
	CHECK_EQ(tc, rc[0], 0);
	CHECK_EQ(tc, r.gpa, 0x5a00c12345ull);
	CHECK(tc, r.size == PAGE_4M);
	CHECK_EQ(tc, rc[1], -EFAULT);
	CHECK_EQ(tc, error, PF_P | PF_RSVD);
	CHECK_EQ(tc, rc[2], -EFAULT);
}

static void test_pdptes(struct test *tc)
{
	struct testvm *t = testvm_new(0);
	struct walk_env env = { .vm = &t->vm, .maxphyaddr = 40 };
	uint64_t e[4] = { 0x1001, 0, 0x6 /* not present: anything goes */, 0x2001 };
	bool ok[3];

	memcpy(t->ram + TABLES + 32, e, sizeof(e));
	ok[0] = walk_load_pdptes(&env, TABLES + 32 + 7);
	e[1] = 0x1003;
	memcpy(t->ram + TABLES + 32, e, sizeof(e));
	ok[1] = walk_load_pdptes(&env, TABLES + 32);
	e[1] = BIT64(40) | 1;
	memcpy(t->ram + TABLES + 32, e, sizeof(e));
	ok[2] = walk_load_pdptes(&env, TABLES + 32);
	testvm_free(t);
	CHECK(tc, ok[0] && !ok[1] && !ok[2]);
	CHECK_EQ(tc, env.pdpte[1], 0); /* as at the last good load */
	CHECK_EQ(tc, env.pdpte[3], 0x2001);
}

static void test_quiet(struct test *tc)
{
	struct testvm *t = testvm_new(0);
	struct setup s = { .format = F_64 };
	struct walk_result r;
	struct walk_env env;
	uint32_t error;
	uint64_t leaf;
	int rc;

	for (unsigned k = 0; k < 4; k++) {
		s.level[k] = level_of(2 | 4);
	}
	build(t, &s, &env);
	rc = walk(&env, LIN, WALK_QUIET | WALK_ANY | WALK_USER | WALK_WRITE, &r, &error);
	leaf = entry_now(t, &s, 0);
	testvm_free(t);
	CHECK_EQ(tc, rc, 0);
	CHECK(tc, !r.user && !r.write);
	CHECK_EQ(tc, leaf, entry_of(&s, 0));
}

static const struct test_case cases[] = {
	{ "two_levels", test_two_levels }, { "random", test_random },
	{ "no_paging", test_no_paging },   { "missing_table", test_missing_table },
	{ "pse36", test_pse36 },           { "pdptes", test_pdptes },
	{ "quiet", test_quiet },           { 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
