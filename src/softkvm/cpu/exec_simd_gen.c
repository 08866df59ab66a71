/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes the stubs: host code that loads an instruction's operands from
 * struct vcpu, runs the instruction itself on the host, and stores its results.
 *
 * Theory of operation
 * -------------------
 * What an operand is comes from the opcode row's letters. Every operand has a fixed
 * place while the instruction runs:
 *
 *	V (ModRM.reg) xmm1   H (VEX.vvvv) xmm2   W, U (ModRM.rm) xmm3   L (is4) xmm4
 *	general register: rax        memory: (%rcx)        implicit XMM0: xmm0
 *
 * RDI (vcpu) and RSI (insn) stay as they came, and the stack too, so that an unmasked exception can
 * continue at stub_fp_fault(cpu, insn). Register numbers are read from the insn at run time,
 * but for MMX and x87: their registers are live in the host, so they are part of the code.
 *
 * A stub is: trap check; [the memory operand's host address by the TLB]; operands; instruction;
 * results; on to the next instruction. Behind that the rare part: C functions for operands that
 * are not simply there, with a bounce buffer.
 */
#include "softkvm/cpu/simd_int.h"

#include <pthread.h>
#include <stdlib.h>

#define OFF_FPU(m) ((uint32_t)(offsetof(struct vcpu, fpu) + offsetof(struct fpu, m)))
#define OFF_CC     ((uint32_t)offsetof(struct vcpu, cc))
#define OFF_GPR(r) ((uint32_t)(offsetof(struct vcpu, gpr) + 8 * (r)))

/* Host vector registers of the operands. */
enum { X_IMPLICIT = 0, X_REG = 1, X_VVVV = 2, X_RM = 3, X_IS4 = 4 };

struct form {
	const struct insn *in;
	const struct row *row;
	bool vex, l, w;  /* as they get encoded */
	bool live;       /* needs the x87 registers: MMX and x87 */
	bool mem, store; /* memory operand; it is the destination */
	bool has_imm, has_vvvv, has_is4, uses_reg;
	bool flags; /* sets arithmetic flags */
	uint8_t mem_size;
	uint8_t kind[4]; /* enum opnd_kind */
	struct address {
		bool flat; /* INSN_FLAT: computed and looked up in the stub itself */
		bool wide; /* 64-bit address size; else 32: 16-bit ones are left to C */
		bool indexed;
		bool segmented; /* the segment base may not be 0 */
	} ea;
};

/* --- rows by number ------------------------------------------------------------------------ */

static const struct row **row_by_id;
static unsigned row_by_id_count;

static void rows_index(void)
{
	unsigned n = rows_count();

	row_by_id = calloc(n, sizeof(*row_by_id));
	for (unsigned i = 0; row_by_id && i < n; i++) {
		row_by_id[i] = row_get(i).row;
	}
	row_by_id_count = row_by_id ? n : 0;
}

const struct row *simd_row(const struct insn *in)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, rows_index);
	return in->row < row_by_id_count ? row_by_id[in->row] : NULL;
}

/* --- what the instruction is ----------------------------------------------------------------- */

bool simd_sets_flags(unsigned op)
{
	switch (op_unvex(op)) {
	case OP_UCOMISS:
	case OP_UCOMISD:
	case OP_COMISS:
	case OP_COMISD:
	case OP_PTEST:
	case OP_VTESTPS:
	case OP_VTESTPD:
	case OP_PCMPESTRM:
	case OP_PCMPESTRI:
	case OP_PCMPISTRM:
	case OP_PCMPISTRI:
	case OP_FCOMI:
	case OP_FCOMIP:
	case OP_FUCOMI:
	case OP_FUCOMIP:
		return true;
	default:
		return false;
	}
}

static bool op_is_fma(unsigned op)
{
	return op >= OP_VFMADD132PS && op <= OP_VFMSUBADD231PD;
}

static bool op_is_fcmov(unsigned op)
{
	return op >= OP_FCMOVB && op <= OP_FCMOVNU;
}

