/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * UNIX stream sockets by their paths, as every listener and client here wants them:
 * close-on-exec and non-blocking.
 */
#pragma once

/* What fits into a socket's address besides the NUL. */
#define UNIX_PATH_MAX 107u

/*
 * Listen at `path` (made with mode 0600). A dead socket there is replaced; anything
 * else is -EADDRINUSE. 0 or -errno; -ENAMETOOLONG if longer than UNIX_PATH_MAX. The caller
 * owns *ret_fd, and removes the file.
 */
int unix_listen(const char *path, int backlog, int *ret_fd);
/* Connect to who listens at `path`: 0 or -errno; -EAGAIN if its queue is full. */
int unix_connect(const char *path, int *ret_fd);
