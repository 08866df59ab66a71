/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images are made here, whole and broken, and loaded into a small memory; what
 * a kernel would find is read back.
 */
#include "machine/load.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/test.h"
#include "machine/load_int.h"

#define RAM_BYTES MIB(64)

static const struct load_range test_map[] = {
	{ 0, 0x9fc00, LOAD_RANGE_RAM },
	{ 0x9fc00, 0x60400, LOAD_RANGE_RESERVED },
	{ MIB(1), RAM_BYTES - MIB(1) - 0x20000, LOAD_RANGE_RAM },
	{ RAM_BYTES - 0x20000, 0x20000, LOAD_RANGE_ACPI },
};

/* A scratch directory with a kernel `k` and an initrd `i`, memory, and results. */
struct fixture {
	char dir[48], kernel[64], initrd[64], second[64];
	struct mem *mem;
	struct load *load;
	struct machine_start start;
	struct load_params params;
	char error[512];
};

static bool setup(struct fixture *x)
{
	memset(x, 0, sizeof(*x));
	snprintf(x->dir, sizeof(x->dir), "/tmp/lodge-load-test.XXXXXX");
	if (!mkdtemp(x->dir) || mem_new(&x->mem) < 0 ||
	    mem_add(x->mem, 0, RAM_BYTES, 0, "ram") < 0) {
		return false;
	}
	snprintf(x->kernel, sizeof(x->kernel), "%s/k", x->dir);
	snprintf(x->initrd, sizeof(x->initrd), "%s/i", x->dir);
	snprintf(x->second, sizeof(x->second), "%s/j", x->dir);
	x->params = (struct load_params){ test_map, ARRAY_SIZE(test_map), 0xe0000 };
	return true;
}

static void teardown(struct fixture *x)
{
	load_close(x->load);
	mem_free(x->mem);
	unlink(x->kernel);
	unlink(x->initrd);
	unlink(x->second);
	rmdir(x->dir);
}

static void put_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	(void)!write(fd, data, len);
	close(fd);
}

static int open_it(struct fixture *x, const char *initrd, const char *cmdline)
{
	load_close(x->load);
	x->load = NULL;
	return load_open(x->kernel, initrd, cmdline, x->error, sizeof(x->error), &x->load);
}

static int open_and_place(struct fixture *x, const char *initrd, const char *cmdline)
{
	int r = open_it(x, initrd, cmdline);

	return r < 0 ? r
		     : load_place(x->load, x->mem, &x->params, &x->start, x->error,
				  sizeof(x->error));
}

static uint64_t peek(struct fixture *x, gpa_t gpa, unsigned size)
{
	uint64_t v = 0;

	return mem_read(x->mem, gpa, &v, size) == 0 ? v : UINT64_MAX;
}

static bool guest_text_is(struct fixture *x, gpa_t gpa, const char *want)
{
	char *p = mem_map(x->mem, gpa, strlen(want) + 1, false);

	return p && strcmp(p, want) == 0;
}

/* The error is one line that has all these words. */
static bool error_has(struct fixture *x, const char *a, const char *b)
{
	if (!strstr(x->error, a) || !strstr(x->error, b) || strchr(x->error, '\n')) {
		printf("# error: %s\n", x->error);
		return false;
	}
	return true;
}

/* --- bzImage ------------------------------------------------------------------ */

#define BZ_SETUP   (2 * 512u)
#define BZ_PAYLOAD 4096u

static void make_bzimage(uint8_t image[BZ_SETUP + BZ_PAYLOAD])
{
	memset(image, 0, BZ_SETUP);
	memset(image + BZ_SETUP, 0xab, BZ_PAYLOAD);
	image[0x1f1] = 1;
	store_le32(image + 0x1f4, BZ_PAYLOAD / 16);
	store_le16(image + 0x1fe, 0xaa55);
	image[0x200] = 0xeb;
	image[0x201] = 0x6a;
	memcpy(image + 0x202, "HdrS", 4);
	store_le16(image + 0x206, 0x020f);
	image[0x211] = 1;
	store_le32(image + 0x22c, 0x7fffffff);
	store_le32(image + 0x230, MIB(2));
	image[0x234] = 1;
	store_le16(image + 0x236, 3);
	store_le32(image + 0x238, 2047);
	store_le64(image + 0x258, MIB(16));
	store_le32(image + 0x260, MIB(20));
}

