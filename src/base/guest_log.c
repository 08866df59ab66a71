/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/guest_log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ns_t window_start_ns;
static unsigned in_window, dropped;

/* Whether a line may be printed now; *ret_dropped: lines lost before it. */
static bool admit_locked(unsigned *ret_dropped)
{
	ns_t now = clock_now_ns();

	*ret_dropped = 0;
	if (now - window_start_ns >= NS_PER_S) {
		window_start_ns = now;
		in_window = 0;
		*ret_dropped = dropped;
		dropped = 0;
	}
	if (in_window >= GUEST_LOG_BURST) {
		dropped++;
		return false;
	}
	in_window++;
	return true;
}

void guest_log(const char *fmt, ...)
{
	char line[256];
	unsigned lost;
	bool ok;
	va_list ap;

	pthread_mutex_lock(&lock);
	ok = admit_locked(&lost);
	pthread_mutex_unlock(&lock);
	if (!ok) {
		return;
	}
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (lost) {
		fprintf(stderr, "guest: (%u lines dropped)\n", lost);
	}
	fprintf(stderr, "guest: %s\n", line);
}
