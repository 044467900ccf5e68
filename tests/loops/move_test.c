/* SPDX-License-Identifier: MIT */
/* A queue that moves from one loop's thread to another's and back, under load. */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <unistd.h>

#include "loops.h"

TestSuite(move, .timeout = 120);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static int turn; /* whose queue it is */
static unsigned moves;
static struct load load;
static struct fq_queue *queue;
static bool hooks;
static const char *failed;

struct loop {
	pthread_t thread;
	int id;
	int ep;
	struct fq_waiter waiter;
};

static void one_turn(struct loop *loop)
{
	int64_t ns = fq_queue_timeout(queue);
	struct epoll_event ev;
	bool sleep = !hooks || fq_queue_prepare(queue, &loop->waiter);

	if (sleep) {
		int timeout = ns < 0 ? LOST_MS : (int)(ns / 1000000) + 1;

		if (!epoll_wait(loop->ep, &ev, 1, timeout) && ns < 0)
			failed = "a wake-up was lost";
	}
	fq_queue_check(queue, &loop->waiter);
	(void)fq_queue_drain(queue, load.budget);
}

/* A few turns as the owner; the last may leave the queue in any state. */
static void own(struct loop *loop)
{
	struct epoll_event ev = {.events = EPOLLIN};

	fq_queue_set_owner(queue);
	if (epoll_ctl(loop->ep, EPOLL_CTL_ADD, fq_queue_fd(queue), &ev))
		failed = "epoll_ctl";
	for (unsigned n = 0; n < 7 && !load_finished(&load) && !failed; n++)
		one_turn(loop);
	if (!fq_queue_is_owner(queue))
		failed = "not the owner";
	(void)epoll_ctl(loop->ep, EPOLL_CTL_DEL, fq_queue_fd(queue), NULL);
}

static void *run_loop(void *arg)
{
	struct loop *loop = arg;

	loop->ep = epoll_create1(EPOLL_CLOEXEC);
	pthread_mutex_lock(&lock);
	while (!load_finished(&load) && !failed) {
		if (turn != loop->id) {
			pthread_cond_wait(&moved, &lock);
			continue;
		}
		own(loop);
		moves++;
		turn = !turn;
		pthread_cond_signal(&moved);
	}
	pthread_cond_signal(&moved);
	pthread_mutex_unlock(&lock);
	close(loop->ep);
	return NULL;
}

static void move_around(unsigned flags)
{
	struct loop loop[2] = {{.id = 0}, {.id = 1}};

	failed = NULL;
	moves = 0;
	hooks = flags & FQ_QUEUE_HOOKS;
	load = small_load();
	cr_assert_eq(fq_queue_create(&queue, flags), 0);
	pthread_mutex_lock(&lock);
	cr_assert_eq(load_start(&load, queue), 0);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&loop[i].thread, NULL, run_loop, &loop[i]), 0);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < 2; i++)
		pthread_join(loop[i].thread, NULL);
	cr_assert_null(failed, "%s", failed);
	cr_assert_gt(moves, 100);
	cr_assert_not(fq_queue_is_owner(queue));
	fq_queue_set_owner(queue);
	cr_assert(fq_queue_is_owner(queue));
	cr_assert_eq(load_end(&load, "move"), 0);
	cr_assert_eq(fq_queue_destroy(queue), 0);
}

Test(move, plain)
{
	move_around(0);
}

Test(move, with_hooks)
{
	move_around(FQ_QUEUE_HOOKS);
}

Test(move, behind_an_epoll)
{
	move_around(FQ_QUEUE_EPOLL);
}
