/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MC146818A real-time clock. Sources: Motorola's datasheet; ICH9 datasheet 13.6.
 *
 * Theory of operation. The time is not counted: it is the loop's clock plus an
 * offset, `epoch_ns`, that writing the time registers changes. While SET
 * is on (register B) the time registers are plain memory, and its falling
 * edge makes their content the time.
 *
 * Events (periodic, alarm, once a second) are found when somebody looks: look()
 * sets in register C all flags of the time since the last look. A host timer is
 * armed for the next event only if its interrupt is enabled. IRQ 8 is
 * high while a flag and its enable bit are both set; reading C clears all flags.
 */
#include "dev/chipset/rtc.h"

#include <stdlib.h>

#include "dev/bus.h"
#include "dev/chipset/rtc_time_int.h"

enum cmos {
	SECONDS = 0x00,
	SECONDS_ALARM = 0x01,
	MINUTES = 0x02,
	MINUTES_ALARM = 0x03,
	HOURS = 0x04,
	HOURS_ALARM = 0x05,
	WEEKDAY = 0x06,
	DAY = 0x07,
	MONTH = 0x08,
	YEAR = 0x09,
	REG_A = 0x0a,
	REG_B = 0x0b,
	REG_C = 0x0c,
	REG_D = 0x0d,
	EQUIPMENT = 0x14,
	BASE_MEMORY = 0x15,     /* KiB, 2 bytes */
	EXTENDED_MEMORY = 0x17, /* KiB above 1 MiB, 2 bytes; again at 0x30 */
	EXTENDED_MEMORY_2 = 0x30,
	CENTURY = RTC_CMOS_CENTURY,
	MEMORY_ABOVE_16M = 0x34, /* 64 KiB units, 2 bytes */
	MEMORY_ABOVE_4G = 0x5b,  /* 64 KiB units, 3 bytes */
	CPUS_LESS_1 = 0x5f,
	CMOS_BYTES = 256,
};

#define A_UIP           BIT(7)
#define A_DIVIDER       0x70
#define A_DIVIDER_32KHZ 0x20
#define A_RATE          0x0f
#define A_DEFAULT       0x26
#define B_SET           BIT(7)
#define B_BINARY        BIT(2)
#define B_24H           BIT(1)
#define C_IRQ           BIT(7)
#define C_PERIODIC      BIT(6)
#define C_ALARM         BIT(5)
#define C_UPDATE        BIT(4)
#define C_FLAGS         (C_PERIODIC | C_ALARM | C_UPDATE) /* enable bits in B lie the same */
#define D_VALID         BIT(7)
#define HOUR_PM         BIT(7)
#define ALARM_ANY       0xc0 /* an alarm register with both bits set fits every value */

#define EQUIPMENT_FPU_MOUSE 0x06
#define CRYSTAL_HZ          32768
#define UPDATE_NS           244000 /* UIP is on so long before each update */
#define DAY_SECONDS         86400

enum rtc_window { WINDOW_STANDARD, WINDOW_EXTENDED };

struct rtc {
	struct dev dev;
	struct dev_window standard, extended;
	struct timer timer;
	int64_t epoch_ns; /* the clock's time when the loop's clock was 0 */
	ns_t looked_ns;   /* events up to here are in register C */
	bool irq_level;
	uint8_t index, extended_index;
	uint8_t cmos[CMOS_BYTES];
};

/* ---- time ---- */

static int64_t time_ns(const struct rtc *r)
{
	return loop_now_ns(r->dev.env->loop) + r->epoch_ns;
}

static int64_t seconds_of(int64_t ns)
{
	return ns / NS_PER_S - (ns % NS_PER_S < 0);
}

