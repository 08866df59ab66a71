/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code that changes: by itself, by other mappings, by other vCPUs, by user space.
 */
#include "softkvm/cpu/blocks.h"
#include "softkvm/cpu/guest64.h"

#define WANT(cond)                                                                           \
	do {                                                                                 \
		if (!(cond)) {                                                               \
			test_fail(t, __FILE__, __LINE__, "%s (exit %u, rip %llx, rax %llx)", \
				  #cond, v->cpu[0]->run->exit_reason,                        \
				  (unsigned long long)v->cpu[0]->rip,                        \
				  (unsigned long long)v->cpu[0]->gpr[RAX]);                  \
			testvm_free(v);                                                      \
			return;                                                              \
		}                                                                            \
	} while (0)

static bool halts(struct testvm *v)
{
	return vcpu_run(v->cpu[0]) == 0 && v->cpu[0]->run->exit_reason == KVM_EXIT_HLT;
}

/* A store into the instruction right behind it, in the same block. */
GUEST(next_insn, "movb $7, 1f+1(%rip)\n 1: mov $1, %al\n movzbl %al, %eax\n hlt");
static void test_next_instruction(struct test *t)
{
	struct testvm *v = guest64_new(1, next_insn);

	WANT(halts(v) && v->cpu[0]->gpr[RAX] == 7);
	testvm_free(v);
}

/* The same by read-modify-write, by a string instruction, by a push, each round another value. */
GUEST(other_stores,
      "xor %ebx, %ebx\n xor %edx, %edx\n"
      "1: lock incb 2f+1(%rip)\n 2: mov $0, %al\n movzbl %al, %eax\n add %rax, %rdx\n"
      "lea 3f+1(%rip), %rdi\n mov $4, %ecx\n lea 1(%rbx), %eax\n rep stosb\n"
      "3: mov $0, %eax\n movzbl %al, %eax\n add %rax, %rdx\n"
      "mov %rsp, %rsi\n lea 5f(%rip), %rsp\n movabs $0x9090909090b7b290, %rax\n push %rax\n"
      "nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop\n 5: mov %rsi, %rsp\n"
      "inc %ebx\n cmp $50, %ebx\n jb 1b\n mov %rdx, %rax\n hlt");
static void test_other_stores(struct test *t)
{
	struct testvm *v = guest64_new(1, other_stores);
	uint64_t want = 0;

	/* lock inc: 1..50; rep stosb: 1..50; the pushed "mov $0xb7, %dl" sets DL each round */
	for (unsigned i = 1; i <= 50; i++) {
		want += 2 * i;
		want = (want & ~0xffull) | 0xb7;
	}
	WANT(halts(v) && v->cpu[0]->gpr[RAX] == want);
	testvm_free(v);
}

/* A store through another linear address of the same page. */
GUEST(alias, "movb $9, 0xa00000+1f-alias_start+1\n 1: mov $1, %al\n movzbl %al, %eax\n hlt");
static void test_alias(struct test *t)
{
	struct testvm *v = guest64_new(1, alias);
	uint64_t *pd = (uint64_t *)(void *)(v->ram + 0x3000);

	/* 0xa00000 shows the 2 MiB at 0, where the code lies at 0x100000 */
	pd[5] = 0x87;
	guest64_put(v, 0, alias_start, alias_end);
	v->cpu[0]->rip = 0;
	memcpy(v->ram, alias_start, (size_t)(alias_end - alias_start));
	WANT(halts(v) && v->cpu[0]->gpr[RAX] == 9);
	testvm_free(v);
}

/* A function that is patched before each call: more variants than a chain keeps. */
GUEST(patched_calls, "mov $3000, %ecx\n xor %ebx, %ebx\n"
		     "1: mov %ecx, 2f+1(%rip)\n call 2f\n add %rax, %rbx\n dec %ecx\n jnz 1b\n"
		     "mov %rbx, %rax\n hlt\n 2: mov $0, %eax\n ret");
static void test_patched_calls(struct test *t)
{
	struct testvm *v = guest64_new(1, patched_calls);

	WANT(halts(v) && v->cpu[0]->gpr[RAX] == 3000ull * 3001 / 2);
	testvm_free(v);
}

/* New code again and again, so that the arena is emptied several times. */
GUEST(generate, "mov $300000, %ecx\n xor %ebx, %ebx\n"
		"1: mov %ecx, %edi\n and $0xffff0, %edi\n add $0x400000, %edi\n"
		"movb $0xb8, (%rdi)\n mov %ecx, 1(%rdi)\n movb $0xc3, 5(%rdi)\n call *%rdi\n"
		"add %rax, %rbx\n dec %ecx\n jnz 1b\n mov %rbx, %rax\n hlt");
static void test_generated_code(struct test *t)
{
	struct testvm *v = guest64_new(1, generate);

	WANT(halts(v) && v->cpu[0]->gpr[RAX] == 300000ull * 300001 / 2);
	testvm_free(v);
}

/* Page tables change what lies at an address: INVLPG, same RIP. */
GUEST(remap, "mov $0xa00000, %edi\n call *%rdi\n mov %rax, %rbx\n mov $0x87, %esi\n"
	     "orq $0x400000, %rsi\n mov %rsi, 0x3028\n invlpg (%rdi)\n call *%rdi\n"
	     "shl $8, %rbx\n or %rbx, %rax\n hlt");
