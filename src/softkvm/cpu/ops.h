/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All operations that an opcode row can name: X(name, mnemonic, group). The
 * group says which exec_*_bind() must know it: INT exec_int_bind(), SYS
 * exec_sys_bind(), X87 and SIMD exec_simd_bind().
 *
 * One operation may have several forms (sizes, register or memory, MMX or SSE
 * registers); they are told apart by struct insn: osz, flags, map, pp, opcode.
 * An encoding that this processor does not have yields no row: decoding says DECODE_UD.
 */
#pragma once

enum op_group { OPG_NONE, OPG_INT, OPG_SYS, OPG_X87, OPG_SIMD };

/* clang-format off */
/* exec_int*.c. The conditional ones stand in the order of the condition codes: OP_JO + cc. */
#define OPS_INT(X) \
	X(ADD, "add", INT) X(OR, "or", INT) X(ADC, "adc", INT) X(SBB, "sbb", INT) \
	X(AND, "and", INT) X(SUB, "sub", INT) X(XOR, "xor", INT) X(CMP, "cmp", INT) \
	X(TEST, "test", INT) X(INC, "inc", INT) X(DEC, "dec", INT) X(NEG, "neg", INT) \
	X(NOT, "not", INT) X(MUL, "mul", INT) X(IMUL1, "imul", INT) X(IMUL2, "imul", INT) \
	X(IMUL3, "imul", INT) X(DIV, "div", INT) X(IDIV, "idiv", INT) X(ROL, "rol", INT) \
	X(ROR, "ror", INT) X(RCL, "rcl", INT) X(RCR, "rcr", INT) X(SHL, "shl", INT) \
	X(SHR, "shr", INT) X(SAR, "sar", INT) X(SHLD, "shld", INT) X(SHRD, "shrd", INT) \
	X(MOV, "mov", INT) X(MOVNTI, "movnti", INT) X(LEA, "lea", INT) X(XCHG, "xchg", INT) \
	X(XADD, "xadd", INT) X(CMPXCHG, "cmpxchg", INT) X(CMPXCHG8B, "cmpxchg8b", INT) \
	X(CMPXCHG16B, "cmpxchg16b", INT) X(MOVZX, "movzx", INT) X(MOVSX, "movsx", INT) \
	X(MOVSXD, "movsxd", INT) X(MOVBE, "movbe", INT) X(BSWAP, "bswap", INT) \
	X(CBW, "cbw", INT) X(CWD, "cwd", INT) X(BT, "bt", INT) X(BTS, "bts", INT) \
	X(BTR, "btr", INT) X(BTC, "btc", INT) X(BSF, "bsf", INT) X(BSR, "bsr", INT) \
	X(TZCNT, "tzcnt", INT) X(LZCNT, "lzcnt", INT) X(POPCNT, "popcnt", INT) \
	X(CRC32, "crc32", INT) X(RDRAND, "rdrand", INT) X(RDSEED, "rdseed", INT) \
	X(ANDN, "andn", INT) X(BEXTR, "bextr", INT) X(BLSR, "blsr", INT) \
	X(BLSMSK, "blsmsk", INT) X(BLSI, "blsi", INT) X(BZHI, "bzhi", INT) X(PDEP, "pdep", INT) \
	X(PEXT, "pext", INT) X(MULX, "mulx", INT) X(RORX, "rorx", INT) X(SARX, "sarx", INT) \
	X(SHLX, "shlx", INT) X(SHRX, "shrx", INT) X(ADCX, "adcx", INT) X(ADOX, "adox", INT) \
	X(AAA, "aaa", INT) X(AAS, "aas", INT) X(AAM, "aam", INT) X(AAD, "aad", INT) \
	X(DAA, "daa", INT) X(DAS, "das", INT) X(SALC, "salc", INT) X(BOUND, "bound", INT) \
	X(XLAT, "xlat", INT) X(LAHF, "lahf", INT) X(SAHF, "sahf", INT) X(CLC, "clc", INT) \
	X(STC, "stc", INT) X(CMC, "cmc", INT) X(CLD, "cld", INT) X(STD, "std", INT) \
	X(PUSH, "push", INT) X(POP, "pop", INT) X(PUSHA, "pusha", INT) X(POPA, "popa", INT) \
	X(ENTER, "enter", INT) X(LEAVE, "leave", INT) X(CALL, "call", INT) X(JMP, "jmp", INT) \
	X(RET, "ret", INT) X(LOOPNE, "loopne", INT) X(LOOPE, "loope", INT) X(LOOP, "loop", INT) \
	X(JCXZ, "jcxz", INT) X(MOVS, "movs", INT) X(CMPS, "cmps", INT) X(STOS, "stos", INT) \
	X(LODS, "lods", INT) X(SCAS, "scas", INT) X(NOP, "nop", INT) X(PAUSE, "pause", INT) \
	X(PREFETCH, "prefetch", INT) X(LFENCE, "lfence", INT) X(MFENCE, "mfence", INT) \
	X(SFENCE, "sfence", INT) X(CLFLUSH, "clflush", INT) X(CLFLUSHOPT, "clflushopt", INT) \
	X(CLWB, "clwb", INT) X(UD0, "ud0", INT) X(UD1, "ud1", INT) X(UD2, "ud2", INT) \
	X(CMOVO, "cmovo", INT) X(CMOVNO, "cmovno", INT) X(CMOVB, "cmovb", INT) \
	X(CMOVNB, "cmovnb", INT) X(CMOVZ, "cmovz", INT) X(CMOVNZ, "cmovnz", INT) \
	X(CMOVBE, "cmovbe", INT) X(CMOVNBE, "cmovnbe", INT) X(CMOVS, "cmovs", INT) \
	X(CMOVNS, "cmovns", INT) X(CMOVP, "cmovp", INT) X(CMOVNP, "cmovnp", INT) \
	X(CMOVL, "cmovl", INT) X(CMOVNL, "cmovnl", INT) X(CMOVLE, "cmovle", INT) \
	X(CMOVNLE, "cmovnle", INT) X(SETO, "seto", INT) X(SETNO, "setno", INT) \
	X(SETB, "setb", INT) X(SETNB, "setnb", INT) X(SETZ, "setz", INT) X(SETNZ, "setnz", INT) \
	X(SETBE, "setbe", INT) X(SETNBE, "setnbe", INT) X(SETS, "sets", INT) \
	X(SETNS, "setns", INT) X(SETP, "setp", INT) X(SETNP, "setnp", INT) X(SETL, "setl", INT) \
	X(SETNL, "setnl", INT) X(SETLE, "setle", INT) X(SETNLE, "setnle", INT) X(JO, "jo", INT) \
	X(JNO, "jno", INT) X(JB, "jb", INT) X(JNB, "jnb", INT) X(JZ, "jz", INT) \
	X(JNZ, "jnz", INT) X(JBE, "jbe", INT) X(JNBE, "jnbe", INT) X(JS, "js", INT) \
	X(JNS, "jns", INT) X(JP, "jp", INT) X(JNP, "jnp", INT) X(JL, "jl", INT) \
	X(JNL, "jnl", INT) X(JLE, "jle", INT) X(JNLE, "jnle", INT)

