/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_LOOP_UV_H
#define FENCEQ_LOOP_UV_H

/**
 * @file loop_uv.h
 * @brief A queue in a libuv loop. Needs libuv 1.x (`-D_GNU_SOURCE`); the umbrella header does not
 *        include it.
 *
 * Overview
 *   The queue is created with FQ_QUEUE_HOOKS. uv_prepare arms it before the loop polls, uv_check
 *   disarms and drains it up to a budget, uv_idle keeps the loop from sleeping while work is left,
 *   uv_timer wakes it for deadlines, and uv_poll on the fd for posts. While the loop works, no poster
 *   writes the fd.
 *
 * Usage
 *     fq_queue_create(&q, FQ_QUEUE_HOOKS);
 *     fq_uv_init(&u, loop, q, 256);
 *     uv_run(loop, UV_RUN_DEFAULT);
 *     ...
 *     fq_uv_close(&u, closed);    // closed() runs in the loop: then u and q may go
 *
 * Guarantees
 *   Everything here is the owner's, the thread that runs the loop. uv_run() may return and be called
 *   again, also by another thread that has taken the loop over (fq_queue_set_owner()).
 *
 * Notes
 *   - The poll handle keeps uv_run() going, as any active handle does; where it should not,
 *     `uv_unref((uv_handle_t *)&u.poll)`. The other handles never do.
 *   - uv_run() cannot be called from a callback. A completion that has to wait for another one runs
 *     fq_queue_drain() and fq_queue_wait() in turn.
 *   - libuv counts time-outs in milliseconds; deadlines are rounded up.
 */

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include <fenceq/base.h>
#include <fenceq/deadline.h>
#include <fenceq/queue.h>

FQ_BEGIN_DECLS

struct fq_uv;

/** Runs in the loop when libuv has let go of all handles. May free the memory of @p u. */
typedef void fq_uv_closed_fn(struct fq_uv *u);

/** Caller memory, until closed. */
struct fq_uv {
	struct fq_queue *queue;
	struct fq_waiter waiter;
	unsigned budget;
	unsigned open; /* handles */
	bool readable; /* the fd was, on this turn */
	fq_uv_closed_fn *closed;
	uv_poll_t poll;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle;
	uv_timer_t timer;
};

/* A loop with an active idle handle polls without sleeping; that is all that these two are for. */
static inline void fq_uv_on_idle(uv_idle_t *handle)
{
	(void)handle;
}

static inline void fq_uv_on_timer(uv_timer_t *handle)
{
	(void)handle;
}

/* The check handle, which comes next, does the work. */
static inline void fq_uv_on_poll(uv_poll_t *handle, int status, int events)
{
	(void)status;
	(void)events;
	((struct fq_uv *)handle->data)->readable = true;
}

static inline void fq_uv_set_timer(struct fq_uv *u)
{
	int64_t ns = fq_queue_timeout(u->queue);

	if (ns < 0) {
		uv_timer_stop(&u->timer);
		return;
	}
	uv_update_time(u->timer.loop);
	uv_timer_start(&u->timer, fq_uv_on_timer, (uint64_t)(ns / 1000000 + (ns % 1000000 != 0)),
		       0);
}

static inline void fq_uv_on_prepare(uv_prepare_t *handle)
{
	struct fq_uv *u = (struct fq_uv *)handle->data;

	if (fq_queue_prepare(u->queue, &u->waiter)) {
		uv_idle_stop(&u->idle);
		fq_uv_set_timer(u);
	} else {
		uv_idle_start(&u->idle, fq_uv_on_idle);
	}
}

/* The fd: other fds and a timer may stand behind it (FQ_QUEUE_EPOLL). */
static inline void fq_uv_on_check(uv_check_t *handle)
{
	struct fq_uv *u = (struct fq_uv *)handle->data;

	fq_queue_check(u->queue, &u->waiter);
	if (!fq_queue_pending(u->queue) && fq_queue_timeout(u->queue) && !u->readable)
		return;
	u->readable = false;
	fq_queue_drain(u->queue, u->budget);
}

/**
 * Puts @p q into @p loop; at most @p budget completions are run on a turn of it.
 * @return 0, or libuv's error (a negative errno), and nothing done.
 */
static inline int fq_uv_init(struct fq_uv *u, uv_loop_t *loop, struct fq_queue *q, unsigned budget)
{
	int err = uv_poll_init(loop, &u->poll, fq_queue_fd(q));

	if (err)
		return err;
	u->queue = q;
	u->waiter.asleep = false;
	u->budget = budget;
	u->open = 5;
	u->readable = false;
	/* None of these can fail, nor can starting them. */
	uv_prepare_init(loop, &u->prepare);
	uv_check_init(loop, &u->check);
	uv_idle_init(loop, &u->idle);
	uv_timer_init(loop, &u->timer);
	u->poll.data = u->prepare.data = u->check.data = u->idle.data = u->timer.data = u;
	uv_unref((uv_handle_t *)&u->prepare);
	uv_unref((uv_handle_t *)&u->check);
	uv_unref((uv_handle_t *)&u->idle);
	uv_unref((uv_handle_t *)&u->timer);
	uv_poll_start(&u->poll, UV_READABLE, fq_uv_on_poll);
	uv_prepare_start(&u->prepare, fq_uv_on_prepare);
	uv_check_start(&u->check, fq_uv_on_check);
	return 0;
}

static inline void fq_uv_on_close(uv_handle_t *handle)
{
	struct fq_uv *u = (struct fq_uv *)handle->data;

	if (!--u->open && u->closed)
		u->closed(u);
}

/**
 * Disarms the queue and takes it out of the loop; what is posted from now on waits to be drained by
 * somebody else. @p closed may be NULL. Also from a completion.
 */
static inline void fq_uv_close(struct fq_uv *u, fq_uv_closed_fn *closed)
{
	fq_queue_check(u->queue, &u->waiter);
	u->closed = closed;
	uv_close((uv_handle_t *)&u->poll, fq_uv_on_close);
	uv_close((uv_handle_t *)&u->prepare, fq_uv_on_close);
	uv_close((uv_handle_t *)&u->check, fq_uv_on_close);
	uv_close((uv_handle_t *)&u->idle, fq_uv_on_close);
	uv_close((uv_handle_t *)&u->timer, fq_uv_on_close);
}

FQ_END_DECLS

#endif /* FENCEQ_LOOP_UV_H */
