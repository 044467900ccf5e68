/* SPDX-License-Identifier: MIT */
/*
 * A submitter or canceller stopped for ever at any instruction delays nobody else's work. One of them
 * is stopped before each of its atomic operations (and before the wake-up it makes) in turn, then a
 * second, all pairs; then a third thread submits, and its work has to run; and it cancels, and that
 * has to complete, although every worker is busy. At the end the two go on, and theirs complete as
 * well, each once.
 *
 * Four pools: one whose worker sleeps (to be woken), one without workers (the steward is to be told),
 * one whose only worker is busy (nobody is to be told, but of a cancel), and one that grows.
 *
 * Seen to fail: with a relay that is told before the wake-up is made, or for ever; with a tag that
 * only the first push finds (the next one's wake-up would be the stopped one's); with an idle worker
 * that reads the turn only after its look; with a cancel that does not ring; with a worker that takes
 * cancelled work for done at the first of its two ways, or forgets it; with an inbox that is never
 * closed; with an end that touches the pool once more after it has told the steward (under ASan).
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "pool_internal.h"
#include "step.h"

void (*fq_step_hook)(void);

enum what {
	SUBMIT,
	CANCEL,
	WHATS
};

enum scene {
	ASLEEP,
	ABSENT,
	BUSY,
	GROWING,
	SCENES
};

struct job {
	struct fq_work work;
	enum what what;
	unsigned runs;
	unsigned dones;
	int status;
};

static struct fq_queue *queue;
static struct fq_pool *pool;
static struct fq_event leave; /* what occupies a worker waits for it */

static int run(struct fq_work *work)
{
	fq_container_of(work, struct job, work)->runs++;
	return 0;
}

static int stay(struct fq_work *work)
{
	(void)work;
	return fq_event_wait(&leave, -1, NULL);
}

static void done(struct fq_work *work, int status)
{
	struct job *job = fq_container_of(work, struct job, work);

	STEP_CHECK(!job->work.link, "completed, and on a list");
	job->dones++;
	job->status = status;
	memset(&job->work, 0x5a, sizeof(job->work));
}

static struct fq_pool_stats stats(void)
{
	struct fq_pool_stats s;

	fq_pool_get_stats(pool, &s);
	return s;
}

static void prepare(struct job *job, enum what what)
{
	*job = (struct job){.work = {.run = run, .done = done, .queue = queue}, .what = what};
}

static void submit(struct job *job)
{
	STEP_CHECK(!fq_pool_submit(pool, &job->work), "submit");
}

/* What the stopped threads do. Works to cancel have been submitted before. */
static void act(void *arg)
{
	struct job *job = arg;

	if (job->what == SUBMIT)
		submit(job);
	else
		STEP_CHECK(!fq_pool_cancel(pool, &job->work), "cancel");
}

static void wait_for(const struct job *job)
{
	while (!job->dones) {
		STEP_CHECK(fq_queue_wait(queue, INT64_C(20000000000)) == 1,
			   "never completed: submitted %u, started %u, cancelled %u",
			   (unsigned)stats().submitted, (unsigned)stats().started,
			   (unsigned)stats().cancelled);
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	}
	STEP_CHECK(job->dones == 1, "completed %u times", job->dones);
}

static void occupy(struct job *job)
{
	uint64_t before = stats().started;

	*job = (struct job){.work = {.run = stay, .done = done, .queue = queue}};
	submit(job);
	while (stats().started == before)
		sched_yield();
}

/* A third thread's work runs (or its worker is busy) and a cancelled one completes. */
static void others_go_on(enum scene scene)
{
	struct job job;

	prepare(&job, SUBMIT);
	submit(&job);
	if (scene == BUSY)
		STEP_CHECK(!fq_pool_cancel(pool, &job.work), "cancel");
	wait_for(&job);
	STEP_CHECK(job.runs == (scene == BUSY ? 0 : 1), "ran %u times", job.runs);
	STEP_CHECK(job.status == (scene == BUSY ? -ECANCELED : 0), "status %d", job.status);
}

static void open_scene(enum scene scene, struct job *occupant)
{
	const struct fq_pool_config config = {.min_workers = scene == ABSENT ? 0 : 1,
					      .max_workers = scene == GROWING ? 2 : 1,
					      .idle_ns = -1};

	fq_event_init(&leave);
	STEP_CHECK(!fq_queue_create(&queue, 0), "queue");
	STEP_CHECK(!fq_pool_create(&pool, &config), "pool");
	while (scene != ABSENT && !stats().idle)
		sched_yield();
	if (scene == BUSY || scene == GROWING)
		occupy(occupant);
}

/*
 * Works to cancel must still wait when the canceller comes: only in a pool whose worker is busy, or in
 * one that has stopped threads' works alone.
 */
static bool possible(enum scene scene, enum what first, enum what second)
{
	return scene == BUSY || (first == SUBMIT && second == SUBMIT);
}

