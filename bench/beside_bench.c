/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "beside_bench.h"

#define SECOND_NS INT64_C(1000000000)
#define PATIENCE 10 /* seconds of sleep until a completion counts as lost */

struct round;

struct poster {
	_Alignas(PEER_LINE) struct round *round;
	pthread_t thread;
	unsigned index;
	int64_t begin;
	int64_t end;
};

struct round {
	const struct peer *peer;
	struct peer_seen *self;
	struct peer_round shape;
	struct poster *posters;
	pthread_barrier_t start;
	bool pin;
};

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * SECOND_NS + ts.tv_nsec;
}

/* What the process may use; asked for before the owner pins itself. */
static const cpu_set_t *allowed(void)
{
	static cpu_set_t set;

	if (!CPU_COUNT(&set))
		(void)sched_getaffinity(0, sizeof(set), &set);
	return &set;
}

static unsigned cpus(void)
{
	return (unsigned)CPU_COUNT(allowed());
}

/* Place 0 is the owner's. */
static void pin_thread(unsigned place)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, allowed()) && !place--) {
			CPU_SET(cpu, &one);
			break;
		}
	}
	(void)sched_setaffinity(0, sizeof(one), &one);
}

static void *poster_main(void *arg)
{
	struct poster *poster = arg;
	struct round *round = poster->round;
	const struct peer *peer = round->peer;

	if (round->pin)
		pin_thread(poster->index + 1);
	if (peer->enter)
		peer->enter(round->self, poster->index);
	pthread_barrier_wait(&round->start);
	poster->begin = now_ns();
	peer->post(round->self, poster->index, 0, round->shape.items);
	poster->end = now_ns();
	if (peer->leave)
		peer->leave(round->self, poster->index);
	return NULL;
}

/* A sleep that ends by its time-out although there is work has lost a wake-up. */
static int sleep_owner(struct round *round)
{
	const uint64_t before = round->self->handled;
	const int64_t begin = now_ns();

	round->peer->wait(round->self, PATIENCE * SECOND_NS);
	if (now_ns() - begin < PATIENCE * SECOND_NS)
		return 0;
	round->peer->drain(round->self);
	if (round->self->handled == before)
		return -ETIMEDOUT;
	fprintf(stderr, "bench: %s: a wake-up was lost\n", round->peer->name);
	return -EIO;
}

/* Returns when all is handled. */
static int owner_loop(struct round *round, int64_t *end)
{
	const uint64_t all = round->shape.posters * round->shape.items;
	uint64_t before = 0;

	for (;;) {
		round->peer->drain(round->self);
		if (round->self->handled >= all)
			break;
		if (round->self->handled == before) {
			int err = sleep_owner(round);

			if (err)
				return err;
		}
		before = round->self->handled;
	}
	*end = now_ns();
	return 0;
}

static void start_posters(struct round *round)
{
	for (unsigned p = 0; p < round->shape.posters; p++) {
		struct poster *poster = &round->posters[p];

		poster->round = round;
		poster->index = p;
		/* Those already started wait at the barrier for ever: nothing to go on with. */
		if (pthread_create(&poster->thread, NULL, poster_main, poster)) {
			fputs("bench: cannot create threads\n", stderr);
			exit(EXIT_FAILURE);
		}
	}
	pthread_barrier_wait(&round->start);
}

static int check(const struct round *round)
{
	const struct peer_seen *seen = round->self;
	const uint64_t all = round->shape.posters * round->shape.items;

	if (seen->handled == all && seen->sum == all * (all + 1) / 2)
		return 0;
	fprintf(stderr, "bench: %s, %u posters: %llu posted, %llu handled%s\n", round->peer->name,
		round->shape.posters, (unsigned long long)all, (unsigned long long)seen->handled,
		seen->handled == all ? ", but not the same" : "");
	return -EIO;
}

static int run_threads(struct round *round, struct gb_round *out)
{
	int64_t begin = INT64_MAX, end = 0;
	int err, lost;

	start_posters(round);
	err = owner_loop(round, &end);
	for (unsigned p = 0; p < round->shape.posters; p++) {
		const struct poster *poster = &round->posters[p];

		pthread_join(poster->thread, NULL);
		if (poster->begin < begin)
			begin = poster->begin;
		if (poster->end > end)
			end = poster->end;
	}
	round->peer->drain(round->self); /* whatever is handled twice shows here */
	out->seconds = (double)(end - begin) / (double)SECOND_NS;
	out->counter[0].name = BESIDE_WRITES;
	out->counter[0].value = (double)round->peer->writes(round->self) * 1000 /
				(double)(round->shape.posters * round->shape.items);
	lost = check(round);
	return err ? err : lost;
}

int beside_round(void *arg, uint64_t items, struct gb_round *out)
{
	const struct beside *beside = arg;
	struct round round = {
		.peer = beside->peer,
		.shape = {.posters = beside->posters, .items = items / beside->posters},
		.pin = beside->pin && cpus() > beside->posters,
	};
	int err = -ENOMEM;

	if (items % beside->posters)
		return -EINVAL;
	if (round.pin)
		pin_thread(0);
	round.posters = peer_alloc(beside->posters * sizeof(*round.posters));
	if (!round.posters)
		return -ENOMEM;
	round.self = beside->peer->setup(&round.shape);
	if (!round.self)
		goto out;
	pthread_barrier_init(&round.start, NULL, beside->posters + 1);
	err = run_threads(&round, out);
	pthread_barrier_destroy(&round.start);
	beside->peer->teardown(round.self);
out:
	free(round.posters);
	if (round.pin)
		(void)sched_setaffinity(0, sizeof(cpu_set_t), allowed());
	return err;
}
