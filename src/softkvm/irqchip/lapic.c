/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The local APIC: registers, priorities, acknowledgement (SDM 3A chapter 11).
 *
 * Who writes what is said in irqchip_int.h. Invariants:
 *  1. irr_pending is true whenever an IRR bit is set: senders set the bit first,
 *     then the flag; the owner clears the flag first and looks again.
 *  2. A TMR bit is valid while its vector is in IRR or ISR.
 *  3. In x2APIC mode ID holds the whole id, and LDR follows from it.
 */
#include <stdlib.h>

#include "softkvm/api/uaccess.h"
#include "softkvm/cpu/msr.h"
#include "softkvm/irqchip/irqchip_int.h"

#define VERSION_BASE     0x50014u /* version 14H, six LVT entries */
#define VERSION_NO_BCAST BIT(24)
#define LVT_VECTOR       0xffu
#define LVT_STATUS_BITS  (BIT(12) | BIT(14)) /* read-only: delivery status, remote IRR */

/* --- bits ---------------------------------------------------------------------------- */
static uint32_t *bank_word(const struct lapic *l, unsigned bank, unsigned word)
{
	return (uint32_t *)(void *)(uintptr_t)(l->regs + bank + 0x10 * word);
}

bool lapic_bit(const struct lapic *l, unsigned bank, uint8_t vector)
{
	return __atomic_load_n(bank_word(l, bank, vector / 32), __ATOMIC_ACQUIRE) &
	       BIT(vector % 32);
}

bool lapic_bit_set(struct lapic *l, unsigned bank, uint8_t vector, bool on)
{
	uint32_t *word = bank_word(l, bank, vector / 32), bit = BIT(vector % 32);

	return bit & (on ? __atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST)
			 : __atomic_fetch_and(word, ~bit, __ATOMIC_SEQ_CST));
}

int lapic_highest(const struct lapic *l, unsigned bank)
{
	for (int word = 7; word >= 0; word--) {
		uint32_t v = __atomic_load_n(bank_word(l, bank, (unsigned)word), __ATOMIC_SEQ_CST);

		if (v != 0) {
			return word * 32 + 31 - __builtin_clz(v);
		}
	}
	return -1;
}

/* The highest requested vector; keeps irr_pending true or makes it false (invariant 1). */
static int highest_irr(struct lapic *l)
{
	int vector;

	if (!atomic_load(&l->irr_pending)) {
		return -1;
	}
	vector = lapic_highest(l, APIC_IRR);
	if (vector < 0) {
		atomic_store(&l->irr_pending, false);
		vector = lapic_highest(l, APIC_IRR);
		if (vector >= 0) {
			atomic_store(&l->irr_pending, true);
		}
	}
	return vector;
}

/* SDM 3A 11.8.3.1: the class of what is in service, or TPR if that is higher. */
static uint32_t ppr(const struct lapic *l)
{
	uint32_t tpr = lapic_reg(l, APIC_TPR) & 0xff;
	int isr = lapic_highest(l, APIC_ISR);
	uint32_t isrv = isr < 0 ? 0 : (uint32_t)isr;

	return (tpr & 0xf0) >= (isrv & 0xf0) ? tpr : isrv & 0xf0;
}

void lapic_error(struct lapic *l, uint32_t esr_bit)
{
	if (!(atomic_fetch_or(&l->errors, esr_bit) & esr_bit)) {
		lapic_local_deliver(l, APIC_LVTERR);
	}
}

/* --- PV EOI (KVM's cpuid document, MSR_KVM_PV_EOI_EN) ------------------------------------- */
#define PV_EOI_ENABLED BIT64(0)

static bool pv_eoi_word(struct lapic *l, bool set)
{
	gpa_t gpa = l->pv_eoi_msr & ~3ull;
	uint8_t byte;

	if (vm_read_phys(l->cpu->vm, gpa, &byte, 1) != 0) {
		return false;
	}
	if (set || (byte & 1)) {
		uint8_t v = (uint8_t)((byte & ~1) | (set ? 1 : 0));

		if (vm_write_phys(l->cpu->vm, l->cpu, gpa, &v, 1) != 0) {
			return false;
		}
	}
	return set || (byte & 1);
}

