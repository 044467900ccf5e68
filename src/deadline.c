/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "internal.h"

/*
 * A pairing heap: a tree in which nobody is due before the one above. Who stands below the same one
 * is a list, `child` its first, `before` pointing back along it and from its first to the one above.
 */

static bool due_before(const struct fq_deadline *a, const struct fq_deadline *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->sequence < b->sequence;
}

/* Makes one heap of two, either of which may be empty. */
static struct fq_deadline *meld(struct fq_deadline *a, struct fq_deadline *b)
{
	struct fq_deadline *below;

	if (!a || !b)
		return a ? a : b;
	below = due_before(a, b) ? b : a;
	if (below == a)
		a = b;
	below->before = a;
	below->next = a->child;
	if (a->child)
		a->child->before = below;
	a->child = below;
	return a;
}

/* Makes one heap of a list of them: of each two neighbours one, and then, from the back, of all. */
static struct fq_deadline *meld_list(struct fq_deadline *first)
{
	struct fq_deadline *pairs = NULL, *heap = NULL;

	while (first) {
		struct fq_deadline *a = first, *b = a->next;

		first = b ? b->next : NULL;
		a = meld(a, b);
		a->next = pairs;
		pairs = a;
	}
	while (pairs) {
		struct fq_deadline *next = pairs->next;

		heap = meld(heap, pairs);
		pairs = next;
	}
	if (heap)
		heap->next = heap->before = NULL;
	return heap;
}

static void take_out(struct fq_deadline *d)
{
	struct fq_queue *q = d->queue;
	struct fq_deadline *rest = meld_list(d->child);

	if (q->deadlines == d) {
		q->deadlines = rest;
	} else {
		if (d->before->child == d)
			d->before->child = d->next;
		else
			d->before->next = d->next;
		if (d->next)
			d->next->before = d->before;
		q->deadlines = meld(q->deadlines, rest);
	}
	d->child = d->next = d->before = NULL;
	d->at_ns = 0;
}

/* A timer that will ring too early is left alone, see fenceq/deadline.h; not one that has rung. */
static void adjust_timer(struct fq_queue *q, int64_t now)
{
	if (q->timer_at_ns > now && (!q->deadlines || q->timer_at_ns <= q->deadlines->at_ns))
		return;
	fq_mux_set_timer(q);
}

int fq_deadline_set(struct fq_queue *q, struct fq_deadline *d, int64_t timeout_ns)
{
	int64_t now = fq_now();

	if (!fq_is_alive(q) || !d || !d->run || (d->at_ns && d->queue != q))
		return -EINVAL;
	if (d->at_ns)
		take_out(d);
	d->queue = q;
	d->sequence = q->deadlines_set++;
	d->child = d->next = d->before = NULL;
	d->at_ns = timeout_ns <= 0 ? now : fq_after(now, timeout_ns);
	q->deadlines = meld(q->deadlines, d);
	adjust_timer(q, now);
	/* Another loop may be asleep, until a time that it took from fq_queue_timeout() before. */
	if (q->deadlines == d && q->timer_fd < 0)
		fq_queue_wake_sleepers(q);
	return 0;
}

bool fq_deadline_cancel(struct fq_deadline *d)
{
	if (!d || !d->at_ns)
		return false;
	take_out(d);
	if (d->queue->timer_at_ns)
		adjust_timer(d->queue, fq_now());
	return true;
}

int64_t fq_queue_timeout(const struct fq_queue *q)
{
	int64_t left;

	if (!q->deadlines)
		return -1;
	left = q->deadlines->at_ns - fq_now();
	return left > 0 ? left : 0;
}

bool fq_deadlines_run(struct fq_queue *q)
{
	const uint64_t set_before = q->deadlines_set;
	bool ran = false;
	int64_t now;

	/* The timer may have rung for one that was cancelled. */
	if (!q->deadlines && !q->timer_at_ns)
		return false;
	now = fq_now();
	/* One that is set from a callback is due after all that were, so this ends. */
	while (q->deadlines && q->deadlines->at_ns <= now && q->deadlines->sequence < set_before) {
		struct fq_deadline *d = q->deadlines;

		take_out(d);
		ran = true;
		d->run(d);
	}
	if (ran || q->timer_at_ns)
		adjust_timer(q, now);
	return ran;
}
