/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x87: everything but the arithmetic, which is stubs.
 *
 * Theory of operation
 * -------------------
 * A stub runs its instruction on the host's x87 as long as the registers are live
 * there and all exceptions are masked (fpu.h). Otherwise it comes to x87_slow():
 *
 *   not live, all masked    load the registers, start over: live from now on
 *   an exception unmasked   one instruction at a time: image -> host, run, host -> image. So the
 *                           host never keeps a pending exception, which would kill us
 *                           at its next x87 instruction
 *   store not direct        the same, with a bounce buffer, so that a store that faults
 *                           leaves the old state (the pop would else be lost)
 *
 * Pending exceptions are FSW.ES in the image: raised as #MF before the next waiting
 * instruction. With CR0.NE = 0 (FERR# and IRQ 13 outside, as PCs before the 486
 * had it) they are ignored: the instruction runs as if masked.
 */
#include "softkvm/cpu/simd_int.h"

#define HOST_XMM_CLOBBERS                                                                        \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
		"xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

/* Load the x87 registers from an FXSAVE64 image; its MXCSR field is scratch. */
static void host_load(uint8_t *image)
{
	__asm__ volatile("stmxcsr %c1(%0)\n\tfxrstor64 (%0)"
			 :
			 : "r"(image), "i"(FXS_MXCSR)
			 : "memory", HOST_XMM_CLOBBERS);
}

static void host_save(uint8_t *image)
{
	__asm__ volatile("fxsave64 (%0)\n\tfninit" : : "r"(image) : "memory");
}

static uint16_t image_fcw(const struct vcpu *cpu)
{
	return load_le16(cpu->fpu.image + FXS_FCW);
}

static uint16_t image_fsw(const struct vcpu *cpu)
{
	return load_le16(cpu->fpu.image + FXS_FSW);
}

static void set_fcw(struct vcpu *cpu, uint16_t fcw)
{
	store_le16(cpu->fpu.image + FXS_FCW, fcw);
	fpu_image_set(cpu, cpu->fpu.image); /* ES follows */
}

bool x87_pending(const struct vcpu *cpu)
{
	return !cpu->fpu.x87_live && (image_fsw(cpu) & FSW_ES) && (cpu->cr0 & CR0_NE);
}

/* --- one instruction through the image ---------------------------------------------------------
 */

/* Was the result of a store withheld? Any unmasked exception but inexact does that (SDM 1 8.5). */
static bool store_withheld(uint16_t fcw, uint16_t fsw)
{
	return fsw & ~fcw & 0x1f;
}

static void record_pointers(struct vcpu *cpu, const struct insn *in, uint8_t *image)
{
	store_le16(image + FXS_FOP, (uint16_t)((in->opcode & 7) << 8 | in->modrm));
	store_le64(image + FXS_FIP, insn_rip(cpu, in));
	store_le64(image + FXS_FDP, in->flags & INSN_MEM ? ea_offset(cpu, in) : 0);
}

/* Where the raw code finds, or leaves, its memory operand; NULL: abort. */
static void *image_operand(struct vcpu *cpu, const struct insn *in, bool store, gva_t *ret_lin)
{
	unsigned size = in->mem_size;

	if (!store) {
		return simd_load_fn(size, size == 16)(cpu, in); /* CVTPD2PI and CVTTPD2PI */
	}
	if (!ea_linear(cpu, in, size, ACC_WRITE, ret_lin) ||
	    !mmu_probe(cpu, *ret_lin, size, ACC_WRITE)) {
		return NULL;
	}
	return cpu->fpu.bounce;
}

static bool store_operand(struct vcpu *cpu, gva_t lin, unsigned size)
{
	const void *p = cpu->fpu.bounce;

	switch (size) {
	case 2:
		return mmu_store(cpu, lin, p, 2);
	case 4:
		return mmu_store(cpu, lin, p, 4);
	case 8:
		return mmu_store(cpu, lin, p, 8);
	default:
		return mmu_store(cpu, lin, p, 10);
	}
}

