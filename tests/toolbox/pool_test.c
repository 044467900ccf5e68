/* SPDX-License-Identifier: MIT */
/*
 * Seen to fail, with the defence taken out of a copy of the library:
 *   test                                   defence
 *   starts_in_order_...                    a collect that does not reverse the stack
 *   the_memory_is_the_hosts_...            a work that is "over" only after done
 *   refuses_..., cancelled_work_...        a cancel that does not look at the state
 *   cancelled_work_completes_...           a cancel that does not ring
 *   drain_waits_for_...                    a drain that forgets what runs, or what is cancelled
 *   a_worker_cannot_...                    the check for one's own pool (hangs)
 *   workers_are_named_...                  a thread created without its signals blocked
 */
#define _GNU_SOURCE
#include "pool_host.h"

TestSuite(pool, .timeout = 120);

Test(pool, runs_on_a_worker_and_completes_on_the_owner)
{
	struct job *job;

	open_workers(1, 4);
	job = new_jobs(JOBS);
	for (unsigned i = 0; i < JOBS; i++) {
		job[i].returns = -(int)i;
		submit(&job[i]);
	}
	drain_until(JOBS);
	for (unsigned i = 0; i < JOBS; i++) {
		cr_assert_eq(job[i].runs, 1);
		cr_assert_eq(job[i].dones, 1);
		cr_assert_eq(job[i].status, -(int)i);
		cr_assert_not(pthread_equal(job[i].worker, owner));
	}
	cr_assert_eq(fq_pool_drain(pool, -1), 0);
	cr_assert_eq(stats().submitted, JOBS);
	cr_assert_eq(stats().started, JOBS);
	cr_assert_eq(stats().completed, JOBS);
	cr_assert_eq(stats().cancelled, 0);
	close_pool();
	free(job);
}

struct looked_at {
	struct fq_work work;
	char name[16];
	bool registered;
	sigset_t blocked;
};

static int look_around(struct fq_work *work)
{
	struct looked_at *seen = (struct looked_at *)work;

	pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
	seen->registered = fq_thread_registered();
	pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
	return 0;
}

Test(pool, workers_are_named_registered_and_take_no_signals)
{
	const struct fq_pool_config config = {
		.min_workers = 1, .max_workers = 1, .name = "a-name-far-too-long"};
	struct looked_at seen = {.work = {.run = look_around, .done = count_done}};
	sigset_t mine;

	open_pool(&config);
	seen.work.queue = q;
	cr_assert_eq(fq_pool_submit(pool, &seen.work), 0);
	drain_until(1);
	cr_assert_str_eq(seen.name, "a-name-far-to-0");
	cr_assert(seen.registered);
	cr_assert(sigismember(&seen.blocked, SIGTERM));
	cr_assert(sigismember(&seen.blocked, SIGALRM));
	cr_assert_not(sigismember(&seen.blocked, SIGSEGV));
	pthread_sigmask(SIG_SETMASK, NULL, &mine);
	cr_assert_not(sigismember(&mine, SIGALRM));
	close_pool();
}

Test(pool, starts_in_order_of_submission)
{
	struct fq_event leave = FQ_EVENT_INIT;
	struct job *job;

	open_workers(1, 1);
	job = new_jobs(JOBS);
	occupy(&job[0], &leave);
	for (unsigned i = 1; i < JOBS; i++)
		submit(&job[i]);
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	drain_until(JOBS);
	for (unsigned i = 0; i < JOBS; i++)
		cr_assert_eq(job[i].order, i);
	close_pool();
	free(job);
}

Test(pool, refuses_what_makes_no_sense)
{
	struct fq_event leave = FQ_EVENT_INIT;
	struct fq_work work = {0};
	struct job *job;

	open_workers(1, 1);
	job = new_jobs(1);
	cr_assert_eq(fq_pool_submit(NULL, &job->work), -EINVAL);
	cr_assert_eq(fq_pool_submit(pool, NULL), -EINVAL);
	cr_assert_eq(fq_pool_submit(pool, &work), -EINVAL);
	work = (struct fq_work){.run = run_job, .queue = q};
	cr_assert_eq(fq_pool_submit(pool, &work), -EINVAL);
	work = (struct fq_work){.run = run_job, .done = job_done};
	cr_assert_eq(fq_pool_submit(pool, &work), -EINVAL);
	cr_assert_eq(fq_pool_cancel(NULL, &work), -EINVAL);
	cr_assert_eq(fq_pool_cancel(pool, NULL), -EINVAL);
	cr_assert_eq(fq_pool_cancel(pool, &job->work), -EALREADY);
	cr_assert_eq(fq_pool_stop(NULL), -EINVAL);
	cr_assert_eq(fq_pool_destroy(NULL), 0);
	cr_assert_eq(fq_pool_drain(NULL, 0), -EINVAL);
	cr_assert_eq(fq_pool_end(pool, NULL, NULL), -EINVAL);
	occupy(job, &leave);
	cr_assert_eq(fq_pool_submit(pool, &job->work), -EBUSY);
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	cr_assert_eq(fq_pool_drain(pool, -1), 0);
	cr_assert_eq(fq_pool_submit(pool, &job->work), -EBUSY, "it waits for its done");
	drain_until(1);
	close_pool();
	free(job);
}

static void again(struct fq_work *work, int status)
{
	struct job *job = (struct job *)work;

	job_done(work, status);
	if (job->dones < 100)
		submit(job);
}