/* Returns false when the first finished before it came to its stop. */
static bool stop_two(enum scene scene, const enum what what[2], unsigned at_first,
		     unsigned at_second, bool *second_stopped)
{
	struct stopper first, second;
	struct job job[2], occupant;
	bool first_stopped;

	open_scene(scene, &occupant);
	for (unsigned i = 0; i < 2; i++) {
		prepare(&job[i], what[i]);
		if (what[i] == CANCEL)
			submit(&job[i]);
	}
	first_stopped = stopper_start(&first, act, &job[0], at_first);
	*second_stopped = stopper_start(&second, act, &job[1], at_second);
	others_go_on(scene);
	others_go_on(scene);
	if (scene == BUSY && at_first > 1 && at_second > 1) {
		/* Past their CAS, so that what is half cancelled is found by a worker, too. */
		STEP_CHECK(!fq_event_set(&leave, 0), "set");
		wait_for(&occupant);
		others_go_on(ASLEEP);
	}
	stopper_finish(&first);
	stopper_finish(&second);
	if (scene == BUSY || scene == GROWING) {
		(void)fq_event_set(&leave, 0);
		wait_for(&occupant);
	}
	STEP_CHECK(!fq_pool_drain(pool, INT64_C(20000000000)), "drain");
	for (unsigned i = 0; i < 2; i++)
		wait_for(&job[i]);
	STEP_CHECK(!fq_pool_destroy(pool), "pool");
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	return first_stopped;
}

static unsigned all_pairs(enum scene scene, const enum what what[2])
{
	bool first_stopped = true, second_stopped;
	unsigned runs = 0;

	for (unsigned i = 0; first_stopped; i++) {
		second_stopped = true;
		for (unsigned j = 0; second_stopped; j++, runs++)
			first_stopped = stop_two(scene, what, i, j, &second_stopped);
	}
	return runs;
}

static int refused;

static unsigned tags(void)
{
	return (unsigned)((uintptr_t)fq_ptr_load_rlx(&pool->inbox) & 7);
}

static void try_submit(void *arg)
{
	refused = fq_pool_submit(pool, &((struct job *)arg)->work);
}

/* The pool is stopped in the middle of a submit: that is refused, or its work is cancelled. */
static void stopped_meanwhile(void)
{
	unsigned accepted = 0, at = 0;
	bool stopped = true;

	for (; stopped; at++) {
		struct stopper s;
		struct job job;

		open_scene(ABSENT, NULL);
		prepare(&job, SUBMIT);
		stopped = stopper_start(&s, try_submit, &job, at);
		STEP_CHECK(!fq_pool_stop(pool), "stop");
		while (tags() != 4)
			sched_yield();
		stopper_finish(&s);
		if (!refused) {
			wait_for(&job);
			accepted++;
		} else {
			STEP_CHECK(refused == -ESHUTDOWN && !job.work.word.opaque, "%d", refused);
		}
		STEP_CHECK(!fq_pool_destroy(pool), "pool");
		STEP_CHECK(!fq_queue_destroy(queue), "queue");
	}
	STEP_CHECK(accepted > 1 && accepted < at, "%u of %u", accepted, at);
}

static bool ended;

static void on_end(struct fq_node *node)
{
	(void)node;
	ended = true;
}

static struct fq_node end_node = {.run = on_end};

static void end_it(void *arg)
{
	(void)arg;
	STEP_CHECK(!fq_pool_end(pool, queue, &end_node), "end");
}

/*
 * Whoever ends a pool may find it gone the moment he has told the steward.
 * The wait gives the steward the time to be there first; nothing hangs on it.
 */
static void end_is_the_last_touch(void)
{
	const struct fq_pool_config config = {.max_workers = 1};
	bool stopped = true, overtaken = false;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		ended = false;
		STEP_CHECK(!fq_queue_create(&queue, 0), "queue");
		STEP_CHECK(!fq_pool_create(&pool, &config), "pool");
		stopped = stopper_start(&s, end_it, NULL, at);
		/* Wakes the steward in his place, should that be all there is left to do. */
		if (stopped)
			STEP_CHECK(!fq_pool_stop(pool), "stop");
		if (fq_queue_wait(queue, stopped ? 20000000 : -1) == 1)
			(void)fq_queue_drain(queue, FQ_NO_BUDGET);
		overtaken |= ended && stopped;
		stopper_finish(&s);
		while (!ended) {
			(void)fq_queue_wait(queue, -1);
			(void)fq_queue_drain(queue, FQ_NO_BUDGET);
		}
		while (fq_queue_destroy(queue) == -EBUSY)
			sched_yield();
	}
	if (!overtaken)
		puts("the steward never came first");
}

int main(void)
{
	unsigned runs = 0;

	alarm(280);
	fq_step_hook = step_hook;
	for (unsigned n = 0; n < SCENES * WHATS * WHATS; n++) {
		const enum what what[2] = {n % WHATS, n / WHATS % WHATS};
		enum scene scene = n / WHATS / WHATS;

		if (possible(scene, what[0], what[1]))
			runs += all_pairs(scene, what);
	}
	stopped_meanwhile();
	end_is_the_last_touch();
	printf("pairs of stops: %u\n", runs);
	STEP_CHECK(runs > 500, "they were hardly stopped at all");
	puts("ok");
	return 0;
}
