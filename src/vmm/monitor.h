/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: JSON lines in QMP's words (greeting, qmp_capabilities,
 * commands, errors, events). One client at a time; the next waits.
 */
#pragma once

#include <stddef.h>

struct vmm;
struct monitor;

/*
 * Listen at `path` (made with mode 0600). A dead socket there is replaced, a
 * live one is an error. 0, or -errno and one line in `error`.
 */
int monitor_new(struct vmm *v, const char *path, char *error, size_t error_size,
		struct monitor **ret);
/* NULL is fine. The socket's file is the janitor's to remove. */
void monitor_free(struct monitor *m);
/* Tell a client that has negotiated. `data`: a JSON object as text, or NULL. `m` may be NULL. */
void monitor_event(struct monitor *m, const char *name, const char *data);
