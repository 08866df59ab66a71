/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 8254 interval timer at ports 40H to 43H, and port 61H with channel 2's gate
 * and output (Intel 8254 data sheet; ICH9 13.3, 13.7.1).
 *
 * Nothing is counted: a channel knows when its count was loaded, and what it shows
 * follows from the time. Channel 0's output raises GSI 0 through the service thread.
 *
 * Lost ticks: with reinjection (KVM_REINJECT_CONTROL, on at first) a tick that the guest has not
 * yet acknowledged makes others wait, at most BACKLOG_MAX of them: a guest that was stopped
 * for long shall not live through hours of ticks. Without it, they coalesce.
 */
#include <stdlib.h>

#include "softkvm/irqchip/irqchip_int.h"

#define PIT_HZ        1193182
#define PERIOD_MIN_NS (200 * NS_PER_US)
#define BACKLOG_MAX   100u
#define COUNT_MAX     0x10000u

enum { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_WORD, ACCESS_WORD_HIGH };

static uint64_t ns_to_counts(ns_t ns)
{
	return ns <= 0 ? 0 : (uint64_t)((unsigned __int128)(uint64_t)ns * PIT_HZ / NS_PER_S);
}

static ns_t counts_to_ns(uint64_t counts)
{
	return (ns_t)(counts * (uint64_t)NS_PER_S / PIT_HZ);
}

static uint32_t bcd_to_binary(uint32_t v)
{
	return (v & 15) + (v >> 4 & 15) * 10 + (v >> 8 & 15) * 100 + (v >> 12 & 15) * 1000;
}

static uint32_t binary_to_bcd(uint32_t v)
{
	return v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12;
}

static uint64_t elapsed(const struct kvm_pit_channel_state *c)
{
	return ns_to_counts(clock_now_ns() - c->count_load_time);
}

static uint32_t full_count(const struct kvm_pit_channel_state *c)
{
	return c->count ? c->count : COUNT_MAX;
}

static uint16_t counter(const struct kvm_pit_channel_state *c)
{
	uint32_t count = full_count(c), value;
	uint64_t d = elapsed(c);

	switch (c->mode) {
	case 2:
		value = count - (uint32_t)(d % count);
		break;
	case 3: /* counts by two, twice a period */
		value = count - (uint32_t)(2 * d % count);
		break;
	default:
		value = (uint32_t)(count - d);
		break;
	}
	return (uint16_t)(c->bcd ? binary_to_bcd((value & 0xffff) % 10000) : value);
}

static bool output(const struct kvm_pit_channel_state *c)
{
	uint32_t count = full_count(c);
	uint64_t d = elapsed(c);

	switch (c->mode) {
	case 0:
		return d >= count;
	case 1:
		return d >= count || c->gate == 0;
	case 2:
		return d % count != count - 1;
	case 3:
		return d % count < (count + 1) / 2;
	default: /* strobes: low for the one count that ends it */
		return d != count;
	}
}

/* When channel 0 rises next, from what was loaded; keeps the service thread informed. */
static void start_timer(struct pit *p)
{
	const struct kvm_pit_channel_state *c = &p->ch[0];
	ns_t full = counts_to_ns(full_count(c)), now = clock_now_ns(), deadline;
	bool periodic = c->mode == 2 || c->mode == 3;

	p->backlog = 0;
	p->irq_acked = true;
	p->period = periodic ? MAX(full, PERIOD_MIN_NS) : 0;
	deadline = c->count_load_time + (periodic ? p->period : full);
	if (periodic && deadline <= now) {
		deadline += ((now - deadline) / p->period + 1) * p->period;
	}
	/* Mode 5 waits for a gate that channel 0 has not got. */
	if (c->mode == 5 || (p->flags & KVM_PIT_FLAGS_HPET_LEGACY) || c->count_load_time == 0) {
		deadline = NEVER;
	}
	atomic_store(&p->deadline, deadline);
	if (deadline != NEVER) {
		service_arm(p->vm, deadline);
	}
}

