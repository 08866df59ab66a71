/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PCI transport (virtio 1.2 4.1): capabilities, the common configuration
 * registers, ISR, notify area, and the device's configuration, all in BAR 4;
 * MSI-X in BAR 1. Registers are rows of a table.
 *
 * Interrupts go through pci_msix_notify(): one system call, as an irqfd's
 * write would be, and masked vectors need no second path. Eventfds are for those
 * who cannot call us.
 */
#include "dev/virtio/virtio_int.h"

#include <assert.h>

#include "base/guest_log.h"

#define BAR_MSIX          1
#define BAR_VIRTIO        4
#define BAR_VIRTIO_BYTES  0x4000
#define MSIX_BYTES        0x1000
#define COMMON_OFFSET     0x0000
#define COMMON_BYTES      0x3c
#define ISR_OFFSET        0x1000
#define DEVICE_OFFSET     0x2000
#define NOTIFY_OFFSET     0x3000
#define AREA_BYTES        0x1000
#define NOTIFY_MULTIPLIER 4 /* each queue has its own address, so its own ioeventfd */

/* Capability: vendor, next, len, type, bar, 3 bytes, offset, length (4.1.4). */
#define CAP_VENDOR      0x09
#define CAP_BYTES       16
#define CAP_LEN         2
#define CAP_TYPE        3
#define CAP_BAR         4
#define CAP_OFFSET      8
#define CAP_LENGTH      12
#define CAP_NOTIFY_MULT 16 /* of the notify capability */
#define CAP_PCI_DATA    16 /* of the configuration access capability */

enum cap_type { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_PCI_CFG };

/* --- common configuration (4.1.4.3) -------------------------------------------------- */

enum common_reg {
	REG_DEVICE_FEATURE_SELECT,
	REG_DEVICE_FEATURE,
	REG_DRIVER_FEATURE_SELECT,
	REG_DRIVER_FEATURE,
	REG_CONFIG_VECTOR,
	REG_NUM_QUEUES,
	REG_STATUS,
	REG_GENERATION,
	REG_QUEUE_SELECT,
	REG_QUEUE_SIZE,
	REG_QUEUE_VECTOR,
	REG_QUEUE_ENABLE,
	REG_QUEUE_NOTIFY_OFF,
	REG_QUEUE_DESC,
	REG_QUEUE_DRIVER,
	REG_QUEUE_DEVICE,
	REG_QUEUE_NOTIFY_DATA,
	REG_QUEUE_RESET,
	REG_COUNT
};

static const struct {
	uint8_t offset, size;
} regs[] = {
	[REG_DEVICE_FEATURE_SELECT] = { 0x00, 4 },
	[REG_DEVICE_FEATURE] = { 0x04, 4 },
	[REG_DRIVER_FEATURE_SELECT] = { 0x08, 4 },
	[REG_DRIVER_FEATURE] = { 0x0c, 4 },
	[REG_CONFIG_VECTOR] = { 0x10, 2 },
	[REG_NUM_QUEUES] = { 0x12, 2 },
	[REG_STATUS] = { 0x14, 1 },
	[REG_GENERATION] = { 0x15, 1 },
	[REG_QUEUE_SELECT] = { 0x16, 2 },
	[REG_QUEUE_SIZE] = { 0x18, 2 },
	[REG_QUEUE_VECTOR] = { 0x1a, 2 },
	[REG_QUEUE_ENABLE] = { 0x1c, 2 },
	[REG_QUEUE_NOTIFY_OFF] = { 0x1e, 2 },
	[REG_QUEUE_DESC] = { 0x20, 8 },
	[REG_QUEUE_DRIVER] = { 0x28, 8 },
	[REG_QUEUE_DEVICE] = { 0x30, 8 },
	[REG_QUEUE_NOTIFY_DATA] = { 0x38, 2 },
	[REG_QUEUE_RESET] = { 0x3a, 2 },
};
static_assert(ARRAY_SIZE(regs) == REG_COUNT, "one row a register");

