/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options of `lodge run`.
 */
#pragma once

#include "vmm/vmm.h"

enum run_action { RUN_GUEST, RUN_HELP, RUN_VERSION };

#define RUN_MEMORY_DEFAULT MIB(512)
/* Less holds no kernel of today. */
#define RUN_MEMORY_MIN MIB(16)
#define RUN_MEMORY_MAX MACHINE_MEMORY_MAX

#define RUN_BACKING_MAX 16 /* a longer chain is named by its headers: backing=header */

struct run_options {
	struct vmm_config config;
	struct block_source backing[MACHINE_DISKS_MAX][RUN_BACKING_MAX];
	char disk_paths[MACHINE_DISKS_MAX][4096];
	char ifnames[MACHINE_NICS_MAX][16];
};

/*
 * Read the arguments behind `run`. `o` must stay as long as its config is
 * used; strings of argv are borrowed. False: a usage error, in `error` one
 * line that says which option, why, and what to do.
 */
bool run_options_parse(struct run_options *o, int argc, char *const *argv,
		       enum run_action *ret_action, char *error, size_t error_size);
/* The help text of `lodge run`. */
extern const char run_help[];
