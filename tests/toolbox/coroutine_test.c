/* SPDX-License-Identifier: MIT */
/*
 * The coroutines of examples/coroutine: parked on their owner, resumed from any thread.
 *
 * Seen to fail: resumed_while_it_runs with a turn that forgets a resume of a running coroutine, and
 * with "on_queue" cleared only after the coroutine has gone on; cancelled_while_it_awaits with an await
 * that leaves its stack, and the work on it, to the worker.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "../../examples/coroutine/coroutine.h"
#include "../unit/host.h"

TestSuite(coroutine, .timeout = 120);

#define MANY 16u
#define TURNS 3000u

struct task {
	struct co *co;
	unsigned index;
	unsigned turns;
	int status;
	struct fq_pool *pool;
	struct fq_event *event;
};

static struct fq_queue *q;
static struct task task[MANY];
static unsigned log_length, order[4 * MANY];

static void open_queue(co_fn *fn, unsigned count)
{
	cr_assert_eq(fq_queue_create(&q, 0), 0);
	log_length = 0;
	for (unsigned i = 0; i < count; i++) {
		task[i] = (struct task){.index = i};
		task[i].co = co_create(q, fn, &task[i]);
		cr_assert_not_null(task[i].co);
	}
}

static void close_queue(void)
{
	cr_assert_eq(fq_queue_destroy(q), 0);
}

static unsigned drain(void)
{
	return fq_queue_drain(q, FQ_NO_BUDGET);
}

static void park_and_log(struct co *co, void *arg)
{
	struct task *t = arg;

	while (!(t->status = co_park(co))) {
		t->turns++;
		order[log_length++] = t->index;
	}
}

Test(coroutine, several_at_once_go_on_in_the_order_of_their_resumes)
{
	open_queue(park_and_log, MANY);
	for (unsigned i = 0; i < MANY; i++)
		co_resume(task[i].co);
	cr_assert_eq(drain(), MANY);
	for (unsigned i = 0; i < MANY; i++)
		co_resume(task[i * 7 % MANY].co);
	cr_assert_eq(log_length, 0, "none goes on but in a drain");
	cr_assert_eq(drain(), MANY);
	for (unsigned i = 0; i < MANY; i++)
		cr_assert_eq(order[i], i * 7 % MANY);
	for (unsigned i = 0; i < MANY; i++)
		co_destroy(task[i].co);
	cr_assert_eq(drain(), MANY);
	for (unsigned i = 0; i < MANY; i++)
		cr_assert_eq(task[i].status, -ECANCELED);
	close_queue();
}

Test(coroutine, resumes_before_its_turn_are_one)
{
	open_queue(park_and_log, 1);
	co_resume(task[0].co);
	drain();
	for (unsigned i = 0; i < 3; i++)
		co_resume(task[0].co);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(task[0].turns, 1);
	co_destroy(task[0].co);
	drain();
	close_queue();
}

static atomic_uint asked[MANY]; /* resumes asked for, each to be answered by at least one turn */

/* Each turn takes all that was asked for before it. */
static void answer(struct co *co, void *arg)
{
	struct task *t = arg;

	while (!(t->status = co_park(co)))
		t->turns += atomic_exchange(&asked[t->index], 0);
}

static void *ask_all(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < TURNS; i++) {
		atomic_fetch_add(&asked[i % MANY], 1);
		co_resume(task[i % MANY].co);
	}
	return NULL;
}

Test(coroutine, resumed_from_four_threads_and_no_resume_is_lost)
{
	unsigned answered = 0;
	pthread_t asker[4];

	open_queue(answer, MANY);
	for (unsigned i = 0; i < MANY; i++)
		co_resume(task[i].co);
	drain();
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&asker[i], NULL, ask_all, NULL), 0);
	while (answered < 4 * TURNS) {
		cr_assert_eq(fq_queue_wait(q, INT64_C(60000000000)), 1, "%u of %u", answered,
			     4 * TURNS);
		drain();
		answered = 0;
		for (unsigned i = 0; i < MANY; i++)
			answered += task[i].turns;
	}
	cr_assert_eq(answered, 4 * TURNS);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(asker[i], NULL);
	for (unsigned i = 0; i < MANY; i++)
		co_destroy(task[i].co);
	drain();
	close_queue();
}

