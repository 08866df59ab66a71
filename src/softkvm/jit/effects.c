/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of effects (SDM 1 appendix A, and the instructions' own pages).
 *
 * A flag that the manual leaves undefined counts as replaced where hardware computes something
 * for it whatever it was before; where hardware may keep it, it counts as kept, so that the
 * interpreter and the translator agree on what the host does.
 */
#include "softkvm/jit/effects.h"

#include "softkvm/cpu/bind.h"
#include "softkvm/cpu/ops.h"
#include "softkvm/cpu/rows.h"
#include "softkvm/cpu/simd_int.h"

static uint32_t condition_reads(unsigned cc)
{
	static const uint32_t reads[8] = {
		FL_OF, FL_CF, FL_ZF,         FL_CF | FL_ZF,
		FL_SF, FL_PF, FL_SF | FL_OF, FL_ZF | FL_SF | FL_OF,
	};

	return reads[(cc & 15) >> 1];
}

/* --- general-purpose instructions --------------------------------------------------------- */

static struct effects shift_effects(const struct insn *in)
{
	const struct row *row = simd_row(in);
	bool twin = in->op == OP_SHLD || in->op == OP_SHRD;
	enum opnd_kind count_kind = opnd_infos[row->opnd[twin ? 2 : 1]].kind;
	unsigned count = count_kind == OK_ONE ? 1 : (unsigned)in->imm & (in->osz == 8 ? 63 : 31);
	struct effects e = { .touches = true };

	if (in->op == OP_RCL || in->op == OP_RCR) {
		e.reads = FL_CF;
		return e;
	}
	if (count_kind == OK_CL) {
		return e;
	}
	if (count == 0) {
		e.touches = false;
	} else if (in->op == OP_ROL || in->op == OP_ROR) {
		e.writes = count == 1 ? FL_CF | FL_OF : FL_CF;
	} else {
		e.writes = FL_ARITH;
	}
	return e;
}

/* BT and its kin with a register index reach beyond their operand in memory. */
static bool bit_string(const struct insn *in)
{
	return (in->flags & INSN_MEM) && (in->opcode & 7) != 2;
}

static struct effects int_effects(const struct insn *in)
{
	const uint32_t all = FL_ARITH;

	switch (in->op) {
	case OP_ADD:
	case OP_OR:
	case OP_AND:
	case OP_SUB:
	case OP_XOR:
	case OP_CMP:
	case OP_TEST:
	case OP_NEG:
	case OP_MUL:
	case OP_IMUL1:
	case OP_IMUL2:
	case OP_IMUL3:
	case OP_XADD:
	case OP_CMPXCHG:
	case OP_POPCNT:
	case OP_LZCNT:
	case OP_TZCNT:
	case OP_BSF:
	case OP_BSR:
	case OP_ANDN:
	case OP_BEXTR:
	case OP_BLSR:
	case OP_BLSMSK:
	case OP_BLSI:
	case OP_BZHI:
	case OP_RDRAND:
	case OP_RDSEED:
		return (struct effects){ .writes = all, .touches = true };
	case OP_ADC:
	case OP_SBB:
		return (struct effects){ .reads = FL_CF, .writes = all, .touches = true };
	case OP_ADCX:
		return (struct effects){ .reads = FL_CF, .writes = FL_CF, .touches = true };
	case OP_ADOX:
		return (struct effects){ .reads = FL_OF, .writes = FL_OF, .touches = true };
	case OP_INC:
	case OP_DEC:
		return (struct effects){ .writes = all & ~FL_CF, .touches = true };
	case OP_CMPXCHG8B:
	case OP_CMPXCHG16B:
		return (struct effects){ .writes = FL_ZF, .touches = true };
	case OP_BT:
	case OP_BTS:
	case OP_BTR:
	case OP_BTC:
		return (struct effects){ .cls = bit_string(in) ? T_BITS : T_GENERIC,
					 .writes = FL_CF,
					 .touches = true };
	case OP_SHL:
	case OP_SHR:
	case OP_SAR:
	case OP_ROL:
	case OP_ROR:
	case OP_RCL:
	case OP_RCR:
	case OP_SHLD:
	case OP_SHRD:
		return shift_effects(in);
	case OP_DIV:
	case OP_IDIV:
		return (struct effects){ .cls = T_DIV, .writes = all, .touches = true };
	case OP_LAHF:
		return (struct effects){ .reads = all & ~FL_OF };
	case OP_SAHF:
		return (struct effects){ .writes = all & ~FL_OF, .touches = true };
	case OP_CLC:
	case OP_STC:
		return (struct effects){ .writes = FL_CF, .touches = true };
	case OP_CMC:
		return (struct effects){ .reads = FL_CF, .writes = FL_CF, .touches = true };
	case OP_MOV:
	case OP_MOVNTI:
	case OP_XCHG:
	case OP_MOVZX:
	case OP_MOVSX:
	case OP_MOVSXD:
	case OP_MOVBE:
	case OP_BSWAP:
	case OP_CBW:
	case OP_CWD:
	case OP_CRC32:
	case OP_NOT:
	case OP_PDEP:
	case OP_PEXT:
	case OP_MULX:
	case OP_RORX:
	case OP_SARX:
	case OP_SHLX:
	case OP_SHRX:
	case OP_PAUSE:
	case OP_LFENCE:
	case OP_MFENCE:
	case OP_SFENCE:
		return (struct effects){ .cls = T_GENERIC };
	case OP_LEA:
		return (struct effects){ .cls = T_LEA };
	case OP_NOP:
	case OP_PREFETCH:
		return (struct effects){ .cls = T_NOP };
	case OP_CLD:
		return (struct effects){ .cls = T_CLD };
	case OP_STD:
		return (struct effects){ .cls = T_STD };
	case OP_PUSH:
		return (struct effects){ .cls = T_PUSH };
	case OP_POP:
		return (struct effects){ .cls = T_POP };
	case OP_LEAVE:
		return (struct effects){ .cls = T_LEAVE };
	case OP_JMP:
		return (struct effects){ .cls = in->opcode == 0xff ? T_JMP_IND : T_JMP };
	case OP_CALL:
		return (struct effects){ .cls = in->opcode == 0xff ? T_CALL_IND : T_CALL };
	case OP_RET:
		return (struct effects){ .cls = T_RET };
	case OP_LOOP:
	case OP_JCXZ:
		return (struct effects){ .cls = T_LOOP };
	case OP_LOOPE:
	case OP_LOOPNE:
		return (struct effects){ .cls = T_STOP };
	case OP_UD0:
	case OP_UD1:
	case OP_UD2:
		return (struct effects){ .cls = T_STOP };
	case OP_CMPS:
	case OP_SCAS:
		return (struct effects){ .cls = T_HANDLER,
					 .reads = in->flags & (INSN_REP | INSN_REPNE) ? all : 0,
					 .writes = all };
	case OP_MOVS:
	case OP_STOS:
		return (struct effects){ .cls = T_STRING };
	case OP_LODS:
	case OP_CLFLUSH:
	case OP_CLFLUSHOPT:
	case OP_CLWB:
	case OP_XLAT:
		return (struct effects){ .cls = T_HANDLER };
	default:
		break;
	}
	if (in->op >= OP_CMOVO && in->op <= OP_CMOVNLE) {
		return (struct effects){ .reads = condition_reads(in->op - OP_CMOVO) };
	}
	if (in->op >= OP_SETO && in->op <= OP_SETNLE) {
		return (struct effects){ .reads = condition_reads(in->op - OP_SETO) };
	}
	if (in->op >= OP_JO && in->op <= OP_JNLE) {
		return (struct effects){ .cls = T_JCC, .reads = condition_reads(in->op - OP_JO) };
	}
	return (struct effects){ .cls = T_HANDLER, .reads = all };
}

/* --- x87, MMX, SSE, AVX ------------------------------------------------------------------- */

/* Forms with state or memory accesses that are more than an operand: left to the handlers. */
static bool vector_special(unsigned op)
{
	switch (op_unvex(op)) {
	case OP_MASKMOVQ:
	case OP_MASKMOVDQU:
	case OP_LDMXCSR:
	case OP_STMXCSR:
	case OP_FXSAVE:
	case OP_FXRSTOR:
	case OP_XSAVE:
	case OP_XRSTOR:
	case OP_XSAVEOPT:
	case OP_XSAVEC:
	case OP_FLDENV:
	case OP_FLDCW:
	case OP_FNSTENV:
	case OP_FRSTOR:
	case OP_FNSAVE:
	case OP_FNCLEX:
	case OP_FNINIT:
	case OP_FNENI:
	case OP_FNDISI:
	case OP_FNSETPM:
	case OP_WAIT:
	case OP_VMASKMOVPS:
	case OP_VMASKMOVPD:
	case OP_VPMASKMOVD:
	case OP_VPMASKMOVQ:
		return true;
	default:
		return op >= OP_VGATHERDPS && op <= OP_VPGATHERQQ;
	}
}

static uint32_t vector_writes(unsigned op)
{
	if (!simd_sets_flags(op)) {
		return 0;
	}
	return op_group(op) == OPG_X87 ? FL_CF | FL_PF | FL_ZF : FL_ARITH;
}

static uint32_t vector_reads(unsigned op)
{
	switch (op) {
	case OP_FCMOVB:
	case OP_FCMOVNB:
		return FL_CF;
	case OP_FCMOVE:
	case OP_FCMOVNE:
		return FL_ZF;
	case OP_FCMOVBE:
	case OP_FCMOVNBE:
		return FL_CF | FL_ZF;
	case OP_FCMOVU:
	case OP_FCMOVNU:
		return FL_PF;
	default:
		return 0;
	}
}

static struct effects vector_effects(const struct insn *in)
{
	const uint64_t mmx = BIT64(OK_P) | BIT64(OK_Q) | BIT64(OK_N);
	const uint64_t xmm = BIT64(OK_V) | BIT64(OK_W) | BIT64(OK_U);
	const struct row *row = simd_row(in);
	struct effects e = { .reads = vector_reads(in->op), .writes = vector_writes(in->op) };

	e.touches = e.writes != 0;
	if (vector_special(in->op) || ((row->kinds & mmx) && (row->kinds & xmm)) ||
	    (row->kinds & BIT64(OK_VSIB))) {
		return (struct effects){ .cls = T_HANDLER };
	}
	if (op_group(in->op) == OPG_X87 || (row->kinds & mmx) || in->op == OP_EMMS) {
		e.cls = T_X87;
	} else {
		e.cls = in->flags & INSN_VEX ? T_AVX : T_SSE;
	}
	return e;
}

/* --- system instructions -------------------------------------------------------------------- */

static struct effects sys_effects(const struct insn *in)
{
	switch (in->op) {
	case OP_SWAPGS:
	case OP_RDTSC:
	case OP_RDTSCP:
	case OP_RDFSBASE:
	case OP_RDGSBASE:
	case OP_WRFSBASE:
	case OP_WRGSBASE:
	case OP_CLI:
	case OP_STI:
	case OP_STAC:
	case OP_CLAC:
	case OP_MOV_FROM_CR:
	case OP_MOV_FROM_SREG:
		return (struct effects){ .cls = T_FAST };
	case OP_PUSHF:
		return (struct effects){ .cls = T_FAST, .reads = FL_ARITH };
	case OP_POPF:
		return (struct effects){ .cls = T_FAST, .writes = FL_ARITH };
	case OP_RDMSR:
	case OP_VERW:
		return (struct effects){ .cls = T_HANDLER,
					 .reads = in->op == OP_VERW ? FL_ARITH : 0 };
	case OP_CPUID: /* serializes: what follows is fetched anew */
		return (struct effects){ .cls = T_ENDS };
	default:
		return (struct effects){ .cls = in->flags & INSN_ENDS ? T_ENDS : T_HANDLER,
					 .reads = FL_ARITH };
	}
}

/* Does the row's memory operand have a size that the translator can check? */
static bool memory_known(const struct insn *in)
{
	return !(in->flags & INSN_MEM) || (in->mem_size != 0 && in->mem_size <= 32);
}

struct effects effects_of(const struct insn *in)
{
	struct effects e;

	switch (op_group(in->op)) {
	case OPG_INT:
		e = int_effects(in);
		break;
	case OPG_X87:
	case OPG_SIMD:
		e = vector_effects(in);
		break;
	default:
		e = sys_effects(in);
		break;
	}
	if ((e.cls == T_JMP || e.cls == T_CALL || e.cls == T_RET || e.cls == T_JMP_IND ||
	     e.cls == T_CALL_IND || e.cls == T_JCC || e.cls == T_LOOP) &&
	    (in->osz == 2 || (e.cls == T_LOOP && in->asz == 2))) {
		e.cls = T_STOP; /* 16-bit branches of 32-bit code */
	}
	if (e.cls == T_LEA || e.cls == T_NOP || e.cls == T_STOP || e.cls == T_ENDS) {
		return e;
	}
	if ((in->flags & INSN_MEM) &&
	    (!(in->flags & INSN_FLAT) || in->asz < 4 || !memory_known(in))) {
		bool ends = e.cls == T_JMP_IND || e.cls == T_CALL_IND;

		e.cls = ends ? T_STOP : T_HANDLER;
	}
	return e;
}

uint32_t effects_live(const struct effects_walk *w, uint64_t rip, uint32_t open)
{
	uint32_t live = 0;

	while (open) {
		struct effects e;
		struct insn in;
		uint32_t *seen;

		if (w->decode(w->arg, rip, &in, &seen) < 0) {
			return live | open;
		}
		open &= ~*seen;
		*seen |= open;
		e = effects_of(&in);
		live |= e.reads & open;
		open &= ~e.writes;
		rip += in.len;
		switch (e.cls) {
		case T_JMP:
			rip = in.imm;
			break;
		case T_JCC:
		case T_LOOP:
			live |= effects_live(w, in.imm, open);
			break;
		case T_ENDS:
		case T_STOP:
		case T_CALL:
		case T_RET:
		case T_JMP_IND:
		case T_CALL_IND:
			return live | open;
		default:
			break;
		}
	}
	return live;
}
