/* SPDX-License-Identifier: MIT */
/*
 * Seen to fail, with the defence taken out of a copy of the library:
 *   test                                   defence
 *   trap t10 (t04 likewise)                fq_pool_end() that joins the steward before it returns
 *   starts_in_order_...                    a collect that does not reverse the stack
 *   the_memory_is_the_hosts_...            a work that is "over" only after done
 *   refuses_..., cancelled_work_...        a cancel that does not look at the state
 *   cancelled_work_completes_...           a cancel that does not ring
 *   drain_waits_for_...                    a drain that forgets what runs, or what is cancelled
 *   a_worker_cannot_...                    the check for one's own pool (hangs)
 *   stop_refuses_...                       a submit that looks at the inbox alone
 *   stop_lets_nothing_...                  a worker that takes work although it is closed
 *   a_queue_stays_...                      a submit without its hold on the queue
 *   grows_only_when_...                    a steward that hires whenever it may (and one that never
 *                                          does: stop_refuses_..., which wants two, hangs)
 *   workers_stay_... (two works at once)   an unlock that wakes nobody for what is left (hangs)
 *   shrinks_...                            a place given away before its last worker is buried
 *                                          (crashes)
 *   may_have_no_worker_...                 a steward that does not look again after a burial (hangs)
 *   hires_again_...                        one that does not keep the time to try again (hangs)
 *   create_that_fails_...                  a create that does not let the first workers go (hangs)
 *   workers_are_named_...                  a thread created without its signals blocked
 *   a_child_...                            an end, or a drain, that does not ask whose child it is in
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "../unit/host.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

TestSuite(pool, .timeout = 120);
TestSuite(trap, .timeout = 120);

#define JOBS 1000u

struct job {
	struct fq_work work;
	struct fq_event *started; /* set by run; may be NULL */
	struct fq_event *wait_for;
	struct fq_pool *pool;
	int returns;
	int status; /* what done was told */
	unsigned runs;
	unsigned dones;
	unsigned order; /* of its start */
	pthread_t worker;
};

static struct fq_queue *q;
static struct fq_pool *pool;
static atomic_uint starts;
static unsigned done_count;
static pthread_t owner;

static int run_job(struct fq_work *work)
{
	struct job *job = (struct job *)work;

	job->runs++;
	job->order = atomic_fetch_add(&starts, 1);
	job->worker = pthread_self();
	if (job->started)
		(void)fq_event_set(job->started, 0);
	if (job->wait_for)
		(void)fq_event_wait(job->wait_for, -1, NULL);
	return job->returns;
}

static void job_done(struct fq_work *work, int status)
{
	struct job *job = (struct job *)work;

	cr_assert(pthread_equal(pthread_self(), owner));
	job->status = status;
	job->dones++;
	done_count++;
}

static struct job *new_jobs(unsigned count)
{
	struct job *job = calloc(count, sizeof(*job));

	cr_assert_not_null(job);
	for (unsigned i = 0; i < count; i++)
		job[i].work = (struct fq_work){.run = run_job, .done = job_done, .queue = q};
	return job;
}

static void open_pool(const struct fq_pool_config *config)
{
	owner = pthread_self();
	atomic_store(&starts, 0);
	done_count = 0;
	cr_assert_eq(fq_queue_create(&q, 0), 0);
	cr_assert_eq(fq_pool_create(&pool, config), 0);
}

static void open_workers(uint32_t min, uint32_t max)
{
	const struct fq_pool_config config = {.min_workers = min, .max_workers = max};

	open_pool(&config);
}

