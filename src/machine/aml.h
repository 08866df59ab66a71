/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A builder of ACPI machine language: what a board's DSDT needs of it. Source:
 * ACPI 6.4, chapter 20 (AML), 6.4 (resource descriptors).
 *
 * Things with a length (scopes, packages, …) are opened by aml_*_begin() and closed by
 * aml_end(), in which the length is written. The buffer is the caller's; what does
 * not fit is our own bug and asserts.
 */
#pragma once

#include "base/util.h"

#define AML_DEPTH_MAX 16

struct aml {
	uint8_t *buf;
	size_t size, len;
	unsigned depth;
	size_t start[AML_DEPTH_MAX];   /* where the content of each open thing begins */
	bool is_buffer[AML_DEPTH_MAX]; /* a resource template, which has a second length */
};

/* One-byte operators, written by aml_op() with their operands after them. */
enum aml_op {
	AML_ZERO = 0x00,
	AML_ONE = 0x01,
	AML_ONES = 0xff,
	AML_LOCAL0 = 0x60,
	AML_ARG0 = 0x68,
	AML_ARG1 = 0x69,
	AML_ARG2 = 0x6a,
	AML_ARG3 = 0x6b,
	AML_STORE = 0x70,
	AML_AND = 0x7b,
	AML_OR = 0x7d,
	AML_CREATE_DWORD_FIELD = 0x8a,
	AML_LNOT = 0x92,
	AML_LEQUAL = 0x93,
	AML_RETURN = 0xa4,
};

void aml_init(struct aml *a, void *buf, size_t size);

void aml_byte(struct aml *a, uint8_t byte);
void aml_bytes(struct aml *a, const void *bytes, size_t len);
void aml_op(struct aml *a, enum aml_op op);
/* A name: segments of up to 4 characters with dots between, perhaps '\\' before them. */
void aml_path(struct aml *a, const char *path);
void aml_int(struct aml *a, uint64_t value);
void aml_string(struct aml *a, const char *s);
/* "PNP0A03" as the compressed number of an EISA identifier. */
void aml_eisa_id(struct aml *a, const char *id);
/* A UUID "33db4d5b-1ff7-401c-9657-7441c03dd766" as the 16-byte buffer that ToUUID makes. */
void aml_uuid(struct aml *a, const char *uuid);

/* Name (path, …): the value follows, or comes with the shorthands. */
void aml_name(struct aml *a, const char *path);
void aml_name_int(struct aml *a, const char *path, uint64_t value);
void aml_name_string(struct aml *a, const char *path, const char *value);
void aml_name_eisa_id(struct aml *a, const char *path, const char *id);

void aml_scope_begin(struct aml *a, const char *path);
void aml_device_begin(struct aml *a, const char *path);
void aml_method_begin(struct aml *a, const char *path, unsigned args, bool serialized);
void aml_package_begin(struct aml *a, unsigned elements);
void aml_if_begin(struct aml *a);
void aml_else_begin(struct aml *a);
void aml_end(struct aml *a);

/* Region spaces and fields: any access size, no lock, other bits preserved. */
#define AML_REGION_PCI_CONFIG 2
#define AML_FIELD_BYTE_ACCESS 1
void aml_region(struct aml *a, const char *path, uint8_t space, uint32_t offset, uint32_t len);
void aml_field_begin(struct aml *a, const char *region, uint8_t access);
void aml_field_bits(struct aml *a, const char *name, unsigned bits); /* name NULL: a gap */

/* A resource template (a buffer): descriptors, then aml_end(). */
void aml_resources_begin(struct aml *a);
void aml_res_io(struct aml *a, uint16_t base, uint8_t len);
void aml_res_irq(struct aml *a, unsigned irq); /* ISA: edge, exclusive */
/* Shared level-triggered, active high; what a PIRQ link gives. */
void aml_res_interrupts(struct aml *a, const uint32_t *irqs, unsigned count);
void aml_res_memory_fixed(struct aml *a, uint32_t base, uint32_t len);
/* Windows that a bridge passes on; both ends inside. */
void aml_res_window_bus(struct aml *a, uint16_t first, uint16_t last);
void aml_res_window_io(struct aml *a, uint16_t first, uint16_t last);
void aml_res_window_mem32(struct aml *a, uint32_t first, uint32_t last);
void aml_res_window_mem64(struct aml *a, uint64_t first, uint64_t last);
