/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 8042 keyboard controller of a PC/AT with a PS/2 port for a mouse.
 * Sources: IBM PS/2 Hardware Interface Technical Reference, keyboard and
 * auxiliary device controller; the devices behind it are in ps2.c.
 *
 * Theory of operation. One output buffer, seen at port 0x60. It is filled with
 * the controller's own answers first, else with the keyboard's, else with the mouse's
 * next byte; when the guest takes the byte, the next one follows. A byte of the
 * mouse raises IRQ 12, any other IRQ 1, if the command byte allows it. The
 * lines fall when the byte is taken.
 */
#include "dev/chipset/i8042.h"

#include <stdlib.h>

#include "dev/bus.h"
#include "dev/chipset/ps2_int.h"

#define PORT_DATA    0x60
#define PORT_COMMAND 0x64

#define STATUS_OUTPUT   BIT(0)
#define STATUS_SYSTEM   BIT(2)
#define STATUS_COMMAND  BIT(3)
#define STATUS_UNLOCKED BIT(4)
#define STATUS_MOUSE    BIT(5)

#define MODE_KEYBOARD_IRQ BIT(0)
#define MODE_MOUSE_IRQ    BIT(1)
#define MODE_SYSTEM       BIT(2)
#define MODE_NO_KEYBOARD  BIT(4)
#define MODE_NO_MOUSE     BIT(5)
#define MODE_TRANSLATE    BIT(6)
#define MODE_DEFAULT      (MODE_KEYBOARD_IRQ | MODE_MOUSE_IRQ | MODE_SYSTEM | MODE_TRANSLATE)

#define OUTPUT_PORT_NO_RESET BIT(0)
#define OUTPUT_PORT_A20      BIT(1)
#define INPUT_PORT_UNLOCKED  0xa0 /* keyboard not inhibited, no manufacturing jumper */
#define RAM_BYTES            32

enum command {
	READ_RAM = 0x20,  /* to 0x3f; 0x20 is the mode (command) byte */
	WRITE_RAM = 0x60, /* to 0x7f */
	DISABLE_MOUSE = 0xa7,
	ENABLE_MOUSE = 0xa8,
	TEST_MOUSE_PORT = 0xa9,
	SELF_TEST = 0xaa,
	TEST_KEYBOARD_PORT = 0xab,
	DISABLE_KEYBOARD = 0xad,
	ENABLE_KEYBOARD = 0xae,
	READ_INPUT_PORT = 0xc0,
	READ_OUTPUT_PORT = 0xd0,
	WRITE_OUTPUT_PORT = 0xd1,
	WRITE_KEYBOARD_OUTPUT = 0xd2,
	WRITE_MOUSE_OUTPUT = 0xd3,
	WRITE_MOUSE = 0xd4,
	PULSE_OUTPUT = 0xf0, /* to 0xff; a 0 in the low bits is pulsed */
};

enum source { SOURCE_CONTROLLER, SOURCE_KEYBOARD, SOURCE_MOUSE };
enum i8042_window { WINDOW_DATA, WINDOW_COMMAND };

struct i8042 {
	struct dev dev;
	struct dev_window data, command_port;
	struct ps2 keyboard, mouse;
	uint8_t ram[RAM_BYTES]; /* [0] is the mode byte */
	uint8_t output_port;
	uint8_t command; /* that waits for its data byte; 0: none */
	bool last_was_command;
	/* What the controller itself has to say, at most a byte for each port. */
	bool answer_waits;
	uint8_t answer;
	bool answer_from_mouse;
	/* The output buffer. */
	bool full, from_mouse;
	uint8_t output;
	bool irq_level[2];
};

static void irq_set(struct i8042 *k, bool mouse, bool level)
{
	if (k->irq_level[mouse] != level) {
		k->irq_level[mouse] = level;
		dev_irq_set(&k->dev, mouse ? I8042_MOUSE_IRQ : I8042_KEYBOARD_IRQ, level);
	}
}

