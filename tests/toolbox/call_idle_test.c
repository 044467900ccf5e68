/* SPDX-License-Identifier: MIT */
/* Idle calls: when there is nothing else to do, or after a while; never a reason not to sleep. */
#define _GNU_SOURCE
#include <errno.h>

#include "clock.h"
#include "jobs.h"

static struct fq_queue *q;
static struct job idle, second, busy;

static void open_with(unsigned flags)
{
	q = queue_open(flags);
	job_init(&idle, q, NULL);
	job_init(&second, q, NULL);
	job_init(&busy, q, NULL);
}

static void setup(void)
{
	open_with(0);
}

static void teardown(void)
{
	now_ns = 0;
	(void)fq_call_fini(&idle.call);
	(void)fq_call_fini(&second.call);
	(void)fq_call_fini(&busy.call);
	cr_assert_eq(fq_queue_timeout(q), -1, "no call, no deadline");
	cr_assert_eq(fq_queue_destroy(q), 0);
}

static void reopen_with(unsigned flags)
{
	teardown();
	open_with(flags);
}

static void *schedule_idle_it(void *call)
{
	(void)fq_call_schedule_idle(call);
	return NULL;
}

static void schedule_idle_elsewhere(struct job *job)
{
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, schedule_idle_it, &job->call), 0);
	pthread_join(thread, NULL);
}

TestSuite(call_idle, .init = setup, .fini = teardown, .timeout = 60);
TestSuite(trap, .init = setup, .fini = teardown, .timeout = 60);

Test(call_idle, runs_in_a_drain_with_nothing_else_to_do)
{
	schedule_idle_elsewhere(&idle);
	cr_assert(readable(q));
	cr_assert_eq(drain_all(q), 0, "it is no completion");
	cr_assert_eq(idle.ran, 1);
	cr_assert_eq(queue_stats(q).completions, 0);
	cr_assert_eq(drain_all(q), 0);
	cr_assert_eq(idle.ran, 1);
	cr_assert_eq(fq_queue_timeout(q), -1);
}

Test(call_idle, waits_while_there_is_something_to_do)
{
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	cr_assert_eq(fq_call_schedule(&busy.call), 0);
	cr_assert_eq(drain_all(q), 1);
	cr_assert_eq(idle.ran, 0);
	cr_assert(fq_call_pending(&idle.call));
	cr_assert_not(fq_queue_pending(q));
	cr_assert_not(readable(q));
	cr_assert_geq(fq_queue_timeout(q), 0);
	cr_assert_leq(fq_queue_timeout(q), FQ_CALL_IDLE_NS);
	cr_assert_eq(drain_all(q), 0);
	cr_assert_eq(idle.ran, 1);
	cr_assert_eq(fq_queue_timeout(q), -1);
}

/* One drain whose budget ends has something else to do. */
Test(call_idle, waits_while_a_budget_leaves_something)
{
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	cr_assert_eq(fq_call_schedule(&busy.call), 0);
	cr_assert_eq(fq_queue_drain(q, 0), 0);
	cr_assert_eq(idle.ran, 0);
	cr_assert_eq(fq_queue_drain(q, 1), 1);
	cr_assert_eq(idle.ran, 0);
	cr_assert_eq(fq_queue_drain(q, 0), 0);
	cr_assert_eq(idle.ran, 1);
}

/*
 * Trap 14, first half: idle calls counted as progress spin the loop. One that schedules itself for
 * ever neither keeps a drain going, nor is a completion of it, nor keeps prepare from sleeping, nor
 * makes the fd readable.
 * Seen to fail with idle runs that spend budget, with idle calls on the ready list, and with an idle
 * call that may run as often in a drain as it is scheduled.
 */
