/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 4-level paging: every combination of rights against a plain model of SDM 3A 4.6 and
 * 4.7; accessed and dirty bits; what INVLPG, CR3 and PCID do and need not do.
 */
#include "guest.h"

#define CR0_WP    (1ul << 16)
#define CR4_PGE   (1ul << 7)
#define CR4_PCIDE (1ul << 17)
#define CR4_SMEP  (1ul << 20)
#define CR4_SMAP  (1ul << 21)
#define FL_AC     (1ul << 18)

#define ERR_P    1
#define ERR_W    2
#define ERR_U    4
#define ERR_RSVD 8
#define ERR_I    16

enum access { READ, WRITE, EXEC };

static struct caught c;
static u8 *const page = (u8 *)WINDOW;

static void do_read(void *arg)
{
	__asm__ volatile("movb (%0), %%al" ::"r"(page) : "al");
}

static void do_write(void *arg)
{
	__asm__ volatile("movb $0xc3, (%0)" ::"r"(page) : "memory");
}

static void do_exec(void *arg)
{
	__asm__ volatile("call *%0" ::"r"(page) : "memory");
}

static void (*const kernel_do[])(void *) = { do_read, do_write, do_exec };

static void user_read(void *arg)
{
	do_read(arg);
	user_exit();
}

static void user_write(void *arg)
{
	do_write(arg);
	user_exit();
}

static void user_exec(void *arg)
{
	do_exec(arg);
	user_exit();
}

static void (*const user_do[])(void *) = { user_read, user_write, user_exec };

static bool has(u32 leaf, unsigned reg, unsigned bit)
{
	u32 r[4];

	cpuid(leaf, 0, &r[0], &r[1], &r[2], &r[3]);
	return r[reg] >> bit & 1;
}

static bool has_smep(void)
{
	return has(7, 1, 7);
}

static bool has_smap(void)
{
	return has(7, 1, 20);
}

/* What must happen: -1, or #PF's error code. `pde`, `pte`: the entries' rights. */
static long expect(u64 pde, u64 pte, bool user, enum access a, u64 cr0, u64 cr4, bool ac, bool nxe)
{
	u64 both = pde & pte;
	bool nx = nxe && ((pde | pte) & PTE_NX);
	bool us = both & PTE_U, rw = both & PTE_W;
	long err = (user ? ERR_U : 0) | (a == WRITE ? ERR_W : 0) |
		   (a == EXEC && (nxe || cr4 & CR4_SMEP) ? ERR_I : 0);

	/* level by level: missing, then reserved bits (NX is one without EFER.NXE) */
	if (!(pde & PTE_P)) {
		return err;
	}
	if (!nxe && (pde & PTE_NX)) {
		return err | ERR_P | ERR_RSVD;
	}
	if (!(pte & PTE_P)) {
		return err;
	}
	if (!nxe && (pte & PTE_NX)) {
		return err | ERR_P | ERR_RSVD;
	}
	if (user ? !us : 0) {
		return err | ERR_P;
	}
	if (!user && us && a == EXEC && (cr4 & CR4_SMEP)) {
		return err | ERR_P;
	}
	if (!user && us && a != EXEC && (cr4 & CR4_SMAP) && !ac) {
		return err | ERR_P;
	}
	if (a == WRITE && !rw && (user || (cr0 & CR0_WP))) {
		return err | ERR_P;
	}
	if (a == EXEC && nx) {
		return err | ERR_P;
	}
	return -1;
}

static u64 entry_rights(unsigned bits)
{
	return (bits & 1 ? PTE_P : 0) | (bits & 2 ? PTE_W : 0) | (bits & 4 ? PTE_U : 0) |
	       (bits & 8 ? PTE_NX : 0);
}

static bool want_ac;

static void kernel_access(void *fn)
{
	if (want_ac) {
		__asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq" ::: "memory", "cc");
	}
	((void (*)(void *))fn)(NULL);
	__asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
}

