/* SPDX-License-Identifier: MIT */
/*
 * Edge-like wake-ups, with EPOLLET, which every system has; io_uring's multishot poll is in
 * uring_test.c. The fd tells of posts, not of what a drain left at its budget: the loop asks.
 */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <unistd.h>

#include "loops.h"

TestSuite(edge, .timeout = 120);
TestSuite(trap, .timeout = 120);

static int watch_edges(const struct fq_queue *q)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
	int ep = epoll_create1(EPOLL_CLOEXEC);

	cr_assert_geq(ep, 0);
	cr_assert_eq(epoll_ctl(ep, EPOLL_CTL_ADD, fq_queue_fd(q), &ev), 0);
	return ep;
}

static bool edge(int ep, int timeout_ms)
{
	struct epoll_event ev;

	return epoll_wait(ep, &ev, 1, timeout_ms) == 1;
}

/*
 * Seen to fail (in the second wait) without the look at what is pending: nothing is written for
 * leftovers, and so nothing tells of them.
 */
Test(trap, t15_edge_triggered_leftovers)
{
	int ep;

	tally_open(0);
	ep = watch_edges(tally.q);
	tally_push(0, 10);
	while (tally.ran < 10) {
		if (!fq_queue_pending(tally.q))
			cr_assert(edge(ep, LOST_MS), "asleep after %u", tally.ran);
		(void)fq_queue_drain(tally.q, 3);
	}
	close(ep);
	tally_close();
}

/* Why it has to: to poll the fd is level-triggered, to wait for its edge is not. */
Test(edge, leftovers_are_a_level_and_no_edge)
{
	int ep;

	tally_open(0);
	ep = watch_edges(tally.q);
	tally_push(0, 10);
	cr_assert(edge(ep, 0));
	cr_assert_eq(fq_queue_drain(tally.q, 3), 3);
	cr_assert(readable(tally.q));
	cr_assert_not(edge(ep, 0));
	cr_assert_eq(fq_queue_drain(tally.q, 16), 7);
	cr_assert_not(readable(tally.q));
	close(ep);
	tally_close();
}

static void run_load(unsigned flags)
{
	struct fq_waiter w = {false};
	struct load load = small_load();
	struct fq_queue *q;
	int ep;

	cr_assert_eq(fq_queue_create(&q, flags), 0);
	ep = watch_edges(q);
	cr_assert_eq(load_start(&load, q), 0);
	while (!load_finished(&load)) {
		if (fq_queue_prepare(q, &w)) {
			int64_t ns = fq_queue_timeout(q);

			cr_assert(edge(ep, ns < 0 ? LOST_MS : (int)(ns / 1000000) + 1) || ns >= 0);
		}
		fq_queue_check(q, &w);
		(void)fq_queue_drain(q, load.budget);
	}
	cr_assert_eq(load_end(&load, "edges"), 0);
	close(ep);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

Test(edge, load_with_hooks)
{
	run_load(FQ_QUEUE_HOOKS);
}

Test(edge, load_with_hooks_and_a_pipe)
{
	run_load(FQ_QUEUE_HOOKS | FQ_QUEUE_PIPE);
}
