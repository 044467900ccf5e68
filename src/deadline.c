/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "internal.h"

/* A list sorted by time, in link[0]; link[1] points back. Its users are few at a time. */

static void unlink_deadline(struct fq_deadline *d)
{
	struct fq_deadline *next = d->link[0], *prev = d->link[1];

	if (next)
		next->link[1] = prev;
	if (prev)
		prev->link[0] = next;
	else
		d->queue->deadlines = next;
	d->link[0] = d->link[1] = NULL;
	d->at_ns = 0;
}

static void insert(struct fq_queue *q, struct fq_deadline *d)
{
	struct fq_deadline *prev = NULL, *next = q->deadlines;

	while (next && next->at_ns <= d->at_ns) {
		prev = next;
		next = next->link[0];
	}
	d->link[0] = next;
	d->link[1] = prev;
	if (next)
		next->link[1] = d;
	if (prev)
		prev->link[0] = d;
	else
		q->deadlines = d;
}

int fq_deadline_set(struct fq_queue *q, struct fq_deadline *d, int64_t timeout_ns)
{
	int64_t now = fq_now();

	if (!q || !d || !d->run || (d->at_ns && d->queue != q))
		return -EINVAL;
	if (d->at_ns)
		unlink_deadline(d);
	d->queue = q;
	d->at_ns = timeout_ns <= 0                ? now
		   : timeout_ns > INT64_MAX - now ? INT64_MAX
						  : now + timeout_ns;
	insert(q, d);
	fq_mux_set_timer(q);
	/* Another loop may be asleep, until a time that it took from fq_queue_timeout() before. */
	if (q->deadlines == d && q->timer_fd < 0)
		fq_queue_wake_sleepers(q);
	return 0;
}

bool fq_deadline_cancel(struct fq_deadline *d)
{
	if (!d || !d->at_ns)
		return false;
	unlink_deadline(d);
	fq_mux_set_timer(d->queue);
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

void fq_deadlines_run(struct fq_queue *q)
{
	int64_t now = fq_now();

	/* One that is set from a callback lies after now, so this ends. */
	while (q->deadlines && q->deadlines->at_ns <= now) {
		struct fq_deadline *d = q->deadlines;

		unlink_deadline(d);
		d->run(d);
	}
	fq_mux_set_timer(q);
}
