/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/helper.h"

#include <signal.h>
#include <sys/prctl.h>

#include "base/util.h"

static void ignore_signals(void)
{
	/* SIGTTOU would stop a background process at tcsetattr(). */
	static const int signals[] = {
		SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTTOU, SIGTSTP, SIGPIPE
	};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		signal(signals[i], SIG_IGN);
	}
}

static void close_others(int fd_a, int fd_b)
{
	int low = MIN(fd_a, fd_b), high = MAX(fd_a, fd_b);

	if (low > 0) {
		close_range(0, (unsigned)low - 1, 0);
	}
	if (low < 0) {
		if (high > 0) {
			close_range(0, (unsigned)high - 1, 0);
		}
	} else if (high > low + 1) {
		close_range((unsigned)low + 1, (unsigned)high - 1, 0);
	}
	close_range((unsigned)high + 1, ~0u, 0);
}

void helper_become(const char *name, int fd_a, int fd_b)
{
	ignore_signals();
	close_others(fd_a, fd_b);
	prctl(PR_SET_NAME, name);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}
