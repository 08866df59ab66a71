/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random page tables, address spaces and invalidations, and accesses by guest code: interpreted,
 * translated, and as a plain walk of the tables says.
 *
 *	mmu_fuzz [--seconds N] [--seed S] [--count ACCESSES]
 *
 * Theory of operation: two virtual machines are changed alike; one interprets, one translates.
 * Four PCIDs have a table of 64 pages each, and share a second one, in which pages may be global.
 * Whoever changes an entry invalidates what the manual asks for (SDM 3A 4.10.4), so that
 * an access must see the tables as they are. Each frame's words name it, and it has a function that
 * returns its number, so that reading, writing and executing tell which frame was found.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "softkvm/jit/testuser.h"

enum { SPACES = 4, PAGES = 64, FRAMES = 32, ROUTINE_BYTES = 64 };
enum { TABLES = 0x100000, TABLES_EACH = 0x4000, PT_SHARED = 0x140000, PT_CODE = 0x141000 };
enum { GPA_FRAMES = 0x400000, GPA_LARGE = 0x800000, GPA_CODE = 0x142000, FUNCTION = 0x800 };
#define LIN_OWN    0x10000000ull
#define LIN_LARGE  0x10200000ull
#define LIN_SHARED 0x20000000ull
#define LIN_CODE   0x30000000ull /* page 0 for the supervisor, 1 for users; their stacks */
#define PTE_G      BIT64(8)
#define PTE_NX     BIT64(63)
#define PTE_PS     BIT64(7)

enum access { A_READ, A_WRITE, A_ADD, A_EXEC, A_CR3_READ, A_INVLPG_READ, ACCESSES };

/* Each ends by UD2; RSI: the address, RAX: what to store, RDX: what was read. */
static const struct routine {
	const char *code;
	unsigned len;
	unsigned how; /* of walk() */
} routines[ACCESSES] = {
	[A_READ] = { "\x48\x8b\x16\x0f\x0b", 5, 0 },
	[A_WRITE] = { "\x48\x89\x06\x48\x89\xc2\x0f\x0b", 8, WALK_WRITE },
	[A_ADD] = { "\x48\x01\x06\x48\x8b\x16\x0f\x0b", 8, WALK_WRITE },
	[A_EXEC] = { "\xff\xd6\x0f\x0b", 4, WALK_FETCH }, /* call *%rsi */
	[A_CR3_READ] = { "\x0f\x22\xd8\x48\x8b\x16\x0f\x0b", 8, 0 },
	[A_INVLPG_READ] = { "\x0f\x01\x3e\x48\x8b\x16\x0f\x0b", 8, 0 },
};

struct side {
	struct testuser *u;
	unsigned space;
};

struct fuzz {
	struct dt_rng rng;
	struct side side[2]; /* interpreted, translated */
	uint64_t accesses, faults, bad;
};

struct outcome {
	uint8_t vector;
	uint32_t error;
	uint64_t cr2, rip, rdx;
};

static uint64_t *table(struct side *s, gpa_t gpa)
{
	return (uint64_t *)(void *)(s->u->t->ram + gpa);
}

static gpa_t space_table(unsigned space, unsigned level)
{
	return TABLES + space * TABLES_EACH + level * 0x1000;
}

/* --- setting up ---------------------------------------------------------------------------------
 */

static void fill_frame(uint8_t *at, uint32_t number)
{
	for (unsigned i = 0; i < 4096; i += 8) {
		store_le64(at + i, (uint64_t)number << 32 | i);
	}
	at[FUNCTION] = 0xba; /* mov $number, %edx; ret */
	store_le32(at + FUNCTION + 1, number);
	at[FUNCTION + 5] = 0xc3;
}

