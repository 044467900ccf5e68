/* SPDX-License-Identifier: MIT */
/*
 * A thread stopped before each of its steps in turn, at a gate: as one that leaves an operation, as a
 * holder that lets go, as the owner of the queue, as one that blocks. Others go on meanwhile, and
 * nobody waits for one that is outside; in the end each operation has run once, and the gate is free.
 *
 * Seen to fail, each with one thing changed: the stack run as it is (its order); OWED left set by a
 * node that finds the gate held, the node pushed after the gate is let go, or never; letting go with a
 * store; the gate looked at after it was let go, or handed over; who asked told before the gate is let
 * go; a gate that is behind entered by whoever comes, or let go with a blocked enter on the stack; a
 * blocked enter that stands in line of a gate that nobody is inside of, or does not run what is before
 * it.
 */
#include <errno.h>

#include "gate.h"

void (*fq_step_hook)(void);

/* -- one that leaves an operation -------------------------------------------------------------- */

enum scene {
	FREE,
	HELD,
	BEHIND,
	SCENES
};

static void leavers_steps(enum scene scene)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(2, false);
		if (scene != FREE)
			enter();
		if (scene == BEHIND) {
			defer(4, 3);
			leave();
		}
		stopped = stopper_start(&s, do_work, &work[0], at);
		if (scene == HELD) {
			defer(1, 1);
			leave();
		} else {
			do_work(&work[1]);
		}
		do_work(&work[2]);
		drain(NULL);
		/* If it is inside, it has what was left; if not, it is in nobody's way. */
		if (!stopped || !(gate->word.opaque & 1u))
			STEP_CHECK(work[1].ran && work[2].ran, "%d, step %u", scene, at);
		stopper_finish(&s);
		if (scene != BEHIND)
			work[4].ran = work[5].ran = work[6].ran = 1;
		work[3].ran = 1;
		close_gate(7, at);
	}
}

/* -- a holder ---------------------------------------------------------------------------------- */

/* Enters, leaves itself more than the limit, and stops on its way out. */
static void hold(void *arg)
{
	struct stopper *self = step_self;

	(void)arg;
	step_self = NULL;
	enter();
	defer(0, 4);
	step_self = self;
	leave();
}

static void holders_steps(unsigned drains)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(2, false);
		stopped = stopper_start(&s, hold, NULL, at);
		if (drains & 1)
			drain(NULL);
		do_work(&work[4]);
		if (drains & 2)
			drain(NULL);
		do_work(&work[5]);
		/* Once it has let go, nobody needs it any more. */
		if (!(gate->word.opaque & 1u)) {
			drain(NULL);
			for (unsigned i = 0; i < 6; i++)
				STEP_CHECK(work[i].ran, "step %u: %u waits for it", at, i);
		}
		stopper_finish(&s);
		close_gate(6, at);
	}
}

/* Who is told that the gate is free finds it so: the one who tells has let go. */
static void is_free(struct fq_gate_op *op)
{
	enter();
	run(op);
	leave();
}

static void *ask(void *arg)
{
	struct work *w = arg;

	w->op.run = is_free;
	STEP_CHECK(fq_gate_enter_or_tell(gate, &w->op, queue) == FQ_GATE_LEFT, "left");
	return NULL;
}

static void hold_and_tell(void *arg)
{
	struct stopper *self = step_self;
	pthread_t thread;

	step_self = NULL;
	enter();
	STEP_CHECK(!pthread_create(&thread, NULL, ask, arg), "thread");
	pthread_join(thread, NULL);
	step_self = self;
	leave();
}

static void tellers_steps(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(2, false);
		stopped = stopper_start(&s, hold_and_tell, &work[0], at);
		drain(NULL);
		stopper_finish(&s);
		close_gate(1, at);
	}
}

/* Whoever is let in may end the gate and free it, while the one before is still on its way out. */
static void hold_little(void *arg)
{
	struct stopper *self = step_self;

	(void)arg;
	step_self = NULL;
	enter();
	defer(0, 1);
	STEP_CHECK(fq_gate_enter(gate, 0) == -EDEADLK, "inside");
	step_self = self;
	leave();
}

static void last_access(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(2, false);
		stopped = stopper_start(&s, hold_little, NULL, at);
		if (!fq_gate_try_enter(gate)) {
			leave();
			end_gate(at);
		}
		stopper_finish(&s);
		close_gate(1, at);
	}
}

/* The same where the gate is handed to one that is blocked. */
static fq_a64 ended;

static void *block_and_end(void *arg)
{
	(void)arg;
	STEP_CHECK(!fq_gate_enter(gate, -1), "enter");
	STEP_CHECK(work[0].ran == 1 && work[1].ran == 0, "not in turn");
	leave();
	end_gate(0);
	fq_store_rel(&ended, 1);
	return NULL;
}

