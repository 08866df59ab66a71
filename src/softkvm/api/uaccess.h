/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies from and to addresses that our caller gave us: a bad one gives
 * -EFAULT, as from a system call, never a crash. Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

int user_read(void *dst, uint64_t src, size_t len_bytes);
int user_write(uint64_t dst, const void *src, size_t len_bytes);
/* Is [addr, addr+len) mapped and readable? 0 or -EFAULT. */
int user_check(uint64_t addr, size_t len_bytes);
