/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/vm.h"

#include <stdio.h>

/*
 * Three pages for Intel processors that cannot run real mode unaided, and one
 * for their page table (KVM API 4.35, 4.41): in the hole below the local APIC,
 * where neither RAM nor firmware lies.
 */
#define IDENTITY_MAP_ADDR 0xfeffc000ull
#define TSS_ADDR          0xfeffd000ull

static int fail(int err, const char *what, char *error, size_t error_size)
{
	snprintf(error, error_size, "engine: cannot %s: %s", what, strerror(-err));
	return err;
}

/* Remember how the chips are now, at power-on. */
static int save_chips(struct vm *v)
{
	int r = 0;

	for (unsigned i = 0; i < VM_CHIPS && r >= 0; i++) {
		v->chips[i].chip_id = i;
		r = kvm_ioctl(v->kvm, v->fd, KVM_GET_IRQCHIP, &v->chips[i]);
	}
	return r < 0 ? r : kvm_ioctl(v->kvm, v->fd, KVM_GET_PIT2, &v->pit);
}

int vm_init(struct vm *v, struct kvm *k, char *error, size_t error_size)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t identity = IDENTITY_MAP_ADDR;
	int r;

	*v = (struct vm){ .kvm = k, .fd = -1 };
	r = kvm_sys_ioctl_int(k, KVM_CREATE_VM, 0);
	if (r < 0) {
		return fail(r, "create a virtual machine", error, error_size);
	}
	v->fd = r;
	r = kvm_ioctl(k, v->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (r >= 0) {
		r = kvm_ioctl_int(k, v->fd, KVM_SET_TSS_ADDR, TSS_ADDR);
	}
	if (r < 0) {
		return fail(r, "place its own pages", error, error_size);
	}
	r = kvm_ioctl_int(k, v->fd, KVM_CREATE_IRQCHIP, 0);
	if (r < 0) {
		return fail(r, "create interrupt controllers", error, error_size);
	}
	r = kvm_ioctl(k, v->fd, KVM_CREATE_PIT2, &pit);
	if (r >= 0) {
		r = save_chips(v);
	}
	return r < 0 ? fail(r, "create the timer", error, error_size) : 0;
}

void vm_done(struct vm *v)
{
	if (v->kvm) {
		kvm_fd_close(v->kvm, &v->fd);
	}
}

int vm_add_memory(struct vm *v, const struct mem *m, char *error, size_t error_size)
{
	for (unsigned i = 0; i < mem_region_count(m); i++) {
		const struct mem_region *r = mem_region_at(m, i);
		struct kvm_userspace_memory_region slot = {
			.slot = r->slot,
			.flags = r->flags & MEM_READONLY ? KVM_MEM_READONLY : 0,
			.guest_phys_addr = r->gpa,
			.memory_size = r->size_bytes,
			.userspace_addr = (uintptr_t)r->host,
		};
		int err = kvm_ioctl(v->kvm, v->fd, KVM_SET_USER_MEMORY_REGION, &slot);

		if (err < 0) {
			return fail(err, "add memory", error, error_size);
		}
	}
	return 0;
}

int vm_reset(struct vm *v)
{
	int r = 0;

	for (unsigned i = 0; i < VM_CHIPS && r >= 0; i++) {
		r = kvm_ioctl(v->kvm, v->fd, KVM_SET_IRQCHIP, &v->chips[i]);
	}
	return r < 0 ? r : kvm_ioctl(v->kvm, v->fd, KVM_SET_PIT2, &v->pit);
}
