/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small guests on whatever engine there is: accesses reach the bus, pause and
 * resume, reset, failures. Without an engine these tests are skipped.
 */
#include "vmm/vcpu.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/test.h"
#include "vmm/report.h"

#define CODE_GPA 0x10000
#define GDT_GPA  0x1000
#define TEXT_GPA 0x2000
#define PORT     0x1230
#define MMIO_GPA 0xd0000000

/* 32-bit protected mode, flat. */
__asm__(".pushsection .rodata\n"
	".code32\n"
	/* OUTS and INS of each size, in and out, memory-mapped likewise, then stay. */
	"guest_accesses:\n"
	"	mov $0x1230, %dx\n"
	"	mov $0x11, %al\n	out %al, %dx\n"
	"	mov $0x2222, %ax\n	out %ax, %dx\n"
	"	mov $0x33333333, %eax\n	out %eax, %dx\n"
	"	mov $0x2000, %esi\n	mov $3, %ecx\n	cld\n	rep outsb\n"
	"	mov $0x3000, %edi\n	mov $4, %ecx\n	rep insb\n"
	"	in %dx, %eax\n"
	"	mov %eax, 0xd0000000\n"
	"	mov 0xd0000004, %bl\n"
	"	mov %bl, 0xd0000008\n"
	"	mov $0x99, %al\n	out %al, %dx\n"
	"1:	incl 0x4000\n	jmp 1b\n"
	"guest_accesses_end:\n"
	/* A fault with no interrupt table: a triple fault. */
	"guest_triple_fault:\n"
	"	ud2\n"
	"guest_triple_fault_end:\n"
	/* Asks for a reset, as by port 0xcf9, and falls apart behind it. */
	"guest_reset_or_fault:\n"
	"	mov $0x1230, %dx\n"
	"	mov $0x77, %al\n	out %al, %dx\n"
	"	ud2\n"
	"guest_reset_or_fault_end:\n"
	".code64\n"
	".popsection\n");
extern const uint8_t guest_accesses[], guest_accesses_end[];
extern const uint8_t guest_triple_fault[], guest_triple_fault_end[];
extern const uint8_t guest_reset_or_fault[], guest_reset_or_fault_end[];

struct probe {
	struct dev dev;
	struct dev_window ports, memory;
	char trace[256]; /* by the vCPU's thread; read when it is paused */
	size_t used;
	atomic_bool arrived;              /* the guest wrote 0x99 */
	struct vcpu_group *held_by_write; /* of 0x77 */
	atomic_int writes;
	uint8_t next;
};

struct fixture {
	struct kvm *kvm;
	struct mem *mem;
	struct bus *bus;
	struct vm vm;
	struct vcpu_group group;
	struct probe probe;
	struct dev_env env;
	struct machine_start start;
	struct vcpu *_Atomic failed;
	char error[256];
};

static void note(struct probe *p, const char *kind, unsigned window, uint64_t offset,
		 uint64_t value, unsigned size)
{
	int n = snprintf(p->trace + p->used, sizeof(p->trace) - p->used, "%s%s%u:%llx@%llu ",
			 window ? "m" : "p", kind, size, (unsigned long long)value,
			 (unsigned long long)offset);

	p->used = MIN(p->used + (size_t)n, sizeof(p->trace) - 1);
}

static uint64_t probe_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	struct probe *p = container_of(d, struct probe, dev);
	uint64_t value = 0;

	for (unsigned i = 0; i < size; i++) {
		value |= (uint64_t)++p->next << 8 * i;
	}
	note(p, "r", window, offset, value, size);
	return value;
}

static void probe_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
			unsigned size)
{
	struct probe *p = container_of(d, struct probe, dev);

	note(p, "w", window, offset, value, size);
	if (value == 0x99 && !window) {
		atomic_store(&p->arrived, true);
	}
	if (value == 0x77 && p->held_by_write) {
		vcpu_group_hold(p->held_by_write);
	}
	atomic_fetch_add(&p->writes, 1);
}

static void probe_done(struct dev *d)
{
}

static const struct dev_class probe_class = {
	.name = "probe", .done = probe_done, .read = probe_read, .write = probe_write
};

