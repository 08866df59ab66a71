/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ioeventfds: writes by the guest that end in an eventfd, without leaving KVM_RUN
 * (KVM API 4.59).
 *
 * The list is replaced as a whole while the vCPUs stand still, so that vCPU
 * threads read it without a lock. Changes hold vm->lock.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "softkvm/cpu/run.h"
#include "softkvm/irqchip/irqchip_int.h"

#define IOEVENTFD_FLAGS \
	(KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN)
#define IOEVENTFDS_MAX 1000u /* NR_IOBUS_DEVS of the kernel */

static bool overlaps(const struct ioeventfd *a, const struct ioeventfd *b)
{
	return a->pio == b->pio && a->addr == b->addr &&
	       (a->len == 0 || b->len == 0 ||
		(a->len == b->len &&
		 (a->any_value || b->any_value || a->datamatch == b->datamatch)));
}

static bool same(const struct ioeventfd *a, const struct ioeventfd *b)
{
	return a->pio == b->pio && a->addr == b->addr && a->len == b->len && a->id == b->id &&
	       a->any_value == b->any_value && (a->any_value || a->datamatch == b->datamatch);
}

static int check(const struct kvm_ioeventfd *in)
{
	uint64_t end;

	switch (in->len) {
	case 0:
	case 1:
	case 2:
	case 4:
	case 8:
		break;
	default:
		return -EINVAL;
	}
	if (!range_end(in->addr, in->len, &end) || (in->flags & ~(uint32_t)IOEVENTFD_FLAGS)) {
		return -EINVAL;
	}
	return in->len == 0 && (in->flags & KVM_IOEVENTFD_FLAG_DATAMATCH) ? -EINVAL : 0;
}

static int convert(const struct kvm_ioeventfd *in, struct ioeventfd *ret)
{
	*ret = (struct ioeventfd){
		.addr = in->addr,
		.len = in->len,
		.fd = -1,
		.pio = in->flags & KVM_IOEVENTFD_FLAG_PIO,
		.any_value = !(in->flags & KVM_IOEVENTFD_FLAG_DATAMATCH),
		.datamatch = in->datamatch,
	};
	return eventfd_identity(in->fd, &ret->id);
}

/* Put a new list in place; the old one's memory is freed, its descriptors are not closed. */
static void replace(struct vm *vm, struct ioeventfd *events, unsigned count)
{
	struct io_bus *bus = &vm->irqchip->bus;
	struct ioeventfd *old = bus->events;

	vm_pause_vcpus(vm);
	bus->events = events;
	bus->event_count = count;
	vm_resume_vcpus(vm);
	free(old);
}

static int assign(struct vm *vm, struct ioeventfd *e, int fd)
{
	struct io_bus *bus = &vm->irqchip->bus;
	struct ioeventfd *events;

	for (unsigned i = 0; i < bus->event_count; i++) {
		if (overlaps(&bus->events[i], e)) {
			return -EEXIST;
		}
	}
	if (bus->event_count >= IOEVENTFDS_MAX) {
		return -ENOSPC;
	}
	events = calloc(bus->event_count + 1, sizeof(*events));
	if (!events) {
		return -ENOMEM;
	}
	e->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (e->fd < 0) {
		free(events);
		return -errno;
	}
	if (bus->event_count != 0) {
		memcpy(events, bus->events, bus->event_count * sizeof(*events));
	}
	events[bus->event_count] = *e;
	replace(vm, events, bus->event_count + 1);
	return 0;
}

static int deassign(struct vm *vm, const struct ioeventfd *e)
{
	struct io_bus *bus = &vm->irqchip->bus;
	struct ioeventfd *events;
	unsigned at = 0;
	int fd;

	while (at < bus->event_count && !same(&bus->events[at], e)) {
		at++;
	}
	if (at == bus->event_count) {
		return -ENOENT;
	}
	events = calloc(bus->event_count, sizeof(*events));
	if (!events) {
		return -ENOMEM;
	}
	memcpy(events, bus->events, at * sizeof(*events));
	memcpy(events + at, bus->events + at + 1, (bus->event_count - at - 1) * sizeof(*events));
	fd = bus->events[at].fd;
	replace(vm, events, bus->event_count - 1);
	close(fd);
	return 0;
}

int ioeventfd_ioctl(struct vm *vm, const struct kvm_ioeventfd *in)
{
	struct ioeventfd e;
	int r = check(in);

	if (r == 0) {
		r = convert(in, &e);
	}
	if (r != 0) {
		return r;
	}
	return in->flags & KVM_IOEVENTFD_FLAG_DEASSIGN ? deassign(vm, &e) : assign(vm, &e, in->fd);
}

/* --- the guest's writes --------------------------------------------------------------------- */
static bool value_matches(const struct ioeventfd *e, const void *buf, unsigned len)
{
	uint64_t v = 0;

	if (e->len == 0) {
		return true;
	}
	if (e->len != len) {
		return false;
	}
	memcpy(&v, buf, len);
	return e->any_value || v == e->datamatch;
}

bool iobus_write(struct vcpu *cpu, bool pio, uint64_t addr, const void *buf, unsigned len)
{
	const struct io_bus *bus = &cpu->vm->irqchip->bus;

	for (unsigned i = 0; i < bus->event_count; i++) {
		const struct ioeventfd *e = &bus->events[i];

		if (e->addr == addr && e->pio == pio && len <= 8 && value_matches(e, buf, len)) {
			eventfd_write(e->fd, 1);
			return true;
		}
	}
	return false;
}

void iobus_release(struct vm *vm)
{
	struct io_bus *bus = &vm->irqchip->bus;

	for (unsigned i = 0; i < bus->event_count; i++) {
		close(bus->events[i].fd);
	}
	free(bus->events);
	memset(bus, 0, sizeof(*bus));
}
