/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What comes before a guest's first instruction: from there on the process can
 * do what a running guest needs and nothing else. See sandbox.c for the
 * list of system calls, each with its reason.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct sandbox_options {
	bool soft_engine; /* the engine is in this process and makes code */
	bool user_net;    /* user-mode networking opens sockets for the guest */
};

/*
 * First step, once all files are open and before threads are started, which
 * inherit it: no new rights, no capabilities, no paths. 0, or -errno and one
 * line in `error`. There is no way back from either step.
 */
int sandbox_close_files(const struct sandbox_options *o, char *error, size_t error_size);
/* Second step, for all threads that there are: the filter of system calls. The same errors. */
int sandbox_filter_calls(const struct sandbox_options *o, char *error, size_t error_size);
