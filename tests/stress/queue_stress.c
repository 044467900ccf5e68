/* SPDX-License-Identifier: MIT */
/*
 * Posters push nodes while the owner sleeps whenever it can, in each way it can sleep; now and then
 * a second consumer drains under a host lock. Each node is to arrive once, in its poster's order.
 * A lost wake-up shows as an owner that sleeps on although a post has returned.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include <fenceq/fenceq.h>

#include "second_consumer.h"
#include "stress.h"

#define WINDOW 256 /* nodes in flight of one poster */

struct item {
	struct fq_node node;
	struct poster *poster;
	uint64_t sequence;
	atomic_bool in_flight;
};

struct poster {
	pthread_t thread;
	uint64_t seed;
	uint64_t pushed;
	uint64_t arrived; /* the consumers' */
	struct item item[WINDOW];
};

static struct fq_queue *queue;
static pthread_mutex_t host_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool posters_stop, consumers_stop;
static atomic_uint posters_running;
static unsigned posters;
static struct poster *poster;

static void arrive(struct fq_node *node)
{
	struct item *item = (struct item *)node;
	struct poster *p = item->poster;

	STRESS_CHECK(item->sequence == p->arrived, "got %llu, expected %llu",
		     (unsigned long long)item->sequence, (unsigned long long)p->arrived);
	p->arrived++;
	atomic_store_explicit(&item->in_flight, false, memory_order_release);
}

static struct item *next_item(struct poster *p)
{
	struct item *item = &p->item[p->pushed % WINDOW];

	while (atomic_load_explicit(&item->in_flight, memory_order_acquire))
		sched_yield();
	atomic_store_explicit(&item->in_flight, true, memory_order_relaxed);
	item->node.run = arrive;
	item->node.next = NULL;
	item->poster = p;
	item->sequence = p->pushed++;
	return item;
}

static void *post(void *arg)
{
	struct poster *p = arg;

	while (!atomic_load_explicit(&posters_stop, memory_order_relaxed)) {
		uint64_t r = stress_random(&p->seed);

		if (r % 8 == 0) {
			struct item *first = next_item(p), *last = first;

			for (unsigned n = r / 8 % 7; n; n--) {
				struct item *item = next_item(p);

				last->node.next = &item->node;
				last = item;
			}
			fq_queue_push_batch(queue, &first->node);
		} else {
			fq_queue_push(queue, &next_item(p)->node);
		}
		if (r >> 32 & 1)
			sched_yield();
		if (r >> 33 % 64 == 0)
			poll(NULL, 0, 1);
	}
	atomic_fetch_sub(&posters_running, 1);
	return NULL;
}

static bool all_arrived(void)
{
	if (atomic_load(&posters_running))
		return false;
	for (unsigned i = 0; i < posters; i++) {
		if (poster[i].arrived != poster[i].pushed)
			return false;
	}
	return true;
}

/* The longest a wake-up may take before it counts as lost; nothing is timed by it. */
#define LOST_MS 20000
#define LOOK_MS 50

/* Until the fd is readable, or nothing will ever make it so. */
static void sleep_on_fd(int64_t end)
{
	struct pollfd pfd = {.fd = fq_queue_fd(queue), .events = POLLIN};

	for (int ms = 0; ms < LOST_MS; ms += LOOK_MS) {
		bool over;

		if (poll(&pfd, 1, LOOK_MS) == 1)
			return;
		pthread_mutex_lock(&host_lock);
		over = all_arrived() || (stress_now_ns() >= end && !atomic_load(&posters_stop));
		pthread_mutex_unlock(&host_lock);
		if (over)
			return;
	}
	STRESS_CHECK(false, "lost wake-up: asleep for %d ms with posts undrained", LOST_MS);
}

static void own(bool hooks, struct stress_options *o)
{
	int64_t end = stress_now_ns() + (int64_t)(o->seconds * 1e9);
	struct fq_waiter waiter = {false};
	bool sleep;

	for (;;) {
		pthread_mutex_lock(&host_lock);
		if (stress_now_ns() >= end)
			atomic_store(&posters_stop, true);
		if (hooks)
			fq_queue_check(queue, &waiter);
		if (stress_random(&o->seed) % 2)
			(void)fq_queue_drain(queue, 1 + (unsigned)(stress_random(&o->seed) % 64));
		else
			(void)fq_queue_drain(queue, FQ_NO_BUDGET);
		if (all_arrived() && atomic_load(&posters_stop)) {
			pthread_mutex_unlock(&host_lock);
			return;
		}
		sleep = !hooks || fq_queue_prepare(queue, &waiter);
		pthread_mutex_unlock(&host_lock);
		if (sleep)
			sleep_on_fd(end);
	}
}

static void run(unsigned flags, struct stress_options *o)
{
	struct second_consumer second = {.host_lock = &host_lock,
					 .stop = &consumers_stop,
					 .seed = stress_random(&o->seed),
					 .budget = FQ_NO_BUDGET};
	struct fq_queue_stats stats;
	uint64_t total = 0;
	pthread_t consumer;

	STRESS_CHECK(!fq_queue_create(&queue, flags), "create");
	second.queue = queue;
	atomic_store(&posters_stop, false);
	atomic_store(&consumers_stop, false);
	atomic_store(&posters_running, posters);
	poster = calloc(posters, sizeof(*poster));
	STRESS_CHECK(poster, "memory");
	for (unsigned i = 0; i < posters; i++) {
		poster[i].seed = stress_random(&o->seed);
		pthread_create(&poster[i].thread, NULL, post, &poster[i]);
	}
	pthread_create(&consumer, NULL, second_consumer_run, &second);
	own(flags & FQ_QUEUE_HOOKS, o);
	atomic_store(&consumers_stop, true);
	pthread_join(consumer, NULL);
	for (unsigned i = 0; i < posters; i++) {
		pthread_join(poster[i].thread, NULL);
		total += poster[i].pushed;
	}
	fq_queue_get_stats(queue, &stats);
	printf("flags %u: pushed %llu, arms %llu, writes %llu, budget stops %llu\n", flags,
	       (unsigned long long)total, (unsigned long long)stats.arms,
	       (unsigned long long)stats.notifier_writes, (unsigned long long)stats.budget_stops);
	STRESS_CHECK(stats.completions == total, "ran %llu", (unsigned long long)stats.completions);
	STRESS_CHECK(!fq_queue_destroy(queue), "destroy");
	free(poster);
}

int main(int argc, char **argv)
{
	struct stress_options o = stress_parse(argc, argv, 4);

	posters = o.threads;
	o.seconds /= 3;
	run(0, &o);
	run(FQ_QUEUE_HOOKS, &o);
	run(FQ_QUEUE_PIPE, &o);
	puts("ok");
	return 0;
}
