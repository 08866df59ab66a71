/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The local APIC against SDM 3A chapter 11.
 */
#include "softkvm/cpu/msr.h"
#include "softkvm/irqchip/testchip.h"

#define MSR_ICR  0x830u
#define MSR_EOI  0x80bu
#define MSR_SELF 0x83fu

static void test_reset_values(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 2);
	CHECK_EQ(t, apic_get(&c, 0, APIC_LVR), 0x50014);
	CHECK_EQ(t, apic_get(&c, 1, APIC_ID), 1u << 24);
	CHECK_EQ(t, apic_get(&c, 0, APIC_SVR), 0xff);
	CHECK_EQ(t, apic_get(&c, 0, APIC_DFR), UINT32_MAX);
	CHECK_EQ(t, apic_get(&c, 0, APIC_LVT0), DELIVER_EXTINT << 8);
	CHECK_EQ(t, apic_get(&c, 1, APIC_LVT0), LVT_MASKED);
	CHECK_EQ(t, apic_get(&c, 1, APIC_LVTT), LVT_MASKED);
	CHECK_EQ(t, lapic_get_base(c.cpu[0]), 0xfee00900);
	CHECK_EQ(t, lapic_get_base(c.cpu[1]), 0xfee00800);
	CHECK_EQ(t, c.cpu[0]->mp_state, KVM_MP_STATE_RUNNABLE);
	CHECK_EQ(t, c.cpu[1]->mp_state, KVM_MP_STATE_UNINITIALIZED);
	testchip_close(&c);
}

static void test_priorities(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 1);
	ipi(&c, 0, 0, 0x40); /* software-disabled: dropped */
	CHECK(t, !irq_pending(c.cpu[0]));
	apic_enable(&c, 0);
	ipi(&c, 0, 0, 0x41);
	ipi(&c, 0, 0, 0x52);
	CHECK(t, irq_pending(c.cpu[0]));
	apic_put(&c, 0, APIC_TPR, 0x50); /* holds off class 5 and below */
	CHECK(t, !irq_pending(c.cpu[0]));
	CHECK_EQ(t, apic_get(&c, 0, APIC_PPR), 0x50);
	apic_put(&c, 0, APIC_TPR, 0x4f);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x52);
	CHECK_EQ(t, apic_get(&c, 0, APIC_PPR), 0x50);
	CHECK(t, !irq_pending(c.cpu[0])); /* 41H waits behind 52H, and behind TPR */
	apic_put(&c, 0, APIC_EOI, 0);
	CHECK(t, !irq_pending(c.cpu[0]));
	lapic_set_cr8(c.cpu[0], 3);
	CHECK_EQ(t, apic_get(&c, 0, APIC_TPR), 0x30);
	CHECK_EQ(t, lapic_get_cr8(c.cpu[0]), 3);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x41);
	CHECK_EQ(t, apic_get(&c, 0, APIC_ISR + 0x20), BIT(1));
	apic_put(&c, 0, APIC_EOI, 0);
	CHECK_EQ(t, apic_get(&c, 0, APIC_ISR + 0x20), 0);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), -1);
	apic_put(&c, 0, APIC_EOI, 0); /* nothing in service: nothing happens */
	testchip_close(&c);
}

static void test_destinations(struct test *t)
{
	struct testchip c;
	unsigned all = 0;

	testchip_open(&c, IRQCHIP_FULL, 4);
	for (unsigned i = 0; i < 4; i++) {
		apic_enable(&c, i);
		apic_put(&c, i, APIC_LDR, BIT(24 + i));
	}
	ipi(&c, 0, 2, 0x60);
	CHECK_EQ(t, requested(&c, 0x60), BIT(2));
	ipi(&c, 0, 0xff, 0x60);
	CHECK_EQ(t, requested(&c, 0x60), 0xf);
	ipi(&c, 0, 0x5, 0x860); /* logical, flat */
	CHECK_EQ(t, requested(&c, 0x60), 0x5);
	ipi(&c, 1, 0, 0x60 | DEST_SELF << 18);
	CHECK_EQ(t, requested(&c, 0x60), BIT(1));
	ipi(&c, 1, 0, 0x60 | DEST_ALL << 18);
	CHECK_EQ(t, requested(&c, 0x60), 0xf);
	ipi(&c, 1, 0, 0x60 | DEST_OTHERS << 18);
	CHECK_EQ(t, requested(&c, 0x60), 0xd);
	ipi(&c, 0, 9, 0x60);
	CHECK_EQ(t, requested(&c, 0x60), 0);
	for (unsigned i = 0; i < 4; i++) { /* one of all, each in turn */
		unsigned got;

		ipi(&c, 0, 0xf, 0x960);
		got = requested(&c, 0x60);
		CHECK(t, got && !(got & (got - 1)));
		all |= got;
	}
	CHECK_EQ(t, all, 0xf);
	for (unsigned i = 0; i < 4; i++) { /* clusters of two */
		apic_put(&c, i, APIC_DFR, 0);
		apic_put(&c, i, APIC_LDR, (i / 2) << 28 | BIT(24 + (i & 1)));
	}
	ipi(&c, 0, 0x13, 0x860);
	CHECK_EQ(t, requested(&c, 0x60), 0xc);
	testchip_close(&c);
}