/* Run raw code on a copy of the image; false: #XM (instructions with XMM operands). */
static bool run_raw(struct vcpu *cpu, const struct insn *in, void *mem, bool force_masked,
		    uint8_t *image)
{
	uint16_t fcw = image_fcw(cpu);
	int failed;

	memcpy(image, cpu->fpu.image, FXS_XMM);
	if (force_masked) {
		store_le16(image + FXS_FCW, fcw | FCW_MASKS);
		store_le16(image + FXS_FSW, image_fsw(cpu) & (uint16_t) ~(FSW_ES | FSW_BUSY));
	}
	host_load(image);
	failed = stub_raw(in)(cpu, in, mem);
	host_save(image);
	memcpy(image + FXS_FOP, cpu->fpu.image + FXS_FOP, FXS_MXCSR - FXS_FOP);
	if (force_masked) {
		store_le16(image + FXS_FCW, fcw);
	}
	return !failed;
}

static bool writes_memory(const struct insn *in)
{
	const struct row *row = simd_row(in);

	if (!(in->flags & INSN_MEM)) {
		return false;
	}
	if (op_group(in->op) == OPG_X87) {
		return x87_op_stores(in->op);
	}
	return row && opnd_infos[row->opnd[0]].kind != OK_P &&
	       opnd_infos[row->opnd[0]].kind != OK_V;
}

static __attribute__((noinline)) enum exec_result through_image(struct vcpu *cpu,
								const struct insn *in)
{
	uint8_t image[FXS_SIZE] __attribute__((aligned(16)));
	bool store = writes_memory(in), was_pending;
	void *mem = NULL;
	gva_t lin = 0;

	fpu_sync_x87(cpu);
	was_pending = image_fsw(cpu) & FSW_ES;
	if (in->flags & INSN_MEM) {
		mem = image_operand(cpu, in, store, &lin);
		if (!mem) {
			return exec_abort(cpu, in);
		}
	}
	if (!run_raw(cpu, in, mem, was_pending, image)) {
		fpu_image_set(cpu, image); /* #XM comes behind the change to MMX */
		return stub_fp_fault(cpu, in);
	}
	if (!was_pending && (load_le16(image + FXS_FSW) & FSW_ES)) {
		record_pointers(cpu, in, image);
		store = store && !store_withheld(image_fcw(cpu), load_le16(image + FXS_FSW));
	}
	if (store && !store_operand(cpu, lin, in->mem_size)) {
		return exec_abort(cpu, in);
	}
	fpu_image_set(cpu, image);
	return EXEC_NEXT;
}

enum exec_result x87_slow(struct vcpu *cpu, const struct insn *in)
{
	enum exec_result r;

	if (x87_pending(cpu)) {
		return exec_fault(cpu, in, EX_MF);
	}
	if (!cpu->fpu.x87_live && cpu->fpu.loaded && (image_fcw(cpu) & FCW_MASKS) == FCW_MASKS) {
		host_load(cpu->fpu.image);
		cpu->fpu.x87_live = 1;
		return in->fn(cpu, in);
	}
	r = through_image(cpu, in);
	return r == EXEC_NEXT ? exec_next(cpu, in) : r;
}

/* --- MMX for C handlers
 * --------------------------------------------------------------------------- */

void x87_read_mmx(struct vcpu *cpu, unsigned reg, uint8_t out[8])
{
	fpu_sync_x87(cpu);
	memcpy(out, cpu->fpu.image + FXS_ST + ((reg - (image_fsw(cpu) >> 11)) & 7) * 16, 8);
}

void x87_enter_mmx(struct vcpu *cpu)
{
	fpu_sync_x87(cpu);
	image_rotate(cpu->fpu.image, 0);
	cpu->fpu.image[FXS_FTW] = 0xff;
}

/* --- control
 * ----------------------------------------------------------------------------------------- */

#define X87_CHECK_TRAP(cpu, in)                                 \
	do {                                                    \
		if (unlikely((cpu)->fp_trap & FPTRAP_X87_NM)) { \
			return simd_trap_x87(cpu, in);          \
		}                                               \
	} while (0)

static uint16_t current_fsw(const struct vcpu *cpu)
{
	uint16_t v;

	if (!cpu->fpu.x87_live) {
		return image_fsw(cpu);
	}
	__asm__ volatile("fnstsw %0" : "=a"(v) : : "memory");
	return v;
}

