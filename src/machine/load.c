/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Direct start of kernels: opening, telling the kinds apart, and what they share.
 */
#include "machine/load.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/hint.h"
#include "machine/load_int.h"

int load_fail(struct load_error *e, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (e->text && e->size) {
		vsnprintf(e->text, e->size, fmt, ap);
	}
	va_end(ap);
	return -err;
}

/* --- files ------------------------------------------------------------------ */

/* `what`: "kernel" or "initrd", for messages. */
static int open_file(const char *what, const char *path, struct load_file *f, struct load_error *e)
{
	struct stat st;

	/* Not to be stopped by a pipe that nobody writes to. */
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || fstat(fd, &st) < 0) {
		return load_fail(e, errno, "%s %s: cannot be opened: %s%s", what, path,
				 strerror(errno), hint_path(errno));
	}
	if (!S_ISREG(st.st_mode)) {
		return load_fail(e, EINVAL, "%s %s: is %s; give a file", what, path,
				 S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
	}
	if (st.st_size == 0) {
		return load_fail(e, ENOEXEC, "%s %s: is empty; is its download or build complete?",
				 what, path);
	}
	f->name = strdup(path);
	if (!f->name) {
		return load_fail(e, ENOMEM, "%s %s: out of memory", what, path);
	}
	f->what = what;
	f->size_bytes = (uint64_t)st.st_size;
	f->fd = TAKE_FD(fd);
	return 0;
}

static void close_file(struct load_file *f)
{
	fd_closep(&f->fd);
	free(f->name);
	f->name = NULL;
}

int load_pread(const struct load_file *f, uint64_t offset, void *buf, size_t len,
	       struct load_error *e)
{
	uint8_t *to = buf;
	ssize_t n;

	while (len) {
		n = pread(f->fd, to, len, (off_t)offset);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return load_fail(e, errno, "%s %s: cannot be read: %s", f->what, f->name,
					 strerror(errno));
		}
		if (n == 0) {
			return load_fail(e, ENOEXEC,
					 "%s %s: is truncated: it ends at byte %llu; "
					 "is its download or build complete?",
					 f->what, f->name, (unsigned long long)offset);
		}
		to += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* The host's address of as much as possible from `gpa` on, at most *len. */
static void *host_part(struct mem *m, gpa_t gpa, uint64_t *len)
{
	void *p = mem_host(m, gpa, *len);

	if (!p) {
		/* Regions end at page boundaries. */
		*len = MIN(*len, 4096 - gpa % 4096);
		p = mem_host(m, gpa, *len);
	}
	return p;
}

int load_copy(const struct load_file *f, uint64_t offset, struct mem *m, gpa_t gpa, uint64_t len,
	      struct load_error *e)
{
	while (len) {
		uint64_t part = len;
		void *to = host_part(m, gpa, &part);
		int r;

		if (!to) {
			return load_fail(e, EFAULT, "%s %s: no RAM at 0x%llx", f->what, f->name,
					 (unsigned long long)gpa);
		}
		r = load_pread(f, offset, to, part, e);
		if (r < 0) {
			return r;
		}
		offset += part;
		gpa += part;
		len -= part;
	}
	return 0;
}

bool load_put(struct mem *m, gpa_t gpa, const void *data, uint64_t len)
{
	const uint8_t *from = data;

	while (len) {
		uint64_t part = len;
		void *to = host_part(m, gpa, &part);

		if (!to) {
			return false;
		}
		if (from) {
			memcpy(to, from, part);
			from += part;
		} else {
			memset(to, 0, part);
		}
		gpa += part;
		len -= part;
	}
	return true;
}

/* --- the map ---------------------------------------------------------------- */

bool load_is_ram(const struct load_params *p, gpa_t gpa, uint64_t len)
{
	uint64_t end;

	if (!range_end(gpa, len, &end)) {
		return false;
	}
	/* Sorted, so one pass follows adjacent ranges. */
	for (unsigned i = 0; i < p->map_count && gpa < end; i++) {
		const struct load_range *r = &p->map[i];

		if (r->type == LOAD_RANGE_RAM && gpa >= r->base && gpa - r->base < r->len) {
			gpa = r->len - (gpa - r->base) < end - gpa ? r->base + r->len : end;
		}
	}
	return gpa >= end;
}

bool load_is_free(const struct load_params *p, gpa_t gpa, uint64_t len)
{
	return load_is_ram(p, gpa, len) &&
	       (!len || gpa >= LOAD_LOW_END || gpa + len <= LOAD_LOW_START);
}

uint64_t load_ram_bytes(const struct load_params *p)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < p->map_count; i++) {
		if (p->map[i].type == LOAD_RANGE_RAM) {
			sum += p->map[i].len;
		}
	}
	return sum;
}

int load_fail_memory(const struct load *l, const struct load_params *p, uint64_t kernel_end,
		     struct load_error *e)
{
	uint64_t need = kernel_end;