static unsigned one_case(u64 pde, u64 pte, bool user, enum access a, u64 cr0, u64 cr4, bool ac,
			 bool nxe)
{
	volatile u64 *const pde_at = &page_dirs[WINDOW >> 21];
	long want = expect(pde, pte, user, a, cr0, cr4, ac, nxe), got;

	window_pt[0] = (u64)scratch[0] | pte;
	*pde_at = (u64)window_pt | pde;
	invlpg(page);
	want_ac = ac;
	got = user ? catch_user(user_do[a], NULL, &c)
		   : catch_call(kernel_access, (void *)kernel_do[a], &c);
	if (got == 14) {
		got = (long)c.error;
	} else if (got != -1) {
		got = -100 - got;
	}
	if (got == want && (got == -1 || c.cr2 == WINDOW)) {
		bool a_set = window_pt[0] & PTE_A, d_set = window_pt[0] & PTE_D;

		if (want != -1 || (a_set && d_set == (a == WRITE))) {
			return 0;
		}
	}
	print("# pde 0x%x pte 0x%x user %u access %u cr0 0x%x cr4 0x%x ac %u nxe %u: got %x want "
	      "%x, entry 0x%x\n",
	      pde, pte, (u64)user, (u64)a, cr0, cr4, (u64)ac, (u64)nxe, (u64)got, (u64)want,
	      window_pt[0]);
	return 1;
}

static void test_rights(void)
{
	u64 cr0 = read_cr0(), cr4 = read_cr4(), efer = rdmsr(0xc0000080);
	unsigned wrong = 0, done = 0;

	window_init();
	memset(scratch[0], 0xc3, 16);
	for (unsigned mode = 0; mode < 32 && wrong < 10; mode++) {
		u64 m0 = mode & 1 ? cr0 | CR0_WP : cr0 & ~CR0_WP;
		u64 m4 = (cr4 & ~(CR4_SMEP | CR4_SMAP)) | (mode & 2 ? CR4_SMEP : 0) |
			 (mode & 4 ? CR4_SMAP : 0);
		bool ac = mode & 8, nxe = !(mode & 16);

		if ((m4 & CR4_SMEP && !has_smep()) || (m4 & CR4_SMAP && !has_smap())) {
			continue;
		}
		/* our own code and data are user pages: make them the kernel's while SMEP/SMAP are
		 * on */
		for (unsigned i = 0; i < 4; i++) {
			page_dirs[(0x400000 >> 21) + i] &= ~PTE_U;
		}
		for (unsigned user = 0; user < 2; user++) {
			if (user) {
				for (unsigned i = 0; i < 4; i++) {
					page_dirs[(0x400000 >> 21) + i] |= PTE_U;
				}
				if (m4 & (CR4_SMEP | CR4_SMAP)) {
					break; /* the kernel's part must stay the kernel's */
				}
			}
			write_cr3(read_cr3());
			wrmsr(0xc0000080, nxe ? efer : efer & ~0x800ul);
			write_cr0(m0);
			write_cr4(m4);
			for (unsigned rights = 0; rights < 256 && wrong < 10; rights++) {
				for (unsigned a = 0; a < 3; a++) {
					wrong += one_case(entry_rights(rights >> 4),
							  entry_rights(rights & 15), user, a, m0,
							  m4, ac, nxe);
					done++;
				}
			}
			write_cr4(cr4);
			write_cr0(cr0);
			wrmsr(0xc0000080, efer);
		}
		for (unsigned i = 0; i < 4; i++) {
			page_dirs[(0x400000 >> 21) + i] |= PTE_U;
		}
		write_cr3(read_cr3());
	}
	print("# %u cases\n", (u64)done);
	CHECK_EQ(wrong, 0);
}

static void test_reserved_bits(void)
{
	window_init();
	window_pt[0] = (u64)scratch[0] | PTE_P | PTE_W | 1ul << 51;
	invlpg(page);
	CHECK_EQ(catch_call(do_read, NULL, &c), 14);
	CHECK_EQ(c.error, ERR_P | ERR_RSVD);
	CHECK_EQ(catch_call(do_write, NULL, &c), 14);
	CHECK_EQ(c.error, ERR_P | ERR_RSVD | ERR_W);
	/* a large page with an address bit below 2 MiB set */
	page_dirs[WINDOW >> 21] = 0x400000 | PTE_P | PTE_W | PTE_PS | 1ul << 13;
	invlpg(page);
	CHECK_EQ(catch_call(do_read, NULL, &c), 14);
	CHECK_EQ(c.error, ERR_P | ERR_RSVD);
	window_init();
}