static void test_start_up(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 2);
	apic_enable(&c, 0);
	ipi(&c, 0, 1, DELIVER_SIPI << 8 | 0x12); /* before INIT: dropped */
	lapic_accept_events(c.cpu[1]);
	CHECK_EQ(t, c.cpu[1]->mp_state, KVM_MP_STATE_UNINITIALIZED);
	ipi(&c, 0, 1, DELIVER_INIT << 8 | BIT(14));
	CHECK(t, lapic_accept_events(c.cpu[1]));
	CHECK_EQ(t, c.cpu[1]->mp_state, KVM_MP_STATE_INIT_RECEIVED);
	ipi(&c, 0, 1, DELIVER_INIT << 8 | BIT(15)); /* level de-assert: nothing */
	CHECK(t, !lapic_accept_events(c.cpu[1]));
	ipi(&c, 0, 1, DELIVER_SIPI << 8 | 0x9a);
	CHECK(t, lapic_accept_events(c.cpu[1]));
	CHECK_EQ(t, c.cpu[1]->mp_state, KVM_MP_STATE_RUNNABLE);
	CHECK_EQ(t, c.cpu[1]->seg[SEG_CS].base, 0x9a000);
	CHECK_EQ(t, c.cpu[1]->seg[SEG_CS].sel, 0x9a00);
	CHECK_EQ(t, c.cpu[1]->rip, 0);
	ipi(&c, 0, 1, DELIVER_SIPI << 8 | 0x55); /* it runs: dropped */
	CHECK(t, !lapic_accept_events(c.cpu[1]));
	for (unsigned i = 0; i < 3; i++) {
		ipi(&c, 0, 1, DELIVER_NMI << 8);
	}
	CHECK_EQ(t, c.cpu[1]->ev.nmi_pending, 2);
	testchip_close(&c);
}

static void test_errors(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 1);
	apic_enable(&c, 0);
	apic_put(&c, 0, APIC_LVTERR, 0xe1);
	ipi(&c, 0, 0, 0x0f);
	CHECK_EQ(t, requested(&c, 0xe1), 1);
	CHECK_EQ(t, apic_get(&c, 0, APIC_ESR), 0); /* shown by a write only */
	apic_put(&c, 0, APIC_ESR, 0);
	CHECK_EQ(t, apic_get(&c, 0, APIC_ESR), ESR_SEND_ILLEGAL | ESR_RECV_ILLEGAL);
	apic_put(&c, 0, APIC_ESR, 0);
	CHECK_EQ(t, apic_get(&c, 0, APIC_ESR), 0);
	apic_get(&c, 0, 0x3c0);
	apic_put(&c, 0, APIC_ESR, 0);
	CHECK_EQ(t, apic_get(&c, 0, APIC_ESR), ESR_REGISTER);
	testchip_close(&c);
}

static void test_lvt_bits(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 1);
	apic_put(&c, 0, APIC_LVT1, 0x400); /* software-disabled: stays masked */
	CHECK_EQ(t, apic_get(&c, 0, APIC_LVT1), 0x400 | LVT_MASKED);
	apic_enable(&c, 0);
	apic_put(&c, 0, APIC_LVTERR, UINT32_MAX);
	CHECK_EQ(t, apic_get(&c, 0, APIC_LVTERR), 0x100ff);
	apic_put(&c, 0, APIC_LVTT, UINT32_MAX);
	CHECK_EQ(t, apic_get(&c, 0, APIC_LVTT), 0x700ff);
	apic_put(&c, 0, APIC_LVT0, UINT32_MAX);
	CHECK_EQ(t, apic_get(&c, 0, APIC_LVT0), 0x1a7ff);
	apic_put(&c, 0, APIC_LVTERR, 0x33);
	apic_put(&c, 0, APIC_SVR, 0xff); /* switching off masks all */
	CHECK_EQ(t, apic_get(&c, 0, APIC_LVTERR), 0x33 | LVT_MASKED);
	testchip_close(&c);
}