static void hold_for_one_that_blocks(void *arg)
{
	struct stopper *self = step_self;
	uint64_t word;

	step_self = NULL;
	enter();
	defer(0, 1);
	word = gate->word.opaque;
	STEP_CHECK(!pthread_create(arg, NULL, block_and_end, NULL), "thread");
	while (__atomic_load_n(&gate->word.opaque, __ATOMIC_RELAXED) == word)
		usleep(50);
	defer(1, 1);
	step_self = self;
	leave();
}

static void last_access_of_a_hand_over(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		pthread_t thread;
		struct stopper s;

		fq_store_rel(&ended, 0);
		open_gate(2, false);
		stopped = stopper_start(&s, hold_for_one_that_blocks, &thread, at);
		for (unsigned i = 0; i < 200 && !fq_load_acq(&ended); i++)
			usleep(50);
		stopper_finish(&s);
		pthread_join(thread, NULL);
		close_gate(2, at);
	}
}

/* -- the owner of the queue -------------------------------------------------------------------- */

static void owners_steps(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(1, false);
		enter();
		defer(0, 4);
		leave();
		stopped = stopper_start(&s, drain, NULL, at);
		do_work(&work[4]);
		if (!fq_gate_try_enter(gate)) {
			defer(5, 2);
			leave();
		} else {
			do_work(&work[5]);
			do_work(&work[6]);
		}
		stopper_finish(&s);
		close_gate(7, at);
	}
}

/*
 * The owner blocks, while the holder is anywhere on its way out, over its limit: he is not left behind
 * what only he would run.
 */
static void *own_and_block(void *arg)
{
	(void)arg;
	fq_queue_set_owner(queue);
	STEP_CHECK(!fq_gate_enter(gate, -1), "enter");
	run(&work[4].op);
	leave();
	fq_store_rel(&ended, 1);
	return NULL;
}

static void an_owner_who_blocks(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		uint64_t word;
		pthread_t owner;
		struct stopper s;

		fq_store_rel(&ended, 0);
		open_gate(2, false);
		stopped = stopper_start(&s, hold, NULL, at);
		word = __atomic_load_n(&gate->word.opaque, __ATOMIC_RELAXED);
		STEP_CHECK(!pthread_create(&owner, NULL, own_and_block, NULL), "thread");
		for (unsigned i = 0; i < 200 && !fq_load_acq(&ended); i++) {
			if (__atomic_load_n(&gate->word.opaque, __ATOMIC_RELAXED) != word)
				break;
			usleep(50);
		}
		stopper_finish(&s);
		pthread_join(owner, NULL);
		close_gate(5, at);
	}
}

/* -- one that blocks --------------------------------------------------------------------------- */

static int64_t block_for;

static void block(void *arg)
{
	struct work *w = arg;
	int err = fq_gate_enter(gate, block_for);

	if (err) {
		STEP_CHECK(err == -ETIMEDOUT && block_for >= 0, "%d", err);
		w->ran++;
		return;
	}
	run(&w->op);
	leave();
}

/*
 * Before it sleeps: who is asleep does not tell the stopper. Its last steps are those of an event, or
 * of the sleep on the word.
 */
static void blockers_steps(int64_t timeout_ns, unsigned steps)
{
	block_for = timeout_ns;
	for (unsigned at = 0; at < steps; at++) {
		struct stopper s;

		open_gate(2, false);
		enter();
		defer(1, 1);
		STEP_CHECK(stopper_start(&s, block, &work[0], at), "%u steps are too many", steps);
		defer(2, 1);
		leave();
		STEP_CHECK(work[1].ran, "step %u", at);
		do_work(&work[3]);
		stopper_finish(&s);
		close_gate(4, at);
	}
}

static void blockers_steps_behind(int64_t timeout_ns)
{
	bool stopped = true;

	block_for = timeout_ns;
	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(2, false);
		enter();
		defer(1, 3);
		leave();
		stopped = stopper_start(&s, block, &work[0], at);
		do_work(&work[4]);
		drain(NULL);
		do_work(&work[5]);
		stopper_finish(&s);
		close_gate(6, at);
	}
}

int main(void)
{
	alarm(100);
	fq_step_hook = step_hook;
	for (enum scene scene = FREE; scene < SCENES; scene++)
		leavers_steps(scene);
	for (unsigned drains = 0; drains < 4; drains++)
		holders_steps(drains);
	tellers_steps();
	last_access();
	last_access_of_a_hand_over();
	owners_steps();
	an_owner_who_blocks();
	blockers_steps(-1, 6);
	blockers_steps(INT64_C(20000000), 4);
	blockers_steps_behind(-1);
	blockers_steps_behind(INT64_C(20000000));
	puts("ok");
	return 0;
}
