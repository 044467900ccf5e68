/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "request_internal.h"

/*
 * How a request that is over gets back to its host. The word `via` of the request:
 *
 *   UNDECIDED -> DIRECT  (whoever ended it: sets the event, the last access)
 *   UNDECIDED -> QUEUED  (the owner, about to wait: it wants to be woken through its queue)
 *   ARMING    -> QUEUED  (owner, in arm: the deadline is set)
 *   ARMING    -> ENDED   (whoever ended it before the owner came to arm: arm goes on with it)
 *   QUEUED from the start where there is a callback and no time-out
 * Impossible: any other; DIRECT and ENDED are final.
 *
 * In QUEUED whoever ends the request pushes its node; in ARMING the submitter does, and is thus the
 * only one to touch the node. Either way the node runs on the owner, once.
 */
enum {
	UNDECIDED,
	DIRECT,
	QUEUED,
	ARMING,
	ENDED,
};

/* Drained at a time by an owner that waits, between two looks at its request and the clock. */
#define WAIT_BUDGET 64u

static bool move(struct fq_request *req, uint64_t from, uint64_t to)
{
	return fq_cas_acqrel(fq_atomic(&req->via), &from, to); /* K5 */
}

void fq_request_hand_back(struct fq_queue *q, struct fq_request *req)
{
	/* K5: how it ended comes before */
	if (move(req, UNDECIDED, DIRECT))
		(void)fq_event_set(&req->over, 0);
	else if (!move(req, ARMING, ENDED))
		fq_queue_push(q, &req->node);
}

/* Owner. */
static void deliver(struct fq_node *node)
{
	struct fq_request *req = fq_container_of(node, struct fq_request, node);
	struct fq_request_table *t = req->table;

	if (!req->done) {
		(void)fq_event_set(&req->over, 0);
		return;
	}
	(void)fq_deadline_cancel(&req->deadline);
	req->table = NULL;
	/* The callback may destroy the table. */
	fq_request_leave(t);
	req->done(req);
}

static void give_up(struct fq_request *req)
{
	(void)fq_request_end(req, -ETIMEDOUT, &req->table->timed_out);
}

static void time_out(struct fq_deadline *deadline)
{
	give_up(fq_container_of(deadline, struct fq_request, deadline));
}

/* Owner. */
static void arm(struct fq_node *node)
{
	struct fq_request *req = fq_container_of(node, struct fq_request, node);
	int64_t left = fq_left(req->until_ns);

	node->run = deliver;
	req->deadline = (struct fq_deadline){.run = time_out};
	/* Set before the move: after it, the node may be on its way already. */
	if (left >= 0)
		(void)fq_deadline_set(req->table->queue, &req->deadline, left);
	if (!move(req, ARMING, QUEUED)) /* K5 */
		deliver(node);
}

bool fq_request_choose_way(struct fq_request *req)
{
	bool arming = req->done && req->timeout_ns > 0;

	fq_event_init(&req->over);
	req->node.run = arming ? arm : deliver;
	req->until_ns = arming ? fq_until(req->timeout_ns) : INT64_MAX;
	req->deadline.at_ns = 0;
	fq_store_rlx(fq_atomic(&req->via), arming ? ARMING : req->done ? QUEUED : UNDECIDED);
	return arming;
}

/* -- waiting ----------------------------------------------------------------------------------- */

/*
 * The owner's. Whoever ends the request wakes it by way of the queue; if that is done already, what
 * is left to be done is setting the event.
 */
static void wait_draining(struct fq_request *req, struct fq_queue *q, int64_t until)
{
	if (!move(req, UNDECIDED, QUEUED)) {
		(void)fq_event_wait(&req->over, -1, NULL);
		return;
	}
	for (;;) {
		unsigned ran = fq_queue_drain(q, WAIT_BUDGET);
		int64_t left;

		if (fq_event_is_set(&req->over))
			return;
		left = fq_left(until);
		if (!left) {
			give_up(req);
			until = INT64_MAX; /* whoever ended it is handing it back */
		} else if (!ran) {
			(void)fq_queue_wait(q, left);
		}
	}
}

static void sleep_for(struct fq_request *req, int64_t timeout_ns)
{
	if (!fq_event_wait(&req->over, timeout_ns, NULL))
		return;
	give_up(req);
	(void)fq_event_wait(&req->over, -1, NULL);
}

static void wait_sleeping(struct fq_request *req, int64_t timeout_ns,
			  const struct fq_wait_hooks *hooks)
{
	if (fq_event_is_set(&req->over))
		return;
	if (hooks && hooks->release)
		hooks->release(hooks->opaque);
	sleep_for(req, timeout_ns);
	if (hooks && hooks->retake)
		hooks->retake(hooks->opaque);
}

static bool may_drain(const struct fq_queue *q, const struct fq_wait_hooks *hooks)
{
	if (hooks && hooks->may_drain)
		return hooks->may_drain(hooks->opaque);
	return fq_queue_is_owner(q);
}

int fq_request_wait(struct fq_request *req, int64_t timeout_ns, const struct fq_wait_hooks *hooks)
{
	struct fq_request_table *t = req ? req->table : NULL;

	if (!t || req->done)
		return -EINVAL;
	if (may_drain(t->queue, hooks))
		wait_draining(req, t->queue, fq_until(timeout_ns));
	else
		wait_sleeping(req, timeout_ns, hooks);
	req->table = NULL;
	fq_request_leave(t);
	return req->status;
}