/* The guest cleared the word: that was its EOI. Else it is taken back: a real EOI will come. */
void lapic_pv_eoi_sync(struct lapic *l)
{
	if (!l->pv_eoi_pending) {
		return;
	}
	l->pv_eoi_pending = false;
	if (!pv_eoi_word(l, false)) {
		lapic_eoi(l);
	}
}

static void pv_eoi_offer(struct lapic *l, uint8_t vector)
{
	if (!(l->pv_eoi_msr & PV_EOI_ENABLED) || atomic_load(&l->irr_pending) ||
	    lapic_bit(l, APIC_TMR, vector) ||
	    ioapic_handles(&l->cpu->vm->irqchip->ioapic, vector)) {
		return;
	}
	l->pv_eoi_pending = pv_eoi_word(l, true);
}

void lapic_set_pv_eoi(struct vcpu *cpu, uint64_t msr)
{
	if (cpu->lapic) {
		lapic_pv_eoi_sync(cpu->lapic);
		cpu->lapic->pv_eoi_msr = msr;
	}
}

/* --- taking interrupts ------------------------------------------------------------------- */
bool lapic_accepts_extint(const struct vcpu *cpu)
{
	const struct lapic *l = cpu->lapic;
	uint32_t lvt0;

	if (!l || !lapic_hw_enabled(l)) {
		return true;
	}
	lvt0 = lapic_reg(l, APIC_LVT0);
	return !(lvt0 & LVT_MASKED) && LVT_MODE(lvt0) == DELIVER_EXTINT;
}

static bool extint_pending(struct vcpu *cpu)
{
	const struct irqchip *chip = cpu->vm->irqchip;

	if (atomic_load_explicit(&cpu->ext_vector, memory_order_relaxed) >= 0) {
		return lapic_accepts_extint(cpu);
	}
	/* The output wire goes to the boot processor only. */
	return atomic_load_explicit(&chip->pic.output, memory_order_acquire) &&
	       cpu->id == cpu->vm->boot_cpu_id && lapic_accepts_extint(cpu);
}

/* The vector that may be delivered now by priority, -1. */
static int deliverable(struct lapic *l)
{
	int vector;

	if (!atomic_load(&l->irr_pending) || !lapic_enabled(l)) {
		return -1;
	}
	lapic_pv_eoi_sync(l);
	vector = highest_irr(l);
	return vector >= 0 && ((uint32_t)vector & 0xf0) > (ppr(l) & 0xf0) ? vector : -1;
}

bool irq_pending(struct vcpu *cpu)
{
	return cpu->lapic && (extint_pending(cpu) || deliverable(cpu->lapic) >= 0);
}

bool irq_may_wait(const struct vcpu *cpu)
{
	return cpu->lapic && (atomic_load(&cpu->lapic->irr_pending) ||
			      atomic_load_explicit(&cpu->ext_vector, memory_order_relaxed) >= 0 ||
			      atomic_load(&cpu->vm->irqchip->pic.output));
}

static int take_extint(struct vcpu *cpu)
{
	struct irqchip *chip = cpu->vm->irqchip;
	int vector = atomic_exchange(&cpu->ext_vector, -1);

	if (vector < 0 && irqchip_full(cpu->vm)) {
		pthread_mutex_lock(&chip->lock);
		vector = atomic_load(&chip->pic.output) ? pic_acknowledge_locked(&chip->pic) : -1;
		pthread_mutex_unlock(&chip->lock);
	}
	return vector;
}

int irq_acknowledge(struct vcpu *cpu)
{
	struct lapic *l = cpu->lapic;
	int vector;

	if (!l) {
		return -1;
	}
	if (extint_pending(cpu)) {
		vector = take_extint(cpu);
		if (vector >= 0) {
			return vector;
		}
	}
	vector = deliverable(l);
	if (vector < 0) {
		return -1;
	}
	lapic_bit_set(l, APIC_IRR, (uint8_t)vector, false);
	highest_irr(l); /* refreshes irr_pending */
	lapic_bit_set(l, APIC_ISR, (uint8_t)vector, true);
	pv_eoi_offer(l, (uint8_t)vector);
	return vector;
}

