/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's flags between the host's and vcpu.cc.
 */
#include "softkvm/jit/tr.h"

/* mov %rax, tmp; lahf; seto %al; mov %ax, cc; mov tmp, %rax */
void tr_emit_flags_save(struct code *c, unsigned tmp)
{
	code_mov_rr(c, tmp, RAX);
	code_bytes(c, "\x9f\x0f\x90\xc0", 4);
	code_bytes(c, "\x65\x66\x89\x04\x25", 5);
	code_u32(c, OFF(cc));
	code_mov_rr(c, RAX, tmp);
}

/* mov %rax, tmp; movzwl cc, %eax; add $0x7f, %al; sahf; mov tmp, %rax */
void tr_emit_flags_load(struct code *c, unsigned tmp)
{
	code_mov_rr(c, tmp, RAX);
	code_bytes(c, "\x65\x0f\xb7\x04\x25", 5);
	code_u32(c, OFF(cc));
	code_bytes(c, "\x04\x7f\x9e", 3);
	code_mov_rr(c, RAX, tmp);
}

void tr_flags_to_memory(struct tr *t, uint32_t live)
{
	if (live && t->home == HOME_HOST) {
		tr_emit_flags_save(&t->c, TMP_B);
		t->home |= HOME_MEMORY;
	}
}

void tr_flags_clobber(struct tr *t, uint32_t live)
{
	tr_flags_to_memory(t, live);
	t->home &= ~HOME_HOST;
}

void tr_flags_to_host(struct tr *t, unsigned tmp)
{
	if (t->home == HOME_MEMORY) {
		tr_emit_flags_load(&t->c, tmp);
		t->home |= HOME_HOST;
	}
}
