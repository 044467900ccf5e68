/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "device_internal.h"

/* A renderer that dies fails what it had pending. */

static void forget(struct fq_death *death)
{
	struct fq_death **link = &death->device->deaths;

	while (*link != death)
		link = &(*link)->next;
	*link = death->next;
	fq_watch_remove(&death->watch);
	death->device = NULL;
}

static void happened(struct fq_watch *watch, unsigned events)
{
	struct fq_death *death = fq_container_of(watch, struct fq_death, watch);
	struct fq_device *dev = death->device;

	(void)events;
	forget(death);
	if (death->whole_device)
		(void)fq_device_fail(dev, death->status);
	else
		(void)fq_context_fail(dev, death->ctx_id, death->status);
	if (death->died)
		death->died(death);
}

static int begin(struct fq_device *dev, struct fq_death *death, int fd, unsigned flags, int status)
{
	int err;

	if (!fq_is_alive(dev) || !death || (flags & ~FQ_DEATH_PIDFD) || status >= 0)
		return -EINVAL;
	if (dev->closing)
		return -ENODEV;
	if (death->device)
		return -EBUSY;
	death->watch.run = happened;
	err = fq_watch_add(dev->sink.queue, &death->watch, fd,
			   flags & FQ_DEATH_PIDFD ? FQ_WATCH_IN : 0);
	if (err)
		return err;
	death->device = dev;
	death->status = status;
	death->next = dev->deaths;
	dev->deaths = death;
	return 0;
}

int fq_device_watch(struct fq_device *dev, struct fq_death *death, int fd, unsigned flags,
		    int status)
{
	int err = begin(dev, death, fd, flags, status);

	if (!err)
		death->whole_device = 1;
	return err;
}

int fq_context_watch(struct fq_device *dev, uint32_t ctx_id, struct fq_death *death, int fd,
		     unsigned flags, int status)
{
	int err = begin(dev, death, fd, flags, status);

	if (!err) {
		death->whole_device = 0;
		death->ctx_id = ctx_id;
	}
	return err;
}

void fq_death_cancel(struct fq_death *death)
{
	if (death && death->device)
		forget(death);
}

void fq_deaths_cancel(struct fq_device *dev)
{
	while (dev->deaths)
		forget(dev->deaths);
}
