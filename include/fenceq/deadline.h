/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_DEADLINE_H
#define FENCEQ_DEADLINE_H

/**
 * @file deadline.h
 * @brief Deadlines of a queue: callbacks at a time, on the owner.
 *
 * Overview
 *   A deadline is a small object in the host's memory that names a time; once that has come, the
 *   next drain (or poll) of its queue runs it. Time-outs of the library's own calls are made of it.
 *
 * Who wakes the owner for it?
 *   - A loop that computes its own time-out takes fq_queue_timeout() into account;
 *     fq_queue_wait() does so by itself, and fq_queue_prepare() refuses to sleep when one is due.
 *     One that is set while a loop sleeps between prepare and check (by whoever drains meanwhile)
 *     makes the fd readable if it is the next.
 *   - A loop that only knows fds: a queue created with FQ_QUEUE_EPOLL has a timer behind its fd.
 *
 * Guarantees
 *   All of it is the owner's, allocates nothing, waits for nobody. The clock is CLOCK_MONOTONIC. A
 *   deadline runs once, not before its time; those due in the order of their times, and those of the
 *   same time in the order in which they were set. One that is set inside a drain's deadline callback
 *   runs in a later drain, even if it is due.
 *
 *   | function           | cost for n that are set           | system calls with FQ_QUEUE_EPOLL     |
 *   |--------------------|-----------------------------------|--------------------------------------|
 *   | fq_deadline_set    | O(1); to move one, as to cancel   | one, when it is the next by far (*)  |
 *   | fq_deadline_cancel | O(log n) amortised                | none, unless it was due              |
 *   | each that runs     | O(log n) amortised                | one for each drain that runs any     |
 *   | fq_queue_timeout   | O(1)                              | none                                 |
 *   (*) When it comes before what the timer is set to. A timer is not put off when the next deadline
 *   is cancelled, so that a time-out for each of many requests costs no system calls; it may ring
 *   for nothing then, once, and costs an empty drain.
 *
 * Notes
 *   A pairing heap (M. Fredman, R. Sedgewick, D. Sleator, R. Tarjan, 1986), without recursion.
 */

#include <stdbool.h>
#include <stdint.h>

#include <fenceq/base.h>

FQ_BEGIN_DECLS

struct fq_queue;
struct fq_deadline;

/** Runs on the owner, from a drain. May set it again, free its memory, and anything else. */
typedef void fq_deadline_fn(struct fq_deadline *deadline);

/** Caller memory; zero-initialise it, set `run`. */
struct fq_deadline {
	fq_deadline_fn *run;
	int64_t at_ns;              /**< when; 0 while not set */
	uint64_t sequence;          /**< the library's from here on */
	struct fq_queue *queue;     /**< where it was set last */
	struct fq_deadline *child;  /**< the first of those below it */
	struct fq_deadline *next;   /**< below the same */
	struct fq_deadline *before; /**< below the same; of the first one: that above it */
};

/**
 * Sets a deadline, or moves one that is set, to @p timeout_ns from now (0 or less: due). Owner.
 * @return 0; -EINVAL NULL, no `run`, or set on another queue.
 */
FQ_API int fq_deadline_set(struct fq_queue *q, struct fq_deadline *deadline, int64_t timeout_ns);

/** Owner. @return true when it was set and now never runs. */
FQ_API bool fq_deadline_cancel(struct fq_deadline *deadline);

/** Nanoseconds until the next deadline; 0 one is due; -1 there is none. Owner. */
FQ_API int64_t fq_queue_timeout(const struct fq_queue *q);

FQ_END_DECLS

#endif /* FENCEQ_DEADLINE_H */
