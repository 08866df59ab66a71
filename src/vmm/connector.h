/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's connections to programs of the host, by vsock. The sandboxed process may
 * open no socket; a tiny child outside of it connects to "<prefix>_<port>", nothing else, and hands
 * the descriptor over.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct connector {
	int fd; /* -1: none runs */
	pid_t pid;
};

/* Fork it. `prefix` is copied by that. Before any thread is started. 0 or -errno. */
int connector_start(struct connector *c, const char *prefix);
/* A connected, non-blocking descriptor, or -errno. Waits for the child, which does not block. */
int connector_connect(struct connector *c, uint32_t port);
/* Also for one that was never started, if fd is -1. */
void connector_stop(struct connector *c);
