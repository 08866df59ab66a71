/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest while it runs. Internal to src/vmm: the monitor steers it.
 * All functions on the loop's thread.
 */
#pragma once

#include "dev/bus.h"
#include "dev/char/chardev.h"
#include "vmm/gsi.h"
#include "vmm/janitor.h"
#include "vmm/vcpu.h"
#include "vmm/vmm.h"

struct monitor;

/*
 * A guest that resets itself without end is broken, and would fill a host's
 * processor and logs: more than this many resets in the window are an error.
 */
#define VMM_RESETS_MAX	      10u
#define VMM_RESETS_WINDOW_NS (10 * 1000000000ll)

#define VMM_ERROR_BYTES 512u

struct vmm {
	const struct vmm_config *config;
	struct loop *loop;
	struct kvm *kvm;
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
	struct monitor *monitor;
	struct janitor janitor;
	int signal_fd;

	/* What other threads want from the loop's. */
	pthread_mutex_t lock;
	unsigned wanted; /* BIT(enum dev_request) */
	unsigned debug_value;
	struct vcpu *failed;

	/* Only the loop's thread. */
	ns_t resets_ns[VMM_RESETS_MAX]; /* a ring: when the last ones were */
	unsigned reset_count;
	int status;
	char error[VMM_ERROR_BYTES]; /* for stderr at the end; "": none */
	char *report; /* of a crash; malloc'd or NULL */
};

void vmm_pause(struct vmm *v);
void vmm_resume(struct vmm *v);
bool vmm_is_paused(struct vmm *v);
void vmm_power_button(struct vmm *v);
/* Reset the guest now. */
void vmm_reset(struct vmm *v);
/* End soon, with this exit status. The first status stands. */
void vmm_end(struct vmm *v, int status);

/* Whether a reset at `now_ns` is one too many; remembers it. For tests. */
bool vmm_reset_is_storm(ns_t ring[VMM_RESETS_MAX], unsigned *count, ns_t now_ns);