static struct virtio_dev *from_dev(struct dev *d)
{
	return container_of(d, struct virtio_dev, pci.dev);
}

/* The register that holds byte `offset`; REG_COUNT: none. */
static enum common_reg reg_find(uint64_t offset)
{
	for (unsigned i = 0; i < REG_COUNT; i++) {
		if (offset >= regs[i].offset && offset < regs[i].offset + regs[i].size) {
			return i;
		}
	}
	return REG_COUNT;
}

static uint32_t feature_word(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

/* The registers of a queue that is not there read as 0 (4.1.4.3.1). */
static uint64_t queue_reg_read(struct virtio_dev *v, enum common_reg reg)
{
	const struct virtio_queue *q;

	if (v->queue_select >= v->queue_count) {
		return 0;
	}
	q = &v->queues[v->queue_select];
	switch (reg) {
	case REG_QUEUE_SIZE:
		return q->vq.size;
	case REG_QUEUE_VECTOR:
		return q->vq.vector;
	case REG_QUEUE_ENABLE:
		return q->vq.enabled && !q->resetting;
	case REG_QUEUE_NOTIFY_OFF:
	case REG_QUEUE_NOTIFY_DATA:
		return v->queue_select;
	case REG_QUEUE_DESC:
		return q->vq.desc_gpa;
	case REG_QUEUE_DRIVER:
		return q->vq.driver_gpa;
	case REG_QUEUE_DEVICE:
		return q->vq.device_gpa;
	case REG_QUEUE_RESET:
		return q->resetting;
	default:
		return 0;
	}
}

static uint64_t reg_read(struct virtio_dev *v, enum common_reg reg)
{
	switch (reg) {
	case REG_DEVICE_FEATURE_SELECT:
		return v->feature_select;
	case REG_DEVICE_FEATURE:
		return feature_word(v->offered, v->feature_select);
	case REG_DRIVER_FEATURE_SELECT:
		return v->driver_feature_select;
	case REG_DRIVER_FEATURE:
		return feature_word(v->features, v->driver_feature_select);
	case REG_CONFIG_VECTOR:
		return v->config_vector;
	case REG_NUM_QUEUES:
		return v->queue_count;
	case REG_STATUS:
		return v->status;
	case REG_GENERATION:
		return v->generation;
	case REG_QUEUE_SELECT:
		return v->queue_select;
	default:
		return queue_reg_read(v, reg);
	}
}

static void driver_feature_write(struct virtio_dev *v, uint32_t value)
{
	unsigned shift = v->driver_feature_select * 32;

	if (v->driver_feature_select > 1 || (v->status & VIRTIO_FEATURES_OK)) {
		return;
	}
	v->features &= ~((uint64_t)UINT32_MAX << shift);
	v->features |= (uint64_t)value << shift;
}

/* A vector that is not there is refused by reading back as NO_VECTOR (4.1.5.1.2.1). */
static uint16_t vector_checked(const struct virtio_dev *v, uint64_t value)
{
	return value <= v->queue_count ? (uint16_t)value : VIRTIO_NO_VECTOR;
}

/* Store the half (or byte) of a 64-bit address that was written. */
static void address_write(uint64_t *address, unsigned at, uint64_t value, unsigned size)
{
	uint64_t mask = (size == 8 ? UINT64_MAX : (BIT64(size * 8) - 1)) << (at * 8);

	*address = (*address & ~mask) | ((value << (at * 8)) & mask);
}

static void queue_reg_write(struct virtio_dev *v, enum common_reg reg, unsigned at, uint64_t value,
			    unsigned size)
{
	struct virtio_queue *q;

	if (v->queue_select >= v->queue_count) {
		return;
	}
	q = &v->queues[v->queue_select];
	if (reg == REG_QUEUE_VECTOR) {
		q->vq.vector = vector_checked(v, value);
	} else if (reg == REG_QUEUE_RESET && value == 1) {
		virtio_queue_reset(v, q);
	} else if (q->vq.enabled) {
		return; /* the rest MUST NOT change while the queue is enabled */
	} else if (reg == REG_QUEUE_SIZE) {
		q->vq.size = (uint16_t)value;
	} else if (reg == REG_QUEUE_ENABLE && value == 1) {
		virtio_queue_enable(v, q);
	} else if (reg == REG_QUEUE_DESC) {
		address_write(&q->vq.desc_gpa, at, value, size);
	} else if (reg == REG_QUEUE_DRIVER) {
		address_write(&q->vq.driver_gpa, at, value, size);
	} else if (reg == REG_QUEUE_DEVICE) {
		address_write(&q->vq.device_gpa, at, value, size);
	}
}

static void reg_write(struct virtio_dev *v, enum common_reg reg, unsigned at, uint64_t value,
		      unsigned size)
{
	switch (reg) {
	case REG_DEVICE_FEATURE_SELECT:
		v->feature_select = (uint32_t)value;
		break;
	case REG_DRIVER_FEATURE_SELECT:
		v->driver_feature_select = (uint32_t)value;
		break;
	case REG_DRIVER_FEATURE:
		driver_feature_write(v, (uint32_t)value);
		break;
	case REG_CONFIG_VECTOR:
		v->config_vector = vector_checked(v, value);
		break;
	case REG_STATUS:
		virtio_status_write(v, (uint8_t)value);
		break;
	case REG_QUEUE_SELECT:
		v->queue_select = (uint16_t)value;
		break;
	default:
		queue_reg_write(v, reg, at, value, size);
	}
}

static uint64_t common_read(struct virtio_dev *v, uint64_t offset, unsigned size)
{
	enum common_reg reg = reg_find(offset);

	if (reg == REG_COUNT) {
		return 0;
	}
	return reg_read(v, reg) >> (8 * (offset - regs[reg].offset));
}

static void common_write(struct virtio_dev *v, uint64_t offset, uint64_t value, unsigned size)
{
	enum common_reg reg = reg_find(offset);
	unsigned at;

	if (reg == REG_COUNT || v->resetting) {
		return;
	}
	at = (unsigned)(offset - regs[reg].offset);
	/* Only 64-bit registers may be written in parts (4.1.3.1). */
	if (at + size > regs[reg].size || (size != regs[reg].size && regs[reg].size != 8)) {
		guest_log("%s: %u-byte write to common configuration offset %u refused",
			  v->pci.dev.name, size, (unsigned)offset);
		return;
	}
	reg_write(v, reg, at, value, size);
}

/* --- the other areas --------------------------------------------------------------------- */

static uint64_t isr_read(struct virtio_dev *v)
{
	uint8_t isr = v->isr;

	v->isr = 0;
	pci_intx_set(&v->pci, false);
	return isr;
}

static uint64_t config_read(struct virtio_dev *v, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	if (offset < v->config_bytes) {
		memcpy(&value, v->config + offset, MIN(size, v->config_bytes - offset));
	}
	return value;
}

static uint64_t area_read(struct virtio_dev *v, uint64_t offset, unsigned size)
{
	uint64_t at = offset % AREA_BYTES;

	switch (offset - at) {
	case COMMON_OFFSET:
		return common_read(v, at, size);
	case ISR_OFFSET:
		return at == 0 ? isr_read(v) : 0;
	case DEVICE_OFFSET:
		return config_read(v, at, size);
	default:
		return 0;
	}
}

static void area_write(struct virtio_dev *v, uint64_t offset, uint64_t value, unsigned size)
{
	uint64_t at = offset % AREA_BYTES;

	switch (offset - at) {
	case COMMON_OFFSET:
		common_write(v, at, value, size);
		break;
	case DEVICE_OFFSET:
		if (v->cls->config_write && range_within(at, size, v->config_bytes)) {
			v->cls->config_write(v, (unsigned)at, (uint32_t)value, size);
		}
		break;
	case NOTIFY_OFFSET:
		if (at / NOTIFY_MULTIPLIER < v->queue_count) {
			virtio_again(v, virtio_vq(v, (unsigned)(at / NOTIFY_MULTIPLIER)));
		}
		break;
	}
}

uint64_t virtio_pci_read(struct dev *d, unsigned window, uint64_t offset, unsigned size)
{
	return window == BAR_VIRTIO ? area_read(from_dev(d), offset, size) : UINT64_MAX;
}

void virtio_pci_write(struct dev *d, unsigned window, uint64_t offset, uint64_t value,
		      unsigned size)
{
	if (window == BAR_VIRTIO) {
		area_write(from_dev(d), offset, value, size);
	}
}

/* --- configuration space: access capability, BAR moves --------------------------------- */

/* What the configuration access capability points at now (4.1.4.9); false: nothing valid. */
static bool pci_cfg_target(const struct virtio_dev *v, uint32_t *ret_offset, uint32_t *ret_len)
{
	const uint8_t *cap = v->pci.config + v->pci_cfg_cap;
	uint32_t offset = load_le32(cap + CAP_OFFSET), len = load_le32(cap + CAP_LENGTH);

	if (cap[CAP_BAR] != BAR_VIRTIO || (len != 1 && len != 2 && len != 4) || offset % len ||
	    !range_within(offset, len, BAR_VIRTIO_BYTES)) {
		return false;
	}
	*ret_offset = offset;
	*ret_len = len;
	return true;
}

static bool touches_pci_data(const struct virtio_dev *v, unsigned reg, unsigned len)
{
	unsigned data = v->pci_cfg_cap + CAP_PCI_DATA;

	/* Longer than any access: the call after a reset. */
	return v->pci_cfg_cap && len <= 4 && reg < data + 4 && reg + len > data;
}

void virtio_pci_config_reading(struct pci_dev *p, unsigned reg, unsigned len)
{
	struct virtio_dev *v = container_of(p, struct virtio_dev, pci);
	uint32_t offset, size;

	if (touches_pci_data(v, reg, len) && pci_cfg_target(v, &offset, &size)) {
		uint64_t value = area_read(v, offset, size);

		memcpy(p->config + v->pci_cfg_cap + CAP_PCI_DATA, &value, size);
	}
}

void virtio_pci_config_written(struct pci_dev *p, unsigned reg, unsigned len)
{
	struct virtio_dev *v = container_of(p, struct virtio_dev, pci);
	uint32_t offset, size;

	if (touches_pci_data(v, reg, len) && pci_cfg_target(v, &offset, &size)) {
		uint64_t value = 0;

		memcpy(&value, p->config + v->pci_cfg_cap + CAP_PCI_DATA, size);
		area_write(v, offset, value, size);
	}
	if (reg < 0x28) { /* command or a BAR */
		virtio_pci_ioeventfds(v);
		virtio_dma_changed(v);
	}
}

static void ioeventfds_clear(struct virtio_dev *v)
{
	struct dev_env *env = v->pci.dev.env;

	if (v->ioeventfd_base == VIRTIO_NO_BASE) {
		return;
	}
	for (unsigned i = 0; i < v->queue_count; i++) {
		env->impl->ioeventfd_del(env->opaque, DEV_MMIO,
					 v->ioeventfd_base + i * NOTIFY_MULTIPLIER, 0, NULL,
					 v->queues[i].kick_fd);
	}
	v->ioeventfd_base = VIRTIO_NO_BASE;
}

static void ioeventfds_set(struct virtio_dev *v, uint64_t base)
{
	struct dev_env *env = v->pci.dev.env;

	for (unsigned i = 0; i < v->queue_count; i++) {
		int r = env->impl->ioeventfd_add(env->opaque, DEV_MMIO,
						 base + i * NOTIFY_MULTIPLIER, 0, NULL,
						 v->queues[i].kick_fd);
		if (r < 0) {
			while (i--) {
				env->impl->ioeventfd_del(env->opaque, DEV_MMIO,
							 base + i * NOTIFY_MULTIPLIER, 0, NULL,
							 v->queues[i].kick_fd);
			}
			return; /* kicks come by area_write() */
		}
	}
	v->ioeventfd_base = base;
}

/* Have the kicks' ioeventfds where the notify area is now; none while no driver runs. */
void virtio_pci_ioeventfds(struct virtio_dev *v)
{
	uint64_t bar = pci_bar_address(&v->pci, BAR_VIRTIO);
	uint64_t base = bar == UINT64_MAX ? VIRTIO_NO_BASE : bar + NOTIFY_OFFSET;

	if (!v->pci.dev.env->impl->ioeventfd_add) {
		return;
	}
	if (!(v->status & VIRTIO_DRIVER_OK) && base != v->ioeventfd_base) {
		base = VIRTIO_NO_BASE;
	}
	if (base == v->ioeventfd_base) {
		return;
	}
	ioeventfds_clear(v);
	if (base != VIRTIO_NO_BASE) {
		ioeventfds_set(v, base);
	}
}

void virtio_pci_interrupt(struct virtio_dev *v, uint16_t vector, uint8_t isr_bit)
{
	if (pci_msix_enabled(&v->pci)) {
		if (vector != VIRTIO_NO_VECTOR) {
			pci_msix_notify(&v->pci, vector);
		}
		return;
	}
	v->isr |= isr_bit;
	pci_intx_set(&v->pci, true);
}

static int cap_add(struct virtio_dev *v, enum cap_type type, uint32_t offset, uint32_t length,
		   unsigned extra)
{
	int at = pci_cap_add(&v->pci, CAP_VENDOR, CAP_BYTES + extra);
	uint8_t *cap;

	if (at < 0) {
		return at;
	}
	cap = v->pci.config + at;
	cap[CAP_LEN] = (uint8_t)(CAP_BYTES + extra);
	cap[CAP_TYPE] = (uint8_t)type;
	cap[CAP_BAR] = type == CAP_PCI_CFG ? 0 : BAR_VIRTIO;
	store_le32(cap + CAP_OFFSET, offset);
	store_le32(cap + CAP_LENGTH, length);
	return at;
}

static int caps_add(struct virtio_dev *v)
{
	int r = cap_add(v, CAP_COMMON, COMMON_OFFSET, COMMON_BYTES, 0);

	if (r >= 0) {
		r = cap_add(v, CAP_ISR, ISR_OFFSET, AREA_BYTES, 0);
	}
	if (r >= 0) {
		r = cap_add(v, CAP_DEVICE, DEVICE_OFFSET, AREA_BYTES, 0);
	}
	if (r >= 0) {
		r = cap_add(v, CAP_NOTIFY, NOTIFY_OFFSET, AREA_BYTES, 4);
	}
	if (r >= 0) {
		store_le32(v->pci.config + r + CAP_NOTIFY_MULT, NOTIFY_MULTIPLIER);
		r = cap_add(v, CAP_PCI_CFG, 0, 0, 4);
	}
	if (r < 0) {
		return r;
	}
	v->pci_cfg_cap = (unsigned)r;
	pci_config_writable(&v->pci, v->pci_cfg_cap + CAP_BAR, 1, 0xff);
	for (unsigned reg = CAP_OFFSET; reg <= CAP_PCI_DATA; reg += 4) {
		pci_config_writable(&v->pci, v->pci_cfg_cap + reg, 4, UINT32_MAX);
	}
	return 0;
}

int virtio_pci_setup(struct virtio_dev *v)
{
	int r = pci_bar_add(&v->pci, BAR_MSIX, PCI_BAR_MEM32, MSIX_BYTES, 4, 8);

	pci_intx_init(&v->pci, 0);
	if (!r) {
		r = pci_bar_add(&v->pci, BAR_VIRTIO, PCI_BAR_MEM64_PREFETCH, BAR_VIRTIO_BYTES, 1,
				4);
	}
	if (!r) {
		r = pci_msix_init(&v->pci, v->queue_count + 1, BAR_MSIX, 0);
	}
	return r ? r : caps_add(v);
}
