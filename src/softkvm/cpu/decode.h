/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From bytes to struct insn: a pure function of bytes, address and mode, driven
 * by the opcode rows (rows.h).
 */
#pragma once

#include "softkvm/cpu/insn.h"

/* Negative results of insn_decode(). */
enum {
	DECODE_UD = -1,        /* #UD */
	DECODE_NEED_MORE = -2, /* the instruction goes on behind `avail` bytes */
	DECODE_TOO_LONG = -3,  /* more than 15 bytes: #GP(0) */
};
#define INSN_BYTES_MAX 15

/*
 * Decode the instruction at `bytes`, of which `avail` (any number; 15 always suffice) can be
 * read, and whose address is `rip` (in legacy modes the offset in CS). Returns its length, 1..15,
 * or a DECODE_* code; then *out is not to be used. `fn` and `off` are left 0: see insn_bind().
 *
 * #UD by LOCK, VEX rules, mode and register or memory form is found here. Not here, because it
 * depends on more state than the mode: privilege, CR4, CPUID, control register numbers.
 */
int insn_decode(const uint8_t *bytes, unsigned avail, uint64_t rip, enum insn_mode mode,
		struct insn *out);