bool x87_op_stores(unsigned op)
{
	switch (op) {
	case OP_FST:
	case OP_FSTP:
	case OP_FIST:
	case OP_FISTP:
	case OP_FISTTP:
	case OP_FBSTP:
		return true;
	default:
		return false;
	}
}

static bool op_has_explicit_lengths(unsigned op)
{
	op = op_unvex(op);
	return op == OP_PCMPESTRM || op == OP_PCMPESTRI;
}

static bool op_reads_xmm0(unsigned op)
{
	return op == OP_BLENDVPS || op == OP_BLENDVPD || op == OP_PBLENDVB || op == OP_SHA256RNDS2;
}

/*
 * W as the stub's code needs it: what the row says; for operands of 32 or 64 bits the operand size,
 * into which the decoder has taken the mode.
 */
static bool form_w(const struct form *f)
{
	const struct row *r = f->row;

	if (r->flags & (ROW_W0 | ROW_W1 | ROW_WY0 | ROW_WY1)) {
		return r->flags & (ROW_W1 | ROW_WY1);
	}
	for (unsigned i = 0; i < 4; i++) {
		if (opnd_infos[r->opnd[i]].reg_size == OS_Y) {
			return f->in->osz == 8;
		}
	}
	return op_has_explicit_lengths(r->op) && f->in->osz == 8;
}

static void form_operand(struct form *f, unsigned i)
{
	switch (f->kind[i]) {
	case OK_V:
	case OK_G:
	case OK_P:
		f->uses_reg = true;
		break;
	case OK_H:
		f->has_vvvv = true;
		break;
	case OK_L:
		f->has_is4 = true;
		break;
	case OK_IMM:
	case OK_IMMS:
		f->has_imm = true;
		break;
	case OK_E:
	case OK_W:
	case OK_Q:
	case OK_M:
		f->store = f->mem && i == 0;
		break;
	default:
		break;
	}
	if (f->kind[i] == OK_P || f->kind[i] == OK_N || (f->kind[i] == OK_Q && !f->mem)) {
		f->live = true;
	}
}

static void form_address(struct form *f)
{
	const struct insn *in = f->in;

	if (!f->mem) {
		return;
	}
	f->ea.flat = (in->flags & INSN_FLAT) && in->asz >= 4;
	f->ea.wide = in->asz == 8;
	f->ea.indexed = in->index != GPR_ZERO;
	/* 64-bit addresses are of 64-bit mode, where only FS and GS have a base */
	f->ea.segmented = !f->ea.wide || in->seg == SEG_FS || in->seg == SEG_GS;
}

static bool form_init(struct form *f, const struct insn *in)
{
	memset(f, 0, sizeof(*f));
	f->in = in;
	f->row = simd_row(in);
	if (!f->row) {
		return false;
	}
	f->vex = in->flags & INSN_VEX;
	f->l = in->flags & INSN_VEXL;
	f->mem = in->flags & INSN_MEM;
	f->mem_size = in->mem_size;
	f->flags = simd_sets_flags(in->op);
	f->live = op_group(in->op) == OPG_X87 || in->op == OP_EMMS;
	for (unsigned i = 0; i < 4; i++) {
		f->kind[i] = opnd_infos[f->row->opnd[i]].kind;
		form_operand(f, i);
	}
	if (op_group(in->op) == OPG_X87) {
		f->store = f->mem && x87_op_stores(in->op);
	} else if (f->flags) {
		f->store = false; /* all operands are sources */
	}
	f->w = form_w(f);
	form_address(f);
	return true;
}

