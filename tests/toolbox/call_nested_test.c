/* SPDX-License-Identifier: MIT */
/* Drains inside of callbacks: nothing of the outer one's is lost, nothing of a call is left behind. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

#include "job_pair.h"

static struct fq_waiter outer, inner;

static void open_with(unsigned flags)
{
	pair_open(flags);
	outer = inner = (struct fq_waiter){false};
}

static void setup(void)
{
	open_with(0);
}

static void reopen_with(unsigned flags)
{
	pair_close();
	open_with(flags);
}

TestSuite(call_nested, .init = setup, .fini = pair_close, .timeout = 60);
TestSuite(trap, .init = setup, .fini = pair_close, .timeout = 60);

static void again_inside(struct job *job)
{
	if (!job->left--)
		return;
	job_again(job);
	cr_assert_geq(drain_all(job->q), 1);
}

Test(call_nested, runs_inside_itself)
{
	a.does = again_inside;
	a.left = 100;
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	(void)drain_all(q);
	cr_assert_eq(a.ran, 101);
}

/* The innermost run ends the call; the outer ones return into a call that is gone. */
static struct job *heap_job, *fresh;

static void again_and_end(struct job *job)
{
	struct fq_queue *queue = job->q;

	if (job->left--) {
		job_again(job);
		(void)drain_all(queue);
		return;
	}
	job_fini(job);
	memset(job, 0xa5, sizeof(*job));
	free(job);
	/* Not in its place, where runs are still on the stack: a wait for this one would be for them. */
	job_init(fresh, queue, NULL);
	cr_assert_eq(fq_call_cancel_wait(&fresh->call, 0), 0);
	cr_assert_eq(fq_call_schedule(&fresh->call), 0);
}

/* Seen to fail with a slot that is used again while it is on the stack. */
Test(call_nested, ends_inside_itself)
{
	struct job other;

	fresh = &other;
	heap_job = malloc(sizeof(*heap_job));
	cr_assert_not_null(heap_job);
	job_init(heap_job, q, again_and_end);
	heap_job->left = 3;
	cr_assert_eq(fq_call_schedule(&heap_job->call), 0);
	(void)drain_all(q);
	cr_assert_eq(other.ran, 1);
	job_fini(&other);
}

static void drain_some(struct job *job)
{
	cr_assert_eq(fq_call_schedule(&job->other->call), 0);
	cr_assert_leq(fq_queue_drain(job->q, job->left), job->left);
}

Test(call_nested, budgets_are_each_drains_own)
{
	a.does = drain_some;
	a.other = &b;
	a.left = 1;
	b.does = job_again;
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	cr_assert_eq(fq_queue_drain(q, 3), 3);
	cr_assert_eq(b.ran, 1 + 2);
	b.does = NULL;
	cr_assert(readable(q));
	cr_assert_eq(drain_all(q), 1);
}

/*
 * Trap 7: nested iterations must not clear the notification that the outer loop depends on. In each
 * test a callback runs the loop again until something that another thread posts has arrived; another
 * schedule comes while it is inside. When all has returned, either it has run, or a loop that goes to
 * sleep is woken.
 * Seen to fail with a drain that clears the fd before it runs anything (plain), with a check that
 * disarms while another waiter is asleep (two waiters); step/call has the finer ones.
 */
static atomic_bool inside;

static void *schedule_b_then_both(void *arg)
{
	(void)arg;
	while (!atomic_load(&inside))
		usleep(100);
	usleep(500);
	(void)fq_call_schedule(&b.call);
	usleep(500);
	(void)fq_call_schedule(&a.call);
	(void)fq_call_schedule(&b.call);
	return NULL;
}

static void sleep_and_drain(struct fq_waiter *w, bool hooks, unsigned budget)
{
	struct pollfd pfd = {.fd = fq_queue_fd(q), .events = POLLIN};

	if (!hooks || fq_queue_prepare(q, w)) {
		cr_assert_eq(poll(&pfd, 1, 20000), 1,
			     "lost wake-up: a %u b %u pend %d %d budget %u inner %d inside %d",
			     a.ran, b.ran, fq_call_pending(&a.call), fq_call_pending(&b.call),
			     budget, w == &inner, (int)inside);
		fq_queue_check(q, w);
	}
	(void)fq_queue_drain(q, budget);
}

static bool with_hooks;
static unsigned nested_budget;

static void wait_for_b(struct job *job)
{
	const unsigned before = job->other->ran;

	if (job->ran > 1)
		return;
	atomic_store(&inside, true);
	while (job->other->ran == before)
		sleep_and_drain(&inner, with_hooks, nested_budget);
}

static void nest(unsigned flags, unsigned budget)
{
	pthread_t poster;

	reopen_with(flags);
	with_hooks = flags & FQ_QUEUE_HOOKS;
	nested_budget = budget;
	atomic_store(&inside, false);
	a.does = wait_for_b;
	a.other = &b;
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	cr_assert_eq(pthread_create(&poster, NULL, schedule_b_then_both, NULL), 0);
	while (a.ran < 2 || fq_call_pending(&b.call))
		sleep_and_drain(&outer, with_hooks, budget);
	pthread_join(poster, NULL);
	while (fq_call_pending(&b.call))
		sleep_and_drain(&outer, with_hooks, budget);
	cr_assert_not(outer.asleep || inner.asleep);
}

Test(trap, t07_nested_loop_plain)
{
	for (int i = 0; i < 10; i++) {
		nest(0, FQ_NO_BUDGET);
		nest(0, 1);
		nest(FQ_QUEUE_EPOLL, 1);
	}
}

Test(trap, t07_nested_loop_with_hooks)
{
	for (int i = 0; i < 10; i++) {
		nest(FQ_QUEUE_HOOKS, FQ_NO_BUDGET);
		nest(FQ_QUEUE_HOOKS, 1);
	}
}

/* The inner loop runs while the outer one counts as asleep: its wake-up has to stay. */
static void sleep_inside(struct job *job)
{
	cr_assert(fq_queue_prepare(q, &inner));
	schedule_elsewhere(job->other);
	cr_assert(readable(q));
	fq_queue_check(q, &inner);
	(void)drain_all(q);
}

Test(trap, t07_two_waiters)
{
	reopen_with(FQ_QUEUE_HOOKS);
	a.does = sleep_inside;
	a.other = &b;
	cr_assert(fq_queue_prepare(q, &outer));
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	cr_assert(readable(q));
	(void)fq_queue_poll(q, FQ_NO_BUDGET); /* another thread, under the host's lock */
	cr_assert_eq(b.ran, 1);
	a.does = NULL;
	/* The outer one was not told, and is still asleep. */
	(void)drain_all(q);
	cr_assert_not(readable(q));
	schedule_elsewhere(&b);
	cr_assert(readable(q), "asleep, and a schedule has returned");
	fq_queue_check(q, &outer);
	cr_assert_eq(drain_all(q), 1);
}

/* A nested drain that stops at its budget, and an outer one that has no budget left either. */
Test(trap, t07_leftovers_of_a_nested_drain)
{
	struct job job[8];

	for (unsigned i = 0; i < 8; i++)
		job_init(&job[i], q, NULL);
	a.does = drain_some;
	a.other = &b;
	a.left = 2;
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(fq_call_schedule(&job[i].call), 0);
	while (readable(q))
		(void)fq_queue_drain(q, 1);
	for (unsigned i = 0; i < 8; i++) {
		cr_assert_eq(job[i].ran, 1, "call %u", i);
		job_fini(&job[i]);
	}
	cr_assert_eq(b.ran, 1);
}
