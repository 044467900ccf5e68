/* SPDX-License-Identifier: MIT */
#ifndef BENCH_PEERS_FENCEQ_MARK_H
#define BENCH_PEERS_FENCEQ_MARK_H

/*
 * What the two timeline peers share: a device whose fences were all submitted before the clock
 * runs, as a guest's commands are before its renderer completes them. The other peers are not
 * charged for their requests either; each fence is retired by a call of its own within the time.
 */

#include <fenceq/fenceq.h>

#include "peer.h"

struct timelines {
	struct peer_seen seen;
	struct peer_round round;
	struct fq_queue *queue;
	struct fq_device *device;
	fq_handle_t handle;
	struct fq_fence *fences;       /* item k of poster p is [p * items + k] */
	uint64_t *tokens;              /* likewise: what the renderer was given */
	struct fq_timeline **timeline; /* of each poster */
	bool shared;
};

/* Each poster completes a ring of a context of its own; with `shared` all complete one ring. */
static inline uint32_t timelines_ctx(const struct timelines *t, unsigned poster)
{
	return t->shared ? 1 : 1 + poster;
}

static inline uint32_t timelines_ring(const struct timelines *t, unsigned poster)
{
	return t->shared ? 1 : poster % FQ_RINGS;
}

struct peer_seen *timelines_setup(const struct peer_round *round, bool shared);
void timelines_drain(struct peer_seen *self);
void timelines_wait(struct peer_seen *self, int64_t timeout_ns);
uint64_t timelines_writes(struct peer_seen *self);
void timelines_teardown(struct peer_seen *self);

#endif /* BENCH_PEERS_FENCEQ_MARK_H */