static void test_invlpg(void)
{
	window_init();
	scratch[0][0] = 1;
	scratch[1][0] = 2;
	window_pt[0] = (u64)scratch[0] | PTE_P | PTE_W;
	invlpg(page);
	CHECK_EQ(*(volatile u8 *)page, 1);
	window_pt[0] = (u64)scratch[1] | PTE_P | PTE_W;
	invlpg(page);
	CHECK_EQ(*(volatile u8 *)page, 2);
	window_pt[0] = (u64)scratch[0] | PTE_P | PTE_W;
	write_cr3(read_cr3());
	CHECK_EQ(*(volatile u8 *)page, 1);
	/* more rights need no flush: the processor looks again before it faults */
	window_pt[1] = (u64)scratch[1] | PTE_P;
	CHECK_EQ(((volatile u8 *)page)[4096], 2);
	window_pt[1] |= PTE_W;
	((volatile u8 *)page)[4096] = 7;
	CHECK_EQ(*(volatile u8 *)scratch[1], 7);
	/* not present is never cached */
	window_pt[2] = (u64)scratch[0] | PTE_P | PTE_W;
	CHECK_EQ(((volatile u8 *)page)[8192], 1);
}

static void test_global_pages(void)
{
	u64 cr4 = read_cr4();

	window_init();
	scratch[0][0] = 1;
	scratch[1][0] = 2;
	write_cr4(cr4 | CR4_PGE);
	window_pt[0] = (u64)scratch[0] | PTE_P | PTE_W | PTE_G;
	invlpg(page);
	CHECK_EQ(*(volatile u8 *)page, 1);
	window_pt[0] = (u64)scratch[1] | PTE_P | PTE_W | PTE_G;
	/* INVLPG drops global entries too; so does a change of PGE */
	invlpg(page);
	CHECK_EQ(*(volatile u8 *)page, 2);
	window_pt[0] = (u64)scratch[0] | PTE_P | PTE_W | PTE_G;
	write_cr4(cr4 & ~CR4_PGE);
	CHECK_EQ(*(volatile u8 *)page, 1);
	write_cr4(cr4);
}

static void do_bad_pcide(void *arg)
{
	write_cr3(read_cr3() | 1);
	write_cr4(read_cr4() | CR4_PCIDE);
}

static void invpcid(u64 type, u64 pcid, void *p)
{
	u64 desc[2] = { pcid, (u64)p };

	__asm__ volatile("invpcid %0, %1" ::"m"(desc), "r"(type) : "memory");
}

static void do_bad_invpcid(void *arg)
{
	invpcid((u64)arg, 0, NULL);
}

static void test_pcid(void)
{
	u64 cr3 = read_cr3(), cr4 = read_cr4();

	if (!has(1, 2, 17)) {
		skip("no PCID");
		return;
	}
	CHECK_EQ(catch_call(do_bad_pcide, NULL, &c), 13);
	write_cr3(cr3);
	window_init();
	scratch[0][0] = 1;
	scratch[1][0] = 2;
	write_cr4(cr4 | CR4_PCIDE);
	window_pt[0] = (u64)scratch[0] | PTE_P | PTE_W;
	write_cr3(cr3 | 1);
	CHECK_EQ(*(volatile u8 *)page, 1);
	window_pt[0] = (u64)scratch[1] | PTE_P | PTE_W;
	write_cr3(cr3 | 2); /* flushes PCID 2, nobody else */
	CHECK_EQ(*(volatile u8 *)page, 2);
	write_cr3(cr3 | 1); /* flushes PCID 1 */
	CHECK_EQ(*(volatile u8 *)page, 2);
	if (has(7, 1, 10)) {
		window_pt[0] = (u64)scratch[0] | PTE_P | PTE_W;
		invpcid(0, 1, page);
		CHECK_EQ(*(volatile u8 *)page, 1);
		window_pt[0] = (u64)scratch[1] | PTE_P | PTE_W;
		invpcid(1, 1, NULL);
		CHECK_EQ(*(volatile u8 *)page, 2);
		window_pt[0] = (u64)scratch[0] | PTE_P | PTE_W;
		invpcid(2, 0, NULL);
		CHECK_EQ(*(volatile u8 *)page, 1);
		window_pt[0] = (u64)scratch[1] | PTE_P | PTE_W;
		invpcid(3, 0, NULL);
		CHECK_EQ(*(volatile u8 *)page, 2);
		CHECK_EQ(catch_call(do_bad_invpcid, (void *)4, &c), 13);
	}
	write_cr3(cr3);
	write_cr4(cr4);
}

