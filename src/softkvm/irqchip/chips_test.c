/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 8259 pair, the IOAPIC and the 8254 against their data sheets.
 */
#include "softkvm/irqchip/testchip.h"

/* --- 8259 ---------------------------------------------------------------------------- */
static void pic_setup(struct testchip *c, uint8_t icw4)
{
	out8(c, 0x20, 0x11);
	out8(c, 0x21, 0x20);
	out8(c, 0x21, 0x04);
	out8(c, 0x21, icw4);
	out8(c, 0xa0, 0x11);
	out8(c, 0xa1, 0x28);
	out8(c, 0xa1, 0x02);
	out8(c, 0xa1, icw4);
	out8(c, 0x21, 0x00);
	out8(c, 0xa1, 0x00);
}

static void pulse(struct testchip *c, uint32_t gsi)
{
	line(c, gsi, true);
	line(c, gsi, false);
}

static void test_pic_priorities(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 1);
	pic_setup(&c, 1);
	pulse(&c, 4);
	pulse(&c, 3);
	CHECK(t, irq_pending(c.cpu[0])); /* LINT0 is EXTINT after reset */
	out8(&c, 0x20, 0x0a);
	CHECK_EQ(t, in8(&c, 0x20), 0x18); /* IRR */
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x23);
	out8(&c, 0x20, 0x0b);
	CHECK_EQ(t, in8(&c, 0x20), 0x08); /* ISR */
	CHECK(t, !irq_pending(c.cpu[0])); /* 4 is below 3 */
	pulse(&c, 1);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x21);
	out8(&c, 0x20, 0x20); /* ends 1, the highest */
	CHECK_EQ(t, in8(&c, 0x20), 0x08);
	out8(&c, 0x20, 0x63); /* specific: 3 */
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x24);
	out8(&c, 0x20, 0x20);
	out8(&c, 0x21, 0x40);
	pulse(&c, 6); /* masked */
	CHECK(t, !irq_pending(c.cpu[0]));
	out8(&c, 0x21, 0);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x26);
	testchip_close(&c);
}

static void test_pic_cascade(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 1);
	pic_setup(&c, 1);
	pulse(&c, 12);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x2c);
	out8(&c, 0x20, 0x0b);
	out8(&c, 0xa0, 0x0b);
	CHECK_EQ(t, in8(&c, 0x20), 0x04);
	CHECK_EQ(t, in8(&c, 0xa0), 0x10);
	pulse(&c, 9); /* higher in the slave, but the master serves its input 2 */
	CHECK(t, !irq_pending(c.cpu[0]));
	out8(&c, 0xa0, 0x20);
	out8(&c, 0x20, 0x20);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x29);
	out8(&c, 0xa0, 0x20);
	out8(&c, 0x20, 0x20);
	pic_setup(&c, 0x11); /* special fully nested: now it may */
	pulse(&c, 12);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x2c);
	pulse(&c, 9);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x29);
	testchip_close(&c);
}

static void test_pic_modes(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 1);
	pic_setup(&c, 3); /* automatic EOI */
	pulse(&c, 5);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x25);
	out8(&c, 0x20, 0x0b);
	CHECK_EQ(t, in8(&c, 0x20), 0);
	pic_setup(&c, 1);
	out8(&c, 0x20, 0xc3); /* 3 is lowest now, 4 highest */
	pulse(&c, 1);
	pulse(&c, 4);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x24);
	out8(&c, 0x20, 0xa0); /* EOI with rotation: 4 is lowest */
	pulse(&c, 4);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x21);
	out8(&c, 0x20, 0x20);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x24);
	pic_setup(&c, 1);
	pulse(&c, 6);
	out8(&c, 0x20, 0x0c); /* poll */
	CHECK_EQ(t, in8(&c, 0x20), 0x86);
	CHECK(t, !irq_pending(c.cpu[0]));
	pic_setup(&c, 1);
	pulse(&c, 3);
	irq_acknowledge(c.cpu[0]);
	out8(&c, 0x20, 0x68); /* special mask mode: */
	out8(&c, 0x21, 0x08); /* what is masked does not hold off others */
	pulse(&c, 7);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x27);
	testchip_close(&c);
}

