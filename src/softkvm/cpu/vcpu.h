/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of one virtual processor. Owner: the thread inside KVM_RUN, or who
 * holds `ioctl_lock` while nobody runs it. Only the _Atomic members may be
 * touched by other threads.
 *
 * Invariants
 *  1. gpr[GPR_ZERO] == 0 and segbase[SEG_NONE] == 0, always.
 *  2. segbase[i] is what address forms add: seg[i].base, but 0 for ES, CS, SS
 *     and DS in 64-bit mode. cpu_mode_changed() makes it so after each change of
 *     segments, CR0, CR4, EFER or RFLAGS.VM.
 *  3. `rip` is exact between blocks; inside one, an instruction's address is
 *     blk_va + in->off.
 *  4. `cc` holds the arithmetic flags, `rflags` all others (bit 1 set).
 *     cpu_rflags() and cpu_set_rflags() put them together.
 */
#pragma once

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/util.h"
#include "softkvm/cpu/features.h"
#include "softkvm/cpu/fpu.h"
#include "softkvm/cpu/insn.h"
#include "softkvm/jit/jit_vcpu.h"

struct vm;
struct lapic;
struct mmu;
struct block;
struct blocks;
struct tlb_entry;

/* RFLAGS */
enum {
	FL_CF = BIT(0),
	FL_PF = BIT(2),
	FL_AF = BIT(4),
	FL_ZF = BIT(6),
	FL_SF = BIT(7),
	FL_TF = BIT(8),
	FL_IF = BIT(9),
	FL_DF = BIT(10),
	FL_OF = BIT(11),
	FL_IOPL = 3 << 12,
	FL_NT = BIT(14),
	FL_RF = BIT(16),
	FL_VM = BIT(17),
	FL_AC = BIT(18),
	FL_VIF = BIT(19),
	FL_VIP = BIT(20),
	FL_ID = BIT(21),
	FL_ARITH = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF,
	FL_FIXED = BIT(1),
};

#define CR0_PE         BIT64(0)
#define CR0_MP         BIT64(1)
#define CR0_EM         BIT64(2)
#define CR0_TS         BIT64(3)
#define CR0_ET         BIT64(4)
#define CR0_NE         BIT64(5)
#define CR0_WP         BIT64(16)
#define CR0_AM         BIT64(18)
#define CR0_NW         BIT64(29)
#define CR0_CD         BIT64(30)
#define CR0_PG         BIT64(31)
#define CR4_VME        BIT64(0)
#define CR4_PVI        BIT64(1)
#define CR4_TSD        BIT64(2)
#define CR4_DE         BIT64(3)
#define CR4_PSE        BIT64(4)
#define CR4_PAE        BIT64(5)
#define CR4_MCE        BIT64(6)
#define CR4_PGE        BIT64(7)
#define CR4_PCE        BIT64(8)
#define CR4_OSFXSR     BIT64(9)
#define CR4_OSXMMEXCPT BIT64(10)
#define CR4_UMIP       BIT64(11)
#define CR4_LA57       BIT64(12)
#define CR4_FSGSBASE   BIT64(16)
#define CR4_PCIDE      BIT64(17)
#define CR4_OSXSAVE    BIT64(18)
#define CR4_SMEP       BIT64(20)
#define CR4_SMAP       BIT64(21)
#define EFER_SCE       BIT64(0)
#define EFER_LME       BIT64(8)
#define EFER_LMA       BIT64(10)
#define EFER_NX        BIT64(11)

/* Exception vectors */
enum vector {
	EX_DE,
	EX_DB,
	EX_NMI,
	EX_BP,
	EX_OF,
	EX_BR,
	EX_UD,
	EX_NM,
	EX_DF,
	EX_CSO,
	EX_TS,
	EX_NP,
	EX_SS,
	EX_GP,
	EX_PF,
	EX_MF = 16,
	EX_AC,
	EX_MC,
	EX_XM,
};

/*
 * The block key: what a block's code took for granted besides bytes and address.
 * The low bits are enum insn_mode.
 */
enum {
	KEY_MODE = 15,     /* enum insn_mode */
	KEY_SS32 = BIT(4), /* stack pointer is ESP (16-bit SP without it; ignored in 64-bit mode) */
	KEY_USER = BIT(5), /* CPL 3 */
	KEY_PE = BIT(6),   /* protected mode and not virtual-8086 */
	KEY_BITS = 7,
};

