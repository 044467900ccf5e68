/* SPDX-License-Identifier: MIT */
#ifndef FQ_HANDLE_H
#define FQ_HANDLE_H

/*
 * Handles and the poster's read side.
 *
 * A handle is the index of a slot and the generation in which the slot was given out; odd
 * generations are alive. Slots are static, so that a stale handle always has one to be compared
 * with. Two ways in:
 * - registered threads: liburcu's read side, then the slot's generation;
 * - others: a read-modify-write of one of the slot's shards, which counts the reader and returns
 *   the generation in the same word, so that no reader is counted after the generation changed
 *   and let in: the owner changes it, then waits until the count is 0.
 */

#include <errno.h>

#include "internal.h"

/*
 * ThreadSanitizer knows nothing of liburcu's grace periods: its inlined read side would be reported,
 * so it is called, and what the grace period orders is declared.
 */
#ifdef FQ_TSAN
#undef _LGPL_SOURCE
void __tsan_acquire(void *tag);
void __tsan_release(void *tag);
#endif
#include <urcu/urcu-memb.h>

#define FQ_SLOT_BITS 10
#define FQ_SLOTS (1u << FQ_SLOT_BITS)
#define FQ_SHARDS 8u

/* Readers inside at one time, in each shard: a million. */
#define FQ_READER_BITS 20
#define FQ_READERS ((UINT64_C(1) << FQ_READER_BITS) - 1)

/* What is left in the shard's word; on 32-bit hosts what is left of a uintptr_t. */
#define FQ_GENERATION_BITS (UINTPTR_MAX > UINT32_MAX ? 64 - FQ_READER_BITS : 32 - FQ_SLOT_BITS)
#define FQ_GENERATION_MASK ((UINT64_C(1) << FQ_GENERATION_BITS) - 1)

struct fq_shard {
	alignas(FQ_CACHELINE) fq_a64 word; /* generation << FQ_READER_BITS | readers */
};

struct fq_slot {
	alignas(FQ_CACHELINE) fq_a64 generation;
	fq_aptr device; /* struct fq_device *; constant while the generation is odd */
	struct fq_shard shard[FQ_SHARDS];
};

struct fq_self {
	uint32_t registrations;
	uint32_t shard; /* 1 .. FQ_SHARDS, 0: none yet */
	bool rcu;       /* its posts are under liburcu; else counted */
	bool ours;      /* registered with liburcu by us, not by the host */
};

struct fq_read {
	struct fq_device *device;
	struct fq_shard *shard; /* NULL: under liburcu */
};

extern struct fq_slot fq_slots[FQ_SLOTS];
#ifdef FQ_TSAN
extern char fq_grace_tag;
#endif
extern __thread struct fq_self fq_self;
extern bool fq_forked; /* liburcu's registry names threads that are not here: stay away from it */

uint32_t fq_choose_shard(void);
void fq_count_refused(int err);

/* Owner: gives out a slot (-ENFILE), takes it back, waits until nobody is inside. */
int fq_handle_create(struct fq_device *device, fq_handle_t *handle);
void fq_handle_revoke(fq_handle_t handle);
void fq_handle_wait(fq_handle_t handle);
void fq_handle_free(fq_handle_t handle);
/* In a forked child, whose only thread is no reader: whoever is counted is not here. */
void fq_handle_forget_readers(void);

static inline uint64_t fq_handle_generation(fq_handle_t handle)
{
	return handle >> FQ_SLOT_BITS;
}

static inline struct fq_slot *fq_handle_slot(fq_handle_t handle)
{
	return &fq_slots[handle & (FQ_SLOTS - 1)];
}

static inline int fq_read_registered(struct fq_slot *slot, uint64_t generation)
{
	urcu_memb_read_lock();
	if (fq_load_acq(&slot->generation) == generation) /* H1: pairs with fq_handle_create */
		return 0;
	urcu_memb_read_unlock();
	return -ENODEV;
}

static inline bool fq_shard_is(uint64_t word, uint64_t generation)
{
	return (word >> FQ_READER_BITS & FQ_GENERATION_MASK) == generation;
}

static inline int fq_read_unknown(struct fq_slot *slot, uint64_t generation, struct fq_read *read)
{
	read->shard = &slot->shard[(fq_self.shard ? fq_self.shard : fq_choose_shard()) - 1];
	/*
	 * Posters that hammer a stale handle are not even counted, or the owner would never find the
	 * count at 0.
	 */
	if (!fq_shard_is(fq_load_rlx(&read->shard->word), generation))
		return -ENODEV;
	/* H2: acquire pairs with fq_handle_create; release with fq_handle_revoke */
	if (fq_shard_is(fq_add_acqrel(&read->shard->word, 1), generation))
		return 0;
	fq_add_rel(&read->shard->word, (uint64_t)-1);
	return -ENODEV;
}

static inline void fq_read_end(struct fq_read *read)
{
	if (read->shard) {
		fq_add_rel(&read->shard->word, (uint64_t)-1); /* H3: pairs with fq_handle_wait */
		return;
	}
#ifdef FQ_TSAN
	__tsan_release(&fq_grace_tag);
#endif
	urcu_memb_read_unlock();
}

static inline int fq_read_begin(fq_handle_t handle, struct fq_read *read)
{
	uint64_t generation = fq_handle_generation(handle);
	struct fq_slot *slot = fq_handle_slot(handle);
	int err;

	read->shard = NULL;
	if (!(generation & 1) || generation > FQ_GENERATION_MASK)
		err = -EINVAL;
	else if (fq_self.rcu)
		err = fq_read_registered(slot, generation);
	else
		err = fq_read_unknown(slot, generation, read);
	if (err)
		fq_count_refused(err);
	read->device = err ? NULL : fq_ptr_load_rlx(&slot->device);
	return err;
}

#endif /* FQ_HANDLE_H */