static void test_pic_levels(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 1);
	pic_setup(&c, 1);
	out8(&c, 0x4d0, 0xff);
	CHECK_EQ(t, in8(&c, 0x4d0), 0xf8);
	out8(&c, 0x4d1, 0xff);
	CHECK_EQ(t, in8(&c, 0x4d1), 0xde);
	line(&c, 5, true);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x25);
	out8(&c, 0x20, 0x20);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x25); /* still up */
	line(&c, 5, false);
	out8(&c, 0x20, 0x20);
	CHECK(t, !irq_pending(c.cpu[0]));
	pthread_mutex_lock(&c.chip->lock); /* gone before the processor asks: spurious */
	CHECK_EQ(t, pic_acknowledge_locked(&c.chip->pic), 0x27);
	pthread_mutex_unlock(&c.chip->lock);
	testchip_close(&c);
}

/* --- IOAPIC ---------------------------------------------------------------------------- */
static void test_ioapic_edges(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 2);
	apic_enable(&c, 0);
	apic_enable(&c, 1);
	CHECK_EQ(t, ioapic_get(&c, 1), 0x170020);
	CHECK_EQ(t, ioapic_get(&c, 0x10), 0x10000);
	ioapic_put(&c, 0, UINT32_MAX);
	CHECK_EQ(t, ioapic_get(&c, 0), 0x0f000000);
	ioapic_entry(&c, 17, 1ull << 56 | 0x71);
	CHECK_EQ(t, line(&c, 17, true), 1);
	CHECK_EQ(t, requested(&c, 0x71), 2);
	CHECK_EQ(t, line(&c, 17, true), 0); /* no new edge */
	line(&c, 17, false);
	CHECK_EQ(t, line(&c, 17, true), 1);
	CHECK_EQ(t, requested(&c, 0x71), 2);
	ioapic_entry(&c, 18, REDIR_MASKED | 0x72);
	CHECK_EQ(t, (unsigned)line(&c, 18, true), (unsigned)-1);
	testchip_close(&c);
}

static void test_ioapic_levels(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 1);
	apic_enable(&c, 0);
	ioapic_entry(&c, 20, REDIR_LEVEL | 0x80);
	line(&c, 20, true);
	CHECK(t, ioapic_get(&c, 0x10 + 40) & REDIR_REMOTE_IRR);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x80);
	CHECK_EQ(t, apic_get(&c, 0, APIC_TMR + 0x40), 1);
	apic_put(&c, 0, APIC_EOI, 0);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x80); /* the line is still up */
	line(&c, 20, false);
	apic_put(&c, 0, APIC_EOI, 0);
	CHECK(t, !irq_pending(c.cpu[0]));
	CHECK(t, !(ioapic_get(&c, 0x10 + 40) & REDIR_REMOTE_IRR));
	/* Two sources: the line is up until both have let go. */
	line(&c, 20, true);
	pthread_mutex_lock(&c.chip->lock);
	gsi_set_locked(c.vm, 20, SOURCE_RESAMPLE, true);
	gsi_set_locked(c.vm, 20, SOURCE_USER, false);
	CHECK(t, c.chip->ioapic.irr & BIT(20));
	gsi_set_locked(c.vm, 20, SOURCE_RESAMPLE, false);
	CHECK(t, !(c.chip->ioapic.irr & BIT(20)));
	pthread_mutex_unlock(&c.chip->lock);
	/* What came while masked comes when unmasked. */
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x80);
	apic_put(&c, 0, APIC_EOI, 0);
	ioapic_entry(&c, 20, REDIR_LEVEL | REDIR_MASKED | 0x81);
	line(&c, 20, true);
	CHECK(t, !irq_pending(c.cpu[0]));
	ioapic_entry(&c, 20, REDIR_LEVEL | 0x81);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x81);
	/* Switching to edge clears remote IRR. */
	ioapic_entry(&c, 20, REDIR_MASKED | 0x81);
	CHECK(t, !(ioapic_get(&c, 0x10 + 40) & REDIR_REMOTE_IRR));
	testchip_close(&c);
}

