/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opcode rows: the one-byte map (SDM 2D table A-2). Body of rows.c, see there for the letters.
 */
#define ALU(b, o)                                                                                  \
	[b] = SET(R(o, LK, Eb, Gb)), [b + 1] = SET(R(o, LK, Ev, Gv)),                              \
	[b + 2] = SET(R(o, 0, Gb, Eb)), [b + 3] = SET(R(o, 0, Gv, Ev)),                            \
	[b + 4] = SET(R(o, 0, AL, Ib)), [b + 5] = SET(R(o, 0, rAX, Iz))
#define BY8(b, ...)                                                                                \
	[b] = SET(R(__VA_ARGS__)), [b + 1] = SET(R(__VA_ARGS__)), [b + 2] = SET(R(__VA_ARGS__)),   \
	[b + 3] = SET(R(__VA_ARGS__)), [b + 4] = SET(R(__VA_ARGS__)),                              \
	[b + 5] = SET(R(__VA_ARGS__)), [b + 6] = SET(R(__VA_ARGS__)), [b + 7] = SET(R(__VA_ARGS__))
/* The sixteen conditions at opcodes b..b+15. */
#define BY_CC(b, o, ...)                                                                           \
	[b] = SET(R(o##O, __VA_ARGS__)), [b + 1] = SET(R(o##NO, __VA_ARGS__)),                     \
	[b + 2] = SET(R(o##B, __VA_ARGS__)), [b + 3] = SET(R(o##NB, __VA_ARGS__)),                 \
	[b + 4] = SET(R(o##Z, __VA_ARGS__)), [b + 5] = SET(R(o##NZ, __VA_ARGS__)),                 \
	[b + 6] = SET(R(o##BE, __VA_ARGS__)), [b + 7] = SET(R(o##NBE, __VA_ARGS__)),               \
	[b + 8] = SET(R(o##S, __VA_ARGS__)), [b + 9] = SET(R(o##NS, __VA_ARGS__)),                 \
	[b + 10] = SET(R(o##P, __VA_ARGS__)), [b + 11] = SET(R(o##NP, __VA_ARGS__)),               \
	[b + 12] = SET(R(o##L, __VA_ARGS__)), [b + 13] = SET(R(o##NL, __VA_ARGS__)),               \
	[b + 14] = SET(R(o##LE, __VA_ARGS__)), [b + 15] = SET(R(o##NLE, __VA_ARGS__))
/* Immediate group 1: the ALU operations of operand `e` with immediate `i`. */
#define GRP1(f, e, i)                                                                              \
	GROUP([0] = SET(R(ADD, LK | (f), e, i)), [1] = SET(R(OR, LK | (f), e, i)),                 \
	      [2] = SET(R(ADC, LK | (f), e, i)), [3] = SET(R(SBB, LK | (f), e, i)),                \
	      [4] = SET(R(AND, LK | (f), e, i)), [5] = SET(R(SUB, LK | (f), e, i)),                \
	      [6] = SET(R(XOR, LK | (f), e, i)), [7] = SET(R(CMP, f, e, i)))
/* Group 2: shifts by `n`; /6 is a twin of /4. */
#define GRP2(e, n)                                                                                 \
	GROUP([0] = SET(R(ROL, 0, e, n)), [1] = SET(R(ROR, 0, e, n)), [2] = SET(R(RCL, 0, e, n)),  \
	      [3] = SET(R(RCR, 0, e, n)), [4] = SET(R(SHL, 0, e, n)), [5] = SET(R(SHR, 0, e, n)),  \
	      [6] = SET(R(SHL, 0, e, n)), [7] = SET(R(SAR, 0, e, n)))
/* Group 3; /1 is a twin of /0. */
#define GRP3(e, i)                                                                                 \
	GROUP([0] = SET(R(TEST, 0, e, i)), [1] = SET(R(TEST, 0, e, i)), [2] = SET(R(NOT, LK, e)),  \
	      [3] = SET(R(NEG, LK, e)), [4] = SET(R(MUL, 0, e)), [5] = SET(R(IMUL1, 0, e)),        \
	      [6] = SET(R(DIV, 0, e)), [7] = SET(R(IDIV, 0, e)))

static const struct row_set map_one[256] = {
	ALU(0x00, ADD),
	[0x06] = SET(R(PUSH_SREG, I64, ES)),
	[0x07] = SET(R(POP_SREG, I64 | EN, ES)),
	ALU(0x08, OR),
	[0x0e] = SET(R(PUSH_SREG, I64, CS)),
	ALU(0x10, ADC),
	[0x16] = SET(R(PUSH_SREG, I64, SS)),
	[0x17] = SET(R(POP_SREG, I64 | EN, SS)),
	ALU(0x18, SBB),
	[0x1e] = SET(R(PUSH_SREG, I64, DS)),
	[0x1f] = SET(R(POP_SREG, I64 | EN, DS)),
	ALU(0x20, AND),
	[0x27] = SET(R(DAA, I64)),
	ALU(0x28, SUB),
	[0x2f] = SET(R(DAS, I64)),
	ALU(0x30, XOR),
	[0x37] = SET(R(AAA, I64)),
	[0x38] = SET(R(CMP, 0, Eb, Gb)),
	[0x39] = SET(R(CMP, 0, Ev, Gv)),
	[0x3a] = SET(R(CMP, 0, Gb, Eb)),
	[0x3b] = SET(R(CMP, 0, Gv, Ev)),
	[0x3c] = SET(R(CMP, 0, AL, Ib)),
	[0x3d] = SET(R(CMP, 0, rAX, Iz)),
	[0x3f] = SET(R(AAS, I64)),
	BY8(0x40, INC, I64, Zv),
	BY8(0x48, DEC, I64, Zv),
	BY8(0x50, PUSH, D64, Zv),
	BY8(0x58, POP, D64, Zv),
	[0x60] = SET(R(PUSHA, I64)),
	[0x61] = SET(R(POPA, I64)),
	[0x62] = SET(R(BOUND, I64, Gv, Ma)),
	[0x63] = SET(R(ARPL, I64 | PM, Ew, Gw), R(MOVSXD, O64, Gv, Ez)),
	[0x68] = SET(R(PUSH, D64, Iz)),
	[0x69] = SET(R(IMUL3, 0, Gv, Ev, Iz)),
	[0x6a] = SET(R(PUSH, D64, Ibs)),
	[0x6b] = SET(R(IMUL3, 0, Gv, Ev, Ibs)),
	[0x6c] = SET(R(INS, RP, Yb, DX)),
	[0x6d] = SET(R(INS, RP, Yz, DX)),
	[0x6e] = SET(R(OUTS, RP, DX, Xb)),
	[0x6f] = SET(R(OUTS, RP, DX, Xz)),
	BY_CC(0x70, J, F64 | EN, Jb),
	[0x80] = GRP1(0, Eb, Ib),
	[0x81] = GRP1(0, Ev, Iz),
	[0x82] = GRP1(I64, Eb, Ib),
	[0x83] = GRP1(0, Ev, Ibs),
	[0x84] = SET(R(TEST, 0, Eb, Gb)),
	[0x85] = SET(R(TEST, 0, Ev, Gv)),
	[0x86] = SET(R(XCHG, LK, Eb, Gb)),
	[0x87] = SET(R(XCHG, LK, Ev, Gv)),
	[0x88] = SET(R(MOV, 0, Eb, Gb)),
	[0x89] = SET(R(MOV, 0, Ev, Gv)),
	[0x8a] = SET(R(MOV, 0, Gb, Eb)),
	[0x8b] = SET(R(MOV, 0, Gv, Ev)),
	[0x8c] = SET(R(MOV_FROM_SREG, 0, Evw, Sw)),
	[0x8d] = SET(R(LEA, 0, Gv, M)),
	[0x8e] = SET(R(MOV_TO_SREG, EN, Sw, Ew)),
	[0x8f] = GROUP([0] = SET(R(POP, D64, Ev))),
	[0x90] = SET(R(PAUSE, PF3), R(NOP, NOREXB), R(XCHG, 0, Zv, rAX)),
	[0x91] = SET(R(XCHG, 0, Zv, rAX)),
	[0x92] = SET(R(XCHG, 0, Zv, rAX)),
	[0x93] = SET(R(XCHG, 0, Zv, rAX)),
	[0x94] = SET(R(XCHG, 0, Zv, rAX)),
	[0x95] = SET(R(XCHG, 0, Zv, rAX)),
	[0x96] = SET(R(XCHG, 0, Zv, rAX)),
	[0x97] = SET(R(XCHG, 0, Zv, rAX)),
	[0x98] = SET(R(CBW, 0)),
	[0x99] = SET(R(CWD, 0)),
	[0x9a] = SET(R(CALLF, I64 | EN, Ap)),
	[0x9b] = SET(R(WAIT, X87)),
	[0x9c] = SET(R(PUSHF, D64)),
	[0x9d] = SET(R(POPF, D64 | EN)),
	[0x9e] = SET(R(SAHF, 0)),
	[0x9f] = SET(R(LAHF, 0)),
	[0xa0] = SET(R(MOV, 0, AL, Ob)),
	[0xa1] = SET(R(MOV, 0, rAX, Ov)),
	[0xa2] = SET(R(MOV, 0, Ob, AL)),
	[0xa3] = SET(R(MOV, 0, Ov, rAX)),
	[0xa4] = SET(R(MOVS, RP, Yb, Xb)),
	[0xa5] = SET(R(MOVS, RP, Yv, Xv)),
	[0xa6] = SET(R(CMPS, RP, Xb, Yb)),
	[0xa7] = SET(R(CMPS, RP, Xv, Yv)),
	[0xa8] = SET(R(TEST, 0, AL, Ib)),
	[0xa9] = SET(R(TEST, 0, rAX, Iz)),
	[0xaa] = SET(R(STOS, RP, Yb, AL)),
	[0xab] = SET(R(STOS, RP, Yv, rAX)),
	[0xac] = SET(R(LODS, RP, AL, Xb)),
	[0xad] = SET(R(LODS, RP, rAX, Xv)),
	[0xae] = SET(R(SCAS, RP, AL, Yb)),
	[0xaf] = SET(R(SCAS, RP, rAX, Yv)),
	BY8(0xb0, MOV, 0, Zb, Ib),
	BY8(0xb8, MOV, 0, Zv, Iv),
	[0xc0] = GRP2(Eb, Ib),
	[0xc1] = GRP2(Ev, Ib),
	[0xc2] = SET(R(RET, F64 | EN, Iw)),
	[0xc3] = SET(R(RET, F64 | EN)),
	[0xc4] = SET(R(LES, I64 | EN, Gv, Mp)),
	[0xc5] = SET(R(LDS, I64 | EN, Gv, Mp)),
	[0xc6] = GROUP([0] = SET(R(MOV, 0, Eb, Ib))),
	[0xc7] = GROUP([0] = SET(R(MOV, 0, Ev, Iz))),
	[0xc8] = SET(R(ENTER, D64, Iw, Ib)),
	[0xc9] = SET(R(LEAVE, D64)),
	[0xca] = SET(R(RETF, EN, Iw)),
	[0xcb] = SET(R(RETF, EN)),
	[0xcc] = SET(R(INT3, EN)),
	[0xcd] = SET(R(INT, EN, Ib)),
	[0xce] = SET(R(INTO, I64 | EN)),
	[0xcf] = SET(R(IRET, EN)),
	[0xd0] = GRP2(Eb, One),
	[0xd1] = GRP2(Ev, One),
	[0xd2] = GRP2(Eb, CL),
	[0xd3] = GRP2(Ev, CL),
	[0xd4] = SET(R(AAM, I64, Ib)),
	[0xd5] = SET(R(AAD, I64, Ib)),
	[0xd6] = SET(R(SALC, I64)),
	[0xd7] = SET(R(XLAT, 0)),
	[0xd8] = FULL(esc_d8),
	[0xd9] = FULL(esc_d9),
	[0xda] = FULL(esc_da),
	[0xdb] = FULL(esc_db),
	[0xdc] = FULL(esc_dc),
	[0xdd] = FULL(esc_dd),
	[0xde] = FULL(esc_de),
	[0xdf] = FULL(esc_df),
	[0xe0] = SET(R(LOOPNE, F64 | EN, Jb)),
	[0xe1] = SET(R(LOOPE, F64 | EN, Jb)),
	[0xe2] = SET(R(LOOP, F64 | EN, Jb)),
	[0xe3] = SET(R(JCXZ, F64 | EN, Jb)),
	[0xe4] = SET(R(IN, 0, AL, Ib)),
	[0xe5] = SET(R(IN, 0, eAX, Ib)),
	[0xe6] = SET(R(OUT, 0, Ib, AL)),
	[0xe7] = SET(R(OUT, 0, Ib, eAX)),
	[0xe8] = SET(R(CALL, F64 | EN, Jz)),
	[0xe9] = SET(R(JMP, F64 | EN, Jz)),
	[0xea] = SET(R(JMPF, I64 | EN, Ap)),
	[0xeb] = SET(R(JMP, F64 | EN, Jb)),
	[0xec] = SET(R(IN, 0, AL, DX)),
	[0xed] = SET(R(IN, 0, eAX, DX)),
	[0xee] = SET(R(OUT, 0, DX, AL)),
	[0xef] = SET(R(OUT, 0, DX, eAX)),
	[0xf1] = SET(R(INT1, EN)),
	[0xf4] = SET(R(HLT, PR | EN)),
	[0xf5] = SET(R(CMC, 0)),
	[0xf6] = GRP3(Eb, Ib),
	[0xf7] = GRP3(Ev, Iz),
	[0xf8] = SET(R(CLC, 0)),
	[0xf9] = SET(R(STC, 0)),
	[0xfa] = SET(R(CLI, EN)),
	[0xfb] = SET(R(STI, EN)),
	[0xfc] = SET(R(CLD, 0)),
	[0xfd] = SET(R(STD, 0)),
	[0xfe] = GROUP([0] = SET(R(INC, LK, Eb)), [1] = SET(R(DEC, LK, Eb))),
	[0xff] = GROUP([0] = SET(R(INC, LK, Ev)), [1] = SET(R(DEC, LK, Ev)),
		       [2] = SET(R(CALL, F64 | EN, Ev)), [3] = SET(R(CALLF, EN, Mp)),
		       [4] = SET(R(JMP, F64 | EN, Ev)), [5] = SET(R(JMPF, EN, Mp)),
		       [6] = SET(R(PUSH, D64, Ev))),
};