/* A key that is the same for all instructions with the same code; bit 63: never 0. */
static uint64_t form_key(const struct form *f)
{
	const struct insn *in = f->in;
	uint64_t k = BIT64(63) | in->opcode | (uint64_t)in->map << 8 | (uint64_t)in->pp << 10 |
		     (uint64_t)f->vex << 12 | (uint64_t)f->l << 13 | (uint64_t)f->w << 14 |
		     (uint64_t)f->mem << 15;

	if (f->live) {
		/* the registers are in the code; for memory forms of rm, ModRM's low bits do not
		 * count */
		k |= (uint64_t)(f->mem ? in->modrm & 0x38 : in->modrm | 0xc0) << 16;
	} else if (!f->uses_reg) {
		k |= (uint64_t)(in->modrm & 0x38) << 16;
	}
	if (f->has_imm) {
		k |= (uint64_t)(uint8_t)in->imm << 24;
	}
	k |= (uint64_t)(f->ea.flat | f->ea.wide << 1 | f->ea.indexed << 2 | f->ea.segmented << 3)
	     << 48;
	return k | (uint64_t)in->op << 32;
}

/* --- moving operands ---------------------------------------------------------------------------
 */

/* Host registers for the indexes: r8 (reg), r9 (vvvv), r10 (rm), r11 (is4). */
enum { I_REG = 8, I_VVVV = 9, I_RM = 10, I_IS4 = 11 };

/* movzbl field(%rsi), %index; shl $shift, %index */
static void load_index(struct stub_code *c, unsigned index, size_t field, unsigned shift)
{
	uint8_t code[] = { 0x44,           0x0f, 0xb6, (uint8_t)(0x46 | (index & 7) << 3),
			   (uint8_t)field, 0x41, 0xc1, (uint8_t)(0xe0 | (index & 7)),
			   (uint8_t)shift };

	stub_bytes(c, sizeof(code), code);
}

/* ModRM, SIB and displacement of off(%rdi,%index). */
static void address(struct stub_code *c, unsigned reg, unsigned index, uint32_t off)
{
	stub_byte(c, (uint8_t)(0x84 | reg << 3));
	stub_byte(c, (uint8_t)(0x07 | (index & 7) << 3));
	stub_u32(c, off);
}

/* Load or store one vector register, 16 or 32 bytes: movups, vmovups. */
static void move_vector(struct stub_code *c, bool vex, bool ymm, bool store, unsigned xmm,
			unsigned index)
{
	uint8_t opcode = store ? 0x11 : 0x10;

	if (vex) {
		uint8_t code[] = { 0xc4, 0xa1, ymm ? 0x7c : 0x78, opcode };

		stub_bytes(c, sizeof(code), code);
	} else {
		uint8_t code[] = { 0x42, 0x0f, opcode };

		stub_bytes(c, sizeof(code), code);
	}
	address(c, xmm, index, OFF_FPU(v));
}

/* XMM0 to or from v[0]. Stores of VEX forms clear the upper half with it. */
static void move_xmm0(struct stub_code *c, bool vex, bool store)
{
	if (vex) {
		stub_bytes(c, 3, store ? "\xc5\xfc\x11" : "\xc5\xfc\x10");
	} else {
		stub_bytes(c, 2, store ? "\x0f\x11" : "\x0f\x10");
	}
	stub_byte(c, 0x87);
	stub_u32(c, OFF_FPU(v));
}

/* The whole 64-bit general register: results of 32 bits come with zeros above. */
static void move_gpr(struct stub_code *c, bool store, unsigned index)
{
	stub_byte(c, 0x4a);
	stub_byte(c, store ? 0x89 : 0x8b);
	address(c, 0, index, OFF_GPR(0));
}

struct place {
	unsigned index;
	uint8_t field;
	uint8_t xmm;
};

static bool operand_place(uint8_t kind, struct place *ret)
{
	static const struct place reg = { I_REG, offsetof(struct insn, reg), X_REG };
	static const struct place vvvv = { I_VVVV, offsetof(struct insn, vvvv), X_VVVV };
	static const struct place rm = { I_RM, offsetof(struct insn, rm), X_RM };
	static const struct place is4 = { I_IS4, offsetof(struct insn, is4), X_IS4 };

	switch (kind) {
	case OK_V:
	case OK_G:
		*ret = reg;
		return true;
	case OK_H:
		*ret = vvvv;
		return true;
	case OK_W:
	case OK_U:
	case OK_E:
	case OK_R:
		*ret = rm;
		return true;
	case OK_L:
		*ret = is4;
		return true;
	default:
		return false;
	}
}

