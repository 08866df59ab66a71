/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The board: a PC compatible with QEMU's q35 where guests can see it. Places
 * the devices, builds ACPI and SMBIOS, loads kernels. Knows no KVM: what the
 * processors must start with is handed to the vmm as a struct machine_start.
 */
#pragma once

#include "block/block.h"
#include "dev/dev.h"
#include "mem/mem.h"
#include "netio/netio.h"

#define MACHINE_CPUS_MAX  255
#define MACHINE_DISKS_MAX 16
#define MACHINE_NICS_MAX  8
/* RAM at the most: what 40 bits of physical address hold besides the windows. */
#define MACHINE_MEMORY_MAX (GIB(1024) - GIB(64))
#define MACHINE_LOWMEM_END 0x80000000ull /* RAM below the PCI hole ends here at the most (q35) */

struct machine;
struct chardev; /* src/dev/char/chardev.h */

struct machine_disk {
	struct block *block; /* borrowed: must outlive the machine */
	const char *serial;  /* may be NULL */
};

struct machine_nic {
	struct netio *netio; /* borrowed */
	uint8_t mac[6];
};

/* As struct virtio_vsock_options. */
struct machine_vsock {
	uint32_t cid; /* 0: none */
	int listen_fd;
	int (*connect)(void *opaque, uint32_t port);
	void *opaque;
};

/* All strings are copied; all handles borrowed until machine_free(). */
struct machine_config {
	unsigned cpus;
	uint64_t memory_bytes;
	struct chardev *console;        /* COM1; NULL: none */
	struct chardev *virtio_console; /* NULL: none */
	struct machine_disk disks[MACHINE_DISKS_MAX];
	unsigned disk_count;
	struct machine_nic nics[MACHINE_NICS_MAX];
	unsigned nic_count;
	bool rng, balloon, debug_exit;
	struct machine_vsock vsock;
	const char *kernel, *initrd, *cmdline; /* paths; kernel NULL: firmware (not yet) */
};

/* Kinds of direct start, for messages and tests. */
enum machine_kernel { MACHINE_KERNEL_BZIMAGE, MACHINE_KERNEL_PVH, MACHINE_KERNEL_MULTIBOOT };

/* What the boot processor starts with; the others wait for INIT and SIPI. */
struct machine_start {
	enum machine_kernel kind;
	bool long_mode; /* else flat 32-bit protected mode, paging off */
	uint64_t rip, rsp, rsi, rbx, rax, rflags;
	uint64_t cr0, cr3, cr4, efer;
	gpa_t gdt_base;
	uint16_t gdt_limit;
	/* Selectors; flat segments: base 0, limit 4 GiB; ds for all data segments. */
	uint16_t cs, ds;
	uint16_t tr;
};

/*
 * Build the board in `env` (memory regions are added to env->mem here, devices
 * mapped on env->bus), load the kernel, initrd and command line. On failure
 * -errno, one line in `error` (what, which object, why, what to do) and no device left behind
 * (RAM stays in env->mem, which is of no more use then).
 *
 * All functions here are called on the loop's thread or before it runs. The engine must have an
 * 8254 that answers port 0x61 (KVM_PIT_SPEAKER_DUMMY).
 */
int machine_new(struct dev_env *env, const struct machine_config *c, char *error, size_t error_size,
		struct machine **ret);
void machine_free(struct machine *m); /* NULL is fine */
const struct machine_start *machine_start(const struct machine *m);

/*
 * Reset every device and load kernel and tables anew (RAM that they do not cover is left).
 * vCPUs must be out of KVM_RUN. The caller then sets the vCPUs to machine_start().
 */
int machine_reset(struct machine *m, char *error, size_t error_size);
/* Press the power button (ACPI). */
void machine_power_button(struct machine *m);
