/* SPDX-License-Identifier: MIT */
/* Deferred calls that are cancelled: before they run, by each other, and while they run elsewhere. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "job_pair.h"

static void setup(void)
{
	pair_open(0);
}

TestSuite(call_cancel, .init = setup, .fini = pair_close, .timeout = 60);

Test(call_cancel, says_whether_it_was_pending)
{
	cr_assert_not(fq_call_cancel(&a.call));
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	cr_assert(fq_call_cancel(&a.call));
	cr_assert_not(fq_call_cancel(&a.call));
	cr_assert_eq(drain_all(q), 0);
	cr_assert_eq(a.ran, 0);
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	cr_assert_eq(drain_all(q), 1);
	cr_assert_not(fq_call_cancel(&a.call));
}

static void cancel_other(struct job *job)
{
	job->left = fq_call_cancel(&job->other->call);
}

/* Both were found by the same drain; the one that goes first cancels the other. */
Test(call_cancel, of_one_that_is_next)
{
	a.does = b.does = cancel_other;
	a.other = &b;
	b.other = &a;
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	cr_assert_eq(fq_call_schedule(&b.call), 0);
	cr_assert_eq(fq_queue_drain(q, 2), 1, "what was cancelled is no completion");
	cr_assert_eq(a.ran + b.ran, 1);
	cr_assert_eq(a.left + b.left, 1);
	cr_assert_not(fq_queue_pending(q));
}

static unsigned pushed;

static void count_push(struct fq_node *node)
{
	(void)node;
	pushed++;
}

/* Seen to fail with a skip that does not give its share of the budget back. */
Test(call_cancel, costs_no_budget)
{
	struct fq_node node = {.run = count_push};

	cr_assert_eq(fq_call_schedule(&a.call), 0);
	cr_assert_eq(fq_call_schedule(&b.call), 0);
	cr_assert_eq(fq_queue_drain(q, 1), 1);
	cr_assert(fq_call_cancel(a.ran ? &b.call : &a.call));
	fq_queue_push(q, &node);
	pushed = 0;
	cr_assert_eq(fq_queue_drain(q, 1), 1);
	cr_assert_eq(pushed, 1);
}

/* -- cancel and wait ---------------------------------------------------------------------------- */

Test(call_cancel, does_not_wait_for_nothing)
{
	cr_assert_eq(fq_call_cancel_wait(&a.call, -1), 0);
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	cr_assert_eq(fq_call_cancel_wait(&a.call, -1), 0);
	cr_assert_eq(drain_all(q), 0);
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	cr_assert_eq(drain_all(q), 1, "it can be scheduled again");
}

static void cancel_itself(struct job *job)
{
	cr_assert_eq(fq_call_schedule(&job->call), 0);
	job->left = (unsigned)-fq_call_cancel_wait(&job->call, -1);
}

/* A run that waits for its own end would wait for ever; what it had scheduled is cancelled. */
Test(call_cancel, would_wait_for_itself)
{
	a.does = cancel_itself;
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	cr_assert_eq(drain_all(q), 1);
	cr_assert_eq(a.left, EDEADLK);
}

static void cancel_from_below(struct job *job)
{
	job->left = (unsigned)-fq_call_cancel_wait(&job->other->call, -1);
}

static void drain_below(struct job *job)
{
	cr_assert_eq(fq_call_schedule(&job->other->call), 0);
	cr_assert_eq(drain_all(job->q), 1);
}

Test(call_cancel, would_wait_for_itself_from_a_nested_drain)
{
	a.does = drain_below;
	a.other = &b;
	b.does = cancel_from_below;
	b.other = &a;
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	cr_assert_eq(drain_all(q), 1);
	cr_assert_eq(b.left, EDEADLK);
	cr_assert_eq(fq_call_cancel_wait(&a.call, -1), 0, "nothing of it is left behind");
}

static atomic_bool inside, go_on, finished;

static void block(struct job *job)
{
	(void)job;
	atomic_store(&inside, true);
	while (!atomic_load(&go_on))
		usleep(100);
	usleep(2000);
	atomic_store(&finished, true);
}

static void *own(void *arg)
{
	(void)arg;
	(void)drain_all(q);
	return NULL;
}

static pthread_t own_until_inside(void (*does)(struct job *job))
{
	pthread_t owner;

	atomic_store(&inside, false);
	atomic_store(&go_on, false);
	atomic_store(&finished, false);
	a.does = does;
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	cr_assert_eq(pthread_create(&owner, NULL, own, NULL), 0);
	while (!atomic_load(&inside))
		usleep(100);
	return owner;
}