Test(pool, the_memory_is_the_hosts_when_done_runs)
{
	struct job *job;

	open_workers(1, 2);
	job = new_jobs(1);
	job->work.done = again;
	submit(job);
	drain_until(100);
	cr_assert_eq(job->runs, 100);
	close_pool();
	free(job);
}

/* -- cancel ------------------------------------------------------------------------------------ */

Test(pool, cancelled_work_completes_although_every_worker_is_busy)
{
	struct fq_event leave = FQ_EVENT_INIT;
	struct job *job;

	open_workers(1, 1);
	job = new_jobs(JOBS);
	occupy(&job[0], &leave);
	for (unsigned i = 1; i < JOBS; i++)
		submit(&job[i]);
	cr_assert_eq(fq_pool_cancel(pool, &job[0].work), -EBUSY);
	for (unsigned i = 1; i < JOBS; i += 2)
		cr_assert_eq(fq_pool_cancel(pool, &job[i].work), 0);
	cr_assert_eq(fq_pool_cancel(pool, &job[1].work), -EALREADY);
	drain_until(JOBS / 2);
	for (unsigned i = 0; i < JOBS; i++) {
		cr_assert_eq(job[i].dones, i % 2);
		cr_assert_eq(job[i].status, i % 2 ? -ECANCELED : 0);
	}
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	drain_until(JOBS);
	for (unsigned i = 0; i < JOBS; i++) {
		cr_assert_eq(job[i].dones, 1);
		cr_assert_eq(job[i].runs, 1 - i % 2);
		cr_assert_eq(fq_pool_cancel(pool, &job[i].work), -EALREADY);
	}
	cr_assert_eq(fq_pool_drain(pool, -1), 0);
	cr_assert_eq(stats().cancelled, JOBS / 2);
	close_pool();
	free(job);
}

/* The one CAS: every work either runs or is cancelled, and says which. */
Test(pool, cancel_and_start_decide_once)
{
	unsigned cancelled = 0, busy = 0, over = 0;
	struct job *job;

	open_workers(2, 2);
	job = new_jobs(JOBS);
	for (unsigned i = 0; i < JOBS; i++) {
		int err;

		submit(&job[i]);
		err = fq_pool_cancel(pool, &job[i].work);
		cr_assert(err == 0 || err == -EBUSY || err == -EALREADY);
		*(err == 0 ? &cancelled : err == -EBUSY ? &busy : &over) += 1;
	}
	drain_until(JOBS);
	for (unsigned i = 0; i < JOBS; i++) {
		cr_assert_eq(job[i].dones, 1);
		cr_assert_eq(job[i].runs, job[i].status == -ECANCELED ? 0 : 1);
		cancelled -= job[i].status == -ECANCELED;
	}
	cr_assert_eq(cancelled, 0);
	close_pool();
	free(job);
}

/* -- drain ------------------------------------------------------------------------------------- */

Test(pool, drain_waits_for_what_was_submitted_before)
{
	struct fq_event leave = FQ_EVENT_INIT;
	struct job *job;

	open_workers(2, 2);
	job = new_jobs(JOBS);
	cr_assert_eq(fq_pool_drain(pool, -1), 0);
	occupy(&job[0], &leave);
	for (unsigned i = 1; i < JOBS; i++)
		submit(&job[i]);
	cr_assert_eq(fq_pool_drain(pool, 0), -ETIMEDOUT);
	cr_assert_eq(fq_pool_drain(pool, 1000000), -ETIMEDOUT);
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	cr_assert_eq(fq_pool_drain(pool, -1), 0);
	cr_assert_eq(done_count, 0,
		     "the completions are on the queue, and the owner has not looked");
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), JOBS);
	close_pool();
	free(job);
}

Test(pool, drain_waits_for_cancelled_work_too)
{
	struct fq_event leave = FQ_EVENT_INIT;
	struct job *job;

	open_workers(2, 2);
	job = new_jobs(3);
	occupy(&job[0], &leave);
	occupy(&job[1], &leave);
	for (unsigned i = 0; i < 200; i++) {
		submit(&job[2]);
		cr_assert_eq(fq_pool_cancel(pool, &job[2].work), 0);
		cr_assert_eq(fq_pool_drain(pool, 0), -ETIMEDOUT);
		drain_until(i + 1);
	}
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	cr_assert_eq(fq_pool_drain(pool, -1), 0);
	for (unsigned i = 0; i < 200; i++) {
		int err;

		submit(&job[2]);
		err = fq_pool_cancel(pool, &job[2].work);
		cr_assert(err == 0 || err == -EBUSY || err == -EALREADY);
		cr_assert_eq(fq_pool_drain(pool, -1), 0);
		cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), i ? 1 : 3);
	}
	close_pool();
	free(job);
}

static int wait_for_itself(struct fq_work *work)
{
	struct job *job = (struct job *)work;
	int err = fq_pool_drain(job->pool, -1);

	return err == -EDEADLK ? fq_pool_destroy(job->pool) : err;
}

Test(pool, a_worker_cannot_wait_for_its_own_pool)
{
	struct job *job;

	open_workers(1, 1);
	job = new_jobs(1);
	job->work.run = wait_for_itself;
	job->pool = pool;
	submit(job);
	drain_until(1);
	cr_assert_eq(job->status, -EDEADLK);
	close_pool();
	free(job);
}
