/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decoded instructions as text, for traces and error messages.
 */
#pragma once

#include "softkvm/cpu/insn.h"

/*
 * Write the instruction in Intel syntax ("add dword ptr [rax+8], ecx") to buf; always ends it with
 * NUL, cuts what does not fit. `mode` is what it was decoded with. Returns the text's whole length.
 */
unsigned insn_format(const struct insn *in, enum insn_mode mode, char *buf, size_t size);
/* Decode and write one instruction of raw bytes; "(bad)" if it is none. Returns its length, at
 * least 1. */
unsigned insn_disassemble(const uint8_t *bytes, unsigned avail, uint64_t rip, enum insn_mode mode,
			  char *buf, size_t size);