/* exec_sys*.c: privileged, segments, far transfers, I/O, MSRs, flags with IOPL. */
#define OPS_SYS(X) \
	X(PUSHF, "pushf", SYS) X(POPF, "popf", SYS) X(CLI, "cli", SYS) X(STI, "sti", SYS) \
	X(HLT, "hlt", SYS) X(IN, "in", SYS) X(OUT, "out", SYS) X(INS, "ins", SYS) \
	X(OUTS, "outs", SYS) X(INT, "int", SYS) X(INT3, "int3", SYS) X(INTO, "into", SYS) \
	X(INT1, "int1", SYS) X(IRET, "iret", SYS) X(CALLF, "lcall", SYS) X(JMPF, "ljmp", SYS) \
	X(RETF, "lret", SYS) X(LDS, "lds", SYS) X(LES, "les", SYS) X(LFS, "lfs", SYS) \
	X(LGS, "lgs", SYS) X(LSS, "lss", SYS) X(MOV_FROM_SREG, "mov", SYS) \
	X(MOV_TO_SREG, "mov", SYS) X(PUSH_SREG, "push", SYS) X(POP_SREG, "pop", SYS) \
	X(LAR, "lar", SYS) X(LSL, "lsl", SYS) X(VERR, "verr", SYS) X(VERW, "verw", SYS) \
	X(ARPL, "arpl", SYS) X(SLDT, "sldt", SYS) X(LLDT, "lldt", SYS) X(STR, "str", SYS) \
	X(LTR, "ltr", SYS) X(SGDT, "sgdt", SYS) X(SIDT, "sidt", SYS) X(LGDT, "lgdt", SYS) \
	X(LIDT, "lidt", SYS) X(SMSW, "smsw", SYS) X(LMSW, "lmsw", SYS) X(CLTS, "clts", SYS) \
	X(MOV_FROM_CR, "mov", SYS) X(MOV_TO_CR, "mov", SYS) X(MOV_FROM_DR, "mov", SYS) \
	X(MOV_TO_DR, "mov", SYS) X(INVD, "invd", SYS) X(WBINVD, "wbinvd", SYS) \
	X(INVLPG, "invlpg", SYS) X(INVPCID, "invpcid", SYS) X(RDMSR, "rdmsr", SYS) \
	X(WRMSR, "wrmsr", SYS) X(RDTSC, "rdtsc", SYS) X(RDTSCP, "rdtscp", SYS) \
	X(RDPMC, "rdpmc", SYS) X(RDPID, "rdpid", SYS) X(CPUID, "cpuid", SYS) \
	X(SYSCALL, "syscall", SYS) X(SYSRET, "sysret", SYS) X(SYSENTER, "sysenter", SYS) \
	X(SYSEXIT, "sysexit", SYS) X(SWAPGS, "swapgs", SYS) X(RSM, "rsm", SYS) \
	X(CLAC, "clac", SYS) X(STAC, "stac", SYS) X(MONITOR, "monitor", SYS) \
	X(MWAIT, "mwait", SYS) X(VMCALL, "vmcall", SYS) X(VMMCALL, "vmmcall", SYS) \
	X(XGETBV, "xgetbv", SYS) X(XSETBV, "xsetbv", SYS) X(RDFSBASE, "rdfsbase", SYS) \
	X(RDGSBASE, "rdgsbase", SYS) X(WRFSBASE, "wrfsbase", SYS) X(WRGSBASE, "wrgsbase", SYS)

/* exec_x87.c. Forms (memory size, ST(i) order) follow from insn.opcode and insn.modrm. */
#define OPS_X87(X) \
	X(FADD, "fadd", X87) X(FADDP, "faddp", X87) X(FIADD, "fiadd", X87) X(FMUL, "fmul", X87) \
	X(FMULP, "fmulp", X87) X(FIMUL, "fimul", X87) X(FCOM, "fcom", X87) \
	X(FICOM, "ficom", X87) X(FCOMP, "fcomp", X87) X(FCOMPP, "fcompp", X87) \
	X(FICOMP, "ficomp", X87) X(FSUB, "fsub", X87) X(FSUBP, "fsubp", X87) \
	X(FISUB, "fisub", X87) X(FSUBR, "fsubr", X87) X(FSUBRP, "fsubrp", X87) \
	X(FISUBR, "fisubr", X87) X(FDIV, "fdiv", X87) X(FDIVP, "fdivp", X87) \
	X(FIDIV, "fidiv", X87) X(FDIVR, "fdivr", X87) X(FDIVRP, "fdivrp", X87) \
	X(FIDIVR, "fidivr", X87) X(FLD, "fld", X87) X(FST, "fst", X87) X(FSTP, "fstp", X87) \
	X(FILD, "fild", X87) X(FIST, "fist", X87) X(FISTP, "fistp", X87) \
	X(FISTTP, "fisttp", X87) X(FBLD, "fbld", X87) X(FBSTP, "fbstp", X87) \
	X(FLDENV, "fldenv", X87) X(FLDCW, "fldcw", X87) X(FNSTENV, "fnstenv", X87) \
	X(FNSTCW, "fnstcw", X87) X(FRSTOR, "frstor", X87) X(FNSAVE, "fnsave", X87) \
	X(FNSTSW, "fnstsw", X87) X(FXCH, "fxch", X87) X(FNOP, "fnop", X87) X(FCHS, "fchs", X87) \
	X(FABS, "fabs", X87) X(FTST, "ftst", X87) X(FXAM, "fxam", X87) X(FLD1, "fld1", X87) \
	X(FLDL2T, "fldl2t", X87) X(FLDL2E, "fldl2e", X87) X(FLDPI, "fldpi", X87) \
	X(FLDLG2, "fldlg2", X87) X(FLDLN2, "fldln2", X87) X(FLDZ, "fldz", X87) \
	X(F2XM1, "f2xm1", X87) X(FYL2X, "fyl2x", X87) X(FPTAN, "fptan", X87) \
	X(FPATAN, "fpatan", X87) X(FXTRACT, "fxtract", X87) X(FPREM1, "fprem1", X87) \
	X(FDECSTP, "fdecstp", X87) X(FINCSTP, "fincstp", X87) X(FPREM, "fprem", X87) \
	X(FYL2XP1, "fyl2xp1", X87) X(FSQRT, "fsqrt", X87) X(FSINCOS, "fsincos", X87) \
	X(FRNDINT, "frndint", X87) X(FSCALE, "fscale", X87) X(FSIN, "fsin", X87) \
	X(FCOS, "fcos", X87) X(FCMOVB, "fcmovb", X87) X(FCMOVE, "fcmove", X87) \
	X(FCMOVBE, "fcmovbe", X87) X(FCMOVU, "fcmovu", X87) X(FCMOVNB, "fcmovnb", X87) \
	X(FCMOVNE, "fcmovne", X87) X(FCMOVNBE, "fcmovnbe", X87) X(FCMOVNU, "fcmovnu", X87) \
	X(FUCOM, "fucom", X87) X(FUCOMP, "fucomp", X87) X(FUCOMPP, "fucompp", X87) \
	X(FCOMI, "fcomi", X87) X(FCOMIP, "fcomip", X87) X(FUCOMI, "fucomi", X87) \
	X(FUCOMIP, "fucomip", X87) X(FFREE, "ffree", X87) X(FFREEP, "ffreep", X87) \
	X(FNCLEX, "fnclex", X87) X(FNINIT, "fninit", X87) X(FNENI, "fneni", X87) \
	X(FNDISI, "fndisi", X87) X(FNSETPM, "fnsetpm", X87) X(WAIT, "fwait", X87)

