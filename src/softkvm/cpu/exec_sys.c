/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which handler executes a system instruction. */
#include "softkvm/cpu/exec_sys_int.h"

exec_fn *exec_sys_bind(const struct insn *in)
{
	static exec_fn *(*const groups[])(const struct insn *) = {
		exec_sys_bind_seg,   exec_sys_bind_far, exec_sys_bind_ret,
		exec_sys_bind_fast,  exec_sys_bind_cr,  exec_sys_bind_io,
		exec_sys_bind_flags, exec_sys_bind_msr, exec_sys_bind_misc,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(groups); i++) {
		exec_fn *fn = groups[i](in);

		if (fn != NULL) {
			return fn;
		}
	}
	return NULL;
}
