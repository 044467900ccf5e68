/* SPDX-License-Identifier: MIT */
/* fenceq/loop_glib.h with the real GLib. */
#define _GNU_SOURCE
#include <fenceq/loop_glib.h>
#include <glib-unix.h>
#include <unistd.h>

#include "loops.h"

static GMainContext *context;
static GSource *source;
static unsigned polls;
static gint last_timeout;

/* Every sleep is bounded; one that ends that way has lost its wake-up. */
static gint bounded_poll(GPollFD *fds, guint count, gint timeout_ms)
{
	gint n = g_poll(fds, count, timeout_ms < 0 ? LOST_MS : timeout_ms);

	polls++;
	last_timeout = timeout_ms;
	cr_assert(n || timeout_ms >= 0, "asleep with %s",
		  fq_queue_pending(tally.q) ? "work" : "no work");
	return n;
}

static void open_context(struct fq_queue *q, unsigned budget)
{
	polls = 0;
	context = g_main_context_new();
	g_main_context_set_poll_func(context, bounded_poll);
	source = fq_glib_source_new(q, budget);
	g_source_attach(source, context);
}

static void close_context(void)
{
	fq_glib_source_destroy(source);
	g_main_context_unref(context);
}

static void open_all(void)
{
	tally_open(FQ_QUEUE_HOOKS);
	open_context(tally.q, 3);
}

static void close_all(void)
{
	close_context();
	tally_close();
}

TestSuite(glib, .init = open_all, .fini = close_all, .timeout = 120);
TestSuite(trap, .init = open_all, .fini = close_all, .timeout = 120);

static void iterate_until(unsigned ran)
{
	while (tally.ran < ran)
		g_main_context_iteration(context, TRUE);
}

static void run_load(unsigned flags)
{
	struct load load = small_load();
	struct fq_queue *q;

	close_context();
	cr_assert_eq(fq_queue_create(&q, flags), 0);
	open_context(q, load.budget);
	cr_assert_eq(load_start(&load, q), 0);
	while (!load_finished(&load))
		g_main_context_iteration(context, TRUE);
	cr_assert_eq(load_end(&load, "glib"), 0);
	close_context();
	cr_assert_eq(fq_queue_destroy(q), 0);
	open_context(tally.q, 3);
}

Test(glib, load)
{
	run_load(FQ_QUEUE_HOOKS);
}

Test(glib, load_with_a_pipe)
{
	run_load(FQ_QUEUE_HOOKS | FQ_QUEUE_PIPE);
}

Test(glib, load_behind_an_epoll)
{
	run_load(FQ_QUEUE_HOOKS | FQ_QUEUE_EPOLL);
}

Test(glib, watched_fds)
{
	struct fq_queue *q;

	close_context();
	cr_assert_eq(fq_queue_create(&q, FQ_QUEUE_HOOKS | FQ_QUEUE_EPOLL), 0);
	open_context(q, 3);
	open_watched(q);
	while (!watched_bytes)
		g_main_context_iteration(context, TRUE);
	close_watched();
	cr_assert_leq(polls, 2, "it spins");
	close_context();
	cr_assert_eq(fq_queue_destroy(q), 0);
	open_context(tally.q, 3);
}

Test(glib, a_queue_without_hooks_works_too)
{
	run_load(0);
}

static void push_the_rest(void)
{
	tally_push(1, 64);
}

/* One write for the sleep; none for the 63 posts that come while the loop works. */
Test(glib, a_busy_loop_is_not_written_to)
{
	tally.at = 1;
	tally.then = push_the_rest;
	start_pusher(0);
	sem_post(&push_now);
	iterate_until(64);
	join_pusher();
	cr_assert_leq(tally_writes(), 1);
	cr_assert_eq(queue_stats(tally.q).budget_stops, 21, "the budget is 3");
}

/* Between two sleeps the queue is not armed. */
Test(glib, awake_after_a_turn)
{
	g_main_context_iteration(context, FALSE);
	cr_assert_eq(queue_stats(tally.q).arms, 1);
	tally_push(0, 1);
	cr_assert_eq(tally_writes(), 0);
	iterate_until(1);
}

/* The time-out is the deadline's, rounded up; one that is due is no sleep. */
static unsigned fired;

static void fire(struct fq_deadline *d)
{
	(void)d;
	fired++;
}

Test(glib, deadlines)
{
	struct fq_deadline d = {.run = fire};

	fired = 0;
	g_main_context_iteration(context, FALSE);
	polls = 0;
	cr_assert_eq(fq_deadline_set(tally.q, &d, 900000), 0);
	g_main_context_iteration(context, TRUE);
	cr_assert_leq(last_timeout, 1);
	cr_assert_eq(fired, 1, "it took another turn");
	cr_assert_eq(polls, 1);
	cr_assert_eq(fq_deadline_set(tally.q, &d, 0), 0);
	g_main_context_iteration(context, TRUE);
	cr_assert_eq(fired, 2);
	cr_assert_eq(last_timeout, 0);
	cr_assert_eq(fq_deadline_set(tally.q, &d, INT64_MAX), 0);
	tally_push(0, 1);
	g_main_context_iteration(context, TRUE);
	cr_assert(fq_deadline_cancel(&d));
}

/* -- prepared, and not checked ----------------------------------------------------------------- */

static int pipe_fd[2];

static gboolean read_pipe(gint fd, GIOCondition condition, gpointer user_data)
{
	char byte;

	(void)condition;
	(void)user_data;
	cr_assert_eq(read(fd, &byte, 1), 1);
	return G_SOURCE_CONTINUE;
}

/* A source of higher priority is found ready by its check: this one's is not called. */
Test(glib, prepared_and_not_checked)
{
	GSource *urgent;

	cr_assert_eq(pipe(pipe_fd), 0);
	urgent = g_unix_fd_source_new(pipe_fd[0], G_IO_IN);
	g_source_set_callback(urgent, G_SOURCE_FUNC(read_pipe), NULL, NULL);
	g_source_set_priority(urgent, G_PRIORITY_HIGH);
	g_source_attach(urgent, context);

	for (unsigned i = 0; i < 8; i++) {
		cr_assert_eq(write(pipe_fd[1], "x", 1), 1);
		g_main_context_iteration(context, TRUE);
		cr_assert_eq(tally.ran, i);
		cr_assert(((struct fq_glib_source *)source)->waiter.asleep, "nobody has checked");
		tally_push(i, i + 1);
		cr_assert(readable(tally.q));
		g_main_context_iteration(context, TRUE);
		cr_assert_eq(tally.ran, i + 1);
		cr_assert_not(readable(tally.q));
	}
	cr_assert_eq(tally_writes(), 8);
	g_source_destroy(urgent);
	g_source_unref(urgent);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/* Prepare is called again and again, and nobody polls. */
Test(glib, prepared_and_not_polled)
{
	gint priority;

	cr_assert(g_main_context_acquire(context));
	for (unsigned i = 0; i < 3; i++)
		cr_assert_not(g_main_context_prepare(context, &priority));
	tally_push(0, 2);
	cr_assert(readable(tally.q));
	for (unsigned i = 0; i < 3; i++)
		cr_assert(g_main_context_prepare(context, &priority));
	cr_assert_not(readable(tally.q), "prepare has not made up for the check");
	tally_push(2, 4);
	cr_assert_eq(tally_writes(), 1);
	g_main_context_release(context);
	iterate_until(4);
}

/* Destroyed while armed: the queue is as before. */
Test(glib, destroyed_between_prepare_and_check)
{
	gint priority;

	cr_assert(g_main_context_acquire(context));
	cr_assert_not(g_main_context_prepare(context, &priority));
	g_main_context_release(context);
	g_source_ref(source);
	fq_glib_source_destroy(source);
	tally_push(0, 1);
	cr_assert_eq(tally_writes(), 0, "still armed");
	cr_assert_eq(fq_queue_drain(tally.q, 16), 1);
	g_source_unref(source);
	source = fq_glib_source_new(tally.q, 3);
	g_source_attach(source, context);
}

/* A host that only drops the source: finalize disarms. */
Test(glib, finalized_between_prepare_and_check)
{
	gint priority;

	cr_assert(g_main_context_acquire(context));
	cr_assert_not(g_main_context_prepare(context, &priority));
	g_main_context_release(context);
	g_source_destroy(source);
	g_source_unref(source);
	tally_push(0, 1);
	cr_assert_eq(tally_writes(), 0, "still armed");
	cr_assert_eq(fq_queue_drain(tally.q, 16), 1);
	source = fq_glib_source_new(tally.q, 3);
	g_source_attach(source, context);
}

static void destroy_inside(void)
{
	fq_glib_source_destroy(source);
	source = NULL;
}

Test(glib, destroyed_by_a_completion)
{
	tally.at = 1;
	tally.then = destroy_inside;
	tally_push(0, 2);
	iterate_until(2); /* the drain goes on */
	cr_assert_eq(fq_queue_drain(tally.q, 16), 0);
}

/* -- a loop inside a callback ------------------------------------------------------------------ */

/* What the outer drain has taken, then a post that finds the inner loop asleep. */
static void nested_loop(void)
{
	sem_post(&push_now);
	iterate_until(6);
}

/*
 * Seen to fail (in bounded_poll) with a source that is not recursive, and with a poster that asks whether
 * somebody is dispatching.
 */
Test(trap, t07_nested_iteration)
{
	tally.at = 2;
	tally.then = nested_loop;
	start_pusher(5);
	tally_push(0, 5);
	iterate_until(6);
	join_pusher();
	/* The outer loop sleeps, and is woken. */
	tally.at = 0;
	start_pusher(6);
	sem_post(&push_now);
	iterate_until(7);
	join_pusher();
	cr_assert_not(readable(tally.q));
}

/* -- a context that moves ---------------------------------------------------------------------- */

static struct load load;

static void *own_for_a_while(void *arg)
{
	struct fq_queue *q = arg;

	if (!g_main_context_acquire(context))
		return (void *)1;
	fq_queue_set_owner(q);
	for (unsigned i = 0; i < 9 && !load_finished(&load); i++)
		g_main_context_iteration(context, TRUE);
	g_main_context_release(context);
	return NULL;
}

Test(glib, a_context_that_moves)
{
	struct fq_queue *q;
	pthread_t thread;
	void *failed;

	close_context();
	load = small_load();
	cr_assert_eq(fq_queue_create(&q, FQ_QUEUE_HOOKS), 0);
	open_context(q, load.budget);
	cr_assert_eq(load_start(&load, q), 0);
	while (!load_finished(&load)) {
		cr_assert_eq(pthread_create(&thread, NULL, own_for_a_while, q), 0);
		pthread_join(thread, &failed);
		cr_assert_null(failed);
		cr_assert_not(fq_queue_is_owner(q));
		cr_assert_null(own_for_a_while(q));
	}
	fq_queue_set_owner(q);
	cr_assert_eq(load_end(&load, "glib, moving"), 0);
	close_context();
	cr_assert_eq(fq_queue_destroy(q), 0);
	open_context(tally.q, 3);
}