/* Who else must hear of the end of this vector: the IOAPIC, ours or user space's. */
static void eoi_broadcast(struct lapic *l, uint8_t vector)
{
	struct irqchip *chip = l->cpu->vm->irqchip;
	bool level = lapic_bit(l, APIC_TMR, vector);

	if (irqchip_full(l->cpu->vm)) {
		if (level || ioapic_handles(&chip->ioapic, vector)) {
			pthread_mutex_lock(&chip->lock);
			ioapic_eoi_locked(&chip->ioapic, vector, level);
			pthread_mutex_unlock(&chip->lock);
		}
	} else if (atomic_load(&chip->split_handled[vector / 64]) & BIT64(vector % 64)) {
		atomic_store(&l->user_eoi, vector);
		vcpu_request(l->cpu, REQ_EVENT);
	}
}

void lapic_eoi(struct lapic *l)
{
	int vector = lapic_highest(l, APIC_ISR);

	if (vector < 0) {
		return; /* SDM 3A 11.8.5: nothing in service, nothing happens */
	}
	lapic_bit_set(l, APIC_ISR, (uint8_t)vector, false);
	if (!(lapic_reg(l, APIC_SVR) & SVR_NO_EOI_BCAST) ||
	    !lapic_bit(l, APIC_TMR, (uint8_t)vector)) {
		eoi_broadcast(l, (uint8_t)vector);
	}
	if (atomic_load(&l->irr_pending)) {
		vcpu_request(l->cpu, REQ_EVENT);
	}
}

int irqchip_take_user_eoi(struct vcpu *cpu)
{
	return cpu->lapic ? atomic_exchange(&cpu->lapic->user_eoi, -1) : -1;
}

/* --- registers --------------------------------------------------------------------------- */
static uint32_t version(const struct lapic *l)
{
	bool directed = !irqchip_full(l->cpu->vm) && cpu_has(l->cpu, FEAT_X2APIC);

	return VERSION_BASE | (directed ? VERSION_NO_BCAST : 0);
}

static uint32_t x2apic_ldr(uint32_t id)
{
	return (id >> 4) << 16 | BIT(id & 15);
}

/* Offsets that hold nothing (SDM 3A table 11-1). */
static bool is_register(unsigned offset)
{
	switch (offset) {
	case APIC_ID:
	case APIC_LVR:
	case APIC_TPR:
	case APIC_APR:
	case APIC_PPR:
	case APIC_EOI:
	case APIC_LDR:
	case APIC_DFR:
	case APIC_SVR:
	case APIC_ESR:
	case APIC_ICR:
	case APIC_ICR2:
	case APIC_LVTT:
	case APIC_LVTTHMR:
	case APIC_LVTPC:
	case APIC_LVT0:
	case APIC_LVT1:
	case APIC_LVTERR:
	case APIC_TMICT:
	case APIC_TMCCT:
	case APIC_TDCR:
	case APIC_RRD:
		return true;
	default:
		return offset >= APIC_ISR && offset < APIC_ESR && (offset & 0xf) == 0;
	}
}

bool lapic_read_reg(struct lapic *l, unsigned offset, uint32_t *ret)
{
	if (!is_register(offset)) {
		return false;
	}
	if (offset >= APIC_ISR && offset < APIC_TMR) {
		lapic_pv_eoi_sync(l);
	}
	switch (offset) {
	case APIC_EOI:
		*ret = 0; /* write-only */
		break;
	case APIC_LVR:
		*ret = version(l);
		break;
	case APIC_APR:
	case APIC_PPR:
		lapic_pv_eoi_sync(l);
		*ret = ppr(l);
		break;
	case APIC_TMCCT:
		*ret = lapic_timer_count(l);
		break;
	default:
		*ret = lapic_reg(l, offset);
		break;
	}
	return true;
}

/* Bits of each LVT that software may write (SDM 3A figure 11-8). */
static uint32_t lvt_writable(const struct lapic *l, unsigned offset)
{
	switch (offset) {
	case APIC_LVTT:
		return LVT_VECTOR | LVT_MASKED | BIT(17) |
		       (cpu_has(l->cpu, FEAT_TSC_DEADLINE) ? BIT(18) : 0);
	case APIC_LVTTHMR:
	case APIC_LVTPC:
		return LVT_VECTOR | LVT_MASKED | 7u << 8;
	case APIC_LVT0:
	case APIC_LVT1:
		return LVT_VECTOR | LVT_MASKED | 7u << 8 | BIT(13) | BIT(15);
	default:
		return LVT_VECTOR | LVT_MASKED;
	}
}

