/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a decoded instruction to the handler that runs it.
 */
#pragma once

#include "softkvm/cpu/insn.h"

/* Set in->fn. What nobody knows gets a handler that raises #UD. */
void insn_bind(struct insn *in);