/* exec_simd*.c: no VEX twin. MMX forms of ops below have insn.pp 0, the SSE ones 1 (66). */
#define OPS_MMX(X) \
	X(EMMS, "emms", SIMD) X(PSHUFW, "pshufw", SIMD) X(MASKMOVQ, "maskmovq", SIMD) \
	X(MOVNTQ, "movntq", SIMD) X(MOVQ2DQ, "movq2dq", SIMD) X(MOVDQ2Q, "movdq2q", SIMD) \
	X(CVTPI2PS, "cvtpi2ps", SIMD) X(CVTPI2PD, "cvtpi2pd", SIMD) \
	X(CVTTPS2PI, "cvttps2pi", SIMD) X(CVTTPD2PI, "cvttpd2pi", SIMD) \
	X(CVTPS2PI, "cvtps2pi", SIMD) X(CVTPD2PI, "cvtpd2pi", SIMD) X(FXSAVE, "fxsave", SIMD) \
	X(FXRSTOR, "fxrstor", SIMD) X(XSAVE, "xsave", SIMD) X(XRSTOR, "xrstor", SIMD) \
	X(XSAVEOPT, "xsaveopt", SIMD) X(XSAVEC, "xsavec", SIMD) X(SHA1NEXTE, "sha1nexte", SIMD) \
	X(SHA1MSG1, "sha1msg1", SIMD) X(SHA1MSG2, "sha1msg2", SIMD) \
	X(SHA1RNDS4, "sha1rnds4", SIMD) X(SHA256RNDS2, "sha256rnds2", SIMD) \
	X(SHA256MSG1, "sha256msg1", SIMD) X(SHA256MSG2, "sha256msg2", SIMD)

