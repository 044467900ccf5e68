/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "queue_internal.h"

void *fq_alloc_aligned(size_t size)
{
	size_t rounded = (size + FQ_CACHELINE - 1) & ~(size_t)(FQ_CACHELINE - 1);
	void *p = aligned_alloc(FQ_CACHELINE, rounded);

	return p ? memset(p, 0, rounded) : NULL;
}

int fq_queue_create(struct fq_queue **out, unsigned flags)
{
	struct fq_queue *q;
	int err;

	if (!out || (flags & ~(FQ_QUEUE_HOOKS | FQ_QUEUE_PIPE | FQ_QUEUE_EPOLL)))
		return -EINVAL;
	q = fq_alloc_aligned(sizeof(*q));
	if (!q)
		return -ENOMEM;
	err = fq_notifier_init(&q->notifier, flags & FQ_QUEUE_PIPE ? FQ_NOTIFIER_PIPE : 0);
	q->epoll_fd = q->timer_fd = -1;
	if (!err && (flags & FQ_QUEUE_EPOLL)) {
		err = fq_mux_open(q);
		if (err)
			fq_notifier_fini(&q->notifier);
	}
	if (err) {
		free(q);
		return err;
	}
	q->ready_last = &q->ready_first;
	q->flush_last = &q->flush_first;
	q->hooks = flags & FQ_QUEUE_HOOKS;
	fq_queue_set_owner(q);
	if (!q->hooks) {
		q->sleepers = 1; /* somebody polls the fd, whenever no drain runs */
		fq_relay_begin(&q->wake);
		fq_ptr_store_rel(&q->head, (void *)(uintptr_t)FQ_ARMED);
		fq_store_rel(&q->dirty, FQ_ARMED);
	}
	fq_debug_born(q);
	*out = q;
	return 0;
}
int fq_queue_destroy(struct fq_queue *q)
{
	if (!q)
		return 0;
	if (!fq_is_alive(q))
		return -EINVAL;
	/* A late poster may have left the bit of a source that is gone; it means nothing any more. */
	if (q->attached != q->calls.group_count || q->calls.live || q->depth ||
	    fq_load_acq(&q->held) || /* U1 */
	    q->ready_first || fq_untagged(fq_ptr_load_rlx(&q->head)))
		return -EBUSY;
	fq_debug_dead(q);
	fq_calls_free(q);
	fq_mux_close(q);
	fq_notifier_fini(&q->notifier);
	free(q);
	return 0;
}

int fq_queue_fd(const struct fq_queue *q)
{
	return q->epoll_fd >= 0 ? q->epoll_fd : q->notifier.rfd;
}

void fq_queue_set_owner(struct fq_queue *q)
{
	fq_ptr_store_rel(&q->owner, fq_thread_self());
}

bool fq_queue_is_owner(const struct fq_queue *q)
{
	return fq_ptr_load_rlx(&q->owner) == fq_thread_self();
}

/* -- posters ----------------------------------------------------------------------------------- */

/* Called by a poster that saw the armed mark in its own post. */
static void wake(struct fq_queue *q)
{
	uint64_t round;

	if (!fq_relay_untold(&q->wake, &round))
		return;
	fq_count(&q->notifier_writes);
	fq_notifier_signal(&q->notifier);
	fq_relay_tell(&q->wake, round);
}

static void push(struct fq_queue *q, struct fq_node *top, struct fq_node *bottom)
{
	void *old = fq_ptr_load_rlx(&q->head);
	void *new;

	do {
		bottom->next = fq_untagged(old);
		new = (void *)((uintptr_t)top | fq_has_armed_tag(old));
		/* Q1: release pairs with the acquire of Q1 in fq_queue_collect; acquire with Q2 in fq_queue_arm */
	} while (!fq_ptr_cas_acqrel(&q->head, &old, new));
	if (fq_has_armed_tag(old))
		wake(q);
}

void fq_queue_push(struct fq_queue *q, struct fq_node *node)
{
	push(q, node, node);
}

void fq_queue_push_batch(struct fq_queue *q, struct fq_node *first)
{
	if (first)
		push(q, fq_node_reversed(first), first);
}

void fq_source_tell(struct fq_source *source)
{
	struct fq_queue *q = source->queue;
	uint64_t round;

	if (!fq_relay_untold(&source->relay, &round))
		return;
	/* Q3: release pairs with the acquire of Q3 in fq_queue_collect; acquire with Q4 in fq_queue_arm */
	fq_or_acqrel(&q->dirty, source->bit);
	/*
	 * The same word again, so at least as new as the line above left it: if it was armed there
	 * and is not here, the owner has taken the bit in between.
	 */
	if (fq_load_acq(&q->dirty) & FQ_ARMED) /* Q4 */
		wake(q);
	fq_relay_tell(&source->relay, round);
}

/* -- owner ------------------------------------------------------------------------------------- */

void fq_queue_hold(struct fq_queue *q)
{
	fq_add_rlx(&q->held, 1);
}

void fq_queue_release(struct fq_queue *q)
{
	fq_add_rel(&q->held, (uint64_t)-1); /* U1: the last touch of the queue */
}

void fq_queue_attach(struct fq_queue *q, struct fq_source *source)
{
	unsigned slot = q->next_slot++ % FQ_DIRTY_BITS;

	fq_relay_begin(&source->relay);
	source->queue = q;
	source->bit = UINT64_C(2) << slot;
	source->next = q->sources[slot];
	q->sources[slot] = source;
	q->attached++;
}

void fq_queue_detach(struct fq_queue *q, struct fq_source *source)
{
	struct fq_source **link = &q->sources[__builtin_ctzll(source->bit) - 1];

	while (*link != source)
		link = &(*link)->next;
	*link = source->next;
	q->attached--;
}

/* -- fork -------------------------------------------------------------------------------------- */

static int renew_fd(struct fq_queue *q)
{
	int err = fq_notifier_after_fork_child(&q->notifier);

	return err || q->epoll_fd < 0 ? err : fq_mux_after_fork_child(q);
}

int fq_queue_after_fork_child(struct fq_queue *q)
{
	int err = q ? renew_fd(q) : -EINVAL;

	if (err)
		return err;
	fq_calls_after_fork_child(q);
	/* What was written, or was about to be, was the parent's: be woken, and look. */
	q->kicked = false;
	fq_queue_kick(q);
	return 0;
}

void fq_queue_get_stats(const struct fq_queue *q, struct fq_queue_stats *out)
{
	*out = (struct fq_queue_stats){
		.completions = fq_load_rlx(&q->completions),
		.drains = fq_load_rlx(&q->drains),
		.empty_drains = fq_load_rlx(&q->empty_drains),
		.budget_stops = fq_load_rlx(&q->budget_stops),
		.arms = fq_load_rlx(&q->wake.round),
		.notifier_writes = fq_load_rlx(&q->notifier_writes),
		.notifier_clears = fq_load_rlx(&q->notifier_clears),
	};
}
