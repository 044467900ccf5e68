/* SPDX-License-Identifier: MIT */
/* Who may be asleep, and who wakes them: prepare, check, wait, and several who drain. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include <fenceq/fenceq.h>

#include "host.h"
#include "unit.h"

static struct fq_queue *q;
static struct fq_node node[8];
static unsigned ran;

static void count(struct fq_node *n)
{
	(void)n;
	ran++;
}

static void open_with(unsigned flags)
{
	ran = 0;
	for (unsigned i = 0; i < 8; i++)
		node[i] = (struct fq_node){.run = count};
	cr_assert_eq(fq_queue_create(&q, flags), 0);
}

static void open_hooks(void)
{
	open_with(FQ_QUEUE_HOOKS);
}

static void close_queue(void)
{
	cr_assert_eq(fq_queue_destroy(q), 0);
}

TestSuite(sleep, .init = open_hooks, .fini = close_queue, .timeout = 60);

static void push(unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		fq_queue_push(q, &node[i]);
}

Test(sleep, awake_is_never_written)
{
	for (unsigned round = 0; round < 10; round++) {
		push(0, 8);
		cr_assert_not(readable(q));
		cr_assert_eq(fq_queue_drain(q, 5), 5);
		cr_assert_not(readable(q), "nobody sleeps");
		cr_assert_eq(fq_queue_drain(q, 5), 3);
	}
	cr_assert_eq(queue_stats(q).notifier_writes, 0);
	cr_assert_eq(queue_stats(q).arms, 0);
	cr_assert_eq(queue_stats(q).budget_stops, 10);
}

Test(sleep, prepare_refuses_when_work_waits)
{
	struct fq_waiter w = {false};

	push(0, 3);
	cr_assert_not(fq_queue_prepare(q, &w));
	cr_assert_eq(fq_queue_drain(q, 2), 2); /* what a budget left is work, too */
	cr_assert_not(fq_queue_prepare(q, &w));
	push(3, 4);
	cr_assert_not(readable(q), "a prepare that refused has armed it");
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 2);
	cr_assert(fq_queue_prepare(q, &w));
	fq_queue_check(q, &w);
}

Test(sleep, one_write_per_sleep)
{
	struct fq_waiter w = {false};

	for (unsigned round = 1; round <= 10; round++) {
		cr_assert(fq_queue_prepare(q, &w));
		push(0, 4);
		cr_assert(readable(q));
		fq_queue_check(q, &w);
		cr_assert_not(readable(q));
		push(4, 8);
		cr_assert_not(readable(q));
		cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 8);
		cr_assert_eq(queue_stats(q).notifier_writes, round);
		cr_assert_eq(queue_stats(q).arms, round);
	}
}

Test(sleep, check_is_idempotent)
{
	struct fq_waiter w = {false}, other = {false};

	fq_queue_check(q, &w); /* was not asleep */
	cr_assert(fq_queue_prepare(q, &w));
	cr_assert(fq_queue_prepare(q, &w), "the nested loop of one thread shares its waiter");
	fq_queue_check(q, &other); /* not the one who sleeps */
	push(0, 1);
	cr_assert(readable(q));
	fq_queue_check(q, &w);
	fq_queue_check(q, &w);
	fq_queue_check(q, &w);
	push(1, 2);
	cr_assert_not(readable(q), "still armed");
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 2);
	push(2, 3);
	cr_assert_not(readable(q), "a drain has armed it though nobody sleeps");
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
}

/* Trap 16: the main loop sleeps; a second thread drains under the host's lock; a third posts. */
Test(sleep, second_drainer_leaves_it_armed)
{
	struct fq_waiter loop = {false};

	cr_assert(fq_queue_prepare(q, &loop));
	for (unsigned i = 0; i < 4; i++) {
		push(0, 2);
		cr_assert_eq(fq_queue_poll(q, FQ_NO_BUDGET), 2);
		(void)fq_notifier_clear(&(struct fq_notifier){fq_queue_fd(q), -1});
		push(2, 3);
		cr_assert(readable(q), "nobody wakes the loop");
		cr_assert_eq(fq_queue_poll(q, FQ_NO_BUDGET), 1);
		(void)fq_notifier_clear(&(struct fq_notifier){fq_queue_fd(q), -1});
	}
	fq_queue_check(q, &loop);
}

Test(sleep, drain_by_another_leaves_it_armed)
{
	struct fq_waiter loop = {false}, vcpu = {false};

	cr_assert(fq_queue_prepare(q, &loop));
	push(0, 1);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1); /* reads the fd */
	cr_assert_not(readable(q));
	push(1, 2);
	cr_assert(readable(q));
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	/* The other one sleeps and wakes, too. */
	cr_assert(fq_queue_prepare(q, &vcpu));
	push(2, 3);
	cr_assert(readable(q));
	fq_queue_check(q, &vcpu);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_not(readable(q));
	push(3, 4);
	cr_assert(readable(q), "the first one still sleeps");
	fq_queue_check(q, &loop);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	push(4, 5);
	cr_assert_not(readable(q), "nobody sleeps any more");
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
}

Test(sleep, check_of_one_without_a_drain)
{
	struct fq_waiter loop = {false}, vcpu = {false};

	cr_assert(fq_queue_prepare(q, &loop));
	cr_assert(fq_queue_prepare(q, &vcpu));
	fq_queue_check(q, &vcpu);
	push(0, 1);
	cr_assert(readable(q));
	fq_queue_check(q, &loop);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
}

