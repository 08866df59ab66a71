/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of this folder share.
 *
 * Theory of operation
 *
 *	eventfd ─► service thread ─┐            ┌─► PIC ──output──► vCPU that takes EXTINT
 *	KVM_IRQ_LINE ──────────────┼─► routing ─┼─► IOAPIC ─┐
 *	8254, resampling irqfds ───┘            └─► MSI ────┴─► message ─► LAPIC ─► REQ_EVENT
 *	KVM_SIGNAL_MSI, IPIs ────────────────────────────────► message ─┘
 *
 *  - chip->lock guards the PIC, the IOAPIC, the PIT, routing and the irqfds. Functions
 *    named _locked want it. No callback leaves the folder under it but eventfd writes, which do not
 *block.
 *  - A message is delivered without a lock: the receiver's IRR and TMR are changed
 *    by atomic operations, then REQ_EVENT makes it look. All other LAPIC registers belong to
 *    its vCPU's thread, or to who holds its ioctl_lock while it does not run; senders
 *    read ID, LDR, DFR, SVR and the base as whole 32- or 64-bit words.
 *  - ioeventfds are read by vCPU threads without a lock:
 *    they change only while the vCPUs stand still (vm_pause_vcpus()).
 *  - timers: see service.c.
 */
#pragma once

#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/memslot.h"

#define IOAPIC_PINS       24u
#define PIC_PINS          16u
#define GSI_MAX           4096u /* KVM_CAP_IRQ_ROUTING */
#define APIC_DEFAULT_BASE 0xfee00000ull
#define IOAPIC_BASE       0xfec00000ull
#define IOAPIC_SIZE       0x100u
#define NEVER             INT64_MAX

/* Who may hold a line up; ORed. */
enum irq_source { SOURCE_USER, SOURCE_RESAMPLE, SOURCE_PIT };

/* --- messages --------------------------------------------------------------------------- */
enum delivery_mode {
	DELIVER_FIXED,
	DELIVER_LOWEST,
	DELIVER_SMI,
	DELIVER_RESERVED,
	DELIVER_NMI,
	DELIVER_INIT,
	DELIVER_SIPI,
	DELIVER_EXTINT,
};
enum shorthand { DEST_FIELD, DEST_SELF, DEST_ALL, DEST_OTHERS };

struct irq_msg {
	uint32_t dest;
	uint8_t vector, mode, shorthand;
	bool logical, level_triggered, assert, lowest_hint;
	bool from_x2apic_ipi; /* an IPI: 0xff is no broadcast for x2APIC receivers */
	struct lapic *source; /* of an IPI, else NULL */
};

/* Number of LAPICs that took it; -1: no LAPIC matched. Any thread, no lock. */
int msg_deliver(struct vm *vm, const struct irq_msg *m);
/* From an MSI's address and data (SDM 3A 11.11). */
void msg_from_msi(const struct vm *vm, uint64_t address, uint32_t data, struct irq_msg *ret);

/* --- LAPIC ------------------------------------------------------------------------------- */
/* Register offsets (SDM 3A table 11-1). */
enum {
	APIC_ID = 0x20,
	APIC_LVR = 0x30,
	APIC_TPR = 0x80,
	APIC_APR = 0x90,
	APIC_PPR = 0xa0,
	APIC_EOI = 0xb0,
	APIC_RRD = 0xc0,
	APIC_LDR = 0xd0,
	APIC_DFR = 0xe0,
	APIC_SVR = 0xf0,
	APIC_ISR = 0x100,
	APIC_TMR = 0x180,
	APIC_IRR = 0x200,
	APIC_ESR = 0x280,
	APIC_CMCI = 0x2f0,
	APIC_ICR = 0x300,
	APIC_ICR2 = 0x310,
	APIC_LVTT = 0x320,
	APIC_LVTTHMR = 0x330,
	APIC_LVTPC = 0x340,
	APIC_LVT0 = 0x350,
	APIC_LVT1 = 0x360,
	APIC_LVTERR = 0x370,
	APIC_TMICT = 0x380,
	APIC_TMCCT = 0x390,
	APIC_TDCR = 0x3e0,
	APIC_SELF_IPI = 0x3f0,
};
#define LVT_MASKED     BIT(16)
#define LVT_MODE(lvt)  (((lvt) >> 8) & 7)
#define LVTT_MODE(lvt) (((lvt) >> 17) & 3)
enum { TIMER_ONESHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };
#define ESR_SEND_ILLEGAL BIT(5)
#define ESR_RECV_ILLEGAL BIT(6)
#define ESR_REGISTER     BIT(7)
#define BASE_BSP         BIT64(8)
#define BASE_EXTD        BIT64(10)
#define BASE_EN          BIT64(11)
#define SVR_ENABLED      BIT(8)
#define SVR_NO_EOI_BCAST BIT(12)
enum { EVENT_INIT = BIT(0), EVENT_SIPI = BIT(1) };