/* exec_simd*.c: MMX/SSE forms whose VEX twins are in OPS_VEX. */
#define OPS_SSE(X) \
	X(MOVUPS, "movups", SIMD) X(MOVUPD, "movupd", SIMD) X(MOVSS, "movss", SIMD) \
	X(MOVSD, "movsd", SIMD) X(MOVLPS, "movlps", SIMD) X(MOVLPD, "movlpd", SIMD) \
	X(MOVHLPS, "movhlps", SIMD) X(MOVHPS, "movhps", SIMD) X(MOVHPD, "movhpd", SIMD) \
	X(MOVLHPS, "movlhps", SIMD) X(MOVSLDUP, "movsldup", SIMD) X(MOVSHDUP, "movshdup", SIMD) \
	X(MOVDDUP, "movddup", SIMD) X(MOVAPS, "movaps", SIMD) X(MOVAPD, "movapd", SIMD) \
	X(MOVNTPS, "movntps", SIMD) X(MOVNTPD, "movntpd", SIMD) X(MOVNTDQ, "movntdq", SIMD) \
	X(MOVNTDQA, "movntdqa", SIMD) X(MOVMSKPS, "movmskps", SIMD) \
	X(MOVMSKPD, "movmskpd", SIMD) X(MOVD, "movd", SIMD) X(MOVQ, "movq", SIMD) \
	X(MOVDQA, "movdqa", SIMD) X(MOVDQU, "movdqu", SIMD) X(LDDQU, "lddqu", SIMD) \
	X(MASKMOVDQU, "maskmovdqu", SIMD) X(LDMXCSR, "ldmxcsr", SIMD) \
	X(STMXCSR, "stmxcsr", SIMD) X(UNPCKLPS, "unpcklps", SIMD) X(UNPCKLPD, "unpcklpd", SIMD) \
	X(UNPCKHPS, "unpckhps", SIMD) X(UNPCKHPD, "unpckhpd", SIMD) X(SHUFPS, "shufps", SIMD) \
	X(SHUFPD, "shufpd", SIMD) X(INSERTPS, "insertps", SIMD) X(EXTRACTPS, "extractps", SIMD) \
	X(BLENDPS, "blendps", SIMD) X(BLENDPD, "blendpd", SIMD) X(BLENDVPS, "blendvps", SIMD) \
	X(BLENDVPD, "blendvpd", SIMD) X(ADDPS, "addps", SIMD) X(ADDPD, "addpd", SIMD) \
	X(ADDSS, "addss", SIMD) X(ADDSD, "addsd", SIMD) X(SUBPS, "subps", SIMD) \
	X(SUBPD, "subpd", SIMD) X(SUBSS, "subss", SIMD) X(SUBSD, "subsd", SIMD) \
	X(MULPS, "mulps", SIMD) X(MULPD, "mulpd", SIMD) X(MULSS, "mulss", SIMD) \
	X(MULSD, "mulsd", SIMD) X(DIVPS, "divps", SIMD) X(DIVPD, "divpd", SIMD) \
	X(DIVSS, "divss", SIMD) X(DIVSD, "divsd", SIMD) X(MINPS, "minps", SIMD) \
	X(MINPD, "minpd", SIMD) X(MINSS, "minss", SIMD) X(MINSD, "minsd", SIMD) \
	X(MAXPS, "maxps", SIMD) X(MAXPD, "maxpd", SIMD) X(MAXSS, "maxss", SIMD) \
	X(MAXSD, "maxsd", SIMD) X(SQRTPS, "sqrtps", SIMD) X(SQRTPD, "sqrtpd", SIMD) \
	X(SQRTSS, "sqrtss", SIMD) X(SQRTSD, "sqrtsd", SIMD) X(RSQRTPS, "rsqrtps", SIMD) \
	X(RSQRTSS, "rsqrtss", SIMD) X(RCPPS, "rcpps", SIMD) X(RCPSS, "rcpss", SIMD) \
	X(ADDSUBPS, "addsubps", SIMD) X(ADDSUBPD, "addsubpd", SIMD) X(HADDPS, "haddps", SIMD) \
	X(HADDPD, "haddpd", SIMD) X(HSUBPS, "hsubps", SIMD) X(HSUBPD, "hsubpd", SIMD) \
	X(DPPS, "dpps", SIMD) X(DPPD, "dppd", SIMD) X(ROUNDPS, "roundps", SIMD) \
	X(ROUNDPD, "roundpd", SIMD) X(ROUNDSS, "roundss", SIMD) X(ROUNDSD, "roundsd", SIMD) \
	X(ANDPS, "andps", SIMD) X(ANDPD, "andpd", SIMD) X(ANDNPS, "andnps", SIMD) \
	X(ANDNPD, "andnpd", SIMD) X(ORPS, "orps", SIMD) X(ORPD, "orpd", SIMD) \
	X(XORPS, "xorps", SIMD) X(XORPD, "xorpd", SIMD) X(CMPPS, "cmpps", SIMD) \
	X(CMPPD, "cmppd", SIMD) X(CMPSS, "cmpss", SIMD) X(CMPSD, "cmpsd", SIMD) \
	X(UCOMISS, "ucomiss", SIMD) X(UCOMISD, "ucomisd", SIMD) X(COMISS, "comiss", SIMD) \
	X(COMISD, "comisd", SIMD) X(CVTSI2SS, "cvtsi2ss", SIMD) X(CVTSI2SD, "cvtsi2sd", SIMD) \
	X(CVTTSS2SI, "cvttss2si", SIMD) X(CVTTSD2SI, "cvttsd2si", SIMD) \
	X(CVTSS2SI, "cvtss2si", SIMD) X(CVTSD2SI, "cvtsd2si", SIMD) \
	X(CVTPS2PD, "cvtps2pd", SIMD) X(CVTPD2PS, "cvtpd2ps", SIMD) \
	X(CVTSS2SD, "cvtss2sd", SIMD) X(CVTSD2SS, "cvtsd2ss", SIMD) \
	X(CVTDQ2PS, "cvtdq2ps", SIMD) X(CVTPS2DQ, "cvtps2dq", SIMD) \
	X(CVTTPS2DQ, "cvttps2dq", SIMD) X(CVTDQ2PD, "cvtdq2pd", SIMD) \
	X(CVTPD2DQ, "cvtpd2dq", SIMD) X(CVTTPD2DQ, "cvttpd2dq", SIMD) \
	X(PUNPCKLBW, "punpcklbw", SIMD) X(PUNPCKLWD, "punpcklwd", SIMD) \
	X(PUNPCKLDQ, "punpckldq", SIMD) X(PUNPCKLQDQ, "punpcklqdq", SIMD) \
	X(PUNPCKHBW, "punpckhbw", SIMD) X(PUNPCKHWD, "punpckhwd", SIMD) \
	X(PUNPCKHDQ, "punpckhdq", SIMD) X(PUNPCKHQDQ, "punpckhqdq", SIMD) \
	X(PACKSSWB, "packsswb", SIMD) X(PACKSSDW, "packssdw", SIMD) \
	X(PACKUSWB, "packuswb", SIMD) X(PACKUSDW, "packusdw", SIMD) X(PCMPGTB, "pcmpgtb", SIMD) \
	X(PCMPGTW, "pcmpgtw", SIMD) X(PCMPGTD, "pcmpgtd", SIMD) X(PCMPGTQ, "pcmpgtq", SIMD) \
	X(PCMPEQB, "pcmpeqb", SIMD) X(PCMPEQW, "pcmpeqw", SIMD) X(PCMPEQD, "pcmpeqd", SIMD) \
	X(PCMPEQQ, "pcmpeqq", SIMD) X(PSHUFD, "pshufd", SIMD) X(PSHUFHW, "pshufhw", SIMD) \
	X(PSHUFLW, "pshuflw", SIMD) X(PSHUFB, "pshufb", SIMD) X(PALIGNR, "palignr", SIMD) \
	X(PBLENDW, "pblendw", SIMD) X(PBLENDVB, "pblendvb", SIMD) X(PINSRB, "pinsrb", SIMD) \
	X(PINSRW, "pinsrw", SIMD) X(PINSRD, "pinsrd", SIMD) X(PINSRQ, "pinsrq", SIMD) \
	X(PEXTRB, "pextrb", SIMD) X(PEXTRW, "pextrw", SIMD) X(PEXTRD, "pextrd", SIMD) \
	X(PEXTRQ, "pextrq", SIMD) X(PMOVMSKB, "pmovmskb", SIMD) X(PSRLW, "psrlw", SIMD) \
	X(PSRLD, "psrld", SIMD) X(PSRLQ, "psrlq", SIMD) X(PSRLDQ, "psrldq", SIMD) \
	X(PSRAW, "psraw", SIMD) X(PSRAD, "psrad", SIMD) X(PSLLW, "psllw", SIMD) \
	X(PSLLD, "pslld", SIMD) X(PSLLQ, "psllq", SIMD) X(PSLLDQ, "pslldq", SIMD) \
	X(PADDB, "paddb", SIMD) X(PADDW, "paddw", SIMD) X(PADDD, "paddd", SIMD) \
	X(PADDQ, "paddq", SIMD) X(PADDSB, "paddsb", SIMD) X(PADDSW, "paddsw", SIMD) \
	X(PADDUSB, "paddusb", SIMD) X(PADDUSW, "paddusw", SIMD) X(PSUBB, "psubb", SIMD) \
	X(PSUBW, "psubw", SIMD) X(PSUBD, "psubd", SIMD) X(PSUBQ, "psubq", SIMD) \
	X(PSUBSB, "psubsb", SIMD) X(PSUBSW, "psubsw", SIMD) X(PSUBUSB, "psubusb", SIMD) \
	X(PSUBUSW, "psubusw", SIMD) X(PMULLW, "pmullw", SIMD) X(PMULLD, "pmulld", SIMD) \
	X(PMULHW, "pmulhw", SIMD) X(PMULHUW, "pmulhuw", SIMD) X(PMULHRSW, "pmulhrsw", SIMD) \
	X(PMULUDQ, "pmuludq", SIMD) X(PMULDQ, "pmuldq", SIMD) X(PMADDWD, "pmaddwd", SIMD) \
	X(PMADDUBSW, "pmaddubsw", SIMD) X(PSADBW, "psadbw", SIMD) X(MPSADBW, "mpsadbw", SIMD) \
	X(PHMINPOSUW, "phminposuw", SIMD) X(PMINUB, "pminub", SIMD) X(PMINUW, "pminuw", SIMD) \
	X(PMINUD, "pminud", SIMD) X(PMINSB, "pminsb", SIMD) X(PMINSW, "pminsw", SIMD) \
	X(PMINSD, "pminsd", SIMD) X(PMAXUB, "pmaxub", SIMD) X(PMAXUW, "pmaxuw", SIMD) \
	X(PMAXUD, "pmaxud", SIMD) X(PMAXSB, "pmaxsb", SIMD) X(PMAXSW, "pmaxsw", SIMD) \
	X(PMAXSD, "pmaxsd", SIMD) X(PAVGB, "pavgb", SIMD) X(PAVGW, "pavgw", SIMD) \
	X(PAND, "pand", SIMD) X(PANDN, "pandn", SIMD) X(POR, "por", SIMD) X(PXOR, "pxor", SIMD) \
	X(PTEST, "ptest", SIMD) X(PABSB, "pabsb", SIMD) X(PABSW, "pabsw", SIMD) \
	X(PABSD, "pabsd", SIMD) X(PSIGNB, "psignb", SIMD) X(PSIGNW, "psignw", SIMD) \
	X(PSIGND, "psignd", SIMD) X(PHADDW, "phaddw", SIMD) X(PHADDD, "phaddd", SIMD) \
	X(PHADDSW, "phaddsw", SIMD) X(PHSUBW, "phsubw", SIMD) X(PHSUBD, "phsubd", SIMD) \
	X(PHSUBSW, "phsubsw", SIMD) X(PMOVSXBW, "pmovsxbw", SIMD) X(PMOVSXBD, "pmovsxbd", SIMD) \
	X(PMOVSXBQ, "pmovsxbq", SIMD) X(PMOVSXWD, "pmovsxwd", SIMD) \
	X(PMOVSXWQ, "pmovsxwq", SIMD) X(PMOVSXDQ, "pmovsxdq", SIMD) \
	X(PMOVZXBW, "pmovzxbw", SIMD) X(PMOVZXBD, "pmovzxbd", SIMD) \
	X(PMOVZXBQ, "pmovzxbq", SIMD) X(PMOVZXWD, "pmovzxwd", SIMD) \
	X(PMOVZXWQ, "pmovzxwq", SIMD) X(PMOVZXDQ, "pmovzxdq", SIMD) \
	X(PCMPESTRM, "pcmpestrm", SIMD) X(PCMPESTRI, "pcmpestri", SIMD) \
	X(PCMPISTRM, "pcmpistrm", SIMD) X(PCMPISTRI, "pcmpistri", SIMD) \
	X(AESIMC, "aesimc", SIMD) X(AESENC, "aesenc", SIMD) X(AESENCLAST, "aesenclast", SIMD) \
	X(AESDEC, "aesdec", SIMD) X(AESDECLAST, "aesdeclast", SIMD) \
	X(AESKEYGENASSIST, "aeskeygenassist", SIMD) X(PCLMULQDQ, "pclmulqdq", SIMD)