static void test_bzimage(struct test *t)
{
	uint8_t image[BZ_SETUP + BZ_PAYLOAD];
	uint64_t initrd;
	struct fixture x;

	CHECK(t, setup(&x));
	make_bzimage(image);
	put_file(x.kernel, image, sizeof(image));
	put_file(x.initrd, "INITRD", 6);
	CHECK_EQ(t, open_and_place(&x, x.initrd, "console=ttyS0 quiet"), 0);
	CHECK_EQ(t, load_kind(x.load), MACHINE_KERNEL_BZIMAGE);
	CHECK(t, x.start.long_mode);
	CHECK_EQ(t, x.start.rip, MIB(16) + 0x200);
	CHECK_EQ(t, peek(&x, MIB(16), 4), 0xabababab);
	CHECK_EQ(t, peek(&x, MIB(16) + BZ_PAYLOAD, 1), 0);
	/* The zero page. */
	CHECK_EQ(t, peek(&x, x.start.rsi + 0x070, 8), 0xe0000);
	CHECK_EQ(t, peek(&x, x.start.rsi + 0x1e8, 1), ARRAY_SIZE(test_map));
	CHECK_EQ(t, peek(&x, x.start.rsi + 0x2d0 + 40, 8), MIB(1));
	CHECK_EQ(t, peek(&x, x.start.rsi + 0x2d0 + 3 * 20 + 16, 4), LOAD_RANGE_ACPI);
	CHECK_EQ(t, peek(&x, x.start.rsi + 0x210, 1), 0xff);
	CHECK(t, guest_text_is(&x, peek(&x, x.start.rsi + 0x228, 4), "console=ttyS0 quiet"));
	initrd = peek(&x, x.start.rsi + 0x218, 4);
	CHECK_EQ(t, peek(&x, x.start.rsi + 0x21c, 4), 6);
	CHECK_EQ(t, initrd, RAM_BYTES - 0x20000 - 4096);
	CHECK_EQ(t, peek(&x, initrd, 6), 0x445254494e49ull);
	/* Page tables and GDT. */
	CHECK_EQ(t, peek(&x, x.start.cr3, 8) & 3, 3);
	CHECK_EQ(t, peek(&x, (peek(&x, x.start.cr3, 8) & ~0xfffull) + 24, 8) & 3, 3);
	CHECK_EQ(t, peek(&x, x.start.gdt_base + x.start.cs, 8), 0x00af9b000000ffffull);
	teardown(&x);
}

static void test_bzimage_again_after_reset(struct test *t)
{
	uint8_t image[BZ_SETUP + BZ_PAYLOAD];
	struct fixture x;

	CHECK(t, setup(&x));
	make_bzimage(image);
	put_file(x.kernel, image, sizeof(image));
	CHECK_EQ(t, open_and_place(&x, NULL, NULL), 0);
	memset(mem_map(x.mem, 0, MIB(32), true), 0xee, MIB(32));
	unlink(x.kernel);
	CHECK_EQ(t, load_place(x.load, x.mem, &x.params, &x.start, x.error, sizeof(x.error)), 0);
	CHECK_EQ(t, peek(&x, MIB(16), 4), 0xabababab);
	CHECK_EQ(t, peek(&x, x.start.rsi + 0x21c, 4), 0);
	CHECK(t, guest_text_is(&x, peek(&x, x.start.rsi + 0x228, 4), ""));
	teardown(&x);
}

static void test_bzimage_moves_if_it_can(struct test *t)
{
	uint8_t image[BZ_SETUP + BZ_PAYLOAD];
	struct fixture x;

	CHECK(t, setup(&x));
	make_bzimage(image);
	store_le32(image + 0x260, MIB(50));
	put_file(x.kernel, image, sizeof(image));
	CHECK_EQ(t, open_and_place(&x, NULL, NULL), 0);
	CHECK_EQ(t, x.start.rip, MIB(2) + 0x200);
	image[0x234] = 0;
	put_file(x.kernel, image, sizeof(image));
	CHECK_EQ(t, open_and_place(&x, NULL, NULL), -ENOMEM);
	CHECK(t, error_has(&x, "too large for 64 MiB", "at least --memory 68M"));
	teardown(&x);
}

