/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ELF kernels, 32-bit and 64-bit: headers into one plain form, the PVH entry
 * from the notes, segments into RAM.
 */
#include <elf.h>
#include <stdlib.h>

#include "machine/load_int.h"

/* Kernels have a handful; the note's segment is in the first ones. */
#define HEADERS_MAX 128u
#define NOTES_MAX   KIB(64)
#define NOTE_PVH    18 /* XEN_ELFNOTE_PHYS32_ENTRY */

bool elf_is(const uint8_t *head, size_t len)
{
	return len >= sizeof(Elf32_Ehdr) && memcmp(head, ELFMAG, SELFMAG) == 0;
}

static int broken(const struct load_file *f, const char *what, struct load_error *e)
{
	return load_fail(e, ENOEXEC, "kernel %s: is a broken ELF file: %s", f->name, what);
}

struct layout {
	bool is64;
	uint64_t entry, headers_offset;
	unsigned header_count;
};

static int read_layout(const struct load_file *f, struct layout *ret, struct load_error *e)
{
	union {
		unsigned char ident[EI_NIDENT];
		Elf32_Ehdr h32;
		Elf64_Ehdr h64;
	} h = { 0 };
	unsigned entry_size;
	int r = load_pread(f, 0, &h, MIN(sizeof(h), f->size_bytes), e);

	if (r < 0) {
		return r;
	}
	ret->is64 = h.ident[EI_CLASS] == ELFCLASS64;
	if (memcmp(h.ident, ELFMAG, SELFMAG) != 0 || h.ident[EI_DATA] != ELFDATA2LSB ||
	    (!ret->is64 && h.ident[EI_CLASS] != ELFCLASS32)) {
		return broken(f, "its identification is unknown", e);
	}
	if ((ret->is64 ? h.h64.e_machine : h.h32.e_machine) != (ret->is64 ? EM_X86_64 : EM_386)) {
		return load_fail(e, ENOEXEC,
				 "kernel %s: is for another processor; give one for x86-64",
				 f->name);
	}
	ret->entry = ret->is64 ? h.h64.e_entry : h.h32.e_entry;
	ret->headers_offset = ret->is64 ? h.h64.e_phoff : h.h32.e_phoff;
	ret->header_count = ret->is64 ? h.h64.e_phnum : h.h32.e_phnum;
	entry_size = ret->is64 ? h.h64.e_phentsize : h.h32.e_phentsize;
	if (!ret->header_count || ret->header_count > HEADERS_MAX ||
	    entry_size != (ret->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr))) {
		return broken(f, "its program headers are of a wrong size or number", e);
	}
	return 0;
}

static int read_header(const struct load_file *f, const struct layout *lay, unsigned index,
		       Elf64_Phdr *ret, struct load_error *e)
{
	size_t size = lay->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	uint64_t offset;
	Elf32_Phdr h;
	int r;

	if (!range_end(lay->headers_offset, index * size, &offset) || offset > INT64_MAX) {
		return broken(f, "its program headers lie outside of it", e);
	}
	if (lay->is64) {
		return load_pread(f, offset, ret, sizeof(*ret), e);
	}
	r = load_pread(f, offset, &h, sizeof(h), e);
	if (r == 0) {
		*ret = (Elf64_Phdr){ .p_type = h.p_type,
				     .p_offset = h.p_offset,
				     .p_paddr = h.p_paddr,
				     .p_filesz = h.p_filesz,
				     .p_memsz = h.p_memsz,
				     .p_align = h.p_align };
	}
	return r;
}

static int add_load(const struct load_file *f, const Elf64_Phdr *h, struct elf_image *img,
		    struct load_error *e)
{
	uint64_t end;

	if (!h->p_memsz) {
		return 0;
	}
	if (h->p_filesz > h->p_memsz || !range_end(h->p_paddr, h->p_memsz, &end)) {
		return broken(f, "a segment has impossible sizes", e);
	}
	if (!range_within(h->p_offset, h->p_filesz, f->size_bytes)) {
		return load_fail(e, ENOEXEC,
				 "kernel %s: is truncated: a segment ends behind its last byte; "
				 "is its download or build complete?",
				 f->name);
	}
	if (img->load_count == ELF_SEGMENTS_MAX) {
		return broken(f, "it has too many segments", e);
	}
	img->loads[img->load_count++] = (struct elf_segment){ .offset = h->p_offset,
							      .paddr = h->p_paddr,
							      .file_bytes = h->p_filesz,
							      .mem_bytes = h->p_memsz };
	return 0;
}

