/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PS/2 keyboard and mouse as the keyboard controller talks to them: commands in, a
 * queue of bytes out. No locks: the controller's protects them.
 */
#pragma once

#include "base/util.h"

#define PS2_QUEUE_BYTES 64
/* Events leave so much of the queue free for answers to commands. */
#define PS2_QUEUE_RESERVED 16
#define PS2_RATES_SEEN     3

struct ps2 {
	uint8_t queue[PS2_QUEUE_BYTES];
	unsigned start, count;
	uint8_t last;    /* sent last, for "resend" */
	uint8_t command; /* whose argument is awaited; 0: none */
	bool enabled;    /* events are reported */
	/* Keyboard: */
	uint8_t scan_set;
	bool break_prefix; /* translation: 0xf0 was the last byte */
	/* Mouse: */
	uint8_t id, resolution, rate;
	uint8_t rates_seen[PS2_RATES_SEEN]; /* the last ones, which make up a knock */
	bool remote, wrap, scaling;
	unsigned buttons;
	int dx, dy, wheel; /* not reported yet */
};

/* The next byte to the controller. */
bool ps2_take(struct ps2 *p, uint8_t *ret);

void ps2_keyboard_reset(struct ps2 *p);
void ps2_keyboard_command(struct ps2 *p, uint8_t byte);
void ps2_keyboard_event(struct ps2 *p, const uint8_t *code, unsigned len);
/* Like ps2_take(); `translate` turns set 2 into set 1, as the controller does for XTs' software. */
bool ps2_keyboard_take(struct ps2 *p, bool translate, uint8_t *ret);

void ps2_mouse_reset(struct ps2 *p);
void ps2_mouse_command(struct ps2 *p, uint8_t byte);
void ps2_mouse_event(struct ps2 *p, int dx, int dy, int wheel, unsigned buttons);
