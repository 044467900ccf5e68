/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_LOOP_URING_H
#define FENCEQ_LOOP_URING_H

/**
 * @file loop_uring.h
 * @brief A queue in a loop over io_uring. Needs liburing (2.0 or later, `-D_GNU_SOURCE`); the
 *        umbrella header does not include it.
 *
 * Overview
 *   The queue is created with FQ_QUEUE_HOOKS. Before the loop waits for completions of the ring the
 *   queue is armed and a poll of its fd is in the ring; afterwards it is disarmed and drained up to a
 *   budget. While the loop works, no poster writes the fd.
 *
 * Usage
 *     fq_queue_create(&q, FQ_QUEUE_HOOKS);
 *     fq_uring_init(&u, &ring, q, 256, FQ_URING_MULTISHOT);
 *     for (;;) {
 *         int64_t ns = fq_uring_prepare(&u);    // 0: do not sleep; -1: no time-out
 *         ... io_uring_submit_and_wait_timeout(&ring, ..., ns ...) ...
 *         for each cqe:
 *             if (!fq_uring_complete(&u, cqe)) it is the host's own
 *         fq_uring_run(&u);
 *     }
 *
 * One-shot or multishot?
 *   A one-shot poll is posted again before each sleep, and looks at the fd when it is posted: it is
 *   level-triggered. A multishot poll stays, which saves the request, but reports only what is
 *   written while it stands: work that a drain left at its budget will not be reported again. So
 *   this glue never relies on the fd for leftovers: with work left fq_uring_prepare() answers 0, and
 *   the loop comes by again without sleeping. It cannot tell what is left in watched fds
 *   (FQ_QUEUE_EPOLL; a channel reads so much in a drain): with these use one-shot polls, or a peer's
 *   messages lie there until the next one comes.
 *
 * Guarantees
 *   Everything here is the owner's, the thread that uses the ring. The user_data of its requests is
 *   the address of the struct fq_uring (and the address + 1); a host sees to it that its own differ.
 */

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include <liburing.h>

#include <fenceq/base.h>
#include <fenceq/deadline.h>
#include <fenceq/queue.h>

FQ_BEGIN_DECLS

/** One poll for many wake-ups (Linux 5.13; an older kernel takes it for a one-shot one). */
#define FQ_URING_MULTISHOT 1u

/** Caller memory. */
struct fq_uring {
	struct io_uring *ring;
	struct fq_queue *queue;
	struct fq_waiter waiter;
	unsigned budget;
	unsigned flags;
	bool polling;  /* a poll is in the ring */
	bool readable; /* and has reported */
};

static inline void fq_uring_init(struct fq_uring *u, struct io_uring *ring, struct fq_queue *q,
				 unsigned budget, unsigned flags)
{
	u->ring = ring;
	u->queue = q;
	u->waiter.asleep = false;
	u->budget = budget;
	u->flags = flags;
	u->polling = false;
	u->readable = false;
}

static inline bool fq_uring_post_poll(struct fq_uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(u->ring);

	if (!sqe && io_uring_submit(u->ring) >= 0)
		sqe = io_uring_get_sqe(u->ring);
	if (!sqe)
		return false;
	if (u->flags & FQ_URING_MULTISHOT)
		io_uring_prep_poll_multishot(sqe, fq_queue_fd(u->queue), POLLIN);
	else
		io_uring_prep_poll_add(sqe, fq_queue_fd(u->queue), POLLIN);
	io_uring_sqe_set_data(sqe, u);
	return true;
}

/**
 * About to submit and wait: arms the queue, and puts the poll into the ring if it is not there.
 * @return nanoseconds to wait at most, for the next deadline; -1 for ever; 0: there is work, or no
 *         room in the ring, do not sleep.
 */
static inline int64_t fq_uring_prepare(struct fq_uring *u)
{
	if (!fq_queue_prepare(u->queue, &u->waiter))
		return 0;
	if (!u->polling)
		u->polling = fq_uring_post_poll(u);
	return u->polling ? fq_queue_timeout(u->queue) : 0;
}

/** @return true when the completion was the queue's; call it for each. Runs nothing. */
static inline bool fq_uring_complete(struct fq_uring *u, const struct io_uring_cqe *cqe)
{
	if (cqe->user_data == (uintptr_t)u + 1)
		return true;
	if (cqe->user_data != (uintptr_t)u)
		return false;
	/* Also a multishot poll ends, when the ring has overflown. */
	if (!(cqe->flags & IORING_CQE_F_MORE))
		u->polling = false;
	u->readable = true;
	return true;
}

/**
 * The wait is over, for whatever reason: disarms and drains. After the completions were looked at,
 * or in their midst.
 * @return how many completions of the queue it ran.
 */
static inline unsigned fq_uring_run(struct fq_uring *u)
{
	fq_queue_check(u->queue, &u->waiter);
	if (!fq_queue_pending(u->queue) && fq_queue_timeout(u->queue) && !u->readable)
		return 0;
	u->readable = false;
	return fq_queue_drain(u->queue, u->budget);
}

/**
 * Disarms the queue and asks the ring to give up the poll; what is posted from now on waits to be
 * drained by somebody else. Go on submitting and calling fq_uring_complete() until `polling` is
 * false; then @p u may go, or leave the rest to io_uring_queue_exit().
 * @return 0; -EBUSY no room in the ring: submit, and call it again.
 */
static inline int fq_uring_cancel(struct fq_uring *u)
{
	struct io_uring_sqe *sqe;

	fq_queue_check(u->queue, &u->waiter);
	if (!u->polling)
		return 0;
	sqe = io_uring_get_sqe(u->ring);
	if (!sqe)
		return -EBUSY;
	io_uring_prep_cancel(sqe, u, 0);
	sqe->user_data = (uintptr_t)u + 1;
	return 0;
}

FQ_END_DECLS

#endif /* FENCEQ_LOOP_URING_H */