static void close_pool(void)
{
	cr_assert_eq(fq_pool_destroy(pool), 0);
	fq_queue_drain(q, FQ_NO_BUDGET);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/* The owner's loop, until so many have come. */
static void drain_until(unsigned count)
{
	while (done_count < count) {
		cr_assert_geq(fq_queue_wait(q, INT64_C(60000000000)), 1, "%u of %u", done_count,
			      count);
		fq_queue_drain(q, FQ_NO_BUDGET);
	}
	cr_assert_eq(done_count, count);
}

static struct fq_pool_stats stats(void)
{
	struct fq_pool_stats s;

	fq_pool_get_stats(pool, &s);
	return s;
}

/* Polls; the time-out is the suite's. */
#define UNTIL(condition)              \
	do {                          \
		while (!(condition))  \
			usleep(1000); \
	} while (0)

static void submit(struct job *job)
{
	cr_assert_eq(fq_pool_submit(pool, &job->work), 0);
}

/* A job that runs until *leave is set. */
static void occupy(struct job *job, struct fq_event *leave)
{
	struct fq_event started = FQ_EVENT_INIT;

	job->started = &started;
	job->wait_for = leave;
	submit(job);
	cr_assert_eq(fq_event_wait(&started, -1, NULL), 0);
}

static unsigned count_in(const char *path)
{
	DIR *dir = opendir(path);
	unsigned count = 0;

	cr_assert_not_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static unsigned threads(void)
{
	return count_in("/proc/self/task");
}

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

static void looked(struct fq_work *work, int status)
{
	(void)work;
	(void)status;
	done_count++;
}

Test(pool, workers_are_named_registered_and_take_no_signals)
{
	const struct fq_pool_config config = {
		.min_workers = 1, .max_workers = 1, .name = "a-name-far-too-long"};
	struct looked_at seen = {.work = {.run = look_around, .done = looked}};
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

/* -- growing and shrinking --------------------------------------------------------------------- */

Test(pool, grows_only_when_work_waits_and_up_to_its_bound)
{
	struct fq_event leave = FQ_EVENT_INIT;
	struct job *job;

	open_workers(1, 4);
	job = new_jobs(6);
	cr_assert_eq(stats().workers, 1);
	for (unsigned i = 0; i < 4; i++) {
		UNTIL(stats().idle == (i ? 0 : 1));
		occupy(&job[i], &leave);
		cr_assert_eq(stats().workers, i + 1, "%u works run", i + 1);
	}
	submit(&job[4]);
	submit(&job[5]);
	cr_assert_eq(fq_pool_drain(pool, 20000000), -ETIMEDOUT);
	cr_assert_eq(stats().workers, 4);
	cr_assert_eq(stats().peak, 4);
	cr_assert_eq(stats().started, 4);
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	drain_until(6);
	cr_assert_eq(stats().peak, 4);
	close_pool();
	free(job);
}

Test(pool, shrinks_to_its_lower_bound_when_idle)
{
	const struct fq_pool_config config = {
		.min_workers = 1, .max_workers = 4, .idle_ns = 1000000};
	struct job *job;

	open_pool(&config);
	job = new_jobs(4);
	for (unsigned round = 0; round < 100; round++) {
		struct fq_event leave = FQ_EVENT_INIT;

		for (unsigned i = 0; i < 4; i++)
			occupy(&job[i], &leave);
		cr_assert_eq(stats().workers, 4);
		cr_assert_eq(fq_event_set(&leave, 0), 0);
		drain_until(4 * round + 4);
		UNTIL(stats().workers == 1);
	}
	cr_assert_eq(stats().peak, 4);
	UNTIL(stats().idle == 1);
	close_pool();
	free(job);
}

Test(pool, may_have_no_worker_at_all_until_there_is_work)
{
	const struct fq_pool_config config = {.max_workers = 2, .idle_ns = 1000000};
	unsigned before = threads();
	struct job *job;

	open_pool(&config);
	job = new_jobs(1);
	for (unsigned i = 0; i < 5; i++) {
		UNTIL(!stats().workers);
		UNTIL(threads() == before + 1);
		submit(job);
		drain_until(i + 1);
	}
	cr_assert_eq(stats().peak, 1);
	close_pool();
	free(job);
}

/* -- what the system refuses ------------------------------------------------------------------- */

/* The linker puts this in the place of pthread_create(), in the library too (see CMakeLists.txt). */
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			  void *arg);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			  void *arg);

#define NO_LIMIT 1000000

static atomic_int threads_left = NO_LIMIT;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			  void *arg)
{
	if (atomic_load(&threads_left) <= 0)
		return EAGAIN;
	atomic_fetch_sub(&threads_left, 1);
	return __real_pthread_create(thread, attr, start, arg);
}

/* Three workers and a steward: each of the four in turn is the one that is refused. */
Test(pool, create_that_fails_leaves_nothing_behind)
{
	const struct fq_pool_config config = {.min_workers = 3, .max_workers = 3};
	unsigned before = threads();
	struct fq_pool *none = NULL;

	for (int left = 0; left < 4; left++) {
		int err;

		atomic_store(&threads_left, left);
		err = fq_pool_create(&none, &config);
		atomic_store(&threads_left, NO_LIMIT);
		cr_assert_eq(err, -EAGAIN, "%d threads of 4: %d", left, err);
		cr_assert_null(none);
		UNTIL(threads() == before);
	}
	atomic_store(&threads_left, 4);
	cr_assert_eq(fq_pool_create(&none, &config), 0);
	atomic_store(&threads_left, NO_LIMIT);
	cr_assert_eq(fq_pool_destroy(none), 0);
}

