/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Host instructions, put together byte by byte (SDM volume 2, chapter 2 and the
 * instructions' own pages). Only what the translator itself needs; guest instructions are
 * encoded anew by encode.c.
 *
 * Register convention of translated code:
 *
 *	rax rcx rdx rbx rbp rsi rdi r8 r12..r15   the guest's registers of the same names
 *	r9                                        the guest's RSP
 *	r10, r11                                  scratch; guest R9, R10, R11 live in vcpu.gpr
 *	rsp                                       the host's stack, used for return prediction
 *	GS base                                   struct vcpu
 */
#pragma once

#include "base/util.h"
#include "softkvm/cpu/insn.h"

enum {
	HOST_SP = R9, /* holds the guest's RSP */
	TMP_A = R10,
	TMP_B = R11,
};

/* Where code is being written: the writable address, and what to add for the executable one. */
struct code {
	uint8_t *p;
	intptr_t to_rx;
};

/* The address at which the next byte will be executed. */
static inline uint8_t *code_rx(const struct code *c)
{
	return c->p + c->to_rx;
}

static inline void code_byte(struct code *c, unsigned b)
{
	*c->p++ = (uint8_t)b;
}

static inline void code_bytes(struct code *c, const void *bytes, unsigned n)
{
	memcpy(c->p, bytes, n);
	c->p += n;
}

static inline void code_u32(struct code *c, uint32_t v)
{
	store_le32(c->p, v);
	c->p += 4;
}

static inline void code_u64(struct code *c, uint64_t v)
{
	store_le64(c->p, v);
	c->p += 8;
}

static inline void code_rex(struct code *c, bool w, unsigned reg, unsigned index, unsigned base)
{
	unsigned rex =
		(unsigned)w << 3 | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1);

	if (rex) {
		code_byte(c, 0x40 | rex);
	}
}

