/* SPDX-License-Identifier: MIT */
#include "gate_internal.h"
#include "park.h"

/* What the holder does with what was left, and how he lets go. */

/* -- what was left ------------------------------------------------------------------------------ */

/* Takes the stack to the end of the backlog, oldest first. */
static void collect(struct fq_gate *gate)
{
	fq_a64 *word = fq_atomic(&gate->word);
	uint64_t seen = fq_load_rlx(word);
	struct fq_gate_op *op, *oldest = NULL, *newest;

	if (!fq_gate_stack_of(seen))
		return;
	while (!fq_cas_acqrel(word, &seen, seen & TAGS)) /* G1 */
		;
	newest = op = fq_gate_stack_of(seen);
	while (op) {
		struct fq_gate_op *next = op->next;

		gate->waiters += op->kind == WAIT;
		op->next = oldest;
		oldest = op;
		op = next;
	}
	*gate->last = oldest;
	gate->last = &newest->next;
}

static struct fq_gate_op *first(struct fq_gate *gate)
{
	if (!gate->first)
		collect(gate);
	return gate->first;
}

static struct fq_gate_op *take_first(struct fq_gate *gate)
{
	struct fq_gate_op *op = first(gate);

	gate->first = op->next;
	if (!gate->first)
		gate->last = &gate->first;
	gate->waiters -= op->kind == WAIT;
	return op;
}

static void tell_later(struct fq_gate *gate, struct fq_gate_op *op)
{
	if (!gate->told)
		gate->told_last = &gate->told;
	op->next = NULL;
	*gate->told_last = op;
	gate->told_last = &op->next;
	fq_gate_count_holder(gate, TOLD);
}

/* The operation may be gone afterwards. */
static void serve(struct fq_gate *gate, struct fq_gate_op *op)
{
	if (op->kind == TELL) {
		tell_later(gate, op);
		return;
	}
	fq_gate_count_holder(gate, DELEGATED);
	op->run(op);
}

void fq_gate_serve_up_to(struct fq_gate *gate, const struct fq_gate_op *self)
{
	struct fq_gate_op *op;

	gate->serving = true;
	while ((op = take_first(gate)) != self)
		serve(gate, op);
	gate->serving = false;
}

/* -- letting go --------------------------------------------------------------------------------- */

/*
 * False: something was left, or the owner's node ran, since the word was seen. True: the gate may be
 * gone.
 */
static bool drop(struct fq_gate *gate, uint64_t seen, uint64_t becomes)
{
	const struct fq_gate_host host = gate->host;
	const bool adopted = gate->adopted;
	const int order = gate->order;
	fq_a64 *word = fq_atomic(&gate->word);

	gate->serving = false;
	fq_store_rlx(fq_atomic(&gate->holder), 0);
	if (!fq_cas_acqrel(word, &seen, becomes)) { /* G2 */
		fq_store_rlx(fq_atomic(&gate->holder), (uintptr_t)fq_thread_self());
		gate->serving = true;
		return false;
	}
	if (seen & ASLEEP)
		fq_park_wake(word);
	fq_gate_host_unlock(&host, adopted);
	fq_order_left(order);
	return true;
}

static void run_told(struct fq_node *node)
{
	struct fq_gate_op *op = fq_container_of(node, struct fq_gate_op, node);

	op->run(op);
}

/* Nothing is left: the gate becomes free. */
static bool set_free(struct fq_gate *gate)
{
	uint64_t seen = fq_load_rlx(fq_atomic(&gate->word));
	struct fq_gate_op *told = gate->told;

	if (fq_gate_stack_of(seen))
		return false;
	gate->told = NULL;
	if (!drop(gate, seen, seen & OWED)) {
		gate->told = told;
		return false;
	}
	while (told) {
		struct fq_gate_op *op = told;

		told = op->next;
		op->node.run = run_told;
		fq_queue_push(op->queue, &op->node);
	}
	return true;
}

/* Over the limit, and nobody is blocked: the rest is the owner's. */
static bool fall_behind(struct fq_gate *gate)
{
	fq_a64 *word = fq_atomic(&gate->word);
	uint64_t seen = fq_load_rlx(word);

	if (!(seen & OWED)) {
		if (fq_cas_acqrel(word, &seen, seen | OWED)) { /* G2: the node is off the queue */
			fq_gate_count_holder(gate, FELL_BEHIND);
			fq_queue_push(gate->queue, &gate->node);
		}
		return false;
	}
	if (fq_gate_stack_of(seen)) {
		collect(gate);
		return false;
	}
	return drop(gate, seen, OWED | BEHIND);
}

/* To the first that is blocked, who runs what stands before it; what stands behind goes with it. */
static void hand_over(struct fq_gate *gate)
{
	struct fq_gate_op *op = gate->first;
	const int order = gate->order;
	struct waiter *w;

	while (op->kind != WAIT)
		op = op->next;
	w = fq_container_of(op, struct waiter, op);
	fq_gate_count_holder(gate, HANDED_OVER);
	gate->serving = false;
	fq_store_rlx(fq_atomic(&gate->holder), (uintptr_t)w->self);
	(void)fq_event_set(&w->event, 0); /* E1: the gate is his; the last access */
	fq_order_left(order);
}

void fq_gate_let_go(struct fq_gate *gate)
{
	uint64_t served = 0;

	gate->serving = true;
	for (;;) {
		struct fq_gate_op *op = first(gate);

		if (!op) {
			if (set_free(gate))
				return;
		} else if (op->kind == WAIT || (served == gate->limit && gate->waiters)) {
			hand_over(gate);
			return;
		} else if (served == gate->limit) {
			if (fall_behind(gate))
				return;
		} else {
			served++;
			serve(gate, take_first(gate));
		}
	}
}

/*
 * Serves what a holder left to the owner, unless somebody is inside, who will. If not, the gate may be
 * gone when the word has changed.
 */
void fq_gate_run_owed(struct fq_node *node)
{
	struct fq_gate *gate = fq_container_of(node, struct fq_gate, node);
	const struct fq_gate_host host = gate->host;
	fq_a64 *word = fq_atomic(&gate->word);
	bool inside = fq_gate_is_inside(gate), adopted;
	uint64_t seen, becomes;

	if (!inside)
		fq_gate_host_lock(gate);
	adopted = gate->adopted;
	seen = fq_load_rlx(word);
	do {
		becomes = seen & ~(uint64_t)OWED;
		if (!(seen & HELD) && (seen & BEHIND))
			becomes = (becomes & ~(uint64_t)BEHIND) | HELD;
	} while (!fq_cas_acqrel(word, &seen, becomes)); /* G2 */
	if (!(seen & HELD) && (seen & BEHIND)) {
		fq_gate_entered(gate);
		fq_gate_let_go(gate);
	} else if (!inside) {
		fq_gate_host_unlock(&host, adopted);
	}
}
