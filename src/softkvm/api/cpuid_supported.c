/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM_GET_SUPPORTED_CPUID: what this engine can back, limited by what the host's
 * own units do, with the host's vendor, family and model.
 *
 * Choices that are not obvious:
 *  - The engine is an interpreter and translator: guests' branches, loads and stores never
 *    speculate as guests' code. So the bits that say "not affected" are true here, and
 *    they spare Linux guests retpolines, page-table isolation and their like.
 *  - The leaves are the kernel's KVM's, so the frequency leaf 40000010H is user space's to add,
 * too.
 *  - As with the kernel's KVM, the TSC-deadline timer is left to user space
 *    (KVM_CAP_TSC_DEADLINE_TIMER), and so is topology: leaves 0BH, 1FH and 8000001EH are empty.
 */
#include <asm/kvm_para.h>
#include <cpuid.h>
#include <stdlib.h>

#include "softkvm/api/api.h"
#include "softkvm/api/cpuid.h"
#include "softkvm/api/uaccess.h"

#define MAX_BASIC     0xdu
#define MAX_EXT_INTEL 0x80000008u
#define MAX_EXT_AMD   0x80000021u
#define VIRT_BITS     48u

/* Bits that the engine backs by itself ("own"), or only if the host has them ("host"). */
struct mask {
	uint32_t own, host;
};

static const struct mask leaf1_ecx = {
	.own = BIT(13) /* CX16 */ | BIT(17) /* PCID */ | BIT(21) /* x2APIC */ |
	       BIT(31) /* HYPERVISOR */,
	.host = BIT(0) /* SSE3 */ | BIT(1) /* PCLMULQDQ */ | BIT(9) /* SSSE3 */ |
		BIT(12) /* FMA */ | BIT(19) /* SSE4.1 */ | BIT(20) /* SSE4.2 */ |
		BIT(22) /* MOVBE */ | BIT(23) /* POPCNT */ | BIT(25) /* AES */ |
		BIT(26) /* XSAVE */ | BIT(28) /* AVX */ | BIT(29) /* F16C */ | BIT(30) /* RDRAND */,
};
static const struct mask leaf1_edx = {
	.own = BIT(0) /* FPU */ | BIT(1) /* VME */ | BIT(2) /* DE */ | BIT(3) /* PSE */ |
	       BIT(4) /* TSC */ | BIT(5) /* MSR */ | BIT(6) /* PAE */ | BIT(7) /* MCE */ |
	       BIT(8) /* CX8 */ | BIT(9) /* APIC */ | BIT(11) /* SEP */ | BIT(12) /* MTRR */ |
	       BIT(13) /* PGE */ | BIT(14) /* MCA */ | BIT(15) /* CMOV */ | BIT(16) /* PAT */ |
	       BIT(17) /* PSE36 */ | BIT(19) /* CLFSH */ | BIT(23) /* MMX */ | BIT(24) /* FXSR */ |
	       BIT(25) /* SSE */ | BIT(26) /* SSE2 */,
};
static const struct mask leaf7_ebx = {
	.own = BIT(0) /* FSGSBASE */ | BIT(1) /* TSC_ADJUST */ | BIT(6) /* FDP_EXCPTN_ONLY */ |
	       BIT(7) /* SMEP */ | BIT(9) /* ERMS */ | BIT(10) /* INVPCID */ | BIT(20) /* SMAP */ |
	       BIT(23) /* CLFLUSHOPT */ | BIT(24) /* CLWB */,
	.host = BIT(3) /* BMI1 */ | BIT(5) /* AVX2 */ | BIT(8) /* BMI2 */ | BIT(18) /* RDSEED */ |
		BIT(19) /* ADX */ | BIT(29) /* SHA */,
};
static const struct mask leaf7_ecx = { .own = BIT(2) /* UMIP */ | BIT(22) /* RDPID */ };
static const struct mask leaf7_edx = { .own = BIT(4) /* FSRM */ };
/* On Intel: SPEC_CTRL, SSBD and ARCH_CAPABILITIES, which carries the "not affected" bits. */
#define LEAF7_EDX_INTEL (BIT(26) | BIT(29) | BIT(31))
/* Subleaf 2: BHI_CTRL, so that Linux sets a bit in SPEC_CTRL instead of clearing history. */
#define LEAF72_EDX_INTEL BIT(4)
static const struct mask ext1_ecx = {
	.own = BIT(0) /* LAHF */ | BIT(8) /* 3DNOWPREFETCH */,
	.host = BIT(5) /* ABM: LZCNT */,
};
#define EXT1_ECX_AMD BIT(22) /* TOPOEXT: leaf 8000001DH is there */
static const struct mask ext1_edx = {
	.own = BIT(11) /* SYSCALL */ | BIT(20) /* NX */ | BIT(26) /* 1 GiB pages */ |
	       BIT(27) /* RDTSCP */ | BIT(29) /* LM */,
};
/* AMD repeats these bits of leaf 1 EDX in 80000001H EDX. */
#define EXT1_EDX_REPEATED 0x0183f3ffu
#define EXT8_EBX_AMD      (BIT(26) /* SSB_NO */ | BIT(29) /* BTC_NO */)
#define EXT21_EAX_AMD                                                                         \
	(BIT(2) /* LFENCE_RDTSC */ | BIT(6) /* NULL_SEL_CLR_BASE */ | BIT(8) /* AutoIBRS */ | \
	 BIT(29) /* SRSO_NO */)