static bool kind_is_gpr(uint8_t kind)
{
	return kind == OK_G || kind == OK_E || kind == OK_R;
}

static bool kind_is_rm(uint8_t kind)
{
	return kind == OK_W || kind == OK_E || kind == OK_U || kind == OK_R;
}

static bool is_destination(const struct form *f, unsigned i)
{
	return i == 0 && !f->flags;
}

/* Is the destination's old value an input? Legacy forms keep what they do not write. */
static bool destination_read(const struct form *f)
{
	return !f->vex || op_is_fma(f->in->op);
}

static void load_operands(struct stub_code *c, const struct form *f)
{
	struct place p;

	for (unsigned i = 0; i < 4; i++) {
		if (!operand_place(f->kind[i], &p) || (f->mem && kind_is_rm(f->kind[i]))) {
			continue;
		}
		load_index(c, p.index, p.field, kind_is_gpr(f->kind[i]) ? 3 : 5);
		if (is_destination(f, i) && (kind_is_gpr(f->kind[i]) || !destination_read(f))) {
			continue;
		}
		if (kind_is_gpr(f->kind[i])) {
			move_gpr(c, false, p.index);
		} else {
			move_vector(c, f->vex, f->l, false, p.xmm, p.index);
		}
	}
	if (op_reads_xmm0(f->in->op)) {
		move_xmm0(c, false, false);
	}
	if (op_has_explicit_lengths(f->in->op)) {
		stub_bytes(c, 3, "\x48\x8b\x87"); /* mov gpr[RAX], %rax */
		stub_u32(c, OFF_GPR(RAX));
		stub_bytes(c, 3, "\x48\x8b\x97"); /* mov gpr[RDX], %rdx */
		stub_u32(c, OFF_GPR(RDX));
	}
	if (op_is_fcmov(f->in->op) || (f->flags && op_group(f->in->op) == OPG_X87)) {
		/* an FCOMI that raises an unmasked exception leaves the flags as they are */
		stub_bytes(c, 2, "\x8b\x87"); /* mov cc, %eax; add $0x7f, %al; sahf */
		stub_u32(c, OFF_CC);
		stub_bytes(c, 3, "\x04\x7f\x9e");
	}
}

static void store_flags(struct stub_code *c)
{
	stub_bytes(c, 9, "\x9f\x0f\x90\xc0\x0f\xb7\xc0\x89\x87"); /* lahf; seto %al; movzwl; mov */
	stub_u32(c, OFF_CC);
}

static void store_results(struct stub_code *c, const struct form *f)
{
	unsigned op = op_unvex(f->in->op);
	struct place p;

	if (f->flags) {
		store_flags(c);
	}
	if (op == OP_PCMPESTRI || op == OP_PCMPISTRI) {
		stub_bytes(c, 3, "\x48\x89\x8f"); /* mov %rcx, gpr[RCX] */
		stub_u32(c, OFF_GPR(RCX));
	} else if (op == OP_PCMPESTRM || op == OP_PCMPISTRM) {
		move_xmm0(c, f->vex, true);
	} else if (is_destination(f, 0) && operand_place(f->kind[0], &p) && !f->store) {
		if (kind_is_gpr(f->kind[0])) {
			move_gpr(c, true, p.index);
		} else {
			move_vector(c, f->vex, true, true, p.xmm, p.index);
		}
	}
	if (f->vex && f->l) {
		stub_bytes(c, 3, "\xc5\xf8\x77"); /* vzeroupper: C code is SSE */
	}
}

/* --- the instruction itself ----------------------------------------------------------------------
 */

static uint8_t host_modrm(const struct form *f)
{
	const struct insn *in = f->in;
	unsigned reg = (in->modrm >> 3) & 7, rm = in->modrm & 7;

	for (unsigned i = 0; i < 4; i++) {
		switch (f->kind[i]) {
		case OK_V:
			reg = X_REG;
			break;
		case OK_G:
			reg = 0;
			break;
		case OK_W:
		case OK_U:
			rm = X_RM;
			break;
		case OK_E:
		case OK_R:
			rm = 0;
			break;
		default:
			break;
		}
	}
	return (uint8_t)(f->mem ? reg << 3 | 1 : 0xc0 | reg << 3 | rm);
}

