/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest does wrong is said once in a while, never for each access: a
 * hostile guest must not fill the host's log. Any thread.
 */
#pragma once

/* At most GUEST_LOG_BURST lines a second reach stderr; what was dropped is counted and said. */
#define GUEST_LOG_BURST 10

void guest_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
