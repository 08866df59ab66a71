/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM's interrupt controllers as a whole: life, ioctls, and the bus.
 */
#include <stdlib.h>

#include "softkvm/api/api.h"
#include "softkvm/api/uaccess.h"
#include "softkvm/irqchip/irqchip_int.h"
#include "softkvm/mmu/coalesced.h"

int irqchip_init(struct vm *vm)
{
	struct irqchip *chip = calloc(1, sizeof(*chip));

	if (!chip) {
		return -ENOMEM;
	}
	pthread_mutex_init(&chip->lock, NULL);
	vm->irqchip = chip;
	pic_init(&chip->pic, vm);
	ioapic_init(&chip->ioapic, vm);
	return service_init(vm);
}

void irqchip_release_eventfds(struct vm *vm)
{
	irqfd_release_all(vm);
}

void irqchip_done(struct vm *vm)
{
	struct irqchip *chip = vm->irqchip;

	service_stop(vm);
	irqfd_release_all(vm);
	iobus_release(vm);
	free(atomic_load(&chip->pit));
	routing_free(chip->routing);
	pthread_mutex_destroy(&chip->lock);
	free(chip);
	vm->irqchip = NULL;
}

/* --- modes ---------------------------------------------------------------------------- */
bool irqchip_in_kernel(const struct vm *vm)
{
	return atomic_load_explicit(&vm->irqchip->mode, memory_order_relaxed) != IRQCHIP_NONE;
}

bool irqchip_full(const struct vm *vm)
{
	return atomic_load_explicit(&vm->irqchip->mode, memory_order_relaxed) == IRQCHIP_FULL;
}

static int create(struct vm *vm, enum irqchip_mode mode)
{
	struct irqchip *chip = vm->irqchip;

	if (irqchip_in_kernel(vm)) {
		return -EEXIST;
	}
	if (vm->vcpu_count != 0) {
		return mode == IRQCHIP_FULL ? -EINVAL : -EEXIST; /* as the kernel's KVM answers */
	}
	chip->routing = routing_new_default(mode == IRQCHIP_SPLIT);
	if (!chip->routing) {
		return -ENOMEM;
	}
	atomic_store(&chip->mode, mode);
	return 0;
}

int irqchip_create(struct vm *vm)
{
	return create(vm, IRQCHIP_FULL);
}

int irqchip_create_split(struct vm *vm, unsigned ioapic_routes)
{
	int r = create(vm, IRQCHIP_SPLIT);

	if (r == 0) {
		vm->irqchip->split_routes = ioapic_routes;
	}
	return r;
}

/* --- ioctls on the VM --------------------------------------------------------------------- */
static int irq_line(struct vm *vm, void *arg)
{
	struct kvm_irq_level *in = arg;
	struct irqchip *chip = vm->irqchip;
	int r;

	if (!irqchip_in_kernel(vm)) {
		return -ENXIO;
	}
	pthread_mutex_lock(&chip->lock);
	r = gsi_set_locked(vm, in->irq, SOURCE_USER, in->level != 0);
	pthread_mutex_unlock(&chip->lock);
	in->status = r;
	return 0;
}

static int signal_msi(struct vm *vm, void *arg)
{
	const struct kvm_msi *in = arg;
	struct irq_msg m;

	if (!irqchip_in_kernel(vm) || in->flags != 0 ||
	    (vm->cap.x2apic_32bit_ids && (in->address_hi & 0xff))) {
		return -EINVAL;
	}
	msg_from_msi(vm, in->address_lo | (uint64_t)in->address_hi << 32, in->data, &m);
	return msg_deliver(vm, &m);
}

static int get_irqchip(struct vm *vm, void *arg)
{
	struct kvm_irqchip *s = arg;
	struct irqchip *chip = vm->irqchip;
	int r = 0;

	if (!irqchip_full(vm)) {
		return -ENXIO;
	}
	pthread_mutex_lock(&chip->lock);
	switch (s->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		memcpy(&s->chip.pic, &chip->pic.half[s->chip_id], sizeof(s->chip.pic));
		break;
	case KVM_IRQCHIP_IOAPIC:
		ioapic_get_locked(&chip->ioapic, &s->chip.ioapic);
		break;
	default:
		r = -EINVAL;
		break;
	}
	pthread_mutex_unlock(&chip->lock);
	return r;
}