static void emit_vex(struct stub_code *c, const struct form *f)
{
	unsigned vvvv = f->has_vvvv ? X_VVVV : 0;
	uint8_t code[] = { 0xc4, (uint8_t)(0xe0 | f->in->map),
			   (uint8_t)(f->w << 7 | (~vvvv & 15) << 3 | f->l << 2 | f->in->pp) };

	stub_bytes(c, sizeof(code), code);
}

static void emit_legacy(struct stub_code *c, const struct form *f)
{
	static const uint8_t prefix[4] = { 0, 0x66, 0xf3, 0xf2 };
	uint64_t pp = f->row->flags & ROW_PP_MASK;

	if (pp > ROW_PP_NP && pp < ROW_PP_N66) {
		stub_byte(c, prefix[pp - 1]);
	}
	if (f->w) {
		stub_byte(c, 0x48);
	}
	if (f->in->map > 0) {
		stub_byte(c, 0x0f);
	}
	if (f->in->map > 1) {
		stub_byte(c, f->in->map == 2 ? 0x38 : 0x3a);
	}
}

/*
 * CVTPI2PS and CVTPI2PD from memory have nothing to do with MMX, but some processors enter MMX
 * state for them: their SSE2 twins do not.
 */
static bool emit_twin(struct stub_code *c, const struct form *f)
{
	if (!f->mem || (f->in->op != OP_CVTPI2PS && f->in->op != OP_CVTPI2PD)) {
		return false;
	}
	if (f->in->op == OP_CVTPI2PD) {
		stub_bytes(c, 4, "\xf3\x0f\xe6\x09"); /* cvtdq2pd (%rcx), %xmm1 */
	} else {
		stub_bytes(c, 4, "\xf3\x0f\x7e\x19"); /* movq (%rcx), %xmm3 */
		stub_bytes(c, 3, "\x0f\x5b\xdb");     /* cvtdq2ps %xmm3, %xmm3 */
		stub_bytes(c, 4, "\xf2\x0f\x10\xcb"); /* movsd %xmm3, %xmm1 */
	}
	return true;
}

static void emit_instruction(struct stub_code *c, const struct form *f)
{
	if (emit_twin(c, f)) {
		return;
	}
	if (f->vex) {
		emit_vex(c, f);
	} else {
		emit_legacy(c, f);
	}
	stub_byte(c, f->in->opcode);
	if (f->in->op != OP_EMMS && f->in->op != OP_WAIT) {
		stub_byte(c, host_modrm(f));
	}
	if (f->has_is4) {
		stub_byte(c, X_IS4 << 4);
	} else if (f->has_imm) {
		stub_byte(c, (uint8_t)f->in->imm);
	}
}

/* --- the frame around it
 * ------------------------------------------------------------------------------ */

/* Call fn(cpu, insn), keeping RDI and RSI; the result is in RAX. */
static void call_c(struct stub_code *c, const void *fn)
{
	stub_bytes(c, 6, "\x57\x56\x48\x83\xec\x08"); /* push %rdi; push %rsi; sub $8, %rsp */
	stub_call(c, fn);
	stub_bytes(c, 6, "\x48\x83\xc4\x08\x5e\x5f");
}

static void next_instruction(struct stub_code *c)
{
	if (EXEC_TAIL_CALLS) {
		uint8_t code[] = { 0x48, 0x83, 0xc6, sizeof(struct insn), 0xff, 0x26 };

		_Static_assert(offsetof(struct insn, fn) == 0, "jmp *(%rsi)");
		stub_bytes(c, sizeof(code), code);
	} else {
		stub_bytes(c, 3, "\x31\xc0\xc3"); /* return EXEC_NEXT */
	}
}

/* testb $mask, fp_trap(%rdi); jne */
static unsigned trap_check(struct stub_code *c, uint8_t mask)
{
	stub_bytes(c, 2, "\xf6\x87");
	stub_u32(c, (uint32_t)offsetof(struct vcpu, fp_trap));
	stub_byte(c, mask);
	return stub_jcc(c, 5);
}

