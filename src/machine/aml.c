/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A builder of AML: see the header. Byte codes are those of ACPI 6.4, table 20-1 and 6.4. */
#include "machine/aml.h"

#include <stdlib.h>

#include "base/assert.h"

enum {
	NAME_OP = 0x08,
	BYTE_PREFIX = 0x0a,
	WORD_PREFIX = 0x0b,
	DWORD_PREFIX = 0x0c,
	STRING_PREFIX = 0x0d,
	QWORD_PREFIX = 0x0e,
	SCOPE_OP = 0x10,
	BUFFER_OP = 0x11,
	PACKAGE_OP = 0x12,
	METHOD_OP = 0x14,
	DUAL_NAME_PREFIX = 0x2e,
	MULTI_NAME_PREFIX = 0x2f,
	EXT_OP_PREFIX = 0x5b,
	EXT_REGION_OP = 0x80,
	EXT_FIELD_OP = 0x81,
	EXT_DEVICE_OP = 0x82,
	IF_OP = 0xa0,
	ELSE_OP = 0xa1,
};

#define SEGMENT_BYTES      4
#define METHOD_SERIALIZED  BIT(3)
#define INT_BYTES_MAX      9
#define PKG_LENGTH_MAX     4
#define RESOURCE_END       0x79
#define WINDOW_FIXED_ENDS  0x0c /* minimum and maximum fixed, positive decode, producer */
#define WINDOW_TYPE_MEMORY 0
#define WINDOW_TYPE_IO     1
#define WINDOW_TYPE_BUS    2
#define WINDOW_MEMORY_RW   0x01 /* not cacheable, writable */
#define WINDOW_IO_ENTIRE   0x03

void aml_init(struct aml *a, void *buf, size_t size)
{
	*a = (struct aml){ .buf = buf, .size = size };
}

void aml_bytes(struct aml *a, const void *bytes, size_t len)
{
	ASSERT(len <= a->size - a->len);
	memcpy(a->buf + a->len, bytes, len);
	a->len += len;
}

void aml_byte(struct aml *a, uint8_t byte)
{
	aml_bytes(a, &byte, 1);
}

void aml_op(struct aml *a, enum aml_op op)
{
	aml_byte(a, (uint8_t)op);
}

static void put_le(struct aml *a, uint64_t value, unsigned bytes)
{
	aml_bytes(a, &value, bytes);
}

/* ---- names and values ---- */

/* One segment, filled up with underscores; returns behind it. */
static const char *put_segment(struct aml *a, const char *s)
{
	for (unsigned i = 0; i < SEGMENT_BYTES; i++) {
		bool end = !*s || *s == '.';

		aml_byte(a, end ? '_' : (uint8_t)*s);
		s += !end;
	}
	ASSERT(!*s || *s == '.');
	return *s == '.' ? s + 1 : s;
}

void aml_path(struct aml *a, const char *path)
{
	unsigned segments = 1;

	if (*path == '\\') {
		aml_byte(a, '\\');
		path++;
	}
	for (const char *s = path; *s; s++) {
		segments += *s == '.';
	}
	if (!*path) {
		aml_byte(a, AML_ZERO); /* the root alone */
		return;
	}
	if (segments == 2) {
		aml_byte(a, DUAL_NAME_PREFIX);
	} else if (segments > 2) {
		aml_byte(a, MULTI_NAME_PREFIX);
		aml_byte(a, (uint8_t)segments);
	}
	while (*path) {
		path = put_segment(a, path);
	}
}

static unsigned int_encode(uint64_t value, uint8_t out[INT_BYTES_MAX])
{
	static const struct {
		uint64_t max;
		uint8_t prefix, bytes;
	} forms[] = {
		{ UINT8_MAX, BYTE_PREFIX, 1 },
		{ UINT16_MAX, WORD_PREFIX, 2 },
		{ UINT32_MAX, DWORD_PREFIX, 4 },
		{ UINT64_MAX, QWORD_PREFIX, 8 },
	};
	unsigned i = 0;

	if (value <= 1) {
		out[0] = value ? AML_ONE : AML_ZERO;
		return 1;
	}
	while (value > forms[i].max) {
		i++;
	}
	out[0] = forms[i].prefix;
	memcpy(out + 1, &value, forms[i].bytes);
	return 1u + forms[i].bytes;
}

void aml_int(struct aml *a, uint64_t value)
{
	uint8_t bytes[INT_BYTES_MAX];

	aml_bytes(a, bytes, int_encode(value, bytes));
}

