/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * softkvm PROGRAM [ARGUMENT]…: run a program whose /dev/kvm is the software KVM.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"

#define SHIM "libsoftkvm-preload.so"

static int usage(FILE *to, int status)
{
	fputs("Usage: softkvm PROGRAM [ARGUMENT]...\n"
	      "Run a program that uses KVM on the software KVM instead of /dev/kvm.\n",
	      to);
	return status;
}

/* Beside this program (a build directory), else where it was installed. */
static bool find_shim(char *ret, size_t size)
{
	char self[PATH_MAX], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash) {
			*slash = '\0';
		}
		if (snprintf(ret, size, "%s/%s", self, SHIM) < (int)size &&
		    access(ret, R_OK) == 0) {
			return true;
		}
	}
	return snprintf(ret, size, "%s/%s", SOFTKVM_LIBDIR, SHIM) < (int)size &&
	       access(ret, R_OK) == 0;
}

static int set_preload(const char *shim)
{
	const char *before = getenv("LD_PRELOAD");
	char value[2 * PATH_MAX];
	int n = snprintf(value, sizeof(value), "%s%s%s", shim, before && *before ? ":" : "",
			 before ? before : "");

	return n < (int)sizeof(value) && setenv("LD_PRELOAD", value, 1) == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
	char shim[PATH_MAX];

	if (argc < 2) {
		return usage(stderr, 2);
	}
	if (strcmp(argv[1], "--help") == 0) {
		return usage(stdout, 0);
	}
	if (argv[1][0] == '-') {
		fprintf(stderr, "softkvm: unknown option '%s'\n", argv[1]);
		return usage(stderr, 2);
	}
	if (!find_shim(shim, sizeof(shim)) || set_preload(shim) != 0) {
		fprintf(stderr, "softkvm: cannot find %s beside this program or in %s\n", SHIM,
			SOFTKVM_LIBDIR);
		return 1;
	}
	execvp(argv[1], argv + 1);
	fprintf(stderr, "softkvm: cannot run '%s': %s\n", argv[1], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}
