/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nothing half-made stays behind, whatever ends the process: a tiny child
 * waits for its parent's end, by choice, crash, seccomp or SIGKILL, restores
 * the terminal and removes the sockets that were made. So the sandbox need not let
 * the guest's process remove files.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* The monitor's and vsock's. */
#define JANITOR_SOCKETS_MAX 2u

struct janitor {
	int pipe_fd; /* -1: none runs */
	pid_t pid;
};

/*
 * Fork it, if there is anything to look after: `tty_fd` is a terminal (-1:
 * none) whose present settings are to be kept, or `will_have_socket`. Before
 * any thread is started. 0 or -errno.
 */
int janitor_start(struct janitor *j, int tty_fd, bool will_have_socket);
/*
 * A socket was bound at `path`: remove it at the end, if it is still the same one. At most
 * JANITOR_SOCKETS_MAX. 0 or -errno.
 */
int janitor_add_socket(struct janitor *j, const char *path);
/* An orderly end: the terminal is restored already. Returns when the sockets are gone. */
void janitor_finish(struct janitor *j);
