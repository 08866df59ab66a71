/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: any bytes in any mode decode, bind and print without harm, and
 * the result keeps what decode.h promises.
 */
#include "base/assert.h"
#include "softkvm/cpu/bind.h"
#include "softkvm/cpu/decode.h"
#include "softkvm/cpu/disasm.h"
#include "softkvm/cpu/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct insn *in, enum insn_mode mode, unsigned avail, int len)
{
	ASSERT(len >= 1 && len <= INSN_BYTES_MAX && (unsigned)len <= avail && in->len == len);
	ASSERT(in->op > OP_NONE && in->op < OP_COUNT && in->row < rows_count());
	ASSERT(in->osz == 1 || in->osz == 2 || in->osz == 4 || in->osz == 8);
	ASSERT(in->asz == 2 || in->asz == 4 || in->asz == 8);
	ASSERT(in->base < GPR_COUNT && in->index < GPR_COUNT && in->scale < 4);
	ASSERT(in->seg < SEG_COUNT && in->vvvv < 16 && in->is4 < 16);
	ASSERT(in->reg < 128 && in->rm < 128); /* byte indexes into 16 registers */
	ASSERT(!(in->flags & INSN_LOCK) || (in->flags & INSN_MEM));
	ASSERT((mode & MODE_SIZE) != MODE_64 || (in->flags & INSN_FLAT));
	ASSERT((mode & MODE_SIZE) == MODE_64 || (in->osz < 8 && in->asz < 8));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum insn_mode modes[] = {
		MODE_16,
		MODE_32,
		MODE_64,
		MODE_16 | MODE_REAL,
		MODE_32 | MODE_REAL,
		MODE_32 | MODE_FLAT,
		MODE_16 | MODE_FLAT,
	};
	enum insn_mode mode;
	struct insn in, again;
	unsigned avail;
	char text[96];
	int len;

	if (size < 2) {
		return 0;
	}
	mode = modes[data[0] % ARRAY_SIZE(modes)];
	avail = (unsigned)MIN(size - 1, 32);
	len = insn_decode(data + 1, avail, 0xfffffff0, mode, &in);
	insn_disassemble(data + 1, avail, 0, mode, text, data[0] % sizeof(text));
	if (len < 0) {
		ASSERT(len == DECODE_UD || (len == DECODE_NEED_MORE && avail < INSN_BYTES_MAX) ||
		       (len == DECODE_TOO_LONG && avail >= INSN_BYTES_MAX));
		return 0;
	}
	check(&in, mode, avail, len);
	/* exactly these bytes suffice, one less does not */
	ASSERT(insn_decode(data + 1, (unsigned)len, 0xfffffff0, mode, &again) == len);
	ASSERT(memcmp(&in, &again, sizeof(in)) == 0);
	ASSERT(insn_decode(data + 1, (unsigned)len - 1, 0, mode, &again) == DECODE_NEED_MORE);
	insn_bind(&in);
	ASSERT(in.fn);
	return 0;
}