/* Why a vCPU must leave its blocks. Set with vcpu_request(). */
enum vcpu_req {
	REQ_KICK = BIT(0),      /* leave KVM_RUN with -EINTR */
	REQ_EVENT = BIT(1),     /* look at interrupts, NMI, INIT, SIPI, SMI, timers */
	REQ_TLB_FLUSH = BIT(2), /* drop the whole TLB (memslots, remote flush) */
	REQ_JIT = BIT(3),       /* leave translated code; drop write tags of code pages */
	REQ_CLOCK = BIT(4),     /* refresh kvm-clock's page */
	REQ_STEAL = BIT(5),     /* refresh the steal-time page */
	REQ_PAUSE = BIT(6),     /* stop at the next boundary until told (memslot change, …) */
	REQ_TRIPLE = BIT(7),    /* triple fault: KVM_EXIT_SHUTDOWN */
	REQ_TRAP = BIT(8),      /* own thread: a data or I/O breakpoint was hit (mmu) */
	REQ_STEP = BIT(9),      /* own thread: set while a single instruction is run (block_step) */
};

struct segment {
	uint64_t base;
	uint32_t limit; /* in bytes, granularity applied */
	uint16_t sel;
	uint8_t type, s, dpl, present, l, db, g, avl;
	uint8_t unusable; /* null selector loaded */
};

struct dtable {
	uint64_t base;
	uint16_t limit;
};

/* A fault or trap to deliver. CPU faults are values. */
struct fault {
	uint8_t vector;
	bool has_error;
	bool has_payload;  /* payload: CR2 for #PF, DR6 bits for #DB; applied at delivery */
	bool noncanonical; /* #GP(0) by address form; #SS(0) if the access was to the stack */
	bool trap;         /* pushed RIP is that of the next instruction (already in cpu->rip) */
	uint32_t error;
	uint64_t payload;
};

/* Pending and injected events, in the shape that KVM_GET_VCPU_EVENTS shows. Owned by event.c. */
struct events {
	struct fault exception; /* valid if exception_pending or exception_injected */
	bool exception_pending; /* not delivered yet, may still be merged to #DF */
	bool exception_injected;
	bool interrupt_injected; /* vector interrupt_nr must be delivered first */
	bool interrupt_soft;
	uint8_t interrupt_nr;
	bool nmi_injected, nmi_masked;
	_Atomic uint8_t nmi_pending; /* 0..2 */
	_Atomic bool smi_pending;
	bool smm;       /* in SMM */
	uint8_t shadow; /* SHADOW_*: interrupts held off for one instruction */
	_Atomic bool triple_fault;
	_Atomic bool pv_unhalted; /* KVM_HC_KICK_CPU came: the next HLT does not halt */
	uint32_t debug_bits;      /* DR6 bits of a #DB trap due after the instruction under way */
	uint64_t soft_bp_rip;     /* where a guest's INT3 was given to the debugger, ~0: nowhere */
};
enum {
	SHADOW_STI = 1,
	SHADOW_MOVSS = 2
}; /* as KVM_X86_SHADOW_INT_* : MOV_SS=1, STI=2 on the wire */

/*
 * Accesses to devices outside (KVM_EXIT_IO, KVM_EXIT_MMIO) by the instruction
 * under way. The instruction is started over at each KVM_RUN until none is
 * missing; accesses already done are answered from here. Owned by mmu/io.c.
 */
#define IO_LOG_MAX 128 /* XSAVE's 832 bytes in pieces of 8 */
struct io_access {
	gpa_t addr; /* gpa or port */
	uint8_t pio, write, len, done;
	uint16_t count; /* PIO: elements, their data is in the run mapping's second page */
	uint8_t data[8];
};
struct io_log {
	unsigned count;   /* recorded */
	unsigned cursor;  /* next to be asked for by the instruction */
	bool replay;      /* the instruction at RIP starts over with this log at the next KVM_RUN */
	uint64_t counter; /* RCX, RSI, RDI at the first: tells a string's iterations apart */
	struct io_access acc[IO_LOG_MAX];
};

struct vcpu {
	/* --- hot ------------------------------------------------------------------- */
	uint64_t gpr[GPR_COUNT];
	uint64_t rip;
	uint64_t blk_va; /* linear... RIP of the block's first instruction */
	uint64_t segbase[SEG_COUNT];
	struct block *blk;     /* the block under way */
	struct block **front;  /* direct-mapped cache of blocks, see blocks.h */
	struct tlb_entry *tlb; /* the table of the current address space and privilege */
	struct tlb_entry *tlb_super[2], *tlb_user; /* what it may be: by AC, and for CPL 3 */
	uint64_t rflags;                           /* without FL_ARITH */
	uint32_t cc;  /* arithmetic flags: bits 15..8 as lahf gives them, bit 0 = OF; see exec.h */
	uint32_t key; /* block key */
	uint8_t cpl;
	uint8_t fp_trap;       /* FPTRAP_*: which FP classes trap now, see fpu.h */
	_Atomic uint32_t req;  /* enum vcpu_req; also a futex word */
	_Atomic bool in_guest; /* inside the block loop: touches TLB and blocks */
	_Atomic bool sleeping; /* halted in a futex wait on `req` */
	struct fault fault;
	uintptr_t stack_floor; /* host stack: below it, block_chain() returns to the run loop */
	uint64_t insn_count;   /* retired, about; for statistics */

