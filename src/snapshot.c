/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "device_internal.h"
#include "snapshot_format.h"

struct writer {
	uint8_t *at;
	fq_tag_fn *tag;
	void *opaque;
};

static void put(struct writer *w, uint64_t value, unsigned bytes)
{
	for (; bytes; bytes--, value >>= 8)
		*w->at++ = (uint8_t)value;
}

static void put32(struct writer *w, uint32_t value)
{
	put(w, value, 4);
}

static void put64(struct writer *w, uint64_t value)
{
	put(w, value, 8);
}

/*
 * The first fence of the timeline's present life. Those of an earlier one are about to be retired,
 * by a call further up the stack.
 */
static const struct fq_fence *first_fence(const struct fq_timeline *tl)
{
	const struct fq_fence *fence = fq_timeline_is_open(tl) ? tl->first : NULL;
	uint64_t base = fq_load_rlx(&tl->base);

	while (fence && fence->token <= base)
		fence = fence->next;
	return fence;
}

static uint64_t count_fences(const struct fq_timeline *tl)
{
	uint64_t count = 0;

	for (const struct fq_fence *fence = first_fence(tl); fence; fence = fence->next)
		count++;
	return count;
}

/* Of this bank's present context. */
static struct fq_timeline *used_timeline(const struct fq_bank *bank, unsigned ring)
{
	struct fq_timeline *tl = fq_bank_timeline(bank, ring);

	return tl && fq_timeline_was_opened(tl) ? tl : NULL;
}

static uint32_t count_timelines(const struct fq_bank *bank)
{
	uint32_t count = 0;

	for (unsigned i = 0; i < FQ_RINGS; i++)
		count += used_timeline(bank, i) != NULL;
	return count;
}

static uint64_t timeline_size(const struct fq_timeline *tl)
{
	return FQ_SNAPSHOT_TIMELINE_SIZE + count_fences(tl) * FQ_SNAPSHOT_FENCE_SIZE;
}

static uint64_t snapshot_size(const struct fq_device *dev)
{
	uint64_t size = FQ_SNAPSHOT_HEADER_SIZE + timeline_size(dev->global);

	FQ_FOR_EACH_BANK (dev, group, b) {
		const struct fq_bank *bank = group->bank[b];

		if (!bank->live)
			continue;
		size += FQ_SNAPSHOT_CONTEXT_SIZE;
		for (unsigned i = 0; i < FQ_RINGS; i++) {
			const struct fq_timeline *tl = used_timeline(bank, i);

			size += tl ? timeline_size(tl) : 0;
		}
	}
	return size;
}

static void put_timeline(struct writer *w, const struct fq_timeline *tl)
{
	put32(w, tl->ring);
	put32(w, fq_timeline_is_open(tl));
	put64(w, fq_load_rlx(&tl->base));
	/* T1: acquire, so that what the posters of the mark wrote can be saved after this call */
	put64(w, fq_load_acq(&tl->mark) >> FQ_MARK_SHIFT);
	put64(w, fq_load_rlx(&tl->submitted));
	put64(w, count_fences(tl));
	for (const struct fq_fence *fence = first_fence(tl); fence; fence = fence->next) {
		put64(w, fence->token);
		put64(w, fence->fence_id);
		put64(w, w->tag ? w->tag(fence, w->opaque) : 0);
	}
}

static void put_context(struct writer *w, const struct fq_bank *bank)
{
	put32(w, (uint32_t)fq_load_rlx(&bank->ctx_id));
	put32(w, count_timelines(bank));
	for (unsigned i = 0; i < FQ_RINGS; i++) {
		const struct fq_timeline *tl = used_timeline(bank, i);

		if (tl)
			put_timeline(w, tl);
	}
}

/* Merges two lists, linked by next_free, which live banks have no use for. */
static struct fq_bank *merge(struct fq_bank *a, struct fq_bank *b)
{
	struct fq_bank *first = NULL, **last = &first;

	while (a && b) {
		struct fq_bank **smaller =
			fq_load_rlx(&a->ctx_id) < fq_load_rlx(&b->ctx_id) ? &a : &b;

		*last = *smaller;
		last = &(*last)->next_free;
		*smaller = *last;
	}
	*last = a ? a : b;
	return first;
}

/*
 * The live banks by growing context id: with no memory to ask for, a save cannot fail. Bin n holds
 * nothing, or a sorted list of 2^n banks, as a binary counter would.
 */
static struct fq_bank *sorted_banks(const struct fq_device *dev)
{
	struct fq_bank *bin[32] = {NULL};
	struct fq_bank *all = NULL;

	FQ_FOR_EACH_BANK (dev, group, b) {
		struct fq_bank *list = group->bank[b];
		unsigned n = 0;

		if (!list->live)
			continue;
		for (list->next_free = NULL; bin[n]; n++) {
			list = merge(bin[n], list);
			bin[n] = NULL;
		}
		bin[n] = list;
	}
	for (unsigned n = 0; n < 32; n++)
		all = merge(all, bin[n]);
	return all;
}

int64_t fq_device_save(struct fq_device *dev, fq_tag_fn *tag, void *opaque, void *buf, size_t size)
{
	struct writer w = {.at = buf, .tag = tag, .opaque = opaque};
	uint64_t need;

	if (!fq_is_alive(dev) || (!buf && size))
		return -EINVAL;
	if (dev->closing)
		return -ENODEV;
	if (!dev->sink.frozen)
		return -EBUSY;
	need = snapshot_size(dev);
	if (need > size)
		return (int64_t)need;
	memcpy(w.at, FQ_SNAPSHOT_MAGIC, FQ_SNAPSHOT_MAGIC_SIZE);
	w.at += FQ_SNAPSHOT_MAGIC_SIZE;
	put32(&w, FQ_SNAPSHOT_VERSION);
	put32(&w, (uint32_t)fq_load_rlx(&dev->live_contexts));
	put64(&w, need);
	put64(&w, dev->high);
	put_timeline(&w, dev->global);
	for (const struct fq_bank *bank = sorted_banks(dev); bank; bank = bank->next_free)
		put_context(&w, bank);
	return (int64_t)need;
}
