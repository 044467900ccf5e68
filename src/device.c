/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "handle.h"

#define MAX_CONTEXTS_DEFAULT 65536u

struct fq_device {
	/* Every signal reads these, so what drains write is not on their line. */
	struct fq_table contexts;
	struct fq_timeline *global;
	fq_handle_t handle;

	alignas(FQ_CACHELINE) struct fq_sink sink;

	/* The owner's from here on. */
	fq_flush_fn *flush_host;
	struct fq_bank_group *groups;
	struct fq_bank *free_banks;
	uint64_t high; /* no token of a timeline now closed is above this */
	uint32_t max_contexts;
	bool closing;
	struct fq_vring **vrings;
	unsigned vring_count;
	fq_a64 submitted;
	fq_a64 live_contexts;
	fq_a64 live_timelines;
	fq_a64 batches;
	fq_a64 submit_errors;
};

/* -- posters ----------------------------------------------------------------------------------- */

static int refuse(fq_a64 *counter, int err)
{
	fq_count(counter);
	return err;
}

/* The timeline that a poster means; the caller is inside a read side. */
static int find_timeline(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx,
			 struct fq_timeline **tl)
{
	struct fq_bank *bank;

	if (ring_idx >= FQ_RINGS)
		return refuse(&dev->sink.refused_invalid, -EINVAL);
	bank = fq_table_find(&dev->contexts, ctx_id);
	*tl = bank ? fq_ptr_load_acq(&bank->ring[ring_idx]) : NULL; /* B4 */
	return *tl ? 0 : refuse(&dev->sink.refused_unknown, -ENOENT);
}

/* The highest token given out that ends in these 32 bits; one never given out when there is none. */
static uint64_t widen(const struct fq_timeline *tl, uint32_t low)
{
	uint64_t submitted = fq_load_rlx(&tl->submitted);
	uint64_t token = (submitted & ~(uint64_t)UINT32_MAX) | low;

	if (token > submitted && token > UINT32_MAX)
		token -= UINT64_C(1) << 32;
	return token;
}

int fq_signal(fq_handle_t handle, uint32_t ctx_id, uint32_t ring_idx, uint64_t token)
{
	struct fq_timeline *tl;
	struct fq_read read;
	int err = fq_read_begin(handle, &read);

	if (err)
		return err;
	err = find_timeline(read.device, ctx_id, ring_idx, &tl);
	if (!err)
		err = fq_timeline_signal(tl, token);
	fq_read_end(&read);
	return err;
}

int fq_signal_global(fq_handle_t handle, uint64_t token)
{
	struct fq_read read;
	int err = fq_read_begin(handle, &read);

	if (err)
		return err;
	err = fq_timeline_signal(read.device->global, token);
	fq_read_end(&read);
	return err;
}

int fq_signal32(fq_handle_t handle, uint32_t ctx_id, uint32_t ring_idx, uint32_t token)
{
	struct fq_timeline *tl;
	struct fq_read read;
	int err = fq_read_begin(handle, &read);

	if (err)
		return err;
	err = find_timeline(read.device, ctx_id, ring_idx, &tl);
	if (!err)
		err = fq_timeline_signal(tl, widen(tl, token));
	fq_read_end(&read);
	return err;
}

int fq_signal_global32(fq_handle_t handle, uint32_t token)
{
	struct fq_read read;
	int err = fq_read_begin(handle, &read);

	if (err)
		return err;
	err = fq_timeline_signal(read.device->global, widen(read.device->global, token));
	fq_read_end(&read);
	return err;
}

/* -- owner: retire ----------------------------------------------------------------------------- */

static void flush(struct fq_flush *flush)
{
	struct fq_device *dev = fq_container_of(flush, struct fq_device, sink.flush);

	fq_count_owner(&dev->batches, 1);
	if (dev->flush_host)
		dev->flush_host(dev->sink.opaque);
	for (unsigned i = 0; i < dev->vring_count; i++)
		(void)fq_vring_publish(dev->vrings[i]); /* a broken ring has counted why */
}