static void test_modes(struct test *t)
{
	struct testchip c;
	uint64_t v;
	uint32_t page;

	testchip_open(&c, IRQCHIP_FULL, 2);
	CHECK(t, !lapic_msr_read(c.cpu[1], 0x802, &v));         /* not in x2APIC mode */
	CHECK(t, !lapic_set_base(c.cpu[1], 0xfee00400, false)); /* EXTD without EN */
	CHECK(t, !lapic_set_base(c.cpu[1], 0xfee00801, false)); /* reserved bit */
	CHECK(t, lapic_set_base(c.cpu[1], 0xfee00c00, false));
	CHECK(t, !lapic_set_base(c.cpu[1], 0xfee00800, false)); /* x2APIC to xAPIC */
	CHECK(t, lapic_msr_read(c.cpu[1], 0x802, &v) && v == 1);
	CHECK(t, lapic_msr_read(c.cpu[1], 0x80d, &v) && v == 2);
	CHECK(t, !lapic_msr_read(c.cpu[1], 0x80e, &v));   /* no DFR */
	CHECK(t, !lapic_msr_read(c.cpu[1], MSR_EOI, &v)); /* write-only */
	CHECK(t, !lapic_msr_write(c.cpu[1], MSR_EOI, 1));
	CHECK(t, !lapic_msr_write(c.cpu[1], 0x802, 5)); /* read-only */
	CHECK(t, !lapic_msr_write(c.cpu[1], 0x808, BIT64(32)));
	CHECK(t, lapic_msr_write(c.cpu[1], 0x80f, 0x1ff));
	CHECK(t, lapic_msr_write(c.cpu[1], MSR_SELF, 0x77));
	CHECK_EQ(t, requested(&c, 0x77), 2);
	CHECK(t, lapic_msr_write(c.cpu[1], MSR_ICR, 1ull << 32 | 0x78));
	CHECK_EQ(t, requested(&c, 0x78), 2);
	CHECK(t, lapic_msr_read(c.cpu[1], MSR_ICR, &v) && v == (1ull << 32 | 0x78));
	CHECK(t, irqchip_mmio_read(c.cpu[1], APIC_DEFAULT_BASE + APIC_ID, &page, 4));
	CHECK_EQ(t, page, UINT32_MAX); /* the page is a hole now */
	CHECK(t, lapic_set_base(c.cpu[1], 0xfee00000, false));
	CHECK(t, !lapic_set_base(c.cpu[1], 0xfee00c00, false)); /* disabled to x2APIC */
	CHECK(t, lapic_set_base(c.cpu[1], 0xfee00800, false));
	CHECK_EQ(t, apic_get(&c, 1, APIC_ID), 1u << 24);
	testchip_close(&c);
}

static void test_state(struct test *t)
{
	struct testchip c;
	struct kvm_lapic_state in, out;

	testchip_open(&c, IRQCHIP_FULL, 1);
	apic_enable(&c, 0);
	apic_put(&c, 0, APIC_TPR, 0x20);
	ipi(&c, 0, 0, 0x99);
	CHECK(t, lapic_get_state(c.cpu[0], &in) == 0);
	lapic_reset(c.cpu[0], false);
	CHECK(t, !irq_pending(c.cpu[0]));
	CHECK(t, lapic_set_state(c.cpu[0], &in) == 0);
	CHECK(t, lapic_get_state(c.cpu[0], &out) == 0);
	CHECK(t, memcmp(&in, &out, sizeof(in)) == 0);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x99);
	/* In x2APIC mode user space sees the id in its old place, unless it asked for 32 bits. */
	CHECK(t, lapic_set_base(c.cpu[0], 0xfee00d00, true));
	lapic_get_state(c.cpu[0], &in);
	CHECK(t, lapic_set_state(c.cpu[0], &in) == 0);
	c.vm->cap.x2apic_32bit_ids = true;
	store_le32(in.regs + APIC_ID, 5);
	CHECK_EQ(t, lapic_set_state(c.cpu[0], &in), -EINVAL);
	testchip_close(&c);
}

