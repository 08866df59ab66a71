/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * irqfds: eventfds that raise a GSI (KVM API 4.75).
 *
 * The descriptors are duplicates, so that user space may close its own. An eventfd is
 * recognised again by the id that /proc/self/fdinfo shows; without /proc by its number.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "softkvm/irqchip/irqchip_int.h"

#define FDINFO_BYTES 512
#define ID_BY_NUMBER BIT64(63)

int eventfd_identity(int fd, uint64_t *ret)
{
	char path[64], text[FDINFO_BYTES], *p;
	AUTO_FD info = -1;
	ssize_t n;

	if (fcntl(fd, F_GETFD) < 0) {
		return -EBADF;
	}
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	n = info < 0 ? -1 : read(info, text, sizeof(text) - 1);
	if (n < 0) {
		*ret = ID_BY_NUMBER | (unsigned)fd;
		return 0;
	}
	text[n] = '\0';
	if (!strstr(text, "eventfd-count:")) {
		return -EINVAL;
	}
	p = strstr(text, "eventfd-id:");
	*ret = p ? strtoull(p + strlen("eventfd-id:"), NULL, 10) : ID_BY_NUMBER | (unsigned)fd;
	return 0;
}

static int dup_eventfd(int fd, int *ret)
{
	int r = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (r < 0) {
		return -errno;
	}
	*ret = r;
	return 0;
}

static void irqfd_free(struct irqfd *f)
{
	fd_closep(&f->fd);
	fd_closep(&f->resample_fd);
	free(f);
}

static int irqfd_new(const struct kvm_irqfd *in, struct irqfd **ret)
{
	struct irqfd *f = calloc(1, sizeof(*f));
	uint64_t resample_id;
	int r;

	if (!f) {
		return -ENOMEM;
	}
	f->fd = f->resample_fd = -1;
	f->gsi = in->gsi;
	r = eventfd_identity((int)in->fd, &f->id);
	if (r == 0) {
		r = dup_eventfd((int)in->fd, &f->fd);
	}
	if (r == 0 && (in->flags & KVM_IRQFD_FLAG_RESAMPLE)) {
		r = eventfd_identity((int)in->resamplefd, &resample_id);
		if (r == 0) {
			r = dup_eventfd((int)in->resamplefd, &f->resample_fd);
		}
	}
	if (r != 0) {
		irqfd_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

static bool is_taken_locked(const struct irqchip *chip, uint64_t id)
{
	for (const struct irqfd *f = chip->irqfds; f; f = f->next) {
		if (f->id == id) {
			return true;
		}
	}
	return false;
}

/* An eventfd that is signalled already raises its GSI as soon as the thread looks. */
static int assign(struct vm *vm, const struct kvm_irqfd *in)
{
	struct irqchip *chip = vm->irqchip;
	bool resample = in->flags & KVM_IRQFD_FLAG_RESAMPLE;
	struct irqfd *f;
	int r;

	if (!(resample ? irqchip_full(vm) : irqchip_in_kernel(vm))) {
		return -EINVAL;
	}
	r = irqfd_new(in, &f);
	if (r != 0) {
		return r;
	}
	pthread_mutex_lock(&chip->lock);
	r = is_taken_locked(chip, f->id) ? -EBUSY : service_watch(vm, f->fd);
	if (r == 0) {
		f->next = chip->irqfds;
		chip->irqfds = f;
		ioapic_scan_locked(&chip->ioapic);
	}
	pthread_mutex_unlock(&chip->lock);
	if (r != 0) {
		irqfd_free(f);
	}
	return r;
}

static void remove_locked(struct vm *vm, struct irqfd **p)
{
	struct irqfd *f = *p;

	*p = f->next;
	service_unwatch(vm, f->fd);
	if (f->resample_fd >= 0) {
		gsi_set_locked(vm, f->gsi, SOURCE_RESAMPLE, false);
	}
	irqfd_free(f);
}

/* What was signalled before is delivered before this returns. */
static int deassign(struct vm *vm, const struct kvm_irqfd *in)
{
	struct irqchip *chip = vm->irqchip;
	uint64_t id;
	int r = eventfd_identity((int)in->fd, &id);

	if (r != 0) {
		return r;
	}
	pthread_mutex_lock(&chip->lock);
	for (struct irqfd **p = &chip->irqfds; *p;) {
		if ((*p)->id == id && (*p)->gsi == in->gsi) {
			irqfd_ready_locked(vm, (*p)->fd);
			remove_locked(vm, p);
		} else {
			p = &(*p)->next;
		}
	}
	ioapic_scan_locked(&chip->ioapic);
	pthread_mutex_unlock(&chip->lock);
	return 0;
}

int irqfd_ioctl(struct vm *vm, const struct kvm_irqfd *in)
{
	if (in->flags & ~(uint32_t)(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE)) {
		return -EINVAL;
	}
	return in->flags & KVM_IRQFD_FLAG_DEASSIGN ? deassign(vm, in) : assign(vm, in);
}

/* The counter is emptied without blocking, whatever mode user space gave the eventfd. */
static bool take_signal(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	eventfd_t count;

	return poll(&p, 1, 0) == 1 && eventfd_read(fd, &count) == 0;
}

void irqfd_ready_locked(struct vm *vm, int fd)
{
	for (struct irqfd *f = vm->irqchip->irqfds; f; f = f->next) {
		if (f->fd != fd) {
			continue;
		}
		if (!take_signal(fd)) {
			return;
		}
		if (f->resample_fd >= 0) {
			gsi_set_locked(vm, f->gsi, SOURCE_RESAMPLE, true);
		} else {
			gsi_set_locked(vm, f->gsi, SOURCE_USER, true);
			gsi_set_locked(vm, f->gsi, SOURCE_USER, false);
		}
		return;
	}
}

void irqfd_release_all(struct vm *vm)
{
	struct irqchip *chip = vm->irqchip;

	pthread_mutex_lock(&chip->lock);
	while (chip->irqfds) {
		remove_locked(vm, &chip->irqfds);
	}
	pthread_mutex_unlock(&chip->lock);
}
