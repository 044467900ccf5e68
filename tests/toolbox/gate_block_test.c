/* SPDX-License-Identifier: MIT */
/* Enters that block: in turn, with a time-out, disturbed. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "gate.h"

TestSuite(gate_block, .init = setup, .timeout = 60);

/* What stands before a blocked enter has run when it is in; what stands behind has not. */
Test(gate_block, blocked_enters_are_served_in_turn)
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
Test(gate_block, nobody_is_told_of_a_gate_that_is_handed_over)
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
Test(gate_block, a_timed_enter_gives_up)
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
Test(gate_block, a_timed_enter_is_woken)
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
Test(gate_block, a_signal_handler_does_not_end_a_wait)
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
Test(gate_block, is_no_cancellation_point_and_keeps_errno)
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
Test(gate_block, a_child_inherits_gates_as_they_were)
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