	for (unsigned i = 0; i < l->initrd_count; i++) {
		if (__builtin_add_overflow(need, ALIGN_UP(l->initrds[i].size_bytes, 4096), &need)) {
			need = UINT64_MAX >> 1;
		}
	}
	/* ACPI tables lie at the top of low memory. */
	need = (need >> 20) + 2;
	return load_fail(e, ENOMEM,
			 "kernel %s%s%s: too large for %llu MiB of memory; "
			 "give at least --memory %lluM",
			 l->kernel.name, l->initrd_count ? " with initrd " : "",
			 l->initrd_count ? l->initrds[0].name : "",
			 (unsigned long long)(ALIGN_UP(load_ram_bytes(p), MIB(1)) >> 20),
			 (unsigned long long)need);
}

/* The highest page-aligned place for `len` bytes in [low, high) clear of the kernel; 0: none. */
static gpa_t place_in(uint64_t low, uint64_t high, uint64_t len, struct load_extent kernel)
{
	gpa_t at;

	if (high < low || high - low < len) {
		return 0;
	}
	at = ALIGN_DOWN(high - len, 4096);
	if (at >= low && (at >= kernel.end || at + len <= kernel.start)) {
		return at;
	}
	high = MIN(high, kernel.start);
	if (high < low || high - low < len) {
		return 0;
	}
	at = ALIGN_DOWN(high - len, 4096);
	return at >= low ? at : 0;
}

int load_place_initrd(struct load *l, struct mem *m, const struct load_params *p,
		      struct load_extent kernel, gpa_t last, gpa_t *ret_gpa, uint64_t *ret_len,
		      struct load_error *e)
{
	const struct load_file *f = &l->initrds[0];
	gpa_t at = 0;

	*ret_gpa = 0;
	*ret_len = 0;
	if (!l->initrd_count) {
		return 0;
	}
	for (unsigned i = p->map_count; i-- > 0 && !at;) {
		const struct load_range *r = &p->map[i];

		if (r->type == LOAD_RANGE_RAM) {
			at = place_in(MAX(r->base, MIB(1)), MIN(r->base + r->len, last + 1),
				      f->size_bytes, kernel);
		}
	}
	if (!at) {
		return load_fail_memory(l, p, kernel.end, e);
	}
	*ret_gpa = at;
	*ret_len = f->size_bytes;
	return load_copy(f, 0, m, at, f->size_bytes, e);
}

/* --- how the processor starts ------------------------------------------------ */

/* Flat segments of 4 GiB; code is 64-bit or 32-bit. */
static bool put_gdt(struct mem *m, bool long_mode)
{
	uint64_t gdt[] = {
		0,
		0,
		[GDT_CODE / 8] = long_mode ? 0x00af9b000000ffffull : 0x00cf9b000000ffffull,
		[GDT_DATA / 8] = 0x00cf93000000ffffull,
		[GDT_TASK / 8] = 0x00008b0000000067ull,
	};

	return load_put(m, LOW_GDT, gdt, sizeof(gdt));
}

/* Identity map of the first 4 GiB. */
static bool put_page_tables(struct mem *m)
{
	uint64_t table[512] = { LOW_TABLES + 0x1003 };
	bool ok = load_put(m, LOW_TABLES, table, sizeof(table));

	for (unsigned i = 0; i < 4; i++) {
		table[i] = (LOW_TABLES + 0x2003) + i * 0x1000;
	}
	ok = ok && load_put(m, LOW_TABLES + 0x1000, table, sizeof(table));
	for (uint64_t i = 0; i < 4 && ok; i++) {
		for (uint64_t j = 0; j < 512; j++) {
			table[j] = (i << 30) | (j << 21) | 0x83;
		}
		ok = load_put(m, LOW_TABLES + 0x2000 + i * 0x1000, table, sizeof(table));
	}
	return ok;
}

int load_start_common(struct load *l, struct mem *m, struct machine_start *ret, bool long_mode,
		      struct load_error *e)
{
	if (!put_gdt(m, long_mode) || (long_mode && !put_page_tables(m)) ||
	    !load_put(m, LOW_CMDLINE, l->cmdline, strlen(l->cmdline) + 1)) {
		return load_fail(e, ENOMEM, "kernel %s: too little memory: below 640 KiB",
				 l->kernel.name);
	}
	*ret = (struct machine_start){
		.kind = l->kind,
		.long_mode = long_mode,
		.rsp = LOW_STACK_TOP,
		.rflags = 2,
		.cr0 = long_mode ? 0x80000011 : 0x11, /* PG, ET, PE */
		.cr3 = long_mode ? LOW_TABLES : 0,
		.cr4 = long_mode ? 0x20 : 0,   /* PAE */
		.efer = long_mode ? 0x500 : 0, /* LMA, LME */
		.gdt_base = LOW_GDT,
		.gdt_limit = GDT_TASK + 7,
		.cs = GDT_CODE,
		.ds = GDT_DATA,
		.tr = GDT_TASK,
	};
	return 0;
}

/* --- opening ------------------------------------------------------------------ */