static void irqs_update(struct i8042 *k)
{
	uint8_t mode = k->ram[0];

	irq_set(k, false, k->full && !k->from_mouse && (mode & MODE_KEYBOARD_IRQ));
	irq_set(k, true, k->full && k->from_mouse && (mode & MODE_MOUSE_IRQ));
}

static void output_set(struct i8042 *k, uint8_t byte, bool from_mouse)
{
	k->output = byte;
	k->from_mouse = from_mouse;
	k->full = true;
}

/* Fill the output buffer if it is empty and somebody has something to say. */
static void refill(struct i8042 *k)
{
	uint8_t byte;

	if (!k->full) {
		if (k->answer_waits) {
			k->answer_waits = false;
			output_set(k, k->answer, k->answer_from_mouse);
		} else if (!(k->ram[0] & MODE_NO_KEYBOARD) &&
			   ps2_keyboard_take(&k->keyboard, k->ram[0] & MODE_TRANSLATE, &byte)) {
			output_set(k, byte, false);
		} else if (!(k->ram[0] & MODE_NO_MOUSE) && ps2_take(&k->mouse, &byte)) {
			output_set(k, byte, true);
		}
	}
	irqs_update(k);
}

static void answer(struct i8042 *k, uint8_t byte, bool from_mouse)
{
	k->answer = byte;
	k->answer_from_mouse = from_mouse;
	k->answer_waits = true;
	refill(k);
}

static void request_reset(struct i8042 *k)
{
	k->dev.env->impl->request(k->dev.env->opaque, DEV_REQUEST_RESET, 0);
}

static void mode_set(struct i8042 *k, uint8_t set, uint8_t clear)
{
	k->ram[0] = (uint8_t)((k->ram[0] & ~clear) | set);
	refill(k);
}

static uint8_t output_port(const struct i8042 *k)
{
	return (uint8_t)(k->output_port | (k->irq_level[0] ? BIT(4) : 0) |
			 (k->irq_level[1] ? BIT(5) : 0));
}

static void command_write(struct i8042 *k, uint8_t c)
{
	k->command = 0;
	k->last_was_command = true;
	switch (c) {
	case READ_RAM ... READ_RAM + RAM_BYTES - 1:
		answer(k, k->ram[c - READ_RAM], false);
		break;
	case DISABLE_MOUSE:
		mode_set(k, MODE_NO_MOUSE, 0);
		break;
	case ENABLE_MOUSE:
		mode_set(k, 0, MODE_NO_MOUSE);
		break;
	case DISABLE_KEYBOARD:
		mode_set(k, MODE_NO_KEYBOARD, 0);
		break;
	case ENABLE_KEYBOARD:
		mode_set(k, 0, MODE_NO_KEYBOARD);
		break;
	case SELF_TEST:
		k->ram[0] |= MODE_SYSTEM;
		answer(k, 0x55, false);
		break;
	case TEST_KEYBOARD_PORT:
	case TEST_MOUSE_PORT:
		answer(k, 0x00, false);
		break;
	case READ_INPUT_PORT:
		answer(k, INPUT_PORT_UNLOCKED, false);
		break;
	case READ_OUTPUT_PORT:
		answer(k, output_port(k), false);
		break;
	case WRITE_RAM ... WRITE_RAM + RAM_BYTES - 1:
	case WRITE_OUTPUT_PORT ... WRITE_MOUSE:
		k->command = c;
		break;
	case PULSE_OUTPUT ... PULSE_OUTPUT + 0xf:
		if (!(c & OUTPUT_PORT_NO_RESET)) {
			request_reset(k);
		}
		break;
	default: /* what no PC/AT knows is ignored */
		break;
	}
}