/* movzbl field(%rsi), %ecx or %eax */
static void load_field(struct stub_code *c, unsigned reg, size_t field)
{
	uint8_t code[] = { 0x0f, 0xb6, (uint8_t)(0x46 | reg << 3), (uint8_t)field };

	stub_bytes(c, sizeof(code), code);
}

/* The linear address, in rdx. Clobbers rax, rcx. */
static void linear_address(struct stub_code *c, const struct address *a)
{
	if (a->indexed) {
		load_field(c, 0, offsetof(struct insn, index));
		load_field(c, 1, offsetof(struct insn, scale));
		stub_bytes(c, 4, "\x48\x8b\x94\xc7"); /* mov gpr(%rdi,%rax,8), %rdx */
		stub_u32(c, OFF_GPR(0));
		stub_bytes(c, 3, "\x48\xd3\xe2"); /* shl %cl, %rdx */
		stub_bytes(c, 3, "\x48\x03\x56"); /* add disp(%rsi), %rdx */
	} else {
		stub_bytes(c, 3, "\x48\x8b\x56"); /* mov disp(%rsi), %rdx */
	}
	stub_byte(c, offsetof(struct insn, disp));
	load_field(c, 0, offsetof(struct insn, base));
	stub_bytes(c, 4, "\x48\x03\x94\xc7"); /* add gpr(%rdi,%rax,8), %rdx */
	stub_u32(c, OFF_GPR(0));
	if (!a->wide) {
		stub_bytes(c, 2, "\x89\xd2"); /* mov %edx, %edx */
	}
	if (a->segmented) {
		load_field(c, 0, offsetof(struct insn, seg));
		stub_bytes(c, 4, "\x48\x03\x94\xc7"); /* add segbase(%rdi,%rax,8), %rdx */
		stub_u32(c, (uint32_t)offsetof(struct vcpu, segbase));
	}
}

/*
 * The operand's host address in rcx, by the TLB; jumps away (ret_slow) if it is not to be had: no
 * entry, page crossing, not aligned.
 */
static void host_address(struct stub_code *c, const struct form *f, bool aligned,
			 unsigned ret_slow[2])
{
	uint8_t tag =
		f->store ? offsetof(struct tlb_entry, wtag) : offsetof(struct tlb_entry, rtag);

	_Static_assert(sizeof(struct tlb_entry) == 32, "shr by 12 - 5");
	linear_address(c, &f->ea);
	stub_bytes(c, 8,
		   "\x48\x89\xd0\x48\xc1\xe8\x07\x25"); /* mov %rdx, %rax; shr $7, %rax; and */
	stub_u32(c, (TLB_ENTRIES - 1) * sizeof(struct tlb_entry));
	stub_bytes(c, 3, "\x48\x03\x87"); /* add tlb(%rdi), %rax */
	stub_u32(c, (uint32_t)offsetof(struct vcpu, tlb));
	stub_bytes(c, 6, "\x48\x89\xd1\x48\x2b\x48"); /* mov %rdx, %rcx; sub tag(%rax), %rcx */
	stub_byte(c, tag);
	stub_bytes(c, 3, "\x48\x81\xf9"); /* cmp $4096 - size, %rcx; ja */
	stub_u32(c, 4096u - f->mem_size);
	ret_slow[0] = stub_jcc(c, 7);
	ret_slow[1] = 0;
	if (aligned) {
		stub_bytes(c, 2, "\xf6\xc2"); /* test $size - 1, %dl; jne */
		stub_byte(c, f->mem_size - 1);
		ret_slow[1] = stub_jcc(c, 5);
	}
	stub_bytes(c, 3, "\x48\x03\x48"); /* add host(%rax), %rcx */
	stub_byte(c, offsetof(struct tlb_entry, host));
}

static void land_slow(struct stub_code *c, const unsigned slow[2])
{
	for (unsigned i = 0; i < 2; i++) {
		if (slow[i]) {
			stub_land(c, slow[i]);
		}
	}
}

