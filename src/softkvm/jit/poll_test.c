/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * No loop of translated code keeps the vCPU from what it is asked for.
 */
#include <pthread.h>
#include <unistd.h>

#include "base/test.h"
#include "softkvm/cpu/blocks.h"
#include "softkvm/jit/testuser.h"

#define CODE     0x200000 /* guest-physical: two pages */
#define RUNS     60u
#define GUARD_S  60 /* a loop that does not look hangs */
#define LOW_LIN  0x7f0000001000ull
#define HIGH_LIN (LOW_LIN + 0x1000)

struct asker {
	struct vcpu *cpu;
	atomic_bool done;
};

static void *ask(void *arg)
{
	struct asker *a = arg;

	while (!atomic_load(&a->done)) {
		atomic_fetch_or(&a->cpu->req, REQ_KICK);
		sched_yield();
	}
	return NULL;
}

/* Run the endless loop at `rip`; each request must end a turn. */
static void run_loop(struct testuser *u, gva_t rip)
{
	struct asker a = { .cpu = u->cpu };
	pthread_t thread;

	u->cpu->rip = rip;
	testuser_enter(u);
	ASSERT(pthread_create(&thread, NULL, ask, &a) == 0);
	for (unsigned i = 0; i < RUNS; i++) {
		if (atomic_exchange(&u->cpu->req, 0) & REQ_JIT) {
			jit_drop_write_tags(u->cpu);
		}
		ASSERT(jit_run(u->cpu) == EXEC_END);
	}
	atomic_store(&a.done, true);
	pthread_join(thread, NULL);
	testuser_leave(u);
}

/* The page's code, beside its end: a jump over `distance` behind itself. */
static void put_jump(struct testuser *u, gpa_t at, int32_t distance)
{
	u->t->ram[at] = 0xe9;
	store_le32(u->t->ram + at + 1, (uint32_t)distance);
}

/* From a page to the one before it, and on. */
static void test_back_to_the_page_before(struct test *t)
{
	struct testuser *u = testuser_new();

	testuser_map(u, LOW_LIN, CODE, TU_U | TU_X);
	testuser_map(u, HIGH_LIN, CODE + 0x1000, TU_U | TU_X);
	put_jump(u, CODE + 0x800, 0x800 - 5);   /* low page's 0x800: to the high page's 0 */
	put_jump(u, CODE + 0x1000, -0x800 - 5); /* and back */
	run_loop(u, LOW_LIN + 0x800);
	CHECK(t, u->cpu->rip == LOW_LIN + 0x800 || u->cpu->rip == HIGH_LIN);
	testuser_free(u);
}

/* The same by a condition. */
static void test_back_by_condition(struct test *t)
{
	struct testuser *u = testuser_new();

	testuser_map(u, LOW_LIN, CODE, TU_U | TU_X);
	testuser_map(u, HIGH_LIN, CODE + 0x1000, TU_U | TU_X);
	put_jump(u, CODE + 0x800, 0x800 - 5);
	memcpy(u->t->ram + CODE + 0x1000, "\x39\xc0\x0f\x84",
	       4); /* cmp %eax, %eax; je low page's 0x800 */
	store_le32(u->t->ram + CODE + 0x1004, (uint32_t)(-0x800 - 8));
	run_loop(u, LOW_LIN + 0x800);
	CHECK(t, u->cpu->rip >= LOW_LIN + 0x800 && u->cpu->rip <= HIGH_LIN + 2);
	testuser_free(u);
}

/* Returns that nobody called, each one an unpredicted jump: as coroutines do. */
static void test_by_returns(struct test *t)
{
	static const uint8_t code[] = { 0x48, 0x8d, 0x05, 0xf9,
					0xff, 0xff, 0xff, /* lea 0(rip) - 7, %rax */
					0x50, 0xc3 };     /* push %rax; ret */
	struct testuser *u = testuser_new();

	testuser_map(u, LOW_LIN, CODE, TU_U | TU_X);
	testuser_map(u, HIGH_LIN, CODE + 0x1000, TU_U | TU_W);
	memcpy(u->t->ram + CODE, code, sizeof(code));
	u->cpu->gpr[RSP] = HIGH_LIN + 0x800;
	run_loop(u, LOW_LIN);
	CHECK(t, u->cpu->rip >= LOW_LIN && u->cpu->rip < LOW_LIN + sizeof(code));
	CHECK(t, u->cpu->gpr[RSP] <= HIGH_LIN + 0x800);
	testuser_free(u);
}

/* 32-bit code that runs over the end of the address space, and jumps back "forward". */
static void test_over_the_end(struct test *t)
{
	struct testuser *u = testuser_new();

	testuser_mode(u, true);
	testuser_map(u, 0xfffff000, CODE, TU_U | TU_X);
	testuser_map(u, 0, CODE + 0x1000, TU_U | TU_X);
	memset(u->t->ram + CODE + 0xff0, 0x90, 16);
	put_jump(u, CODE + 0x1000, -0x10 - 5);
	run_loop(u, 0xfffffff0);
	CHECK(t, (uint32_t)(u->cpu->rip + 16) <= 16);
	testuser_free(u);
}

static const struct test_case cases[] = {
	{ "back_to_the_page_before", test_back_to_the_page_before },
	{ "back_by_condition", test_back_by_condition },
	{ "by_returns", test_by_returns },
	{ "over_the_end", test_over_the_end },
	{},
};

int main(int argc, char **argv)
{
	alarm(GUARD_S);
	return test_main(argc, argv, cases);
}