#define EXT21_ECX_AMD (BIT(1) /* TSA_SQ_NO */ | BIT(2) /* TSA_L1_NO */)
#define KVM_FEATURES                                                                             \
	(BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) |                          \
	 BIT(KVM_FEATURE_CLOCKSOURCE2) | BIT(KVM_FEATURE_STEAL_TIME) | BIT(KVM_FEATURE_PV_EOI) | \
	 BIT(KVM_FEATURE_PV_UNHALT) | BIT(KVM_FEATURE_PV_TLB_FLUSH) |                            \
	 BIT(KVM_FEATURE_PV_SEND_IPI) | BIT(KVM_FEATURE_POLL_CONTROL) |                          \
	 BIT(KVM_FEATURE_PV_SCHED_YIELD) | BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT))

struct builder {
	struct kvm_cpuid_entry2 *entries;
	unsigned max, n;
	bool full, amd;
};

static void host_cpuid(uint32_t leaf, uint32_t subleaf, struct cpuid_regs *r)
{
	memset(r, 0, sizeof(*r));
	__get_cpuid_count(leaf, subleaf, &r->eax, &r->ebx, &r->ecx, &r->edx);
}

static uint32_t mask_apply(const struct mask *m, uint32_t host)
{
	return m->own | (m->host & host);
}

static void add(struct builder *b, uint32_t leaf, uint32_t subleaf, bool indexed,
		const struct cpuid_regs *r)
{
	if (b->n >= b->max) {
		b->full = true;
		return;
	}
	b->entries[b->n++] = (struct kvm_cpuid_entry2){
		.function = leaf,
		.index = subleaf,
		.flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = r->eax,
		.ebx = r->ebx,
		.ecx = r->ecx,
		.edx = r->edx,
	};
}

static void add_host(struct builder *b, uint32_t leaf)
{
	struct cpuid_regs r;

	host_cpuid(leaf, 0, &r);
	add(b, leaf, 0, false, &r);
}

static void add_empty(struct builder *b, uint32_t leaf, bool indexed)
{
	add(b, leaf, 0, indexed, &(struct cpuid_regs){ 0 });
}

static void add_leaf1(struct builder *b)
{
	struct cpuid_regs r;
	uint64_t fp = fpu_host_features();

	host_cpuid(1, 0, &r);
	r.ebx &= 0x0000ff00u; /* CLFLUSH size; ids are user space's */
	r.ecx = mask_apply(&leaf1_ecx, r.ecx);
	if (!(fp & FPUF_AVX)) {
		r.ecx &= ~(BIT(28) | BIT(12) | BIT(29));
	}
	r.edx = mask_apply(&leaf1_edx, r.edx);
	add(b, 1, 0, false, &r);
}