static void write_lvt(struct lapic *l, unsigned offset, uint32_t v)
{
	uint32_t old = lapic_reg(l, offset);

	v = (v & lvt_writable(l, offset)) | (old & LVT_STATUS_BITS);
	if (!(lapic_reg(l, APIC_SVR) & SVR_ENABLED)) {
		v |= LVT_MASKED; /* SDM 3A 11.4.7.2 */
	}
	lapic_reg_set(l, offset, v);
	if (offset == APIC_LVTT) {
		lapic_timer_set_lvtt(l, old, v);
	} else if (offset == APIC_LVT0) {
		vcpu_request(l->cpu, REQ_EVENT); /* the PIC may get through now */
	}
}

/* All LVT entries are masked when software switches the APIC off (SDM 3A 11.4.7.2). */
static void write_svr(struct lapic *l, uint32_t v)
{
	uint32_t mask = 0x1ff | (version(l) & VERSION_NO_BCAST ? SVR_NO_EOI_BCAST : 0);

	lapic_reg_set(l, APIC_SVR, v & mask);
	if (!(v & SVR_ENABLED)) {
		for (unsigned lvt = APIC_LVTT; lvt <= APIC_LVTERR; lvt += 0x10) {
			lapic_reg_set(l, lvt, lapic_reg(l, lvt) | LVT_MASKED);
		}
	}
	vcpu_request(l->cpu, REQ_EVENT);
}

static void write_icr(struct lapic *l, uint32_t low)
{
	lapic_reg_set(l, APIC_ICR, low & ~BIT(12)); /* delivery is never pending */
	lapic_send_ipi(l, low, lapic_reg(l, APIC_ICR2));
}

/* A write shows what has come up since the last one (SDM 3A 11.5.3). */
static void write_esr(struct lapic *l)
{
	lapic_reg_set(l, APIC_ESR, atomic_exchange(&l->errors, 0));
}

bool lapic_write_reg(struct lapic *l, unsigned offset, uint32_t v)
{
	bool x2apic = lapic_x2apic(l);

	switch (offset) {
	case APIC_ID:
		if (x2apic) {
			return false;
		}
		lapic_reg_set(l, APIC_ID, v & 0xff000000u);
		return true;
	case APIC_TPR:
		lapic_reg_set(l, APIC_TPR, v & 0xff);
		if (atomic_load(&l->irr_pending)) {
			vcpu_request(l->cpu, REQ_EVENT);
		}
		return true;
	case APIC_EOI:
		lapic_pv_eoi_sync(l);
		lapic_eoi(l);
		return true;
	case APIC_LDR:
		if (x2apic) {
			return false;
		}
		lapic_reg_set(l, APIC_LDR, v & 0xff000000u);
		return true;
	case APIC_DFR:
		if (x2apic) {
			return false;
		}
		lapic_reg_set(l, APIC_DFR, v | 0x0fffffffu);
		return true;
	case APIC_SVR:
		write_svr(l, v);
		return true;
	case APIC_ESR:
		write_esr(l);
		return true;
	case APIC_ICR:
		write_icr(l, v);
		return true;
	case APIC_ICR2:
		lapic_reg_set(l, APIC_ICR2, x2apic ? v : v & 0xff000000u);
		return true;
	case APIC_LVTT:
	case APIC_LVTTHMR:
	case APIC_LVTPC:
	case APIC_LVT0:
	case APIC_LVT1:
	case APIC_LVTERR:
		write_lvt(l, offset, v);
		return true;
	case APIC_TMICT:
		lapic_timer_start(l, v);
		return true;
	case APIC_TDCR:
		lapic_reg_set(l, APIC_TDCR, v & 0xb);
		lapic_timer_start(l, lapic_reg(l, APIC_TMICT));
		return true;
	default:
		return false;
	}
}

/* --- the MMIO page (xAPIC) ---------------------------------------------------------------------
 */
static void mmio_read(struct lapic *l, unsigned offset, void *buf, unsigned len)
{
	uint32_t v = 0;
	unsigned within = offset & 0xf;

	memset(buf, 0, len);
	if (within + len > 4) {
		return;
	}
	if (!lapic_read_reg(l, offset & ~0xfu, &v)) {
		lapic_error(l, ESR_REGISTER);
		return;
	}
	memcpy(buf, (uint8_t *)&v + within, len);
}

