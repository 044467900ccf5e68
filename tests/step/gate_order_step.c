/* SPDX-License-Identifier: MIT */
/*
 * What a debug build (fenceq_steps is one) says of gates: the order in which they are entered, and
 * the use of one that was ended.
 *
 * Seen to fail: with a look at the others' steps before one's own are noted; with what was refused, or
 * a gate that is gone, not forgotten; without the look at what is alive.
 */
#include <errno.h>
#include <unistd.h>

#include "internal.h"
#include "step.h"

void (*fq_step_hook)(void);

#define MANY 70u

static struct fq_gate device, global, third;

static void open_all(void)
{
	STEP_CHECK(!fq_gate_init(&device, NULL), "init");
	STEP_CHECK(!fq_gate_init(&global, NULL), "init");
	STEP_CHECK(!fq_gate_init(&third, NULL), "init");
}

static void close_all(void)
{
	STEP_CHECK(!fq_gate_fini(&device), "fini");
	STEP_CHECK(!fq_gate_fini(&global), "fini");
	STEP_CHECK(!fq_gate_fini(&third), "fini");
}

static void leave(struct fq_gate *gate)
{
	STEP_CHECK(!fq_gate_leave(gate), "leave");
}

/* Enters one inside of the other; what the second enter said. */
static int nest(struct fq_gate *outer, struct fq_gate *inner, int64_t timeout_ns)
{
	int err;

	STEP_CHECK(!fq_gate_enter(outer, -1), "outer");
	err = fq_gate_enter(inner, timeout_ns);
	if (!err)
		leave(inner);
	leave(outer);
	return err;
}

static uint64_t disorders(const struct fq_gate *gate)
{
	struct fq_gate_stats s;

	fq_gate_get_stats(gate, &s);
	return s.disorders;
}

static void *device_then_global(void *arg)
{
	(void)arg;
	STEP_CHECK(!nest(&device, &global, -1), "the first order");
	return NULL;
}

/*
 * Trap 17: the device's lock then the global one in one path, the reverse in another; found although
 * the two never meet in time, here with one after the other, on two threads.
 *
 * Seen to fail: with fq_order_allows() that says yes.
 */
static void t17_lock_order(void)
{
	pthread_t thread;

	open_all();
	STEP_CHECK(!pthread_create(&thread, NULL, device_then_global, NULL), "thread");
	pthread_join(thread, NULL);
	STEP_CHECK(nest(&global, &device, -1) == -EDEADLK, "the reverse");
	STEP_CHECK(nest(&global, &device, 1000000) == -EDEADLK, "the reverse, with a time-out");
	STEP_CHECK(disorders(&device) == 2, "counted");
	STEP_CHECK(!nest(&device, &global, -1), "the first order is still the right one");
	close_all();
}

/* Forms that do not block cannot deadlock; but they are what another enter is inside of. */
static void tries_are_exempt(void)
{
	open_all();
	device_then_global(NULL);
	STEP_CHECK(!fq_gate_enter(&global, -1), "enter");
	STEP_CHECK(!fq_gate_try_enter(&device), "try");
	leave(&device);
	STEP_CHECK(!fq_gate_enter(&device, 0), "no waiting");
	STEP_CHECK(!fq_gate_enter(&third, -1), "inside of both");
	leave(&third);
	leave(&device);
	leave(&global);
	STEP_CHECK(nest(&third, &device, -1) == -EDEADLK, "third was entered inside of it");
	close_all();
}

/* Round three corners; and what was refused is not an order. */
static void longer_ways_round(void)
{
	open_all();
	STEP_CHECK(!nest(&device, &global, -1), "1");
	STEP_CHECK(!nest(&global, &third, -1), "2");
	STEP_CHECK(nest(&third, &device, -1) == -EDEADLK, "3");
	STEP_CHECK(!nest(&device, &third, -1), "the refused step is not remembered");
	close_all();
}

