/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "device_internal.h"

/* A device's contexts and timelines: made, found by the owner, closed, used again. */

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

void fq_device_reopen_timeline(struct fq_device *dev, struct fq_timeline *tl)
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
		fq_device_reopen_timeline(dev, tl);
	*out = tl;
	return 0;
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

int fq_device_open_global(struct fq_device *dev)
{
	struct fq_bank *bank = bank_create(dev);

	return bank ? timeline_open(dev, bank, 0, &dev->global) : -ENOMEM;
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