/* op reg, rm: `op` is the one-byte opcode of the form "r, r/m" or "r/m, r". */
static inline void code_rr(struct code *c, bool w, unsigned op, unsigned reg, unsigned rm)
{
	code_rex(c, w, reg, 0, rm);
	code_byte(c, op);
	code_byte(c, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static inline void code_mov_rr(struct code *c, unsigned dst, unsigned src)
{
	code_rr(c, true, 0x8b, dst, src);
}

/* ModRM and so on of [base + disp]. */
static inline void code_base(struct code *c, unsigned reg, unsigned base, int32_t disp)
{
	bool small = disp >= -128 && disp <= 127;
	unsigned mod = disp == 0 && (base & 7) != RBP ? 0 : small ? 1 : 2;

	code_byte(c, mod << 6 | (reg & 7) << 3 | (base & 7));
	if ((base & 7) == RSP) {
		code_byte(c, 0x24);
	}
	if (mod == 1) {
		code_byte(c, (uint8_t)disp);
	} else if (mod == 2) {
		code_u32(c, (uint32_t)disp);
	}
}

/* op reg, [base + disp] */
static inline void code_rm(struct code *c, bool w, unsigned op, unsigned reg, unsigned base,
			   int32_t disp)
{
	code_rex(c, w, reg, 0, base);
	code_byte(c, op);
	code_base(c, reg, base, disp);
}

/* op reg, gs:[off] */
static inline void code_gs(struct code *c, bool w, unsigned op, unsigned reg, size_t off)
{
	code_byte(c, 0x65);
	code_rex(c, w, reg, 0, 0);
	code_byte(c, op);
	code_byte(c, 0x04 | (reg & 7) << 3);
	code_byte(c, 0x25);
	code_u32(c, (uint32_t)off);
}

static inline void code_load_gs(struct code *c, unsigned reg, size_t off)
{
	code_gs(c, true, 0x8b, reg, off);
}

static inline void code_store_gs(struct code *c, unsigned reg, size_t off)
{
	code_gs(c, true, 0x89, reg, off);
}

/* cmp byte gs:[off], imm */
static inline void code_cmpb_gs(struct code *c, size_t off, unsigned imm)
{
	code_bytes(c, "\x65\x80\x3c\x25", 4);
	code_u32(c, (uint32_t)off);
	code_byte(c, imm);
}

/* mov byte gs:[off], imm */
static inline void code_movb_gs(struct code *c, size_t off, unsigned imm)
{
	code_bytes(c, "\x65\xc6\x04\x25", 4);
	code_u32(c, (uint32_t)off);
	code_byte(c, imm);
}

/* mov reg, imm in the shortest form; flags stay. */
static inline void code_mov_imm(struct code *c, unsigned reg, uint64_t v)
{
	if (v <= UINT32_MAX) {
		code_rex(c, false, 0, 0, reg);
		code_byte(c, 0xb8 | (reg & 7));
		code_u32(c, (uint32_t)v);
	} else if ((int64_t)v == (int32_t)v) {
		code_rex(c, true, 0, 0, reg);
		code_byte(c, 0xc7);
		code_byte(c, 0xc0 | (reg & 7));
		code_u32(c, (uint32_t)v);
	} else {
		code_rex(c, true, 0, 0, reg);
		code_byte(c, 0xb8 | (reg & 7));
		code_u64(c, v);
	}
}

/* The group-1 operation `ext` (0 add, 1 or, 4 and, 5 sub, 6 xor, 7 cmp) with an immediate. */
static inline void code_alu_imm(struct code *c, bool w, unsigned ext, unsigned reg, int32_t imm)
{
	bool small = imm >= -128 && imm <= 127;

	code_rex(c, w, 0, 0, reg);
	code_byte(c, small ? 0x83 : 0x81);
	code_byte(c, 0xc0 | ext << 3 | (reg & 7));
	if (small) {
		code_byte(c, (uint8_t)imm);
	} else {
		code_u32(c, (uint32_t)imm);
	}
}

/* The same on the doubleword gs:[off]. */
static inline void code_alu_gs_imm(struct code *c, unsigned ext, size_t off, uint32_t imm)
{
	code_bytes(c, "\x65\x81", 2);
	code_byte(c, 0x04 | ext << 3);
	code_byte(c, 0x25);
	code_u32(c, (uint32_t)off);
	code_u32(c, imm);
}

/* lea reg, [base + disp]; `w` false: 32 bits */
static inline void code_lea(struct code *c, bool w, unsigned reg, unsigned base, int32_t disp)
{
	code_rm(c, w, 0x8d, reg, base, disp);
}

/* lea reg, [base + index << scale + disp]; index is not RSP */
static inline void code_lea_sib(struct code *c, bool w, unsigned reg, unsigned base, unsigned index,
				unsigned scale, int32_t disp)
{
	code_rex(c, w, reg, index, base);
	code_byte(c, 0x8d);
	code_byte(c, 0x84 | (reg & 7) << 3);
	code_byte(c, scale << 6 | (index & 7) << 3 | (base & 7));
	code_u32(c, (uint32_t)disp);
}

/* lea reg, [index << scale + disp] */
static inline void code_lea_index(struct code *c, bool w, unsigned reg, unsigned index,
				  unsigned scale, int32_t disp)
{
	code_rex(c, w, reg, index, 0);
	code_byte(c, 0x8d);
	code_byte(c, 0x04 | (reg & 7) << 3);
	code_byte(c, scale << 6 | (index & 7) << 3 | 5);
	code_u32(c, (uint32_t)disp);
}

/* --- jumps -------------------------------------------------------------------------------- */

static inline void code_rel32(struct code *c, const uint8_t *rx_target)
{
	code_u32(c, (uint32_t)(rx_target - (code_rx(c) + 4)));
}

static inline void code_jmp(struct code *c, const uint8_t *rx_target)
{
	code_byte(c, 0xe9);
	code_rel32(c, rx_target);
}

static inline void code_call(struct code *c, const uint8_t *rx_target)
{
	code_byte(c, 0xe8);
	code_rel32(c, rx_target);
}

static inline void code_jcc(struct code *c, unsigned cc, const uint8_t *rx_target)
{
	code_byte(c, 0x0f);
	code_byte(c, 0x80 | cc);
	code_rel32(c, rx_target);
}

/* A forward jump over at most 127 bytes; code_land8() sets its target. */
static inline uint8_t *code_jcc8(struct code *c, unsigned cc)
{
	code_byte(c, 0x70 | cc);
	code_byte(c, 0);
	return c->p;
}

static inline uint8_t *code_jmp8(struct code *c)
{
	code_byte(c, 0xeb);
	code_byte(c, 0);
	return c->p;
}

static inline void code_land8(struct code *c, uint8_t *jump)
{
	jump[-1] = (uint8_t)(c->p - jump);
}

/* A forward jump of any distance: returns what code_land() wants. */
static inline uint8_t *code_jcc_forward(struct code *c, unsigned cc)
{
	code_byte(c, 0x0f);
	code_byte(c, 0x80 | cc);
	code_u32(c, 0);
	return c->p;
}

static inline void code_land(struct code *c, uint8_t *jump)
{
	store_le32(jump - 4, (uint32_t)(c->p - jump));
}

/* Condition codes. */
enum { CC_IS_B = 2, CC_IS_AE = 3, CC_IS_E = 4, CC_IS_NE = 5, CC_IS_BE = 6, CC_IS_A = 7 };
