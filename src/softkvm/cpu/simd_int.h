/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the SIMD and x87 group share.
 */
#pragma once

#include "softkvm/cpu/exec.h"
#include "softkvm/cpu/rows.h"
#include "softkvm/cpu/stub.h"

/* --- exec_simd_gen.c ------------------------------------------------------------------- */
/* The stub that runs this instruction on the host's unit; NULL: none can be made. */
exec_fn *simd_generate(const struct insn *in);
/* Of x87 instructions without a C handler: is the memory operand written? */
bool x87_op_stores(unsigned op);
/* Does it replace arithmetic flags? Then all its operands are sources. */
bool simd_sets_flags(unsigned op);
/* Must its memory operand be aligned to its own size (#GP)? Not for x87. */
bool simd_mem_aligned(const struct insn *in, const struct row *row);
/* The row of a decoded instruction. */
const struct row *simd_row(const struct insn *in);

/* --- exec_simd_mem.c: memory operands for stubs ------------------------------------------ */
/*
 * Where the instruction may read its operand: guest RAM, or fpu.bounce with a copy. NULL:
 * return simd_mem_failed(). By size 1, 2, 4, 8, 10, 16, 32; `aligned`: #GP(0) unless aligned.
 */
typedef void *simd_mem_fn(struct vcpu *cpu, const struct insn *in);
simd_mem_fn *simd_load_fn(unsigned size, bool aligned);
/* Store `size` bytes of fpu.bounce to the operand. False: simd_mem_failed(). */
typedef bool simd_store_fn(struct vcpu *cpu, const struct insn *in);
simd_store_fn *simd_store_fn_of(unsigned size, bool aligned);
/* Could they be stored? For instructions that change more than memory. */
simd_store_fn *simd_probe_fn(unsigned size);
enum exec_result simd_mem_failed(struct vcpu *cpu, const struct insn *in);
/*
 * Bigger images, any size: false like mmu_load(). A write changes nothing if a page of it
 * cannot be written.
 */
bool simd_read(struct vcpu *cpu, gva_t lin, void *buf, unsigned size);
bool simd_write(struct vcpu *cpu, gva_t lin, const void *buf, unsigned size);

/* --- traps: the instruction's class may not run now (vcpu.fp_trap) ------------------------ */
#define TRAP_SSE (FPTRAP_SSE_UD | FPTRAP_SSE_NM)
#define TRAP_AVX (FPTRAP_AVX_UD | FPTRAP_SSE_NM)
#define TRAP_MMX (FPTRAP_MMX_UD | FPTRAP_X87_NM)
enum exec_result simd_trap_sse(struct vcpu *cpu, const struct insn *in);
enum exec_result simd_trap_avx(struct vcpu *cpu, const struct insn *in);
enum exec_result simd_trap_mmx(struct vcpu *cpu, const struct insn *in);
enum exec_result simd_trap_x87(struct vcpu *cpu, const struct insn *in);

/*
 * The handler `name` from name_body(), which returns EXEC_NEXT when it is done: apart, so
 * that no local's address is alive at the tail call (see exec.h).
 */
#define SIMD_HANDLER(name)                                                    \
	static enum exec_result name(struct vcpu *cpu, const struct insn *in) \
	{                                                                     \
		enum exec_result r = name##_body(cpu, in);                    \
                                                                              \
		return likely(r == EXEC_NEXT) ? exec_next(cpu, in) : r;       \
	}

/* For C handlers of SSE and AVX instructions: leave if the class traps. */
#define SIMD_CHECK_TRAP(cpu, in)                                   \
	do {                                                       \
		if ((in)->flags & INSN_VEX) {                      \
			if (unlikely((cpu)->fp_trap & TRAP_AVX)) { \
				return simd_trap_avx(cpu, in);     \
			}                                          \
		} else if (unlikely((cpu)->fp_trap & TRAP_SSE)) {  \
			return simd_trap_sse(cpu, in);             \
		}                                                  \
	} while (0)

/* --- who binds what; NULL: not mine ------------------------------------------------------- */
exec_fn *simd_mov_bind(const struct insn *in); /* exec_simd_mov.c: plain moves to and from memory */
exec_fn *simd_masked_bind(const struct insn *in); /* exec_simd_masked.c: masked moves, gathers */
exec_fn *xsave_bind(const struct insn *in);       /* exec_xsave.c: FXSAVE, XSAVE, MXCSR */
exec_fn *x87_bind(const struct insn *in);         /* exec_x87.c */
/*
 * Run an x87 or MMX stub that found its registers not loaded, or its operand not directly
 * writable.
 */
enum exec_result x87_slow(struct vcpu *cpu, const struct insn *in);
/* Before a waiting instruction: must a pending exception be raised (#MF)? */
bool x87_pending(const struct vcpu *cpu);
/* MM0..MM7 for C handlers; x87_enter_mmx(): TOP 0, all valid, as every MMX instruction leaves it.
 */
void x87_read_mmx(struct vcpu *cpu, unsigned reg, uint8_t out[8]);
void x87_enter_mmx(struct vcpu *cpu);

/* --- x87_env.c: the images of FNSTENV and FNSAVE (SDM 1 8.1.10); pure functions
 * ------------------- */
struct env_format {
	bool wide;      /* 28 bytes, not 14 */
	bool protected; /* pointers as selector and offset */
};
enum { ENV_MAX = 28, ENV_STATE_MAX = 108 };
static inline unsigned env_size(struct env_format f)
{
	return f.wide ? 28 : 14;
}
/* From and to the FXSAVE64 form. env_load keeps the physical registers in place if TOP changes. */
void env_store(const uint8_t *image, struct env_format f, uint8_t *env);
void env_load(uint8_t *image, struct env_format f, const uint8_t *env);
/* ST(i) of an image so that they stand for another TOP. */
void image_rotate(uint8_t *image, unsigned top);
