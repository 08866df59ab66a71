/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM_GET_MSRS, KVM_SET_MSRS and the lists of MSRs (KVM API 4.3, 4.18, 4.19).
 */
#include <stdlib.h>

#include "softkvm/api/api.h"
#include "softkvm/api/uaccess.h"
#include "softkvm/cpu/msr.h"

#define MSRS_PER_CALL 256u /* the kernel's MAX_IO_MSRS */

/* Copies the list in; *ret is to be freed. Number of entries or -errno. */
static int entries_read(uint64_t user, struct kvm_msr_entry **ret)
{
	struct kvm_msrs head;
	int r = user_read(&head, user, sizeof(head));

	*ret = NULL;
	if (r != 0) {
		return r;
	}
	if (head.nmsrs >= MSRS_PER_CALL) {
		return -E2BIG;
	}
	*ret = calloc(head.nmsrs + 1, sizeof(**ret));
	if (!*ret) {
		return -ENOMEM;
	}
	r = user_read(*ret, user + sizeof(head), head.nmsrs * sizeof(**ret));
	return r != 0 ? r : (int)head.nmsrs;
}

static bool get_one(struct vcpu *cpu, struct kvm_msr_entry *e)
{
	uint64_t v;
	bool ok = cpu ? msr_read(cpu, e->index, &v, true) : msr_feature_read(e->index, &v);

	if (ok) {
		e->data = v;
	}
	return ok;
}

int msrs_get(struct vcpu *cpu, uint64_t user)
{
	struct kvm_msr_entry *entries;
	int n = entries_read(user, &entries), done = 0, r = n;

	while (n >= 0 && done < n && get_one(cpu, &entries[done])) {
		done++;
	}
	if (n >= 0) {
		r = user_write(user + sizeof(struct kvm_msrs), entries,
			       (size_t)n * sizeof(*entries));
	}
	free(entries);
	return r != 0 ? r : done;
}

int msrs_set(struct vcpu *cpu, uint64_t user)
{
	struct kvm_msr_entry *entries;
	int n = entries_read(user, &entries), done = 0;

	while (n >= 0 && done < n &&
	       msr_write(cpu, entries[done].index, entries[done].data, true)) {
		done++;
	}
	free(entries);
	return n < 0 ? n : done;
}

int msrs_list(uint64_t user, bool features)
{
	unsigned count;
	const uint32_t *list = features ? msr_feature_list(&count) : msr_list(&count);
	struct kvm_msr_list head;
	uint32_t room;
	int r = user_read(&head, user, sizeof(head));

	if (r != 0) {
		return r;
	}
	room = head.nmsrs;
	head.nmsrs = count;
	r = user_write(user, &head, sizeof(head));
	if (r != 0) {
		return r;
	}
	if (room < count) {
		return -E2BIG;
	}
	return user_write(user + sizeof(head), list, count * sizeof(*list));
}