/* Deterministic cache parameters (Intel's leaf 4, AMD's 8000001DH): the host's. */
static void add_caches(struct builder *b, uint32_t leaf)
{
	struct cpuid_regs r;

	for (uint32_t i = 0; i < 8; i++) {
		host_cpuid(leaf, i, &r);
		r.eax &= 0x3ffu; /* without the host's sharing and core counts */
		add(b, leaf, i, true, &r);
		if ((r.eax & 0x1f) == 0) {
			break;
		}
	}
}

static void add_leaf7(struct builder *b)
{
	struct cpuid_regs r, two = { 0 };

	host_cpuid(7, 0, &r);
	r.ebx = mask_apply(&leaf7_ebx, r.ebx);
	if (!(fpu_host_features() & FPUF_AVX2)) {
		r.ebx &= ~BIT(5);
	}
	r.ecx = mask_apply(&leaf7_ecx, r.ecx);
	r.edx = mask_apply(&leaf7_edx, r.edx);
	if (!b->amd) {
		r.edx |= LEAF7_EDX_INTEL;
		two.edx = LEAF72_EDX_INTEL;
	}
	r.eax = b->amd ? 0 : 2;
	add(b, 7, 0, true, &r);
	if (!b->amd) {
		add(b, 7, 1, true, &(struct cpuid_regs){ 0 });
		add(b, 7, 2, true, &two);
	}
}

static void add_leaf_d(struct builder *b)
{
	struct cpuid_regs r;
	uint64_t components = fpu_xcr0_supported();

	for (uint32_t i = 0; i < 63; i++) {
		if (i < 2 || (components & BIT64(i))) {
			fpu_cpuid_d(NULL, i, &r);
			add(b, 0xd, i, true, &r);
		}
	}
}

static void add_basic(struct builder *b)
{
	struct cpuid_regs r;

	host_cpuid(0, 0, &r);
	r.eax = MAX_BASIC;
	add(b, 0, 0, false, &r);
	add_leaf1(b);
	add_host(b, 2);
	if (!b->amd) {
		add_caches(b, 4);
	}
	add_empty(b, 5, false);
	add(b, 6, 0, false, &(struct cpuid_regs){ .eax = BIT(2) /* ARAT */ });
	add_leaf7(b);
	add_empty(b, 0xa, false);
	add_empty(b, 0xb, true);
	add_leaf_d(b);
}

static void add_kvm(struct builder *b)
{
	struct cpuid_regs r = { .eax = KVM_CPUID_FEATURES };

	memcpy(&r.ebx, "KVMK", 4);
	memcpy(&r.ecx, "VMKV", 4);
	memcpy(&r.edx, "M\0\0\0", 4);
	add(b, KVM_CPUID_SIGNATURE, 0, false, &r);
	add(b, KVM_CPUID_FEATURES, 0, false, &(struct cpuid_regs){ .eax = KVM_FEATURES });
}

static void add_ext1(struct builder *b)
{
	struct cpuid_regs r;

	host_cpuid(0x80000001u, 0, &r);
	r.ebx = 0;
	r.ecx = mask_apply(&ext1_ecx, r.ecx);
	r.edx = mask_apply(&ext1_edx, r.edx);
	if (b->amd) {
		r.ecx |= EXT1_ECX_AMD;
		r.edx |= leaf1_edx.own & EXT1_EDX_REPEATED;
	}
	add(b, 0x80000001u, 0, false, &r);
}

static void add_ext8(struct builder *b)
{
	struct cpuid_regs r;
	uint32_t phys;

	host_cpuid(0x80000008u, 0, &r);
	phys = r.eax & 0xff;
	r = (struct cpuid_regs){ .eax = (phys ? phys : 36) | VIRT_BITS << 8 };
	if (b->amd) {
		r.ebx = EXT8_EBX_AMD;
	}
	add(b, 0x80000008u, 0, false, &r);
}