/* jmp to a place behind us */
static void jump_back(struct stub_code *c, unsigned target)
{
	stub_byte(c, 0xe9);
	stub_u32(c, target - (c->n + 4));
}

bool simd_mem_aligned(const struct insn *in, const struct row *row)
{
	return in->flags & INSN_VEX ? row_class(row) == 1
				    : in->mem_size == 16 && row_sse_aligned(row);
}

static void instruction_and_results(struct stub_code *c, const struct form *f)
{
	load_operands(c, f);
	emit_instruction(c, f);
	store_results(c, f);
}

/* Out of line: the operand by C, then on at `resume`. Returns the jump for a fault. */
static unsigned slow_load(struct stub_code *c, simd_mem_fn *load, unsigned resume)
{
	unsigned failed;

	call_c(c, (const void *)(uintptr_t)load);
	stub_bytes(c, 6, "\x48\x89\xc1\x48\x85\xc0"); /* mov %rax, %rcx; test %rax, %rax; je */
	failed = stub_jcc(c, 4);
	jump_back(c, resume);
	return failed;
}

/* Out of line: run into the bounce buffer, then store that by C. */
static void slow_store(struct stub_code *c, const struct form *f, bool aligned)
{
	unsigned failed = 0, unwritable = 0;

	if (f->in->op == OP_VCVTPS2PH) { /* sets flags in MXCSR too */
		call_c(c, (const void *)(uintptr_t)simd_probe_fn(f->mem_size));
		stub_bytes(c, 2, "\x84\xc0"); /* test %al, %al; je */
		unwritable = stub_jcc(c, 4);
	}
	stub_bytes(c, 3, "\x48\x8d\x8f"); /* lea bounce(%rdi), %rcx */
	stub_u32(c, OFF_FPU(bounce));
	instruction_and_results(c, f);
	call_c(c, (const void *)(uintptr_t)simd_store_fn_of(f->mem_size, aligned));
	stub_bytes(c, 2, "\x84\xc0");
	failed = stub_jcc(c, 4);
	next_instruction(c);
	stub_land(c, failed);
	if (unwritable) {
		stub_land(c, unwritable);
	}
	stub_jump(c, (const void *)(uintptr_t)simd_mem_failed);
}

static void slow_part(struct stub_code *c, const struct form *f, const unsigned slow[2],
		      unsigned resume)
{
	unsigned failed;

	land_slow(c, slow);
	if (f->store) {
		slow_store(c, f, simd_mem_aligned(f->in, f->row));
		return;
	}
	failed = slow_load(c, simd_load_fn(f->mem_size, simd_mem_aligned(f->in, f->row)), resume);
	stub_land(c, failed);
	stub_jump(c, (const void *)(uintptr_t)simd_mem_failed);
}

/* A jump that is always taken, in stub_jcc()'s form. */
static unsigned jump_slow(struct stub_code *c)
{
	stub_byte(c, 0xe9);
	stub_u32(c, 0);
	return c->n;
}

static void memory_operand(struct stub_code *c, const struct form *f, bool aligned,
			   unsigned slow[2])
{
	if (f->ea.flat) {
		host_address(c, f, aligned, slow);
	} else {
		slow[0] = jump_slow(c);
		slow[1] = 0;
	}
}

/* A handler for SSE and AVX. */
static exec_fn *vector_stub(const struct form *f, uint64_t key)
{
	struct stub_code c = { .n = 0 };
	unsigned trap = trap_check(&c, f->vex ? TRAP_AVX : TRAP_SSE), slow[2], resume;

	if (f->mem) {
		if (!simd_load_fn(f->mem_size, false)) {
			return NULL;
		}
		memory_operand(&c, f, simd_mem_aligned(f->in, f->row), slow);
	}
	resume = c.n;
	instruction_and_results(&c, f);
	next_instruction(&c);
	if (f->mem) {
		slow_part(&c, f, slow, resume);
	}
	stub_land(&c, trap);
	stub_jump(&c, (const void *)(uintptr_t)(f->vex ? simd_trap_avx : simd_trap_sse));
	return stub_add(key, &c, NULL);
}

