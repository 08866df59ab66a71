/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/util.h"

/* A new socket, and the address for `path`. */
static int prepare(const char *path, struct sockaddr_un *addr, int *ret_fd)
{
	size_t len = strlen(path);
	int fd;

	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	_Static_assert(sizeof(addr->sun_path) == UNIX_PATH_MAX + 1, "the path and its NUL");
	if (len > UNIX_PATH_MAX) {
		return -ENAMETOOLONG;
	}
	memcpy(addr->sun_path, path, len + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		return -errno;
	}
	*ret_fd = fd;
	return 0;
}

int unix_connect(const char *path, int *ret_fd)
{
	struct sockaddr_un addr;
	AUTO_FD fd = -1;
	int r = prepare(path, &addr, &fd);

	if (r < 0) {
		return r;
	}
	/* Done at once, or refused: it does not block on a UNIX socket. */
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		return -errno;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* A socket that nobody listens on any more. (A plain file refuses connections, too.) */
static bool is_dead(const char *path)
{
	AUTO_FD fd = -1;
	struct stat st;

	return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
	       unix_connect(path, &fd) == -ECONNREFUSED;
}

int unix_listen(const char *path, int backlog, int *ret_fd)
{
	struct sockaddr_un addr;
	AUTO_FD fd = -1;
	int r = prepare(path, &addr, &fd);

	if (r < 0) {
		return r;
	}
	/* The file gets the socket's mode. */
	if (fchmod(fd, 0600) < 0) {
		return -errno;
	}
	r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	if (r < 0 && errno == EADDRINUSE && is_dead(path)) {
		unlink(path);
		r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	}
	if (r < 0) {
		return -errno;
	}
	if (listen(fd, backlog) < 0) {
		r = -errno;
		unlink(path);
		return r;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}
