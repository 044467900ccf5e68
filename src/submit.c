/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "device_internal.h"

static struct fq_timeline *open_timeline(const struct fq_device *dev, uint32_t ctx_id,
					 uint32_t ring_idx)
{
	struct fq_bank *bank = fq_table_find(&dev->contexts, ctx_id);
	struct fq_timeline *tl = bank ? fq_bank_timeline(bank, ring_idx) : NULL;

	return tl && fq_timeline_is_open(tl) ? tl : NULL;
}

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
		fq_device_reopen_timeline(dev, tl);
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
