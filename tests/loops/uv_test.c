/* SPDX-License-Identifier: MIT */
/* fenceq/loop_uv.h with the real libuv. */
#define _GNU_SOURCE
#include <fenceq/loop_uv.h>

#include "loops.h"

static uv_loop_t loop;
static struct fq_uv glue;
static uv_timer_t guard;
static unsigned closed;

static void has_closed(struct fq_uv *u)
{
	cr_assert_eq(u, &glue);
	closed++;
}

static void wake_up_is_lost(uv_timer_t *timer)
{
	(void)timer;
	cr_assert_fail("asleep with %s", fq_queue_pending(glue.queue) ? "work" : "no work");
}

static void open_loop(struct fq_queue *q, unsigned budget)
{
	closed = 0;
	cr_assert_eq(uv_loop_init(&loop), 0);
	cr_assert_eq(fq_uv_init(&glue, &loop, q, budget), 0);
	uv_timer_init(&loop, &guard);
	uv_timer_start(&guard, wake_up_is_lost, LOST_MS, 0);
	uv_unref((uv_handle_t *)&guard);
}

static void close_loop(void)
{
	if (!uv_is_closing((uv_handle_t *)&glue.poll))
		fq_uv_close(&glue, has_closed);
	uv_close((uv_handle_t *)&guard, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_assert_eq(closed, 1);
	cr_assert_eq(uv_loop_close(&loop), 0, "a handle is left");
}

static void open_all(void)
{
	tally_open(FQ_QUEUE_HOOKS);
	open_loop(tally.q, 3);
}

static void close_all(void)
{
	close_loop();
	tally_close();
}

TestSuite(uv, .init = open_all, .fini = close_all, .timeout = 120);
TestSuite(trap, .init = open_all, .fini = close_all, .timeout = 120);

static void run_until(unsigned ran)
{
	while (tally.ran < ran)
		uv_run(&loop, UV_RUN_ONCE);
}

static void stop(void *opaque)
{
	uv_stop(opaque);
}

static void run_load(unsigned flags)
{
	struct load load = small_load();
	struct fq_queue *q;

	close_loop();
	cr_assert_eq(fq_queue_create(&q, flags), 0);
	open_loop(q, load.budget);
	load.done = stop;
	load.opaque = &loop;
	cr_assert_eq(load_start(&load, q), 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_assert(load_finished(&load));
	cr_assert_eq(load_end(&load, "libuv"), 0);
	close_loop();
	cr_assert_eq(fq_queue_destroy(q), 0);
	open_loop(tally.q, 3);
}

Test(uv, load)
{
	run_load(FQ_QUEUE_HOOKS);
}

Test(uv, load_with_a_pipe)
{
	run_load(FQ_QUEUE_HOOKS | FQ_QUEUE_PIPE);
}

Test(uv, load_behind_an_epoll)
{
	run_load(FQ_QUEUE_HOOKS | FQ_QUEUE_EPOLL);
}

Test(uv, watched_fds)
{
	struct fq_queue *q;

	close_loop();
	cr_assert_eq(fq_queue_create(&q, FQ_QUEUE_HOOKS | FQ_QUEUE_EPOLL), 0);
	open_loop(q, 3);
	open_watched(q);
	for (unsigned turns = 0; !watched_bytes; turns++) {
		cr_assert_lt(turns, 4, "it spins");
		uv_run(&loop, UV_RUN_ONCE);
	}
	close_watched();
	close_loop();
	cr_assert_eq(fq_queue_destroy(q), 0);
	open_loop(tally.q, 3);
}

Test(uv, a_queue_without_hooks_works_too)
{
	run_load(0);
}

static void push_the_rest(void)
{
	tally_push(1, 64);
}

/* One write for the sleep; none for the 63 posts that come while the loop works, nor for leftovers. */
Test(uv, a_busy_loop_is_not_written_to)
{
	tally.at = 1;
	tally.then = push_the_rest;
	start_pusher(0);
	sem_post(&push_now);
	run_until(64);
	join_pusher();
	cr_assert_leq(tally_writes(), 1);
	cr_assert_eq(queue_stats(tally.q).budget_stops, 21, "the budget is 3");
}

/* Between two sleeps the queue is not armed. */
Test(uv, awake_after_a_turn)
{
	uv_run(&loop, UV_RUN_NOWAIT);
	cr_assert_eq(queue_stats(tally.q).arms, 1);
	tally_push(0, 1);
	cr_assert_eq(tally_writes(), 0);
	run_until(1);
}

/* The idle handle is active exactly while work is left. */
Test(uv, idle_only_while_work_is_left)
{
	tally_push(0, 7);
	uv_run(&loop, UV_RUN_NOWAIT);
	cr_assert_eq(tally.ran, 3);
	cr_assert(uv_is_active((uv_handle_t *)&glue.idle));
	run_until(7);
	uv_run(&loop, UV_RUN_NOWAIT);
	cr_assert_not(uv_is_active((uv_handle_t *)&glue.idle));
}

static unsigned fired;

static void fire(struct fq_deadline *d)
{
	(void)d;
	fired++;
}

Test(uv, deadlines)
{
	struct fq_deadline d = {.run = fire};

	fired = 0;
	cr_assert_eq(fq_deadline_set(tally.q, &d, 1500000), 0);
	while (!fired)
		uv_run(&loop, UV_RUN_ONCE);
	cr_assert_eq(fq_deadline_set(tally.q, &d, 0), 0);
	uv_run(&loop, UV_RUN_ONCE);
	cr_assert_eq(fired, 2);
	cr_assert_eq(fq_deadline_set(tally.q, &d, INT64_MAX), 0);
	tally_push(0, 1);
	run_until(1);
	uv_run(&loop, UV_RUN_NOWAIT);
	cr_assert(uv_is_active((uv_handle_t *)&glue.timer));
	cr_assert(fq_deadline_cancel(&d));
	uv_run(&loop, UV_RUN_NOWAIT);
	cr_assert_not(uv_is_active((uv_handle_t *)&glue.timer));
}

/* uv_run() cannot be nested; a completion that waits for another does so by hand. */
static void wait_by_hand(void)
{
	sem_post(&push_now);
	while (tally.ran < 6) {
		if (fq_queue_drain(tally.q, 2))
			continue;
		cr_assert_eq(fq_queue_wait(tally.q, LOST_MS * INT64_C(1000000)), 1);
	}
}

/* Seen to fail (in fq_queue_wait) with a poster that asks whether a drain is under way. */
Test(trap, t07_wait_inside_a_completion)
{
	tally.at = 2;
	tally.then = wait_by_hand;
	start_pusher(5);
	tally_push(0, 5);
	run_until(6);
	join_pusher();
	tally.at = 0;
	start_pusher(6);
	sem_post(&push_now);
	run_until(7);
	join_pusher();
}

static void close_inside(void)
{
	fq_uv_close(&glue, has_closed);
}

/* Closed by a completion: the loop ends, and the queue is disarmed. */
Test(uv, closed_by_a_completion)
{
	tally.at = 2;
	tally.then = close_inside;
	tally_push(0, 5);
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_assert_eq(closed, 1);
	cr_assert_eq(tally.ran, 3, "the drain goes on");
	tally_push(5, 6);
	cr_assert_eq(tally_writes(), 0, "still armed");
	cr_assert_eq(fq_queue_drain(tally.q, 16), 3);
}

static void close_asleep(uv_poll_t *handle, int status, int events)
{
	(void)status;
	(void)events;
	cr_assert(glue.waiter.asleep);
	fq_uv_close(&glue, has_closed);
	uv_close((uv_handle_t *)handle, NULL);
}

/* From a callback of the poll: between prepare and check. */
Test(uv, closed_while_armed)
{
	uv_poll_t other;

	cr_assert_eq(pipe(watched_fd), 0);
	cr_assert_eq(write(watched_fd[1], "x", 1), 1);
	cr_assert_eq(uv_poll_init(&loop, &other, watched_fd[0]), 0);
	uv_poll_start(&other, UV_READABLE, close_asleep);
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_assert_eq(closed, 1);
	tally_push(0, 1);
	cr_assert_eq(tally_writes(), 0, "still armed");
	cr_assert_eq(fq_queue_drain(tally.q, 16), 1);
	close(watched_fd[0]);
	close(watched_fd[1]);
}

Test(uv, unref_lets_the_loop_end)
{
	uv_unref((uv_handle_t *)&glue.poll);
	cr_assert_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
	uv_ref((uv_handle_t *)&glue.poll);
}

/* -- a loop that another thread runs ----------------------------------------------------------- */

static struct load load;

static void *run_for_a_while(void *arg)
{
	fq_queue_set_owner(arg);
	for (unsigned i = 0; i < 9 && !load_finished(&load); i++)
		uv_run(&loop, UV_RUN_ONCE);
	return NULL;
}

Test(uv, a_loop_that_moves)
{
	struct fq_queue *q;
	pthread_t thread;

	close_loop();
	load = small_load();
	cr_assert_eq(fq_queue_create(&q, FQ_QUEUE_HOOKS), 0);
	open_loop(q, load.budget);
	cr_assert_eq(load_start(&load, q), 0);
	while (!load_finished(&load)) {
		cr_assert_eq(pthread_create(&thread, NULL, run_for_a_while, q), 0);
		pthread_join(thread, NULL);
		(void)run_for_a_while(q);
	}
	cr_assert_eq(load_end(&load, "libuv, moving"), 0);
	close_loop();
	cr_assert_eq(fq_queue_destroy(q), 0);
	open_loop(tally.q, 3);
}