/* Walk a PT_NOTE's notes in search of the PVH entry. */
static void scan_notes(const uint8_t *notes, uint64_t len, uint64_t align, struct elf_image *img)
{
	uint64_t at = 0;

	while (range_within(at, sizeof(Elf64_Nhdr), len)) {
		uint64_t name_len = load_le32(notes + at), desc_len = load_le32(notes + at + 4);
		uint32_t type = load_le32(notes + at + 8);
		uint64_t name = at + sizeof(Elf64_Nhdr);
		uint64_t desc = ALIGN_UP(name + name_len, align);

		if (!range_within(name, name_len, len) || !range_within(desc, desc_len, len)) {
			return;
		}
		if (type == NOTE_PVH && name_len == 4 && memcmp(notes + name, "Xen", 4) == 0 &&
		    (desc_len == 4 || desc_len == 8)) {
			img->has_pvh = true;
			img->pvh_entry =
				desc_len == 8 ? load_le64(notes + desc) : load_le32(notes + desc);
			return;
		}
		at = ALIGN_UP(desc + desc_len, align);
	}
}

static int read_notes(const struct load_file *f, const Elf64_Phdr *h, struct elf_image *img,
		      struct load_error *e)
{
	uint8_t *notes;
	int r;

	if (!range_within(h->p_offset, h->p_filesz, f->size_bytes)) {
		return broken(f, "its notes lie outside of it", e);
	}
	if (img->has_pvh || h->p_filesz > NOTES_MAX) {
		return 0;
	}
	notes = malloc(h->p_filesz + 1);
	if (!notes) {
		return load_fail(e, ENOMEM, "kernel %s: out of memory", f->name);
	}
	r = load_pread(f, h->p_offset, notes, h->p_filesz, e);
	if (r == 0) {
		scan_notes(notes, h->p_filesz, h->p_align == 8 ? 8 : 4, img);
	}
	free(notes);
	return r;
}

int elf_parse(const struct load_file *f, struct elf_image *ret, struct load_error *e)
{
	struct layout lay = { 0 };
	Elf64_Phdr h;
	int r = read_layout(f, &lay, e);

	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; r == 0 && i < lay.header_count; i++) {
		r = read_header(f, &lay, i, &h, e);
		if (r == 0 && h.p_type == PT_LOAD) {
			r = add_load(f, &h, ret, e);
		} else if (r == 0 && h.p_type == PT_NOTE) {
			r = read_notes(f, &h, ret, e);
		}
	}
	if (r < 0) {
		return r;
	}
	ret->entry = lay.entry;
	return ret->load_count ? 0 : broken(f, "it has nothing to load", e);
}

int elf_place(struct load *l, const struct elf_image *img, struct mem *m,
	      const struct load_params *p, struct load_extent *ret, struct load_error *e)
{
	uint64_t sum = 0, lowest = UINT64_MAX, highest = 0;
	int r = 0;

	for (unsigned i = 0; i < img->load_count; i++) {
		lowest = MIN(lowest, img->loads[i].paddr);
		highest = MAX(highest, img->loads[i].paddr + img->loads[i].mem_bytes);
		/* Segments on top of each other would cost time without a bound. */
		if (__builtin_add_overflow(sum, img->loads[i].mem_bytes, &sum)) {
			sum = UINT64_MAX;
		}
	}
	if (lowest >= LOAD_LOW_START && lowest < LOAD_LOW_END) {
		return load_fail(
			e, ENOEXEC,
			"kernel %s: wants to lie at 0x%llx, where the start information is",
			l->kernel.name, (unsigned long long)lowest);
	}
	for (unsigned i = 0; i < img->load_count; i++) {
		if (!load_is_free(p, img->loads[i].paddr, img->loads[i].mem_bytes)) {
			return load_fail_memory(l, p, MIN(highest, UINT64_MAX >> 1), e);
		}
	}
	if (sum > load_ram_bytes(p)) {
		return load_fail_memory(l, p, sum, e);
	}
	for (unsigned i = 0; r == 0 && i < img->load_count; i++) {
		const struct elf_segment *s = &img->loads[i];

		r = load_copy(&l->kernel, s->offset, m, s->paddr, s->file_bytes, e);
		if (r == 0 &&
		    !load_put(m, s->paddr + s->file_bytes, NULL, s->mem_bytes - s->file_bytes)) {
			r = load_fail(e, EFAULT, "kernel %s: no RAM at 0x%llx", l->kernel.name,
				      (unsigned long long)s->paddr);
		}
	}
	*ret = (struct load_extent){ lowest, highest };
	return r;
}
