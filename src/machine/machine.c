/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The board: RAM, devices and their order, power-on state.
 *
 * Every device stands in `board`, in the order of construction. Chipset devices
 * without a PCI function belong to the machine, PCI functions to the host
 * bridge. All are freed in reverse.
 *
 * After each reset the machine is brought to the state that a kernel expects of
 * firmware (power_on): ECAM, PM ports and BARs in place, ACPI and SMBIOS
 * tables in RAM, then the kernel itself.
 */
#include "machine/machine.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "dev/char/serial.h"
#include "dev/chipset/fw_cfg.h"
#include "dev/chipset/i8042.h"
#include "dev/chipset/lpc.h"
#include "dev/chipset/mch.h"
#include "dev/chipset/pm.h"
#include "dev/chipset/ports.h"
#include "dev/chipset/rtc.h"
#include "dev/pci/pci.h"
#include "dev/virtio/virtio_devices.h"
#include "machine/acpi.h"
#include "machine/board.h"
#include "machine/load.h"
#include "machine/pci_assign.h"
#include "machine/smbios.h"

#define CHIPSET_DEVS_MAX 8

struct machine {
	struct dev_env *env;
	struct board_layout layout;
	struct load *load;
	struct machine_start start;
	struct pci_host *pci;
	struct dev *chipset[CHIPSET_DEVS_MAX]; /* in the order of making */
	unsigned chipset_count;
	struct dev *pm; /* one of them */
	struct pci_dev *mch, *lpc;
};

/* ---- the map ---- */

void board_layout_init(struct board_layout *l, unsigned cpus, uint64_t memory_bytes, bool has_com1)
{
	uint64_t low = MIN(memory_bytes, (uint64_t)MACHINE_LOWMEM_END);

	*l = (struct board_layout){ .cpus = cpus,
				    .low_ram_bytes = low,
				    .high_ram_bytes = memory_bytes - low,
				    .has_com1 = has_com1 };
	l->pci64 = ALIGN_UP(BOARD_HIGH_RAM + l->high_ram_bytes, BOARD_PCI64_ALIGN);
	l->pci64_end = l->pci64 + BOARD_PCI64_BYTES;
}

/* What e820 says; sorted. Returns the number of ranges. */
static unsigned memory_map(const struct board_layout *l, struct load_range *map)
{
	const struct load_range ranges[] = {
		{ 0, BOARD_EBDA, LOAD_RANGE_RAM },
		{ BOARD_EBDA, BOARD_VGA - BOARD_EBDA, LOAD_RANGE_RESERVED },
		{ BOARD_FACS, BOARD_ACPI - BOARD_FACS, LOAD_RANGE_NVS },
		{ BOARD_ACPI, BOARD_BIOS - BOARD_ACPI, LOAD_RANGE_ACPI },
		{ BOARD_BIOS, BOARD_BIOS_END - BOARD_BIOS, LOAD_RANGE_RESERVED },
		{ BOARD_BIOS_END, l->low_ram_bytes - BOARD_BIOS_END, LOAD_RANGE_RAM },
		{ BOARD_ECAM, BOARD_ECAM_BYTES, LOAD_RANGE_RESERVED },
		{ BOARD_ENGINE, BOARD_ENGINE_END - BOARD_ENGINE, LOAD_RANGE_RESERVED },
		{ BOARD_HIGH_RAM, l->high_ram_bytes, LOAD_RANGE_RAM },
	};
	unsigned count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++) {
		if (ranges[i].len) {
			map[count++] = ranges[i];
		}
	}
	return count;
}

/*
 * RAM. The VGA range is part of the low region, so that it stays one mapping (and huge pages
 * stay whole); no kernel is told of RAM there.
 */
static int make_ram(struct machine *m, const struct machine_config *c)
{
	int r = mem_add(m->env->mem, 0, m->layout.low_ram_bytes, 0, "ram");

	if (r == 0 && m->layout.high_ram_bytes) {
		r = mem_add(m->env->mem, BOARD_HIGH_RAM, m->layout.high_ram_bytes, 0, "ram-high");
	}
	return r;
}

/* ---- devices ---- */

/* A new chipset device is ours; `r` is what its constructor said. */
static int keep(struct machine *m, struct dev *d, int r)
{
	if (r == 0) {
		ASSERT(m->chipset_count < CHIPSET_DEVS_MAX);
		m->chipset[m->chipset_count++] = d;
	}
	return r;
}

static int make_pm(struct machine *m, const struct machine_config *c)
{
	int r = pm_new(m->env, &m->pm);

	return keep(m, m->pm, r);
}

static int make_rtc(struct machine *m, const struct machine_config *c)
{
	struct rtc_config rtc = { .memory_below_4g = m->layout.low_ram_bytes,
				  .memory_above_4g = m->layout.high_ram_bytes,
				  .cpus = c->cpus };
	struct dev *d = NULL;
	int r = rtc_new(m->env, &rtc, &d);

	return keep(m, d, r);
}

static int make_i8042(struct machine *m, const struct machine_config *c)
{
	struct dev *d = NULL;
	int r = i8042_new(m->env, &d);

	return keep(m, d, r);
}

