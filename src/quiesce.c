/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "device_internal.h"

/*
 * Each fence carries the epoch in which it was submitted. A quiesce ends an epoch and counts what is
 * pending of it; it is complete when that is 0 and it is the first. One that is forgotten leaves what
 * it counted to the one after it, or to the present epoch.
 */

static uint64_t *counter_of(struct fq_sink *sink, uint32_t epoch)
{
	for (struct fq_quiesce *z = sink->quiesces; z; z = z->next) {
		if ((int32_t)(z->epoch - epoch) >= 0)
			return &z->pending;
	}
	return &sink->epoch_pending;
}

void fq_quiesce_retired(struct fq_sink *sink, uint32_t epoch)
{
	--*counter_of(sink, epoch);
}

static void take_off(struct fq_quiesce *z)
{
	struct fq_sink *sink = &z->device->sink;
	struct fq_quiesce **link = &sink->quiesces;

	while (*link != z)
		link = &(*link)->next;
	*link = z->next;
	*counter_of(sink, z->epoch) += z->pending;
	(void)fq_deadline_cancel(&z->deadline);
	z->device = NULL;
}

void fq_quiesce_complete(struct fq_sink *sink)
{
	struct fq_quiesce *z;

	while ((z = sink->quiesces) && !z->pending) {
		take_off(z);
		z->done(z, 0);
	}
}

static void expired(struct fq_deadline *deadline)
{
	struct fq_quiesce *z = fq_container_of(deadline, struct fq_quiesce, deadline);

	take_off(z);
	z->done(z, -ETIMEDOUT);
}

int fq_device_quiesce(struct fq_device *dev, struct fq_quiesce *z, int64_t timeout_ns)
{
	struct fq_quiesce **link;
	struct fq_sink *sink;

	if (!fq_is_alive(dev) || !z || !z->done)
		return -EINVAL;
	if (dev->closing)
		return -ENODEV;
	if (z->device)
		return -EBUSY;
	sink = &dev->sink;
	z->device = dev;
	z->epoch = sink->epoch++;
	z->pending = sink->epoch_pending;
	z->next = NULL;
	sink->epoch_pending = 0;
	for (link = &sink->quiesces; *link; link = &(*link)->next)
		;
	*link = z;
	z->deadline.run = expired;
	if (timeout_ns >= 0)
		(void)fq_deadline_set(sink->queue, &z->deadline, timeout_ns);
	fq_queue_enter(sink->queue);
	fq_quiesce_complete(sink);
	fq_queue_leave(sink->queue);
	return 0;
}

bool fq_quiesce_cancel(struct fq_quiesce *z)
{
	if (!z || !z->device)
		return false;
	take_off(z);
	return true;
}