static void test_bzimage_broken(struct test *t)
{
	static const struct {
		unsigned offset, size;
		uint64_t value;
		int want;
		const char *says, *hint;
	} rows[] = {
		{ 0x206, 2, 0x020b, ENOEXEC, "2.11", "Linux 3.8 or later" },
		{ 0x236, 2, 0, ENOEXEC, "no 64-bit entry", "x86-64" },
		{ 0x1f4, 4, 0, ENOEXEC, "broken", "no code" },
		{ 0x1f4, 4, 0xffffffff, ENOEXEC, "truncated", "complete?" },
		{ 0x1f1, 1, 0xff, ENOEXEC, "truncated", "complete?" },
		{ 0x230, 4, 3, ENOEXEC, "broken", "alignment" },
		{ 0x260, 4, 0xffffffff, ENOMEM, "too large", "--memory" },
		{ 0x238, 4, 3, E2BIG, "command line", "at most 3" },
	};
	uint8_t image[BZ_SETUP + BZ_PAYLOAD];
	struct fixture x;

	CHECK(t, setup(&x));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		make_bzimage(image);
		memcpy(image + rows[i].offset, &rows[i].value, rows[i].size);
		put_file(x.kernel, image, sizeof(image));
		CHECK_EQ(t, open_and_place(&x, NULL, "four"), -rows[i].want);
		CHECK(t, error_has(&x, rows[i].says, rows[i].hint));
		/* All but the command line's own limit is the kernel's matter. */
		CHECK(t, rows[i].want == E2BIG || error_has(&x, "kernel", x.kernel));
	}
	/* Wild preferred addresses: moved, not followed. */
	for (int i = 0; i < 64; i++) {
		make_bzimage(image);
		store_le64(image + 0x258, ~0ull << i);
		put_file(x.kernel, image, sizeof(image));
		CHECK_EQ(t, open_and_place(&x, NULL, ""), 0);
		CHECK_EQ(t, x.start.rip, MIB(2) + 0x200);
	}
	/* Cut off anywhere. */
	make_bzimage(image);
	for (size_t len = 1; len < sizeof(image) - 15; len += 61) {
		put_file(x.kernel, image, len);
		CHECK_EQ(t, open_and_place(&x, NULL, ""), -ENOEXEC);
	}
	teardown(&x);
}

static void test_initrd_too_large(struct test *t)
{
	uint8_t image[BZ_SETUP + BZ_PAYLOAD];
	struct fixture x;

	CHECK(t, setup(&x));
	make_bzimage(image);
	put_file(x.kernel, image, sizeof(image));
	put_file(x.initrd, "x", 1);
	CHECK_EQ(t, truncate(x.initrd, MIB(100)), 0);
	CHECK_EQ(t, open_and_place(&x, x.initrd, NULL), -ENOMEM);
	CHECK(t, error_has(&x, "too large for 64 MiB of memory", "--memory 138M"));
	CHECK(t, error_has(&x, x.initrd, x.kernel));
	teardown(&x);
}

/* Small memory below, kernel at its top: the initrd goes below the kernel. */
static void test_initrd_below_the_kernel(struct test *t)
{
	uint8_t image[BZ_SETUP + BZ_PAYLOAD];
	struct fixture x;

	CHECK(t, setup(&x));
	make_bzimage(image);
	store_le32(image + 0x260, RAM_BYTES - MIB(16) - 0x20000);
	put_file(x.kernel, image, sizeof(image));
	put_file(x.initrd, "INITRD", 6);
	CHECK_EQ(t, open_and_place(&x, x.initrd, NULL), 0);
	CHECK_EQ(t, peek(&x, x.start.rsi + 0x218, 4), MIB(16) - 4096);
	teardown(&x);
}

