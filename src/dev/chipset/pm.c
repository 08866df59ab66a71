/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI PM of an ICH9. Sources: ICH9 datasheet (316972) 13.8, ACPI 6.4 4.8.
 *
 * The timer counts at 3.579545 MHz from the device's birth or reset; it is
 * computed when read. Its status bit is set each time that bit 23 changes,
 * found out when somebody looks; only with its interrupt enabled is a host
 * timer armed for the next change.
 *
 * The SCI (a level) is high while an enabled status bit is set and SCI_EN is
 * on. There is no SMM: commands to the APM port take effect by themselves.
 *
 * SLP_TYP follows the ICH9 (S3 5, S5 7) and also the codes that q35 guests
 * use with no datasheet at hand (S5 0, S3 1).
 */
#include "dev/chipset/pm.h"

#include <stdlib.h>

#include "dev/bus.h"

enum pm_window { WINDOW_PM, WINDOW_APM };

#define STS_TIMER  BIT(0)
#define STS_BUTTON BIT(8)
#define STS_WAK    BIT(15)
#define STS_BITS   0x8d31 /* those that exist: write 1 to clear */
#define EN_BITS    0x4521
#define CNT_SCI_EN BIT(0)
#define CNT_SLP_EN BIT(13)
#define CNT_BITS   0x1c03

#define TIMER_BITS     24
#define TIMER_HALF_BIT 23
#define SMI_EN_BITS    0x0006607fu

struct pm {
	struct dev dev;
	struct dev_window ports, apm;
	struct timer overflow;
	ns_t timer_start_ns;
	uint64_t timer_seen; /* count up to which bit 23 was looked at */
	uint16_t sts, en, cnt;
	uint64_t gpe_sts, gpe_en;
	uint32_t smi_en;
	uint8_t apm_byte[2];
	bool sci_level;
};

static uint64_t timer_count(const struct pm *p)
{
	ns_t passed = loop_now_ns(p->dev.env->loop) - p->timer_start_ns;

	return (uint64_t)((unsigned __int128)passed * PM_TIMER_HZ / NS_PER_S);
}

/* Set the status bit if bit 23 has changed since the last look. */
static void timer_look(struct pm *p)
{
	uint64_t now = timer_count(p);

	if (now >> TIMER_HALF_BIT != p->timer_seen >> TIMER_HALF_BIT) {
		p->sts |= STS_TIMER;
	}
	p->timer_seen = now;
}

static void timer_arm_next(struct pm *p)
{
	uint64_t next = ((timer_count(p) >> TIMER_HALF_BIT) + 1) << TIMER_HALF_BIT;
	unsigned __int128 ns = (unsigned __int128)next * NS_PER_S / PM_TIMER_HZ;

	if (p->en & STS_TIMER) {
		timer_arm(&p->overflow, p->timer_start_ns + (ns_t)ns + 1);
	} else {
		timer_disarm(&p->overflow);
	}
}

static void sci_update(struct pm *p)
{
	bool level = (p->cnt & CNT_SCI_EN) && ((p->sts & p->en) || (p->gpe_sts & p->gpe_en));

	if (level != p->sci_level) {
		p->sci_level = level;
		dev_irq_set(&p->dev, PM_SCI_IRQ, level);
	}
}

static void timer_changed(struct pm *p)
{
	timer_look(p);
	timer_arm_next(p);
	sci_update(p);
}

static void overflow(void *opaque)
{
	struct pm *p = opaque;

	dev_lock(&p->dev);
	timer_changed(p);
	dev_unlock(&p->dev);
}

static void ask(struct pm *p, enum dev_request what)
{
	p->dev.env->impl->request(p->dev.env->opaque, what, 0);
}

static void cnt_write(struct pm *p, uint16_t value)
{
	p->cnt = value & CNT_BITS;
	sci_update(p);
	if (!(value & CNT_SLP_EN)) {
		return;
	}
	switch ((value >> 10) & 7) {
	case 0:
	case PM_SLP_TYP_S5:
		ask(p, DEV_REQUEST_POWEROFF);
		break;
	case 1:
	case 5:
		p->sts |= STS_WAK; /* what the OS finds when it goes on */
		ask(p, DEV_REQUEST_SUSPEND);
		break;
	default:
		break;
	}
}

static uint64_t word_read(struct pm *p, unsigned reg)
{
	switch (reg) {
	case PM1_STS:
		timer_look(p);
		return p->sts;
	case PM1_EN:
		return p->en;
	case PM1_CNT:
		return p->cnt;
	case PM_TMR:
	case PM_TMR + 2:
		return (timer_count(p) & (BIT64(TIMER_BITS) - 1)) >> (8 * (reg - PM_TMR));
	case PM_SMI_EN:
	case PM_SMI_EN + 2:
		return p->smi_en >> (8 * (reg - PM_SMI_EN));
	default:
		break;
	}
	if (reg >= PM_GPE0_STS && reg < PM_GPE0_EN) {
		return p->gpe_sts >> (8 * (reg - PM_GPE0_STS));
	}
	if (reg >= PM_GPE0_EN && reg < PM_SMI_EN) {
		return p->gpe_en >> (8 * (reg - PM_GPE0_EN));
	}
	return 0;
}

