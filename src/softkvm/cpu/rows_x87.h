/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opcode rows: the x87 escapes D8..DF (SDM 2D A.5). Body of rows.c. First the
 * eight memory forms by ModRM.reg, then the 64 register forms by ModRM & 63. Twins that the manual
 * leaves out (DC D0.., DD C8.., DE D0.., DF C8..) behave as their models.
 */
#define ST(b, ...) [8 + (b) ... 8 + (b) + 7] = SET(R(__VA_ARGS__))
#define ST1(b, o)  [8 + (b)] = SET(R(o, X87))

static const struct row_set esc_d8[72] = {
	[0] = SET(R(FADD, X87, Md)),	     [1] = SET(R(FMUL, X87, Md)),
	[2] = SET(R(FCOM, X87, Md)),	     [3] = SET(R(FCOMP, X87, Md)),
	[4] = SET(R(FSUB, X87, Md)),	     [5] = SET(R(FSUBR, X87, Md)),
	[6] = SET(R(FDIV, X87, Md)),	     [7] = SET(R(FDIVR, X87, Md)),
	ST(0x00, FADD, X87, ST0, STi),	     ST(0x08, FMUL, X87, ST0, STi),
	ST(0x10, FCOM, X87, ST0, STi),	     ST(0x18, FCOMP, X87, ST0, STi),
	ST(0x20, FSUB, X87, ST0, STi),	     ST(0x28, FSUBR, X87, ST0, STi),
	ST(0x30, FDIV, X87, ST0, STi),	     ST(0x38, FDIVR, X87, ST0, STi),
};

static const struct row_set esc_d9[72] = {
	[0] = SET(R(FLD, X87, Md)),	     [2] = SET(R(FST, X87, Md)),
	[3] = SET(R(FSTP, X87, Md)),	     [4] = SET(R(FLDENV, X87, Menv)),
	[5] = SET(R(FLDCW, X87, Mw)),	     [6] = SET(R(FNSTENV, X87, Menv)),
	[7] = SET(R(FNSTCW, X87, Mw)),
	ST(0x00, FLD, X87, STi),	     ST(0x08, FXCH, X87, ST0, STi),
	ST1(0x10, FNOP),		     ST(0x18, FSTP, X87, STi),
	ST1(0x20, FCHS),		     ST1(0x21, FABS),
	ST1(0x24, FTST),		     ST1(0x25, FXAM),
	ST1(0x28, FLD1),		     ST1(0x29, FLDL2T),
	ST1(0x2a, FLDL2E),		     ST1(0x2b, FLDPI),
	ST1(0x2c, FLDLG2),		     ST1(0x2d, FLDLN2),
	ST1(0x2e, FLDZ),
	ST1(0x30, F2XM1),		     ST1(0x31, FYL2X),
	ST1(0x32, FPTAN),		     ST1(0x33, FPATAN),
	ST1(0x34, FXTRACT),		     ST1(0x35, FPREM1),
	ST1(0x36, FDECSTP),		     ST1(0x37, FINCSTP),
	ST1(0x38, FPREM),		     ST1(0x39, FYL2XP1),
	ST1(0x3a, FSQRT),		     ST1(0x3b, FSINCOS),
	ST1(0x3c, FRNDINT),		     ST1(0x3d, FSCALE),
	ST1(0x3e, FSIN),		     ST1(0x3f, FCOS),
};

static const struct row_set esc_da[72] = {
	[0] = SET(R(FIADD, X87, Md)),	     [1] = SET(R(FIMUL, X87, Md)),
	[2] = SET(R(FICOM, X87, Md)),	     [3] = SET(R(FICOMP, X87, Md)),
	[4] = SET(R(FISUB, X87, Md)),	     [5] = SET(R(FISUBR, X87, Md)),
	[6] = SET(R(FIDIV, X87, Md)),	     [7] = SET(R(FIDIVR, X87, Md)),
	ST(0x00, FCMOVB, X87, ST0, STi),     ST(0x08, FCMOVE, X87, ST0, STi),
	ST(0x10, FCMOVBE, X87, ST0, STi),    ST(0x18, FCMOVU, X87, ST0, STi),
	ST1(0x29, FUCOMPP),
};

