/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way of an instruction to memory: a software TLB in front of the page
 * walk. The inline functions are the fast path; everything unusual (miss,
 * page crossing, MMIO, code pages, dirty log, watchpoints) is in mmu_slow_*().
 *
 * All functions belong to the vCPU's own thread. A false (or NULL) result means
 * that cpu->fault is filled, or that an exit is needed (cpu->fault.vector == MMU_NEEDS_EXIT):
 * the handler must change nothing more and `return exec_abort(cpu, in)`.
 */
#pragma once

#include "softkvm/cpu/vcpu.h"

#define MMU_NEEDS_EXIT 0xff /* fault.vector: not a fault, KVM_RUN must return and start over */

/*
 * Interplay with KVM_EXIT_*: cpu->run is filled by the function that fails; see io.c for how
 * the instruction is started over. Handlers need to know only this: an instruction may make its
 * accesses again from the start, and each iteration of a string instruction commits RCX, RSI,
 * RDI before the next.
 */
#define TLB_BITS    13
#define TLB_ENTRIES (1u << TLB_BITS)

/*
 * Tags are page-aligned linear addresses; an entry that grants nothing holds a
 * tag of another page index, which no address of this index can match.
 */
struct tlb_entry {
	uint64_t rtag, wtag, xtag;
	uint64_t host; /* address of the page in this process */
};

enum mmu_access { ACC_READ = 0, ACC_WRITE = 1, ACC_EXEC = 2, ACC_RMW = 3 };

bool mmu_slow_load(struct vcpu *cpu, gva_t lin, void *out, unsigned size, bool system);
bool mmu_slow_store(struct vcpu *cpu, gva_t lin, const void *in, unsigned size, bool system);

static inline struct tlb_entry *mmu_tlb(const struct vcpu *cpu, gva_t lin)
{
	return &cpu->tlb[(lin >> 12) & (TLB_ENTRIES - 1)];
}

/* Where an address that the entry grants lies in this process. */
static inline void *tlb_host(const struct tlb_entry *e, gva_t lin)
{
	return (void *)(uintptr_t)(e->host + (lin & 4095));
}

/* Read or write `size` (a constant) bytes at a linear address with the current privilege. */
static inline bool mmu_load(struct vcpu *cpu, gva_t lin, void *out, unsigned size)
{
	const struct tlb_entry *e = mmu_tlb(cpu, lin);

	if (likely(lin - e->rtag <= 4096 - size)) {
		memcpy(out, tlb_host(e, lin), size);
		return true;
	}
	return mmu_slow_load(cpu, lin, out, size, false);
}

static inline bool mmu_store(struct vcpu *cpu, gva_t lin, const void *in, unsigned size)
{
	const struct tlb_entry *e = mmu_tlb(cpu, lin);

	if (likely(lin - e->wtag <= 4096 - size)) {
		memcpy(tlb_host(e, lin), in, size);
		return true;
	}
	return mmu_slow_store(cpu, lin, in, size, false);
}

/*
 * For read-modify-write: the host address of [lin, lin+size) if it is writable
 * RAM within one page (reads and writes through it are plain or atomic, as the
 * caller likes, until the handler ends); else NULL with *ret_slow true: do it by
 * mmu_rmw_begin/commit; or NULL with *ret_slow false: fault.
 * Write permission is checked first, as RMW instructions fault.
 */
void *mmu_rmw_slow(struct vcpu *cpu, gva_t lin, unsigned size, bool *ret_slow);
static inline void *mmu_rmw(struct vcpu *cpu, gva_t lin, unsigned size, bool *ret_slow)
{
	const struct tlb_entry *e = mmu_tlb(cpu, lin);

	if (likely(lin - e->wtag <= 4096 - size)) {
		return tlb_host(e, lin);
	}
	return mmu_rmw_slow(cpu, lin, size, ret_slow);
}

/*
 * The slow form (MMIO, page crossing, code page, dirty logging): reads the old value after
 * write permission of all pages was checked; commit writes the new one (always, cmpxchg too) and
 * cannot fault, but may need an exit (false). Between both the VM's split lock is
 * held if `locked`; commit releases it; mmu_rmw_cancel() releases without writing.
 */
bool mmu_rmw_begin(struct vcpu *cpu, gva_t lin, void *old, unsigned size, bool locked);
bool mmu_rmw_commit(struct vcpu *cpu, gva_t lin, const void *val, unsigned size, bool locked);
void mmu_rmw_cancel(struct vcpu *cpu, bool locked);