/* For what was retired outside of a drain; inside, the drain sees to it. */
static void flush_unless_in_drain(struct fq_device *dev)
{
	if (!fq_queue_in_drain(dev->sink.queue))
		fq_queue_flush_now(dev->sink.queue);
}

/* -- owner: contexts and timelines ------------------------------------------------------------- */

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

static struct fq_bank *bank_create(struct fq_device *dev)
{
	struct fq_bank_group *group;
	struct fq_bank *bank = dev->free_banks;

	if (bank) {
		dev->free_banks = bank->next_free;
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

static void bank_recycle(struct fq_device *dev, struct fq_bank *bank)
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
		bank_recycle(dev, bank);
		return err;
	}
	fq_count_owner(&dev->live_contexts, 1);
	*out = bank;
	return 0;
}

int fq_context_create(struct fq_device *dev, uint32_t ctx_id)
{
	struct fq_bank *bank;

	if (!dev)
		return -EINVAL;
	if (dev->closing)
		return -ENODEV;
	if (fq_table_find(&dev->contexts, ctx_id))
		return -EEXIST;
	return context_create(dev, ctx_id, &bank);
}

/* Opens a timeline for a life of its own, with tokens above those of all lives that ended. */
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
	if (!fq_timeline_is_open(tl)) {
		fq_timeline_open(tl, dev->high);
		fq_count_owner(&dev->live_timelines, 1);
	}
	*out = tl;
	return 0;
}

static int timeline_get(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx,
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
	if (!dev || !out)
		return -EINVAL;
	return timeline_get(dev, ctx_id, ring_idx, out);
}

struct fq_timeline *fq_device_global(struct fq_device *dev)
{
	return dev->global;
}

/* No signal gets in from here on, and no later life gives out a token of this one. */
static void bank_close(struct fq_device *dev, struct fq_bank *bank)
{
	for (unsigned i = 0; i < FQ_RINGS; i++) {
		struct fq_timeline *tl = fq_ptr_load_rlx(&bank->ring[i]);
		uint64_t submitted;

		if (!tl || !fq_timeline_is_open(tl))
			continue;
		submitted = fq_timeline_close(tl);
		if (dev->high < submitted)
			dev->high = submitted;
		fq_count_owner(&dev->live_timelines, (uint64_t)-1);
	}
}

static void bank_fail(struct fq_bank *bank, int status)
{
	for (unsigned i = 0; i < FQ_RINGS; i++) {
		struct fq_timeline *tl = fq_ptr_load_rlx(&bank->ring[i]);

		if (tl)
			fq_timeline_fail(tl, status);
	}
}

int fq_context_destroy(struct fq_device *dev, uint32_t ctx_id)
{
	struct fq_bank *bank;

	if (!dev)
		return -EINVAL;
	bank = fq_table_find(&dev->contexts, ctx_id);
	if (!bank)
		return -ENOENT;
	/* Callbacks may use the id again, so it is free before the first of them runs. */
	bank_close(dev, bank);
	fq_table_remove(&dev->contexts, bank);
	fq_count_owner(&dev->live_contexts, (uint64_t)-1);
	bank_fail(bank, -ECANCELED);
	bank_recycle(dev, bank);
	flush_unless_in_drain(dev);
	return 0;
}

/* -- owner: submit ----------------------------------------------------------------------------- */

static int append(struct fq_device *dev, struct fq_timeline *tl, struct fq_fence *fence,
		  uint64_t token)
{
	if (fence->timeline)
		return -EBUSY;
	if (token > FQ_TOKEN_MAX)
		return -EOVERFLOW;
	fq_timeline_append(tl, fence, token);
	fq_count_owner(&dev->submitted, 1);
	return 0;
}

