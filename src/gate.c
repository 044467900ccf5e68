/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "gate_internal.h"
#include "park.h"

/* Getting in, or leaving the work with somebody. The states are in gate_internal.h. */

bool fq_gate_is_inside(const struct fq_gate *gate)
{
	/* Only the thread itself, or one that hands it the gate while it sleeps, writes its name. */
	return gate && fq_load_rlx(fq_atomic_const(&gate->holder)) == (uintptr_t)fq_thread_self();
}

/* -- entering ---------------------------------------------------------------------------------- */

/* Leaves it with who will see to it; false: the gate is free, there is nobody. */
static bool leave_op(struct fq_gate *gate, struct fq_gate_op *op, uint64_t *seen)
{
	while (!fq_gate_is_free(*seen)) {
		op->next = fq_gate_stack_of(*seen);
		if (fq_cas_acqrel(fq_atomic(&gate->word), seen,
				  fq_gate_with_top(*seen, op))) /* G1 */
			return true;
	}
	return false;
}

/* Over a host's lock the caller has that. */
static bool take_free(struct fq_gate *gate, uint64_t *seen)
{
	while (fq_gate_is_free(*seen)) {
		if (!fq_cas_acqrel(fq_atomic(&gate->word), seen, *seen | HELD)) /* G2 */
			continue;
		fq_gate_entered(gate);
		return true;
	}
	return false;
}

/* Also one that is behind; then there is a backlog, and behind it @last. */
static bool take(struct fq_gate *gate, struct fq_gate_op *last, uint64_t *seen)
{
	while (!take_free(gate, seen)) {
		if (*seen & HELD)
			return false;
		last->next = fq_gate_stack_of(*seen);
		if (!fq_cas_acqrel(fq_atomic(&gate->word), seen,
				   (fq_gate_with_top(*seen, last) & ~(uint64_t)BEHIND) |
					   HELD)) /* G2 */
			continue;
		fq_gate_entered(gate);
		return true;
	}
	return true;
}

/* It is on the stack of a gate that is held. */
static void unlend(struct fq_gate *gate)
{
	fq_add_rel(fq_atomic(&gate->lent), (uint64_t)-1); /* G3: pairs with fq_gate_fini */
}

/* The owner of the queue, with an operation that was lent to him. */
static void run_lent(struct fq_node *node)
{
	struct fq_gate_op *op = fq_container_of(node, struct fq_gate_op, node);
	struct fq_gate *gate = op->gate;
	uint64_t seen;

	/* A drain inside of the gate. */
	if (fq_gate_is_inside(gate)) {
		seen = fq_load_rlx(fq_atomic(&gate->word));
		(void)leave_op(gate, op, &seen);
		unlend(gate);
		return;
	}
	fq_gate_host_lock(gate);
	seen = fq_load_rlx(fq_atomic(&gate->word));
	(void)take(gate, op, &seen); /* nobody can be inside */
	if (fq_gate_is_free(seen)) {
		seen |= HELD;
		(void)leave_op(gate, op, &seen);
	}
	unlend(gate);
	fq_gate_let_go(gate);
}

static void lend(struct fq_gate *gate, struct fq_gate_op *op)
{
	fq_gate_count(gate, LENT);
	op->gate = gate;
	op->node.run = run_lent;
	fq_add_rlx(fq_atomic(&gate->lent), 1);
	fq_queue_push(gate->queue, &op->node);
}

static int may_enter(struct fq_gate *gate)
{
	if (!fq_is_alive(gate))
		return -EINVAL;
	if (!fq_gate_is_inside(gate))
		return 0;
	fq_gate_count(gate, RECURSIONS);
	return -EDEADLK;
}

static int enter_or_leave(struct fq_gate *gate, struct fq_gate_op *op)
{
	uint64_t seen = fq_load_rlx(fq_atomic(&gate->word));

	while (!take_free(gate, &seen)) {
		if (leave_op(gate, op, &seen))
			return FQ_GATE_LEFT;
	}
	return 0;
}

