/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Start of the bare-metal test guests: multiboot 1 in flat 32-bit protected mode, then identity
 * paging of 4 GiB and long mode, then main() on the boot processor. The other processors come
 * in through ap_trampoline (copied to a page below 1 MiB).
 */
#define STACK_BYTES 16384
#define CPUS_MAX    8

	.section .note.GNU-stack, "", @progbits
	.section .multiboot, "a"
	.balign 4
	.long 0x1badb002
	.long 0x00000002		/* we want memory information */
	.long -(0x1badb002 + 0x00000002)

	.text
	.code32
	.globl _start
_start:
	cli
	cld
	movl %eax, boot_magic
	movl %ebx, boot_info
	movl $stacks + STACK_BYTES, %esp
	/* one PML4 entry, four PDPT entries, 2048 large pages; user-accessible for the tests */
	movl $pdpt + 7, pml4
	movl $0, %ecx
1:	movl %ecx, %eax
	shll $12, %eax
	addl $page_dirs + 7, %eax
	movl %eax, pdpt(, %ecx, 8)
	incl %ecx
	cmpl $4, %ecx
	jb 1b
	xorl %ecx, %ecx
2:	movl %ecx, %eax
	shll $21, %eax
	orl $0x87, %eax
	movl %eax, page_dirs(, %ecx, 8)
	incl %ecx
	cmpl $2048, %ecx
	jb 2b
	call enter_long_mode
	/* not reached in 32-bit mode: enter_long_mode returns by a far jump to long_start */

enter_long_mode:
	movl %cr4, %eax
	orl $0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	movl %eax, %cr4
	movl $pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x901, %eax		/* SCE, LME, NXE */
	wrmsr
	movl %cr0, %eax
	andl $~0x6000000c, %eax
	orl $0x80010023, %eax		/* PG, WP, NE, MP, PE */
	movl %eax, %cr0
	lgdt gdt_pointer
	ljmp $0x08, $long_start

	.code64
long_start:
	movw $0x10, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	xorl %eax, %eax
	movw %ax, %fs
	movw %ax, %gs
	/* which processor: taken from the counter that each bumps */
	movl $1, %eax
	lock xaddl %eax, cpu_count(%rip)
	movl %eax, %edi
	incl %eax
	imull $STACK_BYTES, %eax
	leaq stacks(%rip), %rsp
	addq %rax, %rsp
	andq $-16, %rsp
	xorl %ebp, %ebp
	call start_c
3:	hlt
	jmp 3b

	/* The other processors: real mode at the SIPI vector's page. */
	.code16
	.globl ap_trampoline, ap_trampoline_end
ap_trampoline:
	cli
	movw %cs, %ax
	movw %ax, %ds
	lgdtl ap_gdt_pointer - ap_trampoline
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $0x18, $ap_32
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
ap_trampoline_end:

	.code32
ap_32:	movw $0x20, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	jmp enter_long_mode

/* --- calls that survive exceptions ------------------------------------------- */
	.code64
/* long catch_enter(void (*fn)(void *), void *arg, uint64_t *buffer): -1, or the vector */
	.globl catch_enter, catch_leave
catch_enter:
	movq %rbx, 0(%rdx)
	movq %rbp, 8(%rdx)
	movq %r12, 16(%rdx)
	movq %r13, 24(%rdx)
	movq %r14, 32(%rdx)
	movq %r15, 40(%rdx)
	movq %rsp, 48(%rdx)
	movq %rdi, %rax
	movq %rsi, %rdi
	subq $8, %rsp
	call *%rax
	addq $8, %rsp
	movq $-1, %rax
	ret
/* void catch_leave(uint64_t *buffer, long result) */
catch_leave:
	movw $0x10, %cx			/* null after a change of rings; compatibility mode wants one */
	movw %cx, %ss
	movq 0(%rdi), %rbx
	movq 8(%rdi), %rbp
	movq 16(%rdi), %r12
	movq 24(%rdi), %r13
	movq 32(%rdi), %r14
	movq 40(%rdi), %r15
	movq 48(%rdi), %rsp
	movq %rsi, %rax
	ret

/* void user_enter(uint64_t rip, uint64_t rsp, uint64_t rflags, uint64_t arg, uint64_t cs, uint64_t ss) */
	.globl user_enter
user_enter:
	pushq %r9
	pushq %rsi
	pushq %rdx
	pushq %r8
	pushq %rdi
	movq %rcx, %rdi
	iretq

/* --- the gates of all vectors ---------------------------------------------------- */
#define PUSH pushq
#include "gates.inc.S"

gate_common:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rbx
	pushq %rbp
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, %rdi
	movq %rsp, %rbp
	cld
	andq $-16, %rsp
	call trap
	movq %rbp, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rbp
	popq %rbx
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

	.data
	.balign 16
	.globl gdt, gdt_end
gdt:	.quad 0
	.quad 0x00af9b000000ffff	/* 08 64-bit code */
	.quad 0x00cf93000000ffff	/* 10 data */
	.quad 0x00cf9b000000ffff	/* 18 32-bit code */
	.quad 0x00cf93000000ffff	/* 20 32-bit data */
	.quad 0x00cffb000000ffff	/* 28 32-bit user code (SYSRET: base of the pair) */
	.quad 0x00cff3000000ffff	/* 30 user data */
	.quad 0x00affb000000ffff	/* 38 64-bit user code */
	.quad 0x00009b000000ffff	/* 40 16-bit code */
	.quad 0x000093000000ffff	/* 48 16-bit data */
	.fill 48, 8, 0			/* 50… TSS of each processor, then the tests' own */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt
	.globl boot_magic, boot_info, cpu_count
boot_magic:	.long 0
boot_info:	.long 0
cpu_count:	.long 0

	.bss
	.balign 4096
	.globl pml4, pdpt, page_dirs, stacks
pml4:	.skip 4096
pdpt:	.skip 4096
page_dirs: .skip 4096 * 4
stacks:	.skip STACK_BYTES * (CPUS_MAX + 1)
