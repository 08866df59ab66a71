/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The real-time clock with its battery-backed bytes: MC146818 at ports 0x70 to 0x73. */
#pragma once

#include "dev/dev.h"

#define RTC_IRQ          8
#define RTC_CMOS_CENTURY 0x32

struct rtc_config {
	uint64_t memory_below_4g; /* bytes, for the memory size registers */
	uint64_t memory_above_4g;
	unsigned cpus;
	uint64_t epoch_ns; /* time to start from, UTC since 1970; 0: the host's */
};

/* 0 or -errno; freed with dev_free(). The time goes on over resets. */
int rtc_new(struct dev_env *env, const struct rtc_config *c, struct dev **ret);