static void set_up(struct side *s)
{
	struct vcpu *cpu;
	uint64_t *code;

	s->u = testuser_new();
	cpu = s->u->cpu;
	for (unsigned i = 0; i < SPACES; i++) {
		uint64_t *pd = table(s, space_table(i, 2));

		*table(s, space_table(i, 0)) = space_table(i, 1) | 7;
		*table(s, space_table(i, 1)) = space_table(i, 2) | 7;
		pd[LIN_OWN >> 21] = space_table(i, 3) | 7;
		pd[LIN_SHARED >> 21] = PT_SHARED | 7;
		pd[LIN_CODE >> 21] = PT_CODE | 7;
	}
	code = table(s, PT_CODE);
	code[0] = GPA_CODE | 1 | PTE_G;
	code[1] = GPA_CODE | 5;
	code[2] = (GPA_CODE + 0x1000) | 7;
	code[3] = (GPA_CODE + 0x2000) | 3;
	for (unsigned i = 0; i < ACCESSES; i++) {
		memcpy(s->u->t->ram + GPA_CODE + i * ROUTINE_BYTES, routines[i].code,
		       routines[i].len);
	}
	for (unsigned i = 0; i < FRAMES; i++) {
		fill_frame(s->u->t->ram + GPA_FRAMES + i * 4096, i);
	}
	for (unsigned i = 0; i < 1024; i++) {
		fill_frame(s->u->t->ram + GPA_LARGE + i * 4096, 0x1000 + i);
	}
	cpu->cr4 |= CR4_PCIDE | CR4_PGE;
	cpu->cr3 = space_table(0, 0);
	ASSERT(mmu_paging_changed(cpu, cpu->cr0, 0, cpu->efer) &&
	       mmu_set_cr3(cpu, cpu->cr3, false));
	cpu_mode_changed(cpu);
}

static void set_privilege(struct vcpu *cpu, bool user, bool ac)
{
	struct segment *cs = &cpu->seg[SEG_CS];

	cpu->cpl = user ? 3 : 0;
	cs->dpl = cpu->cpl;
	cs->sel = user ? 0x33 : 0x10;
	cpu->rflags = FL_FIXED | (ac ? FL_AC : 0);
	cpu_mode_changed(cpu);
}

/* --- accesses ------------------------------------------------------------------------------------
 */

struct request {
	enum access access;
	bool user, ac;
	gva_t lin;
	uint64_t rax;
};

static struct outcome run(struct side *s, const struct request *q)
{
	struct vcpu *cpu = s->u->cpu;
	enum testuser_stop stop;

	set_privilege(cpu, q->user, q->ac);
	cpu->rip = LIN_CODE + (q->user ? 0x1000 : 0) + q->access * ROUTINE_BYTES;
	cpu->gpr[RSI] = q->lin;
	cpu->gpr[RAX] = q->rax;
	cpu->gpr[RDX] = 0;
	cpu->gpr[RSP] = LIN_CODE + (q->user ? 0x2800 : 0x3800);
	cpu->fault = (struct fault){ .vector = 0 };
	testuser_enter(s->u);
	stop = testuser_run(s->u);
	testuser_leave(s->u);
	ASSERT(stop == TU_FAULT);
	return (struct outcome){ cpu->fault.vector, cpu->fault.has_error ? cpu->fault.error : 0,
				 cpu->fault.has_payload ? cpu->fault.payload : 0, cpu->rip,
				 cpu->gpr[RDX] };
}

/* What the tables say, before the access. `*ret_rdx` is valid without a fault. */
static uint8_t expect(struct side *s, const struct request *q, uint32_t *ret_error,
		      uint64_t *ret_rdx)
{
	struct vcpu *cpu = s->u->cpu;
	struct walk_result r;
	struct walk_env env;
	unsigned how = routines[q->access].how | WALK_QUIET | (q->user ? WALK_USER : 0) |
		       (q->ac ? WALK_AC : 0);

	mmu_env_refresh(cpu);
	env = cpu->mmu->env;
	if (q->access == A_CR3_READ) {
		env.cr3 = q->rax & ~BIT64(63);
	}
	if (walk(&env, q->lin, how, &r, ret_error) != 0) {
		return EX_PF;
	}
	*ret_rdx = load_le64(s->u->t->ram + r.gpa);
	switch (q->access) {
	case A_WRITE:
		*ret_rdx = q->rax;
		break;
	case A_ADD:
		*ret_rdx += q->rax;
		break;
	case A_EXEC:
		*ret_rdx = load_le32(s->u->t->ram + r.gpa + 1);
		break;
	default:
		break;
	}
	return EX_UD;
}