/* --- ELF ---------------------------------------------------------------------- */

struct elf64_image {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[2];
	struct {
		Elf64_Nhdr head;
		char name[4];
		uint32_t entry, pad;
	} note;
	uint8_t code[64];
};

static void make_elf64(struct elf64_image *i)
{
	memset(i, 0, sizeof(*i));
	memcpy(i->eh.e_ident, ELFMAG, SELFMAG);
	i->eh.e_ident[EI_CLASS] = ELFCLASS64;
	i->eh.e_ident[EI_DATA] = ELFDATA2LSB;
	i->eh.e_machine = EM_X86_64;
	i->eh.e_phoff = offsetof(struct elf64_image, ph);
	i->eh.e_phnum = 2;
	i->eh.e_phentsize = sizeof(Elf64_Phdr);
	i->eh.e_entry = MIB(3);
	i->ph[0] = (Elf64_Phdr){ .p_type = PT_LOAD,
				 .p_offset = offsetof(struct elf64_image, code),
				 .p_paddr = MIB(2),
				 .p_filesz = sizeof(i->code),
				 .p_memsz = 8192 };
	i->ph[1] = (Elf64_Phdr){ .p_type = PT_NOTE,
				 .p_offset = offsetof(struct elf64_image, note),
				 .p_filesz = sizeof(i->note),
				 .p_align = 4 };
	i->note.head = (Elf64_Nhdr){ 4, 4, 18 };
	memcpy(i->note.name, "Xen", 4);
	i->note.entry = MIB(2) + 16;
	memset(i->code, 0xcd, sizeof(i->code));
}

static void test_pvh(struct test *t)
{
	struct elf64_image image;
	struct fixture x;
	uint64_t info;

	CHECK(t, setup(&x));
	make_elf64(&image);
	put_file(x.kernel, &image, sizeof(image));
	put_file(x.initrd, "INITRD", 6);
	memset(mem_map(x.mem, MIB(2), 16384, true), 0xee, 16384);
	CHECK_EQ(t, open_and_place(&x, x.initrd, "hello"), 0);
	CHECK_EQ(t, load_kind(x.load), MACHINE_KERNEL_PVH);
	CHECK(t, !x.start.long_mode);
	CHECK_EQ(t, x.start.rip, MIB(2) + 16);
	CHECK_EQ(t, x.start.cr0, 0x11);
	CHECK_EQ(t, x.start.cr4 | x.start.efer, 0);
	CHECK_EQ(t, peek(&x, x.start.gdt_base + x.start.cs, 8), 0x00cf9b000000ffffull);
	CHECK_EQ(t, peek(&x, MIB(2) + 63, 1), 0xcd);
	CHECK_EQ(t, peek(&x, MIB(2) + 64, 8), 0);
	CHECK_EQ(t, peek(&x, MIB(2) + 8191, 1), 0);
	CHECK_EQ(t, peek(&x, MIB(2) + 8192, 1), 0xee);
	info = x.start.rbx;
	CHECK_EQ(t, peek(&x, info, 4), 0x336ec578);
	CHECK_EQ(t, peek(&x, info + 4, 4), 1);
	CHECK_EQ(t, peek(&x, info + 12, 4), 1);
	CHECK_EQ(t, peek(&x, peek(&x, info + 16, 8) + 8, 8), 6);
	CHECK_EQ(t, peek(&x, peek(&x, peek(&x, info + 16, 8), 8), 6), 0x445254494e49ull);
	CHECK(t, guest_text_is(&x, peek(&x, info + 24, 8), "hello"));
	CHECK_EQ(t, peek(&x, info + 32, 8), 0xe0000);
	CHECK_EQ(t, peek(&x, info + 48, 4), ARRAY_SIZE(test_map));
	CHECK_EQ(t, peek(&x, peek(&x, info + 40, 8) + 48, 8), MIB(1));
	teardown(&x);
}