/* Implicit supervisor accesses (descriptor tables, TSS, event delivery): CPL 0 whatever cpl is. */
bool mmu_sys_load(struct vcpu *cpu, gva_t lin, void *out, unsigned size);
bool mmu_sys_store(struct vcpu *cpu, gva_t lin, const void *in, unsigned size);

/*
 * Check that [lin, lin+size) (any size up to 4096+) could be accessed, and fill the TLB:
 * for instructions that must fault before they change anything.
 */
bool mmu_probe(struct vcpu *cpu, gva_t lin, unsigned size, enum mmu_access acc);

/*
 * Longest run for string instructions: how many bytes from `lin` up (`down`: ending with the
 * element of `size` bytes at lin, downwards) may be accessed directly; 0 if none (use
 * mmu_load/store element by element, which also find the fault). *ret_host is the host address
 * of `lin` itself, in both directions. At most to the page's end. For writes, marks what must
 * be marked. A store through it may end the block behind this instruction, so handlers must
 * leave by exec_next() or exec_end().
 *
 * With REQ_STEP in cpu->req a repeated string instruction does one iteration, and ends
 * with cpu->rip at itself if more are left.
 */
unsigned mmu_run(struct vcpu *cpu, gva_t lin, enum mmu_access acc, bool down, unsigned size,
		 void **ret_host);

/* Page-table walk without side effects, for KVM_TRANSLATE and debuggers: false if not mapped. */
bool mmu_translate(struct vcpu *cpu, gva_t lin, gpa_t *ret_gpa, bool *ret_writable, bool *ret_user);

/* --- what system instructions call ---------------------------------------------- */
void mmu_flush_all(struct vcpu *cpu);                 /* everything, global pages too */
void mmu_flush_nonglobal(struct vcpu *cpu);           /* all PCIDs' non-global entries */
void mmu_flush_page(struct vcpu *cpu, gva_t lin);     /* INVLPG: current PCID and globals */
void mmu_flush_pcid(struct vcpu *cpu, uint16_t pcid); /* INVPCID type 1 */
void mmu_flush_pcid_page(struct vcpu *cpu, uint16_t pcid, gva_t lin); /* INVPCID type 0 */
/* After CR3 was loaded: `noflush` is bit 63 of the source with CR4.PCIDE. PAE: PDPTRs are loaded
 * before, false = #GP is due (reserved bits); nothing changed then. */
bool mmu_set_cr3(struct vcpu *cpu, uint64_t cr3, bool noflush);
/* After CR0.PG/WP, CR4.PAE/PSE/PGE/SMEP/SMAP/PCIDE/LA57 or EFER.NXE/LMA changed: reload. */
bool mmu_paging_changed(struct vcpu *cpu, uint64_t old_cr0, uint64_t old_cr4, uint64_t old_efer);
/* Choose cpu->tlb for the present CPL, AC and address space; called by cpu_mode_changed(). */
void mmu_select_tlb(struct vcpu *cpu);

/* --- ports: IN, OUT, INS, OUTS -------------------------------------------------------- */
/*
 * Port access of 1, 2 or 4 bytes: in-VM devices answer at once, others by an exit. For outs/ins
 * with rep, run.c packs up to a page of elements into one exit where the API allows.
 */
bool io_port_in(struct vcpu *cpu, uint16_t port, void *out, unsigned size);
bool io_port_out(struct vcpu *cpu, uint16_t port, const void *in, unsigned size);
/*
 * `count` elements of `size` bytes between the port and `buf` (count * size <= 4096), for REP INS
 * and OUTS: one exit for all of them. False as above, nothing is done then. The caller probes
 * the memory first, and moves RCX, RSI or RDI in the same handler call that got true.
 */
bool io_port_in_rep(struct vcpu *cpu, uint16_t port, void *buf, unsigned size, unsigned count);
bool io_port_out_rep(struct vcpu *cpu, uint16_t port, const void *buf, unsigned size,
		     unsigned count);

/* --- life ----------------------------------------------------------------------------- */
int mmu_vcpu_init(struct vcpu *cpu); /* 0 or -ENOMEM; cpu->vm is set */
/* MAXPHYADDR and page sizes follow the guest's CPUID: after it was set. */
void mmu_cpuid_changed(struct vcpu *cpu);
void mmu_vcpu_done(struct vcpu *cpu);