struct lapic {
	uint8_t regs[1024] __attribute__((aligned(64))); /* as KVM_GET_LAPIC shows them */
	struct vcpu *cpu;
	_Atomic bool irr_pending; /* some IRR bit may be set; false: none is */
	_Atomic uint64_t base;    /* IA32_APIC_BASE */
	_Atomic uint32_t events;  /* EVENT_INIT, EVENT_SIPI */
	_Atomic uint8_t sipi_vector;
	_Atomic uint32_t arb;    /* messages taken by lowest-priority arbitration */
	_Atomic uint32_t errors; /* for ESR, not shown before it is written */
	_Atomic int user_eoi;    /* split irqchip: vector for KVM_EXIT_IOAPIC_EOI, -1 */

	/* timer: own thread but for `deadline`, `notified` */
	_Atomic ns_t deadline; /* CLOCK_MONOTONIC, NEVER: off */
	_Atomic ns_t notified; /* the deadline that the service thread has told of */
	ns_t period;
	uint64_t tsc_deadline;

	uint64_t pv_eoi_msr;
	bool pv_eoi_pending; /* the guest's word says "no EOI needed" */
};

static inline uint32_t lapic_reg(const struct lapic *l, unsigned offset)
{
	return __atomic_load_n((const uint32_t *)(const void *)(l->regs + offset),
			       __ATOMIC_RELAXED);
}

static inline void lapic_reg_set(struct lapic *l, unsigned offset, uint32_t v)
{
	__atomic_store_n((uint32_t *)(void *)(l->regs + offset), v, __ATOMIC_RELAXED);
}

static inline bool lapic_hw_enabled(const struct lapic *l)
{
	return atomic_load_explicit(&l->base, memory_order_relaxed) & BASE_EN;
}

static inline bool lapic_x2apic(const struct lapic *l)
{
	return (atomic_load_explicit(&l->base, memory_order_relaxed) & (BASE_EN | BASE_EXTD)) ==
	       (BASE_EN | BASE_EXTD);
}

static inline bool lapic_enabled(const struct lapic *l)
{
	return lapic_hw_enabled(l) && (lapic_reg(l, APIC_SVR) & SVR_ENABLED);
}

/* The highest vector in one of ISR, TMR, IRR; -1. (lapic.c) */
int lapic_highest(const struct lapic *l, unsigned bank);
bool lapic_bit(const struct lapic *l, unsigned bank, uint8_t vector);
/* Set or clear a bit atomically; returns the old one. */
bool lapic_bit_set(struct lapic *l, unsigned bank, uint8_t vector, bool on);
/* Record an error for ESR, and raise LVTERR. Any thread. */
void lapic_error(struct lapic *l, uint32_t esr_bit);
/* Take one message; false: it was there already or the LAPIC does not listen. Any thread. */
bool lapic_accept(struct lapic *l, uint8_t mode, uint8_t vector, bool assert, bool level);
/* Raise a local vector (LVT at `offset`): own thread, or the service thread. */
bool lapic_local_deliver(struct lapic *l, unsigned offset);
/* Take back the PV EOI mark before ISR is looked at; own thread. */
void lapic_pv_eoi_sync(struct lapic *l);
void lapic_eoi(struct lapic *l);
void lapic_send_ipi(struct lapic *l, uint32_t icr_low, uint32_t icr_high);
/* The page at the base address; false: not this page, or it is nobody's. */
bool lapic_mmio_read(struct vcpu *cpu, gpa_t gpa, void *buf, unsigned len);
bool lapic_mmio_write(struct vcpu *cpu, gpa_t gpa, const void *buf, unsigned len);
/* Register access, checked; false: no such register (or not this way). (lapic.c) */
bool lapic_read_reg(struct lapic *l, unsigned offset, uint32_t *ret);
bool lapic_write_reg(struct lapic *l, unsigned offset, uint32_t v);
int lapic_get_state(struct vcpu *cpu, struct kvm_lapic_state *s);
int lapic_set_state(struct vcpu *cpu, const struct kvm_lapic_state *s);
/* Would this vCPU take an interrupt from a PIC? NULL lapic: yes. */
bool lapic_accepts_extint(const struct vcpu *cpu);
/* One more NMI is pending (at most 2). Any thread. */
void lapic_queue_nmi(struct vcpu *cpu);
/* What KVM_GET_VCPU_EVENTS and KVM_SET_MP_STATE touch; nothing without a LAPIC. */
bool lapic_init_pending(const struct vcpu *cpu);
void lapic_set_init_pending(struct vcpu *cpu, bool pending);
void lapic_set_sipi_pending(struct vcpu *cpu);
void lapic_set_sipi_vector(struct vcpu *cpu, uint8_t vector);