static void test_elf_broken(struct test *t)
{
	struct elf64_image image;
	struct fixture x;

	CHECK(t, setup(&x));
#define BREAK(change, err, says, hint)                               \
	do {                                                         \
		make_elf64(&image);                                  \
		change;                                              \
		put_file(x.kernel, &image, sizeof(image));           \
		CHECK_EQ(t, open_and_place(&x, NULL, NULL), -(err)); \
		CHECK(t, error_has(&x, says, hint));                 \
		CHECK(t, error_has(&x, "kernel", x.kernel));         \
	} while (0)
	BREAK(image.eh.e_machine = EM_AARCH64, ENOEXEC, "another processor", "x86-64");
	BREAK(image.eh.e_ident[EI_CLASS] = 7, ENOEXEC, "broken ELF", "identification");
	BREAK(image.eh.e_phnum = 0, ENOEXEC, "broken ELF", "program headers");
	BREAK(image.eh.e_phnum = 0xffff, ENOEXEC, "broken ELF", "program headers");
	BREAK(image.eh.e_phentsize = 1, ENOEXEC, "broken ELF", "program headers");
	BREAK(image.eh.e_phoff = ~0ull - 8, ENOEXEC, "broken ELF", "outside");
	BREAK(image.eh.e_phoff = 1 << 30, ENOEXEC, "truncated", "complete?");
	BREAK(image.ph[0].p_filesz = 8193, ENOEXEC, "broken ELF", "sizes");
	BREAK(image.ph[0].p_paddr = ~0ull - 4096, ENOEXEC, "broken ELF", "sizes");
	BREAK(image.ph[0].p_offset = sizeof(image) - 3, ENOEXEC, "truncated", "complete?");
	BREAK(image.ph[0].p_offset = ~0ull, ENOEXEC, "truncated", "complete?");
	BREAK(image.ph[0].p_type = PT_NULL, ENOEXEC, "broken ELF", "nothing to load");
	BREAK(image.ph[1].p_offset = ~0ull - 2, ENOEXEC, "broken ELF", "notes");
	BREAK(image.note.head.n_type = 17, ENOEXEC, "without a PVH note", "vmlinuz");
	BREAK(image.note.head.n_namesz = ~0u, ENOEXEC, "without a PVH note", "vmlinuz");
	BREAK(image.note.head.n_descsz = ~0u, ENOEXEC, "without a PVH note", "vmlinuz");
	BREAK(image.note.head.n_descsz = 8; image.note.pad = 1, ENOEXEC, "PVH entry", "4 GiB");
	BREAK(image.ph[0].p_memsz = GIB(900), ENOMEM, "too large", "--memory 921604M");
	BREAK(image.ph[0].p_paddr = 0xa0000, ENOMEM, "too large", "--memory");
	BREAK(image.ph[0].p_paddr = 0x8000, ENOEXEC, "0x8000", "start information");
#undef BREAK
	make_elf64(&image);
	for (size_t len = 1; len < sizeof(image); len += 7) {
		put_file(x.kernel, &image, len);
		CHECK_EQ(t, open_and_place(&x, NULL, NULL), -ENOEXEC);
	}
	teardown(&x);
}

/* --- multiboot ------------------------------------------------------------------ */

struct multiboot_image {
	uint8_t before[64];
	uint32_t magic, flags, sum, header_addr, load_addr, load_end, bss_end, entry;
	uint8_t code[128];
};

static void make_multiboot(struct multiboot_image *i)
{
	memset(i, 0x90, sizeof(*i));
	i->magic = 0x1badb002;
	i->flags = 0x10003;
	i->sum = -(i->magic + i->flags);
	i->load_addr = MIB(4);
	i->header_addr = MIB(4) + 64;
	i->load_end = MIB(4) + sizeof(*i);
	i->bss_end = MIB(5);
	i->entry = MIB(4) + 100;
}

