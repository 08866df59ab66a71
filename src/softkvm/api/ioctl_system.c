/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ioctls on the system descriptor (KVM API 4.1 to 4.7).
 */
#include "softkvm/api/api.h"
#include "softkvm/api/cpuid.h"
#include "softkvm/api/fdtable.h"
#include "softkvm/api/uaccess.h"

static int get_api_version(struct api_call *c)
{
	return c->raw != 0 ? -EINVAL : KVM_API_VERSION;
}

static int create_vm(struct api_call *c)
{
	AUTO_FD fd = -1;
	struct vm *vm;
	int r = vm_new(c->raw, &vm);

	if (r != 0) {
		return r;
	}
	fd = api_memfd("softkvm-vm", 0);
	r = fd < 0 ? fd : fdtable_add(fd, HANDLE_VM, vm, NULL);
	if (r != 0) {
		vm_unref(vm);
		return r;
	}
	vm->fd = fd;
	return TAKE_FD(fd);
}

static int check_extension(struct api_call *c)
{
	return caps_check(NULL, c->raw);
}

static int get_vcpu_mmap_size(struct api_call *c)
{
	return c->raw != 0 ? -EINVAL : (int)RUN_SIZE_BYTES;
}

static int get_supported_cpuid(struct api_call *c)
{
	return cpuid_get_supported(c->raw);
}

static int get_emulated_cpuid(struct api_call *c)
{
	return cpuid_get_emulated(c->raw);
}

static int get_msr_index_list(struct api_call *c)
{
	return msrs_list(c->raw, false);
}

static int get_msr_feature_index_list(struct api_call *c)
{
	return msrs_list(c->raw, true);
}

static int get_msrs(struct api_call *c)
{
	return msrs_get(NULL, c->raw);
}

static int get_mce_cap_supported(struct api_call *c)
{
	uint64_t caps = MCG_CAP_SUPPORTED;

	memcpy(c->arg, &caps, sizeof(caps));
	return 0;
}

/* KVM_CAP_SYS_ATTRIBUTES: group 0 has the XSAVE components that need a permission: none do. */
static int has_device_attr(struct api_call *c)
{
	const struct kvm_device_attr *attr = c->arg;

	return attr->group == 0 && attr->attr == KVM_X86_XCOMP_GUEST_SUPP ? 0 : -ENXIO;
}

static int get_device_attr(struct api_call *c)
{
	const struct kvm_device_attr *attr = c->arg;
	uint64_t value = cpuid_supported_xcr0();

	if (attr->group != 0 || attr->attr != KVM_X86_XCOMP_GUEST_SUPP) {
		return -ENXIO;
	}
	return user_write(attr->addr, &value, sizeof(value));
}

const struct ioctl_row ioctl_system_rows[] = {
	{ KVM_GET_API_VERSION, ARG_NONE, get_api_version },
	{ KVM_CREATE_VM, ARG_NONE, create_vm },
	{ KVM_CHECK_EXTENSION, ARG_NONE, check_extension },
	{ KVM_GET_VCPU_MMAP_SIZE, ARG_NONE, get_vcpu_mmap_size },
	{ KVM_GET_SUPPORTED_CPUID, ARG_RAW, get_supported_cpuid },
	{ KVM_GET_EMULATED_CPUID, ARG_RAW, get_emulated_cpuid },
	{ KVM_GET_MSR_INDEX_LIST, ARG_RAW, get_msr_index_list },
	{ KVM_GET_MSR_FEATURE_INDEX_LIST, ARG_RAW, get_msr_feature_index_list },
	{ KVM_GET_MSRS, ARG_RAW, get_msrs },
	{ KVM_X86_GET_MCE_CAP_SUPPORTED, ARG_OUT, get_mce_cap_supported },
	{ KVM_HAS_DEVICE_ATTR, ARG_IN, has_device_attr },
	{ KVM_GET_DEVICE_ATTR, ARG_IN, get_device_attr },
	{ 0 },
};
