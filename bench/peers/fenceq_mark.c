/* SPDX-License-Identifier: MIT */

/*
 * fenceq: fq_timeline_signal() on a timeline that the poster holds, once for every fence. Each
 * poster has a timeline of its own; in the "shared" variant all signal the same one, each every
 * n-th fence of it.
 */

#include <stdlib.h>

#include "fenceq_mark.h"

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	struct timelines *t = opaque;

	if (!status)
		peer_handle(&t->seen, fence->fence_id);
}

static int create_device(struct timelines *t)
{
	struct fq_device_config config = {.retire = retire, .opaque = t};
	int err = fq_queue_create(&t->queue, FQ_QUEUE_HOOKS);

	config.queue = t->queue;
	if (!err)
		err = fq_device_create(&t->device, &config);
	if (!err)
		t->handle = fq_device_handle(t->device);
	for (unsigned p = 0; p < t->round.posters && !err; p++)
		err = fq_device_timeline(t->device, timelines_ctx(t, p), timelines_ring(t, p),
					 &t->timeline[p]);
	return err;
}

/* In the order in which the posters, side by side, will complete them. */
static int submit_all(struct timelines *t)
{
	for (uint64_t k = 0; k < t->round.items; k++) {
		for (unsigned p = 0; p < t->round.posters; p++) {
			uint64_t i = p * t->round.items + k;
			struct fq_fence *fence = &t->fences[i];
			int err;

			fence->fence_id = peer_value(&t->round, p, k);
			err = fq_submit(t->device, timelines_ctx(t, p), timelines_ring(t, p),
					fence);
			if (err)
				return err;
			t->tokens[i] = fence->token;
		}
	}
	return 0;
}

struct peer_seen *timelines_setup(const struct peer_round *round, bool shared)
{
	struct timelines *t = peer_alloc(sizeof(*t));
	uint64_t all = round->posters * round->items;

	if (!t)
		return NULL;
	t->round = *round;
	t->shared = shared;
	t->fences = peer_alloc(all * sizeof(*t->fences));
	t->tokens = peer_alloc(all * sizeof(*t->tokens));
	t->timeline = peer_alloc(round->posters * sizeof(struct fq_timeline *));
	if (!t->fences || !t->tokens || !t->timeline || create_device(t) || submit_all(t)) {
		timelines_teardown(&t->seen);
		return NULL;
	}
	return &t->seen;
}

void timelines_drain(struct peer_seen *self)
{
	(void)fq_queue_poll(((struct timelines *)self)->queue, FQ_NO_BUDGET);
}

void timelines_wait(struct peer_seen *self, int64_t timeout_ns)
{
	(void)fq_queue_wait(((struct timelines *)self)->queue, timeout_ns);
}

uint64_t timelines_writes(struct peer_seen *self)
{
	struct fq_queue_stats stats;

	fq_queue_get_stats(((struct timelines *)self)->queue, &stats);
	return stats.notifier_writes;
}

void timelines_teardown(struct peer_seen *self)
{
	struct timelines *t = (struct timelines *)self;

	fq_device_destroy(t->device);
	fq_queue_destroy(t->queue);
	free(t->timeline);
	free(t->tokens);
	free(t->fences);
	free(t);
}

static struct peer_seen *setup(const struct peer_round *round)
{
	return timelines_setup(round, false);
}

static struct peer_seen *setup_shared(const struct peer_round *round)
{
	return timelines_setup(round, true);
}

static void post(struct peer_seen *self, unsigned poster, uint64_t first, uint64_t count)
{
	struct timelines *t = (struct timelines *)self;
	struct fq_timeline *timeline = t->timeline[poster];
	const uint64_t *token = t->tokens + poster * t->round.items + first;

	for (; count; count--, token++)
		(void)fq_timeline_signal(timeline, *token);
}

const struct peer peer_fenceq_mark = {
	.name = "fenceq_mark",
	.setup = setup,
	.post = post,
	.drain = timelines_drain,
	.wait = timelines_wait,
	.writes = timelines_writes,
	.teardown = timelines_teardown,
};

const struct peer peer_fenceq_mark_shared = {
	.name = "fenceq_mark_shared",
	.setup = setup_shared,
	.post = post,
	.drain = timelines_drain,
	.wait = timelines_wait,
	.writes = timelines_writes,
	.teardown = timelines_teardown,
};
