/* SPDX-License-Identifier: MIT */
#ifndef FQ_GATE_INTERNAL_H
#define FQ_GATE_INTERNAL_H

#include "gate_order.h"
#include "internal.h"

/*
 * The word is the top of a stack of what was left, and three bits.
 *
 *   free:   0, or OWED
 *   held:   HELD, with or without OWED and ASLEEP, any stack
 *   behind: OWED | BEHIND, any stack, and something in the backlog
 *
 *   free   -> held    (any thread: it is inside)
 *   held   -> held    (others: one more on the stack; a blocked enter only here)
 *                     (a timed enter, about to sleep: ASLEEP)
 *                     (the holder: takes the stack to the backlog, which is his)
 *                     (the holder, over his limit: OWED, then he pushes the node)
 *                     (the owner's node, which has run: not OWED)
 *   held   -> free    (the holder; with an empty stack only)
 *   held   -> behind  (the holder, over his limit; with an empty stack only)
 *   behind -> behind  (others: one more on the stack)
 *   behind -> held    (the owner's node: not OWED; a blocked enter: OWED stays, itself on the stack)
 *   free   -> free    (the owner's node: not OWED)
 * A gate that is handed over stays held; nobody sees it in the word.
 *
 * Impossible: free with something on the stack or in the backlog; behind without OWED, that is,
 * without the node on its way to the queue's owner; behind with a blocked enter on the stack or in
 * the backlog, for that one may be the owner.
 *
 * So whoever leaves something does it by the same compare-and-swap that finds a holder, who cannot
 * let go without seeing it, or finds the gate behind, whose owner cannot miss it. The node is pushed
 * by the holder before he lets go: nobody relies on what a thread outside of the gate is about to do,
 * and the holder's last access is the one that lets others in. If the node runs in between it finds
 * the gate held and only takes OWED away, whereupon the holder cannot let go without pushing again.
 *
 * A host's lock is taken before HELD is set, and dropped after it is cleared. A thread that finds the
 * lock taken and the gate not held cannot tell an unaware holder from an aware one on his way in or
 * out. It makes no difference: neither will look at the stack, so the operation is not put there but
 * lent to the owner of the queue, by its own node, who waits for the lock. If the gate is held after
 * all the compare-and-swap says so, and a holder who lets go in between makes it fail. While anything
 * is lent, what comes next is lent, too, or it would come first.
 */
#define HELD 1u
#define OWED 2u   /* the node is on its way to the queue's owner */
#define ASLEEP 4u /* with HELD: somebody sleeps on the word */
#define BEHIND 4u /* without */
#define TAGS 7u

enum {
	RUN,
	TELL,
	WAIT,
};

enum {
	ENTERED,
	DELEGATED,
	TOLD,
	HANDED_OVER,
	FELL_BEHIND,
	LENT,
	RECURSIONS,
	DISORDERS,
};

#define LIMIT_DEFAULT 64u

/* A blocked enter, on the stack of its thread. */
struct waiter {
	struct fq_gate_op op;
	struct fq_event event;
	void *self;
};

static inline struct fq_gate_op *fq_gate_stack_of(uint64_t word)
{
	return (struct fq_gate_op *)(uintptr_t)(word & ~(uint64_t)TAGS);
}

static inline uint64_t fq_gate_with_top(uint64_t word, const struct fq_gate_op *top)
{
	return (word & TAGS) | (uint64_t)(uintptr_t)top;
}

static inline bool fq_gate_is_free(uint64_t word)
{
	return !(word & (HELD | BEHIND));
}

static inline void fq_gate_count(struct fq_gate *gate, unsigned what)
{
	fq_count(fq_atomic(&gate->count[what]));
}

static inline void fq_gate_count_holder(struct fq_gate *gate, unsigned what)
{
	fq_count_owner(fq_atomic(&gate->count[what]), 1);
}

/* -- the host's lock --------------------------------------------------------------------------- */

static inline bool fq_gate_is_hosted(const struct fq_gate *gate)
{
	return gate->host.lock;
}

static inline bool fq_gate_host_adopt(struct fq_gate *gate)
{
	if (!gate->host.held || !gate->host.held(gate->host.opaque))
		return false;
	gate->adopted = true;
	return true;
}

static inline bool fq_gate_host_try_lock(struct fq_gate *gate)
{
	if (fq_gate_host_adopt(gate))
		return true;
	if (!gate->host.try_lock(gate->host.opaque))
		return false;
	gate->adopted = false;
	return true;
}

static inline void fq_gate_host_lock(struct fq_gate *gate)
{
	if (!fq_gate_is_hosted(gate) || fq_gate_host_adopt(gate))
		return;
	gate->host.lock(gate->host.opaque);
	gate->adopted = false;
}

static inline void fq_gate_host_unlock(const struct fq_gate_host *host, bool adopted)
{
	if (host->unlock && !adopted)
		host->unlock(host->opaque);
}

/* To be called by whoever has just become the holder, and by nobody else. */
static inline void fq_gate_entered(struct fq_gate *gate)
{
	fq_store_rlx(fq_atomic(&gate->holder), (uintptr_t)fq_thread_self());
	fq_order_entered(gate->order);
	fq_gate_count_holder(gate, ENTERED);
}

/* gate_leave.c: the holder's */

/* Inside, but for what was left before @self in the backlog. */
void fq_gate_serve_up_to(struct fq_gate *gate, const struct fq_gate_op *self);
/* Runs what was left, as far as it goes, and lets go. The gate may be gone afterwards. */
void fq_gate_let_go(struct fq_gate *gate);
/* gate->node, on the owner of the queue. */
void fq_gate_run_owed(struct fq_node *node);

#endif /* FQ_GATE_INTERNAL_H */
