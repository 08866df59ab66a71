/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI power management of an ICH9: the block of I/O ports at PMBASE, and the
 * APM command port by which an OS asks for ACPI mode.
 */
#pragma once

#include "dev/dev.h"

#define PM_SCI_IRQ 9

/* Ports from PMBASE on. */
enum pm_reg {
	PM1_STS = 0x00,
	PM1_EN = 0x02,
	PM1_CNT = 0x04,
	PM_TMR = 0x08,
	PM_GPE0_STS = 0x20,
	PM_GPE0_EN = 0x28,
	PM_SMI_EN = 0x30,
	PM_SMI_STS = 0x34,
	PM_PORTS = 0x80,
};

#define PM_GPE0_BYTES       16
#define PM_TIMER_HZ         3579545
#define PM_APM_PORT         0xb2
#define PM_APM_ACPI_ENABLE  0x02
#define PM_APM_ACPI_DISABLE 0x03
/* SLP_TYP values that the _Sx objects name. */
#define PM_SLP_TYP_S5 7

/* Not mapped until pm_set_base(), except for the APM ports. 0 or -errno; freed with dev_free(). */
int pm_new(struct dev_env *env, struct dev **ret);
/* Map the ports at `base` (0: take them away). Any thread. */
void pm_set_base(struct dev *d, uint16_t base);
/* The power button was pressed. Any thread. */
void pm_power_button(struct dev *d);
