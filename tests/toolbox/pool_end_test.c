/* SPDX-License-Identifier: MIT */
/*
 * Seen to fail, with the defence taken out of a copy of the library:
 *   test                                   defence
 *   trap t10 (t04 likewise)                fq_pool_end() that joins the steward before it returns
 *   stop_refuses_...                       a submit that looks at the inbox alone
 *   stop_lets_nothing_...                  a worker that takes work although it is closed
 *   a_queue_stays_...                      a submit without its hold on the queue
 *   a_child_...                            an end, or a drain, that does not ask whose child it is in
 */
#define _GNU_SOURCE
#include "pool_host.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

TestSuite(pool, .timeout = 120);
TestSuite(trap, .timeout = 120);

/* -- the end ----------------------------------------------------------------------------------- */

Test(pool, stop_refuses_and_cancels_what_has_not_started)
{
	struct fq_event leave = FQ_EVENT_INIT;
	struct job *job;

	open_workers(1, 2);
	job = new_jobs(JOBS);
	occupy(&job[0], &leave);
	occupy(&job[1], &leave);
	for (unsigned i = 2; i < JOBS - 1; i++)
		submit(&job[i]);
	cr_assert_eq(fq_pool_stop(pool), 0);
	cr_assert_eq(fq_pool_submit(pool, &job[JOBS - 1].work), -ESHUTDOWN);
	drain_until(JOBS - 3);
	cr_assert_eq(job[0].dones, 0);
	for (unsigned i = 2; i < JOBS - 1; i++) {
		cr_assert_eq(job[i].status, -ECANCELED);
		cr_assert_eq(job[i].runs, 0);
	}
	cr_assert_eq(fq_pool_stop(pool), 0);
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	drain_until(JOBS - 1);
	cr_assert_eq(job[0].status, 0);
	UNTIL(!stats().workers);
	cr_assert_eq(fq_pool_drain(pool, -1), 0);
	close_pool();
	free(job);
}

static int stop_its_pool(struct fq_work *work)
{
	int status = run_job(work);

	return fq_pool_stop(((struct job *)work)->pool) ? -1 : status;
}

/* The steward may not have looked yet when the worker comes back; it is done that often. */
Test(pool, stop_lets_nothing_start_on_the_worker_that_called_it)
{
	for (unsigned round = 0; round < 100; round++) {
		struct fq_event leave = FQ_EVENT_INIT;
		struct job *job;

		open_workers(1, 1);
		job = new_jobs(JOBS);
		job->work.run = stop_its_pool;
		job->pool = pool;
		occupy(&job[0], &leave);
		for (unsigned i = 1; i < JOBS; i++)
			submit(&job[i]);
		cr_assert_eq(fq_event_set(&leave, 0), 0);
		drain_until(JOBS);
		cr_assert_eq(atomic_load(&starts), 1, "round %u: %u", round, atomic_load(&starts));
		close_pool();
		free(job);
	}
}

static void *let_go(void *leave)
{
	UNTIL(stats().cancelled == JOBS - 1);
	(void)fq_event_set(leave, 0);
	return NULL;
}

Test(pool, is_destroyed_with_work_in_flight_and_completions_stay)
{
	struct fq_event leave = FQ_EVENT_INIT;
	unsigned before = threads();
	struct job *job;
	pthread_t other;

	open_workers(1, 1);
	job = new_jobs(JOBS);
	occupy(&job[0], &leave);
	for (unsigned i = 1; i < JOBS; i++)
		submit(&job[i]);
	cr_assert_eq(pthread_create(&other, NULL, let_go, &leave), 0);
	UNTIL(stats().started == 1);
	/* The other thread only looks at the pool before it lets the last work go. */
	cr_assert_eq(fq_pool_destroy(pool), 0);
	pthread_join(other, NULL);
	UNTIL(threads() == before);
	cr_assert_eq(done_count, 0);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), JOBS);
	cr_assert_eq(job[0].status, 0);
	for (unsigned i = 1; i < JOBS; i++)
		cr_assert_eq(job[i].status, -ECANCELED);
	cr_assert_eq(fq_queue_destroy(q), 0);
	free(job);
}

static bool ended;

static void on_end(struct fq_node *node)
{
	(void)node;
	ended = true;
}

static void drain_until_ended(void)
{
	while (!ended) {
		cr_assert_eq(fq_queue_wait(q, INT64_C(60000000000)), 1);
		fq_queue_drain(q, FQ_NO_BUDGET);
	}
}

/* The steward may still be on its way out of the push. */
static void close_queue(void)
{
	int err;

	while ((err = fq_queue_destroy(q)) == -EBUSY)
		sched_yield();
	cr_assert_eq(err, 0);
}

/*
 * Trap 10: a tear-down that waits for a thread which waits for whoever tears down. The work that runs
 * wants something that only the owner's loop gives it.
 *
 * Seen to fail (hangs): with fq_pool_destroy() in place of fq_pool_end(), and with an fq_pool_end()
 * that joins the steward.
 */