static void mmio_write(struct lapic *l, unsigned offset, const void *buf, unsigned len)
{
	if (len != 4 || (offset & 0xf)) {
		return; /* undefined by the SDM; ignored as KVM does */
	}
	if (!lapic_write_reg(l, offset, load_le32(buf)) && !is_register(offset)) {
		lapic_error(l, ESR_REGISTER);
	}
}

static bool in_page(const struct lapic *l, gpa_t gpa)
{
	uint64_t base = atomic_load_explicit(&l->base, memory_order_relaxed) & ~0xfffull;

	return gpa - base < 0x1000;
}

/* With the APIC off or in x2APIC mode the page is a hole, filled with ones unless the quirk is off.
 */
static bool mmio_is_hole(const struct lapic *l, bool *ret_taken)
{
	if (lapic_hw_enabled(l) && !lapic_x2apic(l)) {
		return false;
	}
	*ret_taken = !(l->cpu->vm->cap.quirks_off & KVM_X86_QUIRK_LAPIC_MMIO_HOLE);
	return true;
}

bool lapic_mmio_read(struct vcpu *cpu, gpa_t gpa, void *buf, unsigned len)
{
	struct lapic *l = cpu->lapic;
	bool taken;

	if (!l || !in_page(l, gpa)) {
		return false;
	}
	if (mmio_is_hole(l, &taken)) {
		memset(buf, 0xff, taken ? len : 0);
		return taken;
	}
	mmio_read(l, gpa & 0xfff, buf, len);
	return true;
}

bool lapic_mmio_write(struct vcpu *cpu, gpa_t gpa, const void *buf, unsigned len)
{
	struct lapic *l = cpu->lapic;
	bool taken;

	if (!l || !in_page(l, gpa)) {
		return false;
	}
	if (mmio_is_hole(l, &taken)) {
		return taken;
	}
	mmio_write(l, gpa & 0xfff, buf, len);
	return true;
}

/* --- MSRs (x2APIC, SDM 3A table 11-6) -----------------------------------------------------------
 */
#define MSR_X2APIC       0x800u
#define MSR_TSC_DEADLINE 0x6e0u

static bool is_x2apic_register(unsigned offset)
{
	return offset != APIC_DFR && offset != APIC_ICR2 && offset != APIC_RRD &&
	       offset != APIC_APR;
}

bool lapic_msr_read(struct vcpu *cpu, uint32_t msr, uint64_t *ret)
{
	struct lapic *l = cpu->lapic;
	unsigned offset = (msr - MSR_X2APIC) << 4;
	uint32_t v;

	if (msr == MSR_TSC_DEADLINE) {
		*ret = l ? lapic_timer_tsc_deadline(l) : 0;
		return true;
	}
	if (!l || !lapic_x2apic(l) || !is_x2apic_register(offset) || offset == APIC_EOI ||
	    !lapic_read_reg(l, offset, &v)) {
		return false;
	}
	*ret = v;
	if (offset == APIC_ICR) {
		*ret |= (uint64_t)lapic_reg(l, APIC_ICR2) << 32;
	}
	return true;
}

static bool write_x2apic(struct lapic *l, unsigned offset, uint64_t v)
{
	if (offset == APIC_ICR) {
		lapic_reg_set(l, APIC_ICR2, (uint32_t)(v >> 32));
		write_icr(l, (uint32_t)v);
		return true;
	}
	if (v >> 32) {
		return false;
	}
	if (offset == APIC_SELF_IPI) {
		if (v >> 8) {
			return false;
		}
		lapic_send_ipi(l, (uint32_t)v | (uint32_t)DEST_SELF << 18, 0);
		return true;
	}
	if ((offset == APIC_EOI || offset == APIC_ESR) && v != 0) {
		return false;
	}
	return is_x2apic_register(offset) && lapic_write_reg(l, offset, (uint32_t)v);
}

bool lapic_msr_write(struct vcpu *cpu, uint32_t msr, uint64_t v)
{
	struct lapic *l = cpu->lapic;

	if (msr == MSR_TSC_DEADLINE) {
		if (l) {
			lapic_timer_set_tsc_deadline(l, v);
		}
		return true;
	}
	return l && lapic_x2apic(l) && write_x2apic(l, (msr - MSR_X2APIC) << 4, v);
}