/* A number that is given out again starts anew. */
static void forgets_what_is_gone(void)
{
	open_all();
	STEP_CHECK(!nest(&device, &global, -1), "first");
	STEP_CHECK(!fq_gate_fini(&global) && !fq_gate_init(&global, NULL), "another");
	STEP_CHECK(!nest(&global, &device, -1), "it was the other one's order");
	STEP_CHECK(!fq_gate_fini(&global) && !fq_gate_init(&global, NULL), "another");
	STEP_CHECK(!nest(&device, &global, -1), "it was the other one's order");
	close_all();
}

static void more_gates_than_are_looked_at(void)
{
	static struct fq_gate many[MANY];

	for (unsigned i = 0; i < MANY; i++)
		STEP_CHECK(!fq_gate_init(&many[i], NULL), "init %u", i);
	STEP_CHECK(!nest(&many[0], &many[63], -1), "looked at");
	STEP_CHECK(nest(&many[63], &many[0], -1) == -EDEADLK, "looked at");
	STEP_CHECK(!nest(&many[0], &many[64], -1), "not looked at");
	STEP_CHECK(!nest(&many[64], &many[0], -1), "not looked at");
	for (unsigned i = 0; i < MANY; i++)
		STEP_CHECK(!fq_gate_fini(&many[i]), "fini %u", i);
}

/* Two threads from opposite sides at the same time, one stopped at each of its steps. */
static int from_one_side;

static void go(void *arg)
{
	(void)arg;
	from_one_side = nest(&device, &global, 1000000);
}

static void both_at_once(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;
		int from_the_other;

		open_all();
		stopped = stopper_start(&s, go, NULL, at);
		from_the_other = fq_gate_try_enter(&global);
		if (!from_the_other) {
			from_the_other = fq_gate_enter(&device, 1000000);
			if (!from_the_other)
				leave(&device);
			leave(&global);
		} else {
			from_the_other = -EDEADLK; /* the one that is stopped is inside both */
		}
		stopper_finish(&s);
		STEP_CHECK(from_one_side == -EDEADLK || from_the_other == -EDEADLK,
			   "step %u: %d %d", at, from_one_side, from_the_other);
		close_all();
	}
}

/* The operations of a leave run inside of whatever their thread is inside of. */
static void enter_global(struct fq_gate_op *op)
{
	(void)op;
	STEP_CHECK(fq_gate_enter(&global, -1) == -EDEADLK, "against the order");
}

static void operations_have_an_order_too(void)
{
	struct fq_gate_op op = {.run = enter_global};

	open_all();
	STEP_CHECK(!nest(&global, &device, -1), "the order");
	STEP_CHECK(!fq_gate_enter(&device, -1), "enter");
	STEP_CHECK(!fq_gate_defer(&device, &op), "defer");
	leave(&device);
	STEP_CHECK(disorders(&global) == 1, "refused");
	close_all();
}

static void run_nothing(struct fq_gate_op *op)
{
	(void)op;
}

static void use_after_fini(void)
{
	struct fq_gate_op op = {.run = run_nothing};
	struct fq_queue *queue;

	STEP_CHECK(!fq_queue_create(&queue, 0), "queue");
	open_all();
	close_all();
	STEP_CHECK(fq_gate_try_enter(&device) == -EINVAL, "try_enter");
	STEP_CHECK(fq_gate_enter(&device, -1) == -EINVAL, "enter");
	STEP_CHECK(fq_gate_enter_or_leave(&device, &op) == -EINVAL, "enter_or_leave");
	STEP_CHECK(fq_gate_enter_or_tell(&device, &op, queue) == -EINVAL, "enter_or_tell");
	STEP_CHECK(fq_gate_defer(&device, &op) == -EINVAL, "defer");
	STEP_CHECK(fq_gate_leave(&device) == -EINVAL, "leave");
	STEP_CHECK(fq_gate_fini(&device) == -EINVAL, "fini");
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
}

int main(void)
{
	alarm(60);
	fq_step_hook = step_hook;
	t17_lock_order();
	tries_are_exempt();
	longer_ways_round();
	forgets_what_is_gone();
	more_gates_than_are_looked_at();
	both_at_once();
	operations_have_an_order_too();
	use_after_fini();
	puts("ok");
	return 0;
}
