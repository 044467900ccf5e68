/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "device_internal.h"

#define MAX_CONTEXTS_DEFAULT 65536u

static void flush(struct fq_later *flush)
{
	struct fq_device *dev = fq_container_of(flush, struct fq_device, sink.flush);

	fq_count_owner(&dev->batches, 1);
	if (dev->flush_host)
		dev->flush_host(dev->sink.opaque);
	for (unsigned i = 0; i < dev->vring_count; i++)
		(void)fq_vring_publish(dev->vrings[i]); /* a broken ring has counted why */
	fq_quiesce_complete(&dev->sink);
}

/* -- virtqueues ------------------------------------------------------------------------- */

static unsigned vring_index(const struct fq_device *dev, const struct fq_vring *vr)
{
	unsigned i = 0;

	while (i < dev->vring_count && dev->vrings[i] != vr)
		i++;
	return i;
}

int fq_device_attach_vring(struct fq_device *dev, struct fq_vring *vr)
{
	struct fq_vring **grown;

	if (!fq_is_alive(dev) || !vr)
		return -EINVAL;
	if (vring_index(dev, vr) < dev->vring_count)
		return -EEXIST;
	grown = realloc(dev->vrings, (dev->vring_count + 1) * sizeof(struct fq_vring *));
	if (!grown)
		return -ENOMEM;
	dev->vrings = grown;
	dev->vrings[dev->vring_count++] = vr;
	return 0;
}

int fq_device_detach_vring(struct fq_device *dev, struct fq_vring *vr)
{
	unsigned i;

	if (!fq_is_alive(dev) || !vr)
		return -EINVAL;
	i = vring_index(dev, vr);
	if (i == dev->vring_count)
		return -ENOENT;
	dev->vrings[i] = dev->vrings[--dev->vring_count];
	return 0;
}

/* -- life ------------------------------------------------------------------------------- */

static void free_banks(struct fq_bank_group *group)
{
	for (unsigned b = 0; b < group->used; b++) {
		for (unsigned i = 0; i < FQ_RINGS; i++)
			free(fq_ptr_load_rlx(&group->bank[b]->ring[i]));
		free(group->bank[b]);
	}
}

void fq_device_free(struct fq_device *dev)
{
	while (dev->groups) {
		struct fq_bank_group *group = dev->groups;

		dev->groups = group->next;
		free_banks(group);
		free(group);
	}
	if (fq_ptr_load_rlx(&dev->contexts.current))
		fq_table_fini(&dev->contexts);
	free(dev->vrings);
	if (dev->release)
		dev->release(dev->sink.opaque);
	free(dev);
}

static void detach_from_queue(struct fq_device *dev)
{
	for (struct fq_bank_group *group = dev->groups; group; group = group->next)
		fq_queue_detach(dev->sink.queue, &group->source);
	fq_queue_forget(dev->sink.queue, fq_timeline_owns, &dev->sink);
}

static int device_init(struct fq_device *dev, const struct fq_device_config *config)
{
	int err;

	dev->sink.queue = config->queue;
	dev->sink.retire = config->retire;
	dev->sink.opaque = config->opaque;
	dev->sink.flush.run = flush;
	dev->flush_host = config->flush;
	dev->max_contexts = config->max_contexts ? config->max_contexts : MAX_CONTEXTS_DEFAULT;
	err = fq_table_init(&dev->contexts);
	if (!err)
		err = fq_device_open_global(dev);
	return err ? err : fq_handle_create(dev, &dev->handle);
}

int fq_device_create(struct fq_device **out, const struct fq_device_config *config)
{
	struct fq_device *dev;
	int err;

	if (!out || !config || !config->queue || !config->retire)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(config->reserved) / sizeof(config->reserved[0]); i++) {
		if (config->reserved[i])
			return -EINVAL;
	}
	dev = fq_alloc_aligned(sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	err = device_init(dev, config);
	if (err) {
		detach_from_queue(dev);
		fq_device_free(dev);
		return err;
	}
	dev->release = config->release;
	fq_debug_born(dev);
	*out = dev;
	return 0;
}

void fq_device_end(struct fq_device *dev)
{
	dev->closing = true;
	fq_handle_revoke(dev->handle);
	/* D2: pairs with fq_device_ended, fq_device_put */
	fq_or_acqrel(&dev->references, FQ_ENDED);
	FQ_FOR_EACH_BANK (dev, group, i)
		fq_device_close_bank(dev, group->bank[i], -ENODEV);
	FQ_FOR_EACH_BANK (dev, group, i)
		fq_bank_fail(group->bank[i]);
	fq_deaths_cancel(dev);
	/* The last batch; the host may free its vrings when this call returns. */
	if (dev->sink.flush.listed)
		flush(&dev->sink.flush);
	dev->vring_count = 0;
	dev->flush_host = NULL;
	detach_from_queue(dev);
}

bool fq_device_reap(struct fq_device *dev)
{
	if (!dev->reaped) {
		fq_handle_wait(dev->handle);
		fq_handle_free(dev->handle);
		dev->reaped = true;
	}
	return fq_load_acq(&dev->references) == FQ_ENDED; /* D1: pairs with fq_device_put */
}

static void bury(struct fq_later *burial)
{
	struct fq_device *dev = fq_container_of(burial, struct fq_device, burial);

	fq_debug_dead(dev);
	fq_device_free(dev);
}

/* The reference may have been given back since fq_device_destroy() has seen it. */
static void bury_or_leave(struct fq_later *burial)
{
	struct fq_device *dev = fq_container_of(burial, struct fq_device, burial);

	fq_debug_dead(dev);
	fq_device_free_or_leave(dev);
}

int fq_device_destroy(struct fq_device *dev)
{
	struct fq_queue *q;
	bool last;

	if (!dev)
		return 0;
	if (!fq_is_alive(dev))
		return -EINVAL;
	if (dev->closing)
		return -EBUSY;
	q = dev->sink.queue;
	fq_queue_enter(q);
	fq_device_end(dev);
	last = fq_device_reap(dev);
	if (!last)
		fq_queue_hold(q);
	dev->burial.run = last ? bury : bury_or_leave;
	fq_queue_bury_later(q, &dev->burial);
	fq_queue_leave(q);
	return last ? 0 : -EINPROGRESS;
}

fq_handle_t fq_device_handle(const struct fq_device *dev)
{
	return dev->handle;
}

uint64_t fq_device_pending(const struct fq_device *dev)
{
	return fq_load_rlx(&dev->submitted) - fq_load_rlx(&dev->sink.retired);
}

void fq_device_get_stats(const struct fq_device *dev, struct fq_device_stats *out)
{
	uint64_t retired = fq_load_rlx(&dev->sink.retired);
	uint64_t submitted = fq_load_rlx(&dev->submitted);

	*out = (struct fq_device_stats){
		.submitted = submitted,
		.retired = retired,
		.failed = fq_load_rlx(&dev->sink.failed),
		.pending = submitted - retired,
		.contexts = fq_load_rlx(&dev->live_contexts),
		.timelines = fq_load_rlx(&dev->live_timelines),
		.batches = fq_load_rlx(&dev->batches),
		.refused_unknown = fq_load_rlx(&dev->sink.refused_unknown),
		.refused_invalid = fq_load_rlx(&dev->sink.refused_invalid),
		.refused_range = fq_load_rlx(&dev->sink.refused_range),
		.refused_stale = fq_load_rlx(&dev->sink.refused_stale),
		.submit_errors = fq_load_rlx(&dev->submit_errors),
	};
}
