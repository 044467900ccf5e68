/* SPDX-License-Identifier: MIT */
#ifndef FQ_LOOPS_H
#define FQ_LOOPS_H

/* What the tests of every loop share. A wait that takes this long has lost its wake-up. */

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "../../examples/loop_load/load.h"
#include "../unit/host.h"
#include "../unit/unit.h"

#define LOST_MS 20000

/* Nodes that count themselves; one of them may do something else besides. */
struct tally {
	struct fq_queue *q;
	unsigned ran;
	unsigned at;        /* the how-manieth calls */
	void (*then)(void); /* this */
	struct fq_node node[64];
};

static struct tally tally;

static void tally_run(struct fq_node *node)
{
	cr_assert_eq(node, &tally.node[tally.ran], "out of order");
	if (++tally.ran == tally.at)
		tally.then();
}

static inline void tally_open(unsigned flags)
{
	memset(&tally, 0, sizeof(tally));
	for (unsigned i = 0; i < 64; i++)
		tally.node[i].run = tally_run;
	cr_assert_eq(fq_queue_create(&tally.q, flags), 0);
}

static inline void tally_close(void)
{
	cr_assert_eq(fq_queue_destroy(tally.q), 0);
}

static inline void tally_push(unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		fq_queue_push(tally.q, &tally.node[i]);
}

static inline uint64_t tally_writes(void)
{
	return queue_stats(tally.q).notifier_writes;
}

/* A thread that pushes tally.node[index] when it is told to: from inside a handler, or at once. */
static sem_t push_now;
static pthread_t pusher;

static void *push_when_told(void *index)
{
	sem_wait(&push_now);
	fq_queue_push(tally.q, &tally.node[(uintptr_t)index]);
	return NULL;
}

static inline void start_pusher(unsigned index)
{
	cr_assert_eq(sem_init(&push_now, 0, 0), 0);
	cr_assert_eq(pthread_create(&pusher, NULL, push_when_told, (void *)(uintptr_t)index), 0);
}

static inline void join_pusher(void)
{
	pthread_join(pusher, NULL);
	sem_destroy(&push_now);
}

/* A pipe behind the fd of a queue with FQ_QUEUE_EPOLL: something to drain for that is no post. */
static int watched_fd[2];
static unsigned watched_bytes;

static void read_watched(struct fq_watch *watch, unsigned events)
{
	char byte;

	cr_assert_eq(events, FQ_WATCH_IN);
	cr_assert_eq(read(watch->fd, &byte, 1), 1);
	watched_bytes++;
}

static struct fq_watch watched = {.run = read_watched};

static inline void open_watched(struct fq_queue *q)
{
	watched_bytes = 0;
	cr_assert_eq(pipe(watched_fd), 0);
	cr_assert_eq(fq_watch_add(q, &watched, watched_fd[0], FQ_WATCH_IN), 0);
	cr_assert_eq(write(watched_fd[1], "x", 1), 1);
}

static inline void close_watched(void)
{
	fq_watch_remove(&watched);
	close(watched_fd[0]);
	close(watched_fd[1]);
}

/* The load of the examples, with a budget that always leaves something. */
static inline struct load small_load(void)
{
	return (struct load){.bursts = 60, .budget = 3};
}

#endif /* FQ_LOOPS_H */
