/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "../unit/unit.h"

#define LONG INT64_C(60000000000)

TestSuite(trap, .timeout = 60);

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

static void note(struct fq_gate_op *op)
{
	struct work *w = (struct work *)(void *)((char *)op - offsetof(struct work, op));

	w->ran++;
	w->on = pthread_self();
	if (w->also)
		w->also(w);
	atomic_store(&w->at, atomic_fetch_add(&order, 1) + 1);
}

static struct fq_gate_op *fresh(unsigned i, struct fq_gate *gate)
{
	memset(&work[i], 0, sizeof(work[i]));
	work[i].op.run = note;
	work[i].gate = gate;
	return &work[i].op;
}

static void expect_ran(unsigned i, unsigned at)
{
	cr_assert_eq(work[i].ran, 1, "operation %u ran %u times", i, work[i].ran);
	cr_assert_eq(atomic_load(&work[i].at), at, "operation %u was number %u", i, work[i].at);
}

static struct fq_gate_stats stats(const struct fq_gate *gate)
{
	struct fq_gate_stats s;

	fq_gate_get_stats(gate, &s);
	return s;
}

/* -- another thread, that does what it is told, step by step ----------------------------------- */

static void *in_thread(void *(*run)(void *), void *arg)
{
	pthread_t thread;
	void *got;

	cr_assert_eq(pthread_create(&thread, NULL, run, arg), 0);
	pthread_join(thread, &got);
	return got;
}

static void *try_it(void *gate)
{
	int err = fq_gate_try_enter(gate);

	if (!err)
		err = fq_gate_leave(gate);
	return (void *)(intptr_t)err;
}

/* Held or behind: nobody gets in at once. */
static bool is_shut(struct fq_gate *gate)
{
	return (intptr_t)in_thread(try_it, gate) == -EBUSY;
}

static void *leave_work(void *arg)
{
	struct work *w = arg;

	return (void *)(intptr_t)fq_gate_enter_or_leave(w->gate, &w->op);
}

/* Operation @i is left by another thread. */
static void left_by_another(unsigned i, struct fq_gate *gate)
{
	(void)fresh(i, gate);
	cr_assert_eq((intptr_t)in_thread(leave_work, &work[i]), FQ_GATE_LEFT);
}

static struct fq_queue *queue_of_test(void)
{
	struct fq_queue *q;

	cr_assert_eq(fq_queue_create(&q, 0), 0);
	return q;
}

static void setup(void)
{
	atomic_store(&order, 0);
}

TestSuite(plain, .init = setup, .timeout = 60);
TestSuite(limit, .init = setup, .timeout = 60);
TestSuite(host, .init = setup, .timeout = 60);

/* -- one thread at a time ---------------------------------------------------------------------- */

Test(plain, enters_if_free_and_skips_if_not)
{
	struct fq_gate gate;

	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_not(fq_gate_is_inside(&gate));
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	cr_assert(fq_gate_is_inside(&gate));
	cr_assert(is_shut(&gate));
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_not(fq_gate_is_inside(&gate));
	cr_assert_not(is_shut(&gate));
	cr_assert_eq(stats(&gate).entered, 2);
	cr_assert_eq(fq_gate_fini(&gate), 0);
}

Test(plain, every_form_of_enter_gets_in_when_free)
{
	struct fq_queue *q = queue_of_test();
	struct fq_gate gate;

	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_enter_or_leave(&gate, fresh(0, &gate)), 0);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(fq_gate_enter_or_tell(&gate, fresh(1, &gate), q), 0);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(fq_gate_enter(&gate, -1), 0);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(fq_gate_enter(&gate, 0), 0);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(fq_gate_enter(&gate, LONG), 0);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 0);
	cr_assert_eq(work[0].ran + work[1].ran, 0, "who is inside does it himself");
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/* Seen to fail: with the stack run as it is, newest first. */
Test(plain, the_holder_runs_what_was_left_in_order)
{
	struct fq_gate gate;

	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	for (unsigned i = 0; i < 100; i++)
		left_by_another(i, &gate);
	cr_assert_eq(atomic_load(&order), 0, "nothing runs before the holder leaves");
	cr_assert_eq(fq_gate_leave(&gate), 0);
	for (unsigned i = 0; i < 100; i++) {
		expect_ran(i, i + 1);
		cr_assert(pthread_equal(work[i].on, pthread_self()));
	}
	cr_assert_eq(stats(&gate).delegated, 100);
	cr_assert_eq(fq_gate_fini(&gate), 0);
}