static const struct row_set esc_db[72] = {
	[0] = SET(R(FILD, X87, Md)),	     [1] = SET(R(FISTTP, X87, Md)),
	[2] = SET(R(FIST, X87, Md)),	     [3] = SET(R(FISTP, X87, Md)),
	[5] = SET(R(FLD, X87, Mt)),	     [7] = SET(R(FSTP, X87, Mt)),
	ST(0x00, FCMOVNB, X87, ST0, STi),    ST(0x08, FCMOVNE, X87, ST0, STi),
	ST(0x10, FCMOVNBE, X87, ST0, STi),   ST(0x18, FCMOVNU, X87, ST0, STi),
	ST1(0x20, FNENI),		     ST1(0x21, FNDISI),
	ST1(0x22, FNCLEX),		     ST1(0x23, FNINIT),
	ST1(0x24, FNSETPM),
	ST(0x28, FUCOMI, X87, ST0, STi),     ST(0x30, FCOMI, X87, ST0, STi),
};

/* In DC and DE the register forms of FSUB and FSUBR, FDIV and FDIVR change places. */
static const struct row_set esc_dc[72] = {
	[0] = SET(R(FADD, X87, Mq)),	     [1] = SET(R(FMUL, X87, Mq)),
	[2] = SET(R(FCOM, X87, Mq)),	     [3] = SET(R(FCOMP, X87, Mq)),
	[4] = SET(R(FSUB, X87, Mq)),	     [5] = SET(R(FSUBR, X87, Mq)),
	[6] = SET(R(FDIV, X87, Mq)),	     [7] = SET(R(FDIVR, X87, Mq)),
	ST(0x00, FADD, X87, STi, ST0),	     ST(0x08, FMUL, X87, STi, ST0),
	ST(0x10, FCOM, X87, ST0, STi),	     ST(0x18, FCOMP, X87, ST0, STi),
	ST(0x20, FSUBR, X87, STi, ST0),	     ST(0x28, FSUB, X87, STi, ST0),
	ST(0x30, FDIVR, X87, STi, ST0),	     ST(0x38, FDIV, X87, STi, ST0),
};

static const struct row_set esc_dd[72] = {
	[0] = SET(R(FLD, X87, Mq)),	     [1] = SET(R(FISTTP, X87, Mq)),
	[2] = SET(R(FST, X87, Mq)),	     [3] = SET(R(FSTP, X87, Mq)),
	[4] = SET(R(FRSTOR, X87, Mstate)),   [6] = SET(R(FNSAVE, X87, Mstate)),
	[7] = SET(R(FNSTSW, X87, Mw)),
	ST(0x00, FFREE, X87, STi),	     ST(0x08, FXCH, X87, ST0, STi),
	ST(0x10, FST, X87, STi),	     ST(0x18, FSTP, X87, STi),
	ST(0x20, FUCOM, X87, ST0, STi),	     ST(0x28, FUCOMP, X87, ST0, STi),
};

static const struct row_set esc_de[72] = {
	[0] = SET(R(FIADD, X87, Mw)),	     [1] = SET(R(FIMUL, X87, Mw)),
	[2] = SET(R(FICOM, X87, Mw)),	     [3] = SET(R(FICOMP, X87, Mw)),
	[4] = SET(R(FISUB, X87, Mw)),	     [5] = SET(R(FISUBR, X87, Mw)),
	[6] = SET(R(FIDIV, X87, Mw)),	     [7] = SET(R(FIDIVR, X87, Mw)),
	ST(0x00, FADDP, X87, STi, ST0),	     ST(0x08, FMULP, X87, STi, ST0),
	ST(0x10, FCOMP, X87, ST0, STi),	     ST1(0x19, FCOMPP),
	ST(0x20, FSUBRP, X87, STi, ST0),     ST(0x28, FSUBP, X87, STi, ST0),
	ST(0x30, FDIVRP, X87, STi, ST0),     ST(0x38, FDIVP, X87, STi, ST0),
};

static const struct row_set esc_df[72] = {
	[0] = SET(R(FILD, X87, Mw)),	     [1] = SET(R(FISTTP, X87, Mw)),
	[2] = SET(R(FIST, X87, Mw)),	     [3] = SET(R(FISTP, X87, Mw)),
	[4] = SET(R(FBLD, X87, Mt)),	     [5] = SET(R(FILD, X87, Mq)),
	[6] = SET(R(FBSTP, X87, Mt)),	     [7] = SET(R(FISTP, X87, Mq)),
	ST(0x00, FFREEP, X87, STi),	     ST(0x08, FXCH, X87, ST0, STi),
	ST(0x10, FSTP, X87, STi),	     ST(0x18, FSTP, X87, STi),
	[8 + 0x20] = SET(R(FNSTSW, X87, AX)),
	ST(0x28, FUCOMIP, X87, ST0, STi),    ST(0x30, FCOMIP, X87, ST0, STi),
};
