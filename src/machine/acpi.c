/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fixed ACPI tables. Offsets are those of ACPI 6.4: RSDP 5.2.5.3, FADT 5.2.9,
 * FACS 5.2.10, MADT 5.2.12; MCFG: PCI Firmware 3.2, 4.1.2.
 */
#include "machine/acpi.h"

#include <stdlib.h>

#include "base/assert.h"
#include "dev/chipset/lpc.h"
#include "dev/chipset/pm.h"
#include "dev/chipset/rtc.h"
#include "mem/mem.h"

#define TABLES_BYTES (BOARD_BIOS - BOARD_ACPI)
#define TABLE_ALIGN  16u

/* ---- common ---- */

static uint8_t checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--) {
		sum = (uint8_t)(sum + *p++);
	}
	return (uint8_t)-sum;
}

void acpi_header_finish(uint8_t *t, const char signature[4], uint8_t revision, uint32_t len)
{
	memcpy(t, signature, 4);
	store_le32(t + 4, len);
	t[8] = revision;
	t[9] = 0;
	memcpy(t + 10, "LODGE ", 6);
	memcpy(t + 16, "LODGEPC ", 8);
	store_le32(t + 24, 1);
	memcpy(t + 28, "LDGE", 4);
	store_le32(t + 32, 1);
	t[9] = checksum(t, len);
}

/* Tables one after the other in [BOARD_ACPI, BOARD_BIOS), seen by us at `host`. */
struct placer {
	uint8_t *host;
	uint32_t used;
};

/* Zeroed room for a table of `len` bytes; where the guest sees it goes to *ret_gpa. */
static uint8_t *place(struct placer *p, uint32_t len, uint32_t *ret_gpa)
{
	uint8_t *at = p->host + p->used;

	ASSERT(len <= TABLES_BYTES - p->used);
	*ret_gpa = (uint32_t)BOARD_ACPI + p->used;
	p->used = ALIGN_UP(p->used + len, TABLE_ALIGN);
	return at;
}

/* ---- FACS, FADT ---- */

#define FACS_BYTES 64

static void put_facs(uint8_t *t)
{
	memset(t, 0, FACS_BYTES);
	memcpy(t, "FACS", 4);
	store_le32(t + 4, FACS_BYTES);
	t[32] = 2; /* version */
}

#define FADT_BYTES           276
#define FADT_REVISION        6
#define FADT_MINOR           4
#define FADT_NO_C2           0x0fff /* latency beyond what C2 and C3 may have: there are none */
#define FADT_BOOT_LEGACY     BIT(0)
#define FADT_BOOT_8042       BIT(1)
#define FADT_BOOT_NO_VGA     BIT(2)
#define FADT_WBINVD          BIT(0)
#define FADT_C1              BIT(2)
#define FADT_NO_SLEEP_BUTTON BIT(5) /* power button: fixed hardware (bit 4 clear) */
#define FADT_NO_RTC_WAKE     BIT(6)
#define FADT_RESET_REGISTER  BIT(10)
#define RESET_PORT           0xcf9
#define RESET_VALUE          0x06

static void put_io_address(uint8_t *t, uint16_t port, unsigned bytes, unsigned access)
{
	t[0] = 1; /* system I/O */
	t[1] = (uint8_t)(8 * bytes);
	t[2] = 0;
	t[3] = (uint8_t)access;
	store_le64(t + 4, port);
}