static gva_t random_address(struct fuzz *f, enum access a)
{
	/* words of frames that no function overlaps */
	unsigned off = a == A_EXEC ? FUNCTION : dt_below(&f->rng, 0x100) * 8;

	switch (dt_below(&f->rng, 5)) {
	case 0:
		return LIN_LARGE + dt_below(&f->rng, 512) * 4096ull + off;
	case 1:
	case 2:
		return LIN_SHARED + dt_below(&f->rng, PAGES) * 4096ull + off;
	default:
		return LIN_OWN + dt_below(&f->rng, PAGES) * 4096ull + off;
	}
}

static void complain(struct fuzz *f, const struct request *q, unsigned side,
		     const struct outcome *o, uint8_t vector, uint32_t error, uint64_t rdx)
{
	const struct vcpu *cpu = f->side[side].u->cpu;

	printf("# access %" PRIu64 ": %s, kind %u user %u ac %u at %" PRIx64 ", cr0 %" PRIx64
	       " cr3 %" PRIx64 " cr4 %" PRIx64 ": want %u/%x rdx %" PRIx64
	       ", got %u/%x cr2 %" PRIx64 " rip %" PRIx64 " rdx %" PRIx64 "\n",
	       f->accesses, side ? "translated" : "interpreted", q->access, q->user, q->ac, q->lin,
	       cpu->cr0, cpu->cr3, cpu->cr4, vector, error, rdx, o->vector, o->error, o->cr2,
	       o->rip, o->rdx);
	f->bad++;
}

static void one_access(struct fuzz *f)
{
	struct request q = { .access = dt_below(&f->rng, ACCESSES),
			     .user = dt_chance(&f->rng, 50),
			     .ac = dt_chance(&f->rng, 20),
			     .rax = dt_random(&f->rng) };

	q.lin = random_address(f, q.access);
	if (q.access >= A_CR3_READ) {
		q.user = false;
	}
	if (q.access == A_CR3_READ) {
		unsigned space = dt_below(&f->rng, SPACES);

		q.rax = space_table(space, 0) | space | (dt_chance(&f->rng, 70) ? BIT64(63) : 0);
	}
	f->accesses++;
	for (unsigned i = 0; i < 2; i++) {
		uint32_t error = 0;
		uint64_t rdx = 0;
		uint8_t vector = expect(&f->side[i], &q, &error, &rdx);
		struct outcome o = run(&f->side[i], &q);

		if (vector == EX_PF) {
			f->faults += i;
			if (o.vector != EX_PF || o.error != error || o.cr2 != q.lin) {
				complain(f, &q, i, &o, vector, error, rdx);
			}
		} else if (o.vector != EX_UD || o.rdx != rdx) {
			complain(f, &q, i, &o, vector, error, rdx);
		}
	}
}

/* --- changes -------------------------------------------------------------------------------------
 */

static uint64_t random_entry(struct fuzz *f, bool shared)
{
	uint64_t e = GPA_FRAMES + dt_below(&f->rng, FRAMES) * 4096ull;

	if (dt_chance(&f->rng, 85)) {
		e |= 1;
	}
	e |= dt_random(&f->rng) & (BIT64(1) | BIT64(2) | BIT64(5) | BIT64(6));
	e |= shared && dt_chance(&f->rng, 60) ? PTE_G : 0;
	return e | (dt_chance(&f->rng, 30) ? PTE_NX : 0);
}

static unsigned current_space(const struct side *s)
{
	return s->u->cpu->cr3 & 0xfff;
}

/* What an operating system does behind a change of a PCID's own entry. */
static void invalidate(struct side *s, unsigned space, gva_t lin, unsigned choice)
{
	struct vcpu *cpu = s->u->cpu;

	if (space != current_space(s)) {
		if (choice & 1) {
			mmu_flush_pcid_page(cpu, (uint16_t)space, lin);
		} else {
			mmu_flush_pcid(cpu, (uint16_t)space);
		}
	} else if (choice == 0) {
		mmu_set_cr3(cpu, cpu->cr3, false);
	} else {
		mmu_flush_page(cpu, lin);
	}
}

