/* SPDX-License-Identifier: MIT */
/* The AioContext-like loop of examples/loop_aio: polling, a big lock, and a second thread. */
#define _GNU_SOURCE
#include "../../examples/loop_aio/aio_loop.h"

#include "loops.h"

static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;
static struct aio_loop loop;
static struct aio_queue handler;
static struct aio_handler guard; /* tells when a wake-up is lost */
static int64_t lost_at;

static int64_t guard_timeout(struct aio_handler *h)
{
	int64_t left = lost_at - aio_now();

	(void)h;
	return left > 0 ? left : 0;
}

static bool guard_poll(struct aio_handler *h)
{
	return !guard_timeout(h);
}

static void guard_read(struct aio_handler *h)
{
	(void)h;
	cr_assert_fail("asleep with %s", fq_queue_pending(handler.queue) ? "work" : "no work");
}

static void open_loop(struct fq_queue *q, unsigned budget, int64_t poll_max_ns)
{
	loop = (struct aio_loop){.lock = &big_lock, .poll_max_ns = poll_max_ns};
	aio_loop_add_queue(&loop, &handler, q, budget);
	lost_at = aio_now() + LOST_MS * INT64_C(1000000);
	guard = (struct aio_handler){
		.fd = -1, .io_read = guard_read, .io_poll = guard_poll, .timeout = guard_timeout};
	loop.handler[loop.handlers++] = &guard;
	pthread_mutex_lock(&big_lock);
}

static void open_all(void)
{
	tally_open(FQ_QUEUE_HOOKS);
	open_loop(tally.q, 3, 0);
}

static void close_all(void)
{
	pthread_mutex_unlock(&big_lock);
	tally_close();
}

TestSuite(aio, .init = open_all, .fini = close_all, .timeout = 120);
TestSuite(trap, .init = open_all, .fini = close_all, .timeout = 120);

static void run_until(unsigned ran)
{
	while (tally.ran < ran)
		aio_loop_run(&loop, true);
}

/* -- the load, alone and with a vCPU that drains, too ------------------------------------------ */

static struct load load;
static struct fq_node last;

static void nothing(struct fq_node *node)
{
	(void)node;
}

static void wake_loop(void *q)
{
	fq_queue_push(q, &last);
}

static void *vcpu(void *q)
{
	const struct timespec in_the_guest = {.tv_nsec = 20000};
	bool over;

	do {
		nanosleep(&in_the_guest, NULL);
		pthread_mutex_lock(&big_lock);
		over = load_finished(&load);
		if (!over)
			(void)fq_queue_poll(q, 2);
		pthread_mutex_unlock(&big_lock);
	} while (!over);
	return NULL;
}

