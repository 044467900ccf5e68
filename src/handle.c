/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <time.h>

#include "handle.h"

struct fq_slot fq_slots[FQ_SLOTS];
#ifdef FQ_TSAN
char fq_grace_tag;
#endif

/* Owners of different devices meet here, at set-up only. */
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t next_slot;

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

/* Every slot in turn, so that a generation comes round as late as possible. */
static struct fq_slot *find_slot(uint32_t *index)
{
	for (uint32_t n = 0; n < FQ_SLOTS; n++) {
		*index = next_slot++ % FQ_SLOTS;
		if (!fq_slots[*index].device)
			return &fq_slots[*index];
	}
	return NULL;
}

int fq_handle_create(struct fq_device *device, fq_handle_t *handle)
{
	struct fq_slot *slot;
	uint32_t index;

	pthread_mutex_lock(&slots_lock);
	slot = find_slot(&index);
	if (slot)
		slot->device = device;
	pthread_mutex_unlock(&slots_lock);
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
	pthread_mutex_lock(&slots_lock);
	fq_handle_slot(handle)->device = NULL;
	pthread_mutex_unlock(&slots_lock);
}