static uint16_t current_fcw(const struct vcpu *cpu)
{
	uint16_t v;

	if (!cpu->fpu.x87_live) {
		return image_fcw(cpu);
	}
	__asm__ volatile("fnstcw %0" : "=m"(v) : : "memory");
	return v;
}

static enum exec_result fnstsw_ax(struct vcpu *cpu, const struct insn *in)
{
	X87_CHECK_TRAP(cpu, in);
	reg_store(cpu, RAX, current_fsw(cpu), 2);
	return exec_next(cpu, in);
}

static enum exec_result store_word(struct vcpu *cpu, const struct insn *in, uint16_t v)
{
	gva_t lin;

	if (!ea_linear(cpu, in, 2, ACC_WRITE, &lin) || !mmu_store(cpu, lin, &v, 2)) {
		return exec_abort(cpu, in);
	}
	return EXEC_NEXT;
}

static __attribute__((noinline)) enum exec_result fnstsw_mem_body(struct vcpu *cpu,
								  const struct insn *in)
{
	X87_CHECK_TRAP(cpu, in);
	return store_word(cpu, in, current_fsw(cpu));
}
SIMD_HANDLER(fnstsw_mem)

static __attribute__((noinline)) enum exec_result fnstcw_body(struct vcpu *cpu,
							      const struct insn *in)
{
	X87_CHECK_TRAP(cpu, in);
	return store_word(cpu, in, current_fcw(cpu));
}
SIMD_HANDLER(fnstcw)

static __attribute__((noinline)) enum exec_result fldcw_body(struct vcpu *cpu,
							     const struct insn *in)
{
	uint16_t v;
	gva_t lin;

	X87_CHECK_TRAP(cpu, in);
	if (x87_pending(cpu)) {
		return exec_fault(cpu, in, EX_MF);
	}
	if (!ea_linear(cpu, in, 2, ACC_READ, &lin) || !mmu_load(cpu, lin, &v, 2)) {
		return exec_abort(cpu, in);
	}
	if (cpu->fpu.x87_live && (v & FCW_MASKS) == FCW_MASKS) {
		__asm__ volatile("fldcw %0" : : "m"(v) : "memory");
	} else {
		fpu_sync_x87(cpu);
		set_fcw(cpu, v);
	}
	return EXEC_NEXT;
}
SIMD_HANDLER(fldcw)

static __attribute__((noinline)) enum exec_result fnclex_body(struct vcpu *cpu,
							      const struct insn *in)
{
	X87_CHECK_TRAP(cpu, in);
	if (cpu->fpu.x87_live) {
		__asm__ volatile("fnclex" : : : "memory");
	} else {
		store_le16(cpu->fpu.image + FXS_FSW, image_fsw(cpu) & 0x7f00);
	}
	return EXEC_NEXT;
}
SIMD_HANDLER(fnclex)

/* FNINIT empties the registers by their tags; their contents stay. */
static void image_fninit(struct vcpu *cpu)
{
	uint8_t *im = cpu->fpu.image;

	image_rotate(im, 0);
	memset(im, 0, FXS_MXCSR);
	store_le16(im + FXS_FCW, FCW_INIT);
}

static __attribute__((noinline)) enum exec_result fninit_body(struct vcpu *cpu,
							      const struct insn *in)
{
	X87_CHECK_TRAP(cpu, in);
	fpu_sync_x87(cpu);
	image_fninit(cpu);
	return EXEC_NEXT;
}
SIMD_HANDLER(fninit)

/* FNENI, FNDISI (8087), FNSETPM (80287): nothing since the 80387. */
static enum exec_result x87_nothing(struct vcpu *cpu, const struct insn *in)
{
	X87_CHECK_TRAP(cpu, in);
	return exec_next(cpu, in);
}

/* --- environment and state
 * ------------------------------------------------------------------------------ */

static struct env_format env_format(const struct vcpu *cpu, const struct insn *in)
{
	return (struct env_format){ .wide = in->osz != 2, .protected = cpu->key & KEY_PE };
}

