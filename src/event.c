/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "park.h"

/*
 * The lower half of the word is the state, the upper half the status.
 *
 *   unset  -> awaited  (waiter, about to sleep)
 *   unset, awaited -> set  (setter; his last access)
 *   any    -> over     (fq_event_fini)
 * Impossible: set -> unset, set -> awaited; an event that is used again is initialised.
 */
enum {
	UNSET,
	AWAITED,
	SET,
	OVER,
};

static uint32_t state_of(uint64_t word)
{
	return (uint32_t)word;
}

void fq_event_init(struct fq_event *event)
{
	fq_store_rel(fq_atomic(&event->word), UNSET);
}

int fq_event_set(struct fq_event *event, int status)
{
	fq_a64 *word = event ? fq_atomic(&event->word) : NULL;
	uint64_t seen;

	if (!event)
		return -EINVAL;
	seen = fq_load_rlx(word);
	do {
		if (state_of(seen) == SET)
			return -EALREADY;
		if (state_of(seen) == OVER)
			return -EINVAL;
		/* E1: pairs with fq_event_wait. The event may be gone from here on. */
	} while (!fq_cas_acqrel(word, &seen, (uint64_t)(uint32_t)status << 32 | SET));
	if (state_of(seen) == AWAITED)
		fq_park_wake(word);
	return 0;
}

int fq_event_wait(struct fq_event *event, int64_t timeout_ns, int *status)
{
	fq_a64 *word = event ? fq_atomic(&event->word) : NULL;
	int64_t until = 0;
	uint64_t seen;
	int err = 0;

	if (!event)
		return -EINVAL;
	while (state_of(seen = fq_load_acq(word)) <= AWAITED) { /* E1 */
		if (err || !timeout_ns)
			return -ETIMEDOUT;
		if (!until)
			until = fq_until(timeout_ns);
		if (state_of(seen) == AWAITED || fq_cas_acqrel(word, &seen, AWAITED))
			err = fq_park_wait(word, AWAITED, until);
	}
	if (state_of(seen) == OVER)
		return -EINVAL;
	if (status)
		*status = (int)(seen >> 32);
	return 0;
}

bool fq_event_is_set(const struct fq_event *event)
{
	return state_of(fq_load_acq(fq_atomic_const(&event->word))) == SET; /* E1 */
}

void fq_event_fini(struct fq_event *event)
{
	fq_store_rel(fq_atomic(&event->word), OVER);
	fq_park_wake(fq_atomic(&event->word));
}
