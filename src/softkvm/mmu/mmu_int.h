/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The MMU of one vCPU, for this folder, cpu/blocks.c, cpu/debug.c and tests. All of it belongs to
 * the vCPU's own thread (or to who holds ioctl_lock while nobody runs the vCPU).
 */
#pragma once

#include "softkvm/mmu/memslot.h"
#include "softkvm/mmu/mmu.h"
#include "softkvm/mmu/walk.h"

/*
 * Memory bound: a table has TLB_ENTRIES entries of 32 bytes, notes of 24, and two logs of 2 bytes a
 * place. So a vCPU's ten tables take at most 10 * 480 KiB = 4.7 MiB (and 256 KiB an empty one),
 * mapped but not touched before they are used. Linux uses six PCIDs a processor.
 */
#define TLB_SPACES     8 /* PCIDs kept warm */
#define TLB_TABLES     (TLB_USER + TLB_SPACES)
#define TLB_LARGE_BITS 4096
#define TLB_CHAIN_BITS 12
#define TLB_CHAINS     (1u << TLB_CHAIN_BITS)
#define CODE_BITS      13
#define CODE_SLOTS     (1u << CODE_BITS)
#define CODE_MAX       (CODE_SLOTS / 2)
#define CODE_HOT       32 /* slow writes to a code page after which it counts as data again */
#define WATCH_MAX      4

/* Whose rights a table holds. The supervisor's are for all spaces. */
enum tlb_kind {
	TLB_SUPER,    /* supervisor, AC clear (or no SMAP), and implicit accesses */
	TLB_SUPER_AC, /* supervisor, AC set, CR4.SMAP set */
	TLB_USER,     /* and those behind it: a table a space */
	TLB_KINDS
};

/* What stands behind an entry. */
struct tlb_note {
	gva_t lin;           /* page; meaningful with NOTE_VALID */
	uint64_t flags;      /* guest-physical page | NOTE_* */
	uint32_t next, prev; /* entries of the same chain: numbers; with NOTE_CHAINED */
};
enum {
	NOTE_VALID = BIT(0),
	NOTE_GLOBAL = BIT(1),
	NOTE_SIZE = 3 << 2, /* enum page_size, shifted */
	NOTE_SIZE_SHIFT = 2,
	NOTE_RSLOW = BIT(4), /* reads allowed, but watched: no rtag */
	NOTE_WSLOW = BIT(5), /* writes allowed, dirty bits set, but watched or code: no wtag */
	/* tlb.c's own */
	NOTE_CHAINED = BIT(6),
	NOTE_LOGGED = BIT(7), /* the place is in log[TLB_LOG_LOCAL] */
	NOTE_LOGGED_GLOBAL = BIT(8),
	NOTE_LOGGED_ANY = NOTE_LOGGED | NOTE_LOGGED_GLOBAL,
};
#define NOTE_GPA     0x000ffffffffff000ull
#define NOTE_OF_PAGE (NOTE_GPA | NOTE_GLOBAL | NOTE_SIZE | NOTE_RSLOW | NOTE_WSLOW)

/* Places where entries were put since the log was emptied. */
enum tlb_log { TLB_LOG_LOCAL, TLB_LOG_GLOBAL, TLB_LOGS };

struct tlb_table {
	struct tlb_entry *entry; /* TLB_ENTRIES */
	struct tlb_note *note;   /* TLB_ENTRIES */
	uint16_t *log[TLB_LOGS]; /* TLB_ENTRIES each */
	unsigned logged[TLB_LOGS];
	unsigned sizes; /* a bit an enum page_size: large pages that have (or had) entries */
	uint64_t large[TLB_LARGE_BITS / 64]; /* their numbers, hashed */
};

struct tlb_space {
	uint32_t pcid;
	bool used;
	uint64_t last_use;
};

/* A page of host memory that this vCPU has an execute tag for: no table holds a write tag. */
struct code_page {
	uint64_t host;   /* 0: free */
	uint32_t writes; /* slow writes seen */
};

struct watch {
	gva_t lin;
	unsigned len;
	bool write_only;
};

/* Where an access goes: RAM at `host`, else a device (or nothing) at `gpa`. */
struct target {
	uint8_t *host;
	gpa_t gpa;
};
/* The same for an access that may cross into a second page. */
struct span {
	struct target part[2];
	unsigned len[2]; /* len[1] is 0 within a page */
};

