/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>

#include "gate.h"

TestSuite(gate_host, .init = setup, .timeout = 60);

/* -- a host's lock ----------------------------------------------------------------------------- */

struct big_lock {
	pthread_mutex_t mutex;
	atomic_bool held; /* by whom is for the host to know */
	pthread_t by;
	unsigned tries, locks, unlocks;
};

static struct big_lock big = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static bool big_held(void *opaque)
{
	struct big_lock *l = opaque;

	return atomic_load(&l->held) && pthread_equal(l->by, pthread_self());
}

static void mine(struct big_lock *l)
{
	l->by = pthread_self();
	atomic_store(&l->held, true);
}

static bool big_try(void *opaque)
{
	struct big_lock *l = opaque;

	if (pthread_mutex_trylock(&l->mutex))
		return false;
	mine(l);
	l->tries++;
	return true;
}

static void big_lock(void *opaque)
{
	struct big_lock *l = opaque;

	pthread_mutex_lock(&l->mutex);
	mine(l);
	l->locks++;
}

static void big_unlock(void *opaque)
{
	struct big_lock *l = opaque;

	l->unlocks++;
	atomic_store(&l->held, false);
	pthread_mutex_unlock(&l->mutex);
}

static void hosted(struct fq_gate *gate, struct fq_queue *q, bool knows)
{
	const struct fq_gate_config config = {
		.queue = q,
		.limit = 4,
		.host = {.try_lock = big_try,
			 .lock = big_lock,
			 .unlock = big_unlock,
			 .held = knows ? big_held : NULL,
			 .opaque = &big},
	};

	cr_assert_eq(fq_gate_init(gate, &config), 0);
	big.tries = big.locks = big.unlocks = 0;
}

static bool is_locked(void)
{
	if (pthread_mutex_trylock(&big.mutex))
		return true;
	pthread_mutex_unlock(&big.mutex);
	return false;
}

static void it_is_locked(struct work *w)
{
	cr_assert(fq_gate_is_inside(w->gate));
	cr_assert(is_locked());
}