static void run_load(int64_t poll_max_ns, bool with_vcpu)
{
	struct fq_queue *q;
	pthread_t thread;

	pthread_mutex_unlock(&big_lock);
	last.run = nothing;
	load = small_load();
	cr_assert_eq(fq_queue_create(&q, FQ_QUEUE_HOOKS), 0);
	open_loop(q, load.budget, poll_max_ns);
	load.done = wake_loop;
	load.opaque = q;
	cr_assert_eq(load_start(&load, q), 0);
	if (with_vcpu)
		cr_assert_eq(pthread_create(&thread, NULL, vcpu, q), 0);
	while (!load_finished(&load) || fq_queue_pending(q))
		aio_loop_run(&loop, true);
	pthread_mutex_unlock(&big_lock);
	if (with_vcpu)
		pthread_join(thread, NULL);
	cr_assert_eq(load_end(&load, "aio"), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
	pthread_mutex_lock(&big_lock);
}

Test(aio, load)
{
	run_load(0, false);
}

Test(aio, load_polling)
{
	run_load(1000000, false);
}

Test(aio, load_with_a_second_thread)
{
	run_load(0, true);
}

Test(aio, load_polling_with_a_second_thread)
{
	run_load(100000, true);
}

/* -- one thing at a time ----------------------------------------------------------------------- */

static void push_the_rest(void)
{
	tally_push(1, 64);
}

Test(aio, a_busy_loop_is_not_written_to)
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
Test(aio, awake_after_a_turn)
{
	cr_assert_not(aio_end_polling(&loop));
	cr_assert_eq(queue_stats(tally.q).arms, 1);
	aio_begin_polling(&loop);
	tally_push(0, 1);
	cr_assert_eq(tally_writes(), 0);
	run_until(1);
}

/* A loop that finds something while it polls never arms, so nobody writes. */
Test(aio, a_polling_loop_is_not_written_to)
{
	loop.poll_max_ns = loop.poll_ns = LOST_MS * INT64_C(1000000);
	start_pusher(0);
	sem_post(&push_now);
	run_until(1);
	join_pusher();
	cr_assert_eq(tally_writes(), 0);
	cr_assert_eq(queue_stats(tally.q).arms, 0);
	cr_assert_eq(loop.waits, 0);
}

Test(aio, how_long_to_poll_is_learnt)
{
	loop.poll_max_ns = 30000;
	aio_adapt(&loop, 10000);
	cr_assert_eq(loop.poll_ns, 4000, "begins");
	aio_adapt(&loop, 3000);
	cr_assert_eq(loop.poll_ns, 4000, "enough");
	for (unsigned i = 0; i < 5; i++)
		aio_adapt(&loop, 30000);
	cr_assert_eq(loop.poll_ns, 30000, "grows up to its limit");
	aio_adapt(&loop, 50000);
	cr_assert_eq(loop.poll_ns, 15000, "in vain");
	for (unsigned i = 0; i < 20; i++)
		aio_adapt(&loop, 50000);
	cr_assert_eq(loop.poll_ns, 0);
}

static void push_first(struct aio_handler *h)
{
	(void)h;
	if (!tally.ran)
		tally_push(0, 1);
}

/* A post after the last look and before the arm: asked again, the queue says so. */
Test(aio, post_at_the_last_moment)
{
	struct aio_handler early = {.fd = -1, .io_read = guard_read, .io_poll_end = push_first};

	loop.handler[loop.handlers++] = loop.handler[0];
	loop.handler[0] = &early;
	run_until(1);
}

static void nested_loop(void)
{
	sem_post(&push_now);
	run_until(6);
}

/* Seen to fail (the inner loop sleeps on) with a poster that asks whether somebody is dispatching. */
Test(trap, t07_nested_turns)
{
	tally.at = 2;
	tally.then = nested_loop;
	start_pusher(5);
	tally_push(0, 5);
	run_until(6);
	join_pusher();
	start_pusher(6);
	sem_post(&push_now);
	run_until(7);
	join_pusher();
}

/* -- a second thread while the loop sleeps ----------------------------------------------------- */

/* Takes the lock when the loop is between prepare and check: it has let go of it to sleep. */
static void lock_while_it_sleeps(void)
{
	for (;;) {
		pthread_mutex_lock(&big_lock);
		if (handler.waiter.asleep)
			return;
		pthread_mutex_unlock(&big_lock);
		sched_yield();
	}
}

static const char *seen;

/*
 * Drains what another has posted, fd and all, before the loop has come round to looking at it. (Mostly
 * before: it has been woken, and races. Hence the rounds.)
 */
static void *drain_under_the_lock(void *arg)
{
	unsigned from = (unsigned)(uintptr_t)arg;

	lock_while_it_sleeps();
	tally_push(from, from + 2);
	if (fq_queue_drain(tally.q, 16) != 2)
		seen = "the second thread found nothing";
	sem_post(&push_now); /* and a third thread posts */
	pthread_mutex_unlock(&big_lock);
	return NULL;
}

/* Seen to fail (the loop sleeps on) with a drain that clears the fd and does not arm again. */
Test(trap, t16_second_drainer_while_the_loop_sleeps)
{
	pthread_t thread;

	seen = NULL;
	for (uintptr_t from = 0; from < 60; from += 3) {
		start_pusher((unsigned)from + 2);
		cr_assert_eq(pthread_create(&thread, NULL, drain_under_the_lock, (void *)from), 0);
		run_until((unsigned)from + 3);
		pthread_mutex_unlock(&big_lock);
		pthread_join(thread, NULL);
		join_pusher();
		pthread_mutex_lock(&big_lock);
		cr_assert_null(seen, "%s", seen);
	}
}

/* The second thread sleeps on its own, wakes up, and disarms: for itself alone. */
static void *sleep_and_wake(void *unused)
{
	struct fq_waiter w = {false};

	lock_while_it_sleeps();
	if (!fq_queue_prepare(tally.q, &w))
		seen = "refused";
	fq_queue_check(tally.q, &w);
	sem_post(&push_now);
	pthread_mutex_unlock(&big_lock);
	return unused;
}

/* Seen to fail (the loop sleeps on) when fq_queue_check() disarms although another is asleep. */
Test(trap, t16_second_sleeper_wakes_first)
{
	pthread_t thread;

	seen = NULL;
	start_pusher(0);
	cr_assert_eq(pthread_create(&thread, NULL, sleep_and_wake, NULL), 0);
	run_until(1);
	pthread_mutex_unlock(&big_lock);
	pthread_join(thread, NULL);
	join_pusher();
	pthread_mutex_lock(&big_lock);
	cr_assert_null(seen, "%s", seen);
}

static bool fired;

static void fire(struct fq_deadline *d)
{
	(void)d;
	fired = true;
}

static struct fq_deadline deadline = {.run = fire};

static void *set_deadline(void *unused)
{
	lock_while_it_sleeps();
	if (fq_deadline_set(tally.q, &deadline, 1000000))
		seen = "refused";
	pthread_mutex_unlock(&big_lock);
	return unused;
}

/* Seen to fail (the loop sleeps on, with the time-out it knew) when setting one wakes nobody. */
Test(aio, deadline_set_while_the_loop_sleeps)
{
	pthread_t thread;

	seen = NULL;
	fired = false;
	cr_assert_eq(pthread_create(&thread, NULL, set_deadline, NULL), 0);
	while (!fired)
		aio_loop_run(&loop, true);
	pthread_mutex_unlock(&big_lock);
	pthread_join(thread, NULL);
	pthread_mutex_lock(&big_lock);
	cr_assert_null(seen, "%s", seen);
}
