/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PS/2 keyboard and mouse. Sources: IBM PS/2 Hardware Interface Technical
 * Reference, 101/102-key keyboard and mouse; Microsoft's wheel extension
 * (sample rates 200, 100, 80 in a row turn a mouse into one with a wheel, id 3).
 */
#include "dev/chipset/ps2_int.h"

#define ACK          0xfa
#define RESEND       0xfe
#define SELF_TEST_OK 0xaa
#define BREAK        0xf0 /* before a key's code in set 2: it was released */

#define ID_MOUSE           0x00
#define ID_WHEEL_MOUSE     0x03
#define RATE_DEFAULT       100
#define RESOLUTION_DEFAULT 2

static void put(struct ps2 *p, uint8_t byte)
{
	if (p->count < PS2_QUEUE_BYTES) {
		p->queue[(p->start + p->count++) % PS2_QUEUE_BYTES] = byte;
	}
}

bool ps2_take(struct ps2 *p, uint8_t *ret)
{
	if (!p->count) {
		return false;
	}
	*ret = p->last = p->queue[p->start];
	p->start = (p->start + 1) % PS2_QUEUE_BYTES;
	p->count--;
	return true;
}

/* An event goes in as a whole or not at all. */
static bool room_for_event(const struct ps2 *p, unsigned len)
{
	return p->enabled && len <= PS2_QUEUE_BYTES - PS2_QUEUE_RESERVED &&
	       p->count + len <= PS2_QUEUE_BYTES - PS2_QUEUE_RESERVED;
}

/* ---- keyboard ---- */

enum keyboard_command {
	KEYBOARD_LEDS = 0xed,
	KEYBOARD_ECHO = 0xee,
	KEYBOARD_SCAN_SET = 0xf0,
	KEYBOARD_ID = 0xf2,
	KEYBOARD_RATE = 0xf3,
	KEYBOARD_ENABLE = 0xf4,
	KEYBOARD_DISABLE = 0xf5,
	KEYBOARD_DEFAULT = 0xf6,
	KEYBOARD_KEY_TYPES = 0xf7, /* to 0xfd; the last three take a key code */
	KEYBOARD_KEY_TYPE_ARG = 0xfb,
	KEYBOARD_RESEND = 0xfe,
	KEYBOARD_RESET = 0xff,
};

void ps2_keyboard_reset(struct ps2 *p)
{
	*p = (struct ps2){ .scan_set = 2, .enabled = true };
}

static void keyboard_argument(struct ps2 *p, uint8_t command, uint8_t byte)
{
	put(p, ACK);
	if (command == KEYBOARD_SCAN_SET && byte == 0) {
		put(p, p->scan_set);
	} else if (command == KEYBOARD_SCAN_SET && byte <= 3) {
		p->scan_set = byte;
	}
}

static void keyboard_self_test(struct ps2 *p)
{
	ps2_keyboard_reset(p);
	put(p, ACK);
	put(p, SELF_TEST_OK);
}

void ps2_keyboard_command(struct ps2 *p, uint8_t byte)
{
	uint8_t command = p->command;

	p->command = 0;
	if (command && byte < KEYBOARD_LEDS) {
		keyboard_argument(p, command, byte);
		return;
	}
	switch (byte) {
	case KEYBOARD_ECHO:
		put(p, KEYBOARD_ECHO);
		break;
	case KEYBOARD_ID:
		put(p, ACK);
		put(p, 0xab);
		put(p, 0x83);
		break;
	case KEYBOARD_LEDS:
	case KEYBOARD_SCAN_SET:
	case KEYBOARD_RATE:
	case KEYBOARD_KEY_TYPE_ARG ... KEYBOARD_RESEND - 1:
		p->command = byte;
		put(p, ACK);
		break;
	case KEYBOARD_ENABLE:
	case KEYBOARD_DISABLE:
	case KEYBOARD_DEFAULT:
		p->count = 0;
		p->enabled = byte != KEYBOARD_DISABLE;
		put(p, ACK);
		break;
	case KEYBOARD_KEY_TYPES ... KEYBOARD_KEY_TYPE_ARG - 1:
		put(p, ACK);
		break;
	case KEYBOARD_RESEND:
		put(p, p->last);
		break;
	case KEYBOARD_RESET:
		keyboard_self_test(p);
		break;
	default:
		put(p, RESEND);
		break;
	}
}