static void expect_no_spin(unsigned flags)
{
	struct fq_waiter w = {false};

	reopen_with(flags);
	idle.does = job_again_idle;
	schedule_idle_elsewhere(&idle);
	cr_assert_eq(drain_all(q), 0);
	cr_assert_eq(idle.ran, 1, "not twice in one drain");
	for (unsigned turn = 1; turn < 4; turn++) {
		const unsigned before = idle.ran;

		cr_assert(fq_call_pending(&idle.call));
		cr_assert_not(fq_queue_pending(q));
		if (flags & FQ_QUEUE_HOOKS) {
			/* Unless this thread was kept for 10 ms, in which case it is due. */
			while (!fq_queue_prepare(q, &w))
				cr_assert_eq(drain_all(q), 0);
			fq_queue_check(q, &w);
		}
		cr_assert_eq(fq_queue_wait(q, -1), 1, "the deadline, after its time");
		cr_assert_eq(drain_all(q), 0);
		cr_assert_gt(idle.ran, before);
	}
	idle.does = NULL;
}

Test(trap, t14_idle_calls_do_not_spin_the_loop)
{
	expect_no_spin(0);
	expect_no_spin(FQ_QUEUE_HOOKS);
	expect_no_spin(FQ_QUEUE_EPOLL);
	expect_no_spin(FQ_QUEUE_EPOLL | FQ_QUEUE_HOOKS);
}

/*
 * Trap 14, second half: not counted at all they never run. Under a load that gives every drain
 * something to do (a call that schedules itself, and a budget) an idle call runs all the same, at
 * its interval and no sooner, over and over.
 * Seen to fail without the deadline, and with one that is put off by every drain.
 */
Test(trap, t14_load_does_not_starve_idle_calls)
{
	busy.does = job_again;
	idle.does = job_again_idle;
	now_ns = HOUR;
	cr_assert_eq(fq_call_schedule(&busy.call), 0);
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	/* Self-scheduled, it is found by the drain that ran it, and waits from the end of that. */
	for (unsigned drains = 0; drains <= 100; drains++, now_ns += FQ_CALL_IDLE_NS / 10) {
		cr_assert_eq(fq_queue_drain(q, 4), 4);
		cr_assert_eq(idle.ran, drains / 10, "after %u drains", drains);
	}
	busy.does = idle.does = NULL;
}

/* Its interval has passed and there is nothing else to do: both are reasons, for one run. */
Test(call_idle, runs_once_in_a_drain_for_two_reasons)
{
	idle.does = job_again_idle;
	now_ns = HOUR;
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	for (unsigned drains = 1; drains < 10; drains++, now_ns += FQ_CALL_IDLE_NS) {
		cr_assert_eq(drain_all(q), 0);
		cr_assert_eq(idle.ran, drains);
		cr_assert_eq(fq_queue_timeout(q), FQ_CALL_IDLE_NS);
	}
	idle.does = NULL;
}

/* A loop that sleeps in poll() for as long as fq_queue_timeout() says. */
Test(call_idle, is_polled_by_a_loop_that_computes_its_time_out)
{
	idle.does = job_again_idle;
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	while (idle.ran < 5) {
		struct pollfd pfd = {.fd = fq_queue_fd(q), .events = POLLIN};
		const int64_t ns = fq_queue_timeout(q);

		(void)poll(&pfd, 1, ns < 0 ? -1 : (int)((ns + MS - 1) / MS));
		cr_assert_eq(drain_all(q), 0);
	}
	idle.does = NULL;
}

/* A loop that knows only the fd, and sleeps for ever. */
Test(call_idle, makes_the_fd_readable_with_a_timer_behind_it)
{
	reopen_with(FQ_QUEUE_EPOLL);
	idle.does = job_again_idle;
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	while (idle.ran < 5) {
		struct pollfd pfd = {.fd = fq_queue_fd(q), .events = POLLIN};

		cr_assert_eq(poll(&pfd, 1, -1), 1);
		(void)drain_all(q);
	}
	idle.does = NULL;
}

/* A loop with hooks that was woken for it, and goes back to sleep without a drain. */
Test(call_idle, is_not_forgotten_between_check_and_prepare)
{
	struct fq_waiter w = {false};

	reopen_with(FQ_QUEUE_HOOKS);
	cr_assert(fq_queue_prepare(q, &w));
	schedule_idle_elsewhere(&idle);
	cr_assert(readable(q));
	fq_queue_check(q, &w);
	cr_assert(fq_queue_prepare(q, &w), "no reason to stay awake");
	cr_assert_geq(fq_queue_timeout(q), 0, "nor to sleep for ever");
	fq_queue_check(q, &w);
	(void)drain_all(q);
	cr_assert_eq(idle.ran, 1);
}