static int append_id(struct fq_device *dev, struct fq_timeline *tl, struct fq_fence *fence,
		     uint64_t id)
{
	if (id <= fq_load_rlx(&tl->submitted) || id > FQ_TOKEN_MAX)
		return -ERANGE;
	return append(dev, tl, fence, id);
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
	struct fq_timeline *tl;
	int err = timeline_get(dev, ctx_id, ring_idx, &tl);

	if (!err)
		err = id ? append_id(dev, tl, fence, *id)
			 : append(dev, tl, fence, fq_load_rlx(&tl->submitted) + 1);
	return count_error(dev, err);
}

static int submit_global(struct fq_device *dev, struct fq_fence *fence, const uint64_t *id)
{
	struct fq_timeline *tl = dev->global;
	int err = dev->closing ? -ENODEV : 0;

	if (!err)
		err = id ? append_id(dev, tl, fence, *id)
			 : append(dev, tl, fence, fq_load_rlx(&tl->submitted) + 1);
	return count_error(dev, err);
}

int fq_submit(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx, struct fq_fence *fence)
{
	return dev && fence ? submit(dev, ctx_id, ring_idx, fence, NULL) : -EINVAL;
}

int fq_submit_id(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx, struct fq_fence *fence,
		 uint64_t id)
{
	return dev && fence ? submit(dev, ctx_id, ring_idx, fence, &id) : -EINVAL;
}

int fq_submit_global(struct fq_device *dev, struct fq_fence *fence)
{
	return dev && fence ? submit_global(dev, fence, NULL) : -EINVAL;
}

int fq_submit_global_id(struct fq_device *dev, struct fq_fence *fence, uint64_t id)
{
	return dev && fence ? submit_global(dev, fence, &id) : -EINVAL;
}

/* -- owner: virtqueues ------------------------------------------------------------------------- */

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

	if (!dev || !vr)
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

	if (!dev || !vr)
		return -EINVAL;
	i = vring_index(dev, vr);
	if (i == dev->vring_count)
		return -ENOENT;
	dev->vrings[i] = dev->vrings[--dev->vring_count];
	return 0;
}

/* -- owner: life ------------------------------------------------------------------------------- */

static void free_banks(struct fq_bank_group *group)
{
	for (unsigned b = 0; b < group->used; b++) {
		for (unsigned i = 0; i < FQ_RINGS; i++)
			free(fq_ptr_load_rlx(&group->bank[b]->ring[i]));
		free(group->bank[b]);
	}
}

/* Nobody is inside, and nothing of the device is on the queue. */
static void device_free(struct fq_device *dev)
{
	while (dev->groups) {
		struct fq_bank_group *group = dev->groups;

		dev->groups = group->next;
		free_banks(group);
		fq_queue_detach(dev->sink.queue, &group->source);
		free(group);
	}
	if (fq_ptr_load_rlx(&dev->contexts.current))
		fq_table_fini(&dev->contexts);
	free(dev->vrings);
	free(dev);
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
		device_free(dev);
		return err;
	}
	*out = dev;
	return 0;
}

int fq_device_destroy(struct fq_device *dev)
{
	struct fq_bank_group *group;

	if (!dev)
		return 0;
	if (fq_queue_in_drain(dev->sink.queue) || dev->closing)
		return -EBUSY;
	dev->closing = true;
	fq_handle_revoke(dev->handle);
	for (group = dev->groups; group; group = group->next) {
		for (unsigned b = 0; b < group->used; b++)
			bank_close(dev, group->bank[b]);
	}
	for (group = dev->groups; group; group = group->next) {
		for (unsigned b = 0; b < group->used; b++)
			bank_fail(group->bank[b], -ECANCELED);
	}
	fq_queue_flush_now(dev->sink.queue);
	fq_queue_forget(dev->sink.queue, fq_timeline_owns, &dev->sink);
	fq_handle_wait(dev->handle);
	fq_handle_free(dev->handle);
	device_free(dev);
	return 0;
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
