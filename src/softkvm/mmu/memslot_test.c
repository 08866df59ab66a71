/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM_SET_USER_MEMORY_REGION's answers, dirty logs, and changes under running vCPUs.
 */
#include "softkvm/cpu/run_int.h"
#include "softkvm/mmu/memslot_int.h"
#include "softkvm/mmu/testvm.h"

#define RAM TESTVM_RAM_BYTES

/* As CHECK, but frees the VM `v` first. */
#define WANT(cond)                                                     \
	do {                                                           \
		if (!(cond)) {                                         \
			test_fail(t, __FILE__, __LINE__, "%s", #cond); \
			testvm_free(v);                                \
			return;                                        \
		}                                                      \
	} while (0)

static void test_errors(struct test *t)
{
	struct testvm *v = testvm_new(0);
	static const struct {
		uint32_t slot, flags;
		uint64_t gpa, size, user;
		int want;
	} rows[] = {
		{ 1, 4, GIB(1), 0x1000, 0x10000, -EINVAL }, /* unknown flag */
		{ 1, 0, GIB(1), 0x800, 0x10000, -EINVAL },  /* size not of pages */
		{ 1, 0, GIB(1) + 1, 0x1000, 0x10000, -EINVAL },
		{ 1, 0, GIB(1), 0x1000, 0x10001, -EINVAL },
		{ 1, 0, GIB(1), 0x1000, 0xffff800000000000, -EINVAL }, /* no user address */
		{ 1, 0, GIB(1), GIB(1) << 20, 0x7ffffff00000, -EINVAL },
		{ MEMSLOTS_MAX, 0, GIB(1), 0x1000, 0x10000, -EINVAL },
		{ 1 << 16, 0, GIB(1), 0x1000, 0x10000, -EINVAL }, /* no second space */
		{ 1, 0, ~0ull << 12, 0x2000, 0x10000, -EINVAL },  /* wraps */
		{ 1, 0, BIT64(52), 0x1000, 0x10000, -EINVAL },    /* no such address */
		{ 1, 0, GIB(1), 0, 0x10000, -EINVAL },            /* delete what is not */
		{ 1, 0, RAM - 4096, 0x2000, 0x10000, -EEXIST },
		{ 1, 0, 0, 0x1000, 0x10000, -EEXIST },
		{ 1, 0, RAM, 0x1000, 0x10000, 0 },
		{ 1, 0, RAM, 0x1000, 0x11000, -EINVAL }, /* other memory */
		{ 1, 0, RAM, 0x2000, 0x10000, -EINVAL }, /* other size */
		{ 1, KVM_MEM_READONLY, RAM, 0x1000, 0x10000, -EINVAL },
		{ 1, 0, RAM, 0x1000, 0x10000, 0 }, /* nothing new */
		{ 2, 0, RAM + 0x1000, 0x1000, 0x20000, 0 },
		{ 1, 0, RAM + 0x1000, 0x1000, 0x10000, -EEXIST }, /* move onto another */
		{ 1, 0, RAM + 0x2000, 0x1000, 0x10000, 0 },       /* move */
		{ MEMSLOTS_MAX - 1, KVM_MEM_READONLY, GIB(2), 0x1000, 0x10000, 0 },
		{ 2, 0, 0, 0, 0, 0 }, /* delete */
		{ 2, 0, 0, 0, 0, -EINVAL },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		int r = testvm_slot(v, rows[i].slot, rows[i].flags, rows[i].gpa, rows[i].size,
				    (uint8_t *)(uintptr_t)rows[i].user);

		if (r != rows[i].want) {
			test_fail(t, __FILE__, __LINE__, "row %u: %d", i, r);
		}
	}
	WANT(memslots_find(&v->vm, RAM) == NULL);
	WANT(memslots_find(&v->vm, RAM + 0x2fff)->id == 1);
	WANT(memslots_find(&v->vm, RAM + 0x3000) == NULL);
	testvm_free(v);
}

/* Every place of a move within the slots around, and lookups by a plain search beside. */
static void test_many(struct test *t)
{
	struct testvm *v = testvm_new(0);
	uint64_t x = 1;

	for (unsigned i = 1; i < 400; i++) {
		x = x * 6364136223846793005ull + 1;
		WANT(testvm_slot(v, i * 7 % 400 + 1, 0, GIB(1) + (gpa_t)(i * 13 % 400) * 0x4000,
				 0x1000 * (1 + (x >> 62)), (uint8_t *)0x10000) == 0);
	}
	for (unsigned k = 0; k < 20000; k++) {
		struct memslot *want = NULL;
		gpa_t gpa;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		gpa = GIB(1) + (x >> 33) % (400 * 0x4000);
		for (unsigned i = 0; i < v->vm.slots->count; i++) {
			struct memslot *s = v->vm.slots->by_id[i];

			if (gpa >= s->gpa && gpa < s->gpa + s->size_bytes) {
				want = s;
			}
		}
		WANT(memslots_find(&v->vm, gpa) == want);
	}
	testvm_free(v);
}

static int get_log(struct testvm *v, uint32_t id, uint64_t *bits)
{
	struct kvm_dirty_log log = { .slot = id, .dirty_bitmap = bits };

	return memslots_get_dirty_log(&v->vm, &log);
}

static int clear_log(struct testvm *v, uint64_t first, uint32_t count, uint64_t *bits)
{
	struct kvm_clear_dirty_log log = {
		.slot = 1, .first_page = first, .num_pages = count, .dirty_bitmap = bits
	};

	return memslots_clear_dirty_log(&v->vm, &log);
}

static bool store_byte(struct vcpu *cpu, gva_t lin)
{
	return mmu_store(cpu, lin, "x", 1);
}

/* What a vCPU does first when it goes on. */
static void next_run(struct vcpu *cpu)
{
	if (atomic_fetch_and(&cpu->req, ~(uint32_t)REQ_TLB_FLUSH) & REQ_TLB_FLUSH) {
		mmu_flush_all(cpu);
	}
}

/* A VM with a logged slot of 130 pages at 1 GiB, no paging. */
static struct testvm *logged(uint8_t **ret_mem)
{
	struct testvm *v = testvm_new(1);

	*ret_mem = testvm_pages(130 * 4096);
	ASSERT(testvm_slot(v, 1, KVM_MEM_LOG_DIRTY_PAGES, GIB(1), 130 * 4096, *ret_mem) == 0);
	v->cpu[0]->cr0 = CR0_PE;
	return v;
}

static void test_dirty_log(struct test *t)
{
	uint64_t bits[3] = { 9, 9, 9 };
	uint8_t *mem;
	struct testvm *v = logged(&mem);
	struct vcpu *cpu = v->cpu[0];

	WANT(get_log(v, 1, bits) == 0 && (bits[0] | bits[1] | bits[2]) == 0);
	WANT(store_byte(cpu, GIB(1) + 5 * 4096) && store_byte(cpu, GIB(1) + 129 * 4096));
	WANT(store_byte(cpu, GIB(1) + 5 * 4096 + 8)); /* by the TLB now */
	WANT(vm_write_phys(&v->vm, NULL, GIB(1) + 64 * 4096 - 1, "ab", 2) == 0);
	WANT(get_log(v, 1, bits) == 0);
	WANT(bits[0] == (BIT64(5) | BIT64(63)) && bits[1] == 1 && bits[2] == 2);
	next_run(cpu);
	WANT(get_log(v, 1, bits) == 0 && (bits[0] | bits[1] | bits[2]) == 0);
	WANT(store_byte(cpu, GIB(1) + 5 * 4096)); /* its write tag is gone: logged again */
	WANT(get_log(v, 1, bits) == 0 && bits[0] == BIT64(5));
	WANT(get_log(v, 0, bits) == -ENOENT && get_log(v, 7, bits) == -ENOENT);
	WANT(get_log(v, MEMSLOTS_MAX, bits) == -EINVAL);
	WANT(get_log(v, 1, (uint64_t *)16) == -EFAULT);
	WANT(clear_log(v, 0, 130, bits) == -ENXIO);
	testvm_free(v);
	munmap(mem, 130 * 4096);
}

static void test_manual_protect(struct test *t)
{
	uint64_t bits[3] = { 0 }, some[3] = { BIT64(5), 0, 2 };
	uint8_t *mem;
	struct testvm *v = logged(&mem);
	struct vcpu *cpu = v->cpu[0];

	v->vm.cap.manual_dirty_flags = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	WANT(store_byte(cpu, GIB(1) + 5 * 4096) && store_byte(cpu, GIB(1) + 6 * 4096));
	WANT(store_byte(cpu, GIB(1) + 129 * 4096));
	for (unsigned i = 0; i < 2; i++) { /* reading clears nothing */
		WANT(get_log(v, 1, bits) == 0 && bits[0] == (BIT64(5) | BIT64(6)) && bits[2] == 2);
	}
	WANT(clear_log(v, 1, 64, some) == -EINVAL && clear_log(v, 0, 65, some) == -EINVAL);
	WANT(clear_log(v, 0, 131, some) == -EINVAL && clear_log(v, 192, 0, some) == -EINVAL);
	WANT(clear_log(v, 0, 130, (uint64_t *)16) == -EFAULT);
	WANT(clear_log(v, 0, 130, some) == 0);
	WANT(get_log(v, 1, bits) == 0 && bits[0] == BIT64(6) && bits[2] == 0);
	some[0] = 1;
	WANT(store_byte(cpu, GIB(1) + 64 * 4096) && clear_log(v, 64, 64, some) == 0);
	WANT(get_log(v, 1, bits) == 0 && bits[1] == 0 && bits[0] == BIT64(6));
	testvm_free(v);
	munmap(mem, 130 * 4096);
}

static void test_initially_set(struct test *t)
{
	uint64_t bits[3] = { 0 };
	uint8_t *mem = testvm_pages(130 * 4096);
	struct testvm *v = testvm_new(0);

	v->vm.cap.manual_dirty_flags =
		KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	WANT(testvm_slot(v, 1, 0, GIB(1), 130 * 4096, mem) == 0);
	WANT(get_log(v, 1, bits) == -ENOENT);
	WANT(testvm_slot(v, 1, KVM_MEM_LOG_DIRTY_PAGES, GIB(1), 130 * 4096, mem) == 0);
	WANT(get_log(v, 1, bits) == 0 && bits[0] == ~0ull && bits[1] == ~0ull && bits[2] == 3);
	/* A move keeps the log; taking the flag away drops it. */
	WANT(clear_log(v, 0, 64, (uint64_t[1]){ ~0ull - 1 }) == 0);
	WANT(testvm_slot(v, 1, KVM_MEM_LOG_DIRTY_PAGES, GIB(2), 130 * 4096, mem) == 0);
	WANT(get_log(v, 1, bits) == 0 && bits[0] == 1 && bits[1] == ~0ull);
	WANT(testvm_slot(v, 1, 0, GIB(2), 130 * 4096, mem) == 0);
	WANT(get_log(v, 1, bits) == -ENOENT);
	testvm_free(v);
	munmap(mem, 130 * 4096);
}

static void test_phys(struct test *t)
{
	struct testvm *v = testvm_new(0);
	uint8_t *mem = testvm_pages(8192);
	uint64_t x = 0x1122334455667788;

	WANT(testvm_slot(v, 1, KVM_MEM_READONLY, RAM, 4096, mem) == 0);
	WANT(vm_write_phys(&v->vm, NULL, RAM - 8, &x, 8) == 0);
	WANT(vm_write_phys(&v->vm, NULL, RAM - 4, &x, 8) == -EFAULT);
	mem[0] = 0xee;
	WANT(vm_read_phys(&v->vm, RAM - 1, &x, 2) == 0 && (x & 0xff00) == 0xee00);
	WANT(vm_read_phys(&v->vm, RAM + 4095, &x, 2) == -EFAULT);
	WANT(vm_map_phys(&v->vm, RAM, 8, false) == mem && !vm_map_phys(&v->vm, RAM, 8, true));
	WANT(!vm_map_phys(&v->vm, RAM + 4092, 8, false));
	testvm_free(v);
	munmap(mem, 8192);
}

/* --- changes under way -------------------------------------------------------------------- */

struct reader {
	struct testvm *v;
	struct vcpu *cpu;
	_Atomic bool stop;
	_Atomic unsigned rounds, bad;
};

/*
 * As a vCPU thread: inside the guest it reads and writes by the TLB; the slot's two memories
 * hold 1 and 2.
 */
static void *reader_main(void *arg)
{
	struct reader *r = arg;

	while (!atomic_load(&r->stop)) {
		uint8_t a = 0, b = 0;

		guest_enter(r->cpu);
		next_run(r->cpu);
		for (unsigned i = 0; i < 100; i++) {
			bool la = mmu_load(r->cpu, GIB(1), &a, 1);
			bool lb = mmu_load(r->cpu, GIB(1) + 4096, &b, 1);

			if (la != lb || (la && (a != b || a == 0))) {
				atomic_fetch_add(&r->bad, 1);
			}
			vcpu_drop_io(r->cpu);
		}
		guest_leave(r->cpu);
		atomic_fetch_add(&r->rounds, 1);
	}
	return NULL;
}

static void test_change_while_running(struct test *t)
{
	struct testvm *v = testvm_new(2);
	uint8_t *mem = testvm_pages(4 * 4096);
	struct reader r[2] = { { .v = v, .cpu = v->cpu[0] }, { .v = v, .cpu = v->cpu[1] } };
	pthread_t thread[2];
	bool ok = true;

	mem[0] = mem[4096] = 1;
	mem[8192] = mem[12288] = 2;
	for (unsigned i = 0; i < 2; i++) {
		r[i].cpu->cr0 = CR0_PE;
		ASSERT(pthread_create(&thread[i], NULL, reader_main, &r[i]) == 0);
	}
	for (unsigned i = 0;
	     i < 300 || atomic_load(&r[0].rounds) < 20 || atomic_load(&r[1].rounds) < 20; i++) {
		ok = ok && testvm_slot(v, 1, 0, GIB(1), 8192, mem + (i & 1) * 8192) == 0;
		ok = ok && testvm_slot(v, 1, 0, 0, 0, NULL) == 0;
	}
	for (unsigned i = 0; i < 2; i++) {
		atomic_store(&r[i].stop, true);
		pthread_join(thread[i], NULL);
		ok = ok && atomic_load(&r[i].bad) == 0;
	}
	testvm_free(v);
	munmap(mem, 4 * 4096);
	CHECK(t, ok);
}

static const struct test_case cases[] = {
	{ "errors", test_errors },
	{ "many", test_many },
	{ "dirty_log", test_dirty_log },
	{ "manual_protect", test_manual_protect },
	{ "initially_set", test_initially_set },
	{ "phys", test_phys },
	{ "change_while_running", test_change_while_running },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