/* Resumed before it parks, by itself and by others; also in a drain of its own (a nested loop). */
static void resume_itself(struct co *co, void *arg)
{
	struct task *t = arg;

	co_resume(co);
	t->turns = 1;
	t->status = co_park(co);
	t->turns = 2;
	co_resume(co);
	drain();
	t->status |= co_park(co);
	t->turns = 3;
}

Test(coroutine, resumed_while_it_runs_does_not_stay_parked)
{
	open_queue(resume_itself, 1);
	co_resume(task[0].co);
	drain();
	cr_assert_eq(task[0].turns, 3);
	cr_assert_eq(task[0].status, 0);
	cr_assert(co_over(task[0].co));
	co_destroy(task[0].co);
	close_queue();
}

Test(coroutine, is_destroyed_before_its_start_and_when_it_is_over)
{
	open_queue(park_and_log, 1);
	co_destroy(task[0].co);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(task[0].status, -ECANCELED);
	task[0].co = co_create(q, resume_itself, &task[0]);
	co_resume(task[0].co);
	drain();
	cr_assert(co_over(task[0].co));
	co_resume(task[0].co);
	co_destroy(task[0].co);
	cr_assert_eq(drain(), 1, "its node had to leave the queue first");
	close_queue();
}

static int run_on_worker(void *arg)
{
	struct task *t = arg;

	if (t->event)
		return fq_event_wait(t->event, -1, NULL) ? -1 : 5;
	return (int)t->index;
}

static void await(struct co *co, void *arg)
{
	struct task *t = arg;

	t->status = co_await (co, t->pool, run_on_worker, t);
	t->turns++;
}

Test(coroutine, awaits_a_workers_answer_while_others_go_on)
{
	const struct fq_pool_config config = {.max_workers = 3};
	struct fq_event leave = FQ_EVENT_INIT;
	struct fq_pool *pool;
	unsigned over = 0;

	open_queue(await, MANY);
	cr_assert_eq(fq_pool_create(&pool, &config), 0);
	for (unsigned i = 0; i < MANY; i++) {
		task[i].pool = pool;
		task[i].event = i ? NULL : &leave;
		co_resume(task[i].co);
	}
	while (over < MANY - 1) {
		cr_assert_eq(fq_queue_wait(q, INT64_C(60000000000)), 1);
		drain();
		over = 0;
		for (unsigned i = 1; i < MANY; i++)
			over += task[i].turns;
	}
	cr_assert_eq(task[0].turns, 0);
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	while (!co_over(task[0].co)) {
		cr_assert_eq(fq_queue_wait(q, INT64_C(60000000000)), 1);
		drain();
	}
	cr_assert_eq(task[0].status, 5);
	for (unsigned i = 0; i < MANY; i++) {
		cr_assert_eq(task[i].status, i ? (int)i : 5);
		co_destroy(task[i].co);
	}
	cr_assert_eq(fq_pool_destroy(pool), 0);
	close_queue();
}

/* Its work lies on its stack: cancelled, it leaves that only when the worker has let go of it. */
Test(coroutine, cancelled_while_it_awaits_ends_after_its_work)
{
	const struct fq_pool_config config = {.max_workers = 1};
	struct fq_event leave = FQ_EVENT_INIT;
	struct fq_pool_stats stats;
	struct fq_pool *pool;

	open_queue(await, 2);
	cr_assert_eq(fq_pool_create(&pool, &config), 0);
	for (unsigned i = 0; i < 2; i++) {
		task[i].pool = pool;
		task[i].event = &leave;
		co_resume(task[i].co);
	}
	drain();
	do
		fq_pool_get_stats(pool, &stats);
	while (!stats.started);
	co_cancel(task[0].co);
	co_cancel(task[1].co);
	while (!co_over(task[1].co)) {
		cr_assert_eq(fq_queue_wait(q, INT64_C(60000000000)), 1);
		drain();
	}
	cr_assert_eq(task[1].status, -ECANCELED);
	cr_assert_not(co_over(task[0].co));
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	while (!co_over(task[0].co)) {
		cr_assert_eq(fq_queue_wait(q, INT64_C(60000000000)), 1);
		drain();
	}
	cr_assert_eq(task[0].status, 5);
	co_destroy(task[0].co);
	co_destroy(task[1].co);
	cr_assert_eq(fq_pool_destroy(pool), 0);
	close_queue();
}