static void test_multiboot(struct test *t)
{
	struct multiboot_image image;
	struct fixture x;
	char both[160], line[160];
	uint64_t info, mod;

	CHECK(t, setup(&x));
	make_multiboot(&image);
	put_file(x.kernel, &image, sizeof(image));
	put_file(x.initrd, "INITRD", 6);
	put_file(x.second, "two", 3);
	snprintf(both, sizeof(both), "%s,%s", x.initrd, x.second);
	CHECK_EQ(t, open_and_place(&x, both, "a b"), 0);
	CHECK_EQ(t, load_kind(x.load), MACHINE_KERNEL_MULTIBOOT);
	CHECK_EQ(t, x.start.rax, 0x2badb002);
	CHECK_EQ(t, x.start.rip, MIB(4) + 100);
	CHECK_EQ(t, peek(&x, MIB(4) + sizeof(image) - 1, 1), 0x90);
	CHECK_EQ(t, peek(&x, MIB(4) + sizeof(image), 1), 0);
	info = x.start.rbx;
	CHECK_EQ(t, peek(&x, info, 4) & 0x24d, 0x24d);
	CHECK_EQ(t, peek(&x, info + 4, 4), 0x9fc00 / 1024);
	CHECK_EQ(t, peek(&x, info + 8, 4), (RAM_BYTES - MIB(1) - 0x20000) / 1024);
	snprintf(line, sizeof(line), "%s a b", x.kernel);
	CHECK(t, guest_text_is(&x, peek(&x, info + 16, 4), line));
	CHECK_EQ(t, peek(&x, info + 20, 4), 2);
	mod = peek(&x, info + 24, 4);
	CHECK_EQ(t, peek(&x, mod, 4), MIB(5));
	CHECK_EQ(t, peek(&x, mod + 4, 4), MIB(5) + 6);
	CHECK(t, guest_text_is(&x, peek(&x, mod + 8, 4), x.initrd));
	CHECK_EQ(t, peek(&x, mod + 16, 4), MIB(5) + 4096);
	CHECK_EQ(t, peek(&x, MIB(5) + 4096, 3), 0x6f7774);
	CHECK(t, guest_text_is(&x, peek(&x, mod + 24, 4), x.second));
	CHECK_EQ(t, peek(&x, info + 44, 4), ARRAY_SIZE(test_map) * 24);
	CHECK_EQ(t, peek(&x, peek(&x, info + 48, 4), 4), 20);
	CHECK_EQ(t, peek(&x, peek(&x, info + 48, 4) + 2 * 24 + 4, 8), MIB(1));
	CHECK(t, guest_text_is(&x, peek(&x, info + 64, 4), "Lodge"));
	teardown(&x);
}

static void test_multiboot_broken(struct test *t)
{
	struct multiboot_image image;
	struct fixture x;

	CHECK(t, setup(&x));
#define BREAK(change, err, says)                                     \
	do {                                                         \
		make_multiboot(&image);                              \
		change;                                              \
		image.sum = -(image.magic + image.flags);            \
		put_file(x.kernel, &image, sizeof(image));           \
		CHECK_EQ(t, open_and_place(&x, NULL, NULL), -(err)); \
		CHECK(t, error_has(&x, says, x.kernel));             \
	} while (0)
	BREAK(image.magic++, ENOEXEC, "is not a kernel");
	BREAK(image.flags |= 0x100, ENOTSUP, "0x100");
	BREAK(image.header_addr = 0, ENOEXEC, "addresses lie");
	BREAK(image.load_addr = 0, ENOEXEC, "addresses lie");
	BREAK(image.load_end = 5, ENOEXEC, "before it begins");
	BREAK(image.load_end = ~0u, ENOEXEC, "truncated");
	BREAK(image.bss_end = ~0u, ENOMEM, "--memory 4097M");
	BREAK(image.load_addr = 0x8000; image.header_addr = 0x8040; image.load_end = 0;
	      image.bss_end = 0, ENOEXEC, "start information");
	BREAK(image.flags = 3, ENOEXEC, "broken ELF");
#undef BREAK
	/* A header cut off by the end of the file. */
	make_multiboot(&image);
	put_file(x.kernel, &image, 80);
	CHECK_EQ(t, open_and_place(&x, NULL, NULL), -ENOEXEC);
	teardown(&x);
}

/* --- files ---------------------------------------------------------------------- */