static void on_failed(void *opaque, struct vcpu *c)
{
	atomic_store(&((struct fixture *)opaque)->failed, c);
}

static void on_request(void *opaque, enum dev_request what)
{
}

static const struct vcpu_events events = { .failed = on_failed, .request = on_request };

static bool open_engine(struct fixture *x)
{
	char reason[256];

	return kvm_open(KVM_ENGINE_SOFT, reason, sizeof(reason), &x->kvm) == 0 ||
	       kvm_open(KVM_ENGINE_KERNEL, reason, sizeof(reason), &x->kvm) == 0;
}

static void place_code(struct fixture *x, const uint8_t *code, const uint8_t *end)
{
	uint64_t gdt[] = { 0, 0, 0x00cf9b000000ffffull, 0x00cf93000000ffffull };

	mem_write(x->mem, GDT_GPA, gdt, sizeof(gdt));
	mem_write(x->mem, TEXT_GPA, "abc", 3);
	mem_write(x->mem, CODE_GPA, code, (size_t)(end - code));
	x->start = (struct machine_start){ .rip = CODE_GPA,
					   .rsp = 0x9000,
					   .rflags = 2,
					   .cr0 = 0x11,
					   .gdt_base = GDT_GPA,
					   .gdt_limit = 31,
					   .cs = 0x10,
					   .ds = 0x18 };
}

static int setup(struct fixture *x, unsigned cpus, const uint8_t *code, const uint8_t *end)
{
	struct probe *p = &x->probe;
	int r;

	memset(x, 0, sizeof(*x));
	if (!open_engine(x)) {
		return 1;
	}
	r = mem_new(&x->mem);
	r = r ? r : mem_add(x->mem, 0, MIB(1), 0, "ram");
	r = r ? r : bus_new(&x->bus);
	r = r ? r : vm_init(&x->vm, x->kvm, x->error, sizeof(x->error));
	r = r ? r : vm_add_memory(&x->vm, x->mem, x->error, sizeof(x->error));
	r = r ? r
	      : vcpu_group_init(&x->group, &x->vm, x->bus, cpus, &events, x, x->error,
				sizeof(x->error));
	if (r) {
		printf("# %s\n", x->error);
		return -1;
	}
	x->env = (struct dev_env){ .opaque = x, .mem = x->mem, .bus = x->bus };
	dev_init(&p->dev, &probe_class, &x->env, NULL);
	dev_window_init(&p->ports, &p->dev, 0, DEV_PIO, 4, 1, 4);
	dev_window_init(&p->memory, &p->dev, 1, DEV_MMIO, 16, 1, 4);
	bus_map(x->bus, &p->ports, PORT);
	bus_map(x->bus, &p->memory, MMIO_GPA);
	place_code(x, code, end);
	r = vcpu_group_reset(&x->group, &x->start, true);
	return r ? r : vcpu_group_start(&x->group);
}

static void teardown(struct fixture *x)
{
	vcpu_group_done(&x->group);
	bus_unmap(x->bus, &x->probe.ports);
	bus_unmap(x->bus, &x->probe.memory);
	vm_done(&x->vm);
	kvm_close(x->kvm);
	bus_free(x->bus);
	mem_free(x->mem);
}

