/* SPDX-License-Identifier: MIT */
/*
 * Threads that enter a gate in every way and leave operations with each other, and an owner who takes
 * what is too much: one is inside at a time, each operation runs once, and the accesses of one thread
 * take place in its program order, whether it enters or leaves them. A plain gate, one with a limit,
 * and one over a host's lock that others take directly.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <fenceq/fenceq.h>

#include "stress.h"

#define THREADS 6u
#define OPS 32u

enum kind {
	PLAIN,
	LIMITED,
	HOSTED,
	KINDS
};

struct worker;

struct work {
	struct fq_gate_op op;
	struct worker *by;
	uint64_t number;
	atomic_bool busy;
};

struct worker {
	pthread_t thread;
	uint64_t seed;
	uint64_t issued;
	uint64_t done; /* guarded by the gate */
	atomic_ullong told;
	unsigned long long asked;
	struct work work[OPS];
};

static enum kind kind;
static struct fq_gate gate;
static struct fq_queue *queue;
static pthread_mutex_t big = PTHREAD_MUTEX_INITIALIZER;
static unsigned inside, unaware; /* guarded by the gate, by the lock */
static atomic_bool stop, over;

static void check_inside(void)
{
	STRESS_CHECK(!inside++, "two are inside");
	STRESS_CHECK(fq_gate_is_inside(&gate), "outside");
	if (kind == HOSTED)
		unaware++;
	inside--;
}

/* Inside. */
static void access_once(struct worker *w, uint64_t number)
{
	check_inside();
	STRESS_CHECK(w->done + 1 == number, "access %llu after %llu", (unsigned long long)number,
		     (unsigned long long)w->done);
	w->done = number;
}

static void run(struct fq_gate_op *op)
{
	struct work *work = (struct work *)(void *)((char *)op - offsetof(struct work, op));

	access_once(work->by, work->number);
	atomic_store(&work->busy, false);
}

static void told(struct fq_gate_op *op)
{
	struct work *work = (struct work *)(void *)((char *)op - offsetof(struct work, op));

	atomic_fetch_add(&work->by->told, 1);
	atomic_store(&work->busy, false);
}

static struct work *free_work(struct worker *w)
{
	for (unsigned i = 0; i < OPS; i++) {
		if (!atomic_load(&w->work[i].busy))
			return &w->work[i];
	}
	return NULL;
}

static void leave(void)
{
	if (stress_random(&(uint64_t){inside}) % 64 == 0)
		STRESS_CHECK(fq_gate_enter(&gate, -1) == -EDEADLK, "again");
	STRESS_CHECK(!fq_gate_leave(&gate), "leave");
}

static void entered(struct worker *w)
{
	access_once(w, ++w->issued);
	leave();
}

static void leave_work(struct worker *w, bool tell)
{
	struct work *work = free_work(w);
	int got;

	if (!work) {
		sched_yield();
		return;
	}
	atomic_store(&work->busy, true);
	work->by = w;
	work->number = w->issued + 1;
	work->op.run = tell ? told : run;
	/* Whoever runs it may be done before this thread is told that it was left. */
	if (!tell)
		w->issued++;
	else
		w->asked++;
	got = tell ? fq_gate_enter_or_tell(&gate, &work->op, queue)
		   : fq_gate_enter_or_leave(&gate, &work->op);
	if (got == FQ_GATE_LEFT)
		return;
	STRESS_CHECK(!got, "%d", got);
	if (tell) {
		w->asked--;
		entered(w);
	} else {
		access_once(w, work->number);
		leave();
	}
	atomic_store(&work->busy, false);
}

/* Over a host's lock this may overtake what the thread has lent. */
static void block(struct worker *w, int64_t timeout_ns)
{
	int err = fq_gate_enter(&gate, timeout_ns);

	if (err == -ETIMEDOUT && timeout_ns >= 0)
		return;
	STRESS_CHECK(!err, "%d", err);
	if (kind != HOSTED) {
		entered(w);
		return;
	}
	check_inside();
	leave();
}

static void be_unaware(void)
{
	pthread_mutex_lock(&big);
	unaware++;
	pthread_mutex_unlock(&big);
}