static void defer_another(struct work *w)
{
	unsigned next = (unsigned)(w - work) + 1;

	cr_assert(fq_gate_is_inside(w->gate));
	cr_assert_eq(fq_gate_defer(w->gate, fresh(next, w->gate)), 0);
	if (next < 5)
		work[next].also = defer_another;
}

Test(plain, what_an_operation_leaves_runs_after_it)
{
	struct fq_gate gate;

	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	cr_assert_eq(fq_gate_defer(&gate, fresh(0, &gate)), 0);
	work[0].also = defer_another;
	left_by_another(10, &gate);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	expect_ran(0, 1);
	expect_ran(10, 2);
	for (unsigned i = 1; i < 5; i++)
		expect_ran(i, i + 2);
	cr_assert_not(is_shut(&gate));
	cr_assert_eq(fq_gate_fini(&gate), 0);
}

/* The guest makes a device access itself. Seen to fail (hangs, or -EBUSY): without the holder's name. */
static void enter_again(struct fq_gate *gate)
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

static void enter_again_and_leave(struct work *w)
{
	enter_again(w->gate);
	cr_assert_eq(fq_gate_leave(w->gate), -EPERM, "an operation does not let go");
}

Test(plain, recursion_is_refused_in_every_form)
{
	struct fq_gate gate;

	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	enter_again(&gate);
	cr_assert_eq(fq_gate_defer(&gate, fresh(0, &gate)), 0);
	work[0].also = enter_again_and_leave;
	cr_assert_eq(fq_gate_leave(&gate), 0);
	expect_ran(0, 1);
	cr_assert_eq(fq_gate_try_enter(&gate), 0, "let go all the same");
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(fq_gate_fini(&gate), 0);
}

static void *leave_it(void *gate)
{
	return (void *)(intptr_t)fq_gate_leave(gate);
}

static void *defer_it(void *arg)
{
	struct work *w = arg;

	return (void *)(intptr_t)fq_gate_defer(w->gate, &w->op);
}

Test(plain, who_is_not_inside_cannot_leave_or_defer)
{
	struct fq_gate gate;

	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_leave(&gate), -EPERM);
	cr_assert_eq(fq_gate_defer(&gate, fresh(0, &gate)), -EPERM);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	cr_assert_eq((intptr_t)in_thread(leave_it, &gate), -EPERM);
	cr_assert_eq((intptr_t)in_thread(defer_it, &work[0]), -EPERM);
	cr_assert(fq_gate_is_inside(&gate));
	cr_assert_eq(fq_gate_fini(&gate), -EBUSY);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(work[0].ran, 0);
	cr_assert_eq(fq_gate_fini(&gate), 0);
}

static bool try_nothing(void *opaque)
{
	(void)opaque;
	return false;
}

static void do_nothing(void *opaque)
{
	(void)opaque;
}

