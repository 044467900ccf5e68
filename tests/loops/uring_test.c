/* SPDX-License-Identifier: MIT */
/* fenceq/loop_uring.h with the real liburing and kernel. */
#define _GNU_SOURCE
#include <fenceq/loop_uring.h>
#include <stdio.h>
#include <stdlib.h>

#include "loops.h"

static struct io_uring ring;
static struct fq_uring glue;

/* Where there is no io_uring nothing can be shown: the whole program counts as skipped. */
__attribute__((constructor)) static void is_there_io_uring(void)
{
	int err = io_uring_queue_init(8, &ring, 0);

	if (err) {
		fprintf(stderr,
			"*** io_uring is not to be had here (%s): NONE of these tests has run; "
			"trap 15 is tested by loops/edge alone ***\n",
			strerror(-err));
		exit(77);
	}
	io_uring_queue_exit(&ring);
}

TestSuite(uring, .timeout = 120);
TestSuite(trap, .timeout = 120);

static void open_ring(struct fq_queue *q, unsigned flags, unsigned budget)
{
	cr_assert_eq(io_uring_queue_init(8, &ring, 0), 0);
	fq_uring_init(&glue, &ring, q, budget, flags);
}

static void reap(void)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(&ring, &cqe)) {
		cr_assert(fq_uring_complete(&glue, cqe), "nobody else uses this ring");
		cr_assert(cqe->res > 0 || cqe->res == -ECANCELED || !cqe->res, "%d", cqe->res);
		io_uring_cqe_seen(&ring, cqe);
	}
}

/* True when the wait was ended by a completion of the ring. */
static bool sleep_in_ring(int64_t ns)
{
	const int64_t most = ns < 0 ? LOST_MS * INT64_C(1000000) : ns;
	struct __kernel_timespec ts = {.tv_sec = most / 1000000000, .tv_nsec = most % 1000000000};
	struct io_uring_cqe *cqe;

	return io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &ts, NULL) != -ETIME;
}

static void turn(void)
{
	int64_t ns = fq_uring_prepare(&glue);

	if (ns)
		cr_assert(sleep_in_ring(ns) || ns > 0, "asleep with %s",
			  fq_queue_pending(glue.queue) ? "work" : "no work");
	reap();
	(void)fq_uring_run(&glue);
}

static void close_ring(void)
{
	while (fq_uring_cancel(&glue) == 0 && glue.polling) {
		cr_assert(sleep_in_ring(-1));
		reap();
	}
	io_uring_queue_exit(&ring);
}

static void run_load(unsigned queue_flags, unsigned flags)
{
	struct load load = small_load();
	struct fq_queue *q;

	cr_assert_eq(fq_queue_create(&q, queue_flags), 0);
	open_ring(q, flags, load.budget);
	cr_assert_eq(load_start(&load, q), 0);
	while (!load_finished(&load))
		turn();
	cr_assert_eq(load_end(&load, "io_uring"), 0);
	close_ring();
	cr_assert_eq(fq_queue_destroy(q), 0);
}

Test(uring, one_shot)
{
	run_load(FQ_QUEUE_HOOKS, 0);
}

Test(uring, multishot)
{
	run_load(FQ_QUEUE_HOOKS, FQ_URING_MULTISHOT);
}

Test(uring, multishot_on_a_pipe)
{
	run_load(FQ_QUEUE_HOOKS | FQ_QUEUE_PIPE, FQ_URING_MULTISHOT);
}

Test(uring, multishot_behind_an_epoll)
{
	run_load(FQ_QUEUE_HOOKS | FQ_QUEUE_EPOLL, FQ_URING_MULTISHOT);
}

Test(uring, watched_fds)
{
	for (unsigned flags = 0; flags <= FQ_URING_MULTISHOT; flags++) {
		tally_open(FQ_QUEUE_HOOKS | FQ_QUEUE_EPOLL);
		open_ring(tally.q, flags, 3);
		open_watched(tally.q);
		for (unsigned turns = 0; !watched_bytes; turns++) {
			cr_assert_lt(turns, 4, "it spins");
			turn();
		}
		close_watched();
		close_ring();
		tally_close();
	}
}

Test(uring, a_queue_without_hooks_works_too)
{
	run_load(0, 0);
	run_load(0, FQ_URING_MULTISHOT);
}

/*
 * A burst that takes four drains behind one report of the poll. Seen to fail (in the second wait) when
 * fq_uring_prepare() does not heed that fq_queue_prepare() refuses, and sleeps on the poll.
 */