static uint8_t encode(const struct rtc *r, int value)
{
	return (uint8_t)(r->cmos[REG_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

static int decode(const struct rtc *r, uint8_t value)
{
	return r->cmos[REG_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 0xf);
}

static uint8_t encode_hour(const struct rtc *r, int hour)
{
	if (r->cmos[REG_B] & B_24H) {
		return encode(r, hour);
	}
	return encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const struct rtc *r, uint8_t value)
{
	if (r->cmos[REG_B] & B_24H) {
		return decode(r, value);
	}
	return decode(r, value & 0x7f) % 12 + (value & HOUR_PM ? 12 : 0);
}

/* Bring the time registers up to date (not while the guest sets them). */
static void time_to_cmos(struct rtc *r)
{
	struct rtc_time t;

	if (r->cmos[REG_B] & B_SET) {
		return;
	}
	rtc_time_split(seconds_of(time_ns(r)), &t);
	r->cmos[SECONDS] = encode(r, t.second);
	r->cmos[MINUTES] = encode(r, t.minute);
	r->cmos[HOURS] = encode_hour(r, t.hour);
	r->cmos[WEEKDAY] = encode(r, t.weekday);
	r->cmos[DAY] = encode(r, t.day);
	r->cmos[MONTH] = encode(r, t.month);
	r->cmos[YEAR] = encode(r, t.year % 100);
	/* The century is BCD whatever the mode: the chip does not know it, software does. */
	r->cmos[CENTURY] = (uint8_t)(t.year / 1000 % 10 << 4 | t.year / 100 % 10);
}

static void time_from_cmos(struct rtc *r)
{
	int century = (r->cmos[CENTURY] >> 4) * 10 + (r->cmos[CENTURY] & 0xf);
	struct rtc_time t = {
		.year = century * 100 + decode(r, r->cmos[YEAR]),
		.month = decode(r, r->cmos[MONTH]),
		.day = decode(r, r->cmos[DAY]),
		.hour = decode_hour(r, r->cmos[HOURS]),
		.minute = decode(r, r->cmos[MINUTES]),
		.second = decode(r, r->cmos[SECONDS]),
	};
	int64_t second = rtc_time_join(&t);
	int64_t limit = INT64_MAX / NS_PER_S / 10 * 9; /* 263 years around 1970 */
	int64_t fraction = time_ns(r) - seconds_of(time_ns(r)) * NS_PER_S;

	if (second > limit || second < -limit) {
		second = second > 0 ? limit : -limit;
	}
	r->epoch_ns = second * NS_PER_S + fraction - loop_now_ns(r->dev.env->loop);
	r->looked_ns = loop_now_ns(r->dev.env->loop);
}

/* ---- events ---- */

/* 0: the periodic interrupt is off. */
static ns_t period_ns(const struct rtc *r)
{
	unsigned rate = r->cmos[REG_A] & A_RATE;

	if (!rate || (r->cmos[REG_A] & A_DIVIDER) != A_DIVIDER_32KHZ) {
		return 0;
	}
	rate += rate <= 2 ? 7 : 0; /* the two fastest wrap around: 256 and 128 Hz */
	return NS_PER_S * (1 << (rate - 1)) / CRYSTAL_HZ;
}

static bool alarm_fits(const struct rtc *r, unsigned reg, int value, bool hour)
{
	uint8_t set = r->cmos[reg];

	return (set & ALARM_ANY) == ALARM_ANY ||
	       (hour ? decode_hour(r, set) : decode(r, set)) == value;
}

/* The first second after `after` at which the alarm rings; -1 if never. */
static int64_t alarm_next(const struct rtc *r, int64_t after)
{
	int64_t day = after + 1 - (((after + 1) % DAY_SECONDS) + DAY_SECONDS) % DAY_SECONDS;
	int start = (int)(after + 1 - day);

	for (int i = 0; i < DAY_SECONDS; i++) {
		int s = (start + i) % DAY_SECONDS;

		if (!alarm_fits(r, HOURS_ALARM, s / 3600, true)) {
			i += 3599 - s % 3600;
		} else if (!alarm_fits(r, MINUTES_ALARM, s / 60 % 60, false)) {
			i += 59 - s % 60;
		} else if (alarm_fits(r, SECONDS_ALARM, s % 60, false)) {
			return after + 1 + i;
		}
	}
	return -1;
}

static void irq_update(struct rtc *r)
{
	bool level = r->cmos[REG_B] & r->cmos[REG_C] & C_FLAGS;

	r->cmos[REG_C] = (uint8_t)((r->cmos[REG_C] & C_FLAGS) | (level ? C_IRQ : 0));
	if (level != r->irq_level) {
		r->irq_level = level;
		dev_irq_set(&r->dev, RTC_IRQ, level);
	}
}

/* Put into register C what has happened since the last look. */
static void look(struct rtc *r)
{
	ns_t now = loop_now_ns(r->dev.env->loop), period = period_ns(r);
	int64_t before_s = seconds_of(r->looked_ns + r->epoch_ns);
	int64_t now_s = seconds_of(now + r->epoch_ns);

	if (period && now / period != r->looked_ns / period) {
		r->cmos[REG_C] |= C_PERIODIC;
	}
	if (now_s != before_s && !(r->cmos[REG_B] & B_SET)) {
		int64_t alarm = alarm_next(r, before_s);

		r->cmos[REG_C] |= C_UPDATE;
		r->cmos[REG_C] |= alarm >= 0 && alarm <= now_s ? C_ALARM : 0;
	}
	r->looked_ns = now;
	irq_update(r);
}

/* When the next event comes that has its interrupt enabled; INT64_MAX if none. */
static ns_t next_event_ns(const struct rtc *r)
{
	ns_t now = loop_now_ns(r->dev.env->loop), next = INT64_MAX, period = period_ns(r);
	int64_t second = seconds_of(now + r->epoch_ns), alarm;
	uint8_t b = r->cmos[REG_B];

	if ((b & C_PERIODIC) && period) {
		next = (now / period + 1) * period;
	}
	if ((b & C_UPDATE) && !(b & B_SET)) {
		next = MIN(next, (second + 1) * NS_PER_S - r->epoch_ns);
	}
	alarm = (b & C_ALARM) && !(b & B_SET) ? alarm_next(r, second) : -1;
	return alarm < 0 ? next : MIN(next, alarm * NS_PER_S - r->epoch_ns);
}

/* With the line high already no event can make a difference: wait for the guest to look. */
static void timer_update(struct rtc *r)
{
	ns_t next = r->irq_level ? INT64_MAX : next_event_ns(r);

	if (next == INT64_MAX) {
		timer_disarm(&r->timer);
	} else {
		timer_arm(&r->timer, next);
	}
}

static void timer_due(void *opaque)
{
	struct rtc *r = opaque;

	dev_lock(&r->dev);
	look(r);
	timer_update(r);
	dev_unlock(&r->dev);
}

/* ---- registers ---- */

static bool is_time(unsigned index)
{
	return (index <= YEAR && index != SECONDS_ALARM && index != MINUTES_ALARM &&
		index != HOURS_ALARM) ||
	       index == CENTURY;
}

static uint8_t reg_a_read(const struct rtc *r)
{
	int64_t fraction = time_ns(r) - seconds_of(time_ns(r)) * NS_PER_S;
	bool updating = !(r->cmos[REG_B] & B_SET) && fraction >= NS_PER_S - UPDATE_NS;

	return r->cmos[REG_A] | (updating ? A_UIP : 0);
}

static uint8_t reg_c_read(struct rtc *r)
{
	uint8_t value;

	look(r);
	value = r->cmos[REG_C];
	r->cmos[REG_C] = 0;
	irq_update(r);
	timer_update(r);
	return value;
}

static uint8_t cmos_read(struct rtc *r, unsigned index)
{
	if (is_time(index)) {
		time_to_cmos(r);
	}
	switch (index) {
	case REG_A:
		return reg_a_read(r);
	case REG_C:
		return reg_c_read(r);
	case REG_D:
		return D_VALID;
	default:
		return r->cmos[index];
	}
}

static void reg_b_write(struct rtc *r, uint8_t value)
{
	uint8_t before = r->cmos[REG_B];

	if (value & B_SET) {
		time_to_cmos(r); /* in the old format; the guest sets them in the new one */
		value &= (uint8_t)~C_UPDATE; /* datasheet: SET clears UIE */
	}
	r->cmos[REG_B] = value;
	if ((before & B_SET) && !(value & B_SET)) {
		time_from_cmos(r);
	}
}

static void time_write(struct rtc *r, unsigned index, uint8_t value)
{
	time_to_cmos(r);
	r->cmos[index] = value;
	if (!(r->cmos[REG_B] & B_SET)) {
		time_from_cmos(r);
	}
}

static void cmos_write(struct rtc *r, unsigned index, uint8_t value)
{
	look(r);
	if (is_time(index)) {
		time_write(r, index, value);
	} else if (index == REG_A) {
		r->cmos[REG_A] = value & (uint8_t)~A_UIP;
	} else if (index == REG_B) {
		reg_b_write(r, value);
	} else if (index != REG_C && index != REG_D) {
		r->cmos[index] = value;
	}
	irq_update(r);
	timer_update(r);
}

static uint64_t rtc_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	struct rtc *r = container_of(d, struct rtc, dev);
	uint8_t index = window == WINDOW_EXTENDED ? r->extended_index : r->index;

	if (offset == 0) {
		return window == WINDOW_EXTENDED ? index : 0xff; /* 0x70 is write only */
	}
	return cmos_read(r, index);
}

static void rtc_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
		      unsigned size)
{
	struct rtc *r = container_of(d, struct rtc, dev);

	if (window == WINDOW_EXTENDED && offset == 0) {
		r->extended_index = (uint8_t)value | 0x80; /* the upper bank */
	} else if (offset == 0) {
		r->index = value & 0x7f; /* bit 7 masks the NMI */
	} else {
		cmos_write(r, window == WINDOW_EXTENDED ? r->extended_index : r->index,
			   (uint8_t)value);
	}
}

/* The battery keeps all but the interrupts. */
static void rtc_reset(struct dev *d)
{
	struct rtc *r = container_of(d, struct rtc, dev);

	r->index = 0;
	r->extended_index = 0x80;
	r->cmos[REG_B] &= (uint8_t) ~(C_FLAGS | 0x08);
	r->cmos[REG_C] = 0;
	irq_update(r);
	timer_update(r);
}

static void rtc_done(struct dev *d)
{
	struct rtc *r = container_of(d, struct rtc, dev);

	timer_done(&r->timer);
	free(r);
}

static const struct dev_class rtc_class = {
	.name = "rtc",
	.done = rtc_done,
	.reset = rtc_reset,
	.read = rtc_read,
	.write = rtc_write,
};

static void store_sizes(struct rtc *r, const struct rtc_config *c)
{
	uint64_t below = c->memory_below_4g, above = c->memory_above_4g >> 16;
	uint64_t extended = below > MIB(1) ? (below - MIB(1)) >> 10 : 0;
	uint64_t high = below > MIB(16) ? (below - MIB(16)) >> 16 : 0;

	store_le16(r->cmos + BASE_MEMORY, 640);
	store_le16(r->cmos + EXTENDED_MEMORY, (uint16_t)MIN(extended, 0xffffull));
	store_le16(r->cmos + EXTENDED_MEMORY_2, (uint16_t)MIN(extended, 0xffffull));
	store_le16(r->cmos + MEMORY_ABOVE_16M, (uint16_t)MIN(high, 0xffffull));
	store_le16(r->cmos + MEMORY_ABOVE_4G, (uint16_t)above);
	r->cmos[MEMORY_ABOVE_4G + 2] = (uint8_t)(above >> 16);
	r->cmos[CPUS_LESS_1] = (uint8_t)(c->cpus - 1);
	r->cmos[EQUIPMENT] = EQUIPMENT_FPU_MOUSE;
}

int rtc_new(struct dev_env *env, const struct rtc_config *c, struct dev **ret)
{
	struct rtc *r = calloc(1, sizeof(*r));
	int e;

	if (!r) {
		return -ENOMEM;
	}
	dev_init(&r->dev, &rtc_class, env, NULL);
	timer_init(&r->timer, env->loop, timer_due, r);
	dev_window_init(&r->standard, &r->dev, WINDOW_STANDARD, DEV_PIO, 2, 1, 1);
	dev_window_init(&r->extended, &r->dev, WINDOW_EXTENDED, DEV_PIO, 2, 1, 1);
	e = bus_map(env->bus, &r->standard, 0x70);
	e = e < 0 ? e : bus_map(env->bus, &r->extended, 0x72);
	if (e < 0) {
		dev_free(&r->dev);
		return e;
	}
	r->epoch_ns =
		(int64_t)(c->epoch_ns ? c->epoch_ns : clock_wall_ns()) - loop_now_ns(env->loop);
	r->looked_ns = loop_now_ns(env->loop);
	r->cmos[REG_A] = A_DEFAULT;
	r->cmos[REG_B] = B_24H;
	store_sizes(r, c);
	dev_reset(&r->dev);
	*ret = &r->dev;
	return 0;
}
