/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest while it runs. Internal to src/vmm: the monitor steers it.
 * All functions on the loop's thread.
 */
#pragma once

#include "dev/bus.h"
#include "dev/char/chardev.h"
#include "vmm/connector.h"
#include "vmm/gsi.h"
#include "vmm/janitor.h"
#include "vmm/reset_guard.h"
#include "vmm/vcpu.h"
#include "vmm/vmm.h"

struct monitor;

#define VMM_ERROR_BYTES 512u

struct vmm {
	const struct vmm_config *config;
	struct loop *loop;
	struct kvm *kvm;
	char engine_reason[256]; /* why this engine */
	struct mem *mem;
	struct bus *bus;
	struct vm vm;
	struct gsi gsi;
	struct vcpu_group cpus;
	struct dev_env env;
	struct machine *machine;
	struct block *blocks[MACHINE_DISKS_MAX];
	struct netio *netios[MACHINE_NICS_MAX];
	struct chardev *console;
	int console_fd;      /* of --console FILE, the chardev's; -1: another kind */
	bool console_is_new; /* the file was made here: it goes if the start fails */
	struct monitor *monitor;
	struct janitor janitor;
	struct connector connector;
	int signal_fd, vsock_fd;

	/* What other threads want from the loop's. */
	pthread_mutex_t lock;
	unsigned wanted; /* BIT(enum dev_request) */
	unsigned debug_value;
	struct vcpu *failed;

	/* Only the loop's thread. */
	struct reset_guard reset_guard;
	int status; /* -1: not yet known */
	const char *end_reason;
	char error[VMM_ERROR_BYTES]; /* for stderr at the end; "": none */
	char *report;                /* of a crash; malloc'd or NULL */
};

void vmm_pause(struct vmm *v);
void vmm_resume(struct vmm *v);
bool vmm_is_paused(struct vmm *v);
void vmm_power_button(struct vmm *v);
/* Reset the guest now; what a guest does to itself is guarded against storms. */
void vmm_reset(struct vmm *v, bool by_guest);
/* End soon, with this exit status; `reason` as QMP's SHUTDOWN has it. The first stands. */
void vmm_end(struct vmm *v, int status, const char *reason);