struct mmu {
	struct tlb_table table[TLB_TABLES];
	struct tlb_table *kind[TLB_KINDS]; /* of the current space */
	struct tlb_space space[TLB_SPACES];
	unsigned cur;           /* the current space */
	struct tlb_entry *none; /* a table that grants nothing: every access takes the slow path */
	/* Entries that may write or execute, by host page: the first entry's number, or 0. */
	uint32_t chain[TLB_CHAINS];
	unsigned chained; /* entries in all of them */
	uint64_t use_clock;
	void *memory; /* the tables' mapping */
	size_t memory_bytes;
	struct walk_env env; /* control registers as the walker wants them */
	struct code_page code[CODE_SLOTS];
	unsigned code_count;
	/* data breakpoints in force (debug.c) */
	struct watch watch[WATCH_MAX];
	uint8_t watch_on; /* bit per watch */
	struct span rmw;  /* from mmu_rmw_begin() to mmu_rmw_commit() */
};

/* --- tlb.c ------------------------------------------------------------------------------- */
static inline enum tlb_kind mmu_kind(const struct vcpu *cpu, bool system)
{
	if (system) {
		return TLB_SUPER;
	}
	if (cpu->cpl == 3) {
		return TLB_USER;
	}
	return (cpu->rflags & FL_AC) && (cpu->cr4 & CR4_SMAP) ? TLB_SUPER_AC : TLB_SUPER;
}
/* Alignment is checked (SDM 3A 6.15, vector 17): CPL 3 with CR0.AM and RFLAGS.AC. */
static inline bool mmu_checks_alignment(const struct vcpu *cpu)
{
	return cpu->cpl == 3 && (cpu->cr0 & CR0_AM) && (cpu->rflags & FL_AC);
}
int tlb_init(struct mmu *m);
void tlb_done(struct mmu *m);
/* Put a translation in; `tags` says which accesses may go fast. */
struct tlb_fill {
	gva_t lin; /* page */
	uint8_t *host;
	uint64_t note; /* gpa page | NOTE_* */
	bool r, w, x;
};
void tlb_put(struct mmu *m, struct tlb_table *t, const struct tlb_fill *f);
/* Is there an entry of the present rights for this address, and is it global? */
bool tlb_is_global(const struct vcpu *cpu, gva_t lin);
/* Take write (or execute) tags for a host page from every table. */
void tlb_drop_tags(struct mmu *m, const uint8_t *host_page, bool exec);

/* --- code.c ------------------------------------------------------------------------------- */
bool code_has(const struct mmu *m, const uint8_t *host);
/* The page gets an execute tag now: its write tags go. */
void code_add(struct vcpu *cpu, uint8_t *host);
/* [host, host+len) is, or is about to be, written by the instruction under way. */
void code_wrote(struct vcpu *cpu, const uint8_t *host, size_t len);
void code_clear(struct mmu *m); /* all execute tags are gone */

/* --- mmu.c -------------------------------------------------------------------------------- */
/* Translate an access that stays within a page. False: cpu->fault. */
bool mmu_access(struct vcpu *cpu, gva_t lin, enum mmu_access acc, enum tlb_kind kind,
		struct target *ret);
/*
 * Code at a linear address: its host address, and the bytes up to the page's end in *ret_avail.
 * NULL: cpu->fault, or MMU_NEEDS_EXIT if there is no RAM (run is filled).
 */
uint8_t *mmu_fetch(struct vcpu *cpu, gva_t lin, unsigned *ret_avail);
static inline void mmu_env_refresh(struct vcpu *cpu)
{
	struct walk_env *env = &cpu->mmu->env;

	env->cr0 = cpu->cr0;
	env->cr3 = cpu->cr3;
	env->cr4 = cpu->cr4;
	env->efer = cpu->efer;
}

/* --- io.c --------------------------------------------------------------------------------- */
/* Device accesses of any length; false: MMU_NEEDS_EXIT (or the log is full). */
bool io_mmio_read(struct vcpu *cpu, gpa_t gpa, void *out, unsigned len);
bool io_mmio_write(struct vcpu *cpu, gpa_t gpa, const void *in, unsigned len);
