/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM with interrupt controllers and halted vCPUs, for the tests of this folder:
 * the test plays the vCPUs' threads.
 */
#pragma once

#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/test.h"
#include "softkvm/api/api.h"
#include "softkvm/irqchip/irqchip_int.h"
#include "softkvm/softkvm.h"

#define TESTCHIP_RAM_BYTES 0x10000u

struct testchip {
	struct vm *vm;
	struct irqchip *chip;
	struct vcpu *cpu[4];
	int fd[4];
	unsigned count;
	uint8_t *ram;
};

static inline void testchip_open(struct testchip *t, enum irqchip_mode mode, unsigned cpus)
{
	struct kvm_userspace_memory_region r = { .memory_size = TESTCHIP_RAM_BYTES };

	memset(t, 0, sizeof(*t));
	ASSERT(vm_new(0, &t->vm) == 0);
	t->chip = t->vm->irqchip;
	t->ram = mmap(NULL, TESTCHIP_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	ASSERT(t->ram != MAP_FAILED);
	r.userspace_addr = (uintptr_t)t->ram;
	pthread_mutex_lock(&t->vm->lock);
	ASSERT(memslots_set(t->vm, &r) == 0);
	if (mode == IRQCHIP_FULL) {
		ASSERT(irqchip_create(t->vm) == 0);
	} else if (mode == IRQCHIP_SPLIT) {
		ASSERT(irqchip_create_split(t->vm, 24) == 0);
	}
	for (t->count = 0; t->count < cpus; t->count++) {
		ASSERT(vcpu_create_locked(t->vm, t->count, &t->fd[t->count]) == 0);
		t->cpu[t->count] = t->vm->vcpus[t->count];
		cpu_features_update(t->cpu[t->count]); /* all features */
	}
	pthread_mutex_unlock(&t->vm->lock);
}

static inline void testchip_close(struct testchip *t)
{
	for (unsigned i = 0; i < t->count; i++) {
		softkvm_close(t->fd[i]);
	}
	vm_release(t->vm);
	munmap(t->ram, TESTCHIP_RAM_BYTES);
}

/* LAPIC page accesses of 32 bits by vCPU `i`. */
static inline uint32_t apic_get(struct testchip *t, unsigned i, unsigned offset)
{
	uint32_t v = 0xdeadbeef;

	irqchip_mmio_read(t->cpu[i], APIC_DEFAULT_BASE + offset, &v, 4);
	return v;
}

static inline void apic_put(struct testchip *t, unsigned i, unsigned offset, uint32_t v)
{
	irqchip_mmio_write(t->cpu[i], APIC_DEFAULT_BASE + offset, &v, 4);
}

static inline void apic_enable(struct testchip *t, unsigned i)
{
	apic_put(t, i, APIC_SVR, 0x1ff);
	apic_put(t, i, APIC_LVT0, LVT_MASKED);
}

static inline void ipi(struct testchip *t, unsigned from, uint32_t dest, uint32_t low)
{
	apic_put(t, from, APIC_ICR2, dest << 24);
	apic_put(t, from, APIC_ICR, low);
}

/* Which vCPUs have `vector` requested: a bit each; cleared. */
static inline unsigned requested(struct testchip *t, uint8_t vector)
{
	unsigned got = 0;

	for (unsigned i = 0; i < t->count; i++) {
		got |= lapic_bit_set(t->cpu[i]->lapic, APIC_IRR, vector, false) ? BIT(i) : 0;
	}
	return got;
}

/* Wait until `vector` is requested at vCPU `i`, by the service thread or its timer. */
static inline void wait_requested(struct testchip *t, unsigned i, uint8_t vector)
{
	while (!lapic_bit(t->cpu[i]->lapic, APIC_IRR, vector)) {
		sched_yield();
		if (atomic_load(&t->cpu[i]->req) & REQ_EVENT) {
			lapic_check_timer(t->cpu[i]);
		}
	}
}

static inline void out8(struct testchip *t, uint16_t port, uint8_t v)
{
	irqchip_pio_write(t->cpu[0], port, &v, 1);
}

static inline uint8_t in8(struct testchip *t, uint16_t port)
{
	uint8_t v = 0xee;

	irqchip_pio_read(t->cpu[0], port, &v, 1);
	return v;
}

static inline int line(struct testchip *t, uint32_t gsi, bool level)
{
	int r;

	pthread_mutex_lock(&t->chip->lock);
	r = gsi_set_locked(t->vm, gsi, SOURCE_USER, level);
	pthread_mutex_unlock(&t->chip->lock);
	return r;
}

static inline void ioapic_put(struct testchip *t, unsigned index, uint32_t v)
{
	irqchip_mmio_write(t->cpu[0], IOAPIC_BASE, &index, 4);
	irqchip_mmio_write(t->cpu[0], IOAPIC_BASE + 0x10, &v, 4);
}

static inline uint32_t ioapic_get(struct testchip *t, unsigned index)
{
	uint32_t v = 0xdeadbeef;

	irqchip_mmio_write(t->cpu[0], IOAPIC_BASE, &index, 4);
	irqchip_mmio_read(t->cpu[0], IOAPIC_BASE + 0x10, &v, 4);
	return v;
}

static inline void ioapic_entry(struct testchip *t, unsigned pin, uint64_t e)
{
	ioapic_put(t, 0x10 + 2 * pin + 1, (uint32_t)(e >> 32));
	ioapic_put(t, 0x10 + 2 * pin, (uint32_t)e);
}