void aml_string(struct aml *a, const char *s)
{
	aml_byte(a, STRING_PREFIX);
	aml_bytes(a, s, strlen(s) + 1);
}

static unsigned hex_digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
}

/* ACPI 19.3.4 EISAID: three letters of 5 bits, four hexadecimal digits, big endian. */
void aml_eisa_id(struct aml *a, const char *id)
{
	uint32_t v;

	ASSERT(strlen(id) == 7);
	v = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
	    (uint32_t)(id[2] - '@') << 16 | hex_digit(id[3]) << 12 | hex_digit(id[4]) << 8 |
	    hex_digit(id[5]) << 4 | hex_digit(id[6]);
	aml_byte(a, DWORD_PREFIX);
	put_le(a, __builtin_bswap32(v), 4);
}

/* ACPI 19.6.142 ToUUID: the first three groups are little endian. */
void aml_uuid(struct aml *a, const char *uuid)
{
	static const uint8_t order[16] = {
		6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34
	};

	ASSERT(strlen(uuid) == 36);
	aml_byte(a, BUFFER_OP);
	aml_byte(a, 1 + 2 + sizeof(order)); /* a PkgLength of one byte counts itself */
	aml_int(a, sizeof(order));
	for (unsigned i = 0; i < sizeof(order); i++) {
		aml_byte(a,
			 (uint8_t)(hex_digit(uuid[order[i]]) << 4 | hex_digit(uuid[order[i] + 1])));
	}
}

void aml_name(struct aml *a, const char *path)
{
	aml_byte(a, NAME_OP);
	aml_path(a, path);
}

void aml_name_int(struct aml *a, const char *path, uint64_t value)
{
	aml_name(a, path);
	aml_int(a, value);
}

void aml_name_string(struct aml *a, const char *path, const char *value)
{
	aml_name(a, path);
	aml_string(a, value);
}

void aml_name_eisa_id(struct aml *a, const char *path, const char *id)
{
	aml_name(a, path);
	aml_eisa_id(a, id);
}

/* ---- things with a length ---- */

static void begin(struct aml *a)
{
	ASSERT(a->depth < AML_DEPTH_MAX);
	a->is_buffer[a->depth] = false;
	a->start[a->depth++] = a->len;
}

static void begin_ext(struct aml *a, uint8_t op)
{
	aml_byte(a, EXT_OP_PREFIX);
	aml_byte(a, op);
	begin(a);
}

/* ACPI 20.2.4: the length counts its own bytes too; returns how many those are. */
static unsigned pkg_length_encode(size_t content, uint8_t out[PKG_LENGTH_MAX])
{
	unsigned bytes = content + 1 < 0x40 ? 1 : content + 2 < 0x1000 ? 2 : 3;
	size_t total = content + bytes;

	ASSERT(total < 0x100000);
	if (bytes == 1) {
		out[0] = (uint8_t)total;
		return 1;
	}
	out[0] = (uint8_t)((bytes - 1) << 6 | (total & 0xf));
	out[1] = (uint8_t)(total >> 4);
	out[2] = (uint8_t)(total >> 12);
	return bytes;
}

static void insert(struct aml *a, size_t at, const uint8_t *bytes, size_t len)
{
	ASSERT(len <= a->size - a->len);
	memmove(a->buf + at + len, a->buf + at, a->len - at);
	memcpy(a->buf + at, bytes, len);
	a->len += len;
}

void aml_end(struct aml *a)
{
	uint8_t length[PKG_LENGTH_MAX], count[INT_BYTES_MAX];
	size_t start;

	ASSERT(a->depth > 0);
	start = a->start[--a->depth];
	if (a->is_buffer[a->depth]) {
		aml_byte(a, RESOURCE_END);
		aml_byte(a, 0); /* checksum: none */
		insert(a, start, count, int_encode(a->len - start, count));
	}
	insert(a, start, length, pkg_length_encode(a->len - start, length));
}

void aml_scope_begin(struct aml *a, const char *path)
{
	aml_byte(a, SCOPE_OP);
	begin(a);
	aml_path(a, path);
}

void aml_device_begin(struct aml *a, const char *path)
{
	begin_ext(a, EXT_DEVICE_OP);
	aml_path(a, path);
}

void aml_method_begin(struct aml *a, const char *path, unsigned args, bool serialized)
{
	aml_byte(a, METHOD_OP);
	begin(a);
	aml_path(a, path);
	aml_byte(a, (uint8_t)(args | (serialized ? METHOD_SERIALIZED : 0)));
}