/* Timer (lapic_timer.c). */
void lapic_timer_stop(struct lapic *l);
/* Registers were loaded: run on with `tmcct` left of TMICT (0: nothing runs unless TMICT says). */
void lapic_timer_resume(struct lapic *l, uint32_t tmcct);
void lapic_timer_start(struct lapic *l, uint32_t count); /* TMICT or TDCR written */
void lapic_timer_set_lvtt(struct lapic *l, uint32_t old, uint32_t lvtt);
void lapic_timer_set_tsc_deadline(struct lapic *l, uint64_t tsc);
uint64_t lapic_timer_tsc_deadline(const struct lapic *l);
uint32_t lapic_timer_count(const struct lapic *l); /* TMCCT now */

/* --- PIC --------------------------------------------------------------------------------- */
struct pic {
	struct kvm_pic_state half[2]; /* master, slave */
	uint32_t lines[PIC_PINS];     /* sources that hold it up */
	_Atomic bool output;
	struct vm *vm;
};
void pic_init(struct pic *p, struct vm *vm);
/* 1: delivered, 0: coalesced, -1: masked. */
int pic_set_line_locked(struct pic *p, unsigned pin, enum irq_source source, bool level);
int pic_acknowledge_locked(struct pic *p);
bool pic_read_locked(struct pic *p, uint16_t port, uint8_t *ret);
bool pic_write_locked(struct pic *p, uint16_t port, uint8_t v);
void pic_update_locked(struct pic *p);

/* --- IOAPIC ------------------------------------------------------------------------------ */
struct ioapic {
	struct vm *vm;
	uint32_t select, id, irr, delivered; /* irr, delivered: a bit a pin */
	uint64_t redir[IOAPIC_PINS];
	uint32_t lines[IOAPIC_PINS];
	_Atomic uint64_t handled[4]; /* vectors whose EOI must come here */
};
#define REDIR_MASKED     BIT64(16)
#define REDIR_LEVEL      BIT64(15)
#define REDIR_REMOTE_IRR BIT64(14)
void ioapic_init(struct ioapic *io, struct vm *vm);
int ioapic_set_line_locked(struct ioapic *io, unsigned pin, enum irq_source source, bool level);
void ioapic_eoi_locked(struct ioapic *io, uint8_t vector, bool level);
void ioapic_read_locked(struct ioapic *io, unsigned offset, void *buf, unsigned len);
void ioapic_write_locked(struct ioapic *io, unsigned offset, const void *buf, unsigned len);
void ioapic_get_locked(const struct ioapic *io, struct kvm_ioapic_state *s);
void ioapic_set_locked(struct ioapic *io, const struct kvm_ioapic_state *s);
/* Recompute `handled`: a redirection entry, a route or an irqfd has changed. */
void ioapic_scan_locked(struct ioapic *io);
static inline bool ioapic_handles(const struct ioapic *io, uint8_t vector)
{
	return atomic_load_explicit(&io->handled[vector / 64], memory_order_relaxed) &
	       BIT64(vector % 64);
}

/* --- PIT --------------------------------------------------------------------------------- */
struct pit {
	struct vm *vm;
	struct kvm_pit_channel_state ch[3];
	uint32_t flags;    /* KVM_PIT_FLAGS_* */
	bool speaker_port; /* KVM_PIT_SPEAKER_DUMMY */
	bool reinject;
	bool irq_acked;        /* the last tick was taken */
	uint32_t backlog;      /* ticks that wait for it */
	_Atomic ns_t deadline; /* next tick of channel 0 */
	ns_t period;           /* 0: one shot */
};
struct pit *pit_new(struct vm *vm, uint32_t flags);
bool pit_read_locked(struct pit *p, uint16_t port, uint8_t *ret);
bool pit_write_locked(struct pit *p, uint16_t port, uint8_t v);
void pit_get_locked(const struct pit *p, struct kvm_pit_state2 *s);
void pit_set_locked(struct pit *p, const struct kvm_pit_state2 *s);
/* Channel 0's time has come (service thread). */
void pit_tick_locked(struct pit *p, ns_t now);
/* GSI 0 was acknowledged; was unmasked somewhere (ticks before that do not count). */
void pit_acked_locked(struct pit *p);
void pit_unmasked_locked(struct pit *p);