static int set_irqchip(struct vm *vm, void *arg)
{
	const struct kvm_irqchip *s = arg;
	struct irqchip *chip = vm->irqchip;
	int r = 0;

	if (!irqchip_full(vm)) {
		return -ENXIO;
	}
	pthread_mutex_lock(&chip->lock);
	switch (s->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		memcpy(&chip->pic.half[s->chip_id], &s->chip.pic, sizeof(s->chip.pic));
		pic_update_locked(&chip->pic);
		break;
	case KVM_IRQCHIP_IOAPIC:
		ioapic_set_locked(&chip->ioapic, &s->chip.ioapic);
		break;
	default:
		r = -EINVAL;
		break;
	}
	pthread_mutex_unlock(&chip->lock);
	return r;
}

static int create_pit(struct vm *vm, uint32_t flags)
{
	struct irqchip *chip = vm->irqchip;
	struct pit *pit;

	if (atomic_load(&chip->pit)) {
		return -EEXIST;
	}
	pit = pit_new(vm, flags);
	if (!pit) {
		return -ENOMEM;
	}
	atomic_store(&chip->pit, pit);
	pthread_mutex_lock(&chip->lock);
	ioapic_scan_locked(&chip->ioapic);
	pthread_mutex_unlock(&chip->lock);
	return 0;
}

/* Call `fn` with the chips' lock held. */
static int with_pit(struct vm *vm, void (*fn)(struct pit *pit, void *arg), void *arg)
{
	struct irqchip *chip = vm->irqchip;
	struct pit *pit = atomic_load(&chip->pit);

	if (!pit) {
		return -ENXIO;
	}
	pthread_mutex_lock(&chip->lock);
	fn(pit, arg);
	pthread_mutex_unlock(&chip->lock);
	return 0;
}

static void get_state_locked(struct pit *pit, void *arg)
{
	pit_get_locked(pit, arg);
}

static void set_state_locked(struct pit *pit, void *arg)
{
	pit_set_locked(pit, arg);
}

static void set_reinject_locked(struct pit *pit, void *arg)
{
	const struct kvm_reinject_control *in = arg;

	pit->reinject = in->pit_reinject != 0;
	pit_unmasked_locked(pit);
}

static int get_pit(struct vm *vm, void *arg)
{
	return with_pit(vm, get_state_locked, arg);
}

static int set_pit(struct vm *vm, void *arg)
{
	return with_pit(vm, set_state_locked, arg);
}

/* The old structure has the channels without the flags. */
static int set_pit_old(struct vm *vm, void *arg)
{
	struct kvm_pit_state2 s;
	int r = get_pit(vm, &s);

	memcpy(s.channels, arg, sizeof(s.channels));
	return r != 0 ? r : set_pit(vm, &s);
}

static int get_pit_old(struct vm *vm, void *arg)
{
	struct kvm_pit_state2 s;
	int r = get_pit(vm, &s);

	if (r == 0) {
		memcpy(arg, s.channels, sizeof(s.channels));
	}
	return r;
}

static int reinject_control(struct vm *vm, void *arg)
{
	return with_pit(vm, set_reinject_locked, arg);
}

/* Level-triggered MSIs of the reserved routes are user space's IOAPIC: it wants their EOIs. */
static void scan_split_locked(struct vm *vm)
{
	struct irqchip *chip = vm->irqchip;
	uint64_t handled[4] = { 0 };

	for (unsigned i = 0; i < chip->routing->count; i++) {
		const struct route *r = &chip->routing->routes[i];
		uint8_t vector = (uint8_t)r->msi_data;

		if (r->type == KVM_IRQ_ROUTING_MSI && r->gsi < chip->split_routes &&
		    (r->msi_data & BIT(15))) {
			handled[vector / 64] |= BIT64(vector % 64);
		}
	}
	for (unsigned i = 0; i < ARRAY_SIZE(handled); i++) {
		atomic_store(&chip->split_handled[i], handled[i]);
	}
}