void aml_package_begin(struct aml *a, unsigned elements)
{
	ASSERT(elements <= UINT8_MAX);
	aml_byte(a, PACKAGE_OP);
	begin(a);
	aml_byte(a, (uint8_t)elements);
}

void aml_if_begin(struct aml *a)
{
	aml_byte(a, IF_OP);
	begin(a);
}

void aml_else_begin(struct aml *a)
{
	aml_byte(a, ELSE_OP);
	begin(a);
}

void aml_region(struct aml *a, const char *path, uint8_t space, uint32_t offset, uint32_t len)
{
	aml_byte(a, EXT_OP_PREFIX);
	aml_byte(a, EXT_REGION_OP);
	aml_path(a, path);
	aml_byte(a, space);
	aml_int(a, offset);
	aml_int(a, len);
}

void aml_field_begin(struct aml *a, const char *region, uint8_t access)
{
	begin_ext(a, EXT_FIELD_OP);
	aml_path(a, region);
	aml_byte(a, access);
}

void aml_field_bits(struct aml *a, const char *name, unsigned bits)
{
	uint8_t length[PKG_LENGTH_MAX];

	ASSERT(bits < 0x3f);
	if (name) {
		put_segment(a, name);
	} else {
		aml_byte(a, 0);
	}
	length[0] = (uint8_t)bits; /* a PkgLength that does not count itself */
	aml_bytes(a, length, 1);
}

/* ---- resources ---- */

void aml_resources_begin(struct aml *a)
{
	aml_byte(a, BUFFER_OP);
	begin(a);
	a->is_buffer[a->depth - 1] = true;
}

void aml_res_io(struct aml *a, uint16_t base, uint8_t len)
{
	aml_byte(a, 0x47); /* small descriptor 8, 7 bytes */
	aml_byte(a, 1);    /* decodes 16 bits */
	put_le(a, base, 2);
	put_le(a, base, 2);
	aml_byte(a, 1); /* alignment */
	aml_byte(a, len);
}

void aml_res_irq(struct aml *a, unsigned irq)
{
	aml_byte(a, 0x22); /* small descriptor 4, 2 bytes: edge, high, exclusive */
	put_le(a, BIT(irq), 2);
}

void aml_res_interrupts(struct aml *a, const uint32_t *irqs, unsigned count)
{
	aml_byte(a, 0x89);
	put_le(a, 2 + 4 * count, 2);
	aml_byte(a, 0x09); /* consumer, level, high, shared */
	aml_byte(a, (uint8_t)count);
	aml_bytes(a, irqs, 4 * count);
}

void aml_res_memory_fixed(struct aml *a, uint32_t base, uint32_t len)
{
	aml_byte(a, 0x86);
	put_le(a, 9, 2);
	aml_byte(a, 1); /* writable */
	put_le(a, base, 4);
	put_le(a, len, 4);
}

/* Address space descriptor with numbers of `bytes`. */
static void put_window(struct aml *a, uint8_t tag, unsigned bytes, uint8_t type, uint8_t flags,
		       uint64_t first, uint64_t last)
{
	aml_byte(a, tag);
	put_le(a, 3 + 5 * bytes, 2);
	aml_byte(a, type);
	aml_byte(a, WINDOW_FIXED_ENDS);
	aml_byte(a, flags);
	put_le(a, 0, bytes); /* granularity */
	put_le(a, first, bytes);
	put_le(a, last, bytes);
	put_le(a, 0, bytes); /* translation */
	put_le(a, last - first + 1, bytes);
}

void aml_res_window_bus(struct aml *a, uint16_t first, uint16_t last)
{
	put_window(a, 0x88, 2, WINDOW_TYPE_BUS, 0, first, last);
}

void aml_res_window_io(struct aml *a, uint16_t first, uint16_t last)
{
	put_window(a, 0x88, 2, WINDOW_TYPE_IO, WINDOW_IO_ENTIRE, first, last);
}

void aml_res_window_mem32(struct aml *a, uint32_t first, uint32_t last)
{
	put_window(a, 0x87, 4, WINDOW_TYPE_MEMORY, WINDOW_MEMORY_RW, first, last);
}

void aml_res_window_mem64(struct aml *a, uint64_t first, uint64_t last)
{
	put_window(a, 0x8a, 8, WINDOW_TYPE_MEMORY, WINDOW_MEMORY_RW, first, last);
}