static __attribute__((noinline)) enum exec_result fnstenv_body(struct vcpu *cpu,
							       const struct insn *in)
{
	struct env_format f = env_format(cpu, in);
	uint8_t env[ENV_MAX];
	gva_t lin;

	X87_CHECK_TRAP(cpu, in);
	fpu_sync_x87(cpu);
	env_store(cpu->fpu.image, f, env);
	if (!ea_linear(cpu, in, env_size(f), ACC_WRITE, &lin) ||
	    !simd_write(cpu, lin, env, env_size(f))) {
		return exec_abort(cpu, in);
	}
	set_fcw(cpu, image_fcw(cpu) | FCW_MASKS);
	return EXEC_NEXT;
}
SIMD_HANDLER(fnstenv)

static __attribute__((noinline)) enum exec_result fldenv_body(struct vcpu *cpu,
							      const struct insn *in)
{
	struct env_format f = env_format(cpu, in);
	uint8_t env[ENV_MAX];
	gva_t lin;

	X87_CHECK_TRAP(cpu, in);
	if (x87_pending(cpu)) {
		return exec_fault(cpu, in, EX_MF);
	}
	if (!ea_linear(cpu, in, env_size(f), ACC_READ, &lin) ||
	    !simd_read(cpu, lin, env, env_size(f))) {
		return exec_abort(cpu, in);
	}
	fpu_sync_x87(cpu);
	env_load(cpu->fpu.image, f, env);
	fpu_image_set(cpu, cpu->fpu.image);
	return EXEC_NEXT;
}
SIMD_HANDLER(fldenv)

static __attribute__((noinline)) enum exec_result fnsave_body(struct vcpu *cpu,
							      const struct insn *in)
{
	struct env_format f = env_format(cpu, in);
	uint8_t state[ENV_STATE_MAX];
	unsigned size = env_size(f) + 80;
	gva_t lin;

	X87_CHECK_TRAP(cpu, in);
	fpu_sync_x87(cpu);
	env_store(cpu->fpu.image, f, state);
	for (unsigned i = 0; i < 8; i++) {
		memcpy(state + env_size(f) + i * 10, cpu->fpu.image + FXS_ST + i * 16, 10);
	}
	if (!ea_linear(cpu, in, size, ACC_WRITE, &lin) || !simd_write(cpu, lin, state, size)) {
		return exec_abort(cpu, in);
	}
	image_fninit(cpu);
	return EXEC_NEXT;
}
SIMD_HANDLER(fnsave)

static __attribute__((noinline)) enum exec_result frstor_body(struct vcpu *cpu,
							      const struct insn *in)
{
	struct env_format f = env_format(cpu, in);
	uint8_t state[ENV_STATE_MAX];
	unsigned size = env_size(f) + 80;
	gva_t lin;

	X87_CHECK_TRAP(cpu, in);
	if (x87_pending(cpu)) {
		return exec_fault(cpu, in, EX_MF);
	}
	if (!ea_linear(cpu, in, size, ACC_READ, &lin) || !simd_read(cpu, lin, state, size)) {
		return exec_abort(cpu, in);
	}
	fpu_sync_x87(cpu);
	env_load(cpu->fpu.image, f, state);
	for (unsigned i = 0; i < 8; i++) {
		memcpy(cpu->fpu.image + FXS_ST + i * 16, state + env_size(f) + i * 10, 10);
	}
	fpu_image_set(cpu, cpu->fpu.image);
	return EXEC_NEXT;
}
SIMD_HANDLER(frstor)

exec_fn *x87_bind(const struct insn *in)
{
	switch (in->op) {
	case OP_FNSTSW:
		return in->flags & INSN_MEM ? fnstsw_mem : fnstsw_ax;
	case OP_FNSTCW:
		return fnstcw;
	case OP_FLDCW:
		return fldcw;
	case OP_FNCLEX:
		return fnclex;
	case OP_FNINIT:
		return fninit;
	case OP_FNENI:
	case OP_FNDISI:
	case OP_FNSETPM:
		return x87_nothing;
	case OP_FNSTENV:
		return fnstenv;
	case OP_FLDENV:
		return fldenv;
	case OP_FNSAVE:
		return fnsave;
	case OP_FRSTOR:
		return frstor;
	default:
		return NULL;
	}
}
