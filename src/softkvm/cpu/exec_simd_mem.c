/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory operands of SIMD and x87 stubs: from struct insn to a host address.
 */
#include "softkvm/cpu/simd_int.h"

enum exec_result simd_mem_failed(struct vcpu *cpu, const struct insn *in)
{
	return exec_abort(cpu, in);
}

/* The alignment check comes behind the segment's, before the page's (SDM 2 table 2-21). */
static inline bool operand_linear(struct vcpu *cpu, const struct insn *in, unsigned size,
				  bool aligned, enum mmu_access acc, gva_t *ret)
{
	if (unlikely(!ea_linear(cpu, in, size, acc, ret))) {
		return false;
	}
	if (aligned && unlikely(*ret & (size - 1))) {
		cpu->fault = (struct fault){ .vector = EX_GP, .has_error = true };
		return false;
	}
	return true;
}

static inline void *load_ptr(struct vcpu *cpu, const struct insn *in, unsigned size, bool aligned)
{
	const struct tlb_entry *e;
	gva_t lin;

	if (unlikely(!operand_linear(cpu, in, size, aligned, ACC_READ, &lin))) {
		return NULL;
	}
	e = mmu_tlb(cpu, lin);
	if (likely(lin - e->rtag <= 4096 - size)) {
		return tlb_host(e, lin);
	}
	return mmu_slow_load(cpu, lin, cpu->fpu.bounce, size, false) ? cpu->fpu.bounce : NULL;
}

static inline bool store_bounce(struct vcpu *cpu, const struct insn *in, unsigned size,
				bool aligned)
{
	gva_t lin;

	return operand_linear(cpu, in, size, aligned, ACC_WRITE, &lin) &&
	       mmu_store(cpu, lin, cpu->fpu.bounce, size);
}

static inline bool probe_store(struct vcpu *cpu, const struct insn *in, unsigned size)
{
	gva_t lin;

	return operand_linear(cpu, in, size, false, ACC_WRITE, &lin) &&
	       mmu_probe(cpu, lin, size, ACC_WRITE);
}

#define MEM_FNS(size)                                                     \
	static void *load_##size(struct vcpu *cpu, const struct insn *in) \
	{                                                                 \
		return load_ptr(cpu, in, size, false);                    \
	}                                                                 \
	static bool store_##size(struct vcpu *cpu, const struct insn *in) \
	{                                                                 \
		return store_bounce(cpu, in, size, false);                \
	}                                                                 \
	static bool probe_##size(struct vcpu *cpu, const struct insn *in) \
	{                                                                 \
		return probe_store(cpu, in, size);                        \
	}
MEM_FNS(1)
MEM_FNS(2)
MEM_FNS(4)
MEM_FNS(8)
MEM_FNS(10)
MEM_FNS(16)
MEM_FNS(32)

#define ALIGNED_FNS(size)                                                         \
	static void *load_aligned_##size(struct vcpu *cpu, const struct insn *in) \
	{                                                                         \
		return load_ptr(cpu, in, size, true);                             \
	}                                                                         \
	static bool store_aligned_##size(struct vcpu *cpu, const struct insn *in) \
	{                                                                         \
		return store_bounce(cpu, in, size, true);                         \
	}
ALIGNED_FNS(16)
ALIGNED_FNS(32)

struct mem_row {
	unsigned size;
	simd_mem_fn *load, *load_aligned;
	simd_store_fn *store, *store_aligned, *probe;
};

static const struct mem_row mem_rows[] = {
	{ 1, load_1, load_1, store_1, store_1, probe_1 },
	{ 2, load_2, load_2, store_2, store_2, probe_2 },
	{ 4, load_4, load_4, store_4, store_4, probe_4 },
	{ 8, load_8, load_8, store_8, store_8, probe_8 },
	{ 10, load_10, load_10, store_10, store_10, probe_10 },
	{ 16, load_16, load_aligned_16, store_16, store_aligned_16, probe_16 },
	{ 32, load_32, load_aligned_32, store_32, store_aligned_32, probe_32 },
};

static const struct mem_row *mem_row_of(unsigned size)
{
	for (unsigned i = 0; i < ARRAY_SIZE(mem_rows); i++) {
		if (mem_rows[i].size == size) {
			return &mem_rows[i];
		}
	}
	return NULL;
}

simd_mem_fn *simd_load_fn(unsigned size, bool aligned)
{
	const struct mem_row *r = mem_row_of(size);

	return !r ? NULL : aligned ? r->load_aligned : r->load;
}

simd_store_fn *simd_store_fn_of(unsigned size, bool aligned)
{
	const struct mem_row *r = mem_row_of(size);

	return !r ? NULL : aligned ? r->store_aligned : r->store;
}

simd_store_fn *simd_probe_fn(unsigned size)
{
	const struct mem_row *r = mem_row_of(size);

	return r ? r->probe : NULL;
}

bool simd_read(struct vcpu *cpu, gva_t lin, void *buf, unsigned size)
{
	uint8_t *p = buf;

	for (unsigned i = 0; i < size;) {
		unsigned n = size - i >= 32 ? 32 : size - i >= 8 ? 8 : size - i >= 4 ? 4 : 2;
		bool ok = n == 32  ? mmu_load(cpu, lin + i, p + i, 32)
			  : n == 8 ? mmu_load(cpu, lin + i, p + i, 8)
			  : n == 4 ? mmu_load(cpu, lin + i, p + i, 4)
				   : mmu_load(cpu, lin + i, p + i, 2);

		if (!ok) {
			return false;
		}
		i += n;
	}
	return true;
}

bool simd_write(struct vcpu *cpu, gva_t lin, const void *buf, unsigned size)
{
	const uint8_t *p = buf;

	if (!mmu_probe(cpu, lin, size, ACC_WRITE)) {
		return false;
	}
	for (unsigned i = 0; i < size;) {
		unsigned n = size - i >= 32 ? 32 : size - i >= 8 ? 8 : size - i >= 4 ? 4 : 2;
		bool ok = n == 32  ? mmu_store(cpu, lin + i, p + i, 32)
			  : n == 8 ? mmu_store(cpu, lin + i, p + i, 8)
			  : n == 4 ? mmu_store(cpu, lin + i, p + i, 4)
				   : mmu_store(cpu, lin + i, p + i, 2);

		if (!ok) {
			return false;
		}
		i += n;
	}
	return true;
}