Test(sleep, poller_leaves_work_to_a_sleeper)
{
	struct fq_waiter loop = {false};

	cr_assert(fq_queue_prepare(q, &loop));
	push(0, 5);
	cr_assert_eq(fq_queue_poll(q, 2), 2);
	cr_assert(readable(q), "three are left, and the loop sleeps");
	cr_assert_eq(fq_queue_poll(q, 2), 2);
	cr_assert(readable(q));
	fq_queue_check(q, &loop);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_eq(ran, 5);
}

/* The inner loop of a handler sleeps and wakes; the outer drain goes on (trap 7). */
static struct fq_waiter shared;

static void inner_loop(struct fq_node *n)
{
	(void)n;
	while (!fq_queue_prepare(q, &shared))
		cr_assert_gt(fq_queue_drain(q, 1), 0);
	push(4, 5);
	cr_assert(readable(q));
	fq_queue_check(q, &shared);
	push(5, 6); /* left for the outer drain */
}

Test(sleep, nested_loop)
{
	shared = (struct fq_waiter){false};
	node[1].run = inner_loop;
	push(0, 4);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 4); /* 0, 1, and what came inside 1 */
	cr_assert_eq(ran, 5);
	cr_assert(fq_queue_prepare(q, &shared));
	push(6, 7);
	cr_assert(readable(q));
	fq_queue_check(q, &shared);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
}

static void *push_one(void *arg)
{
	fq_queue_push(q, arg);
	return NULL;
}

Test(sleep, wait)
{
	pthread_t thread;

	cr_assert_eq(fq_queue_wait(q, 0), 0);
	cr_assert_eq(fq_queue_wait(q, 1000), 0);
	push(0, 1);
	cr_assert_not(readable(q), "a wait that timed out has left it armed");
	cr_assert_eq(fq_queue_wait(q, -1), 1);
	cr_assert_eq(ran, 0, "wait does not drain");
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_eq(pthread_create(&thread, NULL, push_one, &node[1]), 0);
	cr_assert_eq(fq_queue_wait(q, -1), 1);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	pthread_join(thread, NULL);
}

Test(sleep, wait_without_hooks)
{
	pthread_t thread;

	close_queue();
	open_with(0);
	cr_assert_eq(fq_queue_wait(q, 0), 0);
	cr_assert_eq(pthread_create(&thread, NULL, push_one, &node[1]), 0);
	cr_assert_eq(fq_queue_wait(q, -1), 1);
	cr_assert_eq(fq_queue_wait(q, 0), 1, "wait does not drain");
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	pthread_join(thread, NULL);
}

static atomic_bool over;

static void no_op(int sig)
{
	(void)sig;
}

static void *interrupt(void *sleeper)
{
	while (!atomic_load(&over)) {
		pthread_kill(*(pthread_t *)sleeper, SIGUSR1);
		sched_yield();
	}
	return NULL;
}

Test(sleep, wait_is_interrupted)
{
	const struct sigaction handler = {.sa_handler = no_op};
	pthread_t self = pthread_self(), thread;
	struct sigaction before;
	int got;

	atomic_store(&over, false);
	cr_assert_eq(sigaction(SIGUSR1, &handler, &before), 0);
	cr_assert_eq(pthread_create(&thread, NULL, interrupt, &self), 0);
	got = fq_queue_wait(q, -1);
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	cr_assert_eq(sigaction(SIGUSR1, &before, NULL), 0);
	cr_assert_eq(got, -EINTR);
	push(0, 1);
	cr_assert_not(readable(q), "still armed");
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
}

/*
 * A queue under a big lock: the loop sleeps in poll while a vCPU thread posts and drains. Who gets
 * which is chance; that the last one, posted when nobody but the sleeper is left, arrives is not.
 */
static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool asleep;

static unsigned ran_so_far(void)
{
	unsigned n;

	pthread_mutex_lock(&big_lock);
	n = ran;
	pthread_mutex_unlock(&big_lock);
	return n;
}

static void *vcpu(void *arg)
{
	(void)arg;
	while (!atomic_load(&asleep))
		sched_yield();
	push(0, 7);
	while (ran_so_far() < 7) {
		pthread_mutex_lock(&big_lock);
		(void)fq_queue_poll(q, 1);
		pthread_mutex_unlock(&big_lock);
	}
	push(7, 8);
	return NULL;
}

static void loop_once(struct fq_waiter *w)
{
	struct pollfd pfd = {.fd = fq_queue_fd(q), .events = POLLIN};
	bool sleep = fq_queue_prepare(q, w);

	pthread_mutex_unlock(&big_lock);
	if (sleep) {
		atomic_store(&asleep, true);
		cr_assert_eq(poll(&pfd, 1, -1), 1);
	}
	pthread_mutex_lock(&big_lock);
	fq_queue_check(q, w);
	(void)fq_queue_drain(q, 2);
}

Test(sleep, owner_moves_under_the_lock)
{
	struct fq_waiter w = {false};
	pthread_t thread;

	atomic_store(&asleep, false);
	cr_assert_eq(pthread_create(&thread, NULL, vcpu, NULL), 0);
	pthread_mutex_lock(&big_lock);
	while (ran < 8)
		loop_once(&w);
	pthread_mutex_unlock(&big_lock);
	pthread_join(thread, NULL);
}