static void test_remap(struct test *t)
{
	struct testvm *v = guest64_new(1, remap);
	static const uint8_t one[] = { 0xb8, 1, 0, 0, 0, 0xc3 }, two[] = { 0xb8, 2, 0, 0, 0, 0xc3 };

	guest64_put(v, 0xa00000, one, one + sizeof(one));
	guest64_put(v, 0x400000, two, two + sizeof(two));
	WANT(halts(v) && v->cpu[0]->gpr[RAX] == 0x102);
	testvm_free(v);
}

/* Data beside code: the writes must not be lost, nor become slow for ever. */
GUEST(mixed, "mov $100000, %ecx\n 1: incq 3f(%rip)\n call 2f\n dec %ecx\n jnz 1b\n"
	     "mov 3f(%rip), %rax\n hlt\n .balign 64\n 2: ret\n .balign 64\n 3: .quad 0");
static void test_mixed_page(struct test *t)
{
	struct testvm *v = guest64_new(1, mixed);

	WANT(halts(v) && v->cpu[0]->gpr[RAX] == 100000);
	testvm_free(v);
}

/* Handlers that are no tail calls must not use up the host's stack. */
GUEST(host_stack, "mov $300000, %ebp\n 1: xor %eax, %eax\n cpuid\n pushfq\n popfq\n"
		  "mov %es, %ecx\n lar %ecx, %ecx\n sgdt 0x300000\n dec %ebp\n jnz 1b\n hlt");
static void test_host_stack(struct test *t)
{
	struct testvm *v = guest64_new(1, host_stack);

	WANT(halts(v) && v->cpu[0]->gpr[RBP] == 0);
	testvm_free(v);
}

/* --- others write ------------------------------------------------------------------------- */

/* Counts its rounds at GUEST_DATA + 64. */
GUEST(poll, "1: call 2f\n incq 0x300040\n cmp $0x55, %al\n jne 1b\n hlt\n .balign 64\n"
	    "2: mov $0, %al\n ret");
/* The same, but it fetches anew each round. */
GUEST(poll_anew, "1: call 2f\n incq 0x300040\n mov %cr3, %rdx\n mov %rdx, %cr3\n"
		 "cmp $0x55, %al\n jne 1b\n hlt\n .balign 64\n 2: mov $0, %al\n ret");
GUEST(patcher, "1: mov 0x300000, %ecx\n test %ecx, %ecx\n jz 1b\n movb $0x55, (%rdi)\n hlt");

struct patch {
	struct testvm *v;
	bool by_vcpu;
	int result;
};

/* The address of the immediate. */
static gpa_t poll_byte(bool by_vcpu)
{
	size_t len = (size_t)(by_vcpu ? poll_end - poll_start : poll_anew_end - poll_anew_start);

	return GUEST_CODE + len - 2;
}

static void *patch_main(void *arg)
{
	struct patch *p = arg;

	const uint64_t *rounds = (const uint64_t *)(const void *)(p->v->ram + GUEST_DATA + 64);

	while (__atomic_load_n(rounds, __ATOMIC_RELAXED) < 10000) {
		sched_yield();
	}
	if (!p->by_vcpu) { /* as a device's DMA: nobody is told */
		__atomic_store_n(&p->v->ram[poll_byte(false)], 0x55, __ATOMIC_RELAXED);
		return NULL;
	}
	__atomic_store_n(&p->v->ram[GUEST_DATA], 1, __ATOMIC_RELAXED);
	p->result = vcpu_run(p->v->cpu[1]);
	return NULL;
}

/* User space's writes are seen by translated code when it is fetched anew (jit/jit_int.h). */
static struct testvm *new_poller(bool by_vcpu)
{
	return by_vcpu ? guest64_new(2, poll) : guest64_new(2, poll_anew);
}

static void patch_by(struct test *t, bool by_vcpu)
{
#ifdef __SANITIZE_THREAD__
	SKIP(t, "guests race for their memory by design");
#endif
	struct testvm *v = new_poller(by_vcpu);
	struct patch p = { v, by_vcpu, 0 };
	pthread_t thread;
	bool ok;

	guest64_put(v, GUEST_CODE + 0x10000, patcher_start, patcher_end);
	v->cpu[1]->rip = GUEST_CODE + 0x10000;
	v->cpu[1]->gpr[RDI] = poll_byte(true);
	ASSERT(pthread_create(&thread, NULL, patch_main, &p) == 0);
	ok = halts(v);
	pthread_join(thread, NULL);
	WANT(ok && v->cpu[0]->gpr[RAX] == 0x55 && p.result == 0);
	testvm_free(v);
}

static void test_dma(struct test *t)
{
	patch_by(t, false);
}

static void test_cross_modifying(struct test *t)
{
	patch_by(t, true);
}

static const struct test_case cases[] = {
	{ "next_instruction", test_next_instruction },
	{ "other_stores", test_other_stores },
	{ "alias", test_alias },
	{ "patched_calls", test_patched_calls },
	{ "generated_code", test_generated_code },
	{ "remap", test_remap },
	{ "mixed_page", test_mixed_page },
	{ "host_stack", test_host_stack },
	{ "dma", test_dma },
	{ "cross_modifying", test_cross_modifying },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
