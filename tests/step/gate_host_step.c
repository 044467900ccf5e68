/* SPDX-License-Identifier: MIT */
/*
 * The same over a host's lock: a thread that leaves an operation, or the owner with what was lent to
 * him, stopped before each of its steps, while the lock is free, held through the gate, or held by
 * code that knows of no gate.
 *
 * Seen to fail: with an operation put on the stack of a gate that is not held; with what is lent not
 * counted, or never counted off.
 */
#include "gate.h"

void (*fq_step_hook)(void);

enum scene {
	FREE,
	HELD,
	UNAWARE,
	SCENES
};

static void leavers_steps(enum scene scene, bool drains)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(2, true);
		if (scene == HELD)
			enter();
		else if (scene == UNAWARE)
			big_lock(NULL);
		stopped = stopper_start(&s, do_work, &work[0], at);
		if (scene == HELD)
			leave();
		else if (scene == UNAWARE)
			big_unlock(NULL);
		do_work(&work[1]);
		/* The owner waits for the lock: only if the other one is not inside, or about to be. */
		if (drains && big_try(NULL)) {
			big_unlock(NULL);
			drain(NULL);
		}
		do_work(&work[2]);
		stopper_finish(&s);
		close_gate(3, at);
	}
}

static void owners_steps(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(1, true);
		enter();
		defer(0, 3);
		leave();
		big_lock(NULL);
		do_work(&work[3]);
		big_unlock(NULL);
		stopped = stopper_start(&s, drain, NULL, at);
		do_work(&work[4]);
		do_work(&work[5]);
		stopper_finish(&s);
		close_gate(6, at);
	}
}

int main(void)
{
	alarm(100);
	fq_step_hook = step_hook;
	for (enum scene scene = FREE; scene < SCENES; scene++) {
		leavers_steps(scene, false);
		leavers_steps(scene, true);
	}
	owners_steps();
	puts("ok");
	return 0;
}
