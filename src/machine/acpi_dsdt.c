/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The DSDT: the PCI root with its windows and interrupt routing, PIRQ links for
 * kernels without IOAPIC, ISA devices, processors, power-off.
 *
 * Interrupts: pin P of slot S goes to PIRQ (S + P) & 7 (pci.h). With an IOAPIC that
 * is GSI 16 + PIRQ, fixed; without, it is the link LNKA..LNKH, which the OS routes to
 * an ISA interrupt by the LPC bridge's registers. \_PIC tells which.
 */
#include <stdio.h>

#include "dev/char/serial.h"
#include "dev/chipset/fw_cfg.h"
#include "dev/chipset/i8042.h"
#include "dev/chipset/lpc.h"
#include "dev/chipset/pm.h"
#include "dev/chipset/rtc.h"
#include "dev/pci/pci.h"
#include "machine/acpi.h"
#include "machine/aml.h"

#define SLOTS       32
#define PINS        4
#define ROUTED_BITS 0x80 /* in a PIRQ register: not routed */
/* _STA: present, enabled, shown, working; a link that is off is not enabled. */
#define STA_ON      0x0f
#define STA_OFF     0x09
#define STA_LINK_ON 0x0b

static const uint32_t link_choices[] = { 5, 10, 11 };

static void link_name(char name[5], unsigned pirq)
{
	snprintf(name, 5, "LNK%c", 'A' + (int)(pirq % PCI_PIRQS));
}

static void register_name(char name[5], unsigned pirq)
{
	snprintf(name, 5, "PRQ%c", 'A' + (int)(pirq % PCI_PIRQS));
}

/* One entry of _PRT: { slot << 16 | any function, pin, link or 0, index or GSI }. */
static void put_route(struct aml *a, unsigned slot, unsigned pin, bool apic)
{
	unsigned pirq = pci_pirq((uint8_t)(slot << 3), pin);
	char link[5];

	aml_package_begin(a, 4);
	aml_int(a, slot << 16 | 0xffff);
	aml_int(a, pin);
	if (apic) {
		aml_int(a, 0);
		aml_int(a, PCI_GSI_FIRST + pirq);
	} else {
		link_name(link, pirq);
		aml_path(a, link);
		aml_int(a, 0);
	}
	aml_end(a);
}

static void put_routes(struct aml *a, const char *name, bool apic)
{
	aml_name(a, name);
	aml_package_begin(a, (SLOTS - 1) * PINS);
	for (unsigned slot = 1; slot < SLOTS; slot++) {
		for (unsigned pin = 0; pin < PINS; pin++) {
			put_route(a, slot, pin, apic);
		}
	}
	aml_end(a);
}

static void put_prt(struct aml *a)
{
	put_routes(a, "PRTP", false);
	put_routes(a, "PRTA", true);
	aml_method_begin(a, "_PRT", 0, false);
	aml_if_begin(a);
	aml_path(a, "\\PICM");
	aml_op(a, AML_RETURN);
	aml_path(a, "PRTA");
	aml_end(a);
	aml_op(a, AML_RETURN);
	aml_path(a, "PRTP");
	aml_end(a);
}

static void create_dword_field(struct aml *a, enum aml_op buffer, unsigned offset, const char *name)
{
	aml_op(a, AML_CREATE_DWORD_FIELD);
	aml_op(a, buffer);
	aml_int(a, offset);
	aml_path(a, name);
}

/* name = name <op> value */
static void put_update(struct aml *a, enum aml_op op, const char *name, uint64_t value)
{
	aml_op(a, op);
	aml_path(a, name);
	aml_int(a, value);
	aml_path(a, name);
}

/*
 * ACPI 6.2.11.3: the OS may control all PCIe features that it asks for; nothing of
 * ours competes. An unknown UUID or revision is said so.
 */