static int enter_or_leave_hosted(struct fq_gate *gate, struct fq_gate_op *op)
{
	while (!fq_load_rlx(fq_atomic(&gate->lent))) {
		uint64_t seen = fq_load_rlx(fq_atomic(&gate->word));
		bool locked;

		if (leave_op(gate, op, &seen))
			return FQ_GATE_LEFT;
		locked = fq_gate_host_try_lock(gate);
		if (locked && take_free(gate, &seen))
			return 0;
		/* Fallen behind in between. */
		if (locked) {
			fq_gate_host_unlock(&gate->host, gate->adopted);
			continue;
		}
		seen = fq_load_rlx(fq_atomic(&gate->word));
		if (leave_op(gate, op, &seen))
			return FQ_GATE_LEFT;
		break;
	}
	lend(gate, op);
	return FQ_GATE_LEFT;
}

static int enter_or(struct fq_gate *gate, struct fq_gate_op *op, unsigned kind)
{
	int err = may_enter(gate);

	if (err)
		return err;
	op->kind = kind;
	return fq_gate_is_hosted(gate) ? enter_or_leave_hosted(gate, op) : enter_or_leave(gate, op);
}

int fq_gate_enter_or_leave(struct fq_gate *gate, struct fq_gate_op *op)
{
	return op && op->run ? enter_or(gate, op, RUN) : -EINVAL;
}

int fq_gate_enter_or_tell(struct fq_gate *gate, struct fq_gate_op *op, struct fq_queue *queue)
{
	if (!op || !op->run || !queue)
		return -EINVAL;
	op->queue = queue;
	return enter_or(gate, op, TELL);
}

int fq_gate_try_enter(struct fq_gate *gate)
{
	int err = may_enter(gate);
	uint64_t seen;

	if (err)
		return err;
	seen = fq_load_rlx(fq_atomic(&gate->word));
	if (!fq_gate_is_hosted(gate))
		return take_free(gate, &seen) ? 0 : -EBUSY;
	if (fq_load_rlx(fq_atomic(&gate->lent)) || !fq_gate_is_free(seen) ||
	    !fq_gate_host_try_lock(gate))
		return -EBUSY;
	if (take_free(gate, &seen))
		return 0;
	fq_gate_host_unlock(&gate->host, gate->adopted);
	return -EBUSY;
}

/* In line with what others leave, to be handed the gate. */
static void enter_in_turn(struct fq_gate *gate, struct waiter *w, uint64_t *seen)
{
	while (!take(gate, &w->op, seen)) {
		w->op.next = fq_gate_stack_of(*seen);
		if (!fq_cas_acqrel(fq_atomic(&gate->word), seen,
				   fq_gate_with_top(*seen, &w->op))) /* G1 */
			continue;
		(void)fq_event_wait(&w->event, -1, NULL);
		fq_gate_entered(gate);
		return;
	}
}

static int enter_in_time(struct fq_gate *gate, struct waiter *w, uint64_t *seen, int64_t timeout_ns)
{
	const int64_t until = fq_until(timeout_ns);
	fq_a64 *word = fq_atomic(&gate->word);
	int err = timeout_ns ? 0 : -ETIMEDOUT;

	while (!take(gate, &w->op, seen)) {
		if (err)
			return err;
		if (!(*seen & ASLEEP) && !fq_cas_acqrel(word, seen, *seen | ASLEEP))
			continue;
		err = fq_park_wait(word, (uint32_t)(*seen | ASLEEP), until);
		*seen = fq_load_rlx(word);
	}
	return 0;
}

