/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Start of the 32-bit test guests: flat protected mode without paging, as multiboot leaves it.
 * Also the ways into real mode, virtual-8086 mode and 16-bit protected mode.
 */
	.section .note.GNU-stack, "", @progbits
	.section .multiboot, "a"
	.balign 4
	.long 0x1badb002
	.long 0x00000002
	.long -(0x1badb002 + 0x00000002)

	.text
	.code32
	.globl _start
_start:
	cli
	cld
	movl $stack_top, %esp
	lgdt gdt_pointer
	ljmp $0x08, $1f
1:	movw $0x10, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw %ax, %fs
	movw %ax, %gs
	call start_c
2:	cli
	hlt
	jmp 2b

/* long catch_enter(void (*fn)(void *), void *arg, u32 *buffer): -1, or the vector */
	.globl catch_enter, catch_leave
catch_enter:
	movl 12(%esp), %edx
	movl %ebx, 0(%edx)
	movl %ebp, 4(%edx)
	movl %esi, 8(%edx)
	movl %edi, 12(%edx)
	movl %esp, 16(%edx)
	pushl 8(%esp)
	call *8(%esp)
	addl $4, %esp
	movl $-1, %eax
	ret
catch_leave:
	movl 4(%esp), %edx
	movl 8(%esp), %eax
	movw $0x10, %cx
	movw %cx, %ds
	movw %cx, %es
	movw %cx, %ss
	movl 0(%edx), %ebx
	movl 4(%edx), %ebp
	movl 8(%edx), %esi
	movl 12(%edx), %edi
	movl 16(%edx), %esp
	ret

#define PUSH pushl
#include "gates.inc.S"

gate_common:
	pushl %gs
	pushl %fs
	pushl %es
	pushl %ds
	pushal
	movw $0x10, %ax
	movw %ax, %ds
	movw %ax, %es
	cld
	pushl %esp
	call trap
	addl $4, %esp
	popal
	popl %ds
	popl %es
	popl %fs
	popl %gs
	addl $8, %esp
	iretl

/*
 * void real_call(void): copies real_begin…real_end to REAL_BASE, goes to real mode there, calls the 16-bit
 * code that the test has put at REAL_BASE + 0x200 (ends by RETF), and comes back. Flags in between: IF clear.
 */
	.globl real_call
real_call:
	pushal
	movl %esp, saved_esp
	movl $real_begin, %esi
	movl $0x9000, %edi
	movl $(real_end - real_begin), %ecx
	rep movsb
	sidt saved_idt
	ljmp $0x28, $0x9000		/* 16-bit code segment, base 0: offset is the address */

	.code16
real_begin:
	movw $0x30, %ax			/* 16-bit data */
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movl %cr0, %eax
	andl $~1, %eax
	movl %eax, %cr0
	ljmp $0x900, $(1f - real_begin)
1:	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw $0x8ff0, %sp
	lidtl %cs:(real_idt - real_begin)
	lcall $0x920, $0
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $0x08, $back_32
real_idt:
	.word 0x3ff
	.long 0
real_end:

	.code32
back_32:
	movw $0x10, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw %ax, %fs
	movw %ax, %gs
	movl saved_esp, %esp
	lidt saved_idt
	popal
	ret

	.data
	.balign 8
	.globl gdt
gdt:	.quad 0
	.quad 0x00cf9b000000ffff	/* 08 code */
	.quad 0x00cf93000000ffff	/* 10 data */
	.quad 0x00cffb000000ffff	/* 18 user code */
	.quad 0x00cff3000000ffff	/* 20 user data */
	.quad 0x00009b000000ffff	/* 28 16-bit code */
	.quad 0x000093000000ffff	/* 30 16-bit data */
	.fill 57, 8, 0			/* 38 TSS, 40 second TSS, then the tests' own */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
saved_idt: .skip 6
	.balign 4
saved_esp: .long 0
	.bss
	.balign 16
	.skip 16384
stack_top:
