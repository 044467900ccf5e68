/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_LOOP_GLIB_H
#define FENCEQ_LOOP_GLIB_H

/**
 * @file loop_glib.h
 * @brief A queue as a GSource. Needs GLib (2.36 or later); the umbrella header does not include it.
 *
 * Overview
 *   The queue is created with FQ_QUEUE_HOOKS. The source's prepare arms it, its check disarms it, its
 *   dispatch drains up to a budget; deadlines go into the loop's time-out. While the loop works, no
 *   poster writes the fd.
 *
 * Usage
 *     fq_queue_create(&q, FQ_QUEUE_HOOKS);
 *     source = fq_glib_source_new(q, 256);
 *     g_source_attach(source, context);
 *     ...                                      // the context's thread drains
 *     fq_glib_source_destroy(source);          // and only then fq_queue_destroy(q)
 *
 * Guarantees
 *   Everything here is the owner's: the thread that has acquired the context, or nobody has yet. A
 *   context that moves to another thread takes the source along; where the host asks
 *   fq_queue_is_owner() (blocking calls do), the new thread calls fq_queue_set_owner().
 *
 * Notes
 *   - GLib does not say whether it will sleep, and may prepare a source and neither poll nor check
 *     it: because another was ready, or one of a higher priority is now. The queue then stays armed,
 *     which costs one write at most; prepare begins with the check that did not come.
 *   - The source may be dispatched from inside its own dispatch (a callback that runs
 *     g_main_context_iteration()): the inner drain goes on where the outer one stands. One that is
 *     not recursive would be left out of the inner loop, and what that waits for would never come.
 *   - GLib counts time-outs in milliseconds; deadlines are rounded up.
 */

#include <glib.h>

#include <fenceq/base.h>
#include <fenceq/deadline.h>
#include <fenceq/queue.h>

FQ_BEGIN_DECLS

struct fq_glib_source {
	GSource base;
	struct fq_queue *queue; /* NULL once destroyed */
	struct fq_waiter waiter;
	unsigned budget;
};

static inline gboolean fq_glib_prepare(GSource *base, gint *timeout_ms)
{
	struct fq_glib_source *s = (struct fq_glib_source *)(void *)base;
	int64_t ns;

	fq_queue_check(s->queue, &s->waiter);
	if (!fq_queue_prepare(s->queue, &s->waiter))
		return TRUE;
	ns = fq_queue_timeout(s->queue);
	if (ns < 0)
		*timeout_ms = -1;
	else
		*timeout_ms = (gint)MIN(ns / 1000000 + (ns % 1000000 != 0), G_MAXINT);
	return FALSE;
}

static inline gboolean fq_glib_check(GSource *base)
{
	struct fq_glib_source *s = (struct fq_glib_source *)(void *)base;

	fq_queue_check(s->queue, &s->waiter);
	/* GLib adds: or the fd is readable (FQ_QUEUE_EPOLL puts more behind it than posts). */
	return fq_queue_pending(s->queue) || !fq_queue_timeout(s->queue);
}

static inline gboolean fq_glib_dispatch(GSource *base, GSourceFunc callback, gpointer user_data)
{
	struct fq_glib_source *s = (struct fq_glib_source *)(void *)base;

	(void)callback;
	(void)user_data;
	fq_queue_drain(s->queue, s->budget);
	return G_SOURCE_CONTINUE;
}

static inline void fq_glib_finalize(GSource *base)
{
	struct fq_glib_source *s = (struct fq_glib_source *)(void *)base;

	if (s->queue)
		fq_queue_check(s->queue, &s->waiter);
}

/**
 * A source that drains @p q, at most @p budget completions in a dispatch; not attached. Its priority
 * is G_PRIORITY_DEFAULT, as ever. Ends the process when there is no memory, as GLib does.
 */
static inline GSource *fq_glib_source_new(struct fq_queue *q, unsigned budget)
{
	static GSourceFuncs functions = {fq_glib_prepare,  fq_glib_check, fq_glib_dispatch,
					 fq_glib_finalize, NULL,          NULL};
	GSource *base = g_source_new(&functions, sizeof(struct fq_glib_source));
	struct fq_glib_source *s = (struct fq_glib_source *)(void *)base;

	s->queue = q;
	s->waiter.asleep = false;
	s->budget = budget;
	g_source_add_unix_fd(base, fq_queue_fd(q), G_IO_IN);
	g_source_set_can_recurse(base, TRUE);
	g_source_set_name(base, "fenceq");
	return base;
}

/**
 * Disarms the queue, destroys the source and gives up the reference of fq_glib_source_new(). The
 * queue may go afterwards, although others may hold references to the source still. Also from a
 * completion that the source is dispatching. NULL is allowed.
 */
static inline void fq_glib_source_destroy(GSource *base)
{
	struct fq_glib_source *s = (struct fq_glib_source *)(void *)base;

	if (!base)
		return;
	g_source_destroy(base);
	if (s->queue)
		fq_queue_check(s->queue, &s->waiter);
	s->queue = NULL;
	g_source_unref(base);
}

FQ_END_DECLS

#endif /* FENCEQ_LOOP_GLIB_H */