void ps2_keyboard_event(struct ps2 *p, const uint8_t *code, unsigned len)
{
	if (!room_for_event(p, len)) {
		return;
	}
	for (unsigned i = 0; i < len; i++) {
		put(p, code[i]);
	}
}

/* The controller's translation of set 2 to set 1, for codes below 0x80; 0x83 and 0x84 besides. */
static const uint8_t set1_of_set2[128] = {
	0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29,
	0x59, 0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11,
	0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14,
	0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24,
	0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35,
	0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36,
	0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c,
	0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45,
	0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};

static uint8_t translate_code(uint8_t byte)
{
	switch (byte) {
	case 0x83:
		return 0x41;
	case 0x84:
		return 0x54;
	default:
		return byte < ARRAY_SIZE(set1_of_set2) ? set1_of_set2[byte] : byte;
	}
}

bool ps2_keyboard_take(struct ps2 *p, bool translate, uint8_t *ret)
{
	uint8_t byte;

	while (ps2_take(p, &byte)) {
		if (translate && byte == BREAK) { /* becomes bit 7 of the next one */
			p->break_prefix = true;
			continue;
		}
		*ret = translate ? translate_code(byte) | (p->break_prefix ? 0x80 : 0) : byte;
		p->break_prefix = false;
		return true;
	}
	return false;
}

/* ---- mouse ---- */

enum mouse_command {
	MOUSE_SCALE_1 = 0xe6,
	MOUSE_SCALE_2 = 0xe7,
	MOUSE_RESOLUTION = 0xe8,
	MOUSE_STATUS = 0xe9,
	MOUSE_STREAM = 0xea,
	MOUSE_POLL = 0xeb,
	MOUSE_UNWRAP = 0xec,
	MOUSE_WRAP = 0xee,
	MOUSE_REMOTE = 0xf0,
	MOUSE_ID = 0xf2,
	MOUSE_RATE = 0xf3,
	MOUSE_ENABLE = 0xf4,
	MOUSE_DISABLE = 0xf5,
	MOUSE_DEFAULT = 0xf6,
	MOUSE_RESEND = 0xfe,
	MOUSE_RESET = 0xff,
};

static void mouse_defaults(struct ps2 *p)
{
	p->enabled = p->remote = p->wrap = p->scaling = false;
	p->rate = RATE_DEFAULT;
	p->resolution = RESOLUTION_DEFAULT;
	p->dx = p->dy = p->wheel = 0;
}

void ps2_mouse_reset(struct ps2 *p)
{
	*p = (struct ps2){ .id = ID_MOUSE };
	mouse_defaults(p);
}

static void mouse_rate(struct ps2 *p, uint8_t rate)
{
	static const uint8_t knock[PS2_RATES_SEEN] = { 200, 100, 80 };

	p->rate = rate;
	memmove(p->rates_seen, p->rates_seen + 1, PS2_RATES_SEEN - 1);
	p->rates_seen[PS2_RATES_SEEN - 1] = rate;
	if (memcmp(p->rates_seen, knock, sizeof(knock)) == 0) {
		p->id = ID_WHEEL_MOUSE;
	}
}

static void mouse_argument(struct ps2 *p, uint8_t command, uint8_t byte)
{
	put(p, ACK);
	if (command == MOUSE_RATE) {
		mouse_rate(p, byte);
	} else {
		p->resolution = byte & 3;
	}
}

static void mouse_status(struct ps2 *p)
{
	put(p, ACK);
	put(p, (uint8_t)((p->remote ? BIT(6) : 0) | (p->enabled ? BIT(5) : 0) |
			 (p->scaling ? BIT(4) : 0) | (p->buttons & BIT(0)) << 2 |
			 (p->buttons & BIT(2)) >> 1 | (p->buttons & BIT(1)) >> 1));
	put(p, p->resolution);
	put(p, p->rate);
}

