/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In place of soft.c in a build without libsoftkvm: an engine that cannot be
 * opened. Nothing else is ever called then.
 */
#include "kvm/provider.h"

static int absent_open(void)
{
	return -ENOTSUP;
}

const struct kvm_provider kvm_provider_soft = { .open = absent_open };
