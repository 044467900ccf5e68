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

/* -- contexts and timelines ------------------------------------------------------------- */

static struct fq_bank_group *group_with_room(struct fq_device *dev)
{
	struct fq_bank_group *group = dev->groups;

	if (group && group->used < FQ_WORD_BITS)
		return group;
	group = fq_alloc_aligned(sizeof(*group));
	if (!group)
		return NULL;
	group->source.collect = fq_bank_group_collect;
	fq_queue_attach(dev->sink.queue, &group->source);
	group->next = dev->groups;
	dev->groups = group;
	return group;
}

/* For another context, which has not used any of its rings yet. */
static void bank_renew(struct fq_bank *bank)
{
	for (unsigned i = 0; i < FQ_RINGS; i++) {
		struct fq_timeline *tl = fq_bank_timeline(bank, i);

		if (tl)
			fq_timeline_forget(tl);
	}
}

static struct fq_bank *bank_create(struct fq_device *dev)
{
	struct fq_bank_group *group;
	struct fq_bank *bank = dev->free_banks;

	if (bank) {
		dev->free_banks = bank->next_free;
		bank_renew(bank);
		return bank;
	}
	group = group_with_room(dev);
	bank = group ? fq_alloc_aligned(sizeof(*bank)) : NULL;
	if (!bank)
		return NULL;
	fq_relay_begin(&bank->relay);
	bank->source = &group->source;
	bank->slot = (uint8_t)group->used;
	fq_store_rlx(&bank->ctx_id, FQ_CTX_NONE);
	group->bank[group->used++] = bank;
	return bank;
}

void fq_device_recycle_bank(struct fq_device *dev, struct fq_bank *bank)
{
	fq_store_rel(&bank->ctx_id, FQ_CTX_NONE);
	bank->next_free = dev->free_banks;
	dev->free_banks = bank;
}

static int context_create(struct fq_device *dev, uint32_t ctx_id, struct fq_bank **out)
{
	struct fq_bank *bank;
	int err;

	if (fq_load_rlx(&dev->live_contexts) == dev->max_contexts)
		return -ENOSPC;
	bank = bank_create(dev);
	if (!bank)
		return -ENOMEM;
	fq_store_rlx(&bank->ctx_id, ctx_id);
	err = fq_table_insert(&dev->contexts, bank);
	if (err) {
		fq_device_recycle_bank(dev, bank);
		return err;
	}
	bank->live = true;
	fq_count_owner(&dev->live_contexts, 1);
	*out = bank;
	return 0;
}

int fq_context_create(struct fq_device *dev, uint32_t ctx_id)
{
	struct fq_bank *bank;

	if (!fq_is_alive(dev))
		return -EINVAL;
	if (dev->closing)
		return -ENODEV;
	if (fq_table_find(&dev->contexts, ctx_id))
		return -EEXIST;
	return context_create(dev, ctx_id, &bank);
}

/* A life of its own, with tokens above those of all lives that ended. */
static void timeline_reopen(struct fq_device *dev, struct fq_timeline *tl)
{
	fq_timeline_open(tl, dev->high);
	fq_count_owner(&dev->live_timelines, 1);
}

static int timeline_open(struct fq_device *dev, struct fq_bank *bank, uint32_t ring_idx,
			 struct fq_timeline **out)
{
	struct fq_timeline *tl = fq_ptr_load_rlx(&bank->ring[ring_idx]);

	if (!tl) {
		tl = fq_timeline_create(bank, (uint8_t)ring_idx, &dev->sink);
		if (!tl)
			return -ENOMEM;
		fq_ptr_store_rel(&bank->ring[ring_idx], tl); /* B4: pairs with find_timeline */
	}
	if (!fq_timeline_is_open(tl))
		timeline_reopen(dev, tl);
	*out = tl;
	return 0;
}

static struct fq_timeline *open_timeline(const struct fq_device *dev, uint32_t ctx_id,
					 uint32_t ring_idx)
{
	struct fq_bank *bank = fq_table_find(&dev->contexts, ctx_id);
	struct fq_timeline *tl = bank ? fq_bank_timeline(bank, ring_idx) : NULL;

	return tl && fq_timeline_is_open(tl) ? tl : NULL;
}

int fq_device_open_timeline(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx,
			    struct fq_timeline **out)
{
	struct fq_bank *bank;

	if (ring_idx >= FQ_RINGS)
		return -EINVAL;
	if (dev->closing)
		return -ENODEV;
	bank = fq_table_find(&dev->contexts, ctx_id);
	if (!bank) {
		int err = context_create(dev, ctx_id, &bank);

		if (err)
			return err;
	}
	return timeline_open(dev, bank, ring_idx, out);
}

int fq_device_timeline(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx,
		       struct fq_timeline **out)
{
	if (!fq_is_alive(dev) || !out)
		return -EINVAL;
	return fq_device_open_timeline(dev, ctx_id, ring_idx, out);
}

struct fq_timeline *fq_device_global(struct fq_device *dev)
{
	return dev->global;
}

void fq_device_close_timeline(struct fq_device *dev, struct fq_timeline *tl, int status)
{
	uint64_t submitted;

	if (!fq_timeline_is_open(tl))
		return;
	submitted = fq_timeline_close(tl, status);
	if (dev->high < submitted)
		dev->high = submitted;
	fq_count_owner(&dev->live_timelines, (uint64_t)-1);
}