static void step(struct worker *w, uint64_t r)
{
	switch (r % 16) {
	case 0:
		if (!fq_gate_try_enter(&gate))
			entered(w);
		break;
	case 1:
		block(w, -1);
		break;
	case 2:
		if (kind == HOSTED)
			be_unaware();
		else
			block(w, (int64_t)(r >> 8) % 100000);
		break;
	case 3:
		leave_work(w, true);
		break;
	default:
		leave_work(w, false);
	}
}

static void *work_on(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		step(w, stress_random(&w->seed));
	return NULL;
}

static void *own(void *arg)
{
	(void)arg;
	fq_queue_set_owner(queue);
	while (!atomic_load(&over)) {
		if (fq_queue_wait(queue, 1000000) > 0)
			(void)fq_queue_drain(queue, 16);
	}
	while (fq_queue_drain(queue, FQ_NO_BUDGET))
		;
	return NULL;
}

static bool big_try(void *opaque)
{
	(void)opaque;
	return !pthread_mutex_trylock(&big);
}

static void big_lock(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&big);
}

static void big_unlock(void *opaque)
{
	(void)opaque;
	pthread_mutex_unlock(&big);
}

static void open_gate(void)
{
	struct fq_gate_config config = {.queue = queue, .limit = 8};

	if (kind == PLAIN)
		config = (struct fq_gate_config){.limit = 0};
	else if (kind == HOSTED)
		config.host = (struct fq_gate_host){big_try, big_lock, big_unlock, NULL, NULL};
	STRESS_CHECK(!fq_gate_init(&gate, &config), "gate");
}

static void report(void)
{
	static const char *const name[] = {"plain", "limited", "hosted"};
	struct fq_gate_stats s;

	fq_gate_get_stats(&gate, &s);
	printf("%s: entered %llu, delegated %llu, told %llu, handed over %llu, fell behind %llu, "
	       "lent %llu\n",
	       name[kind], (unsigned long long)s.entered, (unsigned long long)s.delegated,
	       (unsigned long long)s.told, (unsigned long long)s.handed_over,
	       (unsigned long long)s.fell_behind, (unsigned long long)s.lent);
}

static void go(struct stress_options *o, struct worker *worker)
{
	const int64_t end = stress_now_ns() + (int64_t)(o->seconds * 1e9 / KINDS);
	const struct timespec pause = {.tv_nsec = 10000000};
	pthread_t owner;

	open_gate();
	atomic_store(&stop, false);
	atomic_store(&over, false);
	STRESS_CHECK(!pthread_create(&owner, NULL, own, NULL), "thread");
	for (unsigned i = 0; i < o->threads; i++) {
		memset(&worker[i], 0, sizeof(worker[i]));
		worker[i].seed = stress_random(&o->seed);
		STRESS_CHECK(!pthread_create(&worker[i].thread, NULL, work_on, &worker[i]),
			     "thread");
	}
	while (stress_now_ns() < end)
		nanosleep(&pause, NULL);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < o->threads; i++)
		pthread_join(worker[i].thread, NULL);
	atomic_store(&over, true);
	pthread_join(owner, NULL);
	for (unsigned i = 0; i < o->threads; i++) {
		STRESS_CHECK(worker[i].done == worker[i].issued, "thread %u: %llu of %llu", i,
			     (unsigned long long)worker[i].done,
			     (unsigned long long)worker[i].issued);
		STRESS_CHECK(atomic_load(&worker[i].told) == worker[i].asked, "told");
	}
	report();
	STRESS_CHECK(!fq_gate_fini(&gate), "something is left");
}

int main(int argc, char **argv)
{
	struct stress_options o = stress_parse(argc, argv, THREADS);
	struct worker *worker = calloc(o.threads, sizeof(*worker));

	STRESS_CHECK(worker, "memory");
	STRESS_CHECK(!fq_queue_create(&queue, 0), "queue");
	for (kind = PLAIN; kind < KINDS; kind++)
		go(&o, worker);
	STRESS_CHECK(!fq_queue_destroy(queue), "queue");
	free(worker);
	puts("ok");
	return 0;
}
