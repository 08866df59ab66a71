/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handler of an instruction: its group's binder knows.
 */
#include "softkvm/cpu/bind.h"

#include "softkvm/cpu/exec.h"
#include "softkvm/cpu/ops.h"

static const struct {
	const char *mnemonic;
	enum op_group group;
} ops[OP_COUNT] = { [OP_NONE] = { "(bad)", OPG_NONE },
#define OP_ROW(name, text, grp) [OP_##name] = { text, OPG_##grp },
		    OPS_ALL(OP_ROW)
#undef OP_ROW
};

const char *op_mnemonic(enum op op)
{
	return op < OP_COUNT ? ops[op].mnemonic : "(bad)";
}

enum op_group op_group(enum op op)
{
	return op < OP_COUNT ? ops[op].group : OPG_NONE;
}

static enum exec_result exec_unknown(struct vcpu *cpu, const struct insn *in)
{
	return exec_ud(cpu, in);
}

static exec_fn *bind_group(const struct insn *in)
{
	switch (op_group(in->op)) {
	case OPG_INT:
		return exec_int_bind(in);
	case OPG_SYS:
		return exec_sys_bind(in);
	case OPG_X87:
	case OPG_SIMD:
		return exec_simd_bind(in);
	case OPG_NONE:
		break;
	}
	return NULL;
}

void insn_bind(struct insn *in)
{
	exec_fn *fn = bind_group(in);

	in->fn = fn ? fn : exec_unknown;
}