Test(plain, bad_input)
{
	struct fq_queue *q = queue_of_test();
	struct fq_gate gate;
	struct fq_gate_op none = {.run = NULL};
	struct fq_gate_config config = {.limit = 1};

	cr_assert_eq(fq_gate_init(NULL, NULL), -EINVAL);
	cr_assert_eq(fq_gate_init(&gate, &config), -EINVAL, "a limit, and nobody to take the rest");
	config = (struct fq_gate_config){.queue = q, .host = {.try_lock = try_nothing}};
	cr_assert_eq(fq_gate_init(&gate, &config), -EINVAL, "half a lock");
	config.host.lock = config.host.unlock = do_nothing;
	config.queue = NULL;
	cr_assert_eq(fq_gate_init(&gate, &config), -EINVAL, "a host's lock, and no queue");
	config = (struct fq_gate_config){.queue = q, .reserved = 1};
	cr_assert_eq(fq_gate_init(&gate, &config), -EINVAL);
	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_try_enter(NULL), -EINVAL);
	cr_assert_eq(fq_gate_enter(NULL, -1), -EINVAL);
	cr_assert_eq(fq_gate_enter_or_leave(NULL, fresh(0, NULL)), -EINVAL);
	cr_assert_eq(fq_gate_enter_or_leave(&gate, NULL), -EINVAL);
	cr_assert_eq(fq_gate_enter_or_leave(&gate, &none), -EINVAL);
	cr_assert_eq(fq_gate_enter_or_tell(&gate, fresh(0, NULL), NULL), -EINVAL);
	cr_assert_eq(fq_gate_enter_or_tell(&gate, &none, q), -EINVAL);
	cr_assert_eq(fq_gate_defer(&gate, NULL), -EINVAL);
	cr_assert_eq(fq_gate_leave(NULL), -EINVAL);
	cr_assert_eq(fq_gate_fini(NULL), -EINVAL);
	cr_assert_not(fq_gate_is_inside(NULL));
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/* -- to be told -------------------------------------------------------------------------------- */

static struct fq_queue *told_on;

static void *ask_to_be_told(void *arg)
{
	struct work *w = arg;

	return (void *)(intptr_t)fq_gate_enter_or_tell(w->gate, &w->op, told_on);
}

static void it_is_free(struct work *w)
{
	cr_assert_eq(fq_gate_try_enter(w->gate), 0);
	cr_assert_eq(fq_gate_leave(w->gate), 0);
}

/* Seen to fail: with what is told pushed before the gate is let go. */
Test(plain, is_told_when_the_gate_is_free)
{
	struct fq_gate gate;

	told_on = queue_of_test();
	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	for (unsigned i = 0; i < 2; i++) {
		(void)fresh(i, &gate);
		work[i].also = it_is_free;
		cr_assert_eq((intptr_t)in_thread(ask_to_be_told, &work[i]), FQ_GATE_LEFT);
	}
	left_by_another(2, &gate);
	cr_assert_eq(fq_queue_drain(told_on, FQ_NO_BUDGET), 0);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	expect_ran(2, 1);
	cr_assert_eq(work[0].ran + work[1].ran, 0, "not inside the gate");
	cr_assert_eq(stats(&gate).told, 2);
	cr_assert_eq(fq_gate_fini(&gate), 0, "what is told is the queue's");
	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_queue_drain(told_on, FQ_NO_BUDGET), 2);
	expect_ran(0, 2);
	expect_ran(1, 3);
	cr_assert_eq(fq_queue_destroy(told_on), 0);
	cr_assert_eq(fq_gate_fini(&gate), 0);
}

/* -- blocking ---------------------------------------------------------------------------------- */

struct blocked {
	struct fq_gate *gate;
	int64_t timeout_ns;
	unsigned number; /* what `order` is when it is in */
	atomic_bool leave_now;
	atomic_bool in;
	int err;
	pthread_t thread;
};

static void *block(void *arg)
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
static void wait_for_change(const struct fq_gate *gate, uint64_t word)
{
	while (__atomic_load_n(&gate->word.opaque, __ATOMIC_RELAXED) == word)
		usleep(100);
}

static void start(struct blocked *b, struct fq_gate *gate, int64_t timeout_ns)
{
	uint64_t word = __atomic_load_n(&gate->word.opaque, __ATOMIC_RELAXED);

	memset(b, 0, sizeof(*b));
	b->gate = gate;
	b->timeout_ns = timeout_ns;
	cr_assert_eq(pthread_create(&b->thread, NULL, block, b), 0);
	if (timeout_ns < 0)
		wait_for_change(gate, word);
}

/* What stands before a blocked enter has run when it is in; what stands behind has not. */
Test(plain, blocked_enters_are_served_in_turn)
{
	struct blocked b[3];
	struct fq_gate gate;

	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	for (unsigned i = 0; i < 3; i++) {
		left_by_another(i, &gate);
		start(&b[i], &gate, -1);
	}
	left_by_another(3, &gate);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	for (unsigned i = 0; i < 3; i++) {
		while (!atomic_load(&b[i].in))
			sched_yield();
		cr_assert_eq(b[i].number, 2 * i + 2);
		expect_ran(i, 2 * i + 1);
		cr_assert_eq(work[i + 1].ran, 0, "it stands behind who is in now");
		atomic_store(&b[i].leave_now, true);
		pthread_join(b[i].thread, NULL);
		cr_assert_eq(b[i].err, 0);
	}
	expect_ran(3, 7);
	cr_assert_eq(stats(&gate).handed_over, 3);
	cr_assert_eq(fq_gate_fini(&gate), 0);
}

/* Who asked to be told is told when it is free, not when it is handed over. */
Test(plain, nobody_is_told_of_a_gate_that_is_handed_over)
{
	struct blocked b;
	struct fq_gate gate;

	told_on = queue_of_test();
	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	(void)fresh(0, &gate);
	cr_assert_eq((intptr_t)in_thread(ask_to_be_told, &work[0]), FQ_GATE_LEFT);
	start(&b, &gate, -1);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	while (!atomic_load(&b.in))
		sched_yield();
	cr_assert_eq(fq_queue_drain(told_on, FQ_NO_BUDGET), 0);
	atomic_store(&b.leave_now, true);
	pthread_join(b.thread, NULL);
	cr_assert_eq(fq_queue_drain(told_on, FQ_NO_BUDGET), 1);
	expect_ran(0, 2);
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(told_on), 0);
}

static void *block_for_a_millisecond(void *gate)
{
	return (void *)(intptr_t)fq_gate_enter(gate, 1000000);
}

static void *do_not_block(void *gate)
{
	return (void *)(intptr_t)fq_gate_enter(gate, 0);
}

/* Who gives up leaves nothing of itself behind: the holder would run into its stack. */
Test(plain, a_timed_enter_gives_up)
{
	struct fq_gate gate;

	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	cr_assert_eq((intptr_t)in_thread(do_not_block, &gate), -ETIMEDOUT);
	for (unsigned i = 0; i < 5; i++) {
		left_by_another(i, &gate);
		cr_assert_eq((intptr_t)in_thread(block_for_a_millisecond, &gate), -ETIMEDOUT);
	}
	cr_assert_eq(fq_gate_leave(&gate), 0);
	for (unsigned i = 0; i < 5; i++)
		expect_ran(i, i + 1);
	cr_assert_eq(stats(&gate).handed_over, 0);
	cr_assert_not(is_shut(&gate));
	cr_assert_eq(fq_gate_fini(&gate), 0);
}

/* Seen to fail (hangs): with a leave that wakes nobody. */
Test(plain, a_timed_enter_is_woken)
{
	struct blocked b[4];
	struct fq_gate gate;

	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	for (unsigned i = 0; i < 4; i++) {
		start(&b[i], &gate, 10 * LONG);
		atomic_store(&b[i].leave_now, true);
	}
	wait_for_change(&gate, 1);
	usleep(2000);
	left_by_another(0, &gate);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(b[i].thread, NULL);
		cr_assert_eq(b[i].err, 0);
	}
	expect_ran(0, 1);
	cr_assert_eq(fq_gate_fini(&gate), 0);
}

static atomic_uint handled;

static void on_signal(int signo)
{
	(void)signo;
	atomic_fetch_add(&handled, 1);
}

/* EINTR is nobody's business, with a time-out or without. */
Test(plain, a_signal_handler_does_not_end_a_wait)
{
	const struct sigaction action = {.sa_handler = on_signal};
	struct blocked b[2];
	struct fq_gate gate;

	cr_assert_eq(sigaction(SIGUSR1, &action, NULL), 0);
	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	start(&b[0], &gate, -1);
	start(&b[1], &gate, LONG);
	for (unsigned i = 0; i < 2; i++) {
		atomic_store(&handled, 0);
		while (atomic_load(&handled) < 5) {
			pthread_kill(b[i].thread, SIGUSR1);
			usleep(500);
		}
		cr_assert_not(atomic_load(&b[i].in));
		atomic_store(&b[i].leave_now, true);
	}
	cr_assert_eq(fq_gate_leave(&gate), 0);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(b[i].thread, NULL);
		cr_assert_eq(b[i].err, 0);
	}
	cr_assert_eq(fq_gate_fini(&gate), 0);
}