static void test_ioapic_state(struct test *t)
{
	struct testchip c;
	struct kvm_irqchip in = { .chip_id = KVM_IRQCHIP_IOAPIC }, out = in;

	testchip_open(&c, IRQCHIP_FULL, 1);
	apic_enable(&c, 0);
	ioapic_entry(&c, 5, 0x55);
	ioapic_put(&c, 0, 0x03000000);
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_GET_IRQCHIP, (uintptr_t)&in), 0);
	CHECK_EQ(t, in.chip.ioapic.base_address, IOAPIC_BASE);
	CHECK_EQ(t, in.chip.ioapic.id, 3);
	CHECK_EQ(t, in.chip.ioapic.redirtbl[5].fields.vector, 0x55);
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_SET_IRQCHIP, (uintptr_t)&in), 0);
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_GET_IRQCHIP, (uintptr_t)&out), 0);
	CHECK(t, memcmp(&in, &out, sizeof(in)) == 0);
	in.chip_id = 3;
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_GET_IRQCHIP, (uintptr_t)&in), -EINVAL);
	in.chip_id = KVM_IRQCHIP_PIC_SLAVE;
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_GET_IRQCHIP, (uintptr_t)&in), 0);
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_SET_IRQCHIP, (uintptr_t)&in), 0);
	testchip_close(&c);
}

/* --- 8254 ------------------------------------------------------------------------------------ */
static void pit_setup(struct testchip *c)
{
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };

	ASSERT(irqchip_vm_ioctl(c->vm, KVM_CREATE_PIT2, (uintptr_t)&config) == 0);
}

static uint16_t read_word(struct testchip *c, uint16_t port)
{
	uint16_t low = in8(c, port);

	return (uint16_t)(low | in8(c, port) << 8);
}

static void test_pit_counters(struct test *t)
{
	struct testchip c;
	uint16_t first, second;

	testchip_open(&c, IRQCHIP_FULL, 1);
	CHECK(t, in8(&c, 0x40) == 0xee); /* not there yet */
	pit_setup(&c);
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_CREATE_PIT, 0), -EEXIST);
	out8(&c, 0x43, 0xb4); /* channel 2, word, mode 2 */
	out8(&c, 0x42, 0x00);
	out8(&c, 0x42, 0x10);
	out8(&c, 0x43, 0x80); /* latch */
	first = read_word(&c, 0x42);
	CHECK(t, first >= 1 && first <= 0x1000);
	out8(&c, 0x43, 0xe8); /* read back status of channel 2 */
	CHECK_EQ(t, in8(&c, 0x42) & 0x3f, 0x34);
	out8(&c, 0x43, 0xd8); /* count of channel 2 */
	second = read_word(&c, 0x42);
	CHECK(t, second >= 1 && second <= 0x1000);
	out8(&c, 0x43, 0xb1); /* mode 0, BCD */
	out8(&c, 0x42, 0x99);
	out8(&c, 0x42, 0x99);
	CHECK_EQ(t, c.chip->pit->ch[2].count, 9999);
	out8(&c, 0x43, 0x90); /* mode 0, low byte: 1 count, then OUT rises and stays */
	out8(&c, 0x42, 1);
	while (!(in8(&c, 0x61) & 0x20)) {
		sched_yield();
	}
	out8(&c, 0x61, 3);
	CHECK_EQ(t, in8(&c, 0x61) & 3, 3);
	testchip_close(&c);
}

