/* SPDX-License-Identifier: MIT */
/*
 * Seen to fail, with the defence taken out of a copy of the library:
 *   test                                   defence
 *   grows_only_when_...                    a steward that hires whenever it may (and one that never
 *                                          does: stop_refuses_..., which wants two, hangs)
 *   workers_stay_... (two works at once)   an unlock that wakes nobody for what is left (hangs)
 *   shrinks_...                            a place given away before its last worker is buried
 *                                          (crashes)
 *   may_have_no_worker_...                 a steward that does not look again after a burial (hangs)
 *   hires_again_...                        one that does not keep the time to try again (hangs)
 *   create_that_fails_...                  a create that does not let the first workers go (hangs)
 */
#define _GNU_SOURCE
#include "pool_host.h"

TestSuite(pool, .timeout = 120);

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
		placed[i].work = (struct fq_work){.run = where, .done = count_done, .queue = q};
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
