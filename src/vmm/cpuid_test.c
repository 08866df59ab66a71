/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/cpuid.h"

#include "base/test.h"

static struct cpuid_table table;

static void add(uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx,
		uint32_t edx)
{
	table.entries[table.head.nent++] = (struct kvm_cpuid_entry2){
		.function = function,
		.index = index,
		.flags = index || function == 4 ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = eax,
		.ebx = ebx,
		.ecx = ecx,
		.edx = edx,
	};
}

static void fill(uint32_t max)
{
	memset(&table, 0, sizeof(table));
	add(0, 0, max, 0, 0, 0);
	add(1, 0, 0x800f12, 0xff100800, BIT(3) | BIT(5) | BIT(9), 0x178bfbff);
	add(4, 0, 0xfc004121, 0, 0, 0); /* level 1 */
	add(4, 1, 0xfc01c163, 0, 0, 0); /* level 3 */
	add(4, 2, 0, 0, 0, 0);
	add(0xa, 0, 0x7300402, 0, 0, 0x603);
	add(0xb, 0, 5, 5, 5, 5);
	add(0x1f, 0, 5, 5, 5, 5);
	add(0x40000000, 0, 0x40000001, 0, 0, 0);
	add(0x80000001, 0, 0, 0, BIT(2) | BIT(22) | BIT(23), 0);
	add(0x80000008, 0, 0x3030, 0, 0x703f, 0);
	add(0x8000000a, 0, 1, 1, 0, 1);
	add(0x8000001d, 0, 0x4121, 0, 0, 0);
	add(0x8000001e, 0, 77, 0x107, 0x300, 0);
}

static struct kvm_cpuid_entry2 *adapt(unsigned cpus, unsigned id, uint32_t leaf, uint32_t index)
{
	struct cpuid_place p = { cpus, id, 2400000, true };

	fill(0xd);
	cpuid_adapt(&table, &p);
	return cpuid_find(&table, leaf, index);
}

static void test_numbers(struct test *t)
{
	CHECK_EQ(t, adapt(6, 5, 1, 0)->ebx, 0x05080800);
	CHECK_EQ(t, adapt(6, 5, 1, 0)->edx >> 28 & 1, 1);
	CHECK_EQ(t, adapt(1, 0, 1, 0)->ebx, 0x00010800);
	CHECK_EQ(t, adapt(1, 0, 1, 0)->edx >> 28 & 1, 0);
	CHECK_EQ(t, adapt(255, 254, 1, 0)->ebx >> 24, 254);
	CHECK_EQ(t, adapt(255, 254, 1, 0)->ebx >> 16 & 0xff, 0xff);
}

static void test_features(struct test *t)
{
	uint32_t ecx = adapt(2, 0, 1, 0)->ecx;

	CHECK_EQ(t, ecx, BIT(31) | BIT(24) | BIT(9));
	CHECK_EQ(t, adapt(2, 0, 0x80000001, 0)->ecx, BIT(22) | BIT(1));
	CHECK_EQ(t, adapt(1, 0, 0x80000001, 0)->ecx, BIT(22));
	CHECK(t, adapt(1, 0, 0x8000000a, 0) == NULL);
	CHECK_EQ(t, adapt(1, 0, 0xa, 0)->eax, 0);
}

static void test_topology(struct test *t)
{
	CHECK_EQ(t, adapt(6, 3, 0xb, 0)->eax, 0);
	CHECK_EQ(t, adapt(6, 3, 0xb, 0)->ebx, 1);
	CHECK_EQ(t, adapt(6, 3, 0xb, 0)->ecx, 0x100);
	CHECK_EQ(t, adapt(6, 3, 0xb, 1)->eax, 3);
	CHECK_EQ(t, adapt(6, 3, 0xb, 1)->ebx, 6);
	CHECK_EQ(t, adapt(6, 3, 0xb, 1)->ecx, 0x201);
	CHECK_EQ(t, adapt(6, 3, 0xb, 1)->edx, 3);
	CHECK_EQ(t, adapt(6, 3, 0xb, 2)->ecx, 2);
	CHECK(t, adapt(6, 3, 0x1f, 0) == NULL);
	CHECK_EQ(t, adapt(6, 3, 4, 0)->eax, 7u << 26 | 0x121);
	CHECK_EQ(t, adapt(6, 3, 4, 1)->eax, 7u << 26 | 7 << 14 | 0x163);
	CHECK_EQ(t, adapt(6, 3, 4, 2)->eax, 0);
	CHECK_EQ(t, adapt(6, 3, 0x80000008, 0)->ecx, 0x3005);
	CHECK_EQ(t, adapt(6, 3, 0x8000001e, 0)->eax, 3);
	CHECK_EQ(t, adapt(6, 3, 0x8000001e, 0)->ebx, 3);
	CHECK_EQ(t, adapt(6, 3, 0x8000001e, 0)->ecx, 0);
}

static void test_old_processor(struct test *t)
{
	struct cpuid_place p = { 2, 1, 2400000, true };

	fill(0xa);
	cpuid_adapt(&table, &p);
	CHECK(t, cpuid_find(&table, 0xb, 0) == NULL);
	CHECK(t, cpuid_find(&table, 0x15, 0) == NULL);
}

static void test_timing(struct test *t)
{
	struct cpuid_place p = { 2, 1, 2400000, false };
	struct kvm_cpuid_entry2 *e;

	CHECK_EQ(t, adapt(1, 0, 0x40000000, 0)->eax, 0x40000010);
	CHECK_EQ(t, adapt(1, 0, 0x40000010, 0)->eax, 2400000);
	CHECK_EQ(t, adapt(1, 0, 0x40000010, 0)->ebx, 1000000);
	fill(0x16);
	cpuid_adapt(&table, &p);
	e = cpuid_find(&table, 0x15, 0);
	CHECK(t, e != NULL);
	CHECK_EQ(t, (uint64_t)e->ecx * e->ebx / e->eax, 2400000000ull);
	CHECK_EQ(t, cpuid_find(&table, 1, 0)->ecx >> 24 & 1, 0);
	p.tsc_khz = 0;
	fill(0x16);
	cpuid_adapt(&table, &p);
	CHECK(t, cpuid_find(&table, 0x15, 0) == NULL);
	CHECK_EQ(t, cpuid_find(&table, 0x40000000, 0)->eax, 0x40000001);
}

static void test_full_table(struct test *t)
{
	struct cpuid_place p = { 2, 1, 2400000, true };

	fill(0x16);
	while (table.head.nent < CPUID_ENTRIES_MAX) {
		add(0x1234, table.head.nent, 0, 0, 0, 0);
	}
	cpuid_adapt(&table, &p);
	CHECK(t, table.head.nent <= CPUID_ENTRIES_MAX);
}

static const struct test_case cases[] = {
	{ "numbers", test_numbers },
	{ "features", test_features },
	{ "topology", test_topology },
	{ "an old processor", test_old_processor },
	{ "timing", test_timing },
	{ "a full table", test_full_table },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