#define SETUP(t, x, cpus, code)                               \
	do {                                                  \
		int r__ = setup(x, cpus, code, code##_end);   \
		if (r__ == 1) {                               \
			SKIP(t, "no engine on this machine"); \
		}                                             \
		CHECK_EQ(t, r__, 0);                          \
	} while (0)

static void wait_for(atomic_bool *flag)
{
	while (!atomic_load(flag)) {
		usleep(200);
	}
}

static uint32_t counter(struct fixture *x)
{
	uint32_t v;

	mem_read(x->mem, 0x4000, &v, sizeof(v));
	return v;
}

static const char want_trace[] =
	"pw1:11@0 pw2:2222@0 pw4:33333333@0 pw1:61@0 pw1:62@0 pw1:63@0 pr1:1@0 pr1:2@0 pr1:3@0 "
	"pr1:4@0 pr4:8070605@0 mw4:8070605@0 mr1:9@4 mw1:9@8 pw1:99@0 ";

static void test_accesses(struct test *t)
{
	static struct fixture x;
	uint32_t in;

	SETUP(t, &x, 1, guest_accesses);
	vcpu_group_resume(&x.group);
	wait_for(&x.probe.arrived);
	vcpu_group_pause(&x.group);
	CHECK_STR(t, x.probe.trace, want_trace);
	CHECK_EQ(t, mem_read(x.mem, 0x3000, &in, 4), 0);
	CHECK_EQ(t, in, 0x04030201);
	teardown(&x);
}

static void test_pause_and_resume(struct test *t)
{
	static struct fixture x;
	uint32_t before = 0, after;

	SETUP(t, &x, 2, guest_accesses);
	CHECK(t, vcpu_group_is_paused(&x.group));
	vcpu_group_resume(&x.group);
	wait_for(&x.probe.arrived);
	for (int i = 0; i < 200; i++) {
		vcpu_group_pause(&x.group);
		before = counter(&x);
		CHECK_EQ(t, counter(&x), before);
		vcpu_group_resume(&x.group);
	}
	do {
		usleep(200);
		vcpu_group_pause(&x.group);
		after = counter(&x);
		vcpu_group_resume(&x.group);
	} while (after == before);
	teardown(&x);
}

static void test_reset(struct test *t)
{
	static struct fixture x;

	SETUP(t, &x, 2, guest_accesses);
	for (int i = 0; i < 5; i++) {
		vcpu_group_resume(&x.group);
		wait_for(&x.probe.arrived);
		vcpu_group_pause(&x.group);
		CHECK_STR(t, x.probe.trace, want_trace);
		memset(x.probe.trace, 0, sizeof(x.probe.trace));
		x.probe.used = x.probe.next = 0;
		atomic_store(&x.probe.arrived, false);
		CHECK_EQ(t, vm_reset(&x.vm), 0);
		CHECK_EQ(t, vcpu_group_reset(&x.group, &x.start, false), 0);
	}
	teardown(&x);
}

static void test_triple_fault(struct test *t)
{
	static struct fixture x;
	char *report;

	SETUP(t, &x, 1, guest_triple_fault);
	vcpu_group_resume(&x.group);
	while (!atomic_load(&x.failed)) {
		usleep(200);
	}
	vcpu_group_pause(&x.group);
	report = report_crash(x.failed, x.mem, NULL);
	CHECK(t, report != NULL);
	CHECK(t, strstr(report, "vCPU 0 cannot go on: triple fault") != NULL);
	CHECK(t, strstr(report, "rip ") != NULL);
	CHECK(t, strstr(report, "  code") != NULL);
	free(report);
	/* A failed processor stays where it is; the rest can still end. */
	vcpu_group_resume(&x.group);
	teardown(&x);
}

/* Behind the write that asks for a reset, the guest does not go on: it has only a fault there. */
static void test_hold(struct test *t)
{
	static struct fixture x;

	SETUP(t, &x, 1, guest_reset_or_fault);
	x.probe.held_by_write = &x.group;
	for (int i = 0; i < 20; i++) {
		vcpu_group_resume(&x.group);
		while (atomic_load(&x.probe.writes) <= i) {
			usleep(200);
		}
		/* Long enough for some tries to let a guest that goes on reach its fault. */
		usleep(i * 100);
		vcpu_group_pause(&x.group);
		CHECK(t, !atomic_load(&x.failed));
		CHECK_EQ(t, vm_reset(&x.vm), 0);
		CHECK_EQ(t, vcpu_group_reset(&x.group, &x.start, false), 0);
	}
	x.probe.held_by_write = NULL;
	vcpu_group_resume(&x.group);
	while (!atomic_load(&x.failed)) {
		usleep(200);
	}
	teardown(&x);
}

static const struct test_case cases[] = {
	{ "accesses reach the bus", test_accesses },
	{ "pause and resume", test_pause_and_resume },
	{ "reset", test_reset },
	{ "triple fault", test_triple_fault },
	{ "held for a reset", test_hold },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