Test(trap, t10_end_does_not_wait_for_work_that_waits_for_the_owner)
{
	struct fq_event leave = FQ_EVENT_INIT;
	struct fq_node end = {.run = on_end};
	unsigned before = threads();
	struct job *job;

	ended = false;
	open_workers(2, 2);
	job = new_jobs(3);
	occupy(&job[0], &leave);
	occupy(&job[1], &leave);
	submit(&job[2]);
	cr_assert_eq(fq_pool_end(pool, q, &end), 0);
	drain_until(1);
	cr_assert_eq(job[2].status, -ECANCELED);
	cr_assert_not(ended);
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	drain_until_ended();
	cr_assert_eq(done_count, 3, "the end comes after all completions");
	UNTIL(threads() == before);
	close_queue();
	free(job);
}

static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;

static int take_big_lock(struct fq_work *work)
{
	struct job *job = (struct job *)work;

	(void)fq_event_set(job->started, 0);
	pthread_mutex_lock(&big_lock);
	pthread_mutex_unlock(&big_lock);
	return 0;
}

/*
 * Trap 4, the converse: a tear-down under the owner's lock, which what it waits for takes. Seen to
 * fail as trap 10.
 */
Test(trap, t04_end_under_a_lock_that_running_work_takes)
{
	struct fq_event started = FQ_EVENT_INIT;
	struct fq_node end = {.run = on_end};
	unsigned before = threads();
	struct job *job;

	ended = false;
	open_workers(1, 1);
	job = new_jobs(1);
	job->work.run = take_big_lock;
	job->started = &started;
	pthread_mutex_lock(&big_lock);
	submit(job);
	cr_assert_eq(fq_event_wait(&started, -1, NULL), 0);
	cr_assert_eq(fq_pool_end(pool, q, &end), 0);
	pthread_mutex_unlock(&big_lock);
	drain_until_ended();
	cr_assert_eq(done_count, 1);
	UNTIL(threads() == before);
	close_queue();
	free(job);
}

static struct fq_node end_from_run = {.run = on_end};

static int end_its_pool(struct fq_work *work)
{
	struct job *job = (struct job *)work;
	struct fq_pool *p = job->pool;

	/* Whoever submitted it is out of the pool. */
	(void)fq_event_wait(job->wait_for, -1, NULL);
	return fq_pool_end(p, work->queue, &end_from_run) ? 1 : fq_pool_submit(p, &job[1].work);
}

Test(pool, is_ended_by_its_own_worker)
{
	struct fq_event submitted = FQ_EVENT_INIT;
	unsigned before = threads();
	struct job *job;

	ended = false;
	open_workers(1, 1);
	job = new_jobs(2);
	job->work.run = end_its_pool;
	job->wait_for = &submitted;
	job->pool = pool;
	submit(job);
	cr_assert_eq(fq_event_set(&submitted, 0), 0);
	drain_until_ended();
	cr_assert_eq(job->status, -ESHUTDOWN);
	UNTIL(threads() == before);
	close_queue();
	free(job);
}

Test(pool, a_queue_stays_while_work_is_to_complete_on_it)
{
	struct fq_event leave = FQ_EVENT_INIT;
	struct job *job;

	open_workers(1, 1);
	job = new_jobs(1);
	occupy(job, &leave);
	cr_assert_eq(fq_queue_destroy(q), -EBUSY);
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	drain_until(1);
	close_pool();
	free(job);
}

/* -- fork -------------------------------------------------------------------------------------- */

static void in_child(bool destroy)
{
	struct fq_node end = {.run = on_end};

	alarm(30);
	fq_after_fork_child();
	if (fq_queue_after_fork_child(q) || fq_pool_drain(pool, -1) != -ESHUTDOWN)
		_exit(1);
	if (destroy)
		_exit(fq_pool_destroy(pool) ? 2 : 0);
	ended = false;
	if (fq_pool_end(pool, q, &end))
		_exit(3);
	fq_queue_drain(q, FQ_NO_BUDGET);
	_exit(ended ? 0 : 4);
}

Test(pool, a_child_destroys_a_pool_whose_threads_it_does_not_have)
{
	struct fq_event leave = FQ_EVENT_INIT;
	struct job *job;

#ifdef SANITIZED
	cr_skip_test(
		"sanitizers' own threads and locks do not survive a fork of a threaded process");
#endif
	open_workers(2, 2);
	job = new_jobs(2);
	occupy(&job[0], &leave);
	submit(&job[1]);
	for (unsigned i = 0; i < 20; i++) {
		pid_t child = fork();
		int status;

		cr_assert_geq(child, 0);
		if (!child)
			in_child(i % 2);
		cr_assert_eq(waitpid(child, &status, 0), child);
		cr_assert(WIFEXITED(status), "status %x", (unsigned)status);
		cr_assert_eq(WEXITSTATUS(status), 0);
	}
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	drain_until(2);
	close_pool();
	free(job);
}