static void test_pit_ticks(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 1);
	pit_setup(&c);
	apic_enable(&c, 0);
	ioapic_entry(&c, 0, 0x33);
	out8(&c, 0x43, 0x34); /* channel 0, mode 2, 1 ms */
	out8(&c, 0x40, 0xa9);
	out8(&c, 0x40, 0x04);
	for (unsigned i = 0; i < 3; i++) {
		wait_requested(&c, 0, 0x33);
		CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x33);
		apic_put(&c, 0, APIC_EOI, 0);
	}
	out8(&c, 0x43, 0x30); /* mode 0: once */
	out8(&c, 0x40, 0x10);
	out8(&c, 0x40, 0x00);
	while (atomic_load(&c.chip->pit->deadline) != NEVER) {
		sched_yield();
	}
	wait_requested(&c, 0, 0x33);
	testchip_close(&c);
}

/* Ticks wait for the acknowledgement of the one before, if reinjection is on. */
static void test_pit_backlog(struct test *t)
{
	struct testchip c;
	struct kvm_reinject_control off = { .pit_reinject = 0 };
	struct pit *p;
	ns_t deadline;

	testchip_open(&c, IRQCHIP_FULL, 1);
	pit_setup(&c);
	apic_enable(&c, 0);
	ioapic_entry(&c, 0, 0x33);
	p = c.chip->pit;
	pthread_mutex_lock(&c.chip->lock); /* keeps the service thread out */
	p->period = NS_PER_S;
	deadline = clock_now_ns() + 3600 * NS_PER_S;
	atomic_store(&p->deadline, deadline);
	pit_tick_locked(p, deadline + 2 * p->period); /* three at once */
	pthread_mutex_unlock(&c.chip->lock);
	CHECK_EQ(t, p->backlog, 2);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x33);
		apic_put(&c, 0, APIC_EOI, 0);
	}
	CHECK(t, !irq_pending(c.cpu[0]));
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_REINJECT_CONTROL, (uintptr_t)&off), 0);
	CHECK(t, !p->reinject);
	testchip_close(&c);
}

static void test_pit_state(struct test *t)
{
	struct testchip c;
	struct kvm_pit_state2 in, out;
	struct kvm_pit_state old;

	testchip_open(&c, IRQCHIP_FULL, 1);
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_GET_PIT2, (uintptr_t)&in), -ENXIO);
	pit_setup(&c);
	out8(&c, 0x43, 0x36);
	out8(&c, 0x40, 0x00);
	out8(&c, 0x40, 0x80);
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_GET_PIT2, (uintptr_t)&in), 0);
	CHECK_EQ(t, in.channels[0].count, 0x8000);
	CHECK_EQ(t, in.channels[0].mode, 3);
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_SET_PIT2, (uintptr_t)&in), 0);
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_GET_PIT2, (uintptr_t)&out), 0);
	CHECK(t, memcmp(&in, &out, sizeof(in)) == 0);
	CHECK_EQ(t, irqchip_vm_ioctl(c.vm, KVM_GET_PIT, (uintptr_t)&old), 0);
	CHECK_EQ(t, old.channels[0].count, 0x8000);
	testchip_close(&c);
}

static const struct test_case cases[] = {
	{ "PIC: priorities", test_pic_priorities },
	{ "PIC: cascade", test_pic_cascade },
	{ "PIC: modes", test_pic_modes },
	{ "PIC: levels and spurious", test_pic_levels },
	{ "IOAPIC: edges", test_ioapic_edges },
	{ "IOAPIC: levels", test_ioapic_levels },
	{ "IOAPIC: get and set", test_ioapic_state },
	{ "PIT: counters", test_pit_counters },
	{ "PIT: ticks", test_pit_ticks },
	{ "PIT: backlog", test_pit_backlog },
	{ "PIT: get and set", test_pit_state },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