/* exec_simd*.c: VEX twins of OPS_SSE, in the same order: op + OP_VMOVUPS - OP_MOVUPS. */
#define OPS_VEX(X) \
	X(VMOVUPS, "vmovups", SIMD) X(VMOVUPD, "vmovupd", SIMD) X(VMOVSS, "vmovss", SIMD) \
	X(VMOVSD, "vmovsd", SIMD) X(VMOVLPS, "vmovlps", SIMD) X(VMOVLPD, "vmovlpd", SIMD) \
	X(VMOVHLPS, "vmovhlps", SIMD) X(VMOVHPS, "vmovhps", SIMD) X(VMOVHPD, "vmovhpd", SIMD) \
	X(VMOVLHPS, "vmovlhps", SIMD) X(VMOVSLDUP, "vmovsldup", SIMD) \
	X(VMOVSHDUP, "vmovshdup", SIMD) X(VMOVDDUP, "vmovddup", SIMD) \
	X(VMOVAPS, "vmovaps", SIMD) X(VMOVAPD, "vmovapd", SIMD) X(VMOVNTPS, "vmovntps", SIMD) \
	X(VMOVNTPD, "vmovntpd", SIMD) X(VMOVNTDQ, "vmovntdq", SIMD) \
	X(VMOVNTDQA, "vmovntdqa", SIMD) X(VMOVMSKPS, "vmovmskps", SIMD) \
	X(VMOVMSKPD, "vmovmskpd", SIMD) X(VMOVD, "vmovd", SIMD) X(VMOVQ, "vmovq", SIMD) \
	X(VMOVDQA, "vmovdqa", SIMD) X(VMOVDQU, "vmovdqu", SIMD) X(VLDDQU, "vlddqu", SIMD) \
	X(VMASKMOVDQU, "vmaskmovdqu", SIMD) X(VLDMXCSR, "vldmxcsr", SIMD) \
	X(VSTMXCSR, "vstmxcsr", SIMD) X(VUNPCKLPS, "vunpcklps", SIMD) \
	X(VUNPCKLPD, "vunpcklpd", SIMD) X(VUNPCKHPS, "vunpckhps", SIMD) \
	X(VUNPCKHPD, "vunpckhpd", SIMD) X(VSHUFPS, "vshufps", SIMD) X(VSHUFPD, "vshufpd", SIMD) \
	X(VINSERTPS, "vinsertps", SIMD) X(VEXTRACTPS, "vextractps", SIMD) \
	X(VBLENDPS, "vblendps", SIMD) X(VBLENDPD, "vblendpd", SIMD) \
	X(VBLENDVPS, "vblendvps", SIMD) X(VBLENDVPD, "vblendvpd", SIMD) \
	X(VADDPS, "vaddps", SIMD) X(VADDPD, "vaddpd", SIMD) X(VADDSS, "vaddss", SIMD) \
	X(VADDSD, "vaddsd", SIMD) X(VSUBPS, "vsubps", SIMD) X(VSUBPD, "vsubpd", SIMD) \
	X(VSUBSS, "vsubss", SIMD) X(VSUBSD, "vsubsd", SIMD) X(VMULPS, "vmulps", SIMD) \
	X(VMULPD, "vmulpd", SIMD) X(VMULSS, "vmulss", SIMD) X(VMULSD, "vmulsd", SIMD) \
	X(VDIVPS, "vdivps", SIMD) X(VDIVPD, "vdivpd", SIMD) X(VDIVSS, "vdivss", SIMD) \
	X(VDIVSD, "vdivsd", SIMD) X(VMINPS, "vminps", SIMD) X(VMINPD, "vminpd", SIMD) \
	X(VMINSS, "vminss", SIMD) X(VMINSD, "vminsd", SIMD) X(VMAXPS, "vmaxps", SIMD) \
	X(VMAXPD, "vmaxpd", SIMD) X(VMAXSS, "vmaxss", SIMD) X(VMAXSD, "vmaxsd", SIMD) \
	X(VSQRTPS, "vsqrtps", SIMD) X(VSQRTPD, "vsqrtpd", SIMD) X(VSQRTSS, "vsqrtss", SIMD) \
	X(VSQRTSD, "vsqrtsd", SIMD) X(VRSQRTPS, "vrsqrtps", SIMD) X(VRSQRTSS, "vrsqrtss", SIMD) \
	X(VRCPPS, "vrcpps", SIMD) X(VRCPSS, "vrcpss", SIMD) X(VADDSUBPS, "vaddsubps", SIMD) \
	X(VADDSUBPD, "vaddsubpd", SIMD) X(VHADDPS, "vhaddps", SIMD) X(VHADDPD, "vhaddpd", SIMD) \
	X(VHSUBPS, "vhsubps", SIMD) X(VHSUBPD, "vhsubpd", SIMD) X(VDPPS, "vdpps", SIMD) \
	X(VDPPD, "vdppd", SIMD) X(VROUNDPS, "vroundps", SIMD) X(VROUNDPD, "vroundpd", SIMD) \
	X(VROUNDSS, "vroundss", SIMD) X(VROUNDSD, "vroundsd", SIMD) X(VANDPS, "vandps", SIMD) \
	X(VANDPD, "vandpd", SIMD) X(VANDNPS, "vandnps", SIMD) X(VANDNPD, "vandnpd", SIMD) \
	X(VORPS, "vorps", SIMD) X(VORPD, "vorpd", SIMD) X(VXORPS, "vxorps", SIMD) \
	X(VXORPD, "vxorpd", SIMD) X(VCMPPS, "vcmpps", SIMD) X(VCMPPD, "vcmppd", SIMD) \
	X(VCMPSS, "vcmpss", SIMD) X(VCMPSD, "vcmpsd", SIMD) X(VUCOMISS, "vucomiss", SIMD) \
	X(VUCOMISD, "vucomisd", SIMD) X(VCOMISS, "vcomiss", SIMD) X(VCOMISD, "vcomisd", SIMD) \
	X(VCVTSI2SS, "vcvtsi2ss", SIMD) X(VCVTSI2SD, "vcvtsi2sd", SIMD) \
	X(VCVTTSS2SI, "vcvttss2si", SIMD) X(VCVTTSD2SI, "vcvttsd2si", SIMD) \
	X(VCVTSS2SI, "vcvtss2si", SIMD) X(VCVTSD2SI, "vcvtsd2si", SIMD) \
	X(VCVTPS2PD, "vcvtps2pd", SIMD) X(VCVTPD2PS, "vcvtpd2ps", SIMD) \
	X(VCVTSS2SD, "vcvtss2sd", SIMD) X(VCVTSD2SS, "vcvtsd2ss", SIMD) \
	X(VCVTDQ2PS, "vcvtdq2ps", SIMD) X(VCVTPS2DQ, "vcvtps2dq", SIMD) \
	X(VCVTTPS2DQ, "vcvttps2dq", SIMD) X(VCVTDQ2PD, "vcvtdq2pd", SIMD) \
	X(VCVTPD2DQ, "vcvtpd2dq", SIMD) X(VCVTTPD2DQ, "vcvttpd2dq", SIMD) \
	X(VPUNPCKLBW, "vpunpcklbw", SIMD) X(VPUNPCKLWD, "vpunpcklwd", SIMD) \
	X(VPUNPCKLDQ, "vpunpckldq", SIMD) X(VPUNPCKLQDQ, "vpunpcklqdq", SIMD) \
	X(VPUNPCKHBW, "vpunpckhbw", SIMD) X(VPUNPCKHWD, "vpunpckhwd", SIMD) \
	X(VPUNPCKHDQ, "vpunpckhdq", SIMD) X(VPUNPCKHQDQ, "vpunpckhqdq", SIMD) \
	X(VPACKSSWB, "vpacksswb", SIMD) X(VPACKSSDW, "vpackssdw", SIMD) \
	X(VPACKUSWB, "vpackuswb", SIMD) X(VPACKUSDW, "vpackusdw", SIMD) \
	X(VPCMPGTB, "vpcmpgtb", SIMD) X(VPCMPGTW, "vpcmpgtw", SIMD) \
	X(VPCMPGTD, "vpcmpgtd", SIMD) X(VPCMPGTQ, "vpcmpgtq", SIMD) \
	X(VPCMPEQB, "vpcmpeqb", SIMD) X(VPCMPEQW, "vpcmpeqw", SIMD) \
	X(VPCMPEQD, "vpcmpeqd", SIMD) X(VPCMPEQQ, "vpcmpeqq", SIMD) X(VPSHUFD, "vpshufd", SIMD) \
	X(VPSHUFHW, "vpshufhw", SIMD) X(VPSHUFLW, "vpshuflw", SIMD) X(VPSHUFB, "vpshufb", SIMD) \
	X(VPALIGNR, "vpalignr", SIMD) X(VPBLENDW, "vpblendw", SIMD) \
	X(VPBLENDVB, "vpblendvb", SIMD) X(VPINSRB, "vpinsrb", SIMD) X(VPINSRW, "vpinsrw", SIMD) \
	X(VPINSRD, "vpinsrd", SIMD) X(VPINSRQ, "vpinsrq", SIMD) X(VPEXTRB, "vpextrb", SIMD) \
	X(VPEXTRW, "vpextrw", SIMD) X(VPEXTRD, "vpextrd", SIMD) X(VPEXTRQ, "vpextrq", SIMD) \
	X(VPMOVMSKB, "vpmovmskb", SIMD) X(VPSRLW, "vpsrlw", SIMD) X(VPSRLD, "vpsrld", SIMD) \
	X(VPSRLQ, "vpsrlq", SIMD) X(VPSRLDQ, "vpsrldq", SIMD) X(VPSRAW, "vpsraw", SIMD) \
	X(VPSRAD, "vpsrad", SIMD) X(VPSLLW, "vpsllw", SIMD) X(VPSLLD, "vpslld", SIMD) \
	X(VPSLLQ, "vpsllq", SIMD) X(VPSLLDQ, "vpslldq", SIMD) X(VPADDB, "vpaddb", SIMD) \
	X(VPADDW, "vpaddw", SIMD) X(VPADDD, "vpaddd", SIMD) X(VPADDQ, "vpaddq", SIMD) \
	X(VPADDSB, "vpaddsb", SIMD) X(VPADDSW, "vpaddsw", SIMD) X(VPADDUSB, "vpaddusb", SIMD) \
	X(VPADDUSW, "vpaddusw", SIMD) X(VPSUBB, "vpsubb", SIMD) X(VPSUBW, "vpsubw", SIMD) \
	X(VPSUBD, "vpsubd", SIMD) X(VPSUBQ, "vpsubq", SIMD) X(VPSUBSB, "vpsubsb", SIMD) \
	X(VPSUBSW, "vpsubsw", SIMD) X(VPSUBUSB, "vpsubusb", SIMD) X(VPSUBUSW, "vpsubusw", SIMD) \
	X(VPMULLW, "vpmullw", SIMD) X(VPMULLD, "vpmulld", SIMD) X(VPMULHW, "vpmulhw", SIMD) \
	X(VPMULHUW, "vpmulhuw", SIMD) X(VPMULHRSW, "vpmulhrsw", SIMD) \
	X(VPMULUDQ, "vpmuludq", SIMD) X(VPMULDQ, "vpmuldq", SIMD) X(VPMADDWD, "vpmaddwd", SIMD) \
	X(VPMADDUBSW, "vpmaddubsw", SIMD) X(VPSADBW, "vpsadbw", SIMD) \
	X(VMPSADBW, "vmpsadbw", SIMD) X(VPHMINPOSUW, "vphminposuw", SIMD) \
	X(VPMINUB, "vpminub", SIMD) X(VPMINUW, "vpminuw", SIMD) X(VPMINUD, "vpminud", SIMD) \
	X(VPMINSB, "vpminsb", SIMD) X(VPMINSW, "vpminsw", SIMD) X(VPMINSD, "vpminsd", SIMD) \
	X(VPMAXUB, "vpmaxub", SIMD) X(VPMAXUW, "vpmaxuw", SIMD) X(VPMAXUD, "vpmaxud", SIMD) \
	X(VPMAXSB, "vpmaxsb", SIMD) X(VPMAXSW, "vpmaxsw", SIMD) X(VPMAXSD, "vpmaxsd", SIMD) \
	X(VPAVGB, "vpavgb", SIMD) X(VPAVGW, "vpavgw", SIMD) X(VPAND, "vpand", SIMD) \
	X(VPANDN, "vpandn", SIMD) X(VPOR, "vpor", SIMD) X(VPXOR, "vpxor", SIMD) \
	X(VPTEST, "vptest", SIMD) X(VPABSB, "vpabsb", SIMD) X(VPABSW, "vpabsw", SIMD) \
	X(VPABSD, "vpabsd", SIMD) X(VPSIGNB, "vpsignb", SIMD) X(VPSIGNW, "vpsignw", SIMD) \
	X(VPSIGND, "vpsignd", SIMD) X(VPHADDW, "vphaddw", SIMD) X(VPHADDD, "vphaddd", SIMD) \
	X(VPHADDSW, "vphaddsw", SIMD) X(VPHSUBW, "vphsubw", SIMD) X(VPHSUBD, "vphsubd", SIMD) \
	X(VPHSUBSW, "vphsubsw", SIMD) X(VPMOVSXBW, "vpmovsxbw", SIMD) \
	X(VPMOVSXBD, "vpmovsxbd", SIMD) X(VPMOVSXBQ, "vpmovsxbq", SIMD) \
	X(VPMOVSXWD, "vpmovsxwd", SIMD) X(VPMOVSXWQ, "vpmovsxwq", SIMD) \
	X(VPMOVSXDQ, "vpmovsxdq", SIMD) X(VPMOVZXBW, "vpmovzxbw", SIMD) \
	X(VPMOVZXBD, "vpmovzxbd", SIMD) X(VPMOVZXBQ, "vpmovzxbq", SIMD) \
	X(VPMOVZXWD, "vpmovzxwd", SIMD) X(VPMOVZXWQ, "vpmovzxwq", SIMD) \
	X(VPMOVZXDQ, "vpmovzxdq", SIMD) X(VPCMPESTRM, "vpcmpestrm", SIMD) \
	X(VPCMPESTRI, "vpcmpestri", SIMD) X(VPCMPISTRM, "vpcmpistrm", SIMD) \
	X(VPCMPISTRI, "vpcmpistri", SIMD) X(VAESIMC, "vaesimc", SIMD) \
	X(VAESENC, "vaesenc", SIMD) X(VAESENCLAST, "vaesenclast", SIMD) \
	X(VAESDEC, "vaesdec", SIMD) X(VAESDECLAST, "vaesdeclast", SIMD) \
	X(VAESKEYGENASSIST, "vaeskeygenassist", SIMD) X(VPCLMULQDQ, "vpclmulqdq", SIMD)

