/* SPDX-License-Identifier: MIT */
/*
 * Submitters against a pool that grows, shrinks, is drained, stopped and ended under them, with two
 * owners. Each work is either run and then done, or cancelled, exactly once, as its submitter was
 * told; what it carries is plain memory, for ThreadSanitizer to watch.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include <fenceq/fenceq.h>

#include "stress.h"

#define OWNERS 2u
#define JOBS 48u

struct job {
	struct fq_work work;
	atomic_bool out; /* submitted, and not done */
	bool told;       /* a cancel said 0 */
	bool too_late;   /* a cancel said -EBUSY */
	unsigned value;
	unsigned runs;
	uint64_t dones;
	int status;
};

struct submitter {
	pthread_t thread;
	uint64_t seed;
	uint64_t submitted;
	struct job job[JOBS];
};

struct owner {
	pthread_t thread;
	struct fq_queue *queue;
	atomic_bool stop;
};

static struct fq_pool *pool;
static struct owner owner[OWNERS];
static atomic_uint unfinished; /* submitters at work */

static int run(struct fq_work *work)
{
	struct job *job = (struct job *)work;

	job->runs++;
	job->value++;
	if (job->value % 64 == 0)
		sched_yield();
	return (int)(job->value & 0xffff);
}

static void done(struct fq_work *work, int status)
{
	struct job *job = (struct job *)work;

	STRESS_CHECK(status == -ECANCELED ? !job->runs : job->runs == 1, "%u runs, status %d",
		     job->runs, status);
	STRESS_CHECK(status == -ECANCELED || status == (int)(job->value & 0xffff), "%d", status);
	job->status = status;
	job->dones++;
	atomic_store_explicit(&job->out, false, memory_order_release);
}

static void *drain_all(void *arg)
{
	struct owner *o = arg;

	fq_queue_set_owner(o->queue);
	while (!atomic_load(&o->stop)) {
		if (fq_queue_wait(o->queue, 1000000) == 1)
			fq_queue_drain(o->queue, 32);
	}
	while (fq_queue_drain(o->queue, FQ_NO_BUDGET))
		;
	return NULL;
}

/* What its last life was like. Only when it is not out. */
static void check(const struct job *job)
{
	STRESS_CHECK(!job->told || job->status == -ECANCELED, "cancelled, but status %d",
		     job->status);
	STRESS_CHECK(!job->too_late || job->runs == 1, "too late, but not run");
}

static bool submit(struct submitter *s, struct job *job)
{
	int err;

	if (job->dones)
		check(job);
	job->told = job->too_late = false;
	job->runs = 0;
	job->value += 3;
	job->work.queue = owner[stress_random(&s->seed) % OWNERS].queue;
	atomic_store_explicit(&job->out, true, memory_order_relaxed);
	err = fq_pool_submit(pool, &job->work);
	if (!err) {
		s->submitted++;
		return true;
	}
	STRESS_CHECK(err == -ESHUTDOWN, "submit: %d", err);
	atomic_store_explicit(&job->out, false, memory_order_relaxed);
	return false;
}

static void cancel(struct job *job)
{
	int err = fq_pool_cancel(pool, &job->work);

	if (!err)
		job->told = true;
	else if (err == -EBUSY)
		job->too_late = true;
	else
		STRESS_CHECK(err == -EALREADY, "cancel: %d", err);
}

/* Until the pool is stopped. */
static void *submit_all(void *arg)
{
	struct submitter *s = arg;

	for (;;) {
		uint64_t r = stress_random(&s->seed);
		struct job *job = &s->job[r % JOBS];

		if (!atomic_load_explicit(&job->out, memory_order_acquire)) {
			if (!submit(s, job))
				break;
		} else if (r >> 32 & 1) {
			cancel(job);
		}
		if (!(r >> 40 & 0xff))
			sched_yield();
		if (!(r >> 40 & 0x7ff)) {
			int err = fq_pool_drain(pool, 1000);

			STRESS_CHECK(!err || err == -ETIMEDOUT, "drain: %d", err);
		}
	}
	atomic_fetch_sub(&unfinished, 1);
	return NULL;
}

static atomic_bool ended;

static void on_end(struct fq_node *node)
{
	(void)node;
	atomic_store(&ended, true);
}