void fq_device_close_bank(struct fq_device *dev, struct fq_bank *bank, int status)
{
	for (unsigned i = 0; i < FQ_RINGS; i++) {
		struct fq_timeline *tl = fq_bank_timeline(bank, i);

		if (tl)
			fq_device_close_timeline(dev, tl, status);
	}
}

void fq_bank_fail(struct fq_bank *bank)
{
	for (unsigned i = 0; i < FQ_RINGS; i++) {
		struct fq_timeline *tl = fq_bank_timeline(bank, i);

		if (tl)
			fq_timeline_fail(tl);
	}
}

void fq_device_forget_context(struct fq_device *dev, struct fq_bank *bank)
{
	fq_table_remove(&dev->contexts, bank);
	bank->live = false;
	fq_count_owner(&dev->live_contexts, (uint64_t)-1);
}

int fq_context_destroy(struct fq_device *dev, uint32_t ctx_id)
{
	struct fq_bank *bank;

	if (!fq_is_alive(dev))
		return -EINVAL;
	bank = fq_table_find(&dev->contexts, ctx_id);
	if (!bank)
		return -ENOENT;
	fq_queue_enter(dev->sink.queue);
	/* Callbacks may use the id again, so it is free before the first of them runs. */
	fq_device_close_bank(dev, bank, -ECANCELED);
	fq_device_forget_context(dev, bank);
	fq_bank_fail(bank);
	fq_device_recycle_bank(dev, bank);
	fq_queue_leave(dev->sink.queue);
	return 0;
}

/* -- submit ----------------------------------------------------------------------------- */

static int append(struct fq_device *dev, struct fq_timeline *tl, struct fq_fence *fence,
		  const uint64_t *id)
{
	uint64_t last = fq_load_rlx(&tl->submitted);
	uint64_t token = id ? *id : last + 1;

	if (token <= last)
		return -ERANGE;
	if (token > FQ_TOKEN_MAX)
		return -EOVERFLOW;
	fq_timeline_append(tl, fence, token);
	fence->submitted_ns = fq_now_coarse();
	fq_count_owner(&dev->submitted, 1);
	return 0;
}

/* What can be refused before a context or timeline is made for it. */
static int check_fence(const struct fq_device *dev, const struct fq_fence *fence,
		       const uint64_t *id)
{
	if (dev->closing)
		return -ENODEV;
	if (fence->timeline)
		return -EBUSY;
	return id && (!*id || *id > FQ_TOKEN_MAX) ? -ERANGE : 0;
}

static int count_error(struct fq_device *dev, int err)
{
	if (err)
		fq_count_owner(&dev->submit_errors, 1);
	return err;
}

static int submit(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx, struct fq_fence *fence,
		  const uint64_t *id)
{
	struct fq_timeline *tl = NULL;
	int err = check_fence(dev, fence, id);

	if (!err && ring_idx < FQ_RINGS)
		tl = open_timeline(dev, ctx_id, ring_idx);
	/* One that is yet to be opened begins above all that have ended. */
	if (!err && !tl && id && *id <= dev->high)
		err = -ERANGE;
	if (!err && !tl)
		err = fq_device_open_timeline(dev, ctx_id, ring_idx, &tl);
	return count_error(dev, err ? err : append(dev, tl, fence, id));
}

static int submit_global(struct fq_device *dev, struct fq_fence *fence, const uint64_t *id)
{
	struct fq_timeline *tl = dev->global;
	int err = check_fence(dev, fence, id);

	if (!err && !fq_timeline_is_open(tl))
		timeline_reopen(dev, tl);
	return count_error(dev, err ? err : append(dev, tl, fence, id));
}

int fq_submit(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx, struct fq_fence *fence)
{
	return fq_is_alive(dev) && fence ? submit(dev, ctx_id, ring_idx, fence, NULL) : -EINVAL;
}

int fq_submit_id(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx, struct fq_fence *fence,
		 uint64_t id)
{
	return fq_is_alive(dev) && fence ? submit(dev, ctx_id, ring_idx, fence, &id) : -EINVAL;
}

int fq_submit_global(struct fq_device *dev, struct fq_fence *fence)
{
	return fq_is_alive(dev) && fence ? submit_global(dev, fence, NULL) : -EINVAL;
}

int fq_submit_global_id(struct fq_device *dev, struct fq_fence *fence, uint64_t id)
{
	return fq_is_alive(dev) && fence ? submit_global(dev, fence, &id) : -EINVAL;
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
	struct fq_bank *bank;
	int err;

	dev->sink.queue = config->queue;
	dev->sink.retire = config->retire;
	dev->sink.opaque = config->opaque;
	dev->sink.flush.run = flush;
	dev->flush_host = config->flush;
	dev->max_contexts = config->max_contexts ? config->max_contexts : MAX_CONTEXTS_DEFAULT;
	err = fq_table_init(&dev->contexts);
	if (err)
		return err;
	/* The global timeline has a bank of its own, which no context id leads to. */
	bank = bank_create(dev);
	err = bank ? timeline_open(dev, bank, 0, &dev->global) : -ENOMEM;
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

static void leave_to_reclaim(struct fq_later *burial)
{
	struct fq_device *dev = fq_container_of(burial, struct fq_device, burial);

	fq_debug_dead(dev);
	fq_device_leave_to_reclaim(dev);
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
	dev->burial.run = last ? bury : leave_to_reclaim;
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
