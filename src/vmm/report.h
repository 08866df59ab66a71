/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is said of a guest that cannot go on: why, the processor's registers,
 * the instruction's bytes, the last lines on its console.
 */
#pragma once

#include "dev/char/chardev.h"
#include "vmm/vcpu.h"

/*
 * All vCPUs paused. The text (several lines) is malloc'd; NULL: no memory.
 * `console` may be NULL. What the guest wrote is made printable.
 */
char *report_crash(struct vcpu *c, struct mem *m, struct chardev *console);
