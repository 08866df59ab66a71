/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by run.c and vcpu.c: entering and leaving the guest, sleeping.
 */
#pragma once

#include "softkvm/cpu/vcpu.h"

/* The calling thread begins (ends) to touch guest memory for this vCPU; waits out a pause. */
void guest_enter(struct vcpu *cpu);
void guest_leave(struct vcpu *cpu);
/* Sleep while *word is `value`, until an absolute CLOCK_MONOTONIC time (INT64_MAX: for ever). 0, or
 * -EAGAIN, -EINTR, -ETIMEDOUT. */
int futex_wait_until(_Atomic uint32_t *word, uint32_t value, ns_t deadline);