Test(call_idle, schedule_makes_it_an_ordinary_one)
{
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	cr_assert_eq(fq_call_schedule(&busy.call), 0);
	cr_assert_eq(drain_all(q), 1);
	cr_assert_eq(fq_call_schedule(&idle.call), 0);
	cr_assert_eq(fq_queue_timeout(q) >= 0, true);
	cr_assert_eq(drain_all(q), 1, "a completion");
	cr_assert_eq(fq_queue_timeout(q), -1);
	cr_assert_eq(drain_all(q), 0);
	cr_assert_eq(idle.ran, 1);
	/* Nor does schedule_idle make one that is scheduled wait. */
	cr_assert_eq(fq_call_schedule(&idle.call), 0);
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	cr_assert_eq(drain_all(q), 1);
	cr_assert_eq(drain_all(q), 0);
	cr_assert_eq(idle.ran, 2);
}

/*
 * Scheduled, found, cancelled and scheduled idle: it waits for its turn as an idle one.
 * Seen to fail with a run of whatever is scheduled when a call's turn comes.
 */
Test(call_idle, cancel_makes_room_for_it)
{
	struct job *later;

	cr_assert_eq(fq_call_schedule(&busy.call), 0);
	cr_assert_eq(fq_call_schedule(&idle.call), 0);
	cr_assert_eq(fq_queue_drain(q, 1), 1);
	later = idle.ran ? &busy : &idle;
	cr_assert(fq_call_cancel(&later->call));
	cr_assert_eq(fq_call_schedule_idle(&later->call), 0);
	cr_assert_eq(fq_call_schedule(&second.call), 0);
	cr_assert_eq(drain_all(q), 1);
	cr_assert_eq(later->ran, 0);
	cr_assert_eq(drain_all(q), 0);
	cr_assert_eq(later->ran, 1);
}

Test(call_idle, cancelled)
{
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	cr_assert_eq(fq_call_schedule(&busy.call), 0);
	(void)drain_all(q);
	cr_assert(fq_call_cancel(&idle.call));
	(void)drain_all(q);
	cr_assert_eq(idle.ran, 0);
	cr_assert_eq(fq_queue_timeout(q), -1, "the drain has seen that there is none left");
}

Test(call_idle, what_it_schedules_runs_in_the_same_drain)
{
	idle.does = job_schedule_other;
	idle.other = &busy;
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	cr_assert_eq(drain_all(q), 1);
	cr_assert_eq(busy.ran, 1);
}

static void schedule_other_idle(struct job *job)
{
	cr_assert_eq(fq_call_schedule_idle(&job->other->call), 0);
}

/* Two that schedule each other are a loop, too. */
Test(call_idle, two_that_schedule_each_other_end)
{
	idle.does = second.does = schedule_other_idle;
	idle.other = &second;
	second.other = &idle;
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	(void)drain_all(q);
	cr_assert_geq(idle.ran, 1);
	cr_assert_leq(idle.ran + second.ran, 2);
	idle.does = second.does = NULL;
}

static void again_and_drain(struct job *job)
{
	job_again_idle(job);
	(void)drain_all(job->q);
}

/* Seen to fail (the stack overflows) with idle calls that run inside themselves. */
Test(call_idle, nested_drains_end)
{
	idle.does = second.does = again_and_drain;
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	cr_assert_eq(fq_call_schedule_idle(&second.call), 0);
	(void)drain_all(q);
	cr_assert_geq(idle.ran, 1);
	cr_assert_geq(second.ran, 1);
	cr_assert_geq(fq_queue_timeout(q), 0, "they wait for the next time");
	idle.does = second.does = NULL;
}

static void end_both(struct job *job)
{
	job_fini(job->other);
	job_fini(job);
}

Test(call_idle, ends_itself_and_another)
{
	idle.does = second.does = end_both;
	idle.other = &second;
	second.other = &idle;
	cr_assert_eq(fq_call_schedule_idle(&idle.call), 0);
	cr_assert_eq(fq_call_schedule_idle(&second.call), 0);
	(void)drain_all(q);
	cr_assert_eq(idle.ran + second.ran, 1);
	cr_assert_eq(fq_queue_timeout(q), -1);
}