static int clamp(int value, int low, int high)
{
	return value < low ? low : MIN(value, high);
}

/* One report of what has gathered: buttons with signs, x, y, and the wheel if there is one. */
static void mouse_report(struct ps2 *p)
{
	int dx = clamp(p->dx, -255, 255), dy = clamp(p->dy, -255, 255);
	int wheel = clamp(p->wheel, -7, 7);

	put(p,
	    (uint8_t)((p->buttons & 7) | BIT(3) | (dx < 0 ? BIT(4) : 0) | (dy < 0 ? BIT(5) : 0)));
	put(p, (uint8_t)dx);
	put(p, (uint8_t)dy);
	if (p->id == ID_WHEEL_MOUSE) {
		put(p, (uint8_t)wheel);
	}
	p->dx -= dx;
	p->dy -= dy;
	p->wheel -= p->id == ID_WHEEL_MOUSE ? wheel : p->wheel;
}

static void mouse_self_test(struct ps2 *p)
{
	ps2_mouse_reset(p);
	put(p, ACK);
	put(p, SELF_TEST_OK);
	put(p, ID_MOUSE);
}

static void mouse_execute(struct ps2 *p, uint8_t byte)
{
	put(p, ACK);
	switch (byte) {
	case MOUSE_SCALE_1:
	case MOUSE_SCALE_2:
		p->scaling = byte == MOUSE_SCALE_2;
		break;
	case MOUSE_STREAM:
	case MOUSE_REMOTE:
		p->remote = byte == MOUSE_REMOTE;
		break;
	case MOUSE_POLL:
		mouse_report(p);
		break;
	case MOUSE_WRAP:
		p->wrap = true;
		break;
	case MOUSE_ID:
		put(p, p->id);
		break;
	case MOUSE_RESOLUTION:
	case MOUSE_RATE:
		p->command = byte;
		break;
	case MOUSE_ENABLE:
	case MOUSE_DISABLE:
		p->enabled = byte == MOUSE_ENABLE;
		break;
	case MOUSE_DEFAULT:
		mouse_defaults(p);
		break;
	default: /* MOUSE_UNWRAP: not wrapped */
		break;
	}
}

void ps2_mouse_command(struct ps2 *p, uint8_t byte)
{
	uint8_t command = p->command;

	p->command = 0;
	if (command) {
		mouse_argument(p, command, byte);
	} else if (byte == MOUSE_RESET) {
		mouse_self_test(p);
	} else if (p->wrap && byte == MOUSE_UNWRAP) {
		p->wrap = false;
		put(p, ACK);
	} else if (p->wrap) {
		put(p, byte);
	} else if (byte == MOUSE_STATUS) {
		mouse_status(p);
	} else if (byte == MOUSE_RESEND) {
		put(p, p->last);
	} else if ((byte >= MOUSE_SCALE_1 && byte <= MOUSE_WRAP && byte != 0xed) ||
		   (byte >= MOUSE_REMOTE && byte <= MOUSE_DEFAULT && byte != 0xf1)) {
		mouse_execute(p, byte);
	} else {
		put(p, RESEND);
	}
}

void ps2_mouse_event(struct ps2 *p, int dx, int dy, int wheel, unsigned buttons)
{
	const int most = 1 << 16; /* what nobody fetches does not add up without end */

	p->dx = clamp(p->dx + clamp(dx, -most, most), -most, most);
	p->dy = clamp(p->dy + clamp(dy, -most, most), -most, most);
	p->wheel = clamp(p->wheel + clamp(wheel, -most, most), -most, most);
	p->buttons = buttons & 7;
	while (!p->remote && room_for_event(p, 4)) {
		mouse_report(p);
		if (!p->dx && !p->dy && !p->wheel) {
			break;
		}
	}
}
