/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ASSERT: our own bugs only, in release builds too. Nothing that a guest, an
 * image, a packet or a client sends may reach one (see style: errors).
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define ASSERT(cond)                                                                             \
	do {                                                                                     \
		if (__builtin_expect(!(cond), 0)) {                                              \
			fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", __FILE__, __LINE__, \
				__func__, #cond);                                                \
			abort();                                                                 \
		}                                                                                \
	} while (0)
