/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "softkvm/mmu/coalesced.h"

#include <stdlib.h>

#include "softkvm/vm.h"

#define ZONES_MAX 256
#define RING_ENTRIES \
	((4096 - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio))

struct coalesced {
	pthread_mutex_t lock; /* zones and the ring's `last`; below all others */
	unsigned count;
	struct kvm_coalesced_mmio_zone zone[ZONES_MAX];
};

int coalesced_register(struct vm *vm, const struct kvm_coalesced_mmio_zone *zone)
{
	struct coalesced *c = __atomic_load_n(&vm->coalesced, __ATOMIC_ACQUIRE);
	int r = -ENOSPC;

	if (zone->pio > 1) {
		return -EINVAL;
	}
	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c) {
			return -ENOMEM;
		}
		pthread_mutex_init(&c->lock, NULL);
		__atomic_store_n(&vm->coalesced, c, __ATOMIC_RELEASE);
	}
	pthread_mutex_lock(&c->lock);
	if (c->count < ZONES_MAX) {
		c->zone[c->count++] = *zone;
		r = 0;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

static bool zone_covers(const struct kvm_coalesced_mmio_zone *z, uint32_t pio, uint64_t addr,
			uint64_t len)
{
	return z->pio == pio && addr >= z->addr && range_within(addr - z->addr, len, z->size);
}

int coalesced_unregister(struct vm *vm, const struct kvm_coalesced_mmio_zone *zone)
{
	struct coalesced *c = vm->coalesced;
	unsigned kept = 0;

	if (zone->pio > 1) {
		return -EINVAL;
	}
	if (!c) {
		return 0;
	}
	pthread_mutex_lock(&c->lock);
	for (unsigned i = 0; i < c->count; i++) {
		if (!zone_covers(&c->zone[i], zone->pio, zone->addr, zone->size)) {
			c->zone[kept++] = c->zone[i];
		}
	}
	c->count = kept;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

void coalesced_done(struct vm *vm)
{
	if (vm->coalesced) {
		pthread_mutex_destroy(&vm->coalesced->lock);
		free(vm->coalesced);
		vm->coalesced = NULL;
	}
}

/* The indexes are user space's too: whatever they are, nothing outside the page is touched. */
static bool ring_put(struct kvm_coalesced_mmio_ring *ring, bool pio, uint64_t addr,
		     const void *data, unsigned len)
{
	uint32_t last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);
	uint32_t first = __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE);
	struct kvm_coalesced_mmio *e;

	if (last >= RING_ENTRIES || (last + 1) % RING_ENTRIES == first) {
		return false;
	}
	e = &ring->coalesced_mmio[last];
	e->phys_addr = addr;
	e->len = len;
	e->pio = pio;
	memcpy(e->data, data, len);
	__atomic_store_n(&ring->last, (last + 1) % RING_ENTRIES, __ATOMIC_RELEASE);
	return true;
}

bool coalesced_write(struct vcpu *cpu, bool pio, uint64_t addr, const void *data, unsigned len)
{
	struct coalesced *c = __atomic_load_n(&cpu->vm->coalesced, __ATOMIC_ACQUIRE);
	struct vcpu *first = atomic_load(&cpu->vm->vcpus[0]);
	bool done = false;

	if (likely(!c) || !first || !first->run || len > 8) {
		return false;
	}
	pthread_mutex_lock(&c->lock);
	for (unsigned i = 0; i < c->count && !done; i++) {
		if (zone_covers(&c->zone[i], pio, addr, len)) {
			done = ring_put((void *)((uint8_t *)first->run +
						 KVM_COALESCED_MMIO_PAGE_OFFSET * 4096),
					pio, addr, data, len);
		}
	}
	pthread_mutex_unlock(&c->lock);
	return done;
}