static void load(struct pit *p, unsigned channel, uint32_t value)
{
	struct kvm_pit_channel_state *c = &p->ch[channel];

	if (c->bcd) {
		value = bcd_to_binary(value);
		value = value ? value : 10000;
	}
	c->count = value ? value : COUNT_MAX;
	c->count_load_time = clock_now_ns();
	if (channel == 0) {
		start_timer(p);
	}
}

/* --- ticks --------------------------------------------------------------------------- */
static void inject(struct pit *p)
{
	int r;

	if (p->reinject && (!p->irq_acked || p->backlog == 0)) {
		return;
	}
	r = gsi_set_locked(p->vm, 0, SOURCE_PIT, true);
	gsi_set_locked(p->vm, 0, SOURCE_PIT, false);
	if (p->reinject) {
		p->backlog--;
		p->irq_acked = r < 0; /* nobody took it: nobody will acknowledge it */
	}
	if (r < 0) {
		p->backlog = 0;
	}
}

void pit_tick_locked(struct pit *p, ns_t now)
{
	ns_t deadline = atomic_load(&p->deadline);
	uint64_t ticks = 1;

	if (deadline > now) {
		return; /* reprogrammed meanwhile */
	}
	if (p->period == 0) {
		atomic_store(&p->deadline, NEVER);
	} else {
		ticks += (uint64_t)((now - deadline) / p->period);
		atomic_store(&p->deadline, deadline + (ns_t)ticks * p->period);
	}
	p->backlog = (uint32_t)MIN(p->backlog + ticks, BACKLOG_MAX);
	inject(p);
}

void pit_acked_locked(struct pit *p)
{
	p->irq_acked = true;
	if (p->reinject && p->backlog != 0) {
		inject(p);
	}
}

void pit_unmasked_locked(struct pit *p)
{
	p->irq_acked = true;
	p->backlog = 0;
}

/* --- ports ------------------------------------------------------------------------------- */
static void latch_count(struct kvm_pit_channel_state *c)
{
	if (!c->count_latched) {
		c->latched_count = counter(c);
		c->count_latched = c->rw_mode;
	}
}

static void latch_status(struct kvm_pit_channel_state *c)
{
	if (!c->status_latched) {
		c->status = (uint8_t)(output(c) << 7 | c->rw_mode << 4 | c->mode << 1 | c->bcd);
		c->status_latched = 1;
	}
}

static void write_control(struct pit *p, uint8_t v)
{
	unsigned channel = v >> 6, access = v >> 4 & 3;
	struct kvm_pit_channel_state *c;

	if (channel == 3) { /* read-back command */
		for (unsigned i = 0; i < 3; i++) {
			if (!(v & BIT(i + 1))) {
				continue;
			}
			if (!(v & 0x20)) {
				latch_count(&p->ch[i]);
			}
			if (!(v & 0x10)) {
				latch_status(&p->ch[i]);
			}
		}
		return;
	}
	c = &p->ch[channel];
	if (access == ACCESS_LATCH) {
		latch_count(c);
		return;
	}
	c->rw_mode = c->read_state = c->write_state = (uint8_t)access;
	c->mode = v >> 1 & 7;
	c->mode = c->mode > 5 ? c->mode - 4 : c->mode; /* 6 and 7 are 2 and 3 */
	c->bcd = v & 1;
	c->count_latched = c->status_latched = 0;
}

static void write_counter(struct pit *p, unsigned channel, uint8_t v)
{
	struct kvm_pit_channel_state *c = &p->ch[channel];

	switch (c->write_state) {
	case ACCESS_LOW:
		load(p, channel, v);
		break;
	case ACCESS_HIGH:
		load(p, channel, (uint32_t)v << 8);
		break;
	case ACCESS_WORD:
		c->write_latch = v;
		c->write_state = ACCESS_WORD_HIGH;
		break;
	case ACCESS_WORD_HIGH:
		c->write_state = ACCESS_WORD;
		load(p, channel, c->write_latch | (uint32_t)v << 8);
		break;
	default:
		break;
	}
}

static uint8_t read_latched(struct kvm_pit_channel_state *c)
{
	switch (c->count_latched) {
	case ACCESS_WORD:
		c->count_latched = ACCESS_WORD_HIGH;
		return (uint8_t)c->latched_count;
	case ACCESS_LOW:
		c->count_latched = 0;
		return (uint8_t)c->latched_count;
	default:
		c->count_latched = 0;
		return (uint8_t)(c->latched_count >> 8);
	}
}

