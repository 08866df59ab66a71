/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The PS/2 keyboard controller with its keyboard and mouse: ports 0x60 and 0x64. */
#pragma once

#include "dev/dev.h"

#define I8042_KEYBOARD_IRQ 1
#define I8042_MOUSE_IRQ    12

enum i8042_button {
	I8042_BUTTON_LEFT = BIT(0),
	I8042_BUTTON_RIGHT = BIT(1),
	I8042_BUTTON_MIDDLE = BIT(2),
};

/* 0 or -errno; freed with dev_free(). */
int i8042_new(struct dev_env *env, struct dev **ret);
/*
 * A key's make or break code, in scan code set 2 as the keyboard sends it (at
 * most 8 bytes). Lost as a whole if the guest does not scan or its buffer is full. Any thread.
 */
void i8042_send_key(struct dev *d, const uint8_t *code, unsigned len);
/* The mouse moved (y up) or turned its wheel; `buttons` are those pressed now. Any thread. */
void i8042_send_mouse(struct dev *d, int dx, int dy, int wheel, unsigned buttons);
