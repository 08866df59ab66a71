/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One guest: what it is made of, and running it to its end. The caller's
 * process becomes the guest: signals, the terminal and the sandbox are taken over.
 */
#pragma once

#include "block/block.h"
#include "kvm/kvm.h"
#include "machine/machine.h"
#include "netio/netio.h"

#define VMM_FORWARDS_MAX 32u

enum vmm_console { VMM_CONSOLE_STDIO, VMM_CONSOLE_PTY, VMM_CONSOLE_FILE };

enum vmm_net_kind { VMM_NET_USER, VMM_NET_TAP };

struct vmm_disk {
	const char *path;
	struct block_options options;
};

struct vmm_net {
	enum vmm_net_kind kind;
	const char *ifname; /* tap */
	struct netio_forward forwards[VMM_FORWARDS_MAX];
	unsigned forward_count;
};

/* All strings are borrowed for as long as vmm_run() runs. */
struct vmm_config {
	const char *name; /* of the guest, for messages; never NULL */
	enum kvm_engine engine;
	unsigned cpus;
	uint64_t memory_bytes;
	const char *kernel, *initrd, *cmdline;
	struct vmm_disk disks[MACHINE_DISKS_MAX];
	unsigned disk_count;
	struct vmm_net nets[MACHINE_NICS_MAX];
	unsigned net_count;
	enum vmm_console console;
	const char *console_path; /* VMM_CONSOLE_FILE */
	const char *monitor_path; /* NULL: none */
	uint32_t vsock_cid;       /* 0: none */
	const char *vsock_path;   /* its socket; port N of the host is "<path>_N" */
	bool debug_exit;
	bool no_sandbox; /* for debugging */
	bool dry_run;    /* set all up, say what would run, and end */
};

/*
 * Run the guest to its end: the exit status of the process. 0: powered off or
 * quit, 1: a failure (said in one line on stderr, more for a guest that
 * crashed), 128+n: ended by signal n; with debug_exit, value<<1|1 that the guest wrote.
 */
int vmm_run(const struct vmm_config *c);