static void *block_keeping_errno(void *arg)
{
	errno = ENOTTY;
	(void)block(arg);
	return errno == ENOTTY ? arg : NULL;
}

/* A thread that is cancelled while it is blocked gets the gate all the same, and leaves it. */
Test(plain, is_no_cancellation_point_and_keeps_errno)
{
	struct blocked b[2];
	struct fq_gate gate;
	void *got;

	for (unsigned i = 0; i < 4; i++) {
		uint64_t word;

		memset(b, 0, sizeof(b));
		b[0].gate = &gate;
		b[0].timeout_ns = i & 1 ? LONG : -1;
		atomic_store(&b[0].leave_now, true);
		cr_assert_eq(fq_gate_init(&gate, NULL), 0);
		cr_assert_eq(fq_gate_try_enter(&gate), 0);
		word = __atomic_load_n(&gate.word.opaque, __ATOMIC_RELAXED);
		cr_assert_eq(pthread_create(&b[0].thread, NULL, block_keeping_errno, &b[0]), 0);
		wait_for_change(&gate, word);
		usleep(1000);
		if (i & 2)
			pthread_cancel(b[0].thread);
		cr_assert_eq(fq_gate_leave(&gate), 0);
		pthread_join(b[0].thread, &got);
		cr_assert(got == &b[0] || (i & 2 && got == PTHREAD_CANCELED));
		cr_assert(atomic_load(&b[0].in), "%u", i);
		cr_assert_eq(fq_gate_fini(&gate), 0, "%u: it has left", i);
	}
}

static void *try_enter(void *gate)
{
	return (void *)(intptr_t)fq_gate_try_enter(gate);
}

/* The thread that forks is inside in both; a gate that another one holds is held in the child. */
Test(plain, a_child_inherits_gates_as_they_were)
{
	struct fq_gate gate, others;
	int status;
	pid_t child;

	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	cr_assert_eq(fq_gate_init(&others, NULL), 0);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	cr_assert_eq(fq_gate_defer(&gate, fresh(0, &gate)), 0);
	cr_assert_eq((intptr_t)in_thread(try_enter, &others), 0);
	child = fork();
	if (!child) {
		fq_after_fork_child();
		if (fq_gate_try_enter(&others) != -EBUSY)
			_exit(1);
		if (fq_gate_leave(&gate) || work[0].ran != 1)
			_exit(2);
		_exit(fq_gate_try_enter(&gate) || fq_gate_leave(&gate) ? 3 : 0);
	}
	cr_assert_gt(child, 0);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert_eq(status, 0);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(work[0].ran, 1);
	cr_assert_eq(fq_gate_fini(&gate), 0);
}

/* -- the limit --------------------------------------------------------------------------------- */

static void limited(struct fq_gate *gate, struct fq_queue *q, uint32_t limit)
{
	const struct fq_gate_config config = {.queue = q, .limit = limit};

	cr_assert_eq(fq_gate_init(gate, &config), 0);
}

/* Falls behind with operations limit .. count - 1. */
static void fall_behind(struct fq_gate *gate, unsigned count)
{
	cr_assert_eq(fq_gate_try_enter(gate), 0);
	for (unsigned i = 0; i < count; i++)
		left_by_another(i, gate);
	cr_assert_eq(fq_gate_leave(gate), 0);
	cr_assert_not(fq_gate_is_inside(gate));
}