static void add_extended(struct builder *b)
{
	struct cpuid_regs r;

	host_cpuid(0x80000000u, 0, &r);
	r.eax = b->amd ? MAX_EXT_AMD : MAX_EXT_INTEL;
	add(b, 0x80000000u, 0, false, &r);
	add_ext1(b);
	for (uint32_t leaf = 0x80000002u; leaf <= 0x80000006u; leaf++) {
		add_host(b, leaf);
	}
	/* The TSC does not stop: whether it is invariant is the host's word. */
	host_cpuid(0x80000007u, 0, &r);
	add(b, 0x80000007u, 0, false, &(struct cpuid_regs){ .edx = r.edx & BIT(8) });
	add_ext8(b);
	if (!b->amd) {
		return;
	}
	add_host(b, 0x8000001au);
	add_caches(b, 0x8000001du);
	add_empty(b, 0x8000001eu, false);
	add(b, 0x80000021u, 0, false,
	    &(struct cpuid_regs){ .eax = EXT21_EAX_AMD, .ecx = EXT21_ECX_AMD });
}

static bool host_is_amd(void)
{
	struct cpuid_regs r;

	host_cpuid(0, 0, &r);
	return r.ecx == signature_AMD_ecx || r.ecx == 0x656e6975u /* HygonGenuine */;
}

int cpuid_build_supported(struct kvm_cpuid_entry2 *ret, unsigned max)
{
	struct builder b = { .entries = ret, .max = max, .amd = host_is_amd() };

	add_basic(&b);
	add_extended(&b);
	add_kvm(&b);
	return b.full ? -E2BIG : (int)b.n;
}

uint64_t cpuid_supported_xcr0(void)
{
	return fpu_xcr0_supported();
}

static int write_table(uint64_t user, const struct kvm_cpuid_entry2 *entries, unsigned n)
{
	struct kvm_cpuid2 head = { .nent = n };
	int r = user_write(user + sizeof(head), entries, n * sizeof(*entries));

	return r != 0 ? r : user_write(user, &head, sizeof(head));
}

int cpuid_get_supported(uint64_t user)
{
	struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
	struct kvm_cpuid2 head;
	int r = user_read(&head, user, sizeof(head));

	if (r != 0) {
		return r;
	}
	r = cpuid_build_supported(entries, MIN(head.nent, CPUID_ENTRIES_MAX));
	return r < 0 ? r : write_table(user, entries, (unsigned)r);
}

/* RDPID and MOVBE are what the kernel names here: emulated though the host may lack them. */
int cpuid_get_emulated(uint64_t user)
{
	static const struct kvm_cpuid_entry2 emulated[] = {
		{ .function = 0, .eax = 7 },
		{ .function = 1, .ecx = BIT(22) /* MOVBE */ },
		{ .function = 7,
		  .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		  .ecx = BIT(22) /* RDPID */ },
	};
	struct kvm_cpuid_entry2 *in;
	struct kvm_cpuid2 head;
	int r = user_read(&head, user, sizeof(head));

	if (r != 0) {
		return r;
	}
	if (head.nent < ARRAY_SIZE(emulated)) {
		return -E2BIG;
	}
	head.nent = MIN(head.nent, CPUID_ENTRIES_MAX);
	in = calloc(head.nent, sizeof(*in));
	if (!in) {
		return -ENOMEM;
	}
	r = user_read(in, user + sizeof(head), head.nent * sizeof(*in));
	for (unsigned i = 0; r == 0 && i < head.nent; i++) {
		/* Here, unlike elsewhere, padding must be clean. */
		r = in[i].padding[0] | in[i].padding[1] | in[i].padding[2] ? -EINVAL : 0;
	}
	free(in);
	return r != 0 ? r : write_table(user, emulated, ARRAY_SIZE(emulated));
}
