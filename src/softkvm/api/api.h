/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of this folder share: one call's arguments, the tables of
 * ioctls, the life of VMs and vCPUs.
 *
 * Each ioctl is one row {number, how its argument is passed, locks, handler}. The
 * dispatcher copies the argument in, takes the lock, calls the handler and, if the
 * result is not negative, copies the argument back out.
 */
#pragma once

#include <linux/kvm.h>

#include "softkvm/cpu/vcpu.h"
#include "softkvm/vm.h"

/* Pages of a vCPU's mapping: run structure, PIO data, coalesced ring. */
#define RUN_PAGES         3u
#define RING_PAGE         2u /* KVM_COALESCED_MMIO_PAGE_OFFSET */
#define RUN_SIZE_BYTES    (RUN_PAGES * 4096u)
#define MCE_BANKS_MAX     32u
#define MCG_CAP_SUPPORTED (BIT64(8) | BIT64(24)) /* MCG_CTL_P, MCG_SER_P */

/* Values of KVM_CAP_* that are used in more than one place. */
#define X2APIC_API_FLAGS (KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)
#define QUIRKS_KNOWN                                                             \
	(KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_CD_NW_CLEARED |           \
	 KVM_X86_QUIRK_LAPIC_MMIO_HOLE | KVM_X86_QUIRK_OUT_7E_INC_RIP |          \
	 KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | KVM_X86_QUIRK_FIX_HYPERCALL_INSN | \
	 KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS)
#define USER_MSR_MASK \
	(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER)
#define CLOCK_FLAGS_VALID (KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC)
#define SYNC_REGS_VALID   (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)
#define GUESTDBG_VALID                                                              \
	(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP |   \
	 KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_INJECT_DB | \
	 KVM_GUESTDBG_BLOCKIRQ)

struct api_call {
	struct vm *vm;     /* VM and vCPU ioctls */
	struct vcpu *cpu;  /* vCPU ioctls */
	void *arg;         /* copy of the argument (ARG_IN, ARG_OUT), else NULL */
	unsigned long raw; /* as given */
	uint32_t request;
	int cancel_state; /* KVM_RUN: to be put back when nothing is held any more */
};

typedef int api_fn(struct api_call *c);

enum {
	ARG_NONE = 0,     /* `raw` is a number, or must be 0 */
	ARG_IN = BIT(0),  /* a structure of the size in the request, copied in */
	ARG_OUT = BIT(1), /* copied back out on success */
	ARG_RAW = BIT(2), /* a pointer that the handler follows itself (variable length) */
	/* VM: holds vm->lock. vCPU calls hold ioctl_lock, and slots stay, anyway. */
	CALL_LOCKED = BIT(3),
	CALL_RUN = BIT(4), /* KVM_RUN: says itself when slots must not change */
};

struct ioctl_row {
	uint32_t request;
	uint32_t flags;
	api_fn *fn;
};

/* The tables; each ends with a row of request 0. (ioctl_system.c, ioctl_vm.c, ioctl_vcpu.c) */
extern const struct ioctl_row ioctl_system_rows[];
extern const struct ioctl_row ioctl_vm_rows[];
extern const struct ioctl_row ioctl_vcpu_rows[];

/* --- system -------------------------------------------------------------------------- */
/* KVM_CHECK_EXTENSION; vm NULL: asked of the system. (caps.c) */
int caps_check(struct vm *vm, unsigned long cap);
/* KVM_ENABLE_CAP; vm->lock held. (caps.c) */
int caps_enable_vm(struct vm *vm, const struct kvm_enable_cap *cap);
int caps_enable_vcpu(struct vcpu *cpu, const struct kvm_enable_cap *cap);
/* GET_MSRS, SET_MSRS and the index lists: number of MSRs handled, or -errno. cpu NULL: features.
 * (msrs.c) */
int msrs_get(struct vcpu *cpu, uint64_t user);
int msrs_set(struct vcpu *cpu, uint64_t user);
int msrs_list(uint64_t user, bool features);
/* KVM_X86_SET_MSR_FILTER; vm->lock held. (msr_filter.c) */
int msr_filter_set(struct vm *vm, uint64_t user);
/* Options of SOFTKVM_OPTS, once for the process. */
void options_from_environment(void);
/* softkvm_set_options("stats"): what the VM did, to standard error. (options.c) */
void options_report(const struct vm *vm);
void msr_filter_free(struct msr_filter *f); /* NULL is fine */

/* --- life ---------------------------------------------------------------------------- */
/* A new VM with one reference. (vm.c) */
int vm_new(unsigned long type, struct vm **ret);
/* The VM's last descriptor is gone: eventfds are let go, and one reference dropped. */
void vm_release(struct vm *vm);
void vm_unref(struct vm *vm);
/* A new vCPU; vm->lock held; *ret_fd is registered. (vcpu.c) */
int vcpu_create_locked(struct vm *vm, uint32_t id, int *ret_fd);
/* Its last descriptor is gone: it holds its VM no more, and is freed with it. */
void vcpu_release(struct vcpu *cpu);
void vcpu_free(struct vcpu *cpu);
/* The VM's one ring takes the place of the last page of a mapping of the run structure. -errno. */
int vcpu_map_ring(struct vm *vm, void *run);
struct vcpu *vm_vcpu_by_id(struct vm *vm, uint32_t id);
/* A memfd of ours. -errno. */
int api_memfd(const char *name, size_t size_bytes);

/* --- vCPU -------------------------------------------------------------------------------- */
int api_run(struct api_call *c); /* KVM_RUN (run.c) */
/* The request for the vCPU that the calling thread runs, if any; async-signal-safe. (run.c) */
void api_kick_self(void);

/* State in KVM's structures (regs.c, sregs.c, events.c). */
void regs_get(struct vcpu *cpu, struct kvm_regs *r);
void regs_set(struct vcpu *cpu, const struct kvm_regs *r);
void sregs_get(struct vcpu *cpu, struct kvm_sregs *s);
int sregs_set(struct vcpu *cpu, struct kvm_sregs *s);
void sregs2_get(struct vcpu *cpu, struct kvm_sregs2 *s);
int sregs2_set(struct vcpu *cpu, struct kvm_sregs2 *s);
void events_get(struct vcpu *cpu, struct kvm_vcpu_events *e);
int events_set(struct vcpu *cpu, const struct kvm_vcpu_events *e);

/* --- clock (clock.c) ------------------------------------------------------------------ */
/* Frequency of the host's time-stamp counter. */
uint32_t clock_host_tsc_khz(void);
uint64_t clock_host_tsc_now(void);
/* The guest's kvm-clock now. */
uint64_t clock_kvm_ns(const struct vm *vm);
int clock_get(struct vm *vm, struct kvm_clock_data *d);
int clock_set(struct vm *vm, const struct kvm_clock_data *d);
