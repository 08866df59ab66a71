/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast is the interpreter? Runs small loops of a 64-bit guest and prints millions of guest
 * instructions a second of CPU time, the best of three. No test: figures depend on the machine.
 */
#include <inttypes.h>
#include <stdio.h>

#include "softkvm/cpu/guest64.h"

#define STR(x)  #x
#define XSTR(x) STR(x)
#define ROUNDS  20000000

GUEST(alu,
      "mov $" XSTR(
	      ROUNDS) ", %ecx\n"
		      "1: add %rcx, %rax\n xor %rax, %rdx\n lea 3(%rdx,%rax), %rsi\n shl $1, %rdx\n"
		      "inc %rdi\n mov %rsi, %rbx\n and $0xff, %ebx\n sub %rbx, %rdx\n"
		      "dec %ecx\n jnz 1b\n hlt");
GUEST(short_blocks, "mov $" XSTR(ROUNDS) ", %ecx\n"
					 "1: add %rcx, %rax\n test $1, %al\n jz 2f\n inc %rdx\n"
					 "2: dec %ecx\n jnz 1b\n hlt");
GUEST(memory,
      "mov $" XSTR(
	      ROUNDS) ", %ecx\n mov $0x300000, %ebx\n"
		      "1: mov (%rbx), %rax\n add %rcx, %rax\n mov %rax, 8(%rbx)\n add $1, (%rbx)\n"
		      "mov 16(%rbx,%rdx,8), %rsi\n push %rax\n pop %rdi\n dec %ecx\n jnz 1b\n hlt");
GUEST(calls, "mov $" XSTR(ROUNDS) ", %ecx\n"
				  "1: call 2f\n dec %ecx\n jnz 1b\n hlt\n"
				  "2: inc %rax\n ret");
GUEST(indirect,
      "mov $" XSTR(
	      ROUNDS) ", %ecx\n lea 2f(%rip), %rsi\n"
		      "1: mov %ecx, %eax\n and $3, %eax\n lea (%rsi,%rax,8), %rax\n jmp *%rax\n"
		      ".balign 8\n 2: .rept 4\n inc %rdx\n jmp 3f\n .balign 8\n .endr\n"
		      "3: dec %ecx\n jnz 1b\n hlt");

struct loop {
	const char *name;
	const uint8_t *start, *end;
	double insns; /* a round */
};

static double run_once(const struct loop *l)
{
	struct testvm *t = guest64_load(1, l->start, l->end);
	uint64_t begin = clock_cpu_ns();
	int r = vcpu_run(t->cpu[0]);
	double ns = (double)(clock_cpu_ns() - begin);
	bool ok = r == 0 && t->cpu[0]->run->exit_reason == KVM_EXIT_HLT;

	testvm_free(t);
	return ok ? l->insns * ROUNDS / ns * 1000 : 0;
}

int main(void)
{
	const struct loop loops[] = {
		{ "alu", alu_start, alu_end, 10 },
		{ "short blocks", short_blocks_start, short_blocks_end, 5.5 },
		{ "memory", memory_start, memory_end, 9 },
		{ "calls", calls_start, calls_end, 5 },
		{ "indirect jumps", indirect_start, indirect_end, 8 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(loops); i++) {
		double best = 0;

		for (unsigned k = 0; k < 3; k++) {
			double v = run_once(&loops[i]);

			best = MAX(best, v);
		}
		printf("%-16s %7.1f M insn/s\n", loops[i].name, best);
		if (best == 0) {
			fprintf(stderr, "%s: the guest did not reach its end\n", loops[i].name);
			return 1;
		}
	}
	return 0;
}