/* exec_simd*.c: VEX only (AVX, AVX2, F16C, FMA). */
#define OPS_AVX(X) \
	X(VZEROALL, "vzeroall", SIMD) X(VZEROUPPER, "vzeroupper", SIMD) \
	X(VBROADCASTSS, "vbroadcastss", SIMD) X(VBROADCASTSD, "vbroadcastsd", SIMD) \
	X(VBROADCASTF128, "vbroadcastf128", SIMD) X(VBROADCASTI128, "vbroadcasti128", SIMD) \
	X(VPBROADCASTB, "vpbroadcastb", SIMD) X(VPBROADCASTW, "vpbroadcastw", SIMD) \
	X(VPBROADCASTD, "vpbroadcastd", SIMD) X(VPBROADCASTQ, "vpbroadcastq", SIMD) \
	X(VEXTRACTF128, "vextractf128", SIMD) X(VEXTRACTI128, "vextracti128", SIMD) \
	X(VINSERTF128, "vinsertf128", SIMD) X(VINSERTI128, "vinserti128", SIMD) \
	X(VMASKMOVPS, "vmaskmovps", SIMD) X(VMASKMOVPD, "vmaskmovpd", SIMD) \
	X(VPMASKMOVD, "vpmaskmovd", SIMD) X(VPMASKMOVQ, "vpmaskmovq", SIMD) \
	X(VPERMILPS, "vpermilps", SIMD) X(VPERMILPD, "vpermilpd", SIMD) \
	X(VPERM2F128, "vperm2f128", SIMD) X(VPERM2I128, "vperm2i128", SIMD) \
	X(VPERMD, "vpermd", SIMD) X(VPERMPS, "vpermps", SIMD) X(VPERMQ, "vpermq", SIMD) \
	X(VPERMPD, "vpermpd", SIMD) X(VTESTPS, "vtestps", SIMD) X(VTESTPD, "vtestpd", SIMD) \
	X(VPBLENDD, "vpblendd", SIMD) X(VPSLLVD, "vpsllvd", SIMD) X(VPSLLVQ, "vpsllvq", SIMD) \
	X(VPSRLVD, "vpsrlvd", SIMD) X(VPSRLVQ, "vpsrlvq", SIMD) X(VPSRAVD, "vpsravd", SIMD) \
	X(VGATHERDPS, "vgatherdps", SIMD) X(VGATHERDPD, "vgatherdpd", SIMD) \
	X(VGATHERQPS, "vgatherqps", SIMD) X(VGATHERQPD, "vgatherqpd", SIMD) \
	X(VPGATHERDD, "vpgatherdd", SIMD) X(VPGATHERDQ, "vpgatherdq", SIMD) \
	X(VPGATHERQD, "vpgatherqd", SIMD) X(VPGATHERQQ, "vpgatherqq", SIMD) \
	X(VCVTPH2PS, "vcvtph2ps", SIMD) X(VCVTPS2PH, "vcvtps2ph", SIMD) \
	X(VFMADD132PS, "vfmadd132ps", SIMD) X(VFMADD132PD, "vfmadd132pd", SIMD) \
	X(VFMADD132SS, "vfmadd132ss", SIMD) X(VFMADD132SD, "vfmadd132sd", SIMD) \
	X(VFMSUB132PS, "vfmsub132ps", SIMD) X(VFMSUB132PD, "vfmsub132pd", SIMD) \
	X(VFMSUB132SS, "vfmsub132ss", SIMD) X(VFMSUB132SD, "vfmsub132sd", SIMD) \
	X(VFNMADD132PS, "vfnmadd132ps", SIMD) X(VFNMADD132PD, "vfnmadd132pd", SIMD) \
	X(VFNMADD132SS, "vfnmadd132ss", SIMD) X(VFNMADD132SD, "vfnmadd132sd", SIMD) \
	X(VFNMSUB132PS, "vfnmsub132ps", SIMD) X(VFNMSUB132PD, "vfnmsub132pd", SIMD) \
	X(VFNMSUB132SS, "vfnmsub132ss", SIMD) X(VFNMSUB132SD, "vfnmsub132sd", SIMD) \
	X(VFMADDSUB132PS, "vfmaddsub132ps", SIMD) X(VFMADDSUB132PD, "vfmaddsub132pd", SIMD) \
	X(VFMSUBADD132PS, "vfmsubadd132ps", SIMD) X(VFMSUBADD132PD, "vfmsubadd132pd", SIMD) \
	X(VFMADD213PS, "vfmadd213ps", SIMD) X(VFMADD213PD, "vfmadd213pd", SIMD) \
	X(VFMADD213SS, "vfmadd213ss", SIMD) X(VFMADD213SD, "vfmadd213sd", SIMD) \
	X(VFMSUB213PS, "vfmsub213ps", SIMD) X(VFMSUB213PD, "vfmsub213pd", SIMD) \
	X(VFMSUB213SS, "vfmsub213ss", SIMD) X(VFMSUB213SD, "vfmsub213sd", SIMD) \
	X(VFNMADD213PS, "vfnmadd213ps", SIMD) X(VFNMADD213PD, "vfnmadd213pd", SIMD) \
	X(VFNMADD213SS, "vfnmadd213ss", SIMD) X(VFNMADD213SD, "vfnmadd213sd", SIMD) \
	X(VFNMSUB213PS, "vfnmsub213ps", SIMD) X(VFNMSUB213PD, "vfnmsub213pd", SIMD) \
	X(VFNMSUB213SS, "vfnmsub213ss", SIMD) X(VFNMSUB213SD, "vfnmsub213sd", SIMD) \
	X(VFMADDSUB213PS, "vfmaddsub213ps", SIMD) X(VFMADDSUB213PD, "vfmaddsub213pd", SIMD) \
	X(VFMSUBADD213PS, "vfmsubadd213ps", SIMD) X(VFMSUBADD213PD, "vfmsubadd213pd", SIMD) \
	X(VFMADD231PS, "vfmadd231ps", SIMD) X(VFMADD231PD, "vfmadd231pd", SIMD) \
	X(VFMADD231SS, "vfmadd231ss", SIMD) X(VFMADD231SD, "vfmadd231sd", SIMD) \
	X(VFMSUB231PS, "vfmsub231ps", SIMD) X(VFMSUB231PD, "vfmsub231pd", SIMD) \
	X(VFMSUB231SS, "vfmsub231ss", SIMD) X(VFMSUB231SD, "vfmsub231sd", SIMD) \
	X(VFNMADD231PS, "vfnmadd231ps", SIMD) X(VFNMADD231PD, "vfnmadd231pd", SIMD) \
	X(VFNMADD231SS, "vfnmadd231ss", SIMD) X(VFNMADD231SD, "vfnmadd231sd", SIMD) \
	X(VFNMSUB231PS, "vfnmsub231ps", SIMD) X(VFNMSUB231PD, "vfnmsub231pd", SIMD) \
	X(VFNMSUB231SS, "vfnmsub231ss", SIMD) X(VFNMSUB231SD, "vfnmsub231sd", SIMD) \
	X(VFMADDSUB231PS, "vfmaddsub231ps", SIMD) X(VFMADDSUB231PD, "vfmaddsub231pd", SIMD) \
	X(VFMSUBADD231PS, "vfmsubadd231ps", SIMD) X(VFMSUBADD231PD, "vfmsubadd231pd", SIMD)

/* clang-format on */
#define OPS_ALL(X) OPS_INT(X) OPS_SYS(X) OPS_X87(X) OPS_MMX(X) OPS_SSE(X) OPS_VEX(X) OPS_AVX(X)

enum op {
	OP_NONE, /* no instruction: exec_ud */
#define OP_ENUM(name, mnemonic, group) OP_##name,
	OPS_ALL(OP_ENUM)
#undef OP_ENUM
		OP_COUNT
};

/* "mov", "vaddps", …; "(bad)" for OP_NONE. */
const char *op_mnemonic(enum op op);
enum op_group op_group(enum op op);
/* The legacy twin of a VEX operation; others as they are. */
static inline unsigned op_unvex(unsigned op)
{
	return op >= OP_VMOVUPS && op <= OP_VPCLMULQDQ ? op - (OP_VMOVUPS - OP_MOVUPS) : op;
}
