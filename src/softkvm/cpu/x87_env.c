/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The x87 environment in memory, in its four formats (SDM 1 figures 8-9 to
 * 8-12). Selectors are stored as zero, as processors with CPUID.7.EBX[13] do.
 */
#include "softkvm/cpu/simd_int.h"

static unsigned image_top(const uint8_t *image)
{
	return load_le16(image + FXS_FSW) >> 11 & 7;
}

void image_rotate(uint8_t *image, unsigned top)
{
	unsigned by = (top - image_top(image)) & 7;
	uint16_t fsw = load_le16(image + FXS_FSW);
	uint8_t old[8][16];

	memcpy(old, image + FXS_ST, sizeof(old));
	for (unsigned i = 0; i < 8; i++) {
		memcpy(image + FXS_ST + i * 16, old[(i + by) & 7], 16);
	}
	store_le16(image + FXS_FSW, (uint16_t)((fsw & ~0x3800u) | top << 11));
}

/* 0 valid, 1 zero, 2 special (SDM 1 8.1.7). */
static unsigned value_tag(const uint8_t *st)
{
	unsigned exponent = load_le16(st + 8) & 0x7fff;
	uint64_t mantissa = load_le64(st);

	if (exponent == 0) {
		return mantissa ? 2 : 1;
	}
	return exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
}

static uint16_t full_tags(const uint8_t *image)
{
	unsigned top = image_top(image), tags = 0;

	for (unsigned i = 0; i < 8; i++) {
		unsigned tag = 3;

		if (image[FXS_FTW] & BIT(i)) {
			tag = value_tag(image + FXS_ST + ((i - top) & 7) * 16);
		}
		tags |= tag << (2 * i);
	}
	return (uint16_t)tags;
}

static uint8_t short_tags(uint16_t tags)
{
	unsigned ret = 0;

	for (unsigned i = 0; i < 8; i++) {
		ret |= ((tags >> (2 * i) & 3) != 3) << i;
	}
	return (uint8_t)ret;
}

void env_store(const uint8_t *image, struct env_format f, uint8_t *env)
{
	uint32_t fip = load_le32(image + FXS_FIP), fdp = load_le32(image + FXS_FDP);
	uint32_t fop = load_le16(image + FXS_FOP);
	uint32_t word[7] = { load_le16(image + FXS_FCW), load_le16(image + FXS_FSW),
			     full_tags(image), 0 };

	if (f.protected) {
		word[3] = fip;
		word[4] = f.wide ? fop << 16 : 0;
		word[5] = fdp;
	} else {
		word[3] = fip & 0xffff;
		word[4] = f.wide ? (fip >> 16) << 12 | fop : (fip >> 16 & 15) << 12 | fop;
		word[5] = fdp & 0xffff;
		word[6] = f.wide ? (fdp >> 16) << 12 : (fdp >> 16 & 15) << 12;
	}
	for (unsigned i = 0; i < 7; i++) {
		if (f.wide) {
			/* unused upper halves read as ones */
			bool half = i < 3 || (f.protected ? i == 6 : i == 3 || i == 5);

			store_le32(env + i * 4, word[i] | (half ? 0xffff0000u : 0));
		} else {
			store_le16(env + i * 2, (uint16_t)word[i]);
		}
	}
}

static uint32_t env_word(const uint8_t *env, struct env_format f, unsigned i)
{
	return f.wide ? load_le32(env + i * 4) : load_le16(env + i * 2);
}

void env_load(uint8_t *image, struct env_format f, const uint8_t *env)
{
	uint16_t fsw = (uint16_t)env_word(env, f, 1);
	uint32_t fip = env_word(env, f, 3), fdp = env_word(env, f, 5), fop = 0;

	if (f.protected) {
		fop = f.wide ? env_word(env, f, 4) >> 16 : 0;
	} else {
		uint32_t high = env_word(env, f, 4);

		fop = high;
		fip = (fip & 0xffff) | (high >> 12 & (f.wide ? 0xffff : 15)) << 16;
		fdp = (fdp & 0xffff) | (env_word(env, f, 6) >> 12 & (f.wide ? 0xffff : 15)) << 16;
	}
	image_rotate(image, fsw >> 11 & 7);
	store_le16(image + FXS_FCW, (uint16_t)env_word(env, f, 0));
	store_le16(image + FXS_FSW, fsw);
	image[FXS_FTW] = short_tags((uint16_t)env_word(env, f, 2));
	store_le16(image + FXS_FOP, fop & 0x7ff);
	store_le64(image + FXS_FIP, fip);
	store_le64(image + FXS_FDP, fdp);
}