static void data_write(struct i8042 *k, uint8_t byte)
{
	uint8_t c = k->command;

	k->command = 0;
	k->last_was_command = false;
	switch (c) {
	case WRITE_RAM ... WRITE_RAM + RAM_BYTES - 1:
		k->ram[c - WRITE_RAM] = byte;
		refill(k);
		break;
	case WRITE_OUTPUT_PORT:
		k->output_port = byte | OUTPUT_PORT_A20; /* the gate is always open */
		if (!(byte & OUTPUT_PORT_NO_RESET)) {
			request_reset(k);
		}
		break;
	case WRITE_KEYBOARD_OUTPUT:
		answer(k, byte, false);
		break;
	case WRITE_MOUSE_OUTPUT:
		answer(k, byte, true);
		break;
	case WRITE_MOUSE:
		mode_set(k, 0, MODE_NO_MOUSE);
		ps2_mouse_command(&k->mouse, byte);
		refill(k);
		break;
	default:
		mode_set(k, 0, MODE_NO_KEYBOARD); /* as the AT: writing enables it */
		ps2_keyboard_command(&k->keyboard, byte);
		refill(k);
		break;
	}
}

static uint8_t status(const struct i8042 *k)
{
	return (uint8_t)(STATUS_UNLOCKED | (k->full ? STATUS_OUTPUT : 0) |
			 (k->full && k->from_mouse ? STATUS_MOUSE : 0) |
			 (k->ram[0] & MODE_SYSTEM ? STATUS_SYSTEM : 0) |
			 (k->last_was_command ? STATUS_COMMAND : 0));
}

static uint64_t i8042_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	struct i8042 *k = container_of(d, struct i8042, dev);
	uint8_t byte = k->output;

	if (window == WINDOW_COMMAND) {
		return status(k);
	}
	if (k->full) {
		k->full = false;
		irqs_update(k); /* the line falls between two bytes */
		refill(k);
	}
	return byte;
}

static void i8042_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
			unsigned size)
{
	struct i8042 *k = container_of(d, struct i8042, dev);

	if (window == WINDOW_COMMAND) {
		command_write(k, (uint8_t)value);
	} else {
		data_write(k, (uint8_t)value);
	}
}

static void i8042_reset(struct dev *d)
{
	struct i8042 *k = container_of(d, struct i8042, dev);

	memset(k->ram, 0, sizeof(k->ram));
	k->ram[0] = MODE_DEFAULT;
	k->output_port = OUTPUT_PORT_NO_RESET | OUTPUT_PORT_A20;
	k->command = 0;
	k->last_was_command = k->answer_waits = k->full = k->from_mouse = false;
	k->output = 0;
	ps2_keyboard_reset(&k->keyboard);
	ps2_mouse_reset(&k->mouse);
	irqs_update(k);
}

static void i8042_done(struct dev *d)
{
	free(container_of(d, struct i8042, dev));
}

static const struct dev_class i8042_class = {
	.name = "i8042",
	.done = i8042_done,
	.reset = i8042_reset,
	.read = i8042_read,
	.write = i8042_write,
};

void i8042_send_key(struct dev *d, const uint8_t *code, unsigned len)
{
	struct i8042 *k = container_of(d, struct i8042, dev);

	dev_lock(d);
	ps2_keyboard_event(&k->keyboard, code, len);
	refill(k);
	dev_unlock(d);
}

void i8042_send_mouse(struct dev *d, int dx, int dy, int wheel, unsigned buttons)
{
	struct i8042 *k = container_of(d, struct i8042, dev);

	dev_lock(d);
	ps2_mouse_event(&k->mouse, dx, dy, wheel, buttons);
	refill(k);
	dev_unlock(d);
}

int i8042_new(struct dev_env *env, struct dev **ret)
{
	struct i8042 *k = calloc(1, sizeof(*k));
	int r;

	if (!k) {
		return -ENOMEM;
	}
	dev_init(&k->dev, &i8042_class, env, NULL);
	dev_window_init(&k->data, &k->dev, WINDOW_DATA, DEV_PIO, 1, 1, 1);
	dev_window_init(&k->command_port, &k->dev, WINDOW_COMMAND, DEV_PIO, 1, 1, 1);
	r = bus_map(env->bus, &k->data, PORT_DATA);
	r = r < 0 ? r : bus_map(env->bus, &k->command_port, PORT_COMMAND);
	if (r < 0) {
		dev_free(&k->dev);
		return r;
	}
	dev_reset(&k->dev);
	*ret = &k->dev;
	return 0;
}
