/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The common part of all devices. */
#include "dev/dev.h"

#include <stdio.h>

#include "dev/bus.h"

void dev_init(struct dev *d, const struct dev_class *cls, struct dev_env *env, const char *name)
{
	d->cls = cls;
	d->env = env;
	pthread_mutex_init(&d->lock, NULL);
	snprintf(d->name, sizeof(d->name), "%s", name ? name : cls->name);
}

void dev_free(struct dev *d)
{
	if (!d) {
		return;
	}
	if (d->env->bus) {
		bus_unmap_dev(d->env->bus, d);
	}
	/* The mutex holds no resource; done() may still need it, then it is gone with the rest. */
	if (d->cls->done) {
		d->cls->done(d);
	}
}

void dev_reset(struct dev *d)
{
	dev_lock(d);
	if (d->cls->reset) {
		d->cls->reset(d);
	}
	dev_unlock(d);
}