/* --- CR8, base -----------------------------------------------------------------------------------
 */
uint64_t lapic_get_cr8(struct vcpu *cpu)
{
	return cpu->lapic ? lapic_reg(cpu->lapic, APIC_TPR) >> 4 & 15 : cpu->cr8;
}

void lapic_set_cr8(struct vcpu *cpu, uint64_t tpr)
{
	if (!cpu->lapic) {
		cpu->cr8 = tpr & 15;
		return;
	}
	lapic_reg_set(cpu->lapic, APIC_TPR, (uint32_t)(tpr & 15) << 4);
	if (atomic_load(&cpu->lapic->irr_pending)) {
		vcpu_request(cpu, REQ_EVENT);
	}
}

uint64_t lapic_get_base(struct vcpu *cpu)
{
	return cpu->lapic ? atomic_load(&cpu->lapic->base) : cpu->apic_base;
}

/* Only these changes of mode exist (SDM 3A figure 11-27). */
static bool base_change_valid(struct vcpu *cpu, uint64_t old, uint64_t v, bool host)
{
	uint64_t reserved = 0x2ff | (cpu_has(cpu, FEAT_X2APIC) ? 0 : BASE_EXTD);
	uint64_t mode = BASE_EN | BASE_EXTD;

	if ((v & reserved) || v >> cpu->feat.phys_bits || (v & mode) == BASE_EXTD) {
		return false;
	}
	if (host) {
		return true;
	}
	if ((old & mode) == mode && (v & mode) == BASE_EN) {
		return false;
	}
	return (old & BASE_EN) || (v & mode) != mode;
}

static void base_changed(struct lapic *l, uint64_t old, uint64_t v)
{
	uint32_t id = l->cpu->id;

	if ((v & BASE_EN) && (v & BASE_EXTD) && !(old & BASE_EXTD)) {
		lapic_reg_set(l, APIC_ID, id);
		lapic_reg_set(l, APIC_LDR, x2apic_ldr(id));
	} else if ((v & BASE_EN) && !(v & BASE_EXTD) && ((old & BASE_EXTD) || !(old & BASE_EN))) {
		lapic_reg_set(l, APIC_ID, id << 24);
		lapic_reg_set(l, APIC_LDR, 0);
		lapic_reg_set(l, APIC_DFR, UINT32_MAX);
	}
	if (!(v & BASE_EN)) {
		lapic_timer_stop(l);
	}
	vcpu_request(l->cpu, REQ_EVENT);
}

bool lapic_set_base(struct vcpu *cpu, uint64_t v, bool host)
{
	uint64_t old = lapic_get_base(cpu);

	if (!base_change_valid(cpu, old, v, host)) {
		return false;
	}
	if (!cpu->lapic) {
		cpu->apic_base = v;
		return true;
	}
	atomic_store(&cpu->lapic->base, v);
	if (old != v) {
		base_changed(cpu->lapic, old, v);
	}
	return true;
}

/* --- life
 * ------------------------------------------------------------------------------------------ */
/* Registers after RESET (SDM 3A table 11-1); INIT keeps ID and base. */
void lapic_reset(struct vcpu *cpu, bool init)
{
	struct lapic *l = cpu->lapic;
	bool bsp = cpu->id == cpu->vm->boot_cpu_id;
	uint32_t id;

	if (!l) {
		if (!init) {
			cpu->cr8 = 0;
		}
		return;
	}
	lapic_timer_stop(l);
	if (!init) {
		atomic_store(&l->base, APIC_DEFAULT_BASE | BASE_EN | (bsp ? BASE_BSP : 0));
	}
	id = init ? lapic_reg(l, APIC_ID) : cpu->id << 24;
	for (unsigned offset = 0; offset < sizeof(l->regs); offset += 0x10) {
		lapic_reg_set(l, offset, 0);
	}
	lapic_reg_set(l, APIC_ID, lapic_x2apic(l) ? cpu->id : id);
	lapic_reg_set(l, APIC_LVR, version(l));
	lapic_reg_set(l, APIC_LDR, lapic_x2apic(l) ? x2apic_ldr(cpu->id) : 0);
	lapic_reg_set(l, APIC_DFR, lapic_x2apic(l) ? 0 : UINT32_MAX);
	lapic_reg_set(l, APIC_SVR, 0xff);
	for (unsigned lvt = APIC_LVTT; lvt <= APIC_LVTERR; lvt += 0x10) {
		lapic_reg_set(l, lvt, LVT_MASKED);
	}
	/* KVM leaves LINT0 as virtual wire on the boot processor, for firmware that expects it. */
	if (!init && bsp && !(cpu->vm->cap.quirks_off & KVM_X86_QUIRK_LINT0_REENABLED)) {
		lapic_reg_set(l, APIC_LVT0, DELIVER_EXTINT << 8);
	}
	atomic_store(&l->irr_pending, false);
	atomic_store(&l->errors, 0);
	atomic_store(&l->user_eoi, -1);
	l->pv_eoi_pending = false;
	l->pv_eoi_msr = 0;
}

