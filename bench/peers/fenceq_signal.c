/* SPDX-License-Identifier: MIT */

/*
 * fenceq: fq_signal() by handle, context and ring, once for every fence; from threads that
 * registered themselves, and from threads the library has never heard of. Timelines as for
 * fenceq_mark.
 */

#include "fenceq_mark.h"

static struct peer_seen *setup(const struct peer_round *round)
{
	return timelines_setup(round, false);
}

static void enter(struct peer_seen *self, unsigned poster)
{
	(void)self;
	(void)poster;
	(void)fq_thread_register();
}

static void leave(struct peer_seen *self, unsigned poster)
{
	(void)self;
	(void)poster;
	(void)fq_thread_unregister();
}

static void post(struct peer_seen *self, unsigned poster, uint64_t first, uint64_t count)
{
	struct timelines *t = (struct timelines *)self;
	const uint64_t *token = t->tokens + poster * t->round.items + first;
	const fq_handle_t handle = t->handle;
	const uint32_t ctx = timelines_ctx(t, poster);
	const uint32_t ring = timelines_ring(t, poster);

	for (; count; count--, token++)
		(void)fq_signal(handle, ctx, ring, *token);
}

const struct peer peer_fenceq_signal = {
	.name = "fenceq_signal",
	.setup = setup,
	.enter = enter,
	.leave = leave,
	.post = post,
	.drain = timelines_drain,
	.wait = timelines_wait,
	.writes = timelines_writes,
	.teardown = timelines_teardown,
};

const struct peer peer_fenceq_signal_unregistered = {
	.name = "fenceq_signal_unregistered",
	.setup = setup,
	.post = post,
	.drain = timelines_drain,
	.wait = timelines_wait,
	.writes = timelines_writes,
	.teardown = timelines_teardown,
};