static void test_timer(struct test *t)
{
	struct testchip c;
	uint64_t v;

	testchip_open(&c, IRQCHIP_FULL, 1);
	apic_enable(&c, 0);
	apic_put(&c, 0, APIC_TDCR, 0xb);
	apic_put(&c, 0, APIC_LVTT, 0x80);
	apic_put(&c, 0, APIC_TMICT, UINT32_MAX);
	CHECK(t, apic_get(&c, 0, APIC_TMCCT) > 0);
	CHECK(t, lapic_next_deadline(c.cpu[0]) != NEVER);
	apic_put(&c, 0, APIC_TMICT, 0); /* stops */
	CHECK_EQ(t, apic_get(&c, 0, APIC_TMCCT), 0);
	CHECK(t, lapic_next_deadline(c.cpu[0]) == NEVER);
	apic_put(&c, 0, APIC_TMICT, 1000);
	wait_requested(&c, 0, 0x80);
	CHECK_EQ(t, requested(&c, 0x80), 1);
	CHECK(t, lapic_next_deadline(c.cpu[0]) == NEVER); /* one shot */
	apic_put(&c, 0, APIC_LVTT, 0x81 | TIMER_PERIODIC << 17);
	apic_put(&c, 0, APIC_TMICT, 300000);
	wait_requested(&c, 0, 0x81);
	CHECK_EQ(t, requested(&c, 0x81), 1);
	wait_requested(&c, 0, 0x81);
	CHECK(t, lapic_next_deadline(c.cpu[0]) != NEVER);
	CHECK(t, lapic_msr_write(c.cpu[0], 0x6e0, 1)); /* ignored in this mode */
	CHECK(t, lapic_msr_read(c.cpu[0], 0x6e0, &v) && v == 0);
	apic_put(&c, 0, APIC_LVTT, 0x82 | TIMER_TSC_DEADLINE << 17);
	CHECK(t, lapic_next_deadline(c.cpu[0]) == NEVER); /* change of mode disarms */
	v = cpu_tsc(c.cpu[0]) + 1000000;
	CHECK(t, lapic_msr_write(c.cpu[0], 0x6e0, v));
	wait_requested(&c, 0, 0x82);
	CHECK(t, cpu_tsc(c.cpu[0]) >= v);
	CHECK(t, lapic_msr_read(c.cpu[0], 0x6e0, &v) && v == 0);
	requested(&c, 0x82);
	CHECK(t, lapic_msr_write(c.cpu[0], 0x6e0, 1)); /* long past: at once */
	CHECK_EQ(t, requested(&c, 0x82), 1);
	apic_put(&c, 0, APIC_LVTT, 0x82 | LVT_MASKED | TIMER_TSC_DEADLINE << 17);
	CHECK(t, lapic_msr_write(c.cpu[0], 0x6e0, 1));
	CHECK_EQ(t, requested(&c, 0x82), 0);
	testchip_close(&c);
}

static void test_pv(struct test *t)
{
	struct testchip c;

	testchip_open(&c, IRQCHIP_FULL, 4);
	for (unsigned i = 0; i < 4; i++) {
		apic_enable(&c, i);
	}
	lapic_set_pv_eoi(c.cpu[0], 0x1000 | 1);
	ipi(&c, 0, 0, 0x61);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x61);
	CHECK_EQ(t, c.ram[0x1000], 1); /* no EOI is needed */
	c.ram[0x1000] = 0;             /* the guest's EOI */
	CHECK_EQ(t, apic_get(&c, 0, APIC_ISR + 0x30), 0);
	ipi(&c, 0, 0, 0x62);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x62);
	ipi(&c, 0, 0, 0x63); /* now one waits: the mark is taken back */
	CHECK(t, !irq_pending(c.cpu[0]));
	CHECK_EQ(t, c.ram[0x1000], 0);
	apic_put(&c, 0, APIC_EOI, 0);
	CHECK_EQ(t, irq_acknowledge(c.cpu[0]), 0x63);
	CHECK_EQ(t, lapic_pv_send_ipi(c.cpu[0], 0x5, 0, 1, 0x70, true), 2);
	CHECK_EQ(t, requested(&c, 0x70), BIT(1) | BIT(3));
	CHECK(t, lapic_pv_send_ipi(c.cpu[0], 1, 0, 0, 0x70 | BIT(11), true) < 0);
	testchip_close(&c);
}

static void test_msi(struct test *t)
{
	struct testchip c;
	struct irq_msg m;

	testchip_open(&c, IRQCHIP_FULL, 2);
	apic_enable(&c, 0);
	apic_enable(&c, 1);
	msg_from_msi(c.vm, 0xfee01000, 0x4055, &m);
	CHECK_EQ(t, msg_deliver(c.vm, &m), 1);
	CHECK_EQ(t, msg_deliver(c.vm, &m), 0); /* coalesced */
	CHECK_EQ(t, requested(&c, 0x55), 2);
	msg_from_msi(c.vm, 0xfee77000, 0x4055, &m);
	CHECK_EQ(t, msg_deliver(c.vm, &m), -1); /* nobody */
	c.vm->cap.x2apic_32bit_ids = true;
	msg_from_msi(c.vm, 0x12345600fee01000ull, 0, &m);
	CHECK_EQ(t, m.dest, 0x12345601);
	testchip_close(&c);
}

static const struct test_case cases[] = {
	{ "reset values", test_reset_values },
	{ "priorities", test_priorities },
	{ "destinations", test_destinations },
	{ "INIT, SIPI, NMI", test_start_up },
	{ "errors", test_errors },
	{ "LVT bits", test_lvt_bits },
	{ "xAPIC and x2APIC", test_modes },
	{ "get and set", test_state },
	{ "timer", test_timer },
	{ "PV EOI and PV IPI", test_pv },
	{ "MSI", test_msi },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