static uint8_t read_counter(struct kvm_pit_channel_state *c)
{
	uint16_t v;

	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	if (c->count_latched) {
		return read_latched(c);
	}
	v = counter(c);
	switch (c->read_state) {
	case ACCESS_HIGH:
		return (uint8_t)(v >> 8);
	case ACCESS_WORD:
		c->read_state = ACCESS_WORD_HIGH;
		return (uint8_t)v;
	case ACCESS_WORD_HIGH:
		c->read_state = ACCESS_WORD;
		return (uint8_t)(v >> 8);
	default:
		return (uint8_t)v;
	}
}

/* A rising gate starts these modes anew (data sheet, "gate input"). */
static void set_gate(struct kvm_pit_channel_state *c, bool gate)
{
	if (gate && !c->gate && c->mode != 0 && c->mode != 4) {
		c->count_load_time = clock_now_ns();
	}
	c->gate = gate;
}

/* Bit 4 is the memory refresh's toggle, about every 15 us: old code measures time by it. */
static uint8_t read_speaker(const struct pit *p)
{
	unsigned refresh = (unsigned)(clock_now_ns() >> 14) & 1;

	return (uint8_t)((p->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON ? 2 : 0) | (p->ch[2].gate & 1) |
			 output(&p->ch[2]) << 5 | refresh << 4);
}

bool pit_read_locked(struct pit *p, uint16_t port, uint8_t *ret)
{
	if (port == 0x61 && p->speaker_port) {
		*ret = read_speaker(p);
		return true;
	}
	if (port < 0x40 || port > 0x43) {
		return false;
	}
	*ret = port == 0x43 ? 0 : read_counter(&p->ch[port - 0x40]);
	return true;
}

bool pit_write_locked(struct pit *p, uint16_t port, uint8_t v)
{
	if (port == 0x61 && p->speaker_port) {
		p->flags = (p->flags & ~(uint32_t)KVM_PIT_FLAGS_SPEAKER_DATA_ON) |
			   (v & 2 ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0);
		set_gate(&p->ch[2], v & 1);
		return true;
	}
	if (port < 0x40 || port > 0x43) {
		return false;
	}
	if (port == 0x43) {
		write_control(p, v);
	} else {
		write_counter(p, port - 0x40u, v);
	}
	return true;
}

/* --- state ---------------------------------------------------------------------------------- */
void pit_get_locked(const struct pit *p, struct kvm_pit_state2 *s)
{
	memset(s, 0, sizeof(*s));
	memcpy(s->channels, p->ch, sizeof(s->channels));
	s->flags = p->flags;
}

void pit_set_locked(struct pit *p, const struct kvm_pit_state2 *s)
{
	ns_t now = clock_now_ns();

	memcpy(p->ch, s->channels, sizeof(p->ch));
	for (unsigned i = 0; i < 3; i++) {
		struct kvm_pit_channel_state *c = &p->ch[i];

		c->mode = c->mode > 5 ? 0 : c->mode;
		c->count = MIN(c->count, COUNT_MAX);
		c->bcd &= 1;
		c->rw_mode &= 3;
		/* Another machine's clock may have been ahead of ours. */
		if (c->count_load_time > now || c->count_load_time < 0) {
			c->count_load_time = now;
		}
	}
	p->flags = s->flags;
	start_timer(p);
}

struct pit *pit_new(struct vm *vm, uint32_t flags)
{
	struct pit *p = calloc(1, sizeof(*p));

	if (!p) {
		return NULL;
	}
	p->vm = vm;
	p->speaker_port = flags & KVM_PIT_SPEAKER_DUMMY;
	p->reinject = true;
	p->irq_acked = true;
	atomic_store(&p->deadline, NEVER);
	for (unsigned i = 0; i < 3; i++) {
		p->ch[i].mode = 3;
		p->ch[i].gate = i != 2;
		p->ch[i].count = COUNT_MAX;
	}
	return p;
}
