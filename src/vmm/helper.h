/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's process has tiny children that stay outside of its sandbox and do one thing each:
 * the janitor, the connector. What they have in common.
 */
#pragma once

/*
 * In a child right after fork(): keep only these descriptors (-1: one less), be called `name`,
 * gain no rights, and outlive the signals that a terminal sends to the whole group.
 */
void helper_become(const char *name, int fd_a, int fd_b);
