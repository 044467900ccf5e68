/* SPDX-License-Identifier: MIT */
/*
 * Eight coroutines on one owner. Each parks and is resumed by foreign threads some thousand times,
 * has a worker thread compute something in between, and goes on while the others wait. One thread
 * resumes all of them, one after the other: they continue in that order. At the end a coroutine that
 * nobody resumes is cancelled.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>

#include <fenceq/fenceq.h>

#include "coroutine.h"

#define COROUTINES 8u
#define TURNS 2000u
#define WAKERS 4u

static struct fq_queue *queue;
static struct fq_pool *pool;
static unsigned over, errors;
static unsigned expected; /* whose turn it is, while they are resumed in order */
static atomic_bool in_order, stop;

struct task {
	struct co *co;
	unsigned index;
	unsigned turns;
	unsigned squares;
};

static struct task task[COROUTINES];

static int square(void *arg)
{
	unsigned *n = (unsigned *)arg;

	*n *= *n;
	return 0;
}

static void serve(struct co *co, void *arg)
{
	struct task *t = (struct task *)arg;

	for (t->turns = 0; t->turns < TURNS; t->turns++) {
		unsigned n = t->turns;

		if (co_park(co))
			errors++;
		if (atomic_load(&in_order)) {
			errors += expected != t->index;
			expected = (t->index + 1) % COROUTINES;
		} else if (t->turns % 16 == 0) {
			if (co_await (co, pool, square, &n) || n != t->turns * t->turns)
				errors++;
			t->squares++;
		}
	}
	over++;
}

/* Until they are over; a resume more than needed does no harm. */
static void *wake_all(void *arg)
{
	unsigned i = *(unsigned *)arg;

	while (!atomic_load(&stop))
		co_resume(task[i++ % COROUTINES].co);
	return NULL;
}

static void *wake_in_order(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < COROUTINES; i++)
		co_resume(task[i].co);
	return NULL;
}

static void loop_until(unsigned count, const unsigned *counter)
{
	while (*counter < count) {
		(void)fq_queue_wait(queue, -1);
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	}
}

static bool start(void)
{
	for (unsigned i = 0; i < COROUTINES; i++) {
		task[i].index = i;
		task[i].co = co_create(queue, serve, &task[i]);
		if (!task[i].co)
			return false;
		co_resume(task[i].co);
	}
	(void)fq_queue_drain(queue, FQ_NO_BUDGET); /* each comes to its first park */
	return true;
}

/* The first hundred turns of each, resumed by one thread, all at once. */
static bool resume_in_order(void)
{
	atomic_store(&in_order, true);
	for (unsigned turn = 1; turn <= 100; turn++) {
		pthread_t waker;

		if (pthread_create(&waker, NULL, wake_in_order, NULL))
			return false;
		loop_until(turn, &task[COROUTINES - 1].turns);
		pthread_join(waker, NULL);
	}
	atomic_store(&in_order, false);
	return true;
}

static bool resume_from_everywhere(void)
{
	pthread_t waker[WAKERS];
	unsigned first[WAKERS];

	for (unsigned i = 0; i < WAKERS; i++) {
		first[i] = i * 2;
		if (pthread_create(&waker[i], NULL, wake_all, &first[i]))
			return false;
	}
	loop_until(COROUTINES, &over);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < WAKERS; i++)
		pthread_join(waker[i], NULL);
	return true;
}

static void wait_for_ever(struct co *co, void *arg)
{
	while (!co_park(co))
		;
	*(bool *)arg = true;
}

static bool cancel_a_parked_one(void)
{
	bool cancelled = false;
	struct co *co = co_create(queue, wait_for_ever, &cancelled);

	if (!co)
		return false;
	co_resume(co);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	co_destroy(co);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	return cancelled;
}

int main(void)
{
	const struct fq_pool_config config = {.max_workers = 2, .name = "square"};
	unsigned turns = 0, squares = 0;
	bool ok;

	if (fq_queue_create(&queue, FQ_QUEUE_HOOKS) || fq_pool_create(&pool, &config))
		return 1;
	ok = start() && resume_in_order() && resume_from_everywhere() && cancel_a_parked_one();
	for (unsigned i = 0; ok && i < COROUTINES; i++) {
		turns += task[i].turns;
		squares += task[i].squares;
		co_destroy(task[i].co);
	}
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	ok = ok && !errors && turns == COROUTINES * TURNS;
	printf("%s: %u coroutines, %u turns, %u works awaited, %u errors\n", ok ? "ok" : "FAILED",
	       COROUTINES, turns, squares, errors);
	return !ok || fq_pool_destroy(pool) || fq_queue_destroy(queue);
}
