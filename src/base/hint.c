/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/hint.h"

#include <errno.h>

const char *hint_path(int err)
{
	switch (err < 0 ? -err : err) {
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
		return "; check the path";
	case EACCES:
	case EPERM:
		return "; give this user the right to it, or another path";
	case EADDRINUSE:
		return "; is it another guest's? give another path";
	case ENAMETOOLONG:
		return "; give a shorter path (a socket's has at most 107 bytes)";
	case EROFS:
	case EISDIR:
		return "; give another path";
	case ENOSPC:
	case EDQUOT:
		return "; make room there, or give another path";
	case EMFILE:
		return "; raise the limit of open files (ulimit -n)";
	default:
		return "";
	}
}
