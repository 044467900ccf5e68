/* SPDX-License-Identifier: MIT */
#ifndef FQ_DEVICE_INTERNAL_H
#define FQ_DEVICE_INTERNAL_H

/* The device, as its sources see it: signal.c posters, the others the owner. */

#include "handle.h"

#define FQ_ENDED UINT64_C(1)
#define FQ_REFERENCE UINT64_C(2)

struct fq_device {
	/* Every signal reads these, so what drains write is not on their line. */
	struct fq_table contexts;
	struct fq_timeline *global;
	fq_handle_t handle;

	/* References << 1, and FQ_ENDED. Signals do not count: not on their line. */
	alignas(FQ_CACHELINE) fq_a64 references;

	alignas(FQ_CACHELINE) struct fq_sink sink;

	/* The owner's from here on. */
	fq_flush_fn *flush_host;
	fq_release_fn *release;
	struct fq_bank_group *groups;
	struct fq_bank *free_banks;
	uint64_t high; /* no token of a timeline now closed is above this */
	uint32_t max_contexts;
	bool closing;
	struct fq_vring **vrings;
	unsigned vring_count;
	struct fq_death *deaths;
	struct fq_later burial;
	struct fq_device *next_unplugged;
	bool reaped;
	fq_defer_fn *defer;
	void *defer_opaque;
	fq_a64 submitted;
	fq_a64 live_contexts;
	fq_a64 live_timelines;
	fq_a64 batches;
	fq_a64 submit_errors;
};

static inline struct fq_timeline *fq_bank_timeline(const struct fq_bank *bank, unsigned ring)
{
	return fq_ptr_load_rlx(&bank->ring[ring]);
}

/* Every bank that may have something pending; use inside fq_queue_enter(). */
#define FQ_FOR_EACH_BANK(dev, group, i)                                               \
	for (struct fq_bank_group *group = (dev)->groups; group; group = group->next) \
		for (unsigned i = 0; i < group->used; i++)

/* Its body must not be left by break. */
#define FQ_FOR_EACH_TIMELINE(dev, tl)                                              \
	FQ_FOR_EACH_BANK (dev, group_, bank_)                                      \
		for (unsigned ring_ = 0; ring_ < FQ_RINGS; ring_++)                \
			for (struct fq_timeline *tl =                              \
				     fq_bank_timeline(group_->bank[bank_], ring_); \
			     tl; tl = NULL)

/* A life of its own, with tokens above those of all lives that ended. */
void fq_device_reopen_timeline(struct fq_device *dev, struct fq_timeline *tl);
/* Opened when it is new or was closed. -EINVAL, -ENODEV, -ENOSPC, -ENOMEM. */
int fq_device_open_timeline(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx,
			    struct fq_timeline **out);

/* The global timeline has a bank of its own, which no context id leads to. */
int fq_device_open_global(struct fq_device *dev);

/* No signal gets in from here on, and no later life gives out a token of this one. */
void fq_device_close_timeline(struct fq_device *dev, struct fq_timeline *tl, int status);
void fq_device_close_bank(struct fq_device *dev, struct fq_bank *bank, int status);
void fq_bank_fail(struct fq_bank *bank);

/* The id is free for a new life; the bank is recycled when its fences have been failed. */
void fq_device_forget_context(struct fq_device *dev, struct fq_bank *bank);
void fq_device_recycle_bank(struct fq_device *dev, struct fq_bank *bank);

/* death.c */
void fq_deaths_cancel(struct fq_device *dev);

/* Ends everything but the memory, which posters may be reading, and others hold references to. */
void fq_device_end(struct fq_device *dev);
/*
 * Waits for those inside a call, and frees the handle; any thread that may block. True: nobody has a
 * reference, nor will have: the memory may go.
 */
bool fq_device_reap(struct fq_device *dev);
void fq_device_free(struct fq_device *dev);
/* reference.c: how often a last reference of a device that had ended was given back. */
extern fq_a64 fq_last_puts;
/* lifecycle.c: leaves a device that has ended, and is referenced, to fq_reclaim(). The queue is on hold. */
void fq_device_free_or_leave(struct fq_device *dev);

#endif /* FQ_DEVICE_INTERNAL_H */