static void put_osc(struct aml *a)
{
	aml_method_begin(a, "_OSC", 4, true);
	create_dword_field(a, AML_ARG3, 0, "CDW1");
	aml_if_begin(a);
	aml_op(a, AML_LEQUAL);
	aml_op(a, AML_ARG0);
	aml_uuid(a, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	create_dword_field(a, AML_ARG3, 8, "CDW3");
	put_update(a, AML_AND, "CDW3", 0x1f);
	aml_if_begin(a);
	aml_op(a, AML_LNOT);
	aml_op(a, AML_LEQUAL);
	aml_op(a, AML_ARG1);
	aml_int(a, 1);
	put_update(a, AML_OR, "CDW1", 0x08); /* unknown revision */
	aml_end(a);
	aml_end(a);
	aml_else_begin(a);
	put_update(a, AML_OR, "CDW1", 0x04); /* unknown UUID */
	aml_end(a);
	aml_op(a, AML_RETURN);
	aml_op(a, AML_ARG3);
	aml_end(a);
}

static void put_root_windows(struct aml *a, const struct board_layout *l)
{
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_res_window_bus(a, 0, BOARD_PCI_BUSES - 1);
	aml_res_io(a, 0xcf8, 8);
	aml_res_window_io(a, 0x0000, 0x0cf7);
	aml_res_window_io(a, 0x0d00, 0xffff);
	aml_res_window_mem32(a, BOARD_VGA, 0xbffff);
	aml_res_window_mem32(a, BOARD_PCI32, BOARD_PCI32_END - 1);
	aml_res_window_mem64(a, l->pci64, l->pci64_end - 1);
	aml_end(a);
}

static void put_isa_device(struct aml *a, const char *name, const char *id)
{
	aml_device_begin(a, name);
	aml_name_eisa_id(a, "_HID", id);
	aml_name(a, "_CRS");
	aml_resources_begin(a);
}

static void end_isa_device(struct aml *a)
{
	aml_end(a);
	aml_end(a);
}

static void put_isa_devices(struct aml *a, const struct board_layout *l)
{
	put_isa_device(a, "RTC", "PNP0B00");
	aml_res_io(a, 0x70, 8);
	aml_res_irq(a, RTC_IRQ);
	end_isa_device(a);
	put_isa_device(a, "KBD", "PNP0303");
	aml_res_io(a, 0x60, 1);
	aml_res_io(a, 0x64, 1);
	aml_res_irq(a, I8042_KEYBOARD_IRQ);
	end_isa_device(a);
	put_isa_device(a, "MOU", "PNP0F13");
	aml_res_irq(a, I8042_MOUSE_IRQ);
	end_isa_device(a);
	if (l->has_com1) {
		put_isa_device(a, "COM1", "PNP0501");
		aml_res_io(a, SERIAL_COM1_PORT, 8);
		aml_res_irq(a, SERIAL_COM1_IRQ);
		aml_end(a);
		aml_name_int(a, "_UID", 1);
		aml_end(a);
	}
}

/* The LPC bridge, with its routing registers as fields and the devices behind it. */
static void put_lpc(struct aml *a, const struct board_layout *l)
{
	char name[5];

	aml_device_begin(a, "ISA");
	aml_name_int(a, "_ADR", (uint64_t)(LPC_DEVFN >> 3) << 16);
	aml_region(a, "PIRQ", AML_REGION_PCI_CONFIG, LPC_PIRQA_ROUT, 12);
	aml_field_begin(a, "PIRQ", AML_FIELD_BYTE_ACCESS);
	for (unsigned i = 0; i < PCI_PIRQS; i++) {
		if (i == 4) {
			aml_field_bits(a, NULL, 8 * (LPC_PIRQE_ROUT - LPC_PIRQA_ROUT - 4));
		}
		register_name(name, i);
		aml_field_bits(a, name, 8);
	}
	aml_end(a);
	put_isa_devices(a, l);
	aml_end(a);
}

static void put_link_crs(struct aml *a, const char *reg)
{
	const uint32_t none = 0;

	aml_method_begin(a, "_CRS", 0, true);
	aml_name(a, "BUF0");
	aml_resources_begin(a);
	aml_res_interrupts(a, &none, 1);
	aml_end(a);
	aml_op(a, AML_CREATE_DWORD_FIELD);
	aml_path(a, "BUF0");
	aml_int(a, 5); /* the number's place in the descriptor */
	aml_path(a, "IRQN");
	aml_op(a, AML_AND);
	aml_path(a, reg);
	aml_int(a, 0x0f);
	aml_path(a, "IRQN");
	aml_op(a, AML_RETURN);
	aml_path(a, "BUF0");
	aml_end(a);
}

static void put_link_sta(struct aml *a, const char *reg)
{
	aml_method_begin(a, "_STA", 0, false);
	aml_if_begin(a);
	aml_op(a, AML_AND);
	aml_path(a, reg);
	aml_int(a, ROUTED_BITS);
	aml_op(a, AML_ZERO); /* no target */
	aml_op(a, AML_RETURN);
	aml_int(a, STA_OFF);
	aml_end(a);
	aml_op(a, AML_RETURN);
	aml_int(a, STA_LINK_ON);
	aml_end(a);
}

static void put_link(struct aml *a, unsigned pirq)
{
	char name[5], reg[32];

	link_name(name, pirq);
	snprintf(reg, sizeof(reg), "\\_SB.PCI0.ISA.PRQ%c", 'A' + (int)pirq);
	aml_device_begin(a, name);
	aml_name_eisa_id(a, "_HID", "PNP0C0F");
	aml_name_int(a, "_UID", pirq);
	aml_name(a, "_PRS");
	aml_resources_begin(a);
	aml_res_interrupts(a, link_choices, ARRAY_SIZE(link_choices));
	aml_end(a);
	put_link_sta(a, reg);
	put_link_crs(a, reg);
	aml_method_begin(a, "_DIS", 0, false);
	put_update(a, AML_OR, reg, ROUTED_BITS);
	aml_end(a);
	aml_method_begin(a, "_SRS", 1, true);
	create_dword_field(a, AML_ARG0, 5, "IRQN");
	aml_op(a, AML_STORE);
	aml_path(a, "IRQN");
	aml_path(a, reg);
	aml_end(a);
	aml_end(a);
}

static void put_pci(struct aml *a, const struct board_layout *l)
{
	aml_device_begin(a, "PCI0");
	aml_name_eisa_id(a, "_HID", "PNP0A08");
	aml_name_eisa_id(a, "_CID", "PNP0A03");
	aml_name_int(a, "_UID", 0);
	aml_name_int(a, "_BBN", 0);
	put_root_windows(a, l);
	put_osc(a);
	put_prt(a);
	put_lpc(a, l);
	aml_end(a);
	for (unsigned i = 0; i < PCI_PIRQS; i++) {
		put_link(a, i);
	}
}

/* What no driver claims but nobody else may use: ECAM, the PM block, single ports. */
static void put_motherboard(struct aml *a)
{
	aml_device_begin(a, "MBRD");
	aml_name_eisa_id(a, "_HID", "PNP0C02");
	aml_name_int(a, "_UID", 0);
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_res_memory_fixed(a, BOARD_ECAM, BOARD_ECAM_BYTES);
	aml_res_io(a, LPC_PMBASE, PM_PORTS);
	aml_res_io(a, PM_APM_PORT, 2);
	aml_res_io(a, 0x92, 1);
	aml_end(a);
	aml_end(a);
	aml_device_begin(a, "FWCF");
	aml_name_string(a, "_HID", "QEMU0002");
	aml_name_int(a, "_STA", STA_ON & ~0x04); /* not shown to users */
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_res_io(a, FW_CFG_PORT, FW_CFG_PORTS);
	aml_end(a);
	aml_end(a);
}

static void put_cpus(struct aml *a, const struct board_layout *l)
{
	char name[8];

	for (unsigned i = 0; i < l->cpus; i++) {
		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		aml_device_begin(a, name);
		aml_name_string(a, "_HID", "ACPI0007");
		aml_name_int(a, "_UID", i);
		aml_end(a);
	}
}

/* \_S5 is the only sleeping state; \_PIC remembers which interrupt model the OS uses. */
static void put_root(struct aml *a)
{
	aml_name_int(a, "PICM", 0);
	aml_method_begin(a, "_PIC", 1, false);
	aml_op(a, AML_STORE);
	aml_op(a, AML_ARG0);
	aml_path(a, "PICM");
	aml_end(a);
	aml_name(a, "_S5");
	aml_package_begin(a, 4);
	aml_int(a, PM_SLP_TYP_S5);
	aml_int(a, PM_SLP_TYP_S5);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_end(a);
}

size_t acpi_build_dsdt(void *buf, size_t size, const struct board_layout *l)
{
	struct aml a;

	aml_init(&a, buf, size);
	a.len = ACPI_HEADER_BYTES;
	put_root(&a);
	aml_scope_begin(&a, "\\_SB");
	put_pci(&a, l);
	put_motherboard(&a);
	put_cpus(&a, l);
	aml_end(&a);
	acpi_header_finish(buf, "DSDT", 2, (uint32_t)a.len);
	return a.len;
}