static void end_pool(uint64_t r)
{
	struct fq_node node = {.run = on_end};

	if (r & 1) {
		STRESS_CHECK(!fq_pool_destroy(pool), "destroy");
		return;
	}
	atomic_store(&ended, false);
	STRESS_CHECK(!fq_pool_end(pool, owner[r >> 1 & 1].queue, &node), "end");
	while (!atomic_load(&ended))
		sched_yield();
}

/* One pool's life. */
static uint64_t live(struct submitter *submitter, unsigned count, uint64_t *seed)
{
	const struct fq_pool_config config = {
		.min_workers = (uint32_t)(stress_random(seed) % 3),
		.max_workers = (uint32_t)(2 + stress_random(seed) % 3),
		.idle_ns = (int64_t)(1 + stress_random(seed) % 200) * 10000,
	};
	int64_t until = stress_now_ns() + (int64_t)(stress_random(seed) % 60000000);
	struct fq_pool_stats stats;
	uint64_t submitted = 0;

	STRESS_CHECK(!fq_pool_create(&pool, &config), "create");
	atomic_store(&unfinished, count);
	for (unsigned i = 0; i < count; i++) {
		submitter[i].submitted = 0;
		STRESS_CHECK(!pthread_create(&submitter[i].thread, NULL, submit_all, &submitter[i]),
			     "thread");
	}
	while (stress_now_ns() < until)
		sched_yield();
	STRESS_CHECK(!fq_pool_stop(pool), "stop");
	for (unsigned i = 0; i < count; i++) {
		pthread_join(submitter[i].thread, NULL);
		submitted += submitter[i].submitted;
	}
	STRESS_CHECK(!fq_pool_drain(pool, INT64_C(60000000000)), "drain");
	fq_pool_get_stats(pool, &stats);
	STRESS_CHECK(stats.submitted == submitted &&
			     stats.submitted == stats.completed + stats.cancelled &&
			     stats.started == stats.completed && stats.peak <= config.max_workers,
		     "submitted %llu (%llu), started %llu, completed %llu, cancelled %llu",
		     (unsigned long long)stats.submitted, (unsigned long long)submitted,
		     (unsigned long long)stats.started, (unsigned long long)stats.completed,
		     (unsigned long long)stats.cancelled);
	end_pool(stress_random(seed));
	return submitted;
}

int main(int argc, char **argv)
{
	struct stress_options o = stress_parse(argc, argv, 3);
	int64_t until = stress_now_ns() + (int64_t)(o.seconds * 1e9);
	struct submitter *submitter = calloc(o.threads, sizeof(*submitter));
	uint64_t submitted = 0, dones = 0, pools = 0, seed = o.seed;

	STRESS_CHECK(submitter, "memory");
	for (unsigned i = 0; i < o.threads; i++) {
		submitter[i].seed = stress_random(&seed);
		for (unsigned j = 0; j < JOBS; j++)
			submitter[i].job[j].work = (struct fq_work){.run = run, .done = done};
	}
	for (unsigned i = 0; i < OWNERS; i++) {
		STRESS_CHECK(!fq_queue_create(&owner[i].queue, i ? FQ_QUEUE_HOOKS : 0), "queue");
		STRESS_CHECK(!pthread_create(&owner[i].thread, NULL, drain_all, &owner[i]),
			     "thread");
	}
	for (; stress_now_ns() < until; pools++)
		submitted += live(submitter, o.threads, &seed);
	for (unsigned i = 0; i < OWNERS; i++) {
		atomic_store(&owner[i].stop, true);
		pthread_join(owner[i].thread, NULL);
	}
	for (unsigned i = 0; i < o.threads; i++) {
		for (unsigned j = 0; j < JOBS; j++) {
			dones += submitter[i].job[j].dones;
			check(&submitter[i].job[j]);
		}
	}
	STRESS_CHECK(dones == submitted, "%llu submitted, %llu done", (unsigned long long)submitted,
		     (unsigned long long)dones);
	for (unsigned i = 0; i < OWNERS; i++)
		while (fq_queue_destroy(owner[i].queue) == -EBUSY)
			sched_yield();
	free(submitter);
	printf("%llu works in %llu pools\n", (unsigned long long)submitted,
	       (unsigned long long)pools);
	puts("ok");
	return 0;
}
