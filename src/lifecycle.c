/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "device_internal.h"

/* -- fail -------------------------------------------------------------------------------------- */

static bool valid(const struct fq_device *dev, int status)
{
	return fq_is_alive(dev) && status < 0;
}

static void fail_timeline(struct fq_device *dev, struct fq_timeline *tl, int status)
{
	fq_queue_enter(dev->sink.queue);
	fq_device_close_timeline(dev, tl, status);
	fq_timeline_fail(tl);
	fq_queue_leave(dev->sink.queue);
}

int fq_ring_fail(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx, int status)
{
	struct fq_timeline *tl;
	struct fq_bank *bank;

	if (!valid(dev, status) || ring_idx >= FQ_RINGS)
		return -EINVAL;
	bank = fq_table_find(&dev->contexts, ctx_id);
	tl = bank ? fq_bank_timeline(bank, ring_idx) : NULL;
	if (!tl || !fq_timeline_was_opened(tl))
		return -ENOENT;
	fail_timeline(dev, tl, status);
	return 0;
}

int fq_global_fail(struct fq_device *dev, int status)
{
	if (!valid(dev, status))
		return -EINVAL;
	fail_timeline(dev, dev->global, status);
	return 0;
}

int fq_context_fail(struct fq_device *dev, uint32_t ctx_id, int status)
{
	struct fq_bank *bank;

	if (!valid(dev, status))
		return -EINVAL;
	bank = fq_table_find(&dev->contexts, ctx_id);
	if (!bank)
		return -ENOENT;
	fq_queue_enter(dev->sink.queue);
	fq_device_close_bank(dev, bank, status);
	fq_bank_fail(bank);
	fq_queue_leave(dev->sink.queue);
	return 0;
}

int fq_device_fail(struct fq_device *dev, int status)
{
	if (!valid(dev, status))
		return -EINVAL;
	fq_queue_enter(dev->sink.queue);
	FQ_FOR_EACH_BANK (dev, group, i)
		fq_device_close_bank(dev, group->bank[i], status);
	FQ_FOR_EACH_BANK (dev, group, i)
		fq_bank_fail(group->bank[i]);
	fq_queue_leave(dev->sink.queue);
	return 0;
}

/* -- reset ------------------------------------------------------------------------------------- */

int fq_device_reset(struct fq_device *dev)
{
	struct fq_bank *ended = NULL;

	if (!fq_is_alive(dev))
		return -EINVAL;
	if (dev->closing)
		return -ENODEV;
	fq_queue_enter(dev->sink.queue);
	dev->sink.frozen = false;
	/* All are closed, and all ids free, before a callback can begin the next life. */
	FQ_FOR_EACH_BANK (dev, group, i) {
		struct fq_bank *bank = group->bank[i];

		fq_device_close_bank(dev, bank, -ECONNRESET);
		if (!bank->live)
			continue;
		fq_device_forget_context(dev, bank);
		bank->next_free = ended;
		ended = bank;
	}
	fq_timeline_fail(dev->global);
	while (ended) {
		struct fq_bank *bank = ended;

		ended = bank->next_free;
		fq_bank_fail(bank);
		fq_device_recycle_bank(dev, bank);
	}
	fq_queue_leave(dev->sink.queue);
	return 0;
}

/* -- freeze ------------------------------------------------------------------------------------ */

int fq_device_freeze(struct fq_device *dev)
{
	if (!fq_is_alive(dev))
		return -EINVAL;
	dev->sink.frozen = true;
	return 0;
}

int fq_device_thaw(struct fq_device *dev)
{
	if (!fq_is_alive(dev))
		return -EINVAL;
	dev->sink.frozen = false;
	FQ_FOR_EACH_TIMELINE (dev, tl)
		fq_timeline_thaw(tl);
	fq_queue_wake_owner(dev->sink.queue);
	return 0;
}

bool fq_device_frozen(const struct fq_device *dev)
{
	return dev->sink.frozen;
}

/* -- unplug ------------------------------------------------------------------------------------ */

static fq_aptr unplugged; /* struct fq_device *; no lock, which a fork would leave locked */

static void push_unplugged(struct fq_device *first, struct fq_device *last)
{
	void *top = fq_ptr_load_rlx(&unplugged);

	do {
		last->next_unplugged = top;
	} while (!fq_ptr_cas_acqrel(&unplugged, &top, first)); /* U2: pairs with reclaim */
}

static void free_device(struct fq_device *dev)
{
	struct fq_queue *q = dev->sink.queue;

	fq_device_free(dev);
	fq_queue_release(q);
}

/* Frees what nobody has a reference to; the rest goes back on the list. */
static size_t reclaim(void)
{
	struct fq_device *dev = fq_ptr_xchg_acqrel(&unplugged, NULL); /* U2 */
	struct fq_device *kept = NULL, *last = NULL;
	size_t count = 0;

	while (dev) {
		struct fq_device *next = dev->next_unplugged;

		if (fq_device_reap(dev)) {
			free_device(dev);
			count++;
		} else {
			dev->next_unplugged = kept;
			kept = dev;
			last = last ? last : dev;
		}
		dev = next;
	}
	if (kept)
		push_unplugged(kept, last);
	return count;
}

/*
 * A last reference may be given back while its device is off the list, and the fq_reclaim() that
 * follows find nothing. So that one is counted, and who puts devices back looks at the count after it:
 * either it has changed, or the other's count, and all that he does then, comes after the list.
 */
size_t fq_reclaim(void)
{
	uint64_t puts = fq_load_acq(&fq_last_puts), seen = puts; /* D3: pairs with fq_device_put */
	size_t count = 0;

	do {
		puts = seen;
		count += reclaim();
		seen = fq_add_acqrel(&fq_last_puts, 0); /* D3 */
	} while (seen != puts);
	return count;
}

/*
 * The same, one that is not on the list yet. Rarely something was given back meanwhile: then all of the
 * list is gone through, for an fq_reclaim() that comes in between relies on whoever has it.
 */
void fq_device_free_or_leave(struct fq_device *dev)
{
	uint64_t puts = fq_load_acq(&fq_last_puts); /* D3 */

	if (fq_device_reap(dev)) {
		free_device(dev);
		return;
	}
	push_unplugged(dev, dev);
	if (fq_add_acqrel(&fq_last_puts, 0) != puts) /* D3 */
		(void)fq_reclaim();
}

static void reap_and_free(void *arg)
{
	fq_device_free_or_leave(arg);
}

static void hand_over(struct fq_later *burial)
{
	struct fq_device *dev = fq_container_of(burial, struct fq_device, burial);

	fq_debug_dead(dev);
	if (dev->defer)
		dev->defer(reap_and_free, dev, dev->defer_opaque);
	else
		push_unplugged(dev, dev);
}

int fq_device_unplug(struct fq_device *dev, fq_defer_fn *defer, void *opaque)
{
	struct fq_queue *q;

	if (!fq_is_alive(dev))
		return -EINVAL;
	if (dev->closing)
		return -EBUSY;
	q = dev->sink.queue;
	fq_queue_enter(q);
	fq_queue_hold(q);
	fq_device_end(dev);
	dev->defer = defer;
	dev->defer_opaque = opaque;
	dev->burial.run = hand_over;
	fq_queue_bury_later(q, &dev->burial);
	fq_queue_leave(q);
	return 0;
}