/* The instruction for x87_slow(): (cpu, insn, operand) to 0, or to 1 by SIGFPE. */
static void raw_code(struct stub_code *c, const struct form *f)
{
	stub_bytes(c, 3, "\x48\x89\xd1"); /* mov %rdx, %rcx */
	instruction_and_results(c, f);
	stub_bytes(c, 3, "\x31\xc0\xc3");
}

/* cmpb $1, x87_live(%rdi); jne */
static unsigned live_check(struct stub_code *c)
{
	stub_bytes(c, 2, "\x80\xbf");
	stub_u32(c, OFF_FPU(x87_live));
	stub_byte(c, 1);
	return stub_jcc(c, 5);
}

/*
 * A handler for x87 and MMX, whose registers are live in the host. Stores that cannot go to memory
 * directly are x87_slow()'s too.
 */
static exec_fn *live_stub(const struct form *f, uint64_t key)
{
	bool x87 = op_group(f->in->op) == OPG_X87;
	uint8_t traps = f->in->op == OP_WAIT ? FPTRAP_WAIT_NM : x87 ? FPTRAP_X87_NM : TRAP_MMX;
	struct stub_code c = { .n = 0 }, raw = { .n = 0 };
	unsigned trap = trap_check(&c, traps), not_live = live_check(&c), slow[2] = { 0 }, resume;

	if (f->mem) {
		if (!simd_load_fn(f->mem_size, false)) {
			return NULL;
		}
		memory_operand(&c, f, simd_mem_aligned(f->in, f->row), slow);
	}
	resume = c.n;
	instruction_and_results(&c, f);
	next_instruction(&c);
	if (f->mem && !f->store) {
		slow_part(&c, f, slow, resume);
	} else {
		land_slow(&c, slow);
	}
	stub_land(&c, not_live);
	stub_jump(&c, (const void *)(uintptr_t)x87_slow);
	stub_land(&c, trap);
	stub_jump(&c, (const void *)(uintptr_t)(x87 ? simd_trap_x87 : simd_trap_mmx));
	raw_code(&raw, f);
	return stub_add(key, &c, &raw);
}

/*
 * Can the host run it? Its features may be fewer than the rows know, and than the guest tries.
 */
static bool host_can(const struct form *f)
{
	static const uint16_t needs[RF_COUNT] = {
		[RF_SSE3] = FPUF_SSE3,     [RF_SSSE3] = FPUF_SSSE3, [RF_SSE41] = FPUF_SSE41,
		[RF_SSE42] = FPUF_SSE42,   [RF_AES] = FPUF_AES,     [RF_SHA] = FPUF_SHA,
		[RF_PCLMUL] = FPUF_PCLMUL, [RF_AVX2] = FPUF_AVX2,   [RF_FMA] = FPUF_FMA,
		[RF_F16C] = FPUF_F16C,
	};
	unsigned op = op_unvex(f->in->op), need = needs[row_feature(f->row)];

	/* The VEX forms of older instructions came with AVX for 128 bits, with AVX2 for 256. */
	if (op != f->in->op && !(f->in->flags & INSN_VEXL)) {
		need &= ~(unsigned)FPUF_AVX2;
	}
	if (f->vex) {
		need |= FPUF_AVX;
	}
	if (op >= OP_AESIMC && op <= OP_AESKEYGENASSIST) {
		need |= FPUF_AES;
	}
	if (op == OP_PCLMULQDQ) {
		need |= FPUF_PCLMUL;
	}
	return (fpu_host_features() & need) == need;
}

exec_fn *simd_generate(const struct insn *in)
{
	struct form f;
	uint64_t key;
	exec_fn *fn;

	if (!form_init(&f, in) || !host_can(&f)) {
		return NULL;
	}
	key = form_key(&f);
	fn = stub_find(key);
	if (fn) {
		return fn;
	}
	return f.live ? live_stub(&f, key) : vector_stub(&f, key);
}