static void leftovers(unsigned flags)
{
	tally_open(FQ_QUEUE_HOOKS);
	open_ring(tally.q, flags, 3);
	for (unsigned burst = 0; burst < 5; burst++) {
		start_pusher(burst * 10);
		cr_assert_neq(fq_uring_prepare(&glue), 0);
		sem_post(&push_now); /* it sleeps, or will */
		cr_assert(sleep_in_ring(-1));
		reap();
		join_pusher();
		tally_push(burst * 10 + 1, burst * 10 + 10);
		cr_assert_eq(fq_uring_run(&glue), 3);
		while (tally.ran < burst * 10 + 10)
			turn();
	}
	cr_assert_eq(tally_writes(), 5, "one for each sleep");
	close_ring();
	tally_close();
}

Test(trap, t15_multishot_leftovers)
{
	leftovers(FQ_URING_MULTISHOT);
}

Test(trap, t15_one_shot_leftovers)
{
	leftovers(0);
}

/* Why it has to: the kernel's multishot poll reports what is written, and nothing else. */
Test(uring, multishot_is_an_edge)
{
	struct io_uring_cqe *cqe;

	tally_open(0);
	open_ring(tally.q, FQ_URING_MULTISHOT, 3);
	cr_assert(fq_uring_post_poll(&glue));
	cr_assert_eq(io_uring_submit(&ring), 1);
	tally_push(0, 10);
	cr_assert_eq(io_uring_wait_cqe(&ring, &cqe), 0);
	cr_assert(cqe->flags & IORING_CQE_F_MORE);
	reap();
	cr_assert_eq(fq_queue_drain(tally.q, 3), 3);
	cr_assert(readable(tally.q));
	cr_assert_eq(io_uring_peek_cqe(&ring, &cqe), -EAGAIN);
	cr_assert_eq(fq_queue_drain(tally.q, 16), 7);
	glue.polling = true;
	close_ring();
	tally_close();
}

/* Between two sleeps the queue is not armed; one poll is in the ring, not one for each sleep. */
static void awake_after_a_turn(unsigned flags)
{
	tally_open(FQ_QUEUE_HOOKS);
	open_ring(tally.q, flags, 3);
	cr_assert_neq(fq_uring_prepare(&glue), 0);
	cr_assert_eq(io_uring_sq_ready(&ring), 1);
	(void)fq_uring_run(&glue);
	tally_push(0, 1);
	cr_assert_eq(tally_writes(), 0);
	turn();
	cr_assert_neq(fq_uring_prepare(&glue), 0);
	cr_assert_eq(io_uring_sq_ready(&ring), 1);
	cr_assert_eq(fq_uring_cancel(&glue), 0);
	tally_push(1, 2);
	cr_assert_eq(tally_writes(), 0, "still armed");
	cr_assert_eq(fq_queue_drain(tally.q, 16), 1);
	close_ring();
	tally_close();
}

Test(uring, awake_after_a_turn)
{
	awake_after_a_turn(0);
	awake_after_a_turn(FQ_URING_MULTISHOT);
}

static unsigned fired;

static void fire(struct fq_deadline *d)
{
	(void)d;
	fired++;
}

Test(uring, deadlines)
{
	struct fq_deadline d = {.run = fire};

	fired = 0;
	tally_open(FQ_QUEUE_HOOKS);
	open_ring(tally.q, 0, 3);
	cr_assert_eq(fq_deadline_set(tally.q, &d, 1500000), 0);
	while (!fired)
		turn();
	cr_assert_eq(fq_deadline_set(tally.q, &d, 0), 0);
	cr_assert_eq(fq_uring_prepare(&glue), 0);
	turn();
	cr_assert_eq(fired, 2);
	close_ring();
	tally_close();
}

static void push_the_rest(void)
{
	tally_push(1, 64);
}

Test(uring, a_busy_loop_is_not_written_to)
{
	tally_open(FQ_QUEUE_HOOKS);
	open_ring(tally.q, FQ_URING_MULTISHOT, 3);
	tally.at = 1;
	tally.then = push_the_rest;
	start_pusher(0);
	sem_post(&push_now);
	while (tally.ran < 64)
		turn();
	join_pusher();
	cr_assert_leq(tally_writes(), 1);
	close_ring();
	tally_close();
}

/*
 * A loop of the ring inside a completion. Seen to fail (in the inner wait) when fq_uring_prepare() does
 * not heed the refusal: what the outer drain has taken waits for nobody.
 */
static void nested_loop(void)
{
	sem_post(&push_now);
	while (tally.ran < 6)
		turn();
}

Test(trap, t07_nested_turns)
{
	tally_open(FQ_QUEUE_HOOKS);
	open_ring(tally.q, FQ_URING_MULTISHOT, 3);
	tally.at = 2;
	tally.then = nested_loop;
	start_pusher(5);
	tally_push(0, 5);
	while (tally.ran < 6)
		turn();
	join_pusher();
	start_pusher(6);
	sem_post(&push_now);
	while (tally.ran < 7)
		turn();
	join_pusher();
	close_ring();
	tally_close();
}
