/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM_SET_SIGNAL_MASK: signals that the thread has blocked, but that shall end KVM_RUN.
 */
#pragma once

#include <stdbool.h>

struct vcpu;

/*
 * The calling thread begins and ends KVM_RUN of this vCPU. True: a signal that shall end it is
 * pending already. Nothing happens without a mask, or if it lets through nothing that is blocked.
 */
bool sigwatch_enter(struct vcpu *cpu);
void sigwatch_leave(struct vcpu *cpu);
