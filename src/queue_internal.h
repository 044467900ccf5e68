/* SPDX-License-Identifier: MIT */
#ifndef FQ_QUEUE_INTERNAL_H
#define FQ_QUEUE_INTERNAL_H

/* What the queue's own sources share: queue.c (posters), queue_arm.c (sleep), queue_drain.c. */

#include "internal.h"

static inline bool fq_has_armed_tag(const void *head)
{
	return (uintptr_t)head & FQ_ARMED;
}

static inline struct fq_node *fq_untagged(void *head)
{
	return (struct fq_node *)((uintptr_t)head & ~(uintptr_t)FQ_ARMED);
}

static inline bool fq_queue_posted(const struct fq_queue *q)
{
	return fq_untagged(fq_ptr_load_rlx(&q->head)) ||
	       (fq_load_rlx(&q->dirty) & ~(uint64_t)FQ_ARMED);
}

static inline bool fq_queue_has_work(const struct fq_queue *q)
{
	return q->ready_first || fq_queue_posted(q);
}

static inline struct fq_node *fq_node_reversed(struct fq_node *node)
{
	struct fq_node *top = NULL;

	while (node) {
		struct fq_node *next = node->next;

		node->next = top;
		top = node;
		node = next;
	}
	return top;
}

/* queue_arm.c, all of it the owner's. */

/* Takes all that was posted to the ready list. True when the queue was armed until now. */
bool fq_queue_collect(struct fq_queue *q);
/*
 * The same, and a handler may sleep on the fd, in a loop of its own; so while somebody may be asleep
 * the fd is readable for as long as handlers run, or armed. It costs nothing: the write that began the
 * drain is left where it is until the end. Also when nothing came of what was posted: deadlines,
 * watches and idle calls are handlers, too.
 */
void fq_queue_take_posted(struct fq_queue *q);
/* Only with an empty ready list. False when something was posted; half an arm does no harm. */
bool fq_queue_arm(struct fq_queue *q);
bool fq_queue_is_armed(const struct fq_queue *q);
void fq_queue_clear_fd(struct fq_queue *q);
/* Makes the fd readable, unless it is known to be. */
void fq_queue_kick(struct fq_queue *q);

#endif /* FQ_QUEUE_INTERNAL_H */