	/* --- registers --------------------------------------------------------------- */
	struct segment seg[6], tr, ldtr;
	struct dtable gdt, idt;
	uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
	uint64_t dr[4], dr6, dr7;
	struct fpu fpu;

	/* --- MSRs (owned by msr.c unless said) ------------------------------------------ */
	struct {
		uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
		uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
		uint64_t pat, misc_enable, tsc_aux, tsc_adjust, spec_ctrl, debugctl;
		uint64_t mtrr_def, mtrr_fixed[11], mtrr_phys[16];
		uint64_t mcg_cap, mcg_status, mcg_ctl, mc_bank[32 * 4], smbase, microcode,
			arch_caps, platform_info, misc_features, feature_control, xss, hwcr, de_cfg,
			virt_spec_ctrl, power_ctl, osvw_length, osvw_status;
		/* KVM's own */
		uint64_t kvm_system_time, kvm_wall_clock, kvm_steal_time, kvm_pv_eoi, kvm_async_pf,
			kvm_async_pf_int, kvm_poll_control, kvm_migration_control;
	} msr;
	int64_t tsc_offset; /* guest TSC = host TSC + offset (scaled if tsc_khz differs) */
	uint32_t tsc_khz;

	/* --- events, exits, environment --------------------------------------------------- */
	struct events ev;
	struct io_log io;
	struct kvm_run *run; /* mapped; [1] PIO data page, [2] coalesced ring */
	struct vm *vm;
	struct lapic *lapic; /* NULL without in-kernel APIC */
	uint64_t cr8,
		apic_base; /* only without in-kernel APIC: see lapic_get_cr8(), lapic_get_base() */
	_Atomic uintptr_t runner; /* the thread in KVM_RUN (pthread_t), 0: none */
	bool has_run;             /* KVM_RUN was called: CPUID is fixed now */
	_Atomic int ext_vector;   /* KVM_INTERRUPT with a split irqchip, -1: none */
	struct mmu *mmu;
	struct blocks *blocks;
	uint32_t id;               /* APIC id as created */
	_Atomic uint32_t mp_state; /* KVM_MP_STATE_* */
	struct kvm_guest_debug guest_debug;
	struct kvm_cpuid_entry2 *cpuid; /* as set by KVM_SET_CPUID2 */
	uint32_t cpuid_count;
	struct cpu_features feat; /* cached from cpuid by cpu_features_update() */
	/* KVM_EXIT_X86_RDMSR, _WRMSR, _HYPERCALL under way; exec_sys_complete() finishes it. */
	struct {
		uint32_t reason; /* KVM_EXIT_*, 0: none */
		uint64_t rip, next_rip;
	} user_exit;
	/* steal time */
	uint64_t steal_run_delay; /* /proc's counter at the last look */
	ns_t steal_checked_ns;
	bool clock_stopped;    /* KVM_KVMCLOCK_CTRL came */
	sigset_t *sigmask;     /* KVM_SET_SIGNAL_MASK, NULL: none */
	uint32_t halt_spin_ns; /* how long halting spins before it sleeps; adapts (run.c) */
	int fd;
	pthread_mutex_t ioctl_lock;
	struct jit_vcpu jit;
};

/*
 * Ask a vCPU to leave its blocks: any thread, async-signal-safe. Wakes it if it
 * is halted. The memory order is release: what the caller wrote before is seen by the vCPU.
 */
void vcpu_request(struct vcpu *cpu, uint32_t req);

/*
 * Set all of RFLAGS: bits that do not exist are dropped, derived state follows. Read them by
 * cpu_rflags() (exec.h).
 */
void cpu_set_rflags(struct vcpu *cpu, uint64_t v);
/*
 * To be called after any change of CR0, CR4, EFER, segments, CPL or RFLAGS.VM/AC:
 * recomputes key, segbase, fp_trap and the current TLB table. (seg.c)
 */
void cpu_mode_changed(struct vcpu *cpu);
/*
 * CR4 bits that this vCPU may have, set by its guest or by user space. As with KVM, the old ones
 * are what any processor has, whatever CPUID says. (exec_sys_cr.c)
 */
uint64_t cpu_cr4_valid(const struct vcpu *cpu);
/* The state after RESET or INIT (SDM 3A table 10-1). */
void cpu_reset(struct vcpu *cpu, bool init);
