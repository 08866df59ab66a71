/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The page walk (SDM 3A chapter 4): no paging, 32-bit, PAE and 4-level.
 */
#pragma once

#include "base/util.h"

struct vm;

enum page_size { PAGE_4K, PAGE_2M, PAGE_4M, PAGE_1G, PAGE_SIZES };

/* What a walk depends on, besides memory. */
struct walk_env {
	struct vm *vm;
	uint64_t cr0, cr3, cr4, efer;
	uint64_t pdpte[4];  /* PAE: loaded with CR3, not by the walk */
	uint8_t maxphyaddr; /* of the guest's CPUID */
	bool pages_1g;      /* CPUID says so */
	bool amd;           /* bit 8 of upper entries is reserved */
};

/* How the access is done. */
enum {
	WALK_WRITE = BIT(0),
	WALK_USER = BIT(1), /* CPL 3 and not implicit */
	WALK_FETCH = BIT(2),
	WALK_AC = BIT(3),    /* SMAP does not apply: explicit access with RFLAGS.AC */
	WALK_QUIET = BIT(4), /* change no accessed and dirty bits */
	WALK_ANY = BIT(5),   /* check no permission, only presence (KVM_TRANSLATE) */
};

/* #PF's error code */
enum { PF_P = BIT(0), PF_W = BIT(1), PF_U = BIT(2), PF_RSVD = BIT(3), PF_I = BIT(4) };

struct walk_result {
	gpa_t gpa; /* of the address itself */
	enum page_size size;
	bool user, write, nx; /* rights of all levels together */
	bool global, dirty;
};

/*
 * Translate. 0: *ret is filled, accessed and dirty bits are set in guest memory. Else -EFAULT, and
 * *ret_error is #PF's error code. A table that lies in no RAM counts as not present, as in KVM.
 */
int walk(const struct walk_env *env, gva_t lin, unsigned how, struct walk_result *ret,
	 uint32_t *ret_error);
/* May `how` (of WALK_WRITE, _USER, _FETCH, _AC) use a page with these rights? */
bool walk_allows(const struct walk_env *env, const struct walk_result *r, unsigned how);
/* The four PDPTEs from memory at CR3 (SDM 3A 4.4.1): false if one has reserved bits set. */
bool walk_load_pdptes(struct walk_env *env, uint64_t cr3);
