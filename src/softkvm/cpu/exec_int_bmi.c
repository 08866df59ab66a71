/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BMI1, BMI2, ADX.
 */
#include "softkvm/cpu/exec_int.h"

/* --- two sources, on the host: x = insn(a, b) ----------------------------------------------------
 */
/* `text` names %[a], %[b] and %[x] with the size's modifier, in AT&T order. */
#define BMI_OP(name, size, type, text)                                             \
	ALWAYS_INLINE uint64_t name##_##size(uint64_t a, uint64_t b, uint32_t *cc) \
	{                                                                          \
		uint32_t f = *cc;                                                  \
		type x;                                                            \
		__asm__(ASM_FLAGS_IN text ASM_FLAGS_OUT                            \
			: "+&a"(f), [x] "=&r"(x)                                   \
			: [a] "r"((type)a), [b] "r"((type)b)                       \
			: "cc");                                                   \
		*cc = f & CC_BITS;                                                 \
		return x;                                                          \
	}
#define BMI_FORMS(name, size, dst, src, src2)   \
	HANDLER(name##_##size##_##src##_##src2, \
		int_to_reg(cpu, in, dst, size, name##_##size, src, src2))

/* Operands By, Ey: destination vvvv, source rm. */
#define BLS(name)                                                    \
	BMI_OP(name, 4, uint32_t, #name "l %[a], %[x]")              \
	BMI_OP(name, 8, uint64_t, #name "q %[a], %[x]")              \
	BMI_FORMS(name, 4, in->vvvv, AT_RM, AT_NONE)                 \
	BMI_FORMS(name, 4, in->vvvv, AT_MEM, AT_NONE)                \
	BMI_FORMS(name, 8, in->vvvv, AT_RM, AT_NONE)                 \
	BMI_FORMS(name, 8, in->vvvv, AT_MEM, AT_NONE)                \
	static exec_fn *const name##_handlers[2][2] = {              \
		{ name##_4_AT_RM_AT_NONE, name##_4_AT_MEM_AT_NONE }, \
		{ name##_8_AT_RM_AT_NONE, name##_8_AT_MEM_AT_NONE }, \
	};
BLS(blsr)
BLS(blsmsk)
BLS(blsi)

/* Operands Gy, Ey, By: the control is vvvv. */
#define BY_VVVV_FORMS(name)                                          \
	BMI_FORMS(name, 4, in->reg, AT_RM, AT_VVVV)                  \
	BMI_FORMS(name, 4, in->reg, AT_MEM, AT_VVVV)                 \
	BMI_FORMS(name, 8, in->reg, AT_RM, AT_VVVV)                  \
	BMI_FORMS(name, 8, in->reg, AT_MEM, AT_VVVV)                 \
	static exec_fn *const name##_handlers[2][2] = {              \
		{ name##_4_AT_RM_AT_VVVV, name##_4_AT_MEM_AT_VVVV }, \
		{ name##_8_AT_RM_AT_VVVV, name##_8_AT_MEM_AT_VVVV }, \
	};
#define BY_VVVV(name)                                         \
	BMI_OP(name, 4, uint32_t, #name "l %[b], %[a], %[x]") \
	BMI_OP(name, 8, uint64_t, #name "q %[b], %[a], %[x]") \
	BY_VVVV_FORMS(name)
BY_VVVV(bextr)
BY_VVVV(bzhi)

/* Operands Gy, By, Ey: the first source is vvvv; an int_op's a is rm here, b vvvv. */
#define OF_VVVV(name)                                         \
	BMI_OP(name, 4, uint32_t, #name "l %[a], %[b], %[x]") \
	BMI_OP(name, 8, uint64_t, #name "q %[a], %[b], %[x]") \
	BY_VVVV_FORMS(name)
OF_VVVV(andn)
OF_VVVV(pdep)
OF_VVVV(pext)

/* --- shifts without flags
 * -------------------------------------------------------------------------- */
ALWAYS_INLINE uint64_t shlx_4(uint64_t a, uint64_t b, uint32_t *cc)
{
	return (uint32_t)a << (b & 31);
}
ALWAYS_INLINE uint64_t shlx_8(uint64_t a, uint64_t b, uint32_t *cc)
{
	return a << (b & 63);
}
ALWAYS_INLINE uint64_t shrx_4(uint64_t a, uint64_t b, uint32_t *cc)
{
	return (uint32_t)a >> (b & 31);
}
ALWAYS_INLINE uint64_t shrx_8(uint64_t a, uint64_t b, uint32_t *cc)
{
	return a >> (b & 63);
}
ALWAYS_INLINE uint64_t sarx_4(uint64_t a, uint64_t b, uint32_t *cc)
{
	return (uint32_t)((int32_t)a >> (b & 31));
}
ALWAYS_INLINE uint64_t sarx_8(uint64_t a, uint64_t b, uint32_t *cc)
{
	return (uint64_t)((int64_t)a >> (b & 63));
}
BY_VVVV_FORMS(shlx)
BY_VVVV_FORMS(shrx)
BY_VVVV_FORMS(sarx)

ALWAYS_INLINE uint64_t rorx_4(uint64_t a, uint64_t b, uint32_t *cc)
{
	uint32_t v = (uint32_t)a;

	return (v >> (b & 31)) | (v << (-b & 31));
}
ALWAYS_INLINE uint64_t rorx_8(uint64_t a, uint64_t b, uint32_t *cc)
{
	return (a >> (b & 63)) | (a << (-b & 63));
}
HANDLER(rorx_4_e, int_to_reg(cpu, in, in->reg, 4, rorx_4, AT_RM, AT_IMM))
HANDLER(rorx_4_m, int_to_reg(cpu, in, in->reg, 4, rorx_4, AT_MEM, AT_IMM))
HANDLER(rorx_8_e, int_to_reg(cpu, in, in->reg, 8, rorx_8, AT_RM, AT_IMM))
HANDLER(rorx_8_m, int_to_reg(cpu, in, in->reg, 8, rorx_8, AT_MEM, AT_IMM))
static exec_fn *const rorx_handlers[2][2] = { { rorx_4_e, rorx_4_m }, { rorx_8_e, rorx_8_m } };

/* --- MULX: reg:vvvv = rDX * source; if both are one register it gets the upper half
 * ------------------ */
ALWAYS_INLINE bool mulx(struct vcpu *cpu, const struct insn *in, unsigned size, enum int_place src)
{
	unsigned __int128 product;
	uint64_t v;

	if (!int_load(cpu, in, src, size, &v)) {
		return false;
	}
	product = (unsigned __int128)reg_load(cpu, RDX, size) * v;
	reg_store(cpu, in->vvvv, (uint64_t)product, size);
	reg_store(cpu, in->reg, (uint64_t)(product >> (size * 8)), size);
	return true;
}
HANDLER(mulx_4_e, mulx(cpu, in, 4, AT_RM))
HANDLER(mulx_4_m, mulx(cpu, in, 4, AT_MEM))
HANDLER(mulx_8_e, mulx(cpu, in, 8, AT_RM))
HANDLER(mulx_8_m, mulx(cpu, in, 8, AT_MEM))
static exec_fn *const mulx_handlers[2][2] = { { mulx_4_e, mulx_4_m }, { mulx_8_e, mulx_8_m } };

/* --- ADCX, ADOX: add with a carry of their own
 * ----------------------------------------------------------- */
ALWAYS_INLINE uint64_t add_carry(uint64_t a, uint64_t b, uint32_t *cc, uint32_t flag, unsigned size)
{
	unsigned __int128 mask = size == 8 ? UINT64_MAX : UINT32_MAX;
	unsigned __int128 sum = (a & mask) + (b & mask) + !!(*cc & flag);

	*cc = (*cc & ~flag) | (sum > mask ? flag : 0);
	return (uint64_t)sum;
}
ALWAYS_INLINE uint64_t adcx_4(uint64_t a, uint64_t b, uint32_t *cc)
{
	return add_carry(a, b, cc, CC_CF, 4);
}
ALWAYS_INLINE uint64_t adcx_8(uint64_t a, uint64_t b, uint32_t *cc)
{
	return add_carry(a, b, cc, CC_CF, 8);
}
ALWAYS_INLINE uint64_t adox_4(uint64_t a, uint64_t b, uint32_t *cc)
{
	return add_carry(a, b, cc, CC_OF, 4);
}
ALWAYS_INLINE uint64_t adox_8(uint64_t a, uint64_t b, uint32_t *cc)
{
	return add_carry(a, b, cc, CC_OF, 8);
}
#define ADX(name, size)                                                           \
	HANDLER(name##_##size##_e,                                                \
		int_to_reg(cpu, in, in->reg, size, name##_##size, AT_REG, AT_RM)) \
	HANDLER(name##_##size##_m,                                                \
		int_to_reg(cpu, in, in->reg, size, name##_##size, AT_REG, AT_MEM))
ADX(adcx, 4)
ADX(adcx, 8)
ADX(adox, 4)
ADX(adox, 8)
static exec_fn *const adcx_handlers[2][2] = { { adcx_4_e, adcx_4_m }, { adcx_8_e, adcx_8_m } };
static exec_fn *const adox_handlers[2][2] = { { adox_4_e, adox_4_m }, { adox_8_e, adox_8_m } };

exec_fn *int_bmi_bind(const struct insn *in)
{
	unsigned wide = in->osz == 8, mem = insn_has_mem(in);

	switch (in->op) {
	case OP_ANDN:
		return andn_handlers[wide][mem];
	case OP_BEXTR:
		return bextr_handlers[wide][mem];
	case OP_BLSR:
		return blsr_handlers[wide][mem];
	case OP_BLSMSK:
		return blsmsk_handlers[wide][mem];
	case OP_BLSI:
		return blsi_handlers[wide][mem];
	case OP_BZHI:
		return bzhi_handlers[wide][mem];
	case OP_PDEP:
		return pdep_handlers[wide][mem];
	case OP_PEXT:
		return pext_handlers[wide][mem];
	case OP_MULX:
		return mulx_handlers[wide][mem];
	case OP_RORX:
		return rorx_handlers[wide][mem];
	case OP_SARX:
		return sarx_handlers[wide][mem];
	case OP_SHLX:
		return shlx_handlers[wide][mem];
	case OP_SHRX:
		return shrx_handlers[wide][mem];
	case OP_ADCX:
		return adcx_handlers[wide][mem];
	case OP_ADOX:
		return adox_handlers[wide][mem];
	default:
		return NULL;
	}
}