static int make_ports(struct machine *m, const struct machine_config *c)
{
	struct dev *d = NULL;
	int r = ports_new(m->env, c->debug_exit, &d);

	return keep(m, d, r);
}

static int make_serial(struct machine *m, const struct machine_config *c)
{
	struct dev *d = NULL;
	int r;

	if (!c->console) {
		return 0;
	}
	r = serial_new(m->env, SERIAL_COM1_PORT, SERIAL_COM1_IRQ, c->console, &d);
	return keep(m, d, r);
}

/* RAM as "etc/e820" lists it. */
static int add_e820(struct dev *fw_cfg, const struct board_layout *l)
{
	struct load_range map[LOAD_RANGES_MAX];
	struct {
		uint64_t base, len;
		uint32_t type;
	} __attribute__((packed)) entries[LOAD_RANGES_MAX];
	unsigned count = memory_map(l, map);

	for (unsigned i = 0; i < count; i++) {
		entries[i].base = map[i].base;
		entries[i].len = map[i].len;
		entries[i].type = map[i].type;
	}
	return fw_cfg_add_file(fw_cfg, "etc/e820", entries, count * sizeof(entries[0]));
}

static int add_items(struct dev *d, const struct machine_config *c, const struct board_layout *l)
{
	const char *cmdline = c->cmdline ? c->cmdline : "";
	uint32_t cmdline_bytes = (uint32_t)strlen(cmdline) + 1;
	int r = fw_cfg_add_u16(d, FW_CFG_CPUS, (uint16_t)c->cpus);

	r = r < 0 ? r : fw_cfg_add_u16(d, FW_CFG_CPUS_MAX, (uint16_t)c->cpus);
	r = r < 0 ? r : fw_cfg_add_u64(d, FW_CFG_RAM_BYTES, c->memory_bytes);
	r = r < 0 ? r : fw_cfg_add_u16(d, FW_CFG_NO_GRAPHIC, 1);
	r = r < 0 ? r : fw_cfg_add_u16(d, FW_CFG_BOOT_MENU, 0);
	r = r < 0 ? r : fw_cfg_add_u32(d, FW_CFG_CMDLINE_BYTES, cmdline_bytes);
	r = r < 0 ? r : fw_cfg_add(d, FW_CFG_CMDLINE_DATA, cmdline, cmdline_bytes);
	return r < 0 ? r : add_e820(d, l);
}

static int make_fw_cfg(struct machine *m, const struct machine_config *c)
{
	struct dev *d = NULL;
	int r = fw_cfg_new(m->env, &d);

	r = keep(m, d, r);
	return r < 0 ? r : add_items(d, c, &m->layout);
}

static int make_pci(struct machine *m, const struct machine_config *c)
{
	int r = pci_host_new(m->env, 0, 0, &m->pci);

	r = r < 0 ? r : mch_new(m->pci, &m->mch);
	return r < 0 ? r : lpc_new(m->pci, m->pm, &m->lpc);
}

static int make_disks(struct machine *m, const struct machine_config *c)
{
	int r = 0;

	for (unsigned i = 0; i < c->disk_count && r == 0; i++) {
		struct virtio_blk_options o = { .block = c->disks[i].block,
						.serial = c->disks[i].serial,
						.queues = MIN(c->cpus,
							      (unsigned)VIRTIO_BLK_QUEUES_MAX) };

		r = virtio_blk_new(m->pci, -1, &o, NULL);
	}
	return r;
}

static int make_nics(struct machine *m, const struct machine_config *c)
{
	int r = 0;

	for (unsigned i = 0; i < c->nic_count && r == 0; i++) {
		struct virtio_net_options o = { .netio = c->nics[i].netio };

		memcpy(o.mac, c->nics[i].mac, sizeof(o.mac));
		r = virtio_net_new(m->pci, -1, &o, NULL);
	}
	return r;
}

static int make_console(struct machine *m, const struct machine_config *c)
{
	struct virtio_console_port port = { .chardev = c->virtio_console };
	struct virtio_console_options o = { .ports = &port, .port_count = 1 };

	return c->virtio_console ? virtio_console_new(m->pci, -1, &o, NULL) : 0;
}

static int make_rng(struct machine *m, const struct machine_config *c)
{
	return c->rng ? virtio_rng_new(m->pci, -1, NULL, NULL) : 0;
}

static int make_balloon(struct machine *m, const struct machine_config *c)
{
	return c->balloon ? virtio_balloon_new(m->pci, -1, NULL, NULL) : 0;
}

static int make_vsock(struct machine *m, const struct machine_config *c)
{
	struct virtio_vsock_options o = { .cid = c->vsock.cid,
					  .listen_fd = c->vsock.listen_fd,
					  .connect = c->vsock.connect,
					  .opaque = c->vsock.opaque };

	return c->vsock.cid ? virtio_vsock_new(m->pci, -1, &o, NULL) : 0;
}