Test(gate_host, who_is_inside_has_the_lock)
{
	struct fq_queue *q = queue_of_test();
	struct fq_gate gate;

	hosted(&gate, q, false);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	cr_assert(is_locked());
	left_by_another(0, &gate);
	work[0].also = it_is_locked;
	enter_again(&gate);
	cr_assert(is_shut(&gate));
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_not(is_locked());
	expect_ran(0, 1);
	cr_assert_eq(fq_gate_enter(&gate, -1), 0);
	cr_assert(is_locked());
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(fq_gate_enter_or_leave(&gate, fresh(1, &gate)), 0);
	cr_assert(is_locked());
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_not(is_locked());
	cr_assert_eq(fq_gate_enter(&gate, LONG), -ENOTSUP);
	cr_assert_eq(fq_gate_enter(&gate, 0), -ENOTSUP);
	cr_assert_eq(big.unlocks, big.locks + big.tries);
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/*
 * Code that knows nothing of the gate has the lock: what is left goes to the owner of the queue, in
 * order, and what comes after it as well. Seen to fail: with an operation that is put on the stack
 * of a gate that is not held (it never runs); without what is lent being counted (the second of one
 * thread's operations comes first).
 */
Test(gate_host, an_unaware_holder_strands_nobody)
{
	struct fq_queue *q = queue_of_test();
	struct fq_gate gate;

	hosted(&gate, q, false);
	told_on = q;
	pthread_mutex_lock(&big.mutex);
	for (unsigned i = 0; i < 6; i++)
		left_by_another(i, &gate);
	(void)fresh(6, &gate);
	cr_assert_eq((intptr_t)in_thread(ask_to_be_told, &work[6]), FQ_GATE_LEFT);
	cr_assert(is_shut(&gate));
	pthread_mutex_unlock(&big.mutex);
	cr_assert_eq(atomic_load(&order), 0, "an unaware holder runs nothing");
	cr_assert_eq(fq_gate_enter_or_leave(&gate, fresh(7, &gate)), FQ_GATE_LEFT, "in order");
	cr_assert_eq(fq_gate_try_enter(&gate), -EBUSY);
	cr_assert_eq(fq_gate_fini(&gate), -EBUSY);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 9);
	for (unsigned i = 0; i < 6; i++)
		expect_ran(i, i + 1);
	expect_ran(7, 7);
	expect_ran(6, 8);
	cr_assert_eq(stats(&gate).lent, 8);
	cr_assert_eq(fq_gate_enter_or_leave(&gate, fresh(8, &gate)), 0, "back to normal");
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(big.unlocks, big.locks + big.tries);
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/* The owner drains under the lock, which he has taken himself; as do devices that know no gate. */
Test(gate_host, a_lock_that_the_caller_has_is_adopted)
{
	struct fq_queue *q = queue_of_test();
	struct fq_gate gate;

	hosted(&gate, q, true);
	big_lock(&big);
	left_by_another(0, &gate);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	expect_ran(0, 1);
	cr_assert_eq(fq_gate_enter_or_leave(&gate, fresh(1, &gate)), 0);
	left_by_another(2, &gate);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	expect_ran(2, 2);
	cr_assert_eq(fq_gate_enter(&gate, -1), 0);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	for (unsigned i = 3; i < 10; i++)
		left_by_another(i, &gate);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(atomic_load(&order), 6);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	for (unsigned i = 3; i < 10; i++)
		expect_ran(i, i);
	cr_assert(is_locked(), "it is still ours");
	cr_assert_eq(big.unlocks, 0);
	big_unlock(&big);
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/*
 * Who has the lock must not wait for an owner who may need it, so there is an enter that gets in at once
 * whatever is lent or left behind. Seen to fail: with a blocking enter that stands in line of a gate
 * that is behind.
 */
Test(gate_host, who_has_the_lock_gets_in_at_once)
{
	struct fq_queue *q = queue_of_test();
	struct fq_gate gate;

	hosted(&gate, q, true);
	fall_behind(&gate, 6);
	big_lock(&big);
	cr_assert_eq(fq_gate_enter(&gate, -1), 0);
	cr_assert_eq(atomic_load(&order), 6);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	left_by_another(6, &gate);
	cr_assert_eq(stats(&gate).lent, 1);
	cr_assert_eq(fq_gate_enter(&gate, -1), 0);
	cr_assert_eq(work[6].ran, 0);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	big_unlock(&big);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 2);
	expect_ran(6, 7);
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

Test(gate_host, the_limit_holds)
{
	struct fq_queue *q = queue_of_test();
	struct fq_gate gate;

	hosted(&gate, q, false);
	fall_behind(&gate, 6);
	cr_assert_eq(atomic_load(&order), 4);
	cr_assert_not(is_locked());
	pthread_mutex_lock(&big.mutex);
	left_by_another(6, &gate);
	pthread_mutex_unlock(&big.mutex);
	cr_assert_eq(stats(&gate).lent, 0, "it stands behind the others");
	cr_assert_eq(fq_gate_enter(&gate, -1), 0);
	for (unsigned i = 0; i < 7; i++)
		expect_ran(i, i + 1);
	cr_assert(is_locked());
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1, "a node that comes late");
	cr_assert_eq(fq_gate_leave(&gate), 0);
	fall_behind(&gate, 6);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_eq(atomic_load(&order), 13);
	cr_assert_not(is_locked());
	cr_assert_eq(big.unlocks, big.locks + big.tries);
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/* A drain inside the gate: what was lent waits for the leave. */
Test(gate_host, what_was_lent_waits_for_who_is_inside)
{
	struct fq_queue *q = queue_of_test();
	struct fq_gate gate;

	hosted(&gate, q, false);
	pthread_mutex_lock(&big.mutex);
	left_by_another(0, &gate);
	pthread_mutex_unlock(&big.mutex);
	cr_assert_eq(fq_gate_enter(&gate, -1), 0);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_eq(work[0].ran, 0);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	expect_ran(0, 1);
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}
