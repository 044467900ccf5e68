/* SPDX-License-Identifier: MIT */
#ifndef COROUTINE_H
#define COROUTINE_H

/*
 * Coroutines that live on the owner of a queue, and that any thread may resume.
 *
 * A resume is a push of the node that is part of the coroutine: lock-free, without allocation, one
 * write if the owner sleeps. The owner's drain then goes on with it, so coroutines continue in the
 * order in which they were resumed, and one that is resumed while it runs goes on from its next park.
 *
 *     static void serve(struct co *co, void *arg)            // runs on the owner
 *     {
 *             start_something(arg, co);                       // will co_resume(co) from any thread
 *             while (!something_is_done(arg))
 *                     if (co_park(co))                        // -ECANCELED: clean up and return
 *                             return;
 *     }
 *     co = co_create(queue, serve, arg);
 *     co_resume(co);                                          // its start, too
 */

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include <fenceq/pool.h>
#include <fenceq/queue.h>

#include "fiber.h"

struct co;
typedef void co_fn(struct co *co, void *arg);

struct co {
	struct fq_node node; /* first: the node is the coroutine */
	struct fq_queue *queue;
	atomic_bool on_queue; /* set by who pushes the node, cleared before the coroutine goes on */
	struct fiber fiber;
	co_fn *fn;
	void *arg;
	bool running; /* the owner's from here on */
	bool resumed; /* while it ran, by a drain of its own */
	bool cancelled;
	bool destroyed;
};

static inline void co_free(struct co *co)
{
	fiber_fini(&co->fiber);
	free(co);
}

static inline void co_enter(struct co *co)
{
	co->running = true;
	fiber_enter(&co->fiber);
	co->running = false;
	if (co->fiber.over && co->destroyed && !atomic_load(&co->on_queue))
		co_free(co);
}

/* The node's turn, in a drain. */
static inline void co_turn(struct fq_node *node)
{
	struct co *co = (struct co *)node;

	/* Before it goes on, or a resume that comes meanwhile would be lost. */
	atomic_store(&co->on_queue, false);
	if (co->running)
		co->resumed = true;
	else if (!co->fiber.over)
		co_enter(co);
	else if (co->destroyed)
		co_free(co);
}

static inline void co_main(void *arg)
{
	struct co *co = (struct co *)arg;

	co->fn(co, co->arg);
}

/* Owner. NULL: no memory. It starts with its first resume. */
static inline struct co *co_create(struct fq_queue *queue, co_fn *fn, void *arg)
{
	struct co *co = (struct co *)calloc(1, sizeof(*co));

	if (!co || !fiber_init(&co->fiber, co_main, co)) {
		free(co);
		return NULL;
	}
	co->node.run = co_turn;
	co->queue = queue;
	co->fn = fn;
	co->arg = arg;
	return co;
}

/* Any thread that knows it to be there. Resumes that come before its turn are one. */
static inline void co_resume(struct co *co)
{
	if (!atomic_exchange(&co->on_queue, true))
		fq_queue_push(co->queue, &co->node);
}

/* Inside the coroutine: until the next resume. 0; -ECANCELED once it is cancelled. */
static inline int co_park(struct co *co)
{
	if (!co->resumed && !co->cancelled)
		fiber_leave(&co->fiber);
	co->resumed = false;
	return co->cancelled ? -ECANCELED : 0;
}

/* Owner. Every park from now on returns -ECANCELED, the one it is in as soon as its turn comes. */
static inline void co_cancel(struct co *co)
{
	co->cancelled = true;
	co_resume(co);
}

/* True when its function has returned. Owner. */
static inline bool co_over(const struct co *co)
{
	return co->fiber.over;
}

/*
 * Owner, when nobody will resume it any more. One that is not over is cancelled; the memory goes when
 * it is over and its node is off the queue.
 */
static inline void co_destroy(struct co *co)
{
	co->destroyed = true;
	if (!co->fiber.over)
		co_cancel(co);
	else if (!co->running && !atomic_load(&co->on_queue))
		co_free(co);
}

/* A coroutine that waits for a pool's worker. On the coroutine's stack. */
struct co_work {
	struct fq_work work; /* first: the work is this */
	struct co *co;
	int (*run)(void *arg);
	void *arg;
	int status;
	bool done;
};

static inline int co_work_run(struct fq_work *work)
{
	struct co_work *w = (struct co_work *)work;

	return w->run(w->arg);
}

static inline void co_work_done(struct fq_work *work, int status)
{
	struct co_work *w = (struct co_work *)work;

	w->status = status;
	w->done = true;
	co_resume(w->co);
}

/*
 * Inside the coroutine: has run(arg) done by a worker, while the owner goes on with others. What it
 * returned, or -ECANCELED when the coroutine was cancelled before the work started. (A work that runs
 * uses what `arg` points to, so even a cancelled coroutine waits until it has returned.)
 */
static inline int co_await (struct co *co, struct fq_pool *pool, int (*run)(void *), void *arg)
{
	struct co_work w = {.co = co, .run = run, .arg = arg};
	int err;

	w.work.run = co_work_run;
	w.work.done = co_work_done;
	w.work.queue = co->queue;
	err = fq_pool_submit(pool, &w.work);
	if (err)
		return err;
	while (!w.done) {
		if (co->cancelled)
			(void)fq_pool_cancel(pool, &w.work);
		if (!co->resumed)
			fiber_leave(&co->fiber);
		co->resumed = false;
	}
	return w.status;
}

#endif /* COROUTINE_H */