/* Seen to fail with a wait that looks at the scheduled bit alone. */
Test(call_cancel, waits_for_the_run_in_progress)
{
	for (int i = 0; i < 20; i++) {
		pthread_t owner = own_until_inside(block);

		cr_assert_eq(fq_call_cancel_wait(&a.call, 0), -ETIMEDOUT);
		cr_assert_eq(fq_call_cancel_wait(&a.call, MS), -ETIMEDOUT);
		atomic_store(&go_on, true);
		cr_assert_eq(fq_call_cancel_wait(&a.call, -1), 0);
		cr_assert(atomic_load(&finished));
		pthread_join(owner, NULL);
	}
	cr_assert_eq(a.ran, 20);
}

static void *cancel_and_wait(void *err)
{
	*(int *)err = fq_call_cancel_wait(&a.call, -1);
	if (!atomic_load(&finished))
		*(int *)err = 1;
	return NULL;
}

Test(call_cancel, several_wait)
{
	pthread_t owner = own_until_inside(block), waiter[4];
	int err[4];

	for (int i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&waiter[i], NULL, cancel_and_wait, &err[i]), 0);
	usleep(2000);
	atomic_store(&go_on, true);
	for (int i = 0; i < 4; i++) {
		pthread_join(waiter[i], NULL);
		cr_assert_eq(err[i], 0);
	}
	pthread_join(owner, NULL);
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	a.does = NULL;
	cr_assert_eq(drain_all(q), 1, "nobody waits any more");
}

/* One that timed out takes back nothing that comes after it. */
Test(call_cancel, a_schedule_after_a_timed_out_wait_counts)
{
	pthread_t owner = own_until_inside(block);

	cr_assert_eq(fq_call_cancel_wait(&a.call, 0), -ETIMEDOUT);
	cr_assert_eq(fq_call_schedule(&a.call), 0);
	atomic_store(&go_on, true);
	pthread_join(owner, NULL);
	cr_assert_eq(a.ran, 2);
}

/* Schedules itself until somebody who waits for its end takes that back. */
static void until_awaited(struct job *job)
{
	if (job->ran > 1)
		return;
	(void)fq_call_schedule(&job->call);
	atomic_store(&inside, true);
	while (fq_call_pending(&job->call))
		usleep(100);
	(void)fq_call_schedule(&job->call);
	(void)fq_call_schedule(&job->other->call);
	job->left = fq_queue_drain(job->q, 1) + 10 * job->other->ran;
	atomic_store(&finished, true);
}

/*
 * While somebody waits no run begins, not even in a nested drain, and what is passed over costs no
 * budget. Seen to fail with a run that does not look for waiters, and with a skip that costs budget.
 */
Test(call_cancel, no_run_begins_while_somebody_waits)
{
	pthread_t owner;

	a.other = &b;
	owner = own_until_inside(until_awaited);
	cr_assert_eq(fq_call_cancel_wait(&a.call, -1), 0);
	cr_assert(atomic_load(&finished));
	pthread_join(owner, NULL);
	cr_assert_eq(a.ran, 1);
	cr_assert_eq(a.left, 11, "the other one ran, and in the nested drain");
}

static void for_ever(struct job *job)
{
	atomic_store(&inside, true);
	usleep(50);
	(void)fq_call_schedule(&job->call);
}

/* Seen to fail (the owner never ends) with a wait that takes back only what came before it. */
Test(call_cancel, ends_one_that_schedules_itself_for_ever)
{
	for (int i = 0; i < 20; i++) {
		pthread_t owner = own_until_inside(for_ever);

		cr_assert_eq(fq_call_cancel_wait(&a.call, 20000 * MS), 0);
		pthread_join(owner, NULL);
		cr_assert_not(fq_call_pending(&a.call));
	}
}

/*
 * A forked child has none of the parent's waiters. Seen to fail (the call never runs in the child)
 * with a child that keeps their number.
 */
Test(call_cancel, waiters_do_not_live_on_in_a_forked_child)
{
	pthread_t owner = own_until_inside(block), waiter;
	int err, status;
	pid_t pid;

	/* On another queue's thread: here nobody but the owner is inside of an owner's call. */
	cr_assert_eq(pthread_create(&waiter, NULL, cancel_and_wait, &err), 0);
	usleep(5000);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (!pid) {
		struct job *job = &a;

		/* The owner is not here either: what it had on its stack is not this test's matter. */
		alarm(60);
		fq_after_fork_child();
		job->does = NULL;
		_exit(fq_queue_after_fork_child(q) || fq_call_schedule(&job->call) ||
		      drain_all(q) != 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	atomic_store(&go_on, true);
	pthread_join(waiter, NULL);
	pthread_join(owner, NULL);
	cr_assert_eq(err, 0);
	cr_assert_eq(status, 0, "status %#x", (unsigned)status);
}