/* All that is on the board. PCI functions take slots in this order. */
static const struct {
	const char *name;
	int (*make)(struct machine *m, const struct machine_config *c);
} board[] = {
	{ "RAM", make_ram },         { "ACPI power management", make_pm },
	{ "clock", make_rtc },       { "keyboard controller", make_i8042 },
	{ "ports", make_ports },     { "serial port", make_serial },
	{ "fw_cfg", make_fw_cfg },   { "PCI host", make_pci },
	{ "disk", make_disks },      { "network card", make_nics },
	{ "console", make_console }, { "random numbers", make_rng },
	{ "balloon", make_balloon }, { "vsock", make_vsock },
};

/* ---- life ---- */

static int fail(int r, char *error, size_t size, const char *what)
{
	snprintf(error, size, "%s: %s", what, strerror(-r));
	return r;
}

static int fail_ram(int r, const struct machine_config *c, char *error, size_t size)
{
	snprintf(error, size, "memory of %llu MiB: cannot be had: %s; give less with --memory",
		 (unsigned long long)(c->memory_bytes / MIB(1)), strerror(-r));
	return r;
}

static int make_devices(struct machine *m, const struct machine_config *c, char *error,
			size_t error_size)
{
	for (unsigned i = 0; i < ARRAY_SIZE(board); i++) {
		int r = board[i].make(m, c);

		if (r < 0) {
			return board[i].make == make_ram
				       ? fail_ram(r, c, error, error_size)
				       : fail(r, error, error_size, board[i].name);
		}
	}
	return 0;
}

static int check(const struct machine_config *c, char *error, size_t size)
{
	if (!c->kernel) {
		snprintf(error, size,
			 "no kernel: starting firmware is not possible yet, "
			 "give a kernel to start");
		return -ENOTSUP;
	}
	if (!c->cpus || c->cpus > MACHINE_CPUS_MAX) {
		snprintf(error, size, "%u processors: between 1 and %u are possible", c->cpus,
			 MACHINE_CPUS_MAX);
		return -EINVAL;
	}
	if (c->memory_bytes < BOARD_MEMORY_MIN || c->memory_bytes > MACHINE_MEMORY_MAX ||
	    c->memory_bytes % 4096) {
		snprintf(error, size,
			 "memory of %llu bytes: between %llu MiB and %llu GiB are possible, in "
			 "steps of 4 KiB",
			 (unsigned long long)c->memory_bytes,
			 (unsigned long long)(BOARD_MEMORY_MIN / MIB(1)),
			 (unsigned long long)(MACHINE_MEMORY_MAX / GIB(1)));
		return -EINVAL;
	}
	if (c->vsock.cid && (c->vsock.cid < 3 || !c->vsock.connect)) {
		snprintf(error, size, "vsock %u: give a number of 3 or more and its sockets",
			 c->vsock.cid);
		return -EINVAL;
	}
	return 0;
}

static int place_tables(struct machine *m)
{
	int r = acpi_place(m->env->mem, &m->layout);

	return r < 0 ? r : smbios_place(m->env->mem, &m->layout);
}

/* What firmware would have done; see the head of the file. */
static int power_on(struct machine *m, char *error, size_t error_size)
{
	struct load_range map[LOAD_RANGES_MAX];
	struct load_params p = { .map = map, .rsdp = BOARD_RSDP };
	int r;

	mch_set_pciexbar(m->mch, BOARD_ECAM);
	lpc_enable_acpi(m->lpc);
	r = pci_assign(m->pci, m->lpc, &m->layout);
	if (r < 0) {
		return fail(r, error, error_size, "PCI: no room for all devices' windows");
	}
	r = place_tables(m);
	if (r < 0) {
		return fail(r, error, error_size, "ACPI tables");
	}
	p.map_count = memory_map(&m->layout, map);
	return load_place(m->load, m->env->mem, &p, &m->start, error, error_size);
}

int machine_new(struct dev_env *env, const struct machine_config *c, char *error, size_t error_size,
		struct machine **ret)
{
	struct machine *m;
	int r = check(c, error, error_size);

	if (r < 0) {
		return r;
	}
	m = calloc(1, sizeof(*m));
	if (!m) {
		return fail(-ENOMEM, error, error_size, "machine");
	}
	m->env = env;
	board_layout_init(&m->layout, c->cpus, c->memory_bytes, c->console != NULL);
	r = load_open(c->kernel, c->initrd, c->cmdline, error, error_size, &m->load);
	r = r < 0 ? r : make_devices(m, c, error, error_size);
	r = r < 0 ? r : power_on(m, error, error_size);
	if (r < 0) {
		machine_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void machine_free(struct machine *m)
{
	if (!m) {
		return;
	}
	pci_host_free(m->pci);
	while (m->chipset_count) {
		dev_free(m->chipset[--m->chipset_count]);
	}
	load_close(m->load);
	free(m);
}

const struct machine_start *machine_start(const struct machine *m)
{
	return &m->start;
}

int machine_reset(struct machine *m, char *error, size_t error_size)
{
	pci_host_reset(m->pci);
	for (unsigned i = 0; i < m->chipset_count; i++) {
		dev_reset(m->chipset[i]);
	}
	return power_on(m, error, error_size);
}

void machine_power_button(struct machine *m)
{
	pm_power_button(m->pm);
}