static void install_routing(struct vm *vm, struct routing *routing)
{
	struct irqchip *chip = vm->irqchip;
	struct routing *old;

	pthread_mutex_lock(&chip->lock);
	old = chip->routing;
	chip->routing = routing;
	ioapic_scan_locked(&chip->ioapic);
	scan_split_locked(vm);
	pthread_mutex_unlock(&chip->lock);
	routing_free(old);
}

static int set_gsi_routing(struct vm *vm, uint64_t user)
{
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry *entries;
	struct routing *routing;
	int r = user_read(&head, user, sizeof(head));

	if (r != 0) {
		return r;
	}
	if (!irqchip_in_kernel(vm) || head.nr > GSI_MAX || head.flags != 0) {
		return -EINVAL;
	}
	entries = calloc(head.nr + 1, sizeof(*entries));
	if (!entries) {
		return -ENOMEM;
	}
	r = user_read(entries, user + sizeof(head), head.nr * sizeof(*entries));
	if (r == 0) {
		r = routing_new(vm, entries, head.nr, &routing);
	}
	free(entries);
	if (r == 0) {
		install_routing(vm, routing);
	}
	return r;
}

static int register_coalesced(struct vm *vm, void *arg)
{
	return coalesced_register(vm, arg);
}

static int unregister_coalesced(struct vm *vm, void *arg)
{
	return coalesced_unregister(vm, arg);
}

static int irqfd(struct vm *vm, void *arg)
{
	return irqfd_ioctl(vm, arg);
}

static int ioeventfd(struct vm *vm, void *arg)
{
	return ioeventfd_ioctl(vm, arg);
}

static int create_pit2(struct vm *vm, void *arg)
{
	const struct kvm_pit_config *in = arg;

	return create_pit(vm, in->flags);
}

/* Those with a structure: which way it goes is not always what the number says. */
static const struct {
	uint32_t request;
	bool in, out;
	int (*fn)(struct vm *vm, void *arg);
} rows[] = {
	{ KVM_IRQ_LINE, true, false, irq_line },
	{ KVM_IRQ_LINE_STATUS, true, true, irq_line },
	{ KVM_SIGNAL_MSI, true, false, signal_msi },
	{ KVM_GET_IRQCHIP, true, true, get_irqchip },
	{ KVM_SET_IRQCHIP, true, false, set_irqchip },
	{ KVM_CREATE_PIT2, true, false, create_pit2 },
	{ KVM_GET_PIT, true, true, get_pit_old },
	{ KVM_SET_PIT, true, false, set_pit_old },
	{ KVM_GET_PIT2, false, true, get_pit },
	{ KVM_SET_PIT2, true, false, set_pit },
	{ KVM_REINJECT_CONTROL, true, false, reinject_control },
	{ KVM_IRQFD, true, false, irqfd },
	{ KVM_IOEVENTFD, true, false, ioeventfd },
	{ KVM_REGISTER_COALESCED_MMIO, true, false, register_coalesced },
	{ KVM_UNREGISTER_COALESCED_MMIO, true, false, unregister_coalesced },
};
#define ARG_MAX_BYTES 1024

/* KVM_REINJECT_CONTROL's number has no size. */
static size_t arg_size(uint32_t request)
{
	return request == KVM_REINJECT_CONTROL ? sizeof(struct kvm_reinject_control)
					       : _IOC_SIZE(request);
}

static int call_row(struct vm *vm, unsigned i, uint64_t user)
{
	uint8_t buf[ARG_MAX_BYTES] __attribute__((aligned(16)));
	size_t size = arg_size(rows[i].request);
	int r = 0;

	memset(buf, 0, sizeof(buf));
	if (rows[i].in) {
		r = user_read(buf, user, size);
	}
	if (r == 0) {
		r = rows[i].fn(vm, buf);
	}
	if (r >= 0 && rows[i].out && user_write(user, buf, size) != 0) {
		r = -EFAULT;
	}
	return r;
}

