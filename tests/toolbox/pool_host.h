/* SPDX-License-Identifier: MIT */
#ifndef FQ_TOOLBOX_POOL_HOST_H
#define FQ_TOOLBOX_POOL_HOST_H

/* A pool, jobs that note what happened to them, and the one owner of the queue they complete on. */

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

static inline int run_job(struct fq_work *work)
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

static inline void job_done(struct fq_work *work, int status)
{
	struct job *job = (struct job *)work;

	cr_assert(pthread_equal(pthread_self(), owner));
	job->status = status;
	job->dones++;
	done_count++;
}

/* For work that is no job. */
static inline void count_done(struct fq_work *work, int status)
{
	(void)work;
	(void)status;
	done_count++;
}

static inline struct job *new_jobs(unsigned count)
{
	struct job *job = calloc(count, sizeof(*job));

	cr_assert_not_null(job);
	for (unsigned i = 0; i < count; i++)
		job[i].work = (struct fq_work){.run = run_job, .done = job_done, .queue = q};
	return job;
}

static inline void open_pool(const struct fq_pool_config *config)
{
	owner = pthread_self();
	atomic_store(&starts, 0);
	done_count = 0;
	cr_assert_eq(fq_queue_create(&q, 0), 0);
	cr_assert_eq(fq_pool_create(&pool, config), 0);
}

static inline void open_workers(uint32_t min, uint32_t max)
{
	const struct fq_pool_config config = {.min_workers = min, .max_workers = max};

	open_pool(&config);
}

static inline void close_pool(void)
{
	cr_assert_eq(fq_pool_destroy(pool), 0);
	fq_queue_drain(q, FQ_NO_BUDGET);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/* The owner's loop, until so many have come. */
static inline void drain_until(unsigned count)
{
	while (done_count < count) {
		cr_assert_geq(fq_queue_wait(q, INT64_C(60000000000)), 1, "%u of %u", done_count,
			      count);
		fq_queue_drain(q, FQ_NO_BUDGET);
	}
	cr_assert_eq(done_count, count);
}

static inline struct fq_pool_stats stats(void)
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

static inline void submit(struct job *job)
{
	cr_assert_eq(fq_pool_submit(pool, &job->work), 0);
}

/* A job that runs until *leave is set. */
static inline void occupy(struct job *job, struct fq_event *leave)
{
	struct fq_event started = FQ_EVENT_INIT;

	job->started = &started;
	job->wait_for = leave;
	submit(job);
	cr_assert_eq(fq_event_wait(&started, -1, NULL), 0);
}

static inline unsigned count_in(const char *path)
{
	DIR *dir = opendir(path);
	unsigned count = 0;

	cr_assert_not_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static inline unsigned threads(void)
{
	return count_in("/proc/self/task");
}

#endif /* FQ_TOOLBOX_POOL_HOST_H */