/* --- routing ----------------------------------------------------------------------------- */
struct route {
	uint32_t gsi, type; /* KVM_IRQ_ROUTING_* */
	uint32_t chip, pin;
	uint64_t msi_address;
	uint32_t msi_data;
	int next; /* next route of the same GSI, -1 */
};
struct routing {
	struct route *routes;
	unsigned count;
	int first[GSI_MAX];         /* by GSI, -1 */
	int gsi_of[3][IOAPIC_PINS]; /* by chip and pin, -1 */
};
struct routing *routing_new_default(bool empty);
int routing_new(struct vm *vm, const struct kvm_irq_routing_entry *e, unsigned n,
		struct routing **ret);
void routing_free(struct routing *r);
/* Drive a GSI: >0 delivered, 0 coalesced, -1 masked or not routed. */
int gsi_set_locked(struct vm *vm, uint32_t gsi, enum irq_source source, bool level);
/* An input of a controller was acknowledged: resampling irqfds and the PIT. */
void gsi_acked_locked(struct vm *vm, unsigned chip, unsigned pin);
/* An input was unmasked: the PIT starts its bookkeeping anew. */
void gsi_unmasked_locked(struct vm *vm, unsigned chip, unsigned pin);
/* Has this input somebody who waits for its EOI? */
bool gsi_has_waiter_locked(struct vm *vm, unsigned chip, unsigned pin);

/* --- eventfds ----------------------------------------------------------------------------- */
struct irqfd {
	int fd, resample_fd; /* ours; resample_fd -1: none */
	uint64_t id;         /* see eventfd_identity() */
	uint32_t gsi;
	struct irqfd *next;
};
int irqfd_ioctl(struct vm *vm, const struct kvm_irqfd *in);
void irqfd_release_all(struct vm *vm);
void irqfd_ready_locked(struct vm *vm, int fd); /* service thread */

struct ioeventfd {
	uint64_t addr, datamatch, id;
	uint32_t len;
	bool pio, any_value;
	int fd;
};
struct io_bus {
	struct ioeventfd *events;
	unsigned event_count;
};
/* vm->lock held. */
int ioeventfd_ioctl(struct vm *vm, const struct kvm_ioeventfd *in);
void iobus_release(struct vm *vm);
/* A write by the guest: true if an eventfd took it. */
bool iobus_write(struct vcpu *cpu, bool pio, uint64_t addr, const void *buf, unsigned len);
/* Is it an eventfd? Its identity, equal for duplicates; -EINVAL, -EBADF. */
int eventfd_identity(int fd, uint64_t *ret);

/* --- service thread ------------------------------------------------------------------------ */
struct service {
	pthread_t thread;
	bool running;
	_Atomic bool quit;
	int epoll_fd, timer_fd, wake_fd;
	pthread_mutex_t lock; /* start, and arming; below chip->lock */
	_Atomic ns_t armed;
};
int service_init(struct vm *vm);
void service_stop(struct vm *vm);
/* Something is due at `deadline`: wake up by then at the latest. Any thread. */
void service_arm(struct vm *vm, ns_t deadline);
int service_watch(struct vm *vm, int fd);
void service_unwatch(struct vm *vm, int fd);

/* --- all ------------------------------------------------------------------------------------ */
enum irqchip_mode { IRQCHIP_NONE, IRQCHIP_SPLIT, IRQCHIP_FULL };

struct irqchip {
	pthread_mutex_t lock;
	_Atomic int mode; /* enum irqchip_mode */
	unsigned split_routes;
	struct pic pic;
	struct ioapic ioapic;
	struct pit *_Atomic pit;
	struct routing *routing;
	struct irqfd *irqfds;
	struct io_bus bus;
	struct service service;
	_Atomic uint64_t split_handled[4]; /* split: level-triggered vectors of reserved routes */
};

/* The VM's descriptor is gone: eventfds are let go. */
void irqchip_release_eventfds(struct vm *vm);