/* `mask`: which bits of the word at `reg` are written. */
static void word_write(struct pm *p, unsigned reg, uint16_t value, uint16_t mask)
{
	unsigned shift;

	switch (reg) {
	case PM1_STS:
		timer_look(p);
		p->sts &= (uint16_t) ~(value & mask & STS_BITS);
		break;
	case PM1_EN:
		timer_look(p);
		p->en = (uint16_t)((p->en & ~mask) | (value & mask & EN_BITS));
		timer_arm_next(p);
		break;
	case PM1_CNT:
		cnt_write(p, (uint16_t)((p->cnt & ~mask) | (value & mask)));
		return;
	case PM_SMI_EN:
	case PM_SMI_EN + 2:
		shift = 8 * (reg - PM_SMI_EN);
		p->smi_en &= ~((uint32_t)mask << shift);
		p->smi_en |= ((uint32_t)(value & mask) << shift) & SMI_EN_BITS;
		return;
	default:
		break;
	}
	if (reg >= PM_GPE0_STS && reg < PM_GPE0_EN) {
		p->gpe_sts &= ~((uint64_t)(value & mask) << (8 * (reg - PM_GPE0_STS)));
	} else if (reg >= PM_GPE0_EN && reg < PM_SMI_EN) {
		shift = 8 * (reg - PM_GPE0_EN);
		p->gpe_en &= ~((uint64_t)mask << shift);
		p->gpe_en |= (uint64_t)(value & mask) << shift;
	}
	sci_update(p);
}

static void apm_write(struct pm *p, unsigned offset, uint8_t value)
{
	p->apm_byte[offset] = value;
	if (offset != 0) {
		return;
	}
	if (value == PM_APM_ACPI_ENABLE) {
		p->cnt |= CNT_SCI_EN;
	} else if (value == PM_APM_ACPI_DISABLE) {
		p->cnt &= (uint16_t)~CNT_SCI_EN;
	}
	sci_update(p);
}

/* Up to 4 bytes inside the block, from words: registers may be read by parts. */
static uint64_t pm_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	struct pm *p = container_of(d, struct pm, dev);
	unsigned reg = (unsigned)offset & ~1u;
	uint64_t value;

	if (window == WINDOW_APM) {
		return p->apm_byte[offset];
	}
	if (size == 4 && reg == PM_TMR) {
		return timer_count(p) & (BIT64(TIMER_BITS) - 1); /* both halves of one moment */
	}
	value = (word_read(p, reg) & 0xffff) >> (8 * (offset & 1));
	if (size == 4) {
		value |= (word_read(p, reg + 2) & 0xffff) << 16;
	}
	return value;
}

static void pm_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value, unsigned size)
{
	struct pm *p = container_of(d, struct pm, dev);
	unsigned reg = (unsigned)offset & ~1u, shift = 8 * (offset & 1);

	if (window == WINDOW_APM) {
		apm_write(p, (unsigned)offset, (uint8_t)value);
		return;
	}
	word_write(p, reg, (uint16_t)(value << shift),
		   (uint16_t)((size == 1 ? 0xffu : 0xffffu) << shift));
	if (size == 4) {
		word_write(p, reg + 2, (uint16_t)(value >> 16), 0xffff);
	}
}

static void pm_reset(struct dev *d)
{
	struct pm *p = container_of(d, struct pm, dev);

	p->sts = p->en = p->cnt = 0;
	p->gpe_sts = p->gpe_en = 0;
	p->smi_en = 0;
	memset(p->apm_byte, 0, sizeof(p->apm_byte));
	p->timer_start_ns = loop_now_ns(d->env->loop);
	p->timer_seen = 0;
	timer_disarm(&p->overflow);
	sci_update(p);
}

static void pm_done(struct dev *d)
{
	struct pm *p = container_of(d, struct pm, dev);

	timer_done(&p->overflow);
	free(p);
}

static const struct dev_class pm_class = {
	.name = "acpi-pm",
	.done = pm_done,
	.reset = pm_reset,
	.read = pm_read,
	.write = pm_write,
};

void pm_set_base(struct dev *d, uint16_t base)
{
	struct pm *p = container_of(d, struct pm, dev);

	bus_unmap(d->env->bus, &p->ports);
	if (base) {
		bus_map(d->env->bus, &p->ports, base); /* no memory for it: it is just not there */
	}
}

void pm_power_button(struct dev *d)
{
	struct pm *p = container_of(d, struct pm, dev);

	dev_lock(d);
	p->sts |= STS_BUTTON;
	sci_update(p);
	dev_unlock(d);
}

int pm_new(struct dev_env *env, struct dev **ret)
{
	struct pm *p = calloc(1, sizeof(*p));
	int r;

	if (!p) {
		return -ENOMEM;
	}
	dev_init(&p->dev, &pm_class, env, NULL);
	timer_init(&p->overflow, env->loop, overflow, p);
	dev_window_init(&p->ports, &p->dev, WINDOW_PM, DEV_PIO, PM_PORTS, 1, 4);
	dev_window_init(&p->apm, &p->dev, WINDOW_APM, DEV_PIO, 2, 1, 1);
	r = bus_map(env->bus, &p->apm, PM_APM_PORT);
	if (r < 0) {
		dev_free(&p->dev);
		return r;
	}
	dev_reset(&p->dev);
	*ret = &p->dev;
	return 0;
}