int lapic_new(struct vcpu *cpu)
{
	struct lapic *l = aligned_alloc(64, ALIGN_UP(sizeof(*l), (size_t)64));

	if (!l) {
		return -ENOMEM;
	}
	memset(l, 0, sizeof(*l));
	l->cpu = cpu;
	atomic_store(&l->deadline, NEVER);
	atomic_store(&l->notified, NEVER);
	cpu->lapic = l;
	lapic_reset(cpu, false);
	return 0;
}

void lapic_free(struct vcpu *cpu)
{
	free(cpu->lapic);
	cpu->lapic = NULL;
}

/* --- KVM_GET_LAPIC, KVM_SET_LAPIC (KVM API 4.57, 4.58)
 * ------------------------------------------------- */
static uint32_t state_reg(const struct kvm_lapic_state *s, unsigned offset)
{
	return load_le32(s->regs + offset);
}

int lapic_get_state(struct vcpu *cpu, struct kvm_lapic_state *s)
{
	struct lapic *l = cpu->lapic;

	lapic_pv_eoi_sync(l);
	memcpy(s->regs, l->regs, sizeof(s->regs));
	store_le32(s->regs + APIC_LVR, version(l));
	store_le32(s->regs + APIC_PPR, ppr(l));
	store_le32(s->regs + APIC_TMCCT, lapic_timer_count(l));
	if (lapic_x2apic(l) && !cpu->vm->cap.x2apic_32bit_ids) {
		store_le32(s->regs + APIC_ID, cpu->id << 24);
	}
	return 0;
}

int lapic_set_state(struct vcpu *cpu, const struct kvm_lapic_state *s)
{
	struct lapic *l = cpu->lapic;
	bool x2apic = lapic_x2apic(l);
	uint32_t tmcct = state_reg(s, APIC_TMCCT);

	if (x2apic && cpu->vm->cap.x2apic_32bit_ids && state_reg(s, APIC_ID) != cpu->id) {
		return -EINVAL;
	}
	lapic_timer_stop(l);
	l->pv_eoi_pending = false;
	for (unsigned offset = 0; offset < sizeof(l->regs); offset += 4) {
		lapic_reg_set(l, offset, state_reg(s, offset));
	}
	lapic_reg_set(l, APIC_LVR, version(l));
	if (x2apic) {
		uint32_t id = cpu->vm->cap.x2apic_32bit_ids ? cpu->id : state_reg(s, APIC_ID) >> 24;

		lapic_reg_set(l, APIC_ID, id);
		lapic_reg_set(l, APIC_LDR, x2apic_ldr(id));
	}
	atomic_store(&l->irr_pending, true);
	lapic_timer_resume(l, tmcct);
	vcpu_request(cpu, REQ_EVENT);
	return 0;
}

int irqchip_vcpu_ioctl(struct vcpu *cpu, unsigned long request, unsigned long arg)
{
	struct kvm_lapic_state s;
	int r;

	if (request != KVM_GET_LAPIC && request != KVM_SET_LAPIC) {
		return -ENOTTY;
	}
	if (!cpu->lapic) {
		return -EINVAL;
	}
	if (request == KVM_GET_LAPIC) {
		r = lapic_get_state(cpu, &s);
		return r != 0 ? r : user_write(arg, &s, sizeof(s));
	}
	r = user_read(&s, arg, sizeof(s));
	return r != 0 ? r : lapic_set_state(cpu, &s);
}
