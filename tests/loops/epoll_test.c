/* SPDX-License-Identifier: MIT */
/* Loops that know only fds. */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <unistd.h>

#include "loops.h"

TestSuite(epoll, .timeout = 120);
TestSuite(trap, .timeout = 120);

static int watch(const struct fq_queue *q)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int ep = epoll_create1(EPOLL_CLOEXEC);

	cr_assert_geq(ep, 0);
	cr_assert_eq(epoll_ctl(ep, EPOLL_CTL_ADD, fq_queue_fd(q), &ev), 0);
	return ep;
}

/* Waits on ep; -1: as the queue's deadlines say. */
static void turn(int ep, struct fq_queue *q, unsigned budget, bool deadlines)
{
	int64_t ns = deadlines ? fq_queue_timeout(q) : -1;
	struct epoll_event ev;
	int n = epoll_wait(ep, &ev, 1, ns < 0 ? LOST_MS : (int)(ns / 1000000) + 1);

	cr_assert(n == 1 || ns >= 0, "asleep with %s", fq_queue_pending(q) ? "work" : "no work");
	(void)fq_queue_drain(q, budget);
}

static void run_load(unsigned flags)
{
	struct load load = small_load();
	struct fq_queue *q;
	int ep;

	cr_assert_eq(fq_queue_create(&q, flags), 0);
	ep = watch(q);
	cr_assert_eq(load_start(&load, q), 0);
	while (!load_finished(&load))
		turn(ep, q, load.budget, !(flags & FQ_QUEUE_EPOLL));
	cr_assert_eq(load_end(&load, "epoll"), 0);
	close(ep);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

Test(epoll, level_triggered)
{
	run_load(0);
}

Test(epoll, level_triggered_pipe)
{
	run_load(FQ_QUEUE_PIPE);
}

/* No time-out is computed: the deadline comes through the fd. */
Test(epoll, nested_in_an_epoll)
{
	run_load(FQ_QUEUE_EPOLL);
}

/* A drain that stops at its budget leaves the fd as it is: no read, no write. */
Test(epoll, leftovers_cost_nothing)
{
	tally_open(0);
	tally_push(0, 64);
	for (unsigned i = 0; i < 16; i++) {
		cr_assert(readable(tally.q));
		cr_assert_eq(queue_stats(tally.q).notifier_clears, 0);
		cr_assert_eq(fq_queue_drain(tally.q, 4), 4);
	}
	cr_assert_not(readable(tally.q));
	cr_assert_eq(tally_writes(), 1);
	cr_assert_eq(queue_stats(tally.q).notifier_clears, 1);
	tally_close();
}

/* -- a loop inside a handler ------------------------------------------------------------------- */

static unsigned expected; /* when the loop in the handler may end */

/* A loop that knows nothing of the one outside: it sleeps first. */
static void nested_loop(void)
{
	int ep = watch(tally.q);

	sem_post(&push_now);
	while (tally.ran < expected)
		turn(ep, tally.q, 1, false);
	close(ep);
}

/*
 * A post while a handler sleeps in a loop of its own. "Somebody is dispatching" is true, and the wrong
 * question. Seen to fail (in the wait) with a poster that asks it, and with a drain that clears the fd
 * when it begins instead of when it ends.
 */
Test(trap, t05_somebody_dispatches_and_sleeps)
{
	for (unsigned flags = 0; flags <= FQ_QUEUE_EPOLL; flags += FQ_QUEUE_EPOLL) {
		tally_open(flags);
		tally.at = 1;
		tally.then = nested_loop;
		expected = 2;
		start_pusher(1);
		tally_push(0, 1);
		cr_assert_eq(fq_queue_drain(tally.q, 16), 1);
		join_pusher();
		cr_assert_eq(tally.ran, 2);
		cr_assert_not(readable(tally.q), "a spurious wake-up is left");
		tally_close();
	}
}

/*
 * What the outer drain has taken and not run: the inner loop must see it, and the outer one what the
 * inner one leaves. Seen to fail (in the inner wait) with the fd cleared at the start of a drain.
 */
Test(trap, t07_nested_loop_in_a_handler)
{
	int ep;

	tally_open(0);
	ep = watch(tally.q);
	tally.at = 2;
	tally.then = nested_loop;
	expected = 5;
	start_pusher(9);
	tally_push(0, 9);
	while (tally.ran < 10)
		turn(ep, tally.q, 3, false);
	join_pusher();
	cr_assert_eq(fq_queue_drain(tally.q, 16), 0);
	cr_assert_not(readable(tally.q));
	close(ep);
	tally_close();
}

/*
 * The same by fq_queue_poll(), which never looks at the fd. Seen to fail with a poster that asks whether
 * somebody is dispatching.
 */
Test(trap, t07_nested_loop_in_a_poll)
{
	tally_open(0);
	tally.at = 1;
	tally.then = nested_loop;
	expected = 4;
	start_pusher(3);
	tally_push(0, 3);
	cr_assert_eq(fq_queue_poll(tally.q, 16), 1); /* the inner ones are the inner drains' */
	join_pusher();
	cr_assert_eq(tally.ran, 4);
	tally_close();
}

/* The fd is kept clear for a loop inside a loop inside a handler, too. */
static void twice_nested(void)
{
	int ep = watch(tally.q);

	tally.at = tally.ran + 1;
	tally.then = nested_loop;
	expected = 4;
	while (tally.ran < 4)
		turn(ep, tally.q, 16, false);
	close(ep);
}

Test(epoll, a_loop_in_a_loop_in_a_handler)
{
	tally_open(0);
	tally.at = 1;
	tally.then = twice_nested;
	start_pusher(3);
	tally_push(0, 3);
	(void)fq_queue_drain(tally.q, 1);
	join_pusher();
	cr_assert_eq(tally.ran, 4);
	cr_assert_eq(fq_queue_drain(tally.q, 16), 0);
	cr_assert_not(readable(tally.q));
	tally_close();
}

/* A handler that makes work for the loop inside it without a post: thaw. */
static struct host host;
static struct fq_fence fence;

static void thaw_and_sleep(void)
{
	int ep = watch(tally.q);

	(void)fq_queue_drain(tally.q, 16); /* leaves it armed and the fd clear */
	fq_device_thaw(host.dev);
	turn(ep, tally.q, 16, false);
	close(ep);
}

Test(epoll, thawed_inside_a_handler)
{
	tally_open(0);
	host_attach(&host, tally.q, 0);
	cr_assert_eq(fq_submit(host.dev, 1, 0, &fence), 0);
	fq_device_freeze(host.dev);
	cr_assert_eq(fq_signal(host.handle, 1, 0, fence.token), 0);
	tally.at = 1;
	tally.then = thaw_and_sleep;
	tally_push(0, 1);
	(void)fq_queue_drain(tally.q, 16);
	cr_assert_eq(host.count, 1);
	host_close(&host);
}
