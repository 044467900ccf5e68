/* SPDX-License-Identifier: MIT */

/* fenceq: a node in every request, fq_queue_push(), an owner that uses the hooks. */

#include <stdlib.h>

#include <fenceq/fenceq.h>

#include "peer.h"

struct state;

struct request {
	_Alignas(PEER_LINE) struct fq_node node;
	struct state *owner;
	uint64_t value;
};

struct state {
	struct peer_seen seen;
	struct peer_round round;
	struct fq_queue *queue;
	struct request *requests;
};

static void run(struct fq_node *node)
{
	struct request *request = (struct request *)node; /* its first member */

	peer_handle(&request->owner->seen, request->value);
}

static void teardown(struct peer_seen *self)
{
	struct state *s = (struct state *)self;

	fq_queue_destroy(s->queue);
	free(s->requests);
	free(s);
}

static struct peer_seen *setup(const struct peer_round *round)
{
	struct state *s = peer_alloc(sizeof(*s));

	if (!s)
		return NULL;
	s->round = *round;
	s->requests = peer_alloc(round->posters * round->items * sizeof(*s->requests));
	if (!s->requests || fq_queue_create(&s->queue, FQ_QUEUE_HOOKS)) {
		teardown(&s->seen);
		return NULL;
	}
	for (unsigned p = 0; p < round->posters; p++)
		for (uint64_t k = 0; k < round->items; k++)
			s->requests[p * round->items + k] = (struct request){
				.node.run = run,
				.owner = s,
				.value = peer_value(round, p, k),
			};
	return &s->seen;
}

static void post(struct peer_seen *self, unsigned poster, uint64_t first, uint64_t count)
{
	struct state *s = (struct state *)self;
	struct request *request = s->requests + poster * s->round.items + first;

	for (; count; count--, request++)
		fq_queue_push(s->queue, &request->node);
}

static void drain(struct peer_seen *self)
{
	(void)fq_queue_poll(((struct state *)self)->queue, FQ_NO_BUDGET);
}

static void wait(struct peer_seen *self, int64_t timeout_ns)
{
	(void)fq_queue_wait(((struct state *)self)->queue, timeout_ns);
}

static uint64_t writes(struct peer_seen *self)
{
	struct fq_queue_stats stats;

	fq_queue_get_stats(((struct state *)self)->queue, &stats);
	return stats.notifier_writes;
}

const struct peer peer_fenceq_node = {
	.name = "fenceq_node",
	.setup = setup,
	.post = post,
	.drain = drain,
	.wait = wait,
	.writes = writes,
	.teardown = teardown,
};
