/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * General-purpose instructions where the host can't be asked: 16- and 32-bit modes, segment
 * limits, faults in the middle, repeated strings over pages and ends. (What 64-bit user mode
 * can show is compared with the host's processor by insn_test.c.)
 */
#include "softkvm/cpu/blocks.h"
#include "softkvm/cpu/guest64.h"

#define CODE_IP 0x100u
#define CS_BASE 0x10000u
#define DS_BASE 0x20000u
#define ES_BASE 0x30000u
#define SS_BASE 0x40000u
#define RAM(f)  ((f)->vm->ram)

struct fixture {
	struct testvm *vm;
	struct vcpu *cpu;
};

#define WANT(cond)                                                     \
	do {                                                           \
		if (!(cond)) {                                         \
			test_fail(t, __FILE__, __LINE__, "%s", #cond); \
			testvm_free(f->vm);                            \
			return;                                        \
		}                                                      \
	} while (0)
#define WANT_EQ(a, b)                                                                             \
	do {                                                                                      \
		unsigned long long a_ = (a), b_ = (b);                                            \
		if (a_ != b_) {                                                                   \
			test_fail(t, __FILE__, __LINE__, "%s = 0x%llx, want 0x%llx", #a, a_, b_); \
			testvm_free(f->vm);                                                       \
			return;                                                                   \
		}                                                                                 \
	} while (0)

/* --- machines -----------------------------------------------------------------------------------
 */
static void set_segment(struct vcpu *cpu, unsigned i, uint64_t base, uint32_t limit, bool db)
{
	cpu->seg[i] = (struct segment){
		.base = base,
		.limit = limit,
		.sel = (uint16_t)(base >> 4),
		.s = 1,
		.present = 1,
		.type = i == SEG_CS ? 11 : 3,
		.db = db,
		.g = limit > 0xfffff,
	};
}

static struct fixture *legacy(struct fixture *f, bool protected, bool db, uint32_t limit, bool flat)
{
	static const uint32_t bases[6] = { ES_BASE, CS_BASE, SS_BASE, DS_BASE, DS_BASE, DS_BASE };

	f->vm = testvm_new(1);
	f->cpu = f->vm->cpu[0];
	f->cpu->cr0 = (f->cpu->cr0 & ~CR0_PE) | (protected ? CR0_PE : 0);
	for (unsigned i = 0; i < 6; i++) {
		set_segment(f->cpu, i, flat ? 0 : bases[i], limit, db);
	}
	cpu_set_rflags(f->cpu, FL_FIXED);
	cpu_mode_changed(f->cpu);
	return f;
}

static struct fixture *real16(struct fixture *f)
{
	return legacy(f, false, false, 0xffff, false);
}
static struct fixture *prot32(struct fixture *f, uint32_t limit)
{
	return legacy(f, true, true, limit, false);
}
static struct fixture *flat32(struct fixture *f)
{
	return legacy(f, true, true, UINT32_MAX, true);
}
static struct fixture *long64(struct fixture *f)
{
	f->vm = testvm_new(1);
	f->cpu = f->vm->cpu[0];
	guest64_tables(f->vm);
	guest64_state(f->cpu, CODE_IP);
	return f;
}

/* Run the one instruction of these bytes at CS:CODE_IP; a repeated one until it is done or faults.
 */
static enum exec_result run_bytes(struct fixture *f, const uint8_t *code, size_t len)
{
	uint64_t base = f->cpu->segbase[SEG_CS];
	const struct insn *in;
	enum exec_result r = EXEC_END;

	memcpy(RAM(f) + base + CODE_IP, code, len);
	f->cpu->rip = CODE_IP;
	for (unsigned i = 0; i < 10000; i++) {
		r = block_step(f->cpu, &in);
		if (r != EXEC_END || f->cpu->rip != CODE_IP) {
			break;
		}
	}
	return r;
}
#define RUN(...) \
	run_bytes(f, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
#define WANT_DONE(...) WANT_EQ(RUN(__VA_ARGS__), EXEC_END)
#define WANT_FAULT(vec, ...)                           \
	do {                                           \
		WANT_EQ(RUN(__VA_ARGS__), EXEC_FAULT); \
		WANT_EQ(f->cpu->fault.vector, vec);    \
		WANT_EQ(f->cpu->rip, CODE_IP);         \
	} while (0)
#define G(r) f->cpu->gpr[r]

/* --- addresses -----------------------------------------------------------------------------------
 */
static void test_addr16(struct test *t)
{
	struct fixture fx, *f = real16(&fx);

	G(RBX) = 0xfff0;
	G(RSI) = 0x20;
	store_le16(RAM(f) + DS_BASE + 0x14, 0x1234); /* fff0 + 20 + 4 wraps */
	WANT_DONE(0x8b, 0x40, 0x04);                 /* mov ax, [bx+si+4] */
	WANT_EQ(G(RAX), 0x1234);
	G(RBP) = 0x100;
	store_le16(RAM(f) + SS_BASE + 0x110, 0x5678);
	WANT_DONE(0x8b, 0x4e, 0x10); /* mov cx, [bp+16]: by SS */
	WANT_EQ(G(RCX), 0x5678);
	store_le32(RAM(f) + DS_BASE + 0x200, 0xcafebabe);
	G(RDX) = 0x1f0;
	WANT_DONE(0x66, 0x67, 0x8b, 0x42, 0x10); /* mov eax, [edx+16] */
	WANT_EQ(G(RAX), 0xcafebabe);
	G(RDX) = 0x10000;
	WANT_FAULT(EX_GP, 0x67, 0x8b, 0x02); /* beyond 64 KiB */
	G(RBX) = 0xffff;
	WANT_FAULT(EX_GP, 0x8b, 0x07); /* mov ax, [bx]: a word over the end */
	G(RBP) = 0xffff;
	WANT_FAULT(EX_SS, 0x8b, 0x46, 0x00);
	WANT_DONE(0x8a, 0x07); /* a byte fits */
	RAM(f)[DS_BASE + 0x0f] = 0x99;
	G(RBX) = 0xfff0;
	G(RAX) = 0x1f;
	WANT_DONE(0xd7); /* xlat wraps */
	WANT_EQ(G(RAX) & 0xff, 0x99);
	testvm_free(f->vm);
}

static void test_bit_strings(struct test *t)
{
	struct fixture fx, *f = flat32(&fx);

	G(RBX) = 0x5000;
	G(RAX) = (uint32_t)-33; /* the bit 33 before: in the dword two before */
	WANT_DONE(0x0f, 0xab, 0x03);
	WANT_EQ(load_le32(RAM(f) + 0x4ff8), 0x80000000);
	WANT(!(f->cpu->cc & CC_CF));
	WANT_DONE(0xf0, 0x0f, 0xb3, 0x03); /* lock btr */
	WANT_EQ(load_le32(RAM(f) + 0x4ff8), 0);
	WANT(f->cpu->cc & CC_CF);
	G(RAX) = 100;
	WANT_DONE(0x66, 0x0f, 0xbb, 0x03); /* btc word: 100 = 6 * 16 + 4 */
	WANT_EQ(load_le16(RAM(f) + 0x500c), 0x10);
	WANT_DONE(0x0f, 0xba, 0x2b, 0x25); /* bts dword [ebx], 37: masked to 5 */
	WANT_EQ(load_le32(RAM(f) + 0x5000), 0x20);
	testvm_free(f->vm);
}

/* --- stack
 * ------------------------------------------------------------------------------------------ */
static void test_stack16(struct test *t)
{
	struct fixture fx, *f = real16(&fx);

	G(RAX) = 0x1234;
	G(RSP) = 0xabcd0000;
	WANT_DONE(0x50); /* push ax: SP wraps, the upper half stays */
	WANT_EQ(G(RSP), 0xabcdfffe);
	WANT_EQ(load_le16(RAM(f) + SS_BASE + 0xfffe), 0x1234);
	WANT_DONE(0x5b); /* pop bx */
	WANT_EQ(G(RSP), 0xabcd0000);
	WANT_EQ(G(RBX), 0x1234);
	G(RSP) = 1;
	WANT_FAULT(EX_SS, 0x50);
	WANT_EQ(G(RSP), 1);
	G(RSP) = 0x100;
	WANT_DONE(0x66, 0x68, 0x78, 0x56, 0x34, 0x12); /* push dword */
	WANT_EQ(G(RSP), 0xfc);
	WANT_EQ(load_le32(RAM(f) + SS_BASE + 0xfc), 0x12345678);
	WANT_DONE(0x6a, 0xff); /* push -1 */
	WANT_EQ(load_le16(RAM(f) + SS_BASE + 0xfa), 0xffff);
	WANT_DONE(0x54); /* push sp: the value before */
	WANT_EQ(load_le16(RAM(f) + SS_BASE + 0xf8), 0xfa);
	testvm_free(f->vm);
}

static void test_push_all(struct test *t)
{
	struct fixture fx, *f = prot32(&fx, 0xffff);

	for (unsigned i = 0; i < 8; i++) {
		G(i) = 0x11111111u * (i + 1);
	}
	G(RSP) = 0x1000;
	WANT_DONE(0x60);
	WANT_EQ(G(RSP), 0xfe0);
	WANT_EQ(load_le32(RAM(f) + SS_BASE + 0xffc), 0x11111111);
	WANT_EQ(load_le32(RAM(f) + SS_BASE + 0xfec), 0x1000);
	WANT_EQ(load_le32(RAM(f) + SS_BASE + 0xfe0), 0x88888888);
	for (unsigned i = 0; i < 8; i++) {
		G(i) = i == RSP ? 0xfe0 : 0;
	}
	WANT_DONE(0x61);
	WANT_EQ(G(RSP), 0x1000);
	WANT_EQ(G(RAX), 0x11111111);
	WANT_EQ(G(RDI), 0x88888888);
	G(RSP) = 8; /* room for two */
	WANT_FAULT(EX_SS, 0x60);
	WANT_EQ(G(RSP), 8);
	testvm_free(f->vm);
}

static void test_pop_mem(struct test *t)
{
	struct fixture fx, *f = long64(&fx);

	store_le64(RAM(f) + 0x8000, 0x1122334455667788);
	G(RSP) = 0x8000;
	WANT_DONE(0x8f, 0x44, 0x24, 0x10); /* pop [rsp+16]: of the new rsp */
	WANT_EQ(load_le64(RAM(f) + 0x8018), 0x1122334455667788);
	WANT_EQ(G(RSP), 0x8008);
	G(RSP) = 0x8000;
	G(RAX) = 0x8000000000000000;
	WANT_FAULT(EX_GP, 0x8f, 0x00); /* pop [rax]: not canonical */
	WANT_EQ(G(RSP), 0x8000);
	WANT_FAULT(EX_GP, 0xff, 0x30); /* push [rax] */
	G(RSP) = 0x8000000000000000;
	WANT_FAULT(EX_SS, 0x50);             /* push rax */
	WANT_FAULT(EX_SS, 0x58);             /* pop rax */
	WANT_FAULT(EX_SS, 0x8b, 0x04, 0x24); /* mov eax, [rsp] */
	G(RSP) = 0x8000;
	WANT_DONE(0x5c); /* pop rsp */
	WANT_EQ(G(RSP), 0x1122334455667788);
	testvm_free(f->vm);
}

static void test_enter(struct test *t)
{
	struct fixture fx, *f = prot32(&fx, 0xffff);

	G(RSP) = 0x1000;
	G(RBP) = 0x2000;
	WANT_DONE(0xc8, 0x20, 0x00, 0x00); /* enter 32, 0 */
	WANT_EQ(G(RBP), 0xffc);
	WANT_EQ(G(RSP), 0xfdc);
	WANT_EQ(load_le32(RAM(f) + SS_BASE + 0xffc), 0x2000);
	WANT_DONE(0xc9);
	WANT_EQ(G(RSP), 0x1000);
	WANT_EQ(G(RBP), 0x2000);
	store_le32(RAM(f) + SS_BASE + 0x1ffc, 0xaaaa);
	store_le32(RAM(f) + SS_BASE + 0x1ff8, 0xbbbb);
	WANT_DONE(0xc8, 0x08, 0x00, 0x23); /* enter 8, 35: level 3 */
	WANT_EQ(G(RBP), 0xffc);
	WANT_EQ(G(RSP), 0xffc - 12 - 8);
	WANT_EQ(load_le32(RAM(f) + SS_BASE + 0xff8), 0xaaaa);
	WANT_EQ(load_le32(RAM(f) + SS_BASE + 0xff4), 0xbbbb);
	WANT_EQ(load_le32(RAM(f) + SS_BASE + 0xff0), 0xffc);
	G(RSP) = 0x10;
	WANT_FAULT(EX_SS, 0xc8, 0x20, 0x00, 0x00); /* its new top lies outside */
	WANT_EQ(G(RSP), 0x10);
	testvm_free(f->vm);
}

/* --- branches
 * ------------------------------------------------------------------------------------------ */
static void test_branches(struct test *t)
{
	struct fixture fx, *f = prot32(&fx, 0xfff);

	WANT_FAULT(EX_GP, 0xe9, 0x00, 0x10, 0x00, 0x00); /* jmp beyond the limit */
	f->cpu->cc = CC_ZF;
	WANT_FAULT(EX_GP, 0x0f, 0x84, 0x00, 0x10, 0x00, 0x00); /* jz, taken */
	WANT_DONE(0x0f, 0x85, 0x00, 0x10, 0x00, 0x00);         /* jnz, not taken */
	WANT_EQ(f->cpu->rip, CODE_IP + 6);
	WANT_DONE(0x66, 0xe9, 0x00, 0xff); /* jmp 16: 104 - 100 */
	WANT_EQ(f->cpu->rip, 4);
	G(RSP) = 0x800;
	WANT_FAULT(EX_GP, 0xe8, 0x00, 0x10, 0x00, 0x00);
	WANT_EQ(G(RSP), 0x800);
	WANT_DONE(0xe8, 0x10, 0x00, 0x00, 0x00);
	WANT_EQ(f->cpu->rip, CODE_IP + 0x15);
	WANT_EQ(load_le32(RAM(f) + SS_BASE + 0x7fc), CODE_IP + 5);
	store_le32(RAM(f) + SS_BASE + 0x7fc, 0x2000);
	WANT_FAULT(EX_GP, 0xc3);
	WANT_EQ(G(RSP), 0x7fc);
	store_le32(RAM(f) + SS_BASE + 0x7fc, 0x240);
	WANT_DONE(0xc2, 0x08, 0x00);
	WANT_EQ(f->cpu->rip, 0x240);
	WANT_EQ(G(RSP), 0x808);
	testvm_free(f->vm);
}

static void test_loops(struct test *t)
{
	struct fixture fx, *f = real16(&fx);

	G(RCX) = 0x20001;
	WANT_DONE(0xe2, 0x10); /* loop: CX, not ECX */
	WANT_EQ(f->cpu->rip, CODE_IP + 2);
	WANT_EQ(G(RCX), 0x20000);
	WANT_DONE(0xe3, 0x10); /* jcxz */
	WANT_EQ(f->cpu->rip, CODE_IP + 0x12);
	WANT_DONE(0x67, 0xe3, 0x10); /* jecxz */
	WANT_EQ(f->cpu->rip, CODE_IP + 3);
	WANT_DONE(0x67, 0xe2, 0x10); /* loop by ECX */
	WANT_EQ(G(RCX), 0x1ffff);
	WANT_EQ(f->cpu->rip, CODE_IP + 0x13);
	f->cpu->cc = CC_ZF;
	WANT_DONE(0xe0, 0x10); /* loopne */
	WANT_EQ(f->cpu->rip, CODE_IP + 2);
	WANT_EQ(G(RCX), 0x1fffe);
	testvm_free(f->vm);
}

static void test_branch64(struct test *t)
{
	struct fixture fx, *f = long64(&fx);

	G(RAX) = 0x0000800000000000;
	G(RSP) = 0x8000;
	WANT_FAULT(EX_GP, 0xff, 0xe0); /* jmp rax */
	WANT_FAULT(EX_GP, 0xff, 0xd0); /* call rax */
	WANT_EQ(G(RSP), 0x8000);
	store_le64(RAM(f) + 0x8000, 0x0000800000000000);
	WANT_FAULT(EX_GP, 0xc3);
	WANT_EQ(G(RSP), 0x8000);
	WANT_DONE(0x66, 0xe9, 0x00, 0x10, 0x00, 0x00); /* 66 does not matter */
	WANT_EQ(f->cpu->rip, CODE_IP + 6 + 0x1000);
	testvm_free(f->vm);
}

/* --- arithmetic that exists in 32-bit mode only
 * ----------------------------------------------------------- */
static void test_decimal(struct test *t)
{
	static const struct {
		uint8_t op, al;
		uint32_t cc;
		uint16_t want_ax;
		uint32_t want_cc; /* of CF, AF, and for DAA and DAS SF, ZF, PF */
	} rows[] = {
		{ 0x27, 0xae, 0, 0x0014, CC_CF | CC_AF | CC_PF },
		{ 0x27, 0x2e, 0, 0x0034, CC_AF },
		{ 0x27, 0x9a, 0, 0x0000, CC_CF | CC_AF | CC_ZF | CC_PF },
		{ 0x27, 0x12, CC_CF, 0x0072, CC_CF | CC_PF },
		{ 0x2f, 0xee, CC_CF | CC_AF, 0x0088, CC_CF | CC_AF | CC_SF | CC_PF },
		{ 0x2f, 0x03, CC_AF, 0x00fd, CC_CF | CC_AF | CC_SF },
		{ 0x2f, 0x15, 0, 0x0015, 0 },
		{ 0x37, 0x0b, 0, 0x0101, CC_CF | CC_AF },
		{ 0x37, 0x38, 0, 0x0008, 0 },
		{ 0x3f, 0x0d, 0, 0xff07, CC_CF | CC_AF },
		{ 0x3f, 0x03, CC_AF, 0xfe0d, CC_CF | CC_AF },
	};
	struct fixture fx, *f = flat32(&fx);

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		uint32_t mask =
			rows[i].op < 0x30 ? CC_CF | CC_AF | CC_SF | CC_ZF | CC_PF : CC_CF | CC_AF;

		G(RAX) = rows[i].al;
		f->cpu->cc = rows[i].cc;
		WANT_DONE(rows[i].op);
		WANT_EQ(G(RAX), rows[i].want_ax);
		WANT_EQ(f->cpu->cc & mask, rows[i].want_cc & mask);
	}
	G(RAX) = 0x3f;
	WANT_DONE(0xd4, 10);
	WANT_EQ(G(RAX), 0x0603);
	WANT_DONE(0xd5, 10);
	WANT_EQ(G(RAX), 0x3f);
	WANT_FAULT(EX_DE, 0xd4, 0);
	f->cpu->cc = CC_CF;
	WANT_DONE(0xd6); /* salc */
	WANT_EQ(G(RAX), 0xff);
	testvm_free(f->vm);
}

static void test_bound(struct test *t)
{
	struct fixture fx, *f = flat32(&fx);

	store_le32(RAM(f) + 0x5000, (uint32_t)-5);
	store_le32(RAM(f) + 0x5004, 7);
	G(RBX) = 0x5000;
	G(RAX) = (uint32_t)-5;
	WANT_DONE(0x62, 0x03);
	G(RAX) = 8;
	WANT_FAULT(EX_BR, 0x62, 0x03);
	G(RAX) = (uint32_t)-6;
	WANT_FAULT(EX_BR, 0x62, 0x03);
	testvm_free(f->vm);
}

static void test_divide(struct test *t)
{
	struct fixture fx, *f = long64(&fx);

	G(RAX) = 0;
	G(RDX) = BIT64(63);
	G(RBX) = UINT64_MAX;
	WANT_FAULT(EX_DE, 0x48, 0xf7, 0xfb); /* idiv: -2^127 / -1 */
	G(RAX) = BIT64(63);
	G(RDX) = UINT64_MAX;
	WANT_FAULT(EX_DE, 0x48, 0xf7, 0xfb); /* -2^63 / -1 */
	G(RBX) = 1;
	WANT_DONE(0x48, 0xf7, 0xfb);
	WANT_EQ(G(RAX), BIT64(63));
	G(RAX) = 0xff80;
	G(RBX) = 0xff;
	WANT_FAULT(EX_DE, 0xf6, 0xfb); /* -128 / -1 */
	G(RBX) = 0x01;
	WANT_DONE(0xf6, 0xfb);
	WANT_EQ(G(RAX) & 0xffff, 0x0080);
	G(RAX) = 0;
	G(RDX) = 5;
	G(RBX) = 5;
	WANT_FAULT(EX_DE, 0x48, 0xf7, 0xf3); /* div: the quotient is 2^64 */
	G(RBX) = 6;
	WANT_DONE(0x48, 0xf7, 0xf3);
	WANT_EQ(G(RAX), 0xd555555555555555);
	WANT_EQ(G(RDX), 2);
	testvm_free(f->vm);
}

/* --- atomics
 * -------------------------------------------------------------------------------------------- */
static void test_atomics(struct test *t)
{
	struct fixture fx, *f = long64(&fx);

	G(RBX) = 0x5008;
	WANT_FAULT(EX_GP, 0x48, 0x0f, 0xc7, 0x0b); /* cmpxchg16b: not aligned */
	G(RBX) = 0x5ffd;                           /* over a page's end, by the slow path */
	store_le64(RAM(f) + 0x5ffd, 0x1111111122222222);
	G(RAX) = 5;
	WANT_DONE(0xf0, 0x48, 0x01, 0x03); /* lock add [rbx], rax */
	WANT_EQ(load_le64(RAM(f) + 0x5ffd), 0x1111111122222227);
	WANT_DONE(0x48, 0x87, 0x03); /* xchg [rbx], rax */
	WANT_EQ(G(RAX), 0x1111111122222227);
	WANT_EQ(load_le64(RAM(f) + 0x5ffd), 5);
	G(RCX) = 3;
	WANT_DONE(0xf0, 0x48, 0x0f, 0xc1, 0x0b); /* lock xadd [rbx], rcx */
	WANT_EQ(G(RCX), 5);
	WANT_EQ(load_le64(RAM(f) + 0x5ffd), 8);
	G(RAX) = 8;
	G(RCX) = 9;
	WANT_DONE(0xf0, 0x48, 0x0f, 0xb1, 0x0b); /* lock cmpxchg [rbx], rcx */
	WANT_EQ(load_le64(RAM(f) + 0x5ffd), 9);
	WANT(f->cpu->cc & CC_ZF);
	WANT_DONE(0x48, 0x0f, 0xb1, 0x0b);
	WANT_EQ(G(RAX), 9);
	WANT(!(f->cpu->cc & CC_ZF));
	G(RDX) = 0;
	G(RCX) = 0xabcd;
	G(RBX) = 0x6ffc;
	store_le64(RAM(f) + 0x6ffc, 9);
	WANT_DONE(0xf0, 0x0f, 0xc7, 0x0b); /* cmpxchg8b over the end: ECX:EBX */
	WANT_EQ(load_le64(RAM(f) + 0x6ffc), 0xabcd00006ffc);
	testvm_free(f->vm);
}

/* --- strings
 * ------------------------------------------------------------------------------------------------
 */
static void fill(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		p[i] = (uint8_t)(i * 7 + i / 256);
	}
}

/* A copy over several pages, both sides misaligned differently. */
static void test_movs(struct test *t)
{
	struct fixture fx, *f = long64(&fx);

	fill(RAM(f) + 0x50123, 20000);
	G(RSI) = 0x50123;
	G(RDI) = 0x70ff1;
	G(RCX) = 20000;
	WANT_DONE(0xf3, 0xa4);
	WANT_EQ(memcmp(RAM(f) + 0x70ff1, RAM(f) + 0x50123, 20000), 0);
	WANT_EQ(G(RCX), 0);
	WANT_EQ(G(RSI), 0x50123 + 20000);
	WANT_EQ(G(RDI), 0x70ff1 + 20000);
	f->cpu->rflags |= FL_DF;
	G(RSI) = 0x50123 + 8 * 2000;
	G(RDI) = 0x90ff1 + 8 * 2000;
	G(RCX) = 2001;
	WANT_DONE(0xf3, 0x48, 0xa5);
	WANT_EQ(memcmp(RAM(f) + 0x90ff1, RAM(f) + 0x50123, 2001 * 8), 0);
	WANT_EQ(G(RSI), 0x50123 - 8);
	WANT_EQ(G(RCX), 0);
	WANT_EQ(RAM(f)[0x90ff0], 0);
	testvm_free(f->vm);
}

/* A destination just behind the source repeats the pattern, as one element after the other does. */
static void test_movs_overlap(struct test *t)
{
	struct fixture fx, *f = long64(&fx);

	memcpy(RAM(f) + 0x50ff0, "abc", 3);
	G(RSI) = 0x50ff0;
	G(RDI) = 0x50ff3;
	G(RCX) = 6000;
	WANT_DONE(0xf3, 0xa4);
	for (unsigned i = 0; i < 6003; i++) {
		WANT_EQ(RAM(f)[0x50ff0 + i], "abc"[i % 3]);
	}
	WANT_EQ(RAM(f)[0x50ff0 + 6003], 0);
	testvm_free(f->vm);
}

static void test_stos_lods(struct test *t)
{
	struct fixture fx, *f = long64(&fx);

	G(RAX) = 0x1122334455667788;
	G(RDI) = 0x50ffa;
	G(RCX) = 3000;
	WANT_DONE(0xf3, 0xab); /* stosd */
	for (unsigned i = 0; i < 3000; i++) {
		WANT_EQ(load_le32(RAM(f) + 0x50ffa + 4 * i), 0x55667788);
	}
	WANT_EQ(load_le32(RAM(f) + 0x50ffa + 12000), 0);
	store_le32(RAM(f) + 0x50ffa + 4 * 2999, 0xbadc0de);
	G(RSI) = 0x50ffa;
	G(RCX) = 3000;
	WANT_DONE(0xf3, 0xad); /* lodsd: the last counts */
	WANT_EQ(G(RAX), 0xbadc0de);
	G(RCX) = 0;
	WANT_DONE(0xf3, 0xad); /* nothing */
	WANT_EQ(G(RAX), 0xbadc0de);
	testvm_free(f->vm);
}

static void test_scans(struct test *t)
{
	struct fixture fx, *f = long64(&fx);

	memset(RAM(f) + 0x50000, 'x', 10000);
	RAM(f)[0x50000 + 7777] = 'y';
	G(RDI) = 0x50000;
	G(RCX) = 10000;
	G(RAX) = 'y';
	WANT_DONE(0xf2, 0xae); /* repne scasb */
	WANT_EQ(G(RDI), 0x50000 + 7778);
	WANT_EQ(G(RCX), 10000 - 7778);
	WANT(f->cpu->cc & CC_ZF);
	memset(RAM(f) + 0x60000, 'x', 10000);
	G(RSI) = 0x60000;
	G(RDI) = 0x50000;
	G(RCX) = 10000;
	WANT_DONE(0xf3, 0xa6); /* repe cmpsb */
	WANT_EQ(G(RSI), 0x60000 + 7778);
	WANT_EQ(G(RCX), 10000 - 7778);
	WANT((f->cpu->cc & CC_CF) && !(f->cpu->cc & CC_ZF)); /* 'x' - 'y' */
	G(RCX) = 100;
	WANT_DONE(0xf3, 0xa6); /* all equal */
	WANT_EQ(G(RCX), 0);
	WANT(f->cpu->cc & CC_ZF);
	f->cpu->cc = CC_CF;
	WANT_DONE(0xf3, 0xa6); /* RCX 0: the flags stay */
	WANT_EQ(f->cpu->cc, CC_CF);
	testvm_free(f->vm);
}

/* RAM ends at 16 MiB: the registers say how far it came. */
static void test_string_fault(struct test *t)
{
	struct fixture fx, *f = long64(&fx);
	const uint64_t end = TESTVM_RAM_BYTES;

	G(RDI) = end - 10;
	G(RCX) = 100;
	G(RAX) = 0x5a;
	WANT_FAULT(EX_PF, 0xf3, 0xaa); /* rep stosb */
	WANT_EQ(G(RDI), end);
	WANT_EQ(G(RCX), 90);
	WANT_EQ(f->cpu->fault.payload, end);
	WANT_EQ(RAM(f)[end - 1], 0x5a);
	G(RSI) = end - 12; /* a qword over the end: the first is done, the second not */
	G(RDI) = 0x5000;
	G(RCX) = 4;
	WANT_FAULT(EX_PF, 0xf3, 0x48, 0xa5);
	WANT_EQ(G(RSI), end - 4);
	WANT_EQ(G(RDI), 0x5008);
	WANT_EQ(G(RCX), 3);
	testvm_free(f->vm);
}

/* Asked away: at least one chunk is done, RIP stays, and the instruction can go on. */
static void test_string_pause(struct test *t)
{
	struct fixture fx, *f = long64(&fx);
	const struct insn *in;

	G(RDI) = 0x50000;
	G(RCX) = 0x3000;
	memcpy(RAM(f) + CODE_IP, (const uint8_t[]){ 0xf3, 0xaa }, 2);
	f->cpu->rip = CODE_IP;
	WANT_EQ(block_step(f->cpu, &in), EXEC_END);
	WANT_EQ(f->cpu->rip, CODE_IP);
	WANT_EQ(G(RCX), 0x2000);
	WANT_EQ(G(RDI), 0x51000);
	f->cpu->rflags |= FL_TF; /* a step is one element */
	WANT_EQ(block_step(f->cpu, &in), EXEC_END);
	WANT_EQ(G(RCX), 0x1fff);
	testvm_free(f->vm);
}

static void test_string_wrap(struct test *t)
{
	struct fixture fx, *f = real16(&fx);

	fill(RAM(f) + DS_BASE, 0x10000);
	G(RSI) = 0xffff0000 | 0xfff0;
	G(RDI) = 0x100;
	G(RCX) = 0x20;
	WANT_DONE(0xf3, 0xa4); /* SI wraps at 64 KiB */
	WANT_EQ(memcmp(RAM(f) + ES_BASE + 0x100, RAM(f) + DS_BASE + 0xfff0, 0x10), 0);
	WANT_EQ(memcmp(RAM(f) + ES_BASE + 0x110, RAM(f) + DS_BASE, 0x10), 0);
	WANT_EQ(G(RSI), 0xffff0010);
	G(RSI) = 0xfff1; /* odd: a word over the end faults */
	G(RCX) = 0x10;
	WANT_FAULT(EX_GP, 0xf3, 0xa5);
	WANT_EQ(G(RSI), 0xffff);
	WANT_EQ(G(RCX), 9);
	f->cpu->rflags |= FL_DF;
	G(RSI) = 1;
	G(RDI) = 0x8000;
	G(RCX) = 4;
	WANT_DONE(0xf3, 0xa4); /* down through 0 */
	WANT_EQ(G(RSI), 0xfffd);
	WANT_EQ(RAM(f)[ES_BASE + 0x7ffd], RAM(f)[DS_BASE + 0xfffe]);
	testvm_free(f->vm);
}

static void test_string_limit(struct test *t)
{
	struct fixture fx, *f = prot32(&fx, 0x17ff);

	G(RDI) = 0x1000;
	G(RCX) = 0x1000;
	G(RAX) = 0x77;
	WANT_FAULT(EX_GP, 0xf3, 0xaa);
	WANT_EQ(G(RDI), 0x1800);
	WANT_EQ(G(RCX), 0x800);
	WANT_EQ(RAM(f)[ES_BASE + 0x17ff], 0x77);
	WANT_EQ(RAM(f)[ES_BASE + 0x1800], 0);
	testvm_free(f->vm);
}

static const struct test_case cases[] = {
	{ "16-bit addresses", test_addr16 },
	{ "bit strings", test_bit_strings },
	{ "16-bit stack", test_stack16 },
	{ "PUSHA, POPA", test_push_all },
	{ "POP to memory", test_pop_mem },
	{ "ENTER, LEAVE", test_enter },
	{ "branches and limits", test_branches },
	{ "LOOP, JCXZ", test_loops },
	{ "64-bit branches", test_branch64 },
	{ "decimal arithmetic", test_decimal },
	{ "BOUND", test_bound },
	{ "division errors", test_divide },
	{ "atomics", test_atomics },
	{ "MOVS", test_movs },
	{ "overlapping MOVS", test_movs_overlap },
	{ "STOS, LODS", test_stos_lods },
	{ "SCAS, CMPS", test_scans },
	{ "a fault within a string", test_string_fault },
	{ "a pause within a string", test_string_pause },
	{ "strings that wrap", test_string_wrap },
	{ "strings and limits", test_string_limit },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