static void test_bad_files(struct test *t)
{
	uint8_t image[BZ_SETUP + BZ_PAYLOAD];
	static char line[LOAD_CMDLINE_MAX + 2];
	struct fixture x;

	CHECK(t, setup(&x));
	CHECK_EQ(t, open_it(&x, NULL, NULL), -ENOENT);
	CHECK(t, error_has(&x, x.kernel, "No such file"));
	CHECK_EQ(t, load_open(x.dir, NULL, NULL, x.error, sizeof(x.error), &x.load), -EINVAL);
	CHECK(t, error_has(&x, x.dir, "is a directory; give a file"));
	CHECK_EQ(t, load_open("/dev/null", NULL, NULL, x.error, sizeof(x.error), &x.load), -EINVAL);
	CHECK(t, error_has(&x, "/dev/null", "not a regular file"));
	CHECK_EQ(t, mkfifo(x.kernel, 0600), 0);
	CHECK_EQ(t, open_it(&x, NULL, NULL), -EINVAL);
	unlink(x.kernel);
	put_file(x.kernel, "", 0);
	CHECK_EQ(t, open_it(&x, NULL, NULL), -ENOEXEC);
	CHECK(t, error_has(&x, x.kernel, "is empty"));
	put_file(x.kernel, "#!/bin/sh\n", 10);
	CHECK_EQ(t, open_it(&x, NULL, NULL), -ENOEXEC);
	CHECK(t, error_has(&x, x.kernel, "is not a kernel; give a bzImage"));
	make_bzimage(image);
	put_file(x.kernel, image, sizeof(image));
	CHECK_EQ(t, open_it(&x, x.initrd, NULL), -ENOENT);
	CHECK(t, error_has(&x, "initrd", x.initrd));
	put_file(x.initrd, "", 0);
	CHECK_EQ(t, open_it(&x, x.initrd, NULL), -ENOEXEC);
	CHECK(t, error_has(&x, "is empty", x.initrd));
	memset(line, 'x', LOAD_CMDLINE_MAX + 1);
	CHECK_EQ(t, open_it(&x, NULL, line), -E2BIG);
	CHECK(t, error_has(&x, "2048 bytes", "at most 2047"));
	if (geteuid() != 0) {
		chmod(x.kernel, 0);
		CHECK_EQ(t, open_it(&x, NULL, NULL), -EACCES);
		CHECK(t, error_has(&x, x.kernel, "Permission denied"));
	}
	teardown(&x);
}

/* The file shrinks between start and reset. */
static void test_file_that_shrinks(struct test *t)
{
	uint8_t image[BZ_SETUP + BZ_PAYLOAD];
	struct fixture x;

	CHECK(t, setup(&x));
	make_bzimage(image);
	put_file(x.kernel, image, sizeof(image));
	put_file(x.initrd, "INITRD", 6);
	CHECK_EQ(t, open_and_place(&x, x.initrd, NULL), 0);
	CHECK_EQ(t, truncate(x.initrd, 3), 0);
	CHECK_EQ(t, load_place(x.load, x.mem, &x.params, &x.start, x.error, sizeof(x.error)),
		 -ENOEXEC);
	CHECK(t, error_has(&x, "truncated", x.initrd));
	CHECK_EQ(t, truncate(x.kernel, 600), 0);
	CHECK_EQ(t, load_place(x.load, x.mem, &x.params, &x.start, x.error, sizeof(x.error)),
		 -ENOEXEC);
	CHECK(t, error_has(&x, "truncated", x.kernel));
	teardown(&x);
}

static const struct test_case cases[] = {
	{ "bzImage", test_bzimage },
	{ "bzImage: again after a reset", test_bzimage_again_after_reset },
	{ "bzImage: moves if it can", test_bzimage_moves_if_it_can },
	{ "bzImage: broken ones", test_bzimage_broken },
	{ "initrd too large", test_initrd_too_large },
	{ "initrd below the kernel", test_initrd_below_the_kernel },
	{ "PVH", test_pvh },
	{ "ELF: broken ones", test_elf_broken },
	{ "multiboot", test_multiboot },
	{ "multiboot: broken ones", test_multiboot_broken },
	{ "bad files", test_bad_files },
	{ "a file that shrinks", test_file_that_shrinks },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
