/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM_X86_SET_MSR_FILTER (KVM API 4.97): which MSRs the guest may touch without
 * asking user space.
 */
#include <stdlib.h>

#include "softkvm/api/api.h"
#include "softkvm/api/uaccess.h"
#include "softkvm/cpu/run.h"

#define RANGE_FLAGS (KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)

void msr_filter_free(struct msr_filter *f)
{
	if (!f) {
		return;
	}
	for (unsigned i = 0; i < f->count; i++) {
		free(f->ranges[i].bitmap);
	}
	free(f);
}

static int range_add(struct msr_filter *f, const struct kvm_msr_filter_range *in)
{
	struct msr_filter_range *range = &f->ranges[f->count];
	size_t bytes = ALIGN_UP((size_t)in->nmsrs, (size_t)64) / 8;
	int r;

	if (in->nmsrs == 0) {
		return 0;
	}
	if (in->flags == 0 || (in->flags & ~(uint32_t)RANGE_FLAGS) ||
	    bytes > KVM_MSR_FILTER_MAX_BITMAP_SIZE) {
		return -EINVAL;
	}
	range->bitmap = malloc(bytes);
	if (!range->bitmap) {
		return -ENOMEM;
	}
	r = user_read(range->bitmap, (uint64_t)(uintptr_t)in->bitmap, bytes);
	if (r != 0) {
		free(range->bitmap);
		return r;
	}
	range->flags = in->flags;
	range->base = in->base;
	range->nmsrs = in->nmsrs;
	f->count++;
	return 0;
}

static bool is_empty(const struct kvm_msr_filter *in)
{
	for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		if (in->ranges[i].nmsrs != 0) {
			return false;
		}
	}
	return true;
}

static int filter_new(const struct kvm_msr_filter *in, struct msr_filter **ret)
{
	struct msr_filter *f = calloc(1, sizeof(*f));
	int r = f ? 0 : -ENOMEM;

	if (r == 0) {
		f->default_allow = !(in->flags & KVM_MSR_FILTER_DEFAULT_DENY);
	}
	for (unsigned i = 0; r == 0 && i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		r = range_add(f, &in->ranges[i]);
	}
	if (r != 0) {
		msr_filter_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

int msr_filter_set(struct vm *vm, uint64_t user)
{
	struct kvm_msr_filter in;
	struct msr_filter *f = NULL, *old;
	int r = user_read(&in, user, sizeof(in));

	if (r != 0) {
		return r;
	}
	if (in.flags & ~(uint32_t)KVM_MSR_FILTER_DEFAULT_DENY) {
		return -EINVAL;
	}
	if (is_empty(&in) && (in.flags & KVM_MSR_FILTER_DEFAULT_DENY)) {
		return -EINVAL; /* it would be a filter that nothing passes */
	}
	r = filter_new(&in, &f);
	if (r != 0) {
		return r;
	}
	vm_pause_vcpus(vm);
	old = vm->msr_filter;
	vm->msr_filter = f;
	vm_resume_vcpus(vm);
	msr_filter_free(old);
	return 0;
}

bool msr_filter_allows(const struct vm *vm, uint32_t index, bool write)
{
	const struct msr_filter *f = vm->msr_filter;
	uint32_t want = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ;

	if (!f || (index >= 0x800 && index <= 0x8ff)) {
		return true;
	}
	for (unsigned i = 0; i < f->count; i++) {
		const struct msr_filter_range *r = &f->ranges[i];
		uint32_t bit = index - r->base;

		if ((r->flags & want) && index >= r->base && bit < r->nmsrs) {
			return r->bitmap[bit / 8] & BIT(bit % 8);
		}
	}
	return f->default_allow;
}
