/* SPDX-License-Identifier: MIT */
#ifndef FQ_TOOLBOX_JOBS_H
#define FQ_TOOLBOX_JOBS_H

/* What the tests of calls share: a call that counts its runs and does what a hook says. */

#include <pthread.h>
#include <stdlib.h>

#include <fenceq/fenceq.h>

#include "../unit/host.h"
#include "../unit/unit.h"

#define MS INT64_C(1000000)
#define HOUR INT64_C(3600000000000)

struct job {
	struct fq_call call;
	struct fq_queue *q;
	unsigned ran;
	void (*does)(struct job *job);
	struct job *other;
	unsigned left; /* for the hooks: how often */
};

static inline void job_run(struct fq_call *call)
{
	struct job *job = (struct job *)(void *)call;

	job->ran++;
	if (job->does)
		job->does(job);
}

static inline void job_init(struct job *job, struct fq_queue *q, void (*does)(struct job *job))
{
	memset(job, 0, sizeof(*job));
	job->q = q;
	job->does = does;
	cr_assert_eq(fq_call_init(&job->call, q, job_run), 0);
}

static inline void job_fini(struct job *job)
{
	cr_assert_eq(fq_call_fini(&job->call), 0);
}

/* Hooks. */
static inline void job_again(struct job *job)
{
	cr_assert_eq(fq_call_schedule(&job->call), 0);
}

static inline void job_again_idle(struct job *job)
{
	cr_assert_eq(fq_call_schedule_idle(&job->call), 0);
}

static inline void job_schedule_other(struct job *job)
{
	cr_assert_eq(fq_call_schedule(&job->other->call), 0);
}

static inline struct fq_queue *queue_open(unsigned flags)
{
	struct fq_queue *q;

	cr_assert_eq(fq_queue_create(&q, flags), 0);
	return q;
}

static inline unsigned drain_all(struct fq_queue *q)
{
	return fq_queue_drain(q, FQ_NO_BUDGET);
}

static inline void *schedule_it(void *call)
{
	(void)fq_call_schedule(call);
	return NULL;
}

/* From a thread that is gone when this returns. */
static inline void schedule_elsewhere(struct job *job)
{
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, schedule_it, &job->call), 0);
	pthread_join(thread, NULL);
}

#endif /* FQ_TOOLBOX_JOBS_H */
