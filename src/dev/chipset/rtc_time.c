/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Proleptic Gregorian calendar, counted in eras of 400 years that begin on 1 March. */
#include "dev/chipset/rtc_time_int.h"

#define DAY_SECONDS    86400
#define ERA_YEARS      400
#define ERA_DAYS       146097
#define EPOCH_ERA_DAYS 719468 /* from 0000-03-01 to 1970-01-01 */

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

static int64_t days_from_civil(int64_t year, int64_t month, int64_t day)
{
	int64_t y, era, year_of_era, month_from_march, day_of_year;

	year += floor_div(month - 1, 12);
	month = month - 1 - floor_div(month - 1, 12) * 12 + 1;
	y = month <= 2 ? year - 1 : year;
	era = floor_div(y, ERA_YEARS);
	year_of_era = y - era * ERA_YEARS;
	month_from_march = (month + 9) % 12;
	day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
	return era * ERA_DAYS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
	       day_of_year - EPOCH_ERA_DAYS;
}

int64_t rtc_time_join(const struct rtc_time *t)
{
	return days_from_civil(t->year, t->month, t->day) * DAY_SECONDS + t->hour * 3600ll +
	       t->minute * 60ll + t->second;
}

void rtc_time_split(int64_t seconds, struct rtc_time *ret)
{
	int64_t days = floor_div(seconds, DAY_SECONDS), rest = seconds - days * DAY_SECONDS;
	int64_t z = days + EPOCH_ERA_DAYS, era = floor_div(z, ERA_DAYS);
	int64_t doe = z - era * ERA_DAYS;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;

	ret->day = (int)(doy - (153 * mp + 2) / 5 + 1);
	ret->month = (int)(mp < 10 ? mp + 3 : mp - 9);
	ret->year = (int)(yoe + era * ERA_YEARS + (ret->month <= 2));
	ret->weekday = (int)(days - floor_div(days + 4, 7) * 7 + 4) + 1; /* 1970-01-01: Thursday */
	ret->hour = (int)(rest / 3600);
	ret->minute = (int)(rest / 60 % 60);
	ret->second = (int)(rest % 60);
}