static void write_crossing(void *arg)
{
	__asm__ volatile("movq $-1, (%0)" ::"r"(page + 4092) : "memory");
}

static void test_crossing_write(void)
{
	window_init();
	memset(scratch[0], 0, 4096);
	window_pt[0] = (u64)scratch[0] | PTE_P | PTE_W;
	window_pt[1] = 0;
	invlpg(page);
	invlpg(page + 4096);
	CHECK_EQ(catch_call(write_crossing, NULL, &c), 14);
	CHECK_EQ(c.cr2, WINDOW + 4096);
	CHECK_EQ(c.error, ERR_W);
	/* nothing of it was written */
	CHECK_EQ(*(volatile u32 *)(scratch[0] + 4092), 0);
}

static void copy_into_hole(void *arg)
{
	u8 *d = page;
	const u8 *s = scratch[1];
	u64 n = 8192;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
}

static bool note_string_state(struct regs *r)
{
	if (r->vector == 14) {
		CHECK_EQ(r->rcx, 8192 - 4096);
		CHECK_EQ(r->rdi, WINDOW + 4096);
		CHECK_EQ(r->rsi, (u64)scratch[1] + 4096);
		CHECK_EQ(*(u16 *)r->rip, 0xa4f3);
	}
	return false;
}

static void test_string_fault(void)
{
	window_init();
	window_pt[0] = (u64)scratch[0] | PTE_P | PTE_W;
	invlpg(page);
	memset(scratch[1], 0x5a, 4096);
	trap_hook = note_string_state;
	CHECK_EQ(catch_call(copy_into_hole, NULL, &c), 14);
	trap_hook = NULL;
	CHECK_EQ(c.cr2, WINDOW + 4096);
	CHECK_EQ(memcmp(scratch[0], scratch[1], 4096), 0);
}

static void test_split_code(void)
{
	u8 *code = scratch[0] + 4093;

	/* an instruction over two pages that are not neighbours in memory */
	window_init();
	window_pt[0] = (u64)scratch[0] | PTE_P | PTE_W;
	window_pt[1] = (u64)scratch[5] | PTE_P | PTE_W;
	invlpg(page);
	invlpg(page + 4096);
	memcpy(code, "\xb8\x78\x56", 3);
	memcpy(scratch[5], "\x34\x12\xc3", 3);
	CHECK_EQ(((u32(*)(void))(page + 4093))(), 0x12345678);
	/* the second page changes under it */
	window_pt[1] = 0;
	invlpg(page + 4096);
	CHECK_EQ(catch_call((void (*)(void *))(page + 4093), NULL, &c), 14);
	CHECK_EQ(c.cr2, WINDOW + 4096);
	CHECK_EQ(c.rip, WINDOW + 4093);
}

const struct guest_test tests[] = {
	{ "access rights against the model", test_rights },
	{ "reserved bits", test_reserved_bits },
	{ "INVLPG and CR3", test_invlpg },
	{ "global pages", test_global_pages },
	{ "PCID and INVPCID", test_pcid },
	{ "a write over a missing page", test_crossing_write },
	{ "a string instruction stopped by a fault", test_string_fault },
	{ "code over two pages", test_split_code },
	{ 0 },
};