int fq_gate_enter(struct fq_gate *gate, int64_t timeout_ns)
{
	struct waiter w = {.op.kind = WAIT, .event = FQ_EVENT_INIT, .self = fq_thread_self()};
	int err = may_enter(gate);
	uint64_t seen;

	if (!err && timeout_ns >= 0 && fq_gate_is_hosted(gate))
		err = -ENOTSUP;
	if (!err && timeout_ns && !fq_order_allows(gate->order)) {
		fq_gate_count(gate, DISORDERS);
		err = -EDEADLK;
	}
	if (err)
		return err;
	fq_gate_host_lock(gate);
	seen = fq_load_rlx(fq_atomic(&gate->word));
	if (timeout_ns < 0)
		enter_in_turn(gate, &w, &seen);
	else
		err = enter_in_time(gate, &w, &seen, timeout_ns);
	/* Unless it was free, there is a place in the backlog. */
	if (!err && !fq_gate_is_free(seen))
		fq_gate_serve_up_to(gate, &w.op);
	return err;
}

/* -- the rest ---------------------------------------------------------------------------------- */

int fq_gate_defer(struct fq_gate *gate, struct fq_gate_op *op)
{
	uint64_t seen;

	if (!fq_is_alive(gate) || !op || !op->run)
		return -EINVAL;
	if (!fq_gate_is_inside(gate))
		return -EPERM;
	op->kind = RUN;
	seen = fq_load_rlx(fq_atomic(&gate->word));
	(void)leave_op(gate, op, &seen);
	return 0;
}

int fq_gate_leave(struct fq_gate *gate)
{
	if (!fq_is_alive(gate))
		return -EINVAL;
	if (!fq_gate_is_inside(gate) || gate->serving)
		return -EPERM;
	fq_gate_let_go(gate);
	return 0;
}

static bool valid(const struct fq_gate_config *config)
{
	const struct fq_gate_host *host = &config->host;
	unsigned hooks = (host->try_lock != NULL) + (host->lock != NULL) + (host->unlock != NULL);

	if ((hooks && hooks != 3) || (!hooks && host->held) || config->reserved)
		return false;
	return config->queue || (!hooks && !config->limit);
}

int fq_gate_init(struct fq_gate *gate, const struct fq_gate_config *config)
{
	if (!gate || (config && !valid(config)))
		return -EINVAL;
	*gate = (struct fq_gate){.limit = UINT64_MAX, .node.run = fq_gate_run_owed};
	gate->last = &gate->first;
	if (config) {
		gate->queue = config->queue;
		gate->host = config->host;
	}
	if (gate->queue)
		gate->limit = config->limit ? config->limit : LIMIT_DEFAULT;
	gate->order = fq_order_born();
	fq_debug_born(gate);
	return 0;
}

int fq_gate_fini(struct fq_gate *gate)
{
	if (!fq_is_alive(gate))
		return -EINVAL;
	/* In this order: what is lent no longer is inside. */
	if (fq_load_acq(fq_atomic(&gate->lent)) || /* G3 */
	    fq_load_acq(fq_atomic(&gate->word)))   /* G2 */
		return -EBUSY;
	fq_order_dead(gate->order);
	fq_debug_dead(gate);
	return 0;
}

void fq_gate_get_stats(const struct fq_gate *gate, struct fq_gate_stats *out)
{
	const struct fq_word *n = gate->count;

	*out = (struct fq_gate_stats){
		.entered = fq_load_rlx(fq_atomic_const(&n[ENTERED])),
		.delegated = fq_load_rlx(fq_atomic_const(&n[DELEGATED])),
		.told = fq_load_rlx(fq_atomic_const(&n[TOLD])),
		.handed_over = fq_load_rlx(fq_atomic_const(&n[HANDED_OVER])),
		.fell_behind = fq_load_rlx(fq_atomic_const(&n[FELL_BEHIND])),
		.lent = fq_load_rlx(fq_atomic_const(&n[LENT])),
		.recursions = fq_load_rlx(fq_atomic_const(&n[RECURSIONS])),
		.disorders = fq_load_rlx(fq_atomic_const(&n[DISORDERS])),
	};
}