/* Seen to fail: without the limit; with a node that is not pushed (the rest never runs). */
Test(limit, the_rest_is_the_owners)
{
	struct fq_queue *q = queue_of_test();
	struct fq_gate gate;

	limited(&gate, q, 4);
	fall_behind(&gate, 11);
	cr_assert_eq(atomic_load(&order), 4);
	cr_assert(is_shut(&gate));
	cr_assert_eq(fq_gate_fini(&gate), -EBUSY);
	cr_assert_eq(fq_queue_drain(q, 1), 1);
	cr_assert_eq(atomic_load(&order), 8, "as many again, then others have their turn");
	cr_assert_eq(fq_queue_drain(q, 1), 1);
	for (unsigned i = 0; i < 11; i++)
		expect_ran(i, i + 1);
	cr_assert_not(is_shut(&gate));
	cr_assert_eq(stats(&gate).fell_behind, 2);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 0);
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

Test(limit, is_64_by_default_and_none_without_a_queue)
{
	struct fq_queue *q = queue_of_test();
	struct fq_gate gate;

	limited(&gate, q, 0);
	fall_behind(&gate, 65);
	cr_assert_eq(atomic_load(&order), 64);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_eq(atomic_load(&order), 65);
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);

	cr_assert_eq(fq_gate_init(&gate, NULL), 0);
	fall_behind(&gate, 200);
	cr_assert_eq(atomic_load(&order), 265);
	cr_assert_eq(fq_gate_fini(&gate), 0);
}

/*
 * Nobody overtakes what he has left himself. Seen to fail: with an enter_or_leave that enters a gate
 * that is behind.
 */
