/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Civil time of the RTC: seconds since 1970 to a calendar and back, any year
 * from 0 to 9999, no time zone. The other way takes anything, as the guest
 * may have written it.
 */
#pragma once

#include "base/util.h"

struct rtc_time {
	int year;    /* with the century */
	int month;   /* 1..12 */
	int day;     /* 1..31 */
	int weekday; /* 1 (Sunday)..7 */
	int hour, minute, second;
};

void rtc_time_split(int64_t seconds, struct rtc_time *ret);
/* Fields out of range (within ±1000) carry over into the next. */
int64_t rtc_time_join(const struct rtc_time *t);
