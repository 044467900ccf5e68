/* SPDX-License-Identifier: MIT */

/*
 * liburcu's wfcqueue with an eventfd, at its best:
 * - everything inlined (_LGPL_SOURCE), no dequeue lock: the owner is the only consumer;
 * - the owner takes all there is with one splice;
 * - only the enqueue that finds the queue empty looks at the "sleeping" flag. That is enough: the
 *   owner announces its sleep, and then looks at the queue once more, so an enqueue that found it
 *   non-empty came after one that either was seen by that look or has the wake-up to do. The
 *   exchange inside enqueue is the barrier between the queue and the flag, so there is no other;
 *   and one enqueue at most can find the queue empty between two splices, so the flag needs no
 *   atomic test-and-clear;
 * - iteration is the non-blocking kind: where wfcqueue's own blocking calls would sleep 10 ms for a
 *   poster that was preempted between its exchange and its store, the owner here spins and yields.
 * - the handler is inlined, where fenceq calls it through a pointer.
 * What it cannot do: a poster stopped inside enqueue hides everybody else's posts, and one stopped
 * before its wake-up leaves the owner asleep.
 */

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include <urcu/arch.h>
#include <urcu/compiler.h>
#include <urcu/system.h>
#include <urcu/uatomic.h>
#include <urcu/wfcqueue.h>

#include "peer.h"

#define SPINS 64

struct request {
	_Alignas(PEER_LINE) struct cds_wfcq_node node;
	uint64_t value;
};

struct state {
	struct peer_seen seen;
	struct peer_round round;
	struct request *requests;
	uint64_t *writes; /* one line for each poster */
	int fd;
	_Alignas(PEER_LINE) struct __cds_wfcq_head head;
	_Alignas(PEER_LINE) struct cds_wfcq_tail tail;
	_Alignas(PEER_LINE) int sleeping;
};

static void teardown(struct peer_seen *self)
{
	struct state *s = (struct state *)self;

	if (s->fd >= 0)
		close(s->fd);
	free(s->writes);
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
	s->writes = peer_alloc((size_t)round->posters * PEER_LINE);
	s->fd = peer_eventfd();
	if (!s->requests || !s->writes || s->fd < 0) {
		teardown(&s->seen);
		return NULL;
	}
	__cds_wfcq_init(&s->head, &s->tail);
	for (unsigned p = 0; p < round->posters; p++)
		for (uint64_t k = 0; k < round->items; k++)
			s->requests[p * round->items + k].value = peer_value(round, p, k);
	return &s->seen;
}

static void post(struct peer_seen *self, unsigned poster, uint64_t first, uint64_t count)
{
	struct state *s = (struct state *)self;
	struct request *request = s->requests + poster * s->round.items + first;

	for (; count; count--, request++) {
		cds_wfcq_node_init(&request->node);
		if (caa_unlikely(!cds_wfcq_enqueue(&s->head, &s->tail, &request->node)) &&
		    CMM_LOAD_SHARED(s->sleeping)) {
			s->writes[poster * (PEER_LINE / sizeof(uint64_t))]++;
			peer_eventfd_set(s->fd);
		}
	}
}

static void pause_owner(unsigned *spins)
{
	if (++*spins < SPINS) {
		caa_cpu_relax();
	} else {
		*spins = 0;
		sched_yield();
	}
}

static struct cds_wfcq_node *next_node(struct __cds_wfcq_head *head, struct cds_wfcq_tail *tail,
				       struct cds_wfcq_node *node)
{
	struct cds_wfcq_node *next;
	unsigned spins = 0;

	do {
		next = node ? __cds_wfcq_next_nonblocking(head, tail, node)
			    : __cds_wfcq_first_nonblocking(head, tail);
		if (caa_likely(next != CDS_WFCQ_WOULDBLOCK))
			return next;
		pause_owner(&spins);
	} while (true);
}

static void drain(struct peer_seen *self)
{
	struct state *s = (struct state *)self;
	struct __cds_wfcq_head head;
	struct cds_wfcq_tail tail;
	struct cds_wfcq_node *node;
	enum cds_wfcq_ret ret;
	unsigned spins = 0;

	__cds_wfcq_init(&head, &tail);
	while ((ret = __cds_wfcq_splice_nonblocking(&head, &tail, &s->head, &s->tail)) ==
	       CDS_WFCQ_RET_WOULDBLOCK)
		pause_owner(&spins);
	if (ret == CDS_WFCQ_RET_SRC_EMPTY)
		return;
	for (node = next_node(&head, &tail, NULL); node;) {
		struct request *request = caa_container_of(node, struct request, node);

		node = next_node(&head, &tail, node);
		peer_handle(&s->seen, request->value);
	}
}

static void wait(struct peer_seen *self, int64_t timeout_ns)
{
	struct state *s = (struct state *)self;

	CMM_STORE_SHARED(s->sleeping, 1);
	cmm_smp_mb();
	if (cds_wfcq_empty(&s->head, &s->tail))
		peer_eventfd_sleep(s->fd, timeout_ns);
	CMM_STORE_SHARED(s->sleeping, 0);
}

static uint64_t writes(struct peer_seen *self)
{
	struct state *s = (struct state *)self;
	uint64_t sum = 0;

	for (unsigned p = 0; p < s->round.posters; p++)
		sum += s->writes[p * (PEER_LINE / sizeof(uint64_t))];
	return sum;
}

const struct peer peer_wfcqueue = {
	.name = "wfcqueue",
	.setup = setup,
	.post = post,
	.drain = drain,
	.wait = wait,
	.writes = writes,
	.teardown = teardown,
};
