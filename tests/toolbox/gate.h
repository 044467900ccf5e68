/* SPDX-License-Identifier: MIT */
#ifndef FQ_TEST_GATE_H
#define FQ_TEST_GATE_H

/* What the tests of gates share: operations that note when they ran, and other threads. */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "../unit/unit.h"

#define LONG INT64_C(60000000000)

/* An operation that notes when it ran: `order` counts what ran in this test. */
struct work {
	struct fq_gate_op op;
	struct fq_gate *gate;
	void (*also)(struct work *work);
	pthread_t on;
	unsigned ran;
	atomic_uint at;
};

static atomic_uint order;
static struct work work[256];

static inline void note(struct fq_gate_op *op)
{
	struct work *w = (struct work *)(void *)((char *)op - offsetof(struct work, op));

	w->ran++;
	w->on = pthread_self();
	if (w->also)
		w->also(w);
	atomic_store(&w->at, atomic_fetch_add(&order, 1) + 1);
}

static inline struct fq_gate_op *fresh(unsigned i, struct fq_gate *gate)
{
	memset(&work[i], 0, sizeof(work[i]));
	work[i].op.run = note;
	work[i].gate = gate;
	return &work[i].op;
}

static inline void expect_ran(unsigned i, unsigned at)
{
	cr_assert_eq(work[i].ran, 1, "operation %u ran %u times", i, work[i].ran);
	cr_assert_eq(atomic_load(&work[i].at), at, "operation %u was number %u", i, work[i].at);
}

static inline struct fq_gate_stats stats(const struct fq_gate *gate)
{
	struct fq_gate_stats s;

	fq_gate_get_stats(gate, &s);
	return s;
}

/* -- another thread, that does what it is told, step by step ----------------------------------- */

static inline void *in_thread(void *(*run)(void *), void *arg)
{
	pthread_t thread;
	void *got;

	cr_assert_eq(pthread_create(&thread, NULL, run, arg), 0);
	pthread_join(thread, &got);
	return got;
}

static inline void *try_it(void *gate)
{
	int err = fq_gate_try_enter(gate);

	if (!err)
		err = fq_gate_leave(gate);
	return (void *)(intptr_t)err;
}

/* Held or behind: nobody gets in at once. */
static inline bool is_shut(struct fq_gate *gate)
{
	return (intptr_t)in_thread(try_it, gate) == -EBUSY;
}

static inline void *leave_work(void *arg)
{
	struct work *w = arg;

	return (void *)(intptr_t)fq_gate_enter_or_leave(w->gate, &w->op);
}

/* Operation @i is left by another thread. */
static inline void left_by_another(unsigned i, struct fq_gate *gate)
{
	(void)fresh(i, gate);
	cr_assert_eq((intptr_t)in_thread(leave_work, &work[i]), FQ_GATE_LEFT);
}

static inline struct fq_queue *queue_of_test(void)
{
	struct fq_queue *q;

	cr_assert_eq(fq_queue_create(&q, 0), 0);
	return q;
}

static inline void setup(void)
{
	atomic_store(&order, 0);
}

static struct fq_queue *told_on;

static inline void *ask_to_be_told(void *arg)
{
	struct work *w = arg;

	return (void *)(intptr_t)fq_gate_enter_or_tell(w->gate, &w->op, told_on);
}

/* -- threads that block -------------------------------------------------------------------------- */

struct blocked {
	struct fq_gate *gate;
	int64_t timeout_ns;
	unsigned number; /* what `order` is when it is in */
	atomic_bool leave_now;
	atomic_bool in;
	int err;
	pthread_t thread;
};

static inline void *block(void *arg)
{
	struct blocked *b = arg;

	b->err = fq_gate_enter(b->gate, b->timeout_ns);
	if (b->err)
		return NULL;
	b->number = atomic_fetch_add(&order, 1) + 1;
	atomic_store(&b->in, true);
	while (!atomic_load(&b->leave_now))
		sched_yield();
	b->err = fq_gate_leave(b->gate);
	return NULL;
}

/* A thread is asleep, or about to be, when something of its is in the gate's word. */
static inline void wait_for_change(const struct fq_gate *gate, uint64_t word)
{
	while (__atomic_load_n(&gate->word.opaque, __ATOMIC_RELAXED) == word)
		usleep(100);
}

static inline void start(struct blocked *b, struct fq_gate *gate, int64_t timeout_ns)
{
	uint64_t word = __atomic_load_n(&gate->word.opaque, __ATOMIC_RELAXED);

	memset(b, 0, sizeof(*b));
	b->gate = gate;
	b->timeout_ns = timeout_ns;
	cr_assert_eq(pthread_create(&b->thread, NULL, block, b), 0);
	if (timeout_ns < 0)
		wait_for_change(gate, word);
}

static inline void limited(struct fq_gate *gate, struct fq_queue *q, uint32_t limit)
{
	const struct fq_gate_config config = {.queue = q, .limit = limit};

	cr_assert_eq(fq_gate_init(gate, &config), 0);
}

/* Falls behind with operations limit .. count - 1. */
static inline void fall_behind(struct fq_gate *gate, unsigned count)
{
	cr_assert_eq(fq_gate_try_enter(gate), 0);
	for (unsigned i = 0; i < count; i++)
		left_by_another(i, gate);
	cr_assert_eq(fq_gate_leave(gate), 0);
	cr_assert_not(fq_gate_is_inside(gate));
}

static inline void enter_again(struct fq_gate *gate)
{
	struct fq_queue *q = queue_of_test();
	uint64_t before = stats(gate).recursions;

	cr_assert_eq(fq_gate_try_enter(gate), -EDEADLK);
	cr_assert_eq(fq_gate_enter_or_leave(gate, fresh(200, gate)), -EDEADLK);
	cr_assert_eq(fq_gate_enter_or_tell(gate, fresh(201, gate), q), -EDEADLK);
	cr_assert_eq(fq_gate_enter(gate, -1), -EDEADLK);
	cr_assert_eq(fq_gate_enter(gate, 0), -EDEADLK);
	cr_assert_eq(fq_gate_enter(gate, LONG), -EDEADLK);
	cr_assert_eq(stats(gate).recursions, before + 6);
	cr_assert_eq(work[200].ran + work[201].ran, 0);
	cr_assert_eq(fq_queue_destroy(q), 0, "nothing was pushed");
}

#endif /* FQ_TEST_GATE_H */
