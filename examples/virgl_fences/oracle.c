/* SPDX-License-Identifier: MIT */
#include "oracle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

int oracle_init(struct oracle *o, unsigned timelines, unsigned depth)
{
	size_t bytes = timelines * sizeof(*o->timelines), count = 64;

	/* Room for all that is in flight, and as much again for what the driver has yet to check. */
	while (count < 4 * (size_t)depth)
		count *= 2;
	o->mask = count - 1;
	o->timelines = aligned_alloc(_Alignof(struct oracle_timeline), bytes);
	if (!o->timelines)
		return -ENOMEM;
	memset(o->timelines, 0, bytes);
	for (unsigned i = 0; i < timelines; i++) {
		o->timelines[i].fences = calloc(count, sizeof(struct oracle_fence));
		if (!o->timelines[i].fences)
			return -ENOMEM;
	}
	return 0;
}

bool oracle_submitted(struct oracle *o, unsigned timeline, uint64_t token)
{
	struct oracle_timeline *tl = &o->timelines[timeline];
	uint64_t n = atomic_load_explicit(&tl->submitted, memory_order_relaxed);

	if (n - atomic_load_explicit(&tl->completed, memory_order_acquire) > o->mask)
		return false;
	atomic_store_explicit(&tl->fences[n & o->mask].token, token, memory_order_relaxed);
	atomic_store_explicit(&tl->submitted, n + 1, memory_order_release);
	return true;
}

/* The comparison is modulo the width of the id that the callback carries. */
static void complete(struct oracle *o, unsigned timeline, uint64_t token, unsigned unused_bits)
{
	int64_t now = now_ns();
	struct oracle_timeline *tl = &o->timelines[timeline];
	uint64_t submitted = atomic_load_explicit(&tl->submitted, memory_order_acquire);
	uint64_t n = atomic_load_explicit(&tl->completed, memory_order_relaxed);

	for (; n != submitted; n++) {
		struct oracle_fence *fence = &tl->fences[n & o->mask];
		uint64_t own = atomic_load_explicit(&fence->token, memory_order_relaxed);

		if ((int64_t)((token - own) << unused_bits) < 0)
			break;
		atomic_store_explicit(&fence->completed_ns, now, memory_order_relaxed);
	}
	atomic_store_explicit(&tl->completed, n, memory_order_release);
}

void oracle_completed(struct oracle *o, unsigned timeline, uint64_t token)
{
	complete(o, timeline, token, 0);
}

void oracle_completed32(struct oracle *o, unsigned timeline, uint32_t token)
{
	complete(o, timeline, token, 32);
}

int64_t oracle_when(const struct oracle *o, unsigned timeline, uint64_t number)
{
	const struct oracle_timeline *tl = &o->timelines[timeline];

	if (number >= atomic_load_explicit(&tl->completed, memory_order_acquire))
		return 0;
	return atomic_load_explicit(&tl->fences[number & o->mask].completed_ns,
				    memory_order_relaxed);
}
