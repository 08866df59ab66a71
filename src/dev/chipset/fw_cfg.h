/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fw_cfg: numbered items and named files by which a q35's firmware and kernels
 * learn about the machine. Interface: ports 0x510 (selector), 0x511 (data) and 0x514
 * (DMA), as QEMU's specification docs/specs/fw_cfg describes it.
 */
#pragma once

#include "dev/dev.h"

#define FW_CFG_PORT  0x510
#define FW_CFG_PORTS 12

enum fw_cfg_key {
	FW_CFG_SIGNATURE = 0x00,
	FW_CFG_ID = 0x01,
	FW_CFG_UUID = 0x02,
	FW_CFG_RAM_BYTES = 0x03,
	FW_CFG_NO_GRAPHIC = 0x04,
	FW_CFG_CPUS = 0x05,
	FW_CFG_BOOT_MENU = 0x0e,
	FW_CFG_CPUS_MAX = 0x0f,
	FW_CFG_KERNEL_BYTES = 0x08,
	FW_CFG_INITRD_BYTES = 0x0b,
	FW_CFG_KERNEL_DATA = 0x11,
	FW_CFG_INITRD_DATA = 0x12,
	FW_CFG_CMDLINE_BYTES = 0x14,
	FW_CFG_CMDLINE_DATA = 0x15,
	FW_CFG_FILE_DIR = 0x19,
	FW_CFG_FILE_FIRST = 0x20,
};

#define FW_CFG_FILES_MAX      64
#define FW_CFG_FILE_NAME_SIZE 56 /* with its NUL */

/* 0 or -errno; freed with dev_free(). Items are added before the machine runs. */
int fw_cfg_new(struct dev_env *env, struct dev **ret);
/* The data is copied; a key that exists is replaced. 0 or -ENOMEM. */
int fw_cfg_add(struct dev *d, enum fw_cfg_key key, const void *data, size_t len);
int fw_cfg_add_u16(struct dev *d, enum fw_cfg_key key, uint16_t value);
int fw_cfg_add_u32(struct dev *d, enum fw_cfg_key key, uint32_t value);
int fw_cfg_add_u64(struct dev *d, enum fw_cfg_key key, uint64_t value);
/* A named file ("etc/e820"); the directory is kept sorted. 0, -ENOMEM, -ENOSPC, -ENAMETOOLONG. */
int fw_cfg_add_file(struct dev *d, const char *name, const void *data, size_t len);
