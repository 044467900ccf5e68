/* SPDX-License-Identifier: MIT */
#include "queue_internal.h"

/* -- the ready list ---------------------------------------------------------------------------- */

static struct fq_node *take_ready(struct fq_queue *q)
{
	struct fq_node *node = q->ready_first;

	if (node) {
		q->ready_first = node->next;
		if (!q->ready_first)
			q->ready_last = &q->ready_first;
	}
	return node;
}

void fq_queue_forget(struct fq_queue *q, bool (*match)(struct fq_node *, void *), void *arg)
{
	struct fq_node **link = &q->ready_first;

	while (*link) {
		if (match(*link, arg))
			*link = (*link)->next;
		else
			link = &(*link)->next;
	}
	q->ready_last = link;
}

/* -- owner: drain ------------------------------------------------------------------------------ */

static void run_ready(struct fq_queue *q)
{
	for (;;) {
		struct fq_node *node;

		if (!q->ready_first && fq_queue_posted(q))
			fq_queue_take_posted(q);
		if (!q->ready_first || !fq_queue_spend(q))
			return;
		node = take_ready(q);
		node->run(node);
	}
}

static void flush_now(struct fq_queue *q)
{
	struct fq_later *flush;

	while ((flush = q->flush_first)) {
		q->flush_first = flush->next;
		if (!q->flush_first)
			q->flush_last = &q->flush_first;
		flush->listed = false;
		flush->run(flush);
	}
}

void fq_queue_bury_later(struct fq_queue *q, struct fq_later *burial)
{
	burial->next = q->burials;
	q->burials = burial;
}

void fq_queue_enter(struct fq_queue *q)
{
	q->depth++;
}

static void leave(struct fq_queue *q)
{
	while (q->depth == 1 && q->burials) {
		struct fq_later *burial = q->burials;

		q->burials = burial->next;
		burial->run(burial);
	}
	/* A callback may have thawed a device where no drain comes by on its own. */
	if (!--q->depth)
		fq_queue_wake_owner(q);
}

void fq_queue_leave(struct fq_queue *q)
{
	/* Inside a drain, the drain sees to it. */
	if (q->depth == 1)
		flush_now(q);
	leave(q);
}

void fq_queue_wake_owner(struct fq_queue *q)
{
	if (q->ready_first && q->sleepers)
		fq_queue_kick(q);
}

void fq_queue_wake_sleepers(struct fq_queue *q)
{
	if (q->hooks && q->sleepers)
		fq_queue_kick(q);
}

/*
 * Nothing is left: clears the fd, unless that has been done, and arms. False when something was posted.
 * A write for the last arm may be cleared only together with what it was for.
 */
static bool settle(struct fq_queue *q, bool *clear)
{
	if (*clear) {
		if (fq_queue_is_armed(q))
			fq_queue_take_posted(q);
		if (q->ready_first)
			return false;
		fq_queue_clear_fd(q);
		/* Once: against a flood, a spurious wake-up is cheaper than a read for each try. */
		*clear = false;
	}
	return fq_queue_arm(q);
}

/* All there is, as far as the budget goes. True when it ended armed. */
static bool run_all(struct fq_queue *q, unsigned budget, bool busy, bool clear)
{
	for (;;) {
		run_ready(q);
		if (!busy && q->left == budget && q->calls.idle && !fq_queue_has_work(q)) {
			busy = true;
			fq_calls_run_idle(q);
			continue;
		}
		if (!q->sleepers || q->ready_first)
			return false;
		if (settle(q, &clear))
			return true;
		if (!q->left)
			return false;
	}
}

/*
 * While somebody may be asleep a drain ends armed, or with the fd readable. It arms before it
 * flushes, so that it need not flush twice when something is posted at the last moment.
 */
static unsigned drain(struct fq_queue *q, unsigned budget, bool busy, bool clear)
{
	unsigned outer = q->left;
	bool armed;
	unsigned done;

	q->left = budget;
	q->depth++;
	for (struct fq_turn *turn = q->turn; turn; turn = turn->outer)
		turn->resume(turn);
	if (fq_deadlines_run(q))
		busy = true;
	armed = run_all(q, budget, busy, clear);
	done = budget - q->left;
	if (!armed && !q->left && fq_queue_has_work(q)) {
		fq_count_owner(&q->budget_stops, 1);
		if (q->sleepers)
			fq_queue_kick(q);
	}
	flush_now(q);
	fq_calls_idle_wait(q);
	q->left = outer;
	fq_count_owner(&q->drains, 1);
	if (done)
		fq_count_owner(&q->completions, done);
	else
		fq_count_owner(&q->empty_drains, 1);
	leave(q);
	return done;
}

unsigned fq_queue_drain(struct fq_queue *q, unsigned budget)
{
	unsigned done;
	bool busy;

	if (!fq_is_alive(q))
		return 0;
	if (!q->sleepers) {
		if (fq_queue_collect(q) || q->kicked)
			fq_queue_clear_fd(q);
	} else if (fq_queue_posted(q)) {
		fq_queue_take_posted(q); /* now, to share this budget with what the last one left */
	}
	fq_queue_enter(q);
	busy = q->watches && fq_watches_run(q);
	done = drain(q, budget, busy, true);
	leave(q);
	return done;
}

unsigned fq_queue_poll(struct fq_queue *q, unsigned budget)
{
	if (!fq_is_alive(q))
		return 0;
	if (!fq_queue_pending(q) && !q->deadlines && !q->timer_at_ns) {
		fq_count_owner(&q->drains, 1);
		fq_count_owner(&q->empty_drains, 1);
		return 0;
	}
	return drain(q, budget, false, false);
}
