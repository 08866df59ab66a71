/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gates of all vectors, 16 bytes apart: each pushes 0 where the processor pushes no error code,
 * then its vector, and goes to gate_common. PUSH: pushq or pushl.
 */
	.macro gate vector
	.balign 16
	.if \vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17
	.else
	PUSH $0
	.endif
	PUSH $\vector
	jmp gate_common
	.endm

	.globl gates
	.balign 16
gates:
	.set v, 0
	.rept 256
	.altmacro
	gate %v
	.noaltmacro
	.set v, v + 1
	.endr
