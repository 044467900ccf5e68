/* SPDX-License-Identifier: MIT */
#include <time.h>

#include "handle.h"

struct fq_slot fq_slots[FQ_SLOTS];
#ifdef FQ_TSAN
char fq_grace_tag;
#endif

/* Where the search for a free slot begins. */
static fq_a64 next_slot;

static fq_a64 refused_handle;
static fq_a64 refused_gone;

void fq_count_refused(int err)
{
	fq_count(err == -EINVAL ? &refused_handle : &refused_gone);
}

void fq_process_get_stats(struct fq_process_stats *out)
{
	*out = (struct fq_process_stats){
		.refused_handle = fq_load_rlx(&refused_handle),
		.refused_gone = fq_load_rlx(&refused_gone),
	};
}

/* Moves the slot on by one generation, dead to alive or back. */
static void next_generation(struct fq_slot *slot)
{
	uint64_t generation = (fq_load_rlx(&slot->generation) + 1) & FQ_GENERATION_MASK;

	/*
	 * H1, H2: the device is there for whoever sees it alive. The shards count readers of an old
	 * handle at any time, hence the addition.
	 */
	fq_store_rel(&slot->generation, generation);
	for (unsigned i = 0; i < FQ_SHARDS; i++)
		(void)fq_add_acqrel(&slot->shard[i].word, UINT64_C(1) << FQ_READER_BITS);
}

static bool take(struct fq_slot *slot, struct fq_device *device)
{
	void *nobody = NULL;

	/* H4: pairs with fq_handle_free */
	return !fq_ptr_load_rlx(&slot->device) && fq_ptr_cas_acqrel(&slot->device, &nobody, device);
}

/*
 * Owners of different devices meet here. No lock: a child of fork would inherit it locked. Every slot
 * in turn, so that a generation comes round as late as possible.
 */
static struct fq_slot *take_slot(struct fq_device *device, uint64_t *index)
{
	uint64_t start = fq_load_rlx(&next_slot);

	for (uint64_t n = start; n < start + FQ_SLOTS; n++) {
		*index = n % FQ_SLOTS;
		if (take(&fq_slots[*index], device)) {
			fq_store_rlx(&next_slot, n + 1);
			return &fq_slots[*index];
		}
	}
	return NULL;
}

int fq_handle_create(struct fq_device *device, fq_handle_t *handle)
{
	uint64_t index;
	struct fq_slot *slot = take_slot(device, &index);

	if (!slot)
		return -ENFILE;
	next_generation(slot);
	*handle = fq_load_rlx(&slot->generation) << FQ_SLOT_BITS | index;
	return 0;
}

void fq_handle_revoke(fq_handle_t handle)
{
	next_generation(fq_handle_slot(handle));
}

void fq_handle_wait(fq_handle_t handle)
{
	struct fq_slot *slot = fq_handle_slot(handle);
	const struct timespec pause = {.tv_nsec = 50000};

	if (!fq_forked)
		urcu_memb_synchronize_rcu();
#ifdef FQ_TSAN
	__tsan_acquire(&fq_grace_tag);
#endif
	for (unsigned i = 0; i < FQ_SHARDS; i++) {
		while (fq_load_acq(&slot->shard[i].word) & FQ_READERS) /* H3 */
			nanosleep(&pause, NULL);
	}
}

void fq_handle_free(fq_handle_t handle)
{
	fq_ptr_store_rel(&fq_handle_slot(handle)->device, NULL); /* H4 */
}

void fq_handle_forget_readers(void)
{
	for (unsigned s = 0; s < FQ_SLOTS; s++) {
		for (unsigned i = 0; i < FQ_SHARDS; i++) {
			fq_a64 *word = &fq_slots[s].shard[i].word;
			uint64_t seen = fq_load_rlx(word);

			/* Most have none; those stay shared with the parent. */
			if (seen & FQ_READERS)
				fq_store_rlx(word, seen & ~FQ_READERS);
		}
	}
}
