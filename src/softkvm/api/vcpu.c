/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a virtual processor.
 *
 * Its descriptor is a memfd that holds what user space maps: the run structure,
 * the page for PIO data, the ring for coalesced accesses. It is freed with its VM, not with its
 * descriptor, so that interrupts may always be sent to it.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "softkvm/api/api.h"
#include "softkvm/api/fdtable.h"
#include "softkvm/cpu/msr.h"
#include "softkvm/cpu/run.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/jit/jit.h"
#include "softkvm/mmu/mmu.h"

#define VCPU_ID_LIMIT 1024u /* KVM_CAP_MAX_VCPU_ID */

void vcpu_free(struct vcpu *cpu)
{
	if (!cpu) {
		return;
	}
	lapic_free(cpu);
	if (cpu->mmu) {
		blocks_done(cpu);
		mmu_vcpu_done(cpu);
	}
	if (cpu->run) {
		munmap(cpu->run, RUN_SIZE_BYTES);
	}
	jit_vcpu_done(cpu);
	free(cpu->cpuid);
	free(cpu->sigmask);
	pthread_mutex_destroy(&cpu->ioctl_lock);
	munmap(cpu, sizeof(*cpu));
}

static int vcpu_alloc(struct vm *vm, uint32_t id, struct vcpu **ret)
{
	/* Zero, and most of it not touched before it is used. */
	struct vcpu *cpu = mmap(NULL, sizeof(*cpu), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (cpu == MAP_FAILED) {
		return -ENOMEM;
	}
	cpu->vm = vm;
	cpu->id = id;
	cpu->fd = -1;
	cpu->tsc_khz = vm->default_tsc_khz;
	atomic_store(&cpu->ext_vector, -1);
	cpu->apic_base = 0xfee00000u | BIT(11) | (id == vm->boot_cpu_id ? BIT(8) : 0);
	pthread_mutex_init(&cpu->ioctl_lock, NULL);
	jit_vcpu_init(cpu);
	*ret = cpu;
	return 0;
}

int vcpu_map_ring(struct vm *vm, void *run)
{
	uint8_t *at = (uint8_t *)run + RING_PAGE * 4096;

	return mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, vm->ring_fd,
		    RING_PAGE * 4096) == at
		       ? 0
		       : -errno;
}

/* The first TSC starts at 0; later ones join it, so that they agree whatever was written to it. */
static void start_tsc(struct vcpu *cpu)
{
	const struct vcpu *first = atomic_load(&cpu->vm->vcpus[0]);

	cpu->tsc_offset = 0;
	cpu->tsc_offset = first && first->tsc_khz == cpu->tsc_khz ? first->tsc_offset
								  : -(int64_t)cpu_tsc(cpu);
}

/* The parts that others own; on failure the caller frees. */
static int vcpu_setup(struct vcpu *cpu, int fd)
{
	void *run = mmap(NULL, RUN_SIZE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int r;

	if (run == MAP_FAILED) {
		return -errno;
	}
	cpu->run = run;
	if (cpu->vm->ring_fd < 0) {
		cpu->vm->ring_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	}
	r = cpu->vm->ring_fd < 0 ? -errno : vcpu_map_ring(cpu->vm, run);
	if (r != 0) {
		return r;
	}
	r = mmu_vcpu_init(cpu);
	if (r == 0) {
		r = blocks_init(cpu);
	}
	if (r == 0 && irqchip_in_kernel(cpu->vm)) {
		r = lapic_new(cpu);
	}
	if (r != 0) {
		return r;
	}
	cpu->msr.mcg_cap = MCE_BANKS_MAX;
	cpu_reset(cpu, false);
	start_tsc(cpu);
	return 0;
}

static uint32_t first_mp_state(const struct vcpu *cpu)
{
	bool bsp = cpu->id == cpu->vm->boot_cpu_id;

	return bsp || !irqchip_in_kernel(cpu->vm) ? KVM_MP_STATE_RUNNABLE
						  : KVM_MP_STATE_UNINITIALIZED;
}

static int check_id(struct vm *vm, uint32_t id)
{
	if (id >= VCPU_ID_LIMIT || vm->vcpu_count >= VM_VCPUS_MAX) {
		return -EINVAL;
	}
	if (vm->cap.max_vcpu_id != 0 && id >= vm->cap.max_vcpu_id) {
		return -EINVAL;
	}
	return vm_vcpu_by_id(vm, id) ? -EEXIST : 0;
}

int vcpu_create_locked(struct vm *vm, uint32_t id, int *ret_fd)
{
	AUTO_FD fd = -1;
	struct vcpu *cpu;
	int r = check_id(vm, id);

	if (r != 0) {
		return r;
	}
	fd = api_memfd("softkvm-vcpu", RUN_SIZE_BYTES);
	if (fd < 0) {
		return fd;
	}
	r = vcpu_alloc(vm, id, &cpu);
	if (r != 0) {
		return r;
	}
	r = vcpu_setup(cpu, fd);
	if (r == 0) {
		atomic_store(&cpu->mp_state, first_mp_state(cpu));
		r = fdtable_add(fd, HANDLE_VCPU, vm, cpu);
	}
	if (r != 0) {
		vcpu_free(cpu);
		return r;
	}
	atomic_fetch_add(&vm->refs, 1);
	cpu->fd = fd;
	atomic_store(&vm->vcpus[vm->vcpu_count], cpu);
	atomic_fetch_add_explicit(&vm->vcpu_count, 1, memory_order_release);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

void vcpu_release(struct vcpu *cpu)
{
	vm_unref(cpu->vm);
}