/* Look into the file: what is it? */
static int detect(struct load *l, struct load_error *e)
{
	size_t len = MIN(l->kernel.size_bytes, LOAD_HEAD_BYTES);
	uint8_t *head = malloc(len);
	struct elf_image *img = calloc(1, sizeof(*img));
	int r = head && img ? load_pread(&l->kernel, 0, head, len, e)
			    : load_fail(e, ENOMEM, "kernel %s: out of memory", l->kernel.name);

	if (r == 0 && load_bzimage_is(head, len)) {
		l->kind = MACHINE_KERNEL_BZIMAGE;
	} else if (r == 0 && load_multiboot_is(head, len)) {
		l->kind = MACHINE_KERNEL_MULTIBOOT;
	} else if (r == 0 && elf_is(head, len)) {
		r = elf_parse(&l->kernel, img, e);
		l->kind = MACHINE_KERNEL_PVH;
		if (r == 0 && !img->has_pvh) {
			r = load_fail(e, ENOEXEC,
				      "kernel %s: is an ELF file without a PVH note or multiboot "
				      "header; give a kernel (for Linux: its vmlinuz)",
				      l->kernel.name);
		}
	} else if (r == 0) {
		r = load_fail(e, ENOEXEC,
			      "kernel %s: is not a kernel; give a bzImage, an ELF file with a PVH "
			      "note, or a multiboot image",
			      l->kernel.name);
	}
	free(head);
	free(img);
	return r;
}

static int add_initrd(struct load *l, const char *path, struct load_error *e)
{
	struct load_file *f = &l->initrds[l->initrd_count];
	int r;

	if (l->initrd_count == LOAD_MODULES_MAX) {
		return load_fail(e, E2BIG, "initrd %s: more than %u modules", path,
				 LOAD_MODULES_MAX);
	}
	f->fd = -1;
	r = open_file("initrd", path, f, e);
	if (r == 0) {
		l->initrd_count++;
	}
	return r;
}

/* Multiboot: each file between commas; else the whole is one name. */
static int open_initrds(struct load *l, const char *initrd, struct load_error *e)
{
	int r = 0;

	if (!initrd) {
		return 0;
	}
	if (l->kind != MACHINE_KERNEL_MULTIBOOT) {
		return add_initrd(l, initrd, e);
	}
	while (r == 0 && initrd) {
		const char *comma = strchrnul(initrd, ',');
		char *path = strndup(initrd, (size_t)(comma - initrd));

		r = path ? add_initrd(l, path, e) : load_fail(e, ENOMEM, "out of memory");
		free(path);
		initrd = *comma ? comma + 1 : NULL;
	}
	return r;
}

static int open_all(struct load *l, const char *kernel, const char *initrd, const char *cmdline,
		    struct load_error *e)
{
	int r = open_file("kernel", kernel, &l->kernel, e);

	if (r == 0) {
		r = detect(l, e);
	}
	if (r == 0) {
		r = open_initrds(l, initrd, e);
	}
	if (r < 0) {
		return r;
	}
	if (cmdline && strlen(cmdline) > LOAD_CMDLINE_MAX) {
		return load_fail(e, E2BIG,
				 "command line: has %zu bytes, at most %u are possible; shorten it",
				 strlen(cmdline), LOAD_CMDLINE_MAX);
	}
	l->cmdline = strdup(cmdline ? cmdline : "");
	return l->cmdline ? 0 : load_fail(e, ENOMEM, "out of memory");
}

int load_open(const char *kernel, const char *initrd, const char *cmdline, char *error,
	      size_t error_size, struct load **ret)
{
	struct load_error e = { error, error_size };
	struct load *l = calloc(1, sizeof(*l));
	int r;

	if (!l) {
		return load_fail(&e, ENOMEM, "out of memory");
	}
	l->kernel.fd = -1;
	r = open_all(l, kernel, initrd, cmdline, &e);
	if (r < 0) {
		load_close(l);
		return r;
	}
	*ret = l;
	return 0;
}

void load_close(struct load *l)
{
	if (!l) {
		return;
	}
	close_file(&l->kernel);
	for (unsigned i = 0; i < l->initrd_count; i++) {
		close_file(&l->initrds[i]);
	}
	free(l->cmdline);
	free(l);
}

enum machine_kernel load_kind(const struct load *l)
{
	return l->kind;
}

int load_place(struct load *l, struct mem *m, const struct load_params *p,
	       struct machine_start *ret, char *error, size_t error_size)
{
	struct load_error e = { error, error_size };

	ASSERT(p->map_count >= 1 && p->map_count <= LOAD_RANGES_MAX);
	switch (l->kind) {
	case MACHINE_KERNEL_BZIMAGE:
		return load_bzimage(l, m, p, ret, &e);
	case MACHINE_KERNEL_PVH:
		return load_pvh(l, m, p, ret, &e);
	case MACHINE_KERNEL_MULTIBOOT:
		return load_multiboot(l, m, p, ret, &e);
	}
	return -EINVAL;
}
