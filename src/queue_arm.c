/* SPDX-License-Identifier: MIT */
#include "queue_internal.h"

/* What was posted, whether posters have to wake somebody, and the owner's sleep. */

bool fq_queue_collect(struct fq_queue *q)
{
	void *head = fq_ptr_xchg_acqrel(&q->head, NULL); /* Q1 */
	uint64_t dirty = fq_xchg_acqrel(&q->dirty, 0);   /* Q3 */
	struct fq_node *last = fq_untagged(head);

	if (last) {
		*q->ready_last = fq_node_reversed(last);
		q->ready_last = &last->next;
	}
	for (uint64_t bits = dirty & ~(uint64_t)FQ_ARMED; bits; bits &= bits - 1) {
		struct fq_source *s = q->sources[__builtin_ctzll(bits) - 1];

		for (; s; s = s->next)
			s->collect(s);
	}
	return fq_has_armed_tag(head) || (dirty & FQ_ARMED);
}

/*
 * Something to flush is there in a handler of what has retired: to be published before anybody sleeps,
 * by a drain that also goes on with the turn which the handler has interrupted.
 */
bool fq_queue_pending(const struct fq_queue *q)
{
	return fq_queue_has_work(q) || q->flush_first;
}

bool fq_queue_arm(struct fq_queue *q)
{
	void *head = NULL;
	uint64_t dirty = 0;

	if (fq_queue_posted(q))
		return false;
	/* The number of the arm comes before the mark: a poster that sees the mark sees it. */
	fq_relay_begin(&q->wake);
	if (!fq_ptr_cas_acqrel(&q->head, &head, (void *)(uintptr_t)FQ_ARMED) && /* Q2 */
	    head != (void *)(uintptr_t)FQ_ARMED)
		return false;
	return fq_cas_acqrel(&q->dirty, &dirty, FQ_ARMED) || dirty == FQ_ARMED; /* Q4 */
}

void fq_queue_clear_fd(struct fq_queue *q)
{
	q->kicked = false;
	if (fq_notifier_clear(&q->notifier))
		fq_count_owner(&q->notifier_clears, 1);
}

void fq_queue_kick(struct fq_queue *q)
{
	if (q->kicked)
		return;
	q->kicked = true;
	fq_count(&q->notifier_writes);
	fq_notifier_signal(&q->notifier);
}

bool fq_queue_is_armed(const struct fq_queue *q)
{
	return fq_has_armed_tag(fq_ptr_load_rlx(&q->head)) || (fq_load_rlx(&q->dirty) & FQ_ARMED);
}

/* told: nobody has cleared the fd since this arm. */
void fq_queue_take_posted(struct fq_queue *q)
{
	bool posted = fq_queue_posted(q);
	bool was_armed = fq_queue_collect(q);

	if (!q->sleepers || !(posted || q->ready_first))
		return;
	if (was_armed && fq_load_acq(&q->wake.told) == fq_load_rlx(&q->wake.round)) /* R2 */
		q->kicked = true;
	else
		fq_queue_kick(q);
}

/* -- owner: sleep ------------------------------------------------------------------------------ */

bool fq_queue_prepare(struct fq_queue *q, struct fq_waiter *w)
{
	fq_calls_idle_wait(q);
	if (q->ready_first || q->flush_first || (q->deadlines && !fq_queue_timeout(q)) ||
	    !fq_queue_arm(q))
		return false;
	if (!w->asleep) {
		w->asleep = true;
		q->sleepers++;
	}
	return true;
}

void fq_queue_check(struct fq_queue *q, struct fq_waiter *w)
{
	if (!w->asleep)
		return;
	w->asleep = false;
	/* Another sleeper relies on the arm: the drain that follows will renew it. */
	if (--q->sleepers)
		return;
	fq_queue_collect(q);
	fq_queue_clear_fd(q);
}

/* 1 when the fd is readable, or a deadline is due. */
static int wait_for_fd(struct fq_queue *q, int64_t timeout_ns)
{
	const struct fq_notifier fd = {.rfd = fq_queue_fd(q), .wfd = -1};
	int64_t deadline_ns = fq_queue_timeout(q);
	int got;

	if (deadline_ns < 0 || (timeout_ns >= 0 && timeout_ns < deadline_ns))
		return fq_notifier_wait(&fd, timeout_ns);
	got = fq_notifier_wait(&fd, deadline_ns);
	return got ? got : 1;
}

int fq_queue_wait(struct fq_queue *q, int64_t timeout_ns)
{
	struct fq_waiter w = {false};
	int got;

	if (!q->hooks)
		return wait_for_fd(q, timeout_ns);
	if (!fq_queue_prepare(q, &w))
		return 1;
	got = wait_for_fd(q, timeout_ns);
	fq_queue_check(q, &w);
	return got;
}