/* Not even a hire that fails loses work: it waits, and is done when there is room again. */
Test(pool, hires_again_what_the_system_has_refused)
{
	const struct fq_pool_config config = {.max_workers = 1};
	struct job *job;

	open_pool(&config);
	job = new_jobs(1);
	atomic_store(&threads_left, 0);
	submit(job);
	UNTIL(stats().hire_errors >= 2);
	cr_assert_eq(stats().workers, 0);
	atomic_store(&threads_left, NO_LIMIT);
	drain_until(1);
	cr_assert_eq(job->status, 0);
	close_pool();
	free(job);
}

Test(pool, create_refuses_what_makes_no_sense)
{
	static const uint32_t absent[] = {1023}, too_high[] = {0, 1024};
	const struct fq_pool_config good = {.max_workers = 1};
	struct fq_pool_config bad[] = {
		{.max_workers = 0},
		{.max_workers = FQ_POOL_WORKERS_MAX + 1},
		{.min_workers = 2, .max_workers = 1},
		{.max_workers = 1, .flags = 2},
		{.max_workers = 1, .flags = FQ_POOL_PIN},
		{.max_workers = 1, .cpu_count = 1},
		{.max_workers = 1, .cpus = absent},
		{.max_workers = 1, .cpus = absent, .cpu_count = 1},
		{.max_workers = 1, .cpus = too_high, .cpu_count = 2},
		{.max_workers = 1, .cpus = too_high, .cpu_count = 2, .flags = FQ_POOL_PIN},
		{.max_workers = 1, .stack_size = 1},
	};
	unsigned before = threads();
	struct fq_pool *none = NULL;

	cr_assert_eq(fq_pool_create(NULL, &good), -EINVAL);
	cr_assert_eq(fq_pool_create(&none, NULL), -EINVAL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_assert_eq(fq_pool_create(&none, &bad[i]), -EINVAL, "config %zu", i);
	cr_assert_null(none);
	UNTIL(threads() == before);
}

/* -- affinity ---------------------------------------------------------------------------------- */

struct placed {
	struct fq_work work;
	struct fq_event *leave;
	atomic_bool there;
	cpu_set_t cpus;
};

static int where(struct fq_work *work)
{
	struct placed *placed = (struct placed *)work;

	if (sched_getaffinity(0, sizeof(placed->cpus), &placed->cpus))
		return -errno;
	atomic_store(&placed->there, true);
	return fq_event_wait(placed->leave, -1, NULL);
}

/* The first two CPUs that this process may use; one CPU counts as both. */
static void two_cpus(uint32_t cpu[2])
{
	cpu_set_t set;
	unsigned found = 0;

	cr_assert_eq(sched_getaffinity(0, sizeof(set), &set), 0);
	for (uint32_t i = 0; i < CPU_SETSIZE && found < 2; i++) {
		if (CPU_ISSET(i, &set))
			cpu[found++] = i;
	}
	if (found == 1)
		cpu[1] = cpu[0];
}

static void place(uint32_t flags, const uint32_t cpu[2], cpu_set_t seen[2])
{
	const struct fq_pool_config config = {
		.min_workers = 2, .max_workers = 2, .cpus = cpu, .cpu_count = 2, .flags = flags};
	struct fq_event leave = FQ_EVENT_INIT;
	static struct placed placed[2];

	open_pool(&config);
	for (unsigned i = 0; i < 2; i++) {
		memset(&placed[i], 0, sizeof(placed[i]));
		placed[i].work = (struct fq_work){.run = where, .done = looked, .queue = q};
		placed[i].leave = &leave;
		cr_assert_eq(fq_pool_submit(pool, &placed[i].work), 0);
	}
	UNTIL(atomic_load(&placed[0].there) && atomic_load(&placed[1].there));
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	drain_until(2);
	seen[0] = placed[0].cpus;
	seen[1] = placed[1].cpus;
	close_pool();
}

Test(pool, workers_stay_on_the_cpus_they_are_given)
{
	cpu_set_t seen[2], both;
	uint32_t cpu[2];

	two_cpus(cpu);
	place(0, cpu, seen);
	for (unsigned i = 0; i < 2; i++) {
		cr_assert(CPU_ISSET(cpu[0], &seen[i]) && CPU_ISSET(cpu[1], &seen[i]));
		cr_assert_eq(CPU_COUNT(&seen[i]), cpu[0] == cpu[1] ? 1 : 2);
	}
	place(FQ_POOL_PIN, cpu, seen);
	CPU_OR(&both, &seen[0], &seen[1]);
	cr_assert_eq(CPU_COUNT(&seen[0]), 1);
	cr_assert_eq(CPU_COUNT(&seen[1]), 1);
	cr_assert(CPU_ISSET(cpu[0], &both) && CPU_ISSET(cpu[1], &both));
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
