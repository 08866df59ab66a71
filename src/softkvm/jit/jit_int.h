/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The code cache and what the translator's files share.
 *
 * Theory of operation
 *
 * A block is the translation of a straight run of instructions within a page, from RIP on; it goes
 * on behind conditional branches that are not taken. It is found by (RIP, key, host page). Blocks
 * are shared by all vCPUs of a VM. They jump to each other directly within a page (edges); to other
 * pages, and where the target is computed, by the vCPU's own table of indirect targets (ibtc).
 *
 * Code memory is cut into regions that fill up one after the other; when the last is full, the
 * first is emptied. A region's blocks are killed (not to be found, not linked, not entered) as soon
 * as its predecessor begins to be filled; it is written again when every vCPU has left translated
 * code at least once since, and has forgotten its indirect targets before it entered it again.
 *
 * Pages that code was translated from are `struct jit_page`, found by host address. No vCPU's TLB
 * grants writes to such a page, so that every write is told to jit_wrote(). A page becomes code in
 * two steps: it is marked, so that no new write tags are given, and every vCPU is asked to drop
 * those that it has; when all have, blocks may be made from it. Until then the interpreter runs it,
 * which compares bytes and needs no such care. A copy of the page's bytes tells, whenever a vCPU
 * gets an execute tag, whether somebody else (a device of user space) has changed them.
 *
 * Invariants
 *  1. jit->lock guards everything but look-ups: pages, blocks, edges, code memory.
 *  2. A block that is found by look-up without the lock stays allocated until every vCPU has left
 *     translated code: its region is not reused before.
 *  3. A dead block is in no table and has no edge into it, and its indirect entry leads to the
 *     dispatcher.
 *  4. Blocks exist only on pages in state PAGE_CODE, and their bytes are those of page->bytes.
 *  5. Host code that may be running is changed by aligned stores of at most 8 bytes only.
 *
 * User code of 64-bit mode is translated so that it runs at any address (jit_floats): shared
 * libraries lie elsewhere in each process. Such code finds the address of its page in jit.page;
 * whoever enters a page sets it: indirect entries by the target in r11, returns by the address
 * returned to, C for all others.
 *
 * An instruction on two pages is a block of its own (`crosses`), which is only entered indirectly,
 * since both mappings count.
 *
 * Flags: translated code keeps the guest's arithmetic flags in the host's, or in vcpu.cc
 * (the interpreter's form), or both; which, is known at each place. Code that is entered
 * indirectly, and all C code, finds them in vcpu.cc. Flags that no instruction can read before they
 * are replaced may be lost.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "softkvm/cpu/ops.h"
#include "softkvm/cpu/vcpu.h"
#include "softkvm/jit/emit.h"
#include "softkvm/jit/jit.h"

#define BLOCK_INSNS     64u     /* instructions of a block at most */
#define BLOCK_ROOM      KIB(32) /* host bytes that one may need at most */
#define REGIONS         8u
#define GLUE_BYTES      KIB(16)
#define BLOCK_HASH_BITS 18
#define PAGE_HASH_BITS  15
#define PAGE_WRITES_MAX 32u  /* writes beside its code after which a page is data again */
#define PAGE_KILLS_MAX  256u /* blocks killed by writes, after which it is left alone a while */
#define PAGE_COOL       32u  /* translations that are refused then */
#define JIT_PENDING     256u
#define BLOCK_RANGES    4u

/* Of jit_block.key, beside KEY_*: made without windows (tr_window.c). */
#define KEY_CAREFUL BIT(8)

#define JIT_PROBES 6u

enum page_state {
	PAGE_DATA,    /* writes go fast */
	PAGE_PENDING, /* marked; vCPUs drop their write tags */
	PAGE_CODE,
};

struct jit_page {
	uint64_t host;
	_Atomic uint8_t state;
	bool hot; /* seen to run for long: its blocks have their look-ups inline */
	uint8_t samples;
	uint8_t cool;      /* translations to refuse yet: it was written too often */
	uint32_t sequence; /* when it became pending: see cache.c */
	uint32_t writes, kills;
	uint8_t *bytes; /* copy, while PAGE_CODE */
	struct jit_block *blocks;
	struct jit_block *crossing;    /* those that begin on the page before */
	struct jit_page *_Atomic next; /* hash chain; pages are never freed before the VM */
};

struct jit_edge {
	uint64_t target;
	uint8_t *patch;      /* writable address of the jump's displacement */
	const uint8_t *stub; /* where it leads while not linked */
	bool host_flags;     /* flags are in the host's, not in vcpu.cc */
	struct jit_block *from, *to;
	struct jit_edge *next_in; /* of `to` */
};

/* A call of an interpreter's handler: the instruction and the slot that ends it. */
struct jit_call {
	struct insn insn[2];
	uint64_t next_rip;
	struct jit_block *block;
};

struct jit_block {
	uint64_t rip;         /* or its offset in the page: see jit_floats() */
	uint64_t host, host2; /* page; the next one, if `crosses` */
	uint32_t key;
	bool dead, crosses;
	uint8_t ranges;
	struct {
		uint16_t start, end;
	} range[BLOCK_RANGES]; /* of the page: bytes that it depends on */
	uint32_t checks;       /* runs that were verified */
	uint16_t insns, region;
	const uint8_t *enter;          /* flags in the host's */
	const uint8_t *enter_memory;   /* flags in vcpu.cc */
	const uint8_t *enter_indirect; /* the same; r11 is the target. Patched when it dies. */
	struct jit_edge *in;
	struct jit_edge *edges;
	unsigned edge_count;
	uint32_t code_bytes, cold_bytes;
	struct jit_page *page;
	struct jit_block *page_next;
	struct jit_page *page2; /* if `crosses` */
	struct jit_block *cross_next;
	struct jit_block *_Atomic hash_next;
	struct jit_block *region_next;
};

/* How often operations were handed to C, and how often the interpreter began with one. */
struct jit_op_counts {
	uint64_t handled[OP_COUNT], interpreted[OP_COUNT];
};

struct arena_chunk;
struct tr;

struct jit_region {
	uint8_t *start, *end; /* writable addresses */
	struct jit_block *blocks;
	struct arena_chunk *arena;
	bool clean; /* emptied, and nobody can be inside */
	bool evicted;
	uint32_t leaves[256]; /* of each vCPU when it was evicted */
};

enum jit_lean { LEAN_SYSCALL, LEAN_SYSRET, LEAN_IRET, LEAN_COUNT };

/* Routines made once, executable addresses. */
struct jit_glue {
	const uint8_t *enter;               /* int (struct vcpu *, const uint8_t *code) */
	const uint8_t *exit_interpret;      /* rip in r11, flags in vcpu.cc */
	const uint8_t *exit_interpret_host; /* rip in r11, flags in the host's */
	const uint8_t *exit_loop;           /* rip in r11: the run loop has something to do */
	const uint8_t *exit_loop_host;
	const uint8_t *link, *link_host; /* struct jit_edge * in r11 */
	const uint8_t *indirect; /* rip XOR mix in r11, not in the ibtc, or its block is dead */

	const uint8_t *ret_miss;             /* rip in r11: the return was not predicted */
	const uint8_t *careful;              /* rip in r11: go on in a careful block */
	const uint8_t *memory;               /* called: see glue.c */
	const uint8_t *probe[2][JIT_PROBES]; /* called: [write][size as a power of 2] */
	const uint8_t *handler;              /* called: struct jit_call * in r11 */
	const uint8_t *ends;                 /* struct jit_call * in r11 */
	const uint8_t *lean[LEAN_COUNT];     /* the same, tried before: see lean.c */
	const uint8_t *vectors;              /* called: make them live; carry set: may not run */
};

struct jit {
	pthread_mutex_t lock;
	struct vm *vm;
	uint8_t *rw, *rx;
	size_t size;
	struct code code, cold; /* in the current region: blocks; their rare paths, kept apart */
	uint8_t *end, *cold_end;
	unsigned region;
	struct jit_region regions[REGIONS];
	struct jit_glue glue;
	bool avx, bmi2;                        /* of the host */
	_Atomic uint32_t page_sequence;        /* of the newest pending page */
	_Atomic uint64_t pending[JIT_PENDING]; /* pages by sequence */
	struct tr *work;                       /* the translator's */
	unsigned blocks;
	_Atomic uint32_t evictions;
	uint64_t killed, flushes;
	uint64_t insns, code_bytes, cold_bytes; /* translated so far */
	struct jit_block *_Atomic hash[1u << BLOCK_HASH_BITS];
	struct jit_page *_Atomic pages[1u << PAGE_HASH_BITS];
};

/* Why translated code returned to jit_run(). */
enum jit_exit {
	JIT_INTERPRET, /* the interpreter runs a block from cpu->rip on */
	JIT_LOOP,      /* the run loop has something to do */
	JIT_MISS,      /* no block at cpu->rip yet */
	JIT_RESULT,    /* a handler's result is in jit.result */
};

/* Where in the table of indirect targets a target is. */
static inline unsigned ibtc_slot(uint64_t target)
{
	uint32_t rip = (uint32_t)target;

	return ((rip ^ rip >> 12) >> 1) & (IBTC_ENTRIES - 1);
}

#define OFF(member)       offsetof(struct vcpu, member)
#define OFF_GPR(r)        (offsetof(struct vcpu, gpr) + 8u * (r))
#define KEY_MIX_USER(key) (((key)&KEY_USER) != 0)

/* Is code of this key the same at whatever address? Its blocks have offsets for addresses. */
static inline bool jit_floats(uint32_t key)
{
	return (key & KEY_USER) && (key & MODE_SIZE) == MODE_64;
}
static inline uint64_t jit_block_rip(uint32_t key, uint64_t rip)
{
	return jit_floats(key) ? rip & 4095 : rip;
}
/* What to add to a block's addresses. */
static inline uint64_t jit_base(const struct vcpu *cpu)
{
	return jit_floats(cpu->key) ? cpu->jit.page : 0;
}

/* --- cache.c ------------------------------------------------------------------------------- */
struct jit_block *jit_find(const struct jit *jit, uint64_t rip, uint32_t key, uint64_t host);
/* The page, made if need be; NULL: no memory. Under the lock. */
struct jit_page *jit_page_get(struct jit *jit, uint64_t host);
struct jit_page *jit_page_find(const struct jit *jit, uint64_t host);
/* May blocks be made from the page now? Marks it if it is data yet. Under the lock. */
bool jit_page_ready(struct vcpu *cpu, struct jit_page *page);
/* Room for a block in the current region; false: not now. Under the lock. */
bool jit_room(struct jit *jit);
void *jit_alloc(struct jit *jit, size_t bytes); /* lives as long as the current region's blocks */
void jit_publish(struct jit *jit, struct jit_block *b);
void jit_kill(struct jit *jit, struct jit_block *b);
/* All of the page's. */
void jit_page_kill_blocks(struct jit *jit, struct jit_page *page);
void jit_link(struct jit *jit, struct jit_edge *e, struct jit_block *to);
/* The bytes of the page are those in memory: else blocks die. Under the lock. */
void jit_page_verify(struct jit *jit, struct jit_page *page);

/* --- trace.c -------------------------------------------------------------------------------- */
/* Open what tracing needs. */
void jit_trace_init(void);
void jit_trace_block(struct jit *jit, const struct jit_block *b);

/* --- verify.c ------------------------------------------------------------------------------- */
/* Run the block at cpu->rip both ways. As jit_enter(). */
enum jit_exit jit_verify(struct vcpu *cpu, struct jit_block *b);
void jit_verify_report(const struct vcpu *cpu);
/* Does it run as it likes? Else all of its runs come by jit_verify(). */
static inline bool jit_verified(const struct jit_block *b)
{
	return likely(b->checks >= jit_options.verify);
}

/* --- glue.c -------------------------------------------------------------------------------- */
void jit_glue_make(struct jit *jit, struct code *c);

/* --- translate.c ----------------------------------------------------------------------------- */
/*
 * Translate at cpu->rip, which is on `page`; `next` is the page behind it, NULL if that is not to
 * be had. NULL: not now; *ret_next: `next` is needed. Under the lock.
 */
struct jit_block *jit_translate(struct vcpu *cpu, struct jit_page *page, struct jit_page *next,
				bool *ret_next, bool careful);
struct tr *tr_new(void); /* freed by free() */

/* --- run.c ----------------------------------------------------------------------------------- */
enum jit_exit jit_enter(struct vcpu *cpu, const struct jit_block *b);

/* --- run.c: called by translated code -------------------------------------------------------- */
const uint8_t *jit_call_indirect(struct vcpu *cpu);

const uint8_t *jit_call_link(struct vcpu *cpu, struct jit_edge *e);
const uint8_t *jit_call_careful(struct vcpu *cpu);
void *jit_call_memory(struct vcpu *cpu, gva_t lin, uint32_t what, const uint8_t *site);
int jit_call_handler(struct vcpu *cpu, const struct jit_call *call);
bool jit_call_ends(struct vcpu *cpu, const struct jit_call *call);
bool jit_call_fault(struct vcpu *cpu);
void jit_call_vectors(struct vcpu *cpu);

/* --- lean.c: called by translated code ------------------------------------------------------- */
bool jit_lean_syscall(struct vcpu *cpu, const struct jit_call *call);
bool jit_lean_sysret(struct vcpu *cpu, const struct jit_call *call);
bool jit_lean_iret(struct vcpu *cpu, const struct jit_call *call);

/* Has the run loop something to do? */
static inline bool jit_wanted_elsewhere(const struct vcpu *cpu)
{
	return atomic_load_explicit(&cpu->req, memory_order_relaxed) |
	       __atomic_load_n(&cpu->run->immediate_exit, __ATOMIC_RELAXED);
}

/* `what` of a memory call: size, access, alignment. */
enum { MEM_WRITE = BIT(8), MEM_ALIGN_SHIFT = 16 };