static void change_own(struct fuzz *f)
{
	unsigned space = dt_below(&f->rng, SPACES), page = dt_below(&f->rng, PAGES);
	unsigned choice = dt_below(&f->rng, 4);
	uint64_t e = random_entry(f, false);

	for (unsigned i = 0; i < 2; i++) {
		table(&f->side[i], space_table(space, 3))[page] = e;
		invalidate(&f->side[i], space, LIN_OWN + page * 4096ull, choice);
	}
}

static void change_large(struct fuzz *f)
{
	unsigned space = dt_below(&f->rng, SPACES), choice = dt_below(&f->rng, 4);
	uint64_t e = random_entry(f, false) & ~0xfffff000ull;

	e |= PTE_PS | (GPA_LARGE + (dt_chance(&f->rng, 50) ? MIB(2) : 0));
	for (unsigned i = 0; i < 2; i++) {
		table(&f->side[i], space_table(space, 2))[LIN_LARGE >> 21] = e;
		invalidate(&f->side[i], space, LIN_LARGE + 0x5000, choice);
	}
}

static void change_shared(struct fuzz *f)
{
	unsigned page = dt_below(&f->rng, PAGES);
	uint64_t e = random_entry(f, true);

	for (unsigned i = 0; i < 2; i++) {
		struct vcpu *cpu = f->side[i].u->cpu;

		table(&f->side[i], PT_SHARED)[page] = e;
		mmu_flush_page(cpu, LIN_SHARED + page * 4096ull);
		for (unsigned k = 0; k < SPACES; k++) {
			mmu_flush_pcid_page(cpu, (uint16_t)k, LIN_SHARED + page * 4096ull);
		}
	}
}

static void change_registers(struct fuzz *f)
{
	uint64_t cr0 = dt_chance(&f->rng, 30) ? CR0_WP : 0;
	uint64_t cr4 = dt_random(&f->rng) & (CR4_SMEP | CR4_SMAP | CR4_PGE);
	uint64_t efer = dt_chance(&f->rng, 10) ? EFER_NX : 0;

	for (unsigned i = 0; i < 2; i++) {
		struct vcpu *cpu = f->side[i].u->cpu;
		uint64_t old0 = cpu->cr0, old4 = cpu->cr4, olde = cpu->efer;

		set_privilege(cpu, false, false);
		cpu->cr0 ^= cr0;
		cpu->cr4 ^= cr4;
		cpu->efer ^= efer;
		ASSERT(mmu_paging_changed(cpu, old0, old4, olde));
		cpu_mode_changed(cpu);
	}
}

static void one_step(struct fuzz *f)
{
	switch (dt_below(&f->rng, 40)) {
	case 0:
	case 1:
	case 2:
	case 3:
		change_own(f);
		break;
	case 4:
	case 5:
		change_shared(f);
		break;
	case 6:
		change_large(f);
		break;
	case 7:
		if (dt_chance(&f->rng, 30)) {
			change_registers(f);
		}
		break;
	default:
		one_access(f);
		break;
	}
}

int main(int argc, char **argv)
{
	struct testuser_options o;
	static struct fuzz f;

	if (!testuser_options(argc, argv, &o)) {
		return 2;
	}
	f.rng.s = o.seed | 1;
	for (unsigned i = 0; i < 2; i++) {
		set_up(&f.side[i]);
		f.side[i].u->interpret = i == 0;
	}
	while (f.accesses < o.count && f.bad < 10 && time(NULL) < o.end) {
		one_step(&f);
	}
	printf("%" PRIu64 " accesses, %" PRIu64 " faults, %" PRIu64 " differences\n", f.accesses,
	       f.faults, f.bad);
	for (unsigned i = 0; i < 2; i++) {
		testuser_free(f.side[i].u);
	}
	return f.bad ? 1 : 0;
}
