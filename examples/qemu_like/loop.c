/* SPDX-License-Identifier: MIT */
#include "loop.h"

#include <glib-unix.h>

#include <fenceq/fenceq.h>

#include "biglock.h"
#include "watchdog.h"

/* Completions of one dispatch, so that they keep nothing else waiting. */
#define DRAIN_BUDGET 256

/* GLib's sleep, the one place where the loop has not got the big lock. */
static gint poll_without_lock(GPollFD *fds, guint count, gint timeout_ms)
{
	gint ready;

	biglock_unlock();
	actor_does(ACTOR_SLEEPS, "in poll");
	ready = g_poll(fds, count, timeout_ms);
	biglock_lock("to go on after poll");
	return ready;
}

void loop_init(struct loop *l)
{
	l->context = g_main_context_new();
	l->main = g_main_loop_new(l->context, FALSE);
	g_main_context_set_poll_func(l->context, poll_without_lock);
}

static void add(struct loop *l, GSource *source)
{
	g_source_attach(source, l->context);
	g_source_unref(source);
}

/* -- a fenceq queue ---------------------------------------------------------------------------- */

/*
 * The queue is armed by prepare and disarmed by check, so posters write its fd only when the loop
 * sleeps or is about to. GLib may leave out either, after a source of higher priority: both may be
 * called in any number, and a queue that stays armed costs one write too many, no more.
 */
struct queue_source {
	GSource source;
	struct fq_queue *queue;
	struct fq_waiter waiter;
};

static gboolean queue_prepare(GSource *source, gint *timeout_ms)
{
	struct queue_source *s = (struct queue_source *)source;
	int64_t ns;

	*timeout_ms = -1;
	if (!fq_queue_prepare(s->queue, &s->waiter))
		return TRUE;
	ns = fq_queue_timeout(s->queue);
	if (ns >= 0) /* rounded up: not to wake before a deadline of the queue */
		*timeout_ms = (gint)MIN((ns + 999999) / 1000000, G_MAXINT);
	return FALSE;
}

static gboolean queue_check(GSource *source)
{
	struct queue_source *s = (struct queue_source *)source;

	fq_queue_check(s->queue, &s->waiter);
	return fq_queue_pending(s->queue) || !fq_queue_timeout(s->queue);
}

/* poll, not drain: check has cleared the fd already. */
static gboolean queue_dispatch(GSource *source, GSourceFunc callback, gpointer opaque)
{
	(void)callback;
	(void)opaque;
	fq_queue_poll(((struct queue_source *)source)->queue, DRAIN_BUDGET);
	return G_SOURCE_CONTINUE;
}

void loop_add_queue(struct loop *l, struct fq_queue *q)
{
	static GSourceFuncs funcs = {
		.prepare = queue_prepare,
		.check = queue_check,
		.dispatch = queue_dispatch,
	};
	GSource *source = g_source_new(&funcs, sizeof(struct queue_source));

	((struct queue_source *)source)->queue = q;
	g_source_add_unix_fd(source, fq_queue_fd(q), G_IO_IN);
	add(l, source);
}

/* -- what every loop has ----------------------------------------------------------------------- */

struct call {
	void (*fn)(void *opaque);
	void *opaque;
};

static struct call *new_call(void (*fn)(void *opaque), void *opaque)
{
	struct call *call = g_new(struct call, 1);

	*call = (struct call){fn, opaque};
	return call;
}

static gboolean fd_ready(gint fd, GIOCondition condition, gpointer opaque)
{
	const struct call *call = opaque;

	(void)fd;
	(void)condition;
	call->fn(call->opaque);
	return G_SOURCE_CONTINUE;
}

void loop_add_fd(struct loop *l, int fd, void (*fn)(void *opaque), void *opaque)
{
	GSource *source = g_unix_fd_source_new(fd, G_IO_IN);

	g_source_set_callback(source, G_SOURCE_FUNC(fd_ready), new_call(fn, opaque), g_free);
	add(l, source);
}

static gboolean call_dispatch(GSource *source, GSourceFunc callback, gpointer opaque)
{
	g_source_set_ready_time(source, -1);
	return callback(opaque);
}

static gboolean call_run(gpointer opaque)
{
	const struct call *call = opaque;

	call->fn(call->opaque);
	return G_SOURCE_CONTINUE;
}

GSource *loop_add_call(struct loop *l, void (*fn)(void *opaque), void *opaque)
{
	static GSourceFuncs funcs = {.dispatch = call_dispatch};
	GSource *source = g_source_new(&funcs, sizeof(GSource));

	g_source_set_callback(source, call_run, new_call(fn, opaque), g_free);
	add(l, source);
	return source;
}

void loop_call_at(GSource *call, gint64 time_us)
{
	g_source_set_ready_time(call, time_us);
}

void loop_run(struct loop *l)
{
	g_main_loop_run(l->main);
	g_main_loop_unref(l->main);
	g_main_context_unref(l->context);
}

void loop_quit(struct loop *l)
{
	g_main_loop_quit(l->main);
}
