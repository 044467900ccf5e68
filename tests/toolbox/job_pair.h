/* SPDX-License-Identifier: MIT */
#ifndef FQ_TOOLBOX_JOB_PAIR_H
#define FQ_TOOLBOX_JOB_PAIR_H

/* A queue and two jobs on it: what most tests of calls begin with. */

#include "jobs.h"

static struct fq_queue *q;
static struct job a, b;

static inline void pair_open(unsigned flags)
{
	q = queue_open(flags);
	job_init(&a, q, NULL);
	job_init(&b, q, NULL);
}

/* A test may have ended either of them. */
static inline void pair_close(void)
{
	(void)fq_call_fini(&a.call);
	(void)fq_call_fini(&b.call);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

#endif /* FQ_TOOLBOX_JOB_PAIR_H */
