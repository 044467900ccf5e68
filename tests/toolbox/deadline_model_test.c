/* SPDX-License-Identifier: MIT */
/* Many deadlines against a model that looks at every one, with a clock that this test moves. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <fenceq/fenceq.h>

#include "../unit/host.h"
#include "../unit/unit.h"
#include "clock.h"

static struct fq_queue *q;

static void setup(void)
{
	cr_assert_eq(fq_queue_create(&q, 0), 0);
	now_ns = INT64_C(1000000000000);
}

static void teardown(void)
{
	now_ns = 0;
	cr_assert_eq(fq_queue_destroy(q), 0);
}

TestSuite(deadline_model, .init = setup, .fini = teardown, .timeout = 100);

/* The model: for each deadline its time (0: not set), and when it was set. */
#define COUNT 300u

struct one {
	struct fq_deadline deadline;
	int64_t at_ns;
	uint64_t set;
};

static struct one one[COUNT];
static uint64_t sets, seed, state;
static unsigned ran;

static uint64_t random_u64(void)
{
	uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static struct one *next_of_model(void)
{
	struct one *next = NULL;

	for (unsigned i = 0; i < COUNT; i++) {
		struct one *o = &one[i];

		if (o->at_ns && (!next || o->at_ns < next->at_ns ||
				 (o->at_ns == next->at_ns && o->set < next->set)))
			next = o;
	}
	return next;
}

static void set(struct one *o)
{
	/* Few different times, so that many are the same. */
	const int64_t in = (int64_t)(random_u64() % 40) - 4;

	o->at_ns = now_ns + (in > 0 ? in : 0);
	o->set = sets++;
	cr_assert_eq(fq_deadline_set(q, &o->deadline, in), 0);
}

static void cancel(struct one *o)
{
	cr_assert_eq(fq_deadline_cancel(&o->deadline), o->at_ns != 0, "seed %llu",
		     (unsigned long long)seed);
	o->at_ns = 0;
}

static uint64_t drain_began; /* sets until then */

static void run(struct fq_deadline *deadline)
{
	struct one *o = (struct one *)(void *)deadline;

	cr_assert_eq(o, next_of_model(), "seed %llu, %u ran: not the next one",
		     (unsigned long long)seed, ran);
	cr_assert_leq(o->at_ns, now_ns);
	cr_assert_lt(o->set, drain_began, "set in this drain");
	cr_assert_eq(deadline->at_ns, 0);
	o->at_ns = 0;
	ran++;
	switch (random_u64() % 8) {
	case 0:
		set(o);
		break;
	case 1:
		set(&one[random_u64() % COUNT]);
		break;
	case 2:
		cancel(&one[random_u64() % COUNT]);
		break;
	default:
		break;
	}
}

static void drain(void)
{
	const struct one *next;

	drain_began = sets;
	now_ns += (int64_t)(random_u64() % 12);
	(void)fq_queue_drain(q, 0);
	next = next_of_model();
	cr_assert(!next || next->at_ns > now_ns || next->set >= drain_began,
		  "seed %llu: one that was due did not run", (unsigned long long)seed);
	cr_assert_eq(fq_queue_timeout(q), !next                   ? -1
					  : next->at_ns <= now_ns ? 0
								  : next->at_ns - now_ns);
}

static void random_operations(unsigned count)
{
	memset(one, 0, sizeof(one));
	for (unsigned i = 0; i < COUNT; i++)
		one[i].deadline.run = run;
	while (count--) {
		const uint64_t r = random_u64();

		if (r % 16 < 9)
			set(&one[r / 16 % COUNT]); /* or moves it */
		else if (r % 16 < 14)
			cancel(&one[r / 16 % COUNT]);
		else
			drain();
	}
	for (unsigned i = 0; i < COUNT; i++)
		cancel(&one[i]);
	cr_assert_eq(fq_queue_timeout(q), -1);
}

/*
 * Seen to fail with a tie that goes to the one set later, with a heap that forgets the children of
 * one that is cancelled, and with a drain that runs what was set in it.
 */
Test(deadline_model, random_operations)
{
	for (seed = 1; seed <= 10; seed++) {
		state = seed;
		random_operations(10000);
	}
	cr_assert_gt(ran, 1000);
}

static void again_at_once(struct fq_deadline *deadline)
{
	cr_assert_lt(ran++, 1000);
	cr_assert_eq(fq_deadline_set(q, deadline, 0), 0);
}

/* The clock stands: what a callback sets is due at once, and runs in the next drain all the same. */
Test(deadline_model, one_that_sets_itself_runs_once_in_a_drain)
{
	struct fq_deadline deadline = {.run = again_at_once};

	ran = 0;
	cr_assert_eq(fq_deadline_set(q, &deadline, 0), 0);
	for (unsigned i = 1; i < 10; i++) {
		(void)fq_queue_drain(q, 0);
		cr_assert_eq(ran, i);
	}
	cr_assert(fq_deadline_cancel(&deadline));
}

/* -- orders that are hard on a heap -------------------------------------------------------------- */

#define MANY 100000u

static struct fq_deadline *many;

static void count_it(struct fq_deadline *deadline)
{
	(void)deadline;
	ran++;
}

static bool fill(int order)
{
	for (unsigned i = 0; i < MANY; i++) {
		many[i] = (struct fq_deadline){.run = count_it};
		if (fq_deadline_set(q, &many[i], order ? (int64_t)(MANY - i) : 1 + i))
			return false;
	}
	return true;
}

static bool hard_order(int order)
{
	if (!fill(order))
		return false;
	for (unsigned i = 0; i < MANY; i += 2) {
		if (!fq_deadline_cancel(&many[order ? MANY - 1 - i : i]))
			return false;
	}
	ran = 0;
	now_ns += MANY / 2;
	(void)fq_queue_drain(q, 0);
	if (ran != MANY / 4)
		return false;
	now_ns += MANY;
	(void)fq_queue_drain(q, 0);
	return ran == MANY / 2;
}

/* On a small stack, which a recursion as deep as the heap can be would overflow. */
static void *hard_orders(void *arg)
{
	(void)arg;
	return hard_order(0) && hard_order(1) ? many : NULL;
}

Test(deadline_model, a_hundred_thousand_in_hard_orders)
{
	pthread_attr_t attr;
	pthread_t thread;
	void *good;

	many = calloc(MANY, sizeof(*many));
	cr_assert_not_null(many);
	cr_assert_eq(pthread_attr_init(&attr), 0);
	cr_assert_eq(pthread_attr_setstacksize(&attr, 128 * 1024), 0);
	cr_assert_eq(pthread_create(&thread, &attr, hard_orders, NULL), 0);
	pthread_join(thread, &good);
	cr_assert_eq(good, many);
	pthread_attr_destroy(&attr);
	free(many);
}