/* The four blocks of PM ports, in both forms. */
static void put_fadt_ports(uint8_t *t)
{
	const uint16_t base = LPC_PMBASE;
	static const struct {
		uint8_t reg, bytes, access;
		uint8_t at32, at_len, at_x;
	} blocks[] = {
		{ PM1_STS, 4, 2, 56, 88, 148 },
		{ PM1_CNT, 2, 2, 64, 89, 172 },
		{ PM_TMR, 4, 3, 76, 91, 208 },
		{ PM_GPE0_STS, PM_GPE0_BYTES, 1, 80, 92, 220 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++) {
		store_le32(t + blocks[i].at32, base + blocks[i].reg);
		t[blocks[i].at_len] = blocks[i].bytes;
		put_io_address(t + blocks[i].at_x, base + blocks[i].reg, blocks[i].bytes,
			       blocks[i].access);
	}
}

static void put_fadt(uint8_t *t, uint32_t dsdt)
{
	store_le32(t + 36, BOARD_FACS);
	store_le32(t + 40, dsdt);
	t[45] = 1; /* preferred profile: desktop */
	store_le16(t + 46, PM_SCI_IRQ);
	store_le32(t + 48, PM_APM_PORT);
	t[52] = PM_APM_ACPI_ENABLE;
	t[53] = PM_APM_ACPI_DISABLE;
	put_fadt_ports(t);
	store_le16(t + 96, FADT_NO_C2);
	store_le16(t + 98, FADT_NO_C2);
	t[108] = RTC_CMOS_CENTURY;
	store_le16(t + 109, FADT_BOOT_LEGACY | FADT_BOOT_8042 | FADT_BOOT_NO_VGA);
	store_le32(t + 112, FADT_WBINVD | FADT_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_RTC_WAKE |
				    FADT_RESET_REGISTER);
	put_io_address(t + 116, RESET_PORT, 1, 1);
	t[128] = RESET_VALUE;
	t[131] = FADT_MINOR;
	store_le64(t + 140, dsdt);
	acpi_header_finish(t, "FACP", FADT_REVISION, FADT_BYTES);
}

/* ---- MADT, MCFG ---- */

#define MADT_REVISION   5
#define MADT_HEAD_BYTES 44
#define MADT_CPU_BYTES  8
#define MADT_REST_BYTES (12 + 2 * 10 + 6) /* IOAPIC, overrides, NMI */
#define MADT_PIC_TOO    BIT(0)
#define MADT_LEVEL_HIGH 0x0d
#define MADT_ALL_CPUS   0xff
#define TIMER_GSI       2

static uint8_t *put_override(uint8_t *t, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	t[0] = 2;
	t[1] = 10;
	t[2] = 0; /* ISA */
	t[3] = irq;
	store_le32(t + 4, gsi);
	store_le16(t + 8, flags);
	return t + 10;
}

static void put_madt(uint8_t *t, unsigned cpus, uint32_t len)
{
	uint8_t *p = t + MADT_HEAD_BYTES;

	store_le32(t + 36, BOARD_LAPIC);
	store_le32(t + 40, MADT_PIC_TOO);
	for (unsigned i = 0; i < cpus; i++, p += MADT_CPU_BYTES) {
		p[0] = 0; /* local APIC; identifiers below 255 serve x2APIC as well */
		p[1] = MADT_CPU_BYTES;
		p[2] = (uint8_t)i;
		p[3] = (uint8_t)i;
		store_le32(p + 4, 1); /* enabled */
	}
	p[0] = 1; /* IOAPIC, its inputs from GSI 0 */
	p[1] = 12;
	store_le32(p + 4, BOARD_IOAPIC);
	p = put_override(p + 12, 0, TIMER_GSI, 0);
	p = put_override(p, PM_SCI_IRQ, PM_SCI_IRQ, MADT_LEVEL_HIGH);
	p[0] = 4; /* NMI at LINT1 of all processors */
	p[1] = 6;
	p[2] = MADT_ALL_CPUS;
	p[5] = 1;
	acpi_header_finish(t, "APIC", MADT_REVISION, len);
}

#define MCFG_BYTES 60

static void put_mcfg(uint8_t *t)
{
	store_le64(t + 44, BOARD_ECAM);
	t[55] = BOARD_PCI_BUSES - 1; /* the last one */
	acpi_header_finish(t, "MCFG", 1, MCFG_BYTES);
}

/* ---- XSDT, RSDP ---- */

static void put_rsdp(uint8_t *t, uint32_t xsdt)
{
	memset(t, 0, 36);
	memcpy(t, "RSD PTR ", 8);
	memcpy(t + 9, "LODGE ", 6);
	t[15] = 2;
	store_le32(t + 20, 36);
	store_le64(t + 24, xsdt);
	t[8] = checksum(t, 20);
	t[32] = checksum(t, 36);
}

static uint32_t put_xsdt(struct placer *p, const uint32_t *tables, unsigned count)
{
	uint32_t gpa, len = ACPI_HEADER_BYTES + 8 * count;
	uint8_t *t = place(p, len, &gpa);

	for (unsigned i = 0; i < count; i++) {
		store_le64(t + ACPI_HEADER_BYTES + 8 * i, tables[i]);
	}
	acpi_header_finish(t, "XSDT", 1, len);
	return gpa;
}

static uint32_t put_tables(struct placer *p, const struct board_layout *l)
{
	uint32_t dsdt, table[3], madt_len;

	p->used = 0;
	p->used = ALIGN_UP((uint32_t)acpi_build_dsdt(p->host, TABLES_BYTES, l), TABLE_ALIGN);
	dsdt = BOARD_ACPI;
	put_fadt(place(p, FADT_BYTES, &table[0]), dsdt);
	madt_len = MADT_HEAD_BYTES + l->cpus * MADT_CPU_BYTES + MADT_REST_BYTES;
	put_madt(place(p, madt_len, &table[1]), l->cpus, madt_len);
	put_mcfg(place(p, MCFG_BYTES, &table[2]));
	return put_xsdt(p, table, ARRAY_SIZE(table));
}

int acpi_place(struct mem *mem, const struct board_layout *l)
{
	struct placer p = { .host = mem_map(mem, BOARD_ACPI, TABLES_BYTES, true) };
	uint8_t *facs = mem_map(mem, BOARD_FACS, FACS_BYTES, true);
	uint8_t *rsdp = mem_map(mem, BOARD_RSDP, 36, true);

	if (!p.host || !facs || !rsdp) {
		return -EFAULT;
	}
	memset(p.host, 0, TABLES_BYTES);
	put_facs(facs);
	put_rsdp(rsdp, put_tables(&p, l));
	return 0;
}