int irqchip_vm_ioctl(struct vm *vm, unsigned long request, unsigned long arg)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].request == (uint32_t)request) {
			return call_row(vm, i, arg);
		}
	}
	switch ((uint32_t)request) {
	case KVM_CREATE_IRQCHIP:
		return irqchip_create(vm);
	case KVM_CREATE_PIT:
		return create_pit(vm, KVM_PIT_SPEAKER_DUMMY);
	case KVM_SET_GSI_ROUTING:
		return set_gsi_routing(vm, arg);
	default:
		return -ENOTTY;
	}
}

/* --- the bus --------------------------------------------------------------------------------- */
bool irqchip_mmio_read(struct vcpu *cpu, gpa_t gpa, void *buf, unsigned len)
{
	struct irqchip *chip = cpu->vm->irqchip;

	if (lapic_mmio_read(cpu, gpa, buf, len)) {
		return true;
	}
	if (!irqchip_full(cpu->vm) || gpa - IOAPIC_BASE >= IOAPIC_SIZE) {
		return false;
	}
	pthread_mutex_lock(&chip->lock);
	ioapic_read_locked(&chip->ioapic, (unsigned)(gpa - IOAPIC_BASE), buf, len);
	pthread_mutex_unlock(&chip->lock);
	return true;
}

bool irqchip_mmio_write(struct vcpu *cpu, gpa_t gpa, const void *buf, unsigned len)
{
	struct irqchip *chip = cpu->vm->irqchip;

	if (lapic_mmio_write(cpu, gpa, buf, len)) {
		return true;
	}
	if (irqchip_full(cpu->vm) && gpa - IOAPIC_BASE < IOAPIC_SIZE) {
		pthread_mutex_lock(&chip->lock);
		ioapic_write_locked(&chip->ioapic, (unsigned)(gpa - IOAPIC_BASE), buf, len);
		pthread_mutex_unlock(&chip->lock);
		return true;
	}
	return iobus_write(cpu, false, gpa, buf, len);
}

/* One byte of a port access to the PIC or the PIT: both are 8-bit devices. */
static bool port_read(struct irqchip *chip, bool full, uint16_t port, uint8_t *ret)
{
	struct pit *pit = atomic_load(&chip->pit);

	return (full && pic_read_locked(&chip->pic, port, ret)) ||
	       (pit && pit_read_locked(pit, port, ret));
}

static bool port_write(struct irqchip *chip, bool full, uint16_t port, uint8_t v)
{
	struct pit *pit = atomic_load(&chip->pit);

	return (full && pic_write_locked(&chip->pic, port, v)) ||
	       (pit && pit_write_locked(pit, port, v));
}

/* Saves taking the lock for ports that cannot be ours. */
static bool maybe_ours(uint16_t port)
{
	return (port >= 0x20 && port <= 0x61) || port == 0xa0 || port == 0xa1 || port == 0x4d0 ||
	       port == 0x4d1;
}

bool irqchip_pio_read(struct vcpu *cpu, uint16_t port, void *buf, unsigned len)
{
	struct irqchip *chip = cpu->vm->irqchip;
	uint8_t *bytes = buf;
	bool taken;

	if (!maybe_ours(port)) {
		return false;
	}
	pthread_mutex_lock(&chip->lock);
	taken = port_read(chip, irqchip_full(cpu->vm), port, &bytes[0]);
	for (unsigned i = 1; taken && i < len; i++) {
		bytes[i] = 0xff; /* wide reads are split by the chipset; the next port may be
				    nobody's */
		port_read(chip, irqchip_full(cpu->vm), (uint16_t)(port + i), &bytes[i]);
	}
	pthread_mutex_unlock(&chip->lock);
	return taken;
}

bool irqchip_pio_write(struct vcpu *cpu, uint16_t port, const void *buf, unsigned len)
{
	struct irqchip *chip = cpu->vm->irqchip;
	const uint8_t *bytes = buf;
	bool taken = false;

	if (maybe_ours(port)) {
		pthread_mutex_lock(&chip->lock);
		taken = port_write(chip, irqchip_full(cpu->vm), port, bytes[0]);
		for (unsigned i = 1; taken && i < len; i++) {
			port_write(chip, irqchip_full(cpu->vm), (uint16_t)(port + i), bytes[i]);
		}
		pthread_mutex_unlock(&chip->lock);
	}
	return taken || iobus_write(cpu, true, port, buf, len);
}