Test(limit, what_comes_later_stands_behind)
{
	struct fq_queue *q = queue_of_test();
	struct fq_gate gate;

	told_on = q;
	limited(&gate, q, 2);
	fall_behind(&gate, 4);
	left_by_another(4, &gate);
	cr_assert_eq(fq_gate_enter_or_leave(&gate, fresh(5, &gate)), FQ_GATE_LEFT);
	cr_assert_eq(fq_gate_enter_or_tell(&gate, fresh(6, &gate), q), FQ_GATE_LEFT);
	cr_assert_eq(fq_gate_try_enter(&gate), -EBUSY);
	cr_assert_eq(atomic_load(&order), 2);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 4, "3 visits, and one is told");
	for (unsigned i = 0; i < 7; i++)
		expect_ran(i, i + 1);
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/* An owner who blocks on the gate is not the one he waits for. */
Test(limit, a_blocking_enter_runs_what_is_before_it)
{
	struct fq_queue *q = queue_of_test();
	struct fq_gate gate;

	limited(&gate, q, 2);
	for (unsigned timed = 0; timed < 2; timed++) {
		atomic_store(&order, 0);
		fall_behind(&gate, 9);
		cr_assert_eq(fq_gate_enter(&gate, timed ? LONG : -1), 0);
		for (unsigned i = 0; i < 9; i++)
			expect_ran(i, i + 1);
		cr_assert(fq_gate_is_inside(&gate));
		cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1, "the node, inside the gate");
		cr_assert(fq_gate_is_inside(&gate));
		cr_assert_eq(fq_gate_leave(&gate), 0);
		cr_assert_not(is_shut(&gate));
	}
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 0);
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/* A node that comes late finds a gate that is free, or held by another, and does nothing. */
Test(limit, a_late_node_does_nothing)
{
	struct fq_queue *q = queue_of_test();
	struct blocked b;
	struct fq_gate gate;

	limited(&gate, q, 1);
	fall_behind(&gate, 3);
	cr_assert_eq(fq_gate_enter(&gate, -1), 0);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(fq_gate_try_enter(&gate), 0, "free, although the node is on its way");
	cr_assert_eq(fq_gate_leave(&gate), 0);
	cr_assert_eq(fq_gate_fini(&gate), -EBUSY, "it is still on the queue");
	start(&b, &gate, -1);
	while (!atomic_load(&b.in))
		sched_yield();
	left_by_another(3, &gate);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_eq(work[3].ran, 0);
	atomic_store(&b.leave_now, true);
	pthread_join(b.thread, NULL);
	cr_assert_eq(work[3].ran, 1);
	cr_assert_eq(fq_gate_fini(&gate), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/*
 * The owner of the queue is blocked behind more than the holder will do: he gets the gate instead of
 * being left what he cannot come to. Seen to fail (hangs): without the hand-over at the limit.
 */
static struct blocked the_owner;

static void *own(void *arg)
{
	struct fq_gate *gate = arg;

	fq_queue_set_owner(told_on);
	(void)block(&the_owner);
	while (fq_gate_fini(gate))
		(void)fq_queue_drain(told_on, FQ_NO_BUDGET);
	return NULL;
}

Test(limit, an_owner_who_blocks_is_not_left_with_the_rest)
{
	struct fq_gate gate;
	uint64_t word;

	told_on = queue_of_test();
	limited(&gate, told_on, 4);
	cr_assert_eq(fq_gate_try_enter(&gate), 0);
	for (unsigned i = 0; i < 20; i++)
		left_by_another(i, &gate);
	memset(&the_owner, 0, sizeof(the_owner));
	the_owner.gate = &gate;
	the_owner.timeout_ns = -1;
	atomic_store(&the_owner.leave_now, true);
	word = __atomic_load_n(&gate.word.opaque, __ATOMIC_RELAXED);
	cr_assert_eq(pthread_create(&the_owner.thread, NULL, own, &gate), 0);
	wait_for_change(&gate, word);
	for (unsigned i = 20; i < 30; i++)
		left_by_another(i, &gate);
	cr_assert_eq(fq_gate_leave(&gate), 0);
	pthread_join(the_owner.thread, NULL);
	for (unsigned i = 0; i < 20; i++)
		expect_ran(i, i + 1);
	cr_assert_eq(the_owner.number, 21);
	for (unsigned i = 20; i < 30; i++)
		expect_ran(i, i + 2);
	cr_assert(pthread_equal(work[3].on, pthread_self()));
	cr_assert(pthread_equal(work[4].on, the_owner.thread));
	cr_assert_eq(fq_queue_destroy(told_on), 0);
}

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

Test(host, who_is_inside_has_the_lock)
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
Test(host, an_unaware_holder_strands_nobody)
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
Test(host, a_lock_that_the_caller_has_is_adopted)
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

Test(host, the_limit_holds)
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
Test(host, what_was_lent_waits_for_who_is_inside)
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

/* -- traps ------------------------------------------------------------------------------------- */

static struct fq_gate device_gate;
static struct fq_queue *device_queue;
static atomic_uint interrupts;

static void raise_interrupt(struct fq_gate_op *op)
{
	(void)op;
	cr_expect(fq_gate_is_inside(&device_gate));
	atomic_fetch_add(&interrupts, 1);
}

static void *renderer(void *arg)
{
	struct fq_gate_op *op = arg;

	/* The callback wants to raise an interrupt, for which it needs the device. */
	if (!fq_gate_enter_or_leave(&device_gate, op)) {
		raise_interrupt(op);
		(void)fq_gate_leave(&device_gate);
	}
	return NULL;
}

/*
 * Trap 4: an owner's lock taken in the renderer's callback, against a tear-down that joins the
 * renderer's thread while it holds that lock. The renderer leaves its operation with the holder and
 * goes on; so it can be joined from inside the gate.
 *
 * Seen to fail (hangs): with a renderer that uses fq_gate_enter(&device_gate, -1).
 */
Test(trap, t04_renderer_joined_by_the_holder)
{
	struct fq_gate_op op[4] = {{.run = raise_interrupt},
				   {.run = raise_interrupt},
				   {.run = raise_interrupt},
				   {.run = raise_interrupt}};
	pthread_t thread[4];

	device_queue = queue_of_test();
	limited(&device_gate, device_queue, 0);
	atomic_store(&interrupts, 0);
	cr_assert_eq(fq_gate_enter(&device_gate, -1), 0);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, renderer, &op[i]), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	cr_assert_eq(atomic_load(&interrupts), 0);
	cr_assert_eq(fq_gate_leave(&device_gate), 0);
	cr_assert_eq(atomic_load(&interrupts), 4);
	cr_assert_eq(fq_gate_fini(&device_gate), 0);
	cr_assert_eq(fq_queue_destroy(device_queue), 0);
}
